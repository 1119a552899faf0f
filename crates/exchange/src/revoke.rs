//! Keys of devices that are not trusted any more: revoked by a person, or because two devices showed that they hold the same one.

use crate::{
    bind::{Bound, device_digest, device_name},
    boxed,
    caller::Caller,
    failure::Failure,
    node::Node,
    sense::{Attached, Revoked},
    take::{refusal, to_the_end},
    write::{Also, Touched, Trail},
};
use contract::{AccessAction, Event};
use record::{Role, TimeMs, fhir::Interaction};
use sensing::{Frame, Refusal, Reject, Signed};

/// The patient's trail is told of a revoked device that goes on sending once in so many milliseconds.
const TOLD_EVERY_MS: u64 = 3_600_000;

impl Node {
    /// Revokes the key of a bound device, which ends its binding: it was stolen, or is not trusted for another reason. The device may be
    /// bound again with another key.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn revoke(&self, caller: &Caller, device: &str) -> Result<(), Failure> {
        let (node, caller, device) = (self.clone(), caller.clone(), device.to_owned());
        to_the_end(async move { node.revoke_device(&caller, &device).await }).await
    }

    async fn revoke_device(&self, caller: &Caller, device: &str) -> Result<(), Failure> {
        let (_one, mut attached) = self.to_be_ended(caller, device).await?;
        let now = self.now();
        self.put_revocation(&mut attached, caller, now).await?;
        if let Err(error) = self.complete_statement(caller, &attached.bound, now).await {
            tracing::warn!(%error, binding = %attached.bound.binding, "the device is revoked, its DeviceUseStatement does not say so");
        }
        Ok(())
    }

    /// Revokes a key that two devices hold, by what they signed: nobody can say which of them is the one that was bound.
    pub(crate) async fn revoke_copied(&self, attached: &mut Attached) -> Result<(), Failure> {
        let device = self.machine(attached.binding().device.as_str(), Role::Device);
        self.put_revocation(attached, &device, self.now()).await
    }

    /// Files what was measured before, the revocation and the audit event about it, and ends the binding.
    async fn put_revocation(&self, attached: &mut Attached, caller: &Caller, now: TimeMs) -> Result<(), Failure> {
        self.put_batch(attached).await?;
        let (name, binding) = (attached.binding().device.clone(), attached.bound.binding);
        let subject = self.subject(&attached.bound.patient).await?;
        let event =
            Event::DeviceRevoked { device: device_digest(&name), key: attached.bound.key, binding: Some(binding) };
        let mut gathered = self.empty();
        self.also(&mut gathered, &self.author(caller, now), &Also { subject: subject.clone(), event })?;
        let names = [format!("Device/{}", attached.bound.device)];
        let touched = Touched { subject: &subject, versions: &[], names: &names };
        self.trail(&mut gathered, caller, now, &touched, &Trail::of(Interaction::Operation, AccessAction::Write))?;
        self.put(gathered).await?;
        attached.end(now);
        attached.bound.revoked = Some(now);
        self.sensing.detach(&name);
        self.remember_revoked(&attached.bound);
        self.desk.put(attached.bound.clone()).await?;
        tracing::warn!(%binding, copied = attached.copied().is_some(), "a device's key was revoked");
        Ok(())
    }

    /// Remembers what the desk says of a revoked device, so that its frames are told from those of strangers.
    pub(crate) fn remember_revoked(&self, bound: &Bound) {
        let (Some(at), Ok(name)) = (bound.revoked, device_name(&bound.device)) else { return };
        let Ok(key) = sensing::device_key(bound.key.as_bytes()) else { return };
        self.sensing.remember_revoked(name, Revoked { key, patient: bound.patient.clone(), at, told_at: None });
    }

    /// Why a frame of a device that is not bound here is refused. One that a revoked key signed is told of in the patient's trail.
    pub(crate) async fn stranger(&self, frame: Frame) -> Failure {
        let device = frame.device().clone();
        let unknown = || refusal(&Reject::UnknownDevice { device: device.clone() }.into());
        let Some(revoked) = self.sensing.revocation(&device) else { return unknown() };
        if Signed::one(frame, &revoked.key).is_err() {
            return unknown();
        }
        let refused = refusal(&Refusal::Revoked { device: device.clone(), at: revoked.at });
        let now = self.now();
        if self.sensing.is_due_to_tell(&device, now, TOLD_EVERY_MS) {
            let denied = Some("the device's key was revoked".to_owned());
            let trail = Trail { denied, ..Trail::of(Interaction::Create, AccessAction::Write) };
            let machine = self.machine(device.as_str(), Role::Device);
            let names = ["Observation".to_owned()];
            if let Err(error) = self.leave_trail(&machine, Some(&revoked.patient), &[], &names, &trail).await {
                tracing::warn!(%error, "that a revoked device sends is not in the trail");
            }
        }
        refused
    }
}
