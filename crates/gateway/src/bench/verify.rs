//! `vitaltrace bench verify`: four organisations write a patient's records by the usual path, one makes evidence of them, and this process
//! checks it again and again, the whole file and the current version of one record alone.

use crate::{
    client::Client,
    command::{Exit, print, tell},
    demo::consortium::Consortium,
};
use anyhow::{Context, ensure};
use clap::Args;
use evidence::{Bundle, CurrentValue, Limits, RecordProof, Report};
use record::{Digest, Role};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const ORGANISATION: &str = "mercy-hospital";
/// Each record that is written makes two entries: its own, and that somebody wrote it.
const ENTRIES_OF_A_RECORD: u64 = 2;
/// How long the ledger may take to make everything final.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures how long evidence takes to check, and how large it is.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Entries of the evidence, at least.
    #[arg(long, default_value_t = 1_000)]
    entries: u64,
    /// How often each is checked.
    #[arg(long, default_value_t = 100)]
    times: u32,
    /// Where the members' folders are made; a temporary folder when not said.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Seen {
    entries: u64,
    /// Size of the evidence file.
    bytes: u64,
    bytes_per_entry: f64,
    /// How long the node took to make it, with the other members' signatures.
    prove_ms: f64,
    verify_ms_p50: f64,
    verify_ms_max: f64,
    /// Size of the proof of one record alone.
    record_bytes: u64,
    record_ms_p50: f64,
    record_ms_max: f64,
    /// Members that signed the log.
    witnesses: u64,
    times: u32,
}

impl Verify {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("vitaltrace-bench-").tempdir_in(parent)?;
        let mut consortium = Consortium::found(folder.path())?;
        consortium.add_user(ORGANISATION, "doctor", Role::Doctor, None)?;
        consortium.add_user(ORGANISATION, "custodian", Role::Custodian, None)?;
        consortium.start_all().await?;
        let doctor = consortium.login(ORGANISATION, "doctor").await?.for_purpose("TREAT");
        tell(&format!("{} entries: writing the records", self.entries));
        let patient = write(&doctor, self.entries).await?;
        settle(&doctor).await?;
        let custodian = consortium.login(ORGANISATION, "custodian").await?.for_purpose("HSYSADMIN");
        let started = Instant::now();
        let file = custodian.get(&format!("/evidence/{patient}")).await?.good()?.bytes;
        let prove_ms = milliseconds(started);
        let genesis = crate::config::read_genesis(&consortium.folder.join(crate::config::GENESIS_FILE))?.id();
        // Nothing else shall take processor time while it is measured.
        consortium.stop_all();
        let seen = self.measure(&file, &genesis, prove_ms)?;
        if self.json {
            print(&serde_json::to_string_pretty(&seen)?);
        } else {
            print(&format!(
                "{} entries, {} bytes, {:.0} an entry: made in {:.0} ms, verified in {:.1} ms (at most {:.1}); one record alone, {} bytes: {:.2} ms (at most {:.2}); {} members signed",
                seen.entries,
                seen.bytes,
                seen.bytes_per_entry,
                seen.prove_ms,
                seen.verify_ms_p50,
                seen.verify_ms_max,
                seen.record_bytes,
                seen.record_ms_p50,
                seen.record_ms_max,
                seen.witnesses
            ));
        }
        Ok(Exit::Good)
    }

    fn measure(&self, file: &[u8], genesis: &Digest, prove_ms: f64) -> anyhow::Result<Seen> {
        let limits = Limits::default();
        let report = evidence::verify(file, genesis, &limits).context("the evidence does not verify")?;
        ensure!(report.complete && report.entry_count >= self.entries, "the evidence is not what was asked for");
        let record = record_proof(file, &report).context("the evidence shows no current version of a record")?;
        evidence::verify_record(&record, genesis, &limits).context("the proof of a record does not verify")?;
        let whole = timed(self.times, || evidence::verify(file, genesis, &limits).is_ok());
        let light = timed(self.times, || evidence::verify_record(&record, genesis, &limits).is_ok());
        let (whole, light) = whole.zip(light).context("nothing was measured")?;
        Ok(Seen {
            entries: report.entry_count,
            bytes: file.len() as u64,
            bytes_per_entry: file.len() as f64 / report.entry_count as f64,
            prove_ms,
            verify_ms_p50: whole.0,
            verify_ms_max: whole.1,
            record_bytes: record.len() as u64,
            record_ms_p50: light.0,
            record_ms_max: light.1,
            witnesses: report.witnesses.iter().filter(|witness| witness.cosigned.is_some()).count() as u64,
            times: self.times,
        })
    }
}

/// Enrols a patient and writes observations, until there are so many entries. Gives the id of the Patient.
async fn write(doctor: &Client, entries: u64) -> anyhow::Result<String> {
    let name = json!([{"family": "Measured", "given": ["Made Up"]}]);
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": name})).await?.id()?;
    let observation = |value: u64| {
        json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        })
    };
    for value in 0..entries.div_ceil(ENTRIES_OF_A_RECORD).saturating_sub(1) {
        doctor.create(&observation(60 + value % 40)).await?;
    }
    Ok(patient)
}

/// Waits until everything is final.
async fn settle(client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status: Value = client.get("/ledger/status").await?.good()?.json()?;
        if status["pending"] == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the records do not become final");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a bundle that was verified says of one record whose current version it opens, as the proof of that record alone.
fn record_proof(file: &[u8], report: &Report) -> Option<Vec<u8>> {
    let bundle = Bundle::from_bytes(file, &Limits::default()).ok()?;
    bundle.current().iter().find_map(|current| {
        let CurrentValue::Present { head } = &current.value else { return None };
        let shown = report.current.iter().find(|shown| shown.tag == current.tag)?;
        let (name, version) = (shown.name.as_ref()?, shown.version?);
        let opened = bundle.opened().iter().find(|opened| opened.record == *name && opened.version == version)?;
        let (finality, salt, bytes) = (bundle.finality().clone(), opened.salt, opened.bytes.clone());
        Some(RecordProof::new(finality, current.tag, head.clone(), salt, bytes).to_bytes())
    })
}

/// Median and longest time that a check took, in milliseconds. None when there was none, or one said no.
fn timed(times: u32, check: impl Fn() -> bool) -> Option<(f64, f64)> {
    let mut took = Vec::with_capacity(times as usize);
    for _ in 0..times {
        let started = Instant::now();
        if !std::hint::black_box(check()) {
            return None;
        }
        took.push(milliseconds(started));
    }
    took.sort_by(f64::total_cmp);
    Some((*took.get(took.len() / 2)?, *took.last()?))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_measured_of_what_says_no() {
        assert_eq!(timed(3, || false), None);
        assert_eq!(timed(0, || true), None);
        assert!(timed(3, || true).is_some());
    }
}
