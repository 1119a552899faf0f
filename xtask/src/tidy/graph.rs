//! The crate graph: what ARCHITECTURE.md lists is what the manifests say, and every arrow points at a crate that is listed before.

use super::{Checked, Finding, counted, sources::Sources};
use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeSet;

const PAGE: &str = "ARCHITECTURE.md";
/// Opens the fenced block with one line for each crate: `name -> what it uses`.
const FENCE: &str = "```crates";

/// One line of the list, or what one manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrows {
    name: String,
    uses: BTreeSet<String>,
    line: usize,
}

pub(super) fn check(sources: &Sources, metadata: &Value) -> anyhow::Result<Checked> {
    let real = manifests(metadata)?;
    let Some(page) = sources.text(PAGE) else {
        return Ok(Checked {
            findings: vec![Finding::new(PAGE, 1, "is missing: write it")],
            seen: "nothing to compare".into(),
        });
    };
    let drawn = listed(page);
    let seen = format!("{} in the manifests, {} listed", counted(real.len(), "crate"), drawn.len());
    Ok(Checked { findings: compare(&drawn, &real), seen })
}

/// The normal dependencies between members of the workspace.
fn manifests(metadata: &Value) -> anyhow::Result<Vec<Arrows>> {
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    // Members have no source; everything else comes from a registry.
    let packages: Vec<&Value> = packages.iter().filter(|package| package["source"].is_null()).collect();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let arrows = packages.iter().map(|package| {
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        let uses = normal.filter_map(|dependency| dependency["name"].as_str()).filter(|name| names.contains(name));
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        Arrows { name, uses: uses.map(str::to_owned).collect(), line: 0 }
    });
    Ok(arrows.collect())
}

fn listed(page: &str) -> Vec<Arrows> {
    let lines = page.lines().zip(1..).skip_while(|(line, _)| line.trim() != FENCE).skip(1);
    let list = lines.take_while(|(line, _)| !line.starts_with("```"));
    list.filter_map(|(line, number)| {
        let (name, uses) = line.split_once("->")?;
        let uses = uses.split_whitespace().map(str::to_owned).collect();
        Some(Arrows { name: name.trim().to_owned(), uses, line: number })
    })
    .collect()
}

fn compare(drawn: &[Arrows], real: &[Arrows]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |line: usize, what: String| findings.push(Finding::new(PAGE, line.max(1), what));
    if drawn.is_empty() {
        tell(
            1,
            format!("has no list of crates: add a block that opens with `{FENCE}`, a line `name -> uses` for each"),
        );
        return findings;
    }
    for (index, crate_) in drawn.iter().enumerate() {
        let (name, line) = (&crate_.name, crate_.line);
        let Some(manifest) = real.iter().find(|manifest| manifest.name == *name) else {
            tell(line, format!("lists `{name}`, which is no crate of the workspace: remove it"));
            continue;
        };
        for missing in manifest.uses.difference(&crate_.uses) {
            tell(
                line,
                format!("`{name}` uses `{missing}`, which is not listed: list it, or take it out of the manifest"),
            );
        }
        for extra in crate_.uses.difference(&manifest.uses) {
            tell(line, format!("`{name}` does not use `{extra}`: take it off the list"));
        }
        for used in crate_.uses.iter().filter(|used| !drawn[..index].iter().any(|before| before.name == **used)) {
            tell(
                line,
                format!(
                    "`{name}` points at `{used}`, which is not listed before it: an arrow points at what knows less"
                ),
            );
        }
    }
    for manifest in real.iter().filter(|manifest| !drawn.iter().any(|crate_| crate_.name == manifest.name)) {
        tell(drawn[0].line, format!("`{}` is a crate of the workspace and not listed: list it", manifest.name));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Value {
        json!({"packages": [
            {"name": "record", "dependencies": [{"name": "serde", "kind": null}]},
            {"name": "policy", "dependencies": [{"name": "record", "kind": null}, {"name": "store", "kind": "dev"}]},
            {"name": "store", "dependencies": [{"name": "record", "kind": null}]},
        ]})
    }

    #[track_caller]
    fn compared(list: &str, expected: &[&str]) {
        let page = format!("# Crates\n\n```crates\n{list}```\nrecord -> store\n");
        check(&Sources::of(&[(PAGE, &page)]), &metadata()).unwrap().assert_told(expected);
    }

    #[test]
    fn a_list_like_the_manifests_is_good_and_development_dependencies_do_not_count() {
        compared("record ->\npolicy -> record\nstore -> record\n", &[]);
    }

    #[test]
    fn every_difference_is_told_at_its_line() {
        compared("record ->\npolicy ->\nstore -> record\n", &["ARCHITECTURE.md:5: `policy` uses `record`"]);
        compared("record ->\npolicy -> record\nstore -> policy record\n", &["`store` does not use `policy`"]);
        compared("record ->\npolicy -> record\n", &["`store` is a crate of the workspace"]);
        compared("record ->\npolicy -> record\nstore -> record\nweb ->\n", &["ARCHITECTURE.md:7: lists `web`"]);
        compared("policy -> record\nrecord ->\nstore -> record\n", &["`policy` points at `record`"]);
        compared("", &["has no list of crates"]);
    }
}
