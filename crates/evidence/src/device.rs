//! Device keys: which key the frames of a batch were signed by, and whether it was revoked when the batch was made.

use crate::{BoundDevice, Refused, Subject, finality::Final, log::Filed, verify::value};
use contract::{
    Body, PublicKey,
    state::{Binding, DeviceKey, binding_key, device_signer_key},
};
use record::{Id16, TimeMs};
use std::collections::HashMap;

/// What is proven of the key of one binding, and of the file's batches under it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) binding: Id16,
    pub(crate) key: PublicKey,
    /// Not to be trusted from this entry time on.
    pub(crate) revoked: Option<TimeMs>,
    /// Batches made while the key was good.
    pub(crate) good: u64,
    /// Batches made when it was revoked already.
    pub(crate) late: u64,
}

/// Entry times of the batches with frames, by their bindings.
pub(crate) fn batches<'a>(entries: impl Iterator<Item = &'a Filed>) -> HashMap<Id16, Vec<TimeMs>> {
    let mut times: HashMap<Id16, Vec<TimeMs>> = HashMap::new();
    for filed in entries {
        if let Body::Batch { binding, count: 1.., .. } = &filed.entry.body {
            times.entry(*binding).or_default().push(filed.entry.time);
        }
    }
    times
}

/// Checks binding and key of each, and sorts the file's batches by whether the key was good when they were made.
pub(crate) fn check(
    given: &[BoundDevice],
    batches: &HashMap<Id16, Vec<TimeMs>>,
    at: &Final,
) -> Result<Vec<Device>, Refused> {
    let mut checked: Vec<Device> = Vec::new();
    for BoundDevice { binding: id, bound, key } in given {
        if checked.last().is_some_and(|last| last.binding >= *id) {
            return Err(Refused::Order { what: "device keys" });
        }
        let Some(times) = batches.get(id) else { return Err(Refused::NoBatch { binding: *id }) };
        let binding: Binding = value(Subject::Binding(*id), &binding_key(id), bound, at)?;
        let signer: DeviceKey = value(Subject::DeviceKey(binding.key), &device_signer_key(&binding.key), key, at)?;
        if signer.device != binding.device {
            return Err(Refused::OtherDevice { binding: *id });
        }
        let late = times.iter().filter(|time| signer.revoked.is_some_and(|revoked| **time >= revoked)).count() as u64;
        let good = times.len() as u64 - late;
        checked.push(Device { binding: *id, key: binding.key, revoked: signer.revoked, good, late });
    }
    Ok(checked)
}
