//! What a node is started with.

use crate::{begin::Begin, vault::Vault, words::Speaker};
use commonware_glue::stateful::PruneConfig;
use commonware_utils::NZUsize;
use contract::{BadGenesis, Genesis, PublicKey, may_hold};
use ed25519_dalek::SigningKey;
use record::{OrgId, OrgRole};
use std::{fmt, net::SocketAddr, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, sync::Arc};
use zeroize::Zeroizing;

/// Threads that run a node when the caller has no wish.
pub const WORKERS_DEFAULT: usize = 2;

/// Memory for pages of the state and of blocks, in bytes, when the caller has no wish.
pub(crate) const CACHE_BYTES_DEFAULT: usize = 128 * 1024 * 1024;

/// Memory for pages of the state and of blocks, in bytes: with less a node reads nearly every page from the disk, and nobody has more.
pub const CACHE_BYTES: RangeInclusive<usize> = 1024 * 1024..=1024 * 1024 * 1024 * 1024;

/// How many nodes one connects with at most, when the founders are few and the caller has no wish.
pub const PEERS_DEFAULT: usize = 16;

/// For how many blocks a node keeps what was overwritten in the state, when the caller has no wish: a quarter of an hour of a ledger that
/// is as busy as can be, and hours of an idle one.
pub const STATE_BLOCKS_DEFAULT: usize = 16_384;

/// Overwritten operations of the state are removed every so many blocks.
const PRUNED_EVERY: NonZeroUsize = NZUsize!(64);

/// The secret half of a member's consensus key: 32 bytes, wiped from memory when dropped.
#[derive(Clone)]
pub struct ConsensusKey(Zeroizing<[u8; 32]>);

impl ConsensusKey {
    /// The public half, as the genesis document names it.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl From<[u8; 32]> for ConsensusKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}
impl fmt::Debug for ConsensusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsensusKey(of {})", self.public_key().0)
    }
}

/// The secret half of an organisation's entry key, by which a custodian signs holding receipts. Wiped from memory when dropped.
#[derive(Clone)]
pub struct EntryKey(SigningKey);

impl EntryKey {
    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }
}
impl From<SigningKey> for EntryKey {
    fn from(key: SigningKey) -> Self {
        Self(key)
    }
}
impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntryKey(secret)")
    }
}

/// Where attachments rest.
#[derive(Clone)]
pub enum VaultPlace {
    /// In a file of the data folder.
    File,
    /// Elsewhere, as in simulations.
    Given(Arc<dyn Vault>),
}

impl fmt::Debug for VaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_file() { "File" } else { "Given" })
    }
}

impl VaultPlace {
    /// Whether it is a file of the data folder.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File)
    }
}

/// One organisation's node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The chain. Its members' addresses are where peers are found.
    pub genesis: Genesis,
    /// Whose node this is.
    pub org: OrgId,
    /// The organisation's consensus key: signs votes and peer-to-peer handshakes.
    pub consensus_key: ConsensusKey,
    /// The organisation's entry key, if the node shall sign for what its vault holds. Without it nothing counts as held here.
    pub entry_key: Option<EntryKey>,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// The node's own folder, of which nobody else may make use.
    pub data_dir: PathBuf,
    /// Where attachments rest.
    pub vault: VaultPlace,
    /// Threads that run the node.
    pub workers: usize,
    /// What the node is to the consortium.
    pub part: Part,
    /// Nodes to connect with beside the members, as the state that this node has yet names them: whoever joins a consortium of which
    /// the founders have moved.
    pub peers: Vec<Peer>,
    /// Begins the names of all that the node stores: the organisation's name, unless several nodes share a store, as in simulations.
    pub store: String,
    /// What this organisation says about final headers to whoever asks; a node without it answers nobody.
    pub speaker: Option<Speaker>,
    /// The most nodes that this one connects with at a time. Queues take memory by it: some 2 MB for each.
    pub peers_max: usize,
    /// Memory for pages of the state and of blocks, in bytes. What a new entry changes lies anywhere in the state: where that is larger than
    /// this memory, entries are as fast as the disk finds pages.
    pub cache_bytes: usize,
    /// For so many blocks the node keeps operations of the state that were overwritten since: whoever takes over the state of one of these
    /// blocks finds them here. Never less than two epochs.
    pub state_blocks: usize,
    /// How the node begins when its folder is empty.
    pub begin: Begin,
}

/// What a node is to its consortium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A founder's, by the key of the genesis document.
    Founder,
    /// Of an organisation of that role, by a key that the ledger names, or will: it joined, or its key was replaced.
    Later(OrgRole),
    /// As [`Self::Later`], and votes on nothing: what a node must be that lost its folder, until its key is replaced.
    Watcher(OrgRole),
}

/// A node to connect with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its consensus key.
    pub consensus_key: PublicKey,
    /// `host:port`.
    pub address: String,
}

impl Config {
    /// A founder's node without an entry key, with [`WORKERS_DEFAULT`] threads and its vault in a file.
    pub fn new(
        genesis: Genesis,
        org: OrgId,
        consensus_key: ConsensusKey,
        listen: SocketAddr,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        let data_dir = data_dir.into();
        let vault = VaultPlace::File;
        let (workers, part, peers) = (WORKERS_DEFAULT, Part::Founder, Vec::new());
        let peers_max = genesis.members.len().saturating_mul(2).max(PEERS_DEFAULT);
        let store = org.as_str().to_owned();
        Self {
            genesis,
            org,
            consensus_key,
            entry_key: None,
            listen,
            data_dir,
            vault,
            workers,
            part,
            peers,
            store,
            speaker: None,
            peers_max,
            cache_bytes: CACHE_BYTES_DEFAULT,
            state_blocks: STATE_BLOCKS_DEFAULT,
            begin: Begin::Blocks,
        }
    }

    /// How often overwritten operations of the state are removed, and for how many blocks they are kept.
    pub(crate) fn prune(&self) -> PruneConfig {
        let epoch = usize::try_from(self.genesis.epoch_blocks).unwrap_or(usize::MAX / 4);
        let blocks = self.state_blocks.max(epoch.saturating_mul(2));
        PruneConfig {
            maintenance_interval: PRUNED_EVERY,
            retained_marshal_blocks: blocks,
            retained_qmdb_blocks: blocks,
        }
    }

    /// Checks the configuration.
    pub fn check(&self) -> Result<(), StartError> {
        self.genesis.check()?;
        if !CACHE_BYTES.contains(&self.cache_bytes) {
            return Err(StartError::CacheBytes(self.cache_bytes));
        }
        if self.part != Part::Founder {
            return Ok(());
        }
        let member = self.genesis.member(&self.org).ok_or_else(|| StartError::NoMember(self.org.clone()))?;
        if member.consensus_key != self.consensus_key.public_key() {
            return Err(StartError::OtherKey(self.org.clone()));
        }
        Ok(())
    }

    /// Whether this organisation keeps attachments.
    pub fn holds_attachments(&self) -> bool {
        let role = match self.part {
            Part::Founder => self.genesis.member(&self.org).map(|member| member.role),
            Part::Later(role) | Part::Watcher(role) => Some(role),
        };
        role.is_some_and(may_hold)
    }
}

/// Why a node does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The genesis document is not valid.
    #[error(transparent)]
    Genesis(#[from] BadGenesis),
    /// The organisation is not among the founding members.
    #[error("`{0}` is no member of this consortium")]
    NoMember(OrgId),
    /// The key is not the one that the genesis document names.
    #[error("the consensus key is not the one that the genesis document names for `{0}`")]
    OtherKey(OrgId),
    /// Too little or too much memory for pages.
    #[error("{0} bytes of memory for pages of the ledger: it takes {least} to {most}", least = CACHE_BYTES.start(), most = CACHE_BYTES.end())]
    CacheBytes(usize),
    /// A member's address is not `host:port`.
    #[error("the address `{address}` of `{org}` is not `host:port`")]
    BadAddress {
        /// The member.
        org: OrgId,
        /// Its address.
        address: String,
    },
    /// A node to connect with has no ed25519 key or no `host:port`.
    #[error("a peer of the configuration has no ed25519 key or no `host:port`")]
    BadPeer,
    /// The data folder belongs to another chain or organisation.
    #[error("the data folder belongs to another chain or organisation")]
    OtherDataDir,
    /// The data folder is of an earlier version of this program, whose files this one would take for damaged and whose rules were others.
    #[error(
        "the data folder was written by an earlier version of this program, whose ledger this one does not continue: run that version, or found the consortium again"
    )]
    EarlierDataDir,
    /// Another process has the data folder open.
    #[error("another process has the data folder open")]
    DataDirInUse,
    /// The data folder cannot be used.
    #[error("the data folder cannot be used: {0}")]
    DataDir(String),
    /// Nobody can connect: the address is taken or not ours.
    #[error("cannot listen on `{listen}`: {why}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// Nobody shows a ledger that goes through the block that the operator knows.
    #[error(
        "nobody shows a ledger that goes through the checkpoint at height {0}: is it of this consortium, and are peers there?"
    )]
    NotThroughCheckpoint(u64),
    /// The node stopped before it was up; its log says why.
    #[error("the node stopped before it was up")]
    Died,
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{GENESIS_VERSION, Member};
    use record::{Digest, TimeMs};

    fn config() -> Config {
        let public = |seed: u8| PublicKey::from(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
        let org: OrgId = "mercy".parse().unwrap();
        let member = Member {
            org: org.clone(),
            role: OrgRole::Hospital,
            entry_key: public(1),
            consensus_key: public(2),
            wrap_key: String::new(),
            address: "127.0.0.1:1".into(),
        };
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "test".into(),
            time: TimeMs(0),
            members: vec![member],
            access_policy: Digest([0; 32]),
            derivation_policy: Digest([0; 32]),
            epoch_blocks: contract::EPOCH_BLOCKS_DEFAULT,
        };
        Config::new(genesis, org, [2; 32].into(), ([127, 0, 0, 1], 0).into(), "nowhere")
    }

    #[test]
    fn memory_for_pages_is_128_mib_unless_said_otherwise_and_has_bounds() {
        assert_eq!((config().cache_bytes, config().check()), (128 * 1024 * 1024, Ok(())));
        let check = |bytes: usize, is_good: bool| {
            let expected = if is_good { Ok(()) } else { Err(StartError::CacheBytes(bytes)) };
            assert_eq!(Config { cache_bytes: bytes, ..config() }.check(), expected);
        };
        check(0, false);
        check(CACHE_BYTES.start() - 1, false);
        check(*CACHE_BYTES.start(), true);
        check(*CACHE_BYTES.end(), true);
        check(CACHE_BYTES.end() + 1, false);
        check(usize::MAX, false);
    }
}
