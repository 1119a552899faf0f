//! How many questions are answered at the same time: a share for each peer, and of all together those with long answers.

use commonware_cryptography::ed25519;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions of one peer that are answered at the same time; further ones are dropped, and asked again elsewhere.
const ANSWERED_AT_ONCE_PER_PEER_MAX: usize = 2;
/// Questions with long answers, of all peers together.
const LONG_AT_ONCE_MAX: usize = 8;

/// What is being answered.
pub(crate) struct Shares {
    long: Arc<Semaphore>,
    /// Peers of whom something is being answered: one that asks for nothing is not remembered.
    peers: BTreeMap<ed25519::PublicKey, Arc<Semaphore>>,
}

/// A question may be answered; over when dropped.
pub(crate) struct Turn {
    _share: OwnedSemaphorePermit,
    _long: Option<OwnedSemaphorePermit>,
}

impl Shares {
    pub(crate) fn new() -> Self {
        Self { long: Arc::new(Semaphore::new(LONG_AT_ONCE_MAX)), peers: BTreeMap::new() }
    }

    /// `None`: the peer has its share of answers, or too many long ones are being made.
    pub(crate) fn take(&mut self, peer: &ed25519::PublicKey, is_long: bool) -> Option<Turn> {
        self.peers.retain(|_, share| share.available_permits() < ANSWERED_AT_ONCE_PER_PEER_MAX);
        let share = || Arc::new(Semaphore::new(ANSWERED_AT_ONCE_PER_PEER_MAX));
        let share = self.peers.entry(peer.clone()).or_insert_with(share).clone();
        let share = share.try_acquire_owned().ok()?;
        let long = if is_long { Some(self.long.clone().try_acquire_owned().ok()?) } else { None };
        Some(Turn { _share: share, _long: long })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::Signer as _;

    fn peer(seed: u64) -> ed25519::PublicKey {
        ed25519::PrivateKey::from_seed(seed).public_key()
    }

    /// Answers were made for whoever asked first, eight at a time. A peer that asked without end had them all, and a latecomer beside it
    /// took over no state.
    #[test]
    fn a_peer_that_asks_without_end_takes_nobody_elses_answers() {
        let mut shares = Shares::new();
        let taken: Vec<_> = (0..1_000).filter_map(|nth| shares.take(&peer(1), nth % 2 == 0)).collect();
        assert_eq!(taken.len(), ANSWERED_AT_ONCE_PER_PEER_MAX);
        for other in 2..6 {
            assert!(
                shares.take(&peer(other), true).is_some(),
                "peer {other} has no answer beside one that asks without end"
            );
        }
        // What was answered makes room for what the same peer asks next.
        drop(taken);
        assert!(shares.take(&peer(1), true).is_some());
    }

    #[test]
    fn long_answers_are_bounded_for_all_peers_together_and_short_ones_go_on_beside_them() {
        let mut shares = Shares::new();
        let mut long: Vec<_> = (0..100).filter_map(|n| shares.take(&peer(n), true)).collect();
        assert_eq!(long.len(), LONG_AT_ONCE_MAX);
        assert!(shares.take(&peer(200), false).is_some());
        long.pop();
        assert!(shares.take(&peer(201), true).is_some());
    }

    #[test]
    fn a_peer_that_is_answered_nothing_is_forgotten() {
        let mut shares = Shares::new();
        for n in 0..1_000 {
            drop(shares.take(&peer(n), n % 2 == 0));
        }
        assert!(shares.peers.len() <= 1, "{} peers are remembered", shares.peers.len());
    }
}
