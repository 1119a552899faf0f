//! State proofs of the last block of each epoch. With that block's header and certificate, which every node keeps as well, they are a
//! checkpoint: what a stranger has to know to go on from there.

use crate::{
    StateProof,
    archive::{ByHeight, config},
    state::{self, Db},
};
use commonware_codec::RangeCfg;
use commonware_cryptography::sha256;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{Context, archive::Error};
use contract::{
    PolicyKind,
    state::{Key, policy_key},
};
use minicbor::{Decode, Encode};

/// The longest item, in bytes: two values with their proofs, each of at most 64 hashes and a chunk of the bitmap.
const ITEM_BYTES_MAX: usize = 2 * (contract::state::VALUE_BYTES_MAX + 64 * 1024);

/// What the state is asked for: the policies in force.
pub(crate) fn keys() -> Vec<Key> {
    vec![policy_key(PolicyKind::Access), policy_key(PolicyKind::Derivation)]
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Item {
    #[n(0)]
    key: Key,
    #[cbor(n(1), with = "minicbor::bytes")]
    value: Option<Vec<u8>>,
    #[cbor(n(2), with = "minicbor::bytes")]
    proof: Vec<u8>,
}

/// The proofs, by height.
pub(crate) struct Checkpoints<E: Context>(ByHeight<E, Vec<u8>>);

impl<E: Context> Clone for Checkpoints<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Context> Checkpoints<E> {
    pub(crate) async fn open(context: E, prefix: &str, cache: &CacheRef) -> Result<Self, Error> {
        let config = config(prefix, "checkpoints", cache, (RangeCfg::from(..=ITEM_BYTES_MAX), ()));
        Ok(Self(ByHeight::open(context, config).await?))
    }

    /// Keeps what the state says now, which must be that after the block at `height`; durably. Keeping it again changes nothing.
    /// `None`: the storage failed.
    pub(crate) async fn keep(&self, height: u64, digest: sha256::Digest, db: &Db<E>) -> Option<()>
    where
        E: Spawner,
    {
        let proofs = state::prove_in(db, &keys()).await?.into_iter();
        let items: Vec<Item> = proofs.map(|StateProof { key, value, proof }| Item { key, value, proof }).collect();
        self.0.put(height, digest, &contract::to_cbor(&items)).await.ok()?;
        self.0.sync().await.ok()
    }

    /// The proofs of the last checkpoint that is not above `height`, and its height.
    pub(crate) async fn up_to(&self, height: u64) -> Option<(u64, Vec<StateProof>)> {
        let height = self.0.last_up_to(height).await?;
        let items: Vec<Item> = minicbor::decode(&self.0.at(height).await.ok()??).ok()?;
        Some((height, items.into_iter().map(|Item { key, value, proof }| StateProof { key, value, proof }).collect()))
    }
}
