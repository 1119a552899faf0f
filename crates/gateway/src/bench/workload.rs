//! What a provider's gateway brings to the ledger on a busy day, derived from events as the gateway does it.
//!
//! Of a hundred entries seventy are accesses, twenty-five records (every fifth of them a second version), five alarms. Each is about one of
//! some thousand patients, whose logs have begun before anything is measured.

use anyhow::Context;
use contract::{
    About, AccessAction, AlarmStep, AuditEvent, Author, DerivationPolicy, Entry, Event, Filed, Genesis, LastMonth,
    Priority, RecordWritten, derive,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Commitment, Id16, OrgId, PatientKey, Purpose, TimeMs, commit};
use serde_json::{Value, json};

/// Of a hundred entries.
const ACCESSES: u32 = 70;
/// Of a hundred entries. The rest are alarms.
const RECORDS: u32 = 25;
/// One record in so many is followed by its next version.
const UPDATED: u32 = 5;

/// An organisation's own patients, and the dice for what happens to them.
pub(super) struct Workload {
    dice: StdRng,
    policy: DerivationPolicy,
    author: Author,
    patients: Vec<PatientKey>,
    /// A record that has one version so far.
    open: Option<Version>,
    /// An alarm that sounds.
    alarm: Option<(usize, Id16)>,
    body: Value,
}

struct Version {
    patient: usize,
    name: String,
    commitment: Commitment,
}

impl Workload {
    /// `patients` of `org`, all drawn from `seed`. Times of entries are `time`: the ledger takes entries that are late.
    pub(super) fn new(genesis: &Genesis, org: OrgId, patients: usize, seed: u64, time: TimeMs) -> anyhow::Result<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let keys = (0..patients).map(|_| PatientKey::from_bytes(dice.random())).collect();
        let author = Author {
            org,
            access_policy: genesis.access_policy,
            actor: PatientKey::from_bytes(dice.random()).actor("doctor"),
            purpose: Purpose::Treat,
            time,
        };
        let policy = DerivationPolicy::builtin().context("the derivation policy is wrong")?;
        let body = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/4f2c"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        Ok(Self { dice, policy, author, patients: keys, open: None, alarm: None, body })
    }

    /// The first entry of every patient's log.
    pub(super) fn beginnings(&mut self) -> anyhow::Result<Vec<Entry>> {
        (0..self.patients.len()).map(|patient| self.write(patient, 1, None, true)).collect()
    }

    /// The next entry of the mix.
    pub(super) fn next(&mut self) -> anyhow::Result<Entry> {
        let patient = self.dice.random_range(0..self.patients.len());
        match self.dice.random_range(0..100) {
            n if n < ACCESSES => self.access(patient),
            n if n < ACCESSES + RECORDS => {
                if let Some(open) = self.open.take() {
                    return self.write(open.patient, 2, Some((open.name, open.commitment)), false);
                }
                self.write(patient, 1, None, false)
            }
            _ => self.alarm(patient),
        }
    }

    fn id(&mut self) -> Id16 {
        Id16(self.dice.random())
    }

    fn derive(&mut self, patient: usize, event: &Event<'_>, begins: bool) -> anyhow::Result<contract::Derived> {
        let id = self.id();
        let key = self.patients.get(patient).context("no such patient")?;
        let last = begins.then(|| LastMonth::none(key, self.author.time.month()));
        let about = About { key, filed: Filed::ByKey(last) };
        Ok(derive(&self.policy, &self.author, Some(&about), id, event)?)
    }

    fn write(
        &mut self,
        patient: usize,
        version: u64,
        before: Option<(String, Commitment)>,
        begins: bool,
    ) -> anyhow::Result<Entry> {
        let (name, previous) = match before {
            Some((name, commitment)) => (name, Some(commitment)),
            None => (format!("Observation/{}", self.id().to_hex()), None),
        };
        let body = self.body.clone();
        let bytes = serde_json::to_vec(&body)?;
        let written = RecordWritten {
            record: &name,
            version,
            previous,
            bytes: &bytes,
            resource: &body,
            deleted: false,
            wrapped_keys: &[],
        };
        let derived = self.derive(patient, &Event::RecordWritten(written), begins)?;
        let row = derived.row.context("a record has a row")?;
        if version == 1 && !begins && self.dice.random_range(0..UPDATED) == 0 {
            self.open = Some(Version { patient, name, commitment: row.commitment });
        }
        Ok(derived.entry)
    }

    fn access(&mut self, patient: usize) -> anyhow::Result<Entry> {
        let name = format!("AuditEvent/{}", self.id().to_hex());
        let shown = commit(&record::Digest(self.dice.random()), b"a version that was shown");
        let audit = AuditEvent { record: &name, bytes: b"an audit event about it" };
        let event = Event::Disclosed { action: AccessAction::Read, versions: &[shown], under: None, audit };
        Ok(self.derive(patient, &event, false)?.entry)
    }

    /// Alarms are raised and ended in turn.
    fn alarm(&mut self, patient: usize) -> anyhow::Result<Entry> {
        let (patient, id, step) = match self.alarm.take() {
            Some((patient, id)) => (patient, id, AlarmStep::Ended),
            None => {
                let id = self.id();
                self.alarm = Some((patient, id));
                (patient, id, AlarmStep::Raised)
            }
        };
        Ok(self.derive(patient, &Event::Alarm { id, step, priority: Priority::Medium }, false)?.entry)
    }
}
