//! The FHIRPath expressions of R4's search parameters, translated into paths of JSON members.
//!
//! Only what R4 writes is understood: unions of element names with `as`, `as(...)`, `where(name='value')` and `where(resolve() is Type)`.

use super::{
    Definitions,
    elements::{self, STRUCTURE},
    items, text,
};
use anyhow::{Context, bail, ensure};
use std::collections::HashMap;

/// One way from a resource to values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
    /// References that lead to this type alone.
    pub(super) target: Option<String>,
    /// Type of what stands at its end, such as `CodeableConcept`.
    pub(super) leaf: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    /// The JSON member, such as `valueQuantity`.
    pub(super) member: String,
    /// Elements alone that have this value under this name.
    pub(super) only: Option<(String, String)>,
}

/// The elements of all types by their paths, such as `Observation.component.value[x]`.
pub(super) struct Shapes {
    elements: HashMap<String, Element>,
    bases: HashMap<String, String>,
}

struct Element {
    types: Vec<String>,
    many: bool,
    same_as: Option<String>,
}

/// A name of an expression with what is said about it.
struct Segment {
    name: String,
    cast: Option<String>,
    only: Option<(String, String)>,
    target: Option<String>,
}

impl Shapes {
    pub(super) fn of(definitions: &Definitions) -> anyhow::Result<Self> {
        let mut shapes = Self { elements: HashMap::new(), bases: HashMap::new() };
        for structure in &definitions.structures {
            let base = text(structure, "baseDefinition").and_then(|base| base.strip_prefix(STRUCTURE));
            if let (Some(name), Some(base)) = (text(structure, "name"), base) {
                shapes.bases.insert(name.to_owned(), base.to_owned());
            }
        }
        for structure in elements::structures(definitions) {
            for element in items(&structure["differential"], "element") {
                let path = text(element, "path").context("an element without a path")?.to_owned();
                let types =
                    items(element, "type").iter().filter_map(|of| text(of, "code")).map(str::to_owned).collect();
                let same_as = text(element, "contentReference").map(|same| same.trim_start_matches('#').to_owned());
                shapes.elements.insert(path, Element { types, many: text(element, "max") == Some("*"), same_as });
            }
        }
        Ok(shapes)
    }

    /// Whether a path of element names from a type's root is a list.
    pub(super) fn is_many(&self, path: &str) -> bool {
        self.elements.get(path).is_some_and(|element| element.many)
    }

    /// The paths of an expression from the root of a type; what the expression says of other types is passed over.
    pub(super) fn paths(&self, rtype: &str, expression: &str) -> anyhow::Result<Vec<Path>> {
        let mut paths = Vec::new();
        for operand in split(expression, '|') {
            let mut segments = segments(operand.trim())?;
            let first = segments.first().context("an empty expression")?;
            if first.name.starts_with(|c: char| c.is_ascii_uppercase()) {
                if first.name != rtype && !matches!(first.name.as_str(), "Resource" | "DomainResource") {
                    continue;
                }
                segments.remove(0);
            }
            self.follow(rtype, &segments, &[], &mut paths)?;
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    fn follow(&self, at: &str, segments: &[Segment], before: &[Step], paths: &mut Vec<Path>) -> anyhow::Result<()> {
        let Some((segment, rest)) = segments.split_first() else { bail!("an expression that names a type alone") };
        let (path, element, choice) = self.find(at, &segment.name)?;
        let mut types = element.types.clone();
        if let Some(cast) = &segment.cast {
            types.retain(|of| self.is_a(of, cast));
            ensure!(!types.is_empty(), "`{path}` is never a `{cast}`");
        }
        if let Some(same) = &element.same_as {
            types = vec![same.clone()];
        }
        for of in types {
            let member = if choice { format!("{}{}", segment.name, capitalised(&of)) } else { segment.name.clone() };
            let mut steps = before.to_vec();
            steps.push(Step { member, only: segment.only.clone() });
            if rest.is_empty() {
                paths.push(Path { steps, target: segment.target.clone(), leaf: of });
                continue;
            }
            ensure!(segment.target.is_none(), "elements of the target of `{path}`");
            let inside = if matches!(of.as_str(), "BackboneElement" | "Element") { path.clone() } else { of };
            self.follow(&inside, rest, &steps, paths)?;
        }
        Ok(())
    }

    /// Whether a type is another one or made from it, as `canonical` from `uri`. R4 writes `DateTime` once.
    fn is_a(&self, of: &str, wanted: &str) -> bool {
        of.eq_ignore_ascii_case(wanted) || self.bases.get(of).is_some_and(|base| self.is_a(base, wanted))
    }

    /// An element of a type or of its bases, and whether it is a choice.
    fn find(&self, at: &str, name: &str) -> anyhow::Result<(String, &Element, bool)> {
        let mut of = Some(at);
        while let Some(owner) = of {
            for (path, choice) in [(format!("{owner}.{name}"), false), (format!("{owner}.{name}[x]"), true)] {
                if let Some(element) = self.elements.get(&path) {
                    return Ok((path, element, choice));
                }
            }
            of = self.bases.get(owner).map(String::as_str);
        }
        bail!("`{at}` has no element `{name}`")
    }
}

fn capitalised(name: &str) -> String {
    let (first, rest) = name.split_at(name.len().min(1));
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// Splits where neither brackets nor quotes are open.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut depth, mut quoted) = (0_usize, false);
    text.split(|c: char| {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == at && depth == 0 && !quoted
    })
    .collect()
}

fn segments(operand: &str) -> anyhow::Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    for part in split(operand, '.') {
        if let Some(inner) = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
            ensure!(segments.is_empty(), "brackets inside of `{operand}`");
            let (inner, cast) = inner.split_once(" as ").map_or((inner, None), |(inner, cast)| (inner, Some(cast)));
            segments = self::segments(inner.trim())?;
            last(&mut segments, operand)?.cast = cast.map(|cast| cast.trim().to_owned());
        } else if let Some(cast) = called(part, "as") {
            last(&mut segments, operand)?.cast = Some(cast.to_owned());
        } else if let Some(condition) = called(part, "where") {
            if let Some(target) = condition.strip_prefix("resolve() is ") {
                last(&mut segments, operand)?.target = Some(target.to_owned());
            } else {
                let (name, value) = condition.split_once('=').with_context(|| format!("`{part}` is not understood"))?;
                last(&mut segments, operand)?.only = Some((name.to_owned(), value.trim_matches('\'').to_owned()));
            }
        } else {
            ensure!(!part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()), "`{part}` is not understood");
            segments.push(Segment { name: part.to_owned(), cast: None, only: None, target: None });
        }
    }
    Ok(segments)
}

fn last<'a>(segments: &'a mut [Segment], operand: &str) -> anyhow::Result<&'a mut Segment> {
    segments.last_mut().with_context(|| format!("`{operand}` begins with a function"))
}

/// What stands in the brackets of a call.
fn called<'a>(part: &'a str, function: &str) -> Option<&'a str> {
    part.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shapes() -> Shapes {
        let element = |path: &str, max: &str, types: &[&str]| json!({"path": path, "max": max, "type": types.iter().map(|of| json!({"code": of})).collect::<Vec<Value>>()});
        let structure = |name: &str, base: &str, elements: Vec<Value>| {
            json!({"resourceType": "StructureDefinition", "name": name, "kind": "resource", "fhirVersion": "4.0.1",
                "baseDefinition": format!("{STRUCTURE}{base}"), "differential": {"element": elements}})
        };
        let structures = vec![
            structure("Resource", "", vec![element("Resource.meta", "1", &["Meta"])]),
            structure("Meta", "", vec![element("Meta.tag", "*", &["Coding"])]),
            structure(
                "Act",
                "Resource",
                vec![
                    element("Act.value[x]", "1", &["Quantity", "CodeableConcept", "dateTime"]),
                    element("Act.part", "*", &["BackboneElement"]),
                    element("Act.part.who", "1", &["Reference"]),
                    element("Act.part.kind", "1", &["code"]),
                ],
            ),
            structure("CodeableConcept", "", vec![element("CodeableConcept.text", "1", &["string"])]),
        ];
        Shapes::of(&Definitions { structures, terminology: Vec::new(), parameters: Vec::new() }).unwrap()
    }

    fn check(expression: &str, expected: &[&str]) {
        let shown = |path: &Path| {
            let steps = path.steps.iter().map(|step| match &step.only {
                Some((name, value)) => format!("{}{{{name}={value}}}", step.member),
                None => step.member.clone(),
            });
            let target = path.target.as_ref().map(|target| format!(":{target}")).unwrap_or_default();
            format!("{}{target} {}", steps.collect::<Vec<_>>().join("."), path.leaf)
        };
        let paths = shapes().paths("Act", expression).unwrap_or_else(|error| panic!("{expression}: {error:#}"));
        assert_eq!(paths.iter().map(shown).collect::<Vec<_>>(), expected, "{expression}");
    }

    #[test]
    fn what_r4_writes_becomes_paths_of_members() {
        check("Resource.meta.tag", &["meta.tag Coding"]);
        check("(Act.value as Quantity) | (Other.value as Range)", &["valueQuantity Quantity"]);
        check("(Act.value as CodeableConcept).text", &["valueCodeableConcept.text string"]);
        check("Act.value.as(DateTime)", &["valueDateTime dateTime"]);
        check("Act.part.where(kind='a-b').who", &["part{kind=a-b}.who Reference"]);
        check("Act.part.who.where(resolve() is Patient)", &["part.who:Patient Reference"]);
        check("part.kind", &["part.kind code"]);
        let all = ["valueCodeableConcept CodeableConcept", "valueDateTime dateTime", "valueQuantity Quantity"];
        check("value", &all);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (expression, why) in [
            ("Act.part[0].who", "`part[0]` is not understood"),
            ("Act.colour", "`Act` has no element `colour`"),
            ("Act.value.as(Range)", "`Act.value[x]` is never a `Range`"),
            ("Act.value.exists() and Act.value != false", "`exists() and Act` is not understood"),
            ("%resource.value", "`%resource` is not understood"),
        ] {
            assert_eq!(shapes().paths("Act", expression).unwrap_err().to_string(), why, "{expression}");
        }
    }
}
