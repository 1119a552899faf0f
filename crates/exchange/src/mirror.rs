//! The mirror: an organisation's own index over the final entries of its own ledger node.
//!
//! It is a private SQLite file, filled from final blocks only, so it may be trusted where the cloud database may not; and because the
//! ledger can fill it again from height 1, it is written without waiting for the disk.

use contract::{Body, Entry, merkle};
use record::{Commitment, Digest, Id16, OrgId, Pseudonym, RecordTag, RecordType, TimeMs};
use rusqlite::{Connection, OptionalExtension, params, types::Type};
use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use store::Row;
use tokio::sync::{Semaphore, watch};

mod lately;
mod names;
mod tree;

use lately::Lately;

/// Connections that read at the same time.
const READERS: usize = 4;

/// Entries of the log that are looked at together for a history.
const SPAN_LEN: i64 = 20_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS block (height INTEGER PRIMARY KEY, time INTEGER NOT NULL, digest BLOB NOT NULL, entries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entry (
  idx INTEGER PRIMARY KEY, height INTEGER NOT NULL, time INTEGER NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL,
  org TEXT NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, refused INTEGER NOT NULL, kind TEXT NOT NULL,
  id BLOB NOT NULL, patient BLOB, about BLOB);
CREATE INDEX IF NOT EXISTS entry_patient ON entry (patient, idx) WHERE patient IS NOT NULL;
CREATE INDEX IF NOT EXISTS entry_id ON entry (id);
CREATE INDEX IF NOT EXISTS entry_about ON entry (about) WHERE about IS NOT NULL;
CREATE INDEX IF NOT EXISTS entry_kind ON entry (kind, idx);
CREATE INDEX IF NOT EXISTS entry_lane ON entry (org, lane, seq);
CREATE INDEX IF NOT EXISTS entry_refused ON entry (idx) WHERE refused <> 0;
CREATE TABLE IF NOT EXISTS version (
  tag BLOB NOT NULL, version INTEGER NOT NULL, commitment BLOB NOT NULL, org TEXT NOT NULL, idx INTEGER NOT NULL,
  record_type INTEGER NOT NULL, deleted INTEGER NOT NULL, patient BLOB, time INTEGER NOT NULL, entry_id BLOB NOT NULL,
  fhir_type TEXT, copy BLOB, wrapped_key BLOB, PRIMARY KEY (tag, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_patient ON version (patient, tag) WHERE patient IS NOT NULL;
CREATE INDEX IF NOT EXISTS version_type ON version (patient, fhir_type, tag) WHERE fhir_type <> 'AuditEvent';
CREATE INDEX IF NOT EXISTS version_consent ON version (patient, tag) WHERE fhir_type = 'Consent';
CREATE INDEX IF NOT EXISTS version_idx ON version (idx);
CREATE TABLE IF NOT EXISTS repeated (idx INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS name (tag BLOB PRIMARY KEY, name TEXT NOT NULL, patient TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS name_name ON name (name);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subtree (tier INTEGER NOT NULL, position INTEGER NOT NULL, root BLOB NOT NULL, PRIMARY KEY (tier, position)) WITHOUT ROWID;
";

/// What a record is called, and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The record.
    pub tag: RecordTag,
    /// `Type/id`.
    pub name: String,
    /// The id of the Patient, if it is about one.
    pub patient: Option<String>,
}

impl Named {
    /// What a row says of itself.
    pub(crate) fn of(row: &Row) -> Self {
        Self { tag: row.tag, name: format!("{}/{}", row.rtype, row.id), patient: row.patient.clone() }
    }
}

/// A final entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalEntry {
    /// Index in the log over all entries.
    pub index: u64,
    /// Height of its block.
    pub height: u64,
    /// Time of its block.
    pub time: TimeMs,
    /// Its digest.
    pub digest: Digest,
    /// Its deterministic encoding.
    pub bytes: Vec<u8>,
    /// The lane that it came by.
    pub lane: u32,
    /// Its sequence number there.
    pub seq: u64,
    /// 0 when applied, else the code of the reason.
    pub refused: u8,
}

/// A version of a record as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalVersion {
    /// The record.
    pub tag: RecordTag,
    /// Its number.
    pub version: u64,
    /// Commitment to its bytes.
    pub commitment: Commitment,
    /// Who wrote it.
    pub org: OrgId,
    /// Which of the seven types.
    pub record_type: RecordType,
    /// Whether it deletes the record.
    pub deleted: bool,
    /// The log that it is filed in.
    pub patient: Option<Pseudonym>,
    /// Block time.
    pub time: TimeMs,
    /// The entry that carries it.
    pub entry: Id16,
    /// The FHIR type, where the derivation policy lets it show.
    pub fhir_type: Option<String>,
    /// Digest of the encrypted copy, for an essential record.
    pub copy: Option<Digest>,
    /// Digest of the wrapped patient key, for the Patient record that enrols.
    pub wrapped_key: Option<Digest>,
}

/// A version with its place on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Index of its entry in the log over all entries.
    pub index: u64,
    /// The version.
    pub version: FinalVersion,
    /// What its record is called, if this organisation ever saw it.
    pub named: Option<Named>,
}

/// What was erased: everything under some pseudonyms, and single records that stand in no log.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    patients: HashSet<Pseudonym>,
    /// Roots over the tag of one record each.
    alone: HashSet<Digest>,
}

impl Erased {
    /// The pseudonyms under which everything was erased.
    pub(crate) fn patients(&self) -> impl Iterator<Item = &Pseudonym> {
        self.patients.iter()
    }

    /// Whether a version was erased.
    pub(crate) fn has(&self, version: &FinalVersion) -> bool {
        match &version.patient {
            Some(patient) => self.patients.contains(patient),
            None => {
                !self.alone.is_empty() && self.alone.contains(&merkle::root([merkle::leaf(version.tag.0.as_ref())]))
            }
        }
    }
}

/// A final block, ready to be mirrored.
#[derive(Debug, Clone)]
pub(crate) struct FinalBlock {
    /// Its height.
    pub height: u64,
    /// Its time.
    pub time: TimeMs,
    /// Digest of its header.
    pub digest: Digest,
    /// Its entries in order.
    pub entries: Vec<(Entry, FinalEntry)>,
}

/// Why the mirror did not answer. All of these are ours.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// SQLite failed.
    #[error("the mirror of the ledger at `{path}`: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A block does not follow the last one.
    #[error("the mirror stands at height {at} and cannot take height {got}")]
    Gap {
        /// The last height mirrored.
        at: u64,
        /// The height offered.
        got: u64,
    },
    /// The program is stopping.
    #[error("the mirror is closed")]
    Closed,
}

/// Readers and the one writer of the mirror's file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    lately: Lately,
    /// Names of records that are not in the file yet.
    learnt: Mutex<names::Learnt>,
    readers: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    height: watch::Sender<u64>,
}

impl Mirror {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, MirrorError> {
        let database = |source| MirrorError::Database { path: path.to_owned(), source };
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            Ok(connection)
        };
        let writer = connect().map_err(database)?;
        writer.execute_batch(SCHEMA).map_err(database)?;
        let height = writer
            .query_row("SELECT value FROM meta WHERE key = 'height'", [], |row| row.get::<_, i64>(0))
            .optional()
            .map_err(database)?
            .unwrap_or(0);
        let with_consents = with_consents(&writer).map_err(database)?;
        let readers = (0..READERS).map(|_| connect()).collect::<Result<Vec<_>, _>>().map_err(database)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                writer: Mutex::new(writer),
                lately: Lately::new(with_consents),
                learnt: Mutex::default(),
                readers: Mutex::new(readers),
                permits: Arc::new(Semaphore::new(READERS)),
                height: watch::Sender::new(height.unsigned_abs()),
            }),
        })
    }

    /// Bytes that the mirror's files take up as allocated on the disk.
    pub(crate) fn disk_bytes(&self) -> std::io::Result<u64> {
        let mut bytes = 0u64;
        for ending in ["", "-wal", "-shm"] {
            let mut path = self.inner.path.clone().into_os_string();
            path.push(ending);
            match std::fs::metadata(path) {
                // Counted in units of 512 bytes.
                Ok(metadata) => bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// The last height mirrored.
    pub(crate) fn height(&self) -> u64 {
        *self.inner.height.borrow()
    }

    /// Says when the height changes.
    pub(crate) fn watch_height(&self) -> watch::Receiver<u64> {
        self.inner.height.subscribe()
    }

    /// Adds consecutive blocks.
    pub(crate) async fn extend(&self, blocks: Vec<FinalBlock>) -> Result<(), MirrorError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.extend(&blocks)).await.map_err(|_| MirrorError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let inner = self.inner.clone();
        let permit = inner.permits.clone().acquire_owned().await.map_err(|_| MirrorError::Closed)?;
        let run = move || {
            // A caller that goes away meanwhile must not give the permit back before the connection.
            let _permit = permit;
            let connection = lock(&inner.readers).pop().ok_or(MirrorError::Closed)?;
            let answer = query(&connection);
            lock(&inner.readers).push(connection);
            answer.map_err(|source| MirrorError::Database { path: inner.path.clone(), source })
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| MirrorError::Closed)?
    }

    /// The version of a record, if the ledger has it.
    pub(crate) async fn version(&self, tag: RecordTag, version: u64) -> Result<Option<FinalVersion>, MirrorError> {
        Ok(self.versions(vec![(tag, version)]).await?.pop().flatten())
    }

    /// The latest version of each of `tags`, in the same order.
    pub(crate) async fn heads(&self, tags: Vec<RecordTag>) -> Result<Vec<Option<FinalVersion>>, MirrorError> {
        let moment = self.inner.lately.moment();
        let mut heads: Vec<_> = tags.iter().map(|tag| self.inner.lately.head(tag)).collect();
        let missing: Vec<RecordTag> =
            tags.iter().zip(&heads).filter(|(_, head)| head.is_none()).map(|(tag, _)| *tag).collect();
        if missing.is_empty() {
            return Ok(heads);
        }
        let found: Vec<Option<FinalVersion>> = self
            .read(move |c| {
                let mut select =
                    c.prepare_cached(&format!("{SELECT_VERSION} WHERE tag = ?1 ORDER BY version DESC LIMIT 1"))?;
                missing.iter().map(|tag| select.query_row([tag.0.as_ref()], version_row).optional()).collect()
            })
            .await?;
        self.inner.lately.keep(moment, found.iter().flatten().cloned());
        for (head, found) in heads.iter_mut().filter(|head| head.is_none()).zip(found) {
            *head = found;
        }
        Ok(heads)
    }

    /// The exact versions asked for, in the same order.
    pub(crate) async fn versions(
        &self,
        wanted: Vec<(RecordTag, u64)>,
    ) -> Result<Vec<Option<FinalVersion>>, MirrorError> {
        let head =
            |(tag, version): &(RecordTag, u64)| self.inner.lately.head(tag).filter(|head| head.version == *version);
        let mut versions: Vec<_> = wanted.iter().map(head).collect();
        let missing: Vec<(RecordTag, u64)> =
            wanted.into_iter().zip(&versions).filter(|(_, known)| known.is_none()).map(|(wanted, _)| wanted).collect();
        if missing.is_empty() {
            return Ok(versions);
        }
        let found: Vec<Option<FinalVersion>> = self
            .read(move |c| {
                let mut select = c.prepare_cached(&format!("{SELECT_VERSION} WHERE tag = ?1 AND version = ?2"))?;
                missing
                    .iter()
                    .map(|(tag, version)| {
                        select.query_row(params![tag.0.as_ref(), signed(*version)], version_row).optional()
                    })
                    .collect()
            })
            .await?;
        for (version, found) in versions.iter_mut().filter(|version| version.is_none()).zip(found) {
            *version = found;
        }
        Ok(versions)
    }

    /// Versions of a record below `before`, the latest first.
    pub(crate) async fn versions_below(
        &self,
        tag: RecordTag,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<FinalVersion>, MirrorError> {
        let before = before.map_or(i64::MAX, signed);
        self.read(move |c| {
            c.prepare_cached(&format!(
                "{SELECT_VERSION} WHERE tag = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3"
            ))?
            .query_map(params![tag.0.as_ref(), before, limit as i64], version_row)?
            .collect()
        })
        .await
    }

    /// Versions of the records of a type, or of all types but the audit trail, below an index of the log, the latest first. Looks at
    /// [`SPAN_LEN`] entries of the log at most, and says where it goes on.
    pub(crate) async fn latest(
        &self,
        below: Option<u64>,
        rtype: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Placed>, Option<u64>), MirrorError> {
        self.write_names().await?;
        self.read(move |c| {
            let below = match below {
                Some(below) => signed(below),
                None => c.query_row("SELECT coalesce(max(idx), -1) + 1 FROM version", [], |row| row.get(0))?,
            };
            let from = below.saturating_sub(SPAN_LEN).max(0);
            let columns = SELECT_VERSION.replace(
                " FROM version",
                ", idx, (SELECT name FROM name WHERE name.tag = version.tag),
                 (SELECT patient FROM name WHERE name.tag = version.tag) FROM version",
            );
            // The type stands in the ledger where the policy lets it show, and in the name where this organisation saw the record; of
            // others it is not known yet.
            let of_type = match &rtype {
                Some(_) => {
                    "(fhir_type = ?4 OR (fhir_type IS NULL AND NOT EXISTS
                      (SELECT 1 FROM name WHERE name.tag = version.tag AND NOT (name >= ?4 || '/' AND name < ?4 || '0'))))"
                }
                None => "?4 IS NULL AND fhir_type IS NOT 'AuditEvent'",
            };
            let sql = format!("{columns} WHERE idx >= ?1 AND idx < ?2 AND {of_type} ORDER BY idx DESC LIMIT ?3");
            let found: Vec<Placed> = c
                .prepare_cached(&sql)?
                .query_map(params![from, below, limit as i64, rtype], |row| {
                    let version = version_row(row)?;
                    let (name, patient) = (row.get::<_, Option<String>>(13)?, row.get(14)?);
                    let named = name.map(|name| Named { tag: version.tag, name, patient });
                    Ok(Placed { index: unsigned(row.get(12)?), version, named })
                })?
                .collect::<rusqlite::Result<_>>()?;
            let next = match found.last() {
                Some(last) if found.len() == limit => last.index,
                _ => unsigned(from),
            };
            Ok((found, (next > 0).then_some(next)))
        })
        .await
    }

    /// The latest version, a deletion included, of every record filed under any of `pseudonyms`; of `types` alone, when some are named, and
    /// then those whose type does not show are left out.
    pub(crate) async fn live_records(
        &self,
        pseudonyms: Vec<Pseudonym>,
        types: &[&str],
    ) -> Result<Vec<FinalVersion>, MirrorError> {
        let types: Vec<String> = types.iter().map(|&rtype| rtype.to_owned()).collect();
        self.read(move |c| {
            // There may be a thousand audit events for each record: the index by type leaves them out.
            let audits = types.iter().any(|rtype| rtype == "AuditEvent");
            let of_type = match types.as_slice() {
                [] => "?2 IS NULL",
                _ if audits => "fhir_type = ?2",
                _ => "fhir_type = ?2 AND fhir_type <> 'AuditEvent'",
            };
            let sql = format!(
                "{SELECT_VERSION} v WHERE patient = ?1 AND {of_type}
                 AND version = (SELECT max(version) FROM version w WHERE w.tag = v.tag)"
            );
            let mut select = c.prepare_cached(&sql)?;
            let mut live = Vec::new();
            for pseudonym in &pseudonyms {
                let mut add = |rtype: Option<&str>| -> rusqlite::Result<()> {
                    for row in select.query_map(params![pseudonym.0.as_ref(), rtype], version_row)? {
                        live.push(row?);
                    }
                    Ok(())
                };
                if types.is_empty() {
                    add(None)?;
                }
                types.iter().try_for_each(|rtype| add(Some(rtype)))?;
            }
            Ok(live)
        })
        .await
    }

    /// The latest version, a deletion included, of every Consent filed under any of `pseudonyms`.
    pub(crate) async fn consents(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<FinalVersion>, MirrorError> {
        if !self.inner.lately.has_consents(&pseudonyms) {
            return Ok(Vec::new());
        }
        self.read(move |c| {
            let sql = format!(
                "{SELECT_VERSION} v WHERE patient = ?1 AND fhir_type = 'Consent'
                 AND version = (SELECT max(version) FROM version w WHERE w.tag = v.tag)"
            );
            let mut select = c.prepare_cached(&sql)?;
            let mut consents = Vec::new();
            for pseudonym in &pseudonyms {
                for row in select.query_map([pseudonym.0.as_ref()], version_row)? {
                    consents.push(row?);
                }
            }
            Ok(consents)
        })
        .await
    }

    /// Index that the next entry of the log will have.
    pub(crate) async fn next_index(&self) -> Result<u64, MirrorError> {
        self.read(|c| c.query_row("SELECT coalesce(max(idx), -1) + 1 FROM entry", [], |row| Ok(unsigned(row.get(0)?))))
            .await
    }

    /// All versions of all records, a page at a time in order of (tag, version): those after `after`, of entries below an index of the log
    /// where one is named.
    pub(crate) async fn sweep(
        &self,
        after: Option<(RecordTag, u64)>,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(FinalVersion, Option<String>)>, MirrorError> {
        self.write_names().await?;
        let below = below.map_or(i64::MAX, signed);
        let (tag, version) = after.map_or((Vec::new(), -1), |(tag, version)| (tag.0.0.to_vec(), signed(version)));
        self.read(move |c| {
            let columns = SELECT_VERSION
                .replace(" FROM version", ", (SELECT name FROM name WHERE name.tag = version.tag) FROM version");
            c.prepare_cached(&format!(
                "{columns} WHERE (tag, version) > (?1, ?2) AND idx < ?4 ORDER BY tag, version LIMIT ?3"
            ))?
            .query_map(params![tag, version, limit as i64, below], |row| Ok((version_row(row)?, row.get(12)?)))?
            .collect()
        })
        .await
    }

    /// Accesses that name the audit event of an earlier one of their organisation: what became of theirs, nobody can say.
    pub(crate) async fn repeated(&self) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(|c| {
            c.prepare_cached(&format!("{SELECT_ENTRY} WHERE idx IN (SELECT idx FROM repeated) ORDER BY idx"))?
                .query_map([], entry_row)?
                .collect()
        })
        .await
    }

    /// Every version that enrolled a patient: it carries a wrapped patient key.
    pub(crate) async fn enrolments(&self) -> Result<Vec<FinalVersion>, MirrorError> {
        self.read(|c| {
            c.prepare_cached(&format!("{SELECT_VERSION} WHERE wrapped_key IS NOT NULL"))?
                .query_map([], version_row)?
                .collect()
        })
        .await
    }

    /// What final erasures are about.
    pub(crate) async fn erased(&self) -> Result<Erased, MirrorError> {
        let entries = self
            .read(|c| {
                c.prepare_cached(&format!("{SELECT_ENTRY} WHERE kind = 'custody' AND refused = 0"))?
                    .query_map([], entry_row)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        let mut erased = Erased::default();
        for entry in entries.iter().filter_map(|entry| Entry::from_bytes(&entry.bytes).ok()) {
            if let Body::Custody { step: contract::CustodyStep::Erased, records, .. } = entry.body {
                match entry.patient {
                    Some(patient) => _ = erased.patients.insert(patient),
                    None => _ = erased.alone.insert(records),
                }
            }
        }
        Ok(erased)
    }

    /// Every applied entry filed under a pseudonym, in order.
    pub(crate) async fn log(&self, patient: Pseudonym, up_to_height: u64) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(move |c| {
            c.prepare_cached(&format!(
                "{SELECT_ENTRY} WHERE patient = ?1 AND refused = 0 AND height <= ?2 ORDER BY idx"
            ))?
            .query_map(params![patient.0.as_ref(), signed(up_to_height)], entry_row)?
            .collect()
        })
        .await
    }

    /// Whether the log under each of `pseudonyms` has begun: whether any entry was applied under it.
    pub(crate) async fn begun(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<bool>, MirrorError> {
        let lately = &self.inner.lately;
        let mut begun: Vec<bool> = pseudonyms.iter().map(|pseudonym| lately.has_begun(pseudonym)).collect();
        let unsure: Vec<Pseudonym> =
            pseudonyms.iter().zip(&begun).filter(|(_, begun)| !**begun).map(|(pseudonym, _)| *pseudonym).collect();
        if unsure.is_empty() {
            return Ok(begun);
        }
        let found: Vec<(Pseudonym, bool)> = self
            .read(move |c| {
                let mut select =
                    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM entry WHERE patient = ?1 AND refused = 0)")?;
                unsure.iter().map(|p| Ok((*p, select.query_row([p.0.as_ref()], |row| row.get(0))?))).collect()
            })
            .await?;
        for (begun, (pseudonym, found)) in begun.iter_mut().filter(|begun| !**begun).zip(found) {
            *begun = found;
            if found {
                lately.note_begun(pseudonym);
            }
        }
        Ok(begun)
    }

    /// The organisation's final entry with this id, if there is one. Ids are seen in gossip before they are final: another organisation's
    /// entry may have the same.
    pub(crate) async fn entry(&self, id: Id16, org: &OrgId) -> Result<Option<FinalEntry>, MirrorError> {
        let org = org.clone();
        self.read(move |c| {
            c.prepare_cached(&format!("{SELECT_ENTRY} WHERE id = ?1 AND org = ?2 ORDER BY refused, idx LIMIT 1"))?
                .query_row(params![id.as_ref(), org.as_str()], entry_row)
                .optional()
        })
        .await
    }

    /// Final entries about something that has an id of its own (a grant, a handoff, a claim, ...), with their kinds.
    pub(crate) async fn entries_about(&self, id: Id16) -> Result<Vec<(&'static str, FinalEntry)>, MirrorError> {
        let entries = self
            .read(move |c| {
                c.prepare_cached(&format!("{SELECT_ENTRY} WHERE about = ?1 ORDER BY idx"))?
                    .query_map([id.as_ref()], entry_row)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        Ok(entries.into_iter().filter_map(|e| Some((Entry::from_bytes(&e.bytes).ok()?.kind(), e))).collect())
    }

    /// Final entries from an index on, optionally of one kind.
    pub(crate) async fn entries(
        &self,
        from: u64,
        kind: Option<String>,
        limit: usize,
    ) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(move |c| {
            c.prepare_cached(&format!(
                "{SELECT_ENTRY} WHERE idx >= ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY idx LIMIT ?3"
            ))?
            .query_map(params![signed(from), kind, limit as i64], entry_row)?
            .collect()
        })
        .await
    }

    /// Number of final entries by kind, and how many were refused.
    pub(crate) async fn totals(&self) -> Result<(Vec<(String, u64)>, u64), MirrorError> {
        self.read(|c| {
            let kinds = c
                .prepare_cached("SELECT kind, count(*) FROM entry GROUP BY kind ORDER BY kind")?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let refused = c.query_row("SELECT count(*) FROM entry WHERE refused <> 0", [], |row| row.get(0))?;
            Ok((kinds, unsigned(refused)))
        })
        .await
    }

    /// Number of final entries that the contract refused.
    pub(crate) async fn refused(&self) -> Result<u64, MirrorError> {
        self.read(|c| c.query_row("SELECT count(*) FROM entry WHERE refused <> 0", [], |row| Ok(unsigned(row.get(0)?))))
            .await
    }

    /// The highest sequence number of a lane in final blocks.
    pub(crate) async fn lane_seq(&self, org: OrgId, lane: u32) -> Result<u64, MirrorError> {
        self.read(move |c| {
            c.query_row(
                "SELECT coalesce(max(seq), 0) FROM entry WHERE org = ?1 AND lane = ?2",
                params![org.as_str(), lane],
                |row| Ok(unsigned(row.get(0)?)),
            )
        })
        .await
    }
}

impl Inner {
    fn extend(&self, blocks: &[FinalBlock]) -> Result<(), MirrorError> {
        let mut writer = lock(&self.writer);
        let mut at = *self.height.borrow();
        for block in blocks {
            if block.height != at + 1 {
                return Err(MirrorError::Gap { at, got: block.height });
            }
            at = block.height;
        }
        let (mut versions, learnt) = (Vec::new(), self.take_learnt());
        let mut run = || -> rusqlite::Result<()> {
            let tx = writer.transaction()?;
            names::insert(&tx, &learnt)?;
            for block in blocks {
                insert_block(&tx, block, &mut versions)?;
            }
            tx.execute(
                "INSERT INTO meta (key, value) VALUES ('height', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
                [signed(at)],
            )?;
            tx.commit()
        };
        let written = run();
        self.learnt_is_written(written.is_ok());
        written.map_err(|source| MirrorError::Database { path: self.path.clone(), source })?;
        self.lately.extend(versions);
        self.height.send_replace(at);
        Ok(())
    }
}

/// Adds a block, and its versions to `versions`.
fn insert_block(c: &Connection, block: &FinalBlock, versions: &mut Vec<FinalVersion>) -> rusqlite::Result<()> {
    c.prepare_cached("INSERT INTO block (height, time, digest, entries) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        signed(block.height),
        signed(block.time.0),
        block.digest.as_ref(),
        block.entries.len() as i64
    ])?;
    for (entry, place) in &block.entries {
        c.prepare_cached(
            "INSERT INTO entry (idx, height, time, digest, bytes, org, lane, seq, refused, kind, id, patient, about)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            signed(place.index),
            signed(place.height),
            signed(place.time.0),
            place.digest.as_ref(),
            place.bytes,
            entry.org.as_str(),
            place.lane,
            signed(place.seq),
            place.refused,
            entry.kind(),
            entry.id.as_ref(),
            entry.patient.as_ref().map(|p| p.0.as_ref().to_vec()),
            about(entry).map(|id| id.as_ref().to_vec()),
        ])?;
        if place.refused == 0 {
            versions.extend(insert_version(c, entry, place)?);
        }
    }
    Ok(())
}

/// The id of what an entry is about, where that has one.
fn about(entry: &Entry) -> Option<Id16> {
    match &entry.body {
        Body::Grant { id, .. }
        | Body::Override { id, .. }
        | Body::Alarm { id, .. }
        | Body::Handoff { id, .. }
        | Body::Claim { id, .. }
        | Body::Investigation { id, .. }
        | Body::Custody { id, .. } => Some(*id),
        Body::Batch { binding, .. } => Some(*binding),
        _ => None,
    }
}

/// Adds the version that an applied entry commits to, if it does.
fn insert_version(c: &Connection, entry: &Entry, place: &FinalEntry) -> rusqlite::Result<Option<FinalVersion>> {
    let (tag, version, commitment, record_type, deleted, fhir_type, attachments) = match &entry.body {
        Body::Record { tag, kind, version, commitment, deleted, codes, attachments, .. } => {
            let fhir_type = codes.iter().find(|code| code.system == "fhir-type").map(|code| code.code.as_str());
            (tag, *version, commitment, *kind, *deleted, fhir_type, attachments.as_slice())
        }
        Body::Access { audit, commitment, .. } => {
            (audit, 1, commitment, RecordType::Permission, false, Some("AuditEvent"), [].as_slice())
        }
        _ => return Ok(None),
    };
    let attached = |kind| attachments.iter().find(|a| a.kind == kind).map(|a| a.digest);
    let version = FinalVersion {
        tag: *tag,
        version,
        commitment: *commitment,
        org: entry.org.clone(),
        record_type,
        deleted,
        patient: entry.patient,
        time: place.time,
        entry: entry.id,
        fhir_type: fhir_type.map(str::to_owned),
        copy: attached(contract::AttachmentKind::EssentialCopy),
        wrapped_key: attached(contract::AttachmentKind::WrappedKey),
    };
    // The contract lets no version of a record in twice. Of accesses that name one audit event the first counts.
    let twice = if tag.is_audit() { "ON CONFLICT (tag, version) DO NOTHING" } else { "" };
    let new = c.prepare_cached(&format!(
        "INSERT INTO version (tag, version, commitment, org, idx, record_type, deleted, patient, time, entry_id, fhir_type, copy, wrapped_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) {twice}",
    ))?
    .execute(params![
        version.tag.0.as_ref(),
        signed(version.version),
        version.commitment.0.as_ref(),
        version.org.as_str(),
        signed(place.index),
        version.record_type as u8,
        version.deleted,
        version.patient.as_ref().map(|p| p.0.as_ref().to_vec()),
        signed(version.time.0),
        version.entry.as_ref(),
        version.fhir_type,
        version.copy.as_ref().map(|digest| digest.as_ref().to_vec()),
        version.wrapped_key.as_ref().map(|digest| digest.as_ref().to_vec()),
    ])?;
    if new == 0 {
        c.prepare_cached("INSERT INTO repeated (idx) VALUES (?1)")?.execute([signed(place.index)])?;
        return Ok(None);
    }
    Ok(Some(version))
}

/// Every pseudonym that a Consent was ever filed under.
fn with_consents(c: &Connection) -> rusqlite::Result<HashSet<Pseudonym>> {
    let sql = "SELECT DISTINCT patient FROM version WHERE fhir_type = 'Consent' AND patient IS NOT NULL";
    let mut select = c.prepare(sql)?;
    let patients = select.query_map([], |row| Ok(Pseudonym(Digest(row.get(0)?))))?;
    patients.collect()
}

const SELECT_VERSION: &str = "SELECT tag, version, commitment, org, record_type, deleted, patient, time, entry_id, fhir_type, copy, wrapped_key FROM version";
const SELECT_ENTRY: &str = "SELECT idx, height, time, digest, bytes, lane, seq, refused FROM entry";

fn version_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FinalVersion> {
    let org: String = row.get(3)?;
    let record_type: u8 = row.get(4)?;
    Ok(FinalVersion {
        tag: RecordTag(Digest(row.get(0)?)),
        version: unsigned(row.get(1)?),
        commitment: Commitment(Digest(row.get(2)?)),
        org: org.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(e)))?,
        record_type: *RecordType::ALL
            .get(record_type as usize)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(4, record_type.into()))?,
        deleted: row.get(5)?,
        patient: row.get::<_, Option<[u8; 32]>>(6)?.map(|bytes| Pseudonym(Digest(bytes))),
        time: TimeMs(unsigned(row.get(7)?)),
        entry: Id16(row.get(8)?),
        fhir_type: row.get(9)?,
        copy: row.get::<_, Option<[u8; 32]>>(10)?.map(Digest),
        wrapped_key: row.get::<_, Option<[u8; 32]>>(11)?.map(Digest),
    })
}

fn entry_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FinalEntry> {
    Ok(FinalEntry {
        index: unsigned(row.get(0)?),
        height: unsigned(row.get(1)?),
        time: TimeMs(unsigned(row.get(2)?)),
        digest: Digest(row.get(3)?),
        bytes: row.get(4)?,
        lane: row.get(5)?,
        seq: unsigned(row.get(6)?),
        refused: row.get(7)?,
    })
}

/// SQLite keeps signed integers; everything counted here is far below 2^63.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::AccessAction;
    use record::{Purpose, sha256};

    /// An access by that organisation, at that index of the log, that gives `audit` with these bytes for its audit event.
    fn access(org: &str, index: u64, audit: RecordTag, bytes: &[u8]) -> (Entry, FinalEntry) {
        let entry = Entry {
            id: Id16(u128::from(index).to_be_bytes()),
            org: org.parse().unwrap(),
            time: TimeMs(1000),
            purpose: Purpose::Treat,
            policy: sha256(&[b"policy"]),
            actor: sha256(&[b"actor"]),
            patient: None,
            month: None,
            body: Body::Access {
                action: AccessAction::Read,
                set: sha256(&[b"set"]),
                count: 1,
                denied: false,
                under: None,
                audit,
                commitment: Commitment(sha256(&[bytes])),
            },
        };
        let (digest, bytes) = (entry.digest(), entry.to_bytes());
        let place =
            FinalEntry { index, height: 1, time: TimeMs(2000), digest, bytes, lane: 0, seq: index + 1, refused: 0 };
        (entry, place)
    }

    #[tokio::test]
    async fn of_accesses_that_name_one_audit_event_the_first_counts_and_the_others_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(&folder.path().join("mirror.db")).unwrap();
        let [mercy, rescue] = ["mercy", "rescue"].map(|org| org.parse::<OrgId>().unwrap());
        let (one, other) =
            (RecordTag(sha256(&[b"one"])).of_audit(&mercy), RecordTag(sha256(&[b"one"])).of_audit(&rescue));
        let entries = vec![
            access("mercy", 0, one, b"first"),
            access("mercy", 1, one, b"second"),
            access("rescue", 2, other, b"its own"),
        ];
        let block = FinalBlock { height: 1, time: TimeMs(2000), digest: sha256(&[b"block"]), entries };
        mirror.inner.extend(&[block]).unwrap();
        let counts = mirror.version(one, 1).await.unwrap().unwrap();
        assert_eq!((counts.org.as_str(), counts.commitment), ("mercy", Commitment(sha256(&[b"first"]))));
        assert_eq!(mirror.version(other, 1).await.unwrap().unwrap().org.as_str(), "rescue");
        let repeated = mirror.repeated().await.unwrap();
        assert_eq!(repeated.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1]);
        let first = Id16(0u128.to_be_bytes());
        assert_eq!(mirror.entry(first, &mercy).await.unwrap().unwrap().index, 0);
        assert_eq!(mirror.entry(first, &rescue).await.unwrap(), None, "another organisation's entry of that id");
    }
}
