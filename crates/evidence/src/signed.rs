//! Signatures of organisations, and the names that their receipts and cosignatures go by.

use contract::{PublicKey, Signature};
use ed25519_dalek::VerifyingKey;
use record::{Digest, OrgId};

/// What a log over all entries is called: the first line of its checkpoints. Source: C2SP tlog-checkpoint, «origin».
pub(crate) fn origin(chain: &Digest) -> String {
    format!("vitaltrace/{}", chain.to_hex())
}

/// What an organisation is called that says something about that log: issuer of its receipts, name of its cosignatures.
pub(crate) fn name(chain: &Digest, org: &OrgId) -> String {
    format!("{}/{org}", origin(chain))
}

/// Whether the key signed the message, by RFC 8032 without its cofactor, and neither key nor signature is of small order.
pub(crate) fn holds(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key.as_bytes()) else { return false };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}
