//! The signal of annotations: lists of times and texts, the first of each record the record's own time.

use std::collections::VecDeque;

/// One annotation.
pub(super) struct Said {
    /// Seconds from the file's start.
    pub(super) onset_s: f64,
    /// How many seconds it lasts.
    pub(super) lasts_s: Option<f64>,
    pub(super) text: String,
}

/// Bytes of annotations in a record, where nothing needs more.
const BYTES_MIN: usize = 120;

/// The most bytes of annotations in a file.
const TOTAL_BYTES_MAX: usize = 1 << 28;

/// The annotations of each record, all of one length, a multiple of `step`; nothing when they are too many. `said` is in the order of
/// its onsets.
///
/// An annotation stands in the record in which it begins, or in a later one where that is full.
pub(super) fn texts(starts: &[f64], said: &[Said], step: usize) -> Option<Vec<Vec<u8>>> {
    let written: Vec<(f64, Vec<u8>)> = said.iter().map(|said| (said.onset_s, list(said))).collect();
    let total: usize = written.iter().map(|(_, list)| list.len()).sum();
    let longest = written.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
    let own = starts.iter().map(|start| time_keeping(*start).len()).max().unwrap_or(0);
    let mean = total.div_ceil(starts.len().max(1));
    let mut length = (own + longest.max(mean)).max(BYTES_MIN).next_multiple_of(step);
    loop {
        if starts.len().saturating_mul(length) > TOTAL_BYTES_MAX {
            return None;
        }
        if let Some(texts) = fill(starts, &written, length) {
            return Some(texts);
        }
        // What all of them need, in one record, is enough.
        length = (length * 2).min((own + total).max(BYTES_MIN)).next_multiple_of(step);
    }
}

/// Nothing when some are left over.
fn fill(starts: &[f64], written: &[(f64, Vec<u8>)], length: usize) -> Option<Vec<Vec<u8>>> {
    let mut waiting: VecDeque<&(f64, Vec<u8>)> = written.iter().collect();
    let mut texts = Vec::with_capacity(starts.len());
    for (at, start) in starts.iter().enumerate() {
        let until = starts.get(at + 1).copied().unwrap_or(f64::INFINITY);
        let mut text = time_keeping(*start);
        while let Some((_, list)) =
            waiting.front().filter(|(onset, list)| *onset < until && text.len() + list.len() <= length)
        {
            text.extend(list);
            waiting.pop_front();
        }
        text.resize(length, 0);
        texts.push(text);
    }
    waiting.is_empty().then_some(texts)
}

/// `+12.5` and an annotation without a text.
fn time_keeping(start_s: f64) -> Vec<u8> {
    format!("{}\x14\x14\0", seconds(start_s)).into_bytes()
}

fn list(said: &Said) -> Vec<u8> {
    let lasts = said.lasts_s.map(|s| format!("\x15{}", number(s))).unwrap_or_default();
    // The bytes that end times and texts have no place in a text.
    let text: String = said.text.chars().filter(|c| !c.is_control()).collect();
    format!("{}{lasts}\x14{text}\x14\0", seconds(said.onset_s)).into_bytes()
}

/// A time with its sign.
fn seconds(at: f64) -> String {
    let text = number(at.abs());
    if at < 0.0 && text != "0" { format!("-{text}") } else { format!("+{text}") }
}

/// Seconds with at most six decimals and no trailing zeros.
fn number(s: f64) -> String {
    let text = format!("{s:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
