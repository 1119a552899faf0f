//! Rules for policies: which was in force, and how members put another one in its place.

use super::{
    Case, Reject, ensure,
    governance::{cast, in_favour, members},
};
use crate::{
    PolicyKind, PolicyStep,
    state::{self, ActivePolicy, PolicyTerm, Proposal},
};
use record::Digest;

/// How long after its end a policy may still have decided, in milliseconds: one day, for a gateway that was cut off from the
/// ledger and went on caring. Audit names such entries.
pub const POLICY_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// The access policy named was in force at the entry's time, or ended less than [`POLICY_GRACE_MS`] before. What was decided
/// before a change of policy and is anchored after it is not lost.
pub(super) fn check_policy(case: &Case<'_>) -> Result<(), Reject> {
    let term = case.get::<PolicyTerm>(&state::policy_term_key(PolicyKind::Access, &case.entry.policy));
    let holds =
        term.is_some_and(|term| term.until.is_none_or(|until| case.entry.time < until.plus_ms(POLICY_GRACE_MS)));
    ensure(holds, Reject::PolicyNotInForce)
}

/// Proposed by any member, voted once by each, in force when more than two thirds of the members want it and its height is reached.
/// What was activated and replaced, or voted down, may be proposed again.
pub(super) fn policy(case: &mut Case<'_>, kind: PolicyKind, document: &Digest, step: PolicyStep) -> Result<(), Reject> {
    let key = state::proposal_key(kind, document);
    let held = case.get::<Proposal>(&key);
    let active = case.get::<ActivePolicy>(&state::policy_key(kind)).ok_or(Reject::Unknown)?;
    let members = members(case);
    let org = case.entry.org.clone();
    let height = case.block.height;
    let proposal = match (step, held) {
        (PolicyStep::Proposed(from), held) => {
            let closed = |held: &Proposal| held.activated || in_favour(&held.against, &members) * 3 >= members.len();
            ensure(active.document != *document && held.as_ref().is_none_or(closed), Reject::NotNew)?;
            ensure(from > height, Reject::Height)?;
            Proposal { org, height: from, votes: Vec::new(), against: Vec::new(), activated: false }
        }
        (_, None) => return Err(Reject::Unknown),
        (PolicyStep::Voted(yes), Some(mut held)) => {
            ensure(!held.activated, Reject::Over)?;
            let (mine, other) = if yes { (&mut held.votes, &held.against) } else { (&mut held.against, &held.votes) };
            ensure(!other.contains(&org), Reject::VotedAlready)?;
            cast(mine, &org)?;
            held
        }
        (PolicyStep::Activated, Some(held)) => {
            ensure(!held.activated, Reject::Over)?;
            ensure(height >= held.height, Reject::Height)?;
            ensure(in_favour(&held.votes, &members) * 3 > members.len() * 2, Reject::Votes)?;
            let ended = PolicyTerm { until: Some(case.block.time) };
            case.put(state::policy_term_key(kind, &active.document), &ended);
            case.put(state::policy_term_key(kind, document), &PolicyTerm { until: None });
            case.put(state::policy_key(kind), &ActivePolicy { document: *document, height });
            Proposal { activated: true, ..held }
        }
    };
    case.put(key, &proposal);
    Ok(())
}
