//! `vitaltrace bench alarms`: how often alarms sound for nothing and how often they miss something, on recordings in which people marked what there was; with
//! and without the judgement of signals, as recorded and under made noise.

mod events;
mod noise;

use crate::{
    command::{
        BadInput, Exit,
        analyze::{labels::Labels, recorded_second},
        print, tell,
    },
    signal::Source,
};
use analytics::{AlarmChange, Finding, Monitor, Person, Severity};
use clap::Args;
use events::{Events, KINDS, Kind};
use noise::Noise;
use record::TimeMs;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Endings of annotation files that are looked for beside a recording, in this order.
const ANNOTATORS: [&str; 3] = ["atr", "rnv", "ecg"];
/// The most recordings of one command.
const RECORDINGS_MAX: usize = 1_000;
/// An alarm and an event are of the same moment when no more than this lies between them, in seconds: labels stand at beats, and frames are a second.
const NEAR_S: f64 = 3.0;
/// Who takes notice of each alarm at once, so that those that latch can sound again.
const WHO: &str = "bench";

/// Counts alarms, right and wrong ones, of recordings with labels.
#[derive(Debug, Args)]
pub(crate) struct Alarms {
    /// Recordings (.hea or .csv), or folders of .hea files. Labels (.atr, .rnv or .ecg) lie beside each; without them alarms are only counted.
    #[arg(required = true)]
    recordings: Vec<PathBuf>,
    /// What made noise follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Everything that was seen.
#[derive(Debug, Serialize)]
struct Seen {
    recordings: Vec<String>,
    seed: u64,
    runs: Vec<Run>,
}

/// All recordings, taken in in one way.
#[derive(Debug, Serialize)]
struct Run {
    /// `recorded`, or `noise`.
    signals: &'static str,
    /// Whether what cannot be trusted is kept from the rules.
    gated: bool,
    hours: f64,
    per_hour: PerHour,
    alarms: Vec<Count>,
}

/// Alarms an hour of a patient.
#[derive(Debug, Default, Serialize)]
struct PerHour {
    high: f64,
    medium: f64,
    low: f64,
    technical: f64,
}

/// What became of one kind of alarm. Wrong and unjudged ones are not the same: labels may say nothing about them.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Count {
    alarm: &'static str,
    /// Events that labels tell of.
    events: u64,
    found: u64,
    missed: u64,
    /// Alarms that sounded.
    raised: u64,
    right: u64,
    wrong: u64,
    unjudged: u64,
    wrong_per_hour: f64,
}

/// An alarm that sounded.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Raised {
    name: &'static str,
    severity: Severity,
    technical: bool,
    /// Since when its condition was there, when it began to sound, and when it ended, in seconds.
    since_s: f64,
    raised_s: f64,
    until_s: f64,
}

impl Alarms {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let paths = self.paths()?;
        let mut runs = Vec::new();
        for (signals, noisy) in [("recorded", false), ("noise", true)] {
            for gated in [true, false] {
                let mut run = Run::new(signals, gated);
                for (number, path) in (0..).zip(&paths) {
                    let noise = noisy.then(|| Noise::new(self.seed.wrapping_add(number)));
                    run.add(path, noise)?;
                }
                run.finish();
                tell(&format!("{signals}, {}: {} recordings", gates(gated), paths.len()));
                runs.push(run);
            }
        }
        let recordings = paths.iter().map(|path| name(path)).collect();
        let seen = Seen { recordings, seed: self.seed, runs };
        print(&if self.json { serde_json::to_string_pretty(&seen)? } else { seen.in_words() });
        Ok(Exit::Good)
    }

    /// The recordings, those of folders in the order of their names.
    fn paths(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        for path in &self.recordings {
            if !path.is_dir() {
                out.push(path.clone());
                continue;
            }
            let listed = std::fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
                .map_err(|e| BadInput(format!("`{}` cannot be listed: {e}", path.display())))?;
            let mut headers: Vec<PathBuf> =
                listed.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "hea")).collect();
            headers.sort();
            out.extend(headers);
        }
        match out.len() {
            0 => Err(BadInput("there are no .hea files in these folders".to_owned()).into()),
            RECORDINGS_MAX.. => Err(BadInput(format!("at most {RECORDINGS_MAX} recordings at a time")).into()),
            _ => Ok(out),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The labels beside a recording, where there are some.
fn labels_beside(path: &Path, rate_hz: f64) -> anyhow::Result<Labels> {
    let beside = ANNOTATORS.iter().map(|ending| path.with_extension(ending)).find(|path| path.is_file());
    beside.map_or_else(|| Ok(Labels::default()), |path| Labels::read(&path, rate_hz))
}

impl Run {
    fn new(signals: &'static str, gated: bool) -> Self {
        let count = |kind: &Kind| Count::new(kind.alarm);
        let alarms = KINDS.iter().map(count).collect();
        Self { signals, gated, hours: 0.0, per_hour: PerHour::default(), alarms }
    }

    /// Takes in a recording. Counts stand in `per_hour` until [`Run::finish`].
    fn add(&mut self, path: &Path, noise: Option<Noise>) -> anyhow::Result<()> {
        let file = path.to_str().ok_or_else(|| BadInput("the file's name is not UTF-8".to_owned()))?;
        let mut source = Source::open(file)?;
        let Some(seconds) = source.seconds() else {
            return Err(BadInput(format!("`{file}` is no recording that ends")).into());
        };
        let labels = match source.annotated_hz() {
            Some(rate_hz) => labels_beside(path, rate_hz)?,
            None => Labels::default(),
        };
        let end_s = seconds as f64;
        let person = Person::default();
        let monitor = if self.gated { Monitor::new(&person) } else { Monitor::ungated(&person) };
        let raised = raised(&mut source, monitor, noise, end_s);
        self.hours += end_s / 3_600.0;
        for alarm in &raised {
            let sum = match (alarm.technical, alarm.severity) {
                (true, _) => &mut self.per_hour.technical,
                (_, Severity::High) => &mut self.per_hour.high,
                (_, Severity::Medium) => &mut self.per_hour.medium,
                (_, Severity::Low | Severity::None) => &mut self.per_hour.low,
            };
            *sum += 1.0;
        }
        for kind in &KINDS {
            let of_kind: Vec<&Raised> = raised.iter().filter(|alarm| alarm.name == kind.alarm).collect();
            self.count(kind.alarm).add(kind, (kind.events)(&labels, end_s).as_ref(), &of_kind, end_s);
        }
        for alarm in raised.iter().filter(|alarm| !KINDS.iter().any(|kind| kind.alarm == alarm.name)) {
            let count = self.count(alarm.name);
            count.raised += 1;
            count.unjudged += 1;
        }
        Ok(())
    }

    fn count(&mut self, alarm: &'static str) -> &mut Count {
        let at = self.alarms.iter().position(|count| count.alarm == alarm).unwrap_or_else(|| {
            self.alarms.push(Count::new(alarm));
            self.alarms.len() - 1
        });
        &mut self.alarms[at]
    }

    fn finish(&mut self) {
        let hours = self.hours.max(1e-9);
        let PerHour { high, medium, low, technical } = &mut self.per_hour;
        [high, medium, low, technical].into_iter().for_each(|sum| *sum /= hours);
        self.alarms.iter_mut().for_each(|count| count.wrong_per_hour = count.wrong as f64 / hours);
    }
}

impl Count {
    fn new(alarm: &'static str) -> Self {
        Self { alarm, events: 0, found: 0, missed: 0, raised: 0, right: 0, wrong: 0, unjudged: 0, wrong_per_hour: 0.0 }
    }

    /// Adds the alarms and events of one recording. An event at whose end the recording is over before the alarm is due is not missed.
    fn add(&mut self, kind: &Kind, events: Option<&Events>, alarms: &[&Raised], end_s: f64) {
        self.raised += alarms.len() as u64;
        let Some(events) = events else {
            self.unjudged += alarms.len() as u64;
            return;
        };
        for &(from_s, until_s) in events.there.iter().filter(|(from_s, until_s)| until_s - from_s >= kind.least_s) {
            let sounds =
                alarms.iter().any(|alarm| alarm.raised_s <= until_s + kind.late_s && alarm.until_s >= from_s - NEAR_S);
            if !sounds && until_s + kind.late_s > end_s && from_s + kind.late_s.max(kind.least_s) > end_s {
                continue;
            }
            self.events += 1;
            let sum = if sounds { &mut self.found } else { &mut self.missed };
            *sum += 1;
        }
        for alarm in alarms {
            let meets =
                |(from_s, until_s): &(f64, f64)| alarm.since_s <= until_s + NEAR_S && alarm.raised_s >= from_s - NEAR_S;
            let right = events.there.iter().chain(&events.allowed).any(meets);
            let sum = if right { &mut self.right } else { &mut self.wrong };
            *sum += 1;
        }
    }
}

/// The alarms of a recording. Somebody takes notice of each as soon as it sounds.
fn raised(source: &mut Source, mut monitor: Monitor, mut noise: Option<Noise>, end_s: f64) -> Vec<Raised> {
    let mut out: Vec<Raised> = Vec::new();
    let mut second = 0u64;
    while let Some(mut signals) = source.next_second() {
        let at = TimeMs(second * 1_000);
        if let Some(noise) = &mut noise {
            noise.add(second, &mut signals);
        }
        let found = exchange::assess(&mut monitor, recorded_second(at, &signals), at, &signals);
        for finding in &found {
            note(finding, end_s, &mut out);
            if let Some(alarm) = finding.alarm.as_ref().filter(|alarm| alarm.change == AlarmChange::Raised) {
                let ended = monitor.acknowledge(alarm.name, finding.until, WHO);
                ended.iter().for_each(|finding| note(finding, end_s, &mut out));
            }
        }
        second += 1;
    }
    monitor.finish().iter().for_each(|finding| note(finding, end_s, &mut out));
    out
}

fn note(finding: &Finding, end_s: f64, out: &mut Vec<Raised>) {
    let Some(alarm) = &finding.alarm else { return };
    let seconds = |at: TimeMs| at.0 as f64 / 1_000.0;
    match alarm.change {
        AlarmChange::Raised => out.push(Raised {
            name: alarm.name,
            severity: finding.severity,
            technical: alarm.technical,
            since_s: seconds(alarm.condition_since),
            raised_s: seconds(finding.until),
            until_s: end_s,
        }),
        AlarmChange::Ended => {
            if let Some(last) = out.iter_mut().rev().find(|raised| raised.name == alarm.name) {
                last.until_s = seconds(finding.until);
            }
        }
        AlarmChange::Acknowledged { .. } => {}
    }
}

fn gates(gated: bool) -> &'static str {
    if gated { "signals judged" } else { "every second trusted" }
}

impl Seen {
    fn in_words(&self) -> String {
        let mut lines = Vec::new();
        for run in &self.runs {
            let per = &run.per_hour;
            lines.push(format!(
                "{}, {}: {:.1} hours; an hour has {:.2} alarms of high priority, {:.2} medium, {:.2} low, and {:.2} technical ones",
                if run.signals == "noise" { format!("with noise (seed {})", self.seed) } else { "as recorded".to_owned() },
                gates(run.gated),
                run.hours,
                per.high,
                per.medium,
                per.low,
                per.technical
            ));
            lines.push(format!(
                "  {:<32} {:>6} {:>6} {:>6} | {:>6} {:>6} {:>6} {:>8} | {:>12}",
                "alarm", "events", "found", "missed", "raised", "right", "wrong", "unjudged", "wrong/hour"
            ));
            for count in &run.alarms {
                lines.push(format!(
                    "  {:<32} {:>6} {:>6} {:>6} | {:>6} {:>6} {:>6} {:>8} | {:>12.2}",
                    count.alarm,
                    count.events,
                    count.found,
                    count.missed,
                    count.raised,
                    count.right,
                    count.wrong,
                    count.unjudged,
                    count.wrong_per_hour
                ));
            }
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::analyze::signals_of_tests;

    fn alarm(since_s: f64, raised_s: f64, until_s: f64) -> Raised {
        Raised { name: "asystole", severity: Severity::High, technical: false, since_s, raised_s, until_s }
    }

    /// Events, found, missed, raised, right, wrong, unjudged.
    fn check(events: Option<Events>, alarms: &[Raised], expected: [u64; 7]) {
        let kind = &KINDS[0];
        let mut count = Count::new(kind.alarm);
        count.add(kind, events.as_ref(), &alarms.iter().collect::<Vec<_>>(), 1_000.0);
        let c = &count;
        assert_eq!(
            [c.events, c.found, c.missed, c.raised, c.right, c.wrong, c.unjudged],
            expected,
            "{events:?} {alarms:?}"
        );
    }

    #[test]
    fn alarms_are_right_near_an_event_and_events_are_found_in_time() {
        let there = |from_s, until_s| Some(Events { there: vec![(from_s, until_s)], ..Events::default() });
        check(there(100.0, 106.0), &[alarm(100.0, 105.0, 107.0)], [1, 1, 0, 1, 1, 0, 0]);
        check(there(100.0, 106.0), &[], [1, 0, 1, 0, 0, 0, 0]);
        // Too late, and for nothing.
        check(there(100.0, 106.0), &[alarm(112.0, 117.0, 120.0)], [1, 0, 1, 1, 0, 1, 0]);
        // It sounded before and still does: nobody misses the event.
        check(there(100.0, 106.0), &[alarm(50.0, 55.0, 101.0)], [1, 1, 0, 1, 0, 1, 0]);
        // Shorter than what has to be told.
        check(there(100.0, 103.0), &[], [0, 0, 0, 0, 0, 0, 0]);
        check(there(100.0, 103.0), &[alarm(100.0, 102.0, 105.0)], [0, 0, 0, 1, 1, 0, 0]);
        // The recording ends before the alarm is due.
        check(there(993.0, 1_000.0), &[], [0, 0, 0, 0, 0, 0, 0]);
        let allowed = Some(Events { there: vec![], allowed: vec![(10.0, 20.0)] });
        check(allowed, &[alarm(15.0, 18.0, 25.0)], [0, 0, 0, 1, 1, 0, 0]);
        check(None, &[alarm(15.0, 18.0, 25.0)], [0, 0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn judging_signals_spares_wrong_alarms_and_loses_no_event_that_was_found() {
        let Some(folder) = signals_of_tests() else { return };
        let count = |signals, gated, noisy: bool| {
            let mut run = Run::new(signals, gated);
            for record in ["106", "208"] {
                let noise = noisy.then(|| Noise::new(1));
                run.add(&folder.join(format!("mitdb/{record}.hea")), noise).unwrap();
            }
            run.finish();
            let sum = |of: fn(&Count) -> u64| run.alarms.iter().map(of).sum::<u64>();
            (sum(|count| count.found), sum(|count| count.missed), sum(|count| count.wrong), run.per_hour.high)
        };
        let (recorded, trusted) = (count("recorded", true, false), count("recorded", false, false));
        let (noisy, noisy_trusted) = (count("noise", true, true), count("noise", false, true));
        tell(&format!(
            "106 and 208, seed 1: found, missed, wrong, high an hour: recorded {recorded:?}, trusted {trusted:?}, noise {noisy:?}, trusted {noisy_trusted:?}"
        ));
        assert_eq!(recorded.1, 0, "no event of the recordings as they are is missed");
        assert!(recorded.0 >= trusted.0 && recorded.2 <= trusted.2);
        assert!(noisy.2 * 2 <= noisy_trusted.2, "seed 1: of the alarms that noise raises, at least half are spared");
    }
}
