//! The doors of the desk: overrides, cases, evidence, custody, audit.

use super::{Doors, auth::Known, outcome::Refusal};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Failure, Outcome, Scope};
use record::{Id16, fhir::IssueType};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

/// Reads a small JSON document, and says what is wrong with it.
pub(super) fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|e| Refusal(Failure::invalid(IssueType::Structure, "", format!("the JSON document is wrong: {e}"))))
}

/// Whether bytes are such a document.
pub(super) fn reads<T: DeserializeOwned>(body: &[u8]) -> bool {
    serde_json::from_slice::<T>(body).is_ok()
}

pub(super) fn ledger_id(text: &str) -> Result<Id16, Refusal> {
    text.parse().map_err(|_| Refusal(Failure::NotFound(text.chars().take(64).collect())))
}

pub(super) fn created(id: Id16) -> Response {
    (StatusCode::CREATED, Json(json!({"id": id}))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakGlass {
    patient: String,
    #[serde(default = "other")]
    code: String,
    reason: String,
    minutes: u32,
}

fn other() -> String {
    "other".to_owned()
}

pub(crate) async fn open_override(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let asked: BreakGlass = document(&body)?;
    let reason = exchange::Reason { code: &asked.code, text: &asked.reason };
    let opened = doors.node.open_override(&caller, &asked.patient, reason, asked.minutes).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": opened.id, "until": opened.until.to_instant()}))).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Reviewed {
    reviewed: Option<bool>,
}

pub(crate) async fn overrides(
    State(doors): State<Doors>,
    Known(caller): Known,
    Query(filter): Query<Reviewed>,
) -> Result<Response, Refusal> {
    let list = doors.node.overrides(&caller, filter.reviewed).await?;
    let now = exchange::clock::now();
    let list: Vec<_> = list
        .iter()
        .map(|o| {
            json!({
                "id": o.id, "patient": o.patient, "user": o.user, "code": o.code, "reason": o.reason,
                "opened": o.opened.to_instant(), "until": o.until.to_instant(), "closed": o.closed.map(|at| at.to_instant()),
                "reviewed": o.reviewed, "state": o.state(now), "follow_up": o.follow_up,
                "task": o.task.as_ref().map(|id| format!("Task/{id}"))
            })
        })
        .collect();
    Ok(Json(json!({"overrides": list})).into_response())
}

pub(crate) async fn close_override(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.close_override(&caller, ledger_id(&id)?).await?;
    Ok(Json(json!({"id": id})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Review {
    justified: Option<bool>,
    outcome: Option<Outcome>,
    comment: String,
}

pub(crate) async fn review_override(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let review: Review = document(&body)?;
    let outcome = match (review.outcome, review.justified) {
        (Some(outcome), None) => outcome,
        (None, Some(true)) => Outcome::Justified,
        (None, Some(false)) => Outcome::NotJustified,
        _ => {
            let text = "a review has `outcome` (justified, not-justified or follow-up), or `justified`, and not both";
            return Err(Refusal(Failure::invalid(IssueType::Required, "", text)));
        }
    };
    doors.node.review_override(&caller, ledger_id(&id)?, outcome, &review.comment).await?;
    Ok(Json(json!({"id": id})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    patient: String,
    order: String,
}

pub(crate) async fn open_case(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let order: Order = document(&body)?;
    Ok(created(doors.node.open_case(&caller, &order.patient, &order.order).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conclusion {
    result: String,
}

pub(crate) async fn conclude_case(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let conclusion: Conclusion = document(&body)?;
    doors.node.conclude_case(&caller, ledger_id(&id)?, &conclusion.result).await?;
    Ok(Json(json!({"id": id})).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Asked {
    case: Option<String>,
    through: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Asked {
    fn scope(self) -> Result<Scope, Refusal> {
        let Self { case, through, from, to } = self;
        Ok(Scope { case: case.as_deref().map(ledger_id).transpose()?, through, from, to })
    }
}

pub(crate) async fn evidence(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(patient): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let bundle = doors.node.prove(&caller, &patient, asked.scope()?).await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.vitaltrace.evidence+cbor")], Bytes::from(bundle)).into_response())
}

pub(crate) async fn record_proof(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((rtype, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let file = doors.node.prove_record(&caller, &rtype, &id, asked.scope()?).await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.vitaltrace.evidence+cbor")], Bytes::from(file)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    patient: String,
    reason: String,
}

pub(crate) async fn hold(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let about: About = document(&body)?;
    Ok(created(doors.node.hold(&caller, &about.patient, &about.reason).await?))
}

pub(crate) async fn release(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.release(&caller, ledger_id(&id)?).await?;
    Ok(Json(json!({"id": id})).into_response())
}

pub(crate) async fn erase(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let about: About = document(&body)?;
    Ok(created(doors.node.erase(&caller, &about.patient, &about.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    reason: String,
}

pub(crate) async fn propose_recovery(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let reason: Reason = document(&body)?;
    Ok(created(doors.node.propose_recovery(&caller, &reason.reason).await?))
}

pub(crate) async fn vote(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.vote_recovery(&caller, ledger_id(&id)?).await?;
    Ok(Json(json!({"id": id})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    /// An untrusted backup: a path to an SQLite file on the node's machine, or the address of a database of a PostgreSQL server.
    from: Option<store::Address>,
}

pub(crate) async fn carry_out(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let from: From = document(&body)?;
    let recovered = doors.node.recover(&caller, ledger_id(&id)?, from.from.as_ref()).await?;
    Ok(Json(serde_json::to_value(recovered).unwrap_or_default()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audit {
    #[serde(default)]
    full: bool,
}

pub(crate) async fn audit(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let asked: Audit = document(&body)?;
    let report = doors.node.audit(&caller, asked.full).await?;
    Ok(Json(serde_json::to_value(report).unwrap_or_default()).into_response())
}
