//! What one batch entry on the ledger says of a binding's frames: their digests in order, first, last, gaps.

use crate::{Gap, Reading};
use record::{Digest, Id16};

/// The most frames in one batch.
pub const BATCH_FRAMES_MAX: usize = 4_096;
/// The most gaps in one batch.
pub const BATCH_GAPS_MAX: usize = 64;

/// Frames of one binding in the order of their counters. The caller makes the RFC 9162 tree over `leaves`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    binding: Id16,
    // INVARIANT: not empty, at most BATCH_FRAMES_MAX, in the order of the counters.
    leaves: Vec<Digest>,
    first: u64,
    last: u64,
    // INVARIANT: ascending, at most BATCH_GAPS_MAX.
    gaps: Vec<Gap>,
}

/// Why a reading does not go into a batch. The caller closes the batch and starts another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBatched {
    /// The batch has as many frames or gaps as it may have.
    #[error("the batch is full")]
    Full,
    /// The reading belongs to another binding.
    #[error("the reading belongs to binding `{0}`")]
    OtherBinding(Id16),
    /// The reading does not follow the batch's last one.
    #[error("counter {got} does not follow {last}")]
    OutOfOrder {
        /// The reading's counter.
        got: u64,
        /// The batch's last counter.
        last: u64,
    },
}

impl Batch {
    /// The batch that `reading` opens.
    pub fn open(reading: &Reading) -> Self {
        Self {
            binding: reading.binding,
            leaves: vec![reading.digest],
            first: reading.counter,
            last: reading.counter,
            gaps: reading.gap.into_iter().collect(),
        }
    }

    /// Adds the next reading of the binding.
    pub fn push(&mut self, reading: &Reading) -> Result<(), NotBatched> {
        if reading.binding != self.binding {
            return Err(NotBatched::OtherBinding(reading.binding));
        }
        let follows = reading.gap.map_or(reading.counter, |gap| gap.first) == self.last.saturating_add(1);
        if !follows || reading.counter <= self.last {
            return Err(NotBatched::OutOfOrder { got: reading.counter, last: self.last });
        }
        let full =
            self.leaves.len() >= BATCH_FRAMES_MAX || (reading.gap.is_some() && self.gaps.len() >= BATCH_GAPS_MAX);
        if full {
            return Err(NotBatched::Full);
        }
        self.leaves.push(reading.digest);
        self.last = reading.counter;
        self.gaps.extend(reading.gap);
        Ok(())
    }

    /// Id of the binding.
    pub fn binding(&self) -> Id16 {
        self.binding
    }
    /// Digests of the frames in the order of their counters.
    pub fn leaves(&self) -> &[Digest] {
        &self.leaves
    }
    /// How many frames.
    pub fn frames(&self) -> u64 {
        self.leaves.len() as u64
    }
    /// The first frame's counter.
    pub fn first(&self) -> u64 {
        self.first
    }
    /// The last frame's counter.
    pub fn last(&self) -> u64 {
        self.last
    }
    /// Counters that never came; the first gap may lie before `first`.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::TimeMs;

    fn reading(counter: u64, gap: Option<Gap>) -> Reading {
        Reading {
            device: "urn:dev:ops:32473-ox-1".parse().unwrap(),
            patient: "Patient/1".into(),
            binding: Id16([1; 16]),
            counter,
            gap,
            measured_at: TimeMs(0),
            received_at: TimeMs(0),
            clock_offset_ms: 0,
            clock_step_back_ms: 0,
            digest: record::sha256(&[&counter.to_be_bytes()]),
            previous: Digest([0; 32]),
            signature: [0; 64],
            signals: vec![],
            doubts: vec![],
        }
    }

    #[test]
    fn a_batch_lists_its_frames_and_what_is_missing_between_them() {
        let mut batch = Batch::open(&reading(3, Some(Gap { first: 1, last: 2 })));
        batch.push(&reading(4, None)).unwrap();
        batch.push(&reading(7, Some(Gap { first: 5, last: 6 }))).unwrap();
        assert_eq!((batch.frames(), batch.first(), batch.last()), (3, 3, 7));
        assert_eq!(batch.gaps(), [Gap { first: 1, last: 2 }, Gap { first: 5, last: 6 }]);
        assert_eq!(batch.leaves()[2], reading(7, None).digest);
    }

    #[test]
    fn a_frame_out_of_order_or_of_another_binding_stays_out() {
        let mut batch = Batch::open(&reading(3, None));
        assert_eq!(batch.push(&reading(3, None)), Err(NotBatched::OutOfOrder { got: 3, last: 3 }));
        assert_eq!(batch.push(&reading(5, None)), Err(NotBatched::OutOfOrder { got: 5, last: 3 }));
        let other = Reading { binding: Id16([2; 16]), ..reading(4, None) };
        assert_eq!(batch.push(&other), Err(NotBatched::OtherBinding(Id16([2; 16]))));
    }

    #[test]
    fn a_full_batch_takes_no_more() {
        let mut batch = Batch::open(&reading(1, None));
        for counter in 2..=BATCH_FRAMES_MAX as u64 {
            batch.push(&reading(counter, None)).unwrap();
        }
        assert_eq!(batch.push(&reading(batch.last() + 1, None)), Err(NotBatched::Full));
    }
}
