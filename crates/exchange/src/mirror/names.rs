//! What records are called: learnt with each write, and written down with the next blocks.

use super::{Inner, Mirror, MirrorError, Named, lock};
use record::{Digest, Pseudonym, RecordTag};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::{Duration, Instant};

/// As soon as so many wait, they are written down without a block.
const LEARNT_MAX: usize = 4_096;
/// Names that are kept at most while they cannot be written down: the audit finds the others again.
const LEARNT_KEPT_MAX: usize = 65_536;
/// When names have waited so long, the next one has them written down without a block.
const LEARNT_AGE_MAX: Duration = Duration::from_secs(2);

/// Names that are not in the file yet. When the process ends without a goodbye they are found again by the next audit.
#[derive(Default)]
pub(super) struct Learnt {
    names: Vec<Named>,
    /// Those that whoever has the writer is writing down.
    writing: Vec<Named>,
    since: Option<Instant>,
}

impl Learnt {
    fn is_due(&self) -> bool {
        self.names.len() >= LEARNT_MAX || self.since.is_some_and(|since| since.elapsed() >= LEARNT_AGE_MAX)
    }

    /// The first that fits.
    fn find(&self, fits: impl Fn(&Named) -> bool) -> Option<Named> {
        self.writing.iter().chain(&self.names).find(|named| fits(named)).cloned()
    }
}

impl Mirror {
    /// Remembers what records are called, so that a record which vanishes from the database can still be named and given back.
    pub(crate) async fn learn_names(&self, names: Vec<Named>) -> Result<(), MirrorError> {
        let due = {
            let mut learnt = lock(&self.inner.learnt);
            learnt.since.get_or_insert_with(Instant::now);
            learnt.names.extend(names);
            learnt.is_due()
        };
        if due { self.write_names().await } else { Ok(()) }
    }

    /// Writes down what was learnt, so that questions over many names find it.
    pub(crate) async fn write_names(&self) -> Result<(), MirrorError> {
        {
            let learnt = lock(&self.inner.learnt);
            if learnt.names.is_empty() && learnt.writing.is_empty() {
                return Ok(());
            }
        }
        let inner = self.inner.clone();
        let write = move || {
            let mut writer = lock(&inner.writer);
            let names = inner.take_learnt();
            let mut run = || -> rusqlite::Result<()> {
                let tx = writer.transaction()?;
                insert(&tx, &names)?;
                tx.commit()
            };
            let written = run();
            inner.learnt_is_written(written.is_ok());
            written.map_err(|source| MirrorError::Database { path: inner.path.clone(), source })
        };
        tokio::task::spawn_blocking(write).await.map_err(|_| MirrorError::Closed)?
    }

    /// The tag of the record with this name, if this organisation ever saw it.
    pub(crate) async fn tag(&self, name: String) -> Result<Option<RecordTag>, MirrorError> {
        // Memory first: what is written down between the two looks is then found in both.
        let learnt = lock(&self.inner.learnt).find(|named| named.name == name);
        let written = self
            .read(move |c| {
                c.prepare_cached("SELECT tag FROM name WHERE name = ?1")?
                    .query_row([name], |row| Ok(RecordTag(Digest(row.get(0)?))))
                    .optional()
            })
            .await?;
        Ok(written.or(learnt.map(|named| named.tag)))
    }

    /// Names of Devices behind `after`, in order, the first `limit` of those that are written down.
    pub(crate) async fn devices(&self, after: Option<String>, limit: usize) -> Result<Vec<String>, MirrorError> {
        self.read(move |c| {
            // What follows the slash is the next character.
            let sql = "SELECT name FROM name WHERE name > ?1 AND name < 'Device0' ORDER BY name LIMIT ?2";
            let after = after.unwrap_or_else(|| "Device/".to_owned());
            c.prepare_cached(sql)?.query_map(params![after, limit as i64], |row| row.get(0))?.collect()
        })
        .await
    }

    /// The Patients that records under a pseudonym are about, as far as their names are written down; the first `limit`.
    pub(crate) async fn patients_under(&self, pseudonym: Pseudonym, limit: usize) -> Result<Vec<String>, MirrorError> {
        self.read(move |c| {
            let sql = "SELECT DISTINCT n.patient FROM version v JOIN name n ON n.tag = v.tag \
                       WHERE v.patient = ?1 AND n.patient IS NOT NULL LIMIT ?2";
            c.prepare_cached(sql)?.query_map(params![pseudonym.0.as_ref(), limit as i64], |row| row.get(0))?.collect()
        })
        .await
    }

    /// What a record is called, if this organisation ever saw it.
    pub(crate) async fn name(&self, tag: RecordTag) -> Result<Option<String>, MirrorError> {
        Ok(self.named(tag).await?.map(|named| named.name))
    }

    /// What a record is called and whom it is about, if this organisation ever saw it.
    pub(crate) async fn named(&self, tag: RecordTag) -> Result<Option<Named>, MirrorError> {
        let learnt = lock(&self.inner.learnt).find(|named| named.tag == tag);
        let written = self
            .read(move |c| {
                c.prepare_cached("SELECT name, patient FROM name WHERE tag = ?1")?
                    .query_row([tag.0.as_ref()], |row| Ok(Named { tag, name: row.get(0)?, patient: row.get(1)? }))
                    .optional()
            })
            .await?;
        Ok(written.or(learnt))
    }
}

impl Inner {
    /// What was learnt, for whoever has the writer and writes it down.
    pub(super) fn take_learnt(&self) -> Vec<Named> {
        let mut learnt = lock(&self.learnt);
        learnt.since = None;
        learnt.writing = std::mem::take(&mut learnt.names);
        learnt.writing.clone()
    }

    /// To be told before the writer is given back. What could not be written down is learnt still, the latest of it if there is too much.
    pub(super) fn learnt_is_written(&self, is_written: bool) {
        let mut learnt = lock(&self.learnt);
        let mut again = std::mem::take(&mut learnt.writing);
        if is_written {
            return;
        }
        again.append(&mut learnt.names);
        let too_many = again.len().saturating_sub(LEARNT_KEPT_MAX);
        learnt.names = again.split_off(too_many);
        learnt.since.get_or_insert_with(Instant::now);
    }
}

/// The first name of a record counts.
pub(super) fn insert(c: &Connection, names: &[Named]) -> rusqlite::Result<()> {
    let mut insert = c.prepare_cached("INSERT OR IGNORE INTO name (tag, name, patient) VALUES (?1, ?2, ?3)")?;
    for Named { tag, name, patient } in names {
        insert.execute(params![tag.0.as_ref(), name, patient])?;
    }
    Ok(())
}
