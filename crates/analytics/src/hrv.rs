//! Heart rate variability: what the intervals between normal beats say.
//!
//! Source: Task Force of the ESC and NASPE, Heart rate variability: standards of measurement, Eur Heart J 1996;17:354. Only normal-to-normal
//! (NN) intervals count; which ones these are follows Vest et al., Physiol Meas 2018;39:105004. Unit of intervals: seconds; of results as said.

mod spectrum;

pub(crate) use spectrum::bands;

use crate::{ecg::Heard, qrs::BeatClass};
use record::TimeMs;

/// Intervals of 160 to 30 beats a minute, in seconds. Source: Vest et al. 2018.
const INTERVAL_S: std::ops::RangeInclusive<f64> = 0.375..=2.0;
/// And it differs from the normal one before by this share at most: premature beats of the atria look normal. Source: Vest et al. 2018.
const CHANGE_MAX: f64 = 0.2;
/// After so many intervals that changed too much the last of them is the new measure: the rate did change.
const CHANGES_MAX: u32 = 3;
/// Width of a histogram's bin, in seconds. Source: Task Force 1996, for recordings at 128 Hz.
const BIN_S: f64 = 1.0 / 128.0;
/// Bins from 0 s on.
const BINS: usize = 257;
/// Differences above this are counted, in seconds. Source: Task Force 1996, pNN50.
const DIFFERENCE_S: f64 = 0.05;

/// What decides about intervals, by its name.
pub(crate) fn parameters() -> Vec<(String, f64)> {
    let own = [
        ("nn.interval_s_min", *INTERVAL_S.start()),
        ("nn.interval_s_max", *INTERVAL_S.end()),
        ("nn.change_max", CHANGE_MAX),
        ("nn.changes_max", f64::from(CHANGES_MAX)),
        ("nn.bin_s", BIN_S),
        ("nn.difference_s", DIFFERENCE_S),
    ];
    own.into_iter().chain(spectrum::PARAMETERS).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An interval between two normal beats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Nn {
    /// The beat that ends it.
    pub(crate) at: TimeMs,
    pub(crate) interval_s: f64,
    /// Its difference from the interval just before, if that was one of these too.
    pub(crate) difference_s: Option<f64>,
}

/// Picks the intervals between normal beats.
#[derive(Debug, Clone, Default)]
pub(crate) struct Normal {
    normal_before: bool,
    /// The last interval, if it counted.
    last_s: Option<f64>,
    /// What the next interval is held against.
    measure_s: Option<f64>,
    changes: u32,
}

impl Normal {
    /// The interval that a beat ends, if it counts.
    pub(crate) fn next(&mut self, beat: &Heard) -> Option<Nn> {
        let normal = beat.class == BeatClass::Normal;
        let both = std::mem::replace(&mut self.normal_before, normal) && normal;
        let before_s = self.last_s.take();
        let interval_s = beat.interval_s.filter(|interval_s| both && INTERVAL_S.contains(interval_s))?;
        let changed = self.measure_s.is_some_and(|measure_s| (interval_s / measure_s - 1.0).abs() > CHANGE_MAX);
        if changed && self.changes < CHANGES_MAX {
            self.changes += 1;
            return None;
        }
        self.changes = 0;
        self.measure_s = Some(interval_s);
        self.last_s = Some(interval_s);
        Some(Nn { at: beat.at, interval_s, difference_s: before_s.map(|before_s| interval_s - before_s) })
    }
}

/// Mean and deviation of values that come one after the other. Source: Welford, Technometrics 1962;4:419.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Spread {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count as f64;
        self.squares += from_mean * (value - self.mean);
    }
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }
    /// Standard deviation, of two values or more.
    pub(crate) fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).max(0.0).sqrt())
    }
}

/// Measures in the time domain that need no list of intervals.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeDomain {
    pub(crate) intervals: Spread,
    differences: u64,
    squares: f64,
    large: u64,
    /// Time that the intervals cover, in seconds.
    pub(crate) covered_s: f64,
}

impl TimeDomain {
    pub(crate) fn add(&mut self, nn: &Nn) {
        self.intervals.add(nn.interval_s);
        self.covered_s += nn.interval_s;
        if let Some(difference_s) = nn.difference_s {
            self.differences += 1;
            self.squares += difference_s * difference_s;
            self.large += u64::from(difference_s.abs() > DIFFERENCE_S);
        }
    }
    /// Root mean square of successive differences, in seconds.
    pub(crate) fn rmssd_s(&self) -> Option<f64> {
        (self.differences > 0).then(|| (self.squares / self.differences as f64).sqrt())
    }
    /// Share of successive differences above 50 ms.
    pub(crate) fn pnn50(&self) -> Option<f64> {
        (self.differences > 0).then(|| self.large as f64 / self.differences as f64)
    }
}

/// How often intervals of each length came.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bins: Vec<u32>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS] }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, interval_s: f64) {
        let at = ((interval_s / BIN_S) as usize).min(BINS - 1);
        self.bins[at] = self.bins[at].saturating_add(1);
    }

    fn top(&self) -> Option<(usize, f64)> {
        // Of equal bins the first.
        let top = self.bins.iter().enumerate().max_by_key(|(at, count)| (**count, BINS - at))?;
        (*top.1 > 0).then_some((top.0, f64::from(*top.1)))
    }

    /// Triangular index: all intervals over those of the fullest bin.
    pub(crate) fn triangular_index(&self) -> Option<f64> {
        let all: f64 = self.bins.iter().map(|&count| f64::from(count)).sum();
        self.top().map(|(_, most)| all / most)
    }

    /// TINN: the base, in seconds, of the triangle on the fullest bin that differs least from the histogram, in squares.
    pub(crate) fn tinn_s(&self) -> Option<f64> {
        let (top, most) = self.top()?;
        // The sides do not depend on each other.
        let side = |count_at: &dyn Fn(usize) -> f64, reach: usize| {
            let error = |base: usize| -> f64 {
                let line = |distance: usize| (most * (1.0 - distance as f64 / base as f64)).max(0.0);
                (1..=reach).map(|distance| (count_at(distance) - line(distance)).powi(2)).sum()
            };
            (1..=reach + 1).min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(1)
        };
        let left = side(&|distance| f64::from(self.bins[top - distance]), top);
        let right = side(&|distance| f64::from(self.bins[top + distance]), BINS - 1 - top);
        Some((left + right) as f64 * BIN_S)
    }
}

#[cfg(test)]
mod tests;
