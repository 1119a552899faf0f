//! What SQLite takes for parameters and gives for columns.

pub(super) use crate::columns::{FRAME, VERSION, entry, filed_frame, frame, lane, submission, version, wrapped_key};
use crate::{columns::Cells, extract::Number, order::Key, select::Value};
use rusqlite::{
    Row as Columns,
    types::{ToSql, ToSqlOutput, ValueRef},
};

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Int(number) => number.to_sql(),
            Self::Real(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// What a row is sorted by. Of what has no such form it has none.
pub(super) fn key(value: ValueRef<'_>) -> Option<Key> {
    match value {
        ValueRef::Integer(number) => Some(Key::Int(number)),
        ValueRef::Real(number) => Number::new(number).map(Key::Real),
        ValueRef::Text(text) => Some(Key::text(&String::from_utf8_lossy(text))),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}

impl Cells for Columns<'_> {
    fn number(&self, index: usize) -> Option<i64> {
        self.get(index).ok()
    }
    fn flag(&self, index: usize) -> Option<bool> {
        self.get(index).ok()
    }
    fn text(&self, index: usize) -> Option<String> {
        self.get(index).ok()
    }
    fn text_or_null(&self, index: usize) -> Option<Option<String>> {
        self.get(index).ok()
    }
    fn bytes(&self, index: usize) -> Option<&[u8]> {
        self.get_ref(index).ok()?.as_blob().ok()
    }
    fn bytes_or_null(&self, index: usize) -> Option<Option<&[u8]>> {
        self.get_ref(index).ok()?.as_blob_or_null().ok()
    }
}
