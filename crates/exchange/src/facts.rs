//! What a decision rests on beside person and record: overrides, cases, consents, and what claims link.

use crate::{
    accesses::Access,
    caller::Caller,
    consent::{Content, Labelled, own_label, person},
    desk::{Case, OpenOverride},
    disclose::Shared,
    failure::Failure,
    members::News,
    node::Node,
    without::Part,
    write::{Touched, Trail},
};
use contract::{AccessAction, Body, Entry, may_write, must_rest_on_something};
use policy::{Action, Consented, Decision, Facts, Reason, Record, Request};
use record::{
    Id16, OrgId, Purpose, Role, commit,
    fhir::{Confidentiality, Interaction},
};
use serde_json::Value;
use std::collections::BTreeMap;
use store::Row;

/// The identifier system of member organisations in references.
pub const ORG_SYSTEM: &str = "https://vitaltrace.org/org";

/// Why somebody who looked for something found nothing, where all that is shown must rest on an override or a case.
const RESTS_ON_NOTHING: &str = "nothing is shown without an override or a case that is open";

/// The record that a decision is about.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) rtype: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) patient: Option<&'a str>,
    pub(crate) label: &'a str,
    pub(crate) author: &'a OrgId,
    /// The resource, where it is at hand: its content decides as well.
    pub(crate) value: Option<Content<'a>>,
}

impl<'a> Target<'a> {
    pub(crate) fn of(row: &'a Row) -> Self {
        Self {
            rtype: &row.rtype,
            id: Some(&row.id),
            patient: row.patient.as_deref(),
            label: &row.label,
            author: &row.author,
            value: Some(Content::Row(row)),
        }
    }
}

/// What was decided, and what the access rests on.
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    /// The override or case.
    pub(crate) under: Option<Id16>,
}

impl Node {
    /// Decides without a trace: the caller of this makes the trace.
    pub(crate) async fn decide(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target<'_>,
    ) -> Result<Decided, Failure> {
        let app = caller.app.as_ref();
        if let Some(decision) = app.and_then(|app| app.refusal(action, target.rtype, target.patient)) {
            self.meters.decided(false);
            return Ok(Decided { decision, under: None });
        }
        if let Some(decision) = crate::subscription::refusal(caller, target) {
            self.meters.decided(false);
            return Ok(Decided { decision, under: None });
        }
        let mut labelled = Labelled::of(target);
        let (facts, under) = self.facts(caller, action, target, &labelled).await?;
        // What was said of the use weighs the record as it is; whoever wrote it to treat knows what it says, unless the patient refuses it.
        let own = own_label(target.label);
        let looks = matches!(action, Action::Read | Action::Search | Action::Summary);
        if looks
            && own < Confidentiality::Restricted
            && labelled.label >= Confidentiality::Restricted
            && facts.consent != Consented::Deny
            && treats_in_person(caller)
            && let Some(Content::Row(row)) = target.value
            && self.wrote(caller, row).await?
        {
            labelled.label = own;
        }
        let policies = self.policies();
        let record_type = match target.value {
            Some(Content::Read(value)) => policies.derivation.record_type_of(target.rtype, value),
            Some(Content::Row(row)) => policies.derivation.record_type_of_bytes(target.rtype, &row.bytes),
            None => policies.derivation.record_type(target.rtype),
        };
        // Whatever the policy lets somebody write: what the ledger refuses is never answered as written.
        if matches!(action, Action::Create | Action::Update | Action::Delete) && !may_write(self.role, record_type) {
            self.meters.decided(false);
            let sentence = "an organisation of this kind keeps no records of this type".to_owned();
            let reasons = vec![Reason { policy: "organisation".to_owned(), sentence }];
            return Ok(Decided { decision: Decision { allow: false, suppressed: false, reasons }, under });
        }
        let request = Request {
            person: person(caller),
            action,
            record: Record {
                fhir_type: target.rtype,
                record_type,
                patient: target.patient,
                label: labelled.label.code(),
                author: target.author,
            },
            purpose: caller.purpose,
            facts,
        };
        let decision = policies.decide(&request, self.now());
        self.meters.decided(decision.allow);
        Ok(Decided { decision, under })
    }

    /// Whether the caller wrote this version, as its entry says, which the row is held against; the row's own word is not enough. What was
    /// written before the caller had the name is somebody else's.
    async fn wrote(&self, caller: &Caller, row: &Row) -> Result<bool, Failure> {
        let Some(since) = caller.person_since.filter(|_| row.author == self.org) else { return Ok(false) };
        let entry = match self.mirror.version(row.tag, row.version).await? {
            Some(known) if known.org == self.org && known.commitment == commit(&row.salt, &row.bytes) => {
                let entry = self.mirror.entry(known.entry, &known.org).await?;
                entry.and_then(|entry| Entry::from_bytes(&entry.bytes).ok())
            }
            Some(_) => None,
            None => self.signed_entry(row, &mut News::default()).await?,
        };
        let is_record = |entry: &Entry| matches!(&entry.body, Body::Record { tag, .. } if *tag == row.tag);
        let is_callers = |entry: &Entry| entry.actor == self.own.actor(&caller.user) && entry.time >= since;
        Ok(entry.is_some_and(|entry| is_record(&entry) && is_callers(&entry)))
    }

    /// Decides, and leaves a durable trace of a denial.
    pub(crate) async fn allow(&self, caller: &Caller, action: Action, target: &Target<'_>) -> Result<Decided, Failure> {
        let decided = self.decide(caller, action, target).await?;
        if decided.decision.allow {
            return Ok(decided);
        }
        Err(self.denied(caller, action, target, decided.decision).await?)
    }

    /// Refuses an app that may look at no record of a type at all: that it found nothing would say that there is nothing.
    pub(crate) async fn allow_type(&self, caller: &Caller, action: Action, rtype: &str) -> Result<(), Failure> {
        let app = caller.app.as_ref();
        let Some(decision) = app.and_then(|app| app.refusal_of_type(action, rtype)) else { return Ok(()) };
        let target = Target { rtype, id: None, patient: None, label: "N", author: &self.org, value: None };
        Err(self.denied(caller, action, &target, decision).await?)
    }

    /// Refuses conditions to an app that may not look for records of the type whosever they are.
    pub(crate) async fn allow_condition(&self, caller: &Caller, rtype: &str) -> Result<(), Failure> {
        let app = caller.app.as_ref();
        let Some(decision) = app.and_then(|app| app.refusal_of_condition(rtype)) else { return Ok(()) };
        let target = Target { rtype, id: None, patient: None, label: "N", author: &self.org, value: None };
        Err(self.denied(caller, Action::Search, &target, decision).await?)
    }

    /// The failure of a denial, whose trace is durable then.
    async fn denied(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target<'_>,
        decision: Decision,
    ) -> Result<Failure, Failure> {
        let sentence = decision.sentence();
        let name = target.id.map_or_else(|| target.rtype.to_owned(), |id| format!("{}/{id}", target.rtype));
        let (interaction, access) = trace_of(action);
        let trail = Trail { denied: Some(sentence.clone()), ..Trail::of(interaction, access) };
        self.leave_trail(caller, target.patient, &[], &[name], &trail).await?;
        Ok(Failure::Denied { sentence, suppressed: decision.suppressed })
    }

    /// Decides over something that is no single record: an audit, a case, an erasure.
    pub(crate) async fn allow_operation(&self, caller: &Caller, action: Action) -> Result<Decided, Failure> {
        let target = Target { rtype: "Basic", id: None, patient: None, label: "N", author: &self.org, value: None };
        self.allow(caller, action, &target).await
    }

    /// Decides over a patient as a whole: whoever enrolled the patient counts as the author.
    pub(crate) async fn allow_about(&self, caller: &Caller, action: Action, patient: &str) -> Result<Decided, Failure> {
        let row = self.current_row("Patient", patient).await?.filter(|(_, worth)| worth.may_be_shown());
        let author = row.as_ref().map_or(&self.org, |(row, _)| &row.author);
        let target =
            Target { rtype: "Patient", id: Some(patient), patient: Some(patient), label: "N", author, value: None };
        self.allow(caller, action, &target).await
    }

    /// What the caller's access to a patient's records rests on, where it is there: the override for broken glass, for all else of
    /// compliance the case.
    async fn ground(&self, caller: &Caller, patient: &str) -> Result<Option<Id16>, Failure> {
        if caller.purpose == Purpose::BreakGlass {
            let now = self.now();
            let open = self.desk.list::<OpenOverride>(Some(patient)).await?;
            return Ok(open.into_iter().find(|open| open.user == caller.user && open.is_open(now)).map(|open| open.id));
        }
        if caller.role == Role::Compliance {
            let open = self.desk.list::<Case>(Some(patient)).await?.into_iter().find(Case::is_open);
            return Ok(open.map(|open| open.id));
        }
        Ok(None)
    }

    async fn facts(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target<'_>,
        labelled: &Labelled,
    ) -> Result<(Facts, Option<Id16>), Failure> {
        let mut facts = Facts::default();
        let Some(patient) = target.patient else {
            facts.claim_linked = caller.role == Role::Insurer && *target.author == self.org;
            return Ok((facts, None));
        };
        let under = self.ground(caller, patient).await?;
        let by_force = caller.purpose == Purpose::BreakGlass;
        (facts.break_glass, facts.case_open) = (by_force && under.is_some(), !by_force && under.is_some());
        if caller.role == Role::Insurer {
            facts.claim_linked = *target.author == self.org || self.is_linked(patient, target).await?;
        }
        // What a device sends is no use that anybody could consent to; who reads it is decided then.
        if caller.role == Role::Device {
            facts.device_bound = self.sensing.is_bound(&caller.user, patient);
            return Ok((facts, under));
        }
        // Consent weighs where the policy asks for it; it never stops the basic record in an emergency, nor broken glass.
        let treats = caller.purpose.is_a(Purpose::Treat) && caller.purpose != Purpose::BreakGlass;
        let everyday = caller.purpose.is_a(Purpose::Payment) || treats;
        let for_another = caller.role == Role::Patient && caller.patient.as_deref() != Some(patient);
        if for_another || (everyday && caller.role != Role::Engine) {
            facts.consent = self.consented(caller, patient, action, target, labelled).await?;
        }
        Ok((facts, under))
    }

    /// Whether a claim or request addressed to this insurer links the record.
    async fn is_linked(&self, patient: &str, target: &Target<'_>) -> Result<bool, Failure> {
        const LINKING: [&str; 3] = ["Claim", "CoverageEligibilityRequest", "Coverage"];
        let Some(id) = target.id else { return Ok(false) };
        let name = format!("{}/{id}", target.rtype);
        let linking = self.current_records(patient, &LINKING).await?;
        for (row, _) in linking.iter().filter(|(row, worth)| !row.deleted && worth.may_be_shown()) {
            let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            let ours = match row.rtype.as_str() {
                "Coverage" => value["payor"].as_array().is_some_and(|all| all.iter().any(|payor| self.is_us(payor))),
                _ => self.is_us(&value["insurer"]),
            };
            if ours && (format!("{}/{}", row.rtype, row.id) == name || refers_to(&value, &name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_us(&self, reference: &Value) -> bool {
        member_of(reference).is_some_and(|org| org == self.org)
    }

    /// Makes a trace of its own durable: for reads and denials.
    pub(crate) async fn leave_trail(
        &self,
        caller: &Caller,
        patient: Option<&str>,
        versions: &[record::Commitment],
        names: &[String],
        trail: &Trail,
    ) -> Result<(), Failure> {
        let of = Shared { versions: versions.to_vec(), names: names.to_vec(), under: trail.under };
        self.leave_trails(caller, BTreeMap::from([(patient.map(str::to_owned), of)]), trail).await
    }

    /// The same for the records of several patients, or of nobody, at once.
    pub(crate) async fn leave_trails(
        &self,
        caller: &Caller,
        by_patient: BTreeMap<Option<String>, Shared>,
        trail: &Trail,
    ) -> Result<(), Failure> {
        if !self.does(Part::Audit) {
            return Ok(());
        }
        let mut accesses = Vec::with_capacity(by_patient.len());
        for (patient, Shared { versions, names, under }) in by_patient {
            let trail = Trail { under, ..trail.clone() };
            accesses.push(self.access_to(caller, patient.as_deref(), &versions, &names, &trail).await?);
        }
        self.accesses.note(accesses).await
    }

    /// To be called before records of a type are looked for in the database: if they are audit events, those of accesses that this gateway
    /// answered before are there then.
    pub(crate) async fn accesses_before(&self, rtype: &str) -> Result<(), Failure> {
        if rtype == "AuditEvent" { self.accesses.written().await } else { Ok(()) }
    }

    async fn access_to(
        &self,
        caller: &Caller,
        patient: Option<&str>,
        versions: &[record::Commitment],
        names: &[String],
        trail: &Trail,
    ) -> Result<Access, Failure> {
        let subject = match patient {
            Some(patient) => match self.subject(patient).await {
                Ok(subject) => subject,
                // A denial about nobody we know is still written down.
                Err(Failure::NotFound(_)) => self.nobody(),
                Err(failure) => return Err(failure),
            },
            None => self.nobody(),
        };
        let mut trail = trail.clone();
        // Nothing was found that could say what it was shown under.
        let found_nothing = versions.is_empty() && names.is_empty() && trail.under.is_none() && trail.denied.is_none();
        if let Some(patient) = subject.patient.as_deref()
            && found_nothing
            && trail.action != AccessAction::Write
            && must_rest_on_something(self.role, caller.purpose)
        {
            trail.under = self.ground(caller, patient).await?;
            trail.denied = trail.under.is_none().then(|| RESTS_ON_NOTHING.to_owned());
        }
        self.access(caller, self.now(), &Touched { subject: &subject, versions, names }, &trail)
    }
}

/// Whether somebody treats who writes what a patient said: for treatment itself, and no purpose that is a kind of it.
fn treats_in_person(caller: &Caller) -> bool {
    caller.purpose == Purpose::Treat && matches!(caller.role, Role::Doctor | Role::Nurse | Role::Responder)
}

/// The member organisation that a reference names by its identifier.
pub(crate) fn member_of(reference: &Value) -> Option<OrgId> {
    let identifier = &reference["identifier"];
    (identifier["system"] == ORG_SYSTEM).then(|| identifier["value"].as_str()?.parse().ok()).flatten()
}

/// Whether a resource refers to `Type/id` anywhere.
fn refers_to(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("reference").and_then(Value::as_str);
            let versioned =
                |r: &str| r == name || r.strip_prefix(name).is_some_and(|rest| rest.starts_with("/_history/"));
            reference.is_some_and(versioned) || fields.values().any(|field| refers_to(field, name))
        }
        Value::Array(items) => items.iter().any(|item| refers_to(item, name)),
        _ => false,
    }
}

fn trace_of(action: Action) -> (Interaction, AccessAction) {
    match action {
        Action::Read => (Interaction::Read, AccessAction::Read),
        Action::Search => (Interaction::Search, AccessAction::Search),
        Action::Summary => (Interaction::Operation, AccessAction::Summary),
        Action::ReadFrames => (Interaction::Read, AccessAction::Frames),
        Action::Prove => (Interaction::Operation, AccessAction::Export),
        Action::Create => (Interaction::Create, AccessAction::Write),
        Action::Update => (Interaction::Update, AccessAction::Write),
        Action::Delete => (Interaction::Delete, AccessAction::Write),
        _ => (Interaction::Operation, AccessAction::Write),
    }
}
