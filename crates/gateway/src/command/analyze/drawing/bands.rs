//! Findings as bands: from when until when, how serious, and in which words.

use analytics::{AlarmChange, Finding, Severity};

/// A finding that lasts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Band {
    pub(super) from_s: f64,
    pub(super) until_s: f64,
    pub(super) severity: Severity,
    pub(super) words: String,
}

impl Band {
    /// The class of its colour.
    pub(super) fn class(&self) -> &'static str {
        match self.severity {
            Severity::None => "none",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// The marks of priorities in words. Source: IEC 60601-1-8, marks of visual alarm signals.
pub(super) fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::None => "",
        Severity::Low => "* ",
        Severity::Medium => "** ",
        Severity::High => "*** ",
    }
}

/// Alarms from the beginning of their condition to their end, and other findings of medium severity or more, the most serious first. What does not end
/// lasts up to `end_s`.
pub(super) fn bands(findings: &[Finding], end_s: f64) -> Vec<Band> {
    let mut out: Vec<Band> = Vec::new();
    // Places in `out` of alarms that have not ended.
    let mut open: Vec<(&'static str, usize)> = Vec::new();
    for finding in findings {
        let until_s = finding.until.0 as f64 / 1_000.0;
        match &finding.alarm {
            Some(alarm) => match alarm.change {
                AlarmChange::Raised => {
                    open.push((alarm.name, out.len()));
                    let kind = if alarm.technical { " (technical)" } else { "" };
                    out.push(Band {
                        from_s: alarm.condition_since.0 as f64 / 1_000.0,
                        until_s: end_s,
                        severity: finding.severity,
                        words: format!("{}{}{kind}", mark(finding.severity), plain(alarm.name)),
                    });
                }
                AlarmChange::Ended => {
                    if let Some(at) = open.iter().position(|(name, _)| *name == alarm.name) {
                        out[open.remove(at).1].until_s = until_s;
                    }
                }
                AlarmChange::Acknowledged { .. } => {}
            },
            None if finding.severity >= Severity::Medium => {
                let chief = finding.measures.first().filter(|_| finding.complete);
                let number =
                    chief.map(|m| format!(" {} {}", (m.value * 10.0).round() / 10.0, m.unit)).unwrap_or_default();
                let (from_s, words) = (finding.from.0 as f64 / 1_000.0, format!("{}{number}", plain(finding.rule)));
                out.push(Band {
                    from_s,
                    until_s,
                    severity: finding.severity,
                    words: mark(finding.severity).to_owned() + &words,
                });
            }
            None => {}
        }
    }
    out.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.from_s.total_cmp(&b.from_s)));
    out
}

/// A name as words.
fn plain(name: &str) -> String {
    name.replace('-', " ")
}

/// The rows in which bands with their words do not meet, at most `rows` of them: the row of each, or nothing where there is no room.
///
/// `place` says from where to where a band and its words reach.
pub(super) fn rows(bands: &[&Band], rows: usize, place: impl Fn(&Band) -> (f64, f64)) -> Vec<Option<usize>> {
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); rows];
    bands
        .iter()
        .map(|band| {
            let (from, until) = place(band);
            let free = |row: &Vec<(f64, f64)>| row.iter().all(|(other, end)| until < *other || *end < from);
            let row = taken.iter().position(free)?;
            taken[row].push((from, until));
            Some(row)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use analytics::{Alarm, Rule};
    use record::TimeMs;

    fn finding(until_s: u64, change: Option<AlarmChange>) -> Finding {
        let rule = Rule::find("asystole").unwrap();
        Finding {
            rule: rule.id,
            version: rule.version,
            model: rule.model(),
            kind: rule.kind,
            signal: None,
            from: TimeMs(1_000),
            until: TimeMs(until_s * 1_000),
            severity: Severity::High,
            complete: true,
            missing: Vec::new(),
            measures: Vec::new(),
            alarm: change.map(|change| Alarm {
                name: "asystole",
                change,
                technical: false,
                condition_since: TimeMs(1_000),
                latching: true,
            }),
            inputs: Vec::new(),
            records: Vec::new(),
        }
    }

    #[test]
    fn an_alarm_lasts_from_its_condition_to_its_end_or_the_records() {
        let raised = finding(5, Some(AlarmChange::Raised));
        let ended = finding(9, Some(AlarmChange::Ended));
        let told = |findings: &[Finding]| -> Vec<(f64, f64, String)> {
            bands(findings, 60.0).into_iter().map(|band| (band.from_s, band.until_s, band.words)).collect()
        };
        assert_eq!(told(&[raised.clone(), ended.clone()]), [(1.0, 9.0, "*** asystole".to_owned())]);
        assert_eq!(told(&[raised]), [(1.0, 60.0, "*** asystole".to_owned())]);
        assert_eq!(told(&[ended]), []);
        assert_eq!(told(&[finding(3, None)]), [(1.0, 3.0, "*** asystole".to_owned())]);
        assert_eq!(told(&[Finding { severity: Severity::Low, ..finding(3, None) }]), []);
    }

    #[test]
    fn bands_that_meet_stand_in_rows_of_their_own() {
        let band = |from_s, until_s| Band { from_s, until_s, severity: Severity::Low, words: String::new() };
        let all = [band(0.0, 5.0), band(3.0, 8.0), band(6.0, 9.0), band(4.0, 5.0)];
        let all: Vec<&Band> = all.iter().collect();
        assert_eq!(rows(&all, 2, |band| (band.from_s, band.until_s)), [Some(0), Some(1), Some(0), None]);
    }
}
