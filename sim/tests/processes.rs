//! Four nodes, each in a process of its own, so that one can be killed as a machine fails: without a word.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use sim::Consortium;
use support::{Process, Site, run_if_asked, turn, wait_until};

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
