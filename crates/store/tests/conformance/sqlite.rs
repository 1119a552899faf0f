//! What holds for SQLite alone: somebody else's hands in the file.

use crate::{
    Backend, Sqlite,
    suite::{Numbering, create, frame, row, token},
};
use rusqlite::Connection;
use store::{Criterion, Malformed, OpenError, Put, ReadError, Reader, Removal, Search, Store, VersionKey};
use tempfile::tempdir;

#[tokio::test]
async fn a_row_in_another_form_is_named_and_hides_no_other() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    for id in ["a", "b", "c"] {
        store.put(create(row("Observation", id, 1, b"x"), vec![token("code", "c")])).await.unwrap();
    }
    let db = Connection::open(folder.path().join("cloud.db")).unwrap();
    db.execute("UPDATE version SET salt = x'0102' WHERE id = 'b'", []).unwrap();
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
    for (column, value) in [("author", "'Not An Org'"), ("version", "-1"), ("written_at", "-5"), ("pseudonym", "x'00'")]
    {
        db.execute(&format!("UPDATE version SET {column} = {value} WHERE id = 'c'"), []).unwrap();
        let found = store.rows(0, 10).await.unwrap().found;
        assert_eq!(found.malformed.iter().filter(|row| row.id == "c").count(), 1, "{column}");
    }
}

#[tokio::test]
async fn values_of_a_row_that_somebody_removed_do_not_pass_to_the_next() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![token("code", "c")])).await.unwrap();
    Connection::open(folder.path().join("cloud.db")).unwrap().execute("DELETE FROM version", []).unwrap();
    store.put(create(row("Observation", "b", 1, b"x"), vec![])).await.unwrap();
    let page = store.search(Search::of("Observation").with(Criterion::code("code", "c"))).await.unwrap();
    assert_eq!((page.total, page.found.rows.len()), (Some(0), 0));
}

#[tokio::test]
async fn triggers_planted_in_the_file_do_not_run() {
    let folder = tempdir().unwrap();
    Sqlite.store(folder.path()).close().await;
    let db = Connection::open(folder.path().join("cloud.db")).unwrap();
    db.execute_batch("CREATE TRIGGER t AFTER INSERT ON version BEGIN DELETE FROM version; END").unwrap();
    drop(db);
    let store = Sqlite.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![])).await.unwrap();
    assert!(store.read("Observation", "a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_lost_database_begins_anew_and_the_journal_keeps_what_is_not_final() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    let entries = vec![store::NewEntry { id: record::Id16([1; 16]), bytes: vec![1], record: None }];
    store.put(store::Put { entries, ..create(row("Observation", "a", 1, b"x"), vec![]) }).await.unwrap();
    store.close().await;
    drop(store);
    // The readers close the file when their threads end; the last one to do so removes files by their names.
    let database = folder.path().join("cloud.db");
    let is_it = |file: std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|open| open == database);
    while std::fs::read_dir("/proc/self/fd").unwrap().flatten().any(is_it) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for file in ["cloud.db", "cloud.db-wal", "cloud.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    let opened = Store::open(Sqlite.config(folder.path(), "ems")).unwrap();
    assert_eq!(opened.kept.len(), 1);
    let store = opened.start(Box::new(Numbering::default())).unwrap();
    assert_eq!(store.read("Observation", "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_backup_is_read_without_a_journal_and_other_files_are_refused() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![])).await.unwrap();
    store.close().await;
    drop(store);
    let backup = folder.path().join("backup.db");
    Connection::open(folder.path().join("cloud.db"))
        .unwrap()
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    let reader = Reader::open(&backup.into(), 1).unwrap();
    let key = VersionKey { rtype: "Observation".into(), id: "a".into(), version: 1 };
    assert_eq!(reader.vread(key).await.unwrap(), Some(row("Observation", "a", 1, b"x")));

    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Reader::open(&other.clone().into(), 1), Err(OpenError::Format { .. })));
    std::fs::write(&other, b"no database at all, and longer than its header would be.").unwrap();
    assert!(matches!(Reader::open(&other.clone().into(), 1), Err(OpenError::Database(_))));
    assert!(matches!(Reader::open(&folder.path().join("missing.db").into(), 1), Err(OpenError::Database(_))));
}

#[tokio::test]
async fn a_second_store_on_one_journal_is_refused() {
    let folder = tempdir().unwrap();
    let _store = Sqlite.store(folder.path());
    let second = Store::open(Sqlite.config(folder.path(), "ems"));
    assert!(matches!(second, Err(OpenError::Journal(store::JournalError::InUse))));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_taken_out_by_its_place() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"x"), vec![token("code", "c")])).await.unwrap();
    store.put(create(row("Observation", "b", 1, b"x"), vec![])).await.unwrap();
    let db = Connection::open(folder.path().join("cloud.db")).unwrap();
    db.execute("UPDATE version SET id = CAST(x'ff' AS TEXT), salt = x'' WHERE id = 'a'", []).unwrap();
    let malformed = store.rows(0, 10).await.unwrap().found.malformed;
    let removals = malformed.iter().map(|row| Removal::Place(row.place)).collect();
    store.put(Put { removals, ..Put::default() }).await.unwrap();
    let left = store.rows(0, 10).await.unwrap().found;
    assert_eq!((left.rows.len(), left.malformed.len()), (1, 0));
}

/// Somebody gave columns another form: the frames are still all there for whoever looks at every place.
#[tokio::test]
async fn a_frame_whose_columns_cannot_be_read_has_its_place_all_the_same() {
    let folder = tempdir().unwrap();
    let store = Sqlite.store(folder.path());
    let frames = (1..=5).map(|counter| frame("ox1", counter, &[counter as u8])).collect();
    store.put(Put { frames, ..Put::default() }).await.unwrap();
    let db = Connection::open(folder.path().join("cloud.db")).unwrap();
    for (set, counter) in [
        ("device = CAST(x'ff' AS TEXT)", 1),
        ("binding = x''", 2),
        ("counter = -4", 4),
        ("digest = x'01', received_at = -1", 5),
    ] {
        assert_eq!(db.execute(&format!("UPDATE frame SET {set} WHERE counter = {counter}"), []), Ok(1));
    }
    let (mut after, mut seen) = (None, Vec::new());
    while let Some(at) = store.frame_places(after, 1).await.unwrap().pop() {
        let filed = store.filed_frame(at.place).await.unwrap().unwrap();
        assert_eq!((filed.device.as_deref(), filed.counter), (at.device(), at.counter()));
        seen.push((filed.bytes.unwrap(), filed.binding.is_some(), filed.digest.is_some(), filed.received_at.is_some()));
        after = Some(at);
    }
    let whole = |n: u8| (vec![n], true, true, true);
    assert_eq!(seen, [whole(4), (vec![2], false, true, true), whole(3), (vec![5], true, false, false), whole(1)]);
}
