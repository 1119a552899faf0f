//! Parameters: the resource that operations are called with. Source: FHIR R4 `parameters.html`.

use crate::failure::Failure;
use record::fhir::{Issue, IssueType, Limits, Node as JsonNode, Resource};
use std::fmt::Write as _;

/// What the first parameter of a name has under a property, such as `resource` or `valueBoolean`.
pub(crate) fn part<'a>(parameters: &'a Resource, name: &str, property: &str) -> Option<JsonNode<'a>> {
    let mut parts = parameters.root().get("parameter").into_iter().flat_map(JsonNode::items);
    parts.find(|part| part.get("name").and_then(JsonNode::as_str).as_deref() == Some(name))?.get(property)
}

/// What a query says, with what a Parameters in `body` says besides: a posted operation is the one that is asked for by an address.
pub fn as_query(query: &str, body: &[u8]) -> Result<String, Failure> {
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    if body.is_empty() {
        return Ok(pairs.join("&"));
    }
    let asked = Resource::parse(body, Limits::RESOURCE).map_err(|e| Failure::Invalid(vec![e.into()]))?;
    if asked.rtype() != "Parameters" {
        return Err(Failure::invalid(IssueType::Invalid, "resourceType", "send Parameters or nothing"));
    }
    for (index, part) in asked.root().get("parameter").into_iter().flat_map(JsonNode::items).enumerate() {
        let refused = |kind, text: &str| {
            Failure::Invalid(vec![Issue::error(kind, text).at(format!("Parameters.parameter[{index}]"))])
        };
        let name = part.get("name").and_then(JsonNode::as_str);
        let name = name.ok_or_else(|| refused(IssueType::Required, "a parameter has a name"))?;
        let mut values = part.members().filter(|(key, _)| key != "name" && key != "id");
        let (Some((key, value)), None) = (values.next(), values.next()) else {
            return Err(refused(IssueType::Invalid, "a parameter has one value here"));
        };
        let text = match value.as_str() {
            Some(text) => text.into_owned(),
            // Numbers and yes or no are written as they are.
            None if value.members().next().is_none() && value.items().next().is_none() => value.raw().to_owned(),
            None => String::new(),
        };
        if !key.starts_with("value") || text.is_empty() {
            return Err(refused(
                IssueType::NotSupported,
                "a parameter has one simple value here, such as `valueString`",
            ));
        }
        pairs.push(format!("{}={}", escaped(&name), escaped(&text)));
    }
    Ok(pairs.join("&"))
}

/// As it may stand in a query. Source: RFC 3986, section 2.3.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' | b':' | b'/' => {
                escaped.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posted_operation_asks_what_its_address_would() {
        let body = br#"{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Observation,Condition"},
            {"name":"_count","valueInteger":20},{"name":"start","valueDate":"2026-01-01"},{"name":"code:text","valueString":"a b&c=\u00e9"},
            {"name":"x","valueBoolean":true}]}"#;
        let expected =
            "max=2&_type=Observation,Condition&_count=20&start=2026-01-01&code:text=a%20b%26c%3D%C3%A9&x=true";
        assert_eq!(as_query("max=2", body).unwrap(), expected);
        assert_eq!(as_query("&max=2", b"").unwrap(), "max=2");
        for wrong in [
            r#"{"resourceType":"Patient"}"#,
            r#"{"resourceType":"Parameters","parameter":[{"valueCode":"x"}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"x"}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"x","valueCode":"x","valueString":"y"}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"x","valueCoding":{"code":"x"}}]}"#,
            r#"{"resourceType":"Parameters","parameter":[{"name":"x","resource":{"resourceType":"Patient"}}]}"#,
            "{",
        ] {
            assert!(matches!(as_query("", wrong.as_bytes()), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}
