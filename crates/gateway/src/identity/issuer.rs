//! The embedded token issuer: short-lived bearer tokens (JWT, EdDSA) for the organisation's own people, apps and programs.

use super::{PROGRAM, drawn, hash};
use anyhow::Context;
use ed25519_dalek::{SigningKey, VerifyingKey, pkcs8::EncodePrivateKey};
use exchange::{clock::now, keys::OrgKeys};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk};
use record::{OrgId, OrgRole, Role, TimeMs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock},
};

/// How an issuer of ours is called, before the organisation's name.
pub(super) const PREFIX: &str = "vitaltrace:";
/// How long a token is good, in seconds.
pub(crate) const TOKEN_SECONDS: u64 = 15 * 60;
/// The same of a program that acts for itself. Source: SMART App Launch 2.2, «Backend Services»: no more than five minutes.
const SERVICE_TOKEN_SECONDS: u64 = 5 * 60;
/// Clocks may differ by this much, in seconds.
pub(crate) const LEEWAY_SECONDS: u64 = 2;
/// Tokens of which is remembered that their signature is good, at most: with a bearer each.
const CHECKED_MAX: usize = 1_024;
/// The longest token that is looked at, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token says of its bearer. Role and organisation come from here and never from a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bearer {
    /// The user; of a program that acts for itself, its name as an app.
    pub(crate) sub: String,
    /// The role.
    pub(crate) role: Role,
    /// For a patient's login: the id of the Patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) patient: Option<String>,
    /// Names the session that the token is of: it ends with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sid: Option<String>,
    /// The app that was let in, and what for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) app: Option<LetIn>,
    /// Made by whoever has the organisation's keys, and for nobody in the list of users.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) operator: bool,
}

/// An app that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LetIn {
    /// The app.
    pub(crate) client_id: String,
    /// What it was given, as a list with blanks in between.
    pub(crate) scope: String,
    /// The Patient that it was launched for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) launched: Option<String>,
    /// Whether it acts for itself, with no user.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) service: bool,
}

impl Bearer {
    /// A user who acts without an app.
    pub(crate) fn user(name: &str, role: Role, patient: Option<String>) -> Self {
        Self { sub: name.to_owned(), role, patient, sid: None, app: None, operator: false }
    }

    /// What the trail calls it: no user has the name of a program.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match &self.app {
            Some(app) if app.service => Cow::Owned(format!("{PROGRAM}:{}", self.sub)),
            _ => Cow::Borrowed(&self.sub),
        }
    }

    /// How long a token for it is good, in seconds.
    pub(crate) fn seconds(&self) -> u64 {
        if self.app.as_ref().is_some_and(|app| app.service) { SERVICE_TOKEN_SECONDS } else { TOKEN_SECONDS }
    }
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who issued it: `vitaltrace:ORG`.
    iss: String,
    /// For whose doors: `vitaltrace:ORG`.
    aud: String,
    /// Not before, and when it was issued, in seconds since 1970.
    nbf: u64,
    /// Expires, in seconds since 1970.
    pub(crate) exp: u64,
    /// Names the token. Source: RFC 9068 section 2.2.
    #[serde(default)]
    jti: String,
    #[serde(flatten)]
    pub(crate) bearer: Bearer,
}

impl Claims {
    /// What another issuer's token says.
    pub(crate) fn of(bearer: Bearer, issued: u64, exp: u64) -> Self {
        Self { iss: String::new(), aud: String::new(), nbf: issued, exp, jti: String::new(), bearer }
    }

    /// Whether they are another issuer's.
    pub(crate) fn is_of_another(&self) -> bool {
        self.iss.is_empty()
    }

    /// When it was issued, in seconds since 1970.
    pub(crate) fn issued(&self) -> u64 {
        self.nbf
    }
}

/// What an app is told of the user who let it in. Source: OpenID Connect Core 1.0 section 2; SMART App Launch 2.2, «fhirUser».
#[derive(Serialize)]
struct IdToken<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(rename = "fhirUser", skip_serializing_if = "Option::is_none")]
    fhir_user: Option<&'a str>,
}

/// Why a token was not accepted. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// No token came with the request.
    #[error("a bearer token is needed: ask `POST /auth/token` for one")]
    Missing,
    /// Its time is over.
    #[error("the token has expired: ask `POST /auth/token` for a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    TooEarly,
    /// Its session was ended, its user or app is not what it was, or may not come in any more.
    #[error("the token was revoked: log in again")]
    Revoked,
    /// Another issuer's, which names no role that its user has here.
    #[error("the token names no role that is known here: ask whoever runs the gateway")]
    NoRole,
    /// Another issuer's, which is good for too long.
    #[error("the token is good for more than an hour: another issuer's must not be")]
    TooLong,
    /// A login with a wrong name or password.
    #[error("the name or the password is wrong")]
    Refused,
    /// Too many logins failed.
    #[error("too many logins failed: try again in some minutes")]
    TooMany,
    /// Another issuer's, for another audience, changed, or no token at all.
    #[error("the token is not one of this organisation's")]
    Invalid,
}

/// A key, as one that signs and as one that checks.
struct Pair {
    name: String,
    signing: EncodingKey,
    checking: DecodingKey,
    public: jwk::Jwk,
}

impl Pair {
    fn of(key: &SigningKey) -> anyhow::Result<Self> {
        let der = key.to_pkcs8_der().map_err(|e| anyhow::anyhow!("the issuer key cannot be encoded: {e}"))?;
        let signing = EncodingKey::from_ed_der(der.as_bytes());
        let checking = DecodingKey::from_ed_der(key.verifying_key().as_bytes());
        let mut public = public(&key.verifying_key());
        let name = public.thumbprint(jwk::ThumbprintHash::SHA256).context("the issuer key has no thumbprint")?;
        public.common.key_id = Some(name.clone());

        Ok(Self { name, signing, checking, public })
    }
}

/// A public key as others read it. Source: RFC 8037 section 2.
pub(crate) fn public(key: &VerifyingKey) -> jwk::Jwk {
    let x = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, key.as_bytes());
    jwk::Jwk {
        common: jwk::CommonParameters {
            public_key_use: Some(jwk::PublicKeyUse::Signature),
            key_algorithm: Some(jwk::KeyAlgorithm::EdDSA),
            ..jwk::CommonParameters::default()
        },
        algorithm: jwk::AlgorithmParameters::OctetKeyPair(jwk::OctetKeyPairParameters {
            key_type: jwk::OctetKeyPairType::OctetKeyPair,
            curve: jwk::EllipticCurve::Ed25519,
            x,
        }),
    }
}

/// The key that signs, and the one before it, whose tokens are good until they expire.
struct Pairs {
    present: Pair,
    former: Option<Former>,
    /// What tokens say that these keys signed, by their hashes: a token comes with every request of its bearer.
    checked: Mutex<HashMap<[u8; 32], Claims>>,
}

impl Pairs {
    fn of(keys: &Keys<'_>) -> anyhow::Result<Self> {
        let former = keys.former.map(Pair::of).transpose()?;
        let former = former.map(|pair| Former { pair, until: keys.since.0 / 1000 + LEEWAY_SECONDS });
        Ok(Self { present: Pair::of(keys.present)?, former, checked: Mutex::default() })
    }

    /// What a token says that was found good before, if it is good still.
    fn known(&self, token: &[u8; 32], now: TimeMs) -> Option<Claims> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.0 / 1000;
        let is_now = |claims: &&Claims| claims.nbf <= seconds + LEEWAY_SECONDS && seconds <= claims.exp;
        checked.get(token).filter(is_now).cloned()
    }

    fn know(&self, token: [u8; 32], claims: &Claims) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(token, claims.clone());
    }
}

/// A key that was replaced.
struct Former {
    pair: Pair,
    /// When it was, in seconds since 1970: what says to be signed later was signed by somebody else.
    until: u64,
}

/// The keys of an issuer.
pub(crate) struct Keys<'a> {
    pub(crate) present: &'a SigningKey,
    /// The one before it.
    pub(crate) former: Option<&'a SigningKey>,
    /// Since when the present one signs.
    pub(crate) since: TimeMs,
}

impl<'a> Keys<'a> {
    /// Those that an organisation has.
    pub(crate) fn of(keys: &'a OrgKeys) -> Self {
        Self { present: &keys.issuer, former: keys.former_issuer.as_ref(), since: keys.issuer_since }
    }
}

/// Issues and checks tokens.
pub(crate) struct Issuer {
    name: String,
    org: OrgId,
    org_role: OrgRole,
    pairs: RwLock<Pairs>,
}

impl Issuer {
    /// An issuer with the organisation's keys.
    pub(crate) fn new(org: OrgId, org_role: OrgRole, keys: &Keys<'_>) -> anyhow::Result<Self> {
        Ok(Self { name: format!("{PREFIX}{org}"), org, org_role, pairs: RwLock::new(Pairs::of(keys)?) })
    }

    /// Goes over to other keys.
    pub(crate) fn replace(&self, keys: &Keys<'_>) -> anyhow::Result<()> {
        let pairs = Pairs::of(keys)?;
        *self.pairs.write().unwrap_or_else(PoisonError::into_inner) = pairs;
        Ok(())
    }

    /// The organisation.
    pub(crate) fn org(&self) -> &OrgId {
        &self.org
    }

    /// What the organisation is.
    pub(crate) fn org_role(&self) -> OrgRole {
        self.org_role
    }

    /// Whether checked claims are of a token that this issuer gave.
    pub(crate) fn is_ours(&self, claims: &Claims) -> bool {
        claims.iss == self.name
    }

    /// The public halves of the keys, for those who check what it signs. Source: RFC 7517.
    pub(crate) fn public(&self) -> jwk::JwkSet {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let former = pairs.former.iter().map(|former| &former.pair);
        jwk::JwkSet { keys: std::iter::once(&pairs.present).chain(former).map(|pair| pair.public.clone()).collect() }
    }

    /// A token for `bearer`, good from `now` for [`Bearer::seconds`].
    pub(crate) fn issue(&self, bearer: Bearer, now: TimeMs) -> anyhow::Result<String> {
        let nbf = now.0 / 1000;
        let (iss, aud) = (self.name.clone(), self.name.clone());
        self.sign("at+jwt", &Claims { iss, aud, nbf, exp: nbf + bearer.seconds(), jti: drawn()?, bearer })
    }

    /// What the app `aud` is told of `user` by the issuer that is called `iss`.
    pub(crate) fn id_token(
        &self,
        iss: &str,
        aud: &str,
        user: &str,
        (nonce, fhir_user): (Option<&str>, Option<&str>),
        now: TimeMs,
    ) -> anyhow::Result<String> {
        let iat = now.0 / 1000;
        self.sign("JWT", &IdToken { iss, sub: user, aud, iat, exp: iat + TOKEN_SECONDS, nonce, fhir_user })
    }

    fn sign<T: Serialize>(&self, typ: &str, claims: &T) -> anyhow::Result<String> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let header = Header {
            typ: Some(typ.to_owned()),
            kid: Some(pairs.present.name.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        Ok(jsonwebtoken::encode(&header, claims, &pairs.present.signing)?)
    }

    /// What `token` says, if it is one of ours and good now. Whether its session has ended, it does not know itself.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let named = hash(token);
        if let Some(claims) = pairs.known(&named, now()) {
            return Ok(claims);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        // What an app is told of its user opens no door.
        if header.typ.as_deref() != Some("at+jwt") {
            return Err(TokenError::Invalid);
        }
        let is_named = |pair: &Pair| Some(&pair.name) == header.kid.as_ref();
        let (pair, until) = match &pairs.former {
            _ if is_named(&pairs.present) => (&pairs.present, u64::MAX),
            Some(former) if is_named(&former.pair) => (&former.pair, former.until),
            _ => return Err(TokenError::Invalid),
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.name]);
        validation.set_audience(&[&self.name]);
        let claims: Claims = decode(token, &pair.checking, validation)?;
        if claims.issued() > until {
            return Err(TokenError::Revoked);
        }
        pairs.know(named, &claims);
        Ok(claims)
    }
}

/// What a signed token says, if the key signed it and its time has come and is not over. Issuer and audience are those of `validation`.
pub(crate) fn decode<T: DeserializeOwned + Clone>(
    token: &str,
    key: &DecodingKey,
    mut validation: Validation,
) -> Result<T, TokenError> {
    use jsonwebtoken::errors::ErrorKind;
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    match jsonwebtoken::decode::<T>(token, key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(e) => Err(match e.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::TooEarly,
            _ => TokenError::Invalid,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn issuer(org: &str, seed: u8) -> Issuer {
        let keys = Keys { present: &key(seed), former: None, since: now() };
        Issuer::new(org.parse().unwrap(), OrgRole::Hospital, &keys).unwrap()
    }

    fn ana() -> Bearer {
        Bearer::user("ana", Role::Doctor, None)
    }

    #[test]
    fn a_token_says_who_its_user_is_and_what_an_app_was_given() {
        let token = issuer("mercy", 1).issue(ana(), now()).unwrap();
        assert_eq!(issuer("mercy", 1).check(&token).unwrap().bearer, ana());
        assert_ne!(token, issuer("mercy", 1).issue(ana(), now()).unwrap(), "no token is another one");
        let (client_id, scope) = ("chart".to_owned(), "patient/*.rs".to_owned());
        let app = Some(LetIn { client_id, scope, launched: Some("ilse".to_owned()), service: false });
        let let_in = Bearer { app, sid: Some("01".to_owned()), ..ana() };
        let token = issuer("mercy", 1).issue(let_in.clone(), now()).unwrap();
        assert_eq!(issuer("mercy", 1).check(&token).unwrap().bearer, let_in);
    }

    #[test]
    fn expired_early_foreign_and_changed_tokens_are_refused() {
        let mercy = issuer("mercy", 1);
        let at = |ms: u64| mercy.issue(ana(), TimeMs(ms)).unwrap();
        assert_eq!(mercy.check(&at(now().0 - 3_600_000)), Err(TokenError::Expired));
        assert_eq!(mercy.check(&at(now().0 + 3_600_000)), Err(TokenError::TooEarly));
        let good = at(now().0);
        assert_eq!(issuer("other", 1).check(&good), Err(TokenError::Invalid));
        assert_eq!(issuer("mercy", 2).check(&good), Err(TokenError::Invalid));
        assert_eq!(mercy.check("rubbish"), Err(TokenError::Invalid));
        let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert_eq!(mercy.check(&unsigned), Err(TokenError::Invalid));
        assert_eq!(mercy.check(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(TokenError::Invalid));
    }

    #[test]
    fn a_token_that_was_found_good_is_good_no_longer_than_it_says_and_in_bounded_memory() {
        let mercy = issuer("mercy", 1);
        let token = mercy.issue(ana(), now()).unwrap();
        let claims = mercy.check(&token).unwrap();
        let pairs = mercy.pairs.read().unwrap();
        let known = |seconds: u64| pairs.known(&hash(&token), TimeMs(seconds * 1000));
        assert_eq!(known(claims.exp), Some(claims.clone()));
        assert_eq!(known(claims.exp + 1), None);
        assert_eq!(known(claims.nbf - LEEWAY_SECONDS - 1), None);
        for n in 0..2 * CHECKED_MAX {
            pairs.know(hash(&n.to_string()), &claims);
        }
        assert!(pairs.checked.lock().unwrap().len() <= CHECKED_MAX);
    }

    #[test]
    fn other_algorithms_than_the_issuers_are_refused_under_its_keys_name() {
        let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
        let mercy = issuer("mercy", 1);
        let now = now().0 / 1000;
        let claims = format!(
            r#"{{"iss":"vitaltrace:mercy","aud":"vitaltrace:mercy","sub":"eve","nbf":{now},"exp":{},"role":"doctor"}}"#,
            now + 600
        );
        let name = mercy.public().keys[0].common.key_id.clone().unwrap();
        let header = format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{name}"}}"#);
        let token = format!("{}.{}.", encode(&header), encode(&claims));
        assert_eq!(mercy.check(&token), Err(TokenError::Invalid));
        // The public key as the secret of a symmetric signature.
        let header = Header { typ: Some("at+jwt".to_owned()), kid: Some(name), ..Header::new(Algorithm::HS256) };
        let claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
        let secret = EncodingKey::from_secret(key(1).verifying_key().as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
        assert_eq!(mercy.check(&token), Err(TokenError::Invalid));
    }

    #[test]
    fn what_an_app_is_told_of_its_user_opens_no_door() {
        let mercy = issuer("mercy", 1);
        let told = mercy.id_token("vitaltrace:mercy", "vitaltrace:mercy", "ana", (None, None), now()).unwrap();
        assert_eq!(mercy.check(&told), Err(TokenError::Invalid));
    }

    #[test]
    fn tokens_of_the_key_before_are_good_until_they_expire_and_those_of_older_ones_are_not() {
        let mercy = issuer("mercy", 1);
        let first = mercy.issue(ana(), now()).unwrap();
        let keys = |present: u8| {
            mercy.replace(&Keys { present: &key(present), former: Some(&key(present - 1)), since: now() }).unwrap();
        };
        keys(2);
        let second = mercy.issue(ana(), now()).unwrap();
        assert!(mercy.check(&first).is_ok() && mercy.check(&second).is_ok());
        assert_eq!(mercy.public().keys.len(), 2);
        // Whoever has the former key signs no more.
        let later = Keys { present: &key(2), former: Some(&key(1)), since: TimeMs(now().0 - 60_000) };
        mercy.replace(&later).unwrap();
        assert_eq!(mercy.check(&first), Err(TokenError::Revoked));
        keys(3);
        assert_eq!(mercy.check(&first), Err(TokenError::Invalid));
        assert!(mercy.check(&second).is_ok());
    }
}
