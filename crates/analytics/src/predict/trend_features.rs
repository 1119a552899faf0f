//! Features of the forecasts. `models/train/trend_features.py` computes the same, operation by operation.

use super::{
    readings::{HOUR_MS, Point, WINDOW_H, Window},
    variable::Variable,
};

/// What is forecast.
pub(super) const TARGETS: [Variable; 5] =
    [Variable::HEART_RATE, Variable::RESP_RATE, Variable::SYSTOLIC, Variable::MEAN_PRESSURE, Variable::TEMPERATURE];
/// What is looked at: each target beside the others, and the diastolic pressure.
pub(super) const BESIDE: [Variable; 6] = [
    Variable::HEART_RATE,
    Variable::RESP_RATE,
    Variable::SYSTOLIC,
    Variable::MEAN_PRESSURE,
    Variable::TEMPERATURE,
    Variable::DIASTOLIC,
];
const HOURS: usize = WINDOW_H as usize;
const OWN: [&str; 19] = [
    "now", "ago_1", "ago_2", "ago_3", "mean_3", "mean_6", "mean_12", "mean_all", "sd_6", "sd_12", "low_12", "high_12",
    "smooth_3", "smooth_6", "since_h", "count_h", "mean_h", "first_h", "filled",
];
/// Fewer hours than this have no deviation.
const DEVIATION_HOURS_MIN: usize = 3;

/// Names of the features for one target, in their order.
pub(super) fn names(target: Variable) -> Vec<String> {
    let others = BESIDE.iter().filter(|other| **other != target).map(|other| other.spec().name);
    let beside = others.flat_map(|other| [format!("{other}.now"), format!("{other}.change")]);
    OWN.iter().map(|name| (*name).to_owned()).chain(beside).chain(["age".to_owned(), "hours".to_owned()]).collect()
}

/// What is known of a target at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) features: Vec<f64>,
    /// The last value of the hour before.
    pub(super) now: f64,
    /// Deviation over the last six hours that have a value: it chooses the band of the interval.
    pub(super) spread: f64,
}

/// The last value of each hour before the moment, the latest hour first.
fn hourly(window: &Window, variable: Variable) -> [Option<f64>; HOURS] {
    let mut out = [None; HOURS];
    for point in window.of(variable) {
        if let Some(hour) = out.get_mut(hours_back(window, point)) {
            *hour = Some(point.1);
        }
    }
    out
}

fn hours_back(window: &Window, point: &Point) -> usize {
    ((window.at - 1 - point.0) / HOUR_MS) as usize
}

/// The mean of the latest `count`, the latest added first.
fn mean_of(filled: &[f64], count: usize) -> f64 {
    let latest = &filled[..count.min(filled.len())];
    let mut total = 0.0;
    for value in latest {
        total += value;
    }
    total / latest.len() as f64
}

fn deviation_of(filled: &[f64], count: usize) -> f64 {
    let latest = &filled[..count.min(filled.len())];
    if latest.len() < DEVIATION_HOURS_MIN {
        return f64::NAN;
    }
    let middle = mean_of(filled, count);
    let mut total = 0.0;
    for value in latest {
        let away = value - middle;
        total += away * away;
    }
    (total / latest.len() as f64).sqrt()
}

/// Exponential smoothing from the oldest to the latest.
fn smooth_of(filled: &[f64], part: f64) -> f64 {
    let smoothed =
        |level: Option<f64>, value: &f64| Some(level.map_or(*value, |level| part * value + (1.0 - part) * level));
    filled.iter().rev().fold(None, smoothed).unwrap_or(f64::NAN)
}

/// The features of `target`; nothing where it has no value in the last hour.
pub(super) fn row(age: f64, window: &Window, target: Variable) -> Option<Row> {
    let hours = hourly(window, target);
    let now = hours[0]?;
    let filled: Vec<f64> = hours.into_iter().flatten().collect();
    let unknown = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let points = window.of(target);
    let latest_hour = &points[points.partition_point(|point| hours_back(window, point) > 0)..];
    let mut total = 0.0;
    for point in latest_hour {
        total += point.1;
    }
    let spread = deviation_of(&filled, 6);
    let twelve = &filled[..filled.len().min(12)];
    let low = twelve.iter().fold(f64::INFINITY, |low, value| if *value < low { *value } else { low });
    let high = twelve.iter().fold(f64::NEG_INFINITY, |high, value| if *value > high { *value } else { high });
    let (first, last) = (latest_hour.first()?, latest_hour.last()?);
    let own: [f64; OWN.len()] = [
        now,
        unknown(hours[1]) - now,
        unknown(hours[2]) - now,
        unknown(hours[3]) - now,
        mean_of(&filled, 3) - now,
        mean_of(&filled, 6) - now,
        mean_of(&filled, 12) - now,
        mean_of(&filled, HOURS) - now,
        spread,
        deviation_of(&filled, 12),
        low - now,
        high - now,
        smooth_of(&filled, 0.3) - now,
        smooth_of(&filled, 0.6) - now,
        window.hours_since(last.0),
        latest_hour.len() as f64,
        total / latest_hour.len() as f64 - now,
        first.1 - now,
        filled.len() as f64,
    ];
    let mut features = own.to_vec();
    for other in BESIDE.into_iter().filter(|other| *other != target) {
        let hours = hourly(window, other);
        features.extend([unknown(hours[0]), unknown(hours[0]) - unknown(hours[1])]);
    }
    let begun = BESIDE.iter().filter_map(|variable| window.of(*variable).first()).map(|point| point.0).min()?;
    features.extend([age, window.hours_since(begun)]);
    Some(Row { features, now, spread })
}
