//! Who came in: logins and apps in the trail, a flood of wrong passwords, and how people end what they let in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    self, Consortium, PASSWORD,
    browser::{BACK, Browser, carried, said},
    client::Client,
    good, vitaltrace,
};
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";
const SCOPE: &str = "launch/patient offline_access patient/Observation.rs";

struct Site {
    consortium: Consortium,
    officer: Client,
    patient: Client,
    id: String,
}

impl Site {
    async fn new() -> Self {
        let people = [(MERCY, "ada", "doctor"), (MERCY, "pia", "privacy-officer")];
        let consortium = Consortium::running(&people).await;
        let doctor = consortium.client(MERCY, "ada").for_purpose("TREAT");
        let id = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        consortium.add_user(MERCY, "ilse", "patient", Some(&id));
        let config = consortium.node(MERCY).dir.display().to_string();
        let app = ["--id", "chart", "--name", "Growth <chart>", "--redirect", BACK, "--scope", SCOPE];
        good(vitaltrace(["app", "add", "--config", &config].into_iter().chain(app)));
        // The gateway looks at the file several times a second.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        Self {
            officer: consortium.client(MERCY, "pia").for_purpose("HCOMPL"),
            patient: consortium.client(MERCY, "ilse").for_purpose("PATRQT"),
            consortium,
            id,
        }
    }

    fn base(&self) -> String {
        self.consortium.node(MERCY).base()
    }

    async fn log_in(&self, name: &str, password: &str) -> u16 {
        let login = json!({"username": name, "password": password});
        Client::new(&self.base(), "").post("/auth/token", &login).await.status
    }

    /// Logins and ends in the trail, the earliest first: subtype, outcome, user, app or machine, what it says.
    async fn came(&self, client: &Client, query: &str) -> Vec<[String; 5]> {
        let path = format!("/fhir/AuditEvent?type=110114&_sort=_lastUpdated&_count=200{query}");
        let found = client.get(&path).await.good().json();
        let text = |value: &Value| value.as_str().unwrap_or("nobody").to_owned();
        let one = |entry: &Value| {
            let event = &entry["resource"];
            let agents = event["agent"].as_array().unwrap();
            let user = agents.iter().find(|agent| agent["role"].is_array()).map(|agent| &agent["who"]["display"]);
            [
                text(&event["subtype"][0]["code"]),
                text(&event["outcome"]),
                user.map_or("nobody".to_owned(), text),
                text(&agents[0]["who"]["display"]),
                text(&event["outcomeDesc"]),
            ]
        };
        found["entry"].as_array().into_iter().flatten().map(one).collect()
    }
}

impl Site {
    /// The same, once there are so many: refusals are written beside the answers.
    async fn came_to(&self, client: &Client, query: &str, count: usize) -> Vec<[String; 5]> {
        let begin = std::time::Instant::now();
        loop {
            let events = self.came(client, query).await;
            if events.len() >= count {
                return events;
            }
            assert!(begin.elapsed() < consortium::PATIENCE, "{events:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

fn come(event: &[String; 5]) -> [&str; 4] {
    [event[0].as_str(), event[1].as_str(), event[2].as_str(), event[3].as_str()]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_in_by_what_and_when_it_ended_is_in_the_trail_and_on_the_ledger() {
    let site = Site::new().await;
    assert_eq!(site.log_in("ilse", "not hers").await, 401);
    let of_patient = format!("&patient={}", site.id);
    site.came_to(&site.patient, &of_patient, 1).await;
    assert_eq!(site.log_in("ilse", PASSWORD).await, 200);
    let mut browser = Browser::new(&site.base());
    let code = browser.let_in(SCOPE, &[], "ilse", "").await;
    let given = browser.redeem(&code).await.good().json();
    let refresh = given["refresh_token"].as_str().unwrap().to_owned();
    let again = [("grant_type", "refresh_token"), ("client_id", "chart"), ("refresh_token", refresh.as_str())];
    let next = browser.form("/auth/token", &again).await.good().json();
    // It comes a second time: it was copied.
    assert_eq!(browser.form("/auth/token", &again).await.status, 400);
    let other = browser.let_in(SCOPE, &[], "ilse", "").await;
    let other = browser.redeem(&other).await.good().json()["refresh_token"].as_str().unwrap().to_owned();
    browser.form("/auth/revoke", &[("token", &other), ("client_id", "chart")]).await.good();

    let events = site.came(&site.patient, &of_patient).await;
    let (login, logout) = ("110122", "110123");
    let by_password = [login, "0", "ilse", "ilse"];
    let by_app = [login, "0", "ilse", "chart"];
    let out = [logout, "0", "ilse", "chart"];
    let expected = [
        [login, "4", "ilse", "ilse"],
        by_password,
        by_password, // on the page
        by_app,      // let in
        by_app,      // by the code
        by_app,      // by the refresh token
        out,         // it came a second time
        by_password,
        by_app,
        by_app,
        out,
    ];
    assert_eq!(events.iter().map(come).collect::<Vec<_>>(), expected, "{events:#?}");
    assert!(events[3][4].contains("patient/Observation.rs"), "{events:#?}");
    assert!(events[6][4].contains("came a second time"), "{events:#?}");
    // What was copied is about nobody's records: it is the privacy officer's to see.
    let begin = std::time::Instant::now();
    let all = loop {
        let all = site.came(&site.officer, "").await;
        if all.iter().any(|event| event[4].contains("used before")) {
            break all;
        }
        assert!(begin.elapsed() < consortium::PATIENCE, "{all:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let copied = all.iter().find(|event| event[4].contains("used before")).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(come(copied), [login, "4", "nobody", "chart"]);
    for secret in [PASSWORD, "not hers", &code, &refresh, &other, next["access_token"].as_str().unwrap()] {
        assert!(!all.iter().flatten().any(|text| text.contains(secret)), "a secret is in the trail");
    }

    // None of it is an attempt at records, and all of it is on the ledger.
    let accounting = site.patient.get(&format!("/fhir/Patient/{}/$accounting", site.id)).await.good().json();
    assert_eq!(accounting["denied"], 0, "{accounting}");
    site.consortium.settle().await;
    assert_eq!(site.consortium.node(MERCY).status().await["refused"], 0);
    let config = site.consortium.node(MERCY).dir.display().to_string();
    good(vitaltrace(["audit", "--config", &config, "--full"]));
}

/// Somebody who guesses wrote an entry on the ledger with each guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_is_told_once_and_then_in_one_sum() {
    const GUESSES: usize = 58;
    let mut site = Site::new().await;
    let mut refused = [0; 2];
    for n in 0..GUESSES {
        match site.log_in("ada", &format!("guess {n}")).await {
            401 => refused[0] += 1,
            429 => refused[1] += 1,
            other => panic!("answered {other}"),
        }
    }
    assert_eq!(refused, [10, GUESSES - 10], "ten may fail");
    // A password in the wrong field is nobody's name.
    assert_eq!(site.log_in("correct horse battery", "ada").await, 401);
    let told = site.came_to(&site.officer, "", 2).await;
    let of = |name: &str, told: &[[String; 5]]| told.iter().filter(|event| event[2] == name).count();
    assert_eq!((of("ada", &told), of("nobody", &told)), (1, 1), "{told:#?}");
    // What was counted is told when the gateway stops, too.
    let node = site.consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    node.start();
    node.wait_until_up().await;
    let told = site.came(&site.officer, "").await;
    assert_eq!((of("ada", &told), of("nobody", &told)), (2, 1), "{told:#?}");
    let sum = told.iter().rfind(|event| event[2] == "ada").unwrap();
    assert!(
        sum[4].starts_with(&format!("{} more logins from the same address were refused within", GUESSES - 1)),
        "{sum:?}"
    );
    assert!(!told.iter().flatten().any(|text| text.contains("guess") || text.contains("horse")), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_which_apps_they_let_in_and_end_them_at_once() {
    let site = Site::new().await;
    let doctor = site.consortium.client(MERCY, "ada").for_purpose("TREAT");
    let observation = json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{}", site.id)},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z"
    });
    let observation = format!("/fhir/Observation/{}", doctor.create(&observation).await.id());
    let mut browser = Browser::new(&site.base());
    let mut let_in = async |scope: &str| {
        let code = browser.let_in(scope, &[], "ilse", "").await;
        browser.redeem(&code).await.good().json()
    };
    let (lasting, short) = (let_in(SCOPE).await, let_in("launch/patient patient/Observation.rs").await);
    assert!(short.get("refresh_token").is_none());
    let app = |given: &Value| Client::new(&site.base(), given["access_token"].as_str().unwrap());
    for given in [&lasting, &short] {
        app(given).get(&observation).await.good();
        assert_eq!(app(given).get("/account/sessions").await.status, 403, "no app sees what others were given");
    }

    // On the page: nothing before a login, then both, and text that others chose is text.
    let mut browser = Browser::new(&site.base());
    let form = async |browser: &mut Browser, fields: &[(&str, &str)]| browser.form("/account/apps", fields).await;
    let page = Client::new(&site.base(), "").get("/account/apps").await.good();
    assert_eq!(carried(&page, "step"), "login");
    let wrong = [("step", "login"), ("username", "ilse"), ("password", "not hers")];
    assert_eq!(form(&mut browser, &wrong).await.status, 401);
    let login = [("step", "login"), ("username", "ilse"), ("password", PASSWORD)];
    let page = form(&mut browser, &login).await.good();
    let text = page.text();
    assert_eq!(text.matches("End «Growth &lt;chart&gt;»").count(), 2, "{text}");
    assert!(text.contains("look at records of type Observation about you") && !text.contains("<script"), "{text}");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let visit = carried(&page, "visit");
    let session = said(short["access_token"].as_str().unwrap())["sid"].as_str().unwrap().to_owned();
    let nobody = [("step", "end"), ("visit", "of nobody"), ("session", session.as_str())];
    assert_eq!(form(&mut browser, &nobody).await.status, 400);
    app(&short).get(&observation).await.good();
    let end = [("step", "end"), ("visit", visit.as_str()), ("session", session.as_str())];
    let page = form(&mut browser, &end).await.good();
    assert_eq!(page.text().matches("End «").count(), 1, "{}", page.text());
    assert_eq!(app(&short).get(&observation).await.status, 401, "the token ended with it");
    app(&lasting).get(&observation).await.good();

    // From the command line: not what is another's, and then the other one.
    let config = site.consortium.node(MERCY).dir.display().to_string();
    let given = |user: &str| {
        let said = good(vitaltrace(["app", "given", "--config", &config, "--user", user, "--json"]));
        let said: Value = serde_json::from_str(&said).unwrap();
        said["sessions"].as_array().unwrap().clone()
    };
    let held = given("ilse");
    assert_eq!(
        (held.len(), held[0]["app"].as_str(), held[0]["patient"].as_str()),
        (1, Some("chart"), Some(site.id.as_str()))
    );
    assert!(given("ada").is_empty());
    let session = held[0]["session"].as_str().unwrap();
    let end = |user: &str| vitaltrace(["app", "given", "--config", &config, "--user", user, "--end", session]);
    assert_eq!(end("ada").status.code(), Some(2), "nobody ends what another let in");
    app(&lasting).get(&observation).await.good();
    good(end("ilse"));
    assert_eq!(app(&lasting).get(&observation).await.status, 401);
    let refresh = [
        ("grant_type", "refresh_token"),
        ("client_id", "chart"),
        ("refresh_token", lasting["refresh_token"].as_str().unwrap()),
    ];
    assert_eq!(browser.form("/auth/token", &refresh).await.status, 400);
    assert!(given("ilse").is_empty());
    let ended = site.came(&site.patient, &format!("&patient={}&subtype=110123", site.id)).await;
    assert_eq!(ended.len(), 2, "{ended:#?}");
    assert_eq!(come(&ended[0])[2], "ilse");
    assert_eq!((come(&ended[1])[2], ended[1][4].as_str()), ("operator", "ended by the organisation"));
    // A user ends nothing of another by naming them.
    let other = json!({"session": session, "user": "ilse"});
    assert_eq!(doctor.post("/account/sessions/end", &other).await.status, 403);
    assert_eq!(doctor.get("/account/sessions?user=ilse").await.status, 403);
}
