//! The state machine that consensus drives: propose, process, observe what is final.

use crate::{
    Scheme,
    block::{ChainBlock, Context, SyncTarget},
    checkpoints::Checkpoints,
    handle::{Head, Receipt},
    mempool::{Chosen, LaneAt, Mempool, lane_seq},
    rules::{CLOCK_AHEAD_MS_MAX, Chain, Deciders, receipts, replay},
    spaced::Dbs,
    state::{Batch, Merkleized, read_batch, write_batch},
    verdicts::Verdicts,
};
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_cryptography::{Digested, Digestible as _};
use commonware_glue::stateful::{
    Application, Finality, Input, Proposed,
    db::{DatabaseSet, Merkleized as _},
};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use contract::{
    BLOCK_BYTES_MAX, Block, Body, Custodians, Executed, Header, Holding, InvalidBlock, Parent, SignedSubmission,
    execute,
    merkle::Frontier,
    state::{self, Key},
    touched,
};
use futures::StreamExt as _;
use record::{Digest, OrgId, TimeMs};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};
use tokio::sync::watch;

/// A proposer stops adding submissions here, so that the rest of a block always fits.
const PROPOSAL_BYTES_MAX: usize = BLOCK_BYTES_MAX - 256 * 1024;
/// A proposer stops adding entries here, so that executing a block takes well below a second.
pub const PROPOSAL_ENTRIES_MAX: usize = 4096;
/// The most lanes of a proposal.
const PROPOSAL_LANES_MAX: usize = 1024;
/// Blocks whose execution and whose root are remembered after they are final.
const REMEMBERED_MAX: u64 = 256;

/// Final blocks that are kept in memory for those who follow the chain.
const RECENT_MAX: usize = 64;

/// What execution of a block told, besides the state.
struct Execution {
    height: u64,
    log: Frontier,
    /// One for each entry; empty when all are 0.
    verdicts: Vec<u8>,
}

/// A final block that this node executed itself since it started.
#[derive(Clone)]
pub(crate) struct Recent {
    pub(crate) block: ChainBlock,
    execution: Arc<Execution>,
}

impl Recent {
    /// One for each entry, in order.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        receipts(self.block.block(), &self.execution.verdicts)
    }
}

#[derive(Default)]
struct Memory {
    executions: HashMap<Digest, Arc<Execution>>,
    /// Headers of final blocks by state root, and the order they came in.
    headers: HashMap<Digest, Arc<Header>>,
    roots: VecDeque<Digest>,
    /// In order of height.
    recent: VecDeque<Recent>,
}

/// What all clones of the state machine share, and what does not depend on the runtime.
pub(crate) struct Node {
    pub(crate) chain: Chain,
    pub(crate) genesis_block: ChainBlock,
    pub(crate) mempool: Arc<Mempool>,
    pub(crate) head: watch::Sender<Head>,
    /// Height of the latest final block, for the one task that follows the epochs: receivers of one channel are woken in an order that no
    /// seed repeats.
    pub(crate) height: watch::Sender<u64>,
    /// Height of the last final block with a change of membership.
    pub(crate) membership: watch::Sender<u64>,
    memory: Mutex<Memory>,
}

impl Node {
    pub(crate) fn new(
        chain: Chain,
        genesis_block: ChainBlock,
        mempool: Arc<Mempool>,
        head: watch::Sender<Head>,
    ) -> Self {
        let (height, membership) = (watch::channel(0).0, watch::channel(0).0);
        Self { chain, genesis_block, mempool, head, height, membership, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn executed(&self, digest: &Digest) -> Option<Arc<Execution>> {
        self.memory().executions.get(digest).cloned()
    }

    fn remember(&self, block: &ChainBlock, executed: Executed) {
        let verdicts: Vec<u8> = executed
            .receipts
            .iter()
            .map(|receipt| receipt.refused.as_ref().map_or(0, |reject| reject.code()))
            .collect();
        let verdicts = if verdicts.iter().all(|verdict| *verdict == 0) { Vec::new() } else { verdicts };
        let execution = Execution { height: block.header().height, log: executed.log, verdicts };
        self.memory().executions.insert(block.our_digest(), Arc::new(execution));
        self.mempool.saw(block.block());
    }

    /// A block is final and the state has it.
    pub(crate) fn observe(&self, block: &ChainBlock) {
        let (header, digest) = (Arc::new(block.header().clone()), block.our_digest());
        self.mempool.finalize(block.block());
        {
            let mut memory = self.memory();
            let Memory { executions, headers, roots, recent } = &mut *memory;
            if let Some(execution) = executions.get(&digest) {
                recent.push_back(Recent { block: block.clone(), execution: execution.clone() });
            }
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
            executions.retain(|_, execution| execution.height.saturating_add(REMEMBERED_MAX) > header.height);
            headers.insert(header.state_root, header.clone());
            roots.push_back(header.state_root);
            if roots.len() as u64 > REMEMBERED_MAX
                && let Some(oldest) = roots.pop_front()
                && !roots.contains(&oldest)
            {
                headers.remove(&oldest);
            }
        }
        let entries = block.block().submissions.iter().flat_map(|signed| &signed.submission.entries);
        if entries.into_iter().any(|entry| matches!(entry.body, Body::Member { .. })) {
            self.membership.send_replace(header.height);
        }
        let height = header.height;
        self.head.send_replace(Head { header, digest });
        self.height.send_replace(height);
    }

    /// The final block at `height`, if it is one of the last.
    pub(crate) fn recent(&self, height: u64) -> Option<Recent> {
        self.memory().recent.iter().rev().find(|recent| recent.execution.height == height).cloned()
    }

    /// The latest final header with that state root.
    pub(crate) fn header_with_root(&self, root: &Digest) -> Option<Arc<Header>> {
        self.memory().headers.get(root).cloned()
    }

    /// Checks signatures against the state before the block.
    fn signatures_hold(&self, block: &Block, before: &HashMap<Key, Vec<u8>>) -> bool {
        block.submissions.iter().all(|signed| {
            let key = self.chain.entry_key(&signed.submission.org, block.header.height, before);
            key.is_some_and(|key| self.mempool.check(signed, &key).is_ok())
        })
    }
}

/// Milliseconds of the runtime's clock.
pub(crate) fn now<E: Clock>(context: &E) -> TimeMs {
    let since = context.current().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The state machine.
pub(crate) struct App<E: StorageContext> {
    pub(crate) node: Arc<Node>,
    pub(crate) verdicts: Verdicts<E>,
    pub(crate) checkpoints: Checkpoints<E>,
}

impl<E: StorageContext> Clone for App<E> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), verdicts: self.verdicts.clone(), checkpoints: self.checkpoints.clone() }
    }
}

#[cold]
#[expect(clippy::panic, reason = "a node whose storage fails must stop before it votes; the engine does the same")]
pub(crate) fn storage_failed(what: &str) -> ! {
    panic!("storage failed: {what}")
}

impl<E: StorageContext + Spawner> App<E> {
    /// The log after a block that this node executed, now or before a restart.
    async fn log_after(&self, block: &ChainBlock) -> Option<Frontier> {
        if block.header().height == 0 {
            return Some(Frontier::default());
        }
        if let Some(execution) = self.node.executed(&block.our_digest()) {
            return Some(execution.log.clone());
        }
        let verdicts = self.verdicts.at(block.header().height).await.ok()?;
        replay(block.block(), &verdicts).map(|(log, _)| log)
    }

    /// Executes submissions on a batch without writing to it.
    #[tracing::instrument(level = "debug", skip_all, fields(height = parent.height))]
    async fn execute(
        &self,
        parent: &Parent,
        submissions: &[SignedSubmission],
        batch: &Batch<E>,
    ) -> (Result<Executed, InvalidBlock>, HashMap<Key, Vec<u8>>) {
        let keys = touched(submissions);
        let Some(before) = read_batch(batch, &keys).await else { storage_failed("reading the state") };
        (execute(&self.node.chain.genesis, parent, submissions, &before), before)
    }

    /// Who decides the block on `parent`, and the next epoch, as the state before the block says.
    async fn deciders(&self, parent: &Header, batch: &Batch<E>) -> Option<Deciders> {
        let chain = &self.node.chain;
        if !chain.begins_epoch(parent) {
            return chain.deciders(parent, None);
        }
        let key = state::succession_key();
        let Some(read) = read_batch(batch, &[key]).await else { storage_failed("reading the state") };
        let succession = contract::from_cbor("succession", read.get(&key)?, state::VALUE_BYTES_MAX).ok()?;
        chain.deciders(parent, Some(&succession))
    }

    /// Who may hold attachments in the state that a block at `height` begins with. `None`: the state is not what it should be.
    async fn custodians(&self, height: u64, batch: &Batch<E>) -> Option<Custodians> {
        if height <= 1 {
            return Some(Custodians::founding(&self.node.chain.genesis));
        }
        let key = state::roll_key();
        let Some(read) = read_batch(batch, &[key]).await else { storage_failed("reading the state") };
        let roll = contract::from_cbor("roll", read.get(&key)?, state::VALUE_BYTES_MAX).ok()?;
        let Some(values) = read_batch(batch, &Custodians::keys(&roll)).await else {
            storage_failed("reading the state")
        };
        Custodians::of_state(&roll, &values).ok()
    }

    /// Whether the block shows who holds what it names, as the state before it says who may.
    async fn is_held(&self, block: &Block, batch: &Batch<E>) -> bool {
        if block.holdings.is_empty() && !block.submissions.iter().any(SignedSubmission::has_attachments) {
            return true;
        }
        let Some(custodians) = self.custodians(block.header.height, batch).await else { return false };
        let known = |signed: &SignedSubmission, holding: &_, key: &_| self.node.mempool.knows(signed, holding, key);
        match custodians.check(&self.node.chain.genesis.id(), block, known) {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!(height = block.header.height, %why, "a block does not show who holds what it names");
                false
            }
        }
    }

    /// What the mempool offers on top of the batch.
    async fn select(&self, height: u64, batch: &Batch<E>) -> Vec<Chosen> {
        let lanes = self.node.mempool.live_lanes(PROPOSAL_LANES_MAX);
        let keys: Vec<Key> =
            lanes.iter().flat_map(|(org, lane)| [state::organisation_key(org), state::lane_key(org, *lane)]).collect();
        let Some(before) = read_batch(batch, &keys).await else { storage_failed("reading the state") };
        let at = |(org, lane): (OrgId, u32)| {
            let key = self.node.chain.entry_key(&org, height, &before)?;
            let seq = lane_seq(before.get(&state::lane_key(&org, lane)).map(Vec::as_slice));
            Some(LaneAt { lane: (org, lane), seq, key })
        };
        let lanes: Vec<LaneAt> = lanes.into_iter().filter_map(at).collect();
        let custodians = if self.node.mempool.has_naming() { self.custodians(height, batch).await } else { None };
        self.node.mempool.select(&lanes, custodians.as_ref(), PROPOSAL_BYTES_MAX, PROPOSAL_ENTRIES_MAX)
    }
}

impl<E: StorageContext + Spawner + Clock> Application<E> for App<E> {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = ChainBlock;
    type Databases = Dbs<E>;
    type Captured = ();
    type Provider = ();
    type Input = ();

    async fn genesis(&mut self) -> ChainBlock {
        self.node.genesis_block.clone()
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn propose(
        &mut self,
        (context, consensus): (E, Context),
        mut ancestry: impl Ancestry<ChainBlock>,
        batch: Batch<E>,
        _: Input<(), ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent: Digested<ChainBlock> = ancestry.next().await?;
        let parent: &ChainBlock = parent.inner();
        let Some(log) = self.log_after(parent).await else {
            tracing::error!(height = parent.header().height, "the parent's log cannot be rebuilt: nothing proposed");
            return None;
        };
        let time = parent.header().time.plus_ms(1).max(now(&context));
        let deciders = self.deciders(parent.header(), &batch).await?;
        let header = self.node.chain.header_on(parent, &deciders, &consensus, time);
        let at = Parent { height: header.height, time, log: log.clone() };
        let mut selected = self.select(header.height, &batch).await;
        let mut submissions: Vec<SignedSubmission> =
            selected.iter().map(|chosen| chosen.pending.signed.clone()).collect();
        let mut executed = loop {
            match self.execute(&at, &submissions, &batch).await.0 {
                Ok(executed) => break executed,
                // An organisation that leaves in this very block: its later submissions stay behind.
                Err(InvalidBlock::UnknownOrg(org) | InvalidBlock::OutOfOrder { org, .. }) => {
                    submissions.retain(|signed| signed.submission.org != org);
                    selected.retain(|chosen| chosen.pending.signed.submission.org != org);
                }
            }
        };
        let holdings = selected.into_iter().filter_map(|chosen| chosen.holdings).collect();
        let Some(merkleized) = write_batch(batch, std::mem::take(&mut executed.writes)).await else {
            storage_failed("writing the state")
        };
        let block = complete::<E>(header, log, submissions, holdings, &executed, &merkleized)?;
        self.node.remember(&block, executed);
        Some(Proposed { block, merkleized })
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn process(
        &mut self,
        (context, _): (E, Context),
        mut ancestry: impl Ancestry<ChainBlock>,
        batch: Batch<E>,
        finality: Finality,
    ) -> Option<Merkleized<E>> {
        let digested: Digested<ChainBlock> = ancestry.next().await?;
        let chain_block: &ChainBlock = digested.inner();
        let block = chain_block.block();
        let header = &block.header;
        if finality == Finality::Candidate {
            let parent: Digested<ChainBlock> = ancestry.next().await?;
            let parent: &ChainBlock = parent.inner();
            let deciders = self.deciders(parent.header(), &batch).await?;
            if !self.node.chain.follows(parent.header(), &parent.our_digest(), &deciders, block) {
                return None;
            }
            // Too early by this node's clock is no fault for ever: the vote waits.
            while now(&context).plus_ms(CLOCK_AHEAD_MS_MAX) < header.time {
                let ahead_ms = header.time.0.saturating_sub(now(&context).0.saturating_add(CLOCK_AHEAD_MS_MAX));
                context.sleep(Duration::from_millis(ahead_ms)).await;
            }
        }
        // What is final needs no receipts any more: what they are about may be erased, and who signed them gone.
        if finality == Finality::Candidate && !self.is_held(block, &batch).await {
            return None;
        }
        let at = Parent { height: header.height, time: header.time, log: block.frontier.clone() };
        let (executed, before) = self.execute(&at, &block.submissions, &batch).await;
        let mut executed = executed.ok()?;
        if finality == Finality::Candidate && !self.node.signatures_hold(block, &before) {
            return None;
        }
        let log_agrees = executed.log.size() == header.log_size && executed.log.root() == header.log_root;
        if !log_agrees || executed.receipts.len() != header.entry_count as usize {
            return None;
        }
        let Some(merkleized) = write_batch(batch, std::mem::take(&mut executed.writes)).await else {
            storage_failed("writing the state")
        };
        // The engine compares the root of the operations; the root that proofs are checked against is compared here.
        if crate::block::our_digest(&merkleized.root()) != header.state_root {
            return None;
        }
        self.node.remember(chain_block, executed);
        Some(merkleized)
    }

    /// Verdicts are durable before the state can be: a restart never finds a state whose verdicts are lost.
    async fn capture(
        &mut self,
        _: (E, Context),
        block: &ChainBlock,
        _: &Merkleized<E>,
        _: <Self::Databases as DatabaseSet<E>>::Readers,
    ) {
        let Some(execution) = self.node.executed(&block.our_digest()).filter(|done| !done.verdicts.is_empty()) else {
            return;
        };
        if self.verdicts.keep(block.header().height, block.digest(), &execution.verdicts).await.is_err() {
            storage_failed("keeping verdicts");
        }
    }

    async fn finalized(
        &mut self,
        _: (E, Context),
        block: &ChainBlock,
        (): (),
        state: <Self::Databases as DatabaseSet<E>>::Readers,
    ) {
        let header = block.header();
        // Proofs are made of the latest state only, so those of this block are made now or never.
        if self.node.chain.begins_epoch(header)
            && self.checkpoints.keep(header.height, block.digest(), &*state.read().await).await.is_none()
        {
            storage_failed("keeping a checkpoint");
        }
        self.node.observe(block);
        tracing::debug!(height = header.height, entries = header.entry_count, "block final");
    }

    fn sync_targets(block: &ChainBlock) -> SyncTarget {
        block.sync_target().clone()
    }
}

/// The block of a header, with what its body, its execution on the log before it, and the state after it tell filled in.
pub(crate) fn complete<E: StorageContext + Spawner>(
    mut header: Header,
    log: Frontier,
    submissions: Vec<SignedSubmission>,
    holdings: Vec<Vec<Holding>>,
    executed: &Executed,
    merkleized: &Merkleized<E>,
) -> Option<ChainBlock> {
    header.entry_count = u32::try_from(executed.receipts.len()).ok()?;
    header.body = Block::body_digest(&log, &submissions, &holdings);
    header.log_size = executed.log.size();
    header.log_root = executed.log.root();
    header.state_root = crate::block::our_digest(&merkleized.root());
    header.ops_root = crate::block::our_digest(&merkleized.ops_root());
    header.ops_start = merkleized.sync_boundary().as_u64();
    header.ops_end = merkleized.bounds().tip.size.as_u64();
    ChainBlock::new(Block { header, frontier: log, submissions, holdings }).ok()
}
