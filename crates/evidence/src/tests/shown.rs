//! What a bundle shows beside the logs: current versions, device keys, places, witnesses, parts; and what forgers would like it to show.

use super::world::{Shown, World, night, three_months, whole_night};
use crate::{BadLog, CurrentValue, Log, Parts, Refused, Subject};
use record::{audit_tag, record_tag};

fn whole() -> (World, Parts) {
    let (world, binding) = night();
    let parts = world.prove_shown(&whole_night(&world, binding));
    (world, parts)
}

#[track_caller]
fn refused(world: &World, parts: Parts, expected: Refused) {
    assert_eq!(world.verify(parts).map(|_| ()), Err(expected));
}

#[test]
fn a_current_version_is_shown_and_an_older_one_is_not_current() {
    let (world, good) = whole();
    let report = world.verify(good.clone()).unwrap();
    let tag = record_tag(&world.patient, "Patient/p1");
    let current = report.current.iter().find(|current| current.tag == tag).unwrap();
    assert_eq!((current.version, current.opened, current.written_at_height), (Some(2), true, Some(3)));
    // The head of the same record as it was under an earlier header.
    let mut before = World::new(1);
    before.block(Some("2026-10-31T22:15:00Z"));
    before.record("ambulance", "Patient/p1", "found unconscious");
    let old = before.prove_shown(&Shown { current: vec![tag], ..Shown::default() });
    let mut forged = good;
    forged.current.retain(|current| current.tag != tag);
    forged.current.extend(old.current);
    refused(&world, forged, Refused::State { subject: Subject::Record(tag) });
}

#[test]
fn a_record_is_not_shown_as_absent_when_it_is_there_nor_by_the_head_of_another() {
    let (world, good) = whole();
    let [there, absent] = ["Patient/p1", "Patient/p2"].map(|name| record_tag(&world.patient, name));
    let swapped = |parts: &Parts| {
        let mut parts = parts.clone();
        let (one, rest) = parts.current.split_first_mut().unwrap();
        std::mem::swap(&mut one.value, &mut rest[0].value);
        parts
    };
    let first = there.min(absent);
    refused(&world, swapped(&good), Refused::State { subject: Subject::Record(first) });
    let mut twice = good.clone();
    twice.current.push(twice.current[0].clone());
    refused(&world, twice, Refused::Order { what: "current versions" });
    assert!(good.current.iter().any(|current| matches!(current.value, CurrentValue::Absent { .. })));
}

#[test]
fn an_audit_event_is_not_shown_as_absent_because_the_state_holds_none() {
    let (world, _) = whole();
    let tag = audit_tag(&world.patient, "AuditEvent/1", &"mercy".parse().unwrap());
    let parts = world.prove_shown(&Shown { current: vec![tag], ..Shown::default() });
    refused(&world, parts, Refused::CurrentOfAudit { tag });
}

/// An access that was copied, entry for entry, once made every file about the patient refuse itself, as its audit event was opened twice.
#[test]
fn two_accesses_that_name_one_audit_event_are_told_and_its_bytes_given_once() {
    let mut world = World::new(1);
    world.block(Some("2026-11-21T22:15:00Z"));
    let first = world.next_id();
    world.access_again("mercy", first);
    world.access_again("mercy", first);
    world.access("ambulance");
    let opened = world.audit_event(&first);
    let parts = Parts { opened: vec![opened.clone(), opened], ..world.prove() };
    let report = world.verify(parts).unwrap();
    assert_eq!(report.records.iter().map(|record| record.contiguous).collect::<Vec<_>>(), [false, true]);
    assert_eq!((report.opened, report.unopened), (2, 1), "both accesses commit to the bytes");
    let told = "1 audit event is named by more than one access: to which it belongs is not shown.";
    assert!(report.not_proven.iter().any(|said| said == told), "{:?}", report.not_proven);
    assert!(!report.not_proven.iter().any(|said| said.contains("versions missing")));
}

#[test]
fn a_batch_is_told_apart_by_whether_its_device_key_was_revoked_when_it_was_made() {
    let (world, good) = whole();
    let report = world.verify(good.clone()).unwrap();
    assert_eq!((report.devices[0].good, report.devices[0].late, report.devices_unshown), (2, 1, 0));
    assert!(report.devices[0].revoked.is_some());
    assert!(report.not_proven.iter().any(|said| said.contains("was made when the device key was revoked already")));
    let without = Parts { devices: Vec::new(), ..good };
    assert_eq!(world.verify(without).unwrap().devices_unshown, 3);
}

#[test]
fn a_revoked_device_key_is_not_shown_as_good() {
    let (world, good) = whole();
    // The key as it was before it was revoked, under an earlier header.
    let mut before = World::new(1);
    before.block(Some("2026-10-31T22:15:00Z"));
    before.record("ambulance", "Patient/p1", "found unconscious");
    before.access("mercy");
    let binding = before.bind("ambulance", "oximeter", 9);
    before.batch("ambulance", binding, 1);
    let old = before.prove_shown(&Shown { devices: vec![(binding, 9)], ..Shown::default() });
    let mut forged = good.clone();
    forged.devices[0].key = old.devices[0].key.clone();
    let subject = Subject::DeviceKey(super::world::device_key(9));
    refused(&world, forged, Refused::State { subject });
    let mut nobodys = good;
    nobodys.devices[0].binding.0[0] ^= 1;
    let binding = nobodys.devices[0].binding;
    refused(&world, nobodys, Refused::NoBatch { binding });
}

#[test]
fn an_entry_has_no_other_place_in_the_log_of_all_entries() {
    let (world, good) = whole();
    let report = world.verify(good.clone()).unwrap();
    let indices: Vec<Option<u64>> = report.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(indices, (0..8).map(Some).collect::<Vec<_>>());
    let place = Refused::Place { month: good.places[2].month, entry: good.places[2].entry };
    for change in [
        (|parts| parts.places[2].index += 1) as fn(&mut Parts),
        |parts| _ = parts.places[2].path.pop(),
        |parts| parts.places[2].path.swap(0, 1),
        |parts| parts.places[2].path = parts.places[3].path.clone(),
    ] {
        let mut forged = good.clone();
        change(&mut forged);
        refused(&world, forged, place.clone());
    }
}

#[test]
fn a_word_holds_for_its_organisation_and_its_head_only() {
    let (world, good) = whole();
    let report = world.verify(good.clone()).unwrap();
    let signed: Vec<bool> = report.witnesses.iter().map(|witness| witness.cosigned.is_some()).collect();
    assert_eq!(signed, [true, false, true, true]);
    let word = || Refused::Word { organisation: "ambulance".parse().unwrap() };
    for change in [
        (|parts| parts.witnesses[0].word = parts.witnesses[2].word) as fn(&mut Parts),
        |parts| parts.witnesses[0].word.as_mut().unwrap().time_s += 1,
        |parts| parts.witnesses[0].word.as_mut().unwrap().receipt.0[0] ^= 1,
        |parts| parts.witnesses[0].word.as_mut().unwrap().cosignature = parts.witnesses[0].word.unwrap().receipt,
    ] {
        let mut forged = good.clone();
        change(&mut forged);
        refused(&world, forged, word());
    }
    let mut later = world.clone();
    later.block(None);
    later.record("mercy", "Patient/p1", "moved");
    let (_, binding) = night();
    let mut moved = later.prove_shown(&whole_night(&later, binding));
    moved.witnesses[0].word = good.witnesses[0].word;
    refused(&later, moved, word());
    let mut other = good;
    other.witnesses[0].member = other.witnesses[2].member.clone();
    refused(&world, other, Refused::State { subject: Subject::Member("ambulance".parse().unwrap()) });
}

#[test]
fn a_part_is_all_that_there_is_between_its_neighbours() {
    let world = three_months();
    let parts_of = |range| {
        let parts = world.prove_shown(&Shown { range: Some(range), ..Shown::default() });
        Parts { opened: Vec::new(), ..parts }
    };
    for (from, to) in (1..=11).flat_map(|from| (from..=11).map(move |to| (from, to))) {
        let report = world.verify(parts_of((from, to))).unwrap();
        assert!(!report.complete);
        let last = report.months.last().unwrap().part.unwrap();
        assert!(last.to >= to.min(report.height), "{from} to {to}: {last:?}");
        let heights = report.entries.iter().map(|entry| entry.height);
        let inside =
            world.verify(world.prove()).unwrap().entries.iter().filter(|e| (from..=to).contains(&e.height)).count();
        assert_eq!(heights.filter(|height| (from..=to).contains(height)).count(), inside, "{from} to {to}");
    }
    let good = parts_of((8, 9));
    let month = good.months[2].month;
    let bad = |why| Refused::Month { month, why };
    let edit = |change: fn(&mut crate::LogPart)| {
        let mut parts = good.clone();
        let Log::Part(part) = &mut parts.months[2].log else { panic!("no part") };
        assert!(part.left.is_some() && part.right.is_some() && part.entries.len() > 1);
        change(part);
        parts
    };
    refused(&world, edit(|part| drop(part.entries.remove(0))), bad(BadLog::OtherEntries));
    refused(&world, edit(|part| part.entries.swap(0, 1)), bad(BadLog::OtherEntries));
    refused(&world, edit(|part| part.right.as_mut().unwrap().height += 1), bad(BadLog::OtherEntries));
    refused(&world, edit(|part| part.left.as_mut().unwrap().height -= 1), bad(BadLog::OtherEntries));
    refused(&world, edit(|part| part.right = None), bad(BadLog::Part));
    refused(&world, edit(|part| part.left = None), bad(BadLog::Part));
    refused(&world, edit(|part| _ = part.rest.pop()), bad(BadLog::OtherEntries));
}
