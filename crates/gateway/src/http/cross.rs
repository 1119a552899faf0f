//! What scripts of other origins may do here: those of registered apps, with a token, never by the browser's own credentials.
//!
//! Source: Fetch Standard, «CORS protocol»; SMART App Launch 2.2 asks for it where apps run in browsers.

use super::{Doors, PURPOSE, REQUEST_ID, headers::IF_NONE_EXIST};
use axum::http::{HeaderName, Method, header};
use std::{sync::Arc, time::Duration};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember the answer.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The pages for people: no script reads them.
const PAGES: [&str; 2] = ["/auth/authorize", "/account/apps"];

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Answers what browsers ask before their scripts do.
pub(super) fn layer(doors: &Doors) -> CorsLayer {
    let identity = Arc::clone(&doors.identity);
    let allowed = AllowOrigin::predicate(move |origin, parts| {
        !PAGES.contains(&parts.uri.path()) && origin.to_str().is_ok_and(|origin| identity.apps().is_origin(origin))
    });
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            IF_NONE_EXIST,
            PREFER,
            PURPOSE,
            REQUEST_ID,
        ])
        .expose_headers([
            header::CONTENT_LOCATION,
            header::ETAG,
            header::LAST_MODIFIED,
            header::LOCATION,
            header::RETRY_AFTER,
            REQUEST_ID,
        ])
        .max_age(REMEMBERED)
}
