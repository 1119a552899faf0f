//! Votes of one validator that exclude each other, kept for whoever asks who broke the rules. Each is checked before it is kept.

use crate::{Scheme, epochs::Schemes};
use commonware_actor::Feedback;
use commonware_codec::{Decode as _, Encode as _};
use commonware_consensus::{
    Epochable as _, Reporter,
    simplex::types::{Activity, Attributable as _},
};
use commonware_cryptography::sha256;
use commonware_parallel::Sequential;
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SEED_DOMAIN: &[u8] = b"vitaltrace/blame/1\0";

/// Which validator, by epoch and place in the set, and which of the three ways of breaking the rules.
type Which = (u64, usize, &'static str);

/// Listens to consensus and keeps what nobody honest signs.
#[derive(Clone)]
pub(crate) struct Blames {
    schemes: Schemes,
    /// Where they rest; none for simulations.
    dir: Option<PathBuf>,
    kept: Arc<Mutex<BTreeMap<Which, Vec<u8>>>>,
}

const KINDS: [&str; 3] = ["notarized-two", "finalized-two", "finalized-after-giving-up"];

/// The most proofs that are kept of one place in the sets of validators: what a validator does there in an epoch is proven once for each of the three ways, and that in 64 epochs.
const KEPT_PER_VALIDATOR_MAX: usize = 3 * 64;
/// The most proofs that are read after a restart: those of all places.
const KEPT_MAX: usize = KEPT_PER_VALIDATOR_MAX * contract::MEMBERS_MAX;

impl Blames {
    /// Reads what was kept before a restart.
    pub(crate) fn open(schemes: Schemes, dir: Option<PathBuf>) -> std::io::Result<Self> {
        let mut kept = BTreeMap::new();
        if let Some(dir) = &dir {
            fs::create_dir_all(dir)?;
            for file in fs::read_dir(dir)?.take(KEPT_MAX) {
                let path = file?.path();
                let act = fs::read(&path)?;
                match proves(&schemes, &act).filter(|which| path == place(dir, *which)) {
                    Some(which) => _ = kept.insert(which, act),
                    None => tracing::warn!(file = %path.display(), "no proof that holds: it is left out"),
                }
            }
        }
        Ok(Self { schemes, dir, kept: Arc::new(Mutex::new(kept)) })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Which, Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's encoding of every pair of votes that is kept.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.kept().values().cloned().collect()
    }
}

fn place(dir: &Path, (epoch, signer, kind): Which) -> PathBuf {
    dir.join(format!("{epoch}-{signer}-{kind}"))
}

fn which(act: &Activity<Scheme, sha256::Digest>) -> Option<Which> {
    let epoch = act.epoch().get();
    match act {
        Activity::ConflictingNotarize(two) => Some((epoch, usize::from(two.signer()), KINDS[0])),
        Activity::ConflictingFinalize(two) => Some((epoch, usize::from(two.signer()), KINDS[1])),
        Activity::NullifyFinalize(two) => Some((epoch, usize::from(two.signer()), KINDS[2])),
        _ => None,
    }
}

/// Whether both signatures hold. The coefficients of the check follow from all that is checked.
fn holds(scheme: &Scheme, act: &Activity<Scheme, sha256::Digest>, bytes: &[u8]) -> bool {
    let seed = record::sha256(&[SEED_DOMAIN, bytes]);
    act.verify(&mut StdRng::from_seed(seed.0), scheme, &Sequential)
}

/// The misdeed that bytes from the disk prove. Of an epoch whose validators are not known any more the signatures cannot be checked again:
/// they were when this node wrote it, and whoever is shown it checks them.
fn proves(schemes: &Schemes, bytes: &[u8]) -> Option<Which> {
    let act = Activity::decode_cfg(bytes::Bytes::copy_from_slice(bytes), &contract::MEMBERS_MAX).ok()?;
    let which = which(&act)?;
    schemes.of(which.0).is_none_or(|scheme| holds(&scheme, &act, bytes)).then_some(which)
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = fs::File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

impl Reporter for Blames {
    type Activity = Activity<Scheme, sha256::Digest>;

    /// Consensus reports what it has not verified: anybody can send two votes in another's name.
    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let Some(which) = which(&activity) else { return Feedback::Ok };
        let kept = {
            let kept = self.kept();
            let of_validator = kept.keys().filter(|(_, validator, _)| *validator == which.1).count();
            kept.contains_key(&which) || of_validator >= KEPT_PER_VALIDATOR_MAX
        };
        let Some(scheme) = self.schemes.of(which.0).filter(|_| !kept) else { return Feedback::Ok };
        let act = activity.encode().to_vec();
        if !holds(&scheme, &activity, &act) {
            return Feedback::Ok;
        }
        tracing::error!(
            epoch = which.0,
            validator = which.1,
            misdeed = which.2,
            "a validator broke the rules; its votes are kept as proof"
        );
        // A few hundred bytes.
        if let Some(dir) = &self.dir
            && let Err(error) = write(&place(dir, which), &act)
        {
            tracing::warn!(%error, "the proof is kept in memory only");
        }
        self.kept().insert(which, act);
        Feedback::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block::our_key, epochs};
    use commonware_consensus::{
        simplex::types::{
            ConflictingFinalize, ConflictingNotarize, Finalize, Notarize, Nullify, NullifyFinalize, Proposal,
        },
        types::{Epoch, Round, View},
    };
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use contract::{GENESIS_VERSION, Genesis, Member, state::Succession};
    use record::{Digest, OrgRole, TimeMs};

    /// More than a validator has room for.
    const EPOCHS: u64 = 80;

    fn key(member: u8) -> PrivateKey {
        PrivateKey::from_seed(member.into())
    }

    fn genesis() -> Genesis {
        let member = |nth: u8| Member {
            org: format!("member-{nth}").parse().unwrap(),
            role: OrgRole::Hospital,
            entry_key: our_key(&key(nth + 100).public_key()),
            consensus_key: our_key(&key(nth).public_key()),
            wrap_key: String::new(),
            address: "127.0.0.1:1".into(),
        };
        Genesis {
            version: GENESIS_VERSION,
            name: "test".into(),
            time: TimeMs(0),
            members: (0..4).map(member).collect(),
            access_policy: Digest([0; 32]),
            derivation_policy: Digest([0; 32]),
            epoch_blocks: 8,
        }
    }

    /// What a node knows after so many epochs without a change of its validators.
    fn schemes(genesis: &Genesis) -> Schemes {
        let schemes = Schemes::new(Arc::new(genesis.clone()), None).unwrap();
        schemes.learn(&Succession::new(genesis.epoch_blocks, genesis.validators()), EPOCHS).unwrap();
        schemes
    }

    /// A member breaks the rules in each of the three ways.
    fn misdeeds(genesis: &Genesis, member: u8, epoch: u64) -> [Activity<Scheme, sha256::Digest>; 3] {
        let scheme = epochs::scheme(genesis, &genesis.validators(), Some(&key(member))).unwrap();
        let round = Round::new(Epoch::new(epoch), View::new(3));
        let [one, other] = [1, 2].map(|block| Proposal::new(round, View::new(2), sha256::Digest([block; 32])));
        let notarized = [&one, &other].map(|proposal| Notarize::sign(&scheme, proposal.clone()).unwrap());
        let finalized = [&one, &other].map(|proposal| Finalize::sign(&scheme, proposal.clone()).unwrap());
        let given_up = Nullify::sign::<sha256::Digest>(&scheme, round).unwrap();
        let after = NullifyFinalize::new(given_up, finalized[0].clone());
        let [first, second] = notarized;
        let notarized = ConflictingNotarize::new(first, second);
        let [first, second] = finalized;
        let finalized = ConflictingFinalize::new(first, second);
        [
            Activity::ConflictingNotarize(notarized),
            Activity::ConflictingFinalize(finalized),
            Activity::NullifyFinalize(after),
        ]
    }

    fn kept_of(blames: &Blames) -> BTreeMap<usize, usize> {
        let mut kept = BTreeMap::new();
        for (_, validator, _) in blames.kept().keys() {
            *kept.entry(*validator).or_default() += 1;
        }
        kept
    }

    /// The proofs had one room together. A validator that broke the rules in some hundred epochs filled it, and after that nothing was held
    /// against anybody else.
    #[test]
    fn a_validator_that_breaks_the_rules_without_end_takes_nobody_elses_room_for_proofs() {
        let (genesis, dir) = (genesis(), tempfile::tempdir().unwrap());
        let open = || Blames::open(schemes(&genesis), Some(dir.path().to_owned())).unwrap();
        let mut blames = open();
        for epoch in 0..EPOCHS {
            for act in misdeeds(&genesis, 0, epoch) {
                blames.report(act);
            }
        }
        let kept = kept_of(&blames);
        assert_eq!(kept.values().collect::<Vec<_>>(), [&KEPT_PER_VALIDATOR_MAX]);
        for act in misdeeds(&genesis, 1, EPOCHS) {
            blames.report(act.clone());
            // Once is enough.
            blames.report(act);
        }
        let kept: Vec<usize> = kept_of(&blames).into_values().collect();
        assert!(kept.len() == 2 && kept.contains(&KINDS.len()), "the second validator is not blamed: {kept:?}");
        // After a restart as well, from its files.
        assert_eq!(open().all(), blames.all());
        assert_eq!(kept_of(&open()), kept_of(&blames));
    }

    /// Consensus reports what it has not verified.
    #[test]
    fn votes_that_somebody_else_signed_in_the_name_of_a_validator_blame_nobody() {
        let genesis = genesis();
        let other = Genesis { name: "another chain".into(), ..genesis.clone() };
        let mut blames = Blames::open(schemes(&genesis), None).unwrap();
        for act in misdeeds(&other, 0, 1) {
            blames.report(act);
        }
        assert!(blames.all().is_empty());
        for act in misdeeds(&genesis, 0, 1) {
            blames.report(act);
        }
        assert_eq!(blames.all().len(), KINDS.len());
    }
}
