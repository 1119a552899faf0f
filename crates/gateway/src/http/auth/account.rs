//! `/account/apps`: which apps somebody let in, and the end of that; as a page for people and as documents for programs of theirs.

use super::{
    Known,
    fields::Fields,
    pages::Page,
    refusal::Refused,
    token::on_disk,
    trace::{self, Origin},
};
use crate::{
    http::{Doors, desk, outcome::Refusal},
    identity::{drawn, grant::Given, pending::LoggedIn, refusals::SaidToBe, sessions::Session},
};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Caller, Came, Failure, clock::now};
use record::{Role, TimeMs};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Where the forms of the page lead, beside it.
const ACTION: &str = "apps";
/// What people are told who were away for too long.
const OVER: &str = "Log in once more: it is some minutes ago that you did.";

/// An app that somebody let in.
struct Held {
    sid: String,
    /// When it ends by itself, in seconds since 1970.
    until: u64,
    session: Session,
}

async fn held(doors: &Doors, user: &str) -> Result<Vec<Held>, Refused> {
    let (user, seconds) = (user.to_owned(), now().0 / 1000);
    let all = on_disk(doors, move |identity| identity.sessions.of_user(&user, seconds)).await?;
    Ok(all.into_iter().map(|(sid, until, session)| Held { sid, until, session }).collect())
}

fn instant(seconds: u64) -> String {
    TimeMs(seconds.saturating_mul(1000)).to_instant()
}

/// Ends what an app was given, if it was given by this user; in the trail first, by whom. Whether there was such a thing.
async fn end_of(doors: &Doors, from: Origin<'_>, asking: &Asking, sid: &str) -> Result<bool, Refused> {
    let all = held(doors, &asking.whose).await?;
    let Some(Held { sid, session, .. }) = all.into_iter().find(|one| one.sid == sid) else { return Ok(false) };
    let noted = trace::note(doors, from, Came::Out, asking.by.who(), Some(&session.app), asking.says).await;
    noted.map_err(Refused::ours)?;
    on_disk(doors, move |identity| identity.sessions.end(&sid, now().0 / 1000)).await?;
    Ok(true)
}

/// `GET /account/apps`: asks who it is.
pub(crate) async fn show(State(doors): State<Doors>) -> Response {
    login_page(&doors, None).into_response()
}

fn login_page(doors: &Doors, wrong: Option<&str>) -> Page {
    Page::new(&format!("Your apps at {}", doors.identity.issuer.org()))
        .alert(wrong)
        .paragraph("Log in to see which apps you let in, and to end what they may do.")
        .form_to(ACTION, &[("step", "login")])
        .login_fields()
        .button("Log in")
        .end_form()
}

/// `POST /account/apps`: the next step of a person.
pub(crate) async fn step(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A script of another origin knows the password perhaps, and ends nothing all the same.
    if is_of_another_origin(&doors, &headers) {
        let text = format!("Open {}/account/apps in the browser itself.", doors.base.origin_of(&headers));
        return login_page(&doors, Some(&text)).status(StatusCode::FORBIDDEN).into_response();
    }
    let fields = Fields::read(&body).unwrap_or_default();
    let from = Origin { headers: &headers, ip: address.ip() };
    let done = match fields.get("step") {
        Some("login") => log_in(&doors, from, &fields).await,
        Some("end") => end_one(&doors, from, &fields).await,
        _ => Ok(login_page(&doors, Some(OVER)).status(StatusCode::BAD_REQUEST)),
    };
    done.map_or_else(|refused| failed(&refused).into_response(), IntoResponse::into_response)
}

/// Whether a page of another origin sent a form.
pub(super) fn is_of_another_origin(doors: &Doors, headers: &HeaderMap) -> bool {
    let elsewhere = |origin: &HeaderValue| !origin.to_str().is_ok_and(|origin| doors.base.is_origin(headers, origin));
    headers.get(header::ORIGIN).is_some_and(elsewhere)
}

fn failed(refused: &Refused) -> Page {
    let text = format!("Nothing was ended: {}.", refused.text);
    Page::new("This does not work").status(StatusCode::INTERNAL_SERVER_ERROR).alert(Some(&text))
}

async fn log_in(doors: &Doors, from: Origin<'_>, fields: &Fields) -> Result<Page, Refused> {
    let (name, password) = (fields.get("username").unwrap_or_default(), fields.get("password").unwrap_or_default());
    let user = match super::authenticate(doors, name, password, from).await {
        Ok(user) => user,
        Err(no_login) => {
            let (status, text) = no_login.on_page();
            return Ok(login_page(doors, Some(&text)).status(status));
        }
    };
    let person = LoggedIn::new(name, &user, now());
    let visit = drawn().map_err(Refused::ours)?;
    if !doors.identity.pending.visits(&visit, person.clone(), now().0 / 1000) {
        let text = "Too many people look at their apps at once: try again in a moment.";
        return Ok(login_page(doors, Some(text)).status(StatusCode::SERVICE_UNAVAILABLE));
    }
    list_page(doors, &visit, &person, None).await
}

async fn end_one(doors: &Doors, from: Origin<'_>, fields: &Fields) -> Result<Page, Refused> {
    let visit = fields.get("visit").unwrap_or_default();
    let person = doors.identity.pending.visitor(visit, now().0 / 1000);
    // The login may have been closed, or the password changed, since the person typed it.
    let still =
        |person: &LoggedIn| doors.identity.is_still(&person.user, person.role, person.patient.as_deref(), person.at);
    let Some(person) = person.filter(still) else {
        return Ok(login_page(doors, Some(OVER)).status(StatusCode::BAD_REQUEST));
    };
    let asking = Asking::themselves(person);
    let ended = end_of(doors, from, &asking, fields.get("session").unwrap_or_default()).await?;
    let said = if ended { "It is over: the app can do nothing more." } else { "That was over already." };
    list_page(doors, visit, &asking.by, Some(said)).await
}

async fn list_page(doors: &Doors, visit: &str, person: &LoggedIn, said: Option<&str>) -> Result<Page, Refused> {
    let all = held(doors, &person.user).await?;
    let mut page = Page::new(&format!("Apps that {} let in", person.user)).alert(said);
    if all.is_empty() {
        return Ok(page.paragraph("No app may do anything for you."));
    }
    let apps = doors.identity.apps();
    for Held { sid, until, session } in all {
        let registered = apps.get(&session.app);
        let name = registered.map_or(session.app.as_str(), |app| app.name.as_str());
        // What an app is registered for less by now, it may not do any more.
        let may = registered.map(|app| Given::again(app, &session.scope).sentences(person.role)).unwrap_or_default();
        page = page
            .heading(name)
            .paragraph(&format!("Let in at {}; ends by itself at {}. It may:", instant(session.begun), instant(until)))
            .list(&may)
            .form_to(ACTION, &[("step", "end"), ("visit", visit), ("session", &sid)])
            .button(&format!("End «{name}»"))
            .end_form();
    }
    Ok(page)
}

/// Who asks about what apps were given, and by whom those were let in.
struct Asking {
    whose: String,
    /// In the trail.
    by: LoggedIn,
    /// What the trail says of an end.
    says: &'static str,
}

impl Asking {
    fn themselves(person: LoggedIn) -> Self {
        Self { whose: person.user.clone(), by: person, says: "ended what was given" }
    }

    /// A person who acts without an app, for what they let in themselves: no app is told of others, nor ends them. Only the organisation's own
    /// commands name somebody else.
    fn of(doors: &Doors, headers: &HeaderMap, caller: Caller, named: Option<String>) -> Result<Self, Failure> {
        let denied = |sentence: &str| Failure::Denied { sentence: sentence.to_owned(), suppressed: false };
        if caller.app.is_some() {
            return Err(denied("an app neither sees nor ends what others were given"));
        }
        let at = now().0 / 1000;
        let Some(named) = named else {
            let by = LoggedIn { user: caller.user, role: caller.role, patient: caller.patient, fhir_user: None, at };
            return Ok(Self::themselves(by));
        };
        let operates = super::claims(headers, doors).is_ok_and(|claims| claims.bearer.operator);
        if !operates || caller.role != Role::Custodian {
            return Err(denied("nobody sees or ends what another user let in: leave `user` out for your own"));
        }
        let users = doors.identity.users_now();
        let user = users.get(&named).ok_or_else(|| Failure::NotFound("user".to_owned()))?;
        // A patient finds it in the own trail.
        let (user, patient) = (caller.user, user.patient.clone());
        let by = LoggedIn { user, role: caller.role, patient, fhir_user: None, at };
        Ok(Self { whose: named, by, says: "ended by the organisation" })
    }
}

/// The same; a denial is in the trail.
fn asking(doors: &Doors, from: Origin<'_>, caller: Caller, named: Option<String>) -> Result<Asking, Failure> {
    let known = doors.identity.users().get(&caller.user).is_some();
    let who = if known { SaidToBe::User(caller.user.clone()) } else { SaidToBe::Somebody };
    Asking::of(doors, from.headers, caller, named).inspect_err(|failure| {
        if let Failure::Denied { sentence, .. } = failure {
            trace::refused(doors, from, who, sentence);
        }
    })
}

fn ours(refused: Refused) -> Refusal {
    Failure::Ours(refused.text).into()
}

/// `GET /account/sessions`: the same as a document; of another user with `?user=`, for the organisation's own commands.
pub(crate) async fn list(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "user");
    let from = Origin { headers: &headers, ip: address.ip() };
    let asking = asking(&doors, from, caller, named.map(|(_, user)| user.into_owned()))?;
    let all = held(&doors, &asking.whose).await.map_err(ours)?;
    let one = |Held { sid, until, session }: Held| {
        json!({
            "session": sid, "app": session.app, "scope": session.scope, "patient": session.launched,
            "since": instant(session.begun), "until": instant(until)
        })
    };
    let all: Vec<Value> = all.into_iter().map(one).collect();
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({"sessions": all}))).into_response())
}

/// Which session is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    session: String,
    /// Of another user, for the organisation's own commands.
    user: Option<String>,
}

/// `POST /account/sessions/end`: ends one.
pub(crate) async fn finish(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Known(caller): Known,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let Ending { session, user } = desk::document(&body)?;
    let from = Origin { headers: &headers, ip: address.ip() };
    let asking = asking(&doors, from, caller, user)?;
    match end_of(&doors, from, &asking, &session).await.map_err(ours)? {
        true => Ok(StatusCode::NO_CONTENT),
        // What the caller wrote may be a token: it is not said again.
        false => Err(Failure::NotFound("session".to_owned()).into()),
    }
}
