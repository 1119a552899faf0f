//! Pulses: systolic peaks in a plethysmogram, found as the samples come, each with how like the others it is.
//!
//! Source: two moving averages over the squared signal, Elgendi et al., PLoS ONE 2013;8:e76585; likeness to the usual pulse, Orphanidou et
//! al., IEEE J Biomed Health Inform 2015;19:832 (correlation with a template). Unit: that of the signal; only ratios matter.

use crate::smooth::{Blocks, Mean, Past, keep_latest, median, vertex};
use std::collections::VecDeque;

/// Parameters of the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PulseParameters {
    /// Samples a second that pulses are looked for in; faster signals are averaged down.
    pub work_hz: f64,
    /// Width of each of two averages that smooth, in seconds: with them the band ends about 8 Hz, as in the source.
    pub smooth_s: f64,
    /// Width of the average that is taken as the baseline, in seconds.
    pub baseline_s: f64,
    /// Width of the average over a systolic peak, in seconds. Source: 111 ms.
    pub peak_s: f64,
    /// Width of the average over a beat, in seconds. Source: 667 ms.
    pub beat_s: f64,
    /// Share of the mean that is added to the threshold. Source: 0.02.
    pub offset: f64,
    /// Length of that mean, in seconds.
    pub mean_s: f64,
    /// The shortest interval of two pulses, in seconds: 240 /min.
    pub interval_s_min: f64,
    /// The longest interval of two pulses, in seconds: 30 /min.
    pub interval_s_max: f64,
    /// How much a new pulse changes the template.
    pub template_share: f64,
    /// From this correlation with the template on, a pulse is good. Source: 0.86.
    pub likeness: f64,
}

impl PulseParameters {
    /// The parameters that findings are made with.
    pub const STANDARD: Self = Self {
        work_hz: 125.0,
        smooth_s: 0.05,
        baseline_s: 1.0,
        peak_s: 0.111,
        beat_s: 0.667,
        offset: 0.02,
        mean_s: 10.0,
        interval_s_min: 0.25,
        interval_s_max: 2.0,
        template_share: 0.125,
        likeness: 0.86,
    };

    /// Every parameter by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("work_hz", self.work_hz),
            ("smooth_s", self.smooth_s),
            ("baseline_s", self.baseline_s),
            ("peak_s", self.peak_s),
            ("beat_s", self.beat_s),
            ("offset", self.offset),
            ("mean_s", self.mean_s),
            ("interval_s_min", self.interval_s_min),
            ("interval_s_max", self.interval_s_max),
            ("template_share", self.template_share),
            ("likeness", self.likeness),
            ("points", POINTS as f64),
            ("shape_before", SHAPE_BEFORE),
            ("shape_after", SHAPE_AFTER),
            ("intervals", INTERVALS as f64),
        ]
        .into_iter()
    }
}

/// One pulse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pulse {
    /// When it peaks, in seconds from the first sample.
    pub at_s: f64,
    /// From the peak before, in seconds; nothing where there was none or too long ago.
    pub interval_s: Option<f64>,
    /// The signal at the peak.
    pub peak: f64,
    /// The signal at the foot before it.
    pub foot: f64,
    /// Correlation with the usual pulse, -1 to 1.
    pub likeness: f64,
    /// Whether likeness and intervals are those of a pulse and not of an artefact.
    pub good: bool,
}

/// How many points of a pulse are compared.
const POINTS: usize = 32;
/// What is compared of a pulse, in usual intervals before and after its peak: the part that does not stretch with the interval.
const SHAPE_BEFORE: f64 = 0.3;
const SHAPE_AFTER: f64 = 0.5;
/// How many intervals the usual one is the median of.
const INTERVALS: usize = 9;

/// A peak of which the end is not known yet.
#[derive(Debug, Clone, Copy)]
struct Peak {
    /// Number of the smoothed sample, between samples.
    at: f64,
    value: f64,
    foot: f64,
}

/// The detector of one plethysmogram.
#[derive(Debug, Clone)]
pub struct Pulses {
    p: PulseParameters,
    blocks: Blocks,
    last: f64,
    smooth: [Mean; 2],
    baseline: Mean,
    peak_mean: Mean,
    beat_mean: Mean,
    long_mean: Mean,
    smoothed: Past,
    band: Past,
    peak_means: Past,
    number: u64,
    /// Where the stretch above the threshold began, in numbers of `band`.
    above_since: Option<u64>,
    pending: Option<Peak>,
    last_at: Option<f64>,
    intervals: VecDeque<f64>,
    template: Option<[f64; POINTS]>,
    out: VecDeque<Pulse>,
}

impl Pulses {
    /// A detector for a signal of `rate_hz` samples a second; nothing below 20 Hz or above 4000 Hz.
    pub fn new(rate_hz: f64, parameters: PulseParameters) -> Option<Self> {
        if !(20.0..=4_000.0).contains(&rate_hz) {
            return None;
        }
        let p = parameters;
        let blocks = Blocks::new(rate_hz, p.work_hz);
        let samples = |seconds: f64| ((seconds * blocks.rate_hz()).round() as usize).max(1);
        let odd = |seconds: f64| samples(seconds) | 1;
        let kept = samples(2.0 * p.interval_s_max + p.beat_s + p.baseline_s) + 2;
        Some(Self {
            p,
            last: 0.0,
            smooth: [Mean::new(odd(p.smooth_s)), Mean::new(odd(p.smooth_s))],
            baseline: Mean::new(odd(p.baseline_s)),
            peak_mean: Mean::new(odd(p.peak_s)),
            beat_mean: Mean::new(odd(p.beat_s)),
            long_mean: Mean::new(samples(p.mean_s)),
            smoothed: Past::new(kept),
            band: Past::new(kept),
            peak_means: Past::new(kept),
            number: 0,
            above_since: None,
            pending: None,
            last_at: None,
            intervals: VecDeque::new(),
            template: None,
            out: VecDeque::new(),
            blocks,
        })
    }

    /// Takes the next sample and gives the next pulse that is certain. A sample that is not finite counts as the one before.
    pub fn push(&mut self, value: f64) -> Option<Pulse> {
        if value.is_finite() {
            self.last = value.clamp(-1e9, 1e9);
        }
        if let Some((_, mean)) = self.blocks.push(self.last) {
            self.step(mean);
        }
        self.out.pop_front()
    }

    fn step(&mut self, value: f64) {
        let [first, second] = &mut self.smooth;
        let smoothed = second.push(first.push(value));
        self.smoothed.push(smoothed);
        let baseline = self.baseline.push(smoothed);
        let number = self.number;
        self.number += 1;
        // `band` number n belongs to `smoothed` number n - half of the baseline's width.
        let half = (self.baseline.width() as u64 - 1) / 2;
        let middle = number.checked_sub(half).and_then(|at| self.smoothed.get(at)).unwrap_or(smoothed);
        let band = middle - baseline;
        self.band.push(band);
        let squared = band.max(0.0).powi(2);
        let peak = self.peak_mean.push(squared);
        self.peak_means.push(peak);
        let beat = self.beat_mean.push(squared);
        let threshold = beat + self.p.offset * self.long_mean.push(squared);
        let lag = (self.beat_mean.width() as u64 - self.peak_mean.width() as u64) / 2;
        let Some(peak) = number.checked_sub(lag).and_then(|at| self.peak_means.get(at)) else { return };
        // What is compared here belongs to this number of `band`.
        let at = number.saturating_sub((self.beat_mean.width() as u64 - 1) / 2);
        match self.above_since {
            None if peak > threshold => self.above_since = Some(at),
            Some(since) if peak <= threshold => {
                self.above_since = None;
                if at - since >= self.peak_mean.width() as u64 {
                    self.found(since, at);
                }
            }
            _ => {}
        }
    }

    /// A stretch of `band` above the threshold: its greatest value is a systolic peak.
    fn found(&mut self, since: u64, until: u64) {
        let half = (self.baseline.width() as u64 - 1) / 2;
        let mut top: Option<(u64, f64)> = None;
        for at in since..until {
            if let Some(value) = self.band.get(at)
                && top.is_none_or(|(_, highest)| value > highest)
            {
                top = Some((at, value));
            }
        }
        let Some((top, _)) = top else { return };
        let Some(top) = top.checked_sub(half) else { return };
        let near = |at: u64| self.smoothed.get(at).unwrap_or(0.0);
        let offset = if top > 0 { vertex(near(top - 1), near(top), near(top + 1)) } else { 0.0 };
        let at = top as f64 + offset;
        let seconds = |samples: f64| samples / self.blocks.rate_hz();
        if let Some(pending) = self.pending
            && seconds(at - pending.at) < self.p.interval_s_min
        {
            return;
        }
        // The foot is the least value since the peak before, as far as one interval reaches.
        let reach = (self.p.interval_s_max * self.blocks.rate_hz()) as u64;
        let from = self.pending.map_or(0, |pending| pending.at as u64).max(top.saturating_sub(reach));
        let mut foot = near(top);
        for at in from..top {
            if let Some(value) = self.smoothed.get(at) {
                foot = foot.min(value);
            }
        }
        let next = Peak { at, value: near(top), foot };
        if let Some(before) = self.pending.replace(next) {
            self.complete(before, next);
        }
    }

    /// The next peak is known: the pulse is compared with the others and given out.
    fn complete(&mut self, pulse: Peak, next: Peak) {
        let rate_hz = self.blocks.rate_hz();
        let after_s = (next.at - pulse.at) / rate_hz;
        let interval_s = self.last_at.map(|before| (pulse.at - before) / rate_hz);
        let interval_s = interval_s.filter(|interval| *interval <= self.p.interval_s_max);
        self.last_at = Some(pulse.at);
        let usual = median(self.intervals.iter().copied());
        if let Some(interval) = interval_s {
            keep_latest(&mut self.intervals, interval, INTERVALS);
        }
        let width = usual.unwrap_or(after_s).min(self.p.interval_s_max) * rate_hz;
        let likeness = self.compare(pulse.at - SHAPE_BEFORE * width, pulse.at + SHAPE_AFTER * width);
        // Intervals of half and of twice the usual are those of an extra or a missed peak.
        let regular = usual.is_none_or(|usual| {
            [interval_s, Some(after_s)].iter().flatten().all(|interval| (0.6..1.7).contains(&(interval / usual)))
        });
        let delay = (self.smooth[0].width() - 1) as f64;
        self.out.push_back(Pulse {
            at_s: self.blocks.time_of(pulse.at - delay),
            interval_s,
            peak: pulse.value,
            foot: pulse.foot,
            likeness,
            good: likeness >= self.p.likeness && regular,
        });
    }

    /// Correlation of the stretch with the template, which learns from it.
    fn compare(&mut self, from: f64, until: f64) -> f64 {
        if from < 0.0 {
            return 0.0;
        }
        let mut shape = [0.0; POINTS];
        for (n, point) in shape.iter_mut().enumerate() {
            let at = from + (until - from) * n as f64 / POINTS as f64;
            let (below, above) = (self.smoothed.get(at as u64), self.smoothed.get(at as u64 + 1));
            let (Some(below), Some(above)) = (below, above) else { return 0.0 };
            *point = below + (above - below) * at.fract();
        }
        let mean = shape.iter().sum::<f64>() / POINTS as f64;
        shape.iter_mut().for_each(|point| *point -= mean);
        let norm = shape.iter().map(|point| point * point).sum::<f64>().sqrt();
        if norm <= 0.0 {
            return 0.0;
        }
        shape.iter_mut().for_each(|point| *point /= norm);
        let Some(template) = &mut self.template else {
            self.template = Some(shape);
            return 0.0;
        };
        let scale = template.iter().map(|point| point * point).sum::<f64>().sqrt();
        let product: f64 = template.iter().zip(&shape).map(|(a, b)| a * b).sum();
        for (usual, point) in template.iter_mut().zip(shape) {
            *usual += self.p.template_share * (point - *usual);
        }
        if scale > 0.0 { product / scale } else { 0.0 }
    }
}

/// The mean rate of good pulses among `pulses`, in /min, and the share of good ones; nothing without an interval of two good ones.
pub(crate) fn pulse_rate<'a>(pulses: impl IntoIterator<Item = &'a Pulse>) -> Option<(f64, f64)> {
    let (mut sum, mut count, mut good, mut all) = (0.0, 0u32, 0u32, 0u32);
    let mut good_before = false;
    for pulse in pulses {
        all += 1;
        good += u32::from(pulse.good);
        if let Some(interval) = pulse.interval_s.filter(|_| pulse.good && good_before) {
            sum += interval;
            count += 1;
        }
        good_before = pulse.good;
    }
    (count > 0).then(|| (60.0 * f64::from(count) / sum, f64::from(good) / f64::from(all)))
}

#[cfg(test)]
mod tests;
