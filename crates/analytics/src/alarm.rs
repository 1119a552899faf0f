//! One alarm: from a condition that comes and goes to what a person hears.
//!
//! Source: IEC 60601-1-8. The *condition delay* passes between the condition's beginning and the alarm system taking it as an
//! alarm; the *generation delay* between that and the signal. A *latching* alarm sounds until it is acknowledged.

use crate::finding::AlarmChange;
use record::TimeMs;

/// How an alarm behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmSpec {
    /// Condition delay, in milliseconds.
    pub condition_delay_ms: u64,
    /// Generation delay, in milliseconds.
    pub generation_delay_ms: u64,
    /// How long the condition must be gone before a non-latching alarm ends, in milliseconds: values at the limit do not chatter.
    pub clear_delay_ms: u64,
    /// Whether it sounds until it is acknowledged.
    pub latching: bool,
}

/// Where an alarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// No condition.
    Quiet,
    /// The condition is there, its delays are not over.
    Pending {
        /// Since when.
        since: TimeMs,
    },
    /// It sounds.
    Sounding {
        /// Since when the condition was there.
        since: TimeMs,
        /// Since when the condition has been gone, if it is.
        gone_since: Option<TimeMs>,
        /// Whether somebody took notice: the sound is off, the light is on.
        acknowledged: bool,
    },
}

/// What a step changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmStep {
    /// It begins to sound.
    Raised {
        /// Since when the condition was there.
        since: TimeMs,
    },
    /// It is over.
    Ended {
        /// Since when the condition was there.
        since: TimeMs,
    },
    /// Somebody took notice.
    Acknowledged {
        /// Since when the condition was there.
        since: TimeMs,
    },
}

impl AlarmStep {
    /// Since when the condition was there, and the change as a finding tells it; `by` took notice.
    pub(crate) fn told(self, by: Option<&str>) -> (TimeMs, AlarmChange) {
        match self {
            Self::Raised { since } => (since, AlarmChange::Raised),
            Self::Ended { since } => (since, AlarmChange::Ended),
            Self::Acknowledged { since } => {
                (since, AlarmChange::Acknowledged { by: by.unwrap_or_default().to_owned() })
            }
        }
    }
}

impl AlarmState {
    /// The condition is there or not at `at`. Gives the state after, and what changed.
    pub fn observe(self, spec: &AlarmSpec, at: TimeMs, condition: bool) -> (Self, Option<AlarmStep>) {
        let sounds_from = |since: TimeMs| since.plus_ms(spec.condition_delay_ms).plus_ms(spec.generation_delay_ms);
        match (self, condition) {
            (Self::Quiet, false) | (Self::Pending { .. }, false) => (Self::Quiet, None),
            (Self::Quiet, true) => Self::Pending { since: at }.observe(spec, at, true),
            (Self::Pending { since }, true) if at >= sounds_from(since) => {
                (Self::Sounding { since, gone_since: None, acknowledged: false }, Some(AlarmStep::Raised { since }))
            }
            (Self::Pending { .. }, true) => (self, None),
            (Self::Sounding { since, acknowledged, .. }, true) => {
                (Self::Sounding { since, gone_since: None, acknowledged }, None)
            }
            (Self::Sounding { since, gone_since, acknowledged }, false) => {
                let gone = gone_since.unwrap_or(at);
                let silent = acknowledged || !spec.latching;
                if silent && at >= gone.plus_ms(spec.clear_delay_ms) {
                    (Self::Quiet, Some(AlarmStep::Ended { since }))
                } else {
                    (Self::Sounding { since, gone_since: Some(gone), acknowledged }, None)
                }
            }
        }
    }

    /// Somebody took notice. Only a sounding alarm that nobody acknowledged yet changes.
    pub fn acknowledge(self) -> (Self, Option<AlarmStep>) {
        match self {
            Self::Sounding { since, gone_since, acknowledged: false } => {
                (Self::Sounding { since, gone_since, acknowledged: true }, Some(AlarmStep::Acknowledged { since }))
            }
            _ => (self, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Runs seconds of a condition (`x` there, `.` gone, `a` gone and acknowledged, `A` there and acknowledged).
    fn check(latching: bool, seconds: &str, expect: Expect) {
        let spec = AlarmSpec { condition_delay_ms: 2_000, generation_delay_ms: 1_000, clear_delay_ms: 2_000, latching };
        let mut state = AlarmState::Quiet;
        let mut out = String::new();
        for (second, mark) in seconds.chars().enumerate() {
            let at = TimeMs(second as u64 * 1_000);
            let mut note = |step: Option<AlarmStep>| match step {
                Some(AlarmStep::Raised { since }) => {
                    out += &format!("{second} raised, condition since {}\n", since.0 / 1_000)
                }
                Some(AlarmStep::Ended { .. }) => out += &format!("{second} ended\n"),
                Some(AlarmStep::Acknowledged { .. }) => out += &format!("{second} acknowledged\n"),
                None => {}
            };
            let (next, step) = state.observe(&spec, at, mark == 'x' || mark == 'A');
            note(step);
            state = next;
            if mark.eq_ignore_ascii_case(&'a') {
                let (next, step) = state.acknowledge();
                note(step);
                state = next;
            }
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn a_condition_shorter_than_its_delays_never_sounds() {
        check(true, "xxx.xxx...", expect![""]);
    }

    #[test]
    fn a_condition_that_stays_sounds_after_both_delays() {
        check(
            false,
            ".xxxxxx",
            expect![[r#"
            4 raised, condition since 1
        "#]],
        );
    }

    #[test]
    fn a_plain_alarm_ends_when_its_condition_has_been_gone_for_a_while() {
        check(
            false,
            "xxxx.x..xx...",
            expect![[r#"
            3 raised, condition since 0
            12 ended
        "#]],
        );
    }

    #[test]
    fn a_latching_alarm_sounds_until_somebody_takes_notice() {
        check(
            true,
            "xxxx.......a.",
            expect![[r#"
            3 raised, condition since 0
            11 acknowledged
            12 ended
        "#]],
        );
    }

    #[test]
    fn an_acknowledged_alarm_stays_while_its_condition_does() {
        check(
            true,
            "xxxxAAxxx....",
            expect![[r#"
            3 raised, condition since 0
            4 acknowledged
            11 ended
        "#]],
        );
    }

    #[test]
    fn nothing_to_acknowledge_changes_nothing() {
        check(true, "a.aA", expect![""]);
    }
}
