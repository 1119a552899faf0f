//! Four organisations' gateways on one PostgreSQL server: what one writes the others read, and nothing answered is lost with the server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests; what was done is said")]

use crate::consortium::{
    Consortium, PATIENCE,
    client::{Answer, Client},
};
use crate::server::{Disk, PASSWORD, Server};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const DATABASE: &str = "cloud";
/// A copy of it.
const BACKUP: &str = "backup";
const PEOPLE: [(&str, &str, &str); 6] = [
    ("mercy-hospital", "doctor", "doctor"),
    ("mercy-hospital", "custodian", "custodian"),
    ("rescue-one", "paramedic", "responder"),
    ("rescue-one", "custodian", "custodian"),
    ("health-inspectorate", "inspector", "compliance"),
    ("health-inspectorate", "custodian", "custodian"),
];

struct Site {
    // Before the server: gateways end first.
    consortium: Consortium,
    server: Server,
    doctor: Client,
    paramedic: Client,
}

impl Site {
    async fn new() -> Option<Self> {
        let server = Server::start(Disk::Durable)?;
        server.create(DATABASE);
        let consortium = Consortium::running_on_server(&PEOPLE, &server.address(DATABASE)).await;
        let doctor = consortium.client("mercy-hospital", "doctor");
        let paramedic = consortium.client("rescue-one", "paramedic").for_purpose("ETREAT");
        Some(Self { consortium, server, doctor, paramedic })
    }

    /// Plain SQL on one row, as an administrator of the database would run it.
    #[track_caller]
    fn sql(&self, statement: &str) {
        assert_eq!(self.server.sql(DATABASE, &format!("{statement} RETURNING 1")), "1", "{statement}");
    }

    fn custodian(&self, org: &str) -> Client {
        self.consortium.client(org, "custodian").for_purpose("HSYSADMIN")
    }

    /// What an audit at an organisation finds in all rows, once everything is final.
    async fn audit(&self, org: &str) -> Value {
        self.consortium.settle().await;
        self.custodian(org).post("/audit", &json!({"full": true})).await.good().json()["findings"].clone()
    }

    /// Passwords and names of patients are in no log.
    fn check_logs(&self) {
        for node in &self.consortium.nodes {
            let log = std::fs::read_to_string(node.dir.join("node.log")).unwrap();
            for secret in [PASSWORD, "for%20tests", "Nobody"] {
                assert!(!log.contains(secret), "the log of {} holds {secret}", node.org);
            }
        }
    }
}

fn person(identifier: Option<&str>) -> Value {
    let identifier: Vec<Value> =
        identifier.iter().map(|value| json!({"system": "urn:test:mrn", "value": value})).collect();
    let mut person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}], "birthDate": "1980-01-01"});
    if !identifier.is_empty() {
        person["identifier"] = json!(identifier);
    }
    person
}

fn pulse(patient: &str, per_min: u32) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Pulse"},
        "effectiveDateTime": "2026-01-12T10:05:00Z",
        "valueQuantity": {"value": per_min, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

fn ids(answer: &Answer) -> Vec<String> {
    let bundle = answer.json();
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let mut ids: Vec<String> = entries.map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_writes_on_a_server_the_others_read_search_and_verify() {
    let Some(site) = Site::new().await else { return };
    let Site { consortium, doctor, paramedic, .. } = &site;
    // At the road: the ambulance enrols the person and measures; the hospital goes on with it.
    let patient = paramedic.create(&person(None)).await.id();
    consortium.settle().await;
    let at_road = paramedic.create(&pulse(&patient, 131)).await;
    let at_ward = doctor.create(&pulse(&patient, 88)).await;
    let allergy = doctor
        .create(&json!({
            "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{patient}")}, "criticality": "high",
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]},
            "code": {"text": "Latex"}
        }))
        .await;
    consortium.settle().await;
    for (client, written) in [(doctor, &at_road), (paramedic, &at_ward), (doctor, &at_ward)] {
        let read = client.get(&format!("/fhir/Observation/{}", written.id())).await.good();
        assert_eq!(read.bytes, written.bytes, "byte for byte");
    }
    let mut both = vec![at_road.id(), at_ward.id()];
    both.sort();
    for (query, found) in [
        (format!("patient={patient}&code=http://loinc.org|8867-4"), both.clone()),
        (format!("patient={patient}&code-value-quantity=8867-4$gt100"), vec![at_road.id()]),
        (format!("patient={patient}&value-quantity=lt100"), vec![at_ward.id()]),
        (format!("patient={patient}&code:text=pul&date=2026-01-12"), both.clone()),
        (format!("patient={patient}&date=lt2026"), vec![]),
    ] {
        for client in [doctor, paramedic] {
            assert_eq!(ids(&client.get(&format!("/fhir/Observation?{query}")).await.good()), found, "{query}");
        }
    }
    let mut amended = pulse(&patient, 89);
    amended["id"] = json!(at_ward.id());
    let path = format!("/fhir/Observation/{}", at_ward.id());
    doctor.put(&path, &amended, &[("if-match", "W/\"1\"")]).await.good();
    assert_eq!(doctor.put(&path, &amended, &[("if-match", "W/\"1\"")]).await.status, 412);
    consortium.settle().await;
    let history = paramedic.get(&format!("{path}/_history")).await.good().json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 2);
    let everything = doctor.get(&format!("/fhir/Patient/{patient}/$everything")).await.good();
    assert_eq!(ids(&everything).len(), 4, "{}", everything.text());
    assert_eq!(site.audit("rescue-one").await, json!([]));
    site.server.copy(DATABASE, BACKUP);

    // Somebody with the database's password changes one row, removes another.
    let row = |id: &str| format!("WHERE id = '{id}'");
    site.sql(&format!(
        "UPDATE version SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), '131', '71'), 'UTF8') {}",
        row(&at_road.id())
    ));
    site.sql(&format!("DELETE FROM version {}", row(&allergy.id())));
    for client in [doctor, paramedic] {
        let answer = client.get(&format!("/fhir/Observation/{}", at_road.id())).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(!answer.text().contains("valueQuantity"));
        let repaired = client.get(&format!("/fhir/AllergyIntolerance/{}", allergy.id())).await.good();
        assert_eq!(repaired.headers["x-vitaltrace-state"], "repaired");
        assert_eq!(repaired.bytes, allergy.bytes);
    }
    let found = site.audit("mercy-hospital").await.to_string();
    assert!(found.contains(&at_road.id()) && found.contains(&allergy.id()), "{found}");
    assert_eq!(site.audit("rescue-one").await.as_array().unwrap().len(), 2);

    // A copy of the database brings back what no vault keeps.
    let custodian = site.custodian("mercy-hospital");
    let id = custodian.post("/custody/recover", &json!({"reason": "rows were changed"})).await.good().id();
    for org in ["rescue-one", "health-inspectorate"] {
        site.consortium.settle().await;
        site.custodian(org).post(&format!("/custody/{id}/vote"), &json!({})).await.good();
    }
    site.consortium.settle().await;
    let carry_out = format!("/custody/{id}/carry-out");
    let elsewhere = site.server.address("postgres");
    let refused = custodian.post(&carry_out, &json!({"from": elsewhere})).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(!refused.text().contains("for%20tests"), "{}", refused.text());
    custodian.post(&carry_out, &json!({"from": site.server.address(BACKUP)})).await.good();
    for org in ["mercy-hospital", "rescue-one"] {
        assert_eq!(site.audit(org).await, json!([]), "at {org}");
    }
    assert_eq!(paramedic.get(&format!("/fhir/Observation/{}", at_road.id())).await.good().bytes, at_road.bytes);
    site.check_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_on_a_server_that_create_under_one_condition_one_creates() {
    const PERSONS: usize = 30;
    let Some(site) = Site::new().await else { return };
    let mut answers = Vec::new();
    for number in 0..PERSONS {
        let mrn = format!("m{number}");
        let (body, header) = (person(Some(&mrn)), format!("identifier=urn:test:mrn|{mrn}"));
        let headers = [("if-none-exist", header.as_str())];
        let (first, second) = tokio::join!(
            site.doctor.send(Method::POST, "/fhir/Patient", &headers, &body),
            site.paramedic.send(Method::POST, "/fhir/Patient", &headers, &body)
        );
        let mut both = [first.status, second.status];
        both.sort_unstable();
        answers.push(both);
        let there = site.server.sql(
            DATABASE,
            &format!("SELECT count(DISTINCT vid) FROM token WHERE param = 'identifier' AND code = '{mrn}' AND rtype = 'Patient'"),
        );
        assert_eq!(there, "1", "{both:?}");
    }
    let lost: Vec<_> = answers.iter().filter(|both| !matches!(both, [201, 409] | [200, 201] | [201, 412])).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let raced = answers.iter().filter(|both| **both == [201, 409]).count();
    println!("{raced} of {PERSONS} were decided by the database, the others by the search before");
}

/// What two gateways were answered under load.
#[derive(Default)]
struct Board {
    stop: AtomicBool,
    written: Mutex<Vec<(String, Vec<u8>)>>,
    refused: Mutex<BTreeMap<u16, usize>>,
}

async fn load(board: Arc<Board>, client: Client, patient: String) {
    let mut number = 40;
    while !board.stop.load(Ordering::Relaxed) {
        number = 40 + (number + 1) % 160;
        let answer = client.post("/fhir/Observation", &pulse(&patient, number)).await;
        if answer.status == 201 {
            board.written.lock().unwrap().push((answer.id(), answer.bytes));
            continue;
        }
        *board.refused.lock().unwrap().entry(answer.status).or_default() += 1;
        assert_eq!(
            answer.headers.get("retry-after").map(|after| after.as_bytes()),
            Some(b"1".as_slice()),
            "{}",
            answer.text()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The server is killed and restarted while four writers write at two gateways. Who is refused is told to try again; who is answered
/// finds the record afterwards, byte for byte and final; the ledger and the database agree, so nothing refused is there either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_under_load_takes_no_answered_write_with_it() {
    const RESTARTS: usize = 5;
    let Some(site) = Site::new().await else { return };
    let patient = site.doctor.create(&person(None)).await.id();
    site.consortium.settle().await;
    let board = Arc::new(Board::default());
    let writers: Vec<_> = [&site.doctor, &site.paramedic, &site.doctor, &site.paramedic]
        .into_iter()
        .map(|client| tokio::spawn(load(Arc::clone(&board), client.clone(), patient.clone())))
        .collect();
    for restart in 0..RESTARTS {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        if restart % 2 == 0 {
            site.server.kill()
        } else {
            site.server.stop()
        }
        let refused = site.doctor.get(&format!("/fhir/Patient/{patient}")).await;
        assert_eq!((refused.status, refused.headers["retry-after"].as_bytes()), (503, b"1".as_slice()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.server.run();
        let begin = Instant::now();
        let before = board.written.lock().unwrap().len();
        while board.written.lock().unwrap().len() == before {
            assert!(begin.elapsed() < PATIENCE, "nobody is served again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("served again {} ms after the server", begin.elapsed().as_millis());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    board.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    site.consortium.settle().await;
    let written = board.written.lock().unwrap().clone();
    let refused = board.refused.lock().unwrap().clone();
    println!("{} writes answered, refused: {refused:?}", written.len());
    assert!(refused.keys().all(|status| *status == 503), "{refused:?}");
    for (number, (id, bytes)) in written.iter().enumerate() {
        let client = if number % 2 == 0 { &site.doctor } else { &site.paramedic };
        let read = client.get(&format!("/fhir/Observation/{id}")).await.good();
        assert_eq!(&read.bytes, bytes, "{id}");
    }
    let there = site.server.sql(DATABASE, "SELECT count(*) FROM version WHERE rtype = 'Observation'");
    assert_eq!(there, written.len().to_string(), "what was refused is not there");
    for org in ["mercy-hospital", "rescue-one"] {
        assert_eq!(site.audit(org).await, json!([]), "at {org}");
    }
    site.check_logs();
}
