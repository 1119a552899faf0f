//! Every read, on a connection that cannot write.

use super::columns;
use crate::{
    int64::{clamp, natural},
    order::Cursor,
    readers::{
        FrameCursor, FrameFilter, FramePage, FrameQuery, GATHERED_BYTES_MAX, GATHERED_ROWS_MAX, PATIENT_RECORDS_MAX,
        ReadError, Sweep, limit,
    },
    row::{EntryPlace, FiledFrame, Frame, FramePlace, Row, Rows, Submission, Trace, VersionKey, WrappedKey},
    search::{PAGE_MAX, Page, Search},
    select::{self, Dialect, Sql},
};
use record::{Digest, Id16, OrgId};
use rusqlite::{
    Connection, OptionalExtension, Params, params, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

pub(crate) fn read(db: &Connection, rtype: &str, id: &str) -> Result<Option<Row>, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE rtype = ?1 AND id = ?2 ORDER BY version DESC LIMIT 1",
        columns::VERSION
    );
    one(db, &sql, params![rtype, id])
}

pub(crate) fn read_beside(
    db: &Connection,
    rtype: &str,
    id: &str,
    types: &[String],
) -> Result<(Option<Row>, Rows), ReadError> {
    let row = read(db, rtype, id)?;
    let beside = row.as_ref().and_then(|row| row.patient.as_deref()).map(|patient| patient_records(db, patient, types));
    Ok((row, beside.transpose()?.unwrap_or_default()))
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
    let Sql { text, values, .. } = select::page(Dialect::Sqlite, search)?;
    let mut statement = db.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut places = Vec::with_capacity(search.count.saturating_add(1));
    let keys = search.sort.len();
    while let Some(columns) = rows.next()? {
        let sorted_by = (0..keys).map(|index| Ok(columns::key(columns.get_ref(index)?)));
        places.push(Cursor { keys: sorted_by.collect::<rusqlite::Result<_>>()?, vid: columns.get(keys)? });
    }
    let more = places.len() > search.count;
    places.truncate(search.count);
    let mut page = Page { next: places.last().cloned().filter(|_| more), ..Page::default() };
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

/// The index has the frames of a patient by kind: of each kind the first places are looked up, and of all of them the first rows.
pub(crate) fn frames(db: &Connection, query: &FrameQuery) -> Result<FramePage, ReadError> {
    let wanted = query.limit.clamp(1, PAGE_MAX);
    // One snapshot for places and rows.
    let snapshot = db.unchecked_transaction()?;
    let mut places = Vec::new();
    match &query.of {
        FrameFilter::Device(device) => {
            places_in(&snapshot, query, OF_DEVICE, device, None, &mut places)?;
        }
        FrameFilter::Patient(patient) | FrameFilter::Kinds(patient, _) => {
            for kind in frame_kinds(&snapshot, patient)? {
                places_in(&snapshot, query, OF_KIND, patient, Some(kind), &mut places)?;
                // What is beyond the page of some kinds is beyond that of all.
                if query.newest_first {
                    places.sort_unstable_by(|a, b| b.cmp(a));
                } else {
                    places.sort_unstable();
                }
                places.truncate(wanted);
            }
        }
    }
    let mut page = FramePage::default();
    let mut statement = snapshot.prepare_cached(&format!("SELECT {} FROM frame WHERE fid = ?1", columns::FRAME))?;
    for &(measured_at, fid) in &places {
        let row = statement.query_row([fid], |columns| Ok(columns::frame(columns)))?;
        page.push(row, FrameCursor { measured_at, fid });
    }
    page.next = page.next.filter(|_| places.len() == wanted);
    Ok(page)
}

/// The kinds of a patient's frames, each once: the index is stepped through from one to the next.
fn frame_kinds(db: &Connection, patient: &str) -> Result<Vec<i64>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT kind FROM frame INDEXED BY frame_patient WHERE patient = ?1 AND kind > ?2 ORDER BY kind LIMIT 1",
    )?;
    let mut first =
        db.prepare_cached("SELECT kind FROM frame INDEXED BY frame_patient WHERE patient = ?1 ORDER BY kind LIMIT 1")?;
    let mut kinds = Vec::new();
    let mut next: Option<i64> = first.query_row([patient], |columns| columns.get(0)).optional()?;
    while let Some(kind) = next {
        kinds.push(kind);
        next = statement.query_row(params![patient, kind], |columns| columns.get(0)).optional()?;
    }
    Ok(kinds)
}

/// Adds where the first frames stand, by time of measurement and place, of those that `whose` names by `?1` and `?2`.
fn places_in(
    db: &Connection,
    query: &FrameQuery,
    whose: &str,
    of: &str,
    kind: Option<i64>,
    places: &mut Vec<(i64, i64)>,
) -> Result<(), ReadError> {
    let Some((from, to)) = query.range_of(kind.unwrap_or_default()) else { return Ok(()) };
    let begin = query.begin();
    let mut statement = db.prepare_cached(&places_of(whose, query.newest_first))?;
    let found = statement
        .query_map(params![of, kind, from, to, begin.measured_at, begin.fid, limit(query.limit.max(1))], |columns| {
            Ok((columns.get(0)?, columns.get(1)?))
        })?;
    for place in found {
        places.push(place?);
    }
    Ok(())
}

/// The statement that gives the first places of the frames that `whose` names.
pub(super) fn places_of(whose: &str, newest_first: bool) -> String {
    let (beyond, direction) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
    format!(
        "SELECT measured_at, fid FROM frame {whose} AND measured_at >= ?3 AND measured_at < ?4 \
         AND (measured_at, fid) {beyond} (?5, ?6) ORDER BY measured_at {direction}, fid {direction} LIMIT ?7"
    )
}

/// Frames of a device.
pub(super) const OF_DEVICE: &str = "INDEXED BY frame_device WHERE device = ?1 AND ?2 IS NULL";
/// Frames of a patient that are of one kind.
pub(super) const OF_KIND: &str = "INDEXED BY frame_patient WHERE patient = ?1 AND kind = ?2";

/// The digests of a device's frames between counters.
pub(super) const FRAME_DIGESTS: &str = "SELECT counter, digest FROM frame INDEXED BY frame_counter \
     WHERE device = ?1 AND counter >= ?2 AND counter <= ?3 ORDER BY counter LIMIT ?4";

pub(crate) fn frame_digests(
    db: &Connection,
    device: &str,
    first: u64,
    last: u64,
    wanted: usize,
) -> Result<Vec<(u64, Digest)>, ReadError> {
    let mut statement = db.prepare_cached(FRAME_DIGESTS)?;
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    let found = statement.query_map(params![device, clamp(first), clamp(last), wanted], |columns| {
        let digest = columns.get::<_, [u8; 32]>(1).map(Digest).map_err(|_| "digest");
        Ok(digest.and_then(|digest| Ok((natural(columns.get(0).map_err(|_| "counter")?), digest))))
    })?;
    Ok(readable(found)?)
}

pub(crate) fn trace(db: &Connection, digest: &Digest) -> Result<Option<Trace>, ReadError> {
    let sql = "SELECT binding, counter, patient FROM let_go WHERE digest = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map([digest.as_bytes()], |columns| {
        let read = || -> rusqlite::Result<Trace> {
            let (binding, counter) = (Id16(columns.get(0)?), natural(columns.get(1)?));
            Ok(Trace { digest: *digest, binding, counter, patient: columns.get(2)? })
        };
        // What nobody of ours wrote is as if it was not there.
        Ok(read().map_err(|_| "trace"))
    })?;
    Ok(first_readable(found)?)
}

/// The digests of a binding's frames between counters that were let go.
pub(super) const TRACES: &str = "SELECT counter, digest FROM let_go WHERE binding = ?1 AND counter >= ?2 AND counter <= ?3 ORDER BY counter LIMIT ?4";

pub(crate) fn traces(
    db: &Connection,
    binding: &Id16,
    first: u64,
    last: u64,
    wanted: usize,
) -> Result<Vec<(u64, Digest)>, ReadError> {
    let mut statement = db.prepare_cached(TRACES)?;
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    let found = statement.query_map(params![binding.as_ref(), clamp(first), clamp(last), wanted], |columns| {
        let digest = columns.get::<_, [u8; 32]>(1).map(Digest).map_err(|_| "digest");
        Ok(digest.and_then(|digest| Ok((natural(columns.get(0).map_err(|_| "counter")?), digest))))
    })?;
    Ok(readable(found)?)
}

/// Where frames stand, by device and counter, behind a place.
pub(super) const FRAME_PLACES: &str = "SELECT fid, device, counter FROM frame \
     WHERE (device, counter, fid) > (?1, ?2, ?3) ORDER BY device, counter, fid LIMIT ?4";

pub(crate) fn frame_places(
    db: &Connection,
    after: Option<&FramePlace>,
    wanted: usize,
) -> Result<Vec<FramePlace>, ReadError> {
    let begin = FramePlace { device: Vec::new(), counter: i64::MIN, place: i64::MIN };
    let after = after.unwrap_or(&begin);
    // What is no text in UTF-8 stands in the order as well.
    let device = ToSqlOutput::Borrowed(ValueRef::Text(&after.device));
    let mut statement = db.prepare_cached(FRAME_PLACES)?;
    let places = statement.query_map(params![device, after.counter, after.place, limit(wanted.max(1))], |columns| {
        let device = columns.get_ref(1)?.as_bytes().map(<[u8]>::to_vec).unwrap_or_default();
        Ok(FramePlace { device, counter: columns.get(2)?, place: columns.get(0)? })
    })?;
    Ok(places.collect::<Result<_, _>>()?)
}

/// The statement that gives a device's frames between counters, from a place on.
pub(super) fn filed_frames_of() -> String {
    format!(
        "SELECT {} FROM frame WHERE device = ?1 AND counter <= ?4 AND (counter, fid) > (?2, ?3) ORDER BY counter, fid LIMIT ?5",
        columns::FRAME
    )
}

pub(crate) fn filed_frames(
    db: &Connection,
    device: &str,
    (first, after): (u64, Option<i64>),
    last: u64,
    wanted: usize,
) -> Result<Vec<FiledFrame>, ReadError> {
    let after = after.unwrap_or(i64::MIN);
    let mut statement = db.prepare_cached(&filed_frames_of())?;
    let frames = statement
        .query_map(params![device, clamp(first), after, clamp(last), limit(wanted.max(1))], |columns| {
            Ok(columns::filed_frame(columns))
        })?;
    Ok(frames.collect::<Result<_, _>>()?)
}

pub(crate) fn filed_frame(db: &Connection, place: i64) -> Result<Option<FiledFrame>, ReadError> {
    let mut statement = db.prepare_cached(&format!("SELECT {} FROM frame WHERE fid = ?1", columns::FRAME))?;
    Ok(statement.query_row([place], |columns| Ok(columns::filed_frame(columns))).optional()?)
}

pub(crate) fn last_frame(db: &Connection, device: &str) -> Result<Option<Frame>, ReadError> {
    let sql = format!("SELECT {} FROM frame WHERE device = ?1 ORDER BY counter DESC LIMIT 1", columns::FRAME);
    let mut statement = db.prepare_cached(&sql)?;
    let frames = statement.query_map([device], |columns| Ok(columns::frame(columns)))?;
    Ok(first_readable(frames)?)
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
