//! The ECG as rules see it: one lead followed, its beats found and classed, its quality known.
//!
//! Rules do not look for beats themselves: what they are told here is found once. Lead II is followed, or the first one seen without it,
//! as long as it can be trusted; when it cannot and another one can, that is followed instead.

use crate::{
    input::{Input, Measured},
    qrs::{BeatClass, Qrs, QrsParameters, RATES_HZ},
    quality::{self, Gates, Quality, WINDOW_S},
};
use record::{Digest, TimeMs};
use std::collections::BTreeMap;

/// The lead that is preferred. Source: rhythm leads, AHA/ACC/HRS, Kligfield et al., Circulation 2007;115:1306.
const LEAD: &str = "ecg-ii";
/// A stretch that begins further than this from the end of the one before starts the detector anew, in milliseconds.
const SEAM_MS_MAX: u64 = 20;
/// The most leads of one patient that are judged: a standard ECG has twelve, and some have right and posterior ones.
const LEADS_MAX: usize = 18;
/// A lead that says nothing for so long is gone, in milliseconds.
const SILENT_MS: u64 = 10_000;

/// What decides about beats and their quality, by its name: part of the model of every rule that is told them.
pub(crate) fn parameters() -> Vec<(String, f64)> {
    let mut out: Vec<(String, f64)> = vec![
        ("ecg.seam_ms_max".into(), SEAM_MS_MAX as f64),
        ("ecg.leads_max".into(), LEADS_MAX as f64),
        ("ecg.silent_ms".into(), SILENT_MS as f64),
    ];
    out.extend(QrsParameters::STANDARD.named().map(|(name, value)| (format!("qrs.{name}"), value)));
    out.extend(quality::PARAMETERS.map(|(name, value)| (name.to_owned(), value)));
    out
}

/// A beat of the followed lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heard {
    /// When the complex peaks.
    pub(crate) at: TimeMs,
    /// Since the beat before, where there is one and nothing is missing between.
    pub(crate) interval_s: Option<f64>,
    pub(crate) class: BeatClass,
    /// Correlation with the most like complexes before.
    pub(crate) likeness: f64,
}

/// What one input of the followed lead brought.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// The lead's name.
    pub(crate) lead: &'a str,
    pub(crate) frame: Digest,
    /// Samples per second.
    pub(crate) rate_hz: f64,
    /// Nothing before counts: samples are missing, or another lead was followed.
    pub(crate) began: bool,
    /// The time of the first sample.
    pub(crate) from: TimeMs,
    /// The time after the last sample.
    pub(crate) until: TimeMs,
    pub(crate) values: &'a [f64],
    /// The beats that became certain, in their order.
    pub(crate) beats: &'a [Heard],
    pub(crate) quality: &'a Quality,
}

/// A lead as far as every lead is looked at.
#[derive(Debug)]
struct Judged {
    rate_hz: f64,
    until: TimeMs,
    quality: Quality,
}

/// The lead that is followed.
#[derive(Debug)]
struct Followed {
    name: String,
    rate_hz: f64,
    qrs: Box<Qrs>,
    began_at: TimeMs,
    samples: u64,
    last_beat: Option<u64>,
    beats: Vec<Heard>,
}

impl Followed {
    fn new(input: &Input<'_>, rate_hz: f64) -> Option<Self> {
        let qrs = Box::new(Qrs::new(rate_hz, QrsParameters::STANDARD)?);
        let name = input.signal.to_owned();
        Some(Self { name, rate_hz, qrs, began_at: input.at, samples: 0, last_beat: None, beats: Vec::new() })
    }

    fn time_of(&self, sample: u64) -> TimeMs {
        self.began_at.plus_ms((sample as f64 * 1_000.0 / self.rate_hz).round() as u64)
    }

    fn take(&mut self, values: &[f64], quality: &mut Quality) {
        self.beats.clear();
        for &value in values {
            if let Some(beat) = self.qrs.push(value) {
                let before = self.last_beat.filter(|before| *before < beat.sample);
                if self.last_beat.is_some() {
                    quality.beat(beat.likeness);
                }
                self.beats.push(Heard {
                    at: self.time_of(beat.sample),
                    interval_s: before.map(|before| (beat.sample - before) as f64 / self.rate_hz),
                    class: beat.class,
                    likeness: beat.likeness,
                });
                self.last_beat = Some(beat.sample);
            }
        }
        self.samples += values.len() as u64;
    }
}

/// The leads of one patient.
#[derive(Debug, Default)]
pub(crate) struct Ecg {
    leads: BTreeMap<String, Judged>,
    followed: Option<Followed>,
    gates: Gates,
}

impl Ecg {
    /// Leads of which every second counts as good.
    pub(crate) fn ungated() -> Self {
        Self { gates: Gates::Open, ..Self::default() }
    }

    /// Takes an input. Gives what it brought, if it is of the followed lead.
    pub(crate) fn take<'a>(&'a mut self, input: &Input<'a>) -> Option<Stretch<'a>> {
        let Measured::Wave { rate_hz, values } = input.value else { return None };
        if !input.signal.starts_with("ecg-") || !RATES_HZ.contains(&rate_hz) {
            return None;
        }
        let until = input.at.plus_ms((values.len() as f64 * 1_000.0 / rate_hz).round() as u64);
        let known = self.leads.contains_key(input.signal);
        if !known && self.leads.len() >= LEADS_MAX {
            return None;
        }
        let gates = self.gates;
        let fresh = || Judged { rate_hz, until: input.at, quality: Quality::new(rate_hz, gates) };
        let lead = self.leads.entry(input.signal.to_owned()).or_insert_with(fresh);
        let follows = lead.rate_hz == rate_hz && lead.until.0.abs_diff(input.at.0) <= SEAM_MS_MAX;
        if !follows {
            *lead = fresh();
        }
        lead.quality.extend(values);
        lead.until = until;
        if !self.is_followed(input, known) {
            return None;
        }
        let same = self.followed.as_ref().is_some_and(|followed| followed.name == input.signal);
        let began = !(same && follows);
        if began {
            self.followed = Followed::new(input, rate_hz);
        }
        let (followed, lead) = (self.followed.as_mut()?, self.leads.get_mut(input.signal)?);
        followed.take(values, &mut lead.quality);
        Some(Stretch {
            lead: input.signal,
            frame: input.frame,
            rate_hz,
            began,
            from: input.at,
            until,
            values,
            beats: &followed.beats,
            quality: &lead.quality,
        })
    }

    /// Whether the input's lead is the one to follow.
    fn is_followed(&self, input: &Input<'_>, known: bool) -> bool {
        let Some(followed) = &self.followed else { return true };
        if followed.name == input.signal || (input.signal == LEAD && !known) {
            return true;
        }
        let bad = self.leads.get(&followed.name).is_none_or(|lead| {
            let silent = input.at.0.saturating_sub(lead.until.0) > SILENT_MS;
            silent || (lead.quality.seconds() >= WINDOW_S && lead.quality.good_share() == 0.0)
        });
        bad && self.leads.get(input.signal).is_some_and(|lead| lead.quality.clean(WINDOW_S))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        Finding, Person, Rule,
        recorded::{Part, Recorded},
    };
    use record::sha256;

    /// What a rule finds in the first lead of a recording, a second at a time.
    pub(crate) fn found(rule: &Rule, record: &Recorded) -> Vec<Finding> {
        let mut watch = (rule.start)(rule, &Person::default());
        let mut ecg = Ecg::default();
        let mut out = Vec::new();
        let length = record.rate_hz as usize;
        for (second, values) in record.leads[0].chunks_exact(length).enumerate() {
            let frame = sha256(&[&second.to_be_bytes()]);
            let value = Measured::Wave { rate_hz: record.rate_hz, values };
            let input = Input { frame, signal: LEAD, at: TimeMs(second as u64 * 1_000), value };
            watch.take(&input, &mut out);
            if let Some(stretch) = ecg.take(&input) {
                watch.ecg(&stretch, &mut out);
            }
        }
        out
    }

    /// Alarms as text: second, name, what happened, priority.
    pub(crate) fn alarms(found: &[Finding]) -> String {
        let line = |finding: &Finding| {
            let alarm = finding.alarm.as_ref()?;
            let kind = if alarm.technical { " technical" } else { "" };
            let (until, change) = (finding.until.0 / 1_000, &alarm.change);
            let since = alarm.condition_since.0 / 1_000;
            Some(format!("{until} {} {change:?}{kind} {:?}, since {since}\n", alarm.name, finding.severity))
        };
        found.iter().filter_map(line).collect()
    }

    /// The leads that are followed, one after the other, when each second brings these leads.
    fn followed(seconds: u64, leads: impl Fn(u64) -> Vec<(&'static str, bool)>) -> Vec<(u64, String)> {
        let record = Recorded::made(8, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: seconds as f64 }]);
        let mut ecg = Ecg::default();
        let mut out: Vec<(u64, String)> = Vec::new();
        for second in 0..seconds {
            for (signal, good) in leads(second) {
                let values = &record.leads[0][second as usize * 250..][..250];
                let values = if good { values.to_vec() } else { vec![0.0; 250] };
                let value = Measured::Wave { rate_hz: 250.0, values: &values };
                let input = Input { frame: sha256(&[]), signal, at: TimeMs(second * 1_000), value };
                if let Some(stretch) = ecg.take(&input)
                    && out.last().is_none_or(|(_, lead)| lead != stretch.lead)
                {
                    assert!(stretch.began);
                    out.push((second, stretch.lead.to_owned()));
                }
            }
        }
        out
    }

    #[test]
    fn lead_ii_is_followed_as_soon_as_it_is_there() {
        let seen = followed(10, |second| match second {
            0..3 => vec![("ecg-i", true)],
            _ => vec![("ecg-i", true), ("ecg-ii", true)],
        });
        assert_eq!(seen, [(0, "ecg-i".to_owned()), (3, "ecg-ii".to_owned())]);
    }

    #[test]
    fn a_lead_that_can_be_trusted_takes_the_place_of_one_that_cannot() {
        let seen = followed(60, |second| vec![("ecg-ii", second < 20), ("ecg-v5", true)]);
        assert_eq!(seen, [(0, "ecg-ii".to_owned()), (29, "ecg-v5".to_owned())]);
        let seen =
            followed(
                60,
                |second| {
                    if second < 20 { vec![("ecg-ii", true), ("ecg-v5", true)] } else { vec![("ecg-v5", true)] }
                },
            );
        assert_eq!(seen, [(0, "ecg-ii".to_owned()), (31, "ecg-v5".to_owned())]);
        let seen = followed(60, |second| vec![("ecg-ii", second < 20), ("ecg-v5", second < 15)]);
        assert_eq!(seen, [(0, "ecg-ii".to_owned())]);
    }

    #[test]
    fn a_lost_second_leaves_no_interval_across_it() {
        let record = Recorded::made(8, 250.0, 0.01, &[Part::Sinus { per_min: 70.0, seconds: 60.0 }]);
        let mut ecg = Ecg::default();
        let mut intervals_s = Vec::new();
        for (second, values) in record.leads[0].chunks_exact(250).enumerate().filter(|(second, _)| *second != 30) {
            let value = Measured::Wave { rate_hz: 250.0, values };
            let input = Input { frame: sha256(&[]), signal: LEAD, at: TimeMs(second as u64 * 1_000), value };
            let stretch = ecg.take(&input).unwrap();
            assert_eq!(stretch.began, second == 0 || second == 31);
            intervals_s.extend(stretch.beats.iter().filter_map(|beat| beat.interval_s));
        }
        let usual = |interval: &f64| (0.7..1.0).contains(interval);
        assert!(intervals_s.len() > 55 && intervals_s.iter().all(usual), "seed 8: {intervals_s:?}");
    }
}
