//! Asystole: no heart beat for four seconds, while the signal is good.
//!
//! Source: four seconds, PhysioNet/CinC Challenge 2015 (Clifford et al., Comput Cardiol 2015;42:273), within the ten seconds that IEC
//! 60601-2-27 allows until the alarm. A flat line without any noise is an electrode that is off, and no asystole.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
};
use record::TimeMs;

/// Time without a beat, in milliseconds.
const PAUSE_MS: u64 = 4_000;
/// A beat is told after so long at the latest, if it is not found by searching back.
const TOLD_MS: u64 = 400;
/// The signal is good for so many seconds.
const CLEAN_S: usize = 4;

const ASYSTOLE: Definition = Definition {
    name: "asystole",
    priority: Severity::High,
    technical: false,
    spec: AlarmSpec {
        condition_delay_ms: PAUSE_MS + TOLD_MS,
        generation_delay_ms: 0,
        clear_delay_ms: 5_000,
        latching: true,
    },
};

pub(super) const RULE: Rule = Rule {
    id: "asystole",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Asystole",
    source: "PhysioNet/CinC Challenge 2015; IEC 60601-2-27; IEC 60601-1-8",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "asystole", "Asystole")],
    parameters: || {
        let own = [
            ("pause_ms".into(), PAUSE_MS as f64),
            ("told_ms".into(), TOLD_MS as f64),
            ("clean_s".into(), CLEAN_S as f64),
        ];
        own.into_iter().chain(ASYSTOLE.parameters()).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| Box::new(Asystole { alarm: Sounding::new(Author::of(rule), ASYSTOLE), since: None }),
};

#[derive(Debug)]
struct Asystole {
    alarm: Sounding,
    /// The last beat, or the time from which on a good signal has had none.
    since: Option<TimeMs>,
}

impl Watch for Asystole {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.alarm.hear(stretch);
        if stretch.began {
            self.since = None;
        }
        let bad = stretch.quality.defect().is_some();
        if bad {
            // A bad signal neither begins a pause nor ends one that is known.
            self.since = None;
            return;
        }
        let last = stretch.beats.last().map(|beat| beat.at);
        let since = *self.since.insert(last.or(self.since).unwrap_or(stretch.from));
        let pause_ms = stretch.until.0.saturating_sub(since.0);
        let paused = pause_ms >= PAUSE_MS + TOLD_MS && stretch.quality.clean(CLEAN_S);
        let measure = Measure { name: "pause", value: pause_ms as f64 / 1_000.0, unit: "s" };
        out.extend(self.alarm.step(stretch, paused.then_some(since), vec![measure]));
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

    const SINUS: Part = Part::Sinus { per_min: 70.0, seconds: 30.0 };

    #[test]
    fn a_pause_of_four_seconds_in_a_good_signal_is_asystole() {
        let parts = [SINUS, Part::Standstill { seconds: 8.0 }, SINUS];
        let found = found(&RULE, &Recorded::made(41, 250.0, 0.01, &parts));
        expect![[r#"
            34 asystole Raised High, since 29
        "#]]
        .assert_eq(&alarms(&found));
        assert!(found[0].inputs.len() >= 5 && found[0].measure("pause").unwrap() >= 4.0);
        let parts = [SINUS, Part::Standstill { seconds: 2.5 }, SINUS];
        assert_eq!(alarms(&self::found(&RULE, &Recorded::made(41, 250.0, 0.01, &parts))), "");
    }

    #[test]
    fn asystole_that_was_there_before_the_monitor_is_an_alarm_too() {
        let found = found(&RULE, &Recorded::made(43, 250.0, 0.01, &[Part::Standstill { seconds: 12.0 }]));
        expect![[r#"
            5 asystole Raised High, since 0
        "#]]
        .assert_eq(&alarms(&found));
    }

    #[test]
    fn an_electrode_that_is_off_is_no_asystole() {
        let parts = [SINUS, Part::Off { seconds: 20.0 }, SINUS];
        assert_eq!(alarms(&found(&RULE, &Recorded::made(42, 250.0, 0.01, &parts))), "");
    }

    #[test]
    fn the_shared_records_have_no_asystole() {
        for record in Recorded::all_mit_bih() {
            assert_eq!(alarms(&found(&RULE, &record)), "", "{}", record.name);
        }
    }
}
