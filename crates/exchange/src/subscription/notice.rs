//! What subscribers are sent: Bundles that say how a subscription stands, and which events there were.
//!
//! Each event is decided over when it is told, as a read of the subscriber, and is in the trail before it is told. Source: HL7 Subscriptions R5
//! Backport 1.1.0, profiles `backport-subscription-notification-r4` and `backport-subscription-status-r4`.

use crate::{
    boxed,
    caller::Caller,
    disclose::Shared,
    facts::Target,
    failure::Failure,
    find::pairs,
    node::Node,
    subscription::{
        SUBSCRIPTION,
        kept::{Event, Kept, oldest_kept},
        wanted::{Channel, EVENTS_MAX, Payload},
    },
    write::Trail,
};
use contract::AccessAction;
use policy::Action;
use record::{
    TimeMs, commit,
    fhir::{Interaction, IssueType},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::Row;

/// Records of one notification, in bytes; what does not fit comes with the next one, and a record that is larger alone is told by its id.
const NOTICE_BYTES_MAX: usize = 4 << 20;
/// Stem of the profiles' URLs.
const PROFILE: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// That it begins.
    Handshake,
    /// That there is nothing to say.
    Heartbeat,
    /// What came after this event.
    EventsAfter(u64),
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The Bundle.
    pub bytes: Vec<u8>,
    /// The last event that it tells of, if it tells of any.
    pub through: Option<u64>,
}

/// Events as they are told.
#[derive(Default)]
struct Told {
    /// As they stand in the status.
    events: Vec<Value>,
    /// Entries of the Bundle.
    entries: Vec<String>,
    bytes: usize,
    by_patient: BTreeMap<Option<String>, Shared>,
    through: Option<u64>,
    /// The oldest number that is kept, where older ones were asked for.
    forgotten: Option<u64>,
    /// Since when events were not looked for.
    missed_since: Option<TimeMs>,
}

impl Node {
    /// What a subscriber is sent now by an edition of a subscription; none when nothing is sent any more, which its record says with the
    /// reason, or when it is another edition by now, which may be for another receiver.
    #[boxed]
    pub async fn notice(&self, id: &str, edition: u64, say: Say) -> Result<Option<Notice>, Failure> {
        let still = self.still(id).await?.filter(|(kept, ..)| kept.edition == edition);
        let Some((kept, wanted, caller)) = still else { return Ok(None) };
        let (kind, mut told) = match say {
            Say::Handshake => ("handshake", self.told_nothing()),
            Say::Heartbeat => ("heartbeat", self.told_nothing()),
            Say::EventsAfter(after) => {
                let told =
                    self.told_of(&caller, &kept, (after + 1, u64::MAX), wanted.events_max, wanted.payload).await?;
                ("event-notification", told)
            }
        };
        if told.events.is_empty() && matches!(say, Say::EventsAfter(_)) {
            return Ok(None);
        }
        let bytes = bundle(&caller, &kept, kind, &mut told);
        Ok(Some(Notice { bytes, through: told.through }))
    }

    /// `$events`: events of the caller's subscription by their numbers.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn subscription_events(&self, caller: &Caller, id: &str, query: &str) -> Result<Vec<u8>, Failure> {
        let kept = self.own_subscription(caller, id, Action::Read).await?;
        let (mut since, mut until, mut payload) = (1, u64::MAX, None);
        for (parameter, _) in pairs(query)? {
            let text = parameter.values.first().map(|value| value.text().into_owned()).unwrap_or_default();
            let wrong = |is: &str| Failure::invalid(IssueType::Value, "", format!("`{}` is {is}", parameter.name));
            let number = || text.parse().map_err(|_| wrong("the number of an event, such as 7"));
            match parameter.name.as_str() {
                "eventsSinceNumber" => since = number()?,
                "eventsUntilNumber" => until = number()?,
                "content" => {
                    let read = Payload::of(&text);
                    payload = Some(read.ok_or_else(|| wrong("`empty`, `id-only` or `full-resource`"))?);
                }
                "_format" | "_pretty" => {}
                other => {
                    let text =
                        format!("$events takes `eventsSinceNumber`, `eventsUntilNumber` and `content`; not `{other}`");
                    return Err(Failure::invalid(IssueType::NotSupported, "", text));
                }
            }
        }
        let payload = payload.unwrap_or(kept.wanted()?.payload);
        let mut told = self.told_of(caller, &kept, (since.max(1), until), EVENTS_MAX, payload).await?;
        Ok(bundle(caller, &kept, "query-event", &mut told))
    }

    /// `$status` of one subscription of the caller, or of all of them.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn subscription_status(
        &self,
        caller: &Caller,
        id: Option<&str>,
        query: &str,
    ) -> Result<Vec<u8>, Failure> {
        let (mut ids, mut statuses) = (Vec::new(), Vec::new());
        for (parameter, _) in pairs(query)? {
            let values = parameter.values.iter().map(|value| value.text().into_owned());
            match parameter.name.as_str() {
                "id" if id.is_none() => ids.extend(values),
                "status" => statuses.extend(values),
                "_format" | "_pretty" => {}
                other => {
                    let text = format!("$status takes `status`, and `id` where the address names none; not `{other}`");
                    return Err(Failure::invalid(IssueType::NotSupported, "", text));
                }
            }
        }
        let asked = match id {
            Some(id) => vec![self.own_subscription(caller, id, Action::Read).await?],
            None => self.own_subscriptions(caller, &ids).await?,
        };
        let shown =
            asked.into_iter().filter(|kept| statuses.is_empty() || statuses.iter().any(|s| s == kept.status.code()));
        let entries: Vec<Value> = shown
            .map(|kept| {
                let resource = status(caller, &kept, "query-status", &mut self.told_nothing());
                let url = format!("{}/{SUBSCRIPTION}/{}/$status", caller.base, kept.id);
                json!({"fullUrl": url, "resource": resource, "search": {"mode": "match"}})
            })
            .collect();
        let mut answer = json!({"resourceType": "Bundle", "type": "searchset", "total": entries.len()});
        // FHIR has no empty arrays.
        if !entries.is_empty() {
            answer["entry"] = json!(entries);
        }
        Ok(answer.to_string().into_bytes())
    }

    /// How things stand, before anything is told.
    fn told_nothing(&self) -> Told {
        Told { missed_since: self.subscriptions.looking().missed_since(self.now()), ..Told::default() }
    }

    /// Events as the caller may be told of them now, in the trail.
    async fn told_of(
        &self,
        caller: &Caller,
        kept: &Kept,
        (from, until): (u64, u64),
        most: u64,
        payload: Payload,
    ) -> Result<Told, Failure> {
        let mut told = self.told_nothing();
        let events = self.subscriptions.events(&kept.id, from, until, most).await?;
        told.forgotten = Some(oldest_kept(kept.last)).filter(|oldest| from < *oldest);
        for event in events {
            let row = self.row_of(caller, &event).await?;
            let bytes = row.as_ref().filter(|_| payload == Payload::Full).map_or(0, |(row, _)| row.bytes.len());
            if !told.events.is_empty() && told.bytes.saturating_add(bytes) > NOTICE_BYTES_MAX {
                break;
            }
            told.bytes += bytes;
            told.add(caller, &event, row, payload);
        }
        if !told.by_patient.is_empty() {
            let trail = Trail {
                query: Some(format!("{SUBSCRIPTION}/{}", kept.id)),
                ..Trail::of(Interaction::Read, AccessAction::Read)
            };
            self.leave_trails(caller, std::mem::take(&mut told.by_patient), &trail).await?;
        }
        Ok(told)
    }

    /// The version that an event is about, with what it may be read under; none if it may not be read any more, or does not agree with the
    /// ledger any more.
    async fn row_of(&self, caller: &Caller, event: &Event) -> Result<Option<(Row, Option<record::Id16>)>, Failure> {
        match self.sound_row(&event.rtype, &event.id, Some(event.version)).await {
            Ok((row, _, _)) => {
                let decided = self.decide(caller, Action::Read, &Target::of(&row)).await?;
                Ok(decided.decision.allow.then_some((row, decided.under)))
            }
            Err(Failure::Gone(_) | Failure::NotFound(_) | Failure::Tampered(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

impl Told {
    /// Without a row it is said that there was an event, which the subscriber might know when it was numbered, and not of what.
    fn add(&mut self, caller: &Caller, event: &Event, row: Option<(Row, Option<record::Id16>)>, payload: Payload) {
        self.through = Some(event.number);
        let mut parts = vec![
            json!({"name": "event-number", "valueString": event.number.to_string()}),
            json!({"name": "timestamp", "valueInstant": event.time.to_instant()}),
        ];
        if let Some((row, under)) = row {
            let of = self.by_patient.entry(row.patient.clone()).or_default();
            of.under = under.or(of.under);
            if payload != Payload::Empty {
                of.names.push(format!("{}/{}/_history/{}", row.rtype, row.id, row.version));
                let url = format!("{}/{}/{}", caller.base, row.rtype, row.id);
                parts.push(json!({"name": "focus", "valueReference": {"reference": url, "type": row.rtype}}));
                let is_shown = payload == Payload::Full && row.bytes.len() <= NOTICE_BYTES_MAX;
                if is_shown {
                    of.versions.push(commit(&row.salt, &row.bytes));
                }
                self.entries.push(entry(&url, &row, is_shown));
            }
        }
        self.events.push(json!({"name": "notification-event", "part": parts}));
    }
}

/// An entry about a record; its bytes are as they were stored.
fn entry(url: &str, row: &Row, is_shown: bool) -> String {
    let (method, path, status) = match row.version {
        1 => ("POST", row.rtype.clone(), "201"),
        _ => ("PUT", format!("{}/{}", row.rtype, row.id), "200"),
    };
    let resource = match is_shown {
        true => format!("\"resource\":{},", String::from_utf8_lossy(&row.bytes)),
        false => String::new(),
    };
    let request = json!({"method": method, "url": path});
    let response = json!({"status": status, "etag": format!("W/\"{}\"", row.version), "lastModified": row.written_at.to_instant()});
    format!("{{\"fullUrl\":{},{resource}\"request\":{request},\"response\":{response}}}", json!(url))
}

/// How a subscription stands, as R4 says it: Parameters.
fn status(caller: &Caller, kept: &Kept, kind: &str, told: &mut Told) -> Value {
    let reference = format!("{}/{SUBSCRIPTION}/{}", caller.base, kept.id);
    let mut parameters = vec![
        json!({"name": "subscription", "valueReference": {"reference": reference}}),
        json!({"name": "topic", "valueCanonical": kept.resource["criteria"]}),
        json!({"name": "status", "valueCode": kept.status.code()}),
        json!({"name": "type", "valueCode": kind}),
        json!({"name": "events-since-subscription-start", "valueString": kept.last.to_string()}),
    ];
    parameters.append(&mut told.events);
    if let Some(text) = remark(kept, told) {
        parameters.push(json!({"name": "error", "valueCodeableConcept": {"text": text}}));
    }
    json!({
        "resourceType": "Parameters", "id": uuid::Uuid::new_v4().to_string(),
        "meta": {"profile": [format!("{PROFILE}backport-subscription-status-r4")]}, "parameter": parameters
    })
}

/// What is wrong with a subscription, in words.
fn remark(kept: &Kept, told: &Told) -> Option<String> {
    let mut said: Vec<String> = kept.error.iter().cloned().collect();
    let waiting = kept.last.saturating_sub(kept.delivered);
    let is_hook = kept.wanted().is_ok_and(|wanted| matches!(wanted.channel, Channel::Hook(_)));
    if waiting > 0 && is_hook && kept.failing_since.is_some() {
        said.push(format!("{waiting} events did not get through yet: `$events` has those after {}", kept.delivered));
    }
    if kept.unreadable > 0 {
        said.push(format!(
            "{} records that may have been events cannot be read: the database has not what the ledger says",
            kept.unreadable
        ));
    }
    if let Some(since) = told.missed_since {
        said.push(format!("events have not been looked for since {}", since.to_instant()));
    }
    if let Some(first) = told.forgotten {
        said.push(format!("events before {first} are not kept any more"));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// The Bundle.
fn bundle(caller: &Caller, kept: &Kept, kind: &str, told: &mut Told) -> Vec<u8> {
    let resource = status(caller, kept, kind, told);
    let asked = format!("{}/{SUBSCRIPTION}/{}/$status", caller.base, kept.id);
    let id = uuid::Uuid::new_v4();
    let first = json!({
        "fullUrl": format!("urn:uuid:{}", resource["id"].as_str().unwrap_or_default()), "resource": resource,
        "request": {"method": "GET", "url": asked}, "response": {"status": "200"}
    });
    let entries: Vec<String> = std::iter::once(first.to_string()).chain(told.entries.drain(..)).collect();
    let profile = format!("{PROFILE}backport-subscription-notification-r4");
    let timestamp = crate::clock::now().to_instant();
    format!(
        "{{\"resourceType\":\"Bundle\",\"id\":\"{id}\",\"meta\":{{\"profile\":[\"{profile}\"]}},\"type\":\"history\",\
         \"timestamp\":\"{timestamp}\",\"entry\":[{}]}}",
        entries.join(",")
    )
    .into_bytes()
}
