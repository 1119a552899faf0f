//! Who comes, goes and changes its key while the ledger goes on, under a seed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod seed;
mod story;

use commonware_runtime::Clock as _;
use contract::{MemberStep, Reach};
use evidence::{KnownBlock, Limits, Refused};
use ledger::{Config, ConsensusKey, Part};
use record::{Digest, OrgRole};
use seed::seed;
use sim::NEWCOMER;
use std::time::Duration;
use story::{INSURER, REGULATOR, Site, listen, run};

#[test]
fn a_fifth_joins_and_decides_one_leaves_and_one_comes_back_by_another_key_after_it_lost_its_folder() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        site.join().await;

        // Four of five are a quorum: without the regulator's node the newcomer's votes are needed.
        site.kill(REGULATOR).await;
        site.epochs_later(0, 1).await;

        // The insurer leaves: three of four go on.
        site.say(0, INSURER, "leave", INSURER, MemberStep::Left).await;
        site.epochs_later(0, 3).await;
        site.kill(INSURER).await;
        site.epochs_later(0, 1).await;

        // The regulator has lost its folder. It watches by its old key, says by which new one it will decide, and begins again by that.
        let (secret, public) = site.consortium.other_key(REGULATOR);
        let mut config = site.consortium.config(REGULATOR, listen(REGULATOR, 0), None);
        config.store = "regulator-again".to_owned();
        config.part = Part::Watcher(OrgRole::Compliance);
        site.begin(REGULATOR, config.clone()).await;
        let height = site.handle(0).status().height;
        site.reaches(REGULATOR, height).await;
        site.say(REGULATOR, REGULATOR, "rotate", REGULATOR, MemberStep::Seated(public)).await;
        site.kill(REGULATOR).await;
        config.part = Part::Later(OrgRole::Compliance);
        config.consensus_key = ConsensusKey::from(secret);
        site.begin(REGULATOR, config).await;
        site.epochs_later(0, 3).await;
        let height = site.handle(0).status().height;
        site.reaches(REGULATOR, height).await;

        // Ambulance, hospital, newcomer and the regulator by its new key decide: without the hospital each of the others is needed.
        site.kill(1).await;
        site.epochs_later(REGULATOR, 2).await;

        // A stranger follows all of it from the genesis id.
        let (file, changes) = site.evidence(REGULATOR).await;
        let id = site.consortium.genesis.id();
        let report = evidence::verify(&file, &id, &Limits::default()).unwrap();
        assert_eq!((report.validators, report.signers), (4, 3));
        assert_eq!(changes, 3, "in, out, and another key");
        // Through a block that it knows, and not past it.
        let block = site.handle(0).block(report.height).await.unwrap().unwrap();
        let through = |block: Digest, height| {
            evidence::verify_through(&file, &id, Some(&KnownBlock { height, block }), &Limits::default())
        };
        assert_eq!(through(block.digest, report.height).map(|report| report.height), Ok(report.height));
        let height = report.height;
        assert_eq!(through(Digest([1; 32]), height), Err(Refused::OtherHistory { height }));
        assert_eq!(through(block.digest, height - 1), Err(Refused::NotThroughCheckpoint { height: height - 1 }));
    });
}

#[test]
fn every_end_of_an_epoch_is_kept_as_a_checkpoint_that_verifies_also_when_others_decide_and_after_a_restart() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        let blocks = site.consortium.genesis.epoch_blocks;
        assert_eq!(site.handle(0).checkpoint(u64::MAX).await, Ok(None), "the first epoch has not ended");
        site.join().await;
        // One that crashed, and one that executed what it missed.
        site.kill(1).await;
        site.epochs_later(0, 1).await;
        let config = site.consortium.config(1, listen(1, 0), None);
        site.begin(1, config).await;
        let height = site.handle(0).status().height / blocks * blocks - 1;
        let id = site.consortium.genesis.id();
        for member in [0, 1, NEWCOMER] {
            site.reaches(member, height + 1).await;
            for last in (1..=height / blocks + 1).map(|epoch| epoch * blocks - 1) {
                for asked in [last, last + blocks - 1] {
                    let proof = site.handle(member).checkpoint(asked).await.unwrap().unwrap();
                    let (file, _) = site.file(proof);
                    let report = evidence::verify(&file, &id, &Limits::default()).unwrap();
                    assert_eq!(report.height, last, "member {member}, asked for {asked}");
                    let block = site.handle(member).block(last).await.unwrap().unwrap();
                    assert_eq!(report.block, block.digest);
                }
            }
            assert_eq!(site.handle(member).checkpoint(blocks - 2).await, Ok(None));
        }
    });
}

#[test]
fn what_was_overwritten_is_removed_and_nobody_misses_it() {
    run(|context| async move {
        // At most two epochs back, and the engine's own window.
        let mut site = Site::open_with(context, |config| config.state_blocks = 0).await;
        let blocks = site.consortium.genesis.epoch_blocks;
        for seq in 1..=80 {
            let signed = site.consortium.new_entries(0, 3, 1 + (seq - 1) * 50, 50);
            site.handle(0).submit(&signed.to_bytes()).await.unwrap();
            let height = site.handle(0).status().height;
            site.reaches(0, height + 4).await;
        }
        let pruned = |metrics: &str| {
            let line = metrics.lines().find(|line| line.contains("pruned_chunks") && !line.starts_with('#')).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let metrics = site.handle(0).engine_metrics().await.unwrap();
        assert!(pruned(&metrics) > 0, "{metrics}");
        // Restarts, evidence, old blocks with their receipts, and members who execute everything from the first block on.
        site.kill(2).await;
        let mut config = site.consortium.config(2, listen(2, 0), None);
        config.state_blocks = 0;
        site.begin(2, config).await;
        site.epochs_later(2, 2).await;
        let (file, _) = site.evidence(2).await;
        let report = evidence::verify(&file, &site.consortium.genesis.id(), &Limits::default()).unwrap();
        assert!(report.height > 5 * blocks);
        for height in 1..=site.handle(2).status().height {
            let block = site.handle(2).block(height).await.unwrap().unwrap();
            assert_eq!(block.receipts.len(), block.header().entry_count as usize);
        }
        site.join().await;
        let first = site.handle(NEWCOMER).block(1).await.unwrap().unwrap();
        assert_eq!(first.digest, site.handle(0).block(1).await.unwrap().unwrap().digest);
    });
}

#[test]
fn a_node_that_crashes_at_the_end_of_an_epoch_goes_on_in_the_next() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        let blocks = site.consortium.genesis.epoch_blocks;
        // Always the same one: of two that listen elsewhere than the others think, neither would find the other.
        let victim = (seed() % 4) as usize;
        let other = (victim + 1) % 4;
        for epoch in 1..7 {
            // Just before, at, and just after the last block of the epoch.
            site.reaches(other, epoch * blocks - 2 + epoch % 3).await;
            site.kill(victim).await;
            site.context.sleep(Duration::from_millis(1_500 * (epoch % 4))).await;
            let config = site.consortium.config(victim, listen(victim, 0), None);
            site.begin(victim, config).await;
        }
        let height = site.handle(other).status().height;
        for member in 0..4 {
            site.reaches(member, height + blocks).await;
        }
    });
}

/// Who holds what the submission names that begins a lane of a member, as the final blocks show it.
async fn holders(site: &Site, door: usize, member: usize, lane: u32) -> Option<Vec<String>> {
    for height in 1..=site.handle(door).status().height {
        let block = site.handle(door).block(height).await.unwrap().unwrap();
        let naming = block.submissions().iter().filter(|signed| signed.has_attachments());
        for (signed, holdings) in naming.zip(&block.block.holdings) {
            let of = &signed.submission;
            if (&of.org, of.lane, of.first_seq) == (site.consortium.org(member), lane, 1) {
                return Some(holdings.iter().map(|holding| holding.custodian.to_string()).collect());
            }
        }
    }
    None
}

/// A copy that the member names in a lane of its own, at the member's node.
async fn submit_copy(site: &Site, member: usize, lane: u32, copy: &[u8]) -> Digest {
    let digest = site.handle(member).put_attachments(vec![copy.to_vec()]).await.unwrap()[0];
    let entry = site.consortium.entry(member, &format!("copy-{lane}"), &[copy]);
    let signed = site.consortium.submission(member, lane, 1, vec![entry]);
    site.handle(member).submit(&signed.to_bytes()).await.unwrap();
    digest
}

/// Waits until the vault of a member's node has the copy: then it has signed for it, if it signs.
async fn has_copy(site: &Site, member: usize, copy: Digest) {
    for _ in 0..240 {
        if site.handle(member).attachment(copy).await.unwrap().is_some() {
            return;
        }
        site.context.sleep(Duration::from_millis(250)).await;
    }
    panic!("member {member} has no copy after a minute");
}

/// Of the founders that may hold, only the ambulance's node signs for what its vault has.
fn the_ambulance_alone_signs(config: &mut Config) {
    if config.org.as_str() != "ambulance" {
        config.entry_key = None;
    }
}

#[test]
fn a_copy_that_one_custodian_holds_waits_for_the_receipt_of_one_that_joins() {
    run(|context| async move {
        let mut site = Site::open_with(context, the_ambulance_alone_signs).await;
        let copy = submit_copy(&site, 0, 3, b"a copy that waits for a second custodian").await;
        site.epochs_later(0, 1).await;
        let status = site.handle(0).status();
        assert_eq!((status.pending_for_holding, status.custodians), (1, 3));
        assert_eq!(holders(&site, 0, 0, 3).await, None);
        site.join().await;
        has_copy(&site, NEWCOMER, copy).await;
        site.epochs_later(0, 1).await;
        let status = site.handle(0).status();
        assert_eq!((status.pending_for_holding, status.custodians), (0, 4));
        for door in [0, INSURER, NEWCOMER] {
            let held = holders(&site, door, 0, 3).await.unwrap_or_default();
            assert_eq!(held, ["ambulance", "university"], "as member {door} has it");
        }
    });
}

#[test]
fn a_receipt_of_a_custodian_that_left_counts_no_more() {
    run(|context| async move {
        let mut site = Site::open_with(context, the_ambulance_alone_signs).await;
        site.join().await;
        site.kill(0).await;
        // Only the newcomer signs for the insurer's copy; then it leaves.
        let copy = submit_copy(&site, INSURER, 3, b"a copy whose first custodian leaves").await;
        has_copy(&site, NEWCOMER, copy).await;
        site.epochs_later(INSURER, 1).await;
        assert_eq!(site.handle(INSURER).status().pending_for_holding, 1);
        site.say(INSURER, NEWCOMER, "leave", NEWCOMER, MemberStep::Left).await;
        // The ambulance's receipt would be the second, and is the only one.
        let config = site.consortium.config(0, listen(0, 0), None);
        site.begin(0, config).await;
        has_copy(&site, 0, copy).await;
        site.epochs_later(INSURER, 3).await;
        let status = site.handle(INSURER).status();
        assert_eq!((status.pending_for_holding, status.custodians), (1, 3));
        assert_eq!(holders(&site, INSURER, INSURER, 3).await, None);
        // The hospital's node gets its key, and signs.
        site.kill(1).await;
        let config = site.consortium.config(1, listen(1, 0), None);
        site.begin(1, config).await;
        has_copy(&site, 1, copy).await;
        site.epochs_later(INSURER, 3).await;
        let held = holders(&site, INSURER, INSURER, 3).await.unwrap_or_default();
        assert_eq!(held, ["ambulance", "hospital"]);
    });
}

#[test]
fn a_member_that_moves_is_found_where_it_went() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        let address = listen(1, site.lives[1]);
        let reach = Reach { wrap_key: "age1hospital".to_owned(), address: address.to_string() };
        site.say(0, 1, "move", 1, MemberStep::Moved(reach)).await;
        site.kill(1).await;
        let config = site.consortium.config(1, address, None);
        site.begin(1, config).await;
        site.kill(INSURER).await;
        site.epochs_later(0, 2).await;
        let height = site.handle(0).status().height;
        site.reaches(1, height).await;
    });
}

/// Members enter an epoch one after the other. What the first of them proposed was lost on those who had not entered, who then waited one
/// and a half seconds for the leader. In the first epoch a leader may not have been connected yet.
#[test]
fn a_change_of_epoch_costs_the_ledger_no_leaders_time() {
    run(|context| async move {
        let site = Site::open(context).await;
        site.epochs_later(0, 6).await;
        let node = site.handle(0);
        let mut times = Vec::new();
        for height in site.consortium.genesis.epoch_blocks - 1..=node.status().height {
            times.push(node.block(height).await.unwrap().unwrap().header().time.0);
        }
        let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // An idle ledger makes a block a second. These are milliseconds of the simulation.
        assert!(waits.iter().all(|wait| *wait < 1_400), "{waits:?}");
    });
}
