//! One durable write: records, their entries and the audit event about them, all or nothing.

use crate::{
    accesses::{Access, AuditedBytes},
    caller::Caller,
    failure::Failure,
    keyring::custodians,
    mirror::Named,
    node::Node,
    subject::Subject,
    without::Part,
};
use contract::{AccessAction, Author, Event, RecordWritten, derive};
use record::{
    Commitment, Id16, TimeMs,
    fhir::{AuditEvent, AuditOutcome, Event as AuditedEvent, Interaction, IssueType, Machine, Party, User},
};
use serde_json::Value;
use std::collections::BTreeMap;
use store::{Expected, NewEntry, NewVersion, Put, PutError, Row, Unless, VersionKey, WrappedKey, extract};

/// A version that is about to be written.
pub(crate) struct Draft {
    pub(crate) rtype: String,
    pub(crate) id: String,
    pub(crate) version: u64,
    /// Commitment of the version before, as the ledger holds it.
    pub(crate) previous: Option<Commitment>,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
    /// The same, for reading.
    pub(crate) value: Value,
    pub(crate) deleted: bool,
    pub(crate) label: String,
    pub(crate) subject: Subject,
    /// The wrapped patient key, when this enrols the patient.
    pub(crate) wrapped: Option<Vec<u8>>,
}

impl Draft {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.rtype, self.id)
    }
}

/// Something else that goes on the ledger with the records: a grant, a handoff, a claim's step.
pub(crate) struct Also<'a> {
    pub(crate) subject: Subject,
    pub(crate) event: Event<'a>,
}

/// How the audit trail speaks of an interaction.
#[derive(Clone)]
pub(crate) struct Trail {
    pub(crate) interaction: Interaction,
    pub(crate) action: AccessAction,
    /// The query of a search.
    pub(crate) query: Option<String>,
    /// The override, claim or case that it rests on.
    pub(crate) under: Option<Id16>,
    /// Why it was denied, when it was.
    pub(crate) denied: Option<String>,
    /// The glass that was broken or closed, when that is the event.
    pub(crate) event: Option<Occasion>,
}

/// A break-glass event.
#[derive(Clone)]
pub(crate) enum Occasion {
    Opened { reason: &'static str, until: TimeMs },
    Closed,
}

impl Occasion {
    fn event(self) -> AuditedEvent<'static> {
        match self {
            Self::Opened { reason, until } => AuditedEvent::OverrideStarted { reason, until },
            Self::Closed => AuditedEvent::OverrideStopped,
        }
    }
}

impl Trail {
    pub(crate) fn of(interaction: Interaction, action: AccessAction) -> Self {
        Self { interaction, action, query: None, under: None, denied: None, event: None }
    }
}

/// One patient's (or nobody's) part of an interaction: the versions and what they are called.
#[derive(Clone, Copy)]
pub(crate) struct Touched<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) versions: &'a [Commitment],
    pub(crate) names: &'a [String],
}

impl<'a> Touched<'a> {
    /// No version at all.
    pub(crate) fn nothing(subject: &'a Subject) -> Self {
        Self { subject, versions: &[], names: &[] }
    }
}

/// Collects one write.
pub(crate) struct Gathered {
    pub(crate) put: Put,
    attachments: Vec<Vec<u8>>,
    names: Vec<Named>,
    /// Whom each of the put's records is about.
    pub(crate) subjects: Vec<Subject>,
    /// Commitments of the versions written, by patient.
    written: BTreeMap<Option<String>, (Subject, Vec<Commitment>, Vec<String>)>,
}

impl Node {
    pub(crate) fn author(&self, caller: &Caller, time: TimeMs) -> Author {
        Author {
            org: self.org.clone(),
            access_policy: self.policies().access.digest(),
            actor: self.own.actor(&caller.user),
            purpose: caller.purpose,
            time,
        }
    }

    /// Derives the entries of `drafts`, with everything that the rows must carry.
    pub(crate) fn gather(&self, caller: &Caller, time: TimeMs, drafts: Vec<Draft>) -> Result<Gathered, Failure> {
        let author = self.author(caller, time);
        let mut gathered = self.empty();
        for draft in drafts {
            let (name, id) = (draft.name(), self.new_id()?);
            let wrapped: Vec<Vec<u8>> = draft.wrapped.iter().cloned().collect();
            let event = Event::RecordWritten(RecordWritten {
                record: &name,
                version: draft.version,
                previous: draft.previous,
                bytes: &draft.bytes,
                resource: &draft.value,
                deleted: draft.deleted,
                wrapped_keys: &wrapped,
            });
            let derived = derive(&self.policies().derivation, &author, Some(&draft.subject.about()), id, &event)
                .map_err(|e| Failure::ours("no entry could be derived", e))?;
            let row = derived.row.ok_or_else(|| Failure::Ours("a record's entry came without a row".to_owned()))?;
            let of = gathered.written.entry(draft.subject.patient.clone());
            let (_, commitments, names) = of.or_insert_with(|| (draft.subject.clone(), Vec::new(), Vec::new()));
            commitments.push(row.commitment);
            names.push(format!("{name}/_history/{}", draft.version));
            gathered.attachments.extend(derived.attachments.into_iter().map(|(_, bytes)| bytes));
            if let (Some(bytes), Some(patient), Some(org)) = (draft.wrapped, &draft.subject.patient, custodians()) {
                gathered.put.wrapped_keys.push(WrappedKey { patient: patient.clone(), org, bytes });
            }
            let key = VersionKey { rtype: draft.rtype.clone(), id: draft.id.clone(), version: draft.version };
            let index = if draft.deleted { Vec::new() } else { extract(&draft.rtype, &draft.value) };
            let expected = if draft.version == 1 { Expected::New } else { Expected::Version(draft.version - 1) };
            let row = Row {
                rtype: draft.rtype,
                id: draft.id,
                version: draft.version,
                bytes: draft.bytes,
                salt: row.salt,
                tag: row.tag,
                pseudonym: row.pseudonym,
                patient: draft.subject.patient.clone(),
                author: self.org.clone(),
                entry: id,
                written_at: time,
                deleted: draft.deleted,
                label: draft.label,
                gathered: None,
            };
            gathered.names.push(Named::of(&row));
            gathered.put.records.push(NewVersion { row, expected, index, template: None });
            gathered.subjects.push(draft.subject);
            gathered.put.entries.push(NewEntry { id, bytes: derived.entry.to_bytes(), record: Some(key) });
        }
        Ok(gathered)
    }

    /// Adds an entry that is about no record's version.
    pub(crate) fn also(
        &self,
        gathered: &mut Gathered,
        author: &Author,
        also: &Also<'_>,
    ) -> Result<contract::Derived, Failure> {
        self.also_as(self.new_id()?, gathered, author, also)
    }

    /// The same under an id that was chosen before.
    pub(crate) fn also_as(
        &self,
        id: Id16,
        gathered: &mut Gathered,
        author: &Author,
        also: &Also<'_>,
    ) -> Result<contract::Derived, Failure> {
        let derived = derive(&self.policies().derivation, author, Some(&also.subject.about()), id, &also.event)
            .map_err(|e| Failure::ours("no entry could be derived", e))?;
        gathered.put.entries.push(NewEntry { id, bytes: derived.entry.to_bytes(), record: None });
        Ok(derived)
    }

    /// Adds the audit event about one patient's (or nobody's) part of an interaction, and the access entry that carries it.
    pub(crate) fn trail(
        &self,
        gathered: &mut Gathered,
        caller: &Caller,
        time: TimeMs,
        touched: &Touched<'_>,
        trail: &Trail,
    ) -> Result<(), Failure> {
        if !self.does(Part::Audit) {
            return Ok(());
        }
        let Access { new, entry, .. } = self.access(caller, time, touched, trail)?;
        gathered.names.push(Named::of(&new.row));
        gathered.put.records.push(new);
        gathered.put.entries.push(entry);
        Ok(())
    }

    /// The audit event about one patient's (or nobody's) part of an interaction, and the access entry that carries it.
    pub(crate) fn access(
        &self,
        caller: &Caller,
        time: TimeMs,
        touched: &Touched<'_>,
        trail: &Trail,
    ) -> Result<Access, Failure> {
        let Touched { subject, versions, names } = *touched;
        let author = self.author(caller, time);
        let id = new_record_id();
        let patient = subject.patient.as_ref().map(|patient| format!("Patient/{patient}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let event = match &trail.denied {
            Some(_) => AuditedEvent::Denied(trail.interaction),
            None => trail.event.clone().map_or(AuditedEvent::Done(trail.interaction), Occasion::event),
        };
        let event = AuditEvent {
            id: &id,
            recorded: time,
            event,
            outcome: AuditOutcome::Success,
            outcome_text: trail.denied.as_deref(),
            client: Machine {
                // The app, where there is one: whoever asks who saw the data learns by which.
                who: Party {
                    display: Some(caller.app.as_ref().map_or(&caller.user, |app| &app.id)),
                    ..Party::default()
                },
                address: &caller.address,
            },
            server: Machine {
                who: Party { display: Some(self.org.as_str()), ..Party::default() },
                address: self.org.as_str(),
            },
            user: Some(User {
                who: Party {
                    identifier: Some((crate::facts::ORG_SYSTEM, &caller.user)),
                    display: Some(&caller.user),
                    reference: None,
                },
                role: Some(caller.role.as_str()),
                purposes: &[caller.purpose],
            }),
            site: self.org.as_str(),
            patient: patient.as_deref(),
            data: &names,
            query: trail.query.as_deref(),
            request_id: Some(&caller.request).filter(|request| !request.is_empty()).map(String::as_str),
            confidentiality: None,
        };
        self.access_of(&author, subject, &event, versions, trail)
    }

    /// An audit event, and the access entry that carries it.
    pub(crate) fn access_of(
        &self,
        author: &Author,
        subject: &Subject,
        event: &AuditEvent<'_>,
        versions: &[Commitment],
        trail: &Trail,
    ) -> Result<Access, Failure> {
        let (id, bytes, filed) = (event.id, event.to_json(), self.filing.of(event)?);
        let audit = contract::AuditEvent { record: &format!("AuditEvent/{id}"), bytes: &bytes };
        let event = match trail.denied {
            Some(_) => Event::Denied { action: trail.action, under: trail.under, audit },
            None => Event::Disclosed { action: trail.action, versions, under: trail.under, audit },
        };
        let entry = self.new_id()?;
        let derived = derive(&self.policies().derivation, author, Some(&subject.about()), entry, &event)
            .map_err(|e| Failure::ours("no entry could be derived", e))?;
        let row = derived.row.ok_or_else(|| Failure::Ours("an audit event's entry came without a row".to_owned()))?;
        let event = AuditedBytes { id: id.to_owned(), bytes, filed };
        Access::of(event, subject.patient.clone(), row.salt, derived.entry)
            .ok_or_else(|| Failure::Ours("the entry of an audit event is no access".to_owned()))
    }

    /// Adds one audit event for each patient written about, then writes everything. Answers when it is durable.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn commit(
        &self,
        caller: &Caller,
        time: TimeMs,
        mut gathered: Gathered,
        conditions: Vec<Unless>,
        trail: &Trail,
    ) -> Result<(), Failure> {
        for (subject, commitments, names) in std::mem::take(&mut gathered.written).into_values() {
            let touched = Touched { subject: &subject, versions: &commitments, names: &names };
            self.trail(&mut gathered, caller, time, &touched, trail)?;
        }
        gathered.put.conditions = conditions;
        self.put(gathered).await
    }

    /// Refuses what people would write while another key has the place of this gateway's entry key: nobody knows when it would become
    /// final. Reads, alarms and overrides go on; what they leave is kept in the journal and signed by the key that counts once it is here.
    pub(crate) fn takes_writes(&self) -> Result<(), Failure> {
        if self.signer.is_spent() { Err(Failure::SpentKey) } else { Ok(()) }
    }

    /// Puts attachments into the vault, then everything else into database and journal.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn put(&self, gathered: Gathered) -> Result<(), Failure> {
        if !gathered.attachments.is_empty() && self.does(Part::Anchoring) {
            self.ledger
                .put_attachments(gathered.attachments)
                .await
                .map_err(|e| Failure::ours("the vault did not take an essential copy", e))?;
        }
        self.keep(gathered.put).await?;
        // Written is written: a name that is not remembered is found again by the next audit.
        if let Err(error) = self.mirror.learn_names(gathered.names).await {
            tracing::warn!(%error, "names of records could not be remembered");
        }
        Ok(())
    }

    /// Hands rows and their entries to the database.
    pub(crate) async fn keep(&self, mut put: Put) -> Result<(), Failure> {
        if !self.does(Part::Anchoring) {
            put.entries.clear();
        }
        self.store.put(put).await.map_err(put_failure)?;
        Ok(())
    }

    /// A write that has nothing yet.
    pub(crate) fn empty(&self) -> Gathered {
        Gathered {
            put: Put::default(),
            attachments: Vec::new(),
            names: Vec::new(),
            subjects: Vec::new(),
            written: BTreeMap::new(),
        }
    }
}

/// A logical id that nobody has used. Ids of one time lie side by side, which keeps the indexes of the database small in memory.
pub(crate) fn new_record_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub(crate) fn put_failure(error: PutError) -> Failure {
    match error {
        PutError::Busy => Failure::Busy,
        PutError::Unavailable => Failure::Unreachable,
        PutError::TooLarge { .. } => Failure::TooLarge(error.to_string()),
        PutError::Conflict { rtype, id, found, .. } => {
            let found = found.map_or("none".to_owned(), |version| format!("W/\"{version}\""));
            Failure::Precondition(format!("`{rtype}/{id}` is at version {found}: read it again and repeat the change"))
        }
        PutError::Matched { rtype, .. } => Failure::Conflict(format!(
            "a `{rtype}` that meets the condition was created at the same time: repeat the request"
        )),
        PutError::FrameConflict { .. } => Failure::Conflict(error.to_string()),
        PutError::Invalid(what) => Failure::invalid(IssueType::Invalid, "", what),
        other => Failure::ours("the write was not carried out", other),
    }
}
