//! From columns to rows, in one order for every database, with a name for every column that has not its form.

use crate::{
    row::{EntryPlace, FiledFrame, Frame, Malformed, Row, Submission, VersionKey, WrappedKey},
    template::opened,
};
use record::{Digest, Id16, OrgId, Pseudonym, RecordTag, TimeMs};

/// The columns of a version in the order that [`version`] reads them, the last of them its template's sample if that is no longer than any of
/// ours ([`crate::template::BYTES_MAX`]).
pub(crate) const VERSION: &str = "v.vid, v.rtype, v.id, v.version, v.deleted, v.written_at, v.patient, v.author, v.entry, v.salt, \
    v.tag, v.pseudonym, v.label, v.bytes, v.gathered, \
    (SELECT t.sample FROM template t WHERE t.number = ~v.template AND length(t.sample) <= 65536)";
/// The columns of a frame in the order that [`frame`] reads them.
pub(crate) const FRAME: &str = "fid, device, counter, binding, patient, received_at, measured_at, kind, digest, bytes";

/// What a database gives of one row. None stands for a column that has not the form asked for.
pub(crate) trait Cells {
    fn number(&self, index: usize) -> Option<i64>;
    fn flag(&self, index: usize) -> Option<bool>;
    fn text(&self, index: usize) -> Option<String>;
    fn text_or_null(&self, index: usize) -> Option<Option<String>>;
    fn bytes(&self, index: usize) -> Option<&[u8]>;
    fn bytes_or_null(&self, index: usize) -> Option<Option<&[u8]>>;
}

fn text(columns: &impl Cells, index: usize, name: &'static str) -> Result<String, &'static str> {
    columns.text(index).ok_or(name)
}

fn bytes(columns: &impl Cells, index: usize, name: &'static str) -> Result<Vec<u8>, &'static str> {
    columns.bytes(index).map(<[u8]>::to_vec).ok_or(name)
}

fn count(columns: &impl Cells, index: usize, name: &'static str) -> Result<u64, &'static str> {
    columns.number(index).and_then(|number| number.try_into().ok()).ok_or(name)
}

fn small(columns: &impl Cells, index: usize, name: &'static str) -> Result<u32, &'static str> {
    columns.number(index).and_then(|number| number.try_into().ok()).ok_or(name)
}

fn fixed<const N: usize>(columns: &impl Cells, index: usize, name: &'static str) -> Result<[u8; N], &'static str> {
    columns.bytes(index).and_then(|bytes| bytes.try_into().ok()).ok_or(name)
}

fn org(columns: &impl Cells, index: usize, name: &'static str) -> Result<OrgId, &'static str> {
    columns.text(index).and_then(|text| text.parse().ok()).ok_or(name)
}

/// Reads the columns [`VERSION`].
pub(crate) fn version(columns: &impl Cells) -> Result<Row, Malformed> {
    try_version(columns).map_err(|column| Malformed {
        rtype: columns.text(1).unwrap_or_default(),
        id: columns.text(2).unwrap_or_default(),
        version: count(columns, 3, "version").unwrap_or_default(),
        column,
        place: count(columns, 0, "vid").unwrap_or_default(),
    })
}

fn try_version(columns: &impl Cells) -> Result<Row, &'static str> {
    // Whoever changed the form of templates is not to make rows unreadable that have none.
    let sample = columns.bytes_or_null(15).flatten();
    let pseudonym = columns.bytes_or_null(11).ok_or("pseudonym")?;
    let pseudonym = pseudonym.map(|bytes| <[u8; 32]>::try_from(bytes).map_err(|_| "pseudonym")).transpose()?;
    Ok(Row {
        rtype: text(columns, 1, "rtype")?,
        id: text(columns, 2, "id")?,
        version: count(columns, 3, "version")?,
        deleted: columns.flag(4).ok_or("deleted")?,
        written_at: TimeMs(count(columns, 5, "written_at")?),
        patient: columns.text_or_null(6).ok_or("patient")?,
        author: org(columns, 7, "author")?,
        entry: Id16(fixed(columns, 8, "entry")?),
        salt: Digest(fixed(columns, 9, "salt")?),
        tag: RecordTag(Digest(fixed(columns, 10, "tag")?)),
        pseudonym: pseudonym.map(|bytes| Pseudonym(Digest(bytes))),
        label: text(columns, 12, "label")?,
        bytes: columns.bytes(13).and_then(|filed| opened(filed, sample)).ok_or("bytes")?,
        gathered: columns.bytes_or_null(14).ok_or("gathered")?.map(<[u8]>::to_vec),
    })
}

/// Reads the columns [`FRAME`].
pub(crate) fn frame(columns: &impl Cells) -> Result<Frame, &'static str> {
    Ok(Frame {
        device: text(columns, 1, "device")?,
        counter: count(columns, 2, "counter")?,
        binding: Id16(fixed(columns, 3, "binding")?),
        patient: text(columns, 4, "patient")?,
        received_at: TimeMs(count(columns, 5, "received_at")?),
        measured_at: TimeMs(count(columns, 6, "measured_at")?),
        kind: columns.number(7).ok_or("kind")?,
        digest: Digest(fixed(columns, 8, "digest")?),
        bytes: bytes(columns, 9, "bytes")?,
    })
}

/// Reads the columns [`FRAME`], as far as they have their form.
pub(crate) fn filed_frame(columns: &impl Cells) -> FiledFrame {
    FiledFrame {
        place: columns.number(0).unwrap_or_default(),
        device: columns.text(1),
        counter: count(columns, 2, "counter").ok(),
        binding: fixed(columns, 3, "binding").ok().map(Id16),
        patient: columns.text(4),
        received_at: count(columns, 5, "received_at").ok().map(TimeMs),
        measured_at: count(columns, 6, "measured_at").ok().map(TimeMs),
        kind: columns.number(7),
        digest: fixed(columns, 8, "digest").ok().map(Digest),
        bytes: bytes(columns, 9, "bytes").ok(),
    }
}

/// Reads org, lane, first_seq, count, bytes.
pub(crate) fn submission(columns: &impl Cells) -> Result<Submission, &'static str> {
    Ok(Submission {
        org: org(columns, 0, "org")?,
        lane: small(columns, 1, "lane")?,
        first_seq: count(columns, 2, "first_seq")?,
        count: small(columns, 3, "count")?,
        bytes: bytes(columns, 4, "bytes")?,
    })
}

/// Reads id, org, lane, seq, rtype, record, version.
pub(crate) fn entry(columns: &impl Cells) -> Result<EntryPlace, &'static str> {
    let rtype = columns.text_or_null(4).ok_or("rtype")?;
    let record = match rtype {
        None => None,
        Some(rtype) => {
            Some(VersionKey { rtype, id: text(columns, 5, "record")?, version: count(columns, 6, "version")? })
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
pub(crate) fn wrapped_key(columns: &impl Cells) -> Result<WrappedKey, &'static str> {
    Ok(WrappedKey {
        patient: text(columns, 0, "patient")?,
        org: org(columns, 1, "org")?,
        bytes: bytes(columns, 2, "bytes")?,
    })
}

/// Reads org, lane, and the last sequence number there.
pub(crate) fn lane(columns: &impl Cells) -> Result<(OrgId, u32, u64), &'static str> {
    Ok((org(columns, 0, "org")?, small(columns, 1, "lane")?, count(columns, 2, "last")?))
}
