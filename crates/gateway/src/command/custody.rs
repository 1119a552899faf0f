//! `vitaltrace audit`, `recover` and `erase`: a custodian's work, done by the running node.

use super::{Connection, Exit, print, tell};
use crate::config::AddressParser;
use clap::Args;
use record::Role;
use serde_json::{Value, json};

/// Compares the database with the ledger and names each row that was modified, removed, rolled back, duplicated or injected, and what became
/// of the frames of sensors.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    connection: Connection,
    /// Every row again, not only those since the last audit.
    #[arg(long)]
    full: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Audit {
    /// Runs the audit; «no» when it found something.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        let report = client.post("/audit", &json!({"full": self.full})).await?.good()?.json()?;
        let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        if self.json {
            print(&serde_json::to_string_pretty(&report)?);
        } else {
            print(&format!(
                "{} rows and {} frames compared with the ledger at height {}",
                report["rows"], report["frames"], report["height"]
            ));
            if report["frames_let_go"].as_u64().is_some_and(|frames| frames > 0) {
                print(&format!("{} frames were let go by policy, with their roll-ups", report["frames_let_go"]));
            }
            for finding in findings {
                let text = |field: &str| finding[field].as_str().unwrap_or("unknown").to_owned();
                if finding["frames"].is_object() {
                    print(&of_frames(finding));
                    continue;
                }
                print(&format!(
                    "{}: {} version {}, written by {} at {}",
                    text("kind"),
                    text("record"),
                    finding["version"],
                    text("author"),
                    text("written_at")
                ));
            }
            tell(if findings.is_empty() {
                "nothing was changed"
            } else {
                "rebuild what is essential with `vitaltrace recover`"
            });
        }
        Ok(if findings.is_empty() { Exit::Good } else { Exit::No })
    }
}

/// What an audit says of frames, in a line.
fn of_frames(finding: &Value) -> String {
    let frames = &finding["frames"];
    let ranges = frames["counters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counters: Vec<String> = ranges
        .iter()
        .map(|range| match (&range[0], &range[1]) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        })
        .collect();
    let text = |of: &Value| of.as_str().unwrap_or("unknown").to_owned();
    format!(
        "{}: {} frames of {} about {}, counters {}, batched by {} at {}",
        text(&finding["kind"]),
        frames["count"],
        text(&finding["record"]),
        text(&frames["patient"]),
        counters.join(", "),
        text(&finding["author"]),
        text(&finding["written_at"])
    )
}

/// Rebuilds the database from ledger, vaults and, if named, an untrusted backup. Needs the votes of a majority of members.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    connection: Connection,
    /// An untrusted backup: an SQLite file, or the address of a database that it was put back into,
    /// `postgresql://user@host:port/database`. Every row in it is checked.
    #[arg(long, conflicts_with = "empty", value_parser = AddressParser)]
    from: Option<store::Address>,
    /// Rebuild from ledger and vaults alone.
    #[arg(long)]
    empty: bool,
    /// Vote for the recovery with this id, which another member proposed.
    #[arg(long, conflicts_with_all = ["from", "empty", "carry_out"])]
    vote: Option<String>,
    /// Carry out the recovery with this id, once enough members have voted.
    #[arg(long)]
    carry_out: Option<String>,
    /// Why; written down.
    #[arg(long, default_value = "the database is lost")]
    reason: String,
}

impl Recover {
    /// Proposes, votes, or carries out.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        if let Some(id) = &self.vote {
            client.post(&format!("/custody/{id}/vote"), &json!({})).await?.good()?;
            tell("voted");
            return Ok(Exit::Good);
        }
        let Some(id) = &self.carry_out else {
            let id = client.post("/custody/recover", &json!({"reason": self.reason})).await?.good()?.id()?;
            print(&id);
            tell(&format!(
                "each other member votes with `vitaltrace recover --vote {id}`; then run `vitaltrace recover --carry-out {id}`"
            ));
            return Ok(Exit::Good);
        };
        let body = match (&self.from, self.empty) {
            (Some(store::Address::File(path)), _) => json!({"from": std::fs::canonicalize(path)?}),
            (Some(server), _) => json!({"from": server}),
            (None, _) => json!({}),
        };
        let report: Value = client.post(&format!("/custody/{id}/carry-out"), &body).await?.good()?.json()?;
        print(&serde_json::to_string_pretty(&report)?);
        Ok(Exit::Good)
    }
}

/// Destroys rows, salts, encrypted copies and the key of one patient; every other proof stays valid.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    connection: Connection,
    /// The id of the Patient.
    #[arg(long)]
    patient: String,
    /// Why; written down.
    #[arg(long)]
    reason: String,
}

impl Erase {
    /// Erases.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        let answer = client.post("/custody/erase", &json!({"patient": self.patient, "reason": self.reason})).await?;
        if answer.status.as_u16() == 409 || answer.status.as_u16() == 403 {
            tell(&answer.diagnostics());
            return Ok(Exit::No);
        }
        print(&answer.good()?.id()?);
        Ok(Exit::Good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_about_frames_is_told_in_a_line() {
        let frames = json!({"count": 5, "counters": [[3, 6], [9, 9]], "patient": "Patient/p", "binding": "b"});
        let finding = json!({
            "kind": "removed", "record": "Device/d", "version": 1, "author": "mercy", "written_at": "2026-01-01T00:00:00.000Z",
            "frames": frames
        });
        let told = "removed: 5 frames of Device/d about Patient/p, counters 3 to 6, 9, batched by mercy at 2026-01-01T00:00:00.000Z";
        assert_eq!(of_frames(&finding), told);
        let injected = json!({"kind": "injected", "record": "Device/d", "frames": {"count": 1, "counters": [[7, 7]]}});
        let told = "injected: 1 frames of Device/d about unknown, counters 7, batched by unknown at unknown";
        assert_eq!(of_frames(&injected), told);
    }
}
