//! A ZIP archive of a few files as they are: what belongs together comes in one answer, and every system opens it.
//!
//! Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4. Files are stored, not compressed; names are ASCII.

use flate2::Crc;

/// What is needed to read an archive: version 2.0 of the format.
const VERSION: u16 = 20;
/// The first day that the format can say, 1980-01-01: no clock is in an archive, so the same files make the same bytes.
const DAY: u16 = 0x21;
/// The longest archive, in bytes: what its 32-bit numbers can say.
const ARCHIVE_BYTES_MAX: usize = u32::MAX as usize;

/// The archive of these files, by name; none where it would be too long.
pub(crate) fn archive(files: &[(String, &[u8])]) -> Option<Vec<u8>> {
    let count = u16::try_from(files.len()).ok()?;
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let mut crc = Crc::new();
        crc.update(bytes);
        let (at, length) = (u32::try_from(out.len()).ok()?, u32::try_from(bytes.len()).ok()?);
        // What stands before the file and in the directory alike: version, flags, method, time, day, sum, lengths.
        let mut facts = Vec::new();
        for number in [VERSION, 0, 0, 0, DAY] {
            facts.extend(number.to_le_bytes());
        }
        for number in [crc.sum(), length, length] {
            facts.extend(number.to_le_bytes());
        }
        facts.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
        facts.extend(0u16.to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&facts);
        out.extend(name.as_bytes());
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02");
        directory.extend(VERSION.to_le_bytes());
        directory.extend(&facts);
        // No comment, on the first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, length) = (u32::try_from(out.len()).ok()?, u32::try_from(directory.len()).ok()?);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend([length.to_le_bytes(), at.to_le_bytes()].concat());
    out.extend(0u16.to_le_bytes());
    (out.len() <= ARCHIVE_BYTES_MAX).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of an archive by its directory, as a reader goes.
    fn read(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let number = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize;
        let short = |at: usize| usize::from(u16::from_le_bytes(archive[at..at + 2].try_into().unwrap()));
        let end = archive.len() - 22;
        assert_eq!(&archive[end..end + 4], b"PK\x05\x06");
        let (count, mut at) = (short(end + 10), number(end + 16));
        assert_eq!(at + number(end + 12), end);
        let mut files = Vec::new();
        for _ in 0..count {
            assert_eq!(&archive[at..at + 4], b"PK\x01\x02");
            let (sum, length, name) = (number(at + 16), number(at + 24), short(at + 28));
            let (local, named) = (number(at + 42), &archive[at + 46..at + 46 + name]);
            assert_eq!(
                (&archive[local..local + 4], &archive[local + 30..local + 30 + name]),
                (&b"PK\x03\x04"[..], named)
            );
            let bytes = &archive[local + 30 + name..][..length];
            let mut crc = Crc::new();
            crc.update(bytes);
            assert_eq!(crc.sum() as usize, sum);
            files.push((String::from_utf8(named.to_vec()).unwrap(), bytes.to_vec()));
            at += 46 + name;
        }
        files
    }

    #[test]
    fn an_archive_has_its_files_as_they_are() {
        let long: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for files in [vec![], vec![("a.hea", &b"a 1"[..]), ("a.dat", &long[..]), ("empty", &b""[..])]] {
            let files: Vec<(String, &[u8])> = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
            let read: Vec<(String, Vec<u8>)> = read(&archive(&files).unwrap());
            assert_eq!(read, files.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect::<Vec<_>>());
        }
    }
}
