//! Figures of this machine: creates, reads, searches and frames per second, with everything durable.
//!
//! `cargo run --release -p store --example figures [FOLDER [ADDRESS]]`; the folder should be on the disk that is to be measured. With the
//! address of an empty database of a PostgreSQL server that one is measured, and the folder holds the journal alone.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that speaks to whoever runs it")]

use record::{Digest, Id16, RecordTag, TimeMs};
use std::{
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use store::{
    Config, Criterion, DateRange, Expected, IndexRow, IndexValue, NewEntry, NewVersion, Number, Put, Row, Seal,
    SealError, SealedSubmission, Search, Store,
};

const PATIENTS: u64 = 1_000;
const RUN: Duration = Duration::from_secs(3);

/// Numbers the entries; signing costs another 30 us a group.
struct Numbering(u64);
impl Seal for Numbering {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        let first_seq = self.0;
        self.0 += entries.len() as u64;
        Ok(vec![SealedSubmission { lane: 1, first_seq, count: entries.len() as u32, bytes: entries.concat() }])
    }
    fn abort(&mut self) {}
    fn committed(&mut self, _: &[SealedSubmission]) {}
}

fn observation(number: u64) -> Put {
    let patient = format!("patient-{:032}", number * 7_919 % PATIENTS);
    // Ids spread as random ones do.
    let id = format!("{:032x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let token = |param: &'static str, system: &str, code: String, text: &str| {
        IndexRow::whole(param, IndexValue::Token { system: system.into(), code, text: text.into() })
    };
    let reference = |param: &'static str| {
        IndexRow::whole(param, IndexValue::Reference { rtype: "Patient".into(), id: patient.clone() })
    };
    let lo_ms = number as i64 * 1_000;
    let date = IndexRow::whole("date", IndexValue::Date(DateRange { lo_ms, hi_ms: lo_ms + 1_000 }));
    let number_of = Number::new((number % 120) as f64 + 40.0).unwrap();
    let (system, code, unit) = ("http://unitsofmeasure.org".into(), "/min".into(), String::new());
    let quantity = IndexValue::Quantity { lo: number_of, hi: number_of, system, code, unit };
    let index = vec![
        token("code", "http://loinc.org", format!("{}-4", number / PATIENTS % 40), "heart rate"),
        token("status", "", "final".into(), ""),
        reference("patient"),
        reference("subject"),
        date,
        IndexRow::whole("value-quantity", quantity),
    ];
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    entry[8..].copy_from_slice(&number.to_be_bytes());
    let row = Row {
        rtype: "Observation".into(),
        id,
        version: 1,
        bytes: vec![b'x'; 1_000],
        salt: Digest([1; 32]),
        tag: RecordTag(Digest([2; 32])),
        pseudonym: None,
        patient: Some(patient),
        author: "ems".parse().unwrap(),
        entry: Id16(entry),
        written_at: TimeMs(number),
        deleted: false,
        label: String::new(),
        gathered: None,
    };
    let entries = vec![NewEntry { id: row.entry, bytes: vec![7; 200], record: Some(row.key()) }];
    Put { records: vec![NewVersion { row, expected: Expected::New, index, template: None }], entries, ..Put::default() }
}

/// Runs `work` on `callers` tasks for a while; prints how often per second and how long one took.
async fn measure<F, W>(what: &str, callers: u64, work: W)
where
    F: Future<Output = ()> + Send,
    W: Fn() -> F + Clone + Send + 'static,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let work = work.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while start.elapsed() < RUN {
                    let since = Instant::now();
                    work().await;
                    times.push(since.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let per_s = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let ms = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{what:<28} {callers:>3} callers {per_s:>9.0} /s   p50 {:>7.2} ms   p99 {:>7.2} ms", ms(50), ms(99));
}

#[tokio::main]
async fn main() {
    let folder = env::args().nth(1).map_or_else(|| env::temp_dir().join("store-figures"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["db", "db-wal", "db-shm", "journal"] {
        let _absent = std::fs::remove_file(folder.join(file));
    }
    let org = "ems".parse().unwrap();
    let file = || folder.join("db").into();
    let database = env::args().nth(2).map_or_else(file, |address| address.parse().unwrap());
    let config = Config { database, journal: folder.join("journal"), org, readers: 2, before_writing: || {} };
    let store = Store::open(config).unwrap().start(Box::new(Numbering(1))).unwrap();
    let number = Arc::new(AtomicU64::new(0));
    let create = {
        let (store, number) = (store.clone(), Arc::clone(&number));
        move || {
            let (store, number) = (store.clone(), number.fetch_add(1, Ordering::Relaxed));
            async move {
                store.put(observation(number)).await.unwrap();
            }
        }
    };
    for callers in [1, 8, 32, 128] {
        measure("create", callers, create.clone()).await;
    }
    let since = Instant::now();
    for _ in 0..20 {
        let records = (0..500).map(|_| observation(number.fetch_add(1, Ordering::Relaxed)));
        let put = records.reduce(|mut all, one| {
            all.records.extend(one.records);
            all.entries.extend(one.entries);
            all
        });
        store.put(put.unwrap()).await.unwrap();
    }
    println!("{:<28} {:>11} {:>9.0} /s", "create in bundles of 500", "", 10_000.0 / since.elapsed().as_secs_f64());
    store.optimize().await.unwrap();
    let written = number.load(Ordering::Relaxed);
    println!("{written} records of 1,000 bytes");

    let picked = Arc::new(AtomicU64::new(0));
    let pick = move || picked.fetch_add(104_729, Ordering::Relaxed) % written;
    let read = {
        let (store, pick) = (store.clone(), pick.clone());
        move || {
            let (store, number) = (store.clone(), pick());
            async move {
                let row = observation(number).records.remove(0).row;
                store.read("Observation", &row.id).await.unwrap().unwrap();
            }
        }
    };
    let search = {
        let (store, pick) = (store.clone(), pick.clone());
        move || {
            let (store, number) = (store.clone(), pick());
            async move {
                let patient = observation(number).records.remove(0).row.patient.unwrap();
                let search = Search::of("Observation")
                    .with(Criterion::reference("patient", "Patient", patient))
                    .with(Criterion::token("code", "http://loinc.org", format!("{}-4", number / PATIENTS % 40)));
                assert!(store.search(search).await.unwrap().total > Some(0));
            }
        }
    };
    for callers in [1, 8, 16] {
        measure("read", callers, read.clone()).await;
    }
    measure("search patient + code", 8, search).await;
    let writers = tokio::spawn(async move { measure("create, beside 16 readers", 16, create).await });
    measure("read, beside 16 writers", 16, read).await;
    writers.await.unwrap();
    store.close().await;
}
