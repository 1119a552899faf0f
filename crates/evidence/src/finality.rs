//! Finality: that a quorum of the genesis document's validators signed a header.

use crate::{Finality, Refused};
use bytes::Bytes;
use commonware_codec::{DecodeExt as _, Encode as _, Read as _};
use commonware_consensus::simplex::{scheme::ed25519, types::Finalization};
use commonware_cryptography::{ed25519::PublicKey, sha256};
use commonware_parallel::Sequential;
use commonware_utils::{TryCollect as _, ordered::Set};
use contract::{Genesis, HEADER_VERSION, Header};
use rand::{SeedableRng as _, rngs::StdRng};
use record::{Digest, sha256};

const SEED_DOMAIN: &[u8] = b"vitaltrace/certificate-check/1\0";

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
}

/// Checks, from the genesis id alone: document, validator set, header, certificate.
pub(crate) fn check(finality: &Finality, genesis_id: &Digest) -> Result<Final, Refused> {
    let genesis = genesis(&finality.genesis, genesis_id)?;
    let header = Header::from_bytes(&finality.header)?;
    if header.version != HEADER_VERSION {
        return Err(Refused::UnknownHeader { version: header.version });
    }
    if header.chain != *genesis_id {
        return Err(Refused::OtherChain { got: header.chain });
    }
    if header.validators != genesis.validators_digest() {
        return Err(Refused::OtherValidators);
    }
    let digest = header.digest();
    let signers = quorum(&genesis, &header, &digest, &finality.certificate)?;
    Ok(Final { genesis, header, digest, signers })
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

/// The validators' keys in the engine's order.
pub(crate) fn validators(genesis: &Genesis) -> Result<Set<PublicKey>, Refused> {
    let keys = genesis
        .members
        .iter()
        .map(|member| PublicKey::decode(Bytes::copy_from_slice(member.consensus_key.as_bytes())))
        .collect::<Result<Vec<_>, _>>();
    keys.map_err(|_| Refused::OtherValidators)?.into_iter().try_collect().map_err(|_| Refused::OtherValidators)
}

/// How many validators signed `digest`, when they are a quorum.
fn quorum(genesis: &Genesis, header: &Header, digest: &Digest, certificate: &[u8]) -> Result<usize, Refused> {
    let validators = validators(genesis)?;
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
