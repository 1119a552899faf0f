//! Commitments: what stands on the ledger for bytes that must not.
//!
//! A commitment is SHA-256(domain ‖ salt ‖ exact stored bytes). Bytes are hashed exactly as stored, because FHIR decimals
//! lose precision under canonicalisation. The salt is derived from the patient key, so without key or salt nobody can test a guess.

use crate::{Digest, Id16, OrgId, PatientKey, sha256};
use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// First bytes of every commitment's preimage; the number is the format's version.
const COMMITMENT_DOMAIN: &[u8] = b"vitaltrace/commitment/1\0";
const SALT_LABEL: &[u8] = b"vitaltrace/salt/1\0";

/// Salt of one commitment, 32 bytes. Stored in the record's row, so that any gateway can check the row.
pub type Salt = Digest;

/// Stands for exact bytes on the ledger without revealing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Commitment(#[n(0)] pub Digest);

/// Stands for a record over all its versions; the row carries it.
///
/// For the audit event of an access it begins with the mark of the organisation that filed the access, whose first bit is 1; for every other
/// record the first bit is 0. The rest is HMAC(patient key, "record" ‖ `Type/id`). So the ledger knows by the tag alone which is which, and
/// that no organisation names another's audit event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct RecordTag(#[n(0)] pub Digest);

/// The first bit of a tag: it is an audit event's.
const AUDIT_BIT: u8 = 0x80;
/// Bytes of an audit event's tag that are its organisation's mark.
const MARK_BYTES: usize = 12;
const MARK_DOMAIN: &[u8] = b"vitaltrace/audit-tag/1\0";

impl RecordTag {
    /// The tag with the organisation's mark: of an audit event.
    #[must_use]
    pub fn of_audit(mut self, org: &OrgId) -> Self {
        let mark = sha256(&[MARK_DOMAIN, org.as_str().as_bytes()]);
        for (byte, mark) in self.0.0.iter_mut().zip(&mark.0[..MARK_BYTES]) {
            *byte = *mark;
        }
        self.0.0[0] |= AUDIT_BIT;
        self
    }

    /// The tag with its first bit clear: of a record that is no audit event of an access.
    #[must_use]
    pub fn of_record(mut self) -> Self {
        self.0.0[0] &= !AUDIT_BIT;
        self
    }

    /// Whether it is the tag of an access's audit event.
    pub fn is_audit(&self) -> bool {
        self.0.0[0] & AUDIT_BIT != 0
    }
}

/// The tag of the record `Type/id` of the patient with this key.
pub fn record_tag(key: &PatientKey, record: &str) -> RecordTag {
    RecordTag(key.hmac(&[b"record\0", record.as_bytes()])).of_record()
}

/// The tag of the audit event `AuditEvent/id` of an access that `org` files, to the data of the patient with this key.
pub fn audit_tag(key: &PatientKey, record: &str, org: &OrgId) -> RecordTag {
    record_tag(key, record).of_audit(org)
}

/// The salt of one version of one record: HKDF-SHA-256 of the patient key, labelled and length-prefixed.
///
/// `record` is `Type/id`, `entry` the id of the ledger entry that will carry the commitment.
pub fn salt(key: &PatientKey, record: &str, version: u64, org: &OrgId, entry: &Id16) -> Salt {
    let mut info = Vec::with_capacity(SALT_LABEL.len() + record.len() + 64);
    info.extend_from_slice(SALT_LABEL);
    for part in [record.as_bytes(), &version.to_be_bytes(), org.as_str().as_bytes(), entry.as_ref()] {
        info.extend_from_slice(&(part.len() as u32).to_be_bytes());
        info.extend_from_slice(part);
    }
    let mut salt = [0u8; 32];
    match Hkdf::<Sha256>::new(None, key.expose()).expand(&info, &mut salt) {
        Ok(()) => Digest(salt),
        Err(_) => unreachable!("32 bytes are less than HKDF-SHA-256 can give"),
    }
}

/// The commitment to `bytes` under `salt`.
pub fn commit(salt: &Salt, bytes: &[u8]) -> Commitment {
    Commitment(sha256(&[COMMITMENT_DOMAIN, salt.as_ref(), bytes]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (PatientKey, OrgId, Id16) {
        (PatientKey::from_bytes([1; 32]), "mercy".parse().unwrap(), Id16([2; 16]))
    }

    #[test]
    fn every_input_of_the_salt_changes_it() {
        let (key, org, entry) = example();
        let base = salt(&key, "Patient/1", 1, &org, &entry);
        assert_eq!(base, salt(&key, "Patient/1", 1, &org, &entry));
        assert_ne!(base, salt(&PatientKey::from_bytes([9; 32]), "Patient/1", 1, &org, &entry));
        assert_ne!(base, salt(&key, "Patient/2", 1, &org, &entry));
        assert_ne!(base, salt(&key, "Patient/1", 2, &org, &entry));
        assert_ne!(base, salt(&key, "Patient/1", 1, &"mercz".parse().unwrap(), &entry));
        assert_ne!(base, salt(&key, "Patient/1", 1, &org, &Id16([3; 16])));
    }

    #[test]
    fn one_changed_byte_or_decimal_digit_changes_the_commitment() {
        let (key, org, entry) = example();
        let salt = salt(&key, "Observation/1", 1, &org, &entry);
        assert_ne!(commit(&salt, br#"{"value":1.10}"#), commit(&salt, br#"{"value":1.1}"#));
    }

    #[test]
    fn tags_tell_records_and_each_organisations_audit_events_apart() {
        let (key, mercy, _) = example();
        let other: OrgId = "county".parse().unwrap();
        for n in 0..64 {
            let name = format!("AuditEvent/{n}");
            let (record, audit) = (record_tag(&key, &name), audit_tag(&key, &name, &mercy));
            assert!(!record.is_audit() && audit.is_audit());
            assert_eq!((audit, audit.of_audit(&mercy)), (record.of_audit(&mercy), audit));
            assert_ne!(audit, audit.of_audit(&other), "another organisation's");
            assert_ne!(audit, audit_tag(&key, &format!("AuditEvent/{}", n + 1), &mercy), "another event's");
            assert_ne!(audit, audit_tag(&PatientKey::from_bytes([9; 32]), &name, &mercy), "another patient's");
        }
    }

    /// The vector in `spec/commitment.md`; a change of it is a change of format.
    #[test]
    fn the_published_vector_holds() {
        let (key, org, entry) = example();
        let salt = salt(&key, "Patient/1", 1, &org, &entry);
        let commitment = commit(&salt, br#"{"resourceType":"Patient","id":"1"}"#);
        let tag = record_tag(&key, "Patient/1");
        let audit = audit_tag(&key, "AuditEvent/1", &org);
        expect_test::expect![[r#"
            salt 3ad21850b12f850da24ab7f7fcaa0c7d1e68c56e042ef6d18be458aa58cd74f3
            commitment 710bb180b64104bdc52ba69e74bea502af02bad1bc171f777c56561a4b9b5db3
            tag 691f42f3b805dda706a610de6fcb44b6e06aa3f947a68e4fb96f9b3ca670db0c
            audit bf0be86c47f6e3e968207ded102459b8299228da4d2cb8024da802868c33c0ea
        "#]]
        .assert_eq(&format!("salt {salt}\ncommitment {}\ntag {}\naudit {}\n", commitment.0, tag.0, audit.0));
    }
}
