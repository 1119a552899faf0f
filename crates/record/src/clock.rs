//! Points in time as the ledger counts them, and the months that pseudonyms change with.

use jiff::{Timestamp, tz::TimeZone};
use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct TimeMs(#[n(0)] pub u64);

/// A text that is no FHIR `instant`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an instant such as 2026-11-21T10:15:30.123Z")]
pub struct BadInstant;

/// The last millisecond that has a four-digit year in every time zone: 9999-12-30T22:00:00.000Z.
const LAST_MS: u64 = 253_402_207_200_000;

impl TimeMs {
    /// Reads a FHIR `instant`: date, time and offset, fractions of a second beyond milliseconds cut off.
    pub fn from_instant(text: &str) -> Result<Self, BadInstant> {
        let at: Timestamp = text.parse().map_err(|_| BadInstant)?;
        u64::try_from(at.as_millisecond()).map(Self).map_err(|_| BadInstant)
    }

    /// Writes a FHIR `instant` in UTC with milliseconds. Times after the year 9999 are written as its last day.
    pub fn to_instant(self) -> String {
        let ms = i64::try_from(self.0.min(LAST_MS)).unwrap_or(0);
        Timestamp::from_millisecond(ms).map(|at| format!("{at:.3}")).unwrap_or_default()
    }

    /// Writes a date as HTTP has it, to the second: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
    pub fn to_http_date(self) -> String {
        let ms = i64::try_from(self.0.min(LAST_MS)).unwrap_or(0);
        Timestamp::from_millisecond(ms)
            .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .unwrap_or_default()
    }

    /// The calendar month in UTC.
    pub fn month(self) -> Month {
        let ms = i64::try_from(self.0.min(LAST_MS)).unwrap_or(0);
        let date = Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        // Both factors are in range: the year is 1970 to 9999, the month 1 to 12.
        Month(date.year().unsigned_abs() as u32 * 12 + u32::from(date.month().unsigned_abs()) - 1)
    }

    /// This time plus `ms` milliseconds, at most the greatest time.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
impl fmt::Display for TimeMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_instant())
    }
}

/// A calendar month in UTC: twelve times the year, plus the month counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode, CborLen)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Month(#[n(0)] pub u32);

impl Month {
    /// The month before.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip_in_utc_with_milliseconds() {
        let at = TimeMs::from_instant("2026-11-21T10:15:30.123+01:00").unwrap();
        assert_eq!(at.to_instant(), "2026-11-21T09:15:30.123Z");
        assert_eq!(TimeMs::from_instant("2026-11-21T09:15:30Z").unwrap().to_instant(), "2026-11-21T09:15:30.000Z");
        assert_eq!(TimeMs::from_instant("2026-11-21"), Err(BadInstant));
        assert_eq!(TimeMs::from_instant("1969-12-31T23:59:59Z"), Err(BadInstant));
        assert_eq!(TimeMs(u64::MAX).to_instant(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn http_dates_are_in_gmt_to_the_second() {
        let at = TimeMs::from_instant("1994-11-06T09:49:37.999+01:00").unwrap();
        assert_eq!(at.to_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn months_change_at_midnight_utc() {
        let last = TimeMs::from_instant("2026-10-31T23:59:59.999Z").unwrap();
        assert_eq!(last.month().to_string(), "2026-10");
        assert_eq!(last.plus_ms(1).month().to_string(), "2026-11");
        assert_eq!(TimeMs::from_instant("2027-01-01T00:00:00Z").unwrap().month().previous().to_string(), "2026-12");
    }
}
