//! Bundles that go out: answers to batches and transactions, search results, histories, collections, documents.
//!
//! Resources are taken as the bytes they are stored in and stand in the Bundle as exactly these bytes.

use super::{BundleKind, Outcome, json::push_string};
use crate::TimeMs;

/// Writes JSON objects member by member, commas included.
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A comma, unless something was just opened.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    pub(super) fn key(&mut self, key: &str) {
        self.separate();
        self.quoted(key);
        self.out.push(b':');
    }

    fn quoted(&mut self, text: &str) {
        // Most texts stand as they are, and so do all keys.
        if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.out.push(b'"');
            self.raw(text.as_bytes());
            self.out.push(b'"');
            return;
        }
        let mut quoted = String::with_capacity(text.len() + 2);
        push_string(&mut quoted, text);
        self.raw(quoted.as_bytes());
    }

    pub(super) fn string(&mut self, key: &str, text: &str) {
        self.key(key);
        self.quoted(text);
    }

    pub(super) fn value(&mut self, key: &str, raw: &[u8]) {
        self.key(key);
        self.raw(raw);
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.value(key, number.to_string().as_bytes());
    }

    /// An object under `key`.
    pub(super) fn object(&mut self, key: &str, inner: impl FnOnce(&mut Self)) {
        self.key(key);
        self.braces(inner);
    }

    /// An object in an array or on its own.
    pub(super) fn item(&mut self, inner: impl FnOnce(&mut Self)) {
        self.separate();
        self.braces(inner);
    }

    fn braces(&mut self, inner: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        inner(self);
        self.out.push(b'}');
    }

    /// An array under `key`, left out when there is nothing to put in it: FHIR has no empty arrays.
    pub(super) fn array<T>(&mut self, key: &str, of: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        let mut of = of.into_iter().peekable();
        if of.peek().is_none() {
            return;
        }
        self.key(key);
        self.out.push(b'[');
        of.for_each(|item| each(self, item));
        self.out.push(b']');
    }

    /// An array of strings under `key`, left out when there are none.
    pub(super) fn strings<'a>(&mut self, key: &str, of: impl IntoIterator<Item = &'a str>) {
        self.array(key, of, |out, text| {
            out.separate();
            out.quoted(text);
        });
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The answer to one entry of a batch or transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryAnswer {
    /// The HTTP status, such as `201`.
    pub status: u16,
    /// `Type/id/_history/version` of what was written.
    pub location: Option<String>,
    /// The version that is current now.
    pub version: Option<u64>,
    /// When that version was written.
    pub last_modified: Option<TimeMs>,
    /// The resource that was asked for, as stored.
    pub resource: Option<Vec<u8>>,
    /// What there is to say.
    pub outcome: Option<Outcome>,
}

/// The answer to a batch or transaction; `entries` in the order of the request.
pub fn bundle_response(kind: BundleKind, entries: &[EntryAnswer]) -> Vec<u8> {
    let kind = match kind {
        BundleKind::Batch => "batch-response",
        BundleKind::Transaction => "transaction-response",
    };
    let resources: usize = entries.iter().filter_map(|entry| entry.resource.as_ref()).map(Vec::len).sum();
    bundle(kind, resources + entries.len() * 192, |out| {
        out.array("entry", entries, |out, entry| out.item(|out| entry_answer(out, entry)));
    })
}

fn entry_answer(out: &mut Writer, entry: &EntryAnswer) {
    if let Some(resource) = &entry.resource {
        out.value("resource", resource);
    }
    out.object("response", |out| {
        out.string("status", &status_line(entry.status));
        if let Some(location) = &entry.location {
            out.string("location", location);
        }
        if let Some(version) = entry.version {
            out.string("etag", &format!("W/\"{version}\""));
        }
        if let Some(at) = entry.last_modified {
            out.string("lastModified", &at.to_instant());
        }
        if let Some(outcome) = &entry.outcome {
            out.value("outcome", outcome.to_json().as_bytes());
        }
    });
}

/// Status and reason, as `Bundle.entry.response.status` has them.
fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => return status.to_string(),
    };
    format!("{status} {reason}")
}

/// The extension that says how surely a found person is the one that was asked for.
const MATCH_GRADE: &str = "http://hl7.org/fhir/StructureDefinition/match-grade";

/// Why a resource is in a search result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchMode {
    /// It matched.
    Match,
    /// A match refers to it.
    Include,
    /// It says something about the search: an OperationOutcome.
    Outcome,
}

/// One resource of a search result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is: an absolute URL, without a version. None for an OperationOutcome.
    pub full_url: Option<String>,
    /// The resource as stored.
    pub resource: Vec<u8>,
    /// Why it is here.
    pub mode: SearchMode,
    /// How well it matches, of a search for a person: hundredths of a full match, and a code of
    /// <http://terminology.hl7.org/CodeSystem/match-grade>.
    pub grade: Option<(u32, &'static str)>,
}

/// A page of a search result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchSet {
    /// How many match in all, if that is known.
    pub total: Option<u64>,
    /// Relation (`self`, `next`, ...) and URL.
    pub links: Vec<(String, String)>,
    /// The page.
    pub entries: Vec<Found>,
}

impl SearchSet {
    /// The Bundle.
    pub fn to_json(&self) -> Vec<u8> {
        let resources: usize = self.entries.iter().map(|found| found.resource.len() + 160).sum();
        bundle("searchset", resources + 512, |out| {
            if let Some(total) = self.total {
                out.number("total", total);
            }
            links(out, &self.links);
            out.array("entry", &self.entries, |out, found| {
                out.item(|out| {
                    if let Some(full_url) = &found.full_url {
                        out.string("fullUrl", full_url);
                    }
                    out.value("resource", &found.resource);
                    let mode = match found.mode {
                        SearchMode::Match => "match",
                        SearchMode::Include => "include",
                        SearchMode::Outcome => "outcome",
                    };
                    out.object("search", |out| {
                        if let Some((_, code)) = found.grade {
                            out.array("extension", [code], |out, code| {
                                out.item(|out| {
                                    out.string("url", MATCH_GRADE);
                                    out.string("valueCode", code);
                                });
                            });
                        }
                        out.string("mode", mode);
                        if let Some((hundredths, _)) = found.grade {
                            out.value("score", format!("{}.{:02}", hundredths / 100, hundredths % 100).as_bytes());
                        }
                    });
                });
            });
        })
    }
}

/// What a history shows of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The resource as stored.
    Stored(Vec<u8>),
    /// The version deletes the record.
    Deleted,
    /// There is such a version, and it cannot be shown: what there is to say of it.
    Withheld(Outcome),
}

/// One version in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersion {
    /// Where the record is: an absolute URL, without a version.
    pub full_url: String,
    /// `Type/id`.
    pub record: String,
    /// The version, counted from 1.
    pub version: u64,
    /// When it was written.
    pub written: TimeMs,
    /// What is shown of it.
    pub content: Content,
}

impl PastVersion {
    fn resource(&self) -> Option<&[u8]> {
        if let Content::Stored(bytes) = &self.content { Some(bytes) } else { None }
    }
}

/// A history, newest version first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// How many versions there are in all, if that is known.
    pub total: Option<u64>,
    /// Relation (`self`, `next`, ...) and URL.
    pub links: Vec<(String, String)>,
    /// The versions, newest first.
    pub versions: Vec<PastVersion>,
}

impl History {
    /// The Bundle.
    pub fn to_json(&self) -> Vec<u8> {
        let bytes: usize = self.versions.iter().map(|version| version.resource().map_or(0, <[u8]>::len) + 320).sum();
        bundle("history", bytes + 512, |out| {
            if let Some(total) = self.total {
                out.number("total", total);
            }
            links(out, &self.links);
            out.array("entry", &self.versions, |out, version| out.item(|out| past_version(out, version)));
        })
    }
}

fn past_version(out: &mut Writer, version: &PastVersion) {
    out.string("fullUrl", &version.full_url);
    let rtype = version.record.split('/').next().unwrap_or_default();
    let (method, url, status) = match (&version.content, version.version) {
        (Content::Deleted, _) => ("DELETE", version.record.as_str(), 204),
        (_, 1) => ("POST", rtype, 201),
        (_, _) => ("PUT", version.record.as_str(), 200),
    };
    if let Some(resource) = version.resource() {
        out.value("resource", resource);
    }
    out.object("request", |out| {
        out.string("method", method);
        out.string("url", url);
    });
    out.object("response", |out| {
        let withheld = if let Content::Withheld(outcome) = &version.content { Some(outcome) } else { None };
        out.string("status", &status_line(if withheld.is_some() { 503 } else { status }));
        out.string("etag", &format!("W/\"{}\"", version.version));
        out.string("lastModified", &version.written.to_instant());
        if let Some(outcome) = withheld {
            out.value("outcome", outcome.to_json().as_bytes());
        }
    });
}

/// A collection: absolute URL and stored bytes of each resource.
pub fn collection(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    bundle("collection", entries.iter().map(|(url, bytes)| url.len() + bytes.len() + 64).sum(), |out| {
        entries_of(out, entries);
    })
}

/// A document: a Composition, and then what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its identifier, unique for ever: system and value.
    pub identifier: (String, String),
    /// When it was put together.
    pub timestamp: TimeMs,
    /// `fullUrl` and bytes of each resource, the Composition first.
    pub entries: Vec<(String, Vec<u8>)>,
}

impl Document {
    /// The Bundle, with an id when it has one of its own.
    pub fn to_json(&self, id: Option<&str>, profile: Option<&str>) -> Vec<u8> {
        let bytes: usize = self.entries.iter().map(|(url, bytes)| url.len() + bytes.len() + 64).sum();
        let mut out = Writer::with_capacity(bytes + 512);
        out.item(|out| {
            out.string("resourceType", "Bundle");
            if let Some(id) = id {
                out.string("id", id);
            }
            if let Some(profile) = profile {
                out.object("meta", |out| out.strings("profile", [profile]));
            }
            out.object("identifier", |out| {
                out.string("system", &self.identifier.0);
                out.string("value", &self.identifier.1);
            });
            out.string("type", "document");
            out.string("timestamp", &self.timestamp.to_instant());
            entries_of(out, &self.entries);
        });
        out.finish()
    }
}

fn entries_of(out: &mut Writer, entries: &[(String, Vec<u8>)]) {
    out.array("entry", entries, |out, (full_url, resource)| {
        out.item(|out| {
            out.string("fullUrl", full_url);
            out.value("resource", resource);
        });
    });
}

fn links(out: &mut Writer, links: &[(String, String)]) {
    out.array("link", links, |out, (relation, url)| {
        out.item(|out| {
            out.string("relation", relation);
            out.string("url", url);
        });
    });
}

fn bundle(kind: &str, bytes: usize, inner: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::with_capacity(bytes + 64);
    out.item(|out| {
        out.string("resourceType", "Bundle");
        out.string("type", kind);
        inner(out);
    });
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{Issue, IssueType, Limits, Resource, check};
    use expect_test::{Expect, expect};

    const AT: TimeMs = TimeMs(1_795_255_530_123);
    const STORED: &[u8] = br#"{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}}"#;

    fn check_bundle(bytes: Vec<u8>, expected: Expect) {
        let bundle = Resource::parse(&bytes, Limits::BUNDLE).unwrap();
        assert_eq!(check(&bundle), Ok(()));
        expected.assert_eq(bundle.text());
    }

    #[test]
    fn a_transactions_answer_says_what_became_of_each_entry() {
        let created = EntryAnswer {
            status: 201,
            location: Some("Patient/1/_history/1".to_owned()),
            version: Some(1),
            last_modified: Some(AT),
            ..EntryAnswer::default()
        };
        let failed = EntryAnswer {
            status: 404,
            outcome: Some(Issue::error(IssueType::NotFound, "no such record").into()),
            ..EntryAnswer::default()
        };
        let read = EntryAnswer { status: 200, resource: Some(STORED.to_vec()), ..EntryAnswer::default() };
        check_bundle(
            bundle_response(BundleKind::Transaction, &[created, read]),
            expect![[
                r#"{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201 Created","location":"Patient/1/_history/1","etag":"W/\"1\"","lastModified":"2026-11-21T10:05:30.123Z"}},{"resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}},"response":{"status":"200 OK"}}]}"#
            ]],
        );
        check_bundle(
            bundle_response(BundleKind::Batch, &[failed]),
            expect![[
                r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"404 Not Found","outcome":{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","diagnostics":"no such record"}]}}}]}"#
            ]],
        );
        check_bundle(
            bundle_response(BundleKind::Batch, &[]),
            expect![[r#"{"resourceType":"Bundle","type":"batch-response"}"#]],
        );
    }

    #[test]
    fn search_results_keep_stored_bytes() {
        let found = Found {
            full_url: Some("http://a/Observation/1".to_owned()),
            resource: STORED.to_vec(),
            mode: SearchMode::Match,
            grade: Some((85, "probable")),
        };
        let set = SearchSet {
            total: Some(1),
            links: vec![("self".to_owned(), "http://a/Observation?code=x".to_owned())],
            entries: vec![found],
        };
        check_bundle(
            set.to_json(),
            expect![[
                r#"{"resourceType":"Bundle","type":"searchset","total":1,"link":[{"relation":"self","url":"http://a/Observation?code=x"}],"entry":[{"fullUrl":"http://a/Observation/1","resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}},"search":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":"probable"}],"mode":"match","score":0.85}}]}"#
            ]],
        );
        check_bundle(SearchSet::default().to_json(), expect![[r#"{"resourceType":"Bundle","type":"searchset"}"#]]);
    }

    #[test]
    fn histories_show_creation_change_and_deletion() {
        let version = |version, resource: Option<&[u8]>| PastVersion {
            full_url: "http://a/Observation/1".to_owned(),
            record: "Observation/1".to_owned(),
            version,
            written: AT,
            content: resource.map_or(Content::Deleted, |bytes| Content::Stored(bytes.to_vec())),
        };
        let history = History {
            total: Some(3),
            links: Vec::new(),
            versions: vec![version(3, None), version(2, Some(STORED)), version(1, Some(STORED))],
        };
        check_bundle(
            history.to_json(),
            expect![[
                r#"{"resourceType":"Bundle","type":"history","total":3,"entry":[{"fullUrl":"http://a/Observation/1","request":{"method":"DELETE","url":"Observation/1"},"response":{"status":"204 No Content","etag":"W/\"3\"","lastModified":"2026-11-21T10:05:30.123Z"}},{"fullUrl":"http://a/Observation/1","resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}},"request":{"method":"PUT","url":"Observation/1"},"response":{"status":"200 OK","etag":"W/\"2\"","lastModified":"2026-11-21T10:05:30.123Z"}},{"fullUrl":"http://a/Observation/1","resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}},"request":{"method":"POST","url":"Observation"},"response":{"status":"201 Created","etag":"W/\"1\"","lastModified":"2026-11-21T10:05:30.123Z"}}]}"#
            ]],
        );
    }

    #[test]
    fn collections_and_documents_hold_what_they_are_given() {
        let entries = vec![("http://a/Observation/1".to_owned(), STORED.to_vec())];
        check_bundle(
            collection(&entries),
            expect![[
                r#"{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"http://a/Observation/1","resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}}}]}"#
            ]],
        );
        let document =
            Document { identifier: ("urn:ietf:rfc:3986".to_owned(), "urn:uuid:1".to_owned()), timestamp: AT, entries };
        check_bundle(
            document.to_json(Some("d"), None),
            expect![[
                r#"{"resourceType":"Bundle","id":"d","identifier":{"system":"urn:ietf:rfc:3986","value":"urn:uuid:1"},"type":"document","timestamp":"2026-11-21T10:05:30.123Z","entry":[{"fullUrl":"http://a/Observation/1","resource":{"resourceType":"Observation","id":"1","status":"final","code":{"text":"a"},"valueQuantity":{"value":1.10}}}]}"#
            ]],
        );
    }
}
