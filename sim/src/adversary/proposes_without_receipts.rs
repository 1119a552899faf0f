//! Proposes blocks that are right in everything but in what they show of who holds what they name; and between them blocks that are right
//! in that as well, as they name nothing, so that nothing else tells the two apart.

use super::{
    Rogue,
    follower::{Follower, Turn},
};
use crate::machine::Machine;
use bytes::Bytes;
use commonware_codec::DecodeExt as _;
use commonware_consensus::{simplex::types::Context, types::View};
use commonware_cryptography::{ed25519::PublicKey, sha256};
use commonware_runtime::Supervisor as _;
use contract::{Block, Holding, SignedSubmission, may_hold};
use ledger::Author;
use rand::RngExt as _;
use record::{Digest, sha256 as hash};

/// Its lanes are its own: each of its submissions begins one.
const LANES_FROM: u32 = 100;
/// What it names and nobody was ever given.
const NOWHERE: &[u8] = b"a copy that nobody holds";

/// How what a block shows of a submission is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// No list of receipts at all.
    List,
    /// An empty list.
    Receipts,
    /// The receipt of one custodian.
    Second,
    /// One custodian's twice.
    Twice,
    /// The second is in the name of a custodian who did not sign it: the author did.
    Signature,
    /// The second is of a member that is entitled to hold nothing.
    Entitlement,
    /// Both custodians signed for something else.
    Submission,
}

impl Lack {
    const ALL: [Self; 7] =
        [Self::List, Self::Receipts, Self::Second, Self::Twice, Self::Signature, Self::Entitlement, Self::Submission];

    /// The lists of a block with one submission, signed by whoever it takes: the worst that any of them could do together.
    fn lists(self, rogue: &Rogue, submission: &Digest) -> Vec<Vec<Holding>> {
        let members = &rogue.consortium.genesis.members;
        let entitled = |entitled: bool| {
            let of = move |nth: &usize| may_hold(members[*nth].role) == entitled;
            (0..members.len()).filter(of).collect::<Vec<usize>>()
        };
        let (custodians, others) = (entitled(true), entitled(false));
        let sign = |nth: usize| rogue.consortium.holding(nth, nth, submission);
        let mut list = match self {
            Self::List => return Vec::new(),
            Self::Receipts => Vec::new(),
            Self::Second => vec![sign(custodians[0])],
            Self::Twice => vec![sign(custodians[0]), sign(custodians[0])],
            Self::Signature => {
                let forged = custodians.iter().find(|nth| **nth != rogue.member).map_or(0, |nth| *nth);
                let other = custodians.iter().find(|nth| **nth != forged).map_or(0, |nth| *nth);
                vec![sign(other), rogue.consortium.holding(forged, rogue.member, submission)]
            }
            Self::Entitlement => vec![sign(custodians[0]), sign(others[0])],
            Self::Submission => {
                let another = hash(&[b"another submission", submission.as_ref()]);
                [0, 1].map(|nth| rogue.consortium.holding(custodians[nth], custodians[nth], &another)).to_vec()
            }
        };
        list.sort_by(|a, b| a.custodian.cmp(&b.custodian));
        vec![list]
    }
}

pub(super) async fn run(machine: Machine, rogue: Rogue, mut follower: Follower) {
    // It keeps nothing over its lives, and begins again under another name.
    let store = format!("author-{}", machine.life());
    let opened = Author::open(machine.child("author"), rogue.consortium.genesis.clone(), &store).await;
    let Some(mut author) = opened else { return };
    let mut lane = LANES_FROM + 1000 * u32::try_from(machine.life()).unwrap_or_default();
    let mut lacks = Lack::ALL.iter().cycle().skip(rogue.world.state().random.random_range(0..Lack::ALL.len()));
    while let Some(turn) = follower.turn().await {
        lane += 1;
        // One that is wrong in the next way first, then one that is right, and so on.
        let lack = if lane.is_multiple_of(2) { None } else { lacks.next().copied() };
        // What is final it could fetch from anybody.
        while author.height() < turn.parent.header.height
            && let Some(block) = rogue.seen.at(author.height() + 1)
        {
            if author.advance(&block.block).await.is_none() {
                return;
            }
        }
        let Some(above) = follower.above(author.height(), &turn.parent) else { continue };
        if let Some(block) = make(&rogue, &mut author, &above, &turn, lane, lack).await {
            follower.propose(&turn, block, lack.is_some());
        }
    }
}

/// A block for its turn. `above`: what it is built on and its author has not yet.
async fn make(
    rogue: &Rogue,
    author: &mut Author<Machine>,
    above: &[Block],
    turn: &Turn,
    lane: u32,
    lack: Option<Lack>,
) -> Option<Block> {
    for block in above {
        author.follow(block).await?;
    }
    let time = turn.parent.header.time.plus_ms(20);
    let signed = submission(rogue, lane, lack.map(|_| NOWHERE));
    let holdings = lack.map(|lack| lack.lists(rogue, &signed.digest())).unwrap_or_default();
    let leader = PublicKey::decode(Bytes::copy_from_slice(rogue.config.consensus_key.public_key().as_bytes())).ok()?;
    let parent = (View::new(turn.parent_view), sha256::Digest(turn.parent.header.digest().0));
    let at = Context { round: turn.round, leader, parent };
    author.block(&at, time, vec![signed], holdings).await
}

/// The first submission of a lane, with one entry, which names an attachment or nothing.
fn submission(rogue: &Rogue, lane: u32, names: Option<&[u8]>) -> SignedSubmission {
    let names: Vec<&[u8]> = names.into_iter().collect();
    let entry = rogue.consortium.entry(rogue.member, &format!("author-{lane}"), &names);
    rogue.consortium.submission(rogue.member, lane, 1, vec![entry])
}
