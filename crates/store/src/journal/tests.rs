//! The journal under crashes, damage and settlement.

use super::*;
use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tempfile::TempDir;

fn submission(first_seq: u64, count: u32, bytes: &[u8]) -> SealedSubmission {
    SealedSubmission { lane: 1, first_seq, count, bytes: bytes.to_vec() }
}

fn fresh() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    (folder, path)
}

/// Three groups: committed, aborted, and one that nobody knows about.
fn three_groups(path: &Path) {
    let (mut journal, pending) = Journal::recover(path).unwrap();
    assert_eq!(pending, []);
    for (first_seq, outcome) in [(1, Some(Outcome::Committed)), (3, Some(Outcome::Aborted)), (3, None)] {
        let group = journal.append(&[submission(first_seq, 1, b"a"), submission(first_seq + 1, 1, b"bb")]).unwrap();
        journal.sync().unwrap();
        if let Some(outcome) = outcome {
            journal.mark(group, outcome).unwrap();
        }
    }
}

fn shown(path: &Path) -> Result<String, JournalError> {
    let (_, pending) = Journal::recover(path)?;
    let show = |p: &Pending| {
        format!("{}:{}:{:?} ", p.group, p.submission.first_seq, p.outcome.map(|o| o == Outcome::Committed))
    };
    Ok(pending.iter().map(show).collect())
}

#[test]
fn groups_come_back_with_what_became_of_them() {
    let (_folder, path) = fresh();
    three_groups(&path);
    assert_eq!(
        shown(&path).unwrap(),
        "1:1:Some(true) 1:2:Some(true) 2:3:Some(false) 2:4:Some(false) 3:3:None 3:4:None "
    );
    let (mut journal, _) = Journal::recover(&path).unwrap();
    assert_eq!(journal.append(&[]).unwrap(), 4, "groups are not numbered twice");
}

#[test]
fn an_end_torn_at_any_byte_is_cut_off() {
    let (folder, path) = fresh();
    three_groups(&path);
    let whole = shown(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for len in 0..bytes.len() {
        let torn = folder.path().join(format!("torn-{len}"));
        fs::write(&torn, &bytes[..len]).unwrap();
        let groups =
            |text: &str| text.split(' ').map(|one| one.split(':').take(2).collect::<String>()).collect::<Vec<_>>();
        let (torn, whole) = (groups(shown(&torn).unwrap().trim_end()), groups(whole.trim_end()));
        assert!(torn == [""] || whole.starts_with(&torn), "cut at {len}: {torn:?}");
    }
}

#[test]
fn a_changed_byte_before_a_commit_marker_is_named() {
    let (_folder, path) = fresh();
    three_groups(&path);
    let (mut journal, _) = Journal::recover(&path).unwrap();
    journal.mark(3, Outcome::Committed).unwrap();
    let marker_bytes = journal.len - (RECORD_HEADER_BYTES as u64 + 9);
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    for at in HEADER.len()..usize::try_from(marker_bytes).unwrap() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        match shown(&path) {
            Err(JournalError::Corrupt { offset }) => assert!(offset <= at as u64, "{at} is named as {offset}"),
            other => panic!("byte {at} changed: {other:?}"),
        }
    }
}

#[test]
fn zeroes_and_garbage_behind_the_last_sync_are_cut_off() {
    for tail in [vec![0; 5_000], vec![0xff; 100], b"garbage".to_vec()] {
        let (_folder, path) = fresh();
        three_groups(&path);
        let whole = shown(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        bytes.extend(tail);
        fs::write(&path, bytes).unwrap();
        assert_eq!(shown(&path).unwrap(), whole);
        assert_eq!(fs::read(&path).unwrap().len(), len);
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let (_folder, path) = fresh();
    fs::write(&path, b"somebody's precious file").unwrap();
    assert_eq!(shown(&path), Err(JournalError::NotAJournal));
    assert_eq!(fs::read(&path).unwrap(), b"somebody's precious file");
}

#[test]
fn a_journal_has_one_user() {
    let (_folder, path) = fresh();
    let first = Journal::recover(&path).unwrap();
    assert_eq!(shown(&path), Err(JournalError::InUse));
    drop(first);
    assert_eq!(shown(&path).unwrap(), "");
}

/// `a_changed_byte_before_a_commit_marker_is_named` once failed with [`JournalError::InUse`]: a test beside it started processes, and
/// between fork and exec such a process has every open file of its parent, and with it the lock of a journal just closed.
#[test]
fn a_process_being_started_does_not_keep_the_journal() {
    let (_folder, path) = fresh();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let failed = (0..3_000).map(|_| shown(&path)).find(|shown| shown.is_err());
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

#[test]
fn settled_submissions_go_and_the_file_shrinks() {
    let (_folder, path) = fresh();
    let (mut journal, _) = Journal::recover(&path).unwrap();
    let bytes = vec![7; 100_000];
    let mut length_max = 0;
    for seq in 1..=200 {
        let sealed = [submission(seq, 1, &bytes)];
        let group = journal.append(&sealed).unwrap();
        journal.sync().unwrap();
        journal.mark(group, Outcome::Committed).unwrap();
        journal.keep(&sealed);
        journal.settle(1, seq.saturating_sub(3)).unwrap();
        length_max = length_max.max(journal.len);
    }
    assert!(length_max < 2 * COMPACT_BYTES_MIN, "grew to {length_max} bytes");
    assert_eq!(journal.lanes(), [LaneEnd { lane: 1, last_seq: 200 }]);
    assert_eq!(fs::metadata(&path).unwrap().len(), journal.size);
    drop(journal);
    assert_eq!(shown(&path).unwrap(), "198:198:Some(true) 199:199:Some(true) 200:200:Some(true) ");
    let (mut journal, _) = Journal::recover(&path).unwrap();
    journal.settle(1, 200).unwrap();
    assert_eq!(journal.lanes(), [LaneEnd { lane: 1, last_seq: 200 }], "a settled lane does not begin anew");
}

#[test]
fn records_go_into_room_that_was_made_before_and_what_is_left_of_it_is_no_damage() {
    let (folder, path) = fresh();
    let (mut journal, _) = Journal::recover(&path).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for seq in 1..=100 {
        let group = journal.append(&[submission(seq, 1, &[7; 1_000])]).unwrap();
        journal.sync().unwrap();
        journal.mark(group, Outcome::Committed).unwrap();
        lengths.insert(fs::metadata(&path).unwrap().len());
    }
    assert_eq!(lengths.len(), 1, "the file has its length from the first append on");
    // What a crash leaves.
    let copy = folder.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    let len = journal.len;
    drop(journal);
    for path in [path, copy] {
        assert_eq!(shown(&path).unwrap().split_whitespace().count(), 100);
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
    }
}

#[test]
fn a_submission_settled_in_part_stays() {
    let (_folder, path) = fresh();
    let (mut journal, _) = Journal::recover(&path).unwrap();
    let group = journal.append(&[submission(1, 4, b"four entries")]).unwrap();
    journal.mark(group, Outcome::Committed).unwrap();
    journal.settle(1, 3).unwrap();
    drop(journal);
    assert_eq!(shown(&path).unwrap(), "1:1:Some(true) ");
}
