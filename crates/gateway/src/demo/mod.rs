//! The demonstration: an accident on four organisations, then attacks, then recovery.

mod attacks;
mod billing;
pub(crate) mod consortium;
mod field;
mod generated;
mod report;
mod sensors;
mod story;
mod tell;
mod trust;
mod ward;

use crate::command::{BadInput, Exit};
use anyhow::Context;
use clap::Args;
use consortium::Consortium;
use report::{Ledger, percentile};
use std::path::PathBuf;
use story::{PEOPLE, Story};
use tell::Tell;

/// Plays the accident on four organisations, each a process of its own.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Do not tell the story, only its outcome.
    #[arg(long)]
    headless: bool,
    /// Print one JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// A folder of FHIR bundles, plain or .gz; hospital and practitioner bundles are loaded first.
    #[arg(long, value_name = "DIR")]
    patients: Option<PathBuf>,
    /// A WFDB header file of an ECG recording.
    #[arg(long, value_name = "FILE.hea")]
    ecg: Option<PathBuf>,
    /// Keep everything in this folder, which must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

macro_rules! play {
    ($story:ident, $($row:literal $name:literal => $method:ident),+ $(,)?) => {
        $({
            let row = $story.begin($row, $name).await?;
            let outcome = $story.$method().await;
            $story.end(row, outcome).await?;
        })+
    };
}

impl Demo {
    /// Plays it, reports, and says whether all was well.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let tell = Tell::new(!self.headless);
        let mut temporary = None;
        let folder = match &self.keep {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
                if std::fs::read_dir(folder)?.next().is_some() {
                    return Err(BadInput(format!("`{}` is not empty: name another folder", folder.display())).into());
                }
                std::fs::canonicalize(folder)?
            }
            None => {
                let folder = tempfile::Builder::new().prefix("vitaltrace-demo-").tempdir()?;
                temporary.insert(folder).path().to_owned()
            }
        };
        tell.heading("Four organisations found a consortium");
        let mut consortium = Consortium::found(&folder)?;
        for (org, name, role) in PEOPLE {
            consortium.add_user(org, name, role, None)?;
        }
        consortium.start_all().await?;
        for node in &consortium.nodes {
            tell.detail(&format!("{:<20} {}", node.org, node.base));
        }
        let mut story = Story::new(consortium, tell.clone(), self.patients, self.ecg);
        story.log_in().await?;
        let played = tokio::select! {
            played = play_all(&mut story) => played,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted: the four organisations are stopped")),
        };
        if let Err(e) = &played {
            tell.line(&format!("\nThe demonstration broke off: {e:#}"));
        }
        story.report.summary_ms_p99 = percentile(&mut story.summaries_ms, 0.99);
        story.report.conclude();
        let ok = story.report.ok && played.is_ok();
        story.report.ok = ok;
        story.consortium.stop_all();
        if self.json {
            print_document(&story.report)?;
        } else {
            tell.heading(if ok { "Everything held" } else { "NOT everything held" });
        }
        if let Some(temporary) = temporary.take_if(|_| ok) {
            drop(story);
            temporary.close().with_context(|| format!("cannot remove `{}`", folder.display()))?;
            tell.line(
                "Run again with --keep DIR to keep the four organisations, their database and the evidence file.",
            );
        } else {
            // What went wrong can be looked into.
            temporary.map(tempfile::TempDir::keep);
            let shown = folder.display();
            tell.line(&format!("Everything is in {shown}. To look further:"));
            tell.line(&format!("  vitaltrace verify {shown}/evidence.vt --genesis {shown}/genesis.json"));
            tell.line(&format!("  vitaltrace serve --config {shown}/mercy-hospital        (each of the four)"));
            tell.line(&format!("  vitaltrace ledger status --config {shown}/mercy-hospital"));
        }
        played?;
        Ok(if ok { Exit::Good } else { Exit::No })
    }
}

async fn play_all(story: &mut Story) -> anyhow::Result<()> {
    story.tell.heading("The accident");
    play!(story,
        0 "Enrol, consent" => enrol,
        1 "Accident dispatched" => dispatch,
        2 "Identify" => identify,
        3 "Basic record" => basic_record,
        4 "Break the glass" => break_glass,
        5 "Attach sensors" => attach_sensors,
        6 "Stream" => stream,
        7 "Analytics" => analytics,
        8 "Alarm raised, acknowledged" => alarm,
        9 "Responder's report" => report_from_the_field,
        10 "Handoff to the emergency room" => hand_off,
        11 "Assess, treat, discharge" => treat,
        12 "Verify coverage" => verify_coverage,
        13 "Prior authorisation" => authorise,
        14 "Bill" => bill,
        15 "Adjudicate, pay" => adjudicate,
        16 "Explain" => explain,
        17 "Who saw my data" => who_saw_my_data,
        18 "Investigate" => investigate,
        19 "Amend, hold, erase" => amend_hold_erase,
    );
    if story.report.steps.iter().any(|step| !step.ok) {
        anyhow::bail!("a row of the scenario failed: the attacks are not played on an incomplete story");
    }
    let essentials = story.essentials()?;
    story.attack_database().await?;
    story.lose_a_validator().await?;
    let status = story.ledger_status().await?;
    story.report.ledger = Ledger {
        validators: status["validators"].as_array().map_or(0, |v| v.len() as u64),
        height: status["height"].as_u64().unwrap_or(0),
        entries: status["entries"].as_u64().unwrap_or(0),
        finality_ms_p50: status["finality_ms_p50"].as_f64().unwrap_or(0.0),
        finality_ms_p99: status["finality_ms_p99"].as_f64().unwrap_or(0.0),
    };
    story.recover_database(&essentials).await
}

#[expect(clippy::print_stdout, reason = "the document goes to standard output")]
fn print_document(report: &report::Report) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}
