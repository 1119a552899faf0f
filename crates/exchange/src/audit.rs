//! The audit: every row of the database against the ledger, and every version and every frame on the ledger against the database.

use crate::{
    boxed,
    caller::Caller,
    failure::Failure,
    mirror::{FinalVersion, Named},
    node::Node,
    row::Worth,
};
use contract::{Body, Entry};
use policy::Action;
use record::{Id16, OrgId, RecordTag};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use store::{PAGE_MAX, Row};

mod disposals;
mod frames;

pub use frames::Frames;

/// What is wrong with a row, or with its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its bytes are not those that the ledger holds a commitment to.
    Modified,
    /// No row is left of a record that the ledger holds.
    Removed,
    /// The latest version is gone and an older one stands in its place.
    RolledBack,
    /// A copy of another record's row.
    Duplicated,
    /// A frame of a sensor whose columns are not what it says itself, so that it is not found where it belongs.
    Misfiled,
    /// The ledger knows nothing of it.
    Injected,
    /// A frame that was let go by policy long enough ago to be gone, and is there still.
    LeftOver,
    /// Frames that were let go while an investigation of the patient, or a hold, was open.
    LetGoWhileHeld,
    /// A column is not of the form that any gateway writes; or a batch on the ledger has more frames than any gateway puts together.
    Unreadable,
    /// No row, but an access on the ledger that names the audit event of an earlier one of its organisation, so that its own is nowhere; or
    /// several accesses under the id of an earlier entry.
    Repeated,
}

/// One thing that the audit found, with everything that names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// `Type/id`; the tag, when the record was never seen here; the entry, of an audit event that it commits to with others; of frames,
    /// the Device that sent them.
    pub record: String,
    /// Which version.
    pub version: u64,
    /// Who wrote the good one; none when there never was one.
    pub author: Option<String>,
    /// When the good one became final; of several frames, the first.
    pub written_at: Option<String>,
    /// Of frames: which, and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<Frames>,
}

/// What an audit did and found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows compared.
    pub rows: u64,
    /// Versions on the ledger compared.
    pub versions: u64,
    /// Rows whose entries are not final yet.
    pub pending: u64,
    /// Frames compared with the batches on the ledger.
    pub frames: u64,
    /// Frames that no final batch has yet.
    pub frames_pending: u64,
    /// Frames of batches that were let go by policy, with a roll-up: they are not missing.
    pub frames_let_go: u64,
    /// The height compared with.
    pub height: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// How far the incremental audit is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Rows up to this place were compared since the last full audit.
    after: u64,
    /// Frames of batches below this index of the log were.
    batched: u64,
}

impl Node {
    /// Compares the database with the ledger. `full` begins anew; otherwise it goes on where the last one ended, as far as rows and batches
    /// go.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn audit(&self, caller: &Caller, full: bool) -> Result<Report, Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        let mut progress = self.audited.lock().await;
        let begin = if full { Progress::default() } else { *progress };
        let (report, end) = self.compare(begin).await?;
        *progress = end;
        for finding in &report.findings {
            let frames = finding.frames.as_ref().map(|frames| frames.count);
            tracing::warn!(kind = ?finding.kind, record = %finding.record, version = finding.version, frames, "audit finding");
        }
        Ok(report)
    }

    async fn compare(&self, begin: Progress) -> Result<(Report, Progress), Failure> {
        let mut after = begin.after;
        let from_the_start = after == 0;
        let height = self.mirror.height();
        // What is final by now stood in the database before, so the sweep passes its row.
        let below = self.mirror.next_index().await?;
        let mut report = Report {
            rows: 0,
            versions: 0,
            pending: 0,
            frames: 0,
            frames_pending: 0,
            frames_let_go: 0,
            height,
            findings: Vec::new(),
        };
        let mut seen: HashSet<(RecordTag, u64)> = HashSet::new();
        let mut current: HashMap<RecordTag, u64> = HashMap::new();
        let mut opened: HashMap<(Id16, OrgId), HashSet<RecordTag>> = HashMap::new();
        loop {
            let sweep = self.store.rows(after, PAGE_MAX).await.map_err(crate::find::search_failure)?;
            let (page, next) = (sweep.found, sweep.next);
            after = sweep.last.max(after);
            report.findings.extend(page.malformed.iter().map(|m| Finding {
                kind: Kind::Unreadable,
                record: format!("{}/{}", m.rtype, m.id),
                version: m.version,
                author: None,
                written_at: None,
                frames: None,
            }));
            let worths = self.weigh(&page.rows).await?;
            let mut names = Vec::new();
            for (row, worth) in page.rows.iter().zip(&worths) {
                report.rows += 1;
                if row.gathered.is_some()
                    && let Worth::Good(known) | Worth::Modified(known) | Worth::Duplicated(known) = worth
                {
                    opened.entry((known.entry, known.org.clone())).or_default().insert(known.tag);
                }
                match worth {
                    Worth::Good(known) => {
                        seen.insert((known.tag, known.version));
                        let top = current.entry(known.tag).or_default();
                        *top = known.version.max(*top);
                        names.push(Named::of(row));
                    }
                    Worth::Pending => report.pending += 1,
                    // `weigh` judges each version by itself: a rollback shows in what is missing.
                    Worth::Refused | Worth::RolledBack(_) => {}
                    Worth::Modified(known) => {
                        // The row is there, so the version is not missing as well.
                        seen.insert((known.tag, known.version));
                        let named = self.mirror.name(known.tag).await?;
                        let kind =
                            if named.is_some_and(|n| n != name(row)) { Kind::Duplicated } else { Kind::Modified };
                        report.findings.push(of_known(kind, name(row), known));
                    }
                    Worth::Duplicated(known) => report.findings.push(of_known(Kind::Duplicated, name(row), known)),
                    Worth::Injected => report.findings.push(Finding {
                        kind: Kind::Injected,
                        record: name(row),
                        version: row.version,
                        author: None,
                        written_at: None,
                        frames: None,
                    }),
                }
            }
            self.mirror.learn_names(names).await?;
            if next.is_none() {
                break;
            }
        }
        if from_the_start {
            self.find_missing(&mut report, below, &seen, &current).await?;
            self.find_ungathered(&mut report, below, &opened).await?;
            self.find_repeated(&mut report).await?;
        }
        self.compare_frames(&mut report, begin.batched, below).await?;
        self.compare_disposals(&mut report, begin.batched, below).await?;
        report.findings.sort();
        Ok((report, Progress { after, batched: below }))
    }

    /// Versions that the ledger held at the beginning, below an index of its log, and no row has. One that became final since may be of
    /// another gateway's row behind the place where the sweep ended.
    async fn find_missing(
        &self,
        report: &mut Report,
        below: u64,
        seen: &HashSet<(RecordTag, u64)>,
        current: &HashMap<RecordTag, u64>,
    ) -> Result<(), Failure> {
        let erased = self.mirror.erased().await?;
        let mut missing: BTreeMap<RecordTag, (FinalVersion, Option<String>)> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.mirror.sweep(after, Some(below), PAGE_MAX).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some((last.tag, last.version));
            for (version, name) in page {
                report.versions += 1;
                if erased.has(&version) || seen.contains(&(version.tag, version.version)) {
                    continue;
                }
                // The sweep is in order of version, so the last one missing of each record stays.
                missing.insert(version.tag, (version, name));
            }
        }
        for (tag, (version, name)) in missing {
            let older_stands = current.get(&tag).is_some_and(|top| *top < version.version);
            let newer_stands = current.get(&tag).is_some_and(|top| *top > version.version);
            let kind = if older_stands && !newer_stands { Kind::RolledBack } else { Kind::Removed };
            let record = name.unwrap_or_else(|| tag.0.to_hex());
            report.findings.push(of_known(kind, record, &version));
        }
        Ok(())
    }

    /// Entries of several accesses that some audit events are missing of. Which ones they were nobody can say, only how many, and of whom.
    async fn find_ungathered(
        &self,
        report: &mut Report,
        below: u64,
        opened: &HashMap<(Id16, OrgId), HashSet<RecordTag>>,
    ) -> Result<(), Failure> {
        let erased = self.mirror.erased().await?;
        let mut from = 0;
        loop {
            let page = self.mirror.gathered(from, below, PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.index + 1;
            for accesses in page {
                report.versions += u64::from(accesses.count);
                let there = opened.get(&(accesses.entry, accesses.org.clone())).map_or(0, HashSet::len) as u64;
                let missing = u64::from(accesses.count).saturating_sub(there);
                if missing == 0 || accesses.patient.is_some_and(|patient| erased.patients().any(|of| *of == patient)) {
                    continue;
                }
                report.findings.extend((0..missing).map(|_| Finding {
                    kind: Kind::Removed,
                    record: format!("an AuditEvent of entry {}", accesses.entry),
                    version: 1,
                    author: Some(accesses.org.to_string()),
                    written_at: Some(accesses.time.to_instant()),
                    frames: None,
                }));
            }
        }
    }

    /// Accesses whose organisation gave the audit event of another one for theirs.
    async fn find_repeated(&self, report: &mut Report) -> Result<(), Failure> {
        for found in self.mirror.repeated().await? {
            let entry =
                Entry::from_bytes(&found.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
            let record = match entry.body {
                Body::Access { audit, .. } => self.mirror.name(audit).await?.unwrap_or_else(|| audit.0.to_hex()),
                Body::Accesses { .. } => format!("the AuditEvents of entry {}", entry.id),
                _ => continue,
            };
            report.findings.push(Finding {
                kind: Kind::Repeated,
                record,
                version: 1,
                author: Some(entry.org.to_string()),
                written_at: Some(found.time.to_instant()),
                frames: None,
            });
        }
        Ok(())
    }
}

fn name(row: &Row) -> String {
    format!("{}/{}", row.rtype, row.id)
}

fn of_known(kind: Kind, record: String, known: &FinalVersion) -> Finding {
    Finding {
        kind,
        record,
        version: known.version,
        author: Some(known.org.to_string()),
        written_at: Some(known.time.to_instant()),
        frames: None,
    }
}
