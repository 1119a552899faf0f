//! What should have been an alarm, from what people marked: beats and rhythms.
//!
//! Limits are those of the rules themselves: this measures how well they are told in a signal, not where they lie.

use crate::command::analyze::labels::Labels;
use analytics::{Rule, reference::LabelClass};

/// Intervals that a rate is the mean of, as in the rule.
const INTERVALS: usize = 8;

/// A kind of alarm and when it is right.
pub(super) struct Kind {
    /// The alarm's name.
    pub(super) alarm: &'static str,
    /// An event shorter than this is not missed when there is no alarm, in seconds.
    pub(super) least_s: f64,
    /// An alarm this late is in time, in seconds.
    pub(super) late_s: f64,
    /// The events of a recording; nothing where its labels cannot tell.
    pub(super) events: fn(&Labels, f64) -> Option<Events>,
}

/// When something was there.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Events {
    /// From when until when, in seconds: there should be an alarm.
    pub(super) there: Vec<(f64, f64)>,
    /// Here an alarm is right too, and none is not missed.
    pub(super) allowed: Vec<(f64, f64)>,
}

/// The alarms that labels tell about.
///
/// Delays: ten seconds, IEC 60601-2-27:2011, 201.12.1.101.15 (time to alarm for standstill and a fast heart), taken for the others too; fibrillation of the atria counts
/// from half a minute on (ESC guideline 2020), and may take as long to be told.
pub(super) const KINDS: [Kind; 6] = [
    Kind { alarm: "asystole", least_s: 4.0, late_s: 10.0, events: standstill },
    Kind { alarm: "ventricular-fibrillation", least_s: 4.0, late_s: 10.0, events: ventricular_fibrillation },
    Kind { alarm: "ventricular-tachycardia", least_s: 0.0, late_s: 10.0, events: ventricular_tachycardia },
    Kind { alarm: "bradycardia", least_s: 5.0, late_s: 10.0, events: bradycardia },
    Kind { alarm: "tachycardia", least_s: 5.0, late_s: 10.0, events: tachycardia },
    Kind { alarm: "atrial-fibrillation-suspected", least_s: 30.0, late_s: 30.0, events: atrial_fibrillation },
];

/// A parameter of a rule by its name.
fn parameter(rule: &str, name: &str) -> Option<f64> {
    let rule = Rule::find(rule)?;
    (rule.parameters)().into_iter().find(|(of, _)| of == name).map(|(_, value)| value)
}

fn times_s(labels: &Labels) -> Option<Vec<f64>> {
    (!labels.beats.is_empty()).then(|| labels.beats.iter().map(|label| label.sample as f64 / labels.rate_hz).collect())
}

fn standstill(labels: &Labels, _: f64) -> Option<Events> {
    let pause_s = parameter("asystole", "pause_ms")? / 1_000.0;
    let times_s = times_s(labels)?;
    let pauses = times_s.windows(2).filter(|pair| pair[1] - pair[0] >= pause_s).map(|pair| (pair[0], pair[1]));
    Some(Events { there: pauses.collect(), ..Events::default() })
}

fn ventricular_fibrillation(labels: &Labels, end_s: f64) -> Option<Events> {
    let is_meant = |rhythm: &str| matches!(rhythm, "VFL" | "VF" | "VFIB");
    (!labels.rhythms.is_empty()).then(|| Events { there: labels.stretches_s(is_meant, end_s), ..Events::default() })
}

fn atrial_fibrillation(labels: &Labels, end_s: f64) -> Option<Events> {
    (!labels.rhythms.is_empty()).then(|| Events {
        there: labels.stretches_s(|rhythm| rhythm == "AFIB", end_s),
        // Flutter of the atria is the same danger; a regular one cannot be told from its beats.
        allowed: labels.stretches_s(|rhythm| rhythm == "AFL", end_s),
    })
}

fn ventricular_tachycardia(labels: &Labels, end_s: f64) -> Option<Events> {
    let beats_min = parameter("ventricular-tachycardia", "beats_min")? as usize;
    let per_min = parameter("ventricular-tachycardia", "rate_per_min")?;
    let times_s = times_s(labels)?;
    let runs = |is_meant: fn(LabelClass) -> bool| {
        let mut out = Vec::new();
        let mut from = 0;
        while from < labels.beats.len() {
            let length = labels.beats[from..].iter().take_while(|label| is_meant(label.class)).count();
            let is_long = length >= beats_min.max(2);
            if is_long {
                let (first, last) = (times_s[from], times_s[from + length - 1]);
                // Fast from some beat on, as the rule has it: a run that begins slowly counts as soon as its mean is above.
                let fast = (beats_min.max(2)..=length)
                    .any(|n| 60.0 * (n - 1) as f64 / (times_s[from + n - 1] - first).max(1e-3) > per_min);
                out.extend(fast.then_some((first, last)));
            }
            from += length.max(1);
        }
        out
    };
    // A fusion beat comes from the ventricles in part: nobody is wrong who counts it.
    let mut allowed = runs(|class| matches!(class, LabelClass::Ventricular | LabelClass::Fusion));
    allowed.extend(labels.stretches_s(|rhythm| rhythm == "VT", end_s));
    Some(Events { there: runs(|class| class == LabelClass::Ventricular), allowed })
}

fn bradycardia(labels: &Labels, _: f64) -> Option<Events> {
    let limit = parameter("ecg-rate-alarms", "low_per_min")?;
    rate_events(labels, &|per_min| per_min <= limit)
}

fn tachycardia(labels: &Labels, _: f64) -> Option<Events> {
    let limit = parameter("ecg-rate-alarms", "high_per_min")?;
    rate_events(labels, &|per_min| per_min >= limit)
}

/// When the mean rate of the last intervals was beyond a limit, in seconds.
fn rate_events(labels: &Labels, is_beyond: &dyn Fn(f64) -> bool) -> Option<Events> {
    let times_s = times_s(labels)?;
    let mut there: Vec<(f64, f64)> = Vec::new();
    let mut goes_on = false;
    for window in times_s.windows(INTERVALS + 1) {
        let (first, last, at_s) = (window[0], window[INTERVALS], window[INTERVALS]);
        let beyond = is_beyond(60.0 * INTERVALS as f64 / (last - first).max(1e-3));
        match there.last_mut() {
            Some(event) if beyond && goes_on => event.1 = at_s,
            _ if beyond => there.push((at_s, at_s)),
            _ => {}
        }
        goes_on = beyond;
    }
    Some(Events { there, ..Events::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use analytics::reference::Label;

    /// Beats by class and interval in tenths of a second: `N8` comes 0.8 s after the one before.
    fn labels(beats: &str) -> Labels {
        let mut sample = 0;
        let beats = beats.split(' ').map(|beat| {
            let (symbol, tenths) = beat.split_at(1);
            sample += tenths.parse::<u64>().unwrap();
            Label { sample, class: LabelClass::of_symbol(symbol.chars().next().unwrap()).unwrap() }
        });
        let beats = beats.collect();
        Labels { rate_hz: 10.0, beats, ..Labels::default() }
    }

    #[test]
    fn events_are_those_of_the_labels_by_the_limits_of_the_rules() {
        let of = |events: fn(&Labels, f64) -> Option<Events>, beats: &str| events(&labels(beats), 100.0).unwrap();
        assert_eq!(of(standstill, "N10 N39 N10 N40 N5").there, [(5.9, 9.9)]);
        assert_eq!(of(ventricular_tachycardia, "N8 V4 V4 V4 N8").there, [(1.2, 2.0)]);
        assert_eq!(of(ventricular_tachycardia, "N8 V4 V7 V7 N8 V4 V4 N8").there, []);
        let fusion = of(ventricular_tachycardia, "N8 V4 V4 F4 N8");
        assert_eq!((fusion.there, fusion.allowed), (vec![], vec![(1.2, 2.0)]));
        let slow = ["N16"; 12].join(" ");
        assert_eq!(of(bradycardia, &slow).there, [(14.4, 19.2)]);
        assert_eq!(of(tachycardia, &slow).there, []);
        assert_eq!(of(tachycardia, &["N4"; 9].join(" ")).there, [(3.6, 3.6)]);
    }

    #[test]
    fn labels_without_rhythms_say_nothing_about_fibrillation() {
        let beats = labels("N8 N8");
        assert_eq!((atrial_fibrillation(&beats, 9.0), ventricular_fibrillation(&beats, 9.0)), (None, None));
        assert_eq!(standstill(&Labels::default(), 9.0), None);
        let marked = Labels { rhythms: vec![(0, "AFIB".to_owned()), (50, "AFL".to_owned())], ..beats };
        let events = Events { there: vec![(0.0, 5.0)], allowed: vec![(5.0, 9.0)] };
        assert_eq!(atrial_fibrillation(&marked, 9.0), Some(events));
    }

    #[test]
    fn every_kind_is_an_alarm_with_limits_that_are_there() {
        let beats = Labels { rhythms: vec![(0, "N".to_owned())], ..labels("N8 N8 N8") };
        for kind in KINDS {
            assert!((kind.events)(&beats, 9.0).is_some(), "{}", kind.alarm);
        }
    }
}
