//! Votes of one validator that exclude each other, kept for whoever asks who broke the rules. Each is checked before it is kept.

use crate::Scheme;
use commonware_actor::Feedback;
use commonware_codec::{Decode as _, Encode as _};
use commonware_consensus::{
    Reporter,
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

/// Which validator, and which of the three ways of breaking the rules: one proof of each is enough, and bounds what is kept.
type Which = (usize, &'static str);

/// Listens to consensus and keeps what nobody honest signs.
#[derive(Clone)]
pub(crate) struct Blames {
    scheme: Arc<Scheme>,
    /// Where they rest; none for simulations.
    dir: Option<PathBuf>,
    kept: Arc<Mutex<BTreeMap<Which, Vec<u8>>>>,
}

const KINDS: [&str; 3] = ["notarized-two", "finalized-two", "finalized-after-giving-up"];

impl Blames {
    /// Reads what was kept before a restart. `validators`: how many there are.
    pub(crate) fn open(scheme: Scheme, dir: Option<PathBuf>, validators: usize) -> std::io::Result<Self> {
        let mut kept = BTreeMap::new();
        if let Some(dir) = &dir {
            fs::create_dir_all(dir)?;
            for which in (0..validators).flat_map(|signer| KINDS.map(|kind| (signer, kind))) {
                match fs::read(file(dir, which)) {
                    Ok(act) if proves(&scheme, which, &act, validators) => _ = kept.insert(which, act),
                    Ok(_) => tracing::warn!(validator = which.0, "a proof on the disk does not hold and is left out"),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Self { scheme: Arc::new(scheme), dir, kept: Arc::new(Mutex::new(kept)) })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Which, Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's encoding of every pair of votes that is kept.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.kept().values().cloned().collect()
    }
}

fn file(dir: &Path, (signer, kind): Which) -> PathBuf {
    dir.join(format!("{signer}-{kind}"))
}

fn which(act: &Activity<Scheme, sha256::Digest>) -> Option<Which> {
    match act {
        Activity::ConflictingNotarize(two) => Some((usize::from(two.signer()), KINDS[0])),
        Activity::ConflictingFinalize(two) => Some((usize::from(two.signer()), KINDS[1])),
        Activity::NullifyFinalize(two) => Some((usize::from(two.signer()), KINDS[2])),
        _ => None,
    }
}

/// Whether both signatures hold. The coefficients of the check follow from all that is checked.
fn holds(scheme: &Scheme, act: &Activity<Scheme, sha256::Digest>, bytes: &[u8]) -> bool {
    let seed = record::sha256(&[SEED_DOMAIN, bytes]);
    act.verify(&mut StdRng::from_seed(seed.0), scheme, &Sequential)
}

/// Whether bytes from the disk are a proof of this very misdeed.
fn proves(scheme: &Scheme, wanted: Which, bytes: &[u8], validators: usize) -> bool {
    let read = Activity::decode_cfg(bytes::Bytes::copy_from_slice(bytes), &validators);
    read.is_ok_and(|act| which(&act) == Some(wanted) && holds(scheme, &act, bytes))
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
        if self.kept().contains_key(&which) {
            return Feedback::Ok;
        }
        let act = activity.encode().to_vec();
        if !holds(&self.scheme, &activity, &act) {
            return Feedback::Ok;
        }
        tracing::error!(
            validator = which.0,
            misdeed = which.1,
            "a validator broke the rules; its votes are kept as proof"
        );
        // A few hundred bytes, and at most three times for each validator.
        if let Some(dir) = &self.dir
            && let Err(error) = write(&file(dir, which), &act)
        {
            tracing::warn!(%error, "the proof is kept in memory only");
        }
        self.kept().insert(which, act);
        Feedback::Ok
    }
}
