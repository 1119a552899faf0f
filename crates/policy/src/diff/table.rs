//! One policy as a table: whether it applies, for each combination of what it looks at.

use super::{
    ACTION, AT, AUTHOR, CASE, CLAIM, CONSENT, CONSENTS, DEVICE, DIMENSIONS, GLASS, KIND, LABEL, LABELS, PATIENT,
    PURPOSE, ROLE, Space, TooWide,
};
use crate::{Action, Facts, Person, Policy, Record, Request};
use cedar_policy::{Authorizer, Effect, Entities, PolicySet};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use std::collections::BTreeMap;

/// The most combinations of one policy.
const COMBINATIONS_MAX: usize = 1_000_000;

/// Where a policy applies.
pub(crate) struct Table {
    pub(crate) forbids: bool,
    pub(crate) in_old: bool,
    pub(crate) in_new: bool,
    /// The last dimension that it looks at.
    pub(crate) last: usize,
    /// For each value of each dimension, how far it is in `applies`; the same for values that the policy does not tell apart.
    pub(crate) steps: [Vec<usize>; DIMENSIONS],
    applies: Vec<bool>,
}

impl Table {
    /// Goes through all combinations of what `policy`, with this text, looks at.
    pub(crate) fn of(set: &Policy, policy: &cedar_policy::Policy, text: &str, space: &Space) -> Result<Self, TooWide> {
        let seen: [Vec<usize>; DIMENSIONS] = std::array::from_fn(|dimension| classes(set, text, space, dimension));
        let counts = seen.each_ref().map(|classes| classes.iter().max().map_or(1, |last| last + 1));
        let total = counts.iter().try_fold(1usize, |product, count| product.checked_mul(*count));
        let total = total.filter(|total| *total <= COMBINATIONS_MAX).ok_or(TooWide::Policy)?;
        let mut stride = 1;
        let strides = counts.map(|count| {
            let here = stride;
            stride *= count;
            here
        });
        let steps: [Vec<usize>; DIMENSIONS] =
            std::array::from_fn(|d| seen[d].iter().map(|class| class * strides[d]).collect());
        let last = (0..DIMENSIONS).rev().find(|d| counts[*d] > 1).unwrap_or(0);
        let mut alone = PolicySet::new();
        let forbids = policy.effect() == Effect::Forbid;
        // A set of one policy cannot have its name twice.
        let _ = alone.add(policy.clone());
        let first = |d: usize, class: usize| seen[d].iter().position(|of| *of == class).unwrap_or(0);
        let applies = (0..total)
            .map(|index| {
                let at: [usize; DIMENSIONS] = std::array::from_fn(|d| first(d, index / strides[d] % counts[d]));
                applies(set, &alone, &at, space)
            })
            .collect();
        Ok(Self { forbids, in_old: false, in_new: false, last, steps, applies })
    }

    /// Whether the policy applies to a request.
    pub(crate) fn applies(&self, at: &[usize; DIMENSIONS]) -> bool {
        let index: usize = self.steps.iter().zip(at).map(|(steps, value)| steps[*value]).sum();
        self.applies[index]
    }
}

/// For each value of a dimension the number of its class: values that a policy with this text cannot tell apart have the same.
fn classes(set: &Policy, text: &str, space: &Space, dimension: usize) -> Vec<usize> {
    let looks = |attribute: &str| text.contains(attribute);
    let size = space.sizes[dimension];
    let same = vec![0; size];
    let by_name = |names: Vec<&str>, prefix: &str| {
        let mentioned = words_of(text, prefix);
        numbered(names.into_iter().map(|name| mentioned.contains(&name).then_some(name)))
    };
    match dimension {
        // A patient's own login is what the role says.
        ROLE if looks("patient") || looks("role") => {
            let mentioned = words_of(text, "Role::\"");
            numbered(Role::ALL.iter().map(|role| {
                let counts = mentioned.contains(&role.as_str()) || *role == Role::Patient;
                counts.then_some(role.as_str())
            }))
        }
        AT if looks("org_role") => by_name(OrgRole::ALL.into_iter().map(OrgRole::as_str).collect(), "OrgRole::\""),
        ACTION if looks("Action::\"") => {
            let mentioned = words_of(text, "Action::\"");
            numbered(Action::ALL.iter().map(|action| {
                let groups = set.words.groups(*action);
                groups.into_iter().filter(|group| mentioned.contains(&group.as_str())).collect::<Vec<_>>()
            }))
        }
        PURPOSE if looks("purpose") => by_name(Purpose::ALL.iter().map(|p| p.code()).collect(), "Purpose::\""),
        KIND if looks("fhir_type") || looks("record_type") => {
            let (types, records) = (words_of(text, "FhirType::\""), words_of(text, "RecordType::\""));
            numbered(space.kinds.iter().map(|kind| {
                let name = kind.fhir_type.as_deref().filter(|name| types.contains(name));
                let record = Some(kind.record_type.as_str()).filter(|record| records.contains(record));
                (name, record)
            }))
        }
        LABEL if looks("label") => by_name(LABELS.to_vec(), "Label::\""),
        PATIENT if looks("patient") => (0..size).collect(),
        AUTHOR if looks("author") => (0..size).collect(),
        GLASS if looks("break_glass") => (0..size).collect(),
        CONSENT if looks("consent") => by_name(CONSENTS.map(|c| c.as_str()).to_vec(), "Consented::\""),
        CLAIM if looks("claim_linked") => (0..size).collect(),
        CASE if looks("case_open") => (0..size).collect(),
        DEVICE if looks("device_bound") => (0..size).collect(),
        _ => same,
    }
}

/// Numbers what is equal alike, from 0.
fn numbered<T: Ord>(signs: impl Iterator<Item = T>) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    signs
        .map(|sign| {
            let next = numbers.len();
            *numbers.entry(sign).or_insert(next)
        })
        .collect()
}

/// The words that a text names after a prefix such as `Purpose::"`.
pub(crate) fn words_of<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Whether a text names a person, a patient, a record or an organisation.
pub(crate) fn names_individuals(text: &str) -> bool {
    ["Person::\"", "Patient::\"", "Record::\"", "Org::\""].iter().any(|prefix| text.contains(prefix))
}

fn applies(set: &Policy, alone: &PolicySet, at: &[usize; DIMENSIONS], space: &Space) -> bool {
    // What cannot be asked or fails to evaluate is denied, as if it were forbidden.
    weigh(set, alone, at, space).unwrap_or(false)
}

fn weigh(set: &Policy, alone: &PolicySet, at: &[usize; DIMENSIONS], space: &Space) -> Option<bool> {
    with_request(at, space, |request| {
        let asked = set.words.ask(request).ok()?;
        let entities = Entities::from_entities(asked.entities, None).ok()?;
        let query =
            cedar_policy::Request::new(asked.principal, asked.action, asked.resource, asked.context, None).ok()?;
        let response = Authorizer::new().is_authorized(&query, alone, &entities);
        Some(response.diagnostics().reason().next().is_some())
    })
}

/// The request with these values.
pub(crate) fn with_request<T>(
    at: &[usize; DIMENSIONS],
    space: &Space,
    ask: impl FnOnce(&Request<'_>) -> Option<T>,
) -> Option<T> {
    let (here, elsewhere): (OrgId, OrgId) = ("here".parse().ok()?, "elsewhere".parse().ok()?);
    let role = *Role::ALL.get(at[ROLE])?;
    let kind = space.kinds.get(at[KIND])?;
    let request = Request {
        person: Person {
            user: "somebody",
            role,
            org: &here,
            org_role: *OrgRole::ALL.get(at[AT])?,
            patient: (role == Role::Patient).then_some("own"),
        },
        action: *Action::ALL.get(at[ACTION])?,
        record: Record {
            fhir_type: kind.fhir_type.as_deref().unwrap_or(space.unnamed),
            record_type: *RecordType::ALL.iter().find(|of| **of == kind.record_type)?,
            patient: [None, Some("own"), Some("other")].get(at[PATIENT]).copied()?,
            label: LABELS.get(at[LABEL])?,
            author: if at[AUTHOR] == 0 { &here } else { &elsewhere },
        },
        purpose: *Purpose::ALL.get(at[PURPOSE])?,
        facts: Facts {
            break_glass: at[GLASS] == 1,
            consent: *CONSENTS.get(at[CONSENT])?,
            claim_linked: at[CLAIM] == 1,
            case_open: at[CASE] == 1,
            device_bound: at[DEVICE] == 1,
        },
    };
    ask(&request)
}
