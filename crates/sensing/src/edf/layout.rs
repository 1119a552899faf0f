//! Where samples lie: records of one length, in segments between which nothing was recorded.

use super::{NotWritten, SAMPLES_MAX};
use crate::track::{NO_SAMPLE, Track, common_divisor, fraction};
use record::TimeMs;

/// The longest record, in seconds: a day.
const RECORD_S_MAX: u64 = 86_400;
/// Rates are fractions with at most this below.
const SECONDS_MAX: u64 = 3_600;
/// Milliseconds by which times that are the same may differ, since they are rounded to one.
const SAME_MS: f64 = 2.0;

/// Records, and the samples of each signal in them.
pub(super) struct Layout {
    /// Seconds of a record.
    pub(super) record_s: u64,
    /// When a segment begins, in milliseconds, and how many records it has; one where nothing is missing.
    pub(super) segments: Vec<(f64, usize)>,
    /// The samples of each signal.
    pub(super) signals: Vec<Laid>,
}

/// The samples of one signal, segments one after the other.
pub(super) struct Laid {
    pub(super) per_record: usize,
    /// Where each stretch begins.
    pub(super) firsts: Vec<usize>,
    samples: Vec<i32>,
}

impl Laid {
    /// The samples of one record; nothing where there is none.
    pub(super) fn of_record(&self, record: usize) -> impl Iterator<Item = Option<i32>> {
        let from = record * self.per_record;
        let some = self.samples.get(from..from + self.per_record).unwrap_or_default();
        some.iter().map(|&sample| (sample != NO_SAMPLE).then_some(sample))
    }
}

impl Layout {
    pub(super) fn of(tracks: &[Track]) -> Result<Self, NotWritten> {
        let rates: Option<Vec<(u64, u64)>> =
            tracks.iter().map(|track| fraction(track.rate_hz.to_f64(), SECONDS_MAX)).collect();
        let rates = rates.ok_or(NotWritten::Rates)?;
        let record_s = rates.iter().try_fold(1u64, |all, rate| all.checked_mul(rate.1 / common_divisor(all, rate.1)));
        let record_s = record_s.filter(|&s| s <= RECORD_S_MAX).ok_or(NotWritten::Rates)?;
        let too_large =
            || NotWritten::TooLarge("a file has at most 2^26 samples, those that fill its records among them");
        let per_record: Option<Vec<usize>> =
            rates.iter().map(|rate| usize::try_from(rate.0.checked_mul(record_s / rate.1)?).ok()).collect();
        let per_record = per_record.ok_or_else(too_large)?;
        let mut segments = segments(tracks, &per_record, record_s);
        let bounded = |records: usize| {
            let total = per_record.iter().sum::<usize>().checked_mul(records);
            if total.is_some_and(|total| total <= SAMPLES_MAX) { Ok(records) } else { Err(too_large()) }
        };
        let records = bounded(segments.iter().map(|segment| segment.1).sum())?;
        let laid = tracks.iter().zip(&per_record);
        let mut signals: Vec<Laid> =
            laid.map(|(track, &per_record)| lay(track, &segments, per_record, per_record * records)).collect();
        // Stretches that had to stand after the one before may need a record more.
        let needed = signals.iter().map(|laid| laid.samples.len().div_ceil(laid.per_record)).max().unwrap_or(0);
        let needed = bounded(needed)?;
        if let Some((_, last)) = segments.last_mut() {
            *last += needed - records;
        }
        for laid in &mut signals {
            laid.samples.resize(laid.per_record * needed, NO_SAMPLE);
        }
        Ok(Self { record_s, segments, signals })
    }

    /// When each record begins, in milliseconds. Where there is no signal, one record at `start` holds the notes.
    pub(super) fn records(&self, start: TimeMs) -> impl Iterator<Item = f64> {
        let alone = self.segments.is_empty().then_some((start.0 as f64, 1));
        let record_ms = self.record_s as f64 * 1_000.0;
        let segments = self.segments.iter().copied().chain(alone);
        segments.flat_map(move |(start, records)| (0..records).map(move |record| start + record as f64 * record_ms))
    }
}

/// Where any signal has samples, in whole records: what would begin before the record before it ends goes on with it.
fn segments(tracks: &[Track], per_record: &[usize], record_s: u64) -> Vec<(f64, usize)> {
    let record_ms = record_s as f64 * 1_000.0;
    let mut stretches: Vec<_> = tracks
        .iter()
        .zip(per_record)
        .flat_map(|(track, &per_record)| track.stretches.iter().map(move |stretch| (track, per_record, stretch)))
        .collect();
    stretches.sort_by_key(|(_, _, stretch)| stretch.start);
    let mut segments: Vec<(f64, usize)> = Vec::new();
    for (track, per_record, stretch) in stretches {
        let start = stretch.start.0 as f64;
        let records = |from| (into(track, start, from) + stretch.samples.len()).div_ceil(per_record).max(1);
        match segments.last_mut() {
            Some((from, held)) if start <= *from + *held as f64 * record_ms + SAME_MS => {
                *held = (*held).max(records(*from));
            }
            _ => segments.push((start, records(start))),
        }
    }
    segments
}

/// The sample of a segment that is nearest to a time.
fn into(track: &Track, at_ms: f64, from_ms: f64) -> usize {
    ((at_ms - from_ms).max(0.0) * track.rate_hz.to_f64() / 1_000.0).round() as usize
}

/// Each stretch at the sample nearest to its time, and after the one before; at least `length` samples.
fn lay(track: &Track, segments: &[(f64, usize)], per_record: usize, length: usize) -> Laid {
    let mut samples = vec![NO_SAMPLE; length];
    let mut firsts = Vec::with_capacity(track.stretches.len());
    let mut free = 0;
    for stretch in &track.stretches {
        let start = stretch.start.0 as f64;
        let mut before = 0;
        for (at, (from, records)) in segments.iter().enumerate() {
            if segments.get(at + 1).is_none_or(|next| start < next.0) {
                let first = (before * per_record + into(track, start, *from)).max(free);
                free = first + stretch.samples.len();
                if samples.len() < free {
                    samples.resize(free, NO_SAMPLE);
                }
                samples[first..free].copy_from_slice(&stretch.samples);
                firsts.push(first);
                break;
            }
            before += records;
        }
    }
    Laid { per_record, firsts, samples }
}
