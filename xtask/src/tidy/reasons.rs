//! Every direct dependency has a reason in deny.toml.

use super::{Checked, Finding, sources::Sources};
use anyhow::Context;
use toml::Table;

const PAGE: &str = "deny.toml";
const MANIFEST: &str = "Cargo.toml";

pub(super) fn check(sources: &Sources) -> anyhow::Result<Checked> {
    let manifest: Table = sources.text(MANIFEST).context("no Cargo.toml at the root")?.parse()?;
    let Some(page) = sources.text(PAGE) else {
        return Ok(Checked {
            findings: vec![Finding::new(PAGE, 1, "is missing: write it")],
            seen: "no reasons".into(),
        });
    };
    let dependencies =
        manifest.get("workspace").and_then(|table| table.get("dependencies")).and_then(toml::Value::as_table);
    let outside: Vec<&str> = dependencies
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let reasons: Vec<(usize, &str)> = reasons(page);
    let missing = outside.iter().filter(|name| !reasons.iter().any(|(_, reason)| reason == *name));
    let mut findings: Vec<Finding> = missing
        .map(|name| {
            Finding::new(
                PAGE,
                1,
                format!("gives no reason for `{name}`: add `#: {name}` to a group, with what it is for"),
            )
        })
        .collect();
    let gone = reasons.iter().filter(|(_, reason)| !outside.contains(reason));
    findings.extend(gone.map(|(line, name)| {
        Finding::new(PAGE, *line, format!("has a reason for `{name}`, which is no dependency: remove it"))
    }));
    Ok(Checked { findings, seen: format!("direct dependencies: {}", outside.len()) })
}

/// Names in lines `#: name, name`, each with its line.
fn reasons(page: &str) -> Vec<(usize, &str)> {
    let lines = page.lines().zip(1..).filter_map(|(line, number)| Some((number, line.strip_prefix("#: ")?)));
    lines.flat_map(|(number, names)| names.split(',').map(move |name| (number, name.trim()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_page(page: &str, expected: &[&str]) {
        let manifest = "[workspace.dependencies]\nrecord = { path = \"crates/record\" }\nserde = \"1\"\ntoml = { version = \"1\" }\n";
        check(&Sources::of(&[(MANIFEST, manifest), (PAGE, page)])).unwrap().assert_told(expected);
    }

    #[test]
    fn every_dependency_from_outside_has_a_reason_and_no_reason_is_left_over() {
        check_page("# Reading and writing text.\n#: serde, toml\n", &[]);
        check_page("#: serde\n", &["gives no reason for `toml`"]);
        check_page("#: serde, toml\n#: xml\n", &["deny.toml:2: has a reason for `xml`"]);
    }
}
