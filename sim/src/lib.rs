//! A whole consortium on one machine: its members and their keys, and a run of it under one seed.
//!
//! [`Consortium`] is four organisations with keys drawn from a seed. [`simulate`] runs their nodes on the engine's deterministic runtime,
//! where clock, network, storage and scheduling are drawn from the seed too, so that a failing run can be repeated exactly.

mod adversary;
mod consortium;
mod simulation;

pub use adversary::Adversary;
pub use consortium::{Consortium, NEWCOMER};
pub use simulation::{Failure, Outcome, Plan, open, simulate};
