//! Every cell of `docs/access.md`, role by purpose by record type, asked over HTTP on both databases; and the trail that each left.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests; what was done is said")]

use crate::consortium::{Consortium, client::Client};
use crate::server::{Disk, Server};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};

const MERCY: &str = "mercy-hospital";
const RESCUE: &str = "rescue-one";
const ACME: &str = "acme-insurance";
const INSPECTORATE: &str = "health-inspectorate";
/// The page, which a test of crate `policy` writes from the policies.
const PAGE: &str = include_str!("../../../../docs/access.md");
/// FHIR types in the order of the page's columns; its introduction says that they stand for the record types.
const TYPES: [&str; 7] =
    ["Observation", "RiskAssessment", "AllergyIntolerance", "Procedure", "Coverage", "Claim", "Consent"];
/// Purposes of use (HL7 v3 ActReason): what the page does not list gives nothing, and is asked for as well.
const PURPOSES: [&str; 15] = [
    "TREAT",
    "ETREAT",
    "BTG",
    "HPAYMT",
    "CLMATTCH",
    "COVAUTH",
    "REMITADV",
    "COVERAGE",
    "ELIGVER",
    "HOPERAT",
    "HCOMPL",
    "FRAUD",
    "PATADMIN",
    "HSYSADMIN",
    "PATRQT",
];
/// Reads, searches, histories, creates, updates and deletes of each cell.
const WAYS: [Way; 6] = [Way::Read, Way::Search, Way::History, Way::Create, Way::Update, Way::Delete];
/// What is asked for on the second database: decisions are the same there, and what is read and written is not.
const WAYS_ON_A_SERVER: [Way; 3] = [Way::Read, Way::Search, Way::Create];
/// Each starts four nodes and asks thousands of times: one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Audit events that are asked for at once.
const EVENTS_ON_A_PAGE: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Search,
    History,
    Create,
    Update,
    Delete,
}

impl Way {
    /// The letter that the page has for it.
    fn letter(self) -> char {
        match self {
            Self::Read | Self::Search | Self::History => 'r',
            Self::Create | Self::Update => 'w',
            Self::Delete => 'd',
        }
    }
}

/// What the page says of one letter in one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Never,
    Always,
    /// With an override, a claim that links the record, or a case.
    WithAFact,
}

/// The rows of one role: by purpose, a cell for each type.
struct Section {
    role: String,
    org: &'static str,
    rows: BTreeMap<String, Vec<String>>,
}

impl Section {
    fn may(&self, way: Way, purpose: &str, column: usize) -> May {
        let cell = self.rows.get(purpose).map_or("–", |cells| cells[column].as_str());
        match cell.split(' ').find_map(|word| word.strip_prefix(way.letter())) {
            None => May::Never,
            Some("") => May::Always,
            Some(_) => May::WithAFact,
        }
    }

    fn takes_facts(&self) -> bool {
        self.rows.values().flatten().any(|cell| cell.contains("<sup>"))
    }
}

/// The page, as everybody reads it.
fn page() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let (role, at) = title.split_once(" at ").unwrap();
            let org = match at {
                "a hospital" => MERCY,
                "an emergency medical service" => RESCUE,
                "an insurer" => ACME,
                "a compliance entity" => INSPECTORATE,
                _ => panic!("`{at}` is no kind of organisation"),
            };
            sections.push(Section { role: role.to_owned(), org, rows: BTreeMap::new() });
        } else if let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) {
            let mut cells = row.split(" | ").map(str::to_owned);
            let purpose = cells.next().unwrap();
            if PURPOSES.contains(&purpose.as_str()) {
                let cells: Vec<String> = cells.collect();
                assert_eq!(cells.len(), TYPES.len(), "{line}");
                sections.last_mut().unwrap().rows.insert(purpose, cells);
            } else {
                assert_eq!(purpose, "purpose", "{line}");
            }
        }
    }
    sections
}

fn resource(rtype: &str, patient: &str) -> Value {
    let patient = json!({"reference": format!("Patient/{patient}")});
    let vital = |code: &str| json!({"coding": [{"system": "http://loinc.org", "code": code}]});
    match rtype {
        "Observation" => json!({
            "resourceType": rtype, "status": "final", "subject": patient, "code": vital("8867-4"),
            "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        }),
        "RiskAssessment" => json!({"resourceType": rtype, "status": "final", "subject": patient}),
        "AllergyIntolerance" => json!({
            "resourceType": rtype, "patient": patient, "criticality": "high", "code": {"text": "Latex"},
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}
        }),
        "Procedure" => {
            json!({"resourceType": rtype, "status": "completed", "subject": patient, "code": {"text": "a splint"}})
        }
        "Coverage" => {
            json!({"resourceType": rtype, "status": "active", "beneficiary": patient, "payor": [{"display": "another insurer"}]})
        }
        "Claim" => json!({
            "resourceType": rtype, "status": "active", "use": "claim", "patient": patient, "created": "2026-01-12",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/claim-type", "code": "institutional"}]},
            "provider": {"display": "a ward"}, "priority": {"coding": [{"code": "normal"}]},
            "insurance": [{"sequence": 1, "focal": true, "coverage": {"display": "of another insurer"}}]
        }),
        // One that is not in force decides nothing.
        "Consent" => json!({
            "resourceType": rtype, "status": "draft", "patient": patient,
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "policy": [{"uri": "https://vitaltrace.org/policy/access"}]
        }),
        _ => panic!("no {rtype} is made here"),
    }
}

/// A claim that is addressed to the insurer and links these records.
fn linking(patient: &str, names: &[String]) -> Value {
    let mut claim = resource("Claim", patient);
    claim["insurer"] = json!({"identifier": {"system": "https://vitaltrace.org/org", "value": ACME}});
    let information = |(n, name): (usize, &String)| {
        json!({
            "sequence": n + 1, "category": {"coding": [{"code": "info"}]}, "valueReference": {"reference": name}
        })
    };
    claim["supportingInfo"] = names.iter().enumerate().map(information).collect();
    let services = names.iter().filter(|name| name.starts_with("Procedure/"));
    let procedure = |(n, name): (usize, &String)| json!({"sequence": n + 1, "procedureReference": {"reference": name}});
    claim["procedure"] = services.enumerate().map(procedure).collect();
    claim
}

/// What a request was, whether the page lets it through, and whether the gateway did.
struct Asked {
    id: String,
    says: String,
    expected: bool,
    answered: Result<bool, String>,
}

/// One role with its connection, and records of its own that it asks for.
struct Asker<'a> {
    section: &'a Section,
    client: Client,
    keeper: Client,
    patient: &'a str,
    records: Vec<String>,
}

impl Asker<'_> {
    /// Every cell, with facts in the role's favour or without.
    async fn ask(&self, round: &str, ways: &[Way], with_facts: bool) -> Vec<Asked> {
        let role = &self.section.role;
        let mut asked = Vec::new();
        for purpose in PURPOSES {
            let client = self.client.for_purpose(purpose);
            for (column, rtype) in TYPES.into_iter().enumerate() {
                for way in ways.iter().copied() {
                    let may = self.section.may(way, purpose, column);
                    let expected = may == May::Always || (with_facts && may == May::WithAFact);
                    let id = format!("{round}-{role}-{}", asked.len());
                    let answered = self.one(&client, way, column, &id, expected).await;
                    asked.push(Asked { id, says: format!("{role} {way:?} {rtype} for {purpose}"), expected, answered });
                }
            }
        }
        asked
    }

    async fn one(&self, client: &Client, way: Way, column: usize, id: &str, expected: bool) -> Result<bool, String> {
        let (rtype, record) = (TYPES[column], &self.records[column]);
        let headers = [("x-request-id", id)];
        let path = format!("/fhir/{rtype}/{record}");
        let mut body = resource(rtype, self.patient);
        let (answer, yes) = match way {
            Way::Read => (client.send(Method::GET, &path, &headers, &Value::Null).await, 200),
            Way::History => (client.send(Method::GET, &format!("{path}/_history"), &headers, &Value::Null).await, 200),
            Way::Search => {
                let path = format!("/fhir/{rtype}?patient={}&_id={record}", self.patient);
                let answer = client.send(Method::GET, &path, &headers, &Value::Null).await;
                if answer.status != 200 {
                    return Err(format!("answered {}: {}", answer.status, answer.text()));
                }
                let bundle = answer.json();
                let entries = bundle["entry"].as_array().into_iter().flatten();
                let matches = entries.filter(|entry| entry["search"]["mode"] == "match").count();
                return match (bundle["total"].as_u64(), matches) {
                    (Some(0), 0) => Ok(false),
                    (Some(1), 1) => Ok(true),
                    other => Err(format!("total and matches are {other:?}")),
                };
            }
            Way::Create => (client.send(Method::POST, &format!("/fhir/{rtype}"), &headers, &body).await, 201),
            Way::Update => {
                body["id"] = json!(record);
                (client.send(Method::PUT, &path, &headers, &body).await, 200)
            }
            // What may be deleted is something of its own: the others are asked for again.
            Way::Delete if expected => {
                let path = format!("/fhir/{rtype}/{}", self.keeper.create(&body).await.id());
                (client.send(Method::DELETE, &path, &headers, &Value::Null).await, 204)
            }
            Way::Delete => (client.send(Method::DELETE, &path, &headers, &Value::Null).await, 204),
        };
        match answer.status {
            403 => Ok(false),
            status if status == yes => Ok(true),
            status => Err(format!("answered {status}: {}", answer.text())),
        }
    }
}

/// Outcomes of the audit events about the patient, by the request that left them.
async fn trail(officer: &Client, patient: &str) -> BTreeMap<String, Vec<String>> {
    let mut by_request: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut path = Some(format!("/fhir/AuditEvent?patient={patient}&_count={EVENTS_ON_A_PAGE}"));
    while let Some(this) = path {
        let answer = officer.get(&this).await.good();
        path = officer.next(&answer);
        for entry in answer.json()["entry"].as_array().into_iter().flatten() {
            let event = &entry["resource"];
            let about = event["entity"].as_array().into_iter().flatten();
            let ids = about.filter_map(|entity| entity["what"]["identifier"]["value"].as_str());
            for id in ids.filter(|id| id.contains('-')) {
                let outcome = event["outcome"].as_str().unwrap().to_owned();
                by_request.entry(id.to_owned()).or_default().push(outcome);
            }
        }
    }
    by_request
}

/// Asks everything at a consortium that runs, and demands what the page says.
async fn every_cell(consortium: &Consortium, on: &str, ways: &[Way]) {
    let sections = page();
    let begin = Instant::now();
    let keeper = |org: &str| consortium.client(org, "keeper").for_purpose("HSYSADMIN");
    let (mercy, rescue) = (keeper(MERCY), keeper(RESCUE));
    let patient = mercy.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    consortium.settle().await;
    let mut askers = Vec::new();
    for section in &sections {
        let own = (section.role == "patient").then_some(patient.as_str());
        consortium.add_user(section.org, &section.role, &section.role, own);
        // Insurer and compliance look at what the hospital wrote: they keep nothing clinical themselves.
        let keeper = if section.org == RESCUE { &rescue } else { &mercy };
        let mut records = Vec::new();
        for rtype in TYPES {
            // A rescue service keeps no claims.
            let keeper = if rtype == "Claim" { &mercy } else { keeper };
            records.push(keeper.create(&resource(rtype, &patient)).await.id());
        }
        let client = consortium.client(section.org, &section.role);
        askers.push(Asker { section, client, keeper: keeper.clone(), patient: &patient, records });
    }
    consortium.settle().await;
    let mut asked: Vec<Asked> = futures::future::join_all(askers.iter().map(|asker| asker.ask("plain", ways, false)))
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(asked.len(), 12 * PURPOSES.len() * TYPES.len() * ways.len());

    // The facts that the page's small letters stand for: overrides, a claim that links the records, a case.
    let takers: Vec<&Asker<'_>> = askers.iter().filter(|asker| asker.section.takes_facts()).collect();
    for asker in &takers {
        match asker.section.role.as_str() {
            "insurer" => {
                let names: Vec<String> =
                    TYPES.iter().zip(&asker.records).map(|(rtype, id)| format!("{rtype}/{id}")).collect();
                // What bills nothing was answered as written, and refused by the ledger; so was a question what would be paid.
                let mut nothing = linking(&patient, &names);
                nothing.as_object_mut().unwrap().remove("procedure");
                let nothing = mercy.post("/fhir/Claim", &nothing).await;
                assert_eq!(nothing.status, 422, "{}", nothing.text());
                assert!(nothing.text().contains("names the services that it bills"), "{}", nothing.text());
                let mut question = linking(&patient, &names);
                question["use"] = json!("preauthorization");
                mercy.create(&question).await;
                mercy.create(&linking(&patient, &names)).await;
            }
            "compliance" => {
                let case = json!({"patient": patient, "order": "whether the page is right"});
                asker.client.for_purpose("HCOMPL").post("/case", &case).await.good();
            }
            _ => {
                let glass =
                    json!({"patient": patient, "code": "unconscious", "reason": "every cell is tried", "minutes": 60});
                asker.client.for_purpose("BTG").post("/override", &glass).await.good();
            }
        }
    }
    assert_eq!(takers.len(), 5, "responder, doctor, nurse, insurer, compliance");
    consortium.settle().await;
    let with = takers.iter().map(|asker| asker.ask("facts", ways, true));
    asked.extend(futures::future::join_all(with).await.into_iter().flatten());

    let differ = |asked: &&Asked| asked.answered.as_ref().ok() != Some(&asked.expected);
    let say = |asked: &Asked| {
        format!("{} ({}): {:?}, and the page says {}", asked.says, asked.id, asked.answered, asked.expected)
    };
    let wrong: Vec<String> = asked.iter().filter(differ).map(say).collect();
    assert!(wrong.is_empty(), "on {on}, {} cells differ:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));

    // Each left one event, a denial one that says so; a search that found nothing for the caller was carried out.
    consortium.settle().await;
    let trail = trail(&consortium.client(MERCY, "officer").for_purpose("HCOMPL"), &patient).await;
    // What must rest on an override or a case, rests on nothing and finds nothing is a denial.
    let in_vain = |asked: &Asked| {
        let by = |roles: &[&str]| roles.iter().any(|role| asked.says.starts_with(&format!("{role} ")));
        let (by_force, with_facts) = (asked.says.ends_with(" for BTG"), asked.id.starts_with("facts-"));
        let rests = with_facts && if by_force { by(&["responder", "doctor", "nurse"]) } else { by(&["compliance"]) };
        (by_force || by(&["compliance"])) && !rests
    };
    let looked = |asked: &Asked| asked.says.contains(" Search ") && !in_vain(asked);
    let outcome = |asked: &Asked| if asked.expected || looked(asked) { "0" } else { "8" };
    let untraced = asked.iter().filter(|asked| trail.get(&asked.id).is_none_or(|left| *left != [outcome(asked)]));
    let untraced: Vec<String> = untraced.map(|asked| format!("{}: {:?}", say(asked), trail.get(&asked.id))).collect();
    assert!(
        untraced.is_empty(),
        "on {on}, {} left another trail:\n{}",
        untraced.len(),
        untraced[..untraced.len().min(40)].join("\n")
    );
    let (mut refused, mut from) = (Vec::new(), 0);
    loop {
        let page = mercy.get(&format!("/ledger/entries?from={from}&limit=1000")).await.good().json()["entries"].take();
        let entries = page.as_array().unwrap();
        let Some(last) = entries.last() else { break };
        from = last["index"].as_u64().unwrap() + 1;
        refused.extend(entries.iter().filter(|entry| !entry["refused"].is_null()).cloned());
    }
    assert!(refused.is_empty(), "the ledger refused something: {refused:?}");
    let allowed = asked.iter().filter(|asked| asked.expected).count();
    println!("{on}: {} requests, {allowed} allowed, in {:?}", asked.len(), begin.elapsed());
}

const PEOPLE: [(&str, &str, &str); 3] =
    [(MERCY, "keeper", "custodian"), (RESCUE, "keeper", "custodian"), (MERCY, "officer", "privacy-officer")];

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_page_about_access_is_what_http_answers_on_sqlite() {
    let _alone = ALONE.lock().await;
    let consortium = Consortium::running(&PEOPLE).await;
    every_cell(&consortium, "SQLite", &WAYS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_page_about_access_is_what_http_answers_on_a_server() {
    let _alone = ALONE.lock().await;
    let Some(server) = Server::start(Disk::Careless) else { return };
    server.create("cloud");
    let consortium = Consortium::running_on_server(&PEOPLE, &server.address("cloud")).await;
    every_cell(&consortium, "PostgreSQL", &WAYS_ON_A_SERVER).await;
}

/// The page is read here, and not the policies: what is read must be the whole page.
#[test]
fn the_page_has_a_section_for_every_role() {
    let sections = page();
    assert_eq!(sections.len(), 12);
    assert_eq!(sections.iter().filter(|section| section.rows.is_empty()).count(), 3, "dispatcher, officer, device");
    let doctor = sections.iter().find(|section| section.role == "doctor").unwrap();
    assert_eq!(doctor.may(Way::Read, "TREAT", 0), May::Always);
    assert_eq!(doctor.may(Way::Update, "BTG", 2), May::WithAFact);
    assert_eq!(doctor.may(Way::Delete, "TREAT", 0), May::Never);
    assert_eq!(doctor.may(Way::Search, "HPAYMT", 4), May::Never);
}
