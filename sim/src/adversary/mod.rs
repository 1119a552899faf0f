//! Members that break the rules, one file for each way.
//!
//! Some take a member's place in the network with its key and do as they like. Others run a member's node as it is, and break the rules
//! around it: what they hand over, and to whom they listen.

mod censors;
mod equivocates;
mod gives_up;

mod follower;
mod proposes_without_receipts;
mod proposes_wrong_roots;

mod replays;
mod signs_without_holding;
mod withholds;

use crate::{
    Consortium,
    machine::Machine,
    seen::Seen,
    world::{MEMBERS, World},
};
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::types::Vote;
use commonware_cryptography::sha256;
use commonware_runtime::{Spawner as _, Supervisor as _};
use follower::Follower;
use ledger::{AllEpochs, Config, Scheme, StartError, join, signer};
use std::sync::Arc;

/// How a member breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adversary {
    /// It votes for every block that others vote for, and for another one in the same view.
    Equivocates,
    /// It gives a view up and finalises a block in it all the same.
    FinalizesAfterGivingUp,
    /// When it leads, it proposes a block whose roots, signatures, order or time are wrong.
    ProposesWrongRoots,
    /// When it leads, it proposes a block that names attachments and does not show two custodians who hold them.
    ProposesWithoutReceipts,
    /// It sends again, later and to everybody, what others sent.
    Replays,
    /// Its entries name attachments that it hands over to nobody.
    WithholdsAttachments,
    /// It signs holding receipts for attachments of which it has not a byte.
    SignsWithoutHolding,
    /// It hears nothing from one member, so that it orders none of that member's submissions when it leads, and hands none on.
    Censors,
}

impl Adversary {
    /// Every way.
    pub const ALL: [Self; 8] = [
        Self::Equivocates,
        Self::FinalizesAfterGivingUp,
        Self::ProposesWrongRoots,
        Self::ProposesWithoutReceipts,
        Self::Replays,
        Self::WithholdsAttachments,
        Self::SignsWithoutHolding,
        Self::Censors,
    ];

    /// Whether the member's node runs as it is.
    pub(crate) fn runs_a_node(self) -> bool {
        matches!(self, Self::WithholdsAttachments | Self::SignsWithoutHolding | Self::Censors)
    }
}

type Ballot = Vote<Scheme, sha256::Digest>;

/// Before the first node starts: what the adversary does to the world.
pub(crate) fn prepare(world: &World, member: usize, adversary: Adversary) {
    if adversary == Adversary::Censors {
        censors::stop_listening(world, member, (member + 1) % MEMBERS);
    }
}

/// Whether the member hands attachments over that its entries name.
pub(crate) fn hands_over(adversary: Option<Adversary>) -> bool {
    adversary.is_none_or(withholds::hands_over)
}

/// Whether the member's vault lies.
pub(crate) fn lies(adversary: Adversary) -> bool {
    signs_without_holding::lies(adversary)
}

/// A member that breaks the rules without a node: what it knows and has.
#[derive(Clone)]
pub(crate) struct Rogue {
    pub(crate) member: usize,
    pub(crate) how: Adversary,
    /// Before this epoch it keeps silent.
    pub(crate) from_epoch: u64,
    pub(crate) config: Config,
    pub(crate) world: World,
    /// Every key of the consortium, as if all had conspired with it.
    pub(crate) consortium: Arc<Consortium>,
    pub(crate) seen: Seen,
}

impl Rogue {
    /// It does something that the protocol forbids.
    fn misdeed(&self, epoch: u64) {
        let mut state = self.world.state();
        state.faults.misdeeds += 1;
        state.wrong.epochs.insert(epoch);
    }
}

/// Takes the place of a member for as long as its machine lives.
pub(crate) fn begin(machine: Machine, rogue: Rogue) -> Result<(), StartError> {
    let scheme = signer(&rogue.config)?;
    let channels = join(&machine, &rogue.config)?;
    let answer: fn(&Scheme, &Ballot) -> Vec<Ballot> = match rogue.how {
        Adversary::Equivocates => equivocates::answer,
        Adversary::FinalizesAfterGivingUp => gives_up::answer,
        Adversary::ProposesWrongRoots => {
            let follower = Follower::new(&machine, rogue.clone(), scheme, channels);
            machine.spawn(move |_| proposes_wrong_roots::run(rogue, follower));
            return Ok(());
        }
        Adversary::ProposesWithoutReceipts => {
            let follower = Follower::new(&machine, rogue.clone(), scheme, channels);
            machine.spawn(move |machine| proposes_without_receipts::run(machine, rogue, follower));
            return Ok(());
        }
        Adversary::Replays => {
            replays::begin(&machine, channels, &rogue.world);
            return Ok(());
        }
        Adversary::WithholdsAttachments | Adversary::SignsWithoutHolding | Adversary::Censors => return Ok(()),
    };
    // The founders decide every epoch of a run: it has its place in each.
    let mux = machine.child("mux");
    machine.spawn(move |_| async move {
        // What is not listened to would count as a fault of the connection.
        let _open = (channels.certificates, channels.resolver, channels.backfill, channels.blocks, channels.gossip);
        let _also = (channels.attachments, channels.words, channels.questions, channels.task);
        let mut votes = AllEpochs::new(&mux, channels.votes);
        while let Some((epoch, message)) = votes.recv().await {
            let Ok(vote) = Ballot::decode(message) else { continue };
            if epoch < rogue.from_epoch {
                continue;
            }
            for vote in answer(&scheme, &vote) {
                rogue.misdeed(epoch);
                votes.send(epoch, commonware_codec::Encode::encode(&vote));
            }
        }
    });
    Ok(())
}

/// A digest that no block has.
fn other(digest: &sha256::Digest) -> sha256::Digest {
    let mut bytes = digest.0;
    bytes[0] ^= 0xff;
    sha256::Digest(bytes)
}
