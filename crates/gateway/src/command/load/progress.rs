//! How far a load is, in a file that outlives its process.
//!
//! ```text
//! vitaltrace-load/1 <name of the load, 16 hexadecimal digits>
//! > <digest of a piece>      it is sent now
//! < <digest of a piece>      the gateway has it
//! ```
//!
//! A piece is named by its place and its bytes, so that a file may be mended, and others added, before a load goes on.

use crate::command::BadInput;
use anyhow::{Context, bail};
use record::{Digest, sha256};
use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

const HEADER: &str = "vitaltrace-load/1 ";

/// What one request sends.
pub(super) struct Part {
    /// Where it stands, for people.
    pub(super) place: String,
    pub(super) bytes: Vec<u8>,
    digest: Digest,
}

impl Part {
    pub(super) fn new(place: String, bytes: Vec<u8>) -> Self {
        let digest = sha256(&[&(place.len() as u64).to_be_bytes(), place.as_bytes(), &bytes]);
        Self { place, bytes, digest }
    }
}

/// How far a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Waiting,
    /// It was sent, and nobody knows whether it arrived.
    UnderWay,
    Loaded,
}

/// The file, held by one load at a time.
pub(super) struct Progress {
    path: PathBuf,
    file: File,
    /// Names the load's requests.
    name: String,
    pieces: HashMap<String, Piece>,
}

impl Progress {
    /// Goes on with what the file says, or begins a new one.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("the progress file `{}`", path.display());
        let mut file =
            File::options().create(true).truncate(false).read(true).append(true).open(path).with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(BadInput(format!(
                    "another load writes its progress into `{}`: name another file",
                    path.display()
                )))
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(failed)?;
        // A line without an end was cut off by the end of its process: what it would say is not known.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).with_context(failed)?;
        let mut lines = text[..whole].lines();
        let name = match lines.next() {
            None => {
                let mut name = [0u8; 8];
                getrandom::fill(&mut name).context("the operating system gave no random bytes")?;
                let name = hex::encode(name);
                writeln!(file, "{HEADER}{name}").with_context(failed)?;
                name
            }
            Some(first) => match first
                .strip_prefix(HEADER)
                .filter(|name| hex::decode(name).is_ok_and(|name| name.len() == 8))
            {
                Some(name) => name.to_owned(),
                None => bail!(BadInput(format!("`{}` is no progress file of a load: name another", path.display()))),
            },
        };
        let mut pieces = HashMap::new();
        for line in lines {
            match line.split_at_checked(2) {
                Some(("> ", digest)) => _ = pieces.insert(digest.to_owned(), Piece::UnderWay),
                Some(("< ", digest)) => _ = pieces.insert(digest.to_owned(), Piece::Loaded),
                _ => bail!(BadInput(format!("`{}` is damaged: `{line}` says nothing", path.display()))),
            }
        }
        Ok(Self { path: path.to_owned(), file, name, pieces })
    }

    /// How far a piece is.
    pub(super) fn of(&self, part: &Part) -> Piece {
        self.pieces.get(&part.digest.to_hex()).copied().unwrap_or(Piece::Waiting)
    }

    /// What the request that sends a piece is called in the audit trail.
    pub(super) fn request(&self, part: &Part) -> String {
        let digest = part.digest.to_hex();
        format!("load-{}-{}", self.name, &digest[..32])
    }

    /// A piece is about to be sent. On the disk when it returns.
    pub(super) fn under_way(&mut self, part: &Part) -> anyhow::Result<()> {
        self.note('>', part, Piece::UnderWay)?;
        self.file.sync_data().with_context(|| format!("the progress file `{}`", self.path.display()))
    }

    /// The gateway has a piece. When this is lost the audit trail says so.
    pub(super) fn loaded(&mut self, part: &Part) -> anyhow::Result<()> {
        if self.of(part) == Piece::Loaded { Ok(()) } else { self.note('<', part, Piece::Loaded) }
    }

    fn note(&mut self, sign: char, part: &Part, piece: Piece) -> anyhow::Result<()> {
        let digest = part.digest.to_hex();
        // One call, so that no line is half there when the process is killed.
        let line = format!("{sign} {digest}\n");
        self.file.write_all(line.as_bytes()).with_context(|| format!("the progress file `{}`", self.path.display()))?;
        self.pieces.insert(digest, piece);
        Ok(())
    }

    /// Everything is loaded.
    pub(super) fn end(self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("the progress file `{}`", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_goes_on_where_its_file_says_and_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load.progress");
        let part = |n: u8| Part::new(format!("`file` line {n}"), vec![n]);
        let mut progress = Progress::open(&path).unwrap();
        progress.under_way(&part(1)).unwrap();
        progress.loaded(&part(1)).unwrap();
        progress.under_way(&part(2)).unwrap();
        let request = progress.request(&part(2));
        assert!(request.len() <= 64 && request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert!(Progress::open(&path).is_err(), "another load");
        drop(progress);
        File::options().append(true).open(&path).unwrap().write_all(b"< cut o").unwrap();

        let again = Progress::open(&path).unwrap();
        assert_eq!([1, 2, 3].map(|n| again.of(&part(n))), [Piece::Loaded, Piece::UnderWay, Piece::Waiting]);
        assert_eq!(again.of(&Part::new("`file` line 1".to_owned(), vec![9])), Piece::Waiting, "it was mended");
        assert_eq!(again.request(&part(2)), request);
        again.end().unwrap();
        assert!(!path.exists());
        assert_ne!(Progress::open(&path).unwrap().request(&part(2)), request, "another load");
        for wrong in ["something else\n", "vitaltrace-load/1 12\n", "vitaltrace-load/1 0123456789abcdef\n? x\n"] {
            fs::write(&path, wrong).unwrap();
            assert!(Progress::open(&path).is_err(), "{wrong}");
        }
    }
}
