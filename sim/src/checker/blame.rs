//! Blame: only who signed votes that exclude each other is blamed.

use super::{Broken, Evidence, ensure};
use crate::{Adversary, Tampering};
use commonware_codec::Decode as _;
use commonware_consensus::simplex::types::{Activity, Attributable as _};
use commonware_cryptography::sha256;
use ledger::Scheme;

const PROPERTY: &str = "blame";

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), Broken> {
    let genesis = &evidence.consortium.genesis;
    let signs_two = |adversary| matches!(adversary, Adversary::Equivocates | Adversary::FinalizesAfterGivingUp);
    let guilty = evidence.scenario.adversary.filter(|(_, adversary)| signs_two(*adversary)).map(|(member, _)| member);
    let guilty = guilty.filter(|_| evidence.tampering != Some(Tampering::Innocence));
    // Validators are numbered in the order of their keys.
    let mut keys: Vec<_> = genesis.members.iter().map(|member| member.consensus_key).collect();
    keys.sort();
    for act in evidence.blames.iter().flatten() {
        let act = bytes::Bytes::copy_from_slice(act);
        let signer = match Activity::<Scheme, sha256::Digest>::decode_cfg(act, &keys.len()) {
            Ok(Activity::ConflictingNotarize(two)) => Some(two.signer()),
            Ok(Activity::ConflictingFinalize(two)) => Some(two.signer()),
            Ok(Activity::NullifyFinalize(two)) => Some(two.signer()),
            _ => None,
        };
        let blamed = signer.and_then(|signer| keys.get(usize::from(signer)));
        let blamed = genesis.members.iter().position(|member| Some(&member.consensus_key) == blamed);
        ensure(blamed.is_some() && blamed == guilty, PROPERTY, || {
            format!("member {blamed:?} is blamed, and {guilty:?} broke the rules")
        })?;
    }
    Ok(())
}
