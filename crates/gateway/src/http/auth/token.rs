//! `POST /auth/token`, `/auth/revoke`, `/auth/introspect`: what apps and programs get, give back and ask about.
//!
//! Source: RFC 6749, RFC 7636 (PKCE), RFC 7009 (revocation), RFC 7662 (introspection), SMART App Launch 2.2.

use super::{
    client::{Asking, said_to_be},
    fields::Fields,
    refusal::{Code, Refused},
    trace::{self, Origin, Person},
};
use crate::{
    http::{Doors, headers::is_form},
    identity::{
        drawn,
        grant::Given,
        issuer::{Bearer, Claims, LetIn},
        pending::{LoggedIn, Redeemed},
        sessions::{Lasts, NotRefreshed, Session},
    },
};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::Engine as _;
use exchange::{Came, clock::now};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{net::SocketAddr, sync::Arc};

/// The longest refresh token, in bytes.
const REFRESH_BYTES_MAX: usize = 64;
/// Lengths of what a challenge is made of. Source: RFC 7636 section 4.1.
const VERIFIER_BYTES: std::ops::RangeInclusive<usize> = 43..=128;

/// Runs something that waits for the disk beside the threads that serve everybody.
pub(super) async fn on_disk<T: Send + 'static>(
    doors: &Doors,
    run: impl FnOnce(&crate::identity::Identity) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Refused> {
    let identity = Arc::clone(&doors.identity);
    match tokio::task::spawn_blocking(move || run(&identity)).await {
        Ok(done) => done.map_err(Refused::ours),
        Err(e) => Err(Refused::ours(e)),
    }
}

/// What an app is answered with.
struct Answer {
    bearer: Bearer,
    given: Given,
    /// The refresh token.
    refresh: Option<String>,
    launched: Option<String>,
    encounter: Option<String>,
    /// Who let the app in, and the nonce of the question.
    person: Option<(LoggedIn, Option<String>)>,
}

impl Answer {
    fn write(self, doors: &Doors, headers: &HeaderMap) -> Result<Response, Refused> {
        let issuer = &doors.identity.issuer;
        let (user, app) = (self.bearer.sub.clone(), self.bearer.app.as_ref().map(|app| app.client_id.clone()));
        let seconds = self.bearer.seconds();
        let token = issuer.issue(self.bearer, now()).map_err(Refused::ours)?;
        let mut body = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": self.given.scope()
        });
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                body[name] = Value::from(value);
            }
        };
        add("refresh_token", self.refresh);
        add("patient", self.launched);
        add("encounter", self.encounter);
        if let Some((person, nonce)) = self.person.filter(|_| self.given.has("openid")) {
            let origin = doors.base.origin_of(headers);
            let shown = self.given.has("fhirUser") || self.given.has("profile");
            let fhir_user = person.fhir_user.filter(|_| shown).map(|user| format!("{}/{user}", doors.base.of(headers)));
            let said = (nonce.as_deref(), fhir_user.as_deref());
            let told = issuer.id_token(&origin, app.as_deref().unwrap_or_default(), &user, said, now());
            add("id_token", Some(told.map_err(Refused::ours)?));
        }
        if body.get("patient").is_some() {
            body["need_patient_banner"] = Value::from(true);
        }
        Ok(([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(body)).into_response())
    }
}

fn invalid(text: &str) -> Refused {
    Refused::new(Code::InvalidGrant, text)
}

/// Gives an app a token, as its form asks for one. It is in the trail, however it ends.
pub(super) async fn to_app(doors: &Doors, from: Origin<'_>, body: &Bytes) -> Result<Response, Refused> {
    let fields = read(from.headers, body)?;
    let answer = match given(doors, from, &fields).await {
        Ok(answer) => answer,
        Err(refused) => {
            note_refused(doors, from, &fields, &refused);
            return Err(refused);
        }
    };
    let says = format!("was given a token for: {}", answer.given.scope());
    let app = answer.bearer.app.as_ref();
    let (person, id) = (Person::of(&answer.bearer), app.map(|app| app.client_id.as_str()));
    if let Err(error) = trace::note(doors, from, Came::In, person, id, &says).await {
        // What is not in the trail is not given: the app comes again with the refresh token that it has.
        if let (Some(token), Some(next)) = (fields.get("refresh_token"), answer.refresh) {
            let token = token.to_owned();
            on_disk(doors, move |identity| identity.sessions.give_back(&token, &next)).await?;
        }
        return Err(Refused::ours(error));
    }
    answer.write(doors, from.headers)
}

/// Has it written down that an app was refused that did not show who it is, or what it was given.
fn note_refused(doors: &Doors, from: Origin<'_>, fields: &Fields, refused: &Refused) {
    if [Code::InvalidClient, Code::InvalidGrant, Code::UnauthorizedClient].contains(&refused.code) {
        trace::refused(doors, from, said_to_be(doors, from.headers, fields), &refused.text);
    }
}

/// Writes down that a session has ended which nobody asked to end. It has ended, whether that can be written down or not.
async fn note_end(doors: &Doors, from: Origin<'_>, session: &Session, why: &str) {
    let users = doors.identity.users();
    let person = users.get(&session.user).map(|user| Person {
        user: session.user.as_str().into(),
        role: user.role,
        patient: user.patient.as_deref(),
    });
    if let Err(error) = trace::note(doors, from, Came::Out, person, Some(&session.app), why).await {
        tracing::error!(%error, "the end of a session could not be written into the trail");
    }
}

async fn given(doors: &Doors, from: Origin<'_>, fields: &Fields) -> Result<Answer, Refused> {
    let headers = from.headers;
    let endpoint = format!("{}/auth/token", doors.base.origin_of(headers));
    let asking = match nameless(doors, headers, fields).await? {
        Some(asking) => asking,
        None => Asking::of(doors, headers, fields, &endpoint).await?,
    };
    match fields.get("grant_type") {
        Some("authorization_code") => by_code(doors, from, asking, fields).await,
        Some("refresh_token") => by_refresh(doors, from, asking, fields).await,
        Some("client_credentials") => by_itself(asking, fields),
        _ => {
            let text = "`grant_type` is authorization_code, refresh_token or client_credentials";
            Err(Refused::new(Code::UnsupportedGrantType, text))
        }
    }
}

fn read(headers: &HeaderMap, body: &Bytes) -> Result<Fields, Refused> {
    let form = is_form(headers).ok().and_then(|()| Fields::read(body));
    form.ok_or_else(|| {
        Refused::new(
            Code::InvalidRequest,
            "send a form (application/x-www-form-urlencoded) in which each parameter stands once",
        )
    })
}

/// The app of a refresh token that comes alone: fhirclient, for one, does not say by which app it asks, and RFC 6749 section 6 does not demand it.
/// An app that shows who it is has to do so here, too.
async fn nameless(doors: &Doors, headers: &HeaderMap, fields: &Fields) -> Result<Option<Asking>, Refused> {
    let says = ["client_id", "client_assertion"].iter().any(|name| fields.get(name).is_some());
    let Some(token) = fields.get("refresh_token").filter(|_| fields.get("grant_type") == Some("refresh_token")) else {
        return Ok(None);
    };
    if says || token.len() > REFRESH_BYTES_MAX || headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let token = token.to_owned();
    let Some((_, id)) = on_disk(doors, move |identity| identity.sessions.of_refresh(&token)).await? else {
        return Err(invalid("the refresh token is of no app here, or its session has ended"));
    };
    let app = doors.identity.apps().get(&id).filter(|app| app.is_public()).cloned();
    Ok(app.map(|app| Asking { id, app }))
}

fn let_in(app: String, given: &Given, launched: Option<String>, service: bool) -> Option<LetIn> {
    Some(LetIn { client_id: app, scope: given.records.to_string(), launched, service })
}

async fn by_code(
    doors: &Doors,
    from: Origin<'_>,
    Asking { id, .. }: Asking,
    fields: &Fields,
) -> Result<Answer, Refused> {
    let code = fields.get("code").ok_or_else(|| Refused::new(Code::InvalidRequest, "`code` is missing"))?;
    let code = match doors.identity.pending.redeem(code, now().0 / 1000) {
        Redeemed::Good(code) => code,
        Redeemed::Unknown => return Err(invalid("the code is none of ours, or its minute is over")),
        Redeemed::Again { sid } => {
            tracing::warn!(app = id, "a code came a second time: its session ends");
            let named = sid.clone();
            // It ends whether it is known whose it was or not.
            let session = on_disk(doors, move |identity| identity.sessions.get(&named)).await.ok().flatten();
            on_disk(doors, move |identity| identity.sessions.end(&sid, now().0 / 1000)).await?;
            if let Some(session) = session {
                note_end(doors, from, &session, "ended: the code that it began with came a second time").await;
            }
            return Err(invalid("the code was used before: what it gave is good no more"));
        }
    };
    if code.session.app != id || fields.get("redirect_uri") != Some(&code.redirect) {
        return Err(invalid("the code was given to another app, or for another `redirect_uri`"));
    }
    let verifier = fields.get("code_verifier").unwrap_or_default();
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    if !VERIFIER_BYTES.contains(&verifier.len()) || challenge != code.challenge {
        return Err(invalid("`code_verifier` is not what the challenge was made of"));
    }
    let crate::identity::pending::Code { sid, nonce, session, person, given, .. } = *code;
    if !doors.identity.is_still(&person.user, person.role, person.patient.as_deref(), person.at) {
        return Err(invalid("the user who let the app in may come in no more, or has another password"));
    }
    let (lasts, refresh) = match (given.has("offline_access"), given.has("online_access")) {
        (true, _) => (Lasts::Offline, Some(drawn().map_err(Refused::ours)?)),
        (false, true) => (Lasts::Online, Some(drawn().map_err(Refused::ours)?)),
        (false, false) => (Lasts::ForOneToken, None),
    };
    let (named, begun, first) = (sid.clone(), session.clone(), refresh.clone());
    on_disk(doors, move |identity| identity.sessions.begin(&named, &begun, lasts, first.as_deref(), now().0 / 1000))
        .await?;
    let Session { launched, encounter, user, .. } = session;
    let app = let_in(id, &given, launched.clone(), false);
    let bearer = Bearer { sid: Some(sid), app, ..Bearer::user(&user, person.role, person.patient.clone()) };
    Ok(Answer { bearer, given, refresh, launched, encounter, person: Some((person, nonce)) })
}

async fn by_refresh(
    doors: &Doors,
    from: Origin<'_>,
    Asking { id, app }: Asking,
    fields: &Fields,
) -> Result<Answer, Refused> {
    let token =
        fields.get("refresh_token").ok_or_else(|| Refused::new(Code::InvalidRequest, "`refresh_token` is missing"))?;
    let next = drawn().map_err(Refused::ours)?;
    let (name, token, following) = (id.clone(), token.to_owned(), next.clone());
    let (asked, registered, seconds) = (fields.get("scope").map(str::to_owned), app.clone(), now().0 / 1000);
    // An app may ask for less this time, and gets more again the next.
    let given_in = move |session: &Session| {
        let kept = Given::again(&registered, &session.scope);
        asked.as_ref().map_or_else(|| kept.clone(), |asked| kept.less(asked))
    };
    let fits = given_in.clone();
    let refreshed = on_disk(doors, move |identity| {
        identity.sessions.refresh(&name, &token, &following, seconds, |session| !fits(session).is_nothing())
    });
    let refreshed = refreshed.await?;
    if let Err(NotRefreshed::Again(session)) = &refreshed {
        note_end(doors, from, session, "ended: a refresh token of it came a second time").await;
    }
    let (sid, session) = refreshed.map_err(|why| match why {
        NotRefreshed::Unknown => invalid("the refresh token is none of this app's, or its session has ended"),
        NotRefreshed::Again(_) => {
            tracing::warn!(app = id, "a refresh token came a second time: its session ends");
            invalid("the refresh token was used before: somebody may have copied it, and its session has ended")
        }
        NotRefreshed::Unfit => Refused::new(
            Code::InvalidScope,
            "nothing is left of what the app was given: the refresh token is still good",
        ),
    })?;
    let users = doors.identity.users();
    let user = users.get(&session.user);
    let goes_on = user.filter(|user| {
        let kept = Given::again(&app, &session.scope);
        let may_refresh = kept.has("offline_access") || kept.has("online_access");
        let (role, patient) = (user.role, user.patient.as_deref());
        may_refresh
            && session.begun >= app.since
            && doors.identity.is_still(&session.user, role, patient, session.begun)
    });
    let Some(user) = goes_on else {
        on_disk(doors, move |identity| identity.sessions.end(&sid, seconds)).await?;
        let why = "ended: the user's login or what the app is registered for has changed";
        note_end(doors, from, &session, why).await;
        return Err(invalid("the session has ended: the user's login or what the app is registered for has changed"));
    };
    let given = given_in(&session);
    let Session { launched, encounter, user: name, .. } = session;
    let letting = let_in(id, &given, launched.clone(), false);
    let bearer = Bearer { sid: Some(sid), app: letting, ..Bearer::user(&name, user.role, user.patient.clone()) };
    Ok(Answer { bearer, given, refresh: Some(next), launched, encounter, person: None })
}

fn by_itself(Asking { id, app }: Asking, fields: &Fields) -> Result<Answer, Refused> {
    let Some(role) = app.service else {
        return Err(Refused::new(
            Code::UnauthorizedClient,
            "this app acts for people who let it in, and not for itself",
        ));
    };
    let given = Given::to_service(&app, fields.get("scope").unwrap_or_default());
    if given.is_nothing() {
        let text = format!("ask by `scope` for something of what the app is registered for: {}", app.scope);
        return Err(Refused::new(Code::InvalidScope, text));
    }
    let letting = let_in(id.clone(), &given, None, true);
    let sid = Some(drawn().map_err(Refused::ours)?);
    let bearer = Bearer { sid, app: letting, ..Bearer::user(&id, role, None) };
    Ok(Answer { bearer, given, refresh: None, launched: None, encounter: None, person: None })
}

/// Ends a session, in the trail first: after that none of its tokens is good any more.
async fn end(
    doors: &Doors,
    from: Origin<'_>,
    sid: String,
    bearer: Option<&Bearer>,
    seconds: u64,
) -> Result<(), Refused> {
    if let Some(bearer) = bearer {
        let app = bearer.app.as_ref().map(|app| app.client_id.as_str());
        let noted = trace::note(doors, from, Came::Out, Person::of(bearer), app, "ended what was given").await;
        noted.map_err(Refused::ours)?;
    }
    on_disk(doors, move |identity| identity.sessions.end(&sid, seconds)).await
}

/// As whom the app of a session acts that can be refreshed.
async fn acting_in(doors: &Doors, sid: &str) -> Result<Option<Bearer>, Refused> {
    let sid = sid.to_owned();
    let Some(session) = on_disk(doors, move |identity| identity.sessions.get(&sid)).await? else { return Ok(None) };
    let users = doors.identity.users();
    Ok(users.get(&session.user).map(|user| {
        let app = Some(LetIn { client_id: session.app, scope: session.scope, launched: None, service: false });
        Bearer { app, ..Bearer::user(&session.user, user.role, user.patient.clone()) }
    }))
}

/// `POST /auth/revoke`: ends the session of a token. That of an app is ended by the app; a user's own by whoever has the token.
pub(crate) async fn revoke(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let fields = read(&headers, &body)?;
    let token = fields.get("token").ok_or_else(|| Refused::new(Code::InvalidRequest, "`token` is missing"))?.to_owned();
    let (seconds, from) = (now().0 / 1000, Origin { headers: &headers, ip: address.ip() });
    let by_users_token = doors.identity.check(&token).ok().filter(|claims| claims.bearer.app.is_none());
    let mut ended = None;
    let sid = if let Some(claims) = by_users_token {
        // Those of other issuers and of the gateway's own commands belong to no session here.
        let text = "only who gave this token can end it: it is good for a short time";
        let sid = claims.bearer.sid.clone().ok_or_else(|| Refused::new(Code::UnsupportedTokenType, text))?;
        ended = Some(claims.bearer);
        Some(sid)
    } else {
        let endpoint = format!("{}/auth/revoke", doors.base.origin_of(&headers));
        let asking = Asking::of(&doors, &headers, &fields, &endpoint).await;
        let asking = asking.inspect_err(|refused| note_refused(&doors, from, &fields, refused))?;
        let own = |claims: &Claims| claims.bearer.app.as_ref().is_some_and(|app| app.client_id == asking.id);
        let access = doors.identity.check(&token).ok().filter(own).map(|claims| claims.bearer);
        match access {
            Some(bearer) => {
                ended = Some(bearer.clone());
                bearer.sid
            }
            None => on_disk(&doors, move |identity| identity.sessions.of_refresh(&token))
                .await?
                .and_then(|(sid, app)| (app == asking.id).then_some(sid)),
        }
    };
    // A token that is none is good no more: that is what was asked for. Source: RFC 7009 section 2.2.
    if let Some(sid) = sid {
        let bearer = match ended {
            Some(bearer) => Some(bearer),
            None => acting_in(&doors, &sid).await?,
        };
        end(&doors, from, sid, bearer.as_ref(), seconds).await?;
    }
    Ok(StatusCode::OK.into_response())
}

/// `POST /auth/introspect`: what a token is good for, for programs of the organisation that can show who they are.
pub(crate) async fn introspect(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let fields = read(&headers, &body)?;
    let endpoint = format!("{}/auth/introspect", doors.base.origin_of(&headers));
    let asking =
        Asking::of(&doors, &headers, &fields, &endpoint).await.and_then(|asking| match asking.app.is_public() {
            true => Err(Refused::new(Code::InvalidClient, "only an app that shows who it is may ask about tokens")),
            false => Ok(asking),
        });
    if let Err(refused) = asking {
        note_refused(&doors, Origin { headers: &headers, ip: address.ip() }, &fields, &refused);
        return Err(refused);
    }
    let token = fields.get("token").ok_or_else(|| Refused::new(Code::InvalidRequest, "`token` is missing"))?;
    let body = match doors.identity.check(token) {
        Err(_) => json!({"active": false}),
        Ok(claims) => {
            let origin = doors.base.origin_of(&headers);
            let (issued, bearer) = (claims.issued(), claims.bearer);
            let mut body = json!({
                "active": true, "sub": bearer.sub, "exp": claims.exp, "iat": issued, "iss": origin, "token_type": "Bearer",
                "role": bearer.role
            });
            if let Some(app) = bearer.app {
                body["client_id"] = app.client_id.into();
                body["scope"] = app.scope.into();
                if let Some(patient) = app.launched {
                    body["patient"] = patient.into();
                }
            }
            body
        }
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
