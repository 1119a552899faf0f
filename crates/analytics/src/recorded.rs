//! Recordings that tests are held against: the shared ones where they are at hand, and generated ones with known beats.

use sensing::wfdb::{Annotation, Header, Recording, annotations};
use std::{f64::consts::TAU, fs, path::PathBuf, sync::OnceLock, time::Instant};

/// The shared MIT-BIH records.
pub(crate) const MIT_BIH: [&str; 8] = ["100", "103", "104", "105", "106", "116", "119", "208"];

/// A folder of the shared signals, or a loud skip.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let found = root.join("signals").join(folder);
    if !found.is_dir() {
        println!("SKIPPED: {} not found", found.display());
    }
    found.is_dir().then_some(found)
}

/// An ECG with the beats that are in it.
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) rate_hz: f64,
    /// The leads in mV.
    pub(crate) leads: Vec<Vec<f64>>,
    /// The labels of beats.
    pub(crate) beats: Vec<Annotation>,
}

impl Recorded {
    /// A shared record of the MIT-BIH Arrhythmia Database.
    pub(crate) fn mit_bih(name: &str) -> Option<Self> {
        let folder = shared("mitdb")?;
        let header = Header::parse(&fs::read(folder.join(format!("{name}.hea"))).unwrap()).unwrap();
        let data = fs::read(folder.join(format!("{name}.dat"))).unwrap();
        let recording = Recording::read(header.clone(), |_| Some(&data[..])).unwrap();
        let lead = |at: usize| -> Vec<f64> {
            let spec = &header.signals[at];
            let samples = recording.samples(at).unwrap().iter();
            samples.map(|&s| (f64::from(s) - f64::from(spec.baseline)) / spec.gain).collect()
        };
        let labels = ["atr", "rnv"].iter().find_map(|kind| fs::read(folder.join(format!("{name}.{kind}"))).ok());
        let beats = annotations(&labels.unwrap()).unwrap().into_iter().filter(Annotation::is_beat).collect();
        let leads = (0..header.signals.len()).map(lead).collect();
        Some(Self { name: name.to_owned(), rate_hz: header.rate_hz, leads, beats })
    }

    /// All shared records of the MIT-BIH Arrhythmia Database, or none of them.
    pub(crate) fn all_mit_bih() -> Vec<Self> {
        MIT_BIH.iter().map_while(|name| Self::mit_bih(name)).collect()
    }

    pub(crate) fn beat_samples(&self) -> Vec<u64> {
        self.beats.iter().map(|beat| beat.sample).collect()
    }
}

/// CPU time of this thread, where Linux tells it: other people's load does not count.
pub(crate) fn spent_s() -> f64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    ns.map_or_else(|| BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Random numbers that the same seed gives again: SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// Evenly spread from 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally spread around 0 with deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().max(1e-300).ln()).sqrt() * (TAU * self.unit()).cos()
    }
}

/// A stretch of a generated ECG.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Sinus rhythm that breathes.
    Sinus { per_min: f64, seconds: f64 },
    /// Sinus rhythm in which every so many-th beat is a ventricular one, with a compensatory pause.
    Extrasystoles { per_min: f64, every: u32, seconds: f64 },
    /// Atrial fibrillation: no P waves, no two intervals alike.
    AtrialFibrillation { per_min: f64, seconds: f64 },
    /// Ventricular beats alone.
    Ventricular { per_min: f64, seconds: f64 },
    /// Ventricular fibrillation.
    Fibrillation { seconds: f64 },
    /// No beat; noise and wander go on.
    Standstill { seconds: f64 },
    /// The electrode is off: a flat line.
    Off { seconds: f64 },
    /// Sinus rhythm under so much muscle noise, in mV.
    Muscle { per_min: f64, mv: f64, seconds: f64 },
}

/// Amplitude (mV), centre (s from R) and width (s) of a wave.
type Wave = (f64, f64, f64);
const USUAL: [Wave; 5] =
    [(0.14, -0.17, 0.022), (-0.08, -0.028, 0.009), (1.2, 0.0, 0.011), (-0.2, 0.03, 0.01), (0.3, 0.27, 0.05)];
const ECTOPIC: [Wave; 3] = [(1.5, 0.0, 0.032), (-0.5, 0.07, 0.03), (-0.45, 0.3, 0.06)];

impl Recorded {
    /// An ECG made of these parts, with white noise of `noise_mv` and some wander.
    pub(crate) fn made(seed: u64, rate_hz: f64, noise_mv: f64, parts: &[Part]) -> Self {
        let mut made =
            Self { name: format!("made from seed {seed}"), rate_hz, leads: vec![Vec::new()], beats: Vec::new() };
        let mut chance = Chance(seed);
        for part in parts {
            made.add(*part, noise_mv, &mut chance);
        }
        made
    }

    fn add(&mut self, part: Part, noise_mv: f64, chance: &mut Chance) {
        let (seconds, noise_mv) = match part {
            Part::Muscle { mv, seconds, .. } => (seconds, mv),
            Part::Sinus { seconds, .. }
            | Part::Extrasystoles { seconds, .. }
            | Part::AtrialFibrillation { seconds, .. }
            | Part::Ventricular { seconds, .. }
            | Part::Fibrillation { seconds }
            | Part::Standstill { seconds }
            | Part::Off { seconds } => (seconds, noise_mv),
        };
        let rate_hz = self.rate_hz;
        let from = self.leads[0].len();
        let count = (seconds * rate_hz) as usize;
        let at = |n: usize| n as f64 / rate_hz;
        if matches!(part, Part::Off { .. }) {
            self.leads[0].extend(std::iter::repeat_n(-5.0, count));
            return;
        }
        let line = |n: usize| 0.1 * (TAU * 0.22 * at(n)).sin();
        self.leads[0].extend((from..from + count).map(|n| line(n) + noise_mv * chance.normal()));
        let mut beats: Vec<(f64, &[Wave])> = Vec::new();
        let (mut at_s, mut number) = (0.4, 0);
        while at_s < seconds - 0.1 {
            let breath = 1.0 + 0.03 * (TAU * 0.25 * at_s).sin() + 0.005 * chance.normal();
            number += 1;
            let (waves, interval_s) = match part {
                Part::Sinus { per_min, .. } | Part::Muscle { per_min, .. } => (&USUAL[..], 60.0 / per_min * breath),
                Part::Extrasystoles { per_min, every, .. } => {
                    let share = match number % every {
                        0 => 1.4,
                        n if n + 1 == every => 0.6,
                        _ => 1.0,
                    };
                    let waves = if number % every == 0 { &ECTOPIC[..] } else { &USUAL[..] };
                    (waves, 60.0 / per_min * breath * share)
                }
                Part::AtrialFibrillation { per_min, .. } => {
                    (&USUAL[1..], (60.0 / per_min * (1.0 + 0.22 * chance.normal())).clamp(0.3, 1.6))
                }
                Part::Ventricular { per_min, .. } => (&ECTOPIC[..], 60.0 / per_min * (1.0 + 0.01 * chance.normal())),
                Part::Fibrillation { .. } | Part::Standstill { .. } | Part::Off { .. } => break,
            };
            beats.push((at_s, waves));
            at_s += interval_s;
        }
        for (at_s, waves) in beats {
            let around = from as f64 + (at_s - 0.5) * rate_hz..from as f64 + (at_s + 0.7) * rate_hz;
            for n in (around.start.max(from as f64) as usize)..(around.end as usize).min(from + count) {
                let t = at(n - from) - at_s;
                let wave = |&(mv, centre, width): &Wave| mv * (-(t - centre).powi(2) / (2.0 * width * width)).exp();
                self.leads[0][n] += waves.iter().map(wave).sum::<f64>();
            }
            let code = if waves.len() == ECTOPIC.len() { 5 } else { 1 };
            let sample = (from as f64 + at_s * rate_hz).round() as u64;
            self.beats.push(Annotation { sample, code, aux: String::new() });
        }
        if matches!(part, Part::Fibrillation { .. }) {
            // The main frequency moves between 4 and 6 Hz, and the size comes and goes.
            let mut phase = 0.0;
            for n in 0..count {
                phase += TAU * (5.0 + (TAU * 0.3 * at(n)).sin()) / rate_hz;
                let size = 0.45 + 0.15 * (TAU * 0.41 * at(n)).sin();
                self.leads[0][from + n] += size * (phase.sin() + 0.3 * (1.7 * phase).sin());
            }
        }
    }
}

/// The variable called `name` of a MAT-file of level 5, column by column: numbers of 8 bytes in a compressed matrix, as the shared file has.
pub(crate) fn mat_v5(bytes: &[u8], name: &str) -> Option<(usize, Vec<f64>)> {
    use std::io::Read as _;
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let mut at = 128;
    while at + 8 <= bytes.len() {
        let (kind, length) = (word(bytes, at)?, word(bytes, at + 4)?);
        let mut matrix = Vec::new();
        if kind == 15 {
            flate2::read::ZlibDecoder::new(bytes.get(at + 8..at + 8 + length)?).read_to_end(&mut matrix).ok()?;
        }
        at += 8 + length;
        // Tag, flags (16 bytes), size (16 bytes), name (8 bytes when it is short, else padded to 8), then the numbers.
        let rows = word(&matrix, 32).unwrap_or_default();
        let short = word(&matrix, 40).is_some_and(|tag| tag >> 16 > 0);
        let letters = word(&matrix, if short { 40 } else { 44 }).map(|tag| if short { tag >> 16 } else { tag })?;
        let begins = if short { 44 } else { 48 };
        let numbers = if short { 48 } else { 48 + letters.div_ceil(8) * 8 };
        if matrix.get(begins..begins + letters) == Some(name.as_bytes()) && word(&matrix, numbers) == Some(9) {
            let body = matrix.get(numbers + 8..numbers + 8 + word(&matrix, numbers + 4)?)?;
            return Some((rows, body.chunks_exact(8).map(|x| f64::from_le_bytes(x.try_into().unwrap())).collect()));
        }
    }
    None
}
