//! Crashes: children that are killed at any moment, or end themselves between two steps of a commit, and what is there afterwards.
//!
//! A child is this test binary again, told by the environment to write until it dies. Two of them, each with an organisation and a
//! journal of its own, share one database. A child prints a line for each answer it got; after its death the parent opens the store
//! and compares.

use crate::{
    Config, Criterion, Expected, Frame, FrameFilter, FrameQuery, IndexRow, IndexValue, NewEntry, NewVersion, Put,
    Reader, Row, Seal, SealError, SealedSubmission, Search, Store, VersionKey, fault::Step,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use record::{Digest, Id16, OrgId, RecordTag, TimeMs, sha256};
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

const FOLDER: &str = "STORE_CRASH_FOLDER";
const ORG: &str = "STORE_CRASH_ORG";
/// `Synced:3` ends the process when it has done that step for the third time.
const FAULT: &str = "STORE_CRASH_FAULT";

const TASKS: u32 = 6;
const LANE: u32 = 7;

static FAULT_POINT: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
    let text = env::var(FAULT).ok()?;
    let (step, count) = text.split_once(':')?;
    Some((step.to_owned(), count.parse().ok()?))
});

/// Called by the writer after each step.
pub(crate) fn reached(step: Step) {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    if let Some((point, count)) = &*FAULT_POINT
        && *point == format!("{step:?}")
        && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        process::abort();
    }
}

/// Numbers entries without gaps and «signs» by listing them. Long groups become two submissions.
struct Numbering {
    next: u64,
    before: u64,
}
impl Seal for Numbering {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        self.before = self.next;
        let (first, second) = entries.split_at(entries.len().min(5));
        let mut sealed = Vec::new();
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let bytes = [&self.next.to_be_bytes()[..], &part.concat()].concat();
            sealed.push(SealedSubmission { lane: LANE, first_seq: self.next, count: part.len() as u32, bytes });
            self.next += part.len() as u64;
        }
        Ok(sealed)
    }
    fn abort(&mut self) {
        self.next = self.before;
    }
    fn committed(&mut self, _: &[SealedSubmission]) {}
}

fn config(folder: &Path, org: &OrgId) -> Config {
    let database = folder.join("cloud.db").into();
    Config { database, journal: folder.join(format!("{org}.journal")), org: org.clone(), readers: 2 }
}

fn open(folder: &Path, org: &OrgId) -> (Store, Vec<SealedSubmission>) {
    let opened = Store::open(config(folder, org)).unwrap();
    let kept = opened.kept.clone();
    let next = opened.lanes.first().map_or(0, |end| end.last_seq) + 1;
    (opened.start(Box::new(Numbering { next, before: next })).unwrap(), kept)
}

fn entry_id(org: &OrgId, task: u32, round: u64, which: u8) -> Id16 {
    let digest = sha256(&[org.as_str().as_bytes(), &task.to_be_bytes(), &round.to_be_bytes(), &[which]]);
    Id16(*digest.0.first_chunk().unwrap())
}

/// Round `round` of a task: a new record, the next version of the task's counter, a frame, two entries.
fn put(org: &OrgId, task: u32, round: u64) -> Put {
    let version = |rtype: &str, id: String, version: u64, expected, which| {
        let value =
            IndexValue::Token { system: String::new(), code: format!("{org}-{task}-{round}"), text: String::new() };
        NewVersion {
            row: Row {
                rtype: rtype.into(),
                id,
                version,
                bytes: format!("{org} {task} {round}").into_bytes(),
                salt: Digest([1; 32]),
                tag: RecordTag(Digest([2; 32])),
                pseudonym: None,
                patient: Some("p".into()),
                author: org.clone(),
                entry: entry_id(org, task, round, which),
                written_at: TimeMs(round),
                deleted: false,
                label: String::new(),
            },
            expected,
            index: vec![IndexRow::whole("code", value)],
        }
    };
    let record = version("Observation", format!("{org}-{task}-{round}"), 1, Expected::New, 0);
    let before = if round == 1 { Expected::New } else { Expected::Version(round - 1) };
    let counter = version("Basic", format!("{org}-{task}"), round, before, 1);
    let entries = [&record, &counter].map(|new| NewEntry {
        id: new.row.entry,
        bytes: new.row.entry.0.to_vec(),
        record: Some(new.row.key()),
    });
    let bytes = format!("frame {org} {task} {round}").into_bytes();
    let frame = Frame {
        device: format!("{org}-{task}"),
        counter: round,
        binding: Id16([3; 16]),
        patient: "p".into(),
        received_at: TimeMs(round),
        measured_at: TimeMs(round),
        digest: sha256(&[&bytes]),
        bytes,
    };
    Put { records: vec![record, counter], entries: entries.to_vec(), frames: vec![frame], ..Put::default() }
}

/// Not a test of its own: the child's life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_writes_until_it_dies() {
    let (Ok(folder), Ok(org)) = (env::var(FOLDER), env::var(ORG)) else { return };
    let org: OrgId = org.parse().unwrap();
    let (store, _) = open(Path::new(&folder), &org);
    let tasks = (0..TASKS).map(|task| {
        let (store, org) = (store.clone(), org.clone());
        tokio::spawn(async move {
            let counter = store.read("Basic", &format!("{org}-{task}")).await.unwrap();
            let mut round = counter.map_or(0, |row| row.version);
            loop {
                round += 1;
                let committed = store.put(put(&org, task, round)).await.unwrap();
                let seq = committed.entries[0].seq;
                let line = format!("answered {task} {round} {seq}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                if task == 0 && round % 7 == 0 {
                    store.settle(LANE, seq / 2).await.unwrap();
                }
            }
        })
    });
    let tasks: Vec<tokio::task::JoinHandle<()>> = tasks.collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn spawn(folder: &Path, org: &OrgId, fault: Option<String>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "crash::a_child_writes_until_it_dies", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(ORG, org.as_str()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env(FAULT, fault);
    }
    command.spawn().unwrap()
}

/// The answers a dead child got: task and round, with the sequence number.
fn answers(child: &mut Child) -> BTreeMap<(u32, u64), u64> {
    let mut answers = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let numbers =
            line.split_once("answered ").map(|(_, rest)| rest.split(' ').flat_map(str::parse).collect::<Vec<u64>>());
        if let Some([task, round, seq]) = numbers.as_deref() {
            answers.insert((*task as u32, *round), *seq);
        }
    }
    child.wait().unwrap();
    answers
}

/// Every answered put is there, no put is there in half, journal and database agree.
async fn check(folder: &Path, org: &OrgId, answers: &BTreeMap<(u32, u64), u64>) {
    let (store, kept) = open(folder, org);
    let mut rounds = 0;
    for task in 0..TASKS {
        let name = format!("{org}-{task}");
        let last = store.read("Basic", &name).await.unwrap().map_or(0, |row| row.version);
        let answered = answers.keys().filter(|(of, _)| *of == task).map(|(_, round)| *round).max().unwrap_or_default();
        assert!(last >= answered, "task {task}: version {last} is less than {answered}, which was answered");
        assert!(last <= answered.max(1) + 1 || answered == 0, "task {task}: {last} after {answered} answers");
        let frames = FrameFilter::Device(name.clone());
        let query = FrameQuery { of: frames, from: TimeMs(0), to: TimeMs(u64::MAX), after: None, limit: 1_000 };
        let mut frames = store.frames(query.clone()).await.unwrap();
        let mut counters: Vec<u64> = frames.frames.iter().map(|frame| frame.counter).collect();
        while let Some(next) = frames.next {
            frames = store.frames(FrameQuery { after: Some(next), ..query.clone() }).await.unwrap();
            counters.extend(frames.frames.iter().map(|frame| frame.counter));
        }
        assert_eq!(counters, (1..=last).collect::<Vec<_>>(), "frames of task {task}");
        for round in 1..=last {
            let put = put(org, task, round);
            for new in &put.records {
                let found = store.vread(new.row.key()).await.unwrap();
                assert_eq!(found.as_ref(), Some(&new.row), "{org} {task} {round}");
            }
            for entry in &put.entries {
                let place = store.entry(entry.id).await.unwrap().unwrap();
                assert_eq!(place.record, entry.record);
            }
        }
        // What was rolled back left nothing, not even in the index.
        let next = format!("{name}-{}", last + 1);
        let nothing = VersionKey { rtype: "Observation".into(), id: next.clone(), version: 1 };
        assert_eq!(store.vread(nothing).await.unwrap(), None);
        let found = store.search(Search::of("Observation").with(Criterion::code("code", next))).await.unwrap();
        assert_eq!(found.total, Some(0));
        rounds += last;
    }
    let mut filed = Vec::new();
    loop {
        let next = filed.last().map_or(1, |last: &SealedSubmission| last.last_seq() + 1);
        let more = store.submissions_since(org, LANE, next, 1_000).await.unwrap();
        if more.is_empty() {
            break;
        }
        filed.extend(more.into_iter().map(SealedSubmission::from));
    }
    let mut next = 1;
    for submission in &filed {
        assert_eq!(submission.first_seq, next, "sequence numbers have neither gaps nor overlaps");
        next = submission.last_seq() + 1;
    }
    assert_eq!(next - 1, rounds * 2, "every entry is in one submission");
    let settled = filed.len() - kept.len();
    assert_eq!(kept, filed[settled..], "the journal has what the database has, but what is settled");
    for ((task, round), seq) in answers {
        let place = store.entry(entry_id(org, *task, *round, 0)).await.unwrap().unwrap();
        assert_eq!(place.seq, *seq, "the entry stands where the answer said");
        assert_eq!((place.lane, &place.org), (LANE, org));
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_moment_loses_nothing_that_was_answered() {
    const ROUNDS: usize = 24;
    let seed =
        env::var("STORE_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("STORE_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let orgs: [OrgId; 2] = ["ems".parse().unwrap(), "hospital".parse().unwrap()];
    let mut answered = 0;
    for round in 0..ROUNDS {
        // In each second round somebody has the database open all the time. Then the log is not read anew after the children's
        // death, and a commit that was cut short by it is not seen; it must not come back when the log is read anew later.
        let database = folder.path().join("cloud.db");
        let witness = (round % 2 == 1).then(|| Reader::open(&database.clone().into(), 1).unwrap());
        if let Some(witness) = &witness {
            witness.counts().await.unwrap();
        }
        let mut children = orgs.each_ref().map(|org| spawn(folder.path(), org, None));
        for child in &mut children {
            thread::sleep(Duration::from_millis(random.random_range(20..180)));
            child.kill().unwrap();
        }
        for (child, org) in children.iter_mut().zip(&orgs) {
            let answers = answers(child);
            answered += answers.len();
            println!("round {round}: {org} got {} answers", answers.len());
            check(folder.path(), org, &answers).await;
        }
        drop(witness);
    }
    assert!(answered > 0, "the children were never killed late enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_between_two_steps_of_a_commit_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let org: OrgId = "ems".parse().unwrap();
    for step in [Step::Inserted, Step::Sealed, Step::Appended, Step::Synced, Step::Committed, Step::Marked] {
        for count in [1, 4] {
            let mut child = spawn(folder.path(), &org, Some(format!("{step:?}:{count}")));
            let answers = answers(&mut child);
            println!("{step:?} for the {count}. time: {} answers", answers.len());
            check(folder.path(), &org, &answers).await;
        }
    }
}
