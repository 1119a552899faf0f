//! Fall: an impact, an upright person who lies afterwards, and who stays still.
//!
//! Source: impact of 2 g and lying (vertical below 0.5 g, a tilt above 60 degrees) after it, Kangas et al., Gait Posture 2008;28:285; rest and
//! the minute in which a person gets up again, Karantonis et al., IEEE Trans Inf Technol Biomed 2006;10:156. Signals: `accel-x`,
//! `accel-y`, `accel-z`.

use super::{
    Author, Rule, Watch,
    line::Frames,
    motion::{self, GRAVITY, Motion, Posture, Second},
};
use crate::{
    alarm::{AlarmSpec, AlarmState, AlarmStep},
    finding::{Alarm, Finding, Kind, Measure, Severity},
    input::{Input, Person},
    smooth::keep_latest,
};
use record::{Digest, TimeMs};
use std::collections::VecDeque;

/// An impact, in g. Source: Kangas et al. 2008, 2.0 g at the waist.
const IMPACT_G: f64 = 2.0;
/// Who was upright within so many seconds before the impact fell.
const BEFORE_S: u64 = 5;
/// Seconds of lying and rest that make the fall. Source: Kangas et al. 2008 look 2 s after the impact; longer, so that who gets up at once does not
/// alarm.
const STILL_S: usize = 10;
/// Who has not lain still within so many seconds of the impact has not fallen. Source: Karantonis et al. 2006, 60 s.
const WAIT_S: u64 = 60;
/// The alarm's condition is over when the person has been upright for so long, in milliseconds.
const UPRIGHT_MS: u64 = 5_000;
/// What is declared of the alarm: the condition contains its delay. It sounds until somebody takes notice.
const SPEC: AlarmSpec =
    AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: UPRIGHT_MS, latching: true };
const NAME: &str = "fall";

pub(super) const RULE: Rule = Rule {
    id: "fall",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Fall",
    source: "Kangas et al. 2008; Karantonis et al. 2006",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "fall", "Fall")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("impact_g".into(), IMPACT_G),
            ("before_s".into(), BEFORE_S as f64),
            ("still_s".into(), STILL_S as f64),
            ("wait_s".into(), WAIT_S as f64),
            ("upright_ms".into(), UPRIGHT_MS as f64),
        ];
        out.extend(motion::named().map(|(name, value)| (name.to_owned(), value)));
        out
    },
    start: |rule, _: &Person| {
        Box::new(Fall {
            author: Author::of(rule),
            motion: Motion::default(),
            frames: Frames::default(),
            past: VecDeque::new(),
            impact: None,
            state: AlarmState::Quiet,
            sounding: None,
        })
    },
};

/// An impact of somebody who was upright.
#[derive(Debug, Clone, Copy)]
struct Impact {
    at: TimeMs,
    peak_g: f64,
    tilt_before_deg: f64,
    /// Seconds of lying and rest in a row since.
    still: usize,
}

/// What an alarm that sounds rests on.
#[derive(Debug, Clone)]
struct Sounding {
    measures: Vec<Measure>,
    inputs: Vec<Digest>,
}

#[derive(Debug)]
struct Fall {
    author: Author,
    motion: Motion,
    frames: Frames,
    past: VecDeque<Second>,
    impact: Option<Impact>,
    state: AlarmState,
    sounding: Option<Sounding>,
}

impl Watch for Fall {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(moved) = self.motion.take(input) else { return };
        // A sensor that was torn off by the fall says nothing: an impact outlives a hole, the seconds before it do not.
        if moved.anew {
            self.past.clear();
        }
        for (from, until, frame) in moved.frames {
            self.frames.add(from, until, frame);
        }
        for second in moved.seconds {
            self.frames.forget(TimeMs(second.at.0.saturating_sub((WAIT_S + 2 * BEFORE_S) * 1_000)));
            out.extend(self.step(&second));
            keep_latest(&mut self.past, second, BEFORE_S as usize);
        }
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        if name == NAME {
            let (state, step) = self.state.acknowledge();
            self.state = state;
            out.extend(step.and_then(|step| self.finding(step, at, Some(by))));
        }
    }
}

impl Fall {
    fn step(&mut self, second: &Second) -> Option<Finding> {
        let until = second.at.plus_ms(1_000);
        if self.state != AlarmState::Quiet {
            let upright = second.posture() == Some(Posture::Upright);
            let (state, step) = self.state.observe(&SPEC, until, !upright);
            self.state = state;
            return step.and_then(|step| self.finding(step, until, None));
        }
        if let Some(tilt_before_deg) = self.upright_before().filter(|_| second.peak_g >= IMPACT_G) {
            // Of several impacts in one fall the hardest is told, and the wait begins anew.
            let peak_g = self.impact.map_or(0.0, |impact| impact.peak_g).max(second.peak_g);
            let tilt_before_deg = self.impact.map_or(tilt_before_deg, |impact| impact.tilt_before_deg);
            self.impact = Some(Impact { at: second.peak_at, peak_g, tilt_before_deg, still: 0 });
            return None;
        }
        let impact = self.impact.as_mut()?;
        if until.0.saturating_sub(impact.at.0) > WAIT_S * 1_000 {
            self.impact = None;
            return None;
        }
        let lying = second.posture().is_some_and(|posture| posture != Posture::Upright);
        impact.still = if lying && !second.moving() { impact.still + 1 } else { 0 };
        if impact.still < STILL_S {
            return None;
        }
        let impact = self.impact.take()?;
        let tilt = second.tilt_deg()?;
        self.sounding = Some(Sounding {
            measures: vec![
                Measure { name: "value", value: impact.peak_g * GRAVITY, unit: "m/s2" },
                Measure { name: "limit", value: IMPACT_G * GRAVITY, unit: "m/s2" },
                Measure { name: "tilt-before", value: impact.tilt_before_deg, unit: "deg" },
                Measure { name: "tilt", value: tilt, unit: "deg" },
                Measure { name: "still", value: impact.still as f64, unit: "s" },
            ],
            inputs: self.frames.within(TimeMs(impact.at.0.saturating_sub(BEFORE_S * 1_000)), until),
        });
        // The condition began with the impact.
        let (state, _) = self.state.observe(&SPEC, impact.at, true);
        self.state = state;
        self.finding(AlarmStep::Raised { since: impact.at }, until, None)
    }

    /// The tilt of the last second before this one in which the person was upright, if there was one lately.
    fn upright_before(&self) -> Option<f64> {
        let upright = |second: &&Second| second.posture() == Some(Posture::Upright);
        self.past.iter().rev().find(upright).and_then(Second::tilt_deg)
    }

    fn finding(&self, step: AlarmStep, at: TimeMs, by: Option<&str>) -> Option<Finding> {
        let sounding = self.sounding.as_ref()?;
        let (since, change) = step.told(by);
        Some(Finding {
            severity: Severity::High,
            measures: sounding.measures.clone(),
            alarm: Some(Alarm {
                name: NAME,
                change,
                technical: false,
                condition_since: since,
                latching: SPEC.latching,
            }),
            ..self.author.finding(since, at.max(since), sounding.inputs.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::motion::check, *};
    use crate::{
        finding::AlarmChange,
        input::Measured,
        recordings::{Chance, column, text},
    };

    /// Upright, then a blow of `impact_g`, then `after` for `seconds`.
    fn fall(impact_g: f64, after: [f64; 3], seconds: f64, noise_g: f64, seed: u64) -> Vec<[f64; 3]> {
        let mut chance = Chance(seed);
        let mut samples = check::rest(check::UPRIGHT, 20.4, 0.02, &mut chance);
        samples.extend(check::rest([0.0, 0.3, 0.1], 0.4, 0.05, &mut chance));
        samples.extend([[0.2, 0.5, impact_g], [0.1, 0.2, 0.4 * impact_g]]);
        samples.extend(check::rest(after, seconds, noise_g, &mut chance));
        samples
    }

    fn raised(samples: &[[f64; 3]]) -> Vec<Finding> {
        let mut found = check::told(&RULE, samples, check::RATE_HZ);
        found.retain(|finding| finding.alarm.as_ref().unwrap().change == AlarmChange::Raised);
        found
    }

    #[test]
    fn who_falls_and_lies_still_raises_an_alarm() {
        for after in [check::SUPINE, [0.0, 0.1, -1.0], [-1.0, 0.0, 0.1], [1.0, -0.2, 0.0]] {
            let found = raised(&fall(3.2, after, 30.0, 0.01, 51));
            assert_eq!(found.len(), 1, "seed 51: {after:?}");
            let (finding, alarm) = (&found[0], found[0].alarm.as_ref().unwrap());
            assert_eq!((finding.severity, alarm.name, alarm.latching), (Severity::High, "fall", true));
            assert!((finding.measure("value").unwrap() / GRAVITY - 3.2).abs() < 0.1);
            let delay_s = (finding.until.0 - alarm.condition_since.0) as f64 / 1_000.0;
            println!("seed 51: a fall is told {delay_s:.1} s after its impact");
            assert!(delay_s <= 13.0 && finding.inputs.len() >= 12);
        }
    }

    #[test]
    fn what_lacks_one_of_impact_lying_and_rest_is_no_fall() {
        assert_eq!(raised(&fall(1.7, check::SUPINE, 80.0, 0.01, 52)), [], "lies down softly");
        assert_eq!(raised(&fall(3.2, check::UPRIGHT, 80.0, 0.01, 52)), [], "jumps");
        assert_eq!(raised(&fall(3.2, check::SUPINE, 80.0, 0.2, 52)), [], "moves about on the ground");
        let mut up_again = fall(3.2, check::SUPINE, 5.0, 0.01, 52);
        up_again.extend(check::rest(check::UPRIGHT, 80.0, 0.01, &mut Chance(53)));
        assert_eq!(raised(&up_again), [], "gets up at once");
        let mut turns_over = check::rest(check::SUPINE, 20.0, 0.01, &mut Chance(54));
        turns_over.push([0.2, 0.1, 3.0]);
        turns_over.extend(check::rest([-1.0, 0.0, 0.0], 40.0, 0.01, &mut Chance(55)));
        assert_eq!(raised(&turns_over), [], "was lying before");
    }

    #[test]
    fn a_fall_sounds_until_somebody_takes_notice_and_the_person_is_up() {
        let mut samples = fall(3.2, check::SUPINE, 20.0, 0.01, 56);
        samples.extend(check::rest(check::UPRIGHT, 20.0, 0.01, &mut Chance(57)));
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let (mut out, mut told) = (Vec::new(), Vec::new());
        for (second, samples) in samples.chunks(50).enumerate() {
            let frame = record::sha256(&[&second.to_be_bytes()]);
            for (axis, signal) in ["accel-z", "accel-x", "accel-y"].iter().zip([2, 0, 1]).map(|(s, a)| (a, s)) {
                let values: Vec<f64> = samples.iter().map(|sample: &[f64; 3]| sample[axis] * GRAVITY).collect();
                let value = Measured::Wave { rate_hz: 50.0, values: &values };
                watch.take(&Input { frame, signal, at: TimeMs(second as u64 * 1_000), value }, &mut out);
            }
            if second == 50 {
                watch.acknowledge("fall", TimeMs(50_500), "Practitioner/1", &mut out);
            }
            told.extend(out.drain(..).map(|finding: Finding| (second, finding.alarm.unwrap().change)));
        }
        let kinds: Vec<(usize, &str)> = told
            .iter()
            .map(|(second, change)| {
                let kind = match change {
                    AlarmChange::Raised => "raised",
                    AlarmChange::Acknowledged { .. } => "acknowledged",
                    AlarmChange::Ended => "ended",
                };
                (*second, kind)
            })
            .collect();
        assert_eq!(kinds, [(30, "raised"), (50, "acknowledged"), (51, "ended")], "seed 56");
    }

    #[test]
    fn neither_walking_nor_a_recording_of_rest_is_a_fall() {
        let Some(walking) = text("acc/tsfel_walking1_Accelerometer.txt") else { return };
        let axes = [1, 2, 3].map(|at| column(&walking, at, ','));
        let samples: Vec<[f64; 3]> =
            (0..axes[0].len()).map(|n| [axes[0][n], axes[1][n], axes[2][n]].map(|a| a / GRAVITY)).collect();
        assert_eq!(check::told(&RULE, &samples, 198.6), []);
        let Some(rest) = text("acc/biosppy_acc.txt") else { return };
        let axes = [0, 1, 2].map(|at| column(&rest, at, '\t'));
        let samples: Vec<[f64; 3]> = (0..axes[0].len()).map(|n| [axes[0][n], axes[1][n], axes[2][n]]).collect();
        assert_eq!(check::told(&RULE, &samples, 100.0), []);
    }
}
