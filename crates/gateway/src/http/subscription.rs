//! The doors of subscriptions: how they stand, what there was, and the WebSocket by which they are fetched.
//!
//! Source: HL7 Subscriptions R5 Backport 1.1.0, operations `$status`, `$events` and `$get-ws-binding-token`, channel `websocket`.

use super::{
    Doors,
    auth::Known,
    fhir::{Body, asked_by_post, plain},
    outcome::Refusal,
};
use crate::identity::{drawn, hash};
use axum::{
    extract::{
        Path, RawQuery, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::HeaderMap,
    response::Response,
};
use exchange::{Caller, Failure, Node, Say, clock::now};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use record::{
    TimeMs,
    fhir::{Issue, IssueType, Outcome},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::OwnedSemaphorePermit;

/// How long a token binds, in milliseconds.
const BINDING_MS: u64 = 60_000;
/// Tokens that are good at the same time.
const BINDINGS_MAX: usize = 4_096;
/// Subscriptions that are bound by one token, and to one WebSocket.
const BOUND_MAX: usize = 64;
/// How long a WebSocket may be bound to nothing.
const BIND_WAIT: Duration = Duration::from_secs(3);
/// How long a receiver may take nothing before it is let go.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// How long it is waited for the last words to be taken.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether there is something to say.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a receiver is asked whether it is there, when nothing else asks it; and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WAIT: Duration = Duration::from_secs(30);
/// The longest message of a receiver, in bytes: a token.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Tokens by which WebSockets are bound to subscriptions: each is good once, and for a minute. Kept as hashes.
#[derive(Default)]
pub(crate) struct Bindings(Mutex<HashMap<[u8; 32], Binding>>);

/// What a token binds, and until when.
struct Binding {
    ids: Vec<String>,
    until: TimeMs,
}

impl Bindings {
    /// A token for some subscriptions, and until when it is good.
    fn give(&self, ids: Vec<String>, now: TimeMs) -> Result<(String, TimeMs), Failure> {
        let token = drawn().map_err(|error| Failure::Ours(format!("{error:#}")))?;
        let until = TimeMs(now.0 + BINDING_MS);
        let mut bindings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bindings.retain(|_, binding| binding.until > now);
        if bindings.len() >= BINDINGS_MAX {
            return Err(Failure::Busy);
        }
        bindings.insert(hash(&token), Binding { ids, until });
        Ok((token, until))
    }

    /// The subscriptions of a token, which is used up.
    fn take(&self, token: &str, now: TimeMs) -> Option<Vec<String>> {
        let mut bindings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let binding = bindings.remove(&hash(token))?;
        (binding.until > now).then_some(binding.ids)
    }
}

pub(crate) async fn statuses(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.subscription_status(&caller, None, &query.unwrap_or_default()).await?))
}

pub(crate) async fn statuses_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(plain(doors.node.subscription_status(&caller, None, &query).await?))
}

pub(crate) async fn status(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.subscription_status(&caller, Some(&id), &query.unwrap_or_default()).await?))
}

pub(crate) async fn status_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(plain(doors.node.subscription_status(&caller, Some(&id), &query).await?))
}

pub(crate) async fn events(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(plain(doors.node.subscription_events(&caller, &id, &query.unwrap_or_default()).await?))
}

pub(crate) async fn events_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(plain(doors.node.subscription_events(&caller, &id, &query).await?))
}

pub(crate) async fn token(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Ok(bind(&doors, &caller, named(&query.unwrap_or_default())?).await?)
}

pub(crate) async fn token_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let query = asked_by_post(query, &headers, &body?)?;
    Ok(bind(&doors, &caller, named(&query)?).await?)
}

pub(crate) async fn token_for_one(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(bind(&doors, &caller, vec![id]).await?)
}

/// The same, posted.
pub(crate) async fn token_for_one_by_post(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if !asked_by_post(None, &headers, &body?)?.is_empty() {
        let text = "the address names the subscription: send no parameters";
        return Err(Failure::invalid(IssueType::NotSupported, "Parameters.parameter", text).into());
    }
    Ok(bind(&doors, &caller, vec![id]).await?)
}

/// The ids in a query.
fn named(query: &str) -> Result<Vec<String>, Failure> {
    let mut ids: Vec<String> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "id" => ids.extend(value.split(',').map(str::to_owned)),
            "_format" | "_pretty" => {}
            _ => {
                let text = "$get-ws-binding-token takes `id`, once for each subscription";
                return Err(Failure::invalid(IssueType::NotSupported, "", text));
            }
        }
    }
    ids.sort();
    ids.dedup();
    match ids.len() {
        1..=BOUND_MAX => Ok(ids),
        _ => {
            Err(Failure::invalid(IssueType::Required, "", format!("say which subscriptions by `id`: 1 to {BOUND_MAX}")))
        }
    }
}

async fn bind(doors: &Doors, caller: &Caller, ids: Vec<String>) -> Result<Response, Failure> {
    let ids = doors.node.fetched_subscriptions(caller, &ids).await?;
    let address = format!("{}/$subscriptions", caller.base.replacen("http", "ws", 1));
    let (token, until) = doors.bindings.give(ids.clone(), now())?;
    let mut parameters = vec![
        json!({"name": "token", "valueString": token}),
        json!({"name": "expiration", "valueDateTime": until.to_instant()}),
    ];
    parameters.extend(ids.iter().map(|id| json!({"name": "subscription", "valueString": id})));
    parameters.push(json!({"name": "websocket-url", "valueUrl": address}));
    Ok(plain(json!({"resourceType": "Parameters", "parameter": parameters}).to_string().into_bytes()))
}

/// A WebSocket needs no token of a login: a token of a subscription says whose it is.
pub(crate) async fn socket(State(doors): State<Doors>, upgrade: WebSocketUpgrade) -> Result<Response, Refusal> {
    // Whoever is bound to nothing yet takes no place from those who are, nor from devices and streams.
    let unbound = doors.unbound.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let place = doors.subscribed.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (to, from) = socket.split();
        let mut receiver = Receiver {
            node: doors.node.clone(),
            to,
            bound: BTreeMap::new(),
            unbound: Some(unbound),
            asked: None,
            pings: 0,
            pinged: Instant::now(),
        };
        if let Err(why) = receiver.serve(from, &doors.bindings).await {
            receiver.close(why).await;
        }
        drop(place);
    }))
}

/// Whoever fetches notifications.
struct Receiver {
    node: Node,
    to: SplitSink<WebSocket, Message>,
    /// How far it is with each subscription.
    bound: BTreeMap<String, Bound>,
    /// Its place among those that are bound to nothing yet.
    unbound: Option<OwnedSemaphorePermit>,
    /// The ping that it has not answered.
    asked: Option<Asked>,
    /// How many pings there were, and when the last one was sent.
    pings: u64,
    pinged: Instant,
}

/// A ping, and what the receiver has when it answers: each subscription's edition and last event. What is sent may lie in buffers on its
/// way; who answers what was sent after it has it.
struct Asked {
    name: [u8; 8],
    has: Vec<(String, u64, u64)>,
}

struct Bound {
    edition: u64,
    /// The last event that it was told of.
    through: u64,
    /// The last event that it is known to have.
    had: u64,
    /// When it was told something last.
    said: Instant,
}

/// Why a WebSocket is closed: a code, and words.
type Why = (u16, String);

impl Receiver {
    /// Tells what there is as it comes, until one side ends it.
    async fn serve(&mut self, mut from: SplitStream<WebSocket>, bindings: &Bindings) -> Result<(), Why> {
        let mut changes = self.node.subscription_changes();
        let begun = Instant::now();
        loop {
            changes.borrow_and_update();
            self.tell().await?;
            if self.bound.is_empty() && begun.elapsed() > BIND_WAIT {
                return Err((close_code::POLICY, "bound to no subscription that goes on: see its record".to_owned()));
            }
            self.ask().await?;
            // Nothing waits here for a receiver: what it was not told yet is in the file of its subscription.
            tokio::select! {
                heard = from.next() => match heard {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                    Some(Ok(Message::Text(text))) => self.bind(text.as_str(), bindings).await?,
                    Some(Ok(Message::Pong(name))) => self.answered(&name).await?,
                    Some(Ok(_)) => {}
                },
                changed = changes.changed() => if changed.is_err() {
                    return Err((close_code::AWAY, "the gateway stops".to_owned()));
                },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Asks whether it is there: after it was told something, and now and then.
    async fn ask(&mut self) -> Result<(), Why> {
        if self.asked.is_some() {
            return match self.pinged.elapsed() > PONG_WAIT {
                true => Err((close_code::POLICY, "it does not answer: ask $events for what was missed".to_owned())),
                false => Ok(()),
            };
        }
        let is_told = self.bound.values().any(|bound| bound.through > bound.had);
        if !is_told && self.pinged.elapsed() < PING_EVERY {
            return Ok(());
        }
        self.pings += 1;
        let name = self.pings.to_be_bytes();
        let has = self.bound.iter().map(|(id, bound)| (id.clone(), bound.edition, bound.through)).collect();
        (self.asked, self.pinged) = (Some(Asked { name, has }), Instant::now());
        self.send(Message::Ping(name.to_vec().into())).await
    }

    /// It answered a ping: what was sent before that, it has.
    async fn answered(&mut self, name: &[u8]) -> Result<(), Why> {
        let Some(asked) = self.asked.take_if(|asked| asked.name == name) else { return Ok(()) };
        for (id, edition, through) in asked.has {
            let bound = self.bound.get_mut(&id).filter(|bound| bound.edition == edition && bound.had < through);
            if let Some(bound) = bound {
                bound.had = through;
                self.note(&id, edition, Some(through)).await?;
            }
        }
        Ok(())
    }

    /// Binds what a token names, and says so.
    async fn bind(&mut self, text: &str, bindings: &Bindings) -> Result<(), Why> {
        let token = text.trim().strip_prefix("bind-with-token").map(|token| token.trim_start_matches(':').trim());
        let ids = token.and_then(|token| bindings.take(token, now()));
        let Some(ids) = ids else {
            let text =
                "say `bind-with-token` and a token of `$get-ws-binding-token`, which is good once and for a minute";
            return Err((close_code::POLICY, text.to_owned()));
        };
        if self.bound.len() + ids.len() > BOUND_MAX {
            return Err((close_code::POLICY, format!("at most {BOUND_MAX} subscriptions on one WebSocket")));
        }
        for id in ids {
            let Some(served) = self.node.served_one(&id) else { continue };
            let Some(notice) = self.notice(&id, served.edition, Say::Handshake).await? else { continue };
            self.send(Message::Text(notice.text.into())).await?;
            // It goes on where the last one ended.
            let (edition, through) = (served.edition, served.delivered);
            let bound = Bound { edition, through, had: through, said: Instant::now() };
            self.bound.insert(id.clone(), bound);
            self.unbound = None;
            self.note(&id, served.edition, None).await?;
        }
        Ok(())
    }

    /// Tells each subscription's events, or that there are none.
    async fn tell(&mut self) -> Result<(), Why> {
        let ids: Vec<String> = self.bound.keys().cloned().collect();
        for id in ids {
            loop {
                let (served, bound) = (self.node.served_one(&id), self.bound.get(&id));
                let (Some(served), Some(bound)) = (served, bound) else {
                    self.bound.remove(&id);
                    self.send_end(&id).await?;
                    break;
                };
                // Written anew, it may ask for something else, or by another channel: whoever fetches it asks again.
                if served.edition != bound.edition {
                    self.bound.remove(&id);
                    self.send_end(&id).await?;
                    break;
                }
                let is_quiet = served.heartbeat_s.is_some_and(|s| bound.said.elapsed() >= Duration::from_secs(s));
                let say = match () {
                    () if bound.through < served.last => Say::EventsAfter(bound.through),
                    () if is_quiet => Say::Heartbeat,
                    () => break,
                };
                let Some(notice) = self.notice(&id, served.edition, say).await? else { break };
                let after = self.bound.get(&id).map_or(0, |bound| bound.had);
                if let Err((code, _)) = self.send(Message::Text(notice.text.into())).await {
                    let text = format!("too slow: ask $events for what comes after {after}");
                    return Err((code, text));
                }
                if let Some(bound) = self.bound.get_mut(&id) {
                    bound.said = Instant::now();
                    bound.through = notice.through.unwrap_or(bound.through);
                }
            }
        }
        Ok(())
    }

    /// Says that nothing more comes of a subscription.
    async fn send_end(&mut self, id: &str) -> Result<(), Why> {
        let text =
            format!("nothing more comes of `Subscription/{id}` here: its record says why, or it was written anew");
        self.send(Message::Text(Outcome::new(Issue::information(text)).to_json().into())).await
    }

    async fn notice(&self, id: &str, edition: u64, say: Say) -> Result<Option<Text>, Why> {
        let notice = self.node.notice(id, edition, say).await.map_err(|failure| {
            tracing::warn!(error = %failure, subscription = id, "a notification could not be made");
            (close_code::AGAIN, "the gateway could not tell what there is: come again".to_owned())
        })?;
        Ok(notice
            .map(|notice| Text { text: String::from_utf8_lossy(&notice.bytes).into_owned(), through: notice.through }))
    }

    /// Writes down what was told.
    async fn note(&self, id: &str, edition: u64, through: Option<u64>) -> Result<(), Why> {
        self.node.delivered(id, edition, through).await.map_err(|failure| {
            tracing::warn!(error = %failure, subscription = id, "how far a subscription is could not be written down");
            (close_code::AGAIN, "the gateway could not note what it told: come again".to_owned())
        })
    }

    async fn send(&mut self, message: Message) -> Result<(), Why> {
        match tokio::time::timeout(SEND_WAIT, self.to.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err((close_code::POLICY, "too slow".to_owned())),
        }
    }

    async fn close(&mut self, (code, reason): Why) {
        let frame = CloseFrame { code, reason: reason.into() };
        // Whoever takes nothing does not take this either.
        let _ = tokio::time::timeout(CLOSE_WAIT, self.to.send(Message::Close(Some(frame)))).await;
    }
}

/// A notification as text.
struct Text {
    text: String,
    through: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_binds_once_and_for_a_minute() {
        let bindings = Bindings::default();
        let (token, until) = bindings.give(vec!["s1".to_owned()], TimeMs(1_000)).unwrap();
        assert_eq!(until, TimeMs(61_000));
        assert_eq!(bindings.take("another", TimeMs(2_000)), None);
        assert_eq!(bindings.take(&token, TimeMs(2_000)), Some(vec!["s1".to_owned()]));
        assert_eq!(bindings.take(&token, TimeMs(2_000)), None);
        let (late, _) = bindings.give(vec!["s1".to_owned()], TimeMs(1_000)).unwrap();
        assert_eq!(bindings.take(&late, TimeMs(61_000)), None);
        for _ in 0..BINDINGS_MAX {
            bindings.give(Vec::new(), TimeMs(70_000)).unwrap();
        }
        assert_eq!(bindings.give(Vec::new(), TimeMs(70_000)), Err(Failure::Busy));
        assert!(bindings.give(Vec::new(), TimeMs(140_000)).is_ok(), "what is over gives way");
    }

    #[test]
    fn subscriptions_are_named_by_their_ids() {
        assert_eq!(named("id=a,b&id=a&_format=json").unwrap(), ["a", "b"]);
        for wrong in ["", "name=a", &(0..=BOUND_MAX).map(|n| format!("id={n}")).collect::<Vec<_>>().join("&")] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
