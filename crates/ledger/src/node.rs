//! One validator: network, marshal, state, consensus, gossip and answers wired together. Thin, because it is what compiles slowly.

use crate::{
    Scheme,
    app::{App, Node},
    attachments::{self, Attachments},
    block::{ChainBlock, SyncTarget, engine_key},
    config::{Config, StartError, VaultPlace},
    gossip,
    handle::{Handle, Head, REQUESTS_MAX, Shared},
    mempool::Mempool,
    pace::Paced,
    peers::Peers,
    rules::Chain,
    serve::{self, Server},
    state::{self, Dbs, Replayed},
    vault::{MemoryVault, SqliteVault, Vault},
    verdicts::Verdicts,
};
use commonware_broadcast::buffered;
use commonware_codec::ReadExt as _;
use commonware_consensus::{
    marshal::{
        self,
        core::Actor as MarshalActor,
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{
        self,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{
    ChaCha20Poly1305, Digested, Digestible as _, Sha256, Signer as _,
    certificate::{ConstantProvider, Verifier as _},
    ed25519, sha256,
};
use commonware_glue::stateful::{
    Config as StatefulConfig, Stateful, SyncPlan,
    db::{DatabaseSet, SyncEngineConfig},
};
use commonware_p2p::{
    Address, AddressableManager as _, Ingress,
    authenticated::lookup::{self, Network},
    max_message_size,
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network as NetworkContext, Quota, Resolver, Spawner, Storage,
    buffer::paged::CacheRef,
};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{
    Hostname, NZDuration, NZU16, NZU32, NZU64, NZUsize, TryCollect as _, ordered::Map, ordered::Set,
};
use contract::Genesis;
use futures::future::select_all;
use rand::CryptoRng;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// How long a leader may take to propose. More than an idle chain's pause between blocks.
const LEADER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a view may take to be certified.
const CERTIFICATION_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How often a vote to give up a view is repeated.
const RETRY_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A leader that was silent for so long is passed over at once.
const SKIP_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Messages that wait in an engine's mailbox.
const MAILBOX: NonZeroUsize = NZUsize!(1024);
/// Buffer of a file, in bytes.
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);

/// What a node's runtime must offer. The real one and the deterministic one do.
pub trait Runtime:
    Spawner + Clock + Metrics + Storage + NetworkContext + Resolver + CryptoRng + Send + Sync + 'static
{
}
impl<E> Runtime for E where
    E: Spawner + Clock + Metrics + Storage + NetworkContext + Resolver + CryptoRng + Send + Sync + 'static
{
}

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

/// Consensus keys of the members, in the engine's order.
fn participants(genesis: &Genesis) -> Option<Set<ed25519::PublicKey>> {
    let keys = genesis.members.iter().map(|member| engine_key(&member.consensus_key));
    keys.collect::<Option<Vec<_>>>()?.into_iter().try_collect().ok()
}

/// The scheme that checks this chain's certificates and signs nothing.
pub fn verifier(genesis: &Genesis) -> Option<Scheme> {
    Some(Scheme::verifier(&genesis.namespace(), participants(genesis)?))
}

/// A member's address: an IP address and port, or a host name and port.
fn address(text: &str) -> Option<Address> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(Address::Symmetric(socket));
    }
    let (host, port) = text.rsplit_once(':')?;
    let ingress = Ingress::Dns { host: Hostname::new(host).ok()?, port: port.parse().ok()? };
    // Where such a peer connects from is not known; the handshake proves who it is.
    let egress = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    Some(Address::Asymmetric { ingress, egress })
}

fn addresses(genesis: &Genesis) -> Result<Map<ed25519::PublicKey, Address>, StartError> {
    let mut addresses = Vec::with_capacity(genesis.members.len());
    for member in &genesis.members {
        let bad = || StartError::BadAddress { org: member.org.clone(), address: member.address.clone() };
        let key = engine_key(&member.consensus_key).ok_or_else(|| StartError::NoMember(member.org.clone()))?;
        addresses.push((key, address(&member.address).ok_or_else(bad)?));
    }
    Map::try_from(addresses).map_err(|_| StartError::Died)
}

fn per_second(messages: NonZeroU32) -> Quota {
    Quota::per_second(messages)
}

fn archive<C>(prefix: &str, name: &str, cache: &CacheRef, codec_config: C) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: NZU64!(1024),
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

fn network_config(
    config: &Config,
    signer: ed25519::PrivateKey,
    message_bytes_max: u32,
) -> lookup::Config<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Sake {
        signer,
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    let peers_max = NonZeroUsize::new(config.genesis.members.len()).unwrap_or(NonZeroUsize::MIN);
    // The engine's `local` values reconnect within a second, which few and known peers can afford, and let several members' nodes share an address.
    let mut network = lookup::Config::local(
        Cups::<_, ChaCha20Poly1305>::new(handshake, cups::Version::V1),
        &config.genesis.namespace(),
        config.listen,
        peers_max,
        message_bytes_max,
        MAILBOX,
    );
    network.tracked_peer_sets = NZUsize!(1);
    // Peers prove who they are; where they connect from may change.
    network.bypass_ip_check = true;
    network
}

fn open_vault(config: &Config) -> Result<Arc<dyn Vault>, StartError> {
    match config.vault {
        VaultPlace::Memory => Ok(Arc::new(MemoryVault::default())),
        VaultPlace::File => {
            let path = config.data_dir.join("vault.sqlite");
            Ok(Arc::new(SqliteVault::open(&path).map_err(StartError::DataDir)?))
        }
    }
}

/// Starts a node on a runtime, and returns when it takes submissions and knows its latest state.
///
/// The engine ends the runtime by a panic when its storage fails, since it must not vote then.
pub async fn start<E: Runtime>(context: E, config: Config) -> Result<(Handle, Running), StartError> {
    let member = config.check()?.clone();
    let genesis = config.genesis.clone();
    let vault = open_vault(&config)?;
    let storage_failed = |what: &str| StartError::DataDir(format!("storage failed: {what}"));

    let key = ed25519::PrivateKey::read(&mut bytes::Bytes::copy_from_slice(config.consensus_key.bytes()))
        .map_err(|_| StartError::OtherKey(config.org.clone()))?;
    let me = key.public_key();
    let participants = participants(&genesis).ok_or(StartError::NoMember(config.org.clone()))?;
    let count = u32::try_from(genesis.members.len()).unwrap_or(u32::MAX);
    let scheme = Scheme::signer(&genesis.namespace(), participants, key.clone())
        .ok_or(StartError::OtherKey(config.org.clone()))?;
    let provider = ConstantProvider::new(scheme.clone());

    // Network.
    let message_bytes_max = max_message_size(&[
        simplex::max_payload_size::<Scheme, sha256::Digest>(count),
        marshal::max_payload_size::<Standard<ChainBlock>, Scheme>(count, &()),
        gossip::MESSAGE_BYTES_MAX,
        attachments::MESSAGE_BYTES_MAX,
    ]);
    let (mut network, mut oracle) =
        Network::new(context.child("network"), network_config(&config, key, message_bytes_max));
    oracle.track(0, addresses(&genesis)?);
    let votes = network.register(0, per_second(NZU32!(2048)));
    let certificates = network.register(1, per_second(NZU32!(2048)));
    let resolver = network.register(2, per_second(NZU32!(256)));
    let backfill = network.register(3, per_second(NZU32!(256)));
    let blocks = network.register(4, per_second(NZU32!(256)));
    let (gossip_sender, gossip_receiver) = network.register(5, per_second(NZU32!(512)));
    let (attachment_sender, attachment_receiver) = network.register(6, per_second(NZU32!(256)));
    let mut tasks = vec![network.start()];

    // What callers and tasks share.
    let empty: SyncTarget = <Dbs<E> as DatabaseSet<E>>::initial_sync_targets();
    let genesis_block = ChainBlock::genesis(&genesis, &empty).map_err(|_| StartError::Died)?;
    let head = Head { header: Arc::new(genesis_block.header().clone()), digest: genesis_block.our_digest() };
    let (head_sender, head) = watch::channel(head);
    let (mempool, news) = Mempool::new(&genesis);
    let mempool = Arc::new(mempool);
    let peers = Arc::new(Peers::new(&genesis, member.consensus_key));
    let (outbox, outgoing) = mpsc::channel(attachments::OUTBOX_MAX);
    let (timers, timers_asked) = mpsc::channel(attachments::OUTBOX_MAX);
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (stop, _) = watch::channel(false);
    let holders = peers.of_roles(&config.vault_roles);
    let attachments = Attachments::new(vault, config.holds_attachments(), holders, mempool.clone(), outbox, timers);
    let (stopped_sender, stopped) = watch::channel(false);
    let shared = Shared {
        mempool: mempool.clone(),
        attachments: attachments.clone(),
        requests,
        head,
        peers,
        stop,
        stopped_sender,
        stopped,
    };
    let handle = Handle { shared: Arc::new(shared) };
    let node = Arc::new(Node::new(Chain::new(genesis.clone()), genesis_block.clone(), mempool.clone(), head_sender));

    // Marshal: keeps blocks and certificates, fetches what is missing, delivers what is final in order.
    let prefix = config.org.as_str();
    let cache = CacheRef::new(NZU16!(4096), NZUsize!(8192));
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
            codec_config: (),
            peer_provider: oracle.clone(),
            strategy: Sequential,
        },
    );
    tasks.push(broadcast.start(blocks));
    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        archive(prefix, "finalizations", &cache, Scheme::certificate_codec_config_unbounded()),
    );
    let finalizations = finalizations.await.map_err(|_| storage_failed("certificates"))?;
    let final_blocks = prunable::Archive::init(context.child("blocks"), archive(prefix, "blocks", &cache, ()));
    let final_blocks = final_blocks.await.map_err(|_| storage_failed("blocks"))?;
    let plan = SyncPlan::init(context.child("plan"), prefix.to_owned()).await;
    let epocher = FixedEpocher::new(NZU64!(u64::MAX));
    let genesis_digest = genesis_block.digest();
    let (marshal_actor, marshal_mailbox, floor) = MarshalActor::<_, Standard<ChainBlock>, _, _, _, _, _>::init(
        context.child("marshal"),
        finalizations,
        final_blocks,
        marshal::Config {
            provider: provider.clone(),
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
            block_codec_config: (),
            max_repair: NZUsize!(32),
            max_pending_acks: NZUsize!(16),
            strategy: Sequential,
        },
    )
    .await;

    // The state and the machine that writes it.
    let verdicts = Verdicts::open(context.child("verdicts"), prefix, cache.clone()).await;
    let verdicts = verdicts.map_err(|_| storage_failed("verdicts"))?;
    let (stateful_actor, stateful) = Stateful::new(
        context.child("stateful"),
        StatefulConfig {
            application: App { node: node.clone(), verdicts: verdicts.clone() },
            db_config: state::config(prefix, &cache),
            provider: (),
            marshal: (marshal_mailbox.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: Replayed,
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(1),
                apply_batch_size: NZU64!(1),
                max_outstanding_requests: NZUsize!(1),
            },
            prune_config: None,
            strategy: Sequential,
        },
    );
    let paced = Paced { inner: stateful.clone(), mempool };
    let deferred = Deferred::new(context.child("deferred"), paced, marshal_mailbox.clone(), epocher);
    tasks.push(marshal_actor.start(stateful.clone(), buffer, resolver_receiver));
    tasks.push(stateful_actor.start());

    // Consensus.
    let engine = simplex::Engine::new(
        context.child("simplex"),
        simplex::Config {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker: oracle,
            automaton: deferred.clone(),
            relay: deferred.clone(),
            reporter: deferred,
            strategy: Sequential,
            partition: format!("{prefix}-simplex"),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: simplex::config::Floor::Genesis(genesis_digest),
            replay_buffer: BUFFER,
            write_buffer: BUFFER,
            page_cache: cache,
            leader_timeout: LEADER_TIMEOUT,
            certification_timeout: CERTIFICATION_TIMEOUT,
            timeout_retry: RETRY_TIMEOUT,
            view_retention: ViewDelta::new(256),
            skip: SkipPolicy::Enabled { timeout: SKIP_TIMEOUT, budget: simplex::SkipBudget::Participants },
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(200),
            forward: ForwardPolicy::Disabled,
            track_historical_votes: false,
        },
    );
    tasks.push(engine.start(votes, certificates, resolver));

    // The state as it was left, before anybody asks.
    let dbs = stateful.subscribe_databases().await;
    if let Some((_, anchor)) = marshal_mailbox.get_anchor().await
        && anchor.inner().header().height > handle.shared.head.borrow().header.height
    {
        node.observe(anchor.inner());
    }
    let server = Server { node, dbs, marshal: marshal_mailbox, verdicts, cache: Arc::default() };
    tasks.push(context.child("server").spawn(move |context| server.run(context, requested)));
    tasks.push(context.child("timers").spawn(move |context| serve::time(context, timers_asked)));
    tasks.push(context.child("post").spawn(move |_| serve::post(attachment_sender, outgoing)));
    let collecting = attachments.clone();
    tasks.push(context.child("collect").spawn(move |_| serve::collect(collecting, attachment_receiver)));
    if attachments.holds() {
        let searching = handle.clone();
        tasks.push(context.child("search").spawn(move |_| serve::search(searching)));
        tasks.push(context.child("missing").spawn(move |context| serve::look_for_missing(context, attachments)));
    }
    let sender = gossip_sender.clone();
    tasks.push(context.child("spread").spawn(move |context| gossip::spread(context, sender, news)));
    let (sender, beating) = (gossip_sender.clone(), handle.clone());
    tasks.push(context.child("beat").spawn(move |context| gossip::beat(context, beating, sender)));
    let hearing = handle.clone();
    tasks.push(context.child("hear").spawn(move |_| gossip::hear(hearing, gossip_sender, gossip_receiver)));
    tracing::info!(org = %config.org, height = handle.status().height, "ledger node up");
    Ok((handle, Running { tasks }))
}
