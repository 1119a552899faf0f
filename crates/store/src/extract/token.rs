//! What is a token: codes, codings, concepts, identifiers, contact points, and what is said of them in words.

use super::{IndexValue, normalise};
use serde_json::{Map, Value};

/// Systems of contact points; those of identifiers are addresses, which have a colon.
const CONTACT_SYSTEMS: [&str; 7] = ["phone", "fax", "email", "pager", "url", "sms", "other"];

/// The tokens of an element of any type that has some.
pub(super) fn tokens(element: &Value, push: &mut impl FnMut(IndexValue)) {
    match element {
        Value::String(code) => token("", code, [None; 2], push),
        Value::Bool(flag) => token("", if *flag { "true" } else { "false" }, [None; 2], push),
        Value::Object(fields) if is_concept(fields) => concept(fields, push),
        Value::Object(fields) if fields.contains_key("code") => coding(fields, None, push),
        Value::Object(fields) => {
            let system = text(fields, "system").filter(|system| !CONTACT_SYSTEMS.contains(system));
            let kind = fields.get("type").and_then(Value::as_object).and_then(|kind| text(kind, "text"));
            if let Some(value) = text(fields, "value") {
                token(system.unwrap_or_default(), value, [kind, None], push);
            }
        }
        _ => {}
    }
}

fn is_concept(fields: &Map<String, Value>) -> bool {
    fields.contains_key("coding") || (fields.contains_key("text") && !fields.contains_key("value"))
}

/// The codes of a concept; its text goes with the first of them, or alone.
fn concept(fields: &Map<String, Value>, push: &mut impl FnMut(IndexValue)) {
    let mut words = text(fields, "text");
    let codings = fields.get("coding").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    for one in codings.filter(|coding| text(coding, "code").is_some()) {
        coding(one, words.take(), push);
    }
    if words.is_some() {
        token("", "", [words, None], push);
    }
}

fn coding(fields: &Map<String, Value>, words: Option<&str>, push: &mut impl FnMut(IndexValue)) {
    if let Some(code) = text(fields, "code") {
        token(text(fields, "system").unwrap_or_default(), code, [text(fields, "display"), words], push);
    }
}

fn token(system: &str, code: &str, words: [Option<&str>; 2], push: &mut impl FnMut(IndexValue)) {
    let text = in_words(words);
    if !code.is_empty() || !text.is_empty() {
        push(IndexValue::Token { system: system.to_owned(), code: code.to_owned(), text });
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}

/// What is said of a token, normalised, one on each line and none twice.
fn in_words(words: [Option<&str>; 2]) -> String {
    let [first, second] = words.map(|words| words.map(normalise).unwrap_or_default());
    match (first.is_empty(), second.is_empty() || first == second) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => format!("{first}\n{second}"),
    }
}

/// An identifier under each code of its type.
pub(super) fn of_type(element: &Value, push: &mut impl FnMut(IndexValue)) {
    let Some(codings) = element.get("type").and_then(|of| of.get("coding")).and_then(Value::as_array) else { return };
    let Some(value) = element.get("value").and_then(Value::as_str) else { return };
    for coding in codings.iter().filter_map(Value::as_object) {
        if let Some(code) = text(coding, "code") {
            let system = text(coding, "system").unwrap_or_default().to_owned();
            push(IndexValue::Token { system, code: typed(code, value), text: String::new() });
        }
    }
}

/// Code of the type and value of an identifier, as they are filed together.
pub(crate) fn typed(code: &str, value: &str) -> String {
    format!("{code}|{value}")
}
