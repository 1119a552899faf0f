//! What the scores of a monitored person have in common: the latest values, what is missing, and when a score is said.

use super::{Author, Consciousness, Latest, Rule, Watch};
use crate::{
    chart::Chart,
    finding::{Finding, Measure, Severity},
    input::{Input, Measured, Person},
};
use record::{Digest, TimeMs};

/// How long monitored values count, in seconds.
const MONITORED_VALID_S: u64 = 60;
/// How long a cuff pressure counts, in seconds.
const CUFF_VALID_S: u64 = 900;
/// How long what a person assessed counts (temperature, consciousness, coma scale), in seconds: an hour.
const ASSESSED_VALID_S: u64 = 3_600;
/// How long a count of white cells counts, in seconds: a day.
///
/// Source: the acute physiology scores take the worst value of 24 hours, Knaus et al., Crit Care Med 1985;13:818.
const LABORATORY_VALID_S: u64 = 86_400;
/// A changed score that is not more serious is said after this many seconds.
const CHANGED_S: u64 = 30;
/// An unchanged complete score is said again after this many seconds.
const REPEAT_S: u64 = 60;
/// An unchanged incomplete score is said again after this many seconds.
const REPEAT_INCOMPLETE_S: u64 = 300;

/// Unit of points.
pub(crate) const POINTS: &str = "{score}";

/// Points of the parts of a score, and their sum while none is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Points<const PARTS: usize> {
    /// The points of each part, in the score's order.
    pub points: [Option<u8>; PARTS],
    /// The sum; nothing while a part is missing.
    pub total: Option<u8>,
}

impl<const PARTS: usize> Points<PARTS> {
    pub(crate) fn of(points: [Option<u8>; PARTS]) -> Self {
        Self { points, total: points.iter().copied().sum() }
    }

    /// The sum of the parts that are there: the score is this or more.
    pub fn at_least(&self) -> u8 {
        self.points.iter().copied().flatten().sum()
    }

    pub(crate) fn scored(&self, names: &[&'static str; PARTS], severity: Severity) -> Scored {
        let parts = names.iter().zip(self.points);
        Scored {
            chief: self.total.map(|total| Measure { name: "total", value: total.into(), unit: POINTS }),
            parts: parts
                .clone()
                .filter_map(|(name, points)| Some(Measure { name, value: points?.into(), unit: POINTS }))
                .collect(),
            missing: parts.filter(|(_, points)| points.is_none()).map(|(name, _)| *name).collect(),
            severity,
        }
    }
}

/// A value as charts have it: whole, or nothing where it is no number that can be one.
pub(crate) fn whole(value: Option<f64>) -> Option<u32> {
    value.filter(|value| (0.0..=1_000.0).contains(value)).map(|value| value.round() as u32)
}

/// A value in tenths.
pub(crate) fn tenths(value: Option<f64>) -> Option<u32> {
    value.filter(|value| (0.0..=1_000.0).contains(value)).map(|value| (value * 10.0).round() as u32)
}

/// A number that scores take, by the signal it comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vital {
    Breaths,
    Systolic,
    Pulse,
    Temperature,
    WhiteCells,
    Eye,
    Verbal,
    Motor,
    Glasgow,
    ArterialSystolic,
    PulseOximeter,
}

impl Vital {
    /// The number that this one is as good as, where that is not there: an artery's pressure for a cuff's, an oximeter's
    /// pulse for the heart rate.
    fn stands_for(self) -> Option<Self> {
        match self {
            Self::ArterialSystolic => Some(Self::Systolic),
            Self::PulseOximeter => Some(Self::Pulse),
            _ => None,
        }
    }
}

/// Each number's signal and how long it counts, in the order of [`Vital`].
const VITALS: [(Vital, &str, u64); 11] = [
    (Vital::Breaths, "resp-rate", MONITORED_VALID_S),
    (Vital::Systolic, "nibp-sys", CUFF_VALID_S),
    (Vital::Pulse, "heart-rate", MONITORED_VALID_S),
    (Vital::Temperature, "temp-body", ASSESSED_VALID_S),
    (Vital::WhiteCells, "white-cells", LABORATORY_VALID_S),
    (Vital::Eye, "gcs-eye", ASSESSED_VALID_S),
    (Vital::Verbal, "gcs-verbal", ASSESSED_VALID_S),
    (Vital::Motor, "gcs-motor", ASSESSED_VALID_S),
    (Vital::Glasgow, "gcs", ASSESSED_VALID_S),
    (Vital::ArterialSystolic, "ibp-sys", MONITORED_VALID_S),
    (Vital::PulseOximeter, "pulse", MONITORED_VALID_S),
];

/// The parameters that every score has.
pub(crate) fn parameters() -> Vec<(String, f64)> {
    let mut out: Vec<(String, f64)> =
        VITALS.iter().map(|(_, signal, valid_s)| (format!("{signal}.valid_s"), *valid_s as f64)).collect();
    out.extend([
        ("consciousness.valid_s".to_owned(), ASSESSED_VALID_S as f64),
        ("changed_s".to_owned(), CHANGED_S as f64),
        ("repeat_s".to_owned(), REPEAT_S as f64),
        ("repeat_incomplete_s".to_owned(), REPEAT_INCOMPLETE_S as f64),
    ]);
    out
}

/// The latest of every value that scores take.
#[derive(Debug)]
struct Latests {
    numbers: [Latest<f64>; 11],
    consciousness: Latest<Consciousness>,
}

impl Latests {
    fn new() -> Self {
        let numbers = VITALS.map(|(_, _, valid_s)| Latest::new(valid_s * 1_000));
        Self { numbers, consciousness: Latest::new(ASSESSED_VALID_S * 1_000) }
    }

    /// Keeps a value; whether it is one that scores of `uses` take.
    fn keep(&mut self, input: &Input<'_>, uses: &[Vital], consciousness: bool) -> bool {
        if input.signal == "consciousness" {
            let level = match input.value {
                Measured::Code(code) => Consciousness::from_letter(code),
                _ => None,
            };
            self.consciousness.set(level, input);
            return consciousness;
        }
        let used =
            |vital: &Vital| uses.contains(vital) || vital.stands_for().is_some_and(|other| uses.contains(&other));
        let place = VITALS.iter().position(|(vital, signal, _)| *signal == input.signal && used(vital));
        let Some(kept) = place.and_then(|place| self.numbers.get_mut(place)) else { return false };
        kept.set(input.value.number(), input);
        true
    }
}

/// What is known of a person at a time; what is read from it is cited.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    latest: &'a Latests,
    now: TimeMs,
    sources: Vec<(TimeMs, Digest)>,
}

impl Known<'_> {
    /// The number, or the one that stands for it.
    pub(crate) fn number(&mut self, vital: Vital) -> Option<f64> {
        let latest = |vital: Vital| self.latest.numbers.get(vital as usize)?.get(self.now);
        let other = VITALS.iter().map(|(other, ..)| *other).find(|other| other.stands_for() == Some(vital));
        let own = latest(vital);
        let (value, at, frame) = own.or_else(|| latest(other?))?;
        self.cite(at, frame);
        Some(value)
    }

    /// When the number was measured, if it still counts.
    pub(crate) fn time_of(&self, vital: Vital) -> Option<TimeMs> {
        Some(self.latest.numbers.get(vital as usize)?.get(self.now)?.1)
    }

    pub(crate) fn consciousness(&mut self) -> Option<Consciousness> {
        let (level, at, frame) = self.latest.consciousness.get(self.now)?;
        self.cite(at, frame);
        Some(level)
    }

    fn cite(&mut self, at: TimeMs, frame: Digest) {
        if !self.sources.iter().any(|(_, cited)| *cited == frame) {
            self.sources.push((at, frame));
        }
    }
}

/// A score as a finding shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    /// The chief number; nothing while the score is incomplete.
    pub(crate) chief: Option<Measure>,
    pub(crate) parts: Vec<Measure>,
    pub(crate) missing: Vec<&'static str>,
    pub(crate) severity: Severity,
}

/// What a score is computed from, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    /// The numbers that it takes.
    pub(crate) uses: &'static [Vital],
    /// Whether it takes the level of consciousness.
    pub(crate) consciousness: bool,
    /// The youngest age it is for, in years; who is known to be younger is not scored.
    pub(crate) age_years_min: u16,
    /// Whether it is for pregnancy too; who is known to be pregnant is not scored else. Vital signs of a healthy pregnancy lie where these scores give
    /// points: Bauer et al., Obstet Gynecol 2014;124:535 (SIRS); Bowyer et al., Aust N Z J Obstet Gynaecol 2017;57:540 (qSOFA).
    pub(crate) in_pregnancy: bool,
    pub(crate) compute: fn(&mut Known<'_>) -> Scored,
}

impl Score {
    /// The score at work on one person.
    pub(crate) fn watch(self, rule: &Rule, person: &Person) -> Box<dyn Watch> {
        let scored = self.is_for(person);
        Box::new(Watching { author: Author::of(rule), score: self, scored, latest: Latests::new(), said: None })
    }

    fn is_for(&self, person: &Person) -> bool {
        person.age_years.is_none_or(|age| age >= self.age_years_min) && (self.in_pregnancy || !person.pregnant)
    }
}

/// The score of a monitored person, said when it gets more serious, when it changes, and now and then.
#[derive(Debug)]
struct Watching {
    author: Author,
    score: Score,
    /// Whether the score is for this person.
    scored: bool,
    latest: Latests,
    said: Option<(Scored, TimeMs)>,
}

impl Watch for Watching {
    fn know(&mut self, chart: &Chart) {
        self.scored = self.score.is_for(&chart.person);
    }

    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        if !self.scored || !self.latest.keep(input, self.score.uses, self.score.consciousness) {
            return;
        }
        let now = input.at;
        let mut known = Known { latest: &self.latest, now, sources: Vec::new() };
        let scored = (self.score.compute)(&mut known);
        let sources = known.sources;
        // A score of which nothing is known any more is not said.
        if sources.is_empty() || !self.is_due(&scored, now) {
            return;
        }
        self.said = Some((scored.clone(), now));
        let first = sources.iter().map(|(at, _)| *at).min().unwrap_or(now);
        out.push(Finding {
            severity: scored.severity,
            complete: scored.missing.is_empty(),
            measures: scored.chief.into_iter().chain(scored.parts).collect(),
            missing: scored.missing,
            ..self.author.finding(first.min(now), now, sources.into_iter().map(|(_, frame)| frame).collect())
        });
    }
}

impl Watching {
    fn is_due(&self, scored: &Scored, now: TimeMs) -> bool {
        let Some((said, at)) = &self.said else { return true };
        let repeat_s = match () {
            () if scored.severity > said.severity || scored.missing != said.missing => 0,
            () if scored != said => CHANGED_S,
            () if scored.missing.is_empty() => REPEAT_S,
            () => REPEAT_INCOMPLETE_S,
        };
        now.0.saturating_sub(at.0) >= repeat_s * 1_000
    }
}

#[cfg(test)]
pub(crate) mod check {
    //! What the tests of scores share.

    use super::*;
    use record::sha256;

    /// Rows of a published table: from, to (both in it), points.
    pub(crate) type Row = (f64, f64, u8);

    /// Every value of the table's range in steps of `resolution`, each scored by its row. Rows must join without a hole.
    pub(crate) fn table(name: &str, rows: &[Row], resolution: f64, points: impl Fn(f64) -> Option<u8>) {
        let step = |value: f64| (value / resolution).round() as i64;
        for pair in rows.windows(2) {
            assert_eq!(step(pair[0].1) + 1, step(pair[1].0), "{name}: rows join");
        }
        let mut checked = 0;
        for &(from, to, expected) in rows {
            for at in step(from)..=step(to) {
                // The nearest number to the decimal that a device would send.
                let value = at as f64 / (1.0 / resolution).round();
                assert_eq!(points(value), Some(expected), "{name} at {value}");
                checked += 1;
            }
        }
        println!("{name}: {checked} values of {} rows", rows.len());
    }

    /// Tells a rule one value after the other (`signal value`, a number or a code) at the given second; gives what it said last.
    pub(crate) fn told(rule: &Rule, person: &Person, inputs: &[(u64, &str, &str)]) -> Option<Finding> {
        let mut watch = (rule.start)(rule, person);
        let mut out = Vec::new();
        for (at_s, signal, value) in inputs {
            let frame = sha256(&[signal.as_bytes(), value.as_bytes()]);
            let value = value.parse().map_or(Measured::Code(value), Measured::Number);
            watch.take(&Input { frame, signal, at: TimeMs(at_s * 1_000), value }, &mut out);
        }
        out.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::sha256;

    const SCORE: Score = Score {
        uses: &[Vital::Breaths, Vital::Pulse],
        consciousness: false,
        age_years_min: 16,
        in_pregnancy: true,
        compute: |known| {
            let points = [Vital::Breaths, Vital::Pulse].map(|vital| known.number(vital).map(|value| value as u8));
            let points = Points::of(points);
            let severity = if points.at_least() >= 100 { Severity::High } else { Severity::None };
            points.scored(&["breaths", "pulse"], severity)
        },
    };

    /// Seconds at which something was said, of `(second, signal, value)`.
    fn said(age: u16, inputs: &[(u64, &str, f64)]) -> Vec<u64> {
        let rule = super::super::ALL[0];
        let mut watch = SCORE.watch(&rule, &Person { age_years: Some(age), ..Person::default() });
        let mut out = Vec::new();
        for (at_s, signal, value) in inputs {
            let (at, frame) = (TimeMs(at_s * 1_000), sha256(&[signal.as_bytes()]));
            watch.take(&Input { frame, signal, at, value: Measured::Number(*value) }, &mut out);
        }
        out.iter().map(|finding| finding.until.0 / 1_000).collect()
    }

    #[test]
    fn a_score_is_said_when_it_changes_and_at_once_when_it_gets_serious() {
        let mut inputs = vec![(0, "resp-rate", 1.0), (0, "heart-rate", 1.0)];
        inputs.extend((1..=40).map(|second| (second, "heart-rate", 2.0)));
        inputs.push((41, "heart-rate", 120.0));
        assert_eq!(said(40, &inputs), [0, 0, 30, 41]);
        let steady: Vec<(u64, &str, f64)> =
            (0..=130).flat_map(|second| [(second, "heart-rate", 2.0), (second, "resp-rate", 3.0)]).collect();
        assert_eq!(said(40, &steady), [0, 0, 60, 120]);
        let alone: Vec<(u64, &str, f64)> = (0..=400).map(|second| (second, "heart-rate", 2.0)).collect();
        assert_eq!(said(40, &alone), [0, 300]);
    }

    #[test]
    fn a_person_whom_the_score_is_not_for_is_not_scored() {
        assert_eq!(said(15, &[(0, "resp-rate", 1.0)]), [0u64; 0]);
        assert_eq!(said(16, &[(0, "resp-rate", 1.0)]), [0]);
    }

    #[test]
    fn an_oximeters_pulse_stands_for_a_heart_rate_that_is_not_there() {
        assert_eq!(said(40, &[(0, "pulse", 3.0), (1, "resp-rate", 3.0)]), [0, 1]);
        let mut latest = Latests::new();
        let mut tell = |signal: &str, at_s: u64, value: f64| {
            let (at, frame) = (TimeMs(at_s * 1_000), sha256(&[signal.as_bytes()]));
            latest.keep(&Input { frame, signal, at, value: Measured::Number(value) }, SCORE.uses, false);
            let mut known = Known { latest: &latest, now: at, sources: Vec::new() };
            (known.number(Vital::Pulse), known.sources.len())
        };
        assert_eq!(tell("pulse", 0, 70.0), (Some(70.0), 1));
        assert_eq!(tell("heart-rate", 1, 72.0), (Some(72.0), 1));
        assert_eq!(tell("pulse", 30, 74.0), (Some(72.0), 1));
        assert_eq!(tell("pulse", 62, 75.0), (Some(75.0), 1));
    }

    #[test]
    fn each_number_stands_at_its_own_place() {
        for (place, (vital, ..)) in VITALS.iter().enumerate() {
            assert_eq!(*vital as usize, place);
        }
    }
}
