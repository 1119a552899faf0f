//! The secret key of one patient, and the names that the ledger knows the patient by.

use crate::{Digest, Id16, Month, Salt};
use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret of one patient (or of one organisation, for records without a patient), 32 random bytes made at enrolment.
///
/// Whoever holds it can link the patient's pseudonyms and open essential copies; whoever destroys it erases the patient.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PatientKey([u8; 32]);

impl PatientKey {
    /// Wraps 32 random bytes; the caller draws them from the operating system.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, to be wrapped for a custodian and nowhere else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The patient's name on the ledger in `month`: HMAC-SHA-256(key, "patient" ‖ month as 4 bytes big-endian).
    pub fn pseudonym(&self, month: Month) -> Pseudonym {
        Pseudonym(self.hmac(&[b"patient", &month.0.to_be_bytes()]))
    }

    /// Stands for a billed service at every insurer alike: HMAC-SHA-256(key, "service" ‖ 0 ‖ `Type/id` of the service's record).
    pub fn nullifier(&self, record: &str) -> Digest {
        self.hmac(&[b"service\0", record.as_bytes()])
    }

    /// Stands for a person or program at the organisation whose key this is: HMAC-SHA-256(key, "actor" ‖ 0 ‖ user).
    pub fn actor(&self, user: &str) -> Digest {
        self.hmac(&[b"actor\0", user.as_bytes()])
    }

    /// Salt of the commitment that continues a month's log from the month before: HMAC-SHA-256(key, "month" ‖ 0 ‖ entry id).
    pub fn month_salt(&self, entry: &Id16) -> Salt {
        self.hmac(&[b"month\0", entry.as_ref()])
    }

    /// HMAC-SHA-256 under this key over the concatenation of `parts`.
    pub(crate) fn hmac(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of every length"),
        };
        for part in parts {
            mac.update(part);
        }
        Digest(mac.finalize().into_bytes().into())
    }
}
impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientKey(secret)")
    }
}

/// What the ledger calls a patient for one month. Two months' names cannot be linked without the patient key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Pseudonym(#[n(0)] pub Digest);

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TimeMs;

    #[test]
    fn a_pseudonym_holds_for_a_month_and_says_nothing_about_the_next() {
        let key = PatientKey::from_bytes([1; 32]);
        let november = TimeMs::from_instant("2026-11-01T00:00:00Z").unwrap().month();
        assert_eq!(key.pseudonym(november), key.pseudonym(Month(november.0)));
        assert_ne!(key.pseudonym(november), key.pseudonym(november.previous()));
        assert_ne!(key.pseudonym(november), PatientKey::from_bytes([2; 32]).pseudonym(november));
        assert_eq!(format!("{key:?}"), "PatientKey(secret)");
    }

    #[test]
    fn services_actors_and_salts_of_one_key_have_nothing_in_common() {
        let key = PatientKey::from_bytes([1; 32]);
        let text = std::str::from_utf8(&[97; 16]).unwrap();
        let all = [key.nullifier(text), key.actor(text), key.month_salt(&Id16([97; 16]))];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_eq!(key.nullifier("Procedure/1"), PatientKey::from_bytes([1; 32]).nullifier("Procedure/1"));
        assert_ne!(key.nullifier("Procedure/1"), PatientKey::from_bytes([2; 32]).nullifier("Procedure/1"));
    }
}
