//! `vitaltrace bench emergency`: how long a responder waits for a record, while a hospital writes as fast as it is answered: with all four
//! validators, and with two of them stopped, when the ledger stands still.

use super::{quantile, sample};
use crate::{
    client::Client,
    command::{Exit, print, tell},
    demo::consortium::Consortium,
};
use anyhow::{Context, ensure};
use clap::{Args, builder::RangedU64ValueParser};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Role;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const AT_THE_ROAD: &str = "rescue-one";
const AT_THE_WARD: &str = "mercy-hospital";
/// Those that are stopped: without two of four the ledger makes no block.
const STOPPED: [&str; 2] = ["acme-insurance", "health-inspectorate"];
/// How long the other gateways may take to see what was loaded.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Measures emergency reads.
#[derive(Debug, Args)]
pub(crate) struct Emergency {
    /// How long each run sends.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Responders who read at the same time.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    responders: usize,
    /// Connections that write at the hospital meanwhile.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Patients that are there, each with sixteen records.
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
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
    validators: usize,
    /// For which purpose of use: in an emergency, or under broken glass.
    purpose: &'static str,
    reads: usize,
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    /// Creates that the hospital was answered in a second meanwhile.
    writes_per_s: f64,
    /// Blocks that became final meanwhile.
    blocks: u64,
    /// Of the machine over one minute, before the run.
    load: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Runs {
    responders: usize,
    writers: usize,
    processors: usize,
    runs: Vec<Run>,
}

struct Site {
    consortium: Consortium,
    responder: Client,
    doctor: Client,
    patients: Vec<String>,
    allergies: Vec<String>,
    /// The one under broken glass.
    restricted: String,
}

impl Emergency {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("vitaltrace-bench-").tempdir_in(parent)?;
        let mut site = self.site(folder.path()).await?;
        let mut runs = Vec::new();
        for stopped in [&[][..], &STOPPED[..]] {
            for org in stopped {
                site.consortium.kill(org)?;
            }
            for purpose in ["ETREAT", "BTG"] {
                let run = self.measure(&site, purpose, site.consortium.nodes.len() - stopped.len()).await?;
                if !self.json {
                    print(&format!(
                        "{} of 4 validators, {:>6}: {:>6.0} reads/s, p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms; beside {:.0} writes/s, {} blocks, load {}",
                        run.validators,
                        run.purpose,
                        run.per_s,
                        run.p50_ms,
                        run.p99_ms,
                        run.longest_ms,
                        run.writes_per_s,
                        run.blocks,
                        run.load.map_or_else(|| "unknown".to_owned(), |load| load.to_string())
                    ));
                }
                runs.push(run);
            }
        }
        if self.json {
            let processors = std::thread::available_parallelism().map_or(0, usize::from);
            let (responders, writers) = (self.responders, self.writers);
            print(&serde_json::to_string_pretty(&Runs { responders, writers, processors, runs })?);
        }
        Ok(Exit::Good)
    }

    /// Four organisations, patients that the hospital enrolled, and one patient's glass broken at the road.
    async fn site(&self, folder: &std::path::Path) -> anyhow::Result<Site> {
        let mut consortium = Consortium::found(folder)?;
        consortium.add_user(AT_THE_WARD, "doctor", Role::Doctor, None)?;
        consortium.add_user(AT_THE_ROAD, "responder", Role::Responder, None)?;
        tell("starting four organisations");
        consortium.start_all().await?;
        let doctor = consortium.login(AT_THE_WARD, "doctor").await?;
        let responder = consortium.login(AT_THE_ROAD, "responder").await?;
        tell(&format!("loading {} patients", self.patients));
        let mut rng = StdRng::seed_from_u64(self.seed);
        let (mut patients, mut allergies) = (Vec::new(), Vec::new());
        for number in 0..self.patients {
            let answer = doctor.post("/fhir", &sample::patient(number, &mut rng)).await?.good()?.json()?;
            let entries = answer["entry"].as_array().context("a transaction was answered without entries")?;
            for location in entries.iter().filter_map(|entry| entry["response"]["location"].as_str()) {
                let mut parts = location.split('/');
                match (parts.next(), parts.next()) {
                    (Some("Patient"), Some(id)) => patients.push(id.to_owned()),
                    (Some("AllergyIntolerance"), Some(id)) => allergies.push(id.to_owned()),
                    _ => {}
                }
            }
        }
        let patient = patients.first().context("nobody was enrolled")?;
        let restricted = json!({
            "resourceType": "Condition", "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F11.20"}]}
        });
        let restricted = format!("/fhir/Condition/{}", doctor.create(&restricted).await?.id()?);
        let glass = json!({"patient": patient, "code": "unconscious", "reason": "a measurement", "minutes": 240});
        let until = Instant::now() + PATIENCE;
        // The other gateway has the patient's key as soon as the enrolment is final.
        while responder.for_purpose("BTG").post("/override", &glass).await?.good().is_err() {
            ensure!(Instant::now() < until, "the other gateway does not come to know the patient");
            tokio::time::sleep(POLL).await;
        }
        Ok(Site { consortium, responder, doctor, patients, allergies, restricted })
    }

    async fn measure(&self, site: &Site, purpose: &'static str, validators: usize) -> anyhow::Result<Run> {
        let load = load();
        let before = height(site).await?;
        let begin = Instant::now();
        let until = begin + Duration::from_secs(self.seconds);
        let written = Arc::new(AtomicU64::new(0));
        let rng = |number: usize| StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let writing: Vec<_> = (0..self.writers)
            .map(|number| {
                let (client, patients) = (site.doctor.clone(), site.patients.clone());
                let (mut rng, written) = (rng(number), Arc::clone(&written));
                tokio::spawn(async move {
                    while Instant::now() < until {
                        let patient = &patients[rng.random_range(0..patients.len())];
                        let body = serde_json::to_vec(&sample::observation(patient, &mut rng))?;
                        let answer = client.post_bytes("/fhir/Observation", "application/fhir+json", body).await?;
                        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                            // What is not final has a bound: this one waits, and the readers do not.
                            tokio::time::sleep(POLL).await;
                            continue;
                        }
                        answer.good()?;
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let reading: Vec<_> = (0..self.responders)
            .map(|number| {
                let client = site.responder.for_purpose(purpose);
                let (allergies, restricted) = (site.allergies.clone(), site.restricted.clone());
                let mut rng = rng(self.writers + number);
                tokio::spawn(async move {
                    let mut latencies_ms = Vec::new();
                    while Instant::now() < until {
                        let path = match purpose {
                            "BTG" => restricted.clone(),
                            _ => {
                                format!("/fhir/AllergyIntolerance/{}", allergies[rng.random_range(0..allergies.len())])
                            }
                        };
                        let begin = Instant::now();
                        client.get(&path).await?.good()?;
                        latencies_ms.push(begin.elapsed().as_secs_f32() * 1_000.0);
                    }
                    anyhow::Ok(latencies_ms)
                })
            })
            .collect();
        let mut latencies_ms = Vec::new();
        for task in reading {
            latencies_ms.extend(task.await??);
        }
        let took = begin.elapsed().as_secs_f64();
        for task in writing {
            task.await??;
        }
        let blocks = height(site).await?.saturating_sub(before);
        latencies_ms.sort_by(f32::total_cmp);
        let at = |share| quantile(&latencies_ms, share).context("nothing was answered");
        Ok(Run {
            validators,
            purpose,
            reads: latencies_ms.len(),
            per_s: latencies_ms.len() as f64 / took,
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
            longest_ms: at(1.0)?,
            writes_per_s: written.load(Ordering::Relaxed) as f64 / took,
            blocks,
            load,
        })
    }
}

/// Height of the ledger where the responder is.
async fn height(site: &Site) -> anyhow::Result<u64> {
    let status = site.responder.get("/ledger/status").await?.good()?.json()?;
    status["height"].as_u64().context("the ledger's status has no height")
}

/// Processes that ran or waited to run over one minute, where the system says so.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
