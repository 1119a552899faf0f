//! What must hold at the end of every run, one file for each property.

mod acknowledged;
mod agreement;
mod blame;
mod contract;
mod held;
mod misdeeds;
mod regulator;
mod roots;

use crate::{
    Consortium, Scenario,
    seen::{Chains, Values},
    submitter::Submitter,
    tampering::Tampering,
    vault::Shelf,
    world::Misdeeds,
};
use std::collections::BTreeMap;

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {what}")]
pub struct Broken {
    /// Which.
    pub property: &'static str,
    /// Where, and how.
    pub what: String,
}

/// All that a run left to look at.
pub(crate) struct Evidence<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) consortium: &'a Consortium,
    pub(crate) chains: &'a Chains,
    pub(crate) submitters: &'a [Submitter],
    /// Each member's.
    pub(crate) vaults: &'a [Shelf],
    /// Values of honest nodes' states at the end, of every key that re-execution wrote.
    pub(crate) values: &'a BTreeMap<usize, Values>,
    /// What honest nodes hold against others.
    pub(crate) blames: &'a [Vec<Vec<u8>>],
    /// What the adversary did.
    pub(crate) wrong: &'a Misdeeds,
    /// What is not true of all this.
    pub(crate) tampering: Option<Tampering>,
}

pub(crate) use contract::{Replay, replay};

/// Checks every property; the first that does not hold.
pub(crate) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    agreement::check(evidence)?;
    let mut replay = replay(evidence.consortium, evidence.chains)?;
    if let Some(tampering) = evidence.tampering {
        tampering.of_replay(&mut replay);
    }
    roots::check(evidence, &replay)?;
    acknowledged::check(evidence)?;
    held::check(evidence)?;
    regulator::check(evidence, &replay)?;
    misdeeds::check(evidence)?;
    blame::check(evidence)
}

fn ensure(holds: bool, property: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { property, what: what() }) }
}
