//! Every Rust file opens with a `//!` sentence that says what it is.

use super::{Checked, Finding, counted, sources::Sources};

/// Fewer words say nothing.
const WORDS_MIN: usize = 3;
/// A sentence that runs on longer is no opening.
const LINES_MAX: usize = 3;

pub(super) fn check(sources: &Sources) -> Checked {
    let mut findings = Vec::new();
    let mut files = 0;
    for file in sources.ending(".rs") {
        files += 1;
        if let Some(what) = wrong(&file.text) {
            findings.push(Finding::new(&file.path, 1, what));
        }
    }
    Checked { findings, seen: counted(files, "Rust file") }
}

/// What is wrong with the opening, if anything.
fn wrong(text: &str) -> Option<&'static str> {
    let opening: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//! ")).take(LINES_MAX).collect();
    let Some(end) = opening.iter().position(|line| line.trim_end().ends_with(['.', '!', '?'])) else {
        return Some(if opening.is_empty() {
            "opens without a `//!` sentence: say what the file is in its first line"
        } else {
            "its opening sentence does not end within three lines: shorten it, or end it with a full stop"
        });
    };
    let words = opening[..=end].iter().flat_map(|line| line.split_whitespace()).count();
    (words < WORDS_MIN).then_some("its opening sentence says nothing: say what the file is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_may_be_followed_by_more() {
        for good in [
            "//! Pulse oximeter: saturation and pulse.\n//! Source: IEEE 11073-10404.\n",
            "//! Pulse oximeter: saturation\n//! and pulse from one frame.\n//!\n//! More.\nuse x;\n",
        ] {
            assert_eq!(wrong(good), None, "{good}");
        }
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_told_so() {
        for (bad, expected) in [
            ("use x;\n//! Too late a sentence.\n", "opens without"),
            ("\n//! Too late a sentence.\n", "opens without"),
            ("//!Glued on and done.\n", "opens without"),
            ("", "opens without"),
            ("//! No end here\nuse x;\n", "does not end"),
            ("//! Placeholder.\n", "says nothing"),
        ] {
            assert!(wrong(bad).is_some_and(|what| what.contains(expected)), "{bad}");
        }
    }
}
