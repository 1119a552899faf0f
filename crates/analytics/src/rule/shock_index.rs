//! Shock index: heart rate over systolic pressure.
//!
//! Source: Allgöwer and Burri, Dtsch Med Wochenschr 1967;92:1947. Rady et al., Ann Emerg Med 1994;24:685: 0.5 to 0.7 is normal, and with more than 0.9 people
//! whose vital signs seemed stable needed treatment at once.

use super::{Author, Latest, Rule, Watch};
use crate::{
    finding::{Finding, Kind, Measure, Severity},
    input::{Input, Person},
};

/// From here on, an alert. Source: Rady et al. 1994, who part their patients at 0.9; the value itself counts as an alert here.
const ALERT: f64 = 0.9;
/// How long a heart rate counts, in seconds.
const RATE_VALID_S: u64 = 60;

pub(super) const RULE: Rule = Rule {
    id: "shock-index",
    version: 1,
    kind: Kind::Diagnostic,
    title: "Shock index",
    source: "Allgöwer and Burri 1967; Rady et al. 1994",
    codes: &[("https://vitaltrace.org/fhir/CodeSystem/rule", "shock-index", "Shock index")],
    parameters: || vec![("alert".into(), ALERT), ("rate_valid_s".into(), RATE_VALID_S as f64)],
    start: |rule, _: &Person| {
        Box::new(ShockIndex { author: Author::of(rule), rate: Latest::new(RATE_VALID_S * 1_000) })
    },
};

#[derive(Debug)]
struct ShockIndex {
    author: Author,
    rate: Latest<f64>,
}

impl Watch for ShockIndex {
    fn take(&mut self, input: &Input<'_>, out: &mut Vec<Finding>) {
        match input.signal {
            "heart-rate" => self.rate.set(input.value.number().filter(|rate| *rate > 0.0), input),
            "nibp-sys" => {
                let Some(systolic) = input.value.number().filter(|mmhg| *mmhg > 0.0) else { return };
                let Some((rate, at, frame)) = self.rate.get(input.at) else { return };
                let index = rate / systolic;
                let mut inputs = vec![frame];
                if frame != input.frame {
                    inputs.push(input.frame);
                }
                out.push(Finding {
                    severity: if index >= ALERT { Severity::Medium } else { Severity::None },
                    measures: vec![Measure { name: "shock-index", value: index, unit: "{ratio}" }],
                    ..self.author.finding(at.min(input.at), input.at, inputs)
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Measured;
    use record::{TimeMs, sha256};

    fn check(rate: f64, systolic: f64, later_s: u64) -> Option<(f64, Severity)> {
        let mut watch = (RULE.start)(&RULE, &Person::default());
        let mut out = Vec::new();
        let frame = sha256(&[]);
        watch.take(&Input { frame, signal: "heart-rate", at: TimeMs(0), value: Measured::Number(rate) }, &mut out);
        let at = TimeMs(later_s * 1_000);
        watch.take(&Input { frame, signal: "nibp-sys", at, value: Measured::Number(systolic) }, &mut out);
        out.first().map(|finding| (finding.measures[0].value, finding.severity))
    }

    #[test]
    fn an_index_of_nine_tenths_alerts() {
        assert_eq!(check(90.0, 100.0, 0), Some((0.9, Severity::Medium)));
        assert_eq!(check(89.0, 100.0, 60), Some((0.89, Severity::None)));
    }

    #[test]
    fn without_a_recent_rate_there_is_no_index() {
        assert_eq!(check(90.0, 100.0, 61), None);
        assert_eq!(check(f64::NAN, 100.0, 0), None);
        assert_eq!(check(90.0, 0.0, 0), None);
    }
}
