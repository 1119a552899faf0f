//! Tracks as one EDF+ file, or BDF+ where samples need more than 16 bits: continuous, or discontinuous with the gaps in it.
//!
//! Source: Kemp and Olivier, EDF+, Clin Neurophysiol 2003;114:1755, and edfplus.info. Samples are written as they are. The least number
//! of a signal's digital range stands for «no valid sample» and fills a record where a stretch ends in its middle; an annotation at
//! each stretch's beginning says which samples of the file, counted from 0, are its own. Numbers, codes and gaps are annotations with their digits. Physical ranges
//! have eight characters: where those are too few, the field of the transducer has the exact origin and scale.

mod annotation;
mod layout;

use crate::track::{Track, Tracks};
use annotation::{Said, texts};
use layout::Layout;
use record::TimeMs;
use std::fmt::Write as _;

/// The most signals in a file.
pub const SIGNALS_MAX: usize = 256;
/// The most samples in a file, all signals together: twelve leads at 500 Hz for three hours. They are in memory at once.
pub const SAMPLES_MAX: usize = 1 << 26;

/// Whom and what a file names. Nothing of it needs to be said.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// A code for the patient, such as a pseudonym. Never a name: files travel.
    pub patient: Option<&'a str>,
    /// The device, or whatever else made the recording.
    pub equipment: Option<&'a str>,
}

/// Why tracks are not written as EDF+.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// There is nothing to write.
    #[error("there is neither sample nor note")]
    Nothing,
    /// Samples need more than the 24 bits of BDF+.
    #[error("samples of `{0}` need more than 24 bits")]
    TooWide(String),
    /// More signals or samples than a file may have.
    #[error("{0}")]
    TooLarge(&'static str),
    /// No record's length holds whole samples of every signal.
    #[error("the rates of the signals have no common record")]
    Rates,
    /// The recording begins before 1985 or after 2084, which the date of EDF cannot say.
    #[error("the recording begins outside of 1985 to 2084")]
    Date,
}

/// Bytes of a sample: EDF or BDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Edf,
    Bdf,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Self::Edf => 2,
            Self::Bdf => 3,
        }
    }
    fn least(self) -> i32 {
        match self {
            Self::Edf => -32_768,
            Self::Bdf => -8_388_608,
        }
    }
    /// The narrowest in which all samples are, and the least number is not.
    fn of(tracks: &[Track]) -> Result<Self, NotWritten> {
        let mut width = Self::Edf;
        for (track, (low, high)) in tracks.iter().filter_map(|track| Some((track, track.range()?))) {
            let fits = |width: Self| low > width.least() && high < -width.least();
            if !fits(Self::Bdf) {
                return Err(NotWritten::TooWide(track.name.clone()));
            }
            if !fits(width) {
                width = Self::Bdf;
            }
        }
        Ok(width)
    }
}

/// Writes tracks as one file; its ending is `.edf`, or `.bdf` where its first byte is 255.
pub fn write(tracks: &Tracks, about: &About<'_>) -> Result<Vec<u8>, NotWritten> {
    let start = tracks.start().ok_or(NotWritten::Nothing)?;
    if tracks.tracks.len() >= SIGNALS_MAX {
        return Err(NotWritten::TooLarge("a file has at most 256 signals"));
    }
    let width = Width::of(&tracks.tracks)?;
    let layout = Layout::of(&tracks.tracks)?;
    // Onsets count from the second in which the recording begins.
    let begin = TimeMs(start.0 / 1_000 * 1_000);
    let starts: Vec<f64> = layout.records(start).map(|at_ms| (at_ms - begin.0 as f64) / 1_000.0).collect();
    let said = said(tracks, &layout, begin);
    let texts = texts(&starts, &said, width.bytes());
    let texts = texts.ok_or(NotWritten::TooLarge("the annotations of a file have at most 2^28 bytes"))?;
    let text_bytes = texts.first().map_or(0, Vec::len);

    let mut out = header(tracks, about, &layout, width, begin, texts.len(), text_bytes)?;
    let least: Vec<i32> = tracks.tracks.iter().map(|track| physical(track, width).digital.0).collect();
    for (record, text) in texts.iter().enumerate() {
        for (&least, samples) in least.iter().zip(&layout.signals) {
            for sample in samples.of_record(record) {
                let bytes = sample.unwrap_or(least).to_le_bytes();
                out.extend(&bytes[..width.bytes()]);
            }
        }
        out.extend(text);
    }
    Ok(out)
}

/// Everything that is an annotation: the notes, and where each stretch is.
fn said(tracks: &Tracks, layout: &Layout, begin: TimeMs) -> Vec<Said> {
    let onset_s = |at: TimeMs| (at.0 as f64 - begin.0 as f64) / 1_000.0;
    let notes =
        tracks.notes.iter().map(|note| Said { onset_s: onset_s(note.at), lasts_s: None, text: note.text.clone() });
    let stretches = tracks.tracks.iter().zip(&layout.signals).flat_map(|(track, laid)| {
        track.stretches.iter().zip(&laid.firsts).map(move |(stretch, first)| {
            let last = (first + stretch.samples.len()).saturating_sub(1);
            Said {
                onset_s: onset_s(stretch.start),
                lasts_s: Some(track.span_ms(stretch.samples.len()) / 1_000.0),
                text: format!("{}: samples {first}-{last}", track.name),
            }
        })
    });
    let mut all: Vec<Said> = stretches.chain(notes).collect();
    all.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
    all
}

fn header(
    tracks: &Tracks,
    about: &About<'_>,
    layout: &Layout,
    width: Width,
    begin: TimeMs,
    records: usize,
    text_bytes: usize,
) -> Result<Vec<u8>, NotWritten> {
    let signals = tracks.tracks.len() + 1;
    let instant = begin.to_instant();
    let date = Date::of(&instant).ok_or(NotWritten::Date)?;
    let mut out = Fields::default();
    match width {
        Width::Edf => out.put("0", 8),
        Width::Bdf => out.bytes.extend(b"\xffBIOSEMI"),
    }
    out.put(&format!("{} X X X", word(about.patient)), 80);
    out.put(&format!("Startdate {} X X {}", date.long, word(about.equipment)), 80);
    out.put(&date.short, 8);
    out.put(&date.time, 8);
    out.put(&((signals + 1) * 256).to_string(), 8);
    let (kind, unbroken) = (if width == Width::Edf { "EDF" } else { "BDF" }, layout.segments.len() <= 1);
    out.put(&format!("{kind}+{}", if unbroken { 'C' } else { 'D' }), 44);
    out.put(&records.to_string(), 8);
    out.put(&layout.record_s.to_string(), 8);
    out.put(&signals.to_string(), 4);

    let ranges: Vec<Physical> = tracks.tracks.iter().map(|track| physical(track, width)).collect();
    let all = |out: &mut Fields, of: &dyn Fn(usize, &Track) -> String, last: &str, length: usize| {
        for (at, track) in tracks.tracks.iter().enumerate() {
            out.put(&of(at, track), length);
        }
        out.put(last, length);
    };
    all(&mut out, &|_, track| label(&track.name), &format!("{kind} Annotations"), 16);
    all(&mut out, &|_, track| transducer(track), "", 80);
    all(&mut out, &|_, track| dimension(&track.unit), "", 8);
    all(&mut out, &|at, _| ranges[at].low.clone(), "-1", 8);
    all(&mut out, &|at, _| ranges[at].high.clone(), "1", 8);
    all(&mut out, &|at, _| ranges[at].digital.0.to_string(), &width.least().to_string(), 8);
    all(&mut out, &|at, _| ranges[at].digital.1.to_string(), &(-1 - width.least()).to_string(), 8);
    all(&mut out, &|_, _| String::new(), "", 80);
    let per_record = |at: usize, _: &Track| layout.signals[at].per_record.to_string();
    all(&mut out, &per_record, &(text_bytes / width.bytes()).to_string(), 8);
    all(&mut out, &|_, _| String::new(), "", 32);
    Ok(out.bytes)
}

/// Fields of the header: ASCII, filled up with spaces, cut where they are too long.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
}

impl Fields {
    fn put(&mut self, text: &str, length: usize) {
        let end = self.bytes.len() + length;
        let printable = |b: u8| if (0x20..0x7f).contains(&b) { b } else { b'?' };
        self.bytes.extend(text.bytes().map(printable).take(length));
        self.bytes.resize(end, b' ');
    }
}

/// A subfield, which has no spaces; `X` for what is not said.
fn word(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "X".to_owned(), |text| text.replace(char::is_whitespace, "_"))
}

struct Date {
    /// `21-NOV-2026`
    long: String,
    /// `21.11.26`
    short: String,
    /// `10.00.01`
    time: String,
}

impl Date {
    /// From `2026-11-21T10:00:01.000Z`; nothing outside the years that two digits stand for.
    fn of(instant: &str) -> Option<Self> {
        const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
        let (date, time) = instant.split_once('T')?;
        let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
        let (number, name) = (year.parse::<u32>().ok()?, MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?);
        let short = (1985..=2084).contains(&number).then(|| format!("{day}.{month}.{:02}", number % 100))?;
        Some(Self { long: format!("{day}-{name}-{year}"), short, time: time.get(..8)?.replace(':', ".") })
    }
}

/// EDF+'s standard label where the signal has one.
fn label(name: &str) -> String {
    match name {
        "resp-impedance" => "Resp impedance".to_owned(),
        "temp-body" | "temp-skin" | "temp-core" => format!("Temp {}", &name[5..]),
        _ => match name.strip_prefix("ecg-") {
            Some(lead) => {
                let lead = lead.to_ascii_uppercase();
                format!("ECG {}", lead.strip_prefix('A').map_or_else(|| lead.clone(), |rest| format!("a{rest}")))
            }
            None => name.to_owned(),
        },
    }
}

/// EDF's dimension for a UCUM unit.
fn dimension(unit: &str) -> String {
    match unit {
        "mm[Hg]" => "mmHg".to_owned(),
        "Cel" => "degC".to_owned(),
        "1" => String::new(),
        _ => unit.to_owned(),
    }
}

/// The exact origin and scale, for whom the physical range is too coarse.
fn transducer(track: &Track) -> String {
    let mut text = format!("{} = {}", track.name, track.origin);
    // Writing to a string cannot fail.
    _ = write!(text, " + sample * {} {}", track.scale, track.unit);
    text
}

struct Physical {
    digital: (i32, i32),
    low: String,
    high: String,
}

/// The digital range, and the physical one in eight characters: exact where a range is found that makes it so.
fn physical(track: &Track, width: Width) -> Physical {
    let (least, greatest) = track.range().unwrap_or((0, 0));
    let whole = (width.least(), -1 - width.least());
    let round = [8_000_000, 5_000_000, 2_000_000, 1_000_000, 500_000, 200_000, 100_000, 50_000, 32_000, 20_000, 10_000];
    let round = round.into_iter().filter(|&end| end < -width.least() && least > -end && greatest <= end);
    let exact = std::iter::once(whole).chain(round.map(|end| (-end, end))).find_map(|digital| {
        let text = |sample: i32| {
            let value = track.origin.plus_steps(sample, track.scale)?.to_string();
            let value = if value.contains('.') { value.trim_end_matches('0').trim_end_matches('.') } else { &value };
            (value.len() <= 8).then(|| value.to_owned())
        };
        Some(Physical { digital, low: text(digital.0)?, high: text(digital.1)? })
    });
    let rounded = |sample: i32| eight(track.origin.to_f64() + f64::from(sample) * track.scale.to_f64());
    exact.unwrap_or_else(|| Physical { digital: whole, low: rounded(whole.0), high: rounded(whole.1) })
}

/// A number in eight characters, as exact as they allow.
fn eight(value: f64) -> String {
    (0..=6).rev().map(|places| format!("{value:.places$}")).find(|text| text.len() <= 8).unwrap_or_else(|| {
        // Beyond eight digits only the order of magnitude can be said.
        let text = format!("{value:.0e}");
        if text.len() <= 8 { text } else { "0".to_owned() }
    })
}

#[cfg(test)]
mod tests;
