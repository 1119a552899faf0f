//! Signals for tests: shared recordings, read where they are there and said to be missing where not, and generated ones.

use crate::recorded::shared;
use std::{f64::consts::PI, fs};

/// The text of a file under `signals/` of the shared data, or a line that says that it is missing.
pub(crate) fn text(name: &str) -> Option<String> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let path = shared(folder)?.join(file);
    let text = fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("SKIPPED: {} not found", path.display());
    }
    text
}

/// One column of numbers, what is none left out; lines of another kind too.
pub(crate) fn column(text: &str, at: usize, separator: char) -> Vec<f64> {
    text.lines().filter_map(|line| line.split(separator).nth(at)?.trim().parse().ok()).collect()
}

/// BIDMC 01: 125 samples a second of eight minutes, and the breaths that two annotators marked, in seconds.
pub(crate) struct Bidmc {
    /// What it is: the recording, or what is generated in its place.
    pub(crate) name: &'static str,
    pub(crate) impedance: Vec<f64>,
    pub(crate) pleth: Vec<f64>,
    pub(crate) lead_ii: Vec<f64>,
    pub(crate) annotated_s: [Vec<f64>; 2],
}

pub(crate) const BIDMC_HZ: f64 = 125.0;

impl Bidmc {
    /// The recording, or without it a generated one.
    pub(crate) fn read() -> Self {
        Self::recorded().unwrap_or_else(Self::generated)
    }

    fn recorded() -> Option<Self> {
        let signals = text("ppg_resp/bidmc_01_Signals.csv")?;
        let breaths = text("ppg_resp/bidmc_01_Breaths.csv")?;
        let marks = |at| column(&breaths, at, ',').iter().map(|sample| sample / BIDMC_HZ).collect();
        Some(Self {
            name: "bidmc01",
            impedance: column(&signals, 2, ','),
            pleth: column(&signals, 3, ','),
            lead_ii: column(&signals, 6, ','),
            annotated_s: [marks(0), marks(1)],
        })
    }

    fn generated() -> Self {
        let breathing =
            Breathing { rate_hz: BIDMC_HZ, breaths_per_min: 20.0, pulse_per_min: 91.0, seconds: 480, seed: 71 };
        let breaths: Vec<f64> = (0..160).map(|n| f64::from(n) * 3.0 + 1.2).collect();
        Self {
            name: "generated with seed 71",
            impedance: breathing.impedance(),
            pleth: breathing.pleth(),
            lead_ii: breathing.lead_ii(),
            annotated_s: [breaths.clone(), breaths],
        }
    }
}

/// Numbers that look random: SplitMix64 (Steele et al., OOPSLA 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, with a deviation of 1.
    pub(crate) fn normal(&mut self) -> f64 {
        ((0..12).map(|_| self.unit()).sum::<f64>()) - 6.0
    }
}

/// A chest that breathes `breaths_per_min` and a heart that beats `pulse_per_min`, sampled at `rate_hz`: impedance with heart beats, drift
/// and noise, and a plethysmogram of which breathing moves level, height and intervals.
pub(crate) struct Breathing {
    pub(crate) rate_hz: f64,
    pub(crate) breaths_per_min: f64,
    pub(crate) pulse_per_min: f64,
    pub(crate) seconds: usize,
    pub(crate) seed: u64,
}

impl Breathing {
    fn times(&self) -> impl Iterator<Item = f64> {
        let rate_hz = self.rate_hz;
        (0..(self.seconds as f64 * rate_hz) as usize).map(move |n| n as f64 / rate_hz)
    }

    fn breath(&self, at_s: f64) -> f64 {
        // Inspiration is shorter than expiration.
        let phase = (at_s * self.breaths_per_min / 60.0).fract();
        if phase < 0.4 { 0.5 - 0.5 * (PI * phase / 0.4).cos() } else { 0.5 + 0.5 * (PI * (phase - 0.4) / 0.6).cos() }
    }

    pub(crate) fn impedance(&self) -> Vec<f64> {
        let mut chance = Chance(self.seed);
        self.times()
            .map(|at| {
                let heart = 0.1 * (2.0 * PI * at * self.pulse_per_min / 60.0).sin();
                500.0 + self.breath(at) + heart + 0.5 * (at / 60.0).sin() + 0.03 * chance.normal()
            })
            .collect()
    }

    /// When each pulse peaks, in seconds.
    pub(crate) fn pulses_s(&self) -> Vec<f64> {
        let (mut at, mut out) = (0.5, Vec::new());
        let mut chance = Chance(self.seed + 1);
        while at < self.seconds as f64 {
            out.push(at);
            at += 60.0 / self.pulse_per_min * (1.0 - 0.05 * self.breath(at) + 0.01 * chance.normal());
        }
        out
    }

    pub(crate) fn pleth(&self) -> Vec<f64> {
        let mut chance = Chance(self.seed + 2);
        let pulses = self.pulses_s();
        self.times()
            .map(|at| {
                let near = pulses.partition_point(|pulse| *pulse < at - 1.0);
                let wave: f64 = pulses[near..]
                    .iter()
                    .take_while(|pulse| **pulse < at + 1.0)
                    .map(|pulse| {
                        let x = at - pulse;
                        (-0.5 * (x / 0.07).powi(2)).exp() + 0.5 * (-0.5 * ((x - 0.25) / 0.08).powi(2)).exp()
                    })
                    .sum();
                let breath = self.breath(at);
                wave * (1.0 - 0.15 * breath) + 0.2 * breath + 0.1 * (at / 40.0).sin() + 0.01 * chance.normal()
            })
            .collect()
    }

    /// QRS complexes a quarter of a second before each pulse, of which breathing moves height and level.
    pub(crate) fn lead_ii(&self) -> Vec<f64> {
        let mut chance = Chance(self.seed + 3);
        let pulses = self.pulses_s();
        self.times()
            .map(|at| {
                let near = pulses.partition_point(|pulse| *pulse < at - 0.5);
                let wave: f64 = pulses[near..]
                    .iter()
                    .take_while(|pulse| **pulse < at + 1.0)
                    .map(|pulse| {
                        let x = at - pulse + 0.25;
                        (-0.5 * (x / 0.012).powi(2)).exp() + 0.25 * (-0.5 * ((x - 0.28) / 0.05).powi(2)).exp()
                    })
                    .sum();
                let breath = self.breath(at);
                wave * (1.0 - 0.12 * breath) + 0.1 * breath + 0.01 * chance.normal()
            })
            .collect()
    }
}
