//! Window summary: count, mean, deviation, extremes, quantiles and trend of each number over a minute.
//!
//! Source: Welford, Technometrics 1962;4:419 (deviation, and slope by least squares in the same way); DDSketch, Masson et al., PVLDB
//! 2019;12:2195 (quantiles, 1 % relative error).

use super::{Author, Rule, Watch};
use crate::{
    finding::{Cited, Finding, Kind, Measure},
    input::{Input, Person},
};
use record::TimeMs;
use sketches_ddsketch::{Config, DDSketch};
use std::collections::BTreeMap;

/// Length of a window, in seconds. Windows begin at whole minutes.
const WINDOW_S: u64 = 60;
/// Relative error of quantiles.
const QUANTILE_ERROR: f64 = 0.01;
/// Bins of a sketch: enough for values from 1e-9 to 1e9.
const BINS_MAX: u32 = 2_048;
/// The most signals that are summed up for one patient.
const SIGNALS_MAX: usize = 64;
/// The window of a signal that says nothing more is closed when others are so many windows ahead: frames of devices come at different times.
const SILENT_WINDOWS: u64 = 2;
/// Quantiles, by name.
const QUANTILES: [(&str, f64); 5] = [("p05", 0.05), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p95", 0.95)];

pub(super) const RULE: Rule = Rule {
    id: "window-summary",
    version: 2,
    kind: Kind::Descriptive,
    title: "Summary of one minute",
    source: "Welford 1962; Masson et al., DDSketch, 2019",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "window-summary", "Summary of one minute")],
    parameters: || {
        vec![
            ("window_s".into(), WINDOW_S as f64),
            ("quantile_error".into(), QUANTILE_ERROR),
            ("bins_max".into(), BINS_MAX.into()),
            ("silent_windows".into(), SILENT_WINDOWS as f64),
        ]
    },
    start: |rule, _: &Person| Box::new(Summaries { author: Author::of(rule), windows: BTreeMap::new() }),
};

#[derive(Debug)]
struct Summaries {
    author: Author,
    windows: BTreeMap<String, Window>,
}

struct Window {
    number: u64,
    first: TimeMs,
    last: TimeMs,
    count: u64,
    mean: f64,
    squares: f64,
    /// Mean time since the window began, in minutes, its squares and its products with the values.
    mean_min: f64,
    squares_min: f64,
    products: f64,
    low: f64,
    high: f64,
    sketch: DDSketch,
    cited: Cited,
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("number", &self.number).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Window {
    fn new(number: u64, at: TimeMs) -> Self {
        Self {
            number,
            first: at,
            last: at,
            count: 0,
            mean: 0.0,
            squares: 0.0,
            mean_min: 0.0,
            squares_min: 0.0,
            products: 0.0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            sketch: DDSketch::new(Config::new(QUANTILE_ERROR, BINS_MAX, 1e-9)),
            cited: Cited::default(),
        }
    }

    fn add(&mut self, value: f64, input: &Input<'_>) {
        self.count += 1;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count as f64;
        self.squares += from_mean * (value - self.mean);
        // The window begins at a whole minute: times in it are small numbers.
        let minutes = (input.at.0 % (WINDOW_S * 1_000)) as f64 / 60_000.0;
        let from_mean_min = minutes - self.mean_min;
        self.mean_min += from_mean_min / self.count as f64;
        self.squares_min += from_mean_min * (minutes - self.mean_min);
        self.products += from_mean_min * (value - self.mean);
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        self.sketch.add(value);
        self.first = self.first.min(input.at);
        self.last = self.last.max(input.at);
        self.cited.add(input.frame);
    }

    fn close(mut self, author: &Author, signal: &str) -> Finding {
        let unit = unit_of(signal);
        let measure = |name, value| Measure { name, value, unit };
        let mut measures = vec![
            measure("mean", self.mean),
            Measure { name: "count", value: self.count as f64, unit: "1" },
            measure("min", self.low),
            measure("max", self.high),
        ];
        if self.count > 1 {
            measures.push(measure("sd", (self.squares / (self.count - 1) as f64).sqrt()));
        }
        if self.squares_min > 0.0 {
            let value = self.products / self.squares_min;
            measures.push(Measure { name: "slope", value, unit: unit_a_minute(unit) });
        }
        for (name, share) in QUANTILES {
            if let Ok(Some(value)) = self.sketch.quantile(share) {
                measures.push(measure(name, value));
            }
        }
        let signal = Some(signal.to_owned());
        Finding { signal, measures, ..author.finding(self.first, self.last, self.cited.take()) }
    }
}

impl Watch for Summaries {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(value) = input.value.number() else { return };
        let number = input.at.0 / (WINDOW_S * 1_000);
        self.close_silent(number, out);
        let room = self.windows.len() < SIGNALS_MAX;
        match self.windows.get_mut(input.signal) {
            Some(window) if window.number == number => window.add(value, input),
            // A value of a window that is closed already stays out of the next one.
            Some(window) if window.number > number => {}
            Some(window) => {
                let full = std::mem::replace(window, Window::new(number, input.at));
                window.add(value, input);
                out.push(full.close(&self.author, input.signal));
            }
            None if room => {
                let mut window = Window::new(number, input.at);
                window.add(value, input);
                self.windows.insert(input.signal.to_owned(), window);
            }
            None => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<Finding>) {
        let windows = std::mem::take(&mut self.windows);
        out.extend(windows.into_iter().map(|(signal, window)| window.close(&self.author, &signal)));
    }
}

impl Summaries {
    /// Closes windows of signals that have said nothing for long.
    fn close_silent(&mut self, number: u64, out: &mut Vec<Finding>) {
        let silent = |window: &Window| window.number + SILENT_WINDOWS <= number;
        if !self.windows.values().any(silent) {
            return;
        }
        for (signal, window) in std::mem::take(&mut self.windows) {
            if silent(&window) {
                out.push(window.close(&self.author, &signal));
            } else {
                self.windows.insert(signal, window);
            }
        }
    }
}

/// The UCUM unit of a change a minute.
fn unit_a_minute(unit: &'static str) -> &'static str {
    match unit {
        "/min" => "/min2",
        "%" => "%/min",
        "mm[Hg]" => "mm[Hg]/min",
        "Cel" => "Cel/min",
        "uS" => "uS/min",
        _ => "/min",
    }
}

/// The UCUM unit that a known signal has; `1` for others.
pub(super) fn unit_of(signal: &str) -> &'static str {
    match signal {
        "heart-rate" | "pulse" | "resp-rate" => "/min",
        "spo2" => "%",
        "nibp-sys" | "nibp-dia" | "nibp-mean" | "ibp-sys" | "ibp-dia" | "ibp-mean" => "mm[Hg]",
        "temp-body" | "temp-core" | "temp-skin" => "Cel",
        "gsr" => "uS",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Measured;
    use record::sha256;

    #[test]
    fn a_minute_is_summed_up_when_the_next_begins() {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for n in 0..=60u64 {
            let frame = sha256(&[&n.to_be_bytes()]);
            let value = Measured::Number(n as f64 + 1.0);
            watch.take(&Input { frame, signal: "pulse", at: TimeMs(n * 1_000), value }, &mut out);
        }
        assert_eq!(out.len(), 1);
        let finding = &out[0];
        assert_eq!(finding.measure("count"), Some(60.0));
        assert_eq!(finding.measure("mean"), Some(30.5));
        assert_eq!((finding.measure("min"), finding.measure("max")), (Some(1.0), Some(60.0)));
        assert!((finding.measure("sd").unwrap() - 305f64.sqrt()).abs() < 1e-9);
        for (name, exact) in [("p05", 3.0), ("p50", 30.0), ("p95", 57.0)] {
            let got = finding.measure(name).unwrap();
            assert!((got - exact).abs() <= 1.0 + exact * 0.01, "{name}: {got}");
        }
        assert_eq!(finding.inputs.len(), 60);
        assert_eq!((finding.from, finding.until), (TimeMs(0), TimeMs(59_000)));
    }

    /// The summary of these values, evenly spaced over a minute.
    fn summed(values: &[f64]) -> Finding {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        let frame = sha256(&[]);
        for (n, value) in values.iter().enumerate() {
            let at = TimeMs(n as u64 * 59_999 / values.len() as u64);
            watch.take(&Input { frame, signal: "spo2", at, value: Measured::Number(*value) }, &mut out);
        }
        watch.take(&Input { frame, signal: "spo2", at: TimeMs(60_000), value: Measured::Number(0.0) }, &mut out);
        out.pop().unwrap()
    }

    #[test]
    fn every_quantile_is_within_one_percent_of_a_value_at_its_rank() {
        let mut chance = crate::recordings::Chance(61);
        for round in 0..50 {
            let scale = 10f64.powi(round % 9 - 3);
            let values: Vec<f64> = (0..600)
                .map(|_| match round % 3 {
                    0 => scale * (5.0 + chance.normal()),
                    1 => scale * chance.normal(),
                    _ => scale * (3.0 * chance.normal()).exp(),
                })
                .collect();
            let finding = summed(&values);
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            for (name, share) in QUANTILES {
                let rank = share * (sorted.len() - 1) as f64;
                let near = [rank.floor(), rank.ceil()].map(|rank| sorted[rank as usize]);
                let got = finding.measure(name).unwrap();
                let close = near.iter().any(|exact| (got - exact).abs() <= 0.010_000_1 * exact.abs());
                assert!(close, "seed 61, round {round}, {name}: {got} of {near:?}");
            }
            let exact = sorted.iter().sum::<f64>() / sorted.len() as f64;
            assert!((finding.measure("mean").unwrap() - exact).abs() <= 1e-9 * scale.max(exact.abs()));
        }
    }

    #[test]
    fn a_steady_rise_has_its_slope_and_a_constant_none() {
        let rising: Vec<f64> = (0..600).map(|n| 90.0 + 4.0 * f64::from(n) / 600.0).collect();
        let finding = summed(&rising);
        let slope = finding.measures.iter().find(|measure| measure.name == "slope").unwrap();
        assert!((slope.value - 4.0).abs() < 0.01 && slope.unit == "%/min", "{slope:?}");
        assert_eq!(summed(&[97.0; 60]).measure("slope"), Some(0.0));
        assert_eq!(summed(&[97.0]).measure("slope"), None);
    }

    #[test]
    fn a_signal_that_falls_silent_is_summed_up_by_the_time_of_others() {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        let mut tell = |signal: &str, at_s: u64| {
            let (frame, value) = (sha256(&[signal.as_bytes()]), Measured::Number(97.0));
            watch.take(&Input { frame, signal, at: TimeMs(at_s * 1_000), value }, &mut out);
            out.drain(..).map(|finding| finding.signal.unwrap()).collect::<Vec<_>>()
        };
        assert!(tell("spo2", 59).is_empty() && tell("pulse", 59).is_empty());
        assert_eq!(tell("pulse", 60), ["pulse"]);
        assert_eq!(tell("pulse", 120), ["spo2", "pulse"]);
        assert!(tell("spo2", 121).is_empty());
        watch.finish(&mut out);
        let last: Vec<String> = out.drain(..).map(|finding| finding.signal.unwrap()).collect();
        assert_eq!(last, ["pulse", "spo2"]);
    }

    #[test]
    fn what_is_no_number_is_not_counted() {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        let frame = sha256(&[]);
        for (n, value) in [Measured::Number(1.0), Measured::Absent, Measured::Number(f64::NAN)].into_iter().enumerate()
        {
            watch.take(&Input { frame, signal: "spo2", at: TimeMs(n as u64), value }, &mut out);
        }
        watch.take(&Input { frame, signal: "spo2", at: TimeMs(60_000), value: Measured::Number(2.0) }, &mut out);
        assert_eq!(out[0].measure("count"), Some(1.0));
        assert_eq!(out[0].measure("sd"), None);
    }
}
