//! Tables, indexes, and how connections are set up.

use super::{log, values};
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
const FORMAT: i64 = 6;
/// The version whose search values are filed anew.
const FORMAT_1: i64 = 1;
/// The version in which all tokens stood in the index, and no row opened its commitment.
const FORMAT_2: i64 = 2;
/// The version in which frames had no kind.
const FORMAT_3: i64 = 3;
/// The version in which nothing stayed of frames that were let go.
const FORMAT_4: i64 = 4;
/// The version in which no version had a template.
const FORMAT_5: i64 = 5;

/// The largest value or statement that SQLite may handle, in bytes.
const VALUE_BYTES_MAX: i32 = 64 << 20;
/// What stays of the write-ahead log's file after that, in bytes.
const WAL_BYTES_KEPT: i64 = 96 << 20;
/// Page cache of one connection, in KiB.
const CACHE_KIB: i64 = 32 << 10;
/// Part of the database file that is read through the page cache of the operating system, in bytes.
const MMAP_BYTES: i64 = 256 << 20;

/// The tables of everything but search values.
const TABLES: &str = "
CREATE TABLE version (
  vid INTEGER PRIMARY KEY AUTOINCREMENT, current INTEGER NOT NULL, rtype TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  deleted INTEGER NOT NULL, written_at INTEGER NOT NULL, patient TEXT, author TEXT NOT NULL, entry BLOB NOT NULL,
  salt BLOB NOT NULL, tag BLOB NOT NULL, pseudonym BLOB, label TEXT NOT NULL, bytes BLOB NOT NULL, gathered BLOB) STRICT;
CREATE UNIQUE INDEX version_key ON version (rtype, id, version);
CREATE INDEX version_written ON version (rtype, deleted, written_at) WHERE current = 1;
CREATE INDEX version_patient ON version (patient, rtype) WHERE current = 1 AND patient IS NOT NULL;
CREATE INDEX version_gathered ON version (entry) WHERE gathered IS NOT NULL;

CREATE TABLE submission (
  org TEXT NOT NULL, lane INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (org, lane, first_seq)) STRICT;
CREATE TABLE entry (
  id BLOB PRIMARY KEY, org TEXT NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL,
  rtype TEXT, record TEXT, version INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE fence (org TEXT PRIMARY KEY, openings INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE frame (
  fid INTEGER PRIMARY KEY, device TEXT NOT NULL, counter INTEGER NOT NULL, binding BLOB NOT NULL, patient TEXT NOT NULL,
  received_at INTEGER NOT NULL, measured_at INTEGER NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL,
  kind INTEGER NOT NULL DEFAULT -1) STRICT;
CREATE UNIQUE INDEX frame_counter ON frame (device, counter);
CREATE INDEX frame_patient ON frame (patient, kind, measured_at);
CREATE INDEX frame_device ON frame (device, measured_at);
CREATE INDEX frame_digest ON frame (digest);

CREATE TABLE attachment (digest BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE wrapped_key (
  patient TEXT NOT NULL, org TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (patient, org)) STRICT, WITHOUT ROWID;
";

/// What the table of versions lacked before.
const GATHERED: &str = "
ALTER TABLE version ADD COLUMN gathered BLOB;
CREATE INDEX version_gathered ON version (entry) WHERE gathered IS NOT NULL;
";

/// What the table of frames lacked before. Of those that are there nothing is known: they may be of every kind.
const KINDS: &str = "
ALTER TABLE frame ADD COLUMN kind INTEGER NOT NULL DEFAULT -1;
DROP INDEX frame_patient;
CREATE INDEX frame_patient ON frame (patient, kind, measured_at);
";

/// What stays of frames that were let go: one is found by its digest, and those of a batch by binding and counter.
const LET_GO: &str = "
CREATE TABLE let_go (
  binding BLOB NOT NULL, counter INTEGER NOT NULL, digest BLOB NOT NULL, patient TEXT NOT NULL,
  PRIMARY KEY (binding, counter)) STRICT, WITHOUT ROWID;
CREATE INDEX let_go_digest ON let_go (digest);
";

/// What versions have in common; see `template`. Its place among the values is the complement of its number: below zero, where no version stands.
const TEMPLATES: &str = "
CREATE TABLE template (number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE, sample BLOB NOT NULL) STRICT;
ALTER TABLE version ADD COLUMN template INTEGER;
CREATE INDEX version_template ON version (template) WHERE template IS NOT NULL;
";

/// Search values are filed under the version (`vid`), so that they go with it, or under a template, and indexed by value. `about` is the
/// patient that the record's references name: empty for none and for types that have templates, `*` when they do not name exactly one; see `select`. Values of one version with the
/// same `part` that is not negative stand together in a composite. `words` says in words what a token is, normalised, one on each line.
/// Addresses are tokens without system. Quantities and common tokens have no index of their own: a search for one alone walks through its
/// type.
const VALUES: &str = "
CREATE TABLE token (
  vid INTEGER NOT NULL, param TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL, part INTEGER NOT NULL, words TEXT NOT NULL,
  rtype TEXT NOT NULL, about TEXT NOT NULL, common INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (vid, param, code, system, part)) STRICT, WITHOUT ROWID;
CREATE INDEX token_code ON token (rtype, param, code, about) WHERE common = 0;
CREATE TABLE text (
  vid INTEGER NOT NULL, param TEXT NOT NULL, exact TEXT NOT NULL, norm TEXT NOT NULL, part INTEGER NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, exact, part)) STRICT, WITHOUT ROWID;
CREATE INDEX text_norm ON text (rtype, param, norm);
CREATE TABLE date (
  vid INTEGER NOT NULL, param TEXT NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, part INTEGER NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, lo, hi, part)) STRICT, WITHOUT ROWID;
CREATE INDEX date_lo ON date (rtype, param, lo, hi);
CREATE TABLE reference (
  vid INTEGER NOT NULL, param TEXT NOT NULL, target TEXT NOT NULL, target_type TEXT NOT NULL, part INTEGER NOT NULL,
  rtype TEXT NOT NULL, PRIMARY KEY (vid, param, target, target_type, part)) STRICT, WITHOUT ROWID;
CREATE INDEX reference_target ON reference (target, rtype, param, target_type);
CREATE TABLE quantity (
  vid INTEGER NOT NULL, param TEXT NOT NULL, lo REAL NOT NULL, hi REAL NOT NULL, system TEXT NOT NULL, code TEXT NOT NULL,
  unit TEXT NOT NULL, part INTEGER NOT NULL, rtype TEXT NOT NULL,
  PRIMARY KEY (vid, param, lo, hi, system, code, unit, part)) STRICT, WITHOUT ROWID;
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
    bring_up(&mut connection)?;
    format(&connection)?;
    Ok(connection)
}

/// Chooses how the file is written, and makes the tables if nobody has.
fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Until the log has a thread that moves it; see `log`.
    connection.pragma_update(None, "wal_autocheckpoint", log::PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    // What is erased must not be found in the free space of the file; nor what it was found by before its last version.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(VALUES)?;
        transaction.execute_batch(LET_GO)?;
        transaction.execute_batch(TEMPLATES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()
}

/// Brings a database of an earlier format to this one. All of it or nothing: who stops it begins again.
fn bring_up(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID || ![FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5].contains(&format) {
        return Ok(());
    }
    if [FORMAT_1, FORMAT_2].contains(&format) {
        transaction.execute_batch(GATHERED).map_err(failed)?;
        let values = match format {
            FORMAT_1 => values::file_anew(&transaction, VALUES),
            _ => values::mark_common(&transaction),
        };
        values.map_err(failed)?;
    }
    if [FORMAT_1, FORMAT_2, FORMAT_3].contains(&format) {
        transaction.execute_batch(KINDS).map_err(failed)?;
    }
    if format != FORMAT_5 {
        transaction.execute_batch(LET_GO).map_err(failed)?;
    }
    transaction.execute_batch(TEMPLATES).map_err(failed)?;
    transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Opens the database to move its write-ahead log.
pub(super) fn open_log(path: &Path) -> Result<Connection, OpenError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
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
        // Once there are statistics, a statement would be planned anew for every value that is bound; which index drives is said in `select`.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
    use crate::{
        readers::{FrameFilter, FrameQuery, Kinds},
        search::{Criterion, Search},
    };
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

    /// The tables of values as format 1 had them.
    const VALUES_1: &str = "
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
        CREATE INDEX reference_target ON reference (target, rtype, param, target_type);";

    const PRESSURE: &str = r#"{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p"},
        "code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}],"text":"Blood pressure"},"effectiveDateTime":"2026-11-28",
        "component":[{"code":{"coding":[{"code":"8480-6"}]},"valueQuantity":{"value":120,"unit":"mmHg"}}]}"#;

    /// The tables of everything but search values as formats 1 and 2 had them.
    fn tables_before() -> String {
        let index = TABLES.lines().find(|line| line.contains("version_gathered")).unwrap();
        tables_without_kinds().replace(index, "").replace(", gathered BLOB", "")
    }

    /// The same as format 3 had them.
    fn tables_without_kinds() -> String {
        TABLES
            .replace(",\n  kind INTEGER NOT NULL DEFAULT -1", "")
            .replace("(patient, kind, measured_at)", "(patient, measured_at)")
    }

    /// A database of a format, with the tables that it had.
    fn of_format(path: &Path, format: i64, tables: &str) -> Connection {
        let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).unwrap();
        db.execute_batch(tables).unwrap();
        db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        db.pragma_update(None, "user_version", format).unwrap();
        db
    }

    /// A database of format 1: a current record, a version before it, a deletion, and a current one that is no JSON.
    fn of_format_1(path: &Path) -> Connection {
        let db = of_format(path, FORMAT_1, &format!("{}{VALUES_1}", tables_before()));
        for (current, id, version, deleted, bytes) in
            [(0, "a", 1, 0, PRESSURE), (1, "a", 2, 0, PRESSURE), (1, "b", 1, 1, PRESSURE), (1, "c", 1, 0, "no JSON")]
        {
            db.execute(
                "INSERT INTO version (current, rtype, id, version, deleted, written_at, author, entry, salt, tag, label, bytes) \
                 VALUES (?1, 'Observation', ?2, ?3, ?4, 0, 'ems', x'', x'', x'', '', CAST(?5 AS BLOB))",
                rusqlite::params![current, id, version, deleted, bytes],
            )
            .unwrap();
        }
        db.execute("INSERT INTO token VALUES (2, 'combo-code', '85354-9', 'http://loinc.org', 'Observation', 'p')", [])
            .unwrap();
        db
    }

    /// Every value with its version, as text.
    fn filed(db: &Connection) -> Vec<String> {
        let mut found = Vec::new();
        for (table, value) in [
            ("token", "system || '|' || code || '#' || part || words || about"),
            ("text", "exact"),
            ("date", "lo || '..' || hi"),
            ("reference", "target_type || '/' || target"),
            ("quantity", "lo || '..' || hi || unit || '#' || part"),
        ] {
            let mut statement =
                db.prepare(&format!("SELECT vid || ' ' || param || ' ' || {value} FROM {table}")).unwrap();
            found.extend(statement.query_map([], |row| row.get(0)).unwrap().map(Result::<String, _>::unwrap));
        }
        found.sort();
        found
    }

    #[test]
    fn a_database_of_the_format_before_is_opened_with_its_values_filed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        drop(of_format_1(&path));
        for _ in 0..2 {
            let db = open_writer(&path).unwrap();
            assert_eq!(
                filed(&db),
                [
                    "2 code http://loinc.org|85354-9#0blood pressurep",
                    "2 component-code |8480-6#1p",
                    "2 component-value-quantity 120.0..120.0mmHg#1",
                    "2 date 1795824000000..1795910400000",
                    "2 patient Patient/p",
                    "2 status |final#0p",
                    "2 subject Patient/p",
                ]
            );
            assert_eq!(check_format(&path), Ok(()));
        }
    }

    /// In format 2 the index had every token.
    #[test]
    fn a_database_of_format_2_keeps_its_values_and_the_index_loses_the_common_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        let values = VALUES.replace(" common INTEGER NOT NULL DEFAULT 0,", "").replace(" WHERE common = 0", "");
        let db = of_format(&path, FORMAT_2, &(tables_before() + &values));
        for (code, about) in [("R", "p"), ("D", "p"), ("R", "")] {
            let sql =
                "INSERT INTO token VALUES ((SELECT count(*) FROM token), 'action', ?1, 's', 0, '', 'AuditEvent', ?2)";
            db.execute(sql, [code, about]).unwrap();
        }
        let before = filed(&db);
        drop(db);
        for _ in 0..2 {
            let db = open_writer(&path).unwrap();
            assert_eq!((filed(&db), check_format(&path)), (before.clone(), Ok(())));
            let found =
                "SELECT group_concat(code) FROM token INDEXED BY token_code WHERE rtype = 'AuditEvent' AND common = 0";
            assert_eq!(db.query_row(found, [], |row| row.get(0)), Ok("D".to_owned()));
        }
    }

    /// Nothing is known of frames that were there before: they are of every kind.
    #[test]
    fn a_database_of_format_3_keeps_its_frames_and_finds_them_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        let db = of_format(&path, FORMAT_3, &format!("{}{VALUES}", tables_without_kinds()));
        for counter in 1..=3 {
            let sql = "INSERT INTO frame (device, counter, binding, patient, received_at, measured_at, digest, bytes) \
                VALUES ('d', ?1, zeroblob(16), 'p', ?1, ?1, zeroblob(32), x'd2')";
            db.execute(sql, [counter]).unwrap();
        }
        drop(db);
        for _ in 0..2 {
            let db = open_writer(&path).unwrap();
            assert_eq!(check_format(&path), Ok(()));
            let kinds = Kinds { any: 4, wide: 0, wider_ms: 0 };
            let found = crate::sqlite::frames(&db, &FrameQuery::of(FrameFilter::Kinds("p".into(), kinds))).unwrap();
            assert_eq!(found.frames.iter().map(|frame| frame.counter).collect::<Vec<_>>(), [1, 2, 3]);
        }
    }

    #[test]
    fn a_database_of_format_4_gets_a_place_for_what_stays_of_frames() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        drop(of_format(&path, FORMAT_4, &format!("{TABLES}{VALUES}")));
        for _ in 0..2 {
            let db = open_writer(&path).unwrap();
            assert_eq!(check_format(&path), Ok(()));
            assert_eq!(db.query_row("SELECT count(*) FROM let_go", [], |row| row.get::<_, i64>(0)), Ok(0));
        }
    }

    /// The tokens of its audit events are filed about their patients, as in no later format: they are found as they were.
    #[test]
    fn a_database_of_format_5_keeps_its_versions_which_have_no_template() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        let db = of_format(&path, FORMAT_5, &format!("{TABLES}{VALUES}{LET_GO}"));
        let salt = "zeroblob(32)";
        db.execute_batch(&format!(
            "INSERT INTO version (current, rtype, id, version, deleted, written_at, patient, author, entry, salt, tag, label, bytes) \
             VALUES (1, 'AuditEvent', 'a', 1, 0, 7, 'p', 'ems', zeroblob(16), {salt}, {salt}, 'N', CAST('{{}}' AS BLOB)); \
             INSERT INTO token VALUES (1, 'outcome', '8', '', 0, '', 'AuditEvent', 'p', 0); \
             INSERT INTO reference VALUES (1, 'patient', 'p', 'Patient', 0, 'AuditEvent');"
        ))
        .unwrap();
        drop(db);
        for _ in 0..2 {
            let db = open_writer(&path).unwrap();
            assert_eq!(check_format(&path), Ok(()));
            let read = crate::sqlite::read(&db, "AuditEvent", "a").unwrap().unwrap();
            assert_eq!((read.bytes.as_slice(), read.written_at.0), (b"{}".as_slice(), 7));
            let of_patient = Search::of("AuditEvent").with(Criterion::reference("patient", "Patient", "p"));
            for search in [of_patient.clone(), of_patient.with(Criterion::code("outcome", "8"))] {
                assert_eq!(crate::sqlite::search(&db, &search).unwrap().found.rows, std::slice::from_ref(&read));
            }
        }
    }

    #[test]
    fn who_is_stopped_while_values_are_filed_anew_leaves_the_format_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        let mut db = of_format_1(&path);
        let transaction = db.transaction().unwrap();
        values::file_anew(&transaction, VALUES).unwrap();
        drop(transaction);
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let tokens: i64 = db.query_row("SELECT count(*) FROM token", [], |row| row.get(0)).unwrap();
        assert_eq!((version, tokens), (1, 1));
    }

    #[test]
    fn a_database_of_a_later_format_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.db");
        let db = of_format_1(&path);
        db.pragma_update(None, "user_version", FORMAT + 1).unwrap();
        assert!(matches!(open_writer(&path), Err(OpenError::Format { .. })));
        assert!(matches!(check_format(&path), Err(OpenError::Format { .. })));
    }
}
