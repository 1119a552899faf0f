//! Trends over a whole recording: heart rate, respiration and saturation, with the stretch that is drawn above marked in them.

use super::{
    Stretch,
    bands::Band,
    canvas::{Anchor, At, Canvas},
    clock,
    line::line,
};
use analytics::Finding;

/// Height of the panel of one trend, in millimetres.
const PANEL_MM: f64 = 22.0;
/// Height of the ribbon of alarms, in millimetres.
const RIBBON_MM: f64 = 3.0;
/// Distance of panels, in millimetres.
const APART_MM: f64 = 7.0;
/// A trend is broken where there was no value for so many times its usual distance.
const BROKEN: f64 = 3.0;
/// Values up to which each is shown as a point.
const POINTS_MAX: usize = 120;

/// A number as it changes.
#[derive(Debug, PartialEq)]
pub(super) struct Trend {
    title: &'static str,
    unit: &'static str,
    class: &'static str,
    /// When, in seconds, and what.
    values: Vec<(f64, f64)>,
}

/// Where a trend comes from: a rule, the signal where one rule tells of several, and the name of its measure.
type Origin = (&'static str, Option<&'static str>, &'static str);

/// What is drawn, the first origin that there is.
const TRENDS: [(&str, &str, &str, &[Origin]); 3] = [
    (
        "Heart rate",
        "/min",
        "ecg",
        &[
            ("ecg-heart-rate", None, "heart-rate"),
            ("window-summary", Some("heart-rate"), "mean"),
            ("pulse-rate", None, "pulse-rate"),
            ("window-summary", Some("pulse"), "mean"),
        ],
    ),
    (
        "Respiration",
        "/min",
        "resp",
        &[("respiration-rate", None, "respiratory-rate"), ("window-summary", Some("resp-rate"), "mean")],
    ),
    ("Oxygen saturation", "%", "pleth", &[("window-summary", Some("spo2"), "mean")]),
];

/// The trends that a recording's findings have.
pub(super) fn trends(findings: &[Finding]) -> Vec<Trend> {
    let values = |&(rule, signal, measure): &Origin| -> Vec<(f64, f64)> {
        let meant = |finding: &&Finding| {
            finding.rule == rule && signal.is_none_or(|signal| finding.signal.as_deref() == Some(signal))
        };
        let middle_s = |finding: &Finding| (finding.from.0 as f64 + finding.until.0 as f64) / 2_000.0;
        findings.iter().filter(meant).filter_map(|f| Some((middle_s(f), f.measure(measure)?))).collect()
    };
    TRENDS
        .iter()
        .filter_map(|&(title, unit, class, origins)| {
            let values = origins.iter().map(values).find(|values| !values.is_empty())?;
            Some(Trend { title, unit, class, values })
        })
        .collect()
}

/// How high trends are, with their axis.
pub(super) fn height(trends: &[Trend]) -> f64 {
    if trends.is_empty() { 0.0 } else { trends.len() as f64 * (PANEL_MM + APART_MM) + RIBBON_MM + 8.0 }
}

impl Trend {
    fn range(&self) -> (f64, f64) {
        self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, v)| (low.min(*v), high.max(*v)))
    }

    /// In words: mean, least and greatest.
    pub(super) fn in_words(&self) -> String {
        let (low, high) = self.range();
        let mean = self.values.iter().map(|(_, value)| value).sum::<f64>() / self.values.len().max(1) as f64;
        let unit = self.unit;
        let gap = if unit.starts_with('/') { "" } else { " " };
        format!("{} {mean:.0}{gap}{unit} on average, {low:.0} to {high:.0}", self.title.to_lowercase())
    }
}

/// Draws all trends below `y`, each `width` wide from `x` on.
pub(super) fn draw(
    canvas: &mut Canvas,
    trends: &[Trend],
    bands: &[Band],
    stretch: &Stretch,
    end_s: f64,
    at: At,
    width: f64,
) {
    let x_of = |at_s: f64| at.0 + width * (at_s / end_s.max(1e-9)).clamp(0.0, 1.0);
    let mut y = at.1;
    for trend in trends {
        panel(canvas, trend, At(at.0, y), width, &x_of);
        here(canvas, stretch, &x_of, y, PANEL_MM);
        y += PANEL_MM + APART_MM;
    }
    canvas.rect("plain", At(at.0, y), width, RIBBON_MM);
    // The most serious first in the list, last on the paper: it lies above the others.
    for band in bands.iter().rev() {
        let from = x_of(band.from_s);
        canvas.rect(band.class(), At(from, y), (x_of(band.until_s) - from).max(0.3), RIBBON_MM);
    }
    here(canvas, stretch, &x_of, y, RIBBON_MM);
    canvas.text("muted small", At(at.0 - 2.0, y + RIBBON_MM - 0.7), Anchor::End, "findings");
    y += RIBBON_MM;
    let step_s = step_s(end_s);
    for n in 0..=(end_s / step_s).floor() as u64 {
        let (at_s, x) = (n as f64 * step_s, x_of(n as f64 * step_s));
        canvas.line("axis", At(x, y), At(x, y + 1.0));
        canvas.text("muted small", At(x, y + 4.0), Anchor::Middle, &clock(at_s as u64));
    }
}

/// Marks the stretch that is drawn above.
fn here(canvas: &mut Canvas, stretch: &Stretch, x_of: &impl Fn(f64) -> f64, y: f64, height: f64) {
    let from = x_of(stretch.from_s as f64);
    let until = x_of((stretch.from_s + stretch.seconds) as f64);
    canvas.rect("here", At(from, y), (until - from).max(0.5), height);
}

fn panel(canvas: &mut Canvas, trend: &Trend, at: At, width: f64, x_of: &impl Fn(f64) -> f64) {
    canvas.rect("plain", at, width, PANEL_MM);
    let (low, high, step) = scale(trend.range());
    let y_of = |value: f64| at.1 + PANEL_MM * (1.0 - (value - low) / (high - low));
    let mut value = low;
    while value <= high + step / 2.0 {
        let y = y_of(value);
        canvas.line("rule", At(at.0, y), At(at.0 + width, y));
        canvas.text("muted small", At(at.0 - 2.0, y + 0.9), Anchor::End, &format!("{value}"));
        value += step;
    }
    let usual_s = usual_distance_s(&trend.values);
    let mut points = Vec::with_capacity(trend.values.len());
    let mut before: Option<f64> = None;
    for &(at_s, value) in &trend.values {
        if before.is_some_and(|before| at_s - before > BROKEN * usual_s) {
            points.push((f64::NAN, f64::NAN));
        }
        points.push((x_of(at_s), y_of(value)));
        before = Some(at_s);
    }
    canvas.path(&format!("trace {}", trend.class), &line(points.iter().copied()), None);
    if trend.values.len() <= POINTS_MAX {
        let seen = points.iter().filter(|(x, _)| x.is_finite());
        seen.for_each(|&(x, y)| canvas.dot(&format!("dot-{}", trend.class), At(x, y)));
    }
    let title = format!("{} {}", trend.title, trend.unit);
    canvas.text("name", At(at.0 + 1.5, at.1 - 1.0), Anchor::Start, &title);
}

/// The median distance of values, in seconds.
fn usual_distance_s(values: &[(f64, f64)]) -> f64 {
    let mut distances: Vec<f64> = values.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0)
}

/// A range of round numbers that holds `range`, with two to five steps, and the step.
fn scale((low, high): (f64, f64)) -> (f64, f64, f64) {
    let span = (high - low).max(4.0);
    let magnitude = 10f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * magnitude).into_iter().find(|step| span / step <= 4.0);
    let step = step.unwrap_or(10.0 * magnitude).max(1.0);
    let bottom = (low / step).floor() * step;
    let top = ((high / step).ceil() * step).max(bottom + 2.0 * step);
    (bottom, top, step)
}

/// A round distance of times, so that there are at most ten of them.
fn step_s(end_s: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0];
    steps.into_iter().find(|step| end_s / step <= 10.0).unwrap_or(86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_hold_their_values() {
        assert_eq!(scale((58.0, 112.0)), (40.0, 120.0, 20.0));
        assert_eq!(scale((72.0, 72.0)), (72.0, 74.0, 1.0));
        assert_eq!(scale((95.5, 98.2)), (95.0, 99.0, 1.0));
        for (low, high) in [(0.0, 300.0), (-5.0, 5.0), (37.1, 37.2), (1.0, 99_999.0)] {
            let (bottom, top, step) = scale((low, high));
            let steps = ((top - bottom) / step).round();
            assert!(
                bottom <= low && high <= top && (2.0..=6.0).contains(&steps),
                "{low} {high}: {bottom} {top} {step}"
            );
        }
    }

    #[test]
    fn times_are_round_and_few() {
        for (end_s, step) in [(8.0, 1.0), (480.0, 60.0), (1_805.0, 300.0), (86_400.0, 21_600.0)] {
            assert_eq!(step_s(end_s), step, "{end_s}");
        }
    }
}
