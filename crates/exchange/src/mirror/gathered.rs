//! What the mirror is asked about entries that commit to several accesses: how many audit events each must have.

use super::{Mirror, MirrorError, signed, unsigned};
use record::{Digest, Id16, OrgId, Pseudonym, TimeMs};
use rusqlite::{Row, params, types::Type};

/// A final entry that commits to several accesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalAccesses {
    /// Index in the log over all entries.
    pub index: u64,
    /// The entry.
    pub entry: Id16,
    /// Who made them.
    pub org: OrgId,
    /// The log that it is filed in.
    pub patient: Option<Pseudonym>,
    /// Block time.
    pub time: TimeMs,
    /// How many accesses.
    pub count: u32,
}

const SELECT: &str =
    "SELECT g.idx, e.id, e.org, g.patient, e.time, g.count FROM gathered g JOIN entry e ON e.idx = g.idx";

impl Mirror {
    /// Those filed under any of `pseudonyms`.
    pub(crate) async fn gathered_under(&self, pseudonyms: Vec<Pseudonym>) -> Result<Vec<FinalAccesses>, MirrorError> {
        self.read(move |c| {
            let mut select = c.prepare_cached(&format!("{SELECT} WHERE g.patient = ?1 ORDER BY g.idx"))?;
            let mut found = Vec::new();
            for pseudonym in &pseudonyms {
                for one in select.query_map([pseudonym.0.as_ref()], accesses_row)? {
                    found.push(one?);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Those with an index from `from` on and below `below`, the first `limit` in their order.
    pub(crate) async fn gathered(
        &self,
        from: u64,
        below: u64,
        limit: usize,
    ) -> Result<Vec<FinalAccesses>, MirrorError> {
        self.gathered_in(from, below, limit, "ASC").await
    }

    /// The last `limit` of them, the latest first.
    pub(crate) async fn gathered_latest(
        &self,
        from: u64,
        below: u64,
        limit: usize,
    ) -> Result<Vec<FinalAccesses>, MirrorError> {
        self.gathered_in(from, below, limit, "DESC").await
    }

    async fn gathered_in(
        &self,
        from: u64,
        below: u64,
        limit: usize,
        order: &'static str,
    ) -> Result<Vec<FinalAccesses>, MirrorError> {
        self.read(move |c| {
            c.prepare_cached(&format!("{SELECT} WHERE g.idx >= ?1 AND g.idx < ?2 ORDER BY g.idx {order} LIMIT ?3"))?
                .query_map(params![signed(from), signed(below), limit as i64], accesses_row)?
                .collect()
        })
        .await
    }
}

fn accesses_row(row: &Row<'_>) -> rusqlite::Result<FinalAccesses> {
    let org: String = row.get(2)?;
    Ok(FinalAccesses {
        index: unsigned(row.get(0)?),
        entry: Id16(row.get(1)?),
        org: org.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(e)))?,
        patient: row.get::<_, Option<[u8; 32]>>(3)?.map(|bytes| Pseudonym(Digest(bytes))),
        time: TimeMs(unsigned(row.get(4)?)),
        count: row.get(5)?,
    })
}
