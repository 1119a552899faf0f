//! The FHIR R4 doors: every one takes a caller, asks the path, and shows what came back.

use super::{
    Doors,
    auth::Known,
    headers::{self, Return},
    outcome::{FHIR_JSON, Refusal},
};
use axum::{
    body::Bytes,
    extract::{Path, RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Caller, Failure, Shown, Within, Written};
use record::fhir::{Issue, IssueType, Outcome};

pub(super) type Body = Result<Bytes, BytesRejection>;

fn shown(status: StatusCode, shown: Shown) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, FHIR_JSON)], Bytes::from(shown.bytes)).into_response();
    let headers = response.headers_mut();
    let says =
        [(header::ETAG, format!("W/\"{}\"", shown.version)), (header::LAST_MODIFIED, shown.written_at.to_http_date())];
    headers.extend(says.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))));
    if shown.pending {
        headers.insert("x-vitaltrace-state", HeaderValue::from_static("pending"));
    }
    if shown.repaired {
        headers.insert("x-vitaltrace-state", HeaderValue::from_static("repaired"));
    }
    response
}

/// A record that was read; without it, if the caller has this version already.
fn read_or_known(headers: &HeaderMap, read: Shown) -> Response {
    let known = headers::has_already(headers, read.version);
    let mut response = shown(StatusCode::OK, read);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}

fn written(caller: &Caller, headers: &HeaderMap, written: Written) -> Response {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let version = format!("{}/_history/{}", written.record, written.shown.version);
    let mut response = shown(status, written.shown);
    match headers::wanted(headers) {
        Return::Representation => {}
        Return::Minimal => {
            response.headers_mut().remove(header::CONTENT_TYPE);
            *response.body_mut() = axum::body::Body::empty();
        }
        Return::Outcome => {
            let outcome = Outcome::new(Issue::information(format!("`{version}` is the current version")));
            *response.body_mut() = outcome.to_json().into();
        }
    }
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{version}", caller.base)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

pub(super) fn plain(bytes: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, FHIR_JSON)], Bytes::from(bytes)).into_response()
}

/// What must match nothing for a record to be created: R4's header, or the query that fhirpy and other clients of Aidbox add to the
/// address instead.
fn condition(headers: &HeaderMap, query: &str) -> Result<Option<String>, Failure> {
    let about_form = |pair: &&str| ["_format", "_pretty"].contains(&pair.split('=').next().unwrap_or_default());
    let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !about_form(pair)).collect();
    match headers::if_none_exist(headers)? {
        Some(_) if !pairs.is_empty() => {
            let text = "say the condition either by If-None-Exist or by the address, not by both";
            Err(Failure::invalid(IssueType::Invalid, "", text))
        }
        Some(condition) => Ok(Some(condition.to_owned())),
        None if pairs.is_empty() => Ok(None),
        None => Ok(Some(pairs.join("&"))),
    }
}

pub(crate) async fn create(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let condition = condition(&headers, query.as_deref().unwrap_or_default())?;
    headers::is_json(&headers)?;
    let body = body?;
    Ok(written(&caller, &headers, doors.node.create(&caller, &kind, &body, condition.as_deref()).await?))
}

pub(crate) async fn update(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let expected = headers::if_match(&headers)?;
    headers::is_json(&headers)?;
    let body = body?;
    Ok(written(&caller, &headers, doors.node.update(&caller, &kind, &id, &body, expected).await?))
}

pub(crate) async fn update_matching(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (query, expected) = (query.unwrap_or_default(), headers::if_match(&headers)?);
    headers::is_json(&headers)?;
    let body = body?;
    Ok(written(&caller, &headers, doors.node.update_matching(&caller, &kind, &query, &body, expected).await?))
}

pub(crate) async fn patch(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let expected = headers::if_match(&headers)?;
    headers::is_json_patch(&headers)?;
    let body = body?;
    Ok(written(&caller, &headers, doors.node.patch(&caller, &kind, &id, &body, expected).await?))
}

pub(crate) async fn patch_matching(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (query, expected) = (query.unwrap_or_default(), headers::if_match(&headers)?);
    headers::is_json_patch(&headers)?;
    let body = body?;
    Ok(written(&caller, &headers, doors.node.patch_matching(&caller, &kind, &query, &body, expected).await?))
}

pub(crate) async fn delete(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    doors.node.delete(&caller, &kind, &id, headers::if_match(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn delete_matching(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (query, expected) = (query.unwrap_or_default(), headers::if_match(&headers)?);
    doors.node.delete_matching(&caller, &kind, &query, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn bundle(
    State(doors): State<Doors>,
    Known(caller): Known,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_json(&headers)?;
    let body = body?;
    Ok(plain(doors.node.bundle(&caller, &body).await?))
}

pub(crate) async fn read(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Ok(read_or_known(&headers, doors.node.read(&caller, &kind, &id, None).await?))
}

pub(crate) async fn vread(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id, version)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = version.parse().map_err(|_| Failure::NotFound(format!("{kind}/{id}/_history/{version}")))?;
    Ok(read_or_known(&headers, doors.node.read(&caller, &kind, &id, Some(version)).await?))
}

pub(crate) async fn history(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.history(&caller, &kind, &id, &query.unwrap_or_default()).await?))
}

pub(crate) async fn history_of_type(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.history_of(&caller, Some(&kind), &query.unwrap_or_default()).await?))
}

pub(crate) async fn history_of_all(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.history_of(&caller, None, &query.unwrap_or_default()).await?))
}

pub(crate) async fn search(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.as_deref().unwrap_or_default();
    Ok(plain(doors.node.search(&caller, &kind, query, headers::handling(&headers)).await?))
}

pub(crate) async fn search_of(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id, sought)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.as_deref().unwrap_or_default();
    let within = Within { rtype: kind, id };
    Ok(plain(doors.node.search_of(&caller, &within, &sought, query, headers::handling(&headers)).await?))
}

pub(crate) async fn search_all(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.as_deref().unwrap_or_default();
    Ok(plain(doors.node.search_all(&caller, query, headers::handling(&headers)).await?))
}

pub(crate) async fn search_by_form(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_form(&headers)?;
    let body = body?;
    Ok(plain(doors.node.search(&caller, &kind, form(&body)?, headers::handling(&headers)).await?))
}

pub(crate) async fn search_of_by_form(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id, sought)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_form(&headers)?;
    let body = body?;
    let within = Within { rtype: kind, id };
    Ok(plain(doors.node.search_of(&caller, &within, &sought, form(&body)?, headers::handling(&headers)).await?))
}

pub(crate) async fn search_all_by_form(
    State(doors): State<Doors>,
    Known(caller): Known,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_form(&headers)?;
    let body = body?;
    Ok(plain(doors.node.search_all(&caller, form(&body)?, headers::handling(&headers)).await?))
}

/// The query that a form asks by.
fn form(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|_| Failure::invalid(IssueType::Structure, "", "the form is not UTF-8"))
}

pub(crate) async fn summary(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.summary(&caller, &id).await?))
}

pub(crate) async fn everything(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.everything(&caller, &id, &query.unwrap_or_default()).await?))
}

pub(crate) async fn lastn(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    Ok(plain(doors.node.lastn(&caller, &query, headers::handling(&headers)).await?))
}

pub(crate) async fn same_person(
    State(doors): State<Doors>,
    Known(caller): Known,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_json(&headers)?;
    let body = body?;
    Ok(plain(doors.node.same_person(&caller, &body).await?))
}

pub(crate) async fn validate(
    State(doors): State<Doors>,
    Known(_): Known,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    headers::is_json(&headers)?;
    let body = body?;
    Ok(plain(doors.node.validate(&kind, &body)?))
}

/// The same, posted.
pub(crate) async fn everything_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(plain(doors.node.everything(&caller, &id, &query).await?))
}

/// The same, posted.
pub(crate) async fn lastn_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(plain(doors.node.lastn(&caller, &query, headers::handling(&headers)).await?))
}

/// What a posted operation asks for.
pub(super) fn asked_by_post(query: Option<String>, headers: &HeaderMap, body: &[u8]) -> Result<String, Failure> {
    if !body.is_empty() {
        headers::is_json(headers)?;
    }
    exchange::as_query(&query.unwrap_or_default(), body)
}

/// Operations are posted as a rule; this one takes no parameters.
pub(crate) async fn summary_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if !asked_by_post(None, &headers, &body?)?.is_empty() {
        let text = "`$summary` takes no parameters here: send none";
        return Err(Failure::invalid(IssueType::NotSupported, "Parameters.parameter", text).into());
    }
    Ok(plain(doors.node.summary(&caller, &id).await?))
}

pub(crate) async fn provenance(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(axum::Json(doors.node.provenance(&caller, &kind, &id).await?).into_response())
}

/// Who wrote a record, as a FHIR Provenance.
pub(crate) async fn fhir_provenance(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.fhir_provenance(&caller, &kind, &id).await?))
}

#[derive(serde::Deserialize)]
pub(crate) struct As {
    #[serde(rename = "as")]
    form: Option<String>,
}

/// Who saw a patient's records.
pub(crate) async fn accounting(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    axum::extract::Query(asked): axum::extract::Query<As>,
) -> Result<Response, Refusal> {
    let accounting = doors.node.accounting(&caller, &id).await?;
    Ok(match asked.form.as_deref() {
        Some("text") => accounting.text().into_response(),
        _ => axum::Json(accounting).into_response(),
    })
}

pub(crate) async fn metadata(State(doors): State<Doors>, headers: HeaderMap) -> Response {
    let auth = format!("{}/auth", doors.base.origin_of(&headers));
    plain(doors.node.metadata(&doors.base.of(&headers), &auth))
}
