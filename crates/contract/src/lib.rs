//! What the ledger accepts: `derive`, `apply`, the Merkle log. Pure.
//!
//! An [`Entry`] is one line of provenance. Organisations sign [`Submission`]s of entries; consensus puts submissions into a
//! [`Block`]; [`execute`] applies a block to the [`state`] in the same way on every peer. [`derive()`] is the other half of the
//! contract: it turns what happened in the cloud database into entries, as the derivation policy in force says.
//!
//! All formats are deterministic CBOR: what does not encode back to the same bytes is refused.

mod apply;
mod batch;
mod cbor;
mod derive;
pub mod document;
mod entry;
mod essential;
mod event;
mod execute;
mod gathered;
mod genesis;
mod header;
mod holding;
pub mod merkle;
#[cfg(test)]
mod models;
mod month;
mod policy;
pub mod state;
mod submission;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use apply::{
    ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, BATCH_CLOSE_MS, CASES_MAX, CODE_BYTES_MAX, CODES_MAX, CUT_MS, CUTS_MAX,
    Class, ENTRY_AHEAD_MS, Lack, OVERRIDE_MS_MAX, POLICY_GRACE_MS, ROLL_UPS_MAX, Reject, TIMELINE_MS, is_lost, lacking,
    may_write, must_rest_on_something,
};
pub use batch::{BatchError, GAPS_MAX};
pub use cbor::{FormatError, from_cbor, to_cbor};
pub use derive::{About, Author, DeriveError, Derived, Filed, Row, derive};
pub use entry::{
    AccessAction, AlarmStep, Attachment, AttachmentKind, Body, ClaimStep, Code, CustodyStep, DeviceStep,
    ENTRY_BYTES_MAX, Entry, Gap, GrantStep, HandoffStep, InvestigationStep, Joining, MemberStep, MonthLink,
    OverrideStep, PolicyKind, PolicyPart, PolicyStep, Priority, Reach,
};
pub use essential::{COPY_FORMAT, COPY_PAD_BYTES, CopyError, OpenedCopy, open_copy, seal_copy};
pub use event::{AuditEvent, Event, Frames, LetGo, RecordWritten};
pub use execute::{Executed, InvalidBlock, Parent, Receipt, execute, genesis_state, touched};
pub use gathered::{
    GATHERED_BYTES_MAX, GATHERED_MAX, GATHERED_MS_MAX, Gathered, NotGathered, are_alike, gather, may_be_gathered,
};
pub use genesis::{
    BadGenesis, EPOCH_BLOCKS, EPOCH_BLOCKS_DEFAULT, GENESIS_BYTES_MAX, GENESIS_VERSION, Genesis, MEMBER_TEXT_BYTES_MAX,
    MEMBERS_MAX, Member, PublicKey, validators_digest,
};
pub use header::{BLOCK_BYTES_MAX, Block, HEADER_BYTES_MAX, HEADER_VERSION, Header};
pub use holding::{BadHolding, CUSTODIANS_MIN, Custodians, Holding, NotHeld, may_hold};
pub use month::{LastMonth, MonthOpening};
pub use policy::{
    BadDerivationPolicy, DERIVATION_POLICY_BYTES_MAX, DerivationPolicy, KEEP_S_MAX, KEEP_S_MIN, ROLL_UP_S_MAX,
    ROLL_UP_S_MIN, Retention,
};
pub use submission::{ENTRIES_MAX, SUBMISSION_BYTES_MAX, Signature, SignedSubmission, Submission, SubmissionError};
