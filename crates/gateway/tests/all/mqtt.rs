//! Frames by a real broker: unmodified clients, answers and acknowledgements.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium, PATIENCE,
    client::Client,
    mosquitto::{DEVICE_PASSWORD, Mosquitto},
    sensor::Sensor,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const MERCY: &str = "mercy-hospital";

struct Site {
    consortium: Consortium,
    broker: Mosquitto,
    doctor: Client,
    patient: String,
}

impl Site {
    /// Four organisations, of which the hospital's gateway takes frames from a broker; none where there is no broker.
    async fn new(share: &str) -> Option<Self> {
        let broker = Mosquitto::start()?;
        let mut consortium = Consortium::found(&consortium::FOUR).await;
        consortium.add_user(MERCY, "doctor", "doctor", None);
        let dir = consortium.node(MERCY).dir.clone();
        let mut config = fs::OpenOptions::new().append(true).open(dir.join("vitaltrace.toml")).unwrap();
        config.write_all(broker.section(&dir, share).as_bytes()).unwrap();
        consortium.start_all().await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        consortium.settle().await;
        Some(Self { consortium, broker, doctor, patient })
    }

    async fn sensor(&self, seed: u8) -> Sensor {
        Sensor::bound(&self.doctor, &self.patient, seed).await
    }

    fn topic(sensor: &Sensor, name: &str) -> String {
        format!("vitaltrace/{MERCY}/device/{}/{name}", sensor.id)
    }

    /// Counters of the device's frames in the database.
    fn stored(&self, sensor: &Sensor) -> Vec<u64> {
        let database = Connection::open(&self.consortium.database).unwrap();
        let mut select = database.prepare("SELECT counter FROM frame WHERE device = ?1 ORDER BY counter").unwrap();
        let name = format!("urn:dev:fhir:{}", sensor.id);
        let counters = select.query_map([name], |row| row.get::<_, i64>(0)).unwrap();
        counters.map(|counter| counter.unwrap().cast_unsigned()).collect()
    }

    async fn until_stored(&self, sensor: &Sensor, count: usize) {
        let begin = Instant::now();
        while self.stored(sensor).len() < count {
            assert!(begin.elapsed() < PATIENCE, "{} of {count} frames are stored", self.stored(sensor).len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `mosquitto_pub`, as it comes, with a file.
    fn publish(&self, sensor: &Sensor, frame: &[u8], more: &[&str]) {
        let file = self.consortium.folder().join("frame.cose");
        fs::write(&file, frame).unwrap();
        let mut publish = self.broker.client("mosquitto_pub");
        publish.args(["-t", &Self::topic(sensor, "frame"), "-f"]).arg(file).args(more);
        consortium::good(publish.output().unwrap());
    }

    /// Publishes with a response topic, on which `mosquitto_sub` listens; gives the answer.
    fn ask(&self, sensor: &Sensor, frame: &[u8]) -> Value {
        let topic = Self::topic(sensor, "answer");
        let mut listen = self.broker.client("mosquitto_sub");
        listen.args(["-t", &topic, "-C", "1", "-W", "60", "-d"]).stdout(Stdio::piped());
        let mut listening = listen.spawn().unwrap();
        let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("Subscribed")), "mosquitto_sub did not subscribe");
        let properties =
            ["-D", "publish", "response-topic", &topic, "-D", "publish", "correlation-data", "what this is about"];
        self.publish(sensor, frame, &properties);
        let answer = lines.find(|line| line.starts_with('{')).expect("no answer came");
        listening.wait().unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_mosquitto_clients_send_frames_and_are_answered() {
    for share in ["", "share = \"vitaltrace\""] {
        let Some(mut site) = Site::new(share).await else { return };
        let (mut sensor, mut other) = (site.sensor(1).await, site.sensor(2).await);
        let frames = sensor.next_of(3);
        site.publish(&sensor, frames[0].bytes(), &[]);
        site.until_stored(&sensor, 1).await;
        let answer = site.ask(&sensor, frames[1].bytes());
        assert_eq!(
            (&answer["status"], &answer["frame"]),
            (&json!(201), &json!(frames[1].digest().to_string())),
            "{answer}"
        );
        let again = site.ask(&sensor, frames[1].bytes());
        assert_eq!(
            (&again["status"], &again["outcome"]["issue"][0]["code"]),
            (&json!(409), &json!("duplicate")),
            "{again}"
        );
        assert_eq!(site.ask(&sensor, b"hello")["status"], 400);
        // A device that writes into another's folder is refused, whatever it has signed.
        let foreign = other.next();
        let answer = site.ask(&sensor, foreign.bytes());
        assert_eq!(answer["status"], 422, "{answer}");
        assert!(answer.to_string().contains("topic of another one"), "{answer}");
        // What comes while the gateway is away waits at the broker.
        site.consortium.node_mut(MERCY).kill();
        site.publish(&sensor, frames[2].bytes(), &[]);
        site.publish(&other, foreign.bytes(), &[]);
        site.consortium.node_mut(MERCY).start();
        site.consortium.node_mut(MERCY).wait_until_up().await;
        site.until_stored(&sensor, 3).await;
        site.until_stored(&other, 1).await;
        site.consortium.settle().await;
        let shown = site.doctor.get(&format!("/fhir/Observation/{}", frames[2].digest())).await.good().json();
        assert_eq!(shown["valueQuantity"]["value"], 36.8, "{shown}");
        let log = fs::read_to_string(site.consortium.node(MERCY).dir.join("node.log")).unwrap();
        assert!(!log.contains(consortium::mosquitto::GATEWAY_PASSWORD), "a password is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_that_is_not_ours_sends_accepted_frames() {
    let Some(site) = Site::new("").await else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/sensor/session.py");
    let Some(python) = std::env::var_os("VITALTRACE_SENSOR_PYTHON") else {
        println!(
            "SKIPPED: VITALTRACE_SENSOR_PYTHON names no Python with paho-mqtt and pycose; `cargo xtask test clients` does"
        );
        return;
    };
    let device = site.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
    let mut session = Command::new(python);
    session.arg(script).env("VITALTRACE_MQTT", format!("127.0.0.1:{}", site.broker.address.port()));
    session.env("VITALTRACE_MQTT_CA", site.broker.ca()).env("VITALTRACE_MQTT_USER", "device");
    session.env("VITALTRACE_MQTT_PASSWORD", DEVICE_PASSWORD).env("VITALTRACE_ORG", MERCY);
    session.env("VITALTRACE_URL", &site.doctor.base).env("VITALTRACE_TOKEN", &site.doctor.token);
    session.env("VITALTRACE_DEVICE", &device).env("VITALTRACE_PATIENT", &site.patient).stdin(Stdio::null());
    println!("{}", consortium::good(session.output().unwrap()));
    let sensor = Sensor {
        id: device.clone(),
        key: ed25519_dalek::SigningKey::from_bytes(&[1; 32]),
        sequence: sensing::Sequence::new(
            exchange::device_name(&device).unwrap(),
            ed25519_dalek::SigningKey::from_bytes(&[1; 32]),
        ),
    };
    assert!(site.stored(&sensor).len() >= 3);
}
