//! Submissions between nodes: new ones at once, own old ones again, and predecessors that a peer lacks.

use crate::{block::our_key, handle::Handle, mempool::Pending};
use commonware_cryptography::ed25519;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock, IoBuf};
use contract::SUBMISSION_BYTES_MAX;
use minicbor::{Decode, Encode, bytes::ByteSlice};
use record::OrgId;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A message is sent when it has so many bytes; one submission more may be in it.
const BATCH_BYTES: usize = 256 * 1024;
/// The longest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = BATCH_BYTES + SUBMISSION_BYTES_MAX + 4096;
/// What comes within this time goes out in one message.
const GATHER: Duration = Duration::from_millis(3);
/// The time between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// The most bytes that are sent again in one beat, and in answer to one beat.
const AGAIN_BYTES_MAX: usize = 1024 * 1024;
/// The most gaps that a beat tells of.
const GAPS_MAX: usize = 64;

/// What nodes tell each other about submissions.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Message<'a> {
    /// Signed submissions, each in its encoding.
    #[b(0)]
    Submissions(#[b(0)] Vec<&'a ByteSlice>),
    /// I am here, at this height, and lack what stands between.
    #[n(1)]
    Beat(#[n(0)] u64, #[n(1)] Vec<Gap>),
}

/// A stretch of a lane that a node lacks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Gap {
    #[n(0)]
    org: OrgId,
    #[n(1)]
    lane: u32,
    /// The first sequence number that is missing.
    #[n(2)]
    from: u64,
    /// The first that is there.
    #[n(3)]
    until: u64,
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    contract::to_cbor(message)
}

fn send_all<S: Sender<PublicKey = ed25519::PublicKey>>(
    sender: &mut S,
    to: &Recipients<ed25519::PublicKey>,
    submissions: &[Arc<Pending>],
) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for pending in submissions {
        bytes += pending.signed.encoded().len();
        batch.push(pending.signed.encoded().into());
        if bytes >= BATCH_BYTES {
            let _ = sender.send(to.clone(), encode(&Message::Submissions(std::mem::take(&mut batch))), false);
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        let _ = sender.send(to.clone(), encode(&Message::Submissions(batch)), false);
    }
}

/// Tells the peers what comes by this node's own door.
pub(crate) async fn spread<E, S>(context: E, mut sender: S, mut news: mpsc::UnboundedReceiver<Arc<Pending>>)
where
    E: Clock,
    S: Sender<PublicKey = ed25519::PublicKey>,
{
    while let Some(first) = news.recv().await {
        let mut submissions = vec![first];
        context.sleep(GATHER).await;
        while let Ok(more) = news.try_recv() {
            submissions.push(more);
        }
        send_all(&mut sender, &Recipients::All, &submissions);
    }
}

/// Once a second: I am here, and this is what I lack; and what waits too long is told again.
pub(crate) async fn beat<E, S>(context: E, handle: Handle, mut sender: S)
where
    E: Clock,
    S: Sender<PublicKey = ed25519::PublicKey>,
{
    loop {
        let mempool = &handle.shared.mempool;
        handle.shared.peers.beat();
        let gaps = mempool.gaps(GAPS_MAX).into_iter();
        let gaps = gaps.map(|(org, lane, from, until)| Gap { org, lane, from, until }).collect();
        let height = handle.shared.head.borrow().header.height;
        let _ = sender.send(Recipients::All, encode(&Message::Beat(height, gaps)), false);
        send_all(&mut sender, &Recipients::All, &mempool.overdue(AGAIN_BYTES_MAX));
        context.sleep(BEAT).await;
    }
}

/// Hears the peers.
pub(crate) async fn hear<S, R>(handle: Handle, mut sender: S, mut receiver: R)
where
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
{
    while let Ok((peer, bytes)) = receiver.recv().await {
        match decode(&bytes) {
            Some(Message::Submissions(submissions)) => take(&handle, &peer, submissions).await,
            Some(Message::Beat(height, gaps)) => {
                handle.shared.peers.heard(our_key(&peer), height);
                let to = Recipients::One(peer);
                for gap in gaps.into_iter().take(GAPS_MAX) {
                    let Gap { org, lane, from, until } = gap;
                    let missing = handle.shared.mempool.between(&org, lane, from, until, AGAIN_BYTES_MAX / GAPS_MAX);
                    send_all(&mut sender, &to, &missing);
                }
            }
            None => tracing::warn!(%peer, "a gossip message that is not the format"),
        }
    }
}

fn decode(bytes: &IoBuf) -> Option<Message<'_>> {
    minicbor::decode(bytes.as_ref()).ok()
}

async fn take(handle: &Handle, peer: &ed25519::PublicKey, submissions: Vec<&ByteSlice>) {
    let mempool = &handle.shared.mempool;
    let mut parsed = Vec::with_capacity(submissions.len());
    for bytes in submissions {
        match mempool.parse(bytes) {
            Ok(signed) => parsed.push(signed),
            Err(error) => tracing::warn!(%peer, %error, "a submission from a peer is refused"),
        }
    }
    if handle.learn(&parsed).await.is_err() {
        return;
    }
    for signed in parsed {
        if let Err(error) = mempool.admit(signed, false) {
            tracing::debug!(%peer, %error, "a submission from a peer is not taken");
        }
    }
}
