//! A link by `rumqttc`: each connection has a loop and queues of its own, so that nothing that was received by one is acknowledged by another.

use super::{Answer, Broker, Link, Message};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use record::sha256;
use rumqttc::{
    Transport,
    v5::{
        AsyncClient, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Login, Publish, PublishProperties, SubscribeReasonCode},
        },
    },
};
use sensing::FRAME_BYTES_MAX;
use serde_json::Value;
use std::time::Duration;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};

/// The most messages that a broker sends before it waits for acknowledgements.
const RECEIVE_MAX: u16 = 512;
/// The room that a topic and properties take beside a frame, in bytes. A broker does not send on what is longer.
const AROUND_BYTES_MAX: usize = 4 * 1024;
/// Requests to a connection that wait: an answer and an acknowledgement for each message.
const REQUESTS_LEN_MAX: usize = 4 * RECEIVE_MAX as usize;
/// A connection that is silent for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long to wait before the next connection, at first and at most.
const RECONNECT: Duration = Duration::from_millis(200);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a device waits for an answer before it sends the same frame again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A connection with a broker, under one subscription.
pub(crate) struct Connection {
    messages: Receiver<Message<Ack>>,
    looping: JoinHandle<()>,
}

/// By what a message is acknowledged: the connection that it came by.
pub(crate) struct Ack {
    client: AsyncClient,
    publish: Publish,
}

impl Connection {
    /// Connects, and again whenever the connection breaks, to what `filter` names.
    pub(crate) fn open(broker: Broker, filter: String) -> Self {
        let (to, messages) = mpsc::channel(2 * usize::from(RECEIVE_MAX));
        Self { messages, looping: tokio::spawn(connect_again(broker, filter, to)) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.looping.abort();
    }
}

impl Link for Connection {
    type Ack = Ack;

    async fn receive(&mut self, most: usize) -> Vec<Message<Ack>> {
        let mut messages = Vec::new();
        if self.messages.recv_many(&mut messages, most).await == 0 {
            // The loop ends only with this link.
            std::future::pending::<()>().await;
        }
        messages
    }

    async fn finish(&mut self, Ack { client, publish }: Ack, answer: Option<Answer>) {
        if let Some(Answer { topic, about, payload }) = answer {
            let properties = PublishProperties {
                correlation_data: about,
                content_type: Some("application/json".to_owned()),
                ..PublishProperties::default()
            };
            let sent = client.publish_with_properties(topic, QoS::AtMostOnce, false, payload, properties).await;
            if sent.is_err() {
                tracing::debug!("an answer was not sent: the connection broke");
            }
        }
        if client.ack(&publish).await.is_err() {
            tracing::debug!("a message was not acknowledged: the connection broke, and it comes again");
        }
    }
}

/// A device's side: asks with a frame, one at a time, and waits for the gateway's answer.
pub(crate) struct Asker {
    broker: Broker,
    frames: String,
    answers: String,
    /// The connection, while there is one that takes answers.
    live: Option<(AsyncClient, EventLoop)>,
}

impl Asker {
    /// A device that publishes under `frames` and is answered under `answers`.
    pub(crate) fn new(broker: Broker, frames: String, answers: String) -> Self {
        Self { broker, frames, answers, live: None }
    }

    /// Sends a frame; gives the gateway's answer. Fails when none comes in time: then the same frame is sent again.
    pub(crate) async fn ask(&mut self, frame: &[u8]) -> anyhow::Result<Value> {
        let answer = tokio::time::timeout(ANSWER_WAIT, self.ask_once(frame)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow!("the gateway did not answer by the broker in time")));
        if answer.is_err() {
            self.live = None;
        }
        answer
    }

    async fn ask_once(&mut self, frame: &[u8]) -> anyhow::Result<Value> {
        let unreachable = || format!("the broker at {}:{} cannot be reached", self.broker.host, self.broker.port);
        let (client, events) = match &mut self.live {
            Some(live) => live,
            None => {
                let mut options = options(&self.broker);
                // What was not answered is asked again: the broker need keep nothing for the device.
                options.set_clean_start(true).set_session_expiry_interval(None).set_manual_acks(false);
                let (client, mut events) = AsyncClient::new(options, 8);
                client.try_subscribe(&self.answers, QoS::AtLeastOnce).map_err(|_| anyhow!("no subscription"))?;
                loop {
                    if let Event::Incoming(Incoming::SubAck(ack)) = events.poll().await.with_context(unreachable)? {
                        let good = ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                        anyhow::ensure!(good, "the broker does not let the device read its answers");
                        break;
                    }
                }
                self.live.insert((client, events))
            }
        };
        let about = sha256(&[frame]);
        let properties = PublishProperties {
            response_topic: Some(self.answers.clone()),
            correlation_data: Some(Bytes::copy_from_slice(about.as_ref())),
            ..PublishProperties::default()
        };
        client
            .try_publish_with_properties(&self.frames, QoS::AtLeastOnce, false, frame.to_vec(), properties)
            .map_err(|_| anyhow!("the connection with the broker is full"))?;
        let about = about.to_string();
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.with_context(unreachable)? {
                let answer: Value = serde_json::from_slice(&publish.payload).context("an answer is no JSON")?;
                if answer["frame"] == about.as_str() {
                    return Ok(answer);
                }
            }
        }
    }
}

/// How a client of the broker is set up.
fn options(broker: &Broker) -> MqttOptions {
    let mut options = MqttOptions::new(&broker.client_id, &broker.host, broker.port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_start(false).set_manual_acks(true);
    options.set_session_expiry_interval(Some(broker.session_s)).set_receive_maximum(Some(RECEIVE_MAX));
    options.set_max_packet_size(u32::try_from(FRAME_BYTES_MAX + AROUND_BYTES_MAX).ok());
    if let Some((user, password)) = &broker.login {
        let Login { username, password } = Login::new(user, password);
        options.set_credentials(username, password);
    }
    if let Some(tls) = &broker.tls {
        options.set_transport(Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(tls.clone())));
    }
    options
}

async fn connect_again(broker: Broker, filter: String, to: Sender<Message<Ack>>) {
    let mut after = RECONNECT;
    loop {
        let (client, events) = AsyncClient::new(options(&broker), REQUESTS_LEN_MAX);
        let (connected, why) = live(client, events, &filter, &to).await;
        if to.is_closed() {
            return;
        }
        if connected {
            after = RECONNECT;
        }
        tracing::warn!(broker = %broker.host, port = broker.port, why, "the connection with the broker broke: trying again");
        tokio::time::sleep(after).await;
        after = (after * 2).min(RECONNECT_MAX);
    }
}

/// One connection, from its beginning to its end; whether it came to be, and why it ended.
async fn live(client: AsyncClient, mut events: EventLoop, filter: &str, to: &Sender<Message<Ack>>) -> (bool, String) {
    let mut connected = false;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                connected = true;
                tracing::info!(resumed = ack.session_present, "connected with the broker");
                // Also in a session that goes on: the filter may be another one than last time.
                if client.try_subscribe(filter, QoS::AtLeastOnce).is_err() {
                    return (connected, "the subscription cannot be asked for".to_owned());
                }
            }
            Ok(Event::Incoming(Incoming::SubAck(ack))) => {
                let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                if let Some(code) = refused {
                    return (connected, format!("the broker refuses the subscription: {code:?}"));
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else { continue };
                let properties = publish.properties.clone().unwrap_or_default();
                let answer_to = properties.response_topic.map(|topic| (topic, properties.correlation_data));
                let (payload, once) = (publish.payload.clone(), publish.qos == QoS::AtMostOnce);
                let message = Message { topic, payload, answer_to, ack: Ack { client: client.clone(), publish } };
                if once {
                    // Of such messages a broker sends as many as come; what finds no room is lost, as they may be.
                    if to.try_send(message).is_err() && to.is_closed() {
                        return (connected, String::new());
                    }
                } else if to.send(message).await.is_err() {
                    return (connected, String::new());
                }
            }
            Ok(_) => {}
            Err(error) => return (connected, error.to_string()),
        }
    }
}
