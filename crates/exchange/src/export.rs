//! `$export`: copies of many records as files of NDJSON, put together while the caller does something else, and fetched when they are done.
//!
//! Source: HL7 Bulk Data Access 2.0. Every patient's records are taken as a set, verified, each decided over once more (`Export`), and each
//! patient's part is in the trail before the files can be fetched. They lie in the gateway's private folder for a day, and for the one who
//! asked alone; an erasure takes all of them away.

mod job;

use crate::{
    boxed,
    caller::Caller,
    consent::reading_once,
    disclose::{Shared, sound_of},
    facts::{Decided, Target},
    failure::Failure,
    find::{pairs, search_failure},
    node::Node,
    set::AUDIT_EVENT,
    write::Trail,
};
use contract::AccessAction;
pub(crate) use job::Exports;
pub use job::{Export, ExportFile, ExportState, GoesOn};
use job::{Files, Job};
use policy::Action;
use record::{
    Id16, TimeMs, commit,
    fhir::{Interaction, IssueType, RESOURCE_TYPES},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use store::{PAGE_MAX, Row, Search};

/// The formats that are meant by what a caller may say.
const FORMATS: [&str; 3] = ["application/fhir+ndjson", "application/ndjson", "ndjson"];

/// Whose records are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All, those of nobody too.
    System,
    /// Those of all patients.
    Patients,
    /// Those of the patients that a Group has as its members.
    Group(String),
}

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    /// None named: all but the audit trail.
    types: Vec<String>,
    since: Option<TimeMs>,
    /// None named: all.
    patients: Vec<String>,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for (parameter, _) in pairs(query)? {
            let name = parameter.name.as_str();
            let values: Vec<String> = parameter.values.iter().map(|value| value.text().into_owned()).collect();
            let wrong = |expected: &str| Failure::invalid(IssueType::Value, "", format!("`{name}` must be {expected}"));
            match (name, values.as_slice()) {
                ("_type", types) => {
                    if let Some(unknown) = types.iter().find(|rtype| !RESOURCE_TYPES.contains(&rtype.as_str())) {
                        return Err(wrong(&format!("a list of resource types: there is no `{unknown}`")));
                    }
                    wanted.types.extend(types.iter().cloned());
                }
                ("_since", [since]) => {
                    let since = TimeMs::from_instant(since);
                    wanted.since = Some(since.map_err(|_| wrong("an instant such as 2026-01-12T10:05:00Z"))?);
                }
                ("patient", patients) => {
                    let id = |patient: &String| patient.strip_prefix("Patient/").unwrap_or(patient).to_owned();
                    wanted.patients.extend(patients.iter().map(id));
                }
                ("_outputFormat", [format]) => {
                    if !FORMATS.contains(&format.as_str()) {
                        return Err(wrong("application/fhir+ndjson"));
                    }
                }
                ("_format" | "_pretty", _) => {}
                _ => {
                    let text = format!("$export takes `_type`, `_since`, `patient` and `_outputFormat`; not `{name}`");
                    return Err(Failure::invalid(IssueType::NotSupported, "", text));
                }
            }
        }
        Ok(wanted)
    }

    /// The types that are asked for; all but the audit trail, which has an entry for every read, if none is named.
    fn types(&self) -> Vec<&str> {
        match self.types.as_slice() {
            [] => RESOURCE_TYPES.iter().copied().filter(|rtype| *rtype != AUDIT_EVENT).collect(),
            named => named.iter().map(String::as_str).collect(),
        }
    }

    fn takes(&self, row: &Row) -> bool {
        !row.deleted && self.since.is_none_or(|since| row.written_at >= since)
    }
}

impl Node {
    /// Begins an export, and says by which id it is asked for. It ends when `goes_on` says no more that whoever asked may come in.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn start_export(
        &self,
        caller: &Caller,
        scope: Scope,
        request: &str,
        query: &str,
        goes_on: GoesOn,
    ) -> Result<Id16, Failure> {
        let wanted = Wanted::read(query)?;
        // An app that was given none of what it asks for begins nothing.
        for rtype in &wanted.types {
            self.allow_type(caller, Action::Export, rtype).await?;
        }
        if caller.app.as_ref().is_some_and(|app| app.scopes.is_empty()) {
            self.allow_type(caller, Action::Export, "Patient").await?;
        }
        if let Scope::Group(group) = &scope {
            // Who is in it is told by what is exported.
            self.read(caller, "Group", group, None).await?;
        }
        let id = self.new_id()?;
        let (job, files) = self.exports.begin(id, &caller.account(), request, self.now(), goes_on)?;
        let (node, caller, of) = (self.clone(), caller.clone(), Arc::clone(&job));
        let made = tokio::spawn(async move { node.export(&caller, &scope, &wanted, &of, files).await });
        let node = self.clone();
        tokio::spawn(async move {
            // A panic must not leave it under way for ever.
            let made = made.await.unwrap_or_else(|error| Err(Failure::ours("an export broke off", error)));
            node.exports.end(&job, made, node.now()).await;
        });
        Ok(id)
    }

    /// How far an export of this caller is.
    pub fn export_state(&self, caller: &Caller, id: Id16) -> Result<Export, Failure> {
        self.exports.state(id, &caller.account(), self.now())
    }

    /// The place of one file of an export of this caller that is done.
    pub fn export_file(&self, caller: &Caller, id: Id16, rtype: &str) -> Result<PathBuf, Failure> {
        self.exports.file(id, &caller.account(), rtype)
    }

    /// Takes an export away, also while it is made.
    pub fn drop_export(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        self.exports.take_away(id, &caller.account())
    }

    async fn export(
        &self,
        caller: &Caller,
        scope: &Scope,
        wanted: &Wanted,
        job: &Job,
        mut files: Files,
    ) -> Result<Files, Failure> {
        if wanted.types().contains(&AUDIT_EVENT) {
            self.accesses_before(AUDIT_EVENT).await?;
        }
        let patients = self.patients_of(scope, wanted, job).await?;
        let of = patients.len() as u64;
        let mut anything = false;
        for (done, patient) in (0..).zip(&patients) {
            job.is_at(done, of)?;
            anything |= reading_once(self.export_patient(caller, patient, wanted, job, &mut files)).await?;
        }
        if *scope == Scope::System && wanted.patients.is_empty() {
            anything |= self.export_of_nobody(caller, wanted, job, &mut files).await?;
        }
        if !anything {
            self.leave_trail(caller, None, &[], &[], &trail_of(job)).await?;
        }
        Ok(files)
    }

    /// Ids of the patients whose records are asked for, each once.
    async fn patients_of(&self, scope: &Scope, wanted: &Wanted, job: &Job) -> Result<BTreeSet<String>, Failure> {
        let mut patients = match scope {
            Scope::Group(group) => {
                let (row, _, _) = self.sound_row("Group", group, None).await?;
                let value: serde_json::Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
                let members = value["member"].as_array().map(Vec::as_slice).unwrap_or_default();
                let active = members.iter().filter(|member| member["inactive"] != true);
                let names = active.filter_map(|member| member["entity"]["reference"].as_str());
                names.filter_map(|name| name.strip_prefix("Patient/").map(str::to_owned)).collect()
            }
            Scope::System | Scope::Patients => {
                let mut patients = BTreeSet::new();
                let mut search = Search { count: PAGE_MAX, total: false, ..Search::of("Patient") };
                while wanted.patients.is_empty() {
                    let page = self.store.search(search.clone()).await.map_err(search_failure)?;
                    patients.extend(page.found.rows.into_iter().map(|row| row.id));
                    job.goes_on()?;
                    match page.next {
                        Some(next) => search.after = Some(next),
                        None => break,
                    }
                }
                // Whose row was taken away is known by the enrolment.
                if wanted.patients.is_empty() {
                    patients.extend(self.enrolled_patients().await?);
                }
                patients.extend(wanted.patients.iter().cloned());
                patients
            }
        };
        if !wanted.patients.is_empty() {
            patients.retain(|patient| wanted.patients.contains(patient));
        }
        Ok(patients)
    }

    /// Ids of the patients that the ledger knows to be enrolled, and not erased, as far as this organisation ever saw them.
    async fn enrolled_patients(&self) -> Result<Vec<String>, Failure> {
        let erased = self.mirror.erased().await?;
        let mut patients = Vec::new();
        for known in self.mirror.enrolments().await?.into_iter().filter(|known| !erased.has(known)) {
            let name = self.mirror.name(known.tag).await?;
            patients.extend(name.as_deref().and_then(|name| name.strip_prefix("Patient/")).map(str::to_owned));
        }
        Ok(patients)
    }

    /// A patient's records that the caller may take away. Says whether there are any.
    async fn export_patient(
        &self,
        caller: &Caller,
        patient: &str,
        wanted: &Wanted,
        job: &Job,
        files: &mut Files,
    ) -> Result<bool, Failure> {
        let (mut taken, missing) = match self.patient_set(patient, &wanted.types()).await {
            Ok(set) => {
                let rows = set.sound.into_iter().map(|sound| sound.row).filter(|row| wanted.takes(row));
                let taken = self.take(caller, rows.collect(), job, files).await?;
                (taken, missing_of(set.withheld, set.lost.values().sum()))
            }
            // One patient with more records than are taken as a set does not stop the export of all the others.
            Err(Failure::TooLarge(why)) => (Shared::default(), Some(format!("nothing is here: {why}"))),
            Err(failure) => return Err(failure),
        };
        let mut told = !taken.versions.is_empty();
        if let Some(missing) = missing {
            let decided = self.decide_about(caller, patient).await?;
            if told || decided.decision.allow {
                files.warn(IssueType::Incomplete, format!("of Patient/{patient} {missing}")).await?;
                taken.under = taken.under.or(decided.under);
                told = true;
            }
        }
        if told {
            taken.names.push(format!("Patient/{patient}"));
            self.leave_trails(caller, BTreeMap::from([(Some(patient.to_owned()), taken)]), &trail_of(job)).await?;
        }
        Ok(told)
    }

    /// Whether the caller may take something of a patient away at all.
    async fn decide_about(&self, caller: &Caller, patient: &str) -> Result<Decided, Failure> {
        let (id, author) = (Some(patient), &self.org);
        let target = Target { rtype: "Patient", id, patient: id, label: "N", author, value: None };
        self.decide(caller, Action::Export, &target).await
    }

    /// Records that belong to no patient.
    async fn export_of_nobody(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        job: &Job,
        files: &mut Files,
    ) -> Result<bool, Failure> {
        let (mut taken, mut withheld) = (Shared::default(), 0);
        for rtype in wanted.types().into_iter().filter(|rtype| *rtype != "Patient") {
            let mut search = Search { count: PAGE_MAX, total: false, ..Search::of(rtype) };
            loop {
                let (page, worths) = self.current_page(search.clone()).await?;
                withheld += page.found.malformed.len() as u64;
                let sound = sound_of(page.found.rows, worths, &mut withheld).into_iter().map(|(row, _)| row);
                let rows = sound.filter(|row| row.patient.is_none() && wanted.takes(row)).collect();
                let more = self.take(caller, rows, job, files).await?;
                taken.versions.extend(more.versions);
                taken.under = more.under.or(taken.under);
                match page.next {
                    Some(next) => search.after = Some(next),
                    None => break,
                }
            }
        }
        let told = !taken.versions.is_empty();
        if withheld > 0 && told {
            let text = format!("{withheld} rows do not agree with the ledger and are withheld");
            files.warn(IssueType::Incomplete, text).await?;
        }
        if told {
            self.leave_trails(caller, BTreeMap::from([(None, taken)]), &trail_of(job)).await?;
        }
        Ok(told)
    }

    /// Adds the rows that the caller may take away to the files, and gives their commitments.
    async fn take(&self, caller: &Caller, rows: Vec<Row>, job: &Job, files: &mut Files) -> Result<Shared, Failure> {
        let mut taken = Shared::default();
        for row in rows {
            job.goes_on()?;
            let decided = self.decide(caller, Action::Export, &Target::of(&row)).await?;
            if decided.decision.allow {
                files.add(&row.rtype, &row.bytes).await?;
                taken.versions.push(commit(&row.salt, &row.bytes));
                taken.under = decided.under.or(taken.under);
            }
        }
        Ok(taken)
    }
}

/// What there is to say of a set that is not whole.
fn missing_of(withheld: u64, lost: u64) -> Option<String> {
    (withheld + lost > 0).then(|| {
        format!("{withheld} rows do not agree with the ledger and are withheld; {lost} records on the ledger may be missing here")
    })
}

/// What each patient's part leaves in the trail; not which other patients were asked for.
fn trail_of(job: &Job) -> Trail {
    let (path, query) = job.request().split_once('?').unwrap_or((job.request(), ""));
    let kept: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("patient=")).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    let request = format!("{path}{mark}{}", kept.join("&"));
    Trail { query: Some(request), ..Trail::of(Interaction::Operation, AccessAction::Export) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_export_is_asked_for_is_read_and_what_is_not_known_is_refused() {
        let wanted = Wanted::read(
            "_type=Condition,Patient&_since=2026-01-12T10:05:00Z&patient=Patient/a,b&_outputFormat=application%2Ffhir%2Bndjson",
        );
        let wanted = wanted.unwrap();
        assert_eq!(
            (wanted.types, wanted.patients),
            (vec!["Condition".into(), "Patient".into()], vec!["a".into(), "b".into()])
        );
        assert_eq!(wanted.since, TimeMs::from_instant("2026-01-12T10:05:00Z").ok());
        for wrong in
            ["_type=Zebra", "_since=soon", "_outputFormat=text/csv", "_typeFilter=Patient%3Factive%3Dtrue", "x=1"]
        {
            assert!(matches!(Wanted::read(wrong), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}
