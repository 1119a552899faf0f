//! Why entries were refused, kept per block: the state does not tell it, and the log's leaves bind it.

use crate::archive::{ByHeight, config};
use commonware_codec::RangeCfg;
use commonware_cryptography::sha256;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{Context, archive::Error};
use commonware_utils::{NZU64, NZUsize};

/// The most entries of a block.
const VERDICTS_MAX: usize = contract::BLOCK_BYTES_MAX;

/// The verdicts of blocks with refused entries. A block without has no item.
pub(crate) struct Verdicts<E: Context>(ByHeight<E, Vec<u8>>);

impl<E: Context> Clone for Verdicts<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Context> Verdicts<E> {
    pub(crate) async fn open(context: E, prefix: &str, cache: &CacheRef) -> Result<Self, Error> {
        let mut config = config(prefix, "verdicts", cache, (RangeCfg::from(..=VERDICTS_MAX), ()));
        let buffer = NZUsize!(1 << 14);
        config.items_per_section = NZU64!(4096);
        (config.key_write_buffer, config.value_write_buffer, config.replay_buffer) = (buffer, buffer, buffer);
        Ok(Self(ByHeight::open(context, config).await?))
    }

    /// Keeps a block's verdicts, durably. Keeping them again changes nothing.
    pub(crate) async fn keep(&self, height: u64, digest: sha256::Digest, verdicts: &Vec<u8>) -> Result<(), Error> {
        self.0.put(height, digest, verdicts).await?;
        self.0.sync().await
    }

    /// As [`Self::keep`], and durable after [`Self::sync`].
    pub(crate) async fn put(&self, height: u64, digest: sha256::Digest, verdicts: &Vec<u8>) -> Result<(), Error> {
        self.0.put(height, digest, verdicts).await
    }

    pub(crate) async fn sync(&self) -> Result<(), Error> {
        self.0.sync().await
    }

    /// A block's verdicts: empty when all entries were applied.
    pub(crate) async fn at(&self, height: u64) -> Result<Vec<u8>, Error> {
        Ok(self.0.at(height).await?.unwrap_or_default())
    }
}
