//! `vitaltrace bench fhir`: closed-loop load over HTTP on the FHIR doors of a hospital whose consortium, four processes, shares the machine,
//! with everything on and then without each part of custody; each run ends when everything that it wrote is final. With `--url` the
//! same load goes to any other FHIR R4 server.

mod run;
mod server;

use super::{gateway::part, quantile, site::Place};
use crate::command::{Exit, print, tell};
use anyhow::ensure;
use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use exchange::{Part, Without};
use rand::{SeedableRng as _, rngs::StdRng};
use run::{Run, Runs, table};
use server::{Sent, Server};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Connections that write while others read.
const WRITERS: usize = 16;

/// Measures the FHIR doors.
#[derive(Debug, Args)]
pub(crate) struct Fhir {
    /// What is measured, one run for each.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = What::value_variants().to_vec())]
    what: Vec<What>,
    /// Requests that are under way at the same time; what is usual for each when not said.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    connections: Option<usize>,
    /// How long each run sends.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Patients that are there, each with sixteen records.
    #[arg(long, default_value_t = 1_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    patients: usize,
    /// Everything random is drawn from it, but keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Everything on, and nothing else: otherwise, on a file, each part of custody is switched off after it, in a consortium of its own.
    #[arg(long)]
    all_on: bool,
    /// Only without these parts of custody, all at once. Without anchoring nothing is verified either.
    #[arg(long, value_delimiter = ',', value_parser = part(), conflicts_with = "all_on")]
    without: Vec<Part>,
    /// The base address of another FHIR R4 server, which takes requests without a token; ours when not said.
    #[arg(long, conflicts_with_all = ["all_on", "without"])]
    url: Option<String>,
    /// What is said to be behind it.
    #[arg(long, requires = "url")]
    backend: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// An Observation is created.
    Creates,
    /// An Observation is read.
    Reads,
    /// Observations of a patient and a code are searched.
    Searches,
    /// An Observation is read while sixteen others are created.
    ReadsUnderWrites,
    /// A transaction of a hundred Observations; a request counts as one.
    Bundles,
    /// A patient's summary.
    Summary,
    /// Seven reads, two searches and a create of ten.
    Mixed,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Reads => "reads",
            Self::Searches => "searches",
            Self::ReadsUnderWrites => "reads-under-writes",
            Self::Bundles => "bundles",
            Self::Summary => "summary",
            Self::Mixed => "mixed",
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Creates | Self::Searches => 8,
            Self::Reads | Self::ReadsUnderWrites | Self::Mixed => 16,
            Self::Bundles | Self::Summary => 2,
        }
    }
}

impl Fhir {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let mut runs = Vec::new();
        for without in self.settings() {
            // The folder goes after the processes that use it.
            let folder = self.place.folder()?;
            let server = match &self.url {
                Some(url) => Server::elsewhere(url)?,
                None => Server::ours(&self.place, folder.path(), &without).await?,
            };
            self.measure_all(server, &Without::parts(&without), &mut runs).await?;
        }
        ensure!(runs.iter().any(Run::was_answered), "no request was answered");
        let failed: u64 = runs.iter().map(|run| run.failed).sum();
        if failed > 0 {
            tell(&format!(
                "{failed} REQUESTS FAILED: they are counted in no rate, and what was measured beside them is not what was meant"
            ));
        }
        let runs = Runs::of(runs);
        let shown = if self.json { serde_json::to_string_pretty(&runs)? } else { table(&runs) };
        if !shown.is_empty() {
            print(&shown);
        }
        Ok(if failed == 0 { Exit::Good } else { Exit::No })
    }

    /// What is left out, one consortium for each.
    fn settings(&self) -> Vec<Vec<Part>> {
        // A database of a server is empty once.
        if self.all_on || self.url.is_some() || self.place.database.is_some() || !self.without.is_empty() {
            return vec![self.without.clone()];
        }
        std::iter::once(Vec::new()).chain(Part::ALL.map(|part| vec![part])).collect()
    }

    async fn measure_all(&self, mut server: Server, without: &Without, runs: &mut Vec<Run>) -> anyhow::Result<()> {
        tell(&format!("loading {} patients", self.patients));
        server.load(self.patients, self.seed).await?;
        let server = Arc::new(server);
        for what in &self.what {
            let run = self.measure(&server, *what, without).await?;
            if !self.json {
                print(&run.to_string());
            }
            runs.push(run);
        }
        Ok(())
    }

    async fn measure(&self, server: &Arc<Server>, what: What, without: &Without) -> anyhow::Result<Run> {
        let connections = self.connections.unwrap_or_else(|| what.connections());
        let begin = Instant::now();
        let until = begin + Duration::from_secs(self.seconds);
        let writers = if what == What::ReadsUnderWrites { WRITERS } else { 0 };
        let of = |what: What, number: usize| {
            let (server, seed) = (Arc::clone(server), self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            tokio::spawn(async move { server.send_until(what, until, StdRng::seed_from_u64(seed)).await })
        };
        let measured: Vec<_> = (0..connections).map(|number| of(what, number)).collect();
        let beside: Vec<_> = (0..writers).map(|number| of(What::Creates, connections + number)).collect();
        let mut sent = Sent::default();
        for task in measured {
            sent.add(task.await?);
        }
        let sending = begin.elapsed();
        for task in beside {
            // What is written beside is not measured, but must be written.
            sent.add(Sent { latencies_ms: Vec::new(), ..task.await? });
        }
        server.settle().await?;
        // What was written beside what is measured does not make that slower.
        let took = if writers > 0 { sending } else { begin.elapsed() };
        if let Some(why) = &sent.first_failure {
            tell(&format!("{}: {} REQUESTS FAILED, the first: {why}", what.name(), sent.failed));
        }
        let Sent { mut latencies_ms, failed, .. } = sent;
        latencies_ms.sort_by(f32::total_cmp);
        Ok(Run {
            what: what.name(),
            backend: self.backend.clone().unwrap_or_else(|| self.place.backend().to_owned()),
            connections,
            anchoring: server.is_ours() && !without.has(Part::Anchoring),
            verified: server.is_ours() && !without.has(Part::Verification),
            without: without.names(),
            per_s: latencies_ms.len() as f64 / took.as_secs_f64(),
            p50_ms: quantile(&latencies_ms, 0.5),
            p99_ms: quantile(&latencies_ms, 0.99),
            failed,
        })
    }
}
