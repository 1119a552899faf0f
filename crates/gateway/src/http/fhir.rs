//! The FHIR R4 doors: every one takes a caller, asks the path, and shows what came back.

use super::{
    Doors,
    auth::Known,
    outcome::{FHIR_JSON, Refusal},
};
use axum::{
    body::Bytes,
    extract::{Path, RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Failure, Handling, Shown, Written};
use record::fhir::IssueType;

type Body = Result<Bytes, BytesRejection>;
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

fn shown(status: StatusCode, shown: Shown) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, FHIR_JSON)], Bytes::from(shown.bytes)).into_response();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("W/\"{}\"", shown.version)) {
        headers.insert(header::ETAG, etag);
    }
    if shown.pending {
        headers.insert("x-vitaltrace-state", HeaderValue::from_static("pending"));
    }
    if shown.repaired {
        headers.insert("x-vitaltrace-state", HeaderValue::from_static("repaired"));
    }
    response
}

fn written(written: Written) -> Response {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/fhir/{}/_history/{}", written.record, written.shown.version);
    let mut response = shown(status, written.shown);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn plain(bytes: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, FHIR_JSON)], Bytes::from(bytes)).into_response()
}

/// The version that `If-Match` names.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|v| v.trim().strip_prefix("W/\"")?.strip_suffix('"')?.parse().ok());
    version.map(Some).ok_or_else(|| Failure::invalid(IssueType::Value, "", "If-Match must be of the form W/\"3\""))
}

/// The first `handling` that `Prefer` names; what else stands there is not for searches. Source: RFC 7240, FHIR R4 `search.html#errors`.
fn handling(headers: &HeaderMap) -> Handling {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split([',', ';'])).filter_map(|one| one.split_once('='));
    let named = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("handling"));
    match named.map(|(_, value)| value.trim().trim_matches('"')) {
        Some("lenient") => Handling::Lenient,
        _ => Handling::Strict,
    }
}

pub(crate) async fn create(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let condition = match headers.get(&IF_NONE_EXIST) {
        Some(value) => {
            let text =
                value.to_str().map_err(|_| Failure::invalid(IssueType::Value, "", "If-None-Exist is not text"))?;
            Some(text.to_owned())
        }
        None => None,
    };
    let body = body?;
    Ok(written(doors.node.create(&caller, &kind, &body, condition.as_deref()).await?))
}

pub(crate) async fn update(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let expected = if_match(&headers)?;
    let body = body?;
    Ok(written(doors.node.update(&caller, &kind, &id, &body, expected).await?))
}

pub(crate) async fn delete(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    doors.node.delete(&caller, &kind, &id, if_match(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn bundle(State(doors): State<Doors>, Known(caller): Known, body: Body) -> Result<Response, Refusal> {
    let body = body?;
    Ok(plain(doors.node.bundle(&caller, &body).await?))
}

pub(crate) async fn read(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(shown(StatusCode::OK, doors.node.read(&caller, &kind, &id, None).await?))
}

pub(crate) async fn vread(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id, version)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let version = version.parse().map_err(|_| Failure::NotFound(format!("{kind}/{id}/_history/{version}")))?;
    Ok(shown(StatusCode::OK, doors.node.read(&caller, &kind, &id, Some(version)).await?))
}

pub(crate) async fn history(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.history(&caller, &kind, &id).await?))
}

pub(crate) async fn search(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.as_deref().unwrap_or_default();
    Ok(plain(doors.node.search(&caller, &kind, query, handling(&headers)).await?))
}

pub(crate) async fn search_by_form(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = body?;
    let query =
        std::str::from_utf8(&body).map_err(|_| Failure::invalid(IssueType::Structure, "", "the form is not UTF-8"))?;
    Ok(plain(doors.node.search(&caller, &kind, query, handling(&headers)).await?))
}

pub(crate) async fn summary(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.summary(&caller, &id).await?))
}

pub(crate) async fn provenance(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(axum::Json(doors.node.provenance(&caller, &kind, &id).await?).into_response())
}

pub(crate) async fn metadata(State(doors): State<Doors>) -> Response {
    plain(doors.node.metadata())
}
