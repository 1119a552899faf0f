//! Blocks with the roots that execution gives, made beside any node: for simulations of members that do not keep to the protocol.

use crate::{
    app::complete,
    block::{ChainBlock, Context, our_digest},
    node::PAGE,
    rules::{Chain, Deciders},
    state::{self, Batch, Db, Merkleized, read_batch, write_batch},
};
use commonware_glue::stateful::db::{DatabaseSet, Merkleized as _, Shared};
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::Context as StorageContext;
use commonware_utils::NZUsize;
use contract::{
    Block, Executed, Genesis, Holding, Parent, SignedSubmission, execute, from_cbor,
    merkle::Frontier,
    state::{Succession, VALUE_BYTES_MAX, succession_key},
    touched,
};
use record::{Digest, TimeMs};
use std::collections::HashMap;

/// Nobody waits for this state to be on disk.
type Dbs<E> = Shared<Db<E>>;

/// What a block above the tip did.
struct Made<E: StorageContext + Spawner> {
    block: ChainBlock,
    log: Frontier,
    writes: Merkleized<E>,
}

/// Follows the final blocks with a state of its own, and makes blocks on what comes after them.
pub struct Author<E: StorageContext + Spawner> {
    chain: Chain,
    dbs: Dbs<E>,
    /// The last final block that the state has, and the log after it.
    tip: (ChainBlock, Frontier),
    made: HashMap<Digest, Made<E>>,
}

impl<E: StorageContext + Spawner> Author<E> {
    /// Begins before the first block. `store` begins the names of all that it stores; nothing may be stored under them yet.
    pub async fn open(context: E, genesis: Genesis, store: &str) -> Option<Self> {
        let cache = CacheRef::new(PAGE, NZUsize!(64));
        let dbs = <Dbs<E> as DatabaseSet<E>>::init(context, state::config(store, &cache), None).await;
        let first = ChainBlock::genesis(&genesis, &<Dbs<E> as DatabaseSet<E>>::initial_sync_targets()).ok()?;
        Some(Self { chain: Chain::new(genesis), dbs, tip: (first, Frontier::default()), made: HashMap::new() })
    }

    /// Height of the last final block that the state has.
    pub fn height(&self) -> u64 {
        self.tip.0.header().height
    }

    /// The next block is final. `None`: it is not the next one, or execution gives something else than it says.
    pub async fn advance(&mut self, block: &Block) -> Option<()> {
        self.follow(block).await?;
        let Made { block, log, writes } = self.made.remove(&block.header.digest())?;
        if block.header().parent != self.tip.0.our_digest() {
            return None;
        }
        <Dbs<E> as DatabaseSet<E>>::apply(&self.dbs, writes).await;
        self.tip = (block, log);
        let height = self.height();
        self.made.retain(|_, made| made.block.header().height > height);
        Some(())
    }

    /// Takes note of a block on one that it knows, final or not.
    pub async fn follow(&mut self, block: &Block) -> Option<()> {
        let header = &block.header;
        if self.made.contains_key(&header.digest()) {
            return Some(());
        }
        let (_, _, batch) = self.after(&header.parent).await?;
        let at = Parent { height: header.height, time: header.time, log: block.frontier.clone() };
        let (executed, writes) = self.execute(&at, &block.submissions, batch).await?;
        if our_digest(&writes.root()) != header.state_root {
            return None;
        }
        let block = ChainBlock::new(block.clone()).ok()?;
        self.made.insert(block.our_digest(), Made { block, log: executed.log, writes });
        Some(())
    }

    /// The block that has its place in consensus at `at`, on a block that it knows. Nothing is checked: what is wrong with its submissions, or
    /// with what it shows of who holds what they name, is the caller's.
    pub async fn block(
        &mut self,
        at: &Context,
        time: TimeMs,
        submissions: Vec<SignedSubmission>,
        holdings: Vec<Vec<Holding>>,
    ) -> Option<Block> {
        let (parent, log, batch) = self.after(&our_digest(&at.parent.1)).await?;
        let deciders = self.deciders(&parent, &batch).await?;
        let header = self.chain.header_on(&parent, &deciders, at, time);
        let place = Parent { height: header.height, time, log: log.clone() };
        let (executed, writes) = self.execute(&place, &submissions, batch).await?;
        let block = complete::<E>(header, log, submissions, holdings, &executed, &writes)?;
        Some(Block::clone(block.block()))
    }

    /// A block that it knows, the log after it, and an empty batch on its state.
    async fn after(&self, digest: &Digest) -> Option<(ChainBlock, Frontier, Batch<E>)> {
        let (tip, log) = &self.tip;
        if *digest == tip.our_digest() {
            return Some((tip.clone(), log.clone(), <Dbs<E> as DatabaseSet<E>>::new_batches(&self.dbs).await));
        }
        let Made { block, log, writes } = self.made.get(digest)?;
        Some((block.clone(), log.clone(), <Dbs<E> as DatabaseSet<E>>::fork_batches(writes)))
    }

    async fn execute(
        &self,
        at: &Parent,
        submissions: &[SignedSubmission],
        batch: Batch<E>,
    ) -> Option<(Executed, Merkleized<E>)> {
        let before = read_batch(&batch, &touched(submissions)).await?;
        let mut executed = execute(&self.chain.genesis, at, submissions, &before).ok()?;
        let writes = write_batch(batch, std::mem::take(&mut executed.writes)).await?;
        Some((executed, writes))
    }

    async fn deciders(&self, parent: &ChainBlock, batch: &Batch<E>) -> Option<Deciders> {
        if !self.chain.begins_epoch(parent.header()) {
            return self.chain.deciders(parent.header(), None);
        }
        let key = succession_key();
        let value = read_batch(batch, &[key]).await?.remove(&key)?;
        let succession: Succession = from_cbor("succession", &value, VALUE_BYTES_MAX).ok()?;
        self.chain.deciders(parent.header(), Some(&succession))
    }
}
