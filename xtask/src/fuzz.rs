//! `cargo xtask fuzz`: libFuzzer tries a decoder with bytes of its own making, so many times, and stops at the first that ends it.

use crate::run::{say, streamed, target};
use anyhow::{Context, bail};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What is tried, by the names of the files in `fuzz/fuzz_targets/`.
const TARGETS: [&str; 2] = ["admit", "contract"];
/// How often, unless something else is said.
const RUNS: u64 = 10_000_000;
/// The longest input: somewhat more than the longest frame, so that its bound is tried as well.
const INPUT_BYTES_MAX: usize = 70_000;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    target: String,
    runs: u64,
    /// Processes side by side, which share what they find.
    jobs: u64,
}

/// Builds a target with the nightly compiler and runs it; whether nothing was found. Inputs that led further are kept for the next time.
pub(crate) fn fuzz(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let Asked { target: name, runs, jobs } = read(arguments)?;
    let there =
        Command::new("rustup").args(["run", "nightly", "cargo", "fuzz", "--version"]).stdin(Stdio::null()).output();
    if !there.is_ok_and(|said| said.status.success()) {
        bail!(
            "this needs a nightly compiler and cargo-fuzz: `rustup toolchain install nightly` and `cargo install cargo-fuzz`"
        );
    }
    let built = target(root)?.join("fuzz");
    let corpus = built.join("corpus").join(&name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make `{}`", corpus.display()))?;
    let mut command = Command::new("rustup");
    // What is tried has no unsafe code of its own: panics are looked for, and without AddressSanitizer in several times as many inputs.
    let run = "run nightly cargo fuzz run --release --sanitizer none --target-dir";
    command.current_dir(root).args(run.split(' ')).arg(&built);
    command.arg(&name).arg(&corpus).arg("--");
    command.arg(format!("-runs={runs}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg("-print_final_stats=1");
    if jobs > 1 {
        command.arg(format!("-fork={jobs}"));
    }
    let good = streamed(command)?;
    say(&if good {
        format!("{name}: {runs} runs without a finding")
    } else {
        format!("{name}: the input that ended it is in `fuzz/artifacts/{name}`")
    });
    Ok(good)
}

fn read(arguments: &[String]) -> anyhow::Result<Asked> {
    let Some((name, rest)) = arguments.split_first().filter(|(name, _)| TARGETS.contains(&name.as_str())) else {
        bail!("say what is tried: {}", TARGETS.join(" or "));
    };
    let mut asked = Asked { target: name.clone(), runs: RUNS, jobs: 1 };
    for pair in rest.chunks(2) {
        let [name, number] = pair else { bail!("`{}` has no number", pair.join(" ")) };
        let number = number.parse().ok().filter(|number| *number > 0);
        let number = number.with_context(|| format!("`{name}` is followed by a number above 0"))?;
        match name.as_str() {
            "--runs" => asked.runs = number,
            "--jobs" => asked.jobs = number,
            _ => bail!("`{name}` is neither `--runs` nor `--jobs`"),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fuzzed_how_often_is_read_and_mistakes_are_told_before_anything_is_built() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let asked = |target: &str, runs, jobs| Asked { target: target.to_owned(), runs, jobs };
        assert_eq!(read(&words("admit")).unwrap(), asked("admit", RUNS, 1));
        assert_eq!(read(&words("contract --runs 5 --jobs 2")).unwrap(), asked("contract", 5, 2));
        for wrong in ["", "frames", "admit --runs", "admit --runs many", "admit --runs 0", "admit --rnus 5"] {
            assert!(read(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_is_known_here() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path().file_stem().unwrap().to_owned());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, TARGETS);
    }
}
