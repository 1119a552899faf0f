//! What an auditor makes of a node's folder, and what the folder takes up: four nodes in one process, on real disks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests; figures are printed")]

mod support;

use commonware_codec::RangeCfg;
use commonware_cryptography::sha256;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    buffer::paged::{CacheRef, page_size},
    tokio as engine,
};
use commonware_storage::{
    archive::{Archive as _, prunable},
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use futures::executor::block_on;
use ledger::{Difference, FinalBlock, Handle, Replay, ReplayError, Replayed, StartError, replay};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use support::{Site, turn, wait_for_entries, wait_until};
use tempfile::TempDir;

const HOSPITAL: usize = 1;

/// Nodes that stopped after several epochs, with applied entries and one refused in the block at `refused_height`.
struct Stopped {
    site: Site,
    blocks: Vec<Arc<FinalBlock>>,
    refused_height: u64,
}

fn stopped(seed: u64) -> Stopped {
    let site = Site::new(seed);
    let nodes = site.start_all();
    for seq in 0..12 {
        block_on(nodes[0].submit(&site.consortium.new_entries(0, 7, 1 + seq * 5, 5).to_bytes())).unwrap();
        wait_for_entries(&[&nodes[HOSPITAL]], (seq + 1) * 5);
    }
    let record = site.consortium.entry(2, "same", &[]);
    let twice = site.consortium.submission(2, 1, 1, vec![record.clone(), record]);
    block_on(nodes[0].submit(&twice.to_bytes())).unwrap();
    let epochs = 3 * site.consortium.genesis.epoch_blocks;
    wait_until("there are some epochs", || nodes[HOSPITAL].status().height >= epochs);
    wait_for_entries(&[&nodes[HOSPITAL]], 62);
    let blocks = all_blocks(&nodes[HOSPITAL]);
    for node in nodes {
        block_on(node.stop());
    }
    let refused = |block: &&Arc<FinalBlock>| block.receipts.iter().any(|receipt| receipt.verdict != 0);
    let refused_height = blocks.iter().find(refused).unwrap().header().height;
    Stopped { site, blocks, refused_height }
}

fn all_blocks(node: &Handle) -> Vec<Arc<FinalBlock>> {
    (1..=node.status().height).map(|height| block_on(node.block(height)).unwrap().unwrap()).collect()
}

fn folder(site: &Site, member: usize) -> PathBuf {
    site.dir.path().join(member.to_string())
}

fn replayed(site: &Site, member: usize, folder: &Path) -> Result<Replayed, ReplayError> {
    let scratch = TempDir::new().unwrap();
    let (genesis, org) = (site.consortium.genesis.clone(), site.consortium.org(member).clone());
    replay(&Replay { genesis, org, folder: folder.to_owned(), scratch: scratch.path().to_owned() }, |_| {})
}

/// The bytes of every file below a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(contents(&path)) } else { found.push((path.clone(), fs::read(path).unwrap())) }
    }
    found.sort();
    found
}

/// Changes one byte of what stands at `what` in one of the files of a store.
fn change(folder: &Path, store: &str, what: &[u8]) {
    let files = contents(&folder.join("engine").join(store));
    let place = |bytes: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let (path, mut bytes, at) =
        files.into_iter().find_map(|(path, bytes)| place(&bytes).map(|at| (path, bytes, at))).unwrap();
    bytes[at + what.len() / 2] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn copy_of(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for (path, bytes) in contents(folder) {
        let to = copy.path().join(path.strip_prefix(folder).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    copy
}

#[test]
fn a_folder_is_replayed_to_the_roots_that_its_node_had_and_is_left_as_it_was() {
    let _turn = turn();
    let Stopped { site, blocks, .. } = stopped(61);
    let folder = folder(&site, HOSPITAL);
    let before = contents(&folder);
    let found = replayed(&site, HOSPITAL, &folder).unwrap();
    assert_eq!(contents(&folder), before, "the folder was written to");
    let last = blocks.iter().find(|block| block.header().height == found.height);
    // Blocks may have become final between the last look and the end.
    if let Some(last) = last {
        let header = last.header();
        assert_eq!((found.block, found.log_root, found.state_root), (last.digest, header.log_root, header.state_root));
    } else {
        assert!(found.height > blocks.len() as u64);
    }
    assert_eq!((found.entries, found.refused), (62, 1));
    assert!(found.certificates > 0);
    eprintln!("{found:?}");
    // A copy will do, without the lock as well.
    let copy = copy_of(&folder);
    fs::remove_file(copy.path().join("lock")).unwrap();
    assert_eq!(replayed(&site, HOSPITAL, copy.path()).unwrap(), found);
}

#[test]
fn a_changed_byte_is_named_with_the_height_of_its_block() {
    let _turn = turn();
    let Stopped { site, blocks, refused_height } = stopped(62);
    let org = site.consortium.org(HOSPITAL).as_str().to_owned();
    let named = |harm: &dyn Fn(&Path)| {
        let copy = copy_of(&folder(&site, HOSPITAL));
        harm(copy.path());
        replayed(&site, HOSPITAL, copy.path())
    };
    let check = |height: u64, what: Difference, harm: &dyn Fn(&Path)| {
        assert_eq!(named(harm), Err(ReplayError::Disagrees { height, what }));
    };
    let victim = &blocks[9];
    let height = victim.header().height;
    let found = named(&|folder| change(folder, &format!("{org}-blocks-value"), &victim.header().to_bytes()));
    // The store itself looks at what was written last, and ends before it.
    let found_there = [Difference::Missing, Difference::Unreadable].map(|what| ReplayError::Disagrees { height, what });
    assert!(found.as_ref().is_err_and(|error| found_there.contains(error)), "{found:?}");
    let certified = blocks[9..].iter().find(|block| block.certificate.is_some()).unwrap();
    let found = named(&|folder| {
        change(folder, &format!("{org}-finalizations-value"), certified.certificate.as_ref().unwrap());
    });
    // Where the store of certificates ends before it, the end of that epoch has none.
    let (height, epoch) = (certified.header().height, site.consortium.genesis.epoch_blocks);
    let end = (height / epoch + 1) * epoch - 1;
    let found_there = [(height, Difference::UnreadableCertificate), (end, Difference::NoCertificate)]
        .map(|(height, what)| ReplayError::Disagrees { height, what });
    assert!(found.as_ref().is_err_and(|error| found_there.contains(error)), "{found:?}");
    check(refused_height, Difference::Verdicts, &|folder| {
        let verdicts = folder.join("engine").join(format!("{org}-verdicts-value"));
        for (path, mut bytes) in contents(&verdicts) {
            // Of the verdicts, and not of what the file begins with.
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[last] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    });
}

/// A store that was written by the rules of its format, by somebody who would have it that an entry was refused.
#[test]
fn a_verdict_that_execution_does_not_give_is_named() {
    let _turn = turn();
    let Stopped { site, blocks, refused_height } = stopped(63);
    let org = site.consortium.org(HOSPITAL).as_str().to_owned();
    let applied = blocks.iter().find(|block| !block.receipts.is_empty() && block.header().height != refused_height);
    let (height, entries) = applied.map(|block| (block.header().height, block.receipts.len())).unwrap();
    let copy = copy_of(&folder(&site, HOSPITAL));
    let runtime = engine::Config::new().with_storage_directory(copy.path().join("engine"));
    engine::Runner::new(runtime).start(|context| async move {
        let config = prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{org}-verdicts-metadata"),
            key_partition: format!("{org}-verdicts-key"),
            key_page_cache: CacheRef::new(page_size(4096), NZUsize!(64)),
            value_partition: format!("{org}-verdicts-value"),
            compression: None,
            codec_config: (RangeCfg::from(..=1024), ()),
            items_per_section: NZU64!(4096),
            key_write_buffer: NZUsize!(1024),
            value_write_buffer: NZUsize!(1024),
            replay_buffer: NZUsize!(1024),
        };
        let archive = prunable::Archive::<_, _, sha256::Digest, Vec<u8>>::init(context.child("verdicts"), config);
        let archive = archive.await.unwrap();
        archive.put_sync(height, sha256::Digest([7; 32]), &vec![3; entries]).await.unwrap();
    });
    let what = Difference::Verdicts;
    assert_eq!(replayed(&site, HOSPITAL, copy.path()), Err(ReplayError::Disagrees { height, what }));
}

#[test]
fn a_folder_that_is_in_use_or_anothers_is_not_replayed() {
    let _turn = turn();
    let site = Site::new(64);
    let nodes = site.start_all();
    let folder = folder(&site, HOSPITAL);
    assert_eq!(replayed(&site, HOSPITAL, &folder), Err(StartError::DataDirInUse.into()));
    for node in nodes {
        block_on(node.stop());
    }
    assert_eq!(replayed(&site, 0, &folder), Err(StartError::OtherDataDir.into()));
    let other = Site::new(65);
    assert_eq!(replayed(&other, HOSPITAL, &folder), Err(StartError::OtherDataDir.into()));
    assert!(matches!(replayed(&site, HOSPITAL, &folder.join("none")), Err(ReplayError::Folder(_))));
}

#[test]
fn what_a_node_takes_up_grows_with_its_entries_and_is_told_by_parts() {
    let _turn = turn();
    let site = Site::new(66);
    let nodes = site.start_all();
    wait_until("all connected", || nodes.iter().all(|node| node.status().peers_connected == 3));
    let before = nodes[0].disk_use().unwrap();
    let attachment = vec![7; 64 * 1024];
    block_on(nodes[0].put_attachments(vec![attachment])).unwrap();
    for seq in 0..20 {
        block_on(nodes[0].submit(&site.consortium.new_entries(0, 7, 1 + seq * 100, 100).to_bytes())).unwrap();
    }
    wait_for_entries(&[&nodes[0]], 2000);
    wait_until("the end of an epoch is kept", || block_on(nodes[0].checkpoint(u64::MAX)).unwrap().is_some());
    for node in &nodes {
        block_on(node.stop());
    }
    let after = nodes[0].disk_use().unwrap();
    eprintln!("before {before:?}\nafter {after:?}");
    for ((part, before), (_, after)) in before.parts().into_iter().zip(after.parts()) {
        assert!(after >= before || part == "other", "{part} shrank");
    }
    // An entry is some hundred bytes, in the block and in the state.
    assert!(after.blocks_bytes > before.blocks_bytes + 2000 * 100);
    assert!(after.state_bytes > before.state_bytes + 2000 * 100);
    assert!(after.certificates_bytes > 0 && after.checkpoints_bytes > 0);
    assert_eq!(after.total_bytes(), after.parts().iter().map(|(_, bytes)| bytes).sum::<u64>());
}
