//! The story on the terminal; silent when only the document is wanted.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;

/// Tells people what happens. Goes to standard error, so that standard output holds the document alone.
#[derive(Clone)]
pub(crate) struct Tell {
    aloud: bool,
}

impl Tell {
    /// Tells it, or not.
    pub(crate) fn new(aloud: bool) -> Self {
        Self { aloud }
    }

    /// One line.
    pub(crate) fn line(&self, text: &str) {
        if self.aloud {
            // A closed terminal is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n== {text}"));
    }

    /// The beginning of a row of the scenario.
    pub(crate) fn row(&self, row: u32, name: &str) {
        self.line(&format!("\n{row:>2}. {name}"));
    }

    /// Something within a row.
    pub(crate) fn detail(&self, text: &str) {
        self.line(&format!("    {text}"));
    }

    /// The end of a row.
    pub(crate) fn row_end(&self, error: Option<&str>, entries: u64, ms: f64) {
        match error {
            None => self.line(&format!("    ok: {entries} entries final, {ms:.0} ms")),
            Some(error) => self.line(&format!("    FAILED: {error}")),
        }
    }

    /// A bar for long work of `total` steps.
    pub(crate) fn bar(&self, total: u64, what: &'static str) -> ProgressBar {
        if !self.aloud {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("    {msg} [{bar:30}] {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar
    }
}
