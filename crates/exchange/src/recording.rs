//! Reading what sensors said over a time: a patient's frames of a range, verified together, as tracks of samples and notes.

use crate::{
    bind::sensed,
    boxed,
    caller::Caller,
    failure::Failure,
    kept::frame_of,
    measured::beside,
    mirror::Batch,
    node::Node,
    sensed::{Standing, Ties, read_signed},
    write::Trail,
};
use contract::{AccessAction, merkle};
use policy::Action;
use record::{
    Commitment, Digest, Id16, OrgId, TimeMs,
    fhir::{Interaction, IssueType},
};
use sensing::{BATCH_FRAMES_MAX, Frame, Gap, Reading, Signed, track::Tracks};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use store::{FrameFilter, FrameQuery};

/// The most frames of one answer: five and a half hours of one device, or an hour of five.
pub const RECORDING_FRAMES_MAX: usize = 20_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The Patient's id.
    pub patient: String,
    /// The first time of measurement, by the device's clock.
    pub from: TimeMs,
    /// The first time that is too late.
    pub to: TimeMs,
    /// The one signal that is wanted, such as `ecg-ii`; all when not said.
    pub signal: Option<String>,
    /// The id of the one Device that is wanted; all when not said.
    pub device: Option<String>,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Recording {
    /// Samples, numbers, codes and gaps along time.
    pub tracks: Tracks,
    /// How many frames it is made of.
    pub frames: usize,
    /// How many of them no final batch covers yet.
    pub pending: usize,
    /// How many do not agree with the ledger and are left out.
    pub withheld: usize,
    /// How many of the batches that they are from, and of those between, are gone.
    pub missing: u64,
    /// Roll-ups of the time that was asked for, `Observation/id`: of frames that were let go by policy. None of these is missing.
    pub let_go: Vec<String>,
}

/// A binding's frames: where each is from, and when it came.
type Group = Vec<(Frame, TimeMs)>;

/// Those of a binding's frames that its device signed and the ledger bears out.
#[derive(Default)]
pub(crate) struct BorneOut {
    /// In the order of their counters, each with whether it is not verified yet.
    pub(crate) readings: Vec<(Reading, bool)>,
    /// How many others are gone of their batches, by the first counter of each.
    pub(crate) gone: BTreeMap<u64, u64>,
    /// Counters of those that were let go and whose rows are on their way out.
    pub(crate) let_go: BTreeSet<u64>,
}

/// The most batches without a frame in a recording of which it is looked whether they are there.
const BETWEEN_MAX: usize = 256;

impl Node {
    /// A patient's frames of a range, each with its device's signature and under the ledger's batch roots. One decision and one trace.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn recording(&self, caller: &Caller, range: &Range) -> Result<Recording, Failure> {
        if range.from >= range.to {
            return Err(Failure::invalid(IssueType::Value, "", "`start` is before `end`"));
        }
        // Before anything is looked for: what is there is nobody's to know by how the answer fails.
        let own = self.allow(caller, Action::Read, &sensed(&range.patient, None, &self.org)).await?;
        let (groups, mut withheld) = self.groups_of(range).await?;
        let mut orgs: BTreeSet<OrgId> = BTreeSet::new();
        let mut readings: Vec<Vec<Reading>> = Vec::with_capacity(groups.len());
        let (mut pending, mut missing) = (0, 0);
        for (binding, frames) in groups {
            let all = frames.len();
            let Some((first, _)) = frames.first() else { continue };
            let Some(ties) = self.ties(first, binding, &range.patient).await? else {
                withheld += all;
                continue;
            };
            orgs.insert(ties.org.clone());
            let borne_out = self.borne_out(&ties, frames).await?;
            missing += borne_out.gone.values().sum::<u64>() + self.gone_between(&borne_out.readings).await?;
            let let_go = borne_out.let_go.len();
            let (good, waiting) = in_order(borne_out);
            (withheld, pending) = (withheld + all - let_go - good.len(), pending + waiting);
            readings.push(good);
        }
        let mut under = own.under;
        for org in orgs.iter().filter(|org| **org != self.org) {
            let decided = self.allow(caller, Action::Read, &sensed(&range.patient, None, org)).await?;
            under = under.or(decided.under);
        }
        let versions: Vec<Commitment> = readings.iter().flatten().map(|reading| Commitment(reading.digest)).collect();
        let trail = Trail { query: Some(query_of(range)), under, ..Trail::of(Interaction::Read, AccessAction::Frames) };
        self.leave_trail(caller, Some(&range.patient), &versions, &[], &trail).await?;
        let let_go = self.rolled_up(range).await?;
        let frames = versions.len();
        let mut recording = Recording { frames, pending, withheld, missing, let_go, ..Recording::default() };
        for mut of_device in readings {
            if let Some(name) = &range.signal {
                of_device.iter_mut().for_each(|reading| reading.signals.retain(|signal| signal.name == *name));
            }
            let Tracks { tracks, notes } = Tracks::of(&of_device);
            recording.tracks.tracks.extend(tracks);
            recording.tracks.notes.extend(notes);
        }
        recording.tracks.notes.sort_by_key(|note| note.at);
        Ok(recording)
    }

    /// The frames of a range by binding, in the order of their counters, and how many rows are none.
    async fn groups_of(&self, range: &Range) -> Result<(BTreeMap<Id16, Group>, usize), Failure> {
        let of = FrameFilter::Patient(range.patient.clone());
        let mut query = FrameQuery { from: range.from, to: range.to, ..FrameQuery::of(of) };
        let mut groups: BTreeMap<Id16, Group> = BTreeMap::new();
        let (mut frames, mut bad) = (0, 0);
        let device = range.device.as_deref().map(crate::bind::device_name).transpose();
        let device = device.map_err(|_| Failure::invalid(IssueType::Value, "", "`device` is the id of a Device"))?;
        loop {
            let page = self.store.frames(query.clone()).await.map_err(crate::find::search_failure)?;
            bad += page.malformed;
            let (mut rows, next) = (page.frames, page.next);
            rows.retain(|row| device.as_ref().is_none_or(|device| device.as_str() == row.device));
            frames += rows.len();
            if frames > RECORDING_FRAMES_MAX {
                let text = format!("more than {RECORDING_FRAMES_MAX} frames: ask for a shorter time, or one device");
                return Err(Failure::TooLarge(text));
            }
            let read = beside(move || {
                rows.iter().map(|row| (row.binding, row.received_at, frame_of(row))).collect::<Vec<_>>()
            });
            for (binding, received_at, frame) in read.await? {
                match frame {
                    Some(frame) => groups.entry(binding).or_default().push((frame, received_at)),
                    None => bad += 1,
                }
            }
            match next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        for frames in groups.values_mut() {
            frames.sort_unstable_by_key(|(frame, _)| frame.counter());
            frames.dedup_by_key(|(frame, _)| frame.counter());
        }
        Ok((groups, bad))
    }

    /// Those of a binding's frames that its device signed and the ledger bears out, in their order, with the gaps between them, and how many
    /// of them wait for a batch.
    pub(crate) async fn verified(&self, ties: &Ties, frames: Group) -> Result<(Vec<Reading>, usize), Failure> {
        Ok(in_order(self.borne_out(ties, frames).await?))
    }

    /// How many frames are gone of the batches between the first and the last of these of which none is here. What was measured at another
    /// time is there, only not here.
    async fn gone_between(&self, readings: &[(Reading, bool)]) -> Result<u64, Failure> {
        let (Some((first, _)), Some((last, _))) = (readings.first(), readings.last()) else { return Ok(0) };
        let here: BTreeSet<u64> = readings.iter().map(|(reading, _)| reading.counter).collect();
        let batches = self.mirror.batches(first.binding).await?;
        let between = batches.between(first.counter, last.counter);
        let none_is_here = between.iter().filter(|batch| here.range(batch.first..=batch.last).next().is_none());
        let none_is_here = none_is_here.filter(|batch| batches.let_go_with(batch.first).is_none());
        let mut gone = 0;
        for batch in none_is_here.take(BETWEEN_MAX).filter(|batch| batch.count as usize <= BATCH_FRAMES_MAX) {
            let (device, count) = (first.device.as_str(), batch.count as usize);
            let there = self.store.frame_digests(device, batch.first, batch.last, count).await;
            gone += count.saturating_sub(there.map_err(crate::find::search_failure)?.len()) as u64;
        }
        Ok(gone)
    }

    /// Those of some of a binding's frames that its device signed and the ledger bears out.
    pub(crate) async fn borne_out(&self, ties: &Ties, frames: Group) -> Result<BorneOut, Failure> {
        let (binding, times): (_, Vec<TimeMs>) = (ties.binding.clone(), frames.iter().map(|(_, at)| *at).collect());
        let readings = tokio::task::spawn_blocking(move || {
            let signed = Signed::all(frames.into_iter().map(|(frame, _)| (frame, binding.key)).collect());
            let good = signed.into_iter().zip(times).filter_map(|(signed, at)| read_signed(signed.ok()?, &binding, at));
            good.collect::<Vec<Reading>>()
        });
        let readings = readings.await.map_err(|e| Failure::ours("frames were not checked to the end", e))?;
        let batches = if ties.is_final { self.mirror.batches(ties.binding.binding).await? } else { Arc::default() };
        let known: BTreeMap<u64, Digest> = readings.iter().map(|reading| (reading.counter, reading.digest)).collect();
        let ours = ties.org == self.org;
        let mut verdicts: BTreeMap<u64, Standing> = BTreeMap::new();
        let mut borne_out = BorneOut { readings: Vec::with_capacity(readings.len()), ..BorneOut::default() };
        for reading in readings {
            if batches.let_go_with(reading.counter).is_some() {
                borne_out.let_go.insert(reading.counter);
                continue;
            }
            let standing = match batches.reaching(reading.counter) {
                Some(batch) if batch.first <= reading.counter => match verdicts.get(&batch.first) {
                    Some(standing) => *standing,
                    None => {
                        let standing = self.standing_of(batch, &known, &reading).await?;
                        if let Standing::Alone(gone) = standing {
                            borne_out.gone.insert(batch.first, gone);
                        }
                        verdicts.insert(batch.first, standing);
                        standing
                    }
                },
                // Batches come in order of counters: one that went past without this frame says that it never came.
                Some(_) => Standing::Contradicted,
                None => self.waiting(reading.received_at, ours),
            };
            if standing != Standing::Contradicted {
                borne_out.readings.push((reading, standing.is_pending()));
            }
        }
        Ok(borne_out)
    }

    /// What the ledger says of a batch, by the frames that are there already where those are all of it.
    async fn standing_of(
        &self,
        batch: &Batch,
        known: &BTreeMap<u64, Digest>,
        one: &Reading,
    ) -> Result<Standing, Failure> {
        let here: Vec<&Digest> = known.range(batch.first..=batch.last).map(|(_, digest)| digest).collect();
        if here.len() as u64 == u64::from(batch.count) {
            let same = merkle::root(here.iter().map(|digest| merkle::leaf(digest.as_ref()))) == batch.root;
            return Ok(if same { Standing::Final } else { Standing::Contradicted });
        }
        self.under_root(one, batch).await
    }
}

/// Frames in their order, with the gaps between them, and how many of them are not verified yet.
fn in_order(borne_out: BorneOut) -> (Vec<Reading>, usize) {
    let waiting = borne_out.readings.iter().filter(|(_, pending)| *pending).count();
    let mut shown: Vec<Reading> = borne_out.readings.into_iter().map(|(reading, _)| reading).collect();
    let mut before: Option<u64> = None;
    for reading in &mut shown {
        let counter = reading.counter;
        reading.gap =
            before.filter(|before| before + 1 < counter).map(|before| Gap { first: before + 1, last: counter - 1 });
        before = Some(counter);
    }
    (shown, waiting)
}

/// The range as a search of FHIR would say it.
fn query_of(range: &Range) -> String {
    let (from, to) = (range.from.to_instant(), range.to.to_instant());
    let mut query = format!("Observation?patient={}&date=ge{from}&date=lt{to}", range.patient);
    if let Some(device) = &range.device {
        query.push_str(&format!("&device={device}"));
    }
    if let Some(signal) = &range.signal {
        query.push_str(&format!("&code={signal}"));
    }
    query
}
