//! SIRS: criteria of the systemic inflammatory response syndrome.
//!
//! Source: Bone et al. (ACCP/SCCM consensus), Chest 1992;101:1644: temperature above 38 or below 36 Cel, heart rate above 90 /min,
//! respiration above 20 /min, white cells above 12 or below 4 ·10^9/L; two or more. Its alternatives by carbon dioxide (below 32 mmHg) and
//! immature cells (above 10 %) come from no signal here and are left out. Made for adults. A missing input makes the score
//! incomplete, never 0; two criteria are two criteria whatever is missing.

use super::{
    Rule,
    score::{self, Points, Score, Vital, tenths, whole},
};
use crate::finding::{Kind, Severity};

/// Youngest age the criteria are for, in years. Source: children have others, Goldstein et al., Pediatr Crit Care Med 2005;6:2.
const AGE_YEARS_MIN: u16 = 18;
/// Above this, fever, in tenths of a degree. Source: Bone et al. 1992.
const FEVER_TENTHS_CEL: u32 = 380;
/// Below this, cold, in tenths of a degree. Source: Bone et al. 1992.
const COLD_TENTHS_CEL: u32 = 360;
/// Above this, fast, /min. Source: Bone et al. 1992.
const PULSE_PER_MIN: u32 = 90;
/// Above this, fast, /min. Source: Bone et al. 1992.
const BREATHS_PER_MIN: u32 = 20;
/// Above this, many white cells, in tenths of 10^9/L. Source: Bone et al. 1992.
const MANY_TENTHS_PER_NL: u32 = 120;
/// Below this, few white cells, in tenths of 10^9/L. Source: Bone et al. 1992.
const FEW_TENTHS_PER_NL: u32 = 40;
/// Criteria that make the syndrome. Source: Bone et al. 1992.
const POSITIVE: u8 = 2;

/// Names of the parts, in the order of [`Points::points`].
const PARTS: [&str; 4] = ["temperature", "pulse", "respiration", "white-cells"];

/// What the criteria need. Rates are rounded to whole numbers, temperature and white cells to tenths.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SirsInputs {
    /// Temperature, Cel.
    pub temperature_cel: Option<f64>,
    /// Heart rate, /min.
    pub pulse_per_min: Option<f64>,
    /// Breaths, /min.
    pub breaths_per_min: Option<f64>,
    /// White cells, 10*9/L.
    pub white_cells_per_nl: Option<f64>,
}

/// Scores `inputs`: a point for each criterion of temperature, heart rate, breaths and white cells.
pub fn sirs(inputs: &SirsInputs) -> Points<4> {
    let beyond = |value: u32, low: u32, high: u32| u8::from(value < low || value > high);
    Points::of([
        tenths(inputs.temperature_cel).map(|tenths| beyond(tenths, COLD_TENTHS_CEL, FEVER_TENTHS_CEL)),
        whole(inputs.pulse_per_min).map(|per_min| u8::from(per_min > PULSE_PER_MIN)),
        whole(inputs.breaths_per_min).map(|per_min| u8::from(per_min > BREATHS_PER_MIN)),
        tenths(inputs.white_cells_per_nl).map(|tenths| beyond(tenths, FEW_TENTHS_PER_NL, MANY_TENTHS_PER_NL)),
    ])
}

const SCORE: Score = Score {
    uses: &[Vital::Temperature, Vital::Pulse, Vital::Breaths, Vital::WhiteCells],
    consciousness: false,
    age_years_min: AGE_YEARS_MIN,
    in_pregnancy: false,
    compute: |known| {
        let points = sirs(&SirsInputs {
            temperature_cel: known.number(Vital::Temperature),
            pulse_per_min: known.number(Vital::Pulse),
            breaths_per_min: known.number(Vital::Breaths),
            white_cells_per_nl: known.number(Vital::WhiteCells),
        });
        // Half of the people in wards meet two criteria at some time (Churpek et al., Am J Respir Crit Care Med 2015;192:958).
        let severity = if points.at_least() >= POSITIVE { Severity::Low } else { Severity::None };
        points.scored(&PARTS, severity)
    },
};

pub(super) const RULE: Rule = Rule {
    id: "sirs",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Criteria of the systemic inflammatory response syndrome",
    source: "Bone et al., Chest 1992;101:1644",
    codes: &[(
        "https://vitaltrace.org/fhir/CodeSystem/rule",
        "sirs",
        "Systemic inflammatory response syndrome criteria",
    )],
    parameters: || {
        let mut out = score::parameters();
        out.extend([
            ("age_years_min".to_owned(), AGE_YEARS_MIN.into()),
            ("fever_tenths_cel".to_owned(), FEVER_TENTHS_CEL.into()),
            ("cold_tenths_cel".to_owned(), COLD_TENTHS_CEL.into()),
            ("pulse_per_min".to_owned(), PULSE_PER_MIN.into()),
            ("breaths_per_min".to_owned(), BREATHS_PER_MIN.into()),
            ("many_tenths_per_nl".to_owned(), MANY_TENTHS_PER_NL.into()),
            ("few_tenths_per_nl".to_owned(), FEW_TENTHS_PER_NL.into()),
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
    fn every_value_of_the_sirs_criteria_scores_by_its_row() {
        let of = |part: usize, set: fn(&mut SirsInputs, f64)| {
            move |value: f64| {
                let mut inputs = SirsInputs::default();
                set(&mut inputs, value);
                sirs(&inputs).points[part]
            }
        };
        let rows = [(20.0, 35.9, 1), (36.0, 38.0, 0), (38.1, 45.0, 1)];
        check::table("SIRS temperature", &rows, 0.1, of(0, |i, v| i.temperature_cel = Some(v)));
        let rows = [(0.0, 90.0, 0), (91.0, 300.0, 1)];
        check::table("SIRS heart rate", &rows, 1.0, of(1, |i, v| i.pulse_per_min = Some(v)));
        let rows = [(0.0, 20.0, 0), (21.0, 80.0, 1)];
        check::table("SIRS breaths", &rows, 1.0, of(2, |i, v| i.breaths_per_min = Some(v)));
        let rows = [(0.0, 3.9, 1), (4.0, 12.0, 0), (12.1, 60.0, 1)];
        check::table("SIRS white cells", &rows, 0.1, of(3, |i, v| i.white_cells_per_nl = Some(v)));
    }

    #[test]
    fn sirs_without_a_part_has_no_total_but_two_criteria_are_two_criteria() {
        let inputs = [(0, "heart-rate", "95"), (0, "resp-rate", "24"), (0, "temp-body", "37.0")];
        let found = check::told(&RULE, &Person::default(), &inputs).unwrap();
        assert_eq!((found.complete, found.measure("total"), found.severity), (false, None, Severity::Low));
        assert_eq!(found.missing, ["white-cells"]);
        let whole = [inputs.as_slice(), &[(1, "white-cells", "12.1")]].concat();
        let found = check::told(&RULE, &Person::default(), &whole).unwrap();
        assert_eq!((found.complete, found.measure("total")), (true, Some(3.0)));
    }
}
