//! Final blocks and their certificates on disk: those that became final here, and older ones that were fetched afterwards. None is ever
//! removed.

use crate::{Finalization, block::ChainBlock};
use commonware_codec::CodecShared;
use commonware_consensus::{
    marshal::store::{Blocks, Certificates},
    types::Height,
};
use commonware_cryptography::sha256;
use commonware_runtime::{Handle as Task, buffer::paged::CacheRef};
use commonware_storage::{
    Context,
    archive::{Archive as Stored, Error, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use std::{num::NonZeroUsize, sync::Arc};
use tokio::sync::Mutex;

/// Buffer of a file, in bytes.
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);

type Archive<E, V> = prunable::Archive<EightCap, E, sha256::Digest, V>;
type By<'a> = Identifier<'a, sha256::Digest>;

/// How an archive is stored, under names that begin with `prefix` and `name`.
pub(crate) fn config<C>(prefix: &str, name: &str, cache: &CacheRef, codec_config: C) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: NZU64!(1024),
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

/// Items by height, of which several parts of a node read and write. An item stays as it was kept first.
///
/// What failed to be written is lost with the archive, and the node must stop: it finds nothing any more.
pub(crate) struct ByHeight<E: Context, V: CodecShared>(Arc<Mutex<Option<Archive<E, V>>>>);

impl<E: Context, V: CodecShared> Clone for ByHeight<E, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Context, V: CodecShared> ByHeight<E, V> {
    pub(crate) async fn open(context: E, config: prunable::Config<EightCap, V::Cfg>) -> Result<Self, Error> {
        Ok(Self(Arc::new(Mutex::new(Some(Archive::init(context, config).await?)))))
    }

    /// Keeps an item, which is durable after [`Self::sync`].
    pub(crate) async fn put(&self, height: u64, digest: sha256::Digest, item: &V) -> Result<(), Error> {
        let mut slot = self.0.lock().await;
        if let Some(archive) = slot.take() {
            *slot = Some(archive.put(height, digest, item).await?);
        }
        Ok(())
    }

    pub(crate) async fn sync(&self) -> Result<(), Error> {
        let mut slot = self.0.lock().await;
        if let Some(archive) = slot.take() {
            *slot = Some(archive.sync().await?);
        }
        Ok(())
    }

    pub(crate) async fn at(&self, height: u64) -> Result<Option<V>, Error> {
        self.find(Identifier::Index(height)).await
    }

    async fn find(&self, by: By<'_>) -> Result<Option<V>, Error> {
        match self.0.lock().await.as_ref() {
            Some(archive) => archive.get(by).await,
            None => Ok(None),
        }
    }

    async fn has(&self, height: u64) -> Result<bool, Error> {
        match self.0.lock().await.as_ref() {
            Some(archive) => archive.has(Identifier::Index(height)).await,
            None => Ok(false),
        }
    }

    /// The greatest height with an item that is not above `height`.
    pub(crate) async fn last_up_to(&self, height: u64) -> Option<u64> {
        let slot = self.0.lock().await;
        let ranges = slot.as_ref()?.ranges().take_while(|(first, _)| *first <= height);
        ranges.last().map(|(_, last)| last.min(height))
    }

    /// The lowest height of the run of heights with items that ends with `top`, or goes past it.
    pub(crate) async fn filled_down_to(&self, top: u64) -> Option<u64> {
        let slot = self.0.lock().await;
        slot.as_ref()?.ranges().find(|(first, last)| (*first..=*last).contains(&top)).map(|(first, _)| first)
    }
}

/// A store of marshal's that keeps everything, and finds what is older than its first item as well.
pub(crate) struct Kept<E: Context, V: CodecShared> {
    own: Archive<E, V>,
    older: ByHeight<E, V>,
}

impl<E: Context, V: CodecShared> Kept<E, V> {
    /// Opens what is stored under names that begin with `prefix` and `name`, and what is older beside it.
    pub(crate) async fn open(
        context: E,
        prefix: &str,
        name: &str,
        cache: &CacheRef,
        codec: V::Cfg,
    ) -> Result<Self, Error>
    where
        V::Cfg: Clone,
    {
        let own = Archive::init(context.child("own"), config(prefix, name, cache, codec.clone())).await?;
        let older = config(prefix, &format!("older-{name}"), cache, codec);
        Ok(Self { own, older: ByHeight::open(context.child("older"), older).await? })
    }

    /// What became final before the first item, and is filled in afterwards.
    pub(crate) fn older(&self) -> ByHeight<E, V> {
        self.older.clone()
    }

    /// The item at a height.
    pub(crate) async fn at(&self, height: u64) -> Result<Option<V>, Error> {
        self.find(Identifier::Index(height)).await
    }

    /// The greatest height with an item.
    pub(crate) fn last(&self) -> Option<u64> {
        self.own.last_index()
    }

    async fn find(&self, by: By<'_>) -> Result<Option<V>, Error> {
        let again = match &by {
            Identifier::Index(height) => Identifier::Index(*height),
            Identifier::Key(digest) => Identifier::Key(*digest),
        };
        match self.own.get(by).await? {
            Some(item) => Ok(Some(item)),
            None => self.older.find(again).await,
        }
    }
}

impl<E: Context> Blocks for Kept<E, Arc<ChainBlock>> {
    type Block = Arc<ChainBlock>;
    type Error = Error;

    async fn put(mut self, digest: sha256::Digest, block: &Arc<ChainBlock>) -> Result<Self, Error> {
        self.own = Stored::put(self.own, block.header().height, digest, block).await?;
        Ok(self)
    }

    async fn sync(mut self) -> Result<Self, Error> {
        self.own = Stored::sync(self.own).await?;
        Ok(self)
    }

    async fn start_sync(self) -> Result<(Self, Task<()>), Error> {
        let (own, task) = Stored::start_sync(self.own).await?;
        Ok((Self { own, older: self.older }, task))
    }

    async fn get(&self, by: By<'_>) -> Result<Option<Arc<ChainBlock>>, Error> {
        self.find(by).await
    }

    /// Blocks stay: receipts, evidence and the mirrors are made of them.
    async fn prune(self, _: Height) -> Result<Self, Error> {
        Ok(self)
    }

    fn missing_items(&self, start: Height, max: usize) -> Vec<Height> {
        Stored::missing_items(&self.own, start.get(), max).into_iter().map(Height::new).collect()
    }

    fn next_gap(&self, value: Height) -> (Option<Height>, Option<Height>) {
        let (end, next) = Stored::next_gap(&self.own, value.get());
        (end.map(Height::new), next.map(Height::new))
    }

    fn last_index(&self) -> Option<Height> {
        self.last().map(Height::new)
    }
}

impl<E: Context> Certificates for Kept<E, Finalization> {
    type BlockDigest = sha256::Digest;
    type Commitment = sha256::Digest;
    type Scheme = crate::Scheme;
    type Error = Error;

    async fn put(mut self, height: Height, digest: sha256::Digest, certificate: &Finalization) -> Result<Self, Error> {
        self.own = Stored::put(self.own, height.get(), digest, certificate).await?;
        Ok(self)
    }

    async fn sync(mut self) -> Result<Self, Error> {
        self.own = Stored::sync(self.own).await?;
        Ok(self)
    }

    async fn start_sync(self) -> Result<(Self, Task<()>), Error> {
        let (own, task) = Stored::start_sync(self.own).await?;
        Ok((Self { own, older: self.older }, task))
    }

    async fn get(&self, by: By<'_>) -> Result<Option<Finalization>, Error> {
        self.find(by).await
    }

    async fn has(&self, height: Height) -> Result<bool, Error> {
        if Stored::has(&self.own, Identifier::Index(height.get())).await? {
            return Ok(true);
        }
        self.older.has(height.get()).await
    }

    /// Certificates stay with their blocks.
    async fn prune(self, _: Height) -> Result<Self, Error> {
        Ok(self)
    }

    fn last_index(&self) -> Option<Height> {
        self.last().map(Height::new)
    }

    fn ranges_from(&self, from: Height) -> impl Iterator<Item = (Height, Height)> {
        Stored::ranges_from(&self.own, from.get()).map(|(first, last)| (Height::new(first), Height::new(last)))
    }
}
