//! What readers are told of frames that were let go by policy: by which entry, when, and what is left of them.

use crate::{
    bind::{device_digest, device_name, sensed},
    caller::Caller,
    dispose::roll_ups_of,
    facts::Target,
    failure::Failure,
    find::search_failure,
    mirror::{Batches, LetGo},
    node::Node,
    recording::Range,
    write::Trail,
};
use contract::{AccessAction, Filed, merkle, state};
use policy::Action;
use record::{Digest, Id16, TimeMs, fhir::Interaction};
use sensing::{BATCH_FRAMES_MAX, CLOCK_AHEAD_MS_MAX, CLOCK_BEHIND_MS_MAX, DeviceId, sensor::SIGNAL};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};
use store::PAGE_MAX;

/// The most roll-ups that an answer names.
const ROLL_UPS_NAMED_MAX: usize = 256;
/// The most that are read to name some.
const ROLL_UPS_EXAMINED_MAX: usize = 2_048;

/// A binding of which frames were let go.
pub(crate) struct Thinned {
    binding: Id16,
    /// The digest of its device's name.
    pub(crate) device: Digest,
    pub(crate) batches: Arc<Batches>,
}

impl Node {
    /// Why a frame that was let go is not shown: that it was, when, and what is left of it. Who may not see the frame is refused, and who
    /// is told leaves a trace before.
    pub(crate) async fn was_let_go(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        name: String,
        binding: Id16,
        counter: u64,
    ) -> Result<Failure, Failure> {
        let decided = self.allow(caller, Action::Read, target).await?;
        let batches = self.mirror.batches(binding).await?;
        let Some(let_go) = batches.let_go_with(counter) else { return Ok(Failure::NotFound(name)) };
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Read, AccessAction::Frames) };
        self.leave_trail(caller, target.patient, &[], std::slice::from_ref(&name), &trail).await?;
        let left = match roll_ups_of(binding, let_go).as_slice() {
            [] => "it said nothing that a roll-up could keep".to_owned(),
            some => format!("what is left is in `{}`", some.join("`, `")),
        };
        Ok(Failure::LetGo(format!(
            "`{name}` was let go by policy on {} (entry {}); {left}",
            let_go.time.to_instant(),
            let_go.entry
        )))
    }

    /// Why there is no frame of this digest: it was let go, if what stays of its batch is what the ledger has of that; else none is known.
    pub(crate) async fn gone_or_unknown(
        &self,
        caller: &Caller,
        name: String,
        digest: Digest,
    ) -> Result<Failure, Failure> {
        let unknown = Failure::NotFound(name.clone());
        let Some(trace) = self.store.trace(digest).await.map_err(search_failure)? else { return Ok(unknown) };
        let (binding, counter) = (trace.binding, trace.counter);
        let batches = self.mirror.batches(binding).await?;
        let batch = batches.reaching(counter).filter(|batch| batch.first <= counter);
        let (Some(batch), Some(_)) = (batch, batches.let_go_with(counter)) else { return Ok(unknown) };
        let count = batch.count as usize;
        if count > BATCH_FRAMES_MAX {
            return Ok(unknown);
        }
        let traces = self.store.traces(binding, batch.first, batch.last, count + 1).await.map_err(search_failure)?;
        let root = merkle::root(traces.iter().map(|(_, digest)| merkle::leaf(digest.as_ref())));
        let known: Option<state::Binding> = self.ledger_value(state::binding_key(&binding)).await?;
        let Some(known) = known.filter(|_| root == batch.root && traces.contains(&(counter, digest))) else {
            return Ok(unknown);
        };
        let whose = match self.patient_key(&trace.patient).await? {
            Some(key) => self.pseudonyms(&key).contains(&known.patient),
            None => matches!(self.subject(&trace.patient).await?.filed, Filed::Under(of) if of == known.patient),
        };
        if !whose {
            return Ok(unknown);
        }
        let id = name.split_once('/').map(|(_, id)| id.to_owned());
        let target = sensed(&trace.patient, id.as_deref(), &known.org);
        self.was_let_go(caller, &target, name, binding, counter).await
    }

    /// The bindings of a patient of which frames were let go. Who may not hold the patient's key is told of none.
    pub(crate) async fn thinned(&self, patient: &str) -> Result<Vec<Thinned>, Failure> {
        let key = match self.patient_key(patient).await {
            Err(Failure::Tampered(_)) => None,
            other => other?,
        };
        let Some(key) = key else { return Ok(Vec::new()) };
        let mut thinned = Vec::new();
        for binding in self.mirror.bindings_thinned(self.pseudonyms(&key)).await? {
            let known: Option<state::Binding> = self.ledger_value(state::binding_key(&binding)).await?;
            let Some(known) = known else { continue };
            let batches = self.mirror.batches(binding).await?;
            thinned.push(Thinned { binding, device: known.device, batches });
        }
        Ok(thinned)
    }

    /// Roll-ups of a range's time, device and signal, as `Observation/id`, the first of them.
    pub(crate) async fn rolled_up(&self, range: &Range) -> Result<Vec<String>, Failure> {
        let device = range.device.as_deref().map(device_name).transpose().ok().flatten();
        let device = device.as_ref().map(device_digest);
        let (mut named, mut examined) = (BTreeSet::new(), 0);
        for Thinned { binding, batches, device: of } in self.thinned(&range.patient).await? {
            if device.is_some_and(|device| device != of) {
                continue;
            }
            for let_go in batches.let_go().iter().filter(|let_go| may_overlap(range, batches.of(let_go), let_go)) {
                for name in roll_ups_of(binding, let_go) {
                    if named.len() == ROLL_UPS_NAMED_MAX || examined == ROLL_UPS_EXAMINED_MAX {
                        return Ok(named.into_iter().collect());
                    }
                    examined += 1;
                    if self.is_of(range, &name).await? {
                        named.insert(name);
                    }
                }
            }
        }
        Ok(named.into_iter().collect())
    }

    /// Whether a roll-up is of a range's time and signal. One that is not there as it should be is of any.
    async fn is_of(&self, range: &Range, name: &str) -> Result<bool, Failure> {
        let Some((rtype, id)) = name.split_once('/') else { return Ok(false) };
        let row = match self.sound_row(rtype, id, None).await {
            Ok((row, ..)) => row,
            Err(Failure::Tampered(_) | Failure::NotFound(_) | Failure::Gone(_)) => return Ok(true),
            Err(failure) => return Err(failure),
        };
        let resource: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        let at = |end: &str| TimeMs::from_instant(resource["effectivePeriod"][end].as_str()?).ok();
        let in_time = at("start").is_none_or(|start| start < range.to) && at("end").is_none_or(|end| range.from < end);
        let codings = resource["code"]["coding"].as_array().cloned().unwrap_or_default();
        let is_signal = |signal: &String| codings.iter().any(|one| one["system"] == SIGNAL && one["code"] == *signal);
        Ok(in_time && range.signal.as_ref().is_none_or(is_signal))
    }

    /// What a device of the ledger is called, if anybody here ever heard it.
    pub(crate) async fn device_called(&self, device: &Digest) -> Result<Option<DeviceId>, Failure> {
        let mut after = None;
        loop {
            let names = self.mirror.devices(after, PAGE_MAX).await?;
            let mut called = names.iter().filter_map(|name| device_name(name.strip_prefix("Device/")?).ok());
            if let Some(found) = called.find(|name| device_digest(name) == *device) {
                return Ok(Some(found));
            }
            after = names.into_iter().next_back();
            if after.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Whether frames of these batches may have been measured in a range, by when they became final and what devices' clocks may differ.
fn may_overlap(range: &Range, batches: &[crate::mirror::Batch], let_go: &LetGo) -> bool {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return false };
    let earliest = TimeMs(first.time.0.saturating_sub(CLOCK_BEHIND_MS_MAX));
    let latest = last.time.plus_ms(CLOCK_AHEAD_MS_MAX).min(let_go.time);
    earliest < range.to && range.from <= latest
}
