//! Features of the deterioration risk. `models/train/risk_features.py` computes the same, operation by operation.

use super::{
    readings::{HOUR_MS, Point, Window},
    variable::{VARIABLES, Variable},
};

/// Of so many variables everything is told; of the others what a value measured a few times a day can say.
const FULL: usize = 12;
/// The late part of a window, in hours.
const LATE_H: u64 = 12;
/// Above this somebody counts as ventilated: between the 0 and 1 that stand in the data.
const VENTILATED_ABOVE: f64 = 0.5;

const SUMMARY_FULL: [&str; 13] = [
    "first",
    "last",
    "min",
    "max",
    "mean",
    "sd",
    "slope_per_h",
    "per_day",
    "since_h",
    "late_mean",
    "late_min",
    "late_max",
    "late_change",
];
const SUMMARY_SOME: [&str; 8] = ["first", "last", "min", "max", "mean", "per_day", "since_h", "change"];
const DERIVED: [&str; 28] = [
    "age",
    "male",
    "height",
    "body_mass_index",
    "observed_h",
    "shock_index_last",
    "shock_index_mean",
    "shock_index_late",
    "pulse_pressure_last",
    "oxygenation_last",
    "oxygenation_min",
    "saturation_over_oxygen",
    "urea_over_creatinine",
    "anion_gap_like",
    "base_like",
    "urine_per_h",
    "urine_late_per_h",
    "urine_per_kg_h",
    "coma_worst_change",
    "coma_by_age",
    "urea_by_age",
    "low_pressure_share",
    "fast_heart_share",
    "low_saturation_share",
    "fever_share",
    "ventilated_share",
    "fast_breath_share",
    "measured_variables",
];

/// Names of all features, in their order.
pub(super) fn names() -> Vec<String> {
    let of = |(place, what): (usize, &str)| -> Vec<String> {
        let summary: &[&str] = if place < FULL { &SUMMARY_FULL } else { &SUMMARY_SOME };
        summary.iter().map(|part| format!("{what}.{part}")).collect()
    };
    let mut out: Vec<String> = VARIABLES.iter().map(|spec| spec.name).enumerate().flat_map(of).collect();
    out.extend(DERIVED.iter().map(|name| (*name).to_owned()));
    out
}

/// What the models know of the person; not a number where unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) age: f64,
    pub(super) male: f64,
    pub(super) height: f64,
}

/// What is told of one variable; not a number where it was not measured.
#[derive(Debug, Clone, Copy)]
struct Summary {
    first: f64,
    last: f64,
    min: f64,
    max: f64,
    mean: f64,
    sd: f64,
    slope_per_h: f64,
    per_day: f64,
    since_h: f64,
    late_mean: f64,
    late_min: f64,
    late_max: f64,
    late_change: f64,
}

/// The mean, the first added first; not a number for none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut count) = (0.0, 0usize);
    for value in values {
        total += value;
        count += 1;
    }
    if count == 0 { f64::NAN } else { total / count as f64 }
}

fn over(a: f64, b: f64) -> f64 {
    if b == 0.0 { f64::NAN } else { a / b }
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NAN, |least, value| if least <= value { least } else { value })
}

fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NAN, |greatest, value| if greatest >= value { greatest } else { value })
}

fn share(values: impl Iterator<Item = f64>, test: impl Fn(f64) -> bool) -> f64 {
    let (mut passed, mut count) = (0usize, 0usize);
    for value in values {
        passed += usize::from(test(value));
        count += 1;
    }
    if count == 0 { f64::NAN } else { passed as f64 / count as f64 }
}

impl Summary {
    fn of(points: &[Point], window: &Window, observed_h: f64) -> Self {
        let values = || points.iter().map(|point| point.1);
        let edge = |point: Option<&Point>| point.map_or(f64::NAN, |point| point.1);
        let middle = mean(values());
        // Hours before the moment are negative, as in the other program.
        let hour = |point: &Point| -window.hours_since(point.0);
        let centre = mean(points.iter().map(hour));
        let (mut squares, mut along, mut across) = (0.0, 0.0, 0.0);
        for point in points {
            let (away, aside) = (point.1 - middle, hour(point) - centre);
            squares += away * away;
            along += aside * aside;
            across += aside * away;
        }
        let late_from = window.at.saturating_sub(LATE_H * HOUR_MS);
        let (early, late) = points.split_at(points.partition_point(|point| point.0 < late_from));
        let value = |point: &Point| point.1;
        let late_mean = mean(late.iter().map(value));
        Self {
            first: edge(points.first()),
            last: edge(points.last()),
            min: least(values()),
            max: greatest(values()),
            mean: middle,
            sd: if points.is_empty() { f64::NAN } else { (squares / points.len() as f64).sqrt() },
            slope_per_h: if along > 0.0 { across / along } else { f64::NAN },
            per_day: points.len() as f64 / observed_h * 24.0,
            since_h: points.last().map_or(f64::NAN, |last| window.hours_since(last.0)),
            late_mean,
            late_min: least(late.iter().map(value)),
            late_max: greatest(late.iter().map(value)),
            late_change: late_mean - mean(early.iter().map(value)),
        }
    }

    fn all(&self) -> [f64; SUMMARY_FULL.len()] {
        [
            self.first,
            self.last,
            self.min,
            self.max,
            self.mean,
            self.sd,
            self.slope_per_h,
            self.per_day,
            self.since_h,
            self.late_mean,
            self.late_min,
            self.late_max,
            self.late_change,
        ]
    }

    fn some(&self) -> [f64; SUMMARY_SOME.len()] {
        let change = self.last - self.first;
        [self.first, self.last, self.min, self.max, self.mean, self.per_day, self.since_h, change]
    }
}

/// All features of a window.
pub(super) fn features(known: &Known, window: &Window) -> Vec<f64> {
    let observed_h = window.observed_h().max(1.0);
    let parts: Vec<Summary> =
        Variable::all().map(|variable| Summary::of(window.of(variable), window, observed_h)).collect();
    let mut out = Vec::with_capacity(VARIABLES.len() * SUMMARY_FULL.len());
    for (place, part) in parts.iter().enumerate() {
        if place < FULL {
            out.extend(part.all());
        } else {
            out.extend(part.some());
        }
    }
    let of = |variable: Variable| &parts[variable.place()];
    let last = |variable: Variable| of(variable).last;
    let (heart, systolic) = (of(Variable::HEART_RATE), of(Variable::SYSTOLIC));
    let metres = known.height / 100.0;
    let weight = of(Variable::WEIGHT).mean;
    let oxygen = last(Variable::INSPIRED_OXYGEN);
    let urine = window.of(Variable::URINE);
    let late_from = window.at.saturating_sub(LATE_H * HOUR_MS);
    let sum = |points: &[Point]| mean(points.iter().map(|point| point.1)) * points.len() as f64;
    let urine_per_h = sum(urine) / observed_h;
    let urine_late = sum(urine.split_at(urine.partition_point(|point| point.0 < late_from)).1);
    let glasgow = of(Variable::GLASGOW);
    let ventilated = window.values(Variable::VENTILATED).filter(|value| *value > VENTILATED_ABOVE).count() as f64;
    let derived: [f64; DERIVED.len()] = [
        known.age,
        known.male,
        known.height,
        over(weight, metres * metres),
        observed_h,
        over(heart.last, systolic.last),
        over(heart.mean, systolic.mean),
        over(heart.late_mean, systolic.late_mean),
        systolic.last - last(Variable::DIASTOLIC),
        over(last(Variable::PAO2), oxygen),
        over(of(Variable::PAO2).min, of(Variable::INSPIRED_OXYGEN).max),
        over(last(Variable::OXYGEN_SATURATION), oxygen),
        over(last(Variable::UREA), last(Variable::CREATININE)),
        last(Variable::SODIUM) - last(Variable::BICARBONATE),
        last(Variable::BICARBONATE) - last(Variable::PACO2),
        urine_per_h,
        urine_late / LATE_H as f64,
        over(urine_per_h, weight),
        glasgow.last - glasgow.min,
        (15.0 - glasgow.last) * known.age,
        last(Variable::UREA) * known.age,
        share(window.values(Variable::MEAN_PRESSURE), |value| value < 65.0),
        share(window.values(Variable::HEART_RATE), |value| value > 110.0),
        share(window.values(Variable::OXYGEN_SATURATION), |value| value < 92.0),
        share(window.values(Variable::TEMPERATURE), |value| value > 38.3),
        over(ventilated, observed_h),
        share(window.values(Variable::RESP_RATE), |value| value > 24.0),
        Variable::all().filter(|variable| !window.of(*variable).is_empty()).count() as f64,
    ];
    out.extend(derived);
    out
}
