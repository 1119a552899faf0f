//! The decision: yes or no, and why, in words for the person.

use crate::{Facts, Policy, Request};
use cedar_policy::{Authorizer, Entities, PolicyId, PolicySet};
use record::Purpose;

/// Why a decision is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Name of the policy.
    pub policy: String,
    /// The same for people.
    pub sentence: String,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub allow: bool,
    /// Whether a label alone stands in the way, and this person could break the glass.
    pub suppressed: bool,
    /// The policies that decided; none when nothing permits it.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// The reasons in one sentence.
    pub fn sentence(&self) -> String {
        if self.reasons.is_empty() {
            return "nothing permits this role to do this for this purpose".to_owned();
        }
        let sentences: Vec<&str> = self.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
        sentences.join("; ")
    }

    fn broken(why: impl std::fmt::Display) -> Self {
        let sentence = format!("the decision could not be made: {why}");
        Self { allow: false, suppressed: false, reasons: vec![Reason { policy: "error".to_owned(), sentence }] }
    }
}

impl Policy {
    /// Decides. What cannot be decided is denied. [`Policy::missing`] says what would help.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.try_decide(request) {
            Ok(decision) => decision,
            Err(why) => Decision::broken(why),
        }
    }

    fn try_decide(&self, request: &Request<'_>) -> Result<Decision, Box<dyn std::error::Error>> {
        let (allow, policies) = self.weigh(request)?;
        let labelled = |id: &PolicyId| self.set.annotation(id, "suppressed").is_some();
        let suppressed = !allow && policies.iter().any(labelled) && self.weigh(&under_break_glass(request))?.0;
        let mut reasons: Vec<Reason> = policies.iter().map(|id| self.reason(id)).collect();
        reasons.sort_by(|a, b| a.policy.cmp(&b.policy));
        Ok(Decision { allow, suppressed, reasons })
    }

    /// Asks Cedar: yes or no, and the policies that say so.
    pub(crate) fn weigh(&self, request: &Request<'_>) -> Result<(bool, Vec<PolicyId>), Box<dyn std::error::Error>> {
        let slice = self.slices.iter().find(|(action, _)| *action == request.action);
        let (_, slice) = slice.ok_or("the action is not in the schema")?;
        self.weigh_by(request, slice)
    }

    fn weigh_by(
        &self,
        request: &Request<'_>,
        set: &PolicySet,
    ) -> Result<(bool, Vec<PolicyId>), Box<dyn std::error::Error>> {
        let asked = self.words.ask(request)?;
        // Every word was built from the schema's own, so neither entities nor request are checked against it again.
        let entities = Entities::from_entities(asked.entities, None)?;
        let query = cedar_policy::Request::new(asked.principal, asked.action, asked.resource, asked.context, None)?;
        let response = Authorizer::new().is_authorized(&query, set, &entities);
        // A policy that fails to evaluate must not leave a permission standing that it would have forbidden.
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string().into());
        }
        let allow = response.decision() == cedar_policy::Decision::Allow;
        Ok((allow, response.diagnostics().reason().cloned().collect()))
    }

    fn reason(&self, id: &PolicyId) -> Reason {
        let sentence = self.set.annotation(id, "reason").unwrap_or_default();
        Reason { policy: id.to_string(), sentence: sentence.to_owned() }
    }
}

/// The same request, with the glass broken.
pub(crate) fn under_break_glass<'a>(request: &Request<'a>) -> Request<'a> {
    let facts = Facts { break_glass: true, ..request.facts };
    Request { purpose: Purpose::BreakGlass, facts, ..request.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Consented, Person, Record};
    use record::{OrgId, OrgRole, RecordType, Role};

    #[test]
    fn the_policies_of_an_action_decide_as_the_whole_set_does_and_for_the_same_reasons() {
        let policy = Policy::builtin().unwrap();
        let (here, elsewhere): (OrgId, OrgId) = ("here".parse().unwrap(), "elsewhere".parse().unwrap());
        let mut reasons = std::collections::BTreeSet::new();
        for (nth, &action) in Action::ALL.iter().enumerate() {
            let slice = &policy.slices[nth].1;
            assert!(slice.num_of_policies() < policy.set.num_of_policies());
            for (&role, org_role) in Role::ALL.iter().flat_map(|role| OrgRole::ALL.map(|org_role| (role, org_role))) {
                for (&purpose, label) in
                    Purpose::ALL.iter().flat_map(|purpose| ["N", "V"].map(|label| (purpose, label)))
                {
                    let facts = |given: bool| Facts {
                        break_glass: given,
                        consent: if given { Consented::Named } else { Consented::None },
                        claim_linked: given,
                        case_open: given,
                        device_bound: given,
                    };
                    for facts in [facts(false), facts(true)] {
                        let patient = Some("p1");
                        let request = Request {
                            person: Person { user: "somebody", role, org: &here, org_role, patient },
                            action,
                            record: Record {
                                fhir_type: if label == "N" { "Condition" } else { "Observation" },
                                record_type: if label == "N" { RecordType::MedicalRecord } else { RecordType::Sensed },
                                patient,
                                label,
                                author: if label == "N" { &here } else { &elsewhere },
                            },
                            purpose,
                            facts,
                        };
                        let sorted = |(allow, mut ids): (bool, Vec<PolicyId>)| {
                            ids.sort();
                            (allow, ids)
                        };
                        let by_slice = sorted(policy.weigh(&request).unwrap());
                        assert_eq!(by_slice, sorted(policy.weigh_by(&request, &policy.set).unwrap()), "{request:?}");
                        reasons.extend(by_slice.1);
                    }
                }
            }
        }
        assert!(reasons.len() > 30, "{reasons:?}");
    }
}
