//! Finality: that a quorum of those who decided signed a header, from the founders' validators on.

use crate::{Finality, Handover, Refused};
use bytes::Bytes;
use commonware_codec::{DecodeExt as _, Encode as _, Read as _};
use commonware_consensus::simplex::{scheme::ed25519, types::Finalization};
use commonware_cryptography::{ed25519::PublicKey as EngineKey, sha256};
use commonware_parallel::Sequential;
use commonware_utils::{TryCollect as _, ordered::Set};
use contract::{Genesis, HEADER_VERSION, Header, PublicKey, validators_digest};
use rand::{SeedableRng as _, rngs::StdRng};
use record::{Digest, sha256};

const SEED_DOMAIN: &[u8] = b"vitaltrace/certificate-check/1\0";

/// A final header that was checked, and who decided it: where a node may begin that has nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The header.
    pub header: Header,
    /// Consensus keys of those who decided its epoch, sorted.
    pub validators: Vec<PublicKey>,
}

/// Checks, from the genesis id alone, that a header is final, and that what proves it goes through the checkpoint, if there is one.
pub fn anchor(finality: &Finality, genesis_id: &Digest, checkpoint: Option<&KnownBlock>) -> Result<Anchor, Refused> {
    let Final { header, keys, .. } = check(finality, genesis_id, checkpoint)?;
    Ok(Anchor { header, validators: keys })
}

/// A header that a quorum signed.
#[derive(Debug)]
pub(crate) struct Final {
    /// The consortium.
    pub(crate) genesis: Genesis,
    /// What was signed.
    pub(crate) header: Header,
    /// Name of the block.
    pub(crate) digest: Digest,
    /// How many validators signed.
    pub(crate) signers: usize,
    /// How many validators there were.
    pub(crate) validators: usize,
    /// Their consensus keys, sorted.
    pub(crate) keys: Vec<PublicKey>,
}

/// A final block that the reader knows to be one: its height and its header's digest, from a node or from evidence that was checked before.
///
/// The keys of those who decided long ago may have got into wrong hands since, and could sign another history from there on. Evidence that
/// goes through a later checkpoint is none of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownBlock {
    /// Height of the block.
    pub height: u64,
    /// Digest of its header.
    pub block: Digest,
}

/// Why a text names no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is HEIGHT:DIGEST, with 64 hexadecimal digits")]
pub struct BadKnownBlock;

impl std::str::FromStr for KnownBlock {
    type Err = BadKnownBlock;

    /// Reads `HEIGHT:DIGEST`.
    fn from_str(text: &str) -> Result<Self, BadKnownBlock> {
        let (height, block) = text.split_once(':').ok_or(BadKnownBlock)?;
        let height = height.parse().map_err(|_| BadKnownBlock)?;
        Ok(Self { height, block: block.parse().map_err(|_| BadKnownBlock)? })
    }
}

/// Who decides, as far as the evidence was followed.
struct Trust {
    /// The epoch of the last header.
    epoch: u64,
    /// Who decides that epoch.
    now: Vec<PublicKey>,
    /// Who decides every later one, until a header says otherwise.
    next: Vec<PublicKey>,
}

/// Checks, from the genesis id alone: document, validator sets, header, certificate; and that all goes through the checkpoint, if there is one.
pub(crate) fn check(
    finality: &Finality,
    genesis_id: &Digest,
    checkpoint: Option<&KnownBlock>,
) -> Result<Final, Refused> {
    let genesis = genesis(&finality.genesis, genesis_id)?;
    let (trust, mut passed) = follow(&genesis, &finality.handovers, checkpoint)?;
    let header = header(&genesis, genesis_id, &finality.header)?;
    if finality.handovers.last().is_some_and(|last| at_or_above(last, header.height)) {
        return Err(Refused::Handovers);
    }
    let set = trust.set(&header)?;
    let digest = header.digest();
    let signers = quorum(&genesis, set, &header, &digest, &finality.certificate)?;
    passed |= meets(&header, &digest, checkpoint)?;
    if let Some(checkpoint) = checkpoint.filter(|_| !passed) {
        return Err(Refused::NotThroughCheckpoint { height: checkpoint.height });
    }
    let (validators, keys) = (set.len(), set.to_vec());
    Ok(Final { genesis, header, digest, signers, validators, keys })
}

/// From the founders' set by one handover after the other to those who decide after the last; and whether the checkpoint was among them.
fn follow(
    genesis: &Genesis,
    handovers: &[Handover],
    checkpoint: Option<&KnownBlock>,
) -> Result<(Trust, bool), Refused> {
    let mut trust = Trust { epoch: 0, now: genesis.validators(), next: genesis.validators() };
    let (mut height, mut passed) = (0, false);
    for handover in handovers {
        let header = header(genesis, &genesis.id(), &handover.header)?;
        if header.height <= height {
            return Err(Refused::Handovers);
        }
        height = header.height;
        let set = trust.set(&header)?.to_vec();
        let digest = header.digest();
        quorum(genesis, &set, &header, &digest, &handover.certificate)?;
        if validators_digest(&handover.validators) != header.next_validators {
            return Err(Refused::OtherValidators);
        }
        passed |= meets(&header, &digest, checkpoint)?;
        trust = Trust { epoch: header.epoch, now: set, next: handover.validators.clone() };
    }
    Ok((trust, passed))
}

impl Trust {
    /// Who decides the header, if the header says the same.
    fn set(&self, header: &Header) -> Result<&[PublicKey], Refused> {
        let set = if header.epoch > self.epoch { &self.next } else { &self.now };
        if header.validators == validators_digest(set) { Ok(set) } else { Err(Refused::OtherValidators) }
    }
}

fn at_or_above(handover: &Handover, height: u64) -> bool {
    Header::from_bytes(&handover.header).is_ok_and(|header| header.height >= height)
}

/// Whether a final header is the checkpoint's. One of its height and another digest is of another history.
fn meets(header: &Header, digest: &Digest, checkpoint: Option<&KnownBlock>) -> Result<bool, Refused> {
    match checkpoint.filter(|checkpoint| checkpoint.height == header.height) {
        None => Ok(false),
        Some(checkpoint) if checkpoint.block == *digest => Ok(true),
        Some(checkpoint) => Err(Refused::OtherHistory { height: checkpoint.height }),
    }
}

/// A header of the chain, in the epoch of its height.
fn header(genesis: &Genesis, genesis_id: &Digest, bytes: &[u8]) -> Result<Header, Refused> {
    let header = Header::from_bytes(bytes)?;
    if header.version != HEADER_VERSION {
        return Err(Refused::UnknownHeader { version: header.version });
    }
    if header.chain != *genesis_id {
        return Err(Refused::OtherChain { got: header.chain });
    }
    if header.epoch != genesis.epoch(header.height) {
        return Err(Refused::OtherEpoch { height: header.height });
    }
    Ok(header)
}

/// The genesis document, if it has the id.
pub(crate) fn genesis(bytes: &[u8], genesis_id: &Digest) -> Result<Genesis, Refused> {
    let genesis = Genesis::from_bytes(bytes)?;
    let got = genesis.id();
    if got != *genesis_id {
        return Err(Refused::OtherGenesis { got, expected: *genesis_id });
    }
    Ok(genesis)
}

/// Keys in the engine's order, which must be theirs.
fn engine_set(keys: &[PublicKey]) -> Result<Set<EngineKey>, Refused> {
    if keys.is_empty() || keys.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(Refused::OtherValidators);
    }
    let keys =
        keys.iter().map(|key| EngineKey::decode(Bytes::copy_from_slice(key.as_bytes()))).collect::<Result<Vec<_>, _>>();
    keys.map_err(|_| Refused::OtherValidators)?.into_iter().try_collect().map_err(|_| Refused::OtherValidators)
}

/// Who decided `epoch`, by the handovers before it, with their keys in the engine's order.
pub(crate) fn deciders(
    genesis: &Genesis,
    handovers: &[Handover],
    epoch: u64,
) -> Result<(Vec<PublicKey>, Set<EngineKey>), Refused> {
    let (trust, _) = follow(genesis, handovers, None)?;
    if epoch < trust.epoch {
        return Err(Refused::Handovers);
    }
    let keys = if epoch > trust.epoch { trust.next } else { trust.now };
    let set = engine_set(&keys)?;
    Ok((keys, set))
}

/// How many validators signed `digest`, when they are a quorum.
fn quorum(
    genesis: &Genesis,
    keys: &[PublicKey],
    header: &Header,
    digest: &Digest,
    certificate: &[u8],
) -> Result<usize, Refused> {
    let validators = engine_set(keys)?;
    let mut reader = Bytes::copy_from_slice(certificate);
    let finalization = Finalization::<ed25519::Scheme, sha256::Digest>::read_cfg(&mut reader, &validators.len())
        .map_err(|_| Refused::MalformedCertificate)?;
    if finalization.encode() != certificate {
        return Err(Refused::MalformedCertificate);
    }
    let certified = Digest(finalization.proposal.payload.0);
    if certified != *digest {
        return Err(Refused::OtherHeader { certified, given: *digest });
    }
    if finalization.proposal.round.epoch().get() != header.epoch {
        return Err(Refused::NoQuorum { height: header.height });
    }
    // Signatures are checked as one batch, with coefficients that nobody may know before the signatures are fixed. Drawn from a digest
    // of all that is checked they are as good as random ones, and the same input always gets the same answer.
    let seed = sha256(&[SEED_DOMAIN, genesis.id().as_ref(), &header.to_bytes(), certificate]);
    let mut coefficients = StdRng::from_seed(seed.0);
    let verifier = ed25519::Scheme::verifier(&genesis.namespace(), validators);
    if finalization.verify(&mut coefficients, &verifier, &Sequential) {
        Ok(finalization.certificate.signatures.len())
    } else {
        Err(Refused::NoQuorum { height: header.height })
    }
}
