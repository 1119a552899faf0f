//! The doors of policies: shown to everybody, proposed and voted by custodians. Documents hold no health data.

use super::{Doors, auth::Known, outcome::Refusal};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::PolicyKind;
use exchange::{Failure, When};
use record::{Digest, fhir::IssueType};
use serde::Deserialize;
use serde_json::json;

/// The header that says of which kind a document is.
pub(crate) const POLICY_KIND: &str = "x-policy-kind";

pub(crate) async fn list(State(doors): State<Doors>) -> Result<Response, Refusal> {
    Ok(Json(doors.node.policies_shown().await?).into_response())
}

pub(crate) async fn document(State(doors): State<Doors>, Path(digest): Path<String>) -> Result<Response, Refusal> {
    let (kind, bytes) = doors.node.policy_document(named(&digest)?).await?;
    let headers = [(header::CONTENT_TYPE.as_str(), "application/octet-stream"), (POLICY_KIND, kind_name(kind))];
    Ok((headers, Bytes::from(bytes)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proposal {
    kind: String,
    at: Option<u64>,
    #[serde(rename = "in")]
    blocks: Option<u64>,
}

pub(crate) async fn propose(
    State(doors): State<Doors>,
    Known(caller): Known,
    Query(asked): Query<Proposal>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let wrong = |text: &str| Refusal(Failure::invalid(IssueType::Invalid, "", text));
    let kind = match asked.kind.as_str() {
        "access" => PolicyKind::Access,
        "derivation" => PolicyKind::Derivation,
        _ => return Err(wrong("`kind` is `access` or `derivation`")),
    };
    let when = match (asked.at, asked.blocks) {
        (Some(height), None) => When::At(height),
        (None, Some(blocks)) => When::In(blocks),
        _ => return Err(wrong("say either `at` which height or `in` how many blocks")),
    };
    let made = doors.node.propose_policy(&caller, kind, &body, when).await?;
    let made = json!({"kind": kind_name(kind), "document": made.document, "height": made.height});
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vote {
    yes: bool,
}

pub(crate) async fn vote(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(digest): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let vote: Vote = super::desk::document(&body)?;
    let kind = doors.node.vote_policy(&caller, named(&digest)?, vote.yes).await?;
    Ok(Json(json!({"kind": kind_name(kind), "document": digest, "yes": vote.yes})).into_response())
}

fn named(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal(Failure::NotFound(text.chars().take(64).collect())))
}

fn kind_name(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Access => "access",
        PolicyKind::Derivation => "derivation",
    }
}
