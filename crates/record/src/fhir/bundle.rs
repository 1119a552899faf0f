//! A batch or transaction that came in: its entries, each with what it asks for.
//!
//! Source: FHIR R4 `http.html#transaction`, `bundle.html`. A bad entry spoils a whole transaction, but only itself in a batch.

use super::{
    Fault, Issue, IssueType, Limits, ParseError, RESOURCE_BYTES_MAX, Resource, ResourceType,
    json::{Kind, Node},
    resource::{is_id, well_formed},
};

/// The most entries of a batch or transaction.
pub const ENTRIES_MAX: usize = 10_000;
/// The longest request URL or condition, in bytes.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// Whether its entries stand or fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BundleKind {
    /// Each entry on its own.
    Batch,
    /// All or nothing.
    Transaction,
}

/// The HTTP verb of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Delete. First in a transaction.
    Delete,
    /// Create, or an operation.
    Post,
    /// Update.
    Put,
    /// Patch.
    Patch,
    /// Read or search.
    Get,
    /// The headers of a read.
    Head,
}

impl Method {
    /// In the order in which a transaction processes them. Source: R4 `http.html#trules`.
    pub const ALL: [Self; 6] = [Self::Delete, Self::Post, Self::Put, Self::Patch, Self::Get, Self::Head];

    /// The verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }

    /// Which of the phases of a transaction it belongs to: delete, create, change, read.
    pub(super) fn phase(self) -> u8 {
        match self {
            Self::Delete => 0,
            Self::Post => 1,
            Self::Put | Self::Patch => 2,
            Self::Get | Self::Head => 3,
        }
    }
}

/// What a request URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `Patient`
    Type(ResourceType),
    /// `Patient/1`
    Instance(ResourceType, String),
    /// `Patient?identifier=...`, the query without the question mark.
    Query(ResourceType, String),
    /// Anything else: versions, history, operations, the system. Only its reader knows.
    Other,
}

impl Target {
    /// Reads the relative URL of a request.
    pub fn of(url: &str) -> Self {
        let url = url.strip_prefix('/').unwrap_or(url);
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let (rtype, rest) = path.split_once('/').map_or((path, None), |(rtype, rest)| (rtype, Some(rest)));
        match (rtype.parse(), rest, query) {
            (Ok(rtype), None, None) => Self::Type(rtype),
            (Ok(rtype), None, Some(query)) if !query.is_empty() => Self::Query(rtype, query.to_owned()),
            (Ok(rtype), Some(id), None) if is_id(id) => Self::Instance(rtype, id.to_owned()),
            _ => Self::Other,
        }
    }
}

/// One request of a batch or transaction.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the Bundle, counted from 0. The answer has the same places.
    pub index: usize,
    /// What references within the Bundle call its resource.
    pub full_url: Option<String>,
    /// The verb.
    pub method: Method,
    /// The relative URL as it came.
    pub url: String,
    /// What the URL names.
    pub target: Target,
    /// Create only if nothing matches this query (without type and question mark).
    pub if_none_exist: Option<String>,
    /// Only if this is the current version, such as `W/"3"`.
    pub if_match: Option<String>,
    /// Only if this is not the current version.
    pub if_none_match: Option<String>,
    /// Only if modified since this instant.
    pub if_modified_since: Option<String>,
    /// The resource, references as they came.
    pub resource: Option<Resource>,
}

impl Entry {
    /// Where it stands, such as `Bundle.entry[3]`.
    pub fn expression(&self) -> String {
        format!("Bundle.entry[{}]", self.index)
    }
}

/// What is wrong with a Bundle or one of its entries. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// Not a resource.
    #[error(transparent)]
    Resource(#[from] Fault),
    /// Another type than Bundle.
    #[error("a batch or transaction is a Bundle")]
    NotABundle,
    /// Another type of Bundle.
    #[error("only a Bundle of type `batch` or `transaction` can be processed")]
    OtherType,
    /// More entries than are read.
    #[error("{entries} entries are more than the {max} that are read: send them in parts")]
    TooManyEntries {
        /// Entries received.
        entries: usize,
        /// Entries allowed.
        max: usize,
    },
    /// An element is missing.
    #[error("it is required here")]
    Missing,
    /// Another JSON type.
    #[error("expected {0}")]
    WrongType(&'static str),
    /// No verb of R4.
    #[error("expected one of GET, HEAD, POST, PUT, DELETE, PATCH")]
    UnknownMethod,
    /// A URL that does not fit the verb.
    #[error("{0}")]
    BadUrl(&'static str),
    /// A resource of another type or id than the URL.
    #[error("{0}")]
    OtherResource(&'static str),
    /// Something on a verb that does not take it.
    #[error("{0}")]
    NotHere(&'static str),
    /// A `fullUrl` twice.
    #[error("two entries have the same `fullUrl`")]
    SameFullUrl,
}

/// Why a Bundle or an entry cannot be processed, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at `{expression}`)")]
pub struct BundleError {
    /// What is wrong.
    pub fault: BundleFault,
    /// Where: a path such as `Bundle.entry[3].request.method`.
    pub expression: String,
}

impl BundleError {
    pub(super) fn at(fault: BundleFault, expression: impl Into<String>) -> Self {
        Self { fault, expression: expression.into() }
    }
}
impl From<ParseError> for BundleError {
    fn from(error: ParseError) -> Self {
        Self { fault: error.fault.into(), expression: error.expression }
    }
}
impl From<BundleError> for Issue {
    fn from(error: BundleError) -> Self {
        let kind = match error.fault {
            BundleFault::Resource(fault) => return ParseError { fault, expression: error.expression }.into(),
            BundleFault::NotABundle | BundleFault::OtherType => IssueType::NotSupported,
            BundleFault::TooManyEntries { .. } => IssueType::TooCostly,
            BundleFault::Missing => IssueType::Required,
            BundleFault::WrongType(_) => IssueType::Structure,
            BundleFault::UnknownMethod | BundleFault::BadUrl(_) => IssueType::Value,
            BundleFault::OtherResource(_) | BundleFault::NotHere(_) => IssueType::Invalid,
            BundleFault::SameFullUrl => IssueType::Duplicate,
        };
        Self::error(kind, error.fault.to_string()).at(error.expression)
    }
}

/// A batch or transaction.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Which of the two.
    pub kind: BundleKind,
    /// Its entries. Those that cannot be processed fail a transaction, and only themselves in a batch.
    pub entries: Vec<Result<Entry, BundleError>>,
}

impl Bundle {
    /// Reads a batch or transaction.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, BundleError> {
        Self::of(&Resource::parse(bytes, limits)?, limits)
    }

    /// Reads a batch or transaction from a resource that was read already.
    pub fn of(bundle: &Resource, limits: Limits) -> Result<Self, BundleError> {
        if bundle.rtype() != "Bundle" {
            return Err(BundleError::at(BundleFault::NotABundle, "resourceType"));
        }
        let root = bundle.root();
        let kind = root.get("type").ok_or(BundleError::at(BundleFault::Missing, "Bundle.type"))?;
        let kind = match kind.as_str().as_deref() {
            Some("batch") => BundleKind::Batch,
            Some("transaction") => BundleKind::Transaction,
            _ => return Err(BundleError::at(BundleFault::OtherType, "Bundle.type")),
        };
        let Some(entries) = root.get("entry") else { return Ok(Self { kind, entries: Vec::new() }) };
        if entries.kind() != Kind::Array {
            return Err(BundleError::at(BundleFault::WrongType("an array"), "Bundle.entry"));
        }
        let count = entries.items().count();
        if count > ENTRIES_MAX {
            let fault = BundleFault::TooManyEntries { entries: count, max: ENTRIES_MAX };
            return Err(BundleError::at(fault, "Bundle.entry"));
        }
        let entries = entries.items().enumerate().map(|(index, node)| entry(index, node, limits)).collect();
        Ok(Self { kind, entries })
    }
}

fn entry(index: usize, node: Node<'_>, limits: Limits) -> Result<Entry, BundleError> {
    let here = |below: &str| format!("Bundle.entry[{index}]{below}");
    if node.kind() != Kind::Object {
        return Err(BundleError::at(BundleFault::WrongType("an object"), here("")));
    }
    let request = node.get("request").ok_or(BundleError::at(BundleFault::Missing, here(".request")))?;
    let text = |of: Node<'_>, key: &str, below: &str| match of.get(key) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) if text.len() <= URL_BYTES_MAX => Ok(Some(text.into_owned())),
            Some(_) => Err(BundleError::at(BundleFault::WrongType("a shorter string"), here(below))),
            None => Err(BundleError::at(BundleFault::WrongType("a string"), here(below))),
        },
    };
    let method = text(request, "method", ".request.method")?
        .ok_or_else(|| BundleError::at(BundleFault::Missing, here(".request.method")))?;
    let method = Method::ALL
        .into_iter()
        .find(|known| known.as_str() == method)
        .ok_or_else(|| BundleError::at(BundleFault::UnknownMethod, here(".request.method")))?;
    let url = text(request, "url", ".request.url")?
        .ok_or_else(|| BundleError::at(BundleFault::Missing, here(".request.url")))?;
    let resource =
        node.get("resource").map(|resource| resource_of(resource, limits, &here(".resource"))).transpose()?;
    let entry = Entry {
        index,
        full_url: text(node, "fullUrl", ".fullUrl")?,
        method,
        target: Target::of(&url),
        url,
        if_none_exist: text(request, "ifNoneExist", ".request.ifNoneExist")?.map(|query| bare_query(&query).to_owned()),
        if_match: text(request, "ifMatch", ".request.ifMatch")?,
        if_none_match: text(request, "ifNoneMatch", ".request.ifNoneMatch")?,
        if_modified_since: text(request, "ifModifiedSince", ".request.ifModifiedSince")?,
        resource,
    };
    fits_together(&entry)?;
    Ok(entry)
}

/// The query of `identifier=1`, `?identifier=1` and `Patient?identifier=1` alike: senders write all three.
fn bare_query(query: &str) -> &str {
    match query.split_once('?') {
        Some((before, rest)) if before.is_empty() || before.parse::<ResourceType>().is_ok() => rest,
        _ => query,
    }
}

fn resource_of(node: Node<'_>, limits: Limits, here: &str) -> Result<Resource, BundleError> {
    let place = |error: ParseError| {
        let below = error.expression.split_once('.').map_or("", |(_, below)| below);
        let dot = if below.is_empty() { "" } else { "." };
        BundleError::at(error.fault.into(), format!("{here}{dot}{below}"))
    };
    well_formed(node).map_err(|error| match error.fault {
        Fault::UnknownResourceType => BundleError::at(error.fault.into(), format!("{here}.resourceType")),
        _ => place(error),
    })?;
    let limits = Limits { bytes_max: limits.bytes_max.min(RESOURCE_BYTES_MAX), ..limits };
    Resource::parse(node.raw().as_bytes(), limits).map_err(place)
}

/// Whether verb, URL, conditions and resource can be one request.
fn fits_together(entry: &Entry) -> Result<(), BundleError> {
    let here = |below: &str| format!("{}{below}", entry.expression());
    let bad_url = |why| Err(BundleError::at(BundleFault::BadUrl(why), here(".request.url")));
    let rtype = match (entry.method, &entry.target) {
        (Method::Get | Method::Head, _) => return Ok(()),
        (Method::Post, Target::Type(rtype)) => Some(*rtype),
        // Operations and searches by POST: a Parameters or no resource, as their reader says.
        (Method::Post, Target::Other) => None,
        (Method::Post, _) => return bad_url("a create is posted to a type, such as `Patient`"),
        (Method::Put, Target::Instance(rtype, _) | Target::Query(rtype, _)) => Some(*rtype),
        (Method::Put, _) => return bad_url("an update names a record or a condition, such as `Patient/1`"),
        (Method::Delete | Method::Patch, Target::Instance(..) | Target::Query(..)) => None,
        (Method::Delete | Method::Patch, _) => {
            return bad_url("this verb names a record or a condition, such as `Patient/1`");
        }
    };
    if entry.if_none_exist.is_some() && entry.method != Method::Post {
        let fault = BundleFault::NotHere("only a create takes `ifNoneExist`");
        return Err(BundleError::at(fault, here(".request.ifNoneExist")));
    }
    let Some(rtype) = rtype else {
        return match entry.method {
            Method::Patch if entry.resource.is_none() => Err(BundleError::at(BundleFault::Missing, here(".resource"))),
            _ => Ok(()),
        };
    };
    let Some(resource) = &entry.resource else {
        return Err(BundleError::at(BundleFault::Missing, here(".resource")));
    };
    if resource.rtype() != rtype {
        let fault = BundleFault::OtherResource("the resource is of another type than the URL");
        return Err(BundleError::at(fault, here(".resource.resourceType")));
    }
    if let (Method::Put, Target::Instance(_, id)) = (entry.method, &entry.target)
        && resource.id().as_deref() != Some(id.as_str())
    {
        let fault = BundleFault::OtherResource("an update's resource has the id that its URL names");
        return Err(BundleError::at(fault, here(".resource.id")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_place() {
        let patient = r#""resource":{"resourceType":"Patient","id":"1"}"#;
        let cases = [
            (r#"7"#.to_owned(), "expected an object (at `Bundle.entry[0]`)"),
            (format!("{{{patient}}}"), "it is required here (at `Bundle.entry[0].request`)"),
            (
                r#"{"request":{"url":"Patient"}}"#.to_owned(),
                "it is required here (at `Bundle.entry[0].request.method`)",
            ),
            (
                r#"{"request":{"method":"POKE","url":"Patient"}}"#.to_owned(),
                "expected one of GET, HEAD, POST, PUT, DELETE, PATCH (at `Bundle.entry[0].request.method`)",
            ),
            (
                r#"{"request":{"method":"GET","url":1}}"#.to_owned(),
                "expected a string (at `Bundle.entry[0].request.url`)",
            ),
            (
                r#"{"request":{"method":"POST","url":"Patient"}}"#.to_owned(),
                "it is required here (at `Bundle.entry[0].resource`)",
            ),
            (
                format!(r#"{{{patient},"request":{{"method":"POST","url":"Patient/1"}}}}"#),
                "a create is posted to a type, such as `Patient` (at `Bundle.entry[0].request.url`)",
            ),
            (
                format!(r#"{{{patient},"request":{{"method":"POST","url":"Group"}}}}"#),
                "the resource is of another type than the URL (at `Bundle.entry[0].resource.resourceType`)",
            ),
            (
                format!(r#"{{{patient},"request":{{"method":"PUT","url":"Patient/2"}}}}"#),
                "an update's resource has the id that its URL names (at `Bundle.entry[0].resource.id`)",
            ),
            (
                format!(r#"{{{patient},"request":{{"method":"PUT","url":"Patient/1","ifNoneExist":"a=b"}}}}"#),
                "only a create takes `ifNoneExist` (at `Bundle.entry[0].request.ifNoneExist`)",
            ),
            (
                r#"{"request":{"method":"DELETE","url":"Patient"}}"#.to_owned(),
                "this verb names a record or a condition, such as `Patient/1` (at `Bundle.entry[0].request.url`)",
            ),
            (
                r#"{"resource":{"resourceType":"Patient","id":"a b"},"request":{"method":"POST","url":"Patient"}}"#
                    .to_owned(),
                "an id is 1 to 64 of the characters A-Z a-z 0-9 - . (at `Bundle.entry[0].resource.id`)",
            ),
            (
                r#"{"resource":{"resourceType":"Zebra"},"request":{"method":"POST","url":"Patient"}}"#.to_owned(),
                "not a resource type of FHIR R4: names are case sensitive, such as \"Observation\" (at `Bundle.entry[0].resource.resourceType`)",
            ),
        ];
        for (entry, expected) in cases {
            let text = format!(
                r#"{{"resourceType":"Bundle","type":"batch","entry":[{entry},{{"request":{{"method":"GET","url":"Patient/1"}}}}]}}"#
            );
            let bundle = Bundle::parse(text.as_bytes(), Limits::BUNDLE).unwrap();
            assert_eq!(bundle.entries[0].as_ref().unwrap_err().to_string(), expected, "{entry}");
            assert!(bundle.entries[1].is_ok(), "a bad entry spoils only itself in a batch");
        }
    }

    #[test]
    fn other_bundles_and_too_many_entries_are_refused() {
        let parse = |text: String| {
            Bundle::parse(text.as_bytes(), Limits::BUNDLE)
                .map(|bundle| bundle.entries.len())
                .map_err(|error| error.fault)
        };
        assert_eq!(parse(r#"{"resourceType":"Patient"}"#.to_owned()), Err(BundleFault::NotABundle));
        assert_eq!(parse(r#"{"resourceType":"Bundle"}"#.to_owned()), Err(BundleFault::Missing));
        assert_eq!(parse(r#"{"resourceType":"Bundle","type":"history"}"#.to_owned()), Err(BundleFault::OtherType));
        assert_eq!(
            parse(r#"{"resourceType":"Bundle","type":"batch","entry":{}}"#.to_owned()),
            Err(BundleFault::WrongType("an array"))
        );
        let entries = |count: usize| vec![r#"{"request":{"method":"GET","url":"Patient"}}"#; count].join(",");
        let bundle =
            |count| format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{}]}}"#, entries(count));
        assert_eq!(parse(bundle(ENTRIES_MAX)), Ok(ENTRIES_MAX));
        assert_eq!(
            parse(bundle(ENTRIES_MAX + 1)),
            Err(BundleFault::TooManyEntries { entries: ENTRIES_MAX + 1, max: ENTRIES_MAX })
        );
    }

    #[test]
    fn urls_name_types_records_and_conditions() {
        let patient: ResourceType = "Patient".parse().unwrap();
        assert_eq!(Target::of("Patient"), Target::Type(patient));
        assert_eq!(Target::of("/Patient/a.1-B"), Target::Instance(patient, "a.1-B".to_owned()));
        assert_eq!(Target::of("Patient?identifier=a|b/c?d"), Target::Query(patient, "identifier=a|b/c?d".to_owned()));
        for other in [
            "",
            "Zebra/1",
            "Patient/a b",
            "Patient/1/_history/2",
            "Patient/1?x=y",
            "Patient?",
            "Patient/$match",
            "metadata",
        ] {
            assert_eq!(Target::of(other), Target::Other, "{other}");
        }
        assert_eq!(bare_query("?a=b"), "a=b");
        assert_eq!(bare_query("Patient?a=b"), "a=b");
        assert_eq!(bare_query("a=b?c"), "a=b?c");
    }
}
