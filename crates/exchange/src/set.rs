//! A patient's records as a set: the database's rows against the ledger's live records, so that what was hidden is noticed too.

use crate::{
    failure::Failure,
    mirror::{FinalVersion, Named},
    node::Node,
    row::Worth,
};
use contract::{Entry, open_copy};
use record::{Digest, Id16, OrgId, PatientKey, RecordTag};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use store::Row;

/// The type of the audit trail, of which one entry may commit to several records.
pub(crate) const AUDIT_EVENT: &str = "AuditEvent";
/// How long the vaults may take to give an essential copy.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// A row that may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Sound {
    pub(crate) row: Row,
    pub(crate) pending: bool,
    pub(crate) repaired: bool,
}

/// A patient's current, undeleted records.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// Those that agree with the ledger, and those repaired from a vault.
    pub(crate) sound: Vec<Sound>,
    /// Whether hidden rows would have been noticed: it takes the patient key.
    pub(crate) complete: bool,
    /// Records on the ledger that neither database nor vault could give, by FHIR type; under the empty name those of hidden type.
    pub(crate) lost: BTreeMap<String, u64>,
    /// Rows that do not agree with the ledger and are not shown.
    pub(crate) withheld: u64,
}

impl Set {
    /// Whether anything had to be repaired, is lost, or was withheld.
    pub(crate) fn is_degraded(&self) -> bool {
        self.withheld > 0 || !self.lost.is_empty() || self.sound.iter().any(|sound| sound.repaired)
    }
}

impl Node {
    /// The patient's current records of `types` (none: all), verified as a set.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn patient_set(&self, patient: &str, types: &[&str]) -> Result<Set, Failure> {
        let key = self.patient_key(patient).await?;
        // The ledger is read first: a row that is written between the two reads is then only unknown to it yet.
        let live = match &key {
            Some(key) => self.mirror.live_records(self.pseudonyms(key), types).await?,
            None => Vec::new(),
        };
        let with_audits = types.is_empty() || types.contains(&AUDIT_EVENT);
        let gathered = match &key {
            Some(key) if with_audits => self.mirror.gathered_under(self.pseudonyms(key)).await?,
            _ => Vec::new(),
        };
        let found = self.store.patient_records(patient, types).await.map_err(crate::find::search_failure)?;
        let worths = self.weigh(&found.rows).await?;
        self.meters.weighed(&worths);
        // What the ledger has that this node has not read yet may be hidden without anybody here noticing.
        let complete = key.is_some() && self.sees_what_is_final();
        let mut set = Set { complete, withheld: found.malformed.len() as u64, ..Set::default() };
        // The newest version that stands in the database, a deletion included.
        let mut newest: HashMap<RecordTag, u64> = HashMap::new();
        let mut opened: HashMap<(Id16, OrgId), HashSet<RecordTag>> = HashMap::new();
        for (row, worth) in found.rows.into_iter().zip(worths) {
            match worth {
                Worth::Good(known) => {
                    newest.insert(known.tag, known.version);
                    if row.gathered.is_some() {
                        opened.entry((known.entry, known.org.clone())).or_default().insert(known.tag);
                    }
                    if !row.deleted {
                        set.sound.push(Sound { row, pending: false, repaired: false });
                    }
                }
                Worth::Pending => {
                    newest.insert(row.tag, row.version);
                    if !row.deleted {
                        set.sound.push(Sound { row, pending: true, repaired: false });
                    }
                }
                _ => set.withheld += 1,
            }
        }
        let Some(key) = key else { return Ok(set) };
        let wanted = |known: &FinalVersion| match &known.fhir_type {
            Some(fhir_type) => types.is_empty() || types.contains(&fhir_type.as_str()),
            None => types.is_empty(),
        };
        for known in live.iter().filter(|known| wanted(known)) {
            if newest.get(&known.tag).is_some_and(|version| *version >= known.version) {
                continue;
            }
            // An older version in the place of the latest is a rollback: what it shows is not current.
            set.sound.retain(|sound| sound.row.tag != known.tag);
            if known.deleted {
                continue;
            }
            match self.repair(&key, known).await? {
                Some(row) => set.sound.push(Sound { row, pending: false, repaired: true }),
                None => *set.lost.entry(known.fhir_type.clone().unwrap_or_default()).or_default() += 1,
            }
        }
        for accesses in &gathered {
            let there = opened.get(&(accesses.entry, accesses.org.clone())).map_or(0, HashSet::len) as u64;
            let lost = u64::from(accesses.count).saturating_sub(there);
            if lost > 0 {
                *set.lost.entry(AUDIT_EVENT.to_owned()).or_default() += lost;
            }
        }
        if set.is_degraded() {
            tracing::warn!(
                withheld = set.withheld,
                lost = set.lost.values().sum::<u64>(),
                "a patient's records do not agree with the ledger"
            );
        }
        Ok(set)
    }

    /// A version as its essential copy in some vault has it; none when it has no copy, or nobody gives one.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn repair(&self, key: &PatientKey, known: &FinalVersion) -> Result<Option<Row>, Failure> {
        let Some(digest) = known.copy else { return Ok(None) };
        let Some(sealed) = self.copy(digest).await? else { return Ok(None) };
        let Some(entry) = self.mirror.entry(known.entry, &known.org).await? else { return Ok(None) };
        let entry = Entry::from_bytes(&entry.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
        let opened = match open_copy(key, &entry, &sealed) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, entry = %entry.id, "an essential copy does not open");
                return Ok(None);
            }
        };
        let Some((rtype, id)) = opened.record.split_once('/') else { return Ok(None) };
        let limits = record::fhir::Limits { bytes_max: store::RECORD_BYTES_MAX, ..record::fhir::Limits::RESOURCE };
        let resource = record::fhir::Resource::parse(&opened.bytes, limits);
        let resource = resource.map_err(|e| Failure::ours("an essential copy holds no resource", e))?;
        let patient = if rtype == "Patient" { Some(id.to_owned()) } else { crate::ingest::patient_of(&resource) };
        let written_at = resource.root().path(&["meta", "lastUpdated"]).and_then(record::fhir::Node::as_str);
        let written_at = written_at.and_then(|at| record::TimeMs::from_instant(&at).ok()).unwrap_or(entry.time);
        let label = resource.confidentiality().code().to_owned();
        Ok(Some(Row {
            rtype: rtype.to_owned(),
            id: id.to_owned(),
            version: opened.version,
            bytes: opened.bytes,
            salt: opened.salt,
            tag: known.tag,
            pseudonym: known.patient,
            patient,
            author: known.org.clone(),
            entry: known.entry,
            written_at,
            deleted: known.deleted,
            label,
            gathered: None,
        }))
    }

    /// The patient key behind a version, if this organisation holds it: the key of the patient whose pseudonym it is filed under.
    pub(crate) async fn key_behind(&self, known: &FinalVersion) -> Result<Option<PatientKey>, Failure> {
        // The row may be gone, or lie about its patient: what was remembered of it when it was good does neither.
        let Some(Named { name, patient, .. }) = self.mirror.named(known.tag).await? else { return Ok(None) };
        let patient = name.strip_prefix("Patient/").map(str::to_owned).or(patient);
        let Some(patient) = patient else { return Ok(None) };
        let key = self.patient_key(&patient).await?;
        Ok(key.filter(|key| record::record_tag(key, &name) == known.tag))
    }

    async fn copy(&self, digest: Digest) -> Result<Option<Vec<u8>>, Failure> {
        // A vault that fails loses a copy, not the whole answer.
        Ok(self.ledger.fetch_attachment(digest, FETCH_TIMEOUT).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the vault did not answer");
            None
        }))
    }
}
