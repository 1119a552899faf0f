//! The steps of a commit, so that tests can end the process between any two of them.

/// A step that was just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The rows of the group are inserted.
    Inserted,
    /// The entries are numbered and signed.
    Sealed,
    /// The submissions are written to the journal, not yet synced.
    Appended,
    /// The journal is synced.
    Synced,
    /// The database is committed.
    Committed,
    /// The commit marker is in the journal.
    Marked,
}

/// Nothing happens outside tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn reached(_: Step) {}

#[cfg(test)]
pub(crate) use crate::crash::reached;
