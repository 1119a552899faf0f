//! Exports: files of records that a caller may take away, whole or with a word on what is missing, and for nobody else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const MERCY: &str = "mercy-hospital";
const ASYNC: (&str, &str) = ("Prefer", "respond-async");

async fn begin(client: &Client, path: &str) -> Answer {
    client.send(Method::GET, path, &[ASYNC], &Value::Null).await
}

/// The manifest of an export, when it is done.
async fn exported(client: &Client, path: &str) -> (String, Value) {
    let begun = begin(client, path).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let address = begun.headers.get("content-location").unwrap().to_str().unwrap().to_owned();
    let address = address[address.find("/fhir").unwrap()..].to_owned();
    for _ in 0..600 {
        let state = client.get(&address).await;
        match state.status {
            202 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return (address, state.good().json()),
        }
    }
    panic!("an export of a few records takes half a minute");
}

/// The resources of a file of an export.
async fn lines(client: &Client, address: &str, rtype: &str) -> Vec<Value> {
    let file = client.get(&format!("{address}/{rtype}.ndjson")).await.good();
    assert_eq!(file.headers.get("content-type").unwrap(), "application/fhir+ndjson");
    file.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_all_that_its_caller_may_take_away_and_says_what_is_missing() {
    let consortium = Consortium::running(&[(MERCY, "doctor", "doctor"), (MERCY, "keeper", "custodian")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    let other = doctor.create(&json!({"resourceType": "Patient", "gender": "male"})).await.id();
    let allergy = |of: &str| {
        json!({
            "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{of}")}, "criticality": "high",
            "code": {"text": "penicillin"}
        })
    };
    let mine = doctor.create(&allergy(&patient)).await.id();
    doctor.create(&allergy(&other)).await.id();
    let observation = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"text": "pulse"}, "effectiveDateTime": "2026-11-29", "valueQuantity": {"value": 71}
    });
    let pulse = doctor.create(&observation).await.id();
    consortium.settle().await;
    consortium.add_user(MERCY, "ilse", "patient", Some(&patient));
    consortium.add_user(MERCY, "owen", "patient", Some(&other));
    let ilse = consortium.client(MERCY, "ilse").for_purpose("PATRQT");
    let owen = consortium.client(MERCY, "owen").for_purpose("PATRQT");

    for wrong in ["?_type=Zebra", "?_typeFilter=Patient%3Factive%3Dtrue", "?_outputFormat=text/csv"] {
        assert!([400, 422].contains(&begin(&ilse, &format!("/fhir/$export{wrong}")).await.status), "{wrong}");
    }
    let waiting = ilse.get("/fhir/Patient/$export").await;
    assert!([400, 422].contains(&waiting.status) && waiting.text().contains("respond-async"), "{}", waiting.text());

    let (address, manifest) = exported(&ilse, &format!("/fhir/Patient/$export?patient=Patient/{patient}")).await;
    let types: Vec<&str> =
        manifest["output"].as_array().unwrap().iter().map(|file| file["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["AllergyIntolerance", "Observation", "Patient"], "{manifest}");
    assert_eq!((&manifest["requiresAccessToken"], &manifest["error"]), (&json!(true), &json!([])));
    let ids = |lines: &[Value]| lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&lines(&ilse, &address, "AllergyIntolerance").await), [mine.as_str()]);
    assert_eq!(ids(&lines(&ilse, &address, "Observation").await), [pulse.as_str()]);
    assert_eq!(ids(&lines(&ilse, &address, "Patient").await), [patient.as_str()]);
    // For nobody else, not even its existence.
    for path in [address.clone(), format!("{address}/Patient.ndjson")] {
        assert_eq!(owen.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(owen.send(Method::DELETE, &address, &[], &Value::Null).await.status, 404);
    // Whoever asks for more than what is theirs is given what is theirs; also when somebody took the patient's row away.
    assert_eq!(consortium.sql("DELETE FROM version WHERE rtype = 'Patient' AND id = ?1", [&other]), 1);
    let (all, _) = exported(&owen, "/fhir/$export?_type=Patient").await;
    assert_eq!(ids(&lines(&owen, &all, "Patient").await), [other.as_str()]);
    // It is in the trail before anybody has it.
    consortium.settle().await;
    let trail = ilse.get(&format!("/fhir/AuditEvent?patient={patient}&_count=100")).await.good().text();
    assert!(trail.contains("ilse"), "{trail}");

    // A row that was changed is withheld, one with a copy comes from the vault, and the export says so.
    assert_eq!(consortium.sql("UPDATE version SET bytes = CAST('{}' AS BLOB) WHERE id = ?1", [&pulse]), 1);
    assert_eq!(consortium.sql("DELETE FROM version WHERE id = ?1", [&mine]), 1);
    let (again, manifest) = exported(&ilse, &format!("/fhir/Patient/$export?patient={patient}")).await;
    assert_eq!(ids(&lines(&ilse, &again, "AllergyIntolerance").await), [mine]);
    assert_eq!(manifest["error"][0]["type"], "OperationOutcome", "{manifest}");
    let said = lines(&ilse, &again, "OperationOutcome").await;
    assert!(said[0]["issue"][0]["diagnostics"].as_str().unwrap().contains("withheld"), "{said:?}");

    assert_eq!(ilse.send(Method::DELETE, &address, &[], &Value::Null).await.status, 202);
    assert_eq!(ilse.get(&address).await.status, 404);
    // An erasure takes away what may have the patient's records.
    let keeper = consortium.client(MERCY, "keeper").for_purpose("HSYSADMIN");
    let erased = keeper.post("/custody/erase", &json!({"patient": patient, "reason": "asked for"})).await;
    assert!(erased.status < 300, "{}", erased.text());
    assert_eq!(owen.get(&all).await.status, 404);
}

/// What a clinician reads of one patient within a second is one entry on the ledger; each access keeps its audit event, and one that is taken
/// away is missed.
#[tokio::test(flavor = "multi_thread")]
async fn accesses_within_a_second_share_an_entry_and_one_that_is_taken_away_is_missed() {
    let people = [(MERCY, "doctor", "doctor"), (MERCY, "keeper", "custodian"), ("rescue-one", "medic", "custodian")];
    let consortium = Consortium::running(&people).await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    consortium.settle().await;
    let path = format!("/fhir/Patient/{patient}");
    let before = consortium.node(MERCY).status().await;
    futures::future::join_all((0..20).map(|_| doctor.get(&path)))
        .await
        .into_iter()
        .for_each(|answer| _ = answer.good());
    consortium.settle().await;
    let after = consortium.node(MERCY).status().await;
    let entries = |status: &Value| status["entries"].as_u64().unwrap_or_default();
    let kinds = |status: &Value| status["by_kind"]["accesses"].as_u64().unwrap_or_default();
    assert!(kinds(&after) > kinds(&before), "{after}");
    assert!(entries(&after) - entries(&before) < 20, "{before} {after}");

    consortium.add_user(MERCY, "ilse", "patient", Some(&patient));
    let ilse = consortium.client(MERCY, "ilse").for_purpose("PATRQT");
    let trail = async |query: &str| {
        let bundle = ilse.get(&format!("/fhir/AuditEvent?patient={patient}&{query}")).await.good().json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let of = |kind: &str| -> Vec<String> {
            let of_kind =
                entries.iter().map(|entry| &entry["resource"]).filter(|resource| resource["resourceType"] == kind);
            of_kind.map(|resource| resource["id"].as_str().unwrap_or_default().to_owned()).collect()
        };
        (of("AuditEvent"), of("OperationOutcome").len())
    };
    let reads = "action=R&_count=100";
    let (found, said) = trail(reads).await;
    assert!(found.len() >= 20 && said == 0, "{found:?} {said}");
    // The other organisation's gateway believes them too, and so does the history of the trail.
    let other = consortium.client("rescue-one", "medic").for_purpose("HSYSADMIN");
    let report = other.post("/audit", &json!({"full": true})).await.good().json();
    assert_eq!(report["findings"], json!([]), "{report}");

    let database = rusqlite::Connection::open(&consortium.database).unwrap();
    let mut gathered =
        database.prepare("SELECT id FROM version WHERE rtype = 'AuditEvent' AND gathered IS NOT NULL LIMIT 2").unwrap();
    let rows: Vec<String> = gathered.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let [changed, removed] = rows.as_slice() else { panic!("{rows:?}") };
    let reader = store::Reader::open(&consortium.database.clone().into(), 1).unwrap();
    let event = reader.read("AuditEvent", changed).await.unwrap().unwrap();
    let event = String::from_utf8(event.bytes).unwrap().replace("doctor", "somebody");
    let change = "UPDATE version SET bytes = CAST(?1 AS BLOB) WHERE id = ?2";
    assert_eq!(consortium.sql(change, [&event, changed]), 1);
    assert_eq!(consortium.sql("DELETE FROM version WHERE id = ?1", [removed]), 1);
    let (left, said) = trail(reads).await;
    assert!(left.len() + 2 <= found.len() && said == 1, "{left:?} of {found:?}, {said}");
    // Whoever asks for one of the two is not told that there never was one.
    for gone in found.iter().filter(|id| !left.contains(id)) {
        assert_eq!(ilse.get(&format!("/fhir/AuditEvent/{gone}")).await.status, 503, "{gone}");
    }
    let report = other.post("/audit", &json!({"full": true})).await.good().json();
    let kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["modified", "removed"], "{report}");
}

/// What audit events of one person, app and role have in common stands in the database once, from the second of them on: whoever changes it
/// changes all of them, until the next one is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_template_takes_its_events_with_it_and_no_other_until_the_next_is_written() {
    let people = [
        (MERCY, "doctor", "doctor"),
        (MERCY, "nora", "nurse"),
        (MERCY, "keeper", "custodian"),
        ("rescue-one", "medic", "custodian"),
    ];
    let consortium = Consortium::running(&people).await;
    let (doctor, nora) = (consortium.client(MERCY, "doctor"), consortium.client(MERCY, "nora"));
    let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    consortium.settle().await;
    for _ in 0..5 {
        doctor.get(&format!("/fhir/Patient/{patient}")).await.good();
        nora.get(&format!("/fhir/Patient/{patient}")).await.good();
    }
    consortium.settle().await;
    consortium.add_user(MERCY, "ilse", "patient", Some(&patient));
    let ilse = consortium.client(MERCY, "ilse").for_purpose("PATRQT");
    let reads_of = async |user: &str| {
        let query = format!("/fhir/AuditEvent?patient={patient}&subtype=read&agent:identifier={user}&_count=100");
        let bundle = ilse.get(&query).await.good().json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let events = entries.iter().filter(|entry| entry["resource"]["resourceType"] == "AuditEvent").count();
        (events, entries.len() - events)
    };
    assert_eq!((reads_of("doctor").await, reads_of("nora").await), ((5, 0), (5, 0)));

    // Somebody has nurses in the place of doctors, and the events say so at once; if nobody looked at what they were.
    let templates = "UPDATE template SET sample = CAST(replace(CAST(sample AS TEXT), 'doctor', 'nurses') AS BLOB) \
         WHERE instr(sample, 'read') > 0 AND instr(sample, '\"doctor\"') > 0";
    assert!(consortium.sql(templates, []) >= 1);
    // What is asked of the trail is compared with all that the ledger has of the patient, so that each answer says that something is missing.
    assert_eq!((reads_of("doctor").await, reads_of("nora").await), ((1, 1), (5, 1)));
    let other = consortium.client("rescue-one", "medic").for_purpose("HSYSADMIN");
    let report = other.post("/audit", &json!({"full": true})).await.good().json();
    let findings = report["findings"].as_array().unwrap();
    let modified = findings.iter().filter(|finding| finding["kind"] == "modified").count();
    assert_eq!((modified, findings.len()), (4, 4), "{report}");

    doctor.get(&format!("/fhir/Patient/{patient}")).await.good();
    consortium.settle().await;
    assert_eq!((reads_of("doctor").await, reads_of("nora").await), ((6, 0), (5, 0)));
    let report = other.post("/audit", &json!({"full": true})).await.good().json();
    assert_eq!(report["findings"], json!([]), "{report}");
}
