//! What the references of a type may lead to, by the element that they stand in.

use super::{
    RESOURCE_TYPES,
    definitions::{Definitions, Element, Structure, Type},
};
use std::collections::BTreeSet;

/// The types that references under `path` of a type may lead to, sorted; every type, where R4 names none.
///
/// A path names elements from the resource's root, such as `participant.actor`; at its end `[x]` stands for every type of a choice and
/// `[Reference]` for that one. Empty when no reference stands there: a canonical address is none.
pub fn reference_targets(rtype: &str, path: &str) -> Vec<&'static str> {
    let definitions = Definitions::r4();
    let mut structures: Vec<&Structure> = definitions.named(rtype).into_iter().collect();
    let mut targets = BTreeSet::new();
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        let elements: Vec<&Element> = structures.iter().flat_map(|structure| elements(structure, segment)).collect();
        if segments.peek().is_none() {
            for element in &elements {
                match element.of {
                    Type::Reference([]) => targets.extend(RESOURCE_TYPES),
                    Type::Reference(named) => targets.extend(named),
                    _ => {}
                }
            }
        }
        let inner = elements.iter().filter_map(|element| match element.of {
            Type::Complex(index) => Some(definitions.structure(index)),
            _ => None,
        });
        structures = inner.collect();
    }
    // `Resource` in R4's own words is any of them.
    if targets.remove("Resource") {
        targets.extend(RESOURCE_TYPES);
    }
    targets.into_iter().collect()
}

fn elements<'a>(structure: &'a Structure, segment: &str) -> Vec<&'a Element> {
    match segment.split_once('[') {
        None => structure.property(segment).into_iter().collect(),
        Some((_, "x]")) => structure.of_choice(segment).collect(),
        Some((stem, form)) => {
            structure.property(&format!("{stem}{}", form.trim_end_matches(']'))).into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_what_r4_says_that_they_may() {
        for (rtype, path, expected) in [
            ("Claim", "patient", &["Patient"] as &[&str]),
            ("Observation", "encounter", &["Encounter"]),
            ("Encounter", "location.location", &["Location"]),
            ("MedicationRequest", "medication[Reference]", &["Medication"]),
            ("Observation", "code", &[]),
            ("Observation", "valueQuantity", &[]),
            ("Observation", "nothing.here", &[]),
            ("Nothing", "subject", &[]),
        ] {
            assert_eq!(reference_targets(rtype, path), expected, "{rtype}.{path}");
        }
        let subject = reference_targets("Observation", "subject");
        assert!(subject.contains(&"Patient") && subject.contains(&"Device") && !subject.contains(&"Encounter"));
        assert!(reference_targets("MessageHeader", "focus").len() >= RESOURCE_TYPES.len() - 1);
        assert!(reference_targets("Consent", "source[x]").contains(&"DocumentReference"));
    }
}
