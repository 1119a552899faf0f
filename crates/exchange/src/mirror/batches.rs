//! Batches of frames on the ledger, by the counters that they cover.

use super::{Mirror, MirrorError, signed, unsigned};
use contract::{Body, Entry};
use record::{Digest, Id16};
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
    pub(crate) root: Digest,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The final batches of a binding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batches {
    /// Index of the first entry that was not looked at.
    next: u64,
    // INVARIANT: their last counters do not fall.
    batches: Vec<Batch>,
}

impl Batches {
    /// The first batch that ends with a counter or later: the one that covers it, if any does.
    pub(crate) fn reaching(&self, counter: u64) -> Option<&Batch> {
        self.batches.get(self.batches.partition_point(|batch| batch.last < counter))
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
                let sql = "SELECT idx, bytes FROM entry WHERE about = ?1 AND idx >= ?2 AND refused = 0 ORDER BY idx";
                let mut select = c.prepare_cached(sql)?;
                let mut rows = select.query(params![binding.as_ref(), signed(known.next)])?;
                let (mut next, mut more) = (known.next, Vec::new());
                while let Some(row) = rows.next()? {
                    let index = unsigned(row.get(0)?);
                    next = index + 1;
                    let bytes: Vec<u8> = row.get(1)?;
                    if let Ok(Entry { body: Body::Batch { root, count: count @ 1.., first, last, .. }, .. }) =
                        Entry::from_bytes(&bytes)
                    {
                        more.push(Batch { index, root, count, first, last });
                    }
                }
                if next == known.next {
                    return Ok(known);
                }
                let mut batches = Arc::unwrap_or_clone(known);
                batches.next = next;
                batches.batches.extend(more);
                batches.batches.sort_by_key(|batch| batch.last);
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
        let batch = |first, last| Batch { index: first, root: Digest([0; 32]), count: 1, first, last };
        let batches = Batches { next: 9, batches: vec![batch(1, 5), batch(6, 6), batch(10, 20)] };
        let reaching = |counter| batches.reaching(counter).map(|batch| batch.first);
        assert_eq!([1, 5, 6, 7, 10, 20].map(reaching), [1, 1, 6, 10, 10, 10].map(Some));
        assert_eq!(reaching(21), None);
        let between = |first, last| batches.between(first, last).iter().map(|batch| batch.first).collect::<Vec<_>>();
        assert_eq!([between(1, 21), between(6, 20), between(9, 3)], [vec![1, 6, 10], vec![6], vec![]]);
        assert_eq!(Batches::default().reaching(1), None);
    }
}
