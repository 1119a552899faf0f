//! What is said: the FHIR R4 resources we reason about, ids, units, time, pseudonyms, commitments.
//!
//! Everything here is pure: no clock is read, nothing is spawned, nothing is written.

mod clock;
mod commitment;
mod digest;
mod kind;
mod org;
mod pseudonym;
mod purpose;
mod role;

pub mod fhir;

pub use clock::{BadInstant, Month, TimeMs};
pub use commitment::{Commitment, RecordTag, Salt, audit_tag, commit, record_tag, salt};
pub use digest::{BadHex, Digest, Id16, sha256};
pub use kind::RecordType;
pub use org::{BadOrgId, ORG_ID_BYTES_MAX, OrgId, OrgRole};
pub use pseudonym::{PatientKey, Pseudonym};
pub use purpose::{PURPOSE_SYSTEM, Purpose, UnknownPurpose};
pub use role::{Role, UnknownRole};
