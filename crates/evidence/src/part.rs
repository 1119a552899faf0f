//! A part of a log: that the entries given are all of it in a range of heights, by their neighbours on both sides.

use crate::{
    BadLog, LogPart, LoggedEntry, Neighbour, StateProof,
    finality::Final,
    log::{Filed, read},
};
use contract::{
    Entry,
    merkle::{self, Frontier, TreeHead},
    state::{LogHead, log_leaf},
};
use record::Digest;

/// The part of a log in a range of heights: `entries` are all of the log, `head` is its head as proven. None when there is no entry.
///
/// A log without an entry in the range gives its last entry before it, or else its first after it: so that it says which month it is of.
pub fn part(head: StateProof, entries: &[LoggedEntry], (from, to): (u64, u64)) -> Option<LogPart> {
    let heights = || entries.iter().map(|logged| logged.height);
    let (from, to) = match heights().filter(|height| *height < from).max() {
        _ if heights().any(|height| (from..=to).contains(&height)) => (from, to),
        Some(before) => (before, to),
        None => (from, heights().min()?),
    };
    let place = |logged: &LoggedEntry| Neighbour {
        height: logged.height,
        time: logged.time,
        digest: Entry::digest_of(&logged.entry),
    };
    let beside: Vec<Neighbour> = entries.iter().map(place).collect();
    let leaves: Vec<Digest> = beside.iter().map(leaf).collect();
    let begin = beside.iter().take_while(|entry| entry.height < from).count();
    let end = beside.iter().take_while(|entry| entry.height <= to).count();
    let left = begin.checked_sub(1);
    let mut before = Frontier::default();
    leaves.iter().take(left.unwrap_or(0)).for_each(|leaf| before.push(*leaf));
    let given = (end as u64).saturating_add(1).min(leaves.len() as u64);
    Some(LogPart {
        head,
        before,
        left: left.and_then(|left| beside.get(left).copied()),
        entries: entries.get(begin..end)?.to_vec(),
        right: beside.get(end).copied(),
        rest: merkle::consistency_path(&leaves, given)?,
    })
}

fn leaf(neighbour: &Neighbour) -> Digest {
    log_leaf(neighbour.height, neighbour.time, &neighbour.digest)
}

/// The heights that a part is of: between its neighbours, else from the beginning, or up to the header. `None` when there are none.
pub(crate) fn range(part: &LogPart, at: &Final) -> Option<(u64, u64)> {
    let from = part.left.map_or(Some(0), |left| left.height.checked_add(1))?;
    let to = part.right.map_or(Some(at.header.height), |right| right.height.checked_sub(1))?;
    (from <= to).then_some((from, to))
}

/// Recomputes the tree up to the end of what is given, and that the whole log continues it.
///
/// Heights never fall in a log, so that nothing of the range stands before a neighbour that is below it, or after one above.
pub(crate) fn check(part: &LogPart, (from, to): (u64, u64), head: &LogHead) -> Result<Vec<Filed>, BadLog> {
    let LogPart { before, left, entries: given, right, rest, .. } = part;
    let whole = TreeHead { size: head.frontier.size(), root: head.frontier.root() };
    let beside = |neighbour: &Option<Neighbour>| u64::from(neighbour.is_some());
    let end =
        [beside(left), given.len() as u64, beside(right)].iter().try_fold(before.size(), |sum, n| sum.checked_add(*n));
    let end = end.filter(|end| *end <= whole.size).ok_or(BadLog::Part)?;
    // The range begins with the log or behind a neighbour, and ends before a neighbour or with the log.
    let begins = left.is_some() || before.size() == 0;
    let ends = right.is_some() || end == whole.size;
    let inside = |logged: &LoggedEntry| (from..=to).contains(&logged.height);
    if !before.is_consistent() || !begins || !ends || !given.iter().all(inside) {
        return Err(BadLog::Part);
    }
    let (entries, leaves) = read(given)?;
    let mut tree = before.clone();
    left.iter().map(leaf).chain(leaves).chain(right.iter().map(leaf)).for_each(|leaf| tree.push(leaf));
    if !merkle::consistency(&tree.head(), &whole, rest) {
        return Err(BadLog::OtherEntries);
    }
    // The head names the height of the last entry, which is given where the part reaches the end.
    let last = right.map(|right| right.height).or_else(|| entries.last().map(|last| last.height));
    let last = last.or_else(|| left.map(|left| left.height));
    if end == whole.size && last != Some(head.height) {
        return Err(BadLog::OtherEntries);
    }
    Ok(entries)
}
