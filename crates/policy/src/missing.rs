//! What a denied request lacks: found by asking again with one thing changed, not by guessing from the policies' text.

use crate::{Consented, Facts, Policy, Request, decide::under_break_glass};
use record::Purpose;
use std::fmt;

/// Something that would turn a denial into a permission. Its text completes «it would take ...».
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Another purpose of use.
    Purpose(Purpose),
    /// An override of this person for this patient, and the purpose BTG.
    BreakGlass,
    /// The patient's refusal withdrawn.
    Consent,
    /// A claim or request, addressed to the person's organisation, that links the record.
    Claim,
    /// An open case about this patient.
    Case,
    /// The device bound to this patient.
    Binding,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purpose(purpose) => write!(f, "the purpose of use {purpose} ({})", purpose.display()),
            Self::BreakGlass => f.write_str("an open override for this patient, and the purpose of use BTG"),
            Self::Consent => f.write_str("the patient's consent"),
            Self::Claim => f.write_str("a claim or request addressed to this organisation that links the record"),
            Self::Case => f.write_str("an open case about this patient"),
            Self::Binding => f.write_str("the device bound to this patient"),
        }
    }
}

/// The facts that the world may bring about, break-glass aside.
const FACTS: [Need; 4] = [Need::Consent, Need::Claim, Need::Case, Need::Binding];

impl Policy {
    /// What a denied request lacks, all of it at once. Empty when it is allowed, or when nothing would help.
    ///
    /// The purpose that was given is kept if it can be; then break-glass is tried, then the other purposes in their order. This
    /// takes up to some twenty decisions: ask for the answer to one person, not for every row of a search.
    pub fn missing(&self, request: &Request<'_>) -> Vec<Need> {
        if self.allows(request) {
            return Vec::new();
        }
        if let Some(facts) = self.missing_facts(request) {
            return facts;
        }
        if self.allows(&under_break_glass(request)) {
            return vec![Need::BreakGlass];
        }
        let others =
            Purpose::ALL.iter().filter(|&&purpose| purpose != Purpose::BreakGlass && purpose != request.purpose);
        for &purpose in others {
            if let Some(facts) = self.missing_facts(&Request { purpose, ..request.clone() }) {
                return [vec![Need::Purpose(purpose)], facts].concat();
            }
        }
        Vec::new()
    }

    /// The fewest facts that make it allowed for the purpose that it names, if any do.
    fn missing_facts(&self, request: &Request<'_>) -> Option<Vec<Need>> {
        let absent = |need: &Need| with(request.facts, *need) != request.facts;
        let mut needs: Vec<Need> = FACTS.into_iter().filter(absent).collect();
        let granted = |needs: &[Need]| {
            let facts = needs.iter().fold(request.facts, |facts, need| with(facts, *need));
            self.allows(&Request { facts, ..request.clone() })
        };
        if !granted(&needs) {
            return None;
        }
        for need in FACTS {
            let without: Vec<Need> = needs.iter().copied().filter(|other| *other != need).collect();
            if without.len() < needs.len() && granted(&without) {
                needs = without;
            }
        }
        Some(needs)
    }

    fn allows(&self, request: &Request<'_>) -> bool {
        self.weigh(request).is_ok_and(|(allow, _)| allow)
    }
}

/// The facts, with this need met.
fn with(facts: Facts, need: Need) -> Facts {
    match need {
        Need::Consent => Facts { consent: Consented::Permit, ..facts },
        Need::Claim => Facts { claim_linked: true, ..facts },
        Need::Case => Facts { case_open: true, ..facts },
        Need::Binding => Facts { device_bound: true, ..facts },
        Need::Purpose(_) | Need::BreakGlass => facts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Person, Record};
    use expect_test::{Expect, expect};
    use record::{OrgId, OrgRole, RecordType, Role};

    fn check(role: Role, org_role: OrgRole, action: Action, purpose: Purpose, label: &str, expected: Expect) {
        check_facts(role, org_role, action, purpose, label, Facts::default(), expected);
    }

    fn check_facts(
        role: Role,
        org_role: OrgRole,
        action: Action,
        purpose: Purpose,
        label: &str,
        facts: Facts,
        expected: Expect,
    ) {
        let org: OrgId = "somewhere".parse().unwrap();
        let request = Request {
            person: Person { user: "somebody", role, org: &org, org_role, patient: None },
            action,
            record: Record {
                fhir_type: "Condition",
                record_type: RecordType::MedicalRecord,
                patient: Some("p1"),
                label,
                author: &org,
            },
            purpose,
            facts,
        };
        let missing = Policy::builtin().unwrap().missing(&request);
        let text: Vec<String> = missing.iter().map(ToString::to_string).collect();
        expected.assert_eq(&text.join(", and "));
    }

    #[test]
    fn what_is_missing_is_said_when_it_can_be_had() {
        use Action::{Erase, Read, SendFrame, Update};
        use OrgRole::{Compliance, Ems, Hospital, Insurer};
        let insurer = expect!["a claim or request addressed to this organisation that links the record"];
        check(Role::Insurer, Insurer, Read, Purpose::Payment, "N", insurer);
        let purpose_too = expect![
            "the purpose of use HPAYMT (healthcare payment), and a claim or request addressed to this organisation that links the record"
        ];
        check(Role::Insurer, Insurer, Read, Purpose::Treat, "N", purpose_too);
        check(Role::Compliance, Compliance, Read, Purpose::Fraud, "R", expect!["an open case about this patient"]);
        check(Role::Device, Ems, SendFrame, Purpose::Treat, "N", expect!["the device bound to this patient"]);
        let glass = expect!["an open override for this patient, and the purpose of use BTG"];
        check(Role::Responder, Ems, Read, Purpose::EmergencyTreat, "R", glass);
        check(
            Role::Custodian,
            Hospital,
            Erase,
            Purpose::Treat,
            "N",
            expect!["the purpose of use HSYSADMIN (health system administration)"],
        );
        let denied = Facts { consent: Consented::Deny, ..Facts::default() };
        check_facts(Role::Doctor, Hospital, Read, Purpose::Treat, "N", denied, expect!["the patient's consent"]);
        check(Role::Doctor, Hospital, Read, Purpose::Treat, "N", expect![""]);
        check(Role::Doctor, Insurer, Read, Purpose::Treat, "N", expect![""]);
        check(Role::Compliance, Compliance, Update, Purpose::Compliance, "N", expect![""]);
    }
}
