//! How deep a document nests, found without recursion before it is parsed.
//!
//! Cedar's parser descends with each bracket until the stack ends, and its validator passes without a word what is too deep for it.
//! Neither happens within these bounds; a policy that a person wrote is far below them.

/// The most brackets that are open at once.
pub const BRACKETS_MAX: usize = 32;
/// The most operators, attributes, brackets and `if`s of one policy: each may put the rest a level deeper.
pub const STEPS_MAX: usize = 256;

/// Whether a document of policies stays within the bounds.
pub(crate) fn is_shallow(document: &str) -> bool {
    within(document, false)
}

/// Whether a schema does. There `<` and `>` are brackets.
pub(crate) fn is_shallow_schema(schema: &str) -> bool {
    within(schema, true)
}

fn within(document: &str, angles: bool) -> bool {
    let (mut open, mut steps) = (0usize, 0usize);
    let mut bytes = document.bytes().peekable();
    let mut word = 0u64;
    while let Some(byte) = bytes.next() {
        word = if in_word(byte) { (word << 8) | u64::from(byte) } else { 0 };
        match byte {
            b'"' => skip_text(&mut bytes),
            b'/' if bytes.peek() == Some(&b'/') => {
                while bytes.next().is_some_and(|byte| byte != b'\n' && byte != b'\r') {}
            }
            b'(' | b'[' | b'{' => (open, steps) = (open + 1, steps + 1),
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'<' if angles => (open, steps) = (open + 1, steps + 1),
            b'>' if angles => open = open.saturating_sub(1),
            b'.' | b'&' | b'|' | b'+' | b'-' | b'*' | b'!' => steps += 1,
            b'f' if word == IF && !bytes.peek().is_some_and(|&next| in_word(next)) => steps += 1,
            // The end of a policy or of a declaration.
            b';' if open == 0 => steps = 0,
            _ => {}
        }
        if open > BRACKETS_MAX || steps > STEPS_MAX {
            return false;
        }
    }
    true
}

/// The last letters of a word that is just `if`.
const IF: u64 = u64::from_be_bytes(*b"\0\0\0\0\0\0if");

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Goes to the end of a text whose first quote was taken.
fn skip_text(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_chains_are_bounded_and_texts_and_comments_are_not() {
        let nested = |n: usize| "(".repeat(n) + &")".repeat(n);
        for (document, shallow) in [
            (nested(BRACKETS_MAX), true),
            (nested(BRACKETS_MAX + 1), false),
            ("(1 > ".repeat(BRACKETS_MAX + 1), false),
            ("(;".repeat(BRACKETS_MAX + 1), false),
            ("{a:[".repeat(BRACKETS_MAX), false),
            (format!("\"{}\"", nested(1_000)), true),
            (format!("\"\\\"{}\"", nested(1_000)), true),
            (format!("// {}\n", nested(1_000)), true),
            (format!("// \r{}", nested(1_000)), false),
            (format!("// it's \"\n{}", nested(1_000)), false),
            ("a.".repeat(STEPS_MAX), true),
            ("a.".repeat(STEPS_MAX + 1), false),
            ("a && ".repeat(STEPS_MAX), false),
            ("if a then b else ".repeat(STEPS_MAX + 1), false),
            ("elif iff if2 ".repeat(STEPS_MAX), true),
            ("when { a } ".repeat(STEPS_MAX + 1), false),
            ("a.b.c; ".repeat(10_000), true),
            ("\"".to_owned(), true),
            ("\"\\".to_owned(), true),
        ] {
            assert_eq!(is_shallow(&document), shallow, "{}", document.chars().take(40).collect::<String>());
        }
        assert!(is_shallow_schema(&("Set<".repeat(BRACKETS_MAX) + &">".repeat(BRACKETS_MAX))));
        assert!(!is_shallow_schema(&"Set<".repeat(BRACKETS_MAX + 1)));
    }
}
