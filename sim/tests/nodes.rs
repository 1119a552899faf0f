//! Four nodes in one process: submissions, receipts, proofs and attachments.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; measurements are printed")]

mod support;

use bytes::Bytes;
use commonware_codec::{Decode as _, RangeCfg};
use commonware_cryptography::{Sha256, certificate::Verifier as _, sha256};
use commonware_parallel::Sequential;
use commonware_storage::qmdb::any::value::VariableEncoding;
use contract::{Header, SignedSubmission};
use futures::executor::block_on;
use ledger::{
    Accepted, ExclusionProof, Finalization, Handle, KeyValueProof, Proof, Scheme, StartError, SubmitError, run_tokio,
    verifier,
};
use rand::SeedableRng as _;
use record::sha256;
use std::time::{Duration, Instant};
use support::{Site, turn, wait_for_entries, wait_until};

fn all(handles: &[Handle]) -> Vec<&Handle> {
    handles.iter().collect()
}

fn stop(handles: Vec<Handle>) {
    for handle in handles {
        block_on(handle.stop());
    }
}

/// The receipts' verdicts of all final entries, in order.
fn verdicts(handle: &Handle) -> Vec<u8> {
    let height = handle.status().height;
    let blocks = (1..=height).map(|height| block_on(handle.block(height)).unwrap().unwrap());
    blocks.flat_map(|block| block.receipts.iter().map(|receipt| receipt.verdict).collect::<Vec<_>>()).collect()
}

#[test]
fn entries_become_final_on_all_nodes_in_one_order() {
    let _turn = turn();
    let site = Site::new(1);
    let nodes = site.start_all();
    for (member, node) in nodes.iter().enumerate() {
        for seq in 0..10 {
            let signed = site.consortium.new_entries(member, 7, 1 + seq * 3, 3);
            assert_eq!(block_on(node.submit(&signed.to_bytes())), Ok(Accepted::New));
        }
    }
    wait_for_entries(&all(&nodes), 120);
    let height = nodes.iter().map(|node| node.status().height).min().unwrap();
    let blocks =
        |node: &Handle| -> Vec<_> { (1..=height).map(|h| block_on(node.block(h)).unwrap().unwrap().digest).collect() };
    for node in &nodes {
        assert_eq!(blocks(node), blocks(&nodes[0]));
        assert_eq!(verdicts(node), vec![0; 120]);
    }
    wait_until("all hear each other", || nodes.iter().all(|node| node.status().peers_connected == 3));
    stop(nodes);
}

#[test]
fn a_follower_gets_every_block_once_and_in_order() {
    let _turn = turn();
    let site = Site::new(2);
    let nodes = site.start_all();
    let mut blocks = nodes[2].blocks_from(1);
    let (mut height, mut seen) = (0, 0);
    for seq in 1..=20 {
        block_on(nodes[1].submit(&site.consortium.new_entries(1, 1, seq, 1).to_bytes())).unwrap();
        while seen < seq {
            let block = block_on(blocks.next()).unwrap();
            height += 1;
            assert_eq!(block.header().height, height);
            for receipt in &block.receipts {
                seen += 1;
                assert_eq!((receipt.seq, receipt.index, receipt.verdict), (seen, seen - 1, 0));
            }
        }
    }
    stop(nodes);
}

#[test]
fn a_submission_is_applied_once_however_often_it_comes() {
    let _turn = turn();
    let site = Site::new(3);
    let nodes = site.start_all();
    let first = site.consortium.new_entries(0, 1, 1, 4).to_bytes();
    for node in &nodes {
        assert!(block_on(node.submit(&first)).is_ok());
    }
    wait_for_entries(&all(&nodes), 4);
    for node in &nodes {
        assert_eq!(block_on(node.submit(&first)), Ok(Accepted::Final));
    }
    block_on(nodes[3].submit(&site.consortium.new_entries(3, 1, 1, 1).to_bytes())).unwrap();
    wait_for_entries(&all(&nodes), 5);
    assert_eq!(nodes[0].status().log_size, 5);
    stop(nodes);
}

#[test]
fn what_is_not_the_organisations_own_is_refused_at_the_door() {
    let _turn = turn();
    let site = Site::new(4);
    let nodes = site.start_all();
    let check = |bytes: &[u8], expected: &str| {
        let error = block_on(nodes[0].submit(bytes)).unwrap_err();
        assert!(format!("{error:?}").contains(expected), "{error:?}");
    };
    let good = site.consortium.new_entries(1, 1, 1, 2);
    let mut signature = good.signature;
    signature.0[5] ^= 1;
    let forged = SignedSubmission::new(good.submission.clone(), signature);
    check(&forged.to_bytes(), "BadSignature");
    let mut altered = good.submission.clone();
    altered.entries.truncate(1);
    let altered = SignedSubmission::new(altered, good.signature);
    check(&altered.to_bytes(), "BadSignature");
    let other_chain = sim::Consortium::new(99, &site.addresses);
    check(&other_chain.new_entries(1, 1, 1, 1).to_bytes(), "OtherChain");
    check(&good.to_bytes()[1..], "Format");
    block_on(nodes[0].submit(&good.to_bytes())).unwrap();
    let conflict = site.consortium.submission(1, 1, 2, vec![site.consortium.entry(1, "another", &[])]);
    let refused = block_on(nodes[0].submit(&conflict.to_bytes()));
    assert!(matches!(refused, Err(SubmitError::Conflict { .. }) | Ok(Accepted::Final)), "{refused:?}");
    stop(nodes);
}

#[test]
fn a_refused_entry_is_final_and_says_so_after_a_restart_too() {
    let _turn = turn();
    let site = Site::new(5);
    let mut nodes = site.start_all();
    let record = site.consortium.entry(2, "same", &[]);
    let twice = site.consortium.submission(2, 1, 1, vec![record.clone(), record]);
    block_on(nodes[2].submit(&twice.to_bytes())).unwrap();
    wait_for_entries(&all(&nodes), 2);
    let found = verdicts(&nodes[2]);
    assert_eq!(found[0], 0);
    assert_ne!(found[1], 0);
    for node in &nodes {
        assert_eq!(verdicts(node), found);
    }
    let again = nodes.remove(2);
    block_on(again.stop());
    drop(again);
    nodes.insert(2, site.start(2));
    wait_for_entries(&[&nodes[2]], 2);
    assert_eq!(verdicts(&nodes[2]), found);
    // The others restart as well: a proposer must rebuild the log of a block with refused entries.
    stop(nodes);
    let nodes = site.start_all();
    block_on(nodes[0].submit(&site.consortium.new_entries(0, 1, 1, 1).to_bytes())).unwrap();
    wait_for_entries(&all(&nodes), 3);
    stop(nodes);
}

/// Checks a proof as a stranger would, who has nothing but the genesis document.
fn check_proof(site: &Site, proof: &Proof) -> Header {
    let scheme = verifier(&site.consortium.genesis, &site.consortium.genesis.validators()).unwrap();
    let config = Scheme::certificate_codec_config_unbounded();
    let finalization = Finalization::decode_cfg(Bytes::from(proof.certificate.clone()), &config).unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    assert!(finalization.verify(&mut random, &scheme, &Sequential));
    let header = Header::from_bytes(&proof.header).unwrap();
    assert_eq!(finalization.proposal.payload.as_ref(), header.digest().as_ref());
    let root = sha256::Digest(header.state_root.0);
    for state in &proof.proofs {
        let key = sha256::Digest(state.key.0);
        let bytes = Bytes::from(state.proof.clone());
        let digests_max = 512;
        match &state.value {
            Some(value) => {
                let proof = KeyValueProof::decode_cfg(bytes, &(digests_max, ())).unwrap();
                assert!(proof.verify::<Sha256, VariableEncoding<Vec<u8>>>(key, value.clone(), &root));
                assert!(!proof.verify::<Sha256, VariableEncoding<Vec<u8>>>(key, b"other".to_vec(), &root));
            }
            None => {
                let value = (RangeCfg::from(..=contract::state::VALUE_BYTES_MAX), ());
                let proof = ExclusionProof::decode_cfg(bytes, &(digests_max, ((), value), value)).unwrap();
                assert!(proof.verify::<Sha256>(&key, &root));
            }
        }
    }
    header
}

#[test]
fn presence_and_absence_are_proven_for_one_final_block() {
    let _turn = turn();
    let site = Site::new(6);
    let nodes = site.start_all();
    let submit = |seq: u64| {
        block_on(nodes[1].submit(&site.consortium.new_entries(1, 1, seq, 1).to_bytes())).unwrap();
        wait_for_entries(&all(&nodes), seq);
    };
    submit(1);
    let here = site.consortium.record_key(1, "1-1");
    let absent = sha256(&[b"nothing is here"]);
    for node in &nodes {
        let proof = block_on(node.prove(vec![absent, here])).unwrap();
        assert_eq!(proof.proofs.iter().map(|p| p.value.is_some()).collect::<Vec<_>>(), [false, true]);
        assert!(check_proof(&site, &proof).log_size >= 1);
        assert_eq!(block_on(node.get(vec![here])).unwrap()[0], proof.proofs[1].value);
    }
    // While blocks go on, header, certificate and proofs still belong together.
    for seq in 2..30 {
        block_on(nodes[1].submit(&site.consortium.new_entries(1, 1, seq, 1).to_bytes())).unwrap();
        check_proof(&site, &block_on(nodes[0].prove(vec![here])).unwrap());
    }
    stop(nodes);
}

#[test]
fn attachments_reach_those_who_may_hold_them_and_nobody_else() {
    let _turn = turn();
    let site = Site::new(7);
    let mut nodes = site.start_all();
    let body = vec![7u8; 100_000];
    let digest = block_on(nodes[1].put_attachments(vec![body.clone()])).unwrap()[0];
    let signed = site.consortium.submission(1, 1, 1, vec![site.consortium.entry(1, "copy", &[&body])]);
    block_on(nodes[1].submit(&signed.to_bytes())).unwrap();
    let has = |node: &Handle| block_on(node.attachment(digest)).unwrap() == Some(body.clone());
    wait_until("three vaults hold it", || [0, 1, 3].iter().all(|i| has(&nodes[*i])));
    assert_eq!(block_on(nodes[2].attachment(digest)).unwrap(), None, "an insurer holds none");
    assert_eq!(block_on(nodes[2].fetch_attachment(digest, Duration::from_millis(500))).unwrap(), None);

    // A custodian that was away finds in the chain what it lacks, and asks for it.
    block_on(nodes.remove(3).stop());
    let late = vec![8u8; 50_000];
    let late_digest = block_on(nodes[0].put_attachments(vec![late.clone()])).unwrap()[0];
    let signed = site.consortium.submission(0, 1, 1, vec![site.consortium.entry(0, "late", &[&late])]);
    block_on(nodes[0].submit(&signed.to_bytes())).unwrap();
    wait_for_entries(&all(&nodes), 2);
    nodes.push(site.start(3));
    wait_until("the late one holds it too", || {
        block_on(nodes[3].attachment(late_digest)).unwrap() == Some(late.clone())
    });
    assert_eq!(block_on(nodes[3].vault_status()).unwrap().missing, 0);

    // Erased is erased, though others still send it.
    block_on(nodes[3].erase_attachment(digest)).unwrap();
    block_on(nodes[1].put_attachments(vec![body])).unwrap();
    let fetched = block_on(nodes[3].fetch_attachment(digest, Duration::from_secs(20))).unwrap();
    assert!(fetched.is_some(), "peers still have it");
    assert_eq!(block_on(nodes[3].attachment(digest)).unwrap(), None);
    stop(nodes);
}

/// An insurer puts an attachment while nobody is connected, and the push is lost. Custodians used to ask only each other for it, and an
/// insurer is no custodian: the one copy stayed where it was for ever.
#[test]
fn custodians_get_an_attachment_from_its_maker_that_keeps_none_of_others() {
    let _turn = turn();
    let site = Site::new(9);
    let insurer = site.start(2);
    let body = vec![9u8; 20_000];
    let digest = block_on(insurer.put_attachments(vec![body.clone()])).unwrap()[0];
    let signed = site.consortium.submission(2, 1, 1, vec![site.consortium.entry(2, "copy", &[&body])]);
    block_on(insurer.submit(&signed.to_bytes())).unwrap();
    // The push is on its way to nobody before anybody is there to hear it.
    std::thread::sleep(Duration::from_secs(1));
    let custodians = [0, 1, 3].map(|member| site.start(member));
    wait_for_entries(&[&insurer], 1);
    for node in &custodians {
        wait_until("the custodian holds it", || block_on(node.attachment(digest)).unwrap() == Some(body.clone()));
    }
    stop(custodians.into());
    block_on(insurer.stop());
}

/// The custodians that a final block shows for the submission of a member's lane.
fn shown(node: &Handle, org: &str, lane: u32) -> Vec<String> {
    for height in 1..=node.status().height {
        let block = block_on(node.block(height)).unwrap().unwrap();
        let naming = block.submissions().iter().filter(|signed| signed.has_attachments());
        for (signed, holdings) in naming.zip(&block.block.holdings) {
            if signed.submission.org.as_str() == org && signed.submission.lane == lane {
                return holdings.iter().map(|holding| holding.custodian.to_string()).collect();
            }
        }
    }
    Vec::new()
}

/// Of three custodians one is away and one has no key to sign by: what names attachments waits for the first to come back, through a
/// restart of its author, while the ledger goes on.
#[test]
fn what_too_few_custodians_hold_waits_and_is_final_when_one_comes_back() {
    let _turn = turn();
    let site = Site::new(31);
    let mut mute = site.consortium.config(0, site.addresses[0], Some(&site.dir.path().join("0")));
    mute.entry_key = None;
    let mut nodes = vec![run_tokio(mute).unwrap(), site.start(1), site.start(2)];
    let body = vec![31u8; 40_000];
    let named = site.consortium.submission(1, 1, 1, vec![site.consortium.entry(1, "copy", &[&body])]).to_bytes();
    let behind = site.consortium.new_entries(1, 1, 2, 1).to_bytes();
    let digest = block_on(nodes[1].put_attachments(vec![body.clone()])).unwrap()[0];
    for bytes in [&named, &behind] {
        assert_eq!(block_on(nodes[1].submit(bytes)), Ok(Accepted::New));
    }
    let has = |node: &Handle| block_on(node.attachment(digest)).unwrap() == Some(body.clone());
    // Other lanes go on, of the same member and of others, whoever leads.
    for seq in 1..=8 {
        for member in [1, 2] {
            block_on(nodes[member].submit(&site.consortium.new_entries(member, 2, seq, 1).to_bytes())).unwrap();
        }
        wait_for_entries(&all(&nodes), 2 * seq);
    }
    wait_until("all know that it waits", || nodes.iter().all(|node| node.status().pending_for_holding == 1));
    for node in &nodes {
        assert_eq!((node.status().log_size, node.status().custodians), (16, 3));
    }
    // Its author forgets what waited, and its gateway submits again what is in the journal.
    block_on(nodes.remove(1).stop());
    nodes.insert(1, site.start(1));
    for bytes in [&named, &behind] {
        assert!(block_on(nodes[1].submit(bytes)).is_ok());
    }
    nodes.push(site.start(3));
    wait_for_entries(&all(&nodes), 18);
    assert!(has(&nodes[3]));
    assert_eq!(shown(&nodes[2], "hospital", 1), ["hospital", "regulator"]);
    for node in &nodes {
        assert_eq!(node.status().pending_for_holding, 0);
    }
    stop(nodes);
}

/// Copies may be erased: then nobody signs for them again, and what is final stays so, also for a node that has nothing but the blocks.
#[test]
fn an_erased_copy_takes_no_final_block_with_it_and_is_signed_for_no_more() {
    let _turn = turn();
    let site = Site::new(32);
    let mut nodes = site.start_all();
    let body = vec![32u8; 10_000];
    let names = |lane: u32, label: &str| {
        site.consortium.submission(1, lane, 1, vec![site.consortium.entry(1, label, &[&body])]).to_bytes()
    };
    let digest = block_on(nodes[1].put_attachments(vec![body.clone()])).unwrap()[0];
    block_on(nodes[1].submit(&names(1, "first"))).unwrap();
    wait_for_entries(&all(&nodes), 1);
    assert_eq!(shown(&nodes[0], "hospital", 1).len(), 2);
    let has = |node: &Handle| block_on(node.attachment(digest)).unwrap().is_some();
    wait_until("all custodians hold it", || [0, 1, 3].iter().all(|i| has(&nodes[*i])));
    for custodian in [0, 1, 3] {
        block_on(nodes[custodian].erase_attachment(digest)).unwrap();
    }
    // Somebody names it once more: no custodian says that it has it, and the ledger goes on.
    block_on(nodes[1].submit(&names(2, "second"))).unwrap();
    block_on(nodes[0].submit(&site.consortium.new_entries(0, 1, 1, 3).to_bytes())).unwrap();
    wait_for_entries(&all(&nodes), 4);
    wait_until("all know that it waits", || nodes.iter().all(|node| node.status().pending_for_holding == 1));
    // A node without anything executes the blocks again, of which nobody could show any more who holds what they name.
    block_on(nodes.remove(2).stop());
    std::fs::remove_dir_all(site.dir.path().join("2")).unwrap();
    let mut config = site.consortium.config(2, site.addresses[2], Some(&site.dir.path().join("2")));
    config.part = ledger::Part::Watcher(record::OrgRole::Insurer);
    nodes.insert(2, run_tokio(config).unwrap());
    wait_for_entries(&all(&nodes), 4);
    assert_eq!(shown(&nodes[2], "hospital", 1).len(), 2);
    assert_eq!(verdicts(&nodes[2]), verdicts(&nodes[0]));
    assert!(![0, 1, 3].iter().any(|i| has(&nodes[*i])));
    stop(nodes);
}

#[test]
fn a_folder_belongs_to_one_running_node_of_one_chain() {
    let _turn = turn();
    let site = Site::new(8);
    let node = site.start(0);
    let dir = site.dir.path().join("0");
    let spare = support::free_addresses()[0];
    let again = run_tokio(site.consortium.config(0, spare, Some(&dir)));
    assert_eq!(again.err(), Some(StartError::DataDirInUse));
    let elsewhere = site.dir.path().join("elsewhere");
    let taken = run_tokio(site.consortium.config(0, site.addresses[0], Some(&elsewhere)));
    assert!(matches!(taken.err(), Some(StartError::Listen { .. })));
    block_on(node.stop());
    let other = sim::Consortium::new(77, &site.addresses);
    assert_eq!(run_tokio(other.config(0, spare, Some(&dir))).err(), Some(StartError::OtherDataDir));
}

#[test]
fn a_folder_of_another_layout_is_left_as_it_is() {
    let _turn = turn();
    let site = Site::new(9);
    let node = site.start(0);
    block_on(node.stop());
    let dir = site.dir.path().join("0");
    let owner = std::fs::read_to_string(dir.join("owner")).unwrap();
    // As the first layout had it.
    let earlier = owner.split_once(' ').unwrap().1;
    std::fs::write(dir.join("owner"), earlier).unwrap();
    let started = run_tokio(site.consortium.config(0, site.addresses[0], Some(&dir)));
    assert_eq!(started.err(), Some(StartError::EarlierDataDir));
    assert_eq!(std::fs::read_to_string(dir.join("owner")).unwrap(), earlier);
}

/// Prints what this machine does; asserts only that everything offered becomes final.
#[test]
fn measured_finality() {
    let _turn = turn();
    measure_lone_entries();
    for rate in [1_000_u64, 8_000, 12_000] {
        let site = Site::new(rate);
        let nodes = site.start_all();
        // In its first seconds a leader that was not heard yet may be passed over, which costs a view's timeout.
        wait_until("the chain runs", || nodes.iter().all(|node| node.status().height > 8));
        measure(&site, &nodes, rate, 8);
        stop(nodes);
    }
}

/// Entries on an idle chain, each seen final on every node.
fn measure_lone_entries() {
    let site = Site::new(21);
    let nodes = site.start_all();
    wait_until("the chain runs", || nodes.iter().all(|node| node.status().height > 2));
    let mut latencies = Vec::new();
    for seq in 1..=40 {
        std::thread::sleep(Duration::from_millis(130 + seq * 7));
        let begin = Instant::now();
        let member = seq as usize % 4;
        block_on(nodes[member].submit(&site.consortium.new_entries(member, 1, 1 + (seq - 1) / 4, 1).to_bytes()))
            .unwrap();
        while nodes.iter().any(|node| node.status().log_size < seq) {
            std::thread::sleep(Duration::from_micros(500));
        }
        latencies.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let (before, begin) = (nodes[0].status().height, Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let idle = (nodes[0].status().height - before) as f64 / begin.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    eprintln!(
        "lone entries, final on all four: p50 {:.1} ms, p90 {:.1} ms, max {:.1} ms; idle blocks {idle:.2}/s",
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 9 / 10],
        latencies[latencies.len() - 1],
    );
    stop(nodes);
}

fn measure(site: &Site, nodes: &[Handle], rate: u64, per_submission: u64) {
    let seconds = 5;
    let count = rate * seconds / per_submission;
    let signed: Vec<Vec<u8>> = (0..count)
        .map(|n| {
            let (member, nth) = ((n % 4) as usize, n / 4);
            site.consortium.new_entries(member, 1, 1 + nth * per_submission, per_submission).to_bytes()
        })
        .collect();
    let begin = Instant::now();
    let due = |n: u64| Duration::from_secs_f64((n * per_submission) as f64 / rate as f64);
    let (mut latencies, last) = std::thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut latencies = Vec::new();
            let mut blocks = nodes[0].blocks_from(1);
            let orgs: Vec<_> = (0..4).map(|member| site.consortium.org(member).clone()).collect();
            while (latencies.len() as u64) < count * per_submission {
                let block = block_on(blocks.next()).unwrap();
                let at = begin.elapsed();
                for receipt in &block.receipts {
                    let member = orgs.iter().position(|org| *org == receipt.org).unwrap() as u64;
                    let submission = (receipt.seq - 1) / per_submission * 4 + member;
                    latencies.push(at.saturating_sub(due(submission)).as_secs_f64() * 1000.0);
                }
            }
            (latencies, begin.elapsed())
        });
        for (n, bytes) in signed.iter().enumerate() {
            if let Some(early) = due(n as u64).checked_sub(begin.elapsed()) {
                std::thread::sleep(early);
            }
            block_on(nodes[n % 4].submit(bytes)).unwrap();
        }
        observer.join().unwrap()
    });
    latencies.sort_by(f64::total_cmp);
    let at = |quantile: f64| latencies[((latencies.len() - 1) as f64 * quantile) as usize];
    eprintln!(
        "offered {rate} entries/s in submissions of {per_submission}: {:.0} final/s, p50 {:.1} ms, p99 {:.1} ms, blocks {}",
        latencies.len() as f64 / last.as_secs_f64(),
        at(0.5),
        at(0.99),
        nodes[0].status().height,
    );
}
