//! Other issuers whose tokens open these doors: a hospital's own identity provider (OpenID Connect), by its public keys.
//!
//! A request never waits for another issuer: its keys are fetched beside the requests, kept on disk, and what is known counts while the
//! issuer is away. Source: OpenID Connect Core 1.0; RFC 9068 (the form of access tokens); RFC 7517 (keys).

use super::{
    apps::KEYS_BYTES_MAX,
    is_this_machine,
    issuer::{Bearer, Claims, LEEWAY_SECONDS, LetIn, PREFIX, TOKEN_BYTES_MAX, TokenError, decode},
    users::replace,
};
use anyhow::{Context, bail, ensure};
use exchange::clock::now;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, PublicKeyUse},
};
use policy::Scopes;
use record::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Notify;

/// The most other issuers.
pub(crate) const ISSUERS_MAX: usize = 16;
/// The most keys of one issuer; the first ones count.
const KEYS_MAX: usize = 64;
/// How often an issuer's keys are fetched.
const FETCH_EVERY: Duration = Duration::from_secs(600);
/// The same when a token names a key that is not known.
const FETCH_AGAIN: Duration = Duration::from_secs(30);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another issuer's token may be good from now on, in seconds: there is no other way here to end it.
const SECONDS_MAX: u64 = 3600;
/// The longest name of a user or an app, in bytes.
const SUBJECT_BYTES_MAX: usize = 128;

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Another issuer, as the configuration says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerAt {
    /// What it is called here: its users are `NAME:SUBJECT` in the trail.
    pub(crate) name: String,
    /// Its tokens' `iss`, exactly.
    pub(crate) issuer: String,
    /// Its tokens' `aud`: what this gateway is called by there.
    pub(crate) audience: String,
    /// Its public keys: an address that begins with https, or a file.
    pub(crate) keys: String,
    /// The claim that names a user's roles.
    #[serde(default = "roles")]
    pub(crate) role_claim: String,
    /// What its roles are here.
    pub(crate) roles: BTreeMap<String, Role>,
    /// For users who are patients: the claim with the id of the Patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) patient_claim: Option<String>,
    /// Whether a token without scopes on records lets its user do all that the user may; without it, such a token opens nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) whole_users: bool,
}

fn roles() -> String {
    "roles".to_owned()
}

/// Where keys come from.
enum Source {
    File(PathBuf),
    Address(reqwest::Url),
}

impl IssuerAt {
    fn check(&self) -> anyhow::Result<Source> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        ensure!(
            (1..=32).contains(&self.name.len()) && plain(&self.name),
            "an issuer's `name` has 1 to 32 letters, digits and `-.`"
        );
        ensure!(
            !self.issuer.is_empty() && !self.audience.is_empty(),
            "`issuer` and `audience` of `{}` are not empty",
            self.name
        );
        ensure!(!self.roles.is_empty(), "`roles` of `{}` says what its roles are here", self.name);
        ensure!(self.name != super::PROGRAM, "no issuer is called `{}`: programs are", self.name);
        ensure!(!self.issuer.starts_with(PREFIX), "`{}` is an issuer of ours", self.issuer);
        let of_machines = self.roles.values().any(|role| matches!(role, Role::Device | Role::Engine));
        ensure!(!of_machines, "no user of `{}` is a device or the engine", self.name);
        let of_patients = self.roles.values().any(|role| *role == Role::Patient);
        ensure!(!of_patients || self.patient_claim.is_some(), "`{}` has patients: say `patient_claim`", self.name);
        if !self.keys.contains("://") {
            return Ok(Source::File(PathBuf::from(&self.keys)));
        }
        let url =
            reqwest::Url::parse(&self.keys).with_context(|| format!("`keys` of `{}` is no address", self.name))?;
        let local = is_this_machine(url.host_str().unwrap_or_default());
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            bail!("`keys` of `{}`: an address that is not on the same machine begins with https", self.name);
        }
        Ok(Source::Address(url))
    }
}

/// A key by which tokens are checked.
struct Key {
    name: Option<String>,
    key: DecodingKey,
}

/// The public keys for signatures in a document; what else it holds is passed over.
fn read(jwks: &str) -> anyhow::Result<Vec<Key>> {
    let document: Value = serde_json::from_str(jwks).context("the set of keys is no JSON document")?;
    let all = document["keys"].as_array().context("the set of keys has no `keys`")?;
    let keys = all.iter().take(KEYS_MAX).filter(|key| key["kty"] != "oct").filter_map(|key| {
        let key: Jwk = serde_json::from_value(key.clone()).ok()?;
        let signs = key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let checking = DecodingKey::from_jwk(&key).ok().filter(|_| signs)?;
        Some(Key { name: key.common.key_id, key: checking })
    });
    let keys: Vec<Key> = keys.collect();
    ensure!(!keys.is_empty(), "the set holds no public key for signatures");
    Ok(keys)
}

/// One other issuer.
struct One {
    at: IssuerAt,
    keys: RwLock<Arc<Vec<Key>>>,
    /// A token named a key that is not known.
    wanted: Notify,
}

/// The other issuers.
#[derive(Default)]
pub(crate) struct Outside(Vec<Arc<One>>);

impl Outside {
    /// With the keys that are known; begins to follow them. What was fetched is kept in `data`.
    pub(crate) fn follow(issuers: Vec<IssuerAt>, data: &Path) -> anyhow::Result<Self> {
        ensure!(issuers.len() <= ISSUERS_MAX, "there are {ISSUERS_MAX} other issuers at most");
        let mut all: Vec<Arc<One>> = Vec::new();
        for at in issuers {
            let source = at.check()?;
            let taken = all.iter().any(|one| one.at.issuer == at.issuer || one.at.name == at.name);
            ensure!(!taken, "two issuers are called `{}` or `{}`", at.name, at.issuer);
            let kept = data.join(format!("issuer-{}.jwks", at.name));
            let keys = match &source {
                Source::File(path) => {
                    let jwks = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                    read(&jwks).with_context(|| format!("in `{}`", path.display()))?
                }
                // Without any, its tokens open nothing until it could be asked.
                Source::Address(_) => {
                    fs::read_to_string(&kept).ok().and_then(|jwks| read(&jwks).ok()).unwrap_or_default()
                }
            };
            let one = Arc::new(One { at, keys: RwLock::new(Arc::new(keys)), wanted: Notify::new() });
            tokio::spawn(one.clone().fetch(source, kept));
            all.push(one);
        }
        Ok(Self(all))
    }

    /// What a token of another issuer says; none when it is of no issuer that is known here.
    pub(crate) fn check(&self, token: &str) -> Option<Result<Claims, TokenError>> {
        #[derive(Clone, Deserialize)]
        struct Issued {
            iss: String,
        }
        if self.0.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        // Whose it is to be, is read first; whether it is, is checked by that issuer's keys.
        let issued = jsonwebtoken::dangerous::insecure_decode::<Issued>(token).ok()?.claims;
        let one = self.0.iter().find(|one| one.at.issuer == issued.iss)?;
        Some(one.check(token))
    }
}

impl One {
    fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Invalid);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut named = keys.iter().filter(|key| header.kid.is_none() || key.name == header.kid).peekable();
        if named.peek().is_none() {
            self.wanted.notify_one();
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.at.issuer]);
        validation.set_audience(&[&self.at.audience]);
        let mut refused = TokenError::Invalid;
        for key in named {
            match decode::<Value>(token, &key.key, validation.clone()) {
                Ok(claims) => return self.read(&claims),
                Err(TokenError::Invalid) => {}
                // The signature is good.
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn read(&self, claims: &Value) -> Result<Claims, TokenError> {
        let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty());
        let named = |name: &str| {
            text(name).filter(|text| text.len() <= SUBJECT_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic()))
        };
        // What an app is told of its user (OpenID Connect) opens no door, whoever it is told for.
        if claims.get("nonce").is_some() || claims.get("at_hash").is_some() {
            return Err(TokenError::Invalid);
        }
        let subject = named("sub");
        let (subject, expires) =
            (subject.ok_or(TokenError::Invalid)?, claims["exp"].as_u64().ok_or(TokenError::Invalid)?);
        let issued = claims["iat"].as_u64().unwrap_or_default();
        let begun = if issued == 0 { now().0 / 1000 } else { issued };
        if expires > begun + SECONDS_MAX + LEEWAY_SECONDS {
            return Err(TokenError::TooLong);
        }
        let said = match &claims[self.at.role_claim.as_str()] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        // With several, the first that is something here.
        let role = said.iter().find_map(|role| self.at.roles.get(*role)).copied().ok_or(TokenError::NoRole)?;
        let mut bearer = Bearer::user(&format!("{}:{subject}", self.at.name), role, None);
        if role == Role::Patient {
            let claim = self.at.patient_claim.as_deref().unwrap_or_default();
            let id = text(claim).map(|id| id.strip_prefix("Patient/").unwrap_or(id).to_owned());
            bearer.patient = Some(id.ok_or(TokenError::NoRole)?);
        }
        let scopes = Scopes::among(text("scope").or_else(|| text("scp")).unwrap_or_default());
        if !scopes.is_empty() || !self.at.whole_users {
            let client = named("client_id").or_else(|| named("azp")).unwrap_or("unknown");
            let client_id = format!("{}:{client}", self.at.name);
            let launched = text("patient").map(|id| id.strip_prefix("Patient/").unwrap_or(id).to_owned());
            let launched = launched.or_else(|| bearer.patient.clone());
            bearer.app = Some(LetIn { client_id, scope: scopes.to_string(), launched, service: false });
        }
        Ok(Claims::of(bearer, issued, expires))
    }

    /// Fetches the keys again and again.
    async fn fetch(self: Arc<Self>, source: Source, kept: PathBuf) {
        let client =
            reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let Ok(client) = client else {
            tracing::error!(issuer = self.at.name, "no client could be made to fetch an issuer's keys");
            return;
        };
        let mut known = String::new();
        loop {
            let jwks = match &source {
                Source::File(path) => fs::read_to_string(path).map_err(anyhow::Error::from),
                Source::Address(url) => get(&client, url.clone()).await,
            };
            match jwks.and_then(|jwks| Ok((read(&jwks)?, jwks))) {
                Ok((_, jwks)) if jwks == known => {}
                Ok((keys, jwks)) => {
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    if matches!(source, Source::Address(_))
                        && let Err(error) = replace(&kept, &jwks)
                    {
                        tracing::warn!(
                            issuer = self.at.name,
                            error = format!("{error:#}"),
                            "an issuer's keys are not kept"
                        );
                    }
                    known = jwks;
                }
                Err(error) => {
                    tracing::warn!(
                        issuer = self.at.name,
                        error = format!("{error:#}"),
                        "an issuer's keys are as they were"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(FETCH_EVERY) => {}
                () = async {
                    tokio::time::sleep(FETCH_AGAIN).await;
                    self.wanted.notified().await;
                } => {}
            }
        }
    }
}

async fn get(client: &reqwest::Client, url: reqwest::Url) -> anyhow::Result<String> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(bytes.len() + chunk.len() <= KEYS_BYTES_MAX, "the set of keys is larger than {KEYS_BYTES_MAX} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    fn signing(seed: u8) -> EncodingKey {
        EncodingKey::from_ed_der(SigningKey::from_bytes(&[seed; 32]).to_pkcs8_der().unwrap().as_bytes())
    }

    fn jwks(seed: u8) -> String {
        let mut key = crate::identity::issuer::public(&SigningKey::from_bytes(&[seed; 32]).verifying_key());
        key.common.key_id = Some(format!("k{seed}"));
        json!({"keys": [{"kty": "oct", "k": "AA"}, {"kty": "unheard of"}, key]}).to_string()
    }

    fn at(change: &dyn Fn(&mut IssuerAt)) -> IssuerAt {
        let roles = [("physician", Role::Doctor), ("member", Role::Patient)];
        let mut at = IssuerAt {
            name: "idp".to_owned(),
            issuer: "https://idp.example".to_owned(),
            audience: "mercy".to_owned(),
            keys: "idp.jwks".to_owned(),
            role_claim: "roles".to_owned(),
            roles: roles.map(|(name, role)| (name.to_owned(), role)).into(),
            patient_claim: Some("fhirUser".to_owned()),
            whole_users: false,
        };
        change(&mut at);
        at
    }

    fn outside(mut at: IssuerAt) -> Outside {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("idp.jwks");
        fs::write(&file, jwks(1)).unwrap();
        at.keys = file.display().to_string();
        Outside::follow(vec![at], folder.path()).unwrap()
    }

    fn token(change: &dyn Fn(&mut Value), seed: u8) -> String {
        let now = now().0 / 1000;
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "mercy", "sub": "ana", "exp": now + 600, "iat": now, "roles": ["staff", "physician"],
            "scope": "openid user/Observation.rs", "client_id": "chart"
        });
        change(&mut claims);
        let header = Header { kid: Some(format!("k{seed}")), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &signing(seed)).unwrap()
    }

    #[tokio::test]
    async fn another_issuers_token_says_who_its_user_is_here() {
        let bearer = outside(at(&|_| {})).check(&token(&|_| {}, 1)).unwrap().unwrap().bearer;
        assert_eq!((bearer.sub.as_str(), bearer.role), ("idp:ana", Role::Doctor));
        assert_eq!(bearer.app.unwrap().scope, "user/Observation.rs");
        let of_patient = |claims: &mut Value| {
            claims["roles"] = json!("member");
            claims["fhirUser"] = json!("Patient/ilse");
        };
        let bearer = outside(at(&|_| {})).check(&token(&of_patient, 1)).unwrap().unwrap().bearer;
        assert_eq!((bearer.role, bearer.patient.as_deref()), (Role::Patient, Some("ilse")));
    }

    #[tokio::test]
    async fn a_token_without_scopes_opens_nothing_unless_the_issuers_users_are_trusted_whole() {
        let bare = token(&|claims| claims["scope"] = json!("openid profile"), 1);
        let bearer = outside(at(&|_| {})).check(&bare).unwrap().unwrap().bearer;
        assert_eq!(bearer.app.map(|app| app.scope), Some(String::new()));
        let bearer = outside(at(&|at| at.whole_users = true)).check(&bare).unwrap().unwrap().bearer;
        assert_eq!(bearer.app, None);
    }

    #[tokio::test]
    async fn what_another_issuer_did_not_sign_for_these_doors_is_refused() {
        let outside = outside(at(&|_| {}));
        let now = now().0 / 1000;
        let wrong: [(&str, Value, TokenError); 11] = [
            ("aud", json!("other"), TokenError::Invalid),
            ("exp", json!(now - 60), TokenError::Expired),
            ("exp", json!(now + 7200), TokenError::TooLong),
            ("nbf", json!(now + 600), TokenError::TooEarly),
            ("roles", json!(["cleaner"]), TokenError::NoRole),
            ("roles", json!("assistant physician"), TokenError::NoRole),
            ("nonce", json!("n"), TokenError::Invalid),
            ("iat", json!(now - 7200), TokenError::TooLong),
            ("roles", json!("member"), TokenError::NoRole),
            ("sub", json!("a b"), TokenError::Invalid),
            ("sub", json!("a".repeat(200)), TokenError::Invalid),
        ];
        for (name, value, expected) in wrong {
            let token = token(&|claims| claims[name] = value.clone(), 1);
            assert_eq!(outside.check(&token).unwrap().map(drop), Err(expected), "{name}");
        }
        assert_eq!(outside.check(&token(&|_| {}, 2)).unwrap().map(drop), Err(TokenError::Invalid));
        assert!(outside.check(&token(&|claims| claims["iss"] = json!("https://evil.example"), 1)).is_none());
        assert!(outside.check("nonsense").is_none());
    }

    #[tokio::test]
    async fn issuers_that_could_not_be_believed_are_refused_by_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("idp.jwks");
        fs::write(&file, jwks(1)).unwrap();
        let good = || at(&|at| at.keys = file.display().to_string());
        let follow = |all: Vec<IssuerAt>| Outside::follow(all, folder.path()).map(drop);
        assert!(follow(vec![good()]).is_ok());
        assert!(follow(vec![good(), IssuerAt { name: "two".to_owned(), ..good() }]).is_err());
        for change in [
            (&|at: &mut IssuerAt| at.keys = "http://idp.example/keys".to_owned()) as &dyn Fn(&mut IssuerAt),
            &|at| at.keys = "missing".to_owned(),
            &|at| at.roles.clear(),
            &|at| at.patient_claim = None,
            &|at| at.name = "a b".to_owned(),
            &|at| at.audience.clear(),
        ] {
            let mut wrong = good();
            change(&mut wrong);
            assert!(follow(vec![wrong]).is_err());
        }
    }

    #[tokio::test]
    async fn keys_are_fetched_beside_requests_and_known_again_while_the_issuer_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let served = axum::Router::new().route("/keys", axum::routing::get(|| async { jwks(1) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys = format!("http://{}/keys", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, served).await });
        let here = || Outside::follow(vec![at(&|at| at.keys.clone_from(&keys))], folder.path()).unwrap();
        let outside = here();
        while outside.check(&token(&|_| {}, 1)).unwrap().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        serving.abort();
        assert!(here().check(&token(&|_| {}, 1)).unwrap().is_ok());
    }
}
