//! Rules for what the members decide together: custody of records, and how votes are counted.

use super::{Case, PROVIDERS, Reject, ensure};
use crate::{
    CustodyStep,
    state::{self, Custody, Held, Hold, Roll, Voter},
};
use record::{Id16, OrgId, OrgRole};

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

pub(super) fn members(case: &Case<'_>) -> Vec<Voter> {
    case.get::<Roll>(&state::roll_key()).map(|roll| roll.members).unwrap_or_default()
}

/// How many of `votes` are members' today.
pub(super) fn in_favour(votes: &[OrgId], members: &[Voter]) -> usize {
    members.iter().filter(|voter| votes.binary_search(&voter.org).is_ok()).count()
}

pub(super) fn cast(votes: &mut Vec<OrgId>, org: &OrgId) -> Result<(), Reject> {
    let at = votes.binary_search(org).err().ok_or(Reject::VotedAlready)?;
    votes.insert(at, org.clone());
    Ok(())
}
