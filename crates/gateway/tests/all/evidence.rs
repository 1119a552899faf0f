//! Evidence that real nodes make: what it shows beside the log, who signs it, and what is said when somebody does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{Consortium, PATIENCE, client::Client, good, vitaltrace};
use contract::{Genesis, PublicKey};
use ed25519_dalek::SigningKey;
use exchange::clock::now;
use record::{Digest, OrgId};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Instant};

const MERCY: &str = "mercy-hospital";
const ACME: &str = "acme-insurance";

/// A consortium with one patient at the hospital, who wears a device.
struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&[(MERCY, "doctor", "doctor")]).await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        let site = Self { consortium, doctor, patient };
        site.measure().await;
        for value in [70, 72] {
            site.observe(value).await;
        }
        site.consortium.settle().await;
        site
    }

    async fn observe(&self, value: u32) {
        let observation = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{}", self.patient)},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        self.doctor.create(&observation).await;
    }

    /// A bound device sends two frames, whose batch comes to stand on the ledger.
    async fn measure(&self) {
        let device = self.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
        let key = SigningKey::from_bytes(&[7; 32]);
        let bind = json!({"patient": self.patient, "key": hex::encode(key.verifying_key().as_bytes())});
        self.doctor.post(&format!("/fhir/Device/{device}/$bind"), &bind).await.good();
        let mut previous = sensing::NO_PREVIOUS;
        for counter in 1..=2 {
            let frame = frame(&device, &key, counter, previous);
            previous = frame.digest();
            let body = Some(frame.bytes().to_vec());
            let sent = self.doctor.with_token("").try_send(reqwest::Method::POST, "/frames", &[], body).await;
            sent.unwrap().good();
        }
        let begin = Instant::now();
        loop {
            let batches = self.doctor.get("/ledger/entries?kind=batch").await.json();
            if !batches["entries"].as_array().unwrap().is_empty() {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the frames do not come to stand on the ledger");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Makes evidence by the command line, and gives the file.
    fn prove(&self, more: &[&str]) -> String {
        let config = self.consortium.node(MERCY).dir.display().to_string();
        let file = self.consortium.folder().join("patient.evidence").display().to_string();
        let asked = ["prove", "--config", &config, "--patient", &self.patient, "-o", &file];
        good(vitaltrace(asked.iter().chain(more)));
        file
    }

    /// Evidence that every member signed: how long nodes take to answer on a machine with other work is nobody's promise.
    fn proved_by_all(&self) -> String {
        let begin = Instant::now();
        loop {
            let file = self.prove(&[]);
            if members(&self.verify(&file), false).is_empty() {
                return file;
            }
            assert!(begin.elapsed() < PATIENCE, "not every member signs");
        }
    }

    /// The first block that has a certificate of its own, as not every block has one: its height and digest.
    async fn certified(&self) -> (u64, String) {
        let last = self.consortium.node(MERCY).status().await["height"].as_u64().unwrap();
        for height in 1..last {
            let block = self.doctor.get(&format!("/ledger/blocks/{height}")).await.good().json();
            if block["certified"] == true {
                return (height, block["digest"].as_str().unwrap().to_owned());
            }
        }
        panic!("no block of {last} has a certificate");
    }

    fn genesis_file(&self) -> String {
        self.consortium.node(MERCY).dir.join("genesis.json").display().to_string()
    }

    fn genesis(&self) -> Genesis {
        serde_json::from_str(&fs::read_to_string(self.genesis_file()).unwrap()).unwrap()
    }

    /// The report of `vitaltrace verify`.
    fn verify(&self, file: &str) -> Value {
        let said = good(vitaltrace(["verify", file, "--genesis", &self.genesis_file(), "--json"]));
        let document: Value = serde_json::from_str(&said).unwrap();
        document["report"].clone()
    }
}

fn frame(device: &str, key: &SigningKey, counter: u64, previous: Digest) -> sensing::Frame {
    let value = sensing::Value::Number { unit: "Cel".to_owned(), value: sensing::Decimal::from_f64(36.8).unwrap() };
    let signals = vec![sensing::Signal { name: "temp-body".to_owned(), offset_ms: 0, value }];
    let device = exchange::device_name(device).unwrap();
    sensing::Frame::sign(sensing::Pack { device, counter, previous, device_time: now(), signals }, key).unwrap()
}

fn key_of<'a>(genesis: &'a Genesis) -> impl Fn(&OrgId) -> Option<PublicKey> + 'a {
    |org| genesis.member(org).map(|member| member.entry_key)
}

/// The members that signed the log, or those that did not, as the report names them.
fn members(report: &Value, signed: bool) -> Vec<&str> {
    let witnesses = report["witnesses"].as_array().unwrap().iter();
    let of = witnesses.filter(|witness| witness["cosigned"].is_null() != signed);
    of.map(|witness| witness["organisation"].as_str().unwrap()).collect()
}

fn says(report: &Value, which: &str, words: &str) -> bool {
    report[which].as_array().unwrap().iter().any(|sentence| sentence.as_str().unwrap().contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_shows_what_is_current_the_devices_keys_every_place_and_each_members_signature() {
    let mut site = Site::new().await;
    let file = site.proved_by_all();
    let report = site.verify(&file);
    assert_eq!(report["complete"], true);
    assert_eq!((&report["current_unshown"], &report["devices_unshown"]), (&json!(0), &json!(0)));
    let current = report["current"].as_array().unwrap();
    assert!(current.len() >= 3 && current.iter().all(|record| record["opened"] == true), "{current:?}");
    let devices = report["devices"].as_array().unwrap();
    assert_eq!((devices.len(), &devices[0]["revoked"], &devices[0]["late"]), (1, &Value::Null, &json!(0)));
    assert_eq!(report["ledger_log"]["placed"], report["entry_count"]);
    assert_eq!(members(&report, true), [ACME, "health-inspectorate", MERCY, "rescue-one"]);
    assert!(says(&report, "proven", "4 of the 4 members"), "{report}");
    assert!(!says(&report, "not_proven", "no signature on the ledger's log"), "{report}");

    receipts_hold(&site, &file, &report);

    // Somebody who does not answer stops nothing, and is named.
    site.consortium.node_mut(ACME).kill();
    let report = site.verify(&site.prove(&[]));
    assert_eq!(report["complete"], true);
    assert_eq!(members(&report, false), [ACME]);
    assert!(says(&report, "not_proven", "no signature on the ledger's log by acme-insurance"), "{report}");
}

/// What the members signed, taken out of the file in the forms that others read.
fn receipts_hold(site: &Site, file: &str, report: &Value) {
    let folder = site.consortium.folder().join("receipts");
    let shown = folder.display().to_string();
    good(vitaltrace(["verify", file, "--genesis", &site.genesis_file(), "--receipts", &shown]));
    let genesis = site.genesis();
    let note = fs::read(folder.join("checkpoint.txt")).unwrap();
    let checkpoint = evidence::read_checkpoint(&note, &genesis.id(), key_of(&genesis)).unwrap();
    assert_eq!(checkpoint.cosignatures.len(), 4);
    assert_eq!(json!(checkpoint.head.root), report["ledger_log"]["root"]);
    let entries = report["entries"].as_array().unwrap();
    for entry in entries {
        let id = entry["id"].as_str().unwrap();
        let leaf = contract::merkle::leaf(&fs::read(folder.join(format!("{id}.leaf"))).unwrap());
        for member in &genesis.members {
            let receipt = fs::read(folder.join(format!("{id}-{}.cose", member.org))).unwrap();
            let read = evidence::read_receipt(&receipt, &genesis.id(), &member.org, &member.entry_key, &leaf);
            let (head, inclusion) = read.unwrap();
            assert_eq!((head, &json!(inclusion.index)), (checkpoint.head, &entry["index"]));
        }
    }
    let receipts = fs::read_dir(&folder).unwrap().filter(|file| is_receipt(&file.as_ref().unwrap().path())).count();
    assert_eq!(receipts, entries.len() * 4);
}

fn is_receipt(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cose")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_cosigns_its_checkpoint_and_evidence_of_a_range_is_all_of_it() {
    let site = Site::new().await;
    let genesis = site.genesis();
    for node in &site.consortium.nodes {
        // Public data: nobody logs in.
        let answer = Client::new(&node.base(), "").get("/ledger/checkpoint").await.good();
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        let checkpoint = evidence::read_checkpoint(&answer.bytes, &genesis.id(), key_of(&genesis)).unwrap();
        let cosigned: Vec<&str> = checkpoint.cosignatures.iter().map(|one| one.org.as_str()).collect();
        assert_eq!(cosigned, [node.org.as_str()]);
        assert!(checkpoint.head.size > 0);
    }

    let whole = site.verify(&site.prove(&[]));
    let heights: Vec<u64> =
        whole["entries"].as_array().unwrap().iter().map(|e| e["height"].as_u64().unwrap()).collect();
    let (first, last) = (heights[0], heights[heights.len() - 1]);
    assert!(first < last, "{heights:?}");
    for (from, to) in [(first, first), (first + 1, last), (last, last), (first, last)] {
        let inside = heights.iter().filter(|height| (from..=to).contains(*height)).count();
        let report = site.verify(&site.prove(&["--from", &from.to_string(), "--to", &to.to_string()]));
        assert_eq!(report["entry_count"], inside, "{from} to {to}");
        let part = &report["months"][0]["part"];
        assert!(part["from"].as_u64() <= Some(from) && part["to"].as_u64() >= Some(to), "{from} to {to}: {part}");
        assert_eq!(report["complete"], false);
        for words in ["these are all in that range", "none was added", "and none after it"] {
            assert!(says(&report, "proven", words), "{report}");
        }
        assert_eq!(report["ledger_log"]["placed"], report["entry_count"]);
    }
    // Where nothing is in the range, the last entries before it show that.
    let report = site.verify(&site.prove(&["--from", "1000000"]));
    let last = &report["months"][0]["last_height"];
    let given = report["entries"].as_array().unwrap();
    assert!(!given.is_empty() && given.iter().all(|entry| entry["height"] == *last), "{report}");

    let config = site.consortium.node(MERCY).dir.display().to_string();
    let wrong = ["prove", "--config", &config, "--patient", &site.patient, "-o", "x", "--from", "9", "--to", "8"];
    assert_eq!(vitaltrace(wrong).status.code(), Some(2));
    let custodian = site.doctor.for_purpose("HSYSADMIN");
    let asked = custodian.get(&format!("/evidence/{}?from=9&to=8", site.patient)).await;
    assert_eq!(asked.status, 422, "{}", asked.text());
}

/// The end of a run of the program: its exit code, and what it said.
fn ended(output: &std::process::Output) -> (Option<i32>, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_is_proven_alone_by_a_small_file_that_says_what_it_proves_and_what_not() {
    let site = Site::new().await;
    let allergy = json!({
        "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{}", site.patient)},
        "criticality": "high", "code": {"text": "Penicillin"}
    });
    let id = site.doctor.create(&allergy).await.id();
    site.consortium.settle().await;
    let name = format!("AllergyIntolerance/{id}");
    let config = site.consortium.node(MERCY).dir.display().to_string();
    let genesis = site.genesis_file();
    let prove = |record: &str, file: &str, more: &[&str]| {
        let file = site.consortium.folder().join(file).display().to_string();
        let asked = ["prove", "--config", &config, "--record", record, "-o", &file];
        (file.clone(), vitaltrace(asked.iter().chain(more)))
    };
    let verify = |file: &str, more: &[&str]| {
        vitaltrace(["verify", file, "--genesis", &genesis].iter().copied().chain(more.iter().copied()))
    };

    let (first, made) = prove(&name, "first.vt", &[]);
    good(made);
    let shown = site.doctor.get(&format!("/fhir/{name}")).await.good().bytes;
    let extracted = site.consortium.folder().join("record.json").display().to_string();
    let said = good(verify(&first, &["--extract", &extracted]));
    let (proven, not_proven) = said.split_once("NOT proven:").unwrap();
    assert!(
        said.starts_with(&format!("verified: version 1 of a record that calls itself {name}, current at")),
        "{said}"
    );
    assert!(proven.contains(&format!("exactly those that {MERCY} committed to as this version")), "{said}");
    assert!(proven.contains(&format!("They call themselves {name}.")), "{said}");
    assert!(not_proven.contains("That it did not change after height "), "{said}");
    assert_eq!(fs::read(&extracted).unwrap(), shown, "the record as it was written");
    let whole = site.prove(&[]);
    assert!(fs::metadata(&first).unwrap().len() < fs::metadata(&whole).unwrap().len());

    // Changed since: the first file says still what was so at its height, the next one has the new version.
    let changed = json!({"criticality": "low", "id": id}).as_object().unwrap().clone();
    let mut body = allergy.clone();
    body.as_object_mut().unwrap().extend(changed);
    site.doctor.put(&format!("/fhir/{name}"), &body, &[]).await.good();
    site.consortium.settle().await;
    let (height, digest) = site.certified().await;
    let (known, height) = (format!("{height}:{digest}"), height.to_string());
    let (second, made) = prove(&name, "second.vt", &["--through", &height]);
    good(made);
    let report = |file: &str, more: &[&str]| -> Value {
        serde_json::from_str(&good(verify(file, &[&["--json"], more].concat()))).unwrap()
    };
    let (before, after) = (report(&first, &[]), report(&second, &["--checkpoint", &known]));
    assert_eq!((&before["record"]["version"], &after["record"]["version"]), (&json!(1), &json!(2)));
    assert!(before["record"]["height"].as_u64() < after["record"]["height"].as_u64(), "{before} {after}");

    // What is changed, of another consortium or not through a block that is known is not verified.
    let mut forged = fs::read(&second).unwrap();
    let at = forged.windows(3).rposition(|bytes| bytes == b"low").unwrap();
    forged[at..at + 3].copy_from_slice(b"not");
    let forged_file = site.consortium.folder().join("forged.vt").display().to_string();
    fs::write(&forged_file, forged).unwrap();
    let (code, said) = ended(&verify(&forged_file, &[]));
    assert!(code == Some(1) && said.contains("NOT verified") && said.contains(&name), "{said}");
    let other = ["verify", &second, "--genesis-id", &"ab".repeat(32)];
    assert_eq!(ended(&vitaltrace(other)).0, Some(1));
    let elsewhere = format!("{height}:{}", "cd".repeat(32));
    assert_eq!(ended(&verify(&second, &["--checkpoint", &elsewhere])).0, Some(1));

    // What cannot be proven alone is said, with what to do.
    let frame = format!("Observation/{}", "0f".repeat(32));
    for (record, why) in [("AuditEvent/any", "an audit event never has another version"), (&frame, "of its batch")] {
        let (code, said) = ended(&prove(record, "none.vt", &[]).1);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("cannot be proven alone") && said.contains(why), "{said}");
        assert!(said.contains("`vitaltrace prove --patient ID`"), "{said}");
    }
    let (code, said) = ended(&prove("AllergyIntolerance/none", "none.vt", &[]).1);
    assert!(code == Some(3) && said.contains("there is no `AllergyIntolerance/none`"), "{said}");
    for (record, more) in
        [("nothing", &[][..]), ("a/b/c", &[]), (&name, &["--patient", "p"]), (&name, &["--from", "1"])]
    {
        assert_eq!(ended(&prove(record, "none.vt", more).1).0, Some(2), "{record} {more:?}");
    }
    assert_eq!(ended(&verify(&first, &["--receipts", "none"])).0, Some(2));
    assert_eq!(ended(&verify(&whole, &["--extract", "none"])).0, Some(2));
    assert_eq!(site.doctor.get(&format!("/evidence/record/{name}")).await.status, 403);
}
