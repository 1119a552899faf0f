//! Apps and programs that are registered with the organisation: what each may ask for, and how it shows who it is.
//!
//! Source: SMART App Launch 2.2 and its Backend Services; RFC 6749, RFC 7523 (assertions), RFC 7591 (the names of what is registered).

use super::{
    hash, is_this_machine,
    issuer::LEEWAY_SECONDS,
    users::{alone, replace},
};
use anyhow::{Context, bail, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use policy::Scopes;
use record::Role;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};
use subtle::ConstantTimeEq as _;

/// The most apps of an organisation.
pub(crate) const APPS_MAX: usize = 1024;
/// The most addresses of one app.
const REDIRECTS_MAX: usize = 16;
/// The largest set of keys, in bytes.
pub(crate) const KEYS_BYTES_MAX: usize = 64 * 1024;
/// How long an assertion may be good, in seconds. Source: SMART App Launch 2.2, «Backend Services»: no more than five minutes.
pub(crate) const ASSERTION_SECONDS_MAX: u64 = 5 * 60;
/// The longest name of an assertion, in bytes.
const JTI_BYTES_MAX: usize = 512;

/// By which algorithms apps may sign. SMART asks servers to take RS384 and ES384.
pub(crate) const ASSERTION_ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS384, Algorithm::ES384, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// How an app shows who it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub(crate) enum Shows {
    /// By nothing: it runs where no secret can be kept.
    Nothing {},
    /// By a secret, of which the SHA-256 is kept: it is drawn at random, so that nothing can be guessed from it.
    Secret {
        /// 64 hexadecimal digits.
        sha256: String,
    },
    /// By assertions that it signs.
    Keys {
        /// Its public keys, as a JSON document. Source: RFC 7517.
        jwks: String,
    },
}

/// One app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// Its name for people.
    pub(crate) name: String,
    /// Where people are sent back to, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) redirects: Vec<String>,
    /// What it may ask for, with blanks in between.
    pub(crate) scope: String,
    /// For a program that acts for itself: the role that it acts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Role>,
    pub(crate) shows: Shows,
    /// Since when an app is registered by its name, in seconds since 1970: what another one was given by that name is good no more.
    #[serde(default)]
    pub(crate) since: u64,
}

/// Why an app was not believed to be the one that it says to be. The caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotShown {
    /// Nothing came by which it could show who it is.
    #[error("this app shows who it is by a secret or a signed assertion, and none came")]
    Missing,
    /// The secret is another one.
    #[error("the secret is wrong")]
    Secret,
    /// What came is not what the app is registered with.
    #[error("this app is registered to show who it is in another way")]
    OtherWay,
    /// An assertion that does not hold.
    #[error(
        "the assertion does not hold: it is signed by a registered key, for this address, by the app about itself, and good now"
    )]
    Assertion,
    /// An assertion that is good for too long.
    #[error("the assertion is good for more than {ASSERTION_SECONDS_MAX} seconds, or has no name (`jti`)")]
    TooLong,
}

/// What an app asserts of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Assertion {
    iss: String,
    sub: String,
    pub(crate) exp: u64,
    jti: Option<String>,
}

impl Assertion {
    /// What it is called: it is taken once.
    pub(crate) fn name(&self) -> &str {
        self.jti.as_deref().unwrap_or_default()
    }
}

impl App {
    /// What an app of this kind can be, or what is wrong with it.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=100).contains(&self.name.len()), "an app's name for people has 1 to 100 bytes");
        ensure!(self.redirects.len() <= REDIRECTS_MAX, "an app has {REDIRECTS_MAX} addresses at most");
        self.redirects.iter().try_for_each(|redirect| check_redirect(redirect))?;
        ensure!(!self.scope.trim().is_empty(), "an app that may ask for nothing is of no use: say its scopes");
        for one in self.scope.split_ascii_whitespace() {
            let known = super::grant::LAUNCHES.contains(&one) || one.parse::<policy::Scope>().is_ok();
            ensure!(known, "`{one}` is no scope that can be given here");
        }
        match (&self.shows, self.service) {
            (Shows::Nothing {}, Some(_)) => bail!("a program that acts for itself shows who it is by keys or a secret"),
            (_, Some(_)) if !self.redirects.is_empty() => {
                bail!("a program that acts for itself has no address for people")
            }
            (_, None) if self.redirects.is_empty() => {
                bail!("an app that people let in needs an address to send them back to")
            }
            (_, Some(Role::Patient | Role::Device | Role::Engine)) => {
                bail!("no program acts in the role of a patient, a device or the engine")
            }
            (Shows::Keys { jwks }, _) => keys(jwks).map(drop),
            _ => Ok(()),
        }
    }

    /// What it may ask for of records.
    pub(crate) fn scopes(&self) -> Scopes {
        Scopes::among(&self.scope)
    }

    /// Whether it may ask for this scope, which is none on records.
    pub(crate) fn may_ask(&self, scope: &str) -> bool {
        self.scope.split_ascii_whitespace().any(|one| one == scope)
    }

    /// Whether it shows who it is by nothing.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self.shows, Shows::Nothing {})
    }

    /// Whether a secret is the app's.
    pub(crate) fn has_secret(&self, secret: &str) -> Result<(), NotShown> {
        let Shows::Secret { sha256 } = &self.shows else { return Err(NotShown::OtherWay) };
        let right = bool::from(hex::encode(hash(secret)).as_bytes().ct_eq(sha256.as_bytes()));
        if right { Ok(()) } else { Err(NotShown::Secret) }
    }

    /// What the app `id` asserts of itself to one of `audiences`, at `now` in seconds since 1970.
    pub(crate) fn asserts(&self, id: &str, token: &str, audiences: &[String], now: u64) -> Result<Assertion, NotShown> {
        let Shows::Keys { jwks } = &self.shows else { return Err(NotShown::OtherWay) };
        let header = jsonwebtoken::decode_header(token).map_err(|_| NotShown::Assertion)?;
        if !ASSERTION_ALGORITHMS.contains(&header.alg) {
            return Err(NotShown::Assertion);
        }
        let set = keys(jwks).map_err(|_| NotShown::Assertion)?;
        let named = |key: &&jsonwebtoken::jwk::Jwk| header.kid.is_none() || key.common.key_id == header.kid;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(audiences);
        validation.set_issuer(&[id]);
        validation.sub = Some(id.to_owned());
        let assertion = set.keys.iter().filter(named).find_map(|key| {
            let key = DecodingKey::from_jwk(key).ok()?;
            super::issuer::decode::<Assertion>(token, &key, validation.clone()).ok()
        });
        let assertion = assertion.filter(|one| one.iss == id && one.sub == id).ok_or(NotShown::Assertion)?;
        let bounded = assertion.exp <= now + ASSERTION_SECONDS_MAX + LEEWAY_SECONDS;
        if !bounded || !(1..=JTI_BYTES_MAX).contains(&assertion.name().len()) {
            return Err(NotShown::TooLong);
        }
        Ok(assertion)
    }
}

/// A set of public keys that people could check signatures with.
fn keys(jwks: &str) -> anyhow::Result<JwkSet> {
    ensure!(jwks.len() <= KEYS_BYTES_MAX, "the set of keys is larger than {KEYS_BYTES_MAX} bytes");
    let value: serde_json::Value = serde_json::from_str(jwks).context("the set of keys is no JSON document")?;
    let all = value["keys"].as_array().context("the set of keys has no `keys`")?;
    // What a set may hold beside public keys for signatures is nobody's to read.
    ensure!(
        all.iter().all(|key| key.get("d").is_none() && key.get("k").is_none()),
        "the set holds a private key: keep that, and give the public one"
    );
    let set: JwkSet = serde_json::from_str(jwks).context("the set of keys cannot be read")?;
    ensure!(!set.keys.is_empty(), "the set of keys is empty");
    for key in &set.keys {
        DecodingKey::from_jwk(key).context("a key of the set is of no kind that is known here")?;
    }
    Ok(set)
}

fn check_redirect(redirect: &str) -> anyhow::Result<()> {
    let url = reqwest::Url::parse(redirect).with_context(|| format!("`{redirect}` is no address"))?;
    ensure!(redirect.len() <= 1024 && url.fragment().is_none(), "`{redirect}` is too long, or has a part after `#`");
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_this_machine(host) => Ok(()),
        "http" => bail!("`{redirect}`: an address that is not on the same machine begins with https"),
        // Apps on a device have a scheme of their own. Source: RFC 8252 section 7.1.
        scheme if scheme.contains('.') => Ok(()),
        _ => bail!("`{redirect}`: write it as https://app.example/back"),
    }
}

/// The apps, with what is known by them.
pub(crate) struct Registered {
    apps: Apps,
    origins: HashSet<String>,
}

impl Registered {
    /// Reads the file; a missing file is an empty list.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let apps = Apps::load(path)?;
        Ok(Self { origins: apps.origins(), apps })
    }

    /// The app of that name.
    pub(crate) fn get(&self, id: &str) -> Option<&App> {
        self.apps.get(id)
    }

    /// Whether an app's scripts come from this origin.
    pub(crate) fn is_origin(&self, origin: &str) -> bool {
        self.origins.contains(origin)
    }
}

/// All of an organisation's apps, by the name that they give themselves by.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Apps(BTreeMap<String, App>);

impl Apps {
    /// Reads the file; a missing file is an empty list.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e).with_context(|| format!("cannot read the list of apps `{}`", path.display())),
        };
        let apps: Self = toml::from_str(&text).with_context(|| format!("in the list of apps `{}`", path.display()))?;
        ensure!(apps.0.len() <= APPS_MAX, "more than {APPS_MAX} apps in `{}`", path.display());
        for (id, app) in &apps.0 {
            app.check().with_context(|| format!("in `{}`, of the app `{id}`", path.display()))?;
        }
        Ok(apps)
    }

    /// The app of that name.
    pub(crate) fn get(&self, id: &str) -> Option<&App> {
        self.0.get(id)
    }

    /// Where the scripts of apps come from that run in browsers.
    fn origins(&self) -> HashSet<String> {
        let redirects = self.0.values().flat_map(|app| &app.redirects);
        let urls = redirects.filter_map(|redirect| reqwest::Url::parse(redirect).ok());
        urls.map(|url| url.origin())
            .filter(|origin| origin.is_tuple())
            .map(|origin| origin.ascii_serialization())
            .collect()
    }

    /// One by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &App)> {
        self.0.iter()
    }

    /// Adds an app at `now`, in seconds since 1970, or changes it, and writes the file.
    pub(crate) fn set(path: &Path, id: &str, mut app: App, now: u64) -> anyhow::Result<()> {
        let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        ensure!(fits, "an app is called by 1 to 64 letters, digits and `-_.`");
        app.check()?;
        let _alone = alone(path)?;
        let mut apps = Self::load(path)?;
        app.since = apps.0.get(id).map_or(now, |known| known.since);
        apps.0.insert(id.to_owned(), app);
        ensure!(apps.0.len() <= APPS_MAX, "an organisation has {APPS_MAX} apps at most");
        apps.write(path)
    }

    /// Takes an app out of the list; whether it was there.
    pub(crate) fn remove(path: &Path, id: &str) -> anyhow::Result<bool> {
        let _alone = alone(path)?;
        let mut apps = Self::load(path)?;
        let was_there = apps.0.remove(id).is_some();
        apps.write(path)?;
        Ok(was_there)
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = toml::to_string(self).context("the list of apps could not be written as TOML")?;
        replace(path, &text)
    }
}

/// An app for tests that shows who it is by nothing.
#[cfg(test)]
pub(super) fn public(scope: &str) -> App {
    let redirects = vec!["https://app.example/back".to_owned()];
    App {
        name: "Chart".to_owned(),
        redirects,
        scope: scope.to_owned(),
        service: None,
        shows: Shows::Nothing {},
        since: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exchange::clock::now;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    fn key() -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&[7; 32])
    }

    fn signing() -> EncodingKey {
        use ed25519_dalek::pkcs8::EncodePrivateKey as _;
        EncodingKey::from_ed_der(key().to_pkcs8_der().unwrap().as_bytes())
    }

    fn service() -> App {
        let public = crate::identity::issuer::public(&key().verifying_key());
        let jwks = json!({"keys": [public]}).to_string();
        let shows = Shows::Keys { jwks };
        let redirects = Vec::new();
        App {
            name: "Loader".to_owned(),
            redirects,
            scope: "system/*.rs".to_owned(),
            service: Some(Role::Custodian),
            shows,
            since: 0,
        }
    }

    #[test]
    fn apps_that_could_not_be_believed_or_sent_back_to_are_refused() {
        assert!(public("openid patient/*.rs").check().is_ok() && service().check().is_ok());
        let with = |redirect: &str| App { redirects: vec![redirect.to_owned()], ..public("patient/*.rs") };
        for good in
            ["http://localhost:9000/back", "http://127.0.0.1/", "org.example.app:/back", "https://a.example/b?c=d"]
        {
            assert!(with(good).check().is_ok(), "{good}");
        }
        for wrong in ["http://app.example/back", "javascript:alert(1)", "data:text/html,x", "/back", "https://a/#b"] {
            assert!(with(wrong).check().is_err(), "{wrong}");
        }
        assert!(public("").check().is_err() && public("patient/Observation").check().is_err());
        assert!(App { redirects: Vec::new(), ..public("patient/*.rs") }.check().is_err());
        assert!(App { shows: Shows::Nothing {}, ..service() }.check().is_err());
        assert!(App { service: Some(Role::Patient), ..service() }.check().is_err());
        let private = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}]}).to_string();
        for jwks in ["", "{}", r#"{"keys":[]}"#, private.as_str()] {
            assert!(App { shows: Shows::Keys { jwks: jwks.to_owned() }, ..service() }.check().is_err(), "{jwks}");
        }
    }

    #[test]
    fn an_assertion_is_the_apps_own_for_this_address_short_and_signed_by_a_registered_key() {
        let (app, audience, now) = (service(), "https://mercy.example/auth/token", now().0 / 1000);
        let check = |change: &dyn Fn(&mut Value), header: Header| {
            let mut claims = json!({"iss": "loader", "sub": "loader", "aud": audience, "exp": now + 200, "jti": "1"});
            change(&mut claims);
            let token = jsonwebtoken::encode(&header, &claims, &signing()).unwrap();
            app.asserts("loader", &token, &[audience.to_owned()], now).map(|one| one.name().to_owned())
        };
        let signed = || Header::new(Algorithm::EdDSA);
        assert_eq!(check(&|_| {}, signed()), Ok("1".to_owned()));
        for (name, value) in [("iss", "other"), ("sub", "other"), ("aud", "https://other.example/auth/token")] {
            assert_eq!(check(&|claims| claims[name] = value.into(), signed()), Err(NotShown::Assertion), "{name}");
        }
        assert_eq!(check(&|claims| claims["exp"] = (now - 60).into(), signed()), Err(NotShown::Assertion));
        assert_eq!(check(&|claims| claims["nbf"] = (now + 60).into(), signed()), Err(NotShown::Assertion));
        assert_eq!(check(&|claims| claims["exp"] = (now + 400).into(), signed()), Err(NotShown::TooLong));
        assert_eq!(check(&|claims| claims["jti"] = Value::Null, signed()), Err(NotShown::TooLong));
        let other = Header { kid: Some("other".to_owned()), ..signed() };
        assert_eq!(check(&|_| {}, other), Err(NotShown::Assertion));
        // The public key as a secret.
        let claims = json!({"iss": "loader", "sub": "loader", "aud": audience, "exp": now + 200, "jti": "1"});
        let Shows::Keys { jwks } = &app.shows else { panic!("keys") };
        let secret = EncodingKey::from_secret(jwks.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        assert_eq!(app.asserts("loader", &token, &[audience.to_owned()], now).map(drop), Err(NotShown::Assertion));
        assert_eq!(public("patient/*.rs").asserts("chart", &token, &[], now).map(drop), Err(NotShown::OtherWay));
    }

    #[test]
    fn apps_come_back_from_their_file_and_a_secret_is_not_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apps.toml");
        let shows = Shows::Secret { sha256: hex::encode(hash("a drawn secret")) };
        Apps::set(&path, "chart", App { shows, ..public("launch patient/*.rs") }, 7).unwrap();
        Apps::set(&path, "loader", service(), 7).unwrap();
        assert!(Apps::set(&path, "no name", service(), 7).is_err());
        let apps = Apps::load(&path).unwrap();
        let chart = apps.get("chart").unwrap();
        assert_eq!((chart.has_secret("a drawn secret"), chart.has_secret("other")), (Ok(()), Err(NotShown::Secret)));
        assert_eq!(apps.get("loader").unwrap().has_secret("other"), Err(NotShown::OtherWay));
        assert!(chart.may_ask("launch") && !chart.may_ask("offline_access"));
        assert!(!fs::read_to_string(&path).unwrap().contains("drawn"));
        let registered = Registered::load(&path).unwrap();
        assert!(registered.is_origin("https://app.example") && !registered.is_origin("https://app.example:8443"));
        assert!(Apps::remove(&path, "chart").unwrap() && !Apps::remove(&path, "chart").unwrap());
        assert_eq!(Apps::load(&path).unwrap().iter().count(), 1);
    }
}
