//! What a regulator would ask of the final ledger: versions without gaps, no override reviewed by who opened it, and none forgotten; and no access by
//! force or by a regulator that rests on nothing.

use super::{Broken, Evidence, Replay, ensure};
use contract::{
    AccessAction, Body, ENTRY_AHEAD_MS, Entry, GATHERED_MAX, GATHERED_MS_MAX, OverrideStep, from_cbor, merkle,
    state::{self, Organisation, VALUE_BYTES_MAX},
};
use record::{Digest, Id16, OrgId, OrgRole, Pseudonym, Purpose, TimeMs};
use std::collections::{BTreeMap, HashMap};

const PROPERTY: &str = "what a regulator asks";

struct Opened {
    org: OrgId,
    actor: Digest,
    patient: Option<Pseudonym>,
    from: TimeMs,
    until: TimeMs,
    closed: Option<TimeMs>,
    reviewed: bool,
}

/// The rules are written here a second time, and simply, over the applied entries in their order.
pub(super) fn check(evidence: &Evidence<'_>, replay: &Replay) -> Result<(), Broken> {
    let mut versions = HashMap::new();
    let mut overrides: HashMap<Id16, Opened> = HashMap::new();
    for (entry, _) in replay.entries.iter().filter(|(_, refused)| refused.is_none()) {
        let broken = |what: &str| Broken { property: PROPERTY, what: format!("entry {:?}: {what}", entry.id) };
        match &entry.body {
            Body::Record { tag, version, previous, commitment, .. } => {
                let before = versions.insert(*tag, (*version, *commitment));
                let follows = match before {
                    None => (*version, *previous) == (1, None),
                    Some((last, accepted)) => (*version, *previous) == (last + 1, Some(accepted)),
                };
                ensure(follows, PROPERTY, || broken("its version does not follow the one before").what)?;
            }
            Body::Override { id, step: OverrideStep::Opened(until), .. } => {
                let opened = Opened {
                    org: entry.org.clone(),
                    actor: entry.actor,
                    patient: entry.patient,
                    from: entry.time,
                    until: *until,
                    closed: None,
                    reviewed: false,
                };
                ensure(overrides.insert(*id, opened).is_none(), PROPERTY, || broken("it is opened twice").what)?;
            }
            Body::Override { id, step, .. } => {
                let opened = overrides.get_mut(id).ok_or_else(|| broken("nobody opened it"))?;
                ensure(opened.org == entry.org, PROPERTY, || broken("another organisation's override").what)?;
                if let OverrideStep::Reviewed(_) = step {
                    let over = opened.closed.is_some() || opened.until <= entry.time;
                    let by_another = opened.actor != entry.actor;
                    let proper = over && by_another && !opened.reviewed;
                    ensure(proper, PROPERTY, || broken("reviewed too early, twice, or by who opened it").what)?;
                    opened.reviewed = true;
                } else {
                    ensure(opened.closed.is_none(), PROPERTY, || broken("it is closed twice").what)?;
                    opened.closed = Some(entry.time);
                }
            }
            Body::Access { .. } | Body::Accesses { .. } => {
                let wrong = wrong_access(evidence, entry, &overrides);
                ensure(wrong.is_none(), PROPERTY, || broken(wrong.unwrap_or_default()).what)?;
            }
            _ => {}
        }
    }
    unreviewed(evidence, replay, overrides)
}

/// What is wrong with an access, or with several under one entry.
fn wrong_access(evidence: &Evidence<'_>, entry: &Entry, overrides: &HashMap<Id16, Opened>) -> Option<&'static str> {
    let (ground, is_write) = match &entry.body {
        Body::Access { action, set, count, denied, under, audit, .. } => {
            if *audit != audit.of_audit(&entry.org) {
                return Some("its audit event is not one of its organisation");
            }
            if (*count == 0) != (*set == merkle::root([])) || (*denied && *count > 0) {
                return Some("it does not say what it disclosed");
            }
            if *denied {
                return None;
            }
            (*under, *action == AccessAction::Write)
        }
        Body::Accesses { count, ms, .. } => {
            if !(2..=GATHERED_MAX).contains(count) || *ms > GATHERED_MS_MAX {
                return Some("it commits to none, too many, or over too long a time");
            }
            (None, false)
        }
        _ => return None,
    };
    let member = evidence.consortium.genesis.member(&entry.org);
    let by_compliance = member.is_some_and(|member| member.role == OrgRole::Compliance);
    if is_write || entry.patient.is_none() {
        return None;
    }
    if by_compliance {
        // Nobody opens an investigation.
        return Some("a regulator saw a patient without an investigation");
    }
    if entry.purpose != Purpose::BreakGlass {
        return None;
    }
    let holds = ground.and_then(|id| overrides.get(&id)).is_some_and(|opened| {
        let begun = opened.from <= entry.time.plus_ms(ENTRY_AHEAD_MS);
        let over = opened.until <= entry.time || opened.closed.is_some_and(|closed| closed < entry.time);
        opened.org == entry.org && opened.patient == entry.patient && begun && !over
    });
    (!holds).then_some("by force, and no override of that patient was open")
}

/// The state counts the overrides that nobody has reviewed.
fn unreviewed(evidence: &Evidence<'_>, replay: &Replay, overrides: HashMap<Id16, Opened>) -> Result<(), Broken> {
    let mut waiting: BTreeMap<OrgId, u64> = BTreeMap::new();
    for opened in overrides.into_values().filter(|opened| !opened.reviewed) {
        *waiting.entry(opened.org).or_default() += 1;
    }
    for member in &evidence.consortium.genesis.members {
        let value = replay.state.get(&state::organisation_key(&member.org));
        let value = value.and_then(|v| from_cbor::<Organisation>("organisation", v, VALUE_BYTES_MAX).ok());
        let counted = value.map_or(u64::MAX, |organisation| organisation.unreviewed);
        let expected = waiting.get(&member.org).copied().unwrap_or(0);
        ensure(counted == expected, PROPERTY, || {
            format!("`{}` has {expected} overrides to review, and the state counts {counted}", member.org)
        })?;
    }
    Ok(())
}
