//! Every sensor as FHIR, whole, and what stands where.

use super::*;
use crate::{Absence, Binding, DeviceState, Samples, Sequence, SigningKey, admit_frame};
use record::{
    Id16,
    fhir::{self, Resource},
};

fn reading(signals: Vec<Signal>) -> Reading {
    let key = SigningKey::from_bytes(&[7; 32]);
    let device: crate::DeviceId = "urn:dev:ops:32473-monitor-1".parse().unwrap();
    let at = TimeMs::from_instant("2026-11-21T10:00:00Z").unwrap();
    let binding = Binding {
        device: device.clone(),
        key: key.verifying_key(),
        patient: "Patient/1".into(),
        binding: Id16([1; 16]),
        from: at,
        until: None,
    };
    let frame = Sequence::new(device, key).next(at, signals).unwrap();
    admit_frame(frame, &binding, &DeviceState::default(), at.plus_ms(1_040)).unwrap().0
}

fn number(name: &str, unit: &str, value: Decimal) -> Signal {
    Signal { name: name.into(), offset_ms: 0, value: Value::Number { unit: unit.into(), value } }
}

fn wave(name: &str, samples: Samples) -> Signal {
    let value = Value::Waveform(Waveform {
        unit: "mV".into(),
        rate_hz: Decimal::whole(360),
        origin: Decimal::new(-512, -2).unwrap(),
        scale: Decimal::new(5, -3).unwrap(),
        limits: Limits::NONE,
        samples,
    });
    Signal { name: name.into(), offset_ms: 0, value }
}

fn served(signals: Vec<Signal>) -> Vec<Json> {
    let context = Context { frame_uri: "urn:frame:1", patient_display: None, device_reference: Some("Device/1") };
    observations(&reading(signals), &context)
}

#[test]
fn a_cuff_gives_one_observation_with_three_components() {
    let out = served(vec![
        number("nibp-sys", "mm[Hg]", Decimal::whole(121)),
        number("nibp-dia", "mm[Hg]", Decimal::whole(79)),
        Signal { name: "nibp-mean".into(), offset_ms: 0, value: Value::Absent(Absence::Error) },
    ]);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0]["code"]["coding"][0]["code"], "85354-9");
    assert_eq!(out[0]["code"]["coding"][1]["code"], "150020");
    assert_eq!(out[0]["component"][0]["valueQuantity"]["value"], 121);
    assert_eq!(out[0]["component"][2]["dataAbsentReason"]["coding"][0]["code"], "error");
    assert_eq!(out[0]["effectiveDateTime"], "2026-11-21T10:00:00.000Z");
    assert_eq!(out[0]["subject"]["reference"], "Patient/1");
}

#[test]
fn leads_give_one_observation_with_exact_samples() {
    let out = served(vec![
        wave("ecg-i", Samples::I16(vec![0, -5, i16::MIN, 32_767])),
        wave("ecg-ii", Samples::I16(vec![1, 2, 3, 4])),
    ]);
    assert_eq!(out.len(), 1);
    let data = &out[0]["component"][0]["valueSampledData"];
    assert_eq!(data["data"], "0 -5 E 32767");
    assert_eq!(data["origin"]["value"].to_string(), "-5.12");
    assert_eq!(data["factor"].to_string(), "0.005");
    assert_eq!(data["period"].to_string(), "2.777777778");
    assert_eq!(data["extension"][0]["valueQuantity"]["value"], 360);
    assert_eq!(out[0]["effectivePeriod"]["end"], "2026-11-21T10:00:00.011Z");
}

#[test]
fn an_observation_says_which_frame_it_came_from() {
    let reading = reading(vec![number("temp-body", "Cel", Decimal::new(366, -1).unwrap())]);
    let out = observations(&reading, &Context { frame_uri: "https://x/frame/1", ..Context::default() });
    let frame = out[0]["extension"][0]["extension"].as_array().unwrap();
    assert_eq!(frame[0]["valueUri"], "https://x/frame/1");
    assert_eq!(frame[1]["valueString"], reading.digest.to_hex());
    assert_eq!(frame[2]["valueString"].as_str().unwrap().len(), 128);
    assert_eq!(frame[5]["valueQuantity"]["value"], -1_040);
    assert_eq!(out[0]["valueQuantity"]["value"].to_string(), "36.6");
    assert_eq!(out[0]["device"]["identifier"]["value"], "urn:dev:ops:32473-monitor-1");
}

#[test]
fn doubtful_and_unknown_signals_are_kept_and_marked() {
    let out = served(vec![number("spo2", "%", Decimal::whole(140)), number("lactate", "mmol/L", Decimal::whole(2))]);
    assert_eq!(out[0]["extension"][1]["valueCode"], "implausible");
    assert_eq!(out[0]["valueQuantity"]["value"], 140);
    assert_eq!(out[1]["extension"][1]["valueCode"], "unknown-signal");
    assert_eq!(out[1]["code"]["coding"][0]["code"], "lactate");
}

#[test]
fn every_known_channel_is_served_under_its_codes() {
    for channel in sensor::ALL.iter().flat_map(|sensor| sensor.channels) {
        let value = match channel.kind {
            sensor::Kind::Coded(codes) => Value::Code(codes[0].into()),
            _ => Value::Number { unit: channel.unit.into(), value: channel.plausible.high },
        };
        let out = served(vec![Signal { name: channel.name.into(), offset_ms: 0, value }]);
        assert_eq!(out.len(), 1, "{}", channel.name);
        let code = if channel.in_panel { &out[0]["component"][0]["code"] } else { &out[0]["code"] };
        let codes: Vec<&str> = code["coding"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect();
        assert!(codes.contains(&channel.name), "{codes:?}");
        assert!(!out[0].to_string().contains("doubt"), "{}", channel.name);
    }
}

#[test]
fn two_values_of_one_channel_are_two_observations() {
    let later = Signal { offset_ms: 500, ..number("pulse", "/min", Decimal::whole(81)) };
    let out = served(vec![number("pulse", "/min", Decimal::whole(80)), later]);
    assert_eq!(out[1]["effectiveDateTime"], "2026-11-21T10:00:00.500Z");
}

/// One second of everything that a sensor can say: a number or samples of each channel, one absent, one sample not valid, and the
/// first and last sample at the ends of what can be measured.
fn everything_of(sensor: &sensor::Sensor) -> Vec<Signal> {
    let channels = sensor.channels.iter().enumerate();
    channels
        .map(|(at, channel)| {
            let value = match channel.kind {
                sensor::Kind::Coded(codes) => Value::Code(codes[codes.len() - 1].into()),
                sensor::Kind::Numeric if at == 2 => Value::Absent(Absence::TempUnknown),
                sensor::Kind::Numeric => {
                    let (low, high) = (channel.plausible.low.to_f64(), channel.plausible.high.to_f64());
                    let value = Decimal::new(((low + (high - low) * 0.3) * 10.0) as i64, -1).unwrap();
                    Value::Number { unit: channel.unit.into(), value }
                }
                sensor::Kind::Waveform => Value::Waveform(Waveform {
                    unit: channel.unit.into(),
                    rate_hz: Decimal::whole(360),
                    origin: channel.plausible.low,
                    scale: Decimal::new(5, -3).unwrap(),
                    limits: Limits { low: Some(0), high: Some(4095) },
                    samples: Samples::I16(vec![0, 1, i16::MIN, 995, 4095]),
                }),
            };
            Signal { name: channel.name.into(), offset_ms: 0, value }
        })
        .collect()
}

#[test]
fn every_sensor_is_served_as_the_snapshot_says() {
    for sensor in sensor::ALL {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/observation/snapshots");
        let served = served(everything_of(sensor));
        for observation in &served {
            let bytes = serde_json::to_vec(observation).unwrap();
            let resource = Resource::parse(&bytes, fhir::Limits::RESOURCE).unwrap();
            assert_eq!(fhir::check(&resource), Ok(()), "{}", sensor.name);
        }
        let shown = serde_json::to_string_pretty(&served).unwrap();
        expect_test::expect_file![format!("{folder}/{}.json", sensor.name)].assert_eq(&format!("{shown}\n"));
    }
}

#[test]
fn a_sample_at_an_end_says_so_and_its_value_can_still_be_read() {
    let Value::Waveform(wave) = wave("ecg-i", Samples::I16(vec![-1024, 0, i16::MIN, 1023])).value else { panic!() };
    let value = Value::Waveform(Waveform { limits: Limits { low: Some(-1024), high: Some(1023) }, ..wave });
    let out = served(vec![Signal { name: "ecg-i".into(), offset_ms: 0, value }]);
    let data = &out[0]["component"][0]["valueSampledData"];
    assert_eq!(data["data"], "L 0 E U");
    assert_eq!((data["lowerLimit"].to_string(), data["upperLimit"].to_string()), ("-10.24".into(), "-0.005".into()));
}

#[test]
fn what_a_person_entered_is_marked_as_that() {
    let out = served(vec![
        Signal { name: "consciousness".into(), offset_ms: 0, value: Value::Code("V".into()) },
        number("gcs", "{score}", Decimal::whole(13)),
        number("spo2", "%", Decimal::whole(97)),
    ]);
    let entered = json!({"text": "Assessed and entered by a person"});
    assert_eq!((&out[0]["method"], &out[1]["method"], out[2].get("method")), (&entered, &entered, None));
}

#[test]
fn a_device_clock_is_shown_with_its_drift() {
    let mut out = served(vec![number("spo2", "%", Decimal::whole(97))]);
    show_clock(&mut out[0], &Estimate { offset_ms: -1_040, drift_ppm: Some(12.345) });
    let parts = out[0]["extension"][1]["extension"].as_array().unwrap();
    assert_eq!(parts[0]["valueQuantity"]["value"], -1_040);
    assert_eq!(parts[1]["valueQuantity"]["value"].to_string(), "12.3");
    assert_eq!(parts[1]["valueQuantity"]["code"], "[ppm]");
}
