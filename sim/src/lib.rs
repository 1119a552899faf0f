//! A whole consortium on one machine: its members and their keys, and runs of it under one seed.
//!
//! [`Consortium`] is four organisations with keys drawn from a seed. [`simulate`] runs their nodes on the engine's deterministic runtime,
//! where clocks, network, disks and scheduling are drawn from the seed too, so that a failing run can be repeated exactly. What
//! happens in a run is a [`Scenario`]; what must hold at its end is checked by one checker for each property.

mod consortium;
mod load;
mod scenario;

mod access;

mod world;

mod machine;

mod adversary;
mod seen;
mod submitter;
mod vault;

mod open;
mod simulation;

mod checker;
mod tampering;

pub use adversary::Adversary;
pub use checker::Broken;
pub use consortium::{Consortium, NEWCOMER};
pub use open::open;
pub use scenario::{Fault, HEALED, SKEW_MS_MAX, Scenario, Stretch, Wrong};
pub use simulation::{Failure, Outcome, consortium, simulate, simulate_and_lie};
pub use tampering::Tampering;
pub use world::{Faults, Link, MEMBERS};
