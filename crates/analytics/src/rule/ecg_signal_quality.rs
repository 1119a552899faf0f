//! Technical alarm when the ECG cannot be trusted: an electrode is off, the amplifier is saturated, noise hides the waves, or nothing comes.
//!
//! Source: see [`crate::quality`]; technical alarms, IEC 60601-1-8. While it sounds, no rule says anything about rate or rhythm.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
};
use record::TimeMs;

/// A movement is over in less; the lead must be good for as long before the alarm ends.
const POOR: Definition = Definition {
    name: "ecg-signal-poor",
    priority: Severity::Low,
    technical: true,
    spec: AlarmSpec { condition_delay_ms: 5_000, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: false },
};

/// The ECG says nothing for so long, while other sensors do, in milliseconds: as the silence of other sensors.
const SILENT_MS: u64 = 15_000;

pub(super) const RULE: Rule = Rule {
    id: "ecg-signal-quality",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Quality of the ECG",
    source: "Clifford et al. 2012; Li, Mark and Clifford 2008; Orphanidou et al. 2015; IEC 60601-1-8",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "ecg-signal-quality", "Quality of the ECG")],
    parameters: || {
        let own = [("silent_ms".into(), SILENT_MS as f64)];
        own.into_iter().chain(POOR.parameters()).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| Box::new(SignalQuality { alarm: Sounding::new(Author::of(rule), POOR), heard: None }),
};

#[derive(Debug)]
struct SignalQuality {
    alarm: Sounding,
    /// Up to when there was an ECG. One that was never there is not missed.
    heard: Option<TimeMs>,
}

impl Watch for SignalQuality {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let ecg = input.signal.starts_with("ecg-") && matches!(input.value, Measured::Wave { .. });
        let Some(heard) = self.heard.filter(|heard| !ecg && input.at.0.saturating_sub(heard.0) > SILENT_MS) else {
            return;
        };
        self.alarm.cite(input.at, input.frame);
        let index = Measure { name: "signal-quality", value: 0.0, unit: "1" };
        out.extend(self.alarm.step_at(input.at, Some(heard), vec![index]));
    }

    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.alarm.hear(stretch);
        self.heard = Some(stretch.until);
        // The first second is not full yet.
        if stretch.quality.seconds() == 0 {
            return;
        }
        let poor = stretch.quality.defect().map(|_| stretch.from);
        let index = Measure { name: "signal-quality", value: stretch.quality.index(), unit: "1" };
        out.extend(self.alarm.step(stretch, poor, vec![index]));
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        out.extend(self.alarm.acknowledge(name, at, by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Monitor;
    use crate::{
        ecg::tests::{alarms, found},
        recorded::{Part, Recorded},
    };
    use expect_test::expect;
    use record::sha256;

    #[test]
    fn an_electrode_that_is_off_is_a_technical_alarm_that_ends_by_itself() {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 30.0 };
        let found = found(&RULE, &Recorded::made(31, 250.0, 0.01, &[sinus, Part::Off { seconds: 20.0 }, sinus]));
        expect![[r#"
            35 ecg-signal-poor Raised technical Low, since 30
            62 ecg-signal-poor Ended technical Low, since 30
        "#]]
        .assert_eq(&alarms(&found));
        assert!(found.iter().all(|finding| !finding.inputs.is_empty()));
    }

    #[test]
    fn a_short_movement_is_no_alarm() {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 30.0 };
        let short = Part::Muscle { per_min: 70.0, mv: 0.6, seconds: 3.0 };
        assert_eq!(alarms(&found(&RULE, &Recorded::made(32, 250.0, 0.01, &[sinus, short, sinus]))), "");
    }

    #[test]
    fn an_ecg_that_says_nothing_more_is_missed_and_one_that_never_spoke_is_not() {
        let record = Recorded::made(33, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 60.0 }]);
        let run = |speaks: fn(u64) -> bool| {
            let mut monitor = Monitor::new(&Person::default());
            let mut out = Vec::new();
            for (second, values) in (0u64..).zip(record.leads[0].chunks_exact(250)) {
                let (at, frame) = (TimeMs(second * 1_000), sha256(&[&second.to_be_bytes()]));
                let wave = Measured::Wave { rate_hz: 250.0, values };
                let value = if speaks(second) { wave } else { Measured::Absent };
                out.extend(monitor.take(&Input { frame, signal: "ecg-ii", at, value }));
                out.extend(monitor.take(&Input { frame, signal: "spo2", at, value: Measured::Number(97.0) }));
            }
            alarms(&out)
        };
        expect![[r#"
            36 ecg-signal-poor Raised technical Low, since 20
            46 ecg-signal-poor Ended technical Low, since 20
        "#]]
        .assert_eq(&run(|second| !(20..40).contains(&second)));
        assert_eq!(run(|_| false), "");
    }
}
