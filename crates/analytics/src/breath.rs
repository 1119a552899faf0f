//! Breaths: inspirations in a respiratory signal (impedance, belt, flow), found as the samples come.
//!
//! Source: breaths as turning points that stand out from the usual ones, after Schäfer and Kratky, Ann Biomed Eng 2008;36:476 (count-orig:
//! a breath is deeper than a share of the usual depth). Unit: that of the signal; only ratios matter.

use crate::{
    smooth::{Blocks, Mean, keep_latest, median},
    turns::{Turn, Turns},
};
use std::collections::VecDeque;

/// Parameters of the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreathParameters {
    /// Samples a second that breaths are looked for in; faster signals are averaged down.
    pub work_hz: f64,
    /// Width of each of two averages, in seconds: heart beats and muscle noise are smoothed.
    pub smooth_s: f64,
    /// How long the first depth is learnt, in seconds.
    pub learn_s: f64,
    /// A breath is deeper than this share of the usual depth.
    pub depth_share: f64,
    /// How many breaths the usual depth is the median of.
    pub depths: usize,
    /// After so many seconds without a turning point the depth asked for begins to halve.
    pub patience_s: f64,
    /// How long it takes to halve, in seconds.
    pub halving_s: f64,
    /// The least share of the usual depth that is asked for.
    pub depth_share_min: f64,
}

impl BreathParameters {
    /// The parameters that findings are made with.
    pub const STANDARD: Self = Self {
        work_hz: 25.0,
        smooth_s: 0.4,
        learn_s: 10.0,
        depth_share: 0.3,
        depths: 8,
        patience_s: 10.0,
        halving_s: 5.0,
        depth_share_min: 0.15,
    };

    /// Every parameter by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("work_hz", self.work_hz),
            ("smooth_s", self.smooth_s),
            ("learn_s", self.learn_s),
            ("depth_share", self.depth_share),
            ("depths", self.depths as f64),
            ("patience_s", self.patience_s),
            ("halving_s", self.halving_s),
            ("depth_share_min", self.depth_share_min),
        ]
        .into_iter()
    }
}

/// One breath.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breath {
    /// When inspiration ends, in seconds from the first sample.
    pub at_s: f64,
    /// From the end of the expiration before to here, in the signal's unit.
    pub depth: f64,
}

/// The detector of one signal.
#[derive(Debug, Clone)]
pub struct Breaths {
    p: BreathParameters,
    blocks: Blocks,
    smooth: [Mean; 2],
    last: f64,
    learning: Option<Vec<f64>>,
    turns: Turns,
    depths: VecDeque<f64>,
    usual: f64,
    /// The last turning point, and the block at which it was certain.
    turned: Option<(Turn, u64)>,
    out: VecDeque<Breath>,
}

impl Breaths {
    /// A detector for a signal of `rate_hz` samples a second; nothing below 5 Hz or above 4000 Hz.
    pub fn new(rate_hz: f64, parameters: BreathParameters) -> Option<Self> {
        if !(5.0..=4_000.0).contains(&rate_hz) {
            return None;
        }
        let blocks = Blocks::new(rate_hz, parameters.work_hz);
        let width = (parameters.smooth_s * blocks.rate_hz()).round() as usize;
        Some(Self {
            p: parameters,
            blocks,
            smooth: [Mean::new(width), Mean::new(width)],
            last: 0.0,
            learning: Some(Vec::new()),
            turns: Turns::default(),
            depths: VecDeque::new(),
            usual: 0.0,
            turned: None,
            out: VecDeque::new(),
        })
    }

    /// Takes the next sample and gives the next breath that is certain. A sample that is not finite counts as the one before.
    pub fn push(&mut self, value: f64) -> Option<Breath> {
        if value.is_finite() {
            self.last = value.clamp(-1e9, 1e9);
        }
        if let Some((_, mean)) = self.blocks.push(self.last) {
            let [first, second] = &mut self.smooth;
            let smoothed = second.push(first.push(mean));
            self.learn_or_follow(smoothed);
        }
        self.out.pop_front()
    }

    fn learn_or_follow(&mut self, value: f64) {
        let Some(learnt) = &mut self.learning else {
            self.follow(value);
            return;
        };
        learnt.push(value);
        if (learnt.len() as f64) < self.p.learn_s * self.blocks.rate_hz() {
            return;
        }
        let learnt = self.learning.take().unwrap_or_default();
        let mut sorted = learnt.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get((share * (sorted.len() - 1) as f64) as usize).copied().unwrap_or(0.0);
        // Most of the range: a single bump does not set the depth.
        self.usual = at(0.95) - at(0.05);
        for value in learnt {
            self.follow(value);
        }
    }

    fn follow(&mut self, value: f64) {
        let share = self.share_asked();
        // A flat line has no turning points.
        let Some(turn) = self.turns.push(value, (self.usual * share).max(1e-9)) else { return };
        let before = self.turned.replace((turn, self.turns.taken()));
        let Some((before, _)) = before else { return };
        let depth = (turn.value - before.value).abs();
        if share < self.p.depth_share {
            // Breathing has become shallow, or was learnt too deep.
            self.depths.clear();
            self.usual = (self.usual * depth).sqrt().min(self.usual);
        }
        keep_latest(&mut self.depths, depth, self.p.depths * 2);
        if self.depths.len() >= self.p.depths {
            self.usual = median(self.depths.iter().copied()).unwrap_or(self.usual);
        }
        if turn.maximum {
            let delay = (self.smooth[0].width() - 1) as f64;
            self.out.push_back(Breath { at_s: self.blocks.time_of(turn.at - delay), depth });
        }
    }

    /// The share of the usual depth that a turning point needs; less when there was none for long.
    fn share_asked(&self) -> f64 {
        let since = self.turned.map_or(0, |(_, certain)| self.turns.taken() - certain) as f64 / self.blocks.rate_hz();
        let halvings = ((since - self.p.patience_s) / self.p.halving_s).max(0.0);
        (self.p.depth_share * 0.5f64.powf(halvings)).max(self.p.depth_share_min)
    }
}

#[cfg(test)]
mod tests;
