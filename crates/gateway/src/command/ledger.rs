//! `vitaltrace ledger`: what the ledger of a node holds.

use super::{Asked, Connection, Exit, print, tell};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;

/// Looks into the ledger of a node, which must be running but for `replay`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Height, entries, validators, finality.
    Status(Asked),
    /// Final entries, a line each.
    Entries(Entries),
    /// One block.
    Block(Block),
    /// The validators and whether they are connected.
    Peers(Asked),
    /// Proofs that a validator broke the rules of consensus.
    Blame(Blame),
    /// How many overrides of each member nobody has reviewed, proven by the ledger's state.
    Overrides(Overrides),
    /// A final block with its certificate and state proofs, as a file that `vitaltrace verify` checks.
    Checkpoint(Checkpoint),
    Replay(super::replay::Replay),
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct Entries {
    #[command(flatten)]
    asked: Asked,
    /// Index in the log to begin with.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this kind: record, access, override, batch, claim, ...
    #[arg(long)]
    kind: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Where the proofs go.
#[derive(Debug, Args)]
pub(crate) struct Blame {
    #[command(flatten)]
    asked: Asked,
    /// Write each proof into this folder, as a file that `vitaltrace verify` checks.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Blame {
    /// Lists what is proven of whom; «no» when there is anything.
    async fn run(self) -> anyhow::Result<Exit> {
        let genesis = self.asked.connection.config()?.genesis()?.id();
        let mut answer = self.asked.connection.anonymous()?.get("/ledger/blame").await?.good()?.json()?;
        let blames = answer["blames"].as_array_mut().context("the gateway lists no blames")?;
        for blame in blames.iter_mut() {
            let file = blame.as_object_mut().and_then(|blame| blame.remove("file"));
            let file = file.as_ref().and_then(Value::as_str).context("a blame without its file")?;
            if let Some(folder) = &self.output {
                let file = hex::decode(file)?;
                // The gateway is believed no more than any other prover; and the name must come from what was checked.
                let blamed = evidence::verify_blame(&file, &genesis)?;
                let misdeed = serde_json::to_value(blamed.misdeed)?;
                let misdeed = misdeed.as_str().unwrap_or_default();
                let who = blamed.organisation.map_or_else(|| blamed.validator.0.to_hex(), |org| org.to_string());
                let name = format!("{who}-{misdeed}-{}-{}.blame", blamed.epoch, blamed.view);
                std::fs::create_dir_all(folder)?;
                std::fs::write(folder.join(&name), file)?;
                blame["written"] = folder.join(name).display().to_string().into();
            }
        }
        let exit = if blames.is_empty() { Exit::Good } else { Exit::No };
        if self.asked.json {
            print(&serde_json::to_string_pretty(&answer)?);
        } else if exit == Exit::Good {
            print("no validator was seen to break the rules");
        } else {
            blames.iter().for_each(|blame| print(blame["says"].as_str().unwrap_or_default()));
        }
        Ok(exit)
    }
}

/// Where the proof goes.
#[derive(Debug, Args)]
pub(crate) struct Overrides {
    #[command(flatten)]
    asked: Asked,
    /// Write the proof into this file, which `vitaltrace verify` checks.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Overrides {
    /// A sentence for each member; «no» when something waits for its review.
    async fn run(self) -> anyhow::Result<Exit> {
        let genesis = self.asked.connection.config()?.genesis()?.id();
        let file = self.asked.connection.anonymous()?.get("/ledger/overrides").await?.good()?.bytes;
        // The gateway is believed no more than any other prover.
        let counted = evidence::verify_unreviewed(&file, &genesis, &evidence::Limits::default())?;
        if let Some(output) = &self.output {
            std::fs::write(output, &file).with_context(|| format!("cannot write `{}`", output.display()))?;
        }
        if self.asked.json {
            print(&serde_json::to_string_pretty(&counted)?);
        } else {
            counted.sentences().iter().for_each(|line| print(line));
        }
        Ok(if counted.members.iter().all(|(_, count)| *count == 0) { Exit::Good } else { Exit::No })
    }
}

/// Which checkpoint, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    connection: Connection,
    /// The last one at or below this height that the node keeps, one for each epoch; without a height, one of the latest final block.
    #[arg(long)]
    height: Option<u64>,
    /// The file to write.
    #[arg(long, short)]
    output: PathBuf,
}

impl Checkpoint {
    /// Writes the file, and prints the block as `vitaltrace verify --checkpoint` takes it.
    async fn run(self) -> anyhow::Result<Exit> {
        let genesis = self.connection.config()?.genesis()?.id();
        let asked = self.height.map(|height| format!("?height={height}")).unwrap_or_default();
        let path = format!("/ledger/checkpoints{asked}");
        let file = self.connection.anonymous()?.get(&path).await?.good()?.bytes;
        // The gateway is believed no more than any other prover.
        let report = evidence::verify(&file, &genesis, &evidence::Limits::default())?;
        std::fs::write(&self.output, &file).with_context(|| format!("cannot write `{}`", self.output.display()))?;
        let (bytes, output) = (file.len(), self.output.display());
        tell(&format!(
            "{bytes} bytes written to {output}; `vitaltrace verify` checks them, and evidence against the block"
        ));
        print(&format!("{}:{}", report.height, report.block));
        Ok(Exit::Good)
    }
}

/// Which block.
#[derive(Debug, Args)]
pub(crate) struct Block {
    /// Its height.
    height: u64,
    #[command(flatten)]
    asked: Asked,
}

impl Ledger {
    /// Asks the node and prints.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let (asked, path, peers) = match self {
            Self::Status(asked) => (asked, "/ledger/status".to_owned(), false),
            Self::Peers(asked) => (asked, "/ledger/status".to_owned(), true),
            Self::Entries(e) => {
                let kind = e.kind.map(|kind| format!("&kind={kind}")).unwrap_or_default();
                (e.asked, format!("/ledger/entries?from={}&limit={}{kind}", e.from, e.limit), false)
            }
            Self::Blame(blame) => return blame.run().await,
            Self::Overrides(overrides) => return overrides.run().await,
            Self::Checkpoint(checkpoint) => return checkpoint.run().await,
            Self::Replay(replay) => return replay.run().await,
            Self::Block(block) => (block.asked, format!("/ledger/blocks/{}", block.height), false),
        };
        let mut answer = asked.connection.anonymous()?.get(&path).await?.good()?.json()?;
        if peers {
            answer = answer["validators"].take();
        }
        if asked.json {
            print(&serde_json::to_string_pretty(&answer)?);
        } else {
            print_plain(&answer, "");
        }
        Ok(Exit::Good)
    }
}

/// Prints objects a line a field, and lists of objects a line each.
fn print_plain(value: &Value, indent: &str) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Array(items) if items.iter().any(Value::is_object) => {
                        print(&format!("{indent}{name}:"));
                        for item in items {
                            print_plain(item, &format!("{indent}  "));
                        }
                    }
                    other => print(&format!("{indent}{name}: {}", bare(other))),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| print(&format!("{indent}{}", bare(item)))),
        other => print(&format!("{indent}{}", bare(other))),
    }
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| format!("{name} {}", bare(field))).collect::<Vec<_>>().join("  ")
        }
        other => other.to_string(),
    }
}
