//! A vault in memory, for simulations: what is answered lasts as long as the process.

use super::{Answer, Vault, VaultError, VaultStatus};
use bytes::Bytes;
use futures::future::ready;
use record::Digest;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
struct Shelves {
    held: HashMap<Digest, Bytes>,
    erased: HashSet<Digest>,
    missing: VecDeque<Digest>,
    height: u64,
}

/// A vault in memory.
#[derive(Default)]
pub(crate) struct MemoryVault(Mutex<Shelves>);

impl MemoryVault {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok::<T, VaultError>(value)))
}

impl Vault for MemoryVault {
    fn put(&self, attachments: Vec<(Digest, Bytes)>) -> Answer<()> {
        let mut shelves = self.shelves();
        for (digest, bytes) in attachments {
            if !shelves.erased.contains(&digest) {
                shelves.held.insert(digest, bytes);
            }
            shelves.missing.retain(|missing| *missing != digest);
        }
        answer(())
    }

    fn get(&self, digest: Digest) -> Answer<Option<Vec<u8>>> {
        answer(self.shelves().held.get(&digest).map(|bytes| bytes.to_vec()))
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
        for digest in named {
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
