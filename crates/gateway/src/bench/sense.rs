//! `vitaltrace bench sense`: signed frames, first admitted alone, then stored durably and anchored by a hospital whose consortium, four
//! processes, shares the machine; and a whole emergency department's sensors in real time.

use super::site::{Device, Place, Site, cores, key};
use crate::command::{BadInput, Exit, print, tell};
use anyhow::Context;
use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use exchange::clock::now;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use record::{Id16, TimeMs};
use sensing::{
    Binding, Frame, Rate, Sequence, Signal, Signed, Value, Watch,
    generated::{Story, Wearer},
};
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Samples of a frame that is measured: a second of one ECG lead.
const ECG_HZ: u32 = 500;
/// Seconds of signal that are made up; they are sent again and again.
const MADE_S: usize = 32;
/// Frames of one request, and of one batch that is checked.
const TOGETHER: usize = 64;
/// The most devices of a run, below what one gateway takes.
const DEVICES_MAX: usize = 4_060;

/// Measures the doors of sensing.
#[derive(Debug, Args)]
pub(crate) struct Sense {
    /// What is measured, one run for each.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = What::value_variants().to_vec())]
    what: Vec<What>,
    /// Devices that send as fast as they may; each sends at most 512 frames at once.
    #[arg(long, default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(1..=3_500))]
    devices: usize,
    /// Frames of each of them.
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<usize>::new().range(1..=512))]
    frames: usize,
    /// Requests that are under way at the same time.
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    connections: usize,
    /// Patients of the emergency department.
    #[arg(long, default_value_t = 500, value_parser = RangedU64ValueParser::<usize>::new().range(1..=DEVICES_MAX as u64))]
    patients: usize,
    /// Sensors of each of them, which say a part each of all that is measured.
    #[arg(long, default_value_t = 7, value_parser = RangedU64ValueParser::<usize>::new().range(1..=32))]
    sensors: usize,
    /// How long the emergency department is watched.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    place: Place,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Frames are decoded, their signatures checked in batches, their sequence judged; on one core.
    Admit,
    /// Frames of many devices are sent as fast as they are answered, stored durably and anchored.
    Store,
    /// An emergency department: every sensor of every patient, a frame a second.
    Department,
}

/// What one run showed.
#[derive(Debug, Serialize)]
struct Run {
    what: &'static str,
    backend: &'static str,
    samples_per_s: f64,
    frames_per_s: f64,
    cores: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// The most memory that the gateway's process took, in MiB, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_mib: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Runs {
    runs: Vec<Run>,
}

impl Sense {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let backend = self.place.backend();
        let mut runs = Vec::new();
        for what in &self.what {
            let run = match what {
                What::Admit => tokio::task::spawn_blocking(admit).await??,
                What::Store => self.store(backend).await?,
                What::Department => self.department(backend).await?,
            };
            if !self.json {
                print(&format!(
                    "{:>10}: {:>10.0} samples/s, {:>8.0} frames/s on {} core(s), p50 {:.2} ms, p99 {:.2} ms{}",
                    run.what,
                    run.samples_per_s,
                    run.frames_per_s,
                    run.cores,
                    run.p50_ms,
                    run.p99_ms,
                    run.gateway_mib.map_or_else(String::new, |mib| format!(", gateway {mib} MiB"))
                ));
            }
            runs.push(run);
        }
        if self.json {
            print(&serde_json::to_string_pretty(&Runs { runs })?);
        }
        Ok(Exit::Good)
    }

    async fn store(&self, backend: &'static str) -> anyhow::Result<Run> {
        let site = Site::start(&self.place, 1).await?;
        let mut devices = site.devices(self.devices, 1).await?;
        tell("signing");
        let seconds = ecg();
        let begin = TimeMs(now().0.saturating_sub(self.frames as u64 * 1_000));
        // A request has frames of one device, and the devices take turns.
        let mut requests: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut of_device = Vec::with_capacity(devices.len());
        for device in &mut devices {
            of_device.push(sign(device, &seconds, begin, self.frames)?.into_iter());
        }
        loop {
            let round: Vec<Vec<Vec<u8>>> =
                of_device.iter_mut().map(|frames| frames.by_ref().take(TOGETHER).collect()).collect();
            if round.iter().all(Vec::is_empty) {
                break;
            }
            requests.extend(round);
        }
        let begin = Instant::now();
        let sends = stream::iter(requests).map(|frames| site.send(frames)).buffered(self.connections);
        let took_ms: Vec<f32> = sends.try_collect().await?;
        site.settle().await?;
        let took_s = begin.elapsed().as_secs_f64();
        let frames = (self.devices * self.frames) as f64;
        Ok(run("store", backend, frames, frames * f64::from(ECG_HZ), took_s, cores(), took_ms, Some(site.memory()?)))
    }

    async fn department(&self, backend: &'static str) -> anyhow::Result<Run> {
        let sensors = self.sensors;
        if self.patients * sensors > DEVICES_MAX {
            return Err(BadInput(format!(
                "{} patients with {sensors} sensors each are more than {DEVICES_MAX} devices",
                self.patients
            ))
            .into());
        }
        let site = Arc::new(Site::start(&self.place, self.patients).await?);
        let mut devices = site.devices(self.patients * sensors, sensors).await?;
        let seconds = everything();
        let samples_per_s: usize = seconds.iter().map(|signals| samples_of(signals)).sum::<usize>() / seconds.len();
        let begin = Instant::now();
        let mut running = Vec::with_capacity(self.patients);
        let seconds = Arc::new(seconds);
        for patient in 0..self.patients {
            let own: Vec<Device> = devices.drain(..sensors).collect();
            let (site, seconds, last) = (Arc::clone(&site), Arc::clone(&seconds), self.seconds);
            // Nobody's sensors begin at the same moment.
            let from = begin + Duration::from_secs(1).mul_f64(patient as f64 / self.patients as f64);
            running.push(tokio::spawn(async move { watch(&site, own, &seconds, from, last).await }));
        }
        let mut took_ms = Vec::new();
        for one in running {
            took_ms.extend(one.await??);
        }
        let took_s = begin.elapsed().as_secs_f64();
        site.settle().await?;
        let frames = (self.patients * sensors) as f64 * self.seconds as f64;
        let samples = samples_per_s as f64 * self.patients as f64 * self.seconds as f64;
        Ok(run("department", backend, frames, samples, took_s, cores(), took_ms, Some(site.memory()?)))
    }
}

#[expect(clippy::too_many_arguments, reason = "the columns of one line")]
fn run(
    what: &'static str,
    backend: &'static str,
    frames: f64,
    samples: f64,
    took_s: f64,
    cores: usize,
    mut took_ms: Vec<f32>,
    gateway_mib: Option<u64>,
) -> Run {
    took_ms.sort_by(f32::total_cmp);
    let last = took_ms.len().saturating_sub(1) as f64;
    let at = |share: f64| took_ms.get((last * share).ceil() as usize).copied().map_or(0.0, f64::from);
    Run {
        what,
        backend,
        samples_per_s: samples / took_s,
        frames_per_s: frames / took_s,
        cores,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        gateway_mib,
    }
}

/// Seconds of one ECG lead.
fn ecg() -> Vec<Vec<Signal>> {
    let only = |signals: Vec<Signal>| signals.into_iter().filter(|signal| signal.name == "ecg-ii").collect();
    everything().into_iter().map(only).collect()
}

/// Seconds of everything that is measured of a patient.
fn everything() -> Vec<Vec<Signal>> {
    let mut wearer = Wearer::new(1, Story::Stable, ECG_HZ);
    (0..MADE_S).map(|_| wearer.next_second().signals).collect()
}

fn samples_of(signals: &[Signal]) -> usize {
    let of = |signal: &Signal| match &signal.value {
        Value::Waveform(wave) => wave.samples.len(),
        _ => 1,
    };
    signals.iter().map(of).sum()
}

fn sign(device: &mut Device, seconds: &[Vec<Signal>], begin: TimeMs, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let signals = (0u64..).zip(seconds.iter().cycle()).take(count);
    let frames = signals.map(|(n, signals)| device.sequence.next(begin.plus_ms(n * 1_000), signals.clone()));
    frames.map(|frame| Ok(frame?.bytes().to_vec())).collect()
}

/// Everything that happens to a frame before it is stored, on this thread alone.
fn admit() -> anyhow::Result<Run> {
    const DEVICES: usize = 64;
    const FRAMES: usize = 512;
    let (seconds, begin) = (ecg(), now());
    let at = |n: usize| begin.plus_ms(n as u64 * 1_000);
    let mut bindings = Vec::new();
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut of_device = Vec::new();
    for number in 0..DEVICES {
        let key = key()?;
        let id = format!("bench-{number}");
        let name = exchange::device_name(&id).context("a device has a name")?;
        bindings.push((
            Binding {
                device: name.clone(),
                key: key.verifying_key(),
                patient: "Patient/1".into(),
                binding: Id16([1; 16]),
                from: begin,
                until: None,
            },
            Watch::default().bounded_by(Rate { per_s: 1_000_000, at_once: 1_000_000 }),
        ));
        let mut device = Device { id, sequence: Sequence::new(name, key) };
        of_device.push(sign(&mut device, &seconds, begin, FRAMES)?);
    }
    for first in (0..FRAMES).step_by(TOGETHER / 16) {
        // As it comes: some frames of each of many devices.
        for devices in of_device.chunks(16) {
            batches
                .push(devices.iter().flat_map(|frames| frames[first..first + TOGETHER / 16].iter().cloned()).collect());
        }
    }
    let (start, mut took_ms) = (Instant::now(), Vec::new());
    for (number, batch) in batches.iter().enumerate() {
        let (one, group) = (Instant::now(), number % (DEVICES / 16) * 16);
        let mut frames = Vec::with_capacity(batch.len());
        for (place, bytes) in batch.iter().enumerate() {
            let device = group + place / (TOGETHER / 16);
            frames.push((Frame::decode(bytes)?, bindings[device].0.key));
        }
        for (place, signed) in Signed::all(frames).into_iter().enumerate() {
            let (binding, watch) = &mut bindings[group + place / (TOGETHER / 16)];
            let (_, next) = watch.admit(signed?, binding, at(number))?;
            watch.stored(next);
        }
        took_ms.push(one.elapsed().as_secs_f32() * 1_000.0);
    }
    let frames = (DEVICES * FRAMES) as f64;
    Ok(run("admit", "none", frames, frames * f64::from(ECG_HZ), start.elapsed().as_secs_f64(), 1, took_ms, None))
}

/// A patient's sensors, a frame of each every second; how long each second's answer took, in milliseconds.
async fn watch(
    site: &Site,
    mut devices: Vec<Device>,
    seconds: &[Vec<Signal>],
    from: Instant,
    last: u64,
) -> anyhow::Result<Vec<f32>> {
    let (mut took_ms, sensors) = (Vec::with_capacity(last as usize), devices.len());
    for second in 0..last {
        tokio::time::sleep_until((from + Duration::from_secs(second)).into()).await;
        let (at, signals) = (now(), &seconds[second as usize % seconds.len()]);
        let mut frames = Vec::with_capacity(devices.len());
        for (number, device) in devices.iter_mut().enumerate() {
            // Each sensor says its share of what there is.
            let own = signals.iter().skip(number).step_by(sensors).cloned().collect();
            let frame = device.sequence.next(at, own).with_context(|| format!("device {}", device.id))?;
            frames.push(frame.bytes().to_vec());
        }
        took_ms.push(site.send(frames).await?);
    }
    Ok(took_ms)
}
