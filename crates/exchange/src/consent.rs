//! What the patient's consents say of a use: the Consents as they were written, and whom they mean.
//!
//! They are read for each decision, from the database that all gateways share and against the ledger, so that a consent and its
//! withdrawal count at once, wherever they were written. An answer with many rows reads them once for each patient.

use crate::{
    caller::Caller, facts::Target, failure::Failure, mirror::FinalVersion, node::Node, row::Worth, without::Part,
};
use policy::{Action, Consented, Directive, Matter, Meant, Person, Sensitive, Use};
use record::{Role, fhir::Confidentiality};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use store::{Row, Rows};

/// Patients whose consents are kept for one answer; those of more are read again.
const KEPT_MAX: usize = 1_024;

/// The FHIR type.
pub(crate) const CONSENT: &str = "Consent";

tokio::task_local! {
    /// The consents that were read for the answer under way, by patient.
    static READ: Mutex<HashMap<String, Arc<Given>>>;
    /// The consents that come from the database with a record: the next decision is over that record.
    static BESIDE: Mutex<Beside>;
}

/// Consents that come with a record.
#[derive(Default)]
enum Beside {
    /// The record is not read yet.
    #[default]
    Wanted,
    /// A patient, and the rows of the patient's consents.
    Kept(String, Rows),
    /// Whoever needs them now reads them.
    Used,
}

/// A patient's consents in force, and whom they mean.
struct Given {
    /// None when one of them is lost.
    directives: Option<Vec<Directive>>,
    meant: BTreeMap<String, Meant>,
}

/// Makes an answer for which each patient's consents are read once: all of its rows are decided over by the same.
pub(crate) async fn reading_once<T>(answer: impl Future<Output = T>) -> T {
    READ.scope(Mutex::default(), answer).await
}

/// Makes an answer about one record, whose patient's consents come with it from the database.
pub(crate) async fn reading_beside<T>(answer: impl Future<Output = T>) -> T {
    BESIDE.scope(Mutex::default(), answer).await
}

/// Whether consents are wanted with the next record.
pub(crate) fn wants_beside() -> bool {
    let wants =
        |beside: &Mutex<Beside>| matches!(*beside.lock().unwrap_or_else(PoisonError::into_inner), Beside::Wanted);
    BESIDE.try_with(wants).unwrap_or(false)
}

/// Keeps the consents that came with a record for the decision over it.
pub(crate) fn keep_beside(patient: Option<&str>, rows: Rows) {
    let kept = patient.map_or(Beside::Used, |patient| Beside::Kept(patient.to_owned(), rows));
    let _alone = BESIDE.try_with(|beside| *beside.lock().unwrap_or_else(PoisonError::into_inner) = kept);
}

/// What is known of a record's content when it is decided over.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// The resource.
    Read(&'a Value),
    /// The row that holds it.
    Row(&'a Row),
}

impl<'a> From<&'a Value> for Content<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Read(value)
    }
}

/// How confidential a record is by what it says of itself, and by the rules for sensitive categories. The stricter counts.
pub(crate) struct Labelled {
    pub(crate) label: Confidentiality,
    pub(crate) categories: Vec<String>,
}

impl Labelled {
    pub(crate) fn of(target: &Target<'_>) -> Self {
        let rules = policy::Sensitivity::builtin();
        let Sensitive { categories, label } = match target.value {
            // What is about nobody is nobody's secret.
            _ if target.patient.is_none() => Sensitive::default(),
            Some(Content::Read(value)) => rules.of(target.rtype, value),
            Some(Content::Row(row)) => rules.of_bytes(target.rtype, &row.bytes),
            None => Sensitive::default(),
        };
        Self { label: own_label(target.label).max(label.unwrap_or(Confidentiality::Unrestricted)), categories }
    }

    /// The same of a row.
    pub(crate) fn of_row(row: &Row) -> Confidentiality {
        Self::of(&Target::of(row)).label
    }
}

/// A label that R4 does not have counts as the strictest.
pub(crate) fn own_label(code: &str) -> Confidentiality {
    match code {
        "" => Confidentiality::Normal,
        code => Confidentiality::from_code(code).unwrap_or(Confidentiality::VeryRestricted),
    }
}

impl Node {
    /// The patient's consents as they were written, from the vaults where the database has them no more; none when one of them is lost.
    async fn consents(&self, patient: &str) -> Result<Option<Vec<Row>>, Failure> {
        let key = self.patient_key(patient).await?;
        // The ledger first: what is written between the two reads is then only unknown to it.
        let known = match &key {
            Some(key) => self.mirror.consents(self.pseudonyms(key)).await?,
            None => Vec::new(),
        };
        let rows = match self.consents_beside(patient, &known).await? {
            Some(rows) => rows,
            None => self.current_records(patient, &[CONSENT]).await?,
        };
        if key.is_none() && rows.iter().any(|(_, worth)| !worth.may_be_shown()) {
            return Ok(None);
        }
        let mut consents: Vec<Row> =
            rows.into_iter().filter(|(_, worth)| worth.may_be_shown()).map(|(row, _)| row).collect();
        let Some(key) = key else { return Ok(Some(consents)) };
        for known in known {
            if consents.iter().any(|row| row.tag == known.tag && row.version >= known.version) {
                continue;
            }
            consents.retain(|row| row.tag != known.tag);
            if !known.deleted {
                let Some(row) = self.repair(&key, &known).await? else { return Ok(None) };
                tracing::warn!(version = row.version, "a consent was taken from a vault for a decision");
                consents.push(row);
            }
        }
        consents.retain(|row| !row.deleted);
        Ok(Some(consents))
    }

    /// The consents that came with the record under decision, where they are all that the ledger has: they were read before it was asked.
    async fn consents_beside(
        &self,
        patient: &str,
        known: &[FinalVersion],
    ) -> Result<Option<Vec<(Row, Worth)>>, Failure> {
        let take = |beside: &Mutex<Beside>| {
            std::mem::replace(&mut *beside.lock().unwrap_or_else(PoisonError::into_inner), Beside::Used)
        };
        let Ok(Beside::Kept(of, found)) = BESIDE.try_with(take) else { return Ok(None) };
        if of != patient {
            return Ok(None);
        }
        let has =
            |known: &FinalVersion| found.rows.iter().any(|row| row.tag == known.tag && row.version >= known.version);
        if !known.iter().all(has) {
            return Ok(None);
        }
        let worths = self.weigh_current(&found.rows).await?;
        if !worths.iter().all(Worth::may_be_shown) {
            return Ok(None);
        }
        self.meters.weighed(&worths);
        Ok(Some(found.rows.into_iter().zip(worths).collect()))
    }

    /// The patient's consents in force; those that were read before, while one answer is made.
    async fn given(&self, patient: &str) -> Result<Arc<Given>, Failure> {
        let kept = |all: &Mutex<HashMap<String, Arc<Given>>>| {
            all.lock().unwrap_or_else(PoisonError::into_inner).get(patient).cloned()
        };
        if let Ok(Some(given)) = READ.try_with(kept) {
            return Ok(given);
        }
        let given = Arc::new(self.read_given(patient).await?);
        // Outside of an answer with many rows nothing is kept.
        let _alone = READ.try_with(|all| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < KEPT_MAX {
                all.insert(patient.to_owned(), Arc::clone(&given));
            }
        });
        Ok(given)
    }

    async fn read_given(&self, patient: &str) -> Result<Given, Failure> {
        let mut meant = BTreeMap::new();
        let Some(consents) = self.consents(patient).await? else { return Ok(Given { directives: None, meant }) };
        let read = |row: &Row| Directive::read(&serde_json::from_slice(&row.bytes).unwrap_or_default());
        let directives: Vec<Directive> = consents.iter().filter_map(read).collect();
        for name in directives.iter().flat_map(Directive::references) {
            if let Some(found) = self.meant(name, patient).await? {
                meant.insert(name.clone(), found);
            }
        }
        Ok(Given { directives: Some(directives), meant })
    }

    /// What the patient's active consents say of a use. A refusal outweighs a permission.
    ///
    /// Somebody who is not the patient and asks as one asks as a delegate.
    pub(crate) async fn consented(
        &self,
        caller: &Caller,
        patient: &str,
        action: Action,
        target: &Target<'_>,
        labelled: &Labelled,
    ) -> Result<Consented, Failure> {
        if !self.does(Part::Consent) {
            return Ok(Consented::None);
        }
        let given = self.given(patient).await?;
        let Some(directives) = &given.directives else {
            // What was said cannot be known: as little is allowed as if it had been no.
            return Ok(Consented::Deny);
        };
        if directives.is_empty() {
            return Ok(Consented::None);
        }
        let parsed;
        let resource = match target.value {
            Some(Content::Read(value)) => Some(value),
            Some(Content::Row(row)) if directives.iter().any(Directive::looks_at_codes) => {
                parsed = serde_json::from_slice::<Value>(&row.bytes).unwrap_or_default();
                Some(&parsed)
            }
            _ => None,
        };
        let person = person(caller);
        let of = Use {
            person: &person,
            purpose: caller.purpose,
            at: self.now(),
            changes: matches!(action, Action::Create | Action::Update | Action::Delete),
            matter: Matter {
                fhir_type: target.rtype,
                id: target.id,
                author: target.author,
                label: labelled.label,
                categories: &labelled.categories,
                resource,
            },
            meant: &given.meant,
        };
        let as_delegate = caller.role == Role::Patient;
        let says = |directive: &Directive| if as_delegate { directive.delegates(&of) } else { directive.says(&of) };
        Ok(directives.iter().map(says).fold(Consented::None, Consented::and))
    }

    /// Whom a record means that a Consent of the patient refers to.
    ///
    /// A record speaks for its author's organisation and people alone: otherwise whoever may change the record of another organisation
    /// could give themselves what was given to that one.
    async fn meant(&self, name: &str, patient: &str) -> Result<Option<Meant>, Failure> {
        let Some((resource, row)) = self.named_record(name).await? else { return Ok(None) };
        Ok(match row.rtype.as_str() {
            "Organization" | "Practitioner" => Meant::by_identifiers(&resource, &row.author),
            // A relative of this patient, and of nobody else.
            "RelatedPerson" if row.patient.as_deref() == Some(patient) && resource["active"] != false => {
                Meant::by_identifiers(&resource, &row.author).filter(|meant| meant.user.is_some())
            }
            "PractitionerRole" if resource["active"] != false => {
                let mut meant = Meant { roles: Meant::roles_of(&resource), ..Meant::default() };
                for part in ["organization", "practitioner"] {
                    let reference = &resource[part];
                    if reference.is_null() {
                        continue;
                    }
                    let of = match reference["reference"].as_str() {
                        Some(name) => match self.named_record(name).await? {
                            Some((resource, row)) => Meant::by_identifiers(&resource, &row.author),
                            None => None,
                        },
                        None => crate::facts::member_of(reference)
                            .filter(|org| *org == row.author)
                            .map(|org| Meant { org: Some(org), ..Meant::default() }),
                    };
                    // A part that means nobody known leaves the whole unknown.
                    let Some(of) = of else { return Ok(None) };
                    meant.org = meant.org.or(of.org);
                    meant.user = meant.user.or(of.user);
                }
                // Roles alone would be those of any organisation.
                Some(meant).filter(|meant| meant.org.is_some() || meant.user.is_some())
            }
            _ => None,
        })
    }

    async fn named_record(&self, name: &str) -> Result<Option<(Value, Row)>, Failure> {
        let Some((rtype, id)) = name.split_once('/') else { return Ok(None) };
        let found = self.current_row(rtype, id).await?.filter(|(row, worth)| worth.may_be_shown() && !row.deleted);
        Ok(found.map(|(row, _)| (serde_json::from_slice(&row.bytes).unwrap_or_default(), row)))
    }
}

/// The caller, as policies see it.
pub(crate) fn person(caller: &Caller) -> Person<'_> {
    Person {
        user: &caller.user,
        role: caller.role,
        org: &caller.org,
        org_role: caller.org_role,
        patient: caller.patient.as_deref(),
    }
}

/// Refuses an active Consent that says what nobody here can weigh: the patient must hear of it, and not rely on it.
pub(crate) fn check_consent(rtype: &str, value: &Value) -> Result<(), Failure> {
    if rtype != "Consent" {
        return Ok(());
    }
    let Some(directive) = Directive::read(value) else { return Ok(()) };
    let text = "this part of a consent cannot be weighed here: it would refuse more, and permit less, than it says; leave it out, or say it \
                in another way";
    let issue = |path: &String| {
        record::fhir::Issue::error(record::fhir::IssueType::NotSupported, text.to_owned()).at(path.clone())
    };
    match directive.unsupported() {
        [] => Ok(()),
        paths => Err(Failure::Invalid(paths.iter().map(issue).collect())),
    }
}
