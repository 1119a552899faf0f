//! Text as it is compared: without case, accents and doubled spaces.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The longest text or code that is indexed, in bytes; longer ones are cut, in the index and in what is looked for alike.
pub const INDEX_TEXT_BYTES_MAX: usize = 512;

/// Lower case, accents removed, runs of white space made one space, cut to [`INDEX_TEXT_BYTES_MAX`].
pub fn normalise(text: &str) -> String {
    let words = cut(text).split_whitespace();
    let mut out = String::with_capacity(text.len().min(INDEX_TEXT_BYTES_MAX));
    for word in words {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase));
    }
    cut(&out).to_owned()
}

/// The longest beginning that is indexed.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(INDEX_TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_spaces_do_not_matter() {
        assert_eq!(normalise("  Müller\u{a0}\n d’ÉTÉ "), "muller d’ete");
        assert_eq!(normalise("Jose\u{301}"), normalise("JOSÉ"));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "é".repeat(INDEX_TEXT_BYTES_MAX);
        assert_eq!(cut(&long).len(), INDEX_TEXT_BYTES_MAX);
        assert!(normalise(&long).len() <= INDEX_TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("a{long}")).len(), INDEX_TEXT_BYTES_MAX - 1);
    }
}
