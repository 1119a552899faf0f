//! Another FHIR server under the same load as ours, on this machine, one after the other: `helios-hfs` with its defaults on SQLite.

use crate::{
    definitions, demo,
    run::{cargo, say, shown, streamed, target, vitaltrace},
    site::{answers, free_ports},
};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The rival's package, version and program.
const PACKAGE: &str = "helios-hfs";
const VERSION: &str = "0.2.7";
const PROGRAM: &str = "hfs";
/// Below the folder of what was built: the rival, and what it writes.
const FOLDER: &str = "rival";
/// Where it looks for FHIR R4's search parameters, below the folder that it is started in.
const PARAMETERS: &str = "data/search-parameters-r4.json";
/// How long it may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// What is measured, and how many times as much of it as the rival ours is meant to answer.
const TARGETS: [(&str, f64); 4] = [("creates", 5.0), ("reads", 1.5), ("searches", 4.0), ("reads-under-writes", 20.0)];

/// What the chore is told.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// Handed to the measurement as they are.
    patients: Option<u64>,
    seconds: Option<u64>,
    /// Where the document goes.
    json: Option<PathBuf>,
}

impl Asked {
    /// A wrong argument is told before anything is built.
    fn read(arguments: &[String]) -> anyhow::Result<Self> {
        let mut asked = Self { patients: None, seconds: None, json: None };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { bail!("`{}` needs a value", pair.join(" ")) };
            let number = || value.parse::<u64>().ok().filter(|number| *number > 0);
            match name.as_str() {
                "--patients" => {
                    asked.patients = Some(number().with_context(|| format!("`{value}` is no number of patients"))?)
                }
                "--seconds" => {
                    asked.seconds = Some(number().with_context(|| format!("`{value}` is no number of seconds"))?)
                }
                "--json" => asked.json = Some(value.into()),
                _ => bail!("`{name}` is none of `--patients N`, `--seconds S`, `--json FILE`"),
            }
        }
        Ok(asked)
    }

    /// The measurement of `program` with these settings, on either side.
    fn measurement(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["bench", "fhir", "--json", "--what"]).arg(TARGETS.map(|(what, _)| what).join(","));
        for (name, value) in [("--patients", self.patients), ("--seconds", self.seconds)] {
            command.args(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
        }
        command
    }
}

/// Installs the rival, measures it and then ours, and shows both; an error when one of them did not answer, whatever the ratios are.
pub(crate) fn rival(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let asked = Asked::read(arguments)?;
    if !demo::build(root)? {
        return Ok(false);
    }
    let folder = target(root)?.join(FOLDER);
    let (rival, ours) = (installed(root, &folder)?, vitaltrace(root)?);
    let published = definitions::fetched(root)?.join("search-parameters.json");

    let data = folder.join("data");
    demo::remove(&data)?;
    // It looks for the search parameters of R4 there, which its package does not bring; without them it knows next to none, writes no
    // index, and answers whatever is searched with everything.
    let parameters = data.join(PARAMETERS);
    fs::create_dir_all(parameters.parent().context("a file is in a folder")?)?;
    fs::copy(published, parameters)?;
    let server = Server::start(&rival, &data)?;
    let mut command = asked.measurement(&ours);
    command.args(["--backend", PACKAGE, "--url"]).arg(format!("http://{}", server.http));
    let theirs = document(&mut command);
    // Never both at the same time.
    drop(server);
    let theirs = theirs.with_context(|| format!("the log of {PACKAGE} is below {}", data.display()))?;
    let mut command = asked.measurement(&ours);
    // On the same disk.
    command.args(["--all-on", "--dir"]).arg(&data);
    let ours = document(&mut command)?;
    demo::remove(&data)?;

    let rows = side_by_side(&ours, &theirs)?;
    say(&table(&rows));
    if let Some(file) = &asked.json {
        let compared: Vec<Value> = rows.iter().map(Row::as_json).collect();
        let both = json!({"rival": format!("{PACKAGE} {VERSION}"), "compared": compared, "ours": ours["runs"], "theirs": theirs["runs"]});
        let text = serde_json::to_string_pretty(&both)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    match rows.iter().find(|row| row.is_silent()) {
        Some(row) => bail!("no request was answered on one side: {}", row.what),
        None => Ok(true),
    }
}

/// The rival's program, which is installed once.
fn installed(root: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let program = folder.join("bin").join(PROGRAM);
    // Cargo writes there what it installed.
    let list = fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
    if list.contains(&format!("\"{PACKAGE} {VERSION} ")) && program.is_file() {
        return Ok(program);
    }
    say(&format!(
        "installing {PACKAGE} {VERSION} into {}: this takes 35 to 45 minutes of processor time, once",
        folder.display()
    ));
    let mut install = cargo(root, &["install", "--locked", "--root"]);
    install.arg(folder).args([PACKAGE, "--version", VERSION]);
    // One that was broken off goes on where it was, and nothing of ours is built again for it.
    let built = folder.join("build");
    install.env("CARGO_TARGET_DIR", &built);
    ensure!(streamed(install)?, "{PACKAGE} could not be installed: nothing takes its place");
    demo::remove(&built)?;
    Ok(program)
}

/// The rival while it runs; it ends when this is dropped.
struct Server {
    http: SocketAddr,
    process: Child,
}

impl Server {
    /// Starts it with its defaults in a folder, where its database goes, and waits until it answers.
    fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let port = free_ports(1)?.into_iter().next().context("no port")?;
        let http = SocketAddr::from(([127, 0, 0, 1], port));
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(program);
        command.current_dir(folder).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("HFS_") || name == "DATABASE_URL" {
                command.env_remove(&*name);
            }
        }
        say(&format!("$ {}", shown(&command)));
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut server =
            Self { http, process: process.with_context(|| format!("cannot run `{}`", program.display()))? };
        let begin = Instant::now();
        while !answers(http, "/health") {
            if let Some(status) = server.process.try_wait()? {
                bail!("{PACKAGE} ended with {status}: its log is below {}", folder.display());
            }
            ensure!(begin.elapsed() < READY_LIMIT, "{PACKAGE} does not answer: its log is below {}", folder.display());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The document that a measurement prints, whether or not some of its requests failed.
fn document(command: &mut Command) -> anyhow::Result<Value> {
    let name = shown(command);
    say(&format!("$ {name}"));
    let ended = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ended = ended.with_context(|| format!("cannot run `{name}`"))?;
    serde_json::from_slice(&ended.stdout)
        .with_context(|| format!("`{name}` ended with {} and printed no document", ended.status))
}

/// One kind of load on both sides.
#[derive(Debug, PartialEq)]
struct Row {
    what: &'static str,
    target: f64,
    ours: Side,
    theirs: Side,
}

/// What one side showed. Times are none when nothing was answered.
#[derive(Debug, PartialEq)]
struct Side {
    per_s: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    failed: u64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours.per_s / self.theirs.per_s
    }

    fn is_silent(&self) -> bool {
        [&self.ours, &self.theirs].iter().any(|side| side.p50_ms.is_none())
    }

    fn as_json(&self) -> Value {
        let side = |side: &Side| json!({"per_s": side.per_s, "p50_ms": side.p50_ms, "p99_ms": side.p99_ms, "failed": side.failed});
        json!({
            "what": self.what, "ours": side(&self.ours), "theirs": side(&self.theirs), "target": self.target,
            "ratio": (!self.is_silent()).then(|| self.ratio())
        })
    }
}

/// Finds each kind in both documents.
fn side_by_side(ours: &Value, theirs: &Value) -> anyhow::Result<Vec<Row>> {
    let find = |document: &Value, what: &str| {
        let run = document["runs"].as_array().and_then(|runs| runs.iter().find(|run| run["what"] == what));
        let run = run.with_context(|| format!("a document has no run of {what}"))?;
        let per_s = run["per_s"].as_f64().with_context(|| format!("a run of {what} has no rate"))?;
        let (p50_ms, p99_ms) = (run["p50_ms"].as_f64(), run["p99_ms"].as_f64());
        Ok::<_, anyhow::Error>(Side { per_s, p50_ms, p99_ms, failed: run["failed"].as_u64().unwrap_or_default() })
    };
    TARGETS
        .into_iter()
        .map(|(what, target)| Ok(Row { what, target, ours: find(ours, what)?, theirs: find(theirs, what)? }))
        .collect()
}

/// Both sides as a table.
fn table(rows: &[Row]) -> String {
    let side = |side: &Side| {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        format!("{:>10.0} {:>9} {:>9}", side.per_s, ms(side.p50_ms), ms(side.p99_ms))
    };
    let head = ["requests/s", "p50 ms", "p99 ms"];
    let head = format!("{:>10} {:>9} {:>9}", head[0], head[1], head[2]);
    let mut lines = vec![
        format!("{:>18} {:>30} {:>30}", "", "Vitaltrace, all on", format!("{PACKAGE} {VERSION}")),
        format!("{:>18} {head} {head} {:>8} {:>8}", "", "ratio", "target"),
    ];
    for row in rows {
        let ratio = if row.is_silent() { "-".to_owned() } else { format!("{:.1}", row.ratio()) };
        lines.push(format!(
            "{:>18} {} {} {ratio:>8} {:>8.1}",
            row.what,
            side(&row.ours),
            side(&row.theirs),
            row.target
        ));
        for (of, side) in
            [("Vitaltrace", &row.ours), (PACKAGE, &row.theirs)].into_iter().filter(|(_, side)| side.failed > 0)
        {
            lines.push(format!("{:>18} {} REQUESTS FAILED at {of}", "", side.failed));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn runs(per_s: [f64; 4], failed: u64) -> Value {
        let runs = TARGETS.iter().zip(per_s).map(|((what, _), per_s)| {
            let ms = (per_s > 0.0).then_some(1.5);
            json!({"what": what, "per_s": per_s, "p50_ms": ms, "p99_ms": ms, "failed": failed})
        });
        json!({"runs": runs.collect::<Vec<_>>()})
    }

    #[test]
    fn wrong_arguments_are_told_before_anything_is_installed() {
        let asked = Asked::read(&words("--seconds 5 --json out.json")).unwrap();
        assert_eq!(asked, Asked { patients: None, seconds: Some(5), json: Some("out.json".into()) });
        for wrong in ["--patients", "--patients many", "--seconds 0", "--url http://a", "7"] {
            assert!(Asked::read(&words(wrong)).is_err(), "{wrong}");
        }
        let command = asked.measurement(Path::new("vitaltrace"));
        let expected = "vitaltrace bench fhir --json --what creates,reads,searches,reads-under-writes --seconds 5";
        assert_eq!(shown(&command), expected);
    }

    #[test]
    fn both_sides_stand_in_one_line_with_their_ratio_and_its_target() {
        let rows = side_by_side(&runs([5_000.0, 300.0, 80.0, 10.0], 0), &runs([1_000.0, 100.0, 40.0, 5.0], 3)).unwrap();
        let table = table(&rows);
        let lines: Vec<Vec<String>> = table.lines().map(words).collect();
        assert_eq!(lines[2], words("creates 5000 1.50 1.50 1000 1.50 1.50 5.0 5.0"));
        assert_eq!(lines[3], words("3 REQUESTS FAILED at helios-hfs"));
        assert_eq!(lines[6], words("searches 80 1.50 1.50 40 1.50 1.50 2.0 4.0"));
        assert_eq!(rows[1].as_json()["ratio"], 3.0);
    }

    #[test]
    fn a_side_that_did_not_answer_has_no_ratio_and_one_that_was_not_measured_is_an_error() {
        let rows = side_by_side(&runs([1.0; 4], 0), &runs([0.0, 1.0, 1.0, 1.0], 9)).unwrap();
        assert!(rows[0].is_silent() && !rows[1].is_silent() && rows[0].as_json()["ratio"].is_null());
        assert!(table(&rows).lines().nth(2).unwrap().split_whitespace().any(|word| word == "-"));
        assert!(side_by_side(&runs([1.0; 4], 0), &json!({"runs": []})).is_err());
    }
}
