//! Alarms at limits of the heart rate of the ECG: bradycardia and tachycardia.
//!
//! Source: limits, the values of the pulse that score 3 in NEWS2 (Royal College of Physicians, 2017); states and delays, IEC 60601-1-8. The
//! rate is the mean over the last intervals, as IEC 60601-2-27 has monitors declare.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
};
use record::TimeMs;
use std::collections::VecDeque;

/// At most this rate, /min.
const LOW_PER_MIN: f64 = 40.0;
/// At least this rate, /min.
const HIGH_PER_MIN: f64 = 131.0;
/// The intervals that the rate is the mean of.
const INTERVALS: usize = 8;
/// The least of them that make a rate.
const INTERVALS_MIN: usize = 4;
/// A longer interval is a pause, in seconds: asystole is an alarm of its own.
const INTERVAL_S_MAX: f64 = 4.0;

const SPEC: AlarmSpec =
    AlarmSpec { condition_delay_ms: 5_000, generation_delay_ms: 0, clear_delay_ms: 5_000, latching: true };
const BRADYCARDIA: Definition =
    Definition { name: "bradycardia", priority: Severity::High, technical: false, spec: SPEC };
const TACHYCARDIA: Definition =
    Definition { name: "tachycardia", priority: Severity::High, technical: false, spec: SPEC };

pub(super) const RULE: Rule = Rule {
    id: "ecg-rate-alarms",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Bradycardia and tachycardia",
    source: "Royal College of Physicians, NEWS2, 2017; IEC 60601-1-8; IEC 60601-2-27",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "ecg-rate-alarms", "Bradycardia and tachycardia")],
    parameters: || {
        let own = [
            ("low_per_min".into(), LOW_PER_MIN),
            ("high_per_min".into(), HIGH_PER_MIN),
            ("intervals".into(), INTERVALS as f64),
            ("intervals_min".into(), INTERVALS_MIN as f64),
            ("interval_s_max".into(), INTERVAL_S_MAX),
        ];
        let alarms = BRADYCARDIA.parameters().into_iter().chain(TACHYCARDIA.parameters());
        own.into_iter().chain(alarms).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| {
        let author = Author::of(rule);
        Box::new(RateAlarms {
            low: Sounding::new(author, BRADYCARDIA),
            high: Sounding::new(author, TACHYCARDIA),
            intervals_s: VecDeque::new(),
        })
    },
};

#[derive(Debug)]
struct RateAlarms {
    low: Sounding,
    high: Sounding,
    intervals_s: VecDeque<f64>,
}

impl Watch for RateAlarms {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.low.hear(stretch);
        self.high.hear(stretch);
        if stretch.began || !stretch.quality.beats_count() {
            self.intervals_s.clear();
            // No rate is no reason to end an alarm, and none to raise one.
            return;
        }
        for interval_s in stretch.beats.iter().filter_map(|beat| beat.interval_s) {
            if interval_s > INTERVAL_S_MAX {
                self.intervals_s.clear();
                continue;
            }
            if self.intervals_s.len() >= INTERVALS {
                self.intervals_s.pop_front();
            }
            self.intervals_s.push_back(interval_s);
        }
        if self.intervals_s.len() < INTERVALS_MIN {
            return;
        }
        let per_min = 60.0 * self.intervals_s.len() as f64 / self.intervals_s.iter().sum::<f64>();
        let measures = |limit: f64| {
            let rate = Measure { name: "heart-rate", value: per_min, unit: "/min" };
            vec![rate, Measure { name: "limit", value: limit, unit: "/min" }]
        };
        let since = |there: bool| there.then_some(stretch.from);
        out.extend(self.low.step(stretch, since(per_min <= LOW_PER_MIN), measures(LOW_PER_MIN)));
        out.extend(self.high.step(stretch, since(per_min >= HIGH_PER_MIN), measures(HIGH_PER_MIN)));
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        out.extend([&mut self.low, &mut self.high].into_iter().filter_map(|alarm| alarm.acknowledge(name, at, by)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ecg::tests::{alarms, found},
        recorded::{Part, Recorded},
    };
    use expect_test::{Expect, expect};

    fn check(per_min: f64, seconds: f64, expect: Expect) {
        let sinus = Part::Sinus { per_min: 75.0, seconds: 30.0 };
        let parts = [sinus, Part::Sinus { per_min, seconds }, sinus];
        expect.assert_eq(&alarms(&found(&RULE, &Recorded::made(51, 250.0, 0.01, &parts))));
    }

    #[test]
    fn a_slow_heart_and_a_fast_one_are_alarms_after_their_delay() {
        check(
            35.0,
            40.0,
            expect![[r#"
            46 bradycardia Raised High, since 41
        "#]],
        );
        check(
            150.0,
            40.0,
            expect![[r#"
            38 tachycardia Raised High, since 33
        "#]],
        );
    }

    #[test]
    fn a_rate_within_the_limits_is_no_alarm() {
        check(45.0, 40.0, expect![[""]]);
        check(125.0, 40.0, expect![[""]]);
    }

    #[test]
    fn a_fast_stretch_shorter_than_the_delay_is_no_alarm() {
        check(150.0, 5.0, expect![[""]]);
    }

    #[test]
    fn noise_is_no_fast_heart() {
        let sinus = Part::Sinus { per_min: 75.0, seconds: 30.0 };
        let noise = Part::Muscle { per_min: 75.0, mv: 0.8, seconds: 30.0 };
        assert_eq!(alarms(&found(&RULE, &Recorded::made(52, 250.0, 0.01, &[sinus, noise, sinus]))), "");
    }
}
