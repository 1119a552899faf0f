//! Signed frames on disk, in order, until they are answered for: a file to which frames are added, each after its length.

use super::file::sync_folder;
use anyhow::Context;
use sensing::{FRAME_BYTES_MAX, Frame};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The most that a device keeps, in bytes: some two days of frames of a kilobyte, or a day and a half of an ECG.
pub(crate) const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// From so many bytes on a file whose frames were all answered for is emptied.
const CLEARED_FROM: u64 = 1024 * 1024;
const LENGTH_BYTES: u64 = 4;

/// The frames that wait.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    /// Where the next frame is that was not answered for.
    next: u64,
    end: u64,
}

impl Spool {
    /// Opens the file or makes it; gives the frames in it. What was not written to its end was never sent, and is taken away.
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, Vec<Frame>)> {
        let failed = || format!("cannot read the frames in `{}`", path.display());
        let new = !path.exists();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).with_context(failed)?;
        if new {
            sync_folder(path).with_context(failed)?;
        }
        let bytes = file.metadata().with_context(failed)?.len();
        anyhow::ensure!(bytes <= 2 * SPOOL_BYTES_MAX, "`{}` is larger than a device writes", path.display());
        let (mut frames, mut end) = (Vec::new(), 0u64);
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(failed)?;
        let mut left = text.as_slice();
        while let Some((length, rest)) = left.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((frame, rest)) = rest.split_at_checked(length) else { break };
            let Ok(frame) = Frame::decode(frame) else { break };
            end += LENGTH_BYTES + length as u64;
            frames.push(frame);
            left = rest;
        }
        if end < bytes {
            file.set_len(end).with_context(failed)?;
            file.sync_all().with_context(failed)?;
        }
        Ok((Self { path: path.to_owned(), file, next: 0, end }, frames))
    }

    /// Adds frames, durably.
    pub(super) fn append(&mut self, frames: &[&[u8]]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(u32::try_from(frame.len())?.to_be_bytes());
            bytes.extend(*frame);
        }
        let failed = || format!("cannot keep frames in `{}`", self.path.display());
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a frame must not stand before whole ones.
            self.file.set_len(self.end).with_context(failed)?;
            return Err(error).with_context(failed);
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Whether the largest frame has room still.
    pub(super) fn has_room(&self) -> bool {
        self.end + LENGTH_BYTES + FRAME_BYTES_MAX as u64 <= SPOOL_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next == self.end
    }

    pub(super) fn is_worth_clearing(&self) -> bool {
        self.is_empty() && self.end >= CLEARED_FROM
    }

    /// The next frames, at most so many.
    pub(super) fn next(&self, most: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let mut at = self.next;
        while frames.len() < most
            && let Some(frame) = self.at(at)?
        {
            at += LENGTH_BYTES + frame.len() as u64;
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Passes over the next frames, so many; gives the counter of the last of them.
    pub(super) fn skip(&mut self, count: usize) -> anyhow::Result<Option<u64>> {
        let mut last = None;
        for _ in 0..count {
            let Some(frame) = self.at(self.next)? else { break };
            self.next += LENGTH_BYTES + frame.len() as u64;
            last = Some(frame);
        }
        let counter = |bytes: Vec<u8>| Frame::decode(&bytes).map(|frame| frame.counter());
        last.map(counter).transpose().with_context(|| format!("a frame in `{}` is damaged", self.path.display()))
    }

    /// Passes over frames up to a counter.
    pub(super) fn pass_over(&mut self, answered: u64) -> anyhow::Result<()> {
        while let Some(bytes) = self.at(self.next)?
            && Frame::decode(&bytes).is_ok_and(|frame| frame.counter() <= answered)
        {
            self.next += LENGTH_BYTES + bytes.len() as u64;
        }
        Ok(())
    }

    fn at(&self, at: u64) -> anyhow::Result<Option<Vec<u8>>> {
        if at >= self.end {
            return Ok(None);
        }
        let failed = || format!("cannot read the frames in `{}`", self.path.display());
        let mut length = [0; 4];
        self.file.read_exact_at(&mut length, at).with_context(failed)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.file.read_exact_at(&mut frame, at + LENGTH_BYTES).with_context(failed)?;
        Ok(Some(frame))
    }

    /// Puts frames in the place of all that are there: durably, and at once.
    pub(super) fn replace(&mut self, frames: &[&[u8]]) -> anyhow::Result<()> {
        let new = new_of(&self.path);
        let failed = || format!("cannot write the frames in `{}` anew", self.path.display());
        // One from before was not written to its end.
        if new.exists() {
            fs::remove_file(&new).with_context(failed)?;
        }
        let (mut next, _) = Self::open(&new)?;
        next.append(frames)?;
        next.file.sync_all().with_context(failed)?;
        fs::rename(&new, &self.path).with_context(failed)?;
        sync_folder(&self.path).with_context(failed)?;
        *self = Self { path: self.path.clone(), ..next };
        Ok(())
    }

    /// Empties the file.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        let failed = || format!("cannot empty `{}`", self.path.display());
        self.file.set_len(0).and_then(|()| self.file.sync_all()).with_context(failed)?;
        (self.next, self.end) = (0, 0);
        Ok(())
    }
}

/// Where frames are written that take the place of those at `path`.
pub(super) fn new_of(path: &Path) -> PathBuf {
    path.with_extension("frames-new")
}
