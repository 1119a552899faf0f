//! Bad input: every case gets the status it deserves and an OperationOutcome that names what is wrong, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; what is tested is said")]

use crate::consortium::{Consortium, client::Client};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use record::{Digest, TimeMs};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PEOPLE: [(&str, &str, &str); 3] = [
    ("mercy-hospital", "doctor", "doctor"),
    ("mercy-hospital", "custodian", "custodian"),
    ("rescue-one", "paramedic", "responder"),
];

/// A request as text, and what must come back.
struct Case {
    name: &'static str,
    /// `POST /fhir/Patient`.
    line: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Status, code of the first issue, and words of its diagnostics or expression.
    expected: (u16, &'static str, &'static str),
}

fn case(
    name: &'static str,
    line: &'static str,
    body: impl Into<Vec<u8>>,
    expected: (u16, &'static str, &'static str),
) -> Case {
    Case { name, line, headers: Vec::new(), body: body.into(), expected }
}

impl Case {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }
}

/// A consortium with one patient at version 2, and the face of the database.
struct Site {
    consortium: Consortium,
    doctor: Client,
    patient: String,
}

impl Site {
    async fn new() -> Self {
        let consortium = Consortium::running(&PEOPLE).await;
        let doctor = consortium.client("mercy-hospital", "doctor");
        let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
        let path = format!("/fhir/Patient/{patient}");
        let body = json!({"resourceType": "Patient", "id": patient, "name": [{"family": "Somebody"}]});
        doctor.put(&path, &body, &[("if-match", "W/\"1\"")]).await.good();
        consortium.settle().await;
        Self { consortium, doctor, patient }
    }

    /// Sends every case, and demands that each is answered as expected and that the database has not one row more, audit events of
    /// denials not counted; and that the gateway still serves.
    async fn check(&self, cases: Vec<Case>) {
        let before = rows(&self.consortium.database);
        self.check_answers(&cases);
        self.nothing_was_written_since(&before);
        self.still_serves().await;
    }

    fn check_answers(&self, cases: &[Case]) {
        let wrong: Vec<String> = cases.iter().filter_map(|case| self.wrong_answer(case)).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        println!("{} cases answered as they deserve", cases.len());
    }

    /// What is wrong with the answer to a case, if anything.
    fn wrong_answer(&self, case: &Case) -> Option<String> {
        let answer = self.send(case);
        let outcome: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let issue = &outcome["issue"][0];
        let (status, code, words) = case.expected;
        let says = format!("{} {}", issue["diagnostics"].as_str().unwrap_or_default(), issue["expression"]);
        let good = answer.status == status
            && outcome["resourceType"] == "OperationOutcome"
            && issue["code"] == code
            && issue["severity"] == "error"
            && says.contains(words);
        let got: String = String::from_utf8_lossy(&answer.body).chars().take(400).collect();
        (!good).then(|| format!("{}: expected {status} {code} «{words}», got {} {got}", case.name, answer.status))
    }

    fn nothing_was_written_since(&self, before: &BTreeMap<String, i64>) {
        let after = rows(&self.consortium.database);
        assert_eq!(*before, after, "something was written");
        for outcome in audit_outcomes(&self.consortium.database) {
            // 0: success, of what `Site::new` and `still_serves` did. 8: serious failure, a denial.
            assert!(outcome == "0" || outcome == "8", "an audit event with outcome {outcome}");
        }
    }

    async fn still_serves(&self) {
        let observation = observation(&self.patient);
        let id = self.doctor.create(&observation).await.id();
        self.doctor.get(&format!("/fhir/Observation/{id}")).await.good();
        self.consortium.settle().await;
        let receipt = self.doctor.get(&format!("/fhir/Observation/{id}/_provenance")).await.good().json();
        assert_eq!(receipt["state"], "final");
    }

    /// Sends a case over a connection of its own, its path untouched by any library.
    fn send(&self, case: &Case) -> Raw {
        let (method, path) = case.line.split_once(' ').unwrap();
        let path = path.replace("{patient}", &self.patient);
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        let headers = [
            ("authorization", format!("Bearer {}", self.doctor.token)),
            ("content-type", "application/fhir+json".to_owned()),
        ];
        let given = |name: &str| case.headers.iter().any(|(known, _)| *known == name);
        for (name, value) in headers.iter().filter(|(name, _)| !given(name)).chain(&case.headers) {
            if !value.is_empty() {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !given("content-length") {
            request.push_str(&format!("content-length: {}\r\n", case.body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend(&case.body);
        raw(self.consortium.node("mercy-hospital").http, |stream| {
            // A gateway that has seen enough may close before everything is sent.
            let _ = stream.write_all(&bytes);
        })
    }
}

/// An answer, taken apart by hand.
struct Raw {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// Writes while another thread reads, so that an answer that comes early is seen.
fn raw(address: std::net::SocketAddr, write: impl FnOnce(&mut TcpStream) + Send) -> Raw {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reading = stream.try_clone().unwrap();
    let answer = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut answer = Vec::new();
            // What came before a reset counts.
            let _ = reading.read_to_end(&mut answer);
            answer
        });
        write(&mut stream);
        reader.join().unwrap()
    });
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Raw { status, head, body: answer.get(end + 4..).unwrap_or_default().to_vec() }
}

/// Rows by table and resource type; audit events and what belongs to them not counted.
fn rows(database: &Path) -> BTreeMap<String, i64> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut rows = BTreeMap::new();
    for table in ["version", "entry", "token", "text", "date", "reference"] {
        let sql =
            format!("SELECT coalesce(rtype, 'none'), count(*) FROM {table} WHERE rtype IS NOT 'AuditEvent' GROUP BY 1");
        let mut select = connection.prepare(&sql).unwrap();
        let found = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).unwrap();
        rows.extend(found.map(|row| row.map(|(rtype, count)| (format!("{table} {rtype}"), count)).unwrap()));
    }
    for table in ["frame", "attachment", "wrapped_key"] {
        let count = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        rows.insert(table.to_owned(), count);
    }
    rows
}

/// What the audit events in the database say of how it ended.
fn audit_outcomes(database: &Path) -> Vec<String> {
    const ROWS_AT_ONCE: usize = 1_000;
    let reader = store::Reader::open(&database.to_owned().into(), 1).unwrap();
    let (mut outcomes, mut place) = (Vec::new(), Some(0));
    while let Some(after) = place {
        let sweep = futures::executor::block_on(reader.rows(after, ROWS_AT_ONCE)).unwrap();
        assert_eq!(sweep.found.malformed, []);
        for row in sweep.found.rows.iter().filter(|row| row.rtype == "AuditEvent") {
            let event: Value = serde_json::from_slice(&row.bytes).unwrap();
            outcomes.push(event["outcome"].as_str().unwrap().to_owned());
        }
        place = sweep.next;
    }
    outcomes
}

fn observation(patient: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/{patient}")},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "effectiveDateTime": "2026-01-12T10:05:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    })
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// An Observation with something changed.
fn but(patient: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = observation(patient);
    change(&mut value);
    bytes(&value)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_resources_are_told_what_is_wrong_and_leave_nothing_behind() {
    let site = Site::new().await;
    let patient = site.patient.as_str();
    let good = bytes(&observation(patient));
    let text = String::from_utf8(good.clone()).unwrap();
    let create = "POST /fhir/Observation";
    let update = "PUT /fhir/Patient/{patient}";
    let deep =
        format!("{{\"resourceType\":\"Observation\",\"extension\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let person = |id: &str| bytes(&json!({"resourceType": "Patient", "id": id}));
    site.check(vec![
        case("nothing", create, "", (400, "structure", "not JSON")),
        case("truncated JSON", create, &good[..good.len() / 2], (400, "structure", "not JSON")),
        case("text after the end", create, format!("{text}{text}"), (400, "structure", "not JSON")),
        case("no JSON", create, "<Observation/>", (400, "structure", "not JSON")),
        case(
            "not UTF-8",
            create,
            b"{\"resourceType\":\"Observation\",\"status\":\"\xff\"}",
            (400, "structure", "UTF-8"),
        ),
        case("a list", create, "[]", (400, "structure", "JSON object")),
        case(
            "a number for a code",
            create,
            but(patient, |o| o["status"] = json!(5)),
            (400, "structure", "Observation.status"),
        ),
        case(
            "a text for a reference",
            create,
            but(patient, |o| o["subject"] = json!("ana")),
            (400, "structure", "Observation.subject"),
        ),
        case(
            "one where there may be many",
            create,
            but(patient, |o| o["category"] = json!({})),
            (400, "structure", "Observation.category"),
        ),
        case("null", create, but(patient, |o| o["issued"] = json!(null)), (400, "structure", "Observation.issued")),
        case(
            "an unknown element",
            create,
            but(patient, |o| o["colour"] = json!("red")),
            (400, "structure", "Observation.colour"),
        ),
        case(
            "no status",
            create,
            but(patient, |o| drop(o.as_object_mut().unwrap().remove("status"))),
            (422, "required", "Observation.status"),
        ),
        case(
            "a date that is none",
            create,
            but(patient, |o| o["effectiveDateTime"] = json!("yesterday")),
            (422, "value", "effectiveDateTime"),
        ),
        case(
            "a code that is none",
            create,
            but(patient, |o| o["status"] = json!("finished")),
            (422, "code-invalid", "Observation.status"),
        ),
        case("a patient that is not here", create, but("nobody", |_| ()), (422, "not-found", "Patient/nobody")),
        case(
            "a key twice",
            create,
            text.replacen("{", "{\"status\":\"final\",", 1),
            (400, "structure", "Observation.status"),
        ),
        case("100,000 levels deep", create, deep, (422, "too-costly", "nested")),
        case(
            "9 MB",
            create,
            but(patient, |o| o["note"] = json!([{"text": "a".repeat(9 << 20)}])),
            (413, "too-long", "bytes"),
        ),
        case("no resourceType", create, "{}", (422, "required", "resourceType")),
        case(
            "an unknown type in the body",
            create,
            "{\"resourceType\":\"Wombat\"}",
            (400, "structure", "resource type"),
        ),
        case(
            "an unknown type in the address",
            "POST /fhir/Wombat",
            "{\"resourceType\":\"Wombat\"}",
            (404, "not-found", "Wombat"),
        ),
        case("another type than the address", "POST /fhir/Patient", good.clone(), (422, "invalid", "Observation")),
        case("an old version", update, person(patient), (412, "conflict", "W/\"2\"")).with("if-match", "W/\"1\""),
        case("a version that never was", update, person(patient), (412, "conflict", "W/\"2\""))
            .with("if-match", "W/\"99\""),
        case("If-Match of no form", update, person(patient), (422, "value", "If-Match")).with("if-match", "latest"),
        case("a version of nothing", "PUT /fhir/Patient/nobody", person("nobody"), (412, "conflict", "does not exist"))
            .with("if-match", "W/\"1\""),
        case("another id than the address", update, person("other"), (422, "invalid", "id")),
        case("no id in an update", update, "{\"resourceType\":\"Patient\"}", (422, "required", "id")),
        case("an id that is none", "PUT /fhir/Patient/a_b", person("a_b"), (422, "value", "id")),
        case("an unknown purpose", create, good.clone(), (422, "code-invalid", "CURIOSITY"))
            .with("x-purpose-of-use", "CURIOSITY"),
        case("a purpose that does not fit", create, good.clone(), (403, "forbidden", "denied"))
            .with("x-purpose-of-use", "HPAYMT"),
        case(
            "what a doctor may not write",
            "POST /fhir/Consent",
            bytes(&consent(patient)),
            (403, "forbidden", "consent"),
        ),
        case("a condition that is none", create, good.clone(), (422, "not-supported", "colour"))
            .with("if-none-exist", "colour=red"),
        case("a condition without words", create, good, (422, "invalid", "condition"))
            .with("if-none-exist", "_count=1"),
    ])
    .await;
}

fn consent(patient: &str) -> Value {
    json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{patient}")},
        "scope": {"coding": [{"code": "patient-privacy"}]}, "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policy": [{"uri": "https://vitaltrace.org/policy/access"}]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_fails_at_its_last_entry_leaves_nothing_behind() {
    let site = Site::new().await;
    let patient = site.patient.clone();
    let post =
        |resource: Value| json!({"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}});
    let thirty: Vec<Value> = (0..30).map(|_| post(observation(&patient))).collect();
    let bundle = |last: Value| {
        let newcomer = json!({
            "fullUrl": "urn:uuid:6c1d7a52-3d5b-4b0e-9f53-0f6a5b1c2d3e", "resource": {"resourceType": "Patient"},
            "request": {"method": "POST", "url": "Patient"}
        });
        let entries: Vec<Value> = std::iter::once(newcomer).chain(thirty.clone()).chain([last]).collect();
        bytes(&json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}))
    };
    let whole = bundle(post(observation(&patient)));
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut resource = observation(&patient);
        change(&mut resource);
        bundle(post(resource))
    };
    let put = |id: &str, request: Value| {
        bundle(json!({"resource": {"resourceType": "Patient", "id": id}, "request": request}))
    };
    let conditional = |url: &str| wrong(&|o| o["performer"] = json!([{"reference": url}]));
    let send = "POST /fhir";
    site.check(vec![
        case("cut off in the last entry", send, &whole[..whole.len() - 20], (400, "structure", "not JSON")),
        case(
            "a wrong type",
            send,
            wrong(&|o| o["status"] = json!(5)),
            (400, "structure", "Bundle.entry[31].resource.status"),
        ),
        case(
            "no status",
            send,
            wrong(&|o| drop(o.as_object_mut().unwrap().remove("status"))),
            (422, "required", "Bundle.entry[31].resource.status"),
        ),
        case(
            "a patient that is not here",
            send,
            wrong(&|o| o["subject"]["reference"] = json!("Patient/nobody")),
            (422, "not-found", "Bundle.entry[31]"),
        ),
        case(
            "a reference to no entry",
            send,
            wrong(&|o| o["subject"]["reference"] = json!("urn:uuid:6c1d7a52-3d5b-4b0e-9f53-000000000000")),
            (422, "not-found", "Bundle.entry[31]"),
        ),
        case(
            "a condition that matches nothing",
            send,
            conditional("Practitioner?identifier=urn:test|nobody"),
            (422, "not-found", "Bundle.entry[31]"),
        ),
        case("what a doctor may not write", send, bundle(post(consent(&patient))), (403, "forbidden", "consent")),
        case(
            "an old version",
            send,
            put(&patient, json!({"method": "PUT", "url": format!("Patient/{patient}"), "ifMatch": "W/\"1\""})),
            (412, "conflict", "W/\"2\""),
        ),
        case(
            "a method that is none",
            send,
            put(&patient, json!({"method": "WRITE", "url": "Patient"})),
            (422, "value", "Bundle.entry[31].request.method"),
        ),
        case(
            "no request",
            send,
            bundle(json!({"resource": observation(&patient)})),
            (422, "required", "Bundle.entry[31].request"),
        ),
        case(
            "another type than its address",
            send,
            bundle(json!({"resource": observation(&patient), "request": {"method": "POST", "url": "Patient"}})),
            (422, "invalid", "Bundle.entry[31]"),
        ),
        case(
            "a Bundle of another kind",
            send,
            bytes(&json!({"resourceType": "Bundle", "type": "history", "entry": []})),
            (422, "not-supported", "Bundle.type"),
        ),
        case("no Bundle", send, bytes(&observation(&patient)), (422, "not-supported", "Bundle")),
    ])
    .await;
    // The same Bundle without the fault is taken: the fault was the reason.
    site.doctor.post("/fhir", &serde_json::from_slice(&whole).unwrap()).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_addresses_and_searches_are_told_what_is_wrong() {
    let site = Site::new().await;
    let get = |name, line, expected| case(name, line, "", expected);
    site.check(vec![
        get("no such address", "GET /wombat", (404, "not-found", "address")),
        get("up and out", "GET /fhir/../../../../etc/passwd", (404, "not-found", "")),
        get("up and out, encoded", "GET /fhir/Patient/..%2f..%2fetc%2fpasswd", (404, "not-found", "")),
        get("up and out, encoded twice", "GET /fhir/Patient/%252e%252e%252f", (404, "not-found", "")),
        get("a zero byte", "GET /fhir/Patient/a%00b", (404, "not-found", "")),
        get("bytes that are no text", "GET /fhir/Patient/%ff%fe", (400, "structure", "")),
        get("SQL", "GET /fhir/Patient/x'%20OR%20'1'='1", (404, "not-found", "")),
        get("SQL in a type", "GET /fhir/version;DROP%20TABLE%20version/1", (404, "not-found", "")),
        get("an unknown type", "GET /fhir/Wombat", (404, "not-found", "Wombat")),
        get("a type of another case", "GET /fhir/patient/{patient}", (404, "not-found", "patient")),
        get("no such record", "GET /fhir/Patient/nobody", (404, "not-found", "Patient/nobody")),
        get("no such version", "GET /fhir/Patient/{patient}/_history/9", (404, "not-found", "")),
        get("a version that is no number", "GET /fhir/Patient/{patient}/_history/first", (404, "not-found", "first")),
        get("a record of nobody", "GET /fhir/Patient/nobody/$summary", (404, "not-found", "nobody")),
        get("a method that is not taken", "POST /fhir/Patient/{patient}", (405, "not-supported", "method")),
        get(
            "a patch that does not say to be one",
            "PATCH /fhir/Patient/{patient}",
            (415, "not-supported", "json-patch"),
        ),
        get("a type cannot be deleted", "DELETE /fhir/Patient", (422, "invalid", "condition")),
        get("an unknown parameter", "GET /fhir/Patient?colour=red", (422, "not-supported", "colour")),
        get("an unknown modifier", "GET /fhir/Patient?family:loud=x", (422, "not-supported", "loud")),
        get("a date that is none", "GET /fhir/Observation?date=ge2026-13-45", (422, "value", "date")),
        get("a count that is none", "GET /fhir/Patient?_count=many", (422, "value", "_count")),
        get("a cursor that is none", "GET /fhir/Patient?_cursor=xyz", (422, "value", "")),
        get("a broken percent sign", "GET /fhir/Patient?family=%zz", (422, "invalid", "percent")),
        get("a parameter without a name", "GET /fhir/Patient?=x", (422, "invalid", "name")),
        get("a block that is no number", "GET /ledger/blocks/first", (400, "structure", "")),
        get("a block that is not there", "GET /ledger/blocks/99999999", (404, "not-found", "block")),
        get("entries from nowhere", "GET /ledger/entries?from=first", (400, "structure", "")),
        get("alarms of nobody", "GET /alarm", (400, "structure", "patient")),
        get("overrides, perhaps", "GET /override?reviewed=perhaps", (400, "structure", "")),
        case("a form that is no text", "POST /fhir/Patient/_search", b"\xff\xfe", (400, "structure", "UTF-8"))
            .with("content-type", "application/x-www-form-urlencoded"),
        case("a form that is JSON", "POST /fhir/Patient/_search", b"{}", (415, "not-supported", "form"))
            .with("content-type", "application/json"),
        case("an override without end", "POST /override", override_of(&site.patient, 0), (422, "value", "minutes"))
            .with("x-purpose-of-use", "BTG"),
        case("an override of a month", "POST /override", override_of(&site.patient, 43_200), (422, "value", "minutes"))
            .with("x-purpose-of-use", "BTG"),
        case(
            "an override with a wrong word",
            "POST /override",
            "{\"patient\":\"x\",\"why\":\"y\"}",
            (400, "structure", "why"),
        ),
        case("a vote for nothing", "POST /custody/nothing/vote", "{}", (404, "not-found", "nothing")),
        case("an audit by a doctor", "POST /audit", "{}", (403, "forbidden", "denied")),
        case(
            "a case by a doctor",
            "POST /case",
            bytes(&json!({"patient": site.patient, "order": "curiosity"})),
            (403, "forbidden", "denied"),
        ),
        case("a login that is no JSON", "POST /auth/token", "user=doctor", (400, "structure", "username")),
        case(
            "a login with more than it takes",
            "POST /auth/token",
            "{\"username\":\"doctor\",\"password\":\"x\",\"role\":\"custodian\"}",
            (400, "structure", "username"),
        ),
        case(
            "a wrong password",
            "POST /auth/token",
            "{\"username\":\"doctor\",\"password\":\"wrong password\"}",
            (401, "login", ""),
        ),
        case(
            "nobody's password",
            "POST /auth/token",
            "{\"username\":\"nobody\",\"password\":\"wrong password\"}",
            (401, "login", ""),
        ),
    ])
    .await;
}

fn override_of(patient: &str, minutes: u32) -> Vec<u8> {
    bytes(&json!({"patient": patient, "reason": "unconscious", "minutes": minutes}))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_open_nothing() {
    let site = Site::new().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let key_of = |org: &str| {
        let text = fs::read_to_string(site.consortium.node(org).dir.join("keys/issuer.key")).unwrap();
        SigningKey::from_bytes(&hex::decode(text.trim()).unwrap().try_into().unwrap())
    };
    let claims = |from: u64, until: u64| {
        json!({
            "iss": "vitaltrace:mercy-hospital", "aud": "vitaltrace:mercy-hospital", "sub": "doctor", "nbf": from, "exp": until, "role": "doctor"
        })
    };
    // Under the name of the gateway's own key, whoever signs.
    let kid = site.doctor.get("/auth/jwks").await.good().json()["keys"][0]["kid"].as_str().unwrap().to_owned();
    let header =
        |algorithm| Header { kid: Some(kid.clone()), typ: Some("at+jwt".to_owned()), ..Header::new(algorithm) };
    let sign = |claims: &Value, org: &str| {
        let der = key_of(org).to_pkcs8_der().unwrap();
        jsonwebtoken::encode(&header(Algorithm::EdDSA), claims, &EncodingKey::from_ed_der(der.as_bytes())).unwrap()
    };
    let mercy = "mercy-hospital";
    let valid = sign(&claims(now, now + 600), mercy);
    let bearer = |token: &str| format!("Bearer {token}");
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(bytes(value));
    let none = format!(
        "{}.{}.",
        encoded(&json!({"alg": "none", "typ": "at+jwt", "kid": kid})),
        encoded(&claims(now - 10, now + 600))
    );
    let public = key_of(mercy).verifying_key().to_bytes();
    let confused = jsonwebtoken::encode(
        &header(Algorithm::HS256),
        &claims(now - 10, now + 600),
        &EncodingKey::from_secret(&public),
    )
    .unwrap();
    let mut promoted = claims(now - 10, now + 600);
    promoted["role"] = json!("custodian");
    let parts: Vec<&str> = valid.split('.').collect();
    let promoted = format!("{}.{}.{}", parts[0], encoded(&promoted), parts[2]);
    let mut unknown = claims(now - 10, now + 600);
    unknown["role"] = json!("emperor");
    let read = |name, authorization: String, expected| {
        case(name, "GET /fhir/Patient/{patient}", "", expected).with("authorization", authorization)
    };
    // The token that everything else is a change of is good.
    site.doctor.with_token(&valid).get(&format!("/fhir/Patient/{}", site.patient)).await.good();
    site.check(vec![
        read("none at all", String::new(), (401, "login", "token")),
        read("another scheme", "Basic ZG9jdG9yOnB3".to_owned(), (401, "login", "token")),
        read("rubbish", bearer("rubbish"), (401, "login", "token")),
        read(
            "expired an hour ago",
            bearer(&sign(&claims(now - 4_500, now - 3_600), mercy)),
            (401, "expired", "expired"),
        ),
        read("not valid yet", bearer(&sign(&claims(now + 3_600, now + 4_500), mercy)), (401, "login", "yet")),
        read("of another organisation", bearer(&sign(&claims(now - 10, now + 600), "rescue-one")), (401, "login", "")),
        read(
            "of another organisation's user",
            bearer(&site.consortium.client("rescue-one", "paramedic").token),
            (401, "login", ""),
        ),
        read("alg none", bearer(&none), (401, "login", "")),
        read("the public key as a secret", bearer(&confused), (401, "login", "")),
        read("a role that was changed", bearer(&promoted), (401, "login", "")),
        read("a role that is none", bearer(&sign(&unknown, mercy)), (401, "login", "")),
        read("without its signature", bearer(&format!("{}.{}.", parts[0], parts[1])), (401, "login", "")),
        read("of 8 KB", bearer(&"a".repeat(8_192)), (401, "login", "")),
        case(
            "a write without a token",
            "POST /fhir/Observation",
            bytes(&observation(&site.patient)),
            (401, "login", "token"),
        )
        .with("authorization", ""),
        case("an audit without a token", "POST /audit", "{}", (401, "login", "token")).with("authorization", ""),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_100_megabytes_is_refused_before_it_is_read() {
    const BODY_BYTES: usize = 100 << 20;
    let site = Site::new().await;
    let before = rows(&site.consortium.database);
    let address = site.consortium.node("mercy-hospital").http;
    let head = |length: &str| {
        format!(
            "POST /fhir HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nContent-Type: application/fhir+json\r\n{length}\r\n\r\n",
            site.doctor.token
        )
    };
    let check = |how: &str, answer: Raw, sent: usize| {
        let outcome: Value = serde_json::from_slice(&dechunked(&answer)).unwrap_or_default();
        println!("{how}: answered {} after {} MB were sent", answer.status, sent >> 20);
        assert_eq!(answer.status, 413, "{how}: {}", answer.head);
        assert_eq!(outcome["issue"][0]["code"], "too-long", "{how}: {outcome}");
        assert!(outcome["issue"][0]["diagnostics"].as_str().unwrap().contains("33554432"), "{how}: {outcome}");
    };
    let block = vec![b' '; 1 << 20];
    let mut sent = 0;
    let announced = raw(address, |stream| {
        stream.write_all(head(&format!("Content-Length: {BODY_BYTES}")).as_bytes()).unwrap();
        while sent < BODY_BYTES && stream.write_all(&block).is_ok() {
            sent += block.len();
        }
    });
    check("announced", announced, sent);
    let mut sent = 0;
    let unannounced = raw(address, |stream| {
        stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).unwrap();
        while sent < BODY_BYTES
            && write!(stream, "{:x}\r\n", block.len())
                .and_then(|()| stream.write_all(&block))
                .and_then(|()| stream.write_all(b"\r\n"))
                .is_ok()
        {
            sent += block.len();
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        let _ = stream.shutdown(Shutdown::Write);
    });
    check("not announced", unannounced, sent);
    // One that promises more than it sends gets nothing, and leaves nothing.
    let cut_off = raw(address, |stream| {
        stream.write_all(head("Content-Length: 1000").as_bytes()).unwrap();
        stream.write_all(b"{\"resourceType\":\"Bundle\",").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert!(cut_off.status == 0 || cut_off.status == 400, "{}", cut_off.head);
    site.nothing_was_written_since(&before);
    site.still_serves().await;
}

/// A device's frame with a temperature, in its place or in another.
fn frame(device: &str, key: &SigningKey, counter: u64, previous: Digest, at: TimeMs) -> sensing::Frame {
    let value = sensing::Value::Number { unit: "Cel".to_owned(), value: sensing::Decimal::from_f64(36.8).unwrap() };
    let signals = vec![sensing::Signal { name: "temp-body".to_owned(), offset_ms: 0, value }];
    let device = exchange::device_name(device).unwrap();
    sensing::Frame::sign(sensing::Pack { device, counter, previous, device_time: at, signals }, key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_not_the_bound_devices_next_are_refused() {
    let site = Site::new().await;
    let device = site.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
    let stranger = site.doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
    let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    let bind = json!({"patient": site.patient, "key": hex::encode(key.verifying_key().as_bytes())});
    site.doctor.post(&format!("/fhir/Device/{device}/$bind"), &bind).await.good();

    let send = |frame: &sensing::Frame| {
        case("a good frame", "POST /frames", frame.bytes(), (201, "", "")).with("authorization", "")
    };
    let one = frame(&device, &key, 1, sensing::NO_PREVIOUS, now());
    assert_eq!(site.send(&send(&one)).status, 201);
    let two = frame(&device, &key, 2, one.digest(), now());
    assert_eq!(site.send(&send(&two)).status, 201);

    let unsigned = |frame: &sensing::Frame| {
        // The signature is the envelope's last part: a byte string of 64 bytes. An empty one takes its place.
        let bytes = frame.bytes();
        [&bytes[..bytes.len() - 66], &[0x40]].concat()
    };
    let next = |counter: u64, previous: Digest| frame(&device, &key, counter, previous, now());
    let three = next(3, two.digest());
    let mut changed = three.bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let late = frame(&device, &key, 3, two.digest(), TimeMs(now().0 - 2 * 86_400_000));
    let early = frame(&device, &key, 3, two.digest(), now().plus_ms(600_000));
    let before = frames_and_records(&site.consortium.database);
    let post = |name, body: Vec<u8>, expected| case(name, "POST /frames", body, expected).with("authorization", "");
    site.check_answers(&[
        post("nothing", Vec::new(), (400, "structure", "malformed")),
        post("no frame", b"hello".to_vec(), (400, "structure", "malformed")),
        post("65 KB", vec![0; 65 * 1024], (413, "too-long", "larger than this address takes")),
        post("a pack without an envelope", vec![0x81, 0xa1, 0x00, 0x00], (422, "security", "not signed")),
        post("an empty signature", unsigned(&three), (422, "security", "not signed")),
        post("a changed signature", changed, (422, "security", "signature")),
        post(
            "another's key",
            frame(&device, &other, 3, two.digest(), now()).bytes().to_vec(),
            (422, "security", "signature"),
        ),
        post(
            "a device that is not bound",
            frame(&stranger, &key, 1, sensing::NO_PREVIOUS, now()).bytes().to_vec(),
            (422, "unknown", "not bound"),
        ),
        post(
            "the last frame again",
            two.bytes().to_vec(),
            (409, "duplicate", "frame 2 of this device was taken already"),
        ),
        post(
            "an old frame again",
            one.bytes().to_vec(),
            (409, "duplicate", "frame 1 of this device was taken already"),
        ),
        post(
            "a frame that follows another",
            next(3, one.digest()).bytes().to_vec(),
            (409, "conflict", "does not follow"),
        ),
        post("two days old", late.bytes().to_vec(), (422, "value", "clock")),
        post("ten minutes ahead", early.bytes().to_vec(), (422, "value", "clock")),
        case("a binding by nobody", "POST /fhir/Device/{patient}/$bind", bytes(&bind), (401, "login", "token"))
            .with("authorization", ""),
        case("a binding of no device", "POST /fhir/Device/nothing/$bind", bytes(&bind), (404, "not-found", "nothing")),
        case(
            "a binding with half a key",
            "POST /fhir/Device/x/$bind",
            bytes(&json!({"patient": site.patient, "key": "00ff"})),
            (400, "structure", "JSON"),
        ),
    ]);
    assert_eq!(before, frames_and_records(&site.consortium.database), "something was written");
    let good = [&one, &two].map(|frame| format!("Observation/{}", frame.digest()));
    let sources = sources_of_observations(&site.consortium.database);
    assert!(sources.iter().all(|source| good.contains(source)), "{sources:?} are not all of {good:?}");
    // The refused ones did not move the sequence: the third frame is taken, and read as an Observation.
    assert_eq!(site.send(&send(&three)).status, 201);
    let observation = site.doctor.get(&format!("/fhir/Observation/{}", three.digest())).await.good().json();
    assert_eq!(observation["valueQuantity"]["value"], 36.8, "{observation}");
    // Two hold the key: neither is believed from then on.
    site.check_answers(&[
        post(
            "a second frame with a used counter",
            next(2, one.digest()).bytes().to_vec(),
            (409, "conflict", "two frames with counter 2"),
        ),
        post(
            "the next frame of whichever",
            next(4, three.digest()).bytes().to_vec(),
            (403, "forbidden", "was revoked"),
        ),
    ]);
    site.still_serves().await;
}

/// Rows without what comes at its own pace: the entries of batches, and the Observations that analytics make of good frames.
fn frames_and_records(database: &Path) -> BTreeMap<String, i64> {
    let mut rows = rows(database);
    rows.retain(|name, _| name != "entry none" && !name.ends_with(" Observation"));
    rows
}

/// What the Observations in the database are derived from.
fn sources_of_observations(database: &Path) -> BTreeSet<String> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = connection.prepare("SELECT bytes FROM version WHERE rtype = 'Observation'").unwrap();
    let observations = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let mut sources = BTreeSet::new();
    for bytes in observations {
        let observation: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        let from = observation["derivedFrom"].as_array().cloned().unwrap_or_default();
        let record = |source: &Value| {
            let reference = source["reference"].as_str().unwrap();
            reference.split("/_history/").next().unwrap().to_owned()
        };
        sources.extend(from.iter().map(record));
    }
    sources
}

fn now() -> TimeMs {
    exchange::clock::now()
}

/// The body, whose chunks, if it came in chunks, are put together.
fn dechunked(answer: &Raw) -> Vec<u8> {
    if !answer.head.contains("transfer-encoding: chunked") {
        return answer.body.clone();
    }
    let (mut body, mut rest) = (Vec::new(), answer.body.as_slice());
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[(end + 4 + size).min(rest.len())..];
    }
    body
}
