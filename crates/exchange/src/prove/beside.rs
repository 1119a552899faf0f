//! What evidence shows beside the log: what the ledger holds now of the records in it, and of the keys of the devices that measured.

use super::sealed::Sealed;
use crate::{failure::Failure, node::Node};
use contract::{
    Body, Entry, PublicKey,
    state::{self, Key},
};
use evidence::{BoundDevice, CurrentRecord, CurrentValue};
use ledger::KEYS_MAX;
use record::{Id16, RecordTag};
use std::collections::{BTreeMap, BTreeSet};

/// Records and bindings that entries are about.
#[derive(Debug, Default)]
pub(super) struct Beside {
    tags: BTreeSet<RecordTag>,
    /// Each with the key that its device signs by.
    bindings: BTreeMap<Id16, PublicKey>,
}

impl Beside {
    /// What has to be proven of the state for it.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let devices =
            self.bindings.iter().flat_map(|(id, key)| [state::binding_key(id), state::device_signer_key(key)]);
        devices.chain(self.tags.iter().map(state::record_key))
    }

    /// Whether all of it is in `other`.
    pub(super) fn is_in(&self, other: &Self) -> bool {
        self.tags.is_subset(&other.tags) && self.bindings.keys().all(|id| other.bindings.contains_key(id))
    }

    /// What is current of the records, as far as it is proven.
    pub(super) fn current(&self, sealed: &Sealed) -> Vec<CurrentRecord> {
        let current = |tag: &RecordTag| {
            let head = sealed.value(&state::record_key(tag))?;
            Some(CurrentRecord { tag: *tag, value: CurrentValue::Present { head } })
        };
        self.tags.iter().filter_map(current).collect()
    }

    /// The keys of the devices, as far as they are proven.
    pub(super) fn devices(&self, sealed: &Sealed) -> Vec<BoundDevice> {
        let device = |(id, key): (&Id16, &PublicKey)| {
            let bound = sealed.value(&state::binding_key(id))?;
            Some(BoundDevice { binding: *id, bound, key: sealed.value(&state::device_signer_key(key))? })
        };
        self.bindings.iter().filter_map(device).collect()
    }
}

impl Node {
    /// The records that entries write versions of, and the bindings that their frames came under.
    pub(super) async fn beside(&self, entries: impl Iterator<Item = &Entry>) -> Result<Beside, Failure> {
        let mut beside = Beside::default();
        let mut bindings = BTreeSet::new();
        for entry in entries {
            match &entry.body {
                Body::Record { tag, .. } => _ = beside.tags.insert(*tag),
                Body::Batch { binding, count: 1.., .. } => _ = bindings.insert(*binding),
                _ => {}
            }
        }
        let bindings: Vec<Id16> = bindings.into_iter().collect();
        for some in bindings.chunks(KEYS_MAX) {
            let values = self.values::<state::Binding>(some.iter().map(state::binding_key).collect()).await?;
            let known = some.iter().zip(values);
            beside.bindings.extend(known.filter_map(|(id, binding)| Some((*id, binding?.key))));
        }
        Ok(beside)
    }
}
