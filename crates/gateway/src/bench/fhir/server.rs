//! The server that `vitaltrace bench fhir` sends to, ours or another, and what is loaded there.

use super::{
    super::{sample, site::Place},
    What,
};
use crate::{client::Client, command::tell, demo::consortium::Consortium};
use anyhow::{Context, ensure};
use exchange::{Part, Without};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Role;
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const ORGANISATION: &str = "mercy-hospital";
/// How long the ledger may take to make everything final.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);
/// Patients that are loaded side by side.
const LOADS_AT_ONCE: usize = 8;
/// How long a connection waits after a request that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Who answers, and what is there.
pub(super) struct Server {
    client: Client,
    /// Before `/Observation` in paths.
    base: &'static str,
    consortium: Option<Consortium>,
    patients: Vec<String>,
    observations: Vec<String>,
}

/// What came of requests.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How long each that was answered took.
    pub(super) latencies_ms: Vec<f32>,
    pub(super) failed: u64,
    /// Why the first of those that failed did.
    pub(super) first_failure: Option<String>,
}

impl Sent {
    pub(super) fn add(&mut self, other: Self) {
        self.latencies_ms.extend(other.latencies_ms);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

impl Server {
    pub(super) fn elsewhere(url: &str) -> anyhow::Result<Self> {
        let client = Client::with_token(url, String::new())?;
        Ok(Self { client, base: "", consortium: None, patients: Vec::new(), observations: Vec::new() })
    }

    pub(super) async fn ours(place: &Place, folder: &Path, without: &[Part]) -> anyhow::Result<Self> {
        let mut consortium = place.found(folder, without)?;
        consortium.add_user(ORGANISATION, "doctor", Role::Doctor, None)?;
        let without = Without::parts(without).names();
        let setting =
            if without.is_empty() { "everything on".to_owned() } else { format!("without {}", without.join(", ")) };
        tell(&format!("starting four organisations, {setting}"));
        consortium.start_all().await?;
        let client = consortium.login(ORGANISATION, "doctor").await?;
        let said = client.get("/ledger/status").await?.good()?.json()?["without"].take();
        ensure!(said == json!(without), "the gateway says that it leaves out {said}: it was to be {setting}");
        let consortium = Some(consortium);
        Ok(Self { client, base: "/fhir", consortium, patients: Vec::new(), observations: Vec::new() })
    }

    /// Whether it is Vitaltrace.
    pub(super) fn is_ours(&self) -> bool {
        self.consortium.is_some()
    }

    /// Where bundles go.
    fn root(&self) -> &'static str {
        if self.base.is_empty() { "/" } else { self.base }
    }

    /// Loads patients with their records, one transaction each.
    pub(super) async fn load(&mut self, patients: usize, seed: u64) -> anyhow::Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let bundles: Vec<_> = (0..patients).map(|number| sample::patient(number, &mut rng)).collect();
        let (client, path) = (&self.client, self.root());
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
        let expected = patients * sample::OBSERVATIONS;
        ensure!(self.observations.len() == expected, "{} of {expected} observations", self.observations.len());
        self.look_at_searches().await?;
        self.settle().await
    }

    /// Says so when searches do not find the observations of a patient and a code: what a server that passes over a parameter answers is
    /// measured, but is something else.
    async fn look_at_searches(&self) -> anyhow::Result<()> {
        let patient = self.patients.first().context("nobody was loaded")?;
        let subject = format!("Patient/{patient}");
        let (mut right, mut wrong) = (0, 0);
        for code in sample::codes() {
            let path = format!("{}/Observation?patient={patient}&code={code}&_count=100", self.base);
            let answer = match self.client.get(&path).await?.good() {
                Ok(answer) => answer.json()?,
                Err(error) => {
                    tell(&format!("SEARCHES FAIL: {error:#}"));
                    return Ok(());
                }
            };
            for resource in answer["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]) {
                let is_right = resource["code"]["coding"][0]["code"] == code
                    && resource["subject"]["reference"].as_str().is_some_and(|of| of.ends_with(&subject));
                (right, wrong) = if is_right { (right + 1, wrong) } else { (right, wrong + 1) };
            }
        }
        let expected = sample::OBSERVATIONS;
        if (right, wrong) != (expected, 0) {
            tell(&format!(
                "SEARCHES FIND SOMETHING ELSE: {right} of a patient's {expected} observations, and {wrong} other records"
            ));
        }
        Ok(())
    }

    /// Waits until everything is final.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
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

    /// Sends one request after the other.
    pub(super) async fn send_until(&self, what: What, until: Instant, mut rng: StdRng) -> Sent {
        let mut sent = Sent::default();
        while Instant::now() < until {
            let begin = Instant::now();
            match self.send(what, &mut rng).await {
                Ok(()) => sent.latencies_ms.push(begin.elapsed().as_secs_f32() * 1_000.0),
                Err(error) => {
                    sent.failed += 1;
                    sent.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        sent
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
                self.client.post(self.root(), &sample::observations(patient, rng)).await?.good()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_fails_is_counted_and_says_why_and_the_others_go_on() {
        // Nobody listens there.
        let mut server = Server::elsewhere("http://127.0.0.1:9").unwrap();
        (server.patients, server.observations) = (vec!["p".to_owned()], vec!["o".to_owned()]);
        let until = Instant::now() + Duration::from_millis(100);
        let mut sent = server.send_until(What::Reads, until, StdRng::seed_from_u64(1)).await;
        assert!(sent.failed > 0 && sent.latencies_ms.is_empty());
        let why = sent.first_failure.clone().unwrap();
        assert!(why.contains("cannot be reached"), "{why}");
        let failed = sent.failed;
        sent.add(Sent { latencies_ms: vec![1.0], failed: 2, first_failure: Some("another".to_owned()) });
        assert_eq!((sent.failed, sent.latencies_ms.len(), sent.first_failure), (failed + 2, 1, Some(why)));
    }
}
