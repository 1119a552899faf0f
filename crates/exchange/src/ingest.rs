//! What comes in: create, update, delete, and bundles of them.

use crate::{
    amend::{self, Matched},
    boxed,
    caller::Caller,
    consent::check_consent,
    disclose::{Shared, shared},
    facts::Target,
    failure::Failure,
    keys,
    node::Node,
    subject::Subject,
    subscription::{SUBSCRIPTION, not_alone},
    take::to_the_end,
    wrap,
    write::{Draft, Trail, new_record_id},
};
use contract::AccessAction;
use futures::{StreamExt, TryStreamExt, stream};
use policy::Action;
use record::{
    Commitment, OrgRole, PatientKey, TimeMs, commit,
    fhir::{
        self, BundleKind, EntryAnswer, Interaction, Issue, IssueType, Limits, Outcome, Plan, Question, Resource, Step,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::AtomicUsize,
};
use store::{Row, Unless};

/// How often a write that lost against another one is tried again before the caller is told.
pub(crate) const ATTEMPTS: usize = 3;

/// Entries of a batch that are carried out side by side.
const BATCH_AT_ONCE: usize = 16;

/// A record as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their version.
    pub version: u64,
    /// When that version was written.
    pub written_at: TimeMs,
    /// Whether its entry is not final yet.
    pub pending: bool,
    /// Whether the database's row was bad and this comes from a vault.
    pub repaired: bool,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `Type/id`.
    pub record: String,
    /// Whether the record is new.
    pub created: bool,
    /// The version.
    pub shown: Shown,
}

impl Written {
    /// What a draft is once it is written.
    pub(crate) fn of(draft: &Draft, time: TimeMs) -> Self {
        let (bytes, version) = (draft.bytes.clone(), draft.version);
        let shown = Shown { bytes, version, written_at: time, pending: true, repaired: false };
        Self { record: draft.name(), created: version == 1, shown }
    }
}

/// Patients that one request enrols: their keys, until the request is written.
pub(crate) type Newcomers = HashMap<String, PatientKey>;

impl Node {
    /// Creates a record under a new id. With a condition, only if no record matches it.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn create(
        &self,
        caller: &Caller,
        rtype: &str,
        bytes: &[u8],
        condition: Option<&str>,
    ) -> Result<Written, Failure> {
        let resource = admit(rtype, bytes)?;
        let id = new_record_id();
        let Some(query) = condition else { return self.create_as(caller, &id, &resource, Vec::new()).await };
        match self.the_one_matching(caller, rtype, query).await? {
            Matched::None(unless) => self.create_as(caller, &id, &resource, vec![unless]).await,
            Matched::One { id: existing, .. } => {
                let shown = self.read(caller, rtype, &existing, None).await?;
                Ok(Written { record: format!("{rtype}/{existing}"), created: false, shown })
            }
        }
    }

    /// Writes the first version of a record, unless something meets one of the conditions by then.
    pub(crate) async fn create_as(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        conditions: Vec<Unless>,
    ) -> Result<Written, Failure> {
        if resource.rtype() == SUBSCRIPTION {
            return self.subscribe(caller, id, resource, conditions).await;
        }
        let time = self.now();
        let mut newcomers = Newcomers::new();
        let draft = self.draft_new(caller, id, resource, time, &mut newcomers).await?;
        let written = Written::of(&draft, time);
        self.write(caller, time, vec![draft], conditions, &Trail::of(Interaction::Create, AccessAction::Write)).await?;
        self.welcome(newcomers);
        Ok(written)
    }

    /// Writes the next version of a record, or its first under an id that the client chose.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn update(
        &self,
        caller: &Caller,
        rtype: &str,
        id: &str,
        bytes: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        let resource = admit(rtype, bytes)?;
        check_id(&resource, id)?;
        self.replace(caller, id, &resource, if_match).await
    }

    /// Writes the next version of a record, or its first.
    pub(crate) async fn replace(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        if resource.rtype() == SUBSCRIPTION {
            return self.resubscribe(caller, id, resource, if_match).await;
        }
        for attempt in 1.. {
            let time = self.now();
            let mut newcomers = Newcomers::new();
            let draft = self.draft_next(caller, id, resource, if_match, time, &mut newcomers).await?;
            let written = Written::of(&draft, time);
            let trail = Trail::of(Interaction::Update, AccessAction::Write);
            match self.write(caller, time, vec![draft], Vec::new(), &trail).await {
                // Somebody else was faster. The caller named no version, so theirs comes after.
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                Err(failure) => return Err(failure),
                Ok(()) => {
                    self.welcome(newcomers);
                    return Ok(written);
                }
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Deletes a record: its next version says that it is gone.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn delete(&self, caller: &Caller, rtype: &str, id: &str, if_match: Option<u64>) -> Result<(), Failure> {
        check_type(rtype)?;
        let time = self.now();
        let Some(draft) = self.draft_deletion(caller, rtype, id, if_match, time).await? else { return Ok(()) };
        let trail = Trail::of(Interaction::Delete, AccessAction::Write);
        if rtype != SUBSCRIPTION {
            return self.write(caller, time, vec![draft], Vec::new(), &trail).await;
        }
        let (node, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        // Deleted and forgotten both, also when nobody waits for the answer any more.
        to_the_end(async move {
            node.write(&caller, time, vec![draft], Vec::new(), &trail).await?;
            node.unsubscribe(&id).await
        })
        .await
    }

    /// Carries out a batch (each entry on its own) or a transaction (all or nothing).
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn bundle(&self, caller: &Caller, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let bundle = fhir::Bundle::parse(bytes, Limits::BUNDLE).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        match bundle.kind {
            BundleKind::Batch => self.batch(caller, bundle).await,
            BundleKind::Transaction => self.transaction(caller, bundle).await,
        }
    }

    async fn batch(&self, caller: &Caller, bundle: fhir::Bundle) -> Result<Vec<u8>, Failure> {
        let shown = AtomicUsize::default();
        // Entries are carried out side by side, so that many share one commit.
        let answers = stream::iter(bundle.entries).map(|entry| async {
            let answer = match entry {
                Ok(entry) => self.batch_entry(caller, entry, &shown).await,
                Err(error) => Err(Failure::Invalid(vec![error.into()])),
            };
            answer.unwrap_or_else(|failure| failed(&failure))
        });
        let answers: Vec<EntryAnswer> = answers.buffered(BATCH_AT_ONCE).collect().await;
        Ok(fhir::bundle_response(BundleKind::Batch, &answers))
    }

    async fn batch_entry(
        &self,
        caller: &Caller,
        entry: fhir::Entry,
        shown: &AtomicUsize,
    ) -> Result<EntryAnswer, Failure> {
        if entry.method == fhir::Method::Get {
            return self.got(caller, &entry, shown).await;
        }
        let plan = Plan::of_one(entry, |_| new_record_id()).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        let answers = self.carry_out(caller, plan, Interaction::Batch).await?;
        answers.into_iter().next().ok_or_else(|| Failure::Ours("a batch entry came to nothing".to_owned()))
    }

    async fn transaction(&self, caller: &Caller, bundle: fhir::Bundle) -> Result<Vec<u8>, Failure> {
        let is_get = |entry: &Result<fhir::Entry, _>| entry.as_ref().is_ok_and(|of| of.method == fhir::Method::Get);
        if !bundle.entries.is_empty() && bundle.entries.iter().all(is_get) {
            let shown = AtomicUsize::default();
            let shown = &shown;
            let read = stream::iter(bundle.entries.into_iter().flatten()).map(|entry| async move {
                let got = self.got(caller, &entry, shown).await;
                got.map_err(|failure| at(failure, &format!("{}.request.url", entry.expression())))
            });
            let answers: Vec<EntryAnswer> = read.buffered(BATCH_AT_ONCE).try_collect().await?;
            return Ok(fhir::bundle_response(BundleKind::Transaction, &answers));
        }
        let plan = Plan::new(bundle, |_| new_record_id()).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        let answers = self.carry_out(caller, plan, Interaction::Transaction).await?;
        Ok(fhir::bundle_response(BundleKind::Transaction, &answers))
    }

    /// Carries out a plan, all or nothing. Answers in the Bundle's order.
    async fn carry_out(
        &self,
        caller: &Caller,
        plan: Plan,
        interaction: Interaction,
    ) -> Result<Vec<EntryAnswer>, Failure> {
        let questions: Vec<Question> = plan.questions().cloned().collect();
        let answers = self.answers(caller, &questions).await?;
        let steps = plan.resolve(&answers).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        let time = self.now();
        let mut newcomers = Newcomers::new();
        // Patients first, so that what is about them finds their keys.
        for step in &steps {
            if let fhir::Action::Create { id, resource } = &step.action
                && resource.rtype() == "Patient"
            {
                newcomers.insert(id.clone(), new_key()?);
            }
        }
        let mut drafts = Vec::with_capacity(steps.len());
        let mut replies: BTreeMap<usize, EntryAnswer> = BTreeMap::new();
        let mut conditions = Vec::new();
        for step in steps {
            let index = step.index;
            let place = format!("Bundle.entry[{index}].resource");
            let drafted = self.draft_step(caller, step, time, &mut newcomers, &mut conditions).await;
            match drafted.map_err(|failure| at(failure, &place))? {
                Drafted::Draft(draft) => {
                    let status = match (draft.deleted, draft.version) {
                        (true, _) => 204,
                        (false, 1) => 201,
                        (false, _) => 200,
                    };
                    let answer = EntryAnswer {
                        status,
                        location: Some(format!("{}/_history/{}", draft.name(), draft.version)),
                        version: Some(draft.version),
                        last_modified: Some(time),
                        ..EntryAnswer::default()
                    };
                    replies.insert(index, answer);
                    drafts.push(*draft);
                }
                Drafted::Answer(answer) => {
                    replies.insert(index, answer);
                }
            }
        }
        self.write(caller, time, drafts, conditions, &Trail::of(interaction, AccessAction::Write)).await?;
        self.welcome(newcomers);
        Ok(replies.into_values().collect())
    }

    /// What each condition of a Bundle finds. The trail has one entry for each patient whose records were found, with the conditions
    /// that found them and no others: those may name other patients.
    async fn answers(&self, caller: &Caller, questions: &[Question]) -> Result<Vec<fhir::Answer>, Failure> {
        let mut answers = Vec::with_capacity(questions.len());
        let mut told: BTreeMap<Option<String>, (Shared, Vec<String>)> = BTreeMap::new();
        for question in questions {
            let condition = self.condition(question.rtype.as_str(), &question.query)?;
            let found = self.matching(caller, &condition).await?;
            answers.push(match found.as_slice() {
                [] => fhir::Answer::None,
                [one] => fhir::Answer::One(one.row.id.clone()),
                _ => fhir::Answer::Many,
            });
            let mut by_patient = shared(found.iter());
            if by_patient.is_empty() {
                by_patient.insert(condition.patient, Shared::default());
            }
            for (patient, found) in by_patient {
                let (all, queries) = told.entry(patient).or_default();
                all.versions.extend(found.versions);
                all.names.extend(found.names);
                all.under = found.under.or(all.under);
                queries.push(format!("{}?{}", question.rtype, question.query));
            }
        }
        for (patient, (found, queries)) in told {
            let trail = Trail {
                query: Some(queries.join(" ")),
                under: found.under,
                ..Trail::of(Interaction::Search, AccessAction::Search)
            };
            self.leave_trail(caller, patient.as_deref(), &found.versions, &found.names, &trail).await?;
        }
        Ok(answers)
    }

    async fn draft_step(
        &self,
        caller: &Caller,
        step: Step,
        time: TimeMs,
        newcomers: &mut Newcomers,
        conditions: &mut Vec<Unless>,
    ) -> Result<Drafted, Failure> {
        let rtype = match &step.action {
            fhir::Action::Create { resource, .. } | fhir::Action::Update { resource, .. } => Some(resource.rtype()),
            fhir::Action::Delete { rtype, .. } | fhir::Action::Patch { rtype, .. } => Some(*rtype),
            _ => None,
        };
        if rtype.is_some_and(|rtype| rtype == SUBSCRIPTION) {
            return Err(not_alone());
        }
        match step.action {
            fhir::Action::Create { id, resource } => {
                check(&resource)?;
                // The condition of a create, or of an update that nothing met.
                let condition = match (&step.entry.if_none_exist, &step.entry.target) {
                    (Some(query), _) | (None, fhir::Target::Query(_, query)) => Some(query),
                    _ => None,
                };
                if let Some(query) = condition {
                    let rtype = resource.rtype().as_str().to_owned();
                    let criteria = self.condition(&rtype, query)?.search.criteria;
                    conditions.push(Unless { rtype, criteria });
                }
                if step.entry.method == fhir::Method::Put {
                    // The client chose the id.
                    self.is_free(caller, resource.rtype().as_str(), &id).await?;
                }
                Ok(Drafted::Draft(Box::new(self.draft_new(caller, &id, &resource, time, newcomers).await?)))
            }
            fhir::Action::Existing { rtype, id } => {
                let location = Some(format!("{}/{id}", rtype.as_str()));
                Ok(Drafted::Answer(EntryAnswer { status: 200, location, ..EntryAnswer::default() }))
            }
            fhir::Action::Update { id, if_match, resource } => {
                check(&resource)?;
                let if_match = version_of(if_match.as_deref())?;
                Ok(Drafted::Draft(Box::new(self.draft_next(caller, &id, &resource, if_match, time, newcomers).await?)))
            }
            fhir::Action::Delete { rtype, id, if_match } => {
                let if_match = version_of(if_match.as_deref())?;
                Ok(match self.draft_deletion(caller, rtype.as_str(), &id, if_match, time).await? {
                    Some(draft) => Drafted::Draft(Box::new(draft)),
                    None => Drafted::Answer(EntryAnswer { status: 204, ..EntryAnswer::default() }),
                })
            }
            fhir::Action::NothingToDelete => Ok(Drafted::Answer(EntryAnswer { status: 204, ..EntryAnswer::default() })),
            fhir::Action::Patch { rtype, id, if_match, patch } => {
                let if_match = version_of(if_match.as_deref())?;
                let patch = fhir::patch_in(&patch).map_err(amend::not_patched)?;
                let draft = self.draft_patched(caller, rtype.as_str(), &id, &patch, if_match, time).await?;
                Ok(Drafted::Draft(Box::new(draft)))
            }
            fhir::Action::Other => {
                let text = "this kind of entry is not offered in a transaction that writes: read by a batch, or by a transaction that only reads";
                Err(Failure::Unsupported(text.to_owned()))
            }
        }
    }

    /// Decides, and drafts the first version of a record.
    pub(crate) async fn draft_new(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        time: TimeMs,
        newcomers: &mut Newcomers,
    ) -> Result<Draft, Failure> {
        let rtype = resource.rtype().as_str();
        let patient = if rtype == "Patient" { Some(id.to_owned()) } else { patient_of(resource) };
        let value = resource.value();
        let label = resource.confidentiality().code();
        let target = Target {
            rtype,
            patient: patient.as_deref(),
            label,
            author: &self.org,
            value: Some((&value).into()),
            id: Some(id),
        };
        self.allow(caller, Action::Create, &target).await?;
        check_consent(rtype, &value)?;
        let mut wrapped = None;
        let subject = if rtype == "Patient" {
            if matches!(self.role, OrgRole::Insurer) {
                return Err(Failure::Conflict(
                    "an insurer cannot enrol patients: it may not hold their keys".to_owned(),
                ));
            }
            let key = match newcomers.get(id) {
                Some(key) => key.clone(),
                None => new_key()?,
            };
            newcomers.insert(id.to_owned(), key.clone());
            wrapped = Some(
                wrap::wrap(&key, &self.custodians().await?)
                    .map_err(|e| Failure::ours("the patient key could not be wrapped", e))?,
            );
            self.newcomer(id, key)
        } else {
            self.subject_among(patient.as_deref(), newcomers).await?
        };
        Ok(Draft {
            rtype: rtype.to_owned(),
            id: id.to_owned(),
            version: 1,
            previous: None,
            bytes: resource.stamped(id, 1, time),
            value,
            deleted: false,
            label: label.to_owned(),
            subject,
            wrapped,
        })
    }

    async fn subject_among(&self, patient: Option<&str>, newcomers: &Newcomers) -> Result<Subject, Failure> {
        match patient {
            None => Ok(self.nobody()),
            Some(patient) => match newcomers.get(patient) {
                Some(key) => Ok(self.newcomer(patient, key.clone())),
                None => self.subject(patient).await.map_err(refers_to),
            },
        }
    }

    /// Decides, and drafts the version after the current one; or the first, if there is none.
    async fn draft_next(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        if_match: Option<u64>,
        time: TimeMs,
        newcomers: &mut Newcomers,
    ) -> Result<Draft, Failure> {
        let rtype = resource.rtype().as_str();
        let Some((row, previous)) = self.current(rtype, id).await? else {
            if if_match.is_some() {
                self.allow_type(caller, Action::Update, rtype).await?;
                return Err(Failure::Precondition(format!(
                    "`{rtype}/{id}` does not exist, so no version of it can match"
                )));
            }
            return self.draft_new(caller, id, resource, time, newcomers).await;
        };
        // Which version it is, only those are told who may write the next.
        let expected = expect_version(&row, if_match);
        let draft = self.draft_after(caller, row, previous, resource, time).await?;
        expected.map(|()| draft)
    }

    /// Decides, and drafts the version after this one.
    pub(crate) async fn draft_after(
        &self,
        caller: &Caller,
        row: Row,
        previous: Commitment,
        resource: &Resource,
        time: TimeMs,
    ) -> Result<Draft, Failure> {
        let (rtype, id) = (row.rtype.as_str(), row.id.as_str());
        let patient = if rtype == "Patient" { Some(id.to_owned()) } else { patient_of(resource) };
        let value = resource.value();
        let label = resource.confidentiality().code();
        // Both what it was and what it becomes must be in the caller's reach.
        self.allow(caller, Action::Update, &Target::of(&row)).await?;
        let after = Target {
            rtype,
            patient: patient.as_deref(),
            label,
            author: &row.author,
            value: Some((&value).into()),
            id: Some(id),
        };
        self.allow(caller, Action::Update, &after).await?;
        check_consent(rtype, &value)?;
        let subject = self.subject_of_update(&format!("{rtype}/{id}"), &row, patient.as_deref()).await;
        let subject = subject.map_err(refers_to)?;
        let version = row.version + 1;
        Ok(Draft {
            rtype: rtype.to_owned(),
            id: id.to_owned(),
            version,
            previous: Some(previous),
            bytes: resource.stamped(id, version, time),
            value,
            deleted: false,
            label: label.to_owned(),
            subject,
            wrapped: None,
        })
    }

    async fn draft_deletion(
        &self,
        caller: &Caller,
        rtype: &str,
        id: &str,
        if_match: Option<u64>,
        time: TimeMs,
    ) -> Result<Option<Draft>, Failure> {
        let Some((row, previous)) = self.current(rtype, id).await?.filter(|(row, _)| !row.deleted) else {
            self.allow_type(caller, Action::Delete, rtype).await?;
            return Ok(None);
        };
        self.allow(caller, Action::Delete, &Target::of(&row)).await?;
        expect_version(&row, if_match)?;
        let subject = self.subject_of_update(&format!("{rtype}/{id}"), &row, row.patient.as_deref()).await?;
        let version = row.version + 1;
        let bytes = tombstone(rtype, id, version, time);
        let bytes = bytes.ok_or_else(|| Failure::NotFound(format!("{rtype}/{id}")))?;
        Ok(Some(Draft {
            rtype: rtype.to_owned(),
            id: id.to_owned(),
            version,
            previous: Some(previous),
            bytes,
            value: serde_json::Value::Null,
            deleted: true,
            label: row.label.clone(),
            subject,
            wrapped: None,
        }))
    }

    /// The current version of a record with its commitment. A row that does not agree with the ledger is not built upon.
    pub(crate) async fn current(&self, rtype: &str, id: &str) -> Result<Option<(Row, Commitment)>, Failure> {
        let Some((row, worth)) = self.current_row(rtype, id).await? else {
            // A row that is gone although the ledger has the record is not a place for a new one.
            let name = format!("{rtype}/{id}");
            let Some(tag) = self.mirror.tag(name.clone()).await? else { return Ok(None) };
            let erased = match self.mirror.heads(vec![tag]).await?.into_iter().next().flatten() {
                Some(known) => self.mirror.erased().await?.has(&known),
                None => false,
            };
            return Err(if erased { Failure::Gone(name) } else { Failure::Tampered(name) });
        };
        if !worth.may_be_shown() {
            return Err(Failure::Tampered(format!("{rtype}/{id}")));
        }
        let commitment = commit(&row.salt, &row.bytes);
        Ok(Some((row, commitment)))
    }

    /// Keeps the keys of patients that are enrolled now.
    fn welcome(&self, newcomers: Newcomers) {
        for (patient, key) in newcomers {
            self.keyring.learn(&patient, key);
        }
    }

    /// Writes drafts with everything that follows from them.
    pub(crate) async fn write(
        &self,
        caller: &Caller,
        time: TimeMs,
        drafts: Vec<Draft>,
        mut conditions: Vec<Unless>,
        trail: &Trail,
    ) -> Result<(), Failure> {
        if drafts.is_empty() {
            // That a condition matched is a disclosure, too.
            return self.leave_trail(caller, None, &[], &[], trail).await;
        }
        self.takes_writes()?;
        let of_logins = self.check_logins(caller, &drafts).await?;
        let is_about_logins = of_logins.is_some();
        conditions.extend(of_logins.into_iter().flatten());
        let mut gathered = self.gather(caller, time, drafts)?;
        let consequences = self.consequences(&gathered).await?;
        let author = self.author(caller, time);
        for consequence in &consequences {
            consequence.add(self, &mut gathered, &author)?;
        }
        self.commit(caller, time, gathered, conditions, trail).await?;
        if is_about_logins {
            self.follow_directory().await;
        }
        Ok(())
    }
}

enum Drafted {
    Draft(Box<Draft>),
    Answer(EntryAnswer),
}

fn new_key() -> Result<PatientKey, Failure> {
    let bytes = keys::random().map_err(|e| Failure::ours("no patient key could be made", e))?;
    Ok(PatientKey::from_bytes(*bytes))
}

/// What is missing is the patient that the resource refers to, and not what the address names.
fn refers_to(failure: Failure) -> Failure {
    match failure {
        Failure::NotFound(record) => {
            Failure::invalid(IssueType::NotFound, "", format!("it refers to `{record}`, which is not here"))
        }
        other => other,
    }
}

/// The bytes of the version that deletes a record. They name it, so that it is a row like any other, and hold nothing else, so that
/// a recovery can write them once more.
pub(crate) fn tombstone(rtype: &str, id: &str, version: u64, time: TimeMs) -> Option<Vec<u8>> {
    let named = format!("{{\"resourceType\":\"{rtype}\"}}");
    let named = Resource::parse(named.as_bytes(), Limits::RESOURCE).ok()?;
    Some(named.stamped(id, version, time))
}

/// The id of the Patient that a resource is about.
pub(crate) fn patient_of(resource: &Resource) -> Option<String> {
    resource.patient_reference()?.strip_prefix("Patient/").map(str::to_owned)
}

pub(crate) fn check_type(rtype: &str) -> Result<(), Failure> {
    let known = rtype.parse::<fhir::ResourceType>().is_ok();
    known
        .then_some(())
        .ok_or_else(|| Failure::NotFound(format!("the resource type {}", rtype.chars().take(64).collect::<String>())))
}

/// Reads a resource of the type that the address names, and checks it.
pub(crate) fn admit(rtype: &str, bytes: &[u8]) -> Result<Resource, Failure> {
    check_type(rtype)?;
    let resource = Resource::parse(bytes, Limits::RESOURCE).map_err(|e| Failure::Invalid(vec![e.into()]))?;
    if resource.rtype() != rtype {
        let text = format!("the address says `{rtype}` and the body is a `{}`", resource.rtype().as_str());
        return Err(Failure::invalid(IssueType::Invalid, "resourceType", text));
    }
    check(&resource)?;
    Ok(resource)
}

pub(crate) fn check(resource: &Resource) -> Result<(), Failure> {
    fhir::check(resource).map_err(|problems| Failure::Invalid(problems.into_iter().map(Issue::from).collect()))
}

fn check_id(resource: &Resource, id: &str) -> Result<(), Failure> {
    match resource.id() {
        Some(inside) if inside == id => Ok(()),
        Some(_) => Err(Failure::invalid(IssueType::Invalid, "id", "the body's id is not the address's")),
        None => Err(Failure::invalid(IssueType::Required, "id", "an update must carry its id in the body")),
    }
}

pub(crate) fn expect_version(row: &Row, if_match: Option<u64>) -> Result<(), Failure> {
    match if_match {
        Some(version) if version != row.version => Err(Failure::Precondition(format!(
            "`{}/{}` is at version W/\"{}\": read it again and repeat the change",
            row.rtype, row.id, row.version
        ))),
        _ => Ok(()),
    }
}

/// The version in an ETag such as `W/"3"`.
fn version_of(etag: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(etag) = etag else { return Ok(None) };
    let version = etag.trim().strip_prefix("W/\"").and_then(|rest| rest.strip_suffix('"')?.parse().ok());
    version.map(Some).ok_or_else(|| Failure::invalid(IssueType::Value, "", "ifMatch must be of the form W/\"3\""))
}

/// The same failure, said to be within `place`.
fn at(failure: Failure, place: &str) -> Failure {
    let Failure::Invalid(issues) = failure else { return failure };
    let place_issue = |mut issue: Issue| {
        for expression in &mut issue.expression {
            *expression = format!("{place}.{}", expression.split_once('.').map_or("", |(_, rest)| rest));
        }
        if issue.expression.is_empty() { issue.at(place) } else { issue }
    };
    Failure::Invalid(issues.into_iter().map(place_issue).collect())
}

/// The answer to a batch entry that failed.
fn failed(failure: &Failure) -> EntryAnswer {
    let (status, kind) = match failure {
        Failure::Denied { .. } => (403, IssueType::Forbidden),
        Failure::Invalid(issues) => {
            return EntryAnswer { status: 422, outcome: Outcome::of(issues.clone()), ..EntryAnswer::default() };
        }
        Failure::NotFound(_) => (404, IssueType::NotFound),
        Failure::Gone(_) | Failure::LetGo(_) => (410, IssueType::Deleted),
        Failure::Precondition(_) => (412, IssueType::Conflict),
        Failure::Conflict(_) => (409, IssueType::Conflict),
        Failure::Duplicate(_) => (409, IssueType::Duplicate),
        Failure::TooFast { .. } => (429, IssueType::Throttled),
        Failure::TooLarge(_) => (413, IssueType::TooLong),
        Failure::MediaType(_) => (415, IssueType::NotSupported),
        Failure::Unsupported(_) => (400, IssueType::NotSupported),
        Failure::Tampered(_) => (503, IssueType::Security),
        Failure::Busy | Failure::Unreachable => (503, IssueType::Throttled),
        Failure::SpentKey => (503, IssueType::Exception),
        Failure::Ours(_) => (500, IssueType::Exception),
    };
    let outcome = Some(Outcome::new(Issue::error(kind, failure.to_string())));
    EntryAnswer { status, outcome, ..EntryAnswer::default() }
}
