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
