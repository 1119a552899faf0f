//! `vitaltrace replay`: whether a result of analytics comes out again, bit for bit, from signed frames.

use super::{Asked, BadInput, Exit, evidence::is_plain, print};
use clap::Args;
use record::Role;
use serde_json::Value;

/// Computes a result of analytics again from the signed frames and charted records that it rests on: equal, to the bit, or not.
///
/// The gateway checks each frame's signature and batch and each record against the ledger first. A frame that was changed is named. Exit code 1
/// when the result, or with `--run` any of its run, is not equal.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The result as `Type/id`: an Observation, a RiskAssessment, or of an alarm its DetectedIssue.
    finding: String,
    /// Every result that was written before it in the same run as well.
    #[arg(long)]
    run: bool,
    /// Of a compliance entity: its open case, under which it looks.
    #[arg(long)]
    case: bool,
    #[command(flatten)]
    asked: Asked,
}

impl Replay {
    /// Asks the running gateway, and prints what it says.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let parts = self.finding.split_once('/').filter(|(rtype, id)| is_plain(rtype) && is_plain(id));
        let Some((rtype, id)) = parts else {
            let text = format!("`{}` is no result: name it as `Type/id`, such as RiskAssessment/42", self.finding);
            return Err(BadInput(text).into());
        };
        let client = match self.case {
            true => self.asked.connection.operator(Role::Compliance, "HCOMPL")?,
            false => self.asked.connection.operator(Role::Custodian, "HSYSADMIN")?,
        };
        let replayed = client.get(&format!("/fhir/{rtype}/{id}/$replay?run={}", self.run)).await?.good()?.json()?;
        if self.asked.json {
            print(&serde_json::to_string_pretty(&replayed)?);
        } else {
            tell_people(&replayed);
        }
        let run = &replayed["run"];
        let good = replayed["equal"] == true && (run.is_null() || run["equal"] == run["results"]);
        Ok(if good { Exit::Good } else { Exit::No })
    }
}

fn tell_people(replayed: &Value) {
    let text = |name: &str| replayed[name].as_str().unwrap_or("none").to_owned();
    print(&format!("{}: {}", text("record"), text("said")));
    print(&format!("rule {}, model {}", text("rule"), text("model")));
    print(&format!("written {}, computed again {}", text("digest"), text("computed")));
    print(&format!(
        "{} steps: {} frames, {} charted records",
        replayed["steps"], replayed["frames"], replayed["records"]
    ));
    for changed in replayed["changed"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        print(&format!("changed or gone: {changed}"));
    }
    for let_go in replayed["let_go"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        print(&format!("let go by policy: {let_go}"));
    }
    let run = &replayed["run"];
    if run.is_null() {
        return;
    }
    print(&format!("{} results before it in the same run, {} of them equal", run["results"], run["equal"]));
    for (rule, count) in run["rules"].as_object().into_iter().flatten() {
        print(&format!("{count:>6} {rule}"));
    }
    for unequal in run["unequal"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        print(&format!("not equal: {unequal}"));
    }
}
