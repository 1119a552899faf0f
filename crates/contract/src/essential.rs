//! Essential copies: a record's exact bytes, encrypted under the patient key, for the vaults.
//!
//! Format: `spec/essential-copy.md`. Everything that is needed to open a copy stands in the entry that names it and in the patient
//! key, so that recovery works when the database is lost.

use crate::{AttachmentKind, Body, Entry};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use minicbor::{Decode, Encode, bytes::ByteVec};
use record::{Commitment, Digest, Id16, OrgId, PatientKey, RecordTag, Salt, commit, record_tag, salt, sha256};
use sha2::Sha256;
use zeroize::Zeroizing;

/// First byte of every copy: the format's version.
pub const COPY_FORMAT: u8 = 1;
/// Plaintexts are padded to a multiple of so many bytes, because the entry shows the copy's length.
pub const COPY_PAD_BYTES: usize = 256;

const KEY_LABEL: &[u8] = b"vitaltrace/essential-copy/1\0";

/// The record that a copy is of, as its entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CopyOf<'a> {
    tag: RecordTag,
    version: u64,
    author: &'a OrgId,
    entry: &'a Id16,
    commitment: Commitment,
}

/// What an opened copy gives back: a row of the database, but for its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCopy {
    /// `Type/id`.
    pub record: String,
    /// Its version.
    pub version: u64,
    /// The exact stored bytes.
    pub bytes: Vec<u8>,
    /// The salt of their commitment.
    pub salt: Salt,
}

/// Why a copy does not open. The vault that gave it is at fault, or the wrong key was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The entry writes no record.
    #[error("the entry names no essential copy")]
    NoCopy,
    /// Not the bytes that the entry names.
    #[error("the bytes are not those that the entry names")]
    OtherBytes,
    /// A format that this software does not know.
    #[error("copy format {0} is unknown: this software reads format 1")]
    Format(u8),
    /// The key does not open it.
    #[error("the patient key does not open the copy")]
    Sealed,
    /// Opened, and then not a record, or not the record that the entry commits to.
    #[error("the copy holds another record than the entry commits to")]
    OtherRecord,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Content {
    #[n(0)]
    record: String,
    #[n(1)]
    bytes: ByteVec,
}

/// Encrypts the exact bytes of one version of the record `Type/id`, by `author` in the ledger entry `entry`.
pub fn seal_copy(key: &PatientKey, record: &str, version: u64, author: &OrgId, entry: &Id16, bytes: &[u8]) -> Vec<u8> {
    let commitment = commit(&salt(key, record, version, author, entry), bytes);
    let of = CopyOf { tag: record_tag(key, record), version, author, entry, commitment };
    let content = Content { record: record.to_owned(), bytes: bytes.to_vec().into() };
    let mut plain = Zeroizing::new(crate::to_cbor(&content));
    let padded = plain.len().next_multiple_of(COPY_PAD_BYTES);
    plain.resize(padded, 0);
    let payload = Payload { msg: &plain, aad: &of.associated() };
    match of.cipher(key).encrypt(&NONCE.into(), payload) {
        Ok(sealed) => [&[COPY_FORMAT], sealed.as_slice()].concat(),
        Err(_) => unreachable!("a record is far below the cipher's 256 GiB"),
    }
}

/// Opens the copy that `entry` names, and checks that it is what the entry commits to.
pub fn open_copy(key: &PatientKey, entry: &Entry, sealed: &[u8]) -> Result<OpenedCopy, CopyError> {
    let Body::Record { tag, version, commitment, attachments, .. } = &entry.body else { return Err(CopyError::NoCopy) };
    let mut copies = attachments.iter().filter(|attachment| attachment.kind == AttachmentKind::EssentialCopy);
    let named = copies.next().ok_or(CopyError::NoCopy)?;
    if sha256(&[sealed]) != named.digest {
        return Err(CopyError::OtherBytes);
    }
    let (format, sealed) = sealed.split_first().ok_or(CopyError::OtherBytes)?;
    if *format != COPY_FORMAT {
        return Err(CopyError::Format(*format));
    }
    let of = CopyOf { tag: *tag, version: *version, author: &entry.org, entry: &entry.id, commitment: *commitment };
    let payload = Payload { msg: sealed, aad: &of.associated() };
    let plain = of.cipher(key).decrypt(&NONCE.into(), payload).map_err(|_| CopyError::Sealed)?;
    let content = unpad(&Zeroizing::new(plain)).ok_or(CopyError::OtherRecord)?;
    let salt = salt(key, &content.record, *version, &entry.org, &entry.id);
    if record_tag(key, &content.record) != *tag || commit(&salt, &content.bytes) != *commitment {
        return Err(CopyError::OtherRecord);
    }
    Ok(OpenedCopy { record: content.record, version: *version, bytes: content.bytes.into(), salt })
}

fn unpad(plain: &[u8]) -> Option<Content> {
    let mut decoder = minicbor::Decoder::new(plain);
    let content: Content = decoder.decode().ok()?;
    plain.get(decoder.position()..)?.iter().all(|byte| *byte == 0).then_some(content)
}

/// All zeros: every key encrypts one plaintext only, because the plaintext's commitment is an input of the key.
const NONCE: [u8; 12] = [0; 12];

impl CopyOf<'_> {
    fn cipher(&self, key: &PatientKey) -> ChaCha20Poly1305 {
        let info = lengths_and(
            KEY_LABEL,
            &[
                self.tag.0.as_ref(),
                &self.version.to_be_bytes(),
                self.author.as_str().as_bytes(),
                self.entry.as_ref(),
                self.commitment.0.as_ref(),
            ],
        );
        let mut secret = Zeroizing::new([0u8; 32]);
        if Hkdf::<Sha256>::new(None, key.expose()).expand(&info, secret.as_mut()).is_err() {
            unreachable!("32 bytes are less than HKDF-SHA-256 can give");
        }
        ChaCha20Poly1305::new((&*secret).into())
    }

    fn associated(&self) -> Vec<u8> {
        let parts: [&[u8]; 3] = [self.tag.0.as_ref(), &self.version.to_be_bytes(), self.author.as_str().as_bytes()];
        lengths_and(&[COPY_FORMAT], &parts)
    }
}

/// `label`, then each part with its length before it as 4 bytes big-endian.
fn lengths_and(label: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut all = label.to_vec();
    for part in parts {
        all.extend_from_slice(&(part.len() as u32).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

/// What names a copy, or another attachment, in its entry.
pub(crate) fn attachment_digest(bytes: &[u8]) -> Digest {
    sha256(&[bytes])
}
