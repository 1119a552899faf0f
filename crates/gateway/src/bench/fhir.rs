//! `vitaltrace bench fhir`: closed-loop load over HTTP on the FHIR doors of a hospital whose consortium, four processes, shares the machine;
//! each run ends when everything that it wrote is final. With `--url` the same load goes to any other FHIR R4 server.

use super::{quantile, sample, site::Place};
use crate::{
    client::Client,
    command::{Exit, print, tell},
    demo::consortium::Consortium,
};
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Role;
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const ORGANISATION: &str = "mercy-hospital";
/// How long the ledger may take to make everything final.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);
/// Patients that are loaded side by side.
const LOADS_AT_ONCE: usize = 8;
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
    /// The base address of another FHIR R4 server, which takes requests without a token; ours when not said.
    #[arg(long)]
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

/// What one run showed.
#[derive(Debug, Serialize)]
struct Run {
    what: &'static str,
    backend: String,
    connections: usize,
    /// Whether every request left its trace on a ledger.
    anchoring: bool,
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct Runs {
    runs: Vec<Run>,
}

/// Who answers, and what is there.
struct Site {
    client: Client,
    /// Before `/Observation` in paths.
    base: &'static str,
    consortium: Option<Consortium>,
    patients: Vec<String>,
    observations: Vec<String>,
}

impl Fhir {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let folder = self.place.folder()?;
        let mut site = match &self.url {
            Some(url) => Site::elsewhere(url)?,
            None => Site::ours(&self.place, folder.path()).await?,
        };
        tell(&format!("loading {} patients", self.patients));
        site.load(self.patients, self.seed).await?;
        let site = Arc::new(site);
        let mut runs = Vec::new();
        for what in &self.what {
            let run = self.measure(&site, *what).await?;
            if !self.json {
                print(&format!(
                    "{:>18} at {:>2} connections: {:>8.0}/s, p50 {:.2} ms, p99 {:.2} ms",
                    run.what, run.connections, run.per_s, run.p50_ms, run.p99_ms
                ));
            }
            runs.push(run);
        }
        if self.json {
            print(&serde_json::to_string_pretty(&Runs { runs })?);
        }
        Ok(Exit::Good)
    }

    async fn measure(&self, site: &Arc<Site>, what: What) -> anyhow::Result<Run> {
        let connections = self.connections.unwrap_or_else(|| what.connections());
        let begin = Instant::now();
        let until = begin + Duration::from_secs(self.seconds);
        let writers = if what == What::ReadsUnderWrites { WRITERS } else { 0 };
        let of = |what: What, number: usize| {
            let (site, seed) = (Arc::clone(site), self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            tokio::spawn(async move { site.send_until(what, until, StdRng::seed_from_u64(seed)).await })
        };
        let measured: Vec<_> = (0..connections).map(|number| of(what, number)).collect();
        let beside: Vec<_> = (0..writers).map(|number| of(What::Creates, connections + number)).collect();
        let mut latencies_ms = Vec::new();
        for task in measured {
            latencies_ms.extend(task.await??);
        }
        let sending = begin.elapsed();
        for task in beside {
            task.await??;
        }
        site.settle().await?;
        // What was written beside what is measured does not make that slower.
        let took = if writers > 0 { sending } else { begin.elapsed() };
        latencies_ms.sort_by(f32::total_cmp);
        let at = |share| quantile(&latencies_ms, share).context("nothing was answered");
        Ok(Run {
            what: what.name(),
            backend: self.backend.clone().unwrap_or_else(|| self.place.backend().to_owned()),
            connections,
            anchoring: site.consortium.is_some(),
            per_s: latencies_ms.len() as f64 / took.as_secs_f64(),
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
        })
    }
}

impl Site {
    fn elsewhere(url: &str) -> anyhow::Result<Self> {
        let client = Client::with_token(url, String::new())?;
        Ok(Self { client, base: "", consortium: None, patients: Vec::new(), observations: Vec::new() })
    }

    async fn ours(place: &Place, folder: &std::path::Path) -> anyhow::Result<Self> {
        let mut consortium = place.found(folder)?;
        consortium.add_user(ORGANISATION, "doctor", Role::Doctor, None)?;
        tell("starting four organisations");
        consortium.start_all().await?;
        let client = consortium.login(ORGANISATION, "doctor").await?;
        let consortium = Some(consortium);
        Ok(Self { client, base: "/fhir", consortium, patients: Vec::new(), observations: Vec::new() })
    }

    /// Loads patients with their records, one transaction each.
    async fn load(&mut self, patients: usize, seed: u64) -> anyhow::Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let bundles: Vec<_> = (0..patients).map(|number| sample::patient(number, &mut rng)).collect();
        let (client, path) = (&self.client, if self.base.is_empty() { "/" } else { self.base });
        let loads = stream::iter(bundles).map(|bundle| async move {
            let answer = client.post(path, &bundle).await?.good()?.json()?;
            let entries = answer["entry"].as_array().context("a transaction was answered without entries")?;
            let written = entries.iter().filter_map(|entry| entry["response"]["location"].as_str());
            Ok::<_, anyhow::Error>(written.map(str::to_owned).collect::<Vec<_>>())
        });
        let located: Vec<Vec<String>> = loads.buffered(LOADS_AT_ONCE).try_collect().await?;
        for location in located.iter().flatten() {
            // Some servers give whole addresses.
            let mut parts = location.split("/_history").next().unwrap_or_default().rsplit('/');
            match (parts.next(), parts.next()) {
                (Some(id), Some("Patient")) => self.patients.push(id.to_owned()),
                (Some(id), Some("Observation")) => self.observations.push(id.to_owned()),
                _ => {}
            }
        }
        ensure!(self.patients.len() == patients, "{} of {patients} patients were loaded", self.patients.len());
        self.settle().await
    }

    /// Waits until everything is final.
    async fn settle(&self) -> anyhow::Result<()> {
        let Some(consortium) = &self.consortium else { return Ok(()) };
        let until = Instant::now() + PATIENCE;
        for node in &consortium.nodes {
            let client = Client::with_token(&node.base, String::new())?;
            while client.get("/ledger/status").await?.good()?.json()?["pending"].as_u64() != Some(0) {
                ensure!(Instant::now() < until, "the ledger takes too long to make everything final");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Sends one request after the other; how long each took, in milliseconds.
    async fn send_until(&self, what: What, until: Instant, mut rng: StdRng) -> anyhow::Result<Vec<f32>> {
        let mut latencies_ms = Vec::new();
        while Instant::now() < until {
            let begin = Instant::now();
            self.send(what, &mut rng).await?;
            latencies_ms.push(begin.elapsed().as_secs_f32() * 1_000.0);
        }
        Ok(latencies_ms)
    }

    async fn send(&self, what: What, rng: &mut StdRng) -> anyhow::Result<()> {
        let base = self.base;
        let patient = &self.patients[rng.random_range(0..self.patients.len())];
        let path = match what {
            What::Creates => {
                let body = serde_json::to_vec(&sample::observation(patient, rng))?;
                let path = format!("{base}/Observation");
                self.client.post_bytes(&path, "application/fhir+json", body).await?.good()?;
                return Ok(());
            }
            What::Bundles => {
                let path = if base.is_empty() { "/" } else { base };
                self.client.post(path, &sample::observations(patient, rng)).await?.good()?;
                return Ok(());
            }
            What::Reads | What::ReadsUnderWrites => {
                let id = &self.observations[rng.random_range(0..self.observations.len())];
                format!("{base}/Observation/{id}")
            }
            What::Searches => format!("{base}/Observation?patient={patient}&code={}", sample::code(rng)),
            What::Summary => format!("{base}/Patient/{patient}/$summary"),
            What::Mixed => {
                let one = match rng.random_range(0..10) {
                    0..7 => What::Reads,
                    7..9 => What::Searches,
                    _ => What::Creates,
                };
                return Box::pin(self.send(one, rng)).await;
            }
        };
        self.client.get(&path).await?.good()?;
        Ok(())
    }
}
