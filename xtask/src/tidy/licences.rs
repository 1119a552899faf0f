//! Every crate that is built in has a licence that deny.toml allows.

use super::{Checked, Finding, counted, sources::Sources};
use anyhow::Context;
use serde_json::Value;
use toml::Table;

const PAGE: &str = "deny.toml";

/// `metadata` is cargo's, with all dependencies.
pub(super) fn check(sources: &Sources, metadata: &Value) -> anyhow::Result<Checked> {
    let Some(page) = sources.text(PAGE) else {
        return Ok(Checked {
            findings: vec![Finding::new(PAGE, 1, "is missing: write it")],
            seen: "no licences".into(),
        });
    };
    let page: Table = page.parse().context("deny.toml is not TOML")?;
    let allowed = page.get("licenses").and_then(|table| table.get("allow")).and_then(toml::Value::as_array);
    let allowed: Vec<&str> = allowed.into_iter().flatten().filter_map(toml::Value::as_str).collect();
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence, &allowed) {
            let what = format!(
                "does not allow the licence `{licence}` of `{name}`: do without the crate, or allow it with a reason"
            );
            findings.push(Finding::new(PAGE, 1, what));
        }
    }
    Ok(Checked {
        findings,
        seen: format!("{}, {} allowed", counted(packages.len(), "crate"), counted(allowed.len(), "licence")),
    })
}

/// Whether an SPDX expression can be met by allowed licences alone. `/` is the older way to write `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

fn either(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = both(rest, allowed);
    while let Some(("OR", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = one(rest, allowed);
    while let Some(("AND", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> bool {
    match **rest {
        ["(", ref inside @ ..] => {
            *rest = inside;
            let met = either(rest, allowed);
            let closed = rest.first() == Some(&")");
            *rest = rest.get(1..).unwrap_or_default();
            met && closed
        }
        [licence, "WITH", exception, ref after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, ref after @ ..] => {
            *rest = after;
            allowed.contains(&licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_expression_is_met_by_allowed_licences_alone() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        for (expression, met) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT/GPL-3.0-only", true),
            ("GPL-3.0-only OR MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND ISC", false),
            ("ISC OR MIT AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Other-exception", false),
            ("(MIT", false),
            ("MIT)", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), met, "{expression}");
        }
    }

    #[test]
    fn a_crate_with_another_licence_is_named() {
        let metadata = json!({"packages": [{"name": "good", "license": "MIT"}, {"name": "bad", "license": null}]});
        let sources = Sources::of(&[(PAGE, "[licenses]\nallow = [\"MIT\"]\n")]);
        check(&sources, &metadata).unwrap().assert_told(&["the licence `` of `bad`"]);
    }
}
