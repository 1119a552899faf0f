//! One signed message of a device: COSE_Sign1 (RFC 9052) with ed25519 over a SenML pack.
//!
//! The bytes are specified in `spec/frame.md`. A frame has exactly one encoding of its envelope, so that nobody without the
//! key can change its digest.

use crate::{DeviceId, Signal, senml::Pack};
use coset::{
    CoseSign1, CoseSign1Builder, HeaderBuilder, RegisteredLabel, RegisteredLabelWithPrivate, TaggedCborSerializable,
    iana::{Algorithm, CoapContentFormat},
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use record::{Digest, TimeMs, sha256};

/// The longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The previous digest of a device's first frame.
pub const NO_PREVIOUS: Digest = Digest([0; 32]);

/// Why bytes are no frame. The sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// More bytes than a frame may have.
    #[error("a frame of {got} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLarge {
        /// How many bytes came.
        got: usize,
    },
    /// The payload came without an envelope, or the envelope without a signature.
    #[error("the frame is not signed")]
    Unsigned,
    /// The bytes break a rule of the format.
    #[error("the frame is malformed: {0}")]
    Malformed(&'static str),
}

/// A frame whose form is right. Whether its signature is, [`Frame::is_signed_by`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    // INVARIANT: `bytes` is the encoding of `pack` under `signature`, `to_be_signed` what the signature is over.
    bytes: Vec<u8>,
    digest: Digest,
    pack: Pack,
    signature: [u8; 64],
    to_be_signed: Vec<u8>,
}

impl Frame {
    /// Signs `pack` with the device's key.
    pub fn sign(pack: Pack, key: &SigningKey) -> Result<Self, BadFrame> {
        let payload = pack.encode().map_err(BadFrame::Malformed)?;
        let envelope = envelope(&pack, payload);
        let sign1 = envelope.create_signature(&[], |message| key.sign(message).to_bytes().to_vec()).build();
        let bytes = sign1.to_tagged_vec().map_err(|_| BadFrame::Malformed("the envelope cannot be written"))?;
        Self::decode(&bytes)
    }

    /// The bytes of a frame that says this and has this signature; nothing where no frame says it. Checks no signature.
    pub(crate) fn assemble(pack: &Pack, signature: &[u8; 64]) -> Option<Vec<u8>> {
        let payload = pack.encode().ok()?;
        envelope(pack, payload).signature(signature.to_vec()).build().to_tagged_vec().ok()
    }

    /// Reads a frame. Checks its form and bounds, not its signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadFrame> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(BadFrame::TooLarge { got: bytes.len() });
        }
        // A CBOR array of maps is a bare SenML pack.
        if matches!(bytes, [0x80..=0x9b, 0xa0..=0xbf, ..] | [0x98..=0x9b, _, 0xa0..=0xbf, ..]) {
            return Err(BadFrame::Unsigned);
        }
        let sign1 = CoseSign1::from_tagged_slice(bytes).map_err(|_| BadFrame::Malformed("not a tagged COSE_Sign1"))?;
        let signature: [u8; 64] = match sign1.signature.as_slice() {
            [] => return Err(BadFrame::Unsigned),
            signature => signature.try_into().map_err(|_| BadFrame::Malformed("an ed25519 signature has 64 bytes"))?,
        };
        let device = check_headers(&sign1)?;
        let payload = sign1.payload.as_deref().ok_or(BadFrame::Malformed("the payload is not detached"))?;
        let pack = Pack::decode(payload).map_err(BadFrame::Malformed)?;
        if pack.device != device {
            return Err(BadFrame::Malformed("the base name is that of the key id"));
        }
        let to_be_signed = sign1.tbs_data(&[]);
        if sign1.to_tagged_vec().ok().as_deref() != Some(bytes) {
            return Err(BadFrame::Malformed("the envelope is not in its shortest form"));
        }
        Ok(Self { bytes: bytes.to_vec(), digest: sha256(&[bytes]), pack, signature, to_be_signed })
    }

    /// Cuts a CBOR sequence (RFC 8742) of at most `most` frames into its frames. Reads none of them.
    pub fn split(bytes: &[u8], most: usize) -> Result<Vec<&[u8]>, BadFrame> {
        let mut frames = Vec::new();
        let mut left = bytes;
        while !left.is_empty() {
            if frames.len() == most {
                return Err(BadFrame::Malformed("the sequence has more frames than are taken together"));
            }
            let mut decoder = minicbor::Decoder::new(left);
            let end = decoder.skip().ok().map(|()| decoder.position());
            let (frame, rest) = end
                .and_then(|end| left.split_at_checked(end))
                .filter(|(frame, _)| !frame.is_empty())
                .ok_or(BadFrame::Malformed("not a sequence of CBOR items"))?;
            frames.push(frame);
            left = rest;
        }
        Ok(frames)
    }

    /// Whether the holder of `key` signed the frame (RFC 8032, strict: one signature per message and key).
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.verify_strict(&self.to_be_signed, &Signature::from_bytes(&self.signature)).is_ok()
    }

    /// What the signature is over.
    pub(crate) fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The frame as it was received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// SHA-256 of [`Frame::bytes`].
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// The device that the frame says it is from.
    pub fn device(&self) -> &DeviceId {
        &self.pack.device
    }
    /// The frame's place in the device's sequence.
    pub fn counter(&self) -> u64 {
        self.pack.counter
    }
    /// The digest of the frame before.
    pub fn previous(&self) -> Digest {
        self.pack.previous
    }
    /// The device's clock at the beginning of the frame.
    pub fn device_time(&self) -> TimeMs {
        self.pack.device_time
    }
    /// What was measured.
    pub fn signals(&self) -> &[Signal] {
        &self.pack.signals
    }
    /// The ed25519 signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }
    /// All that was signed.
    pub(crate) fn pack(&self) -> &Pack {
        &self.pack
    }
    /// All that was signed.
    pub fn into_pack(self) -> Pack {
        self.pack
    }
}

/// An envelope that lacks its signature.
fn envelope(pack: &Pack, payload: Vec<u8>) -> CoseSign1Builder {
    let protected = HeaderBuilder::new()
        .algorithm(Algorithm::EdDSA)
        .content_format(CoapContentFormat::SenmlCbor)
        .key_id(pack.device.as_str().as_bytes().to_vec())
        .build();
    CoseSign1Builder::new().protected(protected).payload(payload)
}

fn check_headers(sign1: &CoseSign1) -> Result<DeviceId, BadFrame> {
    if !sign1.unprotected.is_empty() {
        return Err(BadFrame::Malformed("every header is protected"));
    }
    let header = &sign1.protected.header;
    if header.alg != Some(RegisteredLabelWithPrivate::Assigned(Algorithm::EdDSA)) {
        return Err(BadFrame::Malformed("the algorithm is EdDSA, -8"));
    }
    if header.content_type != Some(RegisteredLabel::Assigned(CoapContentFormat::SenmlCbor)) {
        return Err(BadFrame::Malformed("the content type is application/senml+cbor, 112"));
    }
    let bare = header.crit.is_empty()
        && header.iv.is_empty()
        && header.partial_iv.is_empty()
        && header.counter_signatures.is_empty()
        && header.rest.is_empty();
    if !bare {
        return Err(BadFrame::Malformed("the headers are algorithm, content type and key id"));
    }
    std::str::from_utf8(&header.key_id)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(BadFrame::Malformed("the key id is a device's name"))
}

/// A device's side of the sequence: numbers its frames, links and signs them.
#[derive(Debug)]
pub struct Sequence {
    device: DeviceId,
    key: SigningKey,
    counter: u64,
    previous: Digest,
}

impl Sequence {
    /// The sequence of a device that has sent nothing yet.
    pub fn new(device: DeviceId, key: SigningKey) -> Self {
        Self { device, key, counter: 0, previous: NO_PREVIOUS }
    }

    /// The sequence of a device whose last frame had this counter and digest.
    pub fn resume(device: DeviceId, key: SigningKey, counter: u64, previous: Digest) -> Self {
        Self { device, key, counter, previous }
    }

    /// The device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The counter of the last frame; 0 before the first.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// The digest of the last frame; zeros before the first.
    pub fn previous(&self) -> Digest {
        self.previous
    }

    /// Signs the next frame. After an error the sequence is where it was.
    pub fn next(&mut self, device_time: TimeMs, signals: Vec<Signal>) -> Result<Frame, BadFrame> {
        let counter = self.counter.checked_add(1).ok_or(BadFrame::Malformed("the counter is used up"))?;
        let pack = Pack { device: self.device.clone(), counter, previous: self.previous, device_time, signals };
        let frame = Frame::sign(pack, &self.key)?;
        self.counter = counter;
        self.previous = frame.digest();
        Ok(frame)
    }
}
