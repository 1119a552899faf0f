//! Clients that others wrote, and use by scripts in `clients/`, against a gateway that is started for them.

use crate::{
    broker::DEVICE,
    demo,
    run::{say, shared_data, streamed, target, vitaltrace, watched},
    site::{PEOPLE, Site},
};
use anyhow::{Context, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Below the folder of what was built: the packages, and the folder of the consortium.
const FOLDER: &str = "clients";
/// Lines of a session that are said again at the end when it failed.
const LAST_LINES: usize = 16;

/// What a package is installed with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manager {
    /// pip, into a virtual environment of its own, from the pins in `requirements.txt` alone.
    Pip,
    /// npm, from `package-lock.json` alone.
    Npm,
}

/// One run of a script with a package.
struct Session {
    name: &'static str,
    manager: Manager,
    /// Where its pins stand, below `clients/`.
    pins: &'static str,
    /// What is run, below `clients/`.
    script: &'static str,
}

const fn session(name: &'static str, manager: Manager, pins: &'static str, script: &'static str) -> Session {
    Session { name, manager, pins, script }
}

/// In this order, on one consortium: what the first leave behind, the last ones read.
const SESSIONS: [Session; 11] = [
    session("fhirpy", Manager::Pip, "fhirpy/requirements.txt", "fhirpy/session.py"),
    session("fhirclient", Manager::Pip, "fhirclient/requirements.txt", "fhirclient/session.py"),
    session("fhirclient-backend", Manager::Pip, "fhirclient/requirements.txt", "fhirclient/backend.py"),
    session("smart", Manager::Npm, "smart/package-lock.json", "smart/session.mjs"),
    session("fhir-kit-client", Manager::Npm, "fhir-kit-client/package-lock.json", "fhir-kit-client/session.mjs"),
    session("medplum", Manager::Npm, "medplum/package-lock.json", "medplum/session.mjs"),
    session("sensor", Manager::Pip, "sensor/requirements.txt", "sensor/session.py"),
    session("recordings", Manager::Pip, "recordings/requirements.txt", "recordings/session.py"),
    session("parse-r4b", Manager::Pip, "parse/requirements-r4b.txt", "parse/parse.py"),
    session("parse-r4", Manager::Pip, "parse/requirements-r4.txt", "parse/parse.py"),
    session("schemathesis", Manager::Pip, "schemathesis/requirements.txt", "schemathesis/session.py"),
];

/// What the gateway is filled with before it is parsed. It needs no package.
const FILL: &str = "parse/fill.py";

/// Installs every package, starts a consortium, runs every session; what failed and what was not looked at goes to `notes`.
pub(crate) fn clients(root: &Path, notes: &mut Vec<String>) -> anyhow::Result<bool> {
    if !demo::build(root)? {
        return Ok(false);
    }
    let (scripts, folder) = (root.join("clients"), target(root)?.join(FOLDER));
    for session in &SESSIONS {
        session.install(&scripts, &folder)?;
    }
    let data = folder.join("site");
    demo::remove(&data)?;
    fs::create_dir_all(&data)?;
    let mut site = Site::start(&vitaltrace(root)?, &data)?;
    let mut commands = vec![("fill", both_streams(Path::new("python3"), &scripts.join(FILL)))];
    commands.extend(SESSIONS.iter().map(|session| (session.name, session.command(&scripts, &folder))));
    let (count, mut failed) = (commands.len(), Vec::new());
    for (name, mut command) in commands {
        surround(&mut command, root, &site)?;
        let mut last = Vec::new();
        let good = watched(command, |line| {
            if line.starts_with("SKIPPED:") {
                notes.push(line.to_owned());
            }
            last.push(line.to_owned());
        })?;
        site.must_run()?;
        if !good {
            notes.push(format!("clients: {name} failed; its last lines:"));
            notes.extend(last.iter().skip(last.len().saturating_sub(LAST_LINES)).map(|line| format!("  {line}")));
            failed.push(name);
        }
    }
    drop(site);
    if failed.is_empty() {
        demo::remove(&data)?;
    } else {
        say(&format!("{} failed; the logs and the database are in {}", failed.join(", "), data.display()));
    }
    notes.push(format!("clients: {} passed, {} failed", count - failed.len(), failed.len()));
    Ok(failed.is_empty())
}

/// Tells a session where the gateway is and by what to open it.
fn surround(command: &mut Command, root: &Path, site: &Site) -> anyhow::Result<()> {
    let mut tokens = serde_json::Map::new();
    for (name, _) in PEOPLE {
        tokens.insert(name.to_owned(), site.token(name)?.into());
    }
    command.env("VITALTRACE_URL", site.url()).env("VITALTRACE_FHIR", format!("{}/fhir", site.url()));
    command.env("VITALTRACE_TOKEN", site.token("doctor")?).env("VITALTRACE_CUSTODIAN", site.token("custodian")?);
    command.env("VITALTRACE_TOKENS", serde_json::Value::from(tokens).to_string());
    command.env("VITALTRACE_PROGRAM", vitaltrace(root)?).env("VITALTRACE_CONFIG", site.config());
    command.env("VITALTRACE_SHARED", shared_data(root)).env("VITALTRACE_MQTT", site.broker());
    command.env("VITALTRACE_MQTT_USER", DEVICE.0).env("VITALTRACE_MQTT_PASSWORD", DEVICE.1);
    // What is said comes at once, so that the last line tells where a session stopped.
    command.env("PYTHONUNBUFFERED", "1");
    Ok(())
}

impl Session {
    /// Where its packages are.
    fn place(&self, folder: &Path) -> PathBuf {
        folder.join(self.name)
    }

    /// Installs the pinned packages and nothing else, unless they are there from an earlier run.
    fn install(&self, scripts: &Path, folder: &Path) -> anyhow::Result<()> {
        let (pins, place) = (scripts.join(self.pins), self.place(folder));
        let stamp = place.join("installed");
        let wanted = fs::read_to_string(&pins).with_context(|| format!("cannot read `{}`", pins.display()))?;
        if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            self.install_anew(&pins, &place)?;
            fs::write(stamp, wanted)?;
        }
        if self.manager == Manager::Npm {
            // A module finds the packages that are beside it.
            fs::copy(scripts.join(self.script), place.join("session.mjs"))?;
        }
        Ok(())
    }

    fn install_anew(&self, pins: &Path, place: &Path) -> anyhow::Result<()> {
        demo::remove(place)?;
        fs::create_dir_all(place)?;
        let commands = match self.manager {
            Manager::Pip => {
                let mut make = Command::new("python3");
                make.args(["-m", "venv"]).arg(place);
                let mut install = Command::new(place.join("bin/python"));
                install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
                install.args(["--only-binary", ":all:", "--requirement"]).arg(pins);
                vec![make, install]
            }
            Manager::Npm => {
                for file in ["package.json", "package-lock.json"] {
                    fs::copy(pins.with_file_name(file), place.join(file))?;
                }
                let mut install = Command::new("npm");
                install.current_dir(place).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
                vec![install]
            }
        };
        for command in commands {
            if !streamed(command)? {
                bail!("the packages of {} could not be installed: nothing takes their place", self.name);
            }
        }
        Ok(())
    }

    fn command(&self, scripts: &Path, folder: &Path) -> Command {
        let (script, place) = (scripts.join(self.script), self.place(folder));
        match self.manager {
            Manager::Pip => both_streams(&place.join("bin/python"), &script),
            Manager::Npm => both_streams(Path::new("node"), &place.join("session.mjs")),
        }
    }
}

/// Runs a script with its errors among its output, so that they are among the last lines of a session that failed.
fn both_streams(program: &Path, script: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(program).arg(script);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_session_has_a_script_and_pins_of_exact_versions() {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        let names: BTreeSet<&str> = SESSIONS.iter().map(|session| session.name).collect();
        assert_eq!(names.len(), SESSIONS.len());
        assert!(scripts.join(FILL).is_file());
        for session in &SESSIONS {
            assert!(scripts.join(session.script).is_file(), "{}", session.script);
            let pins = fs::read_to_string(scripts.join(session.pins)).unwrap();
            if session.manager == Manager::Pip {
                assert!(pins.lines().all(|line| line.starts_with('#') || line.contains("==")), "{}", session.pins);
            }
        }
    }
}
