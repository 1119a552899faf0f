//! Break-glass from the reason to the review, and what the patient hears of it: notices, the proven count, the accounting, Provenance.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{self, Consortium, client::Client, good, vitaltrace};
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";

struct Site {
    consortium: Consortium,
    doctor: Client,
    officer: Client,
    patient: Client,
    id: String,
    restricted: String,
}

impl Site {
    async fn new() -> Self {
        // An author reads the own words: somebody else wrote what the doctor breaks the glass for.
        let people =
            [(MERCY, "doctor", "doctor"), (MERCY, "colleague", "doctor"), (MERCY, "officer", "privacy-officer")];
        let consortium = Consortium::running(&people).await;
        let doctor = consortium.client(MERCY, "doctor").for_purpose("TREAT");
        let id = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        consortium.add_user(MERCY, "ilse", "patient", Some(&id));
        let condition = json!({
            "resourceType": "Condition", "subject": {"reference": format!("Patient/{id}")},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F11.20"}]}
        });
        let colleague = consortium.client(MERCY, "colleague").for_purpose("TREAT");
        let restricted = format!("/fhir/Condition/{}", colleague.create(&condition).await.id());
        Self {
            officer: consortium.client(MERCY, "officer").for_purpose("HOPERAT"),
            patient: consortium.client(MERCY, "ilse").for_purpose("PATRQT"),
            consortium,
            doctor,
            id,
            restricted,
        }
    }

    /// What the ledger proves of overrides that nobody reviewed, as the command prints it; exit code first.
    fn unreviewed(&self) -> (Option<i32>, String) {
        let dir = self.consortium.node(MERCY).dir.display().to_string();
        let output = vitaltrace(["ledger", "overrides", "--config", &dir]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn resources(bundle: &Value) -> Vec<Value> {
    bundle["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_glass_is_told_to_the_patient_and_waits_in_the_queue_until_it_is_reviewed() {
    let site = Site::new().await;
    let breaking = site.doctor.for_purpose("BTG");
    let ask =
        |code: &str| json!({"patient": site.id, "code": code, "reason": "found unconscious at home", "minutes": 15});
    assert_eq!(breaking.post("/override", &ask("curiosity")).await.status, 422);
    assert_eq!(breaking.get(&site.restricted).await.status, 403);
    let id = breaking.post("/override", &ask("unconscious")).await.good().id();
    breaking.get(&site.restricted).await.good();
    assert_eq!(site.doctor.for_purpose("ETREAT").get(&site.restricted).await.status, 403, "ETREAT is no BTG");

    // Both hear of it at once: what is searched for is there with the answer.
    let told = resources(&site.patient.get(&format!("/fhir/Communication?patient={}", site.id)).await.good().json());
    assert_eq!(told.len(), 1);
    let said = told[0]["payload"][0]["contentString"].as_str().unwrap();
    assert!(
        said.starts_with("doctor of mercy-hospital broke the glass over your restricted records, until 20"),
        "{said}"
    );
    assert_eq!(told[0]["reasonCode"][0]["coding"][0]["code"], "unconscious");
    assert!(!told[0].to_string().contains("found unconscious"), "the words stay on the desk");
    let queue = "/fhir/Task?code=override-review&status=requested";
    let tasks = resources(&site.officer.get(queue).await.good().json());
    assert_eq!((tasks.len(), tasks[0]["identifier"][0]["value"].as_str()), (1, Some(id.as_str())));

    // Open it is not reviewed; closed it waits; nobody reviews an own one.
    let review = |outcome: &str| json!({"outcome": outcome, "comment": "asked the ward"});
    let reviewing = format!("/override/{id}/review");
    assert_eq!(site.officer.post(&reviewing, &review("justified")).await.status, 409);
    breaking.post(&format!("/override/{id}/close"), &json!({})).await.good();
    assert_eq!(breaking.get(&site.restricted).await.status, 403);
    assert_eq!(site.doctor.post(&reviewing, &review("justified")).await.status, 403);
    site.consortium.settle().await;
    let (exit, said) = site.unreviewed();
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("mercy-hospital: 1 override that it opened is not reviewed, at height"), "{said}");

    // To be followed up it stays in the queue and unreviewed; then it is found justified, once.
    site.officer.post(&reviewing, &review("follow-up")).await.good();
    let waiting = site.officer.get("/override?reviewed=false").await.good().json();
    assert_eq!(waiting["overrides"][0]["state"], "follow-up", "{waiting}");
    assert_eq!(waiting["overrides"][0]["code"], "unconscious");
    let tasks = resources(&site.officer.get("/fhir/Task?code=override-review&status=in-progress").await.good().json());
    assert_eq!(tasks[0]["businessStatus"]["coding"][0]["code"], "follow-up");
    site.consortium.settle().await;
    assert_eq!(site.unreviewed().0, Some(1));
    assert_eq!(site.officer.post(&reviewing, &json!({"comment": "neither"})).await.status, 422);
    site.officer.post(&reviewing, &json!({"justified": true, "comment": "seen"})).await.good();
    assert_eq!(site.officer.post(&reviewing, &review("not-justified")).await.status, 409);
    site.consortium.settle().await;
    let tasks = resources(&site.officer.get("/fhir/Task?code=override-review&status=completed").await.good().json());
    assert_eq!(tasks[0]["businessStatus"]["coding"][0]["code"], "justified");
    let (exit, said) = site.unreviewed();
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("mercy-hospital: every override that it opened is reviewed"), "{said}");
    let told = resources(&site.patient.get(&format!("/fhir/Communication?patient={}", site.id)).await.good().json());
    assert_eq!(told.len(), 2, "the patient hears the outcome");
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0);

    // The proof is a file that anybody checks.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unreviewed").display().to_string();
    let dir = site.consortium.node(MERCY).dir.display().to_string();
    good(vitaltrace(["ledger", "overrides", "--config", &dir, "--output", &file]));
    let genesis = site.consortium.node(MERCY).status().await["chain"].as_str().unwrap().to_owned();
    assert!(good(vitaltrace(["verify", &file, "--genesis-id", &genesis])).contains("is reviewed, at height"));
    // One that does not go through the block that its reader knows says nothing.
    let known = format!("1:{}", "0".repeat(64));
    let refused = vitaltrace(["verify", &file, "--genesis-id", &genesis, "--checkpoint", &known]);
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.starts_with("NOT verified: the evidence does not go through the checkpoint"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_is_told_who_saw_what_and_why_and_who_wrote_it() {
    let site = Site::new().await;
    let condition = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{}", site.id)}, "code": {"text": "a fracture"}
    });
    let condition = site.doctor.create(&condition).await.id();
    site.doctor.get(&format!("/fhir/Condition/{condition}")).await.good();
    assert_eq!(site.doctor.get(&site.restricted).await.status, 403);
    let path = format!("/fhir/Patient/{}/$accounting", site.id);
    let accounting = site.patient.get(&path).await.good().json();
    let disclosures = accounting["disclosures"].as_array().unwrap();
    let read = disclosures.iter().find(|one| one["description"] == "read").unwrap();
    assert_eq!(
        (read["recipient"].as_str(), read["organisation"].as_str(), read["purpose"].as_str()),
        (Some("doctor"), Some(MERCY), Some("TREAT"))
    );
    assert_eq!(
        (read["required"].clone(), read["records"][0].as_str()),
        (json!(false), Some(format!("Condition/{condition}/_history/1").as_str()))
    );
    assert_eq!((accounting["denied"].as_u64(), accounting["missing"].as_u64()), (Some(1), Some(0)));
    let text = site.patient.get(&format!("{path}?as=text")).await.good().text();
    assert!(
        text.contains(&format!("doctor (doctor) of {MERCY}, for treatment: Condition/{condition}/_history/1, read.")),
        "{text}"
    );
    assert!(text.contains("1 attempts were denied."), "{text}");
    assert_eq!(site.doctor.get(&path).await.status, 403, "for the patient, and not for the ward");
    site.officer.get(&path).await.good();

    site.consortium.settle().await;
    let provenance = site.patient.get(&format!("/fhir/Condition/{condition}/$signed-provenance")).await.good().json();
    assert_eq!(provenance["target"][0]["reference"], format!("Condition/{condition}/_history/1"));
    assert_eq!(provenance["agent"][0]["who"]["identifier"]["value"], MERCY);
    assert_eq!(provenance["signature"][0]["type"][0]["code"], "1.2.840.10065.1.12.1.1");
    assert!(provenance["signature"][0]["data"].as_str().is_some_and(|data| data.len() > 100));
    assert_eq!(site.doctor.get(&format!("{}/$signed-provenance", site.restricted)).await.status, 403);
    let found = site.patient.get(&format!("/fhir/Provenance?target=Condition/{condition}")).await.good().json();
    assert_eq!((found["total"].as_u64(), resources(&found)), (Some(1), vec![provenance.clone()]));
    let hidden = site.restricted.strip_prefix("/fhir/").unwrap();
    let found = site.doctor.get(&format!("/fhir/Provenance?target={hidden}")).await.good().json();
    assert_eq!((found["total"].as_u64(), resources(&found).len()), (Some(0), 0), "what is denied is not found");
    // Along with what is found: the patient finds both conditions, the doctor the one that is not restricted.
    let along = format!("/fhir/Condition?patient={}&_revinclude=Provenance:target", site.id);
    for (client, expected) in [(&site.patient, 2), (&site.doctor, 1)] {
        let found = client.get(&along).await.good().json();
        let built: Vec<Value> =
            resources(&found).into_iter().filter(|one| one["resourceType"] == "Provenance").collect();
        assert_eq!((found["total"].as_u64(), built.len()), (Some(expected), expected as usize), "{found}");
        assert!(built.contains(&provenance), "{built:?}");
    }
}

/// The process dies between the desk and the ledger: what the desk says is owed is written after the next start, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_the_ledger_is_owed_is_written_once_after_a_crash() {
    let mut site = Site::new().await;
    let breaking = site.doctor.for_purpose("BTG");
    let asked = json!({"patient": site.id, "reason": "found unconscious", "minutes": 15});
    let id = breaking.post("/override", &asked).await.good().id();
    site.consortium.settle().await;
    let overrides = async |site: &Site| {
        let entries = site.doctor.get("/ledger/entries?kind=override&limit=100").await.good().json();
        entries["entries"].as_array().unwrap().len()
    };
    assert_eq!(overrides(&site).await, 1);
    let node = site.consortium.node_mut(MERCY);
    node.kill();
    let desk = rusqlite::Connection::open(node.dir.join("data/desk.db")).unwrap();
    let body: String = desk.query_row("SELECT body FROM paper WHERE id = ?1", [&id], |row| row.get(0)).unwrap();
    let mut paper: Value = serde_json::from_str(&body).unwrap();
    let now = paper["opened"].as_u64().unwrap() + 1;
    let owed = |step: &str, entry: &str| json!({"step": step, "entry": entry, "user": "doctor", "role": "doctor", "purpose": "BTG", "at": now, "request": "", "address": "127.0.0.1"});
    paper["closed"] = json!(now);
    paper["owed"] = json!([owed("OverrideClosed", &"cd".repeat(16))]);
    desk.execute("UPDATE paper SET body = ?1 WHERE id = ?2", [&paper.to_string(), &id]).unwrap();
    // Another one that was not written at all.
    let other = "ef".repeat(16);
    paper["id"] = json!(other);
    paper["closed"] = Value::Null;
    paper["task"] = json!("a-task-of-its-own");
    paper["owed"] = json!([owed("OverrideOpened", &"ab".repeat(16))]);
    desk.execute(
        "INSERT INTO paper SELECT kind, ?1, patient, ?2 FROM paper WHERE id = ?3",
        [&other, &paper.to_string(), &id],
    )
    .unwrap();
    drop(desk);
    for _ in 0..2 {
        let node = site.consortium.node_mut(MERCY);
        node.start();
        node.wait_until_up().await;
        let begin = std::time::Instant::now();
        while overrides(&site).await < 3 {
            assert!(begin.elapsed() < consortium::PATIENCE, "what was owed is not written");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        site.consortium.settle().await;
        assert_eq!(
            (overrides(&site).await, site.consortium.node(MERCY).status().await["refused"].as_u64()),
            (3, Some(0))
        );
        site.consortium.node_mut(MERCY).kill();
    }
    let node = site.consortium.node_mut(MERCY);
    node.start();
    node.wait_until_up().await;
    let told = resources(&site.patient.get(&format!("/fhir/Communication?patient={}", site.id)).await.good().json());
    assert_eq!(told.len(), 2, "each opening was told once");
    breaking.get(&site.restricted).await.good();
}
