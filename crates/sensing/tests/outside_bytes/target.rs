//! What a fuzzer tries: bytes as frames, as what a device signs, as recordings, and as frames from the store.
//!
//! An ordinary test runs it on a bounded number of inputs; `fuzz/` runs it for as long as one likes.

use coset::{
    CoseSign1Builder, HeaderBuilder, TaggedCborSerializable,
    iana::{Algorithm, CoapContentFormat},
};
use ed25519_dalek::Signer as _;
use record::{Id16, TimeMs};
use sensing::{
    Binding, FRAME_BYTES_MAX, Frame, Signed, SigningKey, Watch,
    compact::{pack, unpack},
    observation::{Context, observations},
    wfdb::{Header, Recording, annotations},
};
use std::sync::LazyLock;

/// The device that everything is signed for.
pub(crate) const DEVICE: &str = "urn:dev:ops:32473-monitor-1";
/// When everything comes.
pub(crate) const NOW: TimeMs = TimeMs(1_795_255_201_000);

/// The device's key, made once: it costs as much as a signature.
pub(crate) fn key() -> &'static SigningKey {
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));
    &KEY
}

/// Tries one input; how often it was admitted.
pub(crate) fn attempt(bytes: &[u8]) -> usize {
    record(bytes);
    stored(bytes);
    usize::from(admit(bytes)) + usize::from(admit(&enveloped(bytes)))
}

/// The envelope that a device puts around a payload, whatever that is.
#[expect(clippy::expect_used, reason = "plain bytes make an envelope")]
pub(crate) fn enveloped(payload: &[u8]) -> Vec<u8> {
    let protected = HeaderBuilder::new()
        .algorithm(Algorithm::EdDSA)
        .content_format(CoapContentFormat::SenmlCbor)
        .key_id(DEVICE.as_bytes().to_vec())
        .build();
    let sign1 = CoseSign1Builder::new()
        .protected(protected)
        .payload(payload.to_vec())
        .create_signature(&[], |message| key().sign(message).to_bytes().to_vec())
        .build();
    sign1.to_tagged_vec().expect("an envelope can be written")
}

/// Admits, shows and signs again what reads as a frame; whether it was admitted.
#[expect(clippy::expect_used, reason = "a failure is what is looked for")]
fn admit(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::decode(bytes) else { return false };
    assert_eq!(frame.bytes(), bytes, "a frame is kept as it came");
    let (device, time) = (frame.device().clone(), frame.device_time());
    let again = Frame::sign(frame.clone().into_pack(), key()).expect("what was read can be written");
    assert_eq!(again.clone().into_pack(), frame.clone().into_pack(), "what was written reads as what was read");
    let binding = Binding {
        device,
        key: key().verifying_key(),
        patient: "Patient/1".to_owned(),
        binding: Id16([1; 16]),
        from: TimeMs(0),
        until: None,
    };
    let mut watch = Watch::default();
    let pair = [(frame.clone(), binding.key), (again, binding.key)];
    let mut checked = Signed::all(pair.into());
    let second = checked.pop().and_then(Result::ok).expect("what the key signed is signed by it");
    let _ = watch.admit(second, &binding, NOW).map(|(_, next)| watch.stored(next));
    let first = checked.pop().and_then(Result::ok);
    assert_eq!(first.is_some(), frame.is_signed_by(&binding.key), "a batch judges as a single check does");
    let Some((reading, _)) = first.and_then(|signed| Watch::default().admit(signed, &binding, time).ok()) else {
        return false;
    };
    let shown = observations(&reading, &Context::default());
    assert!(shown.len() <= reading.signals.len());
    true
}

/// Bytes as a header with its signals, and as annotations.
fn record(bytes: &[u8]) {
    let _ = annotations(bytes);
    let line = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (head, samples) = bytes.split_at(line);
    if let Ok(header) = Header::parse(head) {
        let _ = Recording::read(header, |_| Some(samples));
    }
}

/// Bytes as frames that were packed for storage, and as a frame to be packed.
#[expect(clippy::expect_used, reason = "a failure is what is looked for")]
fn stored(bytes: &[u8]) {
    if let Ok(frames) = unpack(bytes) {
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let packed = pack(&slices).expect("what was unpacked can be packed");
        assert_eq!(unpack(&packed).as_ref(), Ok(&frames), "frames come back to the byte");
    }
    if bytes.len() < FRAME_BYTES_MAX / 2 {
        let frames = [bytes.to_vec(), enveloped(bytes), bytes.to_vec()];
        let packed = pack(&frames.each_ref().map(Vec::as_slice)).expect("frames of a bounded length can be packed");
        assert_eq!(unpack(&packed).as_deref(), Ok(&frames[..]), "frames come back to the byte");
    }
}
