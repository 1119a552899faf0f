//! FHIR's dates and times as text: `date`, `dateTime`, `instant`, `time`.
//!
//! Source: FHIR R4 `datatypes.html#date` and following: the regular expressions there, and days that the calendar has.

/// Whether `text` is a `date`: `2026`, `2026-11` or `2026-11-21`.
pub(super) fn is_date(text: &str) -> bool {
    matches!(date(text), Some((_, "")))
}

/// Whether `text` is a `dateTime`: a `date`, or a whole one with time and offset.
pub(super) fn is_date_time(text: &str) -> bool {
    match date(text) {
        Some((_, "")) => true,
        Some((3, rest)) => rest.strip_prefix('T').and_then(time).is_some_and(is_offset),
        _ => false,
    }
}

/// Whether `text` is an `instant`: date, time and offset.
pub(super) fn is_instant(text: &str) -> bool {
    text.contains('T') && is_date_time(text)
}

/// Whether `text` is a `time`: `hh:mm:ss` with or without a fraction.
pub(super) fn is_time(text: &str) -> bool {
    time(text) == Some("")
}

/// How many of year, month and day there are, and what follows.
fn date(text: &str) -> Option<(u8, &str)> {
    let (year, rest) = digits(text, 4)?;
    if year == 0 {
        return None;
    }
    let Some(rest) = rest.strip_prefix('-') else { return Some((1, rest)) };
    let (month, rest) = digits(rest, 2)?;
    if !(1..=12).contains(&month) {
        return None;
    }
    let Some(rest) = rest.strip_prefix('-') else { return Some((2, rest)) };
    let (day, rest) = digits(rest, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=days).contains(&day).then_some((3, rest))
}

/// What follows `hh:mm:ss` and a fraction. The sixtieth second is allowed: some minutes have one.
fn time(text: &str) -> Option<&str> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let Some(fraction) = rest.strip_prefix('.') else { return Some(rest) };
    let end = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (end > 0).then(|| &fraction[end..])
}

/// `Z` or `+hh:mm`, at most 14 hours.
fn is_offset(text: &str) -> bool {
    let hours_and_minutes = |text: &str| {
        let (hours, rest) = digits(text, 2)?;
        let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
        Some(rest.is_empty() && minutes < 60 && hours * 60 + minutes <= 14 * 60)
    };
    text == "Z" || text.strip_prefix(['+', '-']).and_then(hours_and_minutes) == Some(true)
}

/// The number that `count` digits stand for, and what follows.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let head = text.as_bytes().get(..count)?;
    let number = head.iter().try_fold(0, |number, b| b.is_ascii_digit().then(|| number * 10 + u32::from(b - b'0')))?;
    Some((number, &text[count..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_takes_what_the_specification_shows_and_nothing_else() {
        type Case = (fn(&str) -> bool, &'static [&'static str], &'static [&'static str]);
        let cases: &[Case] = &[
            (
                is_date,
                &["2026", "2026-11", "2026-11-21", "1600-02-29", "2024-02-29"],
                &[
                    "",
                    "26",
                    "0000",
                    "2026-",
                    "2026-13",
                    "2026-1",
                    "2026-11-31",
                    "2023-02-29",
                    "1900-02-29",
                    "2026-11-21T",
                    "20261121",
                    "2026/11/21",
                    "2026-11-21 ",
                    "2026-11-é1",
                ],
            ),
            (
                is_date_time,
                &[
                    "2026",
                    "2026-11",
                    "2026-11-21",
                    "2026-11-21T10:15:30Z",
                    "2026-11-21T10:15:30.123456789+14:00",
                    "2016-12-31T23:59:60Z",
                ],
                &[
                    "2026-11T10:15:30Z",
                    "2026-11-21T10:15:30",
                    "2026-11-21T10:15Z",
                    "2026-11-21T24:00:00Z",
                    "2026-11-21T10:15:30.Z",
                    "2026-11-21T10:15:30+14:01",
                    "2026-11-21t10:15:30Z",
                    "2026-11-21T10:15:30z",
                    "2026-11-21 10:15:30Z",
                    "2026-11-21T10:15:30+1:00",
                ],
            ),
            (is_instant, &["2026-11-21T10:15:30Z", "2026-11-21T10:15:30.1-05:00"], &["2026", "2026-11-21"]),
            (is_time, &["00:00:00", "23:59:59.999"], &["24:00:00", "10:15", "10:15:30Z", "10:15:30."]),
        ];
        for (accepts, good, bad) in cases {
            good.iter().for_each(|text| assert!(accepts(text), "{text}"));
            bad.iter().for_each(|text| assert!(!accepts(text), "{text}"));
        }
    }
}
