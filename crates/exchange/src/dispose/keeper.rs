//! What a node remembers of its bindings while it lets frames go.

use record::{Id16, TimeMs};
use std::collections::{BTreeMap, HashMap};

/// After how long frames that stayed are looked at again, in milliseconds, the first time and at most: each time twice as long, and never
/// longer than half the term.
const AGAIN_MS: [u64; 2] = [10 * 60 * 1000, 6 * 60 * 60 * 1000];

/// What a node remembers between two rounds. All of it can be found again.
#[derive(Default)]
pub(super) struct Keeper {
    /// Index of the first entry that was not looked at.
    pub(super) next: u64,
    pub(super) bindings: BTreeMap<Id16, Watched>,
    /// Disposals on their way, by their entries.
    pub(super) sent: HashMap<Id16, Id16>,
    /// Bindings whose frames stayed, and when they are looked at again.
    pub(super) again: HashMap<Id16, Again>,
    /// Whether no row is left of what was let go, and no disposal is on its way.
    pub(super) is_clear: bool,
    /// When the document that the consortium was founded on was last written on the ledger.
    pub(super) written: Option<TimeMs>,
}

/// When frames that stayed are looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) not_before: TimeMs,
    after_ms: u64,
}

impl Again {
    /// Frames that are kept for so many seconds stayed now, as they had `before`.
    fn later(before: Option<Self>, now: TimeMs, keep_s: u32) -> Self {
        let [first, most] = AGAIN_MS.map(|ms| ms.min(u64::from(keep_s) * 500));
        let after_ms = before.map_or(first, |before| (before.after_ms * 2).min(most));
        Self { not_before: now.plus_ms(after_ms), after_ms }
    }
}

/// A binding of this organisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    /// Up to this counter, no row of a frame that was let go is there.
    pub(super) cleared: u64,
}

impl Keeper {
    /// Nothing more is to be done about a binding.
    pub(super) fn forget(&mut self, binding: Id16) {
        self.bindings.remove(&binding);
        self.again.remove(&binding);
        self.sent.remove(&binding);
    }

    /// Frames of a binding stay for now.
    pub(super) fn again_later(&mut self, binding: Id16, now: TimeMs, keep_s: u32) {
        let again = Again::later(self.again.get(&binding).copied(), now, keep_s);
        self.again.insert(binding, again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_stay_are_looked_at_less_and_less_often() {
        let mut keeper = Keeper::default();
        let binding = Id16([1; 16]);
        let minutes = (0..8).map(|_| {
            keeper.again_later(binding, TimeMs(0), 90 * 86_400);
            keeper.again[&binding].not_before.0 / 60_000
        });
        assert_eq!(minutes.collect::<Vec<_>>(), [10, 20, 40, 80, 160, 320, 360, 360]);
        keeper.forget(binding);
        assert!(keeper.again.is_empty());
        keeper.again_later(binding, TimeMs(0), 60);
        assert_eq!(keeper.again[&binding].not_before, TimeMs(30_000));
    }
}
