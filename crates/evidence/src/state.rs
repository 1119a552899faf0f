//! State proofs: that a key has a value now, or none, under a header's state root. The engine's verifier decides.
//!
//! The parameters are the ledger's: commonware `qmdb::current::ordered::variable` over the MMR family with SHA-256, keys of 32
//! bytes, values as byte strings, bitmap chunks of [`CHUNK_BYTES`].

use crate::StateProof;
use bytes::Bytes;
use commonware_codec::{RangeCfg, Read};
use commonware_cryptography::{Sha256, sha256};
use commonware_storage::{
    mmr,
    qmdb::{
        any::value::VariableEncoding,
        current::ordered::proof::constant::{ExclusionProof, KeyValueProof},
    },
};
use contract::state::{Key, VALUE_BYTES_MAX};
use record::Digest;

/// Bytes of a chunk of the activity bitmap.
pub const CHUNK_BYTES: usize = 32;
/// The most digests of one proof: the path and the peaks of a tree of 2^62 operations.
pub const PROOF_DIGESTS_MAX: usize = 128;
/// The longest proof, in bytes: its digests, for an absence the neighbouring value, and less than 256 bytes around them.
pub const PROOF_BYTES_MAX: usize = 48 * 1024;
const _: () = assert!(PROOF_DIGESTS_MAX * 32 + VALUE_BYTES_MAX + 256 <= PROOF_BYTES_MAX, "an honest proof fits");

type Value = VariableEncoding<Vec<u8>>;
type Current = KeyValueProof<mmr::Family, sha256::Digest, sha256::Digest, CHUNK_BYTES>;
type Absent = ExclusionProof<mmr::Family, sha256::Digest, Value, sha256::Digest, CHUNK_BYTES>;

/// Whether `key` has the proof's value under `root`, and no later one.
pub fn current(key: &Key, proof: &StateProof, root: &Digest) -> bool {
    let Some(decoded) = decode::<Current>(&proof.proof, &(PROOF_DIGESTS_MAX, ())) else { return false };
    decoded.verify::<Sha256, Value>(engine(key), proof.value.clone(), &engine(root))
}

/// Whether `key` has no value under `root`.
pub fn absent(key: &Key, proof: &[u8], root: &Digest) -> bool {
    let value = RangeCfg::from(0..=VALUE_BYTES_MAX);
    let Some(decoded) = decode::<Absent>(proof, &(PROOF_DIGESTS_MAX, ((), (value, ())), (value, ()))) else {
        return false;
    };
    decoded.verify::<Sha256>(&engine(key), &engine(root))
}

/// Reads a proof and refuses every encoding but the engine's own, so that a proof has one form.
fn decode<T: Read + commonware_codec::Encode>(bytes: &[u8], cfg: &T::Cfg) -> Option<T> {
    if bytes.len() > PROOF_BYTES_MAX {
        return None;
    }
    let decoded = T::read_cfg(&mut Bytes::copy_from_slice(bytes), cfg).ok()?;
    (decoded.encode() == bytes).then_some(decoded)
}

fn engine(digest: &Digest) -> sha256::Digest {
    sha256::Digest(digest.0)
}
