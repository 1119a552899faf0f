//! `kill -9` of any process at any moment of a load: every answered write is there, to the byte, and final everywhere.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; the seed and what was done are said")]

use crate::consortium::{self, Consortium, PATIENCE, client::Client};
use futures::{StreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
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

/// How often a process is killed.
const KILLS: usize = 24;
/// Patients that are enrolled; every one of them is investigated in the end.
const PATIENTS_MAX: usize = 40;
/// Requests under way at the same time when everything is looked at in the end.
const LOOKS_AT_ONCE: usize = 16;

const LOINC: &str = "http://loinc.org";
const IDENTIFIERS: &str = "urn:test:kill";

/// A write that was answered.
#[derive(Debug, Clone)]
struct Written {
    /// `Type/id`.
    record: String,
    /// The bytes of the answer; none of what a transaction wrote, as its answer holds none.
    bytes: Option<Vec<u8>>,
    /// The Patient that it is about.
    patient: String,
}

/// What the writers share.
#[derive(Default)]
struct Board {
    stop: AtomicBool,
    patients: Mutex<Vec<String>>,
    written: Mutex<Vec<Written>>,
    /// Transactions that were sent: the identifier of all their resources.
    transactions: Mutex<Vec<String>>,
    /// Requests that broke off.
    broken: Mutex<u64>,
    /// Writes about a patient whose enrolment is answered and not final yet: a gateway that did not enrol it, or has restarted since,
    /// believes nobody's key before the ledger names it.
    early: Mutex<u64>,
    /// Answers that were no yes.
    refused: Mutex<BTreeMap<String, u64>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_write_survives_the_kill_of_any_process_at_any_moment() {
    let seed = std::env::var("VITALTRACE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("VITALTRACE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut consortium = Consortium::running(&[
        ("mercy-hospital", "doctor", "doctor"),
        ("mercy-hospital", "custodian", "custodian"),
        ("rescue-one", "paramedic", "responder"),
        ("rescue-one", "custodian", "custodian"),
        ("health-inspectorate", "inspector", "compliance"),
    ])
    .await;
    let doctor = consortium.client("mercy-hospital", "doctor");
    let paramedic = consortium.client("rescue-one", "paramedic").for_purpose("TREAT");

    let board = Arc::new(Board::default());
    let writers: Vec<_> = [&doctor, &paramedic, &doctor, &paramedic]
        .into_iter()
        .map(|client| tokio::spawn(write(board.clone(), client.clone(), StdRng::seed_from_u64(rng.random()))))
        .collect();

    kill_one_after_another(&mut consortium, &mut rng).await;
    board.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let written = board.written.lock().unwrap().clone();
    println!(
        "{} records answered, {} requests broke off, {} about a patient who was not final yet, other answers: {:?}",
        written.len(),
        board.broken.lock().unwrap(),
        board.early.lock().unwrap(),
        board.refused.lock().unwrap()
    );
    assert!(written.len() > KILLS, "there was no load: nothing is shown");
    let begin = Instant::now();
    consortium.settle().await;
    println!("everything is final {:.1} s after the last write", begin.elapsed().as_secs_f64());

    check_logs(&consortium).await;
    check_bytes(&written, &doctor, &paramedic).await;
    check_receipts(&consortium, &written, &doctor, &paramedic).await;
    let transactions = board.transactions.lock().unwrap().clone();
    check_transactions(&transactions, &doctor).await;
    let patients = board.patients.lock().unwrap().clone();
    check_patients(&patients, &[&doctor, &paramedic], &mut rng).await;
    check_audit(&consortium).await;
    assert_eq!(*board.refused.lock().unwrap(), BTreeMap::new(), "a good request was refused");
}

/// What is shown waits for a file of the gateway's own; the database has its audit event a moment later, or after the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_before_a_kill_is_in_the_trail_after_it() {
    const MERCY: &str = "mercy-hospital";
    const ROUNDS: usize = 4;
    const READERS: usize = 8;
    const READS: usize = 5;
    let people =
        [(MERCY, "doctor", "doctor"), (MERCY, "officer", "privacy-officer"), (MERCY, "custodian", "custodian")];
    let mut consortium = Consortium::running(&people).await;
    let doctor = consortium.client(MERCY, "doctor");
    let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]});
    let patient = doctor.create(&person).await.id();
    consortium.settle().await;
    for _ in 0..ROUNDS {
        let reads = (0..READERS).map(|_| async {
            for _ in 0..READS {
                doctor.get(&format!("/fhir/Patient/{patient}")).await.good();
            }
        });
        futures::future::join_all(reads).await;
        let node = consortium.node_mut(MERCY);
        node.kill();
        node.start();
        node.wait_until_up().await;
    }
    let officer = consortium.client(MERCY, "officer").for_purpose("HOPERAT");
    let query = format!("/fhir/AuditEvent?patient={patient}&subtype=read&_summary=count");
    // Each once: what was in the database already is not written again.
    for _ in 0..2 {
        assert_eq!(officer.get(&query).await.good().json()["total"], ROUNDS * READERS * READS);
        consortium.settle().await;
    }
    let custodian = consortium.client(MERCY, "custodian").for_purpose("HSYSADMIN");
    let report = custodian.post("/audit", &json!({"full": true})).await.good().json();
    assert_eq!(report["findings"], json!([]));
}

/// Kills random processes at random moments, also while they start, and brings every one back.
async fn kill_one_after_another(consortium: &mut Consortium, rng: &mut StdRng) {
    let mut killed: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..KILLS {
        pause(rng, 100..2_000).await;
        let victim = rng.random_range(0..consortium.nodes.len());
        let node = &mut consortium.nodes[victim];
        node.kill();
        *killed.entry(node.org.clone()).or_default() += 1;
        pause(rng, 0..800).await;
        let node = &mut consortium.nodes[victim];
        node.start();
        // Sometimes the next one is struck while this one is still on its way.
        if rng.random_bool(0.6) {
            node.wait_until_up().await;
        }
    }
    for node in &mut consortium.nodes {
        node.wait_until_up().await;
    }
    println!("killed: {killed:?}");
    // The last one that returned takes writes as well.
    pause(rng, 500..1_000).await;
}

async fn pause(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(ms))).await;
}

/// Writes until told to stop, and remembers what was answered.
async fn write(board: Arc<Board>, client: Client, mut rng: StdRng) {
    while !board.stop.load(Ordering::Relaxed) {
        pause(&mut rng, 10..100).await;
        let patient = {
            let patients = board.patients.lock().unwrap();
            let enrol = patients.is_empty() || (patients.len() < PATIENTS_MAX && rng.random_bool(0.1));
            if enrol { None } else { Some(patients[rng.random_range(0..patients.len())].clone()) }
        };
        let done = match patient {
            None if rng.random_bool(0.5) => transact(&board, &client, &mut rng).await,
            None => create(&board, &client, &patient_resource(&mut rng, &[])).await,
            Some(patient) => create(&board, &client, &observation(&mut rng, &format!("Patient/{patient}"), &[])).await,
        };
        if !done {
            *board.broken.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether there was an answer.
async fn create(board: &Board, client: &Client, resource: &Value) -> bool {
    let kind = resource["resourceType"].as_str().unwrap();
    let body = Some(serde_json::to_vec(resource).unwrap());
    let Some(answer) = client.try_send(Method::POST, &format!("/fhir/{kind}"), &[], body).await else { return false };
    if answer.status != 201 {
        board.refuse(answer.status, &answer.text());
        return true;
    }
    let (id, value) = (answer.id(), answer.json());
    let patient =
        value["subject"]["reference"].as_str().map_or(id.clone(), |r| r.trim_start_matches("Patient/").to_owned());
    if kind == "Patient" {
        board.patients.lock().unwrap().push(id.clone());
    }
    board.written.lock().unwrap().push(Written { record: format!("{kind}/{id}"), bytes: Some(answer.bytes), patient });
    true
}

/// A patient with two observations, all or nothing. Whether there was an answer.
async fn transact(board: &Board, client: &Client, rng: &mut StdRng) -> bool {
    let name = format!("{:016x}", rng.random::<u64>());
    let identifier = [json!({"system": IDENTIFIERS, "value": name})];
    board.transactions.lock().unwrap().push(name);
    let person = "urn:uuid:6c1d7a52-3d5b-4b0e-9f53-0f6a5b1c2d3e";
    let resources = [
        patient_resource(rng, &identifier),
        observation(rng, person, &identifier),
        observation(rng, person, &identifier),
    ];
    let entries: Vec<Value> = resources
        .iter()
        .enumerate()
        .map(|(n, resource)| {
            let full_url = if n == 0 { person.to_owned() } else { format!("urn:uuid:6c1d7a52-3d5b-4b0e-9f53-{n:012x}") };
            json!({"fullUrl": full_url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}})
        })
        .collect();
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    let body = Some(serde_json::to_vec(&bundle).unwrap());
    let Some(answer) = client.try_send(Method::POST, "/fhir", &[], body).await else { return false };
    if answer.status != 200 {
        board.refuse(answer.status, &answer.text());
        return true;
    }
    let value = answer.json();
    let records: Vec<String> = value["entry"].as_array().unwrap().iter().map(record_of).collect();
    let patient = records[0].trim_start_matches("Patient/").to_owned();
    board.patients.lock().unwrap().push(patient.clone());
    board.written.lock().unwrap().extend(records.into_iter().map(|record| Written {
        record,
        bytes: None,
        patient: patient.clone(),
    }));
    true
}

/// `Type/id` of the location in an answer's entry.
fn record_of(entry: &Value) -> String {
    let location = entry["response"]["location"].as_str().unwrap();
    location.split("/_history/").next().unwrap().to_owned()
}

impl Board {
    fn refuse(&self, status: u16, text: &str) {
        if status == 422 && text.contains("it refers to `Patient/") {
            *self.early.lock().unwrap() += 1;
        } else {
            *self.refused.lock().unwrap().entry(format!("{status} {text}")).or_default() += 1;
        }
    }
}

fn patient_resource(rng: &mut StdRng, identifier: &[Value]) -> Value {
    let mut patient = json!({"resourceType": "Patient", "name": [{"family": format!("Nobody-{}", rng.random::<u32>())}], "gender": "unknown"});
    if !identifier.is_empty() {
        patient["identifier"] = json!(identifier);
    }
    patient
}

fn observation(rng: &mut StdRng, patient: &str, identifier: &[Value]) -> Value {
    let mut observation = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": patient},
        "code": {"coding": [{"system": LOINC, "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z",
        "valueQuantity": {
            "value": rng.random_range(40..180), "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"
        }
    });
    if !identifier.is_empty() {
        observation["identifier"] = json!(identifier);
    }
    observation
}

/// All final entries as a node shows them: index and digest, and why it was refused.
async fn log_of(node: &consortium::Node) -> Vec<(u64, String, Value)> {
    let client = Client::new(&node.base(), "");
    let mut log = Vec::new();
    loop {
        let page = client.get(&format!("/ledger/entries?from={}&limit=1000", log.len())).await.good().json();
        let entries = page["entries"].as_array().unwrap();
        if entries.is_empty() {
            return log;
        }
        log.extend(
            entries.iter().map(|e| {
                (e["index"].as_u64().unwrap(), e["digest"].as_str().unwrap().to_owned(), e["refused"].clone())
            }),
        );
    }
}

/// Every node has the same entries in the same order with the same verdicts, and refused none.
async fn check_logs(consortium: &Consortium) {
    let begin = Instant::now();
    let mut logs = Vec::new();
    loop {
        logs.clear();
        for node in &consortium.nodes {
            logs.push(log_of(node).await);
        }
        let longest = logs.iter().map(Vec::len).max().unwrap();
        if logs.iter().all(|log| log.len() == longest) {
            break;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "the logs have {:?} entries",
            logs.iter().map(Vec::len).collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} entries in the log of every node", logs[0].len());
    assert!(logs.iter().all(|log| *log == logs[0]), "two nodes have different logs");
    let refused: Vec<_> = logs[0].iter().filter(|(_, _, refused)| !refused.is_null()).collect();
    assert!(refused.is_empty(), "refused entries of honest gateways: {refused:?}");
    for (at, (index, _, _)) in logs[0].iter().enumerate() {
        assert_eq!(*index, at as u64, "an index is missing");
    }
}

/// Every answered write is read with the bytes that were answered, at its own gateway and at the other one.
async fn check_bytes(written: &[Written], doctor: &Client, paramedic: &Client) {
    for client in [doctor, paramedic] {
        let wrong: Vec<String> = stream::iter(written)
            .map(|one| async move {
                let answer = client.get(&format!("/fhir/{}", one.record)).await;
                let same = answer.status == 200 && one.bytes.as_ref().is_none_or(|bytes| *bytes == answer.bytes);
                (!same).then(|| format!("{} is answered {}: {}", one.record, answer.status, answer.text()))
            })
            .buffer_unordered(LOOKS_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        assert!(
            wrong.is_empty(),
            "{} answered writes are not there as answered at {}: {wrong:?}",
            wrong.len(),
            client.base
        );
    }
}

/// The receipt of every answered write says `final` at every node that may show it, and its entry is in the log of the others.
async fn check_receipts(consortium: &Consortium, written: &[Written], doctor: &Client, paramedic: &Client) {
    let inspector = consortium.client("health-inspectorate", "inspector").for_purpose("HCOMPL");
    let mut patients: Vec<&String> = written.iter().map(|one| &one.patient).collect();
    patients.sort();
    patients.dedup();
    for patient in patients {
        // Compliance sees what a case of its own is about.
        inspector
            .post("/case", &json!({"patient": patient, "order": "a look at everything after the kills"}))
            .await
            .good();
    }
    // An insurer sees no clinical record that no claim links; its ledger says whether the entry is final.
    let insurer: BTreeMap<u64, String> =
        log_of(consortium.node("acme-insurance")).await.into_iter().map(|(index, digest, _)| (index, digest)).collect();
    let insurer = &insurer;
    for client in [doctor, paramedic, &inspector] {
        let wrong: Vec<String> = stream::iter(written)
            .map(|one| async move {
                let answer = client.get(&format!("/fhir/{}/_provenance", one.record)).await;
                let receipt = if answer.status == 200 { answer.json() } else { Value::Null };
                let place = receipt["index"].as_u64().and_then(|index| insurer.get(&index));
                let good = receipt["state"] == "final" && place.map(String::as_str) == receipt["entry"].as_str();
                (!good).then(|| format!("{}: {} {}", one.record, answer.status, answer.text()))
            })
            .buffer_unordered(LOOKS_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        assert!(wrong.is_empty(), "{} receipts are not final at {}: {wrong:?}", wrong.len(), client.base);
    }
}

/// Of every transaction that was sent, answered or not, everything is there or nothing.
async fn check_transactions(names: &[String], doctor: &Client) {
    let mut there = 0;
    for name in names {
        let mut found = Vec::new();
        for kind in ["Patient", "Observation"] {
            let bundle = doctor.get(&format!("/fhir/{kind}?identifier={IDENTIFIERS}|{name}")).await.good().json();
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            assert!(entries.iter().all(|entry| entry["resource"]["resourceType"] == kind), "{bundle}");
            found.push(entries.len());
        }
        assert!(found == [0, 0] || found == [1, 2], "half a transaction: {found:?}");
        there += u64::from(found[0] == 1);
    }
    println!("{} transactions sent, {there} there as a whole, the others not at all", names.len());
}

/// Every gateway goes on writing about every patient.
async fn check_patients(patients: &[String], clients: &[&Client], rng: &mut StdRng) {
    for patient in patients {
        for client in clients {
            client.create(&observation(rng, &format!("Patient/{patient}"), &[])).await;
        }
    }
}

/// No auditor finds anything, and nothing is left pending.
async fn check_audit(consortium: &Consortium) {
    consortium.settle().await;
    let auditors = [
        ("mercy-hospital", "custodian", "HSYSADMIN"),
        ("rescue-one", "custodian", "HSYSADMIN"),
        ("health-inspectorate", "inspector", "HCOMPL"),
    ];
    for (org, name, purpose) in auditors {
        let auditor = consortium.client(org, name).for_purpose(purpose);
        let report = auditor.post("/audit", &json!({"full": true})).await.good().json();
        println!(
            "{org}: {} rows against {} versions, {} findings",
            report["rows"],
            report["versions"],
            report["findings"].as_array().unwrap().len()
        );
        assert_eq!(report["findings"], json!([]), "at {org}");
        assert_eq!(report["pending"], 0, "at {org}");
    }
    for node in &consortium.nodes {
        let status = node.status().await;
        assert_eq!((&status["pending"], &status["waiting_submissions"]), (&json!(0), &json!(0)), "at {}", node.org);
    }
}
