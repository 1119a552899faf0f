//! Rules for who may and who did: accesses, grants, break-glass overrides, investigations.

use super::{CASES_MAX, Case, PROVIDERS, Reject, ensure};
use crate::{
    AccessAction, Body, GATHERED_MAX, GATHERED_MS_MAX, GrantStep, InvestigationStep, OverrideStep, merkle,
    state::{self, Cases, Claim, Grant, Investigation, Override},
};
use record::{Commitment, Id16, OrgRole, Purpose, TimeMs};

/// The longest break-glass override, in milliseconds: four hours.
pub const OVERRIDE_MS_MAX: u64 = 4 * 60 * 60 * 1000;

/// The tag is one of the organisation's own audit events, the set is plausible, and what the access rests on is in force.
///
/// The ledger does not remember which audit events there are, because accesses are most of all entries: an organisation that names one twice
/// has not two.
pub(super) fn access(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Access { action, set, count, denied, under, audit, .. } = &case.entry.body else { return Ok(()) };
    ensure(*audit == audit.of_audit(&case.entry.org), Reject::AuditTag)?;
    ensure((*count == 0) == (*set == merkle::root([])), Reject::Set)?;
    ensure(!denied || *count == 0, Reject::Set)?;
    if *denied { Ok(()) } else { check_ground(case, *action, under.as_ref()) }
}

/// Accesses that rest on nothing, gathered within a second. What each is the ledger does not see: whoever opens one checks it.
pub(super) fn accesses(case: &Case<'_>, count: u32, ms: u32) -> Result<(), Reject> {
    ensure((2..=GATHERED_MAX).contains(&count) && ms <= GATHERED_MS_MAX, Reject::Gathered)?;
    // An access that must rest on something has to name it.
    check_ground(case, AccessAction::Read, None)
}

/// Whether what organisations of that role disclose of a patient for that purpose must rest on something: broken glass on an override, all
/// else of compliance on an investigation.
pub fn must_rest_on_something(role: OrgRole, purpose: Purpose) -> bool {
    role == OrgRole::Compliance || purpose == Purpose::BreakGlass
}

/// Breaking the glass rests on an override, compliance on an investigation; whatever else is named must be in force too.
fn check_ground(case: &Case<'_>, action: AccessAction, under: Option<&Id16>) -> Result<(), Reject> {
    let disclosure = action != AccessAction::Write && case.entry.patient.is_some();
    let must_rest = disclosure && must_rest_on_something(case.member.role, case.entry.purpose);
    let Some(id) = under else { return ensure(!must_rest, Reject::GroundMissing) };
    let holds = if must_rest && case.entry.purpose == Purpose::BreakGlass {
        override_holds(case, id)
    } else if must_rest {
        investigation_holds(case, id)
    } else {
        override_holds(case, id) || grant_holds(case, id) || claim_holds(case, id) || investigation_holds(case, id)
    };
    ensure(holds, Reject::GroundNotInForce)
}

fn override_holds(case: &Case<'_>, id: &Id16) -> bool {
    let at = case.entry.time;
    case.get::<Override>(&state::override_key(id)).is_some_and(|opened| {
        opened.org == case.entry.org
            && case.has_begun(opened.from)
            && at < opened.until
            && opened.closed.is_none_or(|closed| at <= closed)
            && case.same_patient(&opened.patient, opened.from)
    })
}

/// To whom a grant is given stands in the Consent, which only gateways read.
fn grant_holds(case: &Case<'_>, id: &Id16) -> bool {
    let at = case.entry.time;
    case.get::<Grant>(&state::grant_key(id)).is_some_and(|grant| {
        case.has_begun(grant.from)
            && grant.until.is_none_or(|until| at < until)
            && grant.revoked.is_none_or(|revoked| at <= revoked)
            && case.same_patient(&grant.patient, grant.from)
    })
}

fn claim_holds(case: &Case<'_>, id: &Id16) -> bool {
    case.get::<Claim>(&state::claim_key(id))
        .is_some_and(|claim| [&claim.provider, &claim.insurer].contains(&&case.entry.org))
}

fn investigation_holds(case: &Case<'_>, id: &Id16) -> bool {
    case.get::<Investigation>(&state::investigation_key(id)).is_some_and(|opened| {
        opened.org == case.entry.org
            && case.has_begun(opened.from)
            && opened.concluded.is_none_or(|concluded| case.entry.time <= concluded)
            && opened.patient.is_none_or(|patient| case.same_patient(&patient, opened.from))
    })
}

/// Providers file permissions for their patients; any of them may file the revocation, once.
pub(super) fn grant(
    case: &mut Case<'_>,
    id: &Id16,
    step: GrantStep,
    consent: &Commitment,
    until: Option<TimeMs>,
) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    let patient = case.patient()?;
    let key = state::grant_key(id);
    let at = case.entry.time;
    let grant = match (step, case.get::<Grant>(&key)) {
        (GrantStep::Issued, Some(_)) => return Err(Reject::NotNew),
        (GrantStep::Issued, None) => {
            ensure(until.is_none_or(|until| at < until), Reject::Limit)?;
            Grant { consent: *consent, org: case.entry.org.clone(), until, revoked: None, patient, from: at }
        }
        (GrantStep::Revoked, None) => return Err(Reject::Unknown),
        (GrantStep::Revoked, Some(grant)) => {
            ensure(case.same_patient(&grant.patient, grant.from), Reject::OtherPatient)?;
            ensure(grant.revoked.is_none(), Reject::Over)?;
            Grant { revoked: Some(at), ..grant }
        }
    };
    case.put(key, &grant);
    Ok(())
}

/// Opened by a provider for a limited time, closed by it, and reviewed once by another person there after it has ended.
pub(super) fn overriding(case: &mut Case<'_>, id: &Id16, step: OverrideStep) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    let patient = case.patient()?;
    let key = state::override_key(id);
    let at = case.entry.time;
    let held = case.get::<Override>(&key);
    if let OverrideStep::Opened(until) = step {
        ensure(held.is_none(), Reject::NotNew)?;
        ensure(case.entry.purpose == Purpose::BreakGlass, Reject::Purpose)?;
        ensure(at < until && until <= at.plus_ms(OVERRIDE_MS_MAX), Reject::Limit)?;
        count_unreviewed(case, |unreviewed| unreviewed.saturating_add(1));
        let (org, actor) = (case.entry.org.clone(), case.entry.actor);
        case.put(key, &Override { org, actor, patient, until, closed: None, reviewed: None, from: at });
        return Ok(());
    }
    let mut held = held.ok_or(Reject::Unknown)?;
    case.org_is(&held.org)?;
    ensure(case.same_patient(&held.patient, held.from), Reject::OtherPatient)?;
    if let OverrideStep::Reviewed(justified) = step {
        ensure(held.reviewed.is_none(), Reject::Over)?;
        ensure(held.closed.is_some() || held.until <= at, Reject::StillOpen)?;
        ensure(held.actor != case.entry.actor, Reject::OwnReview)?;
        held.reviewed = Some(justified);
        count_unreviewed(case, |unreviewed| unreviewed.saturating_sub(1));
    } else {
        ensure(held.closed.is_none(), Reject::Over)?;
        held.closed = Some(at);
    }
    case.put(key, &held);
    Ok(())
}

fn count_unreviewed(case: &mut Case<'_>, change: impl Fn(u64) -> u64) {
    let mut member = case.member.clone();
    member.unreviewed = change(member.unreviewed);
    case.put(state::organisation_key(&case.entry.org), &member);
}

/// Lists a case under its patient's pseudonym: while it is open, no frames are let go under that.
fn list(case: &mut Case<'_>, id: &Id16) {
    let Some(key) = case.entry.patient.as_ref().map(state::cases_key) else { return };
    let mut cases = case.get::<Cases>(&key).unwrap_or_default();
    if cases.ids.len() < CASES_MAX {
        cases.ids.push(*id);
    } else {
        cases.more = true;
    }
    case.put(key, &cases);
}

/// Compliance opens a case and concludes its own.
pub(super) fn investigation(case: &mut Case<'_>, id: &Id16, step: InvestigationStep) -> Result<(), Reject> {
    case.role_is(&[OrgRole::Compliance])?;
    ensure(matches!(case.entry.purpose, Purpose::Compliance | Purpose::Fraud), Reject::Purpose)?;
    let key = state::investigation_key(id);
    let at = case.entry.time;
    let held = match (step, case.get::<Investigation>(&key)) {
        (InvestigationStep::Opened, Some(_)) => return Err(Reject::NotNew),
        (InvestigationStep::Opened, None) => {
            list(case, id);
            Investigation { org: case.entry.org.clone(), patient: case.entry.patient, concluded: None, from: at }
        }
        (InvestigationStep::Concluded, None) => return Err(Reject::Unknown),
        (InvestigationStep::Concluded, Some(held)) => {
            case.org_is(&held.org)?;
            ensure(held.concluded.is_none(), Reject::Over)?;
            Investigation { concluded: Some(at), ..held }
        }
    };
    case.put(key, &held);
    Ok(())
}
