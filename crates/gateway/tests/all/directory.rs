//! Logins by the directory: a custodian writes who comes in, in which role and for how long, and hands over an invitation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{
    Consortium, PASSWORD,
    browser::Browser,
    client::{Answer, Client},
};
use reqwest::Method;
use serde_json::{Value, json};

const MERCY: &str = "mercy-hospital";
const CHOSEN: &str = "six geese over the lake";

struct Site {
    consortium: Consortium,
    kim: Client,
}

impl Site {
    async fn new() -> Self {
        let people = [(MERCY, "kim", "custodian"), (MERCY, "lou", "custodian"), (MERCY, "ada", "doctor")];
        let consortium = Consortium::running(&people).await;
        Self { kim: consortium.client(MERCY, "kim").for_purpose("HSYSADMIN"), consortium }
    }

    fn role(login: &str, code: &str, more: Value) -> Value {
        let mut role = json!({
            "resourceType": "PractitionerRole", "active": true,
            "identifier": [{"system": format!("https://vitaltrace.org/org/{MERCY}/user"), "value": login}],
            "practitioner": {"reference": "Practitioner/lea"},
            "code": [{"coding": [{"system": "https://vitaltrace.org/fhir/CodeSystem/role", "code": code}]}]
        });
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        role
    }

    async fn write(&self, id: &str, role: Value) -> Answer {
        let mut role = role;
        role["id"] = json!(id);
        self.kim.put(&format!("/fhir/PractitionerRole/{id}"), &role, &[]).await
    }

    async fn log_in(&self, name: &str, password: &str) -> Answer {
        let login = json!({"username": name, "password": password});
        Client::new(&self.consortium.node(MERCY).base(), "").post("/auth/token", &login).await
    }

    /// A token of somebody who was let in. What changed a login a moment ago ends what is given in the same seconds.
    async fn client(&self, name: &str) -> Client {
        let given = self.log_in(name, CHOSEN).await.good().json();
        Client::new(&self.consortium.node(MERCY).base(), given["access_token"].as_str().unwrap())
    }

    async fn choose(&self, name: &str, invitation: &str, passwords: [&str; 2]) -> Answer {
        let [password, again] = passwords;
        let fields = [("username", name), ("invitation", invitation), ("password", password), ("again", again)];
        Browser::new(&self.consortium.node(MERCY).base()).form("/account/welcome", &fields).await
    }

    async fn invited(&self, id: &str) -> Value {
        self.kim.post(&format!("/fhir/PractitionerRole/{id}/$invite"), &json!({})).await.good().json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_lets_somebody_in_by_the_directory_and_out_again_at_once() {
    let site = Site::new().await;
    site.write("lea", Site::role("lea", "nurse", json!({}))).await.good();
    assert_eq!(site.log_in("lea", CHOSEN).await.status, 401, "nobody chose a password");
    let invited = site.invited("lea").await;
    assert_eq!(invited["login"], "lea");
    assert!(invited["at"].as_str().unwrap().ends_with("/account/welcome"), "{invited}");
    let secret = invited["invitation"].as_str().unwrap();
    assert_eq!(site.choose("lea", secret, [CHOSEN, "another"]).await.status, 400);
    assert_eq!(site.choose("lea", secret, ["short", "short"]).await.status, 400);
    assert_eq!(site.choose("lea", "made up", [CHOSEN, CHOSEN]).await.status, 401);
    site.choose("lea", secret, [CHOSEN, CHOSEN]).await.good();
    assert_eq!(site.choose("lea", secret, [PASSWORD, PASSWORD]).await.status, 401, "it is good once");

    let lea = site.client("lea").await;
    let patient = json!({"resourceType": "Patient", "gender": "unknown"});
    let id = site.consortium.client(MERCY, "ada").create(&patient).await.id();
    lea.get(&format!("/fhir/Patient/{id}")).await.good();

    // Another role: what was given for the first is over, and the next login is for the second.
    site.write("lea", Site::role("lea", "administrator", json!({}))).await.good();
    assert_eq!(lea.get(&format!("/fhir/Patient/{id}")).await.status, 401);
    let lea = site.client("lea").await;
    assert_eq!(lea.for_purpose("TREAT").get(&format!("/fhir/Observation?patient={id}")).await.json()["total"], 0);
    lea.for_purpose("PATADMIN").get(&format!("/fhir/Patient/{id}")).await.good();

    // Away, back, and gone for good.
    site.write("lea", Site::role("lea", "administrator", json!({"active": false}))).await.good();
    assert_eq!(lea.for_purpose("PATADMIN").get(&format!("/fhir/Patient/{id}")).await.status, 401);
    assert_eq!(site.log_in("lea", CHOSEN).await.status, 401);
    let invite = site.kim.post("/fhir/PractitionerRole/lea/$invite", &json!({})).await;
    assert_eq!(invite.status, 409, "{}", invite.text());
    site.write("lea", Site::role("lea", "administrator", json!({"period": {"start": "2020"}}))).await.good();
    site.client("lea").await;
    site.write("lea", Site::role("lea", "administrator", json!({"period": {"end": "2020"}}))).await.good();
    assert_eq!(site.log_in("lea", CHOSEN).await.status, 401);
    site.write("lea", Site::role("lea", "administrator", json!({}))).await.good();
    site.client("lea").await;
    site.kim.send(Method::DELETE, "/fhir/PractitionerRole/lea", &[], &Value::Null).await.good();
    assert_eq!(site.log_in("lea", CHOSEN).await.status, 401);

    // The name is free, and somebody else's: what the first one knew opens nothing.
    site.write("lea-2", Site::role("lea", "nurse", json!({}))).await.good();
    assert_eq!(site.log_in("lea", CHOSEN).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_cannot_say_of_a_login_is_refused_and_nobody_changes_their_own() {
    let site = Site::new().await;
    let nurse = || Site::role("lea", "nurse", json!({}));
    site.write("lea", nurse()).await.good();
    let mine = site.write("own", Site::role("kim", "doctor", json!({}))).await;
    assert_eq!(mine.status, 403, "{}", mine.text());
    let two = json!({"code": [{"coding": [
        {"system": "https://vitaltrace.org/fhir/CodeSystem/role", "code": "nurse"},
        {"system": "https://vitaltrace.org/fhir/CodeSystem/role", "code": "doctor"}
    ]}]});
    site.consortium.add_user(MERCY, "ilse", "patient", Some("p1"));
    for (why, id, role, says) in [
        ("a name that is taken", "other", nurse(), "PractitionerRole/lea"),
        ("another name", "lea", Site::role("lou-2", "nurse", json!({})), "keeps the login `lea`"),
        ("two roles", "two", Site::role("bo", "nurse", two), "one role"),
        ("a trade of others", "insurer", Site::role("bo", "insurer", json!({})), "privacy-officer"),
        ("no name", "no-name", Site::role("b o", "nurse", json!({})), "1 to 64 letters"),
        ("the operator", "operator", Site::role("operator", "nurse", json!({})), "take another name"),
        ("a patient's login", "patient", Site::role("ilse", "nurse", json!({})), "a patient's"),
    ] {
        let answer = site.write(id, role).await;
        assert_eq!(answer.status, 422, "{why}: {}", answer.text());
        let text = answer.text();
        assert!(text.contains(says) && text.contains("PractitionerRole."), "{why}: {text}");
    }
    let twice = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": Site::role("bo", "nurse", json!({})), "request": {"method": "POST", "url": "PractitionerRole"}},
        {"resource": Site::role("bo", "doctor", json!({})), "request": {"method": "POST", "url": "PractitionerRole"}}
    ]});
    assert_eq!(site.kim.post("/fhir", &twice).await.status, 422);
    assert_eq!(site.log_in("bo", PASSWORD).await.status, 401);
    // Nobody but custodians.
    let ada = site.consortium.client(MERCY, "ada").for_purpose("TREAT");
    assert_eq!(ada.post("/fhir/PractitionerRole", &Site::role("bo", "doctor", json!({}))).await.status, 403);
    assert_eq!(ada.post("/fhir/PractitionerRole/lea/$invite", &json!({})).await.status, 403);
    // A directory as hospitals have it names no login of ours, and is stored as any record.
    let plain = json!({"resourceType": "PractitionerRole", "practitioner": {"display": "Dr Adams"}, "code": [{"text": "General practice"}]});
    site.kim.post("/fhir/PractitionerRole", &plain).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_database_lets_nobody_in_and_keeps_nobody_out() {
    let mut site = Site::new().await;
    site.write("lea", Site::role("lea", "nurse", json!({}))).await.good();
    let secret = site.invited("lea").await["invitation"].as_str().unwrap().to_owned();
    site.choose("lea", &secret, [CHOSEN, CHOSEN]).await.good();
    site.write("bo", Site::role("bo", "nurse", json!({"active": false}))).await.good();
    site.consortium.settle().await;
    let promoted =
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'nurse', 'doctor') AS BLOB) WHERE id = 'lea'";
    site.consortium.sql(promoted, []);
    let let_in =
        "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'false', 'true') AS BLOB) WHERE id = 'bo'";
    site.consortium.sql(let_in, []);
    // The gateway looks at the directory when it starts.
    let node = site.consortium.node_mut(MERCY);
    assert_eq!(node.stop(), Some(0));
    node.start();
    node.wait_until_answers().await;
    site.write("other", Site::role("other", "nurse", json!({}))).await.good();
    let users = std::fs::read_to_string(site.consortium.node(MERCY).dir.join("users.toml")).unwrap();
    assert!(!users.contains("[bo]"), "{users}");
    let lea = site.client("lea").await;
    assert_eq!(lea.get("/fhir/PractitionerRole?identifier=lea").await.status, 200);
    // It is still a nurse's.
    assert!(users.contains("[lea]") && users.contains("role = \"nurse\""), "{users}");
    site.consortium.sql("DELETE FROM version WHERE id = 'lea'", []);
    site.write("third", Site::role("third", "nurse", json!({}))).await.good();
    site.client("lea").await;
}
