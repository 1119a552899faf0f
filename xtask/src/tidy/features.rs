//! The program asks of every dependency for the same features as the tests do, so that neither is built again for the other.

use super::{Checked, Finding};
use crate::run::{cargo, output};
use std::{collections::BTreeSet, path::Path};

const MANIFEST: &str = "crates/gateway/Cargo.toml";

/// Compares what `cargo xtask demo` builds with what the tests build.
pub(super) fn check(root: &Path) -> anyhow::Result<Checked> {
    let tree = |of: &[&str], edges: &str| {
        let form = ["tree", "--locked", "--prefix", "none", "--format", "{p} [{f}]", "--edges", edges];
        output(cargo(root, &form).args(of))
    };
    Ok(compared(&tree(&["--package", "gateway"], "normal,build")?, &tree(&["--workspace"], "normal,build,dev")?))
}

/// Each line of both names a package and its features.
fn compared(program: &str, tests: &str) -> Checked {
    // A package that was shown before is marked.
    let lines = |tree: &str| -> BTreeSet<String> {
        tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let (program, tests) = (lines(program), lines(tests));
    let name = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    let findings = program.difference(&tests).map(|line| {
        let with: Vec<&str> = tests.iter().filter(|other| name(other) == name(line)).map(String::as_str).collect();
        let what = format!(
            "the program has `{line}`, the tests have `{}`: name the package here with the features of both, or all that rests on it is built twice",
            with.join("`, `")
        );
        Finding::new(MANIFEST, 1, what)
    });
    Checked { findings: findings.collect(), seen: format!("{} packages of the program", program.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_the_tests_have_with_other_features_is_told() {
        let tests = "ahash v0.8.12 [default,std]\nserde v1.0.1 [std]\nproptest v1.0.0 []\n";
        compared("serde v1.0.1 [std]\nahash v0.8.12 [default,std] (*)\n", tests).assert_told(&[]);
        compared("serde v1.0.1 [std]\nahash v0.8.12 [std]\n", tests).assert_told(&["ahash v0.8.12 [default,std]"]);
    }
}
