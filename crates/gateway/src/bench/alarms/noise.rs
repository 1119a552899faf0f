//! Made noise on leads of an ECG, in stretches, so that what alarms are worth in a bad signal can be measured where the truth is known.
//!
//! Source: the noise stress test of Moody, Muldrow and Mark, Comput Cardiol 1984;11:381: two minutes of noise and two without in turn, from the fifth minute on. The
//! noise is made up here: muscle, an electrode that moves, one that is off, and wander with mains hum, in turn.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sensing::{Samples, Signal, Value};
use std::f64::consts::TAU;

/// The first minutes are clean, in seconds.
const CLEAN_S: u64 = 300;
/// Stretches with and without noise, in seconds.
const STRETCH_S: u64 = 120;
/// Muscle noise, as a deviation in mV: some times a P wave.
const MUSCLE_MV: f64 = 0.3;
/// How far a moving electrode goes, in mV.
const MOVED_MV: f64 = 3.0;
/// How often it moves, on the average, in seconds, and how fast it comes back.
const MOVED_EVERY_S: f64 = 4.0;
const BACK_S: f64 = 0.7;
/// Where an amplifier stands whose electrode is off, in mV.
const OFF_MV: f64 = 5.0;
/// Wander and mains hum, in mV.
const WANDER_MV: f64 = 1.5;
const HUM_MV: f64 = 0.15;

/// Noise of one recording, from one seed.
pub(super) struct Noise {
    rng: StdRng,
    /// How far electrodes are moved, in mV.
    moved_mv: f64,
}

/// What a stretch is full of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Muscle,
    Moved,
    Off,
    Wander,
}

/// The noise of second `second`, if it has some.
fn kind_of(second: u64) -> Option<Kind> {
    let stretch = second.checked_sub(CLEAN_S)? / STRETCH_S;
    let kinds = [Kind::Muscle, Kind::Moved, Kind::Off, Kind::Wander];
    stretch.is_multiple_of(2).then(|| kinds[(stretch / 2 % kinds.len() as u64) as usize])
}

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), moved_mv: 0.0 }
    }

    /// Adds the noise of second `second` to every lead.
    pub(super) fn add(&mut self, second: u64, signals: &mut [Signal]) {
        let Some(kind) = kind_of(second) else { return };
        for signal in signals.iter_mut().filter(|signal| signal.name.starts_with("ecg-")) {
            let Value::Waveform(wave) = &mut signal.value else { continue };
            let (rate_hz, origin, scale) = (wave.rate_hz.to_f64(), wave.origin.to_f64(), wave.scale.to_f64());
            let noisy = wave.samples.iter().enumerate().map(|(n, sample)| {
                let Some(sample) = sample else { return i32::MIN };
                let mv = origin + f64::from(sample) * scale;
                let at_s = second as f64 + n as f64 / rate_hz;
                ((self.noisy(kind, mv, at_s, rate_hz) - origin) / scale).round() as i32
            });
            wave.samples = Samples::I32(noisy.collect());
        }
    }

    fn noisy(&mut self, kind: Kind, mv: f64, at_s: f64, rate_hz: f64) -> f64 {
        match kind {
            Kind::Muscle => mv + MUSCLE_MV * self.normal(),
            Kind::Moved => {
                self.moved_mv -= self.moved_mv / (BACK_S * rate_hz);
                if self.rng.random::<f64>() < 1.0 / (MOVED_EVERY_S * rate_hz) {
                    self.moved_mv += MOVED_MV * self.normal();
                }
                mv + self.moved_mv
            }
            Kind::Off => OFF_MV,
            Kind::Wander => mv + WANDER_MV * (TAU * 0.3 * at_s).sin() + HUM_MV * (TAU * 50.0 * at_s).sin(),
        }
    }

    /// Normally spread around 0 with deviation 1.
    fn normal(&mut self) -> f64 {
        let (a, b): (f64, f64) = (self.rng.random(), self.rng.random());
        (-2.0 * a.max(1e-300).ln()).sqrt() * (TAU * b).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensing::{Decimal, Limits, Waveform};

    fn second() -> Vec<Signal> {
        let wave = Waveform {
            unit: "mV".to_owned(),
            rate_hz: Decimal::whole(100),
            origin: Decimal::ZERO,
            scale: Decimal::new(5, -3).unwrap(),
            limits: Limits::NONE,
            samples: Samples::I16((0..100).map(|n| if n == 7 { i16::MIN } else { n }).collect()),
        };
        let named = |name: &str| Signal { name: name.to_owned(), offset_ms: 0, value: Value::Waveform(wave.clone()) };
        vec![named("ecg-ii"), named("pleth")]
    }

    #[test]
    fn leads_alone_are_noisy_in_stretches_and_a_seed_gives_the_same_noise() {
        let with_noise = |at: u64| {
            let (mut noise, mut signals) = (Noise::new(9), second());
            noise.add(at, &mut signals);
            signals
        };
        for clean in [0, 299, 420, 539] {
            assert_eq!(with_noise(clean), second(), "{clean} s");
        }
        for noisy in [300, 419, 540, 780, 1_020] {
            let signals = with_noise(noisy);
            assert_eq!(signals, with_noise(noisy), "seed 9");
            assert!(signals[0] != second()[0] && signals[1] == second()[1], "seed 9, {noisy} s");
            let Value::Waveform(wave) = &signals[0].value else { panic!("a lead is a waveform") };
            assert_eq!(wave.samples.iter().position(|sample| sample.is_none()), Some(7));
        }
        let kinds: Vec<Option<Kind>> = [300, 540, 780, 1_020, 1_260].map(kind_of).into();
        assert_eq!(kinds, [Kind::Muscle, Kind::Moved, Kind::Off, Kind::Wander, Kind::Muscle].map(Some));
    }
}
