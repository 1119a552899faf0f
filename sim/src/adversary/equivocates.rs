//! Votes for two blocks in one view: for the one that others vote for, and for one that does not exist.

use super::{Ballot, other};
use commonware_consensus::simplex::types::{Finalize, Notarize, Proposal};
use ledger::Scheme;

/// Both votes, in answer to somebody's vote.
pub(super) fn answer(scheme: &Scheme, vote: &Ballot) -> Vec<Ballot> {
    let two = |proposal: &Proposal<_>| {
        let forged = Proposal::new(proposal.round, proposal.parent, other(&proposal.payload));
        [proposal.clone(), forged]
    };
    match vote {
        Ballot::Notarize(seen) => {
            two(&seen.proposal).into_iter().filter_map(|p| Notarize::sign(scheme, p)).map(Ballot::Notarize).collect()
        }
        Ballot::Finalize(seen) => {
            two(&seen.proposal).into_iter().filter_map(|p| Finalize::sign(scheme, p)).map(Ballot::Finalize).collect()
        }
        Ballot::Nullify(_) => Vec::new(),
    }
}
