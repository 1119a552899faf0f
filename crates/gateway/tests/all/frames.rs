//! Frames at the gateway's doors: several at once, over WebSockets, from copied and revoked keys, before and after a restart.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium, PATIENCE,
    client::Client,
    sensor::{Sensor, now, temperature},
};
use futures::{SinkExt as _, StreamExt as _};
use sensing::Frame;
use serde_json::{Value, json};
use std::time::Instant;
use tokio_tungstenite::tungstenite::Message;

const MERCY: &str = "mercy-hospital";

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let consortium =
            Consortium::running(&[(MERCY, "doctor", "doctor"), ("health-inspectorate", "inspector", "compliance")])
                .await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        consortium.settle().await;
        Self { consortium, doctor, patient }
    }

    async fn sensor(&self, seed: u8) -> Sensor {
        Sensor::bound(&self.doctor, &self.patient, seed).await
    }

    /// Kills the gateway with its devices at work, and starts it again.
    async fn kill_and_start(&mut self) {
        let node = self.consortium.node_mut(MERCY);
        node.kill();
        node.start();
        node.wait_until_up().await;
    }

    /// The final entries of a kind, once there is one.
    async fn entries(&self, kind: &str) -> Vec<Value> {
        let begin = Instant::now();
        loop {
            let page = self.doctor.get(&format!("/ledger/entries?kind={kind}&limit=1000")).await.json();
            let entries = page["entries"].as_array().unwrap().clone();
            if !entries.is_empty() {
                return entries;
            }
            assert!(begin.elapsed() < PATIENCE, "no `{kind}` comes to stand on the ledger");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    async fn nothing_was_refused_by_the_ledger(&self) {
        self.consortium.settle().await;
        assert_eq!(self.consortium.node(MERCY).status().await["refused"], 0, "the ledger refused something");
    }
}

fn statuses(answer: &consortium::client::Answer) -> Vec<u64> {
    let answers = answer.json();
    answers["answers"].as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_come_together_are_answered_one_by_one() {
    let site = Site::new().await;
    let (mut one, mut two) = (site.sensor(1).await, site.sensor(2).await);
    let (a, b) = (one.next_of(10), two.next_of(10));
    let mut forged = Sensor { id: one.id.clone(), key: two.key.clone(), sequence: one.copy(&a[9]) };
    forged.sequence = sensing::Sequence::resume(a[9].device().clone(), two.key.clone(), 10, a[9].digest());
    // Two devices' frames among each other, one again, one by another's key, one of nobody.
    let mut mixed: Vec<Frame> = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    mixed.push(a[3].clone());
    mixed.push(forged.next());
    let answer = site.doctor.send_frames(&mixed).await.good();
    assert_eq!(statuses(&answer), [vec![201; 20], vec![409, 422]].concat());
    let answers = answer.json();
    assert_eq!(answers["answers"][0]["observation"], format!("Observation/{}", a[0].digest()));
    assert_eq!(answers["answers"][20]["outcome"]["issue"][0]["code"], "duplicate");
    assert_eq!(answers["answers"][21]["frame"], mixed[21].digest().to_string());
    // All of a second request that was sent twice are there already; what cannot be cut is refused whole.
    let again = site.doctor.send_frames(&mixed[..20]).await.good();
    assert_eq!(statuses(&again), vec![409; 20]);
    let broken = site.doctor.with_token("").post_frames("application/cbor-seq", vec![0x9f, 0xff, 0x5f]).await;
    assert_eq!(broken.status, 400, "{}", broken.text());
    assert_eq!(statuses(&site.doctor.with_token("").post_frames("application/cbor-seq", vec![0, 0]).await), [400, 400]);
    let many = vec![0; exchange::FRAMES_AT_ONCE_MAX + 1];
    assert_eq!(site.doctor.with_token("").post_frames("application/cbor-seq", many).await.status, 400);
    // The next ones follow those that were stored together, and every one is under a batch of the ledger.
    assert_eq!(site.doctor.send_frame(&one.next()).await.status, 201);
    site.entries("batch").await;
    site.consortium.settle().await;
    for frame in [&a[0], &a[9], &b[4]] {
        let shown = site.doctor.get(&format!("/fhir/Observation/{}", frame.digest())).await.good().json();
        assert_eq!(shown["valueQuantity"]["value"], 36.8, "{shown}");
    }
    site.nothing_was_refused_by_the_ledger().await;
}

/// Each device's batch was written by itself, one after the other: a department's took longer than the time from one round to the next.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_many_devices_are_written_together() {
    const SENSORS: u8 = 100;
    let site = Site::new().await;
    let mut sensors = Vec::new();
    for seed in 1..=SENSORS {
        sensors.push(site.sensor(seed).await);
    }
    let frames: Vec<Frame> = sensors.iter_mut().map(Sensor::next).collect();
    site.doctor.send_frames(&frames).await.good();
    let begin = Instant::now();
    while site.entries("batch").await.len() < usize::from(SENSORS) {
        assert!(begin.elapsed() < PATIENCE, "not every device has a batch");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    site.nothing_was_refused_by_the_ledger().await;
    assert_eq!(site.entries("batch").await.len(), usize::from(SENSORS), "one batch of each");
    let is_batch = |entry: &contract::Entry| matches!(entry.body, contract::Body::Batch { .. });
    let submissions = site.consortium.submissions().into_iter();
    let batches: Vec<usize> = submissions
        .map(|signed| signed.submission.entries.iter().filter(|entry| is_batch(entry)).count())
        .filter(|batches| *batches > 0)
        .collect();
    assert_eq!(batches.iter().sum::<usize>(), usize::from(SENSORS));
    // Rounds begin at any time: one may find some of the frames.
    assert!(batches.len() <= 5, "{batches:?}: up to 64 in one transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_key_is_revoked_on_the_ledger_and_stays_refused_after_a_restart() {
    let mut site = Site::new().await;
    let mut sensor = site.sensor(3).await;
    let own = sensor.next_of(5);
    let mut copy = sensor.copy(&own[2]);
    assert_eq!(statuses(&site.doctor.send_frames(&own).await), vec![201; 5]);
    // The gateway forgets nothing that tells a copy from a repetition, although it is killed in between.
    site.kill_and_start().await;
    assert_eq!(site.doctor.send_frame(&own[1]).await.json()["issue"][0]["code"], "duplicate");
    let theirs = copy.next(now(), temperature(40.1)).unwrap();
    let cloned = site.doctor.send_frame(&theirs).await;
    assert_eq!(cloned.status, 409, "{}", cloned.text());
    assert!(cloned.text().contains("two frames with counter 4"), "{}", cloned.text());
    let next = sensor.next();
    let refused = site.doctor.send_frame(&next).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("was revoked"), "{}", refused.text());
    site.nothing_was_refused_by_the_ledger().await;
    assert_eq!(site.entries("device").await.len(), 2, "bound and revoked");
    site.kill_and_start().await;
    assert_eq!(site.doctor.send_frame(&next).await.status, 403);
    // By its old key nobody binds it again; by another one anybody may.
    let old = sensor.bind(&site.doctor, &site.patient).await;
    assert_eq!(old.status, 409, "{}", old.text());
    sensor.key = ed25519_dalek::SigningKey::from_bytes(&[33; 32]);
    // Counters that the device has used are used up, by whatever key.
    sensor.sequence = sensing::Sequence::resume(own[0].device().clone(), sensor.key.clone(), 6, sensing::NO_PREVIOUS);
    sensor.bind(&site.doctor, &site.patient).await.good();
    assert_eq!(site.doctor.send_frame(&sensor.next()).await.status, 201);
    // What was measured before the copy showed is the patient's still.
    site.doctor.get(&format!("/fhir/Observation/{}", own[4].digest())).await.good();
    site.nothing_was_refused_by_the_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_revokes_a_key_and_a_device_that_sends_too_much_waits() {
    let site = Site::new().await;
    let mut sensor = site.sensor(4).await;
    let most = sensing::Rate::USUAL.at_once as usize;
    let frames = sensor.next_of(most + 200);
    let mut answers = Vec::new();
    for part in frames.chunks(exchange::FRAMES_AT_ONCE_MAX) {
        answers.extend(site.doctor.send_frames(part).await.good().json()["answers"].as_array().unwrap().clone());
    }
    let taken = answers.iter().take_while(|answer| answer["status"] == 201).count();
    assert!((most..most + 200).contains(&taken), "{taken} were taken at once");
    let held = &answers[taken];
    assert_eq!((&held["status"], &held["outcome"]["issue"][0]["code"]), (&json!(429), &json!("throttled")), "{held}");
    tokio::time::sleep(std::time::Duration::from_millis(held["wait_ms"].as_u64().unwrap() + 200)).await;
    let single = site.doctor.send_frame(&frames[taken]).await;
    assert!([201, 409].contains(&single.status), "{}", single.text());
    let path = format!("/fhir/Device/{}/$revoke", sensor.id);
    assert_eq!(site.doctor.with_token("").post(&path, &json!({})).await.status, 401);
    site.doctor.post(&path, &json!({})).await.good();
    assert_eq!(site.doctor.post(&path, &json!({})).await.status, 404);
    let refused = site.doctor.send_frame(&sensor.next()).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    site.nothing_was_refused_by_the_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_over_a_websocket_have_an_answer_each() {
    let site = Site::new().await;
    let mut sensor = site.sensor(5).await;
    let address = format!("ws://{}/frames", site.consortium.node(MERCY).http);
    let (socket, _) = tokio_tungstenite::connect_async(&address).await.unwrap();
    let (mut to, mut from) = socket.split();
    let frames = sensor.next_of(100);
    for frame in &frames {
        to.feed(Message::Binary(frame.bytes().to_vec().into())).await.unwrap();
    }
    to.feed(Message::Binary(frames[7].bytes().to_vec().into())).await.unwrap();
    to.feed(Message::Text("hello".into())).await.unwrap();
    to.flush().await.unwrap();
    let mut told = Vec::new();
    while told.len() < 102 {
        if let Message::Text(text) = from.next().await.unwrap().unwrap() {
            told.push(serde_json::from_str::<Value>(&text).unwrap());
        }
    }
    for (frame, told) in frames.iter().zip(&told) {
        assert_eq!((&told["status"], &told["frame"]), (&json!(201), &json!(frame.digest().to_string())), "{told}");
    }
    assert_eq!(told[100]["outcome"]["issue"][0]["code"], "duplicate");
    assert_eq!(told[101]["status"], 400);
    // One that is longer than any frame ends the conversation, and nobody else's.
    to.send(Message::Binary(vec![0; sensing::FRAME_BYTES_MAX + 1].into())).await.unwrap();
    loop {
        match from.next().await {
            None | Some(Err(_) | Ok(Message::Close(_))) => break,
            Some(Ok(_)) => {}
        }
    }
    assert_eq!(site.doctor.send_frame(&sensor.next()).await.status, 201);
    let plain = site.doctor.get("/frames").await;
    assert!([400, 426].contains(&plain.status), "{}", plain.text());
    assert_eq!(plain.json()["resourceType"], "OperationOutcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_comes_back_as_it_was_sent_and_rests_in_less() {
    let site = Site::new().await;
    let (mut sensor, mut other) = (site.sensor(6).await, site.sensor(7).await);
    let begin = now();
    let mut sent: Vec<i32> = Vec::new();
    let mut frames = Vec::new();
    for second in 0..30u64 {
        let samples: Vec<i16> = (0..250i16).map(|n| ((n * 7) % 400) - 200 + second as i16).collect();
        sent.extend(samples.iter().map(|&sample| i32::from(sample)));
        let wave = sensing::Waveform {
            unit: "mV".into(),
            rate_hz: sensing::Decimal::whole(250),
            origin: sensing::Decimal::ZERO,
            scale: sensing::Decimal::new(5, -3).unwrap(),
            limits: sensing::Limits::NONE,
            samples: sensing::Samples::I16(samples),
        };
        let mut signals = temperature(36.8);
        signals.push(sensing::Signal { name: "ecg-ii".into(), offset_ms: 0, value: sensing::Value::Waveform(wave) });
        frames.push(sensor.sequence.next(begin.plus_ms(second * 1_000), signals).unwrap());
    }
    assert_eq!(statuses(&site.doctor.send_frames(&frames).await), vec![201; 30]);
    site.doctor.send_frame(&other.next()).await.good();
    site.entries("batch").await;
    site.consortium.settle().await;
    let range = format!("start={}&end={}", begin.to_instant(), begin.plus_ms(3_600_000).to_instant());
    let signals = format!("/fhir/Patient/{}/$signals?{range}", site.patient);
    let read = site.doctor.get(&format!("{signals}&signal=ecg-ii")).await.good().json();
    let track = &read["signals"][0];
    assert_eq!(
        (&read["withheld"], &track["name"], &track["scale"]),
        (&json!(0), &json!("ecg-ii"), &json!("0.005")),
        "{read}"
    );
    assert_eq!(track["stretches"].as_array().unwrap().len(), 1);
    assert_eq!(track["stretches"][0]["samples"], json!(sent));
    assert_eq!(read["signals"].as_array().unwrap().len(), 1);
    let part = format!("start={}&end={}", begin.plus_ms(10_000).to_instant(), begin.plus_ms(20_000).to_instant());
    let read = site.doctor.get(&format!("/fhir/Patient/{}/$signals?{part}", site.patient)).await.good().json();
    assert_eq!(read["signals"][0]["stretches"][0]["samples"], json!(sent[2_500..5_000]));
    let of = site.doctor.get(&format!("{signals}&device={}", other.id)).await.good().json();
    assert_eq!((&of["frames"], of["signals"].as_array().unwrap().len()), (&json!(1), 0), "{of}");
    let edf = site.doctor.get(&format!("/fhir/Patient/{}/$edf?{range}", site.patient)).await.good();
    assert_eq!(edf.headers["x-frames"], "31");
    assert_eq!(&edf.bytes[192..197], b"EDF+C");
    let header: usize = std::str::from_utf8(&edf.bytes[184..192]).unwrap().trim().parse().unwrap();
    let samples = sent.iter().map(|&sample| i16::try_from(sample).unwrap());
    let first: Vec<u8> = samples.take(250).flat_map(i16::to_le_bytes).collect();
    assert_eq!(&edf.bytes[header..header + 500], &first[..]);
    // The same as a WFDB record: its files stand one behind the other in the archive, as they are.
    let archive = site.doctor.get(&format!("/fhir/Patient/{}/$wfdb?{range}", site.patient)).await.good();
    assert_eq!((archive.headers["x-frames"].to_str().unwrap(), &archive.bytes[..4]), ("31", &b"PK\x03\x04"[..]));
    let file = |name: &str| {
        // Where a file's own header stands before its name: files name each other.
        let begins = |at: &usize| *at >= 30 && archive.bytes[at - 30..].starts_with(b"PK\x03\x04");
        let named = archive.bytes.windows(name.len()).enumerate().filter(|(_, part)| *part == name.as_bytes());
        let at = named.map(|(at, _)| at).find(begins).unwrap();
        let length = u32::from_le_bytes(archive.bytes[at - 8..at - 4].try_into().unwrap()) as usize;
        archive.bytes[at + name.len()..][..length].to_vec()
    };
    let header = sensing::wfdb::Header::parse(&file("recording.hea")).unwrap();
    assert_eq!(header.files(), ["recording.dat"]);
    let data = file("recording.dat");
    let record = sensing::wfdb::Recording::read(header, |_| Some(&data)).unwrap();
    assert!(record.samples(0).unwrap().iter().map(|&sample| i32::from(sample)).eq(sent.iter().copied()));
    assert!(!sensing::wfdb::annotations(&file("recording.note")).unwrap().is_empty());
    // In the database the frames are shorter than they were sent.
    let database = rusqlite::Connection::open(&site.consortium.database).unwrap();
    let kept: i64 = database.query_row("SELECT sum(length(bytes)) FROM frame", [], |row| row.get(0)).unwrap();
    let whole: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
    println!("{whole} bytes of frames are kept in {kept}");
    assert!((kept as usize) < whole);
    // Who may not, is told nothing; what is not there, or wrong, is said.
    assert_eq!(site.doctor.with_token("").get(&signals).await.status, 401);
    let inspector = site.consortium.client("health-inspectorate", "inspector");
    assert_eq!(inspector.get(&signals).await.status, 403);
    let empty = format!("/fhir/Patient/{}/$edf?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z", site.patient);
    assert_eq!(site.doctor.get(&empty).await.status, 404);
    assert_eq!(site.doctor.get(&empty.replace("$edf", "$wfdb")).await.status, 404);
    for wrong in ["", "start=x&end=y", "start=2020-01-02T00:00:00Z&end=2020-01-01T00:00:00Z"] {
        for kind in ["edf", "wfdb"] {
            let answer = site.doctor.get(&format!("/fhir/Patient/{}/${kind}?{wrong}", site.patient)).await;
            assert!([400, 422].contains(&answer.status), "{wrong}: {}", answer.text());
        }
    }
    // A frame that somebody changed in the database is left out, and its batch with it.
    site.consortium.sql("UPDATE frame SET bytes = zeroblob(100) WHERE counter = 5", []);
    let read = site.doctor.get(&signals).await.good().json();
    assert_ne!((read["withheld"].as_u64().unwrap(), read["frames"].as_u64().unwrap()), (0, 31), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_every_frame_once_also_to_whoever_comes_back() {
    let site = Site::new().await;
    let mut sensor = site.sensor(8).await;
    let address = format!("ws://{}/fhir/Patient/{}/$stream", site.consortium.node(MERCY).http, site.patient);
    let open = async |more: &str, token: &str| {
        let mut request =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!("{address}{more}"))
                .unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    let inspector = site.consortium.client("health-inspectorate", "inspector");
    assert!(open("", "").await.is_err(), "a stream without a token");
    assert!(open("", &inspector.token).await.is_err(), "a stream for somebody who may not read");
    assert!(open("?after=x", &site.doctor.token).await.is_err(), "a stream from nowhere");
    site.doctor.send_frame(&sensor.next()).await.good();
    let (mut stream, _) = open("", &site.doctor.token).await.unwrap();
    let mut seen = Vec::new();
    let device = sensor.id.clone();
    let next = async |stream: &mut Stream| loop {
        let message = tokio::time::timeout(PATIENCE, stream.next()).await.expect("nothing is shown").unwrap().unwrap();
        if let Message::Text(text) = message {
            let shown: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(shown["device"], device.as_str());
            return shown["counter"].as_u64().unwrap();
        }
    };
    let later = sensor.sequence.next(now(), temperature(36.9)).unwrap();
    site.doctor.send_frame(&later).await.good();
    seen.push(next(&mut stream).await);
    drop(stream);
    // What came while nobody looked is shown first, then what comes.
    let missed: Vec<Frame> = (0..150).map(|_| sensor.sequence.next(now(), temperature(37.0)).unwrap()).collect();
    assert_eq!(statuses(&site.doctor.send_frames(&missed).await), vec![201; 150]);
    let (mut stream, _) = open(&format!("?after={}:2&signal=temp-body", sensor.id), &site.doctor.token).await.unwrap();
    for _ in 0..100 {
        seen.push(next(&mut stream).await);
    }
    let more: Vec<Frame> = (0..50).map(|_| sensor.sequence.next(now(), temperature(37.1)).unwrap()).collect();
    assert_eq!(statuses(&site.doctor.send_frames(&more).await), vec![201; 50]);
    for _ in 0..100 {
        seen.push(next(&mut stream).await);
    }
    assert_eq!(seen, (2..=202).collect::<Vec<u64>>());

    // A stream ends with the token that opened it.
    let form = format!("token={}", site.doctor.token);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let revoke = site.doctor.try_send(reqwest::Method::POST, "/auth/revoke", &headers, Some(form.into_bytes()));
    revoke.await.unwrap().good();
    let ends = async {
        while let Some(Ok(message)) = stream.next().await {
            assert!(!matches!(message, Message::Text(_)), "something is shown by a token that was revoked");
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("the stream goes on");
}
