//! JSON Patch (RFC 6902) on a resource, all of it or nothing. What a patch does not touch keeps its characters: `1.10` stays `1.10`.
//!
//! Libraries for JSON Patch work on values whose numbers are floating point, and would rewrite decimals that somebody signed for. So this one moves the texts of
//! values instead. Source: RFC 6902 (operations), RFC 6901 (pointers), FHIR R4 `http.html#patch`.

use super::{
    Issue, IssueType,
    json::{Json, Kind, Node, push_string},
    resource::{Fault, Limits, ParseError, Resource},
};
use base64::Engine as _;
use std::collections::HashMap;

/// The media type of a JSON Patch (RFC 6902, section 6).
pub const JSON_PATCH: &str = "application/json-patch+json";
/// The most operations of one patch.
pub const OPERATIONS_MAX: usize = 1_000;
/// The most bytes that the operations of one patch may move or copy together.
const COPIED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most items of arrays that the operations of one patch may shift together, by what they put before them or take away.
const SHIFTED_ITEMS_MAX: usize = 10_000_000;
/// Members of an object from which on another one is compared with it by a map.
const MAPPED_LEN: usize = 16;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// Not JSON. The sender's fault.
    #[error(transparent)]
    Json(#[from] ParseError),
    /// Not what a patch consists of. The sender's fault.
    #[error("operation {index} {what}")]
    Operation {
        /// Which, counted from 0.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something else than an array. The sender's fault.
    #[error("a JSON Patch is an array of operations")]
    NotAnArray,
    /// More than is applied. The sender's fault.
    #[error("a patch has at most {OPERATIONS_MAX} operations, and moves at most {COPIED_BYTES_MAX} bytes")]
    TooMuch,
    /// The record has no such place. The sender's fault, or somebody changed the record.
    #[error("operation {index}: the record has no such place")]
    NoSuchPlace {
        /// Which, counted from 0.
        index: usize,
    },
    /// A `test` found something else. Somebody changed the record, or the sender is mistaken.
    #[error("operation {index}: the record has another value than the test asks for")]
    TestFailed {
        /// Which, counted from 0.
        index: usize,
    },
    /// What would come of it is no resource. The sender's fault.
    #[error("the patched record is no resource: {0}")]
    NoResource(ParseError),
    /// What would come of it is another record. The sender's fault.
    #[error("a patch changes neither the type nor the id of a record")]
    OtherRecord,
    /// A resource that holds no JSON Patch. The sender's fault.
    #[error(
        "in a Bundle, a patch is a Binary whose contentType is {JSON_PATCH} and whose data is the JSON Patch in base64"
    )]
    NoJsonPatch,
}

impl From<PatchError> for Issue {
    fn from(error: PatchError) -> Self {
        let text = error.to_string();
        match error {
            PatchError::Json(error) => error.into(),
            PatchError::Operation { .. } | PatchError::NotAnArray => Self::error(IssueType::Structure, text),
            PatchError::TooMuch => Self::error(IssueType::TooCostly, text),
            PatchError::NoSuchPlace { .. } => Self::error(IssueType::NotFound, text),
            PatchError::TestFailed { .. } => Self::error(IssueType::Conflict, text),
            PatchError::NoResource(error) => error.into(),
            PatchError::NoJsonPatch => Self::error(IssueType::NotSupported, text),
            PatchError::OtherRecord => Self::error(IssueType::BusinessRule, text),
        }
    }
}

/// A value that can be taken apart: what is not taken apart stays text.
#[derive(Debug, Clone)]
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    /// A string, number, boolean or null, as it was written.
    Text(String),
}

impl Tree {
    fn of(node: Node<'_>) -> Self {
        match node.kind() {
            Kind::Object => {
                Self::Object(node.members().map(|(key, value)| (key.into_owned(), Self::of(value))).collect())
            }
            Kind::Array => Self::Array(node.items().map(Self::of).collect()),
            _ => Self::Text(node.raw().to_owned()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    out.push_str(if nth > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (nth, (key, value)) in members.iter().enumerate() {
                    out.push_str(if nth > 0 { "," } else { "" });
                    push_string(out, key);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Array(items) => items.iter().map(Self::bytes).sum::<usize>() + 2,
            Self::Object(members) => {
                members.iter().map(|(key, value)| key.len() + value.bytes() + 4).sum::<usize>() + 2
            }
        }
    }

    /// Levels of objects and arrays.
    fn depth(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    fn get(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, token| match tree {
            Self::Object(members) => members.iter().find(|(key, _)| key == token).map(|(_, value)| value),
            Self::Array(items) => items.get(index(token)?),
            Self::Text(_) => None,
        })
    }

    fn get_mut(&mut self, path: &[String]) -> Option<&mut Self> {
        path.iter().try_fold(self, |tree, token| match tree {
            Self::Object(members) => members.iter_mut().find(|(key, _)| key == token).map(|(_, value)| value),
            Self::Array(items) => items.get_mut(index(token)?),
            Self::Text(_) => None,
        })
    }

    /// Puts a value at a place, before what is there in an array, instead of what is there in an object.
    fn add(&mut self, path: &[String], value: Self) -> Option<()> {
        let Some((last, parent)) = path.split_last() else {
            *self = value;
            return Some(());
        };
        match self.get_mut(parent)? {
            Self::Object(members) => match members.iter_mut().find(|(key, _)| key == last) {
                Some((_, old)) => *old = value,
                None => members.push((last.clone(), value)),
            },
            Self::Array(items) => {
                let at = if last == "-" { items.len() } else { index(last)? };
                (at <= items.len()).then(|| items.insert(at, value))?;
            }
            Self::Text(_) => return None,
        }
        Some(())
    }

    fn remove(&mut self, path: &[String]) -> Option<Self> {
        let (last, parent) = path.split_last()?;
        match self.get_mut(parent)? {
            Self::Object(members) => {
                let at = members.iter().position(|(key, _)| key == last)?;
                Some(members.remove(at).1)
            }
            Self::Array(items) => {
                let at = index(last).filter(|at| *at < items.len())?;
                Some(items.remove(at))
            }
            Self::Text(_) => None,
        }
    }

    /// Equal as RFC 6902 section 4.6 has it, but for numbers, which are equal when they are written alike: in FHIR 1.0 and 1.00 say different things.
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(two)) => {
                one == two || matches!((string(one), string(two)), (Some(one), Some(two)) if one == two)
            }
            (Self::Array(one), Self::Array(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.equals(two))
            }
            (Self::Object(one), Self::Object(two)) => {
                if one.len() != two.len() {
                    return false;
                }
                if one.len() < MAPPED_LEN {
                    let named = |key: &String| two.iter().find(|(other, _)| other == key).map(|(_, value)| value);
                    return one.iter().all(|(key, value)| named(key).is_some_and(|other| value.equals(other)));
                }
                let by_name: HashMap<&str, &Self> = two.iter().map(|(key, value)| (key.as_str(), value)).collect();
                one.iter().all(|(key, value)| by_name.get(key.as_str()).is_some_and(|other| value.equals(other)))
            }
            _ => false,
        }
    }
}

/// What a string's text says, without its escapes.
fn string(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok())?
}

/// The place in an array that a token names. Source: RFC 6901 section 4: no leading zeros.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    plain.then(|| token.parse().ok())?
}

/// The tokens of a JSON Pointer. Source: RFC 6901 section 4.
fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let tokens = text.strip_prefix('/')?.split('/');
    tokens
        .map(|token| {
            let unescaped = token.replace("~1", "/");
            // Each tilde that is left must begin the escape of a tilde.
            let fits = unescaped.match_indices('~').all(|(at, _)| unescaped[at + 1..].starts_with('0'));
            fits.then(|| unescaped.replace("~0", "~"))
        })
        .collect()
}

/// The JSON Patch that an entry of a Bundle carries: the data of a Binary. Source: FHIR R4 `http.html#patch`, «PATCH in batches».
pub fn patch_in(binary: &Resource) -> Result<Vec<u8>, PatchError> {
    let text = |name| binary.root().get(name).and_then(Node::as_str);
    let essence = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON_PATCH));
    if binary.rtype() != "Binary" || !text("contentType").is_some_and(|kind| essence(&kind)) {
        return Err(PatchError::NoJsonPatch);
    }
    let data: String = text("data").unwrap_or_default().split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(data).map_err(|_| PatchError::NoJsonPatch)
}

/// The resource that a patch makes of `resource`.
pub fn patched(resource: &Resource, patch: &[u8], limits: Limits) -> Result<Resource, PatchError> {
    let utf8 = |error: std::str::Utf8Error| ParseError::from(Fault::NotUtf8 { offset: error.valid_up_to() });
    let text = std::str::from_utf8(patch).map_err(utf8)?;
    let patch = Json::parse(text.to_owned(), limits)?;
    if patch.root().kind() != Kind::Array {
        return Err(PatchError::NotAnArray);
    }
    let mut tree = Tree::of(resource.root());
    let mut bounds = Bounds { copied: 0, shifted: 0, depth_max: limits.depth_max };
    for (nth, operation) in patch.root().items().enumerate() {
        if nth >= OPERATIONS_MAX {
            return Err(PatchError::TooMuch);
        }
        apply(&mut tree, nth, operation, &mut bounds)?;
    }
    let mut out = String::with_capacity(resource.text().len() + text.len());
    tree.write(&mut out);
    let after = Resource::parse(out.as_bytes(), limits).map_err(PatchError::NoResource)?;
    if after.rtype() != resource.rtype() || after.id() != resource.id() {
        return Err(PatchError::OtherRecord);
    }
    Ok(after)
}

/// What keeps a small patch from making something huge.
struct Bounds {
    copied: usize,
    shifted: usize,
    depth_max: usize,
}

impl Bounds {
    /// No value gets deeper into another one than a resource may be nested.
    fn depth(&self, path: &[String], value: &Tree) -> Result<(), PatchError> {
        let fits = path.len().saturating_add(value.depth()) <= self.depth_max;
        fits.then_some(()).ok_or_else(|| PatchError::NoResource(Fault::TooDeep { max: self.depth_max }.into()))
    }

    /// What is put into an array or taken from it moves what comes after.
    fn shifts(&mut self, tree: &Tree, path: &[String]) -> Result<(), PatchError> {
        let parent = path.split_last().and_then(|(_, parent)| tree.get(parent));
        if let Some(Tree::Array(items)) = parent {
            self.shifted = self.shifted.saturating_add(items.len());
        }
        (self.shifted <= SHIFTED_ITEMS_MAX).then_some(()).ok_or(PatchError::TooMuch)
    }

    fn copies(&mut self, value: &Tree) -> Result<(), PatchError> {
        self.copied = self.copied.saturating_add(value.bytes());
        (self.copied <= COPIED_BYTES_MAX).then_some(()).ok_or(PatchError::TooMuch)
    }
}

fn apply(tree: &mut Tree, index: usize, operation: Node<'_>, bounds: &mut Bounds) -> Result<(), PatchError> {
    let wrong = |what| PatchError::Operation { index, what };
    let place = |name: &str, what| {
        let text = operation.get(name).and_then(Node::as_str).ok_or_else(|| wrong(what))?;
        pointer(&text).ok_or_else(|| wrong("has a pointer that is not one: write it as `/name/0/given`"))
    };
    let value = || operation.get("value").map(Tree::of).ok_or_else(|| wrong("needs a `value`"));
    let name = operation.get("op").and_then(Node::as_str).ok_or_else(|| wrong("needs an `op`"))?;
    let path = place("path", "needs a `path`")?;
    let from = || place("from", "needs a `from`");
    let missing = || PatchError::NoSuchPlace { index };
    let added = match name.as_ref() {
        "add" => value()?,
        "remove" => {
            bounds.shifts(tree, &path)?;
            return tree.remove(&path).map(drop).ok_or_else(missing);
        }
        "replace" => {
            let value = value()?;
            bounds.depth(&path, &value)?;
            *tree.get_mut(&path).ok_or_else(missing)? = value;
            return Ok(());
        }
        "test" => {
            let value = value()?;
            let found = tree.get(&path).filter(|found| found.equals(&value));
            return found.map(|_| ()).ok_or(PatchError::TestFailed { index });
        }
        "move" => {
            let from = from()?;
            if path.len() > from.len() && path.starts_with(&from) {
                return Err(wrong("moves a value into itself"));
            }
            bounds.shifts(tree, &from)?;
            let value = tree.remove(&from).ok_or_else(missing)?;
            bounds.copies(&value)?;
            value
        }
        "copy" => {
            let value = tree.get(&from()?).ok_or_else(missing)?;
            bounds.copies(value)?;
            value.clone()
        }
        _ => return Err(wrong("has an `op` that is none of add, remove, replace, move, copy, test")),
    };
    bounds.depth(&path, &added)?;
    bounds.shifts(tree, &path)?;
    tree.add(&path, added).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"p","name":[{"family":"Müller","given":["A","B"]}],
        "extension":[{"url":"http://example.org/x","valueDecimal":1.10}],"active":true}"#;

    fn apply(patch: &str) -> Result<String, PatchError> {
        let resource = Resource::parse(PATIENT.as_bytes(), Limits::RESOURCE).unwrap();
        patched(&resource, patch.as_bytes(), Limits::RESOURCE).map(Resource::into_text)
    }

    fn value(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    /// What the patch makes of the names, extension and flag.
    fn gives(patch: &str, expected: &str) {
        let after = apply(patch).unwrap();
        assert_eq!(value(&after), value(expected), "{patch}");
        assert!(after.contains("1.10") || !expected.contains("1.10"), "a decimal was rewritten: {after}");
    }

    #[test]
    fn every_operation_does_what_rfc_6902_says() {
        let with = |name: &str, rest: &str| {
            format!(
                r#"{{"resourceType":"Patient","id":"p","name":{name},
                "extension":[{{"url":"http://example.org/x","valueDecimal":1.10}}]{rest}}}"#
            )
        };
        let name = r#"[{"family":"Müller","given":["A","B"]}]"#;
        let cases = [
            (r#"[]"#, with(name, r#","active":true"#)),
            (r#"[{"op":"replace","path":"/active","value":false}]"#, with(name, r#","active":false"#)),
            (r#"[{"op":"remove","path":"/active"}]"#, with(name, "")),
            (r#"[{"op":"add","path":"/gender","value":"other"}]"#, with(name, r#","active":true,"gender":"other""#)),
            (
                r#"[{"op":"add","path":"/name/0/given/1","value":"X"},{"op":"add","path":"/name/0/given/-","value":"Z"}]"#,
                with(r#"[{"family":"Müller","given":["A","X","B","Z"]}]"#, r#","active":true"#),
            ),
            (
                r#"[{"op":"move","from":"/name/0/given/0","path":"/name/0/given/1"}]"#,
                with(r#"[{"family":"Müller","given":["B","A"]}]"#, r#","active":true"#),
            ),
            (
                r#"[{"op":"copy","from":"/name/0","path":"/name/-"}]"#,
                with(
                    r#"[{"family":"Müller","given":["A","B"]},{"family":"Müller","given":["A","B"]}]"#,
                    r#","active":true"#,
                ),
            ),
            (
                r#"[{"op":"test","path":"/name/0","value":{"given":["A","B"],"family":"M\u00fcller"}},
                    {"op":"test","path":"/extension/0/valueDecimal","value":1.10},{"op":"remove","path":"/active"}]"#,
                with(name, ""),
            ),
        ];
        for (patch, expected) in cases {
            gives(patch, &expected);
        }
    }

    #[test]
    fn what_a_patch_does_not_touch_keeps_its_characters_and_its_order() {
        let after = apply(r#"[{"op":"replace","path":"/name/0/family","value":"M\u00fcller-Lüdenscheidt"}]"#).unwrap();
        let expected = r#"{"resourceType":"Patient","id":"p","name":[{"family":"M\u00fcller-Lüdenscheidt","given":["A","B"]}],"extension":[{"url":"http://example.org/x","valueDecimal":1.10}],"active":true}"#;
        assert_eq!(after, expected);
    }

    #[test]
    fn a_patch_that_cannot_be_applied_says_which_operation_and_changes_nothing() {
        use PatchError::{NoSuchPlace, NotAnArray, Operation, OtherRecord, TestFailed};
        let wrong = |what| Operation { index: 0, what };
        let pointer = "has a pointer that is not one: write it as `/name/0/given`";
        let cases = [
            (r#"{}"#, NotAnArray),
            (r#"[1]"#, wrong("needs an `op`")),
            (r#"[{"op":"add","value":1}]"#, wrong("needs a `path`")),
            (r#"[{"op":"add","path":"/active"}]"#, wrong("needs a `value`")),
            (r#"[{"op":"move","path":"/active"}]"#, wrong("needs a `from`")),
            (
                r#"[{"op":"merge","path":"/active"}]"#,
                wrong("has an `op` that is none of add, remove, replace, move, copy, test"),
            ),
            (r#"[{"op":"remove","path":"active"}]"#, wrong(pointer)),
            (r#"[{"op":"remove","path":"/~2"}]"#, wrong(pointer)),
            (r#"[{"op":"move","from":"/name","path":"/name/0"}]"#, wrong("moves a value into itself")),
            (r#"[{"op":"remove","path":"/name/01"}]"#, NoSuchPlace { index: 0 }),
            (r#"[{"op":"remove","path":"/active"},{"op":"remove","path":"/active"}]"#, NoSuchPlace { index: 1 }),
            (r#"[{"op":"add","path":"/name/0/given/3","value":"X"}]"#, NoSuchPlace { index: 0 }),
            (r#"[{"op":"replace","path":"/name/1","value":{}}]"#, NoSuchPlace { index: 0 }),
            (r#"[{"op":"test","path":"/extension/0/valueDecimal","value":1.1}]"#, TestFailed { index: 0 }),
            (r#"[{"op":"test","path":"/nothing","value":null}]"#, TestFailed { index: 0 }),
            (r#"[{"op":"replace","path":"/id","value":"q"}]"#, OtherRecord),
            (r#"[{"op":"remove","path":"/id"}]"#, OtherRecord),
            (r#"[{"op":"replace","path":"/resourceType","value":"Person"}]"#, OtherRecord),
        ];
        for (patch, error) in cases {
            assert_eq!(apply(patch), Err(error), "{patch}");
        }
        assert!(matches!(apply(r#"[{"op":"remove","path":"/resourceType"}]"#), Err(PatchError::NoResource(_))));
        assert!(matches!(apply(r#"[{"op":"remove","path":""}]"#), Err(NoSuchPlace { index: 0 })));
        assert!(matches!(apply("[{"), Err(PatchError::Json(_))));
    }

    #[test]
    fn a_patch_that_copies_without_end_is_refused_before_it_costs_memory() {
        let copy = r#"{"op":"copy","from":"/name","path":"/name/-"}"#;
        let patch = format!("[{}]", vec![copy; 64].join(","));
        assert_eq!(apply(&patch), Err(PatchError::TooMuch));
        let within =
            (1..12).map(|n| format!(r#"{{"op":"copy","from":"/x","path":"/x{}"}}"#, "/0".repeat(1 << (n - 1))));
        let within = format!(r#"[{{"op":"add","path":"/x","value":[0]}},{}]"#, within.collect::<Vec<_>>().join(","));
        let too_deep = PatchError::NoResource(Fault::TooDeep { max: Limits::RESOURCE.depth_max }.into());
        assert_eq!(apply(&within), Err(too_deep));
        let items = vec!["0"; SHIFTED_ITEMS_MAX / 100].join(",");
        let shift = vec![r#"{"op":"remove","path":"/x/0"}"#; 101].join(",");
        let patch = format!(r#"[{{"op":"add","path":"/x","value":[{items}]}},{shift}]"#);
        assert_eq!(apply(&patch), Err(PatchError::TooMuch));
        let test = r#"{"op":"test","path":"/active","value":true}"#;
        assert_eq!(apply(&format!("[{}]", vec![test; OPERATIONS_MAX + 1].join(","))), Err(PatchError::TooMuch));
    }

    #[test]
    fn in_a_bundle_a_patch_is_the_data_of_a_binary() {
        let of = |text: &str| patch_in(&Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap());
        let binary = |kind: &str, data: &str| {
            of(&format!(r#"{{"resourceType":"Binary","contentType":"{kind}","data":"{data}"}}"#))
        };
        assert_eq!(binary("application/json-patch+json; charset=utf-8", "W 10=").unwrap(), b"[]");
        for (kind, data) in [("application/json", "W10="), (JSON_PATCH, "%"), (JSON_PATCH, "W1")] {
            assert_eq!(binary(kind, data), Err(PatchError::NoJsonPatch), "{kind} {data}");
        }
        assert_eq!(of(r#"{"resourceType":"Parameters"}"#), Err(PatchError::NoJsonPatch));
    }
}
