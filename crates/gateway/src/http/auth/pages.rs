//! The pages on which a person lets an app in: plain HTML that works without scripts, by keyboard, and for screen readers.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#111;background:#fff}\
h1{font-size:1.5rem}label{display:block;margin:1rem 0 .25rem}input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box;border:2px solid #555}\
button{font:inherit;padding:.6rem 1.4rem;margin:1.5rem 1rem 0 0;border:2px solid #0b5394;background:#0b5394;color:#fff;cursor:pointer}\
button.no{background:#fff;color:#0b5394}[role=alert]{border-left:.4rem solid #b00020;padding:.5rem 1rem;background:#fdecea}\
:focus-visible{outline:3px solid #e69138;outline-offset:2px}";

/// A page that is being written.
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where a form of the page may lead in the end, beside here.
    leads_to: Option<String>,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        let body = format!("<h1>{}</h1>", escaped(title));
        Self { status: StatusCode::OK, title: title.to_owned(), body, leads_to: None }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says where the answer to the form leads: browsers refuse to be sent elsewhere.
    pub(super) fn leading_to(mut self, redirect: &str) -> Self {
        self.leads_to = Some(redirect.to_owned());
        self
    }

    pub(super) fn paragraph(mut self, text: &str) -> Self {
        let _ = write!(self.body, "<p>{}</p>", escaped(text));
        self
    }

    pub(super) fn list(mut self, items: &[String]) -> Self {
        self.body.push_str("<ul>");
        for item in items {
            let _ = write!(self.body, "<li>{}</li>", escaped(item));
        }
        self.body.push_str("</ul>");
        self
    }

    pub(super) fn alert(mut self, text: Option<&str>) -> Self {
        if let Some(text) = text {
            let _ = write!(self.body, "<p role=\"alert\">{}</p>", escaped(text));
        }
        self
    }

    /// Begins the form that carries an authorisation on by one step.
    pub(super) fn form(self, authorization: &str, step: &str) -> Self {
        self.form_to("authorize", &[("authorization", authorization), ("step", step)])
    }

    /// Begins a form that leads to `action` and carries what nobody types.
    pub(super) fn form_to(mut self, action: &str, hidden: &[(&str, &str)]) -> Self {
        let _ = write!(self.body, "<form method=\"post\" action=\"{action}\">");
        for (name, value) in hidden {
            let _ = write!(self.body, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value));
        }
        self
    }

    /// Name and password.
    pub(super) fn login_fields(self) -> Self {
        self.field("username", "Name", "text", "username", true).field(
            "password",
            "Password",
            "password",
            "current-password",
            false,
        )
    }

    pub(super) fn heading(mut self, text: &str) -> Self {
        let _ = write!(self.body, "<h2>{}</h2>", escaped(text));
        self
    }

    pub(super) fn field(mut self, name: &str, label: &str, kind: &str, complete: &str, first: bool) -> Self {
        let focus = if first { " autofocus" } else { "" };
        let _ = write!(
            self.body,
            "<label for=\"{name}\">{}</label><input id=\"{name}\" name=\"{name}\" type=\"{kind}\" autocomplete=\"{complete}\" \
             maxlength=\"256\" required{focus}>",
            escaped(label)
        );
        self
    }

    pub(super) fn button(mut self, label: &str) -> Self {
        let _ = write!(self.body, "<button type=\"submit\">{}</button>", escaped(label));
        self
    }

    /// A button that stands for one of two answers.
    pub(super) fn choice(mut self, name: &str, value: &str, label: &str, yes: bool) -> Self {
        let class = if yes { "yes" } else { "no" };
        let _ = write!(
            self.body,
            "<button type=\"submit\" class=\"{class}\" name=\"{name}\" value=\"{value}\">{}</button>",
            escaped(label)
        );
        self
    }

    pub(super) fn end_form(mut self) -> Self {
        self.body.push_str("</form>");
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{}</title><style>{STYLE}</style></head><body><main>{}</main></body></html>",
            escaped(&self.title),
            self.body
        );
        let digest =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Sha256::digest(STYLE.as_bytes()));
        // Only the origin: a path there would have to be the whole one, and apps on a device have no origin but a scheme.
        let leads_to = self.leads_to.as_deref().and_then(|redirect| reqwest::Url::parse(redirect).ok()).map(|url| {
            let origin = url.origin();
            if origin.is_tuple() { origin.ascii_serialization() } else { format!("{}:", url.scheme()) }
        });
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' {}",
            leads_to.unwrap_or_default()
        );
        let mut response = (self.status, Html(html)).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            // Browsers name the origin of a form by it; other origins are told nothing.
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(policy.trim_end()) {
            headers.insert(HeaderName::from_static("content-security-policy"), policy);
        }
        response
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            one => escaped.push(one),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_others_named_is_text_on_a_page_and_a_page_runs_nothing() {
        let page = Page::new("<script>").paragraph("a & b").alert(Some("\"x\"")).form("'id'", "login");
        let response = page.field("username", "Name", "text", "username", true).end_form().into_response();
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("<script>") && text.contains("&lt;script&gt;") && text.contains("a &amp; b"), "{text}");
        assert!(text.contains("value=\"&#39;id&#39;\"") && text.contains("<label for=\"username\">"), "{text}");
    }

    #[test]
    fn a_form_may_lead_to_the_app_and_nowhere_else() {
        let policy = |redirect: &str| {
            let response = Page::new("x").leading_to(redirect).into_response();
            let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
            policy.split_once("form-action ").unwrap().1.to_owned()
        };
        assert_eq!(policy("https://app.example/back?a=b"), "'self' https://app.example");
        assert_eq!(policy("http://localhost:9000/back"), "'self' http://localhost:9000");
        assert_eq!(policy("org.example.app:/back"), "'self' org.example.app:");
    }
}
