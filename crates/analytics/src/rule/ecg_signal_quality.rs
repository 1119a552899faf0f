//! Technical alarm when the ECG cannot be trusted: an electrode is off, the amplifier is saturated, or noise hides the waves.
//!
//! Source: see [`crate::quality`]; technical alarms, IEC 60601-1-8. While it sounds, no rule says anything about rate or rhythm.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
};
use record::TimeMs;

/// A movement is over in less; the lead must be good for as long before the alarm ends.
const POOR: Definition = Definition {
    name: "ecg-signal-poor",
    priority: Severity::Low,
    technical: true,
    spec: AlarmSpec { condition_delay_ms: 5_000, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: false },
};

pub(super) const RULE: Rule = Rule {
    id: "ecg-signal-quality",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Quality of the ECG",
    source: "Clifford et al. 2012; Li, Mark and Clifford 2008; Orphanidou et al. 2015; IEC 60601-1-8",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "ecg-signal-quality", "Quality of the ECG")],
    parameters: || POOR.parameters().into_iter().chain(ecg::parameters()).collect(),
    start: |rule, _: &Person| Box::new(SignalQuality { alarm: Sounding::new(Author::of(rule), POOR) }),
};

#[derive(Debug)]
struct SignalQuality {
    alarm: Sounding,
}

impl Watch for SignalQuality {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.alarm.hear(stretch);
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
    use crate::{
        ecg::tests::{alarms, found},
        recorded::{Part, Recorded},
    };
    use expect_test::expect;

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
}
