//! What was: the versions of a record, of a type and of everything, held against the ledger.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use reqwest::Method;
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";
const PEOPLE: [(&str, &str, &str); 5] = [
    ("rescue-one", "medic", "responder"),
    (MERCY, "doctor", "doctor"),
    (MERCY, "desk", "administrator"),
    (MERCY, "officer", "privacy-officer"),
    (MERCY, "registrar", "custodian"),
];

struct Site {
    consortium: Consortium,
    doctor: Client,
    desk: Client,
    officer: Client,
    registrar: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client(MERCY, "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        Self {
            desk: consortium.client(MERCY, "desk"),
            officer: consortium.client(MERCY, "officer").for_purpose("HOPERAT"),
            registrar: consortium.client(MERCY, "registrar").for_purpose("HSYSADMIN"),
            consortium,
            doctor,
            patient,
        }
    }

    /// A record of the patient whose versions have these texts; its path.
    async fn noted(&self, mut resource: Value, notes: &[&str]) -> String {
        let rtype = resource["resourceType"].as_str().unwrap().to_owned();
        resource["note"] = json!([{"text": notes[0]}]);
        let id = self.doctor.create(&resource).await.id();
        let path = format!("/fhir/{rtype}/{id}");
        resource["id"] = json!(id);
        for note in &notes[1..] {
            resource["note"] = json!([{"text": note}]);
            self.doctor.put(&path, &resource, &[]).await.good();
        }
        path
    }

    fn pulse(&self) -> Value {
        json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{}", self.patient)},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
        })
    }

    fn allergy(&self) -> Value {
        json!({
            "resourceType": "AllergyIntolerance", "patient": {"reference": format!("Patient/{}", self.patient)},
            "criticality": "high", "code": {"text": "penicillin"}
        })
    }
}

/// Of each entry: verb, version, and the note, or why there is none.
#[track_caller]
fn entries(answer: &Answer) -> Vec<String> {
    let bundle = answer.json();
    assert_eq!(bundle["type"], "history", "{bundle}");
    let of = |entry: &Value| {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let version = text(&entry["response"]["etag"]).replace(['W', '/', '"'], "");
        let what = match (&entry["resource"], &entry["response"]["outcome"]["issue"][0]) {
            (Value::Null, Value::Null) => "gone".to_owned(),
            (Value::Null, issue) => format!("{} {}", &text(&entry["response"]["status"])[..3], text(&issue["code"])),
            (resource, _) => text(&resource["note"][0]["text"]),
        };
        format!("{} {version} {what}", text(&entry["request"]["method"]))
    };
    bundle["entry"].as_array().into_iter().flatten().map(of).collect()
}

/// The entries of all pages, and how many pages there were.
async fn pages(client: &Client, first: &str) -> (Vec<String>, usize) {
    let (mut all, mut count) = (Vec::new(), 0);
    let mut path = Some(first.to_owned());
    while let Some(this) = path {
        let page = client.get(&this).await.good();
        all.extend(entries(&page));
        path = client.next(&page);
        count += 1;
        assert!(count < 50, "the pages have no end");
    }
    (all, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_record_has_every_version_that_the_ledger_has() {
    let site = Site::new().await;
    let path = site.noted(site.pulse(), &["one", "two", "three"]).await;
    let history = format!("{path}/_history");
    let whole = ["PUT 3 three", "PUT 2 two", "POST 1 one"];
    // Also before it is final.
    let answer = site.doctor.get(&history).await.good();
    assert_eq!((entries(&answer), &answer.json()["total"]), (whole.map(str::to_owned).to_vec(), &json!(3)));
    site.consortium.settle().await;
    assert_eq!(pages(&site.doctor, &format!("{history}?_count=2")).await, (whole.map(str::to_owned).to_vec(), 2));
    assert_eq!(pages(&site.doctor, &format!("{history}?_count=1&_since=2026-01-01T00:00:00Z")).await.1, 3);
    assert_eq!(pages(&site.doctor, &format!("{history}?_count=1&_since=2999-01-01T00:00:00Z")).await.1, 1);
    assert_eq!(entries(&site.doctor.get(&format!("{history}?_since=2999-01-01T00:00:00Z")).await.good()), [""; 0]);
    assert_eq!(site.doctor.get(&format!("{history}?_at=2026")).await.status, 422);
    // Who may not read it does not learn from the time either whether there is something.
    for query in ["", "?_since=2999-01-01T00:00:00Z"] {
        assert_eq!(site.desk.get(&format!("{history}{query}")).await.status, 403, "{query}");
    }
    assert_eq!(site.doctor.get("/fhir/Observation/none/_history").await.status, 404);

    // A version that was changed or taken away is there and withheld; the newest cannot be hidden either.
    let id = path.rsplit('/').next().unwrap();
    site.consortium.sql("UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'two', 'too') AS BLOB) WHERE id = ?1 AND version = 2", [id]);
    site.consortium.sql("DELETE FROM version WHERE id = ?1 AND version = 3", [id]);
    let answer = site.doctor.get(&history).await.good();
    assert_eq!(entries(&answer), ["PUT 3 503 security", "PUT 2 503 security", "POST 1 one"]);
    assert_eq!(answer.json()["total"], 3);

    // Of what is essential there is a copy in the vaults.
    let path = site.noted(site.allergy(), &["mild", "severe"]).await;
    site.consortium.settle().await;
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [path.rsplit('/').next().unwrap()]);
    let history = site.doctor.get(&format!("{path}/_history")).await.good();
    assert_eq!(entries(&history), ["PUT 2 severe", "POST 1 mild"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_type_and_of_everything_follow_the_ledger_and_show_what_the_caller_may_read() {
    let site = Site::new().await;
    let first = site.noted(site.pulse(), &["one", "two"]).await;
    let allergy = site.noted(site.allergy(), &["mild"]).await;
    let second = site.noted(site.pulse(), &["three"]).await;
    site.registrar.send(Method::DELETE, &second, &[], &Value::Null).await.good();
    site.consortium.settle().await;

    let observations = ["DELETE 2 gone", "POST 1 three", "PUT 2 two", "POST 1 one"].map(str::to_owned).to_vec();
    let of_type = "/fhir/Observation/_history";
    assert_eq!(pages(&site.doctor, of_type).await, (observations.clone(), 1));
    assert_eq!(pages(&site.doctor, &format!("{of_type}?_count=3")).await, (observations.clone(), 2));
    assert_eq!(pages(&site.doctor, &format!("{of_type}?_count=1")).await.0, observations);
    let all = ["DELETE 2 gone", "POST 1 three", "POST 1 mild", "PUT 2 two", "POST 1 one", "POST 1 "];
    assert_eq!(pages(&site.doctor, "/fhir/_history?_count=4").await.0, all.map(str::to_owned).to_vec());
    assert_eq!(pages(&site.doctor, "/fhir/_history?_since=2999-01-01T00:00:00Z").await, (Vec::new(), 1));

    // Another organisation, which wrote none of it, has the same history.
    let medic = site.consortium.client("rescue-one", "medic").for_purpose("ETREAT");
    assert_eq!(
        pages(&medic, &format!("{of_type}?_count=1")).await.0,
        observations,
        "a page that has nothing but a deletion"
    );
    assert_eq!(pages(&medic, of_type).await.0, observations);

    // Administration sees who the patient is, and no observation; nobody but the privacy officer sees the trail.
    assert_eq!(pages(&site.desk, of_type).await, (Vec::new(), 1));
    assert_eq!(pages(&site.desk, "/fhir/_history").await.0, ["POST 1 "]);
    assert_eq!(pages(&site.doctor, "/fhir/AuditEvent/_history").await.0, [""; 0]);
    // Histories of a type begin with what is final.
    site.consortium.settle().await;
    let trail = site.officer.get("/fhir/AuditEvent/_history?_count=500").await.good();
    let subtypes =
        trail.text().matches(r#""code":"history""#).count() + trail.text().matches(r#""code": "history""#).count();
    assert!(subtypes > 0, "histories are in the trail");
    for wrong in ["/fhir/Zebra/_history", "/fhir/Observation/_history?code=1"] {
        assert!([404, 422].contains(&site.doctor.get(wrong).await.status), "{wrong}");
    }

    // What was taken away from the database is named by the ledger; what is essential comes from the vaults.
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [first.rsplit('/').next().unwrap()]);
    site.consortium.sql("DELETE FROM version WHERE id = ?1", [allergy.rsplit('/').next().unwrap()]);
    let found = pages(&site.doctor, "/fhir/_history").await.0;
    let expected =
        ["DELETE 2 gone", "POST 1 three", "POST 1 mild", "PUT 2 503 security", "POST 1 503 security", "POST 1 "];
    assert_eq!(found, expected);
    assert_eq!(pages(&site.desk, "/fhir/_history").await.0, ["POST 1 "], "nor what is withheld");
}
