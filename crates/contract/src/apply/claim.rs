//! Rules for claims: one way from request to payment, and no service billed twice.
//!
//! ```text
//!            provider                 insurer            provider               insurer
//!  (new) ─► preauthorisation ─► preauthorised ─┬─► submitted ─┬─► accepted ─► paid
//!    │      requested ─────────► rejected ─────┤      ▲       └─► rejected
//!    └──────────┴──────────────────────────────┘      └── rejected, cancelled
//!  the provider cancels what is neither accepted nor paid
//! ```
//! A service's nullifier stays with the claim that billed it first, whatever becomes of that claim: what was rejected or
//! cancelled is billed again under the same claim id, after a cancellation also at another insurer.

use super::{Case, PROVIDERS, Reject, ensure, organisation};
use crate::{
    Body, ClaimStep,
    state::{self, Claim, Nullifier},
};
use record::{Digest, Id16, OrgId, OrgRole};

/// The step is the claim's next, by the side whose turn it is.
pub(super) fn claim(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Claim { id, step, insurer, amount, services } = &case.entry.body else { return Ok(()) };
    case.patient()?;
    let by_insurer =
        matches!(step, ClaimStep::Preauthorised | ClaimStep::Accepted | ClaimStep::Rejected | ClaimStep::Paid);
    case.role_is(if by_insurer { &[OrgRole::Insurer] } else { PROVIDERS })?;
    let key = state::claim_key(id);
    let held = case.get::<Claim>(&key);
    ensure(follows(held.as_ref().map(|claim| claim.step), *step), Reject::ClaimStep)?;
    let provider = match &held {
        None => case.entry.org.clone(),
        Some(claim) => {
            ensure(claim.insurer == *insurer || claim.step == ClaimStep::Cancelled, Reject::Insurer)?;
            claim.provider.clone()
        }
    };
    if by_insurer {
        ensure(case.entry.org == *insurer, Reject::Insurer)?;
    } else {
        case.org_is(&provider)?;
        check_insurer(case, insurer)?;
    }
    ensure((*step == ClaimStep::Submitted) != services.is_empty(), Reject::Services)?;
    ensure(services.is_sorted_by(|a, b| a < b), Reject::Services)?;
    bill(case, id, services)?;
    case.put(key, &Claim { provider, insurer: insurer.clone(), step: *step, amount: *amount });
    Ok(())
}

fn follows(before: Option<ClaimStep>, step: ClaimStep) -> bool {
    use ClaimStep::{Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted};
    match step {
        PreauthorisationRequested => before.is_none(),
        Preauthorised => before == Some(PreauthorisationRequested),
        Submitted => {
            matches!(before, None | Some(PreauthorisationRequested | Preauthorised | Rejected | Cancelled))
        }
        Accepted => before == Some(Submitted),
        Rejected => matches!(before, Some(PreauthorisationRequested | Submitted)),
        Paid => before == Some(Accepted),
        Cancelled => matches!(before, Some(PreauthorisationRequested | Preauthorised | Submitted | Rejected)),
    }
}

fn check_insurer(case: &Case<'_>, insurer: &OrgId) -> Result<(), Reject> {
    let member = organisation(case.state, insurer).filter(|member| !member.left);
    ensure(member.is_some_and(|member| member.role == OrgRole::Insurer), Reject::Insurer)
}

fn bill(case: &mut Case<'_>, claim: &Id16, services: &[Digest]) -> Result<(), Reject> {
    for service in services {
        let key = state::nullifier_key(service);
        let free = case.get::<Nullifier>(&key).is_none_or(|billed| billed.claim == *claim);
        ensure(free, Reject::BilledBefore)?;
        case.put(key, &Nullifier { claim: *claim });
    }
    Ok(())
}
