//! The log of a pseudonym: that the entries given are all of them, and how one month continues the month before.

use crate::{Log, LoggedEntry, MonthLog, OpenedLink, StateProof, finality::Final, part, report::Link, state};
use contract::{
    Entry, FormatError, MonthOpening,
    merkle::{self, Frontier},
    state::{Key, LogHead, VALUE_BYTES_MAX, log_key, log_leaf},
};
use record::{Digest, TimeMs};

/// What is wrong with a month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLog {
    /// The months are not sorted by time, or one is given twice.
    #[error("the month is given twice or out of order")]
    Order,
    /// Two months are given the same pseudonym.
    #[error("the pseudonym is another month's")]
    SamePseudonym,
    /// The state proof does not hold for this pseudonym under this header.
    #[error("the state proof of the log does not hold under the header")]
    Head,
    /// The proven value is no log head.
    #[error("the proven head of the log is malformed")]
    MalformedHead,
    /// Entries are missing, or were added.
    #[error("the log has {proven} entries, the file gives {given}")]
    Count {
        /// What the head says.
        proven: u64,
        /// What the file gives.
        given: u64,
    },
    /// As many entries as there should be, but not these, or not in this order.
    #[error("the entries are not those of the log, or not in its order")]
    OtherEntries,
    /// A part of a log is not all that there is between its neighbours.
    #[error("the part of the log is not all that there is between its neighbours")]
    Part,
    /// An entry is not in the format.
    #[error("entry {index} is malformed: {why}")]
    Entry {
        /// Its index in the log.
        index: u64,
        /// What is wrong with it.
        why: FormatError,
    },
    /// An entry names another pseudonym than the log that it is in.
    #[error("entry {index} is not filed under the month's pseudonym")]
    Misfiled {
        /// Its index in the log.
        index: u64,
    },
    /// Heights or block times go backwards, or beyond the header.
    #[error("entry {index} stands before its predecessor or after the header")]
    Disordered {
        /// Its index in the log.
        index: u64,
    },
    /// No entry was made in the month that the file names.
    #[error("none of the entries was made in this month")]
    OtherMonth,
    /// Openings are unsorted, doubled, or of an entry that has no month link.
    #[error("entry {index} has no month link to open, or it is opened twice")]
    NoLink {
        /// Its index in the log.
        index: u64,
    },
    /// The opening is not what the entry commits to.
    #[error("the opening is not what entry {index} commits to")]
    Opening {
        /// Its index in the log.
        index: u64,
    },
    /// The opening names another month before, or another state of it, than the file gives.
    #[error("entry {index} continues another log than the month before it in the file")]
    OtherPast {
        /// Its index in the log.
        index: u64,
    },
}

/// A month whose log was checked.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) part: &'a MonthLog,
    /// In the ledger's order.
    pub(crate) entries: Vec<Filed>,
    /// Size and root of the log; none where there is no log.
    pub(crate) head: Option<LogHead>,
    /// How it continues the month before.
    pub(crate) link: Link,
    /// The range of heights, where the file gives only a part of the log.
    pub(crate) range: Option<(u64, u64)>,
    /// Leaf digests, for the months that continue this one.
    leaves: Vec<Digest>,
}

/// An entry with the block that it became final in.
#[derive(Debug)]
pub(crate) struct Filed {
    pub(crate) height: u64,
    pub(crate) time: TimeMs,
    pub(crate) digest: Digest,
    pub(crate) entry: Entry,
}

/// Checks one month against the header, and against the months `before` it in the file.
pub(crate) fn check<'a>(part: &'a MonthLog, before: &[Checked<'_>], at: &Final) -> Result<Checked<'a>, BadLog> {
    if before.last().is_some_and(|last| last.part.month >= part.month) {
        return Err(BadLog::Order);
    }
    if before.iter().any(|earlier| earlier.part.pseudonym == part.pseudonym) {
        return Err(BadLog::SamePseudonym);
    }
    let key = log_key(&part.pseudonym);
    match &part.log {
        Log::Absent { proof } => {
            if !state::absent(&key, proof, &at.header.state_root) {
                return Err(BadLog::Head);
            }
            let (entries, leaves) = (Vec::new(), Vec::new());
            Ok(Checked { part, entries, head: None, link: Link::Unproven, range: None, leaves })
        }
        Log::Present { head, entries, links } => {
            let head = proven(&key, head, at)?;
            let (entries, leaves) = complete(&head, entries)?;
            well_formed(part, &entries, at)?;
            let link = chained(&entries, links, before)?;
            Ok(Checked { part, entries, head: Some(head), link, range: None, leaves })
        }
        Log::Part(given) => {
            let head = proven(&key, &given.head, at)?;
            let range = part::range(given, at).ok_or(BadLog::Part)?;
            let entries = part::check(given, range, &head)?;
            well_formed(part, &entries, at)?;
            // What came before the range is not known, and so neither is what a later month continues.
            let leaves = Vec::new();
            Ok(Checked { part, entries, head: Some(head), link: Link::Unproven, range: Some(range), leaves })
        }
    }
}

/// The head of a log, when its proof holds.
fn proven(key: &Key, head: &StateProof, at: &Final) -> Result<LogHead, BadLog> {
    if !state::current(key, head, &at.header.state_root) {
        return Err(BadLog::Head);
    }
    contract::from_cbor("log head", &head.value, VALUE_BYTES_MAX)
        .ok()
        .filter(|head: &LogHead| head.frontier.is_consistent())
        .ok_or(BadLog::MalformedHead)
}

/// Reads entries, with their leaves in the log.
pub(crate) fn read(given: &[LoggedEntry]) -> Result<(Vec<Filed>, Vec<Digest>), BadLog> {
    let mut leaves = Vec::with_capacity(given.len());
    let mut entries = Vec::with_capacity(given.len());
    for (index, logged) in (0..).zip(given) {
        let entry = Entry::from_bytes(&logged.entry).map_err(|why| BadLog::Entry { index, why })?;
        let digest = entry.digest();
        leaves.push(log_leaf(logged.height, logged.time, &digest));
        entries.push(Filed { height: logged.height, time: logged.time, digest, entry });
    }
    Ok((entries, leaves))
}

/// Recomputes the tree from every entry: equal frontiers mean that these are all, in this order, with these heights and times.
fn complete(head: &LogHead, given: &[LoggedEntry]) -> Result<(Vec<Filed>, Vec<Digest>), BadLog> {
    let (proven, count) = (head.frontier.size(), given.len() as u64);
    if proven != count {
        return Err(BadLog::Count { proven, given: count });
    }
    let (entries, leaves) = read(given)?;
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    if frontier != head.frontier || entries.last().map(|last| last.height) != Some(head.height) {
        return Err(BadLog::OtherEntries);
    }
    Ok((entries, leaves))
}

/// What honest validators never let into a log; checked again, since it costs nothing.
fn well_formed(part: &MonthLog, entries: &[Filed], at: &Final) -> Result<(), BadLog> {
    let mut last = (0, TimeMs(0));
    for (index, filed) in (0..).zip(entries) {
        if filed.entry.patient != Some(part.pseudonym) {
            return Err(BadLog::Misfiled { index });
        }
        // Time rises with height: equal heights have equal times, and no others have.
        let forward = filed.height.cmp(&last.0) == filed.time.cmp(&last.1) && (filed.height, filed.time) >= last;
        if !forward || filed.height > at.header.height || filed.time > at.header.time {
            return Err(BadLog::Disordered { index });
        }
        last = (filed.height, filed.time);
    }
    if entries.iter().any(|filed| filed.entry.time.month() == part.month) { Ok(()) } else { Err(BadLog::OtherMonth) }
}

/// Checks every opened month link. The first entry's says how the whole month continues the one before.
fn chained(entries: &[Filed], links: &[OpenedLink], before: &[Checked<'_>]) -> Result<Link, BadLog> {
    let mut first = Link::Unproven;
    let mut last = None;
    for OpenedLink { entry: index, opening } in links {
        let index = *index;
        let linked = usize::try_from(index).ok().and_then(|i| entries.get(i)).and_then(|filed| filed.entry.month);
        let Some(link) = linked.filter(|_| last.is_none_or(|last| last < index)) else {
            return Err(BadLog::NoLink { index });
        };
        last = Some(index);
        if !opening.verify(&link) {
            return Err(BadLog::Opening { index });
        }
        let link = past(opening, before).ok_or(BadLog::OtherPast { index })?;
        if index == 0 {
            first = link;
        }
    }
    Ok(first)
}

/// What an opening says about the past, when it agrees with the file.
///
/// The author saw the earlier month as it was then; entries that came later only add to it, so that a prefix must agree. It need
/// not be the latest month before: entries that waited may have filled a month in between since. They may even have begun the month
/// that is named, of which the author had seen nothing: the empty prefix agrees with every log, and so shows nothing about this one.
fn past(opening: &MonthOpening, before: &[Checked<'_>]) -> Option<Link> {
    let mut logs = before.iter().filter(|earlier| earlier.head.is_some()).peekable();
    if logs.peek().is_none() {
        return Some(Link::Earlier { pseudonym: opening.previous, entries: opening.count });
    }
    let seen = usize::try_from(opening.count).ok()?;
    let previous = logs.find(|earlier| earlier.part.pseudonym == opening.previous)?;
    let agrees = previous.leaves.get(..seen).is_some_and(|leaves| merkle::root(leaves.iter().copied()) == opening.root);
    let month = previous.part.month;
    let link = if seen == 0 { Link::Unseen { month } } else { Link::Continues { month, entries: opening.count } };
    agrees.then_some(link)
}
