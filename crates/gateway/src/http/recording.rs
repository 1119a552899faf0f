//! What sensors said over a time: as an EDF+ file or a WFDB record that other programs open, and as JSON.

use super::{Doors, auth::Known, outcome::Refusal, zip::archive};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use exchange::{Caller, Failure, Range, Recording};
use record::{TimeMs, fhir::IssueType};
use sensing::{
    edf,
    track::{NO_SAMPLE, Track},
    wfdb,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The most samples of an answer in JSON, all signals together: an ECG of 500 Hz for half an hour. Files have room for more.
const JSON_SAMPLES_MAX: usize = 1 << 20;

/// What the files of a record are called before their ends.
const RECORD: &str = "recording";

#[derive(Deserialize)]
pub(crate) struct Asked {
    start: String,
    end: String,
    signal: Option<String>,
    device: Option<String>,
}

async fn recorded(doors: &Doors, caller: &Caller, patient: String, asked: Asked) -> Result<Recording, Failure> {
    let instant = |name: &str, text: &str| {
        TimeMs::from_instant(text)
            .map_err(|e| Failure::invalid(IssueType::Value, "", format!("`{name}` is no instant: {e}")))
    };
    let (from, to) = (instant("start", &asked.start)?, instant("end", &asked.end)?);
    let range = Range { patient, from, to, signal: asked.signal, device: asked.device };
    doors.node.recording(caller, &range).await
}

/// Left out, missing and not yet final frames, and how many roll-ups there are of those that were let go, for whoever reads the file.
fn remarks(recording: &Recording) -> [(&'static str, String); 5] {
    [
        ("x-frames", recording.frames.to_string()),
        ("x-frames-pending", recording.pending.to_string()),
        ("x-frames-withheld", recording.withheld.to_string()),
        ("x-frames-missing", recording.missing.to_string()),
        ("x-frames-let-go", recording.let_go.len().to_string()),
    ]
}

pub(crate) async fn edf(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(patient): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let recording = recorded(&doors, &caller, patient.clone(), asked).await?;
    let equipment = doors.identity.issuer.org().to_string();
    let (headers, let_go) = (remarks(&recording), recording.let_go.clone());
    let written = tokio::task::spawn_blocking(move || {
        let about = edf::About { patient: Some(&patient), equipment: Some(&equipment) };
        edf::write(&recording.tracks, &about)
    });
    let written = written.await.map_err(|e| Failure::Ours(format!("a recording was not written to its end: {e}")))?;
    let file = written.map_err(|why| match why {
        edf::NotWritten::Nothing => nothing(&let_go),
        edf::NotWritten::TooLarge(_) => Failure::TooLarge(format!("{why}: ask for a shorter time")),
        other => Failure::Unsupported(format!("EDF+ cannot say this: {other}; ask for one signal or device")),
    })?;
    let name = if file.first() == Some(&0xff) { "recording.bdf" } else { "recording.edf" };
    Ok((attached(name), headers, file).into_response())
}

/// Why there is no file: nothing was measured, or it was let go by policy.
fn nothing(let_go: &[String]) -> Failure {
    match let_go {
        [] => Failure::NotFound("anything that was measured then".to_owned()),
        some => Failure::LetGo(format!(
            "what was measured then was let go by policy; what is left is in {}",
            some.join(", ")
        )),
    }
}

/// A file that a browser keeps and nobody else does.
fn attached(name: &str) -> [(header::HeaderName, String); 3] {
    [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ]
}

pub(crate) async fn wfdb(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(patient): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let recording = recorded(&doors, &caller, patient, asked).await?;
    let (headers, let_go) = (remarks(&recording), recording.let_go.clone());
    let written = tokio::task::spawn_blocking(move || {
        wfdb::write(RECORD, &recording.tracks).map(|wfdb::Written { header, signals, notes }| {
            let files = [("hea", header.as_bytes()), ("dat", &signals), ("note", &notes)];
            let there = files.into_iter().filter(|(_, bytes)| !bytes.is_empty());
            archive(&there.map(|(end, bytes)| (format!("{RECORD}.{end}"), bytes)).collect::<Vec<_>>())
        })
    });
    let written = written.await.map_err(|e| Failure::Ours(format!("a recording was not written to its end: {e}")))?;
    let file = written.map_err(|why| match why {
        wfdb::NotWritten::Nothing => nothing(&let_go),
        wfdb::NotWritten::TooLarge(_) => Failure::TooLarge(format!("{why}: ask for a shorter time")),
        other => Failure::Unsupported(format!("WFDB cannot say this: {other}; ask for one signal or device")),
    })?;
    let file =
        file.ok_or_else(|| Failure::TooLarge("a record of more than 4 GiB: ask for a shorter time".to_owned()))?;
    Ok((attached("recording.zip"), headers, file).into_response())
}

pub(crate) async fn signals(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(patient): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let recording = recorded(&doors, &caller, patient, asked).await?;
    let samples: usize =
        recording.tracks.tracks.iter().flat_map(|track| &track.stretches).map(|stretch| stretch.samples.len()).sum();
    if samples > JSON_SAMPLES_MAX {
        let text = format!(
            "{samples} samples are more than {JSON_SAMPLES_MAX}: ask for a shorter time, one signal, or $edf or $wfdb"
        );
        return Err(Failure::TooLarge(text).into());
    }
    let tracks: Vec<Value> = recording.tracks.tracks.iter().map(shown).collect();
    let notes = recording.tracks.notes.iter().map(|note| json!({"at": note.at.to_instant(), "text": note.text}));
    let document = json!({
        "frames": recording.frames, "pending": recording.pending, "withheld": recording.withheld,
        "missing": recording.missing, "let_go": recording.let_go, "signals": tracks, "notes": notes.collect::<Vec<_>>()
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(document)).into_response())
}

/// Value = origin + sample × scale; decimals as text, with their digits.
fn shown(track: &Track) -> Value {
    let stretches = track.stretches.iter().map(|stretch| {
        let samples: Vec<Value> = stretch
            .samples
            .iter()
            .map(|sample| if *sample == NO_SAMPLE { Value::Null } else { json!(sample) })
            .collect();
        json!({"start": stretch.start.to_instant(), "samples": samples})
    });
    json!({
        "name": track.name, "unit": track.unit, "rate_hz": track.rate_hz.to_string(), "origin": track.origin.to_string(),
        "scale": track.scale.to_string(), "stretches": stretches.collect::<Vec<_>>()
    })
}
