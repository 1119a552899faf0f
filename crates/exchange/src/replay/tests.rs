//! An accident whose findings are computed again, as they were and with something changed.

use super::*;
use crate::{
    assess::{Learnt, Work},
    chart::Charted,
};
use record::{Digest, sha256};
use sensing::{
    Binding, DeviceState, Sequence, SigningKey, admit_frame,
    generated::{Story, Wearer},
};
use serde_json::json;

const PATIENT: &str = "p1";
const SECONDS: u64 = 660;

fn start() -> TimeMs {
    TimeMs::from_instant("2026-11-21T09:55:00.000Z").unwrap()
}

fn charted(record: String, value: Value) -> Charted {
    let commitment = Commitment(sha256(&[record.as_bytes(), value.to_string().as_bytes()]));
    Charted { said: Said { record, value }, commitment }
}

/// A day of a chart: who it is, what the nurse wrote down each hour, and a lactate.
fn chart() -> Vec<Charted> {
    let patient = json!({"resourceType": "Patient", "birthDate": "1961-04-02", "gender": "female"});
    let mut chart = vec![charted("Patient/p1/_history/1".to_owned(), patient)];
    for hour in 1..25u64 {
        let at = TimeMs(start().0 - hour * 3_600_000).to_instant();
        for (code, value, unit) in [
            ("8867-4", 92.0, "/min"),
            ("8480-6", 109.0, "mm[Hg]"),
            ("9269-2", 14.0, "{score}"),
            ("2524-7", 2.5, "mmol/L"),
        ] {
            let value = json!({
                "resourceType": "Observation", "status": "final", "effectiveDateTime": at,
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit}
            });
            chart.push(charted(format!("Observation/{code}-{hour}/_history/1"), value));
        }
    }
    chart.sort_by(|a, b| a.said.record.cmp(&b.said.record));
    chart
}

/// Eleven minutes of a bleeding patient with everything measured, as the engine and its writer would have it: two devices whose frames take turns, a
/// chart that is read, and an alarm that somebody acknowledges.
fn accident() -> (Asked, Held) {
    let devices = [("d1", 7u8), ("d2", 8)].map(|(id, seed)| {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let device = device_name(id).unwrap();
        let binding = Binding {
            device: device.clone(),
            key: key.verifying_key(),
            patient: format!("Patient/{PATIENT}"),
            binding: Id16([seed; 16]),
            from: start(),
            until: None,
        };
        (id, binding, Sequence::new(device, key), DeviceState::default())
    });
    let mut devices = devices;
    let mut wearer = Wearer::new(3, Story::Haemorrhage { onset_s: 240.0, duration_s: 120.0 }, 250);
    let mut work = Work::new(Id16([9; 16]));
    work.learn(Learnt { at: start(), chart: chart() });
    let mut held = Held::default();
    held.records.extend(chart().into_iter().map(|one| (one.said.record.clone(), one)));
    let (mut results, mut steps) = (Vec::<Written>::new(), Vec::new());
    for second in 0..SECONDS {
        let at = start().plus_ms(second * 1_000);
        let (waves, numbers): (Vec<_>, Vec<_>) = wearer
            .next_second()
            .signals
            .into_iter()
            .partition(|signal| matches!(signal.value, sensing::Value::Waveform(_)));
        let mut found = Vec::new();
        let turns = if second % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut parts = [waves, numbers];
        for turn in turns {
            let (id, binding, sequence, state) = &mut devices[turn];
            let frame = sequence.next(at, std::mem::take(&mut parts[turn])).unwrap();
            let (reading, next) = admit_frame(frame, binding, state, at).unwrap();
            *state = next;
            found.extend(work.assess(&reading));
            held.frames.insert(((*id).to_owned(), reading.counter), reading);
        }
        if second == 500 {
            work.acknowledge("systolic-low", at, "paramedic");
        }
        for found in found {
            let mut resource = show(&found.finding, &format!("Patient/{PATIENT}")).remove(0);
            let telling = work.run().telling(found.place);
            telling.put_into(&mut resource);
            let name = format!("{}/{}", resource["resourceType"].as_str().unwrap(), results.len());
            work.run().told(&telling, name.clone());
            let told = Told::read(&resource).unwrap();
            assert_eq!(told.from, steps.len() as u64);
            steps.extend(told.steps);
            // Written and read again, as a record is.
            let resource = serde_json::from_slice(&serde_json::to_vec(&resource).unwrap()).unwrap();
            results.push(Written { record: format!("{name}/_history/1"), resource, place: told.place });
        }
    }
    let result = results.pop().unwrap();
    let last = result.place.step as usize;
    steps.truncate(last);
    let run = Id16([9; 16]);
    (Asked { patient: PATIENT.to_owned(), run, result, earlier: Some(results), steps, measured: None }, held)
}

#[test]
fn every_finding_of_an_accident_comes_out_again_to_the_bit() {
    let (asked, held) = accident();
    let replayed = compute(&asked, held);
    assert!(replayed.equal, "{replayed:?}");
    assert_eq!(replayed.computed.as_ref(), Some(&replayed.digest));
    let run = replayed.run.unwrap();
    assert_eq!((run.equal, run.unequal.as_slice()), (run.results, &[][..]));
    for rule in [
        "alarm-limits",
        "ecg-heart-rate",
        "ecg-rate-alarms",
        "heart-rate-variability",
        "hospital-mortality",
        "mean-arterial-pressure",
        "mews",
        "news2",
        "next-hour-forecast",
        "posture",
        "pulse-rate",
        "qsofa",
        "respiration-rate",
        "shock-index",
        "sirs",
        "skin-conductance",
        "trend-forecast",
        "window-summary",
    ] {
        assert!(run.rules.contains_key(rule), "no finding of {rule} in {:?}", run.rules);
    }
    println!("{} findings in {} steps came out again: {:?}", run.results + 1, replayed.steps, run.rules);
}

#[test]
fn another_frame_another_record_and_another_order_are_noticed() {
    let check = |change: fn(&mut Asked, &mut Held), expected: &str| {
        let (mut asked, mut held) = accident();
        change(&mut asked, &mut held);
        let replayed = compute(&asked, held);
        assert!(!replayed.equal && replayed.said.contains(expected), "{expected}: {}", replayed.said);
        let run = replayed.run.unwrap_or_default();
        assert!(run.results == 0 || run.equal < run.results, "{expected}: {run:?}");
    };
    // A frame that its device signed as well, with other numbers.
    let other_frame = |_: &mut Asked, held: &mut Held| {
        let reading = held.frames.get_mut(&("d2".to_owned(), 100)).unwrap();
        reading.digest = sha256(&[b"another frame"]);
        reading.signals.clear();
    };
    check(other_frame, "what the engine took in was something else");
    let other_record = |_: &mut Asked, held: &mut Held| {
        let lactate = held.records.get_mut("Observation/2524-7-1/_history/1").unwrap();
        lactate.said.value["valueQuantity"]["value"] = json!(9.5);
        lactate.commitment = Commitment(sha256(&[b"another record"]));
    };
    check(other_record, "what the engine took in was something else");
    check(|asked, _| asked.steps.swap(40, 41), "what the engine took in was something else");
    check(|_, held| held.changed.push("frame 3 of Device/d1".to_owned()), "was changed, or is gone");
    let other_number = |asked: &mut Asked, _: &mut Held| {
        let text = asked.result.resource.to_string();
        let digest = part(&asked.result.resource, "digest");
        let other = text.replace(&digest, &Digest([0; 32]).to_hex());
        asked.result.resource = serde_json::from_str(&other).unwrap();
    };
    check_one(other_number, "the rule finds something else in the same frames");
}

/// Somebody who asked whether a result was computed as it says was told that it was changed, when its frames had gone by policy.
#[test]
fn a_result_whose_frames_were_let_go_is_not_called_changed() {
    let (asked, mut held) = accident();
    let let_go = "40 frames of Device/d1, counters 1 to 40: 2027-02-19T10:00:00.000Z, entry 1";
    held.frames.retain(|(_, counter), _| *counter > 40);
    held.let_go.push(let_go.to_owned());
    let replayed = compute(&asked, held);
    assert!(!replayed.equal && replayed.changed.is_empty());
    assert_eq!(replayed.let_go, [let_go]);
    assert!(replayed.said.contains("let go by policy"), "{}", replayed.said);
    // What was changed beside is said first.
    let (asked, mut held) = accident();
    held.let_go.push(let_go.to_owned());
    held.changed.push("frame 3 of Device/d1".to_owned());
    assert!(compute(&asked, held).said.contains("was changed, or is gone"));
}

/// A change of the asked result alone.
fn check_one(change: fn(&mut Asked, &mut Held), expected: &str) {
    let (mut asked, mut held) = accident();
    change(&mut asked, &mut held);
    let replayed = compute(&asked, held);
    assert!(!replayed.equal && replayed.said.contains(expected), "{expected}: {}", replayed.said);
    let run = replayed.run.unwrap();
    assert_eq!(run.equal, run.results);
}
