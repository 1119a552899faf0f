//! The frames of a few seconds as a batch entry names them: root, count, first, last, and the counters that are missing.

use crate::{Gap, merkle};
use record::Digest;

/// The most gaps of one batch. A stream with more of them is batched in shorter pieces.
pub const GAPS_MAX: usize = 128;

/// Why frames are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Counters do not rise, or not above the batch before.
    #[error("counter {0} is not above the one before it")]
    Counter(u64),
    /// More than [`GAPS_MAX`] gaps.
    #[error("a batch has at most {GAPS_MAX} gaps")]
    Gaps,
    /// More frames than an entry counts.
    #[error("too many frames for one batch")]
    Frames,
}

/// What a batch entry says of its frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) root: Digest,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) gaps: Vec<Gap>,
}

/// Sums up admitted frames, counter and digest, in order; `after` is the last counter of the binding's batch before.
pub(crate) fn summary(after: Option<u64>, admitted: &[(u64, Digest)]) -> Result<Summary, BatchError> {
    let count = u32::try_from(admitted.len()).map_err(|_| BatchError::Frames)?;
    let (first, last) = match (admitted.first(), admitted.last()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => (0, 0),
    };
    let mut gaps = Vec::new();
    let mut before = after;
    for (counter, _) in admitted {
        if before.is_some_and(|before| before >= *counter) || *counter == 0 {
            return Err(BatchError::Counter(*counter));
        }
        if let Some(before) = before.filter(|before| counter - before > 1) {
            gaps.push(Gap { first: before + 1, last: counter - 1 });
        }
        before = Some(*counter);
    }
    if gaps.len() > GAPS_MAX {
        return Err(BatchError::Gaps);
    }
    let root = merkle::root(admitted.iter().map(|(_, digest)| merkle::leaf(digest.as_ref())));
    Ok(Summary { root, count, first, last, gaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(after: Option<u64>, counters: &[u64], expected: &str) {
        let frames: Vec<_> = counters.iter().map(|counter| (*counter, Digest([7; 32]))).collect();
        let said = match summary(after, &frames) {
            Err(error) => error.to_string(),
            Ok(sum) => {
                let gaps: Vec<_> = sum.gaps.iter().map(|gap| format!("{}-{}", gap.first, gap.last)).collect();
                format!("{} frames {}..{} without [{}]", sum.count, sum.first, sum.last, gaps.join(" "))
            }
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn missing_counters_are_named_also_those_since_the_batch_before() {
        check(None, &[5, 6, 7], "3 frames 5..7 without []");
        check(Some(4), &[5, 6, 7], "3 frames 5..7 without []");
        check(Some(1), &[5, 7, 10], "3 frames 5..10 without [2-4 6-6 8-9]");
        check(Some(9), &[], "0 frames 0..0 without []");
        check(Some(5), &[5], "counter 5 is not above the one before it");
        check(None, &[3, 3], "counter 3 is not above the one before it");
        check(None, &[0], "counter 0 is not above the one before it");
        let sparse: Vec<u64> = (1..=GAPS_MAX as u64 + 2).map(|i| i * 2).collect();
        check(None, &sparse, "a batch has at most 128 gaps");
    }
}
