//! Decimal numbers as a device wrote them, so that 36.6 stays 36.6.

use std::{cmp::Ordering, fmt};

/// The most digits a decimal may have when it did not come from a binary float.
pub(crate) const DECIMAL_DIGITS_MAX: u32 = 15;
/// The smallest power of ten of a decimal's last digit.
pub(crate) const DECIMAL_EXPONENT_MIN: i8 = -18;
/// The greatest power of ten of a decimal's last digit.
pub(crate) const DECIMAL_EXPONENT_MAX: i8 = 9;

/// `mantissa` × 10^`exponent`, exactly.
///
/// Every decimal becomes a binary float and returns from its shortest text unchanged in value, so JSON carries it exactly.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    // INVARIANT: at most 15 digits, or what the shortest text of a binary float has (at most 17).
    mantissa: i64,
    // INVARIANT: DECIMAL_EXPONENT_MIN..=DECIMAL_EXPONENT_MAX.
    exponent: i8,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0 };
    /// One.
    pub const ONE: Self = Self { mantissa: 1, exponent: 0 };

    /// The decimal `mantissa` × 10^`exponent`; nothing when it has too many digits or an exponent out of range.
    pub const fn new(mantissa: i64, exponent: i8) -> Option<Self> {
        let fits = mantissa.unsigned_abs() < 10u64.pow(DECIMAL_DIGITS_MAX);
        if fits && exponent >= DECIMAL_EXPONENT_MIN && exponent <= DECIMAL_EXPONENT_MAX {
            Some(Self { mantissa, exponent })
        } else {
            None
        }
    }

    /// The whole number `value`.
    pub const fn whole(value: i32) -> Self {
        Self { mantissa: value as i64, exponent: 0 }
    }

    /// The decimal with the fewest digits that reads back as `value`; nothing for what is not finite or out of range.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let text = format!("{value:e}");
        let (digits, power) = text.split_once('e')?;
        let power: i32 = power.parse().ok()?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut mantissa: i64 = format!("{whole}{fraction}").parse().ok()?;
        let mut exponent = power - i32::try_from(fraction.len()).ok()?;
        // Whole numbers stay whole: 120 is 120 × 10^0, not 12 × 10^1.
        while exponent > 0 {
            mantissa = mantissa.checked_mul(10)?;
            exponent -= 1;
        }
        let exponent = i8::try_from(exponent).ok()?;
        let in_range = mantissa.unsigned_abs() < 10u64.pow(17) && exponent >= DECIMAL_EXPONENT_MIN;
        in_range.then_some(Self { mantissa, exponent })
    }

    /// This and `steps` × `scale`, exactly; nothing when that has too many digits.
    pub fn plus_steps(self, steps: i32, scale: Self) -> Option<Self> {
        let mut exponent = self.exponent.min(scale.exponent);
        let moved = scale.scaled(exponent)?.checked_mul(i128::from(steps))?;
        let mut mantissa = self.scaled(exponent)?.checked_add(moved)?;
        while mantissa.unsigned_abs() >= 10u128.pow(DECIMAL_DIGITS_MAX) && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Self::new(i64::try_from(mantissa).ok()?, exponent)
    }

    /// The digits as one whole number.
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// The power of ten of the last digit.
    pub const fn exponent(self) -> i8 {
        self.exponent
    }

    /// The nearest binary float; its shortest text is this decimal.
    pub fn to_f64(self) -> f64 {
        const EXACT: i64 = 1 << 53;
        if self.mantissa.abs() < EXACT {
            // Both operands are exact, so the one division or multiplication rounds correctly.
            let power = 10f64.powi(i32::from(self.exponent.unsigned_abs()));
            let mantissa = self.mantissa as f64;
            if self.exponent < 0 { mantissa / power } else { mantissa * power }
        } else {
            self.to_string().parse().unwrap_or(f64::NAN)
        }
    }

    /// The decimal as a JSON number: whole numbers without a fraction, others with the same value.
    pub fn to_json(self) -> serde_json::Value {
        if self.exponent >= 0
            && let Some(whole) = self.mantissa.checked_mul(10i64.pow(u32::from(self.exponent.unsigned_abs())))
        {
            return whole.into();
        }
        serde_json::Number::from_f64(self.to_f64()).map_or(serde_json::Value::Null, serde_json::Value::Number)
    }

    /// The mantissa at a lower exponent; nothing when it is beyond 2^127.
    fn scaled(self, exponent: i8) -> Option<i128> {
        let steps = u32::from((i16::from(self.exponent) - i16::from(exponent)).unsigned_abs());
        i128::from(self.mantissa).checked_mul(10i128.pow(steps))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Decimal {}
impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.exponent < other.exponent {
            return other.cmp(self).reverse();
        }
        match self.scaled(other.exponent) {
            Some(scaled) => scaled.cmp(&i128::from(other.mantissa)),
            // Beyond 2^127 it is further from zero than any mantissa: its sign decides.
            None => self.mantissa.cmp(&0),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.exponent >= 0 {
            let zeros = if self.mantissa == 0 { 0 } else { usize::from(self.exponent.unsigned_abs()) };
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros));
        }
        let places = usize::from(self.exponent.unsigned_abs());
        let digits = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_shows_the_digits_that_were_given() {
        for (mantissa, exponent, text) in
            [(366, -1, "36.6"), (3660, -2, "36.60"), (-5, -3, "-0.005"), (12, 1, "120"), (0, -2, "0.00"), (0, 3, "0")]
        {
            assert_eq!(Decimal::new(mantissa, exponent).unwrap().to_string(), text);
        }
    }

    #[test]
    fn too_many_digits_and_far_exponents_are_refused() {
        assert_eq!(Decimal::new(1_000_000_000_000_000, 0), None);
        assert_eq!(Decimal::new(i64::MIN, 0), None);
        assert_eq!(Decimal::new(1, 10), None);
        assert_eq!(Decimal::new(1, -19), None);
        for bad in [f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            assert_eq!(Decimal::from_f64(bad), None);
        }
        assert_eq!(Decimal::from_f64(120.0).unwrap().to_string(), "120");
    }

    #[test]
    fn equal_values_are_equal_whatever_their_zeros() {
        assert_eq!(Decimal::new(370, -1), Decimal::new(37, 0));
        assert!(Decimal::new(369, -1) < Decimal::new(37, 0));
        assert_eq!(Decimal::new(37, 0).unwrap().to_json().to_string(), "37");
        assert_eq!(Decimal::new(3660, -2).unwrap().to_json().to_string(), "36.6");
    }

    /// The comparison multiplied by 10^27 and stopped the program for the largest decimals beside the finest ones.
    #[test]
    fn the_largest_and_the_finest_decimals_are_compared() {
        let large = Decimal::new(999_999_999_999_999, 9).unwrap();
        let fine = Decimal::new(-999_999_999_999_999, -18).unwrap();
        assert_eq!((large.cmp(&fine), fine.cmp(&large)), (Ordering::Greater, Ordering::Less));
        assert!(Decimal::new(-999_999_999_999_999, 9).unwrap() < fine);
        assert_eq!(large.plus_steps(1, fine), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn json_carries_every_decimal_exactly(mantissa in -999_999_999_999_999i64..=999_999_999_999_999, exponent in -18i8..=9) {
            let decimal = Decimal::new(mantissa, exponent).unwrap();
            let back: f64 = decimal.to_json().to_string().parse().unwrap();
            let text: f64 = decimal.to_string().parse().unwrap();
            prop_assert_eq!(back.to_bits(), text.to_bits());
            if let Some(again) = Decimal::from_f64(back) {
                prop_assert_eq!(again, decimal);
            }
        }

        #[test]
        fn floats_in_range_return_as_themselves(value in -1e9f64..1e9) {
            if let Some(decimal) = Decimal::from_f64(value) {
                prop_assert_eq!(decimal.to_f64().to_bits(), value.to_bits());
            }
        }
    }
}
