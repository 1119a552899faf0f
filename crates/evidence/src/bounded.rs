//! Arrays and byte strings from outside: the length is checked before anything is kept.

use minicbor::{
    Decode, Decoder,
    decode::{Error, Error as Bad},
};

/// Reads an array of a definite length of at most `max` elements.
pub(crate) fn array<'b, C, T: Decode<'b, C>>(d: &mut Decoder<'b>, ctx: &mut C, max: usize) -> Result<Vec<T>, Error> {
    let length = d.array()?.ok_or_else(|| Bad::message("an array's length must be definite"))?;
    if length > max as u64 {
        return Err(Bad::message(format!("{length} elements are more than the {max} allowed")));
    }
    // An element has at least one byte, so that the vector grows with what was sent, never with what was announced.
    let mut items = Vec::new();
    for _ in 0..length {
        items.push(T::decode(d, ctx)?);
    }
    Ok(items)
}

/// Reads a byte string of at most `max` bytes.
pub(crate) fn bytes(d: &mut Decoder<'_>, max: usize) -> Result<Vec<u8>, Error> {
    let bytes = d.bytes()?;
    if bytes.len() > max {
        return Err(Bad::message(format!("{} bytes are more than the {max} allowed", bytes.len())));
    }
    Ok(bytes.to_vec())
}
