//! Subscriptions over HTTP: hooks and WebSockets are told of every event that they may know of, each once, and of nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use crate::consortium::{Consortium, PATIENCE, client::Client, good, vitaltrace};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::Message;

const MERCY: &str = "mercy-hospital";
const RESCUE: &str = "rescue-one";
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
const TOPICS: &str = "https://vitaltrace.org/fhir/SubscriptionTopic/";
const SECRET: &str = "Bearer of-the-hook";
/// Seconds between two heartbeats: the fewest that may be asked for.
const HEARTBEAT_S: u64 = 10;
/// How long it is watched that nothing comes: a heartbeat would.
const SILENCE: Duration = Duration::from_secs(HEARTBEAT_S + 2);

/// A program of a subscriber that takes notifications, or does not.
#[derive(Clone)]
struct Hook {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    is_down: bool,
    refused: usize,
    taken: Vec<(HeaderMap, Value)>,
}

impl Hook {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = Self { address: listener.local_addr().unwrap(), inner: Arc::default() };
        let app = Router::new().route("/in", post(Self::take)).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        hook
    }

    async fn take(State(hook): State<Self>, headers: HeaderMap, Json(bundle): Json<Value>) -> StatusCode {
        let mut inner = hook.inner.lock().unwrap();
        if inner.is_down {
            inner.refused += 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        inner.taken.push((headers, bundle));
        StatusCode::OK
    }

    fn set_down(&self, is_down: bool) {
        self.inner.lock().unwrap().is_down = is_down;
    }

    fn taken(&self, kind: &str) -> Vec<(HeaderMap, Value)> {
        let inner = self.inner.lock().unwrap();
        inner.taken.iter().filter(|(_, bundle)| told(bundle, "type") == kind).cloned().collect()
    }

    /// Numbers and focuses of all events that came, in the order in which they came.
    fn events(&self) -> Vec<(String, String)> {
        self.taken("event-notification").iter().flat_map(|(_, bundle)| events_of(bundle)).collect()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < PATIENCE, "{what}: {:?}", self.events());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the status in a Bundle says under a name.
fn told(bundle: &Value, name: &str) -> String {
    let parameters = bundle["entry"][0]["resource"]["parameter"].as_array().unwrap();
    let found = parameters.iter().find(|parameter| parameter["name"] == name);
    let found = found.and_then(|found| found.as_object()?.iter().find(|(key, _)| key.starts_with("value")));
    found.map(|(_, value)| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default()
}

fn events_of(bundle: &Value) -> Vec<(String, String)> {
    let parameters = bundle["entry"][0]["resource"]["parameter"].as_array().unwrap();
    let events = parameters.iter().filter(|parameter| parameter["name"] == "notification-event");
    events
        .map(|event| {
            let parts = event["part"].as_array().unwrap();
            let part = |name: &str| parts.iter().find(|part| part["name"] == name).cloned().unwrap_or_default();
            let focus = part("focus")["valueReference"]["reference"].as_str().unwrap_or_default().to_owned();
            (part("event-number")["valueString"].as_str().unwrap().to_owned(), focus)
        })
        .collect()
}

fn subscription(topic: &str, filter: &str, content: &str, channel: Value) -> Value {
    let mut subscription = json!({
        "resourceType": "Subscription", "status": "requested", "reason": "to hear of it",
        "criteria": format!("{TOPICS}{topic}"), "channel": channel
    });
    if !filter.is_empty() {
        subscription["_criteria"] =
            json!({"extension": [{"url": format!("{BACKPORT}backport-filter-criteria"), "valueString": filter}]});
    }
    subscription["channel"]["payload"] = json!("application/fhir+json");
    subscription["channel"]["_payload"] =
        json!({"extension": [{"url": format!("{BACKPORT}backport-payload-content"), "valueCode": content}]});
    subscription
}

fn to_hook(hook: &Hook) -> Value {
    json!({
        "type": "rest-hook", "endpoint": format!("http://{}/in", hook.address), "header": [format!("Authorization: {SECRET}")],
        "extension": [{"url": format!("{BACKPORT}backport-heartbeat-period"), "valueUnsignedInt": HEARTBEAT_S}]
    })
}

struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let people = [
            (MERCY, "doctor", "doctor"),
            (MERCY, "nurse", "nurse"),
            (MERCY, "officer", "privacy-officer"),
            (MERCY, "custodian", "custodian"),
            (RESCUE, "medic", "responder"),
        ];
        let consortium = Consortium::running(&people).await;
        let doctor = consortium.client(MERCY, "doctor").for_purpose("TREAT");
        let patient = doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
        Self { consortium, doctor, patient }
    }

    /// An Observation of the patient, and what a focus calls it.
    async fn observe(&self, patient: &str, code: &str, label: Option<&str>) -> String {
        let mut observation = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "effectiveDateTime": "2026-01-12T10:05:00Z",
            "valueQuantity": {"value": 71.50, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
        });
        if let Some(label) = label {
            let system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
            observation["meta"] = json!({"security": [{"system": system, "code": label}]});
        }
        format!("{}/fhir/Observation/{}", self.doctor.base, self.doctor.create(&observation).await.id())
    }

    /// Waits until a Subscription says that it stands so, and gives it.
    async fn stands(&self, client: &Client, id: &str, status: &str) -> Value {
        let begin = Instant::now();
        loop {
            let record = client.get(&format!("/fhir/Subscription/{id}")).await.good().json();
            if record["status"] == status {
                return record;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not become {status}: {record}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_told_of_what_its_subscriber_may_read_and_of_nothing_else() {
    let site = Site::new().await;
    let hook = Hook::new().await;
    let stranger = site.doctor.create(&json!({"resourceType": "Patient", "gender": "unknown"})).await.id();
    let filter = format!("Observation?patient={}&code=http://loinc.org|8867-4", site.patient);
    let asked = subscription("observation", &filter, "id-only", to_hook(&hook));
    let created = site.doctor.create(&asked).await;
    let (id, said) = (created.id(), created.json());
    assert_eq!(said["status"], "requested");
    assert!(!created.text().contains(SECRET), "{}", created.text());

    hook.until("no handshake", |hook| !hook.taken("handshake").is_empty()).await;
    let (headers, handshake) = hook.taken("handshake")[0].clone();
    assert_eq!(
        (headers["authorization"].to_str().unwrap(), headers["content-type"].to_str().unwrap()),
        (SECRET, "application/fhir+json")
    );
    assert_eq!((handshake["type"].as_str(), told(&handshake, "status").as_str()), (Some("history"), "requested"));
    let record = site.stands(&site.doctor, &id, "active").await;
    assert!(record["error"].is_null());

    // Of another patient, with another code, restricted: none of them is told, nor does a number stay free for it.
    let first = site.observe(&site.patient, "8867-4", None).await;
    site.observe(&stranger, "8867-4", None).await;
    site.observe(&site.patient, "8310-5", None).await;
    site.observe(&site.patient, "8867-4", Some("R")).await;
    let second = site.observe(&site.patient, "8867-4", None).await;
    hook.until("no second event", |hook| hook.events().len() >= 2).await;
    let expected = [("1".to_owned(), first.clone()), ("2".to_owned(), second)];
    assert_eq!(hook.events(), expected);
    let (_, bundle) = hook.taken("event-notification")[0].clone();
    assert_eq!(bundle["entry"][1]["fullUrl"], first.as_str());
    assert!(
        bundle["entry"][1]["resource"].is_null() && !bundle.to_string().contains("71.5"),
        "an id and no more: {bundle}"
    );
    hook.until("no heartbeat", |hook| !hook.taken("heartbeat").is_empty()).await;
    assert_eq!(told(&hook.taken("heartbeat")[0].1, "events-since-subscription-start"), "2");

    // Each event is in the trail as a read, of whoever subscribed.
    site.consortium.settle().await;
    let officer = site.consortium.client(MERCY, "officer").for_purpose("HOPERAT");
    let trail = officer.get(&format!("/fhir/AuditEvent?patient={}&subtype=read&_count=100", site.patient)).await.good();
    let query = STANDARD.encode(format!("Subscription/{id}"));
    let reads =
        trail.json()["entry"].as_array().unwrap().iter().filter(|entry| entry.to_string().contains(&query)).count();
    assert!(reads >= 1 && !trail.text().contains(SECRET), "{}", trail.text());

    // It is for its owner alone.
    let nurse = site.consortium.client(MERCY, "nurse");
    let custodian = site.consortium.client(MERCY, "custodian").for_purpose("HSYSADMIN");
    let medic = site.consortium.client(RESCUE, "medic");
    for other in [&nurse, &custodian, &medic] {
        for path in ["", "/_history", "/$status", "/$events"] {
            let answer = other.get(&format!("/fhir/Subscription/{id}{path}")).await;
            assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        }
        assert_eq!(other.get("/fhir/Subscription").await.good().json()["total"], 0);
        assert_eq!(other.get("/fhir/Subscription/$status").await.good().json()["total"], 0);
        assert_eq!(
            other.send(Method::DELETE, &format!("/fhir/Subscription/{id}"), &[], &Value::Null).await.status,
            403
        );
    }
    assert_eq!(site.doctor.get("/fhir/Subscription").await.good().json()["total"], 1);

    let status = site.doctor.get(&format!("/fhir/Subscription/{id}/$status")).await.good().json();
    assert_eq!((told(&status, "type").as_str(), told(&status, "status").as_str()), ("query-status", "active"));
    let events = site
        .doctor
        .get(&format!("/fhir/Subscription/{id}/$events?eventsSinceNumber=2&content=full-resource"))
        .await
        .good();
    assert_eq!(events_of(&events.json()), expected[1..]);
    assert!(events.text().contains("71.5"), "{}", events.text());
    let posted =
        json!({"resourceType": "Parameters", "parameter": [{"name": "eventsUntilNumber", "valueString": "1"}]});
    let posted = site.doctor.post(&format!("/fhir/Subscription/{id}/$events"), &posted).await.good().json();
    assert_eq!((events_of(&posted), told(&posted, "type").as_str()), (expected[..1].to_vec(), "query-event"));

    // Deleted, it is silent.
    assert_eq!(
        site.doctor.send(Method::DELETE, &format!("/fhir/Subscription/{id}"), &[], &Value::Null).await.status,
        204
    );
    assert_eq!(site.doctor.get(&format!("/fhir/Subscription/{id}")).await.status, 410);
    site.observe(&site.patient, "8867-4", None).await;
    tokio::time::sleep(SILENCE).await;
    assert_eq!(hook.events(), expected);
    for node in &site.consortium.nodes {
        let log = std::fs::read_to_string(node.dir.join("node.log")).unwrap();
        assert!(!log.contains(SECRET) && !log.contains(&site.patient), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_was_away_gets_what_it_missed_also_when_the_gateway_was_killed_meanwhile() {
    let mut site = Site::new().await;
    let hook = Hook::new().await;
    let asked = subscription("observation", &format!("patient={}", site.patient), "id-only", to_hook(&hook));
    let id = site.doctor.create(&asked).await.id();
    site.stands(&site.doctor, &id, "active").await;
    let mut expected = vec![site.observe(&site.patient, "8867-4", None).await];
    hook.until("no first event", |hook| hook.events().len() == 1).await;

    hook.set_down(true);
    expected.push(site.observe(&site.patient, "8867-4", None).await);
    let record = site.stands(&site.doctor, &id, "error").await;
    assert!(record["error"].as_str().unwrap().contains("does not take it"), "{record}");
    let status = site.doctor.get(&format!("/fhir/Subscription/{id}/$status")).await.good().json();
    assert!(told(&status, "error").contains("1 events did not get through"), "{status}");
    let missed = site.doctor.get(&format!("/fhir/Subscription/{id}/$events?eventsSinceNumber=2")).await.good().json();
    assert_eq!(events_of(&missed), [("2".to_owned(), expected[1].clone())]);

    // Each write is answered, and the process is gone at once: before it could look for an event.
    for _ in 0..3 {
        expected.push(site.observe(&site.patient, "8867-4", None).await);
        let node = site.consortium.node_mut(MERCY);
        node.kill();
        node.start();
        node.wait_until_up().await;
    }
    hook.set_down(false);
    hook.until("not all events", |hook| hook.events().len() >= expected.len()).await;
    let numbered: Vec<(String, String)> =
        expected.iter().zip(1..).map(|(focus, n)| (n.to_string(), focus.clone())).collect();
    assert_eq!(hook.events(), numbered);
    site.stands(&site.doctor, &id, "active").await;
    // The next one follows without a gap, and nothing comes twice.
    let last = site.observe(&site.patient, "8867-4", None).await;
    hook.until("no last event", |hook| hook.events().len() > expected.len()).await;
    assert_eq!(hook.events()[expected.len()..], [((expected.len() + 1).to_string(), last)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_read_no_more_is_told_no_more() {
    let site = Site::new().await;
    let (hook, of_nurse) = (Hook::new().await, Hook::new().await);
    site.consortium.add_user(MERCY, "ilse", "patient", Some(&site.patient));
    let filter = format!("patient={}", site.patient);
    let id = site.doctor.create(&subscription("observation", &filter, "empty", to_hook(&hook))).await.id();
    let nurse = site.consortium.client(MERCY, "nurse");
    let asked = subscription("observation", &filter, "full-resource", to_hook(&of_nurse));
    let id_of_nurse = nurse.create(&asked).await.id();
    site.stands(&site.doctor, &id, "active").await;
    site.stands(&nurse, &id_of_nurse, "active").await;
    site.observe(&site.patient, "8867-4", None).await;
    hook.until("no event", |hook| hook.events() == [("1".to_owned(), String::new())]).await;
    of_nurse.until("no event of the nurse", |hook| hook.events().len() == 1).await;
    assert!(of_nurse.taken("event-notification")[0].1["entry"][1]["resource"]["valueQuantity"]["value"].is_number());

    // The nurse's login is closed.
    let config = site.consortium.node(MERCY).dir.display().to_string();
    good(vitaltrace(["user", "--config", config.as_str(), "--name", "nurse", "--close"]));
    // Nobody can ask for its record any more; its hook falls silent.
    tokio::time::sleep(SILENCE).await;
    let heartbeats = of_nurse.taken("heartbeat").len();

    // The patient withdraws from treatment.
    let consent = json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{}", site.patient)},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policy": [{"uri": "https://vitaltrace.org/policy/access"}],
        "provision": {"type": "deny", "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}
    });
    site.consortium.client(MERCY, "ilse").for_purpose("PATRQT").create(&consent).await;
    let record = site.stands(&site.doctor, &id, "off").await;
    assert!(record["error"].as_str().unwrap().contains("the patient has not consented to this use"), "{record}");
    let taken = hook.inner.lock().unwrap().taken.len();
    site.observe(&site.patient, "8867-4", None).await;
    tokio::time::sleep(SILENCE).await;
    assert_eq!(hook.inner.lock().unwrap().taken.len(), taken, "something came after the consent was withdrawn");
    assert_eq!(
        (of_nurse.taken("heartbeat").len(), of_nurse.events().len()),
        (heartbeats, 1),
        "a closed login is told something"
    );
    // What there was is told no more, nor is anything begun anew.
    let events = site.doctor.get(&format!("/fhir/Subscription/{id}/$events?content=id-only")).await.good().json();
    assert_eq!(events_of(&events), [("1".to_owned(), String::new())]);
    let again =
        site.doctor.post("/fhir/Subscription", &subscription("observation", &filter, "empty", to_hook(&hook))).await;
    assert_eq!(again.status, 403, "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_subscription_is_refused_with_what_to_write() {
    let site = Site::new().await;
    let hook = Hook::new().await;
    let good = subscription("observation", &format!("patient={}", site.patient), "id-only", to_hook(&hook));
    let refused = async |change: &dyn Fn(&mut Value), says: &str| {
        let mut wrong = good.clone();
        change(&mut wrong);
        let answer = site.doctor.post("/fhir/Subscription", &wrong).await;
        assert_eq!(answer.status, 422, "{says}: {}", answer.text());
        assert!(answer.json()["issue"][0]["diagnostics"].as_str().unwrap().contains(says), "{says}: {}", answer.text());
    };
    refused(&|s| s["criteria"] = json!("Observation?code=8867-4"), "SubscriptionTopic/observation").await;
    let without = |element: &mut Value, name: &str| drop(element.as_object_mut().unwrap().remove(name));
    refused(&|s| without(s, "_criteria"), "patient=ilse").await;
    refused(&|s| without(&mut s["channel"], "_payload"), "`id-only`").await;
    for inside in ["http://10.0.0.7/in", "https://169.254.169.254/latest", "http://hook.example/in"] {
        refused(&|s| s["channel"]["endpoint"] = json!(inside), "[subscriptions] allow").await;
    }
    refused(&|s| s["channel"]["header"] = json!(["hunter2"]), "`Name: value`").await;
    refused(
        &|s| s["_criteria"]["extension"][0]["valueString"] = json!("patient=nobody-here&weather=bad"),
        "`patient`, `code`",
    )
    .await;

    let entry = json!({"resource": good, "request": {"method": "POST", "url": "Subscription"}});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
    let answer = site.doctor.post("/fhir", &bundle).await;
    assert!(answer.status == 422 && answer.text().contains("by its own address"), "{}", answer.text());
    assert_eq!(hook.inner.lock().unwrap().taken.len(), 0, "a hook is called by a subscription that was refused");

    // Topics are found where R4 has them be found.
    let metadata = site.doctor.get("/fhir/metadata").await.good().json();
    let resources = metadata["rest"][0]["resource"].as_array().unwrap();
    let offered = resources.iter().find(|resource| resource["type"] == "Subscription").unwrap();
    let topics: Vec<&str> =
        offered["extension"].as_array().unwrap().iter().map(|e| e["valueCanonical"].as_str().unwrap()).collect();
    for topic in ["alarm", "consent", "encounter-handoff", "observation"] {
        assert!(topics.contains(&format!("{TOPICS}{topic}").as_str()), "{topics:?}");
    }

    // Written again, it begins again and its numbers go on; a header that was shown without its value keeps it.
    let created = site.doctor.create(&good).await;
    let id = created.id();
    site.stands(&site.doctor, &id, "active").await;
    site.observe(&site.patient, "8867-4", None).await;
    hook.until("no event", |hook| hook.events().len() == 1).await;
    let mut again = site.doctor.get(&format!("/fhir/Subscription/{id}")).await.good().json();
    again["status"] = json!("requested");
    again["reason"] = json!("another reason");
    site.doctor.put(&format!("/fhir/Subscription/{id}"), &again, &[]).await.good();
    // A secret goes to nobody else unseen; and an edition that is not written has nobody called.
    let elsewhere = Hook::new().await;
    again["channel"]["endpoint"] = json!(format!("http://{}/in", elsewhere.address));
    let answer = site.doctor.put(&format!("/fhir/Subscription/{id}"), &again, &[]).await;
    assert!(answer.status == 422 && answer.text().contains("write the value"), "{}", answer.text());
    again["channel"]["header"] = json!([format!("Authorization: {SECRET}")]);
    let first = [("if-match", "W/\"1\"")];
    assert_eq!(site.doctor.put(&format!("/fhir/Subscription/{id}"), &again, &first).await.status, 412);
    hook.until("no second handshake", |hook| hook.taken("handshake").len() == 2).await;
    assert_eq!(hook.taken("handshake")[1].0["authorization"], SECRET);
    site.observe(&site.patient, "8867-4", None).await;
    hook.until("no second event", |hook| hook.events().len() == 2).await;
    assert_eq!(hook.events()[1].0, "2");
    assert_eq!(elsewhere.inner.lock().unwrap().taken.len(), 0, "an edition that was refused has a hook called");
    let patch = [("content-type", "application/json-patch+json")];
    let patched = site.doctor.send(Method::PATCH, &format!("/fhir/Subscription/{id}"), &patch, &json!([])).await;
    assert_eq!(patched.status, 422, "{}", patched.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_sends_the_gateway_elsewhere_is_not_followed() {
    let site = Site::new().await;
    let elsewhere = Hook::new().await;
    let there = format!("http://{}/in", elsewhere.address);
    let knocks = Arc::new(Mutex::new(0usize));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Hook { address: listener.local_addr().unwrap(), inner: Arc::default() };
    let knocked = knocks.clone();
    let redirect = move || {
        *knocked.lock().unwrap() += 1;
        let there = there.clone();
        // 307: whoever follows it posts the same again.
        async move { axum::response::Redirect::temporary(&there) }
    };
    let app = Router::new().route("/in", post(redirect));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let asked = subscription("observation", &format!("patient={}", site.patient), "empty", to_hook(&door));
    let id = site.doctor.create(&asked).await.id();
    let record = site.stands(&site.doctor, &id, "error").await;
    assert!(record["error"].as_str().unwrap().contains("does not take it"), "{record}");
    assert!(*knocks.lock().unwrap() >= 3);
    assert!(elsewhere.inner.lock().unwrap().taken.is_empty(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_told_of_a_handoff_from_another_organisation_and_goes_on_when_it_comes_back() {
    let site = Site::new().await;
    let asked =
        subscription("encounter-handoff", &format!("organization={MERCY}"), "id-only", json!({"type": "websocket"}));
    let id = site.doctor.create(&asked).await.id();
    let nurse = site.consortium.client(MERCY, "nurse");
    assert_eq!(nurse.get(&format!("/fhir/Subscription/{id}/$get-ws-binding-token")).await.status, 403);
    let medic = site.consortium.client(RESCUE, "medic").for_purpose("TREAT");
    let task_for = async |to: &str, code: &str| {
        let member = |org: &str| json!({"identifier": {"system": "https://vitaltrace.org/org", "value": org}});
        let task = json!({
            "resourceType": "Task", "status": "requested", "intent": "order", "code": {"coding": [{"code": code}]},
            "for": {"reference": format!("Patient/{}", site.patient)}, "requester": member(RESCUE), "owner": member(to)
        });
        format!("{}/fhir/Task/{}", site.doctor.base, medic.create(&task).await.id())
    };
    let open = async || {
        let token = site.doctor.get(&format!("/fhir/Subscription/{id}/$get-ws-binding-token")).await.good().json();
        let value = |name: &str| {
            let parameters = token["parameter"].as_array().unwrap();
            let found = parameters.iter().find(|parameter| parameter["name"] == name).unwrap().clone();
            found.as_object().unwrap().values().nth(1).unwrap().as_str().unwrap().to_owned()
        };
        let (mut socket, _) = tokio_tungstenite::connect_async(value("websocket-url")).await.unwrap();
        socket.send(Message::text(format!("bind-with-token: {}", value("token")))).await.unwrap();
        (socket, value("token"), value("websocket-url"))
    };
    async fn next(
        socket: &mut (impl futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
    ) -> Value {
        loop {
            match tokio::time::timeout(PATIENCE, socket.next())
                .await
                .expect("nothing is told")
                .expect("closed")
                .unwrap()
            {
                Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    site.consortium.settle().await;
    let (mut socket, token, url) = open().await;
    assert_eq!(told(&next(&mut socket).await, "type"), "handshake");
    task_for(MERCY, "review").await;
    let first = task_for(MERCY, "handoff").await;
    assert_eq!(events_of(&next(&mut socket).await), [("1".to_owned(), first.clone())]);

    // It is gone before it answered that it has it: whoever comes back is told again, and answers.
    drop(socket);
    let (mut socket, _, _) = open().await;
    assert_eq!(told(&next(&mut socket).await, "type"), "handshake");
    assert_eq!(events_of(&next(&mut socket).await), [("1".to_owned(), first)]);
    loop {
        let heard = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it is not asked").expect("closed");
        if matches!(heard.unwrap(), Message::Ping(_)) {
            break;
        }
    }
    socket.flush().await.unwrap();

    // A token binds once.
    let (mut other, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    other.send(Message::text(format!("bind-with-token: {token}"))).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, other.next()).await.expect("it is not closed");
    assert!(matches!(closed, Some(Ok(Message::Close(Some(_))))), "{closed:?}");

    // Nobody listens; whoever comes back is told.
    socket.close(None).await.unwrap();
    drop(socket);
    let second = task_for(MERCY, "handoff").await;
    site.consortium.settle().await;
    let (mut socket, _, _) = open().await;
    assert_eq!(told(&next(&mut socket).await, "type"), "handshake");
    assert_eq!(events_of(&next(&mut socket).await), [("2".to_owned(), second)]);
    // Deleted, it says so and closes.
    assert_eq!(
        site.doctor.send(Method::DELETE, &format!("/fhir/Subscription/{id}"), &[], &Value::Null).await.status,
        204
    );
    assert_eq!(next(&mut socket).await["resourceType"], "OperationOutcome");
}
