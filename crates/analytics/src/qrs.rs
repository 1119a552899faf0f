//! QRS: heart beats in one ECG lead, found as the samples come.
//!
//! Source: the peaks, thresholds and search-back of Hamilton and Tompkins (IEEE Trans Biomed Eng 1986;33:1157) and Hamilton
//! (Comput Cardiol 2002;29:101), over linear-phase filters, so that beats are placed where the wave peaks. Unit: that of the lead,
//! as a rule `mV`; only ratios matter.

mod class;
mod filter;
mod parameters;
mod shape;

pub use class::BeatClass;
pub use parameters::QrsParameters;

use class::Classes;
use filter::{Mean, Past};
use shape::Shapes;
use std::collections::VecDeque;

/// One heart beat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// The sample at which the QRS complex peaks, counted from the first sample pushed.
    pub sample: u64,
    /// Energy of the complex, for comparing beats of one lead.
    pub energy: f64,
    /// Whether it was found by searching back.
    pub late: bool,
    /// Where it comes from.
    pub class: BeatClass,
    /// Correlation of the complex with the most like of those that the lead had before, 0 for its first.
    pub likeness: f64,
}

/// A peak of the energy that may be a beat.
#[derive(Debug, Clone, Copy)]
struct Peak {
    /// Sample number of the energy's maximum.
    at: u64,
    energy: f64,
    /// Sample number of the QRS peak.
    sample: u64,
    /// How far the complex goes from the baseline.
    deflection: f64,
    /// Steepest slope.
    slope: f64,
    /// How like the lead's usual complexes it is: the greatest correlation with one of them.
    likeness: f64,
}

/// Parameters in samples.
#[derive(Debug, Clone, Copy)]
struct Widths {
    fall: u64,
    wait: u64,
    refractory: u64,
    t_wave: u64,
    reach: u64,
    late: u64,
    learn: u64,
}

/// The detector of one lead.
#[derive(Debug, Clone)]
pub struct Qrs {
    p: QrsParameters,
    widths: Widths,
    n: u64,
    last: f64,
    smooth: [Mean; 2],
    baseline: Mean,
    energy: Mean,
    smoothed: Past,
    band: Past,
    slopes: Past,
    smooth_delay: u64,
    baseline_delay: u64,
    slope_width: u64,
    band_delay: u64,
    energy_delay: u64,
    /// The maximum since the energy last fell to half of one.
    rising: Option<(u64, f64)>,
    waiting: Option<Peak>,
    learning: Option<Vec<Peak>>,
    /// The steepest slope while learning: what is flat beside it is a wave of a beat before the first.
    steepest: f64,
    beats: VecDeque<f64>,
    noise: VecDeque<f64>,
    intervals: VecDeque<f64>,
    /// The median of `intervals`; 0 while there is none.
    usual: f64,
    last_beat: Option<Peak>,
    shapes: Shapes,
    classes: Classes,
    /// Peaks after the last beat that were too small.
    passed: Vec<Peak>,
    out: VecDeque<Beat>,
}

/// Samples per second that a lead can have.
pub(crate) const RATES_HZ: std::ops::RangeInclusive<f64> = 100.0..=4_000.0;
/// How many past beats, noise peaks and intervals levels are medians of.
const LEVELS: usize = 8;
/// How much of the filtered lead is remembered, in seconds: beats found by searching back are compared too.
const BAND_S: f64 = 4.0;
/// The most small peaks kept for searching back.
const PASSED_MAX: usize = 64;

impl Qrs {
    /// A detector for a lead of `rate_hz` samples a second; nothing below 100 Hz or above 4000 Hz.
    pub fn new(rate_hz: f64, parameters: QrsParameters) -> Option<Self> {
        if !RATES_HZ.contains(&rate_hz) {
            return None;
        }
        let p = parameters;
        let samples = |seconds: f64| ((seconds * rate_hz).round() as usize).max(1);
        let smooth = samples(p.smooth_s);
        let baseline = samples(p.baseline_s) | 1;
        let slope_width = samples(p.slope_s) as u64;
        let energy = samples(p.energy_s);
        let baseline_delay = (baseline as u64 - 1) / 2;
        let past = samples(1.0);
        Some(Self {
            p,
            widths: Widths {
                fall: samples(p.fall_s) as u64,
                wait: samples(p.wait_s) as u64,
                refractory: samples(p.refractory_s) as u64,
                t_wave: samples(p.t_wave_s) as u64,
                reach: samples(p.reach_s) as u64,
                late: samples(p.late_s) as u64,
                learn: samples(p.learn_s) as u64,
            },
            n: 0,
            last: 0.0,
            smooth: [Mean::new(smooth), Mean::new(smooth)],
            baseline: Mean::new(baseline),
            energy: Mean::new(energy),
            smoothed: Past::new(samples(BAND_S)),
            band: Past::new(samples(BAND_S)),
            slopes: Past::new(past),
            smooth_delay: smooth as u64 - 1,
            baseline_delay,
            slope_width,
            band_delay: baseline_delay + (smooth as u64 - 1),
            energy_delay: slope_width / 2 + (energy as u64) / 2,
            rising: None,
            waiting: None,
            learning: Some(Vec::new()),
            steepest: 0.0,
            beats: VecDeque::new(),
            noise: VecDeque::new(),
            intervals: VecDeque::new(),
            usual: 0.0,
            last_beat: None,
            shapes: Shapes::new(samples(p.shape_s)),
            classes: Classes::new(rate_hz),
            passed: Vec::new(),
            out: VecDeque::new(),
        })
    }

    /// Takes the next sample and gives the next beat that is certain. A sample that is not finite counts as the one before.
    pub fn push(&mut self, value: f64) -> Option<Beat> {
        if value.is_finite() {
            self.last = value.clamp(-1e6, 1e6);
        }
        let n = self.n;
        if n == 0 {
            // The filters start as if the first sample had stood for ever.
            for _ in 0..self.smooth[0].width() * 2 + self.baseline.width() {
                let first = self.smooth[0].push(self.last);
                let second = self.smooth[1].push(first);
                self.baseline.push(second);
            }
            for n in 0..self.smoothed.length() {
                self.smoothed.set(n, self.last);
            }
        }
        let first = self.smooth[0].push(self.last);
        let smoothed = self.smooth[1].push(first);
        let baseline = self.baseline.push(smoothed);
        self.smoothed.set(n, smoothed);
        let band = self.smoothed.get(n.wrapping_sub(self.baseline_delay)) - baseline;
        self.band.set(n, band);
        let slope = (band - self.band.get(n.wrapping_sub(self.slope_width))).abs();
        self.slopes.set(n, slope);
        let energy = self.energy.push(slope);
        self.n = n + 1;
        self.follow(n, energy);
        self.out.pop_front()
    }

    /// Takes a stretch of samples and hands each beat to `found`.
    pub fn extend(&mut self, values: impl IntoIterator<Item = f64>, mut found: impl FnMut(Beat)) {
        for value in values {
            if let Some(beat) = self.push(value) {
                found(beat);
            }
        }
    }

    /// The beats that are still open when the lead ends.
    pub fn finish(mut self) -> Vec<Beat> {
        if let Some((at, top)) = self.rising.take() {
            self.peak(at, top);
        }
        if let Some(peak) = self.waiting.take() {
            self.decide(peak);
        }
        self.learnt();
        self.out.into_iter().collect()
    }

    /// Finds peaks of the energy, and decides about those that have waited long enough.
    #[inline]
    fn follow(&mut self, n: u64, energy: f64) {
        match self.rising {
            None => self.rising = Some((n, energy)),
            Some((at, top)) => {
                if energy > top {
                    self.rising = Some((n, energy));
                } else if energy < top * 0.5 || n - at > self.widths.fall {
                    self.peak(at, top);
                    self.rising = Some((n, energy));
                }
            }
        }
        if n & 7 == 0 {
            self.due(n);
        }
    }

    fn peak(&mut self, at: u64, energy: f64) {
        if self.waiting.is_some_and(|peak| peak.energy >= energy && at - peak.at <= self.widths.wait) {
            return;
        }
        let peak = self.placed(at, energy);
        if let Some(before) = self.waiting.take()
            && at - before.at > self.widths.wait
        {
            self.decide(before);
        }
        self.waiting = Some(peak);
    }

    fn due(&mut self, n: u64) {
        if let Some(peak) = self.waiting.take_if(|peak| n - peak.at > self.widths.wait) {
            self.decide(peak);
        }
        if self.learning.is_some() && n >= self.widths.learn && (n >= 2 * self.widths.learn || !self.is_alone()) {
            self.learnt();
        }
        self.search_back(n);
    }

    /// Where the complex peaks: the greatest deflection around the middle of the energy's window.
    fn placed(&self, at: u64, energy: f64) -> Peak {
        let middle = at.saturating_sub(self.energy_delay);
        let reach = self.widths.reach;
        let mut top = (middle, 0.0);
        let mut slope = 0.0f64;
        for n in middle.saturating_sub(reach)..=(middle + reach).min(self.n - 1) {
            if self.band.get(n).abs() > top.1 {
                top = (n, self.band.get(n).abs());
            }
            slope = slope.max(self.slopes.get(n));
        }
        // What can be no beat even when searching back need not be compared.
        let small = energy < self.threshold() * self.p.search_threshold;
        let likeness = if small { 0.0 } else { self.shapes.likeness(&self.band, top.0) };
        Peak { at, energy, sample: top.0.saturating_sub(self.band_delay), deflection: top.1, slope, likeness }
    }

    /// The energies of the two largest peaks that can be beats.
    fn largest(&self, peaks: &[Peak]) -> (f64, f64) {
        let able = peaks.iter().filter(|peak| peak.deflection >= self.p.deflection_mv);
        able.fold((0.0, 0.0), |(first, second), peak| match peak.energy {
            energy if energy > first => (energy, first),
            energy => (first, energy.max(second)),
        })
    }

    /// Whether one peak so far is much larger than every other: the next beat has not come.
    fn is_alone(&self) -> bool {
        let (first, second) = self.largest(self.learning.as_deref().unwrap_or_default());
        second < self.p.alone * first
    }

    fn learnt(&mut self) {
        let Some(peaks) = self.learning.take() else { return };
        self.steepest = peaks.iter().map(|peak| peak.slope).fold(0.0, f64::max);
        // The second largest, if it is not noise: one artefact does not set the level.
        let (first, second) = self.largest(&peaks);
        let level = if second >= self.p.noise * first { second } else { first };
        self.beats = VecDeque::from(vec![level; LEVELS]);
        self.noise = VecDeque::from(vec![0.0; LEVELS]);
        for peak in peaks {
            self.decide(peak);
        }
    }

    fn decide(&mut self, peak: Peak) {
        if let Some(learning) = &mut self.learning {
            learning.push(peak);
            return;
        }
        // The filters have not settled.
        if peak.sample < self.band_delay {
            return;
        }
        let threshold = self.threshold();
        if let Some(beat) = self.last_beat {
            if peak.sample < beat.sample + self.widths.refractory {
                return;
            }
            let since = peak.at.saturating_sub(beat.at);
            let t_wave = since < self.widths.t_wave && peak.slope < beat.slope * self.p.t_wave_slope;
            if t_wave {
                return;
            }
        }
        if self.last_beat.is_none() && peak.slope < self.steepest * self.p.t_wave_slope {
            return;
        }
        let large = peak.deflection >= self.p.deflection_mv;
        if large && peak.energy > threshold * self.doubt(&peak) {
            self.accept(peak, false);
        } else {
            push_level(&mut self.noise, peak.energy);
            if large && self.passed.len() < PASSED_MAX {
                self.passed.push(peak);
            }
        }
    }

    fn threshold(&self) -> f64 {
        let (beats, noise) = (median(&self.beats), median(&self.noise));
        noise + self.p.threshold * (beats - noise).max(0.0)
    }

    /// By how much the threshold rises for a peak that does not look like a beat of this lead, and falls for one that does.
    fn doubt(&self, peak: &Peak) -> f64 {
        let strangeness = (1.0 - peak.likeness) / (1.0 - self.p.likeness);
        let due = match self.last_beat {
            Some(beat) if !self.intervals.is_empty() => {
                peak.at.saturating_sub(beat.at) as f64 >= self.usual * self.p.due_after
            }
            _ => false,
        };
        let most = if due { self.p.doubt_due } else { self.p.doubt_max };
        strangeness.clamp(self.p.doubt_min, most)
    }

    fn accept(&mut self, peak: Peak, late: bool) {
        if let Some(before) = self.last_beat {
            push_level(&mut self.intervals, (peak.at - before.at) as f64);
            self.usual = median(&self.intervals);
        }
        push_level(&mut self.beats, peak.energy);
        self.passed.retain(|small| small.at > peak.at);
        self.last_beat = Some(peak);
        // A beat found long after has left the remembered samples.
        let middle = peak.sample + self.band_delay;
        if self.n - middle < self.band.length() - 2 * self.widths.refractory {
            self.shapes.learn(&self.band, middle);
        }
        let (class, likeness) = self.classes.next(&self.smoothed, peak.sample + self.smooth_delay, self.n - 1);
        self.out.push_back(Beat { sample: peak.sample, energy: peak.energy, late, class, likeness });
    }

    fn search_back(&mut self, n: u64) {
        let Some(beat) = self.last_beat else { return };
        if self.learning.is_some() || self.intervals.is_empty() || self.passed.is_empty() {
            return;
        }
        if ((n - beat.at) as f64) < self.usual * self.p.search_after {
            return;
        }
        let threshold = self.threshold() * self.p.search_threshold;
        let from = beat.at + self.widths.t_wave;
        let weight = |peak: &Peak| peak.energy * peak.likeness.max(0.0);
        // A peak that a larger one may still displace is left alone.
        let settled = n.saturating_sub(self.widths.refractory + self.widths.wait);
        let best = self.passed.iter().filter(|peak| {
            let displaced = self.waiting.is_some_and(|next| next.at < peak.at + self.widths.refractory);
            let timely = n - peak.sample <= self.widths.late;
            peak.at >= from && peak.at <= settled && timely && !displaced && peak.energy > threshold
        });
        if let Some(best) = best.max_by(|a, b| weight(a).total_cmp(&weight(b))).copied() {
            self.accept(best, true);
        }
    }
}

fn push_level(levels: &mut VecDeque<f64>, value: f64) {
    if levels.len() >= LEVELS {
        levels.pop_front();
    }
    levels.push_back(value);
}

fn median(values: &VecDeque<f64>) -> f64 {
    let mut sorted = [0.0; LEVELS];
    let count = values.len().min(LEVELS);
    for (to, from) in sorted.iter_mut().zip(values) {
        *to = *from;
    }
    let sorted = &mut sorted[..count];
    sorted.sort_unstable_by(f64::total_cmp);
    match count {
        0 => 0.0,
        _ => (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests;
