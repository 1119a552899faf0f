//! What audit events are found by: what all of a kind have in common is their template, which is made once and kept.
//!
//! Each access is an audit event, and most differ from others in their time, in whose records were shown and which, and in the name of the
//! request alone. To read each of them again, as a resource that somebody sends is read, took longer than anything else about a read; and to
//! write down for each what all of a kind say took most of the database.

use crate::{failure::Failure, recent::Recent, set::AUDIT_EVENT};
use record::{
    TimeMs,
    fhir::{AuditEvent, Event},
};
use serde_json::Value;
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};
use store::{DateRange, IndexRow, IndexValue, Template, extract, reference};

/// Kinds that are kept: people, by what they come through, in a role, for a purpose, and what they do.
const KINDS_MAX: usize = 2_048;
/// Room for all that most events say.
const NAME_BYTES: usize = 512;
/// The search parameter under which a kind has no value.
const TIME: &str = "date";

/// Templates of audit events, by their kinds.
pub(crate) struct Filing {
    /// None where one event of the kind was seen: what is said once, such as who failed to log in from where, needs no template.
    kinds: Recent<Name, Option<Arc<Template>>>,
}

/// What an audit event is found by: values of its own, and those of its template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filed {
    pub(crate) index: Vec<IndexRow>,
    pub(crate) template: Option<Arc<Template>>,
}

impl Filed {
    /// All that an event is found by that was written down before.
    pub(crate) fn alone(event: &Value) -> Self {
        Self { index: extract(AUDIT_EVENT, event), template: None }
    }
}

/// All that an event says, in bytes that no event that says something else has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Name(Vec<u8>);

/// Takes the bytes themselves in place of a hash.
impl Hasher for Name {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl Filing {
    pub(crate) fn new() -> Self {
        Self { kinds: Recent::new(KINDS_MAX) }
    }

    /// The values that an event is found by: together those that [`store::extract`] finds in it.
    pub(crate) fn of(&self, event: &AuditEvent<'_>) -> Result<Filed, Failure> {
        // An event of the same kind that is about nothing. What it is about stands in no value but those of its own.
        let kind = AuditEvent {
            id: "",
            recorded: TimeMs(0),
            outcome_text: event.outcome_text.map(|_| ""),
            patient: event.patient.map(|_| ""),
            data: if event.data.is_empty() { &[] } else { &[""] },
            query: event.query.map(|_| ""),
            request_id: event.request_id.map(|_| ""),
            event: match event.event {
                Event::OverrideStarted { .. } => Event::OverrideStarted { reason: "", until: TimeMs(0) },
                event => event,
            },
            ..*event
        };
        let mut name = Name(Vec::with_capacity(NAME_BYTES));
        kind.hash(&mut name);
        let template = match self.kinds.get(&name) {
            Some(Some(template)) => Some(template),
            Some(None) => {
                let template = Template::of(AUDIT_EVENT, kind.to_json(), |param| param != TIME);
                template.inspect(|template| self.kinds.put(name, Some(Arc::clone(template))))
            }
            None => {
                self.kinds.put(name, None);
                None
            }
        };
        let Some(template) = template else {
            let event = serde_json::from_slice(&event.to_json());
            return event.map(|event| Filed::alone(&event)).map_err(|e| Failure::ours("an audit event is no JSON", e));
        };
        Ok(Filed { index: own(event), template: Some(template) })
    }
}

/// What an event is found by beside others of its kind, as it would be found in it: its time, what it is about, by relative references, and its
/// request.
fn own(event: &AuditEvent<'_>) -> Vec<IndexRow> {
    let at = i64::try_from(event.recorded.0).unwrap_or(i64::MAX);
    let mut rows =
        vec![IndexRow::whole("date", IndexValue::Date(DateRange { lo_ms: at, hi_ms: at.saturating_add(1) }))];
    for value in event.patient.iter().chain(event.data).filter_map(|name| reference(name)) {
        if matches!(&value, IndexValue::Reference { rtype, .. } if rtype == "Patient") {
            rows.push(IndexRow::whole("patient", value.clone()));
        }
        rows.push(IndexRow::whole("entity", value));
    }
    if let Some(request) = event.request_id.filter(|request| !request.is_empty()) {
        let name = IndexValue::Token { system: String::new(), code: request.to_owned(), text: String::new() };
        rows.push(IndexRow::whole("entity:identifier", name.clone()));
        rows.push(IndexRow::whole("patient:identifier", name));
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use record::{
        Purpose,
        fhir::{AuditOutcome, Event as AuditedEvent, Interaction, Machine, Party, User},
    };

    const INTERACTIONS: [Interaction; 11] = [
        Interaction::Read,
        Interaction::Vread,
        Interaction::History,
        Interaction::Create,
        Interaction::Update,
        Interaction::Patch,
        Interaction::Delete,
        Interaction::Search,
        Interaction::Batch,
        Interaction::Transaction,
        Interaction::Operation,
    ];

    fn all(filed: &Filed) -> Vec<IndexRow> {
        let mut all = filed.index.clone();
        all.extend(filed.template.iter().flat_map(|template| template.index()).cloned());
        all.sort_unstable();
        all.dedup();
        all
    }

    proptest! {
        #[test]
        fn an_audit_event_is_filed_as_one_that_is_read_again(
            which in 0..INTERACTIONS.len() * 2 + 3,
            user in prop::option::of("[a-z\"]{0,6}"),
            reference in prop::option::of("(Patient|Practitioner)/[a-z0-9]{1,2}"),
            address in prop::sample::select(vec!["10.0.0.7", "fe80::1", "https://app.example/", "a host"]),
            purpose in prop::sample::select(Purpose::ALL.to_vec()),
            patient in prop::option::of("Patient/[a-z0-9]{1,4}"),
            data in prop::collection::vec("(Patient|Observation|Basic)(/[a-z0-9]{1,3}(/_history/[1-9])?)?", 0..4),
            query in prop::option::of("GET /fhir/[A-Z][a-z]{2}\\?[a-z]=[a-z|]{1,3}"),
            request in prop::option::of("[a-z0-9-]{1,3}"),
            text in prop::option::of("[a-z ]{0,5}"),
            recorded in 0..4_000_000_000_000u64,
        ) {
            let event = match which {
                which if which < INTERACTIONS.len() => AuditedEvent::Done(INTERACTIONS[which]),
                which if which < INTERACTIONS.len() * 2 => AuditedEvent::Denied(INTERACTIONS[which - INTERACTIONS.len()]),
                which if which == INTERACTIONS.len() * 2 => AuditedEvent::Login,
                which if which == INTERACTIONS.len() * 2 + 1 => AuditedEvent::OverrideStopped,
                _ => AuditedEvent::OverrideStarted { reason: "unconscious", until: TimeMs(recorded + 1) },
            };
            let purposes = [purpose];
            let data: Vec<&str> = data.iter().map(String::as_str).collect();
            let event = AuditEvent {
                id: "a1",
                recorded: TimeMs(recorded),
                event,
                outcome: AuditOutcome::Success,
                outcome_text: text.as_deref(),
                client: Machine { who: Party { display: user.as_deref(), ..Party::default() }, address },
                server: Machine { who: Party { display: Some("ems"), ..Party::default() }, address: "ems" },
                user: user.as_deref().map(|user| User {
                    who: Party {
                        identifier: Some(("https://vitaltrace.org/org", user)),
                        reference: reference.as_deref(),
                        display: None,
                    },
                    role: Some("responder"),
                    purposes: &purposes,
                }),
                site: "ems",
                patient: patient.as_deref(),
                data: &data,
                query: query.as_deref(),
                request_id: request.as_deref(),
                confidentiality: None,
            };
            let read: Value = serde_json::from_slice(&event.to_json()).unwrap();
            let filing = Filing::new();
            for (time, has_template) in [("first", false), ("second", true), ("third", true)] {
                let filed = filing.of(&event).unwrap();
                prop_assert_eq!(filed.template.is_some(), has_template, "{}", time);
                prop_assert_eq!(all(&filed), extract(AUDIT_EVENT, &read));
            }
            // Another of its kind takes nothing of it.
            let again = match event.event {
                AuditedEvent::OverrideStarted { .. } => AuditedEvent::OverrideStarted { reason: "lost", until: TimeMs(9) },
                event => event,
            };
            let other = AuditEvent { data: &["Basic/2"], recorded: TimeMs(1), request_id: Some("r"), event: again, ..event };
            let read: Value = serde_json::from_slice(&other.to_json()).unwrap();
            let filed = filing.of(&other).unwrap();
            prop_assert_eq!(all(&filed), extract(AUDIT_EVENT, &read));
            let has_data = !data.is_empty();
            prop_assert_eq!(filed.template.is_some(), has_data && request.is_some(), "nothing else makes a kind of its own");
        }
    }
}
