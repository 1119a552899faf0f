//! What sensors say and which alarms sound, as it comes: a WebSocket for each patient, for people and programs that look.

use super::{
    Doors,
    auth::{Known, is_good},
    outcome::Refusal,
    said,
};
use axum::{
    extract::{
        Path, Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::HeaderMap,
    response::Response,
};
use exchange::{Failure, Live, Told, clock::now};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use record::{Digest, fhir::IssueType};
use sensing::{DeviceId, Reading, Samples, Signal, Value as Measured};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::mpsc;

/// How often it is looked whether the token of a viewer is still good.
const TOKEN_EVERY: Duration = Duration::from_secs(1);
/// How long a viewer may take nothing before it is let go.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// A viewer to whom nothing was shown for so long is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The longest message that a viewer may send: it has nothing to say.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// The most devices that a stream goes on after.
const AFTER_MAX: usize = 64;

#[derive(Deserialize)]
pub(crate) struct Asked {
    signal: Option<String>,
    after: Option<String>,
}

pub(crate) async fn stream(
    State(doors): State<Doors>,
    Known(caller): Known,
    Path(patient): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let after = after(asked.after.as_deref().unwrap_or_default())?;
    let place = doors.sockets.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let live = doors.node.live(&caller, &patient, asked.signal, after).await?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        // Who may look no more is shown nothing more: a stream ends with the token that opened it.
        tokio::select! {
            () = show(live, socket) => {}
            () = ended(&doors, &headers) => {}
        }
        drop(place);
    }))
}

/// Returns when the token in the headers is good no more: its time or its session is over, or its user may come in no more.
async fn ended(doors: &Doors, headers: &HeaderMap) {
    while is_good(headers, doors) {
        tokio::time::sleep(TOKEN_EVERY).await;
    }
}

/// Reads `DEVICE:COUNTER,...`.
fn after(text: &str) -> Result<BTreeMap<DeviceId, u64>, Failure> {
    let wrong = || Failure::invalid(IssueType::Value, "", "`after` is DEVICE:COUNTER, several apart by commas");
    let parts = text.split(',').filter(|part| !part.is_empty());
    let read: Option<BTreeMap<DeviceId, u64>> = parts
        .map(|part| {
            let (device, counter) = part.split_once(':')?;
            Some((exchange::device_name(device).ok()?, counter.parse().ok()?))
        })
        .collect();
    read.filter(|after| after.len() <= AFTER_MAX).ok_or_else(wrong)
}

async fn show(mut live: Live, socket: WebSocket) {
    let (mut to_viewer, mut from_viewer) = socket.split();
    // What is next is found to its end, whatever the viewer says meanwhile: readings that are in the trail are shown.
    let (found, mut coming) = mpsc::channel(1);
    let finding = tokio::spawn(async move {
        loop {
            let next = live.next().await;
            let over = !matches!(&next, Ok(told) if !told.is_empty());
            if found.send(next).await.is_err() || over {
                return;
            }
        }
    });
    pass_on(&mut coming, &mut to_viewer, &mut from_viewer).await;
    finding.abort();
}

async fn pass_on(
    coming: &mut mpsc::Receiver<Result<Vec<Told>, Failure>>,
    to_viewer: &mut SplitSink<WebSocket, Message>,
    from_viewer: &mut SplitStream<WebSocket>,
) {
    loop {
        let messages = tokio::select! {
            heard = from_viewer.next() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => continue,
            },
            next = tokio::time::timeout(PING_EVERY, coming.recv()) => match next {
                Err(_) => vec![Message::Ping(Default::default())],
                Ok(None) => vec![Message::Close(None)],
                Ok(Some(Ok(told))) if told.is_empty() => vec![Message::Close(None)],
                Ok(Some(Ok(told))) => told.iter().map(message).collect(),
                Ok(Some(Err(failure))) => {
                    let (status, outcome) = said(&failure);
                    let outcome: Value = serde_json::from_str(&outcome.to_json()).unwrap_or_default();
                    let told = json!({"status": status.as_u16(), "outcome": outcome});
                    vec![Message::Text(told.to_string().into()), Message::Close(None)]
                }
            },
        };
        for message in messages {
            let is_last = matches!(message, Message::Close(_));
            // Whoever takes nothing holds up nobody else: what it misses is read from the database when it takes again.
            let sent = tokio::time::timeout(SEND_WAIT, to_viewer.send(message)).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }
}

fn message(told: &Told) -> Message {
    match told {
        Told::Reading(reading) => of_reading(reading),
        Told::Alarm(alarm) => Message::Text(json!({"alarm": alarm, "sent_at": now().to_instant()}).to_string().into()),
        Told::Paused(paused) => {
            Message::Text(json!({"paused": paused, "sent_at": now().to_instant()}).to_string().into())
        }
    }
}

fn of_reading(reading: &Reading) -> Message {
    let device = reading.device.as_str();
    let told = ShownReading {
        device: device.strip_prefix("urn:dev:fhir:").unwrap_or(device),
        counter: reading.counter,
        frame: reading.digest,
        measured_at: reading.measured_at.to_instant(),
        received_at: reading.received_at.to_instant(),
        sent_at: now().to_instant(),
        signals: reading.signals.iter().map(shown).collect(),
    };
    // Nothing in it can fail to be JSON.
    Message::Text(serde_json::to_string(&told).unwrap_or_default().into())
}

/// A frame as a stream shows it.
#[derive(Serialize)]
struct ShownReading<'a> {
    device: &'a str,
    counter: u64,
    frame: Digest,
    measured_at: String,
    received_at: String,
    sent_at: String,
    signals: Vec<ShownSignal<'a>>,
}

/// A signal as a stream shows it: value = origin + sample × scale; decimals as text, with their digits.
#[derive(Default, Serialize)]
struct ShownSignal<'a> {
    name: &'a str,
    offset_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_hz: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "each_sample")]
    samples: Option<&'a Samples>,
}

fn shown(signal: &Signal) -> ShownSignal<'_> {
    let told = ShownSignal { name: &signal.name, offset_ms: signal.offset_ms, ..ShownSignal::default() };
    match &signal.value {
        Measured::Number { unit, value } => ShownSignal { unit: Some(unit), value: Some(value.to_string()), ..told },
        Measured::Code(code) => ShownSignal { code: Some(code), ..told },
        Measured::Absent(why) => ShownSignal { absent: Some(why.code()), ..told },
        Measured::Waveform(wave) => ShownSignal {
            unit: Some(&wave.unit),
            rate_hz: Some(wave.rate_hz.to_string()),
            origin: Some(wave.origin.to_string()),
            scale: Some(wave.scale.to_string()),
            samples: Some(&wave.samples),
            ..told
        },
    }
}

/// The samples, null where one is missing.
fn each_sample<S: Serializer>(samples: &Option<&Samples>, serializer: S) -> Result<S::Ok, S::Error> {
    match samples {
        Some(Samples::I16(samples)) => {
            serializer.collect_seq(samples.iter().map(|&sample| (sample != i16::MIN).then_some(sample)))
        }
        Some(Samples::I32(samples)) => {
            serializer.collect_seq(samples.iter().map(|&sample| (sample != i32::MIN).then_some(sample)))
        }
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_stream_goes_on_is_read_and_mistakes_named() {
        assert!(after("").unwrap().is_empty());
        let read = after("d1:7,d2:18446744073709551615").unwrap();
        assert_eq!(read[&exchange::device_name("d1").unwrap()], 7);
        assert_eq!(read.len(), 2);
        let many = (0..=AFTER_MAX).map(|n| format!("d{n}:1")).collect::<Vec<_>>().join(",");
        for wrong in ["d1", "d1:", ":1", "d1:-1", "a/b:1", "d1:1:2", &many] {
            assert!(after(wrong).is_err(), "{wrong}");
        }
    }
}
