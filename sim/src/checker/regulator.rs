//! What a regulator would ask of the final ledger: versions without gaps, no override reviewed by who opened it, and none forgotten.

use super::{Broken, Evidence, Replay, ensure};
use contract::{
    Body, OverrideStep, from_cbor,
    state::{self, Organisation, VALUE_BYTES_MAX},
};
use record::{Digest, Id16, OrgId, TimeMs};
use std::collections::{BTreeMap, HashMap};

const PROPERTY: &str = "what a regulator asks";

struct Opened {
    org: OrgId,
    actor: Digest,
    until: TimeMs,
    closed: bool,
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
                    until: *until,
                    closed: false,
                    reviewed: false,
                };
                ensure(overrides.insert(*id, opened).is_none(), PROPERTY, || broken("it is opened twice").what)?;
            }
            Body::Override { id, step, .. } => {
                let opened = overrides.get_mut(id).ok_or_else(|| broken("nobody opened it"))?;
                ensure(opened.org == entry.org, PROPERTY, || broken("another organisation's override").what)?;
                if let OverrideStep::Reviewed(_) = step {
                    let over = opened.closed || opened.until <= entry.time;
                    let by_another = opened.actor != entry.actor;
                    let proper = over && by_another && !opened.reviewed;
                    ensure(proper, PROPERTY, || broken("reviewed too early, twice, or by who opened it").what)?;
                    opened.reviewed = true;
                } else {
                    ensure(!opened.closed, PROPERTY, || broken("it is closed twice").what)?;
                    opened.closed = true;
                }
            }
            _ => {}
        }
    }
    unreviewed(evidence, replay, overrides)
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
