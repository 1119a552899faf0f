//! Places: where entries of the file stand in the log over all entries, which the header commits to.

use crate::{Place, Refused, finality::Final, log::Checked};
use contract::{merkle, state::entry_leaf};
use record::{Digest, Month, TimeMs};
use std::collections::BTreeMap;

/// What a log says of an entry that was applied, in the place of the reason for a refusal.
pub(crate) const APPLIED: u8 = 0;

/// Indices in the log over all entries, by month and index among the month's entries in the file.
pub(crate) type Places = BTreeMap<(Month, u64), u64>;

/// The leaf of an applied entry in the log over all entries.
pub(crate) fn leaf(height: u64, time: TimeMs, digest: &Digest) -> Digest {
    entry_leaf(height, time, APPLIED, digest)
}

/// Checks every path.
pub(crate) fn check(given: &[Place], months: &[Checked<'_>], at: &Final) -> Result<Places, Refused> {
    let head = merkle::TreeHead { size: at.header.log_size, root: at.header.log_root };
    let mut places = Places::new();
    for Place { month, entry, index, path } in given {
        if places.last_key_value().is_some_and(|(last, _)| *last >= (*month, *entry)) {
            return Err(Refused::Order { what: "places" });
        }
        let part = months.iter().find(|checked| checked.part.month == *month);
        let filed = part.zip(usize::try_from(*entry).ok()).and_then(|(part, entry)| part.entries.get(entry));
        let stands = filed
            .is_some_and(|filed| merkle::verify(&leaf(filed.height, filed.time, &filed.digest), *index, path, &head));
        if !stands {
            return Err(Refused::Place { month: *month, entry: *entry });
        }
        places.insert((*month, *entry), *index);
    }
    Ok(places)
}
