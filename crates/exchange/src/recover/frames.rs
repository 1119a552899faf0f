//! Frames in a recovery: filed anew where their own bytes say that they belong, taken from the backup, or named as lost.
//!
//! The device signed the bytes and the ledger's batches name them, so nothing but the columns beside them changes.

use super::{BYTES_AT_ONCE, LOST_LISTED_MAX, Lost, ROWS_AT_ONCE, Recovered};
use crate::{
    failure::Failure,
    find::search_failure,
    inventory::{Assessed, Held, Inventory, Verdict, shown},
    kinds::{EVERY_KIND, ToldApart},
    node::Node,
};
use record::Id16;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{Frame, Put, PutError, Reader, Removal};

/// Frames that change places with each other are written together: so many at most.
const TOGETHER_MAX: usize = 1_024;

/// What a recovery did with frames. Those of erased patients are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecoveredFrames {
    /// Frames that are filed where they belong again, those of every kind among them.
    pub filed_anew: u64,
    /// Frames that were put back from the backup.
    pub from_backup: u64,
    /// Frames of batches that were found nowhere.
    pub lost: u64,
    /// Rows that were taken out because no device signed them or no batch has them. Those of frames that were let go are none of these.
    pub removed: u64,
}

/// Frames of one binding that are lost.
struct LostFrames {
    device: String,
    count: u64,
    first: u64,
    last: u64,
    author: String,
    written_at: String,
}

/// Frames of all batches, filed anew as far as they are not where they belong.
struct Refiling<'a> {
    node: &'a Node,
    backup: Option<&'a Reader>,
    told_apart: HashMap<Id16, ToldApart>,
    report: RecoveredFrames,
    lost: BTreeMap<Id16, LostFrames>,
    /// What is to be taken out and put in for each batch, and not written yet.
    waiting: Vec<(Vec<Removal>, Vec<Frame>)>,
    waiting_rows: usize,
    waiting_bytes: usize,
}

impl Node {
    /// Files frames anew, brings those that are missing from the backup if it has them, and says which are lost.
    pub(super) async fn recover_frames(&self, backup: Option<&Reader>, report: &mut Recovered) -> Result<(), Failure> {
        let below = self.mirror.next_index().await?;
        let mut inventory = Inventory::begin(self).await?;
        let mut after = None;
        while let Some((_, next)) = inventory.rows(after).await? {
            after = Some(next);
        }
        let mut from = 0;
        while let Some((_, next)) = inventory.batches(from, below).await? {
            from = next;
        }
        for place in inventory.strays() {
            self.file_stray(&inventory, place, &mut report.frames).await?;
        }
        // Whatever lay in the place of another frame is where it belongs, or gone.
        let mut inventory = Inventory::begin(self).await?;
        let mut refiling = Refiling::new(self, backup);
        let mut from = 0;
        while let Some((batches, next)) = inventory.batches(from, below).await? {
            for batch in batches {
                refiling.batch(&inventory, batch).await?;
            }
            from = next;
        }
        let mut after = None;
        while let Some((strangers, next)) = inventory.rows(after).await? {
            let injected = strangers.iter().filter(|one| one.verdict == Verdict::Injected).map(|one| one.place);
            refiling.take_out(injected.collect()).await?;
            after = Some(next);
        }
        refiling.write().await?;
        let room = LOST_LISTED_MAX.saturating_sub(report.first_lost.len());
        report.first_lost.extend(refiling.lost.into_values().take(room).map(LostFrames::listed));
        report.frames.add(&refiling.report);
        Ok(())
    }

    /// Files the frame in a place where it belongs, and those that lie there where they belong; takes it out where it belongs nowhere, or is
    /// there already.
    async fn file_stray(
        &self,
        inventory: &Inventory<'_>,
        place: i64,
        report: &mut RecoveredFrames,
    ) -> Result<(), Failure> {
        let (mut places, mut frames): (Vec<i64>, Vec<Frame>) = (Vec::new(), Vec::new());
        let mut next = Some(place);
        while let Some(place) = next.take() {
            let row = self.store.filed_frame(place).await.map_err(search_failure)?;
            let Some(row) = row else { continue };
            match inventory.verdict_of(&row).await? {
                // A batch may still come for it: whoever wants its place waits.
                Verdict::Pending => return Ok(()),
                Verdict::Injected | Verdict::Copy => {
                    places.push(place);
                    continue;
                }
                Verdict::Misfiled => {}
            }
            let Some(right) = inventory.right_of(&row).await? else { return Ok(()) };
            if row.device.as_ref() == Some(&right.device) && row.counter == Some(right.counter) {
                // Two frames of one counter, both signed: which of them is to stay is not for a recovery to say.
                return Ok(());
            }
            let (device, counter) = (right.device.as_str(), right.counter);
            let there = self.store.filed_frames(device, (counter, None), counter, TOGETHER_MAX).await;
            let there = there.map_err(search_failure)?;
            places.push(place);
            // Who stands there lies in the place of another one as well, or belongs nowhere.
            next = there.into_iter().map(|row| row.place).find(|place| !places.contains(place));
            next = next.filter(|_| places.len() < TOGETHER_MAX);
            frames.push(right);
        }
        report.filed_anew += frames.len() as u64;
        report.removed += (places.len() - frames.len()) as u64;
        self.put_frames(places.into_iter().map(Removal::Frame).collect(), frames).await.map(|_| ())
    }

    /// Takes frames out and puts others in, in one write. Tells whether another frame stands in the place of one of them.
    async fn put_frames(&self, removals: Vec<Removal>, frames: Vec<Frame>) -> Result<bool, Failure> {
        if removals.is_empty() && frames.is_empty() {
            return Ok(false);
        }
        match self.put_patiently(Put { removals, frames, ..Put::default() }).await {
            Ok(()) => Ok(false),
            Err(PutError::FrameConflict { counter, .. }) => {
                tracing::warn!(counter, "a frame was not filed where it belongs: another one stands there");
                Ok(true)
            }
            Err(error) => Err(Failure::ours("frames were not filed anew", error)),
        }
    }
}

impl<'a> Refiling<'a> {
    fn new(node: &'a Node, backup: Option<&'a Reader>) -> Self {
        Self {
            node,
            backup,
            told_apart: HashMap::new(),
            report: RecoveredFrames::default(),
            lost: BTreeMap::new(),
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
        }
    }

    async fn batch(&mut self, inventory: &Inventory<'_>, of: Assessed) -> Result<(), Failure> {
        if of.let_go.is_some() {
            // None of them is lost, and none is to be there: their digests stay, as when they go by themselves.
            let let_go = of.held.iter().map(|held| match held.is_traceable {
                true => Removal::LetGo(held.place),
                // What stays of it would be filed under another patient or frame.
                false => Removal::Frame(held.place),
            });
            self.add(let_go.collect(), Vec::new()).await?;
            let injected = of.strangers.iter().filter(|one| one.verdict == Verdict::Injected).map(|one| one.place);
            return self.take_out(injected.collect()).await;
        }
        let wanted: BTreeSet<u64> = of.modified.keys().chain(&of.removed).copied().collect();
        let copies = match self.backup {
            Some(backup) if !wanted.is_empty() => inventory.copies(backup, &of, &wanted).await?,
            _ => Vec::new(),
        };
        self.note_lost(&of, &wanted, wanted.len() - copies.len());
        let injected = of.strangers.iter().filter(|one| one.verdict == Verdict::Injected).map(|one| one.place);
        let mut places: Vec<i64> = of.modified.values().copied().chain(injected).collect();
        self.report.removed += places.len() as u64;
        self.report.from_backup += copies.len() as u64;
        let told_apart = self.told_apart.entry(of.batch.binding).or_default();
        let mut frames = copies;
        frames.iter_mut().for_each(|frame| frame.kind = told_apart.filed(frame.kind));
        for Held { place, mut right, is_misfiled, is_kindless, is_whose_known, .. } in of.held {
            right.kind = told_apart.filed(right.kind);
            if is_whose_known && (is_misfiled || (is_kindless && right.kind != EVERY_KIND)) {
                self.report.filed_anew += 1;
                places.push(place);
                frames.push(right);
            }
        }
        self.add(places.into_iter().map(Removal::Frame).collect(), frames).await
    }

    async fn take_out(&mut self, places: Vec<i64>) -> Result<(), Failure> {
        self.report.removed += places.len() as u64;
        self.add(places.into_iter().map(Removal::Frame).collect(), Vec::new()).await
    }

    /// Counts what of a batch is there no more.
    fn note_lost(&mut self, of: &Assessed, wanted: &BTreeSet<u64>, count: usize) {
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return };
        if count == 0 {
            return;
        }
        self.report.lost += count as u64;
        let known = self.lost.entry(of.batch.binding).or_insert_with(|| LostFrames {
            device: shown(of.device.as_ref(), &of.tie.device),
            count: 0,
            first: *first,
            last: *last,
            author: of.batch.org.to_string(),
            written_at: of.batch.time.to_instant(),
        });
        known.count += count as u64;
        (known.first, known.last) = (known.first.min(*first), known.last.max(*last));
    }

    async fn add(&mut self, removals: Vec<Removal>, frames: Vec<Frame>) -> Result<(), Failure> {
        if removals.is_empty() && frames.is_empty() {
            return Ok(());
        }
        self.waiting_rows += removals.len() + frames.len();
        self.waiting_bytes += frames.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        self.waiting.push((removals, frames));
        let is_full = self.waiting_rows >= ROWS_AT_ONCE || self.waiting_bytes >= BYTES_AT_ONCE;
        if is_full { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let removals = waiting.iter().flat_map(|(removals, _)| removals.clone()).collect();
        let frames = waiting.iter().flat_map(|(_, frames)| frames.clone()).collect();
        if !self.node.put_frames(removals, frames).await? {
            return Ok(());
        }
        // One batch's trouble is not another's.
        for (removals, frames) in waiting {
            self.node.put_frames(removals, frames).await?;
        }
        Ok(())
    }
}

impl RecoveredFrames {
    fn add(&mut self, more: &Self) {
        self.filed_anew += more.filed_anew;
        self.from_backup += more.from_backup;
        self.lost += more.lost;
        self.removed += more.removed;
    }
}

impl LostFrames {
    fn listed(self) -> Lost {
        let Self { device, count, first, last, author, written_at } = self;
        let record = format!("{count} frames of {device}, from counter {first} to {last}");
        Lost { record, version: 1, author, written_at }
    }
}
