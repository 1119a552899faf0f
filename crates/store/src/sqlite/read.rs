//! Every read, on a connection that cannot write.

use super::columns;
use crate::{
    int64::{clamp, natural},
    readers::{
        FrameCursor, FrameFilter, FramePage, FrameQuery, GATHERED_BYTES_MAX, GATHERED_ROWS_MAX, PATIENT_RECORDS_MAX,
        ReadError, Sweep, limit,
    },
    row::{EntryPlace, Frame, Row, Rows, Submission, VersionKey, WrappedKey},
    search::{Cursor, Page, Search},
    select::{self, Dialect, Sql},
};
use record::{Digest, Id16, OrgId};
use rusqlite::{Connection, OptionalExtension, Params, params, params_from_iter};

pub(crate) fn read(db: &Connection, rtype: &str, id: &str) -> Result<Option<Row>, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE rtype = ?1 AND id = ?2 ORDER BY version DESC LIMIT 1",
        columns::VERSION
    );
    one(db, &sql, params![rtype, id])
}

pub(crate) fn vread(db: &Connection, key: &VersionKey) -> Result<Option<Row>, ReadError> {
    let sql = format!("SELECT {} FROM version v WHERE rtype = ?1 AND id = ?2 AND version = ?3", columns::VERSION);
    one(db, &sql, params![key.rtype, key.id, clamp(key.version)])
}

pub(crate) fn gathered(db: &Connection, entry: Id16) -> Result<Rows, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v INDEXED BY version_gathered WHERE entry = ?1 AND gathered IS NOT NULL AND length(bytes) <= ?3 ORDER BY vid LIMIT ?2",
        columns::VERSION
    );
    many(db, &sql, params![entry.as_bytes(), GATHERED_ROWS_MAX as i64, GATHERED_BYTES_MAX as i64])
}

fn one(db: &Connection, sql: &str, parameters: impl Params) -> Result<Option<Row>, ReadError> {
    let mut statement = db.prepare_cached(sql)?;
    let row = statement.query_row(parameters, |columns| Ok(columns::version(columns))).optional()?;
    Ok(row.transpose()?)
}

fn many(db: &Connection, sql: &str, parameters: impl Params) -> Result<Rows, ReadError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Rows::default();
    while let Some(columns) = rows.next()? {
        found.push(columns::version(columns));
    }
    Ok(found)
}

pub(crate) fn history(
    db: &Connection,
    rtype: &str,
    id: &str,
    before: Option<u64>,
    wanted: usize,
) -> Result<Rows, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE rtype = ?1 AND id = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4",
        columns::VERSION
    );
    many(db, &sql, params![rtype, id, clamp(before.unwrap_or(u64::MAX)), limit(wanted)])
}

pub(crate) fn search(db: &Connection, search: &Search) -> Result<Page, ReadError> {
    // One snapshot for the page and the total.
    let snapshot = db.unchecked_transaction()?;
    let mut page = if search.count == 0 { Page::default() } else { first_rows(&snapshot, search)? };
    if search.total {
        let seen = page.found.rows.len() + page.found.malformed.len();
        let all_seen = search.count > 0 && search.after.is_none() && page.next.is_none();
        page.total = Some(if all_seen { seen as u64 } else { total(&snapshot, search)? });
    }
    Ok(page)
}

fn first_rows(db: &Connection, search: &Search) -> Result<Page, ReadError> {
    // Places first, rows after: sorting then moves two numbers per match and not its bytes.
    let Sql { text, values, .. } = select::page(Dialect::Sqlite, search, "v.vid")?;
    let mut statement = db.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut places = Vec::with_capacity(search.count.saturating_add(1));
    while let Some(columns) = rows.next()? {
        places.push(Cursor { key: columns.get(0)?, vid: columns.get(1)? });
    }
    let more = places.len() > search.count;
    places.truncate(search.count);
    let mut page = Page { next: places.last().copied().filter(|_| more), ..Page::default() };
    let mut statement = db.prepare_cached(&format!("SELECT {} FROM version v WHERE vid = ?1", columns::VERSION))?;
    for place in places {
        let row = statement.query_row([place.vid], |columns| Ok(columns::version(columns)))?;
        page.push(row, place);
    }
    Ok(page)
}

fn total(db: &Connection, search: &Search) -> Result<u64, ReadError> {
    let Sql { text, values, .. } = select::total(Dialect::Sqlite, search)?;
    let count = db.prepare_cached(&text)?.query_row(params_from_iter(values), |columns| columns.get(0))?;
    Ok(natural(count))
}

pub(crate) fn patient_records(db: &Connection, patient: &str, types: &[String]) -> Result<Rows, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v INDEXED BY version_patient WHERE current = 1 AND patient = ?1 AND rtype = ?2 ORDER BY vid LIMIT ?3",
        columns::VERSION
    );
    let any_type = sql.replace("AND rtype = ?2 ", "AND ?2 = '' ");
    let wanted = i64::try_from(PATIENT_RECORDS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let mut found = Rows::default();
    let mut add = |sql: &str, rtype: &str| {
        let more = many(db, sql, params![patient, rtype, wanted])?;
        found.rows.extend(more.rows);
        found.malformed.extend(more.malformed);
        let full = found.rows.len() + found.malformed.len() > PATIENT_RECORDS_MAX;
        if full { Err(ReadError::TooMany { max: PATIENT_RECORDS_MAX }) } else { Ok(()) }
    };
    let snapshot = db.unchecked_transaction()?;
    if types.is_empty() {
        add(&any_type, "")?;
    }
    for rtype in types {
        add(&sql, rtype)?;
    }
    drop(snapshot);
    Ok(found)
}

pub(crate) fn sweep(db: &Connection, after: u64, wanted: usize) -> Result<Sweep, ReadError> {
    let sql = format!("SELECT {} FROM version v WHERE vid > ?1 ORDER BY vid LIMIT ?2", columns::VERSION);
    let mut statement = db.prepare_cached(&sql)?;
    let wanted = limit(wanted.max(1));
    let mut rows = statement.query(params![clamp(after), wanted])?;
    let mut sweep = Sweep { last: after, ..Sweep::default() };
    let mut seen = 0;
    while let Some(columns) = rows.next()? {
        sweep.last = natural(columns.get(0)?);
        sweep.found.push(columns::version(columns));
        seen += 1;
    }
    sweep.next = (seen == wanted).then_some(sweep.last);
    Ok(sweep)
}

pub(crate) fn counts(db: &Connection) -> Result<Vec<(String, u64)>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT rtype, count(*) FROM version WHERE current = 1 AND deleted = 0 GROUP BY rtype ORDER BY rtype",
    )?;
    let counts = statement.query_map([], |columns| Ok((columns.get(0)?, natural(columns.get(1)?))))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

pub(crate) fn frames(db: &Connection, query: &FrameQuery) -> Result<FramePage, ReadError> {
    let (column, whose) = match &query.of {
        FrameFilter::Patient(patient) => ("patient", patient),
        FrameFilter::Device(device) => ("device", device),
    };
    let sql = format!(
        "SELECT {} FROM frame INDEXED BY frame_{column} WHERE {column} = ?1 AND measured_at >= ?2 AND measured_at < ?3 \
         AND (measured_at, fid) > (?4, ?5) ORDER BY measured_at, fid LIMIT ?6",
        columns::FRAME
    );
    let after = query.after.unwrap_or(FrameCursor { measured_at: i64::MIN, fid: i64::MIN });
    let from = clamp(query.from.0).max(after.measured_at);
    let wanted = limit(query.limit.max(1));
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![whose, from, clamp(query.to.0), after.measured_at, after.fid, wanted])?;
    let mut page = FramePage::default();
    let mut seen = 0;
    while let Some(columns) = rows.next()? {
        page.next = Some(FrameCursor { measured_at: columns.get(6)?, fid: columns.get(0)? });
        match columns::frame(columns) {
            Ok(frame) => page.frames.push(frame),
            Err(_) => page.malformed += 1,
        }
        seen += 1;
    }
    page.next = page.next.filter(|_| seen == wanted);
    Ok(page)
}

pub(crate) fn frame(db: &Connection, digest: &Digest) -> Result<Option<Frame>, ReadError> {
    let sql = format!("SELECT {} FROM frame WHERE digest = ?1 ORDER BY fid", columns::FRAME);
    let mut statement = db.prepare_cached(&sql)?;
    let frames = statement.query_map([digest.as_bytes()], |columns| Ok(columns::frame(columns)))?;
    Ok(first_readable(frames)?)
}

pub(crate) fn attachment(db: &Connection, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
    let mut statement = db.prepare_cached("SELECT bytes FROM attachment WHERE digest = ?1")?;
    Ok(statement.query_row([digest.as_bytes()], |columns| columns.get(0)).optional()?)
}

pub(crate) fn wrapped_keys(db: &Connection, patient: &str) -> Result<Vec<WrappedKey>, ReadError> {
    let mut statement =
        db.prepare_cached("SELECT patient, org, bytes FROM wrapped_key WHERE patient = ?1 ORDER BY org")?;
    let keys = statement.query_map([patient], |columns| Ok(columns::wrapped_key(columns)))?;
    Ok(readable(keys)?)
}

pub(crate) fn entry(db: &Connection, id: &Id16) -> Result<Option<EntryPlace>, ReadError> {
    let mut statement =
        db.prepare_cached("SELECT id, org, lane, seq, rtype, record, version FROM entry WHERE id = ?1")?;
    let entries = statement.query_map([id.as_bytes()], |columns| Ok(columns::entry(columns)))?;
    Ok(first_readable(entries)?)
}

pub(crate) fn submissions_since(
    db: &Connection,
    org: &OrgId,
    lane: u32,
    seq: u64,
    wanted: usize,
) -> Result<Vec<Submission>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT org, lane, first_seq, count, bytes FROM submission WHERE org = ?1 AND lane = ?2 AND first_seq >= \
         (SELECT coalesce(max(first_seq), 0) FROM submission WHERE org = ?1 AND lane = ?2 AND first_seq <= ?3) \
         AND first_seq + count > ?3 ORDER BY first_seq LIMIT ?4",
    )?;
    let submissions = statement.query_map(params![org.as_str(), lane, clamp(seq), limit(wanted)], |columns| {
        Ok(columns::submission(columns))
    })?;
    Ok(readable(submissions)?)
}

pub(crate) fn lanes(db: &Connection) -> Result<Vec<(OrgId, u32, u64)>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT org, lane, max(first_seq + count - 1) FROM submission GROUP BY org, lane ORDER BY org, lane",
    )?;
    let lanes = statement.query_map([], |columns| Ok(columns::lane(columns)))?;
    Ok(readable(lanes)?)
}

fn readable<T, E>(rows: impl Iterator<Item = rusqlite::Result<Result<T, E>>>) -> rusqlite::Result<Vec<T>> {
    rows.filter_map(|row| row.map(Result::ok).transpose()).collect()
}

fn first_readable<T, E>(rows: impl Iterator<Item = rusqlite::Result<Result<T, E>>>) -> rusqlite::Result<Option<T>> {
    rows.filter_map(|row| row.map(Result::ok).transpose()).next().transpose()
}
