//! An organisation's own secrets: made once, kept in files that only their owner may read.

use contract::{Member, PublicKey};
use ed25519_dalek::SigningKey;
use record::{OrgId, OrgRole, PatientKey, TimeMs};
use std::{
    fs::{self, TryLockError},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
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
    /// Signed them before: what it signed last is believed until it expires.
    pub former_issuer: Option<SigningKey>,
    /// When the file of the present one was written.
    pub issuer_since: TimeMs,
    /// Opens what others wrap for this organisation.
    pub wrap: age::x25519::Identity,
    /// Plays the patient key's part for records without a patient, and hides who acted.
    pub own: PatientKey,
    /// Public halves of entry keys that were replaced, and by which this organisation still knows what it signed.
    pub older: Vec<PublicKey>,
    /// The folder that they lie in.
    pub folder: PathBuf,
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
    /// Another process is replacing the same key. It is tried again when that one has ended.
    #[error("`{path}`: another command is replacing this key just now")]
    InUse {
        /// The file that it holds.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

const SEEDS: [&str; 4] = ["entry.key", "consensus.key", "issuer.key", "own.key"];
const WRAP: &str = "wrap.key";
/// The key that signs tokens, and the one before it.
pub const ISSUER: &str = "issuer.key";
const FORMER_ISSUER: &str = "issuer.former.key";
const OLDER: &str = "entry.older";

/// The most older entry keys that are known; the oldest are forgotten first.
const OLDER_MAX: usize = 64;

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
        let seed = |name: &str| read_seed(dir.join(name));
        let path = dir.join(WRAP);
        let wrap =
            age::x25519::Identity::from_str(read_private(&path)?.trim()).map_err(|_| KeyError::Malformed { path })?;
        let (present, former) = (dir.join(ISSUER), dir.join(FORMER_ISSUER));
        let written = fs::metadata(&present).and_then(|metadata| metadata.modified());
        let written = written.map_err(|source| KeyError::File { path: present, source })?;
        let since = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(Self {
            issuer_since: TimeMs(u64::try_from(since).unwrap_or(u64::MAX)),
            entry: SigningKey::from_bytes(&*seed("entry.key")?),
            consensus: SigningKey::from_bytes(&*seed("consensus.key")?),
            issuer: SigningKey::from_bytes(&*seed(ISSUER)?),
            former_issuer: former
                .exists()
                .then(|| read_seed(former))
                .transpose()?
                .map(|seed| SigningKey::from_bytes(&seed)),
            wrap,
            own: PatientKey::from_bytes(*seed("own.key")?),
            older: older(dir)?,
            folder: dir.to_owned(),
        })
    }

    /// Draws another key for tokens. The one before it stays beside it; a crash in between leaves the present one in its place.
    pub fn replace_issuer(dir: &Path) -> Result<(), KeyError> {
        let present = read_seed(dir.join(ISSUER))?;
        write_whole(dir, FORMER_ISSUER, &Zeroizing::new(hex::encode(*present)))?;
        write_whole(dir, ISSUER, &Zeroizing::new(hex::encode(*random()?)))
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

/// Which of its keys an organisation replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// The one that signs its entries.
    Entry,
    /// The one that signs its votes.
    Consensus,
}

impl Replaces {
    /// The names of the files of the next key and of the present one.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Entry => ("entry.next.key", "entry.key"),
            Self::Consensus => ("consensus.next.key", "consensus.key"),
        }
    }

    /// The file that is locked by who replaces the key.
    fn lock(self) -> &'static str {
        match self {
            Self::Entry => "entry.lock",
            Self::Consensus => "consensus.lock",
        }
    }

    /// The files of the next key and of the present one.
    fn files(self, dir: &Path) -> (PathBuf, PathBuf) {
        let (next, present) = self.names();
        (dir.join(next), dir.join(present))
    }
}

/// The right to replace a key of a folder, which one process has at a time; given back when dropped, and by the system when the process ends.
///
/// Two that drew at the same moment would each tell the members of a key, and the file would hold one of them.
#[derive(Debug)]
pub struct Replacing(fs::File);

impl Replacing {
    /// Takes the right, or says that another process has it.
    pub fn begin(dir: &Path, replaces: Replaces) -> Result<Self, KeyError> {
        let path = dir.join(replaces.lock());
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|source| KeyError::File { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(KeyError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(KeyError::File { path, source }),
        }
    }
}

impl Drop for Replacing {
    /// Closing alone would not end it: a process that was just forked from this one has the file open too, until it runs its program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the right to replace a key could not be given back");
        }
    }
}

/// A key that was drawn and does not count yet: on disk before anybody is told of it, so that none is named and lost.
pub struct NextKey {
    replaces: Replaces,
    key: SigningKey,
}

impl NextKey {
    /// Draws a key into `dir`, or reads the one that an earlier attempt drew.
    pub fn draw(dir: &Path, replaces: Replaces) -> Result<Self, KeyError> {
        if let Some(drawn) = Self::drawn(dir, replaces)? {
            return Ok(drawn);
        }
        Self::draw_another(dir, replaces)
    }

    /// Draws a key into `dir`, in the place of a drawn one that can never count.
    pub fn draw_another(dir: &Path, replaces: Replaces) -> Result<Self, KeyError> {
        let seed = random()?;
        write_whole(dir, replaces.names().0, &Zeroizing::new(hex::encode(*seed)))?;
        Ok(Self { replaces, key: SigningKey::from_bytes(&seed) })
    }

    /// The key that was drawn into `dir` and is not in place yet, if there is one. A file that holds no key is none: nobody was told of it.
    pub fn drawn(dir: &Path, replaces: Replaces) -> Result<Option<Self>, KeyError> {
        let (path, _) = replaces.files(dir);
        if !path.exists() {
            return Ok(None);
        }
        match read_seed(path) {
            Ok(seed) => Ok(Some(Self { replaces, key: SigningKey::from_bytes(&seed) })),
            Err(KeyError::Malformed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(self.key.verifying_key().to_bytes())
    }

    /// Puts it in the place of the present key, which is gone then: it must not sign again.
    pub fn put_in_place(self, dir: &Path) -> Result<SigningKey, KeyError> {
        let (next, path) = self.replaces.files(dir);
        fs::rename(next, &path).map_err(|source| KeyError::File { path, source })?;
        sync(dir)?;
        Ok(self.key)
    }
}

/// Notes whether this organisation still knows what an entry key signed once that key was replaced. It should not when somebody else may
/// have the key, as then what it signed may be theirs.
pub(crate) fn note_older(dir: &Path, key: &PublicKey, is_believed: bool) -> Result<(), KeyError> {
    let mut keys = older(dir)?;
    keys.retain(|other| other != key);
    if is_believed {
        keys.push(*key);
    }
    let latest = keys.len().saturating_sub(OLDER_MAX);
    let lines: Vec<String> = keys[latest..].iter().map(|key| hex::encode(key.as_bytes())).collect();
    write_whole(dir, OLDER, &lines.join("\n"))
}

/// The entry key that is in place in `dir`, its name as durable as the file.
pub(crate) fn entry_in_place(dir: &Path) -> Result<SigningKey, KeyError> {
    let seed = read_seed(Replaces::Entry.files(dir).1)?;
    sync(dir)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Older entry keys, the latest last: one a line, 64 hexadecimal digits.
pub(crate) fn older(dir: &Path) -> Result<Vec<PublicKey>, KeyError> {
    let path = dir.join(OLDER);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_private(&path)?;
    let key = |line: &str| {
        let mut key = [0u8; 32];
        hex::decode_to_slice(line.trim(), &mut key).map_err(|_| KeyError::Malformed { path: path.clone() })?;
        Ok(PublicKey::from(key))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(key).collect()
}

/// Writes a file that is there as a whole or not at all, in the place of what has its name.
pub(crate) fn write_whole(dir: &Path, name: &str, text: &str) -> Result<(), KeyError> {
    let (path, written) = (dir.join(name), dir.join(format!("{name}.new")));
    let file = |source| KeyError::File { path: path.clone(), source };
    match fs::remove_file(&written) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    write_new(&written, text)?;
    fs::rename(&written, &path).map_err(file)?;
    sync(dir)
}

/// Names in the folder are as durable as the files.
fn sync(dir: &Path) -> Result<(), KeyError> {
    let synced = fs::File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(|source| KeyError::File { path: dir.to_owned(), source })
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

fn read_seed(path: PathBuf) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let text = read_private(&path)?;
    let mut seed = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut()).map_err(|_| KeyError::Malformed { path })?;
    Ok(seed)
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

    #[test]
    fn a_next_key_is_drawn_once_and_takes_the_place_of_the_present_one() {
        let dir = tempfile::tempdir().unwrap();
        let before = OrgKeys::create(dir.path()).unwrap();
        for replaces in [Replaces::Entry, Replaces::Consensus] {
            assert!(NextKey::drawn(dir.path(), replaces).unwrap().is_none());
            let next = NextKey::draw(dir.path(), replaces).unwrap().public_key();
            assert_eq!(NextKey::draw(dir.path(), replaces).unwrap().public_key(), next);
            let (file, _) = replaces.files(dir.path());
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(OrgKeys::load(dir.path()).unwrap().entry.to_bytes(), before.entry.to_bytes());
        }
        let next = NextKey::draw(dir.path(), Replaces::Entry).unwrap();
        let key = next.put_in_place(dir.path()).unwrap();
        assert!(NextKey::drawn(dir.path(), Replaces::Entry).unwrap().is_none());
        let after = OrgKeys::load(dir.path()).unwrap();
        assert_eq!(after.entry.to_bytes(), key.to_bytes());
        assert_ne!(after.entry.to_bytes(), before.entry.to_bytes());
        assert_eq!(after.consensus.to_bytes(), before.consensus.to_bytes());
    }

    #[test]
    fn a_next_key_whose_file_broke_off_is_not_drawn_and_one_that_cannot_count_is_drawn_anew() {
        let dir = tempfile::tempdir().unwrap();
        OrgKeys::create(dir.path()).unwrap();
        let (file, _) = Replaces::Entry.files(dir.path());
        write_new(&file, "ab").unwrap();
        fs::write(dir.path().join("entry.next.key.new"), "left by a crash").unwrap();
        assert!(NextKey::drawn(dir.path(), Replaces::Entry).unwrap().is_none());
        let drawn = NextKey::draw(dir.path(), Replaces::Entry).unwrap().public_key();
        assert_eq!(NextKey::draw(dir.path(), Replaces::Entry).unwrap().public_key(), drawn);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let another = NextKey::draw_another(dir.path(), Replaces::Entry).unwrap().public_key();
        assert_ne!(another, drawn);
        assert_eq!(NextKey::draw(dir.path(), Replaces::Entry).unwrap().public_key(), another);
        NextKey::draw(dir.path(), Replaces::Entry).unwrap().put_in_place(dir.path()).unwrap();
        assert_eq!(entry_in_place(dir.path()).unwrap().verifying_key().to_bytes(), *another.as_bytes());
    }

    #[test]
    fn one_process_at_a_time_replaces_a_key_and_another_one_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        OrgKeys::create(dir.path()).unwrap();
        let begin = |replaces| Replacing::begin(dir.path(), replaces);
        let first = begin(Replaces::Consensus).unwrap();
        assert!(
            matches!(begin(Replaces::Consensus), Err(KeyError::InUse { path }) if path.ends_with("consensus.lock"))
        );
        // Another key has nothing to do with it, nor have other keys' folders.
        begin(Replaces::Entry).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        Replacing::begin(elsewhere.path(), Replaces::Consensus).unwrap();
        drop(first);
        begin(Replaces::Consensus).unwrap();
        let mode = fs::metadata(dir.path().join("consensus.lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        OrgKeys::load(dir.path()).unwrap();
    }

    #[test]
    fn older_entry_keys_are_noted_once_and_forgotten_when_they_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        OrgKeys::create(dir.path()).unwrap();
        let key = |n: usize| PublicKey::from([n as u8; 32]);
        let noted = || OrgKeys::load(dir.path()).unwrap().older;
        assert_eq!(noted(), []);
        for n in [1, 2, 1] {
            note_older(dir.path(), &key(n), true).unwrap();
        }
        assert_eq!(noted(), [key(2), key(1)]);
        note_older(dir.path(), &key(2), false).unwrap();
        assert_eq!(noted(), [key(1)]);
        for n in 10..10 + OLDER_MAX {
            note_older(dir.path(), &key(n), true).unwrap();
        }
        assert_eq!((noted().len(), noted()[0]), (OLDER_MAX, key(10)));
        fs::write(dir.path().join(OLDER), "no key").unwrap();
        assert!(matches!(OrgKeys::load(dir.path()), Err(KeyError::Malformed { .. })));
    }
}
