//! What an operator's tools watch: whether the gateway answers, whether it should be sent requests, and what it counts. No health data, no
//! token needed.

use super::{Doors, outcome::Refusal};
use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use exchange::Failure;
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use serde_json::json;
use std::time::Instant;

/// Bounds of the histogram of requests, in seconds.
const REQUEST_S: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// How a text of several parts ends, in OpenMetrics.
const END: &str = "# EOF\n";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = [(&'static str, String); 3];

/// What the doors count: every request by method, door and status class. The door is the route, never the address, which names records.
#[derive(Clone)]
pub(crate) struct Requests {
    times: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { times: Family::new_with_constructor(|| Histogram::new(REQUEST_S)) }
    }

    fn text(&self) -> Result<String, Failure> {
        let mut registry = Registry::with_prefix("vitaltrace");
        let help = "Requests by method, door and class of the answer";
        registry.register_with_unit("request", help, Unit::Seconds, self.times.clone());
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|e| Failure::Ours(format!("the counters cannot be written: {e}")))?;
        Ok(text)
    }
}

/// Measures every request.
pub(crate) async fn measured(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let door = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "HEAD" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let class = format!("{}xx", response.status().as_u16() / 100);
    let labels = [("method", method), ("door", door), ("status", class)];
    doors.requests.times.get_or_create(&labels).observe(begin.elapsed().as_secs_f64());
    response
}

/// The process answers.
pub(crate) async fn health(State(doors): State<Doors>) -> Response {
    Json(json!({"status": "up", "org": doors.identity.issuer.org(), "ledger_height": doors.node.ledger_height()}))
        .into_response()
}

/// Requests may be sent here. Says also whether the ledger stands still, which does not stop anybody.
pub(crate) async fn ready(State(doors): State<Doors>) -> Response {
    let stalled = doors.node.is_stalled();
    match doors.node.not_ready().await {
        None => Json(json!({"ready": true, "ledger_stalled": stalled})).into_response(),
        Some(why) => {
            let body = json!({"ready": false, "why": why, "ledger_stalled": stalled});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// Everything that is counted, as OpenMetrics text.
pub(crate) async fn metrics(State(doors): State<Doors>) -> Result<Response, Refusal> {
    let [node, engine] = doors.node.metrics().await?;
    let mut text = String::new();
    for part in [doors.requests.text()?, node, engine] {
        text.push_str(part.strip_suffix(END).unwrap_or(&part));
    }
    text.push_str(END);
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}
