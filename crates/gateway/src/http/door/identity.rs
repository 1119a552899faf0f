//! The doors of identity: how people, apps and programs get their tokens, and give them back.

use super::{Asked, Body, Door, Kind, Media, door, json, may, must};
use crate::http::{auth, desk};
use axum::{
    extract::DefaultBodyLimit,
    routing::{get, post},
};

/// The largest login or form of an app, in bytes: an assertion with a large key, or two lists of scopes.
const LOGIN_BYTES_MAX: usize = 16 * 1024;

const LOGIN: &[u16] = &[400, 401, 413, 429, 500, 503];
const FORM: &[u16] = &[413];
const ALWAYS: &[u16] = &[503];

/// All of them.
pub(super) fn all() -> Vec<Door> {
    let bounded =
        |route: axum::routing::MethodRouter<crate::http::Doors>| route.layer(DefaultBodyLimit::max(LOGIN_BYTES_MAX));
    let login = json(
        [must("username", Kind::Text("ana")), must("password", Kind::Text("a password"))],
        desk::reads::<auth::Login>,
    );
    let launch = json(
        [must("patient", Kind::Text("ilse")), may("encounter", Kind::Text("e1"))],
        desk::reads::<auth::launch::For>,
    );
    let ending =
        json([must("session", Kind::Text("")), may("user", Kind::Text(""))], desk::reads::<auth::account::Ending>);
    let about_a_token = |path, route, about| {
        door("post", path, bounded(route), about)
            .public(FORM)
            .takes(Body::Fields(vec![
                must("token", Kind::Text("")),
                may("token_type_hint", Kind::OneOf(&["access_token", "refresh_token"])),
                may("client_id", Kind::Text("chart")),
                may("client_secret", Kind::Text("")),
            ]))
            .gives(200, Media::Json)
            .refuses_apps()
    };
    let question: [Asked; 10] = [
        must("response_type", Kind::OneOf(&["code"])),
        must("client_id", Kind::Text("chart")),
        must("redirect_uri", Kind::Text("https://chart.example/back")),
        must("scope", Kind::Text("launch/patient patient/*.rs")),
        must("state", Kind::Text("98wrghuwuogerg97")),
        must("aud", Kind::Text("https://fhir.mercy.example/fhir")),
        must("code_challenge", Kind::Text("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")),
        must("code_challenge_method", Kind::OneOf(&["S256"])),
        may("launch", Kind::Text("")),
        may("nonce", Kind::Text("")),
    ];
    vec![
        door(
            "get",
            "/fhir/.well-known/smart-configuration",
            get(auth::discovery::smart),
            "How SMART apps find their way.",
        )
        .public(ALWAYS)
        .gives(200, Media::Json),
        door(
            "get",
            "/.well-known/openid-configuration",
            get(auth::discovery::openid),
            "The same, as OpenID Connect describes it.",
        )
        .public(ALWAYS)
        .gives(200, Media::Json),
        door("get", "/auth/jwks", get(auth::discovery::keys), "Public keys of the tokens' issuer.")
            .public(ALWAYS)
            .gives(200, Media::Json),
        door("get", "/auth/authorize", get(auth::authorize::ask), "An app's question to a person: shows the login.")
            .public(&[])
            .asks(question)
            .gives(200, Media::Html)
            .gives(303, Media::Nothing)
            .gives(400, Media::Html)
            .gives(500, Media::Html)
            .gives(503, Media::Html),
        door("post", "/auth/authorize", bounded(post(auth::authorize::step)), "The next step of a person who was asked.")
            .public(FORM)
            .takes(Body::Fields(vec![
                must("authorization", Kind::Text("")),
                must("step", Kind::OneOf(&["login", "patient", "answer"])),
                may("username", Kind::Text("")),
                may("password", Kind::Text("")),
                may("patient", Kind::Text("ilse")),
                may("answer", Kind::OneOf(&["yes", "no"])),
            ]))
            .gives(200, Media::Html)
            .gives(303, Media::Nothing)
            .gives(400, Media::Html)
            .gives(401, Media::Html)
            .gives(403, Media::Html)
            .gives(429, Media::Html)
            .gives(500, Media::Html)
            .gives(503, Media::Html),
        door(
            "post",
            "/auth/token",
            bounded(post(auth::token)),
            "Gives a token: for a name and a password, or as a form to an app (OAuth 2.0; see the SMART configuration).",
        )
        .public(LOGIN)
        .takes(login)
        .gives(200, Media::Json),
        about_a_token("/auth/revoke", post(auth::token::revoke), "Ends the session of a token."),
        about_a_token("/auth/introspect", post(auth::token::introspect), "What a token is good for."),
        door("get", "/account/apps", get(auth::account::show), "Which apps somebody let in: asks who it is.")
            .public(ALWAYS)
            .gives(200, Media::Html),
        door("post", "/account/apps", bounded(post(auth::account::step)), "The next step of a person who looks at apps.")
            .public(FORM)
            .takes(Body::Fields(vec![
                must("step", Kind::OneOf(&["login", "end"])),
                may("username", Kind::Text("")),
                may("password", Kind::Text("")),
                may("visit", Kind::Text("")),
                may("session", Kind::Text("")),
            ]))
            .gives(200, Media::Html)
            .gives(400, Media::Html)
            .gives(401, Media::Html)
            .gives(403, Media::Html)
            .gives(429, Media::Html)
            .gives(500, Media::Html)
            .gives(503, Media::Html),
        door("get", "/account/sessions", get(auth::account::list), "Which apps the caller let in.")
            .asks([may("user", Kind::Text("ilse"))])
            .gives(200, Media::Json),
        door("post", "/account/sessions/end", bounded(post(auth::account::finish)), "Ends what an app was given, at once.")
            .takes(ending)
            .gives(204, Media::Nothing),
        door("get", "/account/welcome", get(auth::welcome::show), "Where somebody who was invited chooses a password.")
            .public(ALWAYS)
            .gives(200, Media::Html),
        door("post", "/account/welcome", bounded(post(auth::welcome::choose)), "Takes the password of somebody who was invited.")
            .public(FORM)
            .takes(Body::Fields(vec![
                must("username", Kind::Text("ana")),
                must("invitation", Kind::Text("")),
                must("password", Kind::Text("")),
                must("again", Kind::Text("")),
            ]))
            .gives(200, Media::Html)
            .gives(400, Media::Html)
            .gives(401, Media::Html)
            .gives(403, Media::Html)
            .gives(429, Media::Html)
            .gives(503, Media::Html),
        door(
            "post",
            "/fhir/PractitionerRole/{id}/$invite",
            post(auth::welcome::invite),
            "Invites whom a record of the directory lets in: answers what is to be handed over.",
        )
        .gives(201, Media::Json),
        door("post", "/auth/launch", bounded(post(auth::launch::launch)), "Launches an app for a patient (EHR launch).")
            .takes(launch)
            .gives(201, Media::Json),
    ]
}
