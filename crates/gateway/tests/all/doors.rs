//! The doors by https, and those that another issuer's tokens open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use crate::consortium::{Consortium, FOUR, PATIENCE, client::Client, free_addresses, good};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const MERCY: &str = "mercy-hospital";

/// A certificate for localhost, signed by itself, with its key.
fn certify(folder: &Path, serial: &str) -> reqwest::Certificate {
    let arguments = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -set_serial {serial} -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout door.key.new -out door.pem.new"
    );
    good(Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap());
    for file in ["door.key", "door.pem"] {
        fs::rename(folder.join(format!("{file}.new")), folder.join(file)).unwrap();
    }
    reqwest::Certificate::from_pem(&fs::read(folder.join("door.pem")).unwrap()).unwrap()
}

/// A client that believes this certificate and no other.
fn believing(certificate: &reqwest::Certificate) -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([certificate.clone()]).timeout(Duration::from_secs(20)).build().unwrap()
}

/// Adds lines to an organisation's configuration.
fn configure(folder: &Path, lines: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(folder.join("vitaltrace.toml")).unwrap();
    writeln!(file, "{lines}").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doors_speak_https_and_go_over_to_another_certificate_while_they_are_open() {
    let mut consortium = Consortium::found(&FOUR).await;
    consortium.add_user(MERCY, "ada", "doctor", None);
    let folder = consortium.node(MERCY).dir.clone();
    let first = certify(&folder, "1");
    let address = free_addresses(1)[0];
    configure(&folder, &format!("[https]\naddress = '{address}'\ncertificate = 'door.pem'\nkey = 'door.key'"));
    consortium.start_all().await;
    let token = consortium.client(MERCY, "ada").token;

    let client = believing(&first);
    let url = format!("https://localhost:{}/fhir", address.port());
    let metadata: Value = client.get(format!("{url}/metadata")).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["implementation"]["url"], url);
    let patient = json!({"resourceType": "Patient", "name": [{"family": "Door"}]}).to_string();
    let create =
        client.post(format!("{url}/Patient")).bearer_auth(&token).header("content-type", "application/fhir+json");
    let created = create.body(patient).send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert!(created.headers()["location"].to_str().unwrap().starts_with(&url));
    assert!(created.headers().contains_key("strict-transport-security"));
    // By http the doors speak as before, and a caller without TLS at those by https keeps nobody waiting.
    consortium.client(MERCY, "ada").get("/fhir/metadata").await.good();
    let silent = std::net::TcpStream::connect(address).unwrap();
    client.get(format!("{url}/metadata")).send().await.unwrap().error_for_status().unwrap();
    drop(silent);

    let second = certify(&folder, "2");
    let (begin, mut seen) = (Instant::now(), false);
    while !seen {
        assert!(begin.elapsed() < PATIENCE, "the second certificate is not shown");
        tokio::time::sleep(Duration::from_millis(200)).await;
        seen = believing(&second).get(format!("{url}/metadata")).send().await.is_ok();
    }
    assert!(believing(&first).get(format!("{url}/metadata")).send().await.is_err(), "the first one is shown no more");
    // What is no key is not taken: the present one stays.
    fs::write(folder.join("door.key"), "no key").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    believing(&second).get(format!("{url}/metadata")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(consortium.node_mut(MERCY).stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_issuers_users_are_let_in_as_what_they_are_here_and_stand_in_the_trail_by_its_name() {
    let mut consortium = Consortium::found(&FOUR).await;
    consortium.add_user(MERCY, "pia", "privacy-officer", None);
    let folder = consortium.node(MERCY).dir.clone();
    let key = SigningKey::from_bytes(&[5; 32]);
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k5", "x": x}]});
    fs::write(folder.join("idp.jwks"), jwks.to_string()).unwrap();
    configure(
        &folder,
        "[[issuer]]\nname = 'idp'\nissuer = 'https://idp.example'\naudience = 'mercy'\nkeys = 'idp.jwks'\nwhole_users = true\n\
         roles = { physician = 'doctor', admin = 'custodian' }",
    );
    consortium.start_all().await;
    let signing = EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes());
    let token = |change: &dyn Fn(&mut Value)| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "mercy", "sub": "u-17", "exp": now + 600, "iat": now, "roles": ["physician"]
        });
        change(&mut claims);
        let header = Header { kid: Some("k5".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &signing).unwrap()
    };
    let base = consortium.node(MERCY).base();
    let doctor = Client::new(&base, &token(&|_| {}));
    let patient = json!({"resourceType": "Patient", "id": "ilse", "name": [{"family": "Other"}]});
    doctor.put("/fhir/Patient/ilse", &patient, &[]).await.good();
    doctor.get("/fhir/Patient/ilse").await.good();
    // With scopes the same user's app may less.
    let app = doctor.with_token(&token(&|claims| claims["scope"] = json!("openid user/Observation.rs")));
    assert_eq!(app.get("/fhir/Patient/ilse").await.status, 403);
    app.get("/fhir/Observation?patient=ilse").await.good();
    // What it signs for others, for too long, or about nobody who is anything here, opens nothing.
    for (name, value) in [("aud", json!("elsewhere")), ("exp", json!(4_102_444_800_u64)), ("roles", json!(["visitor"]))]
    {
        let answer = doctor.with_token(&token(&|claims| claims[name] = value.clone())).get("/fhir/Patient/ilse").await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
    }
    let elsewhere = Client::new(&consortium.node("rescue-one").base(), &doctor.token);
    assert_eq!(elsewhere.get("/fhir/Patient/ilse").await.status, 401, "an organisation trusts its own issuers alone");
    consortium.settle().await;
    let trail = consortium.client(MERCY, "pia").get("/fhir/AuditEvent?patient=ilse&_count=100").await.good();
    assert!(trail.text().contains("idp:u-17"), "{}", trail.text());
}
