//! Numbers as the databases hold them: 64 bits with a sign.

use crate::put::PutError;

/// A number as the database holds it.
pub(crate) fn int(number: u64, what: &'static str) -> Result<i64, PutError> {
    i64::try_from(number).map_err(|_| PutError::Invalid(what))
}

/// A number as the database holds it; a larger one than it can hold meets no row.
pub(crate) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that the database holds as a place or a count.
pub(crate) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
