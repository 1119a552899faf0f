//! A node that lost its folder when the ledger was no longer young, as its operator sees it; and an auditor with that folder.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{Consortium, FOUR, client::Client, good, vitaltrace};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const MERCY: &str = "mercy-hospital";
/// Short epochs, so that there are some.
const EPOCH_BLOCKS: u64 = 8;

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn at(dir: &Path) -> String {
    dir.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_folder_takes_over_the_state_and_an_auditor_replays_what_it_has_in_the_end() {
    let mut consortium = Consortium::found(&FOUR).await;
    for node in &consortium.nodes {
        let path = node.dir.join("genesis.json");
        let mut genesis: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        genesis["epoch_blocks"] = json!(EPOCH_BLOCKS);
        fs::write(path, genesis.to_string()).unwrap();
    }
    consortium.add_user(MERCY, "doctor", "doctor", None);
    consortium.start_all().await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    consortium.settle().await;
    until(async || consortium.node("rescue-one").status().await["ledger_height"].as_u64() > Some(3 * EPOCH_BLOCKS))
        .await;

    // The line that a member prints is what the configuration takes.
    let rescue = at(&consortium.node("rescue-one").dir);
    let file = at(&consortium.folder().join("end.checkpoint"));
    let end = good(vitaltrace(["ledger", "checkpoint", "--config", &rescue, "--height", "20", "--output", &file]));
    let genesis = at(&consortium.node(MERCY).dir.join("genesis.json"));
    assert!(good(vitaltrace(["verify", &file, "--genesis", &genesis])).contains("verified"));
    assert!(
        good(vitaltrace(["verify", &file, "--genesis", &genesis, "--checkpoint", end.trim()])).contains("verified")
    );

    let node = consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    fs::remove_dir_all(node.dir.join("data")).unwrap();
    let config = node.dir.join("vitaltrace.toml");
    let told = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("standing = \"watcher\"\ncheckpoint = \"{}\"\n{told}", end.trim())).unwrap();
    node.start();
    node.wait_until_up().await;
    assert!(fs::read_to_string(node.dir.join("node.log")).unwrap().contains("takes over the state"));
    let watcher = Client::new(&node.base(), "");
    until(async || watcher.get("/ready").await.status == 200).await;
    let status = consortium.node(MERCY).status().await;
    assert_eq!(status["blocks_from"], 1, "{status}");
    assert!(status["disk_bytes"]["blocks"].as_u64() > Some(0), "{status}");
    // What was there before is read and agrees with the ledger.
    doctor.get(&format!("/fhir/Patient/{patient}")).await.good();
    let receipt = doctor.get(&format!("/fhir/Patient/{patient}/_provenance")).await.good().json();
    assert_eq!(receipt["state"], "final", "{receipt}");

    let node = consortium.node_mut(MERCY);
    let running = vitaltrace(["ledger", "replay", "--config", &at(&node.dir)]);
    assert_eq!(running.status.code(), Some(2), "{running:?}");
    assert_eq!(node.stop(), Some(0));
    let mercy = at(&node.dir);
    let replay = ["ledger", "replay", "--config", &mercy, "--json"];
    let report: Value = serde_json::from_str(&good(vitaltrace(replay))).unwrap();
    assert_eq!((&report["agrees"], &report["uncertified"]), (&json!(true), &json!(0)), "{report}");
    assert!(report["entries"].as_u64() > Some(0) && report["entries_per_s"].as_f64() > Some(0.0), "{report}");
    // The first block's certificate or bytes, whichever come first in the files: some block is named.
    let blocks = node.dir.join("data/ledger/engine").join(format!("{MERCY}-older-blocks-value"));
    let value = fs::read_dir(blocks).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = fs::read(&value).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(value, bytes).unwrap();
    let harmed = vitaltrace(replay);
    assert_eq!(harmed.status.code(), Some(1), "{harmed:?}");
    let report: Value = serde_json::from_slice(&harmed.stdout).unwrap();
    assert!(report["agrees"] == false && report["height"].as_u64() >= Some(1), "{report}");
}
