//! How many overrides of each member nobody has reviewed: the ledger's own count, with its proof.

use crate::{
    Finality, KnownBlock, Limits, Refused, StateProof, Subject,
    bundle::{check_format, read},
    finality,
    verify::value,
};
use contract::{
    from_cbor,
    state::{Organisation, Roll, organisation_key, roll_key},
    to_cbor,
};
use minicbor::{Decode, Encode};
use record::{Digest, OrgId, TimeMs};
use serde::Serialize;

/// First element of every such proof; the number is the format's version.
pub const UNREVIEWED_FORMAT: &str = "vitaltrace/unreviewed/1";

/// The counts of all members with their proofs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct UnreviewedProof {
    #[n(0)]
    format: String,
    #[n(1)]
    finality: Finality,
    /// Who the members are, so that none is left out.
    #[n(2)]
    roll: StateProof,
    /// Of each member, in the roll's order.
    #[cbor(n(3), decode_with = "read::members")]
    members: Vec<StateProof>,
}

/// What a proof says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreviewed {
    /// Of the block.
    pub height: u64,
    /// Of the block.
    pub time: TimeMs,
    /// Every member, with the number of its overrides that nobody has reviewed.
    pub members: Vec<(OrgId, u64)>,
}

impl UnreviewedProof {
    /// Puts a proof together from what the ledger proves of the roll, and of each member in its order.
    pub fn new(finality: Finality, roll: StateProof, members: Vec<StateProof>) -> Self {
        Self { format: UNREVIEWED_FORMAT.to_owned(), finality, roll, members }
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }
}

impl Unreviewed {
    /// The same in words, a sentence for each member.
    pub fn sentences(&self) -> Vec<String> {
        let at = format!("at height {} ({})", self.height, self.time);
        let sentence = |(org, count): &(OrgId, u64)| match count {
            0 => format!("{org}: every override that it opened is reviewed, {at}"),
            1 => format!("{org}: 1 override that it opened is not reviewed, {at}"),
            count => format!("{org}: {count} overrides that it opened are not reviewed, {at}"),
        };
        self.members.iter().map(sentence).collect()
    }
}

/// Whether a file says that it is such a proof.
pub fn is_unreviewed(file: &[u8], limits: &Limits) -> bool {
    check_format(file, limits.bundle_bytes_max, UNREVIEWED_FORMAT).is_ok()
}

/// Checks the counts, from the genesis id alone.
pub fn verify_unreviewed(file: &[u8], genesis_id: &Digest, limits: &Limits) -> Result<Unreviewed, Refused> {
    verify_unreviewed_through(file, genesis_id, None, limits)
}

/// As [`verify_unreviewed`], and refuses counts whose ledger does not go through the block that the reader knows.
pub fn verify_unreviewed_through(
    file: &[u8],
    genesis_id: &Digest,
    known: Option<&KnownBlock>,
    limits: &Limits,
) -> Result<Unreviewed, Refused> {
    check_format(file, limits.bundle_bytes_max, UNREVIEWED_FORMAT)?;
    let proof: UnreviewedProof = from_cbor("count of overrides", file, limits.bundle_bytes_max)?;
    let at = finality::check(&proof.finality, genesis_id, known)?;
    let roll: Roll = value(Subject::Roll, &roll_key(), &proof.roll, &at)?;
    if roll.members.len() != proof.members.len() {
        return Err(Refused::State { subject: Subject::Roll });
    }
    let mut members = Vec::with_capacity(roll.members.len());
    for (voter, proven) in roll.members.into_iter().zip(&proof.members) {
        let subject = Subject::Member(voter.org.clone());
        let member: Organisation = value(subject, &organisation_key(&voter.org), proven, &at)?;
        members.push((voter.org, member.unreviewed));
    }
    Ok(Unreviewed { height: at.header.height, time: at.header.time, members })
}
