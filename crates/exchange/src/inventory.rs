//! Taking stock of frames: each that a batch on the ledger names is looked for in the database, and each in the database on the ledger.
//!
//! ```text
//! rows by device and counter ─► in the range of a batch ─no─► waits for one, was injected, or lies in the place of another frame
//!                                     │ yes
//! batches in their order ─► rows of the range ─► bytes, signature, root ─► the columns beside them, which searches go by
//! ```
//!
//! The database is asked for one batch at a time, and a page of it. What stays in memory are the bindings, and up to [`STRAYS_MAX`] frames that
//! lie in places of others.

mod look;

pub(crate) use look::{Held, Stranger, Verdict};

use crate::{
    bind::{device_digest, device_id},
    failure::Failure,
    find::search_failure,
    measured::beside,
    mirror::{Batches, Erased, LetGo, let_go_up_to},
    node::Node,
    recent::Recent,
    row::PENDING_MS_MAX,
};
use contract::{Body, DeviceStep, Entry, may_hold, state};
use look::{FinalBatch, Looked, Tie, Whose, frame_of, look_at, root, stranger};
use record::{Digest, Id16, Pseudonym};
use sensing::{DeviceId, Frame};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use store::{FiledFrame, FramePlace, PAGE_MAX, Reader};

/// The most frames in places of others that are remembered. Further ones count as injected.
const STRAYS_MAX: usize = 100_000;
/// Rows that are read together, of some kilobytes each.
const ROWS_AT_ONCE: usize = 256;
/// Batches that are read from the mirror together.
const BATCHES_AT_ONCE: usize = 64;
/// Ties of bindings that are kept.
const TIES_KEPT: usize = 1_024;
/// The most Patients under one pseudonym that are tried.
pub(crate) const PATIENTS_MAX: usize = 8;

/// A device on the ledger.
#[derive(Debug, Default)]
struct Device {
    /// What it signs under; none when nobody here ever heard it.
    name: Option<DeviceId>,
    bindings: Vec<Id16>,
}

/// What the database has of a batch.
pub(crate) struct Assessed {
    pub(crate) batch: FinalBatch,
    /// What the device signs under, and whose its frames are, as far as it is known.
    pub(crate) device: Option<DeviceId>,
    pub(crate) patient: Option<String>,
    pub(crate) tie: Arc<Tie>,
    /// Frames that are there as they were signed.
    pub(crate) held: Vec<Held>,
    /// Counters whose row is there and is not the frame, with the places of those that stand under them.
    pub(crate) modified: BTreeMap<u64, i64>,
    /// Counters of which nothing is there.
    pub(crate) removed: Vec<u64>,
    /// Rows under its counters that hold no frame of any batch.
    pub(crate) strangers: Vec<Stranger>,
    /// By what its frames were let go, if they were: then those that are held are there still, and none is missing.
    pub(crate) let_go: Option<LetGo>,
}

impl Assessed {
    /// A batch of these counters, all frames of which are in the database, and by what they were let go.
    #[cfg(test)]
    pub(crate) fn sample(first: u64, last: u64, let_go: Option<LetGo>) -> Self {
        let (batch, tie, held) = look::sample(first, last);
        let (removed, strangers) = (Vec::new(), Vec::new());
        let (modified, tie) = (BTreeMap::new(), Arc::new(tie));
        Self { batch, device: None, patient: None, tie, held, modified, removed, strangers, let_go }
    }

    /// A frame that has its counter lies elsewhere: what stands in its place belongs to nobody.
    fn clear_the_way(&mut self, counter: u64) {
        if let Some(place) = self.modified.remove(&counter) {
            let device = self.device.as_ref().map(|device| device.as_str().to_owned()).unwrap_or_default();
            self.strangers.push(Stranger { place, device, counter, verdict: Verdict::Injected });
        }
    }

    /// The frames were let go: a row that holds none of them stands in nobody's place.
    fn modified_are_strangers(&mut self) {
        let device = self.device.as_ref().map(|device| device.as_str().to_owned()).unwrap_or_default();
        self.strangers.extend(std::mem::take(&mut self.modified).into_iter().map(|(counter, place)| Stranger {
            place,
            device: device.clone(),
            counter,
            verdict: Verdict::Injected,
        }));
    }

    /// Everything about the patient was erased: what is there of it is nothing that belongs there.
    fn disown(&mut self) {
        let back = self.held.drain(..).map(|held| (held.right.counter, held.place));
        for (counter, place) in back.chain(std::mem::take(&mut self.modified)) {
            let device = self.device.as_ref().map(|device| device.as_str().to_owned()).unwrap_or_default();
            self.strangers.push(Stranger { place, device, counter, verdict: Verdict::Injected });
        }
    }
}

/// A stock-taking under way.
pub(crate) struct Inventory<'a> {
    node: &'a Node,
    erased: Erased,
    devices: HashMap<Digest, Device>,
    ties: Recent<Id16, Arc<Tie>>,
    patients: Recent<Pseudonym, Whose>,
    /// Places of frames that lie where others belong, by the device and counter that they say themselves.
    // INVARIANT: at most STRAYS_MAX places.
    strays: BTreeMap<(String, u64), Vec<i64>>,
    strays_count: usize,
    /// Those that were found missing where they belong.
    placed: HashSet<i64>,
    /// Whether some were found while batches were gone through that might have missed them.
    came_late: bool,
    /// The batches of the device whose rows are looked at.
    current: Option<(String, Vec<Arc<Batches>>)>,
    /// What of each binding was let go, in its order, by the entries of the log below an index.
    let_go: HashMap<Id16, Vec<LetGo>>,
    let_go_below: u64,
}

impl<'a> Inventory<'a> {
    /// Learns which devices the ledger knows, and what they are called.
    pub(crate) async fn begin(node: &'a Node) -> Result<Self, Failure> {
        node.mirror.write_names().await?;
        let mut devices: HashMap<Digest, Device> = HashMap::new();
        let mut from = 0;
        loop {
            let page = node.mirror.entries(from, Some("device".to_owned()), PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            from = last.index + 1;
            for place in page.iter().filter(|place| place.refused == 0) {
                let entry =
                    Entry::from_bytes(&place.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
                if let Body::Device { device, step: DeviceStep::Bound(id, _) } = entry.body {
                    devices.entry(device).or_default().bindings.push(id);
                }
            }
        }
        let mut after = None;
        loop {
            let names = node.mirror.devices(after, PAGE_MAX).await?;
            for id in names.iter().filter_map(|name| name.strip_prefix("Device/")) {
                if let Ok(name) = crate::bind::device_name(id) {
                    learn(&mut devices, &name);
                }
            }
            after = names.into_iter().next_back();
            if after.is_none() {
                break;
            }
        }
        Ok(Self {
            node,
            erased: node.mirror.erased().await?,
            devices,
            ties: Recent::new(TIES_KEPT),
            patients: Recent::new(TIES_KEPT),
            strays: BTreeMap::new(),
            strays_count: 0,
            placed: HashSet::new(),
            came_late: false,
            current: None,
            let_go: HashMap::new(),
            let_go_below: 0,
        })
    }

    /// Of the next rows of the database behind `after`, in the order of devices and counters, those that no batch has, and where to go on;
    /// none at the end.
    pub(crate) async fn rows(
        &mut self,
        after: Option<FramePlace>,
    ) -> Result<Option<(Vec<Stranger>, FramePlace)>, Failure> {
        let places = self.node.store.frame_places(after, PAGE_MAX).await.map_err(search_failure)?;
        let Some(last) = places.last().cloned() else { return Ok(None) };
        // What became final meanwhile counts: the rows were read before.
        self.current = None;
        let mut strangers = Vec::new();
        for at in &places {
            let is_covered = match (at.device(), at.counter()) {
                (Some(device), Some(counter)) => self.is_covered(device, counter).await?,
                _ => false,
            };
            if is_covered {
                continue;
            }
            let row = self.node.store.filed_frame(at.place).await.map_err(search_failure)?;
            let Some(row) = row else { continue };
            strangers.extend(self.without_batch(row).await?);
        }
        Ok(Some((strangers, last)))
    }

    /// What the database has of the next batches from an index of the log on and below another, and where to go on; none at the end.
    pub(crate) async fn batches(&mut self, from: u64, below: u64) -> Result<Option<(Vec<Assessed>, u64)>, Failure> {
        let page = self.node.mirror.entries(from, Some("batch".to_owned()), BATCHES_AT_ONCE).await?;
        let Some(next) = page.last().map(|last| last.index + 1) else { return Ok(None) };
        let mut assessed = Vec::new();
        let batches: Vec<FinalBatch> =
            page.iter().filter(|place| place.index < below).filter_map(FinalBatch::of).collect();
        for batch in batches {
            assessed.push(self.assess(batch).await?);
        }
        Ok(Some((assessed, next)).filter(|_| page.first().is_some_and(|first| first.index < below)))
    }

    /// What the database has of one batch, by the index of its entry.
    pub(crate) async fn batch(&mut self, index: u64) -> Result<Option<Assessed>, Failure> {
        let place = self.node.mirror.entry_at(index).await?;
        match place.as_ref().and_then(FinalBatch::of) {
            Some(batch) => Ok(Some(self.assess(batch).await?)),
            None => Ok(None),
        }
    }

    /// Whether frames in places of others were found behind batches that may lack them: then the batches are to be gone through again.
    pub(crate) fn is_to_be_repeated(&mut self) -> bool {
        std::mem::take(&mut self.came_late)
    }

    /// The frames in places of others that no batch lacked, and what they are.
    pub(crate) async fn left_over(&self) -> Result<Vec<Stranger>, Failure> {
        let mut strangers = Vec::new();
        for place in self.strays() {
            if self.placed.contains(&place) {
                continue;
            }
            let row = self.node.store.filed_frame(place).await.map_err(search_failure)?;
            let Some(row) = row else { continue };
            let verdict = self.verdict_of(&row).await?;
            strangers.push(stranger(&row, verdict));
        }
        Ok(strangers)
    }

    /// What a row is that lies in the place of another frame.
    pub(crate) async fn verdict_of(&self, row: &FiledFrame) -> Result<Verdict, Failure> {
        if let Some(frame) = frame_of(row) {
            return self.verdict_on_stray(row, &frame).await;
        }
        let name = row.device.as_deref().and_then(|device| device.parse::<DeviceId>().ok());
        if let (Some(name), Some(counter)) = (name, row.counter)
            && self.batches_of(&name).await?.iter().any(|batches| batches.covers(counter))
        {
            // The frame that belongs there came, and this is none.
            return Ok(Verdict::Injected);
        }
        self.verdict(row, None).await
    }

    /// Places of frames that lie where others belong.
    pub(crate) fn strays(&self) -> Vec<i64> {
        self.strays.values().flatten().copied().collect()
    }

    /// The frame in a place, as it is filed where it belongs; none where no batch has it.
    pub(crate) async fn right_of(&self, row: &FiledFrame) -> Result<Option<store::Frame>, Failure> {
        let Some(frame) = frame_of(row) else { return Ok(None) };
        let Some((batch, tie)) = self.batch_of(&frame).await? else { return Ok(None) };
        let whose = self.whose(tie.pseudonym, std::slice::from_ref(row)).await?;
        let (device, row) = (frame.device().clone(), row.clone());
        let looked = beside(move || look_at(vec![row], &batch, &tie, &device, &whose)).await?;
        Ok(looked.held.into_iter().find(|held| held.is_whose_known).map(|held| held.right))
    }

    /// What a database has of a batch that others lack: the frames with these counters, as far as they are what the device signed and,
    /// where they make the batch complete, what the ledger has of it.
    pub(crate) async fn copies(
        &self,
        backup: &Reader,
        of: &Assessed,
        wanted: &BTreeSet<u64>,
    ) -> Result<Vec<store::Frame>, Failure> {
        let Some(device) = &of.device else { return Ok(Vec::new()) };
        let looked = self.look_through(backup, &of.batch, &of.tie, device).await?;
        let mut copies: BTreeMap<u64, store::Frame> = BTreeMap::new();
        for held in looked.held.into_iter().filter(|held| held.is_whose_known) {
            if wanted.contains(&held.right.counter) {
                copies.entry(held.right.counter).or_insert(held.right);
            }
        }
        let here = of.held.iter().map(|held| (held.right.counter, held.right.digest));
        let all: BTreeMap<u64, Digest> =
            here.chain(copies.values().map(|frame| (frame.counter, frame.digest))).collect();
        if all.len() == of.batch.count as usize && root(&all) != of.batch.root {
            return Ok(Vec::new());
        }
        Ok(copies.into_values().collect())
    }

    async fn assess(&mut self, batch: FinalBatch) -> Result<Assessed, Failure> {
        let tie = self.tie(batch.binding).await?;
        let device = self.devices.get(&tie.device).and_then(|device| device.name.clone());
        let is_erased = batch.patient.is_some_and(|patient| self.erased.has_patient(&patient));
        let mut looked = Looked::default();
        if let Some(device) = device.as_ref().filter(|_| batch.is_readable()) {
            looked = self.look_through(&self.node.store, &batch, &tie, device).await?;
        }
        let Looked { held, modified, elsewhere, strangers } = looked;
        let (device_shown, removed) = (device.clone(), Vec::new());
        let let_go = self.let_go_with(&batch).await?;
        let mut assessed =
            Assessed { batch, device: device_shown, patient: None, tie, held, modified, removed, strangers, let_go };
        for (place, of, counter) in elsewhere {
            self.remember(place, &of, counter, &mut assessed.strangers);
        }
        match &device {
            _ if is_erased => assessed.disown(),
            _ if assessed.let_go.is_some() => assessed.modified_are_strangers(),
            _ if !assessed.batch.is_readable() => {}
            Some(device) => self.complete(&mut assessed, device).await?,
            None => assessed.removed = assessed.batch.counters(),
        }
        assessed.patient = match self.whose(assessed.tie.pseudonym, &[]).await? {
            Whose::Of(patient) => Some(patient),
            Whose::Unknown | Whose::NotToTell => None,
        };
        Ok(assessed)
    }

    /// By what the frames of a batch were let go. Asked after its rows were looked for: what became final meanwhile counts.
    async fn let_go_with(&mut self, batch: &FinalBatch) -> Result<Option<LetGo>, Failure> {
        loop {
            let page = self.node.mirror.entries(self.let_go_below, Some("disposal".to_owned()), PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            self.let_go_below = last.index + 1;
            for place in page.into_iter().filter(|place| place.refused == 0) {
                let entry =
                    Entry::from_bytes(&place.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
                if let Some((binding, let_go)) = LetGo::of(place.index, place.time, entry) {
                    self.let_go.entry(binding).or_default().push(let_go);
                }
            }
        }
        Ok(self.let_go.get(&batch.binding).and_then(|all| let_go_up_to(all, batch.first)).cloned())
    }

    /// Looks for what a batch lacks among the frames that lie elsewhere, and compares it with its root when it is complete.
    async fn complete(&mut self, assessed: &mut Assessed, device: &DeviceId) -> Result<(), Failure> {
        let mut all: BTreeMap<u64, Digest> =
            assessed.held.iter().map(|held| (held.right.counter, held.right.digest)).collect();
        for counter in assessed.batch.counters() {
            if all.contains_key(&counter) {
                assessed.clear_the_way(counter);
                continue;
            }
            let places = self.strays.get(&(device.as_str().to_owned(), counter)).cloned().unwrap_or_default();
            let mut found = None;
            for place in places {
                let row = self.node.store.filed_frame(place).await.map_err(search_failure)?;
                let Some(row) = row else { continue };
                let whose = self.whose(assessed.tie.pseudonym, std::slice::from_ref(&row)).await?;
                let (batch, tie, device) = (assessed.batch.clone(), assessed.tie.clone(), device.clone());
                let looked = beside(move || look_at(vec![row], &batch, &tie, &device, &whose)).await?;
                found = looked.held.into_iter().next();
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(held) => {
                    self.placed.insert(held.place);
                    all.insert(counter, held.right.digest);
                    assessed.clear_the_way(counter);
                    assessed.held.push(held);
                }
                None if !assessed.modified.contains_key(&counter) => assessed.removed.push(counter),
                None => {}
            }
        }
        let is_whole = all.len() == assessed.batch.count as usize;
        if is_whole && root(&all) != assessed.batch.root {
            // The device signed all of them, and something else before.
            assessed.modified = assessed.held.drain(..).map(|held| (held.right.counter, held.place)).collect();
        }
        Ok(())
    }

    /// What a database has under a batch's counters, a page at a time. Each frame is held once.
    async fn look_through(
        &self,
        database: &Reader,
        batch: &FinalBatch,
        tie: &Arc<Tie>,
        device: &DeviceId,
    ) -> Result<Looked, Failure> {
        let mut all = Looked::default();
        let mut seen: HashSet<u64> = HashSet::new();
        let mut from = (batch.first, None);
        loop {
            let rows = database.filed_frames(device.as_str(), from, batch.last, ROWS_AT_ONCE).await;
            let rows = rows.map_err(search_failure)?;
            let Some(next) = rows.last().map(|row| (row.counter.unwrap_or(batch.last), Some(row.place))) else { break };
            let is_last = rows.len() < ROWS_AT_ONCE;
            from = next;
            let whose = self.whose(tie.pseudonym, &rows).await?;
            let (batch, tie, device) = (batch.clone(), tie.clone(), device.clone());
            let looked = beside(move || look_at(rows, &batch, &tie, &device, &whose)).await?;
            for held in looked.held {
                if seen.insert(held.right.counter) {
                    all.held.push(held);
                } else {
                    all.elsewhere.push((held.place, device_of(&held)?, held.right.counter));
                }
            }
            all.modified.extend(looked.modified);
            all.elsewhere.extend(looked.elsewhere);
            all.strangers.extend(looked.strangers);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Remembers a frame that lies in the place of another one.
    fn remember(&mut self, place: i64, device: &DeviceId, counter: u64, strangers: &mut Vec<Stranger>) {
        learn(&mut self.devices, device);
        let of = (device.as_str().to_owned(), counter);
        if self.strays.get(&of).is_some_and(|places| places.contains(&place)) {
            return;
        }
        if self.strays_count == STRAYS_MAX {
            let (device, verdict) = (of.0, Verdict::Injected);
            strangers.push(Stranger { place, device, counter, verdict });
            return;
        }
        self.strays.entry(of).or_default().push(place);
        self.strays_count += 1;
        self.came_late = true;
    }

    /// What a row is that stands in the range of no batch; none while it may be missing elsewhere.
    async fn without_batch(&mut self, row: FiledFrame) -> Result<Option<Stranger>, Failure> {
        let frame = frame_of(&row);
        if let Some(frame) = &frame {
            let is_own = row.device.as_deref() == Some(frame.device().as_str()) && row.counter == Some(frame.counter());
            if !is_own && self.batch_of(frame).await?.is_some() {
                let (device, counter) = (frame.device().clone(), frame.counter());
                let mut strangers = Vec::new();
                self.remember(row.place, &device, counter, &mut strangers);
                // Nothing was gone through yet that might have missed it.
                self.came_late = false;
                return Ok(strangers.pop());
            }
        }
        let verdict = self.verdict(&row, frame.as_ref()).await?;
        Ok(Some(stranger(&row, verdict)))
    }

    /// Whether a place is in the range of a final batch of the device.
    async fn is_covered(&mut self, device: &str, counter: u64) -> Result<bool, Failure> {
        if self.current.as_ref().is_none_or(|(of, _)| of != device) {
            let batches = match device.parse::<DeviceId>() {
                Ok(name) => {
                    learn(&mut self.devices, &name);
                    self.batches_of(&name).await?
                }
                Err(_) => Vec::new(),
            };
            self.current = Some((device.to_owned(), batches));
        }
        let mut batches = self.current.iter().flat_map(|(_, batches)| batches);
        Ok(batches.any(|batches| batches.covers(counter)))
    }

    /// The final batches of all bindings of a device.
    async fn batches_of(&self, device: &DeviceId) -> Result<Vec<Arc<Batches>>, Failure> {
        let mut all = Vec::new();
        for binding in self.bindings_of(device) {
            all.push(self.node.mirror.batches(*binding).await?);
        }
        Ok(all)
    }

    fn bindings_of(&self, device: &DeviceId) -> &[Id16] {
        self.devices.get(&device_digest(device)).map(|device| device.bindings.as_slice()).unwrap_or_default()
    }

    /// The batch that names a frame's counter under a binding whose key signed the frame.
    async fn batch_of(&self, frame: &Frame) -> Result<Option<(FinalBatch, Arc<Tie>)>, Failure> {
        for binding in self.bindings_of(frame.device()) {
            let batches = self.node.mirror.batches(*binding).await?;
            let Some(known) = batches.reaching(frame.counter()).filter(|batch| batch.first <= frame.counter()) else {
                continue;
            };
            if batches.let_go_with(frame.counter()).is_some() {
                continue;
            }
            let tie = self.tie(*binding).await?;
            if !frame.is_signed_by(&tie.key) {
                continue;
            }
            let place = self.node.mirror.entry_at(known.index).await?;
            let batch = place.as_ref().and_then(FinalBatch::of).filter(|batch| batch.names(frame.counter()));
            if let Some(batch) = batch
                && !batch.patient.is_some_and(|patient| self.erased.has_patient(&patient))
            {
                return Ok(Some((batch, tie)));
            }
        }
        Ok(None)
    }

    async fn verdict_on_stray(&self, row: &FiledFrame, frame: &Frame) -> Result<Verdict, Failure> {
        if self.batch_of(frame).await?.is_none() {
            return self.verdict(row, Some(frame)).await;
        }
        let (device, counter) = (frame.device().as_str(), frame.counter());
        let there = self.node.store.filed_frames(device, (counter, None), counter, ROWS_AT_ONCE).await;
        let there = there.map_err(search_failure)?;
        let mut others = there.iter().filter(|other| other.place != row.place);
        let is_copy = others.any(|other| frame_of(other).is_some_and(|other| other.digest() == frame.digest()));
        Ok(if is_copy { Verdict::Copy } else { Verdict::Misfiled })
    }

    /// Whether a batch may still come for a row: for one that is young, and for a frame of a binding that is open, whose gateway may be
    /// away.
    async fn verdict(&self, row: &FiledFrame, frame: Option<&Frame>) -> Result<Verdict, Failure> {
        let cadence_s = self.node.policies().derivation.batch_cadence_s();
        let delay_ms = PENDING_MS_MAX + u64::from(cadence_s) * 1_000;
        let is_young = row.received_at.is_some_and(|at| self.node.now().0.abs_diff(at.0) <= delay_ms);
        if is_young || self.node.is_stalled() {
            return Ok(Verdict::Pending);
        }
        let Some(frame) = frame else { return Ok(Verdict::Injected) };
        for binding in self.bindings_of(frame.device()) {
            let tie = self.tie(*binding).await?;
            if tie.is_open && frame.counter() > tie.last && frame.is_signed_by(&tie.key) {
                return Ok(Verdict::Pending);
            }
        }
        // A binding of ours may be on its way to the ledger.
        let bound = self.node.bound_here(frame.device()).await.filter(|_| self.node.in_lane() > 0);
        let key = bound.and_then(|bound| sensing::device_key(bound.key.as_bytes()).ok());
        Ok(if key.is_some_and(|key| frame.is_signed_by(&key)) { Verdict::Pending } else { Verdict::Injected })
    }

    async fn tie(&self, id: Id16) -> Result<Arc<Tie>, Failure> {
        if let Some(tie) = self.ties.get(&id) {
            return Ok(tie);
        }
        let known: Option<state::Binding> = self.node.ledger_value(state::binding_key(&id)).await?;
        let known = known.ok_or_else(|| Failure::Ours("the ledger's state lacks a binding".to_owned()))?;
        let key = sensing::device_key(known.key.as_bytes());
        let tie = Arc::new(Tie {
            device: known.device,
            key: key.map_err(|e| Failure::ours("a binding's key cannot be used", e))?,
            binding: id,
            pseudonym: known.patient,
            is_open: known.until.is_none(),
            last: known.last,
        });
        self.ties.put(id, tie.clone());
        Ok(tie)
    }

    /// Whose the frames under a pseudonym are: by what records under it are about, else by what these rows say, as far as the patient's key
    /// bears it out.
    async fn whose(&self, pseudonym: Pseudonym, rows: &[FiledFrame]) -> Result<Whose, Failure> {
        if let Some(whose) = self.patients.get(&pseudonym) {
            let is_answer = rows.is_empty() || whose != Whose::Unknown;
            if is_answer {
                return Ok(whose);
            }
        }
        let known = self.node.mirror.patients_under(pseudonym, PATIENTS_MAX).await?;
        let whose = if may_hold(self.node.role) {
            let said: BTreeSet<&String> = rows.iter().filter_map(|row| row.patient.as_ref()).collect();
            let (mut whose, mut has_key) = (Whose::Unknown, false);
            for (at, patient) in known.iter().chain(said.into_iter().take(PATIENTS_MAX)).enumerate() {
                let key = match self.node.patient_key(patient).await {
                    // Somebody changed the Patient's row, and the vaults do not answer for it either.
                    Err(Failure::Tampered(_)) => None,
                    other => other?,
                };
                let Some(key) = key else { continue };
                has_key |= at < known.len();
                if self.node.pseudonyms(&key).contains(&pseudonym) {
                    whose = Whose::Of(patient.clone());
                    break;
                }
            }
            match (whose, known.as_slice()) {
                // No vault gives its key. What records were about, while they agreed with the ledger, stays true.
                (Whose::Unknown, [one]) if !has_key => Whose::Of(one.clone()),
                (whose, _) => whose,
            }
        } else {
            match known.as_slice() {
                [one] => Whose::Of(one.clone()),
                _ => Whose::NotToTell,
            }
        };
        self.patients.put(pseudonym, whose.clone());
        Ok(whose)
    }
}

/// What a device is called in a finding.
pub(crate) fn shown(device: Option<&DeviceId>, digest: &Digest) -> String {
    match device.map(|device| (device_id(device), device)) {
        Some((Some(id), _)) => format!("Device/{id}"),
        Some((None, name)) => name.as_str().to_owned(),
        None => format!("Device {digest}"),
    }
}

/// Notes what a device of the ledger is called.
fn learn(devices: &mut HashMap<Digest, Device>, name: &DeviceId) {
    if let Some(device) = devices.get_mut(&device_digest(name)) {
        device.name.get_or_insert_with(|| name.clone());
    }
}

fn device_of(held: &Held) -> Result<DeviceId, Failure> {
    held.right.device.parse::<DeviceId>().map_err(|e| Failure::ours("a device's name cannot be read", e))
}
