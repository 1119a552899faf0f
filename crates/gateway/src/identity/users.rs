//! The people and programs of one organisation: names, roles, and password hashes (Argon2id).

use anyhow::{Context, bail};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use record::Role;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// The shortest password, in bytes. Source: NIST SP 800-63B section 5.1.1.1.
pub(crate) const PASSWORD_BYTES_MIN: usize = 8;
/// The longest password, in bytes, so that hashing stays bounded.
pub(crate) const PASSWORD_BYTES_MAX: usize = 256;

/// One person or program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// What it may be.
    pub(crate) role: Role,
    /// Argon2id in the PHC string format.
    pub(crate) password: String,
    /// For a patient's login: the id of the Patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) patient: Option<String>,
}

/// All of an organisation's users, by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Users(BTreeMap<String, User>);

impl Users {
    /// Reads the file; a missing file is an empty list.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("in the list of users `{}`", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read the list of users `{}`", path.display())),
        }
    }

    /// Adds a user, or gives it a new password and role, and writes the file.
    pub(crate) fn set(
        path: &Path,
        name: &str,
        role: Role,
        password: &str,
        patient: Option<String>,
    ) -> anyhow::Result<()> {
        let fits = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        if !fits {
            bail!("a user's name has 1 to 64 letters, digits and `-_.@`");
        }
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
            bail!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
        }
        if (role == Role::Patient) != patient.is_some() {
            bail!("a user of role `patient` needs the id of its Patient, and no other role has one");
        }
        let mut users = Self::load(path)?;
        let password = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|e| anyhow::anyhow!("the password could not be hashed: {e}"))?
            .to_string();
        users.0.insert(name.to_owned(), User { role, password, patient });
        let text = toml::to_string(&users).context("the list of users could not be written as TOML")?;
        let draft = path.with_extension("new");
        write_private(&draft, &text)
            .and_then(|()| fs::rename(&draft, path))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// The user, if the password is right. Takes as long for an unknown name as for a wrong password.
    pub(crate) fn authenticate(&self, name: &str, password: &str) -> Option<&User> {
        // Any well-formed hash serves: its outcome is not used.
        const NOBODY: &str =
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        if password.len() > PASSWORD_BYTES_MAX {
            return None;
        }
        let user = self.0.get(name);
        let hash = user.map_or(NOBODY, |user| user.password.as_str());
        let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
        user.filter(|_| right)
    }

    /// The user of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_in_with_the_right_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        Users::set(&path, "ana", Role::Responder, "correct horse", None).unwrap();
        let users = Users::load(&path).unwrap();
        assert_eq!(users.authenticate("ana", "correct horse").map(|u| u.role), Some(Role::Responder));
        assert!(users.authenticate("ana", "wrong horse").is_none());
        assert!(users.authenticate("bob", "correct horse").is_none());
        assert!(!fs::read_to_string(&path).unwrap().contains("horse"));
    }

    #[test]
    fn weak_passwords_and_patients_without_a_record_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        assert!(Users::set(&path, "ana", Role::Doctor, "short", None).is_err());
        assert!(Users::set(&path, "ana", Role::Patient, "long enough", None).is_err());
        assert!(Users::set(&path, "a b", Role::Doctor, "long enough", None).is_err());
    }
}
