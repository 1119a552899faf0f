//! What sensors said, found by FHIR searches: beside what people entered, by code and date, a page at a time, for those who may see it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium,
    client::{Answer, Client},
    sensor::{Sensor, now, temperature},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use record::TimeMs;
use sensing::{Decimal, Limits, Samples, Signal, Value, Waveform};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

const MERCY: &str = "mercy-hospital";
const HEART_RATE: &str = "code=http://loinc.org|8867-4";
/// Seconds of a monitor, and of an oximeter that begins with it.
const MONITORED: u64 = 90;
const OXIMETERED: u64 = 40;

struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
    other: String,
    begin: TimeMs,
}

fn number(name: &str, unit: &str, value: i32) -> Signal {
    let value = Value::Number { unit: unit.into(), value: Decimal::whole(value) };
    Signal { name: name.into(), offset_ms: 0, value }
}

fn ecg(second: u64) -> Signal {
    let samples = Samples::I16((0..20).map(|n| n + second as i16).collect());
    let (origin, scale) = (Decimal::ZERO, Decimal::new(5, -3).unwrap());
    let wave =
        Waveform { unit: "mV".into(), rate_hz: Decimal::whole(20), origin, scale, limits: Limits::NONE, samples };
    Signal { name: "ecg-ii".into(), offset_ms: 0, value: Value::Waveform(wave) }
}

impl Site {
    /// A patient with a monitor, an oximeter and three heart rates that a person entered; another one with a heart rate.
    async fn new() -> (Self, Sensor) {
        let people = [
            (MERCY, "doctor", "doctor"),
            (MERCY, "officer", "privacy-officer"),
            (MERCY, "desk", "administrator"),
            ("health-inspectorate", "inspector", "compliance"),
        ];
        let consortium = Consortium::running(&people).await;
        let doctor = consortium.client(MERCY, "doctor");
        let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]});
        let (patient, other) = (doctor.create(&person).await.id(), doctor.create(&person).await.id());
        consortium.settle().await;
        let begin = TimeMs(now().0 - 600_000);
        let site = Self { consortium, doctor, patient, other, begin };
        let (mut monitor, mut oximeter) = (site.sensor(1).await, site.sensor(2).await);
        for after_ms in [10_500, 50_500] {
            site.enter(&site.patient, begin.plus_ms(after_ms)).await;
        }
        site.enter(&site.patient, TimeMs(begin.0 - 86_400_000)).await;
        site.enter(&site.other, begin.plus_ms(20_000)).await;
        let mut frames = Vec::new();
        for second in 0..MONITORED {
            let signals =
                [temperature(36.8), vec![number("heart-rate", "/min", 60 + second as i32), ecg(second)]].concat();
            frames.push(monitor.sequence.next(begin.plus_ms(second * 1_000), signals).unwrap());
        }
        // A heartbeat says nothing, and is no match.
        frames.push(monitor.sequence.next(begin.plus_ms(MONITORED * 1_000), Vec::new()).unwrap());
        for second in 0..OXIMETERED {
            let signals = vec![number("spo2", "%", 97)];
            frames.push(oximeter.sequence.next(begin.plus_ms(second * 1_000), signals).unwrap());
        }
        let answers = site.doctor.send_frames(&frames).await.good().json();
        assert!(answers["answers"].as_array().unwrap().iter().all(|answer| answer["status"] == 201), "{answers}");
        (site, monitor)
    }

    async fn sensor(&self, seed: u8) -> Sensor {
        let id = self.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let since = self.begin.to_instant();
        let bind = json!({"patient": self.patient, "key": hex::encode(key.verifying_key().as_bytes()), "since": since});
        let begun = self.doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await.good().json();
        assert_eq!(begun["counted"], 0);
        let sequence = sensing::Sequence::new(exchange::device_name(&id).unwrap(), key.clone());
        Sensor { id, key, sequence }
    }

    async fn enter(&self, patient: &str, at: TimeMs) {
        let resource = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
            "effectiveDateTime": at.to_instant(), "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        self.doctor.create(&resource).await;
    }

    /// Waits until final batches cover every frame.
    async fn until_final(&self) {
        let range = format!("start={}&end={}", self.at(0), self.at(3_600));
        let path = format!("/fhir/Patient/{}/$signals?{range}", self.patient);
        let began = std::time::Instant::now();
        loop {
            let read = self.doctor.get(&path).await.good().json();
            assert_eq!((&read["withheld"], &read["frames"]), (&json!(0), &json!(MONITORED + 1 + OXIMETERED)));
            if read["pending"] == 0 {
                break;
            }
            assert!(began.elapsed() < consortium::PATIENCE, "{} frames are in no final batch", read["pending"]);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        self.consortium.settle().await;
    }

    fn at(&self, second: u64) -> String {
        self.begin.plus_ms(second * 1_000).to_instant()
    }

    fn path(&self, query: &str) -> String {
        format!("/fhir/Observation?patient={}&{query}", self.patient)
    }

    /// The matches of all pages, each at most so long, by the links alone.
    async fn all(&self, client: &Client, query: &str, most: usize) -> Vec<Json> {
        let (mut next, mut found) = (Some(self.path(query)), Vec::new());
        while let Some(path) = next {
            let page = client.get(&path).await.good();
            let matches = matches(&page);
            assert!(matches.len() <= most, "{path}");
            found.extend(matches);
            next = link(&page, "next").map(|url| url.strip_prefix(&client.base).unwrap().to_owned());
            assert!(found.len() <= 1_000, "the pages of {query} have no end");
        }
        found
    }

    async fn total(&self, client: &Client, query: &str) -> u64 {
        client.get(&self.path(&format!("{query}&_summary=count"))).await.good().json()["total"].as_u64().unwrap()
    }
}

fn matches(page: &Answer) -> Vec<Json> {
    let page = page.json();
    let entries = page["entry"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["search"]["mode"] == "match").map(|entry| entry["resource"].clone()).collect()
}

fn link(page: &Answer, relation: &str) -> Option<String> {
    let page = page.json();
    let link = page["link"].as_array()?.iter().find(|link| link["relation"] == relation)?.clone();
    Some(link["url"].as_str()?.to_owned())
}

/// What an answer says beside its matches.
fn said(page: &Answer) -> String {
    let page = page.json();
    let outcomes = page["entry"].as_array().into_iter().flatten().filter(|entry| entry["search"]["mode"] == "outcome");
    outcomes.map(|entry| entry["resource"]["issue"].to_string()).collect()
}

fn ids(found: &[Json]) -> BTreeSet<String> {
    found.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn began(observation: &Json) -> String {
    let period = &observation["effectivePeriod"]["start"];
    observation["effectiveDateTime"].as_str().or(period.as_str()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_sensors_said_among_what_people_entered_a_page_at_a_time() {
    let (site, mut monitor) = Site::new().await;
    let doctor = &site.doctor;
    let of_code = MONITORED as usize + 3;
    // By date, in both directions; before the ledger has the frames and after.
    for final_by_now in [false, true] {
        if final_by_now {
            site.until_final().await;
        }
        let newest = site.all(doctor, &format!("{HEART_RATE}&_sort=-date&_count=25"), 25).await;
        let oldest = site.all(doctor, &format!("{HEART_RATE}&_sort=date&_count=40"), 40).await;
        assert_eq!((newest.len(), ids(&newest).len()), (of_code, of_code));
        let times: Vec<String> = newest.iter().map(began).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
        assert!(newest.iter().all(|one| one["code"]["coding"][0]["code"] == "8867-4"));
        let backwards: Vec<&Json> = newest.iter().rev().collect();
        assert_eq!(oldest.iter().collect::<Vec<_>>(), backwards);
    }
    // In no order: what people entered first. All on one page, with their number.
    let page = doctor.get(&site.path(&format!("{HEART_RATE}&_count=200"))).await.good();
    assert_eq!((page.json()["total"].as_u64(), link(&page, "next")), (Some(of_code as u64), None));
    let entered: Vec<bool> = matches(&page).iter().map(|one| one["extension"].is_null()).collect();
    assert_eq!(entered, [vec![true; 3], vec![false; MONITORED as usize]].concat());
    let unordered = site.all(doctor, &format!("{HEART_RATE}&_count=2"), 2).await;
    assert_eq!(ids(&unordered), ids(&matches(&page)));
    // By time, by another code, by what it is, by value; every signal of a frame is a match of its own.
    let range = format!("date=ge{}&date=lt{}", site.at(30), site.at(60));
    for (query, count) in [
        (format!("{HEART_RATE}&{range}"), 31),
        (format!("code=ecg-ii&{range}"), 0),
        (format!("component-code=ecg-ii&{range}"), 30),
        (format!("code=2708-6,8867-4&{range}"), 30 + 1 + 10),
        (format!("device=Device/{}&{range}", monitor.id), 3 * 30),
        (format!("category=vital-signs&device=Device/{}&{range}", monitor.id), 30 * 2),
        (format!("{HEART_RATE}&date={}", site.at(7)), 1),
        (format!("{HEART_RATE}&value-quantity=gt140"), 9),
        (format!("{HEART_RATE}&device=Device/{}", monitor.id), MONITORED),
        ("code=8310-5".to_owned(), MONITORED),
        ("code=85354-9".to_owned(), 0),
        ("category=laboratory".to_owned(), 0),
        ("encounter=Encounter/e".to_owned(), 0),
        (format!("{HEART_RATE}&date=gt{}", site.at(10_000)), 0),
    ] {
        assert_eq!(site.total(doctor, &query).await, count, "{query}");
        assert_eq!(site.all(doctor, &format!("{query}&_count=50"), 50).await.len() as u64, count, "{query}");
    }
    // Each is read under the id that it was found by, as it was found; all that a frame said under the frame's.
    let found = matches(
        &doctor.get(&site.path(&format!("device=Device/{}&{range}&_sort=date&_count=3", monitor.id))).await.good(),
    );
    for one in &found {
        let read = doctor.get(&format!("/fhir/Observation/{}", one["id"].as_str().unwrap())).await.good();
        assert_eq!(read.json(), *one);
    }
    let digest = found[0]["extension"][0]["extension"][1]["valueString"].as_str().unwrap();
    let whole = doctor.get(&format!("/fhir/Observation/{digest}")).await.good().json();
    assert_eq!(whole["contained"].as_array().unwrap().len(), 2);
    let single = matches(&doctor.get(&site.path("code=2708-6&_count=1")).await.good());
    assert_eq!(
        single[0]["id"], single[0]["extension"][0]["extension"][1]["valueString"],
        "a frame that says one thing"
    );
    // By its name alone, and of the patient by the whole address.
    let named = doctor.get(&format!("/fhir/Observation?_id={}", found[0]["id"].as_str().unwrap())).await.good();
    assert_eq!(matches(&named), [found[0].clone()]);
    let whole =
        format!("/fhir/Observation?patient={}/fhir/Patient/{}&code=2708-6&_count=200", doctor.base, site.patient);
    assert_eq!(matches(&doctor.get(&whole).await.good()).len() as u64, OXIMETERED);
    let unknown = format!("{}.4", found[0]["id"].as_str().unwrap().split_once('.').unwrap().0);
    assert_eq!(doctor.get(&format!("/fhir/Observation/{unknown}")).await.status, 404);
    // What comes meanwhile takes nothing away from the pages that follow.
    let first = doctor.get(&site.path(&format!("{HEART_RATE}&_sort=-date&_count=10"))).await.good();
    let late = vec![number("heart-rate", "/min", 99)];
    let late = monitor.sequence.next(now(), late).unwrap();
    assert_eq!(doctor.send_frame(&late).await.status, 201);
    let next = link(&first, "next").unwrap();
    let second = doctor.get(next.strip_prefix(&doctor.base).unwrap()).await.good();
    assert!(ids(&matches(&first)).is_disjoint(&ids(&matches(&second))));
    let newest = matches(&doctor.get(&site.path(&format!("{HEART_RATE}&_sort=-date&_count=1"))).await.good());
    assert_eq!(newest[0]["id"], late.digest().to_string());
    for wrong in ["_cursor=1~2", "_cursor=-~1_2", "_cursor=~", "_cursor=.~1_2_x"] {
        assert_eq!(doctor.get(&site.path(wrong)).await.status, 422, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sensors_said_is_found_by_those_alone_who_may_see_it_and_never_when_it_was_changed() {
    let (site, _) = Site::new().await;
    let doctor = &site.doctor;
    site.until_final().await;
    // Another patient's search finds nothing of it.
    let others = doctor.get(&format!("/fhir/Observation?patient={}&{HEART_RATE}", site.other)).await.good();
    assert_eq!(others.json()["total"], 1);
    // Neither pages nor numbers nor remarks tell those who may not see it that there is anything.
    let inspector = site.consortium.client("health-inspectorate", "inspector").for_purpose("HCOMPL");
    let desk = site.consortium.client(MERCY, "desk");
    for client in [&inspector, &desk] {
        for query in ["_count=1", "_sort=-date&_count=1", "_summary=count", "_sort=_lastUpdated"] {
            let page = client.get(&site.path(query)).await.good();
            let page = (page.json()["total"].as_u64(), matches(&page).len(), link(&page, "next"), said(&page));
            assert_eq!(page, (Some(0), 0, None, String::new()), "{query}");
        }
        let frame = &matches(&doctor.get(&site.path("code=2708-6&_count=1")).await.good())[0];
        assert_eq!(client.get(&format!("/fhir/Observation/{}", frame["id"].as_str().unwrap())).await.status, 403);
    }
    // Among other types it is found all the same, and shown to the same people.
    let alone = async || ids(&matches(&doctor.get(&site.path("_count=500")).await.good()));
    for path in [
        format!("/fhir?_type=Condition,Observation&patient={}&_count=500", site.patient),
        format!("/fhir/Patient/{}/*?_type=Observation&_count=500", site.patient),
    ] {
        // Results of analytics come meanwhile, each in its turn.
        let (page, expected) = loop {
            let (before, page, after) = (alone().await, doctor.get(&path).await.good(), alone().await);
            if before == after {
                break (page, after);
            }
        };
        assert_eq!((ids(&matches(&page)), said(&page)), (expected, String::new()), "{path}");
        assert_eq!(ids(&matches(&desk.get(&path).await.good())), BTreeSet::new(), "{path}");
    }
    // Every measurement that was shown stands in the trail.
    let query = format!("{HEART_RATE}&date=ge{}&_sort=date&_count=5", site.at(3));
    let shown = matches(&doctor.get(&site.path(&query)).await.good());
    let officer = site.consortium.client(MERCY, "officer").for_purpose("HOPERAT");
    let trail = officer.get(&format!("/fhir/AuditEvent?patient={}&_count=500", site.patient)).await.good().json();
    let asked = |entity: &Json| {
        let text = STANDARD.decode(entity["query"].as_str().unwrap_or_default()).unwrap();
        String::from_utf8(text).unwrap().contains(&query)
    };
    let events = trail["entry"].as_array().unwrap().iter().map(|entry| entry["resource"]["entity"].as_array().unwrap());
    let event = events.into_iter().find(|entities| entities.iter().any(asked)).unwrap();
    let named: BTreeSet<String> = event
        .iter()
        .filter_map(|entity| {
            entity["what"]["reference"].as_str()?.strip_prefix("Observation/")?.strip_suffix("/_history/1")
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(named, ids(&shown));
    // Where it is left out, whoever may see it is told.
    for path in [
        site.path("_sort=-_lastUpdated"),
        site.path("device.type=x&_summary=count"),
        format!("/fhir/Observation/$lastn?patient={}", site.patient),
        format!("/fhir/Patient/{}/$everything", site.patient),
    ] {
        let answer = doctor.get(&path).await.good();
        assert!(said(&answer).contains("what sensors said is not among these"), "{path}: {}", answer.text());
    }
    let nothing = doctor.get(&format!("/fhir/Observation?patient={}&_sort=-_lastUpdated", site.other)).await.good();
    assert_eq!(said(&nothing), "");
    // A frame that was changed is left out, and the answer says so without a number.
    site.consortium.sql(
        "UPDATE frame SET bytes = zeroblob(100) WHERE counter = 5 AND device LIKE '%' || ?1",
        [shown[2]["device"]["reference"].as_str().unwrap().trim_start_matches("Device/")],
    );
    let page = doctor.get(&site.path(&format!("{HEART_RATE}&_count=200"))).await.good();
    assert_eq!((matches(&page).len() as u64, page.json()["total"].as_u64()), (MONITORED + 3 - 1, None));
    assert!(said(&page).contains("1 rows do not agree with the ledger"), "{}", said(&page));
    let counted = doctor.get(&site.path(&format!("{HEART_RATE}&_summary=count"))).await.good();
    assert_eq!(counted.json()["total"], Json::Null);
}
