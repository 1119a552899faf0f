//! What a node knows of its devices: which of them measure whom, how far each has counted, and which keys are not trusted any more.

use crate::{
    beside::Threads,
    bind::Bound,
    kinds::ToldApart,
    vigil::{Escalation, Unanswered},
};
use record::{Digest, Id16, TimeMs};
use sensing::{
    BadKey, Binding, DeviceId, DeviceState, Gap, NO_PREVIOUS, Next, Reading, Refusal, Reject, Signed, VerifyingKey,
    Watch,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// The most devices that are bound at one gateway.
const DEVICES_MAX: usize = 4_096;
/// The most revoked keys whose frames are told from those of strangers.
const REVOKED_MAX: usize = 4_096;

/// How long a node that stops waits for its engines to write what they found.
const ENGINES_END_WAIT: Duration = Duration::from_secs(10);

/// Patients share so many locks for changes of alarms: those of one patient take turns, those of others seldom wait.
const ALARM_LOCKS: usize = 32;

/// What a node knows of its devices, and of the analytics that they feed.
pub(crate) struct Sensing {
    devices: Mutex<HashMap<DeviceId, Place>>,
    revoked: Mutex<HashMap<DeviceId, Revoked>>,
    pub(crate) engines: crate::assess::Engines,
    /// Engines that run, or write what they found.
    running: watch::Sender<usize>,
    pub(crate) threads: Threads,
    pub(crate) streams: crate::live::Streams,
    /// Held while a device is bound or unbound.
    pub(crate) binding: tokio::sync::Mutex<()>,
    /// Each held while an alarm of one of its patients changes.
    alarms: [tokio::sync::Mutex<()>; ALARM_LOCKS],
    /// The records of an alarm were written.
    pub(crate) alarm_written: tokio::sync::Notify,
    pub(crate) unanswered: Unanswered,
}

/// What a batch entry said that may have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsure {
    /// The last admitted frame that it named; none when it named refused ones alone.
    last: Option<u64>,
    /// Refused frames that it counted.
    refused: u32,
}

/// One engine that runs.
pub(crate) struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

struct Place {
    patient: String,
    binding: Id16,
    attached: Arc<tokio::sync::Mutex<Attached>>,
}

/// A device whose key was revoked here, and that has no other one yet.
#[derive(Debug, Clone)]
pub(crate) struct Revoked {
    pub(crate) key: VerifyingKey,
    pub(crate) patient: String,
    pub(crate) at: TimeMs,
    /// When the patient's trail was last told that it sends all the same.
    pub(crate) told_at: Option<TimeMs>,
}

impl Sensing {
    /// Nothing yet, of a node where alarms wait so long for somebody, and the rules run on these threads.
    pub(crate) fn new(escalation: Escalation, threads: Threads) -> Self {
        Self {
            devices: Mutex::default(),
            revoked: Mutex::default(),
            engines: Default::default(),
            running: watch::Sender::new(0),
            threads,
            streams: Default::default(),
            binding: tokio::sync::Mutex::default(),
            alarms: Default::default(),
            alarm_written: tokio::sync::Notify::new(),
            unanswered: Unanswered::new(escalation),
        }
    }

    /// An engine runs for as long as this is held.
    pub(crate) fn an_engine_runs(&self) -> Running {
        self.running.send_modify(|count| *count += 1);
        Running(self.running.clone())
    }

    /// Waits until no engine runs any more, nor writes; not for longer than an end may take.
    pub(crate) async fn engines_ended(&self) -> bool {
        let mut running = self.running.subscribe();
        let ended = tokio::time::timeout(ENGINES_END_WAIT, running.wait_for(|count| *count == 0)).await;
        matches!(ended, Ok(Ok(_)))
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Place>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked(&self) -> MutexGuard<'_, HashMap<DeviceId, Revoked>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock for changes of a patient's alarms.
    pub(crate) fn alarms_of(&self, patient: &str) -> &tokio::sync::Mutex<()> {
        let place = patient.bytes().fold(0usize, |place, byte| place.wrapping_mul(31).wrapping_add(byte.into()));
        &self.alarms[place % ALARM_LOCKS]
    }

    /// Whether one more device can be bound.
    pub(crate) fn has_room(&self) -> bool {
        self.devices().len() < DEVICES_MAX
    }

    pub(crate) fn attach(&self, name: DeviceId, attached: Attached) {
        let (patient, binding) = (attached.bound.patient.clone(), attached.bound.binding);
        self.revoked().remove(&name);
        self.devices().insert(name, Place { patient, binding, attached: Arc::new(tokio::sync::Mutex::new(attached)) });
    }

    pub(crate) fn detach(&self, name: &DeviceId) {
        self.devices().remove(name);
    }

    pub(crate) fn attached(&self, name: &DeviceId) -> Option<Arc<tokio::sync::Mutex<Attached>>> {
        self.devices().get(name).map(|place| place.attached.clone())
    }

    /// All devices, with the binding of each.
    pub(crate) fn all_attached(&self) -> Vec<(Id16, Arc<tokio::sync::Mutex<Attached>>)> {
        self.devices().values().map(|place| (place.binding, place.attached.clone())).collect()
    }

    /// The devices that measure a patient now.
    pub(crate) fn attached_to(&self, patient: &str) -> Vec<Arc<tokio::sync::Mutex<Attached>>> {
        let devices = self.devices();
        devices.values().filter(|place| place.patient == patient).map(|place| place.attached.clone()).collect()
    }

    /// The patient that a device measures now.
    pub(crate) fn patient_of(&self, name: &DeviceId) -> Option<String> {
        self.devices().get(name).map(|place| place.patient.clone())
    }

    /// Whether the device of this name measures this patient now.
    pub(crate) fn is_bound(&self, name: &str, patient: &str) -> bool {
        let Ok(name) = name.parse::<DeviceId>() else { return false };
        self.devices().get(&name).is_some_and(|place| place.patient == patient)
    }

    /// Remembers that a device's key was revoked. Of too many, those that come last are strangers: refused as well, only with less said.
    pub(crate) fn remember_revoked(&self, name: DeviceId, revoked: Revoked) {
        let mut all = self.revoked();
        if all.len() < REVOKED_MAX || all.contains_key(&name) {
            all.insert(name, revoked);
        }
    }

    /// What is known of a device whose key was revoked.
    pub(crate) fn revocation(&self, name: &DeviceId) -> Option<Revoked> {
        self.revoked().get(name).cloned()
    }

    /// Whether the trail is due to be told, `every` so many milliseconds, that a revoked device sends.
    pub(crate) fn is_due_to_tell(&self, name: &DeviceId, now: TimeMs, every: u64) -> bool {
        let mut all = self.revoked();
        let Some(revoked) = all.get_mut(name) else { return false };
        let due = revoked.told_at.is_none_or(|told| now.0.saturating_sub(told.0) >= every);
        if due {
            revoked.told_at = Some(now);
        }
        due
    }
}

/// A device at a patient: its binding, the watch over what it sends, and the frames that no batch entry names yet.
pub(crate) struct Attached {
    pub(crate) bound: Bound,
    binding: Binding,
    watch: Watch,
    /// The last counter in a batch entry of this binding that is durable; none before the first.
    pub(crate) batched: Option<u64>,
    /// Counter and digest of the frames since, in order.
    // INVARIANT: at most BATCH_FRAMES_MAX while frames are admitted.
    pub(crate) open: Vec<(u64, Digest)>,
    /// Frames refused since.
    pub(crate) refused: u32,
    /// The last batch entry, if it is not known whether it was written.
    pub(crate) unsure: Option<Unsure>,
    /// Kinds of frames since the binding was taken up.
    kinds: ToldApart,
}

impl Attached {
    /// A device whose binding begins.
    pub(crate) fn new(bound: Bound) -> Result<Self, BadBinding> {
        let last = go_on_from(bound.last, bound.floor);
        Self::after(bound, [], last)
    }

    /// A device whose binding is taken up again: after the frames that are `known`, in the order of their counters, and after `last`
    /// where that lies further on.
    pub(crate) fn after(
        bound: Bound,
        known: impl IntoIterator<Item = (DeviceState, TimeMs)>,
        last: DeviceState,
    ) -> Result<Self, BadBinding> {
        let binding = binding_of(&bound)?;
        let watch = Watch::resume_after(known, last);
        Ok(Self {
            bound,
            binding,
            watch,
            batched: None,
            open: Vec::new(),
            refused: 0,
            unsure: None,
            kinds: ToldApart::default(),
        })
    }

    /// The binding as `sensing` sees it.
    pub(crate) fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The last admitted frame.
    pub(crate) fn state(&self) -> DeviceState {
        *self.watch.state()
    }

    /// The counter that two frames were signed with; nothing while the key is the device's own.
    pub(crate) fn copied(&self) -> Option<u64> {
        self.watch.copied()
    }

    /// Whether the device measures the patient still.
    pub(crate) fn is_open(&self) -> bool {
        self.bound.until.is_none()
    }

    /// The binding ends.
    pub(crate) fn end(&mut self, at: TimeMs) {
        self.bound.until = Some(at);
        self.bound.last = self.state();
        self.binding.until = Some(at);
    }

    /// A copy of the watch for frames that are judged now and stored together later.
    pub(crate) fn trial(&self) -> Watch {
        self.watch.clone()
    }

    /// Judges a frame in a trial, which goes on from it at once when it is admitted.
    pub(crate) fn judge(&self, trial: &mut Watch, signed: Signed, received_at: TimeMs) -> Result<Reading, Refusal> {
        let (device, got) = (signed.frame().device().clone(), signed.frame().counter());
        if !self.is_open() {
            return Err(Reject::UnknownDevice { device }.into());
        }
        let last = self.bound.floor;
        // Which frame was the last is not known then, so none can be told from its copy.
        if got <= last && trial.state().last_counter < last {
            return Err(Reject::Replayed { device, got, last }.into());
        }
        let (mut reading, next): (Reading, Next) = trial.admit(signed, &self.binding, received_at)?;
        if got <= last {
            return Err(Reject::Replayed { device, got, last }.into());
        }
        // Counters up to there were used up elsewhere: none of them is missing.
        reading.gap =
            reading.gap.filter(|gap| gap.last > last).map(|gap| Gap { first: gap.first.max(last + 1), ..gap });
        trial.stored(next);
        Ok(reading)
    }

    /// The frames that were admitted in a trial are stored.
    pub(crate) fn take_over(&mut self, trial: Watch, stored: impl IntoIterator<Item = (u64, Digest)>) {
        self.watch = trial;
        self.open.extend(stored);
    }

    /// Whether something is to be said of it in a batch entry that none says yet.
    pub(crate) fn has_more_to_batch(&self) -> bool {
        !self.open.is_empty() || self.refused > 0
    }

    /// A batch entry about the first so many open frames, and about the refused ones, is durable.
    pub(crate) fn are_batched(&mut self, count: usize) {
        self.batched = self.open.drain(..count).next_back().map(|(counter, _)| counter).or(self.batched);
        self.refused = 0;
        self.bound.last = self.state();
    }

    /// A batch entry about the first so many open frames, and about the refused ones, may be durable or not.
    pub(crate) fn may_be_batched(&mut self, count: usize) {
        let last = self.open.get(..count).and_then(<[_]>::last).map(|(counter, _)| *counter);
        self.unsure = Some(Unsure { last, refused: self.refused });
    }

    /// Frames up to a counter are in batch entries that were found, by which is known what became of the last one.
    pub(crate) fn were_batched(&mut self, up_to: Option<u64>) {
        let found = self.unsure.take().filter(|unsure| unsure.last.is_some() && unsure.last <= up_to);
        self.refused = self.refused.saturating_sub(found.map_or(0, |unsure| unsure.refused));
        self.batched = self.batched.max(up_to);
        self.open.retain(|(counter, _)| Some(*counter) > self.batched);
    }

    /// Two frames were signed with this counter: nothing is admitted any more.
    pub(crate) fn distrust(&mut self, counter: u64) {
        self.watch.distrust(counter);
    }

    /// The kind that a frame of this one is filed under.
    pub(crate) fn filed_kind(&mut self, kind: i64) -> i64 {
        self.kinds.filed(kind)
    }

    /// Counts a refused frame for the next batch entry. One that came too soon comes again, and is not counted.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        if !matches!(refusal, Refusal::TooMany { .. }) {
            self.refused = self.refused.saturating_add(1);
        }
        tracing::warn!(binding = %self.bound.binding, code = refusal.code(), "a frame was refused");
    }
}

/// Why a binding on the desk cannot be used. Ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBinding {
    #[error(transparent)]
    Device(#[from] sensing::BadDeviceId),
    #[error(transparent)]
    Key(#[from] BadKey),
}

fn binding_of(bound: &Bound) -> Result<Binding, BadBinding> {
    Ok(Binding {
        device: crate::bind::device_name(&bound.device)?,
        key: sensing::device_key(bound.key.as_bytes())?,
        patient: format!("Patient/{}", bound.patient),
        binding: bound.binding,
        from: bound.from,
        until: bound.until,
    })
}

/// The state of a device that has used its counters up to `floor`. Which frame was the last is unknown when it came in elsewhere:
/// then the next one follows a gap.
pub(crate) fn go_on_from(known: DeviceState, floor: u64) -> DeviceState {
    if known.last_counter >= floor {
        return known;
    }
    DeviceState { last_counter: floor - 1, last_digest: NO_PREVIOUS, ..known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensing::{Sequence, SigningKey};

    /// A device that had counted to nine.
    fn attached(key: &SigningKey) -> Attached {
        let at = TimeMs(1_795_255_200_000);
        Attached::new(Bound {
            binding: Id16([1; 16]),
            device: "d1".into(),
            patient: "p1".into(),
            key: contract::PublicKey(Digest(key.verifying_key().to_bytes())),
            from: at,
            until: None,
            statement: "s1".into(),
            last: DeviceState::default(),
            revoked: None,
            floor: 9,
        })
        .unwrap()
    }

    /// The first frame of a device that was bound again told of a gap, although it followed the last one of before.
    #[test]
    fn a_frame_after_the_counters_used_before_tells_of_no_gap_and_a_later_one_of_its_own() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let name = crate::device_name("d1").unwrap();
        for (counted, expected) in [(9, None), (10, Some((10, 10))), (12, Some((10, 12)))] {
            let attached = attached(&key);
            let mut sequence = Sequence::resume(name.clone(), key.clone(), counted, NO_PREVIOUS);
            let at = TimeMs(1_795_255_200_000);
            let signed = Signed::one(sequence.next(at, Vec::new()).unwrap(), &key.verifying_key()).unwrap();
            let mut trial = attached.trial();
            let reading = attached.judge(&mut trial, signed, at).unwrap();
            assert_eq!(reading.gap.map(|gap| (gap.first, gap.last)), expected, "after {counted}");
            assert_eq!(trial.state().last_counter, counted + 1);
        }
    }

    #[test]
    fn a_batch_that_was_written_after_all_is_not_said_again() {
        let mut attached = attached(&SigningKey::from_bytes(&[7; 32]));
        let frame = |counter: u64| (counter, Digest([counter as u8; 32]));
        attached.open = (10..=14).map(frame).collect();
        attached.are_batched(2);
        assert_eq!((attached.batched, attached.open.len()), (Some(11), 3));
        // It was written, with two refused; another was refused since.
        attached.refused = 2;
        attached.may_be_batched(2);
        attached.refused += 1;
        attached.were_batched(Some(13));
        assert_eq!((attached.batched, attached.open.clone(), attached.refused), (Some(13), vec![frame(14)], 1));
        // It was not: what is known stays known, and is said again.
        attached.may_be_batched(1);
        attached.were_batched(Some(11));
        assert_eq!((attached.batched, attached.open.clone(), attached.refused), (Some(13), vec![frame(14)], 1));
        assert_eq!(attached.unsure, None);
    }
}
