//! What a Subscription asks for, read from the resource: topic, filters, channel, payload.
//!
//! Source: HL7 Subscriptions R5 Backport 1.1.0, profile `backport-subscription`.

use crate::{failure::Failure, topic::Topic};
use record::{
    TimeMs,
    fhir::{Issue, IssueType, SearchUrl},
};
use serde_json::{Value, json};
use store::Row;

/// Stem of the extensions' URLs.
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
/// Whose a Subscription is; written by the gateway, whatever was sent.
const SUBSCRIBER: &str = "https://vitaltrace.org/fhir/StructureDefinition/subscriber";
/// What is shown of a header's value: values are secrets, and rest in the gateway's private folder alone.
const HIDDEN: &str = "(kept by the gateway)";

/// Filters of one subscription.
const FILTERS_MAX: usize = 16;
/// Values of one filter.
const VALUES_MAX: usize = 50;
/// Patients of one subscription: each is decided over before anything is sent.
const PATIENTS_MAX: usize = 50;
/// Headers of one subscription, and the bytes of each.
const HEADERS_MAX: usize = 8;
const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Headers that the gateway writes itself.
const OUR_HEADERS: [&str; 6] = ["connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade"];
/// The longest address, in bytes.
const ENDPOINT_BYTES_MAX: usize = 2 * 1024;
/// How often it may be said that there is nothing to say, in seconds: six times a minute to once a day. Each one is decided over.
const HEARTBEAT_S: std::ops::RangeInclusive<u64> = 10..=86_400;
/// How long the receiver of one notification may take, in seconds.
const TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=60;
const TIMEOUT_S_DEFAULT: u64 = 10;
/// Events of one notification.
pub(crate) const EVENTS_MAX: u64 = 100;

/// How notifications reach the subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Posted to this address.
    Hook(String),
    /// Fetched by a WebSocket.
    Socket,
}

/// How much of a record is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// That something happened.
    Empty,
    /// What it is called.
    IdOnly,
    /// All of it.
    Full,
}

impl Payload {
    /// By its code. Source: Backport code system `backport-content-code-system`.
    pub(crate) fn of(code: &str) -> Option<Self> {
        match code {
            "empty" => Some(Self::Empty),
            "id-only" => Some(Self::IdOnly),
            "full-resource" => Some(Self::Full),
            _ => None,
        }
    }
}

/// What a Subscription asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) topic: &'static Topic,
    /// Ids of the Patients that it is about; none named: all.
    pub(crate) patients: Vec<String>,
    /// Each must hold, by one of its values.
    filters: Vec<(String, Vec<String>)>,
    pub(crate) channel: Channel,
    pub(crate) payload: Payload,
    pub(crate) heartbeat_s: Option<u64>,
    pub(crate) timeout_s: u64,
    pub(crate) events_max: u64,
    /// When it is over.
    pub(crate) end: Option<TimeMs>,
    /// Whether it is switched off by whoever wrote it.
    pub(crate) is_off: bool,
}

impl Wanted {
    /// Reads a Subscription. What is not offered is refused with what to write instead.
    pub(crate) fn read(value: &Value) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let topic = topic(value).map_err(|issue| wrong.push(issue)).ok();
        let (patients, filters) = match topic.map(|topic| filters(topic, value)) {
            Some(Ok(read)) => read,
            Some(Err(issue)) => {
                wrong.push(issue);
                Default::default()
            }
            None => Default::default(),
        };
        let channel = channel(value).map_err(|issue| wrong.push(issue)).ok();
        let payload = payload(value).map_err(|issue| wrong.push(issue)).ok();
        let mut number = |name: &str, property: &str, within: std::ops::RangeInclusive<u64>| {
            let said = extension(&value["channel"], name)?;
            let number = said[property].as_u64().filter(|number| within.contains(number));
            if number.is_none() {
                let text = format!("`{name}` is a `{property}` of {} to {}", within.start(), within.end());
                wrong.push(Issue::error(IssueType::Value, text).at("Subscription.channel.extension"));
            }
            number
        };
        let heartbeat_s = number("backport-heartbeat-period", "valueUnsignedInt", HEARTBEAT_S);
        let timeout_s = number("backport-timeout", "valueUnsignedInt", TIMEOUT_S).unwrap_or(TIMEOUT_S_DEFAULT);
        let events_max = number("backport-max-count", "valuePositiveInt", 1..=EVENTS_MAX).unwrap_or(EVENTS_MAX);
        let end = value["end"].as_str().map(TimeMs::from_instant).transpose();
        let end = end.map_err(|_| {
            wrong.push(
                Issue::error(IssueType::Value, "`end` is an instant such as 2026-12-01T10:00:00Z")
                    .at("Subscription.end"),
            );
        });
        match (topic, channel, payload, end, wrong.is_empty()) {
            (Some(topic), Some(channel), Some(payload), Ok(end), true) => {
                let is_off = value["status"] == "off";
                Ok(Self { topic, patients, filters, channel, payload, heartbeat_s, timeout_s, events_max, end, is_off })
            }
            _ => Err(Failure::Invalid(wrong)),
        }
    }

    /// Whether a row is one that the subscription is about, by what stands beside its bytes.
    pub(crate) fn is_about(&self, row: &Row) -> bool {
        self.topic.types.contains(&row.rtype.as_str())
            && (self.patients.is_empty() || row.patient.as_ref().is_some_and(|patient| self.patients.contains(patient)))
    }

    /// Whether a version of such a record is an event for it.
    pub(crate) fn takes(&self, resource: &Value) -> bool {
        (self.topic.is_event)(resource)
            && self.filters.iter().all(|(name, values)| {
                let filter = self.topic.filter(name);
                filter.is_some_and(|filter| values.iter().any(|value| (filter.holds)(resource, value)))
            })
    }
}

fn at(kind: IssueType, place: &str, text: impl Into<String>) -> Issue {
    Issue::error(kind, text).at(place)
}

fn topic(value: &Value) -> Result<&'static Topic, Issue> {
    let said = value["criteria"].as_str().unwrap_or_default();
    Topic::of(said).ok_or_else(|| {
        let topics = crate::topic::TOPICS.map(|topic| topic.url()).join(", ");
        let text = format!("`criteria` is the URL of a topic, one of {topics}; searches such as `Observation?code=` are not offered here");
        at(IssueType::NotSupported, "Subscription.criteria", text)
    })
}

type Filters = (Vec<String>, Vec<(String, Vec<String>)>);

/// What stands beside the criteria: the patients, and the other filters.
fn filters(topic: &Topic, value: &Value) -> Result<Filters, Issue> {
    const PLACE: &str = "Subscription.criteria.extension";
    let said = value["_criteria"]["extension"].as_array().map(Vec::as_slice).unwrap_or_default();
    let url = format!("{BACKPORT}backport-filter-criteria");
    let (mut patients, mut filters) = (Vec::new(), Vec::new());
    for criteria in said.iter().filter(|extension| extension["url"] == url.as_str()) {
        let text = criteria["valueString"].as_str().unwrap_or_default();
        let (rtype, query) = text.split_once('?').unwrap_or(("", text));
        if !rtype.is_empty() && !topic.types.contains(&rtype) {
            let text = format!(
                "the topic `{}` is about {}: write a filter as `{}?patient=ilse`",
                topic.name,
                topic.types.join(" and "),
                topic.types[0]
            );
            return Err(at(IssueType::Value, PLACE, text));
        }
        let read = SearchUrl::parse_query(query).map_err(|error| at(IssueType::Value, PLACE, error.to_string()))?;
        if read.is_empty() {
            return Err(at(IssueType::Value, PLACE, "a filter is written as `valueString`, such as `patient=ilse`"));
        }
        for parameter in read {
            let values: Vec<String> = parameter.values.iter().map(|value| value.text().into_owned()).collect();
            let known = parameter.name == "patient" || topic.filter(&parameter.name).is_some();
            // A modifier would turn its meaning round.
            if !known || parameter.modifier.is_some() {
                let text =
                    format!("the topic `{}` has the filters {}, without modifiers", topic.name, topic.filter_names());
                return Err(at(IssueType::NotSupported, PLACE, text));
            }
            if values.len() > VALUES_MAX {
                return Err(at(IssueType::TooCostly, PLACE, format!("a filter has at most {VALUES_MAX} values")));
            }
            if parameter.name == "patient" {
                // A second list of patients would have to be met as well.
                if !patients.is_empty() {
                    return Err(at(IssueType::Value, PLACE, "name all patients in one filter: `patient=ilse,jan`"));
                }
                let id = |name: &String| name.rsplit("Patient/").next().unwrap_or_default().to_owned();
                patients = values.iter().map(id).collect();
            } else {
                filters.push((parameter.name, values));
            }
        }
    }
    patients.sort();
    patients.dedup();
    if patients.iter().any(|patient| !record::fhir::is_id(patient)) {
        return Err(at(IssueType::Value, PLACE, "a patient is named by its id, such as `patient=ilse`"));
    }
    if topic.of_patients && patients.is_empty() {
        let text = format!(
            "the topic `{}` needs the patients by name: an extension `{url}` of `_criteria` with the valueString `patient=ilse`",
            topic.name
        );
        return Err(at(IssueType::Required, PLACE, text));
    }
    if patients.len() > PATIENTS_MAX || filters.len() > FILTERS_MAX {
        let text = format!("a subscription has at most {PATIENTS_MAX} patients and {FILTERS_MAX} filters");
        return Err(at(IssueType::TooCostly, PLACE, text));
    }
    Ok((patients, filters))
}

fn channel(value: &Value) -> Result<Channel, Issue> {
    const PLACE: &str = "Subscription.channel";
    let channel = &value["channel"];
    let headers = headers(value);
    let bytes = |header: &Value| header.as_str().map_or(0, str::len);
    if headers.len() > HEADERS_MAX || headers.iter().any(|header| bytes(header) > HEADER_BYTES_MAX) {
        let text = format!("a channel has at most {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes");
        return Err(at(IssueType::TooLong, "Subscription.channel.header", text));
    }
    match (channel["type"].as_str().unwrap_or_default(), channel["endpoint"].as_str()) {
        ("websocket", None) if headers.is_empty() => Ok(Channel::Socket),
        ("websocket", _) => {
            let text = "a channel of type `websocket` has no endpoint and no headers: ask `$get-ws-binding-token` for the address";
            Err(at(IssueType::Value, PLACE, text))
        }
        ("rest-hook", Some(endpoint)) if endpoint.len() <= ENDPOINT_BYTES_MAX => Ok(Channel::Hook(endpoint.to_owned())),
        ("rest-hook", _) => {
            let text = format!(
                "a channel of type `rest-hook` has an `endpoint` of at most {ENDPOINT_BYTES_MAX} bytes, such as https://hook.example/in"
            );
            Err(at(IssueType::Required, "Subscription.channel.endpoint", text))
        }
        _ => Err(at(
            IssueType::NotSupported,
            "Subscription.channel.type",
            "channels are of type `rest-hook` or `websocket` here",
        )),
    }
}

fn payload(value: &Value) -> Result<Payload, Issue> {
    let channel = &value["channel"];
    let form = channel["payload"].as_str().unwrap_or("application/fhir+json");
    if !["application/fhir+json", "application/json"].contains(&form.split(';').next().unwrap_or_default().trim()) {
        let text = "notifications are written in JSON: `payload` is `application/fhir+json`";
        return Err(at(IssueType::NotSupported, "Subscription.channel.payload", text));
    }
    let said = extension(&channel["_payload"], "backport-payload-content");
    let code = said.and_then(|said| said["valueCode"].as_str());
    code.and_then(Payload::of).ok_or_else(|| {
        let text = format!(
            "say how much is sent: an extension `{BACKPORT}backport-payload-content` of `_payload` with the valueCode `empty`, `id-only` or `full-resource`"
        );
        at(IssueType::Required, "Subscription.channel.payload.extension", text)
    })
}

fn extension<'a>(element: &'a Value, name: &str) -> Option<&'a Value> {
    let extensions = element["extension"].as_array()?;
    extensions
        .iter()
        .find(|extension| extension["url"].as_str().and_then(|url| url.strip_prefix(BACKPORT)) == Some(name))
}

fn headers(value: &Value) -> &[Value] {
    value["channel"]["header"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The scheme, host and port of an address, as they were written.
fn origin(resource: &Value) -> Option<(&str, &str)> {
    let (scheme, rest) = resource["channel"]["endpoint"].as_str()?.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next()?))
}

/// The headers of the edition before that another one may go on with: none where they would go to somebody else.
pub(crate) fn secrets_before<'a>(before: &Value, headers: &'a [String], value: &Value) -> &'a [String] {
    if origin(before).is_some() && origin(before) == origin(value) { headers } else { &[] }
}

/// Takes the values of the headers out of a Subscription, and gives them. One that was shown without its value keeps the one `before`.
pub(crate) fn take_secrets(value: &mut Value, before: &[String]) -> Result<Vec<String>, Failure> {
    let refused = |index: usize, text: &str| {
        Failure::invalid(IssueType::Value, &format!("Subscription.channel.header[{index}]"), text)
    };
    let name_of = |header: &str| header.split_once(':').map(|(name, _)| name.trim().to_owned());
    let (mut taken, mut before) = (Vec::new(), before.to_vec());
    for index in 0..headers(value).len() {
        let header = headers(value)[index].as_str().unwrap_or_default().to_owned();
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let is_ours = |name: &str| OUR_HEADERS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        let name = name_of(&header).filter(|name| is_name(name) && !is_ours(name)).ok_or_else(|| {
            // Not quoted: it may be the secret itself.
            refused(index, "a header is written as `Name: value`, and says nothing of the connection or the content")
        })?;
        let is_masked = header.split_once(':').is_some_and(|(_, said)| said.trim() == HIDDEN);
        let has_name = |kept: &String| name_of(kept).is_some_and(|kept| kept.eq_ignore_ascii_case(&name));
        taken.push(match before.iter().position(has_name) {
            _ if !is_masked => header,
            Some(place) => before.remove(place),
            None => {
                let text = "the gateway keeps no value of this header for this address: write the value. One that was written before goes \
                            on only where scheme, host and port of the endpoint stay as they were";
                return Err(refused(index, text));
            }
        });
        value["channel"]["header"][index] = json!(format!("{name}: {HIDDEN}"));
    }
    Ok(taken)
}

/// Writes into a Subscription whose it is and how it stands.
pub(crate) fn stamp(value: &mut Value, account: &str, status: &str, error: Option<&str>) {
    let Some(resource) = value.as_object_mut() else { return };
    let own = json!({"url": SUBSCRIBER, "valueString": account});
    let mut extensions = resource.get("extension").and_then(Value::as_array).cloned().unwrap_or_default();
    extensions.retain(|extension| extension["url"] != SUBSCRIBER);
    extensions.push(own);
    resource.insert("extension".to_owned(), Value::Array(extensions));
    resource.insert("status".to_owned(), json!(status));
    match error {
        Some(error) => resource.insert("error".to_owned(), json!(error)),
        None => resource.shift_remove("error"),
    };
}

/// Whose a Subscription is.
pub(crate) fn account_of(value: &Value) -> Option<&str> {
    let extensions = value["extension"].as_array()?;
    extensions.iter().find(|extension| extension["url"] == SUBSCRIBER)?["valueString"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Value {
        json!({
            "resourceType": "Subscription", "status": "requested", "reason": "alarms of a patient",
            "criteria": "https://vitaltrace.org/fhir/SubscriptionTopic/alarm",
            "_criteria": {"extension": [{
                "url": format!("{BACKPORT}backport-filter-criteria"), "valueString": "Flag?patient=Patient/ilse,jan&code=spo2-low"
            }]},
            "channel": {
                "extension": [{"url": format!("{BACKPORT}backport-heartbeat-period"), "valueUnsignedInt": 60}],
                "type": "rest-hook", "endpoint": "https://hook.example/in", "payload": "application/fhir+json",
                "_payload": {"extension": [{"url": format!("{BACKPORT}backport-payload-content"), "valueCode": "id-only"}]},
                "header": ["Authorization: Bearer a:b"]
            }
        })
    }

    #[test]
    fn a_subscription_is_read_with_its_filters_and_its_channel() {
        let wanted = Wanted::read(&subscription()).unwrap();
        assert_eq!((wanted.topic.name, wanted.patients), ("alarm", vec!["ilse".to_owned(), "jan".to_owned()]));
        assert_eq!(wanted.channel, Channel::Hook("https://hook.example/in".to_owned()));
        assert_eq!(
            (wanted.payload, wanted.heartbeat_s, wanted.timeout_s),
            (Payload::IdOnly, Some(60), TIMEOUT_S_DEFAULT)
        );
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_to_write() {
        let refused = |change: &dyn Fn(&mut Value), says: &str| {
            let mut value = subscription();
            change(&mut value);
            let Err(Failure::Invalid(issues)) = Wanted::read(&value) else { panic!("`{says}` was taken") };
            let said = issues.iter().map(|issue| issue.diagnostics.as_str()).collect::<Vec<_>>().join("; ");
            assert!(said.contains(says), "{said}");
        };
        refused(&|s| s["criteria"] = json!("Observation?code=8867-4"), "SubscriptionTopic/alarm");
        refused(&|s| s["_criteria"] = Value::Null, "patient=ilse");
        let filter =
            |text: &'static str| move |s: &mut Value| s["_criteria"]["extension"][0]["valueString"] = json!(text);
        refused(&filter("patient=ilse&weather=bad"), "has the filters `patient`, `code`");
        refused(&filter("patient=ilse&code:not=spo2-low"), "without modifiers");
        refused(&filter("Observation?patient=ilse"), "is about Flag and DetectedIssue");
        refused(&filter("patient=il_se"), "by its id");
        refused(&filter("patient=a&patient=b"), "in one filter");
        refused(&|s| s["channel"]["type"] = json!("email"), "`rest-hook` or `websocket`");
        refused(&|s| s["channel"]["type"] = json!("websocket"), "no endpoint");
        refused(&|s| s["channel"]["endpoint"] = Value::Null, "https://hook.example/in");
        refused(&|s| s["channel"]["payload"] = json!("application/fhir+xml"), "application/fhir+json");
        refused(&|s| s["channel"]["_payload"] = Value::Null, "`id-only`");
        refused(&|s| s["channel"]["extension"][0]["valueUnsignedInt"] = json!(0), "10 to 86400");
        refused(&|s| s["end"] = json!("soon"), "an instant");
    }

    #[test]
    fn a_headers_value_is_not_shown_and_is_kept_when_it_comes_back_unseen() {
        let mut value = subscription();
        let taken = take_secrets(&mut value, &[]).unwrap();
        assert_eq!(taken, ["Authorization: Bearer a:b"]);
        assert!(!value.to_string().contains("Bearer"));
        assert_eq!(take_secrets(&mut value.clone(), &taken).unwrap(), taken);
        value["channel"]["header"][0] = json!("Authorization: Bearer c");
        assert_eq!(take_secrets(&mut value, &taken).unwrap(), ["Authorization: Bearer c"]);
        value["channel"]["header"][0] = json!("hunter2");
        let said = format!("{:?}", take_secrets(&mut value, &taken).unwrap_err());
        assert!(!said.contains("hunter2"), "{said}");
    }

    /// Members that are no strings were passed over and shifted the places of the others: a secret stayed in the record.
    #[test]
    fn a_header_that_is_no_string_is_refused_and_hides_no_other() {
        for other in [Value::Null, json!(7), json!({"a": "b"})] {
            let mut value = subscription();
            value["channel"]["header"] = json!([other, "Authorization: Bearer a:b"]);
            assert!(take_secrets(&mut value, &[]).is_err(), "{value}");
        }
    }

    #[test]
    fn a_secret_goes_on_to_the_same_origin_alone() {
        let mut before = subscription();
        let taken = take_secrets(&mut before, &[]).unwrap();
        let again = |change: &dyn Fn(&mut Value)| {
            let mut value = before.clone();
            change(&mut value);
            let kept = secrets_before(&before, &taken, &value);
            take_secrets(&mut value, kept)
        };
        assert_eq!(again(&|s| s["channel"]["endpoint"] = json!("https://hook.example/other?x=1")).unwrap(), taken);
        assert_eq!(again(&|s| s["channel"]["header"][0] = json!(format!("authorization :{HIDDEN}"))).unwrap(), taken);
        for other in [
            "https://thief.example/in",
            "http://hook.example/in",
            "https://hook.example:8443/in",
            "https://hook.example\\@thief.example/in",
            "https://hook.example.thief.example/in",
        ] {
            let Err(Failure::Invalid(issues)) = again(&|s| s["channel"]["endpoint"] = json!(other)) else {
                panic!("a secret goes to {other}");
            };
            assert!(issues[0].diagnostics.contains("write the value"), "{issues:?}");
        }
        let mut first = before.clone();
        assert!(take_secrets(&mut first, &[]).is_err(), "a first edition has nothing to go on with");
    }

    #[test]
    fn whose_it_is_says_the_gateway_whatever_was_sent() {
        let mut value = subscription();
        value["extension"] =
            json!([{"url": SUBSCRIBER, "valueString": "somebody else"}, {"url": "urn:x", "valueString": "y"}]);
        stamp(&mut value, "ana by chart", "error", Some("away"));
        assert_eq!((account_of(&value), value["extension"].as_array().map(Vec::len)), (Some("ana by chart"), Some(2)));
        assert_eq!((value["status"].as_str(), value["error"].as_str()), (Some("error"), Some("away")));
        stamp(&mut value, "ana", "active", None);
        assert_eq!((account_of(&value), value.get("error")), (Some("ana"), None));
    }
}
