//! Results of analytics at the gateway: what they know of the person, what they cite, whether they come out again, and what an alarm brings about.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium, PATIENCE,
    client::Client,
    sensor::{Sensor, now},
    vitaltrace,
};
use futures::StreamExt as _;
use record::TimeMs;
use sensing::{
    Decimal, Signal, Value as Measured,
    generated::{Story, Wearer},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Rules of which the stretch has results, at least.
const RULES: usize = 12;
const MERCY: &str = "mercy-hospital";
const RULE: &str = "https://vitaltrace.org/fhir/CodeSystem/rule";
const FINDING: &str = "https://vitaltrace.org/fhir/StructureDefinition/finding";
const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";

struct Site {
    consortium: Consortium,
    doctor: Client,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
        let doctor = consortium.client(MERCY, "doctor");
        Self { consortium, doctor }
    }

    async fn patient(&self) -> String {
        let patient = json!({"resourceType": "Patient", "birthDate": "1961-04-02", "gender": "female"});
        self.doctor.create(&patient).await.id()
    }

    /// A device that measures since a quarter of an hour ago.
    async fn sensor(&self, patient: &str, seed: u8) -> Sensor {
        let id = self.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let sequence = sensing::Sequence::new(exchange::device_name(&id).unwrap(), key.clone());
        let since = TimeMs(now().0 - 15 * 60_000).to_instant();
        let bind = json!({"patient": patient, "key": hex::encode(key.verifying_key().as_bytes()), "since": since});
        self.doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await.good();
        Sensor { id, key, sequence }
    }

    /// All results of a patient.
    async fn all_results(&self, patient: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for kind in ["Observation", "RiskAssessment", "DetectedIssue"] {
            let page = self.doctor.get(&format!("/fhir/{kind}?patient={patient}&_count=1000")).await.good().json();
            found.extend(page["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone()));
        }
        found.retain(|resource| !part(resource, "rule").is_empty());
        found
    }

    /// A patient's results of a rule, once there are any.
    async fn results(&self, patient: &str, rule: &str) -> Vec<Value> {
        let begin = Instant::now();
        loop {
            let mut found = self.all_results(patient).await;
            found.retain(|resource| part(resource, "rule") == rule);
            if !found.is_empty() {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "no result of `{rule}`");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A part of a result's extension.
fn part(resource: &Value, name: &str) -> String {
    let own = resource["extension"].as_array().into_iter().flatten().find(|one| one["url"] == FINDING);
    let part = own.and_then(|own| own["extension"].as_array()?.iter().find(|part| part["url"] == name));
    let text = part.and_then(|part| part["valueCode"].as_str().or(part["valueString"].as_str()));
    text.unwrap_or_default().to_owned()
}

/// How many steps a result's run had before those that it carries.
fn from(resource: &Value) -> u64 {
    let own = resource["extension"].as_array().unwrap().iter().find(|one| one["url"] == FINDING).unwrap();
    let from = own["extension"].as_array().unwrap().iter().find(|part| part["url"] == "from").unwrap();
    from["valueDecimal"].as_u64().unwrap()
}

fn number(name: &str, unit: &str, value: f64) -> Signal {
    let value = Measured::Number { unit: unit.to_owned(), value: Decimal::from_f64(value).unwrap() };
    Signal { name: name.to_owned(), offset_ms: 0, value }
}

fn named(resource: &Value) -> String {
    format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
}

/// Charted values of the last day, one of each an hour.
async fn write_chart(doctor: &Client, patient: &str) {
    let mut entries = Vec::new();
    for hour in 1..25u64 {
        let at = TimeMs(now().0 - hour * 3_600_000).to_instant();
        for (code, value, unit) in [
            ("8867-4", 92.0, "/min"),
            ("8480-6", 109.0, "mm[Hg]"),
            ("9269-2", 14.0, "{score}"),
            ("2524-7", 2.5, "mmol/L"),
        ] {
            let observation = json!({
                "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
                "effectiveDateTime": at, "code": {"coding": [{"system": LOINC, "code": code}]},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit, "unit": unit}
            });
            entries.push(json!({"resource": observation, "request": {"method": "POST", "url": "Observation"}}));
        }
    }
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    doctor.post("/fhir", &bundle).await.good();
}

/// The result that no other one follows. Where all steps were taken before much was written, many results begin at the same step: which of them
/// came last is in none of their numbers, and this test failed whenever it took an early one for it.
fn last_of(all: &[Value]) -> Option<&Value> {
    let followed: BTreeSet<String> = all.iter().map(|resource| part(resource, "after")).collect();
    all.iter().filter(|resource| !followed.contains(&named(resource))).max_by_key(|resource| from(resource))
}

/// A patient's results, once the last run has those of twelve rules. Models are asked at every tenth minute of the clock: where that comes
/// early in the stretch, theirs are here before most others, and this test failed whenever nothing else was waited for.
async fn all_of_the_stretch(site: &Site, patient: &str) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let mut all = site.all_results(patient).await;
        all.retain(|resource| !part(resource, "run").is_empty());
        let run = last_of(&all).map(|last| part(last, "run"));
        let of_run = all.iter().filter(|resource| Some(part(resource, "run")) == run);
        let rules: BTreeSet<String> = of_run.map(|resource| part(resource, "rule")).collect();
        if rules.len() >= RULES {
            return all;
        }
        assert!(begin.elapsed() < PATIENCE, "results of these rules alone: {rules:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_result_comes_out_again_and_a_changed_frame_is_named() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let patient = site.patient().await;
    write_chart(doctor, &patient).await;
    let mut sensor = site.sensor(&patient, 21).await;
    // Eleven minutes, which have one moment of the models in them at least.
    let mut wearer = Wearer::new(5, Story::Haemorrhage { onset_s: 60.0, duration_s: 120.0 }, 250);
    let begin = TimeMs(now().0 - 662_000);
    let mut frames = Vec::new();
    for second in 0..660u64 {
        let signals = wearer.next_second().signals;
        let sent = second < 180 || second % 20 == 0;
        // Most of the waveforms are left out: the numbers alone go on.
        let waves = second < 180;
        let own = signals.into_iter().filter(|signal| waves || !matches!(signal.value, Measured::Waveform(_)));
        if sent {
            frames.push(sensor.sequence.next(begin.plus_ms(second * 1_000), own.collect()).unwrap());
        }
    }
    for some in frames.chunks(32) {
        doctor.send_frames(some).await.good();
    }
    let risk = site.results(&patient, "hospital-mortality").await.remove(0);
    let forecast = site.results(&patient, "next-hour-forecast").await.remove(0);
    site.consortium.settle().await;

    // What the model is, what it rests on, and what it is not for.
    let prediction = &risk["prediction"][0];
    assert!(prediction["probabilityDecimal"].as_f64().is_some_and(|risk| (0.0..1.0).contains(&risk)), "{risk}");
    let basis: BTreeSet<&str> =
        risk["basis"].as_array().unwrap().iter().map(|to| to["reference"].as_str().unwrap()).collect();
    assert!(basis.contains(format!("Patient/{patient}/_history/1").as_str()) && basis.len() > 50, "{basis:?}");
    assert!(risk["note"][0]["text"].as_str().unwrap().contains("not for treating anybody"));
    let model =
        risk["method"]["coding"].as_array().unwrap().iter().find(|one| one["code"] == "icu-mortality-1").unwrap();
    assert_eq!(model["version"], part(&risk, "model").as_str());
    assert!(forecast["prediction"][0]["probabilityDecimal"] == json!(0.9), "{forecast}");

    // Each kind comes out again, by itself, and all that was written before the last one with it.
    let all = all_of_the_stretch(&site, &patient).await;
    let last = last_of(&all).unwrap();
    let replayed = doctor.get(&format!("/fhir/{}/$replay?run=true", named(last))).await.good().json();
    assert_eq!((&replayed["equal"], &replayed["run"]["unequal"]), (&json!(true), &json!([])), "{replayed}");
    assert_eq!(replayed["run"]["equal"], replayed["run"]["results"]);
    let (count, rules) =
        (replayed["run"]["results"].as_u64().unwrap(), replayed["run"]["rules"].as_object().unwrap().len());
    // A run ends when the chart has changed: how many of all results are of the last one, the time decides.
    assert!(count >= rules as u64 && count <= all.len() as u64 && rules >= RULES, "{replayed}");
    for result in [&risk, &forecast] {
        let replayed = doctor.get(&format!("/fhir/{}/$replay", named(result))).await.good().json();
        assert_eq!(
            (&replayed["equal"], &replayed["computed"]),
            (&json!(true), &json!(part(result, "digest"))),
            "{replayed}"
        );
    }
    println!("{count} results of {rules} rules came out again");

    // By the command line, and of what is no result.
    let config = site.consortium.node(MERCY).dir.display().to_string();
    let said = vitaltrace(["replay", &named(&risk), "--config", &config]);
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).contains(": equal"));
    assert_eq!(doctor.get(&format!("/fhir/Patient/{patient}/$replay")).await.status, 422);
    assert_eq!(doctor.get("/fhir/RiskAssessment/nobody/$replay").await.status, 404);
    assert_eq!(vitaltrace(["replay", "x y", "--config", &config]).status.code(), Some(2));

    // A byte of one frame changes, and the replay says which.
    let counter = frames[50].counter();
    let changed = "UPDATE frame SET bytes = zeroblob(100) WHERE counter = ?1 AND device LIKE '%' || ?2";
    site.consortium.sql(changed, rusqlite::params![i64::try_from(counter).unwrap(), sensor.id]);
    let replayed = doctor.get(&format!("/fhir/{}/$replay", named(last))).await.good().json();
    assert_eq!(replayed["equal"], false);
    let name = format!("frame {counter} of Device/{}", sensor.id);
    assert!(replayed["changed"].as_array().unwrap().contains(&json!(name)), "{replayed}");
    assert_eq!(vitaltrace(["replay", &named(last), "--config", &config]).status.code(), Some(1));
}

/// What waited for its turn, and readings that were answered just before, were lost whenever a gateway stopped.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_is_written_before_a_gateway_stops() {
    let mut site = Site::new().await;
    let patient = site.patient().await;
    let mut sensor = site.sensor(&patient, 41).await;
    let mut wearer = Wearer::new(6, Story::Stable, 250);
    let begin = TimeMs(now().0 - 260_000);
    let mut next = |second: u64| sensor.sequence.next(begin.plus_ms(second * 1_000), wearer.next_second().signals);
    // With all their waves, so that rules have something to do until the end.
    let frames: Vec<_> = (0..250).map(|second| next(second).unwrap()).collect();
    site.doctor.send_frames(&frames).await.good();
    let node = site.consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    node.start();
    node.wait_until_up().await;
    let summaries = site.all_results(&patient).await.into_iter().filter(|one| part(one, "rule") == "window-summary");
    let minutes: BTreeSet<String> =
        summaries.map(|one| one["effectivePeriod"]["start"].as_str().unwrap()[..16].to_owned()).collect();
    assert!(minutes.len() >= 3, "four minutes were measured, of these there are summaries: {minutes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pregnant_patient_has_no_news2_and_scale_2_counts_where_somebody_scored_by_it() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let signals = || {
        vec![
            number("resp-rate", "/min", 16.0),
            number("spo2", "%", 90.0),
            number("nibp-sys", "mm[Hg]", 120.0),
            number("heart-rate", "/min", 70.0),
            number("temp-body", "Cel", 37.0),
            Signal { name: "consciousness".into(), offset_ms: 0, value: Measured::Code("A".into()) },
            Signal { name: "oxygen".into(), offset_ms: 0, value: Measured::Code("air".into()) },
        ]
    };
    let mut totals = Vec::new();
    for (seed, coded) in [(31, None), (32, Some("1104321000000108"))] {
        let patient = site.patient().await;
        if let Some(code) = coded {
            let scored = json!({
                "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
                "effectiveDateTime": TimeMs(now().0 - 3_600_000).to_instant(), "valueInteger": 0,
                "code": {"coding": [{"system": SNOMED, "code": code}]}
            });
            doctor.create(&scored).await;
        }
        let mut sensor = site.sensor(&patient, seed).await;
        // A score that did not change is said again after a minute: then it is complete from its first input on.
        for ago_s in [80, 60, 40, 20, 0] {
            let at = TimeMs(now().0 - ago_s * 1_000);
            doctor.send_frame(&sensor.sequence.next(at, signals()).unwrap()).await.good();
        }
        let begin = Instant::now();
        let total = loop {
            let scores = site.results(&patient, "news2").await;
            if let Some(total) = scores.iter().find_map(|score| score["valueQuantity"]["value"].as_f64()) {
                break total;
            }
            assert!(begin.elapsed() < PATIENCE, "no complete score: {scores:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        totals.push(total);
    }
    // A saturation of 90 % on air: 3 points by scale 1, none by scale 2.
    assert_eq!(totals, [3.0, 0.0]);

    let patient = site.patient().await;
    let pregnancy = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")},
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "code": {"coding": [{"system": SNOMED, "code": "77386006", "display": "Pregnancy"}]}
    });
    doctor.create(&pregnancy).await;
    let mut sensor = site.sensor(&patient, 33).await;
    for ago_s in [20, 0] {
        let at = TimeMs(now().0 - ago_s * 1_000);
        doctor.send_frame(&sensor.sequence.next(at, signals()).unwrap()).await.good();
    }
    // What is for everybody is there, so the scores had their turn.
    site.results(&patient, "shock-index").await;
    let page = doctor.get(&format!("/fhir/Observation?patient={patient}&_count=100")).await.good().json();
    let rules: BTreeSet<String> =
        page["entry"].as_array().unwrap().iter().map(|entry| part(&entry["resource"], "rule")).collect();
    assert!(!rules.contains("news2") && !rules.contains("mews"), "{rules:?}");
    let by_code = doctor.get(&format!("/fhir/Observation?patient={patient}&code={RULE}|mews")).await.good().json();
    assert_eq!(by_code["entry"].as_array().map_or(0, Vec::len), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_high_priority_is_shown_at_once_and_brings_its_protocol_until_it_is_over() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let patient = site.patient().await;
    let mut sensor = site.sensor(&patient, 41).await;
    let address = format!("ws://{}/fhir/Patient/{patient}/$stream", site.consortium.node(MERCY).http);
    let mut request = address.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", doctor.token).parse().unwrap());
    let (mut stream, _) = tokio_tungstenite::connect_async(request.clone()).await.unwrap();
    let alarm_of = async |stream: &mut Stream| loop {
        let message = tokio::time::timeout(PATIENCE, stream.next()).await.expect("nothing is shown").unwrap().unwrap();
        let Message::Text(text) = message else { continue };
        let told: Value = serde_json::from_str(&text).unwrap();
        if told["alarm"].is_object() {
            return told["alarm"].clone();
        }
    };
    let mut pressure = async |mmhg: f64| {
        let frame = sensor.sequence.next(now(), vec![number("nibp-sys", "mm[Hg]", mmhg)]).unwrap();
        doctor.send_frame(&frame).await.good();
    };
    pressure(82.0).await;
    // Shown before anything of it is written, and once more when it is.
    let shown = alarm_of(&mut stream).await;
    assert_eq!((&shown["name"], &shown["priority"]), (&json!("systolic-low"), &json!("high")));
    assert!(shown["issue"].is_null() && shown["flag"].is_null() && shown["task"].is_null(), "{shown}");
    let alarm = alarm_of(&mut stream).await;
    assert_eq!(alarm["id"], shown["id"]);
    let task_name = alarm["task"].as_str().unwrap().to_owned();
    let task = doctor.get(&format!("/fhir/{task_name}")).await.good().json();
    assert_eq!((&task["status"], &task["focus"]["reference"]), (&json!("requested"), &alarm["issue"]));
    assert!(task["description"].as_str().unwrap().contains("NICE NG39"), "{task}");
    // Whoever comes later is shown what sounds.
    let (mut later, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(alarm_of(&mut later).await["id"], alarm["id"]);
    // It sounds once, and goes on until somebody takes notice.
    pressure(80.0).await;
    pressure(120.0).await;
    let id = alarm["id"].as_str().unwrap();
    doctor.post(&format!("/alarm/{id}/acknowledge"), &json!({})).await.good();
    let acknowledged = alarm_of(&mut stream).await;
    assert_eq!((&acknowledged["acknowledged"]["by"], &acknowledged["ended"]), (&json!("doctor"), &Value::Null));
    pressure(121.0).await;
    let ended = alarm_of(&mut stream).await;
    assert!(ended["id"] == alarm["id"] && ended["ended"].is_string(), "{ended}");
    let task = doctor.get(&format!("/fhir/{task_name}")).await.good().json();
    assert_eq!(task["status"], "completed");
    let tasks = doctor.get(&format!("/fhir/Task?patient={patient}")).await.good().json();
    assert_eq!(tasks["entry"].as_array().unwrap().len(), 1);
    // The raised and the ended alarm come out again.
    site.consortium.settle().await;
    for issue in site.results(&patient, "alarm-limits").await {
        let replayed = doctor.get(&format!("/fhir/{}/$replay", named(&issue))).await.good().json();
        assert_eq!(replayed["equal"], true, "{replayed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_nobody_answers_escalates_and_its_sound_can_be_paused() {
    let mut consortium = Consortium::found(&consortium::FOUR).await;
    consortium.add_user(MERCY, "doctor", "doctor", None);
    let config = consortium.node(MERCY).dir.join("vitaltrace.toml");
    let told = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{told}\n[alarms]\nhigh_escalates_s = 20\n")).unwrap();
    consortium.start_all().await;
    let doctor = consortium.client(MERCY, "doctor");
    let site = Site { consortium, doctor };
    let doctor = &site.doctor;
    let patient = site.patient().await;
    let mut sensor = site.sensor(&patient, 51).await;
    let alarms = async || doctor.get(&format!("/alarm?patient={patient}")).await.good().json();
    assert_eq!(alarms().await["paused"], Value::Null);
    let pause =
        async |minutes: u32| doctor.post("/alarm/pause", &json!({"patient": patient, "minutes": minutes})).await;
    assert_eq!(pause(0).await.status, 409);
    assert_eq!(pause(11).await.status, 422);
    let paused = pause(10).await.good().json()["paused"].clone();
    assert_eq!((&paused["by"], &alarms().await["paused"]), (&json!("doctor"), &paused));
    assert!(paused["until"].as_str() > paused["from"].as_str());

    // Two pressures that are too low: one patient's alarm is answered, the other's is not.
    let other = site.patient().await;
    let mut others = site.sensor(&other, 52).await;
    let low = async |sensor: &mut Sensor, mmhg: f64| {
        let frame = sensor.sequence.next(now(), vec![number("nibp-sys", "mm[Hg]", mmhg)]).unwrap();
        doctor.send_frame(&frame).await.good();
    };
    for sensor in [&mut sensor, &mut others] {
        low(sensor, 120.0).await;
        low(sensor, 82.0).await;
    }
    let raised = async |patient: &str| {
        let begin = Instant::now();
        loop {
            let all = doctor.get(&format!("/alarm?patient={patient}")).await.good().json();
            if let Some(alarm) = all["alarms"].as_array().unwrap().iter().find(|alarm| alarm["flag"].is_string()) {
                return alarm.clone();
            }
            assert!(begin.elapsed() < PATIENCE, "no alarm");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answered = raised(&other).await;
    doctor.post(&format!("/alarm/{}/acknowledge", answered["id"].as_str().unwrap()), &json!({})).await.good();
    let begin = Instant::now();
    let escalated = loop {
        let alarm = raised(&patient).await;
        if alarm["escalated"].is_string() {
            break alarm;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not escalate: {alarm}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    // Alarms are shown while they are paused.
    assert_eq!(alarms().await["paused"], paused);
    assert!(pause(0).await.good().json()["paused"]["until"].is_string());
    assert_eq!(alarms().await["paused"], Value::Null);
    // The Flag is written once everybody is told.
    let begin = Instant::now();
    let says = |flag: &Value| flag["extension"].to_string().contains("/alarm-escalated");
    while !says(&doctor.get(&format!("/fhir/{}", escalated["flag"].as_str().unwrap())).await.good().json()) {
        assert!(begin.elapsed() < PATIENCE, "the Flag does not say it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let flag = doctor.get(&format!("/fhir/{}", escalated["flag"].as_str().unwrap())).await.good().json();
    let said = flag["extension"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["url"].as_str().unwrap().ends_with("/alarm-escalated"));
    assert_eq!(said.unwrap()["valueInstant"], escalated["escalated"]);
    assert_eq!(raised(&other).await["escalated"], Value::Null);

    let texts = doctor.get(&format!("/fhir/Communication?patient={patient}")).await.good().json();
    let said: Vec<&str> = texts["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["payload"][0]["contentString"].as_str().unwrap())
        .collect();
    assert!(said.len() == 2 && said.contains(&"alarms sound again"), "{said:?}");
    let metrics = doctor.get("/metrics").await;
    let text = metrics.text();
    for line in [
        "vitaltrace_alarms_total{kind=\"high\"} 2",
        "vitaltrace_alarms_escalated_total 1",
        "vitaltrace_patients_watched_seconds_total ",
    ] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
}
