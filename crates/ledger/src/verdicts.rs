//! Why entries were refused, kept per block: the state does not tell it, and the log's leaves bind it.

use commonware_codec::RangeCfg;
use commonware_cryptography::sha256;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{
    Context,
    archive::{Archive as _, Error, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The most entries of a block.
const VERDICTS_MAX: usize = contract::BLOCK_BYTES_MAX;

type Archive<E> = prunable::Archive<EightCap, E, sha256::Digest, Vec<u8>>;

/// The verdicts of blocks with refused entries. A block without has no item.
pub(crate) struct Verdicts<E: Context>(Arc<Mutex<Option<Archive<E>>>>);

impl<E: Context> Clone for Verdicts<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Context> Verdicts<E> {
    pub(crate) async fn open(context: E, prefix: &str, cache: CacheRef) -> Result<Self, Error> {
        let buffer = NZUsize!(1 << 14);
        let config = prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{prefix}-verdicts-metadata"),
            key_partition: format!("{prefix}-verdicts-key"),
            key_page_cache: cache,
            value_partition: format!("{prefix}-verdicts-value"),
            compression: None,
            codec_config: (RangeCfg::from(..=VERDICTS_MAX), ()),
            items_per_section: NZU64!(4096),
            key_write_buffer: buffer,
            value_write_buffer: buffer,
            replay_buffer: buffer,
        };
        Ok(Self(Arc::new(Mutex::new(Some(Archive::init(context, config).await?)))))
    }

    /// Keeps a block's verdicts, durably. Keeping them again changes nothing.
    pub(crate) async fn keep(&self, height: u64, digest: sha256::Digest, verdicts: &Vec<u8>) -> Result<(), Error> {
        let mut slot = self.0.lock().await;
        if let Some(archive) = slot.take() {
            *slot = Some(archive.put_sync(height, digest, verdicts).await?);
        }
        Ok(())
    }

    /// A block's verdicts: empty when all entries were applied.
    pub(crate) async fn at(&self, height: u64) -> Result<Vec<u8>, Error> {
        let slot = self.0.lock().await;
        match slot.as_ref() {
            Some(archive) => Ok(archive.get(Identifier::Index(height)).await?.unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    }
}
