//! All rules at work on one patient.

use crate::{
    finding::Finding,
    input::{Input, Person},
    rule::{ALL, Watch},
};
use record::TimeMs;

/// One patient's analytics. The same inputs in the same order give the same findings, byte for byte.
#[derive(Debug)]
pub struct Monitor {
    watches: Vec<Box<dyn Watch>>,
}

impl Monitor {
    /// Starts every rule for a person.
    pub fn new(person: &Person) -> Self {
        Self { watches: ALL.iter().map(|rule| (rule.start)(rule, person)).collect() }
    }

    /// Takes one input. Inputs of a patient come in the order of their time, as far as devices allow.
    pub fn take(&mut self, input: &Input<'_>) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.take(input, &mut out);
        }
        out
    }

    /// Nothing more will come: gives what waited for more, such as the last windows of a recording. Ended once, it may be told more all the same.
    pub fn finish(&mut self) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.finish(&mut out);
        }
        out
    }

    /// Somebody took notice of the alarm `name`; gives a finding if it sounded.
    pub fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.acknowledge(name, at, by, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::{AlarmChange, Kind},
        input::Measured,
    };
    use record::sha256;
    use sensing::{
        Value,
        generated::{Story, Wearer},
    };
    use std::time::Instant;

    fn accident(seed: u64, seconds: u64) -> (Vec<Finding>, u64, f64) {
        let person = Person { age_years: Some(41), ..Person::default() };
        let mut wearer = Wearer::new(seed, Story::Haemorrhage { onset_s: 120.0, duration_s: 300.0 }, 500);
        let mut monitor = Monitor::new(&person);
        let (mut findings, mut samples, mut spent_s) = (Vec::new(), 0, 0.0);
        for second in 0..seconds {
            let frame = sha256(&[&second.to_be_bytes()]);
            let at = TimeMs(second * 1_000);
            let mut take = |signal: &str, value: Measured<'_>| {
                let began = Instant::now();
                findings.extend(monitor.take(&Input { frame, signal, at, value }));
                spent_s += began.elapsed().as_secs_f64();
            };
            if second == 0 {
                take("consciousness", Measured::Code("A"));
                take("oxygen", Measured::Code("air"));
            }
            for signal in wearer.next_second().signals {
                match &signal.value {
                    Value::Number { value, .. } => take(&signal.name, Measured::Number(value.to_f64())),
                    Value::Waveform(wave) => {
                        let values = wave.physical();
                        samples += values.len() as u64;
                        take(&signal.name, Measured::Wave { rate_hz: wave.rate_hz.to_f64(), values: &values });
                    }
                    Value::Code(code) => take(&signal.name, Measured::Code(code)),
                    Value::Absent(_) => take(&signal.name, Measured::Absent),
                }
            }
        }
        (findings, samples, spent_s)
    }

    #[test]
    fn an_accident_gives_findings_of_all_four_kinds_that_cite_their_frames() {
        let (findings, samples, spent_s) = accident(1, 600);
        for kind in [Kind::Descriptive, Kind::Diagnostic, Kind::EventTriggered, Kind::Predictive] {
            assert!(findings.iter().any(|finding| finding.kind == kind), "{kind:?}");
        }
        assert!(findings.iter().all(|finding| !finding.inputs.is_empty() && finding.from <= finding.until));
        let raised: Vec<&str> = findings
            .iter()
            .filter_map(|finding| finding.alarm.as_ref())
            .filter(|alarm| alarm.change == AlarmChange::Raised)
            .map(|alarm| alarm.name)
            .collect();
        for alarm in ["spo2-low", "heart-rate-high", "systolic-low"] {
            assert!(raised.contains(&alarm), "seed 1: {raised:?}");
        }
        let totals: Vec<f64> =
            findings.iter().filter(|f| f.rule == "news2").filter_map(|f| f.measure("total")).collect();
        assert!(totals[0] <= 1.0 && *totals.last().unwrap() >= 12.0, "seed 1: {totals:?}");
        println!(
            "seed 1: {} findings, alarms {raised:?}, {:.1} M samples/s",
            findings.len(),
            samples as f64 / spent_s / 1e6
        );
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let bytes = |seed| accident(seed, 200).0.iter().map(Finding::bytes).collect::<Vec<_>>();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn an_acknowledgement_names_who_it_was() {
        let mut monitor = Monitor::new(&Person::default());
        let input = |second: u64| Input {
            frame: sha256(&[&second.to_be_bytes()]),
            signal: "spo2",
            at: TimeMs(second * 1_000),
            value: Measured::Number(80.0),
        };
        for second in 0..=10 {
            monitor.take(&input(second));
        }
        let found = monitor.acknowledge("spo2-low", TimeMs(12_000), "Practitioner/1");
        assert_eq!(found[0].alarm.as_ref().unwrap().change, AlarmChange::Acknowledged { by: "Practitioner/1".into() });
        assert!(monitor.acknowledge("spo2-low", TimeMs(13_000), "Practitioner/1").is_empty());
    }
}
