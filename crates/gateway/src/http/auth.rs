//! Who is at the door: bearer tokens in, callers out.

use super::{Doors, PURPOSE, REQUEST_ID, outcome};
use crate::issuer::{Claims, TOKEN_SECONDS, TokenError};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use exchange::{Caller, Failure, clock::now};
use record::{Purpose, Role, fhir::IssueType};
use serde::Deserialize;
use std::net::SocketAddr;

/// A caller with a good token and a known purpose of use.
pub(crate) struct Known(pub(crate) Caller);

impl FromRequestParts<Doors> for Known {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Response> {
        let claims = claims(&parts.headers, doors).map_err(|e| outcome::unauthenticated(&e))?;
        let purpose = purpose(&parts.headers, claims.role).map_err(|e| outcome::respond(&e))?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
        let request = parts.headers.get(&REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Ok(Self(Caller {
            user: claims.sub,
            role: claims.role,
            org: doors.issuer.org().clone(),
            org_role: doors.issuer.org_role(),
            patient: claims.patient,
            purpose,
            request: request.to_owned(),
            address: address.unwrap_or_default(),
            base: doors.base.of(&parts.headers),
        }))
    }
}

fn claims(headers: &HeaderMap, doors: &Doors) -> Result<Claims, TokenError> {
    let value = headers.get(header::AUTHORIZATION).ok_or(TokenError::Missing)?;
    let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or(TokenError::Missing)?;
    doors.issuer.check(token)
}

/// What the request says, or what people of this role usually act for.
fn purpose(headers: &HeaderMap, role: Role) -> Result<Purpose, Failure> {
    if let Some(value) = headers.get(&PURPOSE) {
        let code = value.to_str().unwrap_or_default();
        return code.parse().map_err(|e| Failure::invalid(IssueType::CodeInvalid, "", format!("{e}")));
    }
    Ok(match role {
        Role::Patient => Purpose::PatientRequest,
        Role::Dispatcher | Role::Doctor | Role::Nurse | Role::Device | Role::Engine => Purpose::Treat,
        Role::Responder => Purpose::EmergencyTreat,
        Role::Administrator => Purpose::PatientAdmin,
        Role::Insurer => Purpose::Payment,
        Role::Compliance => Purpose::Compliance,
        Role::PrivacyOfficer => Purpose::Operations,
        Role::Custodian => Purpose::SystemAdmin,
    })
}

/// `POST /auth/token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    username: String,
    password: String,
}

/// Gives a token for a user's name and password.
pub(crate) async fn token(State(doors): State<Doors>, body: Bytes) -> Response {
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        let text = "send a JSON object with `username` and `password`";
        return outcome::respond(&Failure::invalid(IssueType::Structure, "", text));
    };
    let Ok(_place) = doors.logins.clone().try_acquire_owned() else { return outcome::respond(&Failure::Busy) };
    let user: String = login.username.chars().filter(char::is_ascii_graphic).take(64).collect();
    // Hashing a password takes tens of milliseconds: not on the threads that serve everybody.
    let checked = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<String>> {
        let users = doors.users()?;
        match users.authenticate(&login.username, &login.password) {
            Some(user) => doors.issuer.issue(&login.username, user.role, user.patient.clone(), now()).map(Some),
            None => Ok(None),
        }
    })
    .await;
    match checked {
        Ok(Ok(Some(token))) => {
            let body = serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS});
            ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Ok(Ok(None)) => {
            tracing::warn!(user, "a login failed");
            outcome::unauthenticated(&TokenError::Refused)
        }
        Ok(Err(e)) => outcome::respond(&Failure::Ours(format!("no token could be issued: {e:#}"))),
        Err(_) => outcome::respond(&Failure::Ours("no token could be issued".to_owned())),
    }
}
