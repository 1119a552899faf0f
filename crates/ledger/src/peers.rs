//! The other members' nodes: who they are, and who was heard from lately.

use crate::handle::Validator;
use contract::{Genesis, PublicKey};
use record::{OrgId, OrgRole};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A peer that was silent for this many beats counts as not connected.
const SILENT_BEATS_MAX: u64 = 5;

struct Heard {
    beat: u64,
    height: u64,
}

#[derive(Default)]
struct Ear {
    /// Counts this node's own beats: the clock that silence is measured by.
    beat: u64,
    heard: HashMap<PublicKey, Heard>,
}

/// Every member's node, as this one hears it.
pub(crate) struct Peers {
    me: PublicKey,
    members: Vec<(OrgId, OrgRole, PublicKey)>,
    ear: Mutex<Ear>,
}

impl Peers {
    pub(crate) fn new(genesis: &Genesis, me: PublicKey) -> Self {
        let members = genesis.members.iter().map(|m| (m.org.clone(), m.role, m.consensus_key)).collect();
        Self { me, members, ear: Mutex::default() }
    }

    fn ear(&self) -> MutexGuard<'_, Ear> {
        self.ear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's own beat, about once a second.
    pub(crate) fn beat(&self) {
        self.ear().beat += 1;
    }

    /// A peer told its height.
    pub(crate) fn heard(&self, peer: PublicKey, height: u64) {
        let mut ear = self.ear();
        let beat = ear.beat;
        ear.heard.insert(peer, Heard { beat, height });
    }

    /// Every member's node. `height`: this node's own.
    pub(crate) fn validators(&self, height: u64) -> Vec<Validator> {
        let ear = self.ear();
        let validator = |(org, _, key): &(OrgId, OrgRole, PublicKey)| {
            let (connected, height) = match ear.heard.get(key) {
                _ if *key == self.me => (true, height),
                Some(heard) => (ear.beat.saturating_sub(heard.beat) <= SILENT_BEATS_MAX, heard.height),
                None => (false, 0),
            };
            Validator { org: org.clone(), connected, height }
        };
        self.members.iter().map(validator).collect()
    }

    /// The consensus keys of the other members whose role is among `roles`.
    pub(crate) fn of_roles(&self, roles: &[OrgRole]) -> Vec<PublicKey> {
        let others = self.members.iter().filter(|(_, role, key)| *key != self.me && roles.contains(role));
        others.map(|(_, _, key)| *key).collect()
    }
}
