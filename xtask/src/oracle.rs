//! The oracle: search values as `store` extracts them, compared with what R4's own expressions find, for every parameter.
//!
//! On generated resources of every type, and on the shared test data where there is any. `crates/store/oracle` compares.

use crate::{
    definitions,
    run::{cargo, say, shared_data, streamed, target, watched},
};
use std::{path::Path, process::Command};

/// Whether both agree. What was compared, and what was not, goes to `notes`.
pub(crate) fn agrees(root: &Path, notes: &mut Vec<String>) -> anyhow::Result<bool> {
    let published = definitions::fetched(root)?;
    let target = target(root)?;
    let (generated, extracted) = (target.join("oracle-generated.ndjson"), target.join("oracle-extracted.ndjson"));
    let folder = root.join("crates/store/oracle");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(&folder).args(arguments);
        command
    };
    let mut generate = run("node", &["generate.js"]);
    generate.arg(&published).arg(&generated);
    // With the features that the workspace's tests have, so that nothing is built twice.
    let build = cargo(root, &["build", "--release", "--locked", "--workspace", "--example", "extracted"]);
    let mut extract = Command::new(target.join("release/examples/extracted"));
    extract.arg(&extracted).arg(&generated);
    let shared = shared_data(root).join("fhir");
    if shared.is_dir() {
        extract.arg(&shared);
    } else {
        let line =
            format!("SKIPPED: FHIR test data at `{}` not found; the oracle had generated resources", shared.display());
        say(&line);
        notes.push(line);
    }
    // Scripts of packages are not run: none is needed.
    if !streamed(run("npm", &["ci", "--ignore-scripts"]))?
        || !streamed(generate)?
        || !streamed(build)?
        || !streamed(extract)?
    {
        return Ok(false);
    }
    let mut compare = run("node", &["compare.js"]);
    compare.arg(&published).arg(&extracted);
    watched(compare, |line| {
        if line.starts_with("oracle: ") {
            notes.push(line.to_owned());
        }
    })
}
