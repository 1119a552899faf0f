//! One member of a measured consortium: a ledger node in a process of its own, and what its gateway would bring to it.
//!
//! It says `ready` when its entries are derived, waits for `begin`, and prints its [`Measured`] as one line of JSON when its last entry is
//! final. It votes until its standard input is closed.

use super::workload::Workload;
use crate::{command::Exit, config::Config};
use anyhow::{Context, bail};
use clap::Args;
use contract::{Entry, Reject, Submission};
use ed25519_dalek::SigningKey;
use exchange::{clock::now, keys::OrgKeys};
use ledger::{Accepted, Handle, SubmitError};
use record::{Digest, OrgId};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Entries that a gateway signs together at most.
const ENTRIES_TOGETHER: usize = 64;
/// How long a gateway gathers entries before it signs them: as long as its group commit takes, which is longer when the group is larger.
const GATHER: Duration = Duration::from_millis(2);
const GATHER_MAX: Duration = Duration::from_millis(6);
/// So many entries make a larger group.
const MANY: u64 = 8;
/// How long members that reach each other may take to have heard each other, before anything is measured.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the first entries of all logs may take to be final, and the members to reach each other.
const PATIENCE: Duration = Duration::from_secs(120);
/// Clock ticks of `/proc/self/stat` in a second, on every Linux that Rust runs on.
const TICKS_PER_S: u64 = 100;

/// Runs one member.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// The organisation's folder.
    #[arg(long)]
    config: PathBuf,
    /// Entries it brings in a second; none when it only votes.
    #[arg(long)]
    rate: u32,
    /// For so many seconds.
    #[arg(long)]
    seconds: u32,
    /// Patients of its own.
    #[arg(long)]
    patients: usize,
    /// Everything random is drawn from it.
    #[arg(long)]
    seed: u64,
}

/// What a member saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Its entries that became final, and how many of them were applied.
    pub(super) finalised: u64,
    pub(super) applied: u64,
    /// From the scheduled time of an entry to its finality here, in milliseconds: one for each entry.
    pub(super) latencies_ms: Vec<f32>,
    /// From the first scheduled time to the last finality, in seconds.
    pub(super) took_s: f64,
    /// Processor time of the process meanwhile, in microseconds; signing included.
    pub(super) cpu_us: u64,
    /// Bytes that the ledger's folder grew by.
    pub(super) disk_bytes: u64,
}

impl Member {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = Config::load(&self.config)?;
        let keys = OrgKeys::load(&config.keys)?;
        let genesis = config.genesis()?;
        let chain = genesis.id();
        let folder = config.ledger_folder();
        fs::create_dir_all(&folder)?;
        let consensus_key = keys.consensus.to_bytes().into();
        let mut settings =
            ledger::Config::new(genesis.clone(), config.org.clone(), consensus_key, config.ledger, &folder);
        settings.entry_key = Some(keys.entry.clone().into());
        let handle = tokio::task::spawn_blocking(move || ledger::run_tokio(settings)).await??;
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut gateway = Gateway { handle, chain, org: config.org.clone(), key: keys.entry.clone(), next: 1 };

        let mut measured = Measured::default();
        let count = self.rate as usize * self.seconds as usize;
        let mut work = Workload::new(&genesis, config.org, self.patients.max(1), self.seed, now())?;
        if count > 0 {
            gateway.begin_logs(work.beginnings()?).await?;
        }
        let entries = (0..count).map(|_| work.next()).collect::<anyhow::Result<Vec<Entry>>>()?;
        gateway.connected(genesis.members.len().saturating_sub(1)).await?;
        say("ready")?;
        if lines.next_line().await?.as_deref() != Some("begin") {
            return Ok(Exit::Good);
        }
        let (disk, cpu) = (gateway.handle.disk_use()?.total_bytes(), cpu_ticks()?);
        if count > 0 {
            measured = gateway.bring(entries, self.rate).await?;
        } else {
            tokio::time::sleep(Duration::from_secs(self.seconds.into())).await;
        }
        measured.cpu_us = (cpu_ticks()? - cpu) * (1_000_000 / TICKS_PER_S);
        measured.disk_bytes = gateway.handle.disk_use()?.total_bytes().saturating_sub(disk);
        say(&serde_json::to_string(&measured)?)?;
        // The others may still need this vote.
        while lines.next_line().await?.is_some() {}
        gateway.handle.stop().await;
        Ok(Exit::Good)
    }
}

/// The part of a gateway that numbers, signs and submits.
struct Gateway {
    handle: Handle,
    chain: Digest,
    org: OrgId,
    key: SigningKey,
    /// The next sequence number.
    next: u64,
}

impl Gateway {
    /// Signs entries together and hands them to the node, again while its mempool is full.
    async fn submit(&mut self, entries: Vec<Entry>) -> anyhow::Result<()> {
        let first_seq = self.next;
        self.next += entries.len() as u64;
        let submission = Submission { chain: self.chain, org: self.org.clone(), lane: 1, first_seq, entries };
        let bytes = submission.sign(&self.key).to_bytes();
        loop {
            match self.handle.submit(&bytes).await {
                Ok(Accepted::New | Accepted::Pending | Accepted::Final) => return Ok(()),
                Err(SubmitError::Full { .. } | SubmitError::TooFarAhead { .. }) => tokio::time::sleep(GATHER).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until this node hears all others, and they had the time to hear each other: who was silent is passed over when its turn comes.
    async fn connected(&self, others: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.handle.status().peers_connected < others {
            if begun.elapsed() > PATIENCE {
                bail!("the members do not reach each other");
            }
            tokio::time::sleep(GATHER).await;
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// Brings the first entry of every patient's log and waits until all are final.
    async fn begin_logs(&mut self, mut entries: Vec<Entry>) -> anyhow::Result<()> {
        let count = entries.len() as u64;
        let observer = tokio::spawn(observe(self.handle.clone(), self.org.clone(), 0, count));
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(ENTRIES_TOGETHER));
            self.submit(std::mem::replace(&mut entries, rest)).await?;
        }
        let seen = tokio::time::timeout(PATIENCE, observer).await.context("the ledger does not move")???;
        if let Some(refused) = seen.iter().find_map(|seen| Reject::from_code(seen.verdict)) {
            bail!("the ledger refused the beginning of a log: {refused}");
        }
        Ok(())
    }

    /// Brings entries at their scheduled times, however slow the ledger is, and measures when each is final.
    async fn bring(&mut self, entries: Vec<Entry>, rate: u32) -> anyhow::Result<Measured> {
        let (count, before) = (entries.len() as u64, self.next - 1);
        let observer = tokio::spawn(observe(self.handle.clone(), self.org.clone(), before, count));
        let begin = Instant::now();
        let due = |n: u64| Duration::from_secs_f64(n as f64 / f64::from(rate));
        let mut waiting = entries.into_iter();
        let mut brought = 0;
        while brought < count {
            let ready = |brought| ((begin.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1).min(count) - brought;
            if ready(brought) < ENTRIES_TOGETHER as u64 {
                tokio::time::sleep(GATHER).await;
            }
            if (MANY..ENTRIES_TOGETHER as u64).contains(&ready(brought)) {
                tokio::time::sleep(GATHER_MAX - GATHER).await;
            }
            let ready = ready(brought);
            if ready == 0 {
                continue;
            }
            let together: Vec<Entry> = waiting.by_ref().take(ENTRIES_TOGETHER.min(ready as usize)).collect();
            brought += together.len() as u64;
            self.submit(together).await?;
        }
        let seen = observer.await??;
        let mut measured = Measured { took_s: begin.elapsed().as_secs_f64(), ..Measured::default() };
        for one in seen {
            let scheduled = begin + due(one.seq - before - 1);
            measured.finalised += 1;
            measured.applied += u64::from(one.verdict == 0);
            measured.latencies_ms.push(one.at.saturating_duration_since(scheduled).as_secs_f32() * 1000.0);
        }
        Ok(measured)
    }
}

struct Seen {
    seq: u64,
    at: Instant,
    /// 0 when it was applied, else why it was refused.
    verdict: u8,
}

/// Waits until `count` of the organisation's entries above `before` are final.
async fn observe(handle: Handle, org: OrgId, before: u64, count: u64) -> anyhow::Result<Vec<Seen>> {
    let mut blocks = handle.blocks_from(handle.status().height + 1);
    let mut seen = Vec::with_capacity(count as usize);
    while (seen.len() as u64) < count {
        let block = blocks.next().await?;
        let at = Instant::now();
        let ours = block.receipts.iter().filter(|receipt| receipt.org == org && receipt.seq > before);
        seen.extend(ours.map(|receipt| Seen { seq: receipt.seq, at, verdict: receipt.verdict }));
    }
    Ok(seen)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Processor time of this process so far, user and system.
fn cpu_ticks() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in brackets and may hold anything; utime and stime are the 14th and 15th.
    let after = stat.rsplit_once(')').context("`/proc/self/stat` is not as expected")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<u64>().ok());
    field(14).zip(field(15)).map(|(user, system)| user + system).context("`/proc/self/stat` is not as expected")
}
