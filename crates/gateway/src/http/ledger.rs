//! The doors of the ledger: status, blocks, entries and checkpoints. They show no health data and need no token.

use super::{Doors, outcome::Refusal};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

/// The most entries of one answer.
const ENTRIES_MAX: usize = 1000;

pub(crate) async fn status(State(doors): State<Doors>) -> Result<Response, Refusal> {
    Ok(Json(doors.node.status().await?).into_response())
}

/// The overrides that nobody reviewed, as a file that proves their number.
pub(crate) async fn unreviewed(State(doors): State<Doors>) -> Result<Response, Refusal> {
    let file = doors.node.unreviewed().await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.vitaltrace.evidence+cbor")], Bytes::from(file)).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    from: u64,
    kind: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn entries(State(doors): State<Doors>, Query(page): Query<Page>) -> Result<Response, Refusal> {
    let limit = page.limit.unwrap_or(100).min(ENTRIES_MAX);
    Ok(Json(json!({"entries": doors.node.ledger_entries(page.from, page.kind, limit).await?})).into_response())
}

pub(crate) async fn blame(State(doors): State<Doors>) -> Result<Response, Refusal> {
    let blames = doors.node.blames().await?.into_iter();
    let blames: Vec<_> = blames
        .map(|(blamed, file)| {
            json!({
                "organisation": blamed.organisation, "validator": blamed.validator, "misdeed": blamed.misdeed, "epoch": blamed.epoch, "view": blamed.view,
                "says": blamed.sentence(), "file": hex::encode(file)
            })
        })
        .collect();
    Ok(Json(json!({"blames": blames})).into_response())
}

pub(crate) async fn note(State(doors): State<Doors>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], doors.node.note()).into_response()
}

pub(crate) async fn block(State(doors): State<Doors>, Path(height): Path<u64>) -> Result<Response, Refusal> {
    Ok(Json(doors.node.ledger_block(height).await?).into_response())
}

#[derive(Deserialize)]
pub(crate) struct UpTo {
    height: Option<u64>,
}

pub(crate) async fn checkpoint(State(doors): State<Doors>, Query(up_to): Query<UpTo>) -> Result<Response, Refusal> {
    let file = doors.node.checkpoint(up_to.height).await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.vitaltrace.evidence+cbor")], Bytes::from(file)).into_response())
}
