//! Batches of frames on the ledger, by the counters that they cover, and which of them were let go.

use super::{Mirror, MirrorError, signed, unsigned};
use contract::{Body, Entry};
use record::{Digest, Id16, OrgId, Pseudonym, RecordTag, TimeMs};
use rusqlite::params;
use std::sync::Arc;

/// Bindings whose batches are kept: twice as many at most.
pub(super) const BINDINGS_KEPT: usize = 4;
/// The most batches of one binding that are kept, of some 60 bytes each: eleven days of one every five seconds. Of a binding with more
/// all are read each time.
const BATCHES_KEPT_MAX: usize = 200_000;

/// A final batch that was not refused and has frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Index of its entry.
    pub(crate) index: u64,
    /// Time of its block.
    pub(crate) time: TimeMs,
    pub(crate) root: Digest,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Frames of a binding that were let go by policy, by a final entry that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LetGo {
    /// Index of the entry.
    pub(crate) index: u64,
    pub(crate) entry: Id16,
    pub(crate) org: OrgId,
    /// Time of its block.
    pub(crate) time: TimeMs,
    /// The log that it is filed in.
    pub(crate) patient: Option<Pseudonym>,
    /// The pseudonym that the binding was made under.
    pub(crate) bound: Pseudonym,
    /// Counter of the last frame that was let go before.
    pub(crate) after: u64,
    /// Counter of the last frame that is.
    pub(crate) last: u64,
    /// How many there were.
    pub(crate) count: u64,
    /// The records with the roll-up.
    pub(crate) roll_ups: Vec<RecordTag>,
}

/// The final batches of a binding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batches {
    /// Index of the first entry that was not looked at.
    next: u64,
    // INVARIANT: their last counters do not fall.
    batches: Vec<Batch>,
    // INVARIANT: each goes on where the one before ended.
    let_go: Vec<LetGo>,
}

impl LetGo {
    /// What the entry at an index, in a block of this time, lets go, and of which binding.
    pub(crate) fn of(index: u64, time: TimeMs, entry: Entry) -> Option<(Id16, Self)> {
        let Entry { id: entry, org, patient, body, .. } = entry;
        let Body::Disposal { binding, bound, after, last, count, roll_ups, .. } = body else { return None };
        Some((binding, Self { index, entry, org, time, patient, bound, after, last, count, roll_ups }))
    }
}

/// Of what was let go, in its order, that which went up to a counter.
pub(crate) fn let_go_up_to(all: &[LetGo], counter: u64) -> Option<&LetGo> {
    all.get(all.partition_point(|let_go| let_go.last < counter))
}

impl Batches {
    /// The first batch that ends with a counter or later: the one that covers it, if any does.
    pub(crate) fn reaching(&self, counter: u64) -> Option<&Batch> {
        self.batches.get(self.batches.partition_point(|batch| batch.last < counter))
    }

    /// What was let go, in its order.
    pub(crate) fn let_go(&self) -> &[LetGo] {
        &self.let_go
    }

    /// By what a frame with this counter was let go, if it was. What the device sent before the binding's first batch is not of this binding.
    pub(crate) fn let_go_with(&self, counter: u64) -> Option<&LetGo> {
        let is_of_it = self.batches.first().is_some_and(|first| first.first <= counter);
        let_go_up_to(&self.let_go, counter).filter(|_| is_of_it)
    }

    /// The batches that were let go together.
    pub(crate) fn of(&self, let_go: &LetGo) -> &[Batch] {
        self.between(let_go.after.saturating_add(1), let_go.last.saturating_add(1))
    }

    /// Whether a counter lies between the first and the last of a batch.
    pub(crate) fn covers(&self, counter: u64) -> bool {
        self.reaching(counter).is_some_and(|batch| batch.first <= counter)
    }

    /// The batches from the one that reaches a counter to the last that ends before another.
    pub(crate) fn between(&self, first: u64, last: u64) -> &[Batch] {
        let begin = self.batches.partition_point(|batch| batch.last < first);
        let end = self.batches.partition_point(|batch| batch.last < last).max(begin);
        self.batches.get(begin..end).unwrap_or_default()
    }
}

impl Mirror {
    /// The final batches of a binding. Only what came since they were last asked for is read.
    pub(crate) async fn batches(&self, binding: Id16) -> Result<Arc<Batches>, MirrorError> {
        let known = self.inner.batches.get(&binding).unwrap_or_default();
        let read = self
            .read(move |c| {
                let sql =
                    "SELECT idx, bytes, time FROM entry WHERE about = ?1 AND idx >= ?2 AND refused = 0 ORDER BY idx";
                let mut select = c.prepare_cached(sql)?;
                let mut rows = select.query(params![binding.as_ref(), signed(known.next)])?;
                let (mut next, mut more, mut let_go) = (known.next, Vec::new(), Vec::new());
                while let Some(row) = rows.next()? {
                    let index = unsigned(row.get(0)?);
                    next = index + 1;
                    let bytes: Vec<u8> = row.get(1)?;
                    let time = TimeMs(unsigned(row.get(2)?));
                    let Ok(entry) = Entry::from_bytes(&bytes) else { continue };
                    match entry.body {
                        Body::Batch { root, count: count @ 1.., first, last, .. } => {
                            more.push(Batch { index, time, root, count, first, last });
                        }
                        _ => let_go.extend(LetGo::of(index, time, entry).map(|(_, let_go)| let_go)),
                    }
                }
                if next == known.next {
                    return Ok(known);
                }
                let mut batches = Arc::unwrap_or_clone(known);
                batches.next = next;
                batches.batches.extend(more);
                batches.batches.sort_by_key(|batch| batch.last);
                batches.let_go.extend(let_go);
                Ok(Arc::new(batches))
            })
            .await?;
        if read.batches.len() <= BATCHES_KEPT_MAX {
            self.inner.batches.put(binding, read.clone());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_in_the_batch_that_reaches_it_or_in_none() {
        let batch = |first, last| Batch { index: first, time: TimeMs(0), root: Digest([0; 32]), count: 1, first, last };
        let all = vec![batch(1, 5), batch(6, 6), batch(10, 20)];
        let batches = Batches { next: 9, batches: all, let_go: Vec::new() };
        let reaching = |counter| batches.reaching(counter).map(|batch| batch.first);
        assert_eq!([1, 5, 6, 7, 10, 20].map(reaching), [1, 1, 6, 10, 10, 10].map(Some));
        assert_eq!(reaching(21), None);
        let between = |first, last| batches.between(first, last).iter().map(|batch| batch.first).collect::<Vec<_>>();
        assert_eq!([between(1, 21), between(6, 20), between(9, 3)], [vec![1, 6, 10], vec![6], vec![]]);
        assert_eq!(Batches::default().reaching(1), None);
    }

    #[test]
    fn a_counter_was_let_go_with_those_up_to_the_end_of_its_disposal() {
        let let_go = |after, last| LetGo {
            index: last,
            entry: Id16([1; 16]),
            org: "mercy".parse().unwrap(),
            time: TimeMs(0),
            patient: None,
            bound: Pseudonym(Digest([5; 32])),
            after,
            last,
            count: 1,
            roll_ups: Vec::new(),
        };
        let batch = |first, last| Batch { index: first, time: TimeMs(0), root: Digest([0; 32]), count: 1, first, last };
        let all = vec![batch(3, 5), batch(6, 6), batch(10, 20), batch(21, 30)];
        let batches = Batches { next: 9, batches: all, let_go: vec![let_go(0, 6), let_go(6, 20)] };
        let with = |counter| batches.let_go_with(counter).map(|let_go| let_go.last);
        assert_eq!([3, 6, 7, 20, 21].map(with), [Some(6), Some(6), Some(20), Some(20), None]);
        // Another binding's, of the same device.
        assert_eq!([1, 2].map(with), [None, None]);
        let of = |at: usize| batches.of(&batches.let_go()[at]).iter().map(|batch| batch.first).collect::<Vec<_>>();
        assert_eq!([of(0), of(1)], [vec![3, 6], vec![10]]);
    }
}
