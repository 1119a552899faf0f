//! When findings are written: how often those of one rule about one signal, and which of them wait for their turn.

use analytics::{Finding, Severity};
use record::{TimeMs, sha256};
use std::collections::BTreeMap;

/// Findings of one rule about one signal are written at most once in so many milliseconds of signal, unless they are more serious. What comes
/// in between can be computed again from the frames, which are all kept: written every five seconds, the findings about 200 patients were more
/// than a machine of two processors could write beside them, and alarms waited.
const WRITTEN_EVERY_MS: u64 = 60_000;
/// That it is less serious than before is written after so many milliseconds: values at a limit do not chatter.
const EASED_AFTER_MS: u64 = 15_000;
/// NEWS2 moves with every value at a boundary: at most once in so many milliseconds.
const NEWS2_WRITTEN_EVERY_MS: u64 = 15_000;

/// Rules that find something about every patient at the same moment, at whole minutes: what is not serious of theirs takes its turn.
const AT_WHOLE_MINUTES: [&str; 3] = ["window-summary", "hospital-mortality", "next-hour-forecast"];

/// Whether a finding is written, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It says little more than the one before, and can be computed again.
    Not,
    /// Somebody may wait for it.
    AtOnce,
    /// Spread out, among the others of the same patient.
    InTurn,
}

/// When a finding of each rule and signal of a patient was last written, and how serious it was.
pub(super) struct Cadence {
    patient: String,
    last: BTreeMap<(&'static str, Option<String>), (TimeMs, Severity)>,
}

impl Cadence {
    pub(super) fn of(patient: &str) -> Self {
        Self { patient: patient.to_owned(), last: BTreeMap::new() }
    }

    /// How much earlier than usual the second finding of a rule and signal is written. All begin with the patient's first reading, and
    /// a department's with the start of its gateway: in the same second of every minute hundreds of findings would be written, and alarms
    /// wait behind them.
    fn lead_ms(&self, (rule, signal): &(&'static str, Option<String>), every_ms: u64) -> u64 {
        let signal = signal.as_deref().unwrap_or_default();
        let [one, two, ..] = sha256(&[self.patient.as_bytes(), b"/", rule.as_bytes(), b"/", signal.as_bytes()]).0;
        u64::from(u16::from_be_bytes([one, two])) % (every_ms * 3 / 4)
    }

    /// Whether a finding is to be written, and when. Alarms are at once, and so is what is more or less serious than before.
    pub(super) fn due(&mut self, finding: &Finding) -> Due {
        if finding.alarm.is_some() {
            return Due::AtOnce;
        }
        let every_ms = if finding.rule == "news2" { NEWS2_WRITTEN_EVERY_MS } else { WRITTEN_EVERY_MS };
        let key = (finding.rule, finding.signal.clone());
        let last = self.last.get(&key).copied();
        let is_due = last.is_none_or(|(at, severity)| {
            let since_ms = finding.until.0.saturating_sub(at.0);
            finding.severity > severity
                || since_ms >= every_ms
                || (finding.severity < severity && since_ms >= EASED_AFTER_MS)
                || finding.until < at
        });
        if !is_due {
            return Due::Not;
        }
        let lead_ms = if last.is_some() { 0 } else { self.lead_ms(&key, every_ms) };
        self.last.insert(key, (TimeMs(finding.until.0.saturating_sub(lead_ms)), finding.severity));
        match last {
            Some((_, severity)) if severity == finding.severity => Due::InTurn,
            None if AT_WHOLE_MINUTES.contains(&finding.rule) && finding.severity == Severity::None => Due::InTurn,
            _ => Due::AtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::findings, *};

    #[test]
    fn a_finding_is_written_again_when_it_is_due_or_more_serious() {
        let heart_rate = findings().into_iter().find(|finding| finding.rule == "ecg-heart-rate").unwrap();
        let mut cadence = Cadence::of("p1");
        let mut check = |ms: u64, severity, expected| {
            let finding = Finding { until: TimeMs(1_000_000 + ms), severity, ..heart_rate.clone() };
            assert_eq!(cadence.due(&finding), expected, "{ms} {severity:?}");
        };
        check(0, Severity::None, Due::AtOnce);
        check(1_000, Severity::None, Due::Not);
        check(2_000, Severity::Medium, Due::AtOnce);
        check(3_000, Severity::Medium, Due::Not);
        check(7_000, Severity::None, Due::Not);
        check(17_000, Severity::None, Due::AtOnce);
        check(76_000, Severity::None, Due::Not);
        check(77_000, Severity::None, Due::InTurn);
    }

    #[test]
    fn findings_that_begin_together_are_not_written_in_the_same_second_of_every_minute() {
        let heart_rate = findings().into_iter().find(|finding| finding.rule == "ecg-heart-rate").unwrap();
        let mut seconds = BTreeMap::new();
        for patient in 0..200 {
            let mut cadence = Cadence::of(&format!("p{patient}"));
            let at = |second: u64| Finding { until: TimeMs(1_000_000 + second * 1_000), ..heart_rate.clone() };
            assert_eq!(cadence.due(&at(0)), Due::AtOnce, "the first is");
            let again: Vec<u64> = (1..200).filter(|second| cadence.due(&at(*second)) == Due::InTurn).collect();
            assert!(again[0] >= 15 && again.windows(2).all(|two| two[1] - two[0] == 60), "{again:?}");
            *seconds.entry(again[0]).or_insert(0) += 1;
        }
        assert!(seconds.values().all(|together| *together < 20), "{seconds:?}");
    }

    #[test]
    fn what_is_found_about_everybody_at_whole_minutes_takes_its_turn_unless_it_is_serious() {
        let summary = findings().into_iter().find(|finding| finding.rule == "window-summary").unwrap();
        let due = |severity| Cadence::of("p1").due(&Finding { severity, ..summary.clone() });
        assert_eq!([due(Severity::None), due(Severity::Low)], [Due::InTurn, Due::AtOnce]);
    }
}
