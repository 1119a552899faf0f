//! Opening, writing, closing.

use crate::{
    address::Address,
    journal::{Journal, JournalError, Outcome},
    postgres,
    put::{Committed, PUT_BYTES_MAX, Put, PutError, RECORD_BYTES_MAX},
    readers::{ReadError, Reader},
    seal::{Kept, Seal},
    sqlite,
    writer::{self, Database, QUEUE_BYTES_MAX, QUEUE_LEN_MAX, Request},
};
use record::{Digest, OrgId};
use std::{
    collections::BTreeMap,
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database, which several processes may share.
    pub database: Address,
    /// The journal: a file in a folder of this gateway alone, on a disk of its own if possible.
    pub journal: PathBuf,
    /// The organisation that this gateway writes for.
    pub org: OrgId,
    /// Connections that read at the same time, at least one.
    pub readers: usize,
    /// What each thread that writes calls first, such as to give itself another priority than those that read have.
    pub before_writing: fn(),
}

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database cannot be used.
    #[error("the database cannot be opened: {0}")]
    Database(String),
    /// The file is a database of something else, or of a later version of this program.
    #[error("the database has format {found}, expected {expected}")]
    Format {
        /// Application id and format version of the file.
        found: String,
        /// Those of this program.
        expected: String,
    },
    /// The operating system gave no thread.
    #[error("no thread could be started: {0}")]
    Thread(String),
}

/// The end of one of the organisation's own lanes as this gateway's journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneEnd {
    /// The lane.
    pub lane: u32,
    /// The last sequence number that is committed or known to be final.
    pub last_seq: u64,
}

/// A store whose past is settled, before the first write.
#[derive(Debug)]
pub struct Opened {
    /// Committed submissions that are not known to be final: the caller submits them to the ledger, in this order.
    pub kept: Vec<Kept>,
    /// Where the lanes of the journal end; sequence numbers of new entries are above.
    pub lanes: Vec<LaneEnd>,
    config: Config,
    server: Option<postgres::Server>,
    writer: Database,
    journal: Journal,
}

/// The store of one gateway. Clones share it; all methods may be called from any task. Reads are methods of [`Reader`].
#[derive(Debug, Clone)]
pub struct Store {
    reader: Reader,
    queue: Queue,
}

/// Writes on their way to the writer thread.
#[derive(Debug, Clone)]
struct Queue {
    requests: SyncSender<Request>,
    bytes: Arc<AtomicUsize>,
}

impl Store {
    /// Opens database and journal, and decides what became of the writes that were under way when the process ended.
    ///
    /// Blocks while it reads: call it before serving. A torn end of the journal is cut off; damage in its middle is an error.
    pub fn open(config: Config) -> Result<Opened, OpenError> {
        let (mut journal, mut pending) = Journal::recover(&config.journal)?;
        let (mut writer, server) = match &config.database {
            Address::File(file) => (Database::Sqlite(sqlite::Writer::open(file, config.before_writing)?), None),
            Address::Server(address) => {
                let server = postgres::Server::new(address, postgres::Trust::Operator)?;
                let writer = postgres::Writer::open(server.clone(), config.org.clone())?;
                (Database::Postgres(Box::new(writer)), Some(server))
            }
        };
        let undecided: Vec<_> = pending.iter().filter(|one| one.outcome.is_none()).collect();
        if !undecided.is_empty() {
            let submissions: Vec<_> = undecided.iter().map(|one| &one.submission).collect();
            let held =
                writer.decide(&config.org, &submissions).map_err(|error| OpenError::Database(error.to_string()))?;
            // The submissions of a group are committed together, so each speaks for all.
            let groups: BTreeMap<u64, bool> = undecided.iter().map(|one| one.group).zip(held).collect();
            for (group, held) in &groups {
                journal.mark(*group, if *held { Outcome::Committed } else { Outcome::Aborted })?;
            }
            for one in pending.iter_mut().filter(|one| one.outcome.is_none()) {
                let held = groups.get(&one.group).copied().unwrap_or_default();
                one.outcome = Some(if held { Outcome::Committed } else { Outcome::Aborted });
            }
        }
        let committed = pending.into_iter().filter(|one| one.outcome == Some(Outcome::Committed));
        let kept: Vec<Kept> = committed.map(|one| one.submission).collect();
        journal.keep(&kept);
        journal.sync()?;
        let lanes = journal.lanes();
        Ok(Opened { kept, lanes, config, server, writer, journal })
    }

    /// Writes all of `put` or nothing. Answers when it is durable.
    ///
    /// A caller that stops waiting does not undo the write.
    pub async fn put(&self, put: Put) -> Result<Committed, PutError> {
        let bytes = size(&put)?;
        let (answer, answered) = oneshot::channel();
        let queued = self.queue.bytes.fetch_add(bytes, Ordering::AcqRel);
        let sent = if queued.saturating_add(bytes) > QUEUE_BYTES_MAX {
            Err(PutError::Busy)
        } else {
            let request = Request::Put { put: Box::new(put), bytes, answer };
            self.queue.requests.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => PutError::Busy,
                TrySendError::Disconnected(_) => PutError::Stopped,
            })
        };
        if let Err(error) = sent {
            self.queue.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(error);
        }
        answered.await.unwrap_or(Err(PutError::Stopped))
    }

    /// Entries of `lane` up to `up_to_seq` are final on the ledger: the journal need not keep them.
    pub async fn settle(&self, lane: u32, up_to_seq: u64) -> Result<(), PutError> {
        self.control(|answer| Request::Settle { lane, up_to_seq, answer }).await?
    }

    /// Erases a patient: every version whose Patient it is with its search values, frames, wrapped keys, and `attachments`; one
    /// transaction. Tells how many rows that were.
    ///
    /// In an SQLite file the bytes are overwritten, not only unlinked: in the database file at once, in the write-ahead log by emptying it.
    /// On a PostgreSQL server the rows are deleted and the tables vacuumed; when old bytes are overwritten there, and how long its
    /// write-ahead log keeps them, whoever runs the server decides. Submissions and the journal stay; they hold ledger entries and no
    /// record. Backups are out of reach.
    ///
    /// The whole table of versions is read for rows that are current no more, so other writes wait for a moment.
    pub async fn erase(&self, patient: &str, attachments: &[Digest]) -> Result<u64, PutError> {
        let (patient, attachments) = (patient.to_owned(), attachments.to_vec());
        self.control(|answer| Request::Erase { patient, attachments, answer }).await?
    }

    /// Gathers statistics for the query planner. Worth it after bulk loads; writes wait meanwhile.
    pub async fn optimize(&self) -> Result<(), PutError> {
        self.control(|answer| Request::Optimize { answer }).await?
    }

    /// Finishes the writes that are queued, then closes journal and database. Later writes get [`PutError::Stopped`].
    pub async fn close(&self) {
        // An error means that the writer has stopped already.
        let _stopped = self.control(|answer| Request::Close { answer }).await;
    }

    /// The reading half alone.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Requests of our own wait for their place in the queue instead of failing.
    async fn control<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, PutError> {
        const RETRY: Duration = Duration::from_millis(1);
        let (answer, answered) = oneshot::channel();
        let mut request = request(answer);
        loop {
            match self.queue.requests.try_send(request) {
                Ok(()) => return answered.await.map_err(|_| PutError::Stopped),
                Err(TrySendError::Disconnected(_)) => return Err(PutError::Stopped),
                Err(TrySendError::Full(back)) => request = back,
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A store reads as its reader does.
impl Deref for Store {
    type Target = Reader;
    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Opened {
    /// Starts the writer with the caller's signing half, and the readers.
    pub fn start(self, seal: Box<dyn Seal>) -> Result<Store, OpenError> {
        let reader = self.reading(self.config.readers)?;
        let (requests, received) = sync_channel(QUEUE_LEN_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let Config { org, before_writing, .. } = self.config;
        writer::start(self.writer, self.journal, seal, org, received, Arc::clone(&bytes), before_writing)?;
        Ok(Store { reader, queue: Queue { requests, bytes } })
    }

    /// Reads before the first write, such as the organisation's own submissions: `submissions_since` and the like.
    pub fn reader(&self) -> Result<Reader, OpenError> {
        self.reading(1)
    }

    fn reading(&self, readers: usize) -> Result<Reader, OpenError> {
        match (&self.config.database, &self.server) {
            (_, Some(server)) => Ok(Reader::on_server(server.clone(), readers)),
            (Address::File(file), None) => Reader::on_file(file, readers),
            (Address::Server(_), None) => Err(OpenError::Database("no server".into())),
        }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        Self::Database(error.to_string())
    }
}

/// Bytes that the put holds in memory, roughly; refuses what exceeds a bound.
fn size(put: &Put) -> Result<usize, PutError> {
    const ROW_BYTES: usize = 256;
    let records = put.records.iter().map(|new| new.row.bytes.len() + ROW_BYTES * (1 + new.index.len()));
    let entries = put.entries.iter().map(|entry| entry.bytes.len() + ROW_BYTES);
    let frames = put.frames.iter().map(|frame| frame.bytes.len() + ROW_BYTES);
    let attachments = put.attachments.iter().map(|attachment| attachment.bytes.len() + ROW_BYTES);
    let keys = put.wrapped_keys.iter().map(|key| key.bytes.len() + ROW_BYTES);
    let parts: Vec<usize> = records.chain(entries).chain(frames).chain(attachments).chain(keys).collect();
    if let Some(&bytes) = parts.iter().find(|&&bytes| bytes > RECORD_BYTES_MAX) {
        return Err(PutError::TooLarge { bytes, max: RECORD_BYTES_MAX });
    }
    let bytes = parts.iter().fold(ROW_BYTES, |sum, part| sum.saturating_add(*part));
    if bytes > PUT_BYTES_MAX { Err(PutError::TooLarge { bytes, max: PUT_BYTES_MAX }) } else { Ok(bytes) }
}
