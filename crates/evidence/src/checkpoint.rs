//! Checkpoints: a head of the log over all entries, cosigned by organisations, as the signed notes of C2SP.
//!
//! Source: c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature (`cosignature/v1`), c2sp.org/signed-note. Layout: `spec/receipts.md`.

use crate::signed;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contract::{PublicKey, Signature, merkle::TreeHead};
use record::{Digest, OrgId, sha256};

/// The longest note, in bytes: 256 members with a line of less than 250 bytes each, and the body.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;

/// What a signature line begins with: an em dash and a space. Source: c2sp.org/signed-note.
const LINE: &str = "\u{2014} ";
/// Kind of a key that makes `cosignature/v1`. Source: c2sp.org/signed-note.
const COSIGNATURE_V1: u8 = 0x04;
/// Bytes of a key's id, of a time, of a signature.
const COSIGNED_BYTES: usize = 4 + 8 + 64;

/// An organisation's cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Whose.
    pub org: OrgId,
    /// Its entry key.
    pub key: PublicKey,
    /// When, in seconds since 1970, by its own clock.
    pub time_s: u64,
    /// The signature.
    pub signature: Signature,
}

/// A checkpoint that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Size and root of the log over all entries.
    pub head: TreeHead,
    /// Cosignatures that hold, in the note's order.
    pub cosignatures: Vec<Cosignature>,
}

/// Why a text is no checkpoint of this consortium.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// Longer than a note may be.
    #[error("{got} bytes are more than the {CHECKPOINT_BYTES_MAX} allowed")]
    TooLarge {
        /// How many bytes came.
        got: usize,
    },
    /// Not a note with a checkpoint.
    #[error("not a checkpoint in the form of a signed note")]
    Malformed,
    /// The checkpoint of another log.
    #[error("a checkpoint of another log than `{expected}`")]
    OtherLog {
        /// What this consortium's log is called.
        expected: String,
    },
    /// A line by a known key does not hold.
    #[error("the cosignature of `{0}` does not hold")]
    Signature(OrgId),
}

/// What is cosigned of a head, but for the time: the note without its signatures.
fn body(chain: &Digest, head: &TreeHead) -> String {
    format!("{}\n{}\n{}\n", signed::origin(chain), head.size, STANDARD.encode(head.root.as_ref()))
}

/// What a cosignature is over.
pub(crate) fn message(chain: &Digest, head: &TreeHead, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{}", body(chain, head)).into_bytes()
}

/// Names a key in a signature line.
fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let digest = sha256(&[name.as_bytes(), b"\n", &[COSIGNATURE_V1], key.as_bytes()]);
    let [a, b, c, d, ..] = digest.0;
    [a, b, c, d]
}

/// The note: head and cosignatures, a line each.
pub fn checkpoint(chain: &Digest, head: &TreeHead, cosignatures: &[Cosignature]) -> String {
    let mut note = body(chain, head) + "\n";
    for Cosignature { org, key, time_s, signature } in cosignatures {
        let name = signed::name(chain, org);
        let bytes = [&key_id(&name, key)[..], &time_s.to_be_bytes(), &signature.0].concat();
        note += &format!("{LINE}{name} {}\n", STANDARD.encode(bytes));
    }
    note
}

/// Reads a checkpoint of the consortium, and checks every line by a key that `key_of` knows; others are passed over, as C2SP asks.
pub fn read_checkpoint(
    note: &[u8],
    chain: &Digest,
    key_of: impl Fn(&OrgId) -> Option<PublicKey>,
) -> Result<Checkpoint, BadCheckpoint> {
    if note.len() > CHECKPOINT_BYTES_MAX {
        return Err(BadCheckpoint::TooLarge { got: note.len() });
    }
    let note = str::from_utf8(note).map_err(|_| BadCheckpoint::Malformed)?;
    let (text, lines) = note.split_once("\n\n").ok_or(BadCheckpoint::Malformed)?;
    let expected = signed::origin(chain);
    let mut fields = text.split('\n');
    if fields.next() != Some(&expected) {
        return Err(BadCheckpoint::OtherLog { expected });
    }
    let head = head(fields.next(), fields.next()).ok_or(BadCheckpoint::Malformed)?;
    // The one form of the body: nothing else may stand in it, and numbers have no other spelling.
    if format!("{text}\n") != body(chain, &head) || !lines.ends_with('\n') {
        return Err(BadCheckpoint::Malformed);
    }
    let mut cosignatures: Vec<Cosignature> = Vec::new();
    for line in lines.lines() {
        let line = line.strip_prefix(LINE).ok_or(BadCheckpoint::Malformed)?;
        let (name, encoded) = line.split_once(' ').ok_or(BadCheckpoint::Malformed)?;
        let org = name.strip_prefix(&expected).and_then(|rest| rest.strip_prefix('/')).and_then(|org| org.parse().ok());
        let Some((org, key)) = org.and_then(|org: OrgId| key_of(&org).map(|key| (org, key))) else { continue };
        let bytes = STANDARD.decode(encoded).map_err(|_| BadCheckpoint::Malformed)?;
        let Some((id, rest)) = bytes.split_first_chunk::<4>() else { return Err(BadCheckpoint::Malformed) };
        if *id != key_id(name, &key) {
            continue;
        }
        let cosignature = cosigned(org, key, rest).filter(|_| bytes.len() == COSIGNED_BYTES);
        let cosignature = cosignature.ok_or(BadCheckpoint::Malformed)?;
        let message = message(chain, &head, cosignature.time_s);
        if !signed::holds(&key, &message, &cosignature.signature) {
            return Err(BadCheckpoint::Signature(cosignature.org));
        }
        if !cosignatures.contains(&cosignature) {
            cosignatures.push(cosignature);
        }
    }
    Ok(Checkpoint { head, cosignatures })
}

fn head(size: Option<&str>, root: Option<&str>) -> Option<TreeHead> {
    let root = STANDARD.decode(root?).ok()?;
    Some(TreeHead { size: size?.parse().ok()?, root: Digest(root.try_into().ok()?) })
}

fn cosigned(org: OrgId, key: PublicKey, bytes: &[u8]) -> Option<Cosignature> {
    let (time, signature) = bytes.split_first_chunk::<8>()?;
    Some(Cosignature { org, key, time_s: u64::from_be_bytes(*time), signature: Signature(signature.try_into().ok()?) })
}
