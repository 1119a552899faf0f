//! What the mirror is asked about versions of records.

use super::{FinalVersion, Mirror, MirrorError, Named, Placed, signed, unsigned};
use record::{Commitment, Digest, Id16, Pseudonym, RecordTag, RecordType, TimeMs};
use rusqlite::{OptionalExtension, params, types::Type};

/// Entries of the log that are looked at together for a history.
const SPAN_LEN: i64 = 20_000;

const SELECT_VERSION: &str = "SELECT tag, version, commitment, org, record_type, deleted, patient, time, entry_id, fhir_type, copy, wrapped_key FROM version";

/// The latest versions of a patient's records; of a type, which is bound, where one is named.
fn select_live(rtype: Option<&str>) -> String {
    // There may be a thousand audit events for each record: the index by type leaves them out.
    let of_type = match rtype {
        None => "?2 IS NULL",
        Some("AuditEvent") => "fhir_type = ?2",
        Some(_) => "fhir_type = ?2 AND fhir_type <> 'AuditEvent'",
    };
    format!(
        "{SELECT_VERSION} v WHERE patient = ?1 AND {of_type}
         AND version = (SELECT max(version) FROM version w WHERE w.tag = v.tag)"
    )
}

impl Mirror {
    /// The version of a record, if the ledger has it.
    pub(crate) async fn version(&self, tag: RecordTag, version: u64) -> Result<Option<FinalVersion>, MirrorError> {
        Ok(self.versions(vec![(tag, version)]).await?.pop().flatten())
    }

    /// The latest version of each of `tags`, in the same order.
    pub(crate) async fn heads(&self, tags: Vec<RecordTag>) -> Result<Vec<Option<FinalVersion>>, MirrorError> {
        let moment = self.inner.lately.moment();
        let mut heads: Vec<_> = tags.iter().map(|tag| self.inner.lately.head(tag)).collect();
        let missing: Vec<RecordTag> =
            tags.iter().zip(&heads).filter(|(_, head)| head.is_none()).map(|(tag, _)| *tag).collect();
        if missing.is_empty() {
            return Ok(heads);
        }
        let found: Vec<Option<FinalVersion>> = self
            .read(move |c| {
                let mut select =
                    c.prepare_cached(&format!("{SELECT_VERSION} WHERE tag = ?1 ORDER BY version DESC LIMIT 1"))?;
                missing.iter().map(|tag| select.query_row([tag.0.as_ref()], version_row).optional()).collect()
            })
            .await?;
        self.inner.lately.keep(moment, found.iter().flatten().cloned());
        for (head, found) in heads.iter_mut().filter(|head| head.is_none()).zip(found) {
            *head = found;
        }
        Ok(heads)
    }

    /// The exact versions asked for, in the same order.
    pub(crate) async fn versions(
        &self,
        wanted: Vec<(RecordTag, u64)>,
    ) -> Result<Vec<Option<FinalVersion>>, MirrorError> {
        let head =
            |(tag, version): &(RecordTag, u64)| self.inner.lately.head(tag).filter(|head| head.version == *version);
        let mut versions: Vec<_> = wanted.iter().map(head).collect();
        let missing: Vec<(RecordTag, u64)> =
            wanted.into_iter().zip(&versions).filter(|(_, known)| known.is_none()).map(|(wanted, _)| wanted).collect();
        if missing.is_empty() {
            return Ok(versions);
        }
        let found: Vec<Option<FinalVersion>> = self
            .read(move |c| {
                let mut select = c.prepare_cached(&format!("{SELECT_VERSION} WHERE tag = ?1 AND version = ?2"))?;
                missing
                    .iter()
                    .map(|(tag, version)| {
                        select.query_row(params![tag.0.as_ref(), signed(*version)], version_row).optional()
                    })
                    .collect()
            })
            .await?;
        for (version, found) in versions.iter_mut().filter(|version| version.is_none()).zip(found) {
            *version = found;
        }
        Ok(versions)
    }

    /// Versions of a record below `before`, the latest first.
    pub(crate) async fn versions_below(
        &self,
        tag: RecordTag,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<FinalVersion>, MirrorError> {
        let before = before.map_or(i64::MAX, signed);
        self.read(move |c| {
            c.prepare_cached(&format!(
                "{SELECT_VERSION} WHERE tag = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3"
            ))?
            .query_map(params![tag.0.as_ref(), before, limit as i64], version_row)?
            .collect()
        })
        .await
    }

    /// Versions of the records of a type, or of all types but the audit trail, below an index of the log, the latest first. Looks at
    /// [`SPAN_LEN`] entries of the log at most, and says where it goes on.
    pub(crate) async fn latest(
        &self,
        below: Option<u64>,
        rtype: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Placed>, Option<u64>), MirrorError> {
        self.write_names().await?;
        self.read(move |c| {
            let below = match below {
                Some(below) => signed(below),
                None => c.query_row("SELECT coalesce(max(idx), -1) + 1 FROM version", [], |row| row.get(0))?,
            };
            let from = below.saturating_sub(SPAN_LEN).max(0);
            let columns = placed_columns();
            // The type stands in the ledger where the policy lets it show, and in the name where this organisation saw the record; of
            // others it is not known yet.
            let of_type = match &rtype {
                Some(_) => {
                    "(fhir_type = ?4 OR (fhir_type IS NULL AND NOT EXISTS
                      (SELECT 1 FROM name WHERE name.tag = version.tag AND NOT (name >= ?4 || '/' AND name < ?4 || '0'))))"
                }
                None => "?4 IS NULL AND fhir_type IS NOT 'AuditEvent'",
            };
            let sql = format!("{columns} WHERE idx >= ?1 AND idx < ?2 AND {of_type} ORDER BY idx DESC LIMIT ?3");
            let found: Vec<Placed> = c
                .prepare_cached(&sql)?
                .query_map(params![from, below, limit as i64, rtype], placed_row)?
                .collect::<rusqlite::Result<_>>()?;
            let next = match found.last() {
                Some(last) if found.len() == limit => last.index,
                _ => unsigned(from),
            };
            Ok((found, (next > 0).then_some(next)))
        })
        .await
    }

    /// Versions of records, the audit trail left out, above an index of the log and up to another one, the earliest first; and the index up to
    /// which they are all.
    pub(crate) async fn later(
        &self,
        above: Option<u64>,
        until: u64,
        limit: usize,
    ) -> Result<(Vec<Placed>, u64), MirrorError> {
        self.write_names().await?;
        self.read(move |c| {
            let sql = format!(
                "{} WHERE idx > ?1 AND idx <= ?2 AND fhir_type IS NOT 'AuditEvent' ORDER BY idx LIMIT ?3",
                placed_columns()
            );
            let above = above.map_or(-1, signed);
            let found: Vec<Placed> = c
                .prepare_cached(&sql)?
                .query_map(params![above, signed(until), limit as i64], placed_row)?
                .collect::<rusqlite::Result<_>>()?;
            let through = match found.last() {
                Some(last) if found.len() == limit => last.index,
                _ => until,
            };
            Ok((found, through))
        })
        .await
    }

    /// The index of the last entry of the log; none when there is none.
    pub(crate) async fn last_index(&self) -> Result<Option<u64>, MirrorError> {
        self.read(|c| c.query_row("SELECT max(idx) FROM entry", [], |row| row.get::<_, Option<i64>>(0)))
            .await
            .map(|index| index.map(unsigned))
    }

    /// The latest version, a deletion included, of every record filed under any of `pseudonyms`; of `types` alone, when some are named, and
    /// then those whose type does not show are left out.
    pub(crate) async fn live_records(
        &self,
        pseudonyms: Vec<Pseudonym>,
        types: &[&str],
    ) -> Result<Vec<FinalVersion>, MirrorError> {
        let types: Vec<String> = types.iter().map(|&rtype| rtype.to_owned()).collect();
        self.read(move |c| {
            let mut live = Vec::new();
            let mut add = |rtype: Option<&str>| -> rusqlite::Result<()> {
                let mut select = c.prepare_cached(&select_live(rtype))?;
                for pseudonym in &pseudonyms {
                    for row in select.query_map(params![pseudonym.0.as_ref(), rtype], version_row)? {
                        live.push(row?);
                    }
                }
                Ok(())
            };
            if types.is_empty() {
                add(None)?;
            }
            types.iter().try_for_each(|rtype| add(Some(rtype)))?;
            Ok(live)
        })
        .await
    }

    /// The latest version, a deletion included, of every Consent filed under any of `pseudonyms`.
    pub(crate) async fn consents(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<FinalVersion>, MirrorError> {
        if !self.inner.lately.has_consents(&pseudonyms) {
            return Ok(Vec::new());
        }
        self.read(move |c| {
            let sql = format!(
                "{SELECT_VERSION} v WHERE patient = ?1 AND fhir_type = 'Consent'
                 AND version = (SELECT max(version) FROM version w WHERE w.tag = v.tag)"
            );
            let mut select = c.prepare_cached(&sql)?;
            let mut consents = Vec::new();
            for pseudonym in &pseudonyms {
                for row in select.query_map([pseudonym.0.as_ref()], version_row)? {
                    consents.push(row?);
                }
            }
            Ok(consents)
        })
        .await
    }

    /// All versions of all records, a page at a time in order of (tag, version): those after `after`, of entries below an index of the log
    /// where one is named.
    pub(crate) async fn sweep(
        &self,
        after: Option<(RecordTag, u64)>,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(FinalVersion, Option<String>)>, MirrorError> {
        self.write_names().await?;
        let below = below.map_or(i64::MAX, signed);
        let (tag, version) = after.map_or((Vec::new(), -1), |(tag, version)| (tag.0.0.to_vec(), signed(version)));
        self.read(move |c| {
            let columns = SELECT_VERSION
                .replace(" FROM version", ", (SELECT name FROM name WHERE name.tag = version.tag) FROM version");
            c.prepare_cached(&format!(
                "{columns} WHERE (tag, version) > (?1, ?2) AND idx < ?4 ORDER BY tag, version LIMIT ?3"
            ))?
            .query_map(params![tag, version, limit as i64, below], |row| Ok((version_row(row)?, row.get(12)?)))?
            .collect()
        })
        .await
    }

    /// Every version that enrolled a patient: it carries a wrapped patient key.
    pub(crate) async fn enrolments(&self) -> Result<Vec<FinalVersion>, MirrorError> {
        self.read(|c| {
            c.prepare_cached(&format!("{SELECT_VERSION} WHERE wrapped_key IS NOT NULL"))?
                .query_map([], version_row)?
                .collect()
        })
        .await
    }
}

/// The columns of [`placed_row`].
fn placed_columns() -> String {
    SELECT_VERSION.replace(
        " FROM version",
        ", idx, (SELECT name FROM name WHERE name.tag = version.tag),
         (SELECT patient FROM name WHERE name.tag = version.tag) FROM version",
    )
}

fn placed_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Placed> {
    let version = version_row(row)?;
    let (name, patient) = (row.get::<_, Option<String>>(13)?, row.get(14)?);
    let named = name.map(|name| Named { tag: version.tag, name, patient });
    Ok(Placed { index: unsigned(row.get(12)?), place: 0, version, named })
}

fn version_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FinalVersion> {
    let org: String = row.get(3)?;
    let record_type: u8 = row.get(4)?;
    Ok(FinalVersion {
        tag: RecordTag(Digest(row.get(0)?)),
        version: unsigned(row.get(1)?),
        commitment: Commitment(Digest(row.get(2)?)),
        org: org.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(e)))?,
        record_type: *RecordType::ALL
            .get(record_type as usize)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(4, record_type.into()))?,
        deleted: row.get(5)?,
        patient: row.get::<_, Option<[u8; 32]>>(6)?.map(|bytes| Pseudonym(Digest(bytes))),
        time: TimeMs(unsigned(row.get(7)?)),
        entry: Id16(row.get(8)?),
        fhir_type: row.get(9)?,
        copy: row.get::<_, Option<[u8; 32]>>(10)?.map(Digest),
        wrapped_key: row.get::<_, Option<[u8; 32]>>(11)?.map(Digest),
    })
}

#[cfg(test)]
mod tests {
    use super::super::connect;
    use super::*;
    use rusqlite::StatementStatus;

    /// Each search planned this statement again for each patient and type, which took longer than to answer it: a value that was bound might
    /// have meant an index of other rows.
    #[test]
    fn what_the_ledger_has_of_a_patient_is_planned_once_for_all_patients_and_types() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("mirror.db")).unwrap();
        connection.execute_batch(super::super::SCHEMA).unwrap();
        for (kind, index) in [("Condition", "version_type"), ("AuditEvent", "version_patient")] {
            let sql = select_live(Some(kind));
            let mut select = connection.prepare(&sql).unwrap();
            for patient in 0..5u8 {
                for rtype in ["Condition", "Observation", "AuditEvent"] {
                    assert!(!select.exists(params![[patient; 32], rtype]).unwrap());
                }
            }
            assert_eq!(select.get_status(StatementStatus::RePrepare), 0, "{kind}");
            let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut steps = explained.query_map(params![[0u8; 32], kind], |row| row.get::<_, String>(3)).unwrap();
            let step = steps.next().unwrap().unwrap();
            assert!(step.contains(&format!("USING INDEX {index} ")), "{step}");
        }
    }
}
