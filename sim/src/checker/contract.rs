//! The contract: the final chain, executed again from the genesis document alone, gives the verdicts and logs that the nodes gave.

use super::{Broken, ensure};
use crate::{Consortium, seen::Chains};
use contract::{Block, Entry, Parent, Reject, execute, merkle::Frontier, state::Key};
use ledger::FinalBlock;
use record::{Digest, TimeMs};
use std::{collections::HashMap, sync::Arc};

const PROPERTY: &str = "contract";

/// What execution from the genesis on gives.
pub(crate) struct Replay {
    /// The state after the last block.
    pub(crate) state: HashMap<Key, Vec<u8>>,
    /// Every key that was ever written, sorted.
    pub(crate) keys: Vec<Key>,
    /// Every entry in order, and why it was refused.
    pub(crate) entries: Vec<(Entry, Option<Reject>)>,
}

/// Executes the chain that the nodes agreed on.
pub(crate) fn replay(consortium: &Consortium, chains: &Chains) -> Result<Replay, Broken> {
    let mut replay = Replay { state: HashMap::new(), keys: Vec::new(), entries: Vec::new() };
    let (mut log, mut parent, mut time) = (Frontier::default(), None, TimeMs(0));
    for (expected, (height, block)) in (1..).zip(chains.first()) {
        let at = |what: &str| format!("height {height}: {what}");
        ensure(height == expected, PROPERTY, || at("the height before is missing"))?;
        let header = block.header();
        ensure(parent.is_none_or(|parent| parent == header.parent), PROPERTY, || at("another parent"))?;
        ensure(height == 1 || header.time > time, PROPERTY, || at("the block's time does not rise"))?;
        (parent, time) = (Some(block.digest), header.time);
        log = step(consortium, &mut replay, &block, log, &at)?;
    }
    replay.keys.sort();
    replay.keys.dedup();
    Ok(replay)
}

fn step(
    consortium: &Consortium,
    replay: &mut Replay,
    block: &Arc<FinalBlock>,
    log: Frontier,
    at: &dyn Fn(&str) -> String,
) -> Result<Frontier, Broken> {
    let header = block.header();
    let digest: Digest = header.digest();
    ensure(digest == block.digest, PROPERTY, || at("the digest is another header's"))?;
    let submissions = block.submissions();
    let body = Block::body_digest(&log, submissions, &block.block.holdings);
    ensure(body == header.body, PROPERTY, || at("the header names another body"))?;
    for signed in submissions {
        let member = consortium.genesis.member(&signed.submission.org);
        let holds = member.is_some_and(|member| signed.verify(&consortium.genesis.id(), &member.entry_key).is_ok());
        ensure(holds, PROPERTY, || at("a submission that its organisation did not sign"))?;
    }
    let position = Parent { height: header.height, time: header.time, log };
    let executed = execute(&consortium.genesis, &position, submissions, &replay.state)
        .map_err(|error| Broken { property: PROPERTY, what: at(&error.to_string()) })?;
    for (key, value) in executed.writes {
        replay.keys.push(key);
        match value {
            Some(value) => _ = replay.state.insert(key, value),
            None => _ = replay.state.remove(&key),
        }
    }
    let agrees = executed.log.root() == header.log_root && executed.log.size() == header.log_size;
    ensure(agrees, PROPERTY, || at("another log"))?;
    ensure(executed.receipts.len() == block.receipts.len(), PROPERTY, || at("other receipts"))?;
    let entries = submissions.iter().flat_map(|signed| &signed.submission.entries);
    for ((ours, theirs), entry) in executed.receipts.into_iter().zip(&block.receipts).zip(entries) {
        let verdict = ours.refused.map_or(0, Reject::code);
        let same = (ours.org, ours.lane, ours.seq, ours.index, ours.digest, verdict)
            == (theirs.org.clone(), theirs.lane, theirs.seq, theirs.index, theirs.digest, theirs.verdict);
        ensure(same, PROPERTY, || at(&format!("the receipt of entry {} is another", theirs.index)))?;
        replay.entries.push((entry.clone(), ours.refused));
    }
    Ok(executed.log)
}
