//! The one shared recording that is a MATLAB file (MAT 5): a matrix of binary floats, a column for each signal.

use super::Recorded;
use flate2::read::ZlibDecoder;
use sensing::{Decimal, Samples};
use std::{io::Read as _, path::Path};

/// Compressed; then matrix, text and double, as MAT 5 numbers the kinds of its elements.
const COMPRESSED: u32 = 15;
const DOUBLES: u32 = 9;
/// Steps of a millivolt: the floats come from a filter and have no steps of their own; these keep half a nanovolt of them.
const PER_MV: f64 = 2_097_152.0;

/// An element's kind, its bytes, and what follows it.
fn element(bytes: &[u8]) -> (u32, &[u8], &[u8]) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (kind, length) = (word(0), word(4) as usize);
    if kind > 0xffff {
        // A small one has its length and its bytes in the same eight.
        return (kind & 0xffff, &bytes[4..4 + (kind >> 16) as usize], &bytes[8..]);
    }
    let end = if kind == COMPRESSED { length } else { length.next_multiple_of(8) };
    (kind, &bytes[8..8 + length], &bytes[8 + end..])
}

/// Both leads of `rr/TestAFdata.mat`.
pub(crate) fn read(folder: &Path) -> Vec<Recorded> {
    let file = std::fs::read(folder.join("rr/TestAFdata.mat")).unwrap();
    let mut rest = &file[128..];
    while !rest.is_empty() {
        let (kind, packed, next) = element(rest);
        rest = next;
        assert_eq!(kind, COMPRESSED);
        let mut matrix = Vec::new();
        ZlibDecoder::new(packed).read_to_end(&mut matrix).unwrap();
        let (_, matrix, _) = element(&matrix);
        let (_, _, after_flags) = element(matrix);
        let (_, dimensions, after) = element(after_flags);
        let (_, name, after) = element(after);
        if name != b"signal" {
            continue;
        }
        let rows = u32::from_le_bytes(dimensions[..4].try_into().unwrap()) as usize;
        let (kind, values, _) = element(after);
        assert_eq!(kind, DOUBLES);
        let values: Vec<f64> = values.chunks(8).map(|v| f64::from_le_bytes(v.try_into().unwrap())).collect();
        let lead = |(name, column): (&str, &[f64])| Recorded {
            name: name.to_owned(),
            unit: "mV".to_owned(),
            rate_hz: Decimal::whole(128),
            origin: Decimal::ZERO,
            scale: Decimal::from_f64(format!("{:.11e}", 1.0 / PER_MV).parse().unwrap()).unwrap(),
            samples: Samples::I32(column.iter().map(|mv| (mv * PER_MV).round() as i32).collect()),
        };
        return ["ecg-i", "ecg-ii"].into_iter().zip(values.chunks(rows)).map(lead).collect();
    }
    panic!("no matrix `signal`")
}
