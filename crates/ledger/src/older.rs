//! The blocks before the one that a node began at: fetched from there downwards, each known by the one above it that names it.

use crate::{
    Finalization, Scheme,
    archive::ByHeight,
    ask::{ANSWER_WAIT, Asker, Older, Question},
    begin::Base,
    block::{ChainBlock, our_digest},
    handle::Since,
    node::Runtime,
    rules::replay,
    serve::Server,
    verdicts::Verdicts,
};
use commonware_codec::{Decode as _, Encode as _};
use commonware_cryptography::{Digestible as _, certificate::Verifier as _, ed25519};
use commonware_parallel::Sequential;
use commonware_storage::{Context, archive::Error};
use contract::Genesis;
use rand::CryptoRng;
use record::Digest;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long to wait before the next peer is asked, after one had nothing that fits.
const AGAIN: Duration = Duration::from_millis(500);

/// Who decided, by the first epoch that they did.
pub(crate) type Deciders = BTreeMap<u64, Arc<Scheme>>;

/// The block that is looked for: named by the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) height: u64,
    pub(crate) digest: Digest,
}

/// Why something is not the older block that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("not the format")]
    Format,
    #[error("another block than the one above it names")]
    OtherBlock,
    #[error("the verdicts do not give the root of its log")]
    Verdicts,
    #[error("its certificate is not signed by a quorum of its validators")]
    Certificate,
    #[error("the last block of an epoch without a certificate")]
    NoCertificate,
}

/// An older block that fits.
pub(crate) struct Fitting {
    block: ChainBlock,
    verdicts: Vec<u8>,
    certificate: Option<Finalization>,
}

/// Checks what came in place of a block that is looked for, and says which one is next.
pub(crate) fn fit(
    came: &Older,
    wanted: &Wanted,
    genesis: &Genesis,
    deciders: &Deciders,
    rng: &mut impl CryptoRng,
) -> Result<(Fitting, Wanted), Unfit> {
    let block = ChainBlock::from_bytes(&came.block).map_err(|_| Unfit::Format)?;
    let header = block.header();
    if block.our_digest() != wanted.digest || header.height != wanted.height {
        return Err(Unfit::OtherBlock);
    }
    // In the one form in which they are kept: one for each entry, or none at all.
    let none = came.verdicts.iter().all(|verdict| *verdict == 0);
    if came.verdicts.len() != if none { 0 } else { header.entry_count as usize } {
        return Err(Unfit::Verdicts);
    }
    replay(block.block(), &came.verdicts).ok_or(Unfit::Verdicts)?;
    let certificate = match came.certificate.as_slice() {
        [] if genesis.epoch(header.height.saturating_add(1)) != header.epoch => return Err(Unfit::NoCertificate),
        [] => None,
        bytes => Some(certificate(bytes, &block, deciders, rng).ok_or(Unfit::Certificate)?),
    };
    let next = Wanted { height: wanted.height.saturating_sub(1), digest: header.parent };
    Ok((Fitting { verdicts: came.verdicts.clone(), certificate, block }, next))
}

/// The certificate that `bytes` encode, if it is that of `block` by those who decided its epoch.
pub(crate) fn certificate(
    bytes: &[u8],
    block: &ChainBlock,
    deciders: &Deciders,
    rng: &mut impl CryptoRng,
) -> Option<Finalization> {
    let (_, scheme) = deciders.range(..=block.header().epoch).next_back()?;
    let codec = scheme.certificate_codec_config();
    let certificate = Finalization::decode_cfg(bytes::Bytes::copy_from_slice(bytes), &codec).ok()?;
    (certificate.encode() == bytes && certifies(&certificate, block, scheme, rng)).then_some(certificate)
}

/// Whether a certificate is about that very block, and signed by a quorum of those who decided its epoch.
pub(crate) fn certifies(
    certificate: &Finalization,
    block: &ChainBlock,
    scheme: &Scheme,
    rng: &mut impl CryptoRng,
) -> bool {
    our_digest(&certificate.proposal.payload) == block.our_digest()
        && certificate.proposal.round.epoch().get() == block.header().epoch
        && certificate.verify(rng, scheme, &Sequential)
}

/// Where older blocks go.
pub(crate) struct Shelves<E: Context> {
    pub(crate) blocks: ByHeight<E, Arc<ChainBlock>>,
    pub(crate) certificates: ByHeight<E, Finalization>,
    pub(crate) verdicts: Verdicts<E>,
}

impl<E: Context> Shelves<E> {
    /// The block that is looked for next, when all from the base down to the one above it are there. `None`: all are there.
    pub(crate) async fn wanted(&self, base: &Base) -> Result<Option<Wanted>, Error> {
        let top = base.header.height;
        let Some(low) = self.blocks.filled_down_to(top).await else {
            return Ok(Some(Wanted { height: top, digest: base.header.digest() }));
        };
        if low <= 1 {
            return Ok(None);
        }
        let lowest = self.blocks.at(low).await?;
        Ok(lowest.map(|block| Wanted { height: low - 1, digest: block.header().parent }))
    }

    /// Keeps blocks durably. That a block is there says that its verdicts and its certificate are.
    async fn keep(&self, fitting: &[Fitting]) -> Result<(), Error> {
        for Fitting { block, verdicts, certificate } in fitting {
            let (height, digest) = (block.header().height, block.digest());
            if !verdicts.is_empty() {
                self.verdicts.put(height, digest, verdicts).await?;
            }
            if let Some(certificate) = certificate {
                self.certificates.put(height, digest, certificate).await?;
            }
        }
        self.verdicts.sync().await?;
        self.certificates.sync().await?;
        for Fitting { block, .. } in fitting {
            self.blocks.put(block.header().height, block.digest(), &Arc::new(block.clone())).await?;
        }
        self.blocks.sync().await
    }
}

/// Fetches what is missing below the base, in the background, until all is there. `since` says how far it is.
pub(crate) async fn fetch<E: Runtime>(
    mut context: E,
    asker: Asker<E>,
    server: Server<E>,
    shelves: Shelves<E>,
    base: Base,
    since: watch::Sender<Since>,
) {
    if let Err(error) = fill(&mut context, &asker, &server, &shelves, &base, &since).await {
        tracing::error!(%error, "older blocks cannot be kept");
        // As after every failure of its storage, the node stops.
        return;
    }
    futures::future::pending::<()>().await;
}

async fn fill<E: Runtime>(
    context: &mut E,
    asker: &Asker<E>,
    server: &Server<E>,
    shelves: &Shelves<E>,
    base: &Base,
    since: &watch::Sender<Since>,
) -> Result<(), Error> {
    let genesis = server.node.chain.genesis.clone();
    let mut turn = 0usize;
    let mut deciders = Deciders::new();
    while let Some(mut wanted) = shelves.wanted(base).await? {
        since.send_modify(|since| since.blocks_from = wanted.height.saturating_add(1));
        if deciders.is_empty() {
            deciders = server.deciders(base.header.epoch).await.unwrap_or_default();
        }
        let peers = asker.peers();
        let Some(peer) = peers.get(turn % peers.len().max(1)) else {
            context.sleep(AGAIN).await;
            continue;
        };
        turn = turn.wrapping_add(1);
        let mut fitting = Vec::new();
        for came in ask(asker, peer, wanted.height).await {
            match fit(&came, &wanted, &genesis, &deciders, context) {
                Ok((block, next)) => {
                    fitting.push(block);
                    wanted = next;
                }
                Err(why) => {
                    tracing::warn!(%peer, height = wanted.height, %why, "an older block of a peer is not kept");
                    break;
                }
            }
            if wanted.height == 0 {
                break;
            }
        }
        if fitting.is_empty() {
            context.sleep(AGAIN).await;
        } else {
            // Who has some has probably more.
            turn = turn.wrapping_sub(1);
            shelves.keep(&fitting).await?;
        }
    }
    since.send_modify(|since| since.blocks_from = 1);
    tracing::info!(height = base.header.height, "all blocks before the one that this node began at are there");
    Ok(())
}

async fn ask<E: Runtime>(asker: &Asker<E>, peer: &ed25519::PublicKey, height: u64) -> Vec<Older> {
    let answer = asker.ask(peer, Question::Blocks(height), ANSWER_WAIT).await.unwrap_or_default();
    if answer.is_empty() { Vec::new() } else { minicbor::decode(&answer).unwrap_or_default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "test; seeds are printed")]
mod tests;
