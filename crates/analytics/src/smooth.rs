//! Linear-phase smoothing of samples as they come.

use std::collections::VecDeque;

/// Running mean of the last `width` samples. It begins as if the first sample had stood for ever.
#[derive(Debug, Clone)]
pub(crate) struct Mean {
    ring: Vec<f64>,
    at: usize,
    sum: f64,
    begun: bool,
}

impl Mean {
    /// A mean over `width` samples, at least one.
    pub(crate) fn new(width: usize) -> Self {
        Self { ring: vec![0.0; width.max(1)], at: 0, sum: 0.0, begun: false }
    }

    pub(crate) fn width(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn push(&mut self, value: f64) -> f64 {
        if !self.begun {
            self.begun = true;
            self.ring.fill(value);
            self.sum = value * self.ring.len() as f64;
            return value;
        }
        if let Some(oldest) = self.ring.get_mut(self.at) {
            self.sum += value - *oldest;
            *oldest = value;
        }
        self.at += 1;
        if self.at == self.ring.len() {
            self.at = 0;
            // The sum is made anew once a round, so that rounding errors do not pile up.
            self.sum = self.ring.iter().sum();
        }
        self.sum / self.ring.len() as f64
    }
}

/// Means of blocks of samples: fewer samples a second, without what is faster.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    width: usize,
    count: usize,
    sum: f64,
    number: u64,
    rate_hz: f64,
}

impl Blocks {
    /// From `rate_hz` down to about `wanted_hz`, and no less.
    pub(crate) fn new(rate_hz: f64, wanted_hz: f64) -> Self {
        let width = ((rate_hz / wanted_hz).floor() as usize).max(1);
        Self { width, count: 0, sum: 0.0, number: 0, rate_hz }
    }

    /// Blocks a second.
    pub(crate) fn rate_hz(&self) -> f64 {
        self.rate_hz / self.width as f64
    }

    /// The time of a block's middle, in seconds from the first sample.
    pub(crate) fn time_of(&self, block: f64) -> f64 {
        (block * self.width as f64 + (self.width as f64 - 1.0) / 2.0) / self.rate_hz
    }

    /// The next block's number and mean, when it is full.
    pub(crate) fn push(&mut self, value: f64) -> Option<(u64, f64)> {
        self.sum += value;
        self.count += 1;
        if self.count < self.width {
            return None;
        }
        let mean = std::mem::take(&mut self.sum) / self.width as f64;
        self.count = 0;
        self.number += 1;
        Some((self.number - 1, mean))
    }
}

/// The last samples, by their number.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    ring: Vec<f64>,
    next: u64,
}

impl Past {
    /// Remembers `length` samples.
    pub(crate) fn new(length: usize) -> Self {
        Self { ring: vec![0.0; length.max(1)], next: 0 }
    }

    pub(crate) fn push(&mut self, value: f64) {
        let length = self.ring.len() as u64;
        if let Some(place) = self.ring.get_mut((self.next % length) as usize) {
            *place = value;
        }
        self.next += 1;
    }

    /// Sample `number`, counted from the first one; nothing of what is forgotten or to come.
    pub(crate) fn get(&self, number: u64) -> Option<f64> {
        let length = self.ring.len() as u64;
        let kept = number < self.next && self.next - number <= length;
        if kept { self.ring.get((number % length) as usize).copied() } else { None }
    }
}

/// Where a parabola through three evenly spaced values peaks, as an offset from the middle one within half a step.
pub(crate) fn vertex(before: f64, middle: f64, after: f64) -> f64 {
    let bend = before - 2.0 * middle + after;
    if bend == 0.0 || !bend.is_finite() { 0.0 } else { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) }
}

/// The median; nothing of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied()?;
    let lower = sorted.get((sorted.len() - 1) / 2).copied()?;
    Some((lower + upper) / 2.0)
}

/// Adds to a list of the latest, at most `max` long.
pub(crate) fn keep_latest<T>(list: &mut VecDeque<T>, value: T, max: usize) {
    while list.len() >= max.max(1) {
        list.pop_front();
    }
    list.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_begins_at_the_first_value_and_forgets_the_oldest() {
        let mut mean = Mean::new(4);
        let out: Vec<f64> = [8.0, 8.0, 4.0, 4.0, 4.0, 4.0].iter().map(|value| mean.push(*value)).collect();
        assert_eq!(out, [8.0, 8.0, 7.0, 6.0, 5.0, 4.0]);
    }

    #[test]
    fn blocks_stand_at_their_middle() {
        let mut blocks = Blocks::new(100.0, 25.0);
        let out: Vec<(u64, f64)> = (0..8).filter_map(|n| blocks.push(f64::from(n))).collect();
        assert_eq!((out, blocks.rate_hz()), (vec![(0, 1.5), (1, 5.5)], 25.0));
        assert!((blocks.time_of(1.0) - 0.055).abs() < 1e-12);
        assert_eq!(Blocks::new(10.0, 25.0).rate_hz(), 10.0);
    }

    #[test]
    fn a_parabola_peaks_between_its_samples() {
        let at = |x: f64| -(x - 0.3).powi(2);
        assert!((vertex(at(-1.0), at(0.0), at(1.0)) - 0.3).abs() < 1e-12);
        assert_eq!(vertex(1.0, 1.0, 1.0), 0.0);
    }
}
