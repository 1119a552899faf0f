//! Accesses that can never be written: they are kept apart, and told of at every start.

use super::{AccessesError, log::Line};
use record::Digest;
use rusqlite::{Connection, Row, params};
use std::path::{Path, PathBuf};

const NAME: &str = "accesses.db";
/// The first table has those that waited before there was a log.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS access (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS aside (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, patient TEXT, salt BLOB NOT NULL, entry BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;";

/// The file that they are in.
pub(super) struct Aside {
    path: PathBuf,
    file: Connection,
}

impl Aside {
    pub(super) fn open(folder: &Path) -> Result<Self, AccessesError> {
        let path = folder.join(NAME);
        let open = || {
            let file = Connection::open(&path)?;
            file.pragma_update(None, "journal_mode", "WAL")?;
            file.pragma_update(None, "synchronous", "FULL")?;
            // What is deleted must not be found in the file's free space.
            file.pragma_update(None, "secure_delete", true)?;
            file.execute_batch(SCHEMA)?;
            Ok(file)
        };
        let file = open().map_err(|source| AccessesError::Database { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> AccessesError {
        AccessesError::Database { path: self.path.clone(), source }
    }

    /// Keeps one, under its number or the next that is free. The same again is no error.
    pub(super) fn put(&self, line: &Line) -> rusqlite::Result<()> {
        let sql = "INSERT INTO aside (number, id, patient, salt, entry, bytes) \
             SELECT coalesce((SELECT max(number) + 1 FROM aside WHERE number >= ?1), ?1), ?2, ?3, ?4, ?5, ?6 \
             WHERE NOT EXISTS (SELECT 1 FROM aside WHERE id = ?2 AND entry = ?5 AND bytes = ?6)";
        let Line { number, id, patient, salt, entry, bytes, .. } = line;
        let values = params![number, id, patient, salt.as_ref(), entry.as_slice(), bytes.as_slice()];
        self.file.execute(sql, values).map(|_| ())
    }

    /// Says how many there are.
    pub(super) fn tell(&self) -> Result<(), AccessesError> {
        let count = self.file.query_row("SELECT count(*) FROM aside", [], |row| row.get::<_, i64>(0));
        let aside = count.map_err(|source| self.failed(source))?;
        if aside > 0 {
            tracing::error!(aside, file = %self.path.display(), "accesses that can never be written lie in the table `aside` of the file");
        }
        Ok(())
    }

    /// Those that waited before there was a log. What is no such line is set aside.
    pub(super) fn waiting(&self) -> Result<Vec<Line>, AccessesError> {
        let read = || -> rusqlite::Result<Vec<Line>> {
            let wrong = "INSERT INTO aside (id, patient, salt, entry, bytes) \
                         SELECT id, patient, salt, entry, bytes FROM access WHERE length(salt) <> 32";
            self.file.execute(wrong, [])?;
            let sql =
                "SELECT number, id, patient, salt, entry, bytes FROM access WHERE length(salt) = 32 ORDER BY number";
            self.file.prepare(sql)?.query_map([], line)?.collect()
        };
        read().map_err(|source| self.failed(source))
    }

    /// They are in the log, or set aside: nothing of them stays here.
    pub(super) fn have_moved(&self) -> Result<(), AccessesError> {
        let moved = self.file.execute_batch("DELETE FROM access; PRAGMA wal_checkpoint(TRUNCATE)");
        moved.map_err(|source| self.failed(source))
    }
}

fn line(columns: &Row<'_>) -> rusqlite::Result<Line> {
    let number = columns.get(0)?;
    Ok(Line {
        number,
        after: number - 1,
        id: columns.get(1)?,
        patient: columns.get(2)?,
        salt: Digest(columns.get(3)?),
        entry: columns.get::<_, Vec<u8>>(4)?.into(),
        bytes: columns.get::<_, Vec<u8>>(5)?.into(),
    })
}
