//! From columns to rows and back, with a name for every column that has not its form.

use crate::{
    row::{EntryPlace, Frame, Malformed, Row, Submission, VersionKey, WrappedKey},
    select::Value,
};
use record::{Digest, Id16, OrgId, Pseudonym, RecordTag, TimeMs};
use std::borrow::Cow;
use tokio_postgres::{
    Row as Columns,
    types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

/// The columns of a version in the order that [`version`] reads them.
pub(super) const VERSION: &str = "v.vid, v.rtype, v.id, v.version, v.deleted, v.written_at, v.patient, v.author, v.entry, v.salt, \
    v.tag, v.pseudonym, v.label, v.bytes";
/// The columns of a frame in the order that [`frame`] reads them.
pub(super) const FRAME: &str = "fid, device, counter, binding, patient, received_at, measured_at, digest, bytes";

/// What stands for a NUL in search values, and in what is looked for: PostgreSQL's texts have none. No text that means something has
/// this character.
const FOR_NUL: &str = "\u{fdd0}";

/// A text as it is filed and looked for.
pub(super) fn filed(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', FOR_NUL)) } else { Cow::Borrowed(text) }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Int(number) => number.to_sql_checked(ty, out),
            Self::Real(number) => number.to_sql_checked(ty, out),
            Self::Text(text) => filed(text).to_sql_checked(ty, out),
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

/// A column's value if it has its form.
fn column<'a, T: FromSql<'a>>(columns: &'a Columns, index: usize, name: &'static str) -> Result<T, &'static str> {
    columns.try_get(index).map_err(|_| name)
}

fn count(columns: &Columns, index: usize, name: &'static str) -> Result<u64, &'static str> {
    u64::try_from(column::<i64>(columns, index, name)?).map_err(|_| name)
}

fn small(columns: &Columns, index: usize, name: &'static str) -> Result<u32, &'static str> {
    u32::try_from(column::<i64>(columns, index, name)?).map_err(|_| name)
}

fn fixed<const N: usize>(columns: &Columns, index: usize, name: &'static str) -> Result<[u8; N], &'static str> {
    column::<&[u8]>(columns, index, name)?.try_into().map_err(|_| name)
}

fn org(columns: &Columns, index: usize, name: &'static str) -> Result<OrgId, &'static str> {
    column::<&str>(columns, index, name)?.parse().map_err(|_| name)
}

/// Reads the columns [`VERSION`].
pub(super) fn version(columns: &Columns) -> Result<Row, Malformed> {
    try_version(columns).map_err(|column| Malformed {
        rtype: columns.try_get(1).unwrap_or_default(),
        id: columns.try_get(2).unwrap_or_default(),
        version: count(columns, 3, "version").unwrap_or_default(),
        column,
        place: count(columns, 0, "vid").unwrap_or_default(),
    })
}

fn try_version(columns: &Columns) -> Result<Row, &'static str> {
    let pseudonym: Option<&[u8]> = column(columns, 11, "pseudonym")?;
    let pseudonym = pseudonym.map(|bytes| <[u8; 32]>::try_from(bytes).map_err(|_| "pseudonym")).transpose()?;
    Ok(Row {
        rtype: column(columns, 1, "rtype")?,
        id: column(columns, 2, "id")?,
        version: count(columns, 3, "version")?,
        deleted: column::<i16>(columns, 4, "deleted")? != 0,
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
pub(super) fn frame(columns: &Columns) -> Result<Frame, &'static str> {
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
pub(super) fn submission(columns: &Columns) -> Result<Submission, &'static str> {
    Ok(Submission {
        org: org(columns, 0, "org")?,
        lane: small(columns, 1, "lane")?,
        first_seq: count(columns, 2, "first_seq")?,
        count: small(columns, 3, "count")?,
        bytes: column(columns, 4, "bytes")?,
    })
}

/// Reads id, org, lane, seq, rtype, record, version.
pub(super) fn entry(columns: &Columns) -> Result<EntryPlace, &'static str> {
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
        lane: small(columns, 2, "lane")?,
        seq: count(columns, 3, "seq")?,
        record,
    })
}

/// Reads patient, org, bytes.
pub(super) fn wrapped_key(columns: &Columns) -> Result<WrappedKey, &'static str> {
    Ok(WrappedKey {
        patient: column(columns, 0, "patient")?,
        org: org(columns, 1, "org")?,
        bytes: column(columns, 2, "bytes")?,
    })
}

/// Reads org, lane, and the last sequence number there.
pub(super) fn lane(columns: &Columns) -> Result<(OrgId, u32, u64), &'static str> {
    Ok((org(columns, 0, "org")?, small(columns, 1, "lane")?, count(columns, 2, "last")?))
}
