//! `/auth/authorize`: an app asks, a person logs in, chooses whom it is about, and lets the app in or does not.
//!
//! Source: RFC 6749 section 4.1, RFC 7636 (PKCE, which every app must use here), RFC 9207 (`iss` in the answer), SMART App Launch 2.2.

use super::{
    fields::Fields,
    pages::Page,
    refusal::{Code, Refused},
    trace::{self, Origin},
};
use crate::{
    http::Doors,
    identity::{
        drawn,
        grant::{Given, SCOPE_BYTES_MAX},
        hash,
        pending::{self, Asked, LoggedIn},
        sessions::Session,
    },
};
use axum::{
    body::Bytes,
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Came, Failure, Handling, clock::now};
use record::Role;
use serde_json::Value;
use std::net::SocketAddr;

/// What people are told whose login cannot go on.
const OVER: &str = "This login is over, or was begun in another browser. Go back to the app and begin again.";
/// By this cookie a browser shows that it is the one that brought the question.
const COOKIE: &str = "vitaltrace-authorization";
/// How long a browser keeps it, in seconds: as long as a person may take.
const COOKIE_SECONDS: u64 = 10 * 60;
/// The longest state and nonce of an app, in bytes.
const STATE_BYTES_MAX: usize = 1024;
/// Length of the challenge: SHA-256 in base64url.
const CHALLENGE_BYTES: usize = 43;

/// The cookie of a question: a person may have several in one browser.
fn cookie_of(id: &str) -> String {
    format!("{COOKIE}-{}", id.get(..12).unwrap_or_default())
}

/// A page that says what is wrong, where there is nowhere to send the person back to.
fn stopped(status: StatusCode, text: &str) -> Response {
    Page::new("This does not work").status(status).alert(Some(text)).into_response()
}

/// Sends the person back to the app.
fn back(doors: &Doors, headers: &HeaderMap, redirect: &str, state: Option<&str>, answer: &[(&str, &str)]) -> Response {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(answer);
    if let Some(state) = state {
        query.append_pair("state", state);
    }
    query.append_pair("iss", &doors.base.origin_of(headers));
    let mark = if redirect.contains('?') { '&' } else { '?' };
    let Ok(location) = HeaderValue::from_str(&format!("{redirect}{mark}{}", query.finish())) else {
        return stopped(StatusCode::BAD_REQUEST, "the app's address cannot be gone to");
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An app's question, read from its query; the failure with the address to tell it to, if that is known to be the app's.
type Asking<T> = Result<T, (Refused, Option<String>)>;

fn read(doors: &Doors, headers: &HeaderMap, fields: &Fields, browser: [u8; 32]) -> Asking<Asked> {
    let apps = doors.identity.apps();
    let nowhere = |text: &str| (Refused::new(Code::InvalidRequest, text), None);
    let id = fields.get("client_id").ok_or_else(|| nowhere("`client_id` is missing"))?;
    let app = apps.get(id).filter(|app| app.service.is_none());
    let app = app.ok_or_else(|| nowhere("no app that people let in is registered by that name"))?;
    let redirect = fields.get("redirect_uri").filter(|one| app.redirects.iter().any(|known| known == one));
    let redirect =
        redirect.ok_or_else(|| nowhere("`redirect_uri` is none of the addresses that the app is registered with"))?;
    let refused = |code, text: &str| (Refused::new(code, text), Some(redirect.to_owned()));
    if fields.get("response_type") != Some("code") {
        return Err(refused(Code::UnsupportedResponseType, "`response_type` is code"));
    }
    let base = doors.base.of(headers);
    if fields.get("aud").map(|aud| aud.trim_end_matches('/')) != Some(base.as_str()) {
        return Err(refused(Code::InvalidRequest, &format!("`aud` is the address of these FHIR doors, {base}")));
    }
    let challenge = fields.get("code_challenge").filter(|one| {
        one.len() == CHALLENGE_BYTES && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    let (Some(challenge), Some("S256")) = (challenge, fields.get("code_challenge_method")) else {
        return Err(refused(Code::InvalidRequest, "a `code_challenge` by `code_challenge_method` S256 is needed"));
    };
    let [state, nonce] = ["state", "nonce"].map(|name| fields.get(name));
    if state.is_none() || [state, nonce].iter().flatten().any(|text| text.len() > STATE_BYTES_MAX) {
        let text = format!("a `state` is needed; it and `nonce` have {STATE_BYTES_MAX} bytes at most");
        return Err(refused(Code::InvalidRequest, &text));
    }
    let scope = fields.get("scope").filter(|scope| scope.len() <= SCOPE_BYTES_MAX).unwrap_or_default();
    let given = Given::to_app(app, scope);
    if given.is_nothing() {
        return Err(refused(Code::InvalidScope, "the app is registered for nothing of what it asks for by `scope`"));
    }
    let launch = match fields.get("launch") {
        None => None,
        Some(_) if !given.has("launch") => {
            return Err(refused(Code::InvalidScope, "an app that is launched asks for the scope `launch`"));
        }
        Some(id) => match doors.identity.pending.launched(id, now().0 / 1000) {
            Some(launch) => Some(launch),
            None => {
                return Err(refused(Code::InvalidRequest, "the launch is not known any more: launch the app again"));
            }
        },
    };
    Ok(Asked {
        app: id.to_owned(),
        redirect: redirect.to_owned(),
        state: state.map(str::to_owned),
        challenge: challenge.to_owned(),
        nonce: nonce.map(str::to_owned),
        given,
        launch,
        browser,
        person: None,
        patient: None,
    })
}

/// `GET /auth/authorize`: an app's question. Shows the login.
pub(crate) async fn ask(State(doors): State<Doors>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let Some(fields) = Fields::read(query.as_bytes()) else {
        return stopped(StatusCode::BAD_REQUEST, "The app's question holds a parameter twice, or too many.");
    };
    let (Ok(id), Ok(browser)) = (drawn(), drawn()) else {
        return stopped(StatusCode::INTERNAL_SERVER_ERROR, "Something of ours failed: try again.");
    };
    let asked = match read(&doors, &headers, &fields, hash(&browser)) {
        Ok(asked) => asked,
        Err((refused, None)) => return stopped(StatusCode::BAD_REQUEST, &refused.text),
        Err((refused, Some(redirect))) => {
            let state = fields.get("state").filter(|state| state.len() <= STATE_BYTES_MAX);
            let answer = [("error", refused.code.as_str()), ("error_description", refused.text.as_str())];
            return back(&doors, &headers, &redirect, state, &answer);
        }
    };
    let page = login_page(&doors, &id, &asked, None);
    if !doors.identity.pending.ask(&id, asked, now().0 / 1000) {
        return stopped(StatusCode::SERVICE_UNAVAILABLE, "Too many logins are under way: try again in a moment.");
    }
    let secure = if doors.base.is_secure() { "; Secure" } else { "" };
    let (name, prefix) = (cookie_of(&id), doors.base.prefix());
    let cookie =
        format!("{name}={browser}; HttpOnly; SameSite=Lax; Path={prefix}/auth; Max-Age={COOKIE_SECONDS}{secure}");
    let mut response = page.into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn login_page(doors: &Doors, id: &str, asked: &Asked, wrong: Option<&str>) -> Page {
    let apps = doors.identity.apps();
    let name = apps.get(&asked.app).map_or(asked.app.as_str(), |app| app.name.as_str());
    Page::new(&format!("Log in at {}", doors.identity.issuer.org()))
        .leading_to(&asked.redirect)
        .alert(wrong)
        .paragraph(&format!("The app «{name}» asks to act for you. Your password stays here: the app does not see it."))
        .form(id, "login")
        .login_fields()
        .button("Log in")
        .end_form()
}

fn patient_page(id: &str, asked: &Asked, wrong: Option<&str>) -> Page {
    Page::new("Which patient is it about?")
        .leading_to(&asked.redirect)
        .alert(wrong)
        .form(id, "patient")
        .field("patient", "Id of the record, or the patient's identifier", "text", "off", true)
        .button("Go on")
        .end_form()
}

fn choice_page(doors: &Doors, id: &str, asked: &Asked, person: &LoggedIn, about: Option<&str>) -> Page {
    let apps = doors.identity.apps();
    let name = apps.get(&asked.app).map_or(asked.app.as_str(), |app| app.name.as_str());
    let mut page = Page::new(&format!("Let «{name}» in?")).leading_to(&asked.redirect);
    if let Some(about) = about {
        page = page.paragraph(&format!("Patient: {about}"));
    }
    page.paragraph("It would be able to:")
        .list(&asked.given.sentences(person.role))
        .paragraph("It can never do more than you may yourself, and every access is written down.")
        .form(id, "answer")
        .choice("answer", "yes", "Let it in", true)
        .choice("answer", "no", "Do not", false)
        .end_form()
}

/// A Patient, as people call it.
fn called(patient: &Value) -> String {
    let name = &patient["name"][0];
    let given = name["given"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
    words.extend(name["family"].as_str());
    if words.is_empty() {
        words.extend(name["text"].as_str());
    }
    let who = if words.is_empty() { "without a name".to_owned() } else { words.join(" ") };
    patient["birthDate"].as_str().map_or(who.clone(), |born| format!("{who}, born {born}"))
}

/// `POST /auth/authorize`: the next step of a person.
pub(crate) async fn step(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields = Fields::read(&body).unwrap_or_default();
    let seconds = now().0 / 1000;
    let id = fields.get("authorization").unwrap_or_default();
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = cookies.flat_map(|line| line.split(';')).filter_map(|one| one.trim().split_once('='));
    let browser = cookies.find(|(name, _)| *name == cookie_of(id)).map(|(_, value)| value).unwrap_or_default();
    let Some(asked) = doors.identity.pending.asked(id, seconds).filter(|asked| asked.is_of(browser)) else {
        return stopped(StatusCode::BAD_REQUEST, OVER);
    };
    let from = Origin { headers: &headers, ip: address.ip() };
    let address = from.ip.to_string();
    match (fields.get("step"), asked.person.clone()) {
        (Some("login"), _) => log_in(&doors, from, id, asked, &fields).await,
        (Some("patient"), Some(person)) => choose(&doors, &headers, id, asked, &person, &fields, &address).await,
        (Some("answer"), Some(person)) => answer(&doors, from, id, asked, person, &fields).await,
        _ => stopped(StatusCode::BAD_REQUEST, OVER),
    }
}

async fn log_in(doors: &Doors, from: Origin<'_>, id: &str, mut asked: Asked, fields: &Fields) -> Response {
    let (name, password) = (fields.get("username").unwrap_or_default(), fields.get("password").unwrap_or_default());
    let logged_in = super::authenticate(doors, name, password, from).await;
    let user = match logged_in {
        Ok(user) => user,
        Err(no_login) => {
            let (status, text) = no_login.on_page();
            return login_page(doors, id, &asked, Some(&text)).status(status).into_response();
        }
    };
    if asked.launch.as_ref().is_some_and(|launch| launch.user != name) {
        let text = "Somebody else launched this app. Log in as the person who did, or launch it again.";
        return login_page(doors, id, &asked, Some(text)).status(StatusCode::FORBIDDEN).into_response();
    }
    let person = LoggedIn::new(name, &user, now());
    let patient = match &asked.launch {
        Some(launch) => Some(launch.patient.clone()),
        None => user.patient.clone(),
    };
    // Whom somebody else chose before, in the same browser, is not this person's choice.
    (asked.person, asked.patient) = (Some(person.clone()), None);
    let address = from.ip.to_string();
    match patient {
        Some(patient) => about(doors, from.headers, id, asked, &person, &patient, &address).await,
        None if asked.given.needs_patient() => keep(doors, id, asked.clone(), patient_page(id, &asked, None)),
        None => {
            let page = choice_page(doors, id, &asked, &person, None);
            keep(doors, id, asked, page)
        }
    }
}

/// Keeps how far an authorisation is, and shows the next page.
fn keep(doors: &Doors, id: &str, asked: Asked, page: Page) -> Response {
    if doors.identity.pending.goes_on(id, asked, now().0 / 1000) {
        page.into_response()
    } else {
        stopped(StatusCode::BAD_REQUEST, OVER)
    }
}

/// Goes on with a patient whom the person may see.
async fn about(
    doors: &Doors,
    headers: &HeaderMap,
    id: &str,
    mut asked: Asked,
    person: &LoggedIn,
    patient: &str,
    address: &str,
) -> Response {
    let caller = super::caller_of(doors, headers, person, address);
    let shown = match doors.node.read(&caller, "Patient", patient, None).await {
        Ok(shown) => serde_json::from_slice::<Value>(&shown.bytes).unwrap_or_default(),
        Err(failure) => return not_this_patient(id, &asked, person, &failure),
    };
    asked.patient = Some(patient.to_owned());
    let page = choice_page(doors, id, &asked, person, Some(&called(&shown)));
    keep(doors, id, asked, page)
}

fn not_this_patient(id: &str, asked: &Asked, person: &LoggedIn, failure: &Failure) -> Response {
    let text = match failure {
        Failure::Denied { .. } => "You may not see this patient's record.".to_owned(),
        Failure::NotFound(_) | Failure::Gone(_) | Failure::Invalid(_) => {
            "No patient has this id or identifier.".to_owned()
        }
        Failure::Ours(why) => {
            tracing::error!(why, "a patient could not be shown to who lets an app in");
            "Something of ours failed: try again.".to_owned()
        }
        other => format!("The record cannot be shown now: {other}."),
    };
    if asked.launch.is_some() || person.role == Role::Patient {
        return stopped(StatusCode::FORBIDDEN, &text);
    }
    patient_page(id, asked, Some(&text)).into_response()
}

async fn choose(
    doors: &Doors,
    headers: &HeaderMap,
    id: &str,
    asked: Asked,
    person: &LoggedIn,
    fields: &Fields,
    address: &str,
) -> Response {
    // Whom a launch or a patient's own login is about, nobody chooses.
    if asked.launch.is_some() || person.role == Role::Patient {
        return stopped(StatusCode::BAD_REQUEST, "This app is about one patient already.");
    }
    let named = fields.get("patient").unwrap_or_default().trim();
    let is_id =
        (1..=64).contains(&named.len()) && named.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let caller = super::caller_of(doors, headers, person, address);
    if is_id && doors.node.read(&caller, "Patient", named, None).await.is_ok() {
        return about(doors, headers, id, asked, person, named, address).await;
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("identifier", named)
        .append_pair("_count", "2")
        .finish();
    let found = doors.node.search(&caller, "Patient", &query, Handling::Strict).await;
    let found = match found {
        Ok(found) => serde_json::from_slice::<Value>(&found).unwrap_or_default(),
        Err(failure) => return not_this_patient(id, &asked, person, &failure),
    };
    let patients = found["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<&str> = patients
        .iter()
        .filter(|entry| entry["resource"]["resourceType"] == "Patient")
        .filter_map(|entry| entry["resource"]["id"].as_str())
        .collect();
    match ids[..] {
        [one] => about(doors, headers, id, asked, person, one, address).await,
        [] => patient_page(id, &asked, Some("No patient has this id or identifier.")).into_response(),
        _ => patient_page(id, &asked, Some("Several patients have this identifier: give the id of the record."))
            .into_response(),
    }
}

/// The person's answer: a code for the app, or none.
async fn answer(
    doors: &Doors,
    from: Origin<'_>,
    id: &str,
    asked: Asked,
    person: LoggedIn,
    fields: &Fields,
) -> Response {
    let seconds = now().0 / 1000;
    if asked.given.needs_patient() && asked.patient.is_none() {
        return keep(doors, id, asked.clone(), patient_page(id, &asked, None));
    }
    // Two answers to one question: the first counts.
    let Some(asked) = doors.identity.pending.answered(id, seconds) else {
        return stopped(StatusCode::BAD_REQUEST, OVER);
    };
    // The login may have been closed, or the password changed, since the person typed it.
    if !doors.identity.is_still(&person.user, person.role, person.patient.as_deref(), person.at) {
        return stopped(StatusCode::UNAUTHORIZED, OVER);
    }
    let to_app = |answer: &[(&str, &str)]| back(doors, from.headers, &asked.redirect, asked.state.as_deref(), answer);
    if fields.get("answer") != Some("yes") {
        let text = "the person did not let the app in";
        return to_app(&[("error", Code::AccessDenied.as_str()), ("error_description", text)]);
    }
    let (Ok(code), Ok(sid)) = (drawn(), drawn()) else {
        return to_app(&[("error", Code::ServerError.as_str())]);
    };
    let says = format!("let the app in to: {}", asked.given.scope());
    if let Err(error) = trace::note(doors, from, Came::In, person.who(), Some(&asked.app), &says).await {
        tracing::error!(%error, "no app can be let in: it cannot be written into the trail");
        return to_app(&[("error", Code::TemporarilyUnavailable.as_str())]);
    }
    let needs = asked.given.needs_patient() || asked.launch.is_some();
    let session = Session {
        app: asked.app.clone(),
        user: person.user.clone(),
        scope: asked.given.scope(),
        launched: asked.patient.clone().filter(|_| needs),
        encounter: asked.launch.as_ref().and_then(|launch| launch.encounter.clone()),
        begun: person.at,
    };
    let stands_for = pending::Code {
        sid,
        redirect: asked.redirect.clone(),
        challenge: asked.challenge.clone(),
        nonce: asked.nonce.clone(),
        session,
        person,
        given: asked.given.clone(),
    };
    if doors.identity.pending.code(&code, stands_for, seconds) {
        to_app(&[("code", &code)])
    } else {
        to_app(&[("error", Code::TemporarilyUnavailable.as_str())])
    }
}
