//! What callers call this gateway by: the addresses in answers begin with it.

use axum::http::{HeaderMap, header, uri::Authority};
use std::net::SocketAddr;

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
        fhir.rsplit_once('/').map_or(fhir.clone(), |(before, _)| before.to_owned())
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
        assert_eq!(of(None, Some("mercy.example:8100")), "http://mercy.example:8100/fhir");
        assert_eq!(of(None, Some("[::1]:8100")), "http://[::1]:8100/fhir");
        assert_eq!(of(Some("https://mercy.example/r4"), Some("10.0.0.1")), "https://mercy.example/r4");
        let base = Base::new(Some("https://mercy.example/a/r4".to_owned()), "127.0.0.1:8100".parse().unwrap(), false);
        assert_eq!(base.origin_of(&HeaderMap::new()), "https://mercy.example/a");
        assert!(base.is_secure());
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for none in [None, Some(""), Some("a b"), Some("you@evil.example"), Some("a/b"), Some("\"<x>"), Some(&long)] {
            assert_eq!(of(None, none), "http://127.0.0.1:8100/fhir", "{none:?}");
        }
    }
}
