//! A transaction, planned: every id known, every reference rewritten, in the order in which it is to be carried out.
//!
//! Source: FHIR R4 `http.html#trules`. Planning has two steps because only the caller can search: [`Plan::new`] lists what is
//! to be looked up, [`Plan::resolve`] takes the answers.

use super::{
    Bundle, BundleError, BundleKind, Entry, Issue, IssueType, Limits, Method, ParseError, Resource, ResourceType,
    Target, bundle::BundleFault, is_id,
};
use indexmap::IndexMap;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

/// What the caller has to look up before a transaction can be carried out: which records match a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The type that is searched.
    pub rtype: ResourceType,
    /// The query, without type and question mark.
    pub query: String,
}

/// What a [`Question`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    None,
    /// One record: its id.
    One(String),
    /// More than one.
    Many,
}

/// Why a transaction cannot be carried out. The sender's fault, though another state of the records might have allowed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// An entry is not well formed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A batch, whose entries are carried out one by one.
    #[error("a batch is not planned as a whole")]
    NotATransaction,
    /// A condition matches nothing.
    #[error("no record matches this condition (at `{expression}`)")]
    NoMatch {
        /// Where the condition stands.
        expression: String,
    },
    /// A condition matches more than one record.
    #[error("more than one record matches this condition: make it more selective (at `{expression}`)")]
    ManyMatches {
        /// Where the condition stands.
        expression: String,
    },
    /// A `urn:` reference to no entry.
    #[error("no entry has this `fullUrl` (at `{expression}`)")]
    Dangling {
        /// Where the reference stands.
        expression: String,
    },
    /// Two entries write or delete the same record.
    #[error("entries {first} and {second} write the same record")]
    SameRecord {
        /// The first entry, counted from 0.
        first: usize,
        /// The second.
        second: usize,
    },
    /// An id that the caller assigned is not well formed: ours.
    #[error("the id assigned to entry {entry} is not well formed")]
    BadAssignedId {
        /// The entry, counted from 0.
        entry: usize,
    },
    /// There is no answer to one of the plan's questions: ours.
    #[error("{questions} questions and {answers} answers")]
    Unanswered {
        /// Questions of the plan.
        questions: usize,
        /// Answers given.
        answers: usize,
    },
}

impl From<TransactionError> for Issue {
    fn from(error: TransactionError) -> Self {
        let text = error.to_string();
        match error {
            TransactionError::Bundle(error) => error.into(),
            TransactionError::NotATransaction => Self::error(IssueType::NotSupported, text).at("Bundle.type"),
            TransactionError::NoMatch { expression } => Self::error(IssueType::NotFound, text).at(expression),
            TransactionError::ManyMatches { expression } => {
                Self::error(IssueType::MultipleMatches, text).at(expression)
            }
            TransactionError::Dangling { expression } => Self::error(IssueType::NotFound, text).at(expression),
            TransactionError::SameRecord { second, .. } => {
                Self::error(IssueType::Duplicate, text).at(format!("Bundle.entry[{second}]"))
            }
            TransactionError::BadAssignedId { .. } | TransactionError::Unanswered { .. } => {
                Self::error(IssueType::Exception, text)
            }
        }
    }
}

/// What to do for one entry.
#[derive(Debug, Clone)]
pub enum Action {
    /// Create this record.
    Create {
        /// Its id.
        id: String,
        /// The resource, references rewritten.
        resource: Resource,
    },
    /// Nothing: the condition of the create matched this record.
    Existing {
        /// Its type.
        rtype: ResourceType,
        /// Its id.
        id: String,
    },
    /// Write a new version of this record, or its first one.
    Update {
        /// Its id.
        id: String,
        /// Only if this is the current version.
        if_match: Option<String>,
        /// The resource, references rewritten.
        resource: Resource,
    },
    /// Patch this record.
    Patch {
        /// Its type.
        rtype: ResourceType,
        /// Its id.
        id: String,
        /// Only if this is the current version.
        if_match: Option<String>,
        /// The patch: a Parameters or a Binary, references rewritten.
        patch: Resource,
    },
    /// Delete this record.
    Delete {
        /// Its type.
        rtype: ResourceType,
        /// Its id.
        id: String,
        /// Only if this is the current version.
        if_match: Option<String>,
    },
    /// Nothing: the condition of the delete matched no record.
    NothingToDelete,
    /// Read, search or operation: its URL (and resource) as they came.
    Other,
}

/// What to do for one entry, and which.
#[derive(Debug, Clone)]
pub struct Step {
    /// The entry's place in the Bundle and so in the answer, counted from 0.
    pub index: usize,
    /// What to do.
    pub action: Action,
    /// The entry as it came, without its resource where `action` has it.
    pub entry: Entry,
}

/// A transaction whose conditions are still to be looked up.
#[derive(Debug, Clone)]
pub struct Plan {
    entries: Vec<Entry>,
    /// The id that each entry's resource gets when it is created, by place.
    assigned: Vec<Option<String>>,
    /// Each question once, with where it is first asked.
    questions: IndexMap<Question, String>,
}

impl Plan {
    /// Assigns ids to what is to be created and lists what has to be looked up. `next_id` gives a new id for a type.
    pub fn new(bundle: Bundle, mut next_id: impl FnMut(ResourceType) -> String) -> Result<Self, TransactionError> {
        if bundle.kind != BundleKind::Transaction {
            return Err(TransactionError::NotATransaction);
        }
        Self::of(bundle.entries.into_iter().collect::<Result<Vec<_>, _>>()?, &mut next_id)
    }

    /// The same for one entry on its own: of a batch, or a conditional request.
    pub fn of_one(entry: Entry, mut next_id: impl FnMut(ResourceType) -> String) -> Result<Self, TransactionError> {
        Self::of(vec![entry], &mut next_id)
    }

    fn of(entries: Vec<Entry>, next_id: &mut impl FnMut(ResourceType) -> String) -> Result<Self, TransactionError> {
        let mut full_urls = HashSet::new();
        let mut assigned = Vec::with_capacity(entries.len());
        let mut questions = IndexMap::new();
        for entry in &entries {
            if let Some(full_url) = &entry.full_url
                && entry.resource.is_some()
                && !full_urls.insert(full_url.as_str())
            {
                return Err(BundleError::at(BundleFault::SameFullUrl, format!("{}.fullUrl", entry.expression())).into());
            }
            let created = created_type(entry);
            let id = created.map(&mut *next_id);
            if id.as_deref().is_some_and(|id| !is_id(id)) {
                return Err(TransactionError::BadAssignedId { entry: entry.index });
            }
            assigned.push(id);
            if let Some(question) = question_of(entry) {
                questions.entry(question).or_insert_with(|| entry.expression());
            }
            let Some(resource) = &entry.resource else { continue };
            for reference in resource.references() {
                if let Some(question) = conditional(&reference.text) {
                    let place = || format!("{}.resource.{}", entry.expression(), reference.element);
                    questions.entry(question).or_insert_with(place);
                }
            }
        }
        Ok(Self { entries, assigned, questions })
    }

    /// What to look up, each once. The answers are given to [`Plan::resolve`] in the same order.
    pub fn questions(&self) -> impl ExactSizeIterator<Item = &Question> {
        self.questions.keys()
    }

    /// The steps of the transaction: deletes, creates, changes, reads; within each in the Bundle's order.
    pub fn resolve(self, answers: &[Answer]) -> Result<Vec<Step>, TransactionError> {
        let Self { entries, assigned, questions } = self;
        if questions.len() != answers.len() {
            return Err(TransactionError::Unanswered { questions: questions.len(), answers: answers.len() });
        }
        let found: HashMap<&Question, (&Answer, &str)> = questions
            .iter()
            .zip(answers)
            .map(|((question, place), answer)| (question, (answer, place.as_str())))
            .collect();

        // Who every entry is about, so that references to it can be written.
        let mut records = Vec::with_capacity(entries.len());
        for (entry, assigned) in entries.iter().zip(assigned) {
            records.push(Record::of(entry, assigned, &found)?);
        }
        let links = Links::new(&entries, &records, &found);
        no_record_twice(&records)?;

        let mut steps = Vec::with_capacity(entries.len());
        for (mut entry, record) in entries.into_iter().zip(&records) {
            let resource = match (&record.fate, entry.resource.take()) {
                (Fate::Existing | Fate::Nothing, resource) | (_, resource @ None) => {
                    entry.resource = resource;
                    None
                }
                (_, Some(resource)) => Some(links.rewritten(&entry, resource)?),
            };
            let index = entry.index;
            steps.push(Step { index, action: record.action(&mut entry, resource), entry });
        }
        steps.sort_by_key(|step| step.entry.method.phase());
        Ok(steps)
    }
}

/// The type of what an entry may create.
fn created_type(entry: &Entry) -> Option<ResourceType> {
    match (entry.method, &entry.target) {
        (Method::Post, Target::Type(rtype)) | (Method::Put, Target::Query(rtype, _)) => Some(*rtype),
        _ => None,
    }
}

/// What has to be looked up for an entry itself.
fn question_of(entry: &Entry) -> Option<Question> {
    match (&entry.target, &entry.if_none_exist) {
        (Target::Type(rtype), Some(query)) => Some(Question { rtype: *rtype, query: query.clone() }),
        (Target::Query(rtype, query), _) if entry.method.phase() < 3 => {
            Some(Question { rtype: *rtype, query: query.clone() })
        }
        _ => None,
    }
}

/// The question of a conditional reference such as `Practitioner?identifier=http://a|1`.
fn conditional(reference: &str) -> Option<Question> {
    match Target::of(reference) {
        Target::Query(rtype, query) if !reference.starts_with('/') => Some(Question { rtype, query }),
        _ => None,
    }
}

enum Fate {
    Create,
    Existing,
    Update,
    Patch,
    Delete,
    Nothing,
    Other,
}

/// The record that an entry is about, if it is about one, and what becomes of it.
struct Record {
    index: usize,
    fate: Fate,
    key: Option<(ResourceType, String)>,
}

impl Record {
    fn of(
        entry: &Entry,
        assigned: Option<String>,
        found: &HashMap<&Question, (&Answer, &str)>,
    ) -> Result<Self, TransactionError> {
        let expression = || format!("{}.request", entry.expression());
        let answer = question_of(entry).and_then(|question| found.get(&question).map(|(answer, _)| *answer));
        if answer == Some(&Answer::Many) {
            return Err(TransactionError::ManyMatches { expression: expression() });
        }
        let matched = match answer {
            Some(Answer::One(id)) => Some(id.clone()),
            _ => None,
        };
        let (fate, key) = match (entry.method, &entry.target) {
            (Method::Post, Target::Type(rtype)) => match matched {
                Some(id) => (Fate::Existing, Some((*rtype, id))),
                None => (Fate::Create, assigned.map(|id| (*rtype, id))),
            },
            (Method::Put, Target::Instance(rtype, id)) => (Fate::Update, Some((*rtype, id.clone()))),
            (Method::Put, Target::Query(rtype, _)) => match matched {
                Some(id) => {
                    let own = entry.resource.as_ref().and_then(Resource::id);
                    if own.is_some_and(|own| own != id.as_str()) {
                        let why = "the record that the condition matches has another id than the resource";
                        let place = format!("{}.resource.id", entry.expression());
                        return Err(BundleError::at(BundleFault::OtherResource(why), place).into());
                    }
                    (Fate::Update, Some((*rtype, id)))
                }
                // R4: an update as create under the id that the sender chose, if there is one.
                None => {
                    let own = entry.resource.as_ref().and_then(Resource::id).map(Cow::into_owned);
                    (Fate::Create, own.or(assigned).map(|id| (*rtype, id)))
                }
            },
            (Method::Patch, Target::Instance(rtype, id)) => (Fate::Patch, Some((*rtype, id.clone()))),
            (Method::Patch, Target::Query(rtype, _)) => match matched {
                Some(id) => (Fate::Patch, Some((*rtype, id))),
                None => return Err(TransactionError::NoMatch { expression: expression() }),
            },
            (Method::Delete, Target::Instance(rtype, id)) => (Fate::Delete, Some((*rtype, id.clone()))),
            (Method::Delete, Target::Query(rtype, _)) => match matched {
                Some(id) => (Fate::Delete, Some((*rtype, id))),
                None => (Fate::Nothing, None),
            },
            _ => (Fate::Other, None),
        };
        Ok(Self { index: entry.index, fate, key })
    }

    fn action(&self, entry: &mut Entry, resource: Option<Resource>) -> Action {
        let if_match = entry.if_match.clone();
        match (&self.fate, self.key.clone(), resource) {
            (Fate::Create, Some((_, id)), Some(resource)) => Action::Create { id, resource },
            (Fate::Existing, Some((rtype, id)), _) => Action::Existing { rtype, id },
            (Fate::Update, Some((_, id)), Some(resource)) => Action::Update { id, if_match, resource },
            (Fate::Patch, Some((rtype, id)), Some(patch)) => Action::Patch { rtype, id, if_match, patch },
            (Fate::Delete, Some((rtype, id)), _) => Action::Delete { rtype, id, if_match },
            (Fate::Nothing, ..) => Action::NothingToDelete,
            (_, _, resource) => {
                entry.resource = resource;
                Action::Other
            }
        }
    }
}

/// A transaction whose entries write the same record twice fails. Source: R4 `http.html#trules`.
fn no_record_twice(records: &[Record]) -> Result<(), TransactionError> {
    let mut writers = HashMap::new();
    for record in records {
        let writes = matches!(record.fate, Fate::Create | Fate::Update | Fate::Patch | Fate::Delete);
        if let (true, Some(key)) = (writes, &record.key)
            && let Some(first) = writers.insert(key, record.index)
        {
            return Err(TransactionError::SameRecord { first, second: record.index });
        }
    }
    Ok(())
}

/// What references become.
struct Links<'a> {
    /// From `fullUrl` to `Type/id`.
    entries: HashMap<String, String>,
    conditions: &'a HashMap<&'a Question, (&'a Answer, &'a str)>,
}

/// Elements of type uri, url, canonical and uuid that may name another entry by its `urn:`. Identifiers never do: their value
/// is a string, and Synthea's documents are identified by the same uuid that is their `fullUrl`.
const LINK_ELEMENTS: &[&str] = &[
    "reference",
    "url",
    "uri",
    "valueUri",
    "valueUrl",
    "valueUuid",
    "valueOid",
    "valueCanonical",
    "instantiatesUri",
    "data",
];

impl<'a> Links<'a> {
    fn new(
        entries: &[Entry],
        records: &[Record],
        conditions: &'a HashMap<&'a Question, (&'a Answer, &'a str)>,
    ) -> Self {
        let entries = entries
            .iter()
            .zip(records)
            .filter_map(|(entry, record)| {
                let (rtype, id) = record.key.as_ref()?;
                Some((entry.full_url.clone()?, format!("{rtype}/{id}")))
            })
            .collect();
        Self { entries, conditions }
    }

    fn rewritten(&self, entry: &Entry, resource: Resource) -> Result<Resource, TransactionError> {
        let base = entry.full_url.as_deref().and_then(rest_base);
        let mut fault = None;
        let text = resource.root().rewrite_strings(|key, value| match key {
            "div" => self.narrative(value),
            key if !LINK_ELEMENTS.contains(&key) => None,
            key => {
                let place = || format!("{}.resource", entry.expression());
                match self.link(key, value, base) {
                    Link::To(text) => return Some(text),
                    Link::Same => {}
                    Link::Dangling => {
                        fault.get_or_insert_with(|| TransactionError::Dangling { expression: place() });
                    }
                    Link::NoMatch => {
                        fault.get_or_insert_with(|| TransactionError::NoMatch { expression: place() });
                    }
                    Link::ManyMatches => {
                        fault.get_or_insert_with(|| TransactionError::ManyMatches { expression: place() });
                    }
                }
                None
            }
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        // As well formed as before: only strings were replaced. Ids are shorter than what stood there, or nearly.
        let limits = Limits { bytes_max: usize::MAX, ..Limits::BUNDLE };
        Resource::parse(text.as_bytes(), limits).map_err(|error: ParseError| BundleError::from(error).into())
    }

    fn link(&self, key: &str, value: &str, base: Option<&str>) -> Link {
        if let Some(to) = self.entries.get(value) {
            return Link::To(to.clone());
        }
        if key != "reference" {
            return Link::Same;
        }
        if value.starts_with("urn:uuid:") || value.starts_with("urn:oid:") {
            return Link::Dangling;
        }
        if let Some(question) = conditional(value) {
            return match self.conditions.get(&question) {
                Some((Answer::One(id), _)) => Link::To(format!("{}/{id}", question.rtype)),
                Some((Answer::Many, _)) => Link::ManyMatches,
                _ => Link::NoMatch,
            };
        }
        match base.and_then(|base| self.entries.get(&format!("{base}{value}"))) {
            Some(to) if to != value => Link::To(to.clone()),
            _ => Link::Same,
        }
    }

    /// Links and pictures of a narrative.
    fn narrative(&self, div: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = div;
        while let Some(at) = ["href=\"", "src=\""].iter().filter_map(|name| Some(rest.find(name)? + name.len())).min() {
            let (before, value) = rest.split_at(at);
            let Some(end) = value.find('"') else { break };
            out.push_str(before);
            out.push_str(self.entries.get(&value[..end]).map_or(&value[..end], String::as_str));
            rest = &value[end..];
        }
        out.push_str(rest);
        (out != div).then_some(out)
    }
}

enum Link {
    Same,
    To(String),
    Dangling,
    NoMatch,
    ManyMatches,
}

/// `http://host/fhir/` of `http://host/fhir/Patient/1`: what relative references in that entry are relative to.
fn rest_base(full_url: &str) -> Option<&str> {
    if !full_url.starts_with("http://") && !full_url.starts_with("https://") {
        return None;
    }
    let (before, _id) = full_url.rsplit_once('/')?;
    let (_, rtype) = before.rsplit_once('/')?;
    rtype.parse::<ResourceType>().ok()?;
    Some(&before[..before.len() - rtype.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(entries: &str) -> Bundle {
        let text = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{entries}]}}"#);
        Bundle::parse(text.as_bytes(), Limits::BUNDLE).unwrap()
    }

    /// The steps of a transaction, one per line; new ids are n0, n1, ...
    fn planned(entries: &str, answers: &[Answer]) -> String {
        let mut ids = 0..;
        let plan = Plan::new(bundle(entries), |_| format!("n{}", ids.next().unwrap())).unwrap();
        let steps = match plan.resolve(answers) {
            Ok(steps) => steps,
            Err(error) => return error.to_string(),
        };
        let lines = steps.into_iter().map(|step| {
            let what = match step.action {
                Action::Create { id, resource } => format!("create {id} {}", resource.text()),
                Action::Existing { rtype, id } => format!("existing {rtype}/{id}"),
                Action::Update { id, if_match, resource } => format!("update {id} {if_match:?} {}", resource.text()),
                Action::Patch { rtype, id, .. } => format!("patch {rtype}/{id}"),
                Action::Delete { rtype, id, .. } => format!("delete {rtype}/{id}"),
                Action::NothingToDelete => "nothing to delete".to_owned(),
                Action::Other => format!("other {}", step.entry.url),
            };
            format!("{} {what}", step.index)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    const PATIENT: &str = r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","active":true},"request":{"method":"POST","url":"Patient","ifNoneExist":"Patient?identifier=a|1"}}"#;
    const CONDITION: &str = r#"{"fullUrl":"urn:uuid:2","resource":{"resourceType":"Condition","identifier":[{"value":"urn:uuid:1"}],"subject":{"reference":"urn:uuid:1"},"asserter":{"reference":"Practitioner?identifier=b|2"},"text":{"div":"<div><a href=\"urn:uuid:1\">p</a></div>"}},"request":{"method":"POST","url":"Condition"}}"#;

    #[test]
    fn references_follow_what_their_targets_become_and_identifiers_stay() {
        let entries = format!("{CONDITION},{PATIENT}");
        let (none, found) = (Answer::None, |id: &str| Answer::One(id.to_owned()));
        let condition = |patient: &str| {
            format!(
                r#"0 create n0 {{"resourceType":"Condition","identifier":[{{"value":"urn:uuid:1"}}],"subject":{{"reference":"Patient/{patient}"}},"asserter":{{"reference":"Practitioner/d"}},"text":{{"div":"<div><a href=\"Patient/{patient}\">p</a></div>"}}}}"#
            )
        };
        assert_eq!(
            planned(&entries, &[found("d"), none]),
            format!("{}\n1 create n1 {}", condition("n1"), r#"{"resourceType":"Patient","active":true}"#)
        );
        assert_eq!(
            planned(&entries, &[found("d"), found("old")]),
            format!("{}\n1 existing Patient/old", condition("old"))
        );
    }

    #[test]
    fn conditions_that_name_nobody_or_several_fail_the_whole() {
        let entries = format!("{PATIENT},{CONDITION}");
        assert_eq!(
            planned(&entries, &[Answer::None, Answer::None]),
            "no record matches this condition (at `Bundle.entry[1].resource`)"
        );
        assert_eq!(
            planned(&entries, &[Answer::Many, Answer::None]),
            "more than one record matches this condition: make it more selective (at `Bundle.entry[0].request`)"
        );
        assert_eq!(
            planned(CONDITION, &[Answer::One("d".to_owned())]),
            "no entry has this `fullUrl` (at `Bundle.entry[0].resource`)"
        );
        assert_eq!(planned(CONDITION, &[]), "1 questions and 0 answers");
    }

    #[test]
    fn deletes_come_first_and_reads_last() {
        let entries = [
            r#"{"request":{"method":"GET","url":"Patient/1"}}"#,
            r#"{"fullUrl":"http://a/fhir/Patient/7","resource":{"resourceType":"Patient","id":"7","link":[{"other":{"reference":"Patient/8"}}]},"request":{"method":"PUT","url":"Patient/7","ifMatch":"W/\"2\""}}"#,
            r#"{"fullUrl":"http://a/fhir/Patient/8","resource":{"resourceType":"Patient","id":"8"},"request":{"method":"POST","url":"Patient"}}"#,
            r#"{"request":{"method":"DELETE","url":"Patient?identifier=x"}}"#,
            r#"{"request":{"method":"DELETE","url":"Patient/9"}}"#,
            r#"{"resource":{"resourceType":"Patient","active":true},"request":{"method":"PUT","url":"Patient?identifier=y"}}"#,
        ];
        assert_eq!(
            planned(&entries.join(","), &[Answer::None, Answer::One("5".to_owned())]),
            [
                "3 nothing to delete",
                "4 delete Patient/9",
                r#"2 create n0 {"resourceType":"Patient","id":"8"}"#,
                r#"1 update 7 Some("W/\"2\"") {"resourceType":"Patient","id":"7","link":[{"other":{"reference":"Patient/n0"}}]}"#,
                r#"5 update 5 None {"resourceType":"Patient","active":true}"#,
                "0 other Patient/1",
            ]
            .join("\n")
        );
    }

    #[test]
    fn one_record_is_written_once() {
        let put = r#"{"resource":{"resourceType":"Patient","id":"7"},"request":{"method":"PUT","url":"Patient/7"}}"#;
        let delete = r#"{"request":{"method":"DELETE","url":"Patient/7"}}"#;
        assert_eq!(planned(&format!("{put},{delete}"), &[]), "entries 0 and 1 write the same record");
        let twice = Plan::new(bundle(&format!("{PATIENT},{PATIENT}")), |_| "n".to_owned());
        assert_eq!(
            twice.unwrap_err().to_string(),
            "two entries have the same `fullUrl` (at `Bundle.entry[1].fullUrl`)"
        );
        let bad = Plan::new(bundle(PATIENT), |_| "not an id".to_owned());
        assert_eq!(bad.unwrap_err(), TransactionError::BadAssignedId { entry: 0 });
    }
}
