//! Respiration and pulse rates of a recording, and how far they are from what people marked and monitors showed.

use crate::{
    command::analyze::labels::Labels,
    signal::{Source, Wave},
};
use analytics::{
    Finding, Input, Measured, Person, Rule,
    reference::{errors, rate_per_min},
};
use record::{TimeMs, sha256};
use sensing::Value;
use serde_json::{Value as Json, json};

/// Rates of one kind, made of some signals.
#[derive(Debug)]
pub(super) struct Rated {
    /// Which rate, such as `respiration`.
    what: &'static str,
    /// The signals that it was made of.
    of: &'static str,
    windows: Vec<Window>,
    /// How far from each reference, by its name.
    errors: Vec<(String, Error)>,
}

/// A window and its rate, where there is one.
#[derive(Debug, Clone, Copy)]
struct Window {
    from_s: f64,
    length_s: f64,
    rate_per_min: Option<f64>,
}

/// How far rates are from a reference, over the windows that both rate.
#[derive(Debug, PartialEq)]
struct Error {
    windows: usize,
    mean_per_min: f64,
    max_per_min: f64,
}

/// What a reference rates in a window.
type RateIn<'a> = dyn Fn(&Window) -> Option<f64> + 'a;
/// Which waves are meant, by their names.
type IsMeant<'a> = &'a dyn Fn(&str) -> bool;

/// A reference: its name, and its rate in a window.
struct Reference<'a> {
    name: String,
    rate: Box<RateIn<'a>>,
}

/// Numbers that a monitor showed, a second at a time: when, and what.
#[derive(Debug, Default)]
pub(super) struct Numerics {
    respiration: Vec<(f64, f64)>,
    pulse: Vec<(f64, f64)>,
    heart: Vec<(f64, f64)>,
}

impl Numerics {
    /// Reads a recording of numbers to its end.
    pub(super) fn read(source: &mut Source) -> Self {
        let mut numerics = Self::default();
        let mut second = 0.0;
        while let Some(signals) = source.next_second() {
            for signal in signals {
                let Value::Number { value, .. } = signal.value else { continue };
                let shown = match signal.name.as_str() {
                    "resp-rate" => &mut numerics.respiration,
                    "pulse" => &mut numerics.pulse,
                    "heart-rate" => &mut numerics.heart,
                    _ => continue,
                };
                shown.push((second + signal.offset_ms as f64 / 1_000.0, value.to_f64()));
            }
            second += 1.0;
        }
        numerics
    }
}

/// The mean of what a monitor showed in a window; nothing where it showed nothing.
fn shown_in(shown: &[(f64, f64)], window: &Window) -> Option<f64> {
    let until_s = window.from_s + window.length_s;
    let within = shown.iter().filter(|(at_s, _)| (window.from_s..until_s).contains(at_s));
    let (count, sum) = within.fold((0u32, 0.0), |(count, sum), (_, value)| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// The rates of a recording's waves, each source alone and all together, against all references that there are. Beats are those of the ECG, in seconds.
pub(super) fn rates(waves: &[Wave<'_>], beats_s: &[f64], labels: Option<&Labels>, numerics: &Numerics) -> Vec<Rated> {
    let mut out = Vec::new();
    let has = |name: &str| waves.iter().any(|wave| wave.name == name);
    if has("resp-impedance") || has("pleth") {
        let is_ecg = |name: &str| name.starts_with("ecg-");
        let sources: [(&'static str, IsMeant<'_>); 4] = [
            ("impedance", &|name| name == "resp-impedance"),
            ("pleth", &|name| name == "pleth"),
            ("ecg", &is_ecg),
            ("all", &|name| name == "resp-impedance" || name == "pleth" || is_ecg(name)),
        ];
        for (of, is_meant) in sources {
            if !waves.iter().any(|wave| is_meant(wave.name)) {
                continue;
            }
            let windows = windows("respiration-rate", "respiratory-rate", waves, is_meant);
            let annotators = labels.iter().flat_map(|labels| &labels.breaths_s).map(|(name, breaths_s)| {
                let rate = |window: &Window| rate_per_min(breaths_s, window.from_s, window.length_s);
                Reference { name: format!("breaths of {name}"), rate: Box::new(rate) }
            });
            let monitor = Reference {
                name: "monitor".to_owned(),
                rate: Box::new(|window| shown_in(&numerics.respiration, window)),
            };
            out.push(Rated::new("respiration", of, windows, annotators.chain([monitor])));
        }
    }
    if has("pleth") {
        let windows = windows("pulse-rate", "pulse-rate", waves, &|name| name == "pleth");
        let references = [
            ("beats of the ECG", Box::new(|w: &Window| rate_per_min(beats_s, w.from_s, w.length_s)) as Box<RateIn<'_>>),
            ("pulse of the monitor", Box::new(|w: &Window| shown_in(&numerics.pulse, w))),
            ("heart rate of the monitor", Box::new(|w: &Window| shown_in(&numerics.heart, w))),
        ];
        let references = references.map(|(name, rate)| Reference { name: name.to_owned(), rate });
        out.push(Rated::new("pulse", "pleth", windows, references));
    }
    out
}

/// The windows of one rule that is told of some of the waves alone, and their rates by the name of the measure.
fn windows(rule: &str, measure: &str, waves: &[Wave<'_>], is_meant: IsMeant<'_>) -> Vec<Window> {
    let Some(rule) = Rule::find(rule) else { return Vec::new() };
    let mut watch = (rule.start)(rule, &Person::default());
    let mut found: Vec<Finding> = Vec::new();
    let meant: Vec<&Wave<'_>> = waves.iter().filter(|wave| is_meant(wave.name)).collect();
    let seconds = meant.iter().map(|wave| (wave.len() as f64 / wave.rate_hz).floor() as u64).max().unwrap_or(0);
    for second in 0..seconds {
        for wave in &meant {
            let range = wave.second(second);
            let at = TimeMs((range.start as f64 * 1_000.0 / wave.rate_hz).round() as u64);
            let values = wave.physical(range);
            let value = Measured::Wave { rate_hz: wave.rate_hz, values: &values };
            watch.take(&Input { frame: sha256(&[&second.to_be_bytes()]), signal: wave.name, at, value }, &mut found);
        }
    }
    watch.finish(&mut found);
    found
        .iter()
        .map(|finding| Window {
            from_s: finding.from.0 as f64 / 1_000.0,
            length_s: finding.until.0.saturating_sub(finding.from.0) as f64 / 1_000.0,
            rate_per_min: finding.measure(measure),
        })
        .collect()
}

impl Rated {
    fn new<'a>(
        what: &'static str,
        of: &'static str,
        windows: Vec<Window>,
        references: impl IntoIterator<Item = Reference<'a>>,
    ) -> Self {
        let error = |reference: Reference<'_>| {
            let both = |window: &Window| window.rate_per_min.zip((reference.rate)(window));
            let pairs: Vec<(f64, f64)> = windows.iter().filter_map(both).collect();
            let (mean_per_min, max_per_min) = errors(&pairs)?;
            Some((reference.name, Error { windows: pairs.len(), mean_per_min, max_per_min }))
        };
        let errors = references.into_iter().filter_map(error).collect();
        Self { what, of, windows, errors }
    }

    fn rated(&self) -> Vec<f64> {
        self.windows.iter().filter_map(|window| window.rate_per_min).collect()
    }

    fn mean_per_min(&self) -> Option<f64> {
        let rated = self.rated();
        (!rated.is_empty()).then(|| rated.iter().sum::<f64>() / rated.len() as f64)
    }

    pub(super) fn to_json(&self) -> Json {
        let errors: Vec<Json> = self
            .errors
            .iter()
            .map(|(reference, error)| {
                json!({
                    "reference": reference, "windows": error.windows,
                    "mean_abs_per_min": error.mean_per_min, "max_abs_per_min": error.max_per_min
                })
            })
            .collect();
        json!({
            "what": self.what, "of": self.of, "windows": self.windows.len(), "rated": self.rated().len(),
            "mean_per_min": self.mean_per_min(), "errors": errors
        })
    }

    pub(super) fn in_words(&self) -> String {
        let mean = self.mean_per_min().map_or("no rate".to_owned(), |mean| format!("{mean:.1} /min"));
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|(reference, error)| {
                format!(
                    "; {} windows are off {reference} by {:.3} /min on average, {:.2} at most",
                    error.windows, error.mean_per_min, error.max_per_min
                )
            })
            .collect();
        format!(
            "{} of {}: {mean} in {} of {} windows{}",
            self.what,
            self.of,
            self.rated().len(),
            self.windows.len(),
            errors.concat()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{
        analyze::{beats::Lead, signals_of_tests},
        tell,
    };

    fn error<'a>(rated: &'a [Rated], what: &str, of: &str, reference: &str) -> &'a Error {
        let rated = rated.iter().find(|rated| (rated.what, rated.of) == (what, of)).unwrap();
        &rated.errors.iter().find(|(name, _)| name.contains(reference)).unwrap().1
    }

    #[test]
    fn rates_of_bidmc_01_are_near_its_annotators_and_its_ecg() {
        let Some(folder) = signals_of_tests() else { return };
        let file = |name: &str| folder.join("ppg_resp").join(name);
        let source = Source::open(file("bidmc_01_Signals.csv").to_str().unwrap()).unwrap();
        let waves = source.waves();
        let names: Vec<&str> = waves.iter().map(|wave| wave.name).collect();
        assert_eq!(names, ["resp-impedance", "pleth", "ecg-v1", "ecg-avr", "ecg-ii"]);
        assert_eq!(source.annotated_hz(), Some(125.0));
        let labels = Labels::read(&file("bidmc_01_Breaths.csv"), 125.0).unwrap();
        let beats_s = Lead::find(&waves).unwrap().unwrap().times_s();
        let rated = rates(&waves, &beats_s, Some(&labels), &Numerics::default());
        rated.iter().for_each(|rated| tell(&rated.in_words()));
        for annotator in ["ann1", "ann2"] {
            for (of, limit) in [("impedance", 0.10), ("pleth", 0.7), ("all", 0.2)] {
                let error = error(&rated, "respiration", of, annotator);
                assert!(error.mean_per_min <= limit && error.windows >= 10, "{of} {annotator}: {error:?}");
            }
        }
        let pulse = error(&rated, "pulse", "pleth", "ECG");
        assert!(pulse.mean_per_min <= 0.8 && pulse.windows >= 14, "{pulse:?}");
    }

    #[test]
    fn rates_are_compared_with_what_a_monitor_showed_in_the_same_window() {
        let shown = [(0.0, 10.0), (31.0, 20.0), (32.0, 99.0)];
        let window = Window { from_s: 0.0, length_s: 32.0, rate_per_min: Some(16.0) };
        assert_eq!(shown_in(&shown, &window), Some(15.0));
        assert_eq!(shown_in(&shown, &Window { from_s: 64.0, ..window }), None);
        let reference = Reference { name: "monitor".to_owned(), rate: Box::new(|window| shown_in(&shown, window)) };
        let unrated = Window { from_s: 32.0, rate_per_min: None, ..window };
        let rated = Rated::new("respiration", "all", vec![window, unrated], [reference]);
        let error = Error { windows: 1, mean_per_min: 1.0, max_per_min: 1.0 };
        assert_eq!(rated.errors, [("monitor".to_owned(), error)]);
        assert_eq!(rated.to_json()["rated"], 1);
    }
}
