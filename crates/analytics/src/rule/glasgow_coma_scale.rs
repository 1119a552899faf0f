//! Glasgow coma scale: eye, verbal and motor responses as people assess them, and their sum.
//!
//! Source: Teasdale and Jennett, Lancet 1974;2:81; Teasdale et al., Lancet Neurol 2014;13:844 (a response that cannot be tested leaves
//! no sum). Bands: 13 to 15 mild, 9 to 12 moderate, 3 to 8 severe (Rimel et al., Neurosurgery 1982;11:344). Signals: `gcs-eye`,
//! `gcs-verbal`, `gcs-motor`; `gcs` for a sum that was written down alone.

use super::{
    Rule,
    score::{self, Known, POINTS, Points, Score, Scored, Vital},
};
use crate::finding::{Kind, Measure, Severity};

/// Best eye, verbal and motor responses; the worst is 1. Source: Teasdale and Jennett 1974, with the six motor responses of 1976.
const BEST: [u8; 3] = [4, 5, 6];
/// Up to here, severe. Source: Rimel et al. 1982.
const SEVERE: u8 = 8;
/// Up to here, moderate. Source: Rimel et al. 1982.
const MODERATE: u8 = 12;

/// Names of the parts, in the order of [`Points::points`].
const PARTS: [&str; 3] = ["eye", "verbal", "motor"];

/// The scale of three responses. What is not a whole number in a response's range was not testable: it is missing.
pub fn glasgow_coma_scale(eye: Option<f64>, verbal: Option<f64>, motor: Option<f64>) -> Points<3> {
    let [best_eye, best_verbal, best_motor] = BEST;
    Points::of([within(eye, 1, best_eye), within(verbal, 1, best_verbal), within(motor, 1, best_motor)])
}

fn within(value: Option<f64>, worst: u8, best: u8) -> Option<u8> {
    let value = value.filter(|value| value.fract() == 0.0 && (f64::from(worst)..=f64::from(best)).contains(value))?;
    Some(value as u8)
}

/// The sum that was assessed last: of three responses, or as it was written down.
pub(super) fn known_total(known: &mut Known<'_>) -> Option<u8> {
    const RESPONSES: [Vital; 3] = [Vital::Eye, Vital::Verbal, Vital::Motor];
    let [best_eye, best_verbal, best_motor] = BEST;
    let assessed = RESPONSES.map(|vital| known.time_of(vital)).into_iter().collect::<Option<Vec<_>>>();
    let assessed = assessed.and_then(|times| times.into_iter().min());
    let written = known.time_of(Vital::Glasgow);
    if assessed.is_some() && assessed >= written {
        let [eye, verbal, motor] = RESPONSES.map(|vital| known.number(vital));
        return glasgow_coma_scale(eye, verbal, motor).total;
    }
    within(known.number(Vital::Glasgow), 3, best_eye + best_verbal + best_motor)
}

const SCORE: Score = Score {
    uses: &[Vital::Eye, Vital::Verbal, Vital::Motor],
    consciousness: false,
    age_years_min: 0,
    in_pregnancy: true,
    compute: |known| {
        let [eye, verbal, motor] = [Vital::Eye, Vital::Verbal, Vital::Motor].map(|vital| known.number(vital));
        let points = glasgow_coma_scale(eye, verbal, motor);
        let severity = match points.total {
            None | Some(15..) => Severity::None,
            Some(..=SEVERE) => Severity::High,
            Some(..=MODERATE) => Severity::Medium,
            Some(_) => Severity::Low,
        };
        let scored = points.scored(&PARTS, severity);
        let chief = points.total.map(|total| Measure { name: "glasgow-coma-score", value: total.into(), unit: POINTS });
        Scored { chief, ..scored }
    },
};

pub(super) const RULE: Rule = Rule {
    id: "glasgow-coma-scale",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Glasgow coma scale",
    source: "Teasdale and Jennett, Lancet 1974;2:81; Teasdale et al. 2014",
    codes: &[("http://loinc.org", "9269-2", "Glasgow coma score total")],
    parameters: || {
        let mut out = score::parameters();
        out.extend(PARTS.iter().zip(BEST).map(|(part, best)| (format!("{part}.best"), best.into())));
        out.extend([("severe".to_owned(), SEVERE.into()), ("moderate".to_owned(), MODERATE.into())]);
        out
    },
    start: |rule, person| SCORE.watch(rule, person),
};

#[cfg(test)]
mod tests {
    use super::{super::score::check, *};
    use crate::input::Person;

    #[test]
    fn the_sum_of_every_three_responses_is_the_score() {
        for (eye, verbal, motor) in (1..=4).flat_map(|e| (1..=5).flat_map(move |v| (1..=6).map(move |m| (e, v, m)))) {
            let points = glasgow_coma_scale(Some(eye.into()), Some(verbal.into()), Some(motor.into()));
            assert_eq!(points.total, Some((eye + verbal + motor) as u8));
        }
    }

    #[test]
    fn a_response_that_could_not_be_tested_leaves_no_sum() {
        for bad in [None, Some(0.0), Some(5.0), Some(2.5), Some(f64::NAN)] {
            let points = glasgow_coma_scale(bad, Some(5.0), Some(6.0));
            assert_eq!((points.points[0], points.total), (None, None), "{bad:?}");
        }
        assert_eq!(glasgow_coma_scale(Some(4.0), Some(6.0), Some(6.0)).total, None);
        assert_eq!(glasgow_coma_scale(Some(4.0), Some(5.0), Some(7.0)).total, None);
        let intubated = [(0, "gcs-eye", "4"), (0, "gcs-verbal", "NT"), (0, "gcs-motor", "6")];
        let found = check::told(&RULE, &Person::default(), &intubated).unwrap();
        assert_eq!((found.complete, found.missing), (false, vec!["verbal"]));
    }

    #[test]
    fn bands_are_those_of_head_injury() {
        for (motor, verbal, eye, expected) in [
            (6, 5, 4, Severity::None),
            (6, 4, 4, Severity::Low),
            (6, 4, 3, Severity::Low),
            (6, 3, 3, Severity::Medium),
            (5, 2, 2, Severity::Medium),
            (4, 2, 2, Severity::High),
            (1, 1, 1, Severity::High),
        ] {
            let words = [eye, verbal, motor].map(|points: u8| points.to_string());
            let inputs = [(0, "gcs-eye", words[0].as_str()), (0, "gcs-verbal", &words[1]), (0, "gcs-motor", &words[2])];
            let found = check::told(&RULE, &Person::default(), &inputs).unwrap();
            assert_eq!(found.severity, expected, "{eye} {verbal} {motor}");
            assert_eq!(found.measures[0].value, f64::from(eye + verbal + motor));
        }
    }
}
