//! The authenticated state: every final block's writes, with proofs of presence and absence.

use crate::{
    ask::{ANSWER_WAIT, Asker, OPERATIONS_MAX, Question, operations},
    block::{engine_digest, our_digest},
    node::Runtime,
    spaced::Dbs,
};
use commonware_codec::{Encode as _, RangeCfg};
use commonware_cryptography::{Sha256, sha256};
use commonware_glue::stateful::db::{DatabaseSet, Unmerkleized as _};
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
        sync::{Feedback, Request, Source, source},
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, channel};
use contract::state::{Key, VALUE_BYTES_MAX};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Bytes of a chunk of the activity bitmap: part of what proofs say.
pub const CHUNK_BYTES: usize = 32;

/// How long to wait before the next peer is asked for a part of the state, after one had none.
const FETCHED_AGAIN: Duration = Duration::from_millis(250);

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
            items_per_blob: NZU64!(1 << 18),
            write_buffer: buffer,
            replay_buffer: buffer,
            strategy: Sequential,
            page_cache: cache.clone(),
        },
        journal_config: JournalConfig {
            partition: format!("{prefix}-state-log"),
            // What is overwritten is removed a whole section at a time.
            items_per_section: NZU64!(1 << 16),
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
    let proofs = prove_in(&db, keys).await?;
    Some((our_digest(&db.root()), proofs))
}

/// Proofs of `keys` against the root that the state has now.
pub(crate) async fn prove_in<E: Spawner + StorageContext>(db: &Db<E>, keys: &[Key]) -> Option<Vec<crate::StateProof>> {
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
    Some(proofs)
}

/// The state as the others have it, which a latecomer takes over. The engine checks whatever comes, and the next peer is asked when it does
/// not hold.
pub(crate) struct Fetched<E: Runtime> {
    asker: Asker<E>,
    /// Told when all were asked for something, and whoever answered had nothing.
    unserved: Arc<Notify>,
}

impl<E: Runtime> Clone for Fetched<E> {
    fn clone(&self) -> Self {
        Self { asker: self.asker.clone(), unserved: self.unserved.clone() }
    }
}

impl<E: Runtime> Fetched<E> {
    pub(crate) fn new(asker: Asker<E>) -> Self {
        Self { asker, unserved: Arc::default() }
    }

    /// Waits until all were asked for a part of the state, and whoever answered had nothing.
    pub(crate) async fn unserved(&self) {
        self.unserved.notified().await;
    }
}

/// Nobody asks any more: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody asks any more for the state")]
pub(crate) struct NobodyAsks;

impl<E: Runtime> Source for Fetched<E> {
    type Family = mmr::Family;
    type Digest = sha256::Digest;
    type Op = Operation;
    type Error = NobodyAsks;

    async fn serve(&self, request: Request<mmr::Family>) -> source::Result<Self> {
        let (candidates, mut coming) = channel::mpsc::channel(1);
        let Self { asker, unserved } = self.clone();
        self.asker.context().child("fetch").spawn(move |context| async move {
            // Requests for different places begin with different peers.
            let mut turn = usize::try_from(request.start().as_u64() / OPERATIONS_MAX).unwrap_or_default();
            // Peers asked in a row without success, and whether any of them said that it has nothing.
            let (mut asked, mut nothing) = (0, false);
            while !candidates.is_closed() {
                let peers = asker.peers();
                let peer = peers.get(turn % peers.len().max(1));
                turn = turn.wrapping_add(1);
                let answer = match peer {
                    Some(peer) => asker.ask(peer, Question::State(request.encode().to_vec()), ANSWER_WAIT).await,
                    None => None,
                };
                asked += 1;
                nothing |= answer.as_ref().is_some_and(Vec::is_empty);
                let Some(response) = answer.and_then(|answer| operations(&request, answer)) else {
                    if asked >= peers.len() && nothing {
                        unserved.notify_one();
                        (asked, nothing) = (0, false);
                    }
                    context.sleep(FETCHED_AGAIN).await;
                    continue;
                };
                let (verdict, judged) = channel::oneshot::channel();
                if candidates.send((response, verdict)).await.is_err() {
                    return;
                }
                match judged.await {
                    Ok(false) => tracing::warn!(?peer, "a peer's part of the state does not hold"),
                    Ok(true) | Err(_) => return,
                }
            }
        });
        let (response, verdict) = coming.recv().await.ok_or(NobodyAsks)?;
        Ok((response, Some(Feedback::new(verdict, coming))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{ENGINE, measure};
    use commonware_runtime::{Runner as _, Supervisor as _, tokio as engine};
    use commonware_utils::NZU16;
    use record::sha256;

    /// Every key is written again and again, as heads of records and of logs are.
    const KEYS: u64 = 4_000;
    const WRITTEN: u64 = 1_000;
    const BLOCKS: u64 = 160;
    const KEPT: usize = 20;

    #[test]
    fn what_was_overwritten_is_gone_from_the_disk_and_the_state_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = engine::Config::new().with_worker_threads(1).with_storage_directory(dir.path().join(ENGINE));
        let state_bytes = || measure(dir.path(), "test").unwrap().state_bytes;
        let key = |n: u64| sha256(&[&n.to_be_bytes()]);
        engine::Runner::new(runtime).start(|context| async move {
            let cache = CacheRef::new(NZU16!(4096), NZUsize!(1024));
            let open = |name, target| Dbs::init(context.child(name), config("test", &cache), target);
            let dbs: Dbs<engine::Context> = open("first", None).await;
            let (mut targets, mut written) = (Vec::new(), BTreeMap::new());
            for block in 0..BLOCKS {
                let keys = (0..WRITTEN).map(|n| key((block * WRITTEN + n) % KEYS));
                let writes: BTreeMap<Key, Option<Vec<u8>>> =
                    keys.map(|key| (key, Some(sha256(&[key.as_ref(), &block.to_be_bytes()]).0.repeat(2)))).collect();
                written.extend(writes.clone());
                let merkleized = write_batch(dbs.new_batches().await, writes).await.unwrap();
                dbs.apply(merkleized).await;
                targets.push(dbs.committed_targets().await);
            }
            dbs.finalize().await.durable().await;
            let (before, root) = (state_bytes(), dbs.read().await.root());
            dbs.prune(&targets[targets.len() - KEPT]).await;
            let after = state_bytes();
            let writes = BLOCKS * WRITTEN;
            eprintln!("{} bytes for each write before, {} after", before / writes, after / writes);
            assert!(after < before / 2, "{before} bytes before, {after} after");
            let keys: Vec<Key> = written.keys().copied().collect();
            let check = async |dbs: &Dbs<engine::Context>| {
                assert_eq!(dbs.read().await.root(), root);
                let values = read(dbs, &keys).await.unwrap();
                assert!(values.into_iter().eq(written.values().cloned()));
            };
            check(&dbs).await;
            // A node that starts again finds the latest state, and that of a block which was not durable in all its stores.
            drop(dbs);
            let dbs: Dbs<engine::Context> = open("second", targets.last().cloned()).await;
            check(&dbs).await;
            drop(dbs);
            let recent = targets[targets.len() - KEPT].clone();
            let dbs: Dbs<engine::Context> = open("third", Some(recent.clone())).await;
            assert_eq!(dbs.committed_targets().await, recent);
        });
    }
}
