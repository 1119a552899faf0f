//! A person's browser in front of the pages of `/auth/authorize`, and an app behind them.

use super::{PASSWORD, client::Answer};
use base64::Engine as _;
use reqwest::{Method, header, redirect::Policy};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What the app drew for PKCE.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Where the app takes people back.
pub(crate) const BACK: &str = "http://localhost:9000/back";

/// One browser: it keeps cookies, and follows no redirect by itself.
pub(crate) struct Browser {
    http: reqwest::Client,
    base: String,
    pub(crate) cookie: Option<String>,
}

/// The challenge of [`VERIFIER`].
pub(crate) fn challenge() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()))
}

/// The parameters of a form or a query.
pub(crate) fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The value of a field that a page carries along.
#[track_caller]
pub(crate) fn carried(page: &Answer, name: &str) -> String {
    let text = page.text();
    let start = format!("name=\"{name}\" value=\"");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("no field {name} in: {text}"));
    rest.split_once('"').unwrap().0.to_owned()
}

impl Browser {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Self { http, base: base.to_owned(), cookie: None }
    }

    async fn send(&mut self, method: Method, path: &str, form: Option<String>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if let Some(form) = form {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let response = request.send().await.unwrap();
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
    }

    /// An app's question, with these parameters in the place of the usual ones or beside them; an empty one is left out.
    pub(crate) async fn ask(&mut self, scope: &str, others: &[(&str, &str)]) -> Answer {
        let (aud, challenge) = (format!("{}/fhir", self.base), challenge());
        let mut fields: BTreeMap<&str, &str> = BTreeMap::from([
            ("response_type", "code"),
            ("client_id", "chart"),
            ("redirect_uri", BACK),
            ("scope", scope),
            ("state", "a state"),
            ("aud", &aud),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        fields.extend(others.iter().copied());
        let pairs: Vec<(&str, &str)> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.send(Method::GET, &format!("/auth/authorize?{}", encoded(&pairs)), None).await
    }

    /// The next step, in the form of a page.
    pub(crate) async fn step(&mut self, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        let (authorization, step) = (carried(page, "authorization"), carried(page, "step"));
        let mut pairs = vec![("authorization", authorization.as_str()), ("step", step.as_str())];
        pairs.extend(fields);
        self.send(Method::POST, "/auth/authorize", Some(encoded(&pairs))).await
    }

    /// Logs in on a page.
    pub(crate) async fn log_in(&mut self, page: &Answer, user: &str) -> Answer {
        self.step(page, &[("username", user), ("password", PASSWORD)]).await
    }

    /// From the question to the code, as `user`, about `patient` where that is asked.
    pub(crate) async fn let_in(&mut self, scope: &str, others: &[(&str, &str)], user: &str, patient: &str) -> String {
        let page = self.ask(scope, others).await.good();
        let mut page = self.log_in(&page, user).await.good();
        if carried(&page, "step") == "patient" {
            page = self.step(&page, &[("patient", patient)]).await.good();
        }
        let answer = self.step(&page, &[("answer", "yes")]).await;
        sent_back(&answer)["code"].clone()
    }

    /// A form of the app itself.
    pub(crate) async fn form(&mut self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, Some(encoded(pairs))).await
    }

    /// The app gets its token for a code.
    pub(crate) async fn redeem(&mut self, code: &str) -> Answer {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", "chart"),
            ("redirect_uri", BACK),
            ("code", code),
            ("code_verifier", VERIFIER),
        ];
        self.form("/auth/token", &pairs).await
    }
}

/// What the person brings back to the app.
#[track_caller]
pub(crate) fn sent_back(answer: &Answer) -> BTreeMap<String, String> {
    assert_eq!(answer.status, 303, "{}", answer.text());
    let location = answer.headers[header::LOCATION].to_str().unwrap();
    let query = location.strip_prefix(BACK).unwrap().strip_prefix('?').unwrap();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// What a signed token says, unchecked.
#[track_caller]
pub(crate) fn said(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
