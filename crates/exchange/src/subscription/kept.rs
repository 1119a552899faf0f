//! What a gateway keeps of the subscriptions that it serves: how far each is, its events, and the secrets of its channel.
//!
//! A private file, on disk before anything is said of it. An event and the place on the ledger up to which events were looked for are written
//! together, so that none is numbered twice and none is passed over, whenever the process ends.

use crate::{
    failure::Failure,
    node::StartError,
    subscription::wanted::{Channel, Wanted},
};
use record::{Purpose, Role, TimeMs};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// Events of a subscription that can be asked for; of more, the oldest are forgotten.
pub(crate) const EVENTS_KEPT_MAX: u64 = 10_000;
/// Subscriptions of one gateway, and of one person (or one app of a person).
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1_000;
pub(crate) const OF_ONE_MAX: usize = 20;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS subscription (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
  subscription TEXT NOT NULL, number INTEGER NOT NULL, rtype TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, time INTEGER NOT NULL,
  PRIMARY KEY (subscription, number)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;";

/// How a subscription stands. Source: R4 code system `subscription-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its receiver has not answered yet.
    Requested,
    /// Events are sent.
    Active,
    /// They do not get through; it is tried again.
    Error,
    /// Nothing is sent any more.
    Off,
}

impl Status {
    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }
}

/// Who subscribed, and why; each notification is decided over as a read of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// The account that it is kept for: another app of the same user is somebody else.
    pub account: String,
    /// The user's name.
    pub user: String,
    /// What the user is.
    pub role: Role,
    /// For a patient's login: the id of the Patient.
    pub patient: Option<String>,
    /// Why they act.
    pub purpose: Purpose,
    /// The address that they came from.
    pub address: String,
    /// What they call this gateway by.
    pub base: String,
    /// What the gateway knows the login by.
    pub login: String,
}

/// A subscription of this gateway.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: String,
    /// The resource, without secrets.
    pub(crate) resource: Value,
    /// The headers of its channel.
    pub(crate) headers: Vec<String>,
    pub(crate) subscriber: Subscriber,
    pub(crate) status: Status,
    /// What is wrong, or why it is off.
    pub(crate) error: Option<String>,
    /// Whether its record was written.
    pub(crate) is_written: bool,
    /// How its record says that it stands.
    pub(crate) said: Option<(Status, Option<String>)>,
    /// Whether its receiver answered the handshake.
    pub(crate) is_shaken: bool,
    /// How often it was written by its owner.
    pub(crate) edition: u64,
    /// Events after this place on the ledger are its own.
    pub(crate) from: Option<u64>,
    /// The number of its last event: they count from 1 without gaps.
    pub(crate) last: u64,
    /// The last event that its receiver has.
    pub(crate) delivered: u64,
    /// Since when nothing gets through.
    pub(crate) failing_since: Option<TimeMs>,
    /// Records that may have been events, and of which the database has not what the ledger says.
    pub(crate) unreadable: u64,
}

impl Kept {
    /// What it asks for.
    pub(crate) fn wanted(&self) -> Result<Wanted, Failure> {
        Wanted::read(&self.resource)
    }

    /// Whether events are its own.
    pub(crate) fn is_live(&self) -> bool {
        self.is_written && self.status != Status::Off
    }

    /// Whether it is fetched by a WebSocket.
    pub(crate) fn is_fetched(&self) -> bool {
        self.wanted().is_ok_and(|wanted| wanted.channel == Channel::Socket)
    }
}

/// An event of a subscription: a version of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) rtype: String,
    pub(crate) id: String,
    pub(crate) version: u64,
    /// When it was written.
    pub(crate) time: TimeMs,
}

/// The subscriptions of a gateway.
pub(crate) struct Subscriptions {
    file: Arc<Mutex<Connection>>,
    /// As the file has them.
    all: Mutex<BTreeMap<String, Kept>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    changed: watch::Sender<u64>,
}

impl Subscriptions {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |why: String| StartError::Store(format!("the subscriptions at `{}`: {why}", path.display()));
        let open = || -> rusqlite::Result<(Connection, Vec<String>)> {
            let file = Connection::open(path)?;
            file.pragma_update(None, "journal_mode", "WAL")?;
            file.pragma_update(None, "synchronous", "FULL")?;
            file.execute_batch(SCHEMA)?;
            let bodies = file
                .prepare("SELECT body FROM subscription")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((file, bodies))
        };
        let (file, bodies) = open().map_err(|error| failed(error.to_string()))?;
        let read = |body: &String| serde_json::from_str::<Kept>(body).map(|kept| (kept.id.clone(), kept));
        let all: Result<BTreeMap<String, Kept>, _> = bodies.iter().map(read).collect();
        let all = all.map_err(|error| failed(error.to_string()))?;
        let changed = watch::Sender::new(0);
        let (file, all) = (Arc::new(Mutex::new(file)), Mutex::new(all));
        Ok(Self { file, all, changing: tokio::sync::Mutex::default(), changed })
    }

    /// Says when something has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Kept> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Kept> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Keeps a new one, or another edition of one, unless there are too many.
    pub(crate) async fn keep(&self, kept: Kept) -> Result<(), Failure> {
        let _alone = self.changing.lock().await;
        {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let own = all.values().filter(|other| other.subscriber.account == kept.subscriber.account).count();
            if !all.contains_key(&kept.id) && (all.len() >= SUBSCRIPTIONS_MAX || own >= OF_ONE_MAX) {
                return Err(Failure::Conflict(format!(
                    "a gateway keeps {SUBSCRIPTIONS_MAX} subscriptions, and {OF_ONE_MAX} of one person: delete one that is not needed"
                )));
            }
        }
        self.write(kept).await
    }

    /// Changes one, if it is there; gives it as it is then.
    pub(crate) async fn change(&self, id: &str, change: impl FnOnce(&mut Kept)) -> Result<Option<Kept>, Failure> {
        let _alone = self.changing.lock().await;
        let Some(mut kept) = self.get(id) else { return Ok(None) };
        change(&mut kept);
        self.write(kept.clone()).await?;
        Ok(Some(kept))
    }

    async fn write(&self, kept: Kept) -> Result<(), Failure> {
        let (id, body) = (kept.id.clone(), body_of(&kept)?);
        self.with(move |file| {
            file.execute("INSERT OR REPLACE INTO subscription (id, body) VALUES (?1, ?2)", params![id, body]).map(drop)
        })
        .await?;
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(kept.id.clone(), kept);
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Forgets one, with its events.
    pub(crate) async fn forget(&self, id: &str) -> Result<(), Failure> {
        let _alone = self.changing.lock().await;
        let name = id.to_owned();
        self.with(move |file| {
            let transaction = file.transaction()?;
            transaction.execute("DELETE FROM event WHERE subscription = ?1", [&name])?;
            transaction.execute("DELETE FROM subscription WHERE id = ?1", [&name])?;
            transaction.commit()
        })
        .await?;
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Up to which place of the ledger events were looked for; none at the very first.
    pub(crate) async fn place(&self) -> Result<Option<u64>, Failure> {
        self.with(|file| {
            file.query_row("SELECT value FROM meta WHERE key = 'place'", [], |row| row.get::<_, i64>(0)).optional()
        })
        .await
        .map(|place| place.map(i64::unsigned_abs))
    }

    /// Numbers new events, and says up to which place of the ledger they were looked for; all or nothing. `unreadable`: records of which
    /// nobody can say whether they are events, by subscription.
    pub(crate) async fn extend(
        &self,
        place: u64,
        found: BTreeMap<String, Vec<Event>>,
        unreadable: BTreeMap<String, u64>,
    ) -> Result<(), Failure> {
        let _alone = self.changing.lock().await;
        let (mut changed, mut events) = (Vec::new(), Vec::new());
        for mut kept in self.all() {
            let more = unreadable.get(&kept.id).copied().unwrap_or_default();
            let new = found.get(&kept.id).map(Vec::as_slice).unwrap_or_default();
            if (new.is_empty() && more == 0) || !kept.is_live() {
                continue;
            }
            for event in new {
                kept.last += 1;
                events.push((kept.id.clone(), Event { number: kept.last, ..event.clone() }));
            }
            kept.unreadable += more;
            changed.push((body_of(&kept)?, kept));
        }
        let bodies: Vec<(String, String, i64)> = changed
            .iter()
            .map(|(body, kept)| (kept.id.clone(), body.clone(), signed(kept.last.saturating_sub(EVENTS_KEPT_MAX))))
            .collect();
        self.with(move |file| {
            let transaction = file.transaction()?;
            for (subscription, Event { number, rtype, id, version, time }) in &events {
                transaction.execute(
                    "INSERT INTO event (subscription, number, rtype, id, version, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![subscription, signed(*number), rtype, id, signed(*version), signed(time.0)],
                )?;
            }
            for (id, body, forgotten) in &bodies {
                transaction.execute("UPDATE subscription SET body = ?2 WHERE id = ?1", params![id, body])?;
                transaction
                    .execute("DELETE FROM event WHERE subscription = ?1 AND number <= ?2", params![id, forgotten])?;
            }
            transaction
                .execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('place', ?1)", params![signed(place)])?;
            transaction.commit()
        })
        .await?;
        if !changed.is_empty() {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(changed.into_iter().map(|(_, kept)| (kept.id.clone(), kept)));
            drop(all);
            self.changed.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// The events of a subscription with these numbers, as far as they are kept.
    pub(crate) async fn events(&self, id: &str, from: u64, until: u64, most: u64) -> Result<Vec<Event>, Failure> {
        let id = id.to_owned();
        self.with(move |file| {
            file.prepare_cached(
                "SELECT number, rtype, id, version, time FROM event
                 WHERE subscription = ?1 AND number BETWEEN ?2 AND ?3 ORDER BY number LIMIT ?4",
            )?
            .query_map(params![id, signed(from), signed(until), signed(most)], |row| {
                let (number, version, time): (i64, i64, i64) = (row.get(0)?, row.get(3)?, row.get(4)?);
                let (number, version, time) =
                    (number.unsigned_abs(), version.unsigned_abs(), TimeMs(time.unsigned_abs()));
                Ok(Event { number, rtype: row.get(1)?, id: row.get(2)?, version, time })
            })?
            .collect()
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let file = self.file.clone();
        let run = move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner));
        let done = tokio::task::spawn_blocking(run).await.map_err(|_| Failure::Busy)?;
        done.map_err(|error| Failure::ours("the file of subscriptions failed", error))
    }
}

fn body_of(kept: &Kept) -> Result<String, Failure> {
    serde_json::to_string(kept).map_err(|error| Failure::ours("a subscription is not JSON", error))
}

/// SQLite keeps signed integers; everything counted here is far below 2^63.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(id: &str) -> Kept {
        Kept {
            id: id.to_owned(),
            resource: json!({"resourceType": "Subscription"}),
            headers: vec!["Authorization: secret".to_owned()],
            subscriber: Subscriber {
                account: "ana".to_owned(),
                user: "ana".to_owned(),
                role: Role::Doctor,
                patient: None,
                purpose: Purpose::Treat,
                address: String::new(),
                base: "http://gateway/fhir".to_owned(),
                login: "{}".to_owned(),
            },
            status: Status::Active,
            error: None,
            is_written: true,
            said: None,
            is_shaken: false,
            edition: 1,
            from: None,
            last: 0,
            delivered: 0,
            failing_since: None,
            unreadable: 0,
        }
    }

    fn event(id: &str) -> Event {
        Event { number: 0, rtype: "Flag".to_owned(), id: id.to_owned(), version: 1, time: TimeMs(7) }
    }

    async fn numbers(subscriptions: &Subscriptions, id: &str) -> Vec<(u64, String)> {
        let events = subscriptions.events(id, 1, u64::MAX, 100).await.unwrap();
        events.into_iter().map(|event| (event.number, event.id)).collect()
    }

    #[tokio::test]
    async fn events_have_numbers_without_gaps_and_outlive_the_process_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscriptions.db");
        let subscriptions = Subscriptions::open(&path).unwrap();
        assert_eq!(subscriptions.place().await.unwrap(), None);
        subscriptions.keep(kept("s1")).await.unwrap();
        subscriptions.keep(Kept { status: Status::Off, ..kept("s2") }).await.unwrap();
        let found = |names: &[&str]| {
            BTreeMap::from(["s1", "s2"].map(|id| (id.to_owned(), names.iter().map(|name| event(name)).collect())))
        };
        subscriptions.extend(41, found(&["f1", "f2"]), BTreeMap::new()).await.unwrap();
        drop(subscriptions);
        let subscriptions = Subscriptions::open(&path).unwrap();
        subscriptions.extend(42, found(&["f3"]), BTreeMap::from([("s1".to_owned(), 2)])).await.unwrap();
        assert_eq!(subscriptions.place().await.unwrap(), Some(42));
        let named = [(1, "f1"), (2, "f2"), (3, "f3")].map(|(number, id)| (number, id.to_owned()));
        assert_eq!(numbers(&subscriptions, "s1").await, named);
        assert_eq!(numbers(&subscriptions, "s2").await, [], "what is off has no events");
        let one = subscriptions.get("s1").unwrap();
        assert_eq!((one.last, one.unreadable, one.headers.len()), (3, 2, 1));
        subscriptions.forget("s1").await.unwrap();
        assert!(subscriptions.get("s1").is_none() && numbers(&subscriptions, "s1").await.is_empty());
    }

    #[tokio::test]
    async fn one_person_has_a_share_of_the_subscriptions_and_old_events_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let subscriptions = Subscriptions::open(&folder.path().join("subscriptions.db")).unwrap();
        for n in 0..OF_ONE_MAX {
            subscriptions.keep(kept(&format!("s{n}"))).await.unwrap();
        }
        assert!(matches!(subscriptions.keep(kept("more")).await, Err(Failure::Conflict(_))));
        subscriptions.keep(kept("s0")).await.unwrap();
        let mut other = kept("other");
        other.subscriber.account = "ana by chart".to_owned();
        subscriptions.keep(other).await.unwrap();

        let many = (0..EVENTS_KEPT_MAX + 5).map(|n| event(&n.to_string())).collect();
        subscriptions.extend(1, BTreeMap::from([("s0".to_owned(), many)]), BTreeMap::new()).await.unwrap();
        let first = subscriptions.events("s0", 1, u64::MAX, 1).await.unwrap();
        assert_eq!((first[0].number, subscriptions.get("s0").unwrap().last), (6, EVENTS_KEPT_MAX + 5));
    }
}
