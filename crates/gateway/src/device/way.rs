//! How a device's frames come to a gateway and its answers back: by HTTP, several at once, or by a broker, one after another.

use crate::{client::Client, http::SEQUENCE, mqtt::Asker};
use anyhow::Context;
use serde_json::Value;
use std::time::Duration;

/// Frames in one HTTP request.
const AT_ONCE: usize = 64;

/// A way to a gateway.
pub(crate) enum Way {
    Http(Client),
    Mqtt(Box<Asker>),
}

/// What was said of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is durable, now or from an earlier time.
    Taken,
    /// It may be taken later; not before so long.
    Later(Duration),
    /// It will never be taken: status, code and why.
    Refused(u16, String, String),
}

impl Way {
    /// How many frames go together.
    pub(crate) fn at_once(&self) -> usize {
        match self {
            Self::Http(_) => AT_ONCE,
            // Of frames that follow one that has to wait none may be taken: it would be lost.
            Self::Mqtt(_) => 1,
        }
    }

    /// Sends frames; gives what was said of each, in their order. Fails while nobody can be reached.
    pub(crate) async fn send(&mut self, frames: &[Vec<u8>]) -> anyhow::Result<Vec<Told>> {
        match self {
            Self::Http(gateway) => {
                let answer = gateway.post_bytes("/frames", SEQUENCE, frames.concat()).await?;
                let status = answer.status.as_u16();
                if status != 200 {
                    let told = match status {
                        429 | 500..=599 => Told::Later(Duration::from_secs(1)),
                        _ => Told::Refused(status, "unknown".to_owned(), answer.diagnostics()),
                    };
                    return Ok(vec![told; frames.len()]);
                }
                let answers = answer.json()?;
                let answers = answers["answers"].as_array().context("the gateway's answer has no answers")?;
                anyhow::ensure!(answers.len() == frames.len(), "the gateway did not answer each frame");
                Ok(answers.iter().map(Told::of).collect())
            }
            Self::Mqtt(broker) => {
                let mut told = Vec::with_capacity(frames.len());
                for frame in frames {
                    told.push(Told::of(&broker.ask(frame).await?));
                }
                Ok(told)
            }
        }
    }
}

impl Told {
    fn of(answer: &Value) -> Self {
        let issue = &answer["outcome"]["issue"][0];
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        match answer["status"].as_u64() {
            Some(201) => Self::Taken,
            Some(409) if issue["code"] == "duplicate" => Self::Taken,
            Some(429 | 500..=599) => Self::Later(Duration::from_millis(answer["wait_ms"].as_u64().unwrap_or(500))),
            status => {
                let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
                Self::Refused(status, text(&issue["code"]), text(&issue["diagnostics"]))
            }
        }
    }
}
