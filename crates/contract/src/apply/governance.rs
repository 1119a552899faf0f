//! Rules for what the members decide together: custody of records, and policies.

use super::{Case, PROVIDERS, Reject, ensure};
use crate::{
    CustodyStep, PolicyKind, PolicyStep,
    state::{self, ActivePolicy, Custody, Held, Hold, PolicyTerm, Proposal, Roll},
};
use record::{Digest, Id16, OrgId, OrgRole};

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

/// Holds and releases, erasures, and recoveries by a majority of the members.
///
/// A hold on a patient forbids erasures filed under the same pseudonym, which is that of the month; a hold without a patient
/// forbids none here. Gateways know which records a hold covers and keep it over the months. It is released under the pseudonym
/// that it was put on, also in another month.
pub(super) fn custody(case: &mut Case<'_>, id: &Id16, step: CustodyStep, count: u32) -> Result<(), Reject> {
    let key = state::custody_key(id);
    let held = case.get::<Custody>(&key);
    let begins = matches!(step, CustodyStep::Held | CustodyStep::Erased | CustodyStep::RecoverProposed);
    let org = case.entry.org.clone();
    let mut custody = match held {
        Some(_) if begins => return Err(Reject::NotNew),
        Some(custody) => custody,
        None if begins => Custody { org: org.clone(), votes: Vec::new(), step },
        None => return Err(Reject::Unknown),
    };
    match step {
        CustodyStep::Held => {
            case.role_is(CUSTODIANS)?;
            if let Some(patient) = case.entry.patient {
                case.put(state::held_key(id), &Held { patient });
            }
            count_holds(case, |open| open.saturating_add(1));
        }
        CustodyStep::Released => {
            case.org_is(&custody.org)?;
            ensure(custody.step == CustodyStep::Held, Reject::Over)?;
            // Else a hold of one's own on anybody would lift another's on this patient.
            let held = case.get::<Held>(&state::held_key(id)).map(|held| held.patient);
            ensure(held == case.entry.patient, Reject::OtherPatient)?;
            count_holds(case, |open| open.saturating_sub(1));
        }
        CustodyStep::Erased => {
            case.role_is(PROVIDERS)?;
            ensure(count > 0, Reject::Set)?;
            ensure(open_holds(case) == 0, Reject::Held)?;
        }
        CustodyStep::RecoverProposed => case.role_is(CUSTODIANS)?,
        CustodyStep::RecoverVoted => {
            ensure(custody.step == CustodyStep::RecoverProposed, Reject::Over)?;
            cast(&mut custody.votes, &org)?;
        }
        CustodyStep::Recovered => {
            case.org_is(&custody.org)?;
            ensure(custody.step == CustodyStep::RecoverProposed, Reject::Over)?;
            let members = members(case);
            ensure(in_favour(&custody.votes, &members) * 2 > members.len(), Reject::Votes)?;
        }
    }
    if step != CustodyStep::RecoverVoted {
        custody.step = step;
    }
    case.put(key, &custody);
    Ok(())
}

const CUSTODIANS: &[OrgRole] = &[OrgRole::Ems, OrgRole::Hospital, OrgRole::Compliance];

fn open_holds(case: &Case<'_>) -> u32 {
    let key = case.entry.patient.as_ref().map(state::hold_key);
    key.and_then(|key| case.get::<Hold>(&key)).map_or(0, |hold| hold.open)
}

fn count_holds(case: &mut Case<'_>, change: impl Fn(u32) -> u32) {
    if let Some(patient) = &case.entry.patient {
        let open = change(open_holds(case));
        case.put(state::hold_key(patient), &Hold { open });
    }
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

pub(super) fn members(case: &Case<'_>) -> Vec<OrgId> {
    case.get::<Roll>(&state::roll_key()).map(|roll| roll.members).unwrap_or_default()
}

/// How many of `votes` are members' today.
pub(super) fn in_favour(votes: &[OrgId], members: &[OrgId]) -> usize {
    votes.iter().filter(|org| members.binary_search(org).is_ok()).count()
}

pub(super) fn cast(votes: &mut Vec<OrgId>, org: &OrgId) -> Result<(), Reject> {
    let at = votes.binary_search(org).err().ok_or(Reject::VotedAlready)?;
    votes.insert(at, org.clone());
    Ok(())
}
