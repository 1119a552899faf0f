//! Parameters of the detector, and every other number that decides what it finds.

use super::{
    LEVELS, class,
    shape::{COARSE, SAME_SHAPE, SHAPE_SHARE, SHAPES, SHIFT},
};

/// Parameters of the detector: times in seconds, one deflection in mV, the rest shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QrsParameters {
    /// Width of each of two averages that remove mains hum and muscle noise.
    pub smooth_s: f64,
    /// Width of the average that is taken as the baseline.
    pub baseline_s: f64,
    /// Distance of the two samples whose difference is the slope.
    pub slope_s: f64,
    /// Width of the average over slopes.
    pub energy_s: f64,
    /// A peak of the energy is over at the latest this long after its top.
    pub fall_s: f64,
    /// How far from the middle of the energy the complex may peak.
    pub reach_s: f64,
    /// How long a peak waits for a larger one.
    pub wait_s: f64,
    /// No heart beats again within this time.
    pub refractory_s: f64,
    /// How far after a beat a T wave can come.
    pub t_wave_s: f64,
    /// A T wave's steepest slope is below this share of its beat's.
    pub t_wave_slope: f64,
    /// Where the threshold lies between noise and beats.
    pub threshold: f64,
    /// The share of the threshold that suffices when searching back.
    pub search_threshold: f64,
    /// After this many usual intervals without a beat, search back.
    pub search_after: f64,
    /// A beat is found by searching back at most so long after it was.
    pub late_s: f64,
    /// How much of a complex on each side of its peak is compared with others.
    pub shape_s: f64,
    /// The correlation at which the threshold stands as it is.
    pub likeness: f64,
    /// The least factor of the threshold, for peaks like the usual complexes.
    pub doubt_min: f64,
    /// The greatest factor of the threshold, for peaks unlike them.
    pub doubt_max: f64,
    /// From this share of the usual interval on, a beat is due.
    pub due_after: f64,
    /// The greatest factor of the threshold when a beat is due.
    pub doubt_due: f64,
    /// How long the first levels are learnt; up to twice as long while one peak is alone.
    pub learn_s: f64,
    /// From this share of the largest peak on, another one is no noise beside it.
    pub alone: f64,
    /// From this share on, it is at least not certain to be noise.
    pub noise: f64,
    /// The least deflection of a beat in the filtered lead, which passes about half. Source: IEC 60601-2-27 has monitors pass over complexes
    /// of 0.15 mV and less.
    pub deflection_mv: f64,
}

impl QrsParameters {
    /// The parameters that findings are made with.
    pub const STANDARD: Self = Self {
        smooth_s: 1.0 / 60.0,
        baseline_s: 0.125,
        slope_s: 0.011,
        energy_s: 0.085,
        fall_s: 0.095,
        reach_s: 0.06,
        wait_s: 0.18,
        refractory_s: 0.2,
        t_wave_s: 0.36,
        t_wave_slope: 0.5,
        threshold: 0.3125,
        search_threshold: 0.5,
        search_after: 1.8,
        late_s: 2.0,
        shape_s: 0.13,
        likeness: 0.9,
        doubt_min: 1.0,
        doubt_max: 3.0,
        due_after: 0.85,
        doubt_due: 1.0,
        learn_s: 2.0,
        alone: 0.3,
        noise: 0.1,
        deflection_mv: 0.05,
    };

    /// Every parameter by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("smooth_s", self.smooth_s),
            ("baseline_s", self.baseline_s),
            ("slope_s", self.slope_s),
            ("energy_s", self.energy_s),
            ("fall_s", self.fall_s),
            ("reach_s", self.reach_s),
            ("wait_s", self.wait_s),
            ("refractory_s", self.refractory_s),
            ("t_wave_s", self.t_wave_s),
            ("t_wave_slope", self.t_wave_slope),
            ("threshold", self.threshold),
            ("search_threshold", self.search_threshold),
            ("search_after", self.search_after),
            ("late_s", self.late_s),
            ("shape_s", self.shape_s),
            ("likeness", self.likeness),
            ("doubt_min", self.doubt_min),
            ("doubt_max", self.doubt_max),
            ("due_after", self.due_after),
            ("doubt_due", self.doubt_due),
            ("learn_s", self.learn_s),
            ("alone", self.alone),
            ("noise", self.noise),
            ("deflection_mv", self.deflection_mv),
            ("levels", LEVELS as f64),
            ("shapes", SHAPES as f64),
            ("shape_share", SHAPE_SHARE),
            ("shape_shift", SHIFT as f64),
            ("shape_coarse", COARSE as f64),
            ("same_shape", SAME_SHAPE),
        ]
        .into_iter()
        .chain(class::PARAMETERS)
    }
}
