//! The whole demonstration as a test: the accident, the attacks on the database, the recovery.

use serde_json::Value;
use std::process::Command;

#[test]
fn every_row_of_the_accident_holds_every_attack_is_named_and_every_essential_record_comes_back() {
    let program = env!("CARGO_BIN_EXE_vitaltrace");
    let output = Command::new(program).args(["demo", "--headless", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();

    let rows: Vec<u64> = document["steps"].as_array().unwrap().iter().filter_map(|step| step["row"].as_u64()).collect();
    assert_eq!(rows, (0..20).collect::<Vec<_>>());
    for step in document["steps"].as_array().unwrap() {
        assert_eq!(step["ok"], true, "{step}");
    }

    // Verified reads, of records and of sets, are part of the attacks: the summary is read over the changed database.
    let attacks = document["attacks"].as_array().unwrap();
    let kinds: Vec<&str> = attacks.iter().filter_map(|attack| attack["kind"].as_str()).collect();
    assert_eq!(kinds, ["modified", "removed", "rolled-back", "duplicated", "injected", "misfiled"]);
    for attack in attacks {
        assert_ne!(attack["injected"], 0, "{attack}");
        assert_eq!(attack["found"], attack["injected"], "{attack}");
        assert_eq!(attack["named"], attack["injected"], "{attack}");
    }
    assert_eq!(document["false_alarms"], 0);

    let recovered = &document["recover"];
    assert_ne!(recovered["essential"], 0);
    assert_eq!(recovered["restored"], recovered["essential"]);
    assert_eq!(recovered["identical"], recovered["essential"]);
    assert_eq!(document["evidence"]["verified"], true);
    assert_eq!(document["evidence"]["complete"], true);
    assert_eq!(document["ledger"]["validators"], 4);
}
