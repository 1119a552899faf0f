//! Respiration in what it does to the pulse: three modulations of each beat, and the rate that they share.
//!
//! Source: Karlen et al., IEEE Trans Biomed Eng 2013;60:1946 (intensity, amplitude and frequency of pulses; fused where they agree);
//! Lázaro et al., Med Biol Eng Comput 2014;52:661 (spectra averaged as far as each has one peak); Charlton et al., Physiol Meas
//! 2016;37:610 (the same for amplitude, level and interval of QRS complexes).

use crate::smooth::{median, vertex};
use std::f64::consts::TAU;

/// Parameters of the estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModulationParameters {
    /// Samples a second that the modulations are interpolated to. Source: Karlen et al. 2013, 4 Hz.
    pub work_hz: f64,
    /// The slowest rate that is looked for, /min. Source: Karlen et al. 2013.
    pub rate_min: f64,
    /// The fastest one, /min. Source: Karlen et al. 2013.
    pub rate_max: f64,
    /// A beat shows nothing faster than this share of the heart rate: below half of it.
    pub rate_share: f64,
    /// Distance of the rates that are tried, /min.
    pub rate_step: f64,
    /// Power within this distance of a peak belongs to it, /min: the main lobe of a Hann window of 32 s.
    pub lobe: f64,
    /// Degree of the polynomial that is taken out of a modulation: what is slower than a breath.
    pub degree: usize,
    /// What is not respiration drifts, with a power that falls with this power of the rate: between that of pink noise (1) and of a random
    /// walk (2). Weighting takes it out.
    pub whitening: f64,
    /// Values further than so many median deviations from the median are left out.
    pub outlier: f64,
    /// The longest time without a good beat, in seconds.
    pub hole_s_max: f64,
    /// Modulations of which the peaks spread more than this disagree, /min. Source: Karlen et al. 2013, a deviation of 4.
    pub spread: f64,
}

impl ModulationParameters {
    /// The parameters that findings are made with.
    pub const STANDARD: Self = Self {
        work_hz: 4.0,
        rate_min: 4.0,
        rate_max: 65.0,
        rate_share: 0.45,
        rate_step: 0.25,
        lobe: 3.75,
        degree: 3,
        whitening: 1.5,
        outlier: 5.0,
        hole_s_max: 5.0,
        spread: 4.0,
    };

    /// Every parameter by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("work_hz", self.work_hz),
            ("rate_min", self.rate_min),
            ("rate_max", self.rate_max),
            ("rate_share", self.rate_share),
            ("rate_step", self.rate_step),
            ("lobe", self.lobe),
            ("degree", self.degree as f64),
            ("whitening", self.whitening),
            ("outlier", self.outlier),
            ("hole_s_max", self.hole_s_max),
            ("spread", self.spread),
            ("agreeing", AGREEING as f64),
        ]
        .into_iter()
    }
}

/// How many of the three modulations must agree.
const AGREEING: usize = 2;

/// A beat as it carries respiration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Modulated {
    /// When, in seconds.
    pub at_s: f64,
    /// From the beat before, in seconds, where that was the one before.
    pub interval_s: Option<f64>,
    /// Level of its peak.
    pub level: f64,
    /// Its height.
    pub amplitude: f64,
}

/// A rate of respiration in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModulatedRate {
    /// Breaths, /min.
    pub rate_per_min: f64,
    /// How much of the power is at that rate, times the share of modulations that agree: 0 to 1.
    pub quality: f64,
    /// The peak of each modulation alone, /min: level, amplitude, interval.
    pub peaks: [Option<f64>; 3],
}

/// The rate that `beats`, in order and within `[from_s, until_s)`, are modulated with. Nothing where there are
/// too few of them, or no two modulations agree.
pub fn modulated_rate(
    beats: &[Modulated],
    (from_s, until_s): (f64, f64),
    p: &ModulationParameters,
) -> Option<ModulatedRate> {
    let inner = beats.iter().map(|beat| beat.at_s);
    let edges = std::iter::once(from_s).chain(inner).chain([until_s]).collect::<Vec<f64>>();
    if edges.windows(2).any(|pair| pair[1] - pair[0] > p.hole_s_max) {
        return None;
    }
    let usual = median(beats.iter().filter_map(|beat| beat.interval_s))?;
    let fastest = (p.rate_share * 60.0 / usual).min(p.rate_max);
    let count = ((fastest - p.rate_min) / p.rate_step).floor();
    if count < 3.0 {
        return None;
    }
    let rates: Vec<f64> = (0..=count as u32).map(|n| p.rate_min + f64::from(n) * p.rate_step).collect();
    let series: [Vec<(f64, f64)>; 3] = [
        beats.iter().map(|beat| (beat.at_s, beat.level)).collect(),
        beats.iter().map(|beat| (beat.at_s, beat.amplitude)).collect(),
        beats
            .iter()
            .filter_map(|beat| beat.interval_s.map(|interval| (beat.at_s - interval / 2.0, interval)))
            .collect(),
    ];
    let mut peaks = [None; 3];
    let mut fused = vec![0.0; rates.len()];
    for (series, peak) in series.into_iter().zip(&mut peaks) {
        let Some(spectrum) = spectrum(series, (from_s, until_s), &rates, p) else { continue };
        let Some((rate, share)) = highest(&spectrum, &rates, p) else { continue };
        *peak = Some((rate, share));
        // One peak says more than many.
        for (sum, power) in fused.iter_mut().zip(&spectrum) {
            *sum += share.powi(2) * power;
        }
    }
    let (centre, share) = highest(&fused, &rates, p)?;
    let near = peaks.iter().flatten().filter(|(rate, _)| (rate - centre).abs() <= p.spread);
    let weight: f64 = near.clone().map(|(_, share)| share.powi(2)).sum();
    let mean = near.clone().map(|(rate, share)| share.powi(2) * rate).sum::<f64>() / weight;
    let agreeing = near.count();
    (agreeing >= AGREEING).then(|| ModulatedRate {
        rate_per_min: mean,
        quality: share * agreeing as f64 / 3.0,
        peaks: peaks.map(|peak| peak.map(|(rate, _)| rate)),
    })
}

/// Power at each of `rates`, summing up to 1.
fn spectrum(
    mut series: Vec<(f64, f64)>,
    (from_s, until_s): (f64, f64),
    rates: &[f64],
    p: &ModulationParameters,
) -> Option<Vec<f64>> {
    if series.len() < 4 {
        return None;
    }
    let middle = median(series.iter().map(|(_, value)| *value))?;
    let deviation = median(series.iter().map(|(_, value)| (value - middle).abs()))?;
    let reach = deviation * p.outlier;
    series.retain(|(_, value)| (value - middle).abs() <= reach);
    let mut values = interpolated(&series, from_s, until_s, p.work_hz)?;
    straighten(&mut values, p.degree);
    let count = values.len() as f64;
    for (n, value) in values.iter_mut().enumerate() {
        // Under a Hann window.
        *value *= 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / count).cos();
    }
    let mut out = Vec::with_capacity(rates.len());
    for rate in rates {
        let turn = TAU * rate / 60.0 / p.work_hz;
        // Goertzel: the same as a sum of sines and cosines.
        let twice = 2.0 * turn.cos();
        let (mut one, mut two) = (0.0, 0.0);
        for value in &values {
            (one, two) = (value + twice * one - two, one);
        }
        out.push((one * one + two * two - twice * one * two) * rate.powf(p.whitening));
    }
    let sum: f64 = out.iter().sum();
    if sum.is_nan() || sum <= 0.0 {
        return None;
    }
    out.iter_mut().for_each(|power| *power /= sum);
    Some(out)
}

/// Takes out the polynomial of `degree` that fits best: what is slower than a breath.
fn straighten(values: &mut [f64], degree: usize) {
    let count = values.len();
    let place = |n: usize| 2.0 * (n as f64 + 0.5) / count as f64 - 1.0;
    // Polynomials that are orthogonal on the samples, each by recurrence from the two before (Forsythe, J SIAM 1957;5:74).
    let mut before = vec![0.0; count];
    let mut here = vec![1.0; count];
    let mut squares_before = 1.0;
    for degree_here in 0..=degree {
        let squares: f64 = here.iter().map(|p| p * p).sum();
        if squares <= 0.0 {
            return;
        }
        let share = values.iter().zip(&here).map(|(value, p)| value * p).sum::<f64>() / squares;
        values.iter_mut().zip(&here).for_each(|(value, p)| *value -= share * p);
        let middle = here.iter().enumerate().map(|(n, p)| place(n) * p * p).sum::<f64>() / squares;
        let back = if degree_here == 0 { 0.0 } else { squares / squares_before };
        let next = here.iter().zip(&before).enumerate().map(|(n, (p, q))| (place(n) - middle) * p - back * q).collect();
        before = std::mem::replace(&mut here, next);
        squares_before = squares;
    }
}

/// Linear between the points, constant beyond the first and the last.
fn interpolated(series: &[(f64, f64)], from_s: f64, until_s: f64, rate_hz: f64) -> Option<Vec<f64>> {
    let mut next = 0;
    let count = ((until_s - from_s) * rate_hz).round() as usize;
    (0..count)
        .map(|n| {
            let at = from_s + (n as f64 + 0.5) / rate_hz;
            while series.get(next).is_some_and(|(time, _)| *time <= at) {
                next += 1;
            }
            let before = next.checked_sub(1).and_then(|place| series.get(place));
            match (before, series.get(next)) {
                (Some((t0, v0)), Some((t1, v1))) => Some(v0 + (v1 - v0) * (at - t0) / (t1 - t0).max(1e-9)),
                (Some((_, value)), None) | (None, Some((_, value))) => Some(*value),
                (None, None) => None,
            }
        })
        .collect()
}

/// The rate of the highest peak and the share of power that belongs to it. The ends are no peaks.
fn highest(spectrum: &[f64], rates: &[f64], p: &ModulationParameters) -> Option<(f64, f64)> {
    let mut top: Option<(usize, f64)> = None;
    for (at, around) in spectrum.windows(3).enumerate() {
        let [before, here, after] = around else { continue };
        if here >= before && here > after && top.is_none_or(|(_, highest)| *here > highest) {
            top = Some((at + 1, *here));
        }
    }
    let (top, _) = top?;
    let near = |at: usize| spectrum.get(at).copied().unwrap_or(0.0);
    let rate = rates.get(top)? + p.rate_step * vertex(near(top - 1), near(top), near(top + 1));
    let sum: f64 = spectrum.iter().sum();
    let own: f64 =
        rates.iter().zip(spectrum).filter(|(at, _)| (**at - rate).abs() <= p.lobe).map(|(_, power)| power).sum();
    (sum > 0.0).then(|| (rate, own / sum))
}

#[cfg(test)]
mod tests;
