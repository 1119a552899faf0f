//! Crashes: children that are killed at any moment, or end themselves between two steps of a commit, a server that is killed under load,
//! and what is there afterwards.
//!
//! A child is this test binary again, told by the environment to write until it dies. Two of them, each with an organisation and a
//! journal of its own, share one database. A child prints a line for each answer it got; after its death the parent opens the store
//! and compares.

use crate::{
    Address, Config, Criterion, Expected, Frame, FrameFilter, FrameQuery, IndexRow, IndexValue, NewEntry, NewVersion,
    Put, PutError, Reader, Row, Seal, SealError, SealedSubmission, Search, Store, VersionKey,
    fault::Step,
    server::{Disk, Server},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use record::{Digest, Id16, OrgId, RecordTag, TimeMs, sha256};
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{self, Child, Command, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};
use tempfile::TempDir;

const JOURNAL: &str = "STORE_CRASH_JOURNAL";
const DATABASE: &str = "STORE_CRASH_DATABASE";
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

/// A folder of journals, and the database of all of them.
struct Place {
    folder: TempDir,
    database: Address,
}

impl Place {
    fn on_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("cloud.db").into();
        Self { folder, database }
    }

    fn on(server: &Server, name: &str) -> Self {
        server.create(name);
        Self { folder: tempfile::tempdir().unwrap(), database: server.address(name).parse().unwrap() }
    }
}

fn open(place: &Place, org: &OrgId) -> (Store, Vec<SealedSubmission>) {
    let journal = place.folder.path().join(format!("{org}.journal"));
    open_with(Config { database: place.database.clone(), journal, org: org.clone(), readers: 2, before_writing: || {} })
}

fn open_with(config: Config) -> (Store, Vec<SealedSubmission>) {
    let opened = Store::open(config).unwrap();
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
                gathered: None,
            },
            expected,
            index: vec![IndexRow::whole("code", value)],
            template: None,
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
        kind: 1,
        digest: sha256(&[&bytes]),
        bytes,
    };
    Put { records: vec![record, counter], entries: entries.to_vec(), frames: vec![frame], ..Put::default() }
}

/// Not a test of its own: the child's life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_writes_until_it_dies() {
    let (Ok(journal), Ok(database), Ok(org)) = (env::var(JOURNAL), env::var(DATABASE), env::var(ORG)) else { return };
    let org: OrgId = org.parse().unwrap();
    let database = database.parse().unwrap();
    let (store, _) =
        open_with(Config { database, journal: journal.into(), org: org.clone(), readers: 2, before_writing: || {} });
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

fn spawn(place: &Place, org: &OrgId, fault: Option<String>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "crash::a_child_writes_until_it_dies", "--nocapture", "--test-threads=1"]);
    let database: String = serde_json::from_value(serde_json::to_value(&place.database).unwrap()).unwrap();
    let journal = place.folder.path().join(format!("{org}.journal"));
    command.env(JOURNAL, journal).env(DATABASE, database);
    command.env(ORG, org.as_str()).stdout(Stdio::piped()).stderr(Stdio::null());
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
async fn check(place: &Place, org: &OrgId, answers: &BTreeMap<(u32, u64), u64>) {
    let (store, kept) = open(place, org);
    let mut rounds = 0;
    for task in 0..TASKS {
        let name = format!("{org}-{task}");
        let last = store.read("Basic", &name).await.unwrap().map_or(0, |row| row.version);
        let answered = answers.keys().filter(|(of, _)| *of == task).map(|(_, round)| *round).max().unwrap_or_default();
        assert!(last >= answered, "task {task}: version {last} is less than {answered}, which was answered");
        assert!(last <= answered.max(1) + 1 || answered == 0, "task {task}: {last} after {answered} answers");
        let query = FrameQuery::of(FrameFilter::Device(name.clone()));
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

fn random() -> StdRng {
    let seed =
        env::var("STORE_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("STORE_CRASH_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn orgs() -> [OrgId; 2] {
    ["ems".parse().unwrap(), "hospital".parse().unwrap()]
}

/// Kills children at any moment, `rounds` times.
async fn kill_children(place: &Place, rounds: usize) {
    let mut random = random();
    let mut answered = 0;
    for round in 0..rounds {
        // In each second round somebody has the database open all the time. Then SQLite's log is not read anew after the children's
        // death, and a commit that was cut short by it is not seen; it must not come back when the log is read anew later.
        let witness = (round % 2 == 1).then(|| Reader::open(&place.database, 1).unwrap());
        if let Some(witness) = &witness {
            witness.counts().await.unwrap();
        }
        let mut children = orgs().each_ref().map(|org| spawn(place, org, None));
        for child in &mut children {
            thread::sleep(Duration::from_millis(random.random_range(20..180)));
            child.kill().unwrap();
        }
        for (child, org) in children.iter_mut().zip(&orgs()) {
            let answers = answers(child);
            answered += answers.len();
            println!("round {round}: {org} got {} answers", answers.len());
            check(place, org, &answers).await;
        }
        drop(witness);
    }
    assert!(answered > 0, "the children were never killed late enough");
}

/// Ends children between any two steps of a commit.
async fn end_children(place: &Place) {
    let [org, _] = orgs();
    for step in [Step::Inserted, Step::Sealed, Step::Appended, Step::Synced, Step::Committed, Step::Marked] {
        for count in [1, 4] {
            let mut child = spawn(place, &org, Some(format!("{step:?}:{count}")));
            let answers = answers(&mut child);
            println!("{step:?} for the {count}. time: {} answers", answers.len());
            check(place, &org, &answers).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_moment_loses_nothing_that_was_answered() {
    kill_children(&Place::on_file(), 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_between_two_steps_of_a_commit_loses_nothing_that_was_answered() {
    end_children(&Place::on_file()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_beside_a_server_loses_nothing_that_was_answered() {
    let Some(server) = Server::start(Disk::Durable) else { return };
    kill_children(&Place::on(&server, "killed"), 12).await;
    end_children(&Place::on(&server, "ended")).await;
}

/// What a task of the load below was told.
#[derive(Default)]
struct Told {
    answers: BTreeMap<(u32, u64), u64>,
    refused: usize,
    in_doubt: usize,
}

/// One task's writes until it is told to stop. What was refused is tried again, and must not have been written; what is in doubt is looked
/// up first.
async fn persist(store: Store, org: OrgId, task: u32, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    let mut round = 1;
    while !stop.load(Ordering::Acquire) {
        match store.put(put(&org, task, round)).await {
            Ok(committed) => {
                told.answers.insert((task, round), committed.entries[0].seq);
                round += 1;
                continue;
            }
            Err(PutError::InDoubt) => {
                told.in_doubt += 1;
                let counter = loop {
                    match store.read("Basic", &format!("{org}-{task}")).await {
                        Ok(counter) => break counter,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                round = counter.map_or(0, |row| row.version) + 1;
            }
            Err(PutError::Unavailable | PutError::Busy | PutError::NotWritten(_)) => told.refused += 1,
            Err(error) => panic!("{org} {task} {round}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    told
}

/// Loads the database while `disturb` does something to the server, and checks what is there afterwards. Tells how many writes were not
/// answered by yes.
async fn loaded(place: &Place, disturb: impl FnOnce() + Send + 'static) -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    let mut stores = Vec::new();
    for org in orgs() {
        let (store, _) = open(place, &org);
        for task in 0..TASKS {
            tasks.push((org.clone(), tokio::spawn(persist(store.clone(), org.clone(), task, Arc::clone(&stop)))));
        }
        stores.push(store);
    }
    tokio::task::spawn_blocking(disturb).await.unwrap();
    stop.store(true, Ordering::Release);
    let mut all: BTreeMap<OrgId, Told> = BTreeMap::new();
    for (org, task) in tasks {
        let told = task.await.unwrap();
        let of_org = all.entry(org).or_default();
        of_org.answers.extend(told.answers);
        (of_org.refused, of_org.in_doubt) = (of_org.refused + told.refused, of_org.in_doubt + told.in_doubt);
    }
    for store in stores {
        store.close().await;
    }
    for (org, told) in &all {
        println!("{org}: {} answered, {} refused, {} in doubt", told.answers.len(), told.refused, told.in_doubt);
        assert!(!told.answers.is_empty());
        check(place, org, &told.answers).await;
    }
    all.values().map(|told| told.refused + told.in_doubt).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_that_was_answered() {
    const KILLS: usize = 8;
    let Some(server) = Server::start(Disk::Durable) else { return };
    let place = Place::on(&server, "cloud");
    let mut random = random();
    let server = Arc::new(server);
    let disturbed = Arc::clone(&server);
    let not_answered = loaded(&place, move || {
        let server = disturbed;
        for kill in 0..KILLS {
            thread::sleep(Duration::from_millis(random.random_range(150..600)));
            if kill % 4 == 3 {
                server.stop()
            } else {
                server.kill()
            }
            thread::sleep(Duration::from_millis(random.random_range(0..200)));
            server.run();
        }
        thread::sleep(Duration::from_millis(300));
    })
    .await;
    assert!(not_answered > 0, "nobody noticed that the server was away");
}

/// The server that writes are sent to dies for good, and the one that follows it takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_another_takes_the_place_of_loses_nothing_that_was_answered() {
    let Some(server) = Server::start(Disk::Durable) else { return };
    let standby = server.standby();
    server.create("cloud");
    let address = server.address_of_either(&standby, "cloud").parse().unwrap();
    let place = Place { folder: tempfile::tempdir().unwrap(), database: address };
    let servers = Arc::new((server, standby));
    let disturbed = Arc::clone(&servers);
    // All may have waited in a commit whose verdict the new server gave, so none need be refused.
    loaded(&place, move || {
        let (server, standby) = &*disturbed;
        thread::sleep(Duration::from_millis(1_500));
        server.kill();
        standby.promote();
        thread::sleep(Duration::from_millis(1_500));
    })
    .await;
}
