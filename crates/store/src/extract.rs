//! Extraction: the values that a resource is found by.
//!
//! Driven by one table ([`kind`] looks a parameter up in it). Elements that have not the form of their type are passed over: what is
//! admitted is decided elsewhere, and a value that cannot be read cannot be found. References into the resource itself are not indexed.

mod date;
mod table;
mod text;

pub use date::DateRange;
pub(crate) use text::cut;
pub use text::{INDEX_TEXT_BYTES_MAX, normalise};

use serde_json::{Map, Value};
use std::{borrow::Cow, collections::HashMap, sync::LazyLock};
use table::Parameter;

/// What form the values of a search parameter have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// System and code.
    Token,
    /// Free text; FHIR calls it string.
    Text,
    /// A span of time.
    Date,
    /// Another record.
    Reference,
}

/// One value under one search parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexRow {
    /// The parameter; the logical identifiers of a reference parameter `p` stand under `p:identifier`.
    pub param: Cow<'static, str>,
    /// The value.
    pub value: IndexValue,
}

/// A value in the form of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexValue {
    /// A token; an empty system means none.
    Token {
        /// The system, such as `http://loinc.org`.
        system: String,
        /// The code.
        code: String,
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
}

static BY_TYPE: LazyLock<HashMap<&'static str, &'static [Parameter]>> =
    LazyLock::new(|| table::TYPES.iter().copied().collect());

fn parameters(rtype: &str) -> impl Iterator<Item = &'static Parameter> {
    table::EVERY_TYPE.iter().chain(BY_TYPE.get(rtype).copied().unwrap_or_default())
}

/// The kind of a search parameter of a type, or none if it is not indexed. `_id` and `_lastUpdated` are columns of the record itself.
pub fn kind(rtype: &str, param: &str) -> Option<Kind> {
    match param {
        "_id" => Some(Kind::Token),
        "_lastUpdated" => Some(Kind::Date),
        _ => parameters(rtype).find(|parameter| parameter.name == param).map(|parameter| parameter.kind),
    }
}

/// The indexed parameters of a type with their kinds, sorted by name, each once.
pub fn indexed(rtype: &str) -> Vec<(&'static str, Kind)> {
    let mut all: Vec<_> = parameters(rtype).map(|parameter| (parameter.name, parameter.kind)).collect();
    all.extend([("_id", Kind::Token), ("_lastUpdated", Kind::Date)]);
    all.sort_by_key(|(name, _)| *name);
    all.dedup_by_key(|(name, _)| *name);
    all
}

/// The types that a reference parameter of a type may lead to, sorted; none when it is no reference parameter, or leads to addresses only.
pub fn reference_targets(rtype: &str, param: &str) -> Vec<&'static str> {
    let mut targets = Vec::new();
    for parameter in parameters(rtype).filter(|of| of.name == param && of.kind == Kind::Reference) {
        let (path, filter) = filter(parameter.path);
        let mut led = record::fhir::reference_targets(rtype, path);
        if let Filter::TargetType(wanted) = filter {
            led.retain(|of| *of == wanted);
        }
        targets.append(&mut led);
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The values of one resource under all parameters of its type, each once, sorted.
pub fn extract(rtype: &str, resource: &Value) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    for parameter in parameters(rtype) {
        let (path, filter) = filter(parameter.path);
        walk(resource, path, &mut |element| read(parameter, filter, element, &mut rows));
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Keeps some of the elements that a path leads to.
#[derive(Clone, Copy)]
enum Filter<'a> {
    All,
    TargetType(&'a str),
    ContactSystem(&'a str),
}

fn filter(path: &str) -> (&str, Filter<'_>) {
    if let Some((path, rtype)) = path.split_once(':') {
        (path, Filter::TargetType(rtype))
    } else if let Some((path, system)) = path.split_once('=') {
        (path, Filter::ContactSystem(system))
    } else {
        (path, Filter::All)
    }
}

fn walk(value: &Value, path: &str, found: &mut impl FnMut(&Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, found)),
        _ if path.is_empty() => found(value),
        Value::Object(element) => {
            let (name, rest) = path.split_once('.').unwrap_or((path, ""));
            match name.split_once('[') {
                None => element.get(name).into_iter().for_each(|value| walk(value, rest, found)),
                Some((choice, types)) => {
                    chosen(element, choice, types.trim_end_matches(']')).for_each(|value| walk(value, rest, found))
                }
            }
        }
        _ => {}
    }
}

/// The values of a choice element: `effective` and `x` find `effectivePeriod`, with `Period` only that.
fn chosen<'a>(element: &'a Map<String, Value>, choice: &'a str, types: &'a str) -> impl Iterator<Item = &'a Value> {
    element.iter().filter_map(move |(name, value)| {
        let suffix = name.strip_prefix(choice)?;
        let fits = if types == "x" { suffix.starts_with(|c: char| c.is_ascii_uppercase()) } else { suffix == types };
        fits.then_some(value)
    })
}

fn read(parameter: &Parameter, filter: Filter<'_>, element: &Value, rows: &mut Vec<IndexRow>) {
    let mut push = |value| rows.push(IndexRow { param: Cow::Borrowed(parameter.name), value });
    match parameter.kind {
        Kind::Token => {
            let contact_system = element.get("system").and_then(Value::as_str);
            if !matches!(filter, Filter::ContactSystem(wanted) if contact_system != Some(wanted)) {
                tokens(element, &mut push);
            }
        }
        Kind::Text => texts(element, &mut |text| push(IndexValue::Text(text.to_owned()))),
        Kind::Date => DateRange::of(element).into_iter().for_each(|range| push(IndexValue::Date(range))),
        Kind::Reference => {
            let wanted = if let Filter::TargetType(rtype) = filter { Some(rtype) } else { None };
            references(parameter.name, wanted, element, rows);
        }
    }
}

/// Systems of contact points; those of identifiers are addresses, which have a colon.
const CONTACT_SYSTEMS: [&str; 7] = ["phone", "fax", "email", "pager", "url", "sms", "other"];

fn tokens(element: &Value, push: &mut impl FnMut(IndexValue)) {
    let mut token = |system: &str, code: &str| {
        if !code.is_empty() {
            push(IndexValue::Token { system: system.to_owned(), code: code.to_owned() });
        }
    };
    match element {
        Value::String(code) => token("", code),
        Value::Bool(flag) => token("", if *flag { "true" } else { "false" }),
        Value::Object(fields) => {
            let text = |name| fields.get(name).and_then(Value::as_str);
            let system = text("system").unwrap_or_default();
            if let Some(Value::Array(codings)) = fields.get("coding") {
                codings.iter().for_each(|coding| tokens(coding, push));
            } else if let Some(code) = text("code") {
                token(system, code);
            } else if let Some(value) = text("value") {
                token(if CONTACT_SYSTEMS.contains(&system) { "" } else { system }, value);
            }
        }
        _ => {}
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

fn references(param: &'static str, wanted: Option<&str>, element: &Value, rows: &mut Vec<IndexRow>) {
    let declared = element.get("type").and_then(Value::as_str);
    let text = element.as_str().or_else(|| element.get("reference").and_then(Value::as_str));
    // A reference with a query is a condition that the writer has not resolved.
    if let Some(text) = text.filter(|text| !text.is_empty() && !text.starts_with('#') && !text.contains('?')) {
        let (rtype, id) = target(text);
        let shown = rtype.as_deref().or(declared).or_else(|| type_in_address(text));
        if wanted.is_none_or(|wanted| shown == Some(wanted)) {
            let value = IndexValue::Reference { rtype: rtype.unwrap_or_default(), id };
            rows.push(IndexRow { param: Cow::Borrowed(param), value });
        }
    }
    if let Some(identifier) = element.get("identifier")
        && wanted.is_none_or(|wanted| declared.is_none_or(|declared| declared == wanted))
    {
        let param: Cow<'static, str> = Cow::Owned(format!("{param}:identifier"));
        tokens(identifier, &mut |value| rows.push(IndexRow { param: param.clone(), value }));
    }
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
