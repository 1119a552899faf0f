//! `vitaltrace bench alarm-delay`: how long it takes from a frame on its way to the gateway to the alarm in the hand of whoever looks, while a whole
//! department streams.

use super::site::{Device, Place, SENSORS, Site, cores};
use crate::command::{Exit, print, tell};
use anyhow::{Context, bail};
use clap::{Args, builder::RangedU64ValueParser};
use exchange::clock::now;
use futures::StreamExt as _;
use sensing::{
    Decimal, Signal, Value as Measured,
    generated::{Story, Wearer},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

/// Samples per second of the ECG.
const ECG_HZ: u32 = 500;
/// The alarm that is provoked: one low pressure of a cuff sounds at once.
const ALARM: &str = "systolic-low";
/// What the cuff says before, and then, in mmHg.
const USUAL_MMHG: f64 = 120.0;
const LOW_MMHG: f64 = 82.0;
/// Each patient's pressure falls once in so many seconds. In between the alarm is acknowledged and ends.
const EVERY_S: u64 = 15;
/// Nothing is measured before: connections are made, rules learn their signals.
const WARM_UP_S: u64 = 10;
/// After the last frame, how long an alarm may still come.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most messages of a stream that wait to be looked at.
const MESSAGES_MAX: usize = 1_024;

/// Measures how fast alarms are. A viewer looks at each patient by a WebSocket; every patient has seven sensors that send a frame a second.
#[derive(Debug, Args)]
pub(crate) struct Alarm {
    /// Patients, each with seven sensors and a viewer.
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(1..=580))]
    patients: usize,
    /// How long they are watched.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(WARM_UP_S + EVERY_S..))]
    seconds: u64,
    #[command(flatten)]
    place: Place,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Run {
    what: &'static str,
    backend: &'static str,
    patients: usize,
    /// Frames that were taken in a second.
    frames_per_s: f64,
    /// Alarms that were shown to a viewer.
    alarms: usize,
    /// Pressures that were low and of which no alarm was shown.
    missed: usize,
    /// From the frame's sending to the alarm at the viewer.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cores: usize,
    /// The machine's load over the last minute, at the end: everything runs on it.
    load_1m: f64,
    gateway_mib: u64,
}

#[derive(Debug, Serialize)]
struct Runs {
    runs: Vec<Run>,
}

/// A patient's part of the load.
struct Patient {
    id: String,
    devices: Vec<Device>,
}

/// What all patients share.
struct Measure {
    site: Site,
    seconds: Vec<Vec<Signal>>,
    last: u64,
    took_ms: Mutex<Vec<f64>>,
    provoked: AtomicUsize,
    frames: AtomicUsize,
}

impl Alarm {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let backend = self.place.backend();
        let site = Site::start(&self.place, self.patients).await?;
        let mut devices = site.devices(self.patients * SENSORS, SENSORS).await?;
        let patients: Vec<Patient> = site
            .patients
            .iter()
            .map(|id| Patient { id: id.clone(), devices: devices.drain(..SENSORS.min(devices.len())).collect() })
            .collect();
        let measure = Arc::new(Measure {
            site,
            seconds: seconds(),
            last: self.seconds,
            took_ms: Mutex::default(),
            provoked: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
        });
        tell(&format!("watching {} patients for {} s", self.patients, self.seconds));
        let begin = Instant::now();
        let mut running = Vec::with_capacity(self.patients);
        for (number, patient) in patients.into_iter().enumerate() {
            // Nobody's sensors begin at the same moment, and no two pressures fall at once but by chance.
            let from = begin + Duration::from_secs(1).mul_f64(number as f64 / self.patients as f64);
            running.push(tokio::spawn(Arc::clone(&measure).watch(patient, number as u64 % EVERY_S, from)));
        }
        for one in running {
            one.await??;
        }
        let took_s = begin.elapsed().as_secs_f64();
        let mut took_ms = std::mem::take(&mut *measure.took_ms.lock().unwrap_or_else(PoisonError::into_inner));
        took_ms.sort_by(f64::total_cmp);
        let last = took_ms.len().saturating_sub(1) as f64;
        let at = |share: f64| took_ms.get((last * share).ceil() as usize).copied().unwrap_or_default();
        let run = Run {
            what: "alarm",
            backend,
            patients: self.patients,
            frames_per_s: measure.frames.load(Ordering::Relaxed) as f64 / took_s,
            alarms: took_ms.len(),
            missed: measure.provoked.load(Ordering::Relaxed).saturating_sub(took_ms.len()),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            cores: cores(),
            load_1m: load(),
            gateway_mib: measure.site.memory()?,
        };
        if self.json {
            print(&serde_json::to_string_pretty(&Runs { runs: vec![run] })?);
        } else {
            print(&format!(
                "{} patients on {} core(s), {:.0} frames/s: {} alarms, p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms; {} missed; load {:.1}, gateway {} MiB",
                run.patients,
                run.cores,
                run.frames_per_s,
                run.alarms,
                run.p50_ms,
                run.p99_ms,
                run.max_ms,
                run.missed,
                run.load_1m,
                run.gateway_mib
            ));
        }
        Ok(Exit::Good)
    }
}

impl Measure {
    /// A patient's sensors, a frame of each every second, and the viewer's answers to alarms.
    async fn watch(self: Arc<Self>, mut patient: Patient, turn: u64, from: Instant) -> anyhow::Result<()> {
        let (shown, mut alarms) = mpsc::channel(MESSAGES_MAX);
        let viewer = tokio::spawn(view(self.address(&patient.id)?, self.site.doctor.token().to_owned(), shown));
        let mut low: Option<(Instant, bool)> = None;
        for second in 0..self.last {
            let until = from + Duration::from_secs(second);
            self.hear(&mut alarms, &mut low, until.into()).await?;
            let falls = second >= WARM_UP_S && second % EVERY_S == turn;
            // A pressure of which no alarm came stays counted as missed.
            if falls {
                self.provoked.fetch_add(1, Ordering::Relaxed);
            }
            let frames = self.frames_of(&mut patient, second, if falls { LOW_MMHG } else { USUAL_MMHG })?;
            if falls {
                low = Some((Instant::now(), false));
            }
            self.frames.fetch_add(frames.len(), Ordering::Relaxed);
            self.site.send(frames).await?;
        }
        if low.is_some_and(|(_, heard)| !heard) {
            self.hear(&mut alarms, &mut low, (Instant::now() + PATIENCE).into()).await?;
        }
        viewer.abort();
        Ok(())
    }

    /// Looks at what the viewer is shown until a time, and acknowledges the alarm of each low pressure.
    async fn hear(
        &self,
        alarms: &mut mpsc::Receiver<(Instant, Value)>,
        low: &mut Option<(Instant, bool)>,
        until: tokio::time::Instant,
    ) -> anyhow::Result<()> {
        while let Ok(next) = tokio::time::timeout_at(until, alarms.recv()).await {
            let Some((at, alarm)) = next else { bail!("a stream ended") };
            let sounds = alarm["name"] == ALARM && alarm["ended"].is_null() && alarm["acknowledged"].is_null();
            let Some((sent, heard)) = low.as_mut().filter(|_| sounds) else { continue };
            // It is shown once more when it is written.
            if std::mem::replace(heard, true) {
                continue;
            }
            let took_ms = at.duration_since(*sent).as_secs_f64() * 1_000.0;
            self.took_ms.lock().unwrap_or_else(PoisonError::into_inner).push(took_ms);
            let id = alarm["id"].as_str().context("an alarm has no id")?;
            self.site.doctor.post(&format!("/alarm/{id}/acknowledge"), &json!({})).await?.good()?;
        }
        Ok(())
    }

    fn frames_of(&self, patient: &mut Patient, second: u64, mmhg: f64) -> anyhow::Result<Vec<Vec<u8>>> {
        let (at, signals) = (now(), &self.seconds[second as usize % self.seconds.len()]);
        let pressure = Decimal::from_f64(mmhg).context("a pressure is a decimal")?;
        let cuff = Signal {
            name: "nibp-sys".to_owned(),
            offset_ms: 0,
            value: Measured::Number { unit: "mm[Hg]".to_owned(), value: pressure },
        };
        let mut frames = Vec::with_capacity(SENSORS);
        for (number, device) in patient.devices.iter_mut().enumerate() {
            // Each sensor says a seventh of what there is; the first one is a cuff as well.
            let mut own: Vec<Signal> = signals.iter().skip(number).step_by(SENSORS).cloned().collect();
            own.extend((number == 0).then(|| cuff.clone()));
            let frame = device.sequence.next(at, own).with_context(|| format!("device {}", device.id))?;
            frames.push(frame.bytes().to_vec());
        }
        Ok(frames)
    }

    fn address(&self, patient: &str) -> anyhow::Result<String> {
        let base = self.site.doctor.base();
        let host = base.strip_prefix("http://").context("the gateway is reached by http")?;
        Ok(format!("ws://{host}/fhir/Patient/{patient}/$stream"))
    }
}

/// Looks at one patient, and hands on the alarms with the moment at which each came.
async fn view(address: String, token: String, alarms: mpsc::Sender<(Instant, Value)>) -> anyhow::Result<()> {
    let mut request = address.into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let (mut stream, _) = tokio_tungstenite::connect_async(request).await.context("no stream")?;
    while let Some(message) = stream.next().await {
        let at = Instant::now();
        let Message::Text(text) = message? else { continue };
        // Readings are by far the most, and begin otherwise.
        if !text.starts_with("{\"alarm\"") {
            continue;
        }
        let mut told: Value = serde_json::from_str(&text)?;
        if alarms.send((at, told["alarm"].take())).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Seconds of everything that is measured, without the cuff.
fn seconds() -> Vec<Vec<Signal>> {
    let mut wearer = Wearer::new(1, Story::Stable, ECG_HZ);
    let second = |wearer: &mut Wearer| {
        let signals = wearer.next_second().signals.into_iter();
        signals.filter(|signal| !signal.name.starts_with("nibp-")).collect()
    };
    (0..60).map(|_| second(&mut wearer)).collect()
}

/// The load of the last minute, where Linux tells it.
fn load() -> f64 {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    told.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default()
}
