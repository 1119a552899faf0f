//! Replay for auditors: every block of a node's folder is executed again from the genesis document, and whatever it says is compared.

use crate::{
    Finalization, Scheme,
    archive::Kept,
    block::{ChainBlock, Known, our_digest},
    config::StartError,
    disk::ENGINE,
    epochs::Schemes,
    node::PAGE,
    older::certifies,
    rules::{Chain, Deciders},
    run::claim,
    state::{self, Db, read_batch, write_batch},
    verdicts::Verdicts,
};
use commonware_cryptography::certificate::Verifier as _;
use commonware_glue::stateful::db::{DatabaseSet, Merkleized as _, Shared};
use commonware_runtime::{Runner as _, Spawner, Storage, buffer::paged::CacheRef, tokio as engine};
use commonware_storage::Context;
use commonware_utils::NZUsize;
use contract::{
    Genesis, InvalidBlock, Parent, SignedSubmission, execute,
    state::{Key, Succession, VALUE_BYTES_MAX, succession_key},
    touched,
};
use rand::CryptoRng;
use record::{Digest, OrgId};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The state that is made anew is written to the disk every so many blocks.
const WRITTEN_EVERY: u64 = 256;
/// What the replay needs of a node's folder, by the names of the engine's stores.
const COPIED: [&str; 5] = ["blocks", "older-blocks", "finalizations", "older-finalizations", "verdicts"];
/// What the names of the stores of the state that is made anew begin with.
const ANEW: &str = "replay";

/// What is replayed, and where.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The chain.
    pub genesis: Genesis,
    /// Whose folder it is.
    pub org: OrgId,
    /// The ledger folder of a node that does not run, or a copy of one. Nothing in it is changed.
    pub folder: PathBuf,
    /// An empty folder, which gets a copy of the blocks, certificates and verdicts, and the state that is made anew.
    pub scratch: PathBuf,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Height of the last block that agreed.
    pub height: u64,
    /// Height of the last block that there is.
    pub last_height: u64,
    /// Entries executed.
    pub entries: u64,
}

/// What a replay found to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Height of the last block that a certificate covers.
    pub height: u64,
    /// Digest of its header.
    pub block: Digest,
    /// Blocks beyond it, for which the folder has no certificate: none of them is known to be final.
    pub uncertified: u64,
    /// Entries up to there.
    pub entries: u64,
    /// Of them, how many were refused.
    pub refused: u64,
    /// Certificates that were checked.
    pub certificates: u64,
    /// Root of the log after that block.
    pub log_root: Digest,
    /// Root of the state after that block.
    pub state_root: Digest,
}

/// Why a folder does not hold the chain that it says it does, or could not be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// What a block says, or what the folder says of it, is not what follows from the blocks before it.
    #[error("the block at height {height}: {what}")]
    Disagrees {
        /// The first such block.
        height: u64,
        /// What differs.
        what: Difference,
    },
    /// The folder cannot be opened: it is another chain's or member's, in use, or not there.
    #[error(transparent)]
    Folder(#[from] StartError),
    /// There are no blocks in the folder.
    #[error("the folder has no final block")]
    NoBlocks,
    /// The scratch folder cannot be written.
    #[error("the scratch folder cannot be used: {0}")]
    Scratch(String),
    /// The engine failed on the scratch folder.
    #[error("storage failed: {0}")]
    Storage(&'static str),
}

/// What differs at a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// Its bytes were changed.
    #[error("cannot be read, its bytes were changed")]
    Unreadable,
    /// Its header does not continue the one before.
    #[error("its {0} does not follow from the block before")]
    Header(&'static str),
    /// A submission is not signed by its organisation.
    #[error("`{0}` did not sign a submission in it")]
    Signature(OrgId),
    /// Its submissions cannot be executed.
    #[error("cannot be executed: {0}")]
    Execution(String),
    /// Execution gives something else than the header says.
    #[error("execution gives another {0} than its header says")]
    Result(&'static str),
    /// The folder keeps other verdicts than execution gives.
    #[error("the verdicts kept for it are not those of execution")]
    Verdicts,
    /// The verdicts' bytes were changed.
    #[error("the verdicts kept for it cannot be read, their bytes were changed")]
    UnreadableVerdicts,
    /// Its certificate is about another block, or not signed by a quorum of those who decided.
    #[error("its certificate is not signed by a quorum of its validators")]
    Certificate,
    /// The certificate's bytes were changed.
    #[error("its certificate cannot be read, its bytes were changed")]
    UnreadableCertificate,
    /// The last block of an epoch has none.
    #[error("is the last of its epoch and has no certificate")]
    NoCertificate,
}

/// Replays a folder on threads of its own runtime; blocks the calling thread until the end. `progress` hears of every block.
pub fn replay(asked: &Replay, mut progress: impl FnMut(Progress) + Send + 'static) -> Result<Replayed, ReplayError> {
    asked.genesis.check().map_err(StartError::from)?;
    if !asked.folder.join(ENGINE).is_dir() {
        return Err(StartError::DataDir(format!("`{}` is no node's ledger folder", asked.folder.display())).into());
    }
    // Nobody may write while the copy is made.
    let lock = claim(&asked.folder, &asked.genesis, &asked.org)?;
    copy(asked).map_err(|e| ReplayError::Scratch(e.to_string()))?;
    drop(lock);
    let runtime = engine::Config::new().with_worker_threads(1).with_storage_directory(asked.scratch.join(ENGINE));
    let (genesis, store) = (asked.genesis.clone(), asked.org.as_str().to_owned());
    engine::Runner::new(runtime).start(|context| async move {
        let cache = CacheRef::new(PAGE, NZUsize!(8192));
        Auditor::open(context, genesis, &store, &cache).await?.run(&mut progress).await
    })
}

fn copy(asked: &Replay) -> io::Result<()> {
    for entry in fs::read_dir(asked.folder.join(ENGINE))? {
        let entry = entry?;
        let name = entry.file_name();
        let copied = |what: &&str| {
            let store = format!("{}-{what}-", asked.org);
            name.to_string_lossy().strip_prefix(&store).is_some_and(|part| !part.contains('-'))
        };
        if COPIED.iter().any(copied) {
            copy_files(&entry.path(), &asked.scratch.join(ENGINE).join(&name))?;
        }
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The state that is made anew: nobody waits for it, so it is synced when the auditor says so.
type Dbs<E> = Shared<Db<E>>;

/// Who executes everything again.
struct Auditor<E: Context + Spawner> {
    chain: Chain,
    blocks: Kept<E, Arc<ChainBlock>>,
    certificates: Kept<E, Finalization>,
    verdicts: Verdicts<E>,
    dbs: Dbs<E>,
    schemes: Schemes,
    context: E,
}

impl<E: Context + Spawner + Storage + CryptoRng> Auditor<E> {
    async fn open(context: E, genesis: Genesis, store: &str, cache: &CacheRef) -> Result<Self, ReplayError> {
        let codec = Scheme::certificate_codec_config_unbounded();
        let blocks = Kept::open(context.child("blocks"), store, "blocks", cache, Known::default()).await;
        let certificates = Kept::open(context.child("certificates"), store, "finalizations", cache, codec).await;
        let verdicts = Verdicts::open(context.child("verdicts"), store, cache).await;
        let dbs = <Dbs<E> as DatabaseSet<E>>::init(context.child("state"), state::config(ANEW, cache), None).await;
        Ok(Self {
            blocks: blocks.map_err(|_| ReplayError::Storage("blocks"))?,
            certificates: certificates.map_err(|_| ReplayError::Storage("certificates"))?,
            verdicts: verdicts.map_err(|_| ReplayError::Storage("verdicts"))?,
            schemes: Schemes::new(Arc::new(genesis.clone()), None)?,
            chain: Chain::new(genesis),
            dbs,
            context,
        })
    }

    async fn run(mut self, progress: &mut impl FnMut(Progress)) -> Result<Replayed, ReplayError> {
        let empty = <Dbs<E> as DatabaseSet<E>>::initial_sync_targets();
        let genesis = ChainBlock::genesis(&self.chain.genesis, &empty);
        let mut parent = genesis.map_err(|_| ReplayError::Storage("the block before all others"))?;
        // Opening a store drops what comes behind changed bytes: a certificate says that there was a block.
        let last_height = self.blocks.last().max(self.certificates.last()).ok_or(ReplayError::NoBlocks)?;
        let (mut certified, mut certificates) = (None, 0);
        let (mut entries, mut refused) = (0, 0);
        for height in 1..=last_height {
            let disagrees = |what| ReplayError::Disagrees { height, what };
            let read = self.blocks.at(height).await.map_err(|_| disagrees(Difference::Unreadable))?;
            let block = read.ok_or_else(|| disagrees(Difference::Missing))?;
            let (done, bad) = self.execute(&parent, &block).await.map_err(|failed| match failed {
                Failed::Disagrees(what) => disagrees(what),
                Failed::Storage(what) => ReplayError::Storage(what),
            })?;
            (entries, refused) = (entries + done, refused + bad);
            if self.certified(&block).await.map_err(disagrees)? {
                let header = block.header();
                certificates += 1;
                certified = Some(Replayed {
                    height,
                    block: block.our_digest(),
                    uncertified: last_height - height,
                    entries,
                    refused,
                    certificates,
                    log_root: header.log_root,
                    state_root: header.state_root,
                });
            } else if self.chain.begins_epoch(block.header()) {
                return Err(disagrees(Difference::NoCertificate));
            }
            progress(Progress { height, last_height, entries });
            parent = ChainBlock::clone(&block);
            if height.is_multiple_of(WRITTEN_EVERY) {
                <Dbs<E> as DatabaseSet<E>>::finalize(&self.dbs).await.durable().await;
            }
        }
        // Not a block that anybody can be held to.
        let first = ReplayError::Disagrees { height: 1, what: Difference::NoCertificate };
        certified.ok_or(first)
    }

    /// Executes a block on the state after `parent`, compares everything, and applies it. Gives its entries, and how many were refused.
    async fn execute(&mut self, parent: &ChainBlock, block: &ChainBlock) -> Result<(u64, u64), Failed> {
        let header = block.header();
        let batch = <Dbs<E> as DatabaseSet<E>>::new_batches(&self.dbs).await;
        let deciders = self.deciders(parent, &batch).await?;
        let unlike = self.chain.unlike(parent.header(), &parent.our_digest(), &deciders, block.block());
        ensure(unlike.is_none(), || Difference::Header(unlike.unwrap_or_default()))?;
        let submissions = &block.block().submissions;
        let before = read_batch(&batch, &touched(submissions)).await.ok_or(Failed::Storage("reading the state"))?;
        self.signatures(header.height, submissions, &before)?;
        let at = Parent { height: header.height, time: header.time, log: block.block().frontier.clone() };
        let executed = execute(&self.chain.genesis, &at, submissions, &before);
        let executed = executed.map_err(|e: InvalidBlock| Difference::Execution(e.to_string()))?;
        ensure(executed.receipts.len() == header.entry_count as usize, || Difference::Result("number of entries"))?;
        ensure(executed.log.size() == header.log_size, || Difference::Result("size of the log"))?;
        ensure(executed.log.root() == header.log_root, || Difference::Result("root of the log"))?;
        let code = |receipt: &contract::Receipt| receipt.refused.as_ref().map_or(0, |reject| reject.code());
        let verdicts: Vec<u8> = executed.receipts.iter().map(code).collect();
        let refused = verdicts.iter().filter(|verdict| **verdict != 0).count() as u64;
        let kept = self.verdicts.at(header.height).await.map_err(|_| Difference::UnreadableVerdicts)?;
        let same = if refused == 0 { kept.iter().all(|verdict| *verdict == 0) } else { kept == verdicts };
        ensure(same && kept.len() <= verdicts.len(), || Difference::Verdicts)?;
        let writes = write_batch(batch, executed.writes).await.ok_or(Failed::Storage("writing the state"))?;
        ensure(our_digest(&writes.root()) == header.state_root, || Difference::Result("root of the state"))?;
        let target = block.sync_target();
        let same = <Dbs<E> as DatabaseSet<E>>::matches_sync_targets(&writes, target);
        ensure(same, || Difference::Result("log of the state's operations"))?;
        <Dbs<E> as DatabaseSet<E>>::apply(&self.dbs, writes).await;
        Ok((verdicts.len() as u64, refused))
    }

    async fn deciders(&self, parent: &ChainBlock, batch: &state::Batch<E>) -> Result<Deciders, Failed> {
        let unknown = Failed::Storage("the validators of the state");
        if !self.chain.begins_epoch(parent.header()) {
            return self.chain.deciders(parent.header(), None).ok_or(unknown);
        }
        let key = succession_key();
        let value = read_batch(batch, &[key]).await.and_then(|mut values| values.remove(&key));
        let value = value.ok_or(Failed::Storage("the validators of the state"))?;
        let succession: Result<Succession, _> = contract::from_cbor("succession", &value, VALUE_BYTES_MAX);
        let succession = succession.map_err(|_| Failed::Storage("the validators of the state"))?;
        let epoch = self.chain.genesis.epoch(parent.header().height.saturating_add(1));
        self.schemes.learn(&succession, epoch).map_err(|_| Failed::Storage("the validators of the state"))?;
        self.chain.deciders(parent.header(), Some(&succession)).ok_or(unknown)
    }

    fn signatures(
        &self,
        height: u64,
        submissions: &[SignedSubmission],
        before: &HashMap<Key, Vec<u8>>,
    ) -> Result<(), Difference> {
        for signed in submissions {
            let org = &signed.submission.org;
            let key = self.chain.entry_key(org, height, before);
            let holds = key.is_some_and(|key| signed.verify(&self.chain.genesis.id(), &key).is_ok());
            ensure(holds, || Difference::Signature(org.clone()))?;
        }
        Ok(())
    }

    /// Whether the block has a certificate of its own, which must hold.
    async fn certified(&mut self, block: &ChainBlock) -> Result<bool, Difference> {
        let header = block.header();
        let read = self.certificates.at(header.height).await.map_err(|_| Difference::UnreadableCertificate)?;
        let Some(certificate) = read else { return Ok(false) };
        let scheme = self.schemes.of(header.epoch).ok_or(Difference::Certificate)?;
        ensure(certifies(&certificate, block, &scheme, &mut self.context), || Difference::Certificate)?;
        Ok(true)
    }
}

/// Why a block was not executed.
enum Failed {
    Disagrees(Difference),
    Storage(&'static str),
}

impl From<Difference> for Failed {
    fn from(what: Difference) -> Self {
        Self::Disagrees(what)
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> Difference) -> Result<(), Difference> {
    if holds { Ok(()) } else { Err(what()) }
}
