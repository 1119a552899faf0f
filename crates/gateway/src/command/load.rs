//! `vitaltrace load`: FHIR bundles and resources into a running gateway, hospitals and practitioners first.
//!
//! A load that was interrupted goes on where it was: a file of progress says what is loaded, and of the one piece that was under way the
//! gateway's audit trail.

mod progress;

use super::{Connection, Exit, print};
use crate::client::Client;
use anyhow::{Context, bail};
use clap::Args;
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use progress::{Piece, Progress};
use record::Role;
use reqwest::StatusCode;
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The largest file that is loaded, unpacked, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A token lives for minutes and a load may take longer: an older one is replaced.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(30);
/// A request whose connection broke may be carried out a moment later still: how often it is looked for, and how long between.
const LOOKS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Loads FHIR bundles, resources and NDJSON, plain or gzipped, into a running gateway. Resources that have an id keep it. After an
/// interruption the same command goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    connection: Connection,
    /// Where it is written down what is loaded; `load.progress` beside the configuration when not said. It is gone when everything is.
    #[arg(long)]
    progress: Option<PathBuf>,
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Load {
    /// Sends file by file, with progress, and stops at the first that is refused.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let files = files(&self.paths)?;
        let bar = ProgressBar::new(files.len() as u64);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {elapsed}, about {eta} left")?);
        let progress = self.progress.clone().map_or_else(|| self.connection.beside("load.progress"), Ok)?;
        let mut progress = Progress::open(&progress)?;
        let (mut total, mut before) = (Loaded::default(), 0);
        let (mut client, mut since) = (self.connection.operator(Role::Custodian, "HSYSADMIN")?, Instant::now());
        for file in &files {
            for piece in pieces(file)? {
                let state = progress.of(&piece);
                if state == Piece::Loaded
                    || (state == Piece::UnderWay && self.was_carried_out(&progress, &piece).await?)
                {
                    progress.loaded(&piece)?;
                    before += 1;
                    continue;
                }
                progress.under_way(&piece)?;
                if since.elapsed() >= TOKEN_AGE_MAX {
                    (client, since) = (self.connection.operator(Role::Custodian, "HSYSADMIN")?, Instant::now());
                }
                let client = client.for_request(&progress.request(&piece));
                total.add(send_one(&client, &piece.bytes).await.with_context(|| piece.place.clone())?);
                progress.loaded(&piece)?;
            }
            total.files += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        progress.end()?;
        let resumed =
            if before > 0 { format!("; {before} were loaded before the interruption") } else { String::new() };
        print(&format!(
            "{} files, {} entries, {} of them there already{resumed}",
            total.files, total.entries, total.existing
        ));
        Ok(Exit::Good)
    }

    /// Whether the gateway carried out the request that was under way when the load was interrupted: then the audit trail has it, as it is
    /// written with the records or not at all.
    async fn was_carried_out(&self, progress: &Progress, piece: &progress::Part) -> anyhow::Result<bool> {
        let officer = self.connection.operator(Role::PrivacyOfficer, "HOPERAT")?;
        let query = format!("/fhir/AuditEvent?entity:identifier={}&_count=1", progress.request(piece));
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let found = officer.get(&query).await?.good()?.json()?;
            if found["entry"].as_array().is_some_and(|entries| !entries.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a load did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Files sent.
    pub(crate) files: u64,
    /// Entries that the gateway stored or found already there.
    pub(crate) entries: u64,
    /// Of these, found already there by their condition or their id.
    pub(crate) existing: u64,
}

impl Loaded {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.entries += other.entries;
        self.existing += other.existing;
    }
}

/// The files below `paths` in loading order: those whose name says hospital, then practitioner, then the others by name.
pub(crate) fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let listing = fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
            for entry in listing {
                found.push(entry?.path());
            }
        } else {
            found.push(path.clone());
        }
    }
    found.retain(|path| {
        let name = path.to_string_lossy();
        [".json", ".json.gz", ".ndjson", ".ndjson.gz"].iter().any(|ending| name.ends_with(ending))
    });
    found.sort_by_cached_key(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        let rank = if name.contains("hospitalinformation") {
            0
        } else if name.contains("practitionerinformation") {
            1
        } else {
            2
        };
        (rank, name)
    });
    if found.is_empty() {
        bail!("no .json, .json.gz, .ndjson or .ndjson.gz file found");
    }
    Ok(found)
}

/// The text of a plain or gzipped file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX + 1;
    if path.extension().is_some_and(|ending| ending == "gz") {
        GzDecoder::new(file).take(limit).read_to_end(&mut bytes)
    } else {
        file.take(limit).read_to_end(&mut bytes)
    }
    .with_context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("`{}` has more than {FILE_BYTES_MAX} bytes: split it", path.display());
    }
    Ok(bytes)
}

/// What is sent of a file, each by a request of its own: its lines if it is NDJSON, else the whole.
fn pieces(path: &Path) -> anyhow::Result<Vec<progress::Part>> {
    let bytes = read(path)?;
    let place = format!("`{}`", path.display());
    if !path.to_string_lossy().contains(".ndjson") {
        return Ok(vec![progress::Part::new(place, bytes)]);
    }
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    Ok(lines.map(|(number, line)| progress::Part::new(format!("{place} line {}", number + 1), line.to_vec())).collect())
}

/// Sends one file: a batch or transaction Bundle as it is, any other resource by itself, NDJSON line by line.
pub(crate) async fn send(client: &Client, path: &Path) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded { files: 1, ..Loaded::default() };
    for piece in pieces(path)? {
        loaded.add(send_one(client, &piece.bytes).await.with_context(|| piece.place.clone())?);
    }
    Ok(loaded)
}

async fn send_one(client: &Client, bytes: &[u8]) -> anyhow::Result<Loaded> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(rename = "resourceType")]
        resource_type: String,
        #[serde(rename = "type")]
        kind: Option<Value>,
        id: Option<String>,
    }
    const JSON: &str = "application/fhir+json";
    let head: Head = serde_json::from_slice(bytes).context("no FHIR resource")?;
    let bytes = bytes.to_vec();
    let is_batch = head.resource_type == "Bundle"
        && head.kind.as_ref().and_then(Value::as_str).is_some_and(|kind| kind == "batch" || kind == "transaction");
    if !is_batch {
        let path = format!("/fhir/{}", head.resource_type);
        let answer = match head.id {
            // What others refer to it by.
            Some(id) => client.put_bytes(&format!("{path}/{id}"), JSON, bytes).await?.good()?,
            None => client.post_bytes(&path, JSON, bytes).await?.good()?,
        };
        return Ok(Loaded { files: 0, entries: 1, existing: u64::from(answer.status == StatusCode::OK) });
    }
    let answer = client.post_bytes("/fhir", JSON, bytes).await?.good()?.json()?;
    let mut loaded = Loaded::default();
    for (index, entry) in answer["entry"].as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        let status = entry["response"]["status"].as_str().unwrap_or("");
        match status.get(..3) {
            Some("201") => loaded.entries += 1,
            Some("200") => {
                loaded.entries += 1;
                loaded.existing += 1;
            }
            _ => {
                let why = entry["response"]["outcome"]["issue"][0]["diagnostics"].as_str().unwrap_or("no reason given");
                bail!("entry {index} was answered `{status}`: {why}");
            }
        }
    }
    Ok(loaded)
}
