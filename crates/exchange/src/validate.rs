//! `$validate`: whether a resource would be accepted, without writing it.
//!
//! Source: FHIR R4 `resource-operation-validate.html`. The resource is the body, or the parameter `resource` of a Parameters.

use crate::{
    failure::Failure,
    ingest::{check, check_type},
    node::Node,
    parameters::part,
};
use record::fhir::{Issue, IssueType, Limits, Outcome, ParseError, Resource};

impl Node {
    /// What is wrong with a resource of a type, as an OperationOutcome; that nothing is, when nothing is.
    pub fn validate(&self, rtype: &str, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        let parse = |bytes: &[u8]| Resource::parse(bytes, Limits::RESOURCE);
        let refused = |error: ParseError| Failure::Invalid(vec![error.into()]);
        let body = parse(bytes).map_err(refused)?;
        let carried = match rtype != "Parameters" && body.rtype() == "Parameters" {
            true => Some(part(&body, "resource", "resource").ok_or_else(missing)?.raw().as_bytes().to_vec()),
            false => None,
        };
        let issues = match carried.as_deref().map(parse).unwrap_or(Ok(body)) {
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

fn missing() -> Failure {
    let text = "a parameter `resource` with what is to be looked at";
    Failure::invalid(IssueType::Required, "Parameters.parameter", text)
}
