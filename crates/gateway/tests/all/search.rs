//! What a search answers: the matches, what goes along with them, and to whom.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bundles;
mod compartments;

use crate::consortium::{
    Consortium,
    client::{Answer, Client},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

const MERCY: &str = "mercy-hospital";
const PEOPLE: [(&str, &str, &str); 3] =
    [(MERCY, "doctor", "doctor"), (MERCY, "desk", "administrator"), (MERCY, "officer", "privacy-officer")];

/// Two patients at one hospital.
struct Site {
    consortium: Consortium,
    doctor: Client,
    desk: Client,
    officer: Client,
    patient: String,
    other: String,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client(MERCY, "doctor");
        let desk = consortium.client(MERCY, "desk");
        let officer = consortium.client(MERCY, "officer").for_purpose("HOPERAT");
        let person = json!({"resourceType": "Patient", "name": [{"family": "Nobody"}], "gender": "unknown"});
        let patient = doctor.create(&person).await.id();
        let other = doctor.create(&person).await.id();
        Self { consortium, doctor, desk, officer, patient, other }
    }

    async fn encounter(&self) -> String {
        let resource = json!({
            "resourceType": "Encounter", "status": "finished", "subject": {"reference": format!("Patient/{}", self.patient)},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}
        });
        self.doctor.create(&resource).await.id()
    }

    /// A pulse of a patient, taken at an encounter.
    async fn pulse(&self, patient: &str, encounter: &str) -> String {
        let resource = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
            "encounter": {"reference": format!("Encounter/{encounter}")}, "effectiveDateTime": "2026-01-12T10:05:00Z",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        self.doctor.create(&resource).await.id()
    }

    /// The records that the audit events about a patient's part of searches with this in their query name, each event's apart.
    async fn trailed(&self, patient: &str, query: &str) -> Vec<BTreeSet<String>> {
        let found = self.officer.get(&format!("/fhir/AuditEvent?patient={patient}&_count=500")).await.good().json();
        let mut events = Vec::new();
        for entry in found["entry"].as_array().unwrap() {
            let entities = entry["resource"]["entity"].as_array().unwrap();
            let asked = entities.iter().filter_map(|entity| entity["query"].as_str());
            // The query is in base64.
            if !asked.map(decoded).any(|asked| asked.contains(query)) {
                continue;
            }
            let names = entities.iter().filter_map(|entity| entity["what"]["reference"].as_str());
            events.push(names.filter(|name| name.contains("/_history/")).map(str::to_owned).collect());
        }
        events
    }
}

/// The text of base64.
fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// `mode Type/id` of every entry of a search set, sorted; each once.
#[track_caller]
fn entries(answer: &Answer) -> Vec<String> {
    let bundle = answer.json();
    let mut entries = Vec::new();
    for entry in bundle["entry"].as_array().into_iter().flatten() {
        let (mode, resource) = (entry["search"]["mode"].as_str().unwrap(), &entry["resource"]);
        if mode != "outcome" {
            let name = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
            let base = bundle["link"][0]["url"].as_str().and_then(|link| link.split_once("/fhir")).unwrap().0;
            assert!(base.starts_with("http://127.0.0.1:"), "{base}");
            assert_eq!(entry["fullUrl"], format!("{base}/fhir/{name}"));
            entries.push(format!("{mode} {name}"));
        }
    }
    entries.sort();
    let each: BTreeSet<&String> = entries.iter().collect();
    assert_eq!(each.len(), entries.len(), "{entries:?}");
    entries
}

/// What an outcome in a search set says, if there is one.
fn said(answer: &Answer) -> Option<String> {
    let bundle = answer.json();
    let outcome = bundle["entry"].as_array()?.iter().find(|entry| entry["search"]["mode"] == "outcome")?;
    outcome["resource"]["issue"][0]["diagnostics"].as_str().map(str::to_owned)
}

fn sorted<const N: usize>(names: [String; N]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// The link of a relation, without the host that was asked.
fn link(answer: &Answer, relation: &str) -> Option<String> {
    let bundle = answer.json();
    let link = bundle["link"].as_array()?.iter().find(|link| link["relation"] == relation)?;
    let (host, path) = link["url"].as_str()?.split_once("/fhir").unwrap();
    assert!(host.starts_with("http://127.0.0.1:"), "{host}");
    Some(format!("/fhir{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_along_with_matches_is_what_a_read_would_show_to_the_caller() {
    let site = Site::new().await;
    let (patient, other) = (site.patient.as_str(), site.other.as_str());
    let encounter = site.encounter().await;
    let own = site.pulse(patient, &encounter).await;
    let others = site.pulse(other, &encounter).await;
    let elsewhere = site.pulse(patient, "elsewhere").await;
    site.consortium.settle().await;
    let one = format!("/fhir/Encounter?_id={encounter}");
    let matched = format!("match Encounter/{encounter}");
    let (of_patient, of_own, of_others) = (
        format!("include Patient/{patient}"),
        format!("include Observation/{own}"),
        format!("include Observation/{others}"),
    );

    // Who treats the patient sees all; each record stands there once, however many ways lead to it.
    let everything = "&_include=Encounter:subject&_include=Encounter:patient:Patient&_revinclude=Observation:encounter";
    let answer = site.doctor.get(&format!("{one}{everything}")).await.good();
    assert_eq!(entries(&answer), sorted([matched.clone(), of_patient.clone(), of_own.clone(), of_others.clone()]));
    assert_eq!(answer.json()["total"], 1, "what goes along does not count");
    assert_eq!(link(&answer, "self"), Some(format!("{one}{everything}")));

    // Bytes are those that a read shows.
    let read = site.doctor.get(&format!("/fhir/Observation/{own}")).await.good();
    assert!(answer.text().contains(&read.text()));

    // Each patient's part is in the trail about that patient, and in no other.
    let of = |names: &[String]| names.iter().map(|name| format!("{name}/_history/1")).collect::<BTreeSet<_>>();
    let parts = site.trailed(patient, everything).await;
    let named = [format!("Encounter/{encounter}"), format!("Patient/{patient}"), format!("Observation/{own}")];
    assert_eq!(parts, [of(&named)]);
    assert_eq!(site.trailed(other, everything).await, [of(&[format!("Observation/{others}")])]);

    // A match is not included again, and what a page's matches do not refer to is not there.
    let by_patient = format!("/fhir/Observation?patient={patient}&_sort=_lastUpdated&_count=1");
    let page = site.doctor.get(&format!("{by_patient}&_include=Observation:encounter")).await.good();
    assert_eq!(entries(&page), sorted([format!("match Observation/{own}"), matched.replace("match", "include")]));
    let next = link(&page, "next").unwrap();
    let last = site.doctor.get(&next).await.good();
    assert_eq!(entries(&last), [format!("match Observation/{elsewhere}")], "{next}");

    // The administration may see who was treated when, and not what was found: nothing says that there is more.
    let answer = site.desk.get(&format!("{one}{everything}")).await.good();
    assert_eq!(entries(&answer), sorted([matched.clone(), of_patient.clone()]));
    assert_eq!((answer.json()["total"].as_u64(), said(&answer)), (Some(1), None));
    assert!(!answer.text().contains(&own) && !answer.text().contains(&others));

    // What the other patient refused is left out in the same way.
    site.consortium.add_user(MERCY, "nobody", "patient", Some(other));
    let nobody = site.consortium.client(MERCY, "nobody").for_purpose("PATRQT");
    let refusal = json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{other}")},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policy": [{"uri": "https://vitaltrace.org/policy/access"}],
        "provision": {"type": "deny", "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}
    });
    nobody.create(&refusal).await;
    let refused = site.doctor.get(&format!("{one}{everything}&_tag:missing=true")).await.good();
    assert_eq!(entries(&refused), sorted([matched.clone(), of_patient, of_own]));
    assert_eq!((refused.json()["total"].as_u64(), said(&refused)), (Some(1), None));
    assert_eq!(site.trailed(other, "_tag:missing").await, [] as [BTreeSet<String>; 0]);
    // Nor does a patient's own login see another's.
    let own_login = nobody.get(&format!("{one}{everything}")).await.good();
    assert_eq!(entries(&own_login), [""; 0]);

    for (query, kind) in [
        ("_include:logical=Encounter:subject", "not-supported"),
        ("_revinclude:iterate=Observation:code", "not-supported"),
        ("_include=Encounter:nothing", "not-supported"),
        ("_include=Encounter", "value"),
    ] {
        let answer = site.doctor.get(&format!("{one}&{query}")).await;
        assert_eq!((answer.status, answer.json()["issue"][0]["code"].as_str()), (422, Some(kind)), "{query}");
    }

    // What the gateway says that it includes, it does.
    let metadata = site.doctor.get("/fhir/metadata").await.good().json();
    let resources = metadata["rest"][0]["resource"].as_array().unwrap();
    let offered = resources.iter().find(|resource| resource["type"] == "Encounter").unwrap();
    for (kind, name) in [("searchInclude", "Encounter:subject"), ("searchRevInclude", "Observation:encounter")] {
        assert!(offered[kind].as_array().unwrap().contains(&json!(name)), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_by_records_in_between_rests_on_those_that_the_caller_may_see() {
    let site = Site::new().await;
    let (patient, other) = (site.patient.as_str(), site.other.as_str());
    let encounter = site.encounter().await;
    let own = site.pulse(patient, &encounter).await;
    let elsewhere = site.pulse(patient, "elsewhere").await;
    site.pulse(other, "elsewhere").await;
    site.consortium.settle().await;
    let ask = async |client: &Client, query: &str| client.get(&format!("/fhir/{query}")).await.good();
    let pulse = format!("match Observation/{own}");

    // Both ways, through each other, beside others; what is shown in between is in the trail.
    let in_class = "Observation?encounter.class=EMER";
    let answer = ask(&site.doctor, in_class).await;
    assert_eq!((entries(&answer), answer.json()["total"].as_u64()), (vec![pulse.clone()], Some(1)));
    let told = [format!("Observation/{own}/_history/1"), format!("Encounter/{encounter}/_history/1")].into();
    assert_eq!(site.trailed(patient, "encounter.class=EMER").await, [told]);
    let with_pulse = "Patient?_has:Observation:patient:code=8867-4";
    let both = sorted([format!("match Patient/{patient}"), format!("match Patient/{other}")]);
    assert_eq!(entries(&ask(&site.doctor, with_pulse).await), both);
    for (query, expected) in [
        (
            "Encounter?patient:Patient._has:Observation:patient:code=8867-4".to_owned(),
            format!("match Encounter/{encounter}"),
        ),
        (
            "Encounter?_has:Observation:encounter:patient.gender=unknown".to_owned(),
            format!("match Encounter/{encounter}"),
        ),
        (format!("Observation?patient={patient}&encounter:Encounter.status=finished"), pulse.clone()),
    ] {
        assert_eq!(entries(&ask(&site.doctor, &query).await), [expected], "{query}");
    }
    for nothing in [
        "Observation?encounter.class=AMB",
        "Observation?subject:Patient.gender=female",
        "Patient?_has:Observation:patient:code=8310-5",
    ] {
        assert_eq!(entries(&ask(&site.doctor, nothing).await), [""; 0], "{nothing}");
    }
    let counted = ask(&site.doctor, &format!("{in_class}&_summary=count")).await;
    assert_eq!(counted.json()["total"], 1);
    let included = ask(&site.doctor, &format!("{in_class}&_include=Observation:encounter")).await;
    assert_eq!(entries(&included), sorted([pulse.clone(), format!("include Encounter/{encounter}")]));
    // Of two chains both must hold, and of what only one rests on nothing is told.
    let one_of_two = "Observation?encounter.class=EMER&subject:Patient.gender=female";
    assert_eq!(entries(&ask(&site.doctor, one_of_two).await), [""; 0]);
    assert_eq!(site.trailed(patient, "gender=female").await, [] as [BTreeSet<String>; 0]);

    // The administration may see both patients, and not what was measured: nothing tells it which of them was.
    assert_eq!(entries(&ask(&site.desk, "Patient?gender=unknown").await), both);
    let answer = ask(&site.desk, with_pulse).await;
    assert_eq!((entries(&answer), answer.json()["total"].as_u64(), said(&answer)), (Vec::new(), Some(0), None));
    let counted = ask(&site.desk, &format!("{with_pulse}&_summary=count")).await;
    assert_eq!(counted.json()["total"], 0);
    // Nor do pages: they begin and end where something is shown.
    let page = ask(&site.desk, &format!("{with_pulse}&_count=1")).await;
    assert_eq!((entries(&page), page.json()["total"].as_u64(), link(&page, "next")), (Vec::new(), Some(0), None));
    let (mut next, mut paged) = (Some(format!("/fhir/{with_pulse}&_count=1&_sort=_lastUpdated")), Vec::new());
    while let Some(path) = next {
        let page = site.doctor.get(&path).await.good();
        paged.push(entries(&page));
        next = link(&page, "next");
    }
    assert_eq!(paged, [[format!("match Patient/{patient}")], [format!("match Patient/{other}")]]);

    // The index brings nothing in: what a match refers to is what its bytes say.
    site.consortium.sql(
        "UPDATE reference SET target = ?1 WHERE param = 'encounter' AND vid = (SELECT vid FROM version WHERE rtype = 'Observation' AND id = ?2)",
        [&encounter, &elsewhere],
    );
    assert_eq!(entries(&ask(&site.doctor, in_class).await), [pulse]);
    // A record in between that was tampered with supports nothing, and that is said.
    site.consortium.sql(
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'finished', 'planned') AS BLOB) WHERE rtype = 'Encounter' AND id = ?1",
        [&encounter],
    );
    let answer = ask(&site.doctor, in_class).await;
    assert_eq!((entries(&answer), answer.json()["total"].as_u64()), (Vec::new(), None));
    assert!(said(&answer).unwrap().starts_with("1 rows do not agree"));

    // Where one's own values decide, a chain is refused.
    for refused in ["Observation/$lastn?patient=p&encounter.class=EMER", "Observation?encounter.nothing=x"] {
        assert_eq!(site.doctor.get(&format!("/fhir/{refused}")).await.status, 422, "{refused}");
    }
    let condition = site.doctor.send(Method::DELETE, "/fhir/Observation?encounter.class=EMER", &[], &json!(null)).await;
    assert_eq!(condition.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_tampered_with_goes_along_with_a_match_and_the_index_brings_nothing_in() {
    let site = Site::new().await;
    let encounter = site.encounter().await;
    let (changed, removed, good) = (
        site.pulse(&site.patient, &encounter).await,
        site.pulse(&site.patient, &encounter).await,
        site.pulse(&site.patient, &encounter).await,
    );
    let foreign = site.pulse(&site.other, "elsewhere").await;
    site.consortium.settle().await;
    let of = "WHERE rtype = 'Observation' AND id = ?1";
    site.consortium.sql(
        &format!("UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), '72', '99') AS BLOB) {of}"),
        [&changed],
    );
    site.consortium.sql(&format!("DELETE FROM version {of}"), [&removed]);

    let query = format!("/fhir/Encounter?patient={}&_revinclude=Observation:encounter", site.patient);
    let answer = site.doctor.get(&query).await.good();
    assert_eq!(
        entries(&answer),
        sorted([format!("match Encounter/{encounter}"), format!("include Observation/{good}")])
    );
    let warning = said(&answer).unwrap();
    assert!(warning.starts_with("1 rows do not agree") && warning.contains("2 records on the ledger"), "{warning}");

    // The encounter's row is changed: who includes it is told, and not shown it.
    site.consortium.sql(
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'finished', 'planned') AS BLOB) WHERE rtype = 'Encounter' AND id = ?1",
        [&encounter],
    );
    let answer = site.doctor.get(&format!("/fhir/Observation?_id={good}&_include=Observation:encounter")).await.good();
    assert_eq!(entries(&answer), [format!("match Observation/{good}")]);
    assert!(said(&answer).unwrap().starts_with("1 rows do not agree"));

    // A patient's row comes from the vault, as for a read.
    site.consortium.sql(
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'Nobody', 'Somebody') AS BLOB) WHERE rtype = 'Patient' AND id = ?1",
        [&site.patient],
    );
    let answer = site.doctor.get(&format!("/fhir/Observation?_id={good}&_include=Observation:patient")).await.good();
    assert_eq!(
        entries(&answer),
        sorted([format!("match Observation/{good}"), format!("include Patient/{}", site.patient)])
    );
    assert!(answer.text().contains("Nobody") && !answer.text().contains("Somebody"));

    // Whoever writes into the index that a sound record refers to a match does not bring it into the answer.
    site.consortium.sql(
        "UPDATE reference SET target = ?1 WHERE param = 'patient' AND vid = (SELECT vid FROM version WHERE rtype = 'Observation' AND id = ?2)",
        [&site.patient, &foreign],
    );
    let answer =
        site.doctor.get(&format!("/fhir/Patient?_id={}&_revinclude=Observation:patient", site.patient)).await.good();
    assert!(!answer.text().contains(&foreign), "{}", answer.text());
    assert!(entries(&answer).contains(&format!("include Observation/{good}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_matches_are_marked_as_such_and_what_is_counted_is_what_the_caller_may_see() {
    let site = Site::new().await;
    let encounter = site.encounter().await;
    let patient = site.patient.as_str();
    let first = format!(
        r#"{{"resourceType":"Observation","text":{{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>"}},"status":"final","subject":{{"reference":"Patient/{patient}"}},"encounter":{{"reference":"Encounter/{encounter}"}},"code":{{"text":"a"}},"valueQuantity":{{ "value": 72.50 }}}}"#
    );
    let created = site.doctor.try_send(Method::POST, "/fhir/Observation", &[], Some(first.into_bytes())).await;
    let first = created.unwrap().good().id();
    let second = site.pulse(patient, &encounter).await;
    site.consortium.settle().await;
    let query = format!("/fhir/Observation?patient={patient}&_sort=_lastUpdated");

    let page =
        site.doctor.get(&format!("{query}&_count=1&_elements=value&_include=Observation:encounter")).await.good();
    let bundle = page.json();
    let (part, whole) = (&bundle["entry"][0]["resource"], &bundle["entry"][1]["resource"]);
    let names: BTreeSet<&str> = part.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["code", "id", "meta", "resourceType", "status", "valueQuantity"]));
    assert_eq!((&part["id"], &part["meta"]["tag"][0]["code"]), (&json!(first), &json!("SUBSETTED")));
    assert!(page.text().contains(r#""valueQuantity":{ "value": 72.50 }"#), "{}", page.text());
    assert_eq!(
        (&whole["id"], &whole["meta"]["tag"], &whole["status"]),
        (&json!(encounter), &json!(null), &json!("finished"))
    );
    let next = site.doctor.get(&link(&page, "next").unwrap()).await.good();
    assert_eq!(
        entries(&next),
        sorted([format!("match Observation/{second}"), format!("include Encounter/{encounter}")])
    );
    assert!(next.json()["entry"][0]["resource"].get("effectiveDateTime").is_none(), "{}", next.text());

    let summary = async |kind: &str| site.doctor.get(&format!("{query}&_summary={kind}")).await;
    let text = summary("text").await.good().json();
    let resource = &text["entry"][0]["resource"];
    assert!(resource["text"].is_object() && resource["code"].is_object() && resource["valueQuantity"].is_null());
    let data = summary("data").await.good();
    let read = site.doctor.get(&format!("/fhir/Observation/{second}")).await.good();
    assert!(data.json()["entry"][0]["resource"]["text"].is_null());
    assert!(data.text().contains(&read.text()), "what has no narrative is whole");
    assert!(summary("false").await.good().text().contains(&read.text()));
    let short = summary("true").await.good().json();
    let resource = &short["entry"][0]["resource"];
    assert!(resource["text"].is_null() && resource["valueQuantity"].is_object(), "{short}");
    for (more, kind) in [
        ("_summary=other", "value"),
        ("_elements=nothing", "value"),
        ("_elements=code&_summary=text", "invalid"),
        ("_summary=text&_include=Observation:encounter", "not-supported"),
    ] {
        let answer = site.doctor.get(&format!("{query}&{more}")).await;
        assert_eq!((answer.status, answer.json()["issue"][0]["code"].as_str()), (422, Some(kind)), "{more}");
    }

    // A page of no rows asks for the same, and told everybody how many there were.
    for more in ["_summary=count", "_count=0"] {
        let count = async |client: &Client| client.get(&format!("{query}&{more}")).await.good().json();
        let (doctors, desks) = (count(&site.doctor).await, count(&site.desk).await);
        assert_eq!((&doctors["total"], &desks["total"]), (&json!(2), &json!(0)), "{more}");
        assert!(doctors["entry"].is_null() && desks["entry"].is_null(), "{more}");
    }

    // Parameters that are not known here.
    let asked = format!("{query}&colour=red&_elements=code");
    let prefer = async |value: &str, path: &str| {
        site.doctor.try_send(Method::GET, path, &[("prefer", value)], None).await.unwrap()
    };
    assert_eq!(site.doctor.get(&asked).await.status, 422);
    for strict in ["handling=strict", "handling=other", "respond-async", "handling=strict, handling=lenient"] {
        assert_eq!(prefer(strict, &asked).await.status, 422, "{strict}");
    }
    for lenient in ["handling=lenient", "respond-async, Handling=lenient"] {
        let answer = prefer(lenient, &asked).await.good();
        assert_eq!(entries(&answer).len(), 2);
        assert_eq!(said(&answer).unwrap(), "`Observation` has no search parameter `colour`: it was passed over");
        assert_eq!(link(&answer, "self"), Some(format!("{query}&_elements=code")));
    }
    for wrong in ["code:exact=a", "_include=Observation:nothing", "_summary=other", "_elements=nothing"] {
        assert_eq!(prefer("handling=lenient", &format!("{query}&{wrong}")).await.status, 422, "{wrong}");
    }

    // A count would say that it is complete.
    site.consortium.sql("DELETE FROM version WHERE rtype = 'Observation' AND id = ?1", [&second]);
    let answer = site.doctor.get(&format!("/fhir/Observation?patient={patient}&_summary=count")).await.good();
    assert!(answer.json()["total"].is_null());
    assert!(said(&answer).unwrap().contains("1 records on the ledger may be missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_sorted_by_what_they_say_page_by_page_and_links_tell_of_no_others() {
    let site = Site::new().await;
    let person = async |family: Option<&str>, born: &str, gender: &str| {
        let name = family.map_or(json!({"text": "somebody"}), |family| json!({"family": family}));
        let person = json!({
            "resourceType": "Patient", "identifier": [{"system": "urn:sorted", "value": "x"}], "name": [name],
            "birthDate": born, "gender": gender
        });
        site.doctor.create(&person).await.id()
    };
    let zeller = person(Some("Zeller"), "1970-01-01", "female").await;
    let nameless = person(None, "1990-01-01", "male").await;
    let angstrom = person(Some("Ångström"), "1980-01-01", "male").await;
    let beck = person(Some("beck"), "1960-01-01", "female").await;
    site.consortium.settle().await;
    let query = "/fhir/Patient?identifier=urn:sorted%7C";
    // In the order in which they stand there.
    let ids = |answer: &Answer| {
        let bundle = answer.json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let matches = entries.iter().filter(|entry| entry["search"]["mode"] == "match");
        matches.map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let paged = async |client: &Client, sort: &str, count: usize| {
        let mut next = Some(format!("{query}&_sort={sort}&_count={count}&_total=accurate"));
        let (mut found, mut links) = (Vec::new(), Vec::new());
        while let Some(path) = next {
            let page = client.get(&path).await.good();
            assert!(page.json()["total"].is_null() || page.json()["total"] == 4, "{}", page.text());
            found.extend(ids(&page));
            next = link(&page, "next");
            links.extend(next.clone());
        }
        (found, links)
    };
    let [z, n, a, b] = [&zeller, &nameless, &angstrom, &beck].map(String::as_str);
    for (sort, expected) in [
        ("family", [a, b, z, n]),
        ("-family", [z, b, a, n]),
        ("-birthdate", [n, a, z, b]),
        ("gender,-family", [z, b, a, n]),
        ("-gender,family,_id", [a, n, b, z]),
        ("_lastUpdated", [z, n, a, b]),
    ] {
        for count in [1, 3, 50] {
            assert_eq!(paged(&site.doctor, sort, count).await.0, expected, "{sort} by {count}");
        }
        assert_eq!(paged(&site.desk, sort, 1).await.0, expected, "{sort}");
    }
    // Amounts, codes, references, and nothing.
    let encounter = site.encounter().await;
    let pulses = [site.pulse(&site.patient, &encounter).await, site.pulse(&site.patient, &encounter).await];
    for sort in ["value-quantity", "-code", "encounter,-status", "_profile", "based-on", "-category"] {
        let found = site.doctor.get(&format!("/fhir/Observation?patient={}&_sort={sort}", site.patient)).await.good();
        let mut expected = pulses.to_vec();
        if sort.starts_with('-') {
            expected.reverse();
        }
        assert_eq!(ids(&found), expected, "{sort}");
    }
    for (sort, kind, said) in [
        ("colour", "not-supported", "`colour`"),
        ("family,colour", "not-supported", "`colour`"),
        ("a,b,c,d", "too-costly", "3 parameters"),
        ("family&_sort=_id,gender,birthdate", "too-costly", "3 keys"),
        ("-", "value", "`_sort`"),
        ("family&_cursor=5_1", "value", "page"),
    ] {
        let refused = site.doctor.get(&format!("{query}&_sort={sort}")).await;
        let outcome = refused.json();
        assert_eq!((refused.status, outcome["issue"][0]["code"].as_str()), (422, Some(kind)), "{sort}");
        assert!(refused.text().contains(said), "{sort}: {}", refused.text());
    }
    let prefer = [("prefer", "handling=lenient")];
    let path = format!("{query}&_sort=colour,-family");
    let lenient = site.doctor.try_send(Method::GET, &path, &prefer, None).await.unwrap().good();
    assert_eq!(ids(&lenient), [z, b, a, n]);
    assert_eq!(link(&lenient, "self"), Some(format!("{query}&_sort=-family")));
    assert!(said(&lenient).unwrap().contains("`colour`: it was passed over"));

    // What was changed is not shown, and no link tells what it, or the index, says; the pages go on behind it.
    site.consortium.sql(
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'beck', 'somebody') AS BLOB) WHERE id = ?1",
        [b],
    );
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (found, links) = paged_past(&site.doctor, &format!("{query}&_sort=family&_count=1")).await;
    assert_eq!(found, [a, z, n].map(|id| format!("match Patient/{id}")));
    assert!(links.iter().any(|link| link.contains(&hex("angstrom"))), "{links:?}");
    assert!(links.iter().all(|link| !link.contains(&hex("beck"))), "{links:?}");
}

/// All matches in the order of their pages, and the links from each to the next.
async fn paged_past(client: &Client, path: &str) -> (Vec<String>, Vec<String>) {
    let (mut next, mut found, mut links) = (Some(path.to_owned()), Vec::new(), Vec::new());
    while let Some(path) = next {
        let page = client.get(&path).await.good();
        found.extend(entries(&page));
        next = link(&page, "next");
        links.extend(next.clone());
    }
    (found, links)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_types_are_searched_at_once_with_one_decision_for_each_record() {
    let site = Site::new().await;
    let patient = site.patient.as_str();
    let encounter = site.encounter().await;
    let first = site.pulse(patient, &encounter).await;
    let second = site.pulse(patient, &encounter).await;
    site.pulse(&site.other, "elsewhere").await;
    site.consortium.settle().await;
    let query = format!("/fhir?_type=Observation,Encounter,Observation&patient={patient}");
    let of_both = [
        format!("match Encounter/{encounter}"),
        format!("match Observation/{first}"),
        format!("match Observation/{second}"),
    ];
    let answer = site.doctor.get(&query).await.good();
    assert_eq!((entries(&answer), answer.json()["total"].as_u64()), (sorted(of_both.clone()), Some(3)));
    assert_eq!(link(&answer, "self"), Some(query.clone()));
    // One order over all of them, in pages.
    let (paged, links) = paged_past(&site.doctor, &format!("{query}&_sort=-_lastUpdated&_count=1")).await;
    assert_eq!(paged, [of_both[2].clone(), of_both[1].clone(), of_both[0].clone()]);
    assert!(links.iter().all(|link| link.starts_with("/fhir?_type=")), "{links:?}");
    let page = site.doctor.get(&format!("{query}&_sort=date,_id&_count=1&_total=accurate")).await.good();
    assert_eq!(page.json()["total"], 3);
    let along = format!("{query}&_include=Encounter:subject&_elements=class,code");
    let along = site.doctor.get(&along).await.good();
    assert!(entries(&along).contains(&format!("include Patient/{patient}")));

    // Who may see one of the types sees no more, and nothing tells of the others.
    let desk = site.desk.get(&query).await.good();
    assert_eq!((entries(&desk), desk.json()["total"].as_u64(), said(&desk)), (vec![of_both[0].clone()], Some(1), None));
    let page = site.desk.get(&format!("{query}&_sort=-_lastUpdated&_count=1")).await.good();
    assert_eq!((entries(&page), link(&page, "next")), (vec![of_both[0].clone()], None));
    let counted = site.desk.get(&format!("{query}&_summary=count")).await.good();
    assert_eq!(counted.json()["total"], 1);
    // The trail says where it was asked, and what was shown of the patient.
    let shown = site.trailed(patient, "?_type=Observation,Encounter,Observation").await;
    assert!(shown.contains(&of_both.iter().map(|name| format!("{}/_history/1", &name["match ".len()..])).collect()));
    assert_eq!(site.trailed(&site.other, "_type=Observation,Encounter").await, [] as [BTreeSet<String>; 0]);

    // By a form, at the address that clients take for it, and of all types: the trail itself is not among them.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("_type=Encounter&patient={patient}").into_bytes();
    let posted = site.doctor.try_send(Method::POST, "/fhir/_search", &form, Some(body)).await.unwrap().good();
    assert_eq!(entries(&posted), [of_both[0].clone()]);
    for path in [format!("/fhir?_id={encounter}"), format!("/fhir/?_id={encounter}")] {
        assert_eq!(entries(&site.doctor.get(&path).await.good()), [of_both[0].clone()], "{path}");
    }
    let all = site.doctor.get("/fhir?_lastUpdated=gt2020-01-01&_count=500").await.good();
    let types: BTreeSet<String> =
        entries(&all).iter().map(|name| name["match ".len()..].split_once('/').unwrap().0.to_owned()).collect();
    assert!(["Patient", "Encounter", "Observation"].iter().all(|rtype| types.contains(*rtype)), "{types:?}");
    assert!(!types.contains("AuditEvent"), "{types:?}");
    let of_trail = site.officer.get("/fhir?_type=AuditEvent,Patient&_count=5&_sort=-_lastUpdated").await.good();
    assert!(entries(&of_trail).iter().any(|name| name.starts_with("match AuditEvent/")));

    for (query, kind) in [
        ("_type=Wombat", "value"),
        ("patient=x", "not-supported"),
        ("_type=Observation,Patient&code=x", "not-supported"),
        ("_type=Slot,GraphDefinition&start=2026", "not-supported"),
        ("_type=Slot,GraphDefinition&_sort=start", "not-supported"),
        ("_type=Observation,Encounter&_include=Patient:link", "not-supported"),
        ("_type=Observation,Encounter&_elements=wombat", "value"),
    ] {
        let refused = site.doctor.get(&format!("/fhir?{query}")).await;
        assert_eq!((refused.status, refused.json()["issue"][0]["code"].as_str()), (422, Some(kind)), "{query}");
    }
    let prefer = [("prefer", "handling=lenient")];
    let path = format!("{query}&code=8867-4");
    let lenient = site.doctor.try_send(Method::GET, &path, &prefer, None).await.unwrap().good();
    assert_eq!(entries(&lenient), sorted(of_both.clone()));
    assert!(said(&lenient).unwrap().contains("no common search parameter `code`"));
    let metadata = site.doctor.get("/fhir/metadata").await.good().json();
    let common = metadata["rest"][0]["searchParam"].as_array().unwrap();
    assert!(common.contains(&json!({"name": "_tag", "type": "token"})), "{common:?}");

    // What is hidden or changed is said, and no total is.
    site.consortium.sql("DELETE FROM version WHERE rtype = 'Observation' AND id = ?1", [&first]);
    let answer = site.doctor.get(&query).await.good();
    assert_eq!((entries(&answer).len(), answer.json()["total"].as_u64()), (2, None));
    assert!(said(&answer).unwrap().contains("1 records on the ledger may be missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_composites_and_words_are_found_and_what_is_not_offered_is_named() {
    let site = Site::new().await;
    let encounter = site.encounter().await;
    let patient = site.patient.as_str();
    let pulse = format!("match Observation/{}", site.pulse(patient, &encounter).await);
    let component = |code: &str, value: f64| {
        let unit = json!({"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"});
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": unit})
    };
    let pressure = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]},
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"}]},
        "component": [component("8480-6", 118.0), component("8462-4", 78.5)]
    });
    let pressure = format!("match Observation/{}", site.doctor.create(&pressure).await.id());
    let query = format!("/fhir/Observation?patient={patient}");

    for (more, found) in [
        ("value-quantity=72", &[&pulse][..]),
        ("value-quantity=72.0%7Chttp://unitsofmeasure.org%7C/min", &[&pulse]),
        ("value-quantity=72%7C%7CmmHg", &[]),
        ("combo-value-quantity=gt70", &[&pulse, &pressure]),
        ("component-value-quantity=78", &[]),
        ("component-value-quantity=ap80", &[&pressure]),
        ("component-code-value-quantity=8480-6$gt100", &[&pressure]),
        ("component-code-value-quantity=8462-4$gt100", &[]),
        ("combo-code-value-quantity=8480-6$lt100,8867-4$72", &[&pulse]),
        ("combo-code=8462-4,8867-4", &[&pulse, &pressure]),
        ("code:text=blood%20PRESS", &[&pressure]),
        ("_profile:below=http://hl7.org/fhir", &[&pressure]),
        ("_profile:missing=true&value-quantity:missing=false", &[&pulse]),
    ] {
        let mut expected: Vec<String> = found.iter().map(|name| (*name).clone()).collect();
        expected.sort();
        assert_eq!(entries(&site.doctor.get(&format!("{query}&{more}")).await.good()), expected, "{more}");
    }
    for (more, said) in [
        ("code:below=http://loinc.org%7C8867-4", "`code:below` is not offered"),
        ("encounter.part-of.part-of.part-of.class=x", "more than three links"),
        ("_has:Provenance:agent:target=a", "no reference leads that way"),
        ("_text=pain", "`_text` is not offered"),
        ("value-quantity=much", "search parameter `value-quantity`"),
    ] {
        let refused = site.doctor.get(&format!("{query}&{more}")).await;
        assert_eq!(refused.status, 422, "{more}");
        assert!(refused.text().contains(said), "{more}: {}", refused.text());
    }

    let metadata = site.doctor.get("/fhir/metadata").await.good().json();
    let resources = metadata["rest"][0]["resource"].as_array().unwrap();
    let observation = resources.iter().find(|resource| resource["type"] == "Observation").unwrap();
    let parameters = observation["searchParam"].as_array().unwrap();
    for (name, kind) in
        [("component-code-value-quantity", "composite"), ("value-quantity", "quantity"), ("_profile", "uri")]
    {
        assert!(parameters.contains(&json!({"name": name, "type": kind})), "{name}");
    }
}
