//! Topics: what may be subscribed to. One file each, and one list.
//!
//! Source: HL7 Subscriptions R5 Backport 1.1.0, where a Subscription of R4 names its topic by a canonical URL.

mod alarm;
mod consent;
mod handoff;
mod observation;

use crate::facts::member_of;
use serde_json::Value;

/// Stem of the topics' canonical URLs.
const STEM: &str = "https://vitaltrace.org/fhir/SubscriptionTopic/";

/// Every topic: a new one is a file and a line here.
pub(crate) const TOPICS: [&Topic; 4] = [&alarm::TOPIC, &consent::TOPIC, &handoff::TOPIC, &observation::TOPIC];

/// Something that may be subscribed to.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The end of its URL.
    pub(crate) name: &'static str,
    /// Types of the records that it is about; the first one stands for all where it is decided whether a patient may be followed.
    pub(crate) types: &'static [&'static str],
    /// Whether the patients have to be named.
    pub(crate) of_patients: bool,
    /// Whether a version of a record of these types is an event.
    pub(crate) is_event: fn(&Value) -> bool,
    /// What it may be narrowed by, beside `patient`.
    pub(crate) filters: &'static [Filter],
}

/// What a topic may be narrowed by.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether a resource has the value.
    pub(crate) holds: fn(&Value, &str) -> bool,
}

impl Topic {
    /// Its canonical URL.
    pub(crate) fn url(&self) -> String {
        format!("{STEM}{}", self.name)
    }

    /// The topic of that canonical URL; a version after it is passed over.
    pub(crate) fn of(url: &str) -> Option<&'static Self> {
        let name = url.split('|').next()?.strip_prefix(STEM)?;
        TOPICS.into_iter().find(|topic| topic.name == name)
    }

    /// The filter of that name.
    pub(crate) fn filter(&self, name: &str) -> Option<&'static Filter> {
        self.filters.iter().find(|filter| filter.name == name)
    }

    /// The names of its filters, for who asked for another one.
    pub(crate) fn filter_names(&self) -> String {
        let names = std::iter::once("patient").chain(self.filters.iter().map(|filter| filter.name));
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

/// By the codes of `code`, as `system|code` or `code`.
const CODE: Filter = Filter { name: "code", holds: |value, wanted| has_code(&value["code"], wanted) };
/// By the codes of `category`.
const CATEGORY: Filter = Filter { name: "category", holds: |value, wanted| has_code(&value["category"], wanted) };
/// By `status`.
const STATUS: Filter = Filter { name: "status", holds: |value, wanted| value["status"] == wanted };

/// Whether a CodeableConcept, or one of several, has a code: `system|code`, `|code` without a system, `system|`, or `code` of any system.
fn has_code(concept: &Value, wanted: &str) -> bool {
    if let Value::Array(concepts) = concept {
        return concepts.iter().any(|concept| has_code(concept, wanted));
    }
    let codings = concept["coding"].as_array().map(Vec::as_slice).unwrap_or_default();
    codings.iter().any(|coding| {
        let text = |name: &str| coding[name].as_str().unwrap_or_default();
        match wanted.split_once('|') {
            Some((system, "")) => text("system") == system,
            Some((system, code)) => text("system") == system && text("code") == code,
            None => text("code") == wanted,
        }
    })
}

/// Whether a reference names a member organisation by its identifier.
fn is_member(reference: &Value, wanted: &str) -> bool {
    member_of(reference).is_some_and(|org| org.as_str() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn topics_are_known_by_their_urls_and_have_names_of_their_own() {
        for topic in TOPICS {
            assert_eq!(Topic::of(&topic.url()).map(|found| found.name), Some(topic.name));
            assert_eq!(Topic::of(&format!("{}|1.0", topic.url())).map(|found| found.name), Some(topic.name));
            assert!(
                !topic.types.is_empty() && topic.types.iter().all(|rtype| crate::ingest::check_type(rtype).is_ok())
            );
            assert!(topic.filter("patient").is_none(), "`patient` is looked for in the row");
        }
        assert!(Topic::of("https://vitaltrace.org/fhir/SubscriptionTopic/weather").is_none());
        assert!(Topic::of("Observation?code=8867-4").is_none());
    }

    #[test]
    fn a_handoff_is_a_task_with_its_code_and_is_found_by_whom_it_is_to() {
        let task = json!({
            "resourceType": "Task", "status": "requested", "code": {"coding": [{"code": "handoff"}]},
            "owner": {"identifier": {"system": "https://vitaltrace.org/org", "value": "mercy-hospital"}}
        });
        let topic = Topic::of("https://vitaltrace.org/fhir/SubscriptionTopic/encounter-handoff").unwrap();
        assert!((topic.is_event)(&task) && !(topic.is_event)(&json!({"code": {"coding": [{"code": "review"}]}})));
        let holds = |name: &str, wanted: &str| (topic.filter(name).unwrap().holds)(&task, wanted);
        assert!(holds("organization", "mercy-hospital") && !holds("organization", "rescue-one"));
        assert!(holds("status", "requested") && !holds("status", "accepted"));
    }

    #[test]
    fn an_alarm_is_one_of_the_analytics_and_no_note_of_a_person() {
        let topic = Topic::of("https://vitaltrace.org/fhir/SubscriptionTopic/alarm").unwrap();
        let codings = json!([{"system": "https://vitaltrace.org/fhir/CodeSystem/alarm", "code": "spo2-low"}]);
        assert!((topic.is_event)(&json!({"resourceType": "Flag", "code": {"coding": codings}})));
        let by_hand = json!([{"system": "http://snomed.info/sct", "code": "390952000"}]);
        assert!(!(topic.is_event)(&json!({"resourceType": "Flag", "code": {"coding": by_hand}})));
        let issue = json!({"resourceType": "DetectedIssue", "severity": "high"});
        let holds = |name: &str, wanted: &str| (topic.filter(name).unwrap().holds)(&issue, wanted);
        assert!(holds("_type", "DetectedIssue") && !holds("_type", "Flag") && holds("severity", "high"));
    }

    #[test]
    fn codes_are_asked_for_with_their_system_or_without() {
        let value = json!([{"coding": [{"system": "http://loinc.org", "code": "8867-4"}, {"code": "local"}]}]);
        for wanted in ["8867-4", "http://loinc.org|8867-4", "http://loinc.org|", "|local", "local"] {
            assert!(has_code(&value, wanted), "{wanted}");
        }
        for wanted in ["8310-5", "http://snomed.info/sct|8867-4", "|8867-4", "http://snomed.info/sct|"] {
            assert!(!has_code(&value, wanted), "{wanted}");
        }
    }
}
