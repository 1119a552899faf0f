//! What the headers of a FHIR request say: versions, preferences, media types.
//!
//! Source: FHIR R4 `http.html`; RFC 7240 (`Prefer`), RFC 9110 (the others).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Request, header},
};
use exchange::{Failure, Handling, names_version};
use record::fhir::{IssueType, JSON_PATCH};

pub(super) const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

/// What the answer to a write shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    Representation,
    Minimal,
    Outcome,
}

/// The version in an ETag.
fn version(etag: &str) -> Option<u64> {
    etag.trim().strip_prefix("W/\"")?.strip_suffix('"')?.parse().ok()
}

/// The version that `If-Match` names.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(version);
    version.map(Some).ok_or_else(|| Failure::invalid(IssueType::Value, "", "If-Match must be of the form W/\"3\""))
}

/// Whether `If-None-Match` names this version: then the caller has it already.
pub(super) fn has_already(headers: &HeaderMap, shown: u64) -> bool {
    let mut lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.any(|line| names_version(line, shown))
}

/// The condition under which a create creates nothing.
pub(super) fn if_none_exist(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(&IF_NONE_EXIST) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Failure::invalid(IssueType::Value, "", "If-None-Exist is not text"))?;
    Ok(Some(text))
}

/// The first value that `Prefer` gives a preference.
fn preference<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split([',', ';'])).filter_map(|one| one.split_once('='));
    let (_, value) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
    Some(value.trim().trim_matches('"'))
}

/// How searches take parameters that are not known. Source: FHIR R4 `search.html#errors`.
pub(super) fn handling(headers: &HeaderMap) -> Handling {
    match preference(headers, "handling") {
        Some("lenient") => Handling::Lenient,
        _ => Handling::Strict,
    }
}

/// Whether the caller comes back for the answer. Source: HL7 Asynchronous Request Pattern.
pub(super) fn comes_back(headers: &HeaderMap) -> bool {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split([',', ';']));
    preferences.any(|one| one.trim().eq_ignore_ascii_case("respond-async"))
}

/// What the caller wants back from a write; the record, unless it says otherwise.
pub(super) fn wanted(headers: &HeaderMap) -> Return {
    match preference(headers, "return") {
        Some("minimal") => Return::Minimal,
        Some("OperationOutcome") => Return::Outcome,
        _ => Return::Representation,
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let essence = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?;
    Some(essence.trim().to_ascii_lowercase())
}

/// Refuses a body that says to be something else than JSON. One that says nothing is taken for JSON.
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), Failure> {
    match media_type(headers).as_deref() {
        None | Some("application/fhir+json" | "application/json" | "text/json") => Ok(()),
        Some(_) => {
            Err(Failure::MediaType("send resources as JSON, with Content-Type: application/fhir+json".to_owned()))
        }
    }
}

/// Refuses a body that says to be something else than a form. One that says nothing is taken for one.
pub(super) fn is_form(headers: &HeaderMap) -> Result<(), Failure> {
    match media_type(headers).as_deref() {
        None | Some("application/x-www-form-urlencoded") => Ok(()),
        Some(_) => Err(Failure::MediaType(
            "send a search as a form, with Content-Type: application/x-www-form-urlencoded".to_owned(),
        )),
    }
}

/// Refuses a body that does not say to be a JSON Patch.
pub(super) fn is_json_patch(headers: &HeaderMap) -> Result<(), Failure> {
    match media_type(headers).as_deref() {
        Some(JSON_PATCH) => Ok(()),
        _ => Err(Failure::MediaType(format!("send patches as JSON Patch (RFC 6902), with Content-Type: {JSON_PATCH}"))),
    }
}

/// Whether the caller takes JSON: `_format` is asked before `Accept`. Source: FHIR R4 `http.html#mime-type`.
fn takes_json(query: &str, headers: &HeaderMap) -> bool {
    const TAKEN: [&str; 6] = ["*/*", "application/*", "application/json", "application/fhir+json", "text/json", "json"];
    let taken = |essence: &str| TAKEN.contains(&essence.trim().to_ascii_lowercase().as_str());
    let mut formats = query.split('&').filter_map(|pair| pair.strip_prefix("_format="));
    if let Some(format) = formats.next() {
        let format = format.replace("%2F", "/").replace("%2f", "/").replace("%2B", "+").replace("%2b", "+");
        // A plus that was not escaped reads as a blank.
        return taken(&format.replace(' ', "+"));
    }
    let lines: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut ranges = lines.iter().flat_map(|line| line.split(',')).filter_map(|range| range.split(';').next());
    lines.is_empty() || ranges.any(taken)
}

/// Whether the caller could read the answer to a FHIR request.
pub(super) fn takes_what_is_there(request: &Request<Body>) -> bool {
    let uri = request.uri();
    // Files of exports are no JSON documents.
    !uri.path().starts_with("/fhir")
        || (uri.path().starts_with("/fhir/$export/") && uri.path().ends_with(".ndjson"))
        || takes_json(uri.query().unwrap_or_default(), request.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, values: &[&str]) -> HeaderMap {
        let name: HeaderName = name.parse().unwrap();
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn preferences_are_found_among_others() {
        let both = with("prefer", &["respond-async, handling=lenient", "return=\"minimal\"; wait=3"]);
        assert_eq!((handling(&both), wanted(&both)), (Handling::Lenient, Return::Minimal));
        let other = with("prefer", &["Return=OperationOutcome, return=minimal"]);
        assert_eq!((handling(&other), wanted(&other)), (Handling::Strict, Return::Outcome));
        assert_eq!(wanted(&HeaderMap::new()), Return::Representation);
    }

    #[test]
    fn versions_are_weak_etags() {
        assert_eq!(if_match(&with("if-match", &["W/\"3\""])), Ok(Some(3)));
        assert_eq!(if_match(&HeaderMap::new()), Ok(None));
        for wrong in ["3", "\"3\"", "W/\"x\"", "*"] {
            assert!(if_match(&with("if-match", &[wrong])).is_err(), "{wrong}");
        }
        let known = with("if-none-match", &["W/\"1\", W/\"2\""]);
        assert!(has_already(&known, 2) && !has_already(&known, 3));
        let known = with("if-none-match", &["W/\"1\"", "W/\"2\""]);
        assert!(has_already(&known, 2) && !has_already(&known, 3));
        assert!(has_already(&with("if-none-match", &["*"]), 3) && !has_already(&HeaderMap::new(), 3));
    }

    #[test]
    fn answers_are_in_json_or_refused() {
        let accepts = |values: &[&str]| takes_json("", &with("accept", values));
        assert!(takes_json("", &HeaderMap::new()));
        for taken in ["application/fhir+json", "application/json;q=0.5", "text/html, */*;q=0.8", "application/*"] {
            assert!(accepts(&[taken]), "{taken}");
        }
        assert!(accepts(&["application/fhir+xml", "application/fhir+json"]));
        for refused in ["application/fhir+xml", "text/html"] {
            assert!(!accepts(&[refused]), "{refused}");
        }
        let xml = with("accept", &["application/fhir+xml"]);
        for json in ["_format=json", "a=b&_format=application%2Ffhir%2Bjson", "_format=application/fhir+json"] {
            assert!(takes_json(json, &xml), "{json}");
        }
        assert!(!takes_json("_format=xml", &HeaderMap::new()));
    }

    #[test]
    fn bodies_say_what_they_are() {
        let says = |value: &str| with("content-type", &[value]);
        for json in ["application/fhir+json; charset=utf-8", "application/json", "text/json"] {
            assert_eq!(is_json(&says(json)), Ok(()), "{json}");
            assert!(is_json_patch(&says(json)).is_err(), "{json}");
        }
        assert_eq!(is_json(&HeaderMap::new()), Ok(()));
        assert!(is_json(&says("application/fhir+xml")).is_err());
        assert_eq!(is_form(&says("application/x-www-form-urlencoded; charset=utf-8")), Ok(()));
        assert_eq!(is_form(&HeaderMap::new()), Ok(()));
        assert!(is_form(&says("application/fhir+json")).is_err());
        assert_eq!(is_json_patch(&says("Application/JSON-Patch+json")), Ok(()));
        assert!(is_json_patch(&HeaderMap::new()).is_err());
    }
}
