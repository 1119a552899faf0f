//! A policy document's bytes on the ledger: what names them, and how they are cut into parts that fit an entry.
//!
//! The bytes of an access policy are the canonical form of a Cedar set (`policy::Bundle`), those of a derivation policy its text. The
//! digest that entries and votes name a document by is over exactly these bytes, so whoever has the ledger's parts has the document.

use crate::{DERIVATION_POLICY_BYTES_MAX, PolicyKind, PolicyPart};
use record::{Digest, sha256};

/// Bytes of every part but the last, so that an entry with one is below [`crate::ENTRY_BYTES_MAX`].
pub const POLICY_PART_BYTES: usize = 7 * 1024;
/// The most parts of a document.
pub const POLICY_PARTS_MAX: u32 = 32;
/// The longest document, in bytes.
pub const POLICY_DOCUMENT_BYTES_MAX: usize = POLICY_PART_BYTES * POLICY_PARTS_MAX as usize;

const ACCESS_DOMAIN: &[u8] = b"vitaltrace/access-policy/1\0";
const DERIVATION_DOMAIN: &[u8] = b"vitaltrace/derivation-policy/1\0";

/// What names a document on the ledger: SHA-256(domain ‖ bytes).
pub fn digest(kind: PolicyKind, bytes: &[u8]) -> Digest {
    let domain = match kind {
        PolicyKind::Access => ACCESS_DOMAIN,
        PolicyKind::Derivation => DERIVATION_DOMAIN,
    };
    sha256(&[domain, bytes])
}

/// The longest document of a kind, in bytes.
pub fn bytes_max(kind: PolicyKind) -> usize {
    match kind {
        PolicyKind::Access => POLICY_DOCUMENT_BYTES_MAX,
        PolicyKind::Derivation => DERIVATION_POLICY_BYTES_MAX,
    }
}

/// Cuts a document into parts, each full but the last; none when it is empty or longer than [`bytes_max`].
pub fn parts(kind: PolicyKind, bytes: &[u8]) -> Option<Vec<PolicyPart>> {
    if bytes.is_empty() || bytes.len() > bytes_max(kind) {
        return None;
    }
    let of = u32::try_from(bytes.len().div_ceil(POLICY_PART_BYTES)).ok()?;
    let cut = bytes.chunks(POLICY_PART_BYTES);
    Some((0..of).zip(cut).map(|(part, bytes)| PolicyPart { part, of, bytes: bytes.to_vec() }).collect())
}

/// Whether a part stands where one of its length may: all are full but the last, which is not empty.
pub(crate) fn fits(part: &PolicyPart) -> bool {
    let PolicyPart { part, of, bytes } = part;
    let last = part.checked_add(1) == Some(*of);
    let length = if last { (1..=POLICY_PART_BYTES).contains(&bytes.len()) } else { bytes.len() == POLICY_PART_BYTES };
    *of <= POLICY_PARTS_MAX && part < of && length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, DerivationPolicy, ENTRY_BYTES_MAX, PolicyStep, testing::said};

    #[test]
    fn a_document_comes_back_from_its_parts() {
        for length in [1, POLICY_PART_BYTES, POLICY_PART_BYTES + 1, POLICY_DOCUMENT_BYTES_MAX] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let parts = parts(PolicyKind::Access, &bytes).unwrap();
            assert!(parts.iter().all(fits) && parts.len() as u32 <= POLICY_PARTS_MAX);
            assert_eq!(parts.iter().flat_map(|part| part.bytes.clone()).collect::<Vec<_>>(), bytes);
        }
        assert_eq!(parts(PolicyKind::Access, &[]), None);
        assert_eq!(parts(PolicyKind::Access, &vec![0; POLICY_DOCUMENT_BYTES_MAX + 1]), None);
        assert_eq!(parts(PolicyKind::Derivation, &vec![0; DERIVATION_POLICY_BYTES_MAX + 1]), None);
    }

    #[test]
    fn an_entry_with_the_longest_part_is_below_the_bound() {
        let part = PolicyPart { part: 30, of: 32, bytes: vec![0; POLICY_PART_BYTES] };
        let body =
            Body::Policy { kind: PolicyKind::Access, document: Digest([7; 32]), step: PolicyStep::Written(part) };
        let bytes = said("a-name-of-the-greatest-length-01", body).entry.to_bytes();
        assert!(bytes.len() + 64 <= ENTRY_BYTES_MAX, "{}", bytes.len());
    }

    #[test]
    fn the_digest_of_a_derivation_policy_is_that_of_its_text() {
        let text = DerivationPolicy::builtin_text();
        let policy = DerivationPolicy::parse(text).unwrap();
        assert_eq!(digest(PolicyKind::Derivation, text.as_bytes()), policy.digest());
        assert_ne!(digest(PolicyKind::Access, text.as_bytes()), policy.digest());
    }
}
