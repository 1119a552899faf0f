//! Attachments between the vault, the peers and the caller: put, fetch, and what final entries name but the vault lacks.

use crate::{
    handle::Unavailable,
    mempool::Mempool,
    peers::Peers,
    vault::{ATTACHMENT_BYTES_MAX, Vault, VaultError, VaultStatus},
};
use bytes::Bytes;
use contract::PublicKey;
use minicbor::{Decode, Encode};
use record::{Digest, OrgRole, sha256};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// The longest message about attachments, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = ATTACHMENT_BYTES_MAX + 64 * 1024;
/// The most digests of one pull.
pub(crate) const PULL_MAX: usize = 64;
/// The most bytes of attachments that came before any submission named them.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most callers that wait for one attachment or another.
const FETCHES_MAX: usize = 1024;
/// The most messages that wait to be sent; further ones wait with their caller.
pub(crate) const OUTBOX_MAX: usize = 64;

/// What nodes tell each other about attachments.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Message {
    /// Here is one.
    #[n(0)]
    Push(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Send me these, if you have them.
    #[n(1)]
    Pull(#[n(0)] Vec<Digest>),
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
        self.bytes += bytes.len();
        self.order.push_back(digest);
        self.waiting.insert(digest, bytes);
        while self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.leave(&oldest);
        }
    }

    fn leave(&mut self, digest: &Digest) -> Option<Bytes> {
        let bytes = self.waiting.remove(digest)?;
        self.bytes -= bytes.len();
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
    /// The other members whose role is among these may: nobody else is given any.
    roles: Vec<OrgRole>,
    peers: Arc<Peers>,
    mempool: Arc<Mempool>,
    desk: Mutex<Desk>,
    outbox: mpsc::Sender<Outgoing>,
    timers: mpsc::Sender<Timer>,
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
        roles: Vec<OrgRole>,
        peers: Arc<Peers>,
        mempool: Arc<Mempool>,
        outbox: mpsc::Sender<Outgoing>,
        timers: mpsc::Sender<Timer>,
    ) -> Self {
        Self(Arc::new(Inner { vault, holds, roles, peers, mempool, desk: Mutex::default(), outbox, timers }))
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To one peer; or else an attachment to all that may hold it, and a question to all that may have it.
    async fn send(&self, to: Option<PublicKey>, message: Message) -> Result<(), Unavailable> {
        let to = match (to, &message) {
            (Some(peer), _) => vec![peer],
            (None, Message::Push(_)) => self.0.peers.of_roles(&self.0.roles),
            // An organisation that keeps no attachments still has those that it put itself.
            (None, Message::Pull(_)) => self.0.peers.of_roles(&OrgRole::ALL),
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
        for bytes in attachments {
            self.send(None, Message::Push(bytes)).await?;
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
            Message::Push(bytes) if bytes.len() <= ATTACHMENT_BYTES_MAX => self.receive_attachment(bytes).await,
            Message::Push(_) => Ok(()),
            Message::Pull(_) if !self.0.peers.of_roles(&self.0.roles).contains(&from) => Ok(()),
            Message::Pull(digests) => {
                for digest in digests.into_iter().take(PULL_MAX) {
                    if let Some(bytes) = self.local(digest).await? {
                        self.send(Some(from), Message::Push(bytes)).await?;
                    }
                }
                Ok(())
            }
        }
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
        if self.0.mempool.names(&digest) || self.0.vault.is_missing(digest).await? {
            self.0.vault.put(vec![(digest, Bytes::from(bytes))]).await?;
        } else if !asked {
            self.desk().room.enter(digest, Bytes::from(bytes));
        }
        Ok(())
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
