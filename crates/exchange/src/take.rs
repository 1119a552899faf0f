//! Frames of bound devices that come in: signatures checked together, each judged in its turn, stored durably, then answered.

use crate::{
    bind::{Bound, sensed},
    boxed,
    failure::Failure,
    kept::packed,
    kinds::kind_of,
    node::Node,
    sense::Attached,
    write::put_failure,
};
use policy::Action;
use record::{Digest, Role, TimeMs, fhir::IssueType};
use sensing::{BATCH_FRAMES_MAX, DeviceId, Frame, Reading, Refusal, Reject, Signed, Watch};
use std::collections::BTreeMap;
use store::{Put, PutError};
use tokio::sync::OwnedMutexGuard;

/// The most frames that are taken together: checked in one batch, stored in one transaction.
pub const FRAMES_AT_ONCE_MAX: usize = 256;
/// From so many frames on they are decoded, packed and checked beside the tasks that answer others: a frame takes some 50 microseconds.
const BESIDE_FROM: usize = 8;

/// The frames of one device among those that came together, by their places.
struct Group {
    attached: OwnedMutexGuard<Attached>,
    frames: Vec<(usize, Frame)>,
}

/// How frames rest, by their places among those that came together; none where what came is not signed.
type Packed = Vec<Option<Vec<u8>>>;

/// One device's frames that were admitted, and how its watch stands after them.
struct Admitted {
    /// The place of the group.
    group: usize,
    trial: Watch,
    readings: Vec<(usize, Reading)>,
}

type Answers = Vec<Option<Result<Digest, Failure>>>;

impl Node {
    /// Takes one signed frame of a bound device. Answers with its digest when it is durable.
    #[boxed]
    pub async fn frame(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        let answer = self.frames(vec![bytes.to_vec()]).await.into_iter().next();
        answer.unwrap_or_else(|| Err(Failure::Ours("a frame has no answer".to_owned())))
    }

    /// Takes signed frames of bound devices, those of one device in the order in which they stand. Answers each, in that order, with its
    /// digest when it is durable, or why it was refused; one that is refused holds up no other.
    #[boxed]
    pub async fn frames(&self, frames: Vec<Vec<u8>>) -> Vec<Result<Digest, Failure>> {
        let mut answers = Vec::with_capacity(frames.len());
        let mut left = frames.into_iter();
        loop {
            let part: Vec<Vec<u8>> = left.by_ref().take(FRAMES_AT_ONCE_MAX).collect();
            if part.is_empty() {
                break;
            }
            let (node, count) = (self.clone(), part.len());
            match to_the_end(async move { Ok(node.take_frames(part).await) }).await {
                Ok(taken) => answers.extend(taken),
                Err(failure) => answers.extend(std::iter::repeat_n(Err(failure), count)),
            }
        }
        answers.iter().for_each(|answer| self.meters.frame(answer.is_ok()));
        answers
    }

    async fn take_frames(&self, all: Vec<Vec<u8>>) -> Vec<Result<Digest, Failure>> {
        let mut answers: Answers = all.iter().map(|_| None).collect();
        let again = self.take_together(&all, &mut answers).await;
        // One of them contradicts the database: whose it is shows when each comes alone.
        for at in again {
            let mut alone: Answers = vec![None];
            if let Some(bytes) = all.get(at) {
                self.take_together(std::slice::from_ref(bytes), &mut alone).await;
            }
            answer(&mut answers, at, alone.into_iter().next().flatten().unwrap_or(Err(Failure::Busy)));
        }
        let unanswered = || Err(Failure::Ours("a frame has no answer".to_owned()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    /// Answers the frames; gives the places of those that must be taken one by one instead.
    async fn take_together(&self, all: &[Vec<u8>], answers: &mut Answers) -> Vec<usize> {
        let received_at = self.now();
        let mut groups = self.groups(all, answers).await;
        let mut packed: Packed = all.iter().map(|_| None).collect();
        let signed = self.signed(&mut groups, &mut packed, answers).await;
        let mut admitted = Vec::new();
        for (group, signed) in signed.into_iter().enumerate() {
            let Some(Group { attached, .. }) = groups.get_mut(group) else { continue };
            if !signed.is_empty()
                && let Some((trial, readings)) = self.judge(attached, signed, received_at, answers).await
            {
                admitted.push(Admitted { group, trial, readings });
            }
        }
        let mut again = Vec::new();
        let rows: Vec<store::Frame> =
            admitted.iter().flat_map(|device| rows(device, &mut groups, &mut packed)).collect();
        if !rows.is_empty() {
            let alone = rows.len() == 1;
            match self.store.put(Put { frames: rows, ..Put::default() }).await {
                Ok(_) => {
                    for Admitted { group, trial, readings } in admitted {
                        let Some(Group { attached, .. }) = groups.get_mut(group) else { continue };
                        // Only now: a device whose frame was not stored sends it again.
                        attached
                            .take_over(trial, readings.iter().map(|(_, reading)| (reading.counter, reading.digest)));
                        let patient = attached.bound.patient.clone();
                        for (at, reading) in readings {
                            answer(answers, at, Ok(reading.digest));
                            self.show(&patient, &reading);
                            self.feed(&patient, reading);
                        }
                    }
                }
                Err(PutError::FrameConflict { .. }) if !alone => {
                    again = admitted.iter().flat_map(|device| device.readings.iter().map(|(at, _)| *at)).collect();
                    again.sort_unstable();
                }
                Err(error) => {
                    let conflict = matches!(error, PutError::FrameConflict { .. });
                    let failure = put_failure(error);
                    for Admitted { group, readings, .. } in admitted {
                        let Some(Group { attached, .. }) = groups.get_mut(group) else { continue };
                        for (at, reading) in readings {
                            if conflict {
                                self.contradicted(attached, &reading).await;
                            }
                            answer(answers, at, Err(failure.clone()));
                        }
                    }
                }
            }
        }
        for Group { attached, .. } in &mut groups {
            if attached.copied().is_some()
                && attached.is_open()
                && let Err(error) = self.revoke_copied(attached).await
            {
                tracing::warn!(%error, binding = %attached.bound.binding, "a copied key is not revoked yet; it is refused here");
            }
        }
        again
    }

    /// The frames by device, each held; in the order of the devices' names, so that two such requests never wait for each other.
    async fn groups(&self, all: &[Vec<u8>], answers: &mut Answers) -> Vec<Group> {
        let mut by_device: BTreeMap<DeviceId, Vec<(usize, Frame)>> = BTreeMap::new();
        let decoded =
            match beside(all.len(), || all.to_vec(), |all| all.iter().map(|b| Frame::decode(b)).collect()).await {
                Ok(decoded) => decoded,
                Err(failure) => {
                    answers.iter_mut().for_each(|answer| *answer = Some(Err(failure.clone())));
                    return Vec::new();
                }
            };
        let decoded: Vec<Result<Frame, sensing::BadFrame>> = decoded;
        for (at, frame) in decoded.into_iter().enumerate() {
            match frame {
                Ok(frame) => by_device.entry(frame.device().clone()).or_default().push((at, frame)),
                Err(bad) => answer(answers, at, Err(refusal(&Reject::from(bad).into()))),
            }
        }
        let mut groups = Vec::with_capacity(by_device.len());
        for (device, frames) in by_device {
            match self.sensing.attached(&device) {
                Some(attached) => groups.push(Group { attached: attached.lock_owned().await, frames }),
                None => {
                    for (at, frame) in frames {
                        let refused = self.stranger(frame).await;
                        answer(answers, at, Err(refused));
                    }
                }
            }
        }
        groups
    }

    /// The frames of each group that its device signed; in `resting`, by their places, in the form in which they are stored.
    async fn signed(
        &self,
        groups: &mut [Group],
        resting: &mut Packed,
        answers: &mut Answers,
    ) -> Vec<Vec<(usize, Signed)>> {
        let (mut places, mut frames) = (Vec::new(), Vec::new());
        for (number, group) in groups.iter_mut().enumerate() {
            let key = group.attached.binding().key;
            for (at, frame) in group.frames.drain(..) {
                places.push((number, at));
                frames.push((frame, key));
            }
        }
        let mut signed: Vec<Vec<(usize, Signed)>> = groups.iter().map(|_| Vec::new()).collect();
        let check = |frames| {
            let checked = Signed::all(frames).into_iter();
            checked.map(|one| one.map(|signed| (packed(signed.frame()), signed))).collect::<Vec<_>>()
        };
        let checked = match beside(frames.len(), || frames, check).await {
            Ok(checked) => checked,
            Err(failure) => {
                places.iter().for_each(|(_, at)| answer(answers, *at, Err(failure.clone())));
                return signed;
            }
        };
        for ((group, at), checked) in places.into_iter().zip(checked) {
            match checked {
                Ok((packed, one)) => {
                    if let (Some(of), Some(place)) = (signed.get_mut(group), resting.get_mut(at)) {
                        *place = Some(packed);
                        of.push((at, one));
                    }
                }
                Err(reject) => {
                    let refused = Refusal::from(reject);
                    if let Some(group) = groups.get_mut(group) {
                        group.attached.refuse(&refused);
                    }
                    answer(answers, at, Err(refusal(&refused)));
                }
            }
        }
        signed
    }

    /// Judges the frames of one device in their order; gives those that are to be stored, with the watch as it is after them.
    async fn judge(
        &self,
        attached: &mut Attached,
        signed: Vec<(usize, Signed)>,
        received_at: TimeMs,
        answers: &mut Answers,
    ) -> Option<(Watch, Vec<(usize, Reading)>)> {
        let count = signed.len();
        if let Err(failure) = self.may_send(attached, count).await {
            signed.iter().for_each(|(at, _)| answer(answers, *at, Err(failure.clone())));
            return None;
        }
        let mut trial = attached.trial();
        let mut readings = Vec::with_capacity(count);
        for (at, signed) in signed {
            let (counter, digest) = (signed.frame().counter(), signed.frame().digest());
            match attached.judge(&mut trial, signed, received_at) {
                Ok(reading) => readings.push((at, reading)),
                Err(refused) => {
                    let again = matches!(refused, Refusal::Frame(Reject::Replayed { .. }))
                        && self.is_here(&trial, counter, digest).await;
                    attached.refuse(&refused);
                    let failure = match again {
                        true => Failure::Duplicate(format!("frame {counter} of this device was taken already")),
                        false => refusal(&refused),
                    };
                    answer(answers, at, Err(failure));
                }
            }
        }
        if let Some(counter) = trial.copied() {
            attached.distrust(counter);
        }
        (!readings.is_empty()).then_some((trial, readings))
    }

    /// Whether the device may send at all, and has room for so many frames more until its next batch entry.
    async fn may_send(&self, attached: &mut Attached, count: usize) -> Result<(), Failure> {
        let device = self.machine(attached.binding().device.as_str(), Role::Device);
        self.allow(&device, Action::SendFrame, &sensed(&attached.bound.patient, None, &self.org)).await?;
        if attached.open.len() + count > BATCH_FRAMES_MAX {
            self.put_batch(attached).await?;
        }
        Ok(())
    }

    /// Whether this very frame was taken before. Whoever asks holds the device's key.
    async fn is_here(&self, watch: &Watch, counter: u64, digest: Digest) -> bool {
        watch.has(counter, &digest) || matches!(self.store.frame(digest).await, Ok(Some(_)))
    }

    /// The database has another frame under the counter of one that is new to us. If the device's key signed that as well, two hold it;
    /// otherwise somebody wrote into the database.
    async fn contradicted(&self, attached: &mut Attached, reading: &Reading) {
        let (device, counter) = (reading.device.clone(), reading.counter);
        let stored = self.stored_frames(attached.binding(), attached.state()).await.unwrap_or_default();
        let other = stored.iter().find(|frame| frame.state.last_counter == counter);
        match other.map(|frame| frame.state.last_digest).filter(|other| *other != reading.digest) {
            Some(admitted) => {
                attached.refuse(&Reject::Cloned { device, counter, admitted, got: reading.digest }.into());
                attached.distrust(counter);
            }
            None => {
                let binding = attached.bound.binding;
                tracing::error!(%binding, counter, "the database has a frame under this counter that the device did not sign");
            }
        }
    }

    /// The binding that a device has here, for frames whose binding is not final yet.
    pub(crate) async fn bound_here(&self, name: &DeviceId) -> Option<Bound> {
        Some(self.sensing.attached(name)?.lock().await.bound.clone())
    }
}

/// What is stored of the frames of one device.
fn rows(device: &Admitted, groups: &mut [Group], packed: &mut Packed) -> Vec<store::Frame> {
    let Some(Group { attached, .. }) = groups.get_mut(device.group) else { return Vec::new() };
    let patient = attached.bound.patient.clone();
    let rows = device.readings.iter().filter_map(|(at, reading)| {
        Some(store::Frame {
            device: reading.device.as_str().to_owned(),
            counter: reading.counter,
            binding: reading.binding,
            patient: patient.clone(),
            received_at: reading.received_at,
            measured_at: reading.measured_at,
            kind: attached.filed_kind(kind_of(&reading.signals)),
            digest: reading.digest,
            bytes: packed.get_mut(*at)?.take()?,
        })
    });
    rows.collect()
}

fn answer(answers: &mut Answers, at: usize, with: Result<Digest, Failure>) {
    if let Some(answer) = answers.get_mut(at) {
        *answer = Some(with);
    }
}

/// Does work on `count` frames: here when they are few, else beside the tasks that answer others.
async fn beside<I: Send + 'static, O: Send + 'static>(
    count: usize,
    input: impl FnOnce() -> I,
    work: impl FnOnce(I) -> O + Send + 'static,
) -> Result<O, Failure> {
    let input = input();
    if count < BESIDE_FROM {
        return Ok(work(input));
    }
    let done = tokio::task::spawn_blocking(move || work(input)).await;
    done.map_err(|e| Failure::ours("frames were not checked to the end", e))
}

/// Carries work to its end although the caller may go away: half of it done would leave memory and ledger apart.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(work).await.map_err(|e| Failure::ours("a request was not carried to its end", e))?
}

/// What the sender is told of a frame that is not admitted, in the words of `sensing`.
pub(crate) fn refusal(refused: &Refusal) -> Failure {
    let text = refused.to_string();
    match refused {
        Refusal::Revoked { .. } | Refusal::Copied { .. } => Failure::Denied { sentence: text, suppressed: false },
        Refusal::TooMany { wait_ms, .. } => Failure::TooFast { text, wait_ms: *wait_ms },
        Refusal::Frame(reject) => match reject {
            Reject::Replayed { .. } | Reject::Cloned { .. } | Reject::ChainBroken { .. } => Failure::Conflict(text),
            Reject::TooLarge { .. } => Failure::TooLarge(text),
            Reject::Malformed(_) => Failure::invalid(IssueType::Structure, "", text),
            Reject::Unsigned | Reject::BadSignature { .. } => Failure::invalid(IssueType::Security, "", text),
            Reject::UnknownDevice { .. } => Failure::invalid(IssueType::Unknown, "", text),
            Reject::ClockTooFar { .. } | Reject::OutsideBinding { .. } => Failure::invalid(IssueType::Value, "", text),
        },
    }
}
