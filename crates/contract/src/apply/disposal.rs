//! Rules for letting frames go: by the policy in force, when they are old enough, once a roll-up is on the ledger and nothing holds them.
//!
//! How old frames are the ledger knows by itself: it notes by block time when a binding's batches became final, now and then at the end of
//! a batch, where frames may be let go while later ones are kept.

use super::{Case, PROVIDERS, Reject, ensure};
use crate::{
    Body, Entry, PolicyKind,
    state::{self, ActivePolicy, Binding, Cases, Cut, Hold, Investigation, Key, RecordHead, Retention, Timeline},
};
use record::{Id16, Pseudonym, RecordTag, RecordType, TimeMs};

/// The most records of one roll-up.
pub const ROLL_UPS_MAX: usize = 64;
/// The most investigations that are listed under one pseudonym. Under one with more no frames are let go.
pub const CASES_MAX: usize = 64;
/// How exactly a timeline knows its last batch, in milliseconds: it is written once in so long, and not with every batch.
pub const TIMELINE_MS: u64 = 30_000;
/// How far apart the cuts of a timeline are, in milliseconds: six hours.
pub const CUT_MS: u64 = 6 * 60 * 60 * 1000;
/// The most cuts of a timeline: those of 250 days. While there are so many, further frames go together with the last of them or not at all.
pub const CUTS_MAX: usize = 1_000;

pub(super) fn reads(entry: &Entry, keys: &mut Vec<Key>) {
    let Body::Disposal { binding, bound, document, roll_ups, concluded, .. } = &entry.body else { return };
    keys.extend([state::policy_key(PolicyKind::Derivation), state::retention_key(document)]);
    keys.extend([state::binding_key(binding), state::timeline_key(binding)]);
    for patient in entry.patient.iter().chain([bound]) {
        keys.extend([state::hold_key(patient), state::cases_key(patient)]);
    }
    keys.extend(roll_ups.iter().take(ROLL_UPS_MAX).map(state::record_key));
    keys.extend(concluded.iter().take(2 * CASES_MAX).map(state::investigation_key));
}

/// Notes that a batch follows those that `binding` tells of.
pub(super) fn note(case: &mut Case<'_>, id: &Id16, binding: &Binding) {
    let (key, now) = (state::timeline_key(id), case.block.time);
    let (before, next_cut) = (now.plus_ms(TIMELINE_MS), now.plus_ms(CUT_MS));
    let Some(mut timeline) = case.get::<Timeline>(&key) else {
        return case.put(key, &Timeline { let_go: 0, before, next_cut, cuts: Vec::new() });
    };
    if now < timeline.before {
        return;
    }
    if now >= timeline.next_cut && timeline.cuts.len() < CUTS_MAX && binding.last > timeline.let_go {
        timeline.cuts.push(Cut { last: binding.last, before: timeline.before });
        timeline.next_cut = next_cut;
    }
    timeline.before = before;
    case.put(key, &timeline);
}

/// Frames are let go by the organisation that batched them, from where it ended before up to the end of a batch.
pub(super) fn disposal(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Disposal { binding: id, bound, after, last, count, document, roll_ups, concluded } = &case.entry.body
    else {
        return Ok(());
    };
    case.role_is(PROVIDERS)?;
    let patient = case.patient()?;
    let binding = case.get::<Binding>(&state::binding_key(id)).ok_or(Reject::Unknown)?;
    case.org_is(&binding.org)?;
    let same = *bound == binding.patient && case.same_patient(&binding.patient, binding.from);
    ensure(same, Reject::OtherPatient)?;
    let active = case.get::<ActivePolicy>(&state::policy_key(PolicyKind::Derivation)).ok_or(Reject::Unknown)?;
    ensure(active.document == *document, Reject::NoRetention)?;
    let Retention { keep_s } = case.get(&state::retention_key(document)).ok_or(Reject::NoRetention)?;
    let key = state::timeline_key(id);
    let mut timeline = case.get::<Timeline>(&key).ok_or(Reject::Unknown)?;
    ensure(*after == timeline.let_go && last > after, Reject::Counter)?;
    let final_before = final_before(&timeline, &binding, *last).ok_or(Reject::Counter)?;
    ensure(final_before.plus_ms(u64::from(keep_s) * 1_000) <= case.block.time, Reject::TooEarly)?;
    ensure(*count <= last - after, Reject::Set)?;
    ensure(roll_ups.len() <= ROLL_UPS_MAX && rise(roll_ups), Reject::NotRolledUp)?;
    ensure(roll_ups.iter().all(|tag| is_roll_up(case, tag)), Reject::NotRolledUp)?;
    for patient in [&patient, bound] {
        let held = case.get::<Hold>(&state::hold_key(patient)).is_some_and(|hold| hold.open > 0);
        ensure(!held, Reject::Held)?;
    }
    ensure(concluded.len() <= 2 * CASES_MAX && rise(concluded), Reject::CaseOpen)?;
    ensure(concluded.iter().all(|id| is_concluded(case, id)), Reject::CaseOpen)?;
    ensure([&patient, bound].into_iter().all(|patient| are_named(case, patient, concluded)), Reject::CaseOpen)?;
    timeline.let_go = *last;
    timeline.cuts.retain(|cut| cut.last > *last);
    case.put(key, &timeline);
    Ok(())
}

/// The block time before which every frame up to `last` was final; none where `last` is no end of a batch that the state knows.
fn final_before(timeline: &Timeline, binding: &Binding, last: u64) -> Option<TimeMs> {
    let cut = timeline.cuts.iter().find(|cut| cut.last == last).map(|cut| cut.before);
    cut.or_else(|| (last == binding.last).then_some(timeline.before))
}

fn is_roll_up(case: &Case<'_>, tag: &RecordTag) -> bool {
    case.get::<RecordHead>(&state::record_key(tag))
        .is_some_and(|head| head.org == case.entry.org && head.kind == RecordType::Sensed && !head.deleted)
}

fn is_concluded(case: &Case<'_>, id: &Id16) -> bool {
    case.get::<Investigation>(&state::investigation_key(id)).is_some_and(|opened| opened.concluded.is_some())
}

/// Whether every investigation that was opened under a pseudonym is among those.
fn are_named(case: &Case<'_>, patient: &Pseudonym, concluded: &[Id16]) -> bool {
    let cases = case.get::<Cases>(&state::cases_key(patient)).unwrap_or_default();
    !cases.more && cases.ids.iter().all(|id| concluded.binary_search(id).is_ok())
}

fn rise<T: PartialOrd>(items: &[T]) -> bool {
    items.windows(2).all(|pair| pair[0] < pair[1])
}
