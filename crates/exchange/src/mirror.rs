//! The mirror: an organisation's own index over the final entries of its own ledger node.
//!
//! It is a private SQLite file, filled from final blocks only, so it may be trusted where the cloud database may not; and because the
//! ledger can fill it again from height 1, it is written without waiting for the disk.

use crate::{beside::beside_the_ledger, recent::Recent};
use contract::{Entry, merkle};
use record::{Commitment, Digest, Id16, OrgId, Pseudonym, RecordTag, RecordType, TimeMs};
use rusqlite::{Connection, OptionalExtension, config::DbConfig};
use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
};
use store::Row;
use tokio::sync::{Semaphore, oneshot, watch};

mod batches;
mod entries;
mod gathered;
mod holds;
mod insert;
mod lately;
mod names;
mod tree;
mod versions;

pub(crate) use batches::{Batch, Batches, LetGo, let_go_up_to};
pub(crate) use gathered::FinalAccesses;
use lately::Lately;

/// Connections that read at the same time.
const READERS: usize = 4;
/// Page cache of each connection, in KiB: a block's pages fit, so that none is written before its commit.
const CACHE_KIB: i64 = 8 << 10;
/// Statements that each connection keeps prepared: somewhat more than are asked.
const STATEMENTS_KEPT: usize = 64;
/// Part of the file that is read through the page cache of the operating system, in bytes.
const MMAP_BYTES: i64 = 256 << 20;
/// Pages of the log (4 KiB each) after which a commit moves them into the file. A block of a hundred entries writes some six hundred, most of
/// them those of the block before.
const CHECKPOINT_PAGES: i64 = 16_000;
/// What stays of the log's file after that, in bytes.
const LOG_BYTES_KEPT: i64 = 64 << 20;

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
CREATE INDEX IF NOT EXISTS entry_disposal ON entry (patient) WHERE kind = 'disposal';
CREATE INDEX IF NOT EXISTS entry_refused ON entry (idx) WHERE refused <> 0;
CREATE TABLE IF NOT EXISTS version (
  tag BLOB NOT NULL, version INTEGER NOT NULL, commitment BLOB NOT NULL, org TEXT NOT NULL, idx INTEGER NOT NULL,
  record_type INTEGER NOT NULL, deleted INTEGER NOT NULL, patient BLOB, time INTEGER NOT NULL, entry_id BLOB NOT NULL,
  fhir_type TEXT, copy BLOB, wrapped_key BLOB, PRIMARY KEY (tag, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_patient ON version (patient, tag) WHERE patient IS NOT NULL;
CREATE INDEX IF NOT EXISTS version_type ON version (patient, fhir_type, tag) WHERE fhir_type <> 'AuditEvent';
CREATE INDEX IF NOT EXISTS version_consent ON version (patient, tag) WHERE fhir_type = 'Consent';
CREATE INDEX IF NOT EXISTS version_idx ON version (idx);
CREATE INDEX IF NOT EXISTS version_enrolment ON version (idx) WHERE wrapped_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS gathered (idx INTEGER PRIMARY KEY, patient BLOB, count INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS gathered_patient ON gathered (patient, idx) WHERE patient IS NOT NULL;
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
    /// Which of several accesses, if the entry commits to them together; 0 for all others.
    pub place: u32,
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

    /// Whether everything under a pseudonym was erased.
    pub(crate) fn has_patient(&self, patient: &Pseudonym) -> bool {
        self.patients.contains(patient)
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
    /// The operating system gave no thread.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    /// The program is stopping.
    #[error("the mirror is closed")]
    Closed,
}

/// Blocks that somebody waits for.
type Extension = (Arc<[FinalBlock]>, oneshot::Sender<Result<(), MirrorError>>);

/// Readers and the one writer of the mirror's file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    inner: Arc<Inner>,
    /// To the thread that adds blocks. It holds as many as there are callers, who wait.
    blocks: mpsc::Sender<Extension>,
}

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    lately: Lately,
    batches: Recent<Id16, Arc<Batches>>,
    /// Names of records that are not in the file yet.
    learnt: Mutex<names::Learnt>,
    readers: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    height: watch::Sender<u64>,
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Otherwise a statement is planned anew for every value that is bound, as the value might choose among indexes of a part of the rows.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "mmap_size", MMAP_BYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    Ok(connection)
}

impl Mirror {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, MirrorError> {
        let database = |source| MirrorError::Database { path: path.to_owned(), source };
        let writer = connect(path).map_err(database)?;
        writer.execute_batch(SCHEMA).map_err(database)?;
        let height = writer
            .query_row("SELECT value FROM meta WHERE key = 'height'", [], |row| row.get::<_, i64>(0))
            .optional()
            .map_err(database)?
            .unwrap_or(0);
        let with_consents = with_consents(&writer).map_err(database)?;
        let readers = (0..READERS).map(|_| connect(path)).collect::<Result<Vec<_>, _>>().map_err(database)?;
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            lately: Lately::new(with_consents),
            batches: Recent::new(batches::BINDINGS_KEPT),
            learnt: Mutex::default(),
            readers: Mutex::new(readers),
            permits: Arc::new(Semaphore::new(READERS)),
            height: watch::Sender::new(height.unsigned_abs()),
        });
        let (blocks, coming) = mpsc::channel::<Extension>();
        let extended = Arc::clone(&inner);
        let run = move || {
            for (blocks, answer) in coming {
                // Who has gone does not ask for blocks any more.
                let _gone = answer.send(extended.extend(&blocks));
            }
        };
        beside_the_ledger("mirror", run).map_err(MirrorError::Thread)?;
        Ok(Self { inner, blocks })
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
    pub(crate) async fn extend(&self, blocks: Arc<[FinalBlock]>) -> Result<(), MirrorError> {
        let (answer, answered) = oneshot::channel();
        self.blocks.send((blocks, answer)).map_err(|_| MirrorError::Closed)?;
        answered.await.map_err(|_| MirrorError::Closed)?
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
                insert::block(&tx, block, &mut versions)?;
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

/// Every pseudonym that a Consent was ever filed under.
fn with_consents(c: &Connection) -> rusqlite::Result<HashSet<Pseudonym>> {
    let sql = "SELECT DISTINCT patient FROM version WHERE fhir_type = 'Consent' AND patient IS NOT NULL";
    let mut select = c.prepare(sql)?;
    let patients = select.query_map([], |row| Ok(Pseudonym(Digest(row.get(0)?))))?;
    patients.collect()
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
