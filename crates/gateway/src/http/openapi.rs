//! `/openapi.json`: what the list of doors says, as OpenAPI 3.1.

use super::{
    PURPOSE,
    door::{self, Asked, Body, Door, Header, Kind, Media},
};
use axum::Json;
use record::{
    Purpose,
    fhir::{JSON_PATCH, RESOURCE_TYPES},
};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const FHIR: &str = "application/fhir+json";

/// A version as an ETag.
const VERSION: &str = "^W/\"[1-9][0-9]{0,17}\"$";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| describe(&door::all()));

pub(crate) async fn document() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

fn describe(doors: &[Door]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for door in doors {
        let path = paths.entry(door.path).or_insert_with(|| json!({}));
        path[door.method] = operation(door);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vitaltrace gateway", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The FHIR R4 doors are described in their own way by the CapabilityStatement at /fhir/metadata."
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From POST /auth/token or `vitaltrace token`."
            }},
            "schemas": {
                "Resource": {
                    "type": "object", "required": ["resourceType"],
                    "properties": {"resourceType": {"type": "string", "enum": RESOURCE_TYPES.as_slice()}}
                },
                "OperationOutcome": {
                    "type": "object", "required": ["resourceType", "issue"],
                    "properties": {
                        "resourceType": {"const": "OperationOutcome"},
                        "issue": {"type": "array", "minItems": 1, "items": {
                            "type": "object", "required": ["severity", "code", "diagnostics"],
                            "properties": {
                                "severity": {"enum": ["fatal", "error", "warning", "information"]},
                                "code": {"type": "string"}, "diagnostics": {"type": "string"},
                                "expression": {"type": "array", "items": {"type": "string"}}
                            }
                        }}
                    }
                }
            }
        }
    })
}

fn operation(door: &Door) -> Value {
    let mut parameters: Vec<Value> = in_path(door.path).map(|name| path_parameter(door.path, name)).collect();
    parameters.extend(door.query.iter().map(query_parameter));
    parameters.extend(door.headers.iter().copied().map(header_parameter));
    if door.token {
        let codes: Vec<&str> = Purpose::ALL.iter().map(|purpose| purpose.code()).collect();
        parameters.push(json!({
            "name": PURPOSE.as_str(), "in": "header", "schema": {"enum": codes},
            "description": "Why the caller acts; what people of its role usually act for, unless said."
        }));
    }
    let mut responses: Map<String, Value> = Map::new();
    for (status, media) in &door.answers {
        responses.insert(status.to_string(), answer(*media));
    }
    // What may be asked for in a form that is not offered.
    let unreadable = door.path.starts_with("/fhir").then_some(&406);
    for status in door.failures.iter().chain(unreadable) {
        responses.insert(
            status.to_string(),
            json!({
                "description": meaning(*status),
                "content": {FHIR: {"schema": {"$ref": "#/components/schemas/OperationOutcome"}}}
            }),
        );
    }
    let mut operation = json!({
        "operationId": operation_id(door), "summary": door.about, "parameters": parameters, "responses": responses,
        "security": if door.token { json!([{"token": []}]) } else { json!([]) }
    });
    if let Some(interaction) = door.interaction {
        operation["x-fhir-interaction"] = interaction.into();
    }
    if let Some(body) = request_body(&door.body) {
        operation["requestBody"] = body;
    }
    operation
}

/// Method and path, as a name.
fn operation_id(door: &Door) -> String {
    let words = door.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = std::iter::once(door.method).chain(words).collect::<Vec<_>>().join("-");
    // The same address with a slash at its end is another one.
    if door.path.ends_with('/') { format!("{name}-slash") } else { name }
}

/// The names in braces.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(path: &str, name: &str) -> Value {
    let fhir = path.starts_with("/fhir") || path.starts_with("/evidence");
    let schema = match name {
        "kind" if path.contains("/{within}") => json!({"enum": store::compartments().map(|(of, _)| of)}),
        "within" => {
            let types = RESOURCE_TYPES.iter().copied().chain(["*"]).collect::<Vec<_>>();
            json!({"enum": types, "examples": ["Observation"]})
        }
        "kind" | "type" => json!({"enum": RESOURCE_TYPES.as_slice(), "examples": ["Patient"]}),
        "id" | "patient" if fhir => json!({"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$", "examples": ["ilse"]}),
        "id" => json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        "digest" => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        _ => json!({"type": "integer", "minimum": 1, "examples": [1]}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn query_parameter(asked: &Asked) -> Value {
    let mut parameter =
        json!({"name": asked.name, "in": "query", "required": asked.required, "schema": schema(asked.kind)});
    if matches!(asked.kind, Kind::Searches) {
        parameter["style"] = "form".into();
        parameter["explode"] = true.into();
        parameter["description"] = "The search parameters of the type, as the CapabilityStatement names them.".into();
    }
    parameter
}

fn header_parameter(header: Header) -> Value {
    let (name, schema, about) = match header {
        Header::IfMatch => {
            ("If-Match", json!({"type": "string", "pattern": VERSION}), "Only if this is the current version.")
        }
        Header::IfNoneExist => (
            "If-None-Exist",
            json!({"type": "string"}),
            "Only if no record matches this query: one that does is answered instead.",
        ),
        Header::IfNoneMatch => (
            "If-None-Match",
            json!({"type": "string", "pattern": VERSION}),
            "Only if this is not the version that the caller would get.",
        ),
        Header::PreferHandling => (
            "Prefer",
            json!({"enum": ["handling=strict", "handling=lenient"]}),
            "Whether search parameters that are not known are refused or passed over.",
        ),
        Header::PreferReturn => (
            "Prefer",
            json!({"enum": ["return=representation", "return=minimal", "return=OperationOutcome"]}),
            "What the answer to a write shows.",
        ),
        Header::PreferAsync => {
            ("Prefer", json!({"enum": ["respond-async"]}), "That the caller comes back for the answer.")
        }
    };
    json!({"name": name, "in": "header", "schema": schema, "description": about})
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text("") => json!({"type": "string"}),
        Kind::Text(example) => json!({"type": "string", "examples": [example]}),
        Kind::Number => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::OneOf(values) => json!({"enum": values}),
        Kind::Key => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        Kind::Searches => json!({
            "type": "object", "additionalProperties": {"type": "string"},
            "properties": {
                "_count": {"type": "integer", "minimum": 0}, "_sort": {"type": "string"}, "_cursor": {"type": "string"},
                "_total": {"enum": ["none", "estimate", "accurate"]}, "_include": {"type": "string"}, "_revinclude": {"type": "string"},
                "_elements": {"type": "string"}, "_summary": {"enum": ["true", "text", "data", "count", "false"]}
            }
        }),
    }
}

/// A resource that is sent to a type or an address, which is that of Patient/ilse in examples.
fn example(rtype: Option<&str>) -> Value {
    match rtype {
        Some("Bundle") => {
            let read = json!({"request": {"method": "GET", "url": "Patient/ilse"}});
            json!({"resourceType": "Bundle", "type": "batch", "entry": [read]})
        }
        Some(rtype) => json!({"resourceType": rtype}),
        None => json!({"resourceType": "Patient", "id": "ilse", "name": [{"family": "Brandt", "given": ["Ilse"]}]}),
    }
}

fn resource(rtype: Option<&str>) -> Value {
    match rtype {
        None => json!({"$ref": "#/components/schemas/Resource"}),
        Some("OperationOutcome") => json!({"$ref": "#/components/schemas/OperationOutcome"}),
        Some(rtype) => json!({
            "type": "object", "required": ["resourceType"], "properties": {"resourceType": {"const": rtype}}
        }),
    }
}

fn request_body(body: &Body) -> Option<Value> {
    let (media, mut schema, required) = match body {
        Body::None => return None,
        // Operations may be posted without a body.
        Body::Resource(rtype) => (FHIR, resource(*rtype), *rtype != Some("Parameters")),
        Body::Patch => (JSON_PATCH, patch(), true),
        Body::Form => ("application/x-www-form-urlencoded", schema(Kind::Searches), false),
        Body::Fields(members) => ("application/x-www-form-urlencoded", object(members), true),
        Body::Json(members, _) => ("application/json", object(members), true),
        Body::Bytes(media) => (*media, json!({"type": "string", "format": "binary"}), true),
    };
    match body {
        Body::Resource(rtype) => schema["examples"] = json!([example(*rtype)]),
        Body::Patch => schema["examples"] = json!([[{"op": "add", "path": "/active", "value": true}]]),
        _ => {}
    }
    Some(json!({"required": required, "content": {media: {"schema": schema}}}))
}

fn patch() -> Value {
    json!({"type": "array", "items": {
        "type": "object", "required": ["op", "path"],
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string"}, "from": {"type": "string"}, "value": {}
        }
    }})
}

fn object(members: &[Asked]) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|member| (member.name.to_owned(), schema(member.kind))).collect();
    let required: Vec<&str> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn answer(media: Media) -> Value {
    let (about, content) = match media {
        Media::Nothing => return json!({"description": "Done."}),
        Media::Known => return json!({"description": "The caller has this version already."}),
        Media::Fhir(rtype) => (rtype, json!({FHIR: {"schema": resource(Some(rtype))}})),
        Media::Version | Media::Written => ("The resource, as stored.", json!({FHIR: {"schema": resource(None)}})),
        Media::Json => ("Done.", json!({"application/json": {"schema": {"type": "object"}}})),
        Media::Html => ("A page for a person.", json!({"text/html": {"schema": {"type": "string"}}})),
        Media::Text => ("Text.", json!({"text/plain": {"schema": {"type": "string"}}})),
        Media::OpenMetrics => ("Counters.", json!({"application/openmetrics-text": {"schema": {"type": "string"}}})),
        Media::Evidence => ("An evidence file.", json!({"application/vnd.vitaltrace.evidence+cbor": {}})),
        Media::Ndjson => {
            ("Resources, one on each line.", json!({"application/fhir+ndjson": {"schema": {"type": "string"}}}))
        }
        Media::Bytes => ("The document.", json!({"application/octet-stream": {}})),
    };
    let header = |about: &str| json!({"schema": {"type": "string"}, "description": about});
    let mut answer = json!({"description": about, "content": content});
    if matches!(media, Media::Version | Media::Written) {
        answer["headers"]["ETag"] = header("Its version.");
    }
    if media == Media::Written {
        answer["headers"]["Location"] = header("The address of this version.");
    }
    answer
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read.",
        401 => "No good token.",
        403 => "The caller may not.",
        404 => "It is not here.",
        409 => "It does not fit what is there.",
        405 => "This address does not take this method.",
        406 => "Answers are JSON.",
        410 => "It was deleted or erased.",
        412 => "A condition does not hold.",
        415 => "Another content type than this address takes.",
        413 => "Too large, or too much to look at.",
        422 => "The request is understood, and wrong.",
        426 => "This address speaks WebSocket.",
        429 => "Too much at once, or too many logins failed: wait as long as `Retry-After` says.",
        503 => "Busy, or the database cannot be reached, or what it holds does not agree with the ledger.",
        _ => "Something of ours failed.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_door_is_described_once_and_nothing_else() {
        let doors = door::all();
        let of_list: BTreeSet<(String, String)> =
            doors.iter().map(|door| (door.path.to_owned(), door.method.to_owned())).collect();
        assert_eq!(of_list.len(), doors.len());
        let document = describe(&doors);
        let mut described = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert((path.clone(), method.clone()));
                assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
                let parameters = operation["parameters"].as_array().unwrap().iter();
                let in_its_path: Vec<&str> =
                    parameters.filter(|of| of["in"] == "path").filter_map(|of| of["name"].as_str()).collect();
                assert_eq!(in_its_path, in_path(path).collect::<Vec<_>>(), "{method} {path}");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            }
        }
        assert_eq!(described, of_list);
    }

    #[test]
    fn what_metadata_offers_has_a_door_and_every_fhir_door_is_offered_there() {
        let doors = door::all();
        let of_doors: BTreeSet<&str> = doors.iter().filter_map(|door| door.interaction).collect();
        let offered: BTreeSet<&str> = exchange::INTERACTIONS.into_iter().chain(exchange::SYSTEM_INTERACTIONS).collect();
        assert_eq!(of_doors, offered);
    }

    #[test]
    fn documents_have_the_members_that_are_described_and_no_others() {
        let example = |kind: Kind| match kind {
            Kind::Text(example) => json!(example),
            Kind::Number => json!(1),
            Kind::Flag => json!(true),
            Kind::OneOf(values) => json!(values[0]),
            Kind::Key => json!("ab".repeat(32)),
            Kind::Searches => unreachable!("of queries only"),
        };
        let mut documents = 0;
        for door in door::all() {
            let Body::Json(members, reads) = &door.body else { continue };
            documents += 1;
            let place = format!("{} {}", door.method, door.path);
            let whole: Map<String, Value> =
                members.iter().map(|member| (member.name.to_owned(), example(member.kind))).collect();
            let reads = |document: &Map<String, Value>| reads(&serde_json::to_vec(document).unwrap());
            assert!(reads(&whole), "{place}");
            for member in members {
                let mut less = whole.clone();
                less.shift_remove(member.name);
                assert_eq!(reads(&less), !member.required, "{place} without {}", member.name);
            }
            let mut more = whole.clone();
            more.insert("colour".to_owned(), json!("red"));
            assert!(!reads(&more), "{place} with one member more");
        }
        assert!(documents > 10, "{documents}");
    }
}
