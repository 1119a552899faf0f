//! The first and the last moment of FHIR's dates.

use record::TimeMs;

/// The first and the last millisecond of a FHIR `date` or `dateTime`: `2026` is a whole year. Dates without an offset are in UTC.
pub fn bounds(text: &str) -> Option<(TimeMs, TimeMs)> {
    let instant = |text: &str| TimeMs::from_instant(text).ok();
    let before = |at: TimeMs| TimeMs(at.0.saturating_sub(1));
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    match text.len() {
        4 => {
            let year = number(0, 4)?;
            let next = instant(&format!("{:04}-01-01T00:00:00Z", year + 1))?;
            Some((instant(&format!("{year:04}-01-01T00:00:00Z"))?, before(next)))
        }
        7 => {
            let (year, month) = (number(0, 4)?, number(5, 7)?);
            let (after, following) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            let next = instant(&format!("{after:04}-{following:02}-01T00:00:00Z"))?;
            Some((instant(&format!("{year:04}-{month:02}-01T00:00:00Z"))?, before(next)))
        }
        10 => {
            let first = instant(&format!("{text}T00:00:00Z"))?;
            Some((first, first.plus_ms(24 * 60 * 60 * 1000 - 1)))
        }
        _ => instant(text).map(|at| {
            // Without a fraction it means the whole second.
            let whole = if text.contains('.') { 0 } else { 999 };
            (at, at.plus_ms(whole))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_lasts_from_its_first_to_its_last_millisecond() {
        let check = |text: &str, first: &str, last: &str| {
            let (from, to) = bounds(text).unwrap();
            assert_eq!((from.to_instant().as_str(), to.to_instant().as_str()), (first, last), "{text}");
        };
        check("2026", "2026-01-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z");
        check("2028-02", "2028-02-01T00:00:00.000Z", "2028-02-29T23:59:59.999Z");
        check("2026-12", "2026-12-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z");
        check("2026-11-21", "2026-11-21T00:00:00.000Z", "2026-11-21T23:59:59.999Z");
        check("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00.000Z", "2026-11-21T09:00:00.999Z");
        check("2026-11-21T10:00:00.5Z", "2026-11-21T10:00:00.500Z", "2026-11-21T10:00:00.500Z");
        for text in ["", "20", "2026-13", "2026-02-30", "2026-1", "yesterday", "1960-01-01", "２０２６"] {
            assert_eq!(bounds(text), None, "{text}");
        }
    }
}
