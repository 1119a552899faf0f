//! The door to a running node: submit, read, prove, follow.

use crate::{
    attachments::Attachments,
    blame::Blames,
    config::EntryKey,
    disk::{self, DiskUse},
    mempool::{Accepted, Mempool, SubmitError, Unknown},
    vault::VaultStatus,
    words::{Questions, Words},
};
use contract::{Block, Header, SignedSubmission, state::Key};
use evidence::Handover;
use record::{Digest, OrgId, TimeMs};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// The most requests that wait for the node; further ones wait with their caller.
pub(crate) const REQUESTS_MAX: usize = 256;
/// The most keys of one [`Handle::get`] or [`Handle::prove`].
pub const KEYS_MAX: usize = 1024;

/// A running node. Cheap to clone; works under any async runtime.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// What the handle and the node's tasks have in common.
pub(crate) struct Shared {
    pub(crate) mempool: Arc<Mempool>,
    pub(crate) attachments: Attachments,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) head: watch::Receiver<Head>,
    pub(crate) peers: Arc<crate::peers::Peers>,
    pub(crate) blames: Blames,
    pub(crate) questions: Questions,
    pub(crate) since: watch::Receiver<Since>,
    /// The node's folder, and what the names of its stores begin with.
    pub(crate) place: (PathBuf, String),
    pub(crate) stop: watch::Sender<bool>,
    /// Kept so that [`Handle::stopped`] waits as long as there is no other sender.
    pub(crate) stopped_sender: watch::Sender<bool>,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// The latest final block that the state has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) header: Arc<Header>,
    pub(crate) digest: Digest,
}

/// Since when the node knows the ledger: see [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) blocks_from: u64,
    pub(crate) began_at: u64,
}

/// What the node's tasks are asked for.
pub(crate) enum Request {
    Get(Vec<Key>, oneshot::Sender<Vec<Option<Vec<u8>>>>),
    Prove(Vec<Key>, oneshot::Sender<Proof>),
    Handovers(u64, Option<u64>, oneshot::Sender<Vec<Handover>>),
    Checkpoint(u64, oneshot::Sender<Option<Proof>>),
    Block(u64, oneshot::Sender<Option<Arc<FinalBlock>>>),
    Metrics(oneshot::Sender<String>),
}

/// How a node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Height of the latest final block.
    pub height: u64,
    /// Its block time.
    pub time: TimeMs,
    /// Entries in final blocks, applied and refused: leaves of the log.
    pub log_size: u64,
    /// RFC 9162 root of the log.
    pub log_root: Digest,
    /// Root of the state.
    pub state_root: Digest,
    /// From this height on the node has every block: 1, but for one that began at a later block and still fetches those before it.
    pub blocks_from: u64,
    /// Height of the block whose state the node took over; 0 when it began with the first one.
    pub began_at: u64,
    /// Digest of the latest final header.
    pub head: Digest,
    /// Submissions that wait for a block.
    pub pending: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Of them, those that name attachments which too few custodians are known to hold.
    pub pending_for_holding: usize,
    /// Members that may hold attachments. Of fewer than [`contract::CUSTODIANS_MIN`] all must, and what they hold is not held twice.
    pub custodians: usize,
    /// Members whose node was heard from lately; this one not counted, whether it is a member's or not yet.
    pub peers_connected: usize,
    /// Every validator.
    pub validators: Vec<Validator>,
}

/// How a member's node is doing, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// The member.
    pub org: OrgId,
    /// Whether it was heard from lately; always so for this node.
    pub connected: bool,
    /// The height it told last.
    pub height: u64,
}

/// A value of the state, or its absence, with the proof against the header's `state_root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// The key.
    pub key: Key,
    /// Its value; `None` when the state has none.
    pub value: Option<Vec<u8>>,
    /// The engine's encoding of [`crate::KeyValueProof`] or, for an absent key, [`crate::ExclusionProof`].
    pub proof: Vec<u8>,
}

/// Header, certificate and state proofs of one final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The encoding of a [`Header`].
    pub header: Vec<u8>,
    /// The engine's encoding of [`crate::Finalization`] over the header's digest.
    pub certificate: Vec<u8>,
    /// One for each key asked for, in that order.
    pub proofs: Vec<StateProof>,
    /// Where the validators changed before that block, from the founders on.
    pub handovers: Vec<Handover>,
}

/// What became of one entry of a final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The organisation.
    pub org: OrgId,
    /// The lane it came by.
    pub lane: u32,
    /// Its sequence number in the lane.
    pub seq: u64,
    /// Its index in the log over all entries.
    pub index: u64,
    /// The entry's digest.
    pub digest: Digest,
    /// 0 when applied, else the contract's code of why it was refused ([`contract::Reject::code`]).
    pub verdict: u8,
}

/// A final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Digest of its header.
    pub digest: Digest,
    /// One for each entry, in order.
    pub receipts: Vec<Receipt>,
    /// The engine's encoding of [`crate::Finalization`]. Not every block has its own: a later block's certificate covers it as well.
    pub certificate: Option<Vec<u8>>,
}

impl FinalBlock {
    /// What was signed.
    pub fn header(&self) -> &Header {
        &self.block.header
    }
    /// What it orders.
    pub fn submissions(&self) -> &[SignedSubmission] {
        &self.block.submissions
    }
}

/// Why a node did not answer. Ours to mend, never the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The node stopped.
    #[error("the ledger node stopped")]
    Stopped,
    /// More than [`KEYS_MAX`] keys.
    #[error("at most {KEYS_MAX} keys at a time")]
    TooManyKeys,
    /// The vault could not read or write.
    #[error("the vault could not read or write")]
    Vault,
    /// An attachment of more than [`crate::ATTACHMENT_BYTES_MAX`] bytes.
    #[error("an attachment has at most {} bytes", crate::ATTACHMENT_BYTES_MAX)]
    TooLarge,
}

impl Handle {
    /// Takes a signed submission, in its deterministic encoding, into the mempool and tells the peers.
    ///
    /// An answer promises nothing about finality: the submitter keeps the submission, and submits again until it reads its receipt.
    pub async fn submit(&self, bytes: &[u8]) -> Result<Accepted, SubmitError> {
        let signed = self.shared.mempool.parse(bytes)?;
        self.learn([&signed]).await?;
        self.shared.mempool.admit(signed, true)
    }

    /// Reads what admission needs to know of the state, where the mempool does not know it yet.
    pub(crate) async fn learn<'a>(
        &self,
        submissions: impl IntoIterator<Item = &'a SignedSubmission>,
    ) -> Result<(), SubmitError> {
        let unknown = self.shared.mempool.unknown(submissions);
        for unknown in unknown.chunks(KEYS_MAX) {
            let keys = unknown.iter().map(Unknown::key).collect();
            let values = self.get(keys).await.map_err(|_| SubmitError::Stopped)?;
            self.shared.mempool.learn(unknown.to_vec(), values);
        }
        Ok(())
    }

    /// How the node is doing.
    pub fn status(&self) -> Status {
        let Head { header, digest } = self.shared.head.borrow().clone();
        let (pending, pending_bytes) = self.shared.mempool.size();
        let (pending_for_holding, custodians) = self.shared.mempool.held_up();
        let validators = self.shared.peers.validators(header.height);
        let since = *self.shared.since.borrow();
        let peers_connected = self.shared.peers.connected();
        Status {
            height: header.height,
            time: header.time,
            log_size: header.log_size,
            log_root: header.log_root,
            state_root: header.state_root,
            blocks_from: since.blocks_from,
            began_at: since.began_at,
            head: digest,
            pending,
            pending_bytes,
            pending_for_holding,
            custodians,
            peers_connected,
            validators,
        }
    }

    /// Values at the latest final state, in the order of `keys`.
    pub async fn get(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Unavailable> {
        if keys.len() > KEYS_MAX {
            return Err(Unavailable::TooManyKeys);
        }
        self.ask(|reply| Request::Get(keys, reply)).await
    }

    /// Values or absences of `keys`, proven for one final block. Waits for a block that has a certificate of its own.
    pub async fn prove(&self, keys: Vec<Key>) -> Result<Proof, Unavailable> {
        if keys.len() > KEYS_MAX {
            return Err(Unavailable::TooManyKeys);
        }
        self.ask(|reply| Request::Prove(keys, reply)).await
    }

    /// Where the validators changed before the final block at `height`, from the founders on; and the block at `through`, or the next one
    /// with a certificate of its own, for a reader that knows it.
    pub async fn handovers(&self, height: u64, through: Option<u64>) -> Result<Vec<Handover>, Unavailable> {
        self.ask(|reply| Request::Handovers(height, through, reply)).await
    }

    /// The last checkpoint at or below `height` that this node keeps: the end of an epoch, with proofs of the policies in force there.
    pub async fn checkpoint(&self, height: u64) -> Result<Option<Proof>, Unavailable> {
        self.ask(|reply| Request::Checkpoint(height, reply)).await
    }

    /// The final block at `height`, if there is one yet and this node has it yet: see [`Status::blocks_from`].
    pub async fn block(&self, height: u64) -> Result<Option<Arc<FinalBlock>>, Unavailable> {
        self.ask(|reply| Request::Block(height, reply)).await
    }

    /// All final blocks from `height` (at least 1) on, without gaps: first those of the archive, then each as it becomes final.
    pub fn blocks_from(&self, height: u64) -> Blocks {
        Blocks { handle: self.clone(), height: height.max(1), head: self.shared.head.clone() }
    }

    /// Asks the other members what they say about the header of a height. Those who have a later one answer as well, for a while; one that is
    /// behind answers when it is there.
    pub async fn ask_words(&self, height: u64) -> Words {
        self.shared.questions.ask(self.shared.peers.others(), height).await
    }

    /// Keeps attachments in this node's vault, durably, and hands them to the peers that may hold them. Gives their digests.
    pub async fn put_attachments(&self, attachments: Vec<Vec<u8>>) -> Result<Vec<Digest>, Unavailable> {
        self.shared.attachments.put(attachments).await
    }

    /// An attachment from this node's vault.
    pub async fn attachment(&self, digest: Digest) -> Result<Option<Vec<u8>>, Unavailable> {
        self.shared.attachments.local(digest).await
    }

    /// An attachment from this node's vault or else from a peer's. `None` when nobody had it within `timeout`.
    ///
    /// What a peer sends is checked against the digest, and is not kept.
    pub async fn fetch_attachment(&self, digest: Digest, timeout: Duration) -> Result<Option<Vec<u8>>, Unavailable> {
        self.shared.attachments.fetch(digest, timeout).await
    }

    /// The organisation's entry key was replaced: its custodian signs holding receipts by this one from now on, and again for what waits.
    pub async fn sign_by(&self, key: EntryKey) -> Result<(), Unavailable> {
        self.shared.attachments.sign_by(key).await
    }

    /// Removes an attachment from this node's vault for good; it is not taken in again.
    pub async fn erase_attachment(&self, digest: Digest) -> Result<(), Unavailable> {
        self.shared.attachments.erase(digest).await
    }

    /// What this node's vault holds and lacks.
    pub async fn vault_status(&self) -> Result<VaultStatus, Unavailable> {
        self.shared.attachments.status().await
    }

    /// Pairs of votes by which validators broke the rules, in the engine's encoding, as far as this node saw them.
    pub fn blames(&self) -> Vec<Vec<u8>> {
        self.shared.blames.all()
    }

    /// What the node's folder takes up. Looks at every file in it, so it belongs where a thread may block.
    pub fn disk_use(&self) -> std::io::Result<DiskUse> {
        let (folder, store) = &self.shared.place;
        disk::measure(folder, store)
    }

    /// What the engine counts of itself, as OpenMetrics text.
    pub async fn engine_metrics(&self) -> Result<String, Unavailable> {
        self.ask(Request::Metrics).await
    }

    /// Stops the node and waits until it has let go of its folder.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let mut stopped = self.shared.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Completes when the node has stopped, for whatever reason.
    pub async fn stopped(&self) {
        let mut stopped = self.shared.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.shared.requests.send(request(reply)).await.map_err(|_| Unavailable::Stopped)?;
        answer.await.map_err(|_| Unavailable::Stopped)
    }
}

/// Final blocks in order. Nothing is buffered for a slow reader: it reads on from the archive.
pub struct Blocks {
    handle: Handle,
    height: u64,
    head: watch::Receiver<Head>,
}

impl Blocks {
    /// The next block, once it is final. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Arc<FinalBlock>, Unavailable> {
        let height = self.height;
        loop {
            self.head.wait_for(|head| head.header.height >= height).await.map_err(|_| Unavailable::Stopped)?;
            if let Some(block) = self.handle.block(height).await? {
                self.height = height.saturating_add(1);
                return Ok(block);
            }
            // The archive does not have the block yet: it is there with the next head at the latest.
            self.head.changed().await.map_err(|_| Unavailable::Stopped)?;
        }
    }

    /// Height of the block that [`Self::next`] gives.
    pub fn next_height(&self) -> u64 {
        self.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_goes_anywhere() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Handle>();
        check::<Blocks>();
    }
}
