//! Parts of custody that a measurement leaves out to see what each costs, and why no deployment can.
//!
//! Nothing is left out by a configuration, a variable or a flag of `vitaltrace serve`: [`Without`] comes in beside them, from the
//! measurement alone, and a node that lacks a part starts in no consortium but one that was founded under the name [`MEASURED`] and
//! whose validator nobody on another machine can reach. It says what it lacks at its start and in its status.
//!
//! | part | asked for in |
//! |---|---|
//! | audit | `leave_trails` (facts), `trail` (write) |
//! | consent | `consented` (consent), `current_row` (current) |
//! | anchoring | `put`, `keep` (write) |
//! | verification | `weigh_with`, `weigh_current` (row) |

use crate::node::{Node, StartError};
use std::net::SocketAddr;

/// The name of a consortium that was founded to be measured.
pub const MEASURED: &str = "measurement";

/// A part of custody that can be left out at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An audit event with its entry for each access and each write.
    Audit,
    /// The patient's consents in each decision.
    Consent,
    /// Entries on the ledger, encrypted copies in the vaults.
    Anchoring,
    /// Comparing each row that is read with what the ledger has of it.
    Verification,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Audit, Self::Consent, Self::Anchoring, Self::Verification];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Consent => "consent",
            Self::Anchoring => "anchoring",
            Self::Verification => "verification",
        }
    }
}

/// What is left out. By default nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without(Vec<Part>);

impl Without {
    /// Leaves parts out. Without anchoring there is no verification either: the ledger has nothing to compare a row with.
    pub fn parts(parts: &[Part]) -> Self {
        let implied = |part| part == Part::Verification && parts.contains(&Part::Anchoring);
        Self(Part::ALL.into_iter().filter(|part| parts.contains(part) || implied(*part)).collect())
    }

    /// Whether custody is whole.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a part is left out.
    pub fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// What the parts are called that are left out.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|part| part.name()).collect()
    }

    /// Refuses to leave anything out where somebody's records may be: in a consortium of this name, whose validator listens here.
    pub(crate) fn check(&self, consortium: &str, listen: SocketAddr) -> Result<(), StartError> {
        if self.is_nothing() {
            return Ok(());
        }
        if consortium != MEASURED || !listen.ip().is_loopback() {
            return Err(StartError::NotMeasured(consortium.to_owned()));
        }
        tracing::error!(without = ?self.names(), "CUSTODY IS NOT WHOLE: this node is being measured, and keeps nobody's records");
        Ok(())
    }
}

impl Node {
    /// Whether this part of custody is done here: always, but in a measurement.
    pub(crate) fn does(&self, part: Part) -> bool {
        !self.without.has(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custody_is_whole_but_in_a_consortium_that_was_founded_to_be_measured_on_one_machine() {
        let check = |parts: &[Part], consortium: &str, listen: &str, expected: bool| {
            let checked = Without::parts(parts).check(consortium, listen.parse().unwrap());
            assert_eq!(checked.is_ok(), expected, "{parts:?} in {consortium} at {listen}");
        };
        check(&[], "valley", "10.0.0.1:8200", true);
        for part in Part::ALL {
            check(&[part], MEASURED, "127.0.0.1:8200", true);
            check(&[part], MEASURED, "10.0.0.1:8200", false);
            check(&[part], MEASURED, "0.0.0.0:8200", false);
            check(&[part], "valley", "127.0.0.1:8200", false);
        }
        assert!(Without::default().is_nothing());
    }

    #[test]
    fn what_is_not_anchored_is_not_verified() {
        assert_eq!(Without::parts(&[Part::Anchoring]).names(), ["anchoring", "verification"]);
        assert_eq!(Without::parts(&[Part::Verification, Part::Audit]).names(), ["audit", "verification"]);
    }
}
