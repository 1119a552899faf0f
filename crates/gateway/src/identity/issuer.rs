//! The embedded token issuer: short-lived bearer tokens (JWT, EdDSA) for the organisation's own users.

use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use record::{OrgId, OrgRole, Role, TimeMs};
use serde::{Deserialize, Serialize};

/// How long a token is good, in seconds.
pub(crate) const TOKEN_SECONDS: u64 = 15 * 60;
/// Clocks may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 2;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// What a token says. Role and organisation come from here and never from a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who issued it: `vitaltrace:ORG`.
    iss: String,
    /// For whose doors: `vitaltrace:ORG`.
    aud: String,
    /// The user.
    pub(crate) sub: String,
    /// Not before, in seconds since 1970.
    nbf: u64,
    /// Expires, in seconds since 1970.
    pub(crate) exp: u64,
    /// The user's role.
    pub(crate) role: Role,
    /// For a patient's login: the id of the Patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) patient: Option<String>,
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
    /// A login with a wrong name or password.
    #[error("the name or the password is wrong")]
    Refused,
    /// Another issuer's, for another audience, changed, or no token at all.
    #[error("the token is not one of this organisation's")]
    Invalid,
}

/// Issues and checks tokens.
pub(crate) struct Issuer {
    name: String,
    org: OrgId,
    org_role: OrgRole,
    signing: EncodingKey,
    checking: DecodingKey,
}

impl Issuer {
    /// An issuer with the organisation's issuer key.
    pub(crate) fn new(org: OrgId, org_role: OrgRole, key: &SigningKey) -> anyhow::Result<Self> {
        let der = key.to_pkcs8_der().map_err(|e| anyhow::anyhow!("the issuer key cannot be encoded: {e}"))?;
        Ok(Self {
            name: format!("vitaltrace:{org}"),
            org,
            org_role,
            signing: EncodingKey::from_ed_der(der.as_bytes()),
            checking: DecodingKey::from_ed_der(key.verifying_key().as_bytes()),
        })
    }

    /// The organisation.
    pub(crate) fn org(&self) -> &OrgId {
        &self.org
    }

    /// What the organisation is.
    pub(crate) fn org_role(&self) -> OrgRole {
        self.org_role
    }

    /// A token for `user`, good from `now` for [`TOKEN_SECONDS`].
    pub(crate) fn issue(&self, user: &str, role: Role, patient: Option<String>, now: TimeMs) -> anyhow::Result<String> {
        let nbf = now.0 / 1000;
        let claims = Claims {
            iss: self.name.clone(),
            aud: self.name.clone(),
            sub: user.to_owned(),
            nbf,
            exp: nbf + TOKEN_SECONDS,
            role,
            patient,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)?)
    }

    /// What `token` says, if it is one of ours and good now.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, TokenError> {
        use jsonwebtoken::errors::ErrorKind;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.name]);
        validation.set_audience(&[&self.name]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        match jsonwebtoken::decode::<Claims>(token, &self.checking, &validation) {
            Ok(data) => Ok(data.claims),
            Err(e) => Err(match e.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                ErrorKind::ImmatureSignature => TokenError::TooEarly,
                _ => TokenError::Invalid,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exchange::clock::now;

    fn issuer(org: &str, seed: u8) -> Issuer {
        Issuer::new(org.parse().unwrap(), OrgRole::Hospital, &SigningKey::from_bytes(&[seed; 32])).unwrap()
    }

    #[test]
    fn a_token_says_who_its_user_is() {
        let token = issuer("mercy", 1).issue("ana", Role::Doctor, None, now()).unwrap();
        let claims = issuer("mercy", 1).check(&token).unwrap();
        assert_eq!((claims.sub.as_str(), claims.role), ("ana", Role::Doctor));
    }

    #[test]
    fn expired_early_foreign_and_changed_tokens_are_refused() {
        let mercy = issuer("mercy", 1);
        let at = |ms: u64| mercy.issue("ana", Role::Doctor, None, TimeMs(ms)).unwrap();
        assert_eq!(mercy.check(&at(now().0 - 3_600_000)), Err(TokenError::Expired));
        assert_eq!(mercy.check(&at(now().0 + 3_600_000)), Err(TokenError::TooEarly));
        let good = at(now().0);
        assert_eq!(issuer("other", 1).check(&good), Err(TokenError::Invalid));
        assert_eq!(issuer("mercy", 2).check(&good), Err(TokenError::Invalid));
        assert_eq!(mercy.check("rubbish"), Err(TokenError::Invalid));
        let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert_eq!(mercy.check(&unsigned), Err(TokenError::Invalid));
    }

    #[test]
    fn the_algorithm_none_is_refused() {
        let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
        let now = now().0 / 1000;
        let claims = format!(
            r#"{{"iss":"vitaltrace:mercy","aud":"vitaltrace:mercy","sub":"eve","nbf":{now},"exp":{},"role":"doctor"}}"#,
            now + 600
        );
        let token = format!("{}.{}.", encode(r#"{"alg":"none","typ":"JWT"}"#), encode(&claims));
        assert_eq!(issuer("mercy", 1).check(&token), Err(TokenError::Invalid));
    }
}
