//! The writer thread: many puts, one commit.
//!
//! ```text
//! begin ─► insert puts, each or nothing of it ─► seal their entries ─► journal append, fsync ─► commit (fsync) ─► marker ─► answers
//!                 │ conflict: that put alone fails     └── any failure before the commit: rollback, numbers taken back ──► errors
//! ```
//!
//! SQLite takes the puts one by one as they come. For PostgreSQL those that wait are gathered first and inserted together. A server
//! that goes away in a commit leaves it in *doubt*: the writer asks what became of it, and writes nothing else before it knows.

use crate::{
    fault::{Step, reached},
    journal::{Journal, Outcome},
    postgres::{self, CommitError},
    put::{Committed, NewEntry, Put, PutError},
    row::EntryPlace,
    seal::{Seal, SealError, SealedSubmission},
    sqlite,
    store::OpenError,
};
use record::{Digest, OrgId};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The most requests that may wait.
pub const QUEUE_LEN_MAX: usize = 1_024;
/// The most bytes that waiting requests may hold.
pub const QUEUE_BYTES_MAX: usize = 256 << 20;
/// The most puts that are committed together.
pub const GROUP_PUTS_MAX: usize = 512;
/// The most bytes that are committed together, unless one put alone has more.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// No put joins a group that has held the database for longer, so that other processes get their turn.
pub const GROUP_MS_MAX: u64 = 10;
/// How long the callers of a group whose commit was not confirmed wait for the server to say what became of it. Then they hear that it is
/// not known, and later groups are refused until it is.
pub const DOUBT_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often the server is asked after that, while nothing is to be written.
const DOUBT_POLL: Duration = Duration::from_millis(500);

/// Where a put is answered.
type Answer = oneshot::Sender<Result<Committed, PutError>>;

/// What the writer is asked for.
pub(crate) enum Request {
    Put { put: Box<Put>, bytes: usize, answer: Answer },
    Settle { lane: u32, up_to_seq: u64, answer: oneshot::Sender<Result<(), PutError>> },
    Erase { patient: String, attachments: Vec<Digest>, answer: oneshot::Sender<Result<u64, PutError>> },
    Optimize { answer: oneshot::Sender<Result<(), PutError>> },
    Close { answer: oneshot::Sender<()> },
}

/// The database that is written to.
pub(crate) enum Database {
    Sqlite(sqlite::Writer),
    Postgres(Box<postgres::Writer>),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite",
            Self::Postgres(_) => "Postgres",
        })
    }
}

impl Database {
    /// Which of the submissions it has, decided for good.
    pub(crate) fn decide(&mut self, org: &OrgId, submissions: &[&SealedSubmission]) -> Result<Vec<bool>, PutError> {
        match self {
            Self::Sqlite(db) => db.decide(org, submissions),
            Self::Postgres(db) => db.decide(org, submissions),
        }
    }

    /// Begins a transaction, or sees to it that one can be begun.
    fn begin(&mut self) -> Result<(), PutError> {
        match self {
            Self::Sqlite(db) => db.begin(),
            Self::Postgres(db) => db.ready(),
        }
    }

    fn submissions(
        &mut self,
        org: &OrgId,
        sealed: &[SealedSubmission],
        entries: &[EntryPlace],
    ) -> Result<(), PutError> {
        match self {
            Self::Sqlite(db) => db.submissions(org, sealed, entries),
            Self::Postgres(db) => db.submissions(org, sealed, entries),
        }
    }

    fn rollback(&mut self) {
        match self {
            Self::Sqlite(db) => db.rollback(),
            Self::Postgres(db) => db.rollback(),
        }
    }

    fn optimize(&mut self) -> Result<(), PutError> {
        match self {
            Self::Sqlite(db) => Ok(db.optimize()?),
            Self::Postgres(db) => db.optimize(),
        }
    }

    /// Erases a patient's rows in a transaction of their own. The journal has no part in it: what it holds are ledger entries.
    fn erase(&mut self, patient: &str, attachments: &[Digest]) -> Result<u64, PutError> {
        let db = match self {
            Self::Postgres(db) => return db.erase(patient, attachments),
            Self::Sqlite(db) => db,
        };
        db.begin()?;
        let erased = db.erase(patient, attachments).and_then(|rows| {
            db.commit()?;
            Ok(rows)
        });
        match erased {
            Ok(_) => db.overwrite_log(),
            Err(_) => db.rollback(),
        }
        erased
    }

    fn commit(&mut self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(db) => db.commit().map_err(|error| {
                tracing::error!(%error, "commit failed");
                Failure::Disk(PutError::InDoubt)
            }),
            Self::Postgres(db) => match db.commit() {
                Ok(()) => Ok(()),
                Err(CommitError::Undone(error)) => Err(Failure::Undone(error)),
                Err(CommitError::Unknown { number }) => Self::decided(number, db.verdict(number, DOUBT_WAIT_MAX)),
            },
        }
    }

    /// What became of the commit of this number, which was in doubt.
    fn verdict(&mut self, number: i64) -> Result<(), Failure> {
        match self {
            // A failure of the disk ends the writer.
            Self::Sqlite(_) => Err(Failure::Disk(PutError::InDoubt)),
            Self::Postgres(db) => Self::decided(number, db.verdict(number, Duration::ZERO)),
        }
    }

    fn decided(number: i64, committed: Option<bool>) -> Result<(), Failure> {
        if let Some(committed) = committed {
            tracing::warn!(committed, "what became of a commit that the database server did not confirm");
        }
        match committed {
            Some(true) => Ok(()),
            Some(false) => Err(Failure::Undone(PutError::Unavailable)),
            None => Err(Failure::Doubt { number }),
        }
    }
}

/// Starts the thread. It ends when it is asked to, when all senders are gone, or when the disk can no longer be relied on.
pub(crate) fn start(
    database: Database,
    journal: Journal,
    seal: Box<dyn Seal>,
    org: OrgId,
    requests: Receiver<Request>,
    queued_bytes: Arc<AtomicUsize>,
    before_writing: fn(),
) -> Result<(), OpenError> {
    let writer = Writer { database, journal, seal, org, requests, queued_bytes, doubt: None };
    thread::Builder::new()
        .name("store-write".into())
        .spawn(move || {
            before_writing();
            writer.run();
        })
        .map(|_| ())
        .map_err(|error| OpenError::Thread(error.to_string()))
}

struct Writer {
    database: Database,
    journal: Journal,
    seal: Box<dyn Seal>,
    org: OrgId,
    requests: Receiver<Request>,
    queued_bytes: Arc<AtomicUsize>,
    doubt: Option<Doubt>,
}

/// A group whose commit the server did not confirm.
struct Doubt {
    /// Its number in the journal, if it has entries.
    group: Option<u64>,
    sealed: Vec<SealedSubmission>,
    /// The number of its transaction.
    number: i64,
}

/// A put whose rows are inserted and which waits for the commit.
struct Waiting {
    entries: Vec<NewEntry>,
    answer: Answer,
}

/// The puts of a transaction that succeeded so far, and the request that ended its gathering.
#[derive(Default)]
struct Group {
    waiting: Vec<Waiting>,
    next: Option<Request>,
    broken: bool,
}

/// Why a group failed.
enum Failure {
    /// Nothing was written; later groups may succeed.
    Undone(PutError),
    /// The server does not say what became of the transaction of this number.
    Doubt { number: i64 },
    /// The disk did not do as it was told; what it holds is known after a restart only.
    Disk(PutError),
}

impl Writer {
    fn run(mut self) {
        let mut next = self.requests.recv().ok();
        while let Some(request) = next {
            let (following, goes_on) = match request {
                Request::Put { .. } => self.group(request),
                Request::Settle { lane, up_to_seq, answer } => {
                    let settled = self.journal.settle(lane, up_to_seq);
                    tell(answer, settled.map_err(|error| PutError::NotWritten(error.to_string())));
                    (None, true)
                }
                Request::Erase { patient, attachments, answer } => {
                    let erased = self.out_of_doubt().and_then(|()| self.database.erase(&patient, &attachments));
                    tell(answer, erased);
                    (None, true)
                }
                Request::Optimize { answer } => {
                    let done = self.out_of_doubt().and_then(|()| self.database.optimize());
                    tell(answer, done);
                    (None, true)
                }
                Request::Close { answer } => {
                    // The locks are free before the caller goes on.
                    drop(self);
                    tell(answer, ());
                    return;
                }
            };
            if !goes_on {
                tracing::error!("the writer stops: the disk can no longer be relied on");
                return;
            }
            next = following.or_else(|| self.receive());
        }
    }

    /// The next request. While a group is in doubt, the server is asked what became of it meanwhile: its entries wait for the ledger.
    fn receive(&mut self) -> Option<Request> {
        while self.doubt.is_some() {
            match self.requests.recv_timeout(DOUBT_POLL) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if self.out_of_doubt().is_err() {
                        tracing::debug!("a group is still in doubt");
                    }
                }
            }
        }
        self.requests.recv().ok()
    }

    /// Commits `first` and what waits behind it. Returns the request that did not fit in, and whether the writer may go on.
    fn group(&mut self, first: Request) -> (Option<Request>, bool) {
        if let Err(error) = self.out_of_doubt().and_then(|()| self.database.begin()) {
            self.refuse(first, &error);
            return (None, true);
        }
        let Group { waiting, next, broken } = self.gather(first);
        reached(Step::Inserted);
        let committed = if broken {
            Err(Failure::Undone(PutError::NotWritten("the transaction failed".into())))
        } else if waiting.is_empty() {
            self.database.rollback();
            Ok(Vec::new())
        } else {
            self.commit(&waiting)
        };
        let goes_on = !matches!(committed, Err(Failure::Disk(_)));
        match committed {
            Ok(places) => answer(waiting, places),
            Err(Failure::Undone(error) | Failure::Disk(error)) => {
                self.database.rollback();
                waiting.into_iter().for_each(|waiting| tell(waiting.answer, Err(error.clone())));
            }
            Err(Failure::Doubt { .. }) => {
                waiting.into_iter().for_each(|waiting| tell(waiting.answer, Err(PutError::InDoubt)));
            }
        }
        (next, goes_on)
    }

    /// Decides a group that is in doubt, if there is one; an error if the server still does not say what became of it.
    fn out_of_doubt(&mut self) -> Result<(), PutError> {
        let Some(doubt) = self.doubt.take() else { return Ok(()) };
        match self.database.verdict(doubt.number) {
            Ok(()) => self.is_committed(doubt.group, &doubt.sealed),
            Err(Failure::Undone(_)) => self.is_undone(doubt.group),
            Err(Failure::Doubt { .. } | Failure::Disk(_)) => {
                self.doubt = Some(doubt);
                return Err(PutError::Unavailable);
            }
        }
        Ok(())
    }

    /// Inserts puts until the group is full or nothing waits. A put that fails is answered at once.
    fn gather(&mut self, first: Request) -> Group {
        let since = Instant::now();
        let mut group = Group::default();
        let mut together = Vec::new();
        let mut size = 0;
        let mut request = Some(first);
        while let Some(Request::Put { put, bytes, answer }) = request {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match &mut self.database {
                Database::Sqlite(db) => {
                    match db.insert(&put) {
                        Ok(()) => group.waiting.push(Waiting { entries: put.entries, answer }),
                        Err(error) => tell(answer, Err(error)),
                    }
                    // Some errors of the disk end the transaction and with it what was inserted before.
                    group.broken = db.is_broken();
                }
                Database::Postgres(_) => together.push((put, answer)),
            }
            size += bytes;
            let full = group.waiting.len() + together.len() >= GROUP_PUTS_MAX
                || size >= GROUP_BYTES_MAX
                || since.elapsed() >= Duration::from_millis(GROUP_MS_MAX);
            request = if full || group.broken { None } else { self.requests.try_recv().ok() };
        }
        group.next = request;
        if let Database::Postgres(db) = &mut self.database {
            insert_together(db, together, &mut group);
        }
        group
    }

    /// Seals, journals and commits what was inserted. Returns where the entries stand, in order.
    fn commit(&mut self, waiting: &[Waiting]) -> Result<Vec<EntryPlace>, Failure> {
        let entries: Vec<&NewEntry> = waiting.iter().flat_map(|waiting| &waiting.entries).collect();
        if entries.is_empty() {
            self.finish(None, Vec::new())?;
            return Ok(Vec::new());
        }
        let bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.bytes.clone()).collect();
        let sealed = self.seal.seal(&bytes).map_err(|error| Failure::Undone(error.into()))?;
        reached(Step::Sealed);
        let filed = places(&self.org, &sealed, &entries)
            .and_then(|places| self.database.submissions(&self.org, &sealed, &places).map(|()| places));
        let places = match filed {
            Ok(places) => places,
            Err(error) => return Err(self.abort(error)),
        };
        let group = match self.journal.append(&sealed) {
            Ok(group) => group,
            Err(error) => return Err(self.abort(PutError::NotWritten(error.to_string()))),
        };
        reached(Step::Appended);
        if let Err(error) = self.journal.sync() {
            self.seal.abort();
            return Err(Failure::Disk(PutError::NotWritten(error.to_string())));
        }
        reached(Step::Synced);
        self.finish(Some(group), sealed)?;
        Ok(places)
    }

    /// Commits the transaction, which wrote what the journal has as this group, and says to journal and seal what became of it.
    fn finish(&mut self, group: Option<u64>, sealed: Vec<SealedSubmission>) -> Result<(), Failure> {
        let committed = self.database.commit();
        match &committed {
            Ok(()) => self.is_committed(group, &sealed),
            Err(Failure::Undone(_)) => self.is_undone(group),
            Err(Failure::Doubt { number }) => self.doubt = Some(Doubt { group, sealed, number: *number }),
            Err(Failure::Disk(_)) => {}
        }
        committed
    }

    fn is_committed(&mut self, group: Option<u64>, sealed: &[SealedSubmission]) {
        reached(Step::Committed);
        let Some(group) = group else { return };
        if let Err(error) = self.journal.mark(group, Outcome::Committed) {
            // The database has the submissions, which is what the next opening looks for.
            tracing::warn!(%error, "no commit marker in the journal");
        }
        self.journal.keep(sealed);
        reached(Step::Marked);
        self.seal.committed(sealed);
    }

    fn is_undone(&mut self, group: Option<u64>) {
        let Some(group) = group else { return };
        if let Err(error) = self.journal.mark(group, Outcome::Aborted) {
            // The database has not the submissions, which is what the next opening looks for.
            tracing::warn!(%error, "no marker of a group that was undone in the journal");
        }
        self.seal.abort();
    }

    /// Takes back what was sealed; nothing of it is in the journal.
    fn abort(&mut self, error: PutError) -> Failure {
        self.database.rollback();
        self.seal.abort();
        Failure::Undone(error)
    }

    fn refuse(&self, request: Request, error: &PutError) {
        if let Request::Put { bytes, answer, .. } = request {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            tell(answer, Err(error.clone()));
        }
    }
}

/// Inserts the puts that were gathered. One that fails is answered at once.
fn insert_together(db: &mut postgres::Writer, together: Vec<(Box<Put>, Answer)>, group: &mut Group) {
    let puts: Vec<&Put> = together.iter().map(|(put, _)| &**put).collect();
    match db.insert(&puts) {
        Ok(inserted) => {
            for ((put, answer), inserted) in together.into_iter().zip(inserted) {
                match inserted {
                    Ok(()) => group.waiting.push(Waiting { entries: put.entries, answer }),
                    Err(error) => tell(answer, Err(error)),
                }
            }
        }
        Err(error) => together.into_iter().for_each(|(_, answer)| tell(answer, Err(error.clone()))),
    }
}

/// Where each entry stands, if the submissions carry all entries in order.
fn places(org: &OrgId, sealed: &[SealedSubmission], entries: &[&NewEntry]) -> Result<Vec<EntryPlace>, PutError> {
    let numbers = sealed.iter().flat_map(|submission| {
        (0..u64::from(submission.count)).map(|i| (submission.lane, submission.first_seq.checked_add(i)))
    });
    // One more than wanted shows that there are too many.
    let numbers: Vec<_> = numbers.take(entries.len() + 1).collect();
    if numbers.len() != entries.len() {
        return Err(SealError("the submissions do not carry each entry once".into()).into());
    }
    let place = |((lane, seq), entry): ((u32, Option<u64>), &&NewEntry)| {
        let seq = seq.ok_or(PutError::Invalid("a sequence number that is too large"))?;
        Ok(EntryPlace { id: entry.id, org: org.clone(), lane, seq, record: entry.record.clone() })
    };
    numbers.into_iter().zip(entries).map(place).collect()
}

fn answer(waiting: Vec<Waiting>, places: Vec<EntryPlace>) {
    let mut places = places.into_iter();
    for Waiting { entries, answer } in waiting {
        let entries = places.by_ref().take(entries.len()).collect();
        tell(answer, Ok(Committed { entries }));
    }
}

/// Answers; a caller that has gone does not need it.
fn tell<T>(answer: oneshot::Sender<T>, value: T) {
    let _gone = answer.send(value);
}
