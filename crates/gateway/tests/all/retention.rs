//! Frames past the term of the policy, in a consortium of real processes: rolled up, said on the ledger, taken out; and frames that stay.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium, PATIENCE,
    client::Client,
    good,
    sensor::{Sensor, now},
    vitaltrace,
};
use record::TimeMs;
use sensing::Frame;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const MERCY: &str = "mercy-hospital";
const RESCUE: &str = "rescue-one";
/// How long the policy of the test keeps frames, in seconds: as short as a policy may.
const KEEP_S: u64 = 60;
/// Frames of each patient.
const FRAMES: usize = 12;

/// A patient with a thermometer that sent some frames and was taken off again.
struct Measured {
    id: String,
    sensor: Sensor,
    digests: Vec<String>,
}

struct Site {
    consortium: Consortium,
    doctor: Client,
    begin: TimeMs,
}

impl Site {
    async fn new() -> Self {
        let make = |policies: &Path| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/.");
            good(Command::new("cp").arg("-r").arg(&source).arg(policies).output().unwrap());
            let path = policies.join("derivation.toml");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{text}\n[retention]\nkeep_s = {KEEP_S}\nroll_up_s = 10\n")).unwrap();
        };
        let mut consortium = Consortium::found_on(&consortium::FOUR, Some(&make)).await;
        for (org, name) in [(MERCY, "custodian"), (RESCUE, "custodian"), (MERCY, "doctor"), (RESCUE, "medic")] {
            let role = match name {
                "medic" => "responder",
                other => other,
            };
            consortium.add_user(org, name, role, None);
        }
        consortium.add_user(MERCY, "officer", "privacy-officer", None);
        for org in ["acme-insurance", "health-inspectorate"] {
            consortium.add_user(org, "custodian", "custodian", None);
        }
        consortium.start_all().await;
        let doctor = consortium.client(MERCY, "doctor");
        Self { consortium, doctor, begin: TimeMs(now().0 - 60_000) }
    }

    async fn measured(&self, seed: u8) -> Measured {
        let id = self.doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        self.consortium.settle().await;
        let mut sensor = Sensor::bound(&self.doctor, &id, seed).await;
        let frames: Vec<Frame> = sensor.next_of(FRAMES);
        let answers = self.doctor.send_frames(&frames).await.good().json();
        assert!(answers["answers"].as_array().unwrap().iter().all(|answer| answer["status"] == 201), "{answers}");
        let digests = frames.iter().map(|frame| frame.digest().to_hex()).collect();
        let measured = Measured { id, sensor, digests };
        let began = Instant::now();
        while self.recording(&measured).await["pending"] != 0 {
            assert!(began.elapsed() < PATIENCE, "frames are in no final batch");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        measured
    }

    async fn recording(&self, of: &Measured) -> Value {
        let (begin, end) = (self.begin.to_instant(), self.begin.plus_ms(3_600_000).to_instant());
        let path = format!("/fhir/Patient/{}/$signals?start={begin}&end={end}", of.id);
        self.doctor.get(&path).await.good().json()
    }

    fn custodian(&self, org: &str) -> Client {
        self.consortium.client(org, "custodian").for_purpose("HSYSADMIN")
    }

    async fn audit(&self, org: &str) -> Value {
        self.consortium.settle().await;
        self.custodian(org).post("/audit", &json!({"full": true})).await.good().json()
    }

    /// Kind, device and number of all findings about frames.
    fn of_frames(report: &Value) -> Vec<(String, String, u64)> {
        let findings = report["findings"].as_array().unwrap().iter().map(|finding| {
            assert!(finding["frames"].is_object(), "{finding}");
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            (text("kind"), text("record"), finding["frames"]["count"].as_u64().unwrap())
        });
        findings.collect()
    }

    /// How many rows a device has in the database.
    fn rows(&self, of: &Measured) -> u64 {
        let database = rusqlite::Connection::open(&self.consortium.database).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        let device = format!("urn:dev:fhir:{}", of.sensor.id);
        let sql = "SELECT count(*) FROM frame WHERE device = ?1";
        database.query_row(sql, [device], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    }

    /// The row of a frame, as it stands in the database.
    fn row(&self, digest: &str) -> Vec<rusqlite::types::Value> {
        let database = rusqlite::Connection::open(&self.consortium.database).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = "SELECT fid, device, counter, binding, patient, received_at, measured_at, digest, bytes, kind \
                   FROM frame WHERE lower(hex(digest)) = ?1";
        database.query_row(sql, [digest], |row| (0..10usize).map(|column| row.get(column)).collect()).unwrap()
    }

    /// Puts the row of a frame that was let go back, and takes away what stays of it.
    fn bring_back(&self, digest: &str, row: Vec<rusqlite::types::Value>) {
        self.consortium.sql("DELETE FROM let_go WHERE lower(hex(digest)) = ?1", [digest]);
        let sql = "INSERT INTO frame (fid, device, counter, binding, patient, received_at, measured_at, digest, bytes, kind) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.consortium.sql(sql, rusqlite::params_from_iter(row));
    }

    async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < 3 * PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn disposals(&self) -> u64 {
        let node = self.consortium.node(RESCUE);
        node.status().await["by_kind"]["disposal"].as_u64().unwrap_or(0)
    }
}

/// Without a retention nothing of this is done: all other tests of this folder run so.
#[tokio::test(flavor = "multi_thread")]
async fn frames_past_their_term_are_rolled_up_and_let_go_and_nobody_takes_them_for_missing() {
    let mut site = Site::new().await;
    let robbed = site.measured(3).await;
    // Somebody takes out a frame before its time.
    let name = format!("urn:dev:fhir:{}", robbed.sensor.id);
    site.consortium.sql("DELETE FROM frame WHERE device = ?1 AND counter = 5", [name]);
    let held = site.measured(2).await;
    let hold = json!({"patient": held.id, "reason": "a complaint"});
    let hold = site.custodian(MERCY).post("/custody/hold", &hold).await.good().id();
    let one = site.measured(1).await;
    let row = site.row(&one.digests[3]);
    let device = |of: &Measured| format!("Device/{}", of.sensor.id);
    assert_eq!(Site::of_frames(&site.audit(MERCY).await), [("removed".to_owned(), device(&robbed), 1)]);
    let read = site.doctor.get(&format!("/fhir/Observation/{}", one.digests[3])).await;
    assert_eq!(read.status, 200);

    // The gateway is killed as soon as the ledger says that frames were let go, whatever it had still to do.
    site.wait("no frames were let go", async || site.disposals().await > 0).await;
    site.consortium.node_mut(MERCY).kill();
    let standing = site.rows(&one);
    let medic = site.consortium.client(RESCUE, "medic").for_purpose("TREAT");
    let elsewhere = medic.get(&format!("/fhir/Observation/{}", one.digests[3])).await;
    assert_eq!(elsewhere.status, 410, "{standing} rows stand: {}", elsewhere.text());
    site.consortium.node_mut(MERCY).start();
    site.consortium.settle_when_up().await;
    site.doctor = site.consortium.client(MERCY, "doctor");
    site.wait("rows of frames that were let go stand", async || site.rows(&one) == 0).await;
    assert_eq!(site.rows(&held), FRAMES as u64);

    // Whoever asks is told what is left.
    let gone = site.doctor.get(&format!("/fhir/Observation/{}", one.digests[3])).await;
    let officer = site.consortium.client(MERCY, "officer").for_purpose("HOPERAT");
    let trail = format!("/fhir/AuditEvent?patient={}&subtype=read&_sort=-_lastUpdated&_count=20", one.id);
    let trail = officer.get(&trail).await.good().json();
    let told = json!(format!("Observation/{}", one.digests[3]));
    let mut named =
        trail["entry"].as_array().unwrap().iter().flat_map(|of| of["resource"]["entity"].as_array().unwrap());
    assert!(named.any(|entity| entity["what"]["reference"] == told), "{trail}");
    let recording = site.recording(&one).await;
    let roll_up = recording["let_go"][0].as_str().unwrap().to_owned();
    let said = gone.json()["issue"][0]["diagnostics"].to_string() + &gone.json()["issue"][0]["details"].to_string();
    assert!(gone.status == 410 && said.contains("let go by policy") && said.contains(&roll_up), "{}", gone.text());
    let counted = ["frames", "missing", "withheld"].map(|name| recording[name].clone());
    assert_eq!((counted, recording["let_go"].as_array().unwrap().len()), ([json!(0), json!(0), json!(0)], 1));
    let left = site.doctor.get(&format!("/fhir/{roll_up}")).await.good().json();
    let counts = left["component"][0]["valueSampledData"]["data"].as_str().unwrap();
    let counts: u64 = counts.split(' ').filter_map(|count| count.parse::<u64>().ok()).sum();
    assert_eq!(counts, FRAMES as u64, "{left}");
    let found = format!("/fhir/Observation?patient={}&code=8310-5", one.id);
    let found = site.doctor.get(&found).await.good().json();
    let id = roll_up.split_once('/').unwrap().1;
    assert!(found["entry"].as_array().unwrap().iter().any(|entry| entry["resource"]["id"] == id), "{found}");
    let unknown = site.doctor.get(&format!("/fhir/Observation/{}", "0".repeat(64))).await;
    assert_eq!(unknown.status, 404);

    // An audit tells what went by policy from what somebody took, also at another member.
    for org in [MERCY, RESCUE] {
        let report = site.audit(org).await;
        assert_eq!(Site::of_frames(&report), [("removed".to_owned(), device(&robbed), 1)], "{org}");
        assert!(report["frames_let_go"].as_u64() >= Some(FRAMES as u64), "{org}: {report}");
    }

    // Evidence says it, and verifies.
    let (config, file) = (site.consortium.node(MERCY).dir.display().to_string(), site.consortium.folder().join("one"));
    let file = file.display().to_string();
    good(vitaltrace(["prove", "--config", &config, "--patient", &one.id, "-o", &file]));
    let genesis = site.consortium.node(MERCY).dir.join("genesis.json").display().to_string();
    let report = good(vitaltrace(["verify", &file, "--genesis", &genesis, "--json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let told = &report["report"]["let_go"];
    assert_eq!((&told[0]["frames"], &told[0]["gone_before"]), (&json!(FRAMES), &json!(0)), "{told}");

    // What somebody took is gone for a second term, then the rest goes, and it stays said that one was gone.
    site.wait("frames of which one was taken stay", async || site.rows(&robbed) == 0).await;
    let report = site.audit(MERCY).await;
    assert_eq!(Site::of_frames(&report), [("removed".to_owned(), device(&robbed), 1)]);
    assert_eq!(report["frames_let_go"], 2 * FRAMES - 1);
    // The hold kept its patient's frames all the while.
    assert_eq!((site.rows(&held), site.recording(&held).await["frames"].clone()), (FRAMES as u64, json!(FRAMES)));
    site.custodian(MERCY).post(&format!("/custody/{hold}/release"), &json!({})).await.good();
    site.wait("frames stay without a hold", async || site.rows(&held) == 0).await;
    // Each once, however often the gateway began.
    assert_eq!(site.disposals().await, 3);

    // A recovery brings none of them back, and calls none lost. Where a row stands again, it goes as it went before: its digest stays.
    site.bring_back(&one.digests[3], row);
    assert_eq!(site.rows(&one), 1);
    let custodian = site.custodian(MERCY);
    let id = custodian.post("/custody/recover", &json!({"reason": "a look"})).await.good().id();
    for org in [RESCUE, "health-inspectorate"] {
        site.consortium.settle().await;
        site.custodian(org).post(&format!("/custody/{id}/vote"), &json!({})).await.good();
    }
    site.consortium.settle().await;
    let recovered = custodian.post(&format!("/custody/{id}/carry-out"), &json!({})).await.good().json();
    let counted = ["lost", "filed_anew", "removed"].map(|name| recovered["frames"][name].clone());
    assert_eq!(counted, [json!(0), json!(0), json!(0)], "{recovered}");
    assert_eq!([&one, &held, &robbed].map(|of| site.rows(of)), [0, 0, 0]);
    let gone = site.doctor.get(&format!("/fhir/Observation/{}", one.digests[3])).await;
    assert_eq!(gone.status, 410, "{}", gone.text());
}
