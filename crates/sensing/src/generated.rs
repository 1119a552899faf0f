//! Signals of a person who does not exist: ECG, pulse, breathing, pressure, temperature, movement and skin, one second a step.
//!
//! Made for demonstrations and tests; everything shown from it must say so. The ECG is a sum of Gaussian waves per beat after
//! McSharry et al., IEEE Trans Biomed Eng 2003;50:289, with beats spaced by a rate that breathing and chance modulate. The same
//! seed and story give the same signals.

use crate::{Decimal, Limits, Samples, Signal, Value, Waveform};
use std::{collections::VecDeque, f64::consts::TAU};

/// Samples per second of the plethysmogram.
const PLETH_HZ: u32 = 125;
/// Samples per second of thoracic impedance and acceleration.
const SLOW_HZ: u32 = 25;
/// Samples per second of skin conductance.
const GSR_HZ: u32 = 4;
/// A cuff inflates once a minute.
const NIBP_EVERY_S: u64 = 60;
/// A thermometer reports every ten seconds.
const TEMPERATURE_EVERY_S: u64 = 10;
/// The ECG of a beat reaches this far before and after its R wave, in seconds.
const BEAT_REACH_S: f64 = 0.7;

/// What happens to the person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Story {
    /// Nothing.
    Stable,
    /// Bleeding after an accident: pulse and breathing rise, pressure, saturation and temperature fall, from `onset_s` over
    /// `duration_s`, then stay.
    Haemorrhage {
        /// When it begins, in seconds.
        onset_s: f64,
        /// How long it takes to its worst.
        duration_s: f64,
    },
    /// A fast regular rhythm of 160 /min.
    Tachycardia {
        /// When it begins, in seconds.
        from_s: f64,
        /// When it ends.
        until_s: f64,
    },
    /// Saturation falls to 82 % and returns.
    Desaturation {
        /// When it begins, in seconds.
        from_s: f64,
        /// When it ends.
        until_s: f64,
    },
}

/// The person's state at a time, before measurement noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    /// Heart beats, /min.
    pub pulse_per_min: f64,
    /// Systolic pressure, mmHg.
    pub systolic_mmhg: f64,
    /// Diastolic pressure, mmHg.
    pub diastolic_mmhg: f64,
    /// Oxygen saturation, %.
    pub spo2_percent: f64,
    /// Breaths, /min.
    pub breaths_per_min: f64,
    /// Body temperature, Cel.
    pub temperature_cel: f64,
    /// Skin conductance, uS.
    pub skin_us: f64,
}

const HEALTHY: Vitals = Vitals {
    pulse_per_min: 78.0,
    systolic_mmhg: 126.0,
    diastolic_mmhg: 80.0,
    spo2_percent: 97.6,
    breaths_per_min: 15.0,
    temperature_cel: 36.8,
    skin_us: 4.0,
};

/// Class IV haemorrhage by the ATLS classification: pulse above 140, pressure and pulse pressure down, breaths above 35.
const SHOCK: Vitals = Vitals {
    pulse_per_min: 142.0,
    systolic_mmhg: 76.0,
    diastolic_mmhg: 50.0,
    spo2_percent: 84.0,
    breaths_per_min: 34.0,
    temperature_cel: 35.2,
    skin_us: 18.0,
};

impl Story {
    /// The person's state `at_s` seconds after the beginning.
    pub fn vitals(self, at_s: f64) -> Vitals {
        let within = |from: f64, until: f64, ramp: f64| ramp_to(at_s, from, ramp) - ramp_to(at_s, until - ramp, ramp);
        match self {
            Self::Stable => HEALTHY,
            Self::Haemorrhage { onset_s, duration_s } => between(HEALTHY, SHOCK, ramp_to(at_s, onset_s, duration_s)),
            Self::Tachycardia { from_s, until_s } => {
                let share = within(from_s, until_s, 3.0);
                let pulse_per_min = mix(HEALTHY.pulse_per_min, 160.0, share);
                let systolic_mmhg = mix(HEALTHY.systolic_mmhg, 108.0, share);
                Vitals { pulse_per_min, systolic_mmhg, ..HEALTHY }
            }
            Self::Desaturation { from_s, until_s } => {
                let share = within(from_s, until_s, 20.0);
                Vitals { spo2_percent: mix(HEALTHY.spo2_percent, 82.0, share), ..HEALTHY }
            }
        }
    }
}

/// 0 before `from`, 1 after `from + length`, smooth between.
fn ramp_to(at: f64, from: f64, length: f64) -> f64 {
    let x = ((at - from) / length.max(1e-9)).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}

fn between(a: Vitals, b: Vitals, share: f64) -> Vitals {
    Vitals {
        pulse_per_min: mix(a.pulse_per_min, b.pulse_per_min, share),
        systolic_mmhg: mix(a.systolic_mmhg, b.systolic_mmhg, share),
        diastolic_mmhg: mix(a.diastolic_mmhg, b.diastolic_mmhg, share),
        spo2_percent: mix(a.spo2_percent, b.spo2_percent, share),
        breaths_per_min: mix(a.breaths_per_min, b.breaths_per_min, share),
        temperature_cel: mix(a.temperature_cel, b.temperature_cel, share),
        skin_us: mix(a.skin_us, b.skin_us, share),
    }
}

/// One second of all sensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Second {
    /// What a monitor would send.
    pub signals: Vec<Signal>,
    /// The samples of the ECG at which R waves peak, counted from the beginning of the recording.
    pub beats: Vec<u64>,
}

/// A person wearing every sensor.
#[derive(Debug, Clone)]
pub struct Wearer {
    story: Story,
    ecg_hz: u32,
    chance: Chance,
    second: u64,
    /// R waves around the present second, in seconds.
    beats_s: VecDeque<f64>,
    /// Breathing, in cycles.
    breath: f64,
}

/// Amplitude in mV of each wave in one lead.
struct LeadShape {
    name: &'static str,
    /// P, Q, R, S, T.
    waves_mv: [f64; 5],
}

/// Centre (s from R), width (s) of P, Q, R, S, T, and whether they stretch with the square root of the interval (Bazett).
const WAVES: [(f64, f64, bool); 5] =
    [(-0.17, 0.022, true), (-0.028, 0.009, false), (0.0, 0.011, false), (0.030, 0.010, false), (0.29, 0.055, true)];

/// Leads that are measured; the others follow from I and II (Einthoven, Goldberger).
const LEADS: [LeadShape; 8] = [
    LeadShape { name: "ecg-i", waves_mv: [0.08, -0.05, 0.70, -0.10, 0.20] },
    LeadShape { name: "ecg-ii", waves_mv: [0.14, -0.08, 1.20, -0.20, 0.30] },
    LeadShape { name: "ecg-v1", waves_mv: [0.06, 0.0, 0.25, -0.90, -0.05] },
    LeadShape { name: "ecg-v2", waves_mv: [0.08, 0.0, 0.45, -1.20, 0.35] },
    LeadShape { name: "ecg-v3", waves_mv: [0.08, -0.02, 0.80, -0.80, 0.40] },
    LeadShape { name: "ecg-v4", waves_mv: [0.09, -0.06, 1.40, -0.40, 0.40] },
    LeadShape { name: "ecg-v5", waves_mv: [0.09, -0.08, 1.30, -0.20, 0.33] },
    LeadShape { name: "ecg-v6", waves_mv: [0.09, -0.08, 1.00, -0.10, 0.25] },
];

impl Wearer {
    /// A person with this story; `seed` decides everything that is chance. `ecg_hz` is at least 1 and at most 1000.
    pub fn new(seed: u64, story: Story, ecg_hz: u32) -> Self {
        let mut chance = Chance::new(seed);
        let first_s = 0.3 + 0.3 * chance.unit();
        let mut wearer = Self {
            story,
            ecg_hz: ecg_hz.clamp(1, 1_000),
            chance,
            second: 0,
            beats_s: VecDeque::from([first_s]),
            breath: 0.0,
        };
        wearer.breath = wearer.chance.unit();
        wearer
    }

    /// Seconds made so far.
    pub fn at_s(&self) -> u64 {
        self.second
    }

    /// The next second.
    pub fn next_second(&mut self) -> Second {
        let start_s = self.second as f64;
        let vitals = self.story.vitals(start_s);
        self.schedule_beats(start_s + 1.0 + BEAT_REACH_S, vitals.breaths_per_min);
        let rate = f64::from(self.ecg_hz);
        let in_second = |&&beat: &&f64| beat >= start_s && beat < start_s + 1.0;
        let beats = self.beats_s.iter().filter(in_second).map(|beat| (beat * rate).round() as u64).collect();
        let mut signals = self.ecg(start_s, vitals.breaths_per_min);
        signals.push(self.pleth(start_s));
        signals.push(self.impedance(vitals.breaths_per_min));
        signals.extend(self.acceleration());
        signals.push(self.skin(vitals.skin_us));
        signals.extend(self.numbers(vitals));
        self.breath = (self.breath + vitals.breaths_per_min / 60.0).fract();
        self.second += 1;
        Second { signals, beats }
    }

    fn schedule_beats(&mut self, until_s: f64, breaths_per_min: f64) {
        while self.beats_s.back().is_some_and(|&last| last < until_s) {
            let last = self.beats_s.back().copied().unwrap_or(0.0);
            let rate = self.story.vitals(last).pulse_per_min;
            // Respiratory sinus arrhythmia fades as the heart races.
            let freedom = (100.0 / rate).min(1.0).powi(3);
            let breathing = 0.035 * freedom * (TAU * breaths_per_min / 60.0 * last).sin();
            let interval = 60.0 / rate * (1.0 + breathing + 0.012 * freedom * self.chance.normal());
            self.beats_s.push_back(last + interval.max(0.2));
        }
        while self.beats_s.front().is_some_and(|&first| first < until_s - 2.0 - 2.0 * BEAT_REACH_S) {
            self.beats_s.pop_front();
        }
    }

    fn ecg(&mut self, start_s: f64, breaths_per_min: f64) -> Vec<Signal> {
        let count = self.ecg_hz as usize;
        let mut measured: Vec<Vec<f64>> = LEADS.iter().map(|_| Vec::with_capacity(count)).collect();
        let beats: Vec<(f64, f64)> = self
            .beats_s
            .iter()
            .zip(self.beats_s.iter().skip(1))
            .map(|(&beat, &next)| (beat, (next - beat).sqrt()))
            .collect();
        for at in 0..count {
            let into_s = at as f64 / f64::from(self.ecg_hz);
            let mut shape = [0.0; 5];
            for &(beat_s, stretch) in &beats {
                let from_r_s = start_s + into_s - beat_s;
                if from_r_s.abs() < BEAT_REACH_S {
                    for (sum, (centre_s, width_s, stretches)) in shape.iter_mut().zip(WAVES) {
                        let stretch = if stretches { stretch } else { 1.0 };
                        let x = (from_r_s - centre_s * stretch) / (width_s * stretch);
                        *sum += (-0.5 * x * x).exp();
                    }
                }
            }
            let breath = TAU * (self.breath + breaths_per_min / 60.0 * into_s);
            let wander_mv = 0.06 * breath.sin();
            for (lead, out) in LEADS.iter().zip(&mut measured) {
                let beat_mv: f64 = lead.waves_mv.iter().zip(shape).map(|(mv, shape)| mv * shape).sum();
                out.push(beat_mv * (1.0 + 0.04 * breath.cos()) + wander_mv + 0.008 * self.chance.normal());
            }
        }
        let derived = |name: &'static str, of_i: f64, of_ii: f64| {
            let mv = measured[0].iter().zip(&measured[1]).map(|(i, ii)| of_i * i + of_ii * ii).collect();
            (name, mv)
        };
        let mut leads: Vec<(&str, Vec<f64>)> = vec![
            derived("ecg-iii", -1.0, 1.0),
            derived("ecg-avr", -0.5, -0.5),
            derived("ecg-avl", 1.0, -0.5),
            derived("ecg-avf", -0.5, 1.0),
        ];
        leads.extend(LEADS.iter().map(|lead| lead.name).zip(measured));
        leads.sort_by_key(|(name, _)| crate::sensor::ALL[0].channels.iter().position(|channel| channel.name == *name));
        leads.into_iter().map(|(name, mv)| wave(name, "mV", self.ecg_hz, step(5, -3), 0, &mv)).collect()
    }

    fn pleth(&mut self, start_s: f64) -> Signal {
        let values: Vec<f64> = (0..PLETH_HZ)
            .map(|at| {
                let at_s = start_s + f64::from(at) / f64::from(PLETH_HZ);
                let pulse: f64 = self
                    .beats_s
                    .iter()
                    .map(|beat| {
                        // The pulse reaches the finger a quarter of a second after the R wave.
                        let x = at_s - beat - 0.25;
                        (-0.5 * ((x - 0.10) / 0.06).powi(2)).exp() + 0.35 * (-0.5 * ((x - 0.32) / 0.08).powi(2)).exp()
                    })
                    .sum();
                pulse + 0.01 * self.chance.normal()
            })
            .collect();
        wave("pleth", "1", PLETH_HZ, step(1, -3), 0, &values)
    }

    fn impedance(&mut self, breaths_per_min: f64) -> Signal {
        let values: Vec<f64> = (0..SLOW_HZ)
            .map(|at| {
                let breath = self.breath + breaths_per_min / 60.0 * f64::from(at) / f64::from(SLOW_HZ);
                500.0 + 1.2 * (TAU * breath).sin() + 0.03 * self.chance.normal()
            })
            .collect();
        wave("resp-impedance", "Ohm", SLOW_HZ, step(1, -2), 500, &values)
    }

    fn acceleration(&mut self) -> [Signal; 3] {
        // Lying on the back, the chest is held up along z.
        [("accel-x", 0.2), ("accel-y", 0.9), ("accel-z", 9.76)].map(|(name, rest)| {
            let values: Vec<f64> = (0..SLOW_HZ).map(|_| rest + 0.05 * self.chance.normal()).collect();
            wave(name, "m/s2", SLOW_HZ, step(1, -2), 0, &values)
        })
    }

    fn skin(&mut self, mean_us: f64) -> Signal {
        let phase = self.second as f64 / 23.0;
        let values: Vec<f64> = (0..GSR_HZ)
            .map(|_| mean_us * (1.0 + 0.08 * (TAU * phase).sin().max(0.0)) + 0.01 * self.chance.normal())
            .collect();
        wave("gsr", "uS", GSR_HZ, step(1, -3), 0, &values)
    }

    fn numbers(&mut self, vitals: Vitals) -> Vec<Signal> {
        let mut noisy = |value: f64, sd: f64| value + sd * self.chance.normal();
        let mut out = vec![
            number("heart-rate", "/min", noisy(vitals.pulse_per_min, 0.6), 0),
            number("pulse", "/min", noisy(vitals.pulse_per_min, 0.9), 0),
            number("spo2", "%", noisy(vitals.spo2_percent, 0.3).min(100.0), 0),
            number("resp-rate", "/min", noisy(vitals.breaths_per_min, 0.4), 0),
        ];
        if self.second.is_multiple_of(TEMPERATURE_EVERY_S) {
            out.push(number("temp-body", "Cel", noisy(vitals.temperature_cel, 0.04), 1));
            out.push(number("temp-skin", "Cel", noisy(vitals.temperature_cel - 3.2, 0.05), 1));
            out.push(Signal { name: "posture".into(), offset_ms: 0, value: Value::Code("supine".into()) });
        }
        if self.second.is_multiple_of(NIBP_EVERY_S) {
            let (systolic, diastolic) = (noisy(vitals.systolic_mmhg, 1.5), noisy(vitals.diastolic_mmhg, 1.5));
            out.push(number("nibp-sys", "mm[Hg]", systolic, 0));
            out.push(number("nibp-dia", "mm[Hg]", diastolic, 0));
            out.push(number("nibp-mean", "mm[Hg]", (systolic + 2.0 * diastolic) / 3.0, 0));
        }
        out
    }
}

const fn step(mantissa: i64, exponent: i8) -> Decimal {
    match Decimal::new(mantissa, exponent) {
        Some(step) => step,
        None => Decimal::ONE,
    }
}

fn wave(name: &str, unit: &str, rate_hz: u32, scale: Decimal, origin: i32, values: &[f64]) -> Signal {
    let steps = |value: &f64| ((value - f64::from(origin)) / scale.to_f64()).round().clamp(-32_767.0, 32_767.0) as i16;
    let waveform = Waveform {
        unit: unit.into(),
        rate_hz: Decimal::from_f64(f64::from(rate_hz)).unwrap_or(Decimal::ONE),
        origin: Decimal::whole(origin),
        scale,
        limits: Limits::NONE,
        samples: Samples::I16(values.iter().map(steps).collect()),
    };
    Signal { name: name.into(), offset_ms: 0, value: Value::Waveform(waveform) }
}

fn number(name: &str, unit: &str, value: f64, decimals: i8) -> Signal {
    let mantissa = (value * 10f64.powi(decimals.into())).round() as i64;
    let value = Decimal::new(mantissa, -decimals).unwrap_or(Decimal::ZERO);
    Signal { name: name.into(), offset_ms: 0, value: Value::Number { unit: unit.into(), value } }
}

/// Numbers that look random: SplitMix64 (Steele et al., OOPSLA 2014). Not for keys.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The numbers of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Near enough to a standard normal: a sum of four uniforms, within ±3.47.
    fn normal(&mut self) -> f64 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 3f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FRAME_BYTES_MAX, Sequence, SigningKey, sensor};
    use record::TimeMs;

    fn number_named(second: &Second, name: &str) -> Option<f64> {
        second.signals.iter().find(|signal| signal.name == name).and_then(|signal| match &signal.value {
            Value::Number { value, .. } => Some(value.to_f64()),
            _ => None,
        })
    }

    #[test]
    fn the_same_seed_gives_the_same_signals() {
        let run = |seed| {
            let mut wearer = Wearer::new(seed, Story::Stable, 360);
            (0..5).map(|_| wearer.next_second()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn beats_come_at_the_rate_that_the_story_says() {
        for story in [Story::Stable, Story::Tachycardia { from_s: 0.0, until_s: 1e6 }] {
            let mut wearer = Wearer::new(3, story, 360);
            let beats: usize = (0..600).map(|_| wearer.next_second().beats.len()).sum();
            let expected = story.vitals(300.0).pulse_per_min * 10.0;
            assert!((beats as f64 - expected).abs() < expected * 0.03, "{beats} of {expected}");
        }
    }

    #[test]
    fn an_accident_shows_in_every_vital_sign() {
        let story = Story::Haemorrhage { onset_s: 60.0, duration_s: 300.0 };
        let mut wearer = Wearer::new(11, story, 250);
        let seconds: Vec<Second> = (0..421).map(|_| wearer.next_second()).collect();
        let (before, after) = (&seconds[0], &seconds[420]);
        for (name, rises) in
            [("heart-rate", true), ("nibp-sys", false), ("spo2", false), ("resp-rate", true), ("temp-body", false)]
        {
            let (before, after) = (number_named(before, name).unwrap(), number_named(after, name).unwrap());
            assert_eq!(after > before, rises, "{name}: {before} to {after}");
        }
    }

    #[test]
    fn a_second_of_all_sensors_fits_a_frame_and_is_plausible() {
        let mut wearer = Wearer::new(5, Story::Haemorrhage { onset_s: 0.0, duration_s: 1.0 }, 500);
        let mut sequence =
            Sequence::new("urn:dev:ops:32473-monitor-1".parse().unwrap(), SigningKey::from_bytes(&[1; 32]));
        let mut longest = 0;
        for n in 0..120u64 {
            let second = wearer.next_second();
            for signal in &second.signals {
                let channel = sensor::channel(&signal.name).unwrap();
                if let Value::Waveform(wave) = &signal.value {
                    assert_eq!(wave.duration_ms(), 1_000, "{}", signal.name);
                    let values = wave.physical();
                    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
                    let doubt =
                        channel.doubt(&wave.unit, Decimal::from_f64(low).unwrap(), Decimal::from_f64(high).unwrap());
                    assert_eq!(doubt, None, "{}", signal.name);
                }
            }
            let frame = sequence.next(TimeMs(1_795_255_200_000 + n * 1_000), second.signals).unwrap();
            longest = longest.max(frame.bytes().len());
        }
        assert!(longest < FRAME_BYTES_MAX);
        println!("seed 5: a second of all sensors takes at most {longest} bytes");
    }
}
