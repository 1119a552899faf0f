//! The log of accesses: two files that are filled in turn, appended to and synced once for all who wait, and overwritten with zeros.
//!
//! ```text
//! file   = "vitaltrace-acc/1" (16 bytes) · mark, then groups, then zeros; or zeros alone
//! mark   = 16 random bytes, of this filling of the file
//! group  = mark
//!          length  4 bytes, little-endian: bytes of `body`
//!          check   4 bytes, little-endian: CRC-32 (IEEE) of the four bytes of `length` and of `body`
//!          body    CBOR: the accesses that one sync made durable, see `Line`
//! ```
//!
//! A group is synced before the next is written, so a crash tears the last one at most, and nobody was shown anything for it. Where a whole
//! group follows one that is not, bytes that were synced have changed. What an earlier filling left has another mark and does not count.
//!
//! Once all accesses of a file are in the database it is filled with zeros, its first bytes before the others, and used again. An access may
//! stand in both files for a moment, while one of them is cleared: it is the same, and has the same number.

use super::{Access, AccessesError};
use minicbor::{Decode, Encode, bytes::ByteVec};
use record::Digest;
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, path::Path};

const MAGIC: &[u8; 16] = b"vitaltrace-acc/1";
type Mark = [u8; 16];
const HEADER_BYTES: usize = 32;
/// Mark, length and check.
const GROUP_HEADER_BYTES: usize = 24;
/// A file that has more is left for the other one, as soon as that is empty.
const FILE_BYTES: u64 = 16 << 20;
/// Zeros that are written behind the groups where they have no room left: the sync of a file whose length stays the same is cheaper.
const ROOM_BYTES: u64 = 1 << 20;
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
        let mut lines = BTreeMap::new();
        let mut open = |name| {
            let path = folder.join(name);
            let failed = |source| AccessesError::File { path: path.clone(), source };
            let file =
                File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
            let bytes = std::fs::read(&path).map_err(failed)?;
            let content = read(&bytes).map_err(|wrong| wrong.at(&path))?;
            let part = Part {
                mark: content.mark,
                len: content.len as u64,
                size: bytes.len() as u64,
                last: content.lines.last().map_or(0, |line| line.number),
                file,
            };
            lines.extend(content.lines.into_iter().map(|line| (line.number, line)));
            Ok(part)
        };
        let parts = [open(NAMES[0])?, open(NAMES[1])?];
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| AccessesError::File { path: folder.to_owned(), source })?;
        let active = usize::from(parts[1].last > parts[0].last);
        Ok((Self { parts, active, failed: false }, lines.into_values().collect()))
    }

    /// Appends accesses, whose numbers rise, as one group. It is on the disk when this returns.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        self.check()?;
        if lines.is_empty() {
            return Ok(());
        }
        let other = 1 - self.active;
        if self.parts[self.active].len >= FILE_BYTES && self.parts[other].mark.is_none() {
            self.active = other;
        }
        self.append_to(self.active, lines)
    }

    fn append_to(&mut self, part: usize, lines: &[Line]) -> io::Result<()> {
        let part = &mut self.parts[part];
        part.write(lines)?;
        part.file.sync_data().inspect_err(|_| self.failed = true)
    }

    /// All up to this number are in the database.
    pub(super) fn forget(&mut self, last: i64) -> io::Result<()> {
        self.check()?;
        for part in 0..self.parts.len() {
            if self.parts[part].mark.is_some() && self.parts[part].last <= last {
                self.clear(part)?;
            }
        }
        Ok(())
    }

    /// Leaves nothing but these, which wait for the database still.
    pub(super) fn scrub(&mut self, waiting: &[Line]) -> io::Result<()> {
        self.check()?;
        let other = 1 - self.active;
        if self.parts[other].mark.is_some() {
            let last = self.parts[other].last;
            let older: Vec<Line> = waiting.iter().filter(|line| line.number <= last).cloned().collect();
            if !older.is_empty() {
                self.append_to(self.active, &older)?;
            }
            self.clear(other)?;
        }
        if self.parts[self.active].mark.is_some() {
            if !waiting.is_empty() {
                self.append_to(other, waiting)?;
            }
            self.clear(self.active)?;
            self.active = other;
        }
        // What was cleared before as well.
        for part in &self.parts {
            part.file.sync_data().inspect_err(|_| self.failed = true)?;
        }
        Ok(())
    }

    /// Overwrites a file. Without its first bytes nothing in it counts, whatever of the zeros is on the disk.
    fn clear(&mut self, part: usize) -> io::Result<()> {
        let part = &mut self.parts[part];
        part.file.write_all_at(&[0; HEADER_BYTES], 0)?;
        part.file.sync_data().inspect_err(|_| self.failed = true)?;
        let len = std::mem::replace(&mut part.len, 0);
        (part.mark, part.last) = (None, 0);
        part.zeros(HEADER_BYTES as u64, len)?;
        if part.size > 2 * FILE_BYTES {
            part.file.set_len(FILE_BYTES)?;
            part.size = FILE_BYTES;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("an earlier sync failed")) } else { Ok(()) }
    }
}

impl Part {
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
                mark
            }
        };
        group(&mut out, &mark, lines)?;
        let end = self.len + out.len() as u64;
        if end > self.size {
            self.file.write_all_at(&out, self.len)?;
            // Room that there is no space for is none: the next append makes the file longer, as this one did.
            let room = self.zeros(end, end + ROOM_BYTES);
            self.size = if room.is_ok() { end + ROOM_BYTES } else { end };
        } else {
            self.file.write_all_at(&out, self.len)?;
        }
        self.len = end;
        self.mark = Some(mark);
        self.last = lines.iter().map(|line| line.number).fold(self.last, i64::max);
        Ok(())
    }

    fn zeros(&self, mut from: u64, to: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while from < to {
            let len = usize::try_from(to - from).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.file.write_all_at(&ZEROS[..len], from)?;
            from += len as u64;
        }
        Ok(())
    }
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
    let header = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
    let Some(mark) = header.strip_prefix(MAGIC).and_then(|mark| Mark::try_from(mark).ok()) else {
        // New, cleared, or torn before its first group was synced.
        let is_empty = header.len() < HEADER_BYTES || header.iter().all(|byte| *byte == 0);
        return if is_empty { Ok(Content::default()) } else { Err(Wrong::NoLog) };
    };
    let mut content = Content { mark: Some(mark), len: HEADER_BYTES, lines: Vec::new() };
    while let Some((body, len)) = whole(&bytes[content.len..], &mark) {
        let lines: Vec<Line> = minicbor::decode(body).map_err(|_| Wrong::Damaged(content.len))?;
        content.lines.extend(lines);
        content.len += len;
    }
    let rest = &bytes[content.len..];
    if (1..rest.len()).any(|at| rest[at..].starts_with(&mark) && whole(&rest[at..], &mark).is_some()) {
        return Err(Wrong::Damaged(content.len));
    }
    if rest.iter().take(GROUP_HEADER_BYTES).any(|byte| *byte != 0) {
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
        }
    }

    fn lines(numbers: std::ops::RangeInclusive<i64>) -> Vec<Line> {
        numbers.map(line).collect()
    }

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
        assert_eq!(read_again(folder.path()), lines(1..=6));
        let path = folder.path().join(NAMES[0]);
        let whole = fs::read(&path).unwrap();
        for end in before..after {
            let mut torn = whole.clone();
            torn[usize::try_from(end).unwrap()] ^= 1;
            fs::write(&path, torn).unwrap();
            assert_eq!(read_again(folder.path()), lines(1..=4), "byte {end}");
            fs::write(&path, &whole[..usize::try_from(end).unwrap()]).unwrap();
            assert_eq!(read_again(folder.path()), lines(1..=4), "up to byte {end}");
        }
        // What is appended behind a torn end stands in its place.
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
        for at in HEADER_BYTES..HEADER_BYTES + 2 * group {
            let mut changed = whole.clone();
            changed[at] ^= 0x80;
            fs::write(&path, changed).unwrap();
            let begins = HEADER_BYTES + (at - HEADER_BYTES) / group * group;
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
        let kept: Vec<i64> = read_again(folder.path()).iter().map(|line| line.number).collect();
        assert_eq!(kept, [number, number + 1]);
        assert!(fs::read(folder.path().join(NAMES[0])).unwrap().iter().all(|byte| *byte == 0));
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
            log.scrub(&waiting).unwrap();
            assert_eq!(read_again(folder.path()), waiting, "in turns: {turns}");
            assert!(!holds(folder.path(), "bytes of 8") && holds(folder.path(), "bytes of 9"), "in turns: {turns}");
            log.append(&lines(21..=21)).unwrap();
            log.scrub(&[]).unwrap();
            assert_eq!(read_again(folder.path()), []);
            assert!(!holds(folder.path(), "bytes of"), "in turns: {turns}");
        }
    }

    /// A crash in the middle of clearing a file leaves some of the zeros: neither is that damage, nor are the accesses behind them new.
    #[test]
    fn what_an_earlier_filling_left_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&lines(1..=2)).unwrap();
        log.append(&lines(3..=9)).unwrap();
        let path = folder.path().join(NAMES[0]);
        let filled = fs::read(&path).unwrap();
        log.forget(9).unwrap();
        drop(log);
        let mut left = filled.clone();
        left[..HEADER_BYTES].fill(0);
        fs::write(&path, &left).unwrap();
        let (mut log, lines_left) = Log::open(folder.path()).unwrap();
        assert_eq!(lines_left, []);
        log.append(&lines(10..=10)).unwrap();
        assert!(holds(folder.path(), "bytes of 9"), "the test wants something left");
        assert_eq!(read_again(folder.path()), lines(10..=10));
    }
}
