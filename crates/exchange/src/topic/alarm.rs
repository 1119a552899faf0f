//! `alarm`: the analytics raise an alarm about a patient, or one ends.
//!
//! An alarm has a DetectedIssue, which says what was found, when it is raised and when it ends, and a Flag, which is active in between: each is an
//! event, and `_type` asks for one of them.

use super::{CATEGORY, CODE, Filter, STATUS, Topic, has_code};

/// By this code system the analytics say which alarm it is.
const ALARM_SYSTEM: &str = "https://vitaltrace.org/fhir/CodeSystem/alarm|";

pub(super) const TOPIC: Topic = Topic {
    name: "alarm",
    types: &["Flag", "DetectedIssue"],
    of_patients: true,
    is_event: |resource| has_code(&resource["code"], ALARM_SYSTEM),
    filters: &[
        CODE,
        CATEGORY,
        STATUS,
        Filter { name: "severity", holds: |issue, wanted| issue["severity"] == wanted },
        Filter { name: "_type", holds: |resource, wanted| resource["resourceType"] == wanted },
    ],
};
