//! The members' nodes: who they are, and who was heard from lately.

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

/// A member's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) org: OrgId,
    pub(crate) role: OrgRole,
    pub(crate) key: PublicKey,
}

#[derive(Default)]
struct Ear {
    /// Counts this node's own beats: the clock that silence is measured by.
    beat: u64,
    heard: HashMap<PublicKey, Heard>,
    members: Vec<Known>,
}

impl Ear {
    fn is_connected(&self, heard: &Heard) -> bool {
        self.beat.saturating_sub(heard.beat) <= SILENT_BEATS_MAX
    }
}

/// Every member's node, as this one hears it.
pub(crate) struct Peers {
    me: PublicKey,
    ear: Mutex<Ear>,
}

impl Peers {
    /// The founders.
    pub(crate) fn new(genesis: &Genesis, me: PublicKey) -> Self {
        let known = |m: &contract::Member| Known { org: m.org.clone(), role: m.role, key: m.consensus_key };
        let members = genesis.members.iter().map(known).collect();
        Self { me, ear: Mutex::new(Ear { members, ..Ear::default() }) }
    }

    fn ear(&self) -> MutexGuard<'_, Ear> {
        self.ear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members are these from now on.
    pub(crate) fn set(&self, members: Vec<Known>) {
        let mut ear = self.ear();
        ear.heard.retain(|key, _| members.iter().any(|known| known.key == *key));
        ear.members = members;
    }

    /// This node's own beat, about once a second.
    pub(crate) fn beat(&self) {
        self.ear().beat += 1;
    }

    /// A peer told its height.
    pub(crate) fn heard(&self, peer: PublicKey, height: u64) {
        let mut ear = self.ear();
        let beat = ear.beat;
        if ear.members.iter().any(|known| known.key == peer) {
            ear.heard.insert(peer, Heard { beat, height });
        }
    }

    /// Every member's node. `height`: this node's own.
    pub(crate) fn validators(&self, height: u64) -> Vec<Validator> {
        let ear = self.ear();
        let validator = |Known { org, key, .. }: &Known| {
            let (connected, height) = match ear.heard.get(key) {
                _ if *key == self.me => (true, height),
                Some(heard) => (ear.is_connected(heard), heard.height),
                None => (false, 0),
            };
            Validator { org: org.clone(), connected, height }
        };
        ear.members.iter().map(validator).collect()
    }

    /// How many of the other members' nodes were heard from lately.
    pub(crate) fn connected(&self) -> usize {
        let ear = self.ear();
        let others = ear.members.iter().filter(|known| known.key != self.me);
        others.filter(|known| ear.heard.get(&known.key).is_some_and(|heard| ear.is_connected(heard))).count()
    }

    /// The consensus keys of the other members.
    pub(crate) fn others(&self) -> Vec<PublicKey> {
        self.that(|_| true)
    }

    /// The consensus keys of the other members of such a role.
    pub(crate) fn that(&self, role: impl Fn(OrgRole) -> bool) -> Vec<PublicKey> {
        let ear = self.ear();
        let others = ear.members.iter().filter(|known| known.key != self.me && role(known.role));
        others.map(|known| known.key).collect()
    }

    /// Whose node has that consensus key.
    pub(crate) fn org(&self, key: &PublicKey) -> Option<OrgId> {
        self.ear().members.iter().find(|known| known.key == *key).map(|known| known.org.clone())
    }

    /// The consensus key of another member's node.
    pub(crate) fn key(&self, org: &OrgId) -> Option<PublicKey> {
        let ear = self.ear();
        let other = ear.members.iter().find(|known| known.org == *org && known.key != self.me);
        other.map(|known| known.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey::from([n; 32])
    }

    fn known(keys: &[u8]) -> Vec<Known> {
        let member = |n: &u8| Known { org: format!("o{n}").parse().unwrap(), role: OrgRole::Hospital, key: key(*n) };
        keys.iter().map(member).collect()
    }

    /// One was taken off for the node itself, which is not among the members before it joined, nor after its key was replaced.
    #[test]
    fn a_node_counts_the_others_whether_the_roll_has_its_own_key_or_not() {
        let check = |roll: &[u8], heard: &[u8], beats: u64, expected: usize| {
            let peers = Peers { me: key(1), ear: Mutex::default() };
            peers.set(known(roll));
            heard.iter().for_each(|n| peers.heard(key(*n), 7));
            (0..beats).for_each(|_| peers.beat());
            assert_eq!(peers.connected(), expected, "{roll:?} {heard:?} {beats}");
        };
        check(&[1, 2, 3, 4], &[], 0, 0);
        check(&[1, 2, 3, 4], &[2, 3, 4], 0, 3);
        check(&[2, 3, 4], &[2, 3, 4], 0, 3);
        check(&[2, 3, 4], &[3], 0, 1);
        check(&[9, 2, 3, 4], &[2, 3, 4], 0, 3);
        // Nobody hears strangers, nor itself.
        check(&[1, 2], &[1, 5], 0, 0);
        check(&[1, 2], &[2], SILENT_BEATS_MAX, 1);
        check(&[1, 2], &[2], SILENT_BEATS_MAX + 1, 0);
    }
}
