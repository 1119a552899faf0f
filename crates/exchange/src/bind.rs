//! Which device measures which patient: bound by a person at the bedside, on the ledger, and unbound again.

use crate::{
    boxed,
    caller::Caller,
    desk::Paper,
    facts::Target,
    failure::Failure,
    kept::frame_of,
    node::Node,
    sense::Attached,
    take::to_the_end,
    write::{Also, Touched, Trail},
};
use contract::{AccessAction, Event, PublicKey, from_cbor, state};
use minicbor::{Decode, Encode};
use policy::Action;
use record::{
    Digest, Id16, TimeMs,
    fhir::{Interaction, IssueType},
    sha256,
};
use sensing::{BadDeviceId, DeviceId, DeviceState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{MutexGuard, OwnedMutexGuard};

/// What a device that FHIR knows as `Device/ID` calls itself in frames, before `ID`.
///
/// The form is RFC 9039's; its subtype is ours and not registered.
const DEVICE_STEM: &str = "urn:dev:fhir:";
const DEVICE_DOMAIN: &[u8] = b"vitaltrace/device/1\0";

/// How far a binding may reach back: half an hour, in milliseconds. A sensor is put on first, and bound when a hand is free.
pub(crate) const BIND_BACK_MS_MAX: u64 = 30 * 60 * 1_000;

/// The name that the device with this FHIR id signs its frames under: `urn:dev:fhir:ID`.
pub fn device_name(id: &str) -> Result<DeviceId, BadDeviceId> {
    if !record::fhir::is_id(id) {
        return Err(BadDeviceId);
    }
    format!("{DEVICE_STEM}{id}").parse()
}

/// The FHIR id of a device, by the name that it signs under.
pub(crate) fn device_id(name: &DeviceId) -> Option<&str> {
    name.as_str().strip_prefix(DEVICE_STEM)
}

/// What the ledger calls a device.
pub(crate) fn device_digest(name: &DeviceId) -> Digest {
    sha256(&[DEVICE_DOMAIN, name.as_str().as_bytes()])
}

/// A binding on the desk: what the ledger knows by digests, and how far the device has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// The binding on the ledger.
    pub(crate) binding: Id16,
    /// The FHIR id of the Device.
    pub(crate) device: String,
    /// The Patient's id.
    pub(crate) patient: String,
    /// The device signs with this key.
    pub(crate) key: PublicKey,
    /// Frames that were measured before are not this patient's.
    pub(crate) from: TimeMs,
    /// When it ended.
    pub(crate) until: Option<TimeMs>,
    /// The id of the DeviceUseStatement by which FHIR clients see it.
    pub(crate) statement: String,
    /// The device's last frame as of the last batch.
    pub(crate) last: DeviceState,
    /// When its key was revoked, if that is how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<TimeMs>,
    /// Counters up to this one were used up in an earlier binding, as the ledger says.
    pub(crate) floor: u64,
}

/// A binding that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Its id on the ledger.
    pub id: Id16,
    /// The device has used its counters up to this one, by whatever key: its next frame has a higher one.
    pub counted: u64,
}

impl Paper for Bound {
    const KIND: &'static str = "binding";
    fn id(&self) -> String {
        self.binding.to_hex()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

impl Node {
    /// Binds a device to a patient from now: its frames, signed by `key`, are the patient's.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn bind(&self, caller: &Caller, device: &str, patient: &str, key: PublicKey) -> Result<Id16, Failure> {
        self.bind_since(caller, device, patient, key, None).await.map(|begun| begun.id)
    }

    /// Binds a device to a patient who has been wearing it since a time at most half an hour ago.
    ///
    /// What the device measured while it was another patient's stays out, whatever time is given.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn bind_since(
        &self,
        caller: &Caller,
        device: &str,
        patient: &str,
        key: PublicKey,
        since: Option<TimeMs>,
    ) -> Result<Begun, Failure> {
        let (node, caller) = (self.clone(), caller.clone());
        let (device, patient) = (device.to_owned(), patient.to_owned());
        to_the_end(async move { node.bind_device(&caller, &device, &patient, key, since).await }).await
    }

    async fn bind_device(
        &self,
        caller: &Caller,
        device: &str,
        patient: &str,
        key: PublicKey,
        since: Option<TimeMs>,
    ) -> Result<Begun, Failure> {
        self.allow_about(caller, Action::BindDevice, patient).await?;
        self.takes_writes()?;
        let name = device_name(device).map_err(|_| Failure::NotFound(format!("Device/{device}")))?;
        let invalid = |text: String| Failure::invalid(IssueType::Value, "", text);
        sensing::device_key(key.as_bytes()).map_err(|e| invalid(e.to_string()))?;
        self.check_device(device).await?;
        let now = self.now();
        let since = since.unwrap_or(now);
        if since > now || now.0 - since.0 > BIND_BACK_MS_MAX {
            return Err(invalid(format!("`since` is at most {} minutes ago", BIND_BACK_MS_MAX / 60_000)));
        }
        // One at a time, so that a device is not bound twice.
        let _one = self.sensing.binding.lock().await;
        if self.sensing.attached(&name).is_some() {
            return Err(Failure::Conflict("this device is bound already: unbind it first".to_owned()));
        }
        let earlier: Vec<Bound> = self.desk.list_of_device(device).await?;
        if earlier.iter().any(|bound| bound.key == key && bound.revoked.is_some()) {
            return Err(Failure::Conflict("this key was revoked: give the device another one".to_owned()));
        }
        let known = self.known_device(&name, &key, &earlier).await?;
        let ended = earlier.iter().filter_map(|bound| bound.until).max();
        let from = match ended {
            Some(ended) => since.max(ended),
            // Bound by somebody else before, until nobody here knows when.
            None if known.is_some() => now,
            None => since,
        };
        let same_key = earlier.iter().filter(|bound| bound.key == key).map(|bound| bound.last);
        let last = same_key.max_by_key(|last| last.last_counter).unwrap_or_default();
        // Counters that the device used are used up by whatever key: no two frames of it have the same one.
        let used = earlier.iter().map(|bound| bound.last.last_counter.max(bound.floor)).max().unwrap_or_default();
        let mut keys: Vec<PublicKey> = earlier.iter().map(|bound| bound.key).chain([key]).collect();
        keys.extend(known.as_ref().map(|head| head.key));
        let used = used.max(self.last_stored(&name, &keys).await?);
        let floor = known.map_or(used, |head| head.last.max(used));

        let subject = self.subject(patient).await?;
        let statement = json!({
            "resourceType": "DeviceUseStatement", "status": "active", "recordedOn": now.to_instant(),
            "subject": {"reference": format!("Patient/{patient}")}, "device": {"reference": format!("Device/{device}")},
            "timingPeriod": {"start": from.to_instant()}
        });
        let draft = self.made(&statement, &subject, now)?;
        let binding = self.new_id()?;
        let mut bound = Bound {
            binding,
            device: device.to_owned(),
            patient: patient.to_owned(),
            key,
            from,
            until: None,
            revoked: None,
            statement: draft.id.clone(),
            last,
            floor,
        };
        let attached = Attached::new(bound.clone()).map_err(|e| Failure::ours("the binding cannot be used", e))?;
        if !self.sensing.has_room() {
            return Err(Failure::Busy);
        }
        // The desk first: a binding that only the ledger knew could never be ended.
        self.desk.put(bound.clone()).await?;
        let mut gathered = self.gather(caller, now, vec![draft])?;
        let event = Event::DeviceBound { device: device_digest(&name), binding, key };
        self.also(&mut gathered, &self.author(caller, now), &Also { subject, event })?;
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        if let Err(failure) = self.commit(caller, now, gathered, Vec::new(), &trail).await {
            bound.until = Some(now);
            self.desk.put(bound).await?;
            return Err(failure);
        }
        self.sensing.attach(name, attached);
        tracing::info!(%binding, "a device was bound");
        Ok(Begun { id: binding, counted: floor })
    }

    /// Ends a device's binding. Frames that come later are refused.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn unbind(&self, caller: &Caller, device: &str) -> Result<(), Failure> {
        let (node, caller, device) = (self.clone(), caller.clone(), device.to_owned());
        to_the_end(async move { node.unbind_device(&caller, &device).await }).await
    }

    async fn unbind_device(&self, caller: &Caller, device: &str) -> Result<(), Failure> {
        let (_one, mut attached) = self.to_be_ended(caller, device).await?;
        // What was measured before the end belongs to the binding.
        self.put_batch(&mut attached).await?;
        let (now, name) = (self.now(), attached.binding().device.clone());
        let subject = self.subject(&attached.bound.patient).await?;
        let mut gathered = self.empty();
        let event = Event::DeviceUnbound { device: device_digest(&name), binding: attached.bound.binding };
        self.also(&mut gathered, &self.author(caller, now), &Also { subject: subject.clone(), event })?;
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        let names = [format!("Device/{device}")];
        let touched = Touched { subject: &subject, versions: &[], names: &names };
        self.trail(&mut gathered, caller, now, &touched, &trail)?;
        self.put(gathered).await?;
        attached.end(now);
        self.sensing.detach(&name);
        self.desk.put(attached.bound.clone()).await?;
        tracing::info!(binding = %attached.bound.binding, "a device was unbound");
        if let Err(error) = self.complete_statement(caller, &attached.bound, now).await {
            tracing::warn!(%error, binding = %attached.bound.binding, "the device is unbound, its DeviceUseStatement does not say so");
        }
        Ok(())
    }

    /// A device whose binding the caller may end, with nobody else at it and no other binding under way.
    pub(crate) async fn to_be_ended(
        &self,
        caller: &Caller,
        device: &str,
    ) -> Result<(MutexGuard<'_, ()>, OwnedMutexGuard<Attached>), Failure> {
        let not_bound = || Failure::NotFound(format!("binding of Device/{device}"));
        let name = device_name(device).map_err(|_| not_bound())?;
        let patient = self.sensing.patient_of(&name).ok_or_else(not_bound)?;
        self.allow_about(caller, Action::BindDevice, &patient).await?;
        let one = self.sensing.binding.lock().await;
        let attached = self.sensing.attached(&name).ok_or_else(not_bound)?.lock_owned().await;
        if attached.is_open() { Ok((one, attached)) } else { Err(not_bound()) }
    }

    /// The association that FHIR clients see gets its end.
    pub(crate) async fn complete_statement(&self, caller: &Caller, bound: &Bound, now: TimeMs) -> Result<(), Failure> {
        let statement = json!({
            "resourceType": "DeviceUseStatement", "id": bound.statement, "status": "completed", "recordedOn": now.to_instant(),
            "subject": {"reference": format!("Patient/{}", bound.patient)},
            "device": {"reference": format!("Device/{}", bound.device)},
            "timingPeriod": {"start": bound.from.to_instant(), "end": now.to_instant()}
        });
        let bytes = serde_json::to_vec(&statement).map_err(|e| Failure::ours("a DeviceUseStatement is not JSON", e))?;
        self.update(caller, "DeviceUseStatement", &bound.statement, &bytes, None).await.map(|_| ())
    }

    /// The highest counter of a frame in the database that one of the device's keys signed, 0 where there is none: what another
    /// gateway took may be in no batch yet. Whoever writes into the database without a key changes nothing.
    async fn last_stored(&self, name: &DeviceId, keys: &[PublicKey]) -> Result<u64, Failure> {
        let row = self.store.last_frame(name.as_str()).await.map_err(crate::find::search_failure)?;
        let Some(frame) = row.as_ref().and_then(frame_of).filter(|frame| frame.device() == name) else { return Ok(0) };
        let mut keys = keys.iter().filter_map(|key| sensing::device_key(key.as_bytes()).ok());
        Ok(if keys.any(|key| frame.is_signed_by(&key)) { frame.counter() } else { 0 })
    }

    /// The Device resource is there, and agrees with the ledger.
    async fn check_device(&self, device: &str) -> Result<(), Failure> {
        let found = self.current_row("Device", device).await?.filter(|(row, _)| !row.deleted);
        let Some((_, worth)) = found else { return Err(Failure::NotFound(format!("Device/{device}"))) };
        if worth.may_be_shown() { Ok(()) } else { Err(Failure::Tampered(format!("Device/{device}"))) }
    }

    /// What the ledger knows of the device, if it was ever bound; fails when device or key are not free.
    async fn known_device(
        &self,
        name: &DeviceId,
        key: &PublicKey,
        earlier: &[Bound],
    ) -> Result<Option<state::DeviceHead>, Failure> {
        let digest = device_digest(name);
        let head: Option<state::DeviceHead> = self.ledger_value(state::device_key(&digest)).await?;
        let signer: Option<state::DeviceKey> = self.ledger_value(state::device_signer_key(key)).await?;
        if let Some(signer) = signer {
            if signer.device != digest {
                return Err(Failure::Conflict("this key signs the frames of another device".to_owned()));
            }
            if signer.revoked.is_some() {
                return Err(Failure::Conflict("this key was revoked: give the device another one".to_owned()));
            }
            // The last binding of ours may be newer than what is final.
            let last = earlier.iter().max_by_key(|bound| bound.from).map(|bound| bound.key);
            if last.or(head.as_ref().map(|head| head.key)).is_some_and(|last| last != *key) {
                return Err(Failure::Conflict("the device has left this key: give it another one".to_owned()));
            }
        }
        let current = head.as_ref().and_then(|head| head.binding.map(|binding| (binding, head.org.clone())));
        if let Some((binding, org)) = current
            // The end of a binding of ours may still be on its way to the ledger.
            && !earlier.iter().any(|bound| bound.binding == binding && bound.until.is_some())
        {
            return Err(Failure::Conflict(format!("this device is bound by `{org}`: it must be unbound there first")));
        }
        Ok(head)
    }

    /// A value of the ledger's final state.
    pub(crate) async fn ledger_value<T: for<'b> Decode<'b, ()> + Encode<()>>(
        &self,
        key: state::Key,
    ) -> Result<Option<T>, Failure> {
        let values = self.ledger.get(vec![key]).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let Some(value) = values.into_iter().next().flatten() else { return Ok(None) };
        let read = from_cbor("state", &value, state::VALUE_BYTES_MAX);
        read.map(Some).map_err(|e| Failure::ours("the ledger's state cannot be read", e))
    }
}

/// The target of decisions over what sensors say of a patient.
pub(crate) fn sensed<'a>(patient: &'a str, id: Option<&'a str>, author: &'a record::OrgId) -> Target<'a> {
    Target { rtype: "Observation", id, patient: Some(patient), label: "N", author, value: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_by_its_fhir_id() {
        let name = device_name("6c1d7a52-3d5b-4b0e-9f53-000000000001").unwrap();
        assert_eq!(name.as_str(), "urn:dev:fhir:6c1d7a52-3d5b-4b0e-9f53-000000000001");
        assert_eq!(device_id(&name), Some("6c1d7a52-3d5b-4b0e-9f53-000000000001"));
        assert_eq!(device_name(&"a".repeat(64)).unwrap().as_str().len(), 77);
        for bad in ["", "a/b", "a b", &"a".repeat(65)] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
        let other: DeviceId = "urn:dev:mac:0024befffe804ff1".parse().unwrap();
        assert_eq!(device_id(&other), None);
    }
}
