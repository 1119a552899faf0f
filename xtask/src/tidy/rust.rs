//! Rust source without what is no code: comments, literals and tests are blanked, and every line stays where it is.

/// The code of a file: comments and the insides of literals become spaces.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map(|index| bytes[index]);
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if rest[0] == b'"' {
            at + string(rest)
        } else if rest[0] == b'r' && !before.is_some_and(|b| is_word(b) && b != b'b' && b != b'c') {
            at + raw_string(rest)
        } else if rest[0] == b'\'' {
            at + character(rest)
        } else {
            at
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Whole characters outside of literals are kept, whole ones inside are blanked: the text stays UTF-8.
    String::from_utf8_lossy(&code).into_owned()
}

/// The code of a file without its tests: items under `#[cfg(test)]` are blanked too. `code` is what [`code`] returned.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code.as_bytes(), start + MARK.len());
        for byte in &mut kept[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Where `word` stands in `code` as a whole path: nothing that continues a name or a path stands before it, nothing that continues a
/// name after it.
pub(super) fn word_at(code: &str, word: &str) -> Option<usize> {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = at.checked_sub(1).map(|index| bytes[index]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Lines are counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// Part of a name.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// After the item that follows: its closing brace, or its semicolon when that comes first.
fn item_end(code: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    for (index, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'}' {
                    return index + 1;
                }
            }
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    let found = body.windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |at| 2 + hashes + at + end.len())
}

/// A character literal; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|b| *b == b'\'').map_or(0, |at| at + 4);
    }
    // One character of one to four bytes.
    (2..=5).find(|end| rest.get(*end) == Some(&b'\'') && is_one_character(&rest[1..*end])).map_or(0, |end| end + 1)
}

fn is_one_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = code(text);
        assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), expected);
        assert_eq!((got.len(), got.lines().count()), (text.len(), text.lines().count()));
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"let s = "x \" y"; z"#, "let s = ; z");
        check(r##"let s = r#"x " y"#; z"##, "let s = ; z");
        check(r#"let s = br"x\"; z"#, "let s = b ; z");
        check("let c = '\"'; d", "let c = ; d");
        check(r"let c = '\''; d", "let c = ; d");
        check(r"let c = '\u{1F600}'; d", "let c = ; d");
        check("let c = 'ß'; d", "let c = ; d");
        check("fn f<'a>(x: &'a str) -> &'a str { x }", "fn f<'a>(x: &'a str) -> &'a str { x }");
        check("for x in r { y }", "for x in r { y }");
        check("//! Wörter, die keine sind: ß", "");
    }

    #[test]
    fn tests_are_blanked_and_the_rest_stays_in_its_line() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\n fn c([x]: [u8; 1]) { {} }\n}\nfn d() {}\n";
        let kept = without_tests(&code(text));
        assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), "fn a() {} fn b() {} fn d() {}");
        assert_eq!(line_of(&kept, kept.find("fn d").unwrap()), 9);
    }

    #[test]
    fn a_word_is_found_only_whole() {
        assert_eq!(word_at("struct BadInstant;", "Instant"), None);
        assert_eq!(word_at("Instants", "Instant"), None);
        assert_eq!(word_at("std::time::Instant::now()", "Instant"), Some(11));
    }
}
