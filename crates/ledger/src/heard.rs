//! Whom a node heard lately, told to the engine of a new epoch.
//!
//! The engine passes at once over a leader that was silent for long, and whom it never heard is silent to it. The engine of a new epoch has heard nobody: when
//! three of four had voted in its first view and the fourth, who was some milliseconds late, led the second, some gave that view up at once and
//! the others voted in it, and nobody could go on before its time was over. So the engine first hears a sign of life of each peer that the one before
//! heard lately.

use crate::Scheme;
use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::{
    simplex::types::{Nullify, Vote},
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    certificate::{Attestation, Scheme as _},
    ed25519::{PublicKey, Signature},
    sha256,
};
use commonware_p2p::Message;
use commonware_runtime::{Clock, IoBuf};
use commonware_utils::Participant;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// When each peer was heard last, on any channel of consensus.
pub(crate) struct Heard<E> {
    clock: Arc<E>,
    last: Arc<Mutex<BTreeMap<PublicKey, SystemTime>>>,
}

impl<E> Clone for Heard<E> {
    fn clone(&self) -> Self {
        Self { clock: self.clock.clone(), last: self.last.clone() }
    }
}

impl<E> fmt::Debug for Heard<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heard")
    }
}

impl<E: Clock> Heard<E> {
    pub(crate) fn new(clock: E) -> Self {
        Self { clock: Arc::new(clock), last: Arc::default() }
    }

    /// A message came from a peer.
    pub(crate) fn note(&self, peer: &PublicKey) {
        let now = self.clock.current();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(peer) {
            Some(at) => *at = now,
            None => {
                last.insert(peer.clone(), now);
            }
        }
    }

    /// A sign of life of each validator of `epoch` that was heard within `lately`; of others nothing is known from now on.
    pub(crate) fn signs_of_life(&self, epoch: u64, scheme: &Scheme, lately: Duration) -> Vec<Message<PublicKey>> {
        let now = self.clock.current();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|peer, at| {
            scheme.participants().position(peer).is_some() && now.duration_since(*at).is_ok_and(|since| since <= lately)
        });
        last.keys().filter_map(|peer| Some((peer.clone(), sign_of_life(epoch, scheme, peer)?))).collect()
    }
}

/// A vote in a view that no engine ever looks at, and so neither checks nor keeps. It never leaves this node.
fn sign_of_life(epoch: u64, scheme: &Scheme, peer: &PublicKey) -> Option<IoBuf> {
    let signer = Participant::from_usize(scheme.participants().position(peer)?);
    let nobodys = Signature::decode(IoBuf::from([0; 64].as_slice())).ok()?;
    let round = Round::new(Epoch::new(epoch), View::new(u64::MAX));
    let attestation = Attestation { signer, signature: nobodys.into() };
    Some(IoBuf::from(Vote::<Scheme, sha256::Digest>::Nullify(Nullify { round, attestation }).encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::Decode as _;
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
    use commonware_utils::{TryCollect as _, ordered::Quorum as _};

    const LATELY: Duration = Duration::from_secs(2);

    fn peer(seed: u64) -> PublicKey {
        PrivateKey::from_seed(seed).public_key()
    }

    #[test]
    fn the_next_engine_hears_of_those_who_were_heard_lately_and_of_nobody_else() {
        deterministic::Runner::default().start(|context| async move {
            let validators = [1, 2, 3, 4].map(peer);
            let scheme = Scheme::verifier(b"chain", validators.iter().cloned().try_collect().unwrap());
            let heard = Heard::new(context.child("heard"));
            heard.note(&peer(1));
            heard.note(&peer(9));
            context.sleep(LATELY).await;
            heard.note(&peer(2));
            heard.note(&peer(3));
            context.sleep(Duration::from_millis(1)).await;
            heard.note(&peer(3));
            let told = heard.signs_of_life(7, &scheme, LATELY);
            assert_eq!(
                told.len(),
                2,
                "the first was silent too long, the ninth is no validator, and of the fourth nothing came"
            );
            for (from, bytes) in told {
                let Vote::<Scheme, sha256::Digest>::Nullify(vote) = Vote::decode_cfg(bytes, &()).unwrap() else {
                    panic!("another vote")
                };
                assert!([peer(2), peer(3)].contains(&from));
                assert_eq!((vote.round.epoch(), vote.round.view()), (Epoch::new(7), View::new(u64::MAX)));
                assert_eq!(scheme.participants().key(vote.attestation.signer), Some(&from));
            }
        });
    }
}
