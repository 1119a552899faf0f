//! Writing and reading, whatever the database.

use crate::{Backend, Refusing};
use record::{Digest, Id16, Pseudonym, RecordTag, TimeMs, sha256};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc::{Receiver, Sender, channel},
};
use store::{
    Attachment, Committed, Criterion, Expected, FiledFrame, Frame, FrameCursor, FrameFilter, FrameQuery, IndexRow,
    IndexValue, Kinds, NewEntry, NewVersion, PAGE_MAX, Put, PutError, QUEUE_LEN_MAX, RECORD_BYTES_MAX, Removal, Row,
    Seal, SealError, SealedSubmission, Search, Store, Trace, Unless, VersionKey, WrappedKey,
};
use tempfile::tempdir;

/// Numbers entries from 1, in one lane; the submission lists them.
#[derive(Default)]
pub(crate) struct Numbering {
    last: u64,
    before: u64,
}
impl Seal for Numbering {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        self.before = self.last;
        self.last += entries.len() as u64;
        let (first_seq, count) = (self.before + 1, entries.len() as u32);
        Ok(vec![SealedSubmission { lane: 1, first_seq, count, bytes: entries.concat() }])
    }
    fn abort(&mut self) {
        self.last = self.before;
    }
    fn committed(&mut self, _: &[SealedSubmission]) {}
}

pub(crate) fn row(rtype: &str, id: &str, version: u64, bytes: &[u8]) -> Row {
    Row {
        rtype: rtype.into(),
        id: id.into(),
        version,
        bytes: bytes.to_vec(),
        salt: sha256(&[b"salt", id.as_bytes()]),
        tag: RecordTag(sha256(&[b"tag", id.as_bytes()])),
        pseudonym: Some(Pseudonym(Digest([9; 32]))),
        patient: Some("p".into()),
        author: "ems".parse().unwrap(),
        entry: Id16([4; 16]),
        written_at: TimeMs(1_000 + version),
        deleted: false,
        label: "R".into(),
        gathered: None,
    }
}

pub(crate) fn token(param: &'static str, code: &str) -> IndexRow {
    IndexRow::whole(param, IndexValue::Token { system: "s".into(), code: code.into(), text: String::new() })
}

pub(crate) fn create(row: Row, index: Vec<IndexRow>) -> Put {
    Put { records: vec![NewVersion { row, expected: Expected::New, index, template: None }], ..Put::default() }
}

fn update(row: Row) -> Put {
    let expected = Expected::Version(row.version - 1);
    Put { records: vec![NewVersion { row, expected, index: vec![], template: None }], ..Put::default() }
}

fn entry(number: u8, record: Option<VersionKey>) -> NewEntry {
    NewEntry { id: Id16([number; 16]), bytes: vec![number], record }
}

pub(crate) fn frame(device: &str, counter: u64, bytes: &[u8]) -> Frame {
    Frame {
        device: device.into(),
        counter,
        binding: Id16([1; 16]),
        patient: "p".into(),
        received_at: TimeMs(counter * 10 + 1),
        measured_at: TimeMs(counter * 10),
        kind: 1 << (counter % 3),
        digest: sha256(&[bytes]),
        bytes: bytes.to_vec(),
    }
}

async fn code_count(store: &Store, code: &str) -> u64 {
    let search = Search::of("Observation").with(Criterion::code("code", code));
    store.search(search).await.unwrap().total.unwrap()
}

pub(crate) async fn a_record_reads_back_byte_for_byte(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let long: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    for (id, bytes) in
        [("a", br#"{ "value": 1.10,  "x":null}"#.as_slice()), ("b", b"\xff\x00\xfe"), ("c", b""), ("d", &long)]
    {
        let mut row = row("Observation", id, 1, bytes);
        if id == "b" {
            (row.pseudonym, row.patient) = (None, None);
        }
        store.put(create(row.clone(), vec![])).await.unwrap();
        assert_eq!(store.read("Observation", id).await.unwrap().as_ref(), Some(&row));
        assert_eq!(store.vread(row.key()).await.unwrap(), Some(row));
    }
    assert_eq!(store.read("Observation", "e").await.unwrap(), None);
    assert_eq!(store.read("Patient", "a").await.unwrap(), None);
}

/// Whoever wants to know what became of the writes before waits for this one.
pub(crate) async fn a_put_of_nothing_is_written_like_any_other(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    store.put(create(row("Patient", "a", 1, b"{}"), vec![])).await.unwrap();
    assert_eq!(store.put(Put::default()).await.unwrap(), Committed { entries: vec![] });
    store.put(create(row("Patient", "b", 1, b"{}"), vec![])).await.unwrap();
    assert!(store.read("Patient", "a").await.unwrap().is_some() && store.read("Patient", "b").await.unwrap().is_some());
}

pub(crate) async fn audit_events_of_one_entry_are_found_by_it(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    for (id, entry, gathered) in [("a", 1, Some("one")), ("b", 2, Some("two")), ("c", 1, Some("three")), ("d", 1, None)]
    {
        let gathered = gathered.map(|text| text.as_bytes().to_vec());
        let row = Row { entry: Id16([entry; 16]), gathered, ..row("AuditEvent", id, 1, b"{}") };
        store.put(create(row.clone(), vec![])).await.unwrap();
        assert_eq!(store.vread(row.key()).await.unwrap(), Some(row));
    }
    for (entry, expected) in [(1, vec!["a", "c"]), (2, vec!["b"]), (3, vec![])] {
        let found = store.gathered(Id16([entry; 16])).await.unwrap();
        assert_eq!(found.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), expected);
    }
}

/// No index has what nearly every audit event says; a search by it finds them all the same, with and without something that is rare.
pub(crate) async fn what_nearly_all_records_say_is_found_too(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let says = |param: &'static str, code: &str| token(param, code);
    for n in 0..20u8 {
        let (action, outcome) = (if n == 3 { "D" } else { "R" }, if n % 10 == 7 { "8" } else { "0" });
        let mut row = row("AuditEvent", &format!("event-{n:02}"), 1, b"{}");
        row.patient = Some(format!("p{}", n % 2));
        let patient = IndexValue::Reference { rtype: "Patient".into(), id: format!("p{}", n % 2) };
        let index = vec![says("action", action), says("outcome", outcome), IndexRow::whole("patient", patient)];
        store.put(create(row, index)).await.unwrap();
    }
    let total = async |criteria: Vec<Criterion>| {
        let search = criteria.into_iter().fold(Search::of("AuditEvent"), Search::with);
        store.search(search).await.unwrap().total.unwrap()
    };
    let code = |param: &str, code: &str| Criterion::code(param, code);
    let of = |id: &str| Criterion::reference("patient", "Patient", id);
    assert_eq!(total(vec![code("action", "R")]).await, 19);
    assert_eq!(total(vec![code("action", "D")]).await, 1);
    assert_eq!(total(vec![code("outcome", "8")]).await, 2);
    assert_eq!(total(vec![code("action", "R"), code("outcome", "0")]).await, 17);
    assert_eq!(total(vec![code("action", "R"), of("p1")]).await, 9);
    assert_eq!(total(vec![code("action", "R"), of("p1"), code("outcome", "8")]).await, 2);
    let not = Criterion { negate: true, ..code("action", "R") };
    assert_eq!(total(vec![not]).await, 1);
}

pub(crate) async fn versions_follow_each_other_and_history_shows_them(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"1"), vec![token("code", "old")])).await.unwrap();
    for version in 2..=5 {
        let mut put = update(row("Observation", "a", version, &[version as u8]));
        put.records[0].index = vec![token("code", "new")];
        store.put(put).await.unwrap();
    }
    assert_eq!(store.read("Observation", "a").await.unwrap().unwrap().version, 5);
    assert_eq!((code_count(&store, "old").await, code_count(&store, "new").await), (0, 1));
    let versions = |rows: store::Rows| rows.rows.iter().map(|row| row.version).collect::<Vec<_>>();
    assert_eq!(versions(store.history("Observation", "a", None, 10).await.unwrap()), [5, 4, 3, 2, 1]);
    assert_eq!(versions(store.history("Observation", "a", Some(4), 2).await.unwrap()), [3, 2]);
    let conflict = store.put(update(row("Observation", "a", 5, b"again"))).await;
    let expected = Expected::Version(4);
    assert_eq!(
        conflict,
        Err(PutError::Conflict { rtype: "Observation".into(), id: "a".into(), expected, found: Some(5) })
    );
    let mut skips = update(row("Observation", "a", 9, b"skips"));
    skips.records[0].expected = Expected::Version(5);
    assert!(matches!(store.put(skips).await, Err(PutError::Invalid(_))));
}

pub(crate) async fn a_put_that_fails_leaves_nothing(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    store.put(create(row("Patient", "taken", 1, b"first"), vec![])).await.unwrap();
    // The last record of each third put is taken; its neighbours commit in the same groups.
    let puts = (0..60_u8).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let new = row("Observation", &format!("o{i}"), 1, &[i]);
            let mut put = create(new.clone(), vec![token("code", "c")]);
            put.entries = vec![entry(i, Some(new.key()))];
            // Without frames, what stands against a put is found before anything of it is written.
            let has_frame = i % 2 == 0;
            put.frames.extend(has_frame.then(|| frame("d", i.into(), &[i])));
            put.attachments = vec![Attachment { digest: sha256(&[&[i]]), bytes: vec![i] }];
            let fails = i % 3 == 0;
            let last = row("Patient", if fails { "taken" } else { "free" }, 1, b"second");
            if fails {
                put.records.push(NewVersion { row: last, expected: Expected::New, index: vec![], template: None });
            }
            (i, store.put(put).await)
        })
    });
    for put in puts.collect::<Vec<_>>() {
        let (i, answer) = put.await.unwrap();
        let written = i % 3 != 0;
        match answer {
            Ok(_) => assert!(written),
            Err(error) => assert!(!written && matches!(error, PutError::Conflict { .. }), "{error}"),
        }
        assert_eq!(store.read("Observation", &format!("o{i}")).await.unwrap().is_some(), written);
        assert_eq!(store.entry(Id16([i; 16])).await.unwrap().is_some(), written);
        assert_eq!(store.frame(sha256(&[&[i]])).await.unwrap().is_some(), written && i % 2 == 0);
        assert_eq!(store.attachment(sha256(&[&[i]])).await.unwrap().is_some(), written);
    }
    assert_eq!(code_count(&store, "c").await, 40);
    assert_eq!(store.read("Patient", "taken").await.unwrap().unwrap().bytes, b"first");
    let submissions = store.submissions_since(&"ems".parse().unwrap(), 1, 1, PAGE_MAX).await.unwrap();
    assert_eq!(submissions.iter().map(|submission| submission.count).sum::<u32>(), 40);
}

pub(crate) async fn of_many_writers_of_one_version_one_wins(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let stores = ["ems", "hospital"].map(|org| backend.open(folder.path(), org, Box::new(Numbering::default())));
    stores[0].put(create(row("Observation", "a", 1, b"1"), vec![])).await.unwrap();
    for version in 2..12 {
        let writers = (0..16_u8).map(|i| {
            let store = stores[usize::from(i % 2)].clone();
            tokio::spawn(async move { store.put(update(row("Observation", "a", version, &[i]))).await.map(|_| i) })
        });
        let mut winners = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(i) => winners.push(i),
                Err(error) => assert!(matches!(error, PutError::Conflict { .. }), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(stores[0].read("Observation", "a").await.unwrap().unwrap().bytes, winners);
    }
}

pub(crate) async fn of_two_gateways_under_one_condition_one_creates(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let stores = ["ems", "hospital"].map(|org| backend.open(folder.path(), org, Box::new(Numbering::default())));
    let writers = (0..200_u32).map(|i| {
        let store = stores[(i % 2) as usize].clone();
        tokio::spawn(async move {
            let code = format!("mrn-{}", i / 4);
            let mut put = create(row("Patient", &format!("p{i}"), 1, b"x"), vec![token("identifier", &code)]);
            put.conditions =
                vec![Unless { rtype: "Patient".into(), criteria: vec![Criterion::token("identifier", "s", &code)] }];
            (i, store.put(put).await)
        })
    });
    let mut created = Vec::new();
    let mut matched = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            (i, Ok(_)) => created.push((i / 4, format!("p{i}"))),
            (i, Err(PutError::Matched { condition: 0, ids, .. })) => matched.push((i / 4, ids)),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    created.sort();
    assert_eq!(created.iter().map(|(code, _)| *code).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    for (code, ids) in matched {
        assert_eq!(ids, [created[code as usize].1.clone()]);
    }
    let mut empty = create(row("Patient", "q", 1, b"x"), vec![]);
    empty.conditions = vec![Unless { rtype: "Patient".into(), criteria: vec![] }];
    assert!(matches!(stores[0].put(empty).await, Err(PutError::Invalid(_))));
}

pub(crate) async fn deleted_records_are_not_found_but_read(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    store.put(create(row("Observation", "a", 1, b"1"), vec![token("code", "c")])).await.unwrap();
    let mut deletion = update(Row { deleted: true, ..row("Observation", "a", 2, b"") });
    deletion.records[0].index = vec![token("code", "c")];
    store.put(deletion).await.unwrap();
    assert_eq!(code_count(&store, "c").await, 0);
    assert_eq!(store.search(Search::of("Observation")).await.unwrap().total, Some(0));
    assert_eq!(store.counts().await.unwrap(), []);
    assert!(store.read("Observation", "a").await.unwrap().unwrap().deleted);
    assert!(store.patient_records("p", &[]).await.unwrap().rows[0].deleted);
    assert!(matches!(
        store.put(create(row("Observation", "a", 1, b"1"), vec![])).await,
        Err(PutError::Conflict { .. })
    ));
    store.put(update(row("Observation", "a", 3, b"back"))).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), [("Observation".to_owned(), 1)]);
}

pub(crate) async fn recovery_inserts_versions_in_any_order(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    for version in [3, 1, 4, 2] {
        let index = vec![token("code", &format!("v{version}"))];
        let new = NewVersion {
            row: row("Observation", "a", version, &[version as u8]),
            expected: Expected::Any,
            index,
            template: None,
        };
        store.put(Put { records: vec![new.clone()], ..Put::default() }).await.unwrap();
        let again = store.put(Put { records: vec![new], ..Put::default() }).await;
        assert!(matches!(again, Err(PutError::Conflict { .. })));
    }
    assert_eq!(store.read("Observation", "a").await.unwrap().unwrap().version, 4);
    for version in 1..=4 {
        assert_eq!(code_count(&store, &format!("v{version}")).await, u64::from(version == 4));
    }
    assert_eq!(store.patient_records("p", &["Observation"]).await.unwrap().rows.len(), 1);
}

pub(crate) async fn frames_are_kept_once_and_read_in_order(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let put = |frames: Vec<Frame>| store.put(Put { frames, ..Put::default() });
    let frames: Vec<Frame> = (1..=50).map(|counter| frame("ox1", counter, &counter.to_be_bytes())).collect();
    put(frames.iter().rev().cloned().collect()).await.unwrap();
    put(vec![frame("ox2", 7, b"another device")]).await.unwrap();
    put(frames.clone()).await.unwrap();
    let replayed = put(vec![frame("ox1", 51, b"good"), frame("ox1", 7, b"forged")]).await;
    assert_eq!(replayed, Err(PutError::FrameConflict { device: "ox1".into(), counter: 7 }));

    let of = FrameFilter::Device("ox1".into());
    let query = FrameQuery { from: TimeMs(100), to: TimeMs(400), limit: 7, ..FrameQuery::of(of) };
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = store.frames(FrameQuery { after, ..query.clone() }).await.unwrap();
        read.extend(page.frames);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, frames[9..39]);
    let of = FrameFilter::Patient("p".into());
    let all = store.frames(FrameQuery::of(of)).await.unwrap();
    assert_eq!((all.frames.len(), all.next, all.malformed), (51, None, 0));
    assert_eq!(store.frame(frames[3].digest).await.unwrap().as_ref(), Some(&frames[3]));
    assert_eq!(store.frame(Digest([0; 32])).await.unwrap(), None);
}

/// All frames of a query, a page after the other, and where each ended.
async fn all_frames(store: &Store, query: &FrameQuery) -> (Vec<(String, u64)>, Vec<FrameCursor>) {
    let (mut found, mut ends, mut after) = (Vec::new(), Vec::new(), query.after);
    loop {
        let page = store.frames(FrameQuery { after, ..query.clone() }).await.unwrap();
        assert!(page.frames.len() <= query.limit && page.frames.len() == page.ends.len());
        found.extend(page.frames.into_iter().map(|frame| (frame.device, frame.counter)));
        ends.extend(page.ends);
        after = page.next;
        if after.is_none() {
            return (found, ends);
        }
    }
}

pub(crate) async fn frames_of_some_kinds_are_found_from_both_ends_of_time(backend: &impl Backend) {
    const FROM: u64 = 100;
    const TO: u64 = 400;
    const WIDER: u64 = 55;
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    // Two devices at the same moments, one of another patient; a heartbeat is of no kind, a frame from before of every one.
    let mut frames = Vec::new();
    for counter in 1..=50 {
        frames.push(frame("ox1", counter, &counter.to_be_bytes()));
        frames.push(frame("ox2", counter, &[&[2], counter.to_be_bytes().as_slice()].concat()));
        frames.push(Frame {
            patient: "q".into(),
            ..frame("ox3", counter, &[&[3], counter.to_be_bytes().as_slice()].concat())
        });
    }
    frames[30].kind = 0;
    frames[60].kind = -1;
    store.put(Put { frames: frames.clone(), ..Put::default() }).await.unwrap();
    for (any, wide) in [(1, 0), (2, 0), (1 | 4, 4), (2 | 4, 2), (i64::MAX, i64::MIN), (8, 0)] {
        for newest_first in [false, true] {
            let of = FrameFilter::Kinds("p".into(), Kinds { any, wide, wider_ms: WIDER });
            let (from, to) = (TimeMs(FROM), TimeMs(TO));
            let query = FrameQuery { from, to, newest_first, limit: 7, ..FrameQuery::of(of) };
            let is_meant = |frame: &&Frame| {
                let wider = if frame.kind & wide == 0 { 0 } else { WIDER };
                let range = FROM.saturating_sub(wider)..TO + wider;
                frame.patient == "p" && frame.kind & any != 0 && range.contains(&frame.measured_at.0)
            };
            let mut expected: Vec<(TimeMs, String, u64)> =
                frames.iter().filter(is_meant).map(|f| (f.measured_at, f.device.clone(), f.counter)).collect();
            expected.sort();
            if newest_first {
                expected.reverse();
            }
            let expected: Vec<(String, u64)> =
                expected.into_iter().map(|(_, device, counter)| (device, counter)).collect();
            let (found, ends) = all_frames(&store, &query).await;
            assert_eq!(found, expected, "{any} {wide} {newest_first}");
            // From any place on: what comes after it, and with itself as the next.
            for (at, end) in ends.iter().enumerate() {
                let end: FrameCursor = end.to_string().parse().unwrap();
                let rest = FrameQuery { after: Some(end), ..query.clone() };
                assert_eq!(all_frames(&store, &rest).await.0, expected[at + 1..]);
                let with = FrameQuery { after: Some(end.just_before(newest_first)), limit: 1, ..query.clone() };
                assert_eq!(store.frames(with).await.unwrap().ends, [end]);
            }
        }
    }
    assert!("1".parse::<FrameCursor>().is_err() && "x_1".parse::<FrameCursor>().is_err());
}

pub(crate) async fn digests_of_frames_are_found_between_counters(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let frames: Vec<Frame> =
        [1, 2, 3, 5, 8, 13].map(|counter: u64| frame("ox1", counter, &counter.to_be_bytes())).into();
    let others = vec![frame("ox2", 4, b"another device"), frame("ox2", 21, b"another device, later")];
    store.put(Put { frames: [frames.clone(), others].concat(), ..Put::default() }).await.unwrap();
    for (first, last, limit, expected) in [
        (0, u64::MAX, 100, 0..6),
        (2, 8, 100, 1..5),
        (4, 7, 100, 3..4),
        (6, 7, 100, 0..0),
        (9, 2, 100, 0..0),
        (1, 13, 2, 0..2),
        (1, 13, 0, 0..0),
    ] {
        let expected: Vec<(u64, Digest)> = frames[expected].iter().map(|frame| (frame.counter, frame.digest)).collect();
        let found = store.frame_digests("ox1", first, last, limit).await.unwrap();
        assert_eq!(found, expected, "{first} to {last}, at most {limit}");
    }
    assert_eq!(store.last_frame("ox1").await.unwrap().as_ref(), frames.last());
    assert_eq!(store.last_frame("ox2").await.unwrap().map(|frame| frame.counter), Some(21));
    assert_eq!(store.last_frame("ox3").await.unwrap(), None);
}

pub(crate) async fn every_frame_has_a_place_and_is_filed_anew_by_it(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let of = |device: &str, count: u64| -> Vec<Frame> {
        let bytes = |counter: u64| [device.as_bytes(), &counter.to_be_bytes()].concat();
        (1..=count).map(|counter| frame(device, counter, &bytes(counter))).collect()
    };
    let (one, other) = (of("ox1", 40), of("ox2", 9));
    let put = |removals: Vec<Removal>, frames: Vec<Frame>| store.put(Put { removals, frames, ..Put::default() });
    put(vec![], other.iter().chain(&one).rev().cloned().collect()).await.unwrap();
    // All places, a few at a time.
    for limit in [1, 7, 1_000] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = store.frame_places(after.clone(), limit).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(last.clone());
            seen.extend(page.into_iter().map(|at| (at.device().unwrap().to_owned(), at.counter().unwrap(), at.place)));
        }
        let expected: Vec<_> = one.iter().chain(&other).map(|frame| (frame.device.clone(), frame.counter)).collect();
        assert_eq!(seen.iter().map(|(device, counter, _)| (device.clone(), *counter)).collect::<Vec<_>>(), expected);
        for (device, counter, place) in seen {
            let found = store.filed_frame(place).await.unwrap().unwrap();
            assert_eq!((found.place, found.device, found.counter), (place, Some(device), Some(counter)));
        }
    }
    assert_eq!(store.filed_frame(-1).await.unwrap(), None);
    // Between counters, from any place on.
    let found = store.filed_frames("ox1", (11, None), 20, 4).await.unwrap();
    assert_eq!(found.iter().filter_map(|frame| frame.counter).collect::<Vec<_>>(), [11, 12, 13, 14]);
    let last = found.last().unwrap();
    let rest = store.filed_frames("ox1", (14, Some(last.place)), 20, 100).await.unwrap();
    assert_eq!(rest.iter().filter_map(|frame| frame.counter).collect::<Vec<_>>(), (15..=20).collect::<Vec<_>>());
    let whole = one[10].clone();
    let expected = FiledFrame {
        place: found[0].place,
        device: Some(whole.device),
        counter: Some(whole.counter),
        binding: Some(whole.binding),
        patient: Some(whole.patient),
        received_at: Some(whole.received_at),
        measured_at: Some(whole.measured_at),
        kind: Some(whole.kind),
        digest: Some(whole.digest),
        bytes: Some(whole.bytes),
    };
    assert_eq!(found[0], expected);
    assert!(store.filed_frames("ox3", (0, None), u64::MAX, 100).await.unwrap().is_empty());
    // Two that stand in each other's place change places; what was to be inserted and was not takes nothing out.
    let swapped = |counter: u64, with: u64| Frame { counter: with, ..one[counter as usize - 1].clone() };
    let remove = |at: usize| Removal::Frame(found[at].place);
    let taken = put(vec![remove(0)], vec![swapped(11, 30)]).await;
    assert_eq!(taken, Err(PutError::FrameConflict { device: "ox1".into(), counter: 30 }));
    assert_eq!(store.filed_frame(found[0].place).await.unwrap().as_ref(), Some(&found[0]));
    put(vec![remove(0), remove(1)], vec![swapped(11, 12), swapped(12, 11)]).await.unwrap();
    let digests = store.frame_digests("ox1", 10, 13, 10).await.unwrap();
    let digest = |at: usize| one[at].digest;
    assert_eq!(digests, [(10, digest(9)), (11, digest(11)), (12, digest(10)), (13, digest(12))]);
    // Taken out for good; one that is not there is no error.
    put(vec![remove(2), remove(2), remove(0)], vec![]).await.unwrap();
    assert_eq!(store.frame(digest(12)).await.unwrap(), None);
    assert_eq!(store.frame_digests("ox1", 1, 40, 100).await.unwrap().len(), 39);
}

pub(crate) async fn of_a_frame_that_is_let_go_its_digest_stays_until_the_patient_is_erased(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let frames: Vec<Frame> = (1..=9).map(|counter| frame("ox1", counter, &counter.to_be_bytes())).collect();
    store.put(Put { frames: frames.clone(), ..Put::default() }).await.unwrap();
    let found = store.filed_frames("ox1", (1, None), 6, 100).await.unwrap();
    let removals: Vec<Removal> = found.iter().map(|frame| Removal::LetGo(frame.place)).collect();
    // Twice is as once: a process may end between the write and its answer.
    for _ in 0..2 {
        store.put(Put { removals: removals.clone(), ..Put::default() }).await.unwrap();
    }
    assert_eq!(store.frame_digests("ox1", 1, 9, 100).await.unwrap().len(), 3);
    for frame in &frames {
        let Frame { digest, binding, counter, patient, .. } = frame.clone();
        let trace = Trace { digest, binding, counter, patient };
        let is_gone = counter <= 6;
        assert_eq!(store.frame(digest).await.unwrap().is_none(), is_gone);
        assert_eq!(store.trace(digest).await.unwrap(), is_gone.then_some(trace));
    }
    let of = |first: u64, last: u64| (first..=last).map(|at| (at, frames[at as usize - 1].digest)).collect::<Vec<_>>();
    let binding = frames[0].binding;
    assert_eq!(store.traces(binding, 2, 8, 100).await.unwrap(), of(2, 6));
    assert_eq!(store.traces(binding, 1, 6, 4).await.unwrap(), of(1, 4));
    assert_eq!(store.traces(Id16([0xee; 16]), 1, 6, 4).await.unwrap(), []);
    store.erase(&frames[0].patient, &[]).await.unwrap();
    assert_eq!(store.trace(frames[0].digest).await.unwrap(), None);
    assert_eq!(store.traces(binding, 1, 9, 100).await.unwrap(), []);
}

pub(crate) async fn attachments_and_keys_take_the_place_of_earlier_copies(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let digest = Digest([5; 32]);
    for bytes in [b"damaged".as_slice(), b"good", b"good"] {
        let attachments = vec![Attachment { digest, bytes: bytes.to_vec() }];
        let key = |org: &str| WrappedKey { patient: "p".into(), org: org.parse().unwrap(), bytes: bytes.to_vec() };
        let wrapped_keys = vec![key("hospital"), key("ems")];
        store.put(Put { attachments, wrapped_keys, ..Put::default() }).await.unwrap();
    }
    assert_eq!(store.attachment(digest).await.unwrap().as_deref(), Some(b"good".as_slice()));
    assert_eq!(store.attachment(Digest([6; 32])).await.unwrap(), None);
    let keys = store.wrapped_keys("p").await.unwrap();
    assert_eq!(
        keys.iter().map(|key| (key.org.as_str(), key.bytes.as_slice())).collect::<Vec<_>>(),
        [("ems", b"good".as_slice()), ("hospital", b"good")]
    );
}

pub(crate) async fn entries_stand_where_the_answer_says(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let puts = (0..40_u8).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let new = row("Observation", &format!("o{i}"), 1, b"x");
            let entries = vec![entry(2 * i, Some(new.key())), entry(2 * i + 1, None)];
            let committed = store.put(Put { entries, ..create(new, vec![]) }).await.unwrap();
            (i, committed)
        })
    });
    for put in puts.collect::<Vec<_>>() {
        let (i, Committed { entries }) = put.await.unwrap();
        assert_eq!(entries.iter().map(|place| place.id.0[0]).collect::<Vec<_>>(), [2 * i, 2 * i + 1]);
        for place in entries {
            assert_eq!(store.entry(place.id).await.unwrap().as_ref(), Some(&place));
            let submission = &store.submissions_since(&place.org, place.lane, place.seq, 1).await.unwrap()[0];
            let index = usize::try_from(place.seq - submission.first_seq).unwrap();
            assert_eq!(submission.bytes[index], place.id.0[0]);
        }
    }
    let ems = "ems".parse().unwrap();
    assert_eq!(store.lanes().await.unwrap(), [(ems, 1, 80)]);
    assert_eq!(store.submissions_since(&"ems".parse().unwrap(), 1, 81, 10).await.unwrap(), []);
    assert_eq!(store.submissions_since(&"ems".parse().unwrap(), 2, 1, 10).await.unwrap(), []);
    let first = store.submissions_since(&"ems".parse().unwrap(), 1, 0, PAGE_MAX).await.unwrap();
    assert_eq!(first[0].first_seq, 1);
}

/// Works, refuses, or claims a wrong number of entries, in turn.
struct Moody {
    calls: u32,
    inner: Numbering,
    aborted: Arc<AtomicU64>,
}
impl Seal for Moody {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        self.calls += 1;
        match self.calls % 3 {
            1 => self.inner.seal(entries),
            2 => Err(SealError("no key".into())),
            _ => self.inner.seal(&[entries, entries].concat()),
        }
    }
    fn abort(&mut self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
        self.inner.abort();
    }
    fn committed(&mut self, _: &[SealedSubmission]) {}
}

pub(crate) async fn a_group_that_cannot_be_sealed_is_not_written(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let aborted = Arc::new(AtomicU64::new(0));
    let seal = Moody { calls: 0, inner: Numbering::default(), aborted: Arc::clone(&aborted) };
    let store = backend.open(folder.path(), "ems", Box::new(seal));
    for i in 1..=9_u8 {
        let new = row("Observation", &format!("o{i}"), 1, b"x");
        let put = Put { entries: vec![entry(i, None)], ..create(new, vec![token("code", "c")]) };
        let answer = store.put(put).await;
        if i % 3 == 1 {
            assert_eq!(answer.unwrap().entries[0].seq, u64::from(i / 3) + 1, "numbers taken back are used again");
        } else {
            assert!(matches!(answer, Err(PutError::Sealing(_))), "{answer:?}");
            assert_eq!(store.read("Observation", &format!("o{i}")).await.unwrap(), None);
        }
    }
    assert_eq!(code_count(&store, "c").await, 3);
    assert_eq!(aborted.load(Ordering::Relaxed), 3, "only what was sealed is taken back");
    // A write without entries needs no seal.
    drop(store);
    let folder = tempdir().unwrap();
    let store = backend.open(folder.path(), "ems", Box::new(Refusing));
    store.put(create(row("Observation", "o", 1, b"x"), vec![])).await.unwrap();
}

/// Seals when it is told to.
struct Waiting {
    reached: Sender<()>,
    go: Receiver<()>,
    inner: Numbering,
}
impl Seal for Waiting {
    fn seal(&mut self, entries: &[Vec<u8>]) -> Result<Vec<SealedSubmission>, SealError> {
        let _ = self.reached.send(());
        let _ = self.go.recv();
        self.inner.seal(entries)
    }
    fn abort(&mut self) {
        self.inner.abort();
    }
    fn committed(&mut self, _: &[SealedSubmission]) {}
}

pub(crate) async fn a_full_queue_is_busy_and_a_put_too_large_is_refused(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let ((reached, is_reached), (go, may_go)) = (channel(), channel());
    let store =
        backend.open(folder.path(), "ems", Box::new(Waiting { reached, go: may_go, inner: Numbering::default() }));
    let spawn = |i: usize| {
        let store = store.clone();
        let entries = if i == 0 { vec![entry(0, None)] } else { vec![] };
        let put = Put { entries, ..create(row("Observation", &format!("o{i}"), 1, b"x"), vec![]) };
        tokio::spawn(async move { store.put(put).await })
    };
    let first = spawn(0);
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
    // The writer waits with the first one in its hands.
    let waiting: Vec<_> = (1..=QUEUE_LEN_MAX + 20).map(spawn).collect();
    let mut busy = 0;
    let mut later = Vec::new();
    for put in waiting {
        // Refused ones end at once, the others wait for the writer.
        tokio::task::yield_now().await;
        later.push(put);
    }
    while later.iter().filter(|put| put.is_finished()).count() < 20 {
        tokio::task::yield_now().await;
    }
    // A read does not wait for the writer.
    assert_eq!(store.read("Observation", "o0").await.unwrap(), None);
    drop(go);
    first.await.unwrap().unwrap();
    for put in later {
        match put.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, PutError::Busy);
                busy += 1;
            }
        }
    }
    assert_eq!(busy, 20);
    assert_eq!(store.search(Search::of("Observation")).await.unwrap().total, Some(QUEUE_LEN_MAX as u64 + 1));

    let large = create(row("Observation", "large", 1, &vec![0; RECORD_BYTES_MAX + 1]), vec![]);
    assert!(matches!(store.put(large).await, Err(PutError::TooLarge { max: RECORD_BYTES_MAX, .. })));
    let name = "x".repeat(65);
    assert!(matches!(store.put(create(row("Observation", &name, 1, b""), vec![])).await, Err(PutError::Invalid(_))));
}

pub(crate) async fn a_closed_store_takes_no_more_writes_and_opens_again(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    for round in 0..5 {
        let store = backend.store(folder.path());
        store.put(create(row("Observation", &format!("o{round}"), 1, b"x"), vec![])).await.unwrap();
        store.close().await;
        assert_eq!(store.put(create(row("Observation", "late", 1, b"x"), vec![])).await, Err(PutError::Stopped));
        assert_eq!(store.counts().await.unwrap(), [("Observation".to_owned(), round + 1)], "reads go on");
        store.close().await;
    }
}

pub(crate) async fn what_is_not_final_is_given_back_at_opening(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    for i in 1..=6 {
        store.put(Put { entries: vec![entry(i, None)], ..Put::default() }).await.unwrap();
    }
    store.settle(1, 4).await.unwrap();
    store.close().await;
    let opened = Store::open(backend.config(folder.path(), "ems")).unwrap();
    assert_eq!(
        opened.kept.iter().map(|kept| (kept.first_seq, kept.bytes.clone())).collect::<Vec<_>>(),
        [(5, vec![5]), (6, vec![6])]
    );
    assert_eq!(opened.lanes, [store::LaneEnd { lane: 1, last_seq: 6 }]);
    let filed = opened.reader().unwrap().submissions_since(&"ems".parse().unwrap(), 1, 1, 10).await.unwrap();
    assert_eq!(filed.len(), 6);
}

pub(crate) async fn a_patients_records_are_one_set(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    for i in 0..30 {
        let mut new = row(["Observation", "Condition", "Consent"][i % 3], &format!("r{i}"), 1, b"x");
        new.patient = [Some("p".to_owned()), Some("q".to_owned()), None, Some("p".to_owned()), None][i % 5].clone();
        store.put(create(new, vec![])).await.unwrap();
    }
    store.put(update(row("Observation", "r0", 2, b"y"))).await.unwrap();
    let set = store.patient_records("p", &[]).await.unwrap();
    assert_eq!(set.rows.len(), 12);
    assert_eq!(set.rows.iter().filter(|row| row.id == "r0").map(|row| row.version).collect::<Vec<_>>(), [2]);
    let conditions = store.patient_records("p", &["Condition", "Consent"]).await.unwrap();
    assert_eq!(conditions.rows.len(), set.rows.iter().filter(|row| row.rtype != "Observation").count());
    assert_eq!(store.patient_records("r", &[]).await.unwrap(), store::Rows::default());
    // What is decided over a record comes with it.
    let (row, beside) = store.read_beside("Observation", "r0", &["Consent"]).await.unwrap();
    assert_eq!((row.unwrap().version, beside), (2, store.patient_records("p", &["Consent"]).await.unwrap()));
    assert!(!store.patient_records("p", &["Consent"]).await.unwrap().rows.is_empty());
    let (of_nobody, beside) = store.read_beside("Consent", "r2", &["Consent"]).await.unwrap();
    assert_eq!((of_nobody.unwrap().patient, beside), (None, store::Rows::default()));
    assert_eq!(store.read_beside("Consent", "none", &[]).await.unwrap(), (None, store::Rows::default()));
}

pub(crate) async fn a_sweep_sees_every_version_once(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let mut written = Vec::new();
    for i in 0..25 {
        let id = format!("r{}", i % 10);
        let version = i / 10 + 1;
        let new = row("Observation", &id, version, &[i as u8]);
        written.push(new.clone());
        store.put(if version == 1 { create(new, vec![]) } else { update(new) }).await.unwrap();
    }
    let mut swept = Vec::new();
    let mut place = Some(0);
    let mut last = 0;
    while let Some(after) = place {
        let step = store.rows(after, 7).await.unwrap();
        swept.extend(step.found.rows);
        (place, last) = (step.next, step.last);
    }
    assert_eq!(swept, written);
    assert_eq!(store.rows(last, 7).await.unwrap().found.rows, []);
    store.put(create(row("Observation", "later", 1, b"x"), vec![])).await.unwrap();
    assert_eq!(store.rows(last, 7).await.unwrap().found.rows[0].id, "later");
}

pub(crate) async fn a_row_taken_out_gives_way_to_the_one_below(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let coded = |code: &str| {
        format!(r#"{{"resourceType":"Observation","code":{{"coding":[{{"system":"s","code":"{code}"}}]}}}}"#)
    };
    for version in 1..=3 {
        let row = row("Observation", "a", version, coded(&format!("v{version}")).as_bytes());
        let index = vec![token("code", &format!("v{version}"))];
        store
            .put(Put {
                records: vec![NewVersion { row, expected: Expected::Any, index, template: None }],
                ..Put::default()
            })
            .await
            .unwrap();
    }
    let key = |version| Removal::Version(VersionKey { rtype: "Observation".into(), id: "a".into(), version });
    store.put(Put { removals: vec![key(3), key(9)], ..Put::default() }).await.unwrap();
    assert_eq!(store.read("Observation", "a").await.unwrap().unwrap().version, 2);
    assert_eq!((code_count(&store, "v3").await, code_count(&store, "v2").await), (0, 1));
    assert_eq!(store.patient_records("p", &[]).await.unwrap().rows.len(), 1);

    // Replaced: out and in again in one write.
    let good = row("Observation", "a", 2, b"good");
    let records = vec![NewVersion {
        row: good.clone(),
        expected: Expected::Any,
        index: vec![token("code", "good")],
        template: None,
    }];
    store.put(Put { removals: vec![key(2)], records, ..Put::default() }).await.unwrap();
    assert_eq!(store.read("Observation", "a").await.unwrap(), Some(good));
    assert_eq!(
        (code_count(&store, "v1").await, code_count(&store, "v2").await, code_count(&store, "good").await),
        (0, 0, 1)
    );

    // A write that fails takes nothing out.
    let failing = Put { removals: vec![key(2)], ..update(row("Observation", "b", 7, b"x")) };
    assert!(store.put(failing).await.is_err());
    assert_eq!(code_count(&store, "good").await, 1);
    store.put(Put { removals: vec![key(1), key(2)], ..Put::default() }).await.unwrap();
    assert_eq!(store.read("Observation", "a").await.unwrap(), None);
}

pub(crate) async fn an_erased_patient_is_gone_from_every_table_and_others_stay(backend: &impl Backend) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    let marked = |kind: &str| format!("{{\"erase-me\":\"{kind} {}\"}}", "erase-me ".repeat(900));
    let mut kept = Vec::new();
    for number in 0..60_u8 {
        let (patient, bytes) = if number % 2 == 0 { ("p", marked("row")) } else { ("q", "{}".repeat(300)) };
        for version in 1..=2 {
            let mut row = row("Observation", &format!("o{number}"), version, bytes.as_bytes());
            (row.patient, row.entry) = (Some(patient.into()), Id16([number; 16]));
            if patient == "q" {
                kept.push(row.clone());
            }
            let index =
                vec![token("code", &format!("{patient}-{}", if patient == "p" { "erase-me" } else { "stays" }))];
            let expected = Expected::Any;
            let entries = vec![entry(number, Some(row.key()))];
            store
                .put(Put {
                    records: vec![NewVersion { row, expected, index, template: None }],
                    entries,
                    ..Put::default()
                })
                .await
                .unwrap();
        }
    }
    let mut own = row("Patient", "p", 1, marked("patient").as_bytes());
    own.patient = None;
    let attachments = ["first", "second"].map(|name| marked(name).into_bytes());
    let attachments = attachments.map(|bytes| Attachment { digest: sha256(&[&bytes]), bytes });
    let keys = ["p", "q"].map(|patient| WrappedKey {
        patient: patient.into(),
        org: "ems".parse().unwrap(),
        bytes: marked(patient).into(),
    });
    let frames = (1..=20).map(|counter| frame("ox1", counter, marked("frame").as_bytes())).collect();
    let mut keys = Vec::from(keys);
    keys[1].bytes = b"q".to_vec();
    let put = Put { frames, attachments: attachments.to_vec(), wrapped_keys: keys.clone(), ..create(own, vec![]) };
    store.put(put).await.unwrap();

    let digests: Vec<Digest> = attachments.iter().map(|attachment| attachment.digest).collect();
    let erased = store.erase("p", &digests).await.unwrap();
    assert_eq!(erased, 60 + 1 + 20 + 1 + 2);
    assert_eq!(store.erase("p", &digests).await.unwrap(), 0);

    assert_eq!(store.patient_records("p", &[]).await.unwrap().rows, []);
    assert_eq!(store.read("Patient", "p").await.unwrap(), None);
    assert_eq!((code_count(&store, "p-erase-me").await, code_count(&store, "q-stays").await), (0, 30));
    assert_eq!(store.wrapped_keys("p").await.unwrap(), []);
    assert_eq!(store.wrapped_keys("q").await.unwrap(), keys[1..]);
    assert_eq!(store.attachment(digests[0]).await.unwrap(), None);
    assert_eq!(store.frame(sha256(&[marked("frame").as_bytes()])).await.unwrap(), None);
    assert_eq!(store.rows(0, 1_000).await.unwrap().found.rows, kept);
    // The entries stand where they stood, without the names of the records.
    assert_eq!(store.entry(Id16([0; 16])).await.unwrap().unwrap().record, None);
    assert_eq!(store.entry(Id16([1; 16])).await.unwrap().unwrap().record, Some(kept[1].key()));

    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let left = bytes.windows(8).filter(|window| window == b"erase-me").count();
        assert_eq!(left, 0, "{} still holds what was erased", path.display());
    }
}
