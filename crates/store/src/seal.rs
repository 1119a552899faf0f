//! Sealing: the caller's part of a commit, which numbers and signs the ledger entries of a group of writes.

use crate::row::Submission;

/// Why entries could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger entries could not be sealed: {0}")]
pub struct SealError(pub String);

/// A signed submission of consecutive entries of one lane of this organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSubmission {
    /// The lane.
    pub lane: u32,
    /// Sequence number of its first entry.
    pub first_seq: u64,
    /// How many entries, at least one.
    pub count: u32,
    /// The signed bytes.
    pub bytes: Vec<u8>,
}

impl SealedSubmission {
    /// Sequence number of its last entry.
    pub fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.count)).saturating_sub(1)
    }
}

/// Numbers and signs ledger entries. Runs on the writer thread, inside the transaction; must not wait for the store.
///
/// Sequence numbers begin above what the ledger has applied, above [`crate::Opened::lanes`], and above the verified submissions of the
/// own lane in the database: a lane is written by one gateway only, and a row of it that stands at a number used now is overwritten.
pub trait Seal: Send {
    /// Seals the entries of one group. The submissions carry the entries in the given order, each once.
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError>;

    /// The group was rolled back: the sequence numbers given by the last `seal` are free again.
    fn abort(&mut self);

    /// The group is durable: the submissions may go to the ledger.
    fn committed(&mut self, sealed: &[SealedSubmission]);
}

/// A submission that was in the journal when the store was opened, is committed, and is not known to be final on the ledger.
pub type Kept = SealedSubmission;

impl From<Submission> for SealedSubmission {
    fn from(submission: Submission) -> Self {
        let Submission { lane, first_seq, count, bytes, .. } = submission;
        Self { lane, first_seq, count, bytes }
    }
}
