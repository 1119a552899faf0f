//! `vitaltrace prove` and `vitaltrace verify`: evidence files.

use super::{BadInput, Connection, Exit, print, tell};
use crate::{
    client::{Answer, Client},
    config::read_genesis,
};
use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use contract::PublicKey;
use record::{Digest, RecordTag, Role};
use reqwest::StatusCode;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The largest evidence file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long `prove` waits for a record to become final, which an essential one is when two organisations hold it.
const FINAL_WAIT: Duration = Duration::from_secs(60);
/// How often it asks meanwhile.
const FINAL_POLL: Duration = Duration::from_millis(500);

/// Writes a file that anybody can verify: a patient's complete log with its records, signed by every member that answers; or one record alone.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    #[command(flatten)]
    connection: Connection,
    /// The id of the Patient whose log is proven.
    #[arg(long, required_unless_present = "record")]
    patient: Option<String>,
    /// One record, `Type/id`: a small file that proves its current version and nothing else.
    #[arg(long, value_name = "TYPE/ID", conflicts_with_all = ["patient", "from", "to"])]
    record: Option<String>,
    /// For a compliance entity: the id of the open case.
    #[arg(long)]
    case: Option<String>,
    /// Height of a block that the reader knows to be final: the evidence goes through it, or the next one with a certificate of its own.
    #[arg(long)]
    through: Option<u64>,
    /// Only entries in blocks of this height and above; the file shows that they are all in the range.
    #[arg(long)]
    from: Option<u64>,
    /// Only entries in blocks of this height and below.
    #[arg(long)]
    to: Option<u64>,
    /// The file to write.
    #[arg(long, short)]
    output: PathBuf,
}

impl Prove {
    /// Asks the running gateway and writes the file.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(
                BadInput(format!("there are no heights from {from} to {to}: --from must not be above --to")).into()
            );
        }
        let client = match self.case {
            Some(_) => self.connection.operator(Role::Compliance, "HCOMPL")?,
            None => self.connection.operator(Role::Custodian, "HSYSADMIN")?,
        };
        let case = self.case.map(|case| format!("case={case}"));
        let heights = [("through", self.through), ("from", self.from), ("to", self.to)];
        let heights = heights.into_iter().filter_map(|(name, height)| Some(format!("{name}={}", height?)));
        let asked: Vec<String> = case.into_iter().chain(heights).collect();
        let path = match (&self.record, &self.patient) {
            (Some(record), _) => {
                let parts = record.split_once('/').filter(|(rtype, id)| is_plain(rtype) && is_plain(id));
                let (rtype, id) = parts.ok_or_else(|| {
                    BadInput(format!("`{record}` is no record: name it as `Type/id`, such as Observation/42"))
                })?;
                format!("/evidence/record/{rtype}/{id}")
            }
            (None, Some(patient)) => format!("/evidence/{patient}"),
            (None, None) => return Err(BadInput("name a patient or a record".to_owned()).into()),
        };
        let bytes = when_final(&client, &format!("{path}?{}", asked.join("&"))).await?.good()?.bytes;
        std::fs::write(&self.output, &bytes).with_context(|| format!("cannot write `{}`", self.output.display()))?;
        tell(&format!(
            "{} bytes written to {}; check them with `vitaltrace verify`",
            bytes.len(),
            self.output.display()
        ));
        Ok(Exit::Good)
    }
}

/// What the gateway answers, once it no longer says that something has to become final first.
async fn when_final(client: &Client, path: &str) -> anyhow::Result<Answer> {
    let since = Instant::now();
    let mut told = false;
    loop {
        let answer = client.get(path).await?;
        if answer.status != StatusCode::CONFLICT || since.elapsed() >= FINAL_WAIT {
            return Ok(answer);
        }
        if !told {
            tell(&format!("waiting up to {} s: {}", FINAL_WAIT.as_secs(), answer.diagnostics()));
            told = true;
        }
        tokio::time::sleep(FINAL_POLL).await;
    }
}

/// Whether the text can be a FHIR type or id.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

/// Checks an evidence file, the proof of a record, a checkpoint or a blame file with nothing else than the genesis id: no network, no database.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The file.
    file: PathBuf,
    /// The genesis id, as every member can tell it, 64 hexadecimal digits.
    #[arg(long, required_unless_present = "genesis", conflicts_with = "genesis")]
    genesis_id: Option<Digest>,
    /// A genesis document that you trust, instead of its id.
    #[arg(long)]
    genesis: Option<PathBuf>,
    /// A final block that you know, `HEIGHT:DIGEST` as `vitaltrace ledger status` or evidence checked before tells it: evidence that does not go
    /// through it is refused, so that nobody who got hold of retired keys can show another history.
    #[arg(long)]
    checkpoint: Option<evidence::KnownBlock>,
    /// Writes what the members signed in the forms that other programs read, into this folder: a COSE receipt (RFC 9942) for each entry and
    /// member, and the C2SP checkpoint.
    #[arg(long)]
    receipts: Option<PathBuf>,
    /// Of the proof of a record: writes the record as it was written into this file, if the proof holds.
    #[arg(long, value_name = "FILE")]
    extract: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// The count of overrides that nobody reviewed.
    fn unreviewed(&self, bytes: &[u8], id: &record::Digest) -> anyhow::Result<Exit> {
        let limits = evidence::Limits::default();
        match evidence::verify_unreviewed_through(bytes, id, self.checkpoint.as_ref(), &limits) {
            Ok(counted) if self.json => {
                print(&serde_json::to_string_pretty(&serde_json::json!({"verified": true, "report": counted}))?);
                Ok(Exit::Good)
            }
            Ok(counted) => {
                counted.sentences().iter().for_each(|line| print(line));
                Ok(Exit::Good)
            }
            Err(refused) => {
                let why = refused.to_string();
                let refusal = serde_json::json!({"verified": false, "why": why});
                print(&if self.json {
                    serde_json::to_string_pretty(&refusal)?
                } else {
                    format!("NOT verified: {why}")
                });
                Ok(Exit::No)
            }
        }
    }

    /// Reads, verifies, reports.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let id = match (&self.genesis_id, &self.genesis) {
            (Some(id), _) => *id,
            (None, Some(path)) => read_genesis(path)?.id(),
            (None, None) => return Err(BadInput("name a genesis id or a genesis document".into()).into()),
        };
        let size = std::fs::metadata(&self.file)
            .map_err(|e| BadInput(format!("cannot read `{}`: {e}", self.file.display())))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(BadInput(format!("`{}` has more than {FILE_BYTES_MAX} bytes", self.file.display())).into());
        }
        let bytes = std::fs::read(&self.file).with_context(|| format!("cannot read `{}`", self.file.display()))?;
        if evidence::is_blame(&bytes) {
            return self.blame(&bytes, &id);
        }
        if evidence::is_record_proof(&bytes, &evidence::Limits::default()) {
            return self.record(&bytes, &id);
        }
        if evidence::is_unreviewed(&bytes, &evidence::Limits::default()) {
            return self.unreviewed(&bytes, &id);
        }
        if self.extract.is_some() {
            return Err(BadInput("--extract is for the proof of a record, which this file is not".to_owned()).into());
        }
        match evidence::verify_through(&bytes, &id, self.checkpoint.as_ref(), &evidence::Limits::default()) {
            Ok(report) => {
                if self.json {
                    print(&serde_json::to_string_pretty(&serde_json::json!({"verified": true, "report": report}))?);
                } else {
                    print_report(&report);
                }
                if let Some(folder) = &self.receipts {
                    write_receipts(&bytes, folder)?;
                }
                Ok(Exit::Good)
            }
            Err(refused) => {
                if self.json {
                    print(&serde_json::to_string_pretty(
                        &serde_json::json!({"verified": false, "why": refused.to_string()}),
                    )?);
                } else {
                    print(&format!("NOT verified: {refused}"));
                }
                Ok(Exit::No)
            }
        }
    }
}

impl Verify {
    fn blame(&self, bytes: &[u8], id: &Digest) -> anyhow::Result<Exit> {
        let blamed = evidence::verify_blame(bytes, id);
        let (document, line) = match &blamed {
            Ok(blamed) => (
                serde_json::json!({"verified": true, "blamed": blamed, "says": blamed.sentence()}),
                format!("verified: {}", blamed.sentence()),
            ),
            Err(refused) => {
                (serde_json::json!({"verified": false, "why": refused.to_string()}), format!("NOT verified: {refused}"))
            }
        };
        print(&if self.json { serde_json::to_string_pretty(&document)? } else { line });
        Ok(if blamed.is_ok() { Exit::Good } else { Exit::No })
    }
}

impl Verify {
    fn record(&self, bytes: &[u8], id: &Digest) -> anyhow::Result<Exit> {
        if self.receipts.is_some() {
            return Err(BadInput("the proof of a record has no receipts: its patient's evidence has".to_owned()).into());
        }
        let limits = evidence::Limits::default();
        let record = match evidence::verify_record_through(bytes, id, self.checkpoint.as_ref(), &limits) {
            Ok(record) => record,
            Err(refused) => {
                let document = serde_json::json!({"verified": false, "why": refused.to_string()});
                print(&if self.json {
                    serde_json::to_string_pretty(&document)?
                } else {
                    format!("NOT verified: {refused}")
                });
                return Ok(Exit::No);
            }
        };
        let (proven, not_proven) = (record.proven(), record.not_proven());
        if self.json {
            let document = serde_json::json!({
                "verified": true, "record": record, "proven": proven, "not_proven": not_proven
            });
            print(&serde_json::to_string_pretty(&document)?);
        } else {
            let name = record.name.as_deref().unwrap_or("nothing");
            print(&format!(
                "verified: version {} of a record that calls itself {name}, current at height {}",
                record.version, record.height
            ));
            print("checked from this file and the genesis id alone: no network, no database, nobody's word");
            print_sentences(&proven, &not_proven);
        }
        if let Some(path) = &self.extract {
            let bytes = evidence::RecordProof::record(bytes, &limits)?;
            fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(Exit::Good)
    }
}

fn print_sentences(proven: &[String], not_proven: &[String]) {
    print("proven:");
    proven.iter().for_each(|sentence| print(&format!("  - {sentence}")));
    print("NOT proven:");
    not_proven.iter().for_each(|sentence| print(&format!("  - {sentence}")));
}

/// What an ed25519 key begins with in the form that PEM files have. Source: RFC 8410.
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Takes receipts and checkpoint out of a bundle that was verified: `ENTRY-MEMBER.cose`, the statement that it is for as `ENTRY.leaf`, the key
/// as `MEMBER.pem`, and `checkpoint.txt`.
fn write_receipts(bundle: &[u8], folder: &Path) -> anyhow::Result<()> {
    let bundle = evidence::Bundle::from_bytes(bundle, &evidence::Limits::default())?;
    let (receipts, note) = evidence::receipts(&bundle);
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
    };
    let mut keys: BTreeMap<String, PublicKey> = BTreeMap::new();
    for receipt in &receipts {
        write(format!("{}-{}.cose", receipt.entry, receipt.org), &receipt.bytes)?;
        write(format!("{}.leaf", receipt.entry), &receipt.leaf)?;
        keys.insert(receipt.org.to_string(), receipt.key);
    }
    for (org, key) in keys {
        let encoded = STANDARD.encode([&SPKI_ED25519[..], key.as_bytes()].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n");
        write(format!("{org}.pem"), pem.as_bytes())?;
    }
    if let Some(note) = &note {
        write("checkpoint.txt".to_owned(), note.as_bytes())?;
    }
    let checkpoint = if note.is_some() { "a checkpoint" } else { "no checkpoint, as no member signed one" };
    tell(&format!("{} receipts and {checkpoint} written to {}", receipts.len(), folder.display()));
    Ok(())
}

/// The report for people: what is proven, what is not, and each record's history in a line.
fn print_report(report: &evidence::Report) {
    print(&format!(
        "verified: {} at height {} ({}), signed by {} of {} validators",
        report.consortium,
        report.height,
        report.time.to_instant(),
        report.signers,
        report.validators
    ));
    print("checked from this file and the genesis id alone: no network, no database, nobody's word");
    print(&format!(
        "{} entries, {} versions of records opened, {} not opened",
        report.entry_count, report.opened, report.unopened
    ));
    for (kind, count) in &report.by_kind {
        print(&format!("  {kind}: {count}"));
    }
    let current: BTreeMap<RecordTag, Option<u64>> =
        report.current.iter().map(|current| (current.tag, current.version)).collect();
    for record in report.records.iter().filter(|record| record.name.is_some()) {
        let last = record.versions.last();
        let by = last
            .map(|version| format!("{} at {}", version.organisation, version.time.to_instant()))
            .unwrap_or_default();
        let versions = if record.versions.len() == 1 { "version" } else { "versions" };
        let is_current = last.is_some_and(|last| current.get(&record.tag) == Some(&Some(last.version)));
        print(&format!(
            "  {} {versions} of {}, last by {by}{}",
            record.versions.len(),
            record.name.as_deref().unwrap_or_default(),
            if is_current { ", which is the current one" } else { "" }
        ));
    }
    print_sentences(&report.proven, &report.not_proven);
}
