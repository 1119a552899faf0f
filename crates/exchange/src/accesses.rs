//! Accesses on their way to the database: durable in a private file before anything is shown, and written together a moment later.
//!
//! Whoever reads a record waits for one append to this file, and not for a transaction on the database that everybody shares. What
//! waits here survives the end of the process: it is written after the next start. The file holds audit events, which name patients and
//! people; like the desk it lies in the gateway's private folder, and what was written is deleted from it.
//!
//! ```text
//! read ─► audit event, entry derived ─► file (one sync for all who wait) ─► answer
//!                                          └── within 200 ms, many at once: database and journal, as every write ─► ledger
//! ```

use crate::{failure::Failure, members::News, mirror::Named, node::Node, write::put_failure};
use contract::{Body, Entry};
use record::{Digest, Salt};
use rusqlite::{Connection, params};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};
use store::{Expected, NewEntry, NewVersion, Put, ReadError, Removal, Row, VersionKey, extract};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

/// How long an access waits for others to be written to the database with.
const WAIT: Duration = Duration::from_millis(200);
/// As soon as so many wait, they are written.
const ENOUGH: usize = 512;
/// Accesses, and bytes of their audit events, that one transaction writes at most.
const PUT_LEN_MAX: usize = 128;
const PUT_BYTES_MAX: usize = 2 << 20;
/// Accesses that may wait for the database. When it takes none for so long, nothing more is shown.
const WAITING_MAX: usize = 100_000;
/// Bytes of their audit events.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Requests that may wait for the file.
const REQUESTS_MAX: usize = 4_096;
/// Requests that one sync serves at most.
const GROUP_MAX: usize = 512;
/// How long somebody waits for what was noted to be in the database.
const WRITTEN_WAIT: Duration = Duration::from_secs(10);
/// How long to wait after the database did not take it.
const RETRY: Duration = Duration::from_millis(500);
/// How often requests of our own ask for a place in the queue.
const PLACE_POLL: Duration = Duration::from_millis(1);

/// Accesses wait in the first table. The second has those that can never be written; they are told of at every start.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS access (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS aside (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;";
const SET_ASIDE: &str = "INSERT OR IGNORE INTO aside SELECT * FROM access WHERE number = ?1";

/// Why the file of accesses did not open. Ours.
#[derive(Debug, thiserror::Error)]
pub enum AccessesError {
    /// SQLite failed.
    #[error("the accesses at `{path}`: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The operating system gave no thread.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
}

/// One access to one patient's (or nobody's) records: its audit event, and the entry that commits to it.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) new: NewVersion,
    pub(crate) entry: NewEntry,
}

impl Access {
    fn named(&self) -> Named {
        Named::of(&self.new.row)
    }

    /// `entry` is of an access and commits to `bytes`, its audit event of this id, with `salt`. None if it is not, or they are no JSON.
    pub(crate) fn of(id: String, patient: Option<String>, salt: Salt, entry: &Entry, bytes: Vec<u8>) -> Option<Self> {
        let Body::Access { audit, .. } = &entry.body else { return None };
        let value = serde_json::from_slice(&bytes).ok()?;
        let key = VersionKey { rtype: "AuditEvent".to_owned(), id: id.clone(), version: 1 };
        let row = Row {
            rtype: key.rtype.clone(),
            id,
            version: key.version,
            bytes,
            salt,
            tag: *audit,
            pseudonym: entry.patient,
            patient,
            author: entry.org.clone(),
            entry: entry.id,
            written_at: entry.time,
            deleted: false,
            label: "N".to_owned(),
        };
        let new = NewVersion { row, expected: Expected::New, index: extract("AuditEvent", &value) };
        Some(Self { new, entry: NewEntry { id: entry.id, bytes: entry.to_bytes(), record: Some(key) } })
    }

    /// From what the file has of it.
    fn read(columns: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(i64, Self)>> {
        let (number, id, patient) = (columns.get(0)?, columns.get(1)?, columns.get(2)?);
        let (salt, entry, bytes) = (Digest(columns.get(3)?), columns.get::<_, Vec<u8>>(4)?, columns.get(5)?);
        let access = Entry::from_bytes(&entry).ok().and_then(|entry| Self::of(id, patient, salt, &entry, bytes));
        Ok(access.map(|access| (number, access)))
    }
}

/// An access that is durable here.
struct Noted {
    number: i64,
    access: Access,
    since: Instant,
    /// Whether it may be in the database already.
    unsure: bool,
}

/// Who waits for something to be on the disk.
type Answer = oneshot::Sender<Result<(), String>>;

enum Request {
    Note {
        accesses: Vec<Access>,
        answer: Answer,
    },
    /// All up to this number are in the database.
    Forget(i64),
    /// This one can never be written.
    SetAside(i64, oneshot::Sender<()>),
    /// Leaves no trace of what is in the database.
    Scrub(Answer),
    Close(oneshot::Sender<()>),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Accesses {
    requests: SyncSender<Request>,
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Held while accesses are written to the database.
    writing: tokio::sync::Mutex<()>,
    /// Number of the last one that is in the database.
    written: watch::Sender<i64>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Waiting {
    noted: VecDeque<Noted>,
    bytes: usize,
    /// Number of the last one noted.
    last: i64,
    /// Somebody waits for those up to this number.
    hurried: i64,
}

impl Accesses {
    /// Opens or makes the file, of which what an earlier process left is written first.
    pub(crate) fn open(path: &Path) -> Result<Self, AccessesError> {
        let database = |source| AccessesError::Database { path: path.to_owned(), source };
        let Opened { file, left, last } = open(path).map_err(database)?;
        let mut waiting = Waiting::default();
        let since = Instant::now();
        for (number, access) in left {
            waiting.bytes += access.new.row.bytes.len();
            waiting.last = number;
            waiting.noted.push_back(Noted { number, access, since, unsure: true });
        }
        let first = waiting.noted.front().map_or(last, |noted| noted.number - 1);
        let next = last + 1;
        let written = watch::Sender::new(first);
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::default(),
            written,
        });
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let keeper = Keeper { file, next, shared: Arc::clone(&shared), requests: received };
        thread::Builder::new().name("accesses".into()).spawn(move || keeper.run()).map_err(AccessesError::Thread)?;
        Ok(Self { requests, shared })
    }

    /// Makes accesses durable, all or none.
    pub(crate) async fn note(&self, accesses: Vec<Access>) -> Result<(), Failure> {
        {
            let waiting = self.shared.waiting();
            if waiting.noted.len() >= WAITING_MAX || waiting.bytes >= WAITING_BYTES_MAX {
                return Err(Failure::Busy);
            }
        }
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request::Note { accesses, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Failure::Busy,
            TrySendError::Disconnected(_) => closed(),
        })?;
        let noted = answered.await.map_err(|_| closed())?;
        noted.map_err(|why| Failure::ours("an access could not be noted", why))
    }

    /// How many are not in the database yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.shared.waiting().noted.len() as u64
    }

    /// Waits until all that was noted before is in the database.
    pub(crate) async fn written(&self) -> Result<(), Failure> {
        let last = {
            let mut waiting = self.shared.waiting();
            if waiting.noted.is_empty() {
                return Ok(());
            }
            waiting.hurried = waiting.last;
            waiting.last
        };
        self.shared.wake.notify_one();
        let mut written = self.shared.written.subscribe();
        let waited = tokio::time::timeout(WRITTEN_WAIT, written.wait_for(|written| *written >= last)).await;
        if matches!(waited, Ok(Ok(_))) { Ok(()) } else { Err(Failure::Busy) }
    }

    /// Age of the oldest that is not in the database yet, in seconds; 0 when there is none.
    pub(crate) fn oldest_s(&self) -> f64 {
        self.shared.waiting().noted.front().map_or(0.0, |noted| noted.since.elapsed().as_secs_f64())
    }

    /// Leaves no trace of what was written: not in the file, and not in its log.
    pub(crate) async fn scrub(&self) -> Result<(), Failure> {
        let scrubbed = self.ask(Request::Scrub).await.ok_or_else(closed)?;
        scrubbed.map_err(|why| Failure::ours("the file of accesses could not be cleaned", why))
    }

    /// Closes the file.
    pub(crate) async fn close(&self) {
        // None means that it is closed already.
        let _closed = self.ask(Request::Close).await;
    }

    /// Requests of our own wait for their place in the queue instead of failing. None when the file is closed.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let mut request = request(answer);
        loop {
            match self.requests.try_send(request) {
                Ok(()) => return answered.await.ok(),
                Err(TrySendError::Disconnected(_)) => return None,
                Err(TrySendError::Full(back)) => request = back,
            }
            tokio::time::sleep(PLACE_POLL).await;
        }
    }

    /// Waits until some should be written.
    async fn due(&self) {
        loop {
            let wait = {
                let waiting = self.shared.waiting();
                match waiting.noted.front() {
                    None => None,
                    Some(first) if first.number <= waiting.hurried || waiting.noted.len() >= ENOUGH => return,
                    Some(first) => match WAIT.checked_sub(first.since.elapsed()) {
                        None | Some(Duration::ZERO) => return,
                        wait => wait,
                    },
                }
            };
            let woken = self.shared.wake.notified();
            match wait {
                Some(wait) => _ = tokio::time::timeout(wait, woken).await,
                None => woken.await,
            }
        }
    }

    /// The first that wait, as many as one transaction writes; they wait on until they are [`Accesses::done`].
    fn first(&self) -> First {
        let waiting = self.shared.waiting();
        let mut first = First::default();
        let mut bytes = 0;
        for noted in waiting.noted.iter().take(PUT_LEN_MAX) {
            bytes += noted.access.new.row.bytes.len();
            if !first.accesses.is_empty() && bytes > PUT_BYTES_MAX {
                break;
            }
            first.unsure |= noted.unsure;
            first.numbers.push(noted.number);
            first.accesses.push(noted.access.clone());
        }
        first
    }

    /// Everything up to `last` is in the database.
    fn done(&self, last: i64) {
        let mut waiting = self.shared.waiting();
        while waiting.noted.front().is_some_and(|noted| noted.number <= last) {
            let bytes = waiting.noted.pop_front().map_or(0, |noted| noted.access.new.row.bytes.len());
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
        }
        drop(waiting);
        // What is not forgotten now is forgotten with what comes later, or found in the database after the next start.
        let _later = self.requests.try_send(Request::Forget(last));
        self.shared.written.send_replace(last);
    }

    /// Nobody knows what the database has of everything up to `last`.
    fn unsure(&self, last: i64) {
        let mut waiting = self.shared.waiting();
        waiting.noted.iter_mut().take_while(|noted| noted.number <= last).for_each(|noted| noted.unsure = true);
    }
}

/// What one transaction writes.
#[derive(Default)]
struct First {
    accesses: Vec<Access>,
    /// Theirs, which rise and need not follow each other.
    numbers: Vec<i64>,
    unsure: bool,
}

impl First {
    fn last(&self) -> i64 {
        self.numbers.last().copied().unwrap_or_default()
    }
}

fn closed() -> Failure {
    Failure::Ours("the file of accesses is closed".to_owned())
}

impl Node {
    /// Brings accesses to the database, for ever.
    pub(crate) async fn write_accesses(self) {
        loop {
            self.accesses.due().await;
            let first = self.accesses.first();
            match self.put_accesses(&first.accesses, first.unsure).await {
                Ok(()) => self.accesses.done(first.last()),
                Err(error) => {
                    tracing::warn!(%error, "accesses wait, as the database does not take them now");
                    self.accesses.unsure(first.last());
                    if is_lasting(&error) {
                        self.put_one_by_one(&first).await;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Finds the one that holds up the others and sets it aside.
    async fn put_one_by_one(&self, first: &First) {
        for (&number, access) in first.numbers.iter().zip(&first.accesses) {
            match self.put_accesses(std::slice::from_ref(access), true).await {
                Ok(()) => self.accesses.done(number),
                Err(error) if is_lasting(&error) => {
                    tracing::error!(%error, entry = %access.entry.id, "an access can never be written and is set aside");
                    if self.accesses.ask(|answer| Request::SetAside(number, answer)).await.is_none() {
                        return;
                    }
                    self.accesses.done(number);
                }
                Err(_) => return,
            }
        }
    }

    /// Writes accesses; when it is not sure whether the database has them already, those that it has not.
    async fn put_accesses(&self, accesses: &[Access], unsure: bool) -> Result<(), Failure> {
        // An erasure comes before or after, and not between the look and the write.
        let _writing = self.accesses.shared.writing.lock().await;
        let (mut put, mut names) = (Put::default(), Vec::with_capacity(accesses.len()));
        let erased = self.mirror.erased().await?;
        for access in accesses.iter().cloned() {
            if unsure {
                match self.found(&access).await? {
                    Standing::Written => continue,
                    Standing::Missing => {}
                    Standing::Taken(removal) => {
                        tracing::error!(entry = %access.entry.id, "a row that nobody of ours wrote stands in the place of an audit event");
                        put.removals.push(removal);
                    }
                }
            }
            // Of a patient who was erased meanwhile the ledger is told that there was an access; no row names anybody.
            let is_erased =
                access.new.row.pseudonym.is_some_and(|pseudonym| erased.patients().any(|of| *of == pseudonym));
            if is_erased {
                put.entries.push(NewEntry { record: None, ..access.entry });
                continue;
            }
            names.push(access.named());
            put.records.push(access.new);
            put.entries.push(access.entry);
        }
        if put.entries.is_empty() {
            return Ok(());
        }
        self.store.put(put).await.map_err(put_failure)?;
        if let Err(error) = self.mirror.learn_names(names).await {
            tracing::warn!(%error, "names of records could not be remembered");
        }
        Ok(())
    }

    /// What the database has in the place of an access. It is not believed: the ledger has the entry, or a submission that we signed
    /// carries it, beside the very row.
    async fn found(&self, access: &Access) -> Result<Standing, Failure> {
        let row = &access.new.row;
        if self.mirror.entry(row.entry, &row.author).await?.is_some() {
            return Ok(Standing::Written);
        }
        let key = VersionKey { rtype: row.rtype.clone(), id: row.id.clone(), version: row.version };
        match self.store.vread(key.clone()).await {
            Ok(None) => Ok(Standing::Missing),
            Ok(Some(found)) => {
                let ours = found == *row && self.signed_entry(row, &mut News::default()).await?.is_some();
                Ok(if ours { Standing::Written } else { Standing::Taken(Removal::Version(key)) })
            }
            Err(ReadError::Malformed(malformed)) => Ok(Standing::Taken(Removal::Place(malformed.place))),
            Err(error) => Err(crate::find::search_failure(error)),
        }
    }

    /// While this is held no access is written: an erasure finds all that were, and those that come later know of it.
    pub(crate) async fn pause_accesses(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.accesses.shared.writing.lock().await
    }
}

/// What the database has in the place of an access.
enum Standing {
    Written,
    Missing,
    /// A row that is not ours.
    Taken(Removal),
}

/// Whether trying again changes nothing.
fn is_lasting(error: &Failure) -> bool {
    matches!(error, Failure::Invalid(_) | Failure::TooLarge(_))
}

/// The file's own thread.
struct Keeper {
    file: Connection,
    next: i64,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
}

impl Keeper {
    fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(more) = self.requests.try_recv()
            {
                group.push(more);
            }
            if let Some(closed) = self.serve(group) {
                drop(self);
                let _gone = closed.send(());
                return;
            }
        }
    }

    /// Serves requests with one sync. Gives who waits for the file to be closed.
    fn serve(&mut self, group: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let (mut notes, mut scrubs, mut aside, mut closed, mut forgotten) =
            (Vec::new(), Vec::new(), Vec::new(), None, None);
        for request in group {
            match request {
                Request::Note { accesses, answer } => notes.push((accesses, answer)),
                Request::Forget(last) => forgotten = forgotten.max(Some(last)),
                Request::SetAside(number, answer) => aside.push((number, answer)),
                Request::Scrub(answer) => scrubs.push(answer),
                Request::Close(answer) => closed = Some(answer),
            }
        }
        if !scrubs.is_empty() {
            forgotten = forgotten.max(Some(*self.shared.written.borrow()));
        }
        let kept = self.keep(&notes, &aside, forgotten).map_err(|error| error.to_string());
        let since = Instant::now();
        for (accesses, answer) in notes {
            if kept.is_ok() {
                let mut waiting = self.shared.waiting();
                for access in accesses {
                    waiting.bytes += access.new.row.bytes.len();
                    waiting.last = self.next;
                    waiting.noted.push_back(Noted { number: self.next, access, since, unsure: false });
                    self.next += 1;
                }
            }
            // Who has gone meanwhile was not shown anything; that the access is noted all the same says more than less.
            let _gone = answer.send(kept.clone());
        }
        self.shared.wake.notify_one();
        if kept.is_ok() {
            // Those that are not told wait on, and are tried again.
            aside.into_iter().for_each(|(_, answer)| _ = answer.send(()));
        }
        let idle = forgotten.is_some() && self.shared.waiting().noted.is_empty();
        if idle || !scrubs.is_empty() {
            let emptied = kept.and_then(|()| self.empty_log());
            if let Err(error) = &emptied {
                tracing::warn!(error, "the log of the accesses could not be emptied");
            }
            scrubs.into_iter().for_each(|answer| _ = answer.send(emptied.clone()));
        }
        closed
    }

    /// Brings the log into the file and makes it empty, so that nothing stands there that was deleted.
    fn empty_log(&self) -> Result<(), String> {
        let busy = self.file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match busy {
            Ok(0) => Ok(()),
            Ok(_) => Err("it is in use".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// One transaction, on the disk when it returns.
    fn keep(
        &mut self,
        notes: &[(Vec<Access>, Answer)],
        aside: &[(i64, oneshot::Sender<()>)],
        forgotten: Option<i64>,
    ) -> rusqlite::Result<()> {
        let accesses = notes.iter().flat_map(|(accesses, _)| accesses);
        let tx = self.file.transaction()?;
        for (number, _) in aside {
            tx.prepare_cached(SET_ASIDE)?.execute([number])?;
        }
        if let Some(last) = forgotten {
            tx.prepare_cached("DELETE FROM access WHERE number <= ?1")?.execute([last])?;
        }
        {
            let sql = "INSERT INTO access (number, id, patient, salt, entry, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut insert = tx.prepare_cached(sql)?;
            for (number, access) in (self.next..).zip(accesses) {
                let row = &access.new.row;
                insert.execute(params![
                    number,
                    row.id,
                    row.patient,
                    row.salt.as_ref(),
                    access.entry.bytes,
                    row.bytes
                ])?;
            }
        }
        tx.commit()
    }
}

/// The file, and what was in it.
struct Opened {
    file: Connection,
    left: Vec<(i64, Access)>,
    /// The last number that was given.
    last: i64,
}

fn open(path: &Path) -> rusqlite::Result<Opened> {
    let mut file = Connection::open(path)?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted must not be found in the file's free space.
    file.pragma_update(None, "secure_delete", true)?;
    file.execute_batch(SCHEMA)?;
    let tx = file.transaction()?;
    let (mut left, mut unreadable) = (Vec::new(), Vec::new());
    {
        let mut select = tx.prepare("SELECT number, id, patient, salt, entry, bytes FROM access ORDER BY number")?;
        let mut rows = select.query([])?;
        while let Some(columns) = rows.next()? {
            match Access::read(columns) {
                Ok(Some(access)) => left.push(access),
                Ok(None) | Err(_) => unreadable.push(columns.get::<_, i64>(0)?),
            }
        }
    }
    for number in &unreadable {
        tx.execute(SET_ASIDE, [number])?;
        tx.execute("DELETE FROM access WHERE number = ?1", [number])?;
    }
    let last =
        "SELECT max((SELECT coalesce(max(number), 0) FROM access), (SELECT coalesce(max(number), 0) FROM aside))";
    let last = tx.query_row(last, [], |row| row.get(0))?;
    let aside: i64 = tx.query_row("SELECT count(*) FROM aside", [], |row| row.get(0))?;
    if aside > 0 {
        tracing::error!(aside, file = %path.display(), "accesses that can never be written lie in the table `aside` of the file");
    }
    tx.commit()?;
    Ok(Opened { file, left, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use record::{Id16, OrgId, RecordTag, sha256};

    fn access(n: u8) -> Access {
        let org: OrgId = "mercy".parse().unwrap();
        let id = format!("event-{n}");
        let bytes = format!(r#"{{"resourceType":"AuditEvent","id":"{id}","action":"R"}}"#).into_bytes();
        let entry = sample::access(&org, Id16([n; 16]), RecordTag(sha256(&[&[n]])).of_audit(&org), &bytes);
        Access::of(id, Some("p".to_owned()), sha256(&[b"salt", &[n]]), &entry, bytes).unwrap()
    }

    #[tokio::test]
    async fn what_was_noted_is_there_after_a_crash_as_it_was_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accesses.db");
        let accesses = Accesses::open(&path).unwrap();
        accesses.note(vec![access(1), access(2)]).await.unwrap();
        accesses.note(vec![access(3)]).await.unwrap();
        assert_eq!(accesses.waiting(), 3);
        let First { accesses: first, numbers, unsure } = accesses.first();
        assert_eq!((first.len(), numbers.as_slice(), unsure), (3, &[1, 2, 3][..], false));
        accesses.close().await;

        let again = Accesses::open(&path).unwrap();
        let First { accesses: left, unsure, .. } = again.first();
        assert!(unsure, "they may be in the database");
        for (before, after) in first.iter().zip(&left) {
            assert_eq!((&before.new.row, &before.new.index), (&after.new.row, &after.new.index));
            assert_eq!((&before.entry.id, &before.entry.bytes), (&after.entry.id, &after.entry.bytes));
        }
        again.done(3);
        again.scrub().await.unwrap();
        again.close().await;
        for file in [&path, &folder.path().join("accesses.db-wal")] {
            let bytes = std::fs::read(file).unwrap_or_default();
            assert!(!bytes.windows(7).any(|window| window == b"event-2"), "{}", file.display());
        }
        assert_eq!(Accesses::open(&path).unwrap().waiting(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_set_aside_and_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accesses.db");
        let accesses = Accesses::open(&path).unwrap();
        accesses.note(vec![access(1), access(2), access(3)]).await.unwrap();
        accesses.close().await;
        let changed = Connection::open(&path).unwrap().execute("UPDATE access SET entry = x'00' WHERE number <> 2", []);
        assert_eq!(changed, Ok(2));
        let accesses = Accesses::open(&path).unwrap();
        accesses.note(vec![access(4)]).await.unwrap();
        let first = accesses.first();
        let (left, last) = (&first.accesses, first.last());
        assert_eq!(left.iter().map(|left| left.new.row.id.as_str()).collect::<Vec<_>>(), ["event-2", "event-4"]);
        accesses.done(last);
        accesses.scrub().await.unwrap();
        accesses.close().await;
        let file = Connection::open(&path).unwrap();
        let count =
            |table: &str| file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        assert_eq!((count("access"), count("aside")), (Ok(0), Ok(2)));
    }

    #[tokio::test]
    async fn whoever_waits_for_what_was_noted_hurries_it_and_waits_for_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let accesses = Accesses::open(&folder.path().join("accesses.db")).unwrap();
        accesses.written().await.unwrap();
        accesses.note(vec![access(1), access(2)]).await.unwrap();
        let waits = tokio::spawn({
            let accesses = accesses.clone();
            async move { accesses.written().await }
        });
        accesses.due().await;
        accesses.done(1);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        accesses.done(2);
        waits.await.unwrap().unwrap();
        assert_eq!(accesses.waiting(), 0);
        accesses.close().await;
        assert!(accesses.note(vec![access(3)]).await.is_err(), "nothing is shown that cannot be noted");
    }
}
