//! What forgers make is refused, and the refusal names what is wrong and where.

use super::{
    mutate::unsorted,
    world::{World, at, certificate, three_months},
};
use crate::{BadLog, Limits, Link, Log, LoggedEntry, Opened, OpenedLink, Parts, Refused, Subject, assemble, verify};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use contract::{Entry, Genesis, Header, LastMonth, merkle};
use record::{Month, Pseudonym, TimeMs, sha256};

/// Forges three months, and compares what the verifier says.
fn check(forge: impl FnOnce(&World, &mut Parts), expected: Refused) {
    let world = three_months();
    let mut parts = world.prove();
    forge(&world, &mut parts);
    assert_eq!(world.verify(parts), Err(expected));
}

fn entries(parts: &mut Parts, month: usize) -> &mut Vec<LoggedEntry> {
    match &mut parts.months[month].log {
        Log::Present { entries, .. } => entries,
        Log::Absent { .. } | Log::Part(_) => panic!("no whole log"),
    }
}

fn links(parts: &mut Parts, month: usize) -> &mut Vec<OpenedLink> {
    match &mut parts.months[month].log {
        Log::Present { links, .. } => links,
        Log::Absent { .. } | Log::Part(_) => panic!("no whole log"),
    }
}

fn month(text: &str) -> Month {
    at(&format!("{text}-01T00:00:00Z")).month()
}

fn bad(text: &str, why: BadLog) -> Refused {
    Refused::Month { month: month(text), why }
}

fn edited(logged: &mut LoggedEntry, edit: impl FnOnce(&mut Entry)) {
    let mut entry = Entry::from_bytes(&logged.entry).unwrap();
    edit(&mut entry);
    logged.entry = entry.to_bytes();
}

#[test]
fn a_dropped_entry_is_noticed_wherever_it_was() {
    for index in [0, 3, 6] {
        check(|_, parts| drop(entries(parts, 2).remove(index)), bad("2026-11", BadLog::Count { proven: 7, given: 6 }));
    }
}

#[test]
fn an_added_entry_is_noticed() {
    check(
        |_, parts| {
            let again = entries(parts, 1)[1].clone();
            entries(parts, 1).push(again);
        },
        bad("2026-10", BadLog::Count { proven: 4, given: 5 }),
    );
}

#[test]
fn a_whole_log_that_is_left_out_is_noticed() {
    check(|_, parts| entries(parts, 1).clear(), bad("2026-10", BadLog::Count { proven: 4, given: 0 }));
}

#[test]
fn exchanged_entries_are_noticed() {
    check(|_, parts| entries(parts, 0).swap(1, 2), bad("2026-09", BadLog::OtherEntries));
    check(|_, parts| entries(parts, 0).swap(0, 1), bad("2026-09", BadLog::OtherEntries));
}

#[test]
fn an_entry_with_another_author_time_or_content_is_noticed() {
    let edits: [fn(&mut Entry); 4] = [
        |entry| entry.org = "mercy".parse().unwrap(),
        |entry| entry.time = TimeMs(entry.time.0 + 1),
        |entry| entry.actor = sha256(&[b"somebody else"]),
        |entry| entry.purpose = record::Purpose::BreakGlass,
    ];
    for edit in edits {
        check(|_, parts| edited(&mut entries(parts, 2)[4], edit), bad("2026-11", BadLog::OtherEntries));
    }
}

#[test]
fn another_height_or_block_time_of_an_entry_is_noticed() {
    check(|_, parts| entries(parts, 2)[4].height -= 1, bad("2026-11", BadLog::OtherEntries));
    check(|_, parts| entries(parts, 2)[4].time = TimeMs(5), bad("2026-11", BadLog::OtherEntries));
    check(|_, parts| entries(parts, 2)[6].height += 1, bad("2026-11", BadLog::OtherEntries));
}

#[test]
fn a_flipped_byte_of_an_entry_is_noticed() {
    let world = three_months();
    let good = world.prove();
    let length = entries(&mut good.clone(), 2)[3].entry.len();
    for at in 0..length {
        let mut parts = good.clone();
        entries(&mut parts, 2)[3].entry[at] ^= 1;
        let refused = world.verify(parts).unwrap_err();
        let named = matches!(
            refused,
            Refused::Month { why: BadLog::OtherEntries | BadLog::Entry { index: 3, .. }, month } if month == self::month("2026-11")
        );
        assert!(named, "byte {at}: {refused}");
    }
}

#[test]
fn a_log_under_another_months_name_is_noticed() {
    check(
        |_, parts| {
            let (a, b) = (parts.months[0].log.clone(), parts.months[1].log.clone());
            (parts.months[0].log, parts.months[1].log) = (b, a);
        },
        bad("2026-09", BadLog::Head),
    );
}

#[test]
fn a_month_given_twice_is_noticed_under_whatever_name() {
    check(
        |_, parts| {
            let again = parts.months[1].clone();
            parts.months.push(again);
        },
        bad("2026-10", BadLog::Order),
    );
    check(
        |_, parts| {
            let mut again = parts.months[1].clone();
            again.month = month("2026-12");
            parts.months.push(again);
        },
        bad("2026-12", BadLog::SamePseudonym),
    );
}

#[test]
fn a_month_left_out_breaks_the_opened_chain() {
    check(|_, parts| drop(parts.months.remove(1)), bad("2026-11", BadLog::OtherPast { index: 0 }));
}

/// November's author says that October was empty, which it was not: nothing is hidden by that, and nothing linked.
#[test]
fn a_link_to_an_empty_beginning_hides_no_month() {
    let october = |world: &World| world.patient.pseudonym(month("2026-10"));
    let world = |last: fn(&World, Pseudonym) -> LastMonth| {
        let mut world = World::new(1);
        for instant in ["2026-09-03T10:00:00Z", "2026-10-03T10:00:00Z"] {
            world.block(Some(instant));
            world.access("mercy");
        }
        world.block(Some("2026-11-03T10:00:00Z"));
        world.mistaken = Some(last(&world, october(&world)));
        world.access("mercy");
        world
    };
    let refused = Err(bad("2026-11", BadLog::OtherPast { index: 0 }));
    let mut empty = world(|_, pseudonym| LastMonth { pseudonym, count: 0, root: merkle::root([]) });
    let whole = empty.prove();
    let report = empty.verify(whole.clone()).unwrap();
    assert_eq!(report.months[2].link, Link::Unseen { month: month("2026-10") });
    assert!(!report.complete);
    // October left out, or shown without its log.
    let without = Parts { months: vec![whole.months[0].clone(), whole.months[2].clone()], ..whole };
    assert_eq!(empty.verify(without), refused);
    empty.block(Some("2027-01-02T00:00:00Z"));
    empty.access("mercy");
    let mut absent = empty.prove();
    absent.months[1].log = absent.months[3].log.clone();
    assert_eq!(empty.verify(absent), Err(bad("2026-10", BadLog::Head)));
    // September filled this link's month, but it is October that it names; a month that nobody knows; entries without their root.
    let october_with = |world: World| world.verify(world.prove());
    assert_eq!(
        october_with(world(|_, pseudonym| LastMonth { pseudonym, count: 0, root: sha256(&[b"other"]) })),
        refused
    );
    assert_eq!(october_with(world(|_, pseudonym| LastMonth { pseudonym, count: 1, root: merkle::root([]) })), refused);
    assert_eq!(october_with(world(|world, _| LastMonth::none(&world.patient, month("2026-08")))), refused);
    // The first of the file: nothing in it contradicts the author.
    let mut alone = empty.prove_months(&[month("2026-11")]);
    alone.opened.clear();
    let link = empty.verify(alone).unwrap().months[0].link;
    assert_eq!(link, Link::Earlier { pseudonym: october(&empty), entries: 0 });
}

#[test]
fn an_absence_claimed_where_there_is_a_log_is_noticed() {
    let mut world = three_months();
    world.block(Some("2027-01-02T00:00:00Z"));
    world.access("mercy");
    let mut parts = world.prove();
    parts.months[2].log = parts.months[3].log.clone();
    assert_eq!(world.verify(parts), Err(bad("2026-11", BadLog::Head)));
}

#[test]
fn a_log_of_another_patient_is_noticed() {
    let (world, mut other) = (three_months(), three_months());
    other.next_patient(record::PatientKey::from_bytes([8; 32]));
    other.record("mercy", "Patient/p2", "somebody else");
    let both = other.prove();
    let mut parts = other.prove();
    // The same header proves both patients' logs; the months of one do not become the other's.
    parts.months[0].pseudonym = world.patient.pseudonym(parts.months[0].month);
    assert_eq!(other.verify(parts), Err(bad("2026-11", BadLog::Head)));
    assert!(other.verify(both).is_ok());
}

#[test]
fn a_link_opened_to_something_else_is_noticed() {
    check(|_, parts| links(parts, 1)[0].opening.count += 1, bad("2026-10", BadLog::Opening { index: 0 }));
    check(
        |_, parts| links(parts, 1)[0].opening.root = sha256(&[b"other"]),
        bad("2026-10", BadLog::Opening { index: 0 }),
    );
    check(|_, parts| links(parts, 1)[0].entry = 1, bad("2026-10", BadLog::NoLink { index: 1 }));
    check(|_, parts| links(parts, 1)[0].entry = u64::MAX, bad("2026-10", BadLog::NoLink { index: u64::MAX }));
    check(
        |_, parts| {
            let again = links(parts, 1)[0].clone();
            links(parts, 1).push(again);
        },
        bad("2026-10", BadLog::NoLink { index: 0 }),
    );
}

#[test]
fn changed_bytes_of_a_record_are_refused_by_name() {
    let refused = |record: &str, version| Refused::OtherBytes { record: record.to_owned(), version };
    check(
        |_, parts| {
            let text = String::from_utf8(parts.opened[2].bytes.clone()).unwrap();
            parts.opened[2].bytes = text.replace("penicillin", "nothing").into_bytes();
        },
        Refused::OtherBytes { record: "AllergyIntolerance/a1".to_owned(), version: 1 },
    );
    check(|_, parts| parts.opened[0].bytes.push(b' '), refused("Patient/p1", 1));
    check(|_, parts| parts.opened[0].salt = sha256(&[b"other"]), refused("Patient/p1", 1));
    check(|_, parts| parts.opened[0].version = 2, refused("Patient/p1", 2));
    check(
        |_, parts| {
            let (a, b) = (parts.opened[0].bytes.clone(), parts.opened[2].bytes.clone());
            (parts.opened[0].bytes, parts.opened[2].bytes) = (b, a);
        },
        refused("AllergyIntolerance/a1", 1),
    );
}

#[test]
fn a_record_that_was_never_written_cannot_be_claimed_opened() {
    check(
        |_, parts| {
            parts.opened.push(Opened {
                record: "AllergyIntolerance/a2".to_owned(),
                version: 1,
                salt: sha256(&[b"salt"]),
                bytes: br#"{"resourceType":"AllergyIntolerance","id":"a2"}"#.to_vec(),
            });
        },
        Refused::OtherBytes { record: "AllergyIntolerance/a2".to_owned(), version: 1 },
    );
}

#[test]
fn a_record_opened_twice_or_under_another_name_is_refused() {
    let world = three_months();
    let mut twice = assemble(world.prove()).opened().to_vec();
    let at = twice.iter().position(|opened| opened.record == "Encounter/e1").unwrap();
    twice.insert(at, twice[at].clone());
    let refused = verify(&unsorted(&world.prove(), &twice, &[]), &world.id(), &Limits::default());
    assert_eq!(refused.err(), Some(Refused::OpenedTwice { record: "Encounter/e1".to_owned(), version: 1 }));
    check(
        |_, parts| parts.opened[3].record = "Encounter/e2".to_owned(),
        Refused::Misnamed { record: "Encounter/e2".to_owned(), version: 1 },
    );
}

/// One encoding for each fact: opened records stand in one order.
#[test]
fn opened_records_out_of_order_are_refused() {
    let world = three_months();
    let bundle = assemble(world.prove());
    let sorted = bundle.opened().to_vec();
    let check = |opened: &[Opened]| verify(&unsorted(&world.prove(), opened, &[]), &world.id(), &Limits::default());
    assert_eq!(check(&sorted), verify(&bundle.to_bytes(), &world.id(), &Limits::default()));
    for at in 0..sorted.len() - 1 {
        let mut swapped = sorted.clone();
        swapped.swap(at, at + 1);
        let Opened { record, version, .. } = sorted[at].clone();
        assert_eq!(check(&swapped), Err(Refused::OpenedOrder { record, version }));
    }
}

#[test]
fn another_consortiums_evidence_is_refused() {
    let (world, other) = (three_months(), World::new(2));
    let bytes = assemble(world.prove()).to_bytes();
    let expected = Refused::OtherGenesis { got: world.id(), expected: other.id() };
    assert_eq!(verify(&bytes, &other.id(), &Limits::default()), Err(expected));
    check(
        |_, parts| parts.finality.genesis = World::new(2).genesis.to_bytes(),
        Refused::OtherGenesis { got: World::new(2).id(), expected: three_months().id() },
    );
}

#[test]
fn a_genesis_document_with_one_key_exchanged_is_another_genesis() {
    let world = three_months();
    let mut genesis: Genesis = world.genesis.clone();
    genesis.members[3].consensus_key = World::new(2).genesis.members[3].consensus_key;
    let id = genesis.id();
    check(
        |_, parts| parts.finality.genesis = genesis.to_bytes(),
        Refused::OtherGenesis { got: id, expected: world.id() },
    );
}

fn with_header(parts: &mut Parts, edit: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::from_bytes(&parts.finality.header).unwrap();
    edit(&mut header);
    parts.finality.header = header.to_bytes();
    header
}

#[test]
fn a_changed_header_is_not_the_certified_one() {
    let world = three_months();
    let certified = Header::from_bytes(&world.prove().finality.header).unwrap();
    let edits: [fn(&mut Header); 4] = [
        |header| header.time = TimeMs(header.time.0 + 1),
        |header| header.height += 1,
        |header| header.state_root = sha256(&[b"other"]),
        |header| header.leader = record::Digest([1; 32]).0.into(),
    ];
    for edit in edits {
        let mut changed = certified.clone();
        edit(&mut changed);
        check(
            |_, parts| _ = with_header(parts, edit),
            Refused::OtherHeader { certified: certified.digest(), given: changed.digest() },
        );
    }
    check(|_, parts| _ = with_header(parts, |header| header.version = 9), Refused::UnknownHeader { version: 9 });
    let other = sha256(&[b"other"]);
    check(|_, parts| _ = with_header(parts, |header| header.chain = other), Refused::OtherChain { got: other });
    check(|_, parts| _ = with_header(parts, |header| header.validators = other), Refused::OtherValidators);
    check(|_, parts| _ = with_header(parts, |header| header.epoch = 1), Refused::OtherEpoch { height: 11 });
}

/// Two of four colluding validators sign a header of their own making.
#[test]
fn too_few_signatures_are_no_quorum() {
    let height = 11;
    for signers in [vec![0], vec![0, 1], vec![2, 3]] {
        check(
            |world, parts| {
                let header = with_header(parts, |header| header.time = TimeMs(header.time.0 + 1));
                parts.finality.certificate = world.certificate(&header, &signers);
            },
            Refused::NoQuorum { height },
        );
    }
}

#[test]
fn signatures_of_others_in_another_namespace_or_over_another_header_are_no_quorum() {
    let strangers: Vec<PrivateKey> = (0..4).map(|i| PrivateKey::from_seed(900 + i)).collect();
    let namespace = |world: &World| world.genesis.namespace();
    let height = 11;
    check(
        |world, parts| {
            let header = with_header(parts, |_| {});
            parts.finality.certificate =
                certificate(&namespace(world), &strangers, &header.digest(), (0, header.view), &[0, 1, 2, 3]);
        },
        Refused::NoQuorum { height },
    );
    check(
        |world, parts| {
            let header = with_header(parts, |_| {});
            parts.finality.certificate = certificate(
                b"vitaltrace/1/other",
                &world.validators,
                &header.digest(),
                (0, header.view),
                &[0, 1, 2, 3],
            );
        },
        Refused::NoQuorum { height },
    );
    let world = three_months();
    let other = World::new(1).prove().finality;
    let header = Header::from_bytes(&other.header).unwrap();
    let given = Header::from_bytes(&world.prove().finality.header).unwrap();
    check(
        |_, parts| parts.finality.certificate = other.certificate,
        Refused::OtherHeader { certified: header.digest(), given: given.digest() },
    );
}

#[test]
fn every_flipped_bit_of_a_certificate_is_noticed() {
    let world = three_months();
    let good = world.prove();
    for at in 0..good.finality.certificate.len() {
        for bit in 0..8 {
            let mut parts = good.clone();
            parts.finality.certificate[at] ^= 1 << bit;
            assert!(world.verify(parts).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn an_older_header_does_not_carry_a_newer_log_nor_a_newer_header_an_older_log() {
    let older = three_months();
    let mut newer = older.clone();
    newer.block(None);
    newer.record("mercy", "Encounter/e2", "later");
    let (old, new) = (older.prove(), newer.prove());
    let first = Refused::State { subject: Subject::AccessPolicy };
    assert_eq!(newer.verify(Parts { finality: old.finality.clone(), ..new.clone() }), Err(first.clone()));
    assert_eq!(newer.verify(Parts { finality: new.finality.clone(), ..old.clone() }), Err(first));
    // With the policies' proofs of its own header, the log itself is what does not fit.
    let mixed = Parts { months: new.months.clone(), opened: new.opened, ..old.clone() };
    assert!(matches!(newer.verify(mixed), Err(Refused::Month { why: BadLog::Head, .. })));
    let hidden = Parts { months: old.months, opened: old.opened, ..new };
    assert!(matches!(newer.verify(hidden), Err(Refused::Month { why: BadLog::Head, .. })));
}

#[test]
fn policies_cannot_be_exchanged() {
    check(
        |_, parts| std::mem::swap(&mut parts.policies.access, &mut parts.policies.derivation),
        Refused::State { subject: Subject::AccessPolicy },
    );
    check(
        |_, parts| parts.policies.derivation = parts.policies.access.clone(),
        Refused::State { subject: Subject::DerivationPolicy },
    );
}

#[test]
fn other_files_are_not_taken_for_evidence() {
    let id = three_months().id();
    let unknown = Refused::UnknownFormat { expected: crate::EVIDENCE_FORMAT };
    for bytes in [&b""[..], b"{}", b"\x85\x75vitaltrace/evidence/2", &[0xff; 64], &[0x9b; 9]] {
        assert_eq!(verify(bytes, &id, &Limits::default()), Err(unknown.clone()));
    }
    let mut bytes = assemble(three_months().prove()).to_bytes();
    bytes.push(0);
    assert!(matches!(verify(&bytes, &id, &Limits::default()), Err(Refused::Format(_))));
}

/// An array header may announce 2^64 - 1 elements in nine bytes.
#[test]
fn announced_lengths_allocate_nothing() {
    let world = three_months();
    let bytes = assemble(world.prove()).to_bytes();
    let mut announced = bytes[..bytes.len().min(4096)].to_vec();
    for at in 0..announced.len().saturating_sub(9) {
        let kept = announced[at..at + 9].to_vec();
        for head in [0x9b, 0x5b, 0x7b] {
            announced[at] = head;
            announced[at + 1..at + 9].fill(0xff);
            assert!(verify(&announced, &world.id(), &Limits::default()).is_err());
        }
        announced[at..at + 9].copy_from_slice(&kept);
    }
}

/// A certificate makes nothing a log that is none.
#[test]
fn what_a_colluding_quorum_signs_must_still_be_a_log() {
    let check = |edit: fn(&mut Vec<LoggedEntry>), why: BadLog| {
        let mut world = three_months();
        world.collude(edit);
        assert_eq!(world.verify(world.prove()), Err(bad("2026-11", why)));
    };
    check(|entries| edited(&mut entries[2], |entry| entry.patient = None), BadLog::Misfiled { index: 2 });
    check(|entries| entries.swap(1, 2), BadLog::Disordered { index: 2 });
    check(|entries| entries[3].time = entries[2].time, BadLog::Disordered { index: 3 });
    check(|entries| entries[6].time = at("2026-12-31T00:00:00Z"), BadLog::Disordered { index: 6 });
    check(
        |entries| entries.iter_mut().for_each(|logged| edited(logged, |entry| entry.time = at("2026-12-01T00:00:00Z"))),
        BadLog::OtherMonth,
    );
}
