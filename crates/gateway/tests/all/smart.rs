//! Apps that people let in (SMART App Launch), programs that act for themselves, and what becomes of what they were given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use crate::consortium::{
    self, Consortium, PASSWORD,
    browser::{BACK, Browser, carried, challenge, said, sent_back},
    client::Client,
    good, vitaltrace,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

const MERCY: &str = "mercy-hospital";
const EVERYTHING: &str = "launch launch/patient openid fhirUser offline_access patient/*.cruds user/*.cruds";

/// A hospital with two patients, an app of any scope, and people.
async fn hospital() -> (Consortium, Client) {
    let people = [
        (MERCY, "ada", "doctor"),
        (MERCY, "bo", "nurse"),
        (MERCY, "kim", "custodian"),
        (MERCY, "pia", "privacy-officer"),
    ];
    let consortium = Consortium::running(&people).await;
    consortium.add_user(MERCY, "ilse", "patient", Some("ilse"));
    add_app(&consortium, &["--id", "chart", "--name", "Chart", "--redirect", BACK, "--scope", EVERYTHING]);
    let doctor = consortium.client(MERCY, "ada");
    for id in ["ilse", "otto"] {
        let patient = json!({
            "resourceType": "Patient", "id": id, "name": [{"family": id, "given": ["A"]}],
            "identifier": [{"system": "urn:mrn", "value": format!("mrn-{id}")}]
        });
        doctor.put(&format!("/fhir/Patient/{id}"), &patient, &[]).await.good();
        let observation = json!({
            "resourceType": "Observation", "id": format!("of-{id}"), "status": "final", "subject": {"reference": format!("Patient/{id}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-11-21T10:00:00Z",
            "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        doctor.put(&format!("/fhir/Observation/of-{id}"), &observation, &[]).await.good();
        let allergy = json!({
            "resourceType": "AllergyIntolerance", "id": format!("allergy-{id}"), "patient": {"reference": format!("Patient/{id}")},
            "code": {"text": "nuts"}, "criticality": "high",
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}
        });
        doctor.put(&format!("/fhir/AllergyIntolerance/allergy-{id}"), &allergy, &[]).await.good();
    }
    (consortium, doctor)
}

fn add_app(consortium: &Consortium, args: &[&str]) -> String {
    let config = consortium.node(MERCY).dir.display().to_string();
    let all = ["app", "add", "--config", config.as_str()].into_iter().chain(args.iter().copied());
    let said = good(vitaltrace(all));
    // The gateway looks at the file several times a second.
    std::thread::sleep(std::time::Duration::from_millis(300));
    said.trim().to_owned()
}

fn total(bundle: &Value) -> usize {
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter(|entry| entry["resource"]["resourceType"] != "OperationOutcome").count()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_does_what_it_was_given_with_its_patient_alone() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    let mut browser = Browser::new(&base);
    let scope = "launch/patient openid fhirUser patient/Observation.rs";
    let code = browser.let_in(scope, &[], "ada", "mrn-ilse").await;
    let given = browser.redeem(&code).await.good().json();
    assert_eq!(given["patient"], "ilse");
    assert_eq!(given["scope"], "openid fhirUser launch/patient patient/Observation.rs");
    assert!(given.get("refresh_token").is_none(), "nobody asked for one");
    let told = said(given["id_token"].as_str().unwrap());
    assert_eq!((&told["aud"], &told["sub"], &told["iss"]), (&json!("chart"), &json!("ada"), &json!(base)));

    let app = Client::new(&base, given["access_token"].as_str().unwrap());
    app.get("/fhir/Observation/of-ilse").await.good();
    assert_eq!(total(&app.get("/fhir/Observation?patient=ilse").await.good().json()), 1);
    assert_eq!(total(&app.get("/fhir/Observation").await.good().json()), 1, "the other patient's are not found");

    // Every way out of the patient's records and of the type.
    let refused = [
        "/fhir/Observation/of-otto",
        "/fhir/Observation/of-otto/_history",
        "/fhir/Observation/of-otto/_history/1",
        "/fhir/AllergyIntolerance/allergy-ilse",
        "/fhir/AllergyIntolerance?patient=ilse",
        "/fhir?_type=Observation,AllergyIntolerance&patient=ilse",
        "/fhir/Patient/ilse/AllergyIntolerance",
        "/fhir/AllergyIntolerance/_history",
        "/fhir/Patient/ilse",
        "/fhir/Patient/otto/$summary",
        "/evidence/ilse",
        "/alarm?patient=ilse",
    ];
    for path in refused {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
    let empty = [
        "/fhir/Observation?patient=otto",
        "/fhir/Observation?_id=of-otto",
        "/fhir/Observation?patient=otto&_total=accurate",
        "/fhir/Observation?patient=otto&_sort=date&_count=1",
        "/fhir/Observation?code=8867-4&_id=of-otto&_count=1",
        "/fhir/Observation?subject:Patient.identifier=urn:mrn%7Cmrn-otto",
        "/fhir/Observation?subject:Patient.family=ilse",
        "/fhir/Observation?patient=otto&_summary=count",
        "/fhir/Patient/otto/Observation",
        "/fhir?_type=Observation&patient=otto&_sort=-code&_count=1",
        "/fhir?_id=of-otto,allergy-ilse",
    ];
    for path in empty {
        let found = app.get(path).await.good();
        assert_eq!(total(&found.json()), 0, "{path}: {}", found.text());
        assert_eq!(found.json()["total"].as_u64().unwrap_or(0), 0, "{path}: {}", found.text());
        assert_eq!(app.next(&found), None, "{path}: that there is another page tells of another record");
    }
    assert_eq!(total(&app.get("/fhir?_id=of-ilse,of-otto,allergy-ilse").await.good().json()), 1);
    // A page ends where the app's own records end.
    let first = app.get("/fhir/Observation?_id=of-ilse,of-otto&_count=1").await.good();
    assert_eq!((total(&first.json()), app.next(&first)), (1, None));
    let included = app.get("/fhir/Observation?patient=ilse&_include=Observation:subject").await.good().json();
    assert_eq!(total(&included), 1, "a record of a type that was not given does not come along");
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Observation/of-otto"}}, {"request": {"method": "GET", "url": "Patient/ilse"}}
    ]});
    for entry in app.post("/fhir", &batch).await.good().json()["entry"].as_array().unwrap() {
        assert!(entry["response"]["status"].as_str().unwrap().starts_with("403"), "{entry}");
    }
    let note = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/ilse"}, "code": {"text": "note"}
    });
    assert_eq!(app.post("/fhir/Observation", &note).await.status, 403);
    let mut changed = note.clone();
    changed["id"] = json!("of-ilse");
    assert_eq!(app.put("/fhir/Observation/of-ilse", &changed, &[]).await.status, 403);
    assert_eq!(app.send(Method::DELETE, "/fhir/Observation/of-ilse", &[], &Value::Null).await.status, 403);
    // Conditions and versions tell nothing either.
    for path in
        ["/fhir/Observation?_id=of-otto", "/fhir/Observation?_id=nothing", "/fhir/Condition?patient=otto&code=x"]
    {
        assert_eq!(app.send(Method::DELETE, path, &[], &Value::Null).await.status, 403, "{path}");
    }
    let unless = [("if-none-exist", "_id=of-otto")];
    assert_eq!(app.send(Method::POST, "/fhir/Observation", &unless, &note).await.status, 403);
    let version = [("if-match", "W/\"99\"")];
    assert_eq!(app.send(Method::DELETE, "/fhir/Observation/of-otto", &version, &Value::Null).await.status, 403);
    let glass = json!({"patient": "ilse", "reason": "unconscious", "minutes": 5});
    assert_eq!(app.for_purpose("BTG").post("/override", &glass).await.status, 403);
    assert_eq!(
        app.for_purpose("ETREAT").get("/fhir/Observation/of-ilse").await.status,
        403,
        "nobody let it in for that"
    );
    assert_eq!(app.post("/auth/launch", &json!({"patient": "ilse"})).await.status, 403);

    // Each refusal is in the trail of whose record it was about, under the app's name.
    consortium.settle().await;
    let officer = consortium.client(MERCY, "pia");
    let trail = officer.get("/fhir/AuditEvent?patient=otto&outcome=8&_count=100").await.good().json();
    let of_reads =
        trail["entry"].as_array().unwrap().iter().filter(|entry| entry.to_string().contains("Observation/of-otto"));
    let of_reads: Vec<(String, &Value)> = of_reads
        .map(|entry| {
            let event = &entry["resource"];
            let codes = event["subtype"].as_array().unwrap().iter().filter_map(|code| code["code"].as_str());
            (codes.collect::<Vec<_>>().join(" "), &event["agent"][0]["who"]["display"])
        })
        .collect();
    assert!(of_reads.iter().all(|(_, client)| *client == "chart"), "{of_reads:?}");
    // Read alone and in a batch, history, version; deletion by a version.
    let count = |code: &str| of_reads.iter().filter(|(codes, _)| codes == code).count();
    assert_eq!((count("AuthZ-Consent read"), count("AuthZ-Consent delete")), (4, 1), "{of_reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_let_apps_see_their_own_record_and_nobody_elses() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    let mut browser = Browser::new(&base);
    let page = browser.ask("openid fhirUser patient/*.rs user/*.rs", &[]).await.good();
    let page = browser.log_in(&page, "ilse").await.good();
    let text = page.text();
    assert!(text.contains("look at all records about you") && text.contains("A ilse"), "{text}");
    let code = sent_back(&browser.step(&page, &[("answer", "yes")]).await)["code"].clone();
    let given = browser.redeem(&code).await.good().json();
    assert_eq!(given["patient"], "ilse");
    let told = said(given["id_token"].as_str().unwrap());
    assert_eq!(told["fhirUser"], format!("{base}/fhir/Patient/ilse"));
    let app = Client::new(&base, given["access_token"].as_str().unwrap());
    app.get("/fhir/AllergyIntolerance/allergy-ilse").await.good();
    // A scope of the user's reaches no further than the user.
    assert_eq!(app.get("/fhir/AllergyIntolerance/allergy-otto").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_for_one_patient_one_user_and_one_time() {
    let (consortium, doctor) = hospital().await;
    let base = consortium.node(MERCY).base();
    let encounter = json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress", "subject": {"reference": "Patient/ilse"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}
    });
    doctor.put("/fhir/Encounter/e1", &encounter, &[]).await.good();
    let launch = async || {
        let launched = doctor.post("/auth/launch", &json!({"patient": "ilse", "encounter": "e1"})).await.good().json();
        assert_eq!(launched["iss"], format!("{base}/fhir"));
        launched["launch"].as_str().unwrap().to_owned()
    };
    let scope = "launch openid patient/*.rs";
    let mut browser = Browser::new(&base);
    let code = browser.let_in(scope, &[("launch", &launch().await)], "ada", "never asked").await;
    let given = browser.redeem(&code).await.good().json();
    assert_eq!((&given["patient"], &given["encounter"]), (&json!("ilse"), &json!("e1")));
    assert_eq!(given["need_patient_banner"], true);

    // Somebody else's browser with the same launch, and the same launch again.
    let (id, mut other) = (launch().await, Browser::new(&base));
    let page = other.ask(scope, &[("launch", &id)]).await.good();
    assert_eq!(other.log_in(&page, "bo").await.status, 403);
    let again = sent_back(&Browser::new(&base).ask(scope, &[("launch", &id)]).await);
    assert_eq!((again["error"].as_str(), again["state"].as_str()), ("invalid_request", "a state"));
    // An app that is launched asks for the scope, and nobody chooses another patient on the way.
    let unasked = sent_back(&browser.ask("patient/*.rs", &[("launch", &launch().await)]).await);
    assert_eq!(unasked["error"], "invalid_scope");
    let page = browser.ask(scope, &[("launch", &launch().await)]).await.good();
    let page = browser.log_in(&page, "ada").await.good();
    let authorization = carried(&page, "authorization");
    let forced = [("authorization", authorization.as_str()), ("step", "patient"), ("patient", "otto")];
    assert_eq!(browser.form("/auth/authorize", &forced).await.status, 400);
    // Whoever may not see the patient launches nothing.
    assert_eq!(doctor.post("/auth/launch", &json!({"patient": "nobody"})).await.status, 404);
    let other = json!({"patient": "otto", "encounter": "e1"});
    assert_eq!(doctor.post("/auth/launch", &other).await.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_honest_question_gets_no_code() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    let mut browser = Browser::new(&base);
    let scope = "launch/patient patient/*.rs";
    // Nobody is sent to an address that is not the app's.
    for (name, value) in [
        ("redirect_uri", "http://localhost:9000/back/"),
        ("redirect_uri", "http://evil.example/back"),
        ("redirect_uri", ""),
        ("client_id", "unknown"),
        ("client_id", ""),
    ] {
        let answer = browser.ask(scope, &[(name, value)]).await;
        assert_eq!(answer.status, 400, "{name}={value}");
        assert!(answer.headers.get(header::LOCATION).is_none() && answer.text().contains("<html"), "{name}={value}");
    }
    // Everything else is said to the app.
    let plain = challenge();
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("aud", "http://other.example/fhir", "invalid_request"),
        ("aud", "", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", &plain[1..], "invalid_request"),
        ("scope", "system/*.rs", "invalid_scope"),
        ("scope", "", "invalid_scope"),
        ("launch", "unknown", "invalid_scope"),
    ] {
        let answer = sent_back(&browser.ask(scope, &[(name, value)]).await);
        assert_eq!((answer["error"].as_str(), answer["iss"].as_str()), (error, base.as_str()), "{name}={value}");
    }
    // Another browser does not go on with a login that it did not begin.
    let page = browser.ask(scope, &[]).await.good();
    let mut other = Browser::new(&base);
    assert_eq!(other.log_in(&page, "ada").await.status, 400);
    other.ask(scope, &[]).await.good();
    assert_eq!(other.log_in(&page, "ada").await.status, 400);
    // Nor does anybody answer who has not logged in.
    let authorization = carried(&page, "authorization");
    for step in ["answer", "patient", "nonsense"] {
        let fields =
            [("authorization", authorization.as_str()), ("step", step), ("answer", "yes"), ("patient", "ilse")];
        assert_eq!(browser.form("/auth/authorize", &fields).await.status, 400, "{step}");
    }
    // A person who says no, and a patient whom the person may not see.
    let page = browser.log_in(&page, "ada").await.good();
    let wrong = browser.step(&page, &[("patient", "nobody")]).await.good();
    assert!(wrong.text().contains("No patient has this id"), "{}", wrong.text());
    let page = browser.step(&wrong, &[("patient", "ilse")]).await.good();
    assert_eq!(sent_back(&browser.step(&page, &[("answer", "no")]).await)["error"], "access_denied");
    let late = browser.step(&page, &[("answer", "yes")]).await;
    assert_eq!(late.status, 400, "{}", late.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_for_its_app_with_what_its_challenge_was_made_of() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    add_app(&consortium, &["--id", "other", "--name", "Other", "--redirect", BACK, "--scope", "patient/*.rs"]);
    let secret = add_app(
        &consortium,
        &["--id", "kept", "--name", "Kept", "--redirect", BACK, "--scope", "patient/*.rs", "--secret"],
    );
    let mut browser = Browser::new(&base);
    let scope = "patient/*.rs";
    let redeem = |code: &str, change: (&'static str, &'static str)| {
        let mut fields = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("client_id", "chart".to_owned()),
            ("redirect_uri", BACK.to_owned()),
            ("code", code.to_owned()),
            ("code_verifier", consortium::browser::VERIFIER.to_owned()),
        ];
        fields.retain(|(name, _)| *name != change.0);
        fields.push((change.0, change.1.to_owned()));
        fields
    };
    for (name, value, error) in [
        ("client_id", "other", "invalid_grant"),
        ("client_id", "unknown", "invalid_client"),
        ("client_id", "kept", "invalid_client"),
        ("redirect_uri", "http://localhost:9000/", "invalid_grant"),
        ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl", "invalid_grant"),
        ("code_verifier", "", "invalid_grant"),
        ("code", "another", "invalid_grant"),
        ("grant_type", "password", "unsupported_grant_type"),
    ] {
        let code = browser.let_in(scope, &[], "ada", "ilse").await;
        let fields = redeem(&code, (name, value));
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = browser.form("/auth/token", &pairs).await;
        assert_eq!(answer.json()["error"], error, "{name}={value}: {}", answer.text());
        let status = if error == "invalid_client" { 401 } else { 400 };
        assert_eq!(answer.status, status, "{name}={value}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    }
    // A code that comes twice was stolen by somebody: what it gave the first time ends.
    let code = browser.let_in(scope, &[], "ada", "ilse").await;
    let given = browser.redeem(&code).await.good().json();
    let app = Client::new(&base, given["access_token"].as_str().unwrap());
    app.get("/fhir/Patient/ilse").await.good();
    assert_eq!(browser.redeem(&code).await.json()["error"], "invalid_grant");
    assert_eq!(app.get("/fhir/Patient/ilse").await.status, 401);
    // An app with a secret shows it, by header or form.
    for right in [true, false] {
        let code = browser.let_in(scope, &[("client_id", "kept")], "ada", "ilse").await;
        let mut fields = redeem(&code, ("client_id", "kept"));
        fields.push(("client_secret", if right { secret.clone() } else { "guessed".to_owned() }));
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = browser.form("/auth/token", &pairs).await;
        assert_eq!(answer.status == 200, right, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_was_given_ends_when_anybody_ends_it() {
    let (consortium, doctor) = hospital().await;
    let base = consortium.node(MERCY).base();
    let config = consortium.node(MERCY).dir.display().to_string();
    let mut browser = Browser::new(&base);
    let scope = "offline_access patient/*.rs";
    let refresh = |token: &str| {
        [("grant_type", "refresh_token"), ("client_id", "chart"), ("refresh_token", token)]
            .map(|(a, b)| (a, b.to_owned()))
    };
    let refreshed = async |browser: &mut Browser, token: &str| {
        let fields = refresh(token);
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.form("/auth/token", &pairs).await
    };
    let is_good = async |given: &Value| {
        let app = Client::new(&base, given["access_token"].as_str().unwrap());
        let answer = app.get("/fhir/Patient/ilse").await;
        assert!([200, 401].contains(&answer.status), "{}", answer.text());
        answer.status == 200
    };
    let text = |given: &Value| given["refresh_token"].as_str().unwrap().to_owned();
    let begin = async |browser: &mut Browser| {
        let code = browser.let_in(scope, &[], "ada", "ilse").await;
        browser.redeem(&code).await.good().json()
    };

    // The app refreshes, and a refresh token that comes back ends everything.
    let first = begin(&mut browser).await;
    let second = refreshed(&mut browser, &text(&first)).await.good().json();
    assert_eq!((&second["patient"], &second["scope"]), (&first["patient"], &first["scope"]));
    assert!(is_good(&first).await && is_good(&second).await);
    assert_eq!(refreshed(&mut browser, &text(&first)).await.json()["error"], "invalid_grant");
    assert!(!is_good(&first).await && !is_good(&second).await);
    assert_eq!(refreshed(&mut browser, &text(&second)).await.json()["error"], "invalid_grant");

    // A public app's refresh token may come alone.
    let given = begin(&mut browser).await;
    let alone = [("grant_type", "refresh_token"), ("refresh_token", given["refresh_token"].as_str().unwrap())];
    browser.form("/auth/token", &alone).await.good();

    // The app gives it back, by either token; another app cannot.
    add_app(&consortium, &["--id", "other", "--name", "Other", "--redirect", BACK, "--scope", "patient/*.rs"]);
    for which in ["access_token", "refresh_token"] {
        let given = begin(&mut browser).await;
        let token = given[which].as_str().unwrap();
        browser.form("/auth/revoke", &[("token", token), ("client_id", "other")]).await.good();
        assert!(is_good(&given).await, "{which}");
        browser.form("/auth/revoke", &[("token", token), ("client_id", "chart")]).await.good();
        assert!(!is_good(&given).await, "{which}");
        assert_eq!(refreshed(&mut browser, &text(&given)).await.json()["error"], "invalid_grant", "{which}");
    }

    // It survives a restart of the gateway, and so does its end.
    let (kept, ended) = (begin(&mut browser).await, begin(&mut browser).await);
    browser.form("/auth/revoke", &[("token", &text(&ended)), ("client_id", "chart")]).await.good();
    let mut consortium = consortium;
    consortium.node_mut(MERCY).kill();
    consortium.node_mut(MERCY).start();
    consortium.node_mut(MERCY).wait_until_up().await;
    assert!(is_good(&kept).await && !is_good(&ended).await);
    let kept = refreshed(&mut browser, &text(&kept)).await.good().json();

    // A login with the old password does not outlive the change, however far it has come.
    let page = browser.ask(scope, &[]).await.good();
    let page = browser.log_in(&page, "bo").await.good();
    let page = browser.step(&page, &[("patient", "ilse")]).await.good();
    consortium.add_user(MERCY, "bo", "nurse", None);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(browser.step(&page, &[("answer", "yes")]).await.status, 401);

    // The organisation registers the app for less, for nothing, closes the login.
    add_app(
        &consortium,
        &["--id", "chart", "--name", "Chart", "--redirect", BACK, "--scope", "offline_access patient/Observation.rs"],
    );
    let app = Client::new(&base, kept["access_token"].as_str().unwrap());
    assert_eq!(app.get("/fhir/Patient/ilse").await.status, 403);
    app.get("/fhir/Observation/of-ilse").await.good();
    add_app(&consortium, &["--id", "chart", "--name", "Chart", "--redirect", BACK, "--scope", EVERYTHING]);
    let given = begin(&mut browser).await;
    good(vitaltrace(["user", "--config", &config, "--name", "ada", "--close"]));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!is_good(&given).await);
    assert_eq!(doctor.get("/fhir/Patient/ilse").await.status, 401);
    assert_eq!(refreshed(&mut browser, &text(&given)).await.json()["error"], "invalid_grant");
    let page = browser.ask(scope, &[]).await.good();
    assert_eq!(browser.log_in(&page, "ada").await.status, 401);
    good(vitaltrace(["user", "--config", &config, "--name", "ada", "--reopen"]));
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(!is_good(&given).await, "what was given before comes back with nobody");
    let given = begin(&mut browser).await;
    assert!(is_good(&given).await);
    good(vitaltrace(["app", "remove", "--config", &config, "--id", "chart"]));
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert!(!is_good(&given).await);
    // Another app by the same name is another app.
    add_app(&consortium, &["--id", "chart", "--name", "Another", "--redirect", BACK, "--scope", EVERYTHING]);
    assert!(!is_good(&given).await);
    assert_eq!(refreshed(&mut browser, &text(&given)).await.json()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_acts_for_itself_with_an_assertion_that_is_good_once() {
    let (consortium, _) = hospital().await;
    let node = consortium.node(MERCY);
    let base = node.base();
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let der = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).unwrap();
    let signing = EncodingKey::from_ed_der(der.as_bytes());
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    let public = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": x});
    let file = node.dir.join("loader.jwks");
    fs::write(&file, json!({"keys": [public]}).to_string()).unwrap();
    let file = file.display().to_string();
    let args =
        ["--id", "loader", "--name", "Loader", "--scope", "system/*.rs", "--jwks", &file, "--service", "custodian"];
    add_app(&consortium, &args);
    let assert_as = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "iss": "loader", "sub": "loader", "aud": format!("{base}/auth/token"), "exp": seconds() + 200,
            "jti": rand::random::<u64>().to_string()
        });
        change(&mut claims);
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &signing).unwrap()
    };
    let ask = async |assertion: &str, scope: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let pairs = [
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("client_assertion_type", kind),
            ("client_assertion", assertion),
        ];
        Browser::new(&base).form("/auth/token", &pairs).await
    };
    let assertion = assert_as(&|_| {});
    let given = ask(&assertion, "system/Patient.rs system/Observation.read").await.good().json();
    assert_eq!(
        (&given["scope"], &given["expires_in"]),
        (&json!("system/Observation.rs system/Patient.rs"), &json!(300))
    );
    assert!(given.get("refresh_token").is_none() && given.get("patient").is_none());
    let program = Client::new(&base, given["access_token"].as_str().unwrap());
    program.get("/fhir/Patient/ilse").await.good();
    assert_eq!(program.get("/fhir/AllergyIntolerance/allergy-ilse").await.status, 403, "not asked for");
    assert_eq!(program.post("/audit", &json!({"full": false})).await.status, 403, "no scope speaks of that");

    let again = ask(&assertion, "system/Patient.rs").await;
    assert_eq!((again.status, &again.json()["error"]), (401, &json!("invalid_client")));
    let wrong: [(&str, Value); 5] = [
        ("aud", json!("http://other.example/auth/token")),
        ("iss", json!("chart")),
        ("sub", json!("chart")),
        ("exp", json!(seconds() - 100)),
        ("exp", json!(seconds() + 3600)),
    ];
    for (name, value) in wrong {
        let answer = ask(&assert_as(&|claims| claims[name] = value.clone()), "system/Patient.rs").await;
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")), "{name}");
    }
    let nothing = ask(&assert_as(&|_| {}), "patient/*.rs user/*.rs").await;
    assert_eq!(nothing.json()["error"], "invalid_scope");
    let public =
        Browser::new(&base).form("/auth/token", &[("grant_type", "client_credentials"), ("client_id", "chart")]).await;
    assert_eq!(public.json()["error"], "unauthorized_client");

    // What a token is good for, for those who show who they are.
    let introspect = async |token: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let assertion = assert_as(&|claims| claims["aud"] = json!(format!("{base}/auth/introspect")));
        let pairs = [("token", token), ("client_assertion_type", kind), ("client_assertion", &assertion)];
        Browser::new(&base).form("/auth/introspect", &pairs).await.good().json()
    };
    let known = introspect(&program.token).await;
    assert_eq!((&known["active"], &known["client_id"]), (&json!(true), &json!("loader")));
    assert_eq!(introspect("nonsense").await, json!({"active": false}));
    let public =
        Browser::new(&base).form("/auth/introspect", &[("token", &program.token), ("client_id", "chart")]).await;
    assert_eq!(public.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_passwords_waits_and_a_user_ends_its_own_token() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    let client = Client::new(&base, "");
    let log_in =
        async |password: &str| client.post("/auth/token", &json!({"username": "bo", "password": password})).await;
    let token = log_in(PASSWORD).await.good().json()["access_token"].as_str().unwrap().to_owned();
    let nurse = client.with_token(&token);
    nurse.get("/fhir/Patient/ilse").await.good();
    let mut browser = Browser::new(&base);
    browser.form("/auth/revoke", &[("token", &token)]).await.good();
    assert_eq!(nurse.get("/fhir/Patient/ilse").await.status, 401);

    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(log_in("a guess").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(log_in(PASSWORD).await.status, 429, "from the same place, the right one has to wait too");
    let page = browser.ask("patient/*.rs", &[]).await.good();
    assert_eq!(browser.log_in(&page, "bo").await.status, 429);
    assert_eq!(browser.log_in(&page, "ada").await.status, 200, "nobody else has");
    // Those who are not known are refused alike.
    let known = client.post("/auth/token", &json!({"username": "kim", "password": "a guess"})).await;
    let unknown = client.post("/auth/token", &json!({"username": "nobody", "password": "a guess"})).await;
    assert_eq!((known.status, known.text()), (unknown.status, unknown.text()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_tokens_is_replaced_while_the_gateway_runs() {
    let (consortium, doctor) = hospital().await;
    let config = consortium.node(MERCY).dir.display().to_string();
    let base = consortium.node(MERCY).base();
    let keys =
        async || Client::new(&base, "").get("/auth/jwks").await.good().json()["keys"].as_array().unwrap().clone();
    let before = keys().await;
    assert_eq!(before.len(), 1);
    let replace = async || {
        let seen = keys().await;
        good(vitaltrace(["token", "--config", &config, "--replace-key"]));
        while keys().await == seen {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    replace().await;
    assert_eq!(keys().await[1], before[0], "the key before it is still named");
    doctor.get("/fhir/Patient/ilse").await.good();
    let anew = consortium.client(MERCY, "ada");
    anew.get("/fhir/Patient/ilse").await.good();
    replace().await;
    assert_eq!(doctor.get("/fhir/Patient/ilse").await.status, 401);
    anew.get("/fhir/Patient/ilse").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_find_their_way_and_scripts_of_registered_apps_alone_are_let_read() {
    let (consortium, _) = hospital().await;
    let base = consortium.node(MERCY).base();
    let client = Client::new(&base, "");
    let smart = client.get("/fhir/.well-known/smart-configuration").await.good().json();
    assert_eq!(smart["authorization_endpoint"], format!("{base}/auth/authorize"));
    assert_eq!(smart["token_endpoint"], format!("{base}/auth/token"));
    assert_eq!(smart["code_challenge_methods_supported"], json!(["S256"]));
    let openid = client.get("/.well-known/openid-configuration").await.good().json();
    assert_eq!((&openid["issuer"], &openid["jwks_uri"]), (&json!(base), &json!(format!("{base}/auth/jwks"))));
    let metadata = client.get("/fhir/metadata").await.good().json();
    let uris = &metadata["rest"][0]["security"]["extension"][0]["extension"];
    assert_eq!(uris[1], json!({"url": "token", "valueUri": format!("{base}/auth/token")}));

    let ask = async |origin: &str, path: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
        ];
        let answer = client.send(Method::OPTIONS, path, &headers, &Value::Null).await;
        answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    let app = "http://localhost:9000";
    assert_eq!(ask(app, "/fhir/Patient/ilse").await.as_deref(), Some(app));
    assert_eq!(ask("http://evil.example", "/fhir/Patient/ilse").await, None);
    for page in ["/auth/authorize", "/account/apps"] {
        assert_eq!(ask(app, page).await, None, "{page}");
    }
    // The browser asks nothing before a form: the page refuses it by itself.
    let step =
        async |origin: &str| client.send(Method::POST, "/account/apps", &[("origin", origin)], &Value::Null).await;
    for origin in [app, "null", "http://evil.example"] {
        let answer = step(origin).await;
        assert_eq!((answer.status, answer.headers.get("access-control-allow-origin")), (403, None), "{origin}");
    }
    assert_eq!(step(&base).await.status, 400, "the page's own form, though it says no step");
    let read = client.send(Method::GET, "/fhir/metadata", &[("origin", app)], &Value::Null).await.good();
    assert_eq!(read.headers["access-control-allow-origin"], app);
    assert!(read.headers.get("access-control-allow-credentials").is_none());
}
