//! Runs of the whole consortium under a seed.
#![allow(clippy::panic, clippy::print_stderr, reason = "helpers of tests; what was seen is printed")]

mod seed;

use seed::seed;
use sim::{Adversary, Failure, Fault, Outcome, Scenario, Stretch, Tampering, Wrong, simulate, simulate_and_lie};

/// Seeds that every test runs: the first ones, so that a change is judged by the same runs. `VITALTRACE_SEED` begins elsewhere.
const SEEDS: u64 = 20;

fn check(scenario: &Scenario) -> Outcome {
    eprintln!("{scenario}");
    simulate(scenario).unwrap_or_else(|failure| panic!("{scenario}\n{failure}"))
}

fn with_faults(stretches: &[&[Wrong]]) -> Scenario {
    let fault = |(nth, wrong): (u64, &Wrong)| Fault { at_ms: 4_000 + nth * 700, for_ms: 2_000, wrong: *wrong };
    let stretch = |wrong: &&[Wrong]| Stretch { ms: 9_000, faults: (0..).zip(wrong.iter()).map(fault).collect() };
    Scenario { stretches: stretches.iter().map(stretch).collect(), ..Scenario::calm(seed()) }
}

#[test]
fn a_seed_repeats_its_run_to_the_last_step() {
    // Two seeds, so that faults, outages and an adversary are repeated too, and not only a calm run.
    for seed in [seed(), 3] {
        let scenario = Scenario::of(seed);
        assert_eq!(check(&scenario), check(&scenario));
    }
}

#[test]
fn seeds_without_end_break_no_checker() {
    let first = std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in first..first + SEEDS {
        check(&Scenario::of(seed));
    }
}

/// A checker that is told a lie about a run in which everything held must notice.
#[test]
fn no_checker_is_blind() {
    let mut scenario = Scenario::calm(7);
    scenario.adversary = Some((0, Adversary::FinalizesAfterGivingUp));
    check(&scenario);
    for tampering in Tampering::ALL {
        match simulate_and_lie(&scenario, tampering) {
            Err(Failure::Broken(broken)) => assert_eq!(broken.property, tampering.breaks(), "{tampering:?}: {broken}"),
            other => panic!("{tampering:?} was not noticed: {other:?}"),
        }
    }
}

#[test]
fn a_node_that_crashed_catches_up_and_has_the_same_roots() {
    let outcome = check(&with_faults(&[&[Wrong::Crash(1)]]));
    assert_eq!((outcome.faults.crashes, outcome.entries), (1, 80));
}

#[test]
fn a_node_that_lost_its_disk_takes_over_the_state_while_the_others_go_on_and_has_all_in_the_end() {
    let outcome = check(&with_faults(&[&[Wrong::LostFolder(1), Wrong::BadLinks(30, 20)], &[Wrong::Crash(1)]]));
    assert_eq!((outcome.faults.lost_folders, outcome.faults.takeovers, outcome.entries), (1, 1, 80));
}

#[test]
fn nothing_is_lost_when_all_are_killed_at_once() {
    let outcome = check(&with_faults(&[&[Wrong::SlowDisk(0, 100), Wrong::SlowDisk(2, 100)], &[]]));
    assert_eq!((outcome.faults.outages, outcome.entries), (1, 80));
}

#[test]
fn two_of_four_down_halt_and_the_chain_goes_on_when_they_are_back() {
    let outcome = check(&with_faults(&[&[Wrong::Crash(0), Wrong::Crash(3)]]));
    assert_eq!((outcome.faults.crashes, outcome.entries), (2, 80));
}

#[test]
fn halves_that_cannot_reach_each_other_agree_when_they_can() {
    let outcome = check(&with_faults(&[&[Wrong::Partition([true, true, false, false])]]));
    assert_eq!((outcome.faults.partitions, outcome.entries), (1, 80));
}

#[test]
fn a_node_whose_disk_fails_stops_and_goes_on_from_what_was_on_it() {
    let outcome = check(&with_faults(&[&[Wrong::FailingDisk(2, 40), Wrong::BadLinks(80, 50)]]));
    assert_eq!((outcome.faults.disk_failures, outcome.entries), (1, 80));
    assert!(outcome.faults.lost_messages > 0);
}

/// A member had the last block of its epoch without its certificate, which a failing disk had left behind. It went on to the next epoch alone, and the others
/// stood still, who needed its vote to end the one before.
#[test]
fn a_certificate_that_nobody_has_any_more_is_made_again_before_the_next_epoch_begins() {
    let seed = seed();
    let lost = (0..24).any(|nth| {
        let fault = |member| Fault { at_ms: 4_000 + nth * 150, for_ms: 500, wrong: Wrong::LostCertificates(member) };
        // Three that must all vote, as the fourth goes at the same moment and is away until long afterwards.
        let mut faults = vec![Fault { at_ms: 4_000 + nth * 150, for_ms: 8_000, wrong: Wrong::Crash(3) }];
        faults.extend((0..3).map(fault));
        let stretches = vec![Stretch { ms: 16_000, faults }];
        let outcome = check(&Scenario { stretches, epoch_blocks: 4, ..Scenario::calm(seed.wrapping_add(nth)) });
        outcome.faults.lost_ends == 3
    });
    assert!(lost, "the three were never at the end of an epoch together");
}
