//! The vectors in `spec/vectors/`: a change of one is a change of format.

use super::{
    mutated::without_absent,
    world::{Shown, World, at, night, whole_night},
};
use crate::{Limits, Parts, RecordProof, Report, assemble, verify, verify_record};
use contract::state::record_key;
use expect_test::{ExpectFile, expect_file};
use record::record_tag;

/// The worked example of `spec/evidence.md`: two months, three entries, one opened record, one that is not.
fn example() -> World {
    let mut world = World::new(1);
    world.block(Some("2026-10-31T22:15:00Z"));
    world.record("ambulance", "Patient/p1", "found unconscious");
    world.access("mercy");
    world.block(Some("2026-11-01T00:30:00Z"));
    world.record("mercy", "Patient/p1", "identified");
    world.opened.remove(0);
    world
}

/// The first entry is made in December and names November, in which nothing was filed; then November's only entry arrives.
fn late() -> World {
    let mut world = World::new(1);
    world.block(Some("2026-12-03T10:00:00Z"));
    world.record("mercy", "Patient/p1", "admitted");
    world.block(None);
    world.access_late("ambulance", at("2026-11-15T10:00:00Z"));
    world
}

fn check(file: ExpectFile, bytes: &[u8]) {
    let lines: Vec<String> = bytes.chunks(32).map(hex).collect();
    file.assert_eq(&(lines.join("\n") + "\n"));
}

fn each_byte_changed(good: &[u8], refused: impl Fn(&[u8]) -> bool) {
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] ^= change;
            assert!(refused(&bytes), "byte {at} changed by {change:#x}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(report: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(report).unwrap() + "\n"
}

#[test]
fn the_published_bundle_has_the_published_report() {
    let world = example();
    let bytes = assemble(world.prove()).to_bytes();
    let report: Report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/evidence-1.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1.json"].assert_eq(&json(&report));
    each_byte_changed(&bytes, |bytes| verify(bytes, &world.id(), &Limits::default()).is_err());
}

#[test]
fn the_published_bundle_with_all_that_can_be_shown_has_the_published_report() {
    let (world, binding) = night();
    let bytes = assemble(world.prove_shown(&whole_night(&world, binding))).to_bytes();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/evidence-1-shown.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1-shown.json"].assert_eq(&json(&report));
    // That a record was never written is as true of other tags, so that another tag may stand there.
    let same = |other: &Report| without_absent(other) == without_absent(&report);
    each_byte_changed(&bytes, |bytes| {
        verify(bytes, &world.id(), &Limits::default()).map_or(true, |other| same(&other))
    });
}

#[test]
fn the_published_bundle_of_a_part_has_the_published_report() {
    let (world, _) = night();
    let shown = Shown { range: Some((4, 4)), ..Shown::default() };
    // What is opened here is committed to outside of the range.
    let parts = Parts { opened: Vec::new(), ..world.prove_shown(&shown) };
    let bytes = assemble(parts).to_bytes();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/evidence-1-part.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1-part.json"].assert_eq(&json(&report));
    each_byte_changed(&bytes, |bytes| verify(bytes, &world.id(), &Limits::default()).is_err());
}

#[test]
fn the_published_bundle_with_a_late_month_has_the_published_report() {
    let world = late();
    let bytes = assemble(world.prove()).to_bytes();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/evidence-1-late.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1-late.json"].assert_eq(&json(&report));
}

#[test]
fn the_published_record_proof_has_the_published_report() {
    let world = example();
    let tag = record_tag(&world.patient, "Patient/p1");
    let (finality, head) = world.prove_value(record_key(&tag));
    let opened = world.opened[0].clone();
    let bytes = RecordProof::new(finality, tag, head, opened.salt, opened.bytes).to_bytes();
    let proven = verify_record(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/record-proof-1.hex"], &bytes);
    expect_file!["../../../../spec/vectors/record-proof-1.json"].assert_eq(&json(&proven));
    each_byte_changed(&bytes, |bytes| verify_record(bytes, &world.id(), &Limits::default()).is_err());
}

/// The published bundle once more, with signatures that one reading or another of RFC 8032 refuses: their first halves are a point of
/// order 8, the identity in a form that is not canonical, and a point outside of the group of prime order.
#[test]
fn signatures_are_verified_by_the_rules_of_zip_215() {
    let text = include_str!("../../../../spec/vectors/evidence-1-zip215.hex").replace('\n', "");
    let bytes: Vec<u8> = (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
    let world = example();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    assert_ne!(bytes, assemble(world.prove()).to_bytes());
    assert_eq!(report, world.verify(world.prove()).unwrap());
}
