//! What the mirror is asked about entries of the log.

use super::{Erased, FinalEntry, Mirror, MirrorError, signed, unsigned};
use contract::{Body, Entry};
use record::{Digest, Id16, OrgId, Pseudonym, TimeMs};
use rusqlite::{OptionalExtension, params};

pub(super) const SELECT_ENTRY: &str = "SELECT idx, height, time, digest, bytes, lane, seq, refused FROM entry";

/// Entries from an index on, in order; of one kind, by the index of kinds.
fn select_entries(of_kind: bool) -> String {
    let kind = if of_kind { "AND kind = ?3 " } else { "" };
    format!("{SELECT_ENTRY} WHERE idx >= ?1 {kind}ORDER BY idx LIMIT ?2")
}

impl Mirror {
    /// Index that the next entry of the log will have.
    pub(crate) async fn next_index(&self) -> Result<u64, MirrorError> {
        self.read(|c| c.query_row("SELECT coalesce(max(idx), -1) + 1 FROM entry", [], |row| Ok(unsigned(row.get(0)?))))
            .await
    }

    /// Accesses that name the audit event of an earlier one of their organisation: what became of theirs, nobody can say.
    pub(crate) async fn repeated(&self) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(|c| {
            c.prepare_cached(&format!("{SELECT_ENTRY} WHERE idx IN (SELECT idx FROM repeated) ORDER BY idx"))?
                .query_map([], entry_row)?
                .collect()
        })
        .await
    }

    /// What final erasures are about.
    pub(crate) async fn erased(&self) -> Result<Erased, MirrorError> {
        let entries = self
            .read(|c| {
                c.prepare_cached(&format!("{SELECT_ENTRY} WHERE kind = 'custody' AND refused = 0"))?
                    .query_map([], entry_row)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        let mut erased = Erased::default();
        for entry in entries.iter().filter_map(|entry| Entry::from_bytes(&entry.bytes).ok()) {
            if let Body::Custody { step: contract::CustodyStep::Erased, records, .. } = entry.body {
                match entry.patient {
                    Some(patient) => _ = erased.patients.insert(patient),
                    None => _ = erased.alone.insert(records),
                }
            }
        }
        Ok(erased)
    }

    /// Every applied entry filed under a pseudonym, in order.
    pub(crate) async fn log(&self, patient: Pseudonym, up_to_height: u64) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(move |c| {
            c.prepare_cached(&format!(
                "{SELECT_ENTRY} WHERE patient = ?1 AND refused = 0 AND height <= ?2 ORDER BY idx"
            ))?
            .query_map(params![patient.0.as_ref(), signed(up_to_height)], entry_row)?
            .collect()
        })
        .await
    }

    /// Whether the log under each of `pseudonyms` has begun: whether any entry was applied under it.
    pub(crate) async fn begun(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<bool>, MirrorError> {
        let lately = &self.inner.lately;
        let mut begun: Vec<bool> = pseudonyms.iter().map(|pseudonym| lately.has_begun(pseudonym)).collect();
        let unsure: Vec<Pseudonym> =
            pseudonyms.iter().zip(&begun).filter(|(_, begun)| !**begun).map(|(pseudonym, _)| *pseudonym).collect();
        if unsure.is_empty() {
            return Ok(begun);
        }
        let found: Vec<(Pseudonym, bool)> = self
            .read(move |c| {
                let mut select =
                    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM entry WHERE patient = ?1 AND refused = 0)")?;
                unsure.iter().map(|p| Ok((*p, select.query_row([p.0.as_ref()], |row| row.get(0))?))).collect()
            })
            .await?;
        for (begun, (pseudonym, found)) in begun.iter_mut().filter(|begun| !**begun).zip(found) {
            *begun = found;
            if found {
                lately.note_begun(pseudonym);
            }
        }
        Ok(begun)
    }

    /// The organisation's final entry with this id, if there is one. Ids are seen in gossip before they are final: another organisation's
    /// entry may have the same.
    pub(crate) async fn entry(&self, id: Id16, org: &OrgId) -> Result<Option<FinalEntry>, MirrorError> {
        Ok(self.entries_named(vec![(id, org.clone())]).await?.pop().flatten())
    }

    /// Final entries by their ids and organisations, in the same order.
    pub(crate) async fn entries_named(
        &self,
        wanted: Vec<(Id16, OrgId)>,
    ) -> Result<Vec<Option<FinalEntry>>, MirrorError> {
        self.read(move |c| {
            let sql = format!("{SELECT_ENTRY} WHERE id = ?1 AND org = ?2 ORDER BY refused, idx LIMIT 1");
            let mut select = c.prepare_cached(&sql)?;
            let found = wanted
                .iter()
                .map(|(id, org)| select.query_row(params![id.as_ref(), org.as_str()], entry_row).optional());
            found.collect()
        })
        .await
    }

    /// Final entries about something that has an id of its own (a grant, a handoff, a claim, ...), with their kinds.
    pub(crate) async fn entries_about(&self, id: Id16) -> Result<Vec<(&'static str, FinalEntry)>, MirrorError> {
        let entries = self
            .read(move |c| {
                c.prepare_cached(&format!("{SELECT_ENTRY} WHERE about = ?1 ORDER BY idx"))?
                    .query_map([id.as_ref()], entry_row)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        Ok(entries.into_iter().filter_map(|e| Some((Entry::from_bytes(&e.bytes).ok()?.kind(), e))).collect())
    }

    /// Final entries from an index on, optionally of one kind.
    pub(crate) async fn entries(
        &self,
        from: u64,
        kind: Option<String>,
        limit: usize,
    ) -> Result<Vec<FinalEntry>, MirrorError> {
        self.read(move |c| {
            let (from, limit) = (signed(from), limit as i64);
            let mut select = c.prepare_cached(&select_entries(kind.is_some()))?;
            match kind {
                Some(kind) => select.query_map(params![from, limit, kind], entry_row)?.collect(),
                None => select.query_map(params![from, limit], entry_row)?.collect(),
            }
        })
        .await
    }

    /// The final entry with an index.
    pub(crate) async fn entry_at(&self, index: u64) -> Result<Option<FinalEntry>, MirrorError> {
        self.read(move |c| {
            let sql = format!("{SELECT_ENTRY} WHERE idx = ?1");
            c.prepare_cached(&sql)?.query_row([signed(index)], entry_row).optional()
        })
        .await
    }

    /// The bindings of which frames were let go by entries under some pseudonyms, each once.
    pub(crate) async fn bindings_thinned(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<Id16>, MirrorError> {
        self.read(move |c| {
            let sql = "SELECT DISTINCT about FROM entry \
                       WHERE patient = ?1 AND kind = 'disposal' AND refused = 0 AND about IS NOT NULL";
            let mut select = c.prepare_cached(sql)?;
            let mut bindings = std::collections::BTreeSet::new();
            for pseudonym in &pseudonyms {
                for binding in select.query_map([pseudonym.0.as_ref()], |row| row.get(0))? {
                    bindings.insert(binding?);
                }
            }
            Ok(bindings.into_iter().map(Id16).collect())
        })
        .await
    }

    /// Number of final entries by kind, and how many were refused.
    pub(crate) async fn totals(&self) -> Result<(Vec<(String, u64)>, u64), MirrorError> {
        self.read(|c| {
            let kinds = c
                .prepare_cached("SELECT kind, count(*) FROM entry GROUP BY kind ORDER BY kind")?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let refused = c.query_row("SELECT count(*) FROM entry WHERE refused <> 0", [], |row| row.get(0))?;
            Ok((kinds, unsigned(refused)))
        })
        .await
    }

    /// Number of final entries that the contract refused.
    pub(crate) async fn refused(&self) -> Result<u64, MirrorError> {
        self.read(|c| c.query_row("SELECT count(*) FROM entry WHERE refused <> 0", [], |row| Ok(unsigned(row.get(0)?))))
            .await
    }

    /// The highest sequence number of a lane in final blocks.
    pub(crate) async fn lane_seq(&self, org: OrgId, lane: u32) -> Result<u64, MirrorError> {
        self.read(move |c| {
            c.query_row(
                "SELECT coalesce(max(seq), 0) FROM entry WHERE org = ?1 AND lane = ?2",
                params![org.as_str(), lane],
                |row| Ok(unsigned(row.get(0)?)),
            )
        })
        .await
    }
}

pub(super) fn entry_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FinalEntry> {
    Ok(FinalEntry {
        index: unsigned(row.get(0)?),
        height: unsigned(row.get(1)?),
        time: TimeMs(unsigned(row.get(2)?)),
        digest: Digest(row.get(3)?),
        bytes: row.get(4)?,
        lane: row.get(5)?,
        seq: unsigned(row.get(6)?),
        refused: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// Whoever looked for the members' keys went through the whole log at every block, as nothing of the kind was in it: the longer a
    /// ledger ran, the more each of its nodes had to do.
    #[test]
    fn entries_of_a_kind_are_looked_up_and_not_searched_for_through_the_log() {
        let mirror = Connection::open_in_memory().unwrap();
        mirror.execute_batch(crate::mirror::SCHEMA).unwrap();
        let plan = |sql: &str| {
            let mut explained = mirror.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nothing = (0..explained.parameter_count()).map(|_| 0);
            let steps =
                explained.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
            steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
        };
        assert_eq!(plan(&select_entries(true)), "SEARCH entry USING INDEX entry_kind (kind=? AND idx>?)");
        assert_eq!(plan(&select_entries(false)), "SEARCH entry USING INTEGER PRIMARY KEY (rowid>?)");
    }
}
