//! What becomes of a device's frames over time.

use super::*;
use crate::{Frame, Sequence, Signal, SigningKey};
use expect_test::expect;
use record::Id16;

const START: TimeMs = TimeMs(1_795_255_200_000);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn device() -> DeviceId {
    "urn:dev:ops:32473-monitor-1".parse().unwrap()
}

fn binding() -> Binding {
    Binding {
        device: device(),
        key: key().verifying_key(),
        patient: "Patient/1".into(),
        binding: Id16([1; 16]),
        from: START,
        until: None,
    }
}

/// A device's frames, a second apart; those of another that holds the same key differ by `posture`.
fn frames(count: u64, posture: &str) -> Vec<Frame> {
    let mut sequence = Sequence::new(device(), key());
    let signal = Signal { name: "posture".into(), offset_ms: 0, value: crate::Value::Code(posture.into()) };
    (1..=count).map(|n| sequence.next(START.plus_ms(n * 1_000), vec![signal.clone()]).unwrap()).collect()
}

fn offer(watch: &mut Watch, frame: &Frame, received_at: TimeMs) -> Result<Reading, Refusal> {
    let signed = Signed::one(frame.clone(), &binding().key)?;
    let (reading, next) = watch.admit(signed, &binding(), received_at)?;
    watch.stored(next);
    Ok(reading)
}

/// What became of each frame, by its code.
fn told(watch: &mut Watch, frames: &[&Frame]) -> String {
    let said = frames.iter().map(|frame| match offer(watch, frame, frame.device_time().plus_ms(40)) {
        Ok(reading) => format!("{}", reading.counter),
        Err(refusal) => format!("{}:{}", frame.counter(), refusal.code()),
    });
    said.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_device_whose_key_two_hold_is_refused_from_then_on() {
    let (own, other) = (frames(9, "supine"), frames(9, "prone"));
    let mut watch = Watch::default();
    let order = [&own[0], &own[1], &own[2], &own[1], &other[1], &own[3], &other[4]];
    expect!["1 2 3 2:replayed 2:cloned 4:key-copied 5:key-copied"].assert_eq(&told(&mut watch, &order));
    assert_eq!(watch.copied(), Some(2));
    let refusal = offer(&mut watch, &own[3], START.plus_ms(9_000)).unwrap_err();
    expect!["the key of device `urn:dev:ops:32473-monitor-1` was copied: it signed two frames with counter 2"]
        .assert_eq(&refusal.to_string());
    assert!(refusal.is_evidence());
    let mut later = Watch::resume(*watch.state());
    later.distrust(2);
    assert_eq!(told(&mut later, &[&own[3]]), "4:key-copied");
    assert_eq!(told(&mut Watch::resume(*watch.state()), &[&own[3]]), "4");
}

#[test]
fn a_revoked_device_is_refused_whatever_time_it_claims() {
    let own = frames(3, "supine");
    let mut watch = Watch::default();
    assert_eq!(told(&mut watch, &[&own[0]]), "1");
    watch.revoke(START.plus_ms(60_000));
    watch.revoke(START.plus_ms(90_000));
    let refusal = offer(&mut watch, &own[1], START.plus_ms(61_000)).unwrap_err();
    assert_eq!(refusal, Refusal::Revoked { device: device(), at: START.plus_ms(60_000) });
    assert!(refusal.is_evidence());
}

#[test]
fn a_device_that_sends_too_much_is_told_when_it_may_go_on() {
    let own = frames(u64::from(Rate::USUAL.at_once) + 1, "supine");
    let (mut watch, at) = (Watch::default(), START.plus_ms(600_000));
    let (last, first) = own.split_last().unwrap();
    assert!(first.iter().all(|frame| offer(&mut watch, frame, at).is_ok()));
    let mut slow = Watch::default().bounded_by(Rate { per_s: 1, at_once: 2 });
    assert_eq!(first.iter().take(5).filter(|frame| offer(&mut slow, frame, at).is_ok()).count(), 2);
    let Err(Refusal::TooMany { wait_ms, .. }) = offer(&mut watch, last, at) else { panic!() };
    assert!(offer(&mut watch, last, at.plus_ms(wait_ms)).is_ok());
}

#[test]
fn a_forger_uses_up_nothing() {
    let own = frames(1, "supine");
    let mut watch = Watch::default();
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    for _ in 0..2 * Rate::USUAL.at_once {
        assert!(Signed::one(own[0].clone(), &other).is_err());
    }
    assert_eq!(told(&mut watch, &[&own[0]]), "1");
    let mut strange = binding();
    strange.key = other;
    let signed = Signed::one(own[0].clone(), &binding().key).unwrap();
    assert_eq!(watch.admit(signed, &strange, START), Err(Reject::BadSignature { device: device() }.into()));
}

#[test]
fn a_clock_is_measured_while_frames_come() {
    let own = frames(120, "supine");
    let mut watch = Watch::default();
    for frame in &own {
        offer(&mut watch, frame, frame.device_time().plus_ms(250)).unwrap();
    }
    assert_eq!(watch.clock().unwrap().to_string(), "250 ms behind, 0.0 ppm fast");
}

#[test]
fn a_frame_that_was_not_stored_is_admitted_again() {
    let own = frames(2, "supine");
    let mut watch = Watch::default();
    let signed = Signed::one(own[0].clone(), &binding().key).unwrap();
    let admitted = watch.admit(signed, &binding(), START.plus_ms(1_040));
    assert!(admitted.is_ok() && watch.clock().is_none());
    assert_eq!(told(&mut watch, &[&own[0], &own[0], &own[1]]), "1 1:replayed 2");
}

/// A gateway that only knows how far a device had counted took the repetition of its last frame for a copy of the key.
#[test]
fn a_repetition_accuses_nobody_where_the_last_frame_is_not_known() {
    let own = frames(4, "supine");
    let state = DeviceState { last_counter: 3, ..DeviceState::default() };
    let mut watch = Watch::resume(state);
    assert_eq!(told(&mut watch, &[&own[2], &own[1]]), "3:replayed 2:replayed");
    assert_eq!(watch.copied(), None);
}

#[test]
fn a_watch_that_is_taken_up_again_tells_a_copy_from_a_repetition_and_knows_the_clock() {
    let (own, other) = (frames(90, "supine"), frames(90, "prone"));
    let mut before = Watch::default();
    let mut known = Vec::new();
    for frame in &own[..80] {
        offer(&mut before, frame, frame.device_time().plus_ms(40)).unwrap();
        known.push((*before.state(), frame.device_time().plus_ms(40)));
    }
    let mut after = Watch::resume_after(known.clone(), *before.state());
    assert_eq!((after.state(), after.clock()), (before.state(), before.clock()));
    assert!(
        after.has(80, &own[79].digest()) && after.has(20, &own[19].digest()) && !after.has(80, &other[79].digest())
    );
    assert_eq!(told(&mut after, &[&own[79], &own[80], &other[40], &own[81]]), "80:replayed 81 41:cloned 82:key-copied");
    // What is known may end before the last frame, repeat itself or be nothing.
    let doubled = known.iter().take(60).flat_map(|one| [*one, *one]);
    assert_eq!(told(&mut Watch::resume_after(doubled, *before.state()), &[&own[80]]), "81");
    assert_eq!(told(&mut Watch::resume_after([], *before.state()), &[&own[80]]), "81");
    assert_eq!(told(&mut Watch::resume_after(known, DeviceState::default()), &[&own[80]]), "81");
}
