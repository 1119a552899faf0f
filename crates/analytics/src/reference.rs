//! What findings are held against: beats with labels, as ANSI/AAMI EC57 compares them, and rates of events that somebody marked.
//!
//! Source: ANSI/AAMI EC57:2012, beat-by-beat comparison: a beat and a label within 150 ms of each other are one. Labels have five classes. Of ventricular
//! beats, fusion and unclassifiable beats that are called ventricular count neither for nor against.

use crate::qrs::{Beat, BeatClass};

/// A beat within this distance of a label is that beat, in seconds. Source: EC57.
pub const MATCH_S: f64 = 0.150;

/// Class of a labelled beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelClass {
    /// N: normal beats, also with a bundle branch block, and escape beats from above the ventricles.
    Normal,
    /// S: premature beats from above the ventricles.
    Supraventricular,
    /// V: ventricular ectopic beats.
    Ventricular,
    /// F: fusion of a ventricular and a normal beat.
    Fusion,
    /// Q: paced beats, fusion of a paced and a normal beat, and what nobody could class.
    Unclassifiable,
}

impl LabelClass {
    /// The class of a beat label of the MIT-BIH databases; nothing for labels that mark no beat.
    ///
    /// Source: EC57; the R-on-T beat is a ventricular one.
    pub fn of_symbol(symbol: char) -> Option<Self> {
        Some(match symbol {
            'N' | 'L' | 'R' | 'B' | 'e' | 'j' | 'n' => Self::Normal,
            'A' | 'a' | 'J' | 'S' => Self::Supraventricular,
            'V' | 'E' | 'r' => Self::Ventricular,
            'F' => Self::Fusion,
            '/' | 'f' | 'Q' | '?' => Self::Unclassifiable,
            _ => return None,
        })
    }
}

/// A labelled beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The sample it stands at.
    pub sample: u64,
    /// Its class.
    pub class: LabelClass,
}

/// How often something was told rightly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// There, and told.
    pub hits: u64,
    /// There, and not told.
    pub misses: u64,
    /// Told, and not there.
    pub wrong: u64,
}

impl Told {
    /// The share that was told of what is there; nothing where nothing is.
    pub fn sensitivity(&self) -> Option<f64> {
        share(self.hits, self.misses)
    }

    /// The share that is there of what was told; nothing where nothing was.
    pub fn predictivity(&self) -> Option<f64> {
        share(self.hits, self.wrong)
    }
}

fn share(part: u64, rest: u64) -> Option<f64> {
    (part + rest > 0).then(|| part as f64 / (part + rest) as f64)
}

/// How beats agree with labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BeatScore {
    /// Beats of every class.
    pub beats: Told,
    /// Ventricular beats. A label without a beat is missed, a beat without a label is wrong.
    pub ventricular: Told,
    /// Beats called ventricular whose label is fusion or unclassifiable: they count neither as hits nor as wrong.
    pub left_out: u64,
}

impl BeatScore {
    /// The share of labelled ventricular beats in all that were called so, with fusion and unclassifiable beats as wrong: the strict count.
    pub fn strict_predictivity(&self) -> Option<f64> {
        share(self.ventricular.hits, self.ventricular.wrong + self.left_out)
    }
}

/// Compares beats with labels, both in the order of their samples, of a lead with `rate_hz` samples a second.
pub fn compare(labels: &[Label], beats: &[Beat], rate_hz: f64) -> BeatScore {
    let at: Vec<u64> = labels.iter().map(|label| label.sample).collect();
    let found: Vec<u64> = beats.iter().map(|beat| beat.sample).collect();
    let pairs = matched(&at, &found, (MATCH_S * rate_hz).round() as u64);
    let mut of_beats = vec![None; beats.len()];
    for &(label, beat) in &pairs {
        of_beats[beat] = Some(labels[label].class);
    }
    let hits = pairs.len() as u64;
    let beats_told = Told { hits, misses: labels.len() as u64 - hits, wrong: beats.len() as u64 - hits };
    let mut score = BeatScore { beats: beats_told, ..BeatScore::default() };
    for (_, label) in beats.iter().zip(of_beats).filter(|(beat, _)| beat.class == BeatClass::Ventricular) {
        match label {
            Some(LabelClass::Ventricular) => score.ventricular.hits += 1,
            Some(LabelClass::Fusion | LabelClass::Unclassifiable) => score.left_out += 1,
            Some(LabelClass::Normal | LabelClass::Supraventricular) | None => score.ventricular.wrong += 1,
        }
    }
    let there = labels.iter().filter(|label| label.class == LabelClass::Ventricular).count() as u64;
    score.ventricular.misses = there - score.ventricular.hits;
    score
}

/// Matches beats to labels one to one, the nearest within `reach` samples. Both are in order. Gives indexes of both.
pub fn matched(labels: &[u64], beats: &[u64], reach: u64) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut next = 0;
    for (l, &label) in labels.iter().enumerate() {
        while next < beats.len() && beats[next] + reach < label {
            next += 1;
        }
        let mut best: Option<(u64, usize)> = None;
        for (b, &beat) in beats.iter().enumerate().skip(next) {
            if beat > label + reach {
                break;
            }
            let nearer_other = labels.get(l + 1).is_some_and(|&after| after.abs_diff(beat) < label.abs_diff(beat));
            if !nearer_other && best.is_none_or(|(distance, _)| label.abs_diff(beat) < distance) {
                best = Some((label.abs_diff(beat), b));
            }
        }
        if let Some((_, b)) = best {
            pairs.push((l, b));
            next = b + 1;
        }
    }
    pairs
}

/// Events a minute within `[from_s, from_s + length_s)`: the intervals between the first and the last of them, in seconds. Nothing of fewer than two.
pub fn rate_per_min(events_s: &[f64], from_s: f64, length_s: f64) -> Option<f64> {
    let within: Vec<f64> = events_s.iter().copied().filter(|at| (from_s..from_s + length_s).contains(at)).collect();
    let (first, last) = (within.first()?, within.last()?);
    (within.len() > 1).then(|| 60.0 * (within.len() - 1) as f64 / (last - first))
}

/// Mean and greatest absolute difference of pairs; nothing of none.
pub fn errors(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let errors = pairs.iter().map(|(a, b)| (a - b).abs());
    (!pairs.is_empty()).then(|| (errors.clone().sum::<f64>() / pairs.len() as f64, errors.fold(0.0, f64::max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use BeatClass::{Normal as N, Unknown as Q, Ventricular as V};

    fn beat(sample: u64, class: BeatClass) -> Beat {
        Beat { sample, energy: 1.0, late: false, class, likeness: 1.0 }
    }

    fn check(labels: &str, beats: &[(u64, BeatClass)], expected: [u64; 7]) {
        let label = |(n, symbol)| Some(Label { sample: 100 * (n as u64 + 1), class: LabelClass::of_symbol(symbol)? });
        let of: Vec<Label> = labels.chars().enumerate().filter_map(label).collect();
        let beats: Vec<Beat> = beats.iter().map(|&(sample, class)| beat(sample, class)).collect();
        let score = compare(&of, &beats, 100.0);
        let (all, v) = (score.beats, score.ventricular);
        let got = [all.hits, all.misses, all.wrong, v.hits, v.misses, v.wrong, score.left_out];
        assert_eq!(got, expected, "{labels}");
    }

    #[test]
    fn ventricular_beats_are_scored_as_in_ec57_and_fusion_beats_are_left_out() {
        check("NVN", &[(100, N), (205, V), (300, N)], [3, 0, 0, 1, 0, 0, 0]);
        check("NVN", &[(100, V), (200, N), (300, Q)], [3, 0, 0, 0, 1, 1, 0]);
        check("FQ/f", &[(100, V), (200, V), (300, V), (400, V)], [4, 0, 0, 0, 0, 0, 4]);
        // A fusion beat that is called normal is none that was missed.
        check("FA", &[(100, N), (200, V)], [2, 0, 0, 0, 0, 1, 0]);
        // Out of reach: a label without a beat, and a beat without a label.
        check("VN", &[(116, V), (200, N)], [1, 1, 1, 0, 1, 1, 0]);
        check("VN", &[(115, V), (200, N)], [2, 0, 0, 1, 0, 0, 0]);
        // A label that marks no beat is none.
        check("V+N", &[(100, V), (300, N)], [2, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn beats_are_matched_with_the_nearest_label_within_reach_and_once() {
        let check = |labels: &[u64], beats: &[u64], expected: &[(usize, usize)]| {
            assert_eq!(matched(labels, beats, 5), expected, "{labels:?} {beats:?}");
        };
        check(&[10, 20, 30], &[12, 20, 29], &[(0, 0), (1, 1), (2, 2)]);
        check(&[10, 20, 30], &[10, 30], &[(0, 0), (2, 1)]);
        check(&[10], &[6, 11], &[(0, 1)]);
        check(&[10, 14], &[13], &[(1, 0)]);
        check(&[10, 100], &[50], &[]);
        check(&[], &[5], &[]);
        check(&[5], &[], &[]);
    }

    #[test]
    fn shares_of_nothing_are_unknown() {
        assert_eq!((Told::default().sensitivity(), Told::default().predictivity()), (None, None));
        let told = Told { hits: 3, misses: 1, wrong: 0 };
        assert_eq!((told.sensitivity(), told.predictivity()), (Some(0.75), Some(1.0)));
        let score = BeatScore { ventricular: told, left_out: 1, ..BeatScore::default() };
        assert_eq!(score.strict_predictivity(), Some(0.75));
    }

    #[test]
    fn a_rate_is_that_of_the_intervals_within_a_window() {
        assert_eq!(rate_per_min(&[0.0, 3.0, 6.0, 9.0, 40.0], 0.0, 32.0), Some(20.0));
        assert_eq!((rate_per_min(&[5.0], 0.0, 32.0), rate_per_min(&[], 0.0, 32.0)), (None, None));
        assert_eq!((errors(&[(1.0, 2.0), (5.0, 2.0)]), errors(&[])), (Some((2.0, 3.0)), None));
    }
}
