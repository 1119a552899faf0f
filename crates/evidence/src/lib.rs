//! How a stranger checks it: bundles of evidence, and the one function that believes nothing in them.
//!
//! A prover [`assemble`]s a [`Bundle`] from what its node serves; anybody runs [`verify`] on the bytes with nothing else than the
//! genesis id, and gets a [`Report`] that says what is proven and what is not, or [`Refused`]. One record alone travels as a
//! [`RecordProof`] and is checked by [`verify_record`]. Consensus signatures and state proofs are checked by the engine's own
//! verifiers; nothing here makes cryptography.
//!
//! What a validator must not sign is kept as a [`blame_file`].
//!
//! The format is `spec/evidence.md`. Everything here is pure: no clock is read, nothing is drawn at random, nothing is written.

mod report;
mod verify;

mod bundle;
mod finality;
mod state;

mod log;
mod opened;

mod record_proof;

mod blame;

mod bounded;

pub use blame::{BLAME_BYTES_MAX, BLAME_FORMAT, Blamed, Misdeed, blame_epoch, blame_file, is_blame, verify_blame};
pub use bundle::{
    Bundle, ENTRIES_MAX, EVIDENCE_FORMAT, Finality, HANDOVERS_MAX, Handover, Log, LoggedEntry, MONTHS_MAX, MonthLog,
    OPENED_MAX, OPENINGS_MAX, Opened, OpenedLink, Parts, Policies, StateProof, assemble,
};
pub use finality::Checkpoint;
pub use log::BadLog;
pub use record_proof::{RECORD_PROOF_FORMAT, RecordProof, verify_record};
pub use report::{
    Decided, EntryReport, Link, MonthReport, OpenedBytes, PolicyReport, RecordProven, RecordReport, Report,
    VersionReport,
};
pub use state::{CHUNK_BYTES, PROOF_BYTES_MAX, PROOF_DIGESTS_MAX, absent, current};
pub use verify::{Limits, Refused, Subject, prove, verify, verify_through};

#[cfg(test)]
mod tests;
