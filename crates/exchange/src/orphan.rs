//! Submissions whose gateway may be gone: what this organisation signed in other lanes and is not final is brought to the ledger first.
//!
//! A gateway that loses its folder loses its journal and with it the end of its lane. It begins a new lane, so that no number is signed
//! twice, and its earlier answers are not lost either: they lie signed in the database.

use crate::{failure::Failure, lane::RESUBMIT_AFTER, node::Node};
use contract::{Genesis, SignedSubmission, state};
use ledger::SubmitError;
use record::OrgId;
use store::SealedSubmission;

/// The most lanes of one organisation that are looked at.
const LANES_MAX: usize = 256;
/// The ledger is up to date here when its last block is not older than this: an idle chain makes about one block a second.
const UP_TO_DATE_MS: u64 = 5_000;

/// A lane, and the last sequence number that was filed in it when this gateway started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) lane: u32,
    pub(crate) last_seq: u64,
}

impl Orphan {
    /// The organisation's lanes in the database besides `own`.
    pub(crate) async fn all(reader: &store::Reader, org: &OrgId, own: u32) -> Result<Vec<Self>, store::ReadError> {
        let lanes = reader.lanes().await?.into_iter().filter(|(of, lane, _)| of == org && *lane != own);
        Ok(lanes.map(|(_, lane, last_seq)| Self { lane, last_seq }).take(LANES_MAX).collect())
    }
}

impl Node {
    /// Brings what is left of each lane to the ledger, and waits until it is final.
    pub(crate) async fn bring_orphans(&self, mut orphans: Vec<Orphan>) {
        let mut height = self.mirror.watch_height();
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
                match self.ledger.submit(&bytes).await {
                    Ok(_) => {}
                    Err(SubmitError::Full { .. } | SubmitError::TooFarAhead { .. } | SubmitError::Stopped) => break,
                    Err(error) => {
                        tracing::error!(%error, lane, first_seq, "a submission of an earlier lane is not acceptable");
                        orphans.retain(|orphan| orphan.lane != lane);
                    }
                }
            }
            if !orphans.is_empty() {
                let _ = tokio::time::timeout(RESUBMIT_AFTER, height.changed()).await;
            }
        }
    }

    /// What is still to be brought to the ledger of each lane in `orphans`; takes out those of which nothing is left. A lane that does
    /// not go on where the ledger stands stays only while the ledger may be behind.
    async fn adopt(&self, orphans: &mut Vec<Orphan>) -> Result<Vec<SealedSubmission>, Failure> {
        let up_to_date = self.now().0.saturating_sub(self.ledger.status().time.0) < UP_TO_DATE_MS;
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for orphan in orphans.drain(..) {
            let settled: Option<state::Lane> = self.ledger_value(state::lane_key(&self.org, orphan.lane)).await?;
            let settled = settled.map_or(0, |lane| lane.seq);
            if settled >= orphan.last_seq {
                continue;
            }
            let submissions = next_submissions(&self.store, &self.genesis, &self.org, orphan.lane, settled).await;
            let submissions = submissions.map_err(crate::find::search_failure)?;
            if !submissions.is_empty() || !up_to_date {
                left.push(orphan);
            }
            found.extend(submissions);
        }
        *orphans = left;
        Ok(found)
    }
}

/// All of the organisation's submissions of a lane in the database above `after`; as [`next_submissions`] otherwise.
pub(crate) async fn later_submissions(
    reader: &store::Reader,
    genesis: &Genesis,
    org: &OrgId,
    lane: u32,
    after: u64,
) -> Result<Vec<SealedSubmission>, store::ReadError> {
    let mut found: Vec<SealedSubmission> = Vec::new();
    loop {
        let end = found.last().map_or(after, SealedSubmission::last_seq);
        let more = next_submissions(reader, genesis, org, lane, end).await?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}

/// The organisation's next submissions of a lane in the database, those above `after`, as far as their signatures hold and no number is
/// missing: at most [`store::PAGE_MAX`] of them.
async fn next_submissions(
    reader: &store::Reader,
    genesis: &Genesis,
    org: &OrgId,
    lane: u32,
    after: u64,
) -> Result<Vec<SealedSubmission>, store::ReadError> {
    let Some(member) = genesis.member(org) else { return Ok(Vec::new()) };
    let mut next = after + 1;
    let mut found = Vec::new();
    for row in reader.submissions_since(org, lane, next, store::PAGE_MAX).await? {
        let Ok(signed) = SignedSubmission::from_bytes(&row.bytes) else { break };
        let submission = &signed.submission;
        let holds = signed.verify(&genesis.id(), &member.entry_key).is_ok() && submission.lane == lane;
        if !holds || submission.first_seq > next || submission.last_seq() < next {
            break;
        }
        next = submission.last_seq() + 1;
        found.push(SealedSubmission::from(row));
    }
    Ok(found)
}
