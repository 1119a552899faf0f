//! Acceleration of the chest: three axes that belong together, second by second.
//!
//! Axes: x to the wearer's left, y to the head, z out of the chest; at rest they show the reaction to gravity. Unit: `m/s2`.

use super::line::{Joint, Line};
use crate::input::{Input, Measured};
use record::{Digest, TimeMs};
use std::collections::VecDeque;

/// Standard gravity, in m/s2.
pub(crate) const GRAVITY: f64 = 9.806_65;
/// Tilt from upright up to here is upright, in degrees. Source: Karantonis et al., IEEE Trans Inf Technol Biomed 2006;10:156.
pub(crate) const UPRIGHT_DEG: f64 = 60.0;
/// Tilt from here on is upside down, in degrees. Source: Karantonis et al. 2006.
pub(crate) const INVERTED_DEG: f64 = 120.0;
/// A second with more activity is movement, in g: the mean magnitude of the three axes without gravity. Source: Karantonis et al. 2006,
/// 0.135 g.
pub(crate) const MOVING_G: f64 = 0.135;
/// Gravity is seen where the mean of a second is within this share of it.
const GRAVITY_SHARES: (f64, f64) = (0.7, 1.3);
/// No accelerometer shows more, in m/s2.
const ACCELERATION_MAX: f64 = 1e6;
/// The most stretches of an axis that wait for the other two.
const WAITING_MAX: usize = 4;
/// The longest stretch, in seconds.
const STRETCH_S_MAX: f64 = 60.0;
/// The fastest accelerometer, in samples a second.
const RATE_HZ_MAX: f64 = 4_000.0;

/// The parameters of postures and movement by name.
pub(crate) fn named() -> impl Iterator<Item = (&'static str, f64)> {
    [
        ("upright_deg", UPRIGHT_DEG),
        ("inverted_deg", INVERTED_DEG),
        ("moving_g", MOVING_G),
        ("gravity_share_low", GRAVITY_SHARES.0),
        ("gravity_share_high", GRAVITY_SHARES.1),
    ]
    .into_iter()
    .chain(super::line::named())
}

/// One second of the chest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Second {
    /// Its beginning.
    pub(crate) at: TimeMs,
    /// Mean of the axes x, y, z, in m/s2.
    pub(crate) mean: [f64; 3],
    /// Mean magnitude of the axes without their mean, in g.
    pub(crate) activity_g: f64,
    /// The greatest acceleration, in g, and when.
    pub(crate) peak_g: f64,
    pub(crate) peak_at: TimeMs,
}

/// Where a chest is turned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Posture {
    Upright,
    Supine,
    Prone,
    LeftLateral,
    RightLateral,
    Inverted,
}

impl Posture {
    /// The name of its code, as sensors send it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upright => "upright",
            Self::Supine => "supine",
            Self::Prone => "prone",
            Self::LeftLateral => "left-lateral",
            Self::RightLateral => "right-lateral",
            Self::Inverted => "inverted",
        }
    }
}

impl Second {
    /// Angle between the body's long axis and the vertical, in degrees: 0 upright, 90 lying. Nothing where gravity is not seen.
    pub(crate) fn tilt_deg(&self) -> Option<f64> {
        let [x, y, z] = self.mean;
        let norm = (x * x + y * y + z * z).sqrt();
        let seen = (GRAVITY_SHARES.0..=GRAVITY_SHARES.1).contains(&(norm / GRAVITY));
        seen.then(|| (y / norm).clamp(-1.0, 1.0).acos().to_degrees())
    }

    /// Turn about the long axis, in degrees: 0 on the back, 90 on the left side, 180 on the chest, 270 on the right side.
    pub(crate) fn roll_deg(&self) -> f64 {
        let [x, _, z] = self.mean;
        // On the left side the reaction to gravity points to the wearer's right.
        (-x).atan2(z).to_degrees().rem_euclid(360.0)
    }

    /// The posture, where gravity is seen: sectors of a quarter turn for who lies. Source: Karantonis et al. 2006.
    pub(crate) fn posture(&self) -> Option<Posture> {
        let tilt = self.tilt_deg()?;
        let lying = match self.roll_deg() {
            roll if (45.0..135.0).contains(&roll) => Posture::LeftLateral,
            roll if (135.0..225.0).contains(&roll) => Posture::Prone,
            roll if (225.0..315.0).contains(&roll) => Posture::RightLateral,
            _ => Posture::Supine,
        };
        Some(match tilt {
            tilt if tilt <= UPRIGHT_DEG => Posture::Upright,
            tilt if tilt >= INVERTED_DEG => Posture::Inverted,
            _ => lying,
        })
    }

    pub(crate) fn moving(&self) -> bool {
        self.activity_g > MOVING_G
    }
}

/// A stretch of one axis that waits for the others.
#[derive(Debug, Clone)]
struct Stretch {
    at: TimeMs,
    rate_hz: f64,
    frame: Digest,
    values: Vec<f64>,
}

/// Puts the three axes together and cuts them into seconds.
#[derive(Debug, Default)]
pub(crate) struct Motion {
    waiting: [VecDeque<Stretch>; 3],
    line: Option<Line>,
    /// The samples of the second that is not full, and the number of the first of them.
    open: Vec<[f64; 3]>,
    opened: u64,
}

/// What an input brought.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Samples are missing: nothing before counts.
    pub(crate) anew: bool,
    /// The time that the three stretches cover, and their frames.
    pub(crate) frames: Vec<(TimeMs, TimeMs, Digest)>,
    /// The seconds that are full with it.
    pub(crate) seconds: Vec<Second>,
}

impl Motion {
    /// Takes an input; gives what the three axes show once all of them are there.
    pub(crate) fn take(&mut self, input: &Input<'_>) -> Option<Moved> {
        let axis = ["accel-x", "accel-y", "accel-z"].iter().position(|name| *name == input.signal)?;
        let Measured::Wave { rate_hz, values } = input.value else { return None };
        let longest = STRETCH_S_MAX * rate_hz;
        if !(1.0..=RATE_HZ_MAX).contains(&rate_hz) || values.is_empty() || values.len() as f64 > longest {
            return None;
        }
        let stretch = Stretch { at: input.at, rate_hz, frame: input.frame, values: values.to_vec() };
        crate::smooth::keep_latest(self.waiting.get_mut(axis)?, stretch, WAITING_MAX);
        let same = |other: &Stretch| other.at == input.at && other.rate_hz == rate_hz;
        let places = self.waiting.each_ref().map(|axis| axis.iter().position(same));
        let [Some(x), Some(y), Some(z)] = places else { return None };
        let [xs, ys, zs] = &mut self.waiting;
        let (x, y, z) = (xs.drain(..=x).next_back()?, ys.drain(..=y).next_back()?, zs.drain(..=z).next_back()?);
        let count = x.values.len();
        if y.values.len() != count || z.values.len() != count {
            return None;
        }
        let mut moved = Moved::default();
        let whole = Input { signal: "acceleration", ..*input };
        let joint = self.line.as_mut().map_or(Joint::Anew, |line| line.join(&whole, rate_hz));
        // A hole of a sample or two is no reason to begin anew, a longer one is.
        if !matches!(joint, Joint::After(0)) {
            moved.anew = true;
            self.open.clear();
            self.opened = 0;
            self.line = Some(Line::new(&whole, rate_hz));
        }
        let line = self.line.as_mut()?;
        line.add(count);
        let until = line.until();
        // As a rule the three came in one frame.
        let frames = std::collections::BTreeSet::from([x.frame, y.frame, z.frame]);
        moved.frames.extend(frames.into_iter().map(|frame| (input.at, until, frame)));
        let length = rate_hz.round().max(1.0) as usize;
        for ((x, y), z) in x.values.iter().zip(&y.values).zip(&z.values) {
            self.open.push([*x, *y, *z]);
            if self.open.len() == length {
                moved.seconds.extend(second(&self.open, line, self.opened));
                self.opened += length as u64;
                self.open.clear();
            }
        }
        Some(moved)
    }
}

/// The second of these samples; nothing where one is no number.
fn second(samples: &[[f64; 3]], line: &Line, first: u64) -> Option<Second> {
    let count = samples.len() as f64;
    let mean = [0, 1, 2].map(|axis| samples.iter().filter_map(|sample| sample.get(axis)).sum::<f64>() / count);
    let [mx, my, mz] = mean;
    let activity = samples.iter().map(|[x, y, z]| (x - mx).abs() + (y - my).abs() + (z - mz).abs()).sum::<f64>();
    let mut peak = (0, 0.0);
    for (n, [x, y, z]) in samples.iter().enumerate() {
        let norm = (x * x + y * y + z * z).sqrt();
        if norm > peak.1 {
            peak = (n, norm);
        }
    }
    let at = |n: u64| line.time_of((first + n) as f64 / line.rate_hz);
    let measured = mean.iter().all(|value| value.is_finite()) && peak.1 <= ACCELERATION_MAX;
    measured.then(|| Second {
        at: at(0),
        mean,
        activity_g: activity / count / GRAVITY,
        peak_g: peak.1 / GRAVITY,
        peak_at: at(peak.0 as u64),
    })
}

#[cfg(test)]
pub(crate) mod check {
    //! What the tests of posture and fall share.

    use super::*;
    use crate::{Finding, Person, Rule, recordings::Chance};
    use record::sha256;

    /// Samples a second.
    pub(crate) const RATE_HZ: f64 = 50.0;
    pub(crate) const UPRIGHT: [f64; 3] = [0.0, 1.0, 0.0];
    pub(crate) const SUPINE: [f64; 3] = [0.0, 0.0, 1.0];

    /// A stretch of `seconds` that ends at `to` (in g) with noise of `noise_g`.
    pub(crate) fn rest(to: [f64; 3], seconds: f64, noise_g: f64, chance: &mut Chance) -> Vec<[f64; 3]> {
        (0..(seconds * RATE_HZ) as usize).map(|_| to.map(|axis| axis + noise_g * chance.normal())).collect()
    }

    /// What a rule says of samples in g that come in frames of a second.
    pub(crate) fn told(rule: &Rule, samples: &[[f64; 3]], rate_hz: f64) -> Vec<Finding> {
        let mut watch = (rule.start)(rule, &Person::default());
        let mut out = Vec::new();
        for (second, samples) in samples.chunks(rate_hz.round() as usize).enumerate() {
            let frame = sha256(&[&second.to_be_bytes()]);
            let at = TimeMs((second as f64 * 1_000.0 * rate_hz.round() / rate_hz).round() as u64);
            for (axis, signal) in ["accel-x", "accel-y", "accel-z"].iter().enumerate() {
                let values: Vec<f64> = samples.iter().map(|sample| sample[axis] * GRAVITY).collect();
                let value = Measured::Wave { rate_hz, values: &values };
                watch.take(&Input { frame, signal, at, value }, &mut out);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posture(x: f64, y: f64, z: f64) -> Option<Posture> {
        let mean = [x, y, z].map(|axis| axis * GRAVITY);
        Second { at: TimeMs(0), mean, activity_g: 0.0, peak_g: 1.0, peak_at: TimeMs(0) }.posture()
    }

    #[test]
    fn each_way_of_lying_is_told_from_gravity() {
        assert_eq!(posture(0.0, 1.0, 0.0), Some(Posture::Upright));
        assert_eq!(posture(0.0, 0.0, 1.0), Some(Posture::Supine));
        assert_eq!(posture(0.0, 0.0, -1.0), Some(Posture::Prone));
        assert_eq!(posture(-1.0, 0.0, 0.0), Some(Posture::LeftLateral));
        assert_eq!(posture(1.0, 0.0, 0.0), Some(Posture::RightLateral));
        assert_eq!(posture(0.0, -1.0, 0.0), Some(Posture::Inverted));
        // Falling freely, or shaken: gravity is not seen.
        assert_eq!(posture(0.0, 0.1, 0.1), None);
        assert_eq!(posture(1.5, 1.5, 0.0), None);
    }

    #[test]
    fn postures_change_at_the_angles_of_their_sectors() {
        let tilted = |deg: f64| posture(0.0, deg.to_radians().cos(), deg.to_radians().sin());
        assert_eq!((tilted(59.0), tilted(61.0)), (Some(Posture::Upright), Some(Posture::Supine)));
        assert_eq!((tilted(119.0), tilted(121.0)), (Some(Posture::Supine), Some(Posture::Inverted)));
        let rolled = |deg: f64| posture(-deg.to_radians().sin(), 0.0, deg.to_radians().cos());
        for (deg, expected) in [
            (44.0, Posture::Supine),
            (46.0, Posture::LeftLateral),
            (134.0, Posture::LeftLateral),
            (136.0, Posture::Prone),
            (224.0, Posture::Prone),
            (226.0, Posture::RightLateral),
            (314.0, Posture::RightLateral),
            (316.0, Posture::Supine),
        ] {
            assert_eq!(rolled(deg), Some(expected), "{deg}");
        }
    }
}
