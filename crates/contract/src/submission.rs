//! A submission: consecutive entries of one organisation's lane under one signature.

use crate::{Entry, FormatError, PublicKey, entry::ENTRY_BYTES_MAX, from_cbor, to_cbor};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use record::{Digest, OrgId, sha256};
use std::{ops::Deref, sync::Arc};

/// The most entries of one submission.
pub const ENTRIES_MAX: usize = 256;
/// The longest signed submission, in bytes.
pub const SUBMISSION_BYTES_MAX: usize = 512 * 1024;

/// Room for all but the entries of an encoding, and for an entry of usual length, so that encoding rarely moves.
const ENCODED_HEAD_BYTES: usize = 256;
const ENTRY_BYTES: usize = 400;

const SUBMISSION_DOMAIN: &[u8] = b"vitaltrace/submission/1\0";

/// Entries `first_seq, first_seq + 1, ...` of a lane of an organisation. A gateway has a lane of its own, so that lanes never wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, Decode)]
#[cbor(array)]
pub struct Submission {
    /// Genesis id of the chain that it is meant for.
    #[n(0)]
    pub chain: Digest,
    /// The signing organisation; the same in every entry.
    #[n(1)]
    pub org: OrgId,
    /// The lane.
    #[n(2)]
    pub lane: u32,
    /// Sequence number of the first entry; a lane begins with 1.
    #[n(3)]
    pub first_seq: u64,
    /// At least one entry.
    #[n(4)]
    pub entries: Vec<Entry>,
}

/// An ed25519 signature, 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl<C> Encode<C> for Signature {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}
impl<'b, C> Decode<'b, C> for Signature {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.bytes()?.try_into().map(Self).map_err(|_| decode::Error::message("a signature has 64 bytes"))
    }
}

/// A submission with its organisation's signature over SHA-256(domain ‖ encoding).
///
/// It is shared and never changes, so that it is encoded and its digests are computed once, however often they are asked for.
#[derive(Debug, Clone)]
pub struct SignedSubmission(Arc<Signed>);

/// What a [`SignedSubmission`] consists of.
#[derive(Debug)]
pub struct Signed {
    /// What is signed.
    pub submission: Submission,
    /// By the organisation's entry key.
    pub signature: Signature,
    // INVARIANT: all below is of the two above.
    encoded: Vec<u8>,
    digest: Digest,
    entry_digests: Vec<Digest>,
    /// Bytes of the longest entry.
    longest: usize,
}

impl Deref for SignedSubmission {
    type Target = Signed;
    fn deref(&self) -> &Signed {
        &self.0
    }
}
impl PartialEq for SignedSubmission {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}
impl Eq for SignedSubmission {}

/// An array of submission and signature.
impl<C> Encode<C> for SignedSubmission {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.writer_mut().write_all(&self.encoded).map_err(encode::Error::write)
    }
}
impl<'b, C> Decode<'b, C> for SignedSubmission {
    fn decode(d: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        #[derive(Decode)]
        #[cbor(array)]
        struct Parts {
            #[n(0)]
            submission: Submission,
            #[n(1)]
            signature: Signature,
        }
        let Parts { submission, signature } = d.decode_with(context)?;
        Ok(Self::new(submission, signature))
    }
}

/// Why a submission was not admitted. All of these are the submitter's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// Not the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No entries, too many, or an entry too large.
    #[error("a submission has 1 to {ENTRIES_MAX} entries of at most {ENTRY_BYTES_MAX} bytes")]
    Bounds,
    /// Meant for another chain.
    #[error("the submission is for the chain `{got}`")]
    OtherChain {
        /// The chain it names.
        got: Digest,
    },
    /// An entry names another organisation than the submission.
    #[error("an entry names another organisation than the submission's `{org}`")]
    OtherOrg {
        /// The submission's organisation.
        org: OrgId,
    },
    /// The organisation is no member.
    #[error("`{org}` is no member")]
    UnknownOrg {
        /// The organisation named.
        org: OrgId,
    },
    /// The signature does not hold.
    #[error("the signature of `{org}` does not hold")]
    BadSignature {
        /// The organisation named.
        org: OrgId,
    },
}

impl Submission {
    /// Everything before the entries themselves.
    fn encode_head<W: encode::Write>(&self, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
        e.array(5)?.encode(self.chain)?.encode(&self.org)?.u32(self.lane)?.u64(self.first_seq)?;
        e.array(self.entries.len() as u64)?.ok()
    }

    /// What is signed, and what names the submission: SHA-256(domain ‖ encoding).
    pub fn digest(&self) -> Digest {
        sha256(&[SUBMISSION_DOMAIN, &to_cbor(self)])
    }

    /// Sequence number of the last entry.
    pub fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.entries.len() as u64).saturating_sub(1)
    }

    /// Signs the submission.
    pub fn sign(self, key: &SigningKey) -> SignedSubmission {
        let signature = Signature(key.sign(self.digest().as_ref()).to_bytes());
        SignedSubmission::new(self, signature)
    }
}

impl<C> Encode<C> for Submission {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, context: &mut C) -> Result<(), encode::Error<W::Error>> {
        self.encode_head(e)?;
        self.entries.iter().try_for_each(|entry| entry.encode(e, context))
    }
}

impl SignedSubmission {
    /// A submission with what is said to be its signature, which [`SignedSubmission::verify`] checks.
    pub fn new(submission: Submission, signature: Signature) -> Self {
        let mut encoder = Encoder::new(Vec::with_capacity(ENCODED_HEAD_BYTES + submission.entries.len() * ENTRY_BYTES));
        let mut ends = Vec::with_capacity(submission.entries.len());
        let written = encoder.array(2).map(drop).and_then(|()| submission.encode_head(&mut encoder));
        let mut begin = encoder.writer().len();
        let written = written.and_then(|()| {
            submission.entries.iter().try_for_each(|entry| {
                entry.encode(&mut encoder, &mut ())?;
                ends.push(encoder.writer().len());
                Ok(())
            })
        });
        let end = encoder.writer().len();
        let Ok(()) = written.and_then(|()| signature.encode(&mut encoder, &mut ())) else {
            unreachable!("writing to a vector never fails")
        };
        let encoded = encoder.into_writer();
        let mut longest = 0;
        let mut entry_digests = Vec::with_capacity(ends.len());
        for end in ends {
            let entry = &encoded[begin..end];
            longest = longest.max(entry.len());
            entry_digests.push(Entry::digest_of(entry));
            begin = end;
        }
        // After the head of an array of two.
        let digest = sha256(&[SUBMISSION_DOMAIN, &encoded[1..end]]);
        Self(Arc::new(Signed { submission, signature, encoded, digest, entry_digests, longest }))
    }

    /// Reads a signed submission, and checks everything about it that needs neither state nor keys.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SubmissionError> {
        let signed: Self = from_cbor("signed submission", bytes, SUBMISSION_BYTES_MAX)?;
        signed.check_shape()?;
        Ok(signed)
    }

    /// Organisation, lane and first sequence number at the beginning of an encoding, as far as it is one.
    pub(crate) fn place(encoded: &[u8]) -> Option<(OrgId, u32, u64)> {
        let mut d = Decoder::new(encoded);
        (d.array().ok()? == Some(2) && d.array().ok()? == Some(5)).then_some(())?;
        d.decode::<Digest>().ok()?;
        Some((d.decode().ok()?, d.decode().ok()?, d.decode().ok()?))
    }

    /// The deterministic encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encoded.clone()
    }

    /// The deterministic encoding.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Names submission and signature: SHA-256([`Submission::digest`] ‖ signature).
    pub fn digest(&self) -> Digest {
        sha256(&[self.digest.as_ref(), &self.signature.0])
    }

    /// [`Entry::digest`] of each entry.
    pub fn entry_digests(&self) -> &[Digest] {
        &self.entry_digests
    }

    /// Entry count, entry sizes, sequence range, and that all entries are the organisation's.
    pub fn check_shape(&self) -> Result<(), SubmissionError> {
        let Submission { org, entries, first_seq, .. } = &self.submission;
        let overflows = first_seq.checked_add(entries.len() as u64).is_none();
        if entries.is_empty() || entries.len() > ENTRIES_MAX || *first_seq == 0 || overflows {
            return Err(SubmissionError::Bounds);
        }
        if self.longest > ENTRY_BYTES_MAX {
            return Err(SubmissionError::Bounds);
        }
        if entries.iter().any(|entry| entry.org != *org) {
            return Err(SubmissionError::OtherOrg { org: org.clone() });
        }
        Ok(())
    }

    /// Checks the chain and the signature by the organisation's entry key, strictly (RFC 8032, no small-order keys).
    pub fn verify(&self, chain: &Digest, key: &PublicKey) -> Result<(), SubmissionError> {
        let org = &self.submission.org;
        if self.submission.chain != *chain {
            return Err(SubmissionError::OtherChain { got: self.submission.chain });
        }
        let bad = || SubmissionError::BadSignature { org: org.clone() };
        let key = VerifyingKey::from_bytes(&key.0.0).map_err(|_| bad())?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(self.digest.as_ref(), &signature).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AlarmStep, Body, Priority,
        testing::{digest, id, org, public, said},
    };
    use proptest::prelude::*;

    fn entry() -> Entry {
        said("mercy", Body::Alarm { id: id(1), step: AlarmStep::Raised, priority: Priority::Low }).entry
    }
    fn submission(entries: Vec<Entry>) -> Submission {
        Submission { chain: digest(0xcc), org: org("mercy"), lane: 0, first_seq: 1, entries }
    }
    fn signed(submission: Submission) -> SignedSubmission {
        submission.sign(&SigningKey::from_bytes(&[5; 32]))
    }

    #[test]
    fn a_signature_holds_for_its_bytes_its_chain_and_its_key_only() {
        let good = signed(submission(vec![entry()]));
        assert_eq!(good.verify(&digest(0xcc), &public(5)), Ok(()));
        assert_eq!(good.verify(&digest(1), &public(5)), Err(SubmissionError::OtherChain { got: digest(0xcc) }));
        let bad = Err(SubmissionError::BadSignature { org: org("mercy") });
        assert_eq!(good.verify(&digest(0xcc), &public(6)), bad);
        assert_eq!(good.verify(&digest(0xcc), &[0; 32].into()), bad);
        let mut changed = good.submission.clone();
        changed.entries[0].time.0 += 1;
        let changed = SignedSubmission::new(changed, good.signature);
        assert_eq!(changed.verify(&digest(0xcc), &public(5)), bad);
    }

    #[test]
    fn a_submission_has_one_to_256_entries_of_its_own_organisation() {
        let check = |submission: Submission, expected: Result<(), SubmissionError>| {
            let bytes = signed(submission).to_bytes();
            assert_eq!(SignedSubmission::from_bytes(&bytes).map(|_| ()), expected);
        };
        check(submission(vec![entry(); ENTRIES_MAX]), Ok(()));
        check(submission(vec![]), Err(SubmissionError::Bounds));
        check(submission(vec![entry(); ENTRIES_MAX + 1]), Err(SubmissionError::Bounds));
        check(Submission { first_seq: 0, ..submission(vec![entry()]) }, Err(SubmissionError::Bounds));
        check(Submission { first_seq: u64::MAX, ..submission(vec![entry()]) }, Err(SubmissionError::Bounds));
        let stranger = Entry { org: org("county"), ..entry() };
        check(submission(vec![entry(), stranger]), Err(SubmissionError::OtherOrg { org: org("mercy") }));
        let services = vec![digest(1); 300];
        let step = crate::ClaimStep::Submitted;
        let amount = crate::testing::commitment(1);
        let long = Entry { body: Body::Claim { id: id(1), step, insurer: org("acme"), amount, services }, ..entry() };
        check(submission(vec![long]), Err(SubmissionError::Bounds));
    }

    #[test]
    fn what_is_kept_beside_a_submission_is_what_it_says_itself() {
        let good = signed(submission((1..=3).map(|n| Entry { id: id(n), ..entry() }).collect()));
        let read = SignedSubmission::from_bytes(&good.to_bytes()).unwrap();
        assert_eq!(read, good);
        let digests: Vec<Digest> = good.submission.entries.iter().map(Entry::digest).collect();
        assert_eq!((read.entry_digests(), read.encoded()), (digests.as_slice(), good.to_bytes().as_slice()));
        let mut encoded = vec![0x82];
        encoded.extend(to_cbor(&good.submission));
        encoded.extend([0x58, 64]);
        encoded.extend(good.signature.0);
        assert_eq!(good.encoded(), encoded);
        assert_eq!(good.digest(), sha256(&[good.submission.digest().as_ref(), &good.signature.0]));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let refused = SignedSubmission::from_bytes(&vec![0; SUBMISSION_BYTES_MAX + 1]);
        assert!(matches!(refused, Err(SubmissionError::Format(FormatError::TooLarge { .. }))), "{refused:?}");
    }

    #[test]
    fn other_encodings_of_the_same_are_refused() {
        let mut bytes = entry().to_bytes();
        assert_eq!(Entry::from_bytes(&bytes), Ok(entry()));
        bytes.push(0);
        assert_eq!(Entry::from_bytes(&bytes), Err(FormatError::NotDeterministic { what: "ledger entry" }));
        // An array of indefinite length says the same in other bytes.
        let mut indefinite = entry().to_bytes();
        indefinite[0] = 0x9f;
        indefinite.push(0xff);
        assert_eq!(Entry::from_bytes(&indefinite), Err(FormatError::NotDeterministic { what: "ledger entry" }));
    }

    proptest! {
        #[test]
        fn outside_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SignedSubmission::from_bytes(&bytes);
            let _ = crate::Header::from_bytes(&bytes);
            let _ = crate::Block::from_bytes(&bytes);
            let _ = crate::Genesis::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_is_refused_or_another_submission(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let good = signed(submission(vec![entry(); 3]));
            let mut bytes = good.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(read) = SignedSubmission::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
                prop_assert!(read.verify(&digest(0xcc), &public(5)).is_err());
            }
        }
    }
}
