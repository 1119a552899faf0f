//! What was seen of the nodes over all their lives: every block that any of them called final.

use ledger::FinalBlock;
use record::Digest;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Every block that a member's node called final, in each of its lives.
#[derive(Clone, Default)]
pub(crate) struct Chains {
    /// By member, then by life, then by height.
    pub(crate) of: BTreeMap<usize, BTreeMap<u64, BTreeMap<u64, Arc<FinalBlock>>>>,
    /// When the first of them called each height final, by the clock of the run.
    pub(crate) seen: BTreeMap<u64, u64>,
}

impl Chains {
    /// The first block seen at each height.
    pub(crate) fn first(&self) -> BTreeMap<u64, Arc<FinalBlock>> {
        let mut first = BTreeMap::new();
        for (height, block) in self.of.values().flat_map(BTreeMap::values).flatten() {
            first.entry(*height).or_insert_with(|| block.clone());
        }
        first
    }

    /// The digest that a member's node named at a height last.
    pub(crate) fn height(&self, member: usize) -> u64 {
        let lives = self.of.get(&member).and_then(|lives| lives.last_key_value());
        lives.and_then(|(_, blocks)| blocks.last_key_value()).map_or(0, |(height, _)| *height)
    }
}

/// Shared between those who watch.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Chains>>);

impl Seen {
    pub(crate) fn chains(&self) -> MutexGuard<'_, Chains> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The final block at a height, as the first of them named it.
    pub(crate) fn at(&self, height: u64) -> Option<Arc<FinalBlock>> {
        self.chains().of.values().flat_map(BTreeMap::values).find_map(|blocks| blocks.get(&height)).cloned()
    }

    /// A node called the block final. `time`: by the clock of the run.
    pub(crate) fn note(&self, member: usize, life: u64, block: Arc<FinalBlock>, time: u64) {
        let height = block.header().height;
        self.chains().seen.entry(height).or_insert(time);
        self.chains().of.entry(member).or_default().entry(life).or_default().insert(height, block);
    }
}

/// The values of a node's state at the end.
pub(crate) type Values = Vec<(Digest, Option<Vec<u8>>)>;
