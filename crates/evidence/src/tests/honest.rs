//! What honest provers make is accepted, and the report says neither more nor less.

use super::world::{World, three_months};
use crate::{Limits, Link, Log, PROOF_BYTES_MAX, Refused, Report, assemble, prove, verify};
use contract::state::{VALUE_BYTES_MAX, log_key};
use expect_test::expect;
use record::Month;

fn verified(world: &World) -> Report {
    world.verify(world.prove()).unwrap()
}

#[test]
fn a_whole_history_is_proven_complete_and_linked() {
    let world = three_months();
    let report = verified(&world);
    assert!(report.complete);
    assert_eq!(report.entry_count, 16);
    assert_eq!(report.months.iter().map(|month| month.entries).collect::<Vec<_>>(), [5, 4, 7]);
    assert!(matches!(report.months[0].link, Link::Earlier { entries: 0, .. }));
    assert_eq!(report.months[2].link, Link::Continues { month: report.months[1].month, entries: 4 });
    assert_eq!((report.opened, report.unopened), (6, 9));
    assert_eq!((report.signers, report.validators), (3, 4));
    assert_eq!(
        report.by_kind.iter().map(|(kind, n)| format!("{kind} {n}")).collect::<Vec<_>>(),
        ["access 9", "investigation 1", "record 6"]
    );
    assert_eq!(report.by_organisation["mercy"], 6);
    let allergy = report.records.iter().find(|record| record.name.as_deref() == Some("AllergyIntolerance/a1")).unwrap();
    assert_eq!(allergy.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2]);
    assert!(allergy.contiguous);
    assert_eq!(allergy.versions[1].organisation.as_str(), "mercy");
    assert_eq!(allergy.versions[1].final_at.to_instant(), "2026-10-09T08:00:01.000Z");
}

#[test]
fn the_sentences_say_what_is_proven_and_what_is_not() {
    let report = verified(&three_months());
    let text = format!("PROVEN\n{}\nNOT PROVEN\n{}\n", report.proven.join("\n"), report.not_proven.join("\n"));
    expect![[r#"
        PROVEN
        Block 11 of «test 1» is final: 3 of its 4 validators, a quorum, signed it. Its time is 2026-11-20T23:00:05.000Z.
        2026-09: 5 entries filed under this pseudonym up to height 11, the last at height 3 and none after it; these are all, in this order: none is missing, none was added.
        2026-10: 4 entries filed under this pseudonym up to height 11, the last at height 5 and none after it; these are all, in this order: none is missing, none was added.
        2026-10 continues 2026-09: its first entry commits to that log with the 5 entries that it had then.
        2026-11: 7 entries filed under this pseudonym up to height 11, the last at height 11 and none after it; these are all, in this order: none is missing, none was added.
        2026-11 continues 2026-10: its first entry commits to that log with the 4 entries that it had then.
        A quorum of the validators accepted each entry of the ledger under its rules as said by the organisation that it names, in the block of the height and time given.
        6 versions opened: the bytes in the file are exactly those committed to on the ledger when they were written.
        At height 11 the access policy `a0561fd649cdb6baa784055f051bad796ea0afef17fca38219549deeba4e8c1a` and the derivation policy `8abf01d3d4a7939f22ca115d89e86d5f03a41f612d7be837e198ef5eb975f11f` are in force, since heights 0 and 0.
        NOT PROVEN
        Before 2026-09: the first entry says that nothing was filed about this patient before; only its author vouches for that.
        After height 11: whatever was filed later is not covered.
        The content of 9 versions is not opened: only that they were written, by whom and when.
        Whether the last version given is the current one is not shown of 3 records.
        The place in the ledger's log of all entries is not shown of 16 entries.
        The file has no signature of any member on the ledger's log.
        Misfiling under another patient is not excluded: complete means all that was filed under these pseudonyms.
        That these pseudonyms belong to a certain person is not proven: that takes the patient key, or the word of who opened the records.
        What never passed a gateway of a member is not on the ledger, and what the ledger refused is not in a patient's log.
        The organisations' own signatures on their entries are not in this file: that they signed rests on the quorum that checked them.
        An entry's own time is what its organisation says; only the block times are agreed.
        That the records are true is not proven, only that they are what was written.
        A second history signed by a quorum of the same validators would not be noticed from this file alone.
    "#]].assert_eq(&text);
}

#[test]
fn the_report_is_one_json_document_without_the_bytes_of_any_record() {
    let report = verified(&three_months());
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""month":"2026-11""#));
    assert!(json.contains(r#""link":{"is":"continues","month":"2026-10","entries":4}"#));
    for secret in ["penicillin", "born", "moved", "accident"] {
        assert!(!json.contains(secret), "{secret}");
    }
}

#[test]
fn the_same_bundle_gets_the_same_report_and_encodes_to_the_same_bytes() {
    let world = three_months();
    let limits = Limits::default();
    let (bytes, report) = prove(world.prove(), &world.id(), &limits).unwrap();
    assert_eq!(verify(&bytes, &world.id(), &limits).unwrap(), report);
    let bundle = crate::Bundle::from_bytes(&bytes, &limits).unwrap();
    assert_eq!(bundle.to_bytes(), bytes);
    let mut shuffled = bundle.into_parts();
    shuffled.months.reverse();
    shuffled.opened.reverse();
    assert_eq!(assemble(shuffled).to_bytes(), bytes);
}

#[test]
fn a_month_without_entries_is_shown_absent_and_the_next_continues_the_one_before_it() {
    let mut world = three_months();
    world.block(Some("2027-01-02T00:00:00Z"));
    world.access("mercy");
    let report = verified(&world);
    let december = &report.months[3];
    assert_eq!((december.month.to_string().as_str(), december.entries, december.root), ("2026-12", 0, None));
    assert_eq!(report.months[4].link, Link::Continues { month: report.months[2].month, entries: 7 });
    assert!(report.complete);
    assert!(report.not_proven.iter().any(|said| said.contains("2026-12") && said.contains("proof of absence alone")));
    assert!(report.not_proven.iter().any(|said| said.starts_with("Between 2026-11 and 2027-01: ")));
}

/// Any pseudonym that nobody uses is absent: a prover could hide the latest month behind one.
#[test]
fn a_last_month_without_entries_leaves_the_story_incomplete() {
    let world = three_months();
    let last = world.prove().months[2].month;
    let report = world.verify(world.prove_months(&[last, Month(last.0 + 1)])).map(|report| report.complete);
    assert!(matches!(report, Err(Refused::OtherBytes { .. })), "records of months outside the file stay unproven");
    let mut parts = world.prove_months(&[last, Month(last.0 + 1)]);
    parts.opened.clear();
    assert!(!world.verify(parts.clone()).unwrap().complete);
    parts.months.pop();
    assert!(world.verify(parts).unwrap().complete);
}

/// A gateway that was away files into October what happened there, after November has begun and named September.
#[test]
fn a_month_filled_late_is_passed_over_by_the_month_that_began_before() {
    let mut world = World::new(1);
    world.block(Some("2026-09-03T10:00:00Z"));
    world.access("mercy");
    world.block(Some("2026-11-03T10:00:00Z"));
    world.access("mercy");
    world.block(None);
    world.access_late("ambulance", super::world::at("2026-10-15T10:00:00Z"));
    let report = verified(&world);
    let september = report.months[0].month;
    assert_eq!(report.months[1].link, Link::Continues { month: september, entries: 1 });
    assert_eq!(report.months[2].link, Link::Continues { month: september, entries: 1 });
    assert!(report.complete);
}

/// December begins and names November, in which nothing was filed; then a gateway that was away files into November.
#[test]
fn a_month_that_was_named_as_empty_and_filled_late_is_accepted_and_not_linked() {
    let mut world = World::new(1);
    world.block(Some("2026-12-03T10:00:00Z"));
    world.access("mercy");
    assert!(matches!(verified(&world).months[0].link, Link::Earlier { entries: 0, .. }));
    world.block(None);
    world.access_late("ambulance", super::world::at("2026-11-15T10:00:00Z"));
    world.block(Some("2027-01-02T10:00:00Z"));
    world.access("mercy");
    let report = verified(&world);
    let [november, december, january] = &report.months[..] else { panic!("three months") };
    assert!(matches!(november.link, Link::Earlier { entries: 0, .. }));
    assert_eq!(december.link, Link::Unseen { month: november.month });
    assert_eq!(january.link, Link::Continues { month: december.month, entries: 1 });
    assert!(!report.complete);
    let whole = |month: &str| report.proven.iter().any(|said| said.starts_with(&format!("{month}: 1 entry filed")));
    assert!(["2026-11", "2026-12", "2027-01"].into_iter().all(whole));
    assert!(!report.proven.iter().any(|said| said.starts_with("2026-12 continues")));
    expect![[r#"
        2026-12: its first entry names the log of 2026-11 with 0 entries, so that it continues none of those shown there: that this is the same patient as in the months before is not proven.
    "#]]
    .assert_eq(&format!("{}\n", report.not_proven.iter().find(|said| said.starts_with("2026-12: ")).unwrap()));
    assert!(serde_json::to_string(&report).unwrap().contains(r#""link":{"is":"unseen","month":"2026-11"}"#));
}

/// The same, but the gateway that was away files into October: nobody could tell November from a month that was left out.
#[test]
fn a_link_to_a_month_without_a_log_stays_closed_when_an_earlier_month_was_filled_late() {
    let mut world = World::new(1);
    world.block(Some("2026-12-03T10:00:00Z"));
    world.access("mercy");
    world.block(None);
    world.access_late("ambulance", super::world::at("2026-10-15T10:00:00Z"));
    let mut parts = world.prove();
    let why = crate::BadLog::OtherPast { index: 0 };
    assert_eq!(world.verify(parts.clone()), Err(Refused::Month { month: parts.months[2].month, why }));
    if let Log::Present { links, .. } = &mut parts.months[2].log {
        links.clear();
    }
    let report = world.verify(parts).unwrap();
    assert_eq!(report.months.iter().map(|month| month.entries).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(report.months[2].link, Link::Unproven);
    assert!(!report.complete);
}

/// An absence is proven by a neighbour, whose value has as many bytes as a value may have.
#[test]
fn a_proof_of_absence_beside_the_longest_value_is_accepted() {
    let mut world = World::new(1);
    world.block(Some("2026-09-03T10:00:00Z"));
    world.access("mercy");
    world.block(Some("2026-11-03T10:00:00Z"));
    world.access("mercy");
    let mut neighbour = log_key(&world.patient.pseudonym(super::world::at("2026-10-01T00:00:00Z").month()));
    neighbour.0[31] -= 1;
    world.writes.push([(neighbour, Some(vec![7; VALUE_BYTES_MAX]))].into());
    let parts = world.prove();
    let Log::Absent { proof } = &parts.months[1].log else { panic!("no log") };
    assert!((VALUE_BYTES_MAX..PROOF_BYTES_MAX).contains(&proof.len()));
    assert!(world.verify(parts.clone()).unwrap().complete);
}

#[test]
fn entries_that_came_late_to_the_month_before_do_not_break_its_link() {
    let mut world = three_months();
    let (month, link) = (world.prove().months[1].month, |report: &Report| report.months[2].link);
    assert_eq!(link(&verified(&world)), Link::Continues { month, entries: 4 });
    world.block(None);
    world.access_late("mercy", super::world::at("2026-10-31T23:59:59Z"));
    let report = verified(&world);
    assert_eq!(report.months[1].entries, 5);
    assert_eq!(link(&report), Link::Continues { month, entries: 4 });
    assert!(report.complete);
}

#[test]
fn a_range_of_months_says_that_it_is_one() {
    let world = three_months();
    let all = world.prove();
    let mut parts = world.prove_months(&[all.months[1].month]);
    parts.opened.retain(|item| item.record == "Encounter/e1");
    let report = world.verify(parts).unwrap();
    assert!(report.complete);
    assert!(matches!(report.months[0].link, Link::Earlier { entries: 5, .. }));
    assert!(
        report
            .not_proven
            .iter()
            .any(|said| said.starts_with("Before 2026-10: an earlier month is named, with 5 entries"))
    );
    assert!(report.not_proven.iter().any(|said| said.starts_with("After 2026-10: ")));
    let allergy = report.records.iter().find(|record| record.versions[0].version == 2).unwrap();
    assert_eq!((allergy.name.as_deref(), allergy.versions[0].opened.as_ref()), (None, None));
}

#[test]
fn links_that_are_not_opened_are_said_not_to_be_proven() {
    let world = three_months();
    let mut parts = world.prove();
    for part in &mut parts.months {
        if let Log::Present { links, .. } = &mut part.log {
            links.clear();
        }
    }
    let report = world.verify(parts).unwrap();
    assert!(!report.complete);
    assert!(report.not_proven.iter().any(|said| said.starts_with("2026-11: that this is the same patient")));
}

#[test]
fn a_bundle_without_months_says_nothing_about_a_patient() {
    let world = World::new(1);
    let report = verified(&world);
    assert!(!report.complete);
    assert_eq!(report.entry_count, 0);
    assert!(report.not_proven[0].contains("no month"));
}

#[test]
fn more_than_the_verifier_is_willing_to_read_is_refused_before_anything_is_checked() {
    let world = three_months();
    let bytes = assemble(world.prove()).to_bytes();
    let check = |limits: Limits| verify(&bytes, &world.id(), &limits).unwrap_err();
    let all = Limits::default();
    assert!(matches!(check(Limits { bundle_bytes_max: bytes.len() - 1, ..all }), Refused::Format(_)));
    assert_eq!(check(Limits { months_max: 2, ..all }), Refused::TooMany { what: "months", got: 3, max: 2 });
    assert_eq!(check(Limits { entries_max: 15, ..all }), Refused::TooMany { what: "entries", got: 16, max: 15 });
    assert_eq!(check(Limits { opened_max: 5, ..all }), Refused::TooMany { what: "opened records", got: 6, max: 5 });
}

#[test]
fn a_thousand_entries_are_verified_and_the_time_is_told() {
    let mut world = World::new(1);
    for i in 0..100 {
        world.block(Some(&format!("2026-11-{:02}T10:{:02}:00Z", 1 + i / 50, i % 50)));
        for j in 0..10 {
            match j % 4 {
                0 => world.record("mercy", &format!("Observation/o{i}-{j}"), "120/80"),
                _ => world.access("ambulance"),
            }
        }
    }
    let bytes = assemble(world.prove()).to_bytes();
    let started = std::time::Instant::now();
    let report = verify(&bytes, &world.id(), &Limits::default()).unwrap();
    let took = started.elapsed();
    assert_eq!((report.entry_count, report.opened), (1000, 300));
    println!(
        "1,000 entries, {} opened records: {} bytes, verified in {:.1} ms",
        report.opened,
        bytes.len(),
        took.as_secs_f64() * 1e3
    );
}

#[test]
fn a_month_is_named_by_its_entries_and_not_by_the_prover() {
    let world = three_months();
    let mut parts = world.prove();
    parts.months[2].month = Month(parts.months[2].month.0 + 1);
    let why = crate::BadLog::OtherMonth;
    assert_eq!(world.verify(parts.clone()), Err(Refused::Month { month: parts.months[2].month, why }));
}

#[test]
fn a_deletion_has_no_bytes_and_ends_the_history() {
    let mut world = three_months();
    world.delete("mercy", "AllergyIntolerance/a1");
    let report = verified(&world);
    let allergy = report.records.iter().find(|record| record.name.as_deref() == Some("AllergyIntolerance/a1")).unwrap();
    let last = allergy.versions.last().unwrap();
    assert_eq!((last.version, last.deleted, last.opened.as_ref().map(|opened| opened.length)), (3, true, Some(0)));
}
