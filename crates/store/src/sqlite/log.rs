//! The write-ahead log, moved into the database on a thread of its own: whoever commits moves a few pages of it at most.
//!
//! ```text
//! commit ─► hook: so many pages in the log ─── PAGES or more ───► thread: moves them, and what came meanwhile, and syncs the database
//!            ▲                                                       │
//!            └── the next commit moves the rest, a few pages ◄───────┘   whoever writes then begins the log anew
//! ```
//!
//! SQLite begins the log anew where all of it was moved when a transaction began and nobody reads in it, and it syncs the database when a
//! move has come to the end of the log. So the thread moves again and again, each time less, until nobody has committed in between; and as
//! one transaction follows the other, the last pages are left to a commit. Left to SQLite, a commit moves everything: sixty megabytes to
//! random places and a sync, while everybody who writes waits.

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
    time::Duration,
};

/// Pages (4 KiB each) in the log from which on they are moved.
pub(super) const PAGES: u32 = 16_000;
/// When so many times as many are left, a commit moves them all the same: others write faster than the thread moves.
const BEHIND_MAX: u32 = 8;
/// How often the thread moves what came meanwhile.
const ROUNDS_MAX: usize = 16;
/// How long it rests when somebody reads in the log, or another process moves it.
const REST: Duration = Duration::from_millis(100);

/// Moves what nobody reads, and says how far the log was before; says how far it is.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

/// The thread.
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
                if rest.swap(false, Ordering::AcqRel) {
                    // While somebody else is at it SQLite says that it is busy, and the thread looks again.
                    let _moved_or_busy = log.checkpoint_v2(CheckpointMode::PASSIVE);
                } else if found >= pages {
                    // Full: the thread is at it, or about to be.
                    let _woken = wake.try_send(());
                }
                Ok(())
            }
        };
        writer.wal_hook(Some(hook)).map_err(|error| OpenError::Database(error.to_string()))?;
        let mover = Mover { db, much: pages.saturating_mul(BEHIND_MAX), moving: Arc::clone(&moving), rest, woken };
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

    /// Ends the thread, so that `writer`, whose commits it was started for, is the last of this process to close the database.
    pub(super) fn end(&mut self, writer: &mut Connection) {
        if let Err(error) = writer.wal_hook(None::<fn(&mut Wal, c_int) -> rusqlite::Result<()>>) {
            // It ends when the connection is closed.
            tracing::warn!(%error, "the thread that moves the write-ahead log was not told to end");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that moves the write-ahead log has panicked");
        }
    }
}

struct Mover {
    db: Connection,
    /// So many pages left are too much.
    much: u32,
    moving: Arc<Mutex<()>>,
    /// The next commit is to move what is left.
    rest: Arc<AtomicBool>,
    woken: Receiver<()>,
}

/// How far the log is, in pages.
struct Stand {
    all: u32,
    moved: u32,
    /// Another process moves it.
    is_busy: bool,
}

impl Mover {
    fn run(self) {
        while self.woken.recv().is_ok() {
            match self.catch_up() {
                Ok(true) => {}
                Ok(false) => thread::sleep(REST),
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log could not be moved into the database");
                    thread::sleep(REST);
                }
            }
        }
    }

    /// Moves the log until nobody has committed meanwhile; whether nothing stood in the way.
    fn catch_up(&self) -> rusqlite::Result<bool> {
        for _ in 0..ROUNDS_MAX {
            let pass = self.advance(MOVE)?;
            if pass.is_busy || pass.moved < pass.all {
                return Ok(false);
            }
            // What the pass has of the log's length is from before it.
            let now = self.advance(LOOK)?;
            if now.all < pass.all {
                // Begun anew already.
                return Ok(true);
            }
            let is_synced = now.all == pass.all;
            if is_synced || now.all.saturating_sub(now.moved) >= self.much {
                self.rest.store(true, Ordering::Release);
            }
            if is_synced {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn advance(&self, asked: &str) -> rusqlite::Result<Stand> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        stand(&self.db, asked)
    }
}

fn stand(db: &Connection, asked: &str) -> rusqlite::Result<Stand> {
    db.query_row(asked, [], |columns| {
        // -1 where there is no log yet.
        let pages = |index| Ok::<_, rusqlite::Error>(u32::try_from(columns.get::<_, i64>(index)?).unwrap_or(0));
        Ok(Stand { is_busy: columns.get(0)?, all: pages(1)?, moved: pages(2)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Instant};

    const FEW: u32 = 64;
    const PATIENCE: Duration = Duration::from_secs(30);

    struct Site {
        folder: tempfile::TempDir,
        db: Connection,
        log: Log,
        /// Looks on.
        other: Connection,
    }

    impl Site {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cloud.db");
            let mut db = schema::open_writer(&path).unwrap();
            let log = Log::start(&path, &mut db, FEW, || {}).unwrap();
            let other = schema::open_log(&path).unwrap();
            Self { folder, db, log, other }
        }

        fn commit(&self, number: u32) {
            let digest = record::sha256(&[&number.to_be_bytes()]);
            let sql = "INSERT OR REPLACE INTO attachment (digest, bytes) VALUES (?1, ?2)";
            self.db.execute(sql, rusqlite::params![digest.as_bytes(), vec![7_u8; 20_000]]).unwrap();
        }

        fn stand(&self) -> Stand {
            stand(&self.other, LOOK).unwrap()
        }

        /// Commits until the log was begun anew.
        fn begin_anew(&self) {
            let (since, mut before) = (Instant::now(), self.stand().all);
            for number in 0.. {
                self.commit(number % 100);
                let now = self.stand().all;
                if now < before {
                    return;
                }
                assert!(since.elapsed() < PATIENCE, "the log has {now} pages and is not begun anew");
                before = now;
            }
        }
    }

    #[test]
    fn the_thread_moves_what_was_committed_while_nobody_commits_and_the_log_is_begun_anew() {
        let site = Site::open();
        let mut committed = 0;
        while site.stand().all < FEW {
            site.commit(committed);
            committed += 1;
        }
        let since = Instant::now();
        loop {
            let Stand { all, moved, .. } = site.stand();
            if moved == all {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{moved} of {all} pages were moved");
            thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..20 {
            site.begin_anew();
        }
        let count = "SELECT count(*) FROM attachment";
        let there: u32 = site.other.query_row(count, [], |row| row.get(0)).unwrap();
        assert!((committed..=committed.max(100)).contains(&there), "{there} of {committed}");
    }

    #[test]
    fn who_reads_for_long_keeps_the_log_and_stops_nobody() {
        let site = Site::open();
        site.commit(1);
        let reader = schema::open_reader(&site.folder.path().join("cloud.db")).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let seen = || reader.query_row("SELECT count(*) FROM attachment", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(seen(), 1);
        (0..300).for_each(|number| site.commit(number));
        assert_eq!(seen(), 1);
        let Stand { all, moved, .. } = site.stand();
        assert!(moved < all && all > FEW * BEHIND_MAX, "{moved} of {all} pages were moved");
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(seen(), 300);
        site.begin_anew();
    }

    #[test]
    fn the_thread_ends_before_its_writer_and_leaves_a_database_without_log() {
        let Site { folder, mut db, mut log, other } = Site::open();
        drop(other);
        log.end(&mut db);
        drop(db);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["cloud.db"]);
    }
}
