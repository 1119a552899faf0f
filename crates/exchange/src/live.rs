//! What sensors say, as it comes: a patient's readings for as long as somebody looks, under the decision and the trace of a read.
//!
//! Whoever is slow is not waited for and loses nothing: what the queue could not hold is read from the database, from the last frame shown.

use crate::{bind::sensed, caller::Caller, failure::Failure, kept::frame_of, node::Node, write::Trail};
use contract::AccessAction;
use policy::Action;
use record::{Commitment, Id16, TimeMs, fhir::Interaction};
use sensing::{DeviceId, Frame, Reading};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use store::{FrameFilter, FrameQuery};
use tokio::sync::{
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    watch,
};

/// Readings of a patient that wait for somebody slow; more are read from the database.
const WAITING_LEN_MAX: usize = 256;
/// The most readings that are shown under one trace.
const TOGETHER_MAX: usize = 64;
/// How far back a stream goes on from a frame, in milliseconds: an hour. What is older is read as a recording.
const RESUME_MS_MAX: u64 = 3_600_000;
/// Patients who are looked at, at the same time.
const PATIENTS_MAX: usize = 4_096;

/// Who is looked at.
pub(crate) type Streams = Mutex<HashMap<String, broadcast::Sender<Arc<Reading>>>>;

/// A stream of one patient's readings.
pub struct Live {
    node: Node,
    caller: Caller,
    patient: String,
    signal: Option<String>,
    coming: broadcast::Receiver<Arc<Reading>>,
    stopping: watch::Receiver<bool>,
    /// The last frame of each device that was shown, or that stood before the stream began.
    shown: HashMap<DeviceId, u64>,
    /// Whether there may be frames in the database that were not shown.
    is_behind: bool,
}

impl Node {
    /// Begins a stream of a patient's readings, of all signals or one. It goes on `after` the frames of these counters by device, where
    /// they are given and an hour old at most.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn live(
        &self,
        caller: &Caller,
        patient: &str,
        signal: Option<String>,
        after: BTreeMap<DeviceId, u64>,
    ) -> Result<Live, Failure> {
        self.allow(caller, Action::Read, &sensed(patient, None, &self.org)).await?;
        let coming = {
            let mut streams = self.sensing.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.retain(|_, stream| stream.receiver_count() > 0);
            if streams.len() >= PATIENTS_MAX && !streams.contains_key(patient) {
                return Err(Failure::Busy);
            }
            let stream = streams.entry(patient.to_owned()).or_insert_with(|| broadcast::channel(WAITING_LEN_MAX).0);
            stream.subscribe()
        };
        let mut shown = HashMap::new();
        for attached in self.sensing.all_attached() {
            let attached = attached.lock().await;
            if attached.bound.patient == patient {
                shown.insert(attached.binding().device.clone(), attached.state().last_counter);
            }
        }
        let is_behind = !after.is_empty();
        shown.extend(after);
        Ok(Live {
            node: self.clone(),
            caller: caller.clone(),
            patient: patient.to_owned(),
            signal,
            coming,
            stopping: self.stopping(),
            shown,
            is_behind,
        })
    }

    /// Shows a reading to whoever looks at the patient.
    pub(crate) fn show(&self, patient: &str, reading: &Reading) {
        let streams = self.sensing.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(patient) {
            // Nobody may be left to hear it.
            let _ = stream.send(Arc::new(reading.clone()));
        }
    }
}

impl Live {
    /// The next readings, one at least, each once and those of a device in their order; none when the node stops. Each group is decided
    /// over, and in the patient's trail before it is given. Fails when the caller may not look any more.
    pub async fn next(&mut self) -> Result<Vec<Reading>, Failure> {
        loop {
            let Some(mut group) = self.group().await? else { return Ok(Vec::new()) };
            group.retain(|reading| self.shown.get(&reading.device).is_none_or(|last| reading.counter > *last));
            for reading in &group {
                self.shown.insert(reading.device.clone(), reading.counter);
            }
            if let Some(name) = &self.signal {
                group.iter_mut().for_each(|reading| reading.signals.retain(|signal| signal.name == *name));
                group.retain(|reading| !reading.signals.is_empty());
            }
            if group.is_empty() {
                continue;
            }
            let node = &self.node;
            let decided = node.allow(&self.caller, Action::Read, &sensed(&self.patient, None, &node.org)).await?;
            let versions: Vec<Commitment> = group.iter().map(|reading| Commitment(reading.digest)).collect();
            let mut query = format!("Observation/$stream?patient={}", self.patient);
            if let Some(name) = &self.signal {
                query.push_str(&format!("&signal={name}"));
            }
            let trail = Trail {
                query: Some(query),
                under: decided.under,
                ..Trail::of(Interaction::Read, AccessAction::Frames)
            };
            node.leave_trail(&self.caller, Some(&self.patient), &versions, &[], &trail).await?;
            return Ok(group);
        }
    }

    async fn group(&mut self) -> Result<Option<Vec<Reading>>, Failure> {
        if self.is_behind {
            let (missed, more) = self.missed().await?;
            self.is_behind = more;
            if !missed.is_empty() {
                return Ok(Some(missed));
            }
        }
        let first = tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => return Ok(None),
            first = self.coming.recv() => first,
        };
        let mut group = match first {
            Ok(reading) => vec![Reading::clone(&reading)],
            Err(RecvError::Lagged(_)) => {
                self.is_behind = true;
                return Ok(Some(Vec::new()));
            }
            Err(RecvError::Closed) => return Ok(None),
        };
        while group.len() < TOGETHER_MAX {
            match self.coming.try_recv() {
                Ok(reading) => group.push(Reading::clone(&reading)),
                Err(TryRecvError::Lagged(_)) => {
                    // What is in hand is older than what was dropped.
                    self.is_behind = true;
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Some(group))
    }

    /// Frames in the database that were not shown, the oldest first, and whether there are more of them.
    async fn missed(&self) -> Result<(Vec<Reading>, bool), Failure> {
        let node = &self.node;
        let now = node.now();
        let of = FrameFilter::Patient(self.patient.clone());
        let mut query = FrameQuery { from: TimeMs(now.0.saturating_sub(RESUME_MS_MAX)), ..FrameQuery::of(of) };
        let mut by_binding: BTreeMap<Id16, Vec<(Frame, TimeMs)>> = BTreeMap::new();
        let (mut count, mut more) = (0, false);
        'pages: loop {
            let page = node.store.frames(query.clone()).await.map_err(crate::find::search_failure)?;
            for row in &page.frames {
                let Ok(device) = row.device.parse::<DeviceId>() else { continue };
                if self.shown.get(&device).is_some_and(|last| row.counter <= *last) {
                    continue;
                }
                if count == TOGETHER_MAX {
                    more = true;
                    break 'pages;
                }
                let Some(frame) = frame_of(row) else { continue };
                count += 1;
                by_binding.entry(row.binding).or_default().push((frame, row.received_at));
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let mut readings = Vec::with_capacity(count);
        for (binding, mut frames) in by_binding {
            frames.sort_unstable_by_key(|(frame, _)| frame.counter());
            let Some((first, _)) = frames.first() else { continue };
            let Some(ties) = node.ties(first, binding, &self.patient).await?.filter(|ties| ties.org == node.org) else {
                continue;
            };
            readings.extend(node.verified(&ties, frames).await?.0);
        }
        // Nothing of what there is bears out: then nothing more is to be had from there.
        more &= !readings.is_empty();
        readings.sort_by_key(|reading| (reading.measured_at, reading.counter));
        Ok((readings, more))
    }
}
