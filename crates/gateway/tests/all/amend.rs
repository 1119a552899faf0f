//! Changes that are found or computed rather than sent: patches, writes under a condition, and what is answered to them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MERCY: &str = "mercy-hospital";
const RESCUE: &str = "rescue-one";
const PEOPLE: [(&str, &str, &str); 5] = [
    (MERCY, "doctor", "doctor"),
    (MERCY, "desk", "administrator"),
    (MERCY, "officer", "privacy-officer"),
    (MERCY, "registrar", "custodian"),
    (RESCUE, "keeper", "custodian"),
];

const PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const LOINC: &str = "http://loinc.org";

/// A patient at a hospital, and people who may do different things.
struct Site {
    doctor: Client,
    desk: Client,
    officer: Client,
    /// The hospital's custodian, who alone deletes.
    registrar: Client,
    /// The rescue service's custodian.
    keeper: Client,
    patient: String,
    consortium: Consortium,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client(MERCY, "doctor");
        let person = json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "p-1"}], "gender": "unknown"});
        let patient = doctor.create(&person).await.id();
        consortium.settle().await;
        Self {
            desk: consortium.client(MERCY, "desk"),
            officer: consortium.client(MERCY, "officer").for_purpose("HOPERAT"),
            registrar: consortium.client(MERCY, "registrar").for_purpose("HSYSADMIN"),
            keeper: consortium.client(RESCUE, "keeper").for_purpose("HSYSADMIN"),
            doctor,
            patient,
            consortium,
        }
    }

    /// A pulse, as text: its value has a digit that floating point would lose.
    fn pulse(&self, identifier: &str) -> Value {
        json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{}", self.patient)},
            "identifier": [{"system": "urn:pulse", "value": identifier}],
            "code": {"coding": [{"system": LOINC, "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z"
        })
    }

    async fn patch(&self, client: &Client, path: &str, operations: &Value) -> Answer {
        client.send(Method::PATCH, path, &[PATCH], operations).await
    }

    /// The audit events about the patient: interaction and outcome of each.
    async fn trail(&self) -> Vec<(String, String)> {
        let path = format!("/fhir/AuditEvent?patient={}&_count=500", self.patient);
        let found = self.officer.get(&path).await.good().json();
        let of = |entry: &Value| {
            let event = &entry["resource"];
            let subtypes = event["subtype"].as_array().into_iter().flatten();
            let code = subtypes.filter_map(|subtype| subtype["code"].as_str()).next().unwrap_or_default();
            (code.to_owned(), event["outcome"].as_str().unwrap_or_default().to_owned())
        };
        found["entry"].as_array().unwrap().iter().map(of).collect()
    }
}

/// Status, and the code and words of the first issue.
#[track_caller]
fn refused(answer: &Answer) -> (u16, String, String) {
    let outcome = answer.json();
    let issue = &outcome["issue"][0];
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    (answer.status, text(&issue["code"]), text(&issue["diagnostics"]))
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_what_it_names_and_is_a_read_and_an_update_in_the_trail() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let mut pulse = site.pulse("1");
    // The value is written by hand: this library would write 72.5.
    pulse["valueQuantity"] = json!({"value": "VALUE", "unit": "/min"});
    let text = pulse.to_string().replace("\"VALUE\"", "72.50");
    let created = doctor.try_send(Method::POST, "/fhir/Observation", &[], Some(text.into())).await.unwrap().good();
    let path = format!("/fhir/Observation/{}", created.id());

    let before = site.trail().await;
    let operations = json!([
        {"op": "test", "path": "/status", "value": "final"},
        {"op": "replace", "path": "/status", "value": "amended"},
        {"op": "add", "path": "/note", "value": [{"text": "checked"}]}
    ]);
    let answer = site.patch(doctor, &path, &operations).await.good();
    assert_eq!((answer.status, header(&answer, "etag")), (200, "W/\"2\""));
    assert_eq!(header(&answer, "location"), format!("{}{path}/_history/2", doctor.base));
    let read = doctor.get(&path).await.good();
    assert_eq!(read.bytes, answer.bytes);
    assert_eq!((&read.json()["status"], &read.json()["note"][0]["text"]), (&json!("amended"), &json!("checked")));
    assert!(read.text().contains("72.50"), "a patch keeps what it does not name: {}", read.text());
    assert!(header(&read, "last-modified").ends_with(" GMT"), "{:?}", read.headers);
    let after = site.trail().await;
    let count = |trail: &[(String, String)], code: &str| trail.iter().filter(|(of, _)| of == code).count();
    assert_eq!((count(&after, "patch"), count(&before, "patch")), (1, 0));
    // The second is the read above.
    assert_eq!(count(&after, "read"), count(&before, "read") + 2);

    // A patch that cannot be applied tells why and changes nothing.
    for (operations, expected) in [
        (json!([{"op": "test", "path": "/status", "value": "final"}]), (409, "conflict")),
        (json!([{"op": "remove", "path": "/interpretation"}]), (409, "conflict")),
        (json!([{"op": "merge", "path": "/status"}]), (400, "structure")),
        (json!({"op": "remove", "path": "/note"}), (400, "structure")),
        (json!([{"op": "remove", "path": "/status"}]), (422, "required")),
        (json!([{"op": "replace", "path": "/status", "value": "great"}]), (422, "code-invalid")),
        (json!([{"op": "replace", "path": "/id", "value": "other"}]), (422, "business-rule")),
    ] {
        let (status, code, _) = refused(&site.patch(doctor, &path, &operations).await);
        assert_eq!((status, code.as_str()), expected, "{operations}");
    }
    let plain = doctor.send(Method::PATCH, &path, &[], &json!([])).await;
    assert_eq!(refused(&plain).0, 415, "only JSON Patch is taken");
    let old = doctor.send(Method::PATCH, &path, &[PATCH, ("if-match", "W/\"1\"")], &json!([])).await;
    assert_eq!(refused(&old).0, 412);
    assert_eq!(doctor.get(&path).await.good().bytes, read.bytes);
    assert_eq!(refused(&site.patch(doctor, "/fhir/Observation/none", &json!([])).await).0, 404);

    // Who may not read what is patched may not patch it: the tests of a patch tell what is there.
    let denied = site.patch(&site.desk, &path, &json!([{"op": "test", "path": "/status", "value": "amended"}])).await;
    assert_eq!(refused(&denied).0, 403);
    // Nor make it anybody else's.
    let other = json!([{"op": "replace", "path": "/subject/reference", "value": "Patient/somebody-else"}]);
    let (status, code, text) = refused(&site.patch(doctor, &path, &other).await);
    assert_eq!((status, code.as_str()), (422, "not-found"));
    assert_eq!(text, "it refers to `Patient/somebody-else`, which is not here");
    site.registrar.send(Method::DELETE, &path, &[], &Value::Null).await.good();
    assert_eq!(refused(&site.patch(doctor, &path, &json!([])).await).0, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_that_meet_are_applied_one_after_the_other_or_refused() {
    let site = Site::new().await;
    let mut pulse = site.pulse("1");
    pulse["note"] = json!([{"text": "first"}]);
    let path = format!("/fhir/Observation/{}", site.doctor.create(&pulse).await.id());
    let add = |n: usize| json!([{"op": "add", "path": "/note/-", "value": {"text": n.to_string()}}]);
    let patches: Vec<Value> = (0..12).map(add).collect();
    let answers = futures::future::join_all(patches.iter().map(|patch| site.patch(&site.doctor, &path, patch))).await;
    let (done, lost): (Vec<_>, Vec<_>) = answers.iter().enumerate().partition(|(_, answer)| answer.status == 200);
    assert!(lost.iter().all(|(_, answer)| answer.status == 412), "{lost:?}");
    let read = site.doctor.get(&path).await.good();
    let notes: BTreeSet<String> =
        read.json()["note"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap().to_owned()).collect();
    let expected: BTreeSet<String> = done.iter().map(|(n, _)| n.to_string()).chain(["first".to_owned()]).collect();
    assert_eq!(notes, expected, "nothing that was answered is lost, nothing that was refused is there");
    assert_eq!(header(&read, "etag"), format!("W/\"{}\"", done.len() + 1));
    assert!(!done.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_finds_the_one_record_that_is_written() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let condition = "/fhir/Observation?identifier=urn:pulse|1";
    let put = async |path: &str, body: &Value| doctor.send(Method::PUT, path, &[], body).await;

    let created = put(condition, &site.pulse("1")).await.good();
    assert_eq!((created.status, header(&created, "etag")), (201, "W/\"1\""));
    let id = created.id();
    let mut amended = site.pulse("1");
    amended["status"] = json!("amended");
    let updated = put(condition, &amended).await.good();
    assert_eq!((updated.status, updated.id(), header(&updated, "etag")), (200, id.clone(), "W/\"2\""));
    amended["id"] = json!(id);
    assert_eq!(header(&put(condition, &amended).await.good(), "etag"), "W/\"3\"");
    amended["id"] = json!("another");
    let (status, code, _) = refused(&put(condition, &amended).await);
    assert_eq!((status, code.as_str()), (400, "structure"));
    let stale = doctor.send(Method::PUT, condition, &[("if-match", "W/\"1\"")], &site.pulse("1")).await;
    assert_eq!(refused(&stale).0, 412);

    // Under an id that the client chose; one that is taken is not taken away.
    let mut chosen = site.pulse("2");
    chosen["id"] = json!("chosen-2");
    let answer = put("/fhir/Observation?identifier=urn:pulse|2", &chosen).await.good();
    assert_eq!((answer.status, answer.id()), (201, "chosen-2".to_owned()));
    assert_eq!(put("/fhir/Observation?identifier=urn:pulse|3", &chosen).await.status, 409);

    let patch = json!([{"op": "replace", "path": "/status", "value": "corrected"}]);
    let patched = site.patch(doctor, condition, &patch).await.good();
    assert_eq!((patched.id(), &patched.json()["status"]), (id.clone(), &json!("corrected")));
    assert_eq!(site.patch(doctor, "/fhir/Observation?identifier=urn:pulse|9", &patch).await.status, 404);

    // Several, or no condition at all, would change what nobody named.
    let many = format!("/fhir/Observation?patient={}", site.patient);
    for (method, body) in
        [(Method::PUT, site.pulse("1")), (Method::PATCH, patch.clone()), (Method::DELETE, Value::Null)]
    {
        let headers: &[(&str, &str)] = if method == Method::PATCH { &[PATCH] } else { &[] };
        let who = if method == Method::DELETE { &site.registrar } else { doctor };
        assert_eq!(who.send(method.clone(), &many, headers, &body).await.status, 412, "{method}");
        for none in ["/fhir/Observation", "/fhir/Observation?_count=1"] {
            assert_eq!(who.send(method.clone(), none, headers, &body).await.status, 422, "{method} {none}");
        }
        let unknown = who.send(method.clone(), "/fhir/Observation?colour=red", headers, &body).await;
        assert_eq!(unknown.status, 422, "{method}");
    }

    let delete = async || site.registrar.send(Method::DELETE, condition, &[], &Value::Null).await;
    assert_eq!(delete().await.status, 204);
    assert_eq!(doctor.get(&format!("/fhir/Observation/{id}")).await.status, 410);
    assert_eq!(delete().await.status, 204, "there is nothing to delete any more");
    assert_eq!(doctor.get("/fhir/Observation/chosen-2").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_says_nothing_of_records_that_the_caller_may_not_find() {
    let site = Site::new().await;
    site.doctor.create(&site.pulse("1")).await;
    let organisation =
        json!({"resourceType": "Organization", "identifier": [{"system": "urn:org", "value": "o"}], "name": "Mercy"});
    let practitioner = json!({"resourceType": "Practitioner", "identifier": [{"system": "urn:doc", "value": "d"}]});
    let keeper = &site.keeper;
    keeper.create(&practitioner).await;

    // The custodian of another organisation may create, and sees what is about no patient.
    let created = keeper
        .send(Method::POST, "/fhir/Organization", &[("if-none-exist", "identifier=urn:org|o")], &organisation)
        .await;
    assert_eq!(created.status, 201);
    for (what, answer) in [
        (
            "create",
            keeper
                .send(
                    Method::POST,
                    "/fhir/Observation",
                    &[("if-none-exist", "identifier=urn:pulse|1")],
                    &site.pulse("1"),
                )
                .await,
        ),
        ("update", keeper.send(Method::PUT, "/fhir/Observation?identifier=urn:pulse|1", &[], &site.pulse("1")).await),
        ("delete", keeper.send(Method::DELETE, "/fhir/Observation?identifier=urn:pulse|1", &[], &Value::Null).await),
        ("patch", site.patch(keeper, "/fhir/Observation?identifier=urn:pulse|1", &json!([])).await),
    ] {
        assert_eq!(refused(&answer).0, 403, "{what}");
    }
    let referring = |reference: &str| {
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
            "resource": {"resourceType": "Basic", "code": {"text": "x"}, "author": {"reference": reference}},
            "request": {"method": "POST", "url": "Basic"}
        }]})
    };
    // References by a condition asked nobody, and told who is behind any number.
    assert_eq!(refused(&keeper.post("/fhir", &referring("Patient?identifier=urn:mrn|p-1")).await).0, 403);
    keeper.post("/fhir", &referring("Practitioner?identifier=urn:doc|d")).await.good();
    // Other gateways write theirs a moment later.
    site.consortium.settle().await;
    let denied = site.trail().await.into_iter().filter(|(_, outcome)| outcome == "8").count();
    assert!(denied >= 5, "each is in the trail: {denied}");

    // That a condition is met is told to who may find the record, and is in the trail even where nothing is written.
    let searches = async || site.trail().await.into_iter().filter(|(code, _)| code == "search").count();
    let before = searches().await;
    let mut other = site.pulse("1");
    other["id"] = json!("another");
    assert_eq!(
        site.doctor.send(Method::PUT, "/fhir/Observation?identifier=urn:pulse|1", &[], &other).await.status,
        400
    );
    // The other one is the look at the trail before.
    assert_eq!(searches().await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_take_patches_and_conditions_as_requests_do() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let id = doctor.create(&site.pulse("1")).await.id();
    // [{"op":"replace","path":"/status","value":"amended"}]
    let data = "W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9zdGF0dXMiLCJ2YWx1ZSI6ImFtZW5kZWQifV0=";
    let binary = json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data});
    let bundle = |kind: &str, patch: &Value, url: &str| {
        json!({"resourceType": "Bundle", "type": kind, "entry": [
            {"resource": patch, "request": {"method": "PATCH", "url": url}},
            {"resource": site.pulse("2"), "request": {"method": "PUT", "url": "Observation?identifier=urn:pulse|2"}},
            {"request": {"method": "DELETE", "url": "Observation?identifier=urn:pulse|7"}}
        ]})
    };
    let statuses = |answer: &Answer| {
        let bundle = answer.json();
        let entries = bundle["entry"].as_array().unwrap().iter();
        entries.map(|entry| entry["response"]["status"].as_str().unwrap()[..3].to_owned()).collect::<Vec<_>>()
    };
    let instance = format!("Observation/{id}");
    let answer = doctor.post("/fhir", &bundle("transaction", &binary, &instance)).await.good();
    assert_eq!(statuses(&answer), ["200", "201", "204"]);
    let answer = doctor.post("/fhir", &bundle("batch", &binary, "Observation?identifier=urn:pulse|1")).await.good();
    assert_eq!(statuses(&answer), ["200", "200", "204"]);
    let read = doctor.get(&format!("/fhir/{instance}")).await.good();
    assert_eq!((&read.json()["status"], header(&read, "etag")), (&json!("amended"), "W/\"3\""));

    // FHIRPath Patch is not offered, and spoils a transaction as a whole.
    let parameters = json!({"resourceType": "Parameters"});
    let refused_whole = doctor.post("/fhir", &bundle("transaction", &parameters, &instance)).await;
    assert_eq!((refused(&refused_whole).0, refused(&refused_whole).1.as_str()), (422, "not-supported"));
    let answer = doctor.post("/fhir", &bundle("batch", &parameters, &instance)).await.good();
    assert_eq!(statuses(&answer), ["422", "200", "204"]);
    let found = doctor.get("/fhir/Observation?identifier=urn:pulse|2").await.good().json();
    assert_eq!(found["entry"][0]["resource"]["meta"]["versionId"], "3", "once by each bundle that was carried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_much_as_the_caller_wants_and_in_json() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let post = async |prefer: &str| {
        doctor.send(Method::POST, "/fhir/Observation", &[("prefer", prefer)], &site.pulse("1")).await.good()
    };
    assert_eq!(post("return=representation").await.json()["resourceType"], "Observation");
    let minimal = post("return=minimal").await;
    assert_eq!((minimal.status, minimal.bytes.len(), header(&minimal, "etag")), (201, 0, "W/\"1\""));
    let location = header(&minimal, "location").strip_prefix(&doctor.base).unwrap();
    let path = location.strip_suffix("/_history/1").unwrap().to_owned();
    let said = post("return=OperationOutcome").await;
    assert_eq!((said.status, &said.json()["issue"][0]["severity"]), (201, &json!("information")));

    let get = async |path: &str, name: &str, value: &str| {
        doctor.send(Method::GET, path, &[(name, value)], &Value::Null).await
    };
    let known = get(&path, "if-none-match", "W/\"1\"").await;
    assert_eq!((known.status, known.bytes.len(), header(&known, "etag")), (304, 0, "W/\"1\""));
    assert_eq!(get(&path, "if-none-match", "W/\"2\"").await.status, 200);

    assert_eq!(refused(&get(&path, "accept", "application/fhir+xml").await).0, 406);
    assert_eq!(refused(&get(&format!("{path}?_format=xml"), "accept", "*/*").await).0, 406);
    assert_eq!(get(&format!("{path}?_format=json"), "accept", "application/fhir+xml").await.status, 200);
    let xml = [("content-type", "application/fhir+xml")];
    assert_eq!(refused(&doctor.send(Method::POST, "/fhir/Observation", &xml, &site.pulse("1")).await).0, 415);
    let metadata = doctor.get("/fhir/metadata").await.good().json();
    assert_eq!(metadata["patchFormat"], json!(["application/json-patch+json"]));
    let resource = &metadata["rest"][0]["resource"][0];
    assert_eq!(
        (&resource["conditionalUpdate"], &resource["conditionalDelete"], &resource["conditionalRead"]),
        (&json!(true), &json!("single"), &json!("not-match"))
    );
}

/// A condition believed what the database's index said of a record: whoever can write there could have somebody's update, or a
/// reference to a patient, end at any other record. And an id that a client chose for a new record in a Bundle was taken for free
/// when the database had no row of it, so that a patient whose rows were hidden was enrolled once more, under another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_met_by_what_a_record_says_and_a_hidden_record_is_not_written_over() {
    let site = Site::new().await;
    let doctor = &site.doctor;
    let one = doctor.create(&site.pulse("1")).await.id();
    site.consortium.settle().await;
    site.consortium.sql("UPDATE token SET code = 'moved' WHERE param = 'identifier' AND code = ?1", ["1"]);
    let moved = "/fhir/Observation?identifier=urn:pulse|moved";
    assert_eq!(doctor.send(Method::PUT, moved, &[], &site.pulse("moved")).await.status, 503);
    assert_eq!(site.patch(doctor, moved, &json!([])).await.status, 503);
    let create = [("if-none-exist", "identifier=urn:pulse|moved")];
    assert_eq!(doctor.send(Method::POST, "/fhir/Observation", &create, &site.pulse("moved")).await.status, 503);
    let read = doctor.get(&format!("/fhir/Observation/{one}")).await.good();
    assert_eq!(read.json()["meta"]["versionId"], "1");

    site.consortium.sql("DELETE FROM version WHERE id = ?1", [&site.patient]);
    let again = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
        "resource": {"resourceType": "Patient", "id": site.patient, "gender": "unknown"},
        "request": {"method": "PUT", "url": "Patient?identifier=urn:mrn|none"}
    }]});
    assert_eq!(doctor.post("/fhir", &again).await.status, 503);
    let taken = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
        "resource": {"resourceType": "Observation", "id": one, "status": "final", "code": {"text": "x"}},
        "request": {"method": "PUT", "url": "Observation?identifier=urn:pulse|none"}
    }]});
    assert_eq!(refused(&doctor.post("/fhir", &taken).await).0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_of_a_bundles_conditions_tells_each_patient_of_its_own_alone() {
    let site = Site::new().await;
    let other =
        json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "p-2"}], "gender": "unknown"});
    site.doctor.create(&other).await;
    site.consortium.settle().await;
    let observation = |number: u8| {
        let mut observation = site.pulse(&number.to_string());
        observation["subject"] = json!({"reference": format!("Patient?identifier=urn:mrn|p-{number}")});
        json!({"resource": observation, "request": {"method": "POST", "url": "Observation"}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [observation(1), observation(2)]});
    site.doctor.post("/fhir", &bundle).await.good();
    let found = site.officer.get(&format!("/fhir/AuditEvent?patient={}&_count=500", site.patient)).await.good().json();
    let entities = found["entry"].as_array().unwrap().iter().flat_map(|entry| entry["resource"]["entity"].as_array());
    let queries = entities.flatten().filter_map(|entity| entity["query"].as_str());
    let queries: Vec<String> =
        queries.map(|query| String::from_utf8(STANDARD.decode(query).unwrap()).unwrap()).collect();
    assert!(queries.iter().any(|query| query.contains("p-1")), "{queries:?}");
    assert!(!queries.iter().any(|query| query.contains("p-2")), "another patient's number: {queries:?}");
}
