//! Subscriptions: whoever may read something hears of it when it comes, for as long as they may read it.
//!
//! A Subscription is a record like others, of whoever wrote it. What it asks for and how far it is rests in a private file of the gateway at
//! which it was written, which alone serves it; its record says how it stands. Nothing about it is kept in memory alone, so that a process
//! which ends at any moment loses no event and numbers none twice (decision 39).

mod found;
mod kept;
mod notice;
mod wanted;

use crate::{
    boxed,
    caller::Caller,
    consent::Content,
    disclose::Shared,
    facts::Target,
    failure::Failure,
    ingest::{ATTEMPTS, Newcomers, Written, expect_version},
    made::parse,
    node::Node,
    take::to_the_end,
    write::Trail,
};
use contract::AccessAction;
use kept::Kept;
pub(crate) use kept::Subscriptions;
pub use kept::{Status, Subscriber};
pub use notice::{Notice, Say};
use policy::{Action, Decision, Reason};
use record::{
    Role, commit,
    fhir::{Interaction, IssueType, Resource},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use store::Unless;
use tokio::sync::{OwnedMutexGuard, watch};
use wanted::{Channel, Wanted, account_of, secrets_before, stamp, take_secrets};

/// The FHIR type.
pub(crate) const SUBSCRIPTION: &str = "Subscription";
/// What the gateway is called when it writes how a subscription stands.
const ENGINE: &str = "subscription-engine";
/// Attempts that fail in a row until its record says that nothing gets through.
const FAILURES_MAX: u32 = 3;
/// The longest Subscription, in bytes: all of them are kept in memory.
const BYTES_MAX: usize = 64 << 10;
/// For how long it is tried before it is given up, in milliseconds: a day.
const GIVE_UP_MS: u64 = 24 * 3600 * 1000;
/// How long to wait before a record is written or looked at again, at first and at most: twice as long each time.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];
/// How often it is looked whether subscriptions are over that nobody is told anything by.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a node asks the gateway around it.
pub trait Channels: Send + Sync {
    /// Whoever subscribed, as they are now; or why nothing is sent to them any more.
    fn caller(&self, subscriber: &Subscriber) -> Result<Caller, String>;
    /// Whether notifications may be posted to an address; or what to write instead.
    fn endpoint(&self, address: &str) -> Result<(), String>;
}

/// A subscription as whoever serves its channel sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Served {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// How it stands.
    pub status: Status,
    /// Where notifications are posted to; none when a WebSocket fetches them.
    pub endpoint: Option<String>,
    /// The headers that go along, each as `Name: value`. Secrets.
    pub headers: Vec<String>,
    /// Whether its receiver answered the handshake.
    pub is_shaken: bool,
    /// How often it was written by its owner: another edition may have another address.
    pub edition: u64,
    /// The number of its last event.
    pub last: u64,
    /// The last event that its receiver has.
    pub delivered: u64,
    /// After how many seconds of silence it is said that there is nothing to say.
    pub heartbeat_s: Option<u64>,
    /// How many seconds one notification may take.
    pub timeout_s: u64,
}

impl Served {
    fn of(kept: &Kept) -> Option<Self> {
        let wanted = kept.wanted().ok()?;
        let endpoint = match &wanted.channel {
            Channel::Hook(endpoint) => Some(endpoint.clone()),
            Channel::Socket => None,
        };
        Some(Self {
            id: kept.id.clone(),
            account: kept.subscriber.account.clone(),
            status: kept.status,
            endpoint,
            headers: kept.headers.clone(),
            is_shaken: kept.is_shaken,
            edition: kept.edition,
            last: kept.last,
            delivered: kept.delivered,
            heartbeat_s: wanted.heartbeat_s,
            timeout_s: wanted.timeout_s,
        })
    }
}

/// A refusal, unless a Subscription is the caller's own: whatever else they may read, others learn nothing of it.
pub(crate) fn refusal(caller: &Caller, target: &Target<'_>) -> Option<Decision> {
    if target.rtype != SUBSCRIPTION || (target.id.is_none() && target.value.is_none()) {
        return None;
    }
    static NOTHING: Value = Value::Null;
    let parsed: Value;
    let value = match target.value {
        Some(Content::Read(value)) => value,
        Some(Content::Row(row)) => {
            parsed = serde_json::from_slice(&row.bytes).unwrap_or_default();
            &parsed
        }
        None => &NOTHING,
    };
    // What was deleted says nothing of anybody.
    let is_empty = value.is_object() && value["criteria"].is_null();
    let is_own = *target.author == caller.org && account_of(value) == Some(caller.account().as_str());
    let is_engine = caller.role == Role::Engine && caller.user == ENGINE;
    if is_empty || is_own || is_engine {
        return None;
    }
    let sentence = "a subscription is for whoever wrote it alone".to_owned();
    let reason = Reason { policy: "subscriber".to_owned(), sentence };
    Some(Decision { allow: false, suppressed: false, reasons: vec![reason] })
}

/// What is said of a Subscription in a Bundle or a patch.
pub(crate) fn not_alone() -> Failure {
    let text =
        "a Subscription is written and deleted by its own address, whole, and neither patched nor sent in a Bundle";
    Failure::invalid(IssueType::NotSupported, "", text)
}

impl Node {
    /// Begins to serve the subscriptions that are kept here.
    #[boxed]
    pub async fn serve_subscriptions(&self, channels: Arc<dyn Channels>) {
        // Those that are written from now on need not be held against their records.
        let unlooked = self.subscriptions.all().iter().map(|kept| kept.id.clone()).collect();
        if self.channels.set(channels).is_err() {
            return;
        }
        self.also_run(tokio::spawn(self.clone().find_events())).await;
        self.also_run(tokio::spawn(self.clone().keep_records(unlooked))).await;
    }

    /// Says when something about a subscription has changed.
    pub fn subscription_changes(&self) -> watch::Receiver<u64> {
        self.subscriptions.changes()
    }

    /// Says when something about one subscription has changed; none when there is none.
    pub fn changes_of_subscription(&self, id: &str) -> Option<watch::Receiver<u64>> {
        self.subscriptions.get(id).map(|kept| kept.bell.subscribe())
    }

    /// The ids of the subscriptions that are served here and not off, and whose notifications are posted.
    pub fn hooks(&self) -> Vec<String> {
        let all = self.subscriptions.all();
        all.iter().filter(|kept| kept.is_live() && !kept.is_fetched()).map(|kept| kept.id.clone()).collect()
    }

    /// The subscription with this id, unless it is off.
    pub fn served_one(&self, id: &str) -> Option<Served> {
        self.subscriptions.get(id).filter(|kept| kept.is_live()).and_then(|kept| Served::of(&kept))
    }

    /// Its receiver has everything up to an event, or answered that it is there.
    #[boxed]
    pub async fn delivered(&self, id: &str, edition: u64, through: Option<u64>) -> Result<(), Failure> {
        let Some(kept) = self.subscriptions.get(id) else { return Ok(()) };
        let is_known = kept.is_shaken && kept.status == Status::Active && kept.failing_since.is_none();
        if is_known && through.is_none_or(|through| through <= kept.delivered) {
            return Ok(());
        }
        let of_edition = |kept: &mut Kept| {
            // Another edition has another receiver, and what was ended meanwhile stays so.
            if kept.edition == edition && kept.status != Status::Off {
                kept.delivered = through.unwrap_or_default().max(kept.delivered);
                (kept.is_shaken, kept.status, kept.error, kept.failing_since) = (true, Status::Active, None, None);
            }
        };
        self.subscriptions.change(id, of_edition).await.map(drop)
    }

    /// Its receiver did not take a notification, after so many others in a row.
    #[boxed]
    pub async fn missed(&self, id: &str, edition: u64, failures: u32, why: &str) -> Result<(), Failure> {
        let now = self.now();
        let of_edition = |kept: &mut Kept| {
            if kept.edition != edition || kept.status == Status::Off {
                return;
            }
            let since = *kept.failing_since.get_or_insert(now);
            if now.0.saturating_sub(since.0) > GIVE_UP_MS {
                let text = format!("given up after a day, write the subscription again to go on: {why}");
                (kept.status, kept.error) = (Status::Off, Some(text));
            } else if failures >= FAILURES_MAX {
                (kept.status, kept.error) =
                    (Status::Error, Some(format!("nothing gets through, it is tried again: {why}")));
            }
        };
        tracing::warn!(subscription = id, failures, "a notification did not get through");
        self.subscriptions.change(id, of_edition).await.map(drop)
    }

    /// Ends a subscription of this edition for a reason in words, which its owner is told.
    pub(crate) async fn end_subscription(&self, id: &str, edition: u64, why: String) -> Result<(), Failure> {
        let end = |kept: &mut Kept| {
            if kept.edition == edition && kept.status != Status::Off {
                tracing::info!(subscription = id, "a subscription ended");
                (kept.status, kept.error) = (Status::Off, Some(why));
            }
        };
        self.subscriptions.change(id, end).await.map(drop)
    }

    /// Whether something may still be sent: its record is there, the subscriber may come in, the patients may be followed, and its time is not
    /// over. What is no more so ends it.
    pub(crate) async fn still(&self, id: &str) -> Result<Option<(Arc<Kept>, Arc<Wanted>, Caller)>, Failure> {
        let Some(kept) = self.subscriptions.get(id).filter(|kept| kept.is_live()) else { return Ok(None) };
        let is_deleted = match self.sound_row(SUBSCRIPTION, id, None).await {
            Ok((row, _, _)) => row.deleted,
            Err(Failure::Gone(_)) => true,
            // Whoever runs the database does not end a subscription by it.
            Err(Failure::Tampered(_) | Failure::NotFound(_)) => false,
            Err(failure) => return Err(failure),
        };
        if is_deleted {
            // By another gateway of the organisation.
            self.subscriptions.forget(id).await?;
            return Ok(None);
        }
        let wanted = kept.wanted()?;
        if wanted.end.is_some_and(|end| end <= self.now()) {
            self.end_subscription(id, kept.edition, "its time is over, as its `end` says".to_owned()).await?;
            return Ok(None);
        }
        let Some(caller) = self.subscriber(&kept).await? else { return Ok(None) };
        for patient in &wanted.patients {
            match self.may_follow(&caller, &wanted, patient).await {
                Ok(()) => {}
                Err(Failure::Denied { sentence, .. }) => {
                    self.end_subscription(id, kept.edition, format!("nothing is sent any more: {sentence}")).await?;
                    return Ok(None);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Some((kept, wanted, caller)))
    }

    /// Decides whether a patient's records of the topic may be read, whoever wrote them.
    async fn may_follow(&self, caller: &Caller, wanted: &Wanted, patient: &str) -> Result<(), Failure> {
        let row = self.current_row("Patient", patient).await?.filter(|(_, worth)| worth.may_be_shown());
        let author = row.as_ref().map_or(&self.org, |(row, _)| &row.author);
        let rtype = wanted.topic.types[0];
        let target = Target { rtype, id: None, patient: Some(patient), label: "N", author, value: None };
        self.allow(caller, Action::Read, &target).await.map(drop)
    }

    /// Writes a new Subscription, unless something meets one of the conditions by then.
    pub(crate) async fn subscribe(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        conditions: Vec<Unless>,
    ) -> Result<Written, Failure> {
        let alone = self.subscriptions.write_alone().await;
        self.subscribe_alone(caller, id, resource, conditions, alone).await
    }

    async fn subscribe_alone(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        conditions: Vec<Unless>,
        alone: OwnedMutexGuard<()>,
    ) -> Result<Written, Failure> {
        let (kept, resource) = self.offer(caller, id, resource, None).await?;
        let (node, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        // Kept and written both, or neither, also when nobody waits for the answer any more.
        to_the_end(async move {
            let _alone = alone;
            let said = (kept.status, None);
            node.subscriptions.keep(kept).await?;
            match node.write_first(&caller, &id, &resource, conditions).await {
                Ok(written) => {
                    let is_written = |kept: &mut Kept| (kept.is_written, kept.said) = (true, Some(said));
                    if !node.subscriptions.change(&id, is_written).await? {
                        let text = format!("`{SUBSCRIPTION}/{id}` was deleted while it was written: write it anew");
                        return Err(Failure::Conflict(text));
                    }
                    Ok(written)
                }
                Err(failure) => {
                    node.subscriptions.forget(&id).await?;
                    Err(failure)
                }
            }
        })
        .await
    }

    async fn write_first(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        conditions: Vec<Unless>,
    ) -> Result<Written, Failure> {
        let time = self.now();
        let draft = self.draft_new(caller, id, resource, time, &mut Newcomers::new()).await?;
        let written = Written::of(&draft, time);
        let trail = Trail::of(Interaction::Create, AccessAction::Write);
        self.write(caller, time, vec![draft], conditions, &trail).await?;
        Ok(written)
    }

    /// Writes another edition of a Subscription, or its first: it begins again, with its numbers going on.
    pub(crate) async fn resubscribe(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        let alone = self.subscriptions.write_alone().await;
        let Some((row, _)) = self.current(SUBSCRIPTION, id).await? else {
            if if_match.is_some() {
                let text = format!("`{SUBSCRIPTION}/{id}` does not exist, so no version of it can match");
                return Err(Failure::Precondition(text));
            }
            return self.subscribe_alone(caller, id, resource, Vec::new(), alone).await;
        };
        self.allow(caller, Action::Update, &Target::of(&row)).await?;
        if row.deleted {
            return Err(Failure::Gone(format!("{SUBSCRIPTION}/{id}")));
        }
        let before = self.subscriptions.get(id).ok_or_else(|| elsewhere(id))?;
        let (kept, resource) = self.offer(caller, id, resource, Some(&before)).await?;
        let (node, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        to_the_end(async move {
            let _alone = alone;
            let said = (kept.status, None);
            node.subscriptions.keep_next(kept).await?;
            let written = node.write_next(&caller, &id, &resource, if_match).await;
            // What was not written is asked for by nobody: the edition before goes on as if nothing had been.
            let turn = |kept: &mut Kept| match &written {
                Ok(_) => {
                    kept.turn();
                    kept.said = Some(said);
                }
                Err(_) => kept.next = None,
            };
            let is_there = node.subscriptions.change(&id, turn).await?;
            match written {
                Ok(_) if !is_there => Err(Failure::Gone(format!("{SUBSCRIPTION}/{id}"))),
                written => written,
            }
        })
        .await
    }

    async fn write_next(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        for attempt in 1.. {
            let Some((row, previous)) = self.current(SUBSCRIPTION, id).await? else {
                return Err(Failure::NotFound(format!("{SUBSCRIPTION}/{id}")));
            };
            expect_version(&row, if_match)?;
            let time = self.now();
            let draft = self.draft_after(caller, row, previous, resource, time).await?;
            let written = Written::of(&draft, time);
            let trail = Trail::of(Interaction::Update, AccessAction::Write);
            match self.write(caller, time, vec![draft], Vec::new(), &trail).await {
                // The gateway itself said how it stands.
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                Err(failure) => return Err(failure),
                Ok(()) => return Ok(written),
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// A Subscription as it is kept and written, if it may be: of `before` what goes on.
    async fn offer(
        &self,
        caller: &Caller,
        id: &str,
        resource: &Resource,
        before: Option<&Kept>,
    ) -> Result<(Kept, Resource), Failure> {
        let channels =
            self.channels.get().ok_or_else(|| Failure::Unsupported("this node serves no subscriptions".to_owned()))?;
        let login = caller.login.clone();
        let login = login
            .ok_or_else(|| Failure::Unsupported("subscriptions are for people and apps that log in".to_owned()))?;
        if resource.text().len() > BYTES_MAX {
            return Err(Failure::TooLarge(format!("a Subscription has at most {BYTES_MAX} bytes")));
        }
        let mut value = resource.value();
        let secrets = before.map(|kept| secrets_before(&kept.resource, &kept.headers, &value));
        let headers = take_secrets(&mut value, secrets.unwrap_or_default())?;
        let wanted = Wanted::read(&value)?;
        if let Channel::Hook(address) = &wanted.channel {
            let place = "Subscription.channel.endpoint";
            channels.endpoint(address).map_err(|text| Failure::invalid(IssueType::Value, place, text))?;
        }
        for patient in &wanted.patients {
            self.may_follow(caller, &wanted, patient).await?;
        }
        let status = match wanted.channel {
            _ if wanted.is_off => Status::Off,
            Channel::Hook(_) => Status::Requested,
            // There is nobody to be asked: whoever binds a WebSocket to it is there.
            Channel::Socket => Status::Active,
        };
        stamp(&mut value, &caller.account(), status.code(), None);
        let (label, author, value_of) = ("N", &self.org, Some((&value).into()));
        let target = Target { rtype: SUBSCRIPTION, id: Some(id), patient: None, label, author, value: value_of };
        if !self.may_say_status(&target).await? {
            return Err(Failure::Unsupported(
                "the policy lets no gateway of this kind of organisation serve subscriptions".to_owned(),
            ));
        }
        let resource = parse(&value)?;
        // A mirror that is being made again is behind what was looked through already.
        let from = self.mirror.last_index().await?.max(self.subscriptions.place().await?);
        let kept = Kept {
            id: id.to_owned(),
            resource: value,
            headers,
            subscriber: Subscriber {
                account: caller.account(),
                user: caller.user.clone(),
                role: caller.role,
                patient: caller.patient.clone(),
                purpose: caller.purpose,
                address: caller.address.clone(),
                base: caller.base.clone(),
                login: login.to_string(),
            },
            status,
            error: None,
            is_written: before.is_some(),
            said: None,
            is_shaken: false,
            edition: before.map_or(1, |kept| kept.edition + 1),
            from,
            last: 0,
            delivered: 0,
            failing_since: None,
            unreadable: 0,
            next: None,
            parsed: OnceLock::new(),
            bell: watch::Sender::default(),
        };
        Ok((kept, resource))
    }

    /// Whether the gateway may write how a subscription stands.
    async fn may_say_status(&self, target: &Target<'_>) -> Result<bool, Failure> {
        let decided = self.decide(&self.machine(ENGINE, Role::Engine), Action::Update, target).await?;
        Ok(decided.decision.allow)
    }

    /// A Subscription was deleted.
    pub(crate) async fn unsubscribe(&self, id: &str) -> Result<(), Failure> {
        self.subscriptions.forget(id).await
    }

    /// A subscription of the caller's that is served here; the question is in the trail.
    pub(crate) async fn own_subscription(
        &self,
        caller: &Caller,
        id: &str,
        action: Action,
    ) -> Result<Arc<Kept>, Failure> {
        let name = format!("{SUBSCRIPTION}/{id}");
        let (row, _, _) = self.sound_row(SUBSCRIPTION, id, None).await?;
        self.allow(caller, action, &Target::of(&row)).await?;
        let versions = [commit(&row.salt, &row.bytes)];
        let names = [format!("{name}/_history/{}", row.version)];
        let trail = Trail::of(Interaction::Operation, AccessAction::Read);
        self.leave_trail(caller, None, &versions, &names, &trail).await?;
        if row.deleted {
            return Err(Failure::Gone(name));
        }
        self.subscriptions.get(id).ok_or_else(|| elsewhere(id))
    }

    /// The caller's subscriptions that are served here, of these ids when some are named.
    pub(crate) async fn own_subscriptions(&self, caller: &Caller, ids: &[String]) -> Result<Vec<Arc<Kept>>, Failure> {
        self.allow_type(caller, Action::Read, SUBSCRIPTION).await?;
        let account = caller.account();
        let named = |kept: &Kept| ids.is_empty() || ids.contains(&kept.id);
        let own = self.subscriptions.all().into_iter().filter(|kept| kept.subscriber.account == account && named(kept));
        let own: Vec<Arc<Kept>> = own.filter(|kept| kept.is_written).collect();
        let names = own.iter().map(|kept| format!("{SUBSCRIPTION}/{}", kept.id)).collect();
        let shared = BTreeMap::from([(None, Shared { names, ..Shared::default() })]);
        self.leave_trails(caller, shared, &Trail::of(Interaction::Operation, AccessAction::Read)).await?;
        Ok(own)
    }

    /// The ids of subscriptions of the caller's to which a WebSocket may be bound.
    #[boxed]
    pub async fn fetched_subscriptions(&self, caller: &Caller, ids: &[String]) -> Result<Vec<String>, Failure> {
        let mut fetched = Vec::new();
        for id in ids {
            let kept = self.own_subscription(caller, id, Action::Read).await?;
            if !kept.is_fetched() || !kept.is_live() {
                let text = format!("`{SUBSCRIPTION}/{id}` is off, or its channel is not of type `websocket`");
                return Err(Failure::Conflict(text));
            }
            fetched.push(kept.id.clone());
        }
        Ok(fetched)
    }

    /// Keeps the records of subscriptions as these stand, for ever. `unlooked`: those of an earlier process, of which a crash may have come
    /// between what is kept and the record.
    async fn keep_records(self, mut unlooked: Vec<String>) {
        let mut changes = self.subscription_changes();
        let (mut look_at, mut pause) = (Instant::now(), RETRY[0]);
        let mut owing: HashMap<String, (Instant, Duration)> = HashMap::new();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            changes.borrow_and_update();
            if !unlooked.is_empty() && look_at <= Instant::now() {
                unlooked = self.compare_records(unlooked).await;
                (look_at, pause) = (Instant::now() + pause, pause.saturating_mul(2).min(RETRY[1]));
            }
            let all = self.subscriptions.all();
            let is_owing = |kept: &&Arc<Kept>| kept.is_written && kept.said != Some((kept.status, kept.error.clone()));
            owing.retain(|id, _| all.iter().any(|kept| kept.id == *id));
            for kept in all.iter().filter(is_owing) {
                let waits = owing.get(&kept.id).copied();
                if waits.is_some_and(|(until, _)| until > Instant::now()) {
                    continue;
                }
                if let Err(error) = self.say_status(kept).await {
                    tracing::warn!(%error, subscription = kept.id, "how a subscription stands is not in its record yet");
                    let wait = waits.map_or(RETRY[0], |(_, wait)| wait.saturating_mul(2).min(RETRY[1]));
                    owing.insert(kept.id.clone(), (Instant::now() + wait, wait));
                } else {
                    owing.remove(&kept.id);
                }
            }
            let is_waiting = !owing.is_empty() || !unlooked.is_empty();
            tokio::select! {
                // A bell that is gone ends the node as well.
                changed = changes.changed() => if changed.is_err() { return },
                _ = tick.tick() => self.look_after_subscriptions().await,
                () = tokio::time::sleep(RETRY[0]), if is_waiting => {}
            }
        }
    }

    /// Ends subscriptions that are over although nobody is told anything by them, and sees whether the ledger moves.
    async fn look_after_subscriptions(&self) {
        let is_waited_for = self.unsettled() > 0 || self.ledger.status().pending > 0;
        self.subscriptions.looking().stands_at(self.mirror.height(), is_waited_for, self.now());
        for kept in self.subscriptions.all().into_iter().filter(|kept| kept.is_live()) {
            if let Err(error) = self.still_asks(&kept).await {
                tracing::warn!(%error, subscription = kept.id, "whether a subscription goes on could not be found out");
            }
        }
    }

    /// Ends a subscription whose login or time is over, also where there is nothing to send.
    async fn still_asks(&self, kept: &Kept) -> Result<(), Failure> {
        if kept.wanted()?.end.is_some_and(|end| end <= self.now()) {
            return self.still(&kept.id).await.map(drop);
        }
        self.subscriber(kept).await.map(drop)
    }

    /// Holds what is kept against the records; gives those that could not be looked at.
    async fn compare_records(&self, ids: Vec<String>) -> Vec<String> {
        let mut left = Vec::new();
        for id in ids {
            if let Err(error) = self.compare_record(&id).await {
                tracing::warn!(%error, subscription = id, "the record of a subscription could not be looked at; trying again");
                left.push(id);
            }
        }
        left
    }

    async fn compare_record(&self, id: &str) -> Result<(), Failure> {
        let _alone = self.subscriptions.write_alone().await;
        let Some(kept) = self.subscriptions.get(id) else { return Ok(()) };
        let row = match self.sound_row(SUBSCRIPTION, id, None).await {
            Ok((row, _, _)) if !row.deleted => row,
            Ok(_) | Err(Failure::NotFound(_) | Failure::Gone(_)) => return self.subscriptions.forget(id).await,
            // Whoever runs the database does not end a subscription by it.
            Err(Failure::Tampered(_)) if kept.is_written && kept.next.is_none() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        if kept.next.as_ref().is_some_and(|next| says_the_same(&next.resource, &value)) {
            return self.subscriptions.change(id, Kept::turn).await.map(drop);
        }
        let is_same = ["criteria", "_criteria", "channel", "end"].iter().all(|part| value[part] == kept.resource[part]);
        if kept.is_written && kept.next.is_none() && is_same {
            return Ok(());
        }
        let as_written = |kept: &mut Kept| {
            (kept.is_written, kept.next) = (true, None);
            if !is_same {
                kept.set_resource(value);
            }
        };
        self.subscriptions.change(id, as_written).await.map(drop)
    }

    /// Writes how a subscription stands into its record.
    async fn say_status(&self, kept: &Kept) -> Result<(), Failure> {
        let id = &kept.id;
        for attempt in 1..=ATTEMPTS {
            let found = self.current(SUBSCRIPTION, id).await?.filter(|(row, _)| !row.deleted);
            let Some((row, previous)) = found else { return self.subscriptions.forget(id).await };
            if !self.may_say_status(&Target::of(&row)).await? {
                // The policy is another one by now; `$status` tells it all the same.
                tracing::warn!(
                    subscription = id,
                    "the policy does not let the gateway write how a subscription stands"
                );
                break;
            }
            let mut value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            stamp(&mut value, &kept.subscriber.account, kept.status.code(), kept.error.as_deref());
            let (engine, time) = (self.machine(ENGINE, Role::Engine), self.now());
            let resource = parse(&value)?;
            let draft = self.draft_after(&engine, row, previous, &resource, time).await?;
            let trail = Trail::of(Interaction::Update, AccessAction::Write);
            match self.write(&engine, time, vec![draft], Vec::new(), &trail).await {
                Err(Failure::Precondition(_)) if attempt < ATTEMPTS => {}
                Err(failure) => return Err(failure),
                Ok(()) => break,
            }
        }
        let said = Some((kept.status, kept.error.clone()));
        self.subscriptions.change(id, |kept| kept.said = said).await.map(drop)
    }
}

/// Whether a record is of an edition: but for what the gateway writes into it.
fn says_the_same(edition: &Value, record: &Value) -> bool {
    let of_owner = |value: &Value| {
        let mut value = value.clone();
        if let Some(resource) = value.as_object_mut() {
            ["id", "meta", "status", "error"].iter().for_each(|part| drop(resource.shift_remove(*part)));
        }
        value
    };
    of_owner(edition) == of_owner(record)
}

fn elsewhere(id: &str) -> Failure {
    let text = format!(
        "`{SUBSCRIPTION}/{id}` is served by another gateway of the organisation: ask there, or delete it and write it anew if that one is gone"
    );
    Failure::Conflict(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn after_a_crash_an_edition_is_known_by_what_its_owner_wrote() {
        let edition = json!({"resourceType": "Subscription", "status": "requested", "criteria": "a", "reason": "x"});
        let record = json!({
            "resourceType": "Subscription", "id": "s1", "meta": {"versionId": "3"}, "status": "error", "error": "away",
            "reason": "x", "criteria": "a"
        });
        assert!(says_the_same(&edition, &record));
        for (part, other) in [("criteria", "b"), ("reason", "y"), ("end", "2026-12-01T10:00:00Z")] {
            let mut record = record.clone();
            record[part] = json!(other);
            assert!(!says_the_same(&edition, &record), "{part}");
        }
    }
}
