//! Mean arterial pressure of a cuff's two pressures.
//!
//! Source: (systolic + 2 · diastolic) / 3, Bos et al., J Hypertens 2007;25:751 for its limits; below 65 mmHg organs want blood: Surviving
//! Sepsis Campaign, Evans et al., Intensive Care Med 2021;47:1181. Unit: `mm[Hg]`.

use super::{Author, Latest, Rule, Watch};
use crate::{
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Person},
};

/// Below this, medium, mmHg. Source: Evans et al. 2021.
const LOW_MMHG: f64 = 65.0;
/// The two pressures of one measurement are at most this far apart, in milliseconds.
const PAIR_MS_MAX: u64 = 1_000;

/// The mean of a systolic and a diastolic pressure in mmHg; nothing where the systolic is not the higher one.
pub fn mean_arterial_pressure(systolic_mmhg: f64, diastolic_mmhg: f64) -> Option<f64> {
    let measured = diastolic_mmhg > 0.0 && systolic_mmhg > diastolic_mmhg && systolic_mmhg.is_finite();
    measured.then(|| (systolic_mmhg + 2.0 * diastolic_mmhg) / 3.0)
}

pub(super) const RULE: Rule = Rule {
    id: "mean-arterial-pressure",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Mean arterial pressure",
    source: "Bos et al. 2007; Evans et al. 2021",
    codes: &[("http://loinc.org", "8478-0", "Mean blood pressure")],
    parameters: || vec![("low_mmhg".into(), LOW_MMHG), ("pair_ms_max".into(), PAIR_MS_MAX as f64)],
    start: |rule, _: &Person| {
        let (systolic, diastolic) = (Latest::new(PAIR_MS_MAX), Latest::new(PAIR_MS_MAX));
        Box::new(Mean { author: Author::of(rule), systolic, diastolic })
    },
};

#[derive(Debug)]
struct Mean {
    author: Author,
    systolic: Latest<f64>,
    diastolic: Latest<f64>,
}

impl Watch for Mean {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        match input.signal {
            "nibp-sys" => self.systolic.set(input.value.number(), input),
            "nibp-dia" => self.diastolic.set(input.value.number(), input),
            _ => return,
        }
        let (Some(systolic), Some(diastolic)) = (self.systolic.get(input.at), self.diastolic.get(input.at)) else {
            return;
        };
        // Each pressure counts once.
        self.systolic.set(None, input);
        self.diastolic.set(None, input);
        let Some(value) = mean_arterial_pressure(systolic.0, diastolic.0) else { return };
        let (from, until) = (systolic.1.min(diastolic.1), systolic.1.max(diastolic.1));
        let mut inputs = vec![systolic.2];
        if diastolic.2 != systolic.2 {
            inputs.push(diastolic.2);
        }
        out.push(Finding {
            severity: if value < LOW_MMHG { Severity::Medium } else { Severity::None },
            measures: vec![Measure { name: "mean-pressure", value, unit: "mm[Hg]" }],
            ..self.author.finding(from, until, inputs)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Measured;
    use record::{TimeMs, sha256};

    fn check(values: &[(u64, &str, f64)]) -> Vec<(f64, Severity)> {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        for &(at_ms, signal, value) in values {
            let input = Input { frame: sha256(&[]), signal, at: TimeMs(at_ms), value: Measured::Number(value) };
            watch.take(&input, &mut out);
        }
        out.iter().map(|finding| (finding.measures[0].value, finding.severity)).collect()
    }

    #[test]
    fn the_mean_lies_a_third_above_the_diastolic_pressure() {
        assert_eq!(check(&[(0, "nibp-sys", 120.0), (0, "nibp-dia", 75.0)]), [(90.0, Severity::None)]);
        assert_eq!(check(&[(0, "nibp-dia", 50.0), (0, "nibp-sys", 95.0)]), [(65.0, Severity::None)]);
        assert_eq!(check(&[(0, "nibp-dia", 49.0), (0, "nibp-sys", 94.0)]), [(64.0, Severity::Medium)]);
    }

    #[test]
    fn pressures_of_two_measurements_make_no_mean() {
        assert_eq!(check(&[(0, "nibp-sys", 120.0), (1_001, "nibp-dia", 75.0)]), []);
        assert_eq!(check(&[(0, "nibp-sys", 120.0), (0, "nibp-dia", f64::NAN)]), []);
        assert_eq!(check(&[(0, "nibp-sys", 70.0), (0, "nibp-dia", 75.0)]), []);
        assert_eq!(mean_arterial_pressure(120.0, 0.0), None);
    }

    #[test]
    fn one_pressure_is_never_used_twice() {
        let values = [(0, "nibp-sys", 120.0), (0, "nibp-dia", 75.0), (500, "nibp-dia", 60.0)];
        assert_eq!(check(&values).len(), 1);
    }
}
