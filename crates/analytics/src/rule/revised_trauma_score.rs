//! Revised Trauma Score: coma scale, systolic pressure and respiration of an injured person.
//!
//! Source: Champion et al., J Trauma 1989;29:623: coded values, the weights of the score, and their plain sum for triage; the coded values also in table 7 of the
//! Utstein template, Ringdal et al., Scand J Trauma Resusc Emerg Med 2008;16:7. Bands of the sum:
//! 12 delayed, 11 urgent, 10 and less immediate (triage sort of Major Incident Medical Management and Support). A missing input makes
//! the score incomplete, never 0.

use super::{
    Rule,
    glasgow_coma_scale::known_total,
    score::{self, Points, Score, Scored, Vital, whole},
};
use crate::finding::{Kind, Measure, Severity};

/// Weights of coma scale, pressure and respiration. Source: Champion et al. 1989.
const WEIGHTS: [f64; 3] = [0.9368, 0.7326, 0.2908];
/// The sum of an uninjured person, whom triage delays. Source: triage sort.
const DELAYED: u8 = 12;
/// The sum that is urgent; below it, immediate. Source: triage sort.
const URGENT: u8 = 11;

/// Names of the parts, in the order of [`Points::points`].
const PARTS: [&str; 3] = ["glasgow", "systolic-pressure", "respiration"];

/// What the score needs. Pressure and rate are rounded to whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TraumaInputs {
    /// Glasgow coma score, 3 to 15.
    pub glasgow: Option<u8>,
    /// Systolic pressure, mmHg.
    pub systolic_mmhg: Option<f64>,
    /// Breaths, /min.
    pub breaths_per_min: Option<f64>,
}

/// Coded values of coma scale, pressure and respiration; their sum is the triage score.
pub fn trauma_points(inputs: &TraumaInputs) -> Points<3> {
    Points::of([
        inputs.glasgow.and_then(glasgow),
        whole(inputs.systolic_mmhg).map(systolic),
        whole(inputs.breaths_per_min).map(respiration),
    ])
}

/// The Revised Trauma Score, 0 to 7.8408; nothing while an input is missing.
pub fn revised_trauma_score(inputs: &TraumaInputs) -> Option<f64> {
    let [glasgow, systolic, respiration] = trauma_points(inputs).points;
    let coded = [glasgow?, systolic?, respiration?];
    Some(coded.iter().zip(WEIGHTS).map(|(points, weight)| f64::from(*points) * weight).sum())
}

fn glasgow(score: u8) -> Option<u8> {
    match score {
        13..=15 => Some(4),
        9..=12 => Some(3),
        6..=8 => Some(2),
        4..=5 => Some(1),
        3 => Some(0),
        _ => None,
    }
}

fn systolic(mmhg: u32) -> u8 {
    match mmhg {
        90.. => 4,
        76..=89 => 3,
        50..=75 => 2,
        1..=49 => 1,
        0 => 0,
    }
}

fn respiration(per_min: u32) -> u8 {
    match per_min {
        10..=29 => 4,
        30.. => 3,
        6..=9 => 2,
        1..=5 => 1,
        0 => 0,
    }
}

const SCORE: Score = Score {
    uses: &[Vital::Breaths, Vital::Systolic, Vital::Eye, Vital::Verbal, Vital::Motor, Vital::Glasgow],
    consciousness: false,
    age_years_min: 0,
    in_pregnancy: true,
    compute: |known| {
        let inputs = TraumaInputs {
            glasgow: known_total(known),
            systolic_mmhg: known.number(Vital::Systolic),
            breaths_per_min: known.number(Vital::Breaths),
        };
        let points = trauma_points(&inputs);
        let severity = match points.total {
            None | Some(DELAYED..) => Severity::None,
            Some(URGENT) => Severity::Medium,
            Some(_) => Severity::High,
        };
        let mut scored = points.scored(&PARTS, severity);
        let triage = scored.chief.map(|sum| Measure { name: "triage", ..sum });
        scored.parts.extend(triage);
        let chief = revised_trauma_score(&inputs);
        Scored { chief: chief.map(|value| Measure { name: "total", value, unit: score::POINTS }), ..scored }
    },
};

pub(super) const RULE: Rule = Rule {
    id: "revised-trauma-score",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Revised Trauma Score",
    source: "Champion et al., J Trauma 1989;29:623",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "revised-trauma-score", "Revised Trauma Score")],
    parameters: || {
        let mut out = score::parameters();
        out.extend(PARTS.iter().zip(WEIGHTS).map(|(part, weight)| (format!("{part}.weight"), weight)));
        out.extend([("delayed".to_owned(), DELAYED.into()), ("urgent".to_owned(), URGENT.into())]);
        out
    },
    start: |rule, person| SCORE.watch(rule, person),
};

#[cfg(test)]
mod tests {
    use super::{super::score::check, *};
    use crate::input::Person;

    #[test]
    fn every_value_of_the_trauma_table_is_coded_by_its_row() {
        let of = |part: usize, set: fn(&mut TraumaInputs, f64)| {
            move |value: f64| {
                let mut inputs = TraumaInputs::default();
                set(&mut inputs, value);
                trauma_points(&inputs).points[part]
            }
        };
        let rows = [(3.0, 3.0, 0), (4.0, 5.0, 1), (6.0, 8.0, 2), (9.0, 12.0, 3), (13.0, 15.0, 4)];
        check::table("RTS coma scale", &rows, 1.0, of(0, |i, v| i.glasgow = Some(v as u8)));
        let rows = [(0.0, 0.0, 0), (1.0, 49.0, 1), (50.0, 75.0, 2), (76.0, 89.0, 3), (90.0, 300.0, 4)];
        check::table("RTS systolic", &rows, 1.0, of(1, |i, v| i.systolic_mmhg = Some(v)));
        let rows = [(0.0, 0.0, 0), (1.0, 5.0, 1), (6.0, 9.0, 2), (10.0, 29.0, 4), (30.0, 80.0, 3)];
        check::table("RTS breaths", &rows, 1.0, of(2, |i, v| i.breaths_per_min = Some(v)));
    }

    #[test]
    fn the_score_is_the_weighted_sum_of_its_codes() {
        let of = |glasgow, systolic, breaths| {
            revised_trauma_score(&TraumaInputs {
                glasgow: Some(glasgow),
                systolic_mmhg: Some(systolic),
                breaths_per_min: Some(breaths),
            })
        };
        for (score, expected) in [
            (of(15, 120.0, 16.0), 7.8408),
            (of(3, 0.0, 0.0), 0.0),
            (of(10, 80.0, 32.0), 3.0 * (0.9368 + 0.7326 + 0.2908)),
            (of(7, 60.0, 8.0), 2.0 * (0.9368 + 0.7326 + 0.2908)),
        ] {
            assert!((score.unwrap() - expected).abs() < 1e-9, "{score:?} {expected}");
        }
        assert_eq!(of(2, 120.0, 16.0), None);
    }

    #[test]
    fn a_trauma_score_without_a_coma_scale_has_no_total() {
        let found = check::told(&RULE, &Person::default(), &[(0, "nibp-sys", "120"), (1, "resp-rate", "16")]).unwrap();
        assert_eq!((found.complete, found.measure("total"), found.measure("triage")), (false, None, None));
        assert_eq!(found.missing, ["glasgow"]);
    }

    #[test]
    fn the_coma_scale_that_was_assessed_last_counts() {
        let parts = [(5, "gcs-eye", "3"), (5, "gcs-verbal", "4"), (5, "gcs-motor", "5")];
        let others = [(6, "nibp-sys", "120"), (6, "resp-rate", "16")];
        let found = check::told(&RULE, &Person::default(), &[&parts[..], &others].concat()).unwrap();
        assert_eq!((found.measure("triage"), found.severity), (Some(11.0), Severity::Medium));
        let written = [(40, "gcs", "7"), (41, "nibp-sys", "120"), (41, "resp-rate", "16")];
        let found = check::told(&RULE, &Person::default(), &[&parts[..], &written].concat()).unwrap();
        assert_eq!((found.measure("triage"), found.severity), (Some(10.0), Severity::High));
    }
}
