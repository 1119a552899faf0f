//! What holds for PostgreSQL alone: somebody else's hands in the database, several gateways at once, a server that goes away.

use crate::{
    Backend,
    server::{Disk, PASSWORD, Server, USER},
    suite::{Numbering, create, frame, row, token},
    wire::Wire,
};
use record::Id16;
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use store::{
    Address, Criterion, Expected, Frame, FrameFilter, FrameQuery, IndexRow, IndexValue, Kinds, Malformed, Match,
    NewEntry, NewVersion, OpenError, Put, PutError, ReadError, Reader, Removal, Row, Seal, SealError, SealedSubmission,
    Search, Store, TextMatch, Unless, VersionKey,
};
use tempfile::tempdir;

/// A database of a server for each folder.
pub(crate) struct Postgres<'a>(&'a Server);

impl Postgres<'static> {
    pub(crate) fn shared() -> Option<Self> {
        Server::shared().map(Self)
    }
}

/// The name of a folder's database.
fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Backend for Postgres<'_> {
    fn database(&self, folder: &Path) -> Address {
        static MADE: Mutex<Option<HashSet<String>>> = Mutex::new(None);
        let name = name(folder);
        if MADE.lock().unwrap().get_or_insert_default().insert(name.clone()) {
            self.0.create(&name);
        }
        self.0.address(&name).parse().unwrap()
    }

    fn run(&self, folder: &Path, statement: &str) {
        self.sql(folder, statement);
    }

    fn count(&self, folder: &Path, of: &str) -> i64 {
        self.sql(folder, &format!("SELECT count(*) FROM {of}")).parse().unwrap()
    }
}

impl Postgres<'_> {
    fn sql(&self, folder: &Path, statement: &str) -> String {
        self.0.sql(&name(folder), statement)
    }
}

fn entry(number: u8) -> NewEntry {
    NewEntry { id: Id16([number; 16]), bytes: vec![number], record: None }
}

#[tokio::test]
async fn a_row_in_another_form_is_named_on_a_server_as_well() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    for id in ["a", "b", "c"] {
        store.put(create(row("Observation", id, 1, b"x"), vec![token("code", "c")])).await.unwrap();
    }
    postgres.sql(folder.path(), r"UPDATE version SET salt = '\x0102' WHERE id = 'b'");
    let malformed = Malformed { rtype: "Observation".into(), id: "b".into(), version: 1, column: "salt", place: 2 };
    assert_eq!(store.read("Observation", "b").await, Err(ReadError::Malformed(malformed.clone())));
    let search = Search::of("Observation").with(Criterion::code("code", "c"));
    for rows in [
        store.search(search).await.unwrap().found,
        store.patient_records("p", &[]).await.unwrap(),
        store.rows(0, 10).await.unwrap().found,
    ] {
        assert_eq!(rows.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(rows.malformed, std::slice::from_ref(&malformed));
    }
    postgres.sql(folder.path(), "ALTER TABLE version ALTER COLUMN tag DROP NOT NULL");
    for (column, value) in
        [("author", "'Not An Org'"), ("version", "-1"), ("written_at", "-5"), ("pseudonym", r"'\x00'"), ("tag", "NULL")]
    {
        postgres.sql(folder.path(), &format!("UPDATE version SET {column} = {value} WHERE id = 'c'"));
        let found = store.rows(0, 10).await.unwrap().found;
        assert_eq!(found.malformed.iter().filter(|row| row.id == "c").count(), 1, "{column}");
    }
    let malformed = store.rows(0, 10).await.unwrap().found.malformed;
    let removals = malformed.iter().map(|row| Removal::Place(row.place)).collect();
    store.put(Put { removals, ..Put::default() }).await.unwrap();
    let left = store.rows(0, 10).await.unwrap().found;
    assert_eq!((left.rows.len(), left.malformed.len()), (1, 0));
}

/// Somebody changes the form of a column while gateways have it in prepared statements: the first read says so, the next one asks anew.
#[tokio::test]
async fn columns_that_change_their_form_are_read_again_by_a_new_connection() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![])).await.unwrap();
    for _ in 0..8 {
        store.read("Observation", "a").await.unwrap();
    }
    postgres.sql(folder.path(), "ALTER TABLE version ALTER COLUMN label TYPE VARCHAR(90)");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(store.read("Observation", "a").await);
    }
    assert!(answers.last().unwrap().is_ok(), "{answers:?}");
    store.put(create(row("Observation", "b", 1, b"x"), vec![])).await.unwrap();
}

/// The same for what writes ask: one is told to try again, and then is served.
#[tokio::test]
async fn columns_that_change_their_form_are_asked_again_by_a_new_writing_connection() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let put = |id: &str| {
        let unless = Unless { rtype: "Observation".into(), criteria: vec![Criterion::code("code", id)] };
        Put { conditions: vec![unless], ..create(row("Observation", id, 1, b"x"), vec![token("code", id)]) }
    };
    for id in ["a", "b"] {
        store.put(put(id)).await.unwrap();
    }
    postgres.sql(folder.path(), r#"ALTER TABLE version ALTER COLUMN id TYPE VARCHAR(90) COLLATE "C""#);
    let told = store.put(put("c")).await;
    assert!(matches!(told, Ok(_) | Err(PutError::Unavailable)), "{told:?}");
    store.put(put("d")).await.unwrap();
    let found = store.put(put("d")).await;
    assert!(matches!(&found, Err(PutError::Matched { ids, .. }) if ids == &["d"]), "{found:?}");
}

/// Somebody empties columns of rows that are then taken out or erased.
#[tokio::test]
async fn rows_in_another_form_are_taken_out_and_erased() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    for id in ["a", "b"] {
        store.put(create(row("Observation", id, 1, b"{}"), vec![])).await.unwrap();
        let second = NewVersion {
            row: row("Observation", id, 2, b"{}"),
            index: vec![],
            expected: Expected::Version(1),
            template: None,
        };
        store.put(Put { records: vec![second], ..Put::default() }).await.unwrap();
    }
    for column in ["current", "deleted", "bytes", "entry", "patient", "version"] {
        postgres.sql(folder.path(), &format!("ALTER TABLE version ALTER COLUMN {column} DROP NOT NULL"));
    }
    postgres.sql(folder.path(), "UPDATE version SET current = NULL, deleted = NULL, bytes = NULL WHERE version = 1");
    let key = VersionKey { rtype: "Observation".into(), id: "a".into(), version: 2 };
    store.put(Put { removals: vec![Removal::Version(key)], ..Put::default() }).await.unwrap();
    postgres.sql(folder.path(), "UPDATE version SET patient = 'p', entry = NULL");
    postgres.sql(folder.path(), "UPDATE version SET version = NULL, patient = NULL WHERE version = 2");
    assert_eq!(store.erase("p", &[]).await, Ok(2));
    store.put(create(row("Observation", "b", 1, b"{}"), vec![])).await.unwrap();
}

#[tokio::test]
async fn values_of_a_row_that_somebody_removed_do_not_pass_to_the_next_on_a_server() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![token("code", "c")])).await.unwrap();
    postgres.sql(folder.path(), "DELETE FROM version");
    store.put(create(row("Observation", "b", 1, b"x"), vec![])).await.unwrap();
    let page = store.search(Search::of("Observation").with(Criterion::code("code", "c"))).await.unwrap();
    assert_eq!((page.total, page.found.rows.len()), (Some(0), 0));
}

#[tokio::test]
async fn a_lost_server_begins_anew_and_the_journal_keeps_what_is_not_final() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    store.put(Put { entries: vec![entry(1)], ..create(row("Observation", "a", 1, b"x"), vec![]) }).await.unwrap();
    store.close().await;
    drop(store);
    postgres.0.sql("postgres", &format!("DROP DATABASE \"{}\" WITH (FORCE)", name(folder.path())));
    postgres.0.create(&name(folder.path()));
    let opened = Store::open(postgres.config(folder.path(), "ems")).unwrap();
    assert_eq!(opened.kept.len(), 1);
    let store = opened.start(Box::new(Numbering::default())).unwrap();
    assert_eq!(store.read("Observation", "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_copy_on_a_server_is_read_without_a_journal_and_other_databases_are_refused() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let long = vec![0xfe; 100_000];
    store.put(create(row("Observation", "a", 1, &long), vec![])).await.unwrap();
    let (name, server) = (name(folder.path()), postgres.0);
    server.copy(&name, &format!("{name}-copy"));
    let reader = Reader::open(&server.address(&format!("{name}-copy")).parse().unwrap(), 1).unwrap();
    let key = VersionKey { rtype: "Observation".into(), id: "a".into(), version: 1 };
    assert_eq!(reader.vread(key).await.unwrap(), Some(row("Observation", "a", 1, &long)));

    let other = format!("{name}-other");
    server.create(&other);
    let address: Address = server.address(&other).parse().unwrap();
    assert!(matches!(Reader::open(&address, 1), Err(OpenError::Format { .. })), "an empty one");
    server.sql(&other, "CREATE TABLE t (x INTEGER)");
    assert!(matches!(Reader::open(&address, 1), Err(OpenError::Format { .. })));
    let config = store::Config { database: address, ..postgres.config(folder.path(), "hospital") };
    assert!(matches!(Store::open(config), Err(OpenError::Format { .. })), "it is somebody else's");
    assert_eq!(server.sql(&other, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");

    for wrong in [
        server.address(&format!("{name}-missing")),
        server.address_as(USER, "not-the-password", &name),
        server.address_as("nobody", "not-the-password", &name),
        server.address(&name).replace(&server.port.to_string(), "1"),
        format!("{}?sslmode=require", server.address(&name)),
    ] {
        let error = Reader::open(&wrong.parse().unwrap(), 1).unwrap_err();
        assert!(matches!(error, OpenError::Database(_)), "{error}");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("not-the-password") && !said.contains(PASSWORD), "{said}");
    }
}

/// In format 1 no row opened its commitment, and the index had every token.
#[tokio::test]
async fn a_server_of_format_1_is_brought_to_this_one_by_whoever_opens_it_first() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let before = row("AuditEvent", "a", 1, b"{}");
    store.put(create(before.clone(), vec![token("action", "R"), token("action", "D")])).await.unwrap();
    store.put(Put { frames: vec![frame("ox1", 1, b"frame")], ..Put::default() }).await.unwrap();
    store.close().await;
    for statement in [
        "DROP TABLE template",
        "DROP SEQUENCE template_number",
        "DROP INDEX version_template",
        "ALTER TABLE version DROP COLUMN template",
        "DROP TABLE let_go",
        "DROP INDEX frame_patient",
        "ALTER TABLE frame DROP COLUMN kind",
        "CREATE INDEX frame_patient ON frame (patient, measured_at, fid)",
        "DROP INDEX token_code",
        "ALTER TABLE token DROP COLUMN common",
        "CREATE INDEX token_code ON token (rtype, param, code, about, vid)",
        "ALTER TABLE version DROP COLUMN gathered",
        "UPDATE vitaltrace SET format = 1",
    ] {
        postgres.sql(folder.path(), statement);
    }
    assert!(matches!(Reader::open(&postgres.database(folder.path()), 1), Err(OpenError::Format { .. })));
    let store = postgres.store(folder.path());
    assert_eq!(store.vread(before.key()).await.unwrap(), Some(before));
    assert_eq!(postgres.sql(folder.path(), "SELECT string_agg(code || common, ',' ORDER BY code) FROM token"), "D0,R1");
    let index = "SELECT indexdef LIKE '%common = 0%' FROM pg_indexes WHERE indexname = 'token_code'";
    assert_eq!(postgres.sql(folder.path(), index), "t");
    let gathered = Row { gathered: Some(b"opening".to_vec()), ..row("AuditEvent", "b", 1, b"{}") };
    store.put(create(gathered.clone(), vec![token("action", "R")])).await.unwrap();
    assert_eq!(store.gathered(gathered.entry).await.unwrap().rows, [gathered]);
    // Nothing is known of the frames that were there: they are of every kind.
    let kinds = Kinds { any: 1 << 40, wide: 0, wider_ms: 0 };
    let found = store.frames(FrameQuery::of(FrameFilter::Kinds("p".into(), kinds))).await.unwrap();
    assert_eq!(found.frames, [Frame { kind: -1, ..frame("ox1", 1, b"frame") }]);
}

#[test]
fn a_server_with_a_later_format_is_left_alone() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    drop(postgres.store(folder.path()));
    let tables = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'";
    let before = postgres.sql(folder.path(), tables);
    postgres.sql(folder.path(), "UPDATE vitaltrace SET format = 6");
    assert!(matches!(Store::open(postgres.config(folder.path(), "ems")), Err(OpenError::Format { .. })));
    assert!(matches!(Reader::open(&postgres.database(folder.path()), 1), Err(OpenError::Format { .. })));
    assert_eq!(postgres.sql(folder.path(), tables), before);
}

#[test]
fn gateways_that_start_at_once_on_an_empty_server_all_find_their_tables() {
    const ROUNDS: usize = 5;
    const GATEWAYS: usize = 4;
    let Some(postgres) = Postgres::shared() else { return };
    for _ in 0..ROUNDS {
        let folder = tempdir().unwrap();
        let together = Barrier::new(GATEWAYS);
        postgres.database(folder.path());
        thread::scope(|scope| {
            let open = |number: usize| {
                let config = postgres.config(folder.path(), &format!("org-{number}"));
                together.wait();
                Store::open(config).map(drop)
            };
            let gateways: Vec<_> = (0..GATEWAYS).map(|number| scope.spawn(move || open(number))).collect();
            for gateway in gateways {
                assert_eq!(gateway.join().unwrap(), Ok(()));
            }
        });
    }
}

/// PostgreSQL's texts have no NUL. A value with one is found all the same, a name with one is refused, and neither hurts its neighbours.
#[tokio::test]
async fn a_nul_in_a_text_loses_no_record() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let name = |text: &str| IndexRow::whole("name", IndexValue::Text(text.into()));
    store
        .put(create(row("Patient", "a", 1, b"\0"), vec![name("An\0a"), token("identifier", "1\u{0}2")]))
        .await
        .unwrap();
    store.put(create(row("Patient", "b", 1, b"x"), vec![name("Ana"), token("identifier", "12")])).await.unwrap();
    for (criterion, found) in [
        (Criterion::one("name", Match::Text { text: "an\0".into(), how: TextMatch::Prefix }), "a"),
        (Criterion::one("name", Match::Text { text: "\0A".into(), how: TextMatch::Contains }), "a"),
        (Criterion::one("name", Match::Text { text: "Ana".into(), how: TextMatch::Exact }), "b"),
        (Criterion::code("identifier", "1\u{0}2"), "a"),
        (Criterion::code("identifier", "12"), "b"),
    ] {
        let page = store.search(Search::of("Patient").with(criterion)).await.unwrap();
        assert_eq!(page.found.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [found]);
    }
    assert_eq!(store.read("Patient", "a").await.unwrap().unwrap().bytes, b"\0");
    assert_eq!(store.read("Patient", "a\0").await.unwrap(), None);
    let refused = store.put(create(row("Patient", "c\0", 1, b"x"), vec![])).await;
    assert!(matches!(refused, Err(PutError::Invalid(_))), "{refused:?}");
}

/// The server refuses one row of a group: that put alone fails, wherever it stands among the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_fails_alone() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    postgres.sql(folder.path(), "ALTER TABLE version ADD CHECK (label <> 'bad')");
    let puts = (0..90_u8).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut new = row("Observation", &format!("o{i}"), 1, &[i]);
            if i % 9 == 5 {
                new.label = "bad".into();
            }
            let mut put = Put { entries: vec![entry(i)], ..create(new, vec![token("code", &format!("c{i}"))]) };
            if i % 4 == 0 {
                let criteria = vec![Criterion::token("code", "s", format!("c{i}"))];
                put.conditions = vec![Unless { rtype: "Observation".into(), criteria }];
            }
            if i % 5 == 0 {
                let key = VersionKey { rtype: "Observation".into(), id: "none".into(), version: 1 };
                put.removals = vec![Removal::Version(key)];
            }
            (i, store.put(put).await)
        })
    });
    for put in puts.collect::<Vec<_>>() {
        let (i, answer) = put.await.unwrap();
        let bad = i % 9 == 5;
        assert_eq!(answer.is_err(), bad, "{i}: {answer:?}");
        if let Err(error) = answer {
            assert!(matches!(error, PutError::NotWritten(_)), "{error}");
        }
        assert_eq!(store.read("Observation", &format!("o{i}")).await.unwrap().is_some(), !bad);
        assert_eq!(store.entry(Id16([i; 16])).await.unwrap().is_some(), !bad);
        let search = Search::of("Observation").with(Criterion::code("code", format!("c{i}")));
        assert_eq!(store.search(search).await.unwrap().total, Some(u64::from(!bad)));
    }
}

/// A condition that the server takes too long to answer: that put alone fails, and its neighbours do not wait for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_takes_too_long_fails_alone() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    for id in ["a", "b"] {
        store.put(create(row("Slow", id, 1, b"x"), vec![token("code", "c")])).await.unwrap();
    }
    // Somebody has the server think about each row of that type for long.
    for statement in [
        "CREATE FUNCTION slow(rtype TEXT, about TEXT) RETURNS TEXT LANGUAGE sql VOLATILE AS \
         $$ SELECT about FROM (SELECT pg_sleep(CASE WHEN rtype = 'Slow' THEN 60 ELSE 0 END)) s $$",
        "ALTER TABLE token RENAME TO token_of_old",
        "CREATE VIEW token AS SELECT vid, param, code, system, part, words, rtype, slow(rtype, about) AS about, common \
         FROM token_of_old",
    ] {
        postgres.sql(folder.path(), statement);
    }
    let put = |id: &str, rtype: &str| {
        let unless = Unless { rtype: rtype.into(), criteria: vec![Criterion::code("code", "c")] };
        Put { conditions: vec![unless], ..create(row("Observation", id, 1, b"x"), vec![]) }
    };
    let since = Instant::now();
    let (first, slow, last) =
        tokio::join!(store.put(put("first", "Other")), store.put(put("slow", "Slow")), store.put(put("last", "Other")));
    assert!(matches!(slow, Err(PutError::NotWritten(_))), "{slow:?}");
    assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    assert!(since.elapsed() < Duration::from_secs(60));
    for (id, there) in [("first", true), ("slow", false), ("last", true)] {
        assert_eq!(store.read("Observation", id).await.unwrap().is_some(), there, "{id}");
    }
}

/// A sweep goes on after the last place that it has seen. With places from a sequence and commits in any order, what became visible
/// below that place later would be passed over for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_beside_several_gateways_passes_over_nothing() {
    const EACH: u32 = 400;
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    let orgs = ["ems", "hospital", "insurer"];
    let stores = orgs.map(|org| postgres.open(folder.path(), org, Box::new(Numbering::default())));
    let done = AtomicBool::new(false);
    let sweep = async {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let all_written = done.load(Ordering::Acquire);
            let step = stores[0].rows(after, 50).await.unwrap();
            seen.extend(step.found.rows.into_iter().map(|row| row.id));
            after = step.last;
            if all_written && step.next.is_none() {
                return seen;
            }
        }
    };
    let write = async {
        let writers = stores.iter().zip(orgs).flat_map(|(store, org)| {
            (0..EACH).map(move |i| {
                let (store, put) = (store.clone(), create(row("Observation", &format!("{org}-{i}"), 1, b"x"), vec![]));
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(i))).await;
                    store.put(put).await.unwrap();
                })
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        done.store(true, Ordering::Release);
    };
    let (mut seen, ()) = tokio::join!(sweep, write);
    assert_eq!(seen.len(), EACH as usize * orgs.len());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), EACH as usize * orgs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_gone_everybody_is_told_to_try_again_and_then_is_served() {
    let Some(server) = Server::start(Disk::Durable) else { return };
    let postgres = Postgres(&server);
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let put =
        |id: &str| Put { entries: vec![entry(1)], ..create(row("Observation", id, 1, b"x"), vec![token("code", "c")]) };
    store.put(put("before")).await.unwrap();
    for restart in 0..2 {
        if restart == 0 {
            server.stop()
        } else {
            server.kill()
        }
        let since = Instant::now();
        for _ in 0..5 {
            assert_eq!(store.put(put(&format!("lost-{restart}"))).await, Err(PutError::Unavailable));
            assert_eq!(store.read("Observation", "before").await, Err(ReadError::Unavailable));
        }
        assert!(since.elapsed() < Duration::from_secs(10), "nobody waits for long to hear it");
        server.run();
        let mut refused = 0;
        loop {
            let read = store.read("Observation", "before").await;
            let written = store.put(put(&format!("after-{restart}"))).await;
            match (read, written) {
                (Ok(row), Ok(_)) => break assert!(row.is_some()),
                // The write came through before the read did.
                (_, Err(PutError::Conflict { .. })) => {}
                (_, Ok(_) | Err(PutError::Unavailable)) => {}
                (_, Err(error)) => panic!("{error}"),
            }
            refused += 1;
            assert!(refused < 200, "it is not served again");
            tokio::time::sleep(Duration::from_millis(20)).await;
            if store.read("Observation", &format!("after-{restart}")).await.is_ok_and(|row| row.is_some()) {
                break;
            }
        }
        // The connections that are kept are found to be broken one after the other.
        let lost = loop {
            match store.read("Observation", &format!("lost-{restart}")).await {
                Ok(row) => break row,
                Err(error) => assert_eq!(error, ReadError::Unavailable),
            }
            refused += 1;
            assert!(refused < 400, "it is not read again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(lost, None);
        assert!(store.search(Search::of("Observation")).await.is_ok());
    }
    store.close().await;
}

/// The connection breaks in a commit: once before the server hears of it, once before its answer is heard. The gateway finds out which,
/// answers rightly, and goes on numbering without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_is_decided_before_the_next_write() {
    let Some(postgres) = Postgres::shared() else { return };
    let folder = tempdir().unwrap();
    postgres.database(folder.path());
    let (wire, database) = through_a_wire(&postgres, folder.path());
    let config = store::Config { database, ..postgres.config(folder.path(), "ems") };
    let store = Store::open(config.clone()).unwrap().start(Box::new(Numbering::default())).unwrap();
    let put = |number: u8, with_entry: bool| {
        let entries = if with_entry { vec![entry(number)] } else { vec![] };
        Put { entries, ..create(row("Observation", &format!("o{number}"), 1, b"x"), vec![]) }
    };
    let mut number = 0;
    let mut last_seq = 0;
    for with_entry in [true, false, true] {
        for heard in [true, false] {
            number += 1;
            let committed = store.put(put(number, true)).await.unwrap();
            last_seq += 1;
            assert_eq!(committed.entries[0].seq, last_seq);
            number += 1;
            wire.cut_at_commit(heard);
            let answer = store.put(put(number, with_entry)).await;
            assert_eq!(answer.is_ok(), heard, "{answer:?}");
            let there = store.read("Observation", &format!("o{number}")).await.unwrap().is_some();
            assert_eq!(there, heard);
            if heard && with_entry {
                last_seq += 1;
                assert_eq!(answer.unwrap().entries[0].seq, last_seq);
            }
        }
    }
    let ems = "ems".parse().unwrap();
    let filed = store.submissions_since(&ems, 1, 1, 1_000).await.unwrap();
    assert_eq!(filed.iter().map(|one| u64::from(one.count)).sum::<u64>(), last_seq);
    store.close().await;
    drop(store);
    let opened = Store::open(config).unwrap();
    assert_eq!(opened.kept.len(), filed.len(), "the journal has what the database has");
}

/// The server is gone for longer than anybody waits: the callers hear that it is not known, and the next opening decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_doubt_when_the_process_ends_is_decided_at_the_next_opening() {
    let Some(postgres) = Postgres::shared() else { return };
    tokio::join!(
        stays_in_doubt(&postgres, true, Then::Heals),
        stays_in_doubt(&postgres, true, Then::Ends),
        stays_in_doubt(&postgres, true, Then::ErasesAndHeals),
        stays_in_doubt(&postgres, false, Then::Heals),
        stays_in_doubt(&postgres, false, Then::Ends),
        stays_in_doubt(&postgres, false, Then::ErasesAndHeals)
    );
}

/// What comes after a doubt.
#[derive(PartialEq, Eq)]
enum Then {
    Ends,
    Heals,
    /// Somebody asks for an erasure and for statistics again and again while the wire is mended.
    ErasesAndHeals,
}

async fn stays_in_doubt(postgres: &Postgres<'_>, heard: bool, then: Then) {
    let folder = tempdir().unwrap();
    postgres.database(folder.path());
    let (wire, database) = through_a_wire(postgres, folder.path());
    let config = store::Config { database, ..postgres.config(folder.path(), "ems") };
    let (committed, aborted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seal =
        Counting { inner: Numbering::default(), committed: Arc::clone(&committed), aborted: Arc::clone(&aborted) };
    let store = Store::open(config.clone()).unwrap().start(Box::new(seal)).unwrap();
    wire.cut_at_commit(heard);
    wire.stay_cut(true);
    let put = Put { entries: vec![entry(1)], ..create(row("Observation", "o", 1, b"x"), vec![]) };
    assert_eq!(store.put(put).await, Err(PutError::InDoubt));
    assert_eq!(store.put(create(row("Observation", "p", 1, b"x"), vec![])).await, Err(PutError::Unavailable));
    if then == Then::ErasesAndHeals {
        for attempt in 0.. {
            let (statistics, erased) = (store.optimize().await, store.erase("nobody", &[]).await);
            match erased {
                Ok(_) => break,
                Err(error) => assert_eq!(error, PutError::Unavailable),
            }
            if attempt == 0 {
                assert_eq!(statistics, Err(PutError::Unavailable));
                wire.stay_cut(false);
            }
        }
        assert_eq!(committed.load(Ordering::Acquire), u64::from(heard), "it was decided before");
        assert_eq!(aborted.load(Ordering::Acquire), u64::from(!heard));
        assert_eq!(store.read("Observation", "o").await.unwrap().is_some(), heard);
        let seq = u64::from(heard) + 1;
        let put = Put { entries: vec![entry(2)], ..create(row("Observation", "q", 1, b"x"), vec![]) };
        assert_eq!(store.put(put).await.unwrap().entries[0].seq, seq);
    }
    if then == Then::Heals {
        // It is decided without another write.
        wire.stay_cut(false);
        while committed.load(Ordering::Acquire) + aborted.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(committed.load(Ordering::Acquire), u64::from(heard));
    }
    store.close().await;
    drop(store);
    wire.stay_cut(false);
    let opened = Store::open(config).unwrap();
    assert_eq!(opened.kept.len(), usize::from(heard) + usize::from(then == Then::ErasesAndHeals));
}

/// The server's default for commits changes while a gateway is connected, and a commit that waits for a standby is broken off: it is
/// answered only once the standbys that it was to wait for have what says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_answered_only_when_the_standbys_have_it() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let postgres = Postgres(&server);
    let folder = tempdir().unwrap();
    postgres.database(folder.path());
    let (wire, database) = through_a_wire(&postgres, folder.path());
    let config = store::Config { database, ..postgres.config(folder.path(), "ems") };
    let store = Store::open(config).unwrap().start(Box::new(Numbering::default())).unwrap();
    store.put(create(row("Observation", "a", 1, b"x"), vec![])).await.unwrap();
    let set = |setting: &str| {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        server.sql("postgres", "SELECT pg_reload_conf()");
    };
    set("synchronous_commit = off");
    set("synchronous_standby_names = 'nobody'");
    tokio::time::sleep(Duration::from_secs(1)).await;
    wire.cut_at_commit(true);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.put(Put { entries: vec![entry(1)], ..create(row("Observation", "b", 1, b"x"), vec![]) }).await }
    });
    let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiting = || server.sql("postgres", &format!("SELECT coalesce(min(pid), 0) {waits}"));
    let commit = until(&waiting, |pid| pid != "0").await;
    assert!(!writing.is_finished());
    // It stays committed here, and the standby does not have it.
    server.sql("postgres", &format!("SELECT pg_terminate_backend({commit})"));
    until(&waiting, |pid| pid != "0" && pid != commit).await;
    assert!(!writing.is_finished(), "the verdict waits as well");
    set("synchronous_standby_names = ''");
    writing.await.unwrap().unwrap();
    assert!(store.read("Observation", "b").await.unwrap().is_some());
    store.close().await;
}

/// A standby that does not come back: nobody waits for it for ever, and what waited is there when it is not waited for any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_no_standby_confirms_is_in_doubt_after_a_time() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let postgres = Postgres(&server);
    let folder = tempdir().unwrap();
    let store = postgres.store(folder.path());
    let set = |names: &str| {
        server.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        server.sql("postgres", "SELECT pg_reload_conf()");
    };
    set("nobody");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let put = |id: &str| create(row("Observation", id, 1, b"x"), vec![]);
    assert_eq!(store.put(Put { entries: vec![entry(1)], ..put("a") }).await, Err(PutError::InDoubt));
    assert_eq!(store.put(put("b")).await, Err(PutError::Unavailable));
    set("");
    while let Err(error) = store.put(put("c")).await {
        assert_eq!(error, PutError::Unavailable);
    }
    assert!(store.read("Observation", "a").await.unwrap().is_some(), "the server had it all the time");
    assert!(store.entry(Id16([1; 16])).await.unwrap().is_some());
    store.close().await;
}

async fn until(ask: &impl Fn() -> String, holds: impl Fn(&str) -> bool) -> String {
    for _ in 0..400 {
        let said = ask();
        if holds(&said) {
            return said;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to it: {}", ask())
}

/// A wire to the database of a folder, and the address over it.
fn through_a_wire(postgres: &Postgres<'_>, folder: &Path) -> (Wire, Address) {
    let wire = Wire::to(postgres.0.port);
    let address = postgres.0.address(&name(folder)).replace(&postgres.0.port.to_string(), &wire.port.to_string());
    (wire, format!("{address}?sslmode=disable").parse().unwrap())
}

/// Counts what becomes of groups.
struct Counting {
    inner: Numbering,
    committed: Arc<AtomicU64>,
    aborted: Arc<AtomicU64>,
}
impl Seal for Counting {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        self.inner.seal(entries)
    }
    fn abort(&mut self) {
        self.aborted.fetch_add(1, Ordering::AcqRel);
        self.inner.abort();
    }
    fn committed(&mut self, _: &[SealedSubmission]) {
        self.committed.fetch_add(1, Ordering::AcqRel);
    }
}

/// Modes of TLS: what the server shows is verified only where a certificate is named.
#[tokio::test]
async fn a_server_is_spoken_with_in_the_mode_that_its_address_asks_for() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let [signer, other] = server.with_tls().map(|file| file.display().to_string());
    server.create("cloud");
    let (by_name, by_number) = (server.address("cloud").replace("127.0.0.1", "localhost"), server.address("cloud"));
    for (address, encrypted) in [
        (format!("{by_name}?sslmode=verify-full&sslrootcert={signer}"), Some("t")),
        (format!("{by_number}?sslmode=verify-full&sslrootcert={signer}"), None),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={other}"), None),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={signer}-missing"), None),
        (format!("{by_number}?sslmode=require"), Some("t")),
        (by_number.clone(), Some("t")),
        (format!("{by_number}?sslmode=disable"), Some("f")),
    ] {
        let folder = tempdir().unwrap();
        let database: Address = address.parse().unwrap();
        let config = store::Config { database, ..Postgres(&server).config(folder.path(), "ems") };
        match (Store::open(config), encrypted) {
            (Ok(opened), Some(encrypted)) => {
                let store = opened.start(Box::new(Numbering::default())).unwrap();
                assert_eq!(store.counts().await.unwrap(), [], "{address}");
                let ssl = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'vitaltrace'";
                assert_eq!(server.sql("cloud", ssl), encrypted, "{address}");
                store.close().await;
            }
            (Err(OpenError::Database(_)), None) => {}
            (opened, _) => panic!("{address}: {:?}", opened.map(|_| ())),
        }
        // Connections are ended by their threads.
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vitaltrace'";
        while server.sql("cloud", left) != "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A server that asks who connects is shown a certificate, and takes nobody without one.
#[tokio::test]
async fn a_server_that_asks_for_it_is_shown_the_gateways_own_certificate() {
    let Some(server) = Server::start(Disk::Careless) else { return };
    let [signer, _] = server.with_tls().map(|file| file.display().to_string());
    let [own, strange] =
        server.with_certificates_of_clients("gateway").map(|pair| pair.map(|file| file.display().to_string()));
    server.create("cloud");
    let address = server.address_as("gateway", "", "cloud").replace("127.0.0.1", "localhost");
    let verified = format!("{address}?sslmode=verify-full&sslrootcert={signer}");
    let with = |certificate: &str, key: &str| format!("{verified}&sslcert={certificate}&sslkey={key}");
    for (address, opens) in [
        (with(&own[0], &own[1]), true),
        (verified.clone(), false),
        (with(&strange[0], &strange[1]), false),
        (with(&own[0], &strange[1]), false),
        (with(&own[1], &own[0]), false),
        (with(&own[0], &format!("{}-missing", own[1])), false),
    ] {
        let folder = tempdir().unwrap();
        let config =
            store::Config { database: address.parse().unwrap(), ..Postgres(&server).config(folder.path(), "ems") };
        match (Store::open(config), opens) {
            (Ok(opened), true) => {
                let store = opened.start(Box::new(Numbering::default())).unwrap();
                assert_eq!(store.counts().await.unwrap(), []);
                store.close().await;
            }
            (Err(OpenError::Database(why)), false) => assert!(!why.contains("BEGIN"), "{why}"),
            (opened, _) => panic!("{address}: {:?}", opened.map(|_| ())),
        }
    }
}
