//! Frames of bound devices: signature, sequence and decision, then durably stored, then answered.

use crate::{
    bind::{Bound, sensed},
    failure::Failure,
    node::Node,
    write::put_failure,
};
use policy::Action;
use record::{Digest, Role, TimeMs, fhir::IssueType};
use sensing::{
    BATCH_FRAMES_MAX, BadKey, Binding, DeviceId, DeviceState, Frame, NO_PREVIOUS, Reading, Reject, admit_frame,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::{Put, PutError};

/// The most devices that are bound at one gateway.
const DEVICES_MAX: usize = 4_096;

/// What a node knows of its devices, and of the analytics that they feed.
#[derive(Default)]
pub(crate) struct Sensing {
    devices: Mutex<HashMap<DeviceId, Place>>,
    pub(crate) engines: crate::assess::Engines,
    /// Held while a device is bound or unbound.
    pub(crate) binding: tokio::sync::Mutex<()>,
    /// Held while an alarm changes.
    pub(crate) alarms: tokio::sync::Mutex<()>,
}

struct Place {
    patient: String,
    attached: Arc<tokio::sync::Mutex<Attached>>,
}

impl Sensing {
    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Place>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more device can be bound.
    pub(crate) fn has_room(&self) -> bool {
        self.devices().len() < DEVICES_MAX
    }

    pub(crate) fn attach(&self, name: DeviceId, attached: Attached) {
        let patient = attached.bound.patient.clone();
        self.devices().insert(name, Place { patient, attached: Arc::new(tokio::sync::Mutex::new(attached)) });
    }

    pub(crate) fn detach(&self, name: &DeviceId) {
        self.devices().remove(name);
    }

    pub(crate) fn attached(&self, name: &DeviceId) -> Option<Arc<tokio::sync::Mutex<Attached>>> {
        self.devices().get(name).map(|place| place.attached.clone())
    }

    pub(crate) fn all_attached(&self) -> Vec<Arc<tokio::sync::Mutex<Attached>>> {
        self.devices().values().map(|place| place.attached.clone()).collect()
    }

    /// The patient that a device measures now.
    pub(crate) fn patient_of(&self, name: &DeviceId) -> Option<String> {
        self.devices().get(name).map(|place| place.patient.clone())
    }

    /// Whether the device of this name measures this patient now.
    pub(crate) fn is_bound(&self, name: &str, patient: &str) -> bool {
        let Ok(name) = name.parse::<DeviceId>() else { return false };
        self.devices().get(&name).is_some_and(|place| place.patient == patient)
    }
}

/// A device at a patient: its binding, how far it has counted, and the frames that no batch entry names yet.
pub(crate) struct Attached {
    pub(crate) bound: Bound,
    binding: Binding,
    pub(crate) state: DeviceState,
    /// The last counter in a batch entry of this binding that is durable; none before the first.
    pub(crate) batched: Option<u64>,
    /// Counter and digest of the frames since, in order.
    // INVARIANT: at most BATCH_FRAMES_MAX while frames are admitted.
    pub(crate) open: Vec<(u64, Digest)>,
    /// Frames refused since.
    pub(crate) refused: u32,
}

impl Attached {
    /// A device whose binding begins, or is taken up again.
    pub(crate) fn new(bound: Bound) -> Result<Self, BadBinding> {
        let binding = binding_of(&bound)?;
        let state = go_on_from(bound.last, bound.floor);
        Ok(Self { bound, binding, state, batched: None, open: Vec::new(), refused: 0 })
    }

    /// The binding as `sensing` sees it.
    pub(crate) fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The binding ends.
    pub(crate) fn end(&mut self, at: TimeMs) {
        self.bound.until = Some(at);
        self.bound.last = self.state;
        self.binding.until = Some(at);
    }

    fn admit(&mut self, frame: Frame, received_at: TimeMs) -> Result<(Reading, DeviceState), Reject> {
        let device = frame.device().clone();
        if self.bound.until.is_some() {
            return Err(Reject::UnknownDevice { device });
        }
        let admitted = admit_frame(frame, &self.binding, &self.state, received_at).and_then(|(reading, next)| {
            let (got, last) = (reading.counter, self.bound.floor);
            if got <= last { Err(Reject::Replayed { device, got, last }) } else { Ok((reading, next)) }
        });
        if let Err(reject) = &admitted {
            self.refuse(reject);
        }
        admitted
    }

    fn refuse(&mut self, reject: &Reject) {
        self.refused = self.refused.saturating_add(1);
        tracing::warn!(binding = %self.bound.binding, code = reject.code(), "a frame was refused");
    }
}

/// Why a binding on the desk cannot be used. Ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBinding {
    #[error(transparent)]
    Device(#[from] sensing::BadDeviceId),
    #[error(transparent)]
    Key(#[from] BadKey),
}

fn binding_of(bound: &Bound) -> Result<Binding, BadBinding> {
    Ok(Binding {
        device: crate::bind::device_name(&bound.device)?,
        key: sensing::device_key(bound.key.as_bytes())?,
        patient: format!("Patient/{}", bound.patient),
        binding: bound.binding,
        from: bound.from,
        until: bound.until,
    })
}

/// The state of a device that has used its counters up to `floor`. Which frame was the last is unknown when it came in elsewhere:
/// then the next one follows a gap.
pub(crate) fn go_on_from(known: DeviceState, floor: u64) -> DeviceState {
    if known.last_counter >= floor {
        return known;
    }
    DeviceState { last_counter: floor - 1, last_digest: NO_PREVIOUS, ..known }
}

impl Node {
    /// Takes one signed frame of a bound device. Answers with its digest when it is durable.
    pub async fn frame(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        let (node, bytes) = (self.clone(), bytes.to_vec());
        let taken = to_the_end(async move { node.take_frame(&bytes).await }).await;
        self.meters.frame(taken.is_ok());
        taken
    }

    async fn take_frame(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        let frame = Frame::decode(bytes).map_err(|bad| refusal(&bad.into()))?;
        let attached = self.sensing.attached(frame.device());
        let attached = attached.ok_or_else(|| refusal(&Reject::UnknownDevice { device: frame.device().clone() }))?;
        let mut attached = attached.lock().await;
        let received_at = self.now();
        let (reading, next) = attached.admit(frame, received_at).map_err(|reject| refusal(&reject))?;
        let patient = attached.bound.patient.clone();
        let device = self.machine(reading.device.as_str(), Role::Device);
        self.allow(&device, Action::SendFrame, &sensed(&patient, None, &self.org)).await?;
        if attached.open.len() >= BATCH_FRAMES_MAX {
            self.put_batch(&mut attached).await?;
        }
        let row = store::Frame {
            device: reading.device.as_str().to_owned(),
            counter: reading.counter,
            binding: reading.binding,
            patient: patient.clone(),
            received_at,
            measured_at: reading.measured_at,
            digest: reading.digest,
            bytes: bytes.to_vec(),
        };
        match self.store.put(Put { frames: vec![row], ..Put::default() }).await {
            Ok(_) => {}
            Err(error @ PutError::FrameConflict { .. }) => {
                let admitted = attached.state.last_digest;
                let (device, counter) = (reading.device.clone(), reading.counter);
                attached.refuse(&Reject::Cloned { device, counter, admitted, got: reading.digest });
                return Err(put_failure(error));
            }
            Err(error) => return Err(put_failure(error)),
        }
        // Only now: a device whose frame was not stored sends it again.
        attached.state = next;
        attached.open.push((reading.counter, reading.digest));
        let digest = reading.digest;
        self.feed(&patient, reading);
        Ok(digest)
    }

    /// The binding that a device has here, for frames whose binding is not final yet.
    pub(crate) async fn bound_here(&self, name: &DeviceId) -> Option<Bound> {
        Some(self.sensing.attached(name)?.lock().await.bound.clone())
    }
}

/// Carries work to its end although the caller may go away: half of it done would leave memory and ledger apart.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(work).await.map_err(|e| Failure::ours("a request was not carried to its end", e))?
}

/// What the sender is told of a frame that is not admitted, in the words of `sensing`.
fn refusal(reject: &Reject) -> Failure {
    let text = reject.to_string();
    match reject {
        Reject::Replayed { .. } | Reject::Cloned { .. } | Reject::ChainBroken { .. } => Failure::Conflict(text),
        Reject::TooLarge { .. } => Failure::TooLarge(text),
        Reject::Malformed(_) => Failure::invalid(IssueType::Structure, "", text),
        Reject::Unsigned | Reject::BadSignature { .. } => Failure::invalid(IssueType::Security, "", text),
        Reject::UnknownDevice { .. } => Failure::invalid(IssueType::Unknown, "", text),
        Reject::ClockTooFar { .. } | Reject::OutsideBinding { .. } => Failure::invalid(IssueType::Value, "", text),
    }
}
