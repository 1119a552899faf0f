//! Extraction: the values that a resource is found by.
//!
//! Driven by one table of R4's search parameters. Elements that have not the form of their type are passed over: what is admitted is
//! decided elsewhere, and a value that cannot be read cannot be found. References into the resource itself are not indexed.

mod common;
mod date;
mod number;
mod quantity;
mod table;
mod text;
mod token;

pub(crate) use common::{COMMON, is_common};
pub use date::DateRange;
pub use number::{Number, Written};
pub(crate) use text::cut;
pub use text::{INDEX_TEXT_BYTES_MAX, normalise};
pub(crate) use token::typed;

use quantity::quantity;
use serde_json::Value;
use std::borrow::Cow;
use table::{Parameter, Path, Step, parameters};
use token::{of_type, tokens};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal),+ $(,)?) => {
        /// What form the values of a search parameter have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[doc = $doc])+ $kind),+ }
        impl Kind {
            fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$kind),)+ _ => None }
            }
            /// FHIR's name for it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }
        }
    };
}
kinds! {
    /// System and code.
    Token = "token",
    /// Free text.
    Text = "string",
    /// A span of time.
    Date = "date",
    /// Another record.
    Reference = "reference",
    /// A number without unit.
    Number = "number",
    /// A number with its unit.
    Quantity = "quantity",
    /// An address that is compared as a whole.
    Uri = "uri",
    /// Values of other parameters that stand in one element.
    Composite = "composite",
}

/// The part of values that stand in no element of a list by which composites are told apart.
pub const WHOLE: i32 = 0;
/// The part of values that stand together with no other.
pub const APART: i32 = -1;

/// One value under one search parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexRow {
    /// The parameter; the logical identifiers of a reference parameter `p` stand under `p:identifier`, identifiers with their types
    /// under `p:of-type`.
    pub param: Cow<'static, str>,
    /// Values of one resource with the same part stand together in a composite: [`WHOLE`], [`APART`], or the place from 1 of the
    /// element that they are in, such as a component.
    pub part: i32,
    /// The value.
    pub value: IndexValue,
}

impl IndexRow {
    /// A value that stands in no element of a list by which composites are told apart.
    pub fn whole(param: impl Into<Cow<'static, str>>, value: IndexValue) -> Self {
        Self { param: param.into(), part: WHOLE, value }
    }
}

/// A value in the form of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexValue {
    /// A token; an empty system means none. An empty code stands for a concept that has a text alone.
    Token {
        /// The system, such as `http://loinc.org`.
        system: String,
        /// The code.
        code: String,
        /// What is said of it in words, normalised: its display, and the text of the concept; one on each line.
        text: String,
    },
    /// A string as it stands in the resource; the store normalises it.
    Text(String),
    /// A span of time.
    Date(DateRange),
    /// A reference; the type is empty for absolute addresses, whose id is the whole address.
    Reference {
        /// FHIR type of the target.
        rtype: String,
        /// Its logical id.
        id: String,
    },
    /// A number, or all from one to another.
    Quantity {
        /// The least.
        lo: Number,
        /// The greatest.
        hi: Number,
        /// System of the unit, such as `http://unitsofmeasure.org`; empty for none, as of numbers.
        system: String,
        /// Code of the unit; empty for none.
        code: String,
        /// The unit in words, if they are not the code; empty otherwise.
        unit: String,
    },
    /// An address.
    Uri(String),
}

fn parameter(rtype: &str, param: &str) -> Option<&'static Parameter> {
    parameters(rtype).find(|parameter| parameter.name == param)
}

/// The kind of a search parameter of a type, or none if it is not indexed. `_id` and `_lastUpdated` are columns of the record itself.
pub fn kind(rtype: &str, param: &str) -> Option<Kind> {
    match param {
        "_id" => Some(Kind::Token),
        "_lastUpdated" => Some(Kind::Date),
        _ => parameter(rtype, param).map(|parameter| parameter.kind),
    }
}

/// The indexed parameters of a type with their kinds, sorted by name, each once.
pub fn indexed(rtype: &str) -> Vec<(&'static str, Kind)> {
    let mut all: Vec<_> = parameters(rtype).map(|parameter| (parameter.name, parameter.kind)).collect();
    all.extend([("_id", Kind::Token), ("_lastUpdated", Kind::Date)]);
    all.sort_by_key(|(name, _)| *name);
    all
}

/// The parameters that the values of a parameter are filed under: itself, unless others have exactly its values together.
pub fn filed(rtype: &str, param: &str) -> Vec<&'static str> {
    parameter(rtype, param).map(|parameter| parameter.filed.clone()).unwrap_or_default()
}

/// Whether no value of a parameter stands in an element of a list, or apart.
pub(crate) fn stands_whole(rtype: &str, param: &str) -> bool {
    let whole = |path: &Path| !path.apart && path.steps.iter().all(|step| !step.counted);
    parameter(rtype, param).is_some_and(|of| !of.paths.is_empty() && of.paths.iter().all(whole))
}

/// The parameters of a composite one, in their order; none for any other.
pub fn parts(rtype: &str, param: &str) -> &'static [&'static str] {
    parameter(rtype, param).map_or(&[], |parameter| &parameter.parts)
}

/// The types that a reference parameter of a type may lead to, sorted; none when it is no reference parameter, or leads to addresses only.
pub fn reference_targets(rtype: &str, param: &str) -> Vec<&'static str> {
    let mut targets = Vec::new();
    for path in parameters(rtype).filter(|of| of.name == param && of.kind == Kind::Reference).flat_map(|of| &of.paths) {
        let mut led = record::fhir::reference_targets(rtype, &path.members());
        if let Some(wanted) = path.target {
            led.retain(|of| *of == wanted);
        }
        targets.append(&mut led);
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The values of one resource under all parameters of its type, each once, sorted.
///
/// A parameter whose values other parameters have together has no rows of its own.
pub fn extract(rtype: &str, resource: &Value) -> Vec<IndexRow> {
    extract_some(rtype, resource, |_| true)
}

/// The same under some parameters, by their names.
pub fn extract_some(rtype: &str, resource: &Value, is_wanted: impl Fn(&str) -> bool) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    for parameter in parameters(rtype).filter(|parameter| is_wanted(parameter.name)) {
        let mut is_there = None;
        for path in &parameter.paths {
            let part = if path.apart { APART } else { WHOLE };
            if path.is_there {
                let there = is_there.get_or_insert(false);
                walk(resource, &path.steps, part, &mut |element, _| *there |= *element != Value::Bool(false));
            } else {
                walk(resource, &path.steps, part, &mut |element, part| read(parameter, path, element, part, &mut rows));
            }
        }
        if let Some(there) = is_there {
            let value = IndexValue::Token { system: String::new(), code: there.to_string(), text: String::new() };
            rows.push(IndexRow { param: Cow::Borrowed(parameter.name), part: WHOLE, value });
        }
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The elements that a path leads to, each with its part.
fn walk(value: &Value, steps: &[Step], part: i32, found: &mut impl FnMut(&Value, i32)) {
    let Some((step, rest)) = steps.split_first() else { return found(value, part) };
    let mut follow = |element: &Value, place: usize| {
        let meant = step.only.is_none_or(|(name, value)| element.get(name).and_then(Value::as_str) == Some(value));
        let part = if step.counted { i32::try_from(place).unwrap_or(APART) } else { part };
        if meant {
            walk(element, rest, part, found);
        }
    };
    match value.get(step.member) {
        Some(Value::Array(items)) => items.iter().zip(1..).for_each(|(item, place)| follow(item, place)),
        Some(Value::Null) | None => {}
        Some(element) => follow(element, 1),
    }
}

fn read(parameter: &Parameter, path: &Path, element: &Value, part: i32, rows: &mut Vec<IndexRow>) {
    let mut push = |value| rows.push(IndexRow { param: Cow::Borrowed(parameter.name), part, value });
    match parameter.kind {
        Kind::Token => {
            tokens(element, &mut push);
            of_type(element, &mut |value| rows.push(IndexRow { param: Cow::Borrowed(parameter.of_type), part, value }));
        }
        Kind::Text => texts(element, &mut |text| push(IndexValue::Text(text.to_owned()))),
        Kind::Date => DateRange::of(element).into_iter().for_each(|range| push(IndexValue::Date(range))),
        Kind::Reference => references(parameter, path.target, element, part, rows),
        Kind::Number | Kind::Quantity => quantity(element).into_iter().for_each(push),
        Kind::Uri => element.as_str().into_iter().for_each(|text| push(IndexValue::Uri(text.to_owned()))),
        // Its parts are filed, each under its own name.
        Kind::Composite => {}
    }
}

/// The parts of names and addresses that are searched.
const TEXT_PARTS: [&str; 11] =
    ["text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "country", "postalCode"];

fn texts(element: &Value, push: &mut impl FnMut(&str)) {
    match element {
        Value::String(text) if !text.is_empty() => push(text),
        Value::Object(fields) => {
            TEXT_PARTS.iter().filter_map(|part| fields.get(*part)).for_each(|part| match part {
                Value::String(text) if !text.is_empty() => push(text),
                Value::Array(items) => items.iter().filter_map(Value::as_str).for_each(&mut *push),
                _ => {}
            });
        }
        _ => {}
    }
}

fn references(parameter: &Parameter, wanted: Option<&str>, element: &Value, part: i32, rows: &mut Vec<IndexRow>) {
    let declared = element.get("type").and_then(Value::as_str);
    let text = element.as_str().or_else(|| element.get("reference").and_then(Value::as_str));
    if let Some(text) = text.filter(|text| leads_somewhere(text)) {
        let (rtype, id) = target(text);
        let shown = rtype.as_deref().or(declared).or_else(|| type_in_address(text));
        if wanted.is_none_or(|wanted| shown == Some(wanted)) {
            let value = IndexValue::Reference { rtype: rtype.unwrap_or_default(), id };
            rows.push(IndexRow { param: Cow::Borrowed(parameter.name), part, value });
        }
    }
    if let Some(identifier) = element.get("identifier")
        && wanted.is_none_or(|wanted| declared.is_none_or(|declared| declared == wanted))
    {
        let param = Cow::Borrowed(parameter.identifier);
        tokens(identifier, &mut |value| rows.push(IndexRow { param: param.clone(), part, value }));
    }
}

/// Whether a reference names something outside of its resource. One with a query is a condition that the writer has not resolved.
fn leads_somewhere(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('#') && !text.contains('?')
}

/// The value that a reference with this text is found by, if it is found by any.
pub fn reference(text: &str) -> Option<IndexValue> {
    leads_somewhere(text).then(|| {
        let (rtype, id) = target(text);
        IndexValue::Reference { rtype: rtype.unwrap_or_default(), id }
    })
}

/// Type and id of a relative reference, its version cut off; of any other no type and the whole text.
pub(crate) fn target(text: &str) -> (Option<String>, String) {
    let whole = text.split_once("/_history/").map_or(text, |(record, _)| record);
    match whole.split_once('/') {
        Some((rtype, id)) if is_type(rtype) && !id.contains('/') => (Some(rtype.to_owned()), id.to_owned()),
        _ => (None, whole.to_owned()),
    }
}

fn type_in_address(text: &str) -> Option<&str> {
    let whole = text.split_once("/_history/").map_or(text, |(record, _)| record);
    whole.rsplit('/').nth(1).filter(|rtype| is_type(rtype))
}

fn is_type(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests;
