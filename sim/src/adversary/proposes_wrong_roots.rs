//! Proposes blocks when its turn comes, each wrong in one way that only execution, or a look at the rules, can tell.

use crate::{machine::Machine, world::World};
use bytes::Bytes;
use commonware_codec::{Decode as _, Encode as _, RangeCfg};
use commonware_consensus::{
    simplex::{
        elector::{Config as _, Elector as _, RoundRobin, RoundRobinElector},
        types::{Certificate, Notarize, Proposal, Vote},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    Sha256,
    certificate::{Scheme as _, Verifier as _},
    sha256,
};
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::Supervisor as _;
use contract::{BLOCK_BYTES_MAX, Block, SignedSubmission, Submission, merkle::Frontier, state::entry_leaf};
use futures::future::{Either, select};
use ledger::{Channels, Config, Scheme, in_epoch};
use rand::RngExt as _;
use record::Digest;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Ways to be wrong.
const WAYS: u32 = 7;
/// Blocks that it remembers.
const REMEMBERED_MAX: usize = 4096;

#[derive(Default)]
struct Watched {
    blocks: HashMap<Digest, Block>,
    notarized: BTreeMap<u64, Digest>,
    given_up: BTreeSet<u64>,
    proposed: BTreeSet<u64>,
    own: BTreeSet<Digest>,
}

/// Follows consensus without voting for anybody, and proposes in its own views.
pub(super) async fn run(machine: Machine, config: Config, scheme: Scheme, channels: Channels<Machine>, world: World) {
    let Channels {
        votes, certificates, resolver, backfill, blocks, gossip, attachments, words, questions, task, ..
    } = channels;
    // What is not listened to would count as a fault of the connection.
    let _open = (resolver, backfill, gossip, attachments, words, questions, task);
    // Its set decides the first epoch, which is as long as the run.
    let Some((mut vote_sender, _votes)) = in_epoch(&machine.child("votes"), votes, 0).await else { return };
    let Some((_certificates, mut certified)) = in_epoch(&machine.child("certificates"), certificates, 0).await else {
        return;
    };
    let (mut block_sender, mut proposed) = blocks;
    let elector: RoundRobinElector<Scheme> = RoundRobin::<Sha256>::default().build(scheme.participants());
    let mut watched = Watched::default();
    loop {
        let message = match select(Box::pin(certified.recv()), Box::pin(proposed.recv())).await {
            Either::Left((Ok((_, message)), _)) => message,
            Either::Right((Ok((_, message)), _)) => {
                watched.see_block(message.as_ref());
                continue;
            }
            _ => return,
        };
        let certificate =
            Certificate::<Scheme, sha256::Digest>::decode_cfg(message, &Scheme::certificate_codec_config_unbounded());
        let Ok(certificate) = certificate else { continue };
        let view = watched.see_certificate(&certificate) + 1;
        let round = Round::new(Epoch::zero(), View::new(view));
        if Some(elector.elect(round, ())) != scheme.me().map(|me| me.index()) {
            continue;
        }
        let way = world.state().random.random_range(0..WAYS);
        let Some(block) = watched.wrong_block(&config, view, way) else { continue };
        let digest = sha256::Digest(block.header.digest().0);
        let proposal = Proposal::new(round, View::new(block.header.parent_view), digest);
        let Some(vote) = Notarize::sign(&scheme, proposal) else { continue };
        world.state().faults.misdeeds += 1;
        let _ = block_sender.send(Recipients::All, Bytes::from(block.to_bytes()).encode(), true);
        let _ = vote_sender.send(Recipients::All, Vote::<Scheme, sha256::Digest>::Notarize(vote).encode(), true);
    }
}

impl Watched {
    fn see_block(&mut self, message: &[u8]) {
        let encoded = Bytes::decode_cfg(Bytes::copy_from_slice(message), &RangeCfg::from(..=BLOCK_BYTES_MAX));
        if let Ok(block) = encoded.map_err(|_| ()).and_then(|bytes| Block::from_bytes(&bytes).map_err(|_| ()))
            && self.blocks.len() < REMEMBERED_MAX
        {
            self.blocks.insert(block.header.digest(), block);
        }
    }

    /// Gives the certificate's view.
    fn see_certificate(&mut self, certificate: &Certificate<Scheme, sha256::Digest>) -> u64 {
        let (round, proposal) = match certificate {
            Certificate::Notarization(seen) => (seen.proposal.round, Some(seen.proposal.payload)),
            Certificate::Finalization(seen) => (seen.proposal.round, Some(seen.proposal.payload)),
            Certificate::Nullification(seen) => (seen.round, None),
        };
        let view = round.view().get();
        match proposal.map(|digest| Digest(digest.0)) {
            Some(digest) if !self.own.contains(&digest) => _ = self.notarized.insert(view, digest),
            Some(_) => {}
            None => _ = self.given_up.insert(view),
        }
        view
    }

    /// A block for the view, on the latest block that may be built on.
    fn wrong_block(&mut self, config: &Config, view: u64, way: u32) -> Option<Block> {
        let (parent_view, parent_digest) = self.notarized.range(..view).next_back()?;
        if !(parent_view + 1..view).all(|view| self.given_up.contains(&view)) || !self.proposed.insert(view) {
            return None;
        }
        let parent = self.blocks.get(parent_digest)?;
        let frontier = log_after(parent)?;
        let mut header = parent.header.clone();
        (header.view, header.parent_view, header.parent) = (view, *parent_view, *parent_digest);
        (header.height, header.time) = (header.height + 1, header.time.plus_ms(20));
        header.leader = config.consensus_key.public_key();
        (header.log_size, header.log_root) = (frontier.size(), frontier.root());
        let mut submissions = Vec::new();
        match way {
            0 => header.state_root.0[0] ^= 1,
            1 => header.log_root.0[0] ^= 1,
            2 => header.log_size += 1,
            3 => header.ops_root.0[0] ^= 1,
            // What is final already, once more.
            4 => submissions.clone_from(&parent.submissions),
            // What nobody signed.
            5 => {
                submissions.clone_from(&parent.submissions);
                for signed in &mut submissions {
                    let later = Submission { first_seq: signed.submission.last_seq() + 1, ..signed.submission.clone() };
                    *signed = SignedSubmission::new(later, signed.signature);
                }
            }
            _ => header.time = parent.header.time,
        }
        let holdings = if submissions.is_empty() { Vec::new() } else { parent.holdings.clone() };
        header.entry_count = submissions.iter().map(|signed| signed.submission.entries.len() as u32).sum();
        header.body = Block::body_digest(&frontier, &submissions, &holdings);
        let block = Block { header, frontier, submissions, holdings };
        self.own.insert(block.header.digest());
        Some(block)
    }
}

/// The log after a block, if all of its entries were applied.
fn log_after(block: &Block) -> Option<Frontier> {
    let header = &block.header;
    let mut log = block.frontier.clone();
    for entry in block.submissions.iter().flat_map(|signed| &signed.submission.entries) {
        log.push(entry_leaf(header.height, header.time, 0, &entry.digest()));
    }
    (log.root() == header.log_root).then_some(log)
}
