//! Messages of the next epoch, kept until its engine runs here.

use crate::heard::Heard;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Message, Receiver};
use commonware_runtime::Clock;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    num::NonZeroUsize,
};

/// What is kept of one peer's messages on one channel: some hundred votes. Further ones are lost, as all were that came before their time.
const BYTES_PER_PEER_MAX: usize = 128 * 1024;
/// What a kept message costs besides its bytes.
const MESSAGE_BYTES: usize = 64;

/// Messages of one epoch on one channel, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Early {
    epoch: u64,
    messages: VecDeque<Message<PublicKey>>,
    bytes: BTreeMap<PublicKey, usize>,
}

impl Early {
    /// From now on keeps what comes for `epoch`, and what it has only if that is of this epoch.
    pub(crate) fn turn_to(&mut self, epoch: u64) {
        if epoch != self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
    }

    /// Keeps a message, if it is of the epoch and its sender has room left.
    pub(crate) fn keep(&mut self, epoch: u64, (peer, message): Message<PublicKey>) {
        let cost = message.len().saturating_add(MESSAGE_BYTES);
        if epoch != self.epoch {
            return;
        }
        let bytes = self.bytes.entry(peer.clone()).or_default();
        if bytes.saturating_add(cost) <= BYTES_PER_PEER_MAX {
            *bytes += cost;
            self.messages.push_back((peer, message));
        }
    }

    /// The messages `first`, then those that were kept, and then what `receiver` receives, which `heard` is told of.
    pub(crate) fn before<R, E>(self, first: Vec<Message<PublicKey>>, receiver: R, heard: Heard<E>) -> EarlyFirst<R, E> {
        let mut early = VecDeque::from(first);
        early.extend(self.messages);
        EarlyFirst { early, receiver, heard }
    }
}

/// A receiver with messages that came before it was there.
pub(crate) struct EarlyFirst<R, E> {
    early: VecDeque<Message<PublicKey>>,
    receiver: R,
    heard: Heard<E>,
}

impl<R: fmt::Debug, E> fmt::Debug for EarlyFirst<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyFirst").field("early", &self.early.len()).field("receiver", &self.receiver).finish()
    }
}

impl<R: Receiver<PublicKey = PublicKey>, E: Clock> Receiver for EarlyFirst<R, E> {
    type Error = R::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, R::Error> {
        match self.early.pop_front() {
            Some(message) => Ok(message),
            None => {
                let message = self.receiver.recv().await?;
                self.heard.note(&message.0);
                Ok(message)
            }
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_runtime::{IoBuf, Runner as _, deterministic};
    use futures::FutureExt as _;

    fn peer(seed: u64) -> PublicKey {
        PrivateKey::from_seed(seed).public_key()
    }

    /// Nothing but silence.
    #[derive(Debug)]
    struct Silent;

    #[derive(Debug, thiserror::Error)]
    #[error("never")]
    struct Never;

    impl Receiver for Silent {
        type Error = Never;
        type PublicKey = PublicKey;

        async fn recv(&mut self) -> Result<Message<PublicKey>, Never> {
            futures::future::pending().await
        }

        fn capacity(&self) -> NonZeroUsize {
            NonZeroUsize::MIN
        }
    }

    fn kept(early: Early) -> Vec<(PublicKey, usize)> {
        deterministic::Runner::default().start(|context| async {
            let mut receiver = early.before(Vec::new(), Silent, Heard::new(context));
            std::iter::from_fn(|| receiver.recv().now_or_never())
                .map(|message| message.map(|(peer, bytes)| (peer, bytes.len())).unwrap())
                .collect()
        })
    }

    #[test]
    fn messages_come_back_in_order_and_only_those_of_the_epoch() {
        let mut early = Early::default();
        early.turn_to(3);
        for (epoch, peer_no, len) in [(3, 1, 10), (2, 1, 20), (4, 1, 30), (3, 2, 40), (3, 1, 50)] {
            early.keep(epoch, (peer(peer_no), IoBuf::from(vec![0; len])));
        }
        early.turn_to(3);
        assert_eq!(kept(early), [(peer(1), 10), (peer(2), 40), (peer(1), 50)]);
    }

    #[test]
    fn what_came_for_an_epoch_that_was_passed_over_is_dropped() {
        let mut early = Early::default();
        early.turn_to(3);
        early.keep(3, (peer(1), IoBuf::from(vec![0; 10])));
        early.turn_to(4);
        assert_eq!(kept(early), []);
    }

    #[test]
    fn a_peer_that_floods_takes_nobody_elses_room() {
        let mut early = Early::default();
        early.turn_to(3);
        for _ in 0..10_000 {
            early.keep(3, (peer(1), IoBuf::from(vec![0; 1_000])));
        }
        early.keep(3, (peer(1), IoBuf::from(vec![0; BYTES_PER_PEER_MAX])));
        early.keep(3, (peer(2), IoBuf::from(vec![0; 7])));
        let kept = kept(early);
        assert!(kept.len() < 130, "{}", kept.len());
        assert_eq!(kept.last(), Some(&(peer(2), 7)));
    }
}
