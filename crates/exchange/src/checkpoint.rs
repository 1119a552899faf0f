//! Checkpoints: a final block with all that a stranger needs to go on from there, as a file of the evidence format that is about no patient.

use crate::{boxed, failure::Failure, node::Node};
use contract::{PolicyKind, state};
use evidence::{Finality, Limits, Parts, Policies, StateProof};
use ledger::Proof;

impl Node {
    /// The last checkpoint at or below `height` that this node keeps; without a height, one of the latest final block.
    #[boxed]
    pub async fn checkpoint(&self, height: Option<u64>) -> Result<Vec<u8>, Failure> {
        let proof = match height {
            None => {
                let keys = [PolicyKind::Access, PolicyKind::Derivation].map(state::policy_key).to_vec();
                self.ledger.prove(keys).await.map_err(|e| Failure::ours("the ledger gave no proof", e))?
            }
            Some(height) => {
                let kept = self.ledger.checkpoint(height).await;
                let kept = kept.map_err(|e| Failure::ours("the ledger gave no checkpoint", e))?;
                kept.ok_or_else(|| Failure::NotFound(format!("checkpoint at or below height {height}")))?
            }
        };
        let Proof { header, certificate, proofs, handovers } = proof;
        let mut proofs = proofs.into_iter();
        let mut policy = || -> Result<StateProof, Failure> {
            let proof = proofs.next().ok_or_else(|| Failure::Ours("the ledger proved too little".to_owned()))?;
            let value = proof.value.ok_or_else(|| Failure::Ours("the ledger has no policy".to_owned()))?;
            Ok(StateProof { value, proof: proof.proof })
        };
        let policies = Policies { access: policy()?, derivation: policy()? };
        let finality = Finality { genesis: self.genesis.to_bytes(), header, certificate, handovers };
        let proven = evidence::prove(Parts::of_nobody(finality, policies), &self.genesis.id(), &Limits::default());
        proven.map(|(bytes, _)| bytes).map_err(|e| Failure::ours("the checkpoint does not verify", e))
    }
}
