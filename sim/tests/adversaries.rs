//! One of four members breaks the rules: the others agree as if it were away, and whoever saw it holds the proof.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod seed;

use evidence::{Misdeed, Refused, blame_file, verify_blame};
use seed::seed;
use sim::{Adversary, Consortium, Plan, simulate};
use std::{collections::BTreeSet, net::SocketAddr};

/// Runs the adversary and gives what the honest members can prove of it.
fn check(adversary: Adversary) -> BTreeSet<Misdeed> {
    let plan = Plan { seed: seed(), submissions: 10, entries: 3, crash: false, adversary: Some(adversary) };
    let outcome = simulate(plan).unwrap();
    let entries = plan.submissions * plan.entries * 3;
    assert_eq!((outcome.log_size, outcome.applied), (entries, vec![entries; 3]));
    assert!(outcome.roots.iter().all(|roots| *roots == outcome.roots[0]), "{:?}", outcome.roots);

    let listen = |member: usize| SocketAddr::from(([127, 0, 0, 1], 4000 + member as u16));
    let consortium = Consortium::new(plan.seed, &[0, 1, 2, 3].map(listen));
    let genesis = &consortium.genesis;
    let mut proven = BTreeSet::new();
    for act in outcome.blames.iter().flatten() {
        let file = blame_file(genesis, Vec::new(), act);
        let blamed = verify_blame(&file, &genesis.id()).unwrap();
        assert_eq!(blamed.organisation.as_ref(), Some(consortium.org(3)), "nobody else is to blame");
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
