//! A blame file: two votes of one validator that no honest one gives together, for anybody to check.
//!
//! An honest validator notarises at most one block in a view and finalises at most one, and finalises none in a view that it has given up.
//! Two such votes with the validator's signatures prove that it broke this, whoever kept them, and whatever else is true.

use crate::{
    Handover, Refused,
    bundle::{check_format, read},
    finality,
};
use bytes::Bytes;
use commonware_codec::{Encode as _, Read as _};
use commonware_consensus::{
    Epochable as _, Viewable as _,
    simplex::{
        scheme::ed25519,
        types::{Activity, Attributable as _},
    },
};
use commonware_cryptography::sha256;
use commonware_parallel::Sequential;
use contract::{FormatError, Genesis, MEMBERS_MAX, PublicKey, from_cbor, to_cbor};
use minicbor::{Decode, Encode};
use rand::{SeedableRng as _, rngs::StdRng};
use record::{Digest, OrgId, sha256};
use serde::Serialize;

/// First element of every blame file; the number is the format's version.
pub const BLAME_FORMAT: &str = "vitaltrace/blame/1";
/// The longest blame file, in bytes: a genesis document, the changes of validators, and two votes.
pub const BLAME_BYTES_MAX: usize = 256 * 1024 * 1024;

const SEED_DOMAIN: &[u8] = b"vitaltrace/blame-check/1\0";

type Act = Activity<ed25519::Scheme, sha256::Digest>;

#[derive(Encode, Decode)]
#[cbor(array)]
struct Blame {
    #[n(0)]
    format: String,
    /// The genesis document in its binary form.
    #[cbor(n(1), with = "minicbor::bytes")]
    genesis: Vec<u8>,
    /// The engine's encoding of the two votes.
    #[cbor(n(2), with = "minicbor::bytes")]
    act: Vec<u8>,
    /// Where the validators changed before the votes, from the founders on.
    #[cbor(n(3), decode_with = "read::handovers")]
    handovers: Vec<Handover>,
}

/// What a validator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misdeed {
    /// It notarised two blocks in one view.
    NotarizedTwo,
    /// It finalised two blocks in one view.
    FinalizedTwo,
    /// It finalised a block in a view that it had given up.
    FinalizedAfterGivingUp,
}

/// What a blame file proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blamed {
    /// Id of the consortium's genesis document.
    pub chain: Digest,
    /// The consensus key that signed both votes.
    pub validator: PublicKey,
    /// The founder whose consensus key it is; none when the validator's key came later: the ledger names its member.
    pub organisation: Option<OrgId>,
    /// What it did.
    pub misdeed: Misdeed,
    /// The epoch of both votes.
    pub epoch: u64,
    /// The view of both votes.
    pub view: u64,
}

impl Blamed {
    /// What is proven, in plain words.
    pub fn sentence(&self) -> String {
        let what = match self.misdeed {
            Misdeed::NotarizedTwo => "notarised two different blocks",
            Misdeed::FinalizedTwo => "finalised two different blocks",
            Misdeed::FinalizedAfterGivingUp => "finalised a block after it had given up",
        };
        let who = self.organisation.as_ref().map_or_else(|| format!("`{}`", self.validator.0), ToString::to_string);
        format!("the validator of {who} {what} in view {} of epoch {}", self.view, self.epoch)
    }
}

/// Whether a file says that it is a blame file.
pub fn is_blame(file: &[u8]) -> bool {
    check_format(file, BLAME_BYTES_MAX, BLAME_FORMAT).is_ok()
}

/// Makes a blame file of two votes in the engine's encoding, as a node keeps them.
/// `handovers`: the changes of validators before the epoch of the votes.
pub fn blame_file(genesis: &Genesis, handovers: Vec<Handover>, act: &[u8]) -> Vec<u8> {
    let (format, genesis, act) = (BLAME_FORMAT.to_owned(), genesis.to_bytes(), act.to_vec());
    to_cbor(&Blame { format, genesis, act, handovers })
}

/// The epoch of two votes in the engine's encoding.
pub fn blame_epoch(act: &[u8]) -> Option<u64> {
    let act = Act::read_cfg(&mut Bytes::copy_from_slice(act), &MEMBERS_MAX).ok()?;
    Some(act.epoch().get())
}

/// Checks a blame file from the genesis id alone, and says who is to blame for what.
pub fn verify_blame(file: &[u8], genesis_id: &Digest) -> Result<Blamed, Refused> {
    check_format(file, BLAME_BYTES_MAX, BLAME_FORMAT)?;
    let blame: Blame = from_cbor("blame file", file, BLAME_BYTES_MAX)?;
    let genesis = finality::genesis(&blame.genesis, genesis_id)?;
    let malformed = || {
        let why = "the votes are not two of one validator that exclude each other".to_owned();
        Refused::Format(FormatError::Malformed { what: "blame file", why })
    };
    let mut reader = Bytes::copy_from_slice(&blame.act);
    let act = Act::read_cfg(&mut reader, &MEMBERS_MAX).map_err(|_| malformed())?;
    if act.encode() != blame.act {
        return Err(malformed());
    }
    let (misdeed, signer, epoch, view) = match &act {
        Act::ConflictingNotarize(two) => (Misdeed::NotarizedTwo, two.signer(), two.epoch(), two.view()),
        Act::ConflictingFinalize(two) => (Misdeed::FinalizedTwo, two.signer(), two.epoch(), two.view()),
        Act::NullifyFinalize(two) => (Misdeed::FinalizedAfterGivingUp, two.signer(), two.epoch(), two.view()),
        _ => return Err(malformed()),
    };
    let (keys, validators) = finality::deciders(&genesis, &blame.handovers, epoch.get())?;
    let key = *keys.get(usize::from(signer)).ok_or_else(malformed)?;
    let organisation = genesis.members.iter().find(|member| key == member.consensus_key).map(|m| m.org.clone());
    // As for certificates: coefficients that follow from all that is checked.
    let seed = sha256(&[SEED_DOMAIN, genesis_id.as_ref(), &blame.act]);
    let verifier = ed25519::Scheme::verifier(&genesis.namespace(), validators);
    if !act.verify(&mut StdRng::from_seed(seed.0), &verifier, &Sequential) {
        return Err(Refused::NotTheirVotes { validator: key.0 });
    }
    let (epoch, view) = (epoch.get(), view.get());
    Ok(Blamed { chain: *genesis_id, validator: key, organisation, misdeed, epoch, view })
}
