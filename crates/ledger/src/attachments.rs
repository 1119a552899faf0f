//! Attachments between the vault, the peers and the caller: put, fetch, and what final entries name but the vault lacks.

mod holding;

pub(crate) use holding::Custody;

use crate::{
    handle::Unavailable,
    mempool::{Mempool, UNHELD_MAX},
    peers::Peers,
    vault::{ATTACHMENT_BYTES_MAX, Vault, VaultError, VaultStatus},
};
use bytes::Bytes;
use contract::{PublicKey, may_hold};
use holding::Told;
use minicbor::{Decode, Decoder, Encode, bytes::ByteVec, decode};
use record::{Digest, sha256};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// The longest message about attachments, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = ATTACHMENT_BYTES_MAX + 64 * 1024;
/// The most digests of one pull.
pub(crate) const PULL_MAX: usize = 64;
/// The most attachments of one push.
const PUSH_MAX: usize = 64;
/// The most bytes of a push of several: what is longer goes alone, so that little stands before a vote.
const PUSH_BYTES: usize = 256 * 1024;
/// The most bytes of attachments that came before any submission named them, each with [`WAITING_BYTES`] on top.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an attachment takes up besides its bytes while it waits: its place in map and queue, and its allocation.
const WAITING_BYTES: usize = 256;
/// The most attachments from peers that wait to be kept; what comes then waits in the network.
pub(crate) const KEEP_MAX: usize = 32;
/// The most callers that wait for one attachment or another.
const FETCHES_MAX: usize = 1024;
/// The most messages that wait to be sent; further ones wait with their caller.
pub(crate) const OUTBOX_MAX: usize = 64;

/// What nodes tell each other about attachments.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Message {
    /// Here are some.
    #[n(0)]
    Push(#[cbor(n(0), decode_with = "at_most::<PUSH_MAX, _, _>")] Vec<ByteVec>),
    /// Send me these, if you have them.
    #[n(1)]
    Pull(#[cbor(n(0), decode_with = "at_most::<PULL_MAX, _, _>")] Vec<Digest>),
    /// Holding receipts, the sender's own or such as it was told.
    #[n(2)]
    Held(#[cbor(n(0), decode_with = "at_most::<{ holding::TOLD_MAX }, _, _>")] Vec<Told>),
    /// Which holding receipts are there for these submissions?
    #[n(3)]
    Ask(#[cbor(n(0), decode_with = "at_most::<{ UNHELD_MAX }, _, _>")] Vec<Digest>),
}

/// Reads an array of at most `MAX` items; its length is checked before anything is read.
fn at_most<'b, const MAX: usize, C, T: Decode<'b, C>>(
    d: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, decode::Error> {
    let length = d.array()?.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= MAX);
    let length = length.ok_or_else(|| decode::Error::message("an array of more items than it may have"))?;
    (0..length).map(|_| d.decode_with(context)).collect()
}

/// Attachments in few messages, in order: peers take so many messages a second, and a bundle of records has hundreds of copies.
fn pushes(attachments: impl IntoIterator<Item = Vec<u8>>) -> Vec<Message> {
    let mut pushes: Vec<Vec<ByteVec>> = Vec::new();
    let mut length = 0;
    for bytes in attachments {
        length += bytes.len();
        match pushes.last_mut().filter(|push| push.len() < PUSH_MAX && length <= PUSH_BYTES) {
            Some(push) => push.push(bytes.into()),
            None => {
                length = bytes.len();
                pushes.push(vec![bytes.into()]);
            }
        }
    }
    pushes.into_iter().map(Message::Push).collect()
}

/// A message on its way out.
pub(crate) struct Outgoing {
    pub(crate) to: Vec<PublicKey>,
    pub(crate) message: Message,
}

/// Attachments that nothing names yet, the oldest dropped first.
#[derive(Default)]
struct WaitingRoom {
    bytes: usize,
    order: VecDeque<Digest>,
    waiting: HashMap<Digest, Bytes>,
}

impl WaitingRoom {
    fn enter(&mut self, digest: Digest, bytes: Bytes) {
        if self.waiting.contains_key(&digest) {
            return;
        }
        self.bytes += bytes.len() + WAITING_BYTES;
        self.order.push_back(digest);
        self.waiting.insert(digest, bytes);
        while self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.leave(&oldest);
        }
    }

    fn leave(&mut self, digest: &Digest) -> Option<Bytes> {
        let bytes = self.waiting.remove(digest)?;
        self.bytes -= bytes.len() + WAITING_BYTES;
        if self.order.len() > 2 * self.waiting.len() + 64 {
            let waiting = &self.waiting;
            self.order.retain(|digest| waiting.contains_key(digest));
        }
        Some(bytes)
    }
}

#[derive(Default)]
struct Desk {
    room: WaitingRoom,
    fetches: HashMap<Digest, Vec<oneshot::Sender<Vec<u8>>>>,
}

struct Inner {
    vault: Arc<dyn Vault>,
    /// Whether this organisation keeps what others put.
    holds: bool,
    /// What it signs its receipts with, and for what it cannot sign yet.
    custody: Option<Custody>,
    peers: Arc<Peers>,
    mempool: Arc<Mempool>,
    desk: Mutex<Desk>,
    outbox: mpsc::Sender<Outgoing>,
    /// What peers sent, on its way into the vault.
    keep: mpsc::Sender<(Digest, Bytes)>,
    timers: mpsc::Sender<Timer>,
}

/// Where attachments and their messages go.
pub(crate) struct Ways {
    pub(crate) outbox: mpsc::Sender<Outgoing>,
    pub(crate) keep: mpsc::Sender<(Digest, Bytes)>,
    pub(crate) timers: mpsc::Sender<Timer>,
}

/// Asks the runtime for a timer: the caller's side of a fetch must not depend on the caller's runtime.
pub(crate) struct Timer {
    pub(crate) after: Duration,
    pub(crate) fired: oneshot::Sender<()>,
}

/// The attachments of a node.
#[derive(Clone)]
pub(crate) struct Attachments(Arc<Inner>);

impl From<VaultError> for Unavailable {
    fn from(_: VaultError) -> Self {
        Self::Vault
    }
}

impl Attachments {
    pub(crate) fn new(
        vault: Arc<dyn Vault>,
        holds: bool,
        custody: Option<Custody>,
        peers: Arc<Peers>,
        mempool: Arc<Mempool>,
        ways: Ways,
    ) -> Self {
        let Ways { outbox, keep, timers } = ways;
        let custody = custody.filter(|_| holds);
        Self(Arc::new(Inner { vault, holds, custody, peers, mempool, desk: Mutex::default(), outbox, keep, timers }))
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To one peer; or else attachments to all that may hold it, and a question to all that may have it.
    async fn send(&self, to: Option<PublicKey>, message: Message) -> Result<(), Unavailable> {
        let to = match (to, &message) {
            (Some(peer), _) => vec![peer],
            (None, Message::Push(_)) => self.0.peers.that(may_hold),
            // An organisation that keeps no attachments still has those that it put itself; and every one may propose.
            (None, _) => self.0.peers.that(|_| true),
        };
        self.0.outbox.send(Outgoing { to, message }).await.map_err(|_| Unavailable::Stopped)
    }

    pub(crate) async fn put(&self, attachments: Vec<Vec<u8>>) -> Result<Vec<Digest>, Unavailable> {
        if attachments.iter().any(|bytes| bytes.len() > ATTACHMENT_BYTES_MAX) {
            return Err(Unavailable::TooLarge);
        }
        let digests: Vec<Digest> = attachments.iter().map(|bytes| sha256(&[bytes])).collect();
        let named = digests.iter().copied().zip(attachments.iter().cloned().map(Bytes::from)).collect();
        self.0.vault.put(named).await?;
        self.stored(&digests).await?;
        for push in pushes(attachments) {
            self.send(None, push).await?;
        }
        Ok(digests)
    }

    pub(crate) async fn local(&self, digest: Digest) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.0.vault.get(digest).await?)
    }

    pub(crate) async fn erase(&self, digest: Digest) -> Result<(), Unavailable> {
        self.desk().room.leave(&digest);
        Ok(self.0.vault.erase(digest).await?)
    }

    pub(crate) async fn status(&self) -> Result<VaultStatus, Unavailable> {
        Ok(self.0.vault.status().await?)
    }

    pub(crate) async fn fetch(&self, digest: Digest, timeout: Duration) -> Result<Option<Vec<u8>>, Unavailable> {
        if let Some(bytes) = self.local(digest).await? {
            return Ok(Some(bytes));
        }
        let (found, answer) = oneshot::channel();
        {
            let mut desk = self.desk();
            if let Some(bytes) = desk.room.waiting.get(&digest) {
                return Ok(Some(bytes.to_vec()));
            }
            desk.fetches.retain(|_, waiting| {
                waiting.retain(|found| !found.is_closed());
                !waiting.is_empty()
            });
            if desk.fetches.len() >= FETCHES_MAX {
                return Ok(None);
            }
            desk.fetches.entry(digest).or_default().push(found);
        }
        let (fired, timer) = oneshot::channel();
        self.0.timers.send(Timer { after: timeout, fired }).await.map_err(|_| Unavailable::Stopped)?;
        self.send(None, Message::Pull(vec![digest])).await?;
        match futures::future::select(answer, timer).await {
            futures::future::Either::Left((bytes, _)) => Ok(bytes.ok()),
            futures::future::Either::Right((_, _)) => Ok(None),
        }
    }

    /// A message from a peer; the answer goes to the outbox.
    pub(crate) async fn receive(&self, from: PublicKey, message: Message) -> Result<(), Unavailable> {
        match message {
            Message::Push(attachments) => {
                // One that cannot be kept is told, and the rest is taken in all the same.
                let mut outcome = Ok(());
                for bytes in attachments.into_iter().filter(|bytes| bytes.len() <= ATTACHMENT_BYTES_MAX) {
                    outcome = self.receive_attachment(bytes.into()).await.and(outcome);
                }
                outcome
            }
            Message::Held(told) => {
                self.told(&from, told);
                Ok(())
            }
            Message::Ask(submissions) => self.answer(from, &submissions).await,
            Message::Pull(_) if !self.0.peers.that(may_hold).contains(&from) => Ok(()),
            Message::Pull(digests) => {
                let mut found: Vec<Vec<u8>> = Vec::new();
                for digest in digests.into_iter().collect::<BTreeSet<_>>() {
                    found.extend(self.local(digest).await?);
                    // No more of them in memory than a message or two take.
                    if found.iter().map(Vec::len).sum::<usize>() >= PUSH_BYTES {
                        self.push(from, std::mem::take(&mut found)).await?;
                    }
                }
                self.push(from, found).await
            }
        }
    }

    async fn push(&self, to: PublicKey, attachments: Vec<Vec<u8>>) -> Result<(), Unavailable> {
        for push in pushes(attachments) {
            self.send(Some(to), push).await?;
        }
        Ok(())
    }

    async fn receive_attachment(&self, bytes: Vec<u8>) -> Result<(), Unavailable> {
        let digest = sha256(&[&bytes]);
        let waiting = self.desk().fetches.remove(&digest).unwrap_or_default();
        let asked = !waiting.is_empty();
        for found in waiting {
            let _ = found.send(bytes.clone());
        }
        if !self.0.holds {
            return Ok(());
        }
        let bytes = Bytes::from(bytes);
        if !asked {
            // Before anybody looks whether it is named: a submission that comes now finds it here.
            self.desk().room.enter(digest, bytes.clone());
        }
        if self.0.mempool.names(&digest) || self.0.vault.is_missing(digest).await? {
            self.desk().room.leave(&digest);
            self.0.keep.send((digest, bytes)).await.map_err(|_| Unavailable::Stopped)?;
        }
        Ok(())
    }

    /// Keeps what peers sent; many in one go.
    pub(crate) async fn keep(&self, attachments: Vec<(Digest, Bytes)>) -> Result<(), Unavailable> {
        let digests: Vec<Digest> = attachments.iter().map(|(digest, _)| *digest).collect();
        self.0.vault.put(attachments).await?;
        self.stored(&digests).await
    }

    /// Final blocks up to `height` name these attachments: what the vault lacks is looked for from now on.
    pub(crate) async fn named(&self, digests: Vec<Digest>, height: u64) -> Result<(), Unavailable> {
        let here: Vec<(Digest, Bytes)> = {
            let mut desk = self.desk();
            digests.iter().filter_map(|digest| Some((*digest, desk.room.leave(digest)?))).collect()
        };
        if !here.is_empty() {
            self.0.vault.put(here).await?;
        }
        Ok(self.0.vault.expect(digests, height).await?)
    }

    /// Asks the peers for a few of the missing attachments. Whether there were any.
    pub(crate) async fn look_for_missing(&self) -> Result<bool, Unavailable> {
        let missing = self.0.vault.missing(PULL_MAX).await?;
        let any = !missing.is_empty();
        if any {
            self.send(None, Message::Pull(missing)).await?;
        }
        Ok(any)
    }

    /// Whether this organisation keeps what others put.
    pub(crate) fn holds(&self) -> bool {
        self.0.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lengths: &[usize], expected: &[usize]) {
        let bytes: Vec<Vec<u8>> = lengths.iter().map(|length| vec![7; *length]).collect();
        let counts: Vec<usize> = pushes(bytes)
            .iter()
            .map(|message| {
                let encoded = contract::to_cbor(message);
                assert!(encoded.len() <= MESSAGE_BYTES_MAX);
                assert_eq!(minicbor::decode::<Message>(&encoded).as_ref().ok(), Some(message));
                match message {
                    Message::Push(attachments) => attachments.len(),
                    _ => 0,
                }
            })
            .collect();
        assert_eq!(counts, expected);
    }

    #[test]
    fn attachments_go_in_few_messages_and_long_ones_alone() {
        check(&[], &[]);
        check(&[300; 2 * PUSH_MAX + 1], &[PUSH_MAX, PUSH_MAX, 1]);
        check(&[PUSH_BYTES, 1, PUSH_BYTES - 1, 1], &[1, 2, 1]);
        check(&[1, ATTACHMENT_BYTES_MAX, 1], &[1, 1, 1]);
        let many = Message::Push(vec![vec![7].into(); PUSH_MAX + 1]);
        assert!(minicbor::decode::<Message>(&contract::to_cbor(&many)).is_err(), "more than a message may have");
    }
}
