//! Whether a resource is what its type demands: names, numbers, JSON types, formats, required codes, reference targets.
//!
//! Driven by the table of `definitions`; the few rules of the specification that no table has are at their place below.
//! Not checked: other invariants, terminology beyond required codes, profiles, and whether references resolve.

use super::{
    Issue, IssueType, NarrativeFault, Resource, ResourceType,
    definitions::{Definitions, Element, Primitive, Structure, Type},
    json::{Kind, Node},
    moment, narrative,
    resource::{is_id, printable_key, well_formed},
};
use std::{borrow::Cow, collections::HashMap};

/// The most problems that are listed.
pub const PROBLEMS_MAX: usize = 50;

/// What is wrong with an element. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckFault {
    /// Not an element of the type.
    #[error("there is no such element here")]
    UnknownElement,
    /// A required element is not there.
    #[error("it is required here")]
    Missing,
    /// One where many are possible.
    #[error("it may repeat: send a JSON array")]
    NotAnArray,
    /// Many where one is possible.
    #[error("there is one at most: send no JSON array")]
    AnArray,
    /// `[]` or `{}`.
    #[error("there is nothing in it: leave it out")]
    Empty,
    /// `null`.
    #[error("null stands for nothing in FHIR: leave it out")]
    Null,
    /// Another JSON type.
    #[error("expected a JSON {0}")]
    JsonType(&'static str),
    /// Not a value of the type.
    #[error("not a well-formed {0}")]
    Format(&'static str),
    /// A code outside of the required value set.
    #[error("not one of its codes: {}", .0.join(", "))]
    Code(&'static [&'static str]),
    /// A reference to a type that is not allowed.
    #[error("a reference to one of: {}", .0.join(", "))]
    Target(&'static [&'static str]),
    /// A local reference to nothing.
    #[error("there is no contained resource with this id")]
    NotContained,
    /// Two forms of one choice.
    #[error("there are two forms of this choice: send one")]
    TwoForms,
    /// A resource in a contained resource.
    #[error("a contained resource contains no other")]
    NestedContained,
    /// An extension with value and extensions, or without either.
    #[error("an extension has a value or extensions, and not both")]
    Extension,
    /// An inner resource without a known type, with a bad id, or bad `meta`.
    #[error(transparent)]
    Resource(#[from] super::Fault),
    /// A bad narrative.
    #[error(transparent)]
    Narrative(#[from] NarrativeFault),
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at `{expression}`)")]
pub struct Problem {
    /// What is wrong.
    pub fault: CheckFault,
    /// Where: a path such as `Observation.component[1].valueQuantity.value`.
    pub expression: String,
}

impl From<Problem> for Issue {
    fn from(problem: Problem) -> Self {
        let kind = match &problem.fault {
            CheckFault::Missing => IssueType::Required,
            CheckFault::Format(_) | CheckFault::Target(_) | CheckFault::NotContained => IssueType::Value,
            CheckFault::Code(_) => IssueType::CodeInvalid,
            CheckFault::NestedContained | CheckFault::Extension => IssueType::Invariant,
            CheckFault::Narrative(_) => IssueType::Invalid,
            _ => IssueType::Structure,
        };
        Self::error(kind, problem.fault.to_string()).at(problem.expression)
    }
}

/// Checks a resource against R4; the first [`PROBLEMS_MAX`] problems, in text order but for what is missing.
pub fn check(resource: &Resource) -> Result<(), Vec<Problem>> {
    let mut checker =
        Checker { r4: Definitions::r4(), path: Vec::new(), contained: HashMap::new(), problems: Vec::new() };
    checker.path.push(Step::Key(Cow::Borrowed(resource.rtype().as_str())));
    checker.resource(resource.root(), resource.rtype(), Place::Own);
    if checker.problems.is_empty() { Ok(()) } else { Err(checker.problems) }
}

enum Step<'a> {
    Key(Cow<'a, str>),
    Item(usize),
}

/// Where a resource stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On its own, in a Bundle or in Parameters.
    Own,
    /// In `contained`.
    Contained,
}

struct Checker<'a> {
    r4: &'static Definitions,
    path: Vec<Step<'a>>,
    /// Id and type of what the resource contains.
    contained: HashMap<Cow<'a, str>, ResourceType>,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn expression(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Item(index) => out.push_str(&format!("[{index}]")),
                Step::Key(key) if out.is_empty() => out.push_str(key),
                Step::Key(key) => {
                    out.push('.');
                    out.push_str(&printable_key(key));
                }
            }
        }
        out
    }

    fn problem(&mut self, fault: impl Into<CheckFault>) {
        if self.problems.len() < PROBLEMS_MAX {
            let expression = self.expression();
            self.problems.push(Problem { fault: fault.into(), expression });
        }
    }

    fn problem_at(&mut self, key: &'static str, fault: impl Into<CheckFault>) {
        self.within(Step::Key(Cow::Borrowed(key)), |this| this.problem(fault));
    }

    fn within(&mut self, step: Step<'a>, inner: impl FnOnce(&mut Self)) {
        self.path.push(step);
        inner(self);
        self.path.pop();
    }

    fn resource(&mut self, node: Node<'a>, rtype: ResourceType, place: Place) {
        let Some(structure) = self.r4.named(rtype.as_str()) else { return };
        if place == Place::Contained {
            if node.get("contained").is_some() {
                self.problem_at("contained", CheckFault::NestedContained);
            }
            self.object(node, structure);
            return;
        }
        let mut contained = HashMap::new();
        for inner in node.get("contained").into_iter().flat_map(Node::items) {
            if let (Some(id), Ok(rtype)) = (inner.get("id").and_then(Node::as_str), well_formed(inner)) {
                contained.insert(id, rtype);
            }
        }
        let outer = std::mem::replace(&mut self.contained, contained);
        self.object(node, structure);
        self.contained = outer;
    }

    fn object(&mut self, node: Node<'a>, structure: &'static Structure) {
        if node.kind() != Kind::Object {
            return self.problem(CheckFault::JsonType("object"));
        }
        if node.is_empty() {
            return self.problem(CheckFault::Empty);
        }
        let is_resource = structure.property("implicitRules").is_some();
        let mut seen = 0u128;
        let mut choices: Vec<(u8, Cow<'a, str>)> = Vec::new();
        for (key, value) in node.members() {
            if is_resource && key == "resourceType" {
                continue;
            }
            let name = key.strip_prefix('_').unwrap_or(&key);
            let extends = name.len() < key.len();
            let element = structure.property(name).filter(|element| !extends || element.of.is_primitive());
            let Some(element) = element else {
                self.within(Step::Key(key), |this| this.problem(CheckFault::UnknownElement));
                continue;
            };
            seen |= 1 << element.place;
            if element.name.ends_with("[x]") {
                match choices.iter().find(|(place, _)| *place == element.place) {
                    Some((_, first)) if first != name => {
                        self.within(Step::Key(key.clone()), |this| this.problem(CheckFault::TwoForms));
                    }
                    Some(_) => {}
                    None => choices.push((element.place, Cow::Owned(name.to_owned()))),
                }
            }
            // Items of a primitive array may be null where the other array has the extension.
            let other = || if extends { node.get(name) } else { node.get(&format!("_{name}")) };
            let nullable = element.many && element.of.is_primitive() && other().is_some();
            self.within(Step::Key(key), |this| this.property(value, element, extends, nullable));
        }
        for &(name, place) in &structure.required {
            if seen & (1 << place) == 0 {
                let name = name.strip_suffix("[x]").unwrap_or(name);
                self.problem_at(name, CheckFault::Missing);
            }
        }
        self.rules(node, structure);
    }

    /// Rules of the specification that the table does not have.
    fn rules(&mut self, node: Node<'a>, structure: &'static Structure) {
        match structure.name {
            // ext-1
            "Extension" => {
                let value = node.members().any(|(key, _)| key.starts_with("value") || key.starts_with("_value"));
                if value == node.get("extension").is_some() {
                    self.problem(CheckFault::Extension);
                }
                // Extensions are known by their URL alone, which names no version.
                if node.get("url").and_then(Node::as_str).is_some_and(|url| url.contains('|')) {
                    self.problem_at("url", CheckFault::Format("extension URL"));
                }
            }
            "Narrative" => {
                if let Some(div) = node.get("div").and_then(Node::as_str)
                    && let Err(fault) = narrative::check_narrative(&div)
                {
                    self.problem_at("div", fault);
                }
            }
            _ => {}
        }
    }

    fn property(&mut self, node: Node<'a>, element: &'static Element, extends: bool, nullable: bool) {
        match (element.many, node.kind()) {
            (true, Kind::Array) => {
                if node.is_empty() {
                    self.problem(CheckFault::Empty);
                }
                for (index, item) in node.items().enumerate() {
                    if item.kind() == Kind::Null && nullable {
                        continue;
                    }
                    self.within(Step::Item(index), |this| this.one(item, element, extends));
                }
            }
            (true, _) => self.problem(CheckFault::NotAnArray),
            (false, Kind::Array) => self.problem(CheckFault::AnArray),
            (false, _) => self.one(node, element, extends),
        }
    }

    fn one(&mut self, node: Node<'a>, element: &'static Element, extends: bool) {
        if node.kind() == Kind::Null {
            return self.problem(CheckFault::Null);
        }
        if extends {
            if let Some(structure) = self.r4.named("Element") {
                self.object(node, structure);
            }
            return;
        }
        match &element.of {
            Type::Primitive(primitive) => {
                if let Err(fault) = primitive_value(*primitive, node) {
                    self.problem(fault);
                }
            }
            Type::Code(codes) => match node.as_str() {
                Some(code) if codes.contains(&code.as_ref()) => {}
                Some(_) => self.problem(CheckFault::Code(codes)),
                None => self.problem(CheckFault::JsonType("string")),
            },
            Type::ResourceName => match node.as_str() {
                Some(code)
                    if code.parse::<ResourceType>().is_ok() || code == "Resource" || code == "DomainResource" => {}
                Some(_) => self.problem(CheckFault::Format("resource type")),
                None => self.problem(CheckFault::JsonType("string")),
            },
            Type::Complex(index) => self.object(node, self.r4.structure(*index)),
            Type::Reference(targets) => {
                if let Some(structure) = self.r4.named("Reference") {
                    self.object(node, structure);
                }
                self.target(node, targets, is_strict(element, targets));
            }
            Type::Resource => match well_formed(node) {
                Ok(rtype) => {
                    let place = if element.name == "contained" { Place::Contained } else { Place::Own };
                    self.resource(node, rtype, place);
                }
                Err(error) => {
                    let below = error.expression.split_once('.').map(|(_, below)| below.to_owned());
                    match below.or(Some(error.expression)).filter(|below| !below.is_empty()) {
                        Some(below) => self.within(Step::Key(Cow::Owned(below)), |this| this.problem(error.fault)),
                        None => self.problem(error.fault),
                    }
                }
            },
        }
    }

    /// Whether a literal reference names something of an allowed type, as far as its text shows.
    fn target(&mut self, node: Node<'a>, targets: &'static [&'static str], strict: bool) {
        let text = node.get("reference").and_then(Node::as_str).unwrap_or_default();
        let shown = match text.strip_prefix('#') {
            // The container itself.
            Some("") => None,
            Some(local) => {
                let found = self.contained.get(local).copied();
                if found.is_none() {
                    self.problem_at("reference", CheckFault::NotContained);
                }
                found
            }
            None => type_named_by(&text),
        };
        let said = node.get("type").and_then(Node::as_str).and_then(|said| said.parse::<ResourceType>().ok());
        for (key, rtype) in [("reference", shown), ("type", said)] {
            if let Some(rtype) = rtype
                && strict
                && !targets.contains(&rtype.as_str())
            {
                self.problem_at(key, CheckFault::Target(targets));
            }
        }
    }
}

impl Type {
    fn is_primitive(&self) -> bool {
        matches!(self, Self::Primitive(_) | Self::Code(_) | Self::ResourceName)
    }
}

/// Whether a reference must have one of its target types: when it is required, or names one person or organisation. There a
/// wrong type changes whose record it is or who answers for it. Elsewhere R4's own examples point at types that R4 does not list.
fn is_strict(element: &Element, targets: &[&str]) -> bool {
    let names_somebody = || ["Patient", "Practitioner", "Organization"].iter().any(|actor| targets.contains(actor));
    !targets.is_empty() && (element.required || (!element.many && names_somebody()))
}

/// The type in `Patient/1`, `http://host/Patient/1/_history/2` and `Patient?identifier=1`.
fn type_named_by(reference: &str) -> Option<ResourceType> {
    let path = match reference.split_once('?') {
        Some((rtype, _)) => return rtype.parse().ok(),
        None => reference,
    };
    let path = path.split_once("/_history/").map_or(path, |(path, _)| path);
    let (before, _id) = path.rsplit_once('/')?;
    before.rsplit('/').next()?.parse().ok()
}

fn primitive_value(primitive: Primitive, node: Node<'_>) -> Result<(), CheckFault> {
    let raw = node.raw();
    let whole = || raw.parse::<i32>().is_ok_and(|_| raw != "-0");
    let good = match primitive {
        Primitive::Boolean if node.kind() == Kind::Boolean => true,
        Primitive::Boolean => return Err(CheckFault::JsonType("boolean")),
        Primitive::Decimal | Primitive::Integer | Primitive::PositiveInt | Primitive::UnsignedInt => {
            if node.kind() != Kind::Number {
                return Err(CheckFault::JsonType("number"));
            }
            match primitive {
                Primitive::Integer => whole(),
                Primitive::PositiveInt => whole() && !raw.starts_with(['-', '0']),
                Primitive::UnsignedInt => whole() && !raw.starts_with('-'),
                _ => true,
            }
        }
        _ => is_text_of(primitive, &node.as_str().ok_or(CheckFault::JsonType("string"))?),
    };
    if good { Ok(()) } else { Err(CheckFault::Format(primitive.name())) }
}

/// Source of the formats: FHIR R4 `datatypes.html`.
fn is_text_of(primitive: Primitive, text: &str) -> bool {
    let no_space = || !text.is_empty() && !text.contains(|c: char| c.is_ascii_whitespace());
    match primitive {
        Primitive::Date => moment::is_date(text),
        Primitive::DateTime => moment::is_date_time(text),
        Primitive::Instant => moment::is_instant(text),
        Primitive::Time => moment::is_time(text),
        Primitive::Id => is_id(text),
        Primitive::Code => {
            !text.is_empty() && text.split(' ').all(|word| !word.is_empty() && !word.contains(['\t', '\n', '\r']))
        }
        Primitive::Uri | Primitive::Url | Primitive::Canonical => no_space(),
        Primitive::Oid => text.strip_prefix("urn:oid:").is_some_and(|oid| {
            let arc = |arc: &str| {
                !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
            };
            oid.contains('.') && oid.starts_with(['0', '1', '2']) && oid.split('.').all(arc)
        }),
        Primitive::Uuid => text.strip_prefix("urn:uuid:").is_some_and(|uuid| {
            uuid.len() == 36
                && uuid.bytes().enumerate().all(|(at, b)| match at {
                    8 | 13 | 18 | 23 => b == b'-',
                    _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
                })
        }),
        Primitive::Base64Binary => is_base64(text),
        _ => {
            !text.is_empty()
                && !text.contains(|c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{7f}'))
        }
    }
}

/// Base64 with padding; white space may stand anywhere.
fn is_base64(text: &str) -> bool {
    let mut digits = 0usize;
    let mut padding = 0usize;
    for b in text.bytes() {
        match b {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits += 1,
            _ => return false,
        }
    }
    digits > 0 && padding <= 2 && (digits + padding).is_multiple_of(4)
}
