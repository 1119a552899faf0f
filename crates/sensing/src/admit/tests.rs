//! What is admitted and what is not; no bytes make it panic.

use super::*;
use crate::{Absence, Limits, Pack, Samples, Sequence, SigningKey, Waveform};
use expect_test::{Expect, expect};
use proptest::prelude::*;

const START: TimeMs = TimeMs(1_795_255_200_000);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn device() -> DeviceId {
    "urn:dev:ops:32473-monitor-1".parse().unwrap()
}

fn binding() -> Binding {
    Binding {
        device: device(),
        key: key(7).verifying_key(),
        patient: "Patient/1".into(),
        binding: Id16([1; 16]),
        from: START,
        until: Some(START.plus_ms(3_600_000)),
    }
}

fn signals() -> Vec<Signal> {
    let wave = |samples| Waveform {
        unit: "mV".into(),
        rate_hz: Decimal::whole(360),
        origin: Decimal::new(-512, -2).unwrap(),
        scale: Decimal::new(5, -3).unwrap(),
        limits: Limits::NONE,
        samples,
    };
    vec![
        Signal {
            name: "ecg-ii".into(),
            offset_ms: 0,
            value: Value::Waveform(wave(Samples::I16(vec![995, -1, i16::MAX]))),
        },
        Signal { name: "ecg-v5".into(), offset_ms: 2, value: Value::Waveform(wave(Samples::I32(vec![i32::MAX, 7]))) },
        Signal {
            name: "temp-body".into(),
            offset_ms: -20,
            value: Value::Number { unit: "Cel".into(), value: Decimal::new(3660, -2).unwrap() },
        },
        Signal { name: "posture".into(), offset_ms: 0, value: Value::Code("supine".into()) },
        Signal { name: "spo2".into(), offset_ms: 0, value: Value::Absent(Absence::NotPerformed) },
    ]
}

fn pack(counter: u64, previous: Digest) -> Pack {
    Pack { device: device(), counter, previous, device_time: START.plus_ms(counter * 1_000), signals: signals() }
}

fn told(result: &Result<(Reading, DeviceState), Reject>) -> String {
    match result {
        Ok((reading, _)) => match reading.gap {
            Some(gap) => format!("admitted {} after gap {}-{}", reading.counter, gap.first, gap.last),
            None => format!("admitted {}", reading.counter),
        },
        Err(reject) => format!("{}: {reject}", reject.code()),
    }
}

/// Sends the frames of a device in this order and tells what became of each. `3'` is frame 3 made by a holder of a copied key.
fn check(order: &str, expect: Expect) {
    let mut sequence = Sequence::new(device(), key(7));
    let frames: Vec<Frame> = (1..=9).map(|n| sequence.next(START.plus_ms(n * 1_000), signals()).unwrap()).collect();
    let mut state = DeviceState::default();
    let mut out = String::new();
    for step in order.split_whitespace() {
        let counter: usize = step.trim_end_matches('\'').parse().unwrap();
        let mut frame = frames[counter - 1].clone();
        if step.ends_with('\'') {
            let previous = record::sha256(&[b"elsewhere"]);
            frame = Frame::sign(pack(counter as u64, previous), &key(7)).unwrap();
        }
        let result = admit(frame.bytes(), &binding(), &state, frame.device_time().plus_ms(40));
        out += &format!("{}\n", told(&result));
        if let Ok((_, next)) = result {
            state = next;
        }
    }
    expect.assert_eq(&out);
}

#[test]
fn frames_in_order_are_admitted() {
    check(
        "1 2 3",
        expect![[r#"
        admitted 1
        admitted 2
        admitted 3
    "#]],
    );
}

#[test]
fn a_used_counter_is_rejected() {
    check(
        "1 2 2 1 3",
        expect![[r#"
        admitted 1
        admitted 2
        replayed: counter 2 is not above 2 for device `urn:dev:ops:32473-monitor-1`
        replayed: counter 1 is not above 2 for device `urn:dev:ops:32473-monitor-1`
        admitted 3
    "#]],
    );
}

#[test]
fn a_gap_is_recorded_and_the_sequence_goes_on() {
    check(
        "1 4 5 9",
        expect![[r#"
        admitted 1
        admitted 4 after gap 2-3
        admitted 5
        admitted 9 after gap 6-8
    "#]],
    );
}

#[test]
fn a_copied_key_is_noticed() {
    check(
        "1 2 2' 3' 3",
        expect![[r#"
        admitted 1
        admitted 2
        cloned: device `urn:dev:ops:32473-monitor-1` signed two frames with counter 2
        chain-broken: frame 3 of device `urn:dev:ops:32473-monitor-1` does not follow the frame before it
        admitted 3
    "#]],
    );
}

#[test]
fn a_first_frame_names_no_previous_one() {
    check(
        "1'",
        expect![[r#"
        chain-broken: frame 1 of device `urn:dev:ops:32473-monitor-1` does not follow the frame before it
    "#]],
    );
}

fn one(frame: &Frame, binding: &Binding, received_at: TimeMs) -> Result<(Reading, DeviceState), Reject> {
    admit(frame.bytes(), binding, &DeviceState::default(), received_at)
}

#[test]
fn what_was_sent_comes_back_exactly() {
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
    let (reading, state) = one(&frame, &binding(), START.plus_ms(1_250)).unwrap();
    assert_eq!(reading.signals, signals());
    assert_eq!(reading.clock_offset_ms, -250);
    assert_eq!(reading.doubts, [(0, Doubt::Implausible), (1, Doubt::Implausible)]);
    assert_eq!(
        state,
        DeviceState { last_counter: 1, last_digest: frame.digest(), last_device_time: START.plus_ms(1_000) }
    );
}

#[test]
fn unknown_signals_and_codes_are_kept_and_marked() {
    let named = |signal: &Signal, name: &str| Signal { name: name.into(), ..signal.clone() };
    let code = Signal { value: Value::Code("hovering".into()), ..signals()[3].clone() };
    let sent = vec![named(&signals()[0], "eeg-c3"), named(&signals()[2], "lactate"), code];
    let frame = Frame::sign(Pack { signals: sent.clone(), ..pack(1, NO_PREVIOUS) }, &key(7)).unwrap();
    let (reading, _) = one(&frame, &binding(), START.plus_ms(1_000)).unwrap();
    assert_eq!(reading.signals, sent);
    assert_eq!(reading.doubts, [(0, Doubt::UnknownSignal), (1, Doubt::UnknownSignal), (2, Doubt::UnknownCode)]);
}

#[test]
fn the_ends_of_what_can_be_measured_come_back_and_hold_every_sample() {
    let with = |low, high| {
        let mut pack = pack(1, NO_PREVIOUS);
        let Value::Waveform(wave) = &mut pack.signals[0].value else { panic!() };
        wave.limits = Limits { low, high };
        Frame::sign(pack, &key(7)).map(|frame| frame.into_pack().signals[0].clone())
    };
    for (low, high) in [(Some(-1), Some(32_767)), (Some(-5_000), None), (None, Some(40_000)), (None, None)] {
        let Value::Waveform(wave) = with(low, high).unwrap().value else { panic!() };
        assert_eq!(wave.limits, Limits { low, high });
    }
    let bad = Err(BadFrame::Malformed("a waveform's samples lie within its limits, low before high"));
    assert_eq!(with(Some(0), None), bad);
    assert_eq!(with(None, Some(32_766)), bad);
    assert_eq!(with(Some(40_000), Some(-40_000)), bad);
}

#[test]
fn a_foreign_signature_is_rejected_before_anything_else() {
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(8)).unwrap();
    assert_eq!(one(&frame, &binding(), TimeMs(0)), Err(Reject::BadSignature { device: device() }));
}

#[test]
fn a_device_without_a_binding_is_rejected() {
    let other = Binding { device: "urn:dev:ops:32473-monitor-2".parse().unwrap(), ..binding() };
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
    assert_eq!(one(&frame, &other, START), Err(Reject::UnknownDevice { device: device() }));
}

#[test]
fn times_outside_the_binding_are_rejected() {
    let sign = |at| Frame::sign(Pack { device_time: at, ..pack(1, NO_PREVIOUS) }, &key(7)).unwrap();
    let end = START.plus_ms(3_600_000);
    for (at, inside) in [(TimeMs(START.0 - 1), false), (START, true), (TimeMs(end.0 - 1), true), (end, false)] {
        let result = one(&sign(at), &binding(), at);
        let expected = (!inside).then(|| Reject::OutsideBinding { device: device(), at });
        assert_eq!(result.err(), expected, "{at}");
    }
}

#[test]
fn clocks_are_bounded_both_ways() {
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
    let at = frame.device_time();
    assert!(one(&frame, &binding(), TimeMs(at.0 - CLOCK_AHEAD_MS_MAX)).is_ok());
    assert!(one(&frame, &binding(), at.plus_ms(CLOCK_BEHIND_MS_MAX)).is_ok());
    let far = |offset_ms| Err(Reject::ClockTooFar { device: device(), offset_ms });
    assert_eq!(one(&frame, &binding(), TimeMs(at.0 - CLOCK_AHEAD_MS_MAX - 1)), far(60_001));
    assert_eq!(one(&frame, &binding(), at.plus_ms(CLOCK_BEHIND_MS_MAX + 1)), far(-86_400_001));
}

#[test]
fn bare_and_empty_messages_say_what_they_lack() {
    let reject = |bytes: &[u8]| admit(bytes, &binding(), &DeviceState::default(), START).unwrap_err();
    // [{0: "spo2", 2: 97}]: SenML as a device without a key would send it.
    assert_eq!(reject(&[0x81, 0xa2, 0x00, 0x64, b's', b'p', b'o', b'2', 0x02, 0x18, 0x61]), Reject::Unsigned);
    // 18([h'', {}, h'', h''])
    assert_eq!(reject(&[0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40]), Reject::Unsigned);
    assert_eq!(reject(&[]), Reject::Malformed("not a tagged COSE_Sign1"));
    assert_eq!(reject(&vec![0; crate::FRAME_BYTES_MAX + 1]), Reject::TooLarge { got: crate::FRAME_BYTES_MAX + 1 });
}

#[test]
fn an_envelope_has_one_encoding() {
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
    // The same four elements under a longer array header: COSE reads them alike, the digest would differ.
    let mut longer = vec![0xd2, 0x98, 0x04];
    longer.extend_from_slice(&frame.bytes()[2..]);
    assert_eq!(Frame::decode(&longer), Err(BadFrame::Malformed("the envelope is not in its shortest form")));
}

#[test]
fn packs_that_break_a_bound_are_not_signed() {
    let sign = |change: &dyn Fn(&mut Pack)| {
        let mut pack = pack(1, NO_PREVIOUS);
        change(&mut pack);
        Frame::sign(pack, &key(7)).unwrap_err().to_string()
    };
    let wave = |n| Waveform {
        unit: "mV".into(),
        rate_hz: Decimal::ONE,
        origin: Decimal::ZERO,
        scale: Decimal::ONE,
        limits: Limits::NONE,
        samples: Samples::I16(vec![0; n]),
    };
    let said = [
        sign(&|p| p.counter = 0),
        sign(&|p| p.device_time = TimeMs(1)),
        sign(&|p| p.signals[0].name = "Ecg".into()),
        sign(&|p| p.signals[0].name = "counter".into()),
        sign(&|p| p.signals[3].value = Value::Code(String::new())),
        sign(&|p| p.signals[0].offset_ms = 600_001),
        sign(&|p| p.signals = vec![p.signals[3].clone(); 65]),
        sign(&|p| p.signals[0].value = Value::Waveform(wave(32_001))),
        sign(&|p| p.signals[0].value = Value::Waveform(wave(0))),
    ]
    .join("\n");
    expect![[r#"
        the frame is malformed: counters start at 1
        the frame is malformed: the device time is an absolute time
        the frame is malformed: a signal's name has 1 to 48 of `a-z 0-9 - .` and is not the frame's own
        the frame is malformed: a signal's name has 1 to 48 of `a-z 0-9 - .` and is not the frame's own
        the frame is malformed: a unit or code has 1 to 64 visible ASCII characters
        the frame is malformed: a signal's time is within ten minutes of its frame's
        the frame is malformed: a frame has at most 64 signals
        the frame is malformed: a frame has at most 32000 samples
        the frame is malformed: a waveform has samples"#]]
    .assert_eq(&said);
}

/// The vector in `spec/frame.md`; a change of it is a change of format.
#[test]
fn the_published_vector_holds() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let frame = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
    let text = format!("{}\ndigest {}\n", hex(frame.bytes()), frame.digest());
    expect![[r#"
        d2845824a3012703187004581b75726e3a6465763a6f70733a33323437332d6d6f6e69746f722d31a05901858ea421781c75726e3a6465763a6f70733a33323437332d6d6f6e69746f722d313a22c482221b000001a1fd8c6ce80067636f756e7465720201a2006870726576696f75730858200000000000000000000000000000000000000000000000000000000000000000a3006b6563672d69692f726174650162487a02190168a3006c6563672d69692f7363616c6501626d5602c4822205a3006d6563672d69692f6f726967696e01626d5602c482213901ffa200666563672d69690846e303ffffff7fa3006b6563672d76352f726174650162487a02190168a3006c6563672d76352f7363616c6501626d5602c4822205a3006d6563672d76352f6f726967696e01626d5602c482213901ffa3006c6563672d76352f77696474680163626974021820a300666563672d76350848ffffff7f0700000006c4822202a4006974656d702d626f6479016343656c02c48221190e4c06c4822233a20067706f73747572650366737570696e65a2006b73706f322f616273656e74036d6e6f742d706572666f726d656458401499f16b909ffec0abc977ae65bf62bb9c769c46cb69cd73b7c56d4730ece0535f6f9f148e909b1d06e56cb4856d80408dfe4c93993a891652bf825beef21807
        digest ae9a370431a2dc20b6e0582bac80a6239200a3a765ecf410726cd57ddd6b33fb
    "#]].assert_eq(&text);
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    proptest::collection::vec(mutation, 0..6).prop_map(|mutations| {
        let mut bytes = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap().bytes().to_vec();
        for (at, byte, kind) in mutations {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_changed_frame_is_never_admitted(bytes in any_frame()) {
        let sent = Frame::sign(pack(1, NO_PREVIOUS), &key(7)).unwrap();
        let result = admit(&bytes, &binding(), &DeviceState::default(), START.plus_ms(1_000));
        prop_assert_eq!(result.is_ok(), bytes == sent.bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&bytes);
        let mut tagged = vec![0xd2, 0x84];
        tagged.extend_from_slice(&bytes);
        let _ = Frame::decode(&tagged);
    }

    #[test]
    fn arbitrary_payloads_never_panic(mutated in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let mut payload = pack(1, NO_PREVIOUS).encode().unwrap();
        for (at, byte) in mutated {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        // Whatever still reads as a pack is written and read again as itself.
        if let Ok(read) = Pack::decode(&payload) {
            let written = read.encode().unwrap();
            prop_assert_eq!(Pack::decode(&written), Ok(read));
        }
    }
}

/// Seconds that this thread was on a processor, so that what else the machine does counts little; elsewhere than on Linux, seconds.
fn busy_s() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns: Option<f64> = told.and_then(|text| text.split(' ').next()?.parse().ok());
    let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    ns.map_or_else(since, |ns| ns / 1e9)
}

#[test]
fn admission_speed_is_printed() {
    let bound = Binding { until: None, ..binding() };
    let (frames, samples) = (4_096u64, 500);
    let mut sequence = Sequence::new(device(), key(7));
    let wave = Value::Waveform(Waveform {
        unit: "mV".into(),
        rate_hz: Decimal::whole(500),
        origin: Decimal::ZERO,
        scale: Decimal::new(5, -3).unwrap(),
        limits: Limits::NONE,
        samples: Samples::I16((0..samples).map(|n| (n % 100) as i16).collect()),
    });
    let signals = vec![Signal { name: "ecg-ii".into(), offset_ms: 0, value: wave }];
    let sent: Vec<Frame> =
        (1..=frames).map(|n| sequence.next(START.plus_ms(n * 1_000), signals.clone()).unwrap()).collect();
    let began = busy_s();
    for frame in &sent {
        Frame::decode(frame.bytes()).unwrap();
    }
    let decoded_s = busy_s() - began;
    let mut state = DeviceState::default();
    let began = busy_s();
    for frame in &sent {
        state = admit(frame.bytes(), &bound, &state, frame.device_time()).unwrap().1;
    }
    let admitted_s = busy_s() - began;
    let mut state = DeviceState::default();
    let began = busy_s();
    let decoded = sent.iter().map(|frame| (Frame::decode(frame.bytes()).unwrap(), bound.key));
    for signed in Signed::all(decoded.collect()) {
        let signed = signed.unwrap();
        let received_at = signed.frame().device_time();
        state = admit_signed(signed, &bound, &state, received_at).unwrap().1;
    }
    let together_s = busy_s() - began;
    println!(
        "{} bytes a frame of {samples} samples: decoded {:.0}/s, admitted {:.0}/s one by one, {:.0}/s in batches",
        sent[0].bytes().len(),
        frames as f64 / decoded_s,
        frames as f64 / admitted_s,
        frames as f64 / together_s
    );
}
