//! The vectors in `spec/vectors/`: a change of one is a change of format.

use super::{
    mutated::without_absent,
    world::{ORGS, Shown, World, at, night, rounds, whole_night},
};
use crate::{Limits, Parts, RecordProof, Report, assemble, verify, verify_record, verify_unreviewed};
use commonware_codec::Encode as _;
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use contract::state::record_key;
use curve25519_dalek::{
    constants::EIGHT_TORSION,
    edwards::EdwardsPoint,
    scalar::{Scalar, clamp_integer},
};
use expect_test::{ExpectFile, expect_file};
use record::record_tag;
use sha2::{Digest as _, Sha512};

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

/// An ambulance breaks the glass twice and one is reviewed; a hospital breaks it twice.
fn overrides() -> World {
    let mut world = World::new(1);
    world.block(Some("2026-10-31T22:15:00Z"));
    let reviewed = world.break_glass("ambulance");
    world.break_glass("ambulance");
    world.break_glass("mercy");
    world.break_glass("mercy");
    world.block(Some("2026-10-31T23:30:00Z"));
    world.review("ambulance", reviewed);
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
fn the_published_bundle_with_gathered_accesses_has_the_published_report() {
    let (world, _) = rounds();
    let bytes = assemble(world.prove()).to_bytes();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    assert_eq!((report.gathered, report.gathered_shown), (7, 3));
    check(expect_file!["../../../../spec/vectors/evidence-1-gathered.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1-gathered.json"].assert_eq(&json(&report));
    each_byte_changed(&bytes, |bytes| verify(bytes, &world.id(), &Limits::default()).is_err());
}

/// A device measures through a night in October, and its frames are let go in November: of the second batch one was gone before.
fn let_go() -> World {
    let mut world = World::new(1);
    world.keep_frames(20 * 86_400);
    world.block(Some("2026-10-31T22:15:00Z"));
    world.record("mercy", "Patient/p1", "admitted");
    let binding = world.bind("mercy", "monitor", 40);
    let bound = world.pseudonym();
    world.batch("mercy", binding, 1);
    world.batch("mercy", binding, 4);
    world.block(Some("2026-11-30T08:00:00Z"));
    world.record("mercy", "Observation/roll-up-1", "pulse: 120 windows of a minute");
    world.let_go("mercy", binding, bound, "Observation/roll-up-1");
    world
}

#[test]
fn the_published_bundle_with_frames_that_were_let_go_has_the_published_report() {
    let world = let_go();
    let bytes = assemble(world.prove()).to_bytes();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    let told: Vec<_> = report.let_go.iter().map(|one| (one.after, one.last, one.frames, one.gone_before)).collect();
    assert_eq!(told, [(0, 6, 5, 1)]);
    check(expect_file!["../../../../spec/vectors/evidence-1-let-go.hex"], &bytes);
    expect_file!["../../../../spec/vectors/evidence-1-let-go.json"].assert_eq(&json(&report));
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

#[test]
fn the_published_count_of_overrides_has_the_published_report() {
    let world = overrides();
    let bytes = world.prove_unreviewed(&ORGS.map(|(org, _)| org)).to_bytes();
    let counted = verify_unreviewed(&bytes, &world.id(), &Limits::default()).unwrap();
    check(expect_file!["../../../../spec/vectors/unreviewed-1.hex"], &bytes);
    expect_file!["../../../../spec/vectors/unreviewed-1.json"].assert_eq(&json(&counted));
    each_byte_changed(&bytes, |bytes| verify_unreviewed(bytes, &world.id(), &Limits::default()).is_err());
}

/// The published bundle once more, with signatures that one reading or another of RFC 8032 refuses: their first halves are a point of
/// order 8, the identity in a form that is not canonical, and a point outside of the group of prime order.
#[test]
fn signatures_are_verified_by_the_rules_of_zip_215() {
    let world = example();
    let mut parts = world.prove();
    let certificate = &mut parts.finality.certificate;
    let (proposal, signatures) = (certificate[..35].to_vec(), certificate.len() - 3 * 64);
    let namespace = [&world.genesis.namespace()[..], b"_FINALIZE"].concat();
    let message = [&[namespace.len() as u8][..], &namespace, &proposal].concat();
    let mut validators = world.validators.clone();
    validators.sort_by_key(|key| key.public_key());
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xee, 0x7f);
    let (r, torsion) = (Scalar::from(215u8), EIGHT_TORSION[1]);
    let outside = (EdwardsPoint::mul_base(&r) + torsion).compress().to_bytes();
    let halves = [(Scalar::ZERO, torsion.compress().to_bytes()), (Scalar::ZERO, not_canonical), (r, outside)];
    for (at, (key, (r, half))) in validators.iter().zip(halves).enumerate() {
        let signature = signed_with(key, &r, &half, &message);
        certificate[signatures + 64 * at..][..64].copy_from_slice(&signature);
    }
    let bytes = assemble(parts).to_bytes();
    check(expect_file!["../../../../spec/vectors/evidence-1-zip215.hex"], &bytes);
    assert_ne!(bytes, assemble(world.prove()).to_bytes());
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    assert_eq!(report, world.verify(world.prove()).unwrap());
}

/// The signature of RFC 8032, section 5.1.6, with a first half of the signer's choice, whose part in the group of prime order is that of `r`.
fn signed_with(key: &PrivateKey, r: &Scalar, half: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let expanded = Sha512::digest(key.encode());
    let secret = Scalar::from_bytes_mod_order(clamp_integer(expanded[..32].try_into().unwrap()));
    let hashed = Sha512::new().chain_update(half).chain_update(key.public_key()).chain_update(message).finalize();
    let second = r + Scalar::from_bytes_mod_order_wide(&hashed.into()) * secret;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(half);
    signature[32..].copy_from_slice(second.as_bytes());
    signature
}
