//! Accesses that one entry commits to together, and how any of them is opened.
//!
//! ```text
//! access ─► its own entry (not on the ledger) ─► digest ┐
//! access ─► its own entry (not on the ledger) ─► digest ┼─► RFC 9162 root ─► one entry on the ledger
//! access ─► its own entry (not on the ledger) ─► digest ┘
//! ```
//!
//! Source: the tree is that of RFC 9162 section 2.1; a leaf is the digest of an entry, as in all logs of the ledger.

use crate::{
    Body, ENTRY_BYTES_MAX, Entry, FormatError, from_cbor,
    merkle::{self, PATH_LEN_MAX},
    to_cbor,
};
use minicbor::{Decode, Decoder, Encode, decode::Error};
use record::{Digest, Id16};
use std::collections::HashSet;

/// The most accesses that one entry commits to.
pub const GATHERED_MAX: u32 = 1_024;
/// How far apart the first and the last of them may be, in milliseconds.
pub const GATHERED_MS_MAX: u32 = 1_000;
/// The longest encoding of a [`Gathered`]: an entry, a path, and what stands around them.
pub const GATHERED_BYTES_MAX: usize = ENTRY_BYTES_MAX + PATH_LEN_MAX * 34 + 64;

/// Opens one access of an entry that commits to several.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Gathered {
    /// Which of the accesses, from 0.
    #[n(0)]
    pub place: u32,
    /// The access's own entry in its deterministic encoding.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub access: Vec<u8>,
    /// RFC 9162 inclusion path of its digest.
    #[cbor(n(2), decode_with = "read_path")]
    pub path: Vec<Digest>,
}

fn read_path<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Digest>, Error> {
    let length = d.array()?.ok_or_else(|| Error::message("an array of unknown length"))?;
    let length = usize::try_from(length).ok().filter(|length| *length <= PATH_LEN_MAX);
    let length = length.ok_or_else(|| Error::message("the path is too long"))?;
    (0..length).map(|_| d.decode_with(ctx)).collect()
}

/// Why an opening opens nothing: it is wrong, or of another entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGathered {
    /// The entry on the ledger is not one that commits to several accesses.
    #[error("the entry is not of several accesses")]
    NoAccesses,
    /// The access is no entry in its deterministic encoding.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The entry on the ledger does not commit to the access at this place.
    #[error("the entry does not commit to this access at this place")]
    OtherAccess,
    /// It commits to something that may not be gathered: what is no access, rests on a permission, is a denial or a write, has a month link,
    /// or is of another person, patient, purpose, policy or time than the entry says.
    #[error("the entry commits to something that may not be gathered under it")]
    OutOfPlace,
}

impl Gathered {
    /// Reads an opening from its deterministic encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        from_cbor("gathered access", bytes, GATHERED_BYTES_MAX)
    }

    /// The deterministic encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// The access's own entry, if `entry` commits to it and it is of the kind that may be gathered.
    pub fn open(&self, entry: &Entry) -> Result<Entry, NotGathered> {
        let Body::Accesses { root, count, ms } = &entry.body else { return Err(NotGathered::NoAccesses) };
        let access = Entry::from_bytes(&self.access)?;
        let leaf = merkle::leaf(Entry::digest_of(&self.access).as_ref());
        let head = merkle::TreeHead { size: u64::from(*count), root: *root };
        if !merkle::verify(&leaf, u64::from(self.place), &self.path, &head) {
            return Err(NotGathered::OtherAccess);
        }
        let in_time = access.time.0.checked_sub(entry.time.0).is_some_and(|after| after <= u64::from(*ms));
        if in_time && may_be_gathered(&access) && are_alike(&access, entry) {
            Ok(access)
        } else {
            Err(NotGathered::OutOfPlace)
        }
    }
}

/// Whether an access may be gathered with others: it was allowed, rests on nothing that the ledger has to check, is no write, which has its
/// place beside what was written, and does not begin a log.
pub fn may_be_gathered(access: &Entry) -> bool {
    use crate::AccessAction::Write;
    let Body::Access { action, set, count, denied, under, audit, .. } = &access.body else { return false };
    let is_set = (*count == 0) == (*set == merkle::root([]));
    let is_named = *audit == audit.of_audit(&access.org);
    is_set && is_named && !denied && under.is_none() && *action != Write && access.month.is_none()
}

/// Whether two entries are by the same person to the same patient, for the same purpose under the same policy.
pub fn are_alike(one: &Entry, other: &Entry) -> bool {
    one.org == other.org
        && one.actor == other.actor
        && one.patient == other.patient
        && one.purpose == other.purpose
        && one.policy == other.policy
}

/// The entry with the id `id` that commits to `accesses`, and what opens each of them, in their order. `None` when they may not be gathered:
/// fewer than two or more than [`GATHERED_MAX`], not in order of time within [`GATHERED_MS_MAX`], not alike, or one twice.
pub fn gather(id: Id16, accesses: &[Entry]) -> Option<(Entry, Vec<Gathered>)> {
    let ([first, .., last], Ok(count)) = (accesses, u32::try_from(accesses.len())) else { return None };
    let in_order = accesses.is_sorted_by_key(|access| access.time);
    let ms = u32::try_from(last.time.0.checked_sub(first.time.0)?).ok().filter(|ms| *ms <= GATHERED_MS_MAX)?;
    let mut ids = HashSet::new();
    let sound = |access: &Entry| may_be_gathered(access) && are_alike(access, first) && ids.insert(access.id);
    if count > GATHERED_MAX || !in_order || !accesses.iter().all(sound) {
        return None;
    }
    let encoded: Vec<Vec<u8>> = accesses.iter().map(Entry::to_bytes).collect();
    let leaves: Vec<Digest> = encoded.iter().map(|bytes| merkle::leaf(Entry::digest_of(bytes).as_ref())).collect();
    let places: Vec<u64> = (0..u64::from(count)).collect();
    let paths = merkle::inclusion_paths(&leaves, &places)?;
    let body = Body::Accesses { root: merkle::root(leaves), count, ms };
    let entry = Entry { id, month: None, body, ..first.clone() };
    let opened = (0..).zip(encoded).zip(paths).map(|((place, access), path)| Gathered { place, access, path });
    Some((entry, opened.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AccessAction, MonthLink,
        testing::{commitment, digest, id, org, pseudonym, tag},
    };
    use record::{Purpose, TimeMs, sha256};

    fn access(n: u8, ms: u64) -> Entry {
        let audit = tag(n).of_audit(&org("mercy"));
        let (action, set, commitment) = (AccessAction::Read, digest(n), commitment(n));
        Entry {
            id: id(n),
            org: org("mercy"),
            time: TimeMs(10_000 + ms),
            purpose: Purpose::Treat,
            policy: digest(0xac),
            actor: digest(1),
            patient: Some(pseudonym(1)),
            month: None,
            body: Body::Access { action, set, count: 1, denied: false, under: None, audit, commitment },
        }
    }

    #[test]
    fn any_access_is_opened_at_its_place_and_at_no_other() {
        for count in [2, 3, 7, 8, 9, 100] {
            let accesses: Vec<Entry> = (0..count).map(|n| access(n, u64::from(n))).collect();
            let (entry, opened) = gather(id(200), &accesses).unwrap();
            assert_eq!((entry.kind(), entry.time, entry.patient), ("accesses", TimeMs(10_000), Some(pseudonym(1))));
            for (access, opening) in accesses.iter().zip(&opened) {
                assert_eq!(opening.open(&entry).as_ref(), Ok(access));
                let bytes = opening.to_bytes();
                assert_eq!(Gathered::from_bytes(&bytes).as_ref(), Ok(opening));
                let elsewhere = Gathered { place: (opening.place + 1) % u32::from(count), ..opening.clone() };
                assert_eq!(elsewhere.open(&entry), Err(NotGathered::OtherAccess));
                let other = Entry { id: id(201), ..access.clone() }.to_bytes();
                let forged = Gathered { access: other, ..opening.clone() };
                assert_eq!(forged.open(&entry), Err(NotGathered::OtherAccess));
            }
            assert_eq!(opened[0].open(&accesses[0]), Err(NotGathered::NoAccesses));
        }
    }

    #[test]
    fn what_may_not_be_gathered_is_not_and_opens_nothing_when_it_is_committed_to_all_the_same() {
        type Change = fn(&mut Entry);
        let changes: [(&str, Change); 13] = [
            ("another organisation", |e| e.org = org("county")),
            ("another person", |e| e.actor = digest(2)),
            ("another patient", |e| e.patient = Some(pseudonym(2))),
            ("nobody", |e| e.patient = None),
            ("another purpose", |e| e.purpose = Purpose::BreakGlass),
            ("another policy", |e| e.policy = digest(3)),
            ("before the first", |e| e.time = TimeMs(9_999)),
            ("a second after the first", |e| e.time = TimeMs(11_001)),
            ("a month link", |e| e.month = Some(MonthLink(commitment(1)))),
            ("a denial", |e| {
                if let Body::Access { denied, .. } = &mut e.body {
                    *denied = true
                }
            }),
            ("a ground", |e| {
                if let Body::Access { under, .. } = &mut e.body {
                    *under = Some(id(1))
                }
            }),
            ("a write", |e| {
                if let Body::Access { action, .. } = &mut e.body {
                    *action = AccessAction::Write
                }
            }),
            ("another tag", |e| {
                if let Body::Access { audit, .. } = &mut e.body {
                    *audit = tag(9)
                }
            }),
        ];
        for (what, change) in changes {
            let mut accesses = vec![access(1, 0), access(2, 0), access(3, 500)];
            change(&mut accesses[1]);
            assert!(gather(id(200), &accesses).is_none(), "{what}");
            // By an organisation that does not keep to it.
            let leaves: Vec<Digest> = accesses.iter().map(|access| merkle::leaf(access.digest().as_ref())).collect();
            let body = Body::Accesses { root: merkle::root(leaves.clone()), count: 3, ms: 500 };
            let entry = Entry { id: id(200), body, ..access(1, 0) };
            let path = merkle::inclusion_path(&leaves, 1).unwrap();
            let opening = Gathered { place: 1, access: accesses[1].to_bytes(), path };
            assert_eq!(opening.open(&entry), Err(NotGathered::OutOfPlace), "{what}");
        }
        assert!(gather(id(200), &[access(1, 0)]).is_none(), "one alone");
        assert!(gather(id(200), &[access(1, 0), access(1, 0)]).is_none(), "one twice");
        assert!(gather(id(200), &[access(1, 1), access(2, 0)]).is_none(), "out of order");
    }

    #[test]
    fn an_opening_of_any_other_form_is_refused() {
        let (_, opened) = gather(id(200), &[access(1, 0), access(2, 0)]).unwrap();
        let bytes = opened[0].to_bytes();
        for end in 0..bytes.len() {
            assert!(Gathered::from_bytes(&bytes[..end]).is_err());
        }
        let long = Gathered { path: vec![sha256(&[]); PATH_LEN_MAX + 1], ..opened[0].clone() };
        assert!(matches!(Gathered::from_bytes(&long.to_bytes()), Err(FormatError::Malformed { .. })));
    }
}
