//! Questions between nodes: where a latecomer may begin, the state there, and the blocks before. Answers are believed by nobody; those who
//! asked check them against what they know.

use crate::{
    block::engine_key,
    network::Channel,
    node::Runtime,
    peers::Peers,
    serve::Server,
    shares::Shares,
    state::{Operation, value_codec},
    waiting::Waiting,
};
use commonware_codec::{Decode as _, DecodeExt as _, Encode as _};
use commonware_cryptography::{ed25519, sha256};
use commonware_p2p::{Receiver as _, Recipients, Sender as _, authenticated::lookup::Sender};
use commonware_storage::{
    mmr,
    qmdb::sync::{Request, Response, Source as _},
};
use contract::BLOCK_BYTES_MAX;
use evidence::Finality;
use futures::future::{Either, select};
use minicbor::{Decode, Encode};
use std::{
    num::NonZeroU64,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// An answer that consists of many items gets no further one when it has so many bytes.
const ANSWER_BYTES: usize = 512 * 1024;
/// The longest message, in bytes: an answer that is nearly full and gets the longest block.
pub(crate) const MESSAGE_BYTES_MAX: usize = ANSWER_BYTES + BLOCK_BYTES_MAX + 256 * 1024;
/// The most operations of the state in one answer.
pub(crate) const OPERATIONS_MAX: u64 = 1024;
/// The most blocks in one answer.
const BLOCKS_MAX: usize = 256;
/// How long a peer may take to answer a question that many bytes answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Question {
    /// The last block of the last whole epoch, with what makes it final, through the block at that height: [`Finality`].
    #[n(0)]
    End(#[n(0)] Option<u64>),
    /// Operations of the state, as the engine asks for them and answers.
    #[n(1)]
    State(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Final blocks from that height downwards: a list of [`Older`].
    #[n(2)]
    Blocks(#[n(0)] u64),
    /// The certificate of the final block at that height itself, in the engine's encoding.
    #[n(3)]
    Certificate(#[n(0)] u64),
}

impl Question {
    /// Whether the answer may be much to read and to send.
    fn is_long(&self) -> bool {
        matches!(self, Self::State(_) | Self::Blocks(_))
    }
}

/// A question or an answer, with the number that the asker gave the question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Message {
    #[n(0)]
    Question(#[n(0)] u64, #[n(1)] Question),
    /// Empty when the peer has nothing of the kind.
    #[n(1)]
    Answer(#[n(0)] u64, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
}

/// A final block with what a node keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Older {
    /// The encoding of the block.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) block: Vec<u8>,
    /// One for each entry; empty when all were applied.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) verdicts: Vec<u8>,
    /// Its own certificate, in the engine's encoding; empty when there is none.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) certificate: Vec<u8>,
}

struct Inner<E: Runtime> {
    context: E,
    sender: Sender<ed25519::PublicKey, E>,
    peers: Arc<Peers>,
    /// Whom the configuration names beside the members.
    extra: Vec<contract::PublicKey>,
    waiting: Waiting,
}

/// Who asks. Cheap to clone.
pub(crate) struct Asker<E: Runtime>(Arc<Inner<E>>);

impl<E: Runtime> Clone for Asker<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Runtime> Asker<E> {
    pub(crate) fn new(
        context: E,
        sender: Sender<ed25519::PublicKey, E>,
        peers: Arc<Peers>,
        extra: Vec<contract::PublicKey>,
    ) -> Self {
        Self(Arc::new(Inner { context, sender, peers, extra, waiting: Waiting::default() }))
    }

    pub(crate) fn context(&self) -> &E {
        &self.0.context
    }

    /// Whom to ask, each once.
    pub(crate) fn peers(&self) -> Vec<ed25519::PublicKey> {
        let mut keys = self.0.peers.others();
        keys.extend(&self.0.extra);
        keys.sort();
        keys.dedup();
        keys.iter().filter_map(engine_key).collect()
    }

    /// Asks one peer. `None`: it did not answer within `at_most`, or too many questions wait. An empty answer says that it has nothing of the kind.
    pub(crate) async fn ask(
        &self,
        peer: &ed25519::PublicKey,
        question: Question,
        at_most: Duration,
    ) -> Option<Vec<u8>> {
        let mut awaited = self.0.waiting.expect(peer)?;
        let message = contract::to_cbor(&Message::Question(awaited.id, question));
        let _ = self.0.sender.clone().send(Recipients::One(peer.clone()), message, false);
        let late = self.0.context.sleep(at_most);
        match select(&mut awaited.answer, Box::pin(late)).await {
            Either::Left((answer, _)) => answer.ok(),
            Either::Right(_) => None,
        }
    }
}

/// Hears answers, and answers questions as soon as there is a server.
pub(crate) async fn hear<E: Runtime>(
    context: E,
    asker: Asker<E>,
    server: Arc<OnceLock<Server<E>>>,
    (sender, mut receiver): Channel<E>,
) {
    let mut shares = Shares::new();
    while let Ok((peer, bytes)) = receiver.recv().await {
        let (id, question) = match minicbor::decode::<Message>(bytes.as_ref()) {
            Ok(Message::Question(id, question)) => (id, question),
            Ok(Message::Answer(id, bytes)) => {
                asker.0.waiting.heard(&peer, id, bytes);
                continue;
            }
            Err(_) => {
                tracing::warn!(%peer, "a question of a latecomer that is not the format");
                continue;
            }
        };
        let Some(turn) = shares.take(&peer, question.is_long()) else { continue };
        let (server, mut sender) = (server.clone(), sender.clone());
        context.child("tell").spawn(move |_| async move {
            let answer = match server.get() {
                Some(server) => server.tell(question).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let answer = contract::to_cbor(&Message::Answer(id, answer));
            let _ = sender.send(Recipients::One(peer), answer, false);
            drop(turn);
        });
    }
}

impl<E: Runtime> Server<E> {
    /// `None`: this node has nothing of the kind.
    async fn tell(&self, question: Question) -> Option<Vec<u8>> {
        match question {
            Question::End(through) => self.end(through).await,
            Question::State(request) => self.operations(&request).await,
            Question::Blocks(height) => self.older(height).await,
            Question::Certificate(height) => self.certificate(height).await,
        }
    }

    /// The end of the last whole epoch.
    async fn end(&self, through: Option<u64>) -> Option<Vec<u8>> {
        let genesis = &self.node.chain.genesis;
        let next = self.node.head.borrow().header.height.saturating_add(1);
        let height = genesis.epoch(next).saturating_mul(genesis.epoch_blocks).checked_sub(1)?;
        let (header, certificate) = (self.header(height).await?, self.certificate(height).await?);
        let handovers = self.handovers(height, through).await?;
        let told = contract::to_cbor(&Finality { genesis: genesis.to_bytes(), header, certificate, handovers });
        (told.len() <= ANSWER_BYTES + BLOCK_BYTES_MAX).then_some(told)
    }

    /// What the engine's other half asks for; fewer operations than asked for where they are long.
    async fn operations(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut request = Request::<mmr::Family>::decode(bytes::Bytes::copy_from_slice(request)).ok()?;
        let mut most = OPERATIONS_MAX;
        loop {
            if let Request::Operations { max_ops, .. } = &mut request {
                *max_ops = NonZeroU64::new(most)?.min(*max_ops);
            }
            let (response, _) = self.dbs.serve(request).await.ok()?;
            let told = response.encode();
            if told.len() <= ANSWER_BYTES {
                return Some(told.to_vec());
            }
            most /= 2;
        }
    }

    /// Blocks from `height` downwards, as many as an answer holds.
    async fn older(&self, height: u64) -> Option<Vec<u8>> {
        let (mut told, mut bytes) = (Vec::new(), 0);
        for height in (1..=height).rev().take(BLOCKS_MAX) {
            let Some((block, verdicts)) = self.kept(height).await else { break };
            let certificate = self.certificate(height).await.unwrap_or_default();
            let block = block.block().to_bytes();
            bytes += block.len() + verdicts.len() + certificate.len();
            told.push(Older { block, verdicts, certificate });
            if bytes >= ANSWER_BYTES {
                break;
            }
        }
        (!told.is_empty()).then(|| contract::to_cbor(&told))
    }
}

/// The engine's answer to `request`, if it is one.
pub(crate) fn operations(
    request: &Request<mmr::Family>,
    bytes: Vec<u8>,
) -> Option<Response<mmr::Family, Operation, sha256::Digest>> {
    let most = usize::try_from(request.max_ops().get()).ok()?;
    Response::decode_cfg(bytes::Bytes::from(bytes), &(most, value_codec())).ok()
}
