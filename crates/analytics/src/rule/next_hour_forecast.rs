//! Next-hour forecast: heart rate, respiration rate, systolic and mean pressure and temperature in the coming hour, with an interval that held
//! nine times in ten for patients whom the model had not seen.
//!
//! Source: model `next-hour-1`, trained on the PhysioNet/CinC Challenge 2012; figures and limits in `models/README.md`. For adults.

use super::{Author, Rule, Watch, model_inputs::Inputs};
use crate::{
    chart::Chart,
    finding::{Finding, Kind, Measure, Severity},
    input::Input,
    predict::{self, COVERAGE, Forecast, TrendModel, Trends, Variable, WINDOW_H},
};
use record::TimeMs;
use std::sync::Arc;

/// How often the model is asked, in milliseconds of the sensors' time: six times in the hour that it speaks of.
const EVERY_MS: u64 = 10 * 60_000;
/// Forecasts below or above are of medium severity. Source of the limits: NEWS2, values that score at most 1.
const USUAL: [(&str, f64, f64); 4] =
    [("heart-rate", 41.0, 110.0), ("resp-rate", 9.0, 20.0), ("systolic", 101.0, 219.0), ("temperature", 35.1, 39.0)];

pub(super) const RULE: Rule = Rule {
    id: "next-hour-forecast",
    version: 1,
    kind: Kind::Predictive,
    title: "Forecast of a vital sign in the coming hour",
    source: "model next-hour-1 (models/README.md), trained on PhysioNet/CinC Challenge 2012; limits: NEWS2, 2017",
    codes: &[(
        "https://vitaltrace.org/fhir/CodeSystem/rule",
        "next-hour-forecast",
        "Forecast of a vital sign in the coming hour",
    )],
    parameters: || {
        let usual = USUAL
            .into_iter()
            .flat_map(|(name, low, high)| [(format!("{name}.low"), low), (format!("{name}.high"), high)]);
        [("every_ms".to_owned(), EVERY_MS as f64), ("coverage".to_owned(), COVERAGE)].into_iter().chain(usual).collect()
    },
    start: |rule, person| {
        let inputs = Inputs::of(person);
        let work = predict::trend_model().map(|model| Work { trends: Trends::new(Arc::clone(&model), 0), model });
        let mut author = Author::of(rule);
        if let Some(work) = &work {
            author.model = work.model.hash();
        }
        Box::new(Forecasts { author, inputs, work })
    },
};

#[derive(Debug)]
struct Work {
    model: Arc<TrendModel>,
    /// What frames said. Of which age the person is counts when the model is asked.
    trends: Trends,
}

#[derive(Debug)]
struct Forecasts {
    author: Author,
    inputs: Inputs,
    work: Option<Work>,
}

impl Watch for Forecasts {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(work) = &mut self.work else { return };
        if let Some(at) = self.inputs.moment(input, EVERY_MS) {
            forecasts(&self.author, &self.inputs, work, at, out);
        }
        if let Some(reading) = Inputs::reading(input)
            && work.trends.observe(&reading).is_ok()
        {
            self.inputs.took(&reading, input.frame);
        }
    }

    fn know(&mut self, chart: &Chart) {
        self.inputs.chart = chart.clone();
    }
}

fn forecasts(author: &Author, inputs: &Inputs, work: &Work, at: TimeMs, out: &mut Vec<Finding>) {
    // Without an age there is no model to ask: it is one of its inputs.
    let Some(age_years) = inputs.chart.person.age_years else { return };
    let mut trends = work.trends.for_age(age_years);
    let charted = inputs.charted(at, |reading| trends.observe(reading));
    for variable in TrendModel::targets() {
        let Ok(forecast) = trends.forecast(variable, at) else { continue };
        let frames = inputs.cited(at, WINDOW_H, TrendModel::looks_at);
        let of_variables = |record: &&String| {
            let says = |one: &&crate::chart::Charted| one.record == **record && TrendModel::looks_at(one.variable);
            inputs.chart.charted.iter().any(|one| says(&one))
        };
        let mut records: Vec<String> = charted.iter().filter(of_variables).cloned().collect();
        records.extend(inputs.chart.about_person.iter().filter(|record| !charted.contains(*record)).cloned());
        out.push(Finding {
            signal: Some(variable.spec().name.to_owned()),
            severity: severity(variable, &forecast),
            measures: measures(&forecast),
            missing: forecast.missing.clone(),
            records,
            ..author.finding(forecast.at, forecast.until, frames)
        });
    }
}

fn measures(forecast: &Forecast) -> Vec<Measure> {
    let unit = forecast.variable.spec().unit;
    let measure = |name, value| Measure { name, value, unit };
    vec![
        measure("forecast", forecast.value),
        measure("low", forecast.low),
        measure("high", forecast.high),
        Measure { name: "coverage", value: COVERAGE * 100.0, unit: "%" },
        measure("now", forecast.now),
    ]
}

fn severity(variable: Variable, forecast: &Forecast) -> Severity {
    let usual = USUAL.iter().find(|(name, ..)| *name == variable.spec().name);
    let leaves = usual.is_some_and(|(_, low, high)| forecast.value < *low || forecast.value > *high);
    if leaves { Severity::Medium } else { Severity::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chart::Said,
        input::{Measured, Person},
        monitor::Monitor,
    };
    use record::sha256;
    use serde_json::json;

    const START_MS: u64 = 1_795_255_200_000;

    /// Half an hour of a heart rate, one value in ten seconds, of a person of this age.
    fn found(age_years: Option<u16>) -> Vec<Finding> {
        let mut monitor = Monitor::new(&Person { age_years, ..Person::default() });
        let mut out = Vec::new();
        for n in 0..180u64 {
            let frame = sha256(&[&n.to_be_bytes()]);
            let value = Measured::Number(95.0 + (n % 7) as f64);
            out.extend(monitor.take(&Input { frame, signal: "heart-rate", at: TimeMs(START_MS + n * 10_000), value }));
        }
        out.retain(|finding| finding.rule == RULE.id);
        out
    }

    #[test]
    fn a_vital_sign_is_forecast_every_ten_minutes_with_its_interval_and_frames() {
        let found = found(Some(60));
        assert_eq!(found.len(), 2);
        for finding in &found {
            let (low, value, high) = (finding.measure("low"), finding.measure("forecast"), finding.measure("high"));
            assert!(low < value && value < high && (80.0..115.0).contains(&value.unwrap()), "{finding:?}");
            assert!(!finding.inputs.is_empty() && finding.until.0 - finding.from.0 == 3_600_000);
            assert_eq!(finding.model, predict::trend_model().unwrap().hash());
            assert!(finding.missing.contains(&"systolic"));
        }
        assert_eq!(found[1].from.0 - found[0].from.0, EVERY_MS);
    }

    #[test]
    fn without_an_age_or_for_a_child_nothing_is_forecast() {
        assert_eq!((found(None).len(), found(Some(15)).len()), (0, 0));
    }

    #[test]
    fn charted_values_count_and_are_cited() {
        let record = "Observation/charted/_history/1";
        let blood = json!({
            "resourceType": "Observation", "status": "final", "effectiveDateTime": TimeMs(START_MS - 60_000).to_instant(),
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {"value": 112, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
        });
        let patient = json!({"resourceType": "Patient", "birthDate": "1960-01-01"});
        let said = |record: &str, value| Said { record: record.to_owned(), value };
        let chart = [said(record, blood), said("Patient/1/_history/1", patient)];
        let mut monitor = Monitor::new(&Person::default());
        monitor.know(&Chart::read(&chart, TimeMs(START_MS)));
        let mut found = Vec::new();
        for n in 0..61u64 {
            let (frame, at) = (sha256(&[&n.to_be_bytes()]), TimeMs(START_MS + n * 10_000));
            found.extend(monitor.take(&Input { frame, signal: "heart-rate", at, value: Measured::Number(90.0) }));
        }
        let systolic = found.iter().find(|f| f.rule == RULE.id && f.signal.as_deref() == Some("systolic")).unwrap();
        assert_eq!(systolic.records, [record, "Patient/1/_history/1"]);
        assert_eq!(systolic.measure("now"), Some(112.0));
    }
}
