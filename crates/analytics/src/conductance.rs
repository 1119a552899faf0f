//! Skin conductance responses: rises from a trough to a peak, found as the samples come.
//!
//! Source: Boucsein et al., Publication recommendations for electrodermal measurements, Psychophysiology 2012;49:1017: amplitude from trough
//! to peak, of at least 0.01 to 0.05 uS, with a rise of 1 to 3 s as a rule. Unit: `uS`.

use crate::{
    smooth::{Blocks, Mean, Past},
    turns::{Turn, Turns},
};

/// Parameters of the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseParameters {
    /// Samples a second that responses are looked for in; faster signals are averaged down.
    pub work_hz: f64,
    /// Width of each of two averages, in seconds.
    pub smooth_s: f64,
    /// Width of the average that is taken as the tonic level, in seconds: beside it responses on top of each other show a trough between
    /// them. Source: 0.05 Hz, as in Makowski et al. (NeuroKit2), Behav Res Methods 2021;53:1689.
    pub tonic_s: f64,
    /// The least amplitude, in uS. Source: Boucsein et al. 2012, 0.05 uS where a person's eye or noise sets the limit.
    pub amplitude_us: f64,
    /// The share of it that the conductance must fall again for the peak to be one.
    pub fall_share: f64,
    /// The longest rise, in seconds: what takes longer is drift. Source: Boucsein et al. 2012, 1 to 3 s, widened.
    pub rise_s: f64,
    /// How far back a rise is remembered until its peak is certain, in seconds.
    pub past_s: f64,
}

impl ResponseParameters {
    /// The parameters that findings are made with.
    pub const STANDARD: Self = Self {
        work_hz: 16.0,
        smooth_s: 0.5,
        tonic_s: 10.0,
        amplitude_us: 0.05,
        fall_share: 0.4,
        rise_s: 5.0,
        past_s: 60.0,
    };

    /// Every parameter by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("work_hz", self.work_hz),
            ("smooth_s", self.smooth_s),
            ("tonic_s", self.tonic_s),
            ("amplitude_us", self.amplitude_us),
            ("fall_share", self.fall_share),
            ("rise_s", self.rise_s),
            ("past_s", self.past_s),
        ]
        .into_iter()
    }
}

/// One skin conductance response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response {
    /// When it peaks, in seconds from the first sample.
    pub peak_s: f64,
    /// From the trough, or from where the longest rise begins, in seconds.
    pub rise_s: f64,
    /// From there to the peak, in uS.
    pub amplitude_us: f64,
}

/// The detector of one signal.
#[derive(Debug, Clone)]
pub struct Responses {
    p: ResponseParameters,
    blocks: Blocks,
    smooth: [Mean; 2],
    last: Option<f64>,
    tonic: Mean,
    smoothed: Past,
    number: u64,
    turns: Turns,
    trough: Option<Turn>,
}

impl Responses {
    /// A detector for a signal of `rate_hz` samples a second; nothing below 2 Hz or above 4000 Hz.
    pub fn new(rate_hz: f64, parameters: ResponseParameters) -> Option<Self> {
        if !(2.0..=4_000.0).contains(&rate_hz) {
            return None;
        }
        let blocks = Blocks::new(rate_hz, parameters.work_hz);
        let width = (parameters.smooth_s * blocks.rate_hz()).round() as usize;
        Some(Self {
            p: parameters,
            smooth: [Mean::new(width), Mean::new(width)],
            last: None,
            tonic: Mean::new((parameters.tonic_s * blocks.rate_hz()).round() as usize | 1),
            number: 0,
            smoothed: Past::new((parameters.past_s * blocks.rate_hz()) as usize),
            turns: Turns::default(),
            trough: None,
            blocks,
        })
    }

    /// Takes the next sample and gives the response that is certain with it. A sample that is not finite counts as the one before.
    pub fn push(&mut self, value: f64) -> Option<Response> {
        let finite = value.is_finite().then(|| value.clamp(-1e6, 1e6));
        let value = finite.or(self.last)?;
        self.last = Some(value);
        let (_, mean) = self.blocks.push(value)?;
        let [first, second] = &mut self.smooth;
        let smoothed = second.push(first.push(mean));
        self.smoothed.push(smoothed);
        let tonic = self.tonic.push(smoothed);
        let number = self.number;
        self.number += 1;
        // The phasic part of a sample is known when half of the average's width has come after it.
        let middle = number.checked_sub((self.tonic.width() as u64 - 1) / 2)?;
        let turn = self.turns.push(self.smoothed.get(middle)? - tonic, self.p.amplitude_us * self.p.fall_share)?;
        if !turn.maximum {
            self.trough = Some(turn);
            return None;
        }
        self.response(turn)
    }

    fn response(&self, peak: Turn) -> Option<Response> {
        let rate_hz = self.blocks.rate_hz();
        let earliest = (peak.at - self.p.rise_s * rate_hz).max(0.0).ceil();
        let from = self.trough.map_or(earliest, |trough| trough.at.max(earliest)).round() as u64;
        let until = peak.at.round() as u64;
        // While a response before still recovers, the rise begins where the conductance is least.
        let mut onset = (from, self.smoothed.get(from)?);
        for at in from..=until {
            let value = self.smoothed.get(at)?;
            if value <= onset.1 {
                onset = (at, value);
            }
        }
        let amplitude_us = self.smoothed.get(until)? - onset.1;
        let rise_s = (peak.at - onset.0 as f64) / rate_hz;
        let delay = (self.smooth[0].width() - 1) as f64;
        let peak_s = self.blocks.time_of(peak.at - delay);
        (amplitude_us >= self.p.amplitude_us).then_some(Response { peak_s, rise_s, amplitude_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::{Chance, column, text};

    fn found(values: &[f64], rate_hz: f64) -> Vec<Response> {
        let mut responses = Responses::new(rate_hz, ResponseParameters::STANDARD).unwrap();
        values.iter().filter_map(|value| responses.push(*value)).collect()
    }

    /// Responses of the given amplitudes every ten seconds over drift and noise: they rise within 2 s or so and fall with a time constant of
    /// 3 s, as the sum of two exponentials (Lim et al., Int J Psychophysiol 1997;25:97).
    fn generated(rate_hz: f64, amplitudes: &[f64], seed: u64) -> Vec<f64> {
        let mut chance = Chance(seed);
        // The difference of the exponentials reaches 0.4717 of its scale.
        let shape = |s: f64| if s < 0.0 { 0.0 } else { ((-s / 3.0).exp() - (-s / 0.75).exp()) / 0.4725 };
        let count = ((amplitudes.len() as f64 + 1.0) * 10.0 * rate_hz) as usize;
        (0..count)
            .map(|n| {
                let at = n as f64 / rate_hz;
                let responses: f64 =
                    amplitudes.iter().enumerate().map(|(n, a)| a * shape(at - 5.0 - 10.0 * n as f64)).sum();
                6.0 + 0.4 * (at / 30.0).sin() + responses + 0.004 * chance.normal()
            })
            .collect()
    }

    #[test]
    fn generated_responses_are_counted_with_their_amplitudes() {
        let amplitudes = [0.3, 0.15, 0.6, 1.0, 0.2, 0.02, 0.4, 0.01, 0.8];
        for rate_hz in [4.0, 32.0, 1_000.0] {
            let responses = found(&generated(rate_hz, &amplitudes, 17), rate_hz);
            let counted: Vec<f64> = amplitudes.iter().copied().filter(|amplitude| *amplitude >= 0.1).collect();
            assert_eq!(responses.len(), counted.len(), "seed 17, {rate_hz} Hz: {responses:.2?}");
            for (response, amplitude) in responses.iter().zip(counted) {
                let close = 0.1 * amplitude + 0.08;
                assert!((response.amplitude_us - amplitude).abs() < close, "seed 17: {response:?} of {amplitude}");
                assert!(response.rise_s <= 5.001);
            }
        }
    }

    #[test]
    fn drift_alone_is_no_response() {
        let mut chance = Chance(18);
        let values: Vec<f64> =
            (0..4 * 600).map(|n| 6.0 + 2.0 * (f64::from(n) / 4.0 / 90.0).sin() + 0.004 * chance.normal()).collect();
        let responses = found(&values, 4.0);
        assert!(responses.is_empty(), "seed 18: {responses:?}");
    }

    #[test]
    fn responses_of_a_recording_are_few_and_apart() {
        let Some(text) = text("eda/biosppy_eda.txt") else { return };
        // A 12-bit converter of 3 V and 0.12 V/uS: the whole range is 25 uS (biosignalsplux EDA data sheet).
        let values: Vec<f64> = column(&text, 0, '\t').iter().map(|steps| steps / 4_096.0 * 25.0).collect();
        let responses = found(&values, 1_000.0);
        println!("eda of {} s: {} responses {responses:.2?}", values.len() / 1_000, responses.len());
        assert!((4..=14).contains(&responses.len()));
    }
}
