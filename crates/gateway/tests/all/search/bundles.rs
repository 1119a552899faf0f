//! What a batch or a transaction reads.

use super::Site;
use serde_json::json;

/// The addresses of a Bundle are those of the doors.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_reads_what_the_doors_show_under_the_same_decisions() {
    let site = Site::new().await;
    let patient = site.patient.as_str();
    let encounter = site.encounter().await;
    let pulse = site.pulse(patient, &encounter).await;
    site.consortium.settle().await;
    let asked = [
        format!("Observation/{pulse}"),
        format!("Observation/{pulse}/_history/1"),
        format!("Observation/{pulse}/_history"),
        format!("Encounter?_id={encounter}"),
        "Encounter".to_owned(),
        format!("?_type=Encounter,Observation&patient={patient}"),
        format!("Patient/{patient}/Observation?code=8867-4"),
        format!("Patient/{patient}/*"),
        format!("Patient/{patient}/$everything"),
        format!("Patient/{patient}/$summary"),
        format!("Observation/$lastn?patient={patient}"),
        "Encounter/_history".to_owned(),
        "_history?_count=1".to_owned(),
    ];
    let bundle = |kind: &str, urls: &[&str]| {
        let entries = urls.iter().map(|url| json!({"request": {"method": "GET", "url": url}}));
        json!({"resourceType": "Bundle", "type": kind, "entry": entries.collect::<Vec<_>>()})
    };
    // The ids, and what is stored as it stands: a summary has an id of its own.
    let shown = |resource: &serde_json::Value| {
        let all = resource["entry"].as_array().cloned().unwrap_or_else(|| vec![json!({"resource": resource})]);
        let named = |of: &serde_json::Value| format!("{}/{}", of["resource"]["resourceType"], of["resource"]["id"]);
        let mut names: Vec<String> = all.iter().map(named).filter(|name| !name.contains("Composition")).collect();
        names.sort();
        names
    };
    let urls: Vec<&str> = asked.iter().map(String::as_str).collect();
    for kind in ["batch", "transaction"] {
        let answer = site.doctor.post("/fhir", &bundle(kind, &urls)).await.good().json();
        assert_eq!(answer["type"], format!("{kind}-response"));
        for (url, entry) in asked.iter().zip(answer["entry"].as_array().unwrap()) {
            assert_eq!(entry["response"]["status"].as_str().map(|status| &status[..3]), Some("200"), "{url}: {entry}");
            let path = format!("/fhir{}{url}", if url.starts_with('?') { "" } else { "/" });
            let alone = site.doctor.get(&path).await.good().json();
            if !url.contains("_history?") {
                assert_eq!(shown(&entry["resource"]), shown(&alone), "{url}");
            }
        }
    }
    // Who has the version is told so.
    let known = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": asked[0], "ifNoneMatch": "W/\"7\", W/\"1\""}}
    ]});
    let known = site.doctor.post("/fhir", &known).await.good().json();
    assert!(known["entry"][0]["response"]["status"].as_str().unwrap().starts_with("304"), "{known}");
    assert_eq!(known["entry"][0]["resource"], serde_json::Value::Null);
    // Each entry of a batch is decided over by itself; a transaction that only reads is answered as a whole or not at all.
    let some = [asked[0].as_str(), asked[3].as_str(), "Encounter/none", "Patient/a/$wombat"];
    let answer = site.desk.post("/fhir", &bundle("batch", &some)).await.good().json();
    let statuses: Vec<&str> =
        answer["entry"].as_array().unwrap().iter().map(|of| &of["response"]["status"].as_str().unwrap()[..3]).collect();
    assert_eq!(statuses, ["403", "200", "404", "422"]);
    assert_eq!(site.desk.post("/fhir", &bundle("transaction", &some[..2])).await.status, 403);
    let mixed = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "GET", "url": asked[0]}},
        {"request": {"method": "POST", "url": "Basic"}, "resource": {"resourceType": "Basic", "code": {"text": "x"}}}
    ]});
    let refused = site.doctor.post("/fhir", &mixed).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("a transaction that only reads"), "{}", refused.text());
}
