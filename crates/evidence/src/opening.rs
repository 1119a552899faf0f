//! The opening of a month link: which log a patient's first entry of a month commits to.

use contract::MonthLink;
use minicbor::{Decode, Encode};
use record::{Digest, Pseudonym, Salt, commit};

/// The month before, as the author of an entry saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MonthOpening {
    /// The patient's pseudonym in it.
    #[n(0)]
    pub previous: Pseudonym,
    /// Entries in its log.
    #[n(1)]
    pub count: u64,
    /// RFC 9162 root over their leaves.
    #[n(2)]
    pub root: Digest,
    /// Salt of the commitment.
    #[n(3)]
    pub salt: Salt,
}

impl MonthOpening {
    /// The commitment to it.
    pub fn link(&self) -> MonthLink {
        MonthLink(commit(
            &self.salt,
            &[self.previous.0.as_ref(), &self.count.to_be_bytes(), self.root.as_ref()].concat(),
        ))
    }

    /// Whether `link` commits to it.
    pub fn verify(&self, link: &MonthLink) -> bool {
        self.link() == *link
    }
}
