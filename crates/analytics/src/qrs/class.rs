//! Beat class: whether a beat is the lead's usual one or comes from the ventricles, told when the beat is.
//!
//! Source: classes N, V and Q of ANSI/AAMI EC57. Families of like complexes as in Hamilton, Open Source ECG Analysis, Comput Cardiol
//! 2002;29:101, and Krasteva and Jekova, Ann Biomed Eng 2007;35:2065; prematurity and width as evidence, de Chazal et al., IEEE Trans
//! Biomed Eng 2004;51:1196. A lead's usual beats may be wide (bundle branch block, pacing): width counts beside theirs. Supraventricular
//! premature beats have the usual shape and count as N; fusion beats count as what they are more like.

use super::{filter::Past, shape::dot};

/// Class of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BeatClass {
    /// N: the usual beats of the lead, and those like them.
    Normal,
    /// V: ventricular ectopic beats.
    Ventricular,
    /// Q: not classified, as the first beats of a lead, and beats in noise.
    Unknown,
}

impl BeatClass {
    /// The class's letter in EC57.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Normal => "N",
            Self::Ventricular => "V",
            Self::Unknown => "Q",
        }
    }
}

/// Distance of the samples that are compared, in seconds: the waves are below 50 Hz.
const STEP_S: f64 = 0.008;
/// How much before the complex's peak is compared. With what follows it holds a wide complex and no P wave.
const BEFORE_S: f64 = 0.12;
/// How much after.
const AFTER_S: f64 = 0.176;
/// How far two complexes are shifted against each other, in steps.
const SHIFT_STEPS: usize = 4;
/// Where the line before the complex lies from which its width is measured: from so long before its peak on.
const LINE_S: f64 = 0.168;
/// Families of a lead at most; a new one takes the place of the one not seen for longest.
const FAMILIES: usize = 12;
/// A complex of a family correlates with it by this much or more. Source: Krasteva and Jekova 2007.
const SAME_CORRELATION: f64 = 0.9;
/// And differs from it by less: power of the difference over the mean power of both.
const SAME_DIFFERENCE: f64 = 0.15;
/// A family is the mean of its last complexes, this many.
const FAMILY_BEATS: f64 = 16.0;
/// A family of this many beats decides about the next.
const FAMILY_SETTLED: u32 = 3;
/// From this share of ventricular ones on, the next of the family is.
const VENTRICULAR_SHARE: f64 = 2.0 / 3.0;
/// How much of a family's weight is left after each beat of the lead: the usual beats are those of some minutes.
const WEIGHT_KEPT: f64 = 0.995;
/// A beat is premature after less than this share of the mean of the intervals before. Source: 0.85 to 0.9 in Hamilton 2002.
const PREMATURE: f64 = 0.88;
/// The intervals that the mean is of: enough that premature beats and their compensatory pauses make up for each other.
const INTERVALS: usize = 8;
/// From this many ventricular beats in a row on, their intervals do not count.
const RUN: u64 = 3;
/// A longer interval counts as this share of the mean before.
const INTERVAL_SHARE_MAX: f64 = 1.6;
/// A premature complex this much wider than the usual ones is ventricular.
const WIDER: f64 = 1.2;
/// A premature complex that correlates less with the usual ones is ventricular.
const UNLIKE: f64 = 0.8;
/// So is one this much earlier, which differs from the usual ones at all, in a rhythm that is regular otherwise:
const MUCH_PREMATURE: f64 = 0.75;
/// of the last intervals, so many
const ALIKE_MIN: usize = 6;
/// are within this share of the median.
const ALIKE: f64 = 0.1;
/// Without being premature, a complex must be this much wider than the usual ones,
const MUCH_WIDER: f64 = 1.5;
/// and correlate less with them.
const MUCH_UNLIKE: f64 = 0.75;
/// So many of the last eight beats unlike every family are noise.
const STRANGERS: u32 = 3;

/// What decides about classes, by its name.
pub(super) const PARAMETERS: [(&str, f64); 24] = [
    ("class.step_s", STEP_S),
    ("class.before_s", BEFORE_S),
    ("class.after_s", AFTER_S),
    ("class.line_s", LINE_S),
    ("class.shift_steps", SHIFT_STEPS as f64),
    ("class.families", FAMILIES as f64),
    ("class.same_correlation", SAME_CORRELATION),
    ("class.same_difference", SAME_DIFFERENCE),
    ("class.family_beats", FAMILY_BEATS),
    ("class.family_settled", FAMILY_SETTLED as f64),
    ("class.ventricular_share", VENTRICULAR_SHARE),
    ("class.weight_kept", WEIGHT_KEPT),
    ("class.premature", PREMATURE),
    ("class.intervals", INTERVALS as f64),
    ("class.interval_share_max", INTERVAL_SHARE_MAX),
    ("class.run", RUN as f64),
    ("class.wider", WIDER),
    ("class.unlike", UNLIKE),
    ("class.much_premature", MUCH_PREMATURE),
    ("class.alike_min", ALIKE_MIN as f64),
    ("class.alike", ALIKE),
    ("class.much_wider", MUCH_WIDER),
    ("class.much_unlike", MUCH_UNLIKE),
    ("class.strangers", STRANGERS as f64),
];

/// Like complexes of a lead.
#[derive(Debug, Clone)]
struct Family {
    /// Their mean, without its level.
    shape: Vec<f64>,
    beats: u32,
    width_s: f64,
    /// How many of them were ventricular by what they were themselves, as a share.
    ventricular: f64,
    /// How many of the lead's last beats were of this family and not premature.
    weight: f64,
    /// Number of its last beat.
    last: u64,
}

/// How a complex compares with a family.
#[derive(Debug, Clone, Copy)]
struct Likeness {
    correlation: f64,
    difference: f64,
    shift: usize,
}

impl Likeness {
    fn same(&self) -> bool {
        self.correlation >= SAME_CORRELATION && self.difference < SAME_DIFFERENCE
    }
}

/// Tells the classes of one lead's beats, in their order.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    step: u64,
    before: u64,
    length: usize,
    line: u64,
    step_s: f64,
    families: Vec<Family>,
    last: Option<u64>,
    /// How many ventricular beats there were in a row.
    run: u64,
    intervals: [f64; INTERVALS],
    /// How many intervals there were.
    known: u64,
    beats: u64,
    /// Which of the last beats were like no family: a bit each.
    strangers: u8,
}

impl Classes {
    pub(super) fn new(rate_hz: f64) -> Self {
        let step = ((STEP_S * rate_hz).round() as u64).max(1);
        let step_s = step as f64 / rate_hz;
        let steps = |seconds: f64| (seconds / step_s).round() as u64;
        Self {
            step,
            before: steps(BEFORE_S),
            length: (steps(BEFORE_S) + steps(AFTER_S)) as usize + 1,
            line: steps(LINE_S),
            step_s,
            families: Vec::new(),
            last: None,
            run: 0,
            intervals: [0.0; INTERVALS],
            known: 0,
            beats: 0,
            strangers: 0,
        }
    }

    /// Class of the complex that peaks at number `middle` of the smoothed lead, and its correlation with the family it is most
    /// like. `newest` is the last number that the lead has.
    pub(super) fn next(&mut self, lead: &Past, middle: u64, newest: u64) -> (BeatClass, f64) {
        let wide = self.cut(lead, middle, newest);
        let likenesses = self.compare(&wide);
        let interval = self.last.map(|last| middle.saturating_sub(last) as f64);
        let known = self.known.min(INTERVALS as u64) as usize;
        let usual = self.intervals[..known].iter().sum::<f64>() / known.max(1) as f64;
        let early = interval.filter(|_| known >= INTERVALS / 2).map_or(1.0, |interval| interval / usual.max(1.0));
        let regular = self.is_regular(known);
        let width_s = self.width_s(lead, middle, newest);

        let nearest = (0..likenesses.len()).max_by(|&a, &b| score(&likenesses[a]).total_cmp(&score(&likenesses[b])));
        let correlation = nearest.map_or(0.0, |at| likenesses[at].correlation);
        let joined = nearest.filter(|&at| likenesses[at].same());
        let usual_family =
            (0..self.families.len()).max_by(|&a, &b| self.families[a].weight.total_cmp(&self.families[b].weight));
        let ventricular = usual_family.is_some_and(|at| {
            let (like, wider) = (&likenesses[at], width_s / self.families[at].width_s.max(self.step_s));
            let premature = early < PREMATURE && (wider > WIDER || like.correlation < UNLIKE);
            let unlike = wider > MUCH_WIDER && like.correlation < MUCH_UNLIKE;
            (!like.same() && (premature || unlike)) || (joined != usual_family && early < MUCH_PREMATURE && regular)
        });
        self.strangers = self.strangers << 1 | u8::from(joined.is_none());
        let class = match joined {
            _ if self.beats < INTERVALS as u64 => BeatClass::Unknown,
            Some(_) if joined == usual_family => BeatClass::Normal,
            Some(at) if self.families[at].beats >= FAMILY_SETTLED => {
                if self.families[at].ventricular >= VENTRICULAR_SHARE {
                    BeatClass::Ventricular
                } else {
                    BeatClass::Normal
                }
            }
            None if self.strangers.count_ones() >= STRANGERS => BeatClass::Unknown,
            // One complex unlike the others that comes in time may be the usual one in noise.
            _ if ventricular && early >= PREMATURE => BeatClass::Unknown,
            _ if ventricular => BeatClass::Ventricular,
            _ => BeatClass::Normal,
        };
        self.learn(&wide, joined.map(|at| (at, likenesses[at].shift)), width_s, ventricular, early >= PREMATURE);
        // A run of ventricular beats does not become the usual rate.
        self.run = if class == BeatClass::Ventricular { self.run + 1 } else { 0 };
        if let Some(interval) = interval.filter(|_| self.run < RUN) {
            // A pause, or beats lost in noise, say little about the rate.
            let most = if known >= INTERVALS / 2 { usual * INTERVAL_SHARE_MAX } else { f64::INFINITY };
            self.intervals[self.known as usize % INTERVALS] = interval.min(most);
            self.known += 1;
        }
        self.last = Some(middle);
        self.beats += 1;
        (class, correlation)
    }

    /// Whether most intervals are alike: where none is, as in atrial fibrillation, an early beat says nothing.
    fn is_regular(&self, known: usize) -> bool {
        let mut sorted = self.intervals;
        let sorted = &mut sorted[..known];
        sorted.sort_unstable_by(f64::total_cmp);
        let Some(middle) = sorted.get(known / 2) else { return false };
        sorted.iter().filter(|interval| (*interval / middle - 1.0).abs() <= ALIKE).count() >= ALIKE_MIN
    }

    /// The samples around a complex, every step, with room for shifts on both sides.
    fn cut(&self, lead: &Past, middle: u64, newest: u64) -> Vec<f64> {
        let back = (self.before + SHIFT_STEPS as u64) * self.step;
        let from = middle.saturating_sub(back);
        let count = (self.length + 2 * SHIFT_STEPS) as u64;
        (0..count).map(|n| lead.get((from + n * self.step).min(newest))).collect()
    }

    fn compare(&self, wide: &[f64]) -> Vec<Likeness> {
        let length = self.length;
        let powers: Vec<f64> = wide
            .windows(length)
            .map(|x| {
                let level = x.iter().sum::<f64>() / length as f64;
                (dot(x, x) - level * level * length as f64).max(0.0)
            })
            .collect();
        let against = |family: &Family| {
            let own = dot(&family.shape, &family.shape);
            let mut best = Likeness { correlation: -1.0, difference: 2.0, shift: SHIFT_STEPS };
            for (shift, window) in wide.windows(length).enumerate() {
                // The family's mean has no level: that of the window makes no difference.
                let product = dot(&family.shape, window);
                let correlation = product / (own * powers[shift]).sqrt().max(1e-12);
                if correlation > best.correlation {
                    let both = ((own + powers[shift]) / 2.0).max(1e-12);
                    best = Likeness { correlation, difference: (own + powers[shift] - 2.0 * product) / both, shift };
                }
            }
            best
        };
        self.families.iter().map(against).collect()
    }

    /// Width of the complex: its area from the line before it, over its height.
    fn width_s(&self, lead: &Past, middle: u64, newest: u64) -> f64 {
        let at = |steps: i64| lead.get(middle.saturating_add_signed(steps * self.step as i64).min(newest));
        let (line, before) = (self.line as i64, self.before as i64);
        let mut level: Vec<f64> = (-line..-line / 2).map(at).collect();
        level.sort_unstable_by(f64::total_cmp);
        let level = level.get(level.len() / 2).copied().unwrap_or(0.0);
        let until = self.length as i64 - before;
        let heights = (-before..until).map(|steps| (at(steps) - level).abs());
        let (area, height) = heights.fold((0.0, 0.0f64), |(area, top), height| (area + height, top.max(height)));
        area / height.max(1e-12) * self.step_s
    }

    fn learn(&mut self, wide: &[f64], joined: Option<(usize, usize)>, width_s: f64, ventricular: bool, in_time: bool) {
        for family in &mut self.families {
            family.weight *= WEIGHT_KEPT;
        }
        let vote = f64::from(u8::from(ventricular));
        let weight = f64::from(u8::from(in_time));
        let (at, shift) = joined.unwrap_or((usize::MAX, SHIFT_STEPS));
        let window = &wide[shift..shift + self.length];
        let level = window.iter().sum::<f64>() / self.length as f64;
        let beats = self.beats;
        if let Some(family) = self.families.get_mut(at) {
            family.beats += 1;
            let share = 1.0 / f64::from(family.beats).min(FAMILY_BEATS);
            for (old, new) in family.shape.iter_mut().zip(window) {
                *old += share * (new - level - *old);
            }
            family.width_s += share * (width_s - family.width_s);
            family.ventricular += share * (vote - family.ventricular);
            family.weight += weight;
            family.last = beats;
            return;
        }
        let shape = window.iter().map(|value| value - level).collect();
        let family = Family { shape, beats: 1, width_s, ventricular: vote, weight, last: beats };
        if self.families.len() < FAMILIES {
            self.families.push(family);
            return;
        }
        // The usual family stays however long it has not been seen: a run of ventricular beats does not become usual by its length.
        let heaviest = self.families.iter().map(|family| family.weight).fold(0.0, f64::max);
        let oldest =
            self.families.iter_mut().filter(|family| family.weight < heaviest).min_by_key(|family| family.last);
        if let Some(oldest) = oldest {
            *oldest = family;
        }
    }
}

/// Orders families by how like a complex is to them: in shape, and in size.
fn score(likeness: &Likeness) -> f64 {
    likeness.correlation - 0.3 * likeness.difference
}

#[cfg(test)]
mod tests;
