//! Devices that go from patient to patient, with keys that are exchanged and revoked, and the frames that they sign.

use super::{Ledger, Small, explore};
use crate::{
    Body, DeviceStep, PublicKey,
    state::{self, DeviceHead},
    testing::{Said, digest, id, public, said},
};
use record::{Digest, Id16, Pseudonym};
use stateright::Property;
use std::collections::{BTreeMap, BTreeSet};

/// A device's time with a patient, as people remember it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bound {
    device: Digest,
    key: PublicKey,
    patient: Option<Pseudonym>,
    ended: bool,
    last: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Memory {
    bindings: BTreeMap<Id16, Bound>,
    revoked: BTreeSet<PublicKey>,
    /// Counters of each key that were counted while their binding was in force. A binding's last minute is left out: a batch of it names
    /// no device, so that no rule can compare it with what the device's next binding counts.
    counted: BTreeSet<(PublicKey, u64)>,
}

/// What may meet in one model.
struct Ward<'a> {
    orgs: &'a [&'a str],
    devices: &'a [u8],
    keys: &'a [u8],
    /// Each with its patient.
    bindings: &'a [(u8, u8)],
    /// First and last counter.
    frames: &'a [(u64, u64)],
}

fn says(ward: &Ward<'_>) -> Vec<Said> {
    let mut says = Vec::new();
    for name in ward.orgs {
        for device in ward.devices {
            let mut say =
                |step, patient| says.push(said(name, Body::Device { device: digest(*device), step }).patient(patient));
            for (binding, patient) in ward.bindings {
                for key in ward.keys {
                    say(DeviceStep::Bound(id(*binding), public(*key)), *patient);
                    say(DeviceStep::Revoked(public(*key), Some(id(*binding))), *patient);
                }
                say(DeviceStep::Unbound(id(*binding)), 1);
                say(DeviceStep::Unbound(id(*binding)), 2);
            }
            for key in ward.keys {
                say(DeviceStep::Revoked(public(*key), None), 1);
            }
        }
        for (binding, (first, last)) in
            ward.bindings.iter().flat_map(|one| ward.frames.iter().map(move |two| (one, two)))
        {
            let (root, count) = (digest(7), u32::try_from(last - first + 1).unwrap());
            let (binding, patient) = *binding;
            let (first, last, gaps) = (*first, *last, vec![]);
            let body = Body::Batch { binding: id(binding), root, count, first, last, gaps, refused: 0 };
            says.push(said(name, body).patient(patient));
        }
    }
    says
}

fn judge(said: &Said, after: &mut Ledger<Memory>) -> Option<&'static str> {
    let Memory { bindings, revoked, counted } = &mut after.memory;
    match &said.entry.body {
        Body::Device { device, step: DeviceStep::Bound(id, key) } => {
            let bound = bindings.values().any(|bound| bound.device == *device && !bound.ended);
            let foreign = bindings.values().any(|bound| bound.key == *key && bound.device != *device);
            let wrong = bound || foreign || revoked.contains(key) || bindings.contains_key(id);
            let (device, key, patient) = (*device, *key, said.entry.patient);
            bindings.insert(*id, Bound { device, key, patient, ended: false, last: 0 });
            wrong.then_some("a device has two patients, or a key that is revoked or another device's")
        }
        Body::Device { step: DeviceStep::Unbound(id), .. } => match bindings.get_mut(id) {
            Some(bound) if !bound.ended && bound.patient == said.entry.patient => {
                bound.ended = true;
                None
            }
            _ => Some("a binding ends twice, or in another patient's log"),
        },
        Body::Device { device, step: DeviceStep::Revoked(key, _) } => {
            for bound in bindings.values_mut().filter(|bound| bound.device == *device && bound.key == *key) {
                bound.ended = true;
            }
            (!revoked.insert(*key)).then_some("a key is revoked twice")
        }
        Body::Batch { binding, first, last, .. } => {
            let Some(bound) = bindings.get_mut(binding) else { return Some("frames without a binding") };
            let mut wrong = *first <= bound.last || bound.patient != said.entry.patient;
            bound.last = *last;
            if !bound.ended {
                wrong |= (*first..=*last).any(|counter| !counted.insert((bound.key, counter)));
            }
            wrong.then_some("a counter counts twice, or for another patient")
        }
        _ => None,
    }
}

fn the_head_names_the_binding_in_force(_: &Small<Memory>, ledger: &Ledger<Memory>) -> bool {
    [1, 2].map(digest).into_iter().all(|device| {
        let open = ledger.memory.bindings.iter().filter(|(_, bound)| bound.device == device && !bound.ended);
        let open: Vec<Id16> = open.map(|(id, _)| *id).collect();
        let head: Option<DeviceHead> = ledger.get(&state::device_key(&device));
        open == head.and_then(|head| head.binding).into_iter().collect::<Vec<_>>()
    })
}

fn two_patients_were_measured(_: &Small<Memory>, ledger: &Ledger<Memory>) -> bool {
    let measured = ledger.memory.bindings.values().filter(|bound| bound.last > 0);
    measured.map(|bound| bound.patient).collect::<BTreeSet<_>>().len() == 2
}

fn check(name: &str, ward: &Ward<'_>) {
    let mut small = Small::new(says(ward), judge);
    small.properties = vec![
        Property::always("the head names the binding in force", the_head_names_the_binding_in_force),
        Property::sometimes("two patients were measured", two_patients_were_measured),
    ];
    explore(name, small);
}

#[test]
fn every_way_of_one_device_through_three_bindings_counts_no_frame_for_two_patients() {
    let bindings = &[(1, 1), (2, 2), (3, 1)];
    let frames = &[(1, 1), (2, 2), (1, 2)];
    check("one device", &Ward { orgs: &["mercy"], devices: &[1], keys: &[1, 2], bindings, frames });
}

#[test]
fn every_way_of_two_devices_between_two_organisations_gives_each_one_patient_and_keys_of_its_own() {
    let (orgs, bindings, frames) = (&["mercy", "rescue"], &[(1, 1), (2, 2)], &[(1, 1)]);
    check("two devices", &Ward { orgs, devices: &[1, 2], keys: &[1, 2], bindings, frames });
}
