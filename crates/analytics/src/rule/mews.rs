//! MEWS: the Modified Early Warning Score.
//!
//! Source: Subbe, Kruger, Rutherford and Gemmel, QJM 2001;94:521, table 1 and the bands of its results (0 to 2, 3 to 4, 5 and more: more
//! deaths and admissions to intensive care). Made for adults who are not pregnant (for whom there is
//! MEOWS: Singh et al., Anaesthesia 2012;67:12). A missing input makes the score incomplete, never 0.

use super::{
    Consciousness, Rule,
    score::{self, Points, Score, Vital, tenths, whole},
};
use crate::finding::{Kind, Severity};

/// Youngest age the score is for, in years, as for NEWS2.
const AGE_YEARS_MIN: u16 = 16;
/// From here on, medium. Source: the bands of Subbe et al. 2001.
const MEDIUM: u8 = 3;
/// From here on, high. Source: Subbe et al. 2001, a score of 5 or more.
const HIGH: u8 = 5;

/// Names of the parts, in the order of [`Points::points`].
const PARTS: [&str; 5] = ["systolic-pressure", "pulse", "respiration", "temperature", "consciousness"];

/// What the score needs. Pressure and rates are rounded to whole numbers, temperature to tenths.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MewsInputs {
    /// Systolic pressure, mmHg.
    pub systolic_mmhg: Option<f64>,
    /// Heart rate, /min.
    pub pulse_per_min: Option<f64>,
    /// Breaths, /min.
    pub breaths_per_min: Option<f64>,
    /// Temperature, Cel.
    pub temperature_cel: Option<f64>,
    /// Consciousness.
    pub consciousness: Option<Consciousness>,
}

/// Scores `inputs`: points of pressure, heart rate, breaths, temperature and consciousness.
pub fn mews(inputs: &MewsInputs) -> Points<5> {
    Points::of([
        whole(inputs.systolic_mmhg).map(systolic),
        whole(inputs.pulse_per_min).map(pulse),
        whole(inputs.breaths_per_min).map(respiration),
        tenths(inputs.temperature_cel).map(temperature),
        inputs.consciousness.map(consciousness),
    ])
}

fn systolic(mmhg: u32) -> u8 {
    match mmhg {
        ..=70 => 3,
        71..=80 => 2,
        81..=100 => 1,
        101..=199 => 0,
        200.. => 2,
    }
}

fn pulse(per_min: u32) -> u8 {
    match per_min {
        ..=40 => 2,
        41..=50 => 1,
        51..=100 => 0,
        101..=110 => 1,
        111..=129 => 2,
        130.. => 3,
    }
}

fn respiration(per_min: u32) -> u8 {
    match per_min {
        ..=8 => 2,
        9..=14 => 0,
        15..=20 => 1,
        21..=29 => 2,
        30.. => 3,
    }
}

fn temperature(tenths_cel: u32) -> u8 {
    match tenths_cel {
        ..=349 => 2,
        350..=384 => 0,
        385.. => 2,
    }
}

/// AVPU. It has no letter for new confusion, which is no longer alert and still answers: as a response to voice.
fn consciousness(level: Consciousness) -> u8 {
    match level {
        Consciousness::Alert => 0,
        Consciousness::Confusion | Consciousness::Voice => 1,
        Consciousness::Pain => 2,
        Consciousness::Unresponsive => 3,
    }
}

fn severity(total: Option<u8>) -> Severity {
    match total {
        None | Some(0) => Severity::None,
        Some(total) if total >= HIGH => Severity::High,
        Some(total) if total >= MEDIUM => Severity::Medium,
        Some(_) => Severity::Low,
    }
}

const SCORE: Score = Score {
    uses: &[Vital::Systolic, Vital::Pulse, Vital::Breaths, Vital::Temperature],
    consciousness: true,
    age_years_min: AGE_YEARS_MIN,
    in_pregnancy: false,
    compute: |known| {
        let points = mews(&MewsInputs {
            systolic_mmhg: known.number(Vital::Systolic),
            pulse_per_min: known.number(Vital::Pulse),
            breaths_per_min: known.number(Vital::Breaths),
            temperature_cel: known.number(Vital::Temperature),
            consciousness: known.consciousness(),
        });
        points.scored(&PARTS, severity(points.total))
    },
};

pub(super) const RULE: Rule = Rule {
    id: "mews",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Modified Early Warning Score",
    source: "Subbe et al., QJM 2001;94:521",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "mews", "Modified Early Warning Score")],
    parameters: || {
        let mut out = score::parameters();
        out.extend([
            ("age_years_min".to_owned(), AGE_YEARS_MIN.into()),
            ("medium".to_owned(), MEDIUM.into()),
            ("high".to_owned(), HIGH.into()),
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
    fn every_value_of_the_mews_table_scores_by_its_row() {
        let rows = [(0.0, 70.0, 3), (71.0, 80.0, 2), (81.0, 100.0, 1), (101.0, 199.0, 0), (200.0, 300.0, 2)];
        let of = |part: usize, set: fn(&mut MewsInputs, f64)| {
            move |value: f64| {
                let mut inputs = MewsInputs::default();
                set(&mut inputs, value);
                mews(&inputs).points[part]
            }
        };
        check::table("MEWS systolic", &rows, 1.0, of(0, |i, v| i.systolic_mmhg = Some(v)));
        let rows = [
            (0.0, 40.0, 2),
            (41.0, 50.0, 1),
            (51.0, 100.0, 0),
            (101.0, 110.0, 1),
            (111.0, 129.0, 2),
            (130.0, 300.0, 3),
        ];
        check::table("MEWS heart rate", &rows, 1.0, of(1, |i, v| i.pulse_per_min = Some(v)));
        let rows = [(0.0, 8.0, 2), (9.0, 14.0, 0), (15.0, 20.0, 1), (21.0, 29.0, 2), (30.0, 80.0, 3)];
        check::table("MEWS breaths", &rows, 1.0, of(2, |i, v| i.breaths_per_min = Some(v)));
        let rows = [(20.0, 34.9, 2), (35.0, 38.4, 0), (38.5, 45.0, 2)];
        check::table("MEWS temperature", &rows, 0.1, of(3, |i, v| i.temperature_cel = Some(v)));
    }

    #[test]
    fn each_level_of_avpu_is_a_point_more() {
        for (letter, expected) in [("A", 0), ("V", 1), ("P", 2), ("U", 3), ("C", 1)] {
            let consciousness = Consciousness::from_letter(letter);
            assert_eq!(mews(&MewsInputs { consciousness, ..MewsInputs::default() }).points[4], Some(expected));
        }
    }

    #[test]
    fn a_mews_without_one_part_has_no_total() {
        let whole = MewsInputs {
            systolic_mmhg: Some(120.0),
            pulse_per_min: Some(70.0),
            breaths_per_min: Some(12.0),
            temperature_cel: Some(37.0),
            consciousness: Some(Consciousness::Alert),
        };
        assert_eq!(mews(&whole).total, Some(0));
        let blank: [fn(&mut MewsInputs); 5] = [
            |i| i.systolic_mmhg = None,
            |i| i.pulse_per_min = Some(f64::NAN),
            |i| i.breaths_per_min = None,
            |i| i.temperature_cel = Some(f64::INFINITY),
            |i| i.consciousness = None,
        ];
        for (part, blank) in blank.iter().enumerate() {
            let mut inputs = whole;
            blank(&mut inputs);
            assert_eq!((mews(&inputs).points[part], mews(&inputs).total), (None, None), "{}", PARTS[part]);
        }
    }

    #[test]
    fn a_monitored_persons_mews_is_said_with_its_band() {
        let inputs = [
            (0, "nibp-sys", "95"),
            (1, "heart-rate", "112"),
            (1, "resp-rate", "22"),
            (1, "temp-body", "37.2"),
            (2, "consciousness", "A"),
        ];
        let found = check::told(&RULE, &Person::default(), &inputs).unwrap();
        assert_eq!((found.measure("total"), found.severity, found.inputs.len()), (Some(5.0), Severity::High, 5));
        let found = check::told(&RULE, &Person::default(), &inputs[..4]).unwrap();
        assert_eq!((found.complete, found.measure("total")), (false, None));
        assert_eq!(found.missing, ["consciousness"]);
        let pregnant = Person { pregnant: true, ..Person::default() };
        assert_eq!(check::told(&RULE, &pregnant, &inputs), None);
        let child = Person { age_years: Some(15), ..Person::default() };
        assert_eq!(check::told(&RULE, &child, &inputs), None);
    }
}
