//! Every boundary of the chart, and what is missing.

use super::{super::score::check, *};
use record::sha256;

const ADULT: Person = Person { age_years: Some(40), male: None, height_cm: None, pregnant: false, spo2_scale_2: false };

fn healthy() -> News2Inputs {
    News2Inputs {
        breaths_per_min: Some(16.0),
        spo2_percent: Some(98.0),
        on_oxygen: Some(false),
        systolic_mmhg: Some(120.0),
        pulse_per_min: Some(70.0),
        consciousness: Some(Consciousness::Alert),
        temperature_cel: Some(37.0),
    }
}

/// For each value, the points of part `part`; all other parts are healthy.
fn points(part: usize, person: Person, set: impl Fn(&mut News2Inputs, f64), cases: &[(f64, u8)]) {
    for &(value, expected) in cases {
        let mut inputs = healthy();
        set(&mut inputs, value);
        let score = news2(&inputs, &person).unwrap();
        assert_eq!(score.points[part], Some(expected), "{} at {value}", PARTS[part]);
    }
}

#[test]
fn respiration_scores_by_the_chart() {
    let cases =
        [(0.0, 3), (8.0, 3), (9.0, 1), (11.0, 1), (12.0, 0), (20.0, 0), (21.0, 2), (24.0, 2), (25.0, 3), (60.0, 3)];
    points(0, ADULT, |i, v| i.breaths_per_min = Some(v), &cases);
}

#[test]
fn saturation_scores_by_scale_1() {
    let cases = [(50.0, 3), (91.0, 3), (92.0, 2), (93.0, 2), (94.0, 1), (95.0, 1), (96.0, 0), (100.0, 0)];
    points(1, ADULT, |i, v| i.spo2_percent = Some(v), &cases);
    points(1, ADULT, |i, v| (i.spo2_percent, i.on_oxygen) = (Some(v), Some(true)), &cases);
}

#[test]
fn saturation_scores_by_scale_2_with_and_without_oxygen() {
    let person = Person { spo2_scale_2: true, ..ADULT };
    let low = [(83.0, 3), (84.0, 2), (85.0, 2), (86.0, 1), (87.0, 1), (88.0, 0), (92.0, 0)];
    points(1, person, |i, v| i.spo2_percent = Some(v), &low);
    points(1, person, |i, v| i.spo2_percent = Some(v), &[(93.0, 0), (94.0, 0), (95.0, 0), (97.0, 0), (100.0, 0)]);
    let on_oxygen = |i: &mut News2Inputs, v| (i.spo2_percent, i.on_oxygen) = (Some(v), Some(true));
    points(1, person, on_oxygen, &low);
    points(1, person, on_oxygen, &[(93.0, 1), (94.0, 1), (95.0, 2), (96.0, 2), (97.0, 3), (100.0, 3)]);
    let unknown = News2Inputs { spo2_percent: Some(93.0), on_oxygen: None, ..healthy() };
    assert_eq!(news2(&unknown, &person).unwrap().points[1], None);
}

#[test]
fn pressure_scores_by_the_chart() {
    let cases =
        [(40.0, 3), (90.0, 3), (91.0, 2), (100.0, 2), (101.0, 1), (110.0, 1), (111.0, 0), (219.0, 0), (220.0, 3)];
    points(3, ADULT, |i, v| i.systolic_mmhg = Some(v), &cases);
}

#[test]
fn pulse_scores_by_the_chart() {
    let cases = [
        (0.0, 3),
        (40.0, 3),
        (41.0, 1),
        (50.0, 1),
        (51.0, 0),
        (90.0, 0),
        (91.0, 1),
        (110.0, 1),
        (111.0, 2),
        (130.0, 2),
        (131.0, 3),
    ];
    points(4, ADULT, |i, v| i.pulse_per_min = Some(v), &cases);
}

#[test]
fn temperature_scores_by_the_chart() {
    let cases =
        [(34.0, 3), (35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38.0, 0), (38.1, 1), (39.0, 1), (39.1, 2), (42.0, 2)];
    points(6, ADULT, |i, v| i.temperature_cel = Some(v), &cases);
}

#[test]
fn every_value_of_the_news2_chart_scores_by_its_row() {
    let of = |part: usize, person: Person, on_oxygen: bool, set: fn(&mut News2Inputs, f64)| {
        move |value: f64| {
            let mut inputs = News2Inputs { on_oxygen: Some(on_oxygen), ..healthy() };
            set(&mut inputs, value);
            news2(&inputs, &person).unwrap().points[part]
        }
    };
    let scale_2 = Person { spo2_scale_2: true, ..ADULT };
    let rows = [(0.0, 8.0, 3), (9.0, 11.0, 1), (12.0, 20.0, 0), (21.0, 24.0, 2), (25.0, 80.0, 3)];
    check::table("NEWS2 respiration", &rows, 1.0, of(0, ADULT, false, |i, v| i.breaths_per_min = Some(v)));
    let saturation: fn(&mut News2Inputs, f64) = |i, v| i.spo2_percent = Some(v);
    let rows = [(0.0, 91.0, 3), (92.0, 93.0, 2), (94.0, 95.0, 1), (96.0, 100.0, 0)];
    for on_oxygen in [false, true] {
        check::table("NEWS2 SpO2 scale 1", &rows, 1.0, of(1, ADULT, on_oxygen, saturation));
    }
    let rows = [(0.0, 83.0, 3), (84.0, 85.0, 2), (86.0, 87.0, 1), (88.0, 92.0, 0), (93.0, 100.0, 0)];
    check::table("NEWS2 SpO2 scale 2 on air", &rows, 1.0, of(1, scale_2, false, saturation));
    let rows = [
        (0.0, 83.0, 3),
        (84.0, 85.0, 2),
        (86.0, 87.0, 1),
        (88.0, 92.0, 0),
        (93.0, 94.0, 1),
        (95.0, 96.0, 2),
        (97.0, 100.0, 3),
    ];
    check::table("NEWS2 SpO2 scale 2 on oxygen", &rows, 1.0, of(1, scale_2, true, saturation));
    let rows = [(0.0, 90.0, 3), (91.0, 100.0, 2), (101.0, 110.0, 1), (111.0, 219.0, 0), (220.0, 300.0, 3)];
    check::table("NEWS2 systolic", &rows, 1.0, of(3, ADULT, false, |i, v| i.systolic_mmhg = Some(v)));
    let rows =
        [(0.0, 40.0, 3), (41.0, 50.0, 1), (51.0, 90.0, 0), (91.0, 110.0, 1), (111.0, 130.0, 2), (131.0, 300.0, 3)];
    check::table("NEWS2 pulse", &rows, 1.0, of(4, ADULT, false, |i, v| i.pulse_per_min = Some(v)));
    let rows = [(20.0, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, 45.0, 2)];
    check::table("NEWS2 temperature", &rows, 0.1, of(6, ADULT, false, |i, v| i.temperature_cel = Some(v)));
}

#[test]
fn oxygen_and_every_change_of_consciousness_score() {
    let total = |inputs: News2Inputs| news2(&inputs, &ADULT).unwrap().total;
    assert_eq!(total(healthy()), Some(0));
    assert_eq!(total(News2Inputs { on_oxygen: Some(true), ..healthy() }), Some(2));
    for letter in ["C", "V", "P", "U"] {
        assert_eq!(total(News2Inputs { consciousness: Consciousness::from_letter(letter), ..healthy() }), Some(3));
    }
}

#[test]
fn bands_follow_total_and_single_threes() {
    let band = |breaths: f64, pulse: f64, systolic: f64| {
        let (b, p, s) = (Some(breaths), Some(pulse), Some(systolic));
        news2(&News2Inputs { breaths_per_min: b, pulse_per_min: p, systolic_mmhg: s, ..healthy() }, &ADULT)
            .unwrap()
            .band
    };
    assert_eq!(band(16.0, 70.0, 120.0), Some(Band::Routine));
    assert_eq!(band(9.0, 70.0, 120.0), Some(Band::Low));
    assert_eq!(band(22.0, 120.0, 120.0), Some(Band::Low));
    assert_eq!(band(25.0, 70.0, 120.0), Some(Band::LowMedium));
    assert_eq!(band(25.0, 120.0, 120.0), Some(Band::Medium));
    assert_eq!(band(25.0, 131.0, 120.0), Some(Band::Medium));
    assert_eq!(band(25.0, 131.0, 105.0), Some(Band::High));
}

#[test]
fn a_missing_part_leaves_no_total() {
    let blank: [fn(&mut News2Inputs); 7] = [
        |i| i.breaths_per_min = None,
        |i| i.spo2_percent = None,
        |i| i.on_oxygen = None,
        |i| i.systolic_mmhg = Some(f64::NAN),
        |i| i.pulse_per_min = None,
        |i| i.consciousness = None,
        |i| i.temperature_cel = None,
    ];
    for (part, blank) in blank.iter().enumerate() {
        let mut inputs = healthy();
        blank(&mut inputs);
        let score = news2(&inputs, &ADULT).unwrap();
        assert_eq!((score.points[part], score.total, score.band), (None, None, None), "{}", PARTS[part]);
    }
}

#[test]
fn children_and_pregnancy_are_not_scored() {
    let child = Person { age_years: Some(15), ..ADULT };
    assert_eq!(news2(&healthy(), &child), Err(NotForNews2::Child));
    assert!(news2(&healthy(), &Person { age_years: Some(16), ..ADULT }).is_ok());
    assert_eq!(news2(&healthy(), &Person { pregnant: true, ..ADULT }), Err(NotForNews2::Pregnant));
}

#[test]
fn a_monitored_person_is_scored_when_all_parts_are_there_and_recent() {
    let mut watch = (RULE.start)(&RULE, &ADULT);
    let mut out = Vec::new();
    let mut tell = |signal: &str, at_s: u64, value: Measured<'_>| {
        let frame = sha256(&[signal.as_bytes()]);
        watch.take(&Input { frame, signal, at: TimeMs(at_s * 1_000), value }, &mut out);
        std::mem::take(&mut out)
    };
    assert!(!tell("spo2", 0, Measured::Number(90.0))[0].complete);
    tell("resp-rate", 1, Measured::Number(26.0));
    tell("heart-rate", 1, Measured::Number(120.0));
    tell("nibp-sys", 1, Measured::Number(95.0));
    tell("temp-body", 1, Measured::Number(36.5));
    tell("consciousness", 1, Measured::Code("A"));
    let found = tell("oxygen", 2, Measured::Code("air"));
    assert_eq!(found[0].measures[0], Measure { name: "total", value: 10.0, unit: "{score}" });
    assert_eq!((found[0].severity, found[0].complete, found[0].inputs.len()), (Severity::High, true, 7));
    assert!(tell("spo2", 3, Measured::Number(90.0)).is_empty(), "an unchanged score is not said again");
    // The saturation of the beginning no longer counts.
    let later = tell("heart-rate", 70, Measured::Number(120.0));
    assert_eq!(later[0].missing, ["respiration", "spo2"]);
    assert_eq!(later[0].measure("total"), None);
}

#[test]
fn an_oximeters_pulse_and_an_arterys_pressure_count_where_there_are_no_others() {
    let inputs = [
        (0, "spo2", "97"),
        (0, "resp-rate", "16"),
        (0, "temp-body", "37.0"),
        (0, "oxygen", "air"),
        (0, "consciousness", "A"),
        (1, "pulse", "115"),
        (1, "ibp-sys", "105"),
    ];
    let found = check::told(&RULE, &ADULT, &inputs).unwrap();
    assert_eq!((found.measure("total"), found.inputs.len()), (Some(3.0), 7));
    let both = [inputs.as_slice(), &[(2, "heart-rate", "80"), (2, "nibp-sys", "120")]].concat();
    let found = check::told(&RULE, &ADULT, &both).unwrap();
    assert_eq!(found.measure("total"), Some(0.0));
}
