//! The doors of exports: asked for, looked after, fetched, taken away.
//!
//! Source: HL7 Bulk Data Access 2.0.

use super::{Doors, auth::Known, desk::ledger_id, headers, outcome::Refusal};
use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use exchange::{Caller, ExportFile, ExportScope, ExportState, Failure};
use futures::{Stream, stream};
use record::{Id16, fhir::IssueType};
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt as _};

/// The content type of a file.
pub(super) const NDJSON: &str = "application/fhir+ndjson";
/// Nobody between keeps what is fetched.
const NO_STORE: &str = "no-store";
/// Says in words how far an export is.
const X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");
/// Bytes of a file that are read together.
const CHUNK_BYTES: usize = 64 << 10;
/// Seconds after which it is worth asking again.
const RETRY_AFTER_S: &str = "1";

pub(crate) async fn all(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    begin(&doors, &caller, ExportScope::System, "$export", query, &headers).await
}

pub(crate) async fn patients(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    begin(&doors, &caller, ExportScope::Patients, "Patient/$export", query, &headers).await
}

pub(crate) async fn group(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = format!("Group/{id}/$export");
    begin(&doors, &caller, ExportScope::Group(id), &path, query, &headers).await
}

async fn begin(
    doors: &Doors,
    caller: &Caller,
    scope: ExportScope,
    path: &str,
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    if !headers::comes_back(headers) {
        let text = "an export takes its time: ask for it with the header `Prefer: respond-async`";
        return Err(Refusal(Failure::invalid(IssueType::Required, "", text)));
    }
    let query = query.unwrap_or_default();
    let mark = if query.is_empty() { "" } else { "?" };
    let goes_on = super::auth::goes_on(headers, doors)?;
    let id = doors.node.start_export(caller, scope, &format!("{path}{mark}{query}"), &query, goes_on).await?;
    Ok((StatusCode::ACCEPTED, [(header::CONTENT_LOCATION, address(caller, id))]).into_response())
}

fn address(caller: &Caller, id: Id16) -> String {
    format!("{}/$export/{id}", caller.base)
}

pub(crate) async fn state(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = ledger_id(&id)?;
    let export = doors.node.export_state(&caller, id)?;
    match export.state {
        ExportState::Running(done, of) => {
            // How many patients there are is nobody's to know by this.
            let said = format!("{} %", done * 100 / of.max(1));
            let headers = [(X_PROGRESS, said), (header::RETRY_AFTER, RETRY_AFTER_S.to_owned())];
            Ok((StatusCode::ACCEPTED, headers).into_response())
        }
        ExportState::Failed(why) => Err(Refusal(Failure::Conflict(format!("the export came to nothing: {why}")))),
        ExportState::Done { files, errors, until } => {
            let listed = |files: &[ExportFile]| files.iter().map(|file| of_file(&caller, id, file)).collect::<Vec<_>>();
            let manifest = json!({
                "transactionTime": export.begun.to_instant(), "request": format!("{}/{}", caller.base, export.request),
                "requiresAccessToken": true, "output": listed(&files), "error": listed(errors.as_slice())
            });
            let headers = [(header::EXPIRES, until.to_http_date()), (header::CACHE_CONTROL, NO_STORE.to_owned())];
            Ok((headers, Json(manifest)).into_response())
        }
    }
}

fn of_file(caller: &Caller, id: Id16, file: &ExportFile) -> Value {
    let url = format!("{}/{}.ndjson", address(caller, id), file.rtype);
    json!({"type": file.rtype, "url": url, "count": file.count})
}

pub(crate) async fn file(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path((id, file)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let rtype = file.strip_suffix(".ndjson").unwrap_or(&file);
    let path = doors.node.export_file(&caller, ledger_id(&id)?, rtype)?;
    // It may be taken away between the two.
    let file = File::open(path).await.map_err(|_| Refusal(Failure::Gone("the file".to_owned())))?;
    let headers = [(header::CONTENT_TYPE, NDJSON), (header::CACHE_CONTROL, NO_STORE)];
    Ok((headers, Body::from_stream(chunks(file))).into_response())
}

/// A file a part at a time.
fn chunks(file: File) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let mut part = BytesMut::with_capacity(CHUNK_BYTES);
        let read = file.read_buf(&mut part).await?;
        Ok((read > 0).then(|| (part.freeze(), file)))
    })
}

pub(crate) async fn take_away(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    doors.node.drop_export(&caller, ledger_id(&id)?)?;
    Ok(StatusCode::ACCEPTED.into_response())
}
