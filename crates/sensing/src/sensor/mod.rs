//! The sensors that are known: names, codes, units and plausible ranges. One file a sensor, one list.
//!
//! A new sensor is a new file here and a line in [`ALL`]. Signals of other names are admitted, kept and marked as unknown.
//! Codes: LOINC; IEEE 11073-10101 (MDC); units: UCUM. Ranges say what a working sensor on a living person can show; values
//! outside are flagged and kept. Where a range widens a standard's measuring range, its source says so.

mod body_position;
mod consciousness;
mod ecg;
mod galvanic_skin_response;
mod heart_rate;
mod invasive_pressure;
mod nibp;
mod oxygen;
mod respiration;
mod spo2;
mod temperature;

use crate::{Decimal, Doubt};

/// Every known sensor.
pub const ALL: &[Sensor] = &[
    ecg::SENSOR,
    heart_rate::SENSOR,
    nibp::SENSOR,
    invasive_pressure::SENSOR,
    spo2::SENSOR,
    respiration::SENSOR,
    temperature::SENSOR,
    body_position::SENSOR,
    galvanic_skin_response::SENSOR,
    consciousness::SENSOR,
    oxygen::SENSOR,
];

/// Code system of LOINC.
pub const LOINC: &str = "http://loinc.org";
/// Code system of IEEE 11073-10101.
pub const MDC: &str = "urn:iso:std:iso:11073:10101";
/// Code system of the names of our signals, so that a signal without another code can be found.
pub const SIGNAL: &str = "https://vitaltrace.org/fhir/CodeSystem/signal";
/// System of UCUM units.
pub const UCUM: &str = "http://unitsofmeasure.org";

/// A kind of sensor and the signals it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensor {
    /// Short name, such as `spo2`.
    pub name: &'static str,
    /// Name for people.
    pub display: &'static str,
    /// The signals, each with a name of its own among all sensors.
    pub channels: &'static [Channel],
    /// Whether a person assesses what it says and enters it on the device that signs it.
    pub is_entered: bool,
    /// The codes of the Observation that holds the channels marked [`Channel::in_panel`] as components.
    pub panel: Option<Panel>,
}

/// An Observation with components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panel {
    /// Its codes.
    pub codes: Codes,
    /// Its category.
    pub category: Category,
}

/// One signal of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Name in frames, such as `ecg-ii`.
    pub name: &'static str,
    /// Its codes.
    pub codes: Codes,
    /// UCUM unit; `1` for codes.
    pub unit: &'static str,
    /// What it sends.
    pub kind: Kind,
    /// The range of values that are plausible, in `unit`.
    pub plausible: Range,
    /// The FHIR category of its Observation.
    pub category: Category,
    /// Whether it is a component of its sensor's panel.
    pub in_panel: bool,
}

/// A number of a blood pressure's panel.
const fn pressure(
    name: &'static str,
    display: &'static str,
    loinc: &'static [(&'static str, &'static str)],
    mdc: (u32, &'static str),
    plausible: Range,
) -> Channel {
    Channel {
        name,
        codes: Codes { display, loinc, mdc: Some(mdc) },
        unit: "mm[Hg]",
        kind: Kind::Numeric,
        plausible,
        category: Category::VitalSigns,
        in_panel: true,
    }
}

/// What a channel sends as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number now and then.
    Numeric,
    /// Evenly spaced samples.
    Waveform,
    /// One code of this list.
    Coded(&'static [&'static str]),
}

/// Codes of a signal or a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// Name for people.
    pub display: &'static str,
    /// LOINC codes with their names, the first one preferred.
    pub loinc: &'static [(&'static str, &'static str)],
    /// MDC code with its reference id.
    pub mdc: Option<(u32, &'static str)>,
}

/// FHIR Observation category, `http://terminology.hl7.org/CodeSystem/observation-category`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Vital signs.
    VitalSigns,
    /// Procedures, for waveforms.
    Procedure,
    /// Examination.
    Exam,
}

impl Category {
    /// The FHIR code.
    pub fn code(self) -> &'static str {
        match self {
            Self::VitalSigns => "vital-signs",
            Self::Procedure => "procedure",
            Self::Exam => "exam",
        }
    }
    /// The name for people.
    pub fn display(self) -> &'static str {
        match self {
            Self::VitalSigns => "Vital Signs",
            Self::Procedure => "Procedure",
            Self::Exam => "Exam",
        }
    }
}

/// A range of plausible values, both ends plausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The least plausible value.
    pub low: Decimal,
    /// The greatest plausible value.
    pub high: Decimal,
    /// Where the range comes from.
    pub source: &'static str,
}

impl Range {
    const fn new(low: i32, high: i32, source: &'static str) -> Self {
        Self { low: Decimal::whole(low), high: Decimal::whole(high), source }
    }
}

impl Channel {
    /// Whether `code` is in the channel's list.
    pub fn knows_code(&self, code: &str) -> bool {
        matches!(self.kind, Kind::Coded(codes) if codes.contains(&code))
    }

    /// What is doubtful about values from `low` to `high` in `unit`.
    pub fn doubt(&self, unit: &str, low: Decimal, high: Decimal) -> Option<Doubt> {
        if unit != self.unit {
            Some(Doubt::OtherUnit)
        } else if low < self.plausible.low || high > self.plausible.high {
            Some(Doubt::Implausible)
        } else {
            None
        }
    }
}

/// The channel with this name.
pub fn channel(name: &str) -> Option<&'static Channel> {
    sensor_of(name).map(|(_, channel)| channel)
}

/// The channel with this name, and the sensor it is of.
pub fn sensor_of(name: &str) -> Option<(&'static Sensor, &'static Channel)> {
    ALL.iter().find_map(|sensor| sensor.channels.iter().find(|c| c.name == name).map(|channel| (sensor, channel)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::is_signal_name;
    use std::collections::HashSet;

    #[test]
    fn every_channel_has_a_name_of_its_own_a_range_and_a_source() {
        let mut names = HashSet::new();
        for channel in ALL.iter().flat_map(|sensor| sensor.channels) {
            assert!(names.insert(channel.name), "{} twice", channel.name);
            assert!(is_signal_name(channel.name), "{}", channel.name);
            assert!(channel.plausible.low <= channel.plausible.high, "{}", channel.name);
            assert!(!channel.plausible.source.is_empty(), "{}", channel.name);
            assert!(!channel.unit.is_empty() && !channel.codes.display.is_empty(), "{}", channel.name);
        }
    }

    #[test]
    fn only_sensors_with_a_panel_have_channels_in_it() {
        for sensor in ALL {
            assert_eq!(sensor.panel.is_some(), sensor.channels.iter().any(|c| c.in_panel), "{}", sensor.name);
        }
    }

    /// LOINC ends in a check digit (mod 10 over the digits, doubled from the right).
    #[test]
    fn loinc_codes_have_their_check_digit() {
        let panels = ALL.iter().filter_map(|s| s.panel).map(|p| p.codes);
        let channels = ALL.iter().flat_map(|s| s.channels).map(|c| c.codes);
        for (code, _) in panels.chain(channels).flat_map(|codes| codes.loinc) {
            let (digits, check) = code.split_once('-').unwrap();
            let sum: u32 = digits
                .bytes()
                .rev()
                .enumerate()
                .map(|(at, b)| {
                    let digit = u32::from(b - b'0') * if at % 2 == 0 { 2 } else { 1 };
                    digit / 10 + digit % 10
                })
                .sum();
            assert_eq!((10 - sum % 10) % 10, check.parse::<u32>().unwrap(), "{code}");
        }
    }

    /// MDC codes are a partition's number times 65536 plus a term in it; sensors' terms are in partition 2.
    #[test]
    fn mdc_codes_lie_in_the_partition_of_measurements() {
        for channel in ALL.iter().flat_map(|s| s.channels) {
            if let Some((code, name)) = channel.codes.mdc {
                assert_eq!(code >> 16, 2, "{name}");
                assert!(name.starts_with("MDC_"), "{name}");
            }
        }
    }
}
