//! Every frame comes back to the byte, whatever it is, and damage never panics.

use super::*;
use crate::{
    Sequence, SigningKey,
    generated::{Story, Wearer},
};
use proptest::prelude::*;

const START: TimeMs = TimeMs(1_795_255_200_000);

fn sequence() -> Sequence {
    Sequence::new("urn:dev:ops:32473-monitor-1".parse().unwrap(), SigningKey::from_bytes(&[7; 32]))
}

/// Frames of a made-up person, a second each.
fn frames(count: u64) -> Vec<Vec<u8>> {
    let (mut sequence, mut wearer) = (sequence(), Wearer::new(1, Story::Stable, 250));
    let second =
        |n: u64| sequence.next(START.plus_ms(n * 1_000), wearer.next_second().signals).unwrap().bytes().to_vec();
    (0..count).map(second).collect()
}

fn packed(frames: &[Vec<u8>]) -> Vec<u8> {
    pack(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

#[test]
fn frames_come_back_to_the_byte_and_take_half_and_less() {
    let sent = frames(120);
    let packed = packed(&sent);
    assert_eq!(unpack(&packed).unwrap(), sent);
    let before: usize = sent.iter().map(Vec::len).sum();
    let timed = |what: &dyn Fn()| {
        let began = std::time::Instant::now();
        what();
        began.elapsed().as_secs_f64()
    };
    let slices: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    let (pack_s, unpack_s) = (timed(&|| drop(pack(&slices).unwrap())), timed(&|| drop(unpack(&packed).unwrap())));
    println!(
        "seed 1: {before} bytes become {}; packed {:.0}, unpacked {:.0} frames a second",
        packed.len(),
        sent.len() as f64 / pack_s,
        sent.len() as f64 / unpack_s
    );
    assert!(packed.len() * 2 < before);
}

#[test]
fn what_we_would_write_otherwise_is_kept_as_it_is() {
    // A whole number as a binary float, as other devices write it: signed bytes that our encoding does not give.
    let sent = frames(3);
    let mut foreign = sent[1].clone();
    let at = foreign.len() - 70;
    foreign[at] ^= 1;
    for odd in [vec![], vec![0xd2], foreign] {
        let mixed = vec![sent[0].clone(), odd, sent[2].clone()];
        assert_eq!(unpack(&packed(&mixed)).unwrap(), mixed);
    }
    assert_eq!(pack(&[&vec![0; FRAME_BYTES_MAX + 1]]), Err(TooMany(1)));
}

#[test]
fn bytes_of_another_version_or_length_are_refused() {
    let good = packed(&frames(2));
    let mut other = good.clone();
    other[0] = 2;
    assert_eq!(unpack(&other), Err(Bad::Version(2)));
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(unpack(&longer), Err(Bad::Long));
    assert_eq!(unpack(&good[..good.len() - 1]), Err(Bad::Short));
    assert_eq!(unpack(&[]), Err(Bad::Short));
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let samples = prop_oneof![
        proptest::collection::vec(any::<i16>(), 1..200).prop_map(Samples::I16),
        proptest::collection::vec(-40i16..40, 1..200).prop_map(Samples::I16),
        proptest::collection::vec(any::<i32>(), 1..200).prop_map(Samples::I32),
    ];
    let decimal = (-999_999_999_999_999i64..=999_999_999_999_999, -18i8..=9);
    let value = prop_oneof![
        decimal.prop_map(|(m, e)| Value::Number { unit: "mV".into(), value: Decimal::new(m, e).unwrap() }),
        (-1e3f64..1e3)
            .prop_filter_map("a float of few digits", Decimal::from_f64)
            .prop_map(|value| Value::Number { unit: "%".into(), value }),
        "[a-z]{1,9}".prop_map(Value::Code),
        (0usize..4).prop_map(|at| Value::Absent(Absence::ALL[at])),
        (samples, 1i64..100_000, -5_000i64..5_000).prop_map(|(samples, rate, origin)| {
            Value::Waveform(Waveform {
                unit: "mV".into(),
                rate_hz: Decimal::new(rate, -1).unwrap(),
                origin: Decimal::new(origin, -3).unwrap(),
                scale: Decimal::new(5, -3).unwrap(),
                limits: Limits::NONE,
                samples,
            })
        }),
    ];
    ("[a-e]", -600_000i64..=600_000, value).prop_map(|(name, offset_ms, value)| Signal { name, offset_ms, value })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_frames_come_back_to_the_byte(plan in proptest::collection::vec((0u64..10_000_000, proptest::collection::vec(any_signal(), 0..6)), 1..8)) {
        let mut sequence = sequence();
        let mut now = START;
        let mut sent = Vec::new();
        for (step, signals) in plan {
            now = now.plus_ms(step);
            if let Ok(frame) = sequence.next(now, signals) {
                sent.push(frame.bytes().to_vec());
            }
        }
        let packed = packed(&sent);
        prop_assert_eq!(unpack(&packed).unwrap(), sent);
    }

    #[test]
    fn damaged_bytes_never_panic(mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = packed(&frames(2));
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = unpack(&bytes);
        let _ = unpack(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn arbitrary_packed_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = unpack(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = VERSION as u8;
        }
        let _ = unpack(&bytes);
    }
}
