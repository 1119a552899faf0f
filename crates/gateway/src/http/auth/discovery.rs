//! What apps find their way by: the SMART configuration, that of OpenID Connect, and the issuer's public keys.
//!
//! Source: SMART App Launch 2.2, «Conformance»; OpenID Connect Discovery 1.0; RFC 7517.

use crate::{
    http::Doors,
    identity::{apps::ASSERTION_ALGORITHMS, grant::LAUNCHES},
};
use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};

const CAPABILITIES: [&str; 16] = [
    "launch-ehr",
    "launch-standalone",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
];

fn described(doors: &Doors, headers: &HeaderMap) -> Value {
    let origin = doors.base.origin_of(headers);
    let mut scopes: Vec<&str> = LAUNCHES.to_vec();
    scopes.extend(["patient/*.cruds", "user/*.cruds", "system/*.cruds"]);
    json!({
        "issuer": origin,
        "jwks_uri": format!("{origin}/auth/jwks"),
        "authorization_endpoint": format!("{origin}/auth/authorize"),
        "token_endpoint": format!("{origin}/auth/token"),
        "revocation_endpoint": format!("{origin}/auth/revoke"),
        "introspection_endpoint": format!("{origin}/auth/introspect"),
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": scopes,
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "authorization_response_iss_parameter_supported": true
    })
}

/// `GET /fhir/.well-known/smart-configuration`.
pub(crate) async fn smart(State(doors): State<Doors>, headers: HeaderMap) -> Json<Value> {
    let mut described = described(&doors, &headers);
    described["capabilities"] = json!(CAPABILITIES);
    Json(described)
}

/// `GET /.well-known/openid-configuration`.
pub(crate) async fn openid(State(doors): State<Doors>, headers: HeaderMap) -> Json<Value> {
    let mut described = described(&doors, &headers);
    described["subject_types_supported"] = json!(["public"]);
    described["id_token_signing_alg_values_supported"] = json!(["EdDSA"]);
    described["claims_supported"] = json!(["iss", "sub", "aud", "exp", "iat", "nonce", "fhirUser"]);
    Json(described)
}

/// `GET /auth/jwks`.
pub(crate) async fn keys(State(doors): State<Doors>) -> Json<Value> {
    Json(json!(doors.identity.issuer.public()))
}
