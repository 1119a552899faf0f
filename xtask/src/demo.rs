//! The demonstration: started for people, or run headless and its document judged.

use crate::{
    packages,
    run::{cargo, receipt_checker, say, shared_data, shown, streamed, target, vitaltrace},
};
use anyhow::Context;
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The rows of the scenario, 0 to 19.
const ROWS: u64 = 20;
/// Entries of all bundles in `fhir/synthea/2021-blaze`, conditional creates included.
const SYNTHEA_ENTRIES: u64 = 31_011;
/// Where a demonstration that is judged keeps everything, below the folder of what was built.
const KEPT: &str = "demonstration";
/// A demonstration that takes longer hangs.
const DEMO_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long a demonstration that was asked to stop may take to do so.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Builds the product and plays the demonstration with these arguments; its exit code is ours.
pub(crate) fn demo(root: &Path, arguments: &[String]) -> anyhow::Result<ExitCode> {
    packages::ensure()?;
    anyhow::ensure!(build(root)?, "`vitaltrace` does not build");
    let arguments = if arguments.first().is_some_and(|first| first == "--") { &arguments[1..] } else { arguments };
    let mut command = Command::new(vitaltrace(root)?);
    command.arg("demo").args(arguments);
    say(&format!("$ {}", shown(&command)));
    // The terminal stays the demonstration's own, so that Ctrl-C reaches it.
    let status = command.status().context("cannot run `vitaltrace`")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).context("`vitaltrace` was killed")?;
    Ok(ExitCode::from(code))
}

/// Builds the product's program as it is shipped.
pub(crate) fn build(root: &Path) -> anyhow::Result<bool> {
    streamed(cargo(root, &["build", "--release", "--locked", "--package", "gateway", "--bin", "vitaltrace"]))
}

/// What a demonstration is run on.
pub(crate) struct Input {
    arguments: Vec<OsString>,
    /// The number that `resources_loaded` must be, where it is known.
    entries: Option<u64>,
}

impl Input {
    /// What the project generates itself.
    pub(crate) fn generated() -> Self {
        Self { arguments: Vec::new(), entries: None }
    }

    /// The shared test data, or the folder that it was looked for in.
    pub(crate) fn shared(root: &Path) -> Result<Self, PathBuf> {
        let data = shared_data(root);
        let patients = data.join("fhir/synthea/2021-blaze");
        let ecg = data.join("signals/mitdb/100.hea");
        if !patients.is_dir() || !ecg.is_file() {
            return Err(data);
        }
        let arguments = vec!["--patients".into(), patients.into(), "--ecg".into(), ecg.into()];
        Ok(Self { arguments, entries: Some(SYNTHEA_ENTRIES) })
    }
}

/// Runs the demonstration headless and says what is wrong with its outcome; nothing is good. What could not be looked at goes to `skipped`.
pub(crate) fn headless(root: &Path, input: &Input, skipped: &mut Vec<String>) -> anyhow::Result<Vec<String>> {
    let kept = target(root)?.join(KEPT);
    remove(&kept)?;
    let mut command = Command::new(vitaltrace(root)?);
    command.args(["demo", "--headless", "--json", "--keep"]).arg(&kept).args(&input.arguments);
    say(&format!("$ {}", shown(&command)));
    let ended = match run_limited(command, DEMO_LIMIT)? {
        Some(ended) => ended,
        None => return Ok(vec![format!("did not end within {} minutes", DEMO_LIMIT.as_secs() / 60)]),
    };
    say(ended.output.trim_end());
    let mut wrong = match serde_json::from_str::<Value>(&ended.output) {
        Ok(document) => {
            let mut wrong = judge(&document, input.entries);
            if wrong.is_empty() {
                wrong.extend(second_opinion(root, &kept, &document, skipped)?);
                wrong.extend(others_opinion(root, &kept, skipped)?);
            }
            wrong
        }
        Err(error) => vec![format!("standard output is not one JSON document: {error}")],
    };
    if !ended.status.success() {
        wrong.push(format!("ended with {}", ended.status));
    }
    if wrong.is_empty() {
        remove(&kept)?;
    } else {
        say(&format!("everything is in {}", kept.display()));
    }
    Ok(wrong)
}

/// Removes a folder with everything in it, if it is there.
pub(crate) fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

/// What the second verifier, once it is built, has against the evidence file of the demonstration.
fn second_opinion(
    root: &Path,
    kept: &Path,
    document: &Value,
    skipped: &mut Vec<String>,
) -> anyhow::Result<Option<String>> {
    let program = root.join("web/verify/dist/cli.js");
    if !program.is_file() {
        let line =
            "SKIPPED: the second verifier did not look at the demonstration's evidence: `web/verify/dist` not found";
        say(line);
        skipped.push(line.to_owned());
        return Ok(None);
    }
    let Some(chain) = document["evidence"]["chain"].as_str() else {
        return Ok(Some("the document does not say which consortium the evidence is of".to_owned()));
    };
    let mut verify = Command::new("node");
    verify.arg(program).arg(kept.join("evidence.vt")).args(["--genesis", chain]);
    Ok((!streamed(verify)?).then(|| "the second verifier refuses the evidence file".to_owned()))
}

/// What the package that checks receipts, once it is installed, has against those of the members that signed the evidence.
fn others_opinion(root: &Path, kept: &Path, skipped: &mut Vec<String>) -> anyhow::Result<Option<String>> {
    let python = receipt_checker(root)?;
    if !python.is_file() {
        let line = "SKIPPED: the demonstration's receipts were not checked by software of others: `cargo xtask test receipts` installs it";
        say(line);
        skipped.push(line.to_owned());
        return Ok(None);
    }
    let receipts = kept.join("receipts");
    let mut take = Command::new(vitaltrace(root)?);
    take.arg("verify").arg(kept.join("evidence.vt")).arg("--genesis").arg(kept.join("genesis.json"));
    take.arg("--receipts").arg(&receipts);
    let mut check = Command::new(python);
    check.arg(root.join("spec/check/receipt.py")).arg(&receipts);
    let held = streamed(take)? && streamed(check)?;
    Ok((!held).then(|| "the receipts of the evidence file do not hold".to_owned()))
}

/// How a program ended by itself.
struct Ended {
    status: ExitStatus,
    output: String,
}

/// Runs a program and collects its standard output. When it takes longer than `limit` it is asked to stop, then killed; then there
/// is no result.
fn run_limited(mut command: Command, limit: Duration) -> anyhow::Result<Option<Ended>> {
    let name = shown(&command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{name}`"))?;
    let mut output = child.stdout.take().context("no standard output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = output.read_to_string(&mut text).map(|_| text);
        // Nobody listens any more once the limit is over.
        let _ = sender.send(read);
    });
    if let Some(status) = wait(&mut child, limit)? {
        // A process that it left behind may hold its output open.
        let output = receiver
            .recv_timeout(STOP_LIMIT)
            .context("its output is still held open by a process that it left behind")??;
        return Ok(Some(Ended { status, output }));
    }
    // Asked first, so that it can stop the processes that it started.
    Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status()?;
    if wait(&mut child, STOP_LIMIT)?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(None)
}

fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Everything in the document that is not as promised.
fn judge(document: &Value, entries: Option<u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    expect(document["ok"] == true, "`ok` is not true".into());

    let steps = list(document, "steps");
    for row in 0..ROWS {
        let of_row: Vec<&Value> = steps.iter().filter(|step| step["row"] == row).collect();
        expect(!of_row.is_empty(), format!("row {row} was not played"));
        for step in of_row {
            let (name, error) = (&step["name"], step["error"].as_str().unwrap_or("no reason given"));
            expect(step["ok"] == true, format!("row {row} {name} failed: {error}"));
        }
    }

    let attacks = list(document, "attacks");
    expect(!attacks.is_empty(), "no attack was made".into());
    for attack in attacks {
        let [injected, found, named] = ["injected", "found", "named"].map(|key| attack[key].as_u64());
        let all = injected.is_some_and(|count| count > 0) && found == injected && named == injected;
        expect(all, format!("attack {}: not every one was found and named: {attack}", attack["kind"]));
    }
    expect(document["false_alarms"] == 0, format!("false alarms: {}", document["false_alarms"]));

    let recover = &document["recover"];
    let [essential, restored, identical] = ["essential", "restored", "identical"].map(|key| recover[key].as_u64());
    let all = essential.is_some_and(|count| count > 0) && restored == essential && identical == essential;
    expect(all, format!("not every essential record came back identical: {recover}"));

    let evidence = &document["evidence"];
    expect(
        evidence["verified"] == true && evidence["complete"] == true && evidence["entries"].as_u64() > Some(0),
        format!("the evidence file was not verified as complete: {evidence}"),
    );
    let shown = evidence["placed"] == evidence["entries"]
        && evidence["witnesses"] == 4
        && ["current", "devices"].iter().all(|key| evidence[key].as_u64() > Some(0))
        && ["current_unshown", "devices_unshown"].iter().all(|key| evidence[key] == 0);
    expect(shown, format!("the evidence file does not show all that it could, signed by all: {evidence}"));
    expect(document["ledger"]["validators"] == 4, format!("not four validators: {}", document["ledger"]));
    if let Some(entries) = entries {
        let loaded = &document["resources_loaded"];
        expect(*loaded == entries, format!("`resources_loaded` is {loaded}, the bundles have {entries} entries"));
    }
    wrong
}

fn list<'a>(document: &'a Value, key: &str) -> &'a [Value] {
    document[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        let steps: Vec<Value> = (0..ROWS).map(|row| json!({"row": row, "name": "n", "ok": true})).collect();
        json!({
            "ok": true, "steps": steps, "ledger": {"validators": 4},
            "attacks": [{"kind": "modified", "injected": 3, "found": 3, "named": 3}],
            "false_alarms": 0, "recover": {"essential": 5, "restored": 5, "identical": 5},
            "evidence": {
                "entries": 40, "complete": true, "verified": true, "placed": 40, "witnesses": 4,
                "current": 9, "current_unshown": 0, "devices": 6, "devices_unshown": 0
            },
            "resources_loaded": 7,
        })
    }

    #[track_caller]
    fn check(pointer: &str, value: Value, expected: &str) {
        let mut document = good();
        *document.pointer_mut(pointer).unwrap() = value;
        let wrong = judge(&document, Some(7));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains(expected), "{wrong:?}");
    }

    #[test]
    fn a_program_that_hangs_is_stopped_and_has_no_result() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            command
        };
        let ended = run_limited(script("echo {}; exit 1"), DEMO_LIMIT).unwrap().unwrap();
        assert_eq!((ended.status.code(), ended.output.as_str()), (Some(1), "{}\n"));
        assert!(run_limited(script("exec sleep 60"), Duration::from_millis(1)).unwrap().is_none());
    }

    #[test]
    fn a_document_as_promised_has_nothing_wrong() {
        assert_eq!(judge(&good(), Some(7)), Vec::<String>::new());
        assert_eq!(judge(&good(), None), Vec::<String>::new());
    }

    #[test]
    fn everything_that_is_not_as_promised_is_named() {
        check("/ok", json!(false), "`ok` is not true");
        check("/steps/4/ok", json!(false), "row 4 \"n\" failed");
        check("/steps/19/row", json!(18), "row 19 was not played");
        check("/attacks", json!([]), "no attack was made");
        check("/attacks/0/named", json!(2), "not every one was found and named");
        check("/attacks/0/injected", json!(0), "not every one was found and named");
        check("/false_alarms", json!(1), "false alarms: 1");
        check("/recover/identical", json!(4), "not every essential record came back identical");
        check("/evidence/complete", json!(false), "not verified as complete");
        check("/evidence/verified", json!(false), "not verified as complete");
        check("/evidence/placed", json!(39), "does not show all that it could");
        check("/evidence/witnesses", json!(3), "does not show all that it could");
        check("/evidence/current_unshown", json!(1), "does not show all that it could");
        check("/evidence/devices", json!(0), "does not show all that it could");
        check("/ledger/validators", json!(3), "not four validators");
        check("/resources_loaded", json!(6), "the bundles have 7 entries");
    }

    #[test]
    fn an_empty_document_is_wrong_in_every_part() {
        assert!(judge(&json!({}), None).len() > 20);
    }
}
