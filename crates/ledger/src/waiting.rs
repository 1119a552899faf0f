//! Questions that wait for their answer, each for as long as somebody wants it.

use commonware_cryptography::ed25519;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The most questions that wait at the same time: all members asked for a few things each.
const WAITING_MAX: usize = 4 * contract::MEMBERS_MAX;

/// Who was asked, and where the answer goes.
type Asked = (ed25519::PublicKey, oneshot::Sender<Vec<u8>>);

/// The questions of this node that were not answered yet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<Questions>>);

#[derive(Default)]
struct Questions {
    last: u64,
    asked: BTreeMap<u64, Asked>,
}

/// An answer that is wanted; whoever drops it wants it no more.
pub(crate) struct Awaited {
    /// The number of the question.
    pub(crate) id: u64,
    pub(crate) answer: oneshot::Receiver<Vec<u8>>,
    waiting: Waiting,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.questions().asked.remove(&self.id);
    }
}

impl Waiting {
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a question to a peer. `None`: too many wait.
    pub(crate) fn expect(&self, peer: &ed25519::PublicKey) -> Option<Awaited> {
        let (reply, answer) = oneshot::channel();
        let mut questions = self.questions();
        if questions.asked.len() >= WAITING_MAX {
            return None;
        }
        questions.last = questions.last.wrapping_add(1);
        let id = questions.last;
        questions.asked.insert(id, (peer.clone(), reply));
        Some(Awaited { id, answer, waiting: self.clone() })
    }

    /// An answer came: only from whom it was asked.
    pub(crate) fn heard(&self, peer: &ed25519::PublicKey, id: u64, bytes: Vec<u8>) {
        let mut questions = self.questions();
        if questions.asked.get(&id).is_some_and(|(asked, _)| asked == peer)
            && let Some((_, reply)) = questions.asked.remove(&id)
        {
            let _ = reply.send(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::Signer as _;

    fn peer(seed: u64) -> ed25519::PublicKey {
        ed25519::PrivateKey::from_seed(seed).public_key()
    }

    #[test]
    fn an_answer_reaches_who_asked_and_only_from_whom_it_was_asked() {
        let waiting = Waiting::default();
        let mut awaited = waiting.expect(&peer(1)).unwrap();
        waiting.heard(&peer(2), awaited.id, vec![2]);
        waiting.heard(&peer(1), awaited.id + 1, vec![3]);
        assert!(awaited.answer.try_recv().is_err());
        waiting.heard(&peer(1), awaited.id, vec![1]);
        assert_eq!(awaited.answer.try_recv(), Ok(vec![1]));
    }

    /// A node asks all peers for the certificate of an end, and the first that holds breaks the other questions off. Each of them
    /// left its entry behind, since whoever waited took it away, and nobody did any more.
    #[test]
    fn a_question_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let waiting = Waiting::default();
        for n in 0..10 * WAITING_MAX as u64 {
            let awaited = waiting.expect(&peer(n % 3));
            assert!(awaited.is_some(), "question {n}");
        }
        assert!(waiting.questions().asked.is_empty());
    }

    #[test]
    fn no_more_questions_wait_than_the_bound_says() {
        let waiting = Waiting::default();
        let mut all: Vec<_> = (0..WAITING_MAX).map(|_| waiting.expect(&peer(1)).unwrap()).collect();
        assert!(waiting.expect(&peer(2)).is_none());
        drop(all.pop());
        assert!(waiting.expect(&peer(2)).is_some());
    }
}
