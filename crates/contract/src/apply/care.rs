//! Rules around the bedside: analytics, alarms, handoffs, and which Patients are one person.

use super::{Case, PROVIDERS, Reject, ensure, organisation};
use crate::{
    AlarmStep, HandoffStep,
    state::{self, AlarmHead, HandoffHead},
};
use record::{Id16, OrgId, Pseudonym};

/// Results come from those who care for the patient.
pub(super) fn analytics(case: &mut Case<'_>) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    case.patient()?;
    case.say_once()
}

/// Raised once, acknowledged once by any provider, ended once by who raised it. An alarm that has ended may still be acknowledged:
/// a latched one must be.
pub(super) fn alarm(case: &mut Case<'_>, id: &Id16, step: AlarmStep) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    let key = state::alarm_key(id);
    let alarm = match (step, case.get::<AlarmHead>(&key)) {
        (AlarmStep::Raised, Some(_)) => return Err(Reject::NotNew),
        (AlarmStep::Raised, None) => AlarmHead { org: case.entry.org.clone(), acknowledged: false, ended: false },
        (_, None) => return Err(Reject::Unknown),
        (AlarmStep::Acknowledged, Some(alarm)) => {
            ensure(!alarm.acknowledged, Reject::Over)?;
            AlarmHead { acknowledged: true, ..alarm }
        }
        (AlarmStep::Ended, Some(alarm)) => {
            case.org_is(&alarm.org)?;
            ensure(!alarm.ended, Reject::Over)?;
            AlarmHead { ended: true, ..alarm }
        }
    };
    case.put(key, &alarm);
    Ok(())
}

/// Offered by the giving provider to another one, accepted by that one, once.
pub(super) fn handoff(
    case: &mut Case<'_>,
    id: &Id16,
    step: HandoffStep,
    from: &OrgId,
    to: &OrgId,
) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    case.patient()?;
    let key = state::handoff_key(id);
    let handoff = match (step, case.get::<HandoffHead>(&key)) {
        (HandoffStep::Offered, Some(_)) => return Err(Reject::NotNew),
        (HandoffStep::Offered, None) => {
            case.org_is(from)?;
            ensure(from != to, Reject::Same)?;
            let taker = organisation(case.state, to).filter(|taker| !taker.left).ok_or(Reject::NoMember)?;
            ensure(PROVIDERS.contains(&taker.role), Reject::Role)?;
            HandoffHead { from: from.clone(), to: to.clone(), accepted: false }
        }
        (HandoffStep::Accepted, None) => return Err(Reject::Unknown),
        (HandoffStep::Accepted, Some(handoff)) => {
            case.org_is(to)?;
            ensure(handoff.from == *from && handoff.to == *to, Reject::OtherOrg)?;
            ensure(!handoff.accepted, Reject::Over)?;
            HandoffHead { accepted: true, ..handoff }
        }
    };
    case.put(key, &handoff);
    Ok(())
}

/// Providers say whether two Patients are one person.
pub(super) fn link(case: &mut Case<'_>, other: &Pseudonym) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    ensure(case.patient()? != *other, Reject::Same)?;
    case.say_once()
}
