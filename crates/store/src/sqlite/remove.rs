//! Taking rows out: those that recovery found to be bad, and those of a patient that is erased.

use super::{values, write::Writer};
use crate::{
    extract::extract,
    put::{PutError, Removal},
    template::opened,
};
use record::Digest;
use rusqlite::{OptionalExtension, params};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long an erasure tries to empty the write-ahead log, and how often.
const EMPTIED_WITHIN: Duration = Duration::from_secs(5);
const EMPTIED_POLL: Duration = Duration::from_millis(20);

impl Writer {
    /// Takes out one version, or one frame. When it was the newest version, the one below becomes current and is found by its own values
    /// again.
    pub(super) fn remove(&self, removal: &Removal) -> Result<(), PutError> {
        let place = match removal {
            Removal::Version(key) => self
                .db
                .prepare_cached("SELECT vid FROM version WHERE rtype = ?1 AND id = ?2 AND version = ?3")?
                .query_row(params![key.rtype, key.id, i64::try_from(key.version).unwrap_or(i64::MAX)], |columns| {
                    columns.get(0)
                })
                .optional()?,
            Removal::Place(place) => i64::try_from(*place).ok(),
            Removal::LetGo(place) => {
                let stays = "INSERT OR IGNORE INTO let_go (binding, counter, digest, patient) \
                     SELECT binding, counter, digest, patient FROM frame WHERE fid = ?1";
                self.db.prepare_cached(stays)?.execute([*place])?;
                return self.remove(&Removal::Frame(*place));
            }
            Removal::Frame(place) => {
                self.db.prepare_cached("DELETE FROM frame WHERE fid = ?1")?.execute([*place])?;
                None
            }
        };
        let Some(vid) = place else { return Ok(()) };
        let newest_left: Option<(i64, bool)> = self
            .db
            .prepare_cached(
                "SELECT vid, current FROM version WHERE (rtype, id) = (SELECT rtype, id FROM version WHERE vid = ?1) AND vid <> ?1 \
                 ORDER BY version DESC LIMIT 1",
            )?
            .query_row([vid], |columns| Ok((columns.get(0)?, columns.get(1)?)))
            .optional()?;
        self.delete_version(vid)?;
        if let Some((vid, false)) = newest_left {
            self.promote(vid)?;
        }
        Ok(())
    }

    fn delete_version(&self, vid: i64) -> rusqlite::Result<()> {
        values::take_away(&self.db, vid)?;
        let delete = "DELETE FROM version WHERE vid = ?1 RETURNING template";
        let template = self.db.prepare_cached(delete)?.query_row([vid], |columns| columns.get(0)).optional()?;
        template.flatten().map_or(Ok(()), |place| self.leave_template(place))
    }

    /// Deletes a template with its values once no version has it: it may name somebody.
    fn leave_template(&self, place: i64) -> rusqlite::Result<()> {
        let has = "SELECT 1 FROM version INDEXED BY version_template WHERE template = ?1";
        if place >= 0 || self.db.prepare_cached(has)?.exists([place])? {
            return Ok(());
        }
        self.db.prepare_cached("DELETE FROM template WHERE number = ~?1")?.execute([place])?;
        values::take_away(&self.db, place)
    }

    fn promote(&self, vid: i64) -> Result<(), PutError> {
        self.db.prepare_cached("UPDATE version SET current = 1 WHERE vid = ?1")?.execute([vid])?;
        let row: (String, bool, Vec<u8>, Option<Vec<u8>>) = self
            .db
            .prepare_cached(
                "SELECT CAST(v.rtype AS TEXT), v.deleted <> 0, v.bytes, t.sample FROM version v \
                 LEFT JOIN template t ON t.number = ~v.template WHERE v.vid = ?1",
            )?
            .query_row([vid], |columns| Ok((columns.get(0)?, columns.get(1)?, columns.get(2)?, columns.get(3)?)))?;
        let (rtype, deleted, filed, sample) = row;
        let bytes = opened(&filed, sample.as_deref()).unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(resource) if !deleted => Ok(values::insert(&self.db, vid, &rtype, &extract(&rtype, &resource))?),
            // A deletion is found by nothing, and what is no JSON was not written by a gateway.
            _ => Ok(()),
        }
    }

    /// Deletes the rows of a patient from every table. Versions of other patients that the same records once had stay, and stay old.
    pub(crate) fn erase(&self, patient: &str, attachments: &[Digest]) -> Result<u64, PutError> {
        let versions: Vec<(i64, Vec<u8>)> = self
            .db
            .prepare_cached("SELECT vid, entry FROM version WHERE patient = ?1 OR (rtype = 'Patient' AND id = ?1)")?
            .query_map([patient], |columns| Ok((columns.get(0)?, columns.get(1)?)))?
            .collect::<Result<_, _>>()?;
        // An entry's place among the submissions stays; the name of its record goes.
        let forget = "UPDATE entry SET rtype = NULL, record = NULL, version = NULL WHERE id = ?1";
        for (vid, entry) in &versions {
            self.db.prepare_cached(forget)?.execute([entry])?;
            self.delete_version(*vid)?;
        }
        let mut rows = versions.len();
        for table in ["frame", "let_go", "wrapped_key"] {
            rows += self.db.prepare_cached(&format!("DELETE FROM {table} WHERE patient = ?1"))?.execute([patient])?;
        }
        for digest in attachments {
            rows += self.db.prepare_cached("DELETE FROM attachment WHERE digest = ?1")?.execute([digest.as_bytes()])?;
        }
        Ok(rows as u64)
    }

    /// Moves the write-ahead log into the database and empties its file, so that no earlier state of a page is left in it. A reader
    /// that stays on an earlier state for too long prevents it; the next erasure or closing does it then.
    pub(crate) fn overwrite_log(&self) {
        let _alone = self.log.pause();
        let since = Instant::now();
        let emptied = loop {
            let busy = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |columns| columns.get::<_, bool>(0));
            // Another gateway's thread may be moving the log, for which SQLite does not wait.
            match busy {
                Ok(true) if since.elapsed() < EMPTIED_WITHIN => thread::sleep(EMPTIED_POLL),
                done => break done,
            }
        };
        match emptied {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(
                    "somebody reads for long, or moves the write-ahead log: it keeps earlier states of erased rows for now"
                )
            }
            Err(error) => tracing::warn!(%error, "the write-ahead log could not be emptied after an erasure"),
        }
    }
}
