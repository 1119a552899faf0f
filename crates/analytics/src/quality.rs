//! Signal quality of one lead: which seconds can be trusted, and how much beats look alike.
//!
//! Source: flat, saturated, missing and noisy stretches as in Clifford et al., Physiol Meas 2012;33:1419, and Li, Mark and Clifford,
//! Physiol Meas 2008;29:15; agreement of beats with their template, 0.66, and ten-second windows, Orphanidou et al., IEEE J Biomed Health
//! Inform 2015;19:832. Nothing here judges rhythm: fibrillation and standstill are good signals. Unit: mV.

use std::collections::VecDeque;

/// How many seconds are judged together. Source: Orphanidou 2015.
pub(crate) const WINDOW_S: usize = 10;
/// A second that moves by less is flat: the electrode or the amplifier is off. Two steps of a converter of 5 uV.
const FLAT_MV: f64 = 0.01;
/// A value that stands still for so long away from the second's middle is where the amplifier ends, in seconds.
const CLIPPED_S: f64 = 0.04;
/// How far from the middle that counts.
const CLIPPED_MV: f64 = 0.5;
/// The baseline moves by this much from one second to the next only when an electrode does. Wander is below 1 mV (Moody 1984).
const JUMP_MV: f64 = 2.0;
/// After a jump, a flat or a saturated second the amplifier needs so many seconds. Its corner frequency of 0.05 Hz or more is a time
/// constant of 3.2 s or less (IEC 60601-2-27).
const RECOVERY_S: u32 = 5;
/// Noise above 40 Hz, as a deviation, that hides waves,
const MUSCLE_MV: f64 = 0.05;
/// if it is also this share of all that the second moves: white noise alone has about a sixth.
const MUSCLE_SHARE: f64 = 0.08;
/// The share of a second's samples that may be missing.
const MISSING_SHARE: f64 = 0.05;
/// The least mean correlation of beats with those before. Source: Orphanidou 2015.
const LIKENESS: f64 = 0.66;
/// So many beats are needed to speak of it.
const LIKENESS_BEATS: usize = 4;
/// The share of a window's seconds that must be good for a rate or a rhythm.
const GOOD_SHARE: f64 = 0.8;

/// What decides about quality, by its name.
pub(crate) const PARAMETERS: [(&str, f64); 13] = [
    ("quality.window_s", WINDOW_S as f64),
    ("quality.flat_mv", FLAT_MV),
    ("quality.clipped_s", CLIPPED_S),
    ("quality.clipped_mv", CLIPPED_MV),
    ("quality.jump_mv", JUMP_MV),
    ("quality.recovery_s", RECOVERY_S as f64),
    ("quality.muscle_mv", MUSCLE_MV),
    ("quality.muscle_share", MUSCLE_SHARE),
    ("quality.missing_share", MISSING_SHARE),
    ("quality.likeness", LIKENESS),
    ("quality.likeness_beats", LIKENESS_BEATS as f64),
    ("quality.good_share", GOOD_SHARE),
    ("quality.version", 1.0),
];

/// What is wrong with a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Samples are missing.
    Missing,
    /// It does not move.
    Flat,
    /// It stands at the end of the amplifier's range.
    Clipped,
    /// The baseline jumped, here or just before.
    Jump,
    /// Muscle or mains noise hides the waves.
    Muscle,
}

/// Whether what cannot be trusted is kept from the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Gates {
    /// It is kept from them.
    #[default]
    Shut,
    /// Every second counts as good, so that it can be measured what judging them is worth.
    Open,
}

/// Quality of one lead, second by second.
#[derive(Debug, Clone)]
pub(crate) struct Quality {
    rate_hz: f64,
    /// Whether seconds are judged at all.
    gates: Gates,
    second: Vec<f64>,
    /// Of the last seconds.
    defects: VecDeque<Option<Defect>>,
    /// Number of the second that is being filled.
    number: u64,
    level: Option<f64>,
    /// Until this second the amplifier recovers.
    recovering: u64,
    /// Second and likeness of the last beats.
    likenesses: VecDeque<(u64, f64)>,
}

impl Quality {
    pub(crate) fn new(rate_hz: f64, gates: Gates) -> Self {
        Self {
            rate_hz,
            gates,
            second: Vec::with_capacity(rate_hz as usize),
            defects: VecDeque::new(),
            number: 0,
            level: None,
            recovering: 0,
            likenesses: VecDeque::new(),
        }
    }

    /// Takes samples; a window's verdict changes with each full second.
    pub(crate) fn extend(&mut self, values: &[f64]) {
        let mut values = values;
        let length = (self.rate_hz.round() as usize).max(1);
        while !values.is_empty() {
            let (now, later) = values.split_at(values.len().min(length - self.second.len()));
            self.second.extend_from_slice(now);
            values = later;
            if self.second.len() == length {
                self.close();
            }
        }
    }

    /// A beat that correlates with those before by so much. The lead's first has nothing to compare with.
    pub(crate) fn beat(&mut self, likeness: f64) {
        if self.likenesses.len() >= WINDOW_S * 5 {
            self.likenesses.pop_front();
        }
        self.likenesses.push_back((self.number, likeness));
    }

    /// The defect of the last full second.
    pub(crate) fn defect(&self) -> Option<Defect> {
        self.defects.back().copied().flatten()
    }

    /// Whether the last `seconds` are full and without defects.
    pub(crate) fn clean(&self, seconds: usize) -> bool {
        self.defects.len() >= seconds && self.defects.iter().rev().take(seconds).all(Option::is_none)
    }

    /// How many full seconds the window has.
    pub(crate) fn seconds(&self) -> usize {
        self.defects.len()
    }

    /// Share of the window's seconds that have no defect; 0 before the first.
    pub(crate) fn good_share(&self) -> f64 {
        let good = self.defects.iter().filter(|defect| defect.is_none()).count();
        good as f64 / self.defects.len().max(1) as f64
    }

    /// Mean correlation of the window's beats with those before them, of `LIKENESS_BEATS` or more.
    pub(crate) fn agreement(&self) -> Option<f64> {
        let since = self.number.saturating_sub(WINDOW_S as u64);
        let recent = self.likenesses.iter().filter(|(second, _)| *second >= since);
        let (count, sum) = recent.fold((0, 0.0), |(count, sum), (_, likeness)| (count + 1, sum + likeness));
        (count >= LIKENESS_BEATS).then(|| sum / count as f64)
    }

    /// The index: share of good seconds times agreement of beats, from 0 to 1.
    pub(crate) fn index(&self) -> f64 {
        self.good_share() * self.agreement().unwrap_or(1.0).clamp(0.0, 1.0)
    }

    /// Whether beats of the window may be counted.
    pub(crate) fn beats_count(&self) -> bool {
        let counts =
            || self.good_share() >= GOOD_SHARE && self.agreement().is_none_or(|agreement| agreement >= LIKENESS);
        self.gates == Gates::Open || counts()
    }

    fn close(&mut self) {
        let mut second = std::mem::take(&mut self.second);
        let found = if self.gates == Gates::Open { None } else { self.judge(&second) };
        if matches!(found, Some(Defect::Flat | Defect::Clipped | Defect::Jump)) {
            self.recovering = self.number + u64::from(RECOVERY_S);
        }
        let recovers = self.recovering > 0 && self.number <= self.recovering;
        let defect = found.or_else(|| recovers.then_some(Defect::Jump));
        if self.defects.len() >= WINDOW_S {
            self.defects.pop_front();
        }
        self.defects.push_back(defect);
        self.number += 1;
        second.clear();
        self.second = second;
    }

    fn judge(&mut self, second: &[f64]) -> Option<Defect> {
        let missing = second.iter().filter(|value| !value.is_finite()).count();
        if missing as f64 > MISSING_SHARE * second.len() as f64 {
            self.level = None;
            return Some(Defect::Missing);
        }
        let mut sorted: Vec<f64> = second.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (sorted.first().copied()?, sorted.last().copied()?);
        let middle = sorted[sorted.len() / 2];
        let before = self.level.replace(middle);
        if high - low < FLAT_MV {
            return Some(Defect::Flat);
        }
        if self.clipped(second, middle) || before.is_some_and(|before| self.clipped(second, before)) {
            return Some(Defect::Clipped);
        }
        if before.is_some_and(|before| (middle - before).abs() > JUMP_MV) {
            return Some(Defect::Jump);
        }
        let noise = self.noise_mv(second);
        (noise > MUSCLE_MV && noise > MUSCLE_SHARE * (high - low)).then_some(Defect::Muscle)
    }

    /// Whether a value far from `middle` stands still.
    fn clipped(&self, second: &[f64], middle: f64) -> bool {
        let long = ((CLIPPED_S * self.rate_hz).round() as usize).max(4);
        let mut run = 1;
        second.windows(2).any(|pair| {
            run = if pair[0] == pair[1] && (pair[0] - middle).abs() > CLIPPED_MV { run + 1 } else { 1 };
            run >= long
        })
    }

    /// Deviation of what is faster than the waves: the typical distance of a sample from the middle of its neighbours some 6 ms away.
    fn noise_mv(&self, second: &[f64]) -> f64 {
        let step = ((0.006 * self.rate_hz).round() as usize).max(1);
        let mut distances: Vec<f64> = second
            .windows(2 * step + 1)
            .step_by(step)
            .map(|window| (window[step] - (window[0] + window[2 * step]) / 2.0).abs())
            .filter(|distance| distance.is_finite())
            .collect();
        let middle = distances.len() / 2;
        if distances.is_empty() {
            return 0.0;
        }
        // The median of a normal variable's size is 0.6745 deviations; the distance has 1.5 times the noise's variance.
        *distances.select_nth_unstable_by(middle, f64::total_cmp).1 / 0.6745 / 1.5f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Qrs, QrsParameters,
        recorded::{Part, Recorded},
    };

    /// Seconds of the first lead by defect, and how many windows had beats that do not count.
    fn judged(record: &Recorded) -> (Vec<Option<Defect>>, usize) {
        let mut quality = Quality::new(record.rate_hz, Gates::Shut);
        let mut qrs = Qrs::new(record.rate_hz, QrsParameters::STANDARD).unwrap();
        let (mut defects, mut uncounted) = (Vec::new(), 0);
        for second in record.leads[0].chunks_exact(record.rate_hz as usize) {
            quality.extend(second);
            qrs.extend(second.iter().copied(), |beat| quality.beat(beat.likeness));
            defects.push(quality.defect());
            uncounted += usize::from(!quality.beats_count());
        }
        (defects, uncounted)
    }

    #[test]
    fn few_seconds_of_the_shared_records_are_bad() {
        for record in Recorded::all_mit_bih() {
            let (defects, uncounted) = judged(&record);
            let count = |wanted: Defect| defects.iter().filter(|found| **found == Some(wanted)).count();
            println!(
                "{}: of {} s: missing {}, flat {}, clipped {}, jump {}, muscle {}; beats do not count in {uncounted} s",
                record.name,
                defects.len(),
                count(Defect::Missing),
                count(Defect::Flat),
                count(Defect::Clipped),
                count(Defect::Jump),
                count(Defect::Muscle)
            );
            assert!(defects.iter().flatten().count() * 20 < defects.len());
        }
    }

    #[test]
    fn a_second_that_cannot_be_trusted_is_named() {
        let sinus = Part::Sinus { per_min: 70.0, seconds: 20.0 };
        let seen = |part: Part| {
            let mut seen = judged(&Recorded::made(5, 360.0, 0.01, &[sinus, part, sinus])).0;
            assert_eq!(seen[5..20].iter().flatten().count(), 0, "seed 5: the beginning is good");
            assert_eq!(*seen.last().unwrap(), None, "seed 5: the end is good again");
            seen.truncate(29);
            seen.split_off(21)
        };
        assert!(seen(Part::Off { seconds: 10.0 }).iter().all(|defect| *defect == Some(Defect::Flat)));
        let muscle = seen(Part::Muscle { per_min: 70.0, mv: 0.3, seconds: 10.0 });
        assert!(muscle.iter().all(|defect| *defect == Some(Defect::Muscle)), "seed 5: {muscle:?}");
        for good in [Part::Standstill { seconds: 10.0 }, Part::Fibrillation { seconds: 10.0 }] {
            assert_eq!(seen(good).iter().flatten().count(), 0, "seed 5: {good:?} is a good signal");
        }
    }

    #[test]
    fn a_jump_a_saturated_and_a_missing_second_are_bad_until_the_amplifier_has_recovered() {
        let made = |change: fn(usize, f64) -> f64| {
            let mut record = Recorded::made(6, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 40.0 }]);
            record.leads[0].iter_mut().enumerate().for_each(|(n, value)| *value = change(n, *value));
            judged(&record).0
        };
        let jump = made(|n, mv| if n < 5_000 { mv } else { mv + 4.0 });
        assert!(
            jump[20..25].iter().all(|defect| *defect == Some(Defect::Jump)) && jump[26..].iter().all(Option::is_none)
        );
        let clipped = made(|n, mv| if (5_000..5_200).contains(&n) { mv * 0.0 + 0.9 } else { mv });
        assert_eq!((clipped[19], clipped[27]), (None, None));
        assert!(clipped[20].is_some() && clipped[24].is_some());
        let missing = made(|n, mv| if (5_000..5_050).contains(&n) { f64::NAN } else { mv });
        assert_eq!((missing[19], missing[20], missing[21]), (None, Some(Defect::Missing), None));
    }

    #[test]
    fn beats_without_a_common_shape_do_not_count() {
        let mut quality = Quality::new(250.0, Gates::Shut);
        let record = Recorded::made(7, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 10.0 }]);
        quality.extend(&record.leads[0]);
        for _ in 0..6 {
            quality.beat(0.5);
        }
        assert!(!quality.beats_count() && quality.good_share() == 1.0 && quality.index() == 0.5);
        quality.extend(&record.leads[0]);
        quality.extend(&record.leads[0]);
        assert!(quality.beats_count(), "what was long ago is forgotten");
    }
}
