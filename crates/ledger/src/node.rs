//! One validator: network, marshal, state, consensus, gossip and answers wired together. Thin, because it is what compiles slowly.

use crate::{
    Scheme,
    app::{App, Node},
    archive::Kept,
    ask::{self, Asker},
    attachments::{self, Attachments, Custody, Ways},
    begin::{self, Base, Begin, Begun},
    blame::Blames,
    block::{ChainBlock, Known, SyncTarget, our_digest},
    checkpoints::Checkpoints,
    config::{Config, Part, StartError, VaultPlace},
    ends::Ends,
    epochs::{self, Epochs, Schemes},
    gossip,
    handle::{Handle, Head, REQUESTS_MAX, Shared, Since},
    mempool::{Mempool, News},
    network::{self, Channels, MAILBOX, consensus_key},
    older::{self, Shelves},
    pace::Paced,
    peers::Peers,
    roster::Roster,
    rules::Chain,
    serve::{self, Server},
    spaced::Dbs,
    state,
    takeover::Takeover,
    vault::{SqliteVault, Vault},
    verdicts::Verdicts,
    words::{self, Questions},
};
use commonware_broadcast::buffered;
use commonware_consensus::{
    marshal::{
        self,
        core::Actor as MarshalActor,
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    types::{FixedEpocher, ViewDelta},
};
use commonware_cryptography::{Digested, Digestible as _, Signer as _, certificate::Verifier as _};
use commonware_glue::stateful::{
    Config as StatefulConfig, Stateful, SyncPlan,
    db::{DatabaseSet, SyncEngineConfig},
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network as NetworkContext, Resolver, Spawner, Storage,
    buffer::paged::{self, CacheRef},
};
use commonware_utils::{NZDuration, NZU64, NZUsize};
use futures::future::select_all;
use rand::CryptoRng;
use std::{
    marker::PhantomData,
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Buffer of a file, in bytes.
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);
/// Bytes of a page on disk, its checksum included. It is the disk's own: else each read of a page would be a read of two.
const PAGE_BYTES: usize = 4096;
/// Bytes of a page without its checksum.
pub(crate) const PAGE: NonZeroU16 = paged::page_size(PAGE_BYTES as u32);
/// The most final blocks of which the state is not on disk yet: further ones wait. Syncs that are [`crate::spaced`] leave so many at 300 blocks a second.
const UNSYNCED_MAX: NonZeroUsize = NZUsize!(128);

/// What a node's runtime must offer. The real one and the deterministic one do.
pub trait Runtime:
    Spawner + Clock + Metrics + Storage + NetworkContext + Resolver + CryptoRng + Send + Sync + 'static
{
}
impl<E> Runtime for E where
    E: Spawner + Clock + Metrics + Storage + NetworkContext + Resolver + CryptoRng + Send + Sync + 'static
{
}

type Plan<E> = SyncPlan<E, Scheme, Standard<ChainBlock>>;

/// A started node's tasks.
pub struct Running {
    tasks: Vec<Task<()>>,
}

impl Running {
    /// Completes when one of the tasks ends, after which the node is of no use.
    pub async fn wait(self) {
        if !self.tasks.is_empty() {
            let _ = select_all(self.tasks).await;
        }
    }
}

fn open_vault(config: &Config) -> Result<Arc<dyn Vault>, StartError> {
    match &config.vault {
        VaultPlace::Given(vault) => Ok(vault.clone()),
        VaultPlace::File => {
            let path = config.data_dir.join("vault.sqlite");
            Ok(Arc::new(SqliteVault::open(&path).map_err(StartError::DataDir)?))
        }
    }
}

/// The scheme by which a founder signs its votes of the first two epochs.
pub fn signer(config: &Config) -> Result<Scheme, StartError> {
    let key = consensus_key(config)?;
    epochs::scheme(&config.genesis, &config.genesis.validators(), Some(&key)).ok_or(StartError::Died)
}

/// Settles where the node begins: where it began before, where the others say that it may, or with the first block.
async fn settle<E: Runtime>(
    plan: Plan<E>,
    mut begun: Begun<E>,
    config: &Config,
    asker: &Asker<E>,
) -> Result<(Plan<E>, (Option<Base>, Begun<E>)), StartError> {
    let failed = |_| StartError::DataDir("storage failed: where it began".to_owned());
    let known = config.begin.known();
    let genesis = &config.genesis;
    if plan.should_sync(config.begin != Begin::Blocks) {
        let chosen = begin::choose(asker, genesis, known.as_ref()).await;
        let before = begun.base(genesis);
        let newer = chosen.filter(|chosen| before.as_ref().is_none_or(|old| old.header.height < chosen.header.height));
        if let Some(base) = &newer {
            // First why, then that it is so: a crash between leaves nothing half done.
            begun = begun.keep(base).await.map_err(failed)?;
        }
        let base = newer.or(before.filter(|before| before.goes_through(genesis, known.as_ref())));
        let certificate = base.as_ref().and_then(Base::certificate);
        if let (Some(base), Some(certificate)) = (base, certificate) {
            tracing::info!(height = base.header.height, "the node takes over the state at the end of an epoch");
            return Ok((plan.set_floor(certificate).await, (Some(base), begun)));
        }
        if let Some(known) = known {
            return Err(StartError::NotThroughCheckpoint(known.height));
        }
    }
    if plan.may_sync() {
        // It begins with the first block, whatever it had in mind once.
        begun = begun.forget().await.map_err(failed)?;
    }
    Ok((plan, (begun.base(genesis), begun)))
}

/// Starts a node on a runtime, and returns when it takes submissions and knows its latest state.
///
/// The engine ends the runtime by a panic when its storage fails, since it must not vote then.
pub async fn start<E: Runtime>(context: E, config: Config) -> Result<(Handle, Running), StartError> {
    config.check()?;
    let genesis = config.genesis.clone();
    let vault = open_vault(&config)?;
    let storage_failed = |what: &str| StartError::DataDir(format!("storage failed: {what}"));

    let key = consensus_key(&config)?;
    let me = key.public_key();
    let shared_genesis = Arc::new(genesis.clone());
    let signs = !matches!(config.part, Part::Watcher(_));
    let schemes = Schemes::new(shared_genesis.clone(), signs.then_some(key))?;

    let Channels {
        oracle,
        votes,
        certificates,
        resolver,
        backfill,
        blocks,
        gossip,
        attachments: carried,
        words: spoken,
        questions: asked,
        task,
    } = network::join(&context, &config)?;
    let (gossip_sender, gossip_receiver) = gossip;
    let (attachment_sender, attachment_receiver) = carried;
    let (word_sender, word_receiver) = spoken;
    let mut tasks = vec![task];

    // What callers and tasks share.
    let empty: SyncTarget = <Dbs<E> as DatabaseSet<E>>::initial_sync_targets();
    let genesis_block = ChainBlock::genesis(&genesis, &empty).map_err(|_| StartError::Died)?;
    let head = Head { header: Arc::new(genesis_block.header().clone()), digest: genesis_block.our_digest() };
    let (head_sender, head) = watch::channel(head);
    let (mempool, News { own: news, naming }) = Mempool::new(&genesis);
    let mempool = Arc::new(mempool);
    let known = Known(Some(mempool.clone()));
    let peers = Arc::new(Peers::new(&genesis, config.consensus_key.public_key()));
    let (outbox, outgoing) = mpsc::channel(attachments::OUTBOX_MAX);
    let (timers, timers_asked) = mpsc::channel(attachments::OUTBOX_MAX);
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (questions, questions_out) = mpsc::channel(words::OUTBOX_MAX);
    let (stop, _) = watch::channel(false);
    let (keep, kept) = mpsc::channel(attachments::KEEP_MAX);
    let holds = config.holds_attachments();
    let custody = config.entry_key.clone().map(|key| Custody::new(config.org.clone(), genesis.id(), key));
    if holds && custody.is_none() {
        tracing::warn!(org = %config.org, "without its entry key this node signs for nothing that its vault holds");
    }
    let ways = Ways { outbox, keep, timers };
    let attachments = Attachments::new(vault, holds, custody, peers.clone(), mempool.clone(), ways);
    let blame_dir = config.vault.is_file().then(|| config.data_dir.join("blame"));
    let blames = Blames::open(schemes.clone(), blame_dir).map_err(|e| StartError::DataDir(e.to_string()))?;
    let (stopped_sender, stopped) = watch::channel(false);
    let (since_sender, since) = watch::channel(Since { blocks_from: 1, began_at: 0 });
    let shared = Shared {
        mempool: mempool.clone(),
        attachments: attachments.clone(),
        requests,
        head,
        peers,
        blames: blames.clone(),
        questions: Questions::new(questions),
        since,
        place: (config.data_dir.clone(), config.store.clone()),
        stop,
        stopped_sender,
        stopped,
    };
    let handle = Handle { shared: Arc::new(shared) };
    let node = Arc::new(Node::new(Chain::new(genesis.clone()), genesis_block.clone(), mempool.clone(), head_sender));

    // Marshal: keeps blocks and certificates, fetches what is missing, delivers what is final in order.
    let prefix = config.store.as_str();
    let pages = NonZeroUsize::new(config.cache_bytes / PAGE_BYTES).unwrap_or(NonZeroUsize::MIN);
    let cache = CacheRef::new(PAGE, pages);
    let resolver_receiver = marshal_resolver::init(
        context.child("marshal_resolver"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: oracle.clone(),
            blocker: oracle.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 10,
            priority: true,
            codec_config: known.clone(),
            peer_provider: oracle.clone(),
            strategy: Sequential,
        },
    );
    tasks.push(broadcast.start(blocks));
    let codec = Scheme::certificate_codec_config_unbounded();
    let finalizations = Kept::open(context.child("finalizations"), prefix, "finalizations", &cache, codec).await;
    let finalizations = finalizations.map_err(|_| storage_failed("certificates"))?;
    let final_blocks = Kept::open(context.child("blocks"), prefix, "blocks", &cache, Known::default()).await;
    let final_blocks = final_blocks.map_err(|_| storage_failed("blocks"))?;
    let (older_blocks, older_certificates) = (final_blocks.older(), finalizations.older());

    // Where to begin. Peers answer meanwhile, and are answered as soon as there is a state.
    let extra = config.peers.iter().map(|peer| peer.consensus_key).collect();
    let asker = Asker::new(context.child("asker"), asked.0.clone(), handle.shared.peers.clone(), extra);
    let serving = Arc::new(OnceLock::new());
    let (asking, answering) = (asker.clone(), serving.clone());
    tasks.push(context.child("questions").spawn(move |context| ask::hear(context, asking, answering, asked)));
    let plan = SyncPlan::init(context.child("plan"), prefix.to_owned()).await;
    let begun = Begun::open(context.child("begun"), prefix).await.map_err(|_| storage_failed("where it began"))?;
    let (plan, (base, begun)) = settle(plan, begun, &config, &asker).await?;
    let takes_over = plan.floor().is_some();
    if let Some(base) = base.as_ref().filter(|_| takes_over) {
        schemes.trust(base.header.epoch, &base.validators)?;
    }
    let epoch_blocks = NonZeroU64::new(genesis.epoch_blocks).ok_or(StartError::Died)?;
    let epocher = FixedEpocher::new(epoch_blocks);
    let genesis_digest = genesis_block.digest();
    let (marshal_actor, marshal_mailbox, floor) = MarshalActor::<_, Standard<ChainBlock>, _, _, _, _, _>::init(
        context.child("marshal"),
        finalizations,
        final_blocks,
        marshal::Config {
            provider: schemes.clone(),
            epocher: epocher.clone(),
            start: plan.marshal_start(Digested::precomputed(genesis_block, genesis_digest)),
            partition_prefix: format!("{prefix}-marshal"),
            mailbox_size: MAILBOX,
            view_retention: ViewDelta::new(64),
            prunable_items_per_section: NZU64!(1024),
            page_cache: cache.clone(),
            replay_buffer: BUFFER,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            block_codec_config: known,
            max_repair: NZUsize!(32),
            max_pending_acks: UNSYNCED_MAX,
            strategy: Sequential,
        },
    )
    .await;

    // The state and the machine that writes it.
    let verdicts = Verdicts::open(context.child("verdicts"), prefix, &cache).await;
    let verdicts = verdicts.map_err(|_| storage_failed("verdicts"))?;
    let checkpoints = Checkpoints::open(context.child("checkpoints"), prefix, &cache).await;
    let checkpoints = checkpoints.map_err(|_| storage_failed("checkpoints"))?;
    let (genesis_of, known_of) = (genesis.clone(), config.begin.known());
    let began = (base, begun);
    let takeover = Takeover::new(asker.clone(), genesis_of, known_of, schemes.clone(), marshal_mailbox.clone(), began);
    let (stateful_actor, stateful) = Stateful::new(
        context.child("stateful"),
        StatefulConfig {
            application: App { node: node.clone(), verdicts: verdicts.clone(), checkpoints: checkpoints.clone() },
            db_config: state::config(prefix, &cache),
            provider: (),
            marshal: (marshal_mailbox.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: takeover.clone(),
            sync_config: SyncEngineConfig {
                fetch_batch_size: NonZeroU64::new(ask::OPERATIONS_MAX).unwrap_or(NonZeroU64::MIN),
                apply_batch_size: NonZeroU64::new(ask::OPERATIONS_MAX).unwrap_or(NonZeroU64::MIN),
                max_outstanding_requests: NZUsize!(4),
            },
            // Marshal is asked to prune as well, and its stores keep everything.
            prune_config: Some(config.prune()),
            strategy: Sequential,
        },
    );
    let paced = Paced { inner: stateful.clone(), mempool: mempool.clone() };
    let deferred = Deferred::new(context.child("deferred"), paced, marshal_mailbox.clone(), epocher);
    tasks.push(marshal_actor.start(stateful.clone(), buffer, resolver_receiver));
    tasks.push(stateful_actor.start());

    // The state as it was left, before anybody asks.
    let dbs = stateful.subscribe_databases().await;
    if let Some((_, anchor)) = marshal_mailbox.get_anchor().await
        && anchor.inner().header().height > handle.shared.head.borrow().header.height
    {
        node.observe(anchor.inner());
    }
    // Operations of the state are checked by their own root. What proofs hold under is another, which the block names as well.
    let base = takeover.base();
    if let Some(base) = base.as_ref().filter(|_| takes_over)
        && our_digest(&dbs.read().await.root()) != base.header.state_root
    {
        return Err(storage_failed("the state that was taken over is not that of its block"));
    }

    // Consensus, epoch after epoch.
    let roster = Roster {
        oracle: oracle.clone(),
        peers: handle.shared.peers.clone(),
        mempool,
        extra: config.peers.clone(),
        peers_max: config.peers_max,
        changed: node.membership.subscribe(),
        tracked: 0,
        runtime: PhantomData,
    };
    let began_at = base.as_ref().map_or(0, |base| base.header.height);
    let ((ended, ends_told), (found, certified)) = (watch::channel(0), watch::channel(0));
    let epochs = Epochs {
        genesis: shared_genesis,
        genesis_digest,
        prefix: prefix.to_owned(),
        cache,
        schemes,
        automaton: deferred,
        blames,
        blocker: oracle,
        marshal: marshal_mailbox.clone(),
        began_at,
        ended,
        certified,
        dbs: dbs.clone(),
        roster,
        height: node.height.subscribe(),
    };
    let channels = [votes, certificates, resolver];
    tasks.push(context.child("epochs").spawn(move |context| epochs.run(context, channels)));
    let shown = base.clone().map(Arc::new);
    let shelves = Shelves { blocks: older_blocks, certificates: older_certificates, verdicts: verdicts.clone() };
    let server =
        Server { node, dbs, marshal: marshal_mailbox, verdicts, checkpoints, base: shown, cache: Arc::default() };
    let _ = serving.set(server.clone());
    let ends = Ends { asker: asker.clone(), server: server.clone(), shelf: shelves.certificates.clone(), began_at };
    tasks.push(context.child("ends").spawn(move |context| ends.run(context, ends_told, found)));
    if let Some(base) = base {
        let wanted = shelves.wanted(&base).await.map_err(|_| storage_failed("older blocks"))?;
        let blocks_from = wanted.map_or(1, |wanted| wanted.height.saturating_add(1));
        since_sender.send_replace(Since { blocks_from, began_at: base.header.height });
        let server = server.clone();
        let fetch = move |context| older::fetch(context, asker, server, shelves, base, since_sender);
        tasks.push(context.child("older").spawn(fetch));
    }
    tasks.push(context.child("server").spawn(move |context| server.run(context, requested)));
    tasks.push(context.child("timers").spawn(move |context| serve::time(context, timers_asked)));
    tasks.push(context.child("post").spawn(move |_| serve::post(attachment_sender, outgoing)));
    let collecting = attachments.clone();
    tasks.push(context.child("collect").spawn(move |_| serve::collect(collecting, attachment_receiver)));
    let asking = attachments.clone();
    tasks.push(context.child("holdings").spawn(move |context| serve::look_for_holdings(context, asking)));
    if attachments.signs() {
        let signing = attachments.clone();
        tasks.push(context.child("sign").spawn(move |_| serve::sign(signing, naming)));
    }
    if attachments.holds() {
        let (searching, keeping) = (handle.clone(), attachments.clone());
        tasks.push(context.child("keep").spawn(move |_| serve::keep(keeping, kept)));
        tasks.push(context.child("search").spawn(move |_| serve::search(searching)));
        tasks.push(context.child("missing").spawn(move |context| serve::look_for_missing(context, attachments)));
    }
    let sender = gossip_sender.clone();
    tasks.push(context.child("spread").spawn(move |context| gossip::spread(context, sender, news)));
    let (sender, beating) = (gossip_sender.clone(), handle.clone());
    tasks.push(context.child("beat").spawn(move |context| gossip::beat(context, beating, sender)));
    let hearing = handle.clone();
    let (asked, asked_by_others) = mpsc::channel(words::OUTBOX_MAX);
    let (asking, listening) = (word_sender.clone(), handle.clone());
    tasks.push(context.child("ask").spawn(move |_| words::ask(asking, questions_out)));
    tasks.push(context.child("listen").spawn(move |_| words::hear(listening, word_receiver, asked)));
    if let Some(speaker) = config.speaker.clone() {
        let speaking = handle.clone();
        tasks.push(
            context.child("speak").spawn(move |_| words::answer(speaking, speaker, word_sender, asked_by_others)),
        );
    }
    tasks.push(context.child("hear").spawn(move |_| gossip::hear(hearing, gossip_sender, gossip_receiver)));
    tracing::info!(org = %config.org, height = handle.status().height, "ledger node up");
    Ok((handle, Running { tasks }))
}
