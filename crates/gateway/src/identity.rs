//! Who somebody is: people, apps and programs of the organisation, and the tokens by which the doors know them.
//!
//! A person logs in with a password, or lets an app in (SMART App Launch): the app gets a token that says what it was given. A program
//! shows who it is by what it signs. Every request brings a token, and every token is weighed again: its session may have ended, its user
//! may come in no more, its app may be registered for less.

pub(crate) mod apps;
pub(crate) mod attempts;
pub(crate) mod grant;
pub(crate) mod issuer;
pub(crate) mod outside;
pub(crate) mod pending;
pub(crate) mod refusals;
pub(crate) mod sessions;
pub(crate) mod users;
pub(crate) mod watched;

use apps::Registered;
use attempts::Attempts;
use exchange::{Entitled, Login, Logins, clock::now, keys::OrgKeys};
use grant::Given;
use issuer::{Claims, Issuer, Keys, TokenError};
use outside::Outside;
use pending::Pending;
use record::{Role, TimeMs};
use refusals::Refusals;
use sessions::Sessions;
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use users::Users;
use watched::Watched;

/// Name of the file with the apps, beside the users'.
const APPS_FILE: &str = "apps.toml";
/// Name of the file with the sessions, in the node's private folder.
const SESSIONS_FILE: &str = "sessions.db";

/// What stands before a program's name in the trail, so that no user has the same.
pub(crate) const PROGRAM: &str = "app";
/// How often it is looked whether there is another key for tokens.
const KEYS_EVERY: Duration = Duration::from_secs(1);

/// Where an organisation's apps are registered.
pub(crate) fn apps_beside(users: &Path) -> PathBuf {
    users.with_file_name(APPS_FILE)
}

/// What the doors know callers by.
pub(crate) struct Identity {
    pub(crate) issuer: Issuer,
    outside: Outside,
    users: Watched<Users>,
    apps: Watched<Registered>,
    pub(crate) sessions: Sessions,
    pub(crate) pending: Pending,
    pub(crate) attempts: Attempts,
    pub(crate) refusals: Refusals,
}

impl Identity {
    /// With the users and apps in their files, and the sessions in the node's private folder.
    pub(crate) fn open(issuer: Issuer, outside: Outside, users: PathBuf, data: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            issuer,
            outside,
            apps: Watched::new(apps_beside(&users), Registered::load)?,
            users: Watched::new(users, Users::load)?,
            sessions: Sessions::open(&data.join(SESSIONS_FILE))?,
            pending: Pending::new(),
            attempts: Attempts::default(),
            refusals: Refusals::default(),
        })
    }

    /// Goes over to another key for tokens when one is in the folder of keys.
    pub(crate) async fn follow_keys(self: Arc<Self>, folder: PathBuf) {
        let key = folder.join(exchange::keys::ISSUER);
        let mut seen = watched::mark(&key);
        loop {
            tokio::time::sleep(KEYS_EVERY).await;
            let mark = watched::mark(&key);
            if mark == seen {
                continue;
            }
            seen = mark;
            let read = OrgKeys::load(&folder).map_err(anyhow::Error::from);
            match read.and_then(|keys| self.issuer.replace(&Keys::of(&keys))) {
                Ok(()) => tracing::info!("tokens are signed by another key"),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the key for tokens is not taken as it is now")
                }
            }
        }
    }

    /// The users, as they are at this moment: for logins.
    pub(crate) fn users_now(&self) -> Arc<Users> {
        self.users.get_now()
    }

    /// The users, as they are now.
    pub(crate) fn users(&self) -> Arc<Users> {
        self.users.get()
    }

    /// The file with the users.
    pub(crate) fn users_file(&self) -> PathBuf {
        self.users.path().to_owned()
    }

    /// The apps, as they are now.
    pub(crate) fn apps(&self) -> Arc<Registered> {
        self.apps.get()
    }

    /// What a token says, if it is good, its session goes on, and its user and app are what they were.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, TokenError> {
        match self.outside.check(token) {
            Some(of_another) => of_another,
            None => self.goes_on(self.issuer.check(token)?),
        }
    }

    /// What a token said when it was shown, as it counts now, for what goes on after the token has expired: as long as the user may come in,
    /// the app's session goes on, the program is registered. Of another issuer's users and of operators nothing is known but the token.
    pub(crate) fn still(&self, claims: Claims, now: TimeMs) -> Result<Claims, TokenError> {
        let now = now.0 / 1000;
        let is_over = claims.exp + issuer::LEEWAY_SECONDS < now;
        if claims.is_of_another() || claims.bearer.operator {
            return if is_over { Err(TokenError::Expired) } else { Ok(claims) };
        }
        let claims = self.goes_on(claims)?;
        let bearer = &claims.bearer;
        let is_let_in = bearer.app.as_ref().is_some_and(|app| !app.service);
        if is_let_in && is_over && !bearer.sid.as_deref().is_some_and(|sid| self.sessions.goes_on(sid, now)) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// Whether what a token of ours said is still so: its session goes on, and its user and app are what they were. However long ago it
    /// expired.
    pub(crate) fn goes_on(&self, mut claims: Claims) -> Result<Claims, TokenError> {
        let issued = claims.issued();
        let bearer = &mut claims.bearer;
        if bearer.sid.as_deref().is_some_and(|sid| self.sessions.has_ended(sid)) {
            return Err(TokenError::Revoked);
        }
        let mut service = false;
        if let Some(app) = &mut bearer.app {
            let apps = self.apps();
            let registered = apps.get(&app.client_id).ok_or(TokenError::Revoked)?;
            if registered.service.is_some() != app.service || issued < registered.since {
                return Err(TokenError::Revoked);
            }
            service = app.service;
            if registered.service.is_some_and(|role| role != bearer.role) {
                return Err(TokenError::Revoked);
            }
            app.scope = Given::again(registered, &app.scope).scope();
        }
        if service || bearer.operator {
            return Ok(claims);
        }
        if self.is_still(&bearer.sub, bearer.role, bearer.patient.as_deref(), issued) {
            Ok(claims)
        } else {
            Err(TokenError::Revoked)
        }
    }

    /// Whether a user who logged in at a time, in seconds since 1970, as somebody in this role, may still come in as that.
    pub(crate) fn is_still(&self, name: &str, role: Role, patient: Option<&str>, at: u64) -> bool {
        let is_in = |users: &Users| {
            users.get(name).is_some_and(|user| {
                let is_the_same = user.role == role && user.patient.as_deref() == patient;
                is_the_same && !user.is_out() && user.tokens_since.is_none_or(|since| at >= since)
            })
        };
        // Somebody may have been added a moment ago.
        is_in(&self.users()) || is_in(&self.users.get_now())
    }
}

impl Logins for Identity {
    fn refuses(&self, by: &str, entitled: &Entitled) -> Option<String> {
        self.users_now().may_be(by, entitled).err().map(|why| format!("{why:#}"))
    }

    fn kept(&self) -> Vec<String> {
        self.users_now().kept()
    }

    fn follow(&self, said: &[Login]) {
        if let Err(error) = Users::follow(self.users.path(), said, now()) {
            tracing::error!(error = format!("{error:#}"), "logins cannot follow the directory");
        }
        // From this moment on: nobody looks at the list as it was.
        drop(self.users_now());
    }
}

/// A drawn secret, as it is kept: nobody guesses what has 256 random bits, so that one round will do.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether a host's name is this machine's own.
pub(crate) fn is_this_machine(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}

/// Letters and digits that nobody guesses: 256 random bits.
pub(crate) fn drawn() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
    Ok(base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes))
}
