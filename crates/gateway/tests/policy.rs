//! A policy is proposed, voted by class, and put in force on every gateway of a consortium of real processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what is skipped is said"
)]

mod consortium;

use consortium::{Consortium, PATIENCE, client::Client, good, vitaltrace};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

const RESCUE: &str = "rescue-one";
const MERCY: &str = "mercy-hospital";
const ACME: &str = "acme-insurance";
const WATCH: &str = "health-inspectorate";

/// What the new policy takes from administrators: who the patient is.
const BEFORE: &str = r#"resource.fhir_type in [FhirType::"Patient", FhirType::"Encounter"])"#;
const AFTER: &str = r#"resource.fhir_type in [FhirType::"Encounter"])"#;

/// The source's policies with one change.
fn changed_policies(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let changed = folder.join("changed");
    good(Command::new("cp").arg("-r").arg(&source).arg(&changed).output().unwrap());
    let file = changed.join("access/administrator.cedar");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(BEFORE));
    fs::write(&file, text.replacen(BEFORE, AFTER, 1)).unwrap();
    changed
}

fn policy(consortium: &Consortium, org: &str, args: &[&str]) -> Output {
    let config = consortium.node(org).dir.display().to_string();
    vitaltrace(["policy"].iter().chain(args).copied().chain(["--config", &config]))
}

/// Demands that a command said no, and returns why.
#[track_caller]
fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// The only proposal, as an organisation's node shows it.
fn proposal(consortium: &Consortium, org: &str) -> (u64, Value) {
    let list: Value = serde_json::from_str(&good(policy(consortium, org, &["list", "--json"]))).unwrap();
    (list["height"].as_u64().unwrap(), list["proposals"][0].clone())
}

/// Waits for something, as nothing here asserts a time.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn reads(client: &Client, patient: &str) -> u16 {
    client.get(&format!("/fhir/Patient/{patient}")).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_every_class_voted_for_is_in_force_on_every_gateway_without_a_restart() {
    let people = [
        (MERCY, "doctor", "doctor"),
        (MERCY, "desk", "administrator"),
        (MERCY, "keeper", "custodian"),
        (RESCUE, "desk", "administrator"),
    ];
    let mut consortium = Consortium::running(&people).await;
    let changed = changed_policies(consortium.folder());
    let changed = changed.display().to_string();
    let doctor = consortium.client(MERCY, "doctor");
    let desks = [consortium.client(MERCY, "desk"), consortium.client(RESCUE, "desk")];
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    consortium.settle().await;
    for desk in &desks {
        assert_eq!(reads(desk, &patient).await, 200);
    }

    // What is no policy, what comes too late and who may not propose.
    let keeper = consortium.client(MERCY, "keeper");
    let asked = json!("permit everything");
    for (client, path, status) in [
        (&keeper, "/policy/propose?kind=access&in=50", 422),
        (&keeper, "/policy/propose?kind=derivation&in=50", 422),
        (&keeper, "/policy/propose?kind=other&in=50", 422),
        (&keeper, "/policy/propose?kind=access", 422),
        (&doctor, "/policy/propose?kind=access&in=50", 403),
    ] {
        let answer = client.post(path, &asked).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert!(refused(&policy(&consortium, MERCY, &["propose", &changed, "--at", "1"])).contains("blocks later"));

    let proposed = policy(&consortium, MERCY, &["propose", &changed, "--in", "15"]);
    let said = String::from_utf8_lossy(&proposed.stderr).into_owned();
    let digest = good(proposed).trim().to_owned();
    assert!(said.contains("loses: administrator"), "{said}");
    assert!(refused(&policy(&consortium, RESCUE, &["propose", &changed, "--in", "50"])).contains("the vote is open"));
    assert!(refused(&policy(&consortium, MERCY, &["vote", &digest, "yes"])).contains("voted already"));
    for org in [RESCUE, ACME] {
        let voted = policy(&consortium, org, &["vote", &digest, "yes"]);
        let said = String::from_utf8_lossy(&voted.stderr).into_owned();
        good(voted);
        assert!(said.contains("loses: administrator") && said.ends_with("voted for it\n"), "{said}");
    }

    // Three of four members are more than two thirds; the oversight has not voted, so nothing comes into force.
    until("its height", async || {
        let (height, proposal) = proposal(&consortium, MERCY);
        height > proposal["height"].as_u64().unwrap() + 3
    })
    .await;
    let (_, open) = proposal(&consortium, MERCY);
    assert_eq!((&open["state"], &open["lacks"]), (&json!("open"), &json!(["one more of the compliance entities"])));
    assert_eq!(reads(&desks[0], &patient).await, 200);

    good(policy(&consortium, WATCH, &["vote", &digest, "yes"]));
    for (org, desk) in [MERCY, RESCUE].into_iter().zip(&desks) {
        until("another policy in force", async || reads(desk, &patient).await == 403).await;
        assert_eq!(proposal(&consortium, org).1["state"], "in force");
    }
    for org in [ACME, WATCH] {
        until("another policy in force", async || proposal(&consortium, org).1["state"] == "in force").await;
    }
    assert_eq!(reads(&doctor, &patient).await, 200);
    assert!(refused(&policy(&consortium, WATCH, &["vote", &digest, "no"])).contains("over"));
    assert!(refused(&policy(&consortium, WATCH, &["propose", &changed, "--in", "50"])).contains("in force already"));

    // After a restart, too: the ledger says what is in force, and has the document.
    let node = consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    node.start();
    node.wait_until_up().await;
    assert_eq!(reads(&desks[0], &patient).await, 403);
    assert_eq!(reads(&doctor, &patient).await, 200);
    consortium.settle().await;
    assert_eq!(consortium.node(MERCY).status().await["refused"], 0);

    // What was decided under the policy before is as good as ever.
    let config = consortium.node(MERCY).dir.display().to_string();
    good(vitaltrace(["audit", "--full", "--config", &config]));
    let (file, genesis) =
        (consortium.folder().join("patient.evidence"), consortium.node(MERCY).dir.join("genesis.json"));
    let file = file.display().to_string();
    good(vitaltrace(["prove", "--config", &config, "--patient", &patient, "-o", &file]));
    good(vitaltrace(["verify", &file, "--genesis", &genesis.display().to_string()]));

    let difference: Value =
        serde_json::from_str(&good(policy(&consortium, ACME, &["diff", "active", &changed, "--json"]))).unwrap();
    assert_eq!(difference["access"]["gains"], json!([]));
    assert_eq!(difference["access"]["losses"], json!([]));
    assert_eq!(difference["derivation"]["changes"], json!([]));
}

#[test]
fn the_cases_of_a_folder_are_checked_and_what_it_changes_is_proven_where_there_is_a_solver() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").display().to_string();
    let changed = changed_policies(folder.path()).display().to_string();
    let check = |dir: &str| vitaltrace(["policy", "check", dir]);
    assert!(good(check(&source)).contains(" 0 decided otherwise"));
    let wrong = check(&changed);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("decided otherwise"));
    assert_eq!(check(&folder.path().display().to_string()).status.code(), Some(2));

    let difference = |path: Option<&str>| {
        let mut command = Command::new(consortium::program());
        command.args(["policy", "diff", &source, &changed]).env_remove("CVC5");
        if let Some(path) = path {
            command.env("PATH", path);
        }
        good(command.output().unwrap())
    };
    let without = difference(Some("/nowhere"));
    assert!(without.contains("not proven: no cvc5 found"), "{without}");
    let first = "loses: administrator";
    assert!(without.starts_with(first) && !without.contains("gains:"), "{without}");
    if Command::new("cvc5").arg("--version").output().is_err() {
        println!("SKIPPED: cvc5 not found, which proves what a change of policy changes");
        return;
    }
    let with = difference(None);
    for line in ["proven: Read is less permissive", "  denied now, allowed before: a person (role administrator"] {
        assert!(with.contains(line), "{with}");
    }
    assert!(!with.contains("more permissive") && !with.contains("different"), "{with}");
}
