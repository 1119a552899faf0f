//! A node loses its folder, and with it the journal that knows which numbers it has signed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{Consortium, client::Client};
use rusqlite::Connection;
use serde_json::json;
use std::{fs, time::Duration};

const MERCY: &str = "mercy-hospital";

async fn person(doctor: &Client) -> String {
    doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id()
}

/// Demands that the ledger has the record.
async fn is_final(doctor: &Client, patient: &str) {
    let receipt = doctor.get(&format!("/fhir/Patient/{patient}/_provenance")).await.good().json();
    assert_eq!(receipt["state"], "final", "{receipt}");
}

/// Folder and database were both lost, so nothing said where the lane had ended. The node that came back with nothing numbered its
/// next entries like earlier ones until it had caught up with the ledger, which took them for those: they were never final.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_before_the_ledger_is_caught_up_with_becomes_final() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    for _ in 0..5 {
        person(&doctor).await;
    }
    consortium.settle().await;
    let node = consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    fs::remove_dir_all(node.dir.join("data")).unwrap();
    let database = Connection::open(&consortium.database).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    assert!(database.execute("DELETE FROM submission WHERE org = ?1", [MERCY]).unwrap() > 0);
    consortium.node_mut(MERCY).start();
    consortium.node_mut(MERCY).wait_until_answers().await;
    let patient = person(&doctor).await;
    consortium.settle().await;
    is_final(&doctor, &patient).await;
}

/// A validator came back without its folder and as it was configured. It began to vote where it had voted already, gave a view up that it had finalised,
/// and the others proved that and shut it out: what was written at it was never final.
#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_lost_its_folder_signs_nothing_that_excludes_what_it_signed_before() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    person(&doctor).await;
    consortium.settle().await;
    let node = consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    fs::remove_dir_all(node.dir.join("data")).unwrap();
    // The others pass over who is silent: it is to be one whose vote they ask for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..2 {
        let node = consortium.node_mut(MERCY);
        node.start();
        node.wait_until_answers().await;
        let patient = person(&doctor).await;
        consortium.settle().await;
        is_final(&doctor, &patient).await;
        let log = fs::read_to_string(consortium.node(MERCY).dir.join("node.log")).unwrap();
        assert!(log.contains("the node has forgotten what it voted for"), "{log}");
        assert_eq!(consortium.node_mut(MERCY).stop(), Some(0));
    }
    for org in ["rescue-one", "acme-insurance", "health-inspectorate"] {
        let log = fs::read_to_string(consortium.node(org).dir.join("node.log")).unwrap();
        assert!(!log.contains("a validator broke the rules"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_and_not_final_is_found_signed_in_the_database() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    person(&doctor).await;
    consortium.settle().await;
    // Two of four: nothing becomes final.
    for org in ["acme-insurance", "health-inspectorate"] {
        consortium.node_mut(org).kill();
    }
    let mut answered = Vec::new();
    for _ in 0..5 {
        answered.push(person(&doctor).await);
    }
    // Nobody else has them: the other node's memory goes with it.
    consortium.node_mut("rescue-one").kill();
    consortium.node_mut(MERCY).kill();
    fs::remove_dir_all(consortium.node(MERCY).dir.join("data")).unwrap();
    consortium.start_all().await;
    // Written since, on top of what is not final yet.
    let last = answered.last().unwrap();
    let body = json!({"resourceType": "Patient", "id": last, "name": [{"family": "Somebody"}]});
    doctor.put(&format!("/fhir/Patient/{last}"), &body, &[]).await.good();
    consortium.settle().await;
    for patient in &answered {
        is_final(&doctor, patient).await;
    }
}
