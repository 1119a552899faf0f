//! What the ledger accepts: `derive`, `apply`, the Merkle log. Pure.
//!
//! An [`Entry`] is one line of provenance. Organisations sign [`Submission`]s of entries; consensus puts submissions into a
//! [`Block`]; [`execute`] applies a block to the [`state`] in the same way on every peer. [`derive()`] is the other half of the
//! contract: it turns what happened in the cloud database into entries, as the derivation policy in force says.
//!
//! All formats are deterministic CBOR: what does not encode back to the same bytes is refused.

mod cbor;
mod entry;
mod submission;
mod genesis;
mod header;
pub mod merkle;
pub mod state;
mod execute;
mod apply;
mod policy;
mod derive;

pub use apply::Reject;
pub use cbor::{FormatError, from_cbor, to_cbor};
pub use derive::{DeriveError, Event, derive};
pub use entry::{
    AccessAction, AlarmStep, Attachment, AttachmentKind, Body, ClaimStep, Code, CustodyStep, DeviceStep, Entry, Gap, GrantStep,
    HandoffStep, InvestigationStep, MemberStep, MonthLink, OverrideStep, PolicyKind, PolicyStep, Priority,
};
pub use execute::{Executed, InvalidBlock, Parent, Receipt, execute, genesis_state, touched};
pub use genesis::{BadGenesis, Genesis, Member, PublicKey};
pub use header::{BLOCK_BYTES_MAX, Block, HEADER_VERSION, Header};
pub use policy::{BadDerivationPolicy, DerivationPolicy};
pub use submission::{ENTRIES_MAX, SUBMISSION_BYTES_MAX, Signature, SignedSubmission, Submission, SubmissionError};
