//! The path of one record: admit, decide, derive, sign, store, answer; and all that rests on it.
//!
//! A [`Node`] is one organisation's half of the consortium. What comes in ([`ingest`](Node::create)) and what goes out
//! ([`disclose`](Node::read)) takes the same way: nothing passes without a decision, nothing is answered before its trace is durable in
//! the database and in the node's own journal, and nothing is shown that does not agree with the ledger.

mod caller;
pub mod clock;
mod failure;
pub mod keys;
mod node;

mod accesses;
mod amend;
mod consent;
mod consequence;
mod facts;
mod filing;
mod inforce;
mod ingest;
mod question;
mod subject;
mod write;

mod between;
mod current;
mod disclose;
mod etag;
mod everything;
mod export;
mod find;
mod get;
mod history;
mod include;
mod lastn;
mod parameters;
mod row;
mod same_person;
mod set;
mod validate;

mod account;
mod audit;
mod case;
mod checkpoint;
mod custody;
mod glass;
mod govern;
mod inventory;
mod login;
mod members;
mod owed;
mod prove;
mod recover;
mod signin;

mod alarm;
mod assess;
mod batch;
mod beside;
mod bind;
mod chart;
mod dispose;
mod kept;
mod kinds;
mod let_go;
mod live;
mod made;
mod measured;
mod protocol;
mod recording;
mod replay;
mod revoke;
mod run;
mod sense;
mod sensed;
mod take;
mod vigil;

mod subscription;
mod topic;

mod attach;
mod desk;
mod disk;
mod follow;
mod keyring;
mod lane;
mod metadata;
mod meters;
mod mirror;
mod orphan;
mod recent;
#[cfg(test)]
mod sample;
mod signer;
mod status;
mod votes;
mod without;
mod witness;
mod wrap;

/// A door's future is boxed, so that its body is compiled here once and not again in every program that opens the door.
pub(crate) use async_recursion::async_recursion as boxed;

pub use account::{ACCOUNTING_MAX, ACCOUNTING_MS, Accounting, Disclosure};
pub use assess::assess;
pub use audit::{Finding, Frames, Kind, Report};
pub use bind::{Begun, device_name};
pub use caller::{App, Caller};
pub use consequence::HANDOFF;
pub use desk::OpenOverride;
pub use etag::names_version;
pub use export::{Export, ExportFile, ExportState, GoesOn, Scope as ExportScope};
pub use facts::ORG_SYSTEM;
pub use failure::Failure;
pub use find::{Handling, Within};
pub use glass::{OVERRIDE_REASONS, Outcome, Reason};
pub use govern::{Proposed, When};
pub use ingest::{Shown, Written};
pub use live::Live;
pub use live::Told;
pub use login::{Entitled, Login, Logins};
pub use members::{MemberShown, Membership};
pub use metadata::{INTERACTIONS, SYSTEM_INTERACTIONS};
pub use node::{Node, Settings, StartError};
pub use parameters::as_query;
pub use prove::Scope;
pub use recording::{RECORDING_FRAMES_MAX, Range, Recording};
pub use recover::{Lost, Recovered, RecoveredFrames};
pub use replay::{REPLAY_FRAMES_MAX, Replayed};
pub use row::PENDING_MS_MAX;
pub use signin::{Came, SignIn, UNKNOWN};
pub use subscription::{Channels, Notice, Say, Served, Status as SubscriptionStatus, Subscriber};
pub use take::FRAMES_AT_ONCE_MAX;
pub use vigil::{Escalation, PAUSE_MINUTES_MAX};
pub use votes::remembers_its_votes;
pub use without::{MEASURED, Part, Without};
