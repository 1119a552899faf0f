//! Trend forecast: a vital sign five minutes ahead, with an interval that held nine times in ten before.
//!
//! Source: damped trend, Gardner and McKenzie, Management Science 1985;31:1237; interval from the person's own past errors in the
//! manner of split conformal prediction, Vovk et al., Algorithmic Learning in a Random World, 2005. Until enough errors are known
//! the interval is missing and the finding incomplete.

use super::{Author, Rule, Watch, window_summary::unit_of};
use crate::{
    finding::{Cited, Finding, Kind, Measure, Severity},
    input::{Input, Person},
};
use record::TimeMs;
use std::collections::VecDeque;

/// Signals that are forecast, with the range that a forecast should stay in: below or above is of medium severity.
///
/// Source of the ranges: values of NEWS2 that score at most 1.
const SIGNALS: [(&str, f64, f64); 4] =
    [("heart-rate", 41.0, 110.0), ("spo2", 94.0, 100.0), ("nibp-sys", 101.0, 219.0), ("resp-rate", 9.0, 20.0)];

/// Parameters of the forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trend {
    /// Length of a step, in seconds; the values of one step are averaged.
    step_s: u64,
    /// How many steps ahead.
    ahead: usize,
    /// Share of a new value in the level.
    level_share: f64,
    /// Share of a new slope in the trend.
    trend_share: f64,
    /// How much of the trend is left after a step.
    damping: f64,
    /// Share of past errors that the interval covers.
    coverage: f64,
    /// How many past errors are kept.
    errors_max: usize,
}

const TREND: Trend =
    Trend { step_s: 30, ahead: 10, level_share: 0.6, trend_share: 0.1, damping: 0.85, coverage: 0.9, errors_max: 240 };

pub(super) const RULE: Rule = Rule {
    id: "trend-forecast",
    version: 1,
    kind: Kind::Predictive,
    title: "Forecast of a vital sign in five minutes",
    source: "Gardner and McKenzie 1985; Vovk et al. 2005",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "trend-forecast", "Forecast of a vital sign")],
    parameters: || {
        let mut out: Vec<(String, f64)> = vec![
            ("step_s".into(), TREND.step_s as f64),
            ("ahead".into(), TREND.ahead as f64),
            ("level_share".into(), TREND.level_share),
            ("trend_share".into(), TREND.trend_share),
            ("damping".into(), TREND.damping),
            ("coverage".into(), TREND.coverage),
            ("errors_max".into(), TREND.errors_max as f64),
        ];
        for (signal, low, high) in SIGNALS {
            out.push((format!("{signal}.low"), low));
            out.push((format!("{signal}.high"), high));
        }
        out
    },
    start: |rule, _: &Person| {
        let series = SIGNALS.map(|(signal, low, high)| Series {
            signal,
            low,
            high,
            step: None,
            forecaster: Forecaster::new(TREND),
        });
        Box::new(Forecasts { author: Author::of(rule), series })
    },
};

/// The forecaster of one series.
#[derive(Debug, Clone)]
struct Forecaster {
    p: Trend,
    level: Option<f64>,
    trend: f64,
    /// What was forecast for the coming steps, the next one first; nothing where there was no level yet.
    pending: VecDeque<Option<f64>>,
    /// Past errors without their sign.
    errors: VecDeque<f64>,
}

impl Forecaster {
    fn new(p: Trend) -> Self {
        Self { p, level: None, trend: 0.0, pending: VecDeque::from(vec![None; p.ahead]), errors: VecDeque::new() }
    }

    /// Goes one step on, with the step's value or without one, and gives the new forecast with its half-width.
    fn step(&mut self, value: Option<f64>) -> Option<(f64, Option<f64>)> {
        let due = self.pending.pop_front().flatten();
        if let (Some(due), Some(value)) = (due, value) {
            if self.errors.len() >= self.p.errors_max {
                self.errors.pop_front();
            }
            self.errors.push_back((value - due).abs());
        }
        let damped = self.p.damping * self.trend;
        self.level = match (self.level, value) {
            (None, value) => value,
            (Some(level), None) => Some(level + damped),
            (Some(level), Some(value)) => {
                let next = self.p.level_share * value + (1.0 - self.p.level_share) * (level + damped);
                self.trend = self.p.trend_share * (next - level) + (1.0 - self.p.trend_share) * damped;
                Some(next)
            }
        };
        let mut share = 1.0;
        let mut sum = 0.0;
        for _ in 0..self.p.ahead {
            share *= self.p.damping;
            sum += share;
        }
        let forecast = self.level.map(|level| level + sum * self.trend);
        self.pending.push_back(forecast);
        forecast.map(|forecast| (forecast, self.half_width()))
    }

    /// The smallest error that at least `coverage` of n + 1 errors do not pass.
    fn half_width(&self) -> Option<f64> {
        let count = self.errors.len();
        let rank = ((count + 1) as f64 * self.p.coverage).ceil() as usize;
        if rank == 0 || rank > count {
            return None;
        }
        let mut sorted: Vec<f64> = self.errors.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(rank - 1).copied()
    }
}

#[derive(Debug)]
struct Forecasts {
    author: Author,
    series: [Series; 4],
}

#[derive(Debug)]
struct Series {
    signal: &'static str,
    low: f64,
    high: f64,
    step: Option<Step>,
    forecaster: Forecaster,
}

#[derive(Debug)]
struct Step {
    number: u64,
    first: TimeMs,
    last: TimeMs,
    sum: f64,
    count: u32,
    cited: Cited,
}

/// A silence longer than this many steps starts a series anew.
const SILENT_STEPS_MAX: u64 = 20;

impl Series {
    fn take(&mut self, author: &Author, input: &Input<'_>, value: f64, out: &mut Vec<Finding>) {
        let number = input.at.0 / (TREND.step_s * 1_000);
        if self.step.as_ref().is_some_and(|step| step.number > number) {
            return;
        }
        if let Some(full) = self.step.take_if(|step| step.number < number) {
            let silent = number - full.number - 1;
            let mean = full.sum / f64::from(full.count);
            out.extend(self.forecaster.step(Some(mean)).map(|forecast| self.finding(author, full, forecast)));
            if silent > SILENT_STEPS_MAX {
                self.forecaster = Forecaster::new(TREND);
            } else {
                for _ in 0..silent {
                    self.forecaster.step(None);
                }
            }
        }
        let step = self.step.get_or_insert_with(|| Step {
            number,
            first: input.at,
            last: input.at,
            sum: 0.0,
            count: 0,
            cited: Cited::default(),
        });
        step.sum += value;
        step.count += 1;
        step.last = step.last.max(input.at);
        step.cited.add(input.frame);
    }

    fn finding(&self, author: &Author, mut step: Step, (value, half_width): (f64, Option<f64>)) -> Finding {
        let unit = unit_of(self.signal);
        let step_ms = TREND.step_s * 1_000;
        let target = TimeMs(step.number * step_ms).plus_ms((1 + TREND.ahead as u64) * step_ms);
        let measure = |name, value| Measure { name, value, unit };
        let mut finding =
            Finding { signal: Some(self.signal.to_owned()), ..author.finding(step.first, target, step.cited.take()) };
        finding.measures.push(measure("forecast", value));
        match half_width {
            Some(half) => {
                finding.measures.push(measure("low", value - half));
                finding.measures.push(measure("high", value + half));
                finding.measures.push(Measure { name: "coverage", value: TREND.coverage * 100.0, unit: "%" });
            }
            None => {
                finding.complete = false;
                finding.missing.push("interval");
            }
        }
        let leaves = value < self.low || value > self.high;
        finding.severity = if leaves { Severity::Medium } else { Severity::None };
        finding
    }
}

impl Watch for Forecasts {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(value) = input.value.number() else { return };
        if let Some(series) = self.series.iter_mut().find(|series| series.signal == input.signal) {
            series.take(&self.author, input, value, out);
        }
    }
}

#[cfg(test)]
mod tests;
