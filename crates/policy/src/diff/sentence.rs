//! A set of requests in words: who may do what to which records, why, and under which condition.

use super::{
    ACTION, AT, AUTHOR, CASE, CLAIM, CONSENT, CONSENTS, Cube, DEVICE, GLASS, KIND, LABEL, LABELS, PATIENT, PURPOSE,
    ROLE, Space,
};
use crate::{Action, Consented};
use record::{OrgRole, Purpose, RecordType, Role};

/// The sentence of a set of requests.
pub(crate) fn of(cube: &Cube, space: &Space) -> String {
    let mut parts = Vec::new();
    let all = |dimension: usize| cube[dimension] == space.all(dimension);
    parts.push(if all(ROLE) { "everybody".to_owned() } else { list(cube[ROLE], Role::ALL.iter().map(|r| r.as_str())) });
    if !all(AT) {
        parts.push(format!("at {}", list(cube[AT], OrgRole::ALL.into_iter().map(OrgRole::as_str))));
    }
    if let Some(who) = parts.last_mut() {
        who.push(':');
    }
    parts.push(if all(ACTION) {
        "anything".to_owned()
    } else {
        list(cube[ACTION], Action::ALL.iter().map(|action| action.as_str()))
    });
    parts.push(if all(KIND) { "on any record".to_owned() } else { format!("on {}", kinds(cube[KIND], space)) });
    if !all(PURPOSE) {
        parts.push(format!("for {}", list(cube[PURPOSE], Purpose::ALL.iter().map(|purpose| purpose.code()))));
    }
    if !all(PATIENT) {
        parts.push(patient(cube[PATIENT]).to_owned());
    }
    if !all(LABEL) {
        parts.push(format!("labelled {}", list(cube[LABEL], LABELS.into_iter())));
    }
    let flags = [
        (AUTHOR, "written by the own organisation", "written by another organisation"),
        (GLASS, "with the glass not broken", "with broken glass"),
        (CLAIM, "that no claim links", "that a claim or request links"),
        (CASE, "without an open case", "with an open case"),
        (DEVICE, "with the device not bound", "with the device bound"),
    ];
    let told = flags.iter().filter(|(dimension, ..)| !all(*dimension));
    parts.extend(told.map(|(dimension, no, yes)| (if cube[*dimension] == 1 { no } else { yes }).to_string()));
    if !all(CONSENT) {
        let words = CONSENTS.iter().map(|consent| match consent {
            Consented::Permit => "the patient consented",
            Consented::Named => "the patient consented and named what is restricted",
            Consented::Delegate => "the patient made the person a delegate",
            Consented::Deny => "the patient refused",
            Consented::None => "no consent is there",
        });
        // The fewer words of the two.
        let others = space.all(CONSENT) & !cube[CONSENT];
        parts.push(if others.count_ones() < cube[CONSENT].count_ones() {
            format!("unless {}", choice(others, words))
        } else {
            format!("when {}", choice(cube[CONSENT], words))
        });
    }
    parts.join(" ")
}

fn patient(mask: u64) -> &'static str {
    match mask {
        0b001 => "about no patient",
        0b010 => "of the patient's own",
        0b100 => "of another patient",
        0b110 => "about a patient",
        0b011 => "of the patient's own or about no patient",
        _ => "of another patient or about no patient",
    }
}

fn kinds(mask: u64, space: &Space) -> String {
    let mut words = Vec::new();
    for record_type in RecordType::ALL {
        let of: Vec<usize> = (0..space.kinds.len()).filter(|n| space.kinds[*n].record_type == record_type).collect();
        let within: Vec<usize> = of.iter().copied().filter(|n| mask >> n & 1 == 1).collect();
        if within.is_empty() {
            continue;
        }
        if within.len() == of.len() {
            words.push(format!("{record_type} records"));
            continue;
        }
        words.extend(within.into_iter().map(|n| match &space.kinds[n].fhir_type {
            Some(name) => name.clone(),
            None => format!("other {record_type} records"),
        }));
    }
    words.dedup();
    words.join(", ")
}

fn list<'a>(mask: u64, names: impl Iterator<Item = &'a str>) -> String {
    named(mask, names).join(", ")
}

fn choice<'a>(mask: u64, names: impl Iterator<Item = &'a str>) -> String {
    named(mask, names).join(" or ")
}

fn named<'a>(mask: u64, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, name)| name).collect()
}
