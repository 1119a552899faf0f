//! One entry, judged and applied: which values it reads, whether it is accepted, and what it writes.
//!
//! Every rule decides from the entry, the block's height and time, and state that the entry itself names. An entry's own time is
//! what permissions are compared with, because entries may be anchored late: the block's time shows how late.

mod care;
mod claim;
mod device;
mod disposal;
mod governance;
mod member;
mod permission;
mod policy;
mod reject;
mod versions;

#[cfg(test)]
mod tests;

pub use device::BATCH_CLOSE_MS;
pub use disposal::{CASES_MAX, CUT_MS, CUTS_MAX, ROLL_UPS_MAX, TIMELINE_MS};
pub use permission::{OVERRIDE_MS_MAX, must_rest_on_something};
pub use policy::{Class, Lack, POLICY_GRACE_MS, is_lost, lacking};
pub use reject::Reject;
pub use versions::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, CODE_BYTES_MAX, CODES_MAX, may_write};

use crate::{
    Body, Entry, Parent, PolicyKind,
    state::{self, Key, LogHead, Organisation, State},
    to_cbor,
};
use minicbor::{Decode, Encode};
use record::{Digest, OrgId, OrgRole, Pseudonym, TimeMs};
use std::collections::BTreeMap;

/// How far an entry's time may lie ahead of its block's, in milliseconds: the same two seconds that voters allow a block's time
/// to differ from their own clocks.
pub const ENTRY_AHEAD_MS: u64 = 2_000;

/// New values by key; `None` removes.
pub(crate) type Writes = BTreeMap<Key, Option<Vec<u8>>>;

/// Adds every key that [`apply`] may read or write for `entry` besides its organisation's and its lane's. Two writes are not
/// announced, because only the state names where they go, and nothing is read for them: the activation of a policy ends the term of the
/// one before, and a change of membership begins and ends the terms of keys, and is kept under the epoch that it counts from.
pub(crate) fn reads(entry: &Entry, keys: &mut Vec<Key>) {
    keys.push(state::policy_term_key(PolicyKind::Access, &entry.policy));
    if let Some(patient) = &entry.patient {
        keys.push(state::log_key(patient));
    }
    match &entry.body {
        Body::Record { tag, .. } | Body::Dispute { tag, .. } => keys.push(state::record_key(tag)),
        Body::Access { under, .. } => {
            if let Some(id) = under {
                keys.extend([
                    state::override_key(id),
                    state::grant_key(id),
                    state::claim_key(id),
                    state::investigation_key(id),
                ]);
            }
        }
        Body::Grant { id, .. } => keys.push(state::grant_key(id)),
        Body::Override { id, .. } => keys.push(state::override_key(id)),
        Body::Device { device, step } => device::reads(device, step, keys),
        Body::Batch { binding, .. } => keys.extend([state::binding_key(binding), state::timeline_key(binding)]),
        Body::Disposal { .. } => disposal::reads(entry, keys),
        Body::Analytics { .. } | Body::Link { .. } | Body::Accesses { .. } => {}
        Body::Alarm { id, .. } => keys.push(state::alarm_key(id)),
        Body::Handoff { id, to, .. } => keys.extend([state::handoff_key(id), state::organisation_key(to)]),
        Body::Claim { id, insurer, services, .. } => {
            keys.extend([state::claim_key(id), state::organisation_key(insurer)]);
            keys.extend(services.iter().map(state::nullifier_key));
        }
        Body::Investigation { id, .. } => {
            keys.push(state::investigation_key(id));
            keys.extend(entry.patient.as_ref().map(state::cases_key));
        }
        Body::Custody { id, .. } => {
            keys.extend([state::custody_key(id), state::held_key(id), state::roll_key()]);
            keys.extend(entry.patient.as_ref().map(state::hold_key));
        }
        Body::Policy { kind, document, step } => policy::reads(&entry.org, *kind, document, step, keys),
        Body::Member { member, step } => member::reads(entry, member, step, keys),
    }
    if matches!(entry.body, Body::Analytics { .. } | Body::Link { .. } | Body::Dispute { .. }) {
        keys.push(state::said_key(&entry.id));
    }
}

/// Judges `entry` on `state` in the block that `block` describes; the writes, or why it is refused. A refused entry writes nothing.
pub(crate) fn apply(state: &dyn State, block: &Parent, entry: &Entry, digest: &Digest) -> Result<Writes, Reject> {
    let member = member(state, &entry.org).ok_or(Reject::NoMember)?;
    apply_of(&member, state, block, entry, digest)
}

/// [`apply`] of an entry whose organisation is read already.
pub(crate) fn apply_of(
    member: &Organisation,
    state: &dyn State,
    block: &Parent,
    entry: &Entry,
    digest: &Digest,
) -> Result<Writes, Reject> {
    let mut case = Case { state, block, entry, digest, member, writes: Writes::new() };
    ensure(entry.time <= block.time.plus_ms(ENTRY_AHEAD_MS), Reject::Ahead)?;
    policy::check_policy(&case)?;
    match &entry.body {
        Body::Record { .. } => versions::record(&mut case),
        Body::Access { .. } => permission::access(&mut case),
        Body::Accesses { count, ms, .. } => permission::accesses(&case, *count, *ms),
        Body::Grant { id, step, consent, until } => permission::grant(&mut case, id, *step, consent, *until),
        Body::Override { id, step, .. } => permission::overriding(&mut case, id, *step),
        Body::Device { device, step } => device::device(&mut case, device, step),
        Body::Batch { .. } => device::batch(&mut case),
        Body::Disposal { .. } => disposal::disposal(&mut case),
        Body::Analytics { .. } => care::analytics(&mut case),
        Body::Alarm { id, step, .. } => care::alarm(&mut case, id, *step),
        Body::Handoff { id, step, from, to } => care::handoff(&mut case, id, *step, from, to),
        Body::Claim { .. } => claim::claim(&mut case),
        Body::Investigation { id, step, .. } => permission::investigation(&mut case, id, *step),
        Body::Dispute { .. } => versions::dispute(&mut case),
        Body::Link { other, .. } => care::link(&mut case, other),
        Body::Custody { id, step, count, .. } => governance::custody(&mut case, id, *step, *count),
        Body::Policy { kind, document, step } => policy::policy(&mut case, *kind, document, step),
        Body::Member { member, step } => member::member(&mut case, member, step),
    }?;
    file(&mut case)?;
    Ok(case.writes)
}

/// Appends the entry to its patient's log.
fn file(case: &mut Case<'_>) -> Result<(), Reject> {
    let Some(patient) = &case.entry.patient else { return Ok(()) };
    let key = state::log_key(patient);
    let head = case.get::<LogHead>(&key);
    ensure(head.is_some() || case.entry.month.is_some(), Reject::MonthMissing)?;
    let mut frontier = head.map(|head| head.frontier).unwrap_or_default();
    frontier.push(state::log_leaf(case.block.height, case.block.time, case.digest));
    case.put(key, &LogHead { frontier, height: case.block.height });
    Ok(())
}

/// The member of that name in `state`.
pub(crate) fn organisation(state: &dyn State, org: &OrgId) -> Option<Organisation> {
    value(state, &state::organisation_key(org))
}

/// The organisation of that name, unless it left.
pub(crate) fn member(state: &dyn State, org: &OrgId) -> Option<Organisation> {
    organisation(state, org).filter(|member| !member.left)
}

/// The value of `key` in `state`.
pub(crate) fn value<T: for<'b> Decode<'b, ()>>(state: &dyn State, key: &Key) -> Option<T> {
    minicbor::decode(state.read(key)?).ok()
}

fn ensure(holds: bool, otherwise: Reject) -> Result<(), Reject> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// One entry before the rules, with what they have written so far.
struct Case<'a> {
    state: &'a dyn State,
    block: &'a Parent,
    entry: &'a Entry,
    digest: &'a Digest,
    member: &'a Organisation,
    writes: Writes,
}

impl Case<'_> {
    fn get<T: for<'b> Decode<'b, ()>>(&self, key: &Key) -> Option<T> {
        value(self.state, key)
    }

    fn put<T: Encode<()>>(&mut self, key: Key, value: &T) {
        self.writes.insert(key, Some(to_cbor(value)));
    }

    fn patient(&self) -> Result<Pseudonym, Reject> {
        self.entry.patient.ok_or(Reject::PatientMissing)
    }

    fn role_is(&self, roles: &[OrgRole]) -> Result<(), Reject> {
        ensure(roles.contains(&self.member.role), Reject::Role)
    }

    fn org_is(&self, org: &OrgId) -> Result<(), Reject> {
        ensure(self.entry.org == *org, Reject::OtherOrg)
    }

    /// Whether the entry is about the patient that was called `patient` at the time `at`. Pseudonyms of two months cannot be
    /// compared without the patient key, so only audit can tell across months.
    fn same_patient(&self, patient: &Pseudonym, at: TimeMs) -> bool {
        self.entry.patient.is_some_and(|named| at.month() != self.entry.time.month() || named == *patient)
    }

    /// Whether what began at the time `from` had begun at the entry's time. Two gateways' clocks may differ as much as an entry's
    /// may from its block's.
    fn has_begun(&self, from: TimeMs) -> bool {
        from <= self.entry.time.plus_ms(ENTRY_AHEAD_MS)
    }

    /// For kinds that leave nothing else in the state.
    fn say_once(&mut self) -> Result<(), Reject> {
        let key = state::said_key(&self.entry.id);
        ensure(self.state.read(&key).is_none(), Reject::NotNew)?;
        self.put(key, &state::Said { entry: *self.digest });
        Ok(())
    }
}

/// Organisations that care for patients.
const PROVIDERS: &[OrgRole] = &[OrgRole::Ems, OrgRole::Hospital];
