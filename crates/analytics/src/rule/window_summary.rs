//! Window summary: count, mean, deviation, extremes and quantiles of each number over a minute.
//!
//! Source: Welford, Technometrics 1962;4:419 (deviation); DDSketch, Masson et al., PVLDB 2019;12:2195 (quantiles, 1 % relative error).

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

pub(super) const RULE: Rule = Rule {
    id: "window-summary",
    version: 1,
    kind: Kind::Descriptive,
    title: "Summary of one minute",
    source: "Welford 1962; Masson et al., DDSketch, 2019",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "window-summary", "Summary of one minute")],
    parameters: || {
        vec![
            ("window_s".into(), WINDOW_S as f64),
            ("quantile_error".into(), QUANTILE_ERROR),
            ("bins_max".into(), BINS_MAX.into()),
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
        for (name, share) in [("p05", 0.05), ("p50", 0.5), ("p95", 0.95)] {
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
}

/// The UCUM unit that a known signal has; `1` for others.
pub(super) fn unit_of(signal: &str) -> &'static str {
    match signal {
        "heart-rate" | "pulse" | "resp-rate" => "/min",
        "spo2" => "%",
        "nibp-sys" | "nibp-dia" | "nibp-mean" => "mm[Hg]",
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
