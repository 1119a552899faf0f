//! Rows 9 to 11: the responder's report, the handoff, and treatment by a prescribed procedure.

use super::story::{Story, concept, expect, matches};
use serde_json::{Value, json};

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";

impl Story {
    /// Row 9: what the responder saw and did, as one transaction.
    pub(crate) async fn report_from_the_field(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "TREAT")?;
        let encounter = json!({"reference": format!("Encounter/{}", self.id("encounter")?)});
        let subject = self.subject();
        let entry = |n: u32, resource: Value| {
            json!({
                "fullUrl": format!("urn:uuid:00000000-0000-4000-8000-{n:012}"),
                "request": {"method": "POST", "url": resource["resourceType"]},
                "resource": resource
            })
        };
        let given = json!({
            "resourceType": "MedicationAdministration", "status": "completed", "subject": subject, "context": encounter,
            "medicationCodeableConcept": concept("http://www.nlm.nih.gov/research/umls/rxnorm", "313002", "Sodium chloride 9 MG/ML"),
            "effectiveDateTime": now_instant()
        });
        let splint = json!({
            "resourceType": "Procedure", "status": "completed", "subject": subject, "encounter": encounter,
            "code": concept(SNOMED, "426220008", "Application of cervical collar"), "performedDateTime": now_instant()
        });
        let report = json!({
            "resourceType": "Composition", "status": "final", "subject": subject, "encounter": encounter, "date": now_instant(),
            "type": concept(LOINC, "67796-3", "EMS patient care report"), "title": "Patient care report, Route 9",
            "author": [{"display": "paramedic, rescue-one"}],
            "section": [
                {
                    "title": "Narrative", "code": concept(LOINC, "28563-5", "EMS narrative"),
                    "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Driver, belted, trapped for ten minutes; seizure on the scene.</div>"}
                },
                {
                    "title": "Procedures", "code": concept(LOINC, "67803-7", "EMS procedures"),
                    "entry": [
                        {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"},
                        {"reference": "urn:uuid:00000000-0000-4000-8000-000000000002"}
                    ]
                }
            ]
        });
        let bundle = json!({
            "resourceType": "Bundle", "type": "transaction", "entry": [entry(1, given), entry(2, splint), entry(3, report)]
        });
        let answer = paramedic.post("/fhir", &bundle).await?.good()?.json()?;
        let written = answer["entry"].as_array().map_or(0, Vec::len);
        expect(written == 3, "medication, procedure and report are written together")?;
        Ok(())
    }

    /// Row 10: the emergency room accepts, with history, live data and report before the patient arrives.
    pub(crate) async fn hand_off(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "TREAT")?;
        let task = json!({
            "resourceType": "Task", "status": "requested", "intent": "order", "for": self.subject(),
            "code": concept("https://vitaltrace.org/fhir/CodeSystem/task", "handoff", "Handoff of a patient"),
            "focus": {"reference": format!("Encounter/{}", self.id("encounter")?)},
            "requester": {"identifier": {"system": "https://vitaltrace.org/org", "value": "rescue-one"}},
            "owner": {"identifier": {"system": "https://vitaltrace.org/org", "value": "mercy-hospital"}}
        });
        let task = paramedic.create(&task).await?.id()?;
        self.settle().await?;

        let doctor = self.as_user("doctor", "ETREAT")?;
        let offered = doctor.get(&format!("/fhir/Task/{task}")).await?.good()?;
        let mut accepted = offered.json()?;
        accepted["status"] = json!("accepted");
        doctor.update(&accepted, offered.etag.as_deref()).await?;

        doctor.get(&format!("/fhir/Patient/{}/$summary", self.patient)).await?.good()?;
        let report = format!("/fhir/Composition?patient={}&type=http://loinc.org|67796-3", self.patient);
        let report = doctor.get(&report).await?.good()?.json()?;
        expect(!matches(&report).is_empty(), "the emergency room sees the responder's report")?;
        let live =
            format!("/fhir/Observation?patient={}&code=http://loinc.org|8867-4&_sort=-date&_count=5", self.patient);
        let live = doctor.get(&live).await?.good()?.json()?;
        expect(!matches(&live).is_empty(), "the emergency room sees the heart rate from the ambulance")?;
        self.ids.insert("handoff", task);
        Ok(())
    }

    /// Row 11: assessed, treated by a prescribed procedure, discharged.
    pub(crate) async fn treat(&mut self) -> anyhow::Result<()> {
        let doctor = self.as_user("doctor", "TREAT")?;
        let nurse = self.as_user("nurse", "TREAT")?;
        let act = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
        let encounter = json!({
            "resourceType": "Encounter", "status": "in-progress", "subject": self.subject(),
            "class": {"system": act, "code": "EMER", "display": "emergency"},
            "period": {"start": now_instant()}
        });
        let encounter = doctor.create(&encounter).await?.id()?;
        let in_encounter = json!({"reference": format!("Encounter/{encounter}")});
        let condition = json!({
            "resourceType": "Condition", "subject": self.subject(), "encounter": in_encounter,
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
            "code": concept(SNOMED, "62106007", "Concussion with no loss of consciousness")
        });
        let condition = doctor.create(&condition).await?.id()?;
        let order = json!({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": self.subject(),
            "encounter": in_encounter, "code": concept(SNOMED, "303653007", "Computed tomography of head")
        });
        let order = doctor.create(&order).await?.id()?;
        let procedure = json!({
            "resourceType": "Procedure", "status": "completed", "subject": self.subject(), "encounter": in_encounter,
            "basedOn": [{"reference": format!("ServiceRequest/{order}")}], "performedDateTime": now_instant(),
            "code": concept(SNOMED, "303653007", "Computed tomography of head")
        });
        let procedure = doctor.create(&procedure).await?.id()?;
        let finding = json!({
            "resourceType": "DiagnosticReport", "status": "final", "subject": self.subject(), "encounter": in_encounter,
            "basedOn": [{"reference": format!("ServiceRequest/{order}")}], "effectiveDateTime": now_instant(),
            "code": concept(LOINC, "24727-0", "CT Head"), "conclusion": "No bleeding."
        });
        doctor.create(&finding).await?;
        let pulse = json!({
            "resourceType": "Observation", "status": "final", "subject": self.subject(), "encounter": in_encounter,
            "category": [concept("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs", "Vital Signs")],
            "code": concept(LOINC, "8867-4", "Heart rate"), "effectiveDateTime": now_instant(),
            "valueQuantity": {"value": 84, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        nurse.create(&pulse).await?;

        let path = format!("/fhir/Encounter/{encounter}");
        for (class, display, status) in
            [("IMP", "inpatient encounter", "in-progress"), ("IMP", "inpatient encounter", "finished")]
        {
            let now = doctor.get(&path).await?.good()?;
            let mut next = now.json()?;
            next["class"] = json!({"system": act, "code": class, "display": display});
            next["status"] = json!(status);
            doctor.update(&next, now.etag.as_deref()).await?;
        }
        let stale = doctor.get(&path).await?.good()?.json()?;
        let refused = doctor.update(&stale, Some("W/\"1\"")).await;
        expect(refused.is_err(), "an update of a version that is not the latest is refused")?;
        self.ids.extend([("hospital-encounter", encounter), ("condition", condition), ("procedure", procedure)]);
        Ok(())
    }
}

/// Now, as a FHIR instant.
pub(crate) fn now_instant() -> String {
    exchange::clock::now().to_instant()
}
