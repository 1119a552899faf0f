//! Rows 5 to 8: sensors are attached, stream, are assessed, and raise an alarm that the paramedic acknowledges.

use super::story::{Story, concept, expect, matches};
use crate::{
    client::{Answer, Client},
    command::sense::FRAME,
    signal,
};
use analytics::{Qrs, QrsParameters};
use anyhow::{Context, bail};
use contract::PublicKey;
use record::{Digest, TimeMs};
use sensing::{
    Decimal, Frame, NO_PREVIOUS, Sequence, Signal, SigningKey, Value as Measured,
    generated::{Story as Course, Wearer},
    wfdb::Recording,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
const RULE: &str = "https://vitaltrace.org/fhir/CodeSystem/rule";

/// The patient wears the sensors for so many seconds before there is a connection: the monitor keeps numbers only.
const STORED_S: u64 = 600;
/// A number of each sensor is kept every so many seconds.
const STORED_EVERY_S: u64 = 10;
/// Then everything is streamed, a second at a time, for so many seconds.
const STREAMED_S: u64 = 90;
const SIGNAL_S: u64 = STORED_S + STREAMED_S;
/// The patient begins to bleed then, and is at the worst so much later.
const ONSET_S: u64 = 420;
const COURSE: Course = Course::Haemorrhage { onset_s: ONSET_S as f64, duration_s: 150.0 };
/// The binding reaches back so much further than the signal, for the time between the two rows.
const SPARE_S: u64 = 300;
/// Samples per second of the generated ECG.
const GENERATED_ECG_HZ: u32 = 250;
/// How long analytics may take to write what it found.
const ANALYTICS_TIMEOUT: Duration = Duration::from_secs(60);

/// What each sensor is: code, name, and the beginnings of its signals' names.
const SENSORS: [(&str, &str, &[&str]); 7] = [
    ("ecg", "electrocardiograph", &["ecg-", "heart-rate"]),
    ("nibp", "blood pressure cuff", &["nibp-", "consciousness", "oxygen"]),
    ("spo2", "pulse oximeter", &["spo2", "pulse", "pleth"]),
    ("temperature", "thermometer", &["temp-"]),
    ("respiration", "respiration belt", &["resp-"]),
    ("body-position", "accelerometer", &["accel-", "posture"]),
    ("galvanic-skin-response", "skin electrode", &["gsr"]),
];
/// The code system of kinds of sensors.
const SENSOR: &str = "https://vitaltrace.org/fhir/CodeSystem/sensor";

/// A sensor of the story, which signs what it sends.
pub(crate) struct Sensor {
    name: &'static str,
    prefixes: &'static [&'static str],
    /// The id of its Device.
    id: String,
    seed: [u8; 32],
    sequence: Sequence,
    /// The last frame that the gateway took.
    last: Option<Frame>,
}

impl Sensor {
    fn measures(&self, signal: &Signal) -> bool {
        self.prefixes.iter().any(|prefix| signal.name.starts_with(prefix))
    }

    async fn send(&mut self, gateway: &Client, at: TimeMs, signals: Vec<Signal>) -> anyhow::Result<()> {
        let frame = self.sequence.next(at, signals)?;
        let answer = gateway.post_bytes("/frames", FRAME, frame.bytes().to_vec()).await?.good();
        let answer = answer.with_context(|| format!("a frame of the {}", self.name))?.json()?;
        let named = format!("Observation/{}", frame.digest());
        expect(answer["observation"] == named.as_str(), "a frame is answered with the Observation that shows it")?;
        self.last = Some(frame);
        Ok(())
    }
}

impl Story {
    /// Row 5: one Device and one key for each sensor, bound to the patient.
    pub(crate) async fn attach_sensors(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let since = TimeMs(exchange::clock::now().0 - (SIGNAL_S + SPARE_S) * 1_000);
        for (code, name, prefixes) in SENSORS {
            let mut seed = [0u8; 32];
            getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
            let key = SigningKey::from_bytes(&seed);
            let public = PublicKey::from(key.verifying_key().to_bytes());
            let device = json!({
                "resourceType": "Device", "status": "active", "type": concept(SENSOR, code, name),
                "deviceName": [{"name": name, "type": "user-friendly-name"}]
            });
            let id = paramedic.create(&device).await?.id()?;
            let bind = json!({"patient": self.patient, "key": public, "since": since.to_instant()});
            paramedic.post(&format!("/fhir/Device/{id}/$bind"), &bind).await?.good()?;
            let again = paramedic.post(&format!("/fhir/Device/{id}/$bind"), &bind).await?;
            expect(again.status.as_u16() == 409, "a device that is bound cannot be bound again")?;
            let sequence = Sequence::new(exchange::device_name(&id)?, key);
            self.sensors.push(Sensor { name, prefixes, id, seed, sequence, last: None });
        }
        let found =
            paramedic.get(&format!("/fhir/DeviceUseStatement?patient={}", self.patient)).await?.good()?.json()?;
        let attached = matches(&found).iter().filter(|statement| statement["status"] == "active").count();
        expect(attached == SENSORS.len(), "every sensor shows as used by the patient")?;
        self.tell.detail(&format!("{} sensors, each with a key of its own", SENSORS.len()));
        Ok(())
    }

    /// Row 6: what was stored while there was no connection, then the live signals; forgeries are refused.
    pub(crate) async fn stream(&mut self) -> anyhow::Result<()> {
        let mut signals = Signals::open(self)?;
        let gateway = Client::with_token(&self.consortium.node("rescue-one")?.base, String::new())?;
        let begin = TimeMs(exchange::clock::now().0 - SIGNAL_S * 1_000);
        let bar = self.tell.bar(SIGNAL_S, "seconds of signal");
        let mut frames = 0;
        for second in 0..SIGNAL_S {
            let live = second >= STORED_S;
            let now = signals.next_second(live);
            if live || second.is_multiple_of(STORED_EVERY_S) {
                frames += self.send_second(&gateway, begin.plus_ms(second * 1_000), &now).await?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.tell.detail(&format!(
            "{frames} frames: {} minutes of stored numbers, then {STREAMED_S} s live with {}",
            STORED_S / 60,
            signals.ecg_name()
        ));
        self.refuse_forgeries(&gateway).await?;
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        for sensor in &self.sensors {
            let digest = sensor.last.as_ref().context("a sensor sent nothing")?.digest();
            let shown = paramedic.get(&format!("/fhir/Observation/{digest}")).await?.good()?.json()?;
            let sent_by = format!("Device/{}", sensor.id);
            let whole = shown["resourceType"] == "Observation"
                && shown["id"] == digest.to_hex().as_str()
                && shown["subject"] == self.subject()
                && shown["device"]["reference"] == sent_by.as_str();
            expect(whole, &format!("the {}'s frame is readable as the patient's Observation", sensor.name))?;
        }
        self.wait_for_batches().await
    }

    /// Sends one second of all sensors side by side; gives how many frames.
    async fn send_second(&mut self, gateway: &Client, at: TimeMs, signals: &[Signal]) -> anyhow::Result<usize> {
        let mut sending = Vec::new();
        for sensor in &mut self.sensors {
            let own: Vec<Signal> = signals.iter().filter(|signal| sensor.measures(signal)).cloned().collect();
            if !own.is_empty() {
                sending.push(sensor.send(gateway, at, own));
            }
        }
        let frames = sending.len();
        futures::future::try_join_all(sending).await?;
        Ok(frames)
    }

    /// A frame sent twice, one without a signature, and one of another key.
    async fn refuse_forgeries(&mut self, gateway: &Client) -> anyhow::Result<()> {
        let sensor = self.sensors.first_mut().context("no sensor is attached")?;
        let last = sensor.last.clone().context("the sensor sent nothing")?;
        let post =
            async |bytes: Vec<u8>| -> anyhow::Result<Answer> { gateway.post_bytes("/frames", FRAME, bytes).await };
        let replayed = post(last.bytes().to_vec()).await?;
        expect(replayed.status.as_u16() == 409, "a frame that is sent again is refused")?;
        let unsigned = post(without_signature(last.bytes())?).await?;
        expect(unsigned.status.is_client_error(), "a frame without a signature is refused")?;
        expect(unsigned.diagnostics().contains("not signed"), "the refusal says that the signature is missing")?;
        let mut thief = sensor.seed;
        thief[0] ^= 1;
        let (device, counter, at) = (last.device().clone(), last.counter(), last.device_time().plus_ms(1));
        let forged =
            Sequence::resume(device, SigningKey::from_bytes(&thief), counter, last.digest()).next(at, Vec::new())?;
        let forged = post(forged.bytes().to_vec()).await?;
        expect(forged.status.is_client_error(), "a frame signed with another key is refused")?;
        expect(forged.diagnostics().contains("signature"), "the refusal says that the signature does not fit")?;
        self.tell.detail(&format!(
            "refused: {}; {}; {}",
            replayed.diagnostics(),
            unsigned.diagnostics(),
            forged.diagnostics()
        ));
        Ok(())
    }

    /// Until every sensor's frames stand on the ledger.
    async fn wait_for_batches(&self) -> anyhow::Result<()> {
        let until = Instant::now() + ANALYTICS_TIMEOUT;
        while Instant::now() < until {
            let status = self.ledger_status().await?;
            if status["by_kind"]["batch"].as_u64().unwrap_or(0) >= SENSORS.len() as u64 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("after {} s the frames have no batch entries on the ledger", ANALYTICS_TIMEOUT.as_secs())
    }

    /// Row 7: all four kinds of results are there, and cite the frames they rest on.
    pub(crate) async fn analytics(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let patient = paramedic.get(&format!("/fhir/Patient/{}", self.patient)).await?.good()?.json()?;
        let grown = patient["birthDate"].as_str().is_some_and(is_grown);
        let observations = |code: &str| format!("/fhir/Observation?patient={}&code={code}&_count=100", self.patient);
        let of = |kind: &str| format!("/fhir/{kind}?patient={}&_count=100", self.patient);
        let mut wanted: Vec<(&str, String, Is)> = vec![
            ("a summary of one minute", observations(&format!("{RULE}|window-summary")), cites_frames),
            ("a heart rate from the ECG", observations(&format!("{LOINC}|8867-4")), cites_frames),
            ("an alarm's DetectedIssue", of("DetectedIssue"), |issue| !issue["evidence"][0]["detail"][0].is_null()),
            ("an alarm's Flag", of("Flag"), |flag| flag["status"] == "active"),
            ("a forecast with its interval", of("RiskAssessment"), has_interval),
        ];
        if grown {
            let score = |score: &Value| cites_frames(score) && !score["valueQuantity"].is_null();
            wanted.push(("a complete NEWS2 score", observations(&format!("{SNOMED}|1104051000000101")), score));
        } else {
            self.tell.detail("the patient is under 16: NEWS2 is not for children, and none is made");
        }
        let until = Instant::now() + ANALYTICS_TIMEOUT;
        for (what, path, is_it) in wanted {
            loop {
                let found = paramedic.get(&path).await?.good()?.json()?;
                if let Some(first) = matches(&found).into_iter().find(|resource| is_it(resource)) {
                    self.tell.detail(&format!("{what}: {}", in_words(first)));
                    break;
                }
                if Instant::now() > until {
                    bail!("expected: {what} is found by a search");
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        self.replay(&paramedic).await
    }

    /// Everything that was found so far comes out again, to the bit, from the signed frames.
    async fn replay(&self, paramedic: &Client) -> anyhow::Result<()> {
        let mut latest: Option<(u64, String)> = None;
        for kind in ["Observation", "RiskAssessment", "DetectedIssue"] {
            let path = format!("/fhir/{kind}?patient={}&_sort=-_lastUpdated&_count=20", self.patient);
            let found = paramedic.get(&path).await?.good()?.json()?;
            for (resource, steps) in matches(&found).into_iter().filter_map(|one| Some((one, steps_before(one)?))) {
                if latest.as_ref().is_none_or(|(most, _)| steps > *most) {
                    latest = Some((steps, format!("{kind}/{}", text(&resource["id"]))));
                }
            }
        }
        let (_, latest) = latest.context("no result says what it was computed from")?;
        let replayed = paramedic.get(&format!("/fhir/{latest}/$replay?run=true")).await?.good()?.json()?;
        let run = &replayed["run"];
        expect(replayed["equal"] == true, &format!("{latest} comes out again: {}", text(&replayed["said"])))?;
        let all = run["results"].as_u64().is_some_and(|results| results > 0) && run["equal"] == run["results"];
        expect(all, &format!("every result before it comes out again, and these do not: {}", run["unequal"]))?;
        let rules = run["rules"].as_object().map_or(0, serde_json::Map::len);
        self.tell.detail(&format!(
            "{} results of {rules} rules came out again to the bit from {} signed frames",
            run["results"], replayed["frames"]
        ));
        Ok(())
    }

    /// Row 8: the alarm is listed, the paramedic acknowledges it, and that stays written. The skin electrode is taken off.
    pub(crate) async fn alarm(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let list = format!("/alarm?patient={}", self.patient);
        let listed = paramedic.get(&list).await?.good()?.json()?;
        let sounding = |alarm: &&Value| alarm["priority"] == "high" && alarm["acknowledged"].is_null();
        let alarms = listed["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
        let alarm = alarms.iter().find(sounding).context("no alarm of high priority is listed")?;
        let id = alarm["id"].as_str().context("the alarm has no id")?.to_owned();
        self.tell.detail(&format!("{} alarms; {}: {}", alarms.len(), text(&alarm["name"]), text(&alarm["what"])));

        paramedic.post(&format!("/alarm/{id}/acknowledge"), &json!({})).await?.good()?;
        let listed = paramedic.get(&list).await?.good()?.json()?;
        let alarms = listed["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
        let acknowledged = alarms.iter().find(|alarm| alarm["id"] == id.as_str()).context("the alarm is gone")?;
        expect(acknowledged["acknowledged"]["by"] == "paramedic", "the list says who acknowledged the alarm")?;
        let again = paramedic.post(&format!("/alarm/{id}/acknowledge"), &json!({})).await?;
        expect(again.status.as_u16() == 409, "an alarm is acknowledged once")?;
        let told = paramedic.get(&format!("/fhir/Communication?patient={}", self.patient)).await?.good()?.json()?;
        let about = |told: &&Value| {
            told["about"].as_array().is_some_and(|about| about.iter().any(|r| r["reference"] == alarm["flag"]))
        };
        expect(matches(&told).iter().any(about), "a Communication says that the alarm was acknowledged")?;

        let gateway = Client::with_token(&self.consortium.node("rescue-one")?.base, String::new())?;
        let electrode = self.sensors.last_mut().context("no sensor is attached")?;
        paramedic.post(&format!("/fhir/Device/{}/$unbind", electrode.id), &json!({})).await?.good()?;
        let late = electrode.send(&gateway, exchange::clock::now(), Vec::new()).await;
        expect(late.is_err(), "a sensor that was taken off is not heard any more")?;
        Ok(())
    }
}

/// How many steps of its run came before those that a result carries; none of what is no result.
fn steps_before(resource: &Value) -> Option<u64> {
    let mut parts = resource["extension"].as_array()?.iter().filter_map(|one| one["extension"].as_array()).flatten();
    parts.find(|part| part["url"] == "from")?["valueDecimal"].as_u64()
}

/// Whether a resource is what was looked for.
type Is = fn(&Value) -> bool;

/// What the sensors say, second by second: made-up vital signs that tell the deterioration, and a recorded ECG where there is one.
struct Signals {
    wearer: Wearer,
    recorded: Option<Recorded>,
    second: u64,
}

/// An ECG recording with the times of its beats.
struct Recorded {
    recording: Recording,
    name: String,
    beats_s: Vec<f64>,
    seconds: u64,
}

impl Signals {
    fn open(story: &Story) -> anyhow::Result<Self> {
        let recorded = story.ecg.as_deref().map(Recorded::open).transpose()?;
        match &recorded {
            Some(recorded) => {
                story.tell.detail(&format!("the ECG is the recording {}; other signs are made up", recorded.name))
            }
            None => story.tell.detail("no --ecg given: the ECG and all other signs are made up"),
        }
        Ok(Self { wearer: Wearer::new(1, COURSE, GENERATED_ECG_HZ), recorded, second: 0 })
    }

    fn ecg_name(&self) -> String {
        self.recorded.as_ref().map_or("a made-up ECG".to_owned(), |recorded| format!("the ECG {}", recorded.name))
    }

    /// The next second; numbers only when it is not live.
    fn next_second(&mut self, live: bool) -> Vec<Signal> {
        let second = self.second;
        self.second += 1;
        let mut signals = self.wearer.next_second().signals;
        if let Some(recorded) = &self.recorded {
            // Rate and ECG come from the recording alike: a monitor counts the beats it shows.
            signals.retain(|signal| !signal.name.starts_with("ecg-") && signal.name != "heart-rate");
            signals.extend(recorded.heart_rate(second));
            signals.extend(signal::recorded(&recorded.recording, second % recorded.seconds));
        }
        if second.is_multiple_of(60) {
            // What the paramedic enters at the monitor.
            let (level, oxygen) = if second < ONSET_S { ("A", "air") } else { ("V", "oxygen") };
            signals.push(code("consciousness", level));
            signals.push(code("oxygen", oxygen));
        }
        if !live {
            signals.retain(|signal| !matches!(signal.value, Measured::Waveform(_)));
        }
        signals
    }
}

impl Recorded {
    fn open(header: &std::path::Path) -> anyhow::Result<Self> {
        let recording = signal::recording(header)?;
        let header_of = recording.header();
        let is_lead = |at: &usize| header_of.channel(*at).is_some_and(|name| name.starts_with("ecg-"));
        let leads: Vec<usize> = (0..header_of.signals.len()).filter(is_lead).collect();
        let lead = *leads.first().with_context(|| format!("`{}` has no lead of an ECG", header.display()))?;
        let (rate_hz, samples) = (recording.rate_hz(lead).unwrap_or(0.0), recording.samples(lead).unwrap_or_default());
        let mut beats_s = Vec::new();
        let mut qrs = Qrs::new(rate_hz, QrsParameters::STANDARD).context("the ECG has too few samples a second")?;
        let played = (rate_hz * SIGNAL_S as f64) as usize;
        qrs.extend(samples.iter().take(played).map(|s| f64::from(*s)), |beat| {
            beats_s.push(beat.sample as f64 / rate_hz)
        });
        let seconds = signal::recording_seconds(&recording);
        if seconds < STREAMED_S {
            bail!("`{}` is shorter than {STREAMED_S} s", header.display());
        }
        Ok(Self { name: recording.header().record.clone(), recording, beats_s, seconds })
    }

    /// The rate of the last ten seconds' beats.
    fn heart_rate(&self, second: u64) -> Option<Signal> {
        let now = (second % self.seconds) as f64;
        let recent: Vec<f64> = self.beats_s.iter().copied().filter(|at| (now - 10.0..now).contains(at)).collect();
        let (first, last) = (recent.first()?, recent.last()?);
        let rate = 60.0 * (recent.len() - 1) as f64 / (last - first);
        let value = Decimal::new(rate.round() as i64, 0).filter(|_| rate.is_finite())?;
        Some(Signal { name: "heart-rate".into(), offset_ms: 0, value: Measured::Number { unit: "/min".into(), value } })
    }
}

fn code(name: &str, code: &str) -> Signal {
    Signal { name: name.into(), offset_ms: 0, value: Measured::Code(code.into()) }
}

/// The same frame with an empty signature: the last field of the COSE array is a byte string of 64 bytes.
fn without_signature(frame: &[u8]) -> anyhow::Result<Vec<u8>> {
    const SIGNATURE_FIELD_BYTES: usize = 2 + 64;
    const EMPTY_BYTE_STRING: u8 = 0x40;
    let end = frame.len().checked_sub(SIGNATURE_FIELD_BYTES).context("a frame is longer than its signature")?;
    let mut bytes = frame[..end].to_vec();
    bytes.push(EMPTY_BYTE_STRING);
    Ok(bytes)
}

/// Whether a result rests on frames, named by their digests.
fn cites_frames(observation: &Value) -> bool {
    let cited = observation["derivedFrom"][0]["reference"].as_str().unwrap_or_default();
    let digest = cited.strip_prefix("Observation/").and_then(|rest| rest.split('/').next());
    digest.and_then(|digest| digest.parse::<Digest>().ok()).is_some_and(|digest| digest != NO_PREVIOUS)
}

fn has_interval(risk: &Value) -> bool {
    let values = risk["prediction"][0]["extension"][0]["extension"].as_array().map(Vec::as_slice).unwrap_or_default();
    ["low", "high"].iter().all(|end| values.iter().any(|value| value["url"] == *end))
}

/// Whether somebody with this date of birth is surely 16.
fn is_grown(born: &str) -> bool {
    let year = |text: &str| text.get(..4).and_then(|year| year.parse::<i32>().ok());
    let now = exchange::clock::now().to_instant();
    matches!((year(born), year(&now)), (Some(born), Some(now)) if now - born > 16)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A result for people.
fn in_words(resource: &Value) -> String {
    let quantity = &resource["valueQuantity"];
    if let Some(value) = quantity["value"].as_f64() {
        return format!("{} {value:.1} {}", text(&resource["code"]["text"]), text(&quantity["unit"]));
    }
    let said = [&resource["detail"], &resource["prediction"][0]["outcome"]["text"], &resource["code"]["text"]];
    said.into_iter().find_map(Value::as_str).unwrap_or("found").to_owned()
}
