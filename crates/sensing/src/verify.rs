//! Which frames their devices signed: many at once, and one by one where that fails.
//!
//! Signatures are checked in batches (Bernstein, Duif, Lange, Schwabe, Yang, J Cryptogr Eng 2012;2:77, section 5), which takes less
//! than half the time. What a batch of honest signatures passes, single checks pass, and nobody without a device's key gets past
//! either. The two part in one case: whoever holds a key can sign with an `R` that has a part of small order beside its whole;
//! a batch lets that pass by chance, in one case of two at most, and a single check never.

use crate::{DeviceId, Frame, Reject};
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, VerifyingKey, verify_batch};

/// How many signatures are checked together. More gain little, and one that is forged makes all of them be checked singly.
const BATCH: usize = 256;

/// A frame that the holder of a key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    // INVARIANT: `frame` is signed under `key`.
    frame: Frame,
    key: VerifyingKey,
}

impl Signed {
    /// Checks one frame.
    pub fn one(frame: Frame, key: &VerifyingKey) -> Result<Self, Reject> {
        if frame.is_signed_by(key) { Ok(Self { frame, key: *key }) } else { Err(unfit(frame.device())) }
    }

    /// Checks many frames, each with the key it should be signed with; the answers are in the frames' order.
    pub fn all(frames: Vec<(Frame, VerifyingKey)>) -> Vec<Result<Self, Reject>> {
        let mut good = Vec::with_capacity(frames.len());
        for batch in frames.chunks(BATCH) {
            if are_signed(batch) {
                good.resize(good.len() + batch.len(), true);
            } else {
                good.extend(batch.iter().map(|(frame, key)| frame.is_signed_by(key)));
            }
        }
        let judged = frames.into_iter().zip(good);
        judged
            .map(|((frame, key), good)| if good { Ok(Self { frame, key }) } else { Err(unfit(frame.device())) })
            .collect()
    }

    /// The frame.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The key it is signed with.
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The frame, without the key.
    pub fn into_frame(self) -> Frame {
        self.frame
    }
}

fn unfit(device: &DeviceId) -> Reject {
    Reject::BadSignature { device: device.clone() }
}

fn are_signed(batch: &[(Frame, VerifyingKey)]) -> bool {
    // What a single check refuses before it looks at the equation.
    let small = small_orders();
    let strict = |(frame, key): &(Frame, VerifyingKey)| {
        !key.is_weak() && !small.iter().any(|small| *small == without_sign(frame.signature()))
    };
    if !batch.iter().all(strict) {
        return false;
    }
    let messages: Vec<&[u8]> = batch.iter().map(|(frame, _)| frame.to_be_signed()).collect();
    let signatures: Vec<Signature> = batch.iter().map(|(frame, _)| Signature::from_bytes(frame.signature())).collect();
    let keys: Vec<VerifyingKey> = batch.iter().map(|(_, key)| *key).collect();
    verify_batch(&messages, &signatures, &keys).is_ok()
}

/// The encodings of the points of small order, without the bit that tells `x` from `-x`: those that are reduced, and the two that
/// are not, `p` for 0 and `p + 1` for 1.
fn small_orders() -> [[u8; 32]; 10] {
    let mut all = [[0xff; 32]; 10];
    for (point, out) in EIGHT_TORSION.iter().zip(&mut all) {
        *out = without_sign(point.compress().as_bytes());
    }
    for (p, low) in all.iter_mut().skip(EIGHT_TORSION.len()).zip([0xed, 0xee]) {
        (p[0], p[31]) = (low, 0x7f);
    }
    all
}

/// The first 32 bytes without their highest bit.
fn without_sign(bytes: &[u8]) -> [u8; 32] {
    let mut y = [0; 32];
    y.iter_mut().zip(bytes).for_each(|(y, byte)| *y = *byte);
    y[31] &= 0x7f;
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NO_PREVIOUS, Pack, SigningKey};
    use curve25519_dalek::scalar::Scalar;
    use proptest::prelude::*;
    use record::TimeMs;
    use sha2::{Digest as _, Sha512};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn frame(counter: u64, by: &SigningKey) -> Frame {
        let device = "urn:dev:ops:32473-monitor-1".parse().unwrap();
        let device_time = TimeMs(1_795_255_200_000 + counter * 1_000);
        Frame::sign(Pack { device, counter, previous: NO_PREVIOUS, device_time, signals: vec![] }, by).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_guilty_frames_of_a_batch_are_found_and_no_others(forged in proptest::collection::vec(prop::bool::weighted(0.02), 1..300)) {
            let frames = forged.iter().zip(1..).map(|(&forged, n)| (frame(n, &key(if forged { 9 } else { n as u8 % 4 })), key(n as u8 % 4).verifying_key()));
            let checked = Signed::all(frames.collect());
            let refused: Vec<bool> = checked.iter().map(Result::is_err).collect();
            prop_assert_eq!(refused, forged);
        }
    }

    /// Nobody needs to know the message for this one: `R` is the neutral point, `S` the challenge times the key.
    #[test]
    fn an_r_of_small_order_passes_no_batch() {
        let (by, honest) = (key(7), frame(1, &key(7)));
        let mut signature = [0u8; 64];
        signature[0] = 1;
        let mut hash = Sha512::new();
        hash.update(&signature[..32]);
        hash.update(by.verifying_key().as_bytes());
        hash.update(honest.to_be_signed());
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        signature[32..].copy_from_slice((challenge * by.to_scalar()).as_bytes());
        let mut bytes = honest.bytes().to_vec();
        let at = bytes.len() - 64;
        bytes[at..].copy_from_slice(&signature);
        let made = Frame::decode(&bytes).unwrap();
        let messages = [made.to_be_signed()];
        assert!(verify_batch(&messages, &[Signature::from_bytes(&signature)], &[by.verifying_key()]).is_ok());
        let checked = Signed::all(vec![(honest.clone(), by.verifying_key()), (made, by.verifying_key())]);
        assert_eq!(checked[0], Signed::one(honest, &by.verifying_key()));
        assert!(checked[1].is_err());
    }
}
