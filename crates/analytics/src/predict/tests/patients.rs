//! The shared recordings: features bit for bit as the other program computes them, and what the shipped models say.

use super::*;
use crate::recorded::shared;
use record::Digest;
use std::io::Read as _;

/// Names in the recordings, as `models/train/observations.py` has them.
const NAMES: [(&str, &str); 37] = [
    ("HR", "heart-rate"),
    ("RespRate", "resp-rate"),
    ("SysABP", "systolic"),
    ("NISysABP", "systolic"),
    ("MAP", "mean-pressure"),
    ("NIMAP", "mean-pressure"),
    ("DiasABP", "diastolic"),
    ("NIDiasABP", "diastolic"),
    ("Temp", "temperature"),
    ("SaO2", "oxygen-saturation"),
    ("FiO2", "inspired-oxygen"),
    ("GCS", "glasgow-coma-scale"),
    ("Urine", "urine"),
    ("Weight", "weight"),
    ("MechVent", "ventilated"),
    ("pH", "ph"),
    ("PaCO2", "paco2"),
    ("PaO2", "pao2"),
    ("HCO3", "bicarbonate"),
    ("Lactate", "lactate"),
    ("Na", "sodium"),
    ("K", "potassium"),
    ("Mg", "magnesium"),
    ("BUN", "urea-nitrogen"),
    ("Creatinine", "creatinine"),
    ("Glucose", "glucose"),
    ("HCT", "haematocrit"),
    ("Platelets", "platelets"),
    ("WBC", "white-cells"),
    ("Albumin", "albumin"),
    ("ALP", "alkaline-phosphatase"),
    ("ALT", "alanine-transaminase"),
    ("AST", "aspartate-transaminase"),
    ("Bilirubin", "bilirubin"),
    ("Cholesterol", "cholesterol"),
    ("TroponinI", "troponin-i"),
    ("TroponinT", "troponin-t"),
];

struct Recording {
    known: Known,
    readings: Vec<Reading<'static>>,
    died: bool,
}

impl Recording {
    fn parse(text: &str, died: bool) -> Self {
        let mut known = Known { age: f64::NAN, male: f64::NAN, height: f64::NAN };
        let mut readings = Vec::new();
        for line in text.lines().skip(1) {
            let [time, name, value] = line.split(',').collect::<Vec<_>>()[..] else { continue };
            let (hours, minutes) = time.split_once(':').unwrap();
            let minute = hours.parse::<u64>().unwrap() * 60 + minutes.parse::<u64>().unwrap();
            let Ok(value) = value.parse::<f64>() else { continue };
            let there = if value >= 0.0 { value } else { f64::NAN };
            match name {
                "Age" => known.age = there,
                "Gender" => known.male = there,
                "Height" => known.height = if (120.0..=230.0).contains(&value) { value } else { f64::NAN },
                _ => {
                    let ours = NAMES.iter().find(|(theirs, _)| *theirs == name);
                    readings.extend(ours.map(|(_, ours)| reading(ours, minute, value)));
                }
            }
        }
        Self { known, readings, died }
    }

    fn taken(&self, hours: u64) -> Readings {
        let mut taken = Readings::new();
        for reading in self.readings.iter().filter(|reading| reading.at.0 < hours * HOUR_MS) {
            let refused = taken.take(reading).err();
            assert!(matches!(refused, None | Some(NotTaken::Implausible { .. })), "{refused:?}");
        }
        taken
    }
}

/// The shared recordings by their numbers, or none.
fn recordings() -> Vec<Recording> {
    let Some(folder) = shared("vitals") else { return Vec::new() };
    let labels = fs::read_to_string(folder.join("Outcomes-a_first2000.csv")).unwrap();
    let packed = fs::read(folder.join("cinc2012_set-a_first2000.tar.gz")).unwrap();
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut tar).unwrap();
    let mut texts = std::collections::BTreeMap::new();
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at] != 0 {
        let field = |from: usize, to: usize| String::from_utf8_lossy(&tar[at + from..at + to]).into_owned();
        let (name, size) = (field(0, 100), field(124, 135));
        let length = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap();
        if let Some(number) = name.trim_matches('\0').strip_suffix(".txt") {
            let number = number.rsplit('/').next().unwrap().to_owned();
            texts.insert(number, String::from_utf8_lossy(&tar[at + 512..at + 512 + length]).into_owned());
        }
        at += 512 + length.div_ceil(512) * 512;
    }
    let died = |number: &str| labels.lines().find(|line| line.starts_with(number)).unwrap().ends_with(",1");
    texts.iter().map(|(number, text)| Recording::parse(text, died(number))).collect()
}

fn digest(rows: impl Iterator<Item = Vec<f64>>) -> Digest {
    let bits = |value: f64| if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() };
    let bytes: Vec<u8> = rows.flatten().flat_map(|value| bits(value).to_le_bytes()).collect();
    sha256(&[&bytes])
}

#[test]
fn features_of_the_shared_patients_are_bit_for_bit_those_of_the_program_that_trained_the_models() {
    let (recordings, vectors) = (recordings(), vectors());
    if recordings.is_empty() {
        return;
    }
    let expected = |name: &str| vectors["digests"][name].as_str().unwrap().to_owned();
    for hours in risk_model().hours().map(u64::from) {
        let at = TimeMs(hours * HOUR_MS);
        let rows =
            recordings.iter().map(|one| risk_features::features(&one.known, &one.taken(hours).window(at, hours)));
        assert_eq!(digest(rows).to_hex(), expected(&format!("risk-{hours}")), "{hours} hours");
    }
    let first = &recordings[..vectors["trend_patients"].as_u64().unwrap() as usize];
    for target in TrendModel::targets() {
        let rows = first.iter().flat_map(|one| {
            let taken = one.taken(WINDOW_H);
            let row =
                move |hour| trend_features::row(one.known.age, &taken.window(TimeMs(hour * HOUR_MS), WINDOW_H), target);
            (1..=WINDOW_H).filter_map(row).map(|row| row.features)
        });
        let name = target.spec().name;
        assert_eq!(digest(rows).to_hex(), expected(&format!("trend-{name}")), "{name}");
    }
}

#[test]
fn the_shipped_models_say_of_the_shared_patients_what_the_model_card_tells_of_them() {
    // These patients trained the models, so this shows that the files are whole, and not how good they are: that is in the model card.
    let recordings = recordings();
    let (model, trend) = (risk_model(), trend_model());
    let mut risks = Vec::new();
    let mut refused = 0;
    for one in &recordings {
        let patient = Patient {
            age_years: one.known.age as u16,
            male: (!one.known.male.is_nan()).then_some(one.known.male > 0.5),
            height_cm: (!one.known.height.is_nan()).then_some(one.known.height),
        };
        let mut risk = Risk::new(model.clone(), patient);
        for reading in one.readings.iter().filter(|reading| reading.at.0 < WINDOW_H * HOUR_MS) {
            let _ = risk.observe(reading);
        }
        match risk.assess(TimeMs(WINDOW_H * HOUR_MS)) {
            Ok(assessed) => risks.push((assessed.probability, one.died)),
            Err(NotAssessed::Missing(_) | NotAssessed::Early { .. } | NotAssessed::TooYoung) => refused += 1,
            Err(NotAssessed::Past) => unreachable!("nothing was taken from after the moment"),
        }
    }
    if risks.is_empty() {
        return;
    }
    let died = risks.iter().filter(|(_, died)| *died).count() as f64 / risks.len() as f64;
    let predicted = risks.iter().map(|(risk, _)| risk).sum::<f64>() / risks.len() as f64;
    let (mut above, mut pairs) = (0.0, 0.0);
    for (dead, _) in risks.iter().filter(|(_, died)| *died) {
        for (alive, _) in risks.iter().filter(|(_, died)| !died) {
            pairs += 1.0;
            above += if dead > alive { 1.0 } else { f64::from(u8::from(dead == alive)) / 2.0 };
        }
    }
    println!(
        "{} patients, {refused} refused: predicted {predicted:.4}, died {died:.4}, AUROC on the patients it learned from {:.4}",
        risks.len(),
        above / pairs
    );
    assert!((predicted - died).abs() < 0.02 && above / pairs > 0.86 && refused < 200);
    let (mut inside, mut count, mut error, mut still) = (0.0, 0.0, 0.0, 0.0);
    let target = Variable::named("systolic").unwrap();
    for one in recordings.iter().step_by(20) {
        let mut trends = Trends::new(trend.clone(), one.known.age as u16);
        let mut readings = one.readings.clone();
        readings.sort_by(|a, b| (a.at, a.value).partial_cmp(&(b.at, b.value)).unwrap());
        let mut readings = readings.iter().peekable();
        let mut due: Option<Forecast> = None;
        for hour in 1..=WINDOW_H {
            let mut last = None;
            while let Some(reading) = readings.next_if(|reading| reading.at.0 < hour * HOUR_MS) {
                if trends.observe(reading).is_ok() && reading.variable == target {
                    last = Some(reading.value);
                }
            }
            if let (Some(forecast), Some(value)) = (due, last) {
                count += 1.0;
                inside += f64::from(u8::from((forecast.low..=forecast.high).contains(&value)));
                error += (forecast.value - value).abs();
                still += (forecast.now - value).abs();
            }
            due = trends.forecast(target, TimeMs(hour * HOUR_MS)).ok();
        }
    }
    println!(
        "{count} forecasts: error {:.2}, no change {:.2}, inside {:.3}",
        error / count,
        still / count,
        inside / count
    );
    assert!(error < 0.95 * still && (0.85..=0.95).contains(&(inside / count)));
}
