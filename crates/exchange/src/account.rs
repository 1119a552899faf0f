//! What was disclosed of a patient, for the patient: the accounting of disclosures, and who wrote a record as FHIR Provenance.
//!
//! Source: 45 CFR 164.528: six years; date, recipient, description and purpose of each disclosure. Disclosures for treatment, payment and
//! operations, and those to the patient, need not be accounted for; they are here all the same, and marked.

use crate::{
    boxed,
    caller::{App, Caller},
    disclose::Cleared,
    facts::{ORG_SYSTEM, Target},
    failure::Failure,
    include::{INCLUDED_MAX, Include, too_costly},
    ingest::check_type,
    made::parse,
    node::Node,
    set::AUDIT_EVENT,
    write::Trail,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use contract::AccessAction;
use policy::Action;
use record::{
    Commitment, Purpose, TimeMs, commit,
    fhir::{Interaction, codes::USER_AUTHENTICATION},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Row;

/// How far back an accounting goes, in milliseconds: six years of 365.25 days. Source: 45 CFR 164.528(a)(3).
pub const ACCOUNTING_MS: u64 = 6 * 31_557_600_000;
/// The most disclosures of one accounting, the latest of them.
pub const ACCOUNTING_MAX: usize = 10_000;

/// One disclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disclosure {
    /// When.
    pub date: String,
    /// To whom: the person at its organisation.
    pub recipient: String,
    /// The organisation.
    pub organisation: String,
    /// In which role.
    pub role: String,
    /// What was disclosed: `Type/id/_history/n` of each record.
    pub records: Vec<String>,
    /// How it was asked for.
    pub description: String,
    /// Why.
    pub purpose: String,
    /// Whether 45 CFR 164.528 demands that it is accounted for.
    pub required: bool,
    /// All of it in a sentence.
    pub says: String,
    /// The audit event that says it.
    pub audit: String,
}

/// The accounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accounting {
    /// `Patient/id`.
    pub patient: String,
    /// Of the six years.
    pub from: String,
    /// When it was made.
    pub to: String,
    /// The latest first.
    pub disclosures: Vec<Disclosure>,
    /// How many attempts were denied: nothing was disclosed by them.
    pub denied: u64,
    /// Audit events that the ledger has and the database does not: what they said is not in here.
    pub missing: u64,
    /// Whether there are more than [`ACCOUNTING_MAX`].
    pub cut: bool,
}

impl Accounting {
    /// The same in plain words, a line each.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("Who saw the records of {}, from {} to {}:", self.patient, self.from, self.to)];
        lines.extend(self.disclosures.iter().map(|one| one.says.clone()));
        if self.disclosures.is_empty() {
            lines.push("Nobody.".to_owned());
        }
        if self.denied > 0 {
            lines.push(format!("{} attempts were denied.", self.denied));
        }
        if self.missing > 0 {
            lines.push(format!("{} entries of the audit trail are missing from the database.", self.missing));
        }
        if self.cut {
            lines.push(format!("There are more: these are the latest {ACCOUNTING_MAX}."));
        }
        lines.join("\n") + "\n"
    }
}

impl Node {
    /// The accounting of disclosures of a patient's records.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn accounting(&self, caller: &Caller, patient: &str) -> Result<Accounting, Failure> {
        let target =
            Target { rtype: AUDIT_EVENT, id: None, patient: Some(patient), label: "N", author: &self.org, value: None };
        let decided = self.allow(caller, Action::Search, &target).await?;
        self.accesses_before(AUDIT_EVENT).await?;
        let now = self.now();
        let from = TimeMs(now.0.saturating_sub(ACCOUNTING_MS));
        let set = self.patient_set(patient, &[AUDIT_EVENT]).await?;
        let missing = set.lost.values().sum::<u64>() + set.withheld;
        let rows = set.sound.into_iter().map(|sound| (sound.row, sound.pending)).collect();
        let (cleared, _) = self.clear(caller, Action::Search, rows).await?;
        let mut rows: Vec<Row> = cleared.into_iter().map(|one| one.row).filter(|row| row.written_at >= from).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.written_at));
        let (mut disclosures, mut shown, mut denied, mut cut) = (Vec::new(), Vec::<Commitment>::new(), 0, false);
        for row in &rows {
            let event: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            // Who came in saw nothing by that, and who was refused at the door asked for no record.
            if event["type"]["code"] == USER_AUTHENTICATION.code {
                continue;
            }
            if event["outcome"] != "0" {
                denied += 1;
                continue;
            }
            let Some(disclosure) = disclosure(&event, row, patient) else { continue };
            if disclosures.len() == ACCOUNTING_MAX {
                cut = true;
                break;
            }
            shown.push(commit(&row.salt, &row.bytes));
            disclosures.push(disclosure);
        }
        let trail = Trail {
            query: Some(format!("Patient/{patient}/$accounting")),
            under: decided.under,
            ..Trail::of(Interaction::Operation, AccessAction::Search)
        };
        self.leave_trail(caller, Some(patient), &shown, &[format!("Patient/{patient}")], &trail).await?;
        Ok(Accounting {
            patient: format!("Patient/{patient}"),
            from: from.to_instant(),
            to: now.to_instant(),
            disclosures,
            denied,
            missing,
            cut,
        })
    }

    /// Who wrote a record's current version, as FHIR Provenance: what the ledger has of it, with the author's signature over its entry.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn fhir_provenance(&self, caller: &Caller, rtype: &str, id: &str) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        self.accesses_before(rtype).await?;
        let (row, _, _) = self.sound_row(rtype, id, None).await?;
        let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
        let name = format!("{rtype}/{id}/_history/{}", row.version);
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Read) };
        self.leave_trail(caller, row.patient.as_deref(), &[commit(&row.salt, &row.bytes)], &[name], &trail).await?;
        self.provenance_of(&row).await
    }
}

impl Node {
    /// What the ledger has of a row that agrees with it, as FHIR Provenance.
    async fn provenance_of(&self, row: &Row) -> Result<Vec<u8>, Failure> {
        let place = self.mirror.entry(row.entry, &row.author).await?;
        // The database keeps the submission; it is shown only where a key of the member signed it.
        let signed = match self.was_signed_for(row).await? {
            true => self.claimed_by(row).await?.map(|signed| signed.to_bytes()),
            false => None,
        };
        let provenance = provenance(row, place.as_ref().map(|place| (place.height, place.index)), signed.as_deref());
        let resource = parse(&provenance)?;
        Ok(resource.text().as_bytes().to_vec())
    }

    /// The Provenance of each match, where a search asks for it by `_revinclude=Provenance:target`: of those that the caller may read, and
    /// none for an app that was not given Provenance. That it was shown stands in the trail with the match. They have one bound together with
    /// the `included` records.
    pub(crate) async fn provenance_along(
        &self,
        caller: &Caller,
        includes: &[Include],
        matches: &[Cleared],
        included: usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let mut built = Vec::new();
        for one in matches {
            let row = &one.row;
            let asked_for = includes.iter().any(|include| include.is_of_provenance(&row.rtype));
            let app = caller.app.as_ref();
            let not_given = |app: &Arc<App>| {
                [Action::Search, Action::Read]
                    .into_iter()
                    .any(|action| app.refusal(action, "Provenance", row.patient.as_deref()).is_some())
            };
            if !asked_for || app.is_some_and(not_given) || !one.decided.decision.allow {
                continue;
            }
            if included + built.len() >= INCLUDED_MAX {
                return Err(too_costly());
            }
            built.push(self.provenance_of(row).await?);
        }
        Ok(built)
    }

    /// The Provenance of the record that a search for them names as its `target`; none, when there is no such record for the caller.
    pub(crate) async fn provenance_asked_for(&self, caller: &Caller, query: &str) -> Result<Option<Vec<u8>>, Failure> {
        let Some((rtype, id)) = target_of(query) else { return Ok(None) };
        match self.fhir_provenance(caller, &rtype, &id).await {
            Ok(built) => Ok(Some(built)),
            // A search finds what the caller may see.
            Err(Failure::NotFound(_) | Failure::Denied { .. } | Failure::Gone(_) | Failure::Tampered(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// The one record that a search names as its `target`.
fn target_of(query: &str) -> Option<(String, String)> {
    let mut targets = query.split('&').filter_map(|pair| pair.strip_prefix("target="));
    let name = targets.next().filter(|_| targets.next().is_none())?.replace("%2F", "/").replace("%2f", "/");
    let (rtype, id) = name.split_once('/')?;
    let plain = !id.is_empty() && !id.contains('/') && rtype.bytes().all(|byte| byte.is_ascii_alphabetic());
    plain.then(|| (rtype.to_owned(), id.to_owned()))
}

/// A disclosure that an audit event tells of; none, if it is about a write or an override.
fn disclosure(event: &Value, row: &Row, patient: &str) -> Option<Disclosure> {
    let interaction = event["subtype"].as_array()?.iter().find_map(|coding| coding["code"].as_str())?;
    let description = match interaction {
        "read" | "vread" => "read",
        "history" => "read with earlier versions",
        "search" | "search-type" => "searched",
        "operation" => "summarised or taken away",
        _ => return None,
    };
    let user = event["agent"].as_array()?.iter().find(|agent| agent["requestor"] == true)?;
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let (recipient, role) = (text(&user["who"]["display"]), text(&user["role"][0]["text"]));
    let purpose = text(&user["purposeOfUse"][0]["coding"][0]["code"]);
    let itself = format!("Patient/{patient}");
    let names = event["entity"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let records: Vec<String> = names
        .filter_map(|entity| entity["what"]["reference"].as_str())
        .filter(|name| *name != itself)
        .map(str::to_owned)
        .collect();
    if records.is_empty() && interaction != "operation" {
        // Nothing was found.
        return None;
    }
    let known: Option<Purpose> = purpose.parse().ok();
    let exempt = [Purpose::Treat, Purpose::Payment, Purpose::Operations, Purpose::PatientRequest];
    let required = !known.is_some_and(|purpose| exempt.into_iter().any(|other| purpose.is_a(other)))
        // Oversight by others is no operation of the provider's own. Source: 45 CFR 164.528(a)(1), 164.512(d).
        || known.is_some_and(|purpose| role == "compliance" && purpose.is_a(Purpose::Operations));
    let (date, organisation) = (row.written_at.to_instant(), row.author.to_string());
    let why = known.map_or(purpose.clone(), |known| known.display().to_owned());
    let what = match records.len() {
        0 => "the records".to_owned(),
        1 => records[0].clone(),
        count => format!("{count} records"),
    };
    let says = format!("{date}: {recipient} ({role}) of {organisation}, for {why}: {what}, {description}.");
    let audit = format!("AuditEvent/{}", row.id);
    Some(Disclosure {
        date,
        recipient,
        organisation,
        role,
        records,
        description: description.to_owned(),
        purpose,
        required,
        says,
        audit,
    })
}

/// Source: R4 `provenance.html`; signature: `urn:iso-astm:E1762-95:2013`, author's signature.
fn provenance(row: &Row, place: Option<(u64, u64)>, signed: Option<&[u8]>) -> Value {
    let organisation = json!({"identifier": {"system": ORG_SYSTEM, "value": row.author}, "display": row.author});
    let activity = match (row.deleted, row.version) {
        (true, _) => "DELETE",
        (false, 1) => "CREATE",
        (false, _) => "UPDATE",
    };
    let name = format!("{}/{}", row.rtype, row.id);
    let written = row.written_at.to_instant();
    let mut provenance = json!({
        "resourceType": "Provenance", "id": row.entry.to_hex(),
        "target": [{"reference": format!("{name}/_history/{}", row.version)}],
        "occurredDateTime": written, "recorded": written,
        "activity": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": activity}]},
        "agent": [{
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"
            }]},
            "who": organisation
        }]
    });
    if row.version > 1 {
        let previous = format!("{name}/_history/{}", row.version - 1);
        provenance["entity"] = json!([{"role": "revision", "what": {"reference": previous}}]);
    }
    if let Some((height, index)) = place {
        let part = |url: &str, number: u64| json!({"url": url, "valueString": number.to_string()});
        provenance["extension"] = json!([{
            "url": "https://vitaltrace.org/fhir/StructureDefinition/ledger-place",
            "extension": [part("height", height), part("index", index)]
        }]);
    }
    if let Some(signed) = signed {
        provenance["signature"] = json!([{
            "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1", "display": "Author's Signature"}],
            "when": written, "who": organisation, "sigFormat": "application/vnd.vitaltrace.submission+cbor",
            "data": BASE64_STANDARD.encode(signed)
        }]);
    }
    provenance
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Id16, RecordTag, sha256};

    fn row(version: u64) -> Row {
        Row {
            rtype: "Condition".to_owned(),
            id: "c1".to_owned(),
            version,
            bytes: b"{}".to_vec(),
            salt: sha256(&[b"salt"]),
            tag: RecordTag(sha256(&[b"tag"])),
            pseudonym: None,
            patient: Some("p1".to_owned()),
            author: "mercy".parse().unwrap(),
            entry: Id16([7; 16]),
            written_at: TimeMs(1_795_000_000_000),
            deleted: false,
            label: "N".to_owned(),
            gathered: None,
        }
    }

    #[test]
    fn a_provenance_is_fhir_names_the_version_and_carries_the_authors_signature() {
        let first = provenance(&row(1), None, None);
        parse(&first).unwrap();
        assert_eq!(first["target"][0]["reference"], "Condition/c1/_history/1");
        assert_eq!(
            (&first["signature"], &first["entity"], &first["extension"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let second = provenance(&row(2), Some((5, 9)), Some(b"signed"));
        parse(&second).unwrap();
        assert_eq!(second["activity"]["coding"][0]["code"], "UPDATE");
        assert_eq!(second["entity"][0]["what"]["reference"], "Condition/c1/_history/1");
        assert_eq!(second["signature"][0]["type"][0]["code"], "1.2.840.10065.1.12.1.1");
        assert_eq!(second["signature"][0]["data"], "c2lnbmVk");
    }

    #[test]
    fn a_search_for_provenance_names_one_record() {
        let named = |query: &str| target_of(query).map(|(rtype, id)| format!("{rtype}/{id}"));
        assert_eq!(named("target=Condition/c1").as_deref(), Some("Condition/c1"));
        assert_eq!(named("_count=2&target=Condition%2Fc1").as_deref(), Some("Condition/c1"));
        for query in [
            "",
            "target=c1",
            "target=Condition/",
            "target=Condition/c1&target=Condition/c2",
            "target=A/b/_history/1",
            "target=1/2",
        ] {
            assert_eq!(named(query), None, "{query}");
        }
    }

    fn event(interaction: &str, role: &str, purpose: &str, records: &[&str]) -> Value {
        let entities = records.iter().chain(&["Patient/p1"]).map(|name| json!({"what": {"reference": name}}));
        json!({
            "outcome": "0", "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": interaction}],
            "agent": [
                {"requestor": false, "who": {"display": "app"}},
                {"requestor": true, "who": {"display": "okafor"}, "role": [{"text": role}],
                 "purposeOfUse": [{"coding": [{"code": purpose}]}]}
            ],
            "entity": entities.collect::<Vec<_>>()
        })
    }

    #[test]
    fn a_disclosure_has_date_recipient_description_and_purpose() {
        let of = |interaction: &str, role: &str, purpose: &str, records: &[&str]| {
            disclosure(&event(interaction, role, purpose, records), &row(1), "p1")
        };
        let read = of("read", "doctor", "TREAT", &["Condition/c1/_history/1"]).unwrap();
        assert_eq!((read.recipient.as_str(), read.organisation.as_str(), read.required), ("okafor", "mercy", false));
        let says = "2026-11-18T11:06:40.000Z: okafor (doctor) of mercy, for treatment: Condition/c1/_history/1, read.";
        assert_eq!(read.says, says);
        assert_eq!(of("create", "doctor", "TREAT", &["Condition/c1/_history/1"]), None, "a write discloses nothing");
        assert_eq!(of("search", "doctor", "TREAT", &[]), None, "nothing was found");
        for (role, purpose, required) in [
            ("insurer", "HPAYMT", false),
            ("patient", "PATRQT", false),
            ("doctor", "BTG", false),
            ("compliance", "HCOMPL", true),
            ("compliance", "FRAUD", true),
            ("custodian", "HSYSADMIN", false),
            ("doctor", "OTHER", true),
        ] {
            let found = of("search", role, purpose, &["Condition/c1/_history/1", "Condition/c2/_history/1"]).unwrap();
            assert_eq!(found.required, required, "{role} {purpose}");
            assert!(found.says.contains("2 records, searched"), "{}", found.says);
        }
    }
}
