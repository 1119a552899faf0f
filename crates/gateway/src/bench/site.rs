//! Where loads of sensing are measured: four organisations on this machine, and patients with sensors at one of them.

use crate::{
    client::Client,
    command::{BadInput, tell},
    config::AddressParser,
    demo::consortium::Consortium,
    http::SEQUENCE,
};
use anyhow::{Context, ensure};
use clap::Args;
use exchange::{Part, clock::now};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use record::{Role, TimeMs};
use sensing::{Sequence, SigningKey};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const ORGANISATION: &str = "mercy-hospital";
/// Sensors of one patient in the emergency department.
pub(super) const SENSORS: usize = 7;
/// Devices that are made and bound side by side.
const BOUND_AT_ONCE: usize = 8;
/// How long the ledger may take to make everything final.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);

/// Where the members' folders and their database are.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The address of an empty database of a PostgreSQL server; an SQLite file when not said.
    #[arg(long, value_parser = AddressParser)]
    pub(super) database: Option<store::Address>,
    /// Where the members' folders are made; a temporary folder when not said.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Place {
    /// What the database is called.
    pub(super) fn backend(&self) -> &'static str {
        if self.database.is_some() { "postgresql" } else { "sqlite" }
    }

    /// A folder for the members', which goes when it is dropped.
    pub(super) fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(tempfile::Builder::new().prefix("vitaltrace-bench-").tempdir_in(parent)?)
    }

    /// Founds four organisations there, without some parts of custody.
    pub(super) fn found(&self, folder: &Path, without: &[Part]) -> anyhow::Result<Consortium> {
        match &self.database {
            Some(file @ store::Address::File(_)) => Err(BadInput(format!("`{file}` is no address of a server")).into()),
            address => Consortium::found_measured(folder, address.clone(), without),
        }
    }
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A device of the load: its sequence.
pub(super) struct Device {
    pub(super) id: String,
    pub(super) sequence: Sequence,
}

/// A key that nobody had before.
pub(super) fn key() -> anyhow::Result<SigningKey> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Four organisations, and patients at one of them.
pub(super) struct Site {
    pub(super) consortium: Consortium,
    pub(super) doctor: Client,
    door: Client,
    pub(super) patients: Vec<String>,
    // The last to go: everything is in it.
    _folder: tempfile::TempDir,
}

impl Site {
    /// Founds them in a folder below `parent`, or in a temporary one, and enrols patients.
    pub(super) async fn start(place: &Place, patients: usize) -> anyhow::Result<Self> {
        let folder = place.folder()?;
        let mut consortium = place.found(folder.path(), &[])?;
        consortium.add_user(ORGANISATION, "doctor", Role::Doctor, None)?;
        tell("starting four organisations");
        consortium.start_all().await?;
        let doctor = consortium.login(ORGANISATION, "doctor").await?;
        let door = Client::with_token(&consortium.node(ORGANISATION)?.base, String::new())?;
        let mut site = Self { consortium, doctor, door, patients: Vec::new(), _folder: folder };
        tell(&format!("enrolling {patients} patient(s)"));
        let made = stream::iter(0..patients).map(|_| async {
            let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}], "birthDate": "1970-01-01"});
            site.doctor.create(&person).await?.id()
        });
        let made: Vec<String> = made.buffered(BOUND_AT_ONCE).try_collect().await?;
        site.patients = made;
        site.settle().await?;
        Ok(site)
    }

    /// Makes devices and binds them, so many to each patient in turn.
    pub(super) async fn devices(&self, count: usize, each: usize) -> anyhow::Result<Vec<Device>> {
        tell(&format!("binding {count} devices"));
        let made = stream::iter(0..count).map(|number| async move {
            let key = key()?;
            let id = self.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await?.id()?;
            let patient = &self.patients[number / each % self.patients.len()];
            let bind = json!({
                "patient": patient, "key": hex::encode(key.verifying_key().as_bytes()),
                "since": TimeMs(now().0.saturating_sub(20 * 60_000)).to_instant()
            });
            self.doctor.post(&format!("/fhir/Device/{id}/$bind"), &bind).await?.good()?;
            let name = exchange::device_name(&id).context("a device has a name")?;
            Ok::<_, anyhow::Error>(Device { id, sequence: Sequence::new(name, key) })
        });
        let made = made.buffered(BOUND_AT_ONCE).try_collect().await?;
        self.settle().await?;
        Ok(made)
    }

    /// Sends frames in one request, all of which must be taken; how long that took, in milliseconds.
    pub(super) async fn send(&self, frames: Vec<Vec<u8>>) -> anyhow::Result<f32> {
        let (begin, count) = (Instant::now(), frames.len());
        let answer = self.door.post_bytes("/frames", SEQUENCE, frames.concat()).await?.good()?.json()?;
        let took_ms = begin.elapsed().as_secs_f32() * 1_000.0;
        let answers = answer["answers"].as_array().context("the gateway's answer has no answers")?;
        let refused = answers.iter().find(|answer| answer["status"] != 201);
        ensure!(answers.len() == count && refused.is_none(), "a frame was not taken: {refused:?}");
        Ok(took_ms)
    }

    /// Waits until everything is final.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        for node in &self.consortium.nodes {
            let client = Client::with_token(&node.base, String::new())?;
            while client.get("/ledger/status").await?.good()?.json()?["pending"].as_u64() != Some(0) {
                ensure!(Instant::now() < until, "the ledger takes too long to make everything final");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The most memory that the gateway's process has taken, in MiB.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let process = self.consortium.node(ORGANISATION)?.process().context("the gateway does not run")?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM in /proc is no number")?;
        Ok(kib / 1_024)
    }
}
