//! One of four members breaks the rules: the others agree all the same, lose nothing, and whoever signed two votes is proven to have.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod seed;

use evidence::{Misdeed, Refused, blame_file, verify_blame};
use seed::seed;
use sim::{Adversary, MEMBERS, Outcome, Scenario, consortium, simulate};
use std::collections::BTreeSet;

/// Runs the adversary at a place drawn from the seed and from an epoch drawn from it, where nothing else goes wrong, over several epochs; the
/// checkers look at everything.
fn run(adversary: Adversary) -> (Scenario, Outcome) {
    let seed = seed();
    let mut scenario = Scenario { entries: 60, epoch_blocks: 4, from_epoch: seed % 3, ..Scenario::calm(seed) };
    // Long enough for all ways in which a block can show too little: each costs the others a view.
    scenario.stretches[0].ms = if adversary == Adversary::ProposesWithoutReceipts { 120_000 } else { 40_000 };
    scenario.adversary = Some((scenario.seed as usize % MEMBERS, adversary));
    let outcome = simulate(&scenario).unwrap_or_else(|failure| panic!("{scenario}\n{failure}"));
    let quiet = matches!(adversary, Adversary::WithholdsAttachments | Adversary::SignsWithoutHolding);
    assert!(outcome.faults.misdeeds > 0 || quiet, "it kept to the rules");
    assert!(outcome.epochs >= 4, "{} epochs have ended", outcome.epochs);
    assert!(outcome.misdeeds_in.iter().all(|epoch| *epoch >= scenario.from_epoch), "{:?}", outcome.misdeeds_in);
    (scenario, outcome)
}

/// Runs the adversary and gives what the honest members can prove of it.
fn check(adversary: Adversary) -> BTreeSet<Misdeed> {
    let (scenario, outcome) = run(adversary);
    let consortium = consortium(&scenario);
    let genesis = &consortium.genesis;
    let mut proven = BTreeSet::new();
    for act in outcome.blames.iter().flatten() {
        let file = blame_file(genesis, Vec::new(), act);
        let blamed = verify_blame(&file, &genesis.id()).unwrap();
        let byzantine = scenario.adversary.map(|(member, _)| consortium.org(member).clone());
        assert_eq!(blamed.organisation, byzantine, "nobody else is to blame");
        proven.insert(blamed.misdeed);
        is_of_no_use_when_changed(&file, genesis);
    }
    proven
}

/// No byte of a blame file can be changed without its being noticed, and it blames nobody of another consortium.
fn is_of_no_use_when_changed(file: &[u8], genesis: &contract::Genesis) {
    for at in 0..file.len() {
        let mut changed = file.to_vec();
        changed[at] ^= 1;
        assert!(verify_blame(&changed, &genesis.id()).is_err(), "byte {at}");
        assert!(verify_blame(&file[..at], &genesis.id()).is_err(), "the first {at} bytes");
    }
    let other = record::sha256(&[b"another consortium"]);
    assert!(matches!(verify_blame(file, &other), Err(Refused::OtherGenesis { .. })));
}

#[test]
fn two_votes_in_one_view_are_proven_and_stop_nobody() {
    let proven = check(Adversary::Equivocates);
    // Which votes come first depends on the seed; then its connections are closed.
    assert!(!proven.is_empty() && !proven.contains(&Misdeed::FinalizedAfterGivingUp), "{proven:?}");
}

#[test]
fn a_finalisation_after_giving_up_is_proven_and_stops_nobody() {
    assert_eq!(check(Adversary::FinalizesAfterGivingUp), BTreeSet::from([Misdeed::FinalizedAfterGivingUp]));
}

#[test]
fn a_block_with_wrong_roots_never_becomes_final() {
    let (_, outcome) = run(Adversary::ProposesWrongRoots);
    assert_eq!(outcome.led_by_adversary, 0);
    assert!(outcome.misdeeds_in.len() > 1, "in one epoch after the other: {:?}", outcome.misdeeds_in);
}

/// Its blocks that name nothing become final, so that nothing is wrong with the others but that they do not show who holds what they name. The
/// checkers see that nobody votes to finalise one of those.
#[test]
fn a_block_that_does_not_show_who_holds_what_it_names_gets_no_vote_and_never_becomes_final() {
    let (_, outcome) = run(Adversary::ProposesWithoutReceipts);
    assert!(outcome.led_by_adversary > 0, "its other blocks are as good as anybody's");
    assert!(outcome.faults.misdeeds >= 7, "in every way that there is: {} times", outcome.faults.misdeeds);
    assert!(outcome.misdeeds_in.len() > 1, "in one epoch after the other: {:?}", outcome.misdeeds_in);
}

#[test]
fn what_is_sent_again_changes_nothing() {
    assert_eq!(run(Adversary::Replays).1.led_by_adversary, 0);
}

#[test]
fn what_is_announced_and_not_handed_over_gets_into_no_block_and_stops_nobody_else() {
    let (_, outcome) = run(Adversary::WithholdsAttachments);
    assert!(outcome.held_up > 0, "it announced some");
    assert_eq!(outcome.missing_attachments, 0);
    assert!(outcome.led_by_adversary > 0, "its node takes part like any other");
}

/// That it signs cannot be prevented: the second receipt of each submission is somebody's who has it.
#[test]
fn who_signs_without_holding_is_never_the_only_one_who_signed() {
    let (scenario, outcome) = run(Adversary::SignsWithoutHolding);
    let (liar, _) = scenario.adversary.unwrap();
    assert_eq!(outcome.missing_attachments, 0, "the honest custodians have everything that is final");
    let signs = contract::may_hold(consortium(&scenario).genesis.members[liar].role);
    assert_eq!(outcome.signed_by_adversary > 0, signs);
}

#[test]
fn a_censored_members_entries_become_final_through_the_others() {
    let (_, outcome) = run(Adversary::Censors);
    assert!(outcome.led_by_adversary > 0, "the censor leads too");
}
