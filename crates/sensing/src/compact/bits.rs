//! Bits, whole numbers of any length, and texts, written one after another and read back.

use super::Bad;

/// The longest text, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// A Rice code with more ones than this stands for a number in plain bits.
const ONES_MAX: u32 = 24;
/// Bits of such a number.
const PLAIN_BITS: u32 = 40;

/// Small numbers of either sign as small numbers: 0, -1, 1, -2, 2 as 0, 1, 2, 3, 4.
pub(super) fn folded(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The other way.
pub(super) fn unfolded(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Writes bits, the highest of a byte first.
#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// Bits that are no byte yet, and how many.
    rest: u64,
    held: u32,
}

impl Writer {
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        for from in (0..count.div_ceil(32)).rev() {
            let bits = (count - from * 32).min(32);
            let part = (value >> (from * 32)) & ((1 << bits) - 1);
            self.rest = (self.rest << bits) | part;
            self.held += bits;
            while self.held >= 8 {
                self.held -= 8;
                self.out.push((self.rest >> self.held) as u8);
            }
            self.rest &= (1 << self.held) - 1;
        }
    }
    pub(super) fn bit(&mut self, value: bool) {
        self.bits(value.into(), 1);
    }
    /// Seven bits at a time, the lowest first, each with a bit that says whether more follow.
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }
    pub(super) fn signed(&mut self, value: i64) {
        self.number(folded(value));
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.bits((*byte).into(), 8));
    }
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
    /// A Rice code: `value / 2^k` as ones and a zero, the rest as `k` bits (Rice, JPL Publication 79-22, 1979).
    pub(super) fn rice(&mut self, value: u64, k: u32) {
        let ones = value >> k;
        if ones < u64::from(ONES_MAX) {
            self.bits((1 << (ones + 1)) - 2, ones as u32 + 1);
            self.bits(value & ((1 << k) - 1), k);
        } else {
            self.bits((1 << ONES_MAX) - 1, ONES_MAX);
            self.bits(value, PLAIN_BITS);
        }
    }
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bits(0, (8 - self.held % 8) % 8);
        self.out
    }
}

/// How many bits [`Writer::rice`] takes.
pub(super) fn rice_bits(value: u64, k: u32) -> u64 {
    let ones = value >> k;
    if ones < u64::from(ONES_MAX) { ones + 1 + u64::from(k) } else { u64::from(ONES_MAX + PLAIN_BITS) }
}

/// Reads what [`Writer`] wrote.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    /// The next bit.
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    /// Whether nothing follows but the bits that fill up the last byte, all 0.
    pub(super) fn is_at_end(&self) -> bool {
        let rest = (self.bytes.len() * 8).saturating_sub(self.at);
        rest < 8 && self.bytes.last().is_none_or(|last| u32::from(*last) & ((1 << rest) - 1) == 0)
    }
    /// The next 57 bits or more, the first one highest; 0 after the end.
    fn window(&self) -> u64 {
        let mut eight = [0; 8];
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        eight.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        u64::from_be_bytes(eight) << (self.at % 8)
    }

    fn skip(&mut self, count: u32) -> Result<(), Bad> {
        self.at += count as usize;
        if self.at <= self.bytes.len() * 8 { Ok(()) } else { Err(Bad::Short) }
    }

    pub(super) fn bits(&mut self, count: u32) -> Result<u64, Bad> {
        if count > 32 {
            return Ok(self.bits(count - 32)? << 32 | self.bits(32)?);
        }
        let value = self.window().checked_shr(64 - count).unwrap_or(0);
        self.skip(count)?;
        Ok(value)
    }
    pub(super) fn bit(&mut self) -> Result<bool, Bad> {
        Ok(self.bits(1)? == 1)
    }
    pub(super) fn number(&mut self) -> Result<u64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let part = self.bits(8)?;
            let low = part & 0x7f;
            if shift == 63 && low > 1 {
                return Err(Bad::Number);
            }
            value |= low << shift;
            if part < 0x80 {
                return Ok(value);
            }
        }
        Err(Bad::Number)
    }
    pub(super) fn signed(&mut self) -> Result<i64, Bad> {
        self.number().map(unfolded)
    }
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Bad> {
        // Nothing is allocated for what is not there.
        if count > self.bytes.len() {
            return Err(Bad::Short);
        }
        (0..count).map(|_| Ok(self.bits(8)? as u8)).collect()
    }
    pub(super) fn text(&mut self) -> Result<String, Bad> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= TEXT_BYTES_MAX);
        String::from_utf8(self.bytes(length.ok_or(Bad::Number)?)?).map_err(|_| Bad::Text)
    }
    pub(super) fn rice(&mut self, k: u32) -> Result<u64, Bad> {
        let ones = self.window().leading_ones().min(ONES_MAX);
        if ones == ONES_MAX {
            self.skip(ones)?;
            return self.bits(PLAIN_BITS);
        }
        self.skip(ones + 1)?;
        Ok(u64::from(ones) << k | self.bits(k)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec((any::<u64>(), 0u32..=64, 0u32..31), 0..50)) {
            let mut writer = Writer::default();
            for &(value, bits, k) in &values {
                let cut = if bits == 64 { value } else { value & ((1 << bits) - 1) };
                writer.bits(cut, bits);
                writer.number(cut);
                writer.signed(value.cast_signed());
                writer.rice(cut & 0xff_ffff_ffff, k);
            }
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            for &(value, bits, k) in &values {
                let cut = if bits == 64 { value } else { value & ((1 << bits) - 1) };
                prop_assert_eq!(reader.bits(bits), Ok(cut));
                prop_assert_eq!(reader.number(), Ok(cut));
                prop_assert_eq!(reader.signed(), Ok(value.cast_signed()));
                prop_assert_eq!(reader.rice(k), Ok(cut & 0xff_ffff_ffff));
            }
            prop_assert!(reader.is_at_end());
            prop_assert_eq!(reader.bits(8), Err(Bad::Short));
        }
    }
}
