//! The house rules that a machine can check, each told as file, line, what is wrong and what to do.

mod decisions;
mod features;
mod graph;
mod licences;
mod links;
mod opening;
mod promises;
mod purity;
mod reasons;
mod rust;
mod sources;
mod words;

use crate::run::{metadata, say};
use sources::Sources;
use std::{fmt, path::Path};

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: String,
    /// Counted from 1.
    line: usize,
    /// What is wrong, and what to do.
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What one rule found, and how much it looked at or left out, so that none passes by looking at nothing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Checked {
    findings: Vec<Finding>,
    seen: String,
}

#[cfg(test)]
impl Checked {
    /// There is one finding for each text, in this order, and it contains the text.
    #[track_caller]
    fn assert_told(&self, expected: &[&str]) {
        let told: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }
}

/// Runs every rule on the files that git tracks; whether all hold.
pub(crate) fn tidy(root: &Path) -> anyhow::Result<bool> {
    let sources = Sources::read(root)?;
    let metadata = metadata(root)?;
    let rules: [(&str, Checked); 10] = [
        ("crate graph", graph::check(&sources, &metadata)?),
        ("opening sentences", opening::check(&sources)),
        ("words", words::check(&sources)),
        ("purity", purity::check(&sources)),
        ("promises", promises::check(&sources)),
        ("links", links::check(&sources)),
        ("decisions", decisions::check(&sources)),
        ("features", features::check(root)?),
        ("dependencies", reasons::check(&sources)?),
        ("licences", licences::check(&sources, &metadata)?),
    ];
    let mut total = 0;
    for (name, checked) in rules {
        for finding in &checked.findings {
            say(&finding.to_string());
        }
        total += checked.findings.len();
        say(&format!("{name}: {}; {}", checked.seen, counted(checked.findings.len(), "finding")));
    }
    for line in sources.left_out() {
        say(&line);
    }
    say(&if total == 0 { "tidy".to_owned() } else { format!("not tidy: {}", counted(total, "finding")) });
    Ok(total == 0)
}

/// `1 file`, `2 files`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
