//! NEWS2: the National Early Warning Score.
//!
//! Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, chart 1. Not for under 16 and not in
//! pregnancy. A missing input makes the score incomplete, never 0.

use super::{Author, Latest, Rule, Watch};
use crate::{
    chart::Chart,
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Measured, Person},
};
use record::{Digest, TimeMs};

/// Youngest age the score is for, in years.
const AGE_YEARS_MIN: u16 = 16;
/// How long monitored values count, in seconds.
const MONITORED_VALID_S: u64 = 60;
/// How long a cuff pressure counts, in seconds.
const CUFF_VALID_S: u64 = 900;
/// How long what a person assessed counts (temperature, consciousness, oxygen), in seconds: an hour.
const ASSESSED_VALID_S: u64 = 3_600;
/// An unchanged score is said again after this many seconds.
const REPEAT_S: u64 = 60;

/// Level of consciousness (ACVPU).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consciousness {
    /// Alert.
    Alert,
    /// New confusion.
    Confusion,
    /// Responds to voice.
    Voice,
    /// Responds to pain.
    Pain,
    /// Unresponsive.
    Unresponsive,
}

impl Consciousness {
    /// The level with this letter: `A`, `C`, `V`, `P` or `U`.
    pub fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "A" => Some(Self::Alert),
            "C" => Some(Self::Confusion),
            "V" => Some(Self::Voice),
            "P" => Some(Self::Pain),
            "U" => Some(Self::Unresponsive),
            _ => None,
        }
    }
}

/// What the score needs. Rates, saturation and pressure are rounded to whole numbers, temperature to tenths, as on the chart.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct News2Inputs {
    /// Breaths, /min.
    pub breaths_per_min: Option<f64>,
    /// Oxygen saturation, %.
    pub spo2_percent: Option<f64>,
    /// Whether the person gets oxygen.
    pub on_oxygen: Option<bool>,
    /// Systolic pressure, mmHg.
    pub systolic_mmhg: Option<f64>,
    /// Pulse, /min.
    pub pulse_per_min: Option<f64>,
    /// Consciousness.
    pub consciousness: Option<Consciousness>,
    /// Temperature, Cel.
    pub temperature_cel: Option<f64>,
}

/// The score's clinical bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// 0: routine.
    Routine,
    /// 1 to 4: low.
    Low,
    /// A single 3 under a total of 5: low-medium.
    LowMedium,
    /// 5 or 6: medium, urgent.
    Medium,
    /// 7 and more: high, emergency.
    High,
}

/// A score, complete or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News2 {
    /// Points of respiration, saturation, oxygen, pressure, pulse, consciousness and temperature.
    pub points: [Option<u8>; 7],
    /// The sum; nothing while a part is missing.
    pub total: Option<u8>,
    /// The band of a complete score.
    pub band: Option<Band>,
}

/// Names of the parts, in the order of [`News2::points`].
const PARTS: [&str; 7] =
    ["respiration", "spo2", "oxygen", "systolic-pressure", "pulse", "consciousness", "temperature"];

/// Why the score is not for this person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForNews2 {
    /// Younger than 16.
    #[error("NEWS2 is not for people under 16")]
    Child,
    /// Pregnant.
    #[error("NEWS2 is not for pregnancy")]
    Pregnant,
}

/// Scores `inputs`.
pub fn news2(inputs: &News2Inputs, person: &Person) -> Result<News2, NotForNews2> {
    if person.age_years.is_some_and(|age| age < AGE_YEARS_MIN) {
        return Err(NotForNews2::Child);
    }
    if person.pregnant {
        return Err(NotForNews2::Pregnant);
    }
    let whole = |value: Option<f64>| value.filter(|v| (0.0..=1_000.0).contains(v)).map(|v| v.round() as u32);
    let tenths = |value: Option<f64>| value.filter(|v| (0.0..=100.0).contains(v)).map(|v| (v * 10.0).round() as u32);
    let saturation = match (whole(inputs.spo2_percent), person.spo2_scale_2, inputs.on_oxygen) {
        (Some(percent), false, _) => Some(saturation_scale_1(percent)),
        // Up to 92 % scale 2 does not ask about oxygen.
        (Some(percent), true, _) if percent <= 92 => Some(saturation_scale_2(percent, false)),
        (Some(percent), true, Some(on_oxygen)) => Some(saturation_scale_2(percent, on_oxygen)),
        _ => None,
    };
    let points = [
        whole(inputs.breaths_per_min).map(respiration),
        saturation,
        inputs.on_oxygen.map(|on_oxygen| if on_oxygen { 2 } else { 0 }),
        whole(inputs.systolic_mmhg).map(systolic),
        whole(inputs.pulse_per_min).map(pulse),
        inputs.consciousness.map(|level| if level == Consciousness::Alert { 0 } else { 3 }),
        tenths(inputs.temperature_cel).map(temperature),
    ];
    let total: Option<u8> = points.iter().copied().sum();
    let single_three = points.contains(&Some(3));
    let band = total.map(|total| match total {
        7.. => Band::High,
        5..=6 => Band::Medium,
        _ if single_three => Band::LowMedium,
        1..=4 => Band::Low,
        0 => Band::Routine,
    });
    Ok(News2 { points, total, band })
}

fn respiration(per_min: u32) -> u8 {
    match per_min {
        ..=8 => 3,
        9..=11 => 1,
        12..=20 => 0,
        21..=24 => 2,
        25.. => 3,
    }
}

fn saturation_scale_1(percent: u32) -> u8 {
    match percent {
        ..=91 => 3,
        92..=93 => 2,
        94..=95 => 1,
        96.. => 0,
    }
}

fn saturation_scale_2(percent: u32, on_oxygen: bool) -> u8 {
    match (percent, on_oxygen) {
        (..=83, _) => 3,
        (84..=85, _) => 2,
        (86..=87, _) => 1,
        (88..=92, _) | (93.., false) => 0,
        (93..=94, true) => 1,
        (95..=96, true) => 2,
        (97.., true) => 3,
    }
}

fn systolic(mmhg: u32) -> u8 {
    match mmhg {
        ..=90 => 3,
        91..=100 => 2,
        101..=110 => 1,
        111..=219 => 0,
        220.. => 3,
    }
}

fn pulse(per_min: u32) -> u8 {
    match per_min {
        ..=40 => 3,
        41..=50 => 1,
        51..=90 => 0,
        91..=110 => 1,
        111..=130 => 2,
        131.. => 3,
    }
}

fn temperature(tenths_cel: u32) -> u8 {
    match tenths_cel {
        ..=350 => 3,
        351..=360 => 1,
        361..=380 => 0,
        381..=390 => 1,
        391.. => 2,
    }
}

pub(super) const RULE: Rule = Rule {
    id: "news2",
    version: 2,
    kind: Kind::Diagnostic,
    title: "National Early Warning Score 2",
    source: "Royal College of Physicians, NEWS2, 2017",
    codes: &[(
        "http://snomed.info/sct",
        "1104051000000101",
        "Royal College of Physicians NEWS2 (National Early Warning Score 2) total score",
    )],
    parameters: || {
        vec![
            ("age_years_min".into(), AGE_YEARS_MIN.into()),
            ("monitored_valid_s".into(), MONITORED_VALID_S as f64),
            ("cuff_valid_s".into(), CUFF_VALID_S as f64),
            ("assessed_valid_s".into(), ASSESSED_VALID_S as f64),
            ("repeat_s".into(), REPEAT_S as f64),
        ]
    },
    start: |rule, person| Box::new(Watching::new(Author::of(rule), *person)),
};

/// The score of a monitored person, said when it changes and once a minute.
#[derive(Debug)]
struct Watching {
    author: Author,
    person: Person,
    breaths: Latest<f64>,
    spo2: Latest<f64>,
    oxygen: Latest<bool>,
    systolic: Latest<f64>,
    pulse: Latest<f64>,
    /// Of an oximeter, for a person without a heart rate.
    oximeter_pulse: Latest<f64>,
    /// Of an artery, for a person without a cuff.
    arterial: Latest<f64>,
    consciousness: Latest<Consciousness>,
    temperature: Latest<f64>,
    said: Option<(News2, TimeMs)>,
}

impl Watching {
    fn new(author: Author, person: Person) -> Self {
        let (monitored, assessed) = (MONITORED_VALID_S * 1_000, ASSESSED_VALID_S * 1_000);
        Self {
            author,
            person,
            breaths: Latest::new(monitored),
            spo2: Latest::new(monitored),
            oxygen: Latest::new(assessed),
            systolic: Latest::new(CUFF_VALID_S * 1_000),
            pulse: Latest::new(monitored),
            oximeter_pulse: Latest::new(monitored),
            arterial: Latest::new(monitored),
            consciousness: Latest::new(assessed),
            temperature: Latest::new(assessed),
            said: None,
        }
    }

    /// Whether the input is one that the score uses.
    fn keep(&mut self, input: &Input<'_>) -> bool {
        let number = input.value.number();
        match (input.signal, input.value) {
            ("resp-rate", _) => self.breaths.set(number, input),
            ("spo2", _) => self.spo2.set(number, input),
            ("nibp-sys", _) => self.systolic.set(number, input),
            ("heart-rate", _) => self.pulse.set(number, input),
            ("pulse", _) => self.oximeter_pulse.set(number, input),
            ("ibp-sys", _) => self.arterial.set(number, input),
            ("temp-body", _) => self.temperature.set(number, input),
            ("oxygen", Measured::Code(code)) => {
                let on_oxygen = match code {
                    "air" => Some(false),
                    "oxygen" => Some(true),
                    _ => None,
                };
                self.oxygen.set(on_oxygen, input);
            }
            ("consciousness", Measured::Code(code)) => self.consciousness.set(Consciousness::from_letter(code), input),
            _ => return false,
        }
        true
    }
}

impl Watch for Watching {
    fn know(&mut self, chart: &Chart) {
        self.person = chart.person;
    }

    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        if !self.keep(input) {
            return;
        }
        let now = input.at;
        let mut sources: Vec<(TimeMs, Digest)> = Vec::new();
        let mut cite = |at: TimeMs, frame: Digest| {
            if !sources.iter().any(|(_, cited)| *cited == frame) {
                sources.push((at, frame));
            }
        };
        fn read<T: Copy>(from: &Latest<T>, now: TimeMs, cite: &mut impl FnMut(TimeMs, Digest)) -> Option<T> {
            from.get(now).map(|(value, at, frame)| {
                cite(at, frame);
                value
            })
        }
        let inputs = News2Inputs {
            breaths_per_min: read(&self.breaths, now, &mut cite),
            spo2_percent: read(&self.spo2, now, &mut cite),
            on_oxygen: read(&self.oxygen, now, &mut cite),
            systolic_mmhg: read(&self.systolic, now, &mut cite).or_else(|| read(&self.arterial, now, &mut cite)),
            pulse_per_min: read(&self.pulse, now, &mut cite).or_else(|| read(&self.oximeter_pulse, now, &mut cite)),
            consciousness: read(&self.consciousness, now, &mut cite),
            temperature_cel: read(&self.temperature, now, &mut cite),
        };
        let Ok(score) = news2(&inputs, &self.person) else { return };
        let fresh = self
            .said
            .as_ref()
            .is_none_or(|(said, at)| *said != score || now.0.saturating_sub(at.0) >= REPEAT_S * 1_000);
        if !fresh {
            return;
        }
        self.said = Some((score.clone(), now));
        let mut missing: Vec<&'static str> =
            PARTS.iter().zip(score.points).filter(|(_, points)| points.is_none()).map(|(part, _)| *part).collect();
        if self.person.age_years.is_none() {
            missing.push("age");
        }
        let unit = "{score}";
        let complete = missing.is_empty();
        let total = score.total.filter(|_| complete).map(|total| Measure { name: "total", value: total.into(), unit });
        let parts = PARTS
            .iter()
            .zip(score.points)
            .filter_map(|(name, points)| points.map(|points| Measure { name, value: points.into(), unit }));
        out.push(Finding {
            severity: match score.band.filter(|_| complete) {
                Some(Band::High) => Severity::High,
                Some(Band::Medium) => Severity::Medium,
                Some(Band::LowMedium | Band::Low) => Severity::Low,
                Some(Band::Routine) | None => Severity::None,
            },
            complete,
            measures: total.into_iter().chain(parts).collect(),
            missing,
            ..self.author.finding(
                sources.iter().map(|(at, _)| *at).min().unwrap_or(now),
                now,
                sources.iter().map(|(_, frame)| *frame).collect(),
            )
        });
    }
}

#[cfg(test)]
mod tests;
