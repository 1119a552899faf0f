//! Rows 0 to 4: enrolment, the call, who it is, the basic record, breaking the glass.

use super::{
    generated,
    story::{PATIENT_USER, Story, concept, expect, matches},
};
use crate::command::load;
use anyhow::{Context, bail};
use record::Role;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Instant};

const SNOMED: &str = "http://snomed.info/sct";

impl Story {
    /// Row 0: the hospital loads its patients; the patient consents to treatment.
    pub(crate) async fn enrol(&mut self) -> anyhow::Result<()> {
        let custodian = self.as_user("custodian", "HSYSADMIN")?;
        let files = match &self.patients {
            Some(folder) => load::files(std::slice::from_ref(folder))?,
            None => self.write_generated()?,
        };
        let bar = self.tell.bar(files.len() as u64, "loading FHIR bundles");
        let mut chosen = Chosen::default();
        for file in &files {
            let loaded = load::send(&custodian, file).await?;
            self.report.resources_loaded += loaded.entries;
            chosen.consider(&load::read(file)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.identifier = chosen.identifier.context("no bundle holds a patient with allergies and an identifier")?;
        let loaded = self.report.resources_loaded;
        self.tell.detail(&format!(
            "{loaded} entries loaded; the patient of this story has {} recorded allergies",
            chosen.allergies
        ));

        let found = custodian.get(&format!("/fhir/Patient?identifier={}", self.identifier)).await?.good()?.json()?;
        let patient =
            matches(&found).first().and_then(|p| p["id"].as_str()).context("the loaded patient is not found")?;
        self.patient = patient.to_owned();
        self.consortium.add_user("mercy-hospital", PATIENT_USER, Role::Patient, Some(self.patient.clone()))?;
        self.log_in().await?;

        let consent = json!({
            "resourceType": "Consent", "status": "active", "patient": self.subject(), "dateTime": "2026-01-12T09:30:00Z",
            "scope": concept("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent"),
            "category": [concept("http://loinc.org", "59284-0", "Consent Document")],
            "policy": [{"authority": "https://vitaltrace.org", "uri": "https://vitaltrace.org/policy/access"}],
            "provision": {
                "type": "permit", "period": {"start": "2026-01-12", "end": "2036-01-12"},
                "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]
            }
        });
        let consent = self.as_user(PATIENT_USER, "PATRQT")?.create(&consent).await?.id()?;
        self.ids.insert("consent", consent);

        let restricted = json!({
            "resourceType": "Condition", "subject": self.subject(),
            "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]},
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
            "code": concept(SNOMED, "191480000", "Alcohol withdrawal syndrome")
        });
        let restricted = self.as_user("doctor", "TREAT")?.create(&restricted).await?.id()?;
        self.ids.insert("restricted", restricted);
        Ok(())
    }

    /// Writes the made-up bundles where `load` finds them.
    fn write_generated(&self) -> anyhow::Result<Vec<PathBuf>> {
        self.tell.detail("no --patients given: using a made-up patient, a made-up hospital and a made-up doctor");
        let folder = self.consortium.folder.join("generated-patient");
        std::fs::create_dir_all(&folder)?;
        for (name, bundle) in ["0-hospitalInformation.json", "0-practitionerInformation.json", "patient.json"]
            .iter()
            .zip(generated::bundles())
        {
            std::fs::write(folder.join(name), serde_json::to_vec_pretty(&bundle)?)?;
        }
        load::files(&[folder])
    }

    /// Row 1: the call comes in; a field encounter with an unknown person at a place.
    pub(crate) async fn dispatch(&mut self) -> anyhow::Result<()> {
        let dispatcher = self.as_user("dispatcher", "TREAT")?;
        let place = json!({
            "resourceType": "Location", "status": "active", "mode": "instance", "name": "Route 9, km 31",
            "description": "Two cars, one person trapped"
        });
        let place = dispatcher.create(&place).await?.id()?;
        let unknown = json!({
            "resourceType": "Patient", "active": true, "name": [{"use": "temp", "text": "Unknown, Route 9"}], "gender": "unknown"
        });
        let unknown = dispatcher.create(&unknown).await?.id()?;
        let encounter = json!({
            "resourceType": "Encounter", "status": "in-progress", "subject": {"reference": format!("Patient/{unknown}")},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "FLD", "display": "field"},
            "location": [{"location": {"reference": format!("Location/{place}")}}],
            "reasonCode": [concept(SNOMED, "418399005", "Motor vehicle accident")]
        });
        let encounter = dispatcher.create(&encounter).await?.id()?;
        self.ids.extend([("place", place), ("unknown", unknown), ("encounter", encounter)]);
        Ok(())
    }

    /// Row 2: the responder finds an insurance card; the unknown person is linked to the Patient.
    pub(crate) async fn identify(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let found = paramedic.get(&format!("/fhir/Patient?identifier={}", self.identifier)).await?.good()?.json()?;
        let found = matches(&found).first().and_then(|p| p["id"].as_str()).map(str::to_owned);
        expect(found.as_deref() == Some(&self.patient), "the card's identifier finds the patient")?;

        let unknown = paramedic.get(&format!("/fhir/Patient/{}", self.id("unknown")?)).await?.good()?;
        let mut linked = unknown.json()?;
        linked["active"] = json!(false);
        linked["link"] = json!([{"other": self.subject(), "type": "replaced-by"}]);
        paramedic.update(&linked, unknown.etag.as_deref()).await?;

        let encounter = paramedic.get(&format!("/fhir/Encounter/{}", self.id("encounter")?)).await?.good()?;
        let mut known = encounter.json()?;
        known["subject"] = self.subject();
        paramedic.update(&known, encounter.etag.as_deref()).await?;
        Ok(())
    }

    /// Row 3: the basic record, complete and verified.
    pub(crate) async fn basic_record(&mut self) -> anyhow::Result<()> {
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let mut summary = Value::Null;
        for _ in 0..20 {
            let started = Instant::now();
            summary = paramedic.get(&format!("/fhir/Patient/{}/$summary", self.patient)).await?.good()?.json()?;
            self.summaries_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        let sections = summary["entry"][0]["resource"]["section"].as_array().cloned().unwrap_or_default();
        let section = |code: &str| sections.iter().find(|s| s["code"]["coding"][0]["code"] == code);
        let count = |code: &str| section(code).and_then(|s| s["entry"].as_array()).map_or(0, Vec::len);
        expect(count("48765-2") > 0, "the summary lists the allergies")?;
        expect(
            section("10160-0").is_some() && section("11450-4").is_some(),
            "the summary has medications and problems",
        )?;
        let restricted = format!("Condition/{}", self.id("restricted")?);
        expect(!summary.to_string().contains(&restricted), "the restricted diagnosis is not in the summary")?;
        self.tell.detail(&format!(
            "{} allergies, {} medications, {} problems",
            count("48765-2"),
            count("10160-0"),
            count("11450-4")
        ));
        Ok(())
    }

    /// Row 4: restricted data is denied, then opened by break-glass with a reason and a limit, then closed and reviewed.
    pub(crate) async fn break_glass(&mut self) -> anyhow::Result<()> {
        let path = format!("/fhir/Condition/{}", self.id("restricted")?);
        let paramedic = self.as_user("paramedic", "ETREAT")?;
        let denied = paramedic.get(&path).await?;
        expect(denied.status.as_u16() == 403, "restricted data is denied without break-glass")?;
        expect(denied.json()?["issue"][0]["code"] == "suppressed", "the denial says that something is suppressed")?;

        let breaking = self.as_user("paramedic", "BTG")?;
        let still = breaking.get(&path).await?;
        expect(still.status.as_u16() == 403, "the purpose BTG alone opens nothing")?;
        let reason = json!({"patient": self.patient, "reason": "unconscious, seizure, cause unknown", "minutes": 15});
        let opened = breaking.post("/override", &reason).await?.good()?;
        let id = opened.id()?;
        breaking.get(&path).await?.good().context("break-glass does not open the restricted record")?;
        breaking.post(&format!("/override/{id}/close"), &json!({})).await?.good()?;
        if breaking.get(&path).await?.status.is_success() {
            bail!("the record stays open after break-glass was closed");
        }
        let officer = self.as_user("privacy-officer", "HOPERAT")?;
        let waiting = officer.get("/override?reviewed=false").await?.good()?.json()?;
        expect(
            waiting["overrides"].as_array().is_some_and(|list| list.iter().any(|o| o["id"] == id.as_str())),
            "the privacy officer sees the override that waits for review",
        )?;
        let review = json!({"justified": true, "comment": "seizure on the scene, record consulted for three minutes"});
        officer.post(&format!("/override/{id}/review"), &review).await?.good()?;
        Ok(())
    }
}

/// The patient that the story is about: the one with most allergies, the first of these.
#[derive(Default)]
struct Chosen {
    identifier: Option<String>,
    allergies: usize,
}

impl Chosen {
    fn consider(&mut self, bundle: &[u8]) {
        let bundle: Value = serde_json::from_slice(bundle).unwrap_or_default();
        let resources = matches(&bundle);
        let allergies = resources.iter().filter(|r| r["resourceType"] == "AllergyIntolerance").count();
        let patient = resources.iter().find(|r| r["resourceType"] == "Patient" && r["deceasedDateTime"].is_null());
        let identifier = patient.and_then(|p| {
            let identifier = &p["identifier"][0];
            Some(format!("{}|{}", identifier["system"].as_str()?, identifier["value"].as_str()?))
        });
        if allergies > self.allergies && identifier.is_some() {
            *self = Self { identifier, allergies };
        }
    }
}
