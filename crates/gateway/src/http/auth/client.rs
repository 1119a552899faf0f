//! Which app is asking, and how it shows that it is that app.

use super::{
    fields::Fields,
    refusal::{Code, Refused},
};
use crate::{
    http::Doors,
    identity::{
        apps::{App, NotShown},
        issuer::TOKEN_BYTES_MAX,
        refusals::SaidToBe,
    },
};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use exchange::clock::now;

/// Source: RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An app that asks, and is the one that it says to be, as far as it can show that.
pub(super) struct Asking {
    pub(super) id: String,
    pub(super) app: App,
}

fn refused(why: NotShown) -> Refused {
    Refused::new(Code::InvalidClient, why.to_string())
}

fn unknown() -> Refused {
    Refused::new(Code::InvalidClient, "no app is registered by that name: `vitaltrace app add` registers one")
}

/// Name and secret in `Authorization: Basic`. Source: RFC 6749 section 2.3.1: both are form-encoded before.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |text: &str| form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned());
    Some((plain(id)?, plain(secret)?))
}

/// Whose an assertion is to be.
fn subject_of(assertion: &str) -> Option<String> {
    #[derive(Clone, serde::Deserialize)]
    struct Subject {
        sub: String,
    }
    jsonwebtoken::dangerous::insecure_decode::<Subject>(assertion).ok().map(|token| token.claims.sub)
}

/// Which app a request says to come from, for the trail. What is no app's name may be a secret in the wrong field.
pub(super) fn said_to_be(doors: &Doors, headers: &HeaderMap, fields: &Fields) -> SaidToBe {
    let assertion = fields.get("client_assertion").filter(|assertion| assertion.len() <= TOKEN_BYTES_MAX);
    let named = fields.get("client_id").map(str::to_owned);
    let named = named.or_else(|| assertion.and_then(subject_of)).or_else(|| basic(headers).map(|(id, _)| id));
    let known = named.filter(|id| doors.identity.apps().get(id).is_some());
    known.map_or(SaidToBe::Somebody, SaidToBe::App)
}

impl Asking {
    /// The app that a request to `endpoint` comes from.
    pub(super) async fn of(
        doors: &Doors,
        headers: &HeaderMap,
        fields: &Fields,
        endpoint: &str,
    ) -> Result<Self, Refused> {
        let apps = doors.identity.apps();
        let known = |id: &str| apps.get(id).cloned().map(|app| Self { id: id.to_owned(), app }).ok_or_else(unknown);
        if let Some(assertion) = fields.get("client_assertion") {
            if fields.get("client_assertion_type") != Some(ASSERTION_TYPE) {
                return Err(Refused::new(Code::InvalidRequest, format!("`client_assertion_type` is {ASSERTION_TYPE}")));
            }
            if !doors.base.is_ours(headers) || assertion.len() > TOKEN_BYTES_MAX {
                let text = "assertions are taken here where the gateway knows its own address: whoever runs it says `fhir_url`";
                return Err(Refused::new(Code::InvalidRequest, text));
            }
            // Whose it is to be, is read first; whether it is, is checked by that app's keys.
            let id = subject_of(assertion).ok_or_else(|| refused(NotShown::Assertion))?;
            if fields.get("client_id").is_some_and(|named| named != id) {
                return Err(refused(NotShown::Assertion));
            }
            let asking = known(&id)?;
            let seconds = now().0 / 1000;
            let audiences = [endpoint.to_owned()];
            let asserted = asking.app.asserts(&id, assertion, &audiences, seconds).map_err(refused)?;
            let identity = doors.identity.clone();
            let taken = tokio::task::spawn_blocking(move || {
                identity.sessions.take(&id, asserted.name(), asserted.exp, seconds)
            });
            return match taken.await {
                Ok(Ok(true)) => Ok(asking),
                Ok(Ok(false)) => {
                    Err(Refused::new(Code::InvalidClient, "the assertion was used before: sign one for each request"))
                }
                Ok(Err(e)) => Err(Refused::ours(e)),
                Err(e) => Err(Refused::ours(e)),
            };
        }
        let secret = match basic(headers) {
            Some((id, secret)) => Some((id, secret)),
            None => {
                fields.get("client_id").zip(fields.get("client_secret")).map(|(id, s)| (id.to_owned(), s.to_owned()))
            }
        };
        if let Some((id, secret)) = secret {
            let asking = known(&id)?;
            asking.app.has_secret(&secret).map_err(refused)?;
            return Ok(asking);
        }
        let Some(id) = fields.get("client_id") else {
            return Err(Refused::new(Code::InvalidClient, "say which app asks, by `client_id`"));
        };
        let asking = known(id)?;
        if asking.app.is_public() { Ok(asking) } else { Err(refused(NotShown::Missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_secret_are_read_as_the_standard_encodes_them() {
        let with = |text: &str| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Basic {encoded}").parse().unwrap());
            basic(&headers)
        };
        assert_eq!(with("chart:a%2Bb"), Some(("chart".to_owned(), "a+b".to_owned())));
        assert_eq!(with("chart:a-b_c"), Some(("chart".to_owned(), "a-b_c".to_owned())));
        assert_eq!(with("chart"), None);
        assert_eq!(basic(&HeaderMap::new()), None);
    }
}
