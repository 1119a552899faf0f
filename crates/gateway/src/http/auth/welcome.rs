//! Invitations: a custodian hands one over for a login that the directory keeps, and its user chooses a password at `/account/welcome`.

use super::{Known, NoLogin, account::is_of_another_origin, fields::Fields, let_in, pages::Page, trace::Origin};
use crate::{
    http::{Doors, outcome::Refusal},
    identity::{
        issuer::TokenError,
        users::{INVITATION_SECONDS, Users, check_password},
    },
};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::{Failure, clock::now};
use record::TimeMs;
use serde_json::json;
use std::net::SocketAddr;

/// Where the form of the page leads, beside it.
const ACTION: &str = "welcome";

/// `POST /fhir/PractitionerRole/{id}/$invite`: draws the invitation of the user whom the record lets in. It is shown this once.
pub(crate) async fn invite(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entitled = doors.node.entitled_to_invite(&caller, &id).await?;
    let at = now();
    let (name, file) = (entitled.name.clone(), doors.identity.users_file());
    let drawn = tokio::task::spawn_blocking(move || Users::invite(&file, &name, at)).await;
    let drawn = drawn.map_err(|e| Failure::Ours(format!("no invitation was drawn: {e}")))?;
    let invitation = drawn.map_err(|why| Failure::Conflict(format!("{why:#}")))?;
    let until = TimeMs(at.0 + INVITATION_SECONDS * 1000);
    let body = json!({
        "login": entitled.name, "invitation": invitation, "until": until.to_instant(),
        "at": format!("{}/account/{ACTION}", doors.base.origin_of(&headers))
    });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// `GET /account/welcome`: asks for the invitation and a password.
pub(crate) async fn show(State(doors): State<Doors>) -> Response {
    page(&doors, None).into_response()
}

fn page(doors: &Doors, wrong: Option<&str>) -> Page {
    Page::new(&format!("Your login at {}", doors.identity.issuer.org()))
        .alert(wrong)
        .paragraph("You were invited, or your password is forgotten and you were given another invitation. Choose the password by which you log in from now on: at least 8 characters, better a sentence.")
        .form_to(ACTION, &[])
        .field("username", "Name", "text", "username", true)
        .field("invitation", "Invitation", "text", "one-time-code", false)
        .field("password", "New password", "password", "new-password", false)
        .field("again", "The same password once more", "password", "new-password", false)
        .button("Take this password")
        .end_form()
}

/// `POST /account/welcome`: takes the password.
pub(crate) async fn choose(
    State(doors): State<Doors>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if is_of_another_origin(&doors, &headers) {
        let text = format!("Open {}/account/{ACTION} in the browser itself.", doors.base.origin_of(&headers));
        return page(&doors, Some(&text)).status(StatusCode::FORBIDDEN).into_response();
    }
    let fields = Fields::read(&body).unwrap_or_default();
    let get = |name| fields.get(name).unwrap_or_default().to_owned();
    let (name, secret, password) = (get("username"), get("invitation"), get("password"));
    let wrong = match check_password(&password) {
        Err(why) => Some(format!("{why:#}.")),
        Ok(()) if password != get("again") => Some("The two passwords differ.".to_owned()),
        Ok(()) => None,
    };
    if let Some(text) = wrong {
        return page(&doors, Some(&text)).status(StatusCode::BAD_REQUEST).into_response();
    }
    let says = ["chose a password by an invitation", "an invitation was refused: there is no such one"];
    let (file, named) = (doors.identity.users_file(), name.clone());
    let check = move || {
        let taken = Users::take_up(&file, &named, secret.trim(), &password, now());
        taken.inspect_err(|error| tracing::error!(error = format!("{error:#}"), "no password can be written")).ok()?
    };
    let origin = Origin { headers: &headers, ip: address.ip() };
    match let_in(&doors, &name, origin, says, check).await {
        Ok(_) => Page::new("You can log in now").paragraph("Your password is taken.").into_response(),
        Err(NoLogin::Token(TokenError::Refused)) => {
            let text = "The name or the invitation is not right, or the invitation is over: ask for another.";
            page(&doors, Some(text)).status(StatusCode::UNAUTHORIZED).into_response()
        }
        Err(no_login) => {
            let (status, text) = no_login.on_page();
            page(&doors, Some(&text)).status(status).into_response()
        }
    }
}
