//! Every read, on a connection that cannot write.

use super::{
    columns,
    server::ServerError,
    session::{Session, Step},
};
use crate::{
    int64::{clamp, natural},
    order::{Cursor, forms},
    readers::{
        FrameCursor, FrameFilter, FramePage, FrameQuery, GATHERED_BYTES_MAX, GATHERED_ROWS_MAX, PATIENT_RECORDS_MAX,
        ReadError, Sweep, limit,
    },
    row::{EntryPlace, FiledFrame, Frame, FramePlace, Row, Rows, Submission, Trace, VersionKey, WrappedKey},
    search::{Page, Search},
    select::{self, Dialect, Sql, Value},
};
use record::{Digest, Id16, OrgId};
use std::collections::HashMap;
use tokio_postgres::{Row as Columns, types::ToSql};

/// One snapshot for several statements.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const END: &str = "COMMIT";

impl From<ServerError> for ReadError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Lost(why) => {
                tracing::warn!(why, "a read found no database server");
                Self::Unavailable
            }
            ServerError::Refused(_) | ServerError::NoTurn | ServerError::Stale(_) => Self::Database(error.to_string()),
        }
    }
}

/// A column of ours whose form the statement itself decides.
fn value<'a, T: tokio_postgres::types::FromSql<'a>>(columns: &'a Columns, index: usize) -> Result<T, ReadError> {
    columns.try_get(index).map_err(|_| ReadError::Database("a column has another form than was asked for".into()))
}

pub(crate) async fn read(db: &Session, rtype: &str, id: &str) -> Result<Option<Row>, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE rtype = $1 AND id = $2 ORDER BY version DESC LIMIT 1",
        columns::VERSION
    );
    one(db, &sql, &[&columns::filed(rtype), &columns::filed(id)]).await
}

pub(crate) async fn read_beside(
    db: &Session,
    rtype: &str,
    id: &str,
    types: &[String],
) -> Result<(Option<Row>, Rows), ReadError> {
    let row = read(db, rtype, id).await?;
    let beside = match row.as_ref().and_then(|row| row.patient.as_deref()) {
        Some(patient) => patient_records(db, patient, types).await?,
        None => Rows::default(),
    };
    Ok((row, beside))
}

pub(crate) async fn vread(db: &Session, key: &VersionKey) -> Result<Option<Row>, ReadError> {
    let sql = format!("SELECT {} FROM version v WHERE rtype = $1 AND id = $2 AND version = $3", columns::VERSION);
    one(db, &sql, &[&columns::filed(&key.rtype), &columns::filed(&key.id), &clamp(key.version)]).await
}

pub(crate) async fn gathered(db: &Session, entry: Id16) -> Result<Rows, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE entry = $1 AND gathered IS NOT NULL AND length(bytes) <= $3 ORDER BY vid LIMIT $2",
        columns::VERSION
    );
    many(db, &sql, &[&entry.as_bytes().as_slice(), &(GATHERED_ROWS_MAX as i64), &(GATHERED_BYTES_MAX as i32)]).await
}

async fn one(db: &Session, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, ReadError> {
    Ok(db.query(sql, parameters).await?.first().map(columns::version).transpose()?)
}

async fn many(db: &Session, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Rows, ReadError> {
    let mut found = Rows::default();
    db.query(sql, parameters).await?.iter().for_each(|columns| found.push(columns::version(columns)));
    Ok(found)
}

pub(crate) async fn history(
    db: &Session,
    rtype: &str,
    id: &str,
    before: Option<u64>,
    wanted: usize,
) -> Result<Rows, ReadError> {
    let sql = format!(
        "SELECT {} FROM version v WHERE rtype = $1 AND id = $2 AND version < $3 ORDER BY version DESC LIMIT $4",
        columns::VERSION
    );
    let before = clamp(before.unwrap_or(u64::MAX));
    many(db, &sql, &[&columns::filed(rtype), &columns::filed(id), &before, &limit(wanted)]).await
}

fn step<'a>(sql: &'a str, values: &'a [Value]) -> Step<'a> {
    Step { sql, parameters: values.iter().map(|value| value as &(dyn ToSql + Sync)).collect() }
}

pub(crate) async fn search(db: &Session, search: &Search) -> Result<Page, ReadError> {
    let total = search.total.then(|| select::total(Dialect::Postgres, search)).transpose()?;
    if search.count == 0 {
        let total = match &total {
            Some(Sql { text, values, .. }) => Some(counted(&db.pipeline(&[step(text, values)]).await?.concat())?),
            None => None,
        };
        return Ok(Page { total, ..Page::default() });
    }
    // Places first, rows after: sorting then moves two numbers per match and not its bytes.
    let Sql { text, values, .. } = select::page(Dialect::Postgres, search)?;
    let forms = forms(search)?;
    let places = db.pipeline(&[Step::new(SNAPSHOT, &[]), step(&text, &values)]).await?.pop().unwrap_or_default();
    let mut places = places
        .iter()
        .map(|columns| {
            let sorted_by = forms.iter().enumerate().map(|(index, form)| columns::key(columns, index, *form));
            Ok(Cursor { keys: sorted_by.collect(), vid: value(columns, forms.len())? })
        })
        .collect::<Result<Vec<Cursor>, ReadError>>()?;
    let more = places.len() > search.count;
    places.truncate(search.count);
    let mut page = Page { next: places.last().cloned().filter(|_| more), ..Page::default() };

    let wanted: Vec<i64> = places.iter().map(|place| place.vid).collect();
    let rows = format!("SELECT {} FROM version v WHERE vid = ANY($1)", columns::VERSION);
    let all_seen = search.after.is_none() && page.next.is_none();
    let counting = total.as_ref().filter(|_| !all_seen);
    let mut steps = vec![Step::new(&rows, &[&wanted])];
    steps.extend(counting.map(|Sql { text, values, .. }| step(text, values)));
    steps.push(Step::new(END, &[]));
    let mut answers = db.pipeline(&steps).await?.into_iter();
    let mut rows = HashMap::new();
    for columns in answers.next().unwrap_or_default() {
        rows.insert(value::<i64>(&columns, 0)?, columns);
    }
    for place in places {
        if let Some(columns) = rows.get(&place.vid) {
            page.push(columns::version(columns), place);
        }
    }
    page.total = match (&total, counting) {
        (None, _) => None,
        (Some(_), None) => Some(wanted.len() as u64),
        (Some(_), Some(_)) => Some(counted(&answers.next().unwrap_or_default())?),
    };
    Ok(page)
}

fn counted(rows: &[Columns]) -> Result<u64, ReadError> {
    rows.first().map_or(Ok(0), |columns| value(columns, 0).map(natural))
}

pub(crate) async fn patient_records(db: &Session, patient: &str, types: &[String]) -> Result<Rows, ReadError> {
    let any =
        format!("SELECT {} FROM version v WHERE current = 1 AND patient = $1 ORDER BY vid LIMIT $2", columns::VERSION);
    let typed = format!(
        "SELECT {} FROM version v WHERE current = 1 AND patient = $1 AND rtype = $3 ORDER BY vid LIMIT $2",
        columns::VERSION
    );
    let wanted = i64::try_from(PATIENT_RECORDS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let patient = columns::filed(patient);
    let mut steps = vec![Step::new(SNAPSHOT, &[])];
    if types.is_empty() {
        steps.push(Step::new(&any, &[&patient, &wanted]));
    }
    steps.extend(types.iter().map(|rtype| Step::new(&typed, &[&patient, &wanted, rtype])));
    steps.push(Step::new(END, &[]));
    let mut found = Rows::default();
    for columns in db.pipeline(&steps).await?.iter().flatten() {
        found.push(columns::version(columns));
    }
    let full = found.rows.len() + found.malformed.len() > PATIENT_RECORDS_MAX;
    if full { Err(ReadError::TooMany { max: PATIENT_RECORDS_MAX }) } else { Ok(found) }
}

pub(crate) async fn sweep(db: &Session, after: u64, wanted: usize) -> Result<Sweep, ReadError> {
    let sql = format!("SELECT {} FROM version v WHERE vid > $1 ORDER BY vid LIMIT $2", columns::VERSION);
    let wanted = limit(wanted.max(1));
    let mut sweep = Sweep { last: after, ..Sweep::default() };
    let rows = db.query(&sql, &[&clamp(after), &wanted]).await?;
    for columns in &rows {
        sweep.last = natural(value(columns, 0)?);
        sweep.found.push(columns::version(columns));
    }
    sweep.next = (clamp(rows.len() as u64) == wanted).then_some(sweep.last);
    Ok(sweep)
}

pub(crate) async fn counts(db: &Session) -> Result<Vec<(String, u64)>, ReadError> {
    let sql = "SELECT rtype, count(*) FROM version WHERE current = 1 AND deleted = 0 GROUP BY rtype ORDER BY rtype";
    let rows = db.query(sql, &[]).await?;
    rows.iter().map(|columns| Ok((value(columns, 0)?, natural(value(columns, 1)?)))).collect()
}

/// The index has the frames of a patient by kind: of each kind the first places are looked up, and of all of them the first rows.
pub(crate) async fn frames(db: &Session, query: &FrameQuery) -> Result<FramePage, ReadError> {
    let begin = query.begin();
    let wanted = limit(query.limit.max(1));
    let mut page = FramePage::default();
    let rows = match &query.of {
        FrameFilter::Device(device) => {
            let (from, to) = query.range_of(0).unwrap_or_default();
            let sql = of_device(query.newest_first);
            let whose = columns::filed(device);
            db.query(&sql, &[&whose, &from, &to, &begin.measured_at, &begin.fid, &wanted]).await?
        }
        FrameFilter::Patient(patient) | FrameFilter::Kinds(patient, _) => {
            let patient = columns::filed(patient);
            let (mut kinds, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
            for columns in db.query(FRAME_KINDS, &[&patient]).await? {
                let kind: i64 = value(&columns, 0)?;
                if let Some(range) = query.range_of(kind) {
                    kinds.push(kind);
                    from.push(range.0);
                    to.push(range.1);
                }
            }
            if kinds.is_empty() {
                return Ok(page);
            }
            let sql = of_kinds(query.newest_first);
            db.query(&sql, &[&patient, &kinds, &from, &to, &begin.measured_at, &begin.fid, &wanted]).await?
        }
    };
    for columns in &rows {
        let place = FrameCursor { measured_at: value(columns, 6)?, fid: value(columns, 0)? };
        page.push(columns::frame(columns), place);
    }
    page.next = page.next.filter(|_| clamp(rows.len() as u64) == wanted);
    Ok(page)
}

/// The statement that gives a page of a device's frames.
pub(super) fn of_device(newest_first: bool) -> String {
    let (beyond, direction) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
    format!(
        "SELECT {} FROM frame WHERE device = $1 AND measured_at >= $2 AND measured_at < $3 \
         AND (measured_at, fid) {beyond} ($4, $5) ORDER BY measured_at {direction}, fid {direction} LIMIT $6",
        columns::FRAME
    )
}

/// The statement that gives a page of a patient's frames of some kinds, each kind in a range of time of its own.
pub(super) fn of_kinds(newest_first: bool) -> String {
    let (beyond, direction) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
    format!(
        "SELECT {} FROM (SELECT p.fid AS place FROM unnest($2::int8[], $3::int8[], $4::int8[]) AS k (kind, since, until) \
         CROSS JOIN LATERAL (SELECT measured_at, fid FROM frame f WHERE f.patient = $1 AND f.kind = k.kind \
         AND f.measured_at >= k.since AND f.measured_at < k.until AND (f.measured_at, f.fid) {beyond} ($5, $6) \
         ORDER BY f.measured_at {direction}, f.fid {direction} LIMIT $7) p \
         ORDER BY p.measured_at {direction}, p.fid {direction} LIMIT $7) q \
         CROSS JOIN LATERAL (SELECT * FROM frame f WHERE f.fid = q.place OFFSET 0) f \
         ORDER BY measured_at {direction}, fid {direction}",
        columns::FRAME
    )
}

/// The digests of a device's frames between counters.
pub(super) const FRAME_DIGESTS: &str =
    "SELECT counter, digest FROM frame WHERE device = $1 AND counter >= $2 AND counter <= $3 ORDER BY counter LIMIT $4";

pub(crate) async fn frame_digests(
    db: &Session,
    device: &str,
    first: u64,
    last: u64,
    wanted: usize,
) -> Result<Vec<(u64, Digest)>, ReadError> {
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    let rows = db.query(FRAME_DIGESTS, &[&columns::filed(device), &clamp(first), &clamp(last), &wanted]).await?;
    let found = rows.iter().filter_map(|columns| {
        let digest = <[u8; 32]>::try_from(value::<&[u8]>(columns, 1).ok()?).ok()?;
        Some((natural(value(columns, 0).ok()?), Digest(digest)))
    });
    Ok(found.collect())
}

pub(crate) async fn trace(db: &Session, digest: &Digest) -> Result<Option<Trace>, ReadError> {
    let rows = db
        .query("SELECT binding, counter, patient FROM let_go WHERE digest = $1", &[&digest.as_bytes().as_slice()])
        .await?;
    Ok(rows.iter().find_map(|columns| {
        // What nobody of ours wrote is as if it was not there.
        let binding = <[u8; 16]>::try_from(value::<&[u8]>(columns, 0).ok()?).ok()?;
        let (counter, patient) = (natural(value(columns, 1).ok()?), value(columns, 2).ok()?);
        Some(Trace { digest: *digest, binding: Id16(binding), counter, patient })
    }))
}

/// The digests of a binding's frames between counters that were let go.
pub(super) const TRACES: &str = "SELECT counter, digest FROM let_go WHERE binding = $1 AND counter >= $2 AND counter <= $3 ORDER BY counter LIMIT $4";

pub(crate) async fn traces(
    db: &Session,
    binding: &Id16,
    first: u64,
    last: u64,
    wanted: usize,
) -> Result<Vec<(u64, Digest)>, ReadError> {
    let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
    let rows = db.query(TRACES, &[&binding.0.as_slice(), &clamp(first), &clamp(last), &wanted]).await?;
    let found = rows.iter().filter_map(|columns| {
        let digest = <[u8; 32]>::try_from(value::<&[u8]>(columns, 1).ok()?).ok()?;
        Some((natural(value(columns, 0).ok()?), Digest(digest)))
    });
    Ok(found.collect())
}

/// Where frames stand, by device and counter, behind a place.
pub(super) const FRAME_PLACES: &str = "SELECT fid, device, counter FROM frame \
     WHERE (device, counter) >= ($1, $2) AND (device, counter, fid) > ($1, $2, $3) ORDER BY device, counter, fid LIMIT $4";

pub(crate) async fn frame_places(
    db: &Session,
    after: Option<&FramePlace>,
    wanted: usize,
) -> Result<Vec<FramePlace>, ReadError> {
    let begin = FramePlace { device: Vec::new(), counter: i64::MIN, place: i64::MIN };
    let after = after.unwrap_or(&begin);
    // The server has text in UTF-8 and nothing else.
    let device = String::from_utf8_lossy(&after.device);
    let rows = db.query(FRAME_PLACES, &[&device, &after.counter, &after.place, &limit(wanted.max(1))]).await?;
    let places = rows.iter().map(|columns| {
        let device = value::<String>(columns, 1)?.into_bytes();
        Ok(FramePlace { device, counter: value(columns, 2)?, place: value(columns, 0)? })
    });
    places.collect()
}

/// The statement that gives a device's frames between counters, from a place on.
pub(super) fn filed_frames_of() -> String {
    format!(
        "SELECT {} FROM frame WHERE device = $1 AND counter >= $2 AND counter <= $4 AND (counter, fid) > ($2, $3) \
         ORDER BY counter, fid LIMIT $5",
        columns::FRAME
    )
}

pub(crate) async fn filed_frames(
    db: &Session,
    device: &str,
    (first, after): (u64, Option<i64>),
    last: u64,
    wanted: usize,
) -> Result<Vec<FiledFrame>, ReadError> {
    let after = after.unwrap_or(i64::MIN);
    let values: [&(dyn ToSql + Sync); 5] =
        [&columns::filed(device), &clamp(first), &after, &clamp(last), &limit(wanted.max(1))];
    Ok(db.query(&filed_frames_of(), &values).await?.iter().map(columns::filed_frame).collect())
}

pub(crate) async fn filed_frame(db: &Session, place: i64) -> Result<Option<FiledFrame>, ReadError> {
    let sql = format!("SELECT {} FROM frame WHERE fid = $1", columns::FRAME);
    Ok(db.query(&sql, &[&place]).await?.first().map(columns::filed_frame))
}

pub(crate) async fn last_frame(db: &Session, device: &str) -> Result<Option<Frame>, ReadError> {
    let sql = format!("SELECT {} FROM frame WHERE device = $1 ORDER BY counter DESC LIMIT 1", columns::FRAME);
    let rows = db.query(&sql, &[&columns::filed(device)]).await?;
    Ok(rows.iter().find_map(|columns| columns::frame(columns).ok()))
}

/// The kinds of a patient's frames, each once: the index is stepped through from one to the next.
const FRAME_KINDS: &str = "WITH RECURSIVE k (kind) AS ( \
     (SELECT kind FROM frame WHERE patient = $1 ORDER BY kind LIMIT 1) UNION ALL \
     SELECT (SELECT f.kind FROM frame f WHERE f.patient = $1 AND f.kind > k.kind ORDER BY f.kind LIMIT 1) FROM k \
     WHERE k.kind IS NOT NULL) SELECT kind FROM k WHERE kind IS NOT NULL";

pub(crate) async fn frame(db: &Session, digest: &Digest) -> Result<Option<Frame>, ReadError> {
    let sql = format!("SELECT {} FROM frame WHERE digest = $1 ORDER BY fid", columns::FRAME);
    let rows = db.query(&sql, &[&digest.as_bytes().as_slice()]).await?;
    Ok(rows.iter().find_map(|columns| columns::frame(columns).ok()))
}

pub(crate) async fn attachment(db: &Session, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
    let rows = db.query("SELECT bytes FROM attachment WHERE digest = $1", &[&digest.as_bytes().as_slice()]).await?;
    rows.first().map(|columns| value(columns, 0)).transpose()
}

pub(crate) async fn wrapped_keys(db: &Session, patient: &str) -> Result<Vec<WrappedKey>, ReadError> {
    let sql = "SELECT patient, org, bytes FROM wrapped_key WHERE patient = $1 ORDER BY org";
    let rows = db.query(sql, &[&columns::filed(patient)]).await?;
    Ok(rows.iter().filter_map(|columns| columns::wrapped_key(columns).ok()).collect())
}

pub(crate) async fn entry(db: &Session, id: &Id16) -> Result<Option<EntryPlace>, ReadError> {
    let sql = "SELECT id, org, lane, seq, rtype, record, version FROM entry WHERE id = $1";
    let rows = db.query(sql, &[&id.as_bytes().as_slice()]).await?;
    Ok(rows.iter().find_map(|columns| columns::entry(columns).ok()))
}

pub(crate) async fn submissions_since(
    db: &Session,
    org: &OrgId,
    lane: u32,
    seq: u64,
    wanted: usize,
) -> Result<Vec<Submission>, ReadError> {
    let sql = "SELECT org, lane, first_seq, count, bytes FROM submission WHERE org = $1 AND lane = $2 AND first_seq >= \
         (SELECT coalesce(max(first_seq), 0) FROM submission WHERE org = $1 AND lane = $2 AND first_seq <= $3) \
         AND first_seq + count > $3 ORDER BY first_seq LIMIT $4";
    let rows = db.query(sql, &[&org.as_str(), &i64::from(lane), &clamp(seq), &limit(wanted)]).await?;
    Ok(rows.iter().filter_map(|columns| columns::submission(columns).ok()).collect())
}

pub(crate) async fn lanes(db: &Session) -> Result<Vec<(OrgId, u32, u64)>, ReadError> {
    let sql = "SELECT org, lane, max(first_seq + count - 1) FROM submission GROUP BY org, lane ORDER BY org, lane";
    let rows = db.query(sql, &[]).await?;
    Ok(rows.iter().filter_map(|columns| columns::lane(columns).ok()).collect())
}
