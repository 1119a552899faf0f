//! The authenticated state: every final block's writes, with proofs of presence and absence.

use crate::{
    block::{engine_digest, our_digest},
    spaced::Dbs,
};
use commonware_codec::{Encode as _, RangeCfg};
use commonware_cryptography::{Sha256, sha256};
use commonware_glue::stateful::db::{AttachableResolver, DatabaseSet, Shared, Unmerkleized as _};
use commonware_parallel::Sequential;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    journal::contiguous::variable::Config as JournalConfig,
    mmr::{self, full::Config as MerkleConfig},
    qmdb::{
        any::{ordered::variable::Operation as OrderedOperation, value::VariableEncoding},
        current::{
            VariableConfig,
            ordered::{proof, variable},
        },
        sync::{Request, Source, source},
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use contract::state::{Key, VALUE_BYTES_MAX};
use std::collections::{BTreeMap, HashMap};

/// Bytes of a chunk of the activity bitmap: part of what proofs say.
pub const CHUNK_BYTES: usize = 32;

/// What the state's log consists of.
pub(crate) type Operation = OrderedOperation<mmr::Family, sha256::Digest, Vec<u8>>;
/// The state on disk.
pub(crate) type Db<E> =
    variable::Db<mmr::Family, E, sha256::Digest, Vec<u8>, Sha256, EightCap, CHUNK_BYTES, Sequential>;
/// Writes on top of a state, before and after their roots are computed.
pub(crate) type Batch<E> = <Dbs<E> as DatabaseSet<E>>::Unmerkleized;
pub(crate) type Merkleized<E> = <Dbs<E> as DatabaseSet<E>>::Merkleized;

/// The proof that a key has a value.
pub type KeyValueProof = proof::constant::KeyValueProof<mmr::Family, sha256::Digest, sha256::Digest, CHUNK_BYTES>;
/// The proof that a key has none.
pub type ExclusionProof = proof::constant::ExclusionProof<
    mmr::Family,
    sha256::Digest,
    VariableEncoding<Vec<u8>>,
    sha256::Digest,
    CHUNK_BYTES,
>;

/// How operations of the state's log are read.
type OperationCodec = ((), (RangeCfg<usize>, ()));

/// Values are bounded.
pub(crate) fn value_codec() -> OperationCodec {
    ((), (RangeCfg::from(..=VALUE_BYTES_MAX), ()))
}

/// Where and how the state is stored.
pub(crate) fn config(prefix: &str, cache: &CacheRef) -> VariableConfig<EightCap, OperationCodec, Sequential> {
    let buffer = NZUsize!(1 << 16);
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{prefix}-state-merkle-journal"),
            metadata_partition: format!("{prefix}-state-merkle-metadata"),
            items_per_blob: NZU64!(1 << 20),
            write_buffer: buffer,
            replay_buffer: buffer,
            strategy: Sequential,
            page_cache: cache.clone(),
        },
        journal_config: JournalConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: NZU64!(1 << 18),
            compression: None,
            codec_config: value_codec(),
            page_cache: cache.clone(),
            write_buffer: buffer,
            replay_buffer: buffer,
        },
        grafted_metadata_partition: format!("{prefix}-state-grafted"),
        translator: EightCap,
        init_cache: Some(NZUsize!(1 << 16)),
        init_buffer: NZUsize!(1 << 21),
        init_concurrency: (),
    }
}

/// The values of `keys` that have one. `None`: the storage failed.
pub(crate) async fn read_batch<E: Spawner + StorageContext>(
    batch: &Batch<E>,
    keys: &[Key],
) -> Option<HashMap<Key, Vec<u8>>> {
    let engine_keys: Vec<sha256::Digest> = keys.iter().map(engine_digest).collect();
    let engine_keys: Vec<&sha256::Digest> = engine_keys.iter().collect();
    let values = batch.get_many(&engine_keys).await.ok()?;
    Some(keys.iter().zip(values).filter_map(|(key, value)| Some((*key, value?))).collect())
}

/// Puts writes on the batch and computes the roots.
pub(crate) async fn write_batch<E: Spawner + StorageContext>(
    mut batch: Batch<E>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
) -> Option<Merkleized<E>> {
    for (key, value) in writes {
        batch = batch.write(engine_digest(&key), value);
    }
    batch.merkleize().await.ok()
}

/// The values of `keys` in the final state, in their order.
pub(crate) async fn read<E: Spawner + StorageContext>(dbs: &Dbs<E>, keys: &[Key]) -> Option<Vec<Option<Vec<u8>>>> {
    let db = dbs.read().await;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        values.push(db.get(&engine_digest(key)).await.ok()?);
    }
    Some(values)
}

/// Proofs of `keys` against one root of the final state.
pub(crate) async fn prove<E: Spawner + StorageContext>(
    dbs: &Dbs<E>,
    keys: &[Key],
) -> Option<(record::Digest, Vec<crate::StateProof>)> {
    let db = dbs.read().await;
    let mut proofs = Vec::with_capacity(keys.len());
    for key in keys {
        let engine_key = engine_digest(key);
        let value = db.get(&engine_key).await.ok()?;
        let proof = match value {
            Some(_) => db.key_value_proof(engine_key).await.ok()?.encode(),
            None => db.exclusion_proof(&engine_key).await.ok()?.encode(),
        };
        proofs.push(crate::StateProof { key: *key, value, proof: proof.to_vec() });
    }
    Some((our_digest(&db.root()), proofs))
}

/// Peers are not asked for state: a node that was away executes the blocks that it missed, and so has every entry as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed;

/// What a request for state is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state is rebuilt from blocks, never fetched")]
pub(crate) struct NeverFetched;

impl Source for Replayed {
    type Family = mmr::Family;
    type Digest = sha256::Digest;
    type Op = Operation;
    type Error = NeverFetched;

    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        Err(NeverFetched)
    }
}
impl<D: Send + Sync + 'static> AttachableResolver<D> for Replayed {
    async fn attach_database(&self, _: Shared<D>) {}
}
