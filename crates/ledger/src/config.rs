//! What a node is started with.

use contract::{BadGenesis, Genesis, Member, PublicKey};
use ed25519_dalek::SigningKey;
use record::{OrgId, OrgRole};
use std::{net::SocketAddr, path::PathBuf};
use zeroize::Zeroizing;

/// Threads that run a node when the caller has no wish.
pub const WORKERS_DEFAULT: usize = 2;

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
impl std::fmt::Debug for ConsensusKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConsensusKey(of {})", self.public_key().0)
    }
}

/// Where attachments rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultPlace {
    /// In a file of the data folder.
    File,
    /// In memory, for simulations: they are gone with the process.
    Memory,
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
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// The node's own folder, of which nobody else may make use.
    pub data_dir: PathBuf,
    /// Organisations of these roles keep attachments. All members must agree on it.
    pub vault_roles: Vec<OrgRole>,
    /// Where attachments rest.
    pub vault: VaultPlace,
    /// Threads that run the node.
    pub workers: usize,
}

impl Config {
    /// A node with the roles that hold attachments by default (EMS, hospital, compliance) and [`WORKERS_DEFAULT`] threads.
    pub fn new(
        genesis: Genesis,
        org: OrgId,
        consensus_key: ConsensusKey,
        listen: SocketAddr,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        let vault_roles = vec![OrgRole::Ems, OrgRole::Hospital, OrgRole::Compliance];
        let data_dir = data_dir.into();
        let vault = VaultPlace::File;
        Self { genesis, org, consensus_key, listen, data_dir, vault_roles, vault, workers: WORKERS_DEFAULT }
    }

    /// Checks the configuration, and gives the member whose node this is.
    pub fn check(&self) -> Result<&Member, StartError> {
        self.genesis.check()?;
        let member = self.genesis.member(&self.org).ok_or_else(|| StartError::NoMember(self.org.clone()))?;
        if member.consensus_key != self.consensus_key.public_key() {
            return Err(StartError::OtherKey(self.org.clone()));
        }
        Ok(member)
    }

    /// Whether this organisation keeps attachments.
    pub fn holds_attachments(&self) -> bool {
        self.genesis.member(&self.org).is_some_and(|member| self.vault_roles.contains(&member.role))
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
    /// A member's address is not `host:port`.
    #[error("the address `{address}` of `{org}` is not `host:port`")]
    BadAddress {
        /// The member.
        org: OrgId,
        /// Its address.
        address: String,
    },
    /// The data folder belongs to another chain or organisation.
    #[error("the data folder belongs to another chain or organisation")]
    OtherDataDir,
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
    /// The node stopped before it was up; its log says why.
    #[error("the node stopped before it was up")]
    Died,
}
