//! Words: what members say about a final header. Asked of their nodes, carried between them, and read by none: the caller knows the form.

use crate::{
    block::{engine_key, our_key},
    handle::Handle,
};
use commonware_cryptography::ed25519;
use commonware_p2p::{Receiver, Recipients, Sender};
use contract::{Header, PublicKey};
use futures::future::Either;
use minicbor::{Decode, Encode};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// The longest word, in bytes.
pub const WORD_BYTES_MAX: usize = 1024;
/// The longest message about words, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = WORD_BYTES_MAX + 64;
/// A node speaks about the latest so many heights, and waits for so many that are not final yet. Whoever asks has proven something under
/// the latest header a moment ago.
const HEIGHTS_SPOKEN_OF: u64 = 256;
/// The most questions that wait for a height to become final; a further one is not answered.
const WAITING_MAX: usize = 256;
/// The most questions of this node's own that are open at the same time; the oldest height is given up for a further one.
const OPEN_MAX: usize = 64;
/// The most messages that wait to be sent.
pub(crate) const OUTBOX_MAX: usize = 64;

/// What nodes tell each other about words.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Message {
    /// What do you say about the header of this height?
    #[n(0)]
    Ask(#[n(0)] u64),
    /// This.
    #[n(1)]
    Word(#[n(0)] u64, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
}

/// What this node's organisation says about a final header, at most [`WORD_BYTES_MAX`] bytes. Called for headers that this node followed
/// itself, and for nothing else.
#[derive(Clone)]
pub struct Speaker(Arc<Speaks>);

/// The word about a header.
type Speaks = dyn Fn(&Header) -> Vec<u8> + Send + Sync;

impl Speaker {
    /// Speaks by `say`.
    pub fn new(say: impl Fn(&Header) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }
}
impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Speaker")
    }
}

/// The answers to one question, as they come. Nothing says that a word is true, or whose: that is the reader's to check.
pub struct Words {
    words: mpsc::Receiver<Vec<u8>>,
}

impl Words {
    /// The next answer; none once every member that was asked has answered. Waits for ever for one that does not: bound it.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.words.recv().await
    }
}

/// A question of this node's own.
struct Open {
    /// Whoever has not answered.
    silent: HashSet<PublicKey>,
    answers: mpsc::Sender<Vec<u8>>,
}

/// The questions of this node.
pub(crate) struct Questions {
    open: Mutex<HashMap<u64, Vec<Open>>>,
    outbox: mpsc::Sender<(Vec<PublicKey>, u64)>,
}

impl Questions {
    /// Questions go out by `outbox`, as who is asked about which height.
    pub(crate) fn new(outbox: mpsc::Sender<(Vec<PublicKey>, u64)>) -> Self {
        Self { open: Mutex::default(), outbox }
    }

    /// Asks the members for their words about the header of a height.
    pub(crate) async fn ask(&self, members: Vec<PublicKey>, height: u64) -> Words {
        let (answers, words) = mpsc::channel(members.len().max(1));
        if !members.is_empty() {
            let silent = members.iter().copied().collect();
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|_, questions| {
                questions.retain(|question| !question.answers.is_closed());
                !questions.is_empty()
            });
            if open.len() >= OPEN_MAX
                && let Some(oldest) = open.keys().min().copied()
            {
                open.remove(&oldest);
            }
            open.entry(height).or_default().push(Open { silent, answers });
        }
        // A node that stopped answers nothing: its questions close with it.
        let _ = self.outbox.send((members, height)).await;
        Words { words }
    }

    /// A member answered. Each is heard once for each question.
    fn answered(&self, from: &PublicKey, height: u64, word: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(questions) = open.get_mut(&height) else { return };
        questions.retain_mut(|question| {
            if question.silent.remove(from) {
                // There is room for one answer of each member.
                let _ = question.answers.try_send(word.to_vec());
            }
            !question.silent.is_empty()
        });
        if questions.is_empty() {
            open.remove(&height);
        }
    }
}

/// Sends this node's questions.
pub(crate) async fn ask<S: Sender<PublicKey = ed25519::PublicKey>>(
    mut sender: S,
    mut outbox: mpsc::Receiver<(Vec<PublicKey>, u64)>,
) {
    while let Some((members, height)) = outbox.recv().await {
        let members: Vec<ed25519::PublicKey> = members.iter().filter_map(engine_key).collect();
        if !members.is_empty() {
            let _ = sender.send(Recipients::Some(members), contract::to_cbor(&Message::Ask(height)), false);
        }
    }
}

/// Hears answers to this node's questions, and hands on what others ask.
pub(crate) async fn hear<R: Receiver<PublicKey = ed25519::PublicKey>>(
    handle: Handle,
    mut receiver: R,
    asked: mpsc::Sender<(ed25519::PublicKey, u64)>,
) {
    while let Ok((peer, bytes)) = receiver.recv().await {
        match minicbor::decode::<Message>(bytes.as_ref()) {
            Ok(Message::Word(height, word)) if word.len() <= WORD_BYTES_MAX => {
                handle.shared.questions.answered(&our_key(&peer), height, &word);
            }
            Ok(Message::Word(..)) => {}
            // Whoever asks more than can be answered asks again.
            Ok(Message::Ask(height)) => _ = asked.try_send((peer, height)),
            Err(_) => tracing::warn!(%peer, "a message about words that is not the format"),
        }
    }
}

/// Answers what others ask about final headers, and soon what they ask about the next ones.
pub(crate) async fn answer<S: Sender<PublicKey = ed25519::PublicKey>>(
    handle: Handle,
    speaker: Speaker,
    mut sender: S,
    mut asked: mpsc::Receiver<(ed25519::PublicKey, u64)>,
) {
    let mut head = handle.shared.head.clone();
    let mut waiting: Vec<(ed25519::PublicKey, u64)> = Vec::new();
    // The last word, since several members may want one about the same height.
    let mut last: Option<(u64, Vec<u8>)> = None;
    loop {
        match futures::future::select(Box::pin(asked.recv()), Box::pin(head.changed())).await {
            Either::Left((Some(question), _)) if waiting.len() < WAITING_MAX => waiting.push(question),
            Either::Left((Some(_), _)) | Either::Right((Ok(()), _)) => {}
            Either::Left((None, _)) | Either::Right((Err(_), _)) => return,
        }
        let at = head.borrow_and_update().header.height;
        waiting.retain(|(_, height)| at.abs_diff(*height) <= HEIGHTS_SPOKEN_OF);
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut waiting).into_iter().partition(|(_, height)| *height <= at);
        waiting = later;
        for (peer, height) in due {
            if last.as_ref().is_none_or(|(spoken, _)| *spoken != height) {
                let Ok(Some(block)) = handle.block(height).await else {
                    // The archive has the block with the next one at the latest.
                    waiting.push((peer, height));
                    continue;
                };
                last = Some((height, (speaker.0)(block.header())));
            }
            if let Some((_, word)) = &last {
                let message = contract::to_cbor(&Message::Word(height, word.clone()));
                let _ = sender.send(Recipients::One(peer), message, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey::from([n; 32])
    }

    #[tokio::test]
    async fn each_member_is_heard_once_and_the_last_one_ends_the_question() {
        let (outbox, mut sent) = mpsc::channel(OUTBOX_MAX);
        let questions = Questions::new(outbox);
        let mut words = questions.ask(vec![key(1), key(2)], 7).await;
        assert_eq!(sent.recv().await, Some((vec![key(1), key(2)], 7)));
        questions.answered(&key(1), 7, b"one");
        questions.answered(&key(1), 7, b"one again");
        questions.answered(&key(3), 7, b"not asked");
        questions.answered(&key(2), 8, b"about another height");
        questions.answered(&key(2), 7, b"two");
        assert_eq!(words.next().await.as_deref(), Some(&b"one"[..]));
        assert_eq!(words.next().await.as_deref(), Some(&b"two"[..]));
        assert_eq!(words.next().await, None);
        assert!(questions.open.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn open_questions_are_bounded_and_given_up_ones_forgotten() {
        let (outbox, _sent) = mpsc::channel(1000);
        let questions = Questions::new(outbox);
        let mut kept = Vec::new();
        for height in 0..100 {
            kept.push(questions.ask(vec![key(1)], height).await);
        }
        assert_eq!(questions.open.lock().unwrap().len(), OPEN_MAX);
        kept.clear();
        let mut alone = questions.ask(Vec::new(), 100).await;
        assert_eq!(alone.next().await, None, "nobody was asked");
        let _asked = questions.ask(vec![key(1)], 101).await;
        assert_eq!(questions.open.lock().unwrap().len(), 1);
    }
}
