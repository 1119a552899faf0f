//! The file in which accesses wait, on a thread of its own.

use super::{Access, Answer, Noted, Request, Shared};
use contract::Entry;
use record::Digest;
use rusqlite::{Connection, params};
use std::{
    path::Path,
    sync::{Arc, mpsc::Receiver},
};
use tokio::{sync::oneshot, time::Instant};

/// Requests that one sync serves at most.
const GROUP_MAX: usize = 512;

/// Pages (4 KiB each) in the file's log from which on a commit moves them into the file. Who reads waits for that:
/// four times less often than at SQLite's 1,000, and not four times as long, as many of the pages are the same ones again.
const LOG_PAGES: i64 = 4_000;

/// Accesses wait in the first table. The second has those that can never be written; they are told of at every start.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS access (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS aside (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;";
const SET_ASIDE: &str = "INSERT OR IGNORE INTO aside SELECT * FROM access WHERE number = ?1";

impl Access {
    /// From what the file has of it.
    fn read(columns: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(i64, Self)>> {
        let (number, id, patient) = (columns.get(0)?, columns.get(1)?, columns.get(2)?);
        let (salt, entry, bytes) = (Digest(columns.get(3)?), columns.get::<_, Vec<u8>>(4)?, columns.get(5)?);
        let access = Entry::from_bytes(&entry).ok().and_then(|entry| Self::of(id, patient, salt, &entry, bytes));
        Ok(access.map(|access| (number, access)))
    }
}

/// The file's own thread.
pub(super) struct Keeper {
    pub(super) file: Connection,
    pub(super) next: i64,
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Receiver<Request>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(more) = self.requests.try_recv()
            {
                group.push(more);
            }
            if let Some(closed) = self.serve(group) {
                drop(self);
                let _gone = closed.send(());
                return;
            }
        }
    }

    /// Serves requests with one sync. Gives who waits for the file to be closed.
    fn serve(&mut self, group: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let (mut notes, mut scrubs, mut aside, mut closed, mut forgotten) =
            (Vec::new(), Vec::new(), Vec::new(), None, None);
        for request in group {
            match request {
                Request::Note { accesses, answer } => notes.push((accesses, answer)),
                Request::Forget(last) => forgotten = forgotten.max(Some(last)),
                Request::SetAside(number, answer) => aside.push((number, answer)),
                Request::Scrub(answer) => scrubs.push(answer),
                Request::Close(answer) => closed = Some(answer),
            }
        }
        if !scrubs.is_empty() {
            forgotten = forgotten.max(Some(*self.shared.written.borrow()));
        }
        let kept = self.keep(&notes, &aside, forgotten).map_err(|error| error.to_string());
        let since = Instant::now();
        for (accesses, answer) in notes {
            if kept.is_ok() {
                let mut waiting = self.shared.waiting();
                for access in accesses {
                    waiting.bytes += access.new.row.bytes.len();
                    waiting.last = self.next;
                    let access = Arc::new(access);
                    waiting.noted.push_back(Noted { number: self.next, access, since, unsure: false });
                    self.next += 1;
                }
            }
            // Who has gone meanwhile was not shown anything; that the access is noted all the same says more than less.
            let _gone = answer.send(kept.clone());
        }
        self.shared.wake.notify_one();
        if kept.is_ok() {
            // Those that are not told wait on, and are tried again.
            aside.into_iter().for_each(|(_, answer)| _ = answer.send(()));
        }
        let idle = forgotten.is_some() && self.shared.waiting().noted.is_empty();
        if idle || !scrubs.is_empty() {
            let emptied = kept.and_then(|()| self.empty_log());
            if let Err(error) = &emptied {
                tracing::warn!(error, "the log of the accesses could not be emptied");
            }
            scrubs.into_iter().for_each(|answer| _ = answer.send(emptied.clone()));
        }
        closed
    }

    /// Brings the log into the file and makes it empty, so that nothing stands there that was deleted.
    fn empty_log(&self) -> Result<(), String> {
        let busy = self.file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match busy {
            Ok(0) => Ok(()),
            Ok(_) => Err("it is in use".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// One transaction, on the disk when it returns.
    fn keep(
        &mut self,
        notes: &[(Vec<Access>, Answer)],
        aside: &[(i64, oneshot::Sender<()>)],
        forgotten: Option<i64>,
    ) -> rusqlite::Result<()> {
        let accesses = notes.iter().flat_map(|(accesses, _)| accesses);
        let tx = self.file.transaction()?;
        for (number, _) in aside {
            tx.prepare_cached(SET_ASIDE)?.execute([number])?;
        }
        if let Some(last) = forgotten {
            tx.prepare_cached("DELETE FROM access WHERE number <= ?1")?.execute([last])?;
        }
        {
            let sql = "INSERT INTO access (number, id, patient, salt, entry, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut insert = tx.prepare_cached(sql)?;
            for (number, access) in (self.next..).zip(accesses) {
                let row = &access.new.row;
                insert.execute(params![
                    number,
                    row.id,
                    row.patient,
                    row.salt.as_ref(),
                    access.entry.bytes,
                    row.bytes
                ])?;
            }
        }
        tx.commit()
    }
}

/// The file, and what was in it.
pub(super) struct Opened {
    pub(super) file: Connection,
    pub(super) left: Vec<(i64, Access)>,
    /// The last number that was given.
    pub(super) last: i64,
}

pub(super) fn open(path: &Path) -> rusqlite::Result<Opened> {
    let mut file = Connection::open(path)?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    file.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    // What is deleted must not be found in the file's free space.
    file.pragma_update(None, "secure_delete", true)?;
    file.execute_batch(SCHEMA)?;
    let tx = file.transaction()?;
    let (mut left, mut unreadable) = (Vec::new(), Vec::new());
    {
        let mut select = tx.prepare("SELECT number, id, patient, salt, entry, bytes FROM access ORDER BY number")?;
        let mut rows = select.query([])?;
        while let Some(columns) = rows.next()? {
            match Access::read(columns) {
                Ok(Some(access)) => left.push(access),
                Ok(None) | Err(_) => unreadable.push(columns.get::<_, i64>(0)?),
            }
        }
    }
    for number in &unreadable {
        tx.execute(SET_ASIDE, [number])?;
        tx.execute("DELETE FROM access WHERE number = ?1", [number])?;
    }
    let last =
        "SELECT max((SELECT coalesce(max(number), 0) FROM access), (SELECT coalesce(max(number), 0) FROM aside))";
    let last = tx.query_row(last, [], |row| row.get(0))?;
    let aside: i64 = tx.query_row("SELECT count(*) FROM aside", [], |row| row.get(0))?;
    if aside > 0 {
        tracing::error!(aside, file = %path.display(), "accesses that can never be written lie in the table `aside` of the file");
    }
    tx.commit()?;
    Ok(Opened { file, left, last })
}
