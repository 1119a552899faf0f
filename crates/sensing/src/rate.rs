//! How many frames a device may send: a bucket of tokens (Turner, IEEE Commun Mag 1986;24:8) over times that the caller gives.

use record::TimeMs;

/// How many frames a device may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Frames a second, for good.
    pub per_s: u32,
    /// Frames at once.
    pub at_once: u32,
}

impl Rate {
    /// 32 a second and 512 at once. A frame carries about a second, so a device that stored a day while it was offline catches up
    /// within 45 minutes.
    pub const USUAL: Self = Self { per_s: 32, at_once: 512 };
}

/// A bucket that fills by a [`Rate`] and holds what may come at once.
///
/// Only frames with the device's own signature take from it: whoever sends others in its name must not use up what it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    // INVARIANT: at most a thousand times what may come at once.
    thousandths: u64,
    at: TimeMs,
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new(Rate::USUAL)
    }
}

impl Bucket {
    /// A full bucket. A rate of nothing lets through what may come at once, and then nothing.
    pub fn new(rate: Rate) -> Self {
        Self { rate, thousandths: u64::from(rate.at_once) * 1_000, at: TimeMs(0) }
    }

    /// Takes one frame at `now`; fails with the milliseconds to wait. A clock that went back fills nothing.
    pub fn take(&mut self, now: TimeMs) -> Result<(), u64> {
        let passed_ms = now.0.saturating_sub(self.at.0);
        // A frame a second is a thousandth of a frame a millisecond.
        let filled = self.thousandths.saturating_add(passed_ms.saturating_mul(self.rate.per_s.into()));
        self.at = self.at.max(now);
        self.thousandths = filled.min(u64::from(self.rate.at_once) * 1_000);
        match self.thousandths.checked_sub(1_000) {
            Some(left) => {
                self.thousandths = left;
                Ok(())
            }
            None => Err((1_000 - self.thousandths).checked_div(self.rate.per_s.into()).map_or(u64::MAX, |ms| ms + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT_ONCE: u64 = Rate::USUAL.at_once as u64;
    const PER_S: u64 = Rate::USUAL.per_s as u64;

    #[test]
    fn a_bucket_that_is_empty_fills_as_time_passes() {
        let mut bucket = Bucket::default();
        let start = TimeMs(1_795_255_200_000);
        assert!((0..AT_ONCE).all(|_| bucket.take(start).is_ok()));
        let wait_ms = bucket.take(start).unwrap_err();
        assert_eq!(wait_ms, 32);
        assert_eq!(bucket.take(start.plus_ms(wait_ms - 1)), Err(1));
        assert_eq!(bucket.take(start.plus_ms(wait_ms)), Ok(()));
        assert!(bucket.take(TimeMs(0)).is_err(), "a clock that went back filled the bucket");
        let mut dry = Bucket::new(Rate { per_s: 0, at_once: 1 });
        assert_eq!((dry.take(start), dry.take(start)), (Ok(()), Err(u64::MAX)));
        assert_eq!(Bucket::new(Rate { per_s: u32::MAX, at_once: 0 }).take(start), Err(1));
    }

    proptest! {
        #[test]
        fn no_second_has_more_frames_than_the_bucket_allows(steps in proptest::collection::vec(0u64..40, 1..4_000)) {
            let mut bucket = Bucket::default();
            let mut now = TimeMs(1_795_255_200_000);
            let mut taken: Vec<u64> = Vec::new();
            for step in steps {
                now = now.plus_ms(step);
                if bucket.take(now).is_ok() {
                    taken.push(now.0);
                }
            }
            let (first, last) = (taken[0], taken[taken.len() - 1]);
            let allowed = AT_ONCE + (last - first) * PER_S / 1_000 + 1;
            prop_assert!(taken.len() as u64 <= allowed, "{} of {allowed}", taken.len());
        }
    }
}
