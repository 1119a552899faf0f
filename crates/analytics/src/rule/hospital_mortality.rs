//! Hospital mortality: the risk of dying in this hospital stay, after 12, 24 or 48 hours of intensive care.
//!
//! Source: model `icu-mortality-1`, trained on the PhysioNet/CinC Challenge 2012; calibration, figures and limits in `models/README.md`. For
//! adults. Laboratory values and what people assessed come from the chart.

use super::{Author, Rule, Watch, model_inputs::Inputs};
use crate::{
    chart::Chart,
    finding::{Finding, Kind, Measure, Severity},
    input::Input,
    predict::{self, AGE_YEARS_MIN, Assessment, NotAssessed, Patient, Risk, RiskModel},
};
use record::TimeMs;
use std::sync::Arc;

/// How often it is looked whether a risk can be said, in milliseconds of the sensors' time.
const LOOK_EVERY_MS: u64 = 10 * 60_000;
/// A risk, or what is missing for one, is said again after so many milliseconds: it moves slowly, over hours.
const EVERY_MS: u64 = 3_600_000;
/// From here on, medium: the rate at which the patients died that the model was made from, 284 of 2,000.
const MEDIUM: f64 = 0.142;
/// From here on, high: more likely than not.
const HIGH: f64 = 0.5;

pub(super) const RULE: Rule = Rule {
    id: "hospital-mortality",
    version: 1,
    kind: Kind::Predictive,
    title: "Risk of dying in hospital",
    source: "model icu-mortality-1 (models/README.md), trained on PhysioNet/CinC Challenge 2012",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "hospital-mortality", "Risk of dying in hospital")],
    parameters: || {
        vec![
            ("look_every_ms".into(), LOOK_EVERY_MS as f64),
            ("every_ms".into(), EVERY_MS as f64),
            ("medium".into(), MEDIUM),
            ("high".into(), HIGH),
        ]
    },
    start: |rule, person| {
        let inputs = Inputs::of(person);
        let nobody = Patient { age_years: 0, male: None, height_cm: None };
        let work = predict::risk_model().map(|model| Work { risk: Risk::new(Arc::clone(&model), nobody), model });
        let mut author = Author::of(rule);
        if let Some(work) = &work {
            author.model = work.model.hash();
        }
        Box::new(Mortality { author, inputs, work, said: None })
    },
};

#[derive(Debug)]
struct Work {
    model: Arc<RiskModel>,
    /// What frames said. Who the person is counts when the model is asked.
    risk: Risk,
}

#[derive(Debug)]
struct Mortality {
    author: Author,
    inputs: Inputs,
    work: Option<Work>,
    /// When something was said last, and whether it was a risk.
    said: Option<(TimeMs, bool)>,
}

impl Watch for Mortality {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        let Some(work) = &mut self.work else { return };
        if let Some(at) = self.inputs.moment(input, LOOK_EVERY_MS)
            && let Some(finding) = assessed(&self.author, &self.inputs, work, at)
        {
            let due = self.said.is_none_or(|(last, was_risk)| {
                at.0.saturating_sub(last.0) >= EVERY_MS || (finding.complete && !was_risk)
            });
            if due {
                self.said = Some((at, finding.complete));
                out.push(finding);
            }
        }
        if let Some(reading) = Inputs::reading(input)
            && work.risk.observe(&reading).is_ok()
        {
            self.inputs.took(&reading, input.frame);
        }
    }

    fn know(&mut self, chart: &Chart) {
        self.inputs.chart = chart.clone();
    }
}

/// The risk at a moment, or what is missing for it; nothing where it is too early, or the model is not for the person.
fn assessed(author: &Author, inputs: &Inputs, work: &Work, at: TimeMs) -> Option<Finding> {
    let person = inputs.chart.person;
    // Who is of no known age is not known to be a child: what is missing is said by the name of the age.
    let age_years = person.age_years.unwrap_or(AGE_YEARS_MIN);
    let patient = Patient { age_years, male: person.male, height_cm: person.height_cm.map(f64::from) };
    let mut risk = work.risk.of(patient);
    let charted = inputs.charted(at, |reading| risk.observe(reading));
    let mut records: Vec<String> = inputs.chart.about_person.clone();
    records.extend(charted.into_iter().filter(|record| !inputs.chart.about_person.contains(record)));
    let hours = |hours: u32| inputs.cited(at, hours.into(), |_| true);
    match risk.assess(at) {
        Ok(assessment) if person.age_years.is_some() => {
            let frames = hours(assessment.hours);
            Some(Finding {
                severity: severity(&assessment),
                measures: measures(&assessment),
                missing: assessment.missing,
                records,
                ..author.finding(assessment.from, at, frames)
            })
        }
        Ok(assessment) => {
            let frames = hours(assessment.hours);
            let missing = vec!["age"];
            Some(Finding { complete: false, missing, records, ..author.finding(assessment.from, at, frames) })
        }
        Err(NotAssessed::Missing(mut missing)) => {
            let longest = work.model.hours().max().unwrap_or_default();
            missing.extend(person.age_years.is_none().then_some("age"));
            let from = TimeMs(at.0.saturating_sub(u64::from(longest) * 3_600_000));
            Some(Finding { complete: false, missing, records, ..author.finding(from, at, hours(longest)) })
        }
        Err(NotAssessed::TooYoung | NotAssessed::Early { .. } | NotAssessed::Past) => None,
    }
}

fn measures(assessment: &Assessment) -> Vec<Measure> {
    let measure = |name, value, unit| Measure { name, value, unit };
    vec![
        measure("probability", assessment.probability, "1"),
        measure("low", assessment.low, "1"),
        measure("high", assessment.high, "1"),
        measure("hours", assessment.hours.into(), "h"),
    ]
}

fn severity(assessment: &Assessment) -> Severity {
    match assessment.probability {
        risk if risk >= HIGH => Severity::High,
        risk if risk >= MEDIUM => Severity::Medium,
        _ => Severity::None,
    }
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
    use serde_json::{Value as Json, json};

    const START_MS: u64 = 1_795_255_200_000;
    const HOUR_MS: u64 = 3_600_000;

    fn charted(code: &str, hour: u64, value: f64, unit: &str) -> Json {
        json!({
            "resourceType": "Observation", "status": "final", "effectiveDateTime": TimeMs(START_MS + hour * HOUR_MS).to_instant(),
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit}
        })
    }

    /// A day of a monitor that speaks every five minutes, and a chart that the nurse fills every hour.
    fn day(born: Option<&str>, with_coma_scale: bool, lactate: f64) -> Vec<Finding> {
        let mut said = Vec::new();
        let mut add = |value: Json| said.push(Said { record: format!("Observation/{}/_history/1", said.len()), value });
        for hour in 0..24 {
            if with_coma_scale {
                add(charted("9269-2", hour, 14.0, "{score}"));
            }
            if hour % 6 == 0 {
                add(charted("2524-7", hour, lactate, "mmol/L"));
            }
        }
        let mut patient = json!({"resourceType": "Patient", "gender": "male"});
        if let Some(born) = born {
            patient["birthDate"] = born.into();
        }
        add(patient);
        let mut monitor = Monitor::new(&Person::default());
        let mut out = Vec::new();
        for n in 0..288u64 {
            let at = TimeMs(START_MS + n * 300_000);
            if n % 12 == 0 {
                monitor.know(&Chart::read(&said, at));
            }
            for (signal, value) in [("heart-rate", 96.0), ("nibp-sys", 104.0)] {
                let value = Measured::Number(value + (n % 5) as f64);
                out.extend(monitor.take(&Input {
                    frame: sha256(&[&n.to_be_bytes(), signal.as_bytes()]),
                    signal,
                    at,
                    value,
                }));
            }
        }
        out.retain(|finding| finding.rule == RULE.id);
        out
    }

    #[test]
    fn a_risk_is_said_every_hour_after_half_a_day_and_cites_frames_and_records() {
        let found = day(Some("1950-02-01"), true, 1.2);
        assert!((12..=14).contains(&found.len()), "{}", found.len());
        for finding in &found {
            let (low, risk, high) = (finding.measure("low"), finding.measure("probability"), finding.measure("high"));
            assert!(finding.complete && low < high && (0.0..=1.0).contains(&risk.unwrap()));
            assert_eq!(finding.model, predict::risk_model().unwrap().hash());
            assert!(finding.inputs.len() > 20 && finding.inputs.len() <= crate::finding::CITED_MAX);
            assert!(finding.records.len() > 10 && finding.missing.contains(&"creatinine"));
        }
        assert!(found.windows(2).all(|pair| pair[1].until.0 - pair[0].until.0 == EVERY_MS));
    }

    #[test]
    fn laboratory_values_of_the_chart_count() {
        let risk = |lactate| day(Some("1950-02-01"), true, lactate).last().unwrap().measure("probability").unwrap();
        let (well, ill) = (risk(1.2), risk(11.0));
        println!("lactate 1.2: {well:.3}, 11.0: {ill:.3}");
        assert!(ill > well);
    }

    #[test]
    fn what_is_missing_is_named_and_no_risk_is_guessed() {
        let without = day(Some("1950-02-01"), false, 1.2);
        assert!(!without.is_empty());
        for finding in &without {
            assert!(!finding.complete && finding.measures.is_empty());
            assert_eq!(finding.missing, ["glasgow-coma-scale"]);
        }
        let ageless = day(None, true, 1.2);
        assert!(!ageless.is_empty() && ageless.iter().all(|finding| finding.missing == ["age"]));
    }

    #[test]
    fn a_child_has_no_risk() {
        assert!(day(Some("2015-02-01"), true, 1.2).is_empty());
    }
}
