//! How the logs of a patient's months hang together: each begins with a commitment to the one before.

use crate::{MonthLink, merkle, to_cbor};
use minicbor::{Decode, Encode};
use record::{Digest, Id16, Month, PatientKey, Pseudonym, Salt, commit};

/// The last month in which something was filed about a patient, as the author of the next month's first entry sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LastMonth {
    /// The patient's pseudonym of that month.
    #[n(0)]
    pub pseudonym: Pseudonym,
    /// Entries in its log.
    #[n(1)]
    pub count: u64,
    /// RFC 9162 root of its log.
    #[n(2)]
    pub root: Digest,
}

impl LastMonth {
    /// For the first entry that is ever filed about a patient, in `month`: nothing was filed in the month before.
    pub fn none(key: &PatientKey, month: Month) -> Self {
        Self { pseudonym: key.pseudonym(month.previous()), count: 0, root: merkle::root([]) }
    }
}

/// Opens a [`MonthLink`]: shows which log a month's first entry continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MonthOpening {
    /// The pseudonym of the month that is continued.
    #[n(0)]
    pub previous: Pseudonym,
    /// Entries in its log, as the author saw it.
    #[n(1)]
    pub count: u64,
    /// RFC 9162 root of its log, as the author saw it.
    #[n(2)]
    pub root: Digest,
    /// Salt of the commitment.
    #[n(3)]
    pub salt: Salt,
}

impl MonthOpening {
    /// The opening of the link in the entry with the id `entry`.
    pub fn new(key: &PatientKey, entry: &Id16, last: LastMonth) -> Self {
        let LastMonth { pseudonym, count, root } = last;
        Self { previous: pseudonym, count, root, salt: key.month_salt(entry) }
    }

    /// The commitment that the entry carries, over the encoding of pseudonym, count and root.
    pub fn link(&self) -> MonthLink {
        let last = LastMonth { pseudonym: self.previous, count: self.count, root: self.root };
        MonthLink(commit(&self.salt, &to_cbor(&last)))
    }

    /// Whether this is what `link` commits to.
    pub fn verify(&self, link: &MonthLink) -> bool {
        self.link() == *link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_with_anything_changed_opens_nothing() {
        let key = PatientKey::from_bytes([1; 32]);
        let opening = MonthOpening::new(&key, &Id16([2; 16]), LastMonth::none(&key, Month(24_320)));
        let link = opening.link();
        assert!(opening.verify(&link));
        let other = PatientKey::from_bytes([2; 32]);
        assert!(!MonthOpening { previous: other.pseudonym(Month(24_319)), ..opening }.verify(&link));
        assert!(!MonthOpening { count: 1, ..opening }.verify(&link));
        assert!(!MonthOpening { root: Digest([0; 32]), ..opening }.verify(&link));
        assert!(!MonthOpening { salt: Digest([0; 32]), ..opening }.verify(&link));
    }
}
