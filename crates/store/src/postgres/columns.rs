//! What PostgreSQL takes for parameters and gives for columns.

pub(super) use crate::columns::{FRAME, VERSION, entry, filed_frame, frame, lane, submission, version, wrapped_key};
use crate::{
    columns::Cells,
    extract::Number,
    order::{Form, Key},
    select::Value,
};
use std::borrow::Cow;
use tokio_postgres::{
    Row as Columns,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

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

/// What a row is sorted by. Of what has no such form it has none.
pub(super) fn key(columns: &Columns, index: usize, form: Form) -> Option<Key> {
    match form {
        Form::Int => columns.try_get(index).ok().map(Key::Int),
        Form::Real => columns.try_get(index).ok().and_then(Number::new).map(Key::Real),
        Form::Text => columns.try_get(index).ok().map(Key::text),
    }
}

impl Cells for Columns {
    fn number(&self, index: usize) -> Option<i64> {
        self.try_get(index).ok()
    }
    fn flag(&self, index: usize) -> Option<bool> {
        self.try_get::<_, i16>(index).ok().map(|flag| flag != 0)
    }
    fn text(&self, index: usize) -> Option<String> {
        self.try_get(index).ok()
    }
    fn text_or_null(&self, index: usize) -> Option<Option<String>> {
        self.try_get(index).ok()
    }
    fn bytes(&self, index: usize) -> Option<&[u8]> {
        self.try_get(index).ok()
    }
    fn bytes_or_null(&self, index: usize) -> Option<Option<&[u8]>> {
        self.try_get(index).ok()
    }
}
