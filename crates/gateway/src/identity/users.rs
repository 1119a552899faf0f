//! The people and programs of one organisation: names, roles, and password hashes (Argon2id).

mod directory;
mod invitation;

pub(crate) use invitation::INVITATION_SECONDS;

use anyhow::{Context, bail};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use exchange::UNKNOWN;
use invitation::Invitation;
use record::{Role, TimeMs};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// What the gateway's own commands are called in the trail.
pub(crate) const OPERATOR: &str = "operator";
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
    /// Argon2id in the PHC string format. None of a user who was invited and has not chosen one yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) password: Option<String>,
    /// For a patient's login: the id of the Patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) patient: Option<String>,
    /// Who the user is in the directory, such as `Practitioner/ana`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) practitioner: Option<String>,
    /// Tokens from before this time, in seconds since 1970, are good no more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tokens_since: Option<u64>,
    /// Since when the name is this person's, in seconds since 1970: whoever had it before was somebody else. None in a list from before
    /// that was written down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) person_since: Option<u64>,
    /// Whether the operator lets the user in no more.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) closed: bool,
    /// The record of the directory that keeps the login, such as `PractitionerRole/ana`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) by: Option<String>,
    /// Whether that record lets the user in no more.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) ended: bool,
    /// By which the user may choose a password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    invitation: Option<Invitation>,
}

impl User {
    /// Whether the user may not come in, by the operator's word or the directory's.
    pub(crate) fn is_out(&self) -> bool {
        self.closed || self.ended
    }

    /// When somebody who shows at `now` to be this user is let in: after the last change of the login, which the clocks' leeway covers.
    pub(crate) fn let_in_at(&self, now: TimeMs) -> TimeMs {
        TimeMs(now.0.max(self.tokens_since.unwrap_or_default() * 1000))
    }

    /// Who the user is in FHIR, if it is said.
    pub(crate) fn fhir_user(&self) -> Option<String> {
        self.patient.as_ref().map(|id| format!("Patient/{id}")).or_else(|| self.practitioner.clone())
    }
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

    /// Adds a user, or gives it a new password and role, and writes the file. Tokens of whoever had the name before are good no more. A user
    /// who gets another password and nothing else stays the same person; whoever gets a name that was closed, or is something else by it,
    /// is somebody else.
    pub(crate) fn set(path: &Path, name: &str, given: New<'_>, now: TimeMs) -> anyhow::Result<()> {
        let New { role, password, patient, practitioner } = given;
        check_name(name)?;
        check_password(password)?;
        if (role == Role::Patient) != patient.is_some() {
            bail!("a user of role `patient` needs the id of its Patient, and no other role has one");
        }
        if let Some(reference) = &practitioner {
            check_practitioner(reference)?;
            if patient.is_some() {
                bail!("a patient is no practitioner");
            }
        }
        let _alone = alone(path)?;
        let mut users = Self::load(path)?;
        let password = Some(hashed(password)?);
        let before = users.0.get(name);
        let kept = before.filter(|user| !user.ended).and_then(|user| Some((user.by.clone()?, user)));
        let practitioner = practitioner.or_else(|| kept.as_ref().and_then(|(_, user)| user.practitioner.clone()));
        if let Some((by, user)) = &kept
            && (user.role, &user.patient, &user.practitioner) != (role, &patient, &practitioner)
        {
            bail!("`{name}` is kept by `{by}` in the directory: change there what it is, here its password alone");
        }
        let by = kept.map(|(by, _)| by);
        let tokens_since = Some(if before.is_some() { after(now) } else { now.0 / 1000 });
        let is_same = |user: &&User| {
            !user.is_out() && (user.role, &user.patient, &user.practitioner) == (role, &patient, &practitioner)
        };
        // Whoever is taken out of the list and comes again is new: a name that is not in it may have been somebody's.
        let new_since = if before.is_some() { after(now) } else { now.0.div_ceil(1000) };
        let person_since = Some(before.filter(is_same).and_then(|user| user.person_since).unwrap_or(new_since));
        let user = User {
            role,
            password,
            patient,
            practitioner,
            tokens_since,
            person_since,
            closed: false,
            by,
            ended: false,
            invitation: None,
        };
        users.0.insert(name.to_owned(), user);
        users.write(path)
    }

    /// Lets a user in no more, or again; its tokens end in either case. Fails when there is no such user.
    pub(crate) fn close(path: &Path, name: &str, closed: bool, now: TimeMs) -> anyhow::Result<()> {
        let _alone = alone(path)?;
        let mut users = Self::load(path)?;
        let user = users.0.get_mut(name).with_context(|| format!("no user is called `{name}`"))?;
        (user.closed, user.tokens_since) = (closed, Some(after(now)));
        users.write(path)
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        replace(path, &toml::to_string(self).context("the list of users could not be written as TOML")?)
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
        let hash = user.and_then(|user| user.password.as_deref()).unwrap_or(NOBODY);
        let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
        user.filter(|user| right && user.password.is_some() && !user.is_out())
    }

    /// The user of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }
}

/// Refuses what is no user's name.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    if !fits {
        bail!("a user's name has 1 to 64 letters, digits and `-_.@`");
    }
    if name == OPERATOR {
        bail!("`{OPERATOR}` is what the gateway's own commands are called: take another name");
    }
    if name == UNKNOWN {
        bail!("`{UNKNOWN}` is what the trail calls somebody who is not known: take another name");
    }
    Ok(())
}

/// Refuses what is no password, whosever it is.
pub(crate) fn check_password(password: &str) -> anyhow::Result<()> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        bail!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
    }
    Ok(())
}

fn check_practitioner(reference: &str) -> anyhow::Result<()> {
    let id = reference.strip_prefix("Practitioner/").unwrap_or_default();
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if !fits {
        bail!("write who the user is in the directory as `Practitioner/ana`");
    }
    Ok(())
}

fn hashed(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| anyhow::anyhow!("the password could not be hashed: {e}"))?.to_string())
}

/// From when on tokens are good that are given after a change at `now`, in seconds since 1970: gateways see the change a moment later, and
/// what they gave by then in its second or the next is good no more.
fn after(now: TimeMs) -> u64 {
    now.0 / 1000 + 2
}

/// Keeps others from changing a list while this one is changed, as long as it is held.
pub(super) fn alone(path: &Path) -> anyhow::Result<fs::File> {
    let lock = path.with_extension("lock");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
    let file = file.with_context(|| format!("cannot write `{}`", lock.display()))?;
    file.lock().with_context(|| format!("cannot lock `{}`", lock.display()))?;
    Ok(file)
}

/// What a user is given.
pub(crate) struct New<'a> {
    pub(crate) role: Role,
    pub(crate) password: &'a str,
    /// For a patient's login: the id of the Patient.
    pub(crate) patient: Option<String>,
    /// Who the user is in the directory, such as `Practitioner/ana`.
    pub(crate) practitioner: Option<String>,
}

/// Writes a file that only its owner may read, in the place of what was there, whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    write_private(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
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

    fn given(role: Role, password: &str) -> New<'_> {
        New { role, password, patient: None, practitioner: None }
    }

    #[test]
    fn a_user_gets_in_with_the_right_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        Users::set(&path, "ana", given(Role::Responder, "correct horse"), TimeMs(0)).unwrap();
        let users = Users::load(&path).unwrap();
        assert_eq!(users.authenticate("ana", "correct horse").map(|u| u.role), Some(Role::Responder));
        assert!(users.authenticate("ana", "wrong horse").is_none());
        assert!(users.authenticate("bob", "correct horse").is_none());
        assert!(!fs::read_to_string(&path).unwrap().contains("horse"));
    }

    #[test]
    fn a_closed_user_gets_in_no_more_and_its_tokens_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        Users::set(&path, "ana", given(Role::Doctor, "correct horse"), TimeMs(0)).unwrap();
        assert_eq!(Users::load(&path).unwrap().get("ana").unwrap().tokens_since, Some(0));
        Users::close(&path, "ana", true, TimeMs(7_000)).unwrap();
        let users = Users::load(&path).unwrap();
        assert!(users.authenticate("ana", "correct horse").is_none());
        assert_eq!(users.get("ana").unwrap().tokens_since, Some(9));
        Users::close(&path, "ana", false, TimeMs(9_000)).unwrap();
        assert!(Users::load(&path).unwrap().authenticate("ana", "correct horse").is_some());
        assert!(Users::close(&path, "bob", true, TimeMs(0)).is_err());
    }

    #[test]
    fn a_name_is_another_persons_when_it_was_closed_or_removed_or_is_something_else_and_not_by_a_new_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let since = |name: &str| Users::load(&path).unwrap().get(name).unwrap().person_since;
        let set = |given, seconds: u64| Users::set(&path, "ana", given, TimeMs(seconds * 1000)).unwrap();
        let doctor = || given(Role::Doctor, "correct horse");
        set(doctor(), 10);
        assert_eq!(since("ana"), Some(10));
        set(given(Role::Doctor, "another horse"), 20);
        assert_eq!(since("ana"), Some(10), "a new password is no other person");
        set(given(Role::Nurse, "another horse"), 30);
        assert_eq!(since("ana"), Some(after(TimeMs(30_000))));
        let practitioner = Some("Practitioner/ana".to_owned());
        set(New { practitioner, ..given(Role::Nurse, "another horse") }, 40);
        assert_eq!(since("ana"), Some(after(TimeMs(40_000))));
        Users::close(&path, "ana", true, TimeMs(50_000)).unwrap();
        assert_eq!(since("ana"), Some(after(TimeMs(40_000))), "nobody has it");
        set(New { practitioner: Some("Practitioner/ana".to_owned()), ..given(Role::Nurse, "another horse") }, 60);
        assert_eq!(since("ana"), Some(after(TimeMs(60_000))), "the name was closed");
        // Taken out of the file by hand, and given to somebody who is the same by all that the list says.
        fs::write(&path, "").unwrap();
        Users::set(&path, "ana", doctor(), TimeMs(70_001)).unwrap();
        assert_eq!(since("ana"), Some(71), "no second in which somebody else had the name");
        // A list from before: what is not known is from now on.
        let text = fs::read_to_string(&path).unwrap().replace("person_since = 71\n", "");
        fs::write(&path, text).unwrap();
        assert_eq!(since("ana"), None);
        set(doctor(), 80);
        assert_eq!(since("ana"), Some(after(TimeMs(80_000))));
    }

    #[test]
    fn weak_passwords_and_patients_without_a_record_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let set = |name: &str, given| Users::set(&path, name, given, TimeMs(0));
        assert!(set("ana", given(Role::Doctor, "short")).is_err());
        assert!(set("ana", given(Role::Patient, "long enough")).is_err());
        for taken in ["a b", OPERATOR, UNKNOWN] {
            assert!(set(taken, given(Role::Doctor, "long enough")).is_err(), "{taken}");
        }
        for wrong in ["ana", "Patient/ana", "Practitioner/", "Practitioner/a b"] {
            let practitioner = Some(wrong.to_owned());
            assert!(set("ana", New { practitioner, ..given(Role::Doctor, "long enough") }).is_err(), "{wrong}");
        }
    }
}
