//! Kills of broker, gateway and database at random moments while devices send: no answered frame is lost, none is there twice, and every
//! gap stands on the ledger.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what was done is said"
)]

use crate::consortium::{
    self, Consortium, PATIENCE,
    client::Client,
    mosquitto::{DEVICE_PASSWORD, Mosquitto},
    sensor::Sensor,
};
use crate::server::{Disk, Server};
use contract::{Body, DeviceStep, Entry};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Id16;
use rumqttc::{
    Transport,
    v5::{
        AsyncClient, Event, Incoming, MqttOptions,
        mqttbytes::{QoS, v5::PublishProperties},
    },
};
use rusqlite::Connection;
use sensing::Frame;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const MERCY: &str = "mercy-hospital";
const DATABASE: &str = "cloud";
const DEVICES: usize = 6;
const KILLS: usize = 20;
/// Of so many frames a device loses one before it is sent.
const LOST_OF: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_frame_is_lost_when_broker_and_gateway_are_killed() {
    storm(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_frame_is_lost_when_broker_gateway_and_database_are_killed() {
    let Some(server) = Server::start(Disk::Durable) else { return };
    server.create(DATABASE);
    storm(Some(server)).await;
}

struct Site {
    // Before the server: gateways end first.
    consortium: Consortium,
    server: Option<Server>,
    broker: Mosquitto,
    doctor: Client,
    patient: String,
}

impl Site {
    /// Four organisations, of which the hospital's gateway takes frames from a broker; none where there is no broker.
    async fn new(server: Option<Server>) -> Option<Self> {
        let broker = Mosquitto::start()?;
        let mut consortium = match &server {
            Some(server) => Consortium::found_on_server(&consortium::FOUR, &server.address(DATABASE)).await,
            None => Consortium::found(&consortium::FOUR).await,
        };
        consortium.add_user(MERCY, "doctor", "doctor", None);
        let dir = consortium.node(MERCY).dir.clone();
        let mut config = fs::OpenOptions::new().append(true).open(dir.join("vitaltrace.toml")).unwrap();
        config.write_all(broker.section(&dir, "").as_bytes()).unwrap();
        consortium.start_all().await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        consortium.settle().await;
        Some(Self { consortium, server, broker, doctor, patient })
    }

    /// Counters of the device's frames in the database, each as often as it is there.
    fn stored(&self, device: &str) -> Vec<u64> {
        let name = format!("urn:dev:fhir:{device}");
        if let Some(server) = &self.server {
            let sql = format!("SELECT counter FROM frame WHERE device = '{name}' ORDER BY counter");
            return server.sql(DATABASE, &sql).lines().map(|line| line.parse().unwrap()).collect();
        }
        let database = Connection::open(&self.consortium.database).unwrap();
        let mut select = database.prepare("SELECT counter FROM frame WHERE device = ?1 ORDER BY counter").unwrap();
        let counters = select.query_map([name], |row| row.get::<_, i64>(0)).unwrap();
        counters.map(|counter| counter.unwrap().cast_unsigned()).collect()
    }

    /// The last counter in the ledger's batches and the counters that they say never came, by the key of their device.
    fn batched(&self) -> BTreeMap<Vec<u8>, (u64, BTreeSet<u64>)> {
        let mirror = Connection::open(self.consortium.node(MERCY).dir.join("data/mirror.db")).unwrap();
        let mut select =
            mirror.prepare("SELECT bytes FROM entry WHERE kind IN ('device', 'batch') ORDER BY idx").unwrap();
        let entries = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let mut keys: BTreeMap<Id16, Vec<u8>> = BTreeMap::new();
        let mut batched: BTreeMap<Vec<u8>, (u64, BTreeSet<u64>)> = BTreeMap::new();
        for bytes in entries {
            match Entry::from_bytes(&bytes.unwrap()).unwrap().body {
                Body::Device { step: DeviceStep::Bound(binding, key), .. } => {
                    keys.insert(binding, key.as_bytes().to_vec());
                }
                Body::Batch { binding, gaps, last: of_batch, .. } => {
                    let (last, missing) = batched.entry(keys[&binding].clone()).or_default();
                    *last = of_batch.max(*last);
                    for counter in gaps.iter().flat_map(|gap| gap.first..=gap.last) {
                        assert!(missing.insert(counter), "{counter} is missing twice");
                    }
                }
                _ => {}
            }
        }
        batched
    }

    /// Waits until the ledger's batches have every stored frame.
    async fn until_batched(&self, devices: &[(String, Vec<u8>)]) -> BTreeMap<Vec<u8>, (u64, BTreeSet<u64>)> {
        let begin = Instant::now();
        loop {
            let batched = self.batched();
            let last = |key| batched.get(key).map_or(0, |(last, _)| *last);
            if devices.iter().all(|(device, key)| self.stored(device).last().copied().unwrap_or_default() == last(key))
            {
                return batched;
            }
            assert!(begin.elapsed() < PATIENCE, "frames are in no batch");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What the devices of a storm know.
#[derive(Default)]
struct Told {
    /// Frames that the gateway took, by device.
    taken: BTreeMap<usize, Vec<u64>>,
    /// Frames that were signed and never sent, by device.
    lost: BTreeMap<usize, Vec<u64>>,
    /// How often the gateway asked for patience.
    later: usize,
    /// Other answers.
    refused: Vec<Value>,
}

/// Where the broker of a storm is.
#[derive(Clone)]
struct Broker {
    port: u16,
    ca: Vec<u8>,
}

/// A device that sends a frame after another, each until it is answered, and loses one now and then.
async fn send_until_stopped(
    site: Broker,
    number: usize,
    mut sensor: Sensor,
    mut rng: StdRng,
    told: Arc<Mutex<Told>>,
    stop: Arc<Mutex<bool>>,
) {
    let mut options = MqttOptions::new(format!("device-{number}"), "127.0.0.1", site.port);
    options.set_keep_alive(Duration::from_secs(5)).set_credentials("device", DEVICE_PASSWORD);
    options.set_transport(Transport::tls(site.ca.clone(), None, None));
    options.set_max_packet_size(Some(128 * 1024));
    let topic = |name: &str| format!("vitaltrace/{MERCY}/device/{}/{name}", sensor.id);
    let (frames, answers) = (topic("frame"), topic("answer"));
    let mut waiting: Option<Frame> = None;
    'connection: loop {
        let (client, mut events) = AsyncClient::new(options.clone(), 16);
        client.try_subscribe(&answers, QoS::AtLeastOnce).unwrap();
        let mut last = Instant::now();
        let mut ready = false;
        loop {
            if *stop.lock().unwrap() && waiting.is_none() {
                return;
            }
            if ready && (waiting.is_none() || last.elapsed() > Duration::from_millis(1_500)) {
                if waiting.is_none() && sensor.sequence.counter() > 0 && rng.random_ratio(1, LOST_OF) {
                    told.lock().unwrap().lost.entry(number).or_default().push(sensor.next().counter());
                }
                let frame = waiting.get_or_insert_with(|| sensor.next());
                let properties = PublishProperties {
                    response_topic: Some(answers.clone()),
                    correlation_data: Some(frame.digest().to_string().into_bytes().into()),
                    ..PublishProperties::default()
                };
                let bytes = frame.bytes().to_vec();
                if client.try_publish_with_properties(&frames, QoS::AtLeastOnce, false, bytes, properties).is_err() {
                    continue 'connection;
                }
                last = Instant::now();
            }
            match tokio::time::timeout(Duration::from_millis(200), events.poll()).await {
                Err(_) => {}
                Ok(Err(_)) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue 'connection;
                }
                Ok(Ok(Event::Incoming(Incoming::SubAck(_)))) => ready = true,
                Ok(Ok(Event::Incoming(Incoming::Publish(publish)))) => {
                    let answer: Value = serde_json::from_slice(&publish.payload).unwrap();
                    let Some(frame) = waiting.take_if(|frame| answer["frame"] == frame.digest().to_string()) else {
                        continue;
                    };
                    let duplicate = answer["outcome"]["issue"][0]["code"] == "duplicate";
                    let mut told = told.lock().unwrap();
                    match answer["status"].as_u64() {
                        Some(201) => told.taken.entry(number).or_default().push(frame.counter()),
                        Some(409) if duplicate => told.taken.entry(number).or_default().push(frame.counter()),
                        Some(429 | 500 | 503) => {
                            told.later += 1;
                            waiting = Some(frame);
                        }
                        _ => told.refused.push(answer),
                    }
                }
                Ok(Ok(_)) => {}
            }
        }
    }
}

async fn storm(server: Option<Server>) {
    let seed = std::env::var("VITALTRACE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("VITALTRACE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let Some(mut site) = Site::new(server).await else { return };
    let at = Broker { port: site.broker.address.port(), ca: fs::read(site.broker.ca()).unwrap() };
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), Arc::new(Mutex::new(false)));
    let (mut devices, mut senders) = (Vec::new(), Vec::new());
    for number in 0..DEVICES {
        let sensor = Sensor::bound(&site.doctor, &site.patient, 10 + u8::try_from(number).unwrap()).await;
        devices.push((sensor.id.clone(), sensor.key.verifying_key().as_bytes().to_vec()));
        let rng = StdRng::seed_from_u64(rng.random());
        senders.push(tokio::spawn(send_until_stopped(at.clone(), number, sensor, rng, told.clone(), stop.clone())));
    }
    site.consortium.settle().await;
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1_500))).await;
        let away = Duration::from_millis(rng.random_range(0..500));
        // Each of them at least once, then whom chance hits.
        let drawn = if number < 3 { number } else { rng.random_range(0..3) };
        let victim = match (drawn, &site.server) {
            (0, Some(server)) => {
                server.kill();
                tokio::time::sleep(away).await;
                server.run();
                "database"
            }
            (1, _) => {
                site.broker.kill();
                tokio::time::sleep(away).await;
                site.broker.run();
                "broker"
            }
            _ => {
                let node = site.consortium.node_mut(MERCY);
                node.kill();
                tokio::time::sleep(away).await;
                node.start();
                node.wait_until_up().await;
                "gateway"
            }
        };
        *killed.entry(victim).or_default() += 1;
    }
    println!("killed: {killed:?}");
    assert_eq!(killed.len(), if site.server.is_some() { 3 } else { 2 }, "{killed:?}");
    *stop.lock().unwrap() = true;
    for sender in senders {
        tokio::time::timeout(PATIENCE, sender).await.expect("a device is never answered").unwrap();
    }
    site.consortium.settle_when_up().await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.refused.is_empty(), "{:?}", told.refused);
    let (batched, mut all, mut missing) = (site.until_batched(&devices).await, 0, 0);
    for (number, (device, key)) in devices.iter().enumerate() {
        let (stored, taken) = (site.stored(device), told.taken.get(&number).cloned().unwrap_or_default());
        // Each waited for its answer before the next: what was taken is there once, and nothing else.
        assert_eq!(stored, taken, "answered and stored, of device {number}");
        let last = stored.last().copied().unwrap_or_default();
        let lost: BTreeSet<u64> =
            told.lost.get(&number).into_iter().flatten().copied().filter(|one| *one < last).collect();
        let there: BTreeSet<u64> = stored.iter().copied().chain(lost.iter().copied()).collect();
        assert_eq!(there, (1..=last).collect(), "device {number}");
        assert_eq!(batched.get(key).cloned().unwrap_or_default().1, lost, "what the ledger misses of device {number}");
        (all, missing) = (all + stored.len(), missing + lost.len());
    }
    println!(
        "{all} frames of {DEVICES} devices through {KILLS} kills, {missing} missing, {} asked to wait",
        told.later
    );
    assert!(all > DEVICES * 5, "only {all} frames came through");
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0, "the ledger refused something");
}
