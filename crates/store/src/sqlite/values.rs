//! Search values: how they are filed, and filed anew when the database is of an earlier format.

use crate::{
    extract::{COMMON, IndexRow, IndexValue, cut, extract, is_common, normalise},
    select::{VALUE_TABLES, filed_about},
};
use rusqlite::{Connection, params};

/// How often it is told how far the filing anew is, in rows.
const TOLD_EVERY_ROWS: u64 = 20_000;

/// Files the values of a version, or of a template. The same value again is no error.
pub(super) fn insert(db: &Connection, vid: i64, rtype: &str, rows: &[IndexRow]) -> rusqlite::Result<()> {
    const TOKEN: &str = "INSERT OR IGNORE INTO token (vid, param, code, system, part, words, rtype, about, common) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let about = filed_about(rtype, rows);
    for IndexRow { param, part, value } in rows {
        let param = param.as_ref();
        match value {
            IndexValue::Token { system, code, text } => {
                let common = is_common(rtype, param, code);
                let values = params![vid, param, cut(code), cut(system), part, cut(text), rtype, about, common];
                db.prepare_cached(TOKEN)?.execute(values)?
            }
            IndexValue::Uri(uri) => {
                db.prepare_cached(TOKEN)?.execute(params![vid, param, cut(uri), "", part, "", rtype, about, false])?
            }
            IndexValue::Text(text) => db
                .prepare_cached(
                    "INSERT OR IGNORE INTO text (vid, param, exact, norm, part, rtype) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![vid, param, cut(text), normalise(text), part, rtype])?,
            IndexValue::Date(span) => db
                .prepare_cached(
                    "INSERT OR IGNORE INTO date (vid, param, lo, hi, part, rtype) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![vid, param, span.lo_ms, span.hi_ms, part, rtype])?,
            IndexValue::Reference { rtype: target_type, id } => db
                .prepare_cached(
                    "INSERT OR IGNORE INTO reference (vid, param, target, target_type, part, rtype) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![vid, param, cut(id), target_type, part, rtype])?,
            IndexValue::Quantity { lo, hi, system, code, unit } => db
                .prepare_cached(
                    "INSERT OR IGNORE INTO quantity (vid, param, lo, hi, system, code, unit, part, rtype) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![vid, param, lo.value(), hi.value(), cut(system), cut(code), cut(unit), part, rtype])?,
        };
    }
    Ok(())
}

/// Takes the values of a version, or of a template, away.
pub(super) fn take_away(db: &Connection, vid: i64) -> rusqlite::Result<()> {
    VALUE_TABLES.iter().try_for_each(|table| {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE vid = ?1"))?.execute([vid]).map(|_| ())
    })
}

/// Takes common tokens of a database of format 2 out of the index.
pub(super) fn mark_common(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("ALTER TABLE token ADD COLUMN common INTEGER NOT NULL DEFAULT 0")?;
    for (rtype, param, codes) in COMMON {
        let mut mark = db.prepare("UPDATE token SET common = 1 WHERE rtype = ?1 AND param = ?2 AND code = ?3")?;
        for code in codes {
            mark.execute(params![rtype, param, code])?;
        }
    }
    db.execute_batch("DROP INDEX token_code")?;
    db.execute_batch("CREATE INDEX token_code ON token (rtype, param, code, about) WHERE common = 0")
}

/// Makes the tables of values anew by `tables`, and fills them from the current versions, one after the other. Rows that cannot be read
/// are left to be found malformed by who reads them.
pub(super) fn file_anew(db: &Connection, tables: &str) -> rusqlite::Result<()> {
    for table in VALUE_TABLES {
        db.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
    }
    db.execute_batch(tables)?;
    let current = "FROM version WHERE current = 1 AND deleted = 0";
    let rows: i64 = db.query_row(&format!("SELECT count(*) {current}"), [], |columns| columns.get(0))?;
    let mut statement =
        db.prepare(&format!("SELECT vid, CAST(rtype AS TEXT), CAST(bytes AS BLOB) {current} ORDER BY vid"))?;
    let mut versions = statement.query([])?;
    let mut done: u64 = 0;
    while let Some(columns) = versions.next()? {
        let (vid, rtype, bytes): (i64, String, Vec<u8>) = (columns.get(0)?, columns.get(1)?, columns.get(2)?);
        if let Ok(resource) = serde_json::from_slice(&bytes) {
            insert(db, vid, &rtype, &extract(&rtype, &resource))?;
        }
        done += 1;
        if done.is_multiple_of(TOLD_EVERY_ROWS) {
            tracing::info!(done, rows, "search values of an earlier format are filed anew");
        }
    }
    tracing::info!(done, "search values of an earlier format were filed anew");
    Ok(())
}
