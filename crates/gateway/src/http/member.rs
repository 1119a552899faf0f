//! Membership over HTTP.

use super::{
    Doors,
    auth::Known,
    desk::{created, document, ledger_id},
    outcome::Refusal,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use contract::{Joining, Member, PublicKey, Reach};
use record::OrgId;
use serde::Deserialize;
use serde_json::json;

pub(crate) async fn list(State(doors): State<Doors>) -> Result<Response, Refusal> {
    Ok(Json(doors.node.members().await?).into_response())
}

pub(crate) async fn propose_joining(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Member { org, role, entry_key, consensus_key, wrap_key, address } = document(&body)?;
    let joining = Joining { role, entry_key, consensus_key, reach: Reach { wrap_key, address } };
    Ok(created(doors.node.propose_joining(&caller, org, joining).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removal {
    org: OrgId,
}

pub(crate) async fn propose_removal(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Removal { org } = document(&body)?;
    Ok(created(doors.node.propose_removal(&caller, org).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ballot {
    in_favour: bool,
}

pub(crate) async fn vote(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Ballot { in_favour } = document(&body)?;
    doors.node.vote_on_member(&caller, ledger_id(&id)?, in_favour).await?;
    Ok(Json(json!({"id": id})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    consensus_key: PublicKey,
}

pub(crate) async fn seat(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let Seat { consensus_key } = document(&body)?;
    let decides_from = doors.node.take_seat(&caller, consensus_key).await?;
    Ok(Json(json!({"consensus_key": consensus_key, "decides_from": decides_from})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryKey {
    leaked: bool,
}

pub(crate) async fn entry_key(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<Response, Refusal> {
    let EntryKey { leaked } = document(&body)?;
    let (entry_key, counts_from) = doors.node.rotate_entry_key(&caller, leaked).await?;
    Ok(Json(json!({"entry_key": entry_key, "counts_from": counts_from})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    wrap_key: String,
    address: String,
}

pub(crate) async fn moves(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let Move { wrap_key, address } = document(&body)?;
    doors.node.moves(&caller, Reach { wrap_key, address }).await?;
    Ok(Json(json!({})).into_response())
}

pub(crate) async fn leave(State(doors): State<Doors>, Known(caller): Known) -> Result<Response, Refusal> {
    doors.node.leave(&caller).await?;
    Ok(Json(json!({})).into_response())
}
