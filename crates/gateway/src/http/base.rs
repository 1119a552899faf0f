//! What callers call this gateway by: the addresses in answers begin with it.

use axum::http::{HeaderMap, header, uri::Authority};
use std::net::{IpAddr, SocketAddr};

/// The longest name of a host that is believed, in bytes.
const HOST_BYTES_MAX: usize = 261;

/// How the FHIR doors are called.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    said: Option<String>,
    listens: SocketAddr,
    /// Whether the doors speak TLS themselves.
    tls: bool,
}

impl Base {
    /// By what the operator says, or else by the host that each request names.
    pub(crate) fn new(said: Option<String>, listens: SocketAddr, tls: bool) -> Self {
        Self { said, listens, tls }
    }

    /// The URL before `/Patient/1`, for the caller with these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        if let Some(said) = &self.said {
            return said.clone();
        }
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = if self.tls { "https" } else { "http" };
        match named.filter(|host| is_host(host)) {
            Some(host) => format!("{scheme}://{host}/fhir"),
            None => format!("{scheme}://{}/fhir", self.listens),
        }
    }

    /// The URL before `/auth/token`: the FHIR doors' without the last part of its path.
    pub(crate) fn origin_of(&self, headers: &HeaderMap) -> String {
        let fhir = self.of(headers);
        let beyond_host = fhir.find("://").map_or(0, |at| at + 3);
        match fhir[beyond_host..].rfind('/') {
            Some(last) => fhir[..beyond_host + last].to_owned(),
            None => fhir,
        }
    }

    /// Whether an `Origin` is what the caller with these headers calls this gateway by.
    pub(crate) fn is_origin(&self, headers: &HeaderMap, origin: &str) -> bool {
        reqwest::Url::parse(&self.of(headers)).is_ok_and(|url| url.origin().ascii_serialization() == origin)
    }

    /// The path before `/auth`, as callers see it.
    pub(crate) fn prefix(&self) -> String {
        let said = self.said.as_deref().and_then(|said| reqwest::Url::parse(said).ok());
        said.map_or_else(String::new, |url| url.path().rsplit_once('/').map_or("", |(before, _)| before).to_owned())
    }

    /// Whether the base of a caller is one that was said, or this machine's own: others could be somebody else's.
    pub(crate) fn is_ours(&self, headers: &HeaderMap) -> bool {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host.parse::<Authority>().ok());
        let Some(host) = host else { return true };
        let host = host.host().trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>();
        self.said.is_some()
            || host == "localhost"
            || address.is_ok_and(|address| address.is_loopback() || address == self.listens.ip())
    }

    /// Whether callers come by https.
    pub(crate) fn is_secure(&self) -> bool {
        self.said.as_ref().map_or(self.tls, |said| said.starts_with("https:"))
    }
}

fn is_host(text: &str) -> bool {
    text.len() <= HOST_BYTES_MAX && !text.contains('@') && text.parse::<Authority>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_begin_with_what_the_operator_says_or_the_host_that_the_caller_names() {
        let of = |said: Option<&str>, host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            Base::new(said.map(str::to_owned), "127.0.0.1:8100".parse().unwrap(), false).of(&headers)
        };
        let ours = |said: Option<&str>, host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            Base::new(said.map(str::to_owned), "10.0.0.7:8100".parse().unwrap(), false).is_ours(&headers)
        };
        assert!(
            ours(None, "localhost:8100") && ours(None, "127.0.0.1") && ours(None, "[::1]:80") && ours(None, "10.0.0.7")
        );
        assert!(
            !ours(None, "evil.example")
                && !ours(None, "10.0.0.8")
                && ours(Some("https://mercy.example/fhir"), "x.example")
        );
        assert_eq!(of(None, Some("mercy.example:8100")), "http://mercy.example:8100/fhir");
        assert_eq!(of(None, Some("[::1]:8100")), "http://[::1]:8100/fhir");
        assert_eq!(of(Some("https://mercy.example/r4"), Some("10.0.0.1")), "https://mercy.example/r4");
        let base = Base::new(Some("https://mercy.example/a/r4".to_owned()), "127.0.0.1:8100".parse().unwrap(), false);
        assert_eq!(base.origin_of(&HeaderMap::new()), "https://mercy.example/a");
        assert!(base.is_secure() && base.prefix() == "/a");
        let bare = Base::new(Some("https://mercy.example".to_owned()), "127.0.0.1:8100".parse().unwrap(), false);
        assert_eq!((bare.origin_of(&HeaderMap::new()).as_str(), bare.prefix().as_str()), ("https://mercy.example", ""));
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for none in [None, Some(""), Some("a b"), Some("you@evil.example"), Some("a/b"), Some("\"<x>"), Some(&long)] {
            assert_eq!(of(None, none), "http://127.0.0.1:8100/fhir", "{none:?}");
        }
    }
}
