//! The state, with its syncs to disk some time apart.
//!
//! A final block is on disk with its certificate before its state is, and the state follows from the blocks. So the state need not be
//! synced with each block: five of the twenty syncs that a block costs.

use crate::state::Db;
use commonware_cryptography::Digest;
use commonware_glue::stateful::db::{Anchor, Barrier, DatabaseSet, Shared, StateSyncSet, SyncEngineConfig, TipUpdate};
use commonware_runtime::{Handle as Task, Spawner};
use commonware_storage::Context as StorageContext;
use commonware_utils::channel::ring;
use std::{ops::Deref, sync::Arc, time::Duration};

/// The shortest time from one sync of the state to the next. A node that was killed executes the blocks of about so long again.
const SPACING: Duration = Duration::from_millis(200);

/// The state as the engine shares it.
pub(crate) struct Dbs<E: StorageContext> {
    db: Shared<Db<E>>,
    context: Arc<E>,
}

impl<E: StorageContext> Clone for Dbs<E> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), context: self.context.clone() }
    }
}

impl<E: StorageContext> Deref for Dbs<E> {
    type Target = Shared<Db<E>>;

    fn deref(&self) -> &Self::Target {
        &self.db
    }
}

/// What the engine does with one database.
pub(crate) type One<E> = Shared<Db<E>>;

impl<E: StorageContext + Spawner> DatabaseSet<E> for Dbs<E> {
    type Unmerkleized = <One<E> as DatabaseSet<E>>::Unmerkleized;
    type Merkleized = <One<E> as DatabaseSet<E>>::Merkleized;
    type Readers = <One<E> as DatabaseSet<E>>::Readers;
    type Config = <One<E> as DatabaseSet<E>>::Config;
    type SyncTargets = <One<E> as DatabaseSet<E>>::SyncTargets;

    async fn init(context: E, config: Self::Config, expected: Option<Self::SyncTargets>) -> Self {
        let spacing = Arc::new(context.child("spacing"));
        Self { db: One::init(context, config, expected).await, context: spacing }
    }

    fn initial_sync_targets() -> Self::SyncTargets {
        <One<E> as DatabaseSet<E>>::initial_sync_targets()
    }

    async fn new_batches(&self) -> Self::Unmerkleized {
        DatabaseSet::<E>::new_batches(&self.db).await
    }

    fn fork_batches(parent: &Self::Merkleized) -> Self::Unmerkleized {
        <One<E> as DatabaseSet<E>>::fork_batches(parent)
    }

    fn matches_sync_targets(batches: &Self::Merkleized, targets: &Self::SyncTargets) -> bool {
        <One<E> as DatabaseSet<E>>::matches_sync_targets(batches, targets)
    }

    fn readers(&self) -> Self::Readers {
        DatabaseSet::<E>::readers(&self.db)
    }

    async fn apply(&self, batches: Self::Merkleized) {
        DatabaseSet::<E>::apply(&self.db, batches).await;
    }

    /// Starts at once and is done after [`SPACING`] at the earliest: the engine has one barrier at a time, and what is final meanwhile is
    /// covered by the next one.
    async fn finalize(&self) -> Barrier {
        let barrier = DatabaseSet::<E>::finalize(&self.db).await;
        let pause = self.context.child("pause").spawn(|context| async move { context.sleep(SPACING).await });
        let both = async move {
            let durable = barrier.durable().await;
            pause.await?;
            if durable { Ok(()) } else { Err(commonware_runtime::Error::Closed) }
        };
        Barrier::from_handles::<Self>([Task::from_future(both)])
    }

    async fn prune(&self, targets: &Self::SyncTargets) {
        DatabaseSet::<E>::prune(&self.db, targets).await;
    }

    async fn committed_targets(&self) -> Self::SyncTargets {
        DatabaseSet::<E>::committed_targets(&self.db).await
    }
}

impl<E: StorageContext + Spawner> Dbs<E> {
    /// As [`StateSyncSet::sync`], of the one database.
    pub(crate) async fn fetch<R, D: Digest>(
        context: E,
        config: <Self as DatabaseSet<E>>::Config,
        source: R,
        anchor: Anchor<D>,
        target: <Self as DatabaseSet<E>>::SyncTargets,
        tip_updates: ring::Receiver<TipUpdate<D, <Self as DatabaseSet<E>>::SyncTargets>>,
        sync_config: SyncEngineConfig,
    ) -> Result<(Self, Anchor<D>), <One<E> as StateSyncSet<E, R>>::Error>
    where
        One<E>: StateSyncSet<E, R>,
    {
        let spacing = Arc::new(context.child("spacing"));
        let (db, anchor) = One::sync(context, config, source, anchor, target, tip_updates, sync_config).await?;
        Ok((Self { db, context: spacing }, anchor))
    }
}
