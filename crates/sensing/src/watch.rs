//! What a gateway keeps of one device between its frames: where its sequence is, how its clock stands, how much it sends, and
//! whether its key is still its own.

use crate::{
    Binding, DeviceId, DeviceState, NO_PREVIOUS, Reading, Reject,
    admit::admit_signed,
    clock::{Clock, Estimate},
    rate::{Bucket, Rate},
    verify::Signed,
};
use record::{Digest, TimeMs};
use std::collections::VecDeque;

/// So many admitted frames are remembered, so that another one with the counter of one of them is told from its repetition.
const REMEMBERED: usize = 64;

/// Why a device's frame was refused. The device's or its sender's fault; no health data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The frame itself is not to be admitted.
    #[error(transparent)]
    Frame(#[from] Reject),
    /// The device's key was revoked before the frame came. What time the frame claims does not matter: who has the key may claim any.
    #[error("device `{device}` was revoked at {at}")]
    Revoked {
        /// The device.
        device: DeviceId,
        /// When it was revoked.
        at: TimeMs,
    },
    /// Two hold the device's key, as an earlier frame showed: nobody can say which of them this is.
    #[error("the key of device `{device}` was copied: it signed two frames with counter {counter}")]
    Copied {
        /// The device.
        device: DeviceId,
        /// The counter that was used twice.
        counter: u64,
    },
    /// The device sends more than it may.
    #[error("device `{device}` sends too much; it may go on in {wait_ms} ms")]
    TooMany {
        /// The device.
        device: DeviceId,
        /// For how long it should wait.
        wait_ms: u64,
    },
}

impl Refusal {
    /// A short name that stays the same, for entries, metrics and answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Frame(reject) => reject.code(),
            Self::Revoked { .. } => "revoked",
            Self::Copied { .. } => "key-copied",
            Self::TooMany { .. } => "too-many",
        }
    }

    /// Whether this is worth an entry on the ledger: it needed the device's key, or shows that two hold it.
    pub fn is_evidence(&self) -> bool {
        match self {
            Self::Frame(reject) => reject.is_evidence(),
            Self::Revoked { .. } | Self::Copied { .. } => true,
            Self::TooMany { .. } => false,
        }
    }
}

/// What an admitted frame changes, once it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the watch stands still until it is told that the frame is stored"]
pub struct Next {
    state: DeviceState,
    received_at: TimeMs,
}

/// One device, watched from its binding on. A device that is bound anew with a new key is watched anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    state: DeviceState,
    clock: Clock,
    bucket: Bucket,
    // INVARIANT: counters ascend; at most REMEMBERED.
    admitted: VecDeque<(u64, Digest)>,
    revoked: Option<TimeMs>,
    copied: Option<u64>,
}

impl Watch {
    /// Goes on from the last admitted frame.
    pub fn resume(state: DeviceState) -> Self {
        // Where the last frame is not known, none is taken for another one.
        let last = (state.last_digest != NO_PREVIOUS).then_some((state.last_counter, state.last_digest));
        Self { state, admitted: last.into_iter().collect(), ..Self::default() }
    }

    /// Goes on after a restart: from what is known of the frames that were admitted, each with the time of its receipt, and from `last`
    /// where that lies further on. A frame that does not follow the ones before it by its counter is passed over.
    pub fn resume_after(known: impl IntoIterator<Item = (DeviceState, TimeMs)>, last: DeviceState) -> Self {
        let mut watch = Self::default();
        for (state, received_at) in known {
            if state.last_counter > watch.state.last_counter {
                watch.stored(Next { state, received_at });
            }
        }
        if last.last_counter >= watch.state.last_counter {
            watch.state = last;
            watch.admitted.retain(|(counter, _)| *counter < last.last_counter);
            if last.last_digest != NO_PREVIOUS {
                watch.admitted.push_back((last.last_counter, last.last_digest));
            }
        }
        watch
    }

    /// The same watch with another bound than [`Rate::USUAL`] on what the device sends.
    #[must_use]
    pub fn bounded_by(self, rate: Rate) -> Self {
        Self { bucket: Bucket::new(rate), ..self }
    }

    /// Takes up what was known before a restart: that two frames were signed with this counter.
    pub fn distrust(&mut self, counter: u64) {
        self.copied.get_or_insert(counter);
    }

    /// Refuses whatever comes from now on: the key is not to be trusted any more.
    pub fn revoke(&mut self, at: TimeMs) {
        self.revoked = Some(self.revoked.map_or(at, |before| before.min(at)));
    }

    /// The last admitted frame.
    pub fn state(&self) -> &DeviceState {
        &self.state
    }

    /// How the device's clock stands to ours; nothing before its first frame.
    pub fn clock(&self) -> Option<Estimate> {
        self.clock.estimate()
    }

    /// The counter that two frames were signed with; nothing while the key is the device's own.
    pub fn copied(&self) -> Option<u64> {
        self.copied
    }

    /// Whether this very frame was admitted, as far as is remembered.
    pub fn has(&self, counter: u64, digest: &Digest) -> bool {
        let at = self.admitted.binary_search_by_key(&counter, |(counter, _)| *counter).ok();
        at.and_then(|at| self.admitted.get(at)).is_some_and(|(_, admitted)| admitted == digest)
    }

    /// Admits one frame, or says why not. Only what the bound key signed uses up what the device may send.
    ///
    /// The device's sequence and clock stay where they are until [`Watch::stored`]: a frame that was not stored is sent again.
    pub fn admit(
        &mut self,
        signed: Signed,
        binding: &Binding,
        received_at: TimeMs,
    ) -> Result<(Reading, Next), Refusal> {
        let (device, counter) = (signed.frame().device().clone(), signed.frame().counter());
        let digest = signed.frame().digest();
        if device != binding.device {
            return Err(Reject::UnknownDevice { device }.into());
        }
        if *signed.key() != binding.key {
            return Err(Reject::BadSignature { device }.into());
        }
        if let Some(at) = self.revoked {
            return Err(Refusal::Revoked { device, at });
        }
        if let Some(counter) = self.copied {
            return Err(Refusal::Copied { device, counter });
        }
        if let Err(wait_ms) = self.bucket.take(received_at) {
            return Err(Refusal::TooMany { device, wait_ms });
        }
        // Counters ascend, so that a frame admitted earlier under this one is found by halving.
        let before = self.admitted.binary_search_by_key(&counter, |(counter, _)| *counter).ok();
        if let Some((_, admitted)) = before.and_then(|at| self.admitted.get(at)).filter(|(_, other)| *other != digest) {
            self.copied = Some(counter);
            return Err(Reject::Cloned { device, counter, admitted: *admitted, got: digest }.into());
        }
        let (reading, state) = admit_signed(signed, binding, &self.state, received_at)?;
        Ok((reading, Next { state, received_at }))
    }

    /// Goes on from a frame that was admitted and stored.
    pub fn stored(&mut self, next: Next) {
        self.state = next.state;
        self.clock.take(next.state.last_device_time, next.received_at);
        if self.admitted.len() >= REMEMBERED {
            self.admitted.pop_front();
        }
        self.admitted.push_back((next.state.last_counter, next.state.last_digest));
    }
}

#[cfg(test)]
mod tests;
