//! How a stranger checks it: bundles of evidence, and the one function that believes nothing in them.
//!
//! A prover [`assemble`]s a [`Bundle`] from what its node serves; anybody runs [`verify`] on the bytes with nothing else than the
//! genesis id, and gets a [`Report`] that says what is proven and what is not, or [`Refused`]. One record alone travels as a
//! [`RecordProof`] and is checked by [`verify_record`]. Consensus signatures and state proofs are checked by the engine's own
//! verifiers; nothing here makes cryptography.
//!
//! What organisations say about the log over all entries travels in the forms that others read: COSE [`receipt`]s and C2SP
//! [`checkpoint`] notes.
//!
//! What a validator must not sign is kept as a [`blame_file`].
//!
//! The format is `spec/evidence.md`. Everything here is pure: no clock is read, nothing is drawn at random, nothing is written.

mod report;
mod verify;

mod bundle;
mod finality;
mod state;

mod gathered;
mod log;
mod opened;
mod part;

mod current;
mod device;
mod let_go;

mod checkpoint;
mod place;
mod receipt;
mod signed;
mod witness;

mod record_proof;
mod unreviewed;

mod blame;

mod bounded;

pub use blame::{BLAME_BYTES_MAX, BLAME_FORMAT, Blamed, Misdeed, blame_epoch, blame_file, is_blame, verify_blame};
pub use bundle::{
    BoundDevice, Bundle, CURRENT_MAX, CurrentRecord, CurrentValue, DEVICES_MAX, ENTRIES_MAX, EVIDENCE_FORMAT, Finality,
    GatheredAccess, HANDOVERS_MAX, Handover, Log, LogPart, LoggedEntry, MONTHS_MAX, MonthLog, Neighbour, OPENED_MAX,
    OPENINGS_MAX, Opened, OpenedLink, Parts, Place, Policies, StateProof, Witness, Word, assemble,
};
pub use checkpoint::{BadCheckpoint, CHECKPOINT_BYTES_MAX, Checkpoint, Cosignature, checkpoint, read_checkpoint};
pub use finality::{Anchor, BadKnownBlock, KnownBlock, anchor};
pub use log::BadLog;
pub use part::part;
pub use receipt::{BadReceipt, Inclusion, RECEIPT_BYTES_MAX, read_receipt, receipt};
pub use record_proof::{RECORD_PROOF_FORMAT, RecordProof, is_record_proof, verify_record, verify_record_through};
pub use report::{
    CurrentReport, Decided, DeviceReport, EntryReport, LetGoReport, Link, LogReport, MonthReport, OpenedBytes,
    PartReport, PolicyReport, RecordProven, RecordReport, Report, VersionReport, WitnessReport,
};
pub use state::{CHUNK_BYTES, PROOF_BYTES_MAX, PROOF_DIGESTS_MAX, absent, current};
pub use unreviewed::{
    UNREVIEWED_FORMAT, Unreviewed, UnreviewedProof, is_unreviewed, verify_unreviewed, verify_unreviewed_through,
};
pub use verify::{Limits, Refused, Subject, prove, verify, verify_through};
pub use witness::{Log as LedgerLog, Receipt, receipts, speak};

#[cfg(test)]
mod tests;
