//! What is in the compartment of a patient, an encounter, a person or a device.

use super::{Site, entries, link, paged_past, said, sorted};
use crate::consortium::client::Client;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// A record of one patient that another one performed is in the compartments of both.
#[tokio::test(flavor = "multi_thread")]
async fn a_patients_compartment_has_the_records_by_every_way_in_and_to_each_caller_what_a_search_would_show() {
    let site = Site::new().await;
    let (patient, other) = (&site.patient, &site.other);
    let encounter = site.encounter().await;
    let own = site.pulse(patient, &encounter).await;
    let resource = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{other}")},
        "performer": [{"reference": format!("Patient/{patient}")}], "code": {"text": "as a relative saw it"}
    });
    let performed = site.doctor.create(&resource).await.id();
    site.consortium.settle().await;
    let of = async |client: &Client, asked: &str| entries(&client.get(&format!("/fhir/Patient/{asked}")).await.good());
    let both = sorted([format!("match Observation/{own}"), format!("match Observation/{performed}")]);
    assert_eq!(of(&site.doctor, &format!("{patient}/Observation")).await, both);
    assert_eq!(of(&site.doctor, &format!("{other}/Observation")).await, [format!("match Observation/{performed}")]);
    let coded = format!("{patient}/Observation?code=8867-4&_include=Observation:encounter");
    let expected = sorted([format!("match Observation/{own}"), format!("include Encounter/{encounter}")]);
    assert_eq!(of(&site.doctor, &coded).await, expected);
    assert_eq!(of(&site.doctor, &format!("{patient}/Patient")).await, [format!("match Patient/{patient}")]);
    // Page by page, at the same address.
    let page = site.doctor.get(&format!("/fhir/Patient/{patient}/Observation?_count=1")).await.good();
    let next = link(&page, "next").unwrap();
    assert!(next.contains(&format!("/fhir/Patient/{patient}/Observation?_count=1")), "{next}");
    let rest = site.doctor.get(&next).await.good();
    assert_eq!(sorted([entries(&page).remove(0), entries(&rest).remove(0)]), both);
    // A clerk sees no narrative, however it is asked for.
    assert!(of(&site.desk, &format!("{patient}/Observation")).await.is_empty());
    // The trail says where it was asked.
    let asked = format!("Patient/{patient}/Observation?_count=1");
    assert!(site.trailed(patient, &asked).await.contains(&BTreeSet::from([format!("Observation/{own}/_history/1")])));

    for (path, code) in [
        (format!("Patient/{patient}/Medication"), "not-supported"),
        ("Location/ward/Observation".to_owned(), "not-supported"),
        (format!("Encounter/{encounter}/Patient"), "not-supported"),
        (format!("Patient/{patient}/Observation?colour=red"), "not-supported"),
    ] {
        let refused = site.doctor.get(&format!("/fhir/{path}")).await;
        assert_eq!((refused.status, refused.json()["issue"][0]["code"].as_str()), (422, Some(code)), "{path}");
    }
}

/// By who did it, with what and when, and whoever the patient is.
#[tokio::test(flavor = "multi_thread")]
async fn compartments_of_encounters_people_and_devices_have_what_refers_to_them_by_any_of_their_parameters() {
    let site = Site::new().await;
    let (patient, other) = (&site.patient, &site.other);
    let encounter = site.encounter().await;
    let own = site.pulse(patient, &encounter).await;
    let others = site.pulse(other, &encounter).await;
    let by = |who: &str, of: &str, more: serde_json::Value| {
        let mut resource = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{of}")},
            "code": {"text": "as it was seen"}, "performer": [{"reference": who}]
        });
        resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        resource
    };
    let performed = site.doctor.create(&by("Practitioner/anna", patient, json!({}))).await.id();
    let told = site.doctor.create(&by("RelatedPerson/otto", other, json!({}))).await.id();
    let device = json!({"device": {"reference": "Device/scale"}});
    let weighed = site.doctor.create(&by("Practitioner/anna", patient, device)).await.id();
    site.consortium.settle().await;
    let of = async |client: &Client, asked: &str| entries(&client.get(&format!("/fhir/{asked}")).await.good());
    let named = |ids: &[&String]| {
        let mut names: Vec<String> = ids.iter().map(|id| format!("match Observation/{id}")).collect();
        names.sort();
        names
    };
    for (compartment, expected) in [
        (format!("Encounter/{encounter}"), named(&[&own, &others])),
        ("Practitioner/anna".to_owned(), named(&[&performed, &weighed])),
        ("RelatedPerson/otto".to_owned(), named(&[&told])),
        ("Device/scale".to_owned(), named(&[&weighed])),
        ("Device/other".to_owned(), named(&[])),
        ("Encounter/anna".to_owned(), named(&[])),
    ] {
        assert_eq!(of(&site.doctor, &format!("{compartment}/Observation")).await, expected, "{compartment}");
        assert_eq!(of(&site.desk, &format!("{compartment}/Observation")).await, [""; 0], "{compartment}");
    }
    let itself = format!("Encounter/{encounter}/Encounter");
    assert_eq!(of(&site.doctor, &itself).await, [format!("match Encounter/{encounter}")]);
    // Beside other parameters, in an order, page by page at the same address.
    let sorted = format!("Encounter/{encounter}/Observation?_sort=-patient&code=8867-4&_count=1");
    let page = site.doctor.get(&format!("/fhir/{sorted}")).await.good();
    let next = link(&page, "next").unwrap();
    assert!(next.starts_with(&format!("/fhir/{sorted}")), "{next}");
    let pages = [entries(&page), entries(&site.doctor.get(&next).await.good())].concat();
    let mut expected = [(patient, &own), (other, &others)];
    expected.sort_by(|one, other| other.cmp(one));
    assert_eq!(pages, expected.map(|(_, id)| format!("match Observation/{id}")));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let path = "/fhir/Device/scale/Observation/_search";
    let posted = site.doctor.try_send(Method::POST, path, &form, Some(b"status=final".to_vec())).await.unwrap().good();
    assert_eq!(entries(&posted), named(&[&weighed]));
    // Each patient's part is in the trail about that patient.
    let asked = format!("Encounter/{encounter}/Observation?");
    let part = |id: &String| BTreeSet::from([format!("Observation/{id}/_history/1")]);
    assert!(site.trailed(patient, &asked).await.contains(&part(&own)));
    assert!(site.trailed(other, &asked).await.contains(&part(&others)));

    let metadata = site.doctor.get("/fhir/metadata").await.good().json();
    let listed: BTreeSet<&str> =
        metadata["rest"][0]["compartment"].as_array().unwrap().iter().filter_map(|of| of.as_str()).collect();
    let names = ["device", "encounter", "patient", "practitioner", "relatedPerson"];
    assert_eq!(listed.len(), names.len());
    assert!(names.iter().all(|of| listed.contains(format!("http://hl7.org/fhir/CompartmentDefinition/{of}").as_str())));
}

/// `Patient/x/*`: each by the parameters that put its type there.
#[tokio::test(flavor = "multi_thread")]
async fn all_records_of_a_compartment_are_found_at_once_each_by_the_ways_of_its_type() {
    let site = Site::new().await;
    let (patient, other) = (&site.patient, &site.other);
    let encounter = site.encounter().await;
    let own = site.pulse(patient, &encounter).await;
    let others = site.pulse(other, &encounter).await;
    let resource = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{other}")},
        "performer": [{"reference": format!("Patient/{patient}")}], "code": {"text": "as a relative saw it"}
    });
    let performed = site.doctor.create(&resource).await.id();
    site.consortium.settle().await;
    let of = async |client: &Client, asked: &str| entries(&client.get(&format!("/fhir/{asked}")).await.good());
    let [of_patient, of_encounter, of_own, of_others, of_performed] = [
        format!("match Patient/{patient}"),
        format!("match Encounter/{encounter}"),
        format!("match Observation/{own}"),
        format!("match Observation/{others}"),
        format!("match Observation/{performed}"),
    ];
    let all = sorted([of_patient.clone(), of_encounter.clone(), of_own.clone(), of_performed.clone()]);
    let answer = site.doctor.get(&format!("/fhir/Patient/{patient}/*")).await.good();
    assert_eq!((entries(&answer), answer.json()["total"].as_u64()), (all.clone(), Some(4)));
    let in_encounter = sorted([of_encounter.clone(), of_own.clone(), of_others.clone()]);
    assert_eq!(of(&site.doctor, &format!("Encounter/{encounter}/*")).await, in_encounter);
    let named = of(&site.doctor, &format!("Patient/{patient}/*?_type=Encounter,Patient")).await;
    assert_eq!(named, sorted([of_encounter.clone(), of_patient.clone()]));
    // Beside other parameters, page by page in one order at the same address, and by a form.
    let (paged, links) =
        paged_past(&site.doctor, &format!("/fhir/Patient/{patient}/*?_sort=_lastUpdated&_count=1")).await;
    assert_eq!(paged, [of_patient, of_encounter.clone(), of_own.clone(), of_performed]);
    assert!(links.iter().all(|link| link.starts_with(&format!("/fhir/Patient/{patient}/*?"))), "{links:?}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (path, body) = (format!("/fhir/Encounter/{encounter}/*/_search"), format!("_id={own}").into_bytes());
    let posted = site.doctor.try_send(Method::POST, &path, &form, Some(body)).await.unwrap().good();
    assert_eq!(entries(&posted), [of_own]);
    // A clerk sees no narrative, however it is asked for, and the trail says where it was.
    let seen = of(&site.desk, &format!("Patient/{patient}/*")).await;
    assert!(seen.contains(&of_encounter) && !seen.iter().any(|name| name.contains("Observation/")), "{seen:?}");
    let part: BTreeSet<String> = [format!("Observation/{others}/_history/1")].into();
    assert!(site.trailed(other, &format!("Encounter/{encounter}/*?")).await.contains(&part));
    for (path, code) in [
        ("Location/ward/*".to_owned(), "not-supported"),
        (format!("Patient/{patient}/*?_type=Medication"), "not-supported"),
        (format!("Patient/{patient}/*?_type=Wombat"), "value"),
    ] {
        let refused = site.doctor.get(&format!("/fhir/{path}")).await;
        assert_eq!((refused.status, refused.json()["issue"][0]["code"].as_str()), (422, Some(code)), "{path}");
    }

    // What somebody hid in the database is told of.
    site.consortium.sql("DELETE FROM version WHERE rtype = 'Observation' AND id = ?1", [&own]);
    let hidden = site.doctor.get(&format!("/fhir/Patient/{patient}/*")).await.good();
    assert_eq!(hidden.json()["total"], serde_json::Value::Null);
    assert!(said(&hidden).is_some(), "{}", hidden.text());
}
