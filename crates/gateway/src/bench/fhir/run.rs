//! What runs of `vitaltrace bench fhir` showed: one row each, and a table of what each part of custody costs.

use exchange::Part;
use serde::Serialize;
use std::fmt;

/// The narrowest column of the table.
const CELL_MIN: usize = 15;

/// What one run showed.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) what: &'static str,
    pub(super) backend: String,
    pub(super) connections: usize,
    /// Whether every request left its trace on a ledger.
    pub(super) anchoring: bool,
    /// Whether every row that was read was compared with it.
    pub(super) verified: bool,
    /// The parts of custody that were left out.
    pub(super) without: Vec<&'static str>,
    /// Requests that were answered with what was asked for.
    pub(super) per_s: f64,
    /// None when there was no such request.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Requests that were not.
    pub(super) failed: u64,
}

/// All runs.
#[derive(Debug, Serialize)]
pub(super) struct Runs {
    pub(super) runs: Vec<Run>,
    /// What is done all the same, of the parts that were left out.
    not_separable: Vec<&'static str>,
}

impl Run {
    pub(super) fn was_answered(&self) -> bool {
        self.p50_ms.is_some()
    }

    fn setting(&self) -> String {
        if self.without.is_empty() { "all on".to_owned() } else { format!("without {}", self.without.join(", ")) }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, connections, per_s, failed, .. } = self;
        let ms = |ms: Option<f64>| ms.map_or_else(|| "none".to_owned(), |ms| format!("{ms:.2} ms"));
        let (p50, p99) = (ms(self.p50_ms), ms(self.p99_ms));
        let setting = self.setting();
        write!(f, "{what:>18} at {connections:>2} connections, {setting}: {per_s:>8.0}/s, p50 {p50}, p99 {p99}")?;
        if *failed > 0 { write!(f, ", {failed} FAILED") } else { Ok(()) }
    }
}

impl Runs {
    pub(super) fn of(runs: Vec<Run>) -> Self {
        let left_out = |part: &Part| runs.iter().any(|run| run.without.contains(&part.name()));
        let not_separable = Part::ALL.into_iter().filter(left_out).map(remains).collect();
        Self { runs, not_separable }
    }
}

/// What is done all the same when a part is left out, as it is not done at one place.
fn remains(part: Part) -> &'static str {
    match part {
        Part::Audit => "audit: logins leave their traces all the same",
        Part::Consent => "consent: the access policy decides all the same",
        Part::Anchoring => {
            "anchoring: entries are made all the same, as rows take their salts and tags from them, and whether the patient's log has begun is looked up; then they are neither signed nor journaled nor submitted"
        }
        Part::Verification => {
            "verification: searches and summaries look up all the same which records the ledger has of the patient"
        }
    }
}

/// Rates by kind and by what was left out, with the difference to the first column; what verification costs a read; what was not
/// separable.
pub(super) fn table(runs: &Runs) -> String {
    let mut kinds = Vec::new();
    let mut settings = Vec::new();
    for run in &runs.runs {
        if !kinds.contains(&run.what) {
            kinds.push(run.what);
        }
        if !settings.contains(&run.setting()) {
            settings.push(run.setting());
        }
    }
    let find = |kind: &str, setting: &str| runs.runs.iter().find(|run| run.what == kind && run.setting() == setting);
    let mut lines = Vec::new();
    if let [first, _, ..] = settings.as_slice() {
        let width = |setting: &str| setting.len().max(CELL_MIN);
        let head: String = settings.iter().map(|of| format!("  {of:>0$}", width(of))).collect();
        lines.push(format!("{:>18}{head}", "requests/s"));
        for kind in &kinds {
            let base = find(kind, first).map(|run| run.per_s);
            let cell = |setting: &String| match (find(kind, setting), base) {
                (Some(run), Some(base)) if setting != first && base > 0.0 => {
                    format!("{:.0} ({:+.0} %)", run.per_s, (run.per_s / base - 1.0) * 100.0)
                }
                (Some(run), _) => format!("{:.0}", run.per_s),
                (None, _) => "-".to_owned(),
            };
            let cells: String = settings.iter().map(|of| format!("  {:>1$}", cell(of), width(of))).collect();
            lines.push(format!("{kind:>18}{cells}"));
        }
    }
    let reads = |without: &[&str]| {
        runs.runs.iter().find(|run| run.what == "reads" && run.without == without && run.per_s > 0.0)
    };
    if let (Some(verified), Some(not)) = (reads(&[]), reads(&[Part::Verification.name()])) {
        let share = verified.per_s / not.per_s * 100.0;
        lines.push(format!(
            "verified reads: {:.0}/s, unverified {:.0}/s: {share:.0} % of them",
            verified.per_s, not.per_s
        ));
    }
    lines.extend(runs.not_separable.iter().map(|what| format!("not separable: {what}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(what: &'static str, without: &[&'static str], per_s: f64) -> Run {
        Run {
            what,
            backend: "sqlite".to_owned(),
            connections: 8,
            anchoring: !without.contains(&"anchoring"),
            verified: !without.contains(&"verification"),
            without: without.to_vec(),
            per_s,
            p50_ms: (per_s > 0.0).then_some(1.0),
            p99_ms: (per_s > 0.0).then_some(2.0),
            failed: 0,
        }
    }

    #[test]
    fn the_table_tells_what_each_part_costs_and_what_was_not_separable() {
        let runs = Runs::of(vec![
            run("creates", &[], 1_000.0),
            run("reads", &[], 900.0),
            run("creates", &["verification"], 1_100.0),
            run("reads", &["verification"], 1_000.0),
        ]);
        let table = table(&runs);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["requests/s", "all", "on", "without", "verification"]);
        assert_eq!(lines[1], ["creates", "1000", "1100", "(+10", "%)"]);
        assert_eq!(lines[2], ["reads", "900", "1000", "(+11", "%)"]);
        assert_eq!(lines[3].join(" "), "verified reads: 900/s, unverified 1000/s: 90 % of them");
        assert!(lines[4].join(" ").starts_with("not separable: verification:"));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn a_run_in_which_nothing_was_answered_is_a_row_all_the_same() {
        let runs = Runs::of(vec![Run { failed: 7, ..run("summary", &[], 0.0) }]);
        let document = serde_json::to_value(&runs).unwrap();
        let row = &document["runs"][0];
        assert_eq!(
            (row["per_s"].as_f64(), row["p50_ms"].is_null(), row["failed"].as_u64()),
            (Some(0.0), true, Some(7))
        );
        assert!(runs.runs[0].to_string().ends_with("7 FAILED"));
        assert_eq!(table(&runs), "");
    }
}
