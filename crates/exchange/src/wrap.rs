//! Patient keys on their way to custodians: wrapped with age to the organisations whose role may hold them.

use record::PatientKey;
use std::{
    io::{Read, Write},
    str::FromStr,
};
use zeroize::Zeroizing;

/// The longest wrapped key, in bytes: one stanza for each of at most 256 custodians.
pub(crate) const WRAPPED_BYTES_MAX: usize = 64 * 1024;

/// Why a patient key could not be wrapped or unwrapped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrapError {
    /// A member's wrapping key is no age recipient.
    #[error("the wrapping key of `{0}` is no age recipient")]
    BadRecipient(record::OrgId),
    /// No member may hold patient keys.
    #[error("no member's role may hold patient keys")]
    NoCustodian,
    /// Not wrapped for this organisation, or changed on the way.
    #[error("the wrapped patient key does not open with this organisation's wrapping key")]
    NotForUs,
    /// The library failed to write.
    #[error("the patient key could not be wrapped")]
    Failed,
}

/// A member that may hold patient keys, and what they are wrapped to for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Custodian {
    pub(crate) org: record::OrgId,
    pub(crate) wrap_key: String,
}

/// Wraps `key` to every custodian.
pub(crate) fn wrap(key: &PatientKey, custodians: &[Custodian]) -> Result<Vec<u8>, WrapError> {
    let recipients = custodians
        .iter()
        .map(|member| {
            age::x25519::Recipient::from_str(&member.wrap_key).map_err(|_| WrapError::BadRecipient(member.org.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))
        .map_err(|_| WrapError::NoCustodian)?;
    let mut wrapped = Vec::new();
    let mut writer = encryptor.wrap_output(&mut wrapped).map_err(|_| WrapError::Failed)?;
    writer.write_all(key.expose()).map_err(|_| WrapError::Failed)?;
    writer.finish().map_err(|_| WrapError::Failed)?;
    Ok(wrapped)
}

/// Opens a wrapped key.
pub(crate) fn unwrap(wrapped: &[u8], identity: &age::x25519::Identity) -> Result<PatientKey, WrapError> {
    if wrapped.len() > WRAPPED_BYTES_MAX {
        return Err(WrapError::NotForUs);
    }
    let decryptor = age::Decryptor::new(wrapped).map_err(|_| WrapError::NotForUs)?;
    let mut reader =
        decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).map_err(|_| WrapError::NotForUs)?;
    let mut key = Zeroizing::new([0u8; 32]);
    reader.read_exact(key.as_mut()).map_err(|_| WrapError::NotForUs)?;
    // A longer plaintext is not one of our keys; reading on also checks the file's final chunk.
    let mut rest = [0u8; 1];
    match reader.read(&mut rest) {
        Ok(0) => Ok(PatientKey::from_bytes(*key)),
        _ => Err(WrapError::NotForUs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::OrgKeys;
    use record::OrgRole;

    #[test]
    fn custodians_open_the_key_and_an_insurer_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let keys = |name: &str| OrgKeys::create(&dir.path().join(name)).unwrap();
        let (hospital, insurer) = (keys("hospital"), keys("insurer"));
        let custodian = hospital.member("hospital".parse().unwrap(), OrgRole::Hospital, "127.0.0.1:1".into());
        let custodians = [Custodian { org: custodian.org, wrap_key: custodian.wrap_key }];
        let key = PatientKey::from_bytes([7; 32]);
        let mut wrapped = wrap(&key, &custodians).unwrap();
        assert_eq!(wrap(&key, &[]), Err(WrapError::NoCustodian));
        let bad = Custodian { wrap_key: "age1".to_owned(), ..custodians[0].clone() };
        assert_eq!(wrap(&key, &[bad]), Err(WrapError::BadRecipient(custodians[0].org.clone())));
        assert_eq!(unwrap(&wrapped, &hospital.wrap), Ok(key));
        assert_eq!(unwrap(&wrapped, &insurer.wrap), Err(WrapError::NotForUs));
        let last = wrapped.len() - 1;
        wrapped[last] ^= 1;
        assert_eq!(unwrap(&wrapped, &hospital.wrap), Err(WrapError::NotForUs));
    }
}
