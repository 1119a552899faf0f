//! Following the ledger: each final block goes into the mirror, settles the lane, and says what was refused or erased.

use crate::{
    mirror::{FinalBlock, FinalEntry},
    node::Node,
};
use contract::{Body, CustodyStep, Entry, PolicyStep, Reject};
use record::{Digest, Pseudonym};
use std::{sync::Arc, time::Duration};

/// Blocks that are mirrored in one transaction while catching up.
const BLOCKS_AT_ONCE: usize = 64;
/// How long to wait before following again after a failure of ours.
const RETRY: Duration = Duration::from_millis(500);

impl Node {
    /// Follows for ever; a failure of ours is logged and tried again.
    pub(crate) async fn follow(self) {
        if let Err(error) = self.resume_erasures().await {
            tracing::warn!(%error, "erasures under way could not be taken up again");
        }
        if let Err(error) = self.resume_owed().await {
            tracing::warn!(%error, "steps of overrides and cases that were left could not be taken up again");
        }
        if let Err(error) = self.erase_again().await {
            tracing::warn!(%error, "copies of erased records could not be looked for");
        }
        loop {
            // Blocks may have become final between the start and here, or a change may have failed half way.
            if let Err(error) = self.follow_policies().await {
                tracing::warn!(%error, "the policies in force could not be looked up");
            }
            self.look_for_entry_key().await;
            let mut blocks = self.ledger.blocks_from(self.mirror.height() + 1);
            if let Err(error) = self.follow_once(&mut blocks).await {
                tracing::warn!(%error, "following the ledger failed; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn follow_once(&self, blocks: &mut ledger::Blocks) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        loop {
            let mut run = vec![final_block(&*blocks.next().await?)];
            let head = self.ledger.status().height;
            while run.len() < BLOCKS_AT_ONCE && blocks.next_height() <= head {
                run.push(final_block(&*blocks.next().await?));
            }
            let run: Arc<[FinalBlock]> = run.into();
            self.mirror.extend(Arc::clone(&run)).await?;
            let entries = run.iter().flat_map(|block| &block.entries);
            self.settle_own(entries.clone()).await?;
            let of_us = |(entry, _): &(Entry, FinalEntry)| matches!(&entry.body, Body::Member { member, .. } if *member == self.org);
            if entries.clone().any(of_us) || self.signer.is_unsure() {
                // What fails here is tried again with the next block, and holds up nothing else.
                self.look_for_entry_key().await;
            }
            let activated = |(entry, place): &(Entry, FinalEntry)| {
                place.refused == 0 && matches!(entry.body, Body::Policy { step: PolicyStep::Activated, .. })
            };
            if entries.clone().any(activated) {
                self.follow_policies().await?;
            }
            for (entry, _) in entries.filter(|(_, place)| place.refused == 0) {
                if let (Body::Custody { step: CustodyStep::Erased, .. }, Some(patient)) = (&entry.body, entry.patient) {
                    self.erase_copies(patient).await?;
                    self.exports.clear();
                    self.keyring.forget_under(patient, &self.months());
                }
            }
        }
    }

    /// Destroys again what is to be erased: a crash may have come between the mirror and the vault.
    async fn erase_again(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for patient in self.mirror.erased().await?.patients() {
            self.erase_copies(*patient).await?;
        }
        Ok(())
    }

    async fn settle_own(
        &self,
        entries: impl Iterator<Item = &(Entry, FinalEntry)>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let own = entries.filter(|(entry, place)| entry.org == self.org && place.lane == self.lane.number());
        let mut last = None;
        for (entry, place) in own {
            last = last.max(Some(place.seq));
            let second = matches!(entry.body, Body::Policy { step: PolicyStep::Activated, .. });
            if second && place.refused == Reject::Over.code() {
                tracing::debug!(entry = %entry.id, "another member activated a policy first");
            } else if place.refused != 0 {
                tracing::warn!(entry = %entry.id, kind = entry.kind(), code = place.refused, "the ledger refused an entry of ours");
            }
        }
        if let Some(seq) = last {
            self.lane.settle(seq);
            self.store.settle(self.lane.number(), seq).await?;
        }
        Ok(())
    }

    /// Destroys this vault's copies of everything that was filed under a pseudonym, and says which they were.
    pub(crate) async fn erase_copies(
        &self,
        patient: Pseudonym,
    ) -> Result<Vec<Digest>, Box<dyn std::error::Error + Send + Sync>> {
        let mut erased = Vec::new();
        for entry in self.mirror.log(patient, u64::MAX).await? {
            if let Body::Record { attachments, .. } = Entry::from_bytes(&entry.bytes)?.body {
                for attachment in attachments {
                    self.ledger.erase_attachment(attachment.digest).await?;
                    erased.push(attachment.digest);
                }
            }
        }
        Ok(erased)
    }
}

/// A block of the ledger with each entry's receipt beside it.
fn final_block(block: &ledger::FinalBlock) -> FinalBlock {
    let header = block.header();
    let entries = block.submissions().iter().flat_map(|signed| &signed.submission.entries);
    let entries = entries
        .zip(&block.receipts)
        .map(|(entry, receipt)| {
            let place = FinalEntry {
                index: receipt.index,
                height: header.height,
                time: header.time,
                digest: receipt.digest,
                bytes: entry.to_bytes(),
                lane: receipt.lane,
                seq: receipt.seq,
                refused: receipt.verdict,
            };
            (entry.clone(), place)
        })
        .collect();
    FinalBlock { height: header.height, time: header.time, digest: block.digest, entries }
}
