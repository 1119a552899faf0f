//! A sensor of a test: bound to a patient, with a key of its own, counting its frames.

use super::client::{Answer, Client};
use ed25519_dalek::SigningKey;
use record::TimeMs;
use sensing::{Decimal, Frame, Sequence, Signal, Value};
use serde_json::json;

/// What a sensor is, and how far it has counted.
pub(crate) struct Sensor {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
    pub(crate) sequence: Sequence,
}

/// One temperature.
pub(crate) fn temperature(value: f64) -> Vec<Signal> {
    let value = Value::Number { unit: "Cel".to_owned(), value: Decimal::from_f64(value).unwrap() };
    vec![Signal { name: "temp-body".to_owned(), offset_ms: 0, value }]
}

pub(crate) fn now() -> TimeMs {
    exchange::clock::now()
}

impl Sensor {
    /// Makes the Device and binds it; its key is made from `seed`.
    pub(crate) async fn bound(doctor: &Client, patient: &str, seed: u8) -> Self {
        let id = doctor.create(&json!({"resourceType": "Device", "status": "active"})).await.id();
        let key = SigningKey::from_bytes(&[seed; 32]);
        let sequence = Sequence::new(exchange::device_name(&id).unwrap(), key.clone());
        let sensor = Self { id, key, sequence };
        sensor.bind(doctor, patient).await.good();
        sensor
    }

    pub(crate) async fn bind(&self, doctor: &Client, patient: &str) -> Answer {
        let bind = json!({"patient": patient, "key": hex::encode(self.key.verifying_key().as_bytes())});
        doctor.post(&format!("/fhir/Device/{}/$bind", self.id), &bind).await
    }

    /// The next frame, of now.
    pub(crate) fn next(&mut self) -> Frame {
        self.sequence.next(now(), temperature(36.8)).unwrap()
    }

    /// The next frames, of now.
    pub(crate) fn next_of(&mut self, count: usize) -> Vec<Frame> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Another device that holds a copy of the key and goes on from the frame before `counter`.
    pub(crate) fn copy(&self, before: &Frame) -> Sequence {
        Sequence::resume(before.device().clone(), self.key.clone(), before.counter(), before.digest())
    }
}

impl Client {
    /// Sends one frame without a token.
    pub(crate) async fn send_frame(&self, frame: &Frame) -> Answer {
        self.with_token("").post_frames("application/cose", frame.bytes().to_vec()).await
    }

    /// Sends frames in one request.
    pub(crate) async fn send_frames(&self, frames: &[Frame]) -> Answer {
        let body = frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
        self.with_token("").post_frames("application/cbor-seq", body).await
    }

    pub(crate) async fn post_frames(&self, content_type: &str, body: Vec<u8>) -> Answer {
        let headers = [("content-type", content_type)];
        self.try_send(reqwest::Method::POST, "/frames", &headers, Some(body)).await.unwrap()
    }
}
