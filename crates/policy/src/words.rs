//! From our words to Cedar's: the entities and the context of one request, built without a parser.

use crate::{Action, Consented, Facts, Person, Record, Request};
use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use record::{OrgId, OrgRole, Purpose, RecordType, Role, fhir::RESOURCE_TYPES};
use std::{
    collections::{HashMap, HashSet},
    error::Error,
    str::FromStr,
};

/// The confidentiality codes that count as what they say; any other text counts as the strictest.
const LABELS: [&str; 6] = ["U", "L", "M", "N", "R", "V"];

/// The names of the schema's entity types, parsed once, and its actions with the groups that they are in.
pub(crate) struct Words {
    action: EntityTypeName,
    actions: Vec<(Action, Entity)>,
    /// Each action's own name and those of the groups that it is in.
    groups: Vec<(Action, Vec<String>)>,
    person: EntityTypeName,
    record: EntityTypeName,
    patient: EntityTypeName,
    org: EntityTypeName,
    role: EntityTypeName,
    org_role: EntityTypeName,
    purpose: EntityTypeName,
    record_type: EntityTypeName,
    fhir_type: EntityTypeName,
    label: EntityTypeName,
    consented: EntityTypeName,
}

/// A request as Cedar wants it.
pub(crate) struct Asked {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) entities: [Entity; 3],
    pub(crate) context: Context,
}

impl Words {
    /// The words of a schema.
    pub(crate) fn of(schema: &Schema) -> Result<Self, Box<dyn Error>> {
        let action = EntityTypeName::from_str("Action")?;
        let known = schema.action_entities()?;
        let entity = |&one: &Action| {
            let found = known.get(&uid(&action, one.as_str())).cloned();
            found.map(|entity| (one, entity)).ok_or_else(|| format!("it has no action `{}`", one.as_str()))
        };
        let groups = |&one: &Action| {
            let above = known.ancestors(&uid(&action, one.as_str())).into_iter().flatten();
            let above = above.map(|group| group.id().unescaped().to_owned());
            (one, above.chain([one.as_str().to_owned()]).collect())
        };
        let words = Self {
            groups: Action::ALL.iter().map(groups).collect(),
            actions: Action::ALL.iter().map(entity).collect::<Result<_, _>>()?,
            action,
            person: EntityTypeName::from_str("Person")?,
            record: EntityTypeName::from_str("Record")?,
            patient: EntityTypeName::from_str("Patient")?,
            org: EntityTypeName::from_str("Org")?,
            role: EntityTypeName::from_str("Role")?,
            org_role: EntityTypeName::from_str("OrgRole")?,
            purpose: EntityTypeName::from_str("Purpose")?,
            record_type: EntityTypeName::from_str("RecordType")?,
            fhir_type: EntityTypeName::from_str("FhirType")?,
            label: EntityTypeName::from_str("Label")?,
            consented: EntityTypeName::from_str("Consented")?,
        };
        words.fit(schema)?;
        Ok(words)
    }

    /// Whether a schema has every word that a request may use, and asks for no more than a request says. Checked once for all
    /// requests, so that decisions need not be.
    fn fit(&self, schema: &Schema) -> Result<(), Box<dyn Error>> {
        let org: OrgId = "any".parse()?;
        let person =
            Person { user: "any", role: Role::Patient, org: &org, org_role: OrgRole::Ems, patient: Some("any") };
        let record = Record {
            fhir_type: "Patient",
            record_type: RecordType::MedicalRecord,
            patient: Some("any"),
            label: "N",
            author: &org,
        };
        let nobody = Person { patient: None, ..person.clone() };
        let unfiled = Record { patient: None, ..record.clone() };
        let roles = Role::ALL.iter().map(|&role| Person { role, ..person.clone() });
        let org_roles = OrgRole::ALL.into_iter().map(|org_role| Person { org_role, ..person.clone() });
        for person in roles.chain(org_roles).chain([nobody]) {
            Entities::from_entities([self.person(&person)?], Some(schema))?;
        }
        let types = RESOURCE_TYPES.into_iter().map(|fhir_type| Record { fhir_type, ..record.clone() });
        let kinds = RecordType::ALL.into_iter().map(|record_type| Record { record_type, ..record.clone() });
        let labels = LABELS.into_iter().map(|label| Record { label, ..record.clone() });
        for record in types.chain(kinds).chain(labels).chain([unfiled]) {
            Entities::from_entities([self.record(&record)?], Some(schema))?;
        }
        let fits = |action: Action, purpose: Purpose, consent: Consented| -> Result<(), Box<dyn Error>> {
            let context = self.context(purpose, &Facts { consent, ..Facts::default() })?;
            let (person, record) = (uid(&self.person, "any"), uid(&self.record, "it"));
            let action = uid(&self.action, action.as_str());
            cedar_policy::Request::new(person, action, record, context, Some(schema))?;
            Ok(())
        };
        Action::ALL.iter().try_for_each(|&action| fits(action, Purpose::Treat, Consented::None))?;
        Purpose::ALL.iter().try_for_each(|&purpose| fits(Action::Read, purpose, Consented::None))?;
        [Consented::Permit, Consented::Named, Consented::Delegate, Consented::Deny]
            .into_iter()
            .try_for_each(|consent| fits(Action::Read, Purpose::Treat, consent))
    }

    /// The names that policies can mean an action by: its own and its groups'.
    pub(crate) fn groups(&self, action: Action) -> Vec<String> {
        self.groups.iter().find(|(one, _)| *one == action).map(|(_, names)| names.clone()).unwrap_or_default()
    }

    /// An action and the groups that it is in, itself first.
    pub(crate) fn meant(&self, action: Action) -> Vec<EntityUid> {
        let own = uid(&self.action, action.as_str());
        let groups = self.groups(action).into_iter().map(|name| uid(&self.action, &name)).filter(|uid| *uid != own);
        [own.clone()].into_iter().chain(groups).collect()
    }

    pub(crate) fn ask(&self, request: &Request<'_>) -> Result<Asked, Box<dyn Error>> {
        let principal = self.person(&request.person)?;
        let resource = self.record(&request.record)?;
        let known = self.actions.iter().find(|(action, _)| *action == request.action);
        let (_, action) = known.ok_or("the action is not in the schema")?;
        Ok(Asked {
            principal: principal.uid(),
            action: action.uid(),
            resource: resource.uid(),
            entities: [principal, action.clone(), resource],
            context: self.context(request.purpose, &request.facts)?,
        })
    }

    fn person(&self, person: &Person<'_>) -> Result<Entity, Box<dyn Error>> {
        let mut attributes = HashMap::from([
            ("role".to_owned(), word(&self.role, person.role.as_str())),
            ("org".to_owned(), word(&self.org, person.org.as_str())),
            ("org_role".to_owned(), word(&self.org_role, person.org_role.as_str())),
        ]);
        attributes.extend(person.patient.map(|patient| ("patient".to_owned(), word(&self.patient, patient))));
        // Two organisations may each have somebody of this name. An organisation's name holds no slash.
        let name = format!("{}/{}", person.org, person.user);
        Ok(Entity::new(uid(&self.person, &name), attributes, HashSet::new())?)
    }

    fn record(&self, record: &Record<'_>) -> Result<Entity, Box<dyn Error>> {
        if RESOURCE_TYPES.binary_search(&record.fhir_type).is_err() {
            return Err("FHIR R4 has no such resource type".into());
        }
        let label = if LABELS.contains(&record.label) { record.label } else { "V" };
        let mut attributes = HashMap::from([
            ("fhir_type".to_owned(), word(&self.fhir_type, record.fhir_type)),
            ("record_type".to_owned(), word(&self.record_type, record.record_type.as_str())),
            ("label".to_owned(), word(&self.label, label)),
            ("author".to_owned(), word(&self.org, record.author.as_str())),
        ]);
        attributes.extend(record.patient.map(|patient| ("patient".to_owned(), word(&self.patient, patient))));
        // No policy names a record: one decision is about one record, whatever it is called.
        Ok(Entity::new(uid(&self.record, "it"), attributes, HashSet::new())?)
    }

    fn context(&self, purpose: Purpose, facts: &Facts) -> Result<Context, Box<dyn Error>> {
        let flag = RestrictedExpression::new_bool;
        Ok(Context::from_pairs([
            ("purpose".to_owned(), word(&self.purpose, purpose.code())),
            ("break_glass".to_owned(), flag(facts.break_glass)),
            ("consent".to_owned(), word(&self.consented, facts.consent.as_str())),
            ("claim_linked".to_owned(), flag(facts.claim_linked)),
            ("case_open".to_owned(), flag(facts.case_open)),
            ("device_bound".to_owned(), flag(facts.device_bound)),
        ])?)
    }
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

fn word(kind: &EntityTypeName, name: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadError, Policy};

    #[test]
    fn a_schema_without_one_of_our_words_is_refused() {
        let schema = include_str!("../../../policies/access.cedarschema");
        for (word, other) in [
            (r#""nurse", "#, ""),
            (r#""Condition", "#, ""),
            (r#""ETREAT", "#, ""),
            ("\"N\", ", ""),
            ("\"claims\", ", ""),
            ("label: Label,", "label: Label, more: Bool,"),
            ("author: Org,", ""),
            ("case_open: Bool,", ""),
            ("HandOff appliesTo", "HandOver appliesTo"),
        ] {
            assert!(schema.contains(word), "{word}");
            let changed = schema.replacen(word, other, 1);
            assert!(matches!(Policy::load(&changed, &[]), Err(LoadError::Schema(_))), "{word}");
        }
        Policy::load(schema, &[]).unwrap();
    }

    #[test]
    fn names_from_outside_are_taken_as_they_are() {
        let policy = Policy::builtin().unwrap();
        let org: OrgId = "mercy".parse().unwrap();
        for name in ["", "a\"b", "x\" || true || \"", "\0", "Ünï", &"long".repeat(10_000)] {
            let request = Request {
                person: Person {
                    user: name,
                    role: Role::Patient,
                    org: &org,
                    org_role: OrgRole::Hospital,
                    patient: Some("p1"),
                },
                action: Action::Read,
                record: Record {
                    fhir_type: "Condition",
                    record_type: RecordType::MedicalRecord,
                    patient: Some(name),
                    label: name,
                    author: &org,
                },
                purpose: Purpose::PatientRequest,
                facts: Facts::default(),
            };
            assert!(!policy.decide(&request).allow);
            let own = Request { person: Person { patient: Some(name), ..request.person.clone() }, ..request };
            assert!(policy.decide(&own).allow);
        }
    }
}
