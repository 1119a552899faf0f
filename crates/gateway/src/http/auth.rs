//! Who is at the door: bearer tokens in, callers out.

pub(crate) mod account;
pub(crate) mod authorize;
mod client;
pub(crate) mod discovery;
mod fields;
pub(crate) mod launch;
mod pages;
pub(crate) mod refusal;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod welcome;

use super::{Doors, PURPOSE, REQUEST_ID, headers::is_json, outcome};
use crate::identity::{
    Identity,
    attempts::May,
    drawn,
    issuer::{Bearer, Claims, TOKEN_SECONDS, TokenError},
    pending::LoggedIn,
    refusals::SaidToBe,
    users::User,
};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use exchange::{App, Caller, Came, Failure, GoesOn, clock::now};
use policy::Scopes;
use record::{Purpose, Role, TimeMs, fhir::IssueType};
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use trace::{Origin, Person};

/// A caller with a good token and a known purpose of use.
pub(crate) struct Known(pub(crate) Caller);

impl FromRequestParts<Doors> for Known {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Response> {
        let claims = claims(&parts.headers, doors).map_err(|e| outcome::unauthenticated(&e))?;
        let purpose = purpose(&parts.headers, &claims.bearer).map_err(|e| outcome::respond(&e))?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
        let request = parts.headers.get(&REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let login = serde_json::to_string(&claims).ok().map(Arc::from);
        let caller = caller_by(&doors.identity, claims.bearer, purpose);
        Ok(Self(Caller {
            request: request.to_owned(),
            address: address.unwrap_or_default(),
            base: doors.base.of(&parts.headers),
            login,
            ..caller
        }))
    }
}

/// Whoever a token is of, without what only a request says.
pub(crate) fn caller_by(identity: &Identity, bearer: Bearer, purpose: Purpose) -> Caller {
    let user = bearer.name().into_owned();
    // No program has the name of a user, nor has another issuer's user.
    let person_since = (!bearer.operator).then(|| person_since(identity, &user)).flatten();
    let app = bearer
        .app
        .map(|app| Arc::new(App { id: app.client_id, scopes: Scopes::among(&app.scope), patient: app.launched }));
    Caller {
        user,
        role: bearer.role,
        org: identity.issuer.org().clone(),
        org_role: identity.issuer.org_role(),
        patient: bearer.patient,
        purpose,
        request: String::new(),
        address: String::new(),
        base: String::new(),
        app,
        login: None,
        person_since,
    }
}

/// Since when a name is that of the person who has it.
fn person_since(identity: &Identity, name: &str) -> Option<TimeMs> {
    let since = identity.users().get(name)?.person_since?;
    Some(TimeMs(since.saturating_mul(1000)))
}

/// Somebody who just logged in, and acts for what people of the role usually act for.
fn caller_of(doors: &Doors, headers: &HeaderMap, person: &LoggedIn, address: &str) -> Caller {
    let request = headers.get(&REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or_default();
    Caller {
        user: person.user.clone(),
        role: person.role,
        org: doors.identity.issuer.org().clone(),
        org_role: doors.identity.issuer.org_role(),
        patient: person.patient.clone(),
        purpose: usual_purpose(person.role),
        request: request.to_owned(),
        address: address.to_owned(),
        base: doors.base.of(headers),
        app: None,
        login: None,
        person_since: person_since(&doors.identity, &person.user),
    }
}

fn claims(headers: &HeaderMap, doors: &Doors) -> Result<Claims, TokenError> {
    let value = headers.get(header::AUTHORIZATION).ok_or(TokenError::Missing)?;
    let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or(TokenError::Missing)?;
    doors.identity.check(token)
}

/// Whether the token of a request is still good, after the request was let in by it.
pub(crate) fn is_good(headers: &HeaderMap, doors: &Doors) -> bool {
    claims(headers, doors).is_ok()
}

/// Says from now on whether what the token of a request said is still so, however long the work takes that was begun by it. Another issuer
/// tells nobody here of its sessions.
pub(crate) fn goes_on(headers: &HeaderMap, doors: &Doors) -> Result<GoesOn, Failure> {
    // It was good a moment ago, when the request was let in by it.
    let claims = claims(headers, doors).map_err(|e| Failure::Denied { sentence: e.to_string(), suppressed: false })?;
    let identity = Arc::clone(&doors.identity);
    let ours = identity.issuer.is_ours(&claims).then_some(claims);
    Ok(Box::new(move || ours.clone().is_none_or(|claims| identity.goes_on(claims).is_ok())))
}

/// What the request says, or what people of this role usually act for. Apps have no choice: nobody let them in for another purpose.
fn purpose(headers: &HeaderMap, bearer: &Bearer) -> Result<Purpose, Failure> {
    let usual = usual_purpose(bearer.role);
    let Some(value) = headers.get(&PURPOSE) else { return Ok(usual) };
    let code = value.to_str().unwrap_or_default();
    let said = code.parse().map_err(|e| Failure::invalid(IssueType::CodeInvalid, "", format!("{e}")))?;
    if bearer.app.is_some() && said != usual {
        let sentence =
            format!("an app acts for what people of its user's role usually act for, which is {}", usual.code());
        return Err(Failure::Denied { sentence, suppressed: false });
    }
    Ok(said)
}

fn usual_purpose(role: Role) -> Purpose {
    match role {
        Role::Patient => Purpose::PatientRequest,
        Role::Dispatcher | Role::Doctor | Role::Nurse | Role::Device | Role::Engine => Purpose::Treat,
        Role::Responder => Purpose::EmergencyTreat,
        Role::Administrator => Purpose::PatientAdmin,
        Role::Insurer => Purpose::Payment,
        Role::Compliance => Purpose::Compliance,
        Role::PrivacyOfficer => Purpose::Operations,
        Role::Custodian => Purpose::SystemAdmin,
    }
}

/// How much longer a login takes when many machines guess at the name.
const SLOWLY: Duration = Duration::from_secs(2);

/// Why somebody was not let in.
enum NoLogin {
    Token(TokenError),
    /// Too many are being looked at, or it cannot be written down.
    Busy,
}

impl NoLogin {
    /// How a page answers, and what it says.
    fn on_page(self) -> (StatusCode, String) {
        match self {
            Self::Token(error) => (outcome::status_of(&error), format!("{error}.")),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "Too many people log in at once: try again in a moment.".to_owned())
            }
        }
    }
}

/// The user of that name and password, who comes from somewhere. It is in the trail, however it ends.
async fn authenticate(doors: &Doors, name: &str, password: &str, from: Origin<'_>) -> Result<User, NoLogin> {
    let (named, password, users) = (name.to_owned(), password.to_owned(), doors.identity.users_now());
    let check = move || users.authenticate(&named, &password).cloned();
    let says = ["logged in by a password", "a login failed: no such name and password, or the login is closed"];
    let_in(doors, name, from, says, check).await
}

/// The user of that name, if a check finds so, which is not made when too many failed. It is in the trail, in these words: those for who comes
/// in, and those for who does not.
async fn let_in(
    doors: &Doors,
    name: &str,
    from: Origin<'_>,
    [came_in, failed]: [&'static str; 2],
    check: impl FnOnce() -> Option<User> + Send + 'static,
) -> Result<User, NoLogin> {
    let address = from.ip;
    // As it is counted: no name is longer or of other letters.
    let counted: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    // What is no name may be a password in the wrong field: the log does not get it.
    let known = doors.identity.users_now().get(name).is_some();
    let shown = if known { name } else { "somebody who is not known" };
    let said_to_be = if known { SaidToBe::User(name.to_owned()) } else { SaidToBe::Somebody };
    match doors.identity.attempts.may_try(&counted, address, now().0) {
        May::Try => {}
        May::TrySlowly => tokio::time::sleep(SLOWLY).await,
        May::Wait => {
            tracing::warn!(user = shown, "a login was refused: too many failed");
            trace::refused(doors, from, said_to_be, "a login was refused: too many failed");
            return Err(NoLogin::Token(TokenError::TooMany));
        }
    }
    let Ok(_place) = doors.logins.clone().try_acquire_owned() else { return Err(NoLogin::Busy) };
    // Hashing a password takes tens of milliseconds: not on the threads that serve everybody.
    match tokio::task::spawn_blocking(check).await {
        Ok(Some(user)) => {
            doors.identity.attempts.succeeded(&counted, address);
            let person = Person { user: name.into(), role: user.role, patient: user.patient.as_deref() };
            if let Err(error) = trace::note(doors, from, Came::In, person, None, came_in).await {
                tracing::error!(%error, "nobody can log in: it cannot be written into the trail");
                return Err(NoLogin::Busy);
            }
            Ok(user)
        }
        Ok(None) => {
            doors.identity.attempts.failed(&counted, address, now().0);
            tracing::warn!(user = shown, "a login failed");
            trace::refused(doors, from, said_to_be, failed);
            Err(NoLogin::Token(TokenError::Refused))
        }
        Err(_) => Err(NoLogin::Busy),
    }
}

/// `POST /auth/token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    username: String,
    password: String,
}

/// Gives a token: to a user for name and password, in JSON, or to an app, as a form (OAuth 2.0).
pub(crate) async fn token(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let of_user = is_json(&headers).is_ok() || body.trim_ascii_start().starts_with(b"{");
    if !of_user {
        let from = Origin { headers: &headers, ip: address.ip() };
        return token::to_app(&doors, from, &body).await.unwrap_or_else(IntoResponse::into_response);
    }
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        let text = "send a JSON object with `username` and `password`, or the form of an app (OAuth 2.0)";
        return outcome::respond(&Failure::invalid(IssueType::Structure, "", text));
    };
    // An app does not see the password, nor does its script in a browser.
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    if origin.is_some_and(|origin| doors.identity.apps().is_origin(origin)) {
        let sentence = "an app's script logs nobody in: send the person to /auth/authorize".to_owned();
        return outcome::respond(&Failure::Denied { sentence, suppressed: false });
    }
    let from = Origin { headers: &headers, ip: address.ip() };
    let user = match authenticate(&doors, &login.username, &login.password, from).await {
        Ok(user) => user,
        Err(NoLogin::Token(error)) => return outcome::unauthenticated(&error),
        Err(NoLogin::Busy) => return outcome::respond(&Failure::Busy),
    };
    let token = drawn().and_then(|sid| {
        let bearer = Bearer { sid: Some(sid), ..Bearer::user(&login.username, user.role, user.patient.clone()) };
        doors.identity.issuer.issue(bearer, user.let_in_at(now()))
    });
    match token {
        Ok(token) => {
            let body = serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS});
            ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Err(e) => outcome::respond(&Failure::Ours(format!("no token could be issued: {e:#}"))),
    }
}
