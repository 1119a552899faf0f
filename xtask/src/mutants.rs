//! `cargo xtask mutants`: the two verifiers of evidence, compared on as many mutants as one has time for.

use crate::run::{cargo, output, say, streamed, target};
use anyhow::{Context, bail};
use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How many are compared when nobody says otherwise.
const COUNT: u64 = 100_000;
/// The seed of the first file when nobody says otherwise; each further file has the next one.
const SEED: u64 = 0x5eed_2026;
/// How many are written into a file: about 90 MB, which are removed when both verifiers agree on it.
const FILE: u64 = 5_000;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    count: u64,
    seed: u64,
    jobs: u64,
}

/// What was compared so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    compared: u64,
    accepted: u64,
    /// Seeds of the files on which the verifiers disagree, or which could not be compared.
    failed: Vec<u64>,
}

/// Writes mutants and compares the verifiers on them, several files at the same time; whether they agree on all.
pub(crate) fn mutants(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let asked = read(arguments)?;
    crate::test::node()?;
    let tool = build(root)?;
    let folder = root.join("web/verify");
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(arguments);
        streamed(npm)
    };
    if !npm(&["ci"])? || !npm(&["run", "build"])? {
        return Ok(false);
    }
    let (next, tally, began) = (AtomicU64::new(0), Mutex::new(Tally::default()), Instant::now());
    let place = target(root)?;
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(count) = share(asked.count, nth) else { return };
                    let seed = asked.seed.wrapping_add(nth);
                    let compared = compare(&tool, &folder, &place.join(format!("mutants-{seed}.ndjson")), count, seed);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    match compared {
                        Ok((all, accepted)) if all == count => {
                            tally.compared += all;
                            tally.accepted += accepted;
                        }
                        Ok((all, _)) => {
                            say(&format!("seed {seed}: {all} of {count} were compared"));
                            tally.failed.push(seed);
                        }
                        Err(error) => {
                            say(&format!("seed {seed}: {error:#}"));
                            tally.failed.push(seed);
                        }
                    }
                    say(&format!("{} of {} mutants after {:.0?}", tally.compared, asked.count, began.elapsed()));
                }
            });
        }
    });
    let Tally { compared, accepted, failed } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&format!(
        "{compared} mutants compared from seed {} on, of them {accepted} accepted with the same report by both, in {:.0?}; {} files with \
         disagreements",
        asked.seed,
        began.elapsed(),
        failed.len()
    ));
    for seed in &failed {
        say(&format!("FAILED: cargo xtask mutants --count {} --seed {seed}", FILE.min(asked.count)));
    }
    Ok(failed.is_empty() && compared == asked.count)
}

/// Builds the program that writes mutants, with the features that the workspace's tests have, so that nothing is built twice.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let build = cargo(root, &["build", "--release", "--locked", "--workspace", "--example", "mutants"]);
    if !streamed(build)? {
        bail!("the mutants' program could not be built");
    }
    Ok(target(root)?.join("release/examples/mutants"))
}

/// How many go into the `nth` file; none when all are written.
fn share(count: u64, nth: u64) -> Option<u64> {
    let left = count.checked_sub(nth.checked_mul(FILE)?)?;
    (left > 0).then_some(left.min(FILE))
}

/// Writes one file and compares; how many there were, and how many both accepted. The file stays where they disagree.
fn compare(tool: &Path, folder: &Path, file: &Path, count: u64, seed: u64) -> anyhow::Result<(u64, u64)> {
    output(Command::new(tool).arg(count.to_string()).arg(file).arg(seed.to_string()))?;
    let mut test = Command::new("node");
    test.current_dir(folder).args(["--test", "--test-reporter=tap", "dist/tests/mutants.test.js"]);
    let told = test.env("VITALTRACE_MUTANTS", file).output().context("cannot run `node`")?;
    let text = String::from_utf8_lossy(&told.stdout);
    if !told.status.success() {
        bail!("the verifiers disagree on `{}`:\n{text}", file.display());
    }
    fs::remove_file(file).with_context(|| format!("`{}`", file.display()))?;
    Ok(read_counts(&text))
}

/// How many were compared, and how many of them were accepted, as the test of the second verifier tells it: a line for each kind.
fn read_counts(text: &str) -> (u64, u64) {
    let (mut compared, mut accepted) = (0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.trim_start_matches("# ").split_whitespace().collect();
        if let [_, all, "compared,", "of", "them", good, "accepted"] = words[..] {
            compared += all.parse().unwrap_or(0);
            accepted += good.parse().unwrap_or(0);
        }
    }
    (compared, accepted)
}

/// A wrong argument is told before anything is built.
fn read(arguments: &[String]) -> anyhow::Result<Asked> {
    let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    let mut asked = Asked { count: COUNT, seed: SEED, jobs };
    for pair in arguments.chunks(2) {
        let [name, number] = pair else { bail!("`{}` has no number", pair.join(" ")) };
        let number: u64 = number.parse().map_err(|_| anyhow::anyhow!("`{number}` is no number for `{name}`"))?;
        match name.as_str() {
            "--count" if number > 0 => asked.count = number,
            "--seed" => asked.seed = number,
            "--jobs" if number > 0 => asked.jobs = number,
            _ => bail!("`{}` is none of `--count N`, `--seed S`, `--jobs J`", pair.join(" ")),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn wrong_arguments_are_told_before_anything_is_built() {
        assert_eq!(read(&words("--count 7 --seed 3 --jobs 1")).unwrap(), Asked { count: 7, seed: 3, jobs: 1 });
        assert_eq!(read(&[]).unwrap().count, COUNT);
        for wrong in ["--count", "--count many", "--count 0", "--jobs 0", "--cuont 5", "7"] {
            assert!(read(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_files_hold_as_many_as_were_asked_for() {
        for count in [1, FILE - 1, FILE, FILE + 1, 3 * FILE] {
            let shares: Vec<u64> = (0..).map_while(|nth| share(count, nth)).collect();
            assert_eq!(shares.iter().sum::<u64>(), count);
            assert!(shares.iter().all(|share| (1..=FILE).contains(share)));
        }
    }

    #[test]
    fn what_was_compared_is_read_from_the_test_of_the_second_verifier() {
        let text = "TAP version 13\n# honest: 60 compared, of them 60 accepted\n# shown: 300 compared, of them 112 accepted\n\
                    # 360 mutants compared, 0 disagreements\nok 1 - every mutant\n";
        assert_eq!(read_counts(text), (360, 172));
        assert_eq!(read_counts(""), (0, 0));
    }
}
