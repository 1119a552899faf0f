//! Operations on what is there: everything of a patient, the latest of each code, validation; and what searches count and bring along.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";
const PEOPLE: [(&str, &str, &str); 4] = [
    (MERCY, "doctor", "doctor"),
    (MERCY, "desk", "administrator"),
    (MERCY, "registrar", "custodian"),
    ("rescue-one", "keeper", "custodian"),
];

struct Site {
    consortium: Consortium,
    doctor: Client,
    desk: Client,
    registrar: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        let desk = consortium.client(MERCY, "desk");
        let registrar = consortium.client(MERCY, "registrar").for_purpose("HSYSADMIN");
        Self { consortium, doctor, desk, registrar, patient }
    }

    /// An observation of the patient; its id.
    async fn observed(&self, code: &str, at: &str, more: &Value) -> String {
        let mut resource = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{}", self.patient)},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "effectiveDateTime": at
        });
        resource.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.doctor.create(&resource).await.id()
    }
}

/// `mode Type/id` of every entry, in the order of the answer.
#[track_caller]
fn entries(answer: &Answer) -> Vec<String> {
    let bundle = answer.json();
    assert_eq!(bundle["type"], "searchset", "{bundle}");
    let of = |entry: &Value| {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let resource = &entry["resource"];
        format!("{} {}/{}", text(&entry["search"]["mode"]), text(&resource["resourceType"]), text(&resource["id"]))
    };
    bundle["entry"].as_array().into_iter().flatten().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_patient_is_whole_or_says_what_is_missing() {
    let site = Site::new().await;
    let patient = site.patient.as_str();
    let organisation = site.registrar.create(&json!({"resourceType": "Organization", "name": "Mercy"})).await.id();
    let role = json!({"resourceType": "PractitionerRole", "organization": {"reference": format!("Organization/{organisation}")}});
    let role = site.registrar.create(&role).await.id();
    let other = site.doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    let encounter = json!({
        "resourceType": "Encounter", "status": "finished", "subject": {"reference": format!("Patient/{patient}")},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}, "period": {"start": "2026-01-12"}
    });
    let encounter = site.doctor.create(&encounter).await.id();
    let performer = json!({"performer": [{"reference": format!("PractitionerRole/{role}")}, {"reference": format!("Patient/{other}")}]});
    let pulse = site.observed("8867-4", "2025-06-01", &performer).await;
    let allergy = json!({
        "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{patient}")}, "criticality": "high",
        "code": {"text": "penicillin"}
    });
    let allergy = site.doctor.create(&allergy).await.id();
    site.consortium.settle().await;

    let path = format!("/fhir/Patient/{patient}/$everything");
    let get = async |client: &Client, query: &str| client.get(&format!("{path}{query}")).await.good();
    let own = [
        format!("match Patient/{patient}"),
        format!("match AllergyIntolerance/{allergy}"),
        format!("match Encounter/{encounter}"),
        format!("match Observation/{pulse}"),
    ];
    let along = [format!("include PractitionerRole/{role}"), format!("include Organization/{organisation}")];
    let all: Vec<String> = own.iter().chain(&along).cloned().collect();
    assert_eq!(entries(&get(&site.doctor, "").await), all);
    assert_eq!(entries(&get(&site.desk, "").await), [own[0].clone(), own[2].clone()], "what administration may see");
    assert_eq!(entries(&get(&site.doctor, "?_type=Encounter,Patient").await), [own[0].clone(), own[2].clone()]);
    let posted =
        json!({"resourceType": "Parameters", "parameter": [{"name": "_type", "valueCode": "Encounter,Patient"}]});
    let posted = site.doctor.post(&path, &posted).await.good();
    assert_eq!(entries(&posted), [own[0].clone(), own[2].clone()], "as by its address");
    assert_eq!(entries(&get(&site.doctor, "?start=2026-01-01&end=2026-12-31").await), own[..3]);
    assert_eq!(entries(&get(&site.doctor, "?_since=2999-01-01T00:00:00Z").await), [""; 0]);
    let (mut paged, mut query) = (Vec::new(), Some("?_count=3".to_owned()));
    while let Some(this) = query {
        let page = get(&site.doctor, &this).await;
        paged.extend(entries(&page));
        query = site.doctor.next(&page).map(|url| url.strip_prefix(&path).unwrap().to_owned());
    }
    assert_eq!(paged, all);
    assert_eq!(site.doctor.get("/fhir/Patient/nobody/$everything").await.status, 404);
    assert_eq!(site.doctor.get(&format!("{path}?code=1")).await.status, 422);

    // What was taken away: an observation is missed, an allergy comes from the vaults.
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [&pulse]);
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [&allergy]);
    let answer = get(&site.doctor, "").await;
    assert_eq!(
        entries(&answer),
        [own[0].clone(), own[1].clone(), own[2].clone(), "outcome OperationOutcome/".to_owned()]
    );
    assert!(answer.text().contains("1 records on the ledger may be missing"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_of_each_code_are_those_that_were_made_last() {
    let site = Site::new().await;
    let none = Value::Null;
    let old = site.observed("8867-4", "2026-01-01", &none).await;
    let new = site.observed("8867-4", "2026-01-03", &none).await;
    let middle = site.observed("8867-4", "2026-01-02", &none).await;
    let other = site.observed("8310-5", "2025-01-01", &none).await;
    site.consortium.settle().await;
    let path = format!("/fhir/Observation/$lastn?patient={}", site.patient);
    let matched = |ids: &[&str]| ids.iter().map(|id| format!("match Observation/{id}")).collect::<Vec<_>>();
    let get = async |more: &str| site.doctor.get(&format!("{path}{more}")).await.good();
    let latest = get("").await;
    assert_eq!(entries(&latest), matched(&[&new, &other]));
    assert_eq!(latest.json()["total"], 2);
    assert_eq!(entries(&get("&max=2").await), matched(&[&new, &middle, &other]));
    assert_eq!(entries(&get("&max=9&date=lt2026-01-03").await), matched(&[&middle, &old, &other]));
    assert_eq!(entries(&get("&code=8310-5").await), matched(&[&other]));
    let parameters = |code: &Value| {
        json!({"resourceType": "Parameters", "parameter": [
            {"name": "patient", "valueString": site.patient}, {"name": "max", "valuePositiveInt": 2}, {"name": "code", "valueCoding": code}
        ]})
    };
    let mut posted = parameters(&json!({"code": "8867-4"}));
    let refused = site.doctor.post("/fhir/Observation/$lastn", &posted).await;
    assert_eq!(
        (refused.status, refused.json()["issue"][0]["expression"][0].as_str()),
        (422, Some("Parameters.parameter[2]"))
    );
    posted["parameter"][2] = json!({"name": "code", "valueCode": "http://loinc.org|8867-4"});
    assert_eq!(entries(&site.doctor.post("/fhir/Observation/$lastn", &posted).await.good()), matched(&[&new, &middle]));
    assert_eq!(entries(&site.desk.get(&path).await.good()), [""; 0]);
    for wrong in ["&max=0", "&max=x", "&_count=1", "&_include=Observation:subject", "&_summary=count", "&colour=red"] {
        assert_eq!(site.doctor.get(&format!("{path}{wrong}")).await.status, 422, "{wrong}");
    }
    assert_eq!(site.doctor.get("/fhir/Observation/$lastn?code=8867-4").await.status, 422, "of no patient");

    // Else the one before would pass for the latest.
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [&new]);
    let answer = get("").await;
    assert_eq!(entries(&answer)[..2], matched(&[&middle, &other]));
    assert!(answer.text().contains("1 records on the ledger may be missing"), "{}", answer.text());
    assert!(answer.json()["total"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_says_what_a_write_would_say_and_writes_nothing() {
    let site = Site::new().await;
    let good = json!({"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}});
    let bad = json!({"resourceType": "Observation", "status": "great", "code": {"text": "pulse"}});
    let issue = async |body: &Value| {
        let answer = site.doctor.post("/fhir/Observation/$validate", body).await.good();
        let outcome = answer.json();
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let issue = &outcome["issue"][0];
        format!("{} {} {}", text(&issue["severity"]), text(&issue["code"]), text(&issue["expression"][0]))
    };
    let carried = |resource: &Value| json!({"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "create"}, {"name": "resource", "resource": resource}]});
    for (body, expected) in [
        (good.clone(), "information informational "),
        (bad.clone(), "error code-invalid Observation.status"),
        (carried(&good), "information informational "),
        (carried(&bad), "error code-invalid Observation.status"),
        (json!({"resourceType": "Patient"}), "error invalid resourceType"),
    ] {
        assert_eq!(issue(&body).await, expected, "{body}");
    }
    assert_eq!(
        site.doctor.post("/fhir/Observation/$validate", &json!({"resourceType": "Parameters"})).await.status,
        422
    );
    assert_eq!(site.doctor.post("/fhir/Zebra/$validate", &good).await.status, 404);
    let found = site.doctor.get("/fhir/Observation").await.good();
    assert_eq!(entries(&found), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_counts_what_the_caller_may_see_and_included_records_bring_others_along() {
    let site = Site::new().await;
    let none = Value::Null;
    let panel = site.observed("85354-9", "2026-01-01", &none).await;
    let member = json!({"hasMember": [{"reference": format!("Observation/{panel}")}]});
    let middle = site.observed("8867-4", "2026-01-02", &member).await;
    let member = json!({"hasMember": [{"reference": format!("Observation/{middle}")}]});
    let outer = site.observed("8867-4", "2026-01-03", &member).await;
    site.consortium.settle().await;
    let of = format!("/fhir/Observation?patient={}", site.patient);
    let total =
        async |client: &Client, more: &str| client.get(&format!("{of}{more}")).await.good().json()["total"].clone();
    assert_eq!(total(&site.doctor, "").await, 3, "all of them are on the page");
    // The total of a page counted what stands on the others, whether the caller may see it or not. Now a page goes on until it is filled by
    // what the caller may see, or until there is nothing more.
    assert_eq!(total(&site.desk, "&_count=1").await, 0);
    assert_eq!(total(&site.doctor, "&_count=1").await, Value::Null);
    assert_eq!(
        (total(&site.doctor, "&_count=1&_total=accurate").await, total(&site.desk, "&_count=1&_total=accurate").await),
        (json!(3), json!(0))
    );
    assert_eq!(total(&site.doctor, "&_total=none").await, Value::Null);
    assert_eq!(site.doctor.get(&format!("{of}&_total=many")).await.status, 422);

    let along = async |query: &str| {
        let mut found = entries(&site.doctor.get(query).await.good());
        found.sort();
        found
    };
    let one = format!("/fhir/Observation?_id={outer}");
    let include = |id: &str| format!("include Observation/{id}");
    let matched = format!("match Observation/{outer}");
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(
        along(&format!("{one}&_include=Observation:has-member")).await,
        sorted(vec![include(&middle), matched.clone()])
    );
    let all = sorted(vec![include(&middle), include(&panel), matched.clone()]);
    assert_eq!(along(&format!("{one}&_include:iterate=Observation:has-member")).await, all);
    let people = along(&format!("{one}&_include=Observation:has-member&_include:iterate=Observation:subject")).await;
    assert_eq!(people, sorted(vec![include(&middle), matched, format!("include Patient/{}", site.patient)]));
    let inward = along(&format!("/fhir/Observation?_id={panel}&_revinclude:iterate=Observation:has-member")).await;
    assert_eq!(inward, sorted(vec![include(&middle), include(&outer), format!("match Observation/{panel}")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_found_by_what_is_known_and_nobody_is_certain_without_an_identifier() {
    let site = Site::new().await;
    let person = |value: &str, given: &str| {
        json!({
            "resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": value}], "gender": "female",
            "name": [{"family": "Müller", "given": [given]}], "birthDate": "1970-01-02"
        })
    };
    let ada = site.doctor.create(&person("7", "Ada")).await.id();
    let eve = site.doctor.create(&person("8", "Eve")).await.id();
    site.consortium.settle().await;
    let matched = async |client: &Client, resource: Value, certain: bool| {
        let body = json!({"resourceType": "Parameters", "parameter": [
            {"name": "resource", "resource": resource}, {"name": "onlyCertainMatches", "valueBoolean": certain}
        ]});
        let answer = client.post("/fhir/Patient/$match", &body).await.good();
        let bundle = answer.json();
        let of = |entry: &Value| {
            let search = &entry["search"];
            let (grade, score) =
                (search["extension"][0]["valueCode"].as_str().unwrap(), search["score"].as_f64().unwrap());
            (entry["resource"]["id"].as_str().unwrap().to_owned(), grade.to_owned(), score)
        };
        let entries = bundle["entry"].as_array().into_iter().flatten().map(of);
        entries.collect::<Vec<_>>()
    };
    let known =
        json!({"resourceType": "Patient", "name": [{"family": "muller", "given": ["ADA"]}], "birthDate": "1970-01-02"});
    let found = matched(&site.doctor, known.clone(), false).await;
    assert_eq!(found[0], (ada.clone(), "probable".to_owned(), 0.85));
    assert_eq!(found[1], (eve.clone(), "possible".to_owned(), 0.65));
    assert_eq!(matched(&site.doctor, known, true).await, []);
    let numbered = json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "8"}]});
    assert_eq!(matched(&site.doctor, numbered.clone(), true).await, [(eve, "certain".to_owned(), 1.0)]);
    // Nobody of another organisation without a right to see them learns whether there is such a person.
    let keeper = site.consortium.client("rescue-one", "keeper").for_purpose("HSYSADMIN");
    assert_eq!(matched(&keeper, numbered, false).await, []);
    for wrong in [
        json!({"resourceType": "Patient"}),
        json!({"resourceType": "Parameters"}),
        json!({"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "gender": "male"}}]}),
    ] {
        assert_eq!(site.doctor.post("/fhir/Patient/$match", &wrong).await.status, 422, "{wrong}");
    }
}
