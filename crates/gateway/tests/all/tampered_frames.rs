//! Frames in a database that somebody changed with plain SQL: an audit names what is gone, changed, misfiled and injected, and a recovery
//! files anew what its device signed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what is skipped says so"
)]

use crate::consortium::{
    self, Consortium,
    client::Client,
    good,
    sensor::{Sensor, now, temperature},
    vitaltrace,
};
use crate::server::{Disk, Server};
use record::TimeMs;
use sensing::{Decimal, Signal, Value as Said};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MERCY: &str = "mercy-hospital";
const PEOPLE: [(&str, &str, &str); 5] = [
    (MERCY, "doctor", "doctor"),
    (MERCY, "custodian", "custodian"),
    ("rescue-one", "custodian", "custodian"),
    ("acme-insurance", "custodian", "custodian"),
    ("health-inspectorate", "custodian", "custodian"),
];
/// Frames of a lot, which one batch or several have.
const LOT: u64 = 10;
const TEMPERATURE: &str = "code=8310-5";

/// A patient with a monitor that sent three lots of frames and an oximeter that sent one; another patient.
struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
    other: String,
    monitor: Sensor,
    oximeter: Sensor,
    begin: TimeMs,
    sent: u64,
}

fn saturation(value: i32) -> Vec<Signal> {
    let value = Said::Number { unit: "%".into(), value: Decimal::whole(value) };
    vec![Signal { name: "spo2".into(), offset_ms: 0, value }]
}

impl Site {
    async fn new(consortium: Consortium) -> Self {
        let doctor = consortium.client(MERCY, "doctor");
        let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]});
        let (patient, other) = (doctor.create(&person).await.id(), doctor.create(&person).await.id());
        consortium.settle().await;
        let begin = TimeMs(now().0 - 600_000);
        let mut sensors = Vec::new();
        for seed in [1, 2] {
            let id = doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
            let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
            let key_shown = hex::encode(key.verifying_key().as_bytes());
            let bind = json!({"patient": patient, "key": key_shown, "since": begin.to_instant()});
            doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await.good();
            let sequence = sensing::Sequence::new(exchange::device_name(&id).unwrap(), key.clone());
            sensors.push(Sensor { id, key, sequence });
        }
        let (oximeter, monitor) = (sensors.pop().unwrap(), sensors.pop().unwrap());
        let mut site = Self { consortium, doctor, patient, other, monitor, oximeter, begin, sent: 0 };
        for lot in 0..3 {
            let frames = (0..LOT).map(|n| {
                let at = site.begin.plus_ms((lot * LOT + n) * 1_000);
                site.monitor.sequence.next(at, temperature(36.8)).unwrap()
            });
            let frames: Vec<_> = frames.collect();
            site.send(&frames).await;
        }
        let frames =
            (0..LOT).map(|n| site.oximeter.sequence.next(site.begin.plus_ms(n * 1_000), saturation(97)).unwrap());
        let frames: Vec<_> = frames.collect();
        site.send(&frames).await;
        site
    }

    /// Sends frames and waits until final batches have them.
    async fn send(&mut self, frames: &[sensing::Frame]) {
        let answers = self.doctor.send_frames(frames).await.good().json();
        assert!(answers["answers"].as_array().unwrap().iter().all(|answer| answer["status"] == 201), "{answers}");
        self.sent += frames.len() as u64;
        self.until_final(0, self.sent).await;
    }

    /// Waits until final batches have all frames from a second on, which are so many.
    async fn until_final(&self, second: u64, count: u64) {
        let (begin, end) = (self.begin.plus_ms(second * 1_000), self.begin.plus_ms(3_600_000));
        let range = format!("start={}&end={}", begin.to_instant(), end.to_instant());
        let path = format!("/fhir/Patient/{}/$signals?{range}", self.patient);
        let began = std::time::Instant::now();
        loop {
            let read = self.doctor.get(&path).await.good().json();
            assert_eq!((&read["withheld"], &read["frames"]), (&json!(0), &json!(count)));
            if read["pending"] == 0 {
                break;
            }
            assert!(began.elapsed() < consortium::PATIENCE, "{} frames are in no final batch", read["pending"]);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        self.consortium.settle().await;
    }

    fn custodian(&self, org: &str) -> Client {
        self.consortium.client(org, "custodian").for_purpose("HSYSADMIN")
    }

    async fn audit(&self, org: &str, full: bool) -> Value {
        self.consortium.settle().await;
        self.custodian(org).post("/audit", &json!({"full": full})).await.good().json()
    }

    /// What an audit of everything says of frames: the kind of each finding, the device, how many, and which.
    async fn findings(&self, org: &str) -> Vec<(String, String, u64, String)> {
        let report = self.audit(org, true).await;
        let findings = report["findings"].as_array().unwrap().iter().map(|finding| {
            let text = |of: &Value| of.as_str().unwrap().to_owned();
            let frames = &finding["frames"];
            assert!(frames.is_object(), "{finding}");
            (
                text(&finding["kind"]),
                text(&finding["record"]),
                frames["count"].as_u64().unwrap(),
                frames["counters"].to_string(),
            )
        });
        findings.collect()
    }

    async fn recover(&self, from: Value) -> Value {
        let custodian = self.custodian(MERCY);
        let id = custodian.post("/custody/recover", &json!({"reason": "frames were changed"})).await.good().id();
        for org in ["rescue-one", "health-inspectorate"] {
            self.consortium.settle().await;
            self.custodian(org).post(&format!("/custody/{id}/vote"), &json!({})).await.good();
        }
        self.consortium.settle().await;
        custodian.post(&format!("/custody/{id}/carry-out"), &from).await.good().json()
    }

    /// Ids of all that a search finds, and whether it says that something is withheld.
    async fn found(&self, patient: &str, query: &str) -> (BTreeSet<String>, bool) {
        let page =
            self.doctor.get(&format!("/fhir/Observation?patient={patient}&{query}&_count=200")).await.good().json();
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let of = |mode: &str| -> Vec<Value> {
            let entries = entries.iter().filter(|entry| entry["search"]["mode"] == mode);
            entries.map(|entry| entry["resource"].clone()).collect()
        };
        let ids = of("match").iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        (ids, !of("outcome").is_empty())
    }

    /// How many frames a recording misses.
    async fn missing(&self) -> u64 {
        let end = self.begin.plus_ms(3_600_000).to_instant();
        let path = format!("/fhir/Patient/{}/$signals?start={}&end={end}", self.patient, self.begin.to_instant());
        self.doctor.get(&path).await.good().json()["missing"].as_u64().unwrap()
    }

    fn monitor(&self) -> String {
        format!("urn:dev:fhir:{}", self.monitor.id)
    }

    fn oximeter(&self) -> String {
        format!("urn:dev:fhir:{}", self.oximeter.id)
    }
}

/// Somebody with the database rewrote the columns by which frames are found: searches found less, and no audit said so. Now every frame
/// of a batch is looked for, and one that is signed is filed where it belongs.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_names_every_frame_that_is_gone_changed_misfiled_or_injected_and_a_recovery_files_it_anew() {
    let site = Site::new(Consortium::running(&PEOPLE).await).await;
    let (monitor, oximeter) = (site.monitor(), site.oximeter());
    for org in [MERCY, "rescue-one", "acme-insurance", "health-inspectorate"] {
        let report = site.audit(org, true).await;
        assert_eq!((&report["findings"], &report["frames"]), (&json!([]), &json!(site.sent)), "at {org}");
        assert_eq!(report["frames_pending"], 0);
    }
    let by_temperature = site.found(&site.patient, TEMPERATURE).await;
    let by_saturation = site.found(&site.patient, "code=2708-6").await;
    assert_eq!((by_temperature.0.len() as u64, by_saturation.0.len() as u64), (3 * LOT, LOT));
    let backup = site.consortium.folder().join("backup.db");
    let database = rusqlite::Connection::open(&site.consortium.database).unwrap();
    database.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    drop(database);

    let update = |set: &str, counter: u64| {
        let sql = format!("UPDATE frame SET {set} WHERE device = ?1 AND counter = {counter}");
        assert_eq!(site.consortium.sql(&sql, [&monitor]), 1, "{sql}");
    };
    update("kind = kind * 2", 1);
    update("measured_at = measured_at + 86400000", 2);
    update(&format!("patient = '{}'", site.other), 3);
    update("bytes = zeroblob(100)", 5);
    // Two in each other's place, of different batches.
    for (from, to) in [(6, 100_006), (26, 6), (100_006, 26)] {
        update(&format!("counter = {to}"), from);
    }
    update("device = 'urn:dev:fhir:somebody'", 7);
    update("kind = -1", 8);
    update("binding = x''", 10);
    update("digest = zeroblob(32)", 11);
    update("received_at = 0", 12);
    update("device = CAST(x'ff' AS TEXT), counter = -3", 13);
    let delete = "DELETE FROM frame WHERE device = ?1 AND (counter = 4 OR ?1 = ?2)";
    assert_eq!(site.consortium.sql(delete, [&monitor, &oximeter]), 1);
    assert_eq!(site.consortium.sql(delete, [&oximeter, &oximeter]), 10);
    let inject = "INSERT INTO frame (device, counter, binding, patient, received_at, measured_at, digest, bytes, kind) \
        SELECT ?2, ?3, binding, patient, 1000, measured_at, ?4, CASE ?4 WHEN x'' THEN bytes ELSE ?4 END, kind FROM frame \
        WHERE device = ?1 AND counter = 9";
    for (device, counter, bytes) in [
        ("urn:dev:fhir:ghost", 1, Vec::new()),
        (monitor.as_str(), 5_000, vec![7_u8; 32]),
        (monitor.as_str(), 28_000, Vec::new()),
    ] {
        site.consortium.sql(inject, rusqlite::params![monitor, device, counter, bytes]);
    }

    // A search finds what is where it looks. Where others of a batch are gone, it says so; and so does a recording.
    let (less, is_told) = site.found(&site.patient, TEMPERATURE).await;
    assert!(less.len() < by_temperature.0.len() && is_told);
    assert!(site.missing().await >= 1);
    let device = |name: &str| format!("Device/{}", name.trim_start_matches("urn:dev:fhir:"));
    let found = |kind: &str, name: &str, count: u64, counters: &str| {
        (kind.to_owned(), device(name), count, counters.to_owned())
    };
    let mut expected = vec![
        found("modified", &monitor, 1, "[[5,5]]"),
        found("removed", &monitor, 1, "[[4,4]]"),
        found("removed", &oximeter, 10, "[[1,10]]"),
        found("duplicated", "ghost", 1, "[[1,1]]"),
        found("duplicated", &monitor, 1, "[[28000,28000]]"),
        found("misfiled", &monitor, 10, "[[1,3],[6,7],[10,13],[26,26]]"),
        found("injected", &monitor, 1, "[[5000,5000]]"),
    ];
    expected.sort();
    for org in [MERCY, "rescue-one", "acme-insurance", "health-inspectorate"] {
        let mut findings = site.findings(org).await;
        findings.sort();
        assert_eq!(findings, expected, "at {org}");
    }
    let config = site.consortium.node(MERCY).dir.display().to_string();
    let told = vitaltrace(["audit", "--full", "--config", &config]);
    let said = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(1), "{said}");
    let line = format!(
        "misfiled: 10 frames of {} about Patient/{}, counters 1 to 3, 6 to 7, 10 to 13, 26, batched by mercy-hospital at ",
        device(&monitor),
        site.patient
    );
    assert!(said.contains(&line), "{said}");

    let report = site.recover(json!({"from": backup})).await;
    // The ten that are misfiled, and the one of every kind; what is injected, twice there, or changed goes.
    assert_eq!(report["frames"], json!({"filed_anew": 11, "from_backup": 12, "lost": 0, "removed": 4}), "{report}");
    for org in [MERCY, "rescue-one", "acme-insurance"] {
        let report = site.audit(org, true).await;
        assert_eq!((&report["findings"], &report["frames"]), (&json!([]), &json!(site.sent)), "at {org}");
    }
    assert_eq!(site.found(&site.patient, TEMPERATURE).await, by_temperature);
    assert_eq!(site.found(&site.patient, "code=2708-6").await, by_saturation);
    assert_eq!(site.found(&site.other, TEMPERATURE).await, (BTreeSet::new(), false));
    let kinds = rusqlite::Connection::open(&site.consortium.database).unwrap();
    let every: i64 = kinds.query_row("SELECT count(*) FROM frame WHERE kind = -1", [], |row| row.get(0)).unwrap();
    assert_eq!(every, 0, "frames from before there were kinds");
    good(vitaltrace(["audit", "--config", &config]));
    check_logs(&site);
}

/// On a server, without a backup: what is gone is lost, and the ledger proves that it was there.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_misfiled_frames_are_filed_anew_and_those_that_are_gone_are_named_as_lost() {
    const DATABASE: &str = "cloud";
    let Some(server) = Server::start(Disk::Durable) else { return };
    server.create(DATABASE);
    let consortium = Consortium::running_on_server(&PEOPLE, &server.address(DATABASE)).await;
    let mut site = Site::new(consortium).await;
    let monitor = site.monitor();
    let before = site.found(&site.patient, TEMPERATURE).await;
    assert_eq!(site.audit("rescue-one", true).await["findings"], json!([]));
    let sql = |statement: &str| {
        assert_eq!(server.sql(DATABASE, &format!("{statement} RETURNING 1")), "1", "{statement}");
    };
    let row = |counter: u64| format!("WHERE device = '{monitor}' AND counter = {counter}");
    sql(&format!("UPDATE frame SET kind = kind * 2 {}", row(1)));
    sql(&format!("UPDATE frame SET patient = '{}' {}", site.other, row(2)));
    sql(&format!("UPDATE frame SET counter = -7, fid = -9 {}", row(3)));
    sql(&format!("UPDATE frame SET kind = -1 {}", row(4)));
    sql(&format!("UPDATE frame SET binding = '', digest = '' {}", row(5)));
    // The third and the fifth are not where the ledger's batch looks for them.
    assert_eq!(site.missing().await, 2);
    sql(&format!("DELETE FROM frame {}", row(17)));
    assert_eq!(site.missing().await, 3);
    let query = format!("/fhir/Observation?patient={}&{TEMPERATURE}&_count=200", site.patient);
    let told = site.doctor.get(&query).await.good().text();
    assert!(told.contains("3 records on the ledger may be missing here"), "{told}");
    let device = format!("Device/{}", site.monitor.id);
    let misfiled = ("misfiled".to_owned(), device.clone(), 4, "[[1,3],[5,5]]".to_owned());
    let removed = ("removed".to_owned(), device.clone(), 1, "[[17,17]]".to_owned());
    for org in [MERCY, "rescue-one"] {
        let mut findings = site.findings(org).await;
        findings.sort();
        assert_eq!(findings, [misfiled.clone(), removed.clone()], "at {org}");
    }
    let report = site.recover(json!({})).await;
    assert_eq!(report["frames"], json!({"filed_anew": 5, "from_backup": 0, "lost": 1, "removed": 0}), "{report}");
    let lost = report["first_lost"].as_array().unwrap().iter().map(|lost| lost["record"].as_str().unwrap());
    let wanted = format!("1 frames of {device}, from counter 17 to 17");
    assert_eq!(lost.filter(|lost| lost.contains("frames of")).collect::<Vec<_>>(), [wanted]);
    assert_eq!(site.findings(MERCY).await, [removed], "what is lost stays a finding");
    let (found, _) = site.found(&site.patient, TEMPERATURE).await;
    assert_eq!(found.len() + 1, before.0.len());
    assert!(found.is_subset(&before.0));
    assert_eq!(server.sql(DATABASE, "SELECT count(*) FROM frame WHERE kind = -1"), "0");

    // The next audit looks at what came since, and finds what became of it.
    assert_eq!(site.audit(MERCY, false).await["findings"], json!([]));
    let frames: Vec<_> = (0..LOT)
        .map(|n| site.oximeter.sequence.next(site.begin.plus_ms((100 + n) * 1_000), saturation(96)).unwrap())
        .collect();
    site.doctor.send_frames(&frames).await.good();
    site.until_final(100, LOT).await;
    let oximeter = site.oximeter();
    sql(&format!("UPDATE frame SET measured_at = 1 WHERE device = '{oximeter}' AND counter = 15"));
    let report = site.audit(MERCY, false).await;
    let finding = &report["findings"][0];
    let found = (&finding["kind"], &finding["frames"]["counters"], &report["frames"]);
    assert_eq!(found, (&json!("misfiled"), &json!([[15, 15]]), &json!(LOT)), "{report}");
    check_logs(&site);
}

/// Names of patients are in no log.
fn check_logs(site: &Site) {
    for node in &site.consortium.nodes {
        let log = std::fs::read_to_string(node.dir.join("node.log")).unwrap();
        assert!(!log.contains("Nobody"), "the log of {} holds a name", node.org);
    }
}
