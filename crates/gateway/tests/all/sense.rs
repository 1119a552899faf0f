//! The reference device at the command line: offline, by HTTP and by a broker, several at once, and with faults.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium,
    client::Client,
    good,
    mosquitto::{DEVICE_PASSWORD, Mosquitto},
    program, vitaltrace,
};
use rusqlite::Connection;
use serde_json::json;
use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

const MERCY: &str = "mercy-hospital";

struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
}

impl Site {
    async fn new(broker: Option<&Mosquitto>) -> Self {
        let mut consortium = Consortium::found(&consortium::FOUR).await;
        consortium.add_user(MERCY, "doctor", "doctor", None);
        if let Some(broker) = broker {
            let dir = consortium.node(MERCY).dir.clone();
            let mut config = fs::OpenOptions::new().append(true).open(dir.join("vitaltrace.toml")).unwrap();
            config.write_all(broker.section(&dir, "").as_bytes()).unwrap();
        }
        consortium.start_all().await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        consortium.settle().await;
        Self { consortium, doctor, patient }
    }

    fn config(&self) -> String {
        self.consortium.node(MERCY).dir.display().to_string()
    }

    /// A bound device's file, and its id.
    async fn device(&self, name: &str) -> (String, String) {
        let id = self.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
        let file = self.consortium.folder().join(name).display().to_string();
        let made = good(vitaltrace(["sense", "--config", &self.config(), "--device", &file, "--new", &id]));
        let key = made.lines().find_map(|line| line.strip_prefix("public key ")).unwrap();
        let since = record::TimeMs(exchange::clock::now().0 - 20 * 60_000).to_instant();
        let bind = json!({"patient": self.patient, "key": key, "since": since});
        self.doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await.good();
        (file, id)
    }

    fn stored(&self, device: &str) -> Vec<u64> {
        let database = Connection::open(&self.consortium.database).unwrap();
        let mut select = database.prepare("SELECT counter FROM frame WHERE device = ?1 ORDER BY counter").unwrap();
        let counters = select.query_map([format!("urn:dev:fhir:{device}")], |row| row.get::<_, i64>(0)).unwrap();
        counters.map(|counter| counter.unwrap().cast_unsigned()).collect()
    }
}

fn all(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_goes_on_where_a_gateway_was_away() {
    let mut site = Site::new(None).await;
    let ((one, first), (two, second)) = (site.device("one.json").await, site.device("two.json").await);
    let config = site.config();
    let mut sense = Command::new(program());
    sense.args(["sense", "--config", &config, "--device", &one, "--device", &two, "--signal", "generated"]);
    sense.args(["--seconds", "14"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let running = sense.spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    site.consortium.node_mut(MERCY).kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    site.consortium.node_mut(MERCY).start();
    site.consortium.node_mut(MERCY).wait_until_up().await;
    let done = running.wait_with_output().unwrap();
    assert!(done.status.success());
    println!("{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!((site.stored(&first), site.stored(&second)), (all(14), all(14)));
    // Killed in the middle, it goes on as well: nothing that it signed is lost or used twice.
    let mut sense = Command::new(program());
    sense.args(["sense", "--config", &config, "--device", &one, "--signal", "generated", "--seconds", "60"]);
    let mut running = sense.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.kill().unwrap();
    running.wait().unwrap();
    let sent = good(vitaltrace(["sense", "--config", &config, "--device", &one]));
    let counted = site.stored(&first);
    assert_eq!(counted, all(counted.len() as u64), "{sent}");
    assert!(counted.len() >= 16 && sent.contains(&format!("counted to {}", counted.len())), "{sent}");
    site.consortium.settle().await;
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0, "the ledger refused something");
}

/// A device whose file was lost was made again, and refused frame after frame: its counters had been used by the old key.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_file_was_lost_goes_on_with_a_new_key() {
    let site = Site::new(None).await;
    let (file, id) = site.device("one.json").await;
    let config = site.config();
    let sense = |file: &str, more: &[&str]| {
        let common = ["sense", "--config", &config, "--device", file];
        vitaltrace(common.iter().chain(more))
    };
    good(sense(&file, &["--signal", "generated", "--seconds", "5", "--speed", "10"]));
    assert_eq!(site.stored(&id), all(5));
    site.doctor.post(&format!("/fhir/Device/{id}/$unbind"), &json!({})).await.good();
    let again = site.consortium.folder().join("again.json").display().to_string();
    let made = good(sense(&again, &["--new", &id]));
    let key = made.lines().find_map(|line| line.strip_prefix("public key ")).unwrap();
    let bind = json!({"patient": site.patient, "key": key});
    let begun = site.doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await.good().json();
    assert_eq!(begun["counted"], 5, "{begun}");
    let refused = sense(&again, &["--signal", "generated", "--seconds", "3"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("(409)") && said.contains("counter 1 is not above 5"), "{said}");
    good(sense(&again, &["--counted", "5", "--signal", "generated", "--seconds", "3"]));
    let counters = site.stored(&id);
    assert!(counters.len() >= 8 && counters == all(counters.len() as u64), "{counters:?}");
    assert_eq!(sense(&again, &["--counted", "5"]).status.code(), Some(2), "a counter was used twice");
    site.consortium.settle().await;
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0, "the ledger refused something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_sends_by_a_broker_and_shows_what_faults_become() {
    let Some(broker) = Mosquitto::start() else { return };
    let site = Site::new(Some(&broker)).await;
    let (file, id) = site.device("one.json").await;
    let password = site.consortium.folder().join("device-password");
    fs::write(&password, DEVICE_PASSWORD).unwrap();
    let (config, url) = (site.config(), format!("mqtts://127.0.0.1:{}", broker.address.port()));
    let (ca, password) = (broker.ca().display().to_string(), password.display().to_string());
    let by_broker = ["--mqtt", &url, "--mqtt-ca", &ca, "--mqtt-user", "device", "--mqtt-password-file", &password];
    let run = |file: &str, more: &[&str]| {
        let common = ["sense", "--config", &config, "--device", file, "--signal", "generated"];
        vitaltrace(common.iter().chain(more))
    };
    good(run(&file, &[&["--seconds", "6", "--speed", "10"][..], &by_broker].concat()));
    assert_eq!(site.stored(&id), all(6));
    let lossy = good(run(&file, &["--seconds", "60", "--speed", "30", "--fault", "loss=200", "--seed", "3"]));
    println!("{lossy}");
    let stored = site.stored(&id);
    assert!(stored.len() > 30 && *stored.last().unwrap() > stored.len() as u64, "{stored:?}");
    let forged = good(run(&file, &["--seconds", "30", "--speed", "30", "--fault", "wrong-key=300", "--seed", "3"]));
    assert!(forged.contains("refused (422 security)"), "{forged}");
    let copied = good(run(&file, &["--seconds", "10", "--speed", "30", "--fault", "clone=4"]));
    assert!(copied.contains("refused (409 conflict)") && copied.contains("refused (403 forbidden)"), "{copied}");
    assert_eq!(run(&file, &["--seconds", "3"]).status.code(), Some(1), "a revoked device goes on");
    for wrong in
        [&["--seconds", "1", "--fault", "loss"][..], &["--seconds", "1", "--mqtt", "http://x"], &["--speed", "0"]]
    {
        assert_eq!(run(&file, wrong).status.code(), Some(2), "{wrong:?}");
    }
    site.consortium.settle().await;
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0, "the ledger refused something");
}
