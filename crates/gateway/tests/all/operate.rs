//! The page for operators, followed to the letter: its `console` blocks are run from top to bottom and must show what they promise.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; what is skipped is said"
)]

use crate::consortium::{free_addresses, program};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the whole page may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(240);

/// The ports of the page. They are replaced by free ones, which is the only change.
const PORTS: [&str; 12] =
    ["8100", "8101", "8102", "8103", "8104", "8105", "8200", "8201", "8202", "8203", "8204", "8205"];

/// A command and what the page says it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    shows: Vec<String>,
}

#[test]
fn the_page_for_operators_works_as_it_stands() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() > 20, "{steps:?}");
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: curl not found, which the page has its readers use");
        return;
    }
    let site = Site::new();
    let output = site.run(&script(&steps, &site.ports));
    println!("{} commands of the page", steps.len());
    let mut wrong = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Some(shown) = shown_by(&output, number) else {
            wrong.push(format!("line {}: not reached: {}", step.line, step.command));
            break;
        };
        let expected: Vec<String> = step.shows.iter().map(|line| with_ports(line, &site.ports)).collect();
        let shown: Vec<&str> = shown.lines().collect();
        if !matches_lines(&expected.iter().map(String::as_str).collect::<Vec<_>>(), &shown) {
            wrong.push(format!(
                "line {}: {}\nexpected\n{}\nshown\n{}",
                step.line,
                step.command,
                expected.join("\n"),
                shown.join("\n")
            ));
        }
    }
    assert!(wrong.is_empty(), "docs/operate.md is not what happens:\n{}\n{}", wrong.join("\n\n"), site.keep());
}

/// A folder to work in, free ports, and the duty to end what was started there.
struct Site {
    folder: Option<tempfile::TempDir>,
    ports: Vec<(&'static str, String)>,
}

impl Site {
    fn new() -> Self {
        let free = free_addresses(PORTS.len());
        let ports = PORTS.into_iter().zip(free.iter().map(|address| address.port().to_string())).collect();
        Self { folder: Some(tempfile::Builder::new().prefix("vitaltrace-operate-").tempdir().unwrap()), ports }
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Runs the script in the folder, and returns everything that it said.
    fn run(&self, script: &str) -> String {
        let work = self.folder().join("work");
        fs::create_dir(&work).unwrap();
        let (source, said) = (self.folder().join("page.sh"), self.folder().join("said"));
        fs::write(&source, script).unwrap();
        let out = fs::File::create(&said).unwrap();
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut path = vec![PathBuf::from(program()).parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&folders));
        let mut shell = Command::new("bash")
            .arg(source)
            .current_dir(work)
            .env("PATH", std::env::join_paths(path).unwrap())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        wait(&mut shell);
        fs::read_to_string(said).unwrap()
    }

    /// Keeps the folder for whoever looks into what went wrong.
    fn keep(&self) -> String {
        let kept = std::env::temp_dir().join(format!("vitaltrace-operate-failed-{}", std::process::id()));
        let copied = Command::new("cp").arg("-r").arg(self.folder()).arg(&kept).status();
        if copied.is_ok_and(|status| status.success()) {
            format!("everything is in {}", kept.display())
        } else {
            String::new()
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The page ends by stopping everything; one that broke off did not come to it.
        let Ok(listing) = fs::read_dir(self.folder().join("work")) else { return };
        for entry in listing.flatten() {
            let Ok(pid) = fs::read_to_string(entry.path().join("node.pid")) else { continue };
            let ours = fs::read_link(format!("/proc/{}/exe", pid.trim())).is_ok_and(|exe| exe == Path::new(program()));
            if ours {
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
            }
        }
    }
}

fn wait(shell: &mut Child) {
    let begin = Instant::now();
    while shell.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            shell.kill().unwrap();
            shell.wait().unwrap();
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The commands in the page's `console` blocks.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
                (Some(command), _, _) => {
                    steps.push(Step { line: number + 1, command: command.to_owned(), shows: Vec::new() });
                }
                (None, Some(more), Some(step)) => step.command.push_str(&format!("\n{more}")),
                (None, None, Some(step)) => step.shows.push(line.to_owned()),
                (None, _, None) => panic!("line {}: output without a command", number + 1),
            }
        }
    }
    steps
}

fn with_ports(text: &str, ports: &[(&str, String)]) -> String {
    ports.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(&format!(":{theirs}"), &format!(":{ours}")))
}

/// One shell script: each command with a mark before it, ended by the first that fails.
fn script(steps: &[Step], ports: &[(&str, String)]) -> String {
    let mut script = String::new();
    for (number, step) in steps.iter().enumerate() {
        let command = with_ports(&step.command, ports);
        script.push_str(&format!("echo '@@{number}@@'\n{command}\ncode=$?; if [ $code -ne 0 ]; then echo \"exit code $code ends the page\"; exit 1; fi\n"));
    }
    script.push_str(&format!("echo '@@{}@@'\n", steps.len()));
    script
}

/// What was said after a command's mark and before the next one.
fn shown_by(output: &str, number: usize) -> Option<&str> {
    let from = output.find(&format!("@@{number}@@\n"))?;
    let shown = &output[from..];
    let shown = &shown[shown.find('\n')? + 1..];
    Some(shown.find(&format!("@@{}@@\n", number + 1)).map_or(shown, |end| &shown[..end]))
}

/// Whether lines are as expected: `...` in a line stands for anything in it, alone on its line for any number of lines.
fn matches_lines(expected: &[&str], shown: &[&str]) -> bool {
    match expected {
        [] => shown.is_empty(),
        ["...", rest @ ..] => (0..=shown.len()).any(|skip| matches_lines(rest, &shown[skip..])),
        [line, rest @ ..] => {
            shown.split_first().is_some_and(|(first, more)| matches_line(line, first) && matches_lines(rest, more))
        }
    }
}

fn matches_line(expected: &str, shown: &str) -> bool {
    match expected.split_once("...") {
        None => expected == shown,
        Some((before, after)) => shown.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|skip| matches_line(after, &rest[skip..]))
        }),
    }
}

#[test]
fn commands_and_what_they_show_are_told_apart() {
    let page = "text\n```console\n$ one \\\n> two\nsays\n$ three\n```\n$ not\n```sh\nnot\n```\n";
    let step = |line, command: &str, shows: &[&str]| Step {
        line,
        command: command.into(),
        shows: shows.iter().map(|s| (*s).into()).collect(),
    };
    assert_eq!(steps(page), [step(3, "one \\\ntwo", &["says"]), step(6, "three", &[])]);
}

#[test]
fn three_dots_stand_for_anything() {
    for (expected, shown) in
        [("a...c", "abc"), ("a...", "a"), ("...c", "c.c"), ("a...b...", "axxbyy"), ("abc", "abc"), ("...", "")]
    {
        assert!(matches_line(expected, shown), "{expected} {shown}");
    }
    for (expected, shown) in [("a...c", "abcd"), ("a...", "b"), ("abc", "abcd"), ("a...b", "a")] {
        assert!(!matches_line(expected, shown), "{expected} {shown}");
    }
    assert!(matches_lines(&["...", "b", "..."], &["a", "a", "b"]));
    assert!(matches_lines(&["..."], &[]));
    assert!(!matches_lines(&["a"], &["a", "b"]));
    assert!(!matches_lines(&["a", "b"], &["a"]));
}
