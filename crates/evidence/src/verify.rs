//! `verify`: from untrusted bytes and a genesis id to a report, or a refusal that names what is wrong and where.

use crate::{
    BadLog, Bundle, Parts, Report, StateProof, assemble, current, device,
    finality::{self, Final, KnownBlock},
    gathered, log, opened, place, report, state, witness,
};
use contract::{
    BadGenesis, FormatError, PolicyKind, PublicKey,
    state::{ActivePolicy, Key, VALUE_BYTES_MAX, policy_key},
};
use minicbor::{Decode, Encode};
use record::{Digest, Id16, Month, OrgId, RecordTag};
use std::fmt;

/// How much a verifier is willing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest file, in bytes.
    pub bundle_bytes_max: usize,
    /// The most months.
    pub months_max: usize,
    /// The most entries over all months, with the accesses that are opened of those that commit to several.
    pub entries_max: usize,
    /// The most opened records.
    pub opened_max: usize,
}

impl Default for Limits {
    /// 256 MiB, a hundred years, 200,000 entries and as many opened records.
    fn default() -> Self {
        Self { bundle_bytes_max: 256 * 1024 * 1024, months_max: 1_200, entries_max: 200_000, opened_max: 200_000 }
    }
}

/// Why a file proves nothing. All of these are the file's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too long, malformed, or not the deterministic encoding.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Does not begin with the name of the format.
    #[error("the file is not in the format `{expected}`")]
    UnknownFormat {
        /// What this software reads.
        expected: &'static str,
    },
    /// More than the verifier is willing to read.
    #[error("{got} {what} are more than the {max} allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// In the file.
        got: usize,
        /// Allowed.
        max: usize,
    },
    /// The genesis document is malformed.
    #[error("genesis document: {0}")]
    Genesis(#[from] BadGenesis),
    /// The votes in a blame file are not signed by the validator that they name.
    #[error("the votes are not those of the validator `{validator}`")]
    NotTheirVotes {
        /// The consensus key whose they are said to be.
        validator: Digest,
    },
    /// Evidence of another consortium.
    #[error("the file is about the consortium `{got}`, not `{expected}`")]
    OtherGenesis {
        /// Id of the genesis document in the file.
        got: Digest,
        /// The id that the verifier trusts.
        expected: Digest,
    },
    /// A header of a version that this software does not know.
    #[error("header version {version} is unknown")]
    UnknownHeader {
        /// The version it names.
        version: u32,
    },
    /// The header belongs to another chain.
    #[error("the header belongs to the chain `{got}`")]
    OtherChain {
        /// The chain it names.
        got: Digest,
    },
    /// A header was decided by others than the founders, or those to whom the blocks before it handed over.
    #[error("the header was decided by other validators than those before it handed over to")]
    OtherValidators,
    /// Handovers out of order.
    #[error("the changes of validators are not in the order of their heights, before the header")]
    Handovers,
    /// A header names an epoch that its height does not belong to.
    #[error("the header of height {height} is not of the epoch that it names")]
    OtherEpoch {
        /// The header's height.
        height: u64,
    },
    /// The evidence passes by the checkpoint.
    #[error("the evidence does not go through the checkpoint at height {height}: ask for evidence that does")]
    NotThroughCheckpoint {
        /// The checkpoint's height.
        height: u64,
    },
    /// At the checkpoint's height the evidence has another block.
    #[error("the evidence is of another history: it has another block at the checkpoint's height {height}")]
    OtherHistory {
        /// The checkpoint's height.
        height: u64,
    },
    /// The certificate is not in the engine's encoding.
    #[error("the certificate is malformed")]
    MalformedCertificate,
    /// The certificate is about another header.
    #[error("the certificate is for the header `{certified}`, the file gives `{given}`")]
    OtherHeader {
        /// What was signed.
        certified: Digest,
        /// What the file gives.
        given: Digest,
    },
    /// Too few validators signed, or a signature does not hold.
    #[error("the certificate of height {height} is not signed by a quorum of the validators")]
    NoQuorum {
        /// The header's height.
        height: u64,
    },
    /// A state proof does not hold, or its value is malformed.
    #[error("the state proof of {subject} does not hold under the header")]
    State {
        /// What it is about.
        subject: Subject,
    },
    /// A month does not hold.
    #[error("{month}: {why}")]
    Month {
        /// Which month.
        month: Month,
        /// What is wrong with it.
        why: BadLog,
    },
    /// The bytes of an opened record are not what any entry commits to.
    #[error("the bytes given for `{record}` version {version} are not those that the ledger has a commitment to")]
    OtherBytes {
        /// `Type/id`.
        record: String,
        /// Its version.
        version: u64,
    },
    /// A record is opened twice.
    #[error("`{record}` version {version} is given twice")]
    OpenedTwice {
        /// `Type/id`.
        record: String,
        /// Its version.
        version: u64,
    },
    /// Opened records are not in the one order that the format allows.
    #[error("`{record}` version {version} stands behind one that it belongs before")]
    OpenedOrder {
        /// `Type/id`.
        record: String,
        /// Its version.
        version: u64,
    },
    /// The bytes of an opened record are another record than the file says.
    #[error("the bytes given for `{record}` version {version} are those of another record")]
    Misnamed {
        /// `Type/id`.
        record: String,
        /// Its version.
        version: u64,
    },
    /// Items are not in the one order that the format allows, or one is given twice.
    #[error("the {what} in the file are not in order, or one is given twice")]
    Order {
        /// Of what.
        what: &'static str,
    },
    /// An entry of the file is later than what the file calls the current version.
    #[error("the file has a later version of the record `{}` than the one that it calls current", tag.0)]
    NotCurrent {
        /// The record.
        tag: RecordTag,
    },
    /// What is current is given of an audit event, of which the state holds nothing: its absence there would say nothing.
    #[error("`{}` is an audit event's tag, of which the state holds nothing", tag.0)]
    CurrentOfAudit {
        /// The audit event.
        tag: RecordTag,
    },
    /// A device key is given of a binding that no batch of the file is under.
    #[error("no batch in the file is under the binding `{binding}`, whose device key is given")]
    NoBatch {
        /// The binding.
        binding: Id16,
    },
    /// The key of a binding is another device's.
    #[error("the key of the binding `{binding}` is another device's")]
    OtherDevice {
        /// The binding.
        binding: Id16,
    },
    /// An entry does not stand where the file says in the log over all entries.
    #[error("{month}: entry {entry} does not stand at the place given in the log of all entries")]
    Place {
        /// The month that gives the entry.
        month: Month,
        /// Its index there.
        entry: u64,
    },
    /// An entry does not commit to an access that the file gives of it, or not at this place, or to something that may not be gathered.
    #[error("{month}: entry {entry} does not open as the access given at its place {place}")]
    Gathered {
        /// The month that gives the entry.
        month: Month,
        /// Its index there.
        entry: u64,
        /// The place of the access among those of the entry.
        place: u32,
    },
    /// The word of an organisation on the log over all entries does not hold.
    #[error("what the file calls the signatures of `{organisation}` on the log of all entries does not hold")]
    Word {
        /// Whose they are said to be.
        organisation: OrgId,
    },
}

/// What a state proof is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The access policy in force.
    AccessPolicy,
    /// The derivation policy in force.
    DerivationPolicy,
    /// The head of a record.
    Record(RecordTag),
    /// A binding of a device.
    Binding(Id16),
    /// A key that frames are signed by.
    DeviceKey(PublicKey),
    /// A member.
    Member(OrgId),
    /// Who the members are.
    Roll,
}
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessPolicy => f.write_str("the access policy"),
            Self::DerivationPolicy => f.write_str("the derivation policy"),
            Self::Record(tag) => write!(f, "the record `{}`", tag.0),
            Self::Binding(id) => write!(f, "the binding `{id}`"),
            Self::DeviceKey(key) => write!(f, "the device key `{}`", key.0),
            Self::Member(org) => write!(f, "the member `{org}`"),
            Self::Roll => f.write_str("the roll of members"),
        }
    }
}

/// Checks a bundle from scratch: consortium, validators, certificate, state, logs, links, opened records, and what else it claims.
///
/// `genesis_id` is all that is trusted. The same bytes always get the same answer.
pub fn verify(bundle: &[u8], genesis_id: &Digest, limits: &Limits) -> Result<Report, Refused> {
    verify_through(bundle, genesis_id, None, limits)
}

/// As [`verify`], and the evidence must go through a block that the reader knows to be final.
pub fn verify_through(
    bundle: &[u8],
    genesis_id: &Digest,
    checkpoint: Option<&KnownBlock>,
    limits: &Limits,
) -> Result<Report, Refused> {
    let size = bundle.len();
    let bundle = Bundle::from_bytes(bundle, limits)?;
    let at = finality::check(bundle.finality(), genesis_id, checkpoint)?;
    let policies = bundle.policies();
    let access = policy(PolicyKind::Access, &policies.access, &at)?;
    let derivation = policy(PolicyKind::Derivation, &policies.derivation, &at)?;
    let mut months = Vec::with_capacity(bundle.months().len());
    for part in bundle.months() {
        let checked = log::check(part, &months, &at).map_err(|why| Refused::Month { month: part.month, why })?;
        months.push(checked);
    }
    let entries = || months.iter().flat_map(|month| &month.entries);
    let accesses = gathered::check(bundle.accesses(), &months)?;
    let contents = opened::check(bundle.opened(), entries().chain(accesses.all()))?;
    let current = current::check(bundle.current(), entries(), &at)?;
    let batches = device::batches(entries());
    let devices = device::check(bundle.devices(), &batches, &at)?;
    let places = place::check(bundle.places(), &months, &at)?;
    let witnesses = witness::check(bundle.witnesses(), &at)?;
    Ok(report::report(&report::Verified {
        at: &at,
        access,
        derivation,
        months: &months,
        accesses: &accesses,
        contents: &contents,
        current: &current,
        batches: &batches,
        devices: &devices,
        places: &places,
        witnesses: &witnesses,
        size,
    }))
}

/// Assembles a bundle and verifies it, so that no prover hands out what a stranger would refuse.
pub fn prove(parts: Parts, genesis_id: &Digest, limits: &Limits) -> Result<(Vec<u8>, Report), Refused> {
    let bytes = assemble(parts).to_bytes();
    let report = verify(&bytes, genesis_id, limits)?;
    Ok((bytes, report))
}

fn policy(kind: PolicyKind, proof: &StateProof, at: &Final) -> Result<ActivePolicy, Refused> {
    let subject = match kind {
        PolicyKind::Access => Subject::AccessPolicy,
        PolicyKind::Derivation => Subject::DerivationPolicy,
    };
    value(subject, &policy_key(kind), proof, at)
}

/// A value of the state that the header commits to.
pub(crate) fn value<T>(subject: Subject, key: &Key, proof: &StateProof, at: &Final) -> Result<T, Refused>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    let bad = Refused::State { subject };
    if !state::current(key, proof, &at.header.state_root) {
        return Err(bad);
    }
    contract::from_cbor("state value", &proof.value, VALUE_BYTES_MAX).map_err(|_| bad)
}
