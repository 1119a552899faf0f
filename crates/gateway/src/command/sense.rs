//! `vitaltrace sense`: a reference device that signs signals and sends them to a running gateway.

use super::{BadInput, Connection, Exit, print};
use crate::{client::Client, signal::Source};
use anyhow::{Context, bail};
use clap::Args;
use exchange::clock::now;
use indicatif::{ProgressBar, ProgressStyle};
use record::{Digest, TimeMs};
use sensing::{Frame, NO_PREVIOUS, Sequence, Signal, SigningKey};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The content type of a frame.
pub(crate) const FRAME: &str = "application/cose; cose-type=\"cose-sign1\"";
/// How often a gateway that is busy is asked again, and how long to wait before the next time.
const BUSY_ATTEMPTS: u32 = 10;
const BUSY_RETRY: Duration = Duration::from_millis(500);

/// Sends a recording, or made-up signals, as the signed frames of a bound device. Goes on where it stopped.
#[derive(Debug, Args)]
pub(crate) struct Sense {
    #[command(flatten)]
    connection: Connection,
    /// The device's file: its id, its secret key and how far it has counted.
    #[arg(long, value_name = "FILE")]
    device: PathBuf,
    /// Makes the device's file, for the Device resource with this id, and shows the public key to bind it with.
    #[arg(long, value_name = "ID")]
    new: Option<String>,
    /// A WFDB header (.hea), a .csv file of numbers, or the word `generated`.
    #[arg(long, value_name = "FILE", required_unless_present = "new")]
    signal: Option<String>,
    /// How many times faster than life. The device's times then begin in the past and end now.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Stop after so many seconds of signal; needed for signals that never end.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

impl Sense {
    /// Sends second by second, in order.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        if let Some(id) = &self.new {
            let device = Device::make(&self.device, id)?;
            print(&format!("public key {}", hex::encode(device.key()?.verifying_key().as_bytes())));
            print(&format!(
                "bind it by POST /fhir/Device/{id}/$bind with {{\"patient\": \"...\", \"key\": \"...\"}}; add \"since\" to send signals from before"
            ));
            return Ok(Exit::Good);
        }
        let Some(signal) = &self.signal else { return Err(BadInput("--signal is missing".to_owned()).into()) };
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(BadInput("--speed is a number above 0".to_owned()).into());
        }
        let mut source = Source::open(signal)?;
        let seconds = match (source.seconds(), self.seconds) {
            (Some(all), Some(some)) => all.min(some),
            (Some(all), None) => all,
            (None, Some(some)) => some,
            (None, None) => return Err(BadInput("these signals never end: say --seconds".to_owned()).into()),
        };
        let mut device = Device::open(&self.device)?;
        let gateway = self.connection.anonymous()?;
        if !device.send_unsent(&gateway).await? {
            return Ok(Exit::No);
        }
        let bar = ProgressBar::new(seconds);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} s of signal, {elapsed}")?);
        let pace = Duration::from_secs_f64(1.0 / self.speed);
        // What is sent faster than life began earlier, and ends now.
        let ahead_ms = (seconds as f64 * 1_000.0 * (1.0 - 1.0 / self.speed)).max(0.0);
        let begin = TimeMs(now().0.saturating_sub(ahead_ms as u64));
        let started = Instant::now();
        let mut sent = 0u64;
        for second in 0..seconds {
            let Some(signals) = source.next_second() else { break };
            tokio::time::sleep_until((started + pace.mul_f64(second as f64)).into()).await;
            if !signals.is_empty() {
                if !device.send(&gateway, begin.plus_ms(second * 1_000), signals).await? {
                    bar.abandon();
                    return Ok(Exit::No);
                }
                sent += 1;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        print(&format!("{sent} frames sent; the device has counted to {}", device.kept.counter));
        Ok(Exit::Good)
    }
}

/// What the device's file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The FHIR id of the Device.
    device: String,
    /// The secret key's seed, hexadecimal.
    seed: String,
    /// The counter of the last frame signed.
    counter: u64,
    /// Its digest.
    previous: Digest,
    /// The last frame signed, hexadecimal, until the gateway has answered.
    unsent: Option<String>,
}

/// A reference device.
struct Device {
    path: PathBuf,
    kept: Kept,
}

impl Device {
    fn make(path: &Path, id: &str) -> anyhow::Result<Self> {
        exchange::device_name(id).map_err(|_| BadInput(format!("`{id}` is no id of a FHIR resource")))?;
        if path.exists() {
            return Err(BadInput(format!("`{}` exists: a device's key is not overwritten", path.display())).into());
        }
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
        let kept =
            Kept { device: id.to_owned(), seed: hex::encode(seed), counter: 0, previous: NO_PREVIOUS, unsent: None };
        let device = Self { path: path.to_owned(), kept };
        device.save()?;
        Ok(device)
    }

    fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).map_err(|e| {
            BadInput(format!("the device's file `{}` cannot be read: {e}; --new makes one", path.display()))
        })?;
        let kept = serde_json::from_slice(&text)
            .map_err(|e| BadInput(format!("the device's file `{}` is wrong: {e}", path.display())))?;
        Ok(Self { path: path.to_owned(), kept })
    }

    fn key(&self) -> anyhow::Result<SigningKey> {
        let seed = hex::decode(&self.kept.seed).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let seed = seed.ok_or_else(|| BadInput(format!("the key in `{}` is not 32 bytes", self.path.display())))?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// Durable, and the owner's alone.
    fn save(&self) -> anyhow::Result<()> {
        let new = self.path.with_extension("new");
        let failed = || format!("cannot write the device's file `{}`", self.path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new).with_context(failed)?;
        file.write_all(&serde_json::to_vec_pretty(&self.kept)?).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&new, &self.path).with_context(failed)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)
    }

    /// Signs and sends a frame. False when the gateway refuses it.
    async fn send(&mut self, gateway: &Client, at: TimeMs, signals: Vec<Signal>) -> anyhow::Result<bool> {
        let name = exchange::device_name(&self.kept.device)
            .map_err(|_| BadInput(format!("the device in `{}` has no id of a FHIR resource", self.path.display())))?;
        let mut sequence = Sequence::resume(name, self.key()?, self.kept.counter, self.kept.previous);
        let frame = sequence.next(at, signals).context("these signals do not fit a frame")?;
        self.kept.counter = frame.counter();
        self.kept.previous = frame.digest();
        self.kept.unsent = Some(hex::encode(frame.bytes()));
        // Before it is sent: no counter may ever stand for two frames, whatever happens on the way.
        self.save()?;
        match self.deliver(gateway, &frame).await? {
            Delivery::Taken => {
                // Known on the disk with the next frame; until then it would only be offered once more.
                self.kept.unsent = None;
                Ok(true)
            }
            Delivery::Known(why) | Delivery::Refused(why) => {
                super::tell(&format!("the gateway refused frame {}: {why}", frame.counter()));
                self.kept.unsent = None;
                self.save()?;
                Ok(false)
            }
        }
    }

    /// Offers the frame again whose answer never came. False when the gateway refuses it.
    async fn send_unsent(&mut self, gateway: &Client) -> anyhow::Result<bool> {
        let Some(unsent) = &self.kept.unsent else { return Ok(true) };
        let bytes = hex::decode(unsent).context("the unsent frame in the device's file is no hexadecimal text")?;
        let frame = Frame::decode(&bytes).context("the unsent frame in the device's file is damaged")?;
        let taken = match self.deliver(gateway, &frame).await? {
            // A counter that is used up is used up by this very frame: it had arrived.
            Delivery::Taken | Delivery::Known(_) => true,
            Delivery::Refused(why) => {
                super::tell(&format!("the gateway refused frame {}: {why}", frame.counter()));
                false
            }
        };
        self.kept.unsent = None;
        self.save()?;
        Ok(taken)
    }

    async fn deliver(&self, gateway: &Client, frame: &Frame) -> anyhow::Result<Delivery> {
        for attempt in 1..=BUSY_ATTEMPTS {
            let answer = gateway.post_bytes("/frames", FRAME, frame.bytes().to_vec()).await?;
            match answer.status.as_u16() {
                200..=299 => return Ok(Delivery::Taken),
                409 => return Ok(Delivery::Known(answer.diagnostics())),
                503 => tokio::time::sleep(BUSY_RETRY * attempt).await,
                400..=499 => return Ok(Delivery::Refused(answer.diagnostics())),
                status => bail!("the gateway answered {status}: {}", answer.diagnostics()),
            }
        }
        bail!("the gateway stays too busy: run the command again, the device goes on where it stopped")
    }
}

/// What a gateway said of a frame.
enum Delivery {
    Taken,
    /// Its counter is used up.
    Known(String),
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_key_and_goes_on_counting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let made = Device::make(&path, "d1").unwrap();
        assert!(Device::make(&path, "d1").is_err(), "a key was overwritten");
        let opened = Device::open(&path).unwrap();
        assert_eq!(opened.key().unwrap().to_bytes(), made.key().unwrap().to_bytes());
        assert_eq!((opened.kept.counter, opened.kept.previous), (0, NO_PREVIOUS));
        assert!(Device::make(&dir.path().join("other.json"), "no/id").is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
