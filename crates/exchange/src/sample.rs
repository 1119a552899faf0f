//! Entries that tests are made on.

use contract::{AccessAction, Body, Entry};
use record::{Commitment, Id16, OrgId, Purpose, RecordTag, TimeMs, sha256};

/// An access of an organisation, about nobody, that names `audit` with these bytes for its audit event.
pub(crate) fn access(org: &OrgId, id: Id16, audit: RecordTag, bytes: &[u8]) -> Entry {
    Entry {
        id,
        org: org.clone(),
        time: TimeMs(1000),
        purpose: Purpose::Treat,
        policy: sha256(&[b"policy"]),
        actor: sha256(&[b"actor"]),
        patient: None,
        month: None,
        body: Body::Access {
            action: AccessAction::Read,
            set: sha256(&[b"set"]),
            count: 1,
            denied: false,
            under: None,
            audit,
            commitment: Commitment(sha256(&[bytes])),
        },
    }
}
