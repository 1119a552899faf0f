//! Bundles as other systems write them, loaded by `vitaltrace load` and found again by search and summary.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; what is skipped is said")]

use crate::consortium::{self, Consortium, client::Client, good, vitaltrace};
use flate2::read::GzDecoder;
use record::TimeMs;
use serde_json::{Value, json};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const LOINC: &str = "http://loinc.org";

/// Two patients of the published set: one with six allergies, one without any.
const PUBLISHED: [&str; 2] =
    ["b3664f86-0ce9-4a2c-ae85-4d390d438512.json.gz", "4004a424-c33b-6ced-23c3-c1318e45c419.json.gz"];

#[tokio::test(flavor = "multi_thread")]
async fn bundles_of_our_own_are_loaded_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let files = generated(folder.path());
    check(&files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_bundles_are_loaded_and_found_again() {
    let shared = std::env::var_os("VITALTRACE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let folder = shared.join("fhir/synthea/2021-blaze");
    let Ok(listing) = fs::read_dir(&folder) else {
        println!("SKIPPED: {} not found", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = listing.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("0-") || PUBLISHED.contains(&name.as_ref())
    });
    assert_eq!(files.len(), 4, "{files:?}");
    check(&files).await;
}

/// A load was begun anew after an interruption, and what it had created stood there twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_interrupted_goes_on_where_it_was() {
    const LINES: usize = 120;
    let people = [("mercy-hospital", "doctor", "doctor")];
    let consortium = Consortium::running(&people).await;
    let config = consortium.node("mercy-hospital").dir.clone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.ndjson");
    let mut lines = vec![json!({"resourceType": "Patient", "id": "exported", "gender": "unknown"})];
    lines.extend((0..LINES).map(|n| {
        json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/exported"},
            "code": {"coding": [{"system": LOINC, "code": "8867-4"}]}, "valueQuantity": {"value": n}
        })
    }));
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&file, text.join("\n")).unwrap();

    let load = || {
        let mut load = Command::new(consortium::program());
        load.arg("load").arg("--config").arg(&config).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
        load.spawn().unwrap()
    };
    let progress = config.join("load.progress");
    let loaded =
        || fs::read_to_string(&progress).unwrap_or_default().lines().filter(|line| line.starts_with('<')).count();
    for at in [1, 20, 50, 90] {
        let mut process = load();
        while loaded() < at && process.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        println!("killed after {} pieces", loaded());
    }
    let said = good(load().wait_with_output().unwrap());
    assert!(said.contains("were loaded before the interruption"), "{said}");
    assert!(!progress.exists());

    let doctor = consortium.client("mercy-hospital", "doctor");
    let found = doctor.get("/fhir/Observation?patient=exported&_count=500").await.good().json();
    let mut values: Vec<u64> =
        resources(&found).iter().map(|resource| resource["valueQuantity"]["value"].as_u64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..LINES as u64).collect::<Vec<_>>(), "each once");
}

/// Loads the files, twice what may be loaded twice, and finds everything again.
async fn check(files: &[PathBuf]) {
    let consortium = Consortium::running(&[("mercy-hospital", "doctor", "doctor")]).await;
    let config = consortium.node("mercy-hospital").dir.display().to_string();
    let load = |files: &[PathBuf]| {
        let files = files.iter().map(|file| file.display().to_string());
        good(vitaltrace(["load".to_owned(), "--config".to_owned(), config.clone()].into_iter().chain(files)))
    };
    let bundles: Vec<Value> = files.iter().map(|file| read(file)).collect();
    let entries: usize = bundles.iter().map(|bundle| bundle["entry"].as_array().unwrap().len()).sum();
    let said = load(files);
    println!("{}", said.trim());
    assert_eq!(said.trim(), format!("{} files, {entries} entries, 0 of them there already", files.len()));

    // The hospitals are created on condition that they are not there.
    let hospitals = files.iter().position(|file| file.to_string_lossy().contains("hospitalInformation")).unwrap();
    let count = bundles[hospitals]["entry"].as_array().unwrap().len();
    assert_eq!(
        load(&files[hospitals..=hospitals]).trim(),
        format!("1 files, {count} entries, {count} of them there already")
    );

    let doctor = consortium.client("mercy-hospital", "doctor");
    for bundle in bundles.iter().filter(|bundle| resources(bundle).iter().any(|r| r["resourceType"] == "Patient")) {
        check_patient(&doctor, bundle).await;
    }
    consortium.settle().await;
    let audit = good(vitaltrace(["audit", "--full", "--json", "--config", &config]));
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(audit["findings"], json!([]));
    assert!(audit["rows"].as_u64().unwrap() as usize >= entries, "{audit}");
}

/// Finds a patient of a bundle by identifier, its observations by code and date, and its summary.
async fn check_patient(doctor: &Client, bundle: &Value) {
    let resources = resources(bundle);
    let of_type =
        |kind: &str| -> Vec<&Value> { resources.iter().copied().filter(|r| r["resourceType"] == kind).collect() };
    let identifier = &of_type("Patient")[0]["identifier"][0];
    let identifier = format!("{}|{}", identifier["system"].as_str().unwrap(), identifier["value"].as_str().unwrap());
    let found = matches(doctor, &format!("Patient?identifier={identifier}")).await;
    assert_eq!(found.len(), 1, "{identifier}");
    let id = found[0]["id"].as_str().unwrap();
    assert_eq!(found[0]["birthDate"], of_type("Patient")[0]["birthDate"]);

    let observations = of_type("Observation");
    let code_of = |observation: &Value| observation["code"]["coding"][0]["code"].as_str().unwrap().to_owned();
    let at = |observation: &Value| TimeMs::from_instant(observation["effectiveDateTime"].as_str().unwrap()).unwrap();
    let mut codes: Vec<String> = observations.iter().map(|o| code_of(o)).collect();
    codes.sort();
    codes.dedup();
    for code in &codes {
        let of_code: Vec<&&Value> = observations.iter().filter(|o| code_of(o) == *code).collect();
        let found = matches(doctor, &format!("Observation?patient={id}&code={LOINC}|{code}&_count=500")).await;
        assert_eq!(found.len(), of_code.len(), "observations with code {code}");
        let middle = at(of_code[of_code.len() / 2]);
        let later = of_code.iter().filter(|o| at(o) >= middle).count();
        let query = format!("Observation?patient={id}&code={LOINC}|{code}&date=ge{middle}&_count=500");
        assert_eq!(matches(doctor, &query).await.len(), later, "observations with code {code} from {middle} on");
    }

    let summary = doctor.get(&format!("/fhir/Patient/{id}/$summary")).await.good().json();
    assert_eq!((&summary["resourceType"], &summary["type"]), (&json!("Bundle"), &json!("document")));
    let composition = &summary["entry"][0]["resource"];
    assert_eq!(composition["resourceType"], "Composition");
    let sections = composition["section"].as_array().unwrap();
    let section = |code: &str| sections.iter().find(|s| s["code"]["coding"][0]["code"] == code).unwrap();
    let listed = |code: &str| section(code)["entry"].as_array().map_or(0, Vec::len);
    // LOINC codes of the sections: allergies, immunizations. Source: IPS 2.0, `Composition-uv-ips`.
    assert_eq!(listed("48765-2"), of_type("AllergyIntolerance").len());
    assert_eq!(listed("11369-6"), of_type("Immunization").len());
    if listed("48765-2") == 0 {
        assert_eq!(section("48765-2")["emptyReason"]["coding"][0]["code"], "nilknown", "{}", section("48765-2"));
    }
    println!("{} resources of a patient: {} codes, {} sections", resources.len(), codes.len(), sections.len());
}

async fn matches(client: &Client, query: &str) -> Vec<Value> {
    let found = client.get(&format!("/fhir/{query}")).await.good().json();
    resources(&found).into_iter().cloned().collect()
}

fn resources(bundle: &Value) -> Vec<&Value> {
    bundle["entry"]
        .as_array()
        .map(|entries| entries.iter().map(|entry| &entry["resource"]).collect())
        .unwrap_or_default()
}

fn read(path: &Path) -> Value {
    let mut bytes = fs::read(path).unwrap();
    if path.extension().is_some_and(|ending| ending == "gz") {
        let mut unpacked = Vec::new();
        GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).unwrap();
        bytes = unpacked;
    }
    serde_json::from_slice(&bytes).unwrap()
}

/// Bundles of the same form about people who do not exist: a hospital, a doctor, two patients.
fn generated(folder: &Path) -> Vec<PathBuf> {
    let conditional = |kind: &str, value: &str, resource: Value| {
        let mut resource = resource;
        resource["resourceType"] = json!(kind);
        resource["identifier"] = json!([{"system": "urn:test", "value": value}]);
        json!({"resource": resource, "request": {"method": "POST", "url": kind, "ifNoneExist": format!("identifier=urn:test|{value}")}})
    };
    let hospital = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        conditional("Organization", "mercy", json!({"active": true, "name": "Mercy"})),
        conditional("Location", "er", json!({"status": "active", "name": "Emergency room"})),
    ]});
    let doctor = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        conditional("Practitioner", "okafor", json!({"active": true, "name": [{"family": "Okafor"}]})),
    ]});
    let mut files = Vec::new();
    let bundles = [
        ("hospitalInformation.json", hospital),
        ("practitionerInformation.json", doctor),
        ("one.json", generated_patient("one", 2)),
        ("two.json", generated_patient("two", 0)),
    ];
    for (name, bundle) in bundles {
        let path = folder.join(name);
        fs::write(&path, serde_json::to_vec_pretty(&bundle).unwrap()).unwrap();
        files.push(path);
    }
    files
}

fn generated_patient(name: &str, allergies: usize) -> Value {
    let concept = |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}], "text": code});
    let person = format!("urn:uuid:{}", uuid::Uuid::new_v4());
    let subject = json!({"reference": person});
    let mut resources = vec![json!({
        "resourceType": "Patient", "identifier": [{"system": "urn:test", "value": name}], "name": [{"family": "Nobody", "given": [name]}],
        "birthDate": "1974-06-11", "managingOrganization": {"reference": "Organization?identifier=urn:test|mercy"}
    })];
    for n in 0..allergies {
        resources.push(json!({
            "resourceType": "AllergyIntolerance", "patient": subject, "criticality": "high",
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"),
            "code": concept("http://snomed.info/sct", ["91936005", "300916003"][n])
        }));
    }
    for n in 0..6 {
        resources.push(json!({
            "resourceType": "Observation", "status": "final", "subject": subject, "code": concept(LOINC, ["8867-4", "9279-1"][n % 2]),
            "effectiveDateTime": format!("2026-0{}-12T10:05:00+01:00", n + 1),
            "valueQuantity": {"value": 70 + n, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        }));
    }
    resources.push(json!({
        "resourceType": "Immunization", "status": "completed", "patient": subject, "occurrenceDateTime": "2025-10-20",
        "vaccineCode": concept("http://hl7.org/fhir/sid/cvx", "140")
    }));
    let entries: Vec<Value> = resources
        .into_iter()
        .enumerate()
        .map(|(n, resource)| {
            let full_url = if n == 0 { person.clone() } else { format!("urn:uuid:{}", uuid::Uuid::new_v4()) };
            json!({"fullUrl": full_url, "request": {"method": "POST", "url": resource["resourceType"]}, "resource": resource})
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}
