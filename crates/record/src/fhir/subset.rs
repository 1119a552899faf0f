//! Parts of a resource, marked as such: what `_elements` and `_summary` leave of it.
//!
//! Source: FHIR R4 `search.html`, sections Summary and Elements. What is kept stands in its own text, so that decimals keep their digits.

use super::{
    Kind, Node, Resource,
    definitions::{Definitions, Element, Structure, Type},
    json::push_string,
};

/// Marks a resource that is not whole, so that nobody writes it back. Source: R4 `search.html#elements`.
const SUBSETTED: &str =
    "{\"system\":\"http://terminology.hl7.org/CodeSystem/v3-ObservationValue\",\"code\":\"SUBSETTED\"}";

/// Kept whatever is asked for, beside what the type demands: who it is, and what changes the meaning of the rest.
const ALWAYS: [&str; 5] = ["resourceType", "id", "meta", "implicitRules", "modifierExtension"];

/// What is kept of a resource beside what is always kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subset {
    /// These elements at the top; `value` stands for every form of `value[x]`.
    Elements(Vec<String>),
    /// The narrative.
    Text,
    /// All but the narrative.
    Data,
    /// What R4 marks as part of a summary, in groups of elements, too.
    Summary,
}

impl Subset {
    /// Whether a type has an element of this name at the top, so that [`Subset::Elements`] can keep it.
    pub fn is_element(rtype: &str, name: &str) -> bool {
        let has = |structure: &Structure| {
            structure.property(name).is_some() || structure.of_choice(&format!("{name}[x]")).next().is_some()
        };
        name == "resourceType" || Definitions::r4().named(rtype).is_some_and(has)
    }

    /// The part of a resource, tagged; its own text, when nothing is left out.
    pub fn of(&self, resource: &Resource) -> Vec<u8> {
        let mut out = String::with_capacity(resource.text().len());
        let structure = Definitions::r4().named(resource.rtype().as_str());
        let is_whole = self.push(&mut out, resource.root(), structure);
        if is_whole { resource.text().as_bytes().to_vec() } else { out.into_bytes() }
    }

    /// Writes what is kept of a resource, tagged, or of a group of elements. Says whether that is all of it.
    fn push(&self, out: &mut String, object: Node<'_>, structure: Option<&Structure>) -> bool {
        let is_group = structure.is_some_and(|structure| structure.is_group);
        let (mut is_whole, mut has_meta, mut first) = (true, is_group, true);
        out.push('{');
        for (key, value) in object.members() {
            // What extends a primitive stands beside it under a name of its own.
            let bare = key.strip_prefix('_').unwrap_or(&key);
            let element = structure.and_then(|structure| structure.property(bare));
            if !self.keeps(structure, element, bare) {
                is_whole = false;
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            push_string(out, &key);
            out.push(':');
            match element.and_then(group) {
                Some(group) if *self == Self::Summary => is_whole &= self.push_groups(out, value, group),
                _ if key == "meta" && !is_group => {
                    has_meta = true;
                    push_tagged(out, value);
                }
                _ => out.push_str(value.raw()),
            }
        }
        if !has_meta {
            if !first {
                out.push(',');
            }
            out.push_str(&format!("\"meta\":{{\"tag\":[{SUBSETTED}]}}"));
        }
        out.push('}');
        is_whole
    }

    /// The same of one group of elements, or of an array of such groups.
    fn push_groups(&self, out: &mut String, value: Node<'_>, group: &Structure) -> bool {
        match value.kind() {
            Kind::Object => self.push(out, value, Some(group)),
            Kind::Array => {
                let mut is_whole = true;
                out.push('[');
                for (nth, item) in value.items().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    is_whole &= self.push_groups(out, item, group);
                }
                out.push(']');
                is_whole
            }
            _ => {
                out.push_str(value.raw());
                true
            }
        }
    }

    fn keeps(&self, structure: Option<&Structure>, element: Option<&Element>, key: &str) -> bool {
        let name = element.map_or(key, |element| element.name);
        let demanded = structure.is_some_and(|structure| structure.required.iter().any(|(of, _)| *of == name));
        if ALWAYS.contains(&key) || demanded {
            return true;
        }
        match self {
            Self::Elements(wanted) => {
                wanted.iter().any(|wanted| wanted == key || wanted == name.trim_end_matches("[x]"))
            }
            Self::Text => key == "text",
            Self::Data => key != "text",
            Self::Summary => element.is_some_and(|element| element.in_summary),
        }
    }
}

/// The elements within an element, if it is a group of them.
fn group(element: &Element) -> Option<&'static Structure> {
    let Type::Complex(index) = element.of else { return None };
    Some(Definitions::r4().structure(index)).filter(|structure| structure.is_group)
}

/// A `meta` with the tag added, if it has it not yet.
fn push_tagged(out: &mut String, meta: Node<'_>) {
    let raw = meta.raw();
    let Some(tags) = meta.get("tag") else {
        out.push_str(&raw[..raw.len() - 1]);
        if !meta.is_empty() {
            out.push(',');
        }
        out.push_str(&format!("\"tag\":[{SUBSETTED}]}}"));
        return;
    };
    let is_it = |tag: Node<'_>| tag.get("code").and_then(Node::as_str).as_deref() == Some("SUBSETTED");
    if tags.items().any(is_it) {
        out.push_str(raw);
        return;
    }
    // Before the bracket that closes the tags.
    let at = tags.range().end - 1 - meta.range().start;
    out.push_str(&raw[..at]);
    if !tags.is_empty() {
        out.push(',');
    }
    out.push_str(SUBSETTED);
    out.push_str(&raw[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::Limits;

    const TAG: &str = SUBSETTED;

    fn check(subset: &Subset, resource: &str, expected: &str) {
        let resource = Resource::parse(resource.as_bytes(), Limits::RESOURCE).unwrap();
        assert_eq!(String::from_utf8(subset.of(&resource)).unwrap(), expected);
    }

    fn elements(names: &[&str]) -> Subset {
        Subset::Elements(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn what_is_kept_keeps_its_bytes_and_says_that_it_is_not_the_whole() {
        let pulse = r#"{"resourceType":"Observation", "id":"a","meta":{"versionId":"1"},"text":{"status":"empty"},"status":"final","code":{"text":"a"},"valueQuantity":{ "value": 1.10 },"issued":"2026-01-12T10:05:00Z","_issued":{"id":"x"}}"#;
        check(
            &elements(&["value"]),
            pulse,
            &format!(
                r#"{{"resourceType":"Observation","id":"a","meta":{{"versionId":"1","tag":[{TAG}]}},"status":"final","code":{{"text":"a"}},"valueQuantity":{{ "value": 1.10 }}}}"#
            ),
        );
        check(
            &elements(&["issued"]),
            pulse,
            &format!(
                r#"{{"resourceType":"Observation","id":"a","meta":{{"versionId":"1","tag":[{TAG}]}},"status":"final","code":{{"text":"a"}},"issued":"2026-01-12T10:05:00Z","_issued":{{"id":"x"}}}}"#
            ),
        );
        check(
            &Subset::Text,
            pulse,
            &format!(
                r#"{{"resourceType":"Observation","id":"a","meta":{{"versionId":"1","tag":[{TAG}]}},"text":{{"status":"empty"}},"status":"final","code":{{"text":"a"}}}}"#
            ),
        );
        check(
            &Subset::Data,
            pulse,
            &format!(
                r#"{{"resourceType":"Observation","id":"a","meta":{{"versionId":"1","tag":[{TAG}]}},"status":"final","code":{{"text":"a"}},"valueQuantity":{{ "value": 1.10 }},"issued":"2026-01-12T10:05:00Z","_issued":{{"id":"x"}}}}"#
            ),
        );
    }

    #[test]
    fn what_is_whole_has_the_bytes_that_it_had_and_no_tag_stands_twice() {
        let whole = r#"{ "resourceType":"Patient","id":"a","meta":{"tag":[]},"active":true }"#;
        check(&Subset::Data, whole, whole);
        check(&elements(&["active"]), whole, whole);
        let tagged = format!(r#"{{"resourceType":"Patient","id":"a","meta":{{"tag":[ {TAG} ],"versionId":"1"}}}}"#);
        check(&Subset::Text, &tagged.replace("\"}}", "\"},\"active\":true}"), &tagged);
        check(&Subset::Text, whole, &format!(r#"{{"resourceType":"Patient","id":"a","meta":{{"tag":[{TAG}]}}}}"#));
        check(
            &Subset::Text,
            r#"{"resourceType":"Patient","id":"a","meta":{"tag":[{"code":"b"}],"versionId":"1"},"active":true}"#,
            &format!(
                r#"{{"resourceType":"Patient","id":"a","meta":{{"tag":[{{"code":"b"}},{TAG}],"versionId":"1"}}}}"#
            ),
        );
        check(
            &Subset::Text,
            r#"{"resourceType":"Patient","id":"a","meta":{},"modifierExtension":[],"active":true}"#,
            &format!(r#"{{"resourceType":"Patient","id":"a","meta":{{"tag":[{TAG}]}},"modifierExtension":[]}}"#),
        );
        check(
            &Subset::Text,
            r#"{"resourceType":"Patient","id":"a","active":true}"#,
            &format!(r#"{{"resourceType":"Patient","id":"a","meta":{{"tag":[{TAG}]}}}}"#),
        );
    }

    #[test]
    fn a_summary_has_what_r4_marks_in_groups_of_elements_too() {
        let pressure = r#"{"resourceType":"Observation","id":"a","status":"final","code":{"text":"a","coding":[ {"code":"85354-9"} ]},"note":[{"text":"lying"}],"component":[{"id":"x","code":{"text":"s"},"valueQuantity":{"value":120.0},"interpretation":[{"text":"normal"}]},{"code":{"text":"d"}}]}"#;
        check(
            &Subset::Summary,
            pressure,
            &format!(
                r#"{{"resourceType":"Observation","id":"a","status":"final","code":{{"text":"a","coding":[ {{"code":"85354-9"}} ]}},"component":[{{"id":"x","code":{{"text":"s"}},"valueQuantity":{{"value":120.0}}}},{{"code":{{"text":"d"}}}}],"meta":{{"tag":[{TAG}]}}}}"#
            ),
        );
        let short = r#"{ "resourceType":"Observation","id":"a","status":"final","code":{"text":"a"},"component":[ {"code":{"text":"s"}} ] }"#;
        check(&Subset::Summary, short, short);
        // What R4 does not know of stands in no summary.
        check(
            &Subset::Summary,
            r#"{"resourceType":"Patient","id":"a","birthDate":"1990-01-01","_birthDate":{"id":"b"},"colour":"red","contact":[{"name":{"text":"B"}}]}"#,
            &format!(
                r#"{{"resourceType":"Patient","id":"a","birthDate":"1990-01-01","_birthDate":{{"id":"b"}},"meta":{{"tag":[{TAG}]}}}}"#
            ),
        );
    }

    #[test]
    fn elements_are_those_at_the_top_of_the_type() {
        for (name, expected) in
            [("code", true), ("value", true), ("valueQuantity", true), ("id", true), ("meta", true), ("text", true)]
                .into_iter()
                .chain([("resourceType", true), ("code.text", false), ("birthDate", false), ("", false)])
        {
            assert_eq!(Subset::is_element("Observation", name), expected, "{name}");
        }
    }
}
