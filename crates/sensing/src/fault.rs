//! Faults of the reference device, so that what a gateway should notice can be tried: a sequence of frames becomes one with loss,
//! reordering, drift, copies of the key, repetitions, forgeries or an empty battery.
//!
//! Everything that is chance follows from a seed.

use crate::{BadFrame, Frame, Sequence, Signal, SigningKey, Value, generated::Chance};
use record::TimeMs;
use std::collections::VecDeque;

/// The device time at which a clock without a battery begins: the least one that a frame may have, in July 1978.
const CLOCK_LOST: TimeMs = TimeMs((1 << 28) * 1_000);

/// What is wrong with a device, or with the way to the gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// So many frames of a thousand never come.
    Loss {
        /// Frames of a thousand.
        per_mille: u32,
    },
    /// So many frames of a thousand come after the `by` frames that follow them.
    Reordering {
        /// Frames of a thousand.
        per_mille: u32,
        /// How many frames overtake.
        by: usize,
    },
    /// The device's clock runs faster than the true one.
    ClockDrift {
        /// Parts per million; below 0 for a slow one.
        ppm: f64,
    },
    /// From a frame on another device sends frames, too, with the same name and a copy of the key, from where the first one was.
    Clone {
        /// How many frames the first device sends before.
        after: u64,
    },
    /// So many frames of a thousand come a second time, one to sixteen frames later.
    Replay {
        /// Frames of a thousand.
        per_mille: u32,
    },
    /// So many frames of a thousand are signed with another key.
    WrongKey {
        /// Frames of a thousand.
        per_mille: u32,
    },
    /// The battery is empty for a while. Its changed one finds the device's clock lost, until that is set.
    DeadBattery {
        /// How many frames the device sends before.
        after: u64,
        /// For how many moments nothing is measured.
        silent: u64,
        /// How many frames then have the lost clock's time.
        unset: u64,
    },
}

/// A frame on its way, and when it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The frame.
    pub frame: Frame,
    /// When it comes, by the true clock.
    pub at: TimeMs,
}

/// A device with a fault. Takes moments, each with its true time and what is measured then, and gives the frames that come.
#[derive(Debug)]
pub struct Faulty<I> {
    moments: I,
    fault: Fault,
    chance: Chance,
    key: SigningKey,
    sequence: Sequence,
    /// The one with the copied key, from the frame on at which it was copied.
    other: Option<Sequence>,
    /// The first moment.
    begun: Option<TimeMs>,
    /// Moments so far.
    moment: u64,
    /// What comes next.
    ready: VecDeque<Sent>,
    /// Frames that come later, and after how many moments.
    held: Vec<(usize, Frame)>,
}

impl<I: Iterator<Item = (TimeMs, Vec<Signal>)>> Faulty<I> {
    /// The device whose frames are those of `sequence`, which signs with `key`.
    pub fn new(moments: I, sequence: Sequence, key: SigningKey, fault: Fault, seed: u64) -> Self {
        Self {
            moments,
            fault,
            chance: Chance::new(seed),
            sequence,
            key,
            other: None,
            begun: None,
            moment: 0,
            ready: VecDeque::new(),
            held: Vec::new(),
        }
    }

    fn hits(&mut self, per_mille: u32) -> bool {
        self.chance.unit() * 1_000.0 < f64::from(per_mille)
    }

    /// Keeps a frame back for `moments`, the present one not counted.
    fn hold(&mut self, moments: usize, frame: Frame) {
        self.held.push((moments.saturating_add(1), frame));
    }

    fn send(&mut self, frame: Frame, at: TimeMs) {
        self.ready.push_back(Sent { frame, at });
    }

    /// What the device's clock shows at a moment; nothing while its battery is empty.
    fn device_time(&self, at: TimeMs, begun: TimeMs) -> Option<TimeMs> {
        match self.fault {
            Fault::ClockDrift { ppm } => {
                let ahead_ms = at.0.saturating_sub(begun.0) as f64 * ppm / 1e6;
                Some(TimeMs(at.0.saturating_add_signed(ahead_ms.round() as i64)))
            }
            Fault::DeadBattery { after, silent, unset } => {
                let Some(since) = self.moment.checked_sub(after) else { return Some(at) };
                let on_again = since.checked_sub(silent)?;
                Some(if on_again < unset { CLOCK_LOST.plus_ms(on_again * 1_000) } else { at })
            }
            _ => Some(at),
        }
    }

    /// What comes of one moment.
    fn live(&mut self, at: TimeMs, signals: Vec<Signal>) -> Result<(), BadFrame> {
        let begun = *self.begun.get_or_insert(at);
        let (fault, moment, time) = (self.fault, self.moment, self.device_time(at, begun));
        self.moment += 1;
        let Some(time) = time else { return Ok(()) };
        let (before, counter) = (self.sequence.previous(), self.sequence.counter());
        let frame = self.sequence.next(time, signals.clone())?;
        match fault {
            Fault::Loss { per_mille } if self.hits(per_mille) => {}
            Fault::Reordering { per_mille, by } if self.hits(per_mille) => self.hold(by, frame),
            Fault::Replay { per_mille } if self.hits(per_mille) => {
                let later = 1 + (self.chance.unit() * 16.0) as usize;
                self.hold(later, frame.clone());
                self.send(frame, at);
            }
            Fault::WrongKey { per_mille } if self.hits(per_mille) => {
                let mut forger = self.key.to_bytes();
                forger[0] ^= 1;
                self.send(Frame::sign(frame.into_pack(), &SigningKey::from_bytes(&forger))?, at);
            }
            Fault::Clone { after } if moment >= after => {
                let (device, key) = (frame.device().clone(), self.key.clone());
                let other = self.other.get_or_insert_with(|| Sequence::resume(device, key, counter, before));
                let theirs = other.next(time, elsewhere(signals))?;
                self.send(frame, at);
                self.send(theirs, at);
            }
            _ => self.send(frame, at),
        }
        for (moments, _) in &mut self.held {
            *moments -= 1;
        }
        let due = self.held.extract_if(.., |(moments, _)| *moments == 0).map(|(_, frame)| Sent { frame, at });
        self.ready.extend(due);
        Ok(())
    }
}

/// What another person's sensors say: the same signals, each without a value.
fn elsewhere(signals: Vec<Signal>) -> Vec<Signal> {
    signals.into_iter().map(|signal| Signal { value: Value::Absent(crate::Absence::Unknown), ..signal }).collect()
}

impl<I: Iterator<Item = (TimeMs, Vec<Signal>)>> Iterator for Faulty<I> {
    /// A frame that comes, or why what was measured fits no frame.
    type Item = Result<Sent, BadFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(sent) = self.ready.pop_front() {
                return Some(Ok(sent));
            }
            let (at, signals) = self.moments.next()?;
            if let Err(bad) = self.live(at, signals) {
                return Some(Err(bad));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Binding, Decimal, DeviceId, Refusal, Signed, Watch};
    use record::Id16;
    use std::collections::BTreeMap;

    const START: TimeMs = TimeMs(1_795_255_200_000);

    fn device() -> DeviceId {
        "urn:dev:ops:32473-monitor-1".parse().unwrap()
    }

    fn sent(fault: Fault, moments: u64, seed: u64) -> Vec<Sent> {
        println!("seed {seed}: {fault:?}");
        let pulse = |n: u64| {
            let value = Value::Number { unit: "/min".into(), value: Decimal::whole(60 + (n % 40) as i32) };
            vec![Signal { name: "pulse".into(), offset_ms: 0, value }]
        };
        let moments = (1..=moments).map(|n| (START.plus_ms(n * 1_000), pulse(n)));
        let key = SigningKey::from_bytes(&[7; 32]);
        let sequence = Sequence::new(device(), key.clone());
        Faulty::new(moments, sequence, key, fault, seed).collect::<Result<_, _>>().unwrap()
    }

    /// How many frames had each outcome; how many frames are missing by the gaps; the watch.
    fn tried(sent: &[Sent]) -> (BTreeMap<&'static str, usize>, u64, Watch) {
        let binding = Binding {
            device: device(),
            key: SigningKey::from_bytes(&[7; 32]).verifying_key(),
            patient: "Patient/1".into(),
            binding: Id16([1; 16]),
            from: START,
            until: None,
        };
        let (mut watch, mut outcomes, mut missing) = (Watch::default(), BTreeMap::new(), 0);
        for Sent { frame, at } in sent {
            let outcome = Signed::one(frame.clone(), &binding.key).map_err(Refusal::from);
            let code = match outcome.and_then(|signed| watch.admit(signed, &binding, at.plus_ms(30))) {
                Ok((reading, next)) => {
                    watch.stored(next);
                    missing += reading.gap.map_or(0, |gap| gap.last - gap.first + 1);
                    "admitted"
                }
                Err(refusal) => refusal.code(),
            };
            *outcomes.entry(code).or_insert(0) += 1;
        }
        (outcomes, missing, watch)
    }

    #[test]
    fn lost_frames_are_gaps() {
        for seed in 0..10 {
            let sent = sent(Fault::Loss { per_mille: 100 }, 1_000, seed);
            let (outcomes, missing, watch) = tried(&sent);
            assert_eq!(outcomes, BTreeMap::from([("admitted", sent.len())]));
            assert_eq!(missing + sent.len() as u64, watch.state().last_counter);
            assert!((50..200).contains(&missing), "{missing}");
        }
    }

    #[test]
    fn an_overtaken_frame_is_a_gap_and_then_a_repetition() {
        for seed in 0..10 {
            let sent = sent(Fault::Reordering { per_mille: 20, by: 3 }, 1_000, seed);
            let (outcomes, missing, watch) = tried(&sent);
            let late = outcomes.get("replayed").copied().unwrap_or(0);
            assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), ["admitted", "replayed"]);
            assert!(late > 0 && missing >= late as u64, "{outcomes:?}, {missing} missing");
            assert_eq!(watch.copied(), None, "an overtaken frame passes for a copy");
        }
    }

    #[test]
    fn a_drifting_clock_is_measured_until_it_is_too_far() {
        for (ppm, expected) in [(-150.0, "admitted"), (300.0, "admitted")] {
            let (outcomes, _, watch) = tried(&sent(Fault::ClockDrift { ppm }, 3_000, 1));
            assert_eq!(outcomes, BTreeMap::from([(expected, 3_000)]));
            let told = watch.clock().unwrap();
            assert!((told.drift_ppm.unwrap() - ppm).abs() < 2.0, "{told}");
        }
        let (outcomes, ..) = tried(&sent(Fault::ClockDrift { ppm: 50_000.0 }, 3_000, 1));
        assert!(outcomes["clock-too-far"] > 1_000, "{outcomes:?}");
    }

    #[test]
    fn a_copied_key_is_noticed_at_its_first_frame_and_nothing_is_admitted_any_more() {
        for after in [0, 1, 7, 100] {
            let sent = sent(Fault::Clone { after }, 200, 3);
            let (outcomes, _, watch) = tried(&sent);
            assert_eq!(outcomes["admitted"] as u64, after + 1);
            assert_eq!(outcomes["cloned"], 1);
            assert_eq!(outcomes["key-copied"], sent.len() - outcomes["admitted"] - 1);
            assert_eq!(watch.copied(), Some(after + 1));
        }
    }

    #[test]
    fn a_repeated_frame_is_refused_and_accuses_nobody() {
        for seed in 0..10 {
            let sent = sent(Fault::Replay { per_mille: 50 }, 1_000, seed);
            let (outcomes, missing, watch) = tried(&sent);
            assert_eq!((outcomes["admitted"], missing, watch.copied()), (1_000, 0, None));
            assert_eq!(outcomes["replayed"], sent.len() - 1_000);
        }
    }

    #[test]
    fn another_key_signs_nothing_and_leaves_a_gap() {
        for seed in 0..10 {
            let (outcomes, missing, _) = tried(&sent(Fault::WrongKey { per_mille: 50 }, 1_000, seed));
            assert_eq!(outcomes["admitted"] + outcomes["bad-signature"], 1_000);
            assert!(outcomes["bad-signature"] as u64 - missing <= 3, "the last frames leave no gap: {outcomes:?}");
        }
    }

    #[test]
    fn a_device_with_a_new_battery_is_refused_until_its_clock_is_set() {
        let sent = sent(Fault::DeadBattery { after: 100, silent: 300, unset: 5 }, 1_000, 1);
        let (outcomes, missing, _) = tried(&sent);
        assert_eq!(outcomes, BTreeMap::from([("admitted", 695), ("clock-too-far", 5)]));
        assert_eq!(missing, 5);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let fault = Fault::Loss { per_mille: 300 };
        assert_eq!(sent(fault, 100, 5), sent(fault, 100, 5));
        assert_ne!(sent(fault, 100, 5), sent(fault, 100, 6));
    }
}
