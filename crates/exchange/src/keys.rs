//! An organisation's own secrets: made once, kept in files that only their owner may read.

use contract::{Member, PublicKey};
use ed25519_dalek::SigningKey;
use record::{OrgId, OrgRole, PatientKey};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};
use zeroize::Zeroizing;

/// Separate keys for entries, consensus, wrapping, tokens, and records that concern no patient.
pub struct OrgKeys {
    /// Signs submissions.
    pub entry: SigningKey,
    /// Signs votes and handshakes.
    pub consensus: SigningKey,
    /// Signs the tokens of the embedded issuer.
    pub issuer: SigningKey,
    /// Opens what others wrap for this organisation.
    pub wrap: age::x25519::Identity,
    /// Plays the patient key's part for records without a patient, and hides who acted.
    pub own: PatientKey,
}

/// Why keys could not be made or read. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("key file `{path}`: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("key file `{path}` may be read by others: set its mode to 600")]
    TooOpen {
        /// Which file.
        path: PathBuf,
    },
    /// The file does not hold such a key.
    #[error("key file `{path}` holds no such key")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The keys are there already; they are never overwritten.
    #[error("`{path}` exists already: keys are never overwritten")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

const SEEDS: [&str; 4] = ["entry.key", "consensus.key", "issuer.key", "own.key"];
const WRAP: &str = "wrap.key";
const CONSENSUS: &str = "consensus.key";
const NEXT: &str = "consensus.next.key";

impl OrgKeys {
    /// Draws new keys and writes them into `dir`, which must not hold any.
    pub fn create(dir: &Path) -> Result<Self, KeyError> {
        fs::create_dir_all(dir).map_err(|source| KeyError::File { path: dir.to_owned(), source })?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|source| KeyError::File { path: dir.to_owned(), source })?;
        for name in SEEDS {
            write_new(&dir.join(name), &Zeroizing::new(hex::encode(*random()?)))?;
        }
        use age::secrecy::ExposeSecret;
        let wrap = age::x25519::Identity::generate();
        write_new(&dir.join(WRAP), wrap.to_string().expose_secret())?;
        Self::load(dir)
    }

    /// Reads the keys in `dir`, and refuses files that others may read.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let seed = |name: &str| -> Result<Zeroizing<[u8; 32]>, KeyError> {
            let path = dir.join(name);
            let text = read_private(&path)?;
            let mut seed = Zeroizing::new([0u8; 32]);
            hex::decode_to_slice(text.trim(), seed.as_mut()).map_err(|_| KeyError::Malformed { path })?;
            Ok(seed)
        };
        let path = dir.join(WRAP);
        let wrap =
            age::x25519::Identity::from_str(read_private(&path)?.trim()).map_err(|_| KeyError::Malformed { path })?;
        Ok(Self {
            entry: SigningKey::from_bytes(&*seed("entry.key")?),
            consensus: SigningKey::from_bytes(&*seed("consensus.key")?),
            issuer: SigningKey::from_bytes(&*seed("issuer.key")?),
            wrap,
            own: PatientKey::from_bytes(*seed("own.key")?),
        })
    }

    /// What the genesis document says of this organisation.
    pub fn member(&self, org: OrgId, role: OrgRole, address: String) -> Member {
        Member {
            org,
            role,
            entry_key: PublicKey::from(self.entry.verifying_key().to_bytes()),
            consensus_key: PublicKey::from(self.consensus.verifying_key().to_bytes()),
            wrap_key: self.wrap.to_public().to_string(),
            address,
        }
    }
}

/// A consensus key that was drawn and does not count yet: on disk before anybody is told of it, so that none is named and lost.
pub struct NextKey {
    public: PublicKey,
}

impl NextKey {
    /// Draws a key into `dir`, or reads the one that an earlier attempt drew.
    pub fn draw(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join(NEXT);
        if !path.exists() {
            write_new(&path, &Zeroizing::new(hex::encode(*random()?)))?;
        }
        let mut seed = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(read_private(&path)?.trim(), seed.as_mut()).map_err(|_| KeyError::Malformed { path })?;
        Ok(Self { public: PublicKey::from(SigningKey::from_bytes(&seed).verifying_key().to_bytes()) })
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Puts it in the place of the consensus key, which is gone then: it must not vote again.
    pub fn put_in_place(self, dir: &Path) -> Result<(), KeyError> {
        let path = dir.join(CONSENSUS);
        fs::rename(dir.join(NEXT), &path).map_err(|source| KeyError::File { path, source })
    }
}

/// 32 bytes from the operating system.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

fn write_new(path: &Path, text: &str) -> Result<(), KeyError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::File { path: path.to_owned(), source },
    })
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let file = |source| KeyError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(file)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned() });
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_made_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = OrgKeys::create(dir.path()).unwrap();
        let read = OrgKeys::load(dir.path()).unwrap();
        assert_eq!(made.entry.to_bytes(), read.entry.to_bytes());
        assert_eq!(made.own.expose(), read.own.expose());
        assert_eq!(made.wrap.to_public().to_string(), read.wrap.to_public().to_string());
        assert_ne!(made.entry.to_bytes(), made.consensus.to_bytes());
        assert!(matches!(OrgKeys::create(dir.path()), Err(KeyError::Exists { .. })));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        OrgKeys::create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join("entry.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(OrgKeys::load(dir.path()), Err(KeyError::TooOpen { .. })));
    }
}
