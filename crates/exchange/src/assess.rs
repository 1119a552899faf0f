//! Analytics at work: every patient's readings go through the rules, and what they find becomes records that cite their frames.
//!
//! Nothing here holds up a frame: readings wait in a bounded queue, and those that find it full are left out of the analytics, not of
//! the record.

mod cadence;
mod queue;

use self::{
    cadence::{Cadence, Due},
    queue::{Waiting, queues},
};
use crate::{
    bind::device_id,
    chart::Charted,
    failure::Failure,
    node::Node,
    run::{Content, Place, Run, Step, Telling},
    sense::Running,
    write::{Also, Draft, Trail},
};
use analytics::{Chart, Finding, Input, Measured, Monitor, Person, Severity, fhir};
use contract::{AccessAction, Event, Priority};
use record::{Commitment, Digest, Id16, TimeMs, fhir::Interaction};
use sensing::{Reading, Signal, Value};
use serde_json::Value as Json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// The most patients whose readings are assessed at the same time.
const PATIENTS_MAX: usize = 1_024;
/// The most readings of one patient that wait to be assessed.
const READINGS_LEN_MAX: usize = 4_096;
/// How often the patient's chart is read again.
const CHART_EVERY: Duration = Duration::from_secs(5 * 60);
/// A patient without readings for this long is no longer assessed.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How often a finding that could not be written is tried, and how long to wait before the next time. An alarm is tried for as long as the
/// database is away.
const WRITE_ATTEMPTS: u32 = 5;
const WRITE_RETRY: Duration = Duration::from_millis(200);
/// Who says nothing for so long, in milliseconds, is not watched.
const SILENT_MS: u64 = 60_000;
/// Rules whose findings are few, and come once in ten minutes: the engine waits until they are taken.
const NEVER_LEFT_OUT: [&str; 2] = ["hospital-mortality", "next-hour-forecast"];

/// The patients that are being assessed.
pub(crate) type Engines = Mutex<HashMap<String, mpsc::Sender<Fed>>>;

/// What a patient's engine takes in.
pub(crate) enum Fed {
    Reading(Box<Reading>),
    Acknowledged { alarm: String, at: TimeMs, by: String },
}

impl Node {
    /// Hands a reading to the patient's engine, which is started when there is none.
    pub(crate) fn feed(&self, patient: &str, reading: Reading) {
        let mut engines = self.sensing.engines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fed = Fed::Reading(Box::new(reading));
        if let Some(engine) = engines.get(patient) {
            match engine.try_send(fed) {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => {
                    tracing::warn!("analytics is behind: a reading is stored and not assessed");
                    return;
                }
                Err(TrySendError::Closed(back)) => fed = back,
            }
        }
        // The frames of readings that come while the node stops say the same to the next one.
        if *self.stopping().borrow() {
            return;
        }
        engines.retain(|_, engine| !engine.is_closed());
        if engines.len() >= PATIENTS_MAX {
            tracing::warn!("more patients than analytics takes: a reading is stored and not assessed");
            return;
        }
        let (engine, readings) = mpsc::channel(READINGS_LEN_MAX);
        // The queue is empty and its other end is held here.
        let _ = engine.try_send(fed);
        engines.insert(patient.to_owned(), engine);
        let running = self.sensing.an_engine_runs();
        self.sensing.threads.run(self.clone().run_engine(patient.to_owned(), readings, running));
    }

    /// Tells the patient's engine that somebody took notice of an alarm.
    pub(crate) async fn feed_acknowledged(&self, patient: &str, alarm: &str, at: TimeMs, by: &str) {
        let engine = self.sensing.engines.lock().unwrap_or_else(PoisonError::into_inner).get(patient).cloned();
        if let Some(engine) = engine {
            // An engine that has ended has no alarms to silence.
            let _ = engine.send(Fed::Acknowledged { alarm: alarm.to_owned(), at, by: by.to_owned() }).await;
        }
    }

    async fn run_engine(self, patient: String, mut fed: mpsc::Receiver<Fed>, _running: Running) {
        let (mut stopping, mut stops) = (self.stopping(), false);
        let Ok(run) = self.new_id() else {
            tracing::warn!("no random bytes for a run: readings are stored and not assessed");
            return;
        };
        let mut work = Work::new(run);
        let (charts, mut chart) = mpsc::channel(1);
        work.learn(self.charted(&patient).await);
        let reading = tokio::spawn(self.clone().read_charts(patient.clone(), charts));
        let mut cadence = Cadence::of(&patient);
        let (to_write, waiting) = queues(&patient, self.stopping());
        let run = Arc::clone(&work.run);
        let writer = tokio::spawn(self.clone().write_findings(patient.clone(), run, waiting));
        loop {
            let next = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping), if !stops => {
                    // What was taken before is assessed.
                    fed.close();
                    stops = true;
                    continue;
                }
                Some(learnt) = chart.recv() => {
                    work.learn(learnt);
                    continue;
                }
                next = tokio::time::timeout(IDLE, fed.recv()) => next,
            };
            let found = match next {
                Ok(Some(Fed::Reading(reading))) => {
                    self.meters.watched(work.goes_on(reading.measured_at));
                    work.assess(&reading)
                }
                // The record of it is the Communication; the engine only needs to know.
                Ok(Some(Fed::Acknowledged { alarm, at, by })) => {
                    work.acknowledge(&alarm, at, &by);
                    Vec::new()
                }
                Ok(None) => break,
                Err(_) => {
                    // What came in just now is still taken.
                    fed.close();
                    Vec::new()
                }
            };
            for found in found {
                let queue = match cadence.due(&found.finding) {
                    Due::Not => continue,
                    // Many come together where a device sends what it stored: they take turns as long as there is room.
                    Due::InTurn if to_write.in_turn.capacity() > 0 => &to_write.in_turn,
                    Due::AtOnce | Due::InTurn => &to_write.at_once,
                };
                // The writer ends only after these senders.
                if let Some(alarm) = &found.finding.alarm {
                    self.announce(&patient, &found.finding, alarm).await;
                    let _ = to_write.alarms.send(found).await;
                } else if NEVER_LEFT_OUT.contains(&found.finding.rule) {
                    let _ = queue.send(found).await;
                } else if let Err(error) = queue.try_send(found) {
                    let rule = error.into_inner().finding.rule;
                    tracing::warn!(rule, "findings come faster than they are written: one is left out");
                }
            }
        }
        reading.abort();
        drop(to_write);
        // A writer that was stopped has nothing more to say.
        let _ = writer.await;
    }

    /// Reads a patient's chart again and again, for as long as somebody takes it.
    async fn read_charts(self, patient: String, charts: mpsc::Sender<Learnt>) {
        loop {
            tokio::time::sleep(CHART_EVERY).await;
            if charts.send(self.charted(&patient).await).await.is_err() {
                return;
            }
        }
    }

    /// The patient's chart of now; an empty one where it cannot be read.
    async fn charted(&self, patient: &str) -> Learnt {
        let at = self.now();
        let chart = self.chart(patient, at).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a chart cannot be read: analytics know nothing of the person");
            Vec::new()
        });
        Learnt { at, chart }
    }

    async fn write_findings(self, patient: String, run: Arc<Mutex<Run>>, mut waiting: Waiting) {
        loop {
            let next = waiting.next().await;
            if next.is_empty() || !self.write_until_they_are(&patient, &run, &next).await {
                return;
            }
        }
    }

    /// Writes findings, and tries again where that fails, in the end each by itself. Whether there is time for others: not where that fails while
    /// the node stops.
    async fn write_until_they_are(&self, patient: &str, run: &Mutex<Run>, all: &[Found]) -> bool {
        for attempt in 1.. {
            let alarm = match all {
                [found] => found.finding.alarm.as_ref().map(|alarm| (found, alarm)),
                _ => None,
            };
            let written = match alarm {
                Some((found, alarm)) => self.write_alarm(patient, run, found, alarm).await,
                None => self.write_together(patient, run, all).await,
            };
            let Err(error) = written else { return true };
            let rules: Vec<&str> = all.iter().map(|found| found.finding.rule).collect();
            tracing::warn!(%error, ?rules, attempt, "findings were not written");
            // An alarm is on screens already, and nobody can answer it before it is written.
            let goes_on = alarm.is_some() && matches!(error, Failure::Unreachable | Failure::Busy);
            if attempt >= WRITE_ATTEMPTS && !goes_on {
                break;
            }
            if *self.stopping().borrow() && !matches!(error, Failure::Busy) {
                return false;
            }
            tokio::time::sleep(WRITE_RETRY * attempt.min(WRITE_ATTEMPTS)).await;
        }
        if let [_, _, ..] = all {
            // One of them may be what holds up the others.
            for found in all {
                if let Err(error) = self.write_together(patient, run, std::slice::from_ref(found)).await {
                    tracing::warn!(%error, rule = found.finding.rule, "a finding is left out");
                }
            }
        }
        true
    }

    /// Writes findings, all or none.
    async fn write_together(&self, patient: &str, run: &Mutex<Run>, all: &[Found]) -> Result<(), Failure> {
        let time = self.now();
        // Each says of the run what those before it leave to say, if they are all written.
        let ahead = Mutex::new(run.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut drafted = Vec::with_capacity(all.len());
        for found in all {
            let one = self.draft_finding(patient, &ahead, found, time).await?;
            self.allow_drafted(patient, &one).await?;
            if let Some(result) = one.drafts.first() {
                ahead.lock().unwrap_or_else(PoisonError::into_inner).told(&one.telling, result.name());
                drafted.push((found, one));
            }
        }
        self.commit_findings(patient, run, drafted, None).await
    }

    /// Decides whether the engine may write what was drafted.
    pub(crate) async fn allow_drafted(&self, patient: &str, drafted: &Drafted) -> Result<(), Failure> {
        let engine = self.engine();
        for draft in &drafted.drafts {
            self.allow_made(&engine, patient, draft).await?;
        }
        Ok(())
    }

    /// The resources that show a finding, as first versions; the first of them carries the run.
    pub(crate) async fn draft_finding(
        &self,
        patient: &str,
        run: &Mutex<Run>,
        found: &Found,
        time: TimeMs,
    ) -> Result<Drafted, Failure> {
        let subject = self.subject(patient).await?;
        let patient = format!("Patient/{patient}");
        let mut resources = show(&found.finding, &patient);
        let telling = run.lock().unwrap_or_else(PoisonError::into_inner).telling(found.place);
        if let Some(first) = resources.first_mut() {
            telling.put_into(first);
        }
        let drafts: Result<Vec<Draft>, Failure> =
            resources.iter().map(|resource| self.made(resource, &subject, time)).collect();
        Ok(Drafted { time, drafts: drafts?, telling })
    }

    /// Writes the records of findings that were drafted for the same time and decided over, for each the entry that ties the first of its
    /// records to its inputs and model, and an alarm's step beside them.
    pub(crate) async fn commit_findings(
        &self,
        patient: &str,
        run: &Mutex<Run>,
        all: Vec<(&Found, Drafted)>,
        alarm: Option<Event<'_>>,
    ) -> Result<(), Failure> {
        let Some(time) = all.first().map(|(_, drafted)| drafted.time) else { return Ok(()) };
        let engine = self.engine();
        let (mut drafts, mut results) = (Vec::new(), Vec::with_capacity(all.len()));
        for (found, drafted) in all {
            let Some(result) = drafted.drafts.first().map(Draft::name) else { continue };
            drafts.extend(drafted.drafts);
            results.push((found, result, drafted.telling));
        }
        let subject = self.subject(patient).await?;
        let author = self.author(&engine, time);
        let mut gathered = self.gather(&engine, time, drafts)?;
        for (Found { finding, charted, .. }, result, _) in &results {
            let inputs: Vec<Digest> = finding.inputs.iter().chain(charted).copied().collect();
            let priority = priority(finding.severity);
            let event = Event::Analysed { result, inputs: &inputs, model: finding.model, priority };
            self.also(&mut gathered, &author, &Also { subject: subject.clone(), event })?;
        }
        if let Some(event) = alarm {
            self.also(&mut gathered, &author, &Also { subject, event })?;
        }
        let trail = Trail::of(Interaction::Create, AccessAction::Write);
        self.commit(&engine, time, gathered, Vec::new(), &trail).await?;
        let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, result, telling) in results {
            run.told(&telling, result);
        }
        Ok(())
    }
}

/// What was found, and how far the run was.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) place: Place,
    /// What the ledger holds of the charted records that it cites.
    pub(crate) charted: Vec<Digest>,
}

/// Records that are about to be written, the first of which carries the run.
pub(crate) struct Drafted {
    pub(crate) time: TimeMs,
    pub(crate) drafts: Vec<Draft>,
    telling: Telling,
}

/// A chart that was read.
pub(crate) struct Learnt {
    pub(crate) at: TimeMs,
    pub(crate) chart: Vec<Charted>,
}

/// The rules at work on one patient, and the record of what they took in.
pub(crate) struct Work {
    monitor: Monitor,
    run: Arc<Mutex<Run>>,
    /// What the ledger holds of the records of the chart.
    chart: Vec<(String, Commitment)>,
    person: Option<Person>,
    /// When the latest reading was measured.
    latest: Option<TimeMs>,
}

impl Work {
    pub(crate) fn new(run: Id16) -> Self {
        let run = Arc::new(Mutex::new(Run::new(run)));
        Self { monitor: Monitor::new(&Person::default()), run, chart: Vec::new(), person: None, latest: None }
    }

    pub(crate) fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a chart, if it says something new.
    pub(crate) fn learn(&mut self, Learnt { at, chart: records }: Learnt) {
        let (said, names): (Vec<_>, Vec<_>) =
            records.into_iter().map(|one| (one.said.clone(), (one.said.record, one.commitment))).unzip();
        let chart = Chart::read(&said, at);
        if self.person == Some(chart.person) && self.chart == names {
            return;
        }
        let records = names.iter().map(|(record, _)| record.clone()).collect();
        self.run().take(Step::Chart { at, records }, &Content::Chart(at, &names), None);
        (self.chart, self.person) = (names, Some(chart.person));
        self.monitor.know(&chart);
    }

    /// For how long the patient was watched from the reading before to this one, in milliseconds; not over a silence.
    fn goes_on(&mut self, at: TimeMs) -> u64 {
        let since = self.latest.map_or(0, |latest| at.0.saturating_sub(latest.0));
        self.latest = self.latest.max(Some(at));
        if since > SILENT_MS { 0 } else { since }
    }

    pub(crate) fn assess(&mut self, reading: &Reading) -> Vec<Found> {
        // Every device is bound by the id of its Device.
        let Some(device) = device_id(&reading.device) else { return Vec::new() };
        let step = Step::Frame { device: device.to_owned(), counter: reading.counter };
        let place = {
            let mut run = self.run();
            run.take(step, &Content::Frame(&reading.digest), Some(reading.measured_at));
            run.place()
        };
        let found = assess(&mut self.monitor, reading.digest, reading.measured_at, &reading.signals);
        let commitment = |record: &String| self.chart.iter().find(|(known, _)| known == record).map(|(_, held)| held.0);
        let found = found.into_iter().map(|finding| {
            let charted = finding.records.iter().filter_map(commitment).collect();
            Found { finding, place, charted }
        });
        found.collect()
    }

    pub(crate) fn acknowledge(&mut self, alarm: &str, at: TimeMs, by: &str) {
        let step = Step::Acknowledged { alarm: alarm.to_owned(), at };
        self.run().take(step, &Content::Acknowledged(alarm, at), None);
        self.monitor.acknowledge(alarm, at, by);
    }
}

/// The resources that show a finding. A frame's Observation is named by the frame's digest: no reference could be more exact.
pub(crate) fn show(finding: &Finding, patient: &str) -> Vec<Json> {
    let frames: Vec<String> = finding.inputs.iter().map(frame_reference).collect();
    fhir::resources(finding, &fhir::Context { patient, derived_from: &frames, engine: None })
}

/// The Observation that shows a frame.
pub(crate) fn frame_reference(digest: &Digest) -> String {
    format!("Observation/{digest}/_history/1")
}

pub(crate) fn priority(severity: Severity) -> Option<Priority> {
    match severity {
        Severity::None => None,
        Severity::Low => Some(Priority::Low),
        Severity::Medium => Some(Priority::Medium),
        Severity::High => Some(Priority::High),
    }
}

/// Runs the rules over the signals of one frame, measured from `measured_at` on.
pub fn assess(monitor: &mut Monitor, frame: Digest, measured_at: TimeMs, signals: &[Signal]) -> Vec<Finding> {
    let mut found = Vec::new();
    for signal in signals {
        let samples;
        let value = match &signal.value {
            Value::Number { value, .. } => Measured::Number(value.to_f64()),
            Value::Code(code) => Measured::Code(code),
            Value::Absent(_) => Measured::Absent,
            Value::Waveform(wave) => {
                samples = wave.physical();
                Measured::Wave { rate_hz: wave.rate_hz.to_f64(), values: &samples }
            }
        };
        let at = TimeMs(measured_at.0.saturating_add_signed(signal.offset_ms));
        found.extend(monitor.take(&Input { frame, signal: &signal.name, at, value }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::parse;
    use sensing::{
        Binding, DeviceState, Sequence, SigningKey, admit_frame,
        generated::{Story, Wearer},
    };
    use std::collections::BTreeSet;

    const PATIENT: &str = "Patient/p1";

    /// Eleven minutes of a bleeding patient through one device, from signed frames to findings.
    pub(super) fn findings() -> Vec<Finding> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let device = crate::device_name("d1").unwrap();
        let start = TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap();
        let binding = Binding {
            device: device.clone(),
            key: key.verifying_key(),
            patient: PATIENT.to_owned(),
            binding: record::Id16([3; 16]),
            from: start,
            until: None,
        };
        let mut sequence = Sequence::new(device, key);
        let mut wearer = Wearer::new(1, Story::Haemorrhage { onset_s: 420.0, duration_s: 120.0 }, 250);
        let mut monitor = Monitor::new(&Person { age_years: Some(52), ..Person::default() });
        let mut state = DeviceState::default();
        let mut found = Vec::new();
        for second in 0..660u64 {
            let at = start.plus_ms(second * 1_000);
            let frame = sequence.next(at, wearer.next_second().signals).unwrap();
            let (reading, next) = admit_frame(frame, &binding, &state, at).unwrap();
            state = next;
            found.extend(assess(&mut monitor, reading.digest, reading.measured_at, &reading.signals));
        }
        found
    }

    #[test]
    fn a_deteriorating_patient_shows_all_four_kinds_as_valid_fhir() {
        let found = findings();
        let mut cadence = Cadence::of("p1");
        let written: Vec<&Finding> = found.iter().filter(|finding| cadence.due(finding) != Due::Not).collect();
        let mut shown = BTreeSet::new();
        for finding in &written {
            for resource in show(finding, PATIENT) {
                parse(&resource).unwrap_or_else(|e| panic!("{e}: {resource}"));
                shown.insert(format!("{} {}", finding.rule, resource["resourceType"].as_str().unwrap()));
            }
        }
        for wanted in [
            "alarm-limits DetectedIssue",
            "alarm-limits Flag",
            "ecg-heart-rate Observation",
            "news2 Observation",
            "trend-forecast RiskAssessment",
            "window-summary Observation",
        ] {
            assert!(shown.contains(wanted), "no {wanted} in {shown:?}");
        }
        let forecast = |finding: &&&Finding| finding.rule == "trend-forecast" && finding.complete;
        assert!(written.iter().any(|finding| forecast(&finding)), "no forecast has an interval after ten minutes");
        assert!(written.iter().all(|finding| !finding.inputs.is_empty()), "a finding cites nothing");
        // About one finding of each rule and signal in a minute.
        assert!(written.len() < 440, "{} findings of {} would be written", written.len(), found.len());
    }
}
