//! What a device is told of its frames, by whatever door they came.

use crate::http::said;
use exchange::{Failure, Node};
use record::{Digest, sha256};
use serde_json::{Value, json};

/// The answer to one frame.
pub(crate) struct Told {
    /// The digest of the bytes that came.
    frame: Digest,
    taken: Result<Digest, Failure>,
}

/// Takes frames and answers each, in their order.
pub(crate) async fn told(node: &Node, frames: Vec<Vec<u8>>) -> Vec<Told> {
    let digests: Vec<Digest> = frames.iter().map(|bytes| sha256(&[bytes])).collect();
    let taken = node.frames(frames).await;
    digests.into_iter().zip(taken).map(|(frame, taken)| Told { frame, taken }).collect()
}

/// The Observation that shows a frame.
pub(crate) fn observation(digest: &Digest) -> String {
    format!("Observation/{digest}")
}

impl Told {
    /// A frame that is refused before a node sees it.
    pub(crate) fn refused(bytes: &[u8], why: Failure) -> Self {
        Self { frame: sha256(&[bytes]), taken: Err(why) }
    }

    /// Why the frame was not taken; nothing when it was.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.taken.as_ref().err()
    }

    /// As JSON: the frame's digest, the HTTP status, and the Observation or the OperationOutcome.
    pub(crate) fn to_json(&self) -> Value {
        match &self.taken {
            Ok(digest) => json!({"frame": self.frame, "status": 201, "observation": observation(digest)}),
            Err(failure) => {
                let (status, outcome) = said(failure);
                let outcome: Value = serde_json::from_str(&outcome.to_json()).unwrap_or_default();
                let mut told = json!({"frame": self.frame, "status": status.as_u16(), "outcome": outcome});
                if let Failure::TooFast { wait_ms, .. } = failure {
                    told["wait_ms"] = (*wait_ms).into();
                }
                told
            }
        }
    }
}
