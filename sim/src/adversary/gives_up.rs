//! Gives a view up and finalises in it: each helps another outcome, and no honest validator signs both.

use super::Ballot;
use commonware_consensus::simplex::types::{Finalize, Nullify};
use ledger::Scheme;

/// Both votes, in answer to somebody's vote to finalise.
pub(super) fn answer(scheme: &Scheme, vote: &Ballot) -> Vec<Ballot> {
    let Ballot::Finalize(seen) = vote else { return Vec::new() };
    let proposal = seen.proposal.clone();
    let nullify = Nullify::sign::<commonware_cryptography::sha256::Digest>(scheme, proposal.round);
    let finalize = Finalize::sign(scheme, proposal);
    nullify.map(Ballot::Nullify).into_iter().chain(finalize.map(Ballot::Finalize)).collect()
}
