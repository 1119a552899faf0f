//! A client of a gateway, as one user: what the commands and the demonstration speak to a node with.

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// One user's connection to one organisation's gateway.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    purpose: Option<&'static str>,
    /// What its requests are called in the audit trail; each by a name of its own when not said.
    request: Option<String>,
}

/// What a gateway answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// `ETag`, for the next update.
    pub(crate) etag: Option<String>,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.bytes).context("the gateway's answer is no JSON")
    }

    /// The body's `id`.
    pub(crate) fn id(&self) -> anyhow::Result<String> {
        self.json()?["id"].as_str().map(str::to_owned).context("the gateway's answer has no id")
    }

    /// The diagnostics of an OperationOutcome, for people.
    pub(crate) fn diagnostics(&self) -> String {
        let outcome: Value = serde_json::from_slice(&self.bytes).unwrap_or(Value::Null);
        let issues = outcome["issue"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<&str> = issues.iter().filter_map(|issue| issue["diagnostics"].as_str()).collect();
        if texts.is_empty() { self.status.to_string() } else { texts.join("; ") }
    }

    /// Fails with what the gateway said, unless it said yes.
    pub(crate) fn good(self) -> anyhow::Result<Self> {
        if !self.status.is_success() {
            bail!("the gateway answered {}: {}", self.status.as_u16(), self.diagnostics());
        }
        Ok(self)
    }
}

impl Client {
    /// Logs in with a password.
    pub(crate) async fn login(base: &str, user: &str, password: &str) -> anyhow::Result<Self> {
        let anonymous = Self::with_token(base, String::new())?;
        let answer = anonymous.post("/auth/token", &json!({"username": user, "password": password})).await?.good()?;
        let token = answer.json()?["access_token"].as_str().context("no token in the answer")?.to_owned();
        Self::with_token(base, token)
    }

    /// Uses a token that is already there.
    pub(crate) fn with_token(base: &str, token: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().context("no HTTP client")?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token, purpose: None, request: None })
    }

    /// The same user, acting for another purpose of use.
    pub(crate) fn for_purpose(&self, code: &'static str) -> Self {
        Self { purpose: Some(code), ..self.clone() }
    }

    /// The same user, whose requests have this name in the audit trail.
    pub(crate) fn for_request(&self, name: &str) -> Self {
        Self { request: Some(name.to_owned()), ..self.clone() }
    }

    /// The address of the gateway.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The token, for a connection that is no request.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(purpose) = self.purpose {
            request = request.header("x-purpose-of-use", purpose);
        }
        if let Some(name) = &self.request {
            request = request.header("x-request-id", name);
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some((content_type, bytes)) = body {
            request = request.header(header::CONTENT_TYPE, content_type).body(bytes);
        }
        let response =
            request.send().await.with_context(|| format!("the gateway at {} cannot be reached", self.base))?;
        let status = response.status();
        let etag = response.headers().get(header::ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await.context("the gateway's answer broke off")?.to_vec();
        Ok(Answer { status, etag, bytes })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, None).await
    }

    /// POST of a JSON value.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.post_bytes(path, "application/json", serde_json::to_vec(body)?).await
    }

    /// PUT of exact bytes.
    pub(crate) async fn put_bytes(&self, path: &str, content_type: &str, bytes: Vec<u8>) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, Some((content_type, bytes)), None).await
    }

    /// POST of exact bytes.
    pub(crate) async fn post_bytes(&self, path: &str, content_type: &str, bytes: Vec<u8>) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some((content_type, bytes)), None).await
    }

    /// FHIR create.
    pub(crate) async fn create(&self, resource: &Value) -> anyhow::Result<Answer> {
        let kind = resource["resourceType"].as_str().context("no resourceType")?;
        let body = serde_json::to_vec(resource)?;
        self.post_bytes(&format!("/fhir/{kind}"), "application/fhir+json", body).await?.good()
    }

    /// FHIR update of the version that `etag` names.
    pub(crate) async fn update(&self, resource: &Value, etag: Option<&str>) -> anyhow::Result<Answer> {
        let (kind, id) =
            (resource["resourceType"].as_str().context("no resourceType")?, resource["id"].as_str().context("no id")?);
        let body = serde_json::to_vec(resource)?;
        self.send(Method::PUT, &format!("/fhir/{kind}/{id}"), Some(("application/fhir+json", body)), etag).await?.good()
    }
}
