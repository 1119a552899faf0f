//! `POST /auth/launch`: a person's own program launches an app for a patient (EHR launch).
//!
//! Source: SMART App Launch 2.2, «Launch App: EHR Launch».

use super::Known;
use crate::{
    http::{Doors, desk, outcome::Refusal},
    identity::{drawn, pending},
};
use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use exchange::{Failure, clock::now};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest id of a record, in bytes. Source: FHIR R4 data type `id`.
const ID_BYTES_MAX: usize = 64;

/// What an app is launched for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct For {
    patient: String,
    #[serde(default)]
    encounter: Option<String>,
}

/// Gives a launch, which the app brings to `/auth/authorize` and which its user alone can use, once.
pub(crate) async fn launch(
    State(doors): State<Doors>,
    Known(caller): Known,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let For { patient, encounter } = desk::document(&body)?;
    if caller.app.is_some() {
        let sentence = "an app launches no other app".to_owned();
        return Err(Failure::Denied { sentence, suppressed: false }.into());
    }
    if patient.len() > ID_BYTES_MAX {
        return Err(Failure::NotFound("Patient".to_owned()).into());
    }
    // Whoever may not see the patient launches nothing for it, and it is in the trail that somebody tried.
    doors.node.read(&caller, "Patient", &patient, None).await?;
    if let Some(encounter) = &encounter {
        let shown = doors.node.read(&caller, "Encounter", encounter, None).await?;
        let value: Value = serde_json::from_slice(&shown.bytes).unwrap_or_default();
        if value["subject"]["reference"] != format!("Patient/{patient}") {
            return Err(Failure::Conflict("the encounter is not the patient's".to_owned()).into());
        }
    }
    let id = drawn().map_err(|e| Failure::Ours(format!("no launch could be drawn: {e:#}")))?;
    let launch = pending::Launch { user: caller.user, patient, encounter };
    if !doors.identity.pending.launch(&id, launch, now().0 / 1000) {
        return Err(Failure::Busy.into());
    }
    Ok((StatusCode::CREATED, Json(json!({"launch": id, "iss": caller.base}))))
}
