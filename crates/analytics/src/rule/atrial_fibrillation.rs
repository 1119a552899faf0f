//! Suspicion of atrial fibrillation: intervals between beats that follow no pattern.
//!
//! Source: coefficient of sample entropy, Lake and Moorman, Am J Physiol Heart Circ Physiol 2011;300:H319; successive differences beside
//! the mean interval, Dash et al., Ann Biomed Eng 2009;37:1701, who leave out ventricular beats as well. A suspicion is for a person with an
//! ECG before them: regular fibrillation, flutter, and P waves are not seen here.

use super::{Author, Definition, Rule, Sounding, Watch};
use crate::{
    alarm::AlarmSpec,
    ecg::{self, Heard, Stretch},
    finding::{Finding, Kind, Measure, Severity},
    input::Person,
    qrs::BeatClass,
};
use record::TimeMs;
use std::collections::VecDeque;

/// Intervals that are judged together: half a minute or more below 96 /min, the least that the ESC guideline of 2020 (Hindricks et al.,
/// Eur Heart J 2021;42:373) calls fibrillation.
const INTERVALS: usize = 48;
/// They are judged again after so many new ones.
const EVERY: usize = 8;
/// Suspicion from this coefficient of sample entropy on. Source: Lake and Moorman 2011.
const ENTROPY: f64 = -1.4;
/// The tolerance that entropy begins with, in seconds, its step, and the matches that it needs. Source: Lake and Moorman 2011.
const TOLERANCE_S: f64 = 0.030;
const TOLERANCE_STEP_S: f64 = 0.005;
const MATCHES: u32 = 5;
/// And from this root mean square of successive differences on, as a share of the mean interval. Source: Dash et al. 2009.
const DIFFERENCES: f64 = 0.1;
/// Intervals that a heart can have, in seconds.
const INTERVAL_S: std::ops::Range<f64> = 0.2..2.5;

const SUSPICION: Definition = Definition {
    name: "atrial-fibrillation-suspected",
    priority: Severity::Medium,
    technical: false,
    // The intervals are half a minute already.
    spec: AlarmSpec { condition_delay_ms: 0, generation_delay_ms: 0, clear_delay_ms: 30_000, latching: false },
};

pub(super) const RULE: Rule = Rule {
    id: "atrial-fibrillation",
    version: 1,
    kind: Kind::EventTriggered,
    title: "Suspicion of atrial fibrillation",
    source: "Lake and Moorman 2011; Dash et al. 2009; ESC guideline 2020; IEC 60601-1-8",
    codes: &[(
        "https://vitaltrace.org/fhir/CodeSystem/rule",
        "atrial-fibrillation",
        "Suspicion of atrial fibrillation",
    )],
    parameters: || {
        let own = [
            ("intervals".into(), INTERVALS as f64),
            ("every".into(), EVERY as f64),
            ("entropy".into(), ENTROPY),
            ("tolerance_s".into(), TOLERANCE_S),
            ("tolerance_step_s".into(), TOLERANCE_STEP_S),
            ("matches".into(), f64::from(MATCHES)),
            ("differences".into(), DIFFERENCES),
            ("interval_s_min".into(), INTERVAL_S.start),
            ("interval_s_max".into(), INTERVAL_S.end),
        ];
        own.into_iter().chain(SUSPICION.parameters()).chain(ecg::parameters()).collect()
    },
    start: |rule, _: &Person| {
        let alarm = Sounding::new(Author::of(rule), SUSPICION);
        Box::new(AtrialFibrillation { alarm, irregularity: Irregularity::default() })
    },
};

#[derive(Debug)]
struct AtrialFibrillation {
    alarm: Sounding,
    irregularity: Irregularity,
}

/// The last intervals that lie between beats of the usual kind.
#[derive(Debug, Default)]
struct Irregularity {
    /// When an interval began, and how long it was.
    intervals_s: VecDeque<(TimeMs, f64)>,
    fresh: usize,
    usual_before: bool,
}

/// What is said of the intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    since: TimeMs,
    entropy: f64,
    differences: f64,
}

impl Verdict {
    fn is_suspicious(&self) -> bool {
        self.entropy > ENTROPY && self.differences > DIFFERENCES
    }
}

impl Irregularity {
    /// Takes the next beat; now and then there is a verdict.
    fn take(&mut self, beat: &Heard) -> Option<Verdict> {
        let usual = beat.class == BeatClass::Normal;
        let both = std::mem::replace(&mut self.usual_before, usual) && usual;
        let interval_s = beat.interval_s.filter(|interval_s| both && INTERVAL_S.contains(interval_s))?;
        if self.intervals_s.len() >= INTERVALS {
            self.intervals_s.pop_front();
        }
        let began = TimeMs(beat.at.0.saturating_sub((interval_s * 1_000.0) as u64));
        self.intervals_s.push_back((began, interval_s));
        self.fresh += 1;
        if self.fresh < EVERY || self.intervals_s.len() < INTERVALS {
            return None;
        }
        self.fresh = 0;
        let intervals_s: Vec<f64> = self.intervals_s.iter().map(|(_, interval_s)| *interval_s).collect();
        let since = self.intervals_s.front().map_or(began, |(since, _)| *since);
        Some(Verdict { since, entropy: entropy(&intervals_s), differences: differences(&intervals_s) })
    }
}

/// Root mean square of successive differences, as a share of the mean.
fn differences(intervals_s: &[f64]) -> f64 {
    let mean_s = intervals_s.iter().sum::<f64>() / intervals_s.len().max(1) as f64;
    let squares: f64 = intervals_s.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    (squares / intervals_s.len().saturating_sub(1).max(1) as f64).sqrt() / mean_s.max(1e-9)
}

/// Coefficient of sample entropy for one interval that follows another, at the least tolerance with enough matches.
fn entropy(intervals_s: &[f64]) -> f64 {
    let mean_s = intervals_s.iter().sum::<f64>() / intervals_s.len().max(1) as f64;
    let mut tolerance_s = TOLERANCE_S;
    loop {
        let (mut alike, mut go_on_alike) = (0u32, 0u32);
        for (n, a) in intervals_s.windows(2).enumerate() {
            for b in intervals_s.windows(2).skip(n + 1) {
                if (a[0] - b[0]).abs() < tolerance_s {
                    alike += 1;
                    go_on_alike += u32::from((a[1] - b[1]).abs() < tolerance_s);
                }
            }
        }
        if go_on_alike >= MATCHES || tolerance_s > INTERVAL_S.end {
            let share = f64::from(go_on_alike.max(1)) / f64::from(alike.max(1));
            return -share.ln() + (2.0 * tolerance_s).ln() - mean_s.max(1e-9).ln();
        }
        tolerance_s += TOLERANCE_STEP_S;
    }
}

impl Watch for AtrialFibrillation {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        self.alarm.hear(stretch);
        if stretch.began || !stretch.quality.beats_count() {
            self.irregularity = Irregularity::default();
            return;
        }
        for beat in stretch.beats {
            let Some(verdict) = self.irregularity.take(beat) else { continue };
            let measures = vec![
                Measure { name: "entropy", value: verdict.entropy, unit: "1" },
                Measure { name: "successive-differences", value: verdict.differences * 100.0, unit: "%" },
            ];
            let since = verdict.is_suspicious().then_some(verdict.since);
            out.extend(self.alarm.step(stretch, since, measures));
        }
    }

    fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str, out: &mut Vec<Finding>) {
        out.extend(self.alarm.acknowledge(name, at, by));
    }
}

#[cfg(test)]
mod tests;
