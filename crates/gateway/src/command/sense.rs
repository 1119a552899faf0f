//! `vitaltrace sense`: reference devices that sign signals and send them to a running gateway, now or when they reach it again.

use super::{BadInput, Connection, Exit, print};
use crate::{
    device::{Device, Told, Way},
    mqtt::{Asker, Mqtt, topic::Topics},
    signal::Source,
};
use anyhow::{Context, bail};
use clap::Args;
use exchange::clock::now;
use indicatif::{ProgressBar, ProgressStyle};
use record::{OrgId, TimeMs};
use sensing::{
    Signal,
    fault::{Fault, Faulty, Sent},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// The content type of a frame.
pub(crate) const FRAME: &str = "application/cose; cose-type=\"cose-sign1\"";
/// A device that measures nothing signs a heartbeat every so many seconds: so a gap at the end shows, too.
const HEARTBEAT_S: u64 = 5;
/// How long to wait before a gateway that is away or busy is tried again, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long a device whose signals are over waits for a gateway that takes nothing; what is left stays on the disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds of signal that are signed together when a device is behind.
const SIGNED_TOGETHER: usize = 64;
/// The most devices of one command.
const DEVICES_MAX: usize = 1_000;

/// Sends a recording, or made-up signals, as the signed frames of bound devices. Goes on where it stopped.
#[derive(Debug, Args)]
pub(crate) struct Sense {
    #[command(flatten)]
    connection: Connection,
    /// A device's file: its id, its secret key and how far it has counted. Several send the same signals side by side.
    #[arg(long, value_name = "FILE", required = true)]
    device: Vec<PathBuf>,
    /// Makes the device's file, for the Device resource with this id, and shows the public key to bind it with.
    #[arg(long, value_name = "ID")]
    new: Option<String>,
    /// The device used its counters up to this one before, by another key, as the answer to $bind says: it goes on after it.
    #[arg(long, value_name = "COUNTER", conflicts_with = "new")]
    counted: Option<u64>,
    /// A WFDB header (.hea), a .csv file of numbers, or the word `generated`. Without it, what was kept is sent.
    #[arg(long, value_name = "FILE")]
    signal: Option<String>,
    /// How many times faster than life. The device's times then begin in the past and end now.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Stop after so many seconds of signal; needed for signals that never end.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Sends by a broker, `mqtts://host:port`, instead of HTTP.
    #[arg(long, value_name = "URL")]
    mqtt: Option<String>,
    /// The certificates of the broker's authority, PEM.
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_ca: Option<PathBuf>,
    /// The device's name at the broker.
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    mqtt_user: Option<String>,
    /// A file with its password there.
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_password_file: Option<PathBuf>,
    /// What goes wrong: `loss=N`, `replay=N`, `wrong-key=N` (frames of a thousand), `reorder=N/BY`, `drift=PPM`, `clone=AFTER`,
    /// `dead-battery=AFTER/SILENT/UNSET` (frames). Frames are not kept then; what became of them is counted.
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
    /// What chance in faults follows from.
    #[arg(long, default_value_t = 1, requires = "fault")]
    seed: u64,
}

/// What all devices of a command do.
#[derive(Clone)]
struct Plan {
    signal: Option<String>,
    seconds: u64,
    speed: f64,
    begin: TimeMs,
    started: Instant,
    fault: Option<Fault>,
    seed: u64,
}

/// What one device did.
struct Done {
    sent: u64,
    counter: u64,
    /// Frames by what was said of them, where a fault was asked for.
    said: BTreeMap<String, u64>,
    refused: bool,
}

impl Sense {
    /// Sends second by second, in order.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        if let Some(id) = &self.new {
            let [path] = self.device.as_slice() else {
                return Err(BadInput("--new makes one device".to_owned()).into());
            };
            let device = Device::make(path, id)?;
            print(&format!("public key {}", hex::encode(device.key()?.verifying_key().as_bytes())));
            print(&format!(
                "bind it by POST /fhir/Device/{id}/$bind with {{\"patient\": \"...\", \"key\": \"...\"}}; add \"since\" to send signals from before"
            ));
            print(
                "if the answer says \"counted\" above 0, the device sent before: begin with --counted and that number",
            );
            return Ok(Exit::Good);
        }
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(BadInput("--speed is a number above 0".to_owned()).into());
        }
        if self.counted.is_some() && self.device.len() > 1 {
            return Err(BadInput("--counted is about one device".to_owned()).into());
        }
        if self.device.len() > DEVICES_MAX {
            return Err(BadInput(format!("at most {DEVICES_MAX} devices at a time")).into());
        }
        let seconds = self.length()?;
        // What is sent faster than life began earlier, and ends now.
        let ahead_ms = (seconds as f64 * 1_000.0 * (1.0 - 1.0 / self.speed)).max(0.0);
        let plan = Plan {
            signal: self.signal.clone(),
            seconds,
            speed: self.speed,
            begin: TimeMs(now().0.saturating_sub(ahead_ms as u64)),
            started: Instant::now(),
            fault: self.fault.as_deref().map(fault).transpose()?,
            seed: self.seed,
        };
        let bar = if self.device.len() == 1 { ProgressBar::new(seconds) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} s of signal, {elapsed}")?);
        let mut running = Vec::with_capacity(self.device.len());
        for (number, path) in (0..).zip(&self.device) {
            let mut device = Device::open(path)?;
            if let Some(counted) = self.counted {
                device.go_on_from_elsewhere(counted)?;
            }
            let way = self.way(&device)?;
            let plan = Plan { seed: plan.seed.wrapping_add(number), ..plan.clone() };
            running.push(tokio::spawn(run_device(device, way, plan, bar.clone())));
        }
        let mut exit = Exit::Good;
        for (path, run) in self.device.iter().zip(running) {
            let done = run
                .await
                .context("a device stopped")?
                .with_context(|| format!("the device in `{}`", path.display()))?;
            if done.refused {
                exit = Exit::No;
            }
            print(&format!("{} frames sent; the device has counted to {}", done.sent, done.counter));
            done.said.iter().for_each(|(what, count)| print(&format!("  {count} {what}")));
        }
        bar.finish_and_clear();
        Ok(exit)
    }

    /// How many seconds of signal there are.
    fn length(&self) -> anyhow::Result<u64> {
        let Some(signal) = &self.signal else { return Ok(0) };
        Ok(match (Source::open(signal)?.seconds(), self.seconds) {
            (Some(all), Some(some)) => all.min(some),
            (Some(all), None) => all,
            (None, Some(some)) => some,
            (None, None) => return Err(BadInput("these signals never end: say --seconds".to_owned()).into()),
        })
    }

    fn way(&self, device: &Device) -> anyhow::Result<Way> {
        let Some(url) = &self.mqtt else { return Ok(Way::Http(self.connection.anonymous()?)) };
        let org: OrgId = self.connection.config()?.org;
        let mqtt = Mqtt {
            broker: url.clone(),
            ca: self.mqtt_ca.clone(),
            user: self.mqtt_user.clone(),
            password_file: self.mqtt_password_file.clone(),
            certificate: None,
            key: None,
            client_id: None,
            share: None,
            session_s: None,
        };
        let id = &device.kept.device;
        let broker = mqtt.broker(&format!("device-{}", id.chars().take(50).collect::<String>()));
        let broker = broker.map_err(|error| BadInput(format!("--mqtt: {error:#}")))?;
        let topics = Topics::new(&org);
        Ok(Way::Mqtt(Box::new(Asker::new(broker, topics.frames(id), topics.answers(id)))))
    }
}

/// Runs one device: signs what is due, keeps it, and sends what waits.
async fn run_device(mut device: Device, mut way: Way, plan: Plan, bar: ProgressBar) -> anyhow::Result<Done> {
    let mut source = plan.signal.as_deref().map(Source::open).transpose()?;
    if let Some(fault) = plan.fault {
        let Some(source) = source else { return Err(BadInput("--fault needs --signal".to_owned()).into()) };
        return run_faulty(device, way, plan, fault, source).await;
    }
    let mut done = Done { sent: 0, counter: 0, said: BTreeMap::new(), refused: false };
    let pace = Duration::from_secs_f64(1.0 / plan.speed);
    let (mut second, mut quiet, mut after) = (0u64, 0u64, AGAIN_AFTER);
    let (mut not_before, mut progress) = (Instant::now(), Instant::now());
    while second < plan.seconds || !device.is_done() {
        // Everything that is due is signed and on the disk before anything is sent.
        let mut moments = Vec::new();
        while second < plan.seconds
            && moments.len() < SIGNED_TOGETHER
            && device.has_room()
            && plan.started + pace.mul_f64(second as f64) <= Instant::now()
        {
            let Some(signals) = source.as_mut().and_then(Source::next_second) else {
                second = plan.seconds;
                break;
            };
            quiet = if signals.is_empty() { quiet + 1 } else { 0 };
            if !signals.is_empty() || quiet % HEARTBEAT_S == 0 {
                moments.push((plan.begin.plus_ms(second * 1_000), signals));
            }
            second += 1;
            progress = Instant::now();
        }
        bar.set_position(second);
        if !moments.is_empty() {
            device.sign(moments)?;
        }
        let next_due = plan.started + pace.mul_f64(second as f64);
        if device.is_done() {
            if second < plan.seconds {
                tokio::time::sleep_until(next_due.into()).await;
            }
            continue;
        }
        if Instant::now() < not_before {
            let until = if second < plan.seconds && device.has_room() { not_before.min(next_due) } else { not_before };
            tokio::time::sleep_until(until.into()).await;
            continue;
        }
        let frames = device.waiting(way.at_once())?;
        let told = way.send(&frames).await;
        let (taken, wait) = match &told {
            Err(_) => (0, Some(after)),
            Ok(told) => settle(told, &mut done),
        };
        device.answered(taken)?;
        if taken > 0 {
            (after, progress) = (AGAIN_AFTER, Instant::now());
        }
        if done.refused {
            break;
        }
        if let Some(wait) = wait {
            not_before = Instant::now() + wait;
            after = (after * 2).min(AGAIN_AFTER_MAX);
            if second >= plan.seconds && progress.elapsed() > PATIENCE {
                device.tidy()?;
                let why = told.err().map_or_else(|| "it stays too busy".to_owned(), |error| format!("{error:#}"));
                bail!("{why}: run the command again, the device goes on where it stopped");
            }
        }
    }
    device.tidy()?;
    done.counter = device.kept.counter;
    Ok(done)
}

/// How many of the frames are answered for, and how long to wait before the next.
fn settle(told: &[Told], done: &mut Done) -> (usize, Option<Duration>) {
    for (at, told) in told.iter().enumerate() {
        match told {
            Told::Taken => done.sent += 1,
            Told::Later(wait) => return (at, Some((*wait).max(AGAIN_AFTER / 10))),
            Told::Refused(status, _, why) => {
                super::tell(&format!("the gateway refused a frame ({status}): {why}"));
                done.refused = true;
                // It will not be taken ever: the device goes on after it.
                return (at + 1, None);
            }
        }
    }
    (told.len(), None)
}

/// Runs a device with a fault, whose frames are sent once each; counts what was said of them.
async fn run_faulty(
    mut device: Device,
    mut way: Way,
    plan: Plan,
    fault: Fault,
    mut source: Source,
) -> anyhow::Result<Done> {
    let mut done = Done { sent: 0, counter: 0, said: BTreeMap::new(), refused: false };
    let mut moments: Vec<(TimeMs, Vec<Signal>)> = Vec::new();
    for second in 0..plan.seconds {
        let Some(signals) = source.next_second() else { break };
        moments.push((plan.begin.plus_ms(second * 1_000), signals));
    }
    let mut last = (device.kept.counter, device.kept.previous);
    for sent in Faulty::new(moments.into_iter(), device.sequence()?, device.key()?, fault, plan.seed) {
        let Sent { frame, at } = sent.context("these signals do not fit a frame")?;
        let due_s = at.0.saturating_sub(plan.begin.0) as f64 / 1_000.0 / plan.speed;
        tokio::time::sleep_until((plan.started + Duration::from_secs_f64(due_s)).into()).await;
        if frame.counter() > last.0 {
            last = (frame.counter(), frame.digest());
        }
        let frames = [frame.bytes().to_vec()];
        let what = loop {
            match way.send(&frames).await?.into_iter().next() {
                Some(Told::Later(wait)) => tokio::time::sleep(wait.max(AGAIN_AFTER / 10)).await,
                Some(Told::Taken) => break "taken".to_owned(),
                Some(Told::Refused(status, code, _)) => break format!("refused ({status} {code})"),
                None => bail!("a frame was not answered"),
            }
        };
        done.sent += 1;
        *done.said.entry(what).or_default() += 1;
    }
    device.go_on_after(last.0, last.1)?;
    done.counter = last.0;
    Ok(done)
}

/// Reads what is to go wrong.
fn fault(text: &str) -> anyhow::Result<Fault> {
    let bad = || {
        BadInput(format!(
            "`{text}` is no fault: loss=N, replay=N, wrong-key=N, reorder=N/BY, drift=PPM, clone=AFTER, dead-battery=AFTER/SILENT/UNSET"
        ))
    };
    let (name, said) = text.split_once('=').ok_or_else(bad)?;
    if name == "drift" {
        let ppm: f64 = said.parse().ok().filter(|ppm: &f64| ppm.is_finite() && ppm.abs() < 1e6).ok_or_else(bad)?;
        return Ok(Fault::ClockDrift { ppm });
    }
    let numbers: Option<Vec<u32>> = said.split('/').map(|number| number.parse().ok()).collect();
    let numbers = numbers.ok_or_else(bad)?;
    let of_thousand = |per_mille: u32| if per_mille <= 1_000 { Ok(per_mille) } else { Err(bad()) };
    Ok(match (name, numbers.as_slice()) {
        ("loss", [n]) => Fault::Loss { per_mille: of_thousand(*n)? },
        ("replay", [n]) => Fault::Replay { per_mille: of_thousand(*n)? },
        ("wrong-key", [n]) => Fault::WrongKey { per_mille: of_thousand(*n)? },
        ("reorder", [n, by]) if (1..=1_000).contains(by) => {
            Fault::Reordering { per_mille: of_thousand(*n)?, by: *by as usize }
        }
        ("clone", [after]) => Fault::Clone { after: (*after).into() },
        ("dead-battery", [after, silent, unset]) => {
            Fault::DeadBattery { after: (*after).into(), silent: (*silent).into(), unset: (*unset).into() }
        }
        _ => return Err(bad().into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_mistakes_named() {
        let check = |text: &str, expected: Option<Fault>| match (fault(text), expected) {
            (Ok(read), Some(expected)) => assert_eq!(read, expected, "{text}"),
            (Err(error), None) => assert!(error.to_string().contains("is no fault"), "{text}: {error}"),
            (read, expected) => panic!("{text}: {read:?}, expected {expected:?}"),
        };
        check("loss=50", Some(Fault::Loss { per_mille: 50 }));
        check("reorder=20/3", Some(Fault::Reordering { per_mille: 20, by: 3 }));
        check("drift=-150.5", Some(Fault::ClockDrift { ppm: -150.5 }));
        check("clone=7", Some(Fault::Clone { after: 7 }));
        check("dead-battery=100/300/5", Some(Fault::DeadBattery { after: 100, silent: 300, unset: 5 }));
        for wrong in
            ["", "loss", "loss=", "loss=x", "loss=1001", "loss=1/2", "reorder=1/0", "drift=nan", "clone=-1", "x=1"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn frames_are_done_up_to_the_first_that_has_to_wait() {
        let later = Told::Later(Duration::from_secs(1));
        let refused = Told::Refused(422, "value".into(), "why".into());
        let check = |told: &[Told], expected: (usize, bool, bool)| {
            let mut done = Done { sent: 0, counter: 0, said: BTreeMap::new(), refused: false };
            let (taken, wait) = settle(told, &mut done);
            assert_eq!((taken, wait.is_some(), done.refused), expected, "{told:?}");
        };
        check(&[], (0, false, false));
        check(&[Told::Taken, Told::Taken], (2, false, false));
        check(&[Told::Taken, later.clone(), Told::Taken], (1, true, false));
        check(&[later, Told::Taken], (0, true, false));
        check(&[Told::Taken, refused, Told::Taken], (2, false, true));
    }
}
