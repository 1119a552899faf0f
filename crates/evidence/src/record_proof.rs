//! The light check of one record: that these bytes are its current version.

use crate::{
    Finality, KnownBlock, Limits, Refused, StateProof, Subject,
    bundle::{check_format, read},
    finality,
    opened::resource_name,
    report::RecordProven,
    verify::value,
};
use contract::{
    from_cbor,
    state::{RecordHead, record_key},
    to_cbor,
};
use minicbor::{Decode, Encode};
use record::{Digest, RecordTag, Salt, commit};

/// First element of every record proof; the number is the format's version.
pub const RECORD_PROOF_FORMAT: &str = "vitaltrace/record-proof/1";

/// One record's current version with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RecordProof {
    #[n(0)]
    format: String,
    #[n(1)]
    finality: Finality,
    #[n(2)]
    tag: RecordTag,
    #[n(3)]
    head: StateProof,
    #[n(4)]
    salt: Salt,
    #[cbor(n(5), encode_with = "minicbor::bytes::encode", decode_with = "read::record_bytes")]
    bytes: Vec<u8>,
}

impl RecordProof {
    /// Puts a proof together from what the ledger proves about `tag` and what the database keeps of it.
    pub fn new(finality: Finality, tag: RecordTag, head: StateProof, salt: Salt, bytes: Vec<u8>) -> Self {
        Self { format: RECORD_PROOF_FORMAT.to_owned(), finality, tag, head, salt, bytes }
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// The record's bytes in a file, as they were written. They are worth what [`verify_record`] says of the file.
    pub fn record(file: &[u8], limits: &Limits) -> Result<Vec<u8>, Refused> {
        Ok(read_proof(file, limits)?.bytes)
    }
}

/// Whether a file says that it is a record proof.
pub fn is_record_proof(file: &[u8], limits: &Limits) -> bool {
    check_format(file, limits.bundle_bytes_max, RECORD_PROOF_FORMAT).is_ok()
}

fn read_proof(file: &[u8], limits: &Limits) -> Result<RecordProof, Refused> {
    check_format(file, limits.bundle_bytes_max, RECORD_PROOF_FORMAT)?;
    Ok(from_cbor("record proof", file, limits.bundle_bytes_max)?)
}

/// Checks that the proof's bytes are the record's current version, from the genesis id alone.
pub fn verify_record(proof: &[u8], genesis_id: &Digest, limits: &Limits) -> Result<RecordProven, Refused> {
    verify_record_through(proof, genesis_id, None, limits)
}

/// As [`verify_record`], and refuses a proof whose ledger does not go through the block that the reader knows.
pub fn verify_record_through(
    proof: &[u8],
    genesis_id: &Digest,
    known: Option<&KnownBlock>,
    limits: &Limits,
) -> Result<RecordProven, Refused> {
    let proof = read_proof(proof, limits)?;
    let at = finality::check(&proof.finality, genesis_id, known)?;
    let head: RecordHead = value(Subject::Record(proof.tag), &record_key(&proof.tag), &proof.head, &at)?;
    let name = resource_name(&proof.bytes);
    if commit(&proof.salt, &proof.bytes) != head.commitment {
        let record = name.unwrap_or_else(|| proof.tag.0.to_hex());
        return Err(Refused::OtherBytes { record, version: head.version });
    }
    Ok(RecordProven {
        chain: *genesis_id,
        height: at.header.height,
        time: at.header.time,
        tag: proof.tag,
        name,
        version: head.version,
        deleted: head.deleted,
        organisation: head.org,
        written_at_height: head.height,
        bytes: proof.bytes.len(),
    })
}
