//! One patient's readings of the last two days, in the form in which the models were trained on them.

use super::variable::{VARIABLES, Variable};
use record::TimeMs;

/// How far back the models look, in hours: the length of the recordings that they were trained on.
pub const WINDOW_H: u64 = 48;
/// The most readings of one variable that are kept: one a minute for the window, and room for amounts.
pub const READINGS_MAX: usize = 4_096;

pub(super) const HOUR_MS: u64 = 3_600_000;
const WINDOW_MS: u64 = WINDOW_H * HOUR_MS;
const MINUTE_MS: u64 = 60_000;
/// Of each quarter of an hour, counted back from the moment of the prediction, the last value counts: so a monitor that speaks every second
/// looks like the charts that the models learned from.
const QUARTER_MS: u64 = 900_000;

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading<'a> {
    /// What was measured.
    pub variable: Variable,
    /// When.
    pub at: TimeMs,
    /// The value, in `unit`.
    pub value: f64,
    /// UCUM unit.
    pub unit: &'a str,
}

/// Why a reading does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Its unit is not the variable's. Nothing is converted.
    #[error("`{variable}` is in `{expected}`, not in `{got}`")]
    Unit {
        /// The variable.
        variable: &'static str,
        /// Its unit.
        expected: &'static str,
        /// The reading's.
        got: String,
    },
    /// Its value is outside of what can be measured of a living person, or not a number.
    #[error("the value of `{variable}` is outside of {low} to {high}")]
    Implausible {
        /// The variable.
        variable: &'static str,
        /// The lowest that counts.
        low: String,
        /// The highest that counts.
        high: String,
    },
    /// It is older than the window before the latest reading.
    #[error("the reading is more than {WINDOW_H} hours older than the latest one")]
    Old,
    /// The variable has [`READINGS_MAX`] readings in the window.
    #[error("more than {READINGS_MAX} readings of `{variable}` in {WINDOW_H} hours")]
    TooMany {
        /// The variable.
        variable: &'static str,
    },
}

/// A value and when it was measured.
pub(super) type Point = (u64, f64);

#[derive(Debug, Clone, Default)]
pub(super) struct Readings {
    // INVARIANT: as many as variables; each ordered by time, then by value; at most one a minute but for amounts.
    series: Vec<Vec<Point>>,
    latest: u64,
}

impl Readings {
    pub(super) fn new() -> Self {
        Self { series: vec![Vec::new(); VARIABLES.len()], latest: 0 }
    }

    pub(super) fn latest(&self) -> TimeMs {
        TimeMs(self.latest)
    }

    /// Takes a reading. The order in which readings come decides nothing.
    pub(super) fn take(&mut self, reading: &Reading<'_>) -> Result<(), NotTaken> {
        let spec = reading.variable.spec();
        if reading.unit != spec.unit {
            let got = reading.unit.chars().take(64).collect();
            return Err(NotTaken::Unit { variable: spec.name, expected: spec.unit, got });
        }
        if !(spec.low..=spec.high).contains(&reading.value) {
            let (low, high) = (spec.low.to_string(), spec.high.to_string());
            return Err(NotTaken::Implausible { variable: spec.name, low, high });
        }
        // Zero has one sign here, so that equal values are equal bits.
        let (at, value) = (reading.at.0, reading.value + 0.0);
        if at < self.latest.saturating_sub(WINDOW_MS) {
            return Err(NotTaken::Old);
        }
        let begins = self.latest.max(at).saturating_sub(WINDOW_MS);
        let series = &mut self.series[reading.variable.place()];
        series.drain(..series.partition_point(|point| point.0 < begins));
        let place = series.partition_point(|point| (point.0, point.1) <= (at, value));
        let minute = at / MINUTE_MS;
        if !spec.amount && series.get(place).is_some_and(|after| after.0 / MINUTE_MS == minute) {
            return Ok(());
        }
        let full = series.len() >= READINGS_MAX;
        let before = place.checked_sub(1).and_then(|before| series.get_mut(before));
        match before.filter(|before| !spec.amount && before.0 / MINUTE_MS == minute) {
            Some(before) => *before = (at, value),
            None if full => return Err(NotTaken::TooMany { variable: spec.name }),
            None => series.insert(place, (at, value)),
        }
        self.latest = self.latest.max(at);
        Ok(())
    }

    /// What counts of each variable in so many hours before `at`, at most [`WINDOW_H`]: what was measured at `at` itself does not.
    pub(super) fn window(&self, at: TimeMs, hours: u64) -> Window {
        let begins = at.0.saturating_sub(hours * HOUR_MS);
        let series = Variable::all().map(|variable| {
            let points = &self.series[variable.place()];
            let from = points.partition_point(|point| point.0 < begins);
            let until = points.partition_point(|point| point.0 < at.0);
            let mut out: Vec<Point> = Vec::new();
            for &point in points.get(from..until).unwrap_or_default() {
                let quarter = |point: &Point| (at.0 - 1 - point.0) / QUARTER_MS;
                match out.last_mut() {
                    Some(last) if !variable.spec().amount && quarter(last) == quarter(&point) => *last = point,
                    _ => out.push(point),
                }
            }
            out
        });
        let series: Vec<Vec<Point>> = series.collect();
        let begun = series.iter().filter_map(|one| one.first()).map(|point| point.0).min().unwrap_or(at.0);
        Window { at: at.0, begun, series }
    }
}

/// What counts at a moment.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) at: u64,
    /// When the earliest reading in it was measured.
    pub(super) begun: u64,
    series: Vec<Vec<Point>>,
}

impl Window {
    pub(super) fn of(&self, variable: Variable) -> &[Point] {
        &self.series[variable.place()]
    }
    pub(super) fn values(&self, variable: Variable) -> impl Iterator<Item = f64> + '_ {
        self.of(variable).iter().map(|point| point.1)
    }
    /// Hours from `time` to the moment.
    pub(super) fn hours_since(&self, time: u64) -> f64 {
        (self.at - time) as f64 / HOUR_MS as f64
    }
    pub(super) fn observed_h(&self) -> f64 {
        self.hours_since(self.begun)
    }
    /// Names of those of `variables` that have no reading in the last so many hours.
    pub(super) fn without(&self, variables: impl Iterator<Item = Variable>, hours: u64) -> Vec<&'static str> {
        let begins = self.at.saturating_sub(hours * HOUR_MS);
        let absent = |variable: &Variable| self.of(*variable).last().is_none_or(|last| last.0 < begins);
        variables.filter(absent).map(|variable| variable.spec().name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variable: Variable, minute: u64, value: f64) -> Reading<'static> {
        Reading { variable, at: TimeMs(minute * MINUTE_MS), value, unit: variable.spec().unit }
    }

    #[test]
    fn the_order_of_arrival_decides_nothing() {
        let readings: Vec<_> = (0..200u64)
            .flat_map(|n| {
                let minute = n * 37 % 240;
                let rate = 60.0 + (n * 53 % 41) as f64;
                [reading(Variable::HEART_RATE, minute, rate), reading(Variable::URINE, minute, rate)]
            })
            .collect();
        let of = |order: Vec<&Reading<'_>>| {
            let mut taken = Readings::new();
            order.into_iter().for_each(|reading| taken.take(reading).unwrap());
            format!("{:?}", taken.window(TimeMs(240 * MINUTE_MS), WINDOW_H))
        };
        assert_eq!(of(readings.iter().collect()), of(readings.iter().rev().collect()));
    }

    #[test]
    fn the_last_value_of_a_quarter_counts_and_every_amount() {
        let mut taken = Readings::new();
        for minute in 0..60 {
            taken.take(&reading(Variable::HEART_RATE, minute, 60.0 + minute as f64)).unwrap();
            taken.take(&reading(Variable::URINE, minute, 5.0)).unwrap();
        }
        let window = taken.window(TimeMs(HOUR_MS), WINDOW_H);
        assert_eq!(window.values(Variable::HEART_RATE).collect::<Vec<_>>(), [74.0, 89.0, 104.0, 119.0]);
        assert_eq!(window.values(Variable::URINE).sum::<f64>(), 300.0);
    }

    #[test]
    fn what_is_measured_at_the_moment_itself_or_before_the_window_does_not_count() {
        let mut taken = Readings::new();
        for hour in [0, 1, 49] {
            taken.take(&reading(Variable::HEART_RATE, hour * 60, 60.0 + hour as f64)).unwrap();
        }
        let rates =
            |hour: u64| taken.window(TimeMs(hour * HOUR_MS), WINDOW_H).values(Variable::HEART_RATE).collect::<Vec<_>>();
        assert_eq!((rates(49), rates(50)), (vec![61.0], vec![109.0]));
    }

    #[test]
    fn what_does_not_count_is_refused_by_its_reason() {
        let mut taken = Readings::new();
        let rate = reading(Variable::HEART_RATE, 4_000, 80.0);
        taken.take(&rate).unwrap();
        let unit = taken.take(&Reading { unit: "Hz", ..rate });
        assert!(matches!(unit, Err(NotTaken::Unit { variable: "heart-rate", .. })));
        for value in [0.0, 301.0, f64::NAN, f64::INFINITY] {
            let refused = taken.take(&Reading { value, ..rate });
            assert!(matches!(refused, Err(NotTaken::Implausible { variable: "heart-rate", .. })));
        }
        assert_eq!(taken.take(&reading(Variable::HEART_RATE, 1_119, 80.0)), Err(NotTaken::Old));
        for _ in 0..READINGS_MAX {
            taken.take(&reading(Variable::URINE, 4_000, 1.0)).unwrap();
        }
        let many = taken.take(&reading(Variable::URINE, 4_000, 1.0));
        assert_eq!(many, Err(NotTaken::TooMany { variable: "urine" }));
    }

    #[test]
    fn a_reading_every_second_for_three_days_stays_within_its_bound() {
        let mut taken = Readings::new();
        for second in (0..3 * 86_400).step_by(7) {
            let reading =
                Reading { at: TimeMs(second * 1_000), ..reading(Variable::HEART_RATE, 0, 60.0 + (second % 60) as f64) };
            taken.take(&reading).unwrap();
        }
        assert!(taken.series[0].len() <= 2_881);
    }
}
