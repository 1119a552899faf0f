//! Power of the intervals' variation in the bands of the Task Force.
//!
//! Source: bands, Task Force 1996. The spectrum is the periodogram of Lomb (Astrophys Space Sci 1976;39:447) and Scargle (Astrophys J
//! 1982;263:835) over the intervals at the times of their beats: nothing is interpolated where beats are missing (Laguna, Moody and Mark, IEEE
//! Trans Biomed Eng 1998;45:698). Mean and linear trend are taken away. At each multiple of 1/window, power is the periodogram times 2/count, so
//! that all multiples add up to the variance; a band's power is the sum over its multiples. Unit: square seconds.

use super::Nn;
use std::f64::consts::TAU;

/// Upper ends of very low, low and high frequencies, in Hz.
const BANDS_HZ: [f64; 3] = [0.04, 0.15, 0.4];
/// The least intervals that make a spectrum.
const COUNT_MIN: usize = 64;

pub(super) const PARAMETERS: [(&str, f64); 4] = [
    ("spectrum.very_low_hz_max", BANDS_HZ[0]),
    ("spectrum.low_hz_max", BANDS_HZ[1]),
    ("spectrum.high_hz_max", BANDS_HZ[2]),
    ("spectrum.count_min", COUNT_MIN as f64),
];

/// Power in each band, in square seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bands {
    pub(crate) very_low: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Power of the intervals of a window of `window_s` in the three bands; nothing of too few intervals.
pub(crate) fn bands(intervals: &[Nn], window_s: f64) -> Option<Bands> {
    if intervals.len() < COUNT_MIN {
        return None;
    }
    let points = detrended(intervals);
    let mut out = Bands::default();
    for multiple in 1.. {
        let frequency_hz = f64::from(multiple) / window_s;
        let power = periodogram(&points, frequency_hz) * 2.0 / points.len() as f64;
        match frequency_hz {
            f if f <= BANDS_HZ[0] => out.very_low += power,
            f if f <= BANDS_HZ[1] => out.low += power,
            f if f <= BANDS_HZ[2] => out.high += power,
            _ => break,
        }
    }
    Some(out)
}

/// Times and intervals without their mean and linear trend.
fn detrended(intervals: &[Nn]) -> Vec<(f64, f64)> {
    let first = intervals.first().map_or(0, |nn| nn.at.0);
    let count = intervals.len() as f64;
    let time_s = |nn: &Nn| nn.at.0.saturating_sub(first) as f64 / 1_000.0;
    let mean_time_s = intervals.iter().map(time_s).sum::<f64>() / count;
    let mean_s = intervals.iter().map(|nn| nn.interval_s).sum::<f64>() / count;
    let (mut product, mut square) = (0.0, 0.0);
    for nn in intervals {
        let from_mean = time_s(nn) - mean_time_s;
        product += from_mean * (nn.interval_s - mean_s);
        square += from_mean * from_mean;
    }
    let slope = if square > 0.0 { product / square } else { 0.0 };
    let point = |nn: &Nn| {
        let from_mean = time_s(nn) - mean_time_s;
        (from_mean, nn.interval_s - mean_s - slope * from_mean)
    };
    intervals.iter().map(point).collect()
}

/// Scargle's periodogram at one frequency.
fn periodogram(points: &[(f64, f64)], frequency_hz: f64) -> f64 {
    let w = TAU * frequency_hz;
    let (sines, cosines) = points.iter().fold((0.0, 0.0), |(sines, cosines), (t, _)| {
        let (sin, cos) = (2.0 * w * t).sin_cos();
        (sines + sin, cosines + cos)
    });
    // The shift of time that makes sine and cosine independent.
    let shift_s = sines.atan2(cosines) / (2.0 * w);
    let (mut xc, mut xs, mut cc, mut ss) = (0.0, 0.0, 0.0, 0.0);
    for (t, x) in points {
        let (sin, cos) = (w * (t - shift_s)).sin_cos();
        xc += x * cos;
        xs += x * sin;
        cc += cos * cos;
        ss += sin * sin;
    }
    let part = |product: f64, square: f64| if square > 1e-9 { product * product / square } else { 0.0 };
    (part(xc, cc) + part(xs, ss)) / 2.0
}
