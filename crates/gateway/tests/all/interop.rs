//! What clients of others rely on, each found when one of them failed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium,
    client::{Answer, Client},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

const MERCY: &str = "mercy-hospital";
const SYSTEM: &str = "https://vitaltrace.org/test/interop";

fn person(value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}], "name": [{"family": "Nobody"}]})
}

fn pulse(patient: &str, minute: u32) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": format!("2026-01-12T10:{minute:02}:00Z"),
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

/// Every address in a Bundle: links, and where each entry is.
fn addresses(bundle: &Value) -> Vec<String> {
    let of = |list: &str, name: &str| {
        let items = bundle[list].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    [of("link", "url"), of("entry", "fullUrl")].concat()
}

async fn send(client: &Client, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    client.try_send(method, path, headers, Some(serde_json::to_vec(body).unwrap())).await.unwrap()
}

/// Links and `fullUrl` were relative to the host. fhirclient refused to follow a link without a scheme, fhir-kit-client put it behind its
/// base and asked for `/fhir/fhir/...`, Medplum's could not read it as a URL: of four clients one came past the first page of a search.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_answers_are_whole_and_begin_as_the_caller_calls_the_gateway() {
    let mut consortium = Consortium::found(&consortium::FOUR).await;
    let config = consortium.node("rescue-one").dir.join("vitaltrace.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("fhir_url = \"https://fhir.rescue.example/r4/\"\n{text}")).unwrap();
    consortium.add_user(MERCY, "doctor", "doctor", None);
    consortium.add_user("rescue-one", "paramedic", "responder", None);
    consortium.start_all().await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&person("1")).await.id();
    for minute in 0..3 {
        doctor.create(&pulse(&patient, minute)).await;
    }
    let base = format!("{}/fhir/", doctor.base);
    let paths = [
        "Patient".to_owned(),
        format!("Observation?patient={patient}&_count=2&_include=Observation:patient"),
        format!("Observation?patient={patient}&_summary=count"),
        format!("Patient/{patient}/_history"),
        format!("Patient/{patient}/$summary"),
    ];
    for path in &paths {
        let bundle = doctor.get(&format!("/fhir/{path}")).await.good().json();
        let addresses = addresses(&bundle);
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.starts_with(&base)), "{addresses:?}");
    }
    // Every page is reached by the links alone.
    let first = doctor.get(&format!("/fhir/{}", paths[1])).await.good().json();
    let next = first["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").unwrap();
    let next = next["url"].as_str().unwrap().strip_prefix(&doctor.base).unwrap().to_owned();
    assert_eq!(doctor.get(&next).await.good().json()["entry"].as_array().unwrap().len(), 2, "a match and a patient");
    let search = doctor.get("/fhir/Patient").await.good().json();
    assert_eq!(search["link"][0]["url"], format!("{base}Patient"), "no question mark without a query");

    let created = doctor.create(&person("2")).await;
    let location = created.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("{base}Patient/{}/_history/1", created.id()));
    let statement = doctor.get("/fhir/metadata").await.good().json();
    assert_eq!(format!("{}/", statement["implementation"]["url"].as_str().unwrap()), base);

    // By another name the same gateway answers with that one.
    let named = [("host", "mercy.example:8443")];
    let bundle = doctor.try_send(Method::GET, "/fhir/Patient", &named, None).await.unwrap().good().json();
    assert!(addresses(&bundle).iter().all(|address| address.starts_with("http://mercy.example:8443/fhir/Patient")));

    // Where the operator says how it is called, nobody else does.
    let paramedic = consortium.client("rescue-one", "paramedic");
    let bundle = paramedic.try_send(Method::GET, "/fhir/Patient", &named, None).await.unwrap().good().json();
    assert_eq!(addresses(&bundle)[0], "https://fhir.rescue.example/r4/Patient");
}

#[tokio::test(flavor = "multi_thread")]
async fn habits_of_clients_do_what_their_users_mean() {
    let consortium = Consortium::running(&[(MERCY, "doctor", "doctor"), (MERCY, "custodian", "custodian")]).await;
    let doctor = consortium.client(MERCY, "doctor");
    let patient = doctor.create(&person("1")).await.id();
    let pulse = doctor.create(&pulse(&patient, 0)).await.json();

    // fhirpy's `get_or_create` puts the condition of a create behind the address. It was passed over, and made a second patient.
    let conditional = format!("/fhir/Patient?identifier={SYSTEM}|1&_format=json");
    let same = send(&doctor, Method::POST, &conditional, &[], &person("1")).await;
    assert_eq!((same.status, same.id()), (200, patient.clone()));
    let other = conditional.replace("|1", "|2");
    assert_eq!(send(&doctor, Method::POST, &other, &[], &person("2")).await.status, 201);
    assert_eq!(send(&doctor, Method::POST, &other, &[], &person("2")).await.status, 200);
    assert_eq!(send(&doctor, Method::POST, "/fhir/Patient?_format=json", &[], &person("3")).await.status, 201);
    assert_eq!(send(&doctor, Method::POST, "/fhir/Patient?", &[], &person("4")).await.status, 201);
    for (path, condition, expected) in
        [("/fhir/Patient?colour=red", None, "not-supported"), (conditional.as_str(), Some("identifier=1"), "invalid")]
    {
        let headers: Vec<(&str, &str)> = condition.map(|condition| ("if-none-exist", condition)).into_iter().collect();
        let refused = send(&doctor, Method::POST, path, &headers, &person("5")).await;
        assert_eq!((refused.status, refused.json()["issue"][0]["code"].as_str()), (422, Some(expected)), "{path}");
    }

    // fhirpy's `count` adds the word of another server, and was refused.
    let counted = doctor.get(&format!("/fhir/Observation?patient={patient}&_count=0&_totalMethod=count")).await.good();
    assert_eq!(counted.json()["total"], 1);

    // A search by a key that nothing is sorted by was answered in any order, as if sorted.
    for (sort, status) in [
        ("-date", 200),
        ("_lastUpdated", 200),
        ("status", 200),
        ("colour", 422),
        ("-date,_lastUpdated", 200),
        ("-date,status,code,_id", 422),
        ("code-value-quantity", 422),
        ("-", 422),
    ] {
        assert_eq!(doctor.get(&format!("/fhir/Observation?_sort={sort}")).await.status, status, "{sort}");
    }

    // Operations are posted as a rule, and this one was not there.
    let summary = format!("/fhir/Patient/{patient}/$summary");
    let posted = doctor.try_send(Method::POST, &summary, &[], None).await.unwrap().good().json();
    assert_eq!(posted["type"], "document");
    doctor.post(&summary, &json!({"resourceType": "Parameters"})).await.good();
    for (body, status) in [
        (json!({"resourceType": "Parameters", "parameter": [{"name": "profile", "valueUri": "urn:a"}]}), 422),
        (person("1"), 422),
        (json!([]), 400),
    ] {
        assert_eq!(doctor.post(&summary, &body).await.status, status, "{body}");
    }

    // Medplum asks for histories by pages, and was given all versions; one of more than a thousand ended there without a word.
    let path = format!("/fhir/Observation/{}", pulse["id"].as_str().unwrap());
    for _ in 0..4 {
        doctor.put(&path, &pulse, &[]).await.good();
    }
    let custodian = consortium.client(MERCY, "custodian");
    custodian.try_send(Method::DELETE, &path, &[], None).await.unwrap().good();
    let mut next = Some(format!("{path}/_history?_count=4"));
    let mut pages = Vec::new();
    while let Some(path) = next {
        let page = doctor.get(&path).await.good().json();
        let versions = page["entry"].as_array().unwrap().iter();
        pages.push(versions.map(|entry| entry["response"]["etag"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
        let links = page["link"].as_array().unwrap();
        next = links
            .iter()
            .find(|link| link["relation"] == "next")
            .map(|link| link["url"].as_str().unwrap().strip_prefix(&doctor.base).unwrap().to_owned());
    }
    let tags = |versions: [u32; 4]| versions.map(|version| format!("W/\"{version}\"")).to_vec();
    assert_eq!(pages, [tags([6, 5, 4, 3]), tags([2, 1, 0, 0])[..2].to_vec()]);
    for (query, status) in [("_count=many", 422), ("_offset=2", 422), ("_format=json", 200)] {
        assert_eq!(doctor.get(&format!("{path}/_history?{query}")).await.status, status, "{query}");
    }

    // Whoever sends a method that an address does not take learns which it does.
    let refused = doctor.try_send(Method::PUT, "/fhir", &[], None).await.unwrap();
    let allowed: BTreeSet<&str> = refused.headers["allow"].to_str().unwrap().split(',').collect();
    assert_eq!((refused.status, allowed), (405, BTreeSet::from(["GET", "HEAD", "POST"])));
    let described = Client::new(&doctor.base, "").get("/openapi.json").await.good().json();
    assert_eq!(described["openapi"], "3.1.0");
}
