//! The log of accesses: two files that are filled in turn, appended to and synced once for all who wait, and overwritten with zeros.
//!
//! ```text
//! file   = "vitaltrace-acc/1" (16 bytes) · mark · check of the mark, then groups, then zeros; or zeros alone
//! mark   = 16 random bytes, of this filling of the file
//! check  = 4 bytes, little-endian: CRC-32 (IEEE)
//! group  = mark
//!          length  4 bytes, little-endian: bytes of `body`
//!          check of the four bytes of `length` and of `body`
//!          body    CBOR: the accesses that one sync made durable, see `Line`
//! ```
//!
//! A group is synced before the next is written, so a crash tears the last one at most, and nobody was shown anything for it. Where a whole
//! group follows one that is not, or the access before another is missing between those that are there, bytes that were synced have changed.
//! What an earlier filling left has another mark and does not count.
//!
//! Once all accesses of a file are in the database it is filled with zeros, its first bytes before the others, and used again. One that grew
//! while the database was away is cut off piece by piece first, and may have another filling before the end of the earlier one. An access may
//! stand in both files for a moment, while one of them is cleared: it is the same, and has the same number. Whoever opens the log moves what
//! waits into a new filling and clears all else, whatever the end of an earlier process left.

use super::{Access, AccessesError};
use minicbor::{Decode, Encode, bytes::ByteVec};
use record::Digest;
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

const MAGIC: &[u8; 16] = b"vitaltrace-acc/1";
type Mark = [u8; 16];
const HEADER_BYTES: usize = 36;
/// Mark, length and check.
const GROUP_HEADER_BYTES: usize = 24;
/// A file that has more is left for the other one, as soon as that is empty.
const FILE_BYTES: u64 = 4 << 20;
/// A file that has no more is kept as room when it is cleared: some ten thousand accesses, which is more than wait for a database that keeps
/// up. A longer one is cut off.
const KEPT_BYTES: u64 = 32 << 20;
/// What is cut off a longer file at a time. Whoever reads waits for that, and not for all that waited for a database that was away.
pub(super) const CUT_BYTES: u64 = 1 << 20;
/// Zeros that are written behind the groups where they have no room left: the sync of a file whose length stays the same is cheaper.
const ROOM_BYTES: u64 = 1 << 20;
/// Accesses that are moved as one group.
const MOVED_TOGETHER: usize = 1_024;
/// The names of the files beside each other.
const NAMES: [&str; 2] = ["accesses-0.log", "accesses-1.log"];

/// An access as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Line {
    /// They rise.
    #[n(0)]
    pub(super) number: i64,
    /// Id of the audit event.
    #[n(1)]
    pub(super) id: String,
    #[n(2)]
    pub(super) patient: Option<String>,
    #[n(3)]
    pub(super) salt: Digest,
    /// The ledger entry that commits to it.
    #[n(4)]
    pub(super) entry: ByteVec,
    /// The audit event.
    #[n(5)]
    pub(super) bytes: ByteVec,
    /// Number of the access before it, or a lower one: those between were set aside.
    #[n(6)]
    pub(super) after: i64,
}

impl Line {
    pub(super) fn of(number: i64, access: &Access) -> Self {
        let row = &access.new.row;
        Self {
            number,
            id: row.id.clone(),
            patient: row.patient.clone(),
            salt: row.salt,
            entry: access.entry.bytes.clone().into(),
            bytes: row.bytes.clone().into(),
            after: number - 1,
        }
    }

    /// The access; none if it cannot be read.
    pub(super) fn read(&self) -> Option<Access> {
        Access::read(self.id.clone(), self.patient.clone(), self.salt, &self.entry, self.bytes.to_vec())
    }
}

/// One of the two.
struct Part {
    file: File,
    /// None while it is empty.
    mark: Option<Mark>,
    /// Bytes that are header and groups.
    len: u64,
    /// Bytes of the file.
    size: u64,
    /// From here on the disk has zeros.
    dirty_to: u64,
    /// Whether the file has zeros from `len` on, which the next sync brings to the disk.
    is_zeroed: bool,
    /// Whether it was cleared, and what was written lies in it still: it is cut off piece by piece.
    is_long: bool,
    /// The highest number in it.
    last: i64,
}

/// Both files, and which of them is appended to.
pub(super) struct Log {
    parts: [Part; 2],
    active: usize,
    /// Whether a sync failed, after which nothing is known about a file.
    failed: bool,
}

impl Log {
    /// Opens or makes the files in a folder, and reads what is in them, each access once and in order.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Line>), AccessesError> {
        let failed = |path: &Path, source| AccessesError::File { path: path.to_owned(), source };
        let mut lines = BTreeMap::<i64, Line>::new();
        let mut open = |which: usize| {
            let path = folder.join(NAMES[which]);
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let file = file.map_err(|source| failed(&path, source))?;
            let bytes = std::fs::read(&path).map_err(|source| failed(&path, source))?;
            let content = read(&bytes).map_err(|wrong| wrong.at(&path))?;
            // What is read may be in memory alone: an earlier sync failed, or nobody waited for one.
            let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_data());
            written.map_err(|source| failed(&path, source))?;
            let last = content.lines.iter().map(|line| line.number).max().unwrap_or_default();
            for line in content.lines {
                let after = line.after;
                let one = lines.entry(line.number).or_insert(line);
                one.after = one.after.min(after);
            }
            Ok::<_, AccessesError>(Part {
                file,
                mark: content.mark,
                len: content.len as u64,
                size: bytes.len() as u64,
                dirty_to: bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1),
                is_zeroed: false,
                is_long: false,
                last,
            })
        };
        let parts = [open(0)?, open(1)?];
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed(folder, source))?;
        let lines: Vec<Line> = lines.into_values().collect();
        // Accesses are forgotten in the order of their numbers, so those that are there follow each other.
        let gap = lines.array_windows().find(|[one, next]| next.after > one.number);
        if let Some([before, _]) = gap {
            let lacks = parts.iter().position(|part| part.last == before.number).unwrap_or_default();
            return Err(AccessesError::Damaged { path: folder.join(NAMES[lacks]), offset: parts[lacks].len });
        }
        let active = usize::from(parts[1].last > parts[0].last);
        let mut log = Self { parts, active, failed: false };
        log.move_out(&lines).map_err(|source| failed(folder, source))?;
        Ok((log, lines))
    }

    /// Appends accesses, whose numbers rise, as one group. It is on the disk when this returns.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        self.check()?;
        if lines.is_empty() {
            return Ok(());
        }
        let other = 1 - self.active;
        let is_free = self.parts[other].mark.is_none();
        if self.parts[self.active].len >= FILE_BYTES && is_free {
            self.active = other;
        }
        match self.parts[self.active].write(lines) {
            Ok(()) => self.sync(self.active),
            // An empty file has room of its own where the disk has none.
            Err(error) if is_free && self.active != other => {
                tracing::warn!(%error, "the other file of the log of accesses is begun");
                self.active = other;
                self.append_to(other, lines)
            }
            Err(error) => Err(error),
        }
    }

    fn append_to(&mut self, part: usize, lines: &[Line]) -> io::Result<()> {
        self.parts[part].write(lines)?;
        self.sync(part)
    }

    fn sync(&mut self, part: usize) -> io::Result<()> {
        let synced = &mut self.parts[part];
        if let Err(error) = synced.file.sync_data() {
            tracing::error!(%error, "the log of accesses cannot be relied on: nothing is shown until the gateway is started again");
            self.failed = true;
            return Err(error);
        }
        if std::mem::take(&mut synced.is_zeroed) {
            synced.dirty_to = synced.len;
        }
        Ok(())
    }

    /// All up to this number are in the database.
    pub(super) fn forget(&mut self, last: i64) -> io::Result<()> {
        self.check()?;
        for part in 0..self.parts.len() {
            if self.parts[part].mark.is_some() && self.parts[part].last <= last {
                self.clear(part)?;
            }
            // Also where it could not be overwritten the last time.
            let cleared = &mut self.parts[part];
            cleared.is_long |= cleared.mark.is_none() && cleared.dirty_to > 0 && !cleared.is_zeroed;
        }
        Ok(())
    }

    /// Leaves nothing on the disk but these, which wait for the database still.
    pub(super) fn scrub(&mut self, waiting: &[(i64, Arc<Access>)]) -> io::Result<()> {
        self.check()?;
        self.move_out(waiting)
    }

    /// Moves accesses, all that count and in order, into a new filling, and clears everything else.
    fn move_out<T: AsLine>(&mut self, waiting: &[T]) -> io::Result<()> {
        let other = 1 - self.active;
        if self.parts[other].mark.is_some() {
            let last = self.parts[other].last;
            let older = waiting.partition_point(|one| one.number() <= last);
            self.append_all(self.active, &waiting[..older])?;
        }
        self.clear_for_good(other)?;
        if self.parts[self.active].mark.is_some() {
            self.append_all(other, waiting)?;
            self.clear_for_good(self.active)?;
            self.active = other;
        } else {
            self.clear_for_good(self.active)?;
        }
        Ok(())
    }

    fn append_all<T: AsLine>(&mut self, part: usize, all: &[T]) -> io::Result<()> {
        let mut before = i64::MAX;
        all.chunks(MOVED_TOGETHER).try_for_each(|some| {
            let lines = some.iter().map(|one| {
                let line = one.line();
                let after = line.after.min(std::mem::replace(&mut before, line.number));
                Line { after, ..line }
            });
            let lines: Vec<Line> = lines.collect();
            self.append_to(part, &lines)
        })
    }

    /// Overwrites a file, unless it is longer than is kept. Without its first bytes nothing in it counts, whatever of the zeros is on the disk.
    fn clear(&mut self, part: usize) -> io::Result<()> {
        self.parts[part].file.write_all_at(&[0; HEADER_BYTES], 0)?;
        self.sync(part)?;
        let cleared = &mut self.parts[part];
        (cleared.mark, cleared.last, cleared.len) = (None, 0, 0);
        cleared.is_long = cleared.size > KEPT_BYTES;
        if cleared.is_long { Ok(()) } else { cleared.fill_with_zeros() }
    }

    /// Whether a file that was cleared is to be cut off.
    pub(super) fn is_long(&self) -> bool {
        !self.failed && self.parts.iter().any(|part| part.is_long)
    }

    /// Cuts off so many bytes at most of a file that is to be cut off, if one is. It may have been begun anew meanwhile.
    pub(super) fn shorten(&mut self, bytes: u64) -> io::Result<()> {
        match self.parts.iter().position(|part| part.is_long) {
            Some(part) if !self.failed => self.cut(part, bytes),
            _ => Ok(()),
        }
    }

    fn cut(&mut self, part: usize, bytes: u64) -> io::Result<()> {
        // When this fails it is tried again with the next accesses that are in the database.
        let cut = &mut self.parts[part];
        cut.is_long = false;
        let end = cut.size.saturating_sub(bytes).max(cut.len);
        if cut.dirty_to > end {
            zeros(&cut.file, end, cut.dirty_to)?;
            // What is cut off is not written to the disk any more.
            self.sync(part)?;
        }
        let cut = &mut self.parts[part];
        cut.file.set_len(end)?;
        (cut.size, cut.dirty_to) = (end, cut.dirty_to.min(end));
        cut.is_long = end > cut.len;
        Ok(())
    }

    /// The same, and the zeros are on the disk: also where the file is empty and some of them are not there for sure.
    fn clear_for_good(&mut self, part: usize) -> io::Result<()> {
        if self.parts[part].mark.is_none() && self.parts[part].dirty_to == 0 {
            return Ok(());
        }
        self.clear(part)?;
        if self.parts[part].is_long {
            self.cut(part, u64::MAX)?;
        }
        self.sync(part)
    }

    /// Whether a sync failed: it takes nothing more, until it is opened again.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Puts something in the place of its files: `/dev/null` takes all writes and cannot be synced, `/dev/full` takes none.
    #[cfg(test)]
    pub(super) fn break_with(&mut self, device: &str) {
        for part in &mut self.parts {
            part.file = File::options().write(true).open(device).unwrap();
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("an earlier sync of the log of accesses failed")) } else { Ok(()) }
    }
}

/// What stands in the log as a line.
pub(super) trait AsLine {
    fn number(&self) -> i64;
    fn line(&self) -> Line;
}

impl AsLine for Line {
    fn number(&self) -> i64 {
        self.number
    }

    fn line(&self) -> Line {
        self.clone()
    }
}

impl AsLine for (i64, Arc<Access>) {
    fn number(&self) -> i64 {
        self.0
    }

    fn line(&self) -> Line {
        Line::of(self.0, &self.1)
    }
}

impl Part {
    /// Overwrites all but the header of one that is empty. The next sync brings it to the disk.
    fn fill_with_zeros(&mut self) -> io::Result<()> {
        zeros(&self.file, HEADER_BYTES as u64, self.dirty_to)?;
        self.is_zeroed = true;
        Ok(())
    }

    /// Writes a group behind the others, the header before the first. When that fails the file counts as it was.
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut out = Vec::new();
        let mark = match self.mark {
            Some(mark) => mark,
            None => {
                let mut mark = [0; 16];
                getrandom::fill(&mut mark).map_err(io::Error::other)?;
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&mark);
                out.extend_from_slice(&crc32fast::hash(&mark).to_le_bytes());
                mark
            }
        };
        group(&mut out, &mark, lines)?;
        let end = self.len + out.len() as u64;
        self.dirty_to = self.dirty_to.max(end);
        if let Err(error) = self.file.write_all_at(&out, self.len) {
            // Where this fails as well, what was written of the group is torn when it is read, and cleared with the rest.
            self.is_zeroed &= zeros(&self.file, self.len, end).is_ok();
            // What does not exist cannot be overwritten, where the disk has no room for it.
            if let Ok(file) = self.file.metadata() {
                self.size = file.len();
                self.dirty_to = self.dirty_to.min(self.size);
            }
            return Err(error);
        }
        if end > self.size {
            // Room that there is no space for is none: the next append makes the file longer, as this one did.
            let room = zeros(&self.file, end, end + ROOM_BYTES);
            self.size = if room.is_ok() { end + ROOM_BYTES } else { end };
        }
        self.len = end;
        self.mark = Some(mark);
        self.last = lines.iter().map(|line| line.number).fold(self.last, i64::max);
        Ok(())
    }
}

fn zeros(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while from < to {
        let len = usize::try_from(to - from).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all_at(&ZEROS[..len], from)?;
        from += len as u64;
    }
    Ok(())
}

fn group(out: &mut Vec<u8>, mark: &Mark, lines: &[Line]) -> io::Result<()> {
    let body = minicbor::to_vec(lines).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    out.extend_from_slice(mark);
    out.extend_from_slice(&length);
    out.extend_from_slice(&check(&length, &body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

fn check(length: &[u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize()
}

/// What a file has.
#[derive(Default)]
struct Content {
    mark: Option<Mark>,
    len: usize,
    lines: Vec<Line>,
}

/// Why it cannot be read.
enum Wrong {
    NoLog,
    Damaged(usize),
}

impl Wrong {
    fn at(self, path: &Path) -> AccessesError {
        let path = path.to_owned();
        match self {
            Self::NoLog => AccessesError::NoLog { path },
            Self::Damaged(offset) => AccessesError::Damaged { path, offset: offset as u64 },
        }
    }
}

fn read(bytes: &[u8]) -> Result<Content, Wrong> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>().filter(|header| header.iter().any(|byte| *byte != 0)) else {
        // New, or cleared.
        return Ok(Content::default());
    };
    let (mark, stated) = header.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk::<16>).ok_or(Wrong::NoLog)?;
    if crc32fast::hash(mark).to_le_bytes() != stated {
        return Err(Wrong::Damaged(0));
    }
    let mut content = Content { mark: Some(*mark), len: HEADER_BYTES, ..Content::default() };
    while let Some((body, len)) = whole(&bytes[content.len..], mark) {
        let lines: Vec<Line> = minicbor::decode(body).map_err(|_| Wrong::Damaged(content.len))?;
        content.lines.extend(lines);
        content.len += len;
    }
    let rest = &bytes[content.len..];
    if (1..rest.len()).any(|at| rest[at..].starts_with(mark) && whole(&rest[at..], mark).is_some()) {
        return Err(Wrong::Damaged(content.len));
    }
    // What an earlier filling left may stand there as well.
    if rest.starts_with(mark) {
        tracing::warn!(at = content.len, "the end of the log of accesses is torn: nobody was shown anything for it");
    }
    Ok(content)
}

/// The body of the group that bytes begin with, and how long the group is; none if it is not whole.
fn whole<'a>(bytes: &'a [u8], mark: &Mark) -> Option<(&'a [u8], usize)> {
    let rest = bytes.strip_prefix(mark)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (stated, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (check(length, body) == u32::from_le_bytes(*stated)).then_some((body, GROUP_HEADER_BYTES + body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::sha256;
    use std::fs;

    fn line(number: i64) -> Line {
        Line {
            number,
            id: format!("event-{number}"),
            patient: (number % 2 == 0).then(|| "p".to_owned()),
            salt: sha256(&[&number.to_be_bytes()]),
            entry: vec![1, 2, 3].into(),
            bytes: format!("bytes of {number}").into_bytes().into(),
            after: number - 1,
        }
    }

    fn lines(numbers: std::ops::RangeInclusive<i64>) -> Vec<Line> {
        numbers.map(line).collect()
    }

    /// What whoever opens the log finds in it. That moves it.
    fn read_again(folder: &Path) -> Vec<Line> {
        Log::open(folder).unwrap().1
    }

    /// Bytes of both files, whatever is in them.
    fn holds(folder: &Path, text: &str) -> bool {
        let mut all = NAMES.iter().map(|name| fs::read(folder.join(name)).unwrap());
        all.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    #[test]
    fn what_was_appended_is_read_again_in_order_and_a_torn_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, none) = Log::open(folder.path()).unwrap();
        assert_eq!(none, []);
        log.append(&lines(1..=3)).unwrap();
        log.append(&lines(4..=4)).unwrap();
        let before = log.parts[0].len;
        log.append(&lines(5..=6)).unwrap();
        let after = log.parts[0].len;
        drop(log);
        let path = folder.path().join(NAMES[0]);
        let whole = fs::read(&path).unwrap();
        assert_eq!(read_again(folder.path()), lines(1..=6));
        for end in before..after {
            let end = usize::try_from(end).unwrap();
            let mut torn = whole.clone();
            torn[end] ^= 1;
            for torn in [torn.as_slice(), &whole[..end]] {
                fs::write(&path, torn).unwrap();
                fs::remove_file(folder.path().join(NAMES[1])).unwrap();
                assert_eq!(read_again(folder.path()), lines(1..=4), "byte {end}");
            }
        }
        // Whoever opens it goes on behind what was whole.
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&lines(5..=5)).unwrap();
        assert_eq!(read_again(folder.path()), lines(1..=5));
    }

    #[test]
    fn a_log_that_was_changed_before_its_end_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        for number in 1..=3 {
            log.append(&[line(number)]).unwrap();
        }
        let len = usize::try_from(log.parts[0].len).unwrap();
        let path = folder.path().join(NAMES[0]);
        let whole = fs::read(&path).unwrap();
        let group = (len - HEADER_BYTES) / 3;
        for at in 16..HEADER_BYTES + 2 * group {
            let mut changed = whole.clone();
            changed[at] ^= 0x80;
            fs::write(&path, changed).unwrap();
            let begins = at.checked_sub(HEADER_BYTES).map_or(0, |at| HEADER_BYTES + at / group * group);
            let opened = Log::open(folder.path()).map(|(_, lines)| lines);
            let damaged = matches!(opened, Err(AccessesError::Damaged { offset, .. }) if offset == begins as u64);
            assert!(damaged, "byte {at}: {:?}", opened.map(|lines| lines.len()).map_err(|error| error.to_string()));
        }
        fs::write(&path, "something else that is long enough for a header").unwrap();
        assert!(matches!(Log::open(folder.path()), Err(AccessesError::NoLog { .. })));
    }

    #[test]
    fn files_take_turns_and_one_whose_accesses_are_in_the_database_is_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        let large = |number| Line { bytes: vec![7; 1 << 20].into(), ..line(number) };
        let mut number = 0;
        while log.active == 0 {
            number += 1;
            log.append(&[large(number)]).unwrap();
        }
        log.append(&[large(number + 1)]).unwrap();
        log.forget(number - 1).unwrap();
        assert_eq!((log.parts[0].mark, log.parts[1].last), (None, number + 1), "all of the first file is written");
        assert!(fs::read(folder.path().join(NAMES[0])).unwrap().iter().all(|byte| *byte == 0));
        drop(log);
        let (mut log, kept) = Log::open(folder.path()).unwrap();
        assert_eq!(kept.iter().map(|line| line.number).collect::<Vec<_>>(), [number, number + 1]);
        log.forget(number + 1).unwrap();
        assert_eq!(read_again(folder.path()), []);
        assert!(NAMES.iter().all(|name| fs::read(folder.path().join(name)).unwrap().iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn a_scrub_leaves_what_waits_and_nothing_else_in_whichever_file_it_was() {
        for turns in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (mut log, _) = Log::open(folder.path()).unwrap();
            log.append(&lines(1..=10)).unwrap();
            if turns {
                log.active = 1;
                log.append(&lines(11..=20)).unwrap();
            }
            let waiting: Vec<Line> = if turns { lines(9..=20) } else { lines(9..=10) };
            log.move_out(&waiting).unwrap();
            assert!(!holds(folder.path(), "bytes of 8") && holds(folder.path(), "bytes of 9"), "in turns: {turns}");
            drop(log);
            let (mut log, left) = Log::open(folder.path()).unwrap();
            assert_eq!(left, waiting, "in turns: {turns}");
            log.append(&lines(21..=21)).unwrap();
            log.scrub(&[]).unwrap();
            drop(log);
            assert_eq!(read_again(folder.path()), []);
            assert!(!holds(folder.path(), "bytes of"), "in turns: {turns}");
        }
    }

    /// Of those that wait some may be set aside. What an erasure left of the others looked as if the log had lost them, and the gateway did not
    /// start any more.
    #[test]
    fn what_was_set_aside_is_no_gap_after_a_scrub() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&lines(1..=9)).unwrap();
        log.move_out(&[line(2), line(5), line(9)]).unwrap();
        log.append(&lines(10..=10)).unwrap();
        drop(log);
        for _start in ["the first", "the next"] {
            let left: Vec<(i64, i64)> =
                read_again(folder.path()).iter().map(|line| (line.number, line.after)).collect();
            assert_eq!(left, [(2, 1), (5, 2), (9, 5), (10, 9)]);
        }
    }

    /// A crash in the middle of clearing a file leaves some of the zeros: neither is that damage, nor are the accesses behind them new. An
    /// erasure after it has to find them all the same.
    #[test]
    fn what_an_earlier_filling_left_does_not_count_and_is_cleared_by_whoever_opens_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&lines(1..=2)).unwrap();
        log.append(&lines(3..=9)).unwrap();
        let path = folder.path().join(NAMES[0]);
        let filled = fs::read(&path).unwrap();
        log.forget(9).unwrap();
        log.append(&lines(10..=10)).unwrap();
        let (anew, end) = (fs::read(&path).unwrap(), usize::try_from(log.parts[0].len).unwrap());
        drop(log);
        let header_alone = [&[0; HEADER_BYTES], &filled[HEADER_BYTES..]].concat();
        let with_more = [&anew[..end], &filled[end..]].concat();
        for (left, expected) in [(header_alone, vec![]), (with_more, lines(10..=10))] {
            fs::write(&path, left).unwrap();
            fs::remove_file(folder.path().join(NAMES[1])).unwrap();
            assert_eq!(read_again(folder.path()), expected);
            assert!(!holds(folder.path(), "bytes of 9"));
            assert_eq!(read_again(folder.path()), expected);
        }
    }

    /// What is moved stands behind what is newer than it. The file's highest number was taken for that of its last line, and the file for one
    /// that has nothing but what is in the database.
    #[test]
    fn a_crash_while_what_waits_is_moved_loses_nothing_of_it() {
        for moved in 0..=2 {
            let folder = tempfile::tempdir().unwrap();
            let (mut log, _) = Log::open(folder.path()).unwrap();
            log.append(&lines(1..=10)).unwrap();
            log.active = 1;
            log.append(&lines(11..=20)).unwrap();
            if moved > 0 {
                log.append_to(1, &lines(5..=10)).unwrap();
                let bytes = fs::read(folder.path().join(NAMES[1])).unwrap();
                assert_eq!(read(&bytes).ok().unwrap().lines.last().unwrap().number, 10);
                assert_eq!(log.parts[1].last, 20);
            }
            if moved > 1 {
                log.clear_for_good(0).unwrap();
                log.append_to(0, &lines(5..=7)).unwrap();
                // The next part of it is torn.
                let end = log.parts[0].len;
                log.parts[0].file.write_all_at(&[1; 100], end).unwrap();
            }
            drop(log);
            let first = if moved > 1 { 5 } else { 1 };
            let (mut log, found) = Log::open(folder.path()).unwrap();
            assert_eq!(found, lines(first..=20), "moved {moved}");
            assert_eq!(log.parts.each_ref().map(|part| part.last).iter().max(), Some(&20));
            log.forget(10).unwrap();
            drop(log);
            let left = read_again(folder.path());
            assert!(left.ends_with(&lines(11..=20)), "moved {moved}");
        }
    }

    #[test]
    fn a_file_that_lacks_its_end_is_damaged_where_the_other_goes_on_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&lines(1..=3)).unwrap();
        let end = log.parts[0].len;
        log.append(&lines(4..=4)).unwrap();
        log.active = 1;
        log.append(&lines(5..=6)).unwrap();
        let path = folder.path().join(NAMES[0]);
        let (whole, at) = (fs::read(&path).unwrap(), usize::try_from(end).unwrap());
        let mut changed = whole.clone();
        changed[at + GROUP_HEADER_BYTES] ^= 1;
        let mut zeroed = whole.clone();
        zeroed[at..].fill(0);
        for left in [changed, zeroed, whole[..at].to_vec()] {
            fs::write(&path, left).unwrap();
            let opened = Log::open(folder.path()).map(|_| ());
            assert!(matches!(opened, Err(AccessesError::Damaged { offset, .. }) if offset == end));
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(read_again(folder.path()), lines(1..=6));
    }

    /// After a night without database a file had grown to what waited then, and every later access overwrote all of that with zeros.
    #[test]
    fn no_more_is_overwritten_than_was_written_since_the_last_time() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        let large = Line { bytes: vec![7; 11 << 20].into(), ..line(1) };
        log.append(&[large.clone(), Line { number: 2, ..large.clone() }, Line { number: 3, ..large }]).unwrap();
        log.forget(3).unwrap();
        while log.is_long() {
            log.shorten(CUT_BYTES).unwrap();
        }
        assert_eq!(log.parts[0].size, 0);
        log.append(&[line(4)]).unwrap();
        assert_eq!(log.parts[log.active].dirty_to, log.parts[log.active].len);
        assert!(log.parts[log.active].len < 1_000);
    }
    /// Accesses with the word `large` in each, that make a file longer than is kept; and the log that has them.
    fn long_log(folder: &Path) -> Log {
        let (mut log, _) = Log::open(folder).unwrap();
        let bytes = [b"large", [7; 9 << 20].as_slice()].concat();
        let all: Vec<Line> = (1..=5).map(|number| Line { bytes: bytes.clone().into(), ..line(number) }).collect();
        log.append(&all).unwrap();
        assert!(log.parts[0].size > KEPT_BYTES && holds(folder, "large"));
        log
    }

    /// All that had waited while the database was away was overwritten at one go, some hundred megabytes, and whoever read meanwhile waited.
    #[test]
    fn a_long_file_is_cut_off_piece_by_piece_and_nothing_is_left_of_what_it_had() {
        let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = long_log(folder.path());
        let size = log.parts[0].size;
        log.forget(5).unwrap();
        assert_eq!((log.is_long(), log.parts[0].size), (true, size), "nothing is overwritten at once");
        let mut cuts = 0;
        while log.is_long() {
            let before = log.parts[0].size;
            log.shorten(CUT_BYTES).unwrap();
            assert!(before - log.parts[0].size <= CUT_BYTES);
            cuts += 1;
            if cuts == 3 {
                // It is begun anew in between, and the process is killed.
                log.append(&lines(6..=7)).unwrap();
                assert_eq!((log.active, log.parts[0].mark.is_some()), (0, true));
                for name in NAMES {
                    fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
                }
            }
        }
        assert_eq!(cuts, (size - log.parts[0].len).div_ceil(CUT_BYTES));
        assert!(!holds(folder.path(), "large"));
        drop(log);
        for folder in [folder.path(), crashed.path()] {
            assert_eq!(read_again(folder), lines(6..=7));
            assert!(!holds(folder, "large"));
        }
    }

    #[test]
    fn an_erasure_cuts_a_long_file_off_at_one_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = long_log(folder.path());
        log.forget(5).unwrap();
        log.scrub(&[]).unwrap();
        assert_eq!((log.is_long(), log.parts[0].size, holds(folder.path(), "large")), (false, 0, false));
    }

    #[test]
    fn a_piece_is_overwritten_and_synced_before_it_is_cut_off_and_one_that_was_not_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = long_log(folder.path());
        log.forget(5).unwrap();
        // The first piece is the room behind the accesses, which has zeros.
        log.shorten(CUT_BYTES).unwrap();
        log.break_with("/dev/full");
        let full = log.shorten(CUT_BYTES).unwrap_err();
        assert_eq!((full.kind(), log.failed, log.is_long()), (io::ErrorKind::StorageFull, false, false), "overwritten");
        log.forget(5).unwrap();
        assert!(log.is_long());
        log.break_with("/dev/null");
        log.shorten(CUT_BYTES).unwrap_err();
        assert_eq!((log.failed, log.is_long()), (true, false), "synced");
        drop(log);
        assert_eq!(read_again(folder.path()), []);
        assert!(!holds(folder.path(), "large"));
    }
}
