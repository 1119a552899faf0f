//! `vitaltrace ledger replay`: an auditor's own execution of everything that a node has on its disk.

use super::{BadInput, Exit, print};
use crate::config::Config;
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::{ReplayError, Replayed};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Instant};

/// Executes every block of a node's folder again, from the genesis document on, and compares everything: signatures, certificates, roots of
/// the log and of the state, verdicts.
///
/// The node must not run: stop it, or name a copy of its ledger folder. Nothing in the folder is changed; blocks, certificates and verdicts
/// are copied, and the state is made anew beside them. The first block that disagrees is named, with the exit code 1.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The configuration of the organisation whose node's folder it is, and which names the genesis document to begin with.
    #[arg(long, env = "VITALTRACE_CONFIG", default_value = ".")]
    config: PathBuf,
    /// The ledger folder, or a copy of it; that of the configuration, `data/ledger`, unless said otherwise.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where the copy and the state are made, and removed afterwards; it takes up as much as the blocks and the state.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Replay {
    /// Replays with progress, and reports.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = Config::load(&self.config)?;
        let genesis = config.genesis()?;
        let mut scratch = tempfile::Builder::new();
        let scratch = scratch.prefix("vitaltrace-replay-");
        let scratch = match &self.scratch {
            Some(folder) => scratch.tempdir_in(folder),
            None => scratch.tempdir(),
        };
        let scratch = scratch.context("cannot make a folder to replay in")?;
        let asked = ledger::Replay {
            genesis,
            org: config.org.clone(),
            folder: self.folder.unwrap_or_else(|| config.ledger_folder()),
            scratch: scratch.path().to_owned(),
        };
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} blocks, {msg}, {elapsed}, about {eta} left")?);
        let (begin, shown) = (Instant::now(), bar.clone());
        let progress = move |at: ledger::Progress| {
            shown.set_length(at.last_height);
            shown.set_position(at.height);
            shown.set_message(format!("{} entries", at.entries));
        };
        let replayed = tokio::task::spawn_blocking(move || ledger::replay(&asked, progress)).await?;
        bar.finish_and_clear();
        let took_s = begin.elapsed().as_secs_f64();
        match replayed {
            Ok(replayed) => {
                report(&replayed, took_s, self.json)?;
                Ok(Exit::Good)
            }
            Err(ReplayError::Disagrees { height, what }) => {
                if self.json {
                    let document = json!({"agrees": false, "height": height, "what": what.to_string()});
                    print(&serde_json::to_string_pretty(&document)?);
                } else {
                    print(&format!("does NOT agree: the block at height {height}: {what}"));
                }
                Ok(Exit::No)
            }
            Err(folder @ (ReplayError::Folder(_) | ReplayError::NoBlocks)) => Err(BadInput(folder.to_string()).into()),
            Err(broken) => Err(broken.into()),
        }
    }
}

fn report(replayed: &Replayed, took_s: f64, as_json: bool) -> anyhow::Result<()> {
    let Replayed { height, block, uncertified, entries, refused, certificates, log_root, state_root } = replayed;
    let per_s = (*entries as f64 / took_s.max(f64::MIN_POSITIVE)).round();
    if as_json {
        let document: Value = json!({
            "agrees": true, "height": height, "block": block, "uncertified": uncertified, "entries": entries, "refused": refused,
            "certificates": certificates, "log_root": log_root, "state_root": state_root, "took_s": took_s, "entries_per_s": per_s
        });
        print(&serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    print(&format!("everything agrees up to height {height}, block {block}"));
    print(&format!("{entries} entries executed, {refused} of them refused, {certificates} certificates checked"));
    print(&format!("{took_s:.1} s, {per_s} entries/s"));
    print(&format!("log root {log_root}, state root {state_root}"));
    if *uncertified > 0 {
        print(&format!("{uncertified} blocks beyond have no certificate here: they are not known to be final"));
    }
    Ok(())
}
