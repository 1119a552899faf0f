//! Proposes blocks when its turn comes, each wrong in one way that only execution, or a look at the rules, can tell.

use super::{
    Rogue,
    follower::{Follower, Turn},
};
use contract::{Block, SignedSubmission, Submission, merkle::Frontier, state::entry_leaf};
use rand::RngExt as _;

/// Ways to be wrong.
const WAYS: u32 = 7;

pub(super) async fn run(rogue: Rogue, mut follower: Follower) {
    while let Some(turn) = follower.turn().await {
        let way = rogue.world.state().random.random_range(0..WAYS);
        if let Some(block) = wrong_block(&rogue, &turn, way) {
            follower.propose(&turn, block, true);
        }
    }
}

fn wrong_block(rogue: &Rogue, turn: &Turn, way: u32) -> Option<Block> {
    let parent = &turn.parent;
    let frontier = log_after(parent)?;
    let mut header = parent.header.clone();
    (header.epoch, header.view) = (turn.round.epoch().get(), turn.round.view().get());
    (header.parent_view, header.parent) = (turn.parent_view, parent.header.digest());
    (header.height, header.time) = (header.height + 1, header.time.plus_ms(20));
    header.leader = rogue.config.consensus_key.public_key();
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
    Some(Block { header, frontier, submissions, holdings })
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
