//! The journal: this gateway's own copy of every signed submission that the ledger may not have yet.
//!
//! It lies in the gateway's private folder, apart from the database, which is not trusted to be the only keeper. A group of
//! submissions is appended and synced before the database commits; a marker after the commit says what became of the group. A marker
//! is not synced by itself: where it is missing, the database is asked.
//!
//! ```text
//! file    = "vitaltrace-jrn/1" (16 bytes), then records
//! record  = length   4 bytes, little-endian: bytes of `body`, 1 ..= RECORD_BYTES_MAX
//!           check    4 bytes, little-endian: CRC-32 (IEEE) of the four bytes of `length` and of `body`
//!           body     1 byte kind, then, all numbers little-endian:
//!   kind 1  submission   group u64 · lane u32 · first_seq u64 · count u32 · the signed bytes
//!   kind 2  committed    group u64
//!   kind 3  aborted      group u64
//!   kind 4  settled      lane u32 · up_to_seq u64    (final on the ledger up to there)
//! ```
//!
//! Zeros may follow: room that was made for later records, so that the sync of an append need not sync the file's length.
//!
//! At opening, records are read until one is not whole. If a whole commit marker stands anywhere behind that place, bytes that were
//! synced have changed, and the journal is [`JournalError::Corrupt`]; otherwise the end was torn by a crash and is cut off.
//! Once most of the file is settled it is written anew beside the old one, synced, and renamed over it.

use crate::seal::{Kept, SealedSubmission};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::store::LaneEnd;

const HEADER: &[u8; 16] = b"vitaltrace-jrn/1";
const RECORD_HEADER_BYTES: usize = 8;
/// The longest body of a record.
const RECORD_BYTES_MAX: usize = 256 << 20;
/// Zeros that are written behind the records where they have no room left.
const ROOM_BYTES: usize = 512 << 10;
/// A smaller file is not worth writing anew.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

const SUBMISSION: u8 = 1;
const COMMITTED: u8 = 2;
const ABORTED: u8 = 3;
const SETTLED: u8 = 4;

/// Why the journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another process, or another store of this one, has it open.
    #[error("the journal is in use by another process")]
    InUse,
    /// The file is no journal.
    #[error("the file is no journal of this program")]
    NotAJournal,
    /// Bytes in its middle have changed.
    #[error("the journal is damaged at byte {offset}")]
    Corrupt {
        /// Where the first damaged record begins.
        offset: u64,
    },
    /// One submission is longer than a record may be.
    #[error("a submission of {bytes} bytes is too long for the journal")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The disk failed; the journal takes nothing more until it is opened again.
    #[error("the journal cannot be written or read: {0}")]
    Disk(String),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
}

/// A submission found at opening that is not settled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) group: u64,
    pub(crate) submission: SealedSubmission,
    /// None: the process ended before it could tell.
    pub(crate) outcome: Option<Outcome>,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of the file that are whole records.
    len: u64,
    /// Bytes of the file: records, then zeros.
    size: u64,
    /// Whether there was no space for zeros; not tried again before the file is written anew.
    is_crowded: bool,
    next_group: u64,
    /// Whether a sync failed, after which nothing is known about the file.
    failed: bool,
    settled: BTreeMap<u32, u64>,
    /// Committed submissions that are not settled: last sequence number and bytes, per lane in order.
    live: BTreeMap<u32, VecDeque<(u64, u64)>>,
    /// Held as long as the journal is open.
    _lock: Lock,
}

/// The sole use of a journal, ended when dropped.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(path: &Path) -> Result<Self, JournalError> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    /// Closing alone would not end it: a process that was just forked from this one has the file open too, until it runs its program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the journal could not be given back");
        }
    }
}

impl Journal {
    /// Opens or makes the journal and reads what is not settled, in order of writing.
    pub(crate) fn recover(path: &Path) -> Result<(Self, Vec<Pending>), JournalError> {
        let lock = Lock::take(&beside(path, ".lock"))?;
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.len() < HEADER.len() && HEADER.starts_with(&bytes) {
            // New, or the process ended while it was made.
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(HEADER)?;
            file.sync_all()?;
            sync_folder(path)?;
            bytes = HEADER.to_vec();
        }
        let content = read(&bytes)?;
        if content.len < bytes.len() {
            let behind = &bytes[content.len..];
            if behind.iter().any(|byte| *byte != 0) {
                tracing::warn!(at = content.len, cut = behind.len(), "torn end of the journal cut off");
            }
            file.set_len(content.len as u64)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::End(0))?;
        let journal = Self {
            path: path.to_owned(),
            file,
            len: content.len as u64,
            size: content.len as u64,
            is_crowded: false,
            next_group: content.next_group,
            failed: false,
            settled: content.settled,
            live: BTreeMap::new(),
            _lock: lock,
        };
        Ok((journal, content.pending))
    }

    /// Appends a group. It counts only after [`Journal::sync`].
    pub(crate) fn append(&mut self, sealed: &[SealedSubmission]) -> Result<u64, JournalError> {
        let group = self.next_group;
        let mut out = Vec::new();
        for submission in sealed {
            submission_record(&mut out, group, submission)?;
        }
        self.make_room(self.len + out.len() as u64);
        self.write(&out)?;
        self.next_group += 1;
        Ok(group)
    }

    /// Waits until the disk has everything appended.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        self.file.sync_data().inspect_err(|_| self.failed = true)?;
        Ok(())
    }

    /// Writes down what became of a group.
    pub(crate) fn mark(&mut self, group: u64, outcome: Outcome) -> Result<(), JournalError> {
        let mut out = Vec::new();
        marker(&mut out, group, outcome);
        self.write(&out)
    }

    /// Counts committed submissions as alive until they are settled.
    pub(crate) fn keep(&mut self, committed: &[SealedSubmission]) {
        for submission in committed {
            let bytes = (submission.bytes.len() + 64) as u64;
            self.live.entry(submission.lane).or_default().push_back((submission.last_seq(), bytes));
        }
    }

    /// Entries of the lane up to `up_to_seq` are final.
    pub(crate) fn settle(&mut self, lane: u32, up_to_seq: u64) -> Result<(), JournalError> {
        let settled = self.settled.entry(lane).or_default();
        if up_to_seq <= *settled {
            return Ok(());
        }
        *settled = up_to_seq;
        if let Some(live) = self.live.get_mut(&lane) {
            live.retain(|(last_seq, _)| *last_seq > up_to_seq);
        }
        let mut out = Vec::new();
        settled_record(&mut out, lane, up_to_seq);
        self.write(&out)?;
        let live: u64 = self.live.values().flatten().map(|(_, bytes)| bytes).sum();
        if self.len > COMPACT_BYTES_MIN
            && live < self.len / 2
            && let Err(error) = self.compact()
        {
            tracing::warn!(%error, "the journal could not be written anew");
        }
        self.check()
    }

    /// Where each lane ends.
    pub(crate) fn lanes(&self) -> Vec<LaneEnd> {
        let mut ends = self.settled.clone();
        for (lane, live) in &self.live {
            let last = live.iter().map(|(last_seq, _)| *last_seq).max().unwrap_or_default();
            let end = ends.entry(*lane).or_default();
            *end = last.max(*end);
        }
        ends.into_iter().map(|(lane, last_seq)| LaneEnd { lane, last_seq }).collect()
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.failed { Err(JournalError::Disk("an earlier write failed".into())) } else { Ok(()) }
    }

    /// Appends whole records, or leaves the file as it was.
    fn write(&mut self, records: &[u8]) -> Result<(), JournalError> {
        self.check()?;
        let end = self.len + records.len() as u64;
        if let Err(error) = self.file.write_all(records) {
            let undone = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
            self.failed = undone.is_err();
            self.size = self.len;
            return Err(error.into());
        }
        self.len = end;
        self.size = self.size.max(end);
        Ok(())
    }

    /// Writes zeros behind records that end at `end`, unless there is room for them. A file system syncs the length of a file through a
    /// journal of its own, and with it what everybody else has written; what is only overwritten it syncs alone.
    fn make_room(&mut self, end: u64) {
        if end <= self.size || self.is_crowded || self.failed {
            return;
        }
        match self.file.write_all_at(&vec![0; ROOM_BYTES], end) {
            Ok(()) => self.size = end + ROOM_BYTES as u64,
            Err(error) => {
                tracing::warn!(%error, "the journal has no room ahead of its records: the disk is nearly full");
                self.is_crowded = true;
                self.cut();
            }
        }
    }

    /// Cuts off what follows the records.
    fn cut(&mut self) {
        match self.file.set_len(self.len) {
            Ok(()) => self.size = self.len,
            Err(error) => {
                tracing::warn!(%error, "zeros stay at the end of the journal, to be cut off when it is opened")
            }
        }
    }

    /// Writes what is alive into a new file and puts it in the place of the old one.
    ///
    /// Runs between groups, so every group in the file has its outcome.
    fn compact(&mut self) -> Result<(), JournalError> {
        let bytes = fs::read(&self.path)?;
        let content = read(&bytes)?;
        let mut out = HEADER.to_vec();
        for (lane, up_to_seq) in &self.settled {
            settled_record(&mut out, *lane, *up_to_seq);
        }
        let mut pending = content.pending.iter().peekable();
        while let Some(one) = pending.next() {
            if one.outcome == Some(Outcome::Aborted) {
                continue;
            }
            submission_record(&mut out, one.group, &one.submission)?;
            let last_of_group = pending.peek().is_none_or(|next| next.group != one.group);
            if let (true, Some(outcome)) = (last_of_group, one.outcome) {
                marker(&mut out, one.group, outcome);
            }
        }
        let anew = beside(&self.path, ".new");
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&anew)?;
        file.write_all(&out)?;
        file.sync_all()?;
        fs::rename(&anew, &self.path)?;
        self.file = file;
        (self.len, self.size, self.is_crowded) = (out.len() as u64, out.len() as u64, false);
        // Until the folder is synced, a power loss may bring back the old file, which would lack what is written from now on.
        sync_folder(&self.path).inspect_err(|_| self.failed = true)?;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.size > self.len && !self.failed {
            self.cut();
        }
    }
}

/// What a journal says.
#[derive(Default)]
struct Content {
    pending: Vec<Pending>,
    settled: BTreeMap<u32, u64>,
    next_group: u64,
    /// Bytes that are whole records.
    len: usize,
}

fn read(bytes: &[u8]) -> Result<Content, JournalError> {
    if !bytes.starts_with(HEADER) {
        return Err(JournalError::NotAJournal);
    }
    let mut content = Content { len: HEADER.len(), next_group: 1, ..Content::default() };
    let mut outcomes = BTreeMap::new();
    while let Some((body, after)) = record(bytes, content.len) {
        let understood = match parse(body) {
            Some(Record::Submission(group, submission)) => {
                content.pending.push(Pending { group, submission, outcome: None });
                content.next_group = content.next_group.max(group.saturating_add(1));
                true
            }
            Some(Record::Marker(group, outcome)) => {
                outcomes.insert(group, outcome);
                true
            }
            Some(Record::Settled(lane, up_to_seq)) => {
                let settled = content.settled.entry(lane).or_default();
                *settled = up_to_seq.max(*settled);
                true
            }
            None => false,
        };
        if !understood {
            // Its check holds, so it was written like this, by a later version of the format or by nobody of ours.
            return Err(JournalError::Corrupt { offset: content.len as u64 });
        }
        content.len = after;
    }
    if (content.len + 1..bytes.len()).any(|at| is_commit_marker(bytes, at)) {
        return Err(JournalError::Corrupt { offset: content.len as u64 });
    }
    for pending in &mut content.pending {
        pending.outcome = outcomes.get(&pending.group).copied();
    }
    let settled = &content.settled;
    content.pending.retain(|pending| {
        let submission = &pending.submission;
        settled.get(&submission.lane).is_none_or(|up_to_seq| submission.last_seq() > *up_to_seq)
    });
    Ok(content)
}

/// The body of the record at `at` and where the next one begins, if it is whole.
fn record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let header = bytes.get(at..at.checked_add(RECORD_HEADER_BYTES)?)?;
    let (length, check) = header.split_first_chunk::<4>()?;
    let body_len = u32::from_le_bytes(*length) as usize;
    let body_at = at + RECORD_HEADER_BYTES;
    let after = body_at.checked_add(body_len).filter(|_| (1..=RECORD_BYTES_MAX).contains(&body_len))?;
    let body = bytes.get(body_at..after)?;
    (checksum(*length, body).to_le_bytes() == check).then_some((body, after))
}

fn is_commit_marker(bytes: &[u8], at: usize) -> bool {
    const BODY_BYTES: [u8; 4] = 9_u32.to_le_bytes();
    // The length is looked at first, so that no check is computed over long stretches of the file.
    bytes.get(at..).is_some_and(|rest| rest.starts_with(&BODY_BYTES))
        && record(bytes, at).and_then(|(body, _)| body.first()) == Some(&COMMITTED)
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

enum Record {
    Submission(u64, SealedSubmission),
    Marker(u64, Outcome),
    Settled(u32, u64),
}

fn parse(body: &[u8]) -> Option<Record> {
    let (&kind, mut rest) = body.split_first()?;
    let number_u64 = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u64::from_le_bytes(*number))
    };
    let number_u32 = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u32::from_le_bytes(*number))
    };
    match kind {
        SUBMISSION => {
            let group = number_u64(&mut rest)?;
            let (lane, first_seq, count) = (number_u32(&mut rest)?, number_u64(&mut rest)?, number_u32(&mut rest)?);
            Some(Record::Submission(group, SealedSubmission { lane, first_seq, count, bytes: rest.to_vec() }))
        }
        COMMITTED | ABORTED => {
            let group = number_u64(&mut rest)?;
            let outcome = if kind == COMMITTED { Outcome::Committed } else { Outcome::Aborted };
            rest.is_empty().then_some(Record::Marker(group, outcome))
        }
        SETTLED => {
            let (lane, up_to_seq) = (number_u32(&mut rest)?, number_u64(&mut rest)?);
            rest.is_empty().then_some(Record::Settled(lane, up_to_seq))
        }
        _ => None,
    }
}

fn submission_record(out: &mut Vec<u8>, group: u64, submission: &Kept) -> Result<(), JournalError> {
    let bytes = submission.bytes.len();
    let mut body = Vec::with_capacity(25 + bytes);
    body.push(SUBMISSION);
    body.extend_from_slice(&group.to_le_bytes());
    body.extend_from_slice(&submission.lane.to_le_bytes());
    body.extend_from_slice(&submission.first_seq.to_le_bytes());
    body.extend_from_slice(&submission.count.to_le_bytes());
    body.extend_from_slice(&submission.bytes);
    if body.len() > RECORD_BYTES_MAX {
        return Err(JournalError::TooLong { bytes });
    }
    push(out, &body);
    Ok(())
}

fn marker(out: &mut Vec<u8>, group: u64, outcome: Outcome) {
    let kind = if outcome == Outcome::Committed { COMMITTED } else { ABORTED };
    push(out, &[&[kind][..], &group.to_le_bytes()].concat());
}

fn settled_record(out: &mut Vec<u8>, lane: u32, up_to_seq: u64) {
    push(out, &[&[SETTLED][..], &lane.to_le_bytes(), &up_to_seq.to_le_bytes()].concat());
}

/// Appends a record; its body is at most [`RECORD_BYTES_MAX`] long.
fn push(out: &mut Vec<u8>, body: &[u8]) {
    let length = (body.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, body).to_le_bytes());
    out.extend_from_slice(body);
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
