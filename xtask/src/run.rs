//! Running other programs: what is run is shown first, and their output streams through.

use anyhow::{Context, bail};
use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A line for people, at once. A reader that has gone away is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Cargo, as the one that runs this program.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    command
}

/// Settings that hold tokens.
const SECRET: [&str; 4] = ["VITALTRACE_TOKEN", "VITALTRACE_TOKENS", "VITALTRACE_CUSTODIAN", "VITALTRACE_MQTT_PASSWORD"];

/// The command as one would type it, without tokens.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let settings =
        command.get_envs().filter_map(|(name, value)| Some((name.to_string_lossy(), value?.to_string_lossy())));
    let mut words: Vec<String> = settings
        .map(|(name, value)| match SECRET.contains(&&*name) {
            true => format!("{name}=..."),
            false => format!("{name}={}", quoted(&value)),
        })
        .collect();
    words.push(program);
    words.extend(command.get_args().map(|argument| quoted(&argument.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Runs it with its output on ours; whether it succeeded.
pub(crate) fn streamed(mut command: Command) -> anyhow::Result<bool> {
    say(&format!("$ {}", shown(&command)));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    Ok(status.success())
}

/// Runs it, passes each line of its standard output on and shows it to `watch`; whether it succeeded.
pub(crate) fn watched(mut command: Command, mut watch: impl FnMut(&str)) -> anyhow::Result<bool> {
    say(&format!("$ {}", shown(&command)));
    let name = shown(&command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{name}`"))?;
    let output = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        say(&line);
        watch(&line);
    }
    Ok(child.wait()?.success())
}

/// Runs it and returns its standard output; fails when it fails.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = shown(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{name}`: is it installed?"))?;
    if !output.status.success() {
        bail!("`{name}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` printed something that is no text"))
}

/// What cargo knows about the members of the workspace and all that they depend on.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<serde_json::Value> {
    let text = output(&mut cargo(root, &["metadata", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo's metadata is no JSON")
}

/// Where cargo leaves what it builds.
pub(crate) fn target(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = metadata(root)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}

/// Where shared test data is, if there is any.
pub(crate) fn shared_data(root: &Path) -> PathBuf {
    std::env::var_os("VITALTRACE_SHARED").map_or_else(|| root.join("..").join("shared").join("data"), PathBuf::from)
}

/// Where the release build leaves the product's program.
pub(crate) fn vitaltrace(root: &Path) -> anyhow::Result<PathBuf> {
    Ok(target(root)?.join("release").join("vitaltrace"))
}

/// Where the package that checks receipts is installed, below the folder of what was built.
pub(crate) const RECEIPTS: &str = "receipts";

/// The Python that has the package which checks receipts, once it is installed.
pub(crate) fn receipt_checker(root: &Path) -> anyhow::Result<PathBuf> {
    Ok(target(root)?.join(RECEIPTS).join("bin/python"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", ""]);
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace ''");
        command.env_clear().env("VITALTRACE_TOKEN", "a secret");
        assert_eq!(shown(&command), "VITALTRACE_TOKEN=... cargo doc --workspace ''");
    }

    #[test]
    fn every_line_of_a_watched_command_is_seen_and_its_failure_told() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; printf two; exit 3"]);
        let succeeded = watched(command, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!((succeeded, lines), (false, vec!["one".to_owned(), "two".to_owned()]));
    }
}
