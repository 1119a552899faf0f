//! Frames that were let go by policy, and how many of them were gone before, as far as the file's own batches tell.

use crate::{log::Filed, report::LetGoReport};
use contract::Body;
use record::Id16;
use std::collections::HashMap;

/// A binding's batches by their first counters, each with how many frames there are up to it.
#[derive(Default)]
struct Batches(Vec<(u64, u64)>);

impl Batches {
    /// How many frames the batches name that begin with `after` at the earliest and not behind `last`.
    fn between(&self, after: u64, last: u64) -> u64 {
        let up_to = |counter: u64| {
            let end = self.0.partition_point(|(first, _)| *first <= counter);
            end.checked_sub(1).and_then(|end| self.0.get(end)).map_or(0, |(_, frames)| *frames)
        };
        up_to(last).saturating_sub(up_to(after))
    }
}

/// Every disposal among the entries, in their order.
pub(crate) fn let_go<'a>(entries: impl Iterator<Item = &'a Filed> + Clone) -> Vec<LetGoReport> {
    let mut batches: HashMap<Id16, Batches> = HashMap::new();
    for filed in entries.clone() {
        if let Body::Batch { binding, first, count: count @ 1.., .. } = &filed.entry.body {
            batches.entry(*binding).or_default().0.push((*first, u64::from(*count)));
        }
    }
    for Batches(of) in batches.values_mut() {
        of.sort_unstable();
        let mut frames = 0u64;
        for (_, count) in of {
            frames = frames.saturating_add(*count);
            *count = frames;
        }
    }
    let disposals = entries.filter_map(|filed| {
        let Body::Disposal { binding, after, last, count, document, roll_ups, .. } = &filed.entry.body else {
            return None;
        };
        let named = batches.get(binding).map_or(0, |batches| batches.between(*after, *last));
        Some(LetGoReport {
            binding: *binding,
            after: *after,
            last: *last,
            frames: *count,
            gone_before: named.saturating_sub(*count),
            roll_ups: roll_ups.len() as u64,
            policy: *document,
            height: filed.height,
        })
    });
    disposals.collect()
}
