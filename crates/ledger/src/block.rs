//! The contract's block as the engine carries it: length-prefixed, named by its header's digest.

use crate::mempool::Mempool;
use bytes::Bytes;
use commonware_codec::{Buf, EncodeSize, Error, MaxEncodeSize as _, RangeCfg, Read, ReadExt as _, Write, varint::UInt};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    simplex::types::Context as SimplexContext,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digestible, ed25519, sha256};
use commonware_runtime::BufMut;
use commonware_storage::{
    mmr::{self, Location},
    qmdb::sync::Target,
};
use commonware_utils::range::NonEmptyRange;
use contract::{BLOCK_BYTES_MAX, Block, Genesis, HEADER_VERSION, Header, PublicKey, merkle::Frontier};
use record::{Digest, OrgId};
use std::sync::Arc;

/// Where a proposal stands in consensus.
pub(crate) type Context = SimplexContext<sha256::Digest, ed25519::PublicKey>;
/// What state sync is checked against.
pub(crate) type SyncTarget = Target<mmr::Family, sha256::Digest>;

/// Our digest as the engine's.
pub(crate) fn engine_digest(digest: &Digest) -> sha256::Digest {
    sha256::Digest(digest.0)
}

/// The engine's digest as ours.
pub(crate) fn our_digest(digest: &sha256::Digest) -> Digest {
    Digest(digest.0)
}

/// The engine's public key as ours.
pub(crate) fn our_key(key: &ed25519::PublicKey) -> PublicKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.as_ref());
    PublicKey::from(bytes)
}

/// Our public key as the engine's.
pub(crate) fn engine_key(key: &PublicKey) -> Option<ed25519::PublicKey> {
    ed25519::PublicKey::read(&mut Bytes::copy_from_slice(key.as_bytes())).ok()
}

/// Where a block that is read may find its submissions, so that they are not read again: this node's mempool, once it has one.
#[derive(Clone, Default)]
pub(crate) struct Known(pub(crate) Option<Arc<Mempool>>);

/// A block with its encoding and digest.
#[derive(Debug, Clone)]
pub(crate) struct ChainBlock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // INVARIANT: header and body belong together, the context can be rebuilt, and `encoded` and `digest` are the block's.
    block: Arc<Block>,
    encoded: Bytes,
    digest: sha256::Digest,
    context: Context,
    sync_target: SyncTarget,
}

/// Why a block cannot be carried by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotCarried(&'static str);

impl ChainBlock {
    /// A block whose header is filled in.
    pub(crate) fn new(block: Block) -> Result<Self, NotCarried> {
        let encoded = Bytes::from(block.to_bytes());
        Self::with_encoding(block, encoded)
    }

    /// The block before all others. `empty`: the sync target of an empty state.
    pub(crate) fn genesis(genesis: &Genesis, empty: &SyncTarget) -> Result<Self, NotCarried> {
        let frontier = Frontier::default();
        let leader = genesis.members.first().ok_or(NotCarried("no members"))?.consensus_key;
        let header = Header {
            version: HEADER_VERSION,
            chain: genesis.id(),
            epoch: 0,
            view: 0,
            leader,
            parent_view: 0,
            parent: Digest([0; 32]),
            height: 0,
            time: genesis.time,
            entry_count: 0,
            body: Block::body_digest(&frontier, &[], &Vec::new()),
            log_size: 0,
            log_root: frontier.root(),
            state_root: Digest([0; 32]),
            ops_root: our_digest(&empty.root),
            ops_start: empty.range.start().as_u64(),
            ops_end: empty.range.end().as_u64(),
            validators: genesis.validators_digest(),
            next_validators: genesis.validators_digest(),
        };
        Self::new(Block { header, frontier, submissions: Vec::new(), holdings: Vec::new() })
    }

    /// A block as another node sends it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, NotCarried> {
        let block = Block::from_bytes(bytes).map_err(|_| NotCarried("not the format"))?;
        Self::with_encoding(block, Bytes::copy_from_slice(bytes))
    }

    fn with_encoding(block: Block, encoded: Bytes) -> Result<Self, NotCarried> {
        let header = &block.header;
        if encoded.len() > BLOCK_BYTES_MAX {
            return Err(NotCarried("too many bytes"));
        }
        let leader = engine_key(&header.leader).ok_or(NotCarried("the leader is no key"))?;
        let context = Context {
            round: Round::new(Epoch::new(header.epoch), View::new(header.view)),
            leader,
            parent: (View::new(header.parent_view), engine_digest(&header.parent)),
        };
        let sync_target = sync_target(header)?;
        let digest = engine_digest(&header.digest());
        Ok(Self(Arc::new(Inner { block: Arc::new(block), encoded, digest, context, sync_target })))
    }

    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.0.block
    }
    pub(crate) fn header(&self) -> &Header {
        &self.0.block.header
    }
    pub(crate) fn sync_target(&self) -> &SyncTarget {
        &self.0.sync_target
    }
    /// Digest of the header.
    pub(crate) fn our_digest(&self) -> Digest {
        our_digest(&self.0.digest)
    }
}

/// What the state after the block is synced to.
pub(crate) fn sync_target(header: &Header) -> Result<SyncTarget, NotCarried> {
    let range = NonEmptyRange::new(Location::new(header.ops_start)..Location::new(header.ops_end))
        .map_err(|_| NotCarried("no state operations"))?;
    Ok(SyncTarget::new(engine_digest(&header.ops_root), range))
}

impl Write for ChainBlock {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.encoded.write(buf);
    }
}
impl EncodeSize for ChainBlock {
    fn encode_size(&self) -> usize {
        self.0.encoded.encode_size()
    }
}
impl Read for ChainBlock {
    type Cfg = Known;

    /// The bound is checked before anything is allocated, and the body is bound to the header before anybody can name the block by its digest.
    fn read_cfg(buf: &mut impl Buf, Known(mempool): &Known) -> Result<Self, Error> {
        let encoded = Bytes::read_cfg(buf, &RangeCfg::from(..=BLOCK_BYTES_MAX))?;
        let known = |org: &OrgId, lane, first_seq| mempool.as_ref()?.waiting(org, lane, first_seq);
        let block =
            Block::from_bytes_knowing(&encoded, known).map_err(|_| Error::Invalid("block", "not the format"))?;
        Self::with_encoding(block, encoded).map_err(|NotCarried(why)| Error::Invalid("block", why))
    }
}
impl Digestible for ChainBlock {
    type Digest = sha256::Digest;
    fn digest(&self) -> sha256::Digest {
        self.0.digest
    }
}
impl Heightable for ChainBlock {
    fn height(&self) -> Height {
        Height::new(self.header().height)
    }
}
impl ConsensusBlock for ChainBlock {
    fn parent(&self) -> sha256::Digest {
        engine_digest(&self.header().parent)
    }
}
impl CertifiableBlock for ChainBlock {
    type Context = Context;
    fn context(&self) -> Context {
        self.0.context.clone()
    }
}
impl BoundedBlock for ChainBlock {
    fn max_encode_size(_: &Known) -> usize {
        BLOCK_BYTES_MAX + UInt::<u32>::MAX_ENCODE_SIZE
    }
}
