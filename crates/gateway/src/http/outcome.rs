//! The one place where failures become HTTP statuses and OperationOutcomes.

use crate::identity::issuer::TokenError;
use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use exchange::Failure;
use record::fhir::{Issue, IssueType, Outcome};

/// The content type of every FHIR answer.
pub(crate) const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

/// The longest sentence of the framework that is passed on, in bytes.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// What doors answer with when they fail.
pub(crate) struct Refusal(pub(crate) Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}
impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self(body_too_large()),
            _ => Self(Failure::invalid(IssueType::Structure, "", "the body broke off: send it again")),
        }
    }
}
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        respond(&self.0)
    }
}

fn body_too_large() -> Failure {
    let most = super::BODY_BYTES_MAX;
    Failure::TooLarge(format!(
        "the body is larger than this address takes, and none takes more than {most} bytes: send it in parts"
    ))
}

/// The answer to a body that is too large.
pub(crate) fn too_large() -> Response {
    let mut response = respond(&body_too_large());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to a request for another format than JSON.
pub(crate) fn not_acceptable() -> Response {
    let text = "FHIR is spoken in JSON here: ask for application/fhir+json, by Accept or `_format=json`";
    answer(StatusCode::NOT_ACCEPTABLE, &Outcome::new(Issue::error(IssueType::NotSupported, text)))
}

/// The answer to a failure.
pub(crate) fn respond(failure: &Failure) -> Response {
    let (status, outcome) = said(failure);
    let mut response = answer(status, &outcome);
    let after_s = match failure {
        Failure::Busy | Failure::Unreachable => 1,
        Failure::TooFast { wait_ms, .. } => wait_ms.div_ceil(1_000),
        _ => return response,
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s));
    response
}

/// What a failure is called, by its status and its OperationOutcome.
pub(crate) fn said(failure: &Failure) -> (StatusCode, Outcome) {
    let (status, kind) = match failure {
        Failure::Denied { suppressed: true, .. } => (StatusCode::FORBIDDEN, IssueType::Suppressed),
        Failure::Denied { suppressed: false, .. } => (StatusCode::FORBIDDEN, IssueType::Forbidden),
        Failure::Invalid(issues) => {
            let any = |kind: IssueType| issues.iter().any(|issue| issue.kind == kind);
            let status = if any(IssueType::TooLong) {
                StatusCode::PAYLOAD_TOO_LARGE
            } else if any(IssueType::Structure) {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            let outcome = Outcome::of(issues.clone());
            let wrong = || Outcome::new(Issue::error(IssueType::Invalid, "the request is wrong"));
            return (status, outcome.unwrap_or_else(wrong));
        }
        Failure::NotFound(_) => (StatusCode::NOT_FOUND, IssueType::NotFound),
        Failure::Gone(_) | Failure::LetGo(_) => (StatusCode::GONE, IssueType::Deleted),
        Failure::Precondition(_) => (StatusCode::PRECONDITION_FAILED, IssueType::Conflict),
        Failure::Conflict(_) => (StatusCode::CONFLICT, IssueType::Conflict),
        Failure::Duplicate(_) => (StatusCode::CONFLICT, IssueType::Duplicate),
        Failure::TooFast { .. } => (StatusCode::TOO_MANY_REQUESTS, IssueType::Throttled),
        Failure::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, IssueType::TooLong),
        Failure::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueType::NotSupported),
        Failure::Unsupported(_) => (StatusCode::BAD_REQUEST, IssueType::NotSupported),
        Failure::Tampered(_) => (StatusCode::SERVICE_UNAVAILABLE, IssueType::Security),
        Failure::Busy | Failure::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, IssueType::Throttled),
        Failure::SpentKey => (StatusCode::SERVICE_UNAVAILABLE, IssueType::Exception),
        Failure::Ours(why) => {
            tracing::error!(why, "a request failed for a reason of ours");
            let text = "something of ours failed; the request's id finds it in the log";
            return (StatusCode::INTERNAL_SERVER_ERROR, Outcome::new(Issue::error(IssueType::Exception, text)));
        }
    };
    (status, Outcome::new(Issue::error(kind, failure.to_string())))
}

/// What somebody is told by who was not let in.
pub(super) fn status_of(error: &TokenError) -> StatusCode {
    match error {
        TokenError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNAUTHORIZED,
    }
}

/// The answer to a request without a good token.
pub(crate) fn unauthenticated(error: &TokenError) -> Response {
    let kind = match error {
        TokenError::Expired => IssueType::Expired,
        TokenError::TooMany => IssueType::Throttled,
        _ => IssueType::Login,
    };
    let mut response = answer(status_of(error), &Outcome::new(Issue::error(kind, error.to_string())));
    // Source: RFC 6750 section 3.
    let asks = match error {
        TokenError::Missing => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    };
    let (name, value) = match error {
        TokenError::TooMany => (header::RETRY_AFTER, "300"),
        _ => (header::WWW_AUTHENTICATE, asks),
    };
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn answer(status: StatusCode, outcome: &Outcome) -> Response {
    (status, [(header::CONTENT_TYPE, FHIR_JSON)], Bytes::from(outcome.to_json())).into_response()
}

/// Brings what the framework refuses by itself, such as an address or a query that cannot be read, into the form of every other answer.
pub(crate) async fn in_our_form(response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let plain = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    if !plain || !status.is_client_error() {
        return response;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    let text = axum::body::to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = if text.is_empty() { "the request cannot be read" } else { text.as_ref() };
    answer(status, &Outcome::new(Issue::error(IssueType::Structure, text)))
}

/// A path that leads nowhere.
pub(crate) async fn no_such_door() -> Response {
    respond(&Failure::NotFound("this address".to_owned()))
}

/// A method that this path does not take.
pub(crate) async fn wrong_method() -> Response {
    let issue = Issue::error(IssueType::NotSupported, "this address does not take this method");
    answer(StatusCode::METHOD_NOT_ALLOWED, &Outcome::new(issue))
}

/// A panic somewhere behind the doors; its text stays out of the answer and, by the hook of `serve`, of the log: it may quote data.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    respond(&Failure::Ours("a panic was caught at the door".to_owned()))
}
