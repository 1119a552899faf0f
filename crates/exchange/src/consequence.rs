//! What a resource says besides being a record: a grant, a handoff, a claim's step, a link. One function a type.

use crate::{
    facts::member_of,
    failure::Failure,
    node::Node,
    subject::Subject,
    write::{Also, Gathered},
};
use contract::{Author, ClaimStep, Event};
use record::{Commitment, Id16, OrgId, Pseudonym, TimeMs, commit, fhir::IssueType};
use serde_json::Value;
use store::{Row, VersionKey};

/// The code of a Task that hands a patient over.
pub const HANDOFF: &str = "handoff";

/// Something that goes on the ledger beside a record's own entry.
pub(crate) struct Consequence {
    subject: Subject,
    what: What,
}

enum What {
    Granted { id: Id16, consent: Commitment, until: Option<TimeMs> },
    Revoked { id: Id16, consent: Commitment },
    Offered { id: Id16, to: OrgId },
    Accepted { id: Id16, from: OrgId },
    Claim { id: Id16, step: ClaimStep, insurer: OrgId, amount: String, services: Vec<String> },
    Linked { other: Pseudonym },
}

impl Consequence {
    /// Adds its entry to a write.
    pub(crate) fn add(&self, node: &Node, gathered: &mut Gathered, author: &Author) -> Result<(), Failure> {
        let names: Vec<&str> = match &self.what {
            What::Claim { services, .. } => services.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let event = match &self.what {
            What::Granted { id, consent, until } => Event::Granted { id: *id, consent: *consent, until: *until },
            What::Revoked { id, consent } => Event::GrantRevoked { id: *id, consent: *consent },
            What::Offered { id, to } => Event::HandoffOffered { id: *id, to: to.clone() },
            What::Accepted { id, from } => Event::HandoffAccepted { id: *id, from: from.clone() },
            What::Claim { id, step, insurer, amount, .. } => Event::ClaimMoved {
                id: *id,
                step: *step,
                insurer: insurer.clone(),
                amount: amount.as_bytes(),
                services: &names,
            },
            What::Linked { other } => Event::Linked { other: *other, same: true },
        };
        node.also(gathered, author, &Also { subject: self.subject.clone(), event }).map(|_| ())
    }
}

impl Node {
    /// What follows from the versions that are about to be written.
    ///
    /// A grant, handoff or claim is known on the ledger by the id of the entry of its resource's first version: random, and found by
    /// every organisation that may read the resource.
    pub(crate) async fn consequences(&self, gathered: &Gathered) -> Result<Vec<Consequence>, Failure> {
        let mut all = Vec::new();
        for (new, subject) in gathered.put.records.iter().zip(&gathered.subjects) {
            let row = &new.row;
            let interesting = matches!(
                row.rtype.as_str(),
                "Consent" | "Task" | "Claim" | "ClaimResponse" | "PaymentReconciliation" | "Patient"
            );
            // A Consent that is deleted grants nothing any more.
            if !interesting || (row.deleted && row.rtype != "Consent") {
                continue;
            }
            let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            match row.rtype.as_str() {
                "Consent" => all.extend(self.consent(row, &value, subject).await?),
                "Task" => all.extend(self.task(row, &value, subject).await?),
                "Claim" => all.extend(self.claim(row, &value, subject)?),
                "ClaimResponse" => all.extend(self.claim_response(row, &value, subject).await?),
                "PaymentReconciliation" => all.extend(self.payment(row, &value).await?),
                _ => all.extend(self.link(row, &value).await?),
            }
        }
        Ok(all)
    }

    /// The ledger's id of what a resource began: the entry of its first version.
    async fn beginning(&self, row: &Row) -> Result<Option<Id16>, Failure> {
        if row.version == 1 {
            return Ok(Some(row.entry));
        }
        let key = VersionKey { rtype: row.rtype.clone(), id: row.id.clone(), version: 1 };
        let first = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        Ok(first.map(|first| first.entry))
    }

    /// Each active version of a Consent is a grant of its own, known by that version's entry; the version after it ends it.
    async fn consent(&self, row: &Row, value: &Value, subject: &Subject) -> Result<Vec<Consequence>, Failure> {
        if subject.patient.is_none() {
            return Ok(Vec::new());
        }
        let consent = commit(&row.salt, &row.bytes);
        let mut all = Vec::new();
        if let Some(before) = self.version_before(row).await? {
            let said: Value = serde_json::from_slice(&before.bytes).unwrap_or_default();
            if !before.deleted && grants(&said, before.written_at).is_some() {
                all.push(What::Revoked { id: before.entry, consent });
            }
        }
        if let Some(until) = grants(value, row.written_at) {
            all.push(What::Granted { id: row.entry, consent, until });
        }
        Ok(all.into_iter().map(|what| Consequence { subject: subject.clone(), what }).collect())
    }

    async fn version_before(&self, row: &Row) -> Result<Option<Row>, Failure> {
        if row.version == 1 {
            return Ok(None);
        }
        let key = VersionKey { rtype: row.rtype.clone(), id: row.id.clone(), version: row.version - 1 };
        self.store.vread(key).await.map_err(crate::find::search_failure)
    }

    async fn task(&self, row: &Row, value: &Value, subject: &Subject) -> Result<Option<Consequence>, Failure> {
        let codes = value["code"]["coding"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !codes.iter().any(|coding| coding["code"] == HANDOFF) || subject.patient.is_none() {
            return Ok(None);
        }
        let (from, to) = (member_of(&value["requester"]), member_of(&value["owner"]));
        let what = match (row.version, value["status"].as_str(), from, to) {
            (1, Some("requested"), Some(from), Some(to)) if from == self.org => What::Offered { id: row.entry, to },
            (2.., Some("accepted"), Some(from), Some(to)) if to == self.org => match self.beginning(row).await? {
                Some(id) => What::Accepted { id, from },
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Consequence { subject: subject.clone(), what }))
    }

    fn claim(&self, row: &Row, value: &Value, subject: &Subject) -> Result<Option<Consequence>, Failure> {
        let Some(insurer) = member_of(&value["insurer"]) else { return Ok(None) };
        if row.version != 1 || subject.patient.is_none() {
            return Ok(None);
        }
        let step = match value["use"].as_str() {
            Some("preauthorization") => ClaimStep::PreauthorisationRequested,
            Some("claim") => ClaimStep::Submitted,
            _ => return Ok(None),
        };
        let procedures = value["procedure"].as_array().map(Vec::as_slice).unwrap_or_default();
        let procedures = procedures.iter().map(|procedure| &procedure["procedureReference"]);
        let items = value["item"].as_array().map(Vec::as_slice).unwrap_or_default();
        // An item without a procedure bills its encounter.
        let encounters = items
            .iter()
            .filter(|item| item["procedureSequence"].is_null())
            .flat_map(|item| item["encounter"].as_array().map(Vec::as_slice).unwrap_or_default());
        let named = procedures.chain(encounters).filter_map(|service| service["reference"].as_str());
        let services: Vec<String> = match step {
            ClaimStep::Submitted => named.map(str::to_owned).collect(),
            // Nothing is billed before it was done.
            _ => Vec::new(),
        };
        if step == ClaimStep::Submitted && services.is_empty() {
            let text = "a claim to an insurer of this consortium names the services that it bills: in `procedure`, or as the encounter of an item";
            return Err(Failure::invalid(IssueType::Required, "Claim.procedure", text));
        }
        let what = What::Claim { id: row.entry, step, insurer, amount: amount(&value["total"]), services };
        Ok(Some(Consequence { subject: subject.clone(), what }))
    }

    async fn claim_response(
        &self,
        row: &Row,
        value: &Value,
        subject: &Subject,
    ) -> Result<Option<Consequence>, Failure> {
        let Some((claim, id)) = self.claim_of(&value["request"]).await? else { return Ok(None) };
        if row.version != 1 {
            return Ok(None);
        }
        let step = match (claim["use"].as_str(), value["outcome"].as_str()) {
            (Some("preauthorization"), Some("complete")) => ClaimStep::Preauthorised,
            (Some("claim"), Some("complete")) => ClaimStep::Accepted,
            (Some("claim"), Some("error")) => ClaimStep::Rejected,
            _ => return Ok(None),
        };
        let amount = amount(&value["total"][0]["amount"]);
        let what = What::Claim { id, step, insurer: self.org.clone(), amount, services: Vec::new() };
        Ok(Some(Consequence { subject: subject.clone(), what }))
    }

    async fn payment(&self, row: &Row, value: &Value) -> Result<Vec<Consequence>, Failure> {
        let mut all = Vec::new();
        if row.version != 1 {
            return Ok(all);
        }
        for detail in value["detail"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some((claim, id)) = self.claim_of(&detail["request"]).await? else { continue };
            let Some(patient) = claim["patient"]["reference"].as_str().and_then(|r| r.strip_prefix("Patient/")) else {
                continue;
            };
            let subject = self.subject(patient).await?;
            let what = What::Claim {
                id,
                step: ClaimStep::Paid,
                insurer: self.org.clone(),
                amount: amount(&detail["amount"]),
                services: Vec::new(),
            };
            all.push(Consequence { subject, what });
        }
        Ok(all)
    }

    /// The claim that a reference names, and its id on the ledger.
    async fn claim_of(&self, reference: &Value) -> Result<Option<(Value, Id16)>, Failure> {
        let Some(id) = reference["reference"].as_str().and_then(|r| r.strip_prefix("Claim/")) else { return Ok(None) };
        let key = VersionKey { rtype: "Claim".to_owned(), id: id.to_owned(), version: 1 };
        let Some(row) = self.store.vread(key).await.map_err(crate::find::search_failure)? else { return Ok(None) };
        let good = self.weigh(std::slice::from_ref(&row)).await?.iter().all(crate::row::Worth::may_be_shown);
        let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        Ok(good.then_some((value, row.entry)))
    }

    /// A Patient that says it is replaced by another one.
    async fn link(&self, row: &Row, value: &Value) -> Result<Option<Consequence>, Failure> {
        let links = value["link"].as_array().map(Vec::as_slice).unwrap_or_default();
        let replaced = links.iter().find(|link| link["type"] == "replaced-by");
        let stays =
            replaced.and_then(|link| link["other"]["reference"].as_str()).and_then(|r| r.strip_prefix("Patient/"));
        let Some(stays) = stays.filter(|_| row.version > 1) else { return Ok(None) };
        let Some(key) = self.patient_key(&row.id).await? else { return Ok(None) };
        let other = key.pseudonym(self.now().month());
        let subject = self.subject(stays).await?;
        Ok(Some(Consequence { subject, what: What::Linked { other } }))
    }
}

/// An amount as it is committed to, such as `812.5 USD`.
fn amount(money: &Value) -> String {
    format!("{} {}", money["value"], money["currency"].as_str().unwrap_or("none"))
}

/// Whether a Consent that is written at a time grants something, and until when.
fn grants(consent: &Value, at: TimeMs) -> Option<Option<TimeMs>> {
    let until = consent["provision"]["period"]["end"].as_str().and_then(policy::bounds).map(|(_, last)| last);
    (consent["status"] == "active" && until.is_none_or(|until| at < until)).then_some(until)
}
