//! JSON as text: one pass finds the place of every value, so that reading and editing leave all other bytes as they came.
//!
//! FHIR decimals lose precision in floating point (`1.10` is not `1.1`), and commitments are made over exact bytes. So nothing
//! here turns a value into another form and back: a [`Json`] is the text it was read from and a list of places in it.
//! Stricter than RFC 8259 where FHIR is: no key twice in an object, no half of a surrogate pair, no byte order mark.

use super::{
    ResourceType,
    resource::{Fault, Limits, ParseError},
};
use std::{borrow::Cow, collections::HashSet, ops::Range};

/// Objects with more members than this are checked for duplicate keys by a hash set rather than pair by pair.
const PAIRWISE_KEYS_MAX: usize = 16;

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number of any form.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`.
    Null,
}

/// A value's place: a key is a string token directly before its value's.
#[derive(Debug, Clone, Copy)]
struct Token {
    start: u32,
    end: u32,
    /// Index of the first token after this value and all inside it.
    next: u32,
    kind: Kind,
    /// Whether a string contains a backslash.
    escaped: bool,
}

/// A well-formed JSON text, and where everything in it is.
#[derive(Debug, Clone)]
pub struct Json {
    // INVARIANT: `tokens` are the places of `text`, found by `Json::parse`.
    text: String,
    tokens: Vec<Token>,
}

impl Json {
    /// Reads one JSON value. The errors' expressions begin with the `resourceType`, if there is one before the fault.
    pub fn parse(text: String, limits: Limits) -> Result<Self, ParseError> {
        let bytes_max = limits.bytes_max.min(u32::MAX as usize);
        if text.len() > bytes_max {
            return Err(Fault::TooLarge { bytes: text.len(), max: bytes_max }.into());
        }
        // Pretty-printed FHIR has a token per 20 bytes or so, compact FHIR one per 12.
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            at: 0,
            tokens: Vec::with_capacity(text.len() / 12 + 4),
            depth_left: limits.depth_max,
        };
        let scanned = scanner.document(limits.depth_max);
        let tokens = std::mem::take(&mut scanner.tokens);
        let json = Self { text, tokens };
        match scanned {
            Ok(()) => Ok(json),
            Err(mut error) => {
                if let Some(of) = json.resource_type_so_far() {
                    error.expression.insert_str(0, of);
                } else if error.expression.starts_with('.') {
                    error.expression.remove(0);
                }
                Err(error)
            }
        }
    }

    /// The text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as it came.
    pub fn into_text(self) -> String {
        self.text
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node { json: self, at: 0 }
    }

    /// The `resourceType` of a text that may have been scanned only in part.
    fn resource_type_so_far(&self) -> Option<&'static str> {
        let mut at = 1;
        while let (Some(key), Some(value)) = (self.tokens.get(at), self.tokens.get(at + 1)) {
            if key.kind != Kind::String || key.end <= key.start + 1 {
                return None;
            }
            if &self.text[key.start as usize + 1..key.end as usize - 1] == "resourceType" {
                let whole = value.kind == Kind::String && value.end > value.start + 1;
                return whole
                    .then(|| &self.text[value.start as usize + 1..value.end as usize - 1])
                    .and_then(|name| name.parse().ok())
                    .map(ResourceType::as_str);
            }
            if value.next == 0 {
                return None;
            }
            at = value.next as usize;
        }
        None
    }
}

/// One value of a [`Json`].
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    json: &'a Json,
    at: usize,
}

impl<'a> Node<'a> {
    fn token(self) -> Token {
        self.json.tokens[self.at]
    }

    fn sibling(self) -> Self {
        Self { json: self.json, at: self.token().next as usize }
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.token().kind
    }

    /// Where it is in [`Json::text`], quotes and brackets included.
    pub fn range(self) -> Range<usize> {
        let token = self.token();
        token.start as usize..token.end as usize
    }

    /// Its text, quotes and brackets included.
    pub fn raw(self) -> &'a str {
        &self.json.text[self.range()]
    }

    /// The text of a string, unescaped.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let token = self.token();
        (token.kind == Kind::String).then(|| {
            let inner = &self.json.text[token.start as usize + 1..token.end as usize - 1];
            if token.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
        })
    }

    /// The value of a boolean.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Boolean).then(|| self.raw() == "true")
    }

    /// The value of a number that is a whole one and is written as such.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind() == Kind::Number { self.raw().parse().ok() } else { None }
    }

    /// The member of an object with this key.
    pub fn get(self, key: &str) -> Option<Self> {
        self.members().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value under a chain of keys.
    pub fn path(self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The members of an object in their order; none of any other value.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Self)> {
        let end = if self.kind() == Kind::Object { self.token().next as usize } else { 0 };
        let mut at = Self { json: self.json, at: self.at + 1 };
        std::iter::from_fn(move || {
            if at.at >= end {
                return None;
            }
            let value = Self { json: at.json, at: at.at + 1 };
            let member = (at.as_str()?, value);
            at = value.sibling();
            Some(member)
        })
    }

    /// The elements of an array in their order; none of any other value.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let end = if self.kind() == Kind::Array { self.token().next as usize } else { 0 };
        let mut at = Self { json: self.json, at: self.at + 1 };
        std::iter::from_fn(move || {
            let item = at;
            (item.at < end).then(|| {
                at = item.sibling();
                item
            })
        })
    }

    /// The elements of an array, or the value itself: FHIR has both where a list is walked.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let single = (self.kind() != Kind::Array).then_some(self);
        single.into_iter().chain(self.items())
    }

    /// Whether there is nothing in it: an empty object or array.
    pub fn is_empty(self) -> bool {
        self.token().next as usize == self.at + 1 && matches!(self.kind(), Kind::Object | Kind::Array)
    }

    /// Calls `visit` with every string value and the key it stands under (array brackets do not count), in text order.
    pub fn strings(self, mut visit: impl FnMut(&str, Self)) {
        self.walk_strings("", &mut visit);
    }

    fn walk_strings(self, key: &str, visit: &mut impl FnMut(&str, Self)) {
        match self.kind() {
            Kind::String => visit(key, self),
            Kind::Object => self.members().for_each(|(name, value)| value.walk_strings(&name, visit)),
            Kind::Array => self.items().for_each(|item| item.walk_strings(key, visit)),
            Kind::Number | Kind::Boolean | Kind::Null => {}
        }
    }

    /// Its text with whole string values replaced wherever `replace(key, value)` gives another; every other byte as it is.
    pub fn rewrite_strings(self, mut replace: impl FnMut(&str, &str) -> Option<String>) -> String {
        self.rewrite_into(Edits::of(self), &mut replace)
    }

    fn rewrite_into(self, mut edits: Edits<'a>, replace: &mut impl FnMut(&str, &str) -> Option<String>) -> String {
        self.strings(|key, node| {
            if let Some(text) = node.as_str().and_then(|text| replace(key, &text)) {
                edits.replace_with(node.range(), |out| push_string(out, &text));
            }
        });
        edits.finish()
    }

    /// The value for reading with `serde_json`. Decimals lose their precision here, so it must never be written back.
    pub fn value(self) -> serde_json::Value {
        // Well-formed by the scan, so the only failure is a number beyond floating point: read as null.
        serde_json::from_str(self.raw()).unwrap_or_default()
    }
}

/// Replaces whole string values of a JSON text wherever `replace(key, value)` gives another; every other byte stays as it is.
/// `key` is the name of the nearest member that the string stands under. For `urn:uuid:` and conditional references.
pub fn rewrite_strings(
    text: &str,
    limits: Limits,
    mut replace: impl FnMut(&str, &str) -> Option<String>,
) -> Result<String, ParseError> {
    let json = Json::parse(text.to_owned(), limits)?;
    Ok(json.root().rewrite_into(Edits::of_all(&json), &mut replace))
}

/// Replacements in the text of a node, made from left to right.
pub(crate) struct Edits<'a> {
    text: &'a str,
    copied_to: usize,
    end: usize,
    out: String,
}

impl<'a> Edits<'a> {
    pub(crate) fn of(node: Node<'a>) -> Self {
        let Range { start, end } = node.range();
        Self { text: &node.json.text, copied_to: start, end, out: String::with_capacity(end - start + 128) }
    }

    /// From the first byte of the text, also what is before the outermost value.
    pub(crate) fn of_all(json: &'a Json) -> Self {
        Self { text: &json.text, copied_to: 0, end: json.text.len(), out: String::with_capacity(json.text.len() + 128) }
    }

    /// Replaces `range`, which begins at or after the end of the last one.
    pub(crate) fn replace_with(&mut self, range: Range<usize>, write: impl FnOnce(&mut String)) {
        self.out.push_str(&self.text[self.copied_to..range.start]);
        write(&mut self.out);
        self.copied_to = range.end;
    }

    pub(crate) fn finish(mut self) -> String {
        self.out.push_str(&self.text[self.copied_to..self.end]);
        self.out
    }
}

/// Appends `text` as a JSON string: quotes, and escapes where JSON demands them.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// The text that a scanned string stands for.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        let mut after = at + 2;
        match escape {
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'u' => {
                let unit = |from: usize| u32::from_str_radix(&rest[from..from + 4], 16).unwrap_or_default();
                let mut code = unit(at + 2);
                after = at + 6;
                if (0xd800..0xdc00).contains(&code) {
                    code = 0x10000 + ((code - 0xd800) << 10) + (unit(at + 8) - 0xdc00);
                    after = at + 12;
                }
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => out.push(other as char),
        }
        rest = &rest[after..];
    }
    out.push_str(rest);
    out
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
    depth_left: usize,
}

impl Scanner<'_> {
    fn document(&mut self, depth_max: usize) -> Result<(), ParseError> {
        self.space();
        self.value().map_err(|mut error| {
            if let Fault::TooDeep { max } = &mut error.fault {
                *max = depth_max;
            }
            error
        })?;
        self.space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.expected("nothing after the end of the outermost value"))
        }
    }

    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn expected(&self, expected: &'static str) -> ParseError {
        Fault::Syntax { offset: self.at, expected }.into()
    }

    fn open(&mut self, kind: Kind) -> usize {
        self.tokens.push(Token { start: self.at as u32, end: 0, next: 0, kind, escaped: false });
        self.tokens.len() - 1
    }

    fn close(&mut self, token: usize) {
        let next = self.tokens.len() as u32;
        self.tokens[token].end = self.at as u32;
        self.tokens[token].next = next;
    }

    fn value(&mut self) -> Result<(), ParseError> {
        match self.peek() {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true", Kind::Boolean),
            b'f' => self.literal(b"false", Kind::Boolean),
            b'n' => self.literal(b"null", Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<(), ParseError>) -> Result<(), ParseError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(Fault::TooDeep { max: 0 })?;
        inner(self)?;
        self.depth_left += 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), ParseError> {
        let object = self.open(Kind::Object);
        self.at += 1;
        self.space();
        let mut members = 0;
        if self.peek() != b'}' {
            loop {
                if self.peek() != b'"' {
                    return Err(self.expected("a property name in double quotes"));
                }
                let key = self.tokens.len();
                self.string()?;
                self.space();
                if self.peek() != b':' {
                    return Err(self.expected("`:` after a property name").inside_key(&self.key(key)));
                }
                self.at += 1;
                self.space();
                self.value().map_err(|error| error.inside_key(&self.key(key)))?;
                members += 1;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return Err(self.expected("`,` or `}` after a property")),
                }
                self.space();
            }
        }
        self.at += 1;
        self.close(object);
        self.no_key_twice(object, members)
    }

    fn array(&mut self) -> Result<(), ParseError> {
        let array = self.open(Kind::Array);
        self.at += 1;
        self.space();
        let mut index = 0;
        if self.peek() != b']' {
            loop {
                self.value().map_err(|error| error.inside_item(index))?;
                index += 1;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return Err(self.expected("`,` or `]` after an item")),
                }
                self.space();
            }
        }
        self.at += 1;
        self.close(array);
        Ok(())
    }

    fn string(&mut self) -> Result<(), ParseError> {
        let string = self.open(Kind::String);
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    self.tokens[string].escaped = true;
                    self.escape()?;
                }
                0..0x20 if self.at >= self.bytes.len() => return Err(self.expected("the end of a string")),
                0..0x20 => return Err(self.expected("control characters in strings to be escaped")),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.close(string);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), ParseError> {
        self.at += 2;
        match self.bytes.get(self.at - 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.code_unit()? {
                0xd800..0xdc00 => {
                    if !self.bytes[self.at..].starts_with(b"\\u") {
                        return Err(self.expected("the second half of a surrogate pair"));
                    }
                    self.at += 2;
                    match self.code_unit()? {
                        0xdc00..0xe000 => Ok(()),
                        _ => Err(self.expected("the second half of a surrogate pair")),
                    }
                }
                0xdc00..0xe000 => Err(self.expected("the first half of a surrogate pair")),
                _ => Ok(()),
            },
            _ => Err(self.expected("a valid escape")),
        }
    }

    fn code_unit(&mut self) -> Result<u32, ParseError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = (self.peek() as char).to_digit(16).ok_or_else(|| self.expected("four hexadecimal digits"))?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let number = self.open(Kind::Number);
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        self.close(number);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        if !self.peek().is_ascii_digit() {
            return Err(self.expected("a digit"));
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &'static [u8], kind: Kind) -> Result<(), ParseError> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        let literal = self.open(kind);
        self.at += word.len();
        self.close(literal);
        Ok(())
    }

    /// The name that a scanned key token stands for.
    fn key(&self, token: usize) -> String {
        let token = self.tokens[token];
        let inner =
            self.bytes.get(token.start as usize + 1..(token.end as usize).saturating_sub(1)).unwrap_or_default();
        let inner = String::from_utf8_lossy(inner);
        if token.escaped { unescape(&inner) } else { inner.into_owned() }
    }

    fn no_key_twice(&self, object: usize, members: usize) -> Result<(), ParseError> {
        let raw = |token: &Token| &self.bytes[token.start as usize..token.end as usize];
        let twice = |key: usize| ParseError::from(Fault::DuplicateKey).inside_key(&self.key(key));
        let mut escaped = false;
        let mut keys = [0usize; PAIRWISE_KEYS_MAX];
        let mut seen = HashSet::new();
        let mut key = object + 1;
        for n in 0..members {
            let token = &self.tokens[key];
            escaped |= token.escaped;
            if members <= PAIRWISE_KEYS_MAX {
                if keys[..n].iter().any(|&other| raw(&self.tokens[other]) == raw(token)) {
                    return Err(twice(key));
                }
                keys[n] = key;
            } else if !seen.insert(raw(token)) {
                return Err(twice(key));
            }
            key = self.tokens[key + 1].next as usize;
        }
        if escaped {
            // Two spellings of one name: compare what they stand for.
            let mut names = HashSet::new();
            let mut key = object + 1;
            for _ in 0..members {
                if !names.insert(self.key(key)) {
                    return Err(twice(key));
                }
                key = self.tokens[key + 1].next as usize;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match Json::parse(text.to_owned(), Limits::RESOURCE) {
            Ok(_) => "read".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn only_json_is_read_and_faults_have_a_place() {
        check(r#" {"a" : [1, -0.50e+3, true, null, "x\u00e9\ud83d\ude00\/"], "b":{}} "#, "read");
        check("", "not JSON: expected a value at byte 0");
        check("\u{feff}{}", "not JSON: expected a value at byte 0");
        check("{} x", "not JSON: expected nothing after the end of the outermost value at byte 3");
        check(
            r#"{"resourceType":"Patient","name":[{"given":["a",}]}"#,
            "not JSON: expected a value at byte 48 (at `Patient.name[0].given[1]`)",
        );
        check(
            r#"{"name":[{"given":["a"}]}"#,
            "not JSON: expected `,` or `]` after an item at byte 22 (at `name[0].given`)",
        );
        check(r#"{a:1}"#, "not JSON: expected a property name in double quotes at byte 1");
        check(r#"{"a" 1}"#, "not JSON: expected `:` after a property name at byte 5 (at `a`)");
        check(r#"{"a":01}"#, "not JSON: expected `,` or `}` after a property at byte 6");
        check(r#"{"a":1.}"#, "not JSON: expected a digit at byte 7 (at `a`)");
        check(r#"{"a":"b"#, "not JSON: expected the end of a string at byte 7 (at `a`)");
        check("{\"a\":\"\n\"}", "not JSON: expected control characters in strings to be escaped at byte 6 (at `a`)");
        check(r#"{"a":"\ud83d"}"#, "not JSON: expected the second half of a surrogate pair at byte 12 (at `a`)");
        check(r#"{"a":"\ude00"}"#, "not JSON: expected the first half of a surrogate pair at byte 12 (at `a`)");
        check(r#"{"a":"\x"}"#, "not JSON: expected a valid escape at byte 8 (at `a`)");
        check(r#"{"a":"\u12"}"#, "not JSON: expected four hexadecimal digits at byte 10 (at `a`)");
        check(r#"{"a":tru}"#, "not JSON: expected a value at byte 5 (at `a`)");
        check(r#"{"<script>":tru}"#, "not JSON: expected a value at byte 12 (at `?`)");
        check(r#"{"a":[{"b":1,"c":2,"b":3}]}"#, "the property is there twice: send it once (at `a[0].b`)");
        check(r#"{"ab":1,"a\u0062":2}"#, "the property is there twice: send it once (at `ab`)");
        let many: Vec<String> = (0..40).chain([7]).map(|n| format!("\"k{n}\":{n}")).collect();
        check(&format!("{{{}}}", many.join(",")), "the property is there twice: send it once (at `k7`)");
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(64), "read");
        let place = "[0]".repeat(64);
        check(&nested(65), &format!("nested deeper than 64 levels (at `{place}`)"));
        check(&"[".repeat(1_000_000), &format!("nested deeper than 64 levels (at `{place}`)"));
    }

    #[test]
    fn values_are_found_where_they_stand() {
        let json =
            Json::parse(r#"{"a":[{"b":1.10},"x\ty"],"c":{"d":true},"e":7}"#.to_owned(), Limits::RESOURCE).unwrap();
        let root = json.root();
        let items: Vec<_> = root.get("a").unwrap().items().collect();
        assert_eq!(items[0].get("b").unwrap().raw(), "1.10");
        assert_eq!(items[1].as_str().unwrap(), "x\ty");
        assert_eq!(root.path(&["c", "d"]).and_then(Node::as_bool), Some(true));
        assert_eq!(root.get("e").and_then(Node::as_u64), Some(7));
        assert!(root.get("f").is_none() && items[1].get("b").is_none() && items[0].as_str().is_none());
        assert_eq!(root.members().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "c", "e"]);
    }

    #[test]
    fn rewriting_touches_whole_values_and_no_other_byte() {
        let text = " {\"reference\" : \"urn:1\", \"x\":[\"urn:1\", 1.10, \"urn:\\u0031\"] }\n";
        let rewritten = rewrite_strings(text, Limits::RESOURCE, |key, value| {
            (key == "x" && value == "urn:1").then(|| "a\"b".to_owned())
        });
        assert_eq!(rewritten.unwrap(), " {\"reference\" : \"urn:1\", \"x\":[\"a\\\"b\", 1.10, \"a\\\"b\"] }\n");
    }

    proptest::proptest! {
        #[test]
        fn what_serde_json_reads_is_read_alike_and_nothing_else(text in r#"[\[\]{}:,"a\\u0d8-9eE.+\-tfn \n]{0,24}"#) {
            let ours = Json::parse(text.clone(), Limits::RESOURCE);
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => proptest::prop_assert_eq!(ours.root().value(), theirs),
                // Numbers beyond floating point and keys there twice are the only differences.
                (Ok(_), Err(error)) => proptest::prop_assert!(error.to_string().contains("number out of range")),
                (Err(error), Ok(_)) => proptest::prop_assert_eq!(error.fault, Fault::DuplicateKey),
                (Err(_), Err(_)) => {}
            }
        }

        #[test]
        fn every_text_is_written_so_that_it_is_read_back(text in ".*") {
            let mut quoted = String::new();
            push_string(&mut quoted, &text);
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text.as_str());
            let json = Json::parse(quoted, Limits::RESOURCE).unwrap();
            proptest::prop_assert_eq!(json.root().as_str().unwrap(), text.as_str());
        }
    }
}
