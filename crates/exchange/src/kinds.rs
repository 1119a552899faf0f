//! The kind of a frame: bits, made of the names of its signals, by which frames that say one thing are found among many.
//!
//! The database keeps them beside the frame and answers by them; what it answers is read and judged by its bytes all the same. Two names
//! may have the same bit: then frames of both are looked at where one is asked for.

use crate::sensed::Named;
use sensing::{
    Signal, Value,
    sensor::{ALL, Category, Codes},
};
use std::collections::HashSet;
use store::{Criterion, DateRange, Kinds, Match, Prefix};

/// Names have bits below this one.
const NAMED: u64 = 62;
/// The frame says something of a time further away than [`NEAR_MS`].
const WIDE: i64 = 1 << NAMED;
/// What a frame says is of the time from its beginning to so many milliseconds after it, unless its kind says otherwise.
const NEAR_MS: i64 = 2_000;
/// What frames of wide kinds are looked for around a time, in milliseconds: an hour. A signal's time lies ten minutes from its frame's at
/// most; no waveform of a sensor that we know lasts longer than the rest.
const WIDE_MS: u64 = 3_600_000;

/// The kind of frames of which nothing is known.
pub(crate) const EVERY_KIND: i64 = -1;

/// So many kinds of frames of a binding are told from each other: a search steps through all kinds there are. Frames of further ones are
/// of every kind.
const KINDS_MAX: usize = 64;

/// The kinds of a binding's frames that are told from each other.
#[derive(Debug, Default)]
pub(crate) struct ToldApart {
    // INVARIANT: at most KINDS_MAX.
    kinds: HashSet<i64>,
}

impl ToldApart {
    /// The kind that a frame of this one is filed under.
    pub(crate) fn filed(&mut self, kind: i64) -> i64 {
        if self.kinds.len() < KINDS_MAX {
            self.kinds.insert(kind);
        }
        if self.kinds.contains(&kind) { kind } else { EVERY_KIND }
    }
}

/// The kind of a frame that says these. A heartbeat has none.
pub(crate) fn kind_of(signals: &[Signal]) -> i64 {
    let kinds = signals.iter().map(|signal| if is_near(signal) { bit(&signal.name) } else { bit(&signal.name) | WIDE });
    kinds.fold(0, |all, one| all | one)
}

fn is_near(signal: &Signal) -> bool {
    let lasts_ms = match &signal.value {
        Value::Waveform(wave) => i64::try_from(wave.duration_ms()).unwrap_or(i64::MAX),
        _ => 0,
    };
    signal.offset_ms >= 0 && signal.offset_ms.saturating_add(lasts_ms) <= NEAR_MS
}

/// From FNV-1a, the bits by which the names that we know differ most. It stays as it is: the database is full of it.
fn bit(name: &str) -> i64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    1 << ((hash >> 23) % NAMED)
}

/// The kinds of frames that may meet the criteria of a search for Observations. Heartbeats are of none of them.
pub(crate) fn kinds_for(criteria: &[Criterion]) -> Kinds {
    let named = criteria.iter().filter_map(kinds_of_codes);
    let any = named.min_by_key(|bits| bits.count_ones()).unwrap_or(-1);
    Kinds { any, wide: WIDE, wider_ms: WIDE_MS }
}

/// The kinds of frames with a signal of a code that a criterion names; none where it does not say which.
fn kinds_of_codes(criterion: &Criterion) -> Option<i64> {
    if criterion.negate || !["code", "combo-code", "component-code"].contains(&criterion.param.as_str()) {
        return None;
    }
    let bits = criterion.any.iter().map(|wanted| match wanted {
        Match::Token { code: Some(code), .. } => Some(kinds_of_code(code)),
        _ => None,
    });
    bits.collect::<Option<Vec<i64>>>().map(|bits| bits.into_iter().fold(0, |all, one| all | one))
}

fn kinds_of_code(code: &str) -> i64 {
    let has = |codes: &Codes| {
        codes.loinc.iter().any(|(loinc, _)| *loinc == code) || codes.mdc.is_some_and(|(mdc, _)| mdc.to_string() == code)
    };
    // A signal without another code is known by its name.
    let mut bits = bit(code);
    for sensor in ALL {
        let of_panel = sensor.name == code || sensor.panel.is_some_and(|panel| has(&panel.codes));
        for channel in sensor.channels {
            if (of_panel && channel.in_panel) || channel.name == code || has(&channel.codes) {
                bits |= bit(channel.name);
            }
        }
    }
    bits
}

/// Whether no measurement can meet a criterion, whatever it is: it has no such element, or none of these values.
pub(crate) fn says_none(criterion: &Criterion) -> bool {
    let code = |wanted: &Match| match wanted {
        Match::Token { code: Some(code), .. } => Some(code.clone()),
        _ => None,
    };
    let has_value = |wanted: &Match| !matches!(wanted, Match::Missing(_));
    if criterion.negate || criterion.any.is_empty() {
        return false;
    }
    match criterion.param.as_str() {
        "identifier" | "encounter" | "based-on" => criterion.any.iter().all(has_value),
        "_id" => criterion.any.iter().all(|id| code(id).is_some_and(|id| id.parse::<Named>().is_err())),
        "category" => {
            let known = [Category::VitalSigns, Category::Procedure, Category::Exam].map(Category::code);
            criterion.any.iter().all(|of| code(of).is_some_and(|code| !known.contains(&code.as_str())))
        }
        _ => false,
    }
}

/// The times from the first to before the last, in milliseconds, at which frames begin that may meet the criteria on `date`.
pub(crate) fn times_for(criteria: &[Criterion]) -> (i64, i64) {
    let of_date = criteria.iter().filter(|criterion| criterion.param == "date" && !criterion.negate);
    let (mut from, mut to) = (i64::MIN, i64::MAX);
    for criterion in of_date {
        let ranges: Vec<(i64, i64)> = criterion.any.iter().map(times_of).collect();
        from = from.max(ranges.iter().map(|(from, _)| *from).min().unwrap_or(i64::MIN));
        to = to.min(ranges.iter().map(|(_, to)| *to).max().unwrap_or(i64::MAX));
    }
    // An instant ends a millisecond after it began.
    (from.saturating_sub(NEAR_MS + 1), to)
}

/// From when until when what meets it takes place at least in part.
fn times_of(wanted: &Match) -> (i64, i64) {
    let Match::Date { prefix, span: DateRange { lo_ms, hi_ms } } = wanted else { return (i64::MIN, i64::MAX) };
    match prefix {
        Prefix::Eq | Prefix::Ap => (*lo_ms, *hi_ms),
        Prefix::Ne => (i64::MIN, i64::MAX),
        Prefix::Gt | Prefix::Sa => (*hi_ms, i64::MAX),
        Prefix::Ge => (*lo_ms, i64::MAX),
        Prefix::Lt | Prefix::Eb => (i64::MIN, *lo_ms),
        Prefix::Le => (i64::MIN, *hi_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensing::{Decimal, Limits, Samples, Waveform};

    fn number(name: &str, offset_ms: i64) -> Signal {
        Signal { name: name.into(), offset_ms, value: Value::Number { unit: "1".into(), value: Decimal::ZERO } }
    }

    fn wave(name: &str, offset_ms: i64, seconds: usize) -> Signal {
        let (rate_hz, samples) = (Decimal::whole(10), Samples::I16(vec![0; seconds * 10]));
        let (origin, scale) = (Decimal::ZERO, Decimal::whole(1));
        let wave = Waveform { unit: "mV".into(), rate_hz, origin, scale, limits: Limits::NONE, samples };
        Signal { name: name.into(), offset_ms, value: Value::Waveform(wave) }
    }

    fn criterion(name: &str, value: &str) -> Criterion {
        Criterion::parse("Observation", name, value).unwrap()
    }

    /// What stands in databases stays as it is.
    #[test]
    fn a_kind_is_the_same_for_ever() {
        assert_eq!(kind_of(&[]), 0);
        assert_eq!((kind_of(&[number("spo2", 0)]), kind_of(&[wave("ecg-ii", 0, 1)])), (SPO2, ECG_II));
        assert_eq!(kind_of(&[wave("ecg-ii", 0, 1), number("spo2", 0)]), SPO2 | ECG_II);
        for wide in [number("spo2", -1), number("spo2", 2_001)] {
            assert_eq!(kind_of(&[wide]), SPO2 | WIDE);
        }
        assert_eq!(kind_of(&[wave("ecg-ii", 1_000, 1)]), ECG_II);
        assert_eq!(kind_of(&[wave("ecg-ii", 1_001, 1)]), ECG_II | WIDE);
    }

    #[test]
    fn frames_of_more_kinds_than_are_told_apart_are_of_every_kind() {
        let mut told_apart = ToldApart::default();
        let most = i64::try_from(KINDS_MAX).unwrap();
        for kind in 0..most {
            assert_eq!(told_apart.filed(kind), kind);
        }
        assert_eq!((told_apart.filed(most), told_apart.filed(3)), (EVERY_KIND, 3));
    }

    const SPO2: i64 = 1 << 34;
    const ECG_II: i64 = 1 << 58;

    #[test]
    fn a_search_by_any_code_of_a_signal_looks_at_frames_that_have_it() {
        for sensor in ALL {
            for channel in sensor.channels {
                let kind = kind_of(&[number(channel.name, 0)]);
                let mut codes = vec![channel.name.to_owned()];
                codes.extend(channel.codes.loinc.iter().map(|(code, _)| (*code).to_owned()));
                codes.extend(channel.codes.mdc.map(|(code, _)| code.to_string()));
                if channel.in_panel {
                    codes.push(sensor.name.to_owned());
                    codes.extend(sensor.panel.iter().flat_map(|of| of.codes.loinc).map(|(code, _)| (*code).to_owned()));
                }
                for code in codes {
                    let found = kinds_for(&[criterion("code", &format!("x,s|{code}"))]);
                    assert_ne!(found.any & kind, 0, "{} by {code}", channel.name);
                }
            }
        }
        let unknown = kind_of(&[number("of-nobody", 0)]);
        assert_ne!(kinds_for(&[criterion("combo-code", "of-nobody")]).any & unknown, 0);
        // The criterion that says most is used; one that does not say which codes are meant narrows nothing.
        let both = [criterion("code", "11524-6"), criterion("component-code", "ecg-ii"), criterion("status", "final")];
        assert_eq!(kinds_for(&both).any.count_ones(), 1);
        for open in [criterion("code:not", "ecg-ii"), criterion("code:text", "ECG"), criterion("category", "exam")] {
            assert_eq!(kinds_for(&[open]).any, -1);
        }
    }

    #[test]
    fn a_search_for_what_no_sensor_says_looks_at_no_frame() {
        let digest = record::sha256(&[b"frame"]).to_string();
        for (name, value, none) in [
            ("identifier", "s|1", true),
            ("encounter", "Encounter/e", true),
            ("encounter:missing", "true", false),
            ("based-on", "ServiceRequest/r", true),
            ("category", "laboratory", true),
            ("category", "laboratory,vital-signs", false),
            ("category:not", "laboratory", false),
            ("category", "procedure", false),
            ("_id", "6c1d7a52-3d5b-4b0e-9f53-000000000001", true),
            ("_id", digest.as_str(), false),
            ("code", "8867-4", false),
            ("status", "final", false),
        ] {
            assert_eq!(says_none(&criterion(name, value)), none, "{name}={value}");
        }
    }

    #[test]
    fn a_search_by_date_looks_at_frames_that_reach_into_it() {
        let day = 86_400_000;
        let check = |dates: &[&str], from: i64, to: i64| {
            let criteria: Vec<Criterion> = dates.iter().map(|date| criterion("date", date)).collect();
            assert_eq!(times_for(&criteria), (from.saturating_sub(NEAR_MS + 1), to), "{dates:?}");
        };
        check(&[], i64::MIN, i64::MAX);
        check(&["1970-01-02"], day, 2 * day);
        check(&["ge1970-01-02", "lt1970-01-03"], day, 2 * day);
        check(&["gt1970-01-02", "le1970-01-04"], 2 * day, 4 * day);
        check(&["1970-01-02,1970-01-05"], day, 5 * day);
        check(&["sa1970-01-02", "eb1970-01-09"], 2 * day, 8 * day);
        check(&["ne1970-01-02"], i64::MIN, i64::MAX);
    }
}
