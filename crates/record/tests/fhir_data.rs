//! FHIR on data that others made: published examples, generated patients, files that must be refused.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the functions here are called by tests only")]

use record::{
    TimeMs,
    fhir::{
        Action, Answer, AuditEvent, AuditOutcome, Bundle, BundleKind, Completeness, Event, Interaction, Limits, Listed,
        Machine, Node, ParseError, Party, Plan, Problem, Resource, Section, Standing, Summary, User, check,
        rewrite_strings,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

/// The FHIR part of the shared test data, or none with a loud line.
fn data() -> Option<PathBuf> {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let fhir = root.join("fhir");
    if fhir.is_dir() {
        return Some(fhir);
    }
    println!("SKIPPED: FHIR test data at {} not found", fhir.display());
    None
}

/// Every JSON file under `folder`, unpacked, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".json.gz") {
                let mut bytes = Vec::new();
                flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
                found.push((name, bytes));
            } else if name.ends_with(".json") {
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[derive(Debug)]
enum Refusal {
    #[expect(dead_code, reason = "shown by Debug")]
    Parse(ParseError),
    Check(Vec<Problem>),
}

fn read(bytes: &[u8]) -> Result<Resource, Refusal> {
    let resource = Resource::parse(bytes, Limits::BUNDLE).map_err(Refusal::Parse)?;
    check(&resource).map_err(Refusal::Check)?;
    Ok(resource)
}

/// What is said about valid files: their names and the refusals.
fn refused(files: &[(String, Vec<u8>)]) -> Vec<String> {
    files.iter().filter_map(|(name, bytes)| read(bytes).err().map(|why| format!("{name}: {why:?}"))).collect()
}

#[test]
fn every_published_example_is_accepted() {
    let Some(data) = data() else { return };
    let files = files(&data.join("examples"));
    let refused = refused(&files);
    println!("{} examples, {} refused", files.len(), refused.len());
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(files.len() >= 480);
}

#[test]
fn every_synthea_bundle_is_accepted() {
    let Some(data) = data() else { return };
    let mut files = files(&data.join("synthea"));
    files.retain(|(name, _)| !name.ends_with("patients.json"));
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let start = Instant::now();
    let refused = refused(&files);
    let mb_per_s = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!("{} bundles, {} MB, parsed and checked at {mb_per_s:.0} MB/s", files.len(), bytes / 1_000_000);
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert_eq!(files.len(), 61);
}

#[test]
fn tricky_but_valid_files_are_accepted() {
    let Some(data) = data() else { return };
    let refused = refused(&files(&data.join("invalid/tricky-valid")));
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn every_single_fault_mutation_is_refused_at_its_place() {
    let Some(data) = data() else { return };
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join("invalid/mutations-index.json")).unwrap()).unwrap();
    let mut accepted = Vec::new();
    let mut elsewhere = Vec::new();
    for case in index.as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let at = case["at"].as_str().unwrap();
        match read(&fs::read(data.join("..").join("fhir").join(file)).unwrap()) {
            Ok(_) => accepted.push(file),
            Err(Refusal::Check(problems)) if problems.iter().any(|problem| problem.expression.starts_with(at)) => {}
            Err(Refusal::Check(problems)) => elsewhere.push(format!("{file} {at}: {problems:?}")),
            Err(Refusal::Parse(_)) => {}
        }
    }
    println!("{} mutations, accepted {accepted:?}", index.as_array().unwrap().len());
    assert!(accepted.is_empty(), "{accepted:?}");
    assert!(elsewhere.is_empty(), "{}", elsewhere.join("\n"));
}

#[test]
fn official_files_that_a_server_should_reject_are_rejected() {
    let Some(data) = data() else { return };
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join("invalid/official-index.json")).unwrap()).unwrap();
    let mut counts: BTreeMap<(String, bool), usize> = BTreeMap::new();
    let mut accepted = Vec::new();
    for case in index.as_array().unwrap() {
        let (Some(file), Some("reject"), Some(tier)) =
            (case["file"].as_str(), case["expected"].as_str(), case["tier"].as_str())
        else {
            continue;
        };
        let answer = read(&fs::read(data.join(file)).unwrap());
        *counts.entry((tier.to_owned(), answer.is_err())).or_default() += 1;
        if tier == "A" && answer.is_ok() {
            accepted.push(file.to_owned());
        }
    }
    println!("official (tier, refused): {counts:?}; tier A accepted: {accepted:?}");
    assert!(accepted.is_empty(), "{accepted:?}");
}

#[test]
fn stamping_changes_nothing_else() {
    let Some(data) = data() else { return };
    let at = TimeMs::from_instant("2026-11-21T10:15:30.123Z").unwrap();
    let mut count = 0;
    for (name, bytes) in files(&data.join("examples")) {
        let resource = Resource::parse(&bytes, Limits::BUNDLE).unwrap();
        let stamped = resource.stamped("new-id", 7, at);
        let again = Resource::parse(&stamped, Limits::BUNDLE).unwrap();
        assert_eq!(again.id().unwrap(), "new-id", "{name}");
        assert_eq!(again.version_id().unwrap(), "7", "{name}");
        assert_eq!(again.stamped("new-id", 7, at), stamped, "{name}: stamping twice is stamping once");
        let mut was = resource.value();
        let mut is = again.value();
        assert_eq!(is["meta"]["lastUpdated"], "2026-11-21T10:15:30.123Z", "{name}");
        for value in [&mut was, &mut is] {
            let object = value.as_object_mut().unwrap();
            object.remove("id");
            let mut meta = object.remove("meta").unwrap_or_else(|| serde_json::json!({}));
            let inner = meta.as_object_mut().unwrap();
            inner.remove("versionId");
            inner.remove("lastUpdated");
            object.insert("meta".to_owned(), meta);
        }
        assert_eq!(was, is, "{name}");
        let rewritten = rewrite_strings(resource.text(), Limits::BUNDLE, |_, text| Some(text.to_owned())).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&rewritten).unwrap(), resource.value(), "{name}");
        assert_eq!(rewrite_strings(resource.text(), Limits::BUNDLE, |_, _| None).unwrap(), resource.text(), "{name}");
        count += 1;
    }
    assert!(count >= 480);
}

#[test]
fn every_synthea_transaction_is_planned_without_a_dangling_reference() {
    let Some(data) = data() else { return };
    let (mut steps, mut questions, mut conditional) = (0, 0, 0);
    let mut ids = 0;
    for (name, bytes) in files(&data.join("synthea")) {
        if name.ends_with("patients.json") {
            continue;
        }
        let mut next_id = |_| {
            ids += 1;
            format!("id-{ids}")
        };
        let bundle = Bundle::parse(&bytes, Limits::BUNDLE).unwrap();
        let plans: Vec<Plan> = match bundle.kind {
            BundleKind::Transaction => vec![Plan::new(bundle, &mut next_id).unwrap()],
            BundleKind::Batch => {
                bundle.entries.into_iter().map(|entry| Plan::of_one(entry.unwrap(), &mut next_id).unwrap()).collect()
            }
        };
        for plan in plans {
            // The batches ask whether to create; the transactions look for what the batches created.
            let answer = |n| if name.contains("/0-") { Answer::None } else { Answer::One(format!("found-{n}")) };
            let answers: Vec<Answer> = (0..plan.questions().len()).map(answer).collect();
            questions += answers.len();
            for step in plan.resolve(&answers).unwrap() {
                conditional += usize::from(step.entry.if_none_exist.is_some());
                let Action::Create { resource, .. } = step.action else { panic!("{name}: {:?}", step.action) };
                for reference in resource.references() {
                    assert!(
                        !reference.text.starts_with("urn:") && !reference.text.contains('?'),
                        "{name}: {}",
                        reference.text
                    );
                }
                assert_eq!(check(&resource), Ok(()), "{name}");
                let nobodys = ["Organization", "Practitioner", "PractitionerRole", "Location", "Medication", "Patient"];
                if !nobodys.contains(&resource.rtype().as_str()) {
                    assert!(
                        resource.patient_reference().is_some_and(|patient| patient.starts_with("Patient/id-")),
                        "{name}"
                    );
                }
                steps += 1;
            }
        }
    }
    println!("{steps} entries planned, {questions} conditions, {conditional} conditional creates");
    assert_eq!((steps, conditional), (37_511, 583));
}

#[test]
fn the_reference_servers_transactions_are_planned() {
    let Some(data) = data() else { return };
    for (name, bytes) in files(&data.join("reference-server")) {
        if name.contains("group") {
            continue;
        }
        let bundle = Bundle::parse(&bytes, Limits::BUNDLE).unwrap();
        let entries = bundle.entries.len();
        let mut ids = 0;
        let plan = Plan::new(bundle, |_| {
            ids += 1;
            format!("id-{ids}")
        });
        let plan = plan.unwrap();
        let answers = vec![Answer::None; plan.questions().len()];
        let steps = plan.resolve(&answers).unwrap();
        assert_eq!(steps.len(), entries, "{name}");
        assert!(
            steps.iter().all(|step| matches!(step.action, Action::Create { .. } | Action::Update { .. })),
            "{name}"
        );
    }
}

#[test]
fn parsing_and_stamping_a_small_observation_is_timed() {
    let text = r#"{"resourceType":"Observation","meta":{"profile":["http://hl7.org/fhir/StructureDefinition/bp"]},"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"85354-9","display":"Blood Pressure"}],"text":"Blood Pressure"},"subject":{"reference":"Patient/e3ba24ed-aad7-86db-2646-4c510dfd7280"},"encounter":{"reference":"Encounter/0b1d2f3a-aad7-86db-2646-4c510dfd7280"},"effectiveDateTime":"2015-04-12T03:21:11-04:00","issued":"2015-04-12T03:21:11.283-04:00","component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4","display":"Diastolic Blood Pressure"}],"text":"Diastolic Blood Pressure"},"valueQuantity":{"value":88.10,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6","display":"Systolic Blood Pressure"}],"text":"Systolic Blood Pressure"},"valueQuantity":{"value":131,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}"#;
    let at = TimeMs::from_instant("2026-11-21T10:15:30.123Z").unwrap();
    let rounds = 20_000u32;
    let mut bytes = 0;
    check(&Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap()).unwrap();
    let start = Instant::now();
    for _ in 0..rounds {
        bytes += Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap().stamped("abc", 1, at).len();
    }
    let parse_us = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    let resource = Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap();
    let start = Instant::now();
    for _ in 0..rounds {
        check(&resource).unwrap();
    }
    let check_us = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    println!("{} bytes: parse and stamp {parse_us:.1} us, check {check_us:.1} us", text.len());
    assert!(bytes > text.len() * rounds as usize);
}

#[test]
fn audit_events_are_what_balp_publishes() {
    let Some(data) = data() else { return };
    let cases = [
        ("ReadServer", Interaction::Read),
        ("CreateClient", Interaction::Create),
        ("Patch", Interaction::Patch),
        ("DeleteClient", Interaction::Delete),
        ("QueryGetServer", Interaction::Search),
    ];
    for (name, interaction) in cases {
        let file = data.join(format!("examples/balp/AuditEvent-ex-auditBasic{name}.json"));
        let mut published: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let text = |pointer: &str| published.pointer(pointer).and_then(|text| text.as_str()).map(str::to_owned);
        let entities = published["entity"].as_array().unwrap();
        let request =
            entities.iter().find_map(|entity| entity.pointer("/what/identifier/value")?.as_str()).map(str::to_owned);
        let query = text("/entity/0/description").filter(|_| interaction == Interaction::Search);
        let record = text("/entity/0/what/reference");
        let listed: Vec<&str> = record.as_deref().into_iter().collect();
        let ours = AuditEvent {
            id: &text("/id").unwrap(),
            recorded: TimeMs::from_instant(&text("/recorded").unwrap()).unwrap(),
            event: Event::Done(interaction),
            outcome: AuditOutcome::Success,
            outcome_text: None,
            client: Machine {
                who: Party { display: text("/agent/0/who/display").as_deref(), ..Party::default() },
                address: &text("/agent/0/network/address").unwrap(),
            },
            server: Machine {
                who: Party { reference: Some("Device/ex-device"), ..Party::default() },
                address: "http://server.example.com/fhir",
            },
            user: Some(User {
                who: Party { display: Some("John Smith"), ..Party::default() },
                role: None,
                purposes: &[],
            }),
            site: "server.example.com",
            patient: Some("Patient/ex-patient"),
            data: &listed,
            query: query.as_deref(),
            request_id: request.as_deref(),
            confidentiality: None,
        }
        .to_json();
        let mut ours: serde_json::Value = serde_json::from_slice(&ours).unwrap();
        let by_client = published.pointer("/source/observer/reference").is_none();
        for value in [&mut published, &mut ours] {
            value.as_object_mut().unwrap().remove("meta");
            // Optional, and only in some of the examples. Those of a client name the client as the one who recorded it.
            value["source"].as_object_mut().unwrap().remove("site");
            if by_client {
                value.as_object_mut().unwrap().remove("source");
            }
            let entities = value["entity"].as_array_mut().unwrap();
            for entity in &mut *entities {
                entity.as_object_mut().unwrap().remove("description");
            }
            // BALP gives them no order.
            entities.sort_by_key(|entity| entity["what"].to_string());
        }
        assert_eq!(ours, published, "{name}");
    }
}

/// A denial, and broken glass, say what BALP's denial by consent says: what it is, who asked for which purpose, about whom, and that nothing was done.
#[test]
fn denials_have_the_shape_that_balp_publishes() {
    let Some(data) = data() else { return };
    let file = data.join("examples/balp/AuditEvent-ex-auditAuthZconsent-deny.json");
    let published: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for interaction in [Interaction::Read, Interaction::Search, Interaction::Create, Interaction::Operation] {
        let ours = AuditEvent {
            id: "a1",
            recorded: TimeMs::from_instant("2026-11-21T10:15:30.123Z").unwrap(),
            event: Event::Denied(interaction),
            outcome: AuditOutcome::Success,
            outcome_text: Some("Consent denied access to this user"),
            client: Machine { who: Party::default(), address: "127.0.0.1" },
            server: Machine { who: Party::default(), address: "mercy" },
            user: Some(User {
                who: Party { reference: Some("Practitioner/ex-practitioner"), ..Party::default() },
                role: Some("doctor"),
                purposes: &[record::Purpose::PatientRequest],
            }),
            site: "mercy",
            patient: Some("Patient/ex-patient"),
            data: &[],
            query: None,
            request_id: None,
            confidentiality: None,
        };
        let ours: serde_json::Value = serde_json::from_slice(&ours.to_json()).unwrap();
        let resource = Resource::parse(ours.to_string().as_bytes(), Limits::RESOURCE).unwrap();
        assert_eq!(check(&resource), Ok(()));
        for field in ["action", "outcome", "outcomeDesc"] {
            assert_eq!(ours[field], published[field], "{field}");
        }
        let code = |coding: &serde_json::Value| (coding["system"].clone(), coding["code"].clone());
        assert_eq!(code(&ours["type"]), code(&published["type"]));
        let subtypes: Vec<_> = ours["subtype"].as_array().unwrap().iter().map(code).collect();
        assert!(subtypes.contains(&code(&published["subtype"][0])), "{subtypes:?}");
        let requestor = |event: &serde_json::Value| {
            let mut agents = event["agent"].as_array().unwrap().iter().filter(|agent| agent["requestor"] == true);
            agents.next().map(|agent| {
                let purpose = code(&agent["purposeOfUse"][0]["coding"][0]);
                (agent["who"]["reference"].clone(), purpose)
            })
        };
        assert_eq!(requestor(&ours), requestor(&published));
        let patient = |event: &serde_json::Value| {
            let entities = event["entity"].as_array().unwrap().iter();
            let mut patients = entities.filter(|entity| entity["role"]["code"] == "1");
            patients.next().map(|entity| (entity["what"].clone(), code(&entity["type"]), code(&entity["role"])))
        };
        assert_eq!(patient(&ours), patient(&published));
    }
}

/// The members of an object, and of what is below each: `section.code.coding.code`.
fn shape(node: Node<'_>, prefix: &str, into: &mut BTreeSet<String>) {
    for (key, value) in node.members() {
        let path = if prefix.is_empty() { key.into_owned() } else { format!("{prefix}.{key}") };
        shape(value, &path, into);
        into.insert(path);
    }
    node.items().for_each(|item| shape(item, prefix, into));
}

#[test]
fn summaries_of_synthea_patients_are_shaped_as_ips_publishes_them() {
    let Some(data) = data() else { return };
    let published = fs::read(data.join("examples/ips/Bundle-bundle-minimal.json")).unwrap();
    let published = Resource::parse(&published, Limits::BUNDLE).unwrap();
    let composition_shape = |bundle: &Resource| {
        let mut paths = BTreeSet::new();
        let first = bundle.root().get("entry").unwrap().items().next().unwrap();
        shape(first.get("resource").unwrap(), "", &mut paths);
        paths
    };
    let theirs = composition_shape(&published);
    let at = TimeMs::from_instant("2026-11-21T10:15:30.123Z").unwrap();
    let (mut count, mut bytes, mut slowest_ms) = (0, 0, 0.0f64);
    for (name, file) in files(&data.join("synthea")) {
        if name.ends_with("patients.json") || name.contains("nformation") {
            continue;
        }
        let mut ids = 0;
        let plan = Plan::new(Bundle::parse(&file, Limits::BUNDLE).unwrap(), |_| {
            ids += 1;
            format!("id-{ids}")
        })
        .unwrap();
        let answers: Vec<Answer> = plan.questions().map(|_| Answer::One("found".to_owned())).collect();
        let mut resources = Vec::new();
        for step in plan.resolve(&answers).unwrap() {
            let Action::Create { id, resource } = step.action else { continue };
            resources.push(Resource::parse(&resource.stamped(&id, 1, at), Limits::RESOURCE).unwrap());
        }
        let start = Instant::now();
        let listed = |resource| Listed { resource, standing: Standing::Verified };
        let patient = resources.iter().find(|resource| resource.rtype() == "Patient").unwrap();
        let chosen: Vec<_> = resources
            .iter()
            .filter(|resource| Section::of(resource).is_some_and(|of| of < Section::Procedures))
            .map(listed)
            .collect();
        let summary = Summary {
            id: "28b95815-76ce-457b-b7ae-a972e527db40",
            made_at: at,
            base_url: "https://ems.example/fhir",
            patient: listed(patient),
            author: Party { reference: Some("Organization/ems"), display: Some("EMS"), identifier: None },
            custodian: Some(Party { reference: Some("Organization/ems"), ..Party::default() }),
            records: &chosen,
            completeness: &Section::ALL.map(|section| (section, Completeness::Complete)),
            warnings: &[],
        }
        .to_json()
        .unwrap();
        slowest_ms = slowest_ms.max(start.elapsed().as_secs_f64() * 1e3);
        let bundle = Resource::parse(&summary, Limits::BUNDLE).unwrap();
        assert_eq!(check(&bundle), Ok(()), "{name}");
        let ours = composition_shape(&bundle);
        let legal = ["attester", "relatesTo", "event"];
        let missing: Vec<_> = theirs
            .iter()
            .filter(|path| !ours.contains(*path) && !legal.iter().any(|of| path.starts_with(of)))
            .collect();
        let empty = !ours.contains("section.entry");
        assert!(missing.is_empty() || empty, "{name}: {missing:?}");
        count += 1;
        bytes += summary.len();
    }
    println!("{count} summaries, {} kB on average, slowest {slowest_ms:.1} ms", bytes / count / 1000);
    assert_eq!(count, 57);
}
