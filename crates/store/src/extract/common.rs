//! Values that nearly all records of a type have: nothing is found by one of them alone, so that they stand in no index.
//!
//! Seven of ten records are audit events, and each has a dozen values that say the same as thousands of others. In an index by value
//! (and patient, see `select`) every one of them is another page to be written. They are filed all the same, and looked at in what other values find.

/// Type, parameter and code of common tokens, whatever their system. An empty code is that of what is said in words alone.
///
/// Source: what is usual in the trail of a FHIR server, by value sets `audit-event-action`, `audit-event-outcome`, `audit-event-type`,
/// `audit-event-sub-type` and by IHE BALP 1.1. Failures, deletions and what is rare are not here.
pub(crate) const COMMON: [(&str, &str, &[&str]); 8] = [
    ("AuditEvent", "action", &["C", "E", "R", "U"]),
    ("AuditEvent", "outcome", &["0"]),
    ("AuditEvent", "type", &["rest"]),
    ("AuditEvent", "subtype", &["create", "history", "operation", "read", "search", "update", "vread"]),
    ("AuditEvent", "agent-role", &["", "110152", "110153", "AUT", "IRCP"]),
    ("AuditEvent", "entity-type", &["1", "2", "4", "XrequestId"]),
    ("AuditEvent", "entity-role", &["1", "4", "24"]),
    ("AuditEvent", "source", &["4"]),
];

/// Whether nearly all records of the type have the token, so that it stands in no index.
pub(crate) fn is_common(rtype: &str, param: &str, code: &str) -> bool {
    COMMON.iter().any(|(of, name, codes)| *of == rtype && *name == param && codes.contains(&code))
}
