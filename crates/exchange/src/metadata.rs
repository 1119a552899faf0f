//! The CapabilityStatement: what this gateway offers to FHIR clients.

use crate::{
    include::{Include, Offered},
    node::Node,
    subscription::SUBSCRIPTION,
    topic::{TOPICS, Topic},
};
use record::fhir::{JSON_PATCH, RESOURCE_TYPES};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::LazyLock};
use store::{compartments, indexed};

/// What every type can be asked for. Source: R4 value set `type-restful-interaction`.
pub const INTERACTIONS: [&str; 9] =
    ["read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"];
/// What the gateway as a whole can be asked for. Source: R4 value set `system-restful-interaction`.
pub const SYSTEM_INTERACTIONS: [&str; 4] = ["transaction", "batch", "search-system", "history-system"];

/// Names a topic of Subscriptions.
const TOPIC_CANONICAL: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical";
/// The form of Subscriptions.
const BACKPORT_SUBSCRIPTION: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription";

/// What may be included in a search of each type.
static OFFERED: LazyLock<BTreeMap<&'static str, Offered>> = LazyLock::new(Include::offered);

/// The operations, with the type of which they are; none: of every type.
const OPERATIONS: [(Option<&str>, &str, &str); 10] = [
    (Some("Group"), "export", "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export"),
    (Some("Patient"), "export", "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export"),
    (Some("Patient"), "summary", "http://hl7.org/fhir/uv/ips/OperationDefinition/summary"),
    (Some("Patient"), "everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything"),
    (Some("Patient"), "match", "http://hl7.org/fhir/OperationDefinition/Patient-match"),
    (Some("Observation"), "lastn", "http://hl7.org/fhir/OperationDefinition/Observation-lastn"),
    (
        Some("Subscription"),
        "status",
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
    ),
    (
        Some("Subscription"),
        "events",
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-events",
    ),
    (
        Some("Subscription"),
        "get-ws-binding-token",
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-get-ws-binding-token",
    ),
    (None, "validate", "http://hl7.org/fhir/OperationDefinition/Resource-validate"),
];

impl Node {
    /// `GET /fhir/metadata`, for a caller that calls this gateway by `base` and the doors of identity by `auth`.
    pub fn metadata(&self, base: &str, auth: &str) -> Vec<u8> {
        let interactions: Vec<Value> = INTERACTIONS.iter().map(|code| json!({"code": code})).collect();
        let resources: Vec<Value> = RESOURCE_TYPES
            .iter()
            .map(|rtype| {
                let parameters: Vec<Value> =
                    indexed(rtype).into_iter().map(|(name, kind)| json!({"name": name, "type": kind.name()})).collect();
                let mut resource = json!({
                    "type": rtype, "interaction": interactions, "versioning": "versioned-update", "readHistory": true,
                    "updateCreate": true, "conditionalCreate": true, "conditionalRead": "not-match", "conditionalUpdate": true,
                    "conditionalDelete": "single", "searchParam": parameters
                });
                // FHIR has no empty arrays.
                if let Some(Offered { from, to }) = OFFERED.get(rtype) {
                    for (name, of) in [("searchInclude", from), ("searchRevInclude", to)] {
                        if !of.is_empty() {
                            resource[name] = json!(of);
                        }
                    }
                }
                if *rtype == SUBSCRIPTION {
                    // So topics are found in R4. Source: HL7 Subscriptions R5 Backport 1.1.0, «Topic discovery».
                    let topic = |topic: &Topic| json!({"url": TOPIC_CANONICAL, "valueCanonical": topic.url()});
                    resource["extension"] = TOPICS.into_iter().map(topic).collect();
                    resource["supportedProfile"] = json!([BACKPORT_SUBSCRIPTION]);
                }
                let operations = OPERATIONS.iter().filter(|(of, ..)| of.is_none_or(|of| of == *rtype));
                resource["operation"] =
                    operations.map(|(_, name, definition)| json!({"name": name, "definition": definition})).collect();
                resource
            })
            .collect();
        let statement = json!({
            "resourceType": "CapabilityStatement", "status": "active", "date": self.genesis.time.to_instant(),
            "kind": "instance", "fhirVersion": "4.0.1", "format": ["json"], "patchFormat": [JSON_PATCH],
            "software": {"name": "Vitaltrace", "version": env!("CARGO_PKG_VERSION")},
            "implementation": {"description": format!("Gateway of {}", self.org), "url": base},
            "rest": [{
                "mode": "server", "resource": resources,
                "security": security(auth),
                "documentation": "Every address that this gateway answers, FHIR or not, is described by OpenAPI at /openapi.json.",
                "interaction": SYSTEM_INTERACTIONS.map(|code| json!({"code": code})),
                "searchParam": common_parameters(),
                "compartment": compartments().map(|(_, name)| format!("http://hl7.org/fhir/CompartmentDefinition/{name}")),
                "operation": [{"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}]
            }]
        });
        serde_json::to_vec(&statement).unwrap_or_default()
    }
}

/// What a search of several types can be asked by, whichever they are.
fn common_parameters() -> Vec<Value> {
    let of_every_type = indexed("Resource").into_iter().map(|(name, kind)| (name, kind.name()));
    of_every_type.chain([("_type", "token")]).map(|(name, kind)| json!({"name": name, "type": kind})).collect()
}

/// How callers get their tokens. Source: SMART App Launch 1.0, «Conformance», which clients still read.
fn security(auth: &str) -> Value {
    let uri = |name: &str, path: &str| json!({"url": name, "valueUri": format!("{auth}/{path}")});
    json!({
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [
                uri("authorize", "authorize"), uri("token", "token"), uri("revoke", "revoke"), uri("introspect", "introspect")
            ]
        }],
        "service": [{
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}],
            "text": "OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)"
        }],
        "description": "Bearer tokens from POST /auth/token; purpose of use in X-Purpose-Of-Use."
    })
}
