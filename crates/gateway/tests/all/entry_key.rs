//! An organisation changes the key that its entries are signed by, while people write.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{self, Consortium, PATIENCE, client::Client, good, vitaltrace};
use contract::{AlarmStep, Body, Entry, Priority, SignedSubmission, Submission};
use ed25519_dalek::SigningKey;
use record::{Digest, Id16, Purpose, TimeMs};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const RESCUE: &str = "rescue-one";
const MERCY: &str = "mercy-hospital";
const WRITERS: usize = 4;
/// Records that are written before, between and after the changes of the key, at least.
const WRITTEN_MIN: usize = 40;

async fn person(doctor: &Client) -> String {
    doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id()
}

/// An observation of a patient.
fn pulse(patient: &str) -> Value {
    let subject = json!({"reference": format!("Patient/{patient}")});
    json!({"resourceType": "Observation", "status": "final", "subject": subject, "code": {"text": "Pulse"}, "valueInteger": 70})
}

async fn receipt(client: &Client, record: &str) -> Value {
    client.get(&format!("/fhir/{record}/_provenance")).await.good().json()
}

fn config(consortium: &Consortium, org: &str) -> String {
    consortium.node(org).dir.display().to_string()
}

fn entry_key_file(consortium: &Consortium, org: &str) -> PathBuf {
    consortium.node(org).dir.join("keys/entry.key")
}

/// The organisation's entry key and the height since which it counts, as another organisation's node shows them.
fn shown(consortium: &Consortium, org: &str) -> (String, u64) {
    let list = good(vitaltrace(["member", "list", "--json", "--config", &config(consortium, RESCUE)]));
    let list: Value = serde_json::from_str(&list).unwrap();
    let member = list["members"].as_array().unwrap().iter().find(|member| member["org"] == org).unwrap().clone();
    (member["entry_key"].as_str().unwrap().to_owned(), member["entry_from"].as_u64().unwrap())
}

fn rotate(consortium: &Consortium, org: &str, more: &[&str]) {
    let config = config(consortium, org);
    let args = ["member", "rotate-entry-key", "--config", &config];
    let done = vitaltrace(args.iter().chain(more));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    good(done);
    assert!(said.contains("entries are signed by the new key from height"), "{said}");
}

/// Waits until writers wrote so many records more that they cannot have been idle.
async fn more_are_written(count: &AtomicUsize) {
    let (before, begin) = (count.load(Ordering::Relaxed), Instant::now());
    while count.load(Ordering::Relaxed) < before + WRITTEN_MIN {
        assert!(begin.elapsed() < PATIENCE, "nobody writes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Starts a node that is to end by itself, and gives what it said.
async fn serve_to_the_end(consortium: &Consortium, org: &str) -> Output {
    let mut serve = Command::new(consortium::program());
    serve.arg("serve").arg("--config").arg(&consortium.node(org).dir);
    serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (mut process, begin) = (serve.spawn().unwrap(), Instant::now());
    while process.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            process.kill().unwrap();
            let said = process.wait_with_output().unwrap().stderr;
            panic!("the node of {org} goes on: {}", String::from_utf8_lossy(&said));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.wait_with_output().unwrap()
}

fn log(consortium: &Consortium, org: &str) -> String {
    fs::read_to_string(consortium.node(org).dir.join("node.log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_key_is_replaced_while_people_write_and_nothing_that_was_answered_is_lost() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor"), (RESCUE, "desk", "administrator")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = person(&doctor).await;
    let before = doctor.create(&pulse(&patient)).await.id();
    let (first_key, since) = shown(&consortium, MERCY);
    assert_eq!(since, 0);
    let first_file = fs::read(entry_key_file(&consortium, MERCY)).unwrap();

    // People write all the time, and one reads on another gateway what is not final yet.
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (doctor, over, count, patient) = (doctor.clone(), over.clone(), count.clone(), patient.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    written.push(format!("Observation/{}", doctor.create(&pulse(&patient)).await.id()));
                    written.push(format!("Patient/{}", person(&doctor).await));
                    count.fetch_add(2, Ordering::Relaxed);
                }
                written
            })
        })
        .collect();
    let desk = consortium.client(RESCUE, "desk");
    let reading = {
        let (doctor, desk, over) = (doctor.clone(), desk.clone(), over.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let fresh = person(&doctor).await;
                let (path, begin) = (format!("/fhir/Patient/{fresh}"), Instant::now());
                // A node that is behind on a machine with other work may have the row before the block that names the key.
                loop {
                    let answer = desk.get(&path).await;
                    if answer.status == 200 {
                        break;
                    }
                    assert!(begin.elapsed() < PATIENCE, "answered {}: {}", answer.status, answer.text());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        })
    };
    more_are_written(&count).await;
    // Twice: a key that was replaced is not the only older one.
    for _ in 0..2 {
        rotate(&consortium, MERCY, &[]);
        more_are_written(&count).await;
    }
    over.store(true, Ordering::Relaxed);
    reading.await.unwrap();
    let mut written = vec![format!("Observation/{before}"), format!("Patient/{patient}")];
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    assert!(written.len() > 3 * WRITTEN_MIN, "{}", written.len());
    let after = doctor.create(&pulse(&patient)).await.id();
    written.push(format!("Observation/{after}"));
    consortium.settle().await;
    for record in &written {
        let receipt = receipt(&doctor, record).await;
        assert_eq!(receipt["state"], "final", "{record}: {receipt}");
    }
    assert_eq!(consortium.node(MERCY).status().await["refused"], 0);
    let (second_key, since) = shown(&consortium, MERCY);
    assert_ne!(second_key, first_key);
    let heights = [&written[0], written.last().unwrap()].map(|record| receipt(&doctor, record));
    let [first, last] = futures::future::join_all(heights).await.try_into().unwrap();
    assert!(first["height"].as_u64().unwrap() < since && last["height"].as_u64().unwrap() >= since, "{first} {last}");

    // The new key is its owner's alone, the next one is in place, and the audit finds nothing.
    let mode = fs::metadata(entry_key_file(&consortium, MERCY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!consortium.node(MERCY).dir.join("keys/entry.next.key").exists());
    good(vitaltrace(["audit", "--full", "--config", &config(&consortium, MERCY)]));

    // Evidence of the patient goes over all three keys.
    let file = consortium.folder().join("patient.vt").display().to_string();
    let genesis = consortium.node(MERCY).dir.join("genesis.json").display().to_string();
    good(vitaltrace(["prove", "--config", &config(&consortium, MERCY), "--patient", &patient, "--output", &file]));
    let report = good(vitaltrace(["verify", &file, "--genesis", &genesis]));
    assert!(report.contains("signed, for receipts and as a checkpoint, by"), "{report}");
    assert!(report.contains(MERCY), "{report}");

    // A node that starts goes on by the new key; one with the older key says what is wrong, and does not start.
    let second_file = fs::read(entry_key_file(&consortium, MERCY)).unwrap();
    assert_eq!(consortium.node_mut(MERCY).stop(), Some(0));
    fs::write(entry_key_file(&consortium, MERCY), first_file).unwrap();
    let refused = serve_to_the_end(&consortium, MERCY).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("signs its entries by another key since: put the latest `entry.key`"), "{said}");
    fs::write(entry_key_file(&consortium, MERCY), second_file).unwrap();
    consortium.node_mut(MERCY).start();
    consortium.node_mut(MERCY).wait_until_up().await;
    let record = format!("Patient/{}", person(&doctor).await);
    consortium.settle().await;
    assert_eq!(receipt(&doctor, &record).await["state"], "final");
}

/// A submission of one alarm in a lane of its own, as a gateway that is gone left it in the database.
fn left_behind(consortium: &Consortium, key: &[u8], lane: u32) -> SignedSubmission {
    let genesis: contract::Genesis =
        serde_json::from_slice(&fs::read(consortium.node(MERCY).dir.join("genesis.json")).unwrap()).unwrap();
    let seed: [u8; 32] = hex::decode(String::from_utf8(key.to_vec()).unwrap().trim()).unwrap().try_into().unwrap();
    let id = Id16([lane as u8; 16]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let org: record::OrgId = MERCY.parse().unwrap();
    let entry = Entry {
        id,
        org: org.clone(),
        time: TimeMs(now.as_millis() as u64),
        purpose: Purpose::Treat,
        policy: genesis.access_policy,
        actor: Digest([1; 32]),
        patient: None,
        month: None,
        body: Body::Alarm { id, step: AlarmStep::Raised, priority: Priority::Low },
    };
    let submission = Submission { chain: genesis.id(), org, lane, first_seq: 1, entries: vec![entry] };
    submission.sign(&SigningKey::from_bytes(&seed))
}

/// How many entries of a kind the ledger of an organisation's node has.
fn count(consortium: &Consortium, kind: &str) -> usize {
    let config = config(consortium, RESCUE);
    let list = good(vitaltrace(["ledger", "entries", "--kind", kind, "--json", "--config", &config]));
    serde_json::from_str::<Value>(&list).unwrap()["entries"].as_array().unwrap().len()
}

/// The gateway compared what lies signed in the database with its present key alone: after a change of keys, whatever a lost folder had left
/// behind was nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_key_signed_is_still_its_own_unless_the_key_leaked() {
    let mut consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    person(&doctor).await;
    let keys = {
        let mut keys = vec![fs::read(entry_key_file(&consortium, MERCY)).unwrap()];
        for more in [&[][..], &["--leaked"]] {
            rotate(&consortium, MERCY, more);
            keys.push(fs::read(entry_key_file(&consortium, MERCY)).unwrap());
        }
        keys
    };
    consortium.settle().await;
    // Lane 1 by a key that was replaced, lane 2 by one that leaked before it was replaced, lane 3 by the present one.
    assert_eq!(consortium.node_mut(MERCY).stop(), Some(0));
    let database = Connection::open(&consortium.database).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    for (lane, key) in (1..).zip(&keys) {
        let bytes = left_behind(&consortium, key, lane).to_bytes();
        let row = rusqlite::params![MERCY, lane, bytes];
        let insert = "INSERT INTO submission (org, lane, first_seq, count, bytes) VALUES (?1, ?2, 1, 1, ?3)";
        assert_eq!(database.execute(insert, row).unwrap(), 1);
    }
    drop(database);
    assert_eq!(count(&consortium, "alarm"), 0);
    consortium.node_mut(MERCY).start();
    consortium.node_mut(MERCY).wait_until_up().await;
    let begin = Instant::now();
    while count(&consortium, "alarm") < 2 {
        assert!(begin.elapsed() < PATIENCE, "{}", log(&consortium, MERCY));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nothing is waited for any more, and what is written now is final after all of it.
    person(&doctor).await;
    consortium.settle().await;
    assert_eq!(count(&consortium, "alarm"), 2);
    assert_eq!(consortium.node(MERCY).status().await["refused"], 0);
}
