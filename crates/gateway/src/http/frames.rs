//! The doors of sensing: devices bound to patients, signed frames, alarms.

use super::{Doors, auth::Known, outcome::Refusal};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::PublicKey;
use exchange::Failure;
use record::{Id16, TimeMs, fhir::IssueType};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bind {
    patient: String,
    key: PublicKey,
    /// Since when the patient has been wearing it, when it was not put on just now.
    since: Option<String>,
}

pub(crate) async fn bind(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(device): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let bind: Bind = serde_json::from_slice(&body)
        .map_err(|e| Failure::invalid(IssueType::Structure, "", format!("the JSON document is wrong: {e}")))?;
    let since = bind.since.as_deref().map(TimeMs::from_instant).transpose();
    let since = since.map_err(|e| Failure::invalid(IssueType::Value, "", format!("`since` is no instant: {e}")))?;
    let binding = doors.node.bind_since(&caller, &device, &bind.patient, bind.key, since).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": binding}))).into_response())
}

pub(crate) async fn unbind(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(device): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.unbind(&caller, &device).await?;
    Ok(Json(json!({"id": device})).into_response())
}

/// A frame needs no token: its own signature says which bound device sent it.
pub(crate) async fn frame(
    State(doors): State<Doors>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body?;
    let digest = doors.node.frame(&body).await?;
    let observation = format!("Observation/{digest}");
    Ok((StatusCode::CREATED, Json(json!({"observation": observation}))).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Of {
    patient: String,
}

pub(crate) async fn alarms(
    State(doors): State<Doors>,
    Known(caller): Known,
    Query(of): Query<Of>,
) -> Result<Response, Refusal> {
    Ok(Json(json!({"alarms": doors.node.alarms(&caller, &of.patient).await?})).into_response())
}

pub(crate) async fn acknowledge(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let alarm: Id16 = id.parse().map_err(|_| Failure::NotFound("this alarm".to_owned()))?;
    doors.node.acknowledge(&caller, alarm).await?;
    Ok(Json(json!({"id": id})).into_response())
}
