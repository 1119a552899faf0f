//! Consents over HTTP: what they open and close, at once and at every gateway; delegates; sensitive categories.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{Consortium, client::Client};
use reqwest::Method;
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";
const RESCUE: &str = "rescue-one";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ROLE_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";

struct Site {
    consortium: Consortium,
    doctor: Client,
    /// Who writes what the doctor then asks for: an author reads the own words.
    colleague: Client,
    medic: Client,
    registrar: Client,
    patient: Client,
    id: String,
}

impl Site {
    async fn new() -> Self {
        let people = [
            (MERCY, "doctor", "doctor"),
            (MERCY, "colleague", "doctor"),
            (MERCY, "registrar", "custodian"),
            (RESCUE, "medic", "responder"),
        ];
        let consortium = Consortium::running(&people).await;
        let doctor = consortium.client(MERCY, "doctor").for_purpose("TREAT");
        let id = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        consortium.add_user(MERCY, "ilse", "patient", Some(&id));
        Self {
            colleague: consortium.client(MERCY, "colleague").for_purpose("TREAT"),
            medic: consortium.client(RESCUE, "medic").for_purpose("TREAT"),
            registrar: consortium.client(MERCY, "registrar").for_purpose("HSYSADMIN"),
            patient: consortium.client(MERCY, "ilse").for_purpose("PATRQT"),
            consortium,
            doctor,
            id,
        }
    }

    async fn condition(&self, code: &str) -> String {
        let condition = json!({
            "resourceType": "Condition", "subject": {"reference": format!("Patient/{}", self.id)},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]}
        });
        format!("/fhir/Condition/{}", self.colleague.create(&condition).await.id())
    }

    fn consent(&self, provision: Value) -> Value {
        json!({
            "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{}", self.id)},
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "policy": [{"uri": "https://vitaltrace.org/policy/access"}],
            "provision": provision
        })
    }
}

fn actor(system: &str, code: &str, reference: Value) -> Value {
    json!({"role": {"coding": [{"system": system, "code": code}]}, "reference": reference})
}

fn treatment() -> Value {
    json!([{"system": ACT_REASON, "code": "TREAT"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_and_its_withdrawal_count_at_once_at_every_gateway() {
    let site = Site::new().await;
    let fracture = site.condition("S72.0").await;
    let reads = async |client: &Client| client.get(&fracture).await.status;
    assert_eq!((reads(&site.doctor).await, reads(&site.medic).await), (200, 200));

    // All but the emergency service, which is named by an organisation's record; refused within what is permitted.
    let rescue = json!({"identifier": {"system": "https://vitaltrace.org/org", "value": RESCUE}});
    let provision = json!({
        "type": "permit", "purpose": treatment(),
        "provision": [{"type": "deny", "actor": [actor(PARTICIPATION, "IRCP", rescue.clone())]}]
    });
    let created = site.patient.create(&site.consent(provision)).await;
    let (id, mut consent) = (created.id(), created.json());
    assert_eq!((reads(&site.doctor).await, reads(&site.medic).await), (200, 403));
    let denied = site.medic.get(&fracture).await;
    assert!(denied.text().contains("the patient has not consented to this use"), "{}", denied.text());
    let found = site.medic.get(&format!("/fhir/Condition?patient={}", site.id)).await.good();
    assert_eq!(found.json()["total"], 0, "nor is it counted");

    // The other way round, as a new version; then deleted.
    consent["provision"] = json!({
        "type": "deny", "purpose": treatment(),
        "provision": [{"type": "permit", "actor": [actor(PARTICIPATION, "IRCP", rescue)]}]
    });
    site.patient.put(&format!("/fhir/Consent/{id}"), &consent, &[]).await.good();
    assert_eq!((reads(&site.doctor).await, reads(&site.medic).await), (403, 200));
    consent["status"] = json!("inactive");
    site.patient.put(&format!("/fhir/Consent/{id}"), &consent, &[]).await.good();
    assert_eq!((reads(&site.doctor).await, reads(&site.medic).await), (200, 200));
    consent["status"] = json!("active");
    site.patient.put(&format!("/fhir/Consent/{id}"), &consent, &[]).await.good();
    assert_eq!(reads(&site.doctor).await, 403);
    let keeper = site.registrar.send(Method::DELETE, &format!("/fhir/Consent/{id}"), &[], &Value::Null).await;
    assert_eq!((keeper.status, reads(&site.doctor).await), (204, 200));

    // Each active version was a grant, each of which the next version ended: the ledger refused none of it.
    site.consortium.settle().await;
    let grants = site.doctor.get("/ledger/entries?kind=grant&limit=100").await.good().json();
    let grants = grants["entries"].as_array().unwrap().clone();
    assert_eq!(grants.len(), 6, "{grants:?}");
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensitive_record_is_restricted_until_a_consent_names_it() {
    let site = Site::new().await;
    let opioid = site.condition("F11.20").await;
    let denied = site.doctor.get(&opioid).await;
    assert_eq!(
        (denied.status, denied.json()["issue"][0]["code"].as_str()),
        (403, Some("suppressed")),
        "{}",
        denied.text()
    );
    assert_eq!(site.medic.for_purpose("ETREAT").get(&opioid).await.status, 403);
    assert_eq!(site.patient.get(&opioid).await.status, 200, "the patient's own");
    // Whoever wrote it knows what it says; what is labelled restricted is closed to its author as well.
    assert_eq!(site.colleague.get(&opioid).await.status, 200);
    // For treatment itself: in an emergency the glass is broken, by the author as well.
    assert_eq!(site.colleague.for_purpose("ETREAT").get(&opioid).await.status, 403);
    assert_eq!(site.colleague.get(&format!("/fhir/Condition?patient={}", site.id)).await.good().json()["total"], 1);
    let labelled = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{}", site.id)}, "code": {"text": "asked to keep it close"},
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
    });
    let labelled = format!("/fhir/Condition/{}", site.colleague.create(&labelled).await.id());
    assert_eq!(site.colleague.get(&labelled).await.status, 403);

    // A consent to treatment alone opens nothing that is restricted; one that names it does, for whom it names.
    site.patient.create(&site.consent(json!({"type": "permit", "purpose": treatment()}))).await;
    assert_eq!(site.doctor.get(&opioid).await.status, 403);
    let practitioner = json!({
        "resourceType": "Practitioner",
        "identifier": [{"system": format!("https://vitaltrace.org/org/{MERCY}/user"), "value": "doctor"}]
    });
    let practitioner = site.registrar.create(&practitioner).await.id();
    let named = json!({
        "type": "permit", "purpose": treatment(),
        "securityLabel": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ETH"}],
        "actor": [actor(PARTICIPATION, "IRCP", json!({"reference": format!("Practitioner/{practitioner}")}))]
    });
    site.patient.create(&site.consent(named)).await;
    assert_eq!(site.doctor.get(&opioid).await.status, 200);
    assert_eq!(site.doctor.for_purpose("ETREAT").get(&opioid).await.status, 403, "an emergency needs an override");
    assert_eq!(site.medic.get(&opioid).await.status, 403, "not named");
    let hiv = site.condition("B20").await;
    assert_eq!(site.doctor.get(&hiv).await.status, 403, "another category");
    let refused = json!({
        "type": "deny", "securityLabel": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]
    });
    assert_eq!(site.colleague.get(&hiv).await.status, 200);
    let refused = site.patient.create(&site.consent(refused)).await.id();
    assert_eq!(site.colleague.get(&hiv).await.status, 403, "the patient refuses it to its author, too");
    assert_eq!(site.colleague.for_purpose("ETREAT").get(&hiv).await.status, 403);
    assert_eq!(site.colleague.get(&opioid).await.status, 200, "which names the other category alone");
    site.registrar.send(Method::DELETE, &format!("/fhir/Consent/{refused}"), &[], &Value::Null).await.good();
    // A new version by somebody else is somebody else's words.
    let mut amended = site.patient.get(&hiv).await.json();
    amended["clinicalStatus"] = json!({"coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}
    ]});
    let glass = json!({"patient": site.id, "code": "unconscious", "reason": "found unconscious", "minutes": 5});
    let doctor = site.doctor.for_purpose("BTG");
    doctor.post("/override", &glass).await.good();
    doctor.put(&hiv, &amended, &[]).await.good();
    assert_eq!((site.colleague.get(&hiv).await.status, site.doctor.get(&hiv).await.status), (403, 200));
    let shown = site.doctor.get(&opioid).await.json();
    assert_eq!(shown["meta"]["security"], Value::Null, "the bytes are as they came");
}

/// A name that was given to somebody else opened what its former owner had written.
#[tokio::test(flavor = "multi_thread")]
async fn who_gets_the_name_of_an_author_is_not_the_author() {
    let site = Site::new().await;
    let opioid = site.condition("F11.20").await;
    assert_eq!(site.colleague.get(&opioid).await.status, 200);
    let anew = async |role: &str| {
        site.consortium.add_user(MERCY, "colleague", role, None);
        // The gateway looks at the file several times a second, and what is written from then on is the new one's.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        site.consortium.client(MERCY, "colleague").for_purpose("TREAT")
    };
    let same = anew("doctor").await;
    assert_eq!(same.get(&opioid).await.status, 200, "a new password alone is no other person");
    let other = anew("nurse").await;
    assert_eq!(other.get(&opioid).await.status, 403);
    let own = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{}", site.id)},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F11.20"}]}
    });
    let own = format!("/fhir/Condition/{}", other.create(&own).await.id());
    assert_eq!(other.get(&own).await.status, 200, "what the new one wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_acts_for_the_patient_as_far_as_the_consent_says() {
    let site = Site::new().await;
    let fracture = site.condition("S72.0").await;
    let kin = site.doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    site.consortium.add_user(MERCY, "kin", "patient", Some(&kin));
    let daughter = site.consortium.client(MERCY, "kin").for_purpose("PATRQT");
    assert_eq!(daughter.get(&fracture).await.status, 403);
    let refuse = site.consent(json!({"type": "deny", "purpose": treatment()}));
    assert_eq!(daughter.post("/fhir/Consent", &refuse).await.status, 403);

    let named = json!({"type": "permit", "actor": [actor(ROLE_CODE, "DELEGATEE", json!({"reference": format!("Patient/{kin}")}))]});
    let consent = site.patient.create(&site.consent(named)).await;
    assert_eq!(daughter.get(&fracture).await.status, 200);
    assert_eq!(daughter.for_purpose("TREAT").get(&fracture).await.status, 403, "for the patient, and nothing else");
    daughter.post("/fhir/Consent", &refuse).await.good();
    assert_eq!(site.doctor.get(&fracture).await.status, 403);
    let condition = json!({"resourceType": "Condition", "subject": {"reference": format!("Patient/{}", site.id)}});
    assert_eq!(daughter.post("/fhir/Condition", &condition).await.status, 403, "a patient writes no conditions either");

    let mut over = consent.json();
    over["status"] = json!("inactive");
    site.patient.put(&format!("/fhir/Consent/{}", consent.id()), &over, &[]).await.good();
    assert_eq!(daughter.get(&fracture).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_cannot_be_weighed_is_refused_with_the_place() {
    let site = Site::new().await;
    let unclear = site.consent(json!({
        "type": "permit",
        "provision": [{"type": "deny", "dataPeriod": {"start": "2020"}}, {"type": "deny", "code": [{"text": "my leg"}]}]
    }));
    let refused = site.patient.post("/fhir/Consent", &unclear).await;
    let outcome = refused.json();
    assert_eq!((refused.status, outcome["issue"][0]["code"].as_str()), (422, Some("not-supported")), "{outcome}");
    let places: Vec<&str> =
        outcome["issue"].as_array().unwrap().iter().map(|i| i["expression"][0].as_str().unwrap()).collect();
    assert_eq!(places, ["Consent.provision.provision[0].dataPeriod", "Consent.provision.provision[1].code[0]"]);
    let mut draft = unclear;
    draft["status"] = json!("draft");
    site.patient.create(&draft).await;
}
