//! FHIR R4 as this program speaks it: exact texts read, checked, edited in place, bundled, summarised and audited.
//!
//! Source of every fact: FHIR R4 4.0.1, <http://hl7.org/fhir/R4/>. Nothing here stores, resolves or decides.

// A resource as exact text.
mod resource;
mod resource_type;

mod json;
mod patient;

// Whether it is what its type demands.
mod check;
mod definitions;
mod moment;
mod narrative;
mod subset;
mod targets;

// Requests in bulk and in part, and answers.
mod bundle;
mod patch;
mod transaction;

mod answer;
mod outcome;
mod search_url;

// Documents of our own.
mod audit_event;
mod summary;

pub mod codes;

pub use answer::{
    Content, Document, EntryAnswer, Found, History, PastVersion, SearchMode, SearchSet, bundle_response, collection,
};
pub use audit_event::{AuditEvent, AuditOutcome, Event, Interaction, Machine, Party, User};
pub use bundle::{Bundle, BundleError, BundleFault, BundleKind, ENTRIES_MAX, Entry, Method, Target, URL_BYTES_MAX};
pub use check::{CheckFault, PROBLEMS_MAX, Problem, check};
pub use json::{Json, Kind, Node, push_string, rewrite_strings};
pub use narrative::{NarrativeFault, check_narrative, push_escaped};
pub use outcome::{Issue, IssueType, Outcome, Severity};
pub use patch::{JSON_PATCH, OPERATIONS_MAX, PatchError, patch_in, patched};
pub use resource::{
    BUNDLE_BYTES_MAX, Confidentiality, DEPTH_MAX, Fault, FoundReference, Limits, ParseError, RESOURCE_BYTES_MAX,
    Resource, is_id,
};
pub use resource_type::{RESOURCE_TYPES, ResourceType, UnknownResourceType};
pub use search_url::{
    PARAMETERS_MAX, Parameter, Prefix, QUERY_BYTES_MAX, SearchUrl, SearchUrlError, Token, VALUES_MAX, Value,
};
pub use subset::Subset;
pub use summary::{Completeness, Listed, Section, Standing, Summary, SummaryError};
pub use targets::reference_targets;
pub use transaction::{Action, Answer, Plan, Question, Step, TransactionError};
