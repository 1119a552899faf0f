//! All rules at work on one patient.

use crate::{
    chart::Chart,
    ecg::Ecg,
    finding::Finding,
    input::{Input, Person},
    rule::{ALL, Rule, Watch},
};
use record::{TimeMs, sha256};

/// One patient's analytics. The same inputs in the same order give the same findings, byte for byte.
#[derive(Debug)]
pub struct Monitor {
    watches: Vec<Box<dyn Watch>>,
    ecg: Ecg,
    ungated: bool,
}

impl Monitor {
    /// Starts every rule for a person.
    pub fn new(person: &Person) -> Self {
        Self::of(ALL, person)
    }

    /// Starts these rules alone.
    pub fn of<'a>(rules: impl IntoIterator<Item = &'a Rule>, person: &Person) -> Self {
        let watches = rules.into_iter().map(|rule| (rule.start)(rule, person)).collect();
        Self { watches, ecg: Ecg::default(), ungated: false }
    }

    /// Starts every rule with an ECG of which every second counts as good, to measure what judging signals is worth.
    ///
    /// Its findings are of models of their own: nothing that it says passes for what [`Monitor::new`] says.
    pub fn ungated(person: &Person) -> Self {
        Self { ecg: Ecg::ungated(), ungated: true, ..Self::new(person) }
    }

    /// Takes one input. Inputs of a patient come in the order of their time, as far as devices allow.
    pub fn take(&mut self, input: &Input<'_>) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.take(input, &mut out);
        }
        if let Some(stretch) = self.ecg.take(input) {
            for watch in &mut self.watches {
                watch.ecg(&stretch, &mut out);
            }
        }
        self.marked(out)
    }

    /// What the patient's chart says is this from now on, in the place of what it said before.
    pub fn know(&mut self, chart: &Chart) {
        for watch in &mut self.watches {
            watch.know(chart);
        }
    }

    /// Nothing more will come: gives what waited for more, such as the last windows of a recording. Ended once, it may be told more all the same.
    pub fn finish(&mut self) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.finish(&mut out);
        }
        self.marked(out)
    }

    /// Somebody took notice of the alarm `name`; gives a finding if it sounded.
    pub fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str) -> Vec<Finding> {
        let mut out = Vec::new();
        for watch in &mut self.watches {
            watch.acknowledge(name, at, by, &mut out);
        }
        self.marked(out)
    }

    fn marked(&self, mut found: Vec<Finding>) -> Vec<Finding> {
        if self.ungated {
            for finding in &mut found {
                finding.model = sha256(&[b"vitaltrace/model/ungated/1\0", finding.model.as_bytes()]);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::{AlarmChange, Kind, Severity},
        input::Measured,
        recorded::{Chance, Part, Recorded},
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
        for alarm in ["spo2-low", "tachycardia", "systolic-low"] {
            assert!(raised.contains(&alarm), "seed 1: {raised:?}");
        }
        // The ECG counts the same heart as the monitor's number: it sounds once.
        assert!(!raised.contains(&"heart-rate-high"), "seed 1: {raised:?}");
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

    #[test]
    fn a_monitor_that_trusts_every_second_has_models_of_its_own() {
        let sinus = Part::Sinus { per_min: 75.0, seconds: 20.0 };
        let record = Recorded::made(99, 250.0, 0.01, &[sinus, Part::Off { seconds: 20.0 }]);
        let found = |mut monitor: Monitor| {
            let mut out = Vec::new();
            for (second, values) in (0u64..).zip(record.leads[0].chunks_exact(250)) {
                let value = Measured::Wave { rate_hz: 250.0, values };
                let frame = sha256(&[&second.to_be_bytes()]);
                out.extend(monitor.take(&Input { frame, signal: "ecg-ii", at: TimeMs(second * 1_000), value }));
            }
            out.extend(monitor.finish());
            out
        };
        let person = Person::default();
        let (judging, trusting) = (found(Monitor::new(&person)), found(Monitor::ungated(&person)));
        let raised = |found: &[Finding]| -> Vec<&str> {
            found.iter().filter_map(|finding| Some(finding.alarm.as_ref()?.name)).collect()
        };
        // An electrode that is off stands still: who trusts it takes the person for one whose heart does.
        assert_eq!(raised(&judging), ["ecg-signal-poor"], "seed 99");
        assert_eq!(raised(&trusting), ["asystole"], "seed 99");
        let of_rules = |finding: &Finding| crate::Rule::find(finding.rule).map(crate::Rule::model);
        assert!(judging.iter().all(|finding| of_rules(finding) == Some(finding.model)), "seed 99");
        assert!(trusting.iter().all(|finding| of_rules(finding) != Some(finding.model)), "seed 99");
    }

    /// All findings of one lead, a second at a time.
    fn findings(record: &Recorded) -> Vec<Finding> {
        let mut monitor = Monitor::new(&Person::default());
        let mut out = Vec::new();
        for (second, values) in record.leads[0].chunks_exact(record.rate_hz as usize).enumerate() {
            let frame = sha256(&[&second.to_be_bytes()]);
            let value = Measured::Wave { rate_hz: record.rate_hz, values };
            out.extend(monitor.take(&Input { frame, signal: "ecg-ii", at: TimeMs(second as u64 * 1_000), value }));
            // Somebody takes notice of each alarm at once: those that latch can sound again.
            let raised: Vec<&'static str> =
                out.iter().rev().take(8).filter_map(|finding| Some(finding.alarm.as_ref()?.name)).collect();
            for name in raised {
                monitor.acknowledge(name, TimeMs(second as u64 * 1_000), "Practitioner/1");
            }
        }
        out
    }

    #[test]
    fn alarms_of_the_shared_records_are_few() {
        let (mut high, mut hours) = (0, 0.0);
        for record in Recorded::all_mit_bih() {
            let found = findings(&record);
            let raised = found
                .iter()
                .filter(|finding| finding.alarm.as_ref().is_some_and(|alarm| alarm.change == AlarmChange::Raised));
            let names: Vec<String> = raised
                .map(|finding| format!("{} at {} s", finding.alarm.as_ref().unwrap().name, finding.until.0 / 1_000))
                .collect();
            println!("{}: {names:?}", record.name);
            // Three ventricular beats in a row that are labelled as such.
            let true_ones = usize::from(record.name == "106");
            let physiological = found.iter().filter(|finding| {
                finding.severity == Severity::High
                    && finding.alarm.as_ref().is_some_and(|alarm| alarm.change == AlarmChange::Raised)
            });
            high += physiological.count() - true_ones;
            hours += record.leads[0].len() as f64 / record.rate_hz / 3_600.0;
        }
        println!("{high} false alarms of high priority in {hours:.1} hours");
        assert!(f64::from(high as u32) <= hours);
    }

    #[test]
    fn an_alarm_of_the_ecg_is_acknowledged_by_name() {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 20.0 };
        let record = Recorded::made(98, 250.0, 0.01, &[sinus, Part::Standstill { seconds: 8.0 }]);
        let mut monitor = Monitor::new(&Person::default());
        for (second, values) in record.leads[0].chunks_exact(250).enumerate() {
            let value = Measured::Wave { rate_hz: 250.0, values };
            let frame = sha256(&[&second.to_be_bytes()]);
            monitor.take(&Input { frame, signal: "ecg-ii", at: TimeMs(second as u64 * 1_000), value });
        }
        let found = monitor.acknowledge("asystole", TimeMs(28_000), "Practitioner/1");
        assert_eq!(found[0].alarm.as_ref().unwrap().change, AlarmChange::Acknowledged { by: "Practitioner/1".into() });
        assert!(found.len() == 1 && !found[0].inputs.is_empty());
    }

    #[test]
    fn no_lead_however_odd_does_harm() {
        let mut chance = Chance(100);
        let mut monitor = Monitor::new(&Person::default());
        let odd = [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e-300];
        let harmless = |finding: &Finding| {
            let finite = finding.measures.iter().all(|measure| measure.value.is_finite());
            assert!(finite && finding.from <= finding.until, "seed 100: {finding:?}");
        };
        let pick = |chance: &mut Chance, most: usize| (chance.unit() * most as f64) as usize;
        for n in 0..3_000u64 {
            let rate_hz = [0.0, -1.0, f64::NAN, 1e300, 99.0, 100.0, 125.0, 360.0, 4_000.0][pick(&mut chance, 9)];
            let count = [0, 1, 7, 125, 400][pick(&mut chance, 5)];
            let values: Vec<f64> = (0..count)
                .map(|_| if chance.unit() < 0.1 { odd[pick(&mut chance, odd.len())] } else { chance.normal() })
                .collect();
            let at = match pick(&mut chance, 8) {
                0 => TimeMs(u64::MAX - n),
                1 => TimeMs(0),
                _ => TimeMs(n * 500),
            };
            let signal = ["ecg-ii", "ecg-v1", "ecg-", "pleth"][pick(&mut chance, 4)];
            let value = Measured::Wave { rate_hz, values: &values };
            let input = Input { frame: sha256(&[&n.to_be_bytes()]), signal, at, value };
            monitor.take(&input).iter().for_each(harmless);
        }
        // A lead that goes on without a gap, odd for some seconds now and then, up to the end of time.
        let rhythm =
            Recorded::made(100, 125.0, 0.02, &[Part::Extrasystoles { per_min: 80.0, every: 4, seconds: 900.0 }]);
        for (n, values) in (0u64..).zip(rhythm.leads[0].chunks_exact(125)) {
            let mut values = values.to_vec();
            let share = [0.0, 0.0, 0.0, 0.01, 0.5][(n / 7) as usize % 5];
            for value in &mut values {
                if chance.unit() < share {
                    *value = odd[pick(&mut chance, odd.len())];
                }
            }
            let at = TimeMs(u64::MAX - 890_000).plus_ms(n * 1_000);
            let value = Measured::Wave { rate_hz: 125.0, values: &values };
            let input = Input { frame: sha256(&[&n.to_be_bytes()]), signal: "ecg-ii", at, value };
            monitor.take(&input).iter().for_each(harmless);
        }
    }
}
