//! Taking over the state at the end of an epoch, and at the end of a later one once the others no longer have what the first one needs.

use crate::{
    app::storage_failed,
    ask::Asker,
    begin::{Base, Begun, latest},
    block::{SyncTarget, sync_target},
    epochs::Schemes,
    node::Runtime,
    serve::Marshal,
    spaced::Dbs,
    state::Fetched,
};
use commonware_codec::DecodeExt as _;
use commonware_consensus::types::Height;
use commonware_cryptography::Digest;
use commonware_glue::stateful::db::{Anchor, AttachableResolverSet, StateSyncSet, SyncEngineConfig, TipUpdate};
use commonware_utils::{NZUsize, channel::ring};
use contract::Genesis;
use evidence::KnownBlock;
use futures::future::join;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// How long to wait before everybody is asked again where a later epoch ended.
const AGAIN: Duration = Duration::from_secs(1);
/// How often marshal is asked whether it has the floor that it was given.
const LOOK: Duration = Duration::from_millis(20);

/// What all clones share.
struct Inner<E: Runtime> {
    asker: Asker<E>,
    genesis: Genesis,
    /// What the operator knows, and every epoch's end must go through.
    known: Option<KnownBlock>,
    schemes: Schemes,
    marshal: Marshal,
    /// The end that the node began to take over, and those that it turned to since.
    bases: Mutex<Vec<Base>>,
    begun: tokio::sync::Mutex<Option<Begun<E>>>,
}

/// Where the state comes from, and the end of an epoch at which it is taken over. Cheap to clone.
pub(crate) struct Takeover<E: Runtime> {
    fetched: Fetched<E>,
    inner: Arc<Inner<E>>,
}

impl<E: Runtime> Clone for Takeover<E> {
    fn clone(&self) -> Self {
        Self { fetched: self.fetched.clone(), inner: self.inner.clone() }
    }
}

impl<E: Runtime> Takeover<E> {
    /// `base`: where the node begins, or began, if not with the first block.
    pub(crate) fn new(
        asker: Asker<E>,
        genesis: Genesis,
        known: Option<KnownBlock>,
        schemes: Schemes,
        marshal: Marshal,
        (base, begun): (Option<Base>, Begun<E>),
    ) -> Self {
        let bases = Mutex::new(base.into_iter().collect());
        let begun = tokio::sync::Mutex::new(Some(begun));
        let fetched = Fetched::new(asker.clone());
        Self { fetched, inner: Arc::new(Inner { asker, genesis, known, schemes, marshal, bases, begun }) }
    }

    fn bases(&self) -> MutexGuard<'_, Vec<Base>> {
        self.inner.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the node began. Settled once the state is there.
    pub(crate) fn base(&self) -> Option<Base> {
        self.bases().last().cloned()
    }

    /// Durable afterwards.
    async fn keep(&self, base: &Base) {
        let mut slot = self.inner.begun.lock().await;
        if let Some(begun) = slot.take() {
            match begun.keep(base).await {
                Ok(kept) => *slot = Some(kept),
                Err(_) => storage_failed("where it began"),
            }
        }
    }

    /// The end of a later epoch than the one whose state is taken over now, if anybody shows one.
    async fn later(&self) -> Option<Base> {
        let Inner { asker, genesis, known, .. } = &*self.inner;
        let current = self.base()?.header.height;
        latest(asker, genesis, known.as_ref()).await.base.filter(|base| base.header.height > current)
    }

    /// Passes on what the engine turns to by itself; and whenever nobody has any more what is asked for, turns to the end of a later epoch.
    /// Ends when it is told to, and never in the midst of writing down where.
    async fn turn<D: Digest>(
        &self,
        mut tips: ring::Receiver<TipUpdate<D, SyncTarget>>,
        turned: ring::Sender<TipUpdate<D, SyncTarget>>,
        mut over: oneshot::Receiver<()>,
    ) {
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                _ = &mut over => return,
                tip = tips.recv(), if open => match tip {
                    Some(tip) => _ = turned.send_lossy(tip),
                    None => open = false,
                },
                () = self.fetched.unserved() => {
                    if let Some(base) = self.later().await
                        && let Some(update) = update(&base)
                    {
                        let height = base.header.height;
                        tracing::info!(height, "nobody has the state any more that was taken over: a later one is");
                        // First where, then that: a node that starts again goes on from there.
                        self.keep(&base).await;
                        self.bases().push(base);
                        let _ = turned.send_lossy(update);
                    }
                    self.inner.asker.context().sleep(AGAIN).await;
                }
            }
        }
    }

    /// The state is there as it was after the block at `height`. Marshal, which was to deliver what comes after the first end, is told where to
    /// begin instead: the blocks between come with all the others before.
    async fn settle(&self, height: u64) {
        let base = {
            let mut bases = self.bases();
            let Some(nth) = bases.iter().position(|base| base.header.height == height) else { return };
            let (turned, last) = (nth > 0, nth + 1 == bases.len());
            bases.truncate(nth + 1);
            bases.last().cloned().map(|base| (base, turned, last))
        };
        let Some((base, turned, last)) = base else { return };
        if !last {
            self.keep(&base).await;
        }
        let Some(certificate) = base.certificate().filter(|_| turned) else { return };
        if self.inner.schemes.trust(base.header.epoch, &base.validators).is_err() {
            // It was checked by the same keys.
            return;
        }
        self.inner.marshal.set_floor(certificate);
        loop {
            let processed = self.inner.marshal.get_processed().await;
            if processed.is_none_or(|processed| processed.height().get().saturating_add(1) >= height) {
                return;
            }
            self.inner.asker.context().sleep(LOOK).await;
        }
    }
}

/// What the engine is told to turn to.
fn update<D: Digest>(base: &Base) -> Option<TipUpdate<D, SyncTarget>> {
    let proposal = base.certificate()?.proposal;
    // The engine leaves open what digests are; all of ours are of one kind.
    let digest = D::decode(bytes::Bytes::copy_from_slice(&proposal.payload.0)).ok()?;
    let anchor = Anchor { height: Height::new(base.header.height), round: proposal.round, digest };
    Some(TipUpdate::new(anchor, sync_target(&base.header).ok()?))
}

impl<E: Runtime> AttachableResolverSet<Dbs<E>> for Takeover<E> {
    /// Others are answered from the state that the server reads.
    async fn attach_databases(&self, _: Dbs<E>) {}
}

impl<E: Runtime> StateSyncSet<E, Takeover<E>> for Dbs<E> {
    type Error = <crate::spaced::One<E> as StateSyncSet<E, Fetched<E>>>::Error;

    async fn sync<D: Digest>(
        context: E,
        config: Self::Config,
        takeover: Takeover<E>,
        anchor: Anchor<D>,
        target: Self::SyncTargets,
        tips: ring::Receiver<TipUpdate<D, Self::SyncTargets>>,
        sync_config: SyncEngineConfig,
    ) -> Result<(Self, Anchor<D>), Self::Error> {
        let (turned, updates) = ring::channel(NZUsize!(1));
        let (end, over) = oneshot::channel();
        let fetched = takeover.fetched.clone();
        let syncing = async {
            let synced = Self::fetch(context, config, fetched, anchor, target, updates, sync_config).await;
            drop(end);
            synced
        };
        let (synced, ()) = join(syncing, takeover.turn(tips, turned, over)).await;
        let (db, anchor) = synced?;
        takeover.settle(anchor.height.get()).await;
        Ok((db, anchor))
    }
}
