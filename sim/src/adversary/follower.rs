//! Follows consensus over all epochs, votes for what others vote for, so that nobody passes it over as silent, and says when it is its turn to
//! propose.

use super::{Ballot, Rogue};
use crate::machine::Machine;
use bytes::Bytes;
use commonware_codec::{Decode as _, DecodeExt as _, Encode as _, RangeCfg};
use commonware_consensus::{
    simplex::{
        elector::{Config as _, Elector as _, RoundRobin, RoundRobinElector},
        types::{Certificate, Finalize, Notarize, Proposal},
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
use contract::{BLOCK_BYTES_MAX, Block};
use ledger::{AllEpochs, Channel, Channels, Scheme};
use record::Digest;
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
};

/// Blocks that it remembers.
const REMEMBERED_MAX: usize = 4096;

/// An epoch and a view in it.
type At = (u64, u64);

/// A view in which it leads, and the block that may be built on.
pub(super) struct Turn {
    pub(super) round: Round,
    pub(super) parent_view: u64,
    pub(super) parent: Block,
}

pub(super) struct Follower {
    rogue: Rogue,
    scheme: Scheme,
    elector: RoundRobinElector<Scheme>,
    votes: AllEpochs<Machine>,
    certificates: AllEpochs<Machine>,
    blocks: Channel<Machine>,
    heard: HashMap<Digest, Block>,
    notarized: BTreeMap<At, Digest>,
    /// What became final, by epoch: the last of them is what the next epoch is built on.
    finalized: BTreeMap<u64, Vec<Digest>>,
    given_up: BTreeSet<At>,
    /// Views that have begun or will, and in which it leads.
    due: BTreeSet<At>,
    proposed: BTreeSet<At>,
    /// What is not listened to would count as a fault of the connection.
    _open: Box<dyn Any + Send>,
}

impl Follower {
    pub(super) fn new(machine: &Machine, rogue: Rogue, scheme: Scheme, channels: Channels<Machine>) -> Self {
        Self {
            rogue,
            elector: RoundRobin::<Sha256>::default().build(scheme.participants()),
            scheme,
            votes: AllEpochs::new(&machine.child("votes"), channels.votes),
            certificates: AllEpochs::new(&machine.child("certificates"), channels.certificates),
            blocks: channels.blocks,
            heard: HashMap::new(),
            notarized: BTreeMap::new(),
            finalized: BTreeMap::new(),
            given_up: BTreeSet::new(),
            due: BTreeSet::new(),
            proposed: BTreeSet::new(),
            _open: Box::new((
                channels.resolver,
                channels.backfill,
                channels.gossip,
                channels.attachments,
                channels.words,
                channels.questions,
                channels.task,
            )),
        }
    }

    /// Waits until it leads and knows what to build on. `None`: the network is gone.
    pub(super) async fn turn(&mut self) -> Option<Turn> {
        loop {
            tokio::select! {
                biased;
                certificate = self.certificates.recv() => {
                    let codec = Scheme::certificate_codec_config_unbounded();
                    if let Ok(certificate) = Certificate::decode_cfg(certificate?.1, &codec) {
                        self.see_certificate(&certificate);
                    }
                }
                block = self.blocks.1.recv() => self.see_block(block.ok()?.1.as_ref()),
                vote = self.votes.recv() => {
                    let (epoch, vote) = vote?;
                    if let Ok(vote) = Ballot::decode(vote) {
                        self.see_vote(epoch, vote);
                    }
                }
            }
            let due: Vec<At> = self.due.iter().copied().collect();
            if let Some(turn) = due.into_iter().find_map(|at| self.take(at)) {
                return Some(turn);
            }
        }
    }

    /// Blocks that the given one is built on and that are above a height, the lowest first; the block itself is the last. `None`: one of them was
    /// not heard.
    pub(super) fn above(&self, height: u64, block: &Block) -> Option<Vec<Block>> {
        let mut chain = Vec::new();
        let mut next = block;
        while next.header.height > height {
            chain.push(next.clone());
            if next.header.height == height + 1 {
                break;
            }
            next = self.heard.get(&next.header.parent)?;
        }
        chain.reverse();
        Some(chain)
    }

    /// Proposes a block. `wrong`: nobody may vote for it.
    pub(super) fn propose(&mut self, turn: &Turn, block: Block, wrong: bool) {
        let digest = block.header.digest();
        let proposal = Proposal::new(turn.round, View::new(turn.parent_view), sha256::Digest(digest.0));
        let Some(vote) = Notarize::sign(&self.scheme, proposal) else { return };
        let epoch = turn.round.epoch().get();
        if !self.rogue.world.state().wrong.voted[0].insert((epoch, turn.round.view().get())) {
            // It did in an earlier life: two would be another misdeed than this one's.
            return;
        }
        if wrong {
            self.rogue.misdeed(epoch);
            self.rogue.world.state().wrong.blocks.insert(digest);
        }
        let _ = self.blocks.0.send(Recipients::All, Bytes::from(block.to_bytes()).encode(), true);
        self.votes.send(epoch, Ballot::Notarize(vote).encode());
        if !wrong {
            self.heard.insert(digest, block);
        }
    }

    fn see_block(&mut self, message: &[u8]) {
        let encoded = Bytes::decode_cfg(Bytes::copy_from_slice(message), &RangeCfg::from(..=BLOCK_BYTES_MAX));
        if let Ok(block) = encoded.map_err(|_| ()).and_then(|bytes| Block::from_bytes(&bytes).map_err(|_| ()))
            && self.heard.len() < REMEMBERED_MAX
        {
            self.heard.insert(block.header.digest(), block);
        }
    }

    /// Whoever votes to finalise what it proposed against the rules is found out. A vote to notarise says only that the block is there: it
    /// is given while the block is executed.
    fn see_vote(&mut self, epoch: u64, vote: Ballot) {
        let (kind, proposal) = match vote {
            Ballot::Notarize(vote) => (0, vote.proposal),
            Ballot::Finalize(vote) => (1, vote.proposal),
            Ballot::Nullify(_) => return,
        };
        {
            let mut state = self.rogue.world.state();
            if state.wrong.blocks.contains(&Digest(proposal.payload.0)) {
                state.wrong.votes += kind as u64;
                return;
            }
            if !state.wrong.voted[kind].insert((epoch, proposal.round.view().get())) {
                return;
            }
        }
        let own = match kind {
            0 => Notarize::sign(&self.scheme, proposal).map(Ballot::Notarize),
            _ => Finalize::sign(&self.scheme, proposal).map(Ballot::Finalize),
        };
        if let Some(own) = own {
            self.votes.send(epoch, own.encode());
        }
    }

    fn see_certificate(&mut self, certificate: &Certificate<Scheme, sha256::Digest>) {
        let (round, proposal) = match certificate {
            Certificate::Notarization(seen) => (seen.proposal.round, Some(seen.proposal.payload)),
            Certificate::Finalization(seen) => (seen.proposal.round, Some(seen.proposal.payload)),
            Certificate::Nullification(seen) => (seen.round, None),
        };
        let at = (round.epoch().get(), round.view().get());
        match proposal.map(|digest| Digest(digest.0)) {
            // Nobody builds on what is wrong.
            Some(digest) if self.rogue.world.state().wrong.blocks.contains(&digest) => {}
            Some(digest) => {
                self.notarized.insert(at, digest);
                if matches!(certificate, Certificate::Finalization(_)) {
                    self.finalized.entry(at.0).or_default().push(digest);
                }
            }
            None => _ = self.given_up.insert(at),
        }
        // What follows in the epoch, and how the next one begins.
        for next in [(at.0, at.1 + 1), (at.0 + 1, 1)] {
            let round = Round::new(Epoch::new(next.0), View::new(next.1));
            let leads = Some(self.elector.elect(round, ())) == self.scheme.me().map(|me| me.index());
            if leads && next.0 >= self.rogue.from_epoch && !self.proposed.contains(&next) {
                self.due.insert(next);
            }
        }
        self.due.retain(|due| *due > at);
    }

    /// The turn of a view, once it is known what to build on; each view is taken once.
    fn take(&mut self, at: At) -> Option<Turn> {
        let (epoch, view) = at;
        let genesis = &self.rogue.config.genesis;
        let before = self.notarized.range((epoch, 0)..at).next_back().map(|((_, view), digest)| (*view, *digest));
        let (parent_view, parent) = before.or_else(|| Some((0, self.end_of(epoch.checked_sub(1)?)?)))?;
        let parent = self.heard.get(&parent)?;
        // The last block of an epoch is followed by none of the same epoch.
        let in_epoch = genesis.epoch(parent.header.height + 1) == epoch;
        if !in_epoch || !(parent_view + 1..view).all(|view| self.given_up.contains(&(epoch, view))) {
            return None;
        }
        let parent = parent.clone();
        self.due.remove(&at);
        self.proposed.insert(at);
        Some(Turn { round: Round::new(Epoch::new(epoch), View::new(view)), parent_view, parent })
    }

    /// The last block of an epoch that has ended.
    fn end_of(&self, epoch: u64) -> Option<Digest> {
        let last = (epoch + 1) * self.rogue.config.genesis.epoch_blocks - 1;
        let is_last = |digest: &&Digest| self.heard.get(digest).is_some_and(|block| block.header.height == last);
        self.finalized.get(&epoch)?.iter().find(is_last).copied()
    }
}
