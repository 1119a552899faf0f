//! What the rows of the scenario share: the people, the patient, what has been learnt so far, and how a row is run.

use super::{
    consortium::Consortium,
    report::{Report, Step},
    sensors::Sensor,
    tell::Tell,
};
use crate::client::Client;
use anyhow::{Context, bail};
use record::Role;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long the ledger may take to make everything final that a row wrote.
const FINALITY_TIMEOUT: Duration = Duration::from_secs(120);

/// The people: organisation, name, role.
pub(crate) const PEOPLE: [(&str, &str, Role); 10] = [
    ("rescue-one", "dispatcher", Role::Dispatcher),
    ("rescue-one", "paramedic", Role::Responder),
    ("rescue-one", "privacy-officer", Role::PrivacyOfficer),
    ("mercy-hospital", "custodian", Role::Custodian),
    ("mercy-hospital", "doctor", Role::Doctor),
    ("mercy-hospital", "nurse", Role::Nurse),
    ("mercy-hospital", "administrator", Role::Administrator),
    ("acme-insurance", "claims-handler", Role::Insurer),
    ("health-inspectorate", "inspector", Role::Compliance),
    ("rescue-one", "ems-custodian", Role::Custodian),
];

/// The patient's own login at the hospital.
pub(crate) const PATIENT_USER: &str = "patient";

/// What the story knows while it goes on.
pub(crate) struct Story {
    pub(crate) consortium: Consortium,
    pub(crate) tell: Tell,
    pub(crate) report: Report,
    /// Folder of FHIR bundles, or none: the generated patient.
    pub(crate) patients: Option<PathBuf>,
    /// A WFDB header, or none: the generated ECG.
    pub(crate) ecg: Option<PathBuf>,
    /// The patient's identifier, as printed on the insurance card: `system|value`.
    pub(crate) identifier: String,
    /// The id of the Patient.
    pub(crate) patient: String,
    /// Ids that later rows need, by name.
    pub(crate) ids: BTreeMap<&'static str, String>,
    /// How long each patient summary took, in milliseconds.
    pub(crate) summaries_ms: Vec<f64>,
    /// The patient's sensors, once attached.
    pub(crate) sensors: Vec<Sensor>,
    clients: BTreeMap<&'static str, Client>,
}

impl Story {
    /// A story over a consortium that is running and has its people.
    pub(crate) fn new(consortium: Consortium, tell: Tell, patients: Option<PathBuf>, ecg: Option<PathBuf>) -> Self {
        Self {
            consortium,
            tell,
            report: Report::default(),
            patients,
            ecg,
            identifier: String::new(),
            patient: String::new(),
            ids: BTreeMap::new(),
            summaries_ms: Vec::new(),
            sensors: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    /// Logs everybody in (again).
    pub(crate) async fn log_in(&mut self) -> anyhow::Result<()> {
        for (org, name, _) in PEOPLE {
            self.clients.insert(name, self.consortium.login(org, name).await?);
        }
        if !self.patient.is_empty() {
            let patient = self.consortium.login("mercy-hospital", PATIENT_USER).await?;
            self.clients.insert(PATIENT_USER, patient);
        }
        Ok(())
    }

    /// A person's connection, for a purpose of use.
    pub(crate) fn as_user(&self, name: &str, purpose: &'static str) -> anyhow::Result<Client> {
        Ok(self.clients.get(name).with_context(|| format!("nobody is called `{name}`"))?.for_purpose(purpose))
    }

    /// An id that an earlier row kept.
    pub(crate) fn id(&self, name: &'static str) -> anyhow::Result<&str> {
        self.ids.get(name).map(String::as_str).with_context(|| format!("an earlier row kept no `{name}`"))
    }

    /// The patient as a FHIR reference.
    pub(crate) fn subject(&self) -> Value {
        json!({"reference": format!("Patient/{}", self.patient)})
    }

    /// The state of the hospital's ledger node.
    pub(crate) async fn ledger_status(&self) -> anyhow::Result<Value> {
        let client = Client::with_token(&self.consortium.node("mercy-hospital")?.base, String::new())?;
        client.get("/ledger/status").await?.good()?.json()
    }

    /// Waits until nothing that any gateway wrote is still to become final.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let until = Instant::now() + FINALITY_TIMEOUT;
        let mut pending = Vec::new();
        while Instant::now() < until {
            pending.clear();
            for node in &self.consortium.nodes {
                let status =
                    Client::with_token(&node.base, String::new())?.get("/ledger/status").await?.good()?.json()?;
                pending.push(status["pending"].as_u64().context("no `pending` in the ledger's status")?);
            }
            if pending.iter().all(|n| *n == 0) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("after {} s entries are still pending: {pending:?}", FINALITY_TIMEOUT.as_secs())
    }

    /// Begins a row: its number, its name, and what the ledger holds before it.
    pub(crate) async fn begin(&self, row: u32, name: &str) -> anyhow::Result<Row> {
        self.tell.row(row, name);
        let before = self.ledger_status().await?["entries"].as_u64().unwrap_or(0);
        Ok(Row { row, name: name.to_owned(), before, started: Instant::now() })
    }

    /// Ends a row: waits for finality, counts, and keeps what went wrong.
    pub(crate) async fn end(&mut self, row: Row, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        let outcome = match outcome {
            Ok(()) => self.settle().await,
            wrong => wrong,
        };
        let entries = self.ledger_status().await?["entries"].as_u64().unwrap_or(0).saturating_sub(row.before);
        let ms = row.started.elapsed().as_secs_f64() * 1000.0;
        let error = outcome.err().map(|e| format!("{e:#}"));
        self.tell.row_end(error.as_deref(), entries, ms);
        self.report.steps.push(Step { row: row.row, name: row.name, ok: error.is_none(), entries, ms, error });
        Ok(())
    }
}

/// A row that is being played.
pub(crate) struct Row {
    row: u32,
    name: String,
    before: u64,
    started: Instant,
}

/// Fails with `what` unless it holds.
pub(crate) fn expect(holds: bool, what: &str) -> anyhow::Result<()> {
    if !holds {
        bail!("expected: {what}");
    }
    Ok(())
}

/// A CodeableConcept of one coding.
pub(crate) fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({"coding": [{"system": system, "code": code, "display": display}], "text": display})
}

/// The entries of a searchset Bundle.
pub(crate) fn matches(bundle: &Value) -> Vec<&Value> {
    bundle["entry"]
        .as_array()
        .map(|entries| entries.iter().map(|entry| &entry["resource"]).collect())
        .unwrap_or_default()
}
