//! `vitaltrace bench ledger`: four members as four processes, an open-loop load, and the time from each entry's scheduled moment to its
//! finality.

use super::member::Measured;
use crate::{
    command::{Exit, print, tell},
    demo::consortium::{Consortium, ORGANISATIONS},
};
use anyhow::{Context, bail};
use clap::Args;
use record::OrgRole;
use serde::Serialize;
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long a member may take beyond the run itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures the ledger: four processes on this machine, which share its cores and its disk with the load.
#[derive(Debug, Args)]
pub(crate) struct Ledger {
    /// Entries offered in a second, one run for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 20_000])]
    rates: Vec<u32>,
    /// How long each run offers them.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Patients that the entries are about.
    #[arg(long, default_value_t = 10_000)]
    patients: usize,
    /// Everything random is drawn from it, but keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the members' folders are made; a temporary folder when not said.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What one run showed.
#[derive(Debug, Serialize)]
struct Run {
    offered_per_s: f64,
    finalised_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all four processes together.
    cpu_us_per_entry: f64,
    /// Of one validator, on the average.
    disk_bytes_per_entry: f64,
    entries: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Runs {
    runs: Vec<Run>,
}

impl Ledger {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let mut runs = Vec::new();
        for rate in &self.rates {
            tell(&format!("{rate} entries a second for {} s: deriving them", self.seconds));
            let run = self.measure(*rate).await?;
            if !self.json {
                print(&format!(
                    "offered {:.0}/s, final {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {:.0} us of processor and {:.0} bytes of disk an entry; {} refused",
                    run.offered_per_s,
                    run.finalised_per_s,
                    run.p50_ms,
                    run.p99_ms,
                    run.cpu_us_per_entry,
                    run.disk_bytes_per_entry,
                    run.refused
                ));
            }
            runs.push(run);
        }
        if self.json {
            print(&serde_json::to_string_pretty(&Runs { runs })?);
        }
        Ok(Exit::Good)
    }

    async fn measure(&self, rate: u32) -> anyhow::Result<Run> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("vitaltrace-bench-").tempdir_in(parent)?;
        let consortium = Consortium::found(folder.path())?;
        // Those who care for patients bring entries, the others vote.
        let providers: Vec<bool> =
            ORGANISATIONS.iter().map(|(_, role)| matches!(role, OrgRole::Ems | OrgRole::Hospital)).collect();
        let sources = providers.iter().filter(|provider| **provider).count() as u32;
        let mut members = Vec::new();
        for (seed, (node, provider)) in (self.seed..).zip(consortium.nodes.iter().zip(&providers)) {
            let rate = if *provider { rate / sources } else { 0 };
            let patients = self.patients / sources as usize;
            members.push(Process::start(&node.dir, &[rate.into(), self.seconds.into(), patients as u64, seed])?);
        }
        for member in &mut members {
            if member.line(PATIENCE).await? != "ready" {
                bail!("a member did not get ready");
            }
        }
        for member in &mut members {
            member.stdin.write_all(b"begin\n").await?;
        }
        let mut all = Vec::new();
        for member in &mut members {
            let line = member.line(PATIENCE + Duration::from_secs(self.seconds.into())).await?;
            all.push(serde_json::from_str::<Measured>(&line)?);
        }
        for member in members {
            member.end().await?;
        }
        summary(rate / sources * sources, &all).context("nothing became final")
    }
}

fn summary(offered: u32, all: &[Measured]) -> Option<Run> {
    let mut latencies: Vec<f32> = all.iter().flat_map(|one| one.latencies_ms.iter().copied()).collect();
    latencies.sort_by(f32::total_cmp);
    let last = latencies.len().checked_sub(1)?;
    let at = |share: f64| latencies.get((last as f64 * share).ceil() as usize).copied().map(f64::from);
    let sum = |of: fn(&Measured) -> u64| all.iter().map(of).sum::<u64>();
    let entries = sum(|one| one.finalised);
    let took_s = all.iter().map(|one| one.took_s).fold(0.0, f64::max);
    Some(Run {
        offered_per_s: offered.into(),
        finalised_per_s: entries as f64 / took_s,
        p50_ms: at(0.5)?,
        p99_ms: at(0.99)?,
        cpu_us_per_entry: sum(|one| one.cpu_us) as f64 / entries as f64,
        disk_bytes_per_entry: sum(|one| one.disk_bytes) as f64 / all.len() as f64 / entries as f64,
        entries,
        refused: entries - sum(|one| one.applied),
    })
}

/// A member's process. Killed when it is dropped.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(dir: &std::path::Path, numbers: &[u64; 4]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("cannot find the program itself")?);
        command.args(["bench", "member", "--config"]).arg(dir);
        for (name, number) in ["--rate", "--seconds", "--patients", "--seed"].iter().zip(numbers) {
            command.arg(name).arg(number.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start a member")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).context("a member has no pipes")?;
        Ok(Self { child, stdin, lines: BufReader::new(stdout).lines() })
    }

    async fn line(&mut self, at_most: Duration) -> anyhow::Result<String> {
        let line = tokio::time::timeout(at_most, self.lines.next_line()).await.context("a member takes too long")??;
        line.context("a member ended early")
    }

    async fn end(self) -> anyhow::Result<()> {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        // One that does not end is killed when it is dropped.
        if let Ok(status) = ended {
            status?;
        }
        Ok(())
    }
}
