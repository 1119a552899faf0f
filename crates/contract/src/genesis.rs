//! The genesis document: who founded the consortium, by which keys, under which policies.

use crate::{FormatError, from_cbor, to_cbor};
use ed25519_dalek::VerifyingKey;
use minicbor::{Decode, Encode};
use record::{Digest, OrgId, OrgRole, TimeMs, sha256};
use serde::{Deserialize, Serialize};

/// The longest genesis document in its binary form, in bytes.
pub const GENESIS_BYTES_MAX: usize = 1024 * 1024;
/// The most founding members.
pub const MEMBERS_MAX: usize = 256;
/// The longest wrapping key and the longest address of a member, in bytes.
pub const MEMBER_TEXT_BYTES_MAX: usize = 256;
/// The shortest and the longest epoch, in blocks.
pub const EPOCH_BLOCKS: std::ops::RangeInclusive<u64> = 4..=1_000_000;
/// The epoch of those who have no wish, in blocks: an idle chain changes its validators twice an hour.
pub const EPOCH_BLOCKS_DEFAULT: u64 = 1024;
/// The format that this version of the software reads and writes.
pub const GENESIS_VERSION: u32 = 1;

const GENESIS_DOMAIN: &[u8] = b"vitaltrace/genesis/1\0";
const VALIDATORS_DOMAIN: &[u8] = b"vitaltrace/validators/1\0";

/// An ed25519 public key, 32 bytes. Text form: hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct PublicKey(#[n(0)] pub Digest);

impl PublicKey {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}
impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Digest(bytes))
    }
}

/// A founding organisation. Separate keys for entries, for consensus and for wrapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(array)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    #[n(0)]
    pub org: OrgId,
    /// What it is.
    #[n(1)]
    pub role: OrgRole,
    /// Signs its submissions.
    #[n(2)]
    pub entry_key: PublicKey,
    /// Signs its votes and its peer-to-peer handshakes.
    #[n(3)]
    pub consensus_key: PublicKey,
    /// Patient keys are wrapped to this age recipient (`age1...`).
    #[n(4)]
    pub wrap_key: String,
    /// Where its validator listens: `host:port`.
    #[n(5)]
    pub address: String,
}

/// What a consortium starts from. Its id, [`Genesis::id`], is all that a stranger needs to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(array)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    #[n(0)]
    pub version: u32,
    /// A name for people.
    #[n(1)]
    pub name: String,
    /// Block time of height 0.
    #[n(2)]
    pub time: TimeMs,
    /// Sorted by name.
    #[n(3)]
    pub members: Vec<Member>,
    /// Digest of the access policy in force from the start.
    #[n(4)]
    pub access_policy: Digest,
    /// Digest of the derivation policy in force from the start.
    #[n(5)]
    pub derivation_policy: Digest,
    /// Blocks of an epoch, within [`EPOCH_BLOCKS`]. The validators change between epochs only.
    #[n(6)]
    #[serde(default = "epoch_blocks_default")]
    pub epoch_blocks: u64,
}

fn epoch_blocks_default() -> u64 {
    EPOCH_BLOCKS_DEFAULT
}

/// Why a document is no genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGenesis {
    /// Not the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A version this software does not know.
    #[error("genesis version {0} is unknown: this software reads version {GENESIS_VERSION}")]
    Version(u32),
    /// No members, or too many.
    #[error("a consortium has 1 to {MEMBERS_MAX} founding members, not {0}")]
    Members(usize),
    /// Not sorted, or named twice.
    #[error("members must be sorted by name and named once: `{0}` is not")]
    Order(OrgId),
    /// A key is shared between members or purposes.
    #[error("a key of `{0}` is used twice: every member needs its own entry key and consensus key")]
    SharedKey(OrgId),
    /// A key is no ed25519 public key.
    #[error("a key of `{0}` is no ed25519 public key")]
    BadKey(OrgId),
    /// A wrapping key or an address is too long.
    #[error("the wrapping key and the address of `{0}` have at most {MEMBER_TEXT_BYTES_MAX} bytes each")]
    Text(OrgId),
    /// Epochs too short or too long.
    #[error("an epoch has {min} to {max} blocks, not {0}", min = EPOCH_BLOCKS.start(), max = EPOCH_BLOCKS.end())]
    EpochBlocks(u64),
}

impl Genesis {
    /// Reads and checks the binary form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadGenesis> {
        let genesis: Self = from_cbor("genesis document", bytes, GENESIS_BYTES_MAX)?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The binary form, which the id is the digest of.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// The chain's name: SHA-256(domain ‖ binary form).
    pub fn id(&self) -> Digest {
        sha256(&[GENESIS_DOMAIN, &self.to_bytes()])
    }

    /// Consensus signatures are made in this namespace, so that no signature of one chain means anything on another.
    pub fn namespace(&self) -> Vec<u8> {
        format!("vitaltrace/1/{}", self.id()).into_bytes()
    }

    /// Checks what every reader must be able to rely on: version, order, distinct and valid keys.
    pub fn check(&self) -> Result<(), BadGenesis> {
        if self.version != GENESIS_VERSION {
            return Err(BadGenesis::Version(self.version));
        }
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return Err(BadGenesis::Members(self.members.len()));
        }
        if let Some(pair) = self.members.windows(2).find(|pair| pair[0].org >= pair[1].org) {
            return Err(BadGenesis::Order(pair[1].org.clone()));
        }
        if !EPOCH_BLOCKS.contains(&self.epoch_blocks) {
            return Err(BadGenesis::EpochBlocks(self.epoch_blocks));
        }
        let mut seen = std::collections::BTreeSet::new();
        for member in &self.members {
            if member.wrap_key.len().max(member.address.len()) > MEMBER_TEXT_BYTES_MAX {
                return Err(BadGenesis::Text(member.org.clone()));
            }
            for key in [member.entry_key, member.consensus_key] {
                if VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak()) {
                    if !seen.insert(key) {
                        return Err(BadGenesis::SharedKey(member.org.clone()));
                    }
                } else {
                    return Err(BadGenesis::BadKey(member.org.clone()));
                }
            }
        }
        Ok(())
    }

    /// The founding member of that name.
    pub fn member(&self, org: &OrgId) -> Option<&Member> {
        self.members.binary_search_by(|member| member.org.cmp(org)).ok().map(|i| &self.members[i])
    }

    /// The founders' consensus keys, sorted: who decides the first two epochs.
    pub fn validators(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = self.members.iter().map(|member| member.consensus_key).collect();
        keys.sort();
        keys
    }

    /// Digest of the founders' validator set.
    pub fn validators_digest(&self) -> Digest {
        validators_digest(&self.validators())
    }

    /// The epoch that the block at `height` belongs to.
    pub fn epoch(&self, height: u64) -> u64 {
        height / self.epoch_blocks.max(1)
    }
}

/// Digest of a validator set, as headers name it: SHA-256(domain ‖ encoding of the consensus keys, which must be sorted).
pub fn validators_digest(keys: &[PublicKey]) -> Digest {
    sha256(&[VALIDATORS_DOMAIN, &to_cbor(&keys)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{genesis, org, public};

    fn check(change: impl Fn(&mut Genesis), expected: Result<(), BadGenesis>) {
        let mut genesis = genesis();
        change(&mut genesis);
        assert_eq!(Genesis::from_bytes(&genesis.to_bytes()).map(|_| ()), expected);
    }

    #[test]
    fn a_genesis_has_sorted_members_with_keys_of_their_own() {
        check(|_| {}, Ok(()));
        check(|genesis| genesis.version = 2, Err(BadGenesis::Version(2)));
        check(|genesis| genesis.members.clear(), Err(BadGenesis::Members(0)));
        check(|genesis| genesis.members.swap(0, 1), Err(BadGenesis::Order(org("acme"))));
        check(|genesis| genesis.members[1].org = org("acme"), Err(BadGenesis::Order(org("acme"))));
        check(|genesis| genesis.members[1].entry_key = public(100), Err(BadGenesis::SharedKey(org("county"))));
        check(|genesis| genesis.members[1].consensus_key = public(101), Err(BadGenesis::SharedKey(org("county"))));
        check(|genesis| genesis.members[2].entry_key = [0; 32].into(), Err(BadGenesis::BadKey(org("mercy"))));
        check(|genesis| genesis.members[2].address = "x".repeat(256), Ok(()));
        check(|genesis| genesis.members[2].address = "x".repeat(257), Err(BadGenesis::Text(org("mercy"))));
        check(|genesis| genesis.members[2].wrap_key = "x".repeat(257), Err(BadGenesis::Text(org("mercy"))));
        check(|genesis| genesis.epoch_blocks = 3, Err(BadGenesis::EpochBlocks(3)));
        check(|genesis| genesis.epoch_blocks = 4, Ok(()));
        check(|genesis| genesis.epoch_blocks = 1_000_001, Err(BadGenesis::EpochBlocks(1_000_001)));
    }

    #[test]
    fn every_change_makes_another_chain() {
        let mut other = genesis();
        other.time = other.time.plus_ms(1);
        assert_ne!(other.id(), genesis().id());
        assert_ne!(other.namespace(), genesis().namespace());
        assert_eq!(other.validators_digest(), genesis().validators_digest());
    }
}
