//! One user's connection to one gateway, over plain HTTP.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use std::time::Duration;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection with a token and a purpose of use.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
    purpose: Option<&'static str>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e} in: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Demands that it is a yes.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert!((200..300).contains(&self.status), "answered {}: {}", self.status, self.text());
        self
    }

    /// The `id` in the body.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(base: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().unwrap();
        Self { http, base: base.to_owned(), token: token.to_owned(), purpose: None }
    }

    /// The same user, acting for another purpose of use.
    pub(crate) fn for_purpose(&self, code: &'static str) -> Self {
        Self { purpose: Some(code), ..self.clone() }
    }

    /// The same connection with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Sends one request; nothing when the gateway is away or the answer breaks off.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Option<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(purpose) = self.purpose {
            request = request.header("x-purpose-of-use", purpose);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                request = request.header("content-type", "application/fhir+json");
            }
            request = request.body(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer { status, headers, bytes: response.bytes().await.ok()?.to_vec() })
    }

    #[track_caller]
    fn there(&self, answer: Option<Answer>) -> Answer {
        answer.unwrap_or_else(|| panic!("{} gave no answer", self.base))
    }

    /// Sends one request with a body, or without one when it is null.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = (!body.is_null()).then(|| serde_json::to_vec(body).unwrap());
        self.there(self.try_send(method, path, headers, body).await)
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_send(Method::GET, path, &[], None).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.there(self.try_get(path).await)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.there(self.try_send(Method::POST, path, &[], Some(serde_json::to_vec(body).unwrap())).await)
    }

    pub(crate) async fn put(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::PUT, path, headers, body).await
    }

    /// Path and query of the page that an answer says comes next.
    pub(crate) fn next(&self, answer: &Answer) -> Option<String> {
        let bundle = answer.json();
        let link = bundle["link"].as_array()?.iter().find(|link| link["relation"] == "next")?;
        link["url"].as_str()?.strip_prefix(&self.base).map(str::to_owned)
    }

    /// FHIR create.
    pub(crate) async fn create(&self, resource: &Value) -> Answer {
        self.post(&format!("/fhir/{}", resource["resourceType"].as_str().unwrap()), resource).await.good()
    }
}
