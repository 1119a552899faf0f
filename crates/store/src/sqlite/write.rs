//! The writing connection: one transaction for a group of puts, of which each is written or not, whatever becomes of the others, unless the disk fails.

use super::{
    log::{self, Log},
    schema, values,
};
use crate::{
    int64::int,
    put::{Expected, KEY_BYTES_MAX, NewVersion, Put, PutError, Unless},
    row::{EntryPlace, Frame, Row},
    seal::SealedSubmission,
    select::{Dialect, ids},
    store::OpenError,
    template::{self, Template},
};
use record::{Digest, OrgId};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{File, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

const TOO_LATE: &str = "a time that is too late";
/// How long a writer waits for its turn, and how often it asks.
const TURN_WAIT: Duration = Duration::from_secs(60);
const TURN_POLL: Duration = Duration::from_micros(250);

/// Names of templates that are remembered.
const TEMPLATES_MAX: usize = 8_192;

/// The one connection of this process that writes.
///
/// Writers of several processes take turns: who waits for the database's write lock holds the turn file's lock, so a process that
/// has just committed queues behind it instead of taking the write lock again and again.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) db: Connection,
    pub(super) log: Log,
    turn: File,
    /// Names of templates whose values this process has filed.
    templates: RefCell<HashSet<Digest>>,
}

/// The newest version of a record in the database.
#[derive(Debug, Clone, Copy)]
struct Newest {
    number: i64,
    vid: i64,
}

/// Whether everything that can stand against a put is known before anything of it is written: it takes nothing away, has no frames, of which
/// some may be there and others stand against it, and no two versions of one record.
fn is_looked_at_first(put: &Put) -> bool {
    let mut seen = HashSet::with_capacity(put.records.len());
    put.removals.is_empty()
        && put.frames.is_empty()
        && put.records.iter().all(|NewVersion { row, .. }| seen.insert((row.rtype.as_str(), row.id.as_str())))
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.end(&mut self.db);
    }
}

impl From<rusqlite::Error> for PutError {
    fn from(error: rusqlite::Error) -> Self {
        Self::NotWritten(error.to_string())
    }
}

impl Writer {
    pub(crate) fn open(path: &Path, before_writing: fn()) -> Result<Self, OpenError> {
        let mut turn = path.as_os_str().to_owned();
        turn.push("-turn");
        let turn = File::options().create(true).truncate(false).write(true).open(turn);
        let turn = turn.map_err(|error| OpenError::Database(error.to_string()))?;
        let mut db = schema::open_writer(path)?;
        let log = Log::start(path, &mut db, log::PAGES, before_writing)?;
        Ok(Self { db, log, turn, templates: RefCell::default() })
    }

    /// Which of the submissions the database has, decided for good.
    ///
    /// A process that was killed in a commit may have written all of it to the write-ahead log without telling the others. As long
    /// as one of them lives nobody sees it; after the last has gone the log is read anew, and it is there after all. The next write
    /// takes its place in the log, so what is missing here stays missing once this transaction, which writes, is committed.
    pub(crate) fn decide(&self, org: &OrgId, submissions: &[&SealedSubmission]) -> Result<Vec<bool>, PutError> {
        self.begin()?;
        let decided = (|| {
            let held = submissions.iter().map(|submission| self.holds(org, submission)).collect::<Result<_, _>>()?;
            let sql = "INSERT INTO fence (org, openings) VALUES (?1, 1) ON CONFLICT (org) DO UPDATE SET openings = openings + 1";
            self.db.prepare_cached(sql)?.execute([org.as_str()])?;
            self.commit()?;
            Ok(held)
        })();
        self.rollback();
        decided
    }

    fn holds(&self, org: &OrgId, submission: &SealedSubmission) -> rusqlite::Result<bool> {
        let Ok(first_seq) = i64::try_from(submission.first_seq) else { return Ok(false) };
        let mut statement = self.db.prepare_cached(
            "SELECT 1 FROM submission WHERE org = ?1 AND lane = ?2 AND first_seq = ?3 AND count = ?4 AND bytes = ?5",
        )?;
        statement.exists(params![org.as_str(), submission.lane, first_seq, submission.count, submission.bytes])
    }

    /// Begins a transaction that no other writer shares.
    pub(crate) fn begin(&self) -> Result<(), PutError> {
        let failed = |error: std::io::Error| PutError::NotWritten(error.to_string());
        let since = Instant::now();
        loop {
            match self.turn.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < TURN_WAIT => thread::sleep(TURN_POLL),
                Err(error) => return Err(failed(error.into())),
            }
        }
        let begun = self.db.execute_batch("BEGIN IMMEDIATE");
        self.turn.unlock().map_err(failed)?;
        Ok(begun?)
    }

    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        self.db.prepare_cached("COMMIT")?.execute([]).map(|_| ())
    }

    /// Undoes the transaction. A failure of it is one of the connection, which undoes it as well.
    pub(crate) fn rollback(&self) {
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "rollback failed");
        }
    }

    pub(crate) fn optimize(&self) -> rusqlite::Result<()> {
        self.db.execute_batch("ANALYZE; PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Inserts all of `put` but its ledger entries, or nothing of it.
    ///
    /// Most puts need no savepoint, for which SQLite copies each page before it is changed: what can stand against them is looked for before
    /// anything is written. An error after that is one of the disk and ends the whole transaction.
    pub(crate) fn insert(&self, put: &Put) -> Result<(), PutError> {
        put.conditions.iter().enumerate().try_for_each(|(index, unless)| self.check(index, unless))?;
        if is_looked_at_first(put) {
            let newest: Vec<_> = put.records.iter().map(|new| self.newest(new)).collect::<Result<_, _>>()?;
            let mut records = put.records.iter().zip(newest);
            let inserted = records
                .try_for_each(|(new, newest)| self.version(new, newest))
                .and_then(|()| self.attachments_and_keys(put));
            return inserted.inspect_err(|_| self.rollback());
        }
        self.db.prepare_cached("SAVEPOINT put")?.execute([])?;
        let inserted = self.insert_all(put);
        if inserted.is_err() && !self.db.is_autocommit() {
            self.db.prepare_cached("ROLLBACK TO put")?.execute([])?;
        }
        if !self.db.is_autocommit() {
            self.db.prepare_cached("RELEASE put")?.execute([])?;
        }
        inserted
    }

    /// Whether an error has ended the whole transaction.
    pub(crate) fn is_broken(&self) -> bool {
        self.db.is_autocommit()
    }

    fn insert_all(&self, put: &Put) -> Result<(), PutError> {
        put.removals.iter().try_for_each(|removal| self.remove(removal))?;
        put.records.iter().try_for_each(|new| self.version(new, self.newest(new)?))?;
        put.frames.iter().try_for_each(|frame| self.frame(frame))?;
        self.attachments_and_keys(put)
    }

    fn attachments_and_keys(&self, put: &Put) -> Result<(), PutError> {
        for attachment in &put.attachments {
            // A copy that somebody damaged is replaced.
            let sql = "INSERT INTO attachment (digest, bytes) VALUES (?1, ?2) \
                ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE bytes <> excluded.bytes";
            self.db.prepare_cached(sql)?.execute(params![attachment.digest.as_bytes(), attachment.bytes])?;
        }
        for key in &put.wrapped_keys {
            let sql = "INSERT INTO wrapped_key (patient, org, bytes) VALUES (?1, ?2, ?3) \
                ON CONFLICT (patient, org) DO UPDATE SET bytes = excluded.bytes";
            self.db.prepare_cached(sql)?.execute(params![key.patient, key.org.as_str(), key.bytes])?;
        }
        Ok(())
    }

    fn check(&self, index: usize, unless: &Unless) -> Result<(), PutError> {
        const SHOWN: i64 = 2;
        if unless.criteria.is_empty() {
            return Err(PutError::Invalid("a condition without criteria"));
        }
        let sql = ids(Dialect::Sqlite, &unless.rtype, &unless.criteria, SHOWN);
        let mut statement = self.db.prepare_cached(&sql.text)?;
        let found = statement.query_map(params_from_iter(sql.values), |columns| columns.get(0))?;
        let ids: Vec<String> = found.collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        Err(PutError::Matched { condition: index, rtype: unless.rtype.clone(), ids })
    }

    /// The newest version that there is of a record, once it is known that the new one may stand behind it.
    fn newest(&self, new: &NewVersion) -> Result<Option<Newest>, PutError> {
        let Row { rtype, id, version, .. } = &new.row;
        if rtype.is_empty() || id.is_empty() || rtype.len() > KEY_BYTES_MAX || id.len() > KEY_BYTES_MAX {
            return Err(PutError::Invalid("a type or id that is empty or too long"));
        }
        let number = int(*version, "a version number that is too large")?;
        int(new.row.written_at.0, TOO_LATE)?;
        template::check(new)?;
        let newest: Option<Newest> = self
            .db
            .prepare_cached(
                "SELECT version, vid FROM version WHERE rtype = ?1 AND id = ?2 ORDER BY version DESC LIMIT 1",
            )?
            .query_row(params![rtype, id], |columns| Ok(Newest { number: columns.get(0)?, vid: columns.get(1)? }))
            .optional()?;
        let found = newest.and_then(|newest| u64::try_from(newest.number).ok());
        let stands = match new.expected {
            Expected::New if *version != 1 => return Err(PutError::Invalid("a new record begins with version 1")),
            Expected::Version(before) if before.checked_add(1) != Some(*version) => {
                return Err(PutError::Invalid("a version number that does not follow the one expected"));
            }
            Expected::New => newest.is_none(),
            Expected::Version(before) => found == Some(before),
            Expected::Any => !self
                .db
                .prepare_cached("SELECT 1 FROM version WHERE rtype = ?1 AND id = ?2 AND version = ?3")?
                .exists(params![rtype, id, number])?,
        };
        if !stands {
            let (rtype, id) = (rtype.clone(), id.clone());
            return Err(PutError::Conflict { rtype, id, expected: new.expected, found });
        }
        Ok(newest)
    }

    fn version(&self, new: &NewVersion, newest: Option<Newest>) -> Result<(), PutError> {
        let Row { rtype, id, version, .. } = &new.row;
        let number = int(*version, "a version number that is too large")?;
        // Recovery may insert an old version below a newer one.
        let current = newest.is_none_or(|newest| newest.number < number);
        if let (true, Some(replaced)) = (current, newest) {
            self.retire(rtype, id, replaced.vid)?;
        }
        let vid = self.row(new, number, current)?;
        if current && !new.row.deleted {
            values::insert(&self.db, vid, rtype, &new.index)?;
        }
        Ok(())
    }

    /// Version `vid` is not current any more.
    fn retire(&self, rtype: &str, id: &str, vid: i64) -> Result<(), PutError> {
        self.db
            .prepare_cached("UPDATE version SET current = 0 WHERE rtype = ?1 AND id = ?2 AND current = 1")?
            .execute(params![rtype, id])?;
        Ok(values::take_away(&self.db, vid)?)
    }

    /// The place of a template, under which its values stand. Whoever damaged it, or its values before this process first used it, has
    /// damaged nothing for good: its name says what it is.
    fn template(&self, template: &Template) -> rusqlite::Result<i64> {
        let Template { name, rtype, sample, index } = template;
        let mut there = self.db.prepare_cached("SELECT number, sample = ?2 FROM template WHERE name = ?1")?;
        let found: Option<(i64, bool)> = there
            .query_row(params![name.as_bytes(), sample], |columns| Ok((columns.get(0)?, columns.get(1)?)))
            .optional()?;
        if let Some((number, true)) = found
            && number > 0
            && self.templates.borrow().contains(name)
        {
            return Ok(!number);
        }
        let number = match found {
            Some((number, is_sound)) if number > 0 => {
                if !is_sound {
                    tracing::error!(number, "a template of audit events was changed, and is filed anew");
                    let anew = "UPDATE template SET sample = ?2 WHERE number = ?1";
                    self.db.prepare_cached(anew)?.execute(params![number, sample])?;
                }
                number
            }
            _ => {
                // A number that is none of ours may be a version's place.
                self.db.prepare_cached("DELETE FROM template WHERE name = ?1")?.execute([name.as_bytes()])?;
                let new = "INSERT INTO template (name, sample) VALUES (?1, ?2)";
                self.db.prepare_cached(new)?.execute(params![name.as_bytes(), sample])?;
                self.db.last_insert_rowid()
            }
        };
        values::take_away(&self.db, !number)?;
        values::insert(&self.db, !number, rtype, index)?;
        let mut templates = self.templates.borrow_mut();
        if templates.len() >= TEMPLATES_MAX {
            templates.clear();
        }
        templates.insert(*name);
        Ok(!number)
    }

    fn row(&self, new: &NewVersion, number: i64, current: bool) -> Result<i64, PutError> {
        let row = &new.row;
        let template = new.template.as_deref().map(|template| self.template(template)).transpose()?;
        self.db
            .prepare_cached(
                "INSERT INTO version (current, rtype, id, version, deleted, written_at, patient, author, entry, salt, tag, \
                 pseudonym, label, bytes, gathered, template) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?
            .execute(params![
                current,
                row.rtype,
                row.id,
                number,
                row.deleted,
                int(row.written_at.0, TOO_LATE)?,
                row.patient,
                row.author.as_str(),
                row.entry.as_bytes(),
                row.salt.as_bytes(),
                row.tag.0.as_bytes(),
                row.pseudonym.as_ref().map(|pseudonym| pseudonym.0.as_bytes()),
                row.label,
                template::filed(new),
                row.gathered,
                template,
            ])?;
        Ok(self.db.last_insert_rowid())
    }

    fn frame(&self, frame: &Frame) -> Result<(), PutError> {
        let counter = int(frame.counter, "a frame counter that is too large")?;
        let inserted = self
            .db
            .prepare_cached(
                "INSERT INTO frame (device, counter, binding, patient, received_at, measured_at, kind, digest, bytes) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (device, counter) DO NOTHING",
            )?
            .execute(params![
                frame.device,
                counter,
                frame.binding.as_bytes(),
                frame.patient,
                int(frame.received_at.0, TOO_LATE)?,
                int(frame.measured_at.0, TOO_LATE)?,
                frame.kind,
                frame.digest.as_bytes(),
                frame.bytes,
            ])?;
        let same = inserted == 1
            || self
                .db
                .prepare_cached("SELECT 1 FROM frame WHERE device = ?1 AND counter = ?2 AND bytes = ?3")?
                .exists(params![frame.device, counter, frame.bytes])?;
        if same {
            Ok(())
        } else {
            Err(PutError::FrameConflict { device: frame.device.clone(), counter: frame.counter })
        }
    }

    /// Files the submissions of a group, and where each of its entries stands. The lane is ours alone, so whatever else stands at
    /// these numbers was not written by us.
    pub(crate) fn submissions(
        &self,
        org: &OrgId,
        sealed: &[SealedSubmission],
        entries: &[EntryPlace],
    ) -> Result<(), PutError> {
        for submission in sealed {
            self.db
                .prepare_cached(
                    "INSERT INTO submission (org, lane, first_seq, count, bytes) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (org, lane, first_seq) DO UPDATE SET count = excluded.count, bytes = excluded.bytes",
                )?
                .execute(params![
                    org.as_str(),
                    submission.lane,
                    int(submission.first_seq, "a sequence number that is too large")?,
                    submission.count,
                    submission.bytes
                ])?;
        }
        for entry in entries {
            let record = entry.record.as_ref();
            let version = record.map(|key| int(key.version, "a version number that is too large")).transpose()?;
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO entry (id, org, lane, seq, rtype, record, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    entry.id.as_bytes(),
                    entry.org.as_str(),
                    entry.lane,
                    int(entry.seq, "a sequence number that is too large")?,
                    record.map(|key| &key.rtype),
                    record.map(|key| &key.id),
                    version,
                ])?;
        }
        Ok(())
    }
}
