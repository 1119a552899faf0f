//! What sensors say, as it comes: a patient's readings and alarms for as long as somebody looks, under the decision and the trace of a read.
//!
//! Whoever is slow is not waited for and loses nothing: what the queue could not hold is read from the database, from the last frame shown, and
//! alarms that are not over are shown again.

use crate::{
    bind::sensed, boxed, caller::Caller, facts::Target, failure::Failure, kept::frame_of, node::Node, write::Trail,
};
use contract::AccessAction;
use policy::Action;
use record::{Commitment, Id16, TimeMs, fhir::Interaction};
use sensing::{DeviceId, Frame, Reading};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{FrameFilter, FrameQuery};
use tokio::{
    sync::{
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    time::Instant,
};

/// Readings and alarms of a patient that wait for somebody slow; more are read from the database.
const WAITING_LEN_MAX: usize = 256;
/// The most readings that are shown under one trace.
const TOGETHER_MAX: usize = 64;
/// How long a reading waits for others to be shown with it.
const GATHER: Duration = Duration::from_millis(100);
/// How far back a stream goes on from a frame, in milliseconds: an hour. What is older is read as a recording.
const RESUME_MS_MAX: u64 = 3_600_000;
/// Patients who are looked at, at the same time.
const PATIENTS_MAX: usize = 4_096;

/// Who is looked at.
pub(crate) type Streams = Mutex<HashMap<String, broadcast::Sender<Arc<Told>>>>;

/// Something that a stream shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A frame that was admitted.
    Reading(Box<Reading>),
    /// An alarm as it stands after a change, in the form of the list of alarms.
    Alarm(Value),
    /// The sound of the patient's alarms is paused, by whom and until when.
    Paused(Value),
}

/// A stream of one patient's readings.
pub struct Live {
    node: Node,
    caller: Caller,
    patient: String,
    signal: Option<String>,
    coming: broadcast::Receiver<Arc<Told>>,
    stopping: watch::Receiver<bool>,
    /// The last frame of each device that was shown, or that stood before the stream began.
    shown: HashMap<DeviceId, u64>,
    /// Whether there may be frames in the database that were not shown.
    is_behind: bool,
    /// Whether there may be open alarms that were not shown.
    owes_alarms: bool,
}

impl Node {
    /// Begins a stream of a patient's readings, of all signals or one. It goes on `after` the frames of these counters by device, where
    /// they are given and an hour old at most.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
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
        for attached in self.sensing.attached_to(patient) {
            let attached = attached.lock().await;
            shown.insert(attached.binding().device.clone(), attached.state().last_counter);
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
            owes_alarms: true,
        })
    }

    /// Shows a reading to whoever looks at the patient.
    pub(crate) fn show(&self, patient: &str, reading: &Reading) {
        self.tell(patient, || Told::Reading(Box::new(reading.clone())));
    }

    /// Shows something to whoever looks at the patient.
    pub(crate) fn tell(&self, patient: &str, told: impl FnOnce() -> Told) {
        let streams = self.sensing.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(patient) {
            // Nobody may be left to hear it.
            let _ = stream.send(Arc::new(told()));
        }
    }
}

impl Live {
    /// What is next, one reading or alarm at least; each reading once and those of a device in their order; nothing when the node stops. Each group
    /// is decided over, and in the patient's trail before it is given. Fails when the caller may not look any more. Alarms are left out where
    /// the caller may look at sensors but not at alarms.
    #[boxed]
    pub async fn next(&mut self) -> Result<Vec<Told>, Failure> {
        loop {
            let Some(mut group) = self.group().await? else { return Ok(Vec::new()) };
            group.retain_mut(|told| match told {
                Told::Reading(reading) => self.is_new(reading),
                Told::Alarm(_) | Told::Paused(_) => true,
            });
            if group.iter().any(|told| !matches!(told, Told::Reading(_))) && !self.may_see_alarms().await? {
                group.retain(|told| matches!(told, Told::Reading(_)));
            }
            if group.is_empty() {
                continue;
            }
            let node = &self.node;
            let decided = node.allow(&self.caller, Action::Read, &sensed(&self.patient, None, &node.org)).await?;
            let (mut versions, mut names) = (Vec::new(), Vec::new());
            for told in &group {
                match told {
                    Told::Reading(reading) => versions.push(Commitment(reading.digest)),
                    Told::Paused(_) => {}
                    Told::Alarm(alarm) => names.extend(alarm["issue"].as_str().map(str::to_owned)),
                }
            }
            let mut query = format!("Observation/$stream?patient={}", self.patient);
            if let Some(name) = &self.signal {
                query.push_str(&format!("&signal={name}"));
            }
            let trail = Trail {
                query: Some(query),
                under: decided.under,
                ..Trail::of(Interaction::Read, AccessAction::Frames)
            };
            node.leave_trail(&self.caller, Some(&self.patient), &versions, &names, &trail).await?;
            return Ok(group);
        }
    }

    /// Whether a reading was not shown yet; leaves of it the signal that is asked for.
    fn is_new(&mut self, reading: &mut Reading) -> bool {
        if self.shown.get(&reading.device).is_some_and(|last| reading.counter <= *last) {
            return false;
        }
        self.shown.insert(reading.device.clone(), reading.counter);
        let Some(name) = &self.signal else { return true };
        reading.signals.retain(|signal| signal.name == *name);
        !reading.signals.is_empty()
    }

    async fn may_see_alarms(&self) -> Result<bool, Failure> {
        let node = &self.node;
        let target = Target {
            rtype: "DetectedIssue",
            id: None,
            patient: Some(&self.patient),
            label: "N",
            author: &node.org,
            value: None,
        };
        Ok(node.decide(&self.caller, Action::Read, &target).await?.decision.allow)
    }

    async fn group(&mut self) -> Result<Option<Vec<Told>>, Failure> {
        if self.owes_alarms {
            self.owes_alarms = false;
            let open = self.node.open_alarms(&self.patient).await?;
            let paused = self.node.paused(&self.patient).await?;
            if !open.is_empty() || paused.is_some() {
                let paused = paused.into_iter().map(Told::Paused);
                return Ok(Some(paused.chain(open.into_iter().map(Told::Alarm)).collect()));
            }
        }
        if self.is_behind {
            let (missed, more) = self.missed().await?;
            self.is_behind = more;
            if !missed.is_empty() {
                return Ok(Some(missed.into_iter().map(|reading| Told::Reading(Box::new(reading))).collect()));
            }
        }
        let first = tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => return Ok(None),
            first = self.coming.recv() => first,
        };
        let mut group = match first {
            Ok(told) => vec![Told::clone(&told)],
            Err(RecvError::Lagged(_)) => {
                (self.is_behind, self.owes_alarms) = (true, true);
                return Ok(Some(Vec::new()));
            }
            Err(RecvError::Closed) => return Ok(None),
        };
        let until = Instant::now() + GATHER;
        while group.len() < TOGETHER_MAX {
            // Readings wait for those that come with them, so that one trace is of all; an alarm waits for nothing.
            let waits = group.iter().all(|told| matches!(told, Told::Reading(_)));
            let next = match self.coming.try_recv() {
                Err(TryRecvError::Empty) if waits => match tokio::time::timeout_at(until, self.coming.recv()).await {
                    Ok(Ok(told)) => Ok(told),
                    Ok(Err(RecvError::Lagged(count))) => Err(TryRecvError::Lagged(count)),
                    Ok(Err(RecvError::Closed)) | Err(_) => Err(TryRecvError::Empty),
                },
                next => next,
            };
            match next {
                Ok(told) => group.push(Told::clone(&told)),
                Err(TryRecvError::Lagged(_)) => {
                    // What is in hand is older than what was dropped.
                    (self.is_behind, self.owes_alarms) = (true, true);
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
