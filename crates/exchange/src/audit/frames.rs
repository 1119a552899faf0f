//! Frames in an audit: what is missing, changed, misfiled or injected, summed up by device, patient and what is wrong.

use super::{Finding, Kind, Report};
use crate::{
    failure::Failure,
    inventory::{Assessed, Inventory, Stranger, Verdict, shown},
    node::Node,
};
use record::{Digest, Id16, TimeMs};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most ranges of counters that a finding lists.
const RANGES_MAX: usize = 32;
/// How long frames that were let go may take to be gone, in milliseconds: a day, for a gateway that is away.
const LEFT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The most devices that the ledger does not know whose frames are told apart: their names are whatever somebody wrote.
const STRANGERS_MAX: usize = 1_000;

/// Frames of one device, about one patient, that one thing is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Frames {
    /// How many.
    pub count: u64,
    /// The first of their counters, as ranges from the first to the last of each.
    pub counters: Vec<(u64, u64)>,
    /// `Patient/id` of whoever wears the device, as far as it is known here.
    pub patient: Option<String>,
    /// The binding of both on the ledger; none of frames that were never in a batch.
    pub binding: Option<String>,
}

/// Whose frames are summed up together: those of a binding, or those in the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Binding(Id16),
    Name(String),
}

/// What is said of some frames.
struct Sum {
    record: String,
    patient: Option<String>,
    author: Option<String>,
    since: Option<TimeMs>,
    count: u64,
    counters: Vec<(u64, u64)>,
}

/// What was found, by what is wrong and whose frames they are.
#[derive(Default)]
struct Tally {
    sums: BTreeMap<(Kind, Of), Sum>,
    frames: u64,
    pending: u64,
    /// Now, by the clock of the last final block: what was let go takes a while to be gone.
    now: TimeMs,
}

impl Node {
    /// Compares the frames of batches, from an index of the log on and below another; from the beginning on, all other frames as well.
    pub(super) async fn compare_frames(&self, report: &mut Report, from: u64, below: u64) -> Result<(), Failure> {
        let is_full = from == 0;
        let mut inventory = Inventory::begin(self).await?;
        let now = self.ledger.status().time;
        let mut others = Tally { now, ..Tally::default() };
        let mut after = None;
        while is_full && let Some((strangers, next)) = inventory.rows(after).await? {
            strangers.iter().for_each(|one| others.stranger(one));
            after = Some(next);
        }
        let mut batched = gone_through(&mut inventory, from, below, now).await?;
        if is_full && inventory.is_to_be_repeated() {
            batched = gone_through(&mut inventory, from, below, now).await?;
        }
        inventory.left_over().await?.iter().for_each(|one| others.stranger(one));
        report.frames += batched.frames + others.frames;
        report.frames_pending += batched.pending + others.pending;
        report.findings.extend(batched.findings());
        report.findings.extend(others.findings());
        Ok(())
    }
}

async fn gone_through(inventory: &mut Inventory<'_>, from: u64, below: u64, now: TimeMs) -> Result<Tally, Failure> {
    let (mut tally, mut from) = (Tally { now, ..Tally::default() }, from);
    while let Some((batches, next)) = inventory.batches(from, below).await? {
        batches.iter().for_each(|batch| tally.batch(batch));
        from = next;
    }
    Ok(tally)
}

impl Tally {
    fn batch(&mut self, of: &Assessed) {
        self.frames += (of.held.len() + of.modified.len()) as u64;
        of.strangers.iter().for_each(|one| self.stranger(one));
        if let Some(let_go) = &of.let_go {
            let counters: Vec<u64> = of.held.iter().map(|held| held.right.counter).collect();
            if let_go.time.plus_ms(LEFT_MS_MAX) < self.now {
                let count = counters.len() as u64;
                self.add(Kind::LeftOver, of, counters.into_iter().map(|counter| (counter, counter)), count);
            }
            return;
        }
        if !of.batch.is_readable() {
            self.add(Kind::Unreadable, of, [(of.batch.first, of.batch.last)], of.batch.count.into());
        }
        let misfiled = of.held.iter().filter(|held| held.is_misfiled).map(|held| held.right.counter);
        let misfiled: BTreeSet<u64> = misfiled.collect();
        for (kind, counters) in [
            (Kind::Removed, of.removed.clone()),
            (Kind::Modified, of.modified.keys().copied().collect()),
            (Kind::Misfiled, misfiled.into_iter().collect()),
        ] {
            let count = counters.len() as u64;
            self.add(kind, of, counters.into_iter().map(|counter| (counter, counter)), count);
        }
    }

    fn add(&mut self, kind: Kind, of: &Assessed, counters: impl IntoIterator<Item = (u64, u64)>, count: u64) {
        if count == 0 {
            return;
        }
        let sum = self.sums.entry((kind, Of::Binding(of.batch.binding))).or_insert_with(|| Sum {
            record: shown(of.device.as_ref(), &of.tie.device),
            patient: None,
            author: Some(of.batch.org.to_string()),
            since: Some(of.batch.time),
            count: 0,
            counters: Vec::new(),
        });
        sum.count += count;
        sum.since = sum.since.min(Some(of.batch.time));
        sum.patient = sum.patient.take().or_else(|| of.patient.clone());
        counters.into_iter().for_each(|range| sum.count_in(range));
    }

    fn stranger(&mut self, one: &Stranger) {
        self.frames += 1;
        let kind = match one.verdict {
            Verdict::Pending => {
                self.pending += 1;
                return;
            }
            Verdict::Injected => Kind::Injected,
            Verdict::Misfiled => Kind::Misfiled,
            Verdict::Copy => Kind::Duplicated,
        };
        let record = one
            .device
            .parse()
            .map_or_else(|_| "an unreadable device".to_owned(), |name| shown(Some(&name), &Digest([0; 32])));
        let record = if self.sums.len() < STRANGERS_MAX { record } else { "further devices".to_owned() };
        let sum = self.sums.entry((kind, Of::Name(record.clone()))).or_insert_with(|| Sum {
            record,
            patient: None,
            author: None,
            since: None,
            count: 0,
            counters: Vec::new(),
        });
        sum.count += 1;
        sum.count_in((one.counter, one.counter));
    }

    fn findings(self) -> impl Iterator<Item = Finding> {
        self.sums.into_iter().map(|((kind, of), sum)| Finding {
            kind,
            record: sum.record,
            // A frame is an Observation of one version.
            version: 1,
            author: sum.author,
            written_at: sum.since.map(|at| at.to_instant()),
            frames: Some(Frames {
                count: sum.count,
                counters: sum.counters,
                patient: sum.patient.map(|patient| format!("Patient/{patient}")),
                binding: match of {
                    Of::Binding(id) => Some(id.to_hex()),
                    Of::Name(_) => None,
                },
            }),
        })
    }
}

impl Sum {
    /// Lists a range, which goes on where the last one ended if it can.
    fn count_in(&mut self, (first, last): (u64, u64)) {
        let has_room = self.counters.len() < RANGES_MAX;
        match self.counters.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ if has_room => self.counters.push((first, last)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(of: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let (record, count) = (String::new(), 0);
        let mut sum = Sum { record, patient: None, author: None, since: None, count, counters: Vec::new() };
        of.into_iter().for_each(|counter| sum.count_in((counter, counter)));
        sum.counters
    }

    #[test]
    fn counters_are_listed_as_ranges_up_to_a_bound() {
        assert!(counted([]).is_empty());
        assert_eq!(counted([3, 4, 5, 9, 11, 12]), [(3, 5), (9, 9), (11, 12)]);
        let sparse = counted((0..100).map(|n| n * 2));
        assert_eq!((sparse.len(), sparse.last()), (RANGES_MAX, Some(&(62, 62))));
    }

    #[test]
    fn rows_of_frames_that_were_let_go_are_left_over_after_a_day_and_none_before_is_missing() {
        let at = TimeMs(1_000_000);
        let let_go = || crate::mirror::LetGo {
            index: 9,
            entry: Id16([9; 16]),
            org: "mercy".parse().unwrap(),
            time: at,
            patient: None,
            bound: record::Pseudonym(Digest([2; 32])),
            after: 0,
            last: 4,
            count: 4,
            roll_ups: Vec::new(),
        };
        let found = |now: u64, let_go| {
            let mut tally = Tally { now: TimeMs(now), ..Tally::default() };
            tally.batch(&Assessed::sample(1, 4, let_go));
            let of_frames = |one: Finding| one.frames.map(|of| (one.kind, of.count, of.counters));
            tally.findings().filter_map(of_frames).collect::<Vec<_>>()
        };
        let day = at.0 + LEFT_MS_MAX;
        assert!(found(day, Some(let_go())).is_empty());
        assert_eq!(found(day + 1, Some(let_go())), [(Kind::LeftOver, 4, vec![(1, 4)])]);
        assert!(found(day + 1, None).is_empty());
    }

    /// Whoever writes rows into the database writes whatever names they like.
    #[test]
    fn names_of_strangers_are_told_apart_up_to_a_bound_and_all_rows_are_counted() {
        let mut tally = Tally::default();
        let rows = STRANGERS_MAX as u64 + 50;
        for counter in 0..rows {
            let device = format!("urn:dev:fhir:d{counter}");
            tally.stranger(&Stranger { place: 1, device, counter, verdict: Verdict::Injected });
        }
        tally.stranger(&Stranger { place: 1, device: "\n".into(), counter: 1, verdict: Verdict::Injected });
        let frames = tally.frames;
        let findings: Vec<Finding> = tally.findings().collect();
        assert_eq!((frames, findings.len()), (rows + 1, STRANGERS_MAX + 1));
        assert_eq!(findings.iter().filter_map(|one| one.frames.as_ref()).map(|of| of.count).sum::<u64>(), rows + 1);
        assert_eq!(findings.iter().filter(|one| one.record == "further devices").count(), 1);
    }
}
