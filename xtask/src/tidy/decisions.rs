//! Every decision page says what, why, what was given up and when to revisit it, in this order.

use super::{Checked, Finding, counted, sources::Sources};

const FOLDER: &str = "docs/decisions/";
const SECTIONS: [&str; 4] = ["## What", "## Why", "## What we gave up", "## When to revisit"];

pub(super) fn check(sources: &Sources) -> Checked {
    let mut findings = Vec::new();
    let mut pages = 0;
    for page in sources.ending(".md").filter(|file| file.path.starts_with(FOLDER)) {
        pages += 1;
        let name = &page.path[FOLDER.len()..];
        let numbered = name.len() > 5 && name.as_bytes()[4] == b'-' && name.bytes().take(4).all(|b| b.is_ascii_digit());
        if !numbered {
            findings.push(Finding::new(&page.path, 1, "is not named `0001-subject.md`: number it"));
        }
        let headings: Vec<&str> = page.text.lines().map(str::trim_end).filter(|line| line.starts_with("## ")).collect();
        if headings != SECTIONS {
            let expected = SECTIONS.map(|section| &section[3..]).join(", ");
            findings.push(Finding::new(
                &page.path,
                1,
                format!("its sections are not: {expected}; rename, add or order them"),
            ));
        }
    }
    Checked { findings, seen: counted(pages, "page") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_page(name: &str, text: &str, expected: &[&str]) {
        check(&Sources::of(&[(&format!("{FOLDER}{name}"), text)])).assert_told(expected);
    }

    #[test]
    fn a_page_has_the_four_sections_in_order() {
        let whole = format!("# One profile\n\n{}\ntext\n", SECTIONS.join("\ntext\n"));
        check_page("0001-profile.md", &whole, &[]);
        check_page("profile.md", &whole, &["number it"]);
        check_page("0001-profile.md", &whole.replace("## Why\n", ""), &["its sections are not"]);
        check_page("0001-profile.md", "# Only a title\n", &["its sections are not"]);
    }
}
