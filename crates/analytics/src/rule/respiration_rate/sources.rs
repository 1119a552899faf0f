//! Breaths and beats of three waveforms, and the rate of respiration that each shows in a window.

use super::super::line::{Joint, Line};
use crate::{
    breath::{BreathParameters, Breaths},
    input::Input,
    modulation::{Modulated, ModulationParameters, modulated_rate},
    pulse::{Pulse, PulseParameters, Pulses},
    qrs::{Qrs, QrsParameters},
    smooth::{Past, keep_latest, median, vertex},
};
use record::TimeMs;
use std::collections::VecDeque;

/// The most breaths or beats remembered: two windows and more at 300 /min.
const EVENTS_MAX: usize = 512;
/// A breath that lasts less or more than these shares of the usual one is not counted as good. Source: Charlton et al. 2021.
const USUAL_SHARES: (f64, f64) = (0.5, 1.5);
/// The least share of a window that its breaths cover. Source: Charlton et al. 2021, 60 %.
const COVERED_MIN: f64 = 0.6;
/// The lead of the ECG that is preferred.
const LEAD: &str = "ecg-ii";
/// How much of the ECG is remembered, in seconds: beats found by searching back are measured too.
const LEAD_S: f64 = 4.0;
/// Where a complex peaks, seconds around the detector's place.
const APEX_S: f64 = 0.04;
/// Where the level before a complex is taken, seconds before its peak: the PQ segment.
const LEVEL_S: (f64, f64) = (0.104, 0.064);
/// The longest interval between two beats, in seconds.
const INTERVAL_S_MAX: f64 = 2.0;

/// The sources' parameters by name.
pub(super) fn named() -> impl Iterator<Item = (&'static str, f64)> {
    [
        ("usual_share_low", USUAL_SHARES.0),
        ("usual_share_high", USUAL_SHARES.1),
        ("covered_min", COVERED_MIN),
        ("apex_s", APEX_S),
        ("level_from_s", LEVEL_S.0),
        ("level_until_s", LEVEL_S.1),
        ("interval_s_max", INTERVAL_S_MAX),
    ]
    .into_iter()
}

/// A rate with its quality, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rated {
    pub(super) rate_per_min: f64,
    pub(super) quality: f64,
}

/// Time in seconds, for events that are compared with each other.
fn seconds(at: TimeMs) -> f64 {
    at.0 as f64 / 1_000.0
}

/// Chest impedance.
#[derive(Debug, Default)]
pub(super) struct Impedance {
    running: Option<(Line, Breaths)>,
    /// When each inspiration ended, in seconds.
    breaths_s: VecDeque<f64>,
}

impl Impedance {
    /// Takes a stretch; gives the time after it.
    pub(super) fn take(&mut self, input: &Input<'_>, rate_hz: f64, values: &[f64]) -> Option<TimeMs> {
        let joint = self.running.as_mut().map_or(Joint::Anew, |(line, _)| line.join(input, rate_hz));
        let missing = match joint {
            Joint::After(missing) => missing,
            Joint::Anew => {
                let breaths = Breaths::new(rate_hz, BreathParameters::STANDARD);
                self.running = breaths.map(|breaths| (Line::new(input, rate_hz), breaths));
                0
            }
        };
        let (line, breaths) = self.running.as_mut()?;
        for value in std::iter::repeat_n(f64::NAN, missing as usize).chain(values.iter().copied()) {
            if let Some(breath) = breaths.push(value) {
                keep_latest(&mut self.breaths_s, seconds(line.time_of(breath.at_s)), EVENTS_MAX);
            }
        }
        line.add(values.len());
        Some(line.until())
    }

    pub(super) fn rate(&mut self, from: TimeMs, until: TimeMs) -> Option<Rated> {
        let within: Vec<f64> =
            self.breaths_s.iter().copied().filter(|at| (seconds(from)..seconds(until)).contains(at)).collect();
        self.breaths_s.retain(|at| *at >= seconds(until));
        let (first, last) = (within.first()?, within.last()?);
        let durations: Vec<f64> = within.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let usual = median(durations.iter().copied())?;
        let normal = |duration: &&f64| (USUAL_SHARES.0..=USUAL_SHARES.1).contains(&(**duration / usual));
        // Before the first breath and after the last, one breath's time is not seen whole.
        let seen_s = (seconds(until) - seconds(from) - usual).max(usual);
        let covered = durations.iter().filter(normal).sum::<f64>() / seen_s;
        let good = durations.iter().filter(normal).count() as f64 / durations.len() as f64;
        Some(Rated {
            rate_per_min: 60.0 * durations.len() as f64 / (last - first),
            quality: if covered >= COVERED_MIN { good } else { 0.0 },
        })
    }
}

/// The plethysmogram.
#[derive(Debug, Default)]
pub(super) struct Pleth {
    running: Option<(Line, Box<Pulses>)>,
    /// Pulses with their times in seconds since the epoch.
    pulses: VecDeque<Pulse>,
}

impl Pleth {
    /// Takes a stretch; gives the time after it.
    pub(super) fn take(&mut self, input: &Input<'_>, rate_hz: f64, values: &[f64]) -> Option<TimeMs> {
        let joint = self.running.as_mut().map_or(Joint::Anew, |(line, _)| line.join(input, rate_hz));
        let missing = match joint {
            Joint::After(missing) => missing,
            Joint::Anew => {
                let pulses = Pulses::new(rate_hz, PulseParameters::STANDARD);
                self.running = pulses.map(|pulses| (Line::new(input, rate_hz), Box::new(pulses)));
                0
            }
        };
        let (line, pulses) = self.running.as_mut()?;
        for value in std::iter::repeat_n(f64::NAN, missing as usize).chain(values.iter().copied()) {
            if let Some(pulse) = pulses.push(value) {
                let at_s = seconds(line.time_of(pulse.at_s));
                keep_latest(&mut self.pulses, Pulse { at_s, ..pulse }, EVENTS_MAX);
            }
        }
        line.add(values.len());
        Some(line.until())
    }

    fn within(&self, from: TimeMs, until: TimeMs) -> impl Iterator<Item = &Pulse> {
        self.pulses.iter().filter(move |pulse| (seconds(from)..seconds(until)).contains(&pulse.at_s))
    }

    /// The pulse rate, /min.
    pub(super) fn rate_per_min(&self, from: TimeMs, until: TimeMs) -> Option<f64> {
        crate::pulse::pulse_rate(self.within(from, until)).map(|(rate, _)| rate)
    }

    pub(super) fn rate(&mut self, from: TimeMs, until: TimeMs) -> Option<Rated> {
        let beats: Vec<Modulated> = self
            .within(from, until)
            .filter(|pulse| pulse.good)
            .map(|pulse| Modulated {
                at_s: pulse.at_s,
                interval_s: pulse.interval_s,
                level: pulse.peak,
                amplitude: pulse.peak - pulse.foot,
            })
            .collect();
        self.pulses.retain(|pulse| pulse.at_s >= seconds(until));
        rated(&beats, from, until)
    }
}

fn rated(beats: &[Modulated], from: TimeMs, until: TimeMs) -> Option<Rated> {
    let rate = modulated_rate(beats, (seconds(from), seconds(until)), &ModulationParameters::STANDARD)?;
    Some(Rated { rate_per_min: rate.rate_per_min, quality: rate.quality })
}

/// One lead of the ECG.
#[derive(Debug, Default)]
pub(super) struct Ecg {
    running: Option<Lead>,
    beats: VecDeque<Modulated>,
}

#[derive(Debug)]
struct Lead {
    line: Line,
    qrs: Box<Qrs>,
    past: Past,
    last: f64,
}

impl Ecg {
    /// Takes a stretch; gives the time after it, or nothing for a lead that is not followed.
    pub(super) fn take(&mut self, input: &Input<'_>, rate_hz: f64, values: &[f64]) -> Option<TimeMs> {
        let other = self.running.as_ref().is_some_and(|lead| lead.line.signal != input.signal);
        if other && input.signal != LEAD {
            return None;
        }
        let joint = self.running.as_mut().map_or(Joint::Anew, |lead| lead.line.join(input, rate_hz));
        let missing = match joint {
            Joint::After(missing) => missing,
            Joint::Anew => {
                let qrs = Qrs::new(rate_hz, QrsParameters::STANDARD);
                self.running = qrs.map(|qrs| Lead {
                    line: Line::new(input, rate_hz),
                    qrs: Box::new(qrs),
                    past: Past::new((LEAD_S * rate_hz) as usize),
                    last: 0.0,
                });
                0
            }
        };
        let lead = self.running.as_mut()?;
        for value in std::iter::repeat_n(f64::NAN, missing as usize).chain(values.iter().copied()) {
            lead.last = if value.is_finite() { value } else { lead.last };
            lead.past.push(lead.last);
            if let Some(beat) = lead.qrs.push(value)
                && let Some(beat) = lead.measured(beat.sample)
            {
                keep_latest(&mut self.beats, beat, EVENTS_MAX);
            }
        }
        lead.line.add(values.len());
        Some(lead.line.until())
    }

    /// The beats of a window in their order; those found by searching back came late.
    fn within(&self, from: TimeMs, until: TimeMs) -> Vec<Modulated> {
        let range = seconds(from)..seconds(until);
        let mut beats: Vec<Modulated> = self.beats.iter().copied().filter(|beat| range.contains(&beat.at_s)).collect();
        beats.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        beats
    }

    /// The usual heart rate, /min.
    pub(super) fn heart_per_min(&self, from: TimeMs, until: TimeMs) -> Option<f64> {
        let beats = self.within(from, until);
        median(beats.windows(2).map(|pair| pair[1].at_s - pair[0].at_s)).map(|interval| 60.0 / interval)
    }

    pub(super) fn rate(&mut self, from: TimeMs, until: TimeMs) -> Option<Rated> {
        let mut beats = self.within(from, until);
        self.beats.retain(|beat| beat.at_s >= seconds(until));
        let mut before: Option<f64> = None;
        for beat in &mut beats {
            let interval = before.map(|before| beat.at_s - before);
            beat.interval_s = interval.filter(|interval| *interval <= INTERVAL_S_MAX);
            before = Some(beat.at_s);
        }
        rated(&beats, from, until)
    }
}

impl Lead {
    /// Height and level of the complex at `sample`, and its peak between samples: at a low rate the sample alone moves intervals more than
    /// respiration does.
    fn measured(&self, sample: u64) -> Option<Modulated> {
        let samples = |seconds: f64| (seconds * self.line.rate_hz).round() as u64;
        let levels = sample.checked_sub(samples(LEVEL_S.0))?..sample.checked_sub(samples(LEVEL_S.1))?.max(1);
        let count = levels.clone().count() as f64;
        let level = levels.map(|at| self.past.get(at)).sum::<Option<f64>>()? / count;
        let reach = samples(APEX_S);
        let height = |at: u64| self.past.get(at).map(|value| (value - level).abs());
        let mut apex = (sample, height(sample)?);
        for at in sample.saturating_sub(reach)..=sample + reach {
            if let Some(here) = height(at)
                && here > apex.1
            {
                apex = (at, here);
            }
        }
        let (at, amplitude) = apex;
        let around = (at.checked_sub(1).and_then(height), height(at + 1));
        let offset = if let (Some(before), Some(after)) = around { vertex(before, amplitude, after) } else { 0.0 };
        let at_s = (at as f64 + offset) / self.line.rate_hz;
        // Finer than a millisecond: the interval's modulation is a few of them.
        let began_s = seconds(self.line.time_of(0.0));
        (count > 0.0).then_some(Modulated { at_s: began_s + at_s, interval_s: None, level, amplitude })
    }
}
