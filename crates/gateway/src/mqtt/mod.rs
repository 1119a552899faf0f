//! The MQTT door: frames from a broker, acknowledged when they are durable or refused for good, and answered where the device asks for it.
//!
//! Nothing but [`rumqtt`] knows which library speaks MQTT ([decision 35](../../../../docs/decisions/0035-mqtt-acknowledged-when-durable.md)).

mod broker;
mod rumqtt;
pub(crate) mod topic;

pub(crate) use broker::{Broker, Mqtt};
pub(crate) use rumqtt::Asker;

use crate::told::{Told, told};
use bytes::Bytes;
use exchange::{FRAMES_AT_ONCE_MAX, Failure, Node};
use record::{OrgId, fhir::IssueType};
use sensing::Frame;
use std::time::Duration;
use topic::{Topics, device_of};

/// How long a frame that cannot be stored now waits before it is tried again, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
/// How often a frame is tried that fails for a reason of ours, before its device is told so.
const OURS_TRIES_MAX: u32 = 5;

/// What a gateway needs in order to take frames from a broker.
pub(crate) struct Door {
    broker: Broker,
    filter: String,
}

impl Door {
    /// Checks what the configuration says.
    pub(crate) fn new(mqtt: &Mqtt, org: &OrgId) -> anyhow::Result<Self> {
        let broker = mqtt.broker(&format!("vitaltrace-{org}"))?;
        Ok(Self { broker, filter: Topics::new(org).filter(mqtt.share()?) })
    }

    /// Takes frames from the broker for as long as it is let.
    pub(crate) async fn pump(self, node: Node, org: OrgId) {
        pump(node, org, rumqtt::Connection::open(self.broker, self.filter)).await;
    }
}

/// What came from the broker.
pub(crate) struct Message<A> {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// Where the answer goes, and what stands in it so that its receiver knows what it is about.
    pub(crate) answer_to: Option<(String, Option<Bytes>)>,
    /// What the broker is told when this is done.
    pub(crate) ack: A,
}

/// An answer to a message.
pub(crate) struct Answer {
    pub(crate) topic: String,
    pub(crate) about: Option<Bytes>,
    pub(crate) payload: Bytes,
}

/// A connection with a broker, which is made again as often as it breaks.
pub(crate) trait Link: Send {
    /// What a message is acknowledged by.
    type Ack: Send;
    /// Waits for messages; gives at most `most` of those that are there, in their order. Those that were never acknowledged come again
    /// after the connection broke.
    fn receive(&mut self, most: usize) -> impl Future<Output = Vec<Message<Self::Ack>>> + Send;
    /// Sends the answer, and then tells the broker that the message is done. Both are for nothing once the connection that it came by broke.
    fn finish(&mut self, ack: Self::Ack, answer: Option<Answer>) -> impl Future<Output = ()> + Send;
}

/// Takes frames from the broker for as long as it is let.
async fn pump(node: Node, org: OrgId, mut link: impl Link) {
    loop {
        let messages = link.receive(FRAMES_AT_ONCE_MAX).await;
        let (mut waiting, mut refused) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages {
            match unfit(&org, &message.topic, &message.payload) {
                None => waiting.push(message),
                Some(why) => refused.push((message, why)),
            }
        }
        for (message, why) in refused {
            let told = Told::refused(&message.payload, why);
            finish(&mut link, &org, message, &told).await;
        }
        let (mut after, mut tries) = (AGAIN_AFTER, 0);
        while !waiting.is_empty() {
            tries += 1;
            let frames = waiting.iter().map(|message| message.payload.to_vec()).collect();
            let mut again = Vec::new();
            for (message, told) in waiting.into_iter().zip(told(&node, frames).await) {
                match told.failure() {
                    Some(failure) if is_passing(failure, tries) => again.push(message),
                    _ => finish(&mut link, &org, message, &told).await,
                }
            }
            waiting = again;
            if !waiting.is_empty() {
                tracing::warn!(frames = waiting.len(), "frames from the broker wait: they cannot be stored now");
                tokio::time::sleep(after).await;
                after = (after * 2).min(AGAIN_AFTER_MAX);
            }
        }
    }
}

async fn finish<L: Link>(link: &mut L, org: &OrgId, message: Message<L::Ack>, told: &Told) {
    let to = message.answer_to.filter(|(topic, _)| {
        let fits = Topics::new(org).may_answer(device_of(&message.topic), topic);
        if !fits {
            tracing::debug!("an answer was asked for on a topic that is not the device's own");
        }
        fits
    });
    let answer =
        to.map(|(topic, about)| Answer { topic, about, payload: Bytes::from(told.to_json().to_string().into_bytes()) });
    link.finish(message.ack, answer).await;
}

/// Whether the frame may be stored yet although it was not now.
fn is_passing(failure: &Failure, tries: u32) -> bool {
    match failure {
        Failure::Busy | Failure::Unreachable | Failure::SpentKey => true,
        Failure::Ours(_) => tries < OURS_TRIES_MAX,
        _ => false,
    }
}

/// Why a message is refused before a node sees it: a broker lets a device publish under its own topic only, so that one is held to it.
fn unfit(org: &OrgId, topic: &str, payload: &[u8]) -> Option<Failure> {
    let device = Topics::new(org).device(topic)?;
    let frame = Frame::decode(payload).ok()?;
    let named = exchange::device_name(device).ok();
    let other = named.as_ref() != Some(frame.device());
    other.then(|| {
        Failure::invalid(
            IssueType::Value,
            "",
            format!("a frame of device `{}` came on the topic of another one", frame.device()),
        )
    })
}
