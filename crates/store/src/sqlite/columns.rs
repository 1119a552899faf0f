//! From columns to rows and back, with a name for every column that has not its form.

use crate::{
    int64::natural,
    row::{EntryPlace, Frame, Malformed, Row, Submission, VersionKey, WrappedKey},
    select::Value,
};
use record::{Digest, Id16, OrgId, Pseudonym, RecordTag, TimeMs};
use rusqlite::{
    Row as Columns,
    types::{FromSql, ToSql, ToSqlOutput},
};

/// The columns of a version in the order that [`version`] reads them.
pub(super) const VERSION: &str = "v.vid, v.rtype, v.id, v.version, v.deleted, v.written_at, v.patient, v.author, v.entry, v.salt, \
    v.tag, v.pseudonym, v.label, v.bytes";
/// The columns of a frame in the order that [`frame`] reads them.
pub(super) const FRAME: &str = "fid, device, counter, binding, patient, received_at, measured_at, digest, bytes";

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Int(number) => number.to_sql(),
            Self::Real(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// A column's value if it has its form.
fn column<T: FromSql>(columns: &Columns<'_>, index: usize, name: &'static str) -> Result<T, &'static str> {
    columns.get(index).map_err(|_| name)
}

fn count(columns: &Columns<'_>, index: usize, name: &'static str) -> Result<u64, &'static str> {
    u64::try_from(column::<i64>(columns, index, name)?).map_err(|_| name)
}

fn fixed<const N: usize>(columns: &Columns<'_>, index: usize, name: &'static str) -> Result<[u8; N], &'static str> {
    let value = columns.get_ref(index).map_err(|_| name)?;
    value.as_blob().ok().and_then(|blob| blob.try_into().ok()).ok_or(name)
}

fn org(columns: &Columns<'_>, index: usize, name: &'static str) -> Result<OrgId, &'static str> {
    column::<String>(columns, index, name)?.parse().map_err(|_| name)
}

/// Reads the columns [`VERSION`].
pub(super) fn version(columns: &Columns<'_>) -> Result<Row, Malformed> {
    try_version(columns).map_err(|column| Malformed {
        rtype: columns.get(1).unwrap_or_default(),
        id: columns.get(2).unwrap_or_default(),
        version: columns.get::<_, i64>(3).ok().and_then(|version| version.try_into().ok()).unwrap_or_default(),
        column,
        place: columns.get(0).map(natural).unwrap_or_default(),
    })
}

fn try_version(columns: &Columns<'_>) -> Result<Row, &'static str> {
    let pseudonym: Option<Vec<u8>> = column(columns, 11, "pseudonym")?;
    let pseudonym = pseudonym.map(|bytes| <[u8; 32]>::try_from(bytes).map_err(|_| "pseudonym")).transpose()?;
    Ok(Row {
        rtype: column(columns, 1, "rtype")?,
        id: column(columns, 2, "id")?,
        version: count(columns, 3, "version")?,
        deleted: column(columns, 4, "deleted")?,
        written_at: TimeMs(count(columns, 5, "written_at")?),
        patient: column(columns, 6, "patient")?,
        author: org(columns, 7, "author")?,
        entry: Id16(fixed(columns, 8, "entry")?),
        salt: Digest(fixed(columns, 9, "salt")?),
        tag: RecordTag(Digest(fixed(columns, 10, "tag")?)),
        pseudonym: pseudonym.map(|bytes| Pseudonym(Digest(bytes))),
        label: column(columns, 12, "label")?,
        bytes: column(columns, 13, "bytes")?,
    })
}

/// Reads the columns [`FRAME`].
pub(super) fn frame(columns: &Columns<'_>) -> Result<Frame, &'static str> {
    Ok(Frame {
        device: column(columns, 1, "device")?,
        counter: count(columns, 2, "counter")?,
        binding: Id16(fixed(columns, 3, "binding")?),
        patient: column(columns, 4, "patient")?,
        received_at: TimeMs(count(columns, 5, "received_at")?),
        measured_at: TimeMs(count(columns, 6, "measured_at")?),
        digest: Digest(fixed(columns, 7, "digest")?),
        bytes: column(columns, 8, "bytes")?,
    })
}

/// Reads org, lane, first_seq, count, bytes.
pub(super) fn submission(columns: &Columns<'_>) -> Result<Submission, &'static str> {
    Ok(Submission {
        org: org(columns, 0, "org")?,
        lane: column(columns, 1, "lane")?,
        first_seq: count(columns, 2, "first_seq")?,
        count: column(columns, 3, "count")?,
        bytes: column(columns, 4, "bytes")?,
    })
}

/// Reads id, org, lane, seq, rtype, record, version.
pub(super) fn entry(columns: &Columns<'_>) -> Result<EntryPlace, &'static str> {
    let rtype: Option<String> = column(columns, 4, "rtype")?;
    let record = match rtype {
        None => None,
        Some(rtype) => {
            Some(VersionKey { rtype, id: column(columns, 5, "record")?, version: count(columns, 6, "version")? })
        }
    };
    Ok(EntryPlace {
        id: Id16(fixed(columns, 0, "id")?),
        org: org(columns, 1, "org")?,
        lane: column(columns, 2, "lane")?,
        seq: count(columns, 3, "seq")?,
        record,
    })
}

/// Reads patient, org, bytes.
pub(super) fn wrapped_key(columns: &Columns<'_>) -> Result<WrappedKey, &'static str> {
    Ok(WrappedKey {
        patient: column(columns, 0, "patient")?,
        org: org(columns, 1, "org")?,
        bytes: column(columns, 2, "bytes")?,
    })
}
