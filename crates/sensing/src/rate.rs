//! How many frames a device may send: a bucket of tokens (Turner, IEEE Commun Mag 1986;24:8) over times that the caller gives.

use record::TimeMs;

/// Frames a second that a device may send for good. A frame carries about a second, so that one which stored a day while it was
/// offline catches up within 45 minutes.
pub const FRAMES_PER_S_MAX: u64 = 32;
/// Frames that a device may send at once.
pub const FRAMES_AT_ONCE_MAX: u64 = 512;

/// A bucket that fills by [`FRAMES_PER_S_MAX`] a second and holds [`FRAMES_AT_ONCE_MAX`].
///
/// Only frames with the device's own signature take from it: whoever sends others in its name must not use up what it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    // INVARIANT: at most FRAMES_AT_ONCE_MAX thousands.
    thousandths: u64,
    at: TimeMs,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { thousandths: FRAMES_AT_ONCE_MAX * 1_000, at: TimeMs(0) }
    }
}

impl Bucket {
    /// Takes one frame at `now`; fails with the milliseconds to wait. A clock that went back fills nothing.
    pub fn take(&mut self, now: TimeMs) -> Result<(), u64> {
        let passed_ms = now.0.saturating_sub(self.at.0);
        // A frame a second is a thousandth of a frame a millisecond.
        let filled = self.thousandths.saturating_add(passed_ms.saturating_mul(FRAMES_PER_S_MAX));
        self.at = self.at.max(now);
        self.thousandths = filled.min(FRAMES_AT_ONCE_MAX * 1_000);
        match self.thousandths.checked_sub(1_000) {
            Some(left) => {
                self.thousandths = left;
                Ok(())
            }
            None => Err((1_000 - self.thousandths).div_ceil(FRAMES_PER_S_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_that_is_empty_fills_as_time_passes() {
        let mut bucket = Bucket::default();
        let start = TimeMs(1_795_255_200_000);
        assert!((0..FRAMES_AT_ONCE_MAX).all(|_| bucket.take(start).is_ok()));
        let wait_ms = bucket.take(start).unwrap_err();
        assert_eq!(wait_ms, 32);
        assert_eq!(bucket.take(start.plus_ms(wait_ms - 1)), Err(1));
        assert_eq!(bucket.take(start.plus_ms(wait_ms)), Ok(()));
        assert!(bucket.take(TimeMs(0)).is_err(), "a clock that went back filled the bucket");
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
            let allowed = FRAMES_AT_ONCE_MAX + (last - first) * FRAMES_PER_S_MAX / 1_000 + 1;
            prop_assert!(taken.len() as u64 <= allowed, "{} of {allowed}", taken.len());
        }
    }
}
