//! Submissions whose gateway may be gone: what this organisation signed in other lanes and is not final is brought to the ledger first.
//!
//! A gateway that loses its folder loses its journal and with it the end of its lane. It begins a new lane, so that no number is signed
//! twice, and its earlier answers are not lost either: they lie signed in the database.

use crate::{failure::Failure, lane::RESUBMIT_AFTER, node::Node, signer::Signer};
use contract::{SignedSubmission, SubmissionError, state};
use ledger::SubmitError;
use std::{
    collections::HashSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use store::SealedSubmission;

/// The most lanes of one organisation that are looked at: one for each folder that it ever lost.
const LANES_MAX: usize = 4_096;
/// Submissions of a lane that are brought together.
const SUBMISSIONS_TOGETHER: usize = 64;
/// How long what was written since waits for copies that nobody has.
const COPIES_PATIENCE: Duration = Duration::from_secs(300);
/// The ledger is up to date here when its last block is not older than this: an idle chain makes about one block a second.
const UP_TO_DATE_MS: u64 = 5_000;

/// A lane, and the last sequence number that was filed in it when this gateway started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) lane: u32,
    pub(crate) last_seq: u64,
}

/// The organisation's lanes in the database that end with a submission of its own. Whoever runs the database can write any number of others.
pub(crate) async fn signed_lanes(reader: &store::Reader, signer: &Signer) -> Result<Vec<Orphan>, store::ReadError> {
    let (org, mut signed) = (signer.org(), Vec::new());
    let lanes = reader.lanes().await?;
    let own: Vec<_> = lanes.into_iter().filter(|(of, ..)| of == org).collect();
    if own.len() > LANES_MAX {
        tracing::warn!(lanes = own.len(), "the database lists more lanes than are looked at");
    }
    for (_, lane, last_seq) in own.into_iter().take(LANES_MAX) {
        let after = last_seq.saturating_sub(1);
        let last = reader.submissions_since(org, lane, last_seq, 1).await?.into_iter().next();
        if last.is_some_and(|last| own_submission(&last, signer, lane, after).is_some()) {
            signed.push(Orphan { lane, last_seq });
        }
    }
    Ok(signed)
}

impl Node {
    /// Brings what is left of each lane to the ledger, and waits until it is final.
    ///
    /// Copies that they name went with the folder, if nobody else has them, and are made again from the database. Where that cannot be
    /// done the lane is left behind after a while: it may still become final, when somebody turns up who has them.
    pub(crate) async fn bring_orphans(&self, mut orphans: Vec<Orphan>) {
        let mut height = self.mirror.watch_height();
        let begin = Instant::now();
        let mut told = HashSet::new();
        while !orphans.is_empty() {
            height.mark_unchanged();
            let found = match self.adopt(&mut orphans).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "submissions of earlier lanes cannot be looked for now");
                    Vec::new()
                }
            };
            for SealedSubmission { lane, first_seq, bytes, .. } in found {
                let lacking = self.attach(&bytes).await;
                if lacking > 0 && begin.elapsed() > COPIES_PATIENCE {
                    tracing::error!(
                        lane,
                        first_seq,
                        lacking,
                        "an earlier lane names copies that nobody has: it is left behind"
                    );
                    orphans.retain(|orphan| orphan.lane != lane);
                }
                // They are signed by this organisation, as the list of them says.
                match self.bring(&bytes, false).await {
                    Ok(_) => {}
                    Err(
                        SubmitError::Full { .. }
                        | SubmitError::TooFarAhead { .. }
                        | SubmitError::Changed { .. }
                        | SubmitError::Stopped,
                    ) => break,
                    // Keys change, and what contradicts it becomes final: it is taken later, and waits until then.
                    Err(
                        error @ (SubmitError::Conflict { .. }
                        | SubmitError::Invalid(
                            SubmissionError::UnknownOrg { .. } | SubmissionError::BadSignature { .. },
                        )),
                    ) => {
                        if !self.signer.is_spent() && told.insert((lane, first_seq)) {
                            tracing::warn!(%error, lane, first_seq, "a submission of an earlier lane is not taken yet");
                        }
                    }
                    Err(error @ SubmitError::Invalid(_)) => {
                        tracing::error!(%error, lane, first_seq, "a submission of an earlier lane is not acceptable");
                        orphans.retain(|orphan| orphan.lane != lane);
                    }
                }
            }
            if !orphans.is_empty() {
                let _ = tokio::time::timeout(RESUBMIT_AFTER, height.changed()).await;
            }
        }
        self.orphaned.store(0, Ordering::Relaxed);
    }

    /// Makes copies again that a submission names. How many are still missing here; others may have them.
    pub(crate) async fn attach(&self, bytes: &[u8]) -> usize {
        let Ok(signed) = SignedSubmission::from_bytes(bytes) else { return 0 };
        match self.attach_again(&signed).await {
            Ok(lacking) => lacking,
            Err(error) => {
                tracing::warn!(%error, "copies that a submission names could not be made again now");
                0
            }
        }
    }

    /// What is still to be brought to the ledger of each lane in `orphans`; takes out those of which nothing is left, or that do not go on
    /// where the ledger stands. Nothing while the ledger is still being read.
    async fn adopt(&self, orphans: &mut Vec<Orphan>) -> Result<Vec<SealedSubmission>, Failure> {
        // Before that nothing here can become final, and what seems to be left may be final long since.
        if self.now().0.saturating_sub(self.ledger.status().time.0) > UP_TO_DATE_MS {
            return Ok(Vec::new());
        }
        let (mut left, mut found) = (Vec::new(), Vec::new());
        let mut entries = 0;
        // A read that fails on the way forgets none of them: the list changes only when all were looked at.
        for orphan in orphans.iter().copied() {
            let settled: Option<state::Lane> = self.ledger_value(state::lane_key(&self.org, orphan.lane)).await?;
            let settled = settled.map_or(0, |lane| lane.seq);
            if settled >= orphan.last_seq {
                continue;
            }
            let submissions = next_submissions(&self.store, &self.signer, orphan.lane, settled).await;
            let submissions = submissions.map_err(crate::find::search_failure)?;
            if submissions.is_empty() {
                tracing::warn!(
                    lane = orphan.lane,
                    settled,
                    last_seq = orphan.last_seq,
                    "an earlier lane has a gap: its end is lost"
                );
                continue;
            }
            entries += orphan.last_seq - settled;
            left.push(orphan);
            found.extend(submissions);
        }
        *orphans = left;
        self.orphaned.store(entries, Ordering::Relaxed);
        Ok(found)
    }
}

/// All of the organisation's submissions of a lane in the database above `after`; as [`next_submissions`] otherwise.
pub(crate) async fn later_submissions(
    reader: &store::Reader,
    signer: &Signer,
    lane: u32,
    after: u64,
) -> Result<Vec<SealedSubmission>, store::ReadError> {
    let mut found: Vec<SealedSubmission> = Vec::new();
    loop {
        let end = found.last().map_or(after, SealedSubmission::last_seq);
        let more = next_submissions(reader, signer, lane, end).await?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}

/// The organisation's next submissions of a lane in the database, those above `after`, as far as their signatures hold and no number is
/// missing: at most [`SUBMISSIONS_TOGETHER`] of them.
async fn next_submissions(
    reader: &store::Reader,
    signer: &Signer,
    lane: u32,
    after: u64,
) -> Result<Vec<SealedSubmission>, store::ReadError> {
    let mut end = after;
    let mut found = Vec::new();
    for row in reader.submissions_since(signer.org(), lane, after + 1, SUBMISSIONS_TOGETHER).await? {
        let Some(last) = own_submission(&row, signer, lane, end) else { break };
        end = last;
        found.push(SealedSubmission::from(row));
    }
    Ok(found)
}

/// The last sequence number of a submission that the organisation signed, if it goes on after `after`.
fn own_submission(row: &store::Submission, signer: &Signer, lane: u32, after: u64) -> Option<u64> {
    let signed = SignedSubmission::from_bytes(&row.bytes).ok()?;
    let submission = &signed.submission;
    let goes_on = submission.first_seq <= after + 1 && submission.last_seq() > after;
    (submission.lane == lane && goes_on && signer.is_own(&signed)).then(|| submission.last_seq())
}
