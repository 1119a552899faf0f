//! The shipped models, held against what trained them, and damaged ones.

use super::{
    bytes::Packed,
    linear::Linear,
    readings::{HOUR_MS, Readings},
    risk_features::{self, Known},
    trees::Tree,
    *,
};
use crate::recorded::Chance;
use record::{TimeMs, sha256};
use serde_json::Value as Json;
use std::{fs, path::PathBuf, sync::Arc};

mod damage;
mod patients;

/// A file under `models/`.
fn file(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models")).join(name)).unwrap()
}

fn risk_model() -> Arc<RiskModel> {
    Arc::new(RiskModel::read(&file("icu-mortality-1.cbor")).unwrap())
}

fn trend_model() -> Arc<TrendModel> {
    Arc::new(TrendModel::read(&file("next-hour-1.cbor")).unwrap())
}

/// What `models/train/vectors.py` wrote.
fn vectors() -> Json {
    serde_json::from_slice(&file("vectors.json")).unwrap()
}

/// A number that stands as text, since JSON's are rounded by some readers; not a number where there is none.
fn number(value: &Json) -> f64 {
    value.as_str().map_or(f64::NAN, |text| text.parse().unwrap())
}

fn known(value: &Json) -> Option<f64> {
    Some(number(value)).filter(|number| !number.is_nan())
}

fn numbers(value: &Json) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn reading(name: &str, minute: u64, value: f64) -> Reading<'static> {
    let variable = Variable::named(name).unwrap();
    Reading { variable, at: TimeMs(minute * 60_000), value, unit: variable.spec().unit }
}

/// The readings of a made-up patient of the vectors, up to a minute.
fn readings(patient: &Json, until: u64) -> Vec<Reading<'static>> {
    let all = patient["readings"].as_array().unwrap().iter();
    let all = all.map(|one| reading(one[1].as_str().unwrap(), one[0].as_u64().unwrap(), number(&one[2])));
    all.filter(|reading| reading.at.0 < until * 60_000).collect()
}

fn person(patient: &Json) -> Patient {
    Patient {
        age_years: number(&patient["age"]) as u16,
        male: known(&patient["male"]).map(|male| male > 0.5),
        height_cm: known(&patient["height"]),
    }
}

/// Equal bits, or both not a number; and where not, which.
fn same(ours: &[f64], theirs: &[f64], names: &[String]) {
    assert_eq!((ours.len(), theirs.len()), (names.len(), names.len()));
    for ((a, b), name) in ours.iter().zip(theirs).zip(names) {
        assert!(a == b || (a.is_nan() && b.is_nan()), "{name}: {a} here, {b} there");
    }
}

fn near(ours: f64, theirs: &Json) {
    assert!((ours - number(theirs)).abs() <= 1e-9, "{ours} here, {theirs} there");
}

#[test]
fn the_risk_of_made_up_patients_is_that_of_the_program_that_trained_the_model() {
    let (model, vectors) = (risk_model(), vectors());
    let at = TimeMs(WINDOW_H * HOUR_MS);
    println!("seed {}", vectors["seed"]);
    for patient in vectors["patients"].as_array().unwrap() {
        let mut taken = Readings::new();
        readings(patient, 2_880).iter().for_each(|reading| taken.take(reading).unwrap());
        let person = person(patient);
        let known = Known {
            age: f64::from(person.age_years),
            male: number(&patient["male"]),
            height: number(&patient["height"]),
        };
        for expected in patient["risks"].as_array().unwrap() {
            let window = taken.window(at, expected["hours"].as_u64().unwrap());
            let features = risk_features::features(&known, &window);
            same(&features, &numbers(&expected["features"]), &risk_features::names());
        }
        let mut risk = Risk::new(model.clone(), person);
        readings(patient, 2_880).iter().for_each(|reading| risk.observe(reading).unwrap());
        let assessed = risk.assess(at).unwrap();
        let expected = patient["risks"].as_array().unwrap().last().unwrap();
        assert_eq!((u64::from(assessed.hours), assessed.model), (expected["hours"].as_u64().unwrap(), model.hash()));
        near(assessed.probability, &expected["probability"]);
        near(assessed.low, &expected["low"]);
        near(assessed.high, &expected["high"]);
    }
}

#[test]
fn forecasts_for_made_up_patients_are_those_of_the_program_that_trained_the_model() {
    let (model, vectors) = (trend_model(), vectors());
    let mut compared = 0;
    for patient in vectors["patients"].as_array().unwrap() {
        let age_years = number(&patient["age"]) as u16;
        for expected in patient["trends"].as_array().unwrap() {
            let minute = (expected["hour"].as_u64().unwrap() + 1) * 60;
            let variable = Variable::named(expected["variable"].as_str().unwrap()).unwrap();
            let mut taken = Readings::new();
            let mut trends = Trends::new(model.clone(), age_years);
            for reading in readings(patient, minute) {
                taken.take(&reading).unwrap();
                trends.observe(&reading).unwrap();
            }
            let at = TimeMs(minute * 60_000);
            let row = trend_features::row(f64::from(age_years), &taken.window(at, WINDOW_H), variable).unwrap();
            same(&row.features, &numbers(&expected["features"]), &trend_features::names(variable));
            let forecast = trends.forecast(variable, at).unwrap();
            near(forecast.value, &expected["value"]);
            near(forecast.low, &expected["low"]);
            near(forecast.high, &expected["high"]);
            compared += 1;
        }
    }
    println!("{compared} forecasts compared");
    assert!(compared > 20);
}

#[test]
fn the_same_readings_in_any_order_give_the_same_bits() {
    let (model, vectors) = (risk_model(), vectors());
    let patient = &vectors["patients"][0];
    let at = TimeMs(WINDOW_H * HOUR_MS);
    let of = |readings: &[Reading<'_>]| {
        let mut risk = Risk::new(model.clone(), person(patient));
        readings.iter().for_each(|reading| risk.observe(reading).unwrap());
        risk.assess(at).unwrap()
    };
    let mut readings = readings(patient, 2_880);
    let first = of(&readings);
    for seed in 1..=5 {
        println!("seed {seed}");
        let mut chance = Chance(seed);
        for last in (1..readings.len()).rev() {
            readings.swap(last, (chance.unit() * (last + 1) as f64) as usize);
        }
        let again = of(&readings);
        assert_eq!(again.probability.to_bits(), first.probability.to_bits());
        assert_eq!(again, first);
    }
}

#[test]
fn without_enough_there_is_a_reason_and_no_risk() {
    let model = risk_model();
    let adult = Patient { age_years: 70, male: None, height_cm: None };
    let full = |patient: Patient, without: &str, hours: u64| {
        let mut risk = Risk::new(model.clone(), patient);
        for hour in 0..hours {
            for (name, value) in [("heart-rate", 80.0), ("systolic", 120.0), ("glasgow-coma-scale", 15.0)] {
                if name != without {
                    risk.observe(&reading(name, hour * 60, value)).unwrap();
                }
            }
        }
        risk.assess(TimeMs(hours * HOUR_MS))
    };
    let none = Risk::new(model.clone(), adult).assess(TimeMs(0));
    assert_eq!(none, Err(NotAssessed::Early { observed_min: 0, needed_min: 648 }));
    assert_eq!(full(adult, "", 10), Err(NotAssessed::Early { observed_min: 600, needed_min: 648 }));
    for (hours, asked) in [(11, 12), (21, 12), (22, 24), (43, 24), (44, 48), (100, 48)] {
        let assessed = full(adult, "", hours).unwrap();
        assert_eq!(assessed.hours, asked, "after {hours} hours");
        assert!(assessed.missing.contains(&"lactate") && !assessed.missing.contains(&"systolic"));
        assert!((0.0..=1.0).contains(&assessed.probability) && assessed.low < assessed.high);
    }
    let lacking = full(adult, "glasgow-coma-scale", 24);
    assert_eq!(lacking, Err(NotAssessed::Missing(vec!["glasgow-coma-scale"])));
    let child = Patient { age_years: 15, ..adult };
    assert_eq!(full(child, "", 24), Err(NotAssessed::TooYoung));
    let mut ahead = Risk::new(model, adult);
    ahead.observe(&reading("heart-rate", 90, 80.0)).unwrap();
    assert_eq!(ahead.assess(TimeMs(HOUR_MS)), Err(NotAssessed::Past));
}

#[test]
fn what_was_measured_long_ago_is_no_ground_for_a_risk() {
    let mut risk = Risk::new(risk_model(), Patient { age_years: 70, male: Some(true), height_cm: Some(175.0) });
    for hour in 0..24 {
        for (name, value) in [("heart-rate", 80.0), ("systolic", 120.0), ("glasgow-coma-scale", 15.0)] {
            if name != "systolic" || hour < 10 {
                risk.observe(&reading(name, hour * 60, value)).unwrap();
            }
        }
    }
    let refused = risk.assess(TimeMs(24 * HOUR_MS)).unwrap_err();
    assert_eq!(refused.to_string(), "not measured in the last 12 hours: systolic");
}

#[test]
fn without_a_value_in_the_last_hour_there_is_a_reason_and_no_forecast() {
    let mut trends = Trends::new(trend_model(), 60);
    let (rate, temperature) = (Variable::named("heart-rate").unwrap(), Variable::named("temperature").unwrap());
    trends.observe(&reading("heart-rate", 30, 80.0)).unwrap();
    trends.observe(&reading("temperature", 100, 37.0)).unwrap();
    let at = |hours: u64| TimeMs(hours * HOUR_MS);
    let forecast = trends.forecast(temperature, at(2)).unwrap();
    assert_eq!((forecast.now, forecast.until), (37.0, at(3)));
    assert!(forecast.low <= forecast.value && forecast.value <= forecast.high);
    assert_eq!(forecast.missing, ["heart-rate", "resp-rate", "systolic", "mean-pressure", "diastolic"]);
    assert_eq!(trends.forecast(rate, at(2)), Err(NotForecast::Missing("heart-rate")));
    assert_eq!(trends.forecast(rate, at(1)), Err(NotForecast::Past));
    let lactate = Variable::named("lactate").unwrap();
    assert_eq!(trends.forecast(lactate, at(2)), Err(NotForecast::NoTarget("lactate")));
    assert_eq!(Trends::new(trend_model(), 12).forecast(rate, at(2)), Err(NotForecast::TooYoung));
}

#[test]
fn the_model_card_names_the_files_by_their_hashes() {
    let card = String::from_utf8(file("README.md")).unwrap();
    for (id, hash) in [(RiskModel::ID, risk_model().hash()), (TrendModel::ID, trend_model().hash())] {
        assert!(MODELS.iter().any(|model| model.id == id));
        assert_eq!(hash, sha256(&[&file(&format!("{id}.cbor"))]));
        assert!(card.contains(&hash.to_hex()), "{id} is {hash}");
    }
}
