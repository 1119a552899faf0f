//! AuditEvent: who did what to whose data, from where and why, in the shape of IHE BALP.
//!
//! Source: IHE ITI BALP (Basic Audit Log Patterns) 1.1, profiles `IHE.BasicAudit.*`, and their published examples.

use super::{
    answer::Writer,
    codes::{self, Code},
};
use crate::{PURPOSE_SYSTEM, Purpose, TimeMs};
use std::net::IpAddr;

/// What was asked of the REST interface. Source: code system `http://hl7.org/fhir/restful-interaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interaction {
    /// The current version of a record.
    Read,
    /// A version of a record.
    Vread,
    /// The versions of a record.
    History,
    /// A new record.
    Create,
    /// A new version of a record.
    Update,
    /// A new version of a record, by its differences.
    Patch,
    /// The end of a record.
    Delete,
    /// Records that match.
    Search,
    /// Several requests, each on its own.
    Batch,
    /// Several requests, all or none.
    Transaction,
    /// An operation such as `$summary`.
    Operation,
}

impl Interaction {
    /// The code, which is also its display text.
    pub fn code(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Vread => "vread",
            Self::History => "history",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Search => "search",
            Self::Batch => "batch",
            Self::Transaction => "transaction",
            Self::Operation => "operation",
        }
    }

    /// Create, Read, Update, Delete or Execute. Source: value set `audit-event-action`.
    fn action(self) -> &'static str {
        match self {
            Self::Create => "C",
            Self::Read | Self::Vread | Self::History => "R",
            Self::Update | Self::Patch => "U",
            Self::Delete => "D",
            Self::Search | Self::Batch | Self::Transaction | Self::Operation => "E",
        }
    }

    /// What the user is: an author of what is written, a recipient of what is read.
    fn user_type(self) -> Code {
        match self {
            Self::Create | Self::Update | Self::Patch | Self::Delete => codes::AUTHOR,
            _ => codes::INFORMATION_RECIPIENT,
        }
    }
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event<'a> {
    /// It was done, or failed for another reason than that it is forbidden.
    Done(Interaction),
    /// It was refused by policy or consent.
    Denied(Interaction),
    /// The glass was broken.
    OverrideStarted {
        /// Why, in the user's words.
        reason: &'a str,
        /// Until when.
        until: TimeMs,
    },
    /// The glass is whole again.
    OverrideStopped,
    /// A person, an app or a program came in, or was refused.
    Login,
    /// What a person, an app or a program came in by is over.
    Logout,
}

impl Event<'_> {
    fn interaction(self) -> Option<Interaction> {
        match self {
            Self::Done(interaction) | Self::Denied(interaction) => Some(interaction),
            Self::OverrideStarted { .. } | Self::OverrideStopped | Self::Login | Self::Logout => None,
        }
    }
}

/// How it ended. Source: value set `audit-event-outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditOutcome {
    /// Done.
    Success,
    /// Not done: the caller's fault.
    MinorFailure,
    /// Not done: refused.
    SeriousFailure,
    /// Not done: ours.
    MajorFailure,
}

impl AuditOutcome {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::MinorFailure => "4",
            Self::SeriousFailure => "8",
            Self::MajorFailure => "12",
        }
    }
}

/// Somebody or something that took part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Party<'a> {
    /// A record of it, such as `Practitioner/1`.
    pub reference: Option<&'a str>,
    /// Its identifier: system (may be empty) and value.
    pub identifier: Option<(&'a str, &'a str)>,
    /// Its name for people.
    pub display: Option<&'a str>,
}

impl Party<'_> {
    /// As a Reference under `key`.
    pub(super) fn write(&self, out: &mut Writer, key: &str) {
        out.object(key, |out| self.members(out));
    }

    /// As a Reference in an array.
    pub(super) fn write_item(&self, out: &mut Writer) {
        out.item(|out| self.members(out));
    }

    fn members(&self, out: &mut Writer) {
        if let Some(reference) = self.reference {
            out.string("reference", reference);
        }
        if let Some((system, value)) = self.identifier {
            out.object("identifier", |out| {
                if !system.is_empty() {
                    out.string("system", system);
                }
                out.string("value", value);
            });
        }
        match (self.display, self.reference, self.identifier) {
            (Some(display), ..) => out.string("display", display),
            // A party is named in any case: an empty object is no FHIR.
            (None, None, None) => out.string("display", "unknown"),
            _ => {}
        }
    }
}

/// A machine that took part, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine<'a> {
    /// What it is.
    pub who: Party<'a>,
    /// IP address, URL or host name.
    pub address: &'a str,
}

/// The person (or program) on whose behalf it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct User<'a> {
    /// Who.
    pub who: Party<'a>,
    /// In which role, such as `responder`.
    pub role: Option<&'a str>,
    /// Why.
    pub purposes: &'a [Purpose],
}

/// One event, and everything it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditEvent<'a> {
    /// The record's id.
    pub id: &'a str,
    /// When it happened.
    pub recorded: TimeMs,
    /// What happened.
    pub event: Event<'a>,
    /// How it ended. Refusals are always written as [`AuditOutcome::SeriousFailure`].
    pub outcome: AuditOutcome,
    /// What to add to it, for people.
    pub outcome_text: Option<&'a str>,
    /// Who asked.
    pub client: Machine<'a>,
    /// Who answered: us.
    pub server: Machine<'a>,
    /// On whose behalf.
    pub user: Option<User<'a>>,
    /// Whose organisation's log it is, for people.
    pub site: &'a str,
    /// Whose data it is, such as `Patient/1`.
    pub patient: Option<&'a str>,
    /// Which records, such as `Observation/1/_history/2`.
    pub data: &'a [&'a str],
    /// Of a search: method, URL, and body if it has one.
    pub query: Option<&'a str>,
    /// The request's `X-Request-Id`.
    pub request_id: Option<&'a str>,
    /// Its confidentiality: the code of `v3-Confidentiality`.
    pub confidentiality: Option<&'a str>,
}

impl AuditEvent<'_> {
    /// The bytes of its first and only version. The same event always has the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(2048);
        out.item(|out| {
            out.string("resourceType", "AuditEvent");
            out.string("id", self.id);
            self.meta(out);
            self.what(out);
            out.string("recorded", &self.recorded.to_instant());
            let outcome =
                if matches!(self.event, Event::Denied(_)) { AuditOutcome::SeriousFailure } else { self.outcome };
            out.string("outcome", outcome.code());
            if let Some(text) = self.outcome_text {
                out.string("outcomeDesc", text);
            }
            if let Event::OverrideStarted { reason, .. } = self.event {
                out.array("purposeOfEvent", [Purpose::BreakGlass], |out, purpose| {
                    out.item(|out| purpose_concept(out, purpose, Some(reason)));
                });
            }
            self.agents(out);
            out.object("source", |out| {
                out.string("site", self.site);
                self.server.who.write(out, "observer");
                out.array("type", ["4"], |out, code| {
                    out.item(|out| {
                        coding(out, Code { system: codes::SECURITY_SOURCE_TYPE, code, display: "Application Server" });
                    });
                });
            });
            self.entities(out);
        });
        out.finish()
    }

    fn meta(&self, out: &mut Writer) {
        out.object("meta", |out| {
            out.string("versionId", "1");
            out.string("lastUpdated", &self.recorded.to_instant());
            if let Some(code) = self.confidentiality {
                out.array("security", [code], |out, code| {
                    out.item(|out| {
                        out.string("system", super::Confidentiality::SYSTEM);
                        out.string("code", code);
                    });
                });
            }
        });
    }

    /// Type, subtypes, action and period.
    fn what(&self, out: &mut Writer) {
        let rest = self.event.interaction().map(|interaction| {
            let code = interaction.code();
            Code { system: codes::RESTFUL_INTERACTION, code, display: code }
        });
        let (kind, subtypes, action) = match self.event {
            Event::Done(interaction) => (codes::REST, [None, rest], interaction.action()),
            Event::Denied(_) => (codes::SECURITY_ALERT, [Some(codes::AUTHZ_CONSENT), rest], "E"),
            Event::OverrideStarted { .. } => (codes::SECURITY_ALERT, [Some(codes::OVERRIDE_STARTED), None], "E"),
            Event::OverrideStopped => (codes::SECURITY_ALERT, [Some(codes::OVERRIDE_STOPPED), None], "E"),
            // Source: R4's example `audit-event-example-login`.
            Event::Login => (codes::USER_AUTHENTICATION, [Some(codes::LOGIN), None], "E"),
            Event::Logout => (codes::USER_AUTHENTICATION, [Some(codes::LOGOUT), None], "E"),
        };
        out.object("type", |out| coding(out, kind));
        out.array("subtype", subtypes.into_iter().flatten(), |out, code| out.item(|out| coding(out, code)));
        out.string("action", action);
        if let Event::OverrideStarted { until, .. } = self.event {
            out.object("period", |out| {
                out.string("start", &self.recorded.to_instant());
                out.string("end", &until.to_instant());
            });
        }
    }

    fn agents(&self, out: &mut Writer) {
        let (client, server) = match self.event.interaction() {
            // Nothing is sent in a delete.
            Some(Interaction::Delete) => (codes::APPLICATION, codes::CUSTODIAN),
            Some(Interaction::Read | Interaction::Vread | Interaction::History) => {
                (codes::DESTINATION_ROLE, codes::SOURCE_ROLE)
            }
            // A query goes from the client to the server, as BALP sees it.
            _ => (codes::SOURCE_ROLE, codes::DESTINATION_ROLE),
        };
        // Without a user the client asked for itself.
        let machines = [(client, &self.client, self.user.is_none()), (server, &self.server, false)];
        let agents = machines.into_iter().map(Some).chain([None]);
        out.array("agent", agents, |out, machine| match (machine, &self.user) {
            (Some((code, machine, requestor)), _) => out.item(|out| {
                concept(out, "type", code);
                machine.who.write(out, "who");
                out.value("requestor", if requestor { b"true" } else { b"false" });
                out.object("network", |out| {
                    out.string("address", machine.address);
                    out.string("type", network_type(machine.address));
                });
            }),
            (None, Some(user)) => out.item(|out| self.user(out, user)),
            (None, None) => {}
        });
    }

    fn user(&self, out: &mut Writer, user: &User<'_>) {
        concept(out, "type", self.event.interaction().map_or(codes::INFORMATION_RECIPIENT, Interaction::user_type));
        if let Some(role) = user.role {
            out.array("role", [role], |out, role| out.item(|out| out.string("text", role)));
        }
        user.who.write(out, "who");
        out.value("requestor", b"true");
        out.array("purposeOfUse", user.purposes, |out, purpose| {
            out.item(|out| purpose_concept(out, *purpose, None));
        });
    }

    fn entities(&self, out: &mut Writer) {
        let entity_type = |code, display| Code { system: codes::AUDIT_ENTITY_TYPE, code, display };
        let role = |code, display| Code { system: codes::OBJECT_ROLE, code, display };
        let object = entity_type("2", "System Object");
        let data = self.data.iter().map(|data| Entity::Record(object, role("4", "Domain Resource"), data));
        let patient =
            self.patient.map(|patient| Entity::Record(entity_type("1", "Person"), role("1", "Patient"), patient));
        let query = self.query.map(|query| Entity::Query(object, role("24", "Query"), query));
        let request = self.request_id.map(Entity::Request);
        out.array("entity", query.into_iter().chain(patient).chain(data).chain(request), |out, entity| {
            out.item(|out| entity.write(out));
        });
    }
}

enum Entity<'a> {
    Record(Code, Code, &'a str),
    Query(Code, Code, &'a str),
    Request(&'a str),
}

impl Entity<'_> {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Record(kind, role, reference) => {
                out.object("what", |out| out.string("reference", reference));
                out.object("type", |out| coding(out, *kind));
                out.object("role", |out| coding(out, *role));
            }
            Self::Query(kind, role, query) => {
                out.object("type", |out| coding(out, *kind));
                out.object("role", |out| coding(out, *role));
                out.string("query", &base64(query.as_bytes()));
            }
            Self::Request(id) => {
                out.object("what", |out| out.object("identifier", |out| out.string("value", id)));
                out.object("type", |out| {
                    out.string("system", codes::BALP_ENTITY_TYPE);
                    out.string("code", "XrequestId");
                });
            }
        }
    }
}

/// The members of a Coding.
pub(super) fn coding(out: &mut Writer, code: Code) {
    out.string("system", code.system);
    out.string("code", code.code);
    out.string("display", code.display);
}

/// A CodeableConcept of one Coding.
pub(super) fn concept(out: &mut Writer, key: &str, code: Code) {
    out.object(key, |out| out.array("coding", [code], |out, code| out.item(|out| coding(out, code))));
}

fn purpose_concept(out: &mut Writer, purpose: Purpose, text: Option<&str>) {
    let code = Code { system: PURPOSE_SYSTEM, code: purpose.code(), display: purpose.display() };
    out.array("coding", [code], |out, code| out.item(|out| coding(out, code)));
    if let Some(text) = text {
        out.string("text", text);
    }
}

/// Machine name, IP address or URI. Source: value set `network-type`.
fn network_type(address: &str) -> &'static str {
    if address.contains("://") {
        "5"
    } else if address.parse::<IpAddr>().is_ok() {
        "2"
    } else {
        "1"
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[value as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{Limits, Resource, check};
    use expect_test::{Expect, expect};

    fn event(event: Event<'_>) -> AuditEvent<'_> {
        AuditEvent {
            id: "a1",
            recorded: TimeMs(1_795_255_530_123),
            event,
            outcome: AuditOutcome::Success,
            outcome_text: None,
            client: Machine { who: Party { display: Some("tablet 7"), ..Party::default() }, address: "10.0.0.7" },
            server: Machine {
                who: Party { reference: Some("Device/gateway"), ..Party::default() },
                address: "https://ems.example/fhir",
            },
            user: Some(User {
                who: Party { reference: Some("Practitioner/p"), display: Some("Ada \"Medic\""), identifier: None },
                role: Some("responder"),
                purposes: &[Purpose::EmergencyTreat],
            }),
            site: "ems",
            patient: Some("Patient/1"),
            data: &["Observation/2/_history/1"],
            query: None,
            request_id: Some("r-1"),
            confidentiality: None,
        }
    }

    fn check_event(event: AuditEvent<'_>, expected: Expect) {
        let bytes = event.to_json();
        assert_eq!(bytes, event.to_json());
        let resource = Resource::parse(&bytes, Limits::RESOURCE).unwrap();
        assert_eq!(check(&resource), Ok(()));
        assert_eq!(resource.patient_reference().as_deref(), event.patient);
        expected.assert_eq(resource.text());
    }

    #[test]
    fn a_read_names_both_machines_the_user_and_the_purpose() {
        check_event(
            event(Event::Done(Interaction::Read)),
            expect![[
                r#"{"resourceType":"AuditEvent","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-21T10:05:30.123Z"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"Restful Operation"},"subtype":[{"system":"http://hl7.org/fhir/restful-interaction","code":"read","display":"read"}],"action":"R","recorded":"2026-11-21T10:05:30.123Z","outcome":"0","agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"display":"tablet 7"},"requestor":false,"network":{"address":"10.0.0.7","type":"2"}},{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"reference":"Device/gateway"},"requestor":false,"network":{"address":"https://ems.example/fhir","type":"5"}},{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"role":[{"text":"responder"}],"who":{"reference":"Practitioner/p","display":"Ada \"Medic\""},"requestor":true,"purposeOfUse":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"ETREAT","display":"emergency treatment"}]}]}],"source":{"site":"ems","observer":{"reference":"Device/gateway"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"what":{"reference":"Patient/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}},{"what":{"reference":"Observation/2/_history/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"4","display":"Domain Resource"}},{"what":{"identifier":{"value":"r-1"}},"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}}]}"#
            ]],
        );
    }

    #[test]
    fn a_search_keeps_its_query() {
        let search = AuditEvent {
            query: Some("GET /fhir/Observation?patient=1"),
            data: &[],
            user: None,
            ..event(Event::Done(Interaction::Search))
        };
        check_event(
            search,
            expect![[
                r#"{"resourceType":"AuditEvent","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-21T10:05:30.123Z"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"Restful Operation"},"subtype":[{"system":"http://hl7.org/fhir/restful-interaction","code":"search","display":"search"}],"action":"E","recorded":"2026-11-21T10:05:30.123Z","outcome":"0","agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"display":"tablet 7"},"requestor":true,"network":{"address":"10.0.0.7","type":"2"}},{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"reference":"Device/gateway"},"requestor":false,"network":{"address":"https://ems.example/fhir","type":"5"}}],"source":{"site":"ems","observer":{"reference":"Device/gateway"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"24","display":"Query"},"query":"R0VUIC9maGlyL09ic2VydmF0aW9uP3BhdGllbnQ9MQ=="},{"what":{"reference":"Patient/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}},{"what":{"identifier":{"value":"r-1"}},"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}}]}"#
            ]],
        );
    }

    #[test]
    fn a_refusal_is_a_security_alert_and_a_serious_failure() {
        let denied = AuditEvent {
            outcome_text: Some("not in the patient's consent"),
            ..event(Event::Denied(Interaction::Read))
        };
        check_event(
            denied,
            expect![[
                r#"{"resourceType":"AuditEvent","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-21T10:05:30.123Z"},"type":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110113","display":"Security Alert"},"subtype":[{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType","code":"AuthZ-Consent","display":"Consent Authorization Decision"},{"system":"http://hl7.org/fhir/restful-interaction","code":"read","display":"read"}],"action":"E","recorded":"2026-11-21T10:05:30.123Z","outcome":"8","outcomeDesc":"not in the patient's consent","agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"display":"tablet 7"},"requestor":false,"network":{"address":"10.0.0.7","type":"2"}},{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"reference":"Device/gateway"},"requestor":false,"network":{"address":"https://ems.example/fhir","type":"5"}},{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"role":[{"text":"responder"}],"who":{"reference":"Practitioner/p","display":"Ada \"Medic\""},"requestor":true,"purposeOfUse":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"ETREAT","display":"emergency treatment"}]}]}],"source":{"site":"ems","observer":{"reference":"Device/gateway"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"what":{"reference":"Patient/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}},{"what":{"reference":"Observation/2/_history/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"4","display":"Domain Resource"}},{"what":{"identifier":{"value":"r-1"}},"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}}]}"#
            ]],
        );
    }

    #[test]
    fn breaking_the_glass_says_why_and_until_when() {
        let until = TimeMs(1_795_255_530_123 + 3_600_000);
        let started = Event::OverrideStarted { reason: "unconscious", until };
        check_event(
            AuditEvent { data: &[], ..event(started) },
            expect![[
                r#"{"resourceType":"AuditEvent","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-21T10:05:30.123Z"},"type":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110113","display":"Security Alert"},"subtype":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110127","display":"Emergency Override Started"}],"action":"E","period":{"start":"2026-11-21T10:05:30.123Z","end":"2026-11-21T11:05:30.123Z"},"recorded":"2026-11-21T10:05:30.123Z","outcome":"0","purposeOfEvent":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"BTG","display":"break the glass"}],"text":"unconscious"}],"agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"display":"tablet 7"},"requestor":false,"network":{"address":"10.0.0.7","type":"2"}},{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"reference":"Device/gateway"},"requestor":false,"network":{"address":"https://ems.example/fhir","type":"5"}},{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"role":[{"text":"responder"}],"who":{"reference":"Practitioner/p","display":"Ada \"Medic\""},"requestor":true,"purposeOfUse":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"ETREAT","display":"emergency treatment"}]}]}],"source":{"site":"ems","observer":{"reference":"Device/gateway"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"what":{"reference":"Patient/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}},{"what":{"identifier":{"value":"r-1"}},"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}}]}"#
            ]],
        );
        check_event(
            AuditEvent { data: &[], request_id: None, ..event(Event::OverrideStopped) },
            expect![[
                r#"{"resourceType":"AuditEvent","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-21T10:05:30.123Z"},"type":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110113","display":"Security Alert"},"subtype":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110138","display":"Emergency Override Stopped"}],"action":"E","recorded":"2026-11-21T10:05:30.123Z","outcome":"0","agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"display":"tablet 7"},"requestor":false,"network":{"address":"10.0.0.7","type":"2"}},{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"reference":"Device/gateway"},"requestor":false,"network":{"address":"https://ems.example/fhir","type":"5"}},{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"role":[{"text":"responder"}],"who":{"reference":"Practitioner/p","display":"Ada \"Medic\""},"requestor":true,"purposeOfUse":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"ETREAT","display":"emergency treatment"}]}]}],"source":{"site":"ems","observer":{"reference":"Device/gateway"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"what":{"reference":"Patient/1"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}}]}"#
            ]],
        );
    }

    #[test]
    fn a_login_says_who_from_where_and_how_it_ended() {
        let login = AuditEvent {
            outcome: AuditOutcome::MinorFailure,
            outcome_text: Some("the password was wrong"),
            data: &[],
            patient: None,
            request_id: None,
            ..event(Event::Login)
        };
        let said = String::from_utf8(login.to_json()).unwrap();
        let dcm = "http://dicom.nema.org/resources/ontology/DCM";
        let kind = format!(r#""type":{{"system":"{dcm}","code":"110114","display":"User Authentication"}}"#);
        let subtype = format!(r#""subtype":[{{"system":"{dcm}","code":"110122","display":"Login"}}],"action":"E""#);
        for part in [kind.as_str(), subtype.as_str(), r#""outcome":"4","outcomeDesc":"the password was wrong""#] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("entity"), "nobody's data is in it: {said}");
        assert_eq!(check(&Resource::parse(said.as_bytes(), Limits::RESOURCE).unwrap()), Ok(()));
        let over = AuditEvent { outcome: AuditOutcome::Success, outcome_text: None, ..login };
        let over = String::from_utf8(AuditEvent { event: Event::Logout, ..over }.to_json()).unwrap();
        assert!(
            over.contains(r#""code":"110123","display":"Logout"}],"action":"E""#) && over.contains(r#""outcome":"0""#)
        );
    }

    #[test]
    fn base64_has_the_vectors_of_its_rfc() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
