//! Parameters: the resource that operations are called with. Source: FHIR R4 `parameters.html`.

use record::fhir::{Node as JsonNode, Resource};

/// What the first parameter of a name has under a property, such as `resource` or `valueBoolean`.
pub(crate) fn part<'a>(parameters: &'a Resource, name: &str, property: &str) -> Option<JsonNode<'a>> {
    let mut parts = parameters.root().get("parameter").into_iter().flat_map(JsonNode::items);
    parts.find(|part| part.get("name").and_then(JsonNode::as_str).as_deref() == Some(name))?.get(property)
}
