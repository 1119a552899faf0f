//! Each number of a lane is applied once, however often and in whatever pieces it is submitted.

use crate::{
    AlarmStep, Body, ClaimStep, Entry, InvalidBlock, OverrideStep, Priority, SignedSubmission, Submission,
    state::{self, Key, Lane},
    testing::{Said, World, commitment, digest, id, org, said, seeded, tag},
};
use proptest::prelude::*;
use record::{Purpose, RecordType};
use std::collections::HashMap;

/// Entries of each lane.
const LENGTH: usize = 12;
/// Both lanes are of one organisation, as those of two gateways are.
const LANES: u32 = 2;

/// What lane `lane` says, in order: a story in which hardly two entries can change places, and some are refused.
fn story(world: &mut World, lane: u32) -> Vec<Entry> {
    let own = u8::try_from(lane).unwrap() * 10 + 1;
    let version = |version: u64| Body::Record {
        tag: tag(own),
        kind: RecordType::MedicalRecord,
        version,
        previous: (version > 1).then(|| commitment(u8::try_from(version).unwrap() - 1)),
        commitment: commitment(u8::try_from(version).unwrap()),
        deleted: false,
        codes: vec![],
        attachments: vec![],
    };
    let alarm = |step| Body::Alarm { id: id(own), step, priority: Priority::Low };
    let claim =
        |step, services| Body::Claim { id: id(own), step, insurer: org("acme"), amount: commitment(own), services };
    let until = world.block.time.plus_ms(1_000);
    let overriding = |step| Body::Override { id: id(own), step, reason: commitment(own) };
    let bodies = [
        version(1),
        overriding(OverrideStep::Opened(until)),
        version(2),
        alarm(AlarmStep::Ended),
        alarm(AlarmStep::Raised),
        version(4),
        alarm(AlarmStep::Ended),
        claim(ClaimStep::Submitted, vec![digest(own)]),
        claim(ClaimStep::Submitted, vec![digest(own)]),
        claim(ClaimStep::Cancelled, vec![]),
        overriding(OverrideStep::Closed),
        version(3),
    ];
    let bodies: [Body; LENGTH] = bodies;
    let said = |body| said("mercy", body).patient(own).purpose(Purpose::BreakGlass).lane(lane);
    bodies.into_iter().map(|body| entry(world, said(body))).collect()
}

fn entry(world: &mut World, said: Said) -> Entry {
    world.submission(said).submission.entries[0].clone()
}

/// Entries `from..to` of a lane, counted from 0.
fn piece(world: &World, lane: u32, entries: &[Entry], from: usize, to: usize) -> SignedSubmission {
    let (chain, first_seq) = (world.genesis.id(), from as u64 + 1);
    let submission = Submission { chain, org: org("mercy"), lane, first_seq, entries: entries[from..to].to_vec() };
    SignedSubmission::new(submission, crate::Signature([0; 64]))
}

/// A block that stays at its height and time, so that states can be compared to the byte.
fn offer(world: &mut World, block: &[SignedSubmission]) -> Result<usize, InvalidBlock> {
    let executed = world.execute(block)?;
    let (height, time, receipts) = (world.block.height, world.block.time, executed.receipts.len());
    world.commit(executed);
    (world.block.height, world.block.time) = (height, time);
    Ok(receipts)
}

fn next(world: &World, lane: u32) -> usize {
    world.get::<Lane>(&state::lane_key(&org("mercy"), lane)).map_or(0, |lane| usize::try_from(lane.seq).unwrap())
}

/// A world past its first block, and what its lanes are going to say.
fn begin() -> (World, Vec<Vec<Entry>>) {
    let mut world = World::new();
    world.say(said("county", Body::Alarm { id: id(99), step: AlarmStep::Raised, priority: Priority::Low }).patient(99));
    let stories = (0..LANES).map(|lane| story(&mut world, lane)).collect();
    (world, stories)
}

/// Each lane submitted once and whole.
fn once() -> (HashMap<Key, Vec<u8>>, u64) {
    let (mut world, stories) = begin();
    for (lane, entries) in (0..).zip(&stories) {
        let whole = piece(&world, lane, entries, 0, LENGTH);
        assert_eq!(offer(&mut world, &[whole]), Ok(LENGTH));
    }
    (world.state, world.block.log.size())
}

proptest! {
    #![proptest_config(seeded(512))]

    #[test]
    fn repeats_overlaps_and_gaps_of_a_lane_give_the_state_of_each_entry_once(
        tried in prop::collection::vec((0..LANES, 0..LENGTH, 1..5usize), 0..60)
    ) {
        let (mut world, stories) = begin();
        // At the end each lane is submitted to its end, one entry at a time.
        let rest = (0..LENGTH).flat_map(|from| (0..LANES).map(move |lane| (lane, from, 1)));
        for (lane, from, length) in tried.into_iter().chain(rest) {
            let piece = piece(&world, lane, &stories[lane as usize], from, LENGTH.min(from + length));
            let (expected, before) = (next(&world, lane), world.clone());
            let offered = offer(&mut world, std::slice::from_ref(&piece));
            if from == expected {
                prop_assert_eq!(offered, Ok(piece.submission.entries.len()));
                let again = offer(&mut world, &[piece]);
                prop_assert!(matches!(again, Err(InvalidBlock::OutOfOrder { .. })), "{again:?}");
            } else {
                let (expected, got) = (expected as u64 + 1, from as u64 + 1);
                prop_assert_eq!(offered, Err(InvalidBlock::OutOfOrder { org: org("mercy"), lane, expected, got }));
                prop_assert_eq!(&world.state, &before.state);
                prop_assert_eq!(&world.block, &before.block);
            }
        }
        prop_assert_eq!((world.state, world.block.log.size()), once());
    }

    #[test]
    fn a_block_is_valid_only_when_its_pieces_continue_their_lanes(
        tried in prop::collection::vec((0..LANES, 0..LENGTH, 1..5usize), 1..4)
    ) {
        let (mut world, stories) = begin();
        let mut reached = [0; LANES as usize];
        let mut continues = true;
        let mut block = Vec::new();
        for (lane, from, length) in tried {
            // Every other piece is made to fit, else hardly a block would be valid.
            let at = &mut reached[lane as usize];
            let from = if length.is_multiple_of(2) { (*at).min(LENGTH - 1) } else { from };
            let to = LENGTH.min(from + length);
            continues &= from == *at;
            *at = to;
            block.push(piece(&world, lane, &stories[lane as usize], from, to));
        }
        let before = world.state.clone();
        prop_assert_eq!(offer(&mut world, &block).is_ok(), continues);
        prop_assert_eq!(world.state == before, !continues);
    }
}

#[test]
fn the_stories_of_the_lanes_have_refused_entries_too() {
    let (world, stories) = begin();
    let pieces: Vec<_> = (0..).zip(&stories).map(|(lane, story)| piece(&world, lane, story, 0, LENGTH)).collect();
    let executed = world.execute(&pieces).unwrap();
    let refused = executed.receipts.iter().filter(|receipt| receipt.refused.is_some()).count();
    assert_eq!((executed.receipts.len(), refused), (2 * LENGTH, 2 * 3));
}
