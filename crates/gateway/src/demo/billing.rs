//! Rows 12 to 16: coverage, prior authorisation, the bill, the decision, the explanation.

use super::{
    story::{PATIENT_USER, Story, concept, expect, matches},
    ward::now_instant,
};
use serde_json::{Value, json};

const INSURER: &str = "acme-insurance";

impl Story {
    fn insurer(&self) -> Value {
        json!({"identifier": {"system": "https://vitaltrace.org/org", "value": INSURER}, "display": "Acme Insurance"})
    }

    fn provider(&self) -> Value {
        json!({"identifier": {"system": "https://vitaltrace.org/org", "value": "mercy-hospital"}, "display": "Mercy Hospital"})
    }

    /// Row 12: is she covered, and for what.
    pub(crate) async fn verify_coverage(&mut self) -> anyhow::Result<()> {
        let administrator = self.as_user("administrator", "ELIGVER")?;
        let coverage = json!({
            "resourceType": "Coverage", "status": "active", "beneficiary": self.subject(), "payor": [self.insurer()],
            "subscriberId": "AC-4471-208", "period": {"start": "2026-01-01", "end": "2026-12-31"}
        });
        let coverage = administrator.create(&coverage).await?.id()?;
        let request = json!({
            "resourceType": "CoverageEligibilityRequest", "status": "active", "purpose": ["validation", "benefits"],
            "patient": self.subject(), "created": now_instant(), "insurer": self.insurer(), "provider": self.provider(),
            "insurance": [{"focal": true, "coverage": {"reference": format!("Coverage/{coverage}")}}]
        });
        let request = administrator.create(&request).await?.id()?;
        self.settle().await?;

        let handler = self.as_user("claims-handler", "ELIGVER")?;
        let asked = handler.get(&format!("/fhir/CoverageEligibilityRequest/{request}")).await?.good()?.json()?;
        let covered = asked["insurance"][0]["coverage"]["reference"].as_str().unwrap_or_default().to_owned();
        let policy = handler.get(&format!("/fhir/{covered}")).await?.good()?.json()?;
        let in_force = policy["status"] == "active";
        let response = json!({
            "resourceType": "CoverageEligibilityResponse", "status": "active", "purpose": ["validation", "benefits"],
            "patient": self.subject(), "created": now_instant(), "insurer": self.insurer(), "outcome": "complete",
            "request": {"reference": format!("CoverageEligibilityRequest/{request}")},
            "insurance": [{"coverage": {"reference": covered}, "inforce": in_force}]
        });
        handler.create(&response).await?;
        let answered = administrator
            .get(&format!("/fhir/CoverageEligibilityResponse?patient={}", self.patient))
            .await?
            .good()?
            .json()?;
        expect(matches(&answered).iter().any(|r| r["insurance"][0]["inforce"] == true), "the policy is in force")?;

        let diagnosis = handler.get(&format!("/fhir/Condition/{}", self.id("condition")?)).await?;
        expect(diagnosis.status.as_u16() == 403, "an insurer sees no diagnosis that no claim links")?;
        self.ids.insert("coverage", coverage);
        Ok(())
    }

    fn claim(&self, usage: &str) -> anyhow::Result<Value> {
        let coverage = self.id("coverage")?;
        Ok(json!({
            "resourceType": "Claim", "status": "active", "use": usage, "patient": self.subject(), "created": now_instant(),
            "type": concept("http://terminology.hl7.org/CodeSystem/claim-type", "institutional", "Institutional"),
            "insurer": self.insurer(), "provider": self.provider(),
            "priority": concept("http://terminology.hl7.org/CodeSystem/processpriority", "stat", "Immediate"),
            "accident": {
                "date": now_instant().get(..10),
                "type": concept("http://terminology.hl7.org/CodeSystem/v3-ActCode", "MVA", "Motor vehicle accident")
            },
            "insurance": [{"sequence": 1, "focal": true, "coverage": {"reference": format!("Coverage/{coverage}")}}],
            "diagnosis": [{"sequence": 1, "diagnosisReference": {"reference": format!("Condition/{}", self.id("condition")?)}}],
            "procedure": [{"sequence": 1, "procedureReference": {"reference": format!("Procedure/{}", self.id("procedure")?)}}],
            "item": [{
                "sequence": 1, "procedureSequence": [1], "diagnosisSequence": [1],
                "productOrService": concept("http://snomed.info/sct", "303653007", "Computed tomography of head"),
                "encounter": [{"reference": format!("Encounter/{}", self.id("hospital-encounter")?)}],
                "net": {"value": 812.50, "currency": "USD"}
            }],
            "total": {"value": 812.50, "currency": "USD"}
        }))
    }

    fn response(&self, claim: &str, usage: &str, disposition: &str) -> Value {
        json!({
            "resourceType": "ClaimResponse", "status": "active", "use": usage, "patient": self.subject(),
            "created": now_instant(), "insurer": self.insurer(), "outcome": "complete", "disposition": disposition,
            "type": concept("http://terminology.hl7.org/CodeSystem/claim-type", "institutional", "Institutional"),
            "request": {"reference": format!("Claim/{claim}")},
            "total": [{
                "category": concept("http://terminology.hl7.org/CodeSystem/adjudication", "benefit", "Benefit Amount"),
                "amount": {"value": 812.50, "currency": "USD"}
            }]
        })
    }

    /// Row 13: prior authorisation, in an emergency answered at once.
    pub(crate) async fn authorise(&mut self) -> anyhow::Result<()> {
        let claim = self.as_user("administrator", "COVAUTH")?.create(&self.claim("preauthorization")?).await?.id()?;
        self.settle().await?;
        let response = self.response(&claim, "preauthorization", "Authorised: emergency");
        self.as_user("claims-handler", "COVAUTH")?.create(&response).await?;
        self.settle().await
    }

    /// Row 14: the bill; the same service billed again is refused by the ledger.
    pub(crate) async fn bill(&mut self) -> anyhow::Result<()> {
        let administrator = self.as_user("administrator", "CLMATTCH")?;
        let claim = administrator.create(&self.claim("claim")?).await?.id()?;
        self.settle().await?;
        let again = administrator.create(&self.claim("claim")?).await?.id()?;
        self.settle().await?;
        let receipt = administrator.get(&format!("/fhir/Claim/{again}/_provenance")).await?.good()?.json()?;
        expect(receipt["claim"]["state"] == "refused", "a service that is billed twice is refused by the contract")?;
        self.tell.detail("the same service billed a second time: refused by the ledger");
        self.ids.insert("claim", claim);
        Ok(())
    }

    /// Row 15: the insurer sees what the claim links and nothing else, decides, and pays.
    pub(crate) async fn adjudicate(&mut self) -> anyhow::Result<()> {
        let handler = self.as_user("claims-handler", "HPAYMT")?;
        let claim = self.id("claim")?.to_owned();
        handler.get(&format!("/fhir/Claim/{claim}")).await?.good()?;
        handler.get(&format!("/fhir/Procedure/{}", self.id("procedure")?)).await?.good()?;
        let other = handler.get(&format!("/fhir/Condition/{}", self.id("restricted")?)).await?;
        expect(other.status.as_u16() == 403, "an insurer does not see what the claim does not link")?;
        let response = handler.create(&self.response(&claim, "claim", "Paid in full")).await?.id()?;
        self.settle().await?;
        let payment = json!({
            "resourceType": "PaymentReconciliation", "status": "active", "created": now_instant(),
            "paymentDate": now_instant().get(..10), "paymentAmount": {"value": 812.50, "currency": "USD"},
            "paymentIssuer": self.insurer(), "outcome": "complete",
            "detail": [{
                "type": concept("http://terminology.hl7.org/CodeSystem/payment-type", "payment", "Payment"),
                "request": {"reference": format!("Claim/{claim}")},
                "response": {"reference": format!("ClaimResponse/{response}")},
                "amount": {"value": 812.50, "currency": "USD"}
            }]
        });
        self.as_user("claims-handler", "REMITADV")?.create(&payment).await?;
        self.settle().await?;
        self.ids.insert("claim-response", response);
        Ok(())
    }

    /// Row 16: the patient reads what was paid for what.
    pub(crate) async fn explain(&mut self) -> anyhow::Result<()> {
        let claim = self.id("claim")?.to_owned();
        let explanation = json!({
            "resourceType": "ExplanationOfBenefit", "status": "active", "use": "claim", "patient": self.subject(),
            "type": concept("http://terminology.hl7.org/CodeSystem/claim-type", "institutional", "Institutional"),
            "created": now_instant(), "insurer": self.insurer(), "provider": self.provider(), "outcome": "complete",
            "claim": {"reference": format!("Claim/{claim}")},
            "claimResponse": {"reference": format!("ClaimResponse/{}", self.id("claim-response")?)},
            "insurance": [{"focal": true, "coverage": {"reference": format!("Coverage/{}", self.id("coverage")?)}}],
            "total": [{
                "category": concept("http://terminology.hl7.org/CodeSystem/adjudication", "benefit", "Benefit Amount"),
                "amount": {"value": 812.50, "currency": "USD"}
            }]
        });
        let explanation = self.as_user("claims-handler", "HPAYMT")?.create(&explanation).await?.id()?;
        self.as_user(PATIENT_USER, "PATRQT")?
            .get(&format!("/fhir/ExplanationOfBenefit/{explanation}"))
            .await?
            .good()?;
        Ok(())
    }
}
