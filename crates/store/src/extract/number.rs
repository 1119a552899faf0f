//! Numbers as they are compared: the nearest double, so that decimals of up to 15 digits are told apart.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

/// The most digits of a number that is searched for.
pub(crate) const DIGITS_MAX: usize = 15;
/// The largest power of ten of such a number, either way.
const EXPONENT_MAX: i32 = 200;

/// A number that is one; also positive and negative infinity.
#[derive(Debug, Clone, Copy)]
pub struct Number(
    // INVARIANT: not NaN, and no negative zero.
    f64,
);

impl Number {
    /// Below all numbers.
    pub const LEAST: Self = Self(f64::NEG_INFINITY);
    /// Above all numbers.
    pub const MOST: Self = Self(f64::INFINITY);

    /// None for what is not a number.
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self(value + 0.0))
    }

    /// Its value.
    pub fn value(self) -> f64 {
        self.0
    }

    pub(super) fn below(self) -> Self {
        Self(self.0.next_down() + 0.0)
    }

    pub(super) fn above(self) -> Self {
        Self(self.0.next_up() + 0.0)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Number {}
impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// A number as a search writes it: the more digits, the more precisely it is meant.
///
/// Source: FHIR R4 `search.html#number`: 100 means all from 99.5 until before 100.5, and 100.00 all from 99.995 until before 100.005.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The number itself.
    pub exact: Number,
    /// The least number that it stands for.
    pub from: Number,
    /// The least number above those that it stands for.
    pub until: Number,
    /// The least number that it is about: a tenth less, or `from` when that is less.
    pub about_from: Number,
    /// The greatest number that it is about.
    pub about_to: Number,
}

impl Written {
    /// Reads a decimal number, with or without exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (negative, whole) = whole.strip_prefix('-').map_or((false, whole), |whole| (true, whole));
        let digits = format!("{whole}{fraction}");
        let wrong = whole.is_empty()
            || (fraction.is_empty() && mantissa.contains('.'))
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || digits.trim_start_matches('0').len() > DIGITS_MAX;
        if wrong || exponent.abs() > EXPONENT_MAX {
            return None;
        }
        let size: i64 = digits.parse().ok()?;
        let tenths = if negative { -size } else { size }.checked_mul(10)?;
        // The place of a tenth of the last digit.
        let place = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)? - 1;
        let number = |tenths: i64| Number::new(format!("{tenths}e{place}").parse().ok()?);
        // A tenth of the number, as of its digits one place further.
        let tenth = size.max(5);
        Some(Self {
            exact: number(tenths)?,
            from: number(tenths - 5)?,
            until: number(tenths + 5)?,
            about_from: number(tenths - tenth)?,
            about_to: number(tenths + tenth)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<[f64; 5]>) {
        let found =
            Written::parse(text).map(|of| [of.exact, of.from, of.until, of.about_from, of.about_to].map(Number::value));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_number_stands_for_what_rounds_to_its_digits() {
        check("5.4", Some([5.4, 5.35, 5.45, 4.86, 5.94]));
        check("100", Some([100.0, 99.5, 100.5, 90.0, 110.0]));
        check("100.00", Some([100.0, 99.995, 100.005, 90.0, 110.0]));
        check("1.0e2", Some([100.0, 95.0, 105.0, 90.0, 110.0]));
        check("-0.5", Some([-0.5, -0.55, -0.45, -0.55, -0.45]));
        check("0", Some([0.0, -0.5, 0.5, -0.5, 0.5]));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["", "-", ".5", "5.", "5,4", "+5", "1e", "1e999", "NaN", "inf", "0x1", "5.4 ", "1234567890123456"] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_number_is_within_what_it_stands_for(text in "-?[0-9]{0,17}[.]?[0-9]{0,4}(e-?[0-9]{1,3})?") {
            if let Some(of) = Written::parse(&text) {
                prop_assert!(of.from <= of.exact && of.exact < of.until);
                prop_assert!(of.about_from <= of.exact && of.exact <= of.about_to);
            }
        }
    }
}
