//! Frames that are let go: old enough, rolled up, held by nobody, each once.

use super::{
    device::{batch, bound, unbound},
    permission::case,
};
use crate::{
    Body, CASES_MAX, CUT_MS, CustodyStep, DerivationPolicy, InvestigationStep, PolicyKind, PolicyStep, Reject,
    TIMELINE_MS, document,
    state::{self, Cases, Retention, Timeline},
    testing::{Said, World, check, commitment, digest, id, pseudonym, said, seeded, tag},
    to_cbor,
};
use proptest::prelude::*;
use record::{Digest, Id16, Purpose, RecordTag, RecordType};

/// The document that the consortium of tests was founded on.
pub(super) const FOUNDING: Digest = Digest([0xde; 32]);
const KEEP_S: u32 = 3_600;
const KEEP_MS: u64 = KEEP_S as u64 * 1_000;

/// A consortium whose policy lets frames go after an hour.
fn letting_go() -> World {
    let mut world = World::new();
    world.state.insert(state::retention_key(&FOUNDING), to_cbor(&Retention { keep_s: KEEP_S }));
    world
}

/// Lets frames of binding 1 go; `1` is the only roll-up.
pub(super) fn disposal(after: u64, last: u64) -> Said {
    let (roll_ups, concluded) = (vec![tag(1)], Vec::new());
    let count = last.saturating_sub(after);
    let (binding, bound) = (id(1), pseudonym(1));
    said("rescue", Body::Disposal { binding, bound, after, last, count, document: FOUNDING, roll_ups, concluded })
}

/// The same with something else in it.
pub(super) fn with(mut said: Said, change: impl FnOnce(&mut Body)) -> Said {
    change(&mut said.entry.body);
    said
}

pub(super) fn counting(said: Said, frames: u64) -> Said {
    with(said, |body| {
        if let Body::Disposal { count, .. } = body {
            *count = frames;
        }
    })
}

pub(super) fn naming(said: Said, tags: &[u8], cases: &[u8]) -> Said {
    with(said, |body| {
        if let Body::Disposal { roll_ups, concluded, .. } = body {
            *roll_ups = tags.iter().map(|n| tag(*n)).collect();
            *concluded = cases.iter().map(|n| id(*n)).collect();
        }
    })
}

pub(super) fn roll_up(name: &str, n: u8, kind: RecordType) -> Said {
    let (codes, attachments, deleted) = (vec![], vec![], false);
    let (tag, commitment) = (tag(n), commitment(n));
    said(name, Body::Record { tag, kind, version: 1, previous: None, commitment, deleted, codes, attachments })
}

/// A binding with ten frames, an hour and more after they were batched, with their roll-up.
fn old_frames() -> World {
    let mut world = letting_go();
    check(
        &mut world,
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 1, 10, 10, &[]), "applied"),
            (unbound("rescue", 1, 1), "applied"),
            (roll_up("rescue", 1, RecordType::Sensed), "applied"),
        ],
    );
    world.wait(TIMELINE_MS + KEEP_MS);
    world
}

#[test]
fn frames_are_let_go_once_by_the_organisation_that_batched_them() {
    check(
        &mut old_frames(),
        [
            (with(disposal(0, 10), |_| ()).nobody(), "PatientMissing"),
            (disposal(0, 10).patient(2), "OtherPatient"),
            (
                with(disposal(0, 10), |body| {
                    if let Body::Disposal { bound, .. } = body {
                        *bound = pseudonym(2);
                    }
                }),
                "OtherPatient",
            ),
            (
                with(disposal(0, 10), |body| {
                    if let Body::Disposal { binding, .. } = body {
                        *binding = id(2);
                    }
                }),
                "Unknown",
            ),
            (said("mercy", disposal(0, 10).entry.body), "OtherOrg"),
            (said("acme", disposal(0, 10).entry.body), "Role"),
            (disposal(0, 9), "Counter"),
            (disposal(0, 11), "Counter"),
            (disposal(3, 10), "Counter"),
            (counting(disposal(0, 10), 11), "Set"),
            (counting(disposal(0, 10), 9), "applied"),
            (disposal(0, 10), "Counter"),
            (disposal(10, 10), "Counter"),
        ],
    );
}

#[test]
fn frames_are_kept_unless_the_policy_in_force_says_for_how_long() {
    let mut world = old_frames();
    let other = with(disposal(0, 10), |body| {
        if let Body::Disposal { document, .. } = body {
            *document = digest(2);
        }
    });
    check(&mut world, [(other, "NoRetention")]);
    let kept = world.state.remove(&state::retention_key(&FOUNDING)).unwrap();
    check(&mut world, [(disposal(0, 10), "NoRetention")]);
    world.state.insert(state::retention_key(&FOUNDING), kept);
    check(&mut world, [(disposal(0, 10), "applied")]);
}

#[test]
fn a_policy_that_lets_frames_go_says_so_in_the_state_once_it_is_written() {
    let mut world = World::new();
    for (retention, expected) in [("", None), ("\n[retention]\nkeep_s = 7776000\nroll_up_s = 60\n", Some(7_776_000))] {
        let text = format!("{}# one{retention}", DerivationPolicy::builtin_text());
        let document = document::digest(PolicyKind::Derivation, text.as_bytes());
        for part in document::parts(PolicyKind::Derivation, text.as_bytes()).unwrap() {
            let step = PolicyStep::Written(part);
            let written = said("mercy", Body::Policy { kind: PolicyKind::Derivation, document, step });
            assert_eq!(world.say(written.nobody()), "applied");
        }
        let known: Option<Retention> = world.get(&state::retention_key(&document));
        assert_eq!(known.map(|retention| retention.keep_s), expected);
    }
}

#[test]
fn frames_that_are_too_young_stay_whatever_anybody_says_of_their_time() {
    let mut world = letting_go();
    check(
        &mut world,
        [
            (bound("rescue", 1, 1, 1).later(-100_000_000), "applied"),
            (batch("rescue", 1, 1, 10, 10, &[]).later(-100_000_000), "applied"),
            (unbound("rescue", 1, 1).later(-100_000_000), "applied"),
            (roll_up("rescue", 1, RecordType::Sensed), "applied"),
            (disposal(0, 10), "TooEarly"),
        ],
    );
    world.wait(TIMELINE_MS + KEEP_MS - 10_000);
    check(&mut world, [(disposal(0, 10), "TooEarly")]);
    world.wait(10_000);
    check(&mut world, [(disposal(0, 10), "applied")]);
}

#[test]
fn a_device_that_goes_on_measuring_leaves_cuts_up_to_which_its_frames_may_be_let_go() {
    let mut world = letting_go();
    let mut table = vec![bound("rescue", 1, 1, 1), roll_up("rescue", 1, RecordType::Sensed)];
    for said in table.drain(..) {
        assert_eq!(world.say(said), "applied");
    }
    for n in 0..10 {
        assert_eq!(world.say(batch("rescue", 1, n * 10 + 1, n * 10 + 10, 10, &[])), "applied");
        world.wait(CUT_MS / 4);
    }
    let timeline: Timeline = world.get(&state::timeline_key(&id(1))).unwrap();
    assert_eq!(timeline.cuts.iter().map(|cut| cut.last).collect::<Vec<_>>(), [40, 80]);
    check(
        &mut world,
        [
            (disposal(0, 50), "Counter"),
            (disposal(0, 40), "applied"),
            (disposal(0, 80), "Counter"),
            (disposal(40, 80), "applied"),
            (disposal(80, 100), "applied"),
            (batch("rescue", 1, 101, 110, 10, &[]), "applied"),
            (disposal(100, 110), "TooEarly"),
        ],
    );
}

#[test]
fn no_frames_are_let_go_without_the_roll_up_on_the_ledger() {
    let mut world = old_frames();
    check(
        &mut world,
        [
            (naming(disposal(0, 10), &[1, 2], &[]), "NotRolledUp"),
            (roll_up("rescue", 2, RecordType::Analytics), "applied"),
            (naming(disposal(0, 10), &[1, 2], &[]), "NotRolledUp"),
            (roll_up("mercy", 3, RecordType::Sensed), "applied"),
            (naming(disposal(0, 10), &[1, 3], &[]), "NotRolledUp"),
            (roll_up("rescue", 4, RecordType::Sensed), "applied"),
            (naming(disposal(0, 10), &[4, 1], &[]), "NotRolledUp"),
            (naming(disposal(0, 10), &[1, 1], &[]), "NotRolledUp"),
            (naming(disposal(0, 10), &[1, 4], &[]), "applied"),
        ],
    );
}

#[test]
fn a_hold_on_the_patient_keeps_frames_and_so_does_an_investigation_until_it_is_concluded_and_named() {
    let custody = |step| said("mercy", Body::Custody { id: id(9), step, records: digest(1), count: 1 });
    let conclude = || case("watch", InvestigationStep::Concluded);
    check(
        &mut old_frames(),
        [
            (custody(CustodyStep::Held), "applied"),
            (disposal(0, 10), "Held"),
            (custody(CustodyStep::Released), "applied"),
            (case("watch", InvestigationStep::Opened), "applied"),
            (disposal(0, 10), "CaseOpen"),
            (naming(disposal(0, 10), &[1], &[3]), "CaseOpen"),
            (conclude().patient(2), "applied"),
            (disposal(0, 10), "CaseOpen"),
            (naming(disposal(0, 10), &[1], &[3, 4]), "CaseOpen"),
            (naming(disposal(0, 10), &[1], &[3, 3]), "CaseOpen"),
            (naming(disposal(0, 10), &[1], &[3]), "applied"),
        ],
    );
}

#[test]
fn an_investigation_under_the_bindings_own_pseudonym_keeps_frames_in_a_later_month_too() {
    let mut world = letting_go();
    world.block.time = record::TimeMs::from_instant("2026-11-30T20:00:00Z").unwrap();
    check(
        &mut world,
        [
            (bound("rescue", 1, 1, 1), "applied"),
            (batch("rescue", 1, 1, 10, 10, &[]), "applied"),
            (case("watch", InvestigationStep::Opened), "applied"),
            (roll_up("rescue", 1, RecordType::Sensed).patient(2), "applied"),
        ],
    );
    world.block.time = record::TimeMs::from_instant("2026-12-02T00:00:00Z").unwrap();
    check(
        &mut world,
        [
            (disposal(0, 10).patient(2), "CaseOpen"),
            (case("watch", InvestigationStep::Concluded).patient(2), "applied"),
            (naming(disposal(0, 10).patient(2), &[1], &[3]), "applied"),
        ],
    );
}

#[test]
fn more_investigations_than_are_listed_keep_frames_for_good() {
    let mut world = old_frames();
    let opened = |n: u8| {
        let body = Body::Investigation { id: id(n), step: InvestigationStep::Opened, document: commitment(1) };
        said("watch", body).purpose(Purpose::Compliance)
    };
    for n in 0..=CASES_MAX as u8 {
        assert_eq!(world.say(opened(n + 1)), "applied");
    }
    let cases: Cases = world.get(&state::cases_key(&pseudonym(1))).unwrap();
    assert_eq!((cases.ids.len(), cases.more), (CASES_MAX, true));
    for n in 0..=CASES_MAX as u8 {
        let body = Body::Investigation { id: id(n + 1), step: InvestigationStep::Concluded, document: commitment(1) };
        assert_eq!(world.say(said("watch", body).purpose(Purpose::Compliance)), "applied");
    }
    let all: Vec<u8> = (1..=CASES_MAX as u8 + 1).collect();
    assert_eq!(world.say(naming(disposal(0, 10), &[1], &all)), "CaseOpen");
}

#[test]
fn the_longest_disposal_fits_an_entry() {
    let numbered = |n: u64| Id16(u128::from(n).to_be_bytes());
    let roll_ups = (0..crate::ROLL_UPS_MAX as u64).map(|n| RecordTag(record::sha256(&[&n.to_be_bytes()]))).collect();
    let concluded = (0..2 * CASES_MAX as u64).map(numbered).collect();
    let (binding, bound, document) = (id(1), pseudonym(1), FOUNDING);
    let (after, last, count) = (u64::MAX - 1, u64::MAX, u64::MAX);
    let body = Body::Disposal { binding, bound, after, last, count, document, roll_ups, concluded };
    assert!(said("rescue", body).entry.to_bytes().len() <= crate::ENTRY_BYTES_MAX);
}

/// What happens next: time passes, a device's batch comes, or its frames are to go.
#[derive(Debug, Clone, Copy)]
enum Next {
    Wait(u64),
    Batch(u64),
    LetGo(usize),
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        (0u64..KEEP_MS).prop_map(Next::Wait),
        (0u64..2 * CUT_MS).prop_map(Next::Wait),
        (1u64..20).prop_map(Next::Batch),
        (1u64..20).prop_map(Next::Batch),
        (0usize..12).prop_map(Next::LetGo),
    ]
}

proptest! {
    #![proptest_config(seeded(64))]

    /// Compared with a memory that forgets nothing: each batch with the time of its block.
    #[test]
    fn what_is_let_go_is_older_than_the_term_ends_with_a_batch_and_goes_once(steps in prop::collection::vec(next(), 1..60)) {
        let mut world = letting_go();
        prop_assert_eq!(world.say(bound("rescue", 1, 1, 1)), "applied");
        prop_assert_eq!(world.say(roll_up("rescue", 1, RecordType::Sensed)), "applied");
        let (mut batches, mut gone) = (Vec::<(u64, u64)>::new(), 0);
        for step in steps {
            match step {
                Next::Wait(ms) => world.wait(ms),
                Next::Batch(frames) => {
                    let first = batches.last().map_or(1, |(last, _)| last + 1);
                    let last = first + frames - 1;
                    batches.push((last, world.block.time.0));
                    let said = batch("rescue", 1, first, last, frames as u32, &[]);
                    prop_assert_eq!(world.say(said), "applied");
                }
                Next::LetGo(back) => {
                    let Some((last, at)) = batches.iter().rev().nth(back).copied() else { continue };
                    let now = world.block.time.0;
                    let verdict = world.say(disposal(gone, last));
                    if verdict == "applied" {
                        prop_assert!(last > gone && at + KEEP_MS <= now, "{last} of {at} went at {now}");
                        gone = last;
                    } else {
                        let may_be = [Reject::Counter, Reject::TooEarly].map(|reject| format!("{reject:?}"));
                        prop_assert!(may_be.contains(&verdict), "{verdict}");
                    }
                }
            }
        }
        // Whatever happened, all frames may go once the term is over.
        let Some((last, _)) = batches.last().copied().filter(|(last, _)| *last > gone) else { return Ok(()) };
        world.wait(KEEP_MS + TIMELINE_MS);
        prop_assert_eq!(world.say(disposal(gone, last)), "applied");
        prop_assert_eq!(world.say(disposal(gone, last)), "Counter");
    }
}
