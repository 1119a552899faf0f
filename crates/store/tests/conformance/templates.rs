//! Versions that have a template are found and read as those without.

use crate::{Backend, suite::row};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{
    Criterion, Expected, IndexRow, NewVersion, Put, PutError, Removal, Row, Search, Sort, Store, Template, extract,
    extract_some,
};
use tempfile::tempdir;

/// What is of each event alone.
const OWN: [&str; 3] = ["date", "entity", "patient"];

/// An event of one of two agents, in one of four kinds, about one of three patients.
fn event(number: usize) -> Value {
    let (agent, action) = (["Practitioner/d", "Patient/p0"][number % 2], ["R", "D"][number / 2 % 2]);
    let mut event = kind(agent, action);
    event["id"] = json!(format!("event-{number:02}"));
    event["recorded"] = json!(format!("2026-12-01T10:00:{:02}Z", 59 - number));
    event["entity"] = json!([
        {"what": {"reference": format!("Patient/p{}", number % 3)}},
        {"what": {"reference": format!("Observation/o{number}")}},
        {"what": {"identifier": {"value": format!("request-{number}")}}},
    ]);
    event
}

fn kind(agent: &str, action: &str) -> Value {
    json!({
        "resourceType": "AuditEvent", "id": "", "recorded": "", "type": {"system": "s", "code": "rest"}, "action": action,
        "outcome": if action == "D" { "8" } else { "0" },
        "agent": [{"who": {"reference": agent}, "requestor": true, "network": {"address": "ward-7"}}],
        "source": {"site": "mercy", "observer": {"display": "mercy"}},
        "entity": [{"what": {"reference": ""}}],
    })
}

fn template(agent: &str, action: &str) -> Arc<Template> {
    let sample = kind(agent, action).to_string().into_bytes();
    Template::of("AuditEvent", sample, |param| param != "date").unwrap()
}

/// The event with its template, or with all that it is found by.
fn new(number: usize, with_template: bool) -> NewVersion {
    let event = event(number);
    let patient = format!("p{}", number % 3);
    let bytes = event.to_string().into_bytes();
    let row = Row { patient: Some(patient), ..row("AuditEvent", &format!("event-{number:02}"), 1, &bytes) };
    if !with_template {
        return NewVersion { row, expected: Expected::New, index: extract("AuditEvent", &event), template: None };
    }
    let (agent, action) = (event["agent"][0]["who"]["reference"].as_str(), event["action"].as_str());
    let template = template(agent.unwrap(), action.unwrap());
    let index = extract_some("AuditEvent", &event, |param| OWN.contains(&param));
    let mut all: Vec<IndexRow> = index.iter().chain(template.index()).cloned().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, extract("AuditEvent", &event));
    NewVersion { row, expected: Expected::New, index, template: Some(template) }
}

fn resource(resource: &Value) -> NewVersion {
    let (rtype, id) = (resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    let row = row(rtype, id, 1, resource.to_string().as_bytes());
    NewVersion { row, expected: Expected::New, index: extract(rtype, resource), template: None }
}

async fn put(store: &Store, records: Vec<NewVersion>) {
    store.put(Put { records, ..Put::default() }).await.unwrap();
}

/// Ids in the order of the answer, page by page, and the total.
async fn found(store: &Store, search: &Search) -> (Vec<String>, Option<u64>) {
    let (mut ids, mut search, mut total) = (Vec::new(), search.clone(), None);
    loop {
        let page = store.search(search.clone()).await.unwrap();
        assert_eq!(page.found.malformed, []);
        ids.extend(page.found.rows.into_iter().map(|row| row.id));
        total = total.or(page.total);
        match page.next {
            None => return (ids, total),
            next => search.after = next,
        }
    }
}

/// A type, parameters with their values, and how many that finds.
type Asked = (&'static str, &'static [(&'static str, &'static str)], usize);
const SEARCHES: [Asked; 30] = [
    ("AuditEvent", &[], 24),
    ("AuditEvent", &[("action", "D")], 12),
    ("AuditEvent", &[("action:not", "D")], 12),
    ("AuditEvent", &[("outcome", "8")], 12),
    ("AuditEvent", &[("agent", "Practitioner/d")], 12),
    ("AuditEvent", &[("agent", "Practitioner/d"), ("action", "D")], 6),
    ("AuditEvent", &[("patient", "Patient/p1")], 8),
    // An agent that is a patient counts as one: from the event itself, from its template, and from both of them.
    ("AuditEvent", &[("patient", "Patient/p0")], 16),
    ("AuditEvent", &[("patient", "Patient/p0,Patient/p1")], 20),
    ("AuditEvent", &[("patient", "Patient/p0"), ("outcome", "8")], 8),
    ("AuditEvent", &[("patient", "Patient/p1"), ("outcome", "8")], 4),
    ("AuditEvent", &[("patient", "Patient/p1"), ("site", "mercy"), ("action", "R")], 4),
    ("AuditEvent", &[("entity", "Observation/o7")], 1),
    ("AuditEvent", &[("entity:identifier", "request-7")], 1),
    ("AuditEvent", &[("entity:identifier", "request-7"), ("outcome", "8,0")], 1),
    ("AuditEvent", &[("site", "mercy")], 24),
    ("AuditEvent", &[("site", "other")], 0),
    ("AuditEvent", &[("address", "ward")], 24),
    ("AuditEvent", &[("address:exact", "ward-7"), ("date", "gt2026-12-01T10:00:50Z")], 9),
    ("AuditEvent", &[("policy:missing", "true")], 24),
    ("AuditEvent", &[("site:missing", "true")], 0),
    ("AuditEvent", &[("agent", "Practitioner/d"), ("patient", "Patient/p1")], 4),
    ("Practitioner", &[("_has:AuditEvent:agent:site:missing", "true")], 0),
    ("Practitioner", &[("_has:AuditEvent:agent:action:not", "D")], 1),
    ("AuditEvent", &[("_id", "event-03,event-04"), ("agent", "Practitioner/d")], 1),
    ("AuditEvent", &[("agent:Practitioner.family", "House")], 12),
    ("AuditEvent", &[("agent:Practitioner.family", "Wilson")], 0),
    ("Practitioner", &[("_has:AuditEvent:agent:action", "D")], 1),
    ("Practitioner", &[("_has:AuditEvent:agent:outcome", "4")], 0),
    ("Practitioner", &[("family", "House"), ("_has:AuditEvent:agent:site", "mercy")], 1),
];

pub(crate) async fn templates_change_nothing_about_what_is_found_and_read(backend: &impl Backend) {
    const EVENTS: usize = 24;
    let (with, without) = (tempdir().unwrap(), tempdir().unwrap());
    let (with, without) = (backend.store(with.path()), backend.store(without.path()));
    for (store, has_templates) in [(&with, true), (&without, false)] {
        let name = json!([{"family": "House"}]);
        put(store, vec![resource(&json!({"resourceType": "Practitioner", "id": "d", "name": name}))]).await;
        // One after the other, and several at once, of kinds that are there and of new ones.
        put(store, vec![new(0, has_templates)]).await;
        put(store, (1..10).map(|number| new(number, has_templates)).collect()).await;
        for number in 10..EVENTS {
            put(store, vec![new(number, has_templates)]).await;
        }
    }
    for number in 0..EVENTS {
        let NewVersion { row, .. } = new(number, true);
        assert_eq!(with.vread(row.key()).await.unwrap().as_ref(), Some(&row));
        assert_eq!(with.read("AuditEvent", &row.id).await.unwrap().as_ref(), Some(&row));
    }
    let rows = with.rows(0, 100).await.unwrap().found;
    assert_eq!(rows, without.rows(0, 100).await.unwrap().found);
    assert_eq!(with.patient_records("p1", &[]).await.unwrap(), without.patient_records("p1", &[]).await.unwrap());
    for (rtype, criteria, expected) in SEARCHES {
        for sort in
            [vec![], vec![Sort::ascending("date")], vec![Sort::descending("_lastUpdated"), Sort::ascending("_id")]]
        {
            if rtype == "Practitioner" && sort.iter().any(|sort| sort == &Sort::ascending("date")) {
                continue;
            }
            let criteria = criteria.iter().map(|(name, value)| Criterion::parse(rtype, name, value).unwrap());
            let search = criteria.fold(Search::of(rtype), Search::with);
            let search = Search { sort, count: 5, total: true, ..search };
            let (ids, total) = found(&with, &search).await;
            assert_eq!((ids.len(), total), (expected, Some(expected as u64)), "{search:?}");
            assert_eq!((ids, total), found(&without, &search).await, "{search:?}");
        }
    }
    // Pages whose links say what a template says; and several types at once.
    let sort = vec![Sort::ascending("agent"), Sort::descending("date")];
    let by_agent = Search { sort, count: 5, total: true, ..Search::of("AuditEvent") };
    assert_eq!(found(&with, &by_agent).await, found(&without, &by_agent).await);
    let sort = vec![Sort::descending("_lastUpdated"), Sort::ascending("_id")];
    let of_both = Search { also: vec!["Practitioner".into()], sort, count: 5, total: true, ..Search::of("AuditEvent") };
    let (ids, total) = found(&with, &of_both).await;
    assert_eq!((ids.len(), total), (EVENTS + 1, Some(EVENTS as u64 + 1)));
    assert_eq!((ids, total), found(&without, &of_both).await);
}

pub(crate) async fn a_template_goes_with_the_last_version_that_has_it(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    // Of two kinds: 0 and 4 of the first, 1 of the second.
    put(&store, vec![new(0, true), new(1, true), new(4, true)]).await;
    let agents = async || {
        let mut found_of = Vec::new();
        for agent in ["Practitioner/d", "Patient/p0"] {
            let search = Search::of("AuditEvent").with(Criterion::parse("AuditEvent", "agent", agent).unwrap());
            found_of.push(found(&store, &search).await.0);
        }
        (found_of, backend.count(folder.path(), "template"), backend.count(folder.path(), "token WHERE vid < 0"))
    };
    let ids =
        |of: &[&[&str]]| of.iter().map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()).collect::<Vec<Vec<_>>>();
    let (before, templates, tokens) = agents().await;
    assert_eq!((before, templates), (ids(&[&["event-00", "event-04"], &["event-01"]]), 2));
    assert!(tokens > 0);
    // The patient of 0 is erased: 4 has its template still.
    assert_eq!(store.erase("p0", &[]).await.unwrap(), 1);
    assert_eq!(agents().await, (ids(&[&["event-04"], &["event-01"]]), 2, tokens));
    // The patient of 1 and 4.
    assert_eq!(store.erase("p1", &[]).await.unwrap(), 2);
    assert_eq!(agents().await, (ids(&[&[], &[]]), 0, 0));
    // What comes after has a template again, as has what is taken out by a recovery.
    put(&store, vec![new(0, true), new(1, true)]).await;
    assert_eq!(agents().await.1, 2);
    let removals = vec![Removal::Version(new(1, true).row.key())];
    store.put(Put { removals, ..Put::default() }).await.unwrap();
    assert_eq!(agents().await.0, ids(&[&["event-00"], &[]]));
    assert_eq!(backend.count(folder.path(), "template"), 1);
    // Its values go also where somebody took the template itself away before.
    backend.run(folder.path(), "DELETE FROM template");
    assert!(backend.count(folder.path(), "token WHERE vid < 0") > 0);
    assert_eq!(store.erase("p0", &[]).await.unwrap(), 1);
    assert_eq!(backend.count(folder.path(), "token WHERE vid < 0"), 0);
}

/// Every event that has it, also those to come, would be of no use.
pub(crate) async fn a_damaged_template_is_filed_anew_with_the_next_event_that_has_it(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    put(&store, vec![new(0, true), new(1, true)]).await;
    let number = "(SELECT ~template FROM version WHERE id = 'event-00')";
    let damages = [
        format!(
            "UPDATE template SET sample = (SELECT salt FROM version WHERE id = 'event-01') WHERE number = {number}"
        ),
        format!("DELETE FROM template WHERE number = {number}"),
    ];
    for (damage, next) in damages.iter().zip([4, 8]) {
        backend.run(folder.path(), damage);
        let read = store.read("AuditEvent", "event-00").await;
        assert!(!read.is_ok_and(|row| row.is_some_and(|row| row == new(0, true).row)), "{damage}");
        let other = store.read("AuditEvent", "event-01").await.unwrap().unwrap();
        assert_eq!(other, new(1, true).row, "{damage}");
        put(&store, vec![new(next, true)]).await;
        let id = format!("event-{next:02}");
        assert_eq!(store.read("AuditEvent", &id).await.unwrap().unwrap(), new(next, true).row, "{damage}");
        let sound = store.read("AuditEvent", "event-00").await;
        // A template that is gone has another number when it comes again: its events are lost to whoever has no copy.
        assert_eq!(sound.is_ok_and(|row| row.is_some_and(|row| row == new(0, true).row)), next == 4, "{damage}");
    }
    let agent = Search::of("AuditEvent").with(Criterion::parse("AuditEvent", "agent", "Practitioner/d").unwrap());
    let ids = found(&store, &agent).await.0;
    assert!(ids.contains(&"event-08".to_owned()), "{ids:?}");
}

/// A number below zero would be a version's place: the values of the template would be that version's, and go with it.
pub(crate) async fn a_place_that_is_none_of_ours_is_no_templates_place(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    put(&store, vec![new(0, true), new(1, true)]).await;
    backend.run(
        folder.path(),
        "UPDATE template SET number = -2 WHERE number = (SELECT ~template FROM version WHERE id = 'event-00')",
    );
    put(&store, vec![new(4, true), new(5, true)]).await;
    assert_eq!(backend.count(folder.path(), "template WHERE number <= 0"), 0);
    let agent = Search::of("AuditEvent").with(Criterion::parse("AuditEvent", "agent", "Practitioner/d").unwrap());
    assert!(found(&store, &agent).await.0.contains(&"event-04".to_owned()));
    assert_eq!(store.read("AuditEvent", "event-04").await.unwrap().unwrap(), new(4, true).row);
    // A version that says so of itself stops nobody.
    for place in ["-9223372036854775808", "9223372036854775807", "0", "7"] {
        backend.run(folder.path(), &format!("UPDATE version SET template = {place} WHERE id = 'event-00'"));
        assert_eq!(store.read("AuditEvent", "event-05").await.unwrap().unwrap(), new(5, true).row);
        store.rows(0, 100).await.unwrap();
        let removals = vec![Removal::Version(new(0, true).row.key())];
        store.put(Put { removals, ..Put::default() }).await.unwrap();
        put(&store, vec![new(0, true)]).await;
    }
}

pub(crate) async fn a_put_that_fails_has_no_template_and_the_next_has_its_own(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    put(&store, vec![new(0, true)]).await;
    // The first is there, so the second is not written either; it would be the first of its kind.
    let both = Put { records: vec![new(1, true), new(0, true)], ..Put::default() };
    assert!(matches!(store.put(both).await, Err(PutError::Conflict { .. })));
    let mut other = new(2, true);
    other.row.rtype = "Basic".into();
    let refused = store.put(Put { records: vec![other], ..Put::default() }).await;
    assert_eq!(refused, Err(PutError::Invalid("a template of another type, or of a deletion")));
    put(&store, vec![new(1, true)]).await;
    let search = Search::of("AuditEvent").with(Criterion::parse("AuditEvent", "agent", "Patient/p0").unwrap());
    assert_eq!(found(&store, &search).await.0, ["event-01"]);
}

/// A version below a current one that a recovery takes out is found by its own values again.
pub(crate) async fn a_version_with_a_template_that_is_current_again_is_found(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    put(&store, vec![new(0, true)]).await;
    let before = new(0, true).row;
    let injected = Row { version: 2, ..before.clone() };
    let removal = Removal::Version(injected.key());
    put(&store, vec![NewVersion { row: injected, expected: Expected::Version(1), index: vec![], template: None }])
        .await;
    let search =
        |name: &str, value: &str| Search::of("AuditEvent").with(Criterion::parse("AuditEvent", name, value).unwrap());
    assert_eq!(found(&store, &search("agent", "Practitioner/d")).await.0, Vec::<String>::new());
    store.put(Put { removals: vec![removal], ..Put::default() }).await.unwrap();
    for search in [search("agent", "Practitioner/d"), search("entity", "Observation/o0"), search("site", "mercy")] {
        assert_eq!(found(&store, &search).await, (vec!["event-00".to_owned()], Some(1)), "{search:?}");
    }
    assert_eq!(store.read("AuditEvent", "event-00").await.unwrap(), Some(before));
}
