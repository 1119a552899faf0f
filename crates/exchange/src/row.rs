//! Whether a row of the database is what the ledger says it is.

use crate::{failure::Failure, mirror::FinalVersion, node::Node};
use contract::{Body, Entry, SignedSubmission};
use record::{
    Commitment, RecordTag, commit,
    fhir::{Limits, Resource},
};
use store::Row;

/// How long a row may stand in the database before its entry is final.
pub const PENDING_MS_MAX: u64 = 30_000;

/// What a row is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Worth {
    /// The ledger holds its commitment.
    Good(Box<FinalVersion>),
    /// Its entry is signed by a member and young, and not final yet.
    Pending,
    /// The ledger holds another commitment for this version.
    Modified(Box<FinalVersion>),
    /// It says that it is another record than the one it was committed as.
    Duplicated(Box<FinalVersion>),
    /// The ledger refused its entry.
    Refused,
    /// The ledger knows nothing of it.
    Injected,
}

impl Worth {
    /// Whether it may be shown.
    pub(crate) fn may_be_shown(&self) -> bool {
        matches!(self, Self::Good(_) | Self::Pending)
    }
}

impl Node {
    /// Weighs rows, in order.
    pub(crate) async fn weigh(&self, rows: &[Row]) -> Result<Vec<Worth>, Failure> {
        let wanted = rows.iter().map(|row| (row.tag, row.version)).collect();
        let finals = self.mirror.versions(wanted).await?;
        let mut worths = Vec::with_capacity(rows.len());
        for (row, known) in rows.iter().zip(finals) {
            worths.push(match known {
                Some(known) => weigh_final(row, known),
                None => self.weigh_pending(row).await?,
            });
        }
        Ok(worths)
    }

    /// A row that the ledger does not have: believed for a while if a member's signed submission in the database or our own journal
    /// carries its entry.
    async fn weigh_pending(&self, row: &Row) -> Result<Worth, Failure> {
        if let Some(entry) = self.mirror.entry(row.entry).await? {
            if entry.refused != 0 {
                return Ok(Worth::Refused);
            }
            // The entry became final after its version was looked up.
            let known = self.mirror.version(row.tag, row.version).await?;
            return Ok(known.map_or(Worth::Injected, |known| weigh_final(row, known)));
        }
        let age_ms = self.now().0.saturating_sub(row.written_at.0);
        let ours = row.author == self.org;
        // A ledger that stands still must not make good rows of our own look bad; of others only the young are believed.
        if age_ms > PENDING_MS_MAX && !(ours && self.lane.unsettled() > 0) {
            return Ok(Worth::Injected);
        }
        Ok(if self.is_signed_for(row).await? { Worth::Pending } else { Worth::Injected })
    }

    /// Whether a member's signed submission in the database carries the entry of this very row, however old.
    pub(crate) async fn is_signed_for(&self, row: &Row) -> Result<bool, Failure> {
        let place = self.store.entry(row.entry).await.map_err(crate::find::search_failure)?;
        let Some(place) = place else { return Ok(false) };
        let submissions = self.store.submissions_since(&place.org, place.lane, place.seq, 1).await;
        let submission = submissions.map_err(crate::find::search_failure)?.into_iter().next();
        let Some(submission) = submission else { return Ok(false) };
        let Ok(signed) = SignedSubmission::from_bytes(&submission.bytes) else { return Ok(false) };
        let member = self.genesis.member(&signed.submission.org);
        let verified = member.is_some_and(|member| signed.verify(&self.genesis.id(), &member.entry_key).is_ok());
        let carries = signed.submission.entries.iter().any(|entry| entry.id == row.entry && commits_to(entry, row));
        Ok(verified && carries && names_itself(row))
    }
}

/// Weighs a row whose tag and version the ledger knows.
fn weigh_final(row: &Row, known: FinalVersion) -> Worth {
    let known = Box::new(known);
    let same = commit(&row.salt, &row.bytes) == known.commitment && row.deleted == known.deleted;
    match (same, names_itself(row)) {
        (true, true) => Worth::Good(known),
        (true, false) => Worth::Duplicated(known),
        (false, _) => Worth::Modified(known),
    }
}

/// Whether the bytes say that they are the record and version that the row's key says.
fn names_itself(row: &Row) -> bool {
    let limits = Limits { bytes_max: store::RECORD_BYTES_MAX, ..Limits::RESOURCE };
    let Ok(resource) = Resource::parse(&row.bytes, limits) else { return false };
    resource.rtype() == row.rtype.as_str()
        && resource.id().as_deref() == Some(row.id.as_str())
        && resource.version_id().as_deref() == Some(row.version.to_string().as_str())
}

fn commits_to(entry: &Entry, row: &Row) -> bool {
    let commitment = commit(&row.salt, &row.bytes);
    committed(entry)
        .is_some_and(|(tag, version, committed)| tag == row.tag && version == row.version && committed == commitment)
}

/// The record version that an entry commits to, if it does.
pub(crate) fn committed(entry: &Entry) -> Option<(RecordTag, u64, Commitment)> {
    match &entry.body {
        Body::Record { tag, version, commitment, .. } => Some((*tag, *version, *commitment)),
        Body::Access { audit, commitment, .. } => Some((*audit, 1, *commitment)),
        _ => None,
    }
}
