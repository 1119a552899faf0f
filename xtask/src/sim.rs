//! `cargo xtask sim`: many seeds of the simulated consortium, on all cores.

use crate::run::{cargo, streamed, target};
use anyhow::bail;
use std::{path::Path, process::Command};

/// Builds the simulation with the features that the workspace's tests have, and runs the seeds; whether no checker was violated.
pub(crate) fn sim(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    check(arguments)?;
    if !streamed(cargo(root, &["build", "--release", "--locked", "--workspace", "--bin", "sim"]))? {
        return Ok(false);
    }
    let mut command = Command::new(target(root)?.join("release").join("sim"));
    command.current_dir(root).args(arguments);
    streamed(command)
}

/// A wrong argument is told before anything is built.
fn check(arguments: &[String]) -> anyhow::Result<()> {
    for pair in arguments.chunks(2) {
        match pair {
            [name, number] if ["--seeds", "--first", "--jobs"].contains(&name.as_str()) => {
                if number.parse::<u64>().is_err() {
                    bail!("`{number}` is no number for `{name}`");
                }
            }
            _ => bail!("`{}` is none of `--seeds N`, `--first S`, `--jobs J`", pair.join(" ")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_told_before_anything_is_built() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(check(&words("--seeds 1000 --first 7")).is_ok());
        assert!(check(&[]).is_ok());
        for wrong in ["--seeds", "--seeds many", "--sedes 5", "7"] {
            assert!(check(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
