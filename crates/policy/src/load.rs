//! The policy set: read, validated against its schema, and named by a digest.

use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use record::{Digest, sha256};
use std::str::FromStr;

/// The longest schema or policy document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most documents of a set.
pub const DOCUMENTS_MAX: usize = 64;

const DOMAIN: &[u8] = b"vitaltrace/access-policy/1\0";

macro_rules! documents {
    ($($name:literal),+ $(,)?) => {
        &[$(Document { name: $name, text: include_str!(concat!("../../../policies/access/", $name)) }),+]
    };
}

const SCHEMA: &str = include_str!("../../../policies/access.cedarschema");
/// The list of policy files: a new one is a file and a line here.
const BUILTIN: &[Document<'static>] = documents![
    "10-patient.cedar",
    "20-care.cedar",
    "30-break-glass.cedar",
    "40-billing.cedar",
    "50-oversight.cedar",
    "90-never.cedar",
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
    /// Too many documents, or too long.
    #[error("a policy set has at most {DOCUMENTS_MAX} documents of at most {DOCUMENT_BYTES_MAX} bytes")]
    Bounds,
    /// The schema is not Cedar.
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
    /// Two policies have the same name.
    #[error("two policies are called `{0}`")]
    SameId(String),
    /// The policies do not fit the schema.
    #[error("the policies do not fit the schema: {0}")]
    Invalid(String),
}

/// A validated set of policies.
pub struct Policy {
    pub(crate) set: PolicySet,
    pub(crate) schema: Schema,
    digest: Digest,
}

impl Policy {
    /// Reads and validates documents against a schema, strictly.
    pub fn load(schema: &str, documents: &[Document<'_>]) -> Result<Self, LoadError> {
        let long = |text: &str| text.len() > DOCUMENT_BYTES_MAX;
        if documents.len() > DOCUMENTS_MAX || long(schema) || documents.iter().any(|d| long(d.text)) {
            return Err(LoadError::Bounds);
        }
        let digest = digest(schema, documents);
        let (schema, _warnings) = Schema::from_cedarschema_str(schema).map_err(|e| LoadError::Schema(e.to_string()))?;
        let mut set = PolicySet::new();
        for document in documents {
            let name = || document.name.to_owned();
            let parsed = PolicySet::from_str(document.text)
                .map_err(|e| LoadError::Syntax { document: name(), why: e.to_string() })?;
            for policy in parsed.policies() {
                let missing = |annotation| LoadError::Annotation { document: name(), annotation };
                let id = policy.annotation("id").ok_or_else(|| missing("id"))?;
                policy.annotation("reason").ok_or_else(|| missing("reason"))?;
                set.add(policy.new_id(PolicyId::new(id))).map_err(|_| LoadError::SameId(id.to_owned()))?;
            }
        }
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !result.validation_passed() {
            let why: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
            return Err(LoadError::Invalid(why.join("; ")));
        }
        Ok(Self { set, schema, digest })
    }

    /// The set that this program comes with: `policies/access`.
    pub fn builtin() -> Result<Self, LoadError> {
        Self::load(SCHEMA, BUILTIN)
    }

    /// Names the set: what entries say they were decided under. SHA-256 over schema and documents, each length-prefixed.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn digest(schema: &str, documents: &[Document<'_>]) -> Digest {
    let mut bytes = DOMAIN.to_vec();
    let mut part = |text: &str| {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    part(schema);
    for document in documents {
        part(document.name);
        part(document.text);
    }
    sha256(&[&bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"@id("a") @reason("because") permit (principal, action == Action::"Read", resource);"#;

    fn load(text: &str) -> Result<Policy, LoadError> {
        Policy::load(SCHEMA, &[Document { name: "test.cedar", text }])
    }

    #[test]
    fn the_digest_changes_with_any_character_and_with_the_order_of_documents() {
        let base = load(GOOD).map(|p| p.digest()).unwrap();
        assert_eq!(base, load(GOOD).map(|p| p.digest()).unwrap());
        assert_ne!(base, load(&GOOD.replace("because", "becauze")).map(|p| p.digest()).unwrap());
        assert_ne!(base, Policy::builtin().unwrap().digest());
    }

    #[test]
    fn policies_that_do_not_fit_are_refused_with_a_reason() {
        let refused = |text: &str| load(text).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused("permit (").starts_with("`test.cedar` is wrong"));
        assert_eq!(refused("permit (principal, action, resource);"), "a policy in `test.cedar` has no `@id`");
        assert_eq!(refused(&format!("{GOOD}{GOOD}")), "two policies are called `a`");
        let typo = r#"@id("a") @reason("b") permit (principal, action, resource) when { context.purpos == "TREAT" };"#;
        assert!(refused(typo).starts_with("the policies do not fit the schema"), "{}", refused(typo));
    }
}
