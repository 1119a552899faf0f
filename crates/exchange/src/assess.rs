//! Analytics at work: every patient's readings go through the rules, and what they find becomes records that cite their frames.
//!
//! Nothing here holds up a frame: readings wait in a bounded queue, and those that find it full are left out of the analytics, not of
//! the record.

use crate::{
    failure::Failure,
    node::Node,
    write::{Also, Draft, Trail},
};
use analytics::{Finding, Input, Measured, Monitor, Person, Severity, fhir};
use contract::{AccessAction, Event, Priority};
use policy::Action;
use record::{Digest, TimeMs, fhir::Interaction};
use sensing::{Reading, Signal, Value};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// The most patients whose readings are assessed at the same time.
const PATIENTS_MAX: usize = 1_024;
/// The most readings of one patient that wait to be assessed.
const READINGS_LEN_MAX: usize = 4_096;
/// The most findings of one patient that wait to be written.
const FINDINGS_LEN_MAX: usize = 256;
/// A patient without readings for this long is no longer assessed.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How often a finding that could not be written is tried, and how long to wait before the next time.
const WRITE_ATTEMPTS: u32 = 5;
const WRITE_RETRY: Duration = Duration::from_millis(200);
/// Findings of one rule about one signal are written at most once in so many milliseconds of signal, unless they are more serious.
const WRITTEN_EVERY_MS: u64 = 5_000;
/// NEWS2 moves with every value at a boundary: at most once in so many milliseconds.
const NEWS2_WRITTEN_EVERY_MS: u64 = 15_000;

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
        engines.retain(|_, engine| !engine.is_closed());
        if engines.len() >= PATIENTS_MAX {
            tracing::warn!("more patients than analytics takes: a reading is stored and not assessed");
            return;
        }
        let (engine, readings) = mpsc::channel(READINGS_LEN_MAX);
        // The queue is empty and its other end is held here.
        let _ = engine.try_send(fed);
        engines.insert(patient.to_owned(), engine);
        tokio::spawn(self.clone().run_engine(patient.to_owned(), readings));
    }

    /// Tells the patient's engine that somebody took notice of an alarm.
    pub(crate) async fn feed_acknowledged(&self, patient: &str, alarm: &str, at: TimeMs, by: &str) {
        let engine = self.sensing.engines.lock().unwrap_or_else(PoisonError::into_inner).get(patient).cloned();
        if let Some(engine) = engine {
            // An engine that has ended has no alarms to silence.
            let _ = engine.send(Fed::Acknowledged { alarm: alarm.to_owned(), at, by: by.to_owned() }).await;
        }
    }

    async fn run_engine(self, patient: String, mut fed: mpsc::Receiver<Fed>) {
        let mut stopping = self.stopping();
        let person = self.person(&patient).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the patient's age is unknown to analytics");
            Person::default()
        });
        let mut monitor = Monitor::new(&person);
        let mut cadence = Cadence::default();
        let (findings, to_write) = mpsc::channel(FINDINGS_LEN_MAX);
        let writer = tokio::spawn(self.clone().write_findings(patient, to_write));
        loop {
            let next = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                next = tokio::time::timeout(IDLE, fed.recv()) => next,
            };
            let found = match next {
                Ok(Some(Fed::Reading(reading))) => {
                    assess(&mut monitor, reading.digest, reading.measured_at, &reading.signals)
                }
                // The record of it is the Communication; the engine only needs to know.
                Ok(Some(Fed::Acknowledged { alarm, at, by })) => {
                    monitor.acknowledge(&alarm, at, &by);
                    Vec::new()
                }
                Ok(None) => break,
                Err(_) => {
                    // What came in just now is still taken.
                    fed.close();
                    Vec::new()
                }
            };
            for finding in found.into_iter().filter(|finding| cadence.is_due(finding)) {
                if finding.alarm.is_some() {
                    // An alarm is never left out. The writer ends only after this sender.
                    let _ = findings.send(finding).await;
                } else if findings.try_send(finding).is_err() {
                    tracing::warn!("findings come faster than they are written: one is left out");
                }
            }
        }
        drop(findings);
        // A writer that was stopped has nothing more to say.
        let _ = writer.await;
    }

    async fn write_findings(self, patient: String, mut findings: mpsc::Receiver<Finding>) {
        while let Some(finding) = findings.recv().await {
            for attempt in 1..=WRITE_ATTEMPTS {
                let written = match &finding.alarm {
                    Some(alarm) => self.write_alarm(&patient, &finding, alarm).await,
                    None => self.write_finding(&patient, &finding).await,
                };
                match written {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, rule = finding.rule, attempt, "a finding was not written"),
                }
                if *self.stopping().borrow() {
                    return;
                }
                tokio::time::sleep(WRITE_RETRY * attempt).await;
            }
        }
    }

    async fn write_finding(&self, patient: &str, finding: &Finding) -> Result<(), Failure> {
        let time = self.now();
        let drafts = self.draft_finding(patient, finding, time).await?;
        self.commit_finding(patient, finding, (time, drafts), None).await
    }

    /// The resources that show a finding, as first versions.
    pub(crate) async fn draft_finding(
        &self,
        patient: &str,
        finding: &Finding,
        time: TimeMs,
    ) -> Result<Vec<Draft>, Failure> {
        let subject = self.subject(patient).await?;
        let patient = format!("Patient/{patient}");
        let resources = show(finding, &patient);
        resources.iter().map(|resource| self.made(resource, &subject, time)).collect()
    }

    /// Writes a finding's records at the time that they were drafted for, the entry that ties the first of them to its inputs and model, and
    /// the alarm's step beside it.
    pub(crate) async fn commit_finding(
        &self,
        patient: &str,
        finding: &Finding,
        (time, drafts): (TimeMs, Vec<Draft>),
        alarm: Option<Event<'_>>,
    ) -> Result<(), Failure> {
        let engine = self.engine();
        let Some(result) = drafts.first().map(Draft::name) else { return Ok(()) };
        for draft in &drafts {
            let target = crate::facts::Target {
                rtype: &draft.rtype,
                id: Some(&draft.id),
                patient: Some(patient),
                label: &draft.label,
                author: &self.org,
                value: Some((&draft.value).into()),
            };
            self.allow(&engine, Action::Create, &target).await?;
        }
        let subject = self.subject(patient).await?;
        let author = self.author(&engine, time);
        let mut gathered = self.gather(&engine, time, drafts)?;
        let event = Event::Analysed {
            result: &result,
            inputs: &finding.inputs,
            model: finding.model,
            priority: priority(finding.severity),
        };
        for event in std::iter::once(event).chain(alarm) {
            self.also(&mut gathered, &author, &Also { subject: subject.clone(), event })?;
        }
        let trail = Trail::of(Interaction::Create, AccessAction::Write);
        self.commit(&engine, time, gathered, Vec::new(), &trail).await
    }

    /// What scores must know of a patient, from the Patient record as far as it agrees with the ledger.
    async fn person(&self, patient: &str) -> Result<Person, Failure> {
        let Some((row, worth)) = self.current_row("Patient", patient).await? else { return Ok(Person::default()) };
        let value: Json = serde_json::from_slice(&row.bytes).unwrap_or_default();
        let born = value["birthDate"].as_str().filter(|_| worth.may_be_shown());
        let age_years = born.and_then(|born| age_years(born, &self.now().to_instant()));
        Ok(Person { age_years, ..Person::default() })
    }
}

/// The resources that show a finding. A frame's Observation is named by the frame's digest: no reference could be more exact.
fn show(finding: &Finding, patient: &str) -> Vec<Json> {
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

/// When a finding of each rule and signal was last written, and how serious it was.
#[derive(Default)]
struct Cadence {
    last: BTreeMap<(&'static str, Option<String>), (TimeMs, Severity)>,
}

impl Cadence {
    /// Whether a finding is to be written. Alarms always are.
    fn is_due(&mut self, finding: &Finding) -> bool {
        if finding.alarm.is_some() {
            return true;
        }
        let every_ms = if finding.rule == "news2" { NEWS2_WRITTEN_EVERY_MS } else { WRITTEN_EVERY_MS };
        let key = (finding.rule, finding.signal.clone());
        let due = self.last.get(&key).is_none_or(|(at, severity)| {
            finding.severity > *severity || finding.until.0.saturating_sub(at.0) >= every_ms || finding.until < *at
        });
        if due {
            self.last.insert(key, (finding.until, finding.severity));
        }
        due
    }
}

/// Whole years from a FHIR date to an instant. Of a date without day or month the latest possible day counts.
fn age_years(born: &str, now: &str) -> Option<u16> {
    let year = |text: &str| text.get(..4)?.parse::<u16>().ok();
    let latest = match born.len() {
        4 => "12-31".to_owned(),
        7 => format!("{}-31", born.get(5..)?),
        _ => born.get(5..10)?.to_owned(),
    };
    let had_birthday = latest.as_str() <= now.get(5..10)?;
    year(now)?.checked_sub(year(born)?)?.checked_sub(u16::from(!had_birthday))
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
    fn findings() -> Vec<Finding> {
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
        let mut cadence = Cadence::default();
        let written: Vec<&Finding> = found.iter().filter(|finding| cadence.is_due(finding)).collect();
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
        // About one finding of each rule and signal in five seconds at most.
        assert!(written.len() < 660, "{} findings of {} would be written", written.len(), found.len());
    }

    #[test]
    fn a_finding_is_written_again_when_it_is_due_or_more_serious() {
        let heart_rate = findings().into_iter().find(|finding| finding.rule == "ecg-heart-rate").unwrap();
        let mut cadence = Cadence::default();
        let mut check = |ms: u64, severity, expected| {
            let finding = Finding { until: TimeMs(1_000_000 + ms), severity, ..heart_rate.clone() };
            assert_eq!(cadence.is_due(&finding), expected, "{ms} {severity:?}");
        };
        check(0, Severity::None, true);
        check(1_000, Severity::None, false);
        check(2_000, Severity::Medium, true);
        check(3_000, Severity::Medium, false);
        check(7_000, Severity::None, true);
    }

    #[test]
    fn ages_are_whole_years_and_never_too_high() {
        let check = |born, expected| assert_eq!(age_years(born, "2026-11-21T10:00:00.000Z"), expected, "{born}");
        check("1974-06-11", Some(52));
        check("1974-11-21", Some(52));
        check("1974-11-22", Some(51));
        check("1974", Some(51));
        check("1974-10", Some(52));
        check("1974-11", Some(51));
        check("2026-11-20", Some(0));
        check("2030-01-01", None);
        check("x", None);
    }
}
