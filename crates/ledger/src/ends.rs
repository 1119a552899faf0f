//! Certificates of the last blocks of epochs, asked for where a block is there without its own.
//!
//! A block and its certificate go to the disk side by side, so that a crash can leave the block alone, and a node that fell behind gets blocks that
//! a later certificate covers. Within an epoch nobody misses it. At its end everybody does: whoever comes later begins there, and evidence
//! hands over there.

use crate::{
    Finalization,
    archive::ByHeight,
    ask::{Asker, Question},
    block::ChainBlock,
    epochs::Schemes,
    node::Runtime,
    older,
    serve::Marshal,
};
use commonware_consensus::types::Height;
use commonware_cryptography::Digestible as _;
use std::time::Duration;

/// How long a peer may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before the next peer is asked, after one had none.
const AGAIN: Duration = Duration::from_millis(250);

/// Who looks for them.
pub(crate) struct Ends<E: Runtime> {
    pub(crate) asker: Asker<E>,
    pub(crate) marshal: Marshal,
    pub(crate) schemes: Schemes,
    /// Where certificates go that came afterwards.
    pub(crate) shelf: ByHeight<E, Finalization>,
}

impl<E: Runtime> Clone for Ends<E> {
    fn clone(&self) -> Self {
        let Self { asker, marshal, schemes, shelf } = self;
        Self { asker: asker.clone(), marshal: marshal.clone(), schemes: schemes.clone(), shelf: shelf.clone() }
    }
}

impl<E: Runtime> Ends<E> {
    /// Whether the certificate of a block is there.
    pub(crate) async fn has(&self, height: u64) -> bool {
        self.marshal.get_finalization(Height::new(height)).await.is_some()
    }

    /// Asks one peer after the other for the certificate of a final block, until it is there: from one of them, or from consensus here.
    /// `false`: the storage failed, and it never will be.
    pub(crate) async fn fetch(self, mut context: E, height: u64) -> bool {
        let Some(block) = self.marshal.get_block(Height::new(height)).await else { return false };
        let mut turn = 0usize;
        while !self.has(height).await {
            let peers = self.asker.peers();
            if let Some(peer) = peers.get(turn % peers.len().max(1)) {
                let answer = self.asker.ask(peer, Question::Certificate(height), ANSWER_WAIT).await;
                let answer = answer.filter(|answer| !answer.is_empty());
                if let Some(bytes) = answer {
                    match self.fitting(&mut context, block.inner(), &bytes) {
                        Some(certificate) => return self.keep(height, block.inner(), &certificate).await,
                        None => tracing::warn!(%peer, height, "a certificate of a peer does not hold for the block"),
                    }
                }
            }
            turn = turn.wrapping_add(1);
            context.sleep(AGAIN).await;
        }
        true
    }

    fn fitting(&self, context: &mut E, block: &ChainBlock, bytes: &[u8]) -> Option<Finalization> {
        older::certificate(bytes, block, &*self.schemes.of(block.header().epoch)?, context)
    }

    async fn keep(&self, height: u64, block: &ChainBlock, certificate: &Finalization) -> bool {
        let put = self.shelf.put(height, block.digest(), certificate).await;
        let kept = put.is_ok() && self.shelf.sync().await.is_ok();
        if kept {
            tracing::info!(height, "the certificate of the last block of an epoch came from a peer");
        }
        kept
    }
}
