//! FHIR dates as spans of time: a date without time is a whole day, a year is a whole year.

use serde_json::Value;

/// Milliseconds since 1970-01-01T00:00:00Z, from `lo_ms` until before `hi_ms`. Dates without time zone count as UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateRange {
    /// First millisecond; `i64::MIN` when the beginning is open.
    pub lo_ms: i64,
    /// First millisecond after it; `i64::MAX` when the end is open.
    pub hi_ms: i64,
}

const DAY_MS: i64 = 86_400_000;

impl DateRange {
    /// Reads a FHIR `date`, `dateTime` or `instant`; also hours and minutes without seconds or zone, as searches have them.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = digits(parts.next()?, 4).filter(|year| *year > 0)?;
        let month = parts.next().map(|part| digits(part, 2).filter(|m| (1..=12).contains(m)));
        let day = parts.next().map(|part| digits(part, 2));
        if parts.next().is_some() {
            return None;
        }
        let (lo, hi) = match (month, day, time) {
            (None, None, None) => (day_of(year, 1, 1), day_of(year + 1, 1, 1)),
            (Some(month), None, None) => {
                let month = month?;
                (day_of(year, month, 1), day_after_month(year, month))
            }
            (Some(month), Some(day), _) => {
                let (month, day) = (month?, day?);
                let first = day_of(year, month, 1);
                if day < 1 || first + day > day_after_month(year, month) {
                    return None;
                }
                (first + day - 1, first + day)
            }
            _ => return None,
        };
        match time {
            None => Some(Self { lo_ms: lo * DAY_MS, hi_ms: hi * DAY_MS }),
            Some(time) => {
                let (start_ms, length_ms) = time_of_day(time)?;
                let lo_ms = lo * DAY_MS + start_ms;
                Some(Self { lo_ms, hi_ms: lo_ms + length_ms })
            }
        }
    }

    /// The span of a date, Period or Timing element; nothing when it has no readable time.
    pub(super) fn of(element: &Value) -> Option<Self> {
        match element {
            Value::String(text) => Self::parse(text),
            Value::Object(fields) => {
                if let Some(bounds) = fields.get("repeat").and_then(|repeat| repeat.get("boundsPeriod")) {
                    return Self::of(bounds);
                }
                if let Some(Value::Array(events)) = fields.get("event") {
                    let spans = events.iter().filter_map(Self::of);
                    return spans.reduce(|a, b| Self { lo_ms: a.lo_ms.min(b.lo_ms), hi_ms: a.hi_ms.max(b.hi_ms) });
                }
                let end = |name| fields.get(name).and_then(Value::as_str).map(Self::parse);
                match (end("start"), end("end")) {
                    (Some(Some(start)), Some(Some(end))) => Some(Self { lo_ms: start.lo_ms, hi_ms: end.hi_ms }),
                    (Some(Some(start)), None) => Some(Self { lo_ms: start.lo_ms, hi_ms: i64::MAX }),
                    (None, Some(Some(end))) => Some(Self { lo_ms: i64::MIN, hi_ms: end.hi_ms }),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Start within the day in UTC and length, in milliseconds, of `hh:mm[:ss[.f]][zone]`.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let (clock, offset_min) = if let Some(clock) = text.strip_suffix('Z') {
        (clock, 0)
    } else if let Some(at) = text.rfind(['+', '-']) {
        let (clock, zone) = text.split_at(at);
        let (hours, minutes) = zone.get(1..)?.split_once(':')?;
        let minutes = digits(hours, 2).filter(|h| *h <= 14)? * 60 + digits(minutes, 2).filter(|m| *m < 60)?;
        (clock, if zone.starts_with('-') { -minutes } else { minutes })
    } else {
        (text, 0)
    };
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?, 2).filter(|h| *h < 24)?;
    let minutes = digits(parts.next()?, 2).filter(|m| *m < 60)?;
    let (ms, length_ms) = match parts.next() {
        None => (0, 60_000),
        Some(seconds) => {
            let (seconds, fraction) = match seconds.split_once('.') {
                Some((seconds, fraction)) => (seconds, Some(fraction)),
                None => (seconds, None),
            };
            // A leap second counts as the second after it.
            let seconds = digits(seconds, 2).filter(|s| *s <= 60)? * 1_000;
            match fraction {
                None => (seconds, 1_000),
                Some(fraction) => {
                    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
                        return None;
                    }
                    let (places, length_ms) = match fraction.len() {
                        1 => (100, 100),
                        2 => (10, 10),
                        _ => (1, 1),
                    };
                    (seconds + digits(&fraction[..fraction.len().min(3)], fraction.len().min(3))? * places, length_ms)
                }
            }
        }
    };
    Some(((hours * 60 + minutes - offset_min) * 60_000 + ms, length_ms))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn day_after_month(year: i64, month: i64) -> i64 {
    if month == 12 { day_of(year + 1, 1, 1) } else { day_of(year, month + 1, 1) }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year begins in March, so that the leap day is its last.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, range: Option<(i64, i64)>) {
        assert_eq!(DateRange::parse(text).map(|r| (r.lo_ms, r.hi_ms)), range, "{text}");
    }

    #[test]
    fn precision_becomes_a_span() {
        check("1970", Some((0, 365 * DAY_MS)));
        check("1970-02", Some((31 * DAY_MS, 59 * DAY_MS)));
        check("1969-12-31", Some((-DAY_MS, 0)));
        check("2024-02-29", Some((1_709_164_800_000, 1_709_251_200_000)));
        check("1970-01-01T00:01", Some((60_000, 120_000)));
        check("1970-01-01T01:00:00+01:00", Some((0, 1_000)));
        check("1970-01-01T00:00:00.5Z", Some((500, 600)));
        check("1969-12-31T19:00:00.123456-05:00", Some((123, 124)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in [
            "",
            "70",
            "0000",
            "2023-13",
            "2023-02-29",
            "2023-2-1",
            "2023-01-32",
            "2023T10:00",
            "2023-01-01T",
            "2023-01-01T24:00",
            "2023-01-01T10",
            "2023-01-01T10:00:00.Z",
            "2023-01-01T10:00:00+1",
            "2023-01-01-01",
            "é023",
            "2023-01-01T10:00:00.é",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn days_follow_each_other_through_eight_centuries() {
        let mut expected = day_of(1600, 1, 1);
        for year in 1600..2400 {
            for month in 1..=12 {
                assert_eq!(day_of(year, month, 1), expected, "{year}-{month}");
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                expected +=
                    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            }
        }
        assert_eq!(day_of(1970, 1, 1), 0);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_span_has_a_length(text in "[0-9TZ:.+é-]{0,30}") {
            if let Some(range) = DateRange::parse(&text) {
                prop_assert!(range.lo_ms < range.hi_ms);
            }
        }
    }
}
