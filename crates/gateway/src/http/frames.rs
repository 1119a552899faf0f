//! The doors of sensing: devices bound to patients, signed frames, alarms.

use super::{Doors, auth::Known, outcome::Refusal};
use crate::told::{observation, told};
use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::BytesRejection,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::PublicKey;
use exchange::{FRAMES_AT_ONCE_MAX, Failure, Node};
use futures::{SinkExt as _, StreamExt as _};
use record::{Id16, TimeMs, fhir::IssueType};
use sensing::{FRAME_BYTES_MAX, Frame};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The largest body with frames, in bytes: several share it.
pub(crate) const FRAMES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The content type of frames one after another, RFC 8742.
pub(crate) const SEQUENCE: &str = "application/cbor-seq";
/// So many frames of one WebSocket are taken together.
const SOCKET_AT_ONCE: usize = 64;
/// A WebSocket that is silent for so long is closed; devices send a heartbeat more often.
const SOCKET_IDLE: Duration = Duration::from_secs(300);

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
    let begun = doors.node.bind_since(&caller, &device, &bind.patient, bind.key, since).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": begun.id, "counted": begun.counted}))).into_response())
}

pub(crate) async fn unbind(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(device): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.unbind(&caller, &device).await?;
    Ok(Json(json!({"id": device})).into_response())
}

/// The key of a bound device is not trusted any more.
pub(crate) async fn revoke(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(device): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.revoke(&caller, &device).await?;
    Ok(Json(json!({"id": device})).into_response())
}

/// A frame needs no token: its own signature says which bound device sent it.
pub(crate) async fn frame(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body?;
    if is_sequence(&headers) {
        return several(&doors, &body).await;
    }
    if body.len() > FRAME_BYTES_MAX {
        let text = format!("a frame of {} bytes is larger than this address takes: {FRAME_BYTES_MAX}", body.len());
        return Err(Failure::TooLarge(text).into());
    }
    let digest = doors.node.frame(&body).await?;
    Ok((StatusCode::CREATED, Json(json!({"observation": observation(&digest)}))).into_response())
}

/// Frames one after another, each with an answer of its own.
async fn several(doors: &Doors, body: &[u8]) -> Result<Response, Refusal> {
    let frames = Frame::split(body, FRAMES_AT_ONCE_MAX)
        .map_err(|bad| Failure::invalid(IssueType::Structure, "", bad.to_string()))?;
    let answers = told(&doors.node, frames.into_iter().map(<[u8]>::to_vec).collect()).await;
    let answers: Vec<Value> = answers.into_iter().map(|answer| answer.to_json()).collect();
    Ok(Json(json!({"answers": answers})).into_response())
}

fn is_sequence(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(SEQUENCE))
}

/// Frames in binary messages, as fast as they are answered: whoever sends faster is held up by the connection.
pub(crate) async fn socket(State(doors): State<Doors>, upgrade: WebSocketUpgrade) -> Result<Response, Refusal> {
    let place = doors.sockets.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let upgrade = upgrade.max_message_size(FRAME_BYTES_MAX).max_frame_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        converse(&doors.node, socket).await;
        drop(place);
    }))
}

async fn converse(node: &Node, socket: WebSocket) {
    let (mut to_device, from_device) = socket.split();
    let mut coming = from_device.ready_chunks(SOCKET_AT_ONCE);
    while let Ok(Some(messages)) = tokio::time::timeout(SOCKET_IDLE, coming.next()).await {
        let (mut frames, mut over) = (Vec::with_capacity(messages.len()), false);
        for message in messages {
            match message {
                Ok(Message::Binary(bytes)) => frames.push(bytes.to_vec()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                // A text is no frame: it is answered as bytes that cannot be read.
                Ok(Message::Text(text)) => frames.push(text.as_bytes().to_vec()),
                Ok(Message::Close(_)) | Err(_) => over = true,
            }
        }
        for answer in told(node, frames).await {
            if to_device.feed(Message::Text(answer.to_json().to_string().into())).await.is_err() {
                return;
            }
        }
        if to_device.flush().await.is_err() || over {
            return;
        }
    }
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
    let (alarms, paused) = doors.node.alarms(&caller, &of.patient).await?;
    Ok(Json(json!({"alarms": alarms, "paused": paused})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    patient: String,
    minutes: u32,
}

pub(crate) async fn pause(State(doors): State<Doors>, Known(caller): Known, body: Bytes) -> Result<Response, Refusal> {
    let asked: Pause = super::desk::document(&body)?;
    let paused = doors.node.pause_alarms(&caller, &asked.patient, asked.minutes).await?;
    Ok(Json(json!({"paused": paused})).into_response())
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
