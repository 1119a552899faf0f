//! Devices and batches.

use crate::{
    BATCH_CLOSE_MS, Body, DeviceStep, Gap, merkle,
    testing::{Said, World, check, digest, id, public, said},
};

pub(super) fn device(name: &str, n: u8, step: DeviceStep) -> Said {
    said(name, Body::Device { device: digest(n), step })
}
pub(super) fn bound(name: &str, n: u8, binding: u8, key: u8) -> Said {
    device(name, n, DeviceStep::Bound(id(binding), public(key)))
}
pub(super) fn unbound(name: &str, n: u8, binding: u8) -> Said {
    device(name, n, DeviceStep::Unbound(id(binding)))
}
pub(super) fn revoked(name: &str, n: u8, key: u8, binding: Option<u8>) -> Said {
    device(name, n, DeviceStep::Revoked(public(key), binding.map(id)))
}

/// A batch as text: `first..last xcount -gap-gap ...`.
pub(super) fn batch(name: &str, binding: u8, first: u64, last: u64, count: u32, gaps: &[(u64, u64)]) -> Said {
    let gaps = gaps.iter().map(|(first, last)| Gap { first: *first, last: *last }).collect();
    let root = if count == 0 { merkle::root([]) } else { digest(7) };
    let refused = u32::from(count == 0);
    said(name, Body::Batch { binding: id(binding), root, count, first, last, gaps, refused })
}

#[test]
fn a_device_has_one_patient_at_a_time() {
    check(
        &mut World::new(),
        [
            (bound("acme", 1, 1, 1), "Role"),
            (bound("rescue", 1, 1, 1).nobody(), "PatientMissing"),
            (unbound("rescue", 1, 1), "Unknown"),
            (bound("rescue", 1, 1, 1), "applied"),
            (bound("rescue", 1, 2, 1).patient(2), "DeviceBound"),
            (unbound("rescue", 1, 2), "BindingEnded"),
            (unbound("rescue", 1, 1).patient(2), "OtherPatient"),
            (unbound("rescue", 1, 1), "applied"),
            (unbound("rescue", 1, 1), "BindingEnded"),
            (bound("rescue", 1, 1, 1), "NotNew"),
            (bound("mercy", 1, 2, 1).patient(2), "applied"),
            (unbound("rescue", 1, 2).patient(2), "OtherOrg"),
            (unbound("county", 1, 2).patient(2), "applied"),
        ],
    );
}

#[test]
fn a_key_belongs_to_one_device_and_is_never_bound_after_its_revocation() {
    check(
        &mut World::new(),
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (bound("rescue", 2, 2, 1), "DeviceKey"),
            (revoked("rescue", 2, 1, None), "DeviceKey"),
            (revoked("rescue", 1, 1, None), "BindingEnded"),
            (revoked("rescue", 1, 1, Some(1)), "applied"),
            (revoked("rescue", 1, 1, None), "Over"),
            (unbound("rescue", 1, 1), "BindingEnded"),
            (bound("rescue", 1, 3, 1), "DeviceKey"),
            (bound("rescue", 1, 3, 2), "applied"),
            (revoked("rescue", 1, 9, Some(3)), "applied"),
            (batch("rescue", 3, 1, 1, 1, &[]), "applied"),
            (revoked("acme", 1, 2, Some(3)), "Role"),
        ],
    );
}

#[test]
fn counters_rise_and_what_is_missing_is_named() {
    check(
        &mut World::new(),
        [
            (batch("rescue", 1, 1, 3, 3, &[]), "Unknown"),
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("mercy", 1, 1, 3, 3, &[]), "OtherOrg"),
            (batch("rescue", 1, 1, 3, 3, &[]).patient(2), "OtherPatient"),
            (batch("rescue", 1, 0, 3, 4, &[]), "Counter"),
            (batch("rescue", 1, 5, 9, 5, &[]), "applied"),
            (batch("rescue", 1, 9, 12, 4, &[]), "Counter"),
            (batch("rescue", 1, 5, 9, 5, &[]), "Counter"),
            (batch("rescue", 1, 12, 14, 3, &[]), "Gaps"),
            (batch("rescue", 1, 12, 14, 3, &[(11, 11)]), "Gaps"),
            (batch("rescue", 1, 12, 14, 3, &[(9, 11)]), "Gaps"),
            (batch("rescue", 1, 12, 14, 3, &[(10, 11)]), "applied"),
            (batch("rescue", 1, 15, 20, 4, &[]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(15, 16)]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(19, 20)]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(18, 18), (17, 17)]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(17, 18), (18, 18)]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(18, 17)]), "Gaps"),
            (batch("rescue", 1, 15, 20, 5, &[(17, 18)]), "Gaps"),
            (batch("rescue", 1, 20, 15, 4, &[]), "Gaps"),
            (batch("rescue", 1, 15, 20, 4, &[(17, 18)]), "applied"),
            (batch("rescue", 1, u64::MAX, u64::MAX, 1, &[(21, u64::MAX - 1)]), "applied"),
        ],
    );
}

#[test]
fn a_batch_without_frames_says_only_that_frames_were_refused() {
    check(
        &mut World::new(),
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 0, 0, 0, &[]), "applied"),
            (batch("rescue", 1, 1, 1, 0, &[]), "Gaps"),
            (batch("rescue", 1, 1, 2, 2, &[]), "applied"),
        ],
    );
}

#[test]
fn frames_of_one_patient_are_never_counted_for_the_next() {
    check(
        &mut World::new(),
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 1, 50, 50, &[]), "applied"),
            (unbound("rescue", 1, 1), "applied"),
            (bound("rescue", 1, 2, 1).patient(2), "applied"),
            (batch("rescue", 2, 40, 60, 21, &[]).patient(2), "Counter"),
            (batch("rescue", 2, 55, 60, 6, &[]).patient(2), "applied"),
        ],
    );
}

#[test]
fn the_last_frames_of_a_binding_have_a_minute() {
    let mut world = World::new();
    check(&mut world, [(bound("rescue", 1, 1, 1), "applied"), (unbound("rescue", 1, 1), "applied")]);
    world.wait(BATCH_CLOSE_MS - 1_000);
    check(
        &mut world,
        [(batch("rescue", 1, 1, 2, 2, &[]), "applied"), (batch("rescue", 1, 3, 4, 2, &[]), "BindingEnded")],
    );
}

#[test]
fn more_frames_than_counters_are_refused_whatever_the_gaps_say() {
    // Neither side of «missing = span - count» could be reckoned, and nothing was equal to nothing.
    check(
        &mut World::new(),
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 1, 3, 4, &[]), "Gaps"),
            (batch("rescue", 1, 1, 3, 1_000_000, &[(9, 8)]), "Gaps"),
            (batch("rescue", 1, 1, 3, 3, &[]), "applied"),
        ],
    );
}

#[test]
fn a_device_never_goes_back_to_a_key_that_it_left() {
    // Only for the last key is it known how far it counted: frames 1 to 50 could be counted for patient 2 again.
    check(
        &mut World::new(),
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 1, 50, 50, &[]), "applied"),
            (unbound("rescue", 1, 1), "applied"),
            (bound("rescue", 1, 2, 2), "applied"),
            (unbound("rescue", 1, 2), "applied"),
            (bound("rescue", 1, 3, 1).patient(2), "DeviceKey"),
            (bound("rescue", 1, 3, 2).patient(2), "applied"),
        ],
    );
}

#[test]
fn a_binding_ends_in_a_patients_log_also_in_another_month() {
    let mut world = World::new();
    world.block.time = record::TimeMs::from_instant("2026-11-30T23:59:58Z").unwrap();
    check(
        &mut world,
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (unbound("rescue", 1, 1).nobody(), "OtherPatient"),
            // The first second of December: pseudonyms cannot be compared, but there must be one.
            (unbound("rescue", 1, 1).nobody(), "OtherPatient"),
            (unbound("rescue", 1, 1).patient(2), "applied"),
        ],
    );
}
