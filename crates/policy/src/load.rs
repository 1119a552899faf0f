//! The policy set: read, validated against its schema, and named by a digest.

use crate::{
    Action,
    nesting::{BRACKETS_MAX, STEPS_MAX, is_shallow, is_shallow_schema},
    words::Words,
};
use cedar_policy::{ActionConstraint, EntityUid, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use record::{Digest, OrgRole, sha256};
use std::str::FromStr;

/// The longest schema or policy document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most documents of a set.
pub const DOCUMENTS_MAX: usize = 64;
/// The most policies of a set: each decision weighs them all.
pub const POLICIES_MAX: usize = 500;

const DOMAIN: &[u8] = b"vitaltrace/access-policy/1\0";

macro_rules! documents {
    ($($name:literal),+ $(,)?) => {
        &[$(Document { name: $name, text: include_str!(concat!("../../../policies/access/", $name)) }),+]
    };
}

pub(crate) const SCHEMA: &str = include_str!("../../../policies/access.cedarschema");
/// The list of policy files in the order of their names: a new one is a file and a line here.
pub(crate) const BUILTIN: &[Document<'static>] = documents![
    "administrator.cedar",
    "break-glass.cedar",
    "clinician.cedar",
    "compliance.cedar",
    "custodian.cedar",
    "device.cedar",
    "directory.cedar",
    "insurer.cedar",
    "never.cedar",
    "patient.cedar",
    "responder.cedar",
    "subscriber.cedar",
];

/// One file of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its name, part of the digest.
    pub name: &'a str,
    /// Cedar policies, each with an `@id` and a `@reason`.
    pub text: &'a str,
}

/// Why a policy set was not accepted. Its author's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Too many documents or policies, or too long.
    #[error(
        "a set has at most {DOCUMENTS_MAX} documents of {DOCUMENT_BYTES_MAX} bytes and at most {POLICIES_MAX} policies"
    )]
    Bounds,
    /// A policy, or the schema, is nested so deep that it cannot be checked.
    #[error(
        "a policy has at most {BRACKETS_MAX} open brackets and at most {STEPS_MAX} operators, attributes, brackets and ifs"
    )]
    Nesting,
    /// The schema is not Cedar, or does not have exactly the words that requests are made of.
    #[error("the schema is wrong: {0}")]
    Schema(String),
    /// A document is not Cedar.
    #[error("`{document}` is wrong: {why}")]
    Syntax {
        /// The document.
        document: String,
        /// What the parser says.
        why: String,
    },
    /// A policy lacks its name or its reason.
    #[error("a policy in `{document}` has no `@{annotation}`")]
    Annotation {
        /// The document.
        document: String,
        /// The annotation.
        annotation: &'static str,
    },
    /// A policy has a slot to be filled later, which nobody here fills.
    #[error("`{0}` holds a template: name principal and resource, or leave them open")]
    Template(String),
    /// Two policies have the same name.
    #[error("two policies are called `{0}`")]
    SameId(String),
    /// The bytes are no bundle: see [`crate::Bundle`].
    #[error("the bytes are no bundle of policies")]
    Bundle,
    /// Nobody at an organisation of this kind could propose a policy or vote on one.
    #[error("nobody at an organisation of the kind `{0}` could propose policies or vote on them ever again")]
    Ungoverned(OrgRole),
    /// The policies do not fit the schema, or one of them can never apply.
    #[error("the policies do not fit the schema: {0}")]
    Invalid(String),
}

/// A validated set of policies.
pub struct Policy {
    pub(crate) set: PolicySet,
    /// Of each action the policies that can apply to it: all others would only be found not to.
    pub(crate) slices: Vec<(Action, PolicySet)>,
    pub(crate) schema: Schema,
    pub(crate) words: Words,
    digest: Digest,
}

impl Policy {
    /// Reads and validates documents against a schema, strictly.
    pub fn load(schema: &str, documents: &[Document<'_>]) -> Result<Self, LoadError> {
        let long = |text: &str| text.len() > DOCUMENT_BYTES_MAX;
        if documents.len() > DOCUMENTS_MAX || long(schema) || documents.iter().any(|d| long(d.text)) {
            return Err(LoadError::Bounds);
        }
        if !is_shallow_schema(schema) || !documents.iter().all(|document| is_shallow(document.text)) {
            return Err(LoadError::Nesting);
        }
        let digest = digest(&canonical(schema, documents));
        let (schema, _warnings) = Schema::from_cedarschema_str(schema).map_err(|e| LoadError::Schema(e.to_string()))?;
        let words = Words::of(&schema).map_err(|e| LoadError::Schema(e.to_string()))?;
        let mut set = PolicySet::new();
        for document in documents {
            let name = || document.name.to_owned();
            let parsed = PolicySet::from_str(document.text)
                .map_err(|e| LoadError::Syntax { document: name(), why: e.to_string() })?;
            if parsed.templates().next().is_some() {
                return Err(LoadError::Template(name()));
            }
            for policy in parsed.policies() {
                let missing = |annotation| LoadError::Annotation { document: name(), annotation };
                let id = policy.annotation("id").ok_or_else(|| missing("id"))?;
                policy.annotation("reason").ok_or_else(|| missing("reason"))?;
                set.add(policy.new_id(PolicyId::new(id))).map_err(|_| LoadError::SameId(id.to_owned()))?;
            }
            if set.num_of_policies() > POLICIES_MAX {
                return Err(LoadError::Bounds);
            }
        }
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        // A warning is a policy that can never apply, or text that looks like other text: both are mistakes, or worse.
        if !result.validation_passed_without_warnings() {
            let errors = result.validation_errors().map(ToString::to_string);
            let why: Vec<String> = errors.chain(result.validation_warnings().map(ToString::to_string)).collect();
            return Err(LoadError::Invalid(why.join("; ")));
        }
        let slice = |&action: &Action| Ok((action, slice(&set, &words.meant(action))?));
        let slices = Action::ALL.iter().map(slice).collect::<Result<_, LoadError>>()?;
        Ok(Self { set, slices, schema, words, digest })
    }

    /// The set that this program comes with: `policies/access`.
    pub fn builtin() -> Result<Self, LoadError> {
        Self::load(SCHEMA, BUILTIN)
    }

    /// The set and its schema, for a solver.
    pub fn cedar(&self) -> (&PolicySet, &Schema) {
        (&self.set, &self.schema)
    }

    /// Names the set: what entries say they were decided under. SHA-256 over schema and documents, each length-prefixed.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// The policies of a set whose scope names one of these actions or groups, or none.
fn slice(set: &PolicySet, meant: &[EntityUid]) -> Result<PolicySet, LoadError> {
    let applies = |policy: &&cedar_policy::Policy| match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => meant.first() == Some(&one),
        ActionConstraint::In(some) => some.iter().any(|one| meant.contains(one)),
    };
    PolicySet::from_policies(set.policies().filter(applies).cloned()).map_err(|e| LoadError::Invalid(e.to_string()))
}

/// What names a set with these [`canonical`] bytes: SHA-256(domain ‖ bytes).
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    sha256(&[DOMAIN, bytes])
}

/// The bytes that the digest names: schema, then name and text of each document, each length-prefixed.
pub(crate) fn canonical(schema: &str, documents: &[Document<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = |text: &str| {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    part(schema);
    for document in documents {
        part(document.name);
        part(document.text);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"@id("a") @reason("because") permit (principal, action == Action::"Read", resource);"#;

    fn load(text: &str) -> Result<Policy, LoadError> {
        Policy::load(SCHEMA, &[Document { name: "test.cedar", text }])
    }

    #[test]
    fn the_built_in_set_holds_every_file_of_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/access");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".cedar"))
            .collect();
        files.sort();
        let listed: Vec<&str> = BUILTIN.iter().map(|document| document.name).collect();
        assert_eq!(files, listed);
        assert_eq!(crate::Bundle::builtin().digest(), Policy::builtin().unwrap().digest());
        Policy::builtin().unwrap();
    }

    #[test]
    fn the_digest_changes_with_any_character_and_with_the_order_of_documents() {
        let base = load(GOOD).map(|p| p.digest()).unwrap();
        assert_eq!(base, load(GOOD).map(|p| p.digest()).unwrap());
        assert_ne!(base, load(&GOOD.replace("because", "becauze")).map(|p| p.digest()).unwrap());
        let set = |documents: &[(&str, &str)]| {
            let documents: Vec<Document<'_>> = documents.iter().map(|&(name, text)| Document { name, text }).collect();
            Policy::load(SCHEMA, &documents).map(|p| p.digest()).unwrap()
        };
        let other = GOOD.replace("\"a\"", "\"b\"");
        assert_ne!(set(&[("1", GOOD), ("2", &other)]), set(&[("2", &other), ("1", GOOD)]));
        assert_ne!(set(&[("1", GOOD), ("2", &other)]), set(&[("1", &format!("{GOOD}{other}"))]));
        assert_ne!(set(&[("1", GOOD)]), set(&[("2", GOOD)]));
        let spaced = format!("{SCHEMA} ");
        assert_ne!(base, Policy::load(&spaced, &[Document { name: "test.cedar", text: GOOD }]).unwrap().digest());
    }

    #[test]
    fn policies_that_do_not_fit_are_refused_with_a_reason() {
        let refused = |text: &str| load(text).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused("permit (").starts_with("`test.cedar` is wrong"));
        assert_eq!(refused("permit (principal, action, resource);"), "a policy in `test.cedar` has no `@id`");
        assert_eq!(refused(&format!("{GOOD}{GOOD}")), "two policies are called `a`");
        let condition = |when: &str| {
            refused(&format!(r#"@id("a") @reason("b") permit (principal, action, resource) when {{ {when} }};"#))
        };
        let unfit = "the policies do not fit the schema";
        assert_eq!(condition(r#"context.purpose == Purpose::"TREAT""#), "");
        assert!(condition(r#"context.purpos == Purpose::"TREAT""#).starts_with(unfit));
        assert!(condition(r#"context.purpose == Purpose::"TREET""#).starts_with(unfit), "a misspelt purpose");
        assert!(condition(r#"context.purpose == "TREAT""#).starts_with(unfit), "a text where a purpose belongs");
        assert!(condition(r#"principal.role == Role::"docter""#).starts_with(unfit), "a misspelt role");
        assert!(
            condition(r#"resource.patient == principal.patient"#).starts_with(unfit),
            "a patient that may be missing"
        );
        assert!(condition("context.break_glass && !context.break_glass && false").starts_with(unfit), "never applies");
        let template = r#"@id("a") @reason("b") permit (principal == ?principal, action, resource);"#;
        assert_eq!(load(template).err(), Some(LoadError::Template("test.cedar".to_owned())));
        assert!(matches!(Policy::load("entity", &[]), Err(LoadError::Schema(_))));
    }

    #[test]
    fn what_is_too_large_or_nested_without_end_is_refused() {
        let long = " ".repeat(DOCUMENT_BYTES_MAX + 1);
        assert_eq!(load(&long).err(), Some(LoadError::Bounds));
        assert_eq!(Policy::load(&long, &[]).err(), Some(LoadError::Bounds));
        let many: String = (0..=POLICIES_MAX).map(|n| GOOD.replace("\"a\"", &format!("\"a{n}\"")) + "\n").collect();
        assert_eq!(load(&many).err(), Some(LoadError::Bounds));
        let when = |condition: &str| {
            load(&format!(r#"@id("a") @reason("b") permit (principal, action, resource) when {{ {condition} }};"#))
                .err()
        };
        assert_eq!(when(&("(".repeat(50_000) + "true" + &")".repeat(50_000))), Some(LoadError::Nesting));
        assert_eq!(when(&("[".repeat(300) + "1" + &"]".repeat(300) + " == [1]")), Some(LoadError::Nesting));
        assert_eq!(when(&("context.case_open && ".repeat(1_000) + "true")), Some(LoadError::Nesting));
        // Short of the bounds the parser and the validator see everything.
        assert_eq!(when(&("(".repeat(BRACKETS_MAX - 1) + "true" + &")".repeat(BRACKETS_MAX - 1))), None);
        let attributes = format!("context{}", ".case_open".repeat(STEPS_MAX - 4));
        assert!(matches!(when(&attributes), Some(LoadError::Invalid(_))));
        assert!(matches!(when(&("!".repeat(200) + "true")), Some(LoadError::Syntax { .. })));
        let schema = format!("type T = {}Bool{};", "Set<".repeat(10_000), ">".repeat(10_000));
        assert_eq!(Policy::load(&schema, &[]).err(), Some(LoadError::Nesting));
    }
}
