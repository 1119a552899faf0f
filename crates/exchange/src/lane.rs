//! This gateway's lane on the ledger: numbers and signs what was written together, and brings it to the ledger until it is final.

use crate::signer::Signer;
use contract::{ENTRIES_MAX, Entry, SUBMISSION_BYTES_MAX, Submission};
use prometheus_client::metrics::histogram::Histogram;
use record::{Digest, sha256};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use store::{Seal, SealError, SealedSubmission};
use tokio::sync::Notify;

/// Bytes of submissions that are kept in memory for submitting again; the journal and the database hold the others.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Finality times that are kept for the statistics.
const TIMES_MAX: usize = 20_000;
/// A submission that is not final after this time is brought to the ledger again.
pub(crate) const RESUBMIT_AFTER: Duration = Duration::from_secs(3);
/// How far apart submissions are brought to the ledger at least and at most: what is written meanwhile goes together into a block. The first
/// after a pause goes at once.
///
/// In between it is as long as the ledger takes to make one final, and as long again. A block costs every member the same whatever is in
/// it: where members share processors that are all in use, blocks for each write slowed down everything, themselves included.
const APART: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(300)];
/// A signed submission's bytes beyond its entries'.
const OVERHEAD_BYTES: usize = 1024;

/// What the writer thread, the submitter and the follower share of one lane.
#[derive(Clone)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
}

struct Shared {
    lane: u32,
    /// Seconds from durable commit to finality.
    finality: Histogram,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// The next sequence number.
    next: u64,
    /// Given by the last `seal`, neither aborted nor committed yet: the number to go back to.
    unsure: Option<u64>,
    /// Sequence number of the last committed entry.
    committed: u64,
    /// Sequence number of the last final entry.
    settled: u64,
    pending: BTreeMap<u64, Pending>,
    pending_bytes: usize,
    times_ms: VecDeque<f64>,
    /// How long the ledger took for what became final last.
    took: Duration,
}

struct Pending {
    last: u64,
    bytes: Kept,
    committed: Instant,
    submitted: Option<Instant>,
}

/// What is kept of a submission in memory.
enum Kept {
    Bytes(Vec<u8>),
    /// The digest: the bytes are in the database, which is not believed.
    Digest(Digest),
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Digest(_) => 0,
        }
    }
}

impl Lane {
    /// A lane that has not begun.
    pub(crate) fn new(lane: u32, finality: Histogram) -> Self {
        let state = State { next: 1, ..State::default() };
        Self { shared: Arc::new(Shared { lane, finality, state: Mutex::new(state), wake: Notify::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane's number.
    pub(crate) fn number(&self) -> u32 {
        self.shared.lane
    }

    /// Goes on after what is already there: `settled` is final, the journal ends at `end`, `kept` is committed and perhaps not final.
    pub(crate) fn resume(&self, settled: u64, end: u64, kept: Vec<SealedSubmission>) {
        let mut state = self.state();
        state.settled = settled;
        state.committed = state.committed.max(settled).max(end);
        for sealed in kept {
            state.commit(sealed);
        }
        state.next = state.next.max(state.committed + 1);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// The sealer of this lane, for the store's writer thread.
    pub(crate) fn sealer(&self, signer: Signer) -> Sealer {
        Sealer { lane: self.clone(), signer }
    }

    /// Whether this gateway committed that submission in this lane, by whatever key it signed then.
    pub(crate) fn is_ours(&self, first: u64, bytes: &[u8]) -> bool {
        match self.state().pending.get(&first).map(|pending| &pending.bytes) {
            Some(Kept::Bytes(kept)) => kept == bytes,
            Some(Kept::Digest(digest)) => *digest == sha256(&[bytes]),
            None => false,
        }
    }

    /// Everything is brought to the ledger again, now: it forgot what an older key signed.
    pub(crate) fn again(&self) {
        self.state().pending.values_mut().for_each(|pending| pending.submitted = None);
        self.shared.wake.notify_one();
    }

    /// Everything up to `seq` is final.
    pub(crate) fn settle(&self, seq: u64) {
        let mut state = self.state();
        state.settled = state.settled.max(seq);
        state.next = state.next.max(seq + 1);
        state.committed = state.committed.max(seq);
        while let Some(first) = state.pending.first_entry().filter(|first| first.get().last <= seq) {
            let pending = first.remove();
            state.pending_bytes -= pending.bytes.len();
            state.took = pending.submitted.map_or(state.took, |at| at.elapsed());
            if state.times_ms.len() == TIMES_MAX {
                state.times_ms.pop_front();
            }
            let took_s = pending.committed.elapsed().as_secs_f64();
            self.shared.finality.observe(took_s);
            state.times_ms.push_back(took_s * 1000.0);
        }
    }

    /// Entries that are committed and not final.
    pub(crate) fn unsettled(&self) -> u64 {
        let state = self.state();
        state.committed.saturating_sub(state.settled)
    }

    /// Seconds since the oldest submission that is not final was committed; 0 when all are final.
    pub(crate) fn oldest_s(&self) -> f64 {
        self.state().pending.values().next().map_or(0.0, |pending| pending.committed.elapsed().as_secs_f64())
    }

    /// Milliseconds from durable commit to finality, latest last.
    pub(crate) fn times_ms(&self) -> Vec<f64> {
        self.state().times_ms.iter().copied().collect()
    }

    /// What should be brought to the ledger now, in order; none of it when nothing is due.
    pub(crate) fn due(&self) -> Due {
        let mut state = self.state();
        let now = Instant::now();
        let mut due = Due::default();
        for (first, pending) in &mut state.pending {
            let waits = pending.submitted.is_some_and(|at| now.duration_since(at) < RESUBMIT_AFTER);
            if waits {
                continue;
            }
            match &pending.bytes {
                Kept::Bytes(bytes) => due.submissions.push((*first, bytes.clone())),
                Kept::Digest(_) => {
                    due.from_store = Some(*first);
                    break;
                }
            }
        }
        due
    }

    /// A submission was taken by the ledger's mempool.
    pub(crate) fn submitted(&self, first: u64) {
        if let Some(pending) = self.state().pending.get_mut(&first) {
            pending.submitted = Some(Instant::now());
        }
    }

    /// How long to wait before more is brought to the ledger.
    pub(crate) fn apart(&self) -> Duration {
        let [least, most] = APART;
        (self.state().took * 2).clamp(least, most)
    }

    /// Waits until something may be due, `at_most` that long.
    pub(crate) async fn wait(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.shared.wake.notified()).await;
    }
}

/// What the submitter has to do.
#[derive(Default)]
pub(crate) struct Due {
    /// First sequence number and bytes.
    pub(crate) submissions: Vec<(u64, Vec<u8>)>,
    /// From this sequence number on the bytes are in the store only.
    pub(crate) from_store: Option<u64>,
}

impl State {
    fn commit(&mut self, sealed: SealedSubmission) {
        let last = sealed.last_seq();
        self.committed = self.committed.max(last);
        if last <= self.settled {
            return;
        }
        let keep = self.pending_bytes + sealed.bytes.len() <= PENDING_BYTES_MAX;
        if keep {
            self.pending_bytes += sealed.bytes.len();
        }
        let bytes = if keep { Kept::Bytes(sealed.bytes) } else { Kept::Digest(sha256(&[&sealed.bytes])) };
        self.pending.insert(sealed.first_seq, Pending { last, bytes, committed: Instant::now(), submitted: None });
    }
}

/// Numbers and signs on the store's writer thread.
pub(crate) struct Sealer {
    lane: Lane,
    signer: Signer,
}

impl Seal for Sealer {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        let (mut sealed, key) = (Vec::new(), self.signer.sealing_key());
        let mut state = self.lane.state();
        let begin = state.next;
        let mut next = begin;
        for chunk in chunks(entries) {
            let entries = chunk
                .iter()
                .map(|bytes| Entry::from_bytes(bytes))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| SealError(e.to_string()))?;
            let count = entries.len() as u32;
            let submission = Submission {
                chain: self.signer.chain(),
                org: self.signer.org().clone(),
                lane: self.lane.number(),
                first_seq: next,
                entries,
            };
            let signed = submission.sign(&key);
            signed.check_shape().map_err(|e| SealError(e.to_string()))?;
            sealed.push(SealedSubmission {
                lane: self.lane.number(),
                first_seq: next,
                count,
                bytes: signed.to_bytes(),
            });
            next += u64::from(count);
        }
        state.unsure = Some(begin);
        state.next = next;
        Ok(sealed)
    }

    fn abort(&mut self) {
        let mut state = self.lane.state();
        if let Some(begin) = state.unsure.take() {
            state.next = begin;
        }
    }

    fn committed(&mut self, sealed: &[SealedSubmission]) {
        let mut state = self.lane.state();
        state.unsure = None;
        for one in sealed {
            state.commit(one.clone());
        }
        drop(state);
        self.lane.shared.wake.notify_one();
    }
}

/// Splits entries so that each part fits a submission in number and size.
fn chunks(entries: &[Vec<u8>]) -> Vec<&[Vec<u8>]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (n, entry) in entries.iter().enumerate() {
        let full = n - begin == ENTRIES_MAX || bytes + entry.len() + OVERHEAD_BYTES > SUBMISSION_BYTES_MAX;
        if full {
            parts.push(&entries[begin..n]);
            (begin, bytes) = (n, 0);
        }
        bytes += entry.len();
    }
    if begin < entries.len() {
        parts.push(&entries[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Body, GrantStep, SignedSubmission};
    use ed25519_dalek::SigningKey;
    use record::{Commitment, Id16, Purpose, TimeMs};
    use std::path::PathBuf;

    fn entry(n: u8) -> Vec<u8> {
        Entry {
            id: Id16([n; 16]),
            org: "mercy".parse().unwrap(),
            time: TimeMs(1),
            purpose: Purpose::Treat,
            policy: Digest([0; 32]),
            actor: Digest([0; 32]),
            patient: None,
            month: None,
            body: Body::Grant {
                id: Id16([n; 16]),
                step: GrantStep::Issued,
                consent: Commitment(Digest([0; 32])),
                until: None,
            },
        }
        .to_bytes()
    }

    fn new_lane() -> Lane {
        Lane::new(0, Histogram::new([1.0]))
    }

    fn sealer(lane: &Lane) -> Sealer {
        let key = SigningKey::from_bytes(&[1; 32]);
        lane.sealer(Signer::new("mercy".parse().unwrap(), Digest([9; 32]), PathBuf::new(), key, Vec::new()))
    }

    #[test]
    fn numbers_continue_after_a_commit_and_go_back_after_an_abort() {
        let lane = new_lane();
        let mut sealer = sealer(&lane);
        let first = sealer.seal(&[entry(1), entry(2)]).unwrap();
        assert_eq!((first[0].first_seq, first[0].count), (1, 2));
        sealer.abort();
        let again = sealer.seal(&[entry(3)]).unwrap();
        assert_eq!(again[0].first_seq, 1);
        sealer.committed(&again);
        assert_eq!(sealer.seal(&[entry(4)]).unwrap()[0].first_seq, 2);
        assert_eq!(lane.unsettled(), 1);
        lane.settle(1);
        assert_eq!(lane.unsettled(), 0);
    }

    #[test]
    fn more_is_brought_later_when_the_ledger_takes_longer() {
        let lane = new_lane();
        let [least, most] = APART;
        for (took, apart) in [(0, least), (15, least), (60, Duration::from_millis(120)), (5_000, most)] {
            lane.state().took = Duration::from_millis(took);
            assert_eq!(lane.apart(), apart, "after {took} ms");
        }
        // What became final says how long it took.
        let mut sealer = sealer(&lane);
        let sealed = sealer.seal(&[entry(1)]).unwrap();
        sealer.committed(&sealed);
        lane.submitted(1);
        lane.settle(1);
        assert!(lane.apart() < most);
    }

    #[test]
    fn a_large_group_becomes_several_submissions_without_a_gap() {
        let lane = new_lane();
        let entries: Vec<_> = (0..ENTRIES_MAX * 2 + 3).map(|n| entry(n as u8)).collect();
        let sealed = sealer(&lane).seal(&entries).unwrap();
        assert_eq!(sealed.len(), 3);
        assert_eq!(sealed[2].first_seq, ENTRIES_MAX as u64 * 2 + 1);
        for one in &sealed {
            SignedSubmission::from_bytes(&one.bytes).unwrap();
        }
    }

    #[test]
    fn what_was_kept_over_a_restart_is_due_at_once_and_in_order() {
        let lane = new_lane();
        let mut before = sealer(&lane);
        let kept: Vec<_> = (0..3)
            .flat_map(|n| {
                let sealed = before.seal(&[entry(n)]).unwrap();
                before.committed(&sealed);
                sealed
            })
            .collect();
        let lane = new_lane();
        lane.resume(1, 3, kept);
        let due: Vec<u64> = lane.due().submissions.iter().map(|(first, _)| *first).collect();
        assert_eq!(due, [2, 3]);
        lane.submitted(2);
        let due: Vec<u64> = lane.due().submissions.iter().map(|(first, _)| *first).collect();
        assert_eq!(due, [3]);
        assert_eq!(sealer(&lane).seal(&[entry(9)]).unwrap()[0].first_seq, 4);
    }

    #[test]
    fn a_lane_knows_its_own_submissions_and_brings_all_of_them_again_when_it_is_told_to() {
        let lane = new_lane();
        let mut sealer = sealer(&lane);
        let sealed = sealer.seal(&[entry(1)]).unwrap();
        let bytes = &sealed[0].bytes;
        assert!(!lane.is_ours(1, bytes));
        sealer.committed(&sealed);
        assert!(lane.is_ours(1, bytes) && !lane.is_ours(2, bytes) && !lane.is_ours(1, b"another"));
        lane.submitted(1);
        assert!(lane.due().submissions.is_empty());
        lane.again();
        assert_eq!(lane.due().submissions.len(), 1);
        // Of what does not fit into memory the digest says as much.
        let large = SealedSubmission { lane: 0, first_seq: 2, count: 1, bytes: vec![7; PENDING_BYTES_MAX] };
        sealer.committed(std::slice::from_ref(&large));
        assert_eq!(lane.due().from_store, Some(2));
        assert!(lane.is_ours(2, &large.bytes) && !lane.is_ours(2, bytes));
    }
}
