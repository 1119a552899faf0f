//! A stretch of a recording as a picture: waves on paper of 25 mm/s, beats with their classes, findings as bands, and trends of the whole below.
//!
//! The paper is that of electrocardiographs: squares of 1 and 5 mm, 25 mm a second, 10 mm a millivolt, or half or a quarter of it where a wave would not fit,
//! with a pulse of 1 mV before each lead that shows the scale. Source: AHA/ACC/HRS, Kligfield et al., Circulation 2007;115:1306. Other waves have a scale of
//! their own, with its numbers.

mod bands;
mod canvas;
mod line;
mod trends;

use crate::signal::Wave;
use analytics::{Beat, BeatClass, Finding, Severity};
use bands::{Band, bands, rows};
use canvas::{Anchor, At, Canvas, mm};
use line::line;
use trends::Trend;

/// The longest stretch, in seconds.
pub(super) const SECONDS_MAX: u64 = 120;
/// How many seconds stand in one strip.
const STRIP_S: u64 = 10;
/// The most waves of a drawing.
const WAVES_MAX: usize = 8;
/// The most rows of bands above a strip; what has no room is counted.
const ROWS_MAX: usize = 6;
/// The most findings that the description names.
const TOLD_MAX: usize = 12;

const MM_PER_S: f64 = 25.0;
/// Scales of a lead, in millimetres a millivolt.
const MM_PER_MV: [f64; 3] = [10.0, 5.0, 2.5];
/// Heights of a lead's lane, in millimetres.
const LEAD_MM: (f64, f64) = (25.0, 60.0);
/// Height of the lane of another wave, in millimetres.
const WAVE_MM: f64 = 20.0;
/// The most lines of the scale of such a wave.
const LINES_MAX: u32 = 8;
const ROW_MM: f64 = 5.0;
const LEFT_MM: f64 = 26.0;
const RIGHT_MM: f64 = 8.0;
const HEAD_MM: f64 = 20.0;
/// Above a strip's bands, and below its paper where the times stand.
const STRIP_APART_MM: f64 = 9.0;
/// The narrowest drawing: its words need room.
const WIDTH_MM_MIN: f64 = 150.0;
/// Width of a letter of a band, in millimetres.
const LETTER_MM: f64 = 1.55;
/// How far around a ventricular beat it is marked, in seconds.
const MARKED_S: f64 = 0.12;

/// Which seconds are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    pub(super) from_s: u64,
    pub(super) seconds: u64,
}

/// What is drawn.
pub(super) struct Drawing<'a> {
    /// The recording's name.
    pub(super) name: String,
    pub(super) recorded_s: f64,
    pub(super) stretch: Stretch,
    pub(super) waves: Vec<Wave<'a>>,
    /// The lead that beats were found in.
    pub(super) lead: Option<&'static str>,
    pub(super) beats: &'a [Beat],
    /// Samples a second of the beats' lead.
    pub(super) beats_hz: f64,
    pub(super) findings: &'a [Finding],
}

/// Where a wave stands in every strip, and how high a unit is.
struct Lane<'a> {
    wave: &'a Wave<'a>,
    height: f64,
    /// Millimetres from the lane's top to the value 0.
    zero: f64,
    mm_per_unit: f64,
}

impl Drawing<'_> {
    /// The whole document.
    pub(super) fn svg(&self) -> String {
        let end_s = self.recorded_s;
        let seconds = self.stretch.seconds.min((end_s.ceil() as u64).saturating_sub(self.stretch.from_s)).max(1);
        let stretch = Stretch { seconds, ..self.stretch };
        let lanes: Vec<Lane<'_>> = self.waves.iter().take(WAVES_MAX).filter_map(|wave| lane(wave, &stretch)).collect();
        let all = bands(self.findings, end_s);
        let (from_s, until_s) = (stretch.from_s as f64, (stretch.from_s + seconds) as f64);
        let shown: Vec<&Band> = all.iter().filter(|band| band.from_s < until_s && band.until_s > from_s).collect();
        let trends = trends::trends(self.findings);
        let width = (seconds.min(STRIP_S) as f64 * MM_PER_S).max(WIDTH_MM_MIN);

        let mut canvas = Canvas::default();
        self.head(&mut canvas, &stretch, &lanes);
        let mut y = HEAD_MM;
        for (number, begin_s) in (stretch.from_s..stretch.from_s + seconds).step_by(STRIP_S as usize).enumerate() {
            let strip = Stretch { from_s: begin_s, seconds: STRIP_S.min(stretch.from_s + seconds - begin_s) };
            y = self.strip(&mut canvas, number, &strip, &lanes, &shown, y);
        }
        if !trends.is_empty() {
            y += 6.0;
            trends::draw(&mut canvas, &trends, &all, &stretch, end_s, At(LEFT_MM, y), width);
            y += trends::height(&trends);
        }
        y += 4.0;
        legend(&mut canvas, At(LEFT_MM, y));
        let title = format!("{}, {} s from {}", self.name, seconds, clock(stretch.from_s));
        let description = self.in_words(&stretch, &lanes, &shown, &trends);
        canvas.document(LEFT_MM + width + RIGHT_MM, y + 6.0, &title, &description)
    }

    fn head(&self, canvas: &mut Canvas, stretch: &Stretch, lanes: &[Lane<'_>]) {
        canvas.text("title", At(LEFT_MM, 9.0), Anchor::Start, &self.name);
        let until = clock(stretch.from_s + stretch.seconds);
        let mut words = format!("{} to {until} of {}", clock(stretch.from_s), clock(self.recorded_s as u64));
        if lanes.iter().any(|lane| is_lead(lane.wave)) {
            words += " · 25 mm/s";
        }
        let left = self.waves.len().saturating_sub(WAVES_MAX);
        if left > 0 {
            words += &format!(" · {left} more waves are not drawn");
        }
        canvas.text("muted", At(LEFT_MM, 14.5), Anchor::Start, &words);
    }

    /// Draws a strip below `y`; gives where it ends.
    fn strip(
        &self,
        canvas: &mut Canvas,
        number: usize,
        strip: &Stretch,
        lanes: &[Lane<'_>],
        shown: &[&Band],
        y: f64,
    ) -> f64 {
        let (from_s, until_s) = (strip.from_s as f64, (strip.from_s + strip.seconds) as f64);
        let width = strip.seconds as f64 * MM_PER_S;
        let x_of = |at_s: f64| LEFT_MM + (at_s - from_s) * MM_PER_S;
        let of_strip: Vec<&Band> =
            shown.iter().copied().filter(|band| band.from_s < until_s && band.until_s > from_s).collect();
        let place = |band: &Band| {
            let from = x_of(band.from_s.max(from_s));
            let words = 3.0 + LETTER_MM * band.words.chars().count() as f64;
            (from, x_of(band.until_s.min(until_s)).max(from + words))
        };
        let rows = rows(&of_strip, ROWS_MAX, place);
        let used = rows.iter().flatten().max().map_or(0, |last| last + 1);
        for (band, row) in of_strip.iter().zip(&rows) {
            let Some(row) = row else { continue };
            let (from, until) = (x_of(band.from_s.max(from_s)), x_of(band.until_s.min(until_s)));
            let top = y + *row as f64 * ROW_MM;
            canvas.rect(&format!("band {}", band.class()), At(from, top), until - from, ROW_MM - 0.8);
            canvas.rect(band.class(), At(from, top), 0.8, ROW_MM - 0.8);
            canvas.text("", At(from + 2.0, top + 3.1), Anchor::Start, &band.words);
        }
        let mut top = y + used as f64 * ROW_MM;
        let left = rows.iter().filter(|row| row.is_none()).count();
        if left > 0 {
            canvas.text("muted small", At(LEFT_MM, top + 2.0), Anchor::Start, &format!("and {left} more findings"));
            top += 3.5;
        }
        let paper: f64 = lanes.iter().filter(|lane| is_lead(lane.wave)).map(|lane| lane.height).sum();
        if paper > 0.0 {
            canvas.paper(At(LEFT_MM, top), width, paper);
        }
        // Leads first, on one paper; then the others, each with its own scale.
        let (leads, others): (Vec<_>, Vec<_>) = lanes.iter().partition(|lane| is_lead(lane.wave));
        for (lane_number, lane) in leads.into_iter().chain(others).enumerate() {
            if !is_lead(lane.wave) {
                scale_of_wave(canvas, lane, At(LEFT_MM, top), width);
            }
            self.lane(canvas, &format!("clip-{number}-{lane_number}"), strip, lane, top);
            top += lane.height;
        }
        if lanes.is_empty() {
            canvas.line("axis", At(LEFT_MM, top), At(LEFT_MM + width, top));
        }
        for second in 0..=strip.seconds {
            let x = LEFT_MM + second as f64 * MM_PER_S;
            canvas.line("axis", At(x, top), At(x, top + 1.2));
            canvas.text("muted small", At(x, top + 4.2), Anchor::Middle, &clock(strip.from_s + second));
        }
        top + STRIP_APART_MM
    }

    fn lane(&self, canvas: &mut Canvas, clip: &str, strip: &Stretch, lane: &Lane<'_>, top: f64) {
        let (wave, from_s) = (lane.wave, strip.from_s as f64);
        let width = strip.seconds as f64 * MM_PER_S;
        let is_of_beats = self.lead == Some(wave.name);
        if is_of_beats {
            self.beats(canvas, strip, lane, top);
        }
        let begin = (from_s * wave.rate_hz).ceil() as usize;
        let end = ((from_s + strip.seconds as f64) * wave.rate_hz).ceil() as usize;
        let x_of = |n: usize| LEFT_MM + ((begin + n) as f64 / wave.rate_hz - from_s) * MM_PER_S;
        let values = wave.physical(begin..end);
        let points = values.iter().enumerate().map(|(n, value)| (x_of(n), top + lane.zero - value * lane.mm_per_unit));
        canvas.clip(clip, At(LEFT_MM, top), width, lane.height);
        canvas.path(&format!("trace {}", class(wave)), &line(points), Some(clip));
        let middle = top + lane.height / 2.0;
        canvas.text("name", At(2.0, middle - 3.0), Anchor::Start, &label(wave));
        if is_lead(wave) {
            let foot = middle + 7.0;
            let (height, scale) = (lane.mm_per_unit, mm(lane.mm_per_unit));
            let height = height.min(lane.height - 8.0);
            canvas.text("muted small", At(2.0, middle + 1.0), Anchor::Start, &format!("{scale} mm/mV"));
            // 1 mV for a fifth of a second.
            let pulse = format!("M{} {}h1.5v{}h5v{}h1.5", mm(LEFT_MM - 9.5), mm(foot), mm(-height), mm(height));
            canvas.path("pulse", &pulse, None);
        } else if !wave.unit.is_empty() && wave.unit != "1" {
            canvas.text("muted small", At(2.0, middle + 1.0), Anchor::Start, wave.unit);
        }
    }

    /// Letters and marks of the strip's beats, at the top of their lead's lane.
    fn beats(&self, canvas: &mut Canvas, strip: &Stretch, lane: &Lane<'_>, top: f64) {
        for (at_s, beat) in self.beats_within(strip) {
            let x = LEFT_MM + (at_s - strip.from_s as f64) * MM_PER_S;
            let letter = beat.class.letter();
            if beat.class == BeatClass::Ventricular {
                let left = (x - MARKED_S * MM_PER_S).max(LEFT_MM);
                let right = (x + MARKED_S * MM_PER_S).min(LEFT_MM + strip.seconds as f64 * MM_PER_S);
                canvas.rect("beat-V", At(left, top), right - left, lane.height);
            }
            canvas.line(&format!("tick-{letter}"), At(x, top), At(x, top + 1.2));
            canvas.text(letter, At(x, top + 4.2), Anchor::Middle, letter);
        }
    }

    fn beats_within(&self, stretch: &Stretch) -> impl Iterator<Item = (f64, &Beat)> {
        let seconds = stretch.from_s as f64..(stretch.from_s + stretch.seconds) as f64;
        let timed = self.beats.iter().map(|beat| (beat.sample as f64 / self.beats_hz, beat));
        timed.filter(move |(at_s, _)| seconds.contains(at_s))
    }

    /// What is to be seen, for whoever does not see it.
    fn in_words(&self, stretch: &Stretch, lanes: &[Lane<'_>], shown: &[&Band], trends: &[Trend]) -> String {
        let waves: Vec<String> = lanes.iter().map(|lane| label(lane.wave)).collect();
        let mut sentences = vec![format!(
            "{} seconds from {} of a recording of {}. Waves: {}.",
            stretch.seconds,
            clock(stretch.from_s),
            clock(self.recorded_s as u64),
            if waves.is_empty() { "none".to_owned() } else { waves.join(", ") }
        )];
        if let Some(lead) = self.lead {
            let count = |class| self.beats_within(stretch).filter(|(_, beat)| beat.class == class).count();
            let times: Vec<f64> = self.beats_within(stretch).map(|(at_s, _)| at_s).collect();
            let (from_s, seconds) = (stretch.from_s as f64, stretch.seconds as f64);
            let rate = analytics::reference::rate_per_min(&times, from_s, seconds);
            sentences.push(format!(
                "Beats in {lead}: {} usual, {} ventricular, {} not classed{}.",
                count(BeatClass::Normal),
                count(BeatClass::Ventricular),
                count(BeatClass::Unknown),
                rate.map(|rate| format!(", {rate:.0} a minute")).unwrap_or_default()
            ));
        }
        let told = |band: &&Band| {
            let words = band.words.trim_start_matches(['*', ' ']);
            let (from, until) = (clock(band.from_s.max(0.0) as u64), clock(band.until_s.max(0.0) as u64));
            format!("{words}, {} priority, from {from} to {until}", priority(band.severity))
        };
        let mut findings: Vec<String> = shown.iter().take(TOLD_MAX).map(told).collect();
        if shown.len() > TOLD_MAX {
            findings.push(format!("and {} more", shown.len() - TOLD_MAX));
        }
        let findings = if findings.is_empty() { "none".to_owned() } else { findings.join("; ") };
        sentences.push(format!("Findings: {findings}."));
        if !trends.is_empty() {
            let told: Vec<String> = trends.iter().map(Trend::in_words).collect();
            sentences.push(format!("Over the whole recording: {}.", told.join("; ")));
        }
        sentences.join(" ")
    }
}

fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::None => "no",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}

fn is_lead(wave: &Wave<'_>) -> bool {
    wave.name.starts_with("ecg-")
}

/// The class of a wave's colour.
fn class(wave: &Wave<'_>) -> &'static str {
    match wave.name {
        "pleth" => "pleth",
        "resp-impedance" => "resp",
        "ibp" => "pressure",
        _ => "ecg",
    }
}

/// A wave's name for people.
fn label(wave: &Wave<'_>) -> String {
    match (wave.name, wave.name.strip_prefix("ecg-")) {
        (_, Some(lead)) if lead.starts_with("av") => format!("aV{}", lead[2..].to_uppercase()),
        (_, Some(lead)) => lead.to_uppercase(),
        ("pleth", _) => "Pleth".to_owned(),
        ("resp-impedance", _) => "Resp".to_owned(),
        ("ibp", _) => "Art. pressure".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// Least, middle and greatest value of a stretch; nothing where there is none.
fn extent(wave: &Wave<'_>, stretch: &Stretch) -> Option<(f64, f64, f64)> {
    let begin = (stretch.from_s as f64 * wave.rate_hz) as usize;
    let end = ((stretch.from_s + stretch.seconds) as f64 * wave.rate_hz).ceil() as usize;
    let mut values = wave.physical(begin..end);
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    Some((*values.first()?, values[values.len() / 2], *values.last()?))
}

/// The lane of a wave, as high as its values of the stretch need. Nothing where it has none.
fn lane<'a>(wave: &'a Wave<'a>, stretch: &Stretch) -> Option<Lane<'a>> {
    let (low, middle, high) = extent(wave, stretch)?;
    if !is_lead(wave) {
        let (bottom, top) = if high > low { (low, high) } else { (low - 1.0, low + 1.0) };
        let mm_per_unit = (WAVE_MM - 4.0) / (top - bottom);
        return Some(Lane { wave, height: WAVE_MM, zero: 2.0 + top * mm_per_unit, mm_per_unit });
    }
    // Letters of beats stand above the wave.
    let needed = |scale: f64| ((high - low) * scale + 8.0).max(LEAD_MM.0);
    let smallest = MM_PER_MV[MM_PER_MV.len() - 1];
    let mm_per_unit = MM_PER_MV.into_iter().find(|scale| needed(*scale) <= LEAD_MM.1).unwrap_or(smallest);
    let height = ((needed(mm_per_unit) / 5.0).ceil() * 5.0).min(LEAD_MM.1);
    // The usual level lies on a line of the paper, as near as the wave's room allows.
    let spare = (height - 6.0 - (high - low) * mm_per_unit).max(0.0);
    let level = 6.0 + spare / 2.0 + (high - middle) * mm_per_unit;
    let level = ((level / 5.0).round() * 5.0).clamp(5.0, height - 5.0);
    Some(Lane { wave, height, zero: level + middle * mm_per_unit, mm_per_unit })
}

/// Lines with numbers for a wave that is not on ECG paper.
fn scale_of_wave(canvas: &mut Canvas, lane: &Lane<'_>, at: At, width: f64) {
    canvas.rect("plain", At(at.0, at.1 + 0.6), width, lane.height - 1.2);
    let value_at = |mm_down: f64| (lane.zero - mm_down) / lane.mm_per_unit;
    let (low, high) = (value_at(lane.height - 2.0), value_at(2.0));
    let magnitude = 10f64.powf(((high - low) / 2.0).max(1e-9).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|n| n * magnitude).into_iter().find(|step| (high - low) / step >= 2.0);
    let step = step.unwrap_or(magnitude);
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let first = (low / step).ceil();
    for value in (0..LINES_MAX).map(|n| (first + f64::from(n)) * step).take_while(|value| *value <= high) {
        let y = at.1 + lane.zero - value * lane.mm_per_unit;
        canvas.line("rule", At(at.0, y), At(at.0 + width, y));
        canvas.text("muted small", At(at.0 - 2.0, y + 0.9), Anchor::End, &format!("{:.decimals$}", value + 0.0));
    }
    for second in 0..=(width / MM_PER_S) as u64 {
        let x = at.0 + second as f64 * MM_PER_S;
        canvas.line("rule", At(x, at.1 + 0.6), At(x, at.1 + lane.height - 0.6));
    }
}

fn legend(canvas: &mut Canvas, at: At) {
    let mut x = at.0;
    let mut word = |class: &str, words: &str| {
        canvas.text(class, At(x, at.1), Anchor::Start, words);
        x += 1.8 + words.chars().count() as f64 * 1.5;
    };
    for (class, letter, meaning) in
        [("N small", "N", "usual beat"), ("V small", "V", "ventricular beat"), ("Q small", "Q", "beat not classed")]
    {
        word(class, letter);
        word("muted small", meaning);
    }
    for (severity, meaning) in
        [(Severity::High, "high priority"), (Severity::Medium, "medium priority"), (Severity::Low, "low priority")]
    {
        word("small", bands::mark(severity).trim_end());
        word("muted small", meaning);
    }
}

/// Seconds as `m:ss` or `h:mm:ss`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests;
