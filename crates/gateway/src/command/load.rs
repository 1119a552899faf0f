//! `vitaltrace load`: FHIR bundles and resources into a running gateway, hospitals and practitioners first.

use super::{Connection, Exit, print};
use crate::client::Client;
use anyhow::{Context, bail};
use clap::Args;
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use record::Role;
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// The largest file that is loaded, unpacked, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Loads FHIR bundles, resources and NDJSON, plain or gzipped, into a running gateway.
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    connection: Connection,
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
        let mut total = Loaded::default();
        for file in &files {
            // A token lives for minutes and a load may take longer: each file gets a fresh one.
            let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
            let loaded = send(&client, file).await?;
            total.files += loaded.files;
            total.entries += loaded.entries;
            total.existing += loaded.existing;
            bar.inc(1);
        }
        bar.finish_and_clear();
        print(&format!("{} files, {} entries, {} of them there already", total.files, total.entries, total.existing));
        Ok(Exit::Good)
    }
}

/// What a load did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Files sent.
    pub(crate) files: u64,
    /// Entries that the gateway stored or found already there.
    pub(crate) entries: u64,
    /// Of these, found already there by their condition.
    pub(crate) existing: u64,
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

/// Sends one file: a batch or transaction Bundle as it is, any other resource by create, NDJSON line by line.
pub(crate) async fn send(client: &Client, path: &Path) -> anyhow::Result<Loaded> {
    let bytes = read(path)?;
    let mut loaded = Loaded { files: 1, ..Loaded::default() };
    if path.to_string_lossy().contains(".ndjson") {
        for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
            if !line.iter().all(u8::is_ascii_whitespace) {
                let one = send_one(client, line.to_vec()).await;
                let one = one.with_context(|| format!("`{}` line {}", path.display(), number + 1))?;
                loaded.entries += one.entries;
                loaded.existing += one.existing;
            }
        }
        return Ok(loaded);
    }
    let one = send_one(client, bytes).await.with_context(|| format!("`{}`", path.display()))?;
    Ok(Loaded { files: 1, ..one })
}

async fn send_one(client: &Client, bytes: Vec<u8>) -> anyhow::Result<Loaded> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(rename = "resourceType")]
        resource_type: String,
        #[serde(rename = "type")]
        kind: Option<Value>,
    }
    let head: Head = serde_json::from_slice(&bytes).context("no FHIR resource")?;
    let is_batch = head.resource_type == "Bundle"
        && head.kind.as_ref().and_then(Value::as_str).is_some_and(|kind| kind == "batch" || kind == "transaction");
    if !is_batch {
        client.post_bytes(&format!("/fhir/{}", head.resource_type), "application/fhir+json", bytes).await?.good()?;
        return Ok(Loaded { files: 0, entries: 1, existing: 0 });
    }
    let answer = client.post_bytes("/fhir", "application/fhir+json", bytes).await?.good()?.json()?;
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
