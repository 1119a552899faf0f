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
    sync::{Arc, Mutex, OnceLock, PoisonError},
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

/// How long entries may wait for the ledger until it is said that it stands still, in milliseconds.
const STANDS_STILL_MS: u64 = 30_000;

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
    /// Its next edition while the record is written: nothing is sent by it before that.
    #[serde(default)]
    pub(crate) next: Option<Box<Kept>>,
    /// What its resource asks for, once read.
    #[serde(skip)]
    pub(crate) parsed: OnceLock<Arc<Wanted>>,
    /// Rings when it changes.
    #[serde(skip)]
    pub(crate) bell: watch::Sender<u64>,
}

impl Kept {
    /// What it asks for.
    pub(crate) fn wanted(&self) -> Result<Arc<Wanted>, Failure> {
        if let Some(parsed) = self.parsed.get() {
            return Ok(parsed.clone());
        }
        let wanted = Arc::new(Wanted::read(&self.resource)?);
        Ok(self.parsed.get_or_init(|| wanted).clone())
    }

    /// Takes what its record says for what it asks for.
    pub(crate) fn set_resource(&mut self, resource: Value) {
        (self.resource, self.parsed) = (resource, OnceLock::new());
    }

    /// Whether another edition asks for the same events.
    pub(crate) fn asks_like(&self, resource: &Value) -> bool {
        self.is_live()
            && self.resource["criteria"] == resource["criteria"]
            && self.resource["_criteria"] == resource["_criteria"]
    }

    /// Becomes its next edition, if it has one. How far it is, it says by what it is at this moment: numbers may have been given meanwhile.
    pub(crate) fn turn(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        next.last = self.last;
        if self.asks_like(&next.resource) {
            (next.from, next.delivered, next.unreadable) = (self.from, self.delivered, self.unreadable);
        } else {
            // What was asked for before is not sent to who asks for something else now.
            (next.delivered, next.unreadable) = (self.last, 0);
        }
        next.bell = self.bell.clone();
        *self = *next;
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

/// What was found for subscriptions in a step of the ledger.
#[derive(Default)]
pub(crate) struct Found {
    /// New events, by subscription.
    pub(crate) events: BTreeMap<String, Vec<Event>>,
    /// Records of which nobody can say whether they are events, by subscription.
    pub(crate) unreadable: BTreeMap<String, u64>,
}

/// Whether events are looked for.
#[derive(Default)]
pub(crate) struct Looking {
    /// Since when looking fails.
    failing_since: Option<TimeMs>,
    /// Since when something waits for the ledger, which stood at that height then.
    waiting_since: Option<(u64, TimeMs)>,
}

impl Looking {
    /// Looking went well, or failed.
    pub(crate) fn looked(&mut self, is_good: bool, now: TimeMs) {
        self.failing_since = if is_good { None } else { Some(self.failing_since.unwrap_or(now)) };
    }

    /// The ledger stands at a height, and something waits for it or not.
    pub(crate) fn stands_at(&mut self, height: u64, is_waited_for: bool, now: TimeMs) {
        let since = self.waiting_since.filter(|(at, _)| *at == height).unwrap_or((height, now));
        self.waiting_since = is_waited_for.then_some(since);
    }

    /// Since when events were not looked for, if so.
    pub(crate) fn missed_since(&self, now: TimeMs) -> Option<TimeMs> {
        let stands = self.waiting_since.map(|(_, since)| since);
        let stands = stands.filter(|since| now.0.saturating_sub(since.0) > STANDS_STILL_MS);
        self.failing_since.into_iter().chain(stands).min()
    }
}

/// The oldest event that is kept where the last one has this number.
pub(crate) fn oldest_kept(last: u64) -> u64 {
    last.saturating_sub(EVENTS_KEPT_MAX) + 1
}

/// The subscriptions of a gateway.
pub(crate) struct Subscriptions {
    file: Arc<Mutex<Connection>>,
    /// As the file has them.
    all: Mutex<BTreeMap<String, Arc<Kept>>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// One record at a time is written with what is kept of it.
    writing: Arc<tokio::sync::Mutex<()>>,
    changed: watch::Sender<u64>,
    looking: Mutex<Looking>,
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
        let read = |body: &String| serde_json::from_str::<Kept>(body).map(|kept| (kept.id.clone(), Arc::new(kept)));
        let all: Result<BTreeMap<String, Arc<Kept>>, _> = bodies.iter().map(read).collect();
        let all = all.map_err(|error| failed(error.to_string()))?;
        let changed = watch::Sender::new(0);
        let (file, all) = (Arc::new(Mutex::new(file)), Mutex::new(all));
        let (changing, writing, looking) = (tokio::sync::Mutex::default(), Arc::default(), Mutex::default());
        Ok(Self { file, all, changing, writing, changed, looking })
    }

    /// Says when something has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whoever holds this alone writes records of subscriptions.
    pub(crate) async fn write_alone(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.writing.clone().lock_owned().await
    }

    /// Whether events are looked for.
    pub(crate) fn looking(&self) -> std::sync::MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Kept>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Keeps a new one, unless there are too many.
    pub(crate) async fn keep(&self, mut kept: Kept) -> Result<(), Failure> {
        let _alone = self.changing.lock().await;
        {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            // Its record is gone, and it is not: numbers that were given stay given.
            if let Some(before) = all.get(&kept.id) {
                if before.subscriber.account != kept.subscriber.account {
                    return Err(Failure::Conflict(format!(
                        "`Subscription/{}` is somebody else's: choose another id",
                        kept.id
                    )));
                }
                (kept.last, kept.delivered, kept.edition) = (before.last, before.last, before.edition + 1);
                kept.bell = before.bell.clone();
            }
            let own = all.values().filter(|other| other.subscriber.account == kept.subscriber.account).count();
            if !all.contains_key(&kept.id) && (all.len() >= SUBSCRIPTIONS_MAX || own >= OF_ONE_MAX) {
                return Err(Failure::Conflict(format!(
                    "a gateway keeps {SUBSCRIPTIONS_MAX} subscriptions, and {OF_ONE_MAX} of one person: delete one that is not needed"
                )));
            }
        }
        self.write(kept).await
    }

    /// Keeps the next edition of one beside it, unless that is another one than it was made after.
    pub(crate) async fn keep_next(&self, next: Kept) -> Result<(), Failure> {
        let _alone = self.changing.lock().await;
        let before = self.get(&next.id).filter(|before| before.edition + 1 == next.edition);
        let Some(before) = before else {
            let text =
                format!("`Subscription/{}` was written at the same time: read it again and repeat the change", next.id);
            return Err(Failure::Conflict(text));
        };
        self.write(Kept { next: Some(Box::new(next)), ..Kept::clone(&before) }).await
    }

    /// Changes one, if it is there; says whether it is.
    pub(crate) async fn change(&self, id: &str, change: impl FnOnce(&mut Kept)) -> Result<bool, Failure> {
        let _alone = self.changing.lock().await;
        let Some(kept) = self.get(id) else { return Ok(false) };
        let mut kept = Kept::clone(&kept);
        change(&mut kept);
        self.write(kept).await?;
        Ok(true)
    }

    async fn write(&self, kept: Kept) -> Result<(), Failure> {
        let (id, body) = (kept.id.clone(), body_of(&kept)?);
        self.with(move |file| {
            file.execute("INSERT OR REPLACE INTO subscription (id, body) VALUES (?1, ?2)", params![id, body]).map(drop)
        })
        .await?;
        let bell = kept.bell.clone();
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(kept.id.clone(), Arc::new(kept));
        self.ring([bell]);
        Ok(())
    }

    fn ring(&self, bells: impl IntoIterator<Item = watch::Sender<u64>>) {
        let more = |changes: &mut u64| *changes += 1;
        bells.into_iter().for_each(|bell| bell.send_modify(more));
        self.changed.send_modify(more);
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
        let gone = self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.ring(gone.map(|gone| gone.bell.clone()));
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

    /// Numbers new events, and says up to which place of the ledger they were looked for; all or nothing. Nothing, and it says so, when what
    /// was found is of another edition of a subscription than there is: by then it may ask for something else. `editions`: of those that
    /// something was looked for.
    pub(crate) async fn extend(
        &self,
        place: u64,
        found: Found,
        editions: &BTreeMap<String, u64>,
    ) -> Result<bool, Failure> {
        let Found { events: found, unreadable } = found;
        let _alone = self.changing.lock().await;
        let (mut changed, mut events) = (Vec::new(), Vec::new());
        for kept in self.all() {
            let more = unreadable.get(&kept.id).copied().unwrap_or_default();
            let new = found.get(&kept.id).map(Vec::as_slice).unwrap_or_default();
            if editions.get(&kept.id).is_some_and(|edition| *edition != kept.edition) {
                return Ok(false);
            }
            if (new.is_empty() && more == 0) || !kept.is_live() {
                continue;
            }
            let mut kept = Kept::clone(&kept);
            for event in new {
                kept.last += 1;
                events.push((kept.id.clone(), Event { number: kept.last, ..event.clone() }));
            }
            kept.unreadable += more;
            changed.push((body_of(&kept)?, kept));
        }
        let bodies: Vec<(String, String, i64)> = changed
            .iter()
            .map(|(body, kept)| (kept.id.clone(), body.clone(), signed(oldest_kept(kept.last) - 1)))
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
            let bells: Vec<_> = changed.iter().map(|(_, kept)| kept.bell.clone()).collect();
            all.extend(changed.into_iter().map(|(_, kept)| (kept.id.clone(), Arc::new(kept))));
            drop(all);
            self.ring(bells);
        }
        Ok(true)
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
            next: None,
            parsed: OnceLock::new(),
            bell: watch::Sender::default(),
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
        let first = Found { events: found(&["f1", "f2"]), ..Found::default() };
        assert!(subscriptions.extend(41, first, &BTreeMap::new()).await.unwrap());
        drop(subscriptions);
        let subscriptions = Subscriptions::open(&path).unwrap();
        let second = Found { events: found(&["f3"]), unreadable: BTreeMap::from([("s1".to_owned(), 2)]) };
        assert!(subscriptions.extend(42, second, &BTreeMap::new()).await.unwrap());
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
        let mut other = kept("other");
        other.subscriber.account = "ana by chart".to_owned();
        subscriptions.keep(other).await.unwrap();

        let many = (0..EVENTS_KEPT_MAX + 5).map(|n| event(&n.to_string())).collect();
        let found = Found { events: BTreeMap::from([("s0".to_owned(), many)]), ..Found::default() };
        assert!(subscriptions.extend(1, found, &BTreeMap::new()).await.unwrap());
        let first = subscriptions.events("s0", 1, u64::MAX, 1).await.unwrap();
        assert_eq!((first[0].number, subscriptions.get("s0").unwrap().last), (6, EVENTS_KEPT_MAX + 5));
        assert_eq!((oldest_kept(EVENTS_KEPT_MAX + 5), oldest_kept(EVENTS_KEPT_MAX), oldest_kept(0)), (6, 1, 1));
    }

    fn asking(id: &str, criteria: &str) -> Kept {
        Kept { resource: json!({"resourceType": "Subscription", "criteria": criteria}), ..kept(id) }
    }

    fn one(id: &str, name: &str) -> Found {
        Found { events: BTreeMap::from([(id.to_owned(), vec![event(name)])]), ..Found::default() }
    }

    /// An edition was made from a copy, and written whole: a number that was given meanwhile was given again, which the file refused, for
    /// this and for all other subscriptions, for ever.
    #[tokio::test]
    async fn an_edition_that_was_made_before_an_event_goes_on_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscriptions.db");
        let subscriptions = Subscriptions::open(&path).unwrap();
        let none = BTreeMap::new();
        subscriptions.keep(asking("s1", "alarm")).await.unwrap();
        assert!(subscriptions.extend(1, one("s1", "f1"), &none).await.unwrap());
        subscriptions.change("s1", |kept| kept.delivered = 1).await.unwrap();
        for (edition, criteria, delivered) in [(2, "alarm", 1), (3, "consent", 3)] {
            let before = subscriptions.get("s1").unwrap();
            let next = Kept { edition, resource: json!({"criteria": criteria}), ..Kept::clone(&before) };
            assert!(subscriptions.extend(edition, one("s1", "meanwhile"), &none).await.unwrap());
            subscriptions.keep_next(next.clone()).await.unwrap();
            let still = subscriptions.get("s1").unwrap();
            assert_eq!(
                (still.edition, still.last),
                (edition - 1, edition),
                "it is the next one when its record is written"
            );
            subscriptions.change("s1", Kept::turn).await.unwrap();
            let after = subscriptions.get("s1").unwrap();
            assert_eq!((after.edition, after.last, after.delivered), (edition, edition, delivered));
            assert!(after.next.is_none());
            let late = subscriptions.keep_next(next).await;
            assert!(matches!(late, Err(Failure::Conflict(_))), "it was made after another edition");
        }
        assert!(subscriptions.extend(4, one("s1", "last"), &none).await.unwrap());
        // Also one whose record was lost and which is written as if it were the first.
        subscriptions.keep(asking("s1", "alarm")).await.unwrap();
        let anew = subscriptions.get("s1").unwrap();
        assert_eq!((anew.last, anew.delivered, anew.edition), (4, 4, 4));
        let mut theirs = asking("s1", "alarm");
        theirs.subscriber.account = "ben".to_owned();
        assert!(matches!(subscriptions.keep(theirs).await, Err(Failure::Conflict(_))));
        let named = [(1, "f1"), (2, "meanwhile"), (3, "meanwhile"), (4, "last")];
        assert_eq!(numbers(&subscriptions, "s1").await, named.map(|(number, id)| (number, id.to_owned())));
        drop(subscriptions);
        assert_eq!(Subscriptions::open(&path).unwrap().get("s1").unwrap().last, 4);
    }

    #[tokio::test]
    async fn what_was_found_for_an_edition_is_not_given_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let subscriptions = Subscriptions::open(&folder.path().join("subscriptions.db")).unwrap();
        subscriptions.keep(asking("s1", "alarm")).await.unwrap();
        let editions = BTreeMap::from([("s1".to_owned(), 1)]);
        let before = subscriptions.get("s1").unwrap();
        subscriptions.keep_next(Kept { edition: 2, ..Kept::clone(&before) }).await.unwrap();
        subscriptions.change("s1", Kept::turn).await.unwrap();
        assert!(!subscriptions.extend(7, one("s1", "f1"), &editions).await.unwrap());
        assert_eq!((subscriptions.place().await.unwrap(), subscriptions.get("s1").unwrap().last), (None, 0));
        let editions = BTreeMap::from([("s1".to_owned(), 2)]);
        assert!(subscriptions.extend(7, one("s1", "f1"), &editions).await.unwrap());
        assert_eq!((subscriptions.place().await.unwrap(), subscriptions.get("s1").unwrap().last), (Some(7), 1));
    }

    #[tokio::test]
    async fn a_change_rings_the_bell_of_its_subscription_alone() {
        let folder = tempfile::tempdir().unwrap();
        let subscriptions = Subscriptions::open(&folder.path().join("subscriptions.db")).unwrap();
        subscriptions.keep(kept("s1")).await.unwrap();
        subscriptions.keep(kept("s2")).await.unwrap();
        let heard = |id: &str| subscriptions.get(id).unwrap().bell.subscribe();
        let (first, second) = (heard("s1"), heard("s2"));
        subscriptions.change("s1", |kept| kept.delivered = 1).await.unwrap();
        assert!(first.has_changed().unwrap() && !second.has_changed().unwrap());
    }

    #[test]
    fn it_is_said_since_when_events_are_not_looked_for() {
        let mut looking = Looking::default();
        looking.looked(false, TimeMs(5_000));
        looking.looked(false, TimeMs(6_000));
        assert_eq!(looking.missed_since(TimeMs(6_000)), Some(TimeMs(5_000)));
        looking.looked(true, TimeMs(7_000));
        assert_eq!(looking.missed_since(TimeMs(7_000)), None);
        // A ledger for which nothing waits stands still rightly; one that moves is not still.
        for (at, height, is_waited_for, since) in [
            (10_000, 3, false, None),
            (50_000, 3, true, None),
            (90_000, 3, true, Some(50_000)),
            (95_000, 4, true, None),
        ] {
            looking.stands_at(height, is_waited_for, TimeMs(at));
            assert_eq!(looking.missed_since(TimeMs(at)), since.map(TimeMs), "{at}");
        }
    }
}
