//! What makes a block valid beside its execution, and what a block's receipts are. Nothing here knows the engine's runtime.

use crate::{block::ChainBlock, handle::Receipt};
use contract::{
    Block, Genesis, HEADER_VERSION, Header, PublicKey,
    merkle::Frontier,
    state::{self, Key, Succession},
    validators_digest,
};
use record::{Digest, OrgId, TimeMs};
use std::collections::HashMap;

/// A block may be this far ahead of the voter's clock, in milliseconds.
pub const CLOCK_AHEAD_MS_MAX: u64 = 2_000;
/// A block's time is at most this much after its parent's, in milliseconds: a century, so that a genesis of any date may be followed by
/// today's block, and still bounded, so that a leader cannot make voters wait for ever.
const STEP_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

/// Digests of the sets that decide a block's epoch and the next one.
pub(crate) struct Deciders {
    now: Digest,
    next: Digest,
}

/// What every block of a chain has in common.
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    id: Digest,
}

impl Chain {
    pub(crate) fn new(genesis: Genesis) -> Self {
        Self { id: genesis.id(), genesis }
    }

    /// Whether the block on `parent` is the first of an epoch.
    pub(crate) fn begins_epoch(&self, parent: &Header) -> bool {
        self.genesis.epoch(parent.height.saturating_add(1)) != self.genesis.epoch(parent.height)
    }

    /// Digests of the sets that decide the block on `parent`, and the next epoch. `succession` is of the state before the block; it is
    /// asked where an epoch begins only. What it says of the next epoch was settled in the last one.
    pub(crate) fn deciders(&self, parent: &Header, succession: Option<&Succession>) -> Option<Deciders> {
        if !self.begins_epoch(parent) {
            return Some(Deciders { now: parent.validators, next: parent.next_validators });
        }
        let epoch = self.genesis.epoch(parent.height.saturating_add(1));
        let next = validators_digest(succession?.keys(epoch.saturating_add(1)));
        Some(Deciders { now: parent.next_validators, next })
    }

    /// Whether `block` may follow `parent`, as far as headers and the log's frontier tell.
    pub(crate) fn follows(&self, parent: &Header, parent_digest: &Digest, deciders: &Deciders, block: &Block) -> bool {
        self.unlike(parent, parent_digest, deciders, block).is_none()
    }

    /// The first thing by which `block` cannot follow `parent`, as far as headers and the log's frontier tell.
    pub(crate) fn unlike(
        &self,
        parent: &Header,
        parent_digest: &Digest,
        deciders: &Deciders,
        block: &Block,
    ) -> Option<&'static str> {
        let Block { header, frontier, .. } = block;
        let time = header.time > parent.time && header.time <= parent.time.plus_ms(STEP_MS_MAX);
        let log = frontier.is_consistent() && frontier.size() == parent.log_size && frontier.root() == parent.log_root;
        let rules = [
            ("header version", header.version == HEADER_VERSION),
            ("chain", header.chain == self.id),
            ("height", Some(header.height) == parent.height.checked_add(1)),
            ("epoch", header.epoch == self.genesis.epoch(header.height)),
            ("parent", header.parent == *parent_digest),
            ("validators", header.validators == deciders.now),
            ("next validators", header.next_validators == deciders.next),
            ("time", time),
            ("log before the block", log),
        ];
        rules.into_iter().find_map(|(what, holds)| (!holds).then_some(what))
    }

    /// A header for a block on `parent`, with what execution tells left open.
    pub(crate) fn header_on(
        &self,
        parent: &ChainBlock,
        deciders: &Deciders,
        context: &crate::block::Context,
        time: TimeMs,
    ) -> Header {
        let leader = crate::block::our_key(&context.leader);
        Header {
            version: HEADER_VERSION,
            chain: self.id,
            epoch: context.round.epoch().get(),
            view: context.round.view().get(),
            leader,
            parent_view: context.parent.0.get(),
            parent: parent.our_digest(),
            height: parent.header().height.saturating_add(1),
            time,
            validators: deciders.now,
            next_validators: deciders.next,
            ..parent.header().clone()
        }
    }

    /// The entry key of an organisation in the state that a block at `height` begins with; `before` holds its value, if it has one.
    pub(crate) fn entry_key(&self, org: &OrgId, height: u64, before: &HashMap<Key, Vec<u8>>) -> Option<PublicKey> {
        if height <= 1 {
            return self.genesis.member(org).map(|member| member.entry_key);
        }
        before.get(&state::organisation_key(org)).and_then(|value| crate::mempool::entry_key(value))
    }
}

/// The log after `block`, and its receipts, when each entry met the verdict at its place; entries beyond the end were applied.
pub(crate) fn replay(block: &Block, verdicts: &[u8]) -> Option<(Frontier, Vec<Receipt>)> {
    let header = &block.header;
    let mut log = block.frontier.clone();
    let receipts = receipts(block, verdicts);
    for receipt in &receipts {
        log.push(state::entry_leaf(header.height, header.time, receipt.verdict, &receipt.digest));
    }
    (log.size() == header.log_size && log.root() == header.log_root).then_some((log, receipts))
}

/// Receipts of a block whose verdicts are known to be these.
pub(crate) fn receipts(block: &Block, verdicts: &[u8]) -> Vec<Receipt> {
    let mut receipts = Vec::with_capacity(block.header.entry_count as usize);
    for signed in &block.submissions {
        let submission = &signed.submission;
        for (seq, digest) in (submission.first_seq..).zip(signed.entry_digests().iter().copied()) {
            let verdict = verdicts.get(receipts.len()).copied().unwrap_or(0);
            let index = block.frontier.size() + receipts.len() as u64;
            receipts.push(Receipt { org: submission.org.clone(), lane: submission.lane, seq, index, digest, verdict });
        }
    }
    receipts
}
