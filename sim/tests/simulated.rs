//! Runs of the whole consortium under a seed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod seed;

use seed::seed;
use sim::{Outcome, Plan, simulate};

fn check(plan: Plan) -> Outcome {
    let outcome = simulate(plan).unwrap();
    let entries = plan.submissions * plan.entries * 4;
    assert_eq!(outcome.log_size, entries);
    assert_eq!(outcome.applied, vec![entries; 4]);
    assert!(outcome.roots.iter().all(|roots| *roots == outcome.roots[0]), "{:?}", outcome.roots);
    outcome
}

#[test]
fn four_nodes_agree_and_a_seed_repeats_the_run() {
    let plan = Plan { seed: seed(), submissions: 10, entries: 3, crash: false, adversary: None };
    assert_eq!(check(plan).trace, check(plan).trace);
}

#[test]
fn a_node_that_crashed_catches_up_and_has_the_same_roots() {
    check(Plan { seed: seed(), submissions: 20, entries: 3, crash: true, adversary: None });
}
