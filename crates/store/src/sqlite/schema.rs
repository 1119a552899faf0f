//! Tables, indexes, and how connections are set up.

use crate::store::OpenError;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, limits::Limit};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Marks a database file as ours: "VtTr".
const APPLICATION_ID: i64 = 0x5674_5472;
/// Version of the tables below.
const FORMAT: i64 = 1;

/// The largest value or statement that SQLite may handle, in bytes.
const VALUE_BYTES_MAX: i32 = 64 << 20;
/// Frames of the write-ahead log (4 KiB each) after which a commit moves them into the database.
const CHECKPOINT_PAGES: i64 = 16_000;
/// What stays of the write-ahead log's file after that, in bytes.
const WAL_BYTES_KEPT: i64 = 96 << 20;
/// Page cache of one connection, in KiB.
const CACHE_KIB: i64 = 32 << 10;
/// Part of the database file that is read through the page cache of the operating system, in bytes.
const MMAP_BYTES: i64 = 256 << 20;

/// Search values are filed under the version (`vid`), so that they go with it, and indexed by value. `about` is the patient that
/// the record's references name: empty for none, `*` when they do not name exactly one; see `select`.
const TABLES: &str = "
CREATE TABLE version (
  vid INTEGER PRIMARY KEY AUTOINCREMENT, current INTEGER NOT NULL, rtype TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  deleted INTEGER NOT NULL, written_at INTEGER NOT NULL, patient TEXT, author TEXT NOT NULL, entry BLOB NOT NULL,
  salt BLOB NOT NULL, tag BLOB NOT NULL, pseudonym BLOB, label TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX version_key ON version (rtype, id, version);
CREATE INDEX version_written ON version (rtype, deleted, written_at) WHERE current = 1;
CREATE INDEX version_patient ON version (patient, rtype) WHERE current = 1 AND patient IS NOT NULL;

CREATE TABLE token (
  vid INTEGER NOT NULL, param TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL, rtype TEXT NOT NULL, about TEXT NOT NULL,
  PRIMARY KEY (vid, param, code, system)) STRICT, WITHOUT ROWID;
CREATE INDEX token_code ON token (rtype, param, code, about);
CREATE TABLE text (
  vid INTEGER NOT NULL, param TEXT NOT NULL, exact TEXT NOT NULL, norm TEXT NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, exact)) STRICT, WITHOUT ROWID;
CREATE INDEX text_norm ON text (rtype, param, norm);
CREATE TABLE date (
  vid INTEGER NOT NULL, param TEXT NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, lo, hi)) STRICT, WITHOUT ROWID;
CREATE INDEX date_lo ON date (rtype, param, lo, hi);
CREATE TABLE reference (
  vid INTEGER NOT NULL, param TEXT NOT NULL, target TEXT NOT NULL, target_type TEXT NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, target, target_type)) STRICT, WITHOUT ROWID;
CREATE INDEX reference_target ON reference (target, rtype, param, target_type);

CREATE TABLE submission (
  org TEXT NOT NULL, lane INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (org, lane, first_seq)) STRICT;
CREATE TABLE entry (
  id BLOB PRIMARY KEY, org TEXT NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL,
  rtype TEXT, record TEXT, version INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE fence (org TEXT PRIMARY KEY, openings INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE frame (
  fid INTEGER PRIMARY KEY, device TEXT NOT NULL, counter INTEGER NOT NULL, binding BLOB NOT NULL, patient TEXT NOT NULL,
  received_at INTEGER NOT NULL, measured_at INTEGER NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX frame_counter ON frame (device, counter);
CREATE INDEX frame_patient ON frame (patient, measured_at);
CREATE INDEX frame_device ON frame (device, measured_at);
CREATE INDEX frame_digest ON frame (digest);

CREATE TABLE attachment (digest BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE wrapped_key (
  patient TEXT NOT NULL, org TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (patient, org)) STRICT, WITHOUT ROWID;
";

/// How long a writer waits for the writers of other processes.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// How often it looks whether they are done.
const LOCK_POLL: Duration = Duration::from_micros(250);
const LOCK_POLLS_MAX: i32 = (LOCK_WAIT.as_micros() / LOCK_POLL.as_micros()) as i32;

/// Opens the database to write, and makes it when the file is new.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Several processes may open a new file at once. Two that both want it in WAL mode would wait for each other for ever, so SQLite
    // refuses one without asking the busy handler.
    let begin = Instant::now();
    loop {
        match set_up(&mut connection) {
            Err(error) if is_locked(&error) && begin.elapsed() < LOCK_WAIT => thread::sleep(LOCK_POLL),
            done => break done.map_err(failed)?,
        }
    }
    format(&connection)?;
    Ok(connection)
}

/// Chooses how the file is written, and makes the tables if nobody has.
fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    // What is erased must not be found in the free space of the file; nor what it was found by before its last version.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Opens the database to read. The connection cannot write.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection =
        open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).or_else(|_| open(path, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    connection.pragma_update(None, "mmap_size", MMAP_BYTES).map_err(failed)?;
    Ok(connection)
}

/// Whether the file is a database of ours in a format that we read.
pub(crate) fn check_format(path: &Path) -> Result<(), OpenError> {
    format(&open_reader(path)?)
}

fn format(connection: &Connection) -> Result<(), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let found = (pragma("application_id")?, pragma("user_version")?);
    if found == (APPLICATION_ID, FORMAT) {
        return Ok(());
    }
    let show = |(application, format): (i64, i64)| format!("{application:#x} version {format}");
    Err(OpenError::Format { found: show(found), expected: show((APPLICATION_ID, FORMAT)) })
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    const STATEMENTS_KEPT: usize = 128;
    let mut connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    (|| {
        connection.busy_handler(Some(|polls| {
            thread::sleep(LOCK_POLL);
            polls < LOCK_POLLS_MAX
        }))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
        // The file comes from a place that is not trusted: what it defines must not run with our rights.
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        rusqlite::Result::Ok(())
    })()
    .map_err(failed)?;
    Ok(connection)
}

fn failed(error: rusqlite::Error) -> OpenError {
    OpenError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Four organisations start at the same moment on a database that is not there yet. One of them was told that the database is
    /// locked, about once in fifty starts, and ended; now all of them wait until the file is made.
    #[test]
    fn a_new_file_is_opened_by_several_at_once() {
        const ROUNDS: usize = 100;
        const WRITERS: usize = 4;
        for _ in 0..ROUNDS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cloud.db");
            let together = Barrier::new(WRITERS);
            thread::scope(|scope| {
                let open = || {
                    together.wait();
                    open_writer(&path).map(drop)
                };
                let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(open)).collect();
                for writer in writers {
                    assert_eq!(writer.join().unwrap(), Ok(()));
                }
            });
        }
    }
}
