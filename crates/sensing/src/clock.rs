//! How a device's clock stands to ours: its offset and its drift, from the times of frames and of their receipt.
//!
//! A frame comes late by the clock's offset and by the way's delay, which is never negative and now and then short. So the line
//! below all points (device time, lateness) that lies closest to them has the clock in it and the delays above it: Moon, Skelly,
//! Towsley, IEEE INFOCOM 1999, 227. Of ten seconds the earliest frame counts, as NTP's filter takes the sample of the least
//! delay (RFC 5905, section 10).

use record::TimeMs;
use std::{collections::VecDeque, fmt};

/// Of so many milliseconds the frame of the least delay counts.
const BUCKET_MS: u64 = 10_000;
/// The most frames that count: an hour.
const BUCKETS_MAX: usize = 360;
/// A clock drifts for at least so long before its drift is told, in milliseconds. Delays that vary by 10 ms then make 170 ppm.
const DRIFT_AFTER_MS: u64 = 60_000;
/// A frame that is earlier than every one before by more than this shows that the clock was set, in milliseconds.
const SET_MS: i64 = 1_000;

/// The times of a device's frames, an hour long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    // INVARIANT: device times ascend, one for each bucket.
    earliest: VecDeque<Late>,
    /// The last frame's device time.
    last_ms: u64,
}

/// The frame of a bucket with the least delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Late {
    device_ms: u64,
    late_ms: i64,
}

/// What the times tell of a clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The device's clock minus ours at its last frame, in milliseconds. Too low by the way's shortest delay, which nothing tells.
    pub offset_ms: i64,
    /// By how much the device's clock is faster than ours, in parts per million; nothing before a minute has passed.
    pub drift_ppm: Option<f64>,
}

impl Clock {
    /// Takes the times of one frame. A device clock that was set begins anew.
    pub fn take(&mut self, device: TimeMs, received: TimeMs) {
        let difference = i128::from(received.0) - i128::from(device.0);
        let Ok(late_ms) = i64::try_from(difference) else { return };
        let new = Late { device_ms: device.0, late_ms };
        let went_back = device.0.saturating_add(SET_MS.unsigned_abs()) < self.last_ms;
        self.last_ms = device.0;
        let least = self.earliest.iter().map(|late| late.late_ms).min();
        if went_back || least.is_some_and(|least| late_ms < least.saturating_sub(SET_MS)) {
            self.earliest.clear();
        }
        match self.earliest.back_mut() {
            Some(last) if device.0 / BUCKET_MS <= last.device_ms / BUCKET_MS => {
                if new.late_ms < last.late_ms && new.device_ms >= last.device_ms {
                    *last = new;
                }
            }
            _ => self.earliest.push_back(new),
        }
        if self.earliest.len() > BUCKETS_MAX {
            self.earliest.pop_front();
        }
    }

    /// What the times tell; nothing before the first frame.
    pub fn estimate(&self) -> Option<Estimate> {
        let (first, last) = (self.earliest.front()?, self.earliest.back()?);
        let points: Vec<(f64, f64)> = self
            .earliest
            .iter()
            .map(|late| ((late.device_ms - first.device_ms) as f64, late.late_ms.saturating_sub(first.late_ms) as f64))
            .collect();
        let span_ms = last.device_ms - first.device_ms;
        let (slope, late_ms) = if span_ms < DRIFT_AFTER_MS {
            (None, points.iter().map(|point| point.1).fold(f64::MAX, f64::min))
        } else {
            let ((x, y), slope) = line_below(&points)?;
            (Some(slope), y + slope * (span_ms as f64 - x))
        };
        let offset_ms = first.late_ms.saturating_add(late_ms.round() as i64).saturating_neg();
        Some(Estimate { offset_ms, drift_ppm: slope.map(|slope| -slope * 1e6) })
    }
}

/// The line below all points whose distances to it have the least sum: the edge of their lower hull beneath their mean. A point of
/// it and its slope; nothing for fewer than two points. Points are in the order of their first coordinate.
fn line_below(points: &[(f64, f64)]) -> Option<((f64, f64), f64)> {
    let mut hull: Vec<(f64, f64)> = Vec::new();
    for &point in points {
        while let [.., a, b] = hull[..] {
            let turns_up = (b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0) > 0.0;
            if turns_up {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    let mean = points.iter().map(|point| point.0).sum::<f64>() / points.len() as f64;
    let edge = hull.windows(2).find(|edge| edge[1].0 >= mean)?;
    Some((edge[0], (edge[1].1 - edge[0].1) / (edge[1].0 - edge[0].0)))
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.offset_ms < 0 { "behind" } else { "ahead" };
        write!(f, "{} ms {side}", self.offset_ms.unsigned_abs())?;
        match self.drift_ppm {
            Some(ppm) => write!(f, ", {:.1} ppm {}", ppm.abs(), if ppm < 0.0 { "slow" } else { "fast" }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::Chance;

    const START: u64 = 1_795_255_200_000;

    /// Frames a second over a way of at least 20 ms with delays that are spread exponentially by 80 ms and now and then by seconds.
    fn clock(seed: u64, seconds: u64, offset_ms: f64, drift_ppm: f64) -> Clock {
        let (mut clock, mut chance) = (Clock::default(), Chance::new(seed));
        for second in 0..seconds {
            let true_ms = second as f64 * 1_000.0;
            let device_ms = true_ms * (1.0 + drift_ppm / 1e6) + offset_ms;
            let crowded = if chance.unit() < 0.05 { 30.0 } else { 1.0 };
            let delay_ms = 20.0 - 80.0 * crowded * (1.0 - chance.unit()).ln();
            let at = |ms: f64| TimeMs((START as f64 + ms).round() as u64);
            clock.take(at(device_ms), at(true_ms + delay_ms));
        }
        clock
    }

    #[test]
    fn offset_and_drift_are_found_beneath_the_delays() {
        for seed in 0..20 {
            for (offset_ms, drift_ppm) in [(0.0, 0.0), (-3_000.0, 50.0), (1_500.0, -200.0), (40.0, 5.0)] {
                let told = clock(seed, 3_600, offset_ms, drift_ppm).estimate().unwrap();
                let now_ms = offset_ms + 3_600.0 * drift_ppm / 1e3;
                let (off, drift) = (told.offset_ms as f64 - now_ms, told.drift_ppm.unwrap() - drift_ppm);
                println!("seed {seed}: {told}; off by {off:.0} ms and {drift:.1} ppm");
                assert!((-60.0..10.0).contains(&off) && drift.abs() < 10.0, "seed {seed}: {told}");
            }
        }
    }

    #[test]
    fn drift_is_not_told_before_a_minute_has_passed() {
        assert_eq!(Clock::default().estimate(), None);
        let told = clock(1, 50, 400.0, 100.0).estimate().unwrap();
        assert_eq!(told.drift_ppm, None);
        assert!((300..=400).contains(&told.offset_ms), "{told}");
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        for step_ms in [-5_000i64, 5_000] {
            let mut clock = clock(2, 600, 0.0, 0.0);
            for second in 600..900u64 {
                let at = START + second * 1_000;
                clock.take(TimeMs(at.saturating_add_signed(step_ms)), TimeMs(at + 20));
            }
            let told = clock.estimate().unwrap();
            assert_eq!(told.offset_ms, step_ms - 20, "{told}");
            assert!(told.drift_ppm.unwrap().abs() < 1.0, "{told}");
        }
    }

    #[test]
    fn times_at_the_ends_of_what_can_be_said_are_taken() {
        let mut clock = Clock::default();
        for (device, received) in [(0, u64::MAX), (u64::MAX, 0), (0, 0), (u64::MAX, u64::MAX), (1, u64::MAX)] {
            clock.take(TimeMs(device), TimeMs(received));
            let _ = clock.estimate();
        }
    }

    #[test]
    fn an_estimate_is_said_in_words() {
        let told = |offset_ms, drift_ppm| Estimate { offset_ms, drift_ppm }.to_string();
        assert_eq!(told(-40, Some(12.34)), "40 ms behind, 12.3 ppm fast");
        assert_eq!(told(7, Some(-3.0)), "7 ms ahead, 3.0 ppm slow");
        assert_eq!(told(0, None), "0 ms ahead");
    }
}
