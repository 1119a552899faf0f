//! How the node and its ledger are doing, without a word about anybody's health.

use crate::{boxed, failure::Failure, node::Node};
use contract::{Entry, SignedSubmission, from_cbor, state};
use evidence::{Finality, StateProof, UnreviewedProof};
use record::OrgId;
use serde_json::{Value, json};

/// How often a proof is asked for while members come and go.
const PROOF_ATTEMPTS: usize = 3;

impl Node {
    /// Height, entries, validators, finality, vault, disk.
    #[boxed]
    pub async fn status(&self) -> Result<Value, Failure> {
        let ledger = self.ledger.status();
        let (kinds, refused) = self.mirror.totals().await?;
        let vault = self.ledger.vault_status().await.map_err(|e| Failure::ours("the vault did not answer", e))?;
        let mut times = self.lane.times_ms();
        times.sort_by(f64::total_cmp);
        let percentile = |share: f64| {
            let last = times.len().checked_sub(1)?;
            times.get((share * last as f64).ceil() as usize).copied()
        };
        let validators: Vec<Value> = ledger
            .validators
            .iter()
            .map(|v| json!({"org": v.org, "connected": v.connected, "height": v.height}))
            .collect();
        let disk = self.disk_use().await?;
        let used: serde_json::Map<String, Value> = disk.parts().map(|(part, n)| (part.to_owned(), json!(n))).collect();
        let per_entry = disk.per_entry().into_iter().map(|(part, n)| (part.to_owned(), json!(n.round())));
        let per_entry: serde_json::Map<String, Value> = per_entry.collect();
        let kinds: serde_json::Map<String, Value> = kinds.into_iter().map(|(kind, n)| (kind, json!(n))).collect();
        Ok(json!({
            "org": self.org, "role": self.role, "chain": self.genesis.id(), "consortium": self.genesis.name,
            "without": self.without.names(),
            "height": self.mirror.height(), "ledger_height": ledger.height, "blocks_from": ledger.blocks_from,
            "time": ledger.time.to_instant(), "entries": ledger.log_size,
            "head": ledger.head, "state_root": ledger.state_root, "log_root": ledger.log_root,
            "by_kind": kinds, "refused": refused,
            "pending": self.unsettled(), "waiting_submissions": ledger.pending,
            "pending_for_holding": ledger.pending_for_holding, "custodians": ledger.custodians,
            "finality_ms_p50": percentile(0.5), "finality_ms_p99": percentile(0.99),
            "validators": validators, "retention": self.retention_shown(),
            "vault": {"held": vault.held, "missing": vault.missing},
            "disk_bytes": used, "disk_bytes_per_entry": per_entry
        }))
    }

    /// How many overrides of each member nobody has reviewed, by the ledger's own count, as a file that proves it.
    #[boxed]
    pub async fn unreviewed(&self) -> Result<Vec<u8>, Failure> {
        let ours = |e| Failure::ours("the ledger gave no proof", e);
        // Between the two questions a member may come or go: then the roll is read again.
        for _ in 0..PROOF_ATTEMPTS {
            let roll = self.ledger.get(vec![state::roll_key()]).await;
            let roll = roll.map_err(|e| Failure::ours("the ledger did not answer", e))?.into_iter().next().flatten();
            let roll = roll.ok_or_else(|| Failure::Ours("the ledger has no roll of members".to_owned()))?;
            let voters: state::Roll = from_cbor("roll", &roll, state::VALUE_BYTES_MAX)
                .map_err(|e| Failure::ours("the ledger's state cannot be read", e))?;
            let members = voters.members.iter().map(|voter| state::organisation_key(&voter.org));
            let keys: Vec<_> = [state::roll_key()].into_iter().chain(members).collect();
            let ledger::Proof { header, certificate, proofs, handovers } =
                self.ledger.prove(keys).await.map_err(ours)?;
            let proven = proofs.into_iter().map(|proof| Some(StateProof { value: proof.value?, proof: proof.proof }));
            let Some(mut proven) = proven.collect::<Option<Vec<_>>>() else { continue };
            if proven.first().is_none_or(|first| first.value != roll) {
                continue;
            }
            let members = proven.split_off(1);
            let Some(roll) = proven.pop() else { continue };
            let finality = Finality { genesis: self.genesis.to_bytes(), header, certificate, handovers };
            return Ok(UnreviewedProof::new(finality, roll, members).to_bytes());
        }
        Err(Failure::Busy)
    }

    /// What validators did that no honest one does, as far as this node saw it: each with its portable proof.
    #[boxed]
    pub async fn blames(&self) -> Result<Vec<(evidence::Blamed, Vec<u8>)>, Failure> {
        let mut blames = Vec::new();
        for act in self.ledger.blames() {
            // The set of the votes' epoch is named by the blocks before it.
            let epoch = evidence::blame_epoch(&act).unwrap_or_default();
            let height = epoch.saturating_mul(self.genesis.epoch_blocks);
            let handovers = self.handovers(height, None).await?;
            let file = evidence::blame_file(&self.genesis, handovers, &act);
            if let Ok(blamed) = evidence::verify_blame(&file, &self.genesis.id()) {
                blames.push((blamed, file));
            }
        }
        Ok(blames)
    }

    /// Where the validators changed before a height, and the block at `through` besides, as evidence shows it.
    pub(crate) async fn handovers(
        &self,
        height: u64,
        through: Option<u64>,
    ) -> Result<Vec<evidence::Handover>, Failure> {
        let handovers = self.ledger.handovers(height, through).await;
        handovers.map_err(|e| Failure::ours("the ledger gave no changes of validators", e))
    }

    /// Final entries from an index on.
    #[boxed]
    pub async fn ledger_entries(&self, from: u64, kind: Option<String>, limit: usize) -> Result<Vec<Value>, Failure> {
        Ok(self.mirror.entries(from, kind, limit).await?.iter().map(shown).collect())
    }

    /// One block with its entries.
    #[boxed]
    pub async fn ledger_block(&self, height: u64) -> Result<Value, Failure> {
        let block = self.ledger.block(height).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let Some(block) = block else { return Err(Failure::NotFound(format!("block {height}"))) };
        let header = block.header();
        let mut holdings = block.block.holdings.iter();
        let mut held_by = |signed: &SignedSubmission| -> Vec<OrgId> {
            let shown = if signed.has_attachments() { holdings.next() } else { None };
            shown.into_iter().flatten().map(|holding| holding.custodian.clone()).collect()
        };
        Ok(json!({
            "height": header.height, "time": header.time.to_instant(), "digest": block.digest, "parent": header.parent,
            "entries": header.entry_count, "log_size": header.log_size, "log_root": header.log_root,
            "state_root": header.state_root, "certified": block.certificate.is_some(),
            "submissions": block.submissions().iter().map(|signed| json!({
                "org": signed.submission.org, "lane": signed.submission.lane, "first_seq": signed.submission.first_seq,
                "held_by": held_by(signed),
                "entries": signed.submission.entries.iter().map(Entry::kind).collect::<Vec<_>>()
            })).collect::<Vec<_>>()
        }))
    }
}

fn shown(place: &crate::mirror::FinalEntry) -> Value {
    let entry = Entry::from_bytes(&place.bytes).ok();
    json!({
        "index": place.index, "height": place.height, "time": place.time.to_instant(), "digest": place.digest,
        "kind": entry.as_ref().map(Entry::kind), "org": entry.as_ref().map(|e| e.org.clone()),
        "purpose": entry.as_ref().map(|e| e.purpose.code()), "lane": place.lane, "seq": place.seq,
        "refused": contract::Reject::from_code(place.refused).map(|reject| reject.to_string())
    })
}
