//! Reads over a database that somebody changed with plain SQL: nothing changed is shown as good, nothing hidden reads as «not there».
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; what is tested is said")]

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use rusqlite::params;
use serde_json::{Value, json};
use std::time::Duration;

const PEOPLE: [(&str, &str, &str); 2] =
    [("mercy-hospital", "doctor", "doctor"), ("rescue-one", "paramedic", "responder")];

/// Two patients with records that the vaults keep a copy of (an allergy) and records that nobody keeps (a pulse, a procedure).
struct Site {
    consortium: Consortium,
    doctor: Client,
    /// Of another organisation than the author's.
    paramedic: Client,
    patient: String,
    other: String,
}

/// The state that a gateway says a record is in.
fn state(answer: &Answer) -> &str {
    answer.headers.get("x-vitaltrace-state").map_or("", |value| value.to_str().unwrap())
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client("mercy-hospital", "doctor");
        let paramedic = consortium.client("rescue-one", "paramedic").for_purpose("ETREAT");
        let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]});
        let patient = doctor.create(&person).await.id();
        let other = doctor.create(&person).await.id();
        consortium.settle().await;
        Self { consortium, doctor, paramedic, patient, other }
    }

    async fn allergy(&self, text: &str) -> String {
        let resource = json!({
            "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{}", self.patient)}, "criticality": "high",
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]},
            "code": {"text": text}
        });
        self.doctor.create(&resource).await.id()
    }

    async fn pulse(&self, per_min: u32) -> String {
        self.doctor.create(&pulse(&self.patient, per_min)).await.id()
    }

    async fn procedure(&self) -> String {
        let resource = json!({
            "resourceType": "Procedure", "status": "completed", "subject": {"reference": format!("Patient/{}", self.patient)},
            "code": {"text": "Splint"}
        });
        self.doctor.create(&resource).await.id()
    }

    /// Plain SQL, as an administrator of the database would run it, on one row.
    fn sql(&self, statement: &str, values: impl rusqlite::Params) {
        assert_eq!(self.consortium.sql(statement, values), 1, "{statement}");
    }

    async fn read(&self, client: &Client, record: &str) -> Answer {
        client.get(&format!("/fhir/{record}")).await
    }

    /// Demands that nobody is shown the record, and that both organisations are told why.
    async fn is_refused(&self, record: &str) {
        for client in [&self.doctor, &self.paramedic] {
            let answer = self.read(client, record).await;
            assert_eq!((answer.status, issue(&answer.json())), (503, "security".to_owned()), "{}", answer.text());
            assert!(!answer.text().contains("valueQuantity"), "{}", answer.text());
        }
    }
}

fn pulse(patient: &str, per_min: u32) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z",
        "valueQuantity": {"value": per_min, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

fn issue(outcome: &Value) -> String {
    outcome["issue"][0]["code"].as_str().unwrap_or_default().to_owned()
}

/// Ids of the matches in a search set, and the words of its warning, if it has one.
fn found(answer: &Answer) -> (Vec<String>, Option<String>) {
    let bundle = answer.json();
    let mut ids = Vec::new();
    let mut warning = None;
    for entry in bundle["entry"].as_array().into_iter().flatten() {
        if entry["search"]["mode"] == "outcome" {
            assert_eq!(issue(&entry["resource"]), "incomplete");
            warning = entry["resource"]["issue"][0]["diagnostics"].as_str().map(str::to_owned);
        } else {
            ids.push(entry["resource"]["id"].as_str().unwrap().to_owned());
        }
    }
    // A count would say that it is complete.
    assert_eq!(warning.is_some(), bundle["total"].is_null(), "{bundle}");
    (ids, warning)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_shows_no_record_whose_bytes_or_columns_were_changed() {
    let site = Site::new().await;
    let (bytes, label, author, patient, deleted, salt) = (
        site.pulse(72).await,
        site.pulse(72).await,
        site.pulse(72).await,
        site.pulse(72).await,
        site.pulse(72).await,
        site.pulse(72).await,
    );
    let good = site.pulse(72).await;
    site.consortium.settle().await;
    for id in [&bytes, &label, &author, &patient, &deleted, &salt, &good] {
        site.read(&site.paramedic, &format!("Observation/{id}")).await.good();
    }
    let update = |set: &str| format!("UPDATE version SET {set} WHERE rtype = 'Observation' AND id = ?1");
    site.sql(&update("bytes = CAST(replace(CAST(bytes AS TEXT), '72', '99') AS BLOB)"), [&bytes]);
    site.sql(&update("label = 'R'"), [&label]);
    site.sql(&update("author = 'rescue-one'"), [&author]);
    site.sql(&update("patient = ?2"), [&patient, &site.other]);
    site.sql(&update("deleted = 1"), [&deleted]);
    site.sql(&update("salt = zeroblob(32)"), [&salt]);
    for id in [&bytes, &label, &author, &patient, &deleted, &salt] {
        site.is_refused(&format!("Observation/{id}")).await;
    }
    site.read(&site.paramedic, &format!("Observation/{good}")).await.good();

    // What was changed is not built upon either.
    let changed = json!({"id": bytes}).as_object().unwrap().clone();
    let mut body = pulse(&site.patient, 73);
    body.as_object_mut().unwrap().extend(changed);
    let answer = site.doctor.put(&format!("/fhir/Observation/{bytes}"), &body, &[]).await;
    assert_eq!((answer.status, issue(&answer.json())), (503, "security".to_owned()));

    let (ids, warning) = found(&site.doctor.get(&format!("/fhir/Observation?patient={}", site.patient)).await.good());
    assert_eq!(ids, [good]);
    // Five rows that are this patient's and wrong, one that was given to somebody else; on the ledger all six are missing.
    assert!(warning.unwrap().contains("6 records on the ledger may be missing"));
    let (ids, _) = found(&site.doctor.get(&format!("/fhir/Observation?patient={}", site.other)).await.good());
    assert_eq!(ids, Vec::<String>::new(), "the record is another patient's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_vaults_keep_is_read_as_it_was_written_whatever_became_of_its_row() {
    let site = Site::new().await;
    let (modified, removed, labelled) =
        (site.allergy("Latex").await, site.allergy("Penicillin").await, site.allergy("Peanut").await);
    site.consortium.settle().await;
    let name = |id: &str| format!("AllergyIntolerance/{id}");
    let mut written = Vec::new();
    for id in [&modified, &removed, &labelled] {
        written.push(site.read(&site.doctor, &name(id)).await.good().bytes);
    }
    let of = "WHERE rtype = 'AllergyIntolerance' AND id = ?1";
    site.sql(
        &format!("UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'high', 'low') AS BLOB) {of}"),
        [&modified],
    );
    site.sql(&format!("DELETE FROM version {of}"), [&removed]);
    site.sql(&format!("UPDATE version SET label = 'V' {of}"), [&labelled]);
    for (id, bytes) in [&modified, &removed, &labelled].into_iter().zip(&written) {
        let answer = site.read(&site.doctor, &name(id)).await.good();
        assert_eq!((state(&answer), &answer.bytes), ("repaired", bytes), "{id}");
    }
    let by_patient = format!("/fhir/AllergyIntolerance?patient={}", site.patient);
    let (mut ids, _) = found(&site.doctor.get(&by_patient).await.good());
    ids.sort();
    let mut all = [modified, removed, labelled].to_vec();
    all.sort();
    assert_eq!(ids, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_in_the_place_of_the_latest_is_not_shown() {
    let site = Site::new().await;
    let id = site.pulse(72).await;
    let mut amended = pulse(&site.patient, 73);
    amended["id"] = json!(id);
    site.doctor.put(&format!("/fhir/Observation/{id}"), &amended, &[]).await.good();
    site.consortium.settle().await;
    site.sql("DELETE FROM version WHERE rtype = 'Observation' AND id = ?1 AND version = 2", [&id]);
    site.sql("UPDATE version SET current = 1 WHERE rtype = 'Observation' AND id = ?1 AND version = 1", [&id]);
    site.is_refused(&format!("Observation/{id}")).await;
    let (ids, warning) = found(&site.doctor.get(&format!("/fhir/Observation?patient={}", site.patient)).await.good());
    assert_eq!((ids.len(), warning.is_some()), (0, true));
    // Version 1 as version 1 is what it was.
    site.read(&site.doctor, &format!("Observation/{id}/_history/1")).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_of_the_summary_that_was_emptied_says_that_it_is_not_available() {
    let site = Site::new().await;
    let procedure = site.procedure().await;
    site.consortium.settle().await;
    let path = format!("/fhir/Patient/{}/$summary", site.patient);
    let section = |summary: &Value, code: &str| {
        let sections = summary["entry"][0]["resource"]["section"].as_array().unwrap();
        sections.iter().find(|section| section["code"]["coding"][0]["code"] == code).cloned().unwrap_or_default()
    };
    const ALLERGIES: &str = "48765-2";
    const PROCEDURES: &str = "47519-4";
    let reason = |section: &Value| section["emptyReason"]["coding"][0]["code"].as_str().unwrap_or_default().to_owned();
    let before = site.paramedic.get(&path).await.good().json();
    assert_eq!(section(&before, PROCEDURES)["entry"].as_array().unwrap().len(), 1);
    assert_eq!(reason(&section(&before, ALLERGIES)), "nilknown");
    site.sql("DELETE FROM version WHERE rtype = 'Procedure' AND id = ?1", params![procedure]);
    let after = site.paramedic.get(&path).await.good().json();
    assert_eq!(reason(&section(&after, PROCEDURES)), "unavailable");
    assert_eq!(reason(&section(&after, ALLERGIES)), "nilknown");

    let (ids, warning) = found(&site.doctor.get(&format!("/fhir/Procedure?patient={}", site.patient)).await.good());
    assert_eq!((ids.len(), warning.is_some()), (0, true));
}

/// A record is changed again and again while others read it: between the read of the row and the read of the ledger the next version
/// may become final, and the row was then taken for a rolled-back one.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_changed_while_it_is_read_is_never_called_tampered_with() {
    const CHANGES: u32 = 60;
    let site = Site::new().await;
    let id = site.pulse(72).await;
    site.consortium.settle().await;
    let path = format!("/fhir/Observation/{id}");
    let writing = async {
        for per_min in 0..CHANGES {
            let mut body = pulse(&site.patient, per_min);
            body["id"] = json!(id);
            site.doctor.put(&path, &body, &[]).await.good();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::pin!(writing);
    let mut reads = 0;
    loop {
        let by_patient = format!("/fhir/Observation?patient={}", site.patient);
        tokio::select! {
            () = &mut writing => break,
            (one, set) = async { tokio::join!(site.paramedic.get(&path), site.doctor.get(&by_patient)) } => {
                one.good();
                assert_eq!(found(&set.good()), (vec![id.clone()], None));
                reads += 1;
            }
        }
    }
    println!("{reads} reads during {CHANGES} changes");
}

/// Whoever runs the database took the patient's refusal out of it, and everybody read on as if nothing had been said.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_was_taken_out_of_the_database_still_counts() {
    let site = Site::new().await;
    let pulse = site.pulse(72).await;
    site.consortium.add_user("mercy-hospital", "nobody", "patient", Some(&site.patient));
    let patient = site.consortium.client("mercy-hospital", "nobody").for_purpose("PATRQT");
    let refusal = json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{}", site.patient)},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policy": [{"uri": "https://vitaltrace.org/policy/access"}],
        "provision": {"type": "deny", "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}
    });
    let read = format!("/fhir/Observation/{pulse}");
    site.doctor.get(&read).await.good();
    let refusal = patient.create(&refusal).await.id();
    site.consortium.settle().await;
    assert_eq!(site.doctor.get(&read).await.status, 403);
    let of = "WHERE rtype = 'Consent' AND id = ?1";
    site.sql(
        &format!("UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'deny', 'permit') AS BLOB) {of}"),
        [&refusal],
    );
    assert_eq!(site.doctor.get(&read).await.status, 403, "a changed row");
    site.sql(&format!("DELETE FROM version {of}"), [&refusal]);
    assert_eq!(site.doctor.get(&read).await.status, 403, "a removed row");
}
