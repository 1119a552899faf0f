//! What apps were let in to, as long as it lasts: sessions with their refresh tokens, on disk, and those that were ended.
//!
//! A refresh token is good once, and the next one comes with the answer; one that comes back was copied, and its session ends.
//! Source: RFC 9700 section 4.14.2. Of tokens only hashes are kept.

use rusqlite::{Connection, OptionalExtension as _, params};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use super::{hash, issuer::TOKEN_SECONDS};

/// How long a session lasts at most when its app may go on without its user, in seconds.
const OFFLINE_SECONDS: u64 = 90 * 24 * 3600;
/// The same otherwise.
const ONLINE_SECONDS: u64 = 12 * 3600;
/// Sessions that are kept; when there are more, the oldest end.
const SESSIONS_MAX: u64 = 100_000;
/// Sessions of one user by one app; when there are more, those end that would end soonest.
const OF_ONE_MAX: u64 = 16;
/// Refresh tokens of a session that are known when they come back.
const USED_MAX: u64 = 32;
/// How long the file may be in use by somebody else.
const BUSY: Duration = Duration::from_secs(5);

/// What a session is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) app: String,
    pub(crate) user: String,
    pub(crate) scope: String,
    /// The Patient that the app was launched for.
    pub(crate) launched: Option<String>,
    /// The Encounter that the app was launched for.
    pub(crate) encounter: Option<String>,
    /// When its user let the app in, in seconds since 1970.
    pub(crate) begun: u64,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Its app may go on without its user.
    Offline,
    /// Its app may ask for further tokens for some hours.
    Online,
    /// As long as the token that it begins with.
    ForOneToken,
}

impl Lasts {
    fn seconds(self) -> u64 {
        match self {
            Self::Offline => OFFLINE_SECONDS,
            Self::Online => ONLINE_SECONDS,
            Self::ForOneToken => TOKEN_SECONDS,
        }
    }
}

/// Why a refresh token gives nothing. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotRefreshed {
    /// It is none of ours, not this app's, its time is over, or its session has ended.
    Unknown,
    /// It was used before: its session has ended now, which was about this.
    Again(Box<Session>),
    /// It is good, and not for what is asked for.
    Unfit,
}

/// The sessions of an organisation.
pub(crate) struct Sessions {
    file: Mutex<Connection>,
    /// Sessions that have ended, with the time in seconds since 1970 when the last token of theirs has expired.
    ended: RwLock<HashMap<String, u64>>,
}

impl Sessions {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = Connection::open(path)?;
        file.busy_timeout(BUSY)?;
        file.pragma_update(None, "journal_mode", "WAL")?;
        file.pragma_update(None, "synchronous", "FULL")?;
        file.execute_batch(
            "CREATE TABLE IF NOT EXISTS session (
                 sid TEXT PRIMARY KEY, app TEXT NOT NULL, user TEXT NOT NULL, scope TEXT NOT NULL, launched TEXT, encounter TEXT,
                 begun INTEGER NOT NULL, expires INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS refresh (
                 hash BLOB PRIMARY KEY, sid TEXT NOT NULL REFERENCES session(sid) ON DELETE CASCADE, used INTEGER NOT NULL,
                 given INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS refresh_of ON refresh(sid, given);
             CREATE INDEX IF NOT EXISTS session_until ON session(expires);
             CREATE INDEX IF NOT EXISTS session_of ON session(user, app, begun);
             CREATE TABLE IF NOT EXISTS ended (sid TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS taken (hash BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS taken_until ON taken(until);
             PRAGMA foreign_keys = ON;",
        )?;
        let ended = file
            .prepare("SELECT sid, until FROM ended")?
            .query_map([], |row| Ok((row.get(0)?, seconds(row.get(1)?))))?
            .collect::<Result<HashMap<String, u64>, _>>()?;
        Ok(Self { file: Mutex::new(file), ended: RwLock::new(ended) })
    }

    /// Begins a session `sid`, with its first refresh token if it can be refreshed.
    pub(crate) fn begin(
        &self,
        sid: &str,
        session: &Session,
        lasts: Lasts,
        token: Option<&str>,
        now: u64,
    ) -> rusqlite::Result<()> {
        let mut file = self.file();
        let expires = now + lasts.seconds();
        let transaction = file.transaction()?;
        transaction.execute("DELETE FROM session WHERE expires <= ?1", [whole(now)])?;
        let Session { app, user, scope, launched, encounter, begun } = session;
        // What is pushed out has ended: its tokens are good no more. Those that end soonest by themselves go first.
        let mut pushed_out: Vec<String> = transaction
            .prepare("SELECT sid FROM session ORDER BY expires LIMIT max(0, (SELECT count(*) FROM session) - ?1)")?
            .query_map([whole(SESSIONS_MAX - 1)], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let of_one: Vec<String> = transaction
            .prepare(
                "SELECT sid FROM session WHERE user = ?1 AND app = ?2 ORDER BY expires DESC, begun DESC LIMIT -1 OFFSET ?3",
            )?
            .query_map(params![user, app, whole(OF_ONE_MAX - 1)], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        pushed_out.extend(of_one);
        let until = ended_until(now);
        for sid in &pushed_out {
            transaction
                .execute("INSERT OR REPLACE INTO ended (sid, until) VALUES (?1, ?2)", params![sid, whole(until)])?;
            transaction.execute("DELETE FROM session WHERE sid = ?1", [sid])?;
        }
        // Whoever brought the code a second time was faster: it stays ended.
        let begins = transaction.execute(
            "INSERT INTO session (sid, app, user, scope, launched, encounter, begun, expires)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE NOT EXISTS (SELECT 1 FROM ended WHERE sid = ?1)",
            params![sid, app, user, scope, launched, encounter, whole(*begun), whole(expires)],
        )?;
        if begins == 0 {
            return Ok(());
        }
        if let Some(token) = token {
            let insert = "INSERT INTO refresh (hash, sid, used, given) VALUES (?1, ?2, 0, 0)";
            transaction.execute(insert, params![hash(token), sid])?;
        }
        transaction.commit()?;
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.extend(pushed_out.into_iter().map(|sid| (sid, until)));
        Ok(())
    }

    /// Gives `next` for a refresh token of the app, with the session's name and what it is about. One that does not fit what is asked for is
    /// not used up.
    pub(crate) fn refresh(
        &self,
        app: &str,
        token: &str,
        next: &str,
        now: u64,
        fits: impl FnOnce(&Session) -> bool,
    ) -> rusqlite::Result<Result<(String, Session), NotRefreshed>> {
        let mut file = self.file();
        let transaction = file.transaction()?;
        let found = transaction
            .query_row(
                "SELECT s.sid, s.user, s.scope, s.launched, s.encounter, r.used, s.begun, r.given FROM refresh r JOIN session s USING (sid)
                 WHERE r.hash = ?1 AND s.app = ?2 AND s.expires > ?3",
                params![hash(token), app, whole(now)],
                |row| {
                    let (sid, used): (String, bool) = (row.get(0)?, row.get(5)?);
                    let (user, scope, app) = (row.get(1)?, row.get(2)?, app.to_owned());
                    let (launched, encounter, begun) = (row.get(3)?, row.get(4)?, seconds(row.get(6)?));
                    Ok((sid, used, row.get::<_, i64>(7)?, Session { app, user, scope, launched, encounter, begun }))
                },
            )
            .optional()?;
        let Some((sid, used, given, session)) = found else { return Ok(Err(NotRefreshed::Unknown)) };
        if used {
            drop(transaction);
            drop(file);
            self.end(&sid, now)?;
            return Ok(Err(NotRefreshed::Again(Box::new(session))));
        }
        if !fits(&session) {
            return Ok(Err(NotRefreshed::Unfit));
        }
        transaction.execute("UPDATE refresh SET used = 1 WHERE hash = ?1", [hash(token)])?;
        transaction.execute(
            "INSERT INTO refresh (hash, sid, used, given) VALUES (?1, ?2, 0, ?3)",
            params![hash(next), sid, given + 1],
        )?;
        let oldest = given + 1 - whole(USED_MAX);
        transaction.execute("DELETE FROM refresh WHERE sid = ?1 AND given < ?2", params![sid, oldest])?;
        transaction.commit()?;
        Ok(Ok((sid, session)))
    }

    /// The session of a refresh token, and its app.
    pub(crate) fn of_refresh(&self, token: &str) -> rusqlite::Result<Option<(String, String)>> {
        let query = "SELECT s.sid, s.app FROM refresh r JOIN session s USING (sid) WHERE r.hash = ?1";
        self.file().query_row(query, [hash(token)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// Takes back that a refresh token was spent for `next`, which nobody was given.
    pub(crate) fn give_back(&self, token: &str, next: &str) -> rusqlite::Result<()> {
        let mut file = self.file();
        let transaction = file.transaction()?;
        if transaction.execute("DELETE FROM refresh WHERE hash = ?1 AND NOT used", [hash(next)])? == 1 {
            transaction.execute("UPDATE refresh SET used = 0 WHERE hash = ?1", [hash(token)])?;
        }
        transaction.commit()
    }

    /// What a session is about.
    pub(crate) fn get(&self, sid: &str) -> rusqlite::Result<Option<Session>> {
        let query = "SELECT app, user, scope, launched, encounter, begun FROM session WHERE sid = ?1";
        self.file().query_row(query, [sid], session_in).optional()
    }

    /// The sessions of a user that go on at `now`, the latest first, each with its name and when it ends by itself.
    pub(crate) fn of_user(&self, user: &str, now: u64) -> rusqlite::Result<Vec<(String, u64, Session)>> {
        let file = self.file();
        let mut query = file.prepare(
            "SELECT app, user, scope, launched, encounter, begun, sid, expires FROM session WHERE user = ?1 AND expires > ?2
             ORDER BY begun DESC, sid",
        )?;
        let rows = query
            .query_map(params![user, whole(now)], |row| Ok((row.get(6)?, seconds(row.get(7)?), session_in(row)?)))?;
        rows.collect()
    }

    /// Ends a session: no token of it is good any more, once this has returned.
    pub(crate) fn end(&self, sid: &str, now: u64) -> rusqlite::Result<()> {
        let until = ended_until(now);
        {
            // In memory first: it must end even if the disk fails.
            let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, until| *until > now);
            ended.insert(sid.to_owned(), until);
        }
        let mut file = self.file();
        let transaction = file.transaction()?;
        transaction.execute("DELETE FROM ended WHERE until <= ?1", [whole(now)])?;
        transaction.execute("INSERT OR REPLACE INTO ended (sid, until) VALUES (?1, ?2)", params![sid, whole(until)])?;
        transaction.execute("DELETE FROM session WHERE sid = ?1", [sid])?;
        transaction.commit()
    }

    /// Whether a session has ended.
    pub(crate) fn has_ended(&self, sid: &str) -> bool {
        self.ended.read().unwrap_or_else(PoisonError::into_inner).contains_key(sid)
    }

    /// Whether a session goes on that can be refreshed. One of which nobody knows, as the file fails, does not.
    pub(crate) fn goes_on(&self, sid: &str, now: u64) -> bool {
        let query = "SELECT 1 FROM session WHERE sid = ?1 AND expires > ?2";
        let found = self.file().query_row(query, params![sid, whole(now)], |_| Ok(())).optional();
        !self.has_ended(sid) && matches!(found, Ok(Some(())))
    }

    /// Takes an assertion by its app and name, once until it expires; whether it was the first time.
    pub(crate) fn take(&self, app: &str, name: &str, until: u64, now: u64) -> rusqlite::Result<bool> {
        let file = self.file();
        let over = whole(now.saturating_sub(super::issuer::LEEWAY_SECONDS));
        file.execute("DELETE FROM taken WHERE until < ?1", [over])?;
        let named = hash(&format!("{app} {name}"));
        Ok(file.execute("INSERT OR IGNORE INTO taken (hash, until) VALUES (?1, ?2)", params![named, whole(until)])?
            == 1)
    }

    fn file(&self) -> MutexGuard<'_, Connection> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session by the first columns of its row.
fn session_in(row: &rusqlite::Row<'_>) -> rusqlite::Result<Session> {
    let (app, user, scope) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (launched, encounter, begun) = (row.get(3)?, row.get(4)?, seconds(row.get(5)?));
    Ok(Session { app, user, scope, launched, encounter, begun })
}

/// When the last token has expired of a session that ends at `now`, in seconds.
fn ended_until(now: u64) -> u64 {
    now + TOKEN_SECONDS + super::issuer::LEEWAY_SECONDS + 1
}

/// Seconds as SQLite keeps them.
fn whole(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn seconds(whole: i64) -> u64 {
    u64::try_from(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(app: &str) -> Session {
        let scope = "patient/*.rs offline_access".to_owned();
        let (launched, encounter) = (Some("ilse".to_owned()), None);
        Session { app: app.to_owned(), user: "ana".to_owned(), scope, launched, encounter, begun: 100 }
    }

    #[test]
    fn a_refresh_token_is_good_once_and_for_its_app_and_one_that_comes_back_ends_the_session() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&folder.path().join("sessions.db")).unwrap();
        sessions.begin("s1", &session("chart"), Lasts::Offline, Some("one"), 100).unwrap();
        let refresh =
            |app: &str, token: &str, next: &str, now| sessions.refresh(app, token, next, now, |_| true).unwrap();
        assert_eq!(refresh("other", "one", "two", 101), Err(NotRefreshed::Unknown));
        assert_eq!(sessions.refresh("chart", "one", "two", 101, |_| false).unwrap(), Err(NotRefreshed::Unfit));
        assert_eq!(refresh("chart", "one", "two", 101), Ok(("s1".to_owned(), session("chart"))));
        assert!(refresh("chart", "two", "three", 102).is_ok());
        assert!(!sessions.has_ended("s1"));
        assert_eq!(refresh("chart", "one", "four", 103), Err(NotRefreshed::Again(Box::new(session("chart")))));
        assert!(sessions.has_ended("s1"));
        assert_eq!(refresh("chart", "three", "five", 104), Err(NotRefreshed::Unknown));
    }

    /// A refresh token was spent when the trail took no note of what it gave, which the app then never got: its next try ended the session.
    #[test]
    fn a_refresh_token_that_gave_nothing_is_good_still_and_what_it_would_have_given_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&folder.path().join("sessions.db")).unwrap();
        sessions.begin("s1", &session("chart"), Lasts::Offline, Some("one"), 100).unwrap();
        let refresh = |token: &str, next: &str| sessions.refresh("chart", token, next, 101, |_| true).unwrap();
        assert!(refresh("one", "two").is_ok());
        sessions.give_back("one", "two").unwrap();
        assert_eq!(refresh("two", "three"), Err(NotRefreshed::Unknown));
        assert!(refresh("one", "four").is_ok() && refresh("four", "five").is_ok());
        sessions.give_back("one", "four").unwrap();
        assert!(matches!(refresh("one", "six"), Err(NotRefreshed::Again(_))), "what was used is not given back");
    }

    #[test]
    fn a_session_that_ended_before_it_began_stays_ended() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&folder.path().join("sessions.db")).unwrap();
        sessions.end("s1", 100).unwrap();
        sessions.begin("s1", &session("chart"), Lasts::Offline, Some("one"), 100).unwrap();
        sessions.end("s2", 100 + 2 * TOKEN_SECONDS).unwrap();
        let later = 100 + 3 * TOKEN_SECONDS;
        assert_eq!(sessions.refresh("chart", "one", "two", later, |_| true).unwrap(), Err(NotRefreshed::Unknown));
    }

    #[test]
    fn sessions_of_one_user_by_one_app_and_their_used_tokens_have_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&folder.path().join("sessions.db")).unwrap();
        for n in 0..2 * OF_ONE_MAX {
            let one = Session { begun: n, ..session("chart") };
            sessions.begin(&n.to_string(), &one, Lasts::Offline, Some(&format!("token-{n}")), 100).unwrap();
        }
        let count = |table: &str| {
            let query = format!("SELECT count(*) FROM {table}");
            seconds(sessions.file().query_row(&query, [], |row| row.get(0)).unwrap())
        };
        assert_eq!(count("session"), OF_ONE_MAX);
        let last = format!("token-{}", 2 * OF_ONE_MAX - 1);
        let mut token = last;
        for n in 0..2 * USED_MAX {
            let next = format!("next-{n}");
            assert!(sessions.refresh("chart", &token, &next, 101, |_| true).unwrap().is_ok());
            token = next;
        }
        assert_eq!(count("refresh"), OF_ONE_MAX - 1 + USED_MAX + 1);
    }

    /// Sixteen launches for a token each pushed out a session of ninety days, whose token was good all the same.
    #[test]
    fn short_sessions_push_out_short_ones_whose_tokens_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let sessions = Sessions::open(&path).unwrap();
        sessions.begin("long", &session("chart"), Lasts::Offline, Some("one"), 100).unwrap();
        for n in 0..2 * OF_ONE_MAX {
            let one = Session { begun: 101 + n, ..session("chart") };
            sessions.begin(&n.to_string(), &one, Lasts::ForOneToken, None, 101 + n).unwrap();
        }
        let last = (2 * OF_ONE_MAX - 1).to_string();
        assert!(sessions.goes_on("long", 200) && sessions.goes_on(&last, 200));
        assert!(sessions.has_ended("0") && !sessions.has_ended("long") && !sessions.has_ended(&last));
        drop(sessions);
        assert!(Sessions::open(&path).unwrap().has_ended("0"));
    }

    #[test]
    fn sessions_end_by_themselves_and_stay_ended_when_the_gateway_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let sessions = Sessions::open(&path).unwrap();
        sessions.begin("online", &session("chart"), Lasts::Online, Some("one"), 100).unwrap();
        sessions.begin("offline", &session("chart"), Lasts::Offline, Some("two"), 100).unwrap();
        let later = 100 + ONLINE_SECONDS;
        assert_eq!(sessions.refresh("chart", "one", "x", later, |_| true).unwrap(), Err(NotRefreshed::Unknown));
        assert_eq!(sessions.of_refresh("two").unwrap(), Some(("offline".to_owned(), "chart".to_owned())));
        assert!(
            sessions.goes_on("offline", later)
                && !sessions.goes_on("online", later)
                && !sessions.goes_on("none", later)
        );
        sessions.end("offline", later).unwrap();
        assert!(!sessions.goes_on("offline", later));
        drop(sessions);
        let sessions = Sessions::open(&path).unwrap();
        assert!(sessions.has_ended("offline") && !sessions.has_ended("online"));
        assert_eq!(sessions.refresh("chart", "two", "y", later, |_| true).unwrap(), Err(NotRefreshed::Unknown));
        // What is remembered of ended sessions has a bound: their tokens have expired by then.
        sessions.end("another", later + 2 * TOKEN_SECONDS).unwrap();
        assert!(!sessions.has_ended("offline"));
    }

    #[test]
    fn a_person_sees_what_goes_on_and_no_more_of_what_ended() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(&folder.path().join("sessions.db")).unwrap();
        sessions.begin("s1", &session("chart"), Lasts::Offline, Some("one"), 100).unwrap();
        sessions.begin("s2", &Session { begun: 101, ..session("other") }, Lasts::ForOneToken, None, 101).unwrap();
        let bo = Session { user: "bo".to_owned(), ..session("chart") };
        sessions.begin("s3", &bo, Lasts::Online, Some("two"), 102).unwrap();
        let of = |user: &str, now| {
            let all = sessions.of_user(user, now).unwrap();
            all.into_iter().map(|(sid, until, _)| (sid, until)).collect::<Vec<_>>()
        };
        let (s1, s2) = (("s1".to_owned(), 100 + OFFLINE_SECONDS), ("s2".to_owned(), 101 + TOKEN_SECONDS));
        assert_eq!(of("ana", 102), [s2, s1.clone()]);
        assert_eq!(of("ana", 101 + TOKEN_SECONDS), [s1]);
        assert_eq!(sessions.get("s1").unwrap(), Some(session("chart")));
        sessions.end("s1", 102 + TOKEN_SECONDS).unwrap();
        assert_eq!((of("ana", 102 + TOKEN_SECONDS), sessions.get("s1").unwrap()), (vec![], None));
        assert_eq!(of("bo", 103).len(), 1);
    }

    #[test]
    fn an_assertion_is_taken_once_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let sessions = Sessions::open(&path).unwrap();
        assert!(sessions.take("loader", "1", 200, 100).unwrap());
        assert!(!sessions.take("loader", "1", 200, 150).unwrap());
        assert!(sessions.take("other", "1", 200, 150).unwrap());
        drop(sessions);
        assert!(!Sessions::open(&path).unwrap().take("loader", "1", 200, 200).unwrap());
    }
}
