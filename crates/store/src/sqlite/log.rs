//! The write-ahead log, moved into the database on a thread of its own: whoever commits does not wait for it.
//!
//! ```text
//! commit ─► hook: so many pages in the log ──── PAGES or more ───► thread: moves them, and again what came meanwhile
//!            ▲                                                        │
//!            └── the next commit moves the rest ◄── little is left ───┘   whoever writes then begins the log anew
//! ```
//!
//! SQLite begins the log anew only where all of it was moved and nobody reads in it, which is why a commit moves the rest. Left to
//! SQLite, a commit moves all of it: sixty megabytes to random places and a sync, while everybody who writes waits.

use super::schema;
use crate::store::OpenError;
use rusqlite::{Connection, hooks::Wal, wal::CheckpointMode};
use std::{
    ffi::c_int,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Pages (4 KiB each) in the log from which on they are moved.
pub(super) const PAGES: u32 = 16_000;
/// A commit that finds so many times as many moves them itself: the disk is slower than who writes.
const BEHIND_MAX: u32 = 8;
/// One in so many of [`PAGES`] is little.
const LITTLE: u32 = 16;
/// How often the thread moves what came meanwhile before it leaves the rest to a commit.
const ROUNDS_MAX: usize = 4;

/// The thread. It ends with the connection whose commits it was started for, which must be closed before this is dropped.
#[derive(Debug)]
pub(super) struct Log {
    moving: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Moves the log of the database at `path` from `pages` pages on, as `writer` commits, on a thread that calls `before_writing` first.
    pub(super) fn start(
        path: &Path,
        writer: &mut Connection,
        pages: u32,
        before_writing: fn(),
    ) -> Result<Self, OpenError> {
        let db = schema::open_log(path)?;
        let (moving, rest) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let (wake, woken) = sync_channel(1);
        let hook = {
            let rest = Arc::clone(&rest);
            move |log: &mut Wal, found: c_int| {
                let found = u32::try_from(found).unwrap_or(0);
                if rest.swap(false, Ordering::AcqRel) || found >= pages.saturating_mul(BEHIND_MAX) {
                    // While the thread is at it SQLite says that it is busy, and the next commit tries again.
                    if log.checkpoint_v2(CheckpointMode::PASSIVE).is_err() {
                        rest.store(true, Ordering::Release);
                    }
                } else if found >= pages {
                    // Full: the thread is at it, or about to be.
                    let _woken = wake.try_send(());
                }
                Ok(())
            }
        };
        writer.wal_hook(Some(hook)).map_err(|error| OpenError::Database(error.to_string()))?;
        let mover = Mover { db, little: pages / LITTLE, moving: Arc::clone(&moving), rest, woken };
        let run = move || {
            before_writing();
            mover.run();
        };
        let thread = thread::Builder::new().name("store-log".into()).spawn(run);
        Ok(Self { moving, thread: Some(thread.map_err(|error| OpenError::Thread(error.to_string()))?) })
    }

    /// While this is held the thread moves nothing.
    pub(super) fn pause(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Log {
    /// The database is closed by the one who opened it, not a moment later by the thread.
    fn drop(&mut self) {
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that moves the write-ahead log has panicked");
        }
    }
}

struct Mover {
    db: Connection,
    little: u32,
    moving: Arc<Mutex<()>>,
    rest: Arc<AtomicBool>,
    woken: Receiver<()>,
}

impl Mover {
    fn run(self) {
        while self.woken.recv().is_ok() {
            for _ in 0..ROUNDS_MAX {
                match self.advance() {
                    Ok(left) if left > self.little => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the write-ahead log could not be moved into the database");
                        break;
                    }
                }
            }
            self.rest.store(true, Ordering::Release);
        }
    }

    /// Moves what may be moved; how many pages are left.
    fn advance(&self) -> rusqlite::Result<u32> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |columns: &rusqlite::Row<'_>| Ok((columns.get::<_, i64>(1)?, columns.get::<_, i64>(2)?));
        // -1 of both when another process is at it.
        let (all, moved) = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts)?;
        Ok(u32::try_from(all - moved).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const FEW: u32 = 64;
    const PAGE_BYTES: u64 = 4_096;

    struct Site {
        folder: tempfile::TempDir,
        db: Connection,
        log: Log,
    }

    impl Site {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cloud.db");
            let mut db = schema::open_writer(&path).unwrap();
            let log = Log::start(&path, &mut db, FEW, || {}).unwrap();
            Self { folder, db, log }
        }

        fn commit(&self, rounds: u32) {
            for round in 0..rounds {
                let digest = record::sha256(&[&round.to_be_bytes()]);
                let sql = "INSERT OR REPLACE INTO attachment (digest, bytes) VALUES (?1, ?2)";
                self.db.execute(sql, rusqlite::params![digest.as_bytes(), vec![7_u8; 20_000]]).unwrap();
            }
        }

        fn pages_in_log(&self) -> u64 {
            fs::metadata(self.folder.path().join("cloud.db-wal")).map_or(0, |file| file.len() / PAGE_BYTES)
        }

        fn attachments(&self) -> i64 {
            self.db.query_row("SELECT count(*) FROM attachment", [], |row| row.get(0)).unwrap()
        }
    }

    #[test]
    fn the_log_is_begun_anew_however_much_is_written() {
        let site = Site::open();
        site.commit(2_000);
        assert_eq!(site.attachments(), 2_000);
        let bound = u64::from(FEW * BEHIND_MAX) * 2;
        assert!(site.pages_in_log() < bound, "{} pages", site.pages_in_log());
    }

    #[test]
    fn who_reads_for_long_keeps_the_log_and_nobody_waits_for_it() {
        let site = Site::open();
        site.commit(1);
        let reader = schema::open_reader(&site.folder.path().join("cloud.db")).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let seen = || reader.query_row("SELECT count(*) FROM attachment", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(seen(), 1);
        site.commit(300);
        assert_eq!((seen(), site.attachments()), (1, 300));
        assert!(site.pages_in_log() > u64::from(FEW * BEHIND_MAX));
        reader.execute_batch("COMMIT").unwrap();
        // Once it is gone the log is begun anew: its file does not grow any more.
        site.commit(300);
        let before = site.pages_in_log();
        site.commit(300);
        assert_eq!((site.pages_in_log(), site.attachments()), (before, 300));
    }

    #[test]
    fn the_thread_ends_with_its_writer_and_leaves_a_database_without_log() {
        let Site { folder, db, log } = Site::open();
        drop(db);
        drop(log);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["cloud.db"]);
    }
}
