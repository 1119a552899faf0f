//! Alarms at limits of vital signs, and when a sensor falls silent.
//!
//! Source: states and delays, IEC 60601-1-8; limits of high priority, the single values that score 3 in NEWS2 (Royal College of
//! Physicians, 2017), of medium priority, those that score 2.

use super::{Author, Rule, Watch, window_summary::unit_of};
use crate::{
    alarm::{AlarmSpec, AlarmState, AlarmStep},
    ecg::Stretch,
    finding::{Alarm, Cited, Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
};
use record::TimeMs;

/// An alarm's limit. A value at the limit is a condition.
#[derive(Debug, Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// From the first on, and below the second: there an alarm of higher priority begins.
    Within(f64, f64),
    /// The sensor says that it has no value, or says nothing for this many milliseconds.
    Silent(u64),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: &'static str,
    signal: &'static str,
    limit: Limit,
    priority: Severity,
    spec: AlarmSpec,
}

/// Monitored values must stay beyond a limit for ten seconds.
const MONITORED: AlarmSpec =
    AlarmSpec { condition_delay_ms: 10_000, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: true };
/// A cuff measures once in minutes: one value counts.
const CUFF: AlarmSpec = AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: 0, latching: true };
/// A technical alarm ends by itself when the sensor is back.
const TECHNICAL: AlarmSpec =
    AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: 2_000, latching: false };

const fn entry(name: &'static str, signal: &'static str, limit: Limit, priority: Severity, spec: AlarmSpec) -> Entry {
    Entry { name, signal, limit, priority, spec }
}

const ENTRIES: &[Entry] = &[
    entry("spo2-low", "spo2", Limit::AtMost(91.0), Severity::High, MONITORED),
    entry("heart-rate-low", "heart-rate", Limit::AtMost(40.0), Severity::High, MONITORED),
    entry("heart-rate-high", "heart-rate", Limit::AtLeast(131.0), Severity::High, MONITORED),
    entry("heart-rate-raised", "heart-rate", Limit::Within(111.0, 131.0), Severity::Medium, MONITORED),
    entry("resp-rate-low", "resp-rate", Limit::AtMost(8.0), Severity::High, MONITORED),
    entry("resp-rate-high", "resp-rate", Limit::AtLeast(25.0), Severity::High, MONITORED),
    entry("systolic-low", "nibp-sys", Limit::AtMost(90.0), Severity::High, CUFF),
    entry("systolic-high", "nibp-sys", Limit::AtLeast(220.0), Severity::High, CUFF),
    entry("temperature-low", "temp-body", Limit::AtMost(35.0), Severity::Medium, MONITORED),
    entry("spo2-silent", "spo2", Limit::Silent(15_000), Severity::Low, TECHNICAL),
    entry("heart-rate-silent", "heart-rate", Limit::Silent(15_000), Severity::Low, TECHNICAL),
];

/// An ECG that could be trusted within so many milliseconds before counts its own beats: its alarms stand, and those at limits of the rate that a
/// monitor sends stand back, so that one heart sounds once.
const ECG_STANDS_MS: u64 = 10_000;
/// Alarms that stand back.
const STAND_BACK: [&str; 2] = ["heart-rate-low", "heart-rate-high"];

/// Frames cited by one alarm: those since its condition began, at most this many.
const ALARM_FRAMES_MAX: usize = 32;

pub(super) const RULE: Rule = Rule {
    id: "alarm-limits",
    version: 2,
    kind: Kind::EventTriggered,
    title: "Alarms at limits of vital signs",
    source: "IEC 60601-1-8; limits of Royal College of Physicians, NEWS2, 2017",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "alarm-limits", "Alarm at a limit of a vital sign")],
    parameters: || {
        let mut out = vec![("ecg_stands_ms".to_owned(), ECG_STANDS_MS as f64)];
        for entry in ENTRIES {
            let (sense, limit) = match entry.limit {
                Limit::AtMost(limit) => ("at-most", limit),
                Limit::AtLeast(limit) => ("at-least", limit),
                Limit::Within(limit, below) => {
                    out.push((format!("{}.below", entry.name), below));
                    ("at-least", limit)
                }
                Limit::Silent(ms) => ("silent-ms", ms as f64),
            };
            out.push((format!("{}.{sense}", entry.name), limit));
            out.push((format!("{}.condition_delay_ms", entry.name), entry.spec.condition_delay_ms as f64));
            out.push((format!("{}.generation_delay_ms", entry.name), entry.spec.generation_delay_ms as f64));
            out.push((format!("{}.clear_delay_ms", entry.name), entry.spec.clear_delay_ms as f64));
            out.push((format!("{}.latching", entry.name), f64::from(u8::from(entry.spec.latching))));
            out.push((format!("{}.priority", entry.name), f64::from(entry.priority as u8)));
        }
        out
    },
    start: |rule, _: &Person| {
        let author = Author::of(rule);
        Box::new(Alarms {
            ecg_until: None,
            alarms: ENTRIES.iter().map(|entry| Sounding::new(author, *entry)).collect(),
        })
    },
};

#[derive(Debug)]
struct Alarms {
    alarms: Vec<Sounding>,
    /// Until when an ECG told its own rate.
    ecg_until: Option<TimeMs>,
}

#[derive(Debug)]
struct Sounding {
    author: Author,
    entry: Entry,
    state: AlarmState,
    value: Option<f64>,
    /// When the signal last had a value.
    heard: Option<TimeMs>,
    cited: Cited,
}

impl Sounding {
    fn new(author: Author, entry: Entry) -> Self {
        Self { author, entry, state: AlarmState::Quiet, value: None, heard: None, cited: Cited::default() }
    }

    /// One that sounds goes on to its end.
    fn stands_back(&self) -> bool {
        STAND_BACK.contains(&self.entry.name) && !matches!(self.state, AlarmState::Sounding { .. })
    }

    fn step(&mut self, input: &Input<'_>) -> Option<Finding> {
        let own = input.signal == self.entry.signal;
        let number = input.value.number().filter(|_| own);
        if number.is_some() {
            (self.value, self.heard) = (number, Some(input.at));
        }
        let condition = match (self.entry.limit, number) {
            (Limit::AtMost(limit), Some(value)) => value <= limit,
            (Limit::AtLeast(limit), Some(value)) => value >= limit,
            (Limit::Within(limit, below), Some(value)) => (limit..below).contains(&value),
            (Limit::Silent(ms), _) => {
                // Every input tells the time; a sensor that never spoke is not missed.
                let silent = self.heard.is_some_and(|heard| input.at.0.saturating_sub(heard.0) > ms);
                silent || (own && self.heard.is_some() && input.value == Measured::Absent)
            }
            // No value is no reason to end an alarm, and none to raise one.
            _ => return None,
        };
        if condition && self.cited.list().len() < ALARM_FRAMES_MAX {
            self.cited.add(input.frame);
        }
        let (state, step) = self.state.observe(&self.entry.spec, input.at, condition);
        self.state = state;
        if let Some(AlarmStep::Ended { .. }) = step {
            self.cited.add(input.frame);
        }
        let finding = step.map(|step| self.finding(step, input.at, None));
        if state == AlarmState::Quiet {
            self.cited = Cited::default();
        }
        finding
    }

    fn finding(&self, step: AlarmStep, at: TimeMs, by: Option<&str>) -> Finding {
        let (since, change) = step.told(by);
        let technical = matches!(self.entry.limit, Limit::Silent(_));
        let unit = unit_of(self.entry.signal);
        let value = self.value.filter(|_| !technical).map(|value| Measure { name: "value", value, unit });
        let limit = match self.entry.limit {
            Limit::AtMost(value) | Limit::AtLeast(value) | Limit::Within(value, _) => {
                Measure { name: "limit", value, unit }
            }
            Limit::Silent(ms) => Measure { name: "limit", value: ms as f64, unit: "ms" },
        };
        Finding {
            signal: Some(self.entry.signal.to_owned()),
            severity: self.entry.priority,
            measures: value.into_iter().chain([limit]).collect(),
            alarm: Some(Alarm {
                name: self.entry.name,
                change,
                technical,
                condition_since: since,
                latching: self.entry.spec.latching,
            }),
            ..self.author.finding(since, at, self.cited.list())
        }
    }
}

impl Watch for Alarms {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let ecg_stands = self.ecg_until.is_some_and(|until| input.at.0.saturating_sub(until.0) <= ECG_STANDS_MS);
        for alarm in &mut self.alarms {
            if ecg_stands && alarm.stands_back() {
                alarm.state = AlarmState::Quiet;
                alarm.cited = Cited::default();
                continue;
            }
            out.extend(alarm.step(input));
        }
    }

    fn ecg(&mut self, stretch: &Stretch<'_>, _out: &mut Vec<Finding>) {
        if stretch.quality.beats_count() && !stretch.beats.is_empty() {
            self.ecg_until = Some(stretch.until);
        }
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        for alarm in self.alarms.iter_mut().filter(|alarm| alarm.entry.name == name) {
            let (state, step) = alarm.state.acknowledge();
            alarm.state = state;
            out.extend(step.map(|step| alarm.finding(step, at, Some(by))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        monitor::Monitor,
        recorded::{Part, Recorded},
    };
    use expect_test::{Expect, expect};
    use record::sha256;

    /// One value of a signal a second, `-` for none said, `x` for a sensor that is off; then what the alarms did.
    fn check(signal: &str, seconds: &str, expect: Expect) {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut told = String::new();
        for (second, word) in seconds.split_whitespace().enumerate() {
            let at = TimeMs(second as u64 * 1_000);
            let mut out = Vec::new();
            let frame = sha256(&[&second.to_be_bytes()]);
            let value = match word {
                "x" => Measured::Absent,
                _ => word.parse().map_or(Measured::Code("none"), Measured::Number),
            };
            let name = if word == "-" { "gsr" } else { signal };
            watch.take(&Input { frame, signal: name, at, value }, &mut out);
            if word == "-" && second == 40 {
                watch.acknowledge("spo2-low", at, "Practitioner/1", &mut out);
            }
            for finding in out {
                let alarm = finding.alarm.unwrap();
                let kind = if alarm.technical { "technical" } else { "physiological" };
                told += &format!(
                    "{second} {} {:?} {kind} {:?}, {} frames\n",
                    alarm.name,
                    alarm.change,
                    finding.severity,
                    finding.inputs.len()
                );
            }
        }
        expect.assert_eq(&told);
    }

    #[test]
    fn a_heart_that_an_ecg_counts_too_sounds_once() {
        let parts = [Part::Sinus { per_min: 75.0, seconds: 30.0 }, Part::Sinus { per_min: 150.0, seconds: 60.0 }];
        let record = Recorded::made(53, 250.0, 0.01, &parts);
        let raised = |with_ecg: bool| {
            let mut monitor = Monitor::new(&Person::default());
            let mut names = Vec::new();
            for (second, values) in record.leads[0].chunks_exact(250).enumerate() {
                let (frame, at) = (sha256(&[&second.to_be_bytes()]), TimeMs(second as u64 * 1_000));
                let rate = if second < 30 { 75.0 } else { 150.0 };
                let wave = Measured::Wave { rate_hz: 250.0, values };
                let inputs = [("heart-rate", Measured::Number(rate)), ("ecg-ii", wave)];
                for (signal, value) in inputs.into_iter().take(if with_ecg { 2 } else { 1 }) {
                    names.extend(
                        monitor
                            .take(&Input { frame, signal, at, value })
                            .iter()
                            .filter_map(|finding| Some(finding.alarm.as_ref()?.name)),
                    );
                }
            }
            names
        };
        assert_eq!(raised(true), ["tachycardia"]);
        assert_eq!(raised(false), ["heart-rate-high"]);
    }

    #[test]
    fn a_raised_rate_that_becomes_high_is_an_alarm_of_higher_priority() {
        check(
            "heart-rate",
            &format!("{} {}", ["115"; 12].join(" "), ["140"; 12].join(" ")),
            expect![[r#"
            10 heart-rate-raised Raised physiological Medium, 11 frames
            22 heart-rate-high Raised physiological High, 11 frames
        "#]],
        );
    }

    #[test]
    fn a_low_saturation_sounds_after_ten_seconds() {
        check(
            "spo2",
            &["91"; 12].join(" "),
            expect![[r#"
            10 spo2-low Raised physiological High, 11 frames
        "#]],
        );
        check("spo2", &["92"; 30].join(" "), expect![""]);
    }

    #[test]
    fn one_low_pressure_of_a_cuff_sounds_at_once() {
        check(
            "nibp-sys",
            "120 90 88",
            expect![[r#"
            1 systolic-low Raised physiological High, 1 frames
        "#]],
        );
    }

    #[test]
    fn a_silent_sensor_is_a_technical_alarm_that_ends_by_itself() {
        let seconds = format!("97 {} 97 97 97 97", ["-"; 17].join(" "));
        check(
            "spo2",
            &seconds,
            expect![[r#"
            16 spo2-silent Raised technical Low, 1 frames
            20 spo2-silent Ended technical Low, 3 frames
        "#]],
        );
        check(
            "spo2",
            "97 x",
            expect![[r#"
            1 spo2-silent Raised technical Low, 1 frames
        "#]],
        );
    }

    #[test]
    fn a_sensor_that_never_spoke_is_not_missed() {
        check("spo2", &["-"; 40].join(" "), expect![""]);
    }
}
