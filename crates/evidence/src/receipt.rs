//! COSE receipts: that an entry stands in the log over all entries, in the form of RFC 9942.
//!
//! A receipt is a COSE_Sign1 (RFC 9052) whose payload, the log's root, is detached: whoever checks it computes the root from the entry's
//! leaf and the path. The path stands in the header that is not signed, so that one signature over a root serves all entries under it.
//! Layout: `spec/receipts.md`.

use crate::signed;
use contract::{PublicKey, Signature, merkle};
use coset::{
    CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, TaggedCborSerializable, cbor::value::Value,
    iana::Algorithm,
};
use minicbor::{Decode, Encode};
use record::{Digest, OrgId};

/// The longest receipt, in bytes: a path of 65 digests, and less than 1 KiB around it.
pub const RECEIPT_BYTES_MAX: usize = 4 * 1024;

/// Header parameter «CWT claims». Source: RFC 9597.
const CWT_CLAIMS: i64 = 15;
/// Claim «issuer». Source: RFC 8392.
const ISSUER: i64 = 1;
/// Header parameter «verifiable data structure». Source: RFC 9942.
const VDS: i64 = 395;
/// The tree of RFC 9162 with SHA-256. Source: RFC 9942.
const RFC9162_SHA256: i64 = 1;
/// Header parameter «verifiable data structure proofs». Source: RFC 9942.
const VDP: i64 = 396;
/// Proofs of inclusion, each a byte string. Source: RFC 9942.
const INCLUSION_PROOFS: i64 = -1;

/// Where a leaf stands in a tree: the inclusion proof of RFC 9942 for RFC9162_SHA256.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Inclusion {
    /// Leaves of the tree.
    #[n(0)]
    pub size: u64,
    /// Index of the leaf.
    #[n(1)]
    pub index: u64,
    /// Siblings from the leaf up.
    #[cbor(n(2), decode_with = "crate::bundle::read::path")]
    pub path: Vec<Digest>,
}

/// Why bytes are no receipt of that organisation for that leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReceipt {
    /// Not the one encoding of such a receipt.
    #[error("not a receipt of this organisation in its one encoding")]
    Malformed,
    /// The leaf does not stand there, or the organisation did not sign that root.
    #[error("the receipt is not for this entry, or not signed by this key")]
    Signature,
}

/// What the signature of a receipt is over: the same for every entry under the root.
pub(crate) fn message(chain: &Digest, org: &OrgId, key: &PublicKey, root: &Digest) -> Vec<u8> {
    let sign1 = CoseSign1Builder::new().protected(protected(chain, org, key)).build();
    sign1.tbs_detached_data(root.as_ref(), &[])
}

/// A receipt for one entry, from an organisation's signature over the root and the entry's place in the tree.
pub fn receipt(chain: &Digest, org: &OrgId, key: &PublicKey, signature: &Signature, inclusion: &Inclusion) -> Vec<u8> {
    let proofs = Value::Array(vec![Value::Bytes(contract::to_cbor(inclusion))]);
    let unprotected =
        HeaderBuilder::new().value(VDP, Value::Map(vec![(Value::from(INCLUSION_PROOFS), proofs)])).build();
    let sign1 = CoseSign1Builder::new()
        .protected(protected(chain, org, key))
        .unprotected(unprotected)
        .signature(signature.0.to_vec())
        .build();
    match sign1.to_tagged_vec() {
        Ok(bytes) => bytes,
        Err(_) => unreachable!("a receipt is made of byte strings, integers and one text"),
    }
}

/// Reads a receipt of an organisation, and checks that it is for the leaf. The key is from whoever trusts it, not from the receipt.
pub fn read_receipt(
    bytes: &[u8],
    chain: &Digest,
    org: &OrgId,
    key: &PublicKey,
    leaf: &Digest,
) -> Result<(merkle::TreeHead, Inclusion), BadReceipt> {
    if bytes.len() > RECEIPT_BYTES_MAX {
        return Err(BadReceipt::Malformed);
    }
    let sign1 = CoseSign1::from_tagged_slice(bytes).map_err(|_| BadReceipt::Malformed)?;
    let inclusion = inclusion(&sign1.unprotected).ok_or(BadReceipt::Malformed)?;
    let signature = Signature(sign1.signature.as_slice().try_into().map_err(|_| BadReceipt::Malformed)?);
    // Whatever else a receipt could say is refused with this, so that it has one reading.
    if receipt(chain, org, key, &signature, &inclusion) != bytes {
        return Err(BadReceipt::Malformed);
    }
    let root = merkle::root_of(leaf, inclusion.index, &inclusion.path, inclusion.size).ok_or(BadReceipt::Signature)?;
    if !signed::holds(key, &message(chain, org, key, &root), &signature) {
        return Err(BadReceipt::Signature);
    }
    Ok((merkle::TreeHead { size: inclusion.size, root }, inclusion))
}

/// The protected header: algorithm, key, issuer, kind of tree.
fn protected(chain: &Digest, org: &OrgId, key: &PublicKey) -> Header {
    let claims = vec![(Value::from(ISSUER), Value::from(signed::name(chain, org)))];
    HeaderBuilder::new()
        .algorithm(Algorithm::EdDSA)
        .key_id(key.as_bytes().to_vec())
        .value(CWT_CLAIMS, Value::Map(claims))
        .value(VDS, Value::from(RFC9162_SHA256))
        .build()
}

fn inclusion(unprotected: &Header) -> Option<Inclusion> {
    let (_, proofs) = unprotected.rest.iter().find(|(label, _)| *label == Label::Int(VDP))?;
    let (_, proofs) = proofs.as_map()?.first()?;
    let proof = proofs.as_array()?.first()?.as_bytes()?;
    contract::from_cbor("inclusion proof", proof, RECEIPT_BYTES_MAX).ok()
}
