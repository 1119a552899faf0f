//! A vault that outlives its node's process, as one on a disk does, and knows since when it has held what. It may also lie.

use bytes::Bytes;
use futures::future::ready;
use ledger::{Answer, Kept, Vault, VaultError, VaultStatus};
use record::Digest;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

#[derive(Default)]
struct Shelves {
    held: HashMap<Digest, Bytes>,
    /// When each came first, erased ones too.
    since: BTreeMap<Digest, u64>,
    erased: HashSet<Digest>,
    missing: VecDeque<Digest>,
    height: u64,
}

/// A vault in memory. Cheap to clone; clones are one vault.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    shelves: Arc<Mutex<Shelves>>,
    /// Counts on, for all vaults of a run.
    clock: Arc<AtomicU64>,
    /// Says that it has whatever it is asked for, and throws away whatever it is given.
    lies: bool,
}

impl Shelf {
    pub(crate) fn new(clock: Arc<AtomicU64>, lies: bool) -> Self {
        Self { clock, lies, ..Self::default() }
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it first had the attachment, by the clock of the run.
    pub(crate) fn since(&self, digest: &Digest) -> Option<u64> {
        self.shelves().since.get(digest).copied()
    }

    /// Its disk is lost, and with it all that it held and knew; when each came first is what happened, and stays.
    pub(crate) fn lose(&self) {
        let mut shelves = self.shelves();
        let since = std::mem::take(&mut shelves.since);
        *shelves = Shelves { since, ..Shelves::default() };
    }

    /// Whether it has the attachment now.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.shelves().held.contains_key(digest)
    }

    /// As if it had never had any.
    pub(crate) fn forget_since(&self) {
        self.shelves().since.clear();
    }
}

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok::<T, VaultError>(value)))
}

impl Vault for Shelf {
    fn put(&self, attachments: Vec<(Digest, Bytes)>) -> Answer<()> {
        let mut shelves = self.shelves();
        for (digest, bytes) in attachments.into_iter().filter(|_| !self.lies) {
            if !shelves.erased.contains(&digest) {
                shelves.held.insert(digest, bytes);
                shelves.since.entry(digest).or_insert_with(|| self.clock.load(Ordering::Relaxed));
            }
            shelves.missing.retain(|missing| *missing != digest);
        }
        answer(())
    }

    fn get(&self, digest: Digest) -> Answer<Option<Vec<u8>>> {
        answer(self.shelves().held.get(&digest).map(|bytes| bytes.to_vec()))
    }

    fn kept(&self, digests: Vec<Digest>) -> Answer<Vec<Kept>> {
        let shelves = self.shelves();
        let kept = |digest: &Digest| {
            if self.lies || shelves.held.contains_key(digest) {
                Kept::Held
            } else if shelves.erased.contains(digest) {
                Kept::Erased
            } else {
                Kept::Not
            }
        };
        answer(digests.iter().map(kept).collect())
    }

    fn erase(&self, digest: Digest) -> Answer<()> {
        let mut shelves = self.shelves();
        shelves.held.remove(&digest);
        shelves.erased.insert(digest);
        shelves.missing.retain(|missing| *missing != digest);
        answer(())
    }

    fn expect(&self, named: Vec<Digest>, height: u64) -> Answer<()> {
        let mut shelves = self.shelves();
        for digest in named.into_iter().filter(|_| !self.lies) {
            let known = shelves.held.contains_key(&digest) || shelves.erased.contains(&digest);
            if !known && !shelves.missing.contains(&digest) {
                shelves.missing.push_back(digest);
            }
        }
        shelves.height = shelves.height.max(height);
        answer(())
    }

    fn missing(&self, max: usize) -> Answer<Vec<Digest>> {
        let mut shelves = self.shelves();
        let count = max.min(shelves.missing.len());
        let asked: Vec<Digest> = shelves.missing.iter().take(count).copied().collect();
        shelves.missing.rotate_left(count);
        answer(asked)
    }

    fn is_missing(&self, digest: Digest) -> Answer<bool> {
        answer(self.shelves().missing.contains(&digest))
    }

    fn status(&self) -> Answer<VaultStatus> {
        let shelves = self.shelves();
        answer(VaultStatus {
            held: shelves.held.len() as u64,
            bytes: shelves.held.values().map(|bytes| bytes.len() as u64).sum(),
            missing: shelves.missing.len() as u64,
            erased: shelves.erased.len() as u64,
            searched_height: shelves.height,
        })
    }
}
