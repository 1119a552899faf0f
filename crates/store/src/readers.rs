//! Reading: a pool of connections on threads of their own, and every question that may be asked.

use crate::{
    address::Address,
    int64::clamp,
    postgres,
    row::{EntryPlace, FiledFrame, Frame, FramePlace, Malformed, Row, Rows, Submission, Trace, VersionKey, WrappedKey},
    search::{BadSearch, PAGE_MAX, Page, Search},
    sqlite,
    store::OpenError,
};
use record::{Digest, Id16, OrgId, TimeMs};
use rusqlite::Connection;
use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};
use tokio::sync::oneshot;

/// The most reads that may wait.
pub(crate) const READ_QUEUE_LEN_MAX: usize = 4_096;
/// The most current records of one patient that are given as one set.
pub(crate) const PATIENT_RECORDS_MAX: usize = 200_000;
/// The most audit events that are given as those of one entry, as many as the ledger allows.
pub const GATHERED_ROWS_MAX: usize = 1_024;
/// Bytes of an audit event that is given as one of several of an entry.
pub const GATHERED_BYTES_MAX: usize = 1 << 20;

/// Rows on a page, as a database is told.
pub(crate) fn limit(wanted: usize) -> i64 {
    i64::try_from(wanted.min(PAGE_MAX)).unwrap_or_default()
}

/// Why a read was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too many reads are waiting: the caller should try again a little later.
    #[error("too many reads are waiting; try again")]
    Busy,
    /// The database server cannot be reached: the caller should try again a little later.
    #[error("the database server cannot be reached; try again")]
    Unavailable,
    /// The readers have stopped.
    #[error("the store answers no more reads")]
    Stopped,
    /// The search cannot be answered.
    #[error(transparent)]
    Search(#[from] BadSearch),
    /// The row is there, but not in the form that this program writes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The answer has more rows than are given at once.
    #[error("the answer has more than {max} rows")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The database failed.
    #[error("the database cannot be read: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// A step of a sweep over all versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// The step's rows, in order of arrival.
    pub found: Rows,
    /// Where the next step begins; none when the sweep has reached the end.
    pub next: Option<u64>,
    /// Place of the last row seen, for a sweep that goes on later.
    pub last: u64,
}

/// Which frames are looked for: those measured from `from` until before `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameQuery {
    /// Whose.
    pub of: FrameFilter,
    /// First time of measurement.
    pub from: TimeMs,
    /// First time of measurement that is too late.
    pub to: TimeMs,
    /// Whether the latest come first.
    pub newest_first: bool,
    /// Where the page before ended.
    pub after: Option<FrameCursor>,
    /// Frames on the page, at most [`crate::PAGE_MAX`].
    pub limit: usize,
}

/// Whose frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameFilter {
    /// Of the Patient with this logical id.
    Patient(String),
    /// Of the Patient with this logical id, those of some kinds.
    Kinds(String, Kinds),
    /// Of this device.
    Device(String),
}

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// A frame has one of these bits at least.
    pub any: i64,
    /// Those with one of these bits are looked for in a range of time that is wider...
    pub wide: i64,
    /// ... by so many milliseconds at both ends.
    pub wider_ms: u64,
}

impl FrameQuery {
    /// All frames of a patient or device, the oldest first: a first page of [`PAGE_MAX`].
    pub fn of(of: FrameFilter) -> Self {
        Self { of, from: TimeMs(0), to: TimeMs(u64::MAX), newest_first: false, after: None, limit: PAGE_MAX }
    }

    /// The range of time in which frames of a kind are looked for, from the first to before the last; none when they are not. What the
    /// page before has passed is no part of it, so that the index is entered where this page begins.
    pub(crate) fn range_of(&self, kind: i64) -> Option<(i64, i64)> {
        let wider_ms = match &self.of {
            FrameFilter::Kinds(_, kinds) if kind & kinds.any == 0 => return None,
            FrameFilter::Kinds(_, kinds) if kind & kinds.wide != 0 => kinds.wider_ms,
            _ => 0,
        };
        let (from, to) = (clamp(self.from.0.saturating_sub(wider_ms)), clamp(self.to.0.saturating_add(wider_ms)));
        let begin = self.begin().measured_at;
        Some(if self.newest_first { (from, to.min(begin.saturating_add(1))) } else { (from.max(begin), to) })
    }

    /// Where the page begins, exclusively.
    pub(crate) fn begin(&self) -> FrameCursor {
        let (measured_at, fid) = if self.newest_first { (i64::MAX, i64::MAX) } else { (i64::MIN, i64::MIN) };
        self.after.unwrap_or(FrameCursor { measured_at, fid })
    }
}

/// Where a page of frames ended; the earlier before the later. Its text form may be given to outside callers and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameCursor {
    pub(crate) measured_at: i64,
    pub(crate) fid: i64,
}

impl FrameCursor {
    /// The time of measurement there, in milliseconds since 1970.
    pub fn measured_at(&self) -> i64 {
        self.measured_at
    }

    /// Where a page ended of which the frame that ends here is the next one.
    pub fn just_before(self, newest_first: bool) -> Self {
        let fid = if newest_first { self.fid.saturating_add(1) } else { self.fid.saturating_sub(1) };
        Self { fid, ..self }
    }
}

impl fmt::Display for FrameCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.measured_at, self.fid)
    }
}

impl FromStr for FrameCursor {
    type Err = BadSearch;
    fn from_str(text: &str) -> Result<Self, BadSearch> {
        let (measured_at, fid) = text.split_once('_').ok_or(BadSearch::Cursor)?;
        match (measured_at.parse(), fid.parse()) {
            (Ok(measured_at), Ok(fid)) => Ok(Self { measured_at, fid }),
            _ => Err(BadSearch::Cursor),
        }
    }
}

/// Frames in order of measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FramePage {
    /// The page's frames.
    pub frames: Vec<Frame>,
    /// Where the page would end after each of them, in their order.
    pub ends: Vec<FrameCursor>,
    /// Rows among them that are not in the form that this program writes.
    pub malformed: usize,
    /// Where the next page begins; none on the last.
    pub next: Option<FrameCursor>,
}

impl FramePage {
    /// Adds what the row at a place reads as.
    pub(crate) fn push(&mut self, frame: Result<Frame, &'static str>, place: FrameCursor) {
        match frame {
            Ok(frame) => {
                self.frames.push(frame);
                self.ends.push(place);
            }
            Err(_) => self.malformed += 1,
        }
        self.next = Some(place);
    }
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Reads from the database. Clones share the connections; the last one to go closes them.
#[derive(Clone)]
pub struct Reader {
    source: Source,
}

/// What is read from: connections on threads of their own, or those to a server.
#[derive(Clone)]
enum Source {
    Sqlite(Threads),
    Postgres(postgres::Pool),
}

#[derive(Clone)]
struct Threads(SyncSender<Job>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// Asks the function of that name, whichever the database is.
macro_rules! ask {
    ($reader:expr, $function:ident($($argument:expr),*)) => {
        match &$reader.source {
            Source::Sqlite(threads) => threads.ask(move |db| sqlite::$function(db $(, $argument)*)).await,
            Source::Postgres(pool) => pool.ask(move |db| async move { postgres::$function(&db $(, $argument)*).await }).await,
        }
    };
}

impl Reader {
    /// Opens an existing database for reading only, such as a backup that nobody trusts.
    pub fn open(database: &Address, readers: usize) -> Result<Self, OpenError> {
        match database {
            Address::File(file) => {
                sqlite::check_format(file)?;
                Self::on_file(file, readers)
            }
            Address::Server(address) => {
                let server = postgres::Server::new(address, postgres::Trust::Caller)?;
                postgres::check_format(&server)?;
                Ok(Self::on_server(server, readers))
            }
        }
    }

    pub(crate) fn on_server(server: postgres::Server, readers: usize) -> Self {
        Self { source: Source::Postgres(postgres::Pool::new(server, readers)) }
    }

    pub(crate) fn on_file(file: &Path, readers: usize) -> Result<Self, OpenError> {
        let (jobs, received) = sync_channel::<Job>(READ_QUEUE_LEN_MAX);
        let received = Arc::new(Mutex::new(received));
        for number in 0..readers.max(1) {
            let connection = sqlite::open_reader(file)?;
            let received = Arc::clone(&received);
            thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&connection, &received))
                .map_err(|error| OpenError::Thread(error.to_string()))?;
        }
        Ok(Self { source: Source::Sqlite(Threads(jobs)) })
    }

    /// The current version of a record, a deletion included; none if there never was one.
    pub async fn read(&self, rtype: &str, id: &str) -> Result<Option<Row>, ReadError> {
        let (rtype, id) = (rtype.to_owned(), id.to_owned());
        ask!(self, read(&rtype, &id))
    }

    /// The same, with all current versions of some types, deletions included, of the patient that it is about: what is decided over a record
    /// is asked in one question.
    pub async fn read_beside(&self, rtype: &str, id: &str, types: &[&str]) -> Result<(Option<Row>, Rows), ReadError> {
        let (rtype, id) = (rtype.to_owned(), id.to_owned());
        let types: Vec<String> = types.iter().map(|rtype| (*rtype).to_owned()).collect();
        ask!(self, read_beside(&rtype, &id, &types))
    }

    /// One version of a record.
    pub async fn vread(&self, key: VersionKey) -> Result<Option<Row>, ReadError> {
        ask!(self, vread(&key))
    }

    /// The audit events that say that one entry commits to them, in the order in which they were written: at most [`GATHERED_ROWS_MAX`],
    /// none of more than [`GATHERED_BYTES_MAX`] bytes.
    pub async fn gathered(&self, entry: Id16) -> Result<Rows, ReadError> {
        ask!(self, gathered(entry))
    }

    /// Versions of a record below `before`, newest first, at most `limit` and [`crate::PAGE_MAX`].
    pub async fn history(&self, rtype: &str, id: &str, before: Option<u64>, limit: usize) -> Result<Rows, ReadError> {
        let (rtype, id) = (rtype.to_owned(), id.to_owned());
        ask!(self, history(&rtype, &id, before, limit))
    }

    /// Current records that meet all criteria.
    pub async fn search(&self, search: Search) -> Result<Page, ReadError> {
        ask!(self, search(&search))
    }

    /// All current versions of one patient, deletions included, for verification as a set. No types means all types.
    pub async fn patient_records(&self, patient: &str, types: &[&str]) -> Result<Rows, ReadError> {
        let patient = patient.to_owned();
        let types: Vec<String> = types.iter().map(|rtype| (*rtype).to_owned()).collect();
        ask!(self, patient_records(&patient, &types))
    }

    /// All versions of all records that arrived after place `after` (0 is the beginning), in order of arrival.
    pub async fn rows(&self, after: u64, limit: usize) -> Result<Sweep, ReadError> {
        ask!(self, sweep(after, limit))
    }

    /// How many current records of each type there are, deleted ones not counted.
    pub async fn counts(&self) -> Result<Vec<(String, u64)>, ReadError> {
        ask!(self, counts())
    }

    /// Frames of a patient or device in order of measurement.
    pub async fn frames(&self, query: FrameQuery) -> Result<FramePage, ReadError> {
        ask!(self, frames(&query))
    }

    /// Counters of a device's frames from `first` to `last` and the digests that they are filed under, in order, at most `limit`.
    pub async fn frame_digests(
        &self,
        device: &str,
        first: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Digest)>, ReadError> {
        let device = device.to_owned();
        ask!(self, frame_digests(&device, first, last, limit))
    }

    /// Where all frames stand, in the order of devices and counters, behind `after`, at most `limit` and [`crate::PAGE_MAX`].
    pub async fn frame_places(&self, after: Option<FramePlace>, limit: usize) -> Result<Vec<FramePlace>, ReadError> {
        ask!(self, frame_places(after.as_ref(), limit))
    }

    /// The frames that are filed under a device and its counters from `first` to `last`, in order, whatever their columns hold, at most
    /// `limit` and [`crate::PAGE_MAX`]. Under `first` itself only those in a place behind `after`.
    pub async fn filed_frames(
        &self,
        device: &str,
        (first, after): (u64, Option<i64>),
        last: u64,
        limit: usize,
    ) -> Result<Vec<FiledFrame>, ReadError> {
        let device = device.to_owned();
        ask!(self, filed_frames(&device, (first, after), last, limit))
    }

    /// The frame in a place, whatever its columns hold.
    pub async fn filed_frame(&self, place: i64) -> Result<Option<FiledFrame>, ReadError> {
        ask!(self, filed_frame(place))
    }

    /// The frame of a device that is filed under the highest counter.
    pub async fn last_frame(&self, device: &str) -> Result<Option<Frame>, ReadError> {
        let device = device.to_owned();
        ask!(self, last_frame(&device))
    }

    /// The frame that was filed under this digest.
    pub async fn frame(&self, digest: Digest) -> Result<Option<Frame>, ReadError> {
        ask!(self, frame(&digest))
    }

    /// What stays of the frame that was let go with this digest.
    pub async fn trace(&self, digest: Digest) -> Result<Option<Trace>, ReadError> {
        ask!(self, trace(&digest))
    }

    /// Counters of a binding's frames from `first` to `last` that were let go, with their digests, in order, at most `limit`.
    pub async fn traces(
        &self,
        binding: Id16,
        first: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Digest)>, ReadError> {
        ask!(self, traces(&binding, first, last, limit))
    }

    /// The attachment that was filed under this digest; whether it has it, the caller checks.
    pub async fn attachment(&self, digest: Digest) -> Result<Option<Vec<u8>>, ReadError> {
        ask!(self, attachment(&digest))
    }

    /// All copies of a patient's key.
    pub async fn wrapped_keys(&self, patient: &str) -> Result<Vec<WrappedKey>, ReadError> {
        let patient = patient.to_owned();
        ask!(self, wrapped_keys(&patient))
    }

    /// Where an entry stands.
    pub async fn entry(&self, id: Id16) -> Result<Option<EntryPlace>, ReadError> {
        ask!(self, entry(&id))
    }

    /// Submissions of a lane whose last entry is at `seq` or above, in order, at most `limit` and [`crate::PAGE_MAX`].
    /// Rows that are not in our form are left out: nobody could submit them.
    pub async fn submissions_since(
        &self,
        org: &OrgId,
        lane: u32,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<Submission>, ReadError> {
        let org = org.clone();
        ask!(self, submissions_since(&org, lane, seq, limit))
    }

    /// Every lane that has submissions, with the last sequence number filed in it.
    pub async fn lanes(&self) -> Result<Vec<(OrgId, u32, u64)>, ReadError> {
        ask!(self, lanes())
    }
}

impl Threads {
    async fn ask<T, F>(&self, question: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |connection: &Connection| {
            if !answer.is_closed() {
                // An error means that the caller has stopped waiting.
                let _gone = answer.send(question(connection));
            }
        });
        self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ReadError::Busy,
            TrySendError::Disconnected(_) => ReadError::Stopped,
        })?;
        answered.await.map_err(|_| ReadError::Stopped)?
    }
}

fn serve(connection: &Connection, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, not while reading.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(connection),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one of the databases each page went through all frames that the pages before had shown.
    #[test]
    fn a_page_of_frames_is_looked_for_from_where_the_page_before_ended() {
        let kinds = Kinds { any: 3, wide: 2, wider_ms: 50 };
        let check = |newest_first, after: Option<i64>, near: (i64, i64), wide: (i64, i64)| {
            let after = after.map(|measured_at| FrameCursor { measured_at, fid: 7 });
            let of = FrameFilter::Kinds("p".into(), kinds);
            let range = FrameQuery { from: TimeMs(100), to: TimeMs(200), newest_first, after, ..FrameQuery::of(of) };
            assert_eq!((range.range_of(1), range.range_of(2), range.range_of(4)), (Some(near), Some(wide), None));
        };
        check(false, None, (100, 200), (50, 250));
        check(true, None, (100, 200), (50, 250));
        check(false, Some(150), (150, 200), (150, 250));
        check(true, Some(150), (100, 151), (50, 151));
        check(false, Some(70), (100, 200), (70, 250));
        check(true, Some(230), (100, 200), (50, 231));
    }
}
