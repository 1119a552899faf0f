//! A resource: one JSON object of a known type, kept as the text it came in.

use super::{
    ResourceType,
    json::{Edits, Json, Kind, Node, push_string},
    patient,
};
use crate::TimeMs;
use std::{borrow::Cow, ops::Range};

/// The largest single resource, in bytes. Attachments in published examples go beyond one megabyte.
pub const RESOURCE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest Bundle, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The deepest nesting of objects and arrays. A Questionnaire or an extension in an extension in a Bundle stays under 40.
pub const DEPTH_MAX: usize = 64;

/// How much of a text from outside is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest text, in bytes.
    pub bytes_max: usize,
    /// Deepest nesting of objects and arrays.
    pub depth_max: usize,
}

impl Limits {
    /// What a single resource may have.
    pub const RESOURCE: Self = Self { bytes_max: RESOURCE_BYTES_MAX, depth_max: DEPTH_MAX };
    /// What a Bundle may have.
    pub const BUNDLE: Self = Self { bytes_max: BUNDLE_BYTES_MAX, depth_max: DEPTH_MAX };
}
impl Default for Limits {
    fn default() -> Self {
        Self::RESOURCE
    }
}

/// What is wrong with a text that should be a resource. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More bytes than are read.
    #[error("{bytes} bytes are more than the {max} that are read: send it in parts")]
    TooLarge {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not UTF-8.
    #[error("byte {offset} is not UTF-8: send JSON in UTF-8")]
    NotUtf8 {
        /// Where.
        offset: usize,
    },
    /// Not JSON.
    #[error("not JSON: expected {expected} at byte {offset}")]
    Syntax {
        /// Where.
        offset: usize,
        /// What would be right there.
        expected: &'static str,
    },
    /// Nested deeper than is read.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// Levels allowed.
        max: usize,
    },
    /// The property stands twice in its object.
    #[error("the property is there twice: send it once")]
    DuplicateKey,
    /// JSON, but no object.
    #[error("a resource is a JSON object")]
    NotAnObject,
    /// No `resourceType`.
    #[error("`resourceType` is missing: name the type, such as \"Observation\"")]
    NoResourceType,
    /// A `resourceType` that R4 does not have.
    #[error("not a resource type of FHIR R4: names are case sensitive, such as \"Observation\"")]
    UnknownResourceType,
    /// An ill-formed `id`.
    #[error("an id is 1 to 64 of the characters A-Z a-z 0-9 - .")]
    BadId,
    /// A `meta` that is no object.
    #[error("`meta` is a JSON object")]
    BadMeta,
}

/// Why a text is not a resource, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}{}", self.place())]
pub struct ParseError {
    /// What is wrong.
    pub fault: Fault,
    /// Where: a path such as `Patient.name[0].given`. Empty when the text does not say what it is.
    pub expression: String,
}

impl ParseError {
    fn place(&self) -> String {
        if self.expression.is_empty() { String::new() } else { format!(" (at `{}`)", self.expression) }
    }

    /// The same error, of something that stands under `key`.
    pub(super) fn inside_key(mut self, key: &str) -> Self {
        self.expression.insert_str(0, &printable_key(key));
        self.expression.insert(0, '.');
        self
    }

    /// The same error, of the `index`th item of an array, counted from 0.
    pub(super) fn inside_item(mut self, index: usize) -> Self {
        self.expression.insert_str(0, &format!("[{index}]"));
        self
    }

    fn of(fault: Fault, expression: impl Into<String>) -> Self {
        Self { fault, expression: expression.into() }
    }
}
impl From<Fault> for ParseError {
    fn from(fault: Fault) -> Self {
        Self { fault, expression: String::new() }
    }
}

/// The longest property name that errors repeat, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// A property name from outside as it may stand in an error: names of R4 are letters, an underscore first.
pub(super) fn printable_key(key: &str) -> Cow<'_, str> {
    let plain = key.len() <= KEY_BYTES_MAX && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { Cow::Borrowed(key) } else { Cow::Borrowed("?") }
}

/// Whether `text` is a well-formed FHIR id: 1 to 64 of `A-Z a-z 0-9 - .`.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// How confidential a resource says it is, by `meta.security`.
///
/// Source: HL7 v3 Confidentiality, `http://terminology.hl7.org/CodeSystem/v3-Confidentiality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidentiality {
    /// `U`: unrestricted.
    Unrestricted,
    /// `L`: low.
    Low,
    /// `M`: moderate.
    Moderate,
    /// `N`: normal. What a record without a label is.
    Normal,
    /// `R`: restricted.
    Restricted,
    /// `V`: very restricted.
    VeryRestricted,
}

impl Confidentiality {
    /// The code system.
    pub const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unrestricted => "U",
            Self::Low => "L",
            Self::Moderate => "M",
            Self::Normal => "N",
            Self::Restricted => "R",
            Self::VeryRestricted => "V",
        }
    }

    /// The level of a code.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Unrestricted, Self::Low, Self::Moderate, Self::Normal, Self::Restricted, Self::VeryRestricted]
            .into_iter()
            .find(|level| level.code() == code)
    }
}

/// One literal reference in a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundReference<'a> {
    /// The element that holds it, such as `subject`.
    pub element: String,
    /// Its text, such as `Patient/1`.
    pub text: Cow<'a, str>,
}

/// A resource, in exactly the bytes that it came in.
#[derive(Debug, Clone)]
pub struct Resource {
    // INVARIANT: an object with a known `resourceType`, an `id` that is absent or well formed, a `meta` that is absent or an object.
    json: Json,
    rtype: ResourceType,
}

impl Resource {
    /// Reads one resource. What else its type demands is for `check` to say.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, ParseError> {
        if bytes.len() > limits.bytes_max {
            return Err(Fault::TooLarge { bytes: bytes.len(), max: limits.bytes_max }.into());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| Fault::NotUtf8 { offset: error.valid_up_to() })?;
        let json = Json::parse(text.to_owned(), limits)?;
        let rtype = well_formed(json.root())?;
        Ok(Self { json, rtype })
    }

    /// Its type.
    pub fn rtype(&self) -> ResourceType {
        self.rtype
    }

    /// Its text as it came.
    pub fn text(&self) -> &str {
        self.json.text()
    }

    /// Its text as it came.
    pub fn into_text(self) -> String {
        self.json.into_text()
    }

    /// Its outermost object.
    pub fn root(&self) -> Node<'_> {
        self.json.root()
    }

    /// Its id, if it has one.
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.root().get("id").and_then(Node::as_str)
    }

    /// Its `meta.versionId`, if it has one.
    pub fn version_id(&self) -> Option<Cow<'_, str>> {
        self.root().path(&["meta", "versionId"]).and_then(Node::as_str)
    }

    /// Its value for reading with `serde_json`. Decimals lose their precision here, so it must never be written back.
    pub fn value(&self) -> serde_json::Value {
        self.root().value()
    }

    /// The stored bytes: the same text with `id`, `meta.versionId` and `meta.lastUpdated` set. Every other byte is as it came:
    /// white space, the order of elements, decimals such as `1.10`, extensions that nobody here knows.
    pub fn stamped(&self, id: &str, version: u64, last_updated: TimeMs) -> Vec<u8> {
        let root = self.root();
        let mut places = Places::default();
        let mut rtype_end = root.range().start + 1;
        for (key, value) in root.members() {
            match key.as_ref() {
                "resourceType" => rtype_end = value.range().end,
                "id" => places.id = Some(value),
                "meta" => places.meta = Some(value),
                _ => {}
            }
        }
        let version_id = version.to_string();
        let instant = last_updated.to_instant();
        let mut edits: Vec<(Range<usize>, String)> = Vec::with_capacity(4);
        let mut after_type = String::new();
        match places.id {
            Some(node) => edits.push((node.range(), quoted("", id))),
            None => after_type.push_str(&quoted(",\"id\":", id)),
        }
        match places.meta {
            Some(meta) => stamp_meta(meta, &version_id, &instant, &mut edits),
            None => {
                let stamp = format!(",\"meta\":{{\"versionId\":\"{version_id}\",\"lastUpdated\":\"{instant}\"}}");
                // Beside the id, where readers look for it.
                match places.id {
                    Some(node) => edits.push((node.range().end..node.range().end, stamp)),
                    None => after_type.push_str(&stamp),
                }
            }
        }
        edits.push((rtype_end..rtype_end, after_type));
        // Stable, so that an insertion right after a replaced value stays after it.
        edits.sort_by_key(|(range, _)| range.start);
        let mut out = Edits::of_all(&self.json);
        for (range, text) in edits {
            out.replace_with(range, |out| out.push_str(&text));
        }
        out.finish().into_bytes()
    }

    /// Every literal reference in it, also in contained resources and extensions, in text order.
    pub fn references(&self) -> Vec<FoundReference<'_>> {
        let mut found = Vec::new();
        collect_references(self.root(), "", &mut found);
        found
    }

    /// The reference to the patient whose record it is; of a Patient with an id, itself.
    pub fn patient_reference(&self) -> Option<Cow<'_, str>> {
        if self.rtype == "Patient" {
            return self.id().map(|id| Cow::Owned(format!("Patient/{id}")));
        }
        patient::patient_reference(self.rtype, self.root())
    }

    /// Its security labels: system and code of each `meta.security`. A label without a system has an empty one.
    pub fn labels(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let security = self.root().path(&["meta", "security"]);
        let codings = security.into_iter().flat_map(Node::each);
        codings
            .filter_map(|coding| {
                let system = coding.get("system").and_then(Node::as_str).unwrap_or_default();
                Some((system, coding.get("code")?.as_str()?))
            })
            .collect()
    }

    /// The strictest of its confidentiality labels; [`Confidentiality::Normal`] when it has none. A label of the system that R4 does
    /// not have counts as the strictest: what it meant to protect must not become open by a misspelling.
    pub fn confidentiality(&self) -> Confidentiality {
        self.labels()
            .iter()
            .filter(|(system, _)| system == Confidentiality::SYSTEM)
            .map(|(_, code)| Confidentiality::from_code(code).unwrap_or(Confidentiality::VeryRestricted))
            .max()
            .unwrap_or(Confidentiality::Normal)
    }
}

/// What every resource has to be, at any depth: the type that it names.
pub(super) fn well_formed(root: Node<'_>) -> Result<ResourceType, ParseError> {
    if root.kind() != Kind::Object {
        return Err(Fault::NotAnObject.into());
    }
    let rtype = root.get("resourceType").ok_or(Fault::NoResourceType)?;
    let rtype = rtype.as_str().ok_or(ParseError::of(Fault::UnknownResourceType, "resourceType"))?;
    let rtype: ResourceType = rtype.parse().map_err(|_| ParseError::of(Fault::UnknownResourceType, "resourceType"))?;
    if root.get("id").is_some_and(|id| !id.as_str().is_some_and(|id| is_id(&id))) {
        return Err(ParseError::of(Fault::BadId, format!("{rtype}.id")));
    }
    if root.get("meta").is_some_and(|meta| meta.kind() != Kind::Object) {
        return Err(ParseError::of(Fault::BadMeta, format!("{rtype}.meta")));
    }
    Ok(rtype)
}

#[derive(Default)]
struct Places<'a> {
    id: Option<Node<'a>>,
    meta: Option<Node<'a>>,
}

fn stamp_meta(meta: Node<'_>, version_id: &str, instant: &str, edits: &mut Vec<(Range<usize>, String)>) {
    let mut first = String::new();
    for (key, text) in [("versionId", version_id), ("lastUpdated", instant)] {
        match meta.get(key) {
            Some(node) => edits.push((node.range(), quoted("", text))),
            None => {
                first.push_str(&format!("\"{key}\":\"{text}\""));
                first.push(',');
            }
        }
    }
    if meta.is_empty() {
        first.pop();
    }
    if !first.is_empty() {
        let open = meta.range().start + 1;
        edits.push((open..open, first));
    }
}

fn quoted(before: &str, text: &str) -> String {
    let mut out = before.to_owned();
    push_string(&mut out, text);
    out
}

fn collect_references<'a>(node: Node<'a>, element: &str, found: &mut Vec<FoundReference<'a>>) {
    for (key, value) in node.members() {
        if key == "reference"
            && let Some(text) = value.as_str()
        {
            found.push(FoundReference { element: element.to_owned(), text });
        } else {
            collect_references(value, &key, found);
        }
    }
    for item in node.items() {
        collect_references(item, element, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TimeMs = TimeMs(1_795_255_530_123);

    fn parse(text: &str) -> Result<Resource, ParseError> {
        Resource::parse(text.as_bytes(), Limits::RESOURCE)
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_place() {
        let cases = [
            ("[]", "a resource is a JSON object"),
            ("{}", "`resourceType` is missing: name the type, such as \"Observation\""),
            (
                r#"{"resourceType":"Zebra"}"#,
                "not a resource type of FHIR R4: names are case sensitive, such as \"Observation\" (at `resourceType`)",
            ),
            (
                r#"{"resourceType":1}"#,
                "not a resource type of FHIR R4: names are case sensitive, such as \"Observation\" (at `resourceType`)",
            ),
            (
                r#"{"resourceType":"Patient","id":"a b"}"#,
                "an id is 1 to 64 of the characters A-Z a-z 0-9 - . (at `Patient.id`)",
            ),
            (
                r#"{"resourceType":"Patient","id":7}"#,
                "an id is 1 to 64 of the characters A-Z a-z 0-9 - . (at `Patient.id`)",
            ),
            (r#"{"resourceType":"Patient","meta":null}"#, "`meta` is a JSON object (at `Patient.meta`)"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
        let error = Resource::parse(b"{\"a\":\"\xff\"}", Limits::RESOURCE).unwrap_err();
        assert_eq!(error.fault, Fault::NotUtf8 { offset: 6 });
        let error = Resource::parse(&[b' '; 101], Limits { bytes_max: 100, depth_max: 9 }).unwrap_err();
        assert_eq!(error.fault, Fault::TooLarge { bytes: 101, max: 100 });
    }

    #[test]
    fn stamping_sets_three_values_and_keeps_every_other_byte() {
        let stamp = r#""versionId":"3","lastUpdated":"2026-11-21T10:05:30.123Z""#;
        let cases = [
            (r#"{"resourceType":"Patient"}"#.to_owned(), format!(r#"{{"resourceType":"Patient","id":"n","meta":{{{stamp}}}}}"#)),
            (
                r#" { "id" : "old", "resourceType" : "Observation" , "v": 1.10 } "#.to_owned(),
                format!(r#" {{ "id" : "n","meta":{{{stamp}}}, "resourceType" : "Observation" , "v": 1.10 }} "#),
            ),
            (
                r#"{"meta":{ "profile":["p"] },"resourceType":"Patient"}"#.to_owned(),
                format!(r#"{{"meta":{{{stamp}, "profile":["p"] }},"resourceType":"Patient","id":"n"}}"#),
            ),
            (
                r#"{"resourceType":"Patient","meta":{"lastUpdated":"x","tag":[],"versionId":7},"id":"o"}"#.to_owned(),
                r#"{"resourceType":"Patient","meta":{"lastUpdated":"2026-11-21T10:05:30.123Z","tag":[],"versionId":"3"},"id":"n"}"#.to_owned(),
            ),
            (
                r#"{"resourceType":"Patient","meta":{"versionId":"1"}}"#.to_owned(),
                r#"{"resourceType":"Patient","id":"n","meta":{"lastUpdated":"2026-11-21T10:05:30.123Z","versionId":"3"}}"#.to_owned(),
            ),
            (r#"{"resourceType":"Patient","meta":{}}"#.to_owned(), format!(r#"{{"resourceType":"Patient","id":"n","meta":{{{stamp}}}}}"#)),
        ];
        for (text, expected) in cases {
            let stamped = parse(&text).unwrap().stamped("n", 3, AT);
            assert_eq!(String::from_utf8(stamped).unwrap(), expected);
        }
    }

    #[test]
    fn references_and_labels_are_found() {
        let text = r##"{"resourceType":"Observation","meta":{"security":[
            {"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"},{"code":"V"},
            {"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"L"}]},
            "contained":[{"resourceType":"Device","id":"d","owner":{"reference":"Organization/o"}}],
            "subject":{"reference":"Patient/1"},"device":{"reference":"#d"},"performer":[{"reference":"Practitioner/2"}]}"##;
        let resource = parse(text).unwrap();
        let found: Vec<_> =
            resource.references().into_iter().map(|found| format!("{} {}", found.element, found.text)).collect();
        assert_eq!(found, ["owner Organization/o", "subject Patient/1", "device #d", "performer Practitioner/2"]);
        assert_eq!(resource.labels().len(), 3);
        assert_eq!(
            resource.confidentiality(),
            Confidentiality::Restricted,
            "a `V` of another system is no confidentiality"
        );
        assert_eq!(parse(r#"{"resourceType":"Patient"}"#).unwrap().confidentiality(), Confidentiality::Normal);
    }
}
