//! State proofs of many keys under one header.

use crate::{failure::Failure, node::Node};
use contract::{Header, state::Key};
use evidence::{Handover, StateProof};
use futures::future::try_join_all;
use ledger::KEYS_MAX;
use std::collections::HashMap;

/// The most keys that are proven for one file; the first ones, if there are more. The node applies no block while it proves a chunk.
pub(super) const PROVEN_KEYS_MAX: usize = 16 * KEYS_MAX;
/// How often chunks that were proven under several headers are proven anew, before the first one alone must do.
const TRIES_MAX: usize = 8;

/// A final header, and what is proven under it.
pub(super) struct Sealed {
    pub(super) header: Header,
    pub(super) certificate: Vec<u8>,
    pub(super) handovers: Vec<Handover>,
    proofs: HashMap<Key, ledger::StateProof>,
}

impl Sealed {
    /// A value with its proof, where the key was proven to have one.
    pub(super) fn value(&self, key: &Key) -> Option<StateProof> {
        let proof = self.proofs.get(key)?;
        Some(StateProof { value: proof.value.clone()?, proof: proof.proof.clone() })
    }

    /// The proof that a key has no value, where it was proven.
    pub(super) fn absence(&self, key: &Key) -> Option<Vec<u8>> {
        self.proofs.get(key).filter(|proof| proof.value.is_none()).map(|proof| proof.proof.clone())
    }
}

impl Node {
    /// Proves keys under the header of one block: of more than [`PROVEN_KEYS_MAX`] the first ones, and of more than the ledger proves at a
    /// time perhaps only those, on a ledger that moves fast.
    pub(super) async fn seal(&self, keys: &[Key]) -> Result<Sealed, Failure> {
        let mut tries = 0;
        loop {
            let chunks = keys.chunks(KEYS_MAX).take(PROVEN_KEYS_MAX / KEYS_MAX);
            // Asked for at the same time, so that they find the same block more often than not.
            let proofs = try_join_all(chunks.map(|chunk| self.ledger.prove(chunk.to_vec()))).await;
            let proofs = proofs.map_err(|e| Failure::ours("the ledger gave no proof", e))?;
            tries += 1;
            if tries == TRIES_MAX || proofs.windows(2).all(|pair| pair[0].header == pair[1].header) {
                return sealed(proofs);
            }
        }
    }
}

/// All that was proven under the first header.
fn sealed(proofs: Vec<ledger::Proof>) -> Result<Sealed, Failure> {
    let mut proofs = proofs.into_iter();
    let first = proofs.next().ok_or_else(|| Failure::Ours("nothing was to be proven".to_owned()))?;
    let header = Header::from_bytes(&first.header).map_err(|e| Failure::ours("the ledger gave no header", e))?;
    let others = proofs.filter(|proof| proof.header == first.header).flat_map(|proof| proof.proofs);
    Ok(Sealed {
        header,
        certificate: first.certificate,
        handovers: first.handovers,
        proofs: first.proofs.into_iter().chain(others).map(|proof| (proof.key, proof)).collect(),
    })
}
