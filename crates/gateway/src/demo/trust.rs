//! Rows 17 to 19: who saw my data, the investigation, and what a custodian may do.

use super::story::{PATIENT_USER, Story, expect, matches};
use anyhow::Context;
use serde_json::json;
use std::time::Instant;

/// How often evidence is asked for until every member signed it: one that is busy may not answer in time.
const EVIDENCE_TRIES: u32 = 5;

/// How many members signed the log of all entries.
fn signers(report: &evidence::Report) -> u64 {
    report.witnesses.iter().filter(|witness| witness.cosigned.is_some()).count() as u64
}

impl Story {
    /// Row 17: the patient reads who saw what, and why.
    pub(crate) async fn who_saw_my_data(&mut self) -> anyhow::Result<()> {
        let patient = self.as_user(PATIENT_USER, "PATRQT")?;
        let seen =
            patient.get(&format!("/fhir/AuditEvent?patient={}&_count=500", self.patient)).await?.good()?.json()?;
        let seen = matches(&seen);
        let purposes: Vec<&str> = seen
            .iter()
            .filter_map(|event| {
                event["agent"].as_array()?.iter().find_map(|a| a["purposeOfUse"][0]["coding"][0]["code"].as_str())
            })
            .collect();
        expect(
            purposes.contains(&"ETREAT") && purposes.contains(&"BTG"),
            "the emergency reads and the broken glass are listed",
        )?;
        expect(seen.iter().any(|event| event["outcome"] == "8"), "denied attempts are listed too")?;
        self.tell.detail(&format!("{} audit events about this patient", seen.len()));
        Ok(())
    }

    /// Row 18: the inspectorate opens a case, takes the complete history, and verifies it offline.
    pub(crate) async fn investigate(&mut self) -> anyhow::Result<()> {
        let inspector = self.as_user("inspector", "HCOMPL")?;
        let closed = inspector.get(&format!("/evidence/{}", self.patient)).await?;
        expect(closed.status.as_u16() == 403, "without a case the inspectorate sees nothing")?;
        let order =
            json!({"patient": self.patient, "order": "Complaint: was the restricted diagnosis read without need?"});
        let case = inspector.post("/case", &order).await?.good()?.id()?;
        self.settle().await?;

        let genesis = crate::config::read_genesis(&self.consortium.folder.join(crate::config::GENESIS_FILE))?;
        let everybody = self.consortium.nodes.len() as u64;
        let mut tries = 0;
        let (file, report, verify_ms) = loop {
            let file = inspector.get(&format!("/evidence/{}?case={case}", self.patient)).await?.good()?.bytes;
            let started = Instant::now();
            let report = evidence::verify(&file, &genesis.id(), &evidence::Limits::default())
                .context("the evidence file does not verify")?;
            let verify_ms = started.elapsed().as_secs_f64() * 1000.0;
            tries += 1;
            if tries == EVIDENCE_TRIES || signers(&report) == everybody {
                break (file, report, verify_ms);
            }
        };
        let path = self.consortium.folder.join("evidence.vt");
        std::fs::write(&path, &file)?;
        self.report.evidence = super::report::Evidence {
            entries: report.entry_count,
            complete: report.complete,
            verified: true,
            chain: report.chain.to_string(),
            current: report.current.len() as u64,
            current_unshown: report.current_unshown,
            devices: report.devices.len() as u64,
            devices_unshown: report.devices_unshown,
            placed: report.ledger_log.placed,
            witnesses: signers(&report),
            bytes: file.len() as u64,
            verify_ms,
        };
        self.tell.detail(&format!(
            "{} entries, complete: {}, {} kB, verified in {verify_ms:.1} ms without network or database: {}",
            report.entry_count,
            report.complete,
            file.len() / 1000,
            path.display()
        ));
        self.tell.detail("What it proves, in its own words:");
        for sentence in &report.proven {
            self.tell.detail(&format!("- {sentence}"));
        }
        self.tell.detail(&format!("and {} sentences on what it does not prove", report.not_proven.len()));
        expect(report.entry_count > 0 && report.complete, "the evidence is complete")?;

        let mut refused = 0;
        let positions = 64.min(file.len());
        for n in 0..positions {
            let mut forged = file.clone();
            let at = n * file.len() / positions;
            forged[at] ^= 0x01;
            let accepted = evidence::verify(&forged, &genesis.id(), &evidence::Limits::default());
            refused += u32::from(accepted.is_err() || accepted.is_ok_and(|other| other == report));
        }
        expect(
            refused as usize == positions,
            "no forged copy of the evidence file is accepted as saying something else",
        )?;
        self.tell.detail(&format!("{positions} forged copies of it: none accepted"));
        inspector
            .post(&format!("/case/{case}/conclude"), &json!({"result": "The access was justified by the emergency."}))
            .await?
            .good()?;
        Ok(())
    }

    /// Row 19: amended by a new version, held against erasure, and another person's record erased.
    pub(crate) async fn amend_hold_erase(&mut self) -> anyhow::Result<()> {
        let custodian = self.as_user("custodian", "HSYSADMIN")?;
        let path = format!("/fhir/Condition/{}", self.id("condition")?);
        let was = custodian.get(&path).await?.good()?;
        let mut amended = was.json()?;
        amended["note"] = json!([{"text": "Amended on the patient's request: side of impact was left."}]);
        custodian.update(&amended, was.etag.as_deref()).await?;
        custodian.get(&format!("{path}/_history/1")).await?.good().context("the version before stays readable")?;

        let unknown = self.id("unknown")?.to_owned();
        let hold = json!({"patient": unknown, "reason": "litigation"});
        let held = custodian.post("/custody/hold", &hold).await?.good()?.id()?;
        self.settle().await?;
        let erase = json!({"patient": unknown, "reason": "temporary record, merged"});
        let refused = custodian.post("/custody/erase", &erase).await?;
        expect(refused.status.as_u16() == 409, "what is held cannot be erased")?;
        custodian.post(&format!("/custody/{held}/release"), &json!({})).await?.good()?;
        self.settle().await?;
        custodian.post("/custody/erase", &erase).await?.good()?;
        self.settle().await?;
        let gone = custodian.get(&format!("/fhir/Patient/{unknown}")).await?;
        expect(matches!(gone.status.as_u16(), 404 | 410), "the erased record is gone")?;
        Ok(())
    }
}
