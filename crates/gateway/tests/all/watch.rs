//! What an operator's tools see of a gateway: readiness and counters.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{self, Consortium, client::Client};
use rusqlite::Connection;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

const MERCY: &str = "mercy-hospital";

/// All samples by name and labels. Demands that the text is OpenMetrics as far as a line tells.
async fn samples(watcher: &Client) -> BTreeMap<String, f64> {
    let answer = watcher.get("/metrics").await.good();
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, n)| (name.to_owned(), n.parse().unwrap())).collect()
}

/// All samples, as soon as this gateway has heard from each of the other members' nodes, which speak once a second.
///
/// On a fast machine the test was through before the first of them had spoken twice: a node that started a moment later than the others
/// counted as not connected, and was not.
async fn samples_of_all(watcher: &Client) -> BTreeMap<String, f64> {
    loop {
        let samples = samples(watcher).await;
        let mut connected = samples.iter().filter(|(name, _)| name.starts_with("vitaltrace_validator_connected"));
        if connected.all(|(_, connected)| *connected == 1.0) {
            return samples;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ends when the gateway is ready and its ledger goes on.
async fn wait_until_ready(watcher: &Client) {
    while watcher.get("/ready").await.json() != json!({"ready": true, "ledger_stalled": false}) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_tell_of_finality_denials_and_tampering_and_name_nobody() {
    let people = [(MERCY, "doctor", "doctor"), (MERCY, "administrator", "administrator")];
    let consortium = Consortium::running(&people).await;
    let doctor = consortium.client(MERCY, "doctor");
    let watcher = Client::new(&doctor.base, "");
    wait_until_ready(&watcher).await;

    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    let condition = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")}, "code": {"text": "Fracture"}
    });
    let condition = doctor.create(&condition).await.id();
    consortium.settle().await;
    let path = format!("/fhir/Condition/{condition}");
    doctor.get(&path).await.good();
    assert_eq!(consortium.client(MERCY, "administrator").get(&path).await.status, 403);
    let database = Connection::open(&consortium.database).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let changed = database.execute("UPDATE version SET label = 'R' WHERE id = ?1", [&condition]).unwrap();
    assert_eq!(changed, 1);
    doctor.get(&path).await.good();
    consortium.settle().await;

    let samples = samples_of_all(&watcher).await;
    let sample = |name: &str| samples.get(name).copied().unwrap_or_default();
    assert!(sample("vitaltrace_finality_seconds_count") > 1.0);
    assert_eq!(sample("vitaltrace_pending_entries"), 0.0);
    assert_eq!(sample("vitaltrace_anchoring_lag_seconds"), 0.0);
    assert!(sample("vitaltrace_mirror_height") > 1.0);
    assert_eq!(sample("vitaltrace_validator_connected{org=\"rescue-one\"}"), 1.0);
    assert!(sample("vitaltrace_rows_weighed_total{worth=\"good\"}") > 0.0);
    assert_eq!(sample("vitaltrace_rows_weighed_total{worth=\"modified\"}"), 1.0);
    assert_eq!(sample("vitaltrace_decisions_total{outcome=\"denied\"}"), 1.0);
    let door = "vitaltrace_request_seconds_count{method=\"GET\",door=\"/fhir/{kind}/{id}\",status=\"2xx\"}";
    assert_eq!(sample(door), 2.0);
    let disk = |part: &str| sample(&format!("vitaltrace_disk_bytes{{part=\"{part}\"}}"));
    assert!(disk("blocks") > 0.0 && disk("state") > 0.0 && disk("mirror") > 0.0 && disk("vault") > 0.0);
    let entries = sample("vitaltrace_ledger_entries");
    let blocks = sample("vitaltrace_disk_per_entry_bytes{part=\"blocks\"}");
    assert!(blocks > 0.0 && sample("vitaltrace_disk_per_entry_bytes{part=\"all\"}") > blocks, "{blocks} for {entries}");
    // The engine's own.
    assert!(samples.keys().any(|name| name.contains("simplex")), "{:?}", samples.keys());
    assert!(samples.keys().all(|name| !name.contains(&patient) && !name.contains(&condition)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stands_still_is_said_and_stops_nobody() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    for org in ["acme-insurance", "health-inspectorate"] {
        consortium.node_mut(org).kill();
    }
    let watcher = Client::new(&doctor.base, "");
    doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await;
    let stalled = |answer: &consortium::client::Answer| answer.json()["ledger_stalled"] == true;
    while !stalled(&watcher.get("/ready").await.good()) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let samples = samples(&watcher).await;
    assert!(samples["vitaltrace_pending_entries"] > 0.0);
    assert!(samples["vitaltrace_anchoring_lag_seconds"] > 0.0);
    doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await;
    for org in ["acme-insurance", "health-inspectorate"] {
        consortium.node_mut(org).start();
    }
    consortium.settle_when_up().await;
    wait_until_ready(&watcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_request_say_how_long_they_took_and_nothing_of_whom() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let node = consortium.node_mut(MERCY);
    node.stop();
    node.log_filter = Some("warn,vitaltrace=debug,exchange=debug,ledger=debug");
    node.start();
    node.wait_until_up().await;
    let log = node.dir.join("node.log");
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    doctor.get(&format!("/fhir/Patient/{patient}")).await.good();
    consortium.settle().await;

    let log = std::fs::read_to_string(log).unwrap();
    let over = |span: &str| log.lines().any(|line| line.contains(span) && line.contains("close time.busy="));
    assert!(over("route=\"/fhir/{kind}/{id}\"}:read:"), "{log}");
    assert!(over("route=\"/fhir/{kind}\"}:create:"), "{log}");
    assert!(over("execute{height="), "{log}");
    assert!(!log.contains(&patient) && !log.contains("Nobody"));
}
