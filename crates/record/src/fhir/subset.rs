//! Parts of a resource, marked as such: what `_elements` and `_summary` leave of it.
//!
//! Source: FHIR R4 `search.html`, sections Summary and Elements. What is kept stands in its own text, so that decimals keep their digits.

use super::{
    Node, Resource,
    definitions::{Definitions, Structure},
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
        let root = resource.root();
        let structure = Definitions::r4().named(resource.rtype().as_str());
        let kept: Vec<_> = root.members().filter(|(key, _)| self.keeps(structure, key)).collect();
        if kept.len() == root.members().count() {
            return resource.text().as_bytes().to_vec();
        }
        let mut out = String::with_capacity(resource.text().len());
        let mut has_meta = false;
        for (key, value) in kept {
            out.push(if out.is_empty() { '{' } else { ',' });
            push_string(&mut out, &key);
            out.push(':');
            if key == "meta" {
                has_meta = true;
                push_tagged(&mut out, value);
            } else {
                out.push_str(value.raw());
            }
        }
        if !has_meta {
            out.push_str(&format!(",\"meta\":{{\"tag\":[{SUBSETTED}]}}"));
        }
        out.push('}');
        out.into_bytes()
    }

    fn keeps(&self, structure: Option<&Structure>, key: &str) -> bool {
        // What extends a primitive stands beside it under a name of its own.
        let key = key.strip_prefix('_').unwrap_or(key);
        let name = structure.and_then(|structure| structure.property(key)).map_or(key, |element| element.name);
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
        }
    }
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
