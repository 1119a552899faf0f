//! Members that break the rules, one file for each way.
//!
//! Some take a member's place in the network with its key and do as they like. Others run a member's node as it is, and break the rules
//! around it: what they hand over, and to whom they listen.

mod censors;
mod equivocates;
mod gives_up;
mod proposes_wrong_roots;
mod replays;
mod signs_without_holding;
mod withholds;

use crate::{
    machine::Machine,
    world::{MEMBERS, World},
};
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::types::Vote;
use commonware_cryptography::sha256;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Spawner as _, Supervisor as _};
use ledger::{Channels, Config, Scheme, StartError, in_epoch, join, signer};

/// How a member breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adversary {
    /// It votes for every block that others vote for, and for another one in the same view.
    Equivocates,
    /// It gives a view up and finalises a block in it all the same.
    FinalizesAfterGivingUp,
    /// When it leads, it proposes a block whose roots, signatures, order or time are wrong.
    ProposesWrongRoots,
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
    pub const ALL: [Self; 7] = [
        Self::Equivocates,
        Self::FinalizesAfterGivingUp,
        Self::ProposesWrongRoots,
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

/// Takes the place of a member for as long as its machine lives.
pub(crate) fn begin(machine: Machine, config: Config, adversary: Adversary, world: World) -> Result<(), StartError> {
    let scheme = signer(&config)?;
    let channels = join(&machine, &config)?;
    let answer: fn(&Scheme, &Ballot) -> Vec<Ballot> = match adversary {
        Adversary::Equivocates => equivocates::answer,
        Adversary::FinalizesAfterGivingUp => gives_up::answer,
        Adversary::ProposesWrongRoots => {
            machine.spawn(move |machine| proposes_wrong_roots::run(machine, config, scheme, channels, world));
            return Ok(());
        }
        Adversary::Replays => {
            replays::begin(&machine, channels, &world);
            return Ok(());
        }
        Adversary::WithholdsAttachments | Adversary::SignsWithoutHolding | Adversary::Censors => return Ok(()),
    };
    // Its set decides the first epoch, which is as long as the run; there it does what it does.
    let mux = machine.child("mux");
    machine.spawn(move |_| async move {
        let Channels {
            votes,
            certificates,
            resolver,
            backfill,
            blocks,
            gossip,
            attachments,
            words,
            questions,
            task,
            ..
        } = channels;
        // What is not listened to would count as a fault of the connection.
        let _open = (certificates, resolver, backfill, blocks, gossip, attachments, words, questions, task);
        let Some((mut sender, mut receiver)) = in_epoch(&mux, votes, 0).await else { return };
        while let Ok((_, message)) = receiver.recv().await {
            let Ok(vote) = Ballot::decode(message) else { continue };
            for vote in answer(&scheme, &vote) {
                world.state().faults.misdeeds += 1;
                let _ = sender.send(Recipients::All, commonware_codec::Encode::encode(&vote), true);
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
