//! A policy is proposed, voted by class, and put in force on every gateway of a consortium of real processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what is skipped is said"
)]

use crate::consortium::{self, Consortium, PATIENCE, client::Client, good, vitaltrace};
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

/// Blocks until a proposal's height: enough for all to vote before it comes, as many processes and slow as the machine may be.
const IN: &str = "40";

/// What the new policy takes from administrators: who the patient is.
const BEFORE: &str = r#"resource.fhir_type in [FhirType::"Patient", FhirType::"Encounter"])"#;
const AFTER: &str = r#"resource.fhir_type in [FhirType::"Encounter"])"#;

/// The source's policies with one change.
fn changed_policies(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let changed = folder.join("changed");
    good(Command::new("cp").arg("-r").arg(&source).arg(&changed).output().unwrap());
    replace(&changed.join("access/administrator.cedar"), BEFORE, AFTER);
    changed
}

/// Changes a text in a file that has it.
fn replace(file: &Path, before: &str, after: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(before), "{before}");
    fs::write(file, text.replacen(before, after, 1)).unwrap();
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

/// Waits until the height of the only proposal has come, and some blocks more; however long its blocks take, if only they come.
async fn until_its_height(consortium: &Consortium, org: &str) {
    let (mut latest, mut since) = (0, Instant::now());
    loop {
        let (height, proposal) = proposal(consortium, org);
        if height > proposal["height"].as_u64().unwrap() + 3 {
            return;
        }
        if height > latest {
            (latest, since) = (height, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "no block for {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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

    let proposed = policy(&consortium, MERCY, &["propose", &changed, "--in", IN]);
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
    until_its_height(&consortium, MERCY).await;
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

/// Digests of the policies in force, as an organisation's node shows them.
fn in_force(consortium: &Consortium, org: &str) -> [String; 2] {
    let list: Value = serde_json::from_str(&good(policy(consortium, org, &["list", "--json"]))).unwrap();
    ["access", "derivation"].map(|kind| list["in_force"][kind]["document"].as_str().unwrap().to_owned())
}

/// The encrypted copies in the vault of an organisation's node.
async fn copies(consortium: &Consortium, org: &str) -> u64 {
    consortium.node(org).status().await["vault"]["held"].as_u64().unwrap()
}

/// The copies that the ledger names and an organisation's node lacks.
async fn missing(consortium: &Consortium, org: &str) -> u64 {
    consortium.node(org).status().await["vault"]["missing"].as_u64().unwrap()
}

/// How many batches of frames the ledger of an organisation's node has.
fn batches(consortium: &Consortium, org: &str) -> usize {
    let config = consortium.node(org).dir.display().to_string();
    let list = good(vitaltrace(["ledger", "entries", "--kind", "batch", "--json", "--config", &config]));
    serde_json::from_str::<Value>(&list).unwrap()["entries"].as_array().unwrap().len()
}

/// How often frames were batched was read once when the node started: a policy with another cadence changed nothing before a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_consortium_founded_on_policies_of_its_own_changes_its_derivation_policy_while_it_runs() {
    let make = |policies: &Path| {
        let changed = changed_policies(policies);
        for name in fs::read_dir(&changed).unwrap().map(|file| file.unwrap().file_name()) {
            fs::rename(changed.join(&name), policies.join(&name)).unwrap();
        }
        fs::remove_dir(changed).unwrap();
        replace(&policies.join("derivation.toml"), "batch_cadence_s = 5", "batch_cadence_s = 3600");
    };
    let mut consortium = Consortium::found_on(&consortium::FOUR, Some(&make)).await;
    for (name, role) in [("doctor", "doctor"), ("desk", "administrator")] {
        consortium.add_user(MERCY, name, role, None);
    }

    // Who lacks the documents that the genesis document names is told so, and does not start.
    let (there, away) = (consortium.node(ACME).dir.join("policies"), consortium.folder().join("away"));
    fs::rename(&there, &away).unwrap();
    let refused = vitaltrace(["serve", "--config", &consortium.node(ACME).dir.display().to_string()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("policy in force") && said.contains("the documents that it was started with"), "{said}");
    fs::rename(&away, &there).unwrap();
    consortium.start_all().await;

    // Founded on the access policy of its own: administrators do not see who the patient is.
    let (doctor, desk) = (consortium.client(MERCY, "doctor"), consortium.client(MERCY, "desk"));
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    assert_eq!((reads(&doctor, &patient).await, reads(&desk, &patient).await), (200, 403));
    let founded = in_force(&consortium, MERCY);
    let genesis: Value =
        serde_json::from_slice(&fs::read(consortium.node(ACME).dir.join("genesis.json")).unwrap()).unwrap();
    assert_eq!(founded, ["access_policy", "derivation_policy"].map(|kind| genesis[kind].as_str().unwrap().to_owned()));

    // A pulse is not essential, and a frame that came is in no batch for an hour.
    let pulse = json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "Pulse"}, "valueInteger": 72,
        "subject": {"reference": format!("Patient/{patient}")}
    });
    consortium.settle().await;
    let held = copies(&consortium, MERCY).await;
    let before = doctor.create(&pulse).await.id();
    let device = doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
    let config = consortium.node(MERCY).dir.display().to_string();
    let file = consortium.folder().join("monitor.json").display().to_string();
    let made = good(vitaltrace(["sense", "--config", &config, "--device", &file, "--new", &device]));
    let key = made.lines().find_map(|line| line.strip_prefix("public key ")).unwrap();
    doctor.post(&format!("/fhir/Device/{device}/$bind"), &json!({"patient": patient, "key": key})).await.good();
    let sense = ["sense", "--config", &config, "--device", &file, "--signal", "generated", "--seconds", "3"];
    good(vitaltrace(sense));
    consortium.settle().await;
    assert_eq!(copies(&consortium, MERCY).await, held);
    assert_eq!(batches(&consortium, MERCY), 0);

    // The members make observations essential, and have frames batched every second.
    let folder = consortium.folder().join("essential");
    fs::create_dir(&folder).unwrap();
    fs::copy(there.join("derivation.toml"), folder.join("derivation.toml")).unwrap();
    replace(&folder.join("derivation.toml"), "batch_cadence_s = 3600", "batch_cadence_s = 1");
    replace(&folder.join("derivation.toml"), "essential = [", "essential = [\n    \"Observation\",");
    let proposed = policy(&consortium, MERCY, &["propose", &folder.display().to_string(), "--in", IN]);
    let digest = good(proposed).trim().to_owned();
    for org in [RESCUE, ACME, WATCH] {
        good(policy(&consortium, org, &["vote", &digest, "yes"]));
    }
    until_its_height(&consortium, MERCY).await;
    for org in [MERCY, RESCUE, ACME, WATCH] {
        until("another derivation policy in force", async || {
            in_force(&consortium, org) == [founded[0].clone(), digest.clone()]
                && proposal(&consortium, org).1["state"] == "in force"
        })
        .await;
    }
    // Without a restart: the frames that waited are batched, and those that come later.
    until("a batch of what waited", async || batches(&consortium, MERCY) > 0).await;
    let waited = batches(&consortium, MERCY);
    good(vitaltrace(sense));
    until("a batch of what came later", async || batches(&consortium, MERCY) > waited).await;

    // What was written before has no copy; what is written from now on has one with all that may hold it.
    let orgs = [MERCY, RESCUE, WATCH];
    consortium.settle().await;
    let mut held = Vec::new();
    for org in orgs {
        // What was essential before, such as the patient, may still be on its way to a custodian.
        until("all copies before", async || missing(&consortium, org).await == 0).await;
        held.push(copies(&consortium, org).await);
    }
    let after = doctor.create(&pulse).await.id();
    consortium.settle().await;
    for (org, held) in orgs.into_iter().zip(held) {
        until("a copy", async || copies(&consortium, org).await > held).await;
    }
    assert_eq!(copies(&consortium, ACME).await, 0);
    for id in [before, after] {
        let receipt = doctor.get(&format!("/fhir/Observation/{id}/_provenance")).await.good().json();
        assert_eq!(receipt["state"], "final", "{receipt}");
    }
    assert_eq!(consortium.node(MERCY).status().await["refused"], 0);
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
    // One permission more, and a property is broken.
    let broken = folder.path().join("broken");
    good(Command::new("cp").arg("-r").arg(&source).arg(&broken).output().unwrap());
    let properties = |dir: &str, path: Option<&str>| {
        let mut command = Command::new(consortium::program());
        command.args(["policy", "check", dir]).env_remove("CVC5");
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (exit, said) = properties(&source, Some("/nowhere"));
    assert!(exit == Some(0) && said.contains("10 properties not proven: no cvc5 found"), "{said}");

    let without = difference(Some("/nowhere"));
    assert!(without.contains("not proven: no cvc5 found"), "{without}");
    let first = "loses: administrator";
    assert!(without.starts_with(first) && !without.contains("gains:"), "{without}");
    if Command::new("cvc5").arg("--version").output().is_err() {
        println!("SKIPPED: cvc5 not found, which proves what a change of policy changes");
        return;
    }
    let (exit, said) = properties(&source, None);
    assert!(exit == Some(0) && said.matches("proven: ").count() == 10 && !said.contains("broken"), "{said}");
    assert!(said.contains("proven: an insurer never reads psychotherapy notes"), "{said}");
    let restricted = r#"Role::"dispatcher", Role::"administrator", Role::"insurer", Role::"engine","#;
    let changed_never = fs::read_to_string(Path::new(&source).join("access/never.cedar")).unwrap();
    let opened = changed_never.replace(restricted, r#"Role::"dispatcher", Role::"administrator", Role::"engine","#);
    fs::write(broken.join("access/never.cedar"), opened).unwrap();
    let (exit, said) = properties(&broken.display().to_string(), None);
    assert_eq!(exit, Some(1), "{said}");
    let lines = ["broken: an insurer never reads psychotherapy notes", "  allowed: Read by a person (role insurer"];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    let with = difference(None);
    for line in ["proven: Read is less permissive", "  denied now, allowed before: a person (role administrator"] {
        assert!(with.contains(line), "{with}");
    }
    assert!(!with.contains("more permissive") && !with.contains("different"), "{with}");
}
