//! Everything that must hold before a change lands, stage by stage.

use crate::{
    clients, demo,
    failures::Failures,
    mutants, oracle, packages,
    run::{RECEIPTS, cargo, output, receipt_checker, say, streamed, target, watched},
    tidy,
};
use anyhow::bail;
use std::{path::Path, process::Command, time::Instant};

/// The oldest Node that the second verifier runs on; that of `web/verify/package.json`.
const NODE_MAJOR: u32 = 20;
/// How many mutants the two verifiers are compared on; `cargo xtask mutants` does it with more. The tool's own seed makes them, and is printed.
const MUTANTS: &str = "3000";

/// The package that checks the published receipt, from the Python Package Index.
const RECEIPT_CHECKER: &str = "scitt-cose==0.5.0";

/// How a stage ended.
enum Outcome {
    Passed,
    Failed,
    /// Not run; why.
    Skipped(String),
}

/// A part of the test, which can also be run alone by its name.
struct Stage {
    name: &'static str,
    run: fn(&Path, &mut Notes) -> anyhow::Result<Outcome>,
}

/// One line for each, the quick ones first. All build under the release profile, so that dependencies are built once.
const STAGES: &[Stage] = &[
    Stage { name: "format", run: format },
    Stage { name: "lints", run: lints },
    Stage { name: "tidy", run: house_rules },
    Stage { name: "docs", run: docs },
    Stage { name: "tests", run: tests },
    Stage { name: "web", run: web },
    Stage { name: "oracle", run: oracle },
    Stage { name: "receipts", run: receipts },
    Stage { name: "clients", run: clients_of_others },
    Stage { name: "demo", run: demo_generated },
    Stage { name: "demo-shared", run: demo_shared },
];

/// What is worth saying again at the end.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
}

/// Runs the named stages, all of them when none is named; whether all that ran passed.
pub(crate) fn test(root: &Path, names: &[String]) -> anyhow::Result<bool> {
    for name in names {
        if !STAGES.iter().any(|stage| stage.name == name) {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
            bail!("`{name}` is no stage: use {}", known.join(", "));
        }
    }
    packages::ensure()?;
    let mut notes = Notes::default();
    let mut table = Vec::new();
    let mut failed = Vec::new();
    let mut passed = 0;
    for stage in STAGES.iter().filter(|stage| names.is_empty() || names.iter().any(|name| name == stage.name)) {
        say(&format!("\n=== {}", stage.name));
        let started = Instant::now();
        let outcome = (stage.run)(root, &mut notes).unwrap_or_else(|error| {
            say(&format!("{error:#}"));
            Outcome::Failed
        });
        let seconds = started.elapsed().as_secs_f64();
        let word = match outcome {
            Outcome::Passed => {
                passed += 1;
                "passed"
            }
            Outcome::Failed => {
                failed.push(stage.name);
                "FAILED"
            }
            Outcome::Skipped(why) => {
                let line = format!("SKIPPED: stage {}: {why}", stage.name);
                say(&line);
                notes.lines.push(line);
                "SKIPPED"
            }
        };
        table.push(format!("{:<12} {word:<8} {seconds:>8.1} s", stage.name));
        say(&format!("=== {}", table[table.len() - 1]));
    }
    say(&format!("\n{}", table.join("\n")));
    for line in &notes.lines {
        say(line);
    }
    for name in &failed {
        say(&format!("{name} failed; alone it runs as: cargo xtask test {name}"));
    }
    say(&format!("{passed} passed, {} failed", failed.len()));
    Ok(failed.is_empty())
}

fn verdict(good: bool) -> Outcome {
    if good { Outcome::Passed } else { Outcome::Failed }
}

fn format(root: &Path, _: &mut Notes) -> anyhow::Result<Outcome> {
    streamed(cargo(root, &["fmt", "--all", "--check"])).map(verdict)
}

fn lints(root: &Path, _: &mut Notes) -> anyhow::Result<Outcome> {
    let arguments = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    streamed(cargo(root, &arguments)).map(verdict)
}

fn house_rules(root: &Path, _: &mut Notes) -> anyhow::Result<Outcome> {
    tidy::tidy(root).map(verdict)
}

fn docs(root: &Path, _: &mut Notes) -> anyhow::Result<Outcome> {
    let mut command = cargo(root, &["doc", "--release", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    streamed(command).map(verdict)
}

/// All tests; what they skip is said again at the end, because the test harness hides what a good test prints.
fn tests(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    let mut tally = Tally::default();
    let arguments = ["test", "--release", "--locked", "--workspace", "--no-fail-fast", "--", "--show-output"];
    let mut failures = Failures::default();
    let mut test = cargo(root, &arguments);
    test.env("RUST_TEST_THREADS", at_once(std::thread::available_parallelism()?.get()).to_string());
    let good = watched(test, |line| {
        tally.read(line);
        failures.read(line);
    })?;
    notes.lines.append(&mut tally.skipped);
    notes.lines.append(&mut failures.told());
    notes.lines.push(format!("tests: {} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored));
    Ok(verdict(good && tally.failed == 0 && tally.passed > 0))
}

/// Tests of a program that run at the same time: three on two cores, as those of the gateway, most of all, wait half of their time for nodes
/// that wait for each other.
fn at_once(cores: usize) -> usize {
    cores + cores.div_ceil(2)
}

/// Node of the version that is needed, or an error that says so.
pub(crate) fn node() -> anyhow::Result<()> {
    let node = output(Command::new("node").arg("--version"))?;
    if node_major(&node).is_none_or(|major| major < NODE_MAJOR) {
        bail!("Node {NODE_MAJOR} or later is needed, this is {}", node.trim());
    }
    Ok(())
}

/// The second verifier: its own tests, and its agreement with the first on freshly written mutants.
fn web(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    node()?;
    let file = target(root)?.join("mutants.ndjson");
    let mut write = Command::new(mutants::build(root)?);
    write.arg(MUTANTS).arg(&file);
    let folder = root.join("web/verify");
    let npm = |argument: &str| {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).arg(argument);
        npm
    };
    if !streamed(write)? || !streamed(npm("ci"))? {
        return Ok(Outcome::Failed);
    }
    let mut tally = Tally::default();
    let mut test = npm("test");
    test.env("VITALTRACE_MUTANTS", &file);
    let good = watched(test, |line| tally.read_node(line))?;
    notes.lines.append(&mut tally.skipped);
    notes.lines.push(format!("web: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored));
    Ok(verdict(good && tally.failed == 0 && tally.ignored == 0 && tally.passed > 0))
}

/// What the store extracts of resources, compared with R4's own expressions.
fn oracle(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    node()?;
    oracle::agrees(root, &mut notes.lines).map(verdict)
}

/// The published COSE receipt, checked by a package that shares no code with ours. Where `CI` is set nothing excuses it.
fn receipts(root: &Path, _: &mut Notes) -> anyhow::Result<Outcome> {
    let (folder, python) = (target(root)?.join(RECEIPTS), receipt_checker(root)?);
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&folder);
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", RECEIPT_CHECKER]);
    let ready = streamed(make).unwrap_or(false) && streamed(install).unwrap_or(false);
    if !ready {
        let why = format!("Python 3 with venv, or the package {RECEIPT_CHECKER}, not found");
        return if std::env::var_os("CI").is_some() { bail!("{why}") } else { Ok(Outcome::Skipped(why)) };
    }
    let mut check = Command::new(python);
    check.arg(root.join("spec/check/receipt.py")).arg(root.join("spec/vectors/receipt-1.txt"));
    streamed(check).map(verdict)
}

/// Clients that others wrote, against a gateway of ours.
fn clients_of_others(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    clients::clients(root, &mut notes.lines).map(verdict)
}

/// `20` of `v20.20.2`.
fn node_major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn demo_generated(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    demo_on(root, &demo::Input::generated(), notes)
}

fn demo_shared(root: &Path, notes: &mut Notes) -> anyhow::Result<Outcome> {
    match demo::Input::shared(root) {
        Ok(input) => demo_on(root, &input, notes),
        Err(data) => Ok(Outcome::Skipped(format!("shared test data not found in `{}`", data.display()))),
    }
}

fn demo_on(root: &Path, input: &demo::Input, notes: &mut Notes) -> anyhow::Result<Outcome> {
    if !demo::build(root)? {
        return Ok(Outcome::Failed);
    }
    let wrong = demo::headless(root, input, &mut notes.lines)?;
    for line in &wrong {
        say(&format!("demo: {line}"));
    }
    Ok(verdict(wrong.is_empty()))
}

/// Adds up what the test harness reports of each test program, or Node's at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if line.starts_with("SKIPPED:") && !self.skipped.iter().any(|known| known == line) {
            self.skipped.push(line.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        let count = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
        };
        self.passed += count("passed").unwrap_or(0);
        self.failed += count("failed").unwrap_or(0);
        self.ignored += count("ignored").unwrap_or(0);
    }

    /// A line of Node's: it ends with one for each count, behind a sign that depends on its version and on who reads.
    fn read_node(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#", "SKIPPED:", ..] => self.skipped.push(words[1..].join(" ")),
            ["SKIPPED:", ..] => self.skipped.push(words.join(" ")),
            ["#" | "ℹ", "pass", count] => self.passed += count.parse().unwrap_or(0),
            ["#" | "ℹ", "fail" | "cancelled", count] => self.failed += count.parse().unwrap_or(0),
            ["#" | "ℹ", "skipped" | "todo", count] => self.ignored += count.parse().unwrap_or(0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_added_and_skips_kept_once() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "SKIPPED: `signals` not found",
            "SKIPPED: `signals` not found",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.12s",
        ] {
            tally.read(line);
        }
        let skipped = vec!["SKIPPED: `signals` not found".to_owned()];
        assert_eq!(tally, Tally { passed: 15, failed: 2, ignored: 1, skipped });
    }

    #[test]
    fn results_of_node_are_read_in_both_of_its_forms() {
        for sign in ["#", "ℹ"] {
            let mut tally = Tally::default();
            for line in ["tests 9", "suites 0", "pass 5", "fail 1", "cancelled 2", "skipped 1", "todo 0"] {
                tally.read_node(&format!("{sign} {line}"));
            }
            tally.read_node("# SKIPPED: mutants not found, VITALTRACE_MUTANTS names no file");
            tally.read_node("# honest: 60 compared, of them 60 accepted");
            tally.read_node("ok 1 - evidence-1 has exactly the published report");
            let skipped = vec!["SKIPPED: mutants not found, VITALTRACE_MUTANTS names no file".to_owned()];
            assert_eq!(tally, Tally { passed: 5, failed: 3, ignored: 1, skipped });
        }
    }

    #[test]
    fn the_version_of_node_is_read() {
        assert_eq!(node_major("v20.20.2\n"), Some(20));
        assert_eq!(node_major("v18.20.4"), Some(18));
        assert_eq!(node_major("node: not found"), None);
    }

    #[test]
    fn stages_have_names_of_their_own_that_the_help_lists() {
        for (index, stage) in STAGES.iter().enumerate() {
            assert!(STAGES[index + 1..].iter().all(|other| other.name != stage.name));
            assert!(crate::HELP.contains(stage.name), "{}", stage.name);
        }
    }
}
