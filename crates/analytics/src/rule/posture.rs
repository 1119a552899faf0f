//! Posture from gravity: upright, on the back, on the chest, on a side; said when it changes and once a minute.
//!
//! Source: tilt, sectors and activity of Karantonis et al., IEEE Trans Inf Technol Biomed 2006;10:156. The posture is the first measure
//! after the angles: its share of ten seconds, in `%`. Signals: `accel-x`, `accel-y`, `accel-z`.

use super::{
    Author, Rule, Watch,
    line::Frames,
    motion::{self, Motion, Posture, Second},
};
use crate::{
    finding::{Finding, Kind, Measure},
    input::{Input, Person},
};
use record::TimeMs;

/// Length of a window, in seconds.
const WINDOW_S: usize = 10;
/// An unchanged posture is said again after this many seconds.
const REPEAT_S: u64 = 60;

pub(super) const RULE: Rule = Rule {
    id: "posture",
    version: 1,
    kind: Kind::Descriptive,
    title: "Posture",
    source: "Karantonis et al. 2006",
    codes: &[("http://loinc.org", "8361-8", "Body position with respect to gravity")],
    parameters: || {
        let mut out: Vec<(String, f64)> =
            vec![("window_s".into(), WINDOW_S as f64), ("repeat_s".into(), REPEAT_S as f64)];
        out.extend(motion::named().map(|(name, value)| (name.to_owned(), value)));
        out
    },
    start: |rule, _: &Person| {
        Box::new(Postures {
            author: Author::of(rule),
            motion: Motion::default(),
            frames: Frames::default(),
            seconds: Vec::new(),
            said: None,
        })
    },
};

#[derive(Debug)]
struct Postures {
    author: Author,
    motion: Motion,
    frames: Frames,
    /// The seconds of the open window.
    seconds: Vec<Second>,
    /// The posture said last, or movement, and when.
    said: Option<(Option<Posture>, TimeMs)>,
}

impl Watch for Postures {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(moved) = self.motion.take(input) else { return };
        if moved.anew {
            self.seconds.clear();
            self.frames = Frames::default();
        }
        for (from, until, frame) in moved.frames {
            self.frames.add(from, until, frame);
        }
        for second in moved.seconds {
            self.seconds.push(second);
            if self.seconds.len() == WINDOW_S {
                out.extend(self.close());
            }
        }
    }
}

impl Postures {
    fn close(&mut self) -> Option<Finding> {
        let seconds = std::mem::take(&mut self.seconds);
        let (first, last) = (seconds.first()?, seconds.last()?);
        let (from, until) = (first.at, last.at.plus_ms(1_000));
        // Moving seconds have no posture of their own.
        let mut shares: Vec<(Option<Posture>, usize)> = Vec::new();
        for second in &seconds {
            let state = if second.moving() { None } else { second.posture() };
            match shares.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count += 1,
                None => shares.push((state, 1)),
            }
        }
        // The most frequent first; of two, the one that was there last time, then by name.
        let before = self.said.map(|(state, _)| state);
        shares.sort_by_key(|(state, count)| (std::cmp::Reverse(*count), before != Some(*state), *state));
        let (state, _) = *shares.first()?;
        let due = self.said.is_none_or(|(said, at)| said != state || until.0.saturating_sub(at.0) >= REPEAT_S * 1_000);
        let inputs = if due { self.frames.within(from, until) } else { Vec::new() };
        self.frames.forget(until);
        if !due {
            return None;
        }
        self.said = Some((state, until));
        let mut finding = self.author.finding(from, until, inputs);
        let still: Vec<&Second> = seconds.iter().filter(|second| !second.moving()).collect();
        let mean = |axis: usize| {
            still.iter().filter_map(|second| second.mean.get(axis)).sum::<f64>() / still.len().max(1) as f64
        };
        let whole = Second { mean: [mean(0), mean(1), mean(2)], ..*first };
        match whole.tilt_deg() {
            Some(tilt) => {
                finding.measures.push(Measure { name: "tilt", value: tilt, unit: "deg" });
                finding.measures.push(Measure { name: "roll", value: whole.roll_deg(), unit: "deg" });
            }
            None => {
                finding.complete = false;
                finding.missing.push("tilt");
            }
        }
        let percent = |count: usize| 100.0 * count as f64 / seconds.len() as f64;
        for (state, count) in shares {
            let name = state.map_or("moving", Posture::name);
            finding.measures.push(Measure { name, value: percent(count), unit: "%" });
        }
        let activity = seconds.iter().map(|second| second.activity_g).sum::<f64>() / seconds.len() as f64;
        finding.measures.push(Measure { name: "activity", value: activity * motion::GRAVITY, unit: "m/s2" });
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::motion::check, *};
    use crate::recordings::{Chance, text};

    /// The first posture of each finding, with the second at which it was said.
    fn said(findings: &[Finding]) -> Vec<(u64, &'static str)> {
        let names = ["upright", "supine", "prone", "left-lateral", "right-lateral", "inverted", "moving"];
        let first = |finding: &Finding| finding.measures.iter().find(|m| names.contains(&m.name)).unwrap().name;
        findings.iter().map(|finding| (finding.until.0 / 1_000, first(finding))).collect()
    }

    #[test]
    fn a_posture_is_said_when_it_changes_and_once_a_minute() {
        let mut chance = Chance(41);
        let mut samples = Vec::new();
        for (to, seconds) in [
            (check::UPRIGHT, 20.0),
            (check::SUPINE, 80.0),
            ([-1.0, 0.0, 0.0], 10.0),
            ([0.1, 0.0, -1.0], 10.0),
            ([1.0, 0.2, 0.0], 10.0),
        ] {
            samples.extend(check::rest(to, seconds, 0.01, &mut chance));
        }
        let findings = check::told(&RULE, &samples, check::RATE_HZ);
        let expected = [
            (10, "upright"),
            (30, "supine"),
            (90, "supine"),
            (110, "left-lateral"),
            (120, "prone"),
            (130, "right-lateral"),
        ];
        assert_eq!(said(&findings), expected, "seed 41");
        assert!(findings.iter().all(|finding| finding.inputs.len() == 10 && finding.complete));
        assert!((findings[3].measure("roll").unwrap() - 90.0).abs() < 2.0);
    }

    #[test]
    fn somebody_who_walks_is_moving() {
        let Some(text) = text("acc/tsfel_walking1_Accelerometer.txt") else { return };
        // A smartphone: its axes are not the chest's. Movement needs none.
        let samples: Vec<[f64; 3]> = text
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split(',').skip(1).filter_map(|word| word.parse::<f64>().ok());
                Some([numbers.next()?, numbers.next()?, numbers.next()?].map(|axis| axis / motion::GRAVITY))
            })
            .collect();
        let findings = check::told(&RULE, &samples, 198.6);
        println!("walking of {:.0} s: {:?}", samples.len() as f64 / 198.6, said(&findings));
        assert!(said(&findings).iter().all(|(_, state)| *state == "moving"));
    }
}
