//! Readings along time: samples in unbroken stretches, and what was said at one moment, ready to be written as a recording.

use crate::{Decimal, Reading, Samples, Value, Waveform};
use record::TimeMs;

/// The number that stands for «no valid sample».
pub const NO_SAMPLE: i32 = i32::MIN;
/// Milliseconds by which a frame may begin beside the end of the one before and still follow it: times are rounded to one.
const JITTER_MS: f64 = 2.0;
/// Milliseconds that a stretch may run beside the clock, where the true rate is a little off the stated one, before it is broken off.
const DRIFT_MS: f64 = 500.0;

/// What a device sent, along time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracks {
    /// Signals with samples, in the order in which they first came.
    pub tracks: Vec<Track>,
    /// Numbers, codes, absences and missing frames, in the order of their times.
    pub notes: Vec<Note>,
}

/// The samples of one signal. A signal that changes its rate, unit or scale goes on in another track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The signal's name.
    pub name: String,
    /// UCUM unit of the physical value.
    pub unit: String,
    /// Samples per second.
    pub rate_hz: Decimal,
    /// Physical value of sample 0.
    pub origin: Decimal,
    /// Physical value of one step.
    pub scale: Decimal,
    /// The samples. INVARIANT: stretches ascend and do not overlap; none is empty.
    pub stretches: Vec<Stretch>,
}

/// Samples without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The first sample's time, by the device's clock.
    pub start: TimeMs,
    /// The samples; [`NO_SAMPLE`] where there is no valid one.
    pub samples: Vec<i32>,
}

/// Something that was said at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: TimeMs,
    /// What, such as `spo2 97.5 %`.
    pub text: String,
}

impl Track {
    /// How long `samples` samples last, in milliseconds.
    pub(crate) fn span_ms(&self, samples: usize) -> f64 {
        samples as f64 * 1_000.0 / self.rate_hz.to_f64()
    }

    /// When a stretch ends, in milliseconds.
    pub(crate) fn end_ms(&self, stretch: &Stretch) -> f64 {
        stretch.start.0 as f64 + self.span_ms(stretch.samples.len())
    }

    /// The least and the greatest valid sample; nothing where there is none.
    pub(crate) fn range(&self) -> Option<(i32, i32)> {
        let mut valid = self.stretches.iter().flat_map(|s| &s.samples).copied().filter(|&s| s != NO_SAMPLE);
        let first = valid.next()?;
        Some(valid.fold((first, first), |(low, high), s| (low.min(s), high.max(s))))
    }

    fn continues(&self, name: &str, wave: &Waveform) -> bool {
        let same = (self.rate_hz, self.origin, self.scale) == (wave.rate_hz, wave.origin, wave.scale);
        self.name == name && self.unit == wave.unit && same
    }
}

impl Tracks {
    /// The tracks of one device's readings, in the order of their counters.
    pub fn of<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Self {
        let mut tracks = Self::default();
        // Where the track's last frame should end, by its own time.
        let mut ends_ms: Vec<f64> = Vec::new();
        for reading in readings {
            if let Some(gap) = reading.gap {
                let text = match gap.first == gap.last {
                    true => format!("frame {} is missing", gap.first),
                    false => format!("frames {}-{} are missing", gap.first, gap.last),
                };
                tracks.notes.push(Note { at: reading.measured_at, text });
            }
            for signal in &reading.signals {
                let at = TimeMs(reading.measured_at.0.saturating_add_signed(signal.offset_ms));
                let text = match &signal.value {
                    Value::Waveform(wave) => {
                        tracks.take(&mut ends_ms, &signal.name, at, wave, reading.gap.is_none());
                        continue;
                    }
                    Value::Number { unit, value } => format!("{} {value} {unit}", signal.name),
                    Value::Code(code) => format!("{} {code}", signal.name),
                    Value::Absent(why) => format!("{} absent: {}", signal.name, why.code()),
                };
                tracks.notes.push(Note { at, text });
            }
        }
        tracks.notes.sort_by_key(|note| note.at);
        tracks
    }

    fn take(&mut self, ends_ms: &mut Vec<f64>, name: &str, at: TimeMs, wave: &Waveform, linked: bool) {
        let found = self.tracks.iter().position(|track| track.continues(name, wave));
        let index = found.unwrap_or_else(|| {
            let (name, unit) = (name.to_owned(), wave.unit.clone());
            let (rate_hz, origin, scale) = (wave.rate_hz, wave.origin, wave.scale);
            self.tracks.push(Track { name, unit, rate_hz, origin, scale, stretches: Vec::new() });
            ends_ms.push(0.0);
            self.tracks.len() - 1
        });
        let (Some(track), Some(end_ms)) = (self.tracks.get_mut(index), ends_ms.get_mut(index)) else { return };
        let samples: Vec<i32> = match &wave.samples {
            Samples::I16(samples) => {
                samples.iter().map(|&s| if s == i16::MIN { NO_SAMPLE } else { i32::from(s) }).collect()
            }
            Samples::I32(samples) => samples.clone(),
        };
        let start_ms = at.0 as f64;
        let last_end_ms = track.stretches.last().map(|last| track.end_ms(last));
        let jitter_ms = JITTER_MS.max(track.span_ms(1));
        let follows = linked
            && (start_ms - *end_ms).abs() <= jitter_ms
            && last_end_ms.is_some_and(|end| (start_ms - end).abs() <= DRIFT_MS);
        *end_ms = start_ms + track.span_ms(samples.len());
        match track.stretches.last_mut().filter(|_| follows) {
            Some(last) => last.samples.extend(samples),
            None => {
                // A clock that went back would have two samples at one time: they stand one after the other.
                let start = last_end_ms.map_or(at, |end| at.max(TimeMs(end.ceil() as u64)));
                if start > at {
                    let text = format!("the device's clock went back by {} ms: {name}", start.0 - at.0);
                    self.notes.push(Note { at: start, text });
                }
                track.stretches.push(Stretch { start, samples });
            }
        }
    }

    /// The first moment; nothing where there is neither sample nor note.
    pub fn start(&self) -> Option<TimeMs> {
        let samples = self.tracks.iter().filter_map(|track| Some(track.stretches.first()?.start));
        samples.chain(self.notes.first().map(|note| note.at)).min()
    }
}

/// `value` as a fraction of whole numbers, exact to a thousandth of a millionth, its second number at most `below`.
///
/// By continued fractions; nothing where there is none.
pub(crate) fn fraction(value: f64, below: u64) -> Option<(u64, u64)> {
    let (mut before, mut now) = ((0u64, 1u64), (1u64, 0u64));
    let mut rest = value;
    for _ in 0..64 {
        let whole = rest.floor();
        if !(0.0..1e15).contains(&whole) {
            return None;
        }
        let next = |now: u64, before: u64| (whole as u64).checked_mul(now)?.checked_add(before);
        let (upper, lower) = (next(now.0, before.0)?, next(now.1, before.1)?);
        if lower > below {
            return None;
        }
        if (upper as f64 / lower as f64 - value).abs() <= value.abs() * 1e-9 {
            return (upper > 0).then_some((upper, lower));
        }
        (before, now) = (now, (upper, lower));
        rest = 1.0 / (rest - whole);
    }
    None
}

/// The greatest whole number that divides both.
pub(crate) fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gap, Limits, Signal};
    use expect_test::{Expect, expect};
    use record::{Digest, Id16};

    /// Readings of 100 Hz, one a line: time, first sample and count, `!` after a gap.
    fn check(lines: &str, expect: Expect) {
        let readings: Vec<Reading> = lines
            .lines()
            .map(|line| {
                let numbers: Vec<u64> = line.trim_end_matches('!').split(' ').map(|n| n.parse().unwrap()).collect();
                let wave = Waveform {
                    unit: "mV".into(),
                    rate_hz: Decimal::whole(100),
                    origin: Decimal::ZERO,
                    scale: Decimal::ONE,
                    limits: Limits::NONE,
                    samples: Samples::I16((numbers[1]..numbers[1] + numbers[2]).map(|s| s as i16).collect()),
                };
                let signal = Signal { name: "ecg-ii".into(), offset_ms: 0, value: Value::Waveform(wave) };
                Reading {
                    device: "urn:dev:ops:32473-ox-1".parse().unwrap(),
                    patient: "Patient/1".into(),
                    binding: Id16([1; 16]),
                    counter: 3,
                    gap: line.ends_with('!').then_some(Gap { first: 1, last: 2 }),
                    measured_at: TimeMs(numbers[0]),
                    received_at: TimeMs(0),
                    clock_offset_ms: 0,
                    clock_step_back_ms: 0,
                    digest: Digest([0; 32]),
                    previous: Digest([0; 32]),
                    signature: [0; 64],
                    signals: vec![signal],
                    doubts: vec![],
                }
            })
            .collect();
        let made = Tracks::of(&readings);
        let stretches = made
            .tracks
            .iter()
            .flat_map(|track| &track.stretches)
            .map(|s| format!("{}: {}..={}\n", s.start.0, s.samples[0], s.samples[s.samples.len() - 1]));
        let notes = made.notes.iter().map(|note| format!("{}: {}\n", note.at.0, note.text));
        expect.assert_eq(&stretches.chain(notes).collect::<String>());
    }

    #[test]
    fn frames_that_follow_each_other_are_one_stretch() {
        check("1000 0 100\n2001 100 100\n3000 200 100", expect![["1000: 0..=299\n"]]);
    }

    #[test]
    fn a_gap_or_a_break_begins_another_stretch() {
        check(
            "1000 0 100\n4000 300 100!\n5000 400 100\n6500 500 10",
            expect![["1000: 0..=99\n4000: 300..=499\n6500: 500..=509\n4000: frames 1-2 are missing\n"]],
        );
    }

    #[test]
    fn a_clock_that_went_back_lays_no_sample_over_another() {
        check(
            "1000 0 100\n1500 100 100",
            expect![["1000: 0..=99\n2000: 100..=199\n2000: the device's clock went back by 500 ms: ecg-ii\n"]],
        );
    }

    #[test]
    fn rates_are_fractions_of_whole_numbers() {
        for (value, expected) in
            [(360.0, (360, 1)), (198.6, (993, 5)), (0.0166666666667, (1, 60)), (62.4725, (24_989, 400)), (0.25, (1, 4))]
        {
            assert_eq!(fraction(value, 1_000), Some(expected), "{value}");
        }
        assert_eq!(fraction(std::f64::consts::PI, 1_000), None);
        assert_eq!([f64::NAN, 0.0, -1.0, 1e-18, f64::INFINITY].map(|value| fraction(value, 1_000)), [None; 5]);
    }
}

#[cfg(test)]
pub(crate) mod any {
    //! Tracks that no readings make, for writers to try.

    use super::*;
    use proptest::prelude::*;

    /// A time that is usual, or at an end.
    fn time() -> impl Strategy<Value = TimeMs> {
        prop_oneof![
            4 => (0u64..100_000).prop_map(|ms| TimeMs(1_795_255_200_000 + ms)),
            1 => prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(TimeMs),
        ]
    }

    fn decimal() -> impl Strategy<Value = Decimal> {
        prop_oneof![
            4 => prop_oneof![Just(360), Just(1), Just(125), Just(0), Just(-5)].prop_map(Decimal::whole),
            1 => (-999_999_999_999_999i64..=999_999_999_999_999, -18i8..=9).prop_map(|(m, e)| Decimal::new(m, e).unwrap_or(Decimal::ONE)),
        ]
    }

    fn track() -> impl Strategy<Value = Track> {
        let samples = proptest::collection::vec(prop_oneof![9 => -50i32..50, 1 => any::<i32>()], 0..50);
        let stretch = (time(), samples).prop_map(|(start, samples)| Stretch { start, samples });
        let stretches = proptest::collection::vec(stretch, 0..4);
        (".{0,30}", ".{0,9}", decimal(), decimal(), decimal(), stretches).prop_map(
            |(name, unit, rate_hz, origin, scale, stretches)| Track { name, unit, rate_hz, origin, scale, stretches },
        )
    }

    pub(crate) fn tracks() -> impl Strategy<Value = Tracks> {
        let note = (time(), ".{0,400}").prop_map(|(at, text)| Note { at, text });
        let (tracks, notes) = (proptest::collection::vec(track(), 0..4), proptest::collection::vec(note, 0..6));
        (tracks, notes).prop_map(|(tracks, notes)| Tracks { tracks, notes })
    }
}
