//! Gathered accesses: that entries of the file commit to them, and what may be said of each.

use crate::{
    GatheredAccess, Refused,
    log::{Checked, Filed},
};
use contract::{Entry, Gathered};
use record::Month;
use std::collections::BTreeMap;

/// The accesses that the file opens, by month and index of the entry that commits to them, in their order there.
#[derive(Debug, Default)]
pub(crate) struct Accesses(BTreeMap<(Month, u64), Vec<Filed>>);

impl Accesses {
    /// The opened accesses of one entry: their own entries, at the height and block time of the entry that commits to them.
    pub(crate) fn of(&self, month: Month, entry: u64) -> &[Filed] {
        self.0.get(&(month, entry)).map_or(&[], Vec::as_slice)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Filed> {
        self.0.values().flatten()
    }
}

/// Opens every access by the entry that commits to it.
pub(crate) fn check(given: &[GatheredAccess], months: &[Checked<'_>]) -> Result<Accesses, Refused> {
    let mut accesses = Accesses::default();
    let mut last = None;
    for GatheredAccess { month, entry, place, access, path } in given {
        let (month, entry, place) = (*month, *entry, *place);
        if last.is_some_and(|last| last >= (month, entry, place)) {
            return Err(Refused::Order { what: "gathered accesses" });
        }
        last = Some((month, entry, place));
        let part = months.iter().find(|checked| checked.part.month == month);
        let outer = part.zip(usize::try_from(entry).ok()).and_then(|(part, entry)| part.entries.get(entry));
        let opening = Gathered { place, access: access.clone(), path: path.clone() };
        let opened = outer.and_then(|outer| opening.open(&outer.entry).ok().map(|access| (outer, access)));
        let Some((outer, access)) = opened else { return Err(Refused::Gathered { month, entry, place }) };
        let digest = Entry::digest_of(&opening.access);
        let filed = Filed { height: outer.height, time: outer.time, digest, entry: access };
        accesses.0.entry((month, entry)).or_default().push(filed);
    }
    Ok(accesses)
}
