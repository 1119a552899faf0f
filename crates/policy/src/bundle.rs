//! A set as one document: the bytes that stand on the ledger, and that the set's digest names.
//!
//! They are the schema, then the name and the text of each document in order of their names, each as UTF-8 after its length in bytes
//! (64 bits, big-endian).

use crate::{
    Action, DOCUMENTS_MAX, Document, Facts, LoadError, Person, Policy, Record, Request,
    load::{BUILTIN, SCHEMA, canonical},
};
use record::{Digest, OrgId, OrgRole, Purpose, RecordType, Role};

/// The longest bundle, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 224 * 1024;

/// A schema and its policies, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    schema: String,
    // INVARIANT: sorted by name, each name once, none empty.
    documents: Vec<(String, String)>,
}

impl Bundle {
    /// Puts a bundle together from a schema and named documents in any order.
    pub fn new(schema: String, mut documents: Vec<(String, String)>) -> Result<Self, LoadError> {
        documents.sort();
        let bundle = Self { schema, documents };
        bundle.check()?;
        Ok(bundle)
    }

    /// The bundle that this program comes with.
    pub fn builtin() -> Self {
        let documents = BUILTIN.iter().map(|document| (document.name.to_owned(), document.text.to_owned()));
        Self { schema: SCHEMA.to_owned(), documents: documents.collect() }
    }

    /// Reads the bytes of a bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(LoadError::Bounds);
        }
        let mut rest = bytes;
        let mut texts = Vec::new();
        while !rest.is_empty() && texts.len() <= 2 * DOCUMENTS_MAX + 1 {
            texts.push(text(&mut rest).ok_or(LoadError::Bundle)?);
        }
        let mut texts = texts.into_iter();
        let schema = texts.next().ok_or(LoadError::Bundle)?;
        let mut documents = Vec::new();
        while let Some(name) = texts.next() {
            documents.push((name, texts.next().ok_or(LoadError::Bundle)?));
        }
        let bundle = Self { schema, documents };
        bundle.check()?;
        Ok(bundle)
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(&self.schema, &self.borrowed())
    }

    /// What names the set on the ledger.
    pub fn digest(&self) -> Digest {
        crate::load::digest(&self.to_bytes())
    }

    /// The schema's text.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Name and text of each document, sorted by name.
    pub fn documents(&self) -> &[(String, String)] {
        &self.documents
    }

    /// Reads and validates the set. One under which an organisation could not take part in the next change is refused: members would
    /// vote away their vote.
    pub fn load(&self) -> Result<Policy, LoadError> {
        let policy = Policy::load(&self.schema, &self.borrowed())?;
        match OrgRole::ALL.into_iter().find(|role| !is_governed(&policy, *role)) {
            Some(role) => Err(LoadError::Ungoverned(role)),
            None => Ok(policy),
        }
    }

    fn borrowed(&self) -> Vec<Document<'_>> {
        self.documents.iter().map(|(name, text)| Document { name, text }).collect()
    }

    fn check(&self) -> Result<(), LoadError> {
        let long = self.to_bytes().len() > BUNDLE_BYTES_MAX;
        if long || self.documents.len() > DOCUMENTS_MAX {
            return Err(LoadError::Bounds);
        }
        let named = self.documents.iter().all(|(name, _)| !name.is_empty());
        let sorted = self.documents.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if named && sorted { Ok(()) } else { Err(LoadError::Bundle) }
    }
}

/// Whether a custodian there may propose and vote, as the commands do.
fn is_governed(policy: &Policy, org_role: OrgRole) -> bool {
    let Ok(org) = "any".parse::<OrgId>() else { return false };
    let person = Person { user: "operator", role: Role::Custodian, org: &org, org_role, patient: None };
    let record =
        Record { fhir_type: "Basic", record_type: RecordType::MedicalRecord, patient: None, label: "N", author: &org };
    let facts = Facts::default();
    policy.decide(&Request { person, action: Action::Govern, record, purpose: Purpose::SystemAdmin, facts }).allow
}

/// Takes a length-prefixed text off the front.
fn text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_comes_back_from_its_bytes_and_keeps_its_digest() {
        let bundle = Bundle::builtin();
        let again = Bundle::from_bytes(&bundle.to_bytes()).unwrap();
        assert_eq!(again, bundle);
        assert_eq!(again.load().unwrap().digest(), bundle.digest());
        let mut shuffled = bundle.documents().to_vec();
        shuffled.reverse();
        assert_eq!(Bundle::new(bundle.schema().to_owned(), shuffled).unwrap().digest(), bundle.digest());
    }

    #[test]
    fn bytes_that_are_no_bundle_are_refused() {
        let bytes = Bundle::builtin().to_bytes();
        let check = |bytes: &[u8], expected| assert_eq!(Bundle::from_bytes(bytes), Err(expected));
        check(&[], LoadError::Bundle);
        check(&bytes[..bytes.len() - 1], LoadError::Bundle);
        check(&[bytes.as_slice(), &[0]].concat(), LoadError::Bundle);
        check(&u64::MAX.to_be_bytes(), LoadError::Bundle);
        check(&vec![0; BUNDLE_BYTES_MAX + 1], LoadError::Bounds);
        check(&vec![0; 8 * 1000], LoadError::Bundle);
        let two = |first: &str, second: &str| {
            canonical("", &[Document { name: first, text: "" }, Document { name: second, text: "" }])
        };
        check(&two("b", "a"), LoadError::Bundle);
        check(&two("a", "a"), LoadError::Bundle);
        check(&two("", "a"), LoadError::Bundle);
        assert!(Bundle::from_bytes(&two("a", "b")).is_ok());
    }

    #[test]
    fn a_set_that_takes_an_organisation_its_vote_is_refused() {
        let without = |from: &str, to: &str| {
            let builtin = Bundle::builtin();
            let changed = |(name, text): &(String, String)| (name.clone(), text.replace(from, to));
            let documents: Vec<_> = builtin.documents().iter().map(changed).collect();
            assert_ne!(documents, builtin.documents());
            Bundle::new(builtin.schema().to_owned(), documents).unwrap().load().err()
        };
        let vote = r#"Action::"Operate", Action::"Govern", "#;
        assert_eq!(without(vote, r#"Action::"Operate", "#), Some(LoadError::Ungoverned(OrgRole::Ems)));
        let oversight = r#"action in [Action::"Operate", Action::"Govern"]"#;
        assert_eq!(
            without(oversight, r#"action == Action::"Operate""#),
            Some(LoadError::Ungoverned(OrgRole::Compliance))
        );
    }
}
