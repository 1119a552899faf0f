//! The vault: attachments by digest, kept until they are erased for good.

use bytes::Bytes;
use futures::future::BoxFuture;
use record::Digest;

mod sqlite;

pub(crate) use sqlite::SqliteVault;

/// The longest attachment, in bytes: what the contract accepts.
pub const ATTACHMENT_BYTES_MAX: usize = contract::ATTACHMENT_BYTES_MAX as usize;

/// What a vault holds and lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VaultStatus {
    /// Attachments held.
    pub held: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attachments that final entries name, that this node may hold, and that no peer has given yet.
    pub missing: u64,
    /// Attachments erased for good.
    pub erased: u64,
    /// Final blocks up to this height were searched for attachments.
    pub searched_height: u64,
}

/// The vault could not read or write: ours to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the vault could not read or write")]
pub struct VaultError;

/// A vault's answer.
pub type Answer<T> = BoxFuture<'static, Result<T, VaultError>>;

/// Whether a vault has an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It does, durably.
    Held,
    /// It was erased for good.
    Erased,
    /// It does not.
    Not,
}

/// Where attachments rest. What is answered is durable.
///
/// A node has its own in a file; this is public for simulations, where a vault outlives its node's process, or lies.
pub trait Vault: Send + Sync + 'static {
    /// Keeps attachments, except those that were erased before.
    fn put(&self, attachments: Vec<(Digest, Bytes)>) -> Answer<()>;
    /// An attachment.
    fn get(&self, digest: Digest) -> Answer<Option<Vec<u8>>>;
    /// Whether it has each of these, in their order.
    fn kept(&self, digests: Vec<Digest>) -> Answer<Vec<Kept>>;
    /// Removes an attachment, and never takes it in again.
    fn erase(&self, digest: Digest) -> Answer<()>;
    /// Takes note that final blocks up to `height` name these attachments: what is neither held nor erased is missing from now on.
    fn expect(&self, named: Vec<Digest>, height: u64) -> Answer<()>;
    /// At most `max` missing attachments, those asked for least recently first.
    fn missing(&self, max: usize) -> Answer<Vec<Digest>>;
    /// Whether an attachment is missing.
    fn is_missing(&self, digest: Digest) -> Answer<bool>;
    /// What it holds and lacks.
    fn status(&self) -> Answer<VaultStatus>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use record::sha256;

    fn check(vault: &SqliteVault) {
        block_on(async {
            let (a, b) = (sha256(&[b"a"]), sha256(&[b"b"]));
            vault.expect(vec![a, b], 7).await.unwrap();
            assert_eq!(
                vault.status().await.unwrap(),
                VaultStatus { missing: 2, searched_height: 7, ..Default::default() }
            );
            assert_eq!(vault.kept(vec![a, b]).await.unwrap(), [Kept::Not, Kept::Not]);
            vault.put(vec![(a, Bytes::from_static(b"a"))]).await.unwrap();
            assert_eq!(vault.kept(vec![b, a, a]).await.unwrap(), [Kept::Not, Kept::Held, Kept::Held]);
            assert_eq!(vault.get(a).await.unwrap().as_deref(), Some(&b"a"[..]));
            assert_eq!(vault.missing(9).await.unwrap(), vec![b]);
            vault.erase(a).await.unwrap();
            vault.put(vec![(a, Bytes::from_static(b"a"))]).await.unwrap();
            vault.expect(vec![a], 9).await.unwrap();
            assert_eq!(vault.get(a).await.unwrap(), None);
            assert_eq!(vault.kept(vec![a, b]).await.unwrap(), [Kept::Erased, Kept::Not]);
            let status = VaultStatus { held: 0, bytes: 0, missing: 1, erased: 1, searched_height: 9 };
            assert_eq!(vault.status().await.unwrap(), status);
        });
    }

    #[test]
    fn an_erased_attachment_never_comes_back_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        check(&SqliteVault::open(&dir.path().join("vault.sqlite")).unwrap());
        // Reopened: the same again, from the disk.
        let vault = SqliteVault::open(&dir.path().join("vault.sqlite")).unwrap();
        assert_eq!(block_on(vault.status()).unwrap().erased, 1);
        assert_eq!(block_on(vault.missing(9)).unwrap(), vec![sha256(&[b"b"])]);
    }

    #[test]
    fn erased_bytes_are_gone_from_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.sqlite");
        let vault = SqliteVault::open(&path).unwrap();
        let secret = b"a body that must not outlive its erasure".repeat(50);
        let digest = sha256(&[&secret]);
        block_on(vault.put(vec![(digest, Bytes::from(secret))])).unwrap();
        block_on(vault.erase(digest)).unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(20).any(|window| window == b"must not outlive its"));
        }
    }
}
