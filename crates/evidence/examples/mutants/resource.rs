//! Bytes of records, most of them JSON that names itself, in every way that a name can be written or hidden.

use rand::{RngExt as _, rngs::StdRng};

/// Characters that matter to a reader of JSON.
const CHARACTERS: [char; 40] = [
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '\\',
    '/',
    'u',
    '0',
    '1',
    '8',
    '9',
    '-',
    '+',
    '.',
    'e',
    'E',
    't',
    'r',
    'f',
    'n',
    'a',
    'l',
    's',
    'd',
    'D',
    ' ',
    '\t',
    '\n',
    '\r',
    '\u{0}',
    '\u{1f}',
    '\u{7f}',
    '\u{e9}',
    '\u{2028}',
    '\u{fffd}',
    '\u{feff}',
    '\u{1d11e}',
];

/// What a record of that name may consist of.
pub(crate) fn bytes(name: &str, rng: &mut StdRng) -> Vec<u8> {
    let (kind, id) = name.split_once('/').unwrap();
    let text = match rng.random_range(0..36) {
        0 => format!(r#"{{"resourceType":"{kind}","id":"{id}","id":"{id}"}}"#),
        1 => format!(r#"{{"resourceType":"{kind}","id":7}}"#),
        2 => format!(r#"{{"resourceType":"{kind}"}}"#),
        3 => format!(r#"{{"r\u0065sourceType":"{kind}","\u0069\u0064":"{id}"}}"#),
        4 => format!(" \t\r\n{{ \"id\" : \"{id}\" ,\n\"resourceType\" : \"{kind}\" }} \n"),
        5 => format!(r#"{{"resourceType":"{kind}","id":"{id}"}}x"#),
        6 => format!(r#"{{"resourceType":"{kind}","id":"{id}",}}"#),
        7 => format!(r#"{{"resourceType":"{kind}","id":"{id}","value":01}}"#),
        8 => format!(r#"{{"resourceType":"{kind}","id":"{id}","value":-0.1e+20,"other":1E5}}"#),
        9 => format!(r#"{{"resourceType":"{kind}","id":"{id}","deep":{}{}}}"#, "[".repeat(3000), "]".repeat(3000)),
        10 => format!(
            r#"{{"resourceType":"{kind}","id":"{id}","deep":{}1{}}}"#,
            r#"{"a":["#.repeat(400),
            "]}".repeat(400)
        ),
        11 => format!(r#"{{"resourceType":"{kind}","id":"{id}","half":"\ud800"}}"#),
        12 => format!(r#"{{"resourceType":"{kind}","id":"{id}\ud800"}}"#),
        13 => format!(r#"{{"resourceType":"{kind}","id":"{id}","\udc00":1}}"#),
        14 => format!("\u{feff}{{\"resourceType\":\"{kind}\",\"id\":\"{id}\"}}"),
        15 => format!(r#"{{"contained":[{{"id":"c","resourceType":"Other"}}],"resourceType":"{kind}","id":"{id}"}}"#),
        16 => format!(r#"{{"resourceType":null,"id":"{id}"}}"#),
        17 => format!(r#"{{"resourceType":"{kind}/{id}","id":""}}"#),
        18 => format!(r#"{{"resourceType":"{kind}","id":"{id}","a":[true,false,null,{{}},[],"",0]}}"#),
        19 => String::new(),
        20 => format!(r#"{{"resourceType":"{kind}","id":"another"}}"#),
        21 => format!(r#"{{"id":"{id}","resourceType":"{kind}","id2":{{"id":"x","id":"y"}}}}"#),
        22 => format!(r#"["{kind}","{id}"]"#),
        23 => format!(r#" [{{"resourceType":"{kind}","id":"{id}"}}]"#),
        24 => return not_unicode(&format!(r#"{{"resourceType":"{kind}","id":"{id}","note":"@"}}"#), rng),
        25 => return not_unicode(&format!(r#"{{"resourceType":"{kind}","id":"{id}","deep":[{{"@":"@"}}]}}"#), rng),
        _ => format!(r#"{{"resourceType":"{kind}","id":"{id}","note":"{}"}}"#, rng.random::<u64>()),
    };
    if rng.random_bool(0.3) { bent(&text, rng) } else { text }.into_bytes()
}

/// The text with bytes in the place of each `@` that are UTF-8 or just not.
fn not_unicode(text: &str, rng: &mut StdRng) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xc3\xa9",
        b"\xc0\xaf",
        b"\xe2\x82",
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
    ];
    text.bytes()
        .flat_map(|byte| match byte {
            b'@' => PIECES[rng.random_range(0..PIECES.len())].to_vec(),
            other => vec![other],
        })
        .collect()
}

/// One or two characters exchanged, left out or added.
fn bent(text: &str, rng: &mut StdRng) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..rng.random_range(1..=2) {
        let character = CHARACTERS[rng.random_range(0..CHARACTERS.len())];
        let at = rng.random_range(0..=characters.len());
        match rng.random_range(0..3) {
            0 => characters.insert(at, character),
            1 if at < characters.len() => characters[at] = character,
            2 if at < characters.len() => drop(characters.remove(at)),
            _ => {}
        }
    }
    characters.into_iter().collect()
}
