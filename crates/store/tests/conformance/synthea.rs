//! Real records: Synthea's 57 patients, stored by their extracted values and found as a plain filter over the JSON finds them.

use crate::{
    Backend, Sqlite,
    postgres::Postgres,
    suite::{create, row},
};
use flate2::read::GzDecoder;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};
use store::{Criterion, NewVersion, Put, Search, Store, extract};
use tempfile::tempdir;

/// The bundles, one for each patient.
fn bundles() -> Box<dyn Iterator<Item = Value>> {
    let shared = env::var_os("VITALTRACE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let mut files = Vec::new();
    for folder in ["fhir/synthea/2019-smart", "fhir/synthea/2021-blaze"] {
        let folder = shared.join(folder);
        let Ok(found) = fs::read_dir(&folder) else {
            println!("SKIPPED: {} not found; a generated bundle is used", folder.display());
            return Box::new([generated()].into_iter());
        };
        files.extend(
            found.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|end| end == "gz")),
        );
    }
    files.sort();
    let read = |path: PathBuf| {
        let mut text = String::new();
        GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    Box::new(files.into_iter().map(read))
}

fn generated() -> Value {
    let observation = |number: u32| {
        serde_json::json!({"resource": {
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("urn:uuid:p{}", number % 3)},
            "code": {"coding": [{"system": "http://loinc.org", "code": format!("{}-1", number % 7)}]},
            "effectiveDateTime": format!("20{:02}-03-01T10:00:00+01:00", number % 20)}})
    };
    serde_json::json!({"resourceType": "Bundle", "entry": (0..100).map(observation).collect::<Vec<_>>()})
}

async fn ids(store: &Store, search: Search) -> BTreeSet<String> {
    let page = store.search(Search { count: 1_000, ..search }).await.unwrap();
    assert_eq!(page.total, Some(page.found.rows.len() as u64));
    page.found.rows.into_iter().map(|row| row.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_find_real_records_as_a_plain_filter_does() {
    let on_file = found_as_a_plain_filter_finds(&Sqlite).await;
    if let Some(postgres) = Postgres::shared() {
        assert_eq!(found_as_a_plain_filter_finds(&postgres).await, on_file);
    }
}

/// How many records and searches there were.
async fn found_as_a_plain_filter_finds(backend: &impl Backend) -> (usize, usize) {
    let folder = tempdir().unwrap();
    let store = backend.store(folder.path());
    // What a plain filter finds: by patient and code, by patient and year.
    let mut by_code: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut by_year: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut all = 0;
    for bundle in bundles() {
        let mut records = Vec::new();
        for entry in bundle["entry"].as_array().unwrap() {
            let resource = &entry["resource"];
            let rtype = resource["resourceType"].as_str().unwrap();
            all += 1;
            let id = format!("r{all}");
            let bytes = serde_json::to_vec(resource).unwrap();
            let put = create(row(rtype, &id, 1, &bytes), extract(rtype, resource));
            records.extend::<Vec<NewVersion>>(put.records);
            if rtype == "Observation" {
                let subject = resource["subject"]["reference"].as_str().unwrap().to_owned();
                for coding in resource["code"]["coding"].as_array().unwrap() {
                    let code = coding["code"].as_str().unwrap().to_owned();
                    by_code.entry((subject.clone(), code)).or_default().insert(id.clone());
                }
                // None before 1970.
                if let Ok(time) = record::TimeMs::from_instant(resource["effectiveDateTime"].as_str().unwrap()) {
                    by_year.entry((subject, time.to_instant()[..4].to_owned())).or_default().insert(id);
                }
            }
        }
        store.put(Put { records, ..Put::default() }).await.unwrap();
    }
    store.optimize().await.unwrap();
    assert!(!by_code.is_empty());
    let subject = |patient: &str| Criterion::parse("Observation", "subject", patient).unwrap();
    for ((patient, code), expected) in &by_code {
        let search = Search::of("Observation").with(subject(patient)).with(Criterion::code("code", code));
        assert_eq!(&ids(&store, search).await, expected, "{patient} {code}");
    }
    for ((patient, year), expected) in &by_year {
        let date = Criterion::parse("Observation", "date", year).unwrap();
        assert_eq!(
            &ids(&store, Search::of("Observation").with(subject(patient)).with(date)).await,
            expected,
            "{patient} {year}"
        );
    }
    println!("{all} resources, {} searches", by_code.len() + by_year.len());
    (all, by_code.len() + by_year.len())
}
