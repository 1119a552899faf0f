//! The path of one record: admit, decide, derive, sign, store, answer; and all that rests on it.
//!
//! A [`Node`] is one organisation's half of the consortium. What comes in ([`ingest`](Node::create)) and what goes out
//! ([`disclose`](Node::read)) takes the same way: nothing passes without a decision, nothing is answered before its trace is durable in
//! the database and in the node's own journal, and nothing is shown that does not agree with the ledger.

pub mod clock;
pub mod keys;
mod caller;
mod failure;
mod node;

mod ingest;
mod write;
mod consequence;
mod subject;
mod facts;

mod disclose;
mod find;
mod set;
mod row;

mod glass;
mod case;
mod custody;
mod audit;

mod sense;

mod status;
mod metadata;
mod follow;
mod lane;
mod mirror;
mod desk;
mod keyring;
mod wrap;

pub use audit::{Finding, Kind, Report};
pub use caller::Caller;
pub use consequence::HANDOFF;
pub use desk::OpenOverride;
pub use facts::ORG_SYSTEM;
pub use failure::Failure;
pub use ingest::{Shown, Written};
pub use node::{Node, Settings, StartError};
pub use row::PENDING_MS_MAX;
