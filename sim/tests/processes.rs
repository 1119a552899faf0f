//! Four nodes, each in a process of its own, so that one can be killed as a machine fails: without a word.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; what was seen is printed")]

mod seed;
mod support;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use seed::seed;
use sim::Consortium;
use std::time::{Duration, Instant};
use support::{Process, Site, run_if_asked, turn, wait_until};

/// Kills of a storm.
const KILLS: u64 = 8;

/// No test of its own: the process that [`Site::spawn`] starts.
#[test]
fn node_process() {
    run_if_asked();
}

fn submit(consortium: &Consortium, nodes: &mut [Process], from: u64, count: u64) {
    for seq in from..from + count {
        for (member, node) in nodes.iter_mut().enumerate() {
            let answer = node.submit(&consortium.new_entries(member, 1, seq, 1).to_bytes());
            assert!(answer.starts_with("Ok"), "{answer}");
        }
    }
}

fn wait_for(nodes: &mut [Process], entries: u64) {
    wait_until(&format!("{entries} entries are final"), || nodes.iter_mut().all(|node| node.log_size() >= entries));
}

fn check_agreement(nodes: &mut [Process], entries: u64) {
    let height = nodes.iter_mut().map(Process::height).min().unwrap();
    let roots: Vec<String> = nodes.iter_mut().map(|node| node.roots(height)).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    for node in nodes {
        assert_eq!(node.applied(), entries);
    }
}

#[test]
fn the_others_go_on_when_one_is_killed_and_it_catches_up() {
    let _turn = turn();
    let site = Site::new(11);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    submit(&site.consortium, &mut nodes, 1, 5);
    wait_for(&mut nodes, 20);
    nodes.remove(3).kill();
    submit(&site.consortium, &mut nodes, 6, 20);
    wait_for(&mut nodes, 80);
    nodes.push(site.spawn(3));
    wait_for(&mut nodes, 80);
    let answer = nodes[3].submit(&site.consortium.new_entries(3, 1, 6, 1).to_bytes());
    assert!(answer.starts_with("Ok"), "{answer}");
    wait_for(&mut nodes, 81);
    check_agreement(&mut nodes, 81);
}

#[test]
fn nothing_final_is_lost_when_all_are_killed_and_new_entries_become_final() {
    let _turn = turn();
    let site = Site::new(12);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    submit(&site.consortium, &mut nodes, 1, 25);
    wait_for(&mut nodes, 100);
    let height = nodes.iter_mut().map(Process::height).min().unwrap();
    let before = nodes[0].roots(height);
    nodes.into_iter().for_each(Process::kill);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    wait_for(&mut nodes, 100);
    assert_eq!(nodes[1].roots(height), before);
    submit(&site.consortium, &mut nodes, 26, 5);
    wait_for(&mut nodes, 120);
    check_agreement(&mut nodes, 120);
}

/// Kills after kills, of any process at any moment, and all four at the end; each member submits again what it has no receipt for.
#[test]
fn a_storm_of_kills_loses_nothing() {
    let _turn = turn();
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new(13);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    let mut written = 0;
    for _ in 0..KILLS {
        submit(&site.consortium, &mut nodes, written + 1, 3);
        written += 3;
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        let victim = random.random_range(0..4);
        nodes.remove(victim).kill();
        nodes.insert(victim, site.spawn(victim));
    }
    nodes.into_iter().for_each(Process::kill);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    submit(&site.consortium, &mut nodes, 1, written);
    wait_for(&mut nodes, 4 * written);
    check_agreement(&mut nodes, 4 * written);
}

/// All are killed while copies come and receipts go: whoever signed for a copy has it on its disk.
#[test]
fn a_custodian_that_is_killed_has_what_it_signed_for() {
    let _turn = turn();
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new(15);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    let named = |member: usize, seq: u64| {
        let body = format!("{member} {seq} ").repeat(1_000).into_bytes();
        let entry = site.consortium.entry(member, &format!("copy {seq}"), &[&body]);
        (hex::encode(body), site.consortium.submission(member, 1, seq, vec![entry]).to_bytes())
    };
    let submit = |nodes: &mut [Process], seqs: std::ops::RangeInclusive<u64>| {
        for seq in seqs {
            for (member, node) in nodes.iter_mut().enumerate() {
                let (body, bytes) = named(member, seq);
                assert_eq!(node.ask(&format!("put {body}")), "true");
                assert!(node.submit(&bytes).starts_with("Ok"));
            }
        }
    };
    let mut last = 0;
    for _ in 0..3 {
        // Gateways bring what is not final yet again, from the first on; then comes more.
        let before = last;
        last += 6;
        submit(&mut nodes, 1..=last);
        wait_until("some of it is final", || nodes[0].log_size() > 4 * before);
        std::thread::sleep(Duration::from_millis(random.random_range(0..100)));
        nodes.into_iter().for_each(Process::kill);
        nodes = (0..4).map(|member| site.spawn(member)).collect();
        wait_until("what was final is known again", || nodes[0].log_size() > 4 * before);
        let mut signed_for = 0;
        for pair in nodes[0].ask("held").split_whitespace() {
            let (digest, custodian) = pair.split_once('=').unwrap();
            let member = (0..4).find(|member| site.consortium.org(*member).as_str() == custodian).unwrap();
            assert_eq!(nodes[member].ask(&format!("has {digest}")), "true", "{pair}");
            signed_for += 1;
        }
        assert!(signed_for > 0, "nothing was final");
        eprintln!("{signed_for} receipts were in final blocks when all were killed");
    }
    submit(&mut nodes, 1..=last);
    wait_for(&mut nodes, 4 * last);
    check_agreement(&mut nodes, 4 * last);
    assert_eq!(nodes[0].ask("held").split_whitespace().count() as u64, 2 * 4 * last);
}

#[test]
fn two_of_four_killed_halt_the_chain_and_it_goes_on_when_one_is_back() {
    let _turn = turn();
    let site = Site::new(14);
    let mut nodes: Vec<Process> = (0..4).map(|member| site.spawn(member)).collect();
    submit(&site.consortium, &mut nodes, 1, 5);
    wait_for(&mut nodes, 20);
    nodes.pop().map(Process::kill).unwrap();
    nodes.pop().map(Process::kill).unwrap();
    // A block that was certified before may still become final.
    std::thread::sleep(Duration::from_secs(2));
    let halted = nodes.iter_mut().map(Process::height).max().unwrap();
    submit(&site.consortium, &mut nodes, 6, 5);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(nodes.iter_mut().map(Process::height).max(), Some(halted), "two of four are no quorum");
    let begin = Instant::now();
    nodes.push(site.spawn(2));
    wait_for(&mut nodes, 30);
    eprintln!("halted at height {halted}; all final {:?} after the third was started", begin.elapsed());
    check_agreement(&mut nodes, 30);
}
