//! Members that break the rules: each takes a member's place in the network with its key, and votes as it likes.

mod equivocates;
mod gives_up;

use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::types::Vote;
use commonware_cryptography::sha256;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Handle as Task, Spawner as _, Supervisor as _, deterministic};
use ledger::{Channels, Config, Scheme, StartError, in_epoch, join, signer};

/// How a member breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adversary {
    /// It votes for every block that others vote for, and for another one in the same view.
    Equivocates,
    /// It gives a view up and finalises a block in it all the same.
    FinalizesAfterGivingUp,
}

type Ballot = Vote<Scheme, sha256::Digest>;

/// Takes the place of a member for as long as the simulation runs.
pub(crate) fn begin(
    context: &deterministic::Context,
    config: &Config,
    adversary: Adversary,
) -> Result<Task<()>, StartError> {
    let scheme = signer(config)?;
    let Channels { votes, certificates, resolver, backfill, blocks, gossip, attachments, task, .. } =
        join(context, config)?;
    let answer = match adversary {
        Adversary::Equivocates => equivocates::answer,
        Adversary::FinalizesAfterGivingUp => gives_up::answer,
    };
    // Its set decides the first epoch; there it does what it does.
    let mux = context.child("mux");
    let watch = context.child("adversary").spawn(move |_| async move {
        // What is not listened to would count as a fault of the connection.
        let _open = (certificates, resolver, backfill, blocks, gossip, attachments, task);
        let Some((mut sender, mut receiver)) = in_epoch(&mux, votes, 0).await else { return };
        while let Ok((_, message)) = receiver.recv().await {
            let Ok(vote) = Ballot::decode(message) else { continue };
            for vote in answer(&scheme, &vote) {
                let _ = sender.send(Recipients::All, commonware_codec::Encode::encode(&vote), true);
            }
        }
    });
    Ok(watch)
}

/// A digest that no block has.
fn other(digest: &sha256::Digest) -> sha256::Digest {
    let mut bytes = digest.0;
    bytes[0] ^= 0xff;
    sha256::Digest(bytes)
}
