//! Accesses that one entry commits to together: what of them is shown, and what forgers would like to show.

use super::{
    mutate::unsorted,
    world::{Shown, World, rounds},
};
use crate::{GatheredAccess, Limits, Parts, Refused, assemble, verify};
use contract::{Body, Entry, merkle::PATH_LEN_MAX};
use record::{Month, Purpose, sha256};

/// A hospital that reads, then four times within a second, and again twice.
fn ward() -> World {
    let mut world = World::new(1);
    world.block(Some("2026-11-20T23:00:00Z"));
    world.access("mercy");
    world.gather("mercy", 4);
    world.block(None);
    world.gather("mercy", 2);
    world
}

fn month() -> Month {
    super::world::at("2026-11-20T23:00:00Z").month()
}

fn gathered(entry: u64, place: u32) -> Refused {
    Refused::Gathered { month: month(), entry, place }
}

/// Forges what is shown of the ward, and compares what the verifier says.
#[track_caller]
fn check(forge: impl FnOnce(&mut Vec<GatheredAccess>), expected: Refused) {
    let world = ward();
    let mut parts = world.prove();
    forge(&mut parts.accesses);
    assert_eq!(world.verify(parts), Err(expected));
}

/// An organisation commits to something else at the second place of three, and shows it.
#[track_caller]
fn check_committed(edit: impl Fn(&mut Entry)) {
    let mut world = World::new(1);
    world.block(Some("2026-11-20T23:00:00Z"));
    world.gather_edited("mercy", 3, |place, access| {
        if place == 1 {
            edit(access)
        }
    });
    let parts = world.prove();
    assert_eq!(world.verify(parts.clone()), Err(gathered(0, 1)));
    // Nothing of it is accepted; what stands beside it is.
    let beside = parts.accesses.into_iter().filter(|access| access.place != 1).collect();
    assert_eq!(world.verify(Parts { accesses: beside, ..world.prove() }).unwrap().gathered_shown, 2);
}

#[test]
fn gathered_accesses_are_audit_events_like_others() {
    let (world, _) = rounds();
    let report = world.verify(world.prove()).unwrap();
    assert_eq!((report.entry_count, report.by_kind["access"], report.by_kind["accesses"]), (10, 1, 2));
    assert_eq!(report.by_organisation.values().sum::<u64>(), 10);
    assert_eq!(report.policies.decided_under.iter().map(|decided| decided.entries).sum::<u64>(), 10);
    assert_eq!(report.months.iter().map(|month| month.entries).sum::<u64>(), 10);
    assert_eq!((report.gathered, report.gathered_shown), (7, 3));
    // One version of the Patient and two audit events; another version, the audit event of an access by itself, and that of a gathered one.
    assert_eq!((report.opened, report.unopened), (3, 3));
    let audits = report.records.iter().filter(|record| record.kind == "audit event");
    let opened: Vec<bool> = audits.map(|audit| audit.contiguous && audit.versions[0].opened.is_some()).collect();
    assert_eq!(opened, [false, true, false, true]);
    let at = report.entries.iter().position(|entry| entry.kind == "accesses").unwrap();
    let (outer, inner) = (&report.entries[at], &report.entries[at + 1..at + 4]);
    assert_eq!((outer.what.as_str(), outer.gathered_in), ("5 accesses within 200 ms", None));
    for entry in inner {
        assert_eq!((entry.kind, entry.what.as_str()), ("access", "read: 1 versions disclosed"));
        assert_eq!((entry.gathered_in, entry.height, entry.final_at), (Some(outer.id), outer.height, outer.final_at));
        assert_eq!(entry.index, None);
    }
    assert_eq!(inner.iter().map(|entry| entry.time.0 - outer.time.0).collect::<Vec<_>>(), [0, 100, 150]);
    assert_eq!(report.entries.iter().filter(|entry| entry.gathered_in.is_none()).count(), 10);
}

#[test]
fn the_sentences_say_how_many_accesses_are_shown_and_how_many_are_not() {
    let (world, _) = rounds();
    let says = |parts: Parts, proven: &str, not_proven: Option<&str>| {
        let report = world.verify(parts).unwrap();
        assert!(report.proven.iter().any(|said| said == proven), "{:#?}", report.proven);
        let doubts: Vec<&String> = report.not_proven.iter().filter(|said| said.contains("gathered")).collect();
        assert_eq!(doubts, not_proven.into_iter().collect::<Vec<_>>());
    };
    says(
        world.prove(),
        "2 entries commit to several accesses together, 7 in all by the word of those who filed them; 3 of these are in the file, exactly as committed to, each at its place.",
        Some("4 gathered accesses are not in this file: what they were, and that there were so many, is not shown."),
    );
    let none = Parts { accesses: Vec::new(), opened: Vec::new(), ..world.prove() };
    says(
        none,
        "2 entries commit to several accesses together, 7 in all by the word of those who filed them; 0 of these are in the file, exactly as committed to, each at its place.",
        Some("7 gathered accesses are not in this file: what they were, and that there were so many, is not shown."),
    );
    let told = "The validators saw one entry for accesses that it commits to together: what each of them says was not checked by the ledger's rules.";
    assert!(world.verify(world.prove()).unwrap().not_proven.iter().any(|said| said == told));
    let ward = ward();
    let report = ward.verify(ward.prove()).unwrap();
    assert_eq!((report.gathered, report.gathered_shown), (6, 6));
    assert!(!report.not_proven.iter().any(|said| said.contains("gathered")));
}

#[test]
fn what_the_contract_gathers_is_what_evidence_opens() {
    let world = ward();
    let parts = world.prove();
    let inner: Vec<Entry> = parts
        .accesses
        .iter()
        .filter(|access| access.entry == 1)
        .map(|a| Entry::from_bytes(&a.access).unwrap())
        .collect();
    let outer = Entry::from_bytes(&parts.months[0].log.entries()[1].entry).unwrap();
    let (entry, openings) = contract::gather(outer.id, &inner).unwrap();
    assert_eq!(entry, outer);
    let given = parts.accesses.iter().filter(|access| access.entry == 1);
    let given = given.map(|a| contract::Gathered { place: a.place, access: a.access.clone(), path: a.path.clone() });
    assert_eq!(given.collect::<Vec<_>>(), openings);
}

#[test]
fn a_part_shows_the_gathered_accesses_of_its_entries() {
    let (world, _) = rounds();
    let shown = Shown { range: Some((4, 4)), ..Shown::default() };
    let mut parts = world.prove_shown(&shown);
    parts.opened.retain(|opened| opened.record.starts_with("AuditEvent/"));
    assert!(parts.accesses.iter().all(|access| access.entry == 0));
    let report = world.verify(parts).unwrap();
    assert_eq!((report.gathered, report.gathered_shown, report.opened), (5, 3, 2));
}

#[test]
fn an_access_has_no_other_place() {
    check(|accesses| accesses[3].place = 4, gathered(1, 4));
    check(|accesses| accesses[3].place = u32::MAX, gathered(1, u32::MAX));
    // Where nothing else stands at that place.
    let alone = |accesses: &mut Vec<GatheredAccess>| {
        accesses.truncate(1);
        accesses[0].place = 1;
    };
    check(alone, gathered(1, 1));
}

#[test]
fn an_access_that_an_entry_does_not_commit_to_is_refused() {
    let swap = |accesses: &mut Vec<GatheredAccess>| {
        let (one, other) = (accesses[0].access.clone(), accesses[1].access.clone());
        (accesses[0].access, accesses[1].access) = (other, one);
    };
    check(swap, gathered(1, 0));
    check(|accesses| accesses[2].path = accesses[3].path.clone(), gathered(1, 2));
    check(|accesses| _ = accesses[1].path.pop(), gathered(1, 1));
    check(|accesses| accesses[1].path.push(sha256(&[])), gathered(1, 1));
    check(|accesses| accesses[0].path.clear(), gathered(1, 0));
    check(|accesses| accesses[0].access.clear(), gathered(1, 0));
    check(|accesses| accesses[0].access.push(0), gathered(1, 0));
    check(
        |accesses| {
            let mut entry = Entry::from_bytes(&accesses[0].access).unwrap();
            entry.time = entry.time.plus_ms(1);
            accesses[0].access = entry.to_bytes();
        },
        gathered(1, 0),
    );
}

#[test]
fn an_entry_that_is_none_of_several_accesses_opens_nothing() {
    check(|accesses| accesses[0].entry = 0, gathered(0, 0));
    check(|accesses| accesses[5].entry = 3, gathered(3, 1));
    check(|accesses| accesses[5].entry = u64::MAX, gathered(u64::MAX, 1));
    check(|accesses| accesses[0].month = Month(0), Refused::Gathered { month: Month(0), entry: 1, place: 0 });
    // That of the other entry of several accesses.
    check(
        |accesses| {
            accesses.truncate(1);
            accesses[0].entry = 2;
        },
        gathered(2, 0),
    );
}

/// The organisation's word is in a tree that nobody but it saw: whoever opens an access checks what the ledger would have.
#[test]
fn what_may_not_be_gathered_is_refused_where_it_is_shown() {
    check_committed(|access| access.patient = Some(record::Pseudonym(sha256(&[b"another"]))));
    check_committed(|access| access.patient = None);
    check_committed(|access| access.actor = sha256(&[b"another"]));
    check_committed(|access| access.org = "ambulance".parse().unwrap());
    check_committed(|access| access.purpose = Purpose::BreakGlass);
    check_committed(|access| access.policy = sha256(&[b"another"]));
    check_committed(|access| access.time = access.time.plus_ms(1_000));
    check_committed(|access| access.time = record::TimeMs(access.time.0 - 1_000));
    check_committed(|access| access.month = Some(contract::MonthLink(record::Commitment(sha256(&[])))));
    check_committed(|access| access.body = Body::Accesses { root: sha256(&[]), count: 2, ms: 0 });
    let body = |edit: fn(&mut Body)| check_committed(move |access| edit(&mut access.body));
    body(|body| {
        if let Body::Access { under, .. } = body {
            *under = Some(record::Id16([1; 16]))
        }
    });
    body(|body| {
        if let Body::Access { denied, .. } = body {
            *denied = true
        }
    });
    body(|body| {
        if let Body::Access { action, .. } = body {
            *action = contract::AccessAction::Write
        }
    });
    body(|body| {
        if let Body::Access { count, .. } = body {
            *count = 0
        }
    });
    body(|body| {
        if let Body::Access { audit, .. } = body {
            *audit = audit.of_audit(&"county".parse().unwrap())
        }
    });
}

#[test]
fn gathered_accesses_stand_in_one_order_and_each_once() {
    let world = ward();
    let parts = world.prove();
    let order = Err(Refused::Order { what: "gathered accesses" });
    let given = |accesses: &[GatheredAccess]| {
        verify(&unsorted(&parts, &parts.opened, accesses), &world.id(), &Limits::default())
    };
    let sorted = assemble(parts.clone()).accesses().to_vec();
    assert_eq!(given(&sorted), world.verify(parts.clone()));
    for at in 0..sorted.len() - 1 {
        let mut swapped = sorted.clone();
        swapped.swap(at, at + 1);
        assert_eq!(given(&swapped), order);
    }
    let mut twice = parts.clone();
    twice.accesses.push(twice.accesses[0].clone());
    assert_eq!(world.verify(twice), order);
}

/// An organisation that copies an access has named its audit event twice, whether by itself or in a tree.
#[test]
fn an_audit_event_that_two_accesses_name_is_told_wherever_they_stand() {
    let mut world = World::new(1);
    world.block(Some("2026-11-20T23:00:00Z"));
    let ids = world.gather_edited("mercy", 3, |_, _| {});
    world.access_again("mercy", ids[1]);
    world.opened.push(world.audit_event(&ids[1]));
    let report = world.verify(world.prove()).unwrap();
    assert_eq!(report.records.iter().map(|record| record.contiguous).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((report.opened, report.unopened), (2, 2));
    let told = "1 audit event is named by more than one access: to which it belongs is not shown.";
    assert!(report.not_proven.iter().any(|said| said == told), "{:?}", report.not_proven);
}

#[test]
fn an_audit_event_is_not_opened_without_the_access_that_commits_to_it() {
    let (world, _) = rounds();
    let parts = Parts { accesses: Vec::new(), ..world.prove() };
    assert!(
        matches!(world.verify(parts), Err(Refused::OtherBytes { record, version: 1 }) if record.starts_with("AuditEvent/"))
    );
}

#[test]
fn more_gathered_accesses_or_longer_ones_than_may_be_are_refused_when_they_are_read() {
    let world = ward();
    let bytes = assemble(world.prove()).to_bytes();
    let limits = |entries_max| Limits { entries_max, ..Limits::default() };
    assert!(verify(&bytes, &world.id(), &limits(9)).is_ok());
    let refused = verify(&bytes, &world.id(), &limits(8));
    assert_eq!(refused.err(), Some(Refused::TooMany { what: "entries", got: 9, max: 8 }));
    let malformed = |forge: fn(&mut GatheredAccess)| {
        let mut parts = world.prove();
        forge(&mut parts.accesses[0]);
        assert!(matches!(world.verify(parts), Err(Refused::Format(_))));
    };
    malformed(|access| access.path = vec![sha256(&[]); PATH_LEN_MAX + 1]);
    malformed(|access| access.access = vec![0; contract::ENTRY_BYTES_MAX + 1]);
}
