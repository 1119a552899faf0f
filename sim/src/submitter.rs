//! A member's gateway, as far as the ledger meets it: a journal that survives every crash, and submitting from it until all is final.

use crate::{Consortium, load::said, world::MEMBERS};
use contract::{Gathered, SignedSubmission};
use ledger::{FinalBlock, Handle};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{OrgId, TimeMs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The lane of every submission.
pub(crate) const LANE: u32 = 1;
/// The most entries of a submission.
const ENTRIES_MAX: u64 = 4;

/// A submission in the journal.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) signed: SignedSubmission,
    pub(crate) attachments: Vec<Vec<u8>>,
    /// For each entry, whether the contract must apply it.
    pub(crate) sure: Vec<bool>,
    /// For each entry, what opens the accesses that it commits to.
    pub(crate) opened: Vec<Vec<Gathered>>,
}

/// What a member acknowledged to its writers.
pub(crate) struct Journal {
    pub(crate) org: OrgId,
    pub(crate) written: Vec<Written>,
    /// The lane's last entry in a block that the member's own node called final.
    pub(crate) final_seq: u64,
    member: usize,
    random: StdRng,
    next_at_ms: u64,
}

/// Shared between the member's gateway and whoever checks.
#[derive(Clone)]
pub(crate) struct Submitter(Arc<Mutex<Journal>>);

impl Submitter {
    pub(crate) fn new(consortium: &Consortium, seed: u64, member: usize) -> Self {
        assert!(member < MEMBERS);
        let random = StdRng::seed_from_u64(seed.rotate_left(17) ^ member as u64);
        let org = consortium.org(member).clone();
        Self(Arc::new(Mutex::new(Journal { org, written: Vec::new(), final_seq: 0, member, random, next_at_ms: 0 })))
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is due: a submission now and then, until the lane has `entries`.
    pub(crate) fn write(&self, consortium: &Consortium, seed: u64, now: TimeMs, entries: u64, pause_ms: u64) {
        let mut journal = self.journal();
        let first = journal.last_seq() + 1;
        if first > entries || now.0 < journal.next_at_ms {
            return;
        }
        journal.next_at_ms = now.0 + journal.random.random_range(1..=pause_ms);
        let count = journal.random.random_range(1..=ENTRIES_MAX).min(entries + 1 - first);
        let said: Vec<_> = (first..first + count).map(|seq| said(consortium, seed, journal.member, seq, now)).collect();
        let sure = said.iter().map(|said| said.sure).collect();
        let opened = said.iter().map(|said| said.opened.clone()).collect();
        let attachments = said.iter().filter_map(|said| said.attachment.clone()).collect();
        let entries = said.into_iter().map(|said| said.entry).collect();
        let signed = consortium.submission(journal.member, LANE, first, entries);
        journal.written.push(Written { signed, attachments, sure, opened });
    }

    /// Takes note of the lane's entries in a final block.
    pub(crate) fn learn(&self, block: &FinalBlock) {
        let mut journal = self.journal();
        for receipt in &block.receipts {
            if receipt.org == journal.org && receipt.lane == LANE {
                journal.final_seq = journal.final_seq.max(receipt.seq);
            }
        }
    }

    /// Submits everything from `from` on that is not final; gives where to go on. `hands_over`: attachments, too.
    pub(crate) async fn submit(&self, node: &Handle, from: usize, hands_over: bool) -> usize {
        let (written, final_seq) = {
            let journal = self.journal();
            (journal.written[from.min(journal.written.len())..].to_vec(), journal.final_seq)
        };
        let count = written.len();
        for Written { signed, attachments, .. } in written {
            if signed.submission.last_seq() <= final_seq {
                continue;
            }
            if hands_over && !attachments.is_empty() && node.put_attachments(attachments).await.is_err() {
                return from;
            }
            // What is refused now is submitted again later, as all that is not final.
            let _ = node.submit(&signed.to_bytes()).await;
        }
        from + count
    }
}

impl Journal {
    /// The last entry that was acknowledged.
    pub(crate) fn last_seq(&self) -> u64 {
        self.written.last().map_or(0, |written| written.signed.submission.last_seq())
    }

    /// Whether all that was acknowledged is final.
    pub(crate) fn is_settled(&self) -> bool {
        self.final_seq >= self.last_seq()
    }
}
