//! What rows of the database hold of one batch: frames as their device signed them and how those are filed, or nothing that belongs there.

use crate::{
    kept::frame_in,
    kinds::{EVERY_KIND, kind_of},
    mirror::FinalEntry,
    sensed::read_signed,
};
use contract::{Body, Entry, Gap, merkle};
use record::{Digest, Id16, OrgId, Pseudonym, TimeMs};
use sensing::{BATCH_FRAMES_MAX, Binding, CLOCK_AHEAD_MS_MAX, CLOCK_BEHIND_MS_MAX, DeviceId, Frame, Signed};
use std::collections::BTreeMap;
use store::FiledFrame;

/// A final batch with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalBatch {
    pub(crate) binding: Id16,
    /// Index of its entry in the log.
    pub(crate) index: u64,
    pub(super) root: Digest,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    gaps: Vec<Gap>,
    /// Who said it.
    pub(crate) org: OrgId,
    pub(super) patient: Option<Pseudonym>,
    /// When, by its own clock: its frames had come by then.
    said_at: TimeMs,
    /// When it became final.
    pub(crate) time: TimeMs,
}

impl FinalBatch {
    /// The batch of an entry that was not refused, if it has frames.
    pub(super) fn of(place: &FinalEntry) -> Option<Self> {
        let entry = Entry::from_bytes(&place.bytes).ok().filter(|_| place.refused == 0)?;
        let Body::Batch { binding, root, count: count @ 1.., first, last, gaps, .. } = entry.body else { return None };
        let (org, patient, said_at, time) = (entry.org, entry.patient, entry.time, place.time);
        let index = place.index;
        Some(Self { binding, index, root, count, first, last, gaps, org, patient, said_at, time })
    }

    /// Whether it has no more frames than gateways put together. Of one that has, nothing can be told.
    pub(crate) fn is_readable(&self) -> bool {
        self.count as usize <= BATCH_FRAMES_MAX
    }

    /// Whether a frame of it has this counter.
    pub(super) fn names(&self, counter: u64) -> bool {
        let within = (self.first..=self.last).contains(&counter);
        within && !self.gaps.iter().any(|gap| (gap.first..=gap.last).contains(&counter))
    }

    /// The counters of its frames, as many as the contract let it have.
    pub(super) fn counters(&self) -> Vec<u64> {
        let mut counters = Vec::new();
        let mut next = self.first;
        for gap in self.gaps.iter().filter(|gap| gap.first > self.first) {
            counters.extend(next..gap.first);
            next = gap.last.saturating_add(1);
        }
        counters.extend(next..=self.last);
        counters
    }
}

/// Whose frames those of a binding are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the Patient with this id.
    Of(String),
    /// Of none that the database names, as far as this organisation can tell.
    Unknown,
    /// This organisation may not hold patient keys, and has seen no record that says it.
    NotToTell,
}

/// What the ledger says of a binding.
pub(crate) struct Tie {
    pub(crate) device: Digest,
    pub(super) key: sensing::VerifyingKey,
    pub(super) binding: Id16,
    pub(super) pseudonym: Pseudonym,
    /// Whether frames may still be batched under it, those behind `last`.
    pub(super) is_open: bool,
    pub(super) last: u64,
}

/// A frame of a batch in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) place: i64,
    /// How it is filed where it belongs, by its own bytes and its binding.
    pub(crate) right: store::Frame,
    /// Whether it is filed otherwise. A frame of every kind is found whatever is searched for.
    pub(crate) is_misfiled: bool,
    /// Whether it is of every kind.
    pub(crate) is_kindless: bool,
    /// Whether it is known whose it is.
    pub(crate) is_whose_known: bool,
    /// Whether what stays of it once it is let go, its binding, counter, digest and patient, is filed as it should be.
    pub(crate) is_traceable: bool,
}

/// A batch with a frame under each of these counters, all of them in the database.
#[cfg(test)]
pub(super) fn sample(first: u64, last: u64) -> (FinalBatch, Tie, Vec<Held>) {
    let (binding, digest) = (Id16([1; 16]), Digest([2; 32]));
    let count = u32::try_from(last - first + 1).unwrap();
    let (org, said_at) = ("mercy".parse().unwrap(), TimeMs(1_000));
    let batch = FinalBatch {
        binding,
        index: 1,
        root: digest,
        count,
        first,
        last,
        gaps: Vec::new(),
        org,
        patient: None,
        said_at,
        time: said_at,
    };
    let key = sensing::SigningKey::from_bytes(&[3; 32]).verifying_key();
    let tie = Tie { device: digest, key, binding, pseudonym: Pseudonym(digest), is_open: false, last };
    let held = (first..=last).map(|counter| Held {
        place: counter.cast_signed(),
        right: store::Frame {
            device: "urn:dev:fhir:d1".to_owned(),
            counter,
            binding,
            patient: "p1".to_owned(),
            received_at: said_at,
            measured_at: said_at,
            kind: 0,
            digest,
            bytes: Vec::new(),
        },
        is_misfiled: false,
        is_kindless: false,
        is_whose_known: true,
        is_traceable: true,
    });
    (batch, tie, held.collect())
}

/// A row in which there is no frame of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) place: i64,
    /// The device that it is filed under, as far as that can be read.
    pub(crate) device: String,
    pub(crate) counter: u64,
    pub(crate) verdict: Verdict,
}

/// What such a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A batch may still come.
    Pending,
    /// No batch has it, and none will.
    Injected,
    /// A frame of a batch, in a place that is not its own.
    Misfiled,
    /// The same, where the frame is in its own place as well.
    Copy,
}

/// What some rows hold of a batch.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) held: Vec<Held>,
    pub(super) modified: BTreeMap<u64, i64>,
    /// Rows of other frames, with the device and counter that they say themselves.
    pub(super) elsewhere: Vec<(i64, DeviceId, u64)>,
    pub(super) strangers: Vec<Stranger>,
}

pub(super) fn frame_of(row: &FiledFrame) -> Option<Frame> {
    frame_in(row.bytes.as_ref()?)
}

pub(super) fn stranger(row: &FiledFrame, verdict: Verdict) -> Stranger {
    let (device, counter) = (row.device.clone().unwrap_or_default(), row.counter.unwrap_or_default());
    Stranger { place: row.place, device, counter, verdict }
}

pub(super) fn root(all: &BTreeMap<u64, Digest>) -> Digest {
    merkle::root(all.values().map(|digest| merkle::leaf(digest.as_ref())))
}

/// Sorts rows out: which hold frames of the batch as the device signed them, and how those are filed.
pub(super) fn look_at(
    rows: Vec<FiledFrame>,
    batch: &FinalBatch,
    tie: &Tie,
    device: &DeviceId,
    whose: &Whose,
) -> Looked {
    let mut looked = Looked::default();
    let (mut likely, mut frames) = (Vec::new(), Vec::new());
    for row in rows {
        match frame_of(&row) {
            Some(frame) if frame.device() == device && batch.names(frame.counter()) => {
                frames.push((frame, tie.key));
                likely.push(row);
            }
            Some(frame) => looked.elsewhere.push((row.place, frame.device().clone(), frame.counter())),
            None => not_the_frame(&row, batch, &mut looked),
        }
    }
    // When it was measured and whose it was then was judged when it came: here its clock alone counts.
    let binding = Binding {
        device: device.clone(),
        key: tie.key,
        patient: String::new(),
        binding: tie.binding,
        from: TimeMs(0),
        until: None,
    };
    for (row, signed) in likely.into_iter().zip(Signed::all(frames)) {
        match signed {
            Ok(signed) => looked.held.push(held(row, signed, batch, &binding, whose)),
            Err(_) => not_the_frame(&row, batch, &mut looked),
        }
    }
    looked
}

/// A row that holds nothing that a device signed: in the place of a frame of the batch, or in nobody's.
fn not_the_frame(row: &FiledFrame, batch: &FinalBatch, looked: &mut Looked) {
    match row.counter.filter(|counter| batch.names(*counter)) {
        Some(counter) => _ = looked.modified.insert(counter, row.place),
        None => looked.strangers.push(stranger(row, Verdict::Injected)),
    }
}

fn held(row: FiledFrame, signed: Signed, batch: &FinalBatch, binding: &Binding, whose: &Whose) -> Held {
    let frame = signed.frame();
    let (counter, digest, measured_at) = (frame.counter(), frame.digest(), frame.device_time());
    let (device, kind) = (frame.device().as_str().to_owned(), kind_of(frame.signals()));
    // Nobody signed when it came. What its clock contradicts was not written by a gateway: it had come when it was batched.
    let received_at = row.received_at.filter(|at| read_signed(signed, binding, *at).is_some());
    let earliest = TimeMs(measured_at.0.saturating_sub(CLOCK_AHEAD_MS_MAX));
    let latest = measured_at.plus_ms(CLOCK_BEHIND_MS_MAX);
    let patient = match whose {
        Whose::Of(patient) => Some(patient.clone()),
        Whose::NotToTell => row.patient.clone(),
        Whose::Unknown => None,
    };
    let is_traceable = row.counter == Some(counter)
        && row.binding == Some(batch.binding)
        && row.patient.is_some()
        && row.patient == patient
        && row.digest == Some(digest);
    let is_misfiled = !is_traceable
        || row.device.as_ref() != Some(&device)
        || received_at.is_none()
        || row.measured_at != Some(measured_at)
        || row.kind.is_none_or(|filed| filed != kind && filed != EVERY_KIND);
    Held {
        place: row.place,
        is_misfiled,
        is_kindless: row.kind == Some(EVERY_KIND),
        is_whose_known: patient.is_some(),
        is_traceable,
        right: store::Frame {
            device,
            counter,
            binding: batch.binding,
            patient: patient.unwrap_or_default(),
            received_at: received_at.unwrap_or_else(|| batch.said_at.clamp(earliest, latest)),
            measured_at,
            kind,
            digest,
            bytes: row.bytes.unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bind::device_digest, kept::packed};
    use sensing::{Decimal, Sequence, Signal, SigningKey, Value};

    const BEGIN: u64 = 1_795_255_200_000;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn device() -> DeviceId {
        crate::device_name("d1").unwrap()
    }

    fn tie() -> Tie {
        Tie {
            device: device_digest(&device()),
            key: key().verifying_key(),
            binding: Id16([3; 16]),
            pseudonym: Pseudonym(Digest([5; 32])),
            is_open: true,
            last: 0,
        }
    }

    /// Six frames, the first of which has counter 5, as they are filed.
    fn rows() -> Vec<FiledFrame> {
        let mut sequence = Sequence::resume(device(), key(), 4, Digest([1; 32]));
        let row = |n: u64| {
            let value = Value::Number { unit: "%".into(), value: Decimal::whole(90 + n as i32) };
            let signals = vec![Signal { name: "spo2".into(), offset_ms: 0, value }];
            let frame = sequence.next(TimeMs(BEGIN + n * 1_000), signals).unwrap();
            FiledFrame {
                place: n as i64,
                device: Some(device().as_str().to_owned()),
                counter: Some(frame.counter()),
                binding: Some(Id16([3; 16])),
                patient: Some("p1".into()),
                received_at: Some(TimeMs(BEGIN + n * 1_000 + 400)),
                measured_at: Some(frame.device_time()),
                kind: Some(kind_of(frame.signals())),
                digest: Some(frame.digest()),
                bytes: Some(packed(&frame)),
            }
        };
        (0..6).map(row).collect()
    }

    /// A batch from counter 5 to 10.
    fn batch() -> FinalBatch {
        let digests = rows().iter().map(|row| (row.counter.unwrap(), row.digest.unwrap())).collect();
        FinalBatch {
            binding: Id16([3; 16]),
            index: 0,
            root: root(&digests),
            count: 6,
            first: 5,
            last: 10,
            gaps: Vec::new(),
            org: "mercy".parse().unwrap(),
            patient: None,
            said_at: TimeMs(BEGIN + 9_000),
            time: TimeMs(BEGIN + 10_000),
        }
    }

    fn look(rows: Vec<FiledFrame>) -> Looked {
        look_at(rows, &batch(), &tie(), &device(), &Whose::Of("p1".into()))
    }

    #[test]
    fn a_batch_names_its_counters_without_its_gaps() {
        let gap = |first, last| Gap { first, last };
        let batch = FinalBatch { count: 4, gaps: vec![gap(2, 4), gap(6, 7)], ..batch() };
        assert_eq!(batch.counters(), [5, 8, 9, 10]);
        for counter in 0..12 {
            assert_eq!(batch.names(counter), batch.counters().contains(&counter), "{counter}");
        }
        let huge = FinalBatch { first: 1, last: u64::MAX, count: 2, gaps: vec![gap(2, u64::MAX - 1)], ..batch };
        assert_eq!(huge.counters(), [1, u64::MAX]);
        assert!(huge.is_readable());
        assert!(!FinalBatch { count: BATCH_FRAMES_MAX as u32 + 1, ..huge }.is_readable());
    }

    #[test]
    fn frames_that_are_filed_as_they_say_are_held_and_nothing_else_is_said() {
        let looked = look(rows());
        assert!(looked.held.iter().all(|held| !held.is_misfiled && !held.is_kindless && held.is_whose_known));
        let digests: BTreeMap<u64, Digest> =
            looked.held.iter().map(|held| (held.right.counter, held.right.digest)).collect();
        assert_eq!((digests.len(), root(&digests)), (6, batch().root));
        assert!(looked.modified.is_empty() && looked.elsewhere.is_empty() && looked.strangers.is_empty());
    }

    /// What somebody does to a row.
    type Change = fn(&mut FiledFrame, TimeMs);

    /// Whoever has the database rewrote a column by which frames are found: no search found the frame, and nobody was told.
    #[test]
    fn a_frame_with_any_other_column_is_misfiled_and_its_bytes_say_where_it_belongs() {
        let whole = rows();
        let right = look(whole.clone()).held.swap_remove(2).right;
        let later = TimeMs(BEGIN + 86_400_000);
        let far = TimeMs(BEGIN + 10 * 86_400_000);
        let changes: [(&str, Change, TimeMs); 14] = [
            ("device", |row, _| row.device = Some("urn:dev:fhir:d2".into()), later),
            ("no device", |row, _| row.device = None, later),
            ("counter", |row, _| row.counter = Some(6), later),
            ("binding", |row, _| row.binding = Some(Id16([4; 16])), later),
            ("no binding", |row, _| row.binding = None, later),
            ("patient", |row, _| row.patient = Some("p2".into()), later),
            ("no patient", |row, _| row.patient = None, later),
            ("measured_at", |row, at| row.measured_at = Some(at), later),
            ("no measured_at", |row, _| row.measured_at = None, later),
            ("received_at", |row, at| row.received_at = Some(at), far),
            ("no received_at", |row, _| row.received_at = None, later),
            ("kind", |row, _| row.kind = Some(0), later),
            ("no kind", |row, _| row.kind = None, later),
            ("digest", |row, _| row.digest = Some(Digest([0; 32])), later),
        ];
        for (what, change, at) in changes {
            let mut changed = whole.clone();
            change(&mut changed[2], at);
            let looked = look(changed);
            let held: Vec<&Held> = looked.held.iter().filter(|held| held.is_misfiled).collect();
            assert_eq!((held.len(), looked.held.len(), held[0].place), (1, 6, 2), "{what}");
            let breaks = ["counter", "binding", "patient", "digest"].iter().any(|column| what.ends_with(column));
            assert_eq!(held[0].is_traceable, !breaks, "{what}");
            let received_at = if what.ends_with("received_at") { batch().said_at } else { right.received_at };
            assert_eq!(held[0].right, store::Frame { received_at, ..right.clone() }, "{what}");
        }
        // Of every kind is a frame from before there were kinds: it is found, and can be filed anew.
        let mut before = whole.clone();
        before[2].kind = Some(EVERY_KIND);
        let looked = look(before);
        let kindless: Vec<&Held> = looked.held.iter().filter(|held| held.is_kindless).collect();
        assert_eq!((kindless.len(), kindless[0].is_misfiled, &kindless[0].right), (1, false, &right));
    }

    #[test]
    fn whose_a_frame_is_is_judged_as_far_as_it_is_known() {
        let rows = || rows().into_iter().take(1).collect::<Vec<_>>();
        let judged = |rows: Vec<FiledFrame>, whose: &Whose| {
            let held = look_at(rows, &batch(), &tie(), &device(), whose).held.swap_remove(0);
            (held.is_misfiled, held.is_whose_known, held.right.patient)
        };
        assert_eq!(judged(rows(), &Whose::NotToTell), (false, true, "p1".into()));
        assert_eq!(judged(rows(), &Whose::Unknown), (true, false, String::new()));
        assert_eq!(judged(rows(), &Whose::Of("p2".into())), (true, true, "p2".into()));
        let mut nobodys = rows();
        nobodys[0].patient = None;
        assert_eq!(judged(nobodys, &Whose::NotToTell), (true, false, String::new()));
    }

    #[test]
    fn what_the_device_did_not_sign_is_changed_where_a_frame_belongs_and_a_stranger_elsewhere() {
        let mut changed = rows();
        changed[0].bytes = Some(vec![0; 100]);
        changed[1].bytes = None;
        // Signed by somebody else.
        let mut thief = Sequence::resume(device(), SigningKey::from_bytes(&[8; 32]), 6, Digest([1; 32]));
        let forged = thief.next(TimeMs(BEGIN), Vec::new()).unwrap();
        (changed[2].bytes, changed[2].digest) = (Some(packed(&forged)), Some(forged.digest()));
        // Another device's frame in the place of this one's; and one of this device that another batch has.
        let other = crate::device_name("d2").unwrap();
        let foreign = Sequence::new(other.clone(), key()).next(TimeMs(BEGIN), Vec::new()).unwrap();
        changed[3].bytes = Some(packed(&foreign));
        let later = Sequence::resume(device(), key(), 76, Digest([1; 32])).next(TimeMs(BEGIN), Vec::new()).unwrap();
        changed[4].bytes = Some(packed(&later));
        let looked = look(changed);
        assert_eq!(looked.held.iter().map(|held| held.right.counter).collect::<Vec<_>>(), [10]);
        assert_eq!(looked.modified, BTreeMap::from([(5, 0), (6, 1), (7, 2)]));
        assert_eq!(looked.elsewhere, [(3, other, 1), (4, device(), 77)]);
        assert!(looked.strangers.is_empty());
        // In a gap of the batch.
        let gaps = vec![Gap { first: 6, last: 9 }];
        let sparse = FinalBatch { gaps, count: 2, ..batch() };
        let mut rows = rows();
        rows[1].bytes = Some(vec![0; 100]);
        let looked = look_at(rows, &sparse, &tie(), &device(), &Whose::Of("p1".into()));
        assert_eq!(looked.held.iter().map(|held| held.right.counter).collect::<Vec<_>>(), [5, 10]);
        let stranger = Stranger { place: 1, device: device().as_str().into(), counter: 6, verdict: Verdict::Injected };
        assert_eq!(looked.strangers, [stranger]);
        assert_eq!(looked.elsewhere.iter().map(|(_, _, counter)| *counter).collect::<Vec<_>>(), [7, 8, 9]);
    }
}
