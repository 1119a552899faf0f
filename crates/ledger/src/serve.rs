//! Answers the handle: reads, proofs and final blocks; and carries attachments to the peers and back.

use crate::{
    Scheme,
    app::Node,
    attachments::{Attachments, Message, Outgoing, Timer},
    begin::Base,
    block::{ChainBlock, engine_key, our_key},
    checkpoints::Checkpoints,
    epochs,
    handle::{FinalBlock, Handle, Proof, Request},
    mempool::Pending,
    node::Runtime,
    older,
    rules::{receipts, replay},
    spaced::Dbs,
    state,
    verdicts::Verdicts,
};
use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_consensus::{
    marshal::{core::Mailbox, standard::Standard},
    types::Height,
};
use commonware_cryptography::ed25519;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use contract::{
    Header, PublicKey,
    state::{Key, VALUE_BYTES_MAX, ValidatorSet, set_key},
};
use evidence::Handover;
use futures::future::Either;
use record::Digest;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc};

/// Requests that are answered at the same time.
const CONCURRENT_MAX: usize = 256;
/// Final blocks kept in memory for those who follow the chain.
const CACHED_MAX: usize = 64;
/// How long a proof waits before it looks again for a certificate.
const PROOF_RETRY: Duration = Duration::from_millis(50);
/// How often missing attachments are asked for.
const MISSING_RETRY: Duration = Duration::from_secs(2);
/// How often a node looks for receipts that submissions lack, and for what they are about.
const HOLDINGS_RETRY: Duration = Duration::from_secs(1);
/// The most submissions that a custodian looks at together.
const SIGN_MAX: usize = 256;
/// The search for attachments is written down at least every so many blocks.
const SEARCHED_EVERY: u64 = 256;

pub(crate) type Marshal = Mailbox<Scheme, Standard<ChainBlock>>;

/// What the answers come from.
pub(crate) struct Server<E: StorageContext> {
    pub(crate) node: Arc<Node>,
    pub(crate) dbs: Dbs<E>,
    pub(crate) marshal: Marshal,
    pub(crate) verdicts: Verdicts<E>,
    pub(crate) checkpoints: Checkpoints<E>,
    /// Where this node began, if not with the first block.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) cache: Arc<Mutex<VecDeque<Arc<FinalBlock>>>>,
}

impl<E: StorageContext> Clone for Server<E> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            dbs: self.dbs.clone(),
            marshal: self.marshal.clone(),
            verdicts: self.verdicts.clone(),
            checkpoints: self.checkpoints.clone(),
            base: self.base.clone(),
            cache: self.cache.clone(),
        }
    }
}

impl<E: Runtime> Server<E> {
    /// Answers requests until nobody can ask any more.
    pub(crate) async fn run(self, context: E, mut requests: mpsc::Receiver<Request>) {
        let concurrent = Arc::new(Semaphore::new(CONCURRENT_MAX));
        while let Some(request) = requests.recv().await {
            let Ok(permit) = concurrent.clone().acquire_owned().await else { return };
            let server = self.clone();
            context.child("answer").spawn(move |context| async move {
                server.answer(&context, request).await;
                drop(permit);
            });
        }
    }

    /// A failed read drops the reply, which tells the caller that the node is not available.
    async fn answer(&self, context: &E, request: Request) {
        match request {
            Request::Get(keys, reply) => {
                if let Some(values) = state::read(&self.dbs, &keys).await {
                    let _ = reply.send(values);
                }
            }
            Request::Prove(keys, mut reply) => {
                let proof = {
                    let proof = Box::pin(self.prove(context, &keys));
                    match futures::future::select(proof, Box::pin(reply.closed())).await {
                        Either::Left((proof, _)) => proof,
                        Either::Right(_) => None,
                    }
                };
                if let Some(proof) = proof {
                    let _ = reply.send(proof);
                }
            }
            Request::Handovers(height, through, reply) => {
                if let Some(handovers) = self.handovers(height, through).await {
                    let _ = reply.send(handovers);
                }
            }
            Request::Checkpoint(height, reply) => {
                let _ = reply.send(self.checkpoint(height).await);
            }
            Request::Block(height, reply) => {
                let _ = reply.send(self.block(height).await);
            }
            Request::Metrics(reply) => {
                let _ = reply.send(context.encode());
            }
        }
    }

    /// Proofs of the latest state go with the header of that very block, and with its certificate; a block that was made final by a
    /// later block's certificate has none of its own, and the next one is tried.
    async fn prove(&self, context: &E, keys: &[Key]) -> Option<Proof> {
        loop {
            let (root, proofs) = state::prove(&self.dbs, keys).await?;
            if let Some(header) = self.node.header_with_root(&root)
                && let Some(certificate) = self.certificate(header.height).await
            {
                let handovers = self.handovers(header.height, None).await?;
                return Some(Proof { header: header.to_bytes(), certificate, proofs, handovers });
            }
            context.sleep(PROOF_RETRY).await;
        }
    }

    /// The last checkpoint that is not above `height`.
    async fn checkpoint(&self, height: u64) -> Option<Proof> {
        let (height, proofs) = self.checkpoints.up_to(height).await?;
        let (header, certificate) = (self.header(height).await?, self.certificate(height).await?);
        let handovers = self.handovers(height, None).await?;
        Some(Proof { header, certificate, proofs, handovers })
    }

    /// The sets of the state, back to the founders', each with the block that handed over to it.
    pub(crate) async fn handovers(&self, height: u64, through: Option<u64>) -> Option<Vec<Handover>> {
        let genesis = &self.node.chain.genesis;
        let sets = self.sets(genesis.epoch(height)).await?;
        // The last block of an epoch is proposed until it has a certificate of its own.
        let lasts = sets.iter().map(|(first, _)| first.saturating_mul(genesis.epoch_blocks).saturating_sub(1));
        let mut heights: BTreeSet<u64> = lasts.filter(|last| (1..height).contains(last)).collect();
        let through = through.filter(|through| (1..height).contains(through));
        if let Some(through) = through {
            let mut certified = through;
            while certified < height && self.certificate(certified).await.is_none() {
                certified = certified.saturating_add(1);
            }
            heights.extend((certified < height).then_some(certified));
        }
        let mut handovers = Vec::new();
        for height in heights {
            // Where this node began, that was shown to it.
            if let Some(shown) = self.shown(height) {
                handovers.push(shown);
                continue;
            }
            let next = genesis.epoch(height).saturating_add(1);
            let validators = sets.iter().rev().find(|(first, _)| *first <= next)?.1.clone();
            let (header, certificate) = (self.header(height).await?, self.certificate(height).await?);
            handovers.push(Handover { header, certificate, validators });
        }
        Some(handovers)
    }

    /// Who decides from which epoch on, from the founders to those who are settled in `epoch`.
    async fn sets(&self, epoch: u64) -> Option<Vec<(u64, Vec<PublicKey>)>> {
        let mut sets = vec![(0, self.node.chain.genesis.validators())];
        if epoch > 0 {
            let mut from = epochs::succession(&self.dbs).await?.sets().last().map(|set| set.from);
            let mut later = Vec::new();
            while let Some(first) = from.filter(|first| *first > 0) {
                let value = state::read(&self.dbs, &[set_key(first)]).await?.pop()??;
                let set: ValidatorSet = contract::from_cbor("validator set", &value, VALUE_BYTES_MAX).ok()?;
                from = set.previous;
                // A block of the epoch before names it; later ones are not settled at the height.
                if first <= epoch.saturating_add(1) {
                    later.push((first, set.keys));
                }
            }
            sets.extend(later.into_iter().rev());
        }
        Some(sets)
    }

    /// Schemes that check certificates of all epochs up to `epoch`, by the first epoch of each.
    pub(crate) async fn deciders(&self, epoch: u64) -> Option<older::Deciders> {
        let genesis = &self.node.chain.genesis;
        let schemes = self.sets(epoch).await?.into_iter();
        schemes.map(|(first, keys)| Some((first, Arc::new(epochs::verifier(genesis, &keys)?)))).collect()
    }

    fn shown(&self, height: u64) -> Option<Handover> {
        let mut shown = self.base.as_ref()?.finality.handovers.iter();
        let at =
            |handover: &&Handover| Header::from_bytes(&handover.header).is_ok_and(|header| header.height == height);
        shown.find(at).cloned()
    }

    /// A final block with its verdicts, if both are there.
    pub(crate) async fn kept(&self, height: u64) -> Option<(ChainBlock, Vec<u8>)> {
        if height > self.node.head.borrow().header.height {
            return None;
        }
        let digested = self.marshal.get_block(Height::new(height)).await?;
        let block: &ChainBlock = digested.inner();
        let verdicts = self.verdicts.at(height).await.ok()?;
        if replay(block.block(), &verdicts).is_some() {
            return Some((block.clone(), verdicts));
        }
        // The verdicts of the block that this node began at come with those before it.
        if self.base.as_ref().is_none_or(|base| height > base.header.height) {
            tracing::error!(height, "the verdicts of a final block do not give its log root");
        }
        None
    }

    pub(crate) async fn header(&self, height: u64) -> Option<Vec<u8>> {
        Some(self.marshal.get_block(Height::new(height)).await?.inner().header().to_bytes())
    }

    pub(crate) async fn certificate(&self, height: u64) -> Option<Vec<u8>> {
        let finalization = self.marshal.get_finalization(Height::new(height)).await?;
        Some(finalization.encode().to_vec())
    }

    async fn block(&self, height: u64) -> Option<Arc<FinalBlock>> {
        let cached = |cache: &VecDeque<Arc<FinalBlock>>| cache.iter().find(|b| b.header().height == height).cloned();
        if let Some(block) = cached(&self.cache.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Some(block);
        }
        if height == 0 || height > self.node.head.borrow().header.height {
            return None;
        }
        let (chain_block, receipts) = match self.node.recent(height) {
            Some(recent) => (recent.block.clone(), recent.receipts()),
            None => {
                let (block, verdicts) = self.kept(height).await?;
                let receipts = receipts(block.block(), &verdicts);
                (block, receipts)
            }
        };
        let certificate = self.certificate(height).await;
        let (block, digest) = (chain_block.block().clone(), chain_block.our_digest());
        let block = Arc::new(FinalBlock { block, digest, receipts, certificate });
        if block.certificate.is_some() {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.push_back(block.clone());
            if cache.len() > CACHED_MAX {
                cache.pop_front();
            }
        }
        Some(block)
    }
}

/// Lets timers fire for callers that have no clock of this runtime.
pub(crate) async fn time<E: Clock + Spawner>(context: E, mut timers: mpsc::Receiver<Timer>) {
    while let Some(Timer { after, fired }) = timers.recv().await {
        context.child("timer").spawn(move |context| async move {
            context.sleep(after).await;
            let _ = fired.send(());
        });
    }
}

/// Sends what the attachments' desk puts out.
pub(crate) async fn post<S: Sender<PublicKey = ed25519::PublicKey>>(
    mut sender: S,
    mut outbox: mpsc::Receiver<Outgoing>,
) {
    while let Some(Outgoing { to, message }) = outbox.recv().await {
        let to: Vec<ed25519::PublicKey> = to.iter().filter_map(engine_key).collect();
        if !to.is_empty() {
            let _ = sender.send(Recipients::Some(to), contract::to_cbor(&message), false);
        }
    }
}

/// Takes in what peers send about attachments.
pub(crate) async fn collect<R: Receiver<PublicKey = ed25519::PublicKey>>(attachments: Attachments, mut receiver: R) {
    while let Ok((peer, bytes)) = receiver.recv().await {
        if bytes.as_ref().len() > crate::attachments::MESSAGE_BYTES_MAX {
            tracing::warn!(%peer, "a message about attachments is longer than any may be");
            continue;
        }
        match minicbor::decode::<Message>(bytes.as_ref()) {
            Ok(message) => {
                if let Err(error) = attachments.receive(our_key(&peer), message).await {
                    tracing::error!(%error, "an attachment could not be taken in");
                }
            }
            Err(_) => tracing::warn!(%peer, "a message about attachments that is not the format"),
        }
    }
}

/// Keeps what peers sent of attachments: all that came meanwhile goes to the disk together.
pub(crate) async fn keep(attachments: Attachments, mut came: mpsc::Receiver<(Digest, Bytes)>) {
    while let Some(first) = came.recv().await {
        let mut together = vec![first];
        while let Ok(more) = came.try_recv() {
            together.push(more);
        }
        if let Err(error) = attachments.keep(together).await {
            tracing::error!(%error, "attachments could not be kept");
        }
    }
}

/// Signs for what the vault holds of that which submissions name.
pub(crate) async fn sign(attachments: Attachments, mut naming: mpsc::UnboundedReceiver<Arc<Pending>>) {
    while let Some(first) = naming.recv().await {
        let mut together = vec![first];
        while together.len() < SIGN_MAX
            && let Ok(more) = naming.try_recv()
        {
            together.push(more);
        }
        if let Err(error) = attachments.consider(together).await {
            tracing::error!(%error, "holding receipts could not be signed");
        }
    }
}

/// Asks again and again for receipts, and for what they are about.
pub(crate) async fn look_for_holdings<E: Clock>(context: E, attachments: Attachments) {
    while attachments.look_for_holdings().await.is_ok() {
        context.sleep(HOLDINGS_RETRY).await;
    }
}

/// Searches final blocks for attachments that this node shall hold.
pub(crate) async fn search(handle: Handle) {
    let attachments = handle.shared.attachments.clone();
    let Ok(status) = attachments.status().await else { return };
    let mut searched = status.searched_height;
    let mut blocks = handle.blocks_from(searched.saturating_add(1));
    while let Ok(block) = blocks.next().await {
        let height = block.header().height;
        let named: Vec<_> =
            block.submissions().iter().flat_map(|signed| signed.attachments()).map(|a| a.digest).collect();
        if named.is_empty() && height.saturating_sub(searched) < SEARCHED_EVERY {
            continue;
        }
        if attachments.named(named, height).await.is_err() {
            return;
        }
        searched = height;
    }
}

/// Asks again and again for what is missing.
pub(crate) async fn look_for_missing<E: Clock>(context: E, attachments: Attachments) {
    while attachments.look_for_missing().await.is_ok() {
        context.sleep(MISSING_RETRY).await;
    }
}
