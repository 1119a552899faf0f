//! A file that somebody may change while the gateway runs: read again when it has changed, and kept as it was while it cannot be read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How often it is looked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Length and time of the last change of a file.
pub(crate) type Mark = Option<(u64, SystemTime)>;

struct Seen<T> {
    value: Arc<T>,
    mark: Mark,
    looked: Instant,
}

/// What a file says now.
pub(crate) struct Watched<T> {
    path: PathBuf,
    read: fn(&Path) -> anyhow::Result<T>,
    seen: Mutex<Seen<T>>,
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    pub(crate) fn new(path: PathBuf, read: fn(&Path) -> anyhow::Result<T>) -> anyhow::Result<Self> {
        let mark = mark(&path);
        let value = Arc::new(read(&path)?);
        Ok(Self { path, read, seen: Mutex::new(Seen { value, mark, looked: Instant::now() }) })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same, looked at this moment: for who was told no by what it said up to a moment ago.
    pub(crate) fn get_now(&self) -> Arc<T> {
        if let Some(before) = Instant::now().checked_sub(LOOK_EVERY) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).looked = before;
        }
        self.get()
    }

    /// What the file says; what it said before, when it has become unreadable: nobody is locked out by a slip.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() < LOOK_EVERY {
            return seen.value.clone();
        }
        seen.looked = Instant::now();
        let mark = mark(&self.path);
        // A file that is away for a moment says nothing.
        if mark != seen.mark && (mark.is_some() || seen.mark.is_none()) {
            match (self.read)(&self.path) {
                Ok(value) => seen.value = Arc::new(value),
                Err(error) => tracing::error!(error = format!("{error:#}"), "a file is not taken as it is now"),
            }
            seen.mark = mark;
        }
        seen.value.clone()
    }
}

/// By what a change of a file is told.
pub(crate) fn mark(path: &std::path::Path) -> Mark {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_cannot_be_read_is_kept_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let number = |path: &std::path::Path| Ok(fs::read_to_string(path)?.trim().parse::<u32>()?);
        assert!(Watched::new(path.clone(), number).is_err());
        fs::write(&path, "1").unwrap();
        let watched = Watched::new(path.clone(), number).unwrap();
        let becomes = |expected: u32| {
            while *watched.get() != expected {
                std::thread::sleep(LOOK_EVERY / 4);
            }
        };
        fs::write(&path, "22").unwrap();
        becomes(22);
        fs::write(&path, "4444").unwrap();
        assert_eq!(*watched.get_now(), 4444);
        fs::write(&path, "no number").unwrap();
        std::thread::sleep(LOOK_EVERY * 2);
        assert_eq!(*watched.get(), 4444);
        fs::remove_file(&path).unwrap();
        std::thread::sleep(LOOK_EVERY * 2);
        assert_eq!(*watched.get(), 4444);
        fs::write(&path, "333").unwrap();
        becomes(333);
    }
}
