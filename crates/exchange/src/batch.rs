//! Batches: what the ledger says of frames every few seconds, and how a node takes its devices up again after a restart.

use crate::{
    bind::{Bound, device_name},
    boxed,
    failure::Failure,
    kept::frame_of,
    node::Node,
    sense::{Attached, go_on_from},
    write::{Also, Gathered},
};
use contract::{Body, DeviceStep, Event, Frames, SignedSubmission, from_cbor, state};
use record::{Digest, Id16, Role, TimeMs};
use sensing::{BATCH_FRAMES_MAX, BATCH_GAPS_MAX, Binding, DeviceState};
use std::{
    collections::{HashMap, HashSet},
    ops::DerefMut,
    sync::Arc,
    time::Duration,
};
use store::{FrameFilter, FrameQuery, PAGE_MAX, Put};
use tokio::time::{Interval, MissedTickBehavior};

/// How far before the last known frame stored frames are looked for, in milliseconds: a device's clock may have been set back.
const CLOCK_SET_BACK_MS_MAX: u64 = 3_600_000;
/// So many devices' batches are written in one transaction. Until these are put together and durable the devices' next frames wait.
const BATCHED_TOGETHER: usize = 64;
/// So many bindings are looked up in the ledger's state together.
const LOOKED_UP_AT_ONCE: usize = 256;

impl Node {
    /// Puts a batch entry for every binding with new frames, at the fixed cadence of the derivation policy in force.
    pub(crate) async fn batch_frames(self) {
        let mut policies = self.inner.policies.watch();
        let mut cadence_s = policies.borrow_and_update().derivation.batch_cadence_s();
        let mut ticks = every(cadence_s);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if let Err(error) = self.flush_frames().await {
                        tracing::warn!(%error, "frames could not be batched; trying again");
                    }
                }
                changed = policies.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now_s = policies.borrow_and_update().derivation.batch_cadence_s();
                    if now_s != cadence_s {
                        tracing::info!(before_s = cadence_s, now_s, "frames are batched at another cadence");
                        (cadence_s, ticks) = (now_s, every(now_s));
                    }
                }
            }
        }
    }

    /// Puts a batch entry for every binding with new frames, now.
    #[boxed]
    pub async fn flush_frames(&self) -> Result<(), Failure> {
        let mut outcome = self.end_what_is_over().await;
        let mut left: Vec<_> = self.sensing.all_attached().into_iter().map(|(_, attached)| attached).collect();
        // One is waited for, while no other is held; of the others those are left for later whose frames come in just now.
        while let Some(first) = left.pop() {
            let mut held = vec![first.lock_owned().await];
            left.retain(|device| {
                let free = (held.len() < BATCHED_TOGETHER).then(|| Arc::clone(device).try_lock_owned().ok()).flatten();
                let stays = free.is_none();
                held.extend(free);
                stays
            });
            outcome = outcome.and(self.put_batches(&mut held).await);
        }
        outcome
    }

    /// Ends the bindings that are over by the ledger: a hospital took the patient over, or revoked the key.
    async fn end_what_is_over(&self) -> Result<(), Failure> {
        let places = self.sensing.all_attached().into_iter();
        let places: Vec<_> = places.map(|(binding, attached)| (attached, state::binding_key(&binding))).collect();
        for part in places.chunks(LOOKED_UP_AT_ONCE) {
            let values = self.ledger.get(part.iter().map(|(_, key)| *key).collect()).await;
            let values = values.map_err(|e| Failure::ours("the ledger did not answer", e))?;
            for ((attached, _), value) in part.iter().zip(values) {
                let Some(value) = value else { continue };
                let known: state::Binding = from_cbor("state", &value, state::VALUE_BYTES_MAX)
                    .map_err(|e| Failure::ours("the ledger's state cannot be read", e))?;
                let (Some(until), mut attached) = (known.until, attached.lock().await) else { continue };
                if !attached.is_open() {
                    continue;
                }
                let signer: Option<state::DeviceKey> =
                    self.ledger_value(state::device_signer_key(&attached.bound.key)).await?;
                // What was measured before the end may still be batched, for a while.
                if let Err(error) = self.put_batch(&mut attached).await {
                    tracing::warn!(%error, binding = %attached.bound.binding, "the last frames of a binding are not batched");
                }
                attached.end(until);
                attached.bound.revoked = signer.and_then(|signer| signer.revoked);
                self.sensing.detach(&attached.binding().device);
                self.remember_revoked(&attached.bound);
                self.desk.put(attached.bound.clone()).await?;
                tracing::info!(binding = %attached.bound.binding, "a binding was ended by another organisation");
            }
        }
        Ok(())
    }

    /// Puts batch entries for a binding's frames that have none yet.
    pub(crate) async fn put_batch(&self, attached: &mut Attached) -> Result<(), Failure> {
        self.put_batches(&mut [attached]).await
    }

    /// Puts batch entries for the frames of several bindings that have none yet, an entry of each in one transaction. A device of which none can
    /// be made is left out of it.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn put_batches(&self, devices: &mut [impl DerefMut<Target = Attached> + Send]) -> Result<(), Failure> {
        if devices.iter().any(|attached| attached.unsure.is_some()) {
            self.look_again(devices).await?;
        }
        loop {
            let (mut outcome, mut gathered) = (Ok(()), self.empty());
            let mut batches: Vec<(&mut Attached, usize)> = Vec::with_capacity(devices.len());
            for attached in devices.iter_mut().filter(|attached| attached.has_more_to_batch()) {
                match self.gather_batch(attached, &mut gathered).await {
                    Ok(count) => batches.push((attached, count)),
                    Err(failure) => outcome = outcome.and(Err(failure)),
                }
            }
            if batches.is_empty() {
                return outcome;
            }
            if let Err(failure) = self.put(gathered).await {
                // A server that went away in the commit may have carried it out.
                if !matches!(failure, Failure::Busy | Failure::Unreachable) {
                    batches.into_iter().for_each(|(attached, count)| attached.may_be_batched(count));
                }
                return Err(failure);
            }
            let mut bound = Vec::with_capacity(batches.len());
            for (attached, count) in batches {
                attached.are_batched(count);
                bound.push(attached.bound.clone());
            }
            if let Err(error) = self.desk.put_all(bound).await {
                // The frames themselves say as much, only slower to read.
                tracing::warn!(%error, "the desk does not know the last frames of devices");
            }
        }
    }

    /// How far those bindings are batched of which it is not known, by the ledger and by the entries on their way there.
    async fn look_again(&self, devices: &mut [impl DerefMut<Target = Attached> + Send]) -> Result<(), Failure> {
        // Whoever writes next, be it nothing, waits until it is decided what became of the write before.
        self.keep(Put::default()).await?;
        let waiting = self.waiting_steps().await?;
        for attached in devices.iter_mut().filter(|attached| attached.unsure.is_some()) {
            let batched = self.batched_by(&attached.bound.binding, &waiting).await?.1;
            attached.were_batched(batched);
        }
        Ok(())
    }

    /// A binding as the ledger has it, and the last counter that it has a batch of there or on the way there.
    async fn batched_by(
        &self,
        binding: &Id16,
        waiting: &Waiting,
    ) -> Result<(Option<state::Binding>, Option<u64>), Failure> {
        let known: Option<state::Binding> = self.ledger_value(state::binding_key(binding)).await?;
        let batched = known.as_ref().filter(|known| known.batches > 0).map(|known| known.last);
        Ok((known, batched.max(waiting.batched.get(binding).copied())))
    }

    /// Adds the batch entry for a binding's next frames; of so many.
    async fn gather_batch(&self, attached: &Attached, gathered: &mut Gathered) -> Result<usize, Failure> {
        let count = batch_len(attached.batched, &attached.open);
        let subject = self.subject(&attached.bound.patient).await?;
        let frames = Frames {
            binding: attached.bound.binding,
            after: attached.batched,
            admitted: &attached.open[..count],
            refused: attached.refused,
        };
        let device = self.machine(attached.binding().device.as_str(), Role::Device);
        let author = self.author(&device, self.now());
        self.also(gathered, &author, &Also { subject, event: Event::FramesBatched(frames) })?;
        Ok(count)
    }

    /// Takes up the bindings on the desk, with the frames that were answered before the last stop and that no batch entry names.
    pub(crate) async fn resume_sensing(&self) -> Result<(), Failure> {
        let open: Vec<Bound> = self.desk.list::<Bound>(None).await?;
        open.iter().for_each(|bound| self.remember_revoked(bound));
        let open: Vec<Bound> = open.into_iter().filter(|bound| bound.until.is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let waiting = self.waiting_steps().await?;
        for mut bound in open {
            let (final_binding, batched) = self.batched_by(&bound.binding, &waiting).await?;
            let over = match &final_binding {
                Some(known) => known.until.is_some() || waiting.ended.contains(&bound.binding),
                // Its entry was never written: the process ended in between.
                None => !waiting.begun.contains(&bound.binding) || waiting.ended.contains(&bound.binding),
            };
            if over {
                let signer: Option<state::DeviceKey> = self.ledger_value(state::device_signer_key(&bound.key)).await?;
                bound.until = Some(final_binding.and_then(|known| known.until).unwrap_or_else(|| self.now()));
                bound.revoked = signer.and_then(|signer| signer.revoked);
                self.remember_revoked(&bound);
                self.desk.put(bound).await?;
                continue;
            }
            self.take_up(bound, batched).await?;
        }
        Ok(())
    }

    async fn take_up(&self, mut bound: Bound, batched: Option<u64>) -> Result<(), Failure> {
        let unusable = |why: String| Failure::ours("a binding on the desk cannot be used", why);
        let name = device_name(&bound.device).map_err(|e| unusable(e.to_string()))?;
        let id = bound.binding;
        let before = Attached::new(bound.clone()).map_err(|e| unusable(e.to_string()))?;
        let stored = self.stored_frames(before.binding(), bound.last).await?;
        let mut last = before.state();
        if let Some(frame) = stored.last().filter(|frame| frame.state.last_counter > last.last_counter) {
            last = frame.state;
        }
        // Rows may be gone from the database; what the ledger counted stays used up.
        if let Some(batched) = batched {
            bound.floor = bound.floor.max(batched);
            last = go_on_from(last, batched);
        }
        let floor = bound.floor;
        let known = stored.iter().map(|frame| (frame.state, frame.received_at));
        let mut attached = Attached::after(bound, known, last).map_err(|e| unusable(e.to_string()))?;
        attached.batched = batched;
        let open = stored.iter().map(|frame| (frame.state.last_counter, frame.state.last_digest));
        attached.open = open.filter(|(counter, _)| *counter > floor).collect();
        tracing::info!(binding = %id, frames = attached.open.len(), "a device's binding is taken up again");
        self.sensing.attach(name, attached);
        Ok(())
    }

    /// The binding's frames in the database since `last`, in the order of their counters; only those that the device signed.
    pub(crate) async fn stored_frames(
        &self,
        binding: &Binding,
        last: DeviceState,
    ) -> Result<Vec<StoredFrame>, Failure> {
        let since = last.last_device_time.0.saturating_sub(CLOCK_SET_BACK_MS_MAX);
        let of = FrameFilter::Device(binding.device.as_str().to_owned());
        let mut query = FrameQuery { from: binding.from.max(TimeMs(since)), ..FrameQuery::of(of) };
        let mut found: Vec<StoredFrame> = Vec::new();
        loop {
            let page = self.store.frames(query.clone()).await.map_err(crate::find::search_failure)?;
            for row in page.frames.iter().filter(|row| row.binding == binding.binding) {
                let signed = frame_of(row).filter(|frame| frame.is_signed_by(&binding.key));
                let Some(frame) = signed.filter(|frame| *frame.device() == binding.device) else { continue };
                let state = DeviceState {
                    last_counter: frame.counter(),
                    last_digest: frame.digest(),
                    last_device_time: frame.device_time(),
                };
                found.push(StoredFrame { state, received_at: row.received_at });
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        found.sort_unstable_by_key(|frame| frame.state.last_counter);
        found.dedup_by_key(|frame| frame.state.last_counter);
        Ok(found)
    }

    /// What entries of our own that are not final yet say of bindings.
    async fn waiting_steps(&self) -> Result<Waiting, Failure> {
        let mut waiting = Waiting::default();
        let lanes = crate::orphan::signed_lanes(&self.store, &self.signer).await;
        for lane in lanes.map_err(crate::find::search_failure)? {
            self.waiting_in_lane(lane.lane, &mut waiting).await?;
        }
        Ok(waiting)
    }

    async fn waiting_in_lane(&self, lane: u32, waiting: &mut Waiting) -> Result<(), Failure> {
        let settled: Option<state::Lane> = self.ledger_value(state::lane_key(&self.org, lane)).await?;
        let mut next = settled.map_or(0, |lane| lane.seq) + 1;
        loop {
            let page = self.store.submissions_since(&self.org, lane, next, PAGE_MAX).await;
            let page = page.map_err(crate::find::search_failure)?;
            let Some(last) = page.last() else { return Ok(()) };
            let after = last.first_seq + u64::from(last.count);
            for submission in &page {
                let Ok(signed) = SignedSubmission::from_bytes(&submission.bytes) else { continue };
                if self.signer.is_own(&signed) {
                    let first = signed.submission.first_seq;
                    let entries = (first..).zip(&signed.submission.entries);
                    entries.filter(|(seq, _)| *seq >= next).for_each(|(_, entry)| waiting.read(&entry.body));
                }
            }
            if after <= next {
                return Ok(());
            }
            next = after;
        }
    }
}

/// A frame in the database that its device signed.
pub(crate) struct StoredFrame {
    /// How the device's sequence stands after it.
    pub(crate) state: DeviceState,
    pub(crate) received_at: TimeMs,
}

/// Ticks now and then every so many seconds; one that was missed is not made up for.
fn every(seconds: u32) -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds.into()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What entries on their way say of bindings.
#[derive(Debug, Default)]
struct Waiting {
    begun: HashSet<Id16>,
    ended: HashSet<Id16>,
    batched: HashMap<Id16, u64>,
}

impl Waiting {
    fn read(&mut self, body: &Body) {
        match body {
            Body::Device { step: DeviceStep::Bound(id, _), .. } => _ = self.begun.insert(*id),
            Body::Device { step: DeviceStep::Unbound(id) | DeviceStep::Revoked(_, Some(id)), .. } => {
                _ = self.ended.insert(*id);
            }
            Body::Batch { binding, last, count, .. } if *count > 0 => {
                let known = self.batched.entry(*binding).or_default();
                *known = (*known).max(*last);
            }
            _ => {}
        }
    }
}

/// How many of these frames go into one batch: as many as its bounds on frames and gaps allow.
fn batch_len(after: Option<u64>, open: &[(u64, Digest)]) -> usize {
    let mut before = after;
    let mut gaps = 0;
    for (at, (counter, _)) in open.iter().enumerate().take(BATCH_FRAMES_MAX) {
        gaps += usize::from(before.is_some_and(|before| before.saturating_add(1) < *counter));
        if gaps > BATCH_GAPS_MAX {
            return at;
        }
        before = Some(*counter);
    }
    open.len().min(BATCH_FRAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensing::NO_PREVIOUS;

    fn check(after: Option<u64>, counters: impl IntoIterator<Item = u64>, expected: usize) {
        let open: Vec<_> = counters.into_iter().map(|counter| (counter, Digest([1; 32]))).collect();
        assert_eq!(batch_len(after, &open), expected);
    }

    #[test]
    fn a_batch_has_bounded_frames_and_gaps() {
        check(None, [], 0);
        check(None, 7..10, 3);
        check(None, 1..=10_000, BATCH_FRAMES_MAX);
        let sparse = || (1..=200).map(|n| n * 2);
        check(None, sparse(), BATCH_GAPS_MAX + 1);
        check(Some(1), sparse(), BATCH_GAPS_MAX + 1);
        check(Some(0), sparse(), BATCH_GAPS_MAX);
    }

    #[test]
    fn a_device_whose_last_frame_is_unknown_goes_on_after_a_gap() {
        let known = DeviceState { last_counter: 5, last_digest: Digest([9; 32]), last_device_time: TimeMs(1) };
        assert_eq!(go_on_from(known, 0), known);
        assert_eq!(go_on_from(known, 5), known);
        let unknown = go_on_from(known, 9);
        assert_eq!((unknown.last_counter, unknown.last_digest), (8, NO_PREVIOUS));
    }
}
