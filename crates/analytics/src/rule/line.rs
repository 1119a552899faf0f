//! One waveform as stretches that follow each other: where its samples stand in time, and what is missing between them.

use crate::input::Input;
use record::{Digest, TimeMs};
use std::collections::VecDeque;

/// A stretch that begins within this of the end of the one before follows it, in milliseconds; or within one sample.
const SEAM_MS_MAX: f64 = 20.0;
/// A longer hole starts a waveform anew; a shorter one is filled with samples that are no numbers, in milliseconds.
const HOLE_MS_MAX: f64 = 2_000.0;

/// What decides how stretches join, by name.
pub(crate) fn named() -> impl Iterator<Item = (&'static str, f64)> {
    [("line.seam_ms_max", SEAM_MS_MAX), ("line.hole_ms_max", HOLE_MS_MAX)].into_iter()
}

/// Samples of one waveform, without a long hole.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) signal: String,
    pub(crate) rate_hz: f64,
    /// Time of the first sample, moved along with the sender's clock.
    began_ms: f64,
    samples: u64,
}

/// How a stretch goes on from a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    /// After so many samples that are missing.
    After(u64),
    /// Not at all.
    Anew,
}

impl Line {
    pub(crate) fn new(input: &Input<'_>, rate_hz: f64) -> Self {
        Self { signal: input.signal.to_owned(), rate_hz, began_ms: input.at.0 as f64, samples: 0 }
    }

    /// The time of `at_s` seconds after the first sample.
    pub(crate) fn time_of(&self, at_s: f64) -> TimeMs {
        TimeMs((self.began_ms + at_s * 1_000.0).max(0.0).round() as u64)
    }

    /// The time after the last sample.
    pub(crate) fn until(&self) -> TimeMs {
        self.time_of(self.samples as f64 / self.rate_hz)
    }

    /// How `input` joins on; the line then stands where `input` begins.
    pub(crate) fn join(&mut self, input: &Input<'_>, rate_hz: f64) -> Joint {
        if self.rate_hz != rate_hz || self.signal != input.signal {
            return Joint::Anew;
        }
        let ends_ms = self.began_ms + self.samples as f64 * 1_000.0 / rate_hz;
        let hole_ms = input.at.0 as f64 - ends_ms;
        let seam_ms = SEAM_MS_MAX.max(1_000.0 / rate_hz);
        if hole_ms < -seam_ms || hole_ms > HOLE_MS_MAX {
            return Joint::Anew;
        }
        let missing = if hole_ms <= seam_ms { 0.0 } else { (hole_ms * rate_hz / 1_000.0).round() };
        self.samples += missing as u64;
        // Clocks of senders drift: what is left of the hole moves the beginning.
        self.began_ms += hole_ms - missing * 1_000.0 / rate_hz;
        Joint::After(missing as u64)
    }

    /// So many samples more.
    pub(crate) fn add(&mut self, count: usize) {
        self.samples += count as u64;
    }
}

/// Frames by the time that they cover, for citing those of a window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    frames: VecDeque<(TimeMs, TimeMs, Digest)>,
}

/// The most frames remembered: a minute and more at ten frames a second.
const FRAMES_MAX: usize = 1_200;

impl Frames {
    /// Remembers a frame that covers `[from, until)`.
    pub(crate) fn add(&mut self, from: TimeMs, until: TimeMs, frame: Digest) {
        crate::smooth::keep_latest(&mut self.frames, (from, until, frame), FRAMES_MAX);
    }

    /// The frames that cover a part of `[from, until)`, each once.
    pub(crate) fn within(&self, from: TimeMs, until: TimeMs) -> Vec<Digest> {
        let mut cited = crate::finding::Cited::default();
        for (begins, ends, frame) in &self.frames {
            if *begins < until && (*ends > from || *begins >= from) {
                cited.add(*frame);
            }
        }
        cited.take()
    }

    /// Forgets what ends before `from`.
    pub(crate) fn forget(&mut self, from: TimeMs) {
        self.frames.retain(|(begins, ends, _)| *ends > from || *begins >= from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Measured;
    use record::sha256;

    fn input(at_ms: u64) -> Input<'static> {
        Input { frame: sha256(&[]), signal: "pleth", at: TimeMs(at_ms), value: Measured::Absent }
    }

    #[test]
    fn a_line_follows_its_senders_clock_and_fills_short_holes() {
        let mut line = Line::new(&input(1_000), 100.0);
        line.add(100);
        assert_eq!((line.join(&input(2_003), 100.0), line.until()), (Joint::After(0), TimeMs(2_003)));
        line.add(100);
        // A second is missing.
        assert_eq!((line.join(&input(4_003), 100.0), line.until()), (Joint::After(100), TimeMs(4_003)));
        line.add(100);
        assert_eq!(line.join(&input(8_000), 100.0), Joint::Anew);
        assert_eq!(line.join(&input(4_000), 100.0), Joint::Anew);
        assert_eq!(line.join(&input(5_003), 50.0), Joint::Anew);
    }

    #[test]
    fn frames_of_a_window_are_cited_once() {
        let mut frames = Frames::default();
        for second in 0..10u64 {
            let (from, until) = (TimeMs(second * 1_000), TimeMs(second * 1_000 + 1_000));
            frames.add(from, until, sha256(&[&second.to_be_bytes()]));
            frames.add(from, until, sha256(&[&second.to_be_bytes()]));
        }
        assert_eq!(frames.within(TimeMs(2_500), TimeMs(5_000)).len(), 3);
        frames.forget(TimeMs(4_000));
        assert_eq!(frames.within(TimeMs(0), TimeMs(9_000)).len(), 5);
    }
}
