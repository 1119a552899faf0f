//! The HTTP doors of one organisation's gateway.

mod auth;
mod base;
mod cross;
mod desk;
mod door;
mod export;
mod fhir;
mod frames;
mod headers;
mod ledger;
mod live;
mod member;
mod openapi;
mod outcome;
pub(crate) mod policy;
mod recording;
mod replay;
mod subscription;
pub(crate) mod tls;
mod watch;
mod zip;

pub(crate) use auth::{caller_by, trace};
pub(crate) use base::Base;
pub(crate) use frames::SEQUENCE;
pub(crate) use outcome::said;

use crate::identity::Identity;
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath},
    http::{HeaderName, Request},
    middleware,
    response::Response,
};
use exchange::Node;
use std::{ops::Deref, sync::Arc, time::Duration};
use tower_http::{catch_panic::CatchPanicLayer, timeout::RequestBodyTimeoutLayer};
use tracing::Instrument as _;

/// The largest request body, in bytes: a transaction Bundle of some thousand entries.
pub(crate) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may stand still while it is received.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Passwords that are hashed at the same time: each takes some 20 MB and as many milliseconds.
const LOGINS_MAX: usize = 4;
/// Requests that are worked on at the same time; more are told to try again.
const REQUESTS_MAX: usize = 512;
/// WebSockets that are open at the same time.
const SOCKETS_MAX: usize = 4_096;
/// WebSockets of subscriptions that are open at the same time, and those of them that are bound to none yet: these anybody may open.
const SUBSCRIBED_MAX: usize = 1_024;
const UNBOUND_MAX: usize = 64;
/// Names a request in answers and in the audit trail.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says why the caller acts, as a v3-ActReason code.
pub(crate) const PURPOSE: HeaderName = HeaderName::from_static("x-purpose-of-use");

/// What every door can reach. Cheap to clone: each layer that a request goes through has it.
#[derive(Clone)]
pub(crate) struct Doors(Arc<Behind>);

impl Deref for Doors {
    type Target = Behind;

    fn deref(&self) -> &Behind {
        &self.0
    }
}

/// What is behind the doors.
#[derive(Clone)]
pub(crate) struct Behind {
    pub(crate) node: Node,
    pub(crate) identity: Arc<Identity>,
    base: Base,
    places: Arc<tokio::sync::Semaphore>,
    sockets: Arc<tokio::sync::Semaphore>,
    subscribed: Arc<tokio::sync::Semaphore>,
    unbound: Arc<tokio::sync::Semaphore>,
    logins: Arc<tokio::sync::Semaphore>,
    requests: watch::Requests,
    /// Tokens by which WebSockets are bound to subscriptions.
    bindings: Arc<subscription::Bindings>,
}

impl Doors {
    /// The same doors, for callers who call them by another base.
    pub(crate) fn called(&self, base: Base) -> Self {
        Self(Arc::new(Behind { base, ..Behind::clone(self) }))
    }

    /// The doors of a node.
    pub(crate) fn new(node: Node, identity: Arc<Identity>, base: Base) -> Self {
        let places = Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
        let logins = Arc::new(tokio::sync::Semaphore::new(LOGINS_MAX));
        let sockets = Arc::new(tokio::sync::Semaphore::new(SOCKETS_MAX));
        let subscribed = Arc::new(tokio::sync::Semaphore::new(SUBSCRIBED_MAX));
        let unbound = Arc::new(tokio::sync::Semaphore::new(UNBOUND_MAX));
        let (requests, bindings) = (watch::Requests::new(), Arc::default());
        Self(Arc::new(Behind {
            node,
            identity,
            base,
            places,
            sockets,
            subscribed,
            unbound,
            logins,
            requests,
            bindings,
        }))
    }
}

/// All routes.
pub(crate) fn router(doors: Doors) -> Router {
    let mut router = Router::new();
    for door in door::all() {
        router = router.route(door.path, door.route);
    }
    router
        .fallback(outcome::no_such_door)
        .method_not_allowed_fallback(outcome::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        // One for all four: each layer costs a request some allocations, and copies of all those below it.
        .layer(middleware::from_fn_with_state(doors.clone(), let_in))
        .layer(CatchPanicLayer::custom(outcome::panicked))
        .layer(middleware::from_fn_with_state(doors.clone(), watch::measured))
        .layer(cross::layer(&doors))
        .layer(middleware::from_fn(named))
        .with_state(doors)
}

/// Refuses a request when too many are being worked on, when it announces a body that is too large, or when it takes no JSON where there is
/// nothing else; carries it out under the policies in force at its beginning, and sees to it that a refusal has our form.
async fn let_in(
    axum::extract::State(doors): axum::extract::State<Doors>,
    request: Request<axum::body::Body>,
    next: middleware::Next,
) -> Response {
    let announced = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let announced = announced.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    if announced > BODY_BYTES_MAX as u64 {
        return outcome::too_large();
    }
    let Ok(_place) = doors.places.clone().try_acquire_owned() else {
        return outcome::respond(&exchange::Failure::Busy);
    };
    if !headers::takes_what_is_there(&request) {
        return outcome::not_acceptable();
    }
    outcome::in_our_form(doors.node.under_one_policy(next.run(request)).await).await
}

/// Gives every request a name, its own if it brought a reasonable one, and says it in the answer.
async fn named(mut request: Request<axum::body::Body>, next: middleware::Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|v| v.to_str().ok());
    let fits = |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // By time, as the trail files what was done under it.
    let id = given.filter(fits).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
    let value = axum::http::HeaderValue::from_str(&id).ok();
    // The route and not the path, which names patients.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let span = tracing::debug_span!("request", %id, method = %request.method(), route);
    if let Some(value) = value.clone() {
        request.headers_mut().insert(REQUEST_ID, value);
    }
    let mut response = next.run(request).instrument(span).await;
    if let Some(value) = value {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
