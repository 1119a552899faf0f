//! Invitations: by what a custodian hands over, once and for some days, somebody chooses a password.

use super::{User, Users, after, alone, check_password, hashed};
use crate::identity::{drawn, hash};
use anyhow::{Context, bail};
use record::TimeMs;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long an invitation is good, in seconds: over a weekend.
pub(crate) const INVITATION_SECONDS: u64 = 3 * 24 * 3600;

/// What is known of an invitation: not the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invitation {
    /// SHA-256 of the secret, in hexadecimal.
    hash: String,
    /// The last second in which it is good, since 1970.
    until: u64,
}

impl Users {
    /// Draws the secret by which a user may choose a password, in the place of any before; the password that there is stays until then.
    pub(crate) fn invite(path: &Path, name: &str, now: TimeMs) -> anyhow::Result<String> {
        let _alone = alone(path)?;
        let mut users = Self::load(path)?;
        let user = users.0.get_mut(name).with_context(|| format!("no user is called `{name}`"))?;
        if user.is_out() {
            bail!("the login `{name}` is closed");
        }
        let secret = drawn()?;
        user.invitation =
            Some(Invitation { hash: hex::encode(hash(&secret)), until: now.0 / 1000 + INVITATION_SECONDS });
        users.write(path)?;
        Ok(secret)
    }

    /// Gives a user the password that it chose, if the secret is that of its invitation; both the invitation and tokens from before are good
    /// no more. None when there is no such user or invitation.
    pub(crate) fn take_up(
        path: &Path,
        name: &str,
        secret: &str,
        password: &str,
        now: TimeMs,
    ) -> anyhow::Result<Option<User>> {
        check_password(password)?;
        let _alone = alone(path)?;
        let mut users = Self::load(path)?;
        let is_good = |user: &&mut User| {
            let given = user.invitation.as_ref();
            !user.is_out()
                && given.is_some_and(|given| given.hash == hex::encode(hash(secret)) && now.0 / 1000 <= given.until)
        };
        let Some(user) = users.0.get_mut(name).filter(is_good) else { return Ok(None) };
        (user.password, user.invitation, user.tokens_since) = (Some(hashed(password)?), None, Some(after(now)));
        let user = user.clone();
        users.write(path)?;
        Ok(Some(user))
    }
}

#[cfg(test)]
mod tests {
    use super::super::New;
    use super::*;
    use record::Role;

    #[test]
    fn an_invitation_is_good_once_for_its_user_and_for_three_days() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        for name in ["ana", "bea"] {
            let given = New { role: Role::Nurse, password: "an old horse", patient: None, practitioner: None };
            Users::set(&path, name, given, TimeMs(0)).unwrap();
        }
        let knows = |password: &str| Users::load(&path).unwrap().authenticate("ana", password).is_some();
        let take_up = |name, secret: &str, seconds: u64| {
            Users::take_up(&path, name, secret, "correct horse", TimeMs(seconds * 1000)).unwrap().is_some()
        };
        assert!(!take_up("ana", "", 1), "nobody was invited");
        let first = Users::invite(&path, "ana", TimeMs(1_000)).unwrap();
        let secret = Users::invite(&path, "ana", TimeMs(1_000)).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&secret));
        assert!(knows("an old horse"), "until another is chosen");
        assert!(!take_up("ana", &first, 2), "the second took its place");
        assert!(!take_up("bea", &secret, 2) && !take_up("nobody", &secret, 2));
        assert!(!take_up("ana", &secret, 2 + INVITATION_SECONDS));
        assert!(Users::take_up(&path, "ana", &secret, "short", TimeMs(2_000)).is_err());
        assert!(take_up("ana", &secret, 2) && knows("correct horse") && !knows("an old horse"));
        assert!(!take_up("ana", &secret, 2), "it was good once");

        let secret = Users::invite(&path, "ana", TimeMs(3_000)).unwrap();
        Users::close(&path, "ana", true, TimeMs(3_000)).unwrap();
        assert!(!take_up("ana", &secret, 4) && Users::invite(&path, "ana", TimeMs(4_000)).is_err());
    }
}
