//! Accesses on their way to the database: durable in a private log before anything is shown, and written together a moment later.
//!
//! Whoever reads a record waits for one append to this log, and not for a transaction on the database that everybody shares. What
//! waits here survives the end of the process: it is written after the next start. The log holds audit events, which name patients and
//! people; like the desk it lies in the gateway's private folder, and what was written is overwritten in it.
//!
//! ```text
//! read ─► audit event, entry derived ─► log (one sync for all who wait) ─► answer
//!                                          └── within half a second, many at once: database and journal, as every write ─► ledger
//! ```

mod aside;
mod bring;
mod keeper;
mod log;

use crate::{failure::Failure, filing::Filed, set::AUDIT_EVENT};
use contract::{Body, Entry};
use keeper::{Keeper, Opened};
use record::{Purpose, Salt};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};
use store::{Expected, NewEntry, NewVersion, Row, VersionKey};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

/// How long an access waits for others to be written to the database with.
const WAIT: Duration = Duration::from_millis(500);
/// As soon as so many wait, they are written.
const ENOUGH: usize = 4_096;
/// Accesses, and bytes of their audit events, that are looked at together.
const ROUND_LEN_MAX: usize = 4_096;
const ROUND_BYTES_MAX: usize = 16 << 20;
/// Accesses, and bytes of their audit events, that one transaction writes at most.
const PUT_LEN_MAX: usize = 256;
const PUT_BYTES_MAX: usize = 2 << 20;
/// Accesses, and bytes of their audit events, that one entry commits to at most.
const SET_LEN_MAX: usize = 128;
const SET_BYTES_MAX: usize = 1 << 20;
/// From so many waiting accesses on, whoever reads waits a moment as well, the longer the more there are: writing gives way to reading, and
/// who read on at any rate would have everybody refused later.
const CROWD: usize = 8_192;
const CROWD_WAIT: Duration = Duration::from_millis(20);
/// Accesses that may wait for the database. When it takes none for so long, nothing more is shown.
const WAITING_MAX: usize = 100_000;
/// Bytes of their audit events.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// How long it is told that accesses could not be noted. Where nobody reads meanwhile nobody knows whether they can be.
const REFUSED_TOLD: Duration = Duration::from_secs(10);
/// Requests that may wait for the log.
const REQUESTS_MAX: usize = 4_096;
/// How long somebody waits for what was noted to be in the database.
const WRITTEN_WAIT: Duration = Duration::from_secs(10);
/// How often requests of our own ask for a place in the queue.
const PLACE_POLL: Duration = Duration::from_millis(1);

/// Why the log of accesses did not open. Ours.
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
    /// A file or folder could not be read or written.
    #[error("the accesses at `{path}`: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("the file `{path}` is no log of accesses of this program")]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that were synced have changed.
    #[error(
        "the log of accesses `{path}` is damaged at byte {offset}: who was shown what from there on cannot be read; with the file moved \
         away the gateway starts without it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first damaged group begins.
        offset: u64,
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
    /// What the entry says.
    says: Entry,
}

/// An audit event as it is written down, and what it is found by.
pub(crate) struct AuditedBytes {
    pub(crate) id: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) filed: Filed,
}

impl AuditedBytes {
    /// As they are read back. None if they are no JSON.
    fn read(id: String, bytes: Vec<u8>) -> Option<Self> {
        let filed = Filed::alone(&serde_json::from_slice(&bytes).ok()?);
        Some(Self { id, bytes, filed })
    }
}

impl Access {
    /// `entry` commits to the audit event with `salt`. None if it is of no access.
    pub(crate) fn of(event: AuditedBytes, patient: Option<String>, salt: Salt, entry: Entry) -> Option<Self> {
        let Body::Access { audit, .. } = &entry.body else { return None };
        let AuditedBytes { id, bytes, filed } = event;
        let key = VersionKey { rtype: AUDIT_EVENT.to_owned(), id: id.clone(), version: 1 };
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
            gathered: None,
        };
        let Filed { index, template } = filed;
        let new = NewVersion { row, expected: Expected::New, index, template };
        let bytes = entry.to_bytes();
        Some(Self { new, entry: NewEntry { id: entry.id, bytes, record: Some(key) }, says: entry })
    }

    /// The same from what was written down.
    fn read(id: String, patient: Option<String>, salt: Salt, entry: &[u8], bytes: Vec<u8>) -> Option<Self> {
        let entry = Entry::from_bytes(entry).ok()?;
        Self::of(AuditedBytes::read(id, bytes)?, patient, salt, entry)
    }
}

/// An access that is durable here.
struct Noted {
    number: i64,
    access: Arc<Access>,
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
    /// Whether the log takes nothing more until it is opened again.
    failed: AtomicBool,
    /// When accesses could not be noted the last time, if none were noted since.
    refused: Mutex<Option<Instant>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accesses were noted, or could not be.
    fn note_whether(&self, noted: bool, at: Instant) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = (!noted).then_some(at);
    }

    /// Whether accesses could not be noted a moment ago.
    fn has_refused(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < REFUSED_TOLD)
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

impl Waiting {
    fn is_full(&self) -> bool {
        self.noted.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }
}

impl Accesses {
    /// Opens or makes the log in a folder; what an earlier process left in it is written first.
    pub(crate) fn open(folder: &Path) -> Result<Self, AccessesError> {
        Self::over(keeper::open(folder)?)
    }

    fn over(opened: Opened) -> Result<Self, AccessesError> {
        let Opened { log, aside, left, last } = opened;
        let mut waiting = Waiting::default();
        let since = Instant::now();
        for (number, access) in left {
            waiting.bytes += access.new.row.bytes.len();
            waiting.last = number;
            let access = Arc::new(access);
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
            failed: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let keeper = Keeper { log, aside, next, shared: Arc::clone(&shared), requests: received };
        thread::Builder::new().name("accesses".into()).spawn(move || keeper.run()).map_err(AccessesError::Thread)?;
        Ok(Self { requests, shared })
    }

    /// Makes accesses durable, all or none.
    pub(crate) async fn note(&self, accesses: Vec<Access>) -> Result<(), Failure> {
        if self.shared.waiting().is_full() {
            return Err(Failure::Busy);
        }
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request::Note { accesses, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Failure::Busy,
            TrySendError::Disconnected(_) => closed(),
        })?;
        let noted = answered.await.map_err(|_| closed())?;
        noted.map_err(|why| Failure::ours("an access could not be noted", why))
    }

    /// Waits a moment where many accesses wait for the database, unless it is for an emergency. To be called by reads and searches.
    pub(crate) async fn give_room(&self, purpose: Purpose) {
        let moment = moment(purpose, self.shared.waiting().noted.len());
        if !moment.is_zero() {
            tokio::time::sleep(moment).await;
        }
    }

    /// Why nothing can be shown to anybody, if so.
    pub(crate) fn refuses(&self) -> Option<&'static str> {
        if self.shared.failed.load(Ordering::Relaxed) {
            return Some(
                "who is shown what cannot be written down: look at the disk of `data`, then start the gateway again",
            );
        }
        if self.shared.has_refused() {
            return Some("who is shown what cannot be written down: look at the room on the disk of `data`");
        }
        let is_full = self.shared.waiting().is_full();
        is_full.then_some("the database takes no accesses: too many wait for it to show anything more")
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

    /// Leaves no trace of what was written.
    pub(crate) async fn scrub(&self) -> Result<(), Failure> {
        let scrubbed = self.ask(Request::Scrub).await.ok_or_else(closed)?;
        scrubbed.map_err(|why| Failure::ours("the log of accesses could not be cleaned", why))
    }

    /// Closes the log.
    pub(crate) async fn close(&self) {
        // None means that it is closed already.
        let _closed = self.ask(Request::Close).await;
    }

    /// Requests of our own wait for their place in the queue instead of failing. None when the log is closed.
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

    /// The first that wait, as many as are looked at together; they wait on until they are [`Accesses::done`].
    fn first(&self) -> First {
        let waiting = self.shared.waiting();
        let mut first = First::default();
        let mut bytes = 0;
        for noted in waiting.noted.iter().take(ROUND_LEN_MAX) {
            bytes += noted.access.new.row.bytes.len();
            if !first.accesses.is_empty() && bytes > ROUND_BYTES_MAX {
                break;
            }
            first.unsure |= noted.unsure;
            first.numbers.push(noted.number);
            first.accesses.push(Arc::clone(&noted.access));
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

/// What is brought to the database in one round.
#[derive(Default)]
struct First {
    accesses: Vec<Arc<Access>>,
    /// Theirs, which rise and need not follow each other.
    numbers: Vec<i64>,
    unsure: bool,
}

impl First {
    fn last(&self) -> i64 {
        self.numbers.last().copied().unwrap_or_default()
    }
}

/// How long who reads for this purpose waits where so many accesses do.
fn moment(purpose: Purpose, waiting: usize) -> Duration {
    if purpose.is_a(Purpose::EmergencyTreat) {
        return Duration::ZERO;
    }
    CROWD_WAIT * u32::try_from(waiting / CROWD).unwrap_or(u32::MAX)
}

fn closed() -> Failure {
    Failure::Ours("the log of accesses is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{log::Line, *};
    use crate::sample;
    use record::{Id16, OrgId, RecordTag, sha256};
    use rusqlite::Connection;

    fn access(n: u8) -> Access {
        let org: OrgId = "mercy".parse().unwrap();
        let id = format!("event-{n}");
        let bytes = format!(r#"{{"resourceType":"AuditEvent","id":"{id}","action":"R"}}"#).into_bytes();
        let entry = sample::access(&org, Id16([n; 16]), RecordTag(sha256(&[&[n]])).of_audit(&org), &bytes);
        Access::read(id, Some("p".to_owned()), sha256(&[b"salt", &[n]]), &entry.to_bytes(), bytes).unwrap()
    }

    #[tokio::test]
    async fn what_was_noted_is_there_after_a_crash_as_it_was_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let accesses = Accesses::open(folder.path()).unwrap();
        accesses.note(vec![access(1), access(2)]).await.unwrap();
        accesses.note(vec![access(3)]).await.unwrap();
        assert_eq!(accesses.waiting(), 3);
        let First { accesses: first, numbers, unsure } = accesses.first();
        assert_eq!((first.len(), numbers.as_slice(), unsure), (3, &[1, 2, 3][..], false));
        accesses.close().await;

        let again = Accesses::open(folder.path()).unwrap();
        let First { accesses: left, unsure, .. } = again.first();
        assert!(unsure, "they may be in the database");
        for (before, after) in first.iter().zip(&left) {
            assert_eq!((&before.new.row, &before.new.index), (&after.new.row, &after.new.index));
            assert_eq!((&before.entry.id, &before.entry.bytes), (&after.entry.id, &after.entry.bytes));
        }
        again.done(3);
        again.scrub().await.unwrap();
        again.close().await;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap().path();
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(7).any(|window| window == b"event-2"), "{}", file.display());
        }
        assert_eq!(Accesses::open(folder.path()).unwrap().waiting(), 0);
    }

    #[tokio::test]
    async fn what_a_failed_sync_leaves_unsure_is_shown_to_nobody_and_the_gateway_says_why_until_it_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = keeper::open(folder.path()).unwrap();
        opened.log.break_with("/dev/null");
        let accesses = Accesses::over(opened).unwrap();
        assert_eq!(accesses.refuses(), None);
        for _ in 0..2 {
            assert!(matches!(accesses.note(vec![access(1)]).await, Err(Failure::Ours(_))));
            // The keeper answers before it says so to others.
            accesses.scrub().await.unwrap_err();
            assert!(accesses.refuses().unwrap().contains("start the gateway again"));
        }
        assert_eq!(accesses.waiting(), 0);
        accesses.close().await;
        let again = Accesses::open(folder.path()).unwrap();
        assert_eq!(again.refuses(), None);
        again.note(vec![access(1)]).await.unwrap();
    }

    #[tokio::test]
    async fn where_the_disk_takes_no_accesses_the_gateway_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = keeper::open(folder.path()).unwrap();
        opened.log.break_with("/dev/full");
        let accesses = Accesses::over(opened).unwrap();
        assert!(matches!(accesses.note(vec![access(1)]).await, Err(Failure::Ours(_))));
        assert!(accesses.refuses().unwrap().contains("look at the room on the disk"));
        accesses.shared.note_whether(true, Instant::now());
        assert_eq!(accesses.refuses(), None);
    }

    #[tokio::test]
    async fn a_log_that_is_too_long_is_cut_off_while_nobody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = keeper::open(folder.path()).unwrap();
        let large = Line { bytes: vec![7; 40 << 20].into(), ..Line::of(1, &access(1)) };
        opened.log.append(&[large]).unwrap();
        opened.last = 1;
        let path = folder.path().join("accesses-0.log");
        assert!(path.metadata().unwrap().len() > 40 << 20);
        let accesses = Accesses::over(opened).unwrap();
        accesses.done(1);
        // A request comes in between.
        accesses.note(vec![access(2)]).await.unwrap();
        let begin = Instant::now();
        while path.metadata().unwrap().len() > 4 << 20 {
            assert!(begin.elapsed() < Duration::from_secs(60), "it stays as long as it is");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        accesses.close().await;
        assert_eq!(Accesses::open(folder.path()).unwrap().waiting(), 1);
    }

    #[tokio::test]
    async fn where_too_many_accesses_wait_nothing_more_is_shown_and_the_gateway_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let accesses = Accesses::open(folder.path()).unwrap();
        accesses.note(vec![access(1)]).await.unwrap();
        accesses.shared.waiting().bytes += WAITING_BYTES_MAX;
        assert!(accesses.refuses().unwrap().contains("too many wait"));
        assert!(matches!(accesses.note(vec![access(2)]).await, Err(Failure::Busy)));
        accesses.shared.waiting().bytes -= WAITING_BYTES_MAX;
        assert_eq!(accesses.refuses(), None);
        accesses.note(vec![access(2)]).await.unwrap();
    }

    #[test]
    fn who_reads_waits_a_moment_where_many_accesses_wait_and_the_longer_the_more_there_are() {
        let moment_of = |waiting| moment(Purpose::Treat, waiting);
        let waits = [0, 1, CROWD - 1, CROWD, 2 * CROWD - 1, 3 * CROWD].map(moment_of);
        assert_eq!(waits, [0, 0, 0, 1, 1, 3].map(|crowds| CROWD_WAIT * crowds));
        assert!(moment_of(WAITING_MAX) < WRITTEN_WAIT);
    }

    #[test]
    fn who_reads_in_an_emergency_waits_for_no_accesses_however_many_wait() {
        let waits = |purpose: &Purpose| !moment(*purpose, WAITING_MAX).is_zero();
        let (waiting, others): (Vec<Purpose>, Vec<Purpose>) = Purpose::ALL.iter().copied().partition(waits);
        assert_eq!(others, [Purpose::EmergencyTreat, Purpose::BreakGlass]);
        assert_eq!(waiting.len() + others.len(), Purpose::ALL.len());
    }

    fn rows(folder: &Path, table: &str) -> i64 {
        let file = Connection::open(folder.join("accesses.db")).unwrap();
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_set_aside_and_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = log::Log::open(folder.path()).unwrap();
        let line = |number: u8| log::Line::of(i64::from(number), &access(number));
        let unreadable = |number| log::Line { entry: vec![0].into(), ..line(number) };
        log.append(&[unreadable(1), line(2), unreadable(3)]).unwrap();
        drop(log);
        let accesses = Accesses::open(folder.path()).unwrap();
        accesses.note(vec![access(4)]).await.unwrap();
        let first = accesses.first();
        let (left, last) = (&first.accesses, first.last());
        assert_eq!(left.iter().map(|left| left.new.row.id.as_str()).collect::<Vec<_>>(), ["event-2", "event-4"]);
        // Of those that can be read one is refused for ever.
        accesses.ask(|answer| Request::SetAside(2, answer)).await.unwrap();
        accesses.done(last);
        accesses.scrub().await.unwrap();
        accesses.close().await;
        assert_eq!(rows(folder.path(), "aside"), 3);
        let again = Accesses::open(folder.path()).unwrap();
        assert_eq!(again.waiting(), 0);
        again.close().await;
    }

    #[tokio::test]
    async fn what_waited_before_there_was_a_log_is_moved_into_it() {
        let folder = tempfile::tempdir().unwrap();
        Accesses::open(folder.path()).unwrap().close().await;
        let file = Connection::open(folder.path().join("accesses.db")).unwrap();
        let log::Line { id, patient, salt, entry, bytes, .. } = log::Line::of(7, &access(7));
        let sql = "INSERT INTO access (number, id, patient, salt, entry, bytes) VALUES (7, ?1, ?2, ?3, ?4, ?5)";
        file.execute(sql, rusqlite::params![id, patient, salt.as_ref(), entry.as_slice(), bytes.as_slice()]).unwrap();
        drop(file);
        let log::Line { id, patient, salt, entry, bytes, .. } = log::Line::of(7, &access(7));
        let again = rusqlite::params![id, patient, salt.as_ref(), entry.as_slice(), bytes.as_slice()];
        for start in ["the first", "the next", "after one that was stopped before it had moved them"] {
            if start.starts_with("after") {
                Connection::open(folder.path().join("accesses.db")).unwrap().execute(sql, again).unwrap();
            }
            let accesses = Accesses::open(folder.path()).unwrap();
            let First { accesses: left, numbers, .. } = accesses.first();
            assert_eq!((numbers, rows(folder.path(), "access")), (vec![1], 0), "{start}");
            assert_eq!(left[0].new.row.id, "event-7");
            accesses.close().await;
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_what_was_noted_hurries_it_and_waits_for_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let accesses = Accesses::open(folder.path()).unwrap();
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
