//! `$validate`: whether a resource would be accepted, without writing it.
//!
//! Source: FHIR R4 `resource-operation-validate.html`. The resource is the body, or the parameter `resource` of a Parameters.

use crate::{
    failure::Failure,
    ingest::{check, check_type},
    node::Node,
};
use record::fhir::{Issue, IssueType, Limits, Node as JsonNode, Outcome, ParseError, Resource};

impl Node {
    /// What is wrong with a resource of a type, as an OperationOutcome; that nothing is, when nothing is.
    pub fn validate(&self, rtype: &str, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        let parse = |bytes: &[u8]| Resource::parse(bytes, Limits::RESOURCE);
        let refused = |error: ParseError| Failure::Invalid(vec![error.into()]);
        let body = parse(bytes).map_err(refused)?;
        let inner = if rtype != "Parameters" && body.rtype() == "Parameters" { inner(&body)? } else { None };
        let issues = match inner.as_deref().map(parse).unwrap_or(Ok(body)) {
            Err(error) => vec![Issue::from(error)],
            Ok(resource) if resource.rtype() != rtype => {
                let text = format!("the address says `{rtype}` and the resource is a `{}`", resource.rtype().as_str());
                vec![Issue::error(IssueType::Invalid, text).at("resourceType")]
            }
            Ok(resource) => match check(&resource) {
                Err(Failure::Invalid(issues)) => issues,
                Err(failure) => return Err(failure),
                Ok(()) => Vec::new(),
            },
        };
        let good =
            || Issue::information("the resource is what FHIR R4 demands of its type; profiles are not looked at");
        Ok(Outcome::of(issues).unwrap_or_else(|| Outcome::new(good())).to_json().into_bytes())
    }
}

/// The text of the resource that a Parameters carries.
fn inner(parameters: &Resource) -> Result<Option<Vec<u8>>, Failure> {
    let named = |part: &JsonNode<'_>| part.get("name").and_then(JsonNode::as_str).as_deref() == Some("resource");
    let part = parameters.root().get("parameter").into_iter().flat_map(JsonNode::items).find(named);
    let resource = part.and_then(|part| part.get("resource"));
    let missing = || {
        Failure::invalid(
            IssueType::Required,
            "Parameters.parameter",
            "a parameter `resource` with what is to be looked at",
        )
    };
    resource.map(|resource| Some(resource.raw().as_bytes().to_vec())).ok_or_else(missing)
}
