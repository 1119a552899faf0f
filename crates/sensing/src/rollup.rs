//! What is left of frames that are let go: each signal in windows of equal width, as how many values there were, mean, least, greatest and
//! standard deviation.
//!
//! Everything is reckoned in whole numbers, so that whoever has the frames gets the same text to the digit, in whatever order they come.

use crate::{
    Decimal, DeviceId, Signal, Value, Waveform,
    observation::{EXTENSION, concept_of, reference},
    sensor::{self, Category, Kind, UCUM},
};
use record::{Id16, TimeMs};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most windows between the first and the last value of one signal: nine days of ten minutes, two of ten seconds.
pub const WINDOWS_MAX: u64 = 20_000;
/// The most codes of one signal that are counted apart.
pub const CODES_MAX: usize = 16;
/// The power of ten of the last digit that counts; a finer value is left out.
const EXPONENT_MIN: i8 = -9;
/// Values from here on are left out, so that sums of millions of squares stay whole.
const VALUE_MAX: i128 = 1_000_000;
/// Code system of the names of statistics. Source: HL7 terminology, `observation-statistics`.
const STATISTICS: &str = "http://terminology.hl7.org/CodeSystem/observation-statistics";
/// Code system of what has no code there.
const OWN: &str = "https://vitaltrace.org/fhir/CodeSystem/roll-up";

/// Why frames cannot be rolled up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRolledUp {
    /// The values of a signal lie too far apart.
    #[error("the values of `{signal}` lie in more than {WINDOWS_MAX} windows")]
    TooWide {
        /// The signal.
        signal: String,
    },
    /// A signal has too many codes.
    #[error("`{signal}` has more than {CODES_MAX} codes")]
    TooManyCodes {
        /// The signal.
        signal: String,
    },
}

/// Whose frames were rolled up, and which.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// FHIR reference of the patient.
    pub patient: &'a str,
    /// What the device signs under.
    pub device: &'a DeviceId,
    /// Reference of the FHIR Device.
    pub device_reference: Option<&'a str>,
    /// The binding.
    pub binding: Id16,
    /// Counters of the first and the last frame.
    pub counters: (u64, u64),
    /// How many frames.
    pub frames: u64,
    /// When they were rolled up.
    pub issued: TimeMs,
}

/// Frames of one binding, rolled up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollUp {
    window_ms: u64,
    /// By the signal's name and unit; codes have none.
    signals: BTreeMap<(String, String), Windows>,
}

/// The windows of a signal in which it says something, by their numbers since 1970, and the codes that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Windows {
    all: BTreeMap<u64, Window>,
    codes: BTreeSet<String>,
}

/// What was said in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Window {
    count: u64,
    /// The sum of all values and of their squares, in units of 10^`exponent` and of its square.
    sum: i128,
    squares: i128,
    least: i128,
    greatest: i128,
    exponent: i8,
    codes: BTreeMap<String, u64>,
    absent: u64,
    left_out: u64,
}

impl RollUp {
    /// Begins with windows of so many seconds, which lie as those since 1970 do.
    pub fn new(window_s: u32) -> Self {
        Self { window_ms: u64::from(window_s.max(1)) * 1_000, signals: BTreeMap::new() }
    }

    /// Takes what a frame says, which was measured from `measured_at` on.
    pub fn take(&mut self, measured_at: TimeMs, signals: &[Signal]) -> Result<(), NotRolledUp> {
        for signal in signals {
            let unit = match &signal.value {
                Value::Number { unit, .. } | Value::Waveform(Waveform { unit, .. }) => unit.as_str(),
                Value::Code(_) => "",
                // Counted with what the signal says as a rule.
                Value::Absent(_) => sensor::channel(&signal.name)
                    .filter(|known| !matches!(known.kind, Kind::Coded(_)))
                    .map_or("", |c| c.unit),
            };
            let start = measured_at.0.saturating_add_signed(signal.offset_ms);
            let windows = self.signals.entry((signal.name.clone(), unit.to_owned())).or_default();
            match &signal.value {
                Value::Number { value, .. } => windows.of(start / self.window_ms).value(*value),
                Value::Code(code) => windows.code(start / self.window_ms, code),
                Value::Absent(_) => windows.of(start / self.window_ms).absent += 1,
                Value::Waveform(wave) => windows.wave(start, wave, self.window_ms),
            }
            windows.check(&signal.name)?;
        }
        Ok(())
    }

    /// An Observation for each signal and unit, without ids, in the order of their names.
    pub fn observations(&self, context: &Context<'_>) -> Vec<Json> {
        let all = self.signals.iter();
        all.filter_map(|((name, unit), windows)| self.observation(name, unit, windows, context)).collect()
    }

    fn observation(&self, name: &str, unit: &str, windows: &Windows, context: &Context<'_>) -> Option<Json> {
        let (first, last) = (*windows.all.first_key_value()?.0, *windows.all.last_key_value()?.0);
        let known = sensor::channel(name);
        let category = known.map_or(Category::Exam, |channel| channel.category);
        let at = |window: u64| TimeMs(window.saturating_mul(self.window_ms)).to_instant();
        let mut device = reference(context.device_reference, None);
        device["identifier"] = json!({"system": "urn:ietf:rfc:3986", "value": context.device.as_str()});
        Some(json!({
            "resourceType": "Observation",
            "extension": [roll_up_extension(context, self.window_ms)],
            "status": "final",
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                "code": category.code(),
                "display": category.display(),
            }]}],
            "code": concept_of(name, known),
            "subject": {"reference": context.patient},
            "effectivePeriod": {"start": at(first), "end": at(last.saturating_add(1))},
            "issued": context.issued.to_instant(),
            "method": {"text": "Rolled up from signed frames that were let go by policy"},
            "device": device,
            "component": windows.components(unit, self.window_ms),
        }))
    }
}

impl Windows {
    fn of(&mut self, number: u64) -> &mut Window {
        self.all.entry(number).or_default()
    }

    fn code(&mut self, number: u64, code: &str) {
        self.codes.insert(code.to_owned());
        *self.of(number).codes.entry(code.to_owned()).or_default() += 1;
    }

    fn check(&self, signal: &str) -> Result<(), NotRolledUp> {
        let (Some((first, _)), Some((last, _))) = (self.all.first_key_value(), self.all.last_key_value()) else {
            return Ok(());
        };
        let signal = || signal.to_owned();
        if last - first >= WINDOWS_MAX {
            return Err(NotRolledUp::TooWide { signal: signal() });
        }
        if self.codes.len() > CODES_MAX {
            return Err(NotRolledUp::TooManyCodes { signal: signal() });
        }
        Ok(())
    }

    fn wave(&mut self, start: u64, wave: &Waveform, window_ms: u64) {
        let Some(at) = Times::of(wave.rate_hz) else { return };
        for (place, sample) in (0u64..).zip(wave.samples.iter()) {
            let window = self.of(start.saturating_add(at.ms(place)) / window_ms);
            match sample.map(|sample| wave.value_of(sample)) {
                Some(Some(value)) => window.value(value),
                Some(None) => window.left_out += 1,
                None => window.absent += 1,
            }
        }
    }

    /// One component for each statistic that any window has.
    fn components(&self, unit: &str, window_ms: u64) -> Vec<Json> {
        let all = || self.all.values();
        let exponent = all().filter(|window| window.count > 0).map(|window| window.exponent).min().unwrap_or(0);
        let finer = exponent - 1;
        let mut components = Vec::new();
        let mut add = |system: &str, code: &str, display: &str, unit: &str, of: &dyn Fn(&Window) -> Option<String>| {
            components.push(json!({
                "code": {"coding": [{"system": system, "code": code, "display": display}], "text": display},
                "valueSampledData": self.sampled(unit, window_ms, of),
            }));
        };
        if all().any(|window| window.count > 0) {
            add(STATISTICS, "count", "Count", "1", &|window| Some(window.count.to_string()));
            add(STATISTICS, "average", "Average", unit, &|window| window.mean(finer));
            add(STATISTICS, "minimum", "Minimum", unit, &|window| window.end(window.least, exponent));
            add(STATISTICS, "maximum", "Maximum", unit, &|window| window.end(window.greatest, exponent));
            add(STATISTICS, "std-dev", "Standard Deviation", unit, &|window| window.deviation(finer));
        }
        for code in &self.codes {
            let counted = |window: &Window| Some(window.codes.get(code).copied().unwrap_or_default().to_string());
            add(OWN, &format!("count-of-{code}"), &format!("Count of {code}"), "1", &counted);
        }
        for (code, display, of) in [
            ("absent", "Count of absent values", (|window| window.absent) as fn(&Window) -> u64),
            ("left-out", "Count of values with too many digits", |window| window.left_out),
        ] {
            if all().any(|window| of(window) > 0) {
                add(OWN, code, display, "1", &|window| Some(of(window).to_string()));
            }
        }
        components
    }

    /// One number for each window from the first to the last that has any; `E` where there is none.
    fn sampled(&self, unit: &str, window_ms: u64, of: &dyn Fn(&Window) -> Option<String>) -> Json {
        let (mut data, mut next) = (String::new(), self.all.first_key_value().map_or(0, |(first, _)| *first));
        for (number, window) in &self.all {
            while next < *number {
                data.push_str("E ");
                next += 1;
            }
            data.push_str(of(window).as_deref().unwrap_or("E"));
            data.push(' ');
            next = number.saturating_add(1);
        }
        json!({
            "origin": {"value": 0, "unit": unit, "system": UCUM, "code": unit},
            "period": window_ms,
            "dimensions": 1,
            "data": data.trim_end(),
        })
    }
}

impl Window {
    /// Whether a value is left out does not depend on those before it.
    fn value(&mut self, value: Decimal) {
        let Some((mantissa, exponent)) = counted(value) else {
            self.left_out += 1;
            return;
        };
        if exponent < self.exponent {
            let finer = power(self.exponent - exponent);
            self.sum *= finer;
            self.least *= finer;
            self.greatest *= finer;
            self.squares *= finer * finer;
            self.exponent = exponent;
        }
        let mantissa = mantissa * power(exponent - self.exponent);
        (self.least, self.greatest) = match self.count {
            0 => (mantissa, mantissa),
            _ => (self.least.min(mantissa), self.greatest.max(mantissa)),
        };
        self.count += 1;
        self.sum = self.sum.saturating_add(mantissa);
        self.squares = self.squares.saturating_add(mantissa * mantissa);
    }

    /// A number in units of the window's exponent, in those of a lower one.
    fn moved(&self, number: i128, exponent: i8) -> Option<i128> {
        number.checked_mul(10i128.checked_pow(u32::try_from(self.exponent - exponent).ok()?)?)
    }

    fn end(&self, number: i128, exponent: i8) -> Option<String> {
        if self.count == 0 { None } else { self.moved(number, exponent).map(|number| text(number, exponent)) }
    }

    fn mean(&self, exponent: i8) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let sum = self.moved(self.sum, exponent)?;
        Some(text(rounded(sum, i128::from(self.count)), exponent))
    }

    /// The deviation of all values from their mean, as those of a whole and not of a sample.
    fn deviation(&self, exponent: i8) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        // From the whole number next to the mean, so that the squares stay small.
        let count = i128::from(self.count);
        let near = rounded(self.sum, count);
        let from_near = self.sum.checked_sub(near.checked_mul(count)?)?;
        let twice = near.checked_mul(self.sum)?.checked_mul(2)?;
        let squares = self.squares.checked_sub(twice)?.checked_add(near.checked_mul(near)?.checked_mul(count)?)?;
        let spread = squares.checked_mul(count)?.checked_sub(from_near.checked_mul(from_near)?)?;
        // One digit more than is shown, for the rounding.
        let scale = power(self.exponent - exponent).checked_mul(10)?;
        let root = u128::try_from(spread.checked_mul(scale.checked_mul(scale)?)?).ok()?.isqrt();
        let fine = rounded(i128::try_from(root).ok()?, count);
        Some(text(rounded(fine, 10), exponent))
    }
}

/// A value by its digits, with a power of ten that is not above 0; none when it is too large or too fine to be counted.
fn counted(value: Decimal) -> Option<(i128, i8)> {
    let (mut mantissa, mut exponent) = (i128::from(value.mantissa()), value.exponent());
    if exponent > 0 {
        (mantissa, exponent) = (mantissa * power(exponent), 0);
    }
    while exponent < EXPONENT_MIN && mantissa % 10 == 0 {
        (mantissa, exponent) = (mantissa / 10, exponent + 1);
    }
    let fits = exponent >= EXPONENT_MIN && mantissa.abs() < VALUE_MAX * power(-exponent);
    fits.then_some((mantissa, exponent))
}

/// A power of ten, of exponents of decimals.
fn power(exponent: i8) -> i128 {
    10i128.pow(u32::from(exponent.unsigned_abs().min(18)))
}

/// Places of samples in time, in whole numbers.
struct Times {
    /// A sample lasts `numerator` / `denominator` milliseconds.
    numerator: u128,
    denominator: u128,
}

impl Times {
    fn of(rate_hz: Decimal) -> Option<Self> {
        let mantissa = u128::try_from(rate_hz.mantissa()).ok().filter(|mantissa| *mantissa > 0)?;
        let power = 10u128.checked_pow(rate_hz.exponent().unsigned_abs().into())?;
        let (numerator, denominator) =
            if rate_hz.exponent() < 0 { (power, mantissa) } else { (1, mantissa.checked_mul(power)?) };
        Some(Self { numerator: numerator.checked_mul(1_000)?, denominator })
    }

    fn ms(&self, sample: u64) -> u64 {
        let ms = u128::from(sample).saturating_mul(self.numerator) / self.denominator;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }
}

/// The nearest whole number to a quotient; halves go away from 0. `by` is above 0.
fn rounded(number: i128, by: i128) -> i128 {
    let (whole, rest) = (number / by, number % by);
    if rest.unsigned_abs() * 2 >= by.unsigned_abs() { whole + number.signum() } else { whole }
}

/// `number` × 10^`exponent` without a power; `exponent` is not above 0.
fn text(number: i128, exponent: i8) -> String {
    let digits = usize::from(exponent.unsigned_abs());
    let shown = format!("{:0width$}", number.unsigned_abs(), width = digits + 1);
    let sign = if number < 0 { "-" } else { "" };
    let (whole, fraction) = shown.split_at(shown.len() - digits);
    if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn roll_up_extension(context: &Context<'_>, window_ms: u64) -> Json {
    let (first, last) = context.counters;
    json!({
        "extension": [
            {"url": "binding", "valueString": context.binding.to_hex()},
            {"url": "counters", "valueString": format!("{first}-{last}")},
            {"url": "frames", "valueString": context.frames.to_string()},
            {"url": "window", "valueQuantity": {"value": window_ms / 1_000, "unit": "s", "system": UCUM, "code": "s"}},
        ],
        "url": format!("{EXTENSION}roll-up"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Absence, Limits, Samples};

    const BEGIN: u64 = 1_795_255_200_000;

    fn number(name: &str, text: (i64, i8)) -> Signal {
        let value = Value::Number { unit: "%".into(), value: Decimal::new(text.0, text.1).unwrap() };
        Signal { name: name.into(), offset_ms: 0, value }
    }

    fn shown(roll_up: &RollUp) -> Vec<Json> {
        let device = "urn:dev:fhir:d1".parse().unwrap();
        let context = Context {
            patient: "Patient/p1",
            device: &device,
            device_reference: Some("Device/d1"),
            binding: Id16([3; 16]),
            counters: (1, 9),
            frames: 9,
            issued: TimeMs(BEGIN),
        };
        roll_up.observations(&context)
    }

    /// Each component's code with its numbers.
    fn data(observation: &Json) -> Vec<String> {
        let components = observation["component"].as_array().unwrap();
        let told = components.iter().map(|one| {
            let (code, data) = (&one["code"]["coding"][0]["code"], &one["valueSampledData"]["data"]);
            format!("{}: {}", code.as_str().unwrap(), data.as_str().unwrap())
        });
        told.collect()
    }

    #[test]
    fn a_signal_is_told_window_by_window_and_windows_without_it_are_empty() {
        let mut roll_up = RollUp::new(60);
        for (second, value) in [(0, (97, 0)), (1, (98, 0)), (2, (965, -1)), (185, (91, 0))] {
            roll_up.take(TimeMs(BEGIN + second * 1_000), &[number("spo2", value)]).unwrap();
        }
        let observations = shown(&roll_up);
        assert_eq!(observations.len(), 1);
        let expected = [
            "count: 3 E E 1",
            "average: 97.17 E E 91.00",
            "minimum: 96.5 E E 91.0",
            "maximum: 98.0 E E 91.0",
            "std-dev: 0.62 E E 0.00",
        ];
        assert_eq!(data(&observations[0]), expected);
        let period = &observations[0]["effectivePeriod"];
        assert_eq!(period["start"], "2026-11-21T10:00:00.000Z");
        assert_eq!(period["end"], "2026-11-21T10:04:00.000Z");
        assert_eq!(observations[0]["component"][0]["valueSampledData"]["period"], 60_000);
    }

    #[test]
    fn samples_fall_into_the_windows_of_their_own_times() {
        let wave = Waveform {
            unit: "mV".into(),
            rate_hz: Decimal::whole(2),
            origin: Decimal::ZERO,
            scale: Decimal::new(5, -3).unwrap(),
            limits: Limits::NONE,
            samples: Samples::I16((0..60).map(|n| if n == 7 { i16::MIN } else { n }).collect()),
        };
        let mut roll_up = RollUp::new(10);
        let signal = Signal { name: "ecg-ii".into(), offset_ms: 5_000, value: Value::Waveform(wave) };
        roll_up.take(TimeMs(BEGIN), &[signal]).unwrap();
        let told = data(&shown(&roll_up)[0]);
        assert_eq!(told[0], "count: 9 20 20 10");
        assert_eq!(told[2], "minimum: 0.000 0.050 0.150 0.250");
        assert_eq!(told[3], "maximum: 0.045 0.145 0.245 0.295");
        assert_eq!(told[5], "absent: 1 0 0 0");
    }

    #[test]
    fn codes_and_absent_values_are_counted() {
        let mut roll_up = RollUp::new(60);
        let said = |value| Signal { name: "posture".into(), offset_ms: 0, value };
        for (second, value) in [
            (0, Value::Code("supine".into())),
            (1, Value::Code("upright".into())),
            (2, Value::Code("supine".into())),
            (70, Value::Absent(Absence::Error)),
        ] {
            roll_up.take(TimeMs(BEGIN + second * 1_000), &[said(value)]).unwrap();
        }
        let observations = shown(&roll_up);
        let told: Vec<String> = observations.iter().flat_map(data).collect();
        assert_eq!(told, ["count-of-supine: 2 0", "count-of-upright: 1 0", "absent: 0 1"]);
    }

    #[test]
    fn frames_in_any_order_give_the_same_numbers_and_values_beyond_all_bounds_are_counted_apart() {
        let values = [(1, -9), (999_999, 3), (-5, 0), (123_456_789, -4), (1, -10), (1, 9), (0, 9), (0, -18)];
        let all: Vec<Signal> = values.into_iter().map(|value| number("spo2", value)).collect();
        let mut one = RollUp::new(60);
        all.iter().for_each(|signal| one.take(TimeMs(BEGIN), std::slice::from_ref(signal)).unwrap());
        let told = data(&shown(&one)[0]);
        assert!(told.iter().any(|line| line.starts_with("left-out: ")), "{told:?}");
        let mut other = RollUp::new(60);
        let plain: Vec<Signal> = [(97, 0), (9_712, -2), (-3, -1)].map(|value| number("spo2", value)).to_vec();
        let mut backwards = RollUp::new(60);
        other.take(TimeMs(BEGIN), &plain).unwrap();
        let reversed: Vec<Signal> = plain.into_iter().rev().collect();
        backwards.take(TimeMs(BEGIN), &reversed).unwrap();
        assert_eq!(data(&shown(&other)[0]), data(&shown(&backwards)[0]));
    }

    #[test]
    fn values_that_lie_too_far_apart_and_too_many_codes_are_refused() {
        let mut roll_up = RollUp::new(10);
        roll_up.take(TimeMs(BEGIN), &[number("spo2", (97, 0))]).unwrap();
        let late = TimeMs(BEGIN + 10_000 * WINDOWS_MAX);
        let refused = roll_up.take(late, &[number("spo2", (97, 0))]);
        assert_eq!(refused, Err(NotRolledUp::TooWide { signal: "spo2".into() }));
        let mut roll_up = RollUp::new(10);
        let coded = |n: usize| Signal { name: "posture".into(), offset_ms: 0, value: Value::Code(format!("c{n}")) };
        let all: Vec<Signal> = (0..=CODES_MAX).map(coded).collect();
        assert_eq!(roll_up.take(TimeMs(BEGIN), &all), Err(NotRolledUp::TooManyCodes { signal: "posture".into() }));
    }

    #[test]
    fn a_roll_up_of_every_known_signal_is_a_valid_observation() {
        use crate::generated::{Story, Wearer};
        let mut wearer = Wearer::new(1, Story::Stable, 500);
        let mut roll_up = RollUp::new(10);
        for second in 0..40 {
            roll_up.take(TimeMs(BEGIN + second * 1_000), &wearer.next_second().signals).unwrap();
        }
        let observations = shown(&roll_up);
        assert!(observations.len() > 5, "{}", observations.len());
        for observation in observations {
            let bytes = serde_json::to_vec(&observation).unwrap();
            let resource = record::fhir::Resource::parse(&bytes, record::fhir::Limits::RESOURCE).unwrap();
            assert_eq!(record::fhir::check(&resource), Ok(()), "{observation}");
        }
    }
}
