//! Devices that are bound, unbound and bound again.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::consortium::Consortium;
use ed25519_dalek::SigningKey;
use serde_json::json;

/// The ledger refuses a binding by a key that the device has left, since its counter would begin anew. The gateway answered «bound» all
/// the same, and what the device sent from then on never became final.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_not_bound_by_a_key_that_it_has_left() {
    let consortium = Consortium::running(&[("mercy-hospital", "doctor", "doctor")]).await;
    let doctor = consortium.client("mercy-hospital", "doctor");
    let patient = doctor.create(&json!({"resourceType": "Patient", "name": [{"family": "Nobody"}]})).await.id();
    let device = doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
    consortium.settle().await;
    let (bind, unbind) = (format!("/fhir/Device/{device}/$bind"), format!("/fhir/Device/{device}/$unbind"));
    let by = |seed: u8| {
        let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
        json!({"patient": patient, "key": hex::encode(key.as_bytes())})
    };
    for seed in [1, 1, 2] {
        doctor.post(&bind, &by(seed)).await.good();
        doctor.post(&unbind, &json!({})).await.good();
        consortium.settle().await;
    }
    let refused = doctor.post(&bind, &by(1)).await;
    let outcome = refused.json();
    assert_eq!((refused.status, &outcome["issue"][0]["code"]), (409, &json!("conflict")), "{outcome}");
    assert!(outcome["issue"][0]["diagnostics"].as_str().unwrap().contains("has left this key"), "{outcome}");
    doctor.post(&bind, &by(2)).await.good();
    consortium.settle().await;
    let status = consortium.node("mercy-hospital").status().await;
    assert_eq!(status["refused"], 0, "the ledger refused nothing");
}
