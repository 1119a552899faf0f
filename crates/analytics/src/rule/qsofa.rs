//! qSOFA: quick sequential organ failure assessment, for suspected infection.
//!
//! Source: Singer et al. (Sepsis-3), JAMA 2016;315:801, box 4: respiration of 22 /min or more, systolic pressure of 100 mmHg or less,
//! altered mentation (Glasgow coma score below 15); two or more. Made for adults. A missing input makes the score incomplete,
//! never 0; two points are two points whatever is missing.

use super::{
    Consciousness, Rule,
    glasgow_coma_scale::known_total,
    score::{self, Points, Score, Vital, whole},
};
use crate::finding::{Kind, Severity};

/// Youngest age the score is for, in years. Source: Singer et al. 2016, adults.
const AGE_YEARS_MIN: u16 = 18;
/// Fast breathing, /min. Source: Singer et al. 2016.
const BREATHS_PER_MIN: u32 = 22;
/// Low systolic pressure, mmHg. Source: Singer et al. 2016.
const SYSTOLIC_MMHG: u32 = 100;
/// A Glasgow coma score below this is altered mentation. Source: Singer et al. 2016.
const GLASGOW: u8 = 15;
/// Points that ask for a look at organ dysfunction. Source: Singer et al. 2016.
const POSITIVE: u8 = 2;

/// Names of the parts, in the order of [`Points::points`].
const PARTS: [&str; 3] = ["respiration", "systolic-pressure", "mentation"];

/// What the score needs. Rates and pressure are rounded to whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QsofaInputs {
    /// Breaths, /min.
    pub breaths_per_min: Option<f64>,
    /// Systolic pressure, mmHg.
    pub systolic_mmhg: Option<f64>,
    /// Glasgow coma score, 3 to 15.
    pub glasgow: Option<u8>,
    /// Consciousness, where no coma score is known: everything but alert is altered.
    pub consciousness: Option<Consciousness>,
}

/// Scores `inputs`: points of breaths, pressure and mentation.
pub fn qsofa(inputs: &QsofaInputs) -> Points<3> {
    let by_scale = inputs.glasgow.map(|score| score < GLASGOW);
    let by_level = inputs.consciousness.map(|level| level != Consciousness::Alert);
    Points::of([
        whole(inputs.breaths_per_min).map(|per_min| u8::from(per_min >= BREATHS_PER_MIN)),
        whole(inputs.systolic_mmhg).map(|mmhg| u8::from(mmhg <= SYSTOLIC_MMHG)),
        by_scale.or(by_level).map(u8::from),
    ])
}

const SCORE: Score = Score {
    uses: &[Vital::Breaths, Vital::Systolic, Vital::Eye, Vital::Verbal, Vital::Motor, Vital::Glasgow],
    consciousness: true,
    age_years_min: AGE_YEARS_MIN,
    in_pregnancy: false,
    compute: |known| {
        let (breaths_per_min, systolic_mmhg) = (known.number(Vital::Breaths), known.number(Vital::Systolic));
        let glasgow = known_total(known);
        // The coma score says more; the level is not read, and so not cited, beside it.
        let consciousness = if glasgow.is_none() { known.consciousness() } else { None };
        let points = qsofa(&QsofaInputs { breaths_per_min, systolic_mmhg, glasgow, consciousness });
        let severity = match points.at_least() {
            0 => Severity::None,
            points if points > POSITIVE => Severity::High,
            POSITIVE => Severity::Medium,
            _ => Severity::Low,
        };
        points.scored(&PARTS, severity)
    },
};

pub(super) const RULE: Rule = Rule {
    id: "qsofa",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Quick SOFA",
    source: "Singer et al., JAMA 2016;315:801",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "qsofa", "Quick SOFA")],
    parameters: || {
        let mut out = score::parameters();
        out.extend([
            ("age_years_min".to_owned(), AGE_YEARS_MIN.into()),
            ("breaths_per_min".to_owned(), BREATHS_PER_MIN.into()),
            ("systolic_mmhg".to_owned(), SYSTOLIC_MMHG.into()),
            ("glasgow".to_owned(), GLASGOW.into()),
            ("positive".to_owned(), POSITIVE.into()),
        ]);
        out
    },
    start: |rule, person| SCORE.watch(rule, person),
};

#[cfg(test)]
mod tests {
    use super::{super::score::check, *};
    use crate::input::Person;

    #[test]
    fn every_value_of_the_qsofa_table_scores_by_its_row() {
        let of = |part: usize, set: fn(&mut QsofaInputs, f64)| {
            move |value: f64| {
                let mut inputs = QsofaInputs::default();
                set(&mut inputs, value);
                qsofa(&inputs).points[part]
            }
        };
        let rows = [(0.0, 21.0, 0), (22.0, 80.0, 1)];
        check::table("qSOFA breaths", &rows, 1.0, of(0, |i, v| i.breaths_per_min = Some(v)));
        let rows = [(0.0, 100.0, 1), (101.0, 300.0, 0)];
        check::table("qSOFA systolic", &rows, 1.0, of(1, |i, v| i.systolic_mmhg = Some(v)));
        let rows = [(3.0, 14.0, 1), (15.0, 15.0, 0)];
        check::table("qSOFA coma scale", &rows, 1.0, of(2, |i, v| i.glasgow = Some(v as u8)));
    }

    #[test]
    fn without_a_coma_score_everything_but_alert_is_altered() {
        for (letter, expected) in [("A", 0), ("C", 1), ("V", 1), ("P", 1), ("U", 1)] {
            let consciousness = Consciousness::from_letter(letter);
            let by_level = QsofaInputs { consciousness, ..QsofaInputs::default() };
            assert_eq!(qsofa(&by_level).points[2], Some(expected), "{letter}");
            assert_eq!(qsofa(&QsofaInputs { glasgow: Some(14), ..by_level }).points[2], Some(1), "{letter}");
        }
    }

    #[test]
    fn a_qsofa_without_one_part_has_no_total_but_two_points_are_two_points() {
        let found = check::told(&RULE, &Person::default(), &[(0, "resp-rate", "30"), (1, "nibp-sys", "90")]).unwrap();
        assert_eq!((found.complete, found.measure("total")), (false, None));
        assert_eq!((found.missing, found.severity), (vec!["mentation"], Severity::Medium));
        let inputs = [(0, "resp-rate", "30"), (1, "nibp-sys", "90"), (2, "consciousness", "C")];
        let found = check::told(&RULE, &Person::default(), &inputs).unwrap();
        assert_eq!((found.measure("total"), found.severity), (Some(3.0), Severity::High));
        let blank = QsofaInputs { breaths_per_min: Some(30.0), glasgow: Some(15), ..QsofaInputs::default() };
        assert_eq!(qsofa(&blank).total, None);
    }
}
