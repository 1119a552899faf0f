//! Analytics, alarms, handoffs, links.

use crate::{
    AlarmStep, Body, HandoffStep, Priority,
    testing::{Said, World, check, digest, id, org, pseudonym, said, tag},
};

#[test]
fn results_of_analytics_come_from_providers_once() {
    let result = |name: &str| {
        let body = Body::Analytics { result: tag(1), inputs: digest(1), model: digest(2), priority: None };
        said(name, body).id(9)
    };
    check(
        &mut World::new(),
        [
            (result("acme"), "Role"),
            (result("mercy").nobody(), "PatientMissing"),
            (result("mercy"), "applied"),
            (result("mercy").lane(1), "NotNew"),
        ],
    );
}

#[test]
fn an_alarm_is_raised_acknowledged_and_ended_once() {
    let alarm = |name: &str, step| said(name, Body::Alarm { id: id(1), step, priority: Priority::High });
    check(
        &mut World::new(),
        [
            (alarm("mercy", AlarmStep::Acknowledged), "Unknown"),
            (alarm("mercy", AlarmStep::Ended), "Unknown"),
            (alarm("acme", AlarmStep::Raised), "Role"),
            (alarm("rescue", AlarmStep::Raised), "applied"),
            (alarm("rescue", AlarmStep::Raised), "NotNew"),
            (alarm("mercy", AlarmStep::Ended), "OtherOrg"),
            (alarm("rescue", AlarmStep::Ended), "applied"),
            (alarm("rescue", AlarmStep::Ended), "Over"),
            (alarm("mercy", AlarmStep::Acknowledged), "applied"),
            (alarm("rescue", AlarmStep::Acknowledged), "Over"),
        ],
    );
}

#[test]
fn a_handoff_is_offered_by_the_giver_and_accepted_by_the_taker() {
    let handoff = |name: &str, step, from: &str, to: &str| -> Said {
        said(name, Body::Handoff { id: id(1), step, from: org(from), to: org(to) })
    };
    use HandoffStep::{Accepted, Offered};
    check(
        &mut World::new(),
        [
            (handoff("mercy", Accepted, "rescue", "mercy"), "Unknown"),
            (handoff("mercy", Offered, "rescue", "mercy"), "OtherOrg"),
            (handoff("rescue", Offered, "rescue", "rescue"), "Same"),
            (handoff("rescue", Offered, "rescue", "nobody"), "NoMember"),
            (handoff("rescue", Offered, "rescue", "acme"), "Role"),
            (handoff("rescue", Offered, "rescue", "mercy"), "applied"),
            (handoff("rescue", Offered, "rescue", "mercy"), "NotNew"),
            (handoff("county", Accepted, "rescue", "mercy"), "OtherOrg"),
            (handoff("county", Accepted, "rescue", "county"), "OtherOrg"),
            (handoff("mercy", Accepted, "county", "mercy"), "OtherOrg"),
            (handoff("mercy", Accepted, "rescue", "mercy"), "applied"),
            (handoff("mercy", Accepted, "rescue", "mercy"), "Over"),
        ],
    );
}

#[test]
fn providers_say_who_is_one_person() {
    let link = |name: &str, other| said(name, Body::Link { other: pseudonym(other), same: true });
    check(
        &mut World::new(),
        [
            (link("acme", 2), "Role"),
            (link("mercy", 1), "Same"),
            (link("mercy", 2).nobody(), "PatientMissing"),
            (link("mercy", 2), "applied"),
        ],
    );
}
