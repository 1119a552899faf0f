//! One consensus engine for each epoch, with the validators that the final state names for it.
//!
//! An epoch ends with its last block, which is proposed again until it is final; then the engine of the next one starts on it. Which set
//! decides an epoch was settled an epoch before it began, so a node that has the state of any block of an epoch can check the
//! certificates of that epoch and of the next one. A node that fell behind hears messages of later epochs, which it cannot check, and asks whoever
//! sent them for the last block of its own. What it hears of the very next epoch is kept for that engine: the others enter a moment earlier,
//! and the first proposal would be lost.
//!
//! The next epoch begins with the certificate of that last block. A node that has the block as final without it, which a crash can leave behind, goes on in the
//! epoch before: the others may not have it either, and need its vote.

use crate::{
    Scheme,
    blame::Blames,
    block::engine_key,
    config::StartError,
    early::{Early, EarlyFirst},
    heard::Heard,
    network::{Channel, MAILBOX},
    node::Runtime,
    roster::Roster,
    serve::Marshal,
    spaced::Dbs,
    state,
};
use commonware_consensus::{
    CertifiableAutomaton, Relay, Reporter, Reporters,
    simplex::{
        self, Plan,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
        types::{Activity, Context},
    },
    types::{Epoch, Height, ViewDelta},
};
use commonware_cryptography::{
    Digestible as _, Sha256,
    certificate::{Provider, Scoped},
    ed25519, sha256,
};
use commonware_p2p::{
    Blocker, Message, Receiver, Recipients, Sender,
    utils::mux::{self, GlobalSender, MuxHandle, Muxer, SubReceiver, SubSender},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle as Task, IoBuf, IoBufs, buffer::paged::CacheRef};
use commonware_utils::{NZDuration, NZUsize, TryCollect as _, channel, ordered::Set, vec::NonEmptyVec};
use contract::{
    Genesis, PublicKey,
    state::{Succession, VALUE_BYTES_MAX, succession_key},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::watch;

/// How long a leader may take to propose. More than an idle chain's pause between blocks.
const LEADER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a view may take to be certified.
const CERTIFICATION_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How often a vote to give up a view is repeated.
const RETRY_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A leader that was silent for so long is passed over at once.
const SKIP_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Buffer of a file, in bytes.
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);

/// Consensus keys in the engine's order.
fn participants(keys: &[PublicKey]) -> Option<Set<ed25519::PublicKey>> {
    keys.iter().map(engine_key).collect::<Option<Vec<_>>>()?.into_iter().try_collect().ok()
}

/// The scheme that checks certificates of the validators `keys` on the chain of `genesis`, and signs nothing.
pub fn verifier(genesis: &Genesis, keys: &[PublicKey]) -> Option<Scheme> {
    Some(Scheme::verifier(&genesis.namespace(), participants(keys)?))
}

/// The scheme by which one of the validators `keys` signs; one that signs nothing, when the key is none of theirs.
pub(crate) fn scheme(genesis: &Genesis, keys: &[PublicKey], key: Option<&ed25519::PrivateKey>) -> Option<Scheme> {
    let participants = participants(keys)?;
    let signer = key.and_then(|key| Scheme::signer(&genesis.namespace(), participants.clone(), key.clone()));
    Some(signer.unwrap_or_else(|| Scheme::verifier(&genesis.namespace(), participants)))
}

#[derive(Default)]
struct Known {
    /// By the first epoch that they decide.
    sets: BTreeMap<u64, Arc<Scheme>>,
    /// The last epoch of which the set is settled.
    until: u64,
}

/// The schemes of the epochs that the final state tells of.
#[derive(Clone)]
pub(crate) struct Schemes {
    genesis: Arc<Genesis>,
    /// None for a node that only watches.
    key: Option<ed25519::PrivateKey>,
    known: Arc<RwLock<Known>>,
}

impl Schemes {
    /// The founders' set, which decides the first two epochs.
    pub(crate) fn new(genesis: Arc<Genesis>, key: Option<ed25519::PrivateKey>) -> Result<Self, StartError> {
        let schemes = Self { genesis, key, known: Arc::default() };
        schemes.learn(&Succession::new(schemes.genesis.epoch_blocks, schemes.genesis.validators()), 0)?;
        Ok(schemes)
    }

    /// Takes over who decides an epoch, from a header that was checked; of epochs before it nothing is known.
    pub(crate) fn trust(&self, epoch: u64, keys: &[PublicKey]) -> Result<(), StartError> {
        let scheme = scheme(&self.genesis, keys, self.key.as_ref()).ok_or(StartError::Died)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.sets = BTreeMap::from([(epoch, Arc::new(scheme))]);
        known.until = epoch;
        Ok(())
    }

    /// Takes over what the state says when the next block is of the epoch `now`.
    pub(crate) fn learn(&self, succession: &Succession, now: u64) -> Result<(), StartError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let until = now.saturating_add(1);
        if known.until > 0 && succession.sets().first().is_some_and(|first| first.from > known.until) {
            // A restart: what is between is not known.
            known.sets.clear();
        }
        for set in succession.sets().iter().filter(|set| set.from <= until) {
            if let Entry::Vacant(unknown) = known.sets.entry(set.from) {
                let scheme = scheme(&self.genesis, &set.keys, self.key.as_ref()).ok_or(StartError::Died)?;
                unknown.insert(Arc::new(scheme));
            }
        }
        known.until = known.until.max(until);
        Ok(())
    }

    /// The scheme of an epoch.
    pub(crate) fn of(&self, epoch: u64) -> Option<Arc<Scheme>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let set = known.sets.range(..=epoch).next_back().filter(|_| epoch <= known.until);
        set.map(|(_, scheme)| scheme.clone())
    }
}

impl Provider for Schemes {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        self.of(epoch.get()).map(Scoped::scheme)
    }
}

/// A channel of consensus with the parts of all epochs together.
///
/// A node has the part of one epoch after the other; this is public for simulations of members that do not keep to the protocol.
pub struct AllEpochs<E: Runtime> {
    sender: GlobalSender<Wire<E>>,
    receiver: Backup,
    /// The channel is divided as long as there is one.
    _divided: MuxHandle<Wire<E>>,
}

type Wire<E> = commonware_p2p::authenticated::lookup::Sender<ed25519::PublicKey, E>;

impl<E: Runtime> AllEpochs<E> {
    /// Takes a channel of consensus over.
    pub fn new(context: &E, (sender, receiver): Channel<E>) -> Self {
        use commonware_p2p::utils::mux::Builder as _;
        let divided = Muxer::builder(context.child("mux"), sender, receiver).with_backup().with_global_sender();
        let (muxer, handle, receiver, sender) = divided.build();
        muxer.start();
        Self { sender, receiver, _divided: handle }
    }

    /// The next message, and the epoch that it is of. `None`: the network is gone.
    pub async fn recv(&mut self) -> Option<(u64, IoBuf)> {
        let (epoch, (_, message)) = self.receiver.recv().await?;
        Some((epoch, message))
    }

    /// Sends a message of an epoch to everybody.
    pub fn send(&mut self, epoch: u64, message: impl Into<IoBufs> + Send) {
        let _ = self.sender.send(epoch, Recipients::All, message, true);
    }
}

type Backup = channel::mpsc::Receiver<(u64, Message<ed25519::PublicKey>)>;

/// A channel of which each epoch has its part, and what came for an epoch that has not begun here.
struct Muxed<S: Sender, E> {
    handle: MuxHandle<S>,
    later: Backup,
    early: Early,
    /// Of all channels together.
    heard: Heard<E>,
}

impl<S: Sender<PublicKey = ed25519::PublicKey>, E: Runtime> Muxed<S, E> {
    fn new<R>(context: E, sender: S, receiver: R, heard: Heard<E>) -> Self
    where
        R: Receiver<PublicKey = ed25519::PublicKey>,
    {
        use commonware_p2p::utils::mux::Builder as _;
        let (muxer, handle, later) = Muxer::builder(context, sender, receiver).with_backup().build();
        muxer.start();
        Self { handle, later, early: Early::default(), heard }
    }

    /// The part of `epoch`, with the messages `first`, and then what came for it before it was here.
    async fn register(
        &mut self,
        epoch: u64,
        first: Vec<Message<ed25519::PublicKey>>,
    ) -> Result<(SubSender<S>, EarlyFirst<SubReceiver<ed25519::PublicKey>, E>), mux::Error> {
        let (sender, receiver) = self.handle.register(epoch).await?;
        self.early.turn_to(epoch);
        // Whatever came before the registration is in this queue, whatever comes after it is not.
        while let Ok((of, message)) = self.later.try_recv() {
            self.early.keep(of, message);
        }
        let early = std::mem::take(&mut self.early);
        self.early.turn_to(epoch.saturating_add(1));
        Ok((sender, early.before(first, receiver, self.heard.clone())))
    }
}

/// The channels of consensus.
struct Consensus<S: Sender, E> {
    votes: Muxed<S, E>,
    certificates: Muxed<S, E>,
    resolver: MuxHandle<S>,
}

/// What consensus is driven by, epoch after epoch.
pub(crate) struct Epochs<E: Runtime, A, B> {
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) genesis_digest: sha256::Digest,
    pub(crate) prefix: String,
    pub(crate) cache: CacheRef,
    pub(crate) schemes: Schemes,
    pub(crate) automaton: A,
    pub(crate) blames: Blames,
    pub(crate) blocker: B,
    pub(crate) marshal: Marshal,
    /// The height of the end at which this node began; 0 for the first block.
    pub(crate) began_at: u64,
    /// Told how high the state is when an epoch is over.
    pub(crate) ended: watch::Sender<u64>,
    /// The last end of an epoch that got its certificate after its block.
    pub(crate) certified: watch::Receiver<u64>,
    pub(crate) dbs: Dbs<E>,
    pub(crate) roster: Roster<E>,
    /// Of the latest final block.
    pub(crate) height: watch::Receiver<u64>,
}

/// An engine that runs, ended when dropped.
struct Active {
    epoch: u64,
    engine: Task<()>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.engine.abort();
    }
}

impl<E, A, B> Epochs<E, A, B>
where
    E: Runtime,
    A: CertifiableAutomaton<Context = Context<sha256::Digest, ed25519::PublicKey>, Digest = sha256::Digest>
        + Relay<Digest = sha256::Digest, PublicKey = ed25519::PublicKey, Plan = Plan<ed25519::PublicKey>>
        + Reporter<Activity = Activity<Scheme, sha256::Digest>>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    /// Decides one epoch after another until the node stops.
    pub(crate) async fn run(mut self, context: E, channels: [Channel<E>; 3]) {
        if let Err(error) = self.drive(context, channels).await {
            tracing::error!(error, "consensus cannot go on");
        }
    }

    async fn drive(
        &mut self,
        context: E,
        [votes, certificates, resolver]: [Channel<E>; 3],
    ) -> Result<(), &'static str> {
        let mut channels = Consensus::new(&context, votes, certificates, resolver);
        let mut height = *self.height.borrow_and_update();
        self.ended.send_replace(height);
        let mut active = self.enter(&context, height, &mut channels).await?;
        loop {
            let changed = Box::pin(self.height.changed());
            let certified = Box::pin(self.certified.changed());
            let engine = &mut active.engine;
            let Consensus { votes, certificates, .. } = &mut channels;
            tokio::select! {
                biased;
                changed = changed => changed.map_err(|_| "the state machine is gone")?,
                Some((epoch, message)) = votes.later.recv() => {
                    self.behind(active.epoch, epoch, &message.0);
                    votes.early.keep(epoch, message);
                    continue;
                }
                Some((epoch, message)) = certificates.later.recv() => {
                    self.behind(active.epoch, epoch, &message.0);
                    certificates.early.keep(epoch, message);
                    continue;
                }
                certified = certified => certified.map_err(|_| "nobody looks for certificates any more")?,
                _ = engine => return Err("the engine of the epoch ended"),
            }
            height = *self.height.borrow_and_update();
            let turns = self.genesis.epoch(height.saturating_add(1)) > active.epoch;
            if turns {
                self.ended.send_replace(height);
            }
            if turns && self.decided_after(height).await > active.epoch {
                // The one before ends when the next one has begun.
                active = self.enter(&context, height, &mut channels).await?;
            } else {
                self.roster.refresh(&self.dbs, height, false).await.ok_or("the state cannot be read")?;
            }
        }
    }

    /// A peer is in a later epoch: it has the certificate of the last block of this one.
    fn behind(&self, mine: u64, theirs: u64, peer: &ed25519::PublicKey) {
        if theirs > mine {
            let last = mine.saturating_add(1).saturating_mul(self.genesis.epoch_blocks).saturating_sub(1);
            self.marshal.hint_finalized(Height::new(last), NonEmptyVec::new(peer.clone()));
        }
    }

    /// The epoch that is decided next, after the block at `height`: the same once more, as long as its last block has no certificate.
    async fn decided_after(&self, height: u64) -> u64 {
        let next = self.genesis.epoch(height.saturating_add(1));
        let first = next.saturating_mul(self.genesis.epoch_blocks);
        // Where this node began it has nothing of the epoch before, and was shown that it is over.
        let begins = height > self.began_at && height.saturating_add(1) == first;
        let lacks = begins && self.marshal.get_finalization(Height::new(height)).await.is_none();
        if lacks { next.saturating_sub(1) } else { next }
    }

    /// Starts the engine of the epoch that is decided after the block at `height`, the latest of the state.
    async fn enter<S: Sender<PublicKey = ed25519::PublicKey>>(
        &mut self,
        context: &E,
        height: u64,
        channels: &mut Consensus<S, E>,
    ) -> Result<Active, &'static str> {
        let epoch = self.decided_after(height).await;
        if height > 0 {
            let succession = succession(&self.dbs).await.ok_or("the validator sets cannot be read")?;
            let next = self.genesis.epoch(height.saturating_add(1));
            self.schemes.learn(&succession, next).map_err(|_| "the state names validators that are none")?;
        }
        self.roster.refresh(&self.dbs, height, true).await.ok_or("the state cannot be read")?;
        let first = epoch.saturating_mul(self.genesis.epoch_blocks);
        let root = match first.checked_sub(1) {
            None => self.genesis_digest,
            Some(last) => {
                let block = self.marshal.get_block(Height::new(last)).await;
                block.ok_or("the last block of the epoch before is not there")?.digest()
            }
        };
        let scheme = self.schemes.of(epoch).ok_or("nobody is known to decide the epoch")?;
        let decides = commonware_cryptography::certificate::Scheme::me(&*scheme).is_some();
        let engine = simplex::Engine::new(
            context.child("simplex").with_attribute("epoch", epoch),
            simplex::Config {
                scheme: (*scheme).clone(),
                elector: RoundRobin::<Sha256>::default(),
                blocker: self.blocker.clone(),
                automaton: self.automaton.clone(),
                relay: self.automaton.clone(),
                reporter: Reporters::<_, Blames>::from((self.automaton.clone(), Some(self.blames.clone()))),
                strategy: Sequential,
                partition: partition(&self.prefix, epoch),
                mailbox_size: MAILBOX,
                epoch: Epoch::new(epoch),
                floor: simplex::config::Floor::Genesis(root),
                replay_buffer: BUFFER,
                write_buffer: BUFFER,
                page_cache: self.cache.clone(),
                leader_timeout: LEADER_TIMEOUT,
                certification_timeout: CERTIFICATION_TIMEOUT,
                timeout_retry: RETRY_TIMEOUT,
                view_retention: ViewDelta::new(256),
                skip: SkipPolicy::Enabled { timeout: SKIP_TIMEOUT, budget: simplex::SkipBudget::Participants },
                fetch_timeout: NZDuration!(Duration::from_secs(2)),
                fetch_retry_delay: Duration::from_millis(200),
                forward: ForwardPolicy::Disabled,
                // Votes of some hundred views are little, and without them a second vote that comes late would prove nothing.
                track_historical_votes: true,
            },
        );
        let gone = "the network is gone";
        let alive = channels.votes.heard.signs_of_life(epoch, &scheme, SKIP_TIMEOUT);
        let votes = channels.votes.register(epoch, alive).await.map_err(|_| gone)?;
        let certificates = channels.certificates.register(epoch, Vec::new()).await.map_err(|_| gone)?;
        let resolver = channels.resolver.register(epoch).await.map_err(|_| gone)?;
        let engine = engine.start(votes, certificates, resolver);
        // Nobody votes any more in an epoch of which the successor has ended.
        if let Some(old) = epoch.checked_sub(2) {
            let _ = context.remove(&partition(&self.prefix, old), None).await;
        }
        tracing::info!(epoch, decides, "epoch entered");
        Ok(Active { epoch, engine })
    }
}

fn partition(prefix: &str, epoch: u64) -> String {
    format!("{prefix}-simplex-{epoch}")
}

impl<S: Sender<PublicKey = ed25519::PublicKey>, E: Runtime> Consensus<S, E> {
    fn new<R>(context: &E, votes: (S, R), certificates: (S, R), resolver: (S, R)) -> Self
    where
        R: Receiver<PublicKey = ed25519::PublicKey>,
    {
        let heard = Heard::new(context.child("heard"));
        let votes = Muxed::new(context.child("votes"), votes.0, votes.1, heard.clone());
        let certificates = Muxed::new(context.child("certificates"), certificates.0, certificates.1, heard);
        let (muxer, resolver) = Muxer::new(context.child("resolver"), resolver.0, resolver.1);
        muxer.start();
        Self { votes, certificates, resolver }
    }
}

/// The validator sets as the final state has them.
pub(crate) async fn succession<E: Runtime>(dbs: &Dbs<E>) -> Option<Succession> {
    let value = state::read(dbs, &[succession_key()]).await?.pop()??;
    contract::from_cbor("succession", &value, VALUE_BYTES_MAX).ok()
}
