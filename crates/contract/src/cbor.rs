//! The one encoding of everything on the ledger: CBOR by `minicbor`, refused unless it is the encoding we would write.

use minicbor::{Decode, Encode, Encoder, encode};

/// Why bytes are not the encoding of what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// More bytes than the format allows.
    #[error("{got} bytes are more than the {max} that a {what} may have")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Bytes received.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not CBOR of the expected shape.
    #[error("not a {what}: {why}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// Well-formed, but not the deterministic encoding.
    #[error("not the deterministic encoding of a {what}")]
    NotDeterministic {
        /// What was read.
        what: &'static str,
    },
}

/// What most entries and values of the state need at most: room for it is made once, and not in many steps.
const USUAL_BYTES: usize = 256;

/// The deterministic encoding of `value`.
pub fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(USUAL_BYTES));
    match value.encode(&mut encoder, &mut ()) {
        Ok(()) => encoder.into_writer(),
        Err(_) => unreachable!("writing to a vector never fails"),
    }
}

/// Reads `bytes` as a `T`, named `what` in errors, of at most `max` bytes, and refuses every other encoding than [`to_cbor`]'s.
pub fn from_cbor<'b, T>(what: &'static str, bytes: &'b [u8], max: usize) -> Result<T, FormatError>
where
    T: Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > max {
        return Err(FormatError::TooLarge { what, got: bytes.len(), max });
    }
    let value: T = minicbor::decode(bytes).map_err(|e| FormatError::Malformed { what, why: e.to_string() })?;
    if encodes_to(&value, bytes) { Ok(value) } else { Err(FormatError::NotDeterministic { what }) }
}

/// Whether [`to_cbor`] of `value` is `bytes`, found without writing it down.
pub(crate) fn encodes_to<T: Encode<()>>(value: &T, bytes: &[u8]) -> bool {
    let mut encoder = Encoder::new(Expected(bytes));
    value.encode(&mut encoder, &mut ()).is_ok() && encoder.writer().0.is_empty()
}

/// Takes what was expected to be written, and nothing else.
struct Expected<'a>(&'a [u8]);

/// Something else was written.
struct Differs;

impl encode::Write for Expected<'_> {
    type Error = Differs;

    fn write_all(&mut self, written: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(written).ok_or(Differs)?;
        Ok(())
    }
}
