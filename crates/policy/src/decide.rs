//! The decision: yes or no, and why, in words for the person.

use crate::{Policy, Request};
use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, RestrictedExpression,
};
use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
};

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
    /// Whether the data exists and break-glass could open it.
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
    /// Decides. What cannot be decided is denied.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.try_decide(request) {
            Ok(decision) => decision,
            Err(why) => Decision::broken(why),
        }
    }

    fn try_decide(&self, request: &Request<'_>) -> Result<Decision, Box<dyn std::error::Error>> {
        let principal = uid("Person", request.person.user)?;
        let resource = uid("Record", "it")?;
        let action = uid("Action", request.action.as_str())?;
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());

        let person = &request.person;
        let mut attributes = HashMap::from([
            ("role".to_owned(), text(person.role.as_str())),
            ("org".to_owned(), text(person.org.as_str())),
            ("orgRole".to_owned(), text(person.org_role.as_str())),
        ]);
        attributes.extend(person.patient.map(|patient| ("patient".to_owned(), text(patient))));
        let principal_entity = Entity::new(principal.clone(), attributes, HashSet::new())?;

        let record = &request.record;
        let mut attributes = HashMap::from([
            ("fhirType".to_owned(), text(record.fhir_type)),
            ("recordType".to_owned(), text(record.record_type.as_str())),
            ("label".to_owned(), text(record.label)),
            ("author".to_owned(), text(record.author.as_str())),
        ]);
        attributes.extend(record.patient.map(|patient| ("patient".to_owned(), text(patient))));
        let resource_entity = Entity::new(resource.clone(), attributes, HashSet::new())?;

        let flag = RestrictedExpression::new_bool;
        let facts = &request.facts;
        let context = Context::from_pairs([
            ("purpose".to_owned(), text(request.purpose.code())),
            ("breakGlass".to_owned(), flag(facts.break_glass)),
            ("consent".to_owned(), text(facts.consent.as_str())),
            ("claimLinked".to_owned(), flag(facts.claim_linked)),
            ("caseOpen".to_owned(), flag(facts.case_open)),
            ("deviceBound".to_owned(), flag(facts.device_bound)),
        ])?;
        let entities = Entities::from_entities([principal_entity, resource_entity], None)?;
        let asked = cedar_policy::Request::new(principal, action, resource, context, Some(&self.schema))?;
        let response = Authorizer::new().is_authorized(&asked, &self.set, &entities);
        // A policy that fails to evaluate must not leave a permission standing that it would have forbidden.
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string().into());
        }
        let mut reasons: Vec<Reason> = response.diagnostics().reason().map(|id| self.reason(id)).collect();
        reasons.sort_by(|a, b| a.policy.cmp(&b.policy));
        let allow = response.decision() == cedar_policy::Decision::Allow;
        let marked =
            |id: &PolicyId| self.set.policy(id).is_some_and(|policy| policy.annotation("suppressed").is_some());
        let suppressed = !allow && response.diagnostics().reason().all(marked) && !reasons.is_empty();
        Ok(Decision { allow, suppressed, reasons })
    }

    fn reason(&self, id: &PolicyId) -> Reason {
        let sentence = self.set.policy(id).and_then(|policy| policy.annotation("reason")).unwrap_or_default();
        Reason { policy: id.to_string(), sentence: sentence.to_owned() }
    }
}

fn uid(kind: &str, name: &str) -> Result<EntityUid, Box<dyn std::error::Error>> {
    Ok(EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind)?, EntityId::new(name)))
}
