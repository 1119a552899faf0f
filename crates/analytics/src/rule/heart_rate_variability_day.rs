//! Heart rate variability over a day: all intervals, the means of five minutes, and the histogram's triangle.
//!
//! Source: Task Force 1996, long-term recordings: SDNN, SDANN, triangular index and TINN are measures of 24 hours. What there is so far is told
//! every hour, as incomplete until eighteen hours of a day are analysed.

use super::{
    Author, Rule, Watch,
    heart_rate_variability::{Window, Windows},
};
use crate::{
    ecg::Stretch,
    finding::{Cited, Finding, Kind, Measure},
    hrv::{Histogram, Spread, TimeDomain},
    input::Person,
};
use record::TimeMs;

/// Length of a day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// What there is is told so often, in milliseconds.
const TOLD_EVERY_MS: u64 = 3_600_000;
/// The least hours that make a day. Source: Task Force 1996.
const HOURS_MIN: f64 = 18.0;

pub(super) const RULE: Rule = Rule {
    id: "heart-rate-variability-day",
    version: 1,
    kind: Kind::Descriptive,
    title: "Heart rate variability over a day",
    source: "Task Force of the ESC and NASPE 1996; Vest et al. 2018",
    codes: &[(
        "https://vitaltrace.org/fhir/CodeSystem/rule",
        "heart-rate-variability-day",
        "Heart rate variability over a day",
    )],
    parameters: || {
        let own = [
            ("day_ms".into(), DAY_MS as f64),
            ("told_every_ms".into(), TOLD_EVERY_MS as f64),
            ("hours_min".into(), HOURS_MIN),
        ];
        let windows = (super::heart_rate_variability::RULE.parameters)();
        own.into_iter().chain(windows.into_iter().map(|(name, value)| (format!("window.{name}"), value))).collect()
    },
    start: |rule, _: &Person| Box::new(Days { author: Author::of(rule), windows: Windows::default(), day: None }),
};

#[derive(Debug)]
struct Days {
    author: Author,
    windows: Windows,
    day: Option<Day>,
}

/// What was heard of a day so far.
#[derive(Debug)]
struct Day {
    from: TimeMs,
    told: TimeMs,
    all: TimeDomain,
    means: Spread,
    histogram: Histogram,
    cited: Cited,
}

impl Day {
    fn new(from: TimeMs) -> Self {
        let (all, means, histogram) = (TimeDomain::default(), Spread::default(), Histogram::default());
        Self { from, told: from, all, means, histogram, cited: Cited::default() }
    }

    fn add(&mut self, window: &mut Window) {
        window.cited.take().into_iter().for_each(|frame| self.cited.add(frame));
        if !window.counts() {
            return;
        }
        for nn in &window.intervals {
            self.all.add(nn);
            self.histogram.add(nn.interval_s);
        }
        self.means.add(window.time_domain().0.intervals.mean());
    }

    fn tell(&self, author: &Author, until: TimeMs, lead: &str) -> Finding {
        let signal = Some(lead.to_owned());
        let mut finding = Finding { signal, ..author.finding(self.from, until, self.cited.list()) };
        let hours = self.all.covered_s / 3_600.0;
        let ms = |name| move |seconds: f64| Measure { name, value: seconds * 1_000.0, unit: "ms" };
        finding.measures.extend(self.all.intervals.deviation().map(ms("sdnn")));
        finding.measures.extend(self.means.deviation().map(ms("sdann")));
        finding.measures.extend(self.all.rmssd_s().map(ms("rmssd")));
        let share = |share: f64| Measure { name: "pnn50", value: share * 100.0, unit: "%" };
        finding.measures.extend(self.all.pnn50().map(share));
        let index = |value| Measure { name: "triangular-index", value, unit: "1" };
        finding.measures.extend(self.histogram.triangular_index().map(index));
        finding.measures.extend(self.histogram.tinn_s().map(ms("tinn")));
        finding.measures.push(Measure { name: "analysed", value: hours, unit: "h" });
        if hours < HOURS_MIN {
            finding.complete = false;
            finding.missing.push("hours");
        }
        finding
    }
}

impl Watch for Days {
    fn ecg(&mut self, stretch: &Stretch<'_>, out: &mut Vec<Finding>) {
        let Some(mut window) = self.windows.take(stretch) else { return };
        // A day that ended while nothing came is told with what it had.
        let stale = |day: &Day| window.until.0.saturating_sub(day.from.0) > DAY_MS;
        if let Some(day) = self.day.take_if(|day| stale(day)) {
            out.push(day.tell(&self.author, day.from.plus_ms(DAY_MS), stretch.lead));
        }
        let day = self.day.get_or_insert_with(|| Day::new(window.from));
        day.add(&mut window);
        let full = window.until.0.saturating_sub(day.from.0) >= DAY_MS;
        if full || window.until.0.saturating_sub(day.told.0) >= TOLD_EVERY_MS {
            day.told = window.until;
            out.push(day.tell(&self.author, window.until, stretch.lead));
        }
        if full {
            self.day = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hrv::Nn;

    /// A window of five minutes whose intervals alternate around a mean.
    fn window(number: u64, mean_s: f64, swing_s: f64) -> Window {
        let count = (300.0 / mean_s) as u64;
        let nn = |n: u64| Nn {
            at: TimeMs(number * 300_000 + (n as f64 * mean_s * 1_000.0) as u64),
            interval_s: if n.is_multiple_of(2) { mean_s + swing_s } else { mean_s - swing_s },
            difference_s: (n > 0).then_some(if n.is_multiple_of(2) { 2.0 * swing_s } else { -2.0 * swing_s }),
        };
        let cited = Cited::default();
        let (from, until) = (TimeMs(number * 300_000), TimeMs((number + 1) * 300_000));
        Window { from, until, intervals: (1..=count).map(nn).collect(), cited }
    }

    fn told(windows: u64) -> Finding {
        let mut day = Day::new(TimeMs(0));
        for number in 0..windows {
            // 60 /min by day, 75 /min by night: the means are 1.0 and 0.8 s.
            let mean_s = if number % 2 == 0 { 1.0 } else { 0.8 };
            day.add(&mut window(number, mean_s, 0.02));
        }
        day.tell(&Author::of(&RULE), TimeMs(windows * 300_000), "ecg-ii")
    }

    #[test]
    fn a_day_of_two_rates_has_the_measures_of_its_definition() {
        let found = told(288);
        let measure = |name: &str| found.measure(name).unwrap();
        let means = (0..288u64).map(|number| {
            let intervals = window(number, if number % 2 == 0 { 1.0 } else { 0.8 }, 0.02).intervals;
            intervals.iter().map(|nn| nn.interval_s).sum::<f64>() / intervals.len() as f64
        });
        let means: Vec<f64> = means.collect();
        let middle = means.iter().sum::<f64>() / 288.0;
        let sdann = (means.iter().map(|mean| (mean - middle).powi(2)).sum::<f64>() / 287.0).sqrt() * 1_000.0;
        assert!((sdann - 100.0).abs() < 1.0 && (measure("sdann") - sdann).abs() < 1e-6, "{}", measure("sdann"));
        // 300 and 375 intervals a window.
        let values: Vec<f64> = (0..288u64)
            .flat_map(|number| window(number, if number % 2 == 0 { 1.0 } else { 0.8 }, 0.02).intervals)
            .map(|nn| nn.interval_s)
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let sdnn =
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt() * 1_000.0;
        assert!((measure("sdnn") - sdnn).abs() < 1e-6);
        assert!((measure("rmssd") - 40.0).abs() < 1e-6 && measure("pnn50") == 0.0);
        // Four lengths; the fullest bins hold half of the intervals of the faster rate.
        let index = values.len() as f64 / (144.0 * 188.0);
        assert!((measure("triangular-index") - index).abs() < 0.01, "{}", measure("triangular-index"));
        assert!(found.complete && (measure("analysed") - 24.0).abs() < 0.1);
    }

    #[test]
    fn some_hours_are_no_day() {
        let found = told(100);
        assert!(!found.complete && found.missing == ["hours"] && found.measure("sdnn").is_some());
    }
}
