//! The door of replays: whether a result of analytics comes out again.

use super::{Doors, auth::Known, outcome::Refusal};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Asked {
    run: Option<bool>,
}

pub(crate) async fn replay(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let replayed = doors.node.replay(&caller, &kind, &id, asked.run.unwrap_or(false)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(replayed)).into_response())
}
