//! Rules for devices and their frames: one patient at a time, one key per device, every counter once.

use super::{Case, PROVIDERS, Reject, disposal, ensure};
use crate::{
    Body, DeviceStep, Gap, PublicKey, merkle,
    state::{self, Binding, DeviceHead, DeviceKey, Key},
};
use record::{Digest, Id16, OrgRole};

/// How long after a binding's end its last frames may still be batched, in milliseconds.
pub const BATCH_CLOSE_MS: u64 = 60_000;

pub(super) fn reads(device: &Digest, step: &DeviceStep, keys: &mut Vec<Key>) {
    keys.push(state::device_key(device));
    match step {
        DeviceStep::Bound(id, key) => keys.extend([state::binding_key(id), state::device_signer_key(key)]),
        DeviceStep::Unbound(id) => keys.push(state::binding_key(id)),
        DeviceStep::Revoked(key, id) => {
            keys.push(state::device_signer_key(key));
            keys.extend(id.as_ref().map(state::binding_key));
        }
    }
}

/// Providers bind devices to patients. The organisation that bound one unbinds it; so does any hospital, which took the patient over.
pub(super) fn device(case: &mut Case<'_>, device: &Digest, step: &DeviceStep) -> Result<(), Reject> {
    case.role_is(PROVIDERS)?;
    match step {
        DeviceStep::Bound(id, key) => bind(case, device, id, key),
        DeviceStep::Unbound(id) => {
            let head = case.get::<DeviceHead>(&state::device_key(device)).ok_or(Reject::Unknown)?;
            ensure(head.binding == Some(*id), Reject::BindingEnded)?;
            let binding = case.get::<Binding>(&state::binding_key(id)).ok_or(Reject::Unknown)?;
            ensure(case.same_patient(&binding.patient, binding.from), Reject::OtherPatient)?;
            ensure(binding.org == case.entry.org || case.member.role == OrgRole::Hospital, Reject::OtherOrg)?;
            unbind(case, device, head, id, binding);
            Ok(())
        }
        DeviceStep::Revoked(key, id) => revoke(case, device, key, id.as_ref()),
    }
}

fn bind(case: &mut Case<'_>, device: &Digest, id: &Id16, key: &PublicKey) -> Result<(), Reject> {
    let patient = case.patient()?;
    let (head_key, signer_key) = (state::device_key(device), state::device_signer_key(key));
    let head = case.get::<DeviceHead>(&head_key);
    ensure(head.as_ref().is_none_or(|head| head.binding.is_none()), Reject::DeviceBound)?;
    ensure(case.state.read(&state::binding_key(id)).is_none(), Reject::NotNew)?;
    let head = head.filter(|head| head.key == *key);
    let signer = case.get::<DeviceKey>(&signer_key);
    // How far a key counted is known of the device's last key only: an earlier one could replay its frames for another patient.
    ensure(signer.is_none() || head.is_some(), Reject::DeviceKey)?;
    let signer = signer.unwrap_or(DeviceKey { device: *device, revoked: None });
    ensure(signer.device == *device && signer.revoked.is_none(), Reject::DeviceKey)?;
    // Else frames of an earlier patient could be replayed as this one's.
    let last = head.map_or(0, |head| head.last);
    let (org, from) = (case.entry.org.clone(), case.entry.time);
    case.put(signer_key, &signer);
    case.put(head_key, &DeviceHead { org: org.clone(), binding: Some(*id), key: *key, last });
    let binding = Binding { device: *device, org, key: *key, patient, from, until: None, last, batches: 0 };
    case.put(state::binding_key(id), &binding);
    Ok(())
}

fn unbind(case: &mut Case<'_>, device: &Digest, head: DeviceHead, id: &Id16, binding: Binding) {
    let last = head.last.max(binding.last);
    case.put(state::device_key(device), &DeviceHead { binding: None, last, ..head });
    case.put(state::binding_key(id), &Binding { until: Some(case.entry.time), ..binding });
}

/// The device's organisation or any hospital revokes, naming the binding in force; it ends when it is by that key.
fn revoke(case: &mut Case<'_>, device: &Digest, key: &PublicKey, id: Option<&Id16>) -> Result<(), Reject> {
    let signer_key = state::device_signer_key(key);
    let signer = case.get::<DeviceKey>(&signer_key).unwrap_or(DeviceKey { device: *device, revoked: None });
    ensure(signer.device == *device, Reject::DeviceKey)?;
    ensure(signer.revoked.is_none(), Reject::Over)?;
    let head = case.get::<DeviceHead>(&state::device_key(device));
    ensure(head.as_ref().and_then(|head| head.binding).as_ref() == id, Reject::BindingEnded)?;
    if let Some(head) = head {
        ensure(head.org == case.entry.org || case.member.role == OrgRole::Hospital, Reject::OtherOrg)?;
        if let Some(id) = id {
            let binding = case.get::<Binding>(&state::binding_key(id)).ok_or(Reject::Unknown)?;
            if binding.key == *key {
                unbind(case, device, head, id, binding);
            }
        }
    }
    case.put(signer_key, &DeviceKey { revoked: Some(case.entry.time), ..signer });
    Ok(())
}

/// Frames under a binding, by the organisation whose gateway admitted them. A batch without frames only counts refused ones.
pub(super) fn batch(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Batch { binding: id, root, count, first, last, gaps, refused } = &case.entry.body else { return Ok(()) };
    case.role_is(PROVIDERS)?;
    case.patient()?;
    let key = state::binding_key(id);
    let binding = case.get::<Binding>(&key).ok_or(Reject::Unknown)?;
    case.org_is(&binding.org)?;
    ensure(case.same_patient(&binding.patient, binding.from), Reject::OtherPatient)?;
    ensure(binding.until.is_none_or(|until| case.entry.time <= until.plus_ms(BATCH_CLOSE_MS)), Reject::BindingEnded)?;
    ensure((*count == 0) == (*root == merkle::root([])), Reject::Set)?;
    if *count == 0 {
        return ensure(*refused > 0 && *first == 0 && *last == 0 && gaps.is_empty(), Reject::Gaps);
    }
    ensure(*first > binding.last, Reject::Counter)?;
    let (missing_before, gaps) = match gaps.split_first() {
        Some((gap, rest)) if gap.last < *first => (Some(*gap), rest),
        _ => (None, gaps.as_slice()),
    };
    check_missing_before(&binding, *first, missing_before)?;
    let missing = span(*first, *last)?.checked_sub(u64::from(*count)).ok_or(Reject::Gaps)?;
    ensure(missing_within(*first, *last, gaps) == Some(missing), Reject::Gaps)?;
    let batches = binding.batches.saturating_add(1);
    disposal::note(case, id, &binding);
    case.put(key, &Binding { last: *last, batches, ..binding });
    Ok(())
}

/// Between two batches exactly the counters that never arrived are missing. Before a binding's first batch the device may have
/// counted elsewhere, so a gap may be named there and need not.
fn check_missing_before(binding: &Binding, first: u64, named: Option<Gap>) -> Result<(), Reject> {
    let next = binding.last.saturating_add(1);
    let all = (next < first).then(|| Gap { first: next, last: first - 1 });
    let holds = match named {
        None => binding.batches == 0 || all.is_none(),
        Some(gap) if binding.batches == 0 => gap.first >= next && gap.first <= gap.last && gap.last == first - 1,
        Some(gap) => all == Some(gap),
    };
    ensure(holds, Reject::Gaps)
}

/// How many counters are missing by `gaps`, which lie apart, in order, strictly inside `first..=last`; `None` when they do not.
fn missing_within(first: u64, last: u64, gaps: &[Gap]) -> Option<u64> {
    let mut missing = 0u64;
    let mut present = first;
    for gap in gaps {
        let inside = present < gap.first && gap.first <= gap.last && gap.last < last;
        if !inside {
            return None;
        }
        missing = missing.checked_add(gap.last - gap.first)?.checked_add(1)?;
        present = gap.last.checked_add(1)?;
    }
    Some(missing)
}

fn span(first: u64, last: u64) -> Result<u64, Reject> {
    last.checked_sub(first).and_then(|span| span.checked_add(1)).ok_or(Reject::Gaps)
}
