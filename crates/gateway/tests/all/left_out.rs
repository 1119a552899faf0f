//! Parts of custody are left out where a measurement says so, and nowhere else.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{Consortium, FOUR, program, vitaltrace};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
};

const PARTS: [&str; 4] = ["audit", "consent", "anchoring", "verification"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_argument_configuration_or_variable_leaves_a_part_of_custody_out_of_a_consortium() {
    let mut consortium = Consortium::found(&FOUR).await;
    let folder = consortium.node("mercy-hospital").dir.clone();
    let config = folder.display().to_string();
    for part in PARTS {
        // What measures starts in a consortium that was founded for it alone.
        let output = vitaltrace(["bench", "gateway", "--config", &config, "--without", part]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains("was not founded to be measured"), "{}", said(&output));
        // The usual way takes no such argument, and no such setting.
        let output = vitaltrace(["serve", "--config", &config, "--without", part]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let file = folder.join("vitaltrace.toml");
        let text = fs::read_to_string(&file).unwrap();
        for setting in ["without", "parts", part] {
            fs::write(&file, format!("{setting} = ['{part}']\n{text}")).unwrap();
            let output = vitaltrace(["serve", "--config", &config]);
            assert!(!output.status.success() && said(&output).contains("unknown field"), "{}", said(&output));
        }
        fs::write(&file, text).unwrap();
    }
    let help = Command::new(program()).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(!PARTS.iter().any(|part| help.contains(part)), "{help}");
    let node = consortium.node_mut("mercy-hospital");
    node.start();
    node.wait_until_answers().await;
    assert_eq!(node.status().await["without"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_part_of_custody_costs_is_measured_and_every_run_says_what_was_left_out() {
    // One consortium at a time on this machine: the measurement founds its own.
    let _turn = Consortium::found(&FOUR).await;
    let arguments = ["bench", "fhir", "--patients", "2", "--seconds", "1", "--what", "creates,reads,summary", "--json"];
    let output = vitaltrace(arguments);
    assert!(output.status.success(), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 15);
    let mut seen = BTreeSet::new();
    for run in runs {
        let without: Vec<&str> = run["without"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        let (anchoring, verified) = (!without.contains(&"anchoring"), !without.contains(&"verification"));
        assert_eq!(
            (&run["anchoring"], &run["verified"], &run["failed"]),
            (&json!(anchoring), &json!(verified), &json!(0))
        );
        assert!(run["per_s"].as_f64().unwrap() > 0.0 && run["p50_ms"].is_f64() && run["p99_ms"].is_f64(), "{run}");
        assert!(run["connections"].is_u64() && run["backend"] == "sqlite", "{run}");
        seen.insert(without.join(","));
    }
    let expected = ["", "anchoring,verification", "audit", "consent", "verification"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
