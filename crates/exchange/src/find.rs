//! Searches as clients write them, as the store understands them.

use crate::{failure::Failure, include::Include, node::Node};
use record::fhir::{IssueType, SearchUrl};
use store::{BadSearch, Criterion, Cursor, PAGE_MAX, ReadError, Search, Sort};

/// Rows on a page when the client does not say.
const PAGE_DEFAULT: usize = 50;

/// A search that was understood.
pub(crate) struct Asked {
    pub(crate) search: Search,
    /// What goes along with the matches.
    pub(crate) includes: Vec<Include>,
    /// The Patient that it is limited to, when it names one.
    pub(crate) patient: Option<String>,
    /// The query as it came, for the audit trail and the `self` link.
    pub(crate) query: String,
}

impl Node {
    /// Reads `name=value&...`.
    pub(crate) fn asked(&self, rtype: &str, query: &str) -> Result<Asked, Failure> {
        let parameters = SearchUrl::parse_query(query).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        let mut search = Search { count: PAGE_DEFAULT, ..Search::of(rtype) };
        let mut includes = Vec::new();
        let mut patient = None;
        for parameter in &parameters {
            let name = parameter.name.as_str();
            let value = parameter.values.first().map(|value| value.text().into_owned()).unwrap_or_default();
            match name {
                "_count" => {
                    let count: usize = value.parse().map_err(|_| wrong(name, "a number such as 50"))?;
                    search.count = count.min(PAGE_MAX);
                }
                "_sort" => search.sort = sort(&value)?,
                "_cursor" => search.after = Some(value.parse::<Cursor>().map_err(bad_search)?),
                "_total" => search.total = value != "none",
                "_include" | "_revinclude" => Include::read(rtype, parameter, &mut includes)?,
                "_format" | "_pretty" | "_summary" | "_elements" => {}
                _ => {
                    let criterion = criterion(rtype, parameter)?;
                    if matches!(name, "patient" | "subject" | "beneficiary") && parameter.values.len() == 1 {
                        patient = Some(value.trim_start_matches("Patient/").to_owned());
                    }
                    if rtype == "Patient" && name == "_id" && parameter.values.len() == 1 {
                        patient = Some(value);
                    }
                    search.criteria.push(criterion);
                }
            }
        }
        Ok(Asked { search, includes, patient, query: query.to_owned() })
    }

    /// The criteria of a condition, such as `identifier=system|value`.
    pub(crate) fn criteria(&self, rtype: &str, query: &str) -> Result<Vec<Criterion>, Failure> {
        let asked = self.asked(rtype, query)?;
        if asked.search.criteria.is_empty() {
            return Err(Failure::invalid(IssueType::Invalid, "", "a condition needs at least one search parameter"));
        }
        Ok(asked.search.criteria)
    }
}

fn criterion(rtype: &str, parameter: &record::fhir::Parameter) -> Result<Criterion, Failure> {
    let name = match &parameter.modifier {
        Some(modifier) => format!("{}:{modifier}", parameter.name),
        None => parameter.name.clone(),
    };
    let values: Vec<String> = parameter.values.iter().map(|value| value.escaped().to_owned()).collect();
    Criterion::parse(rtype, &name, &values.join(",")).map_err(bad_search)
}

fn sort(value: &str) -> Result<Sort, Failure> {
    let (param, newest_first) = match value.strip_prefix('-') {
        Some(param) => (param, true),
        None => (value, false),
    };
    match param {
        "_lastUpdated" => Ok(Sort::Written { newest_first }),
        "" => Err(wrong("_sort", "a parameter such as -date")),
        _ => Ok(Sort::Date { param: param.to_owned(), newest_first }),
    }
}

fn wrong(name: &str, expected: &str) -> Failure {
    Failure::invalid(IssueType::Value, "", format!("the value of `{name}` is not {expected}"))
}

fn bad_search(error: BadSearch) -> Failure {
    let kind = match error {
        BadSearch::UnknownParameter { .. } | BadSearch::Modifier { .. } => IssueType::NotSupported,
        BadSearch::Value { .. } | BadSearch::Cursor => IssueType::Value,
        BadSearch::TooMuch => IssueType::TooCostly,
    };
    Failure::invalid(kind, "", error.to_string())
}

/// A read of the store that failed: the caller's search, too much at once, or ours.
pub(crate) fn search_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Busy => Failure::Busy,
        ReadError::Search(bad) => bad_search(bad),
        ReadError::Malformed(row) => Failure::Tampered(format!("{}/{}", row.rtype, row.id)),
        ReadError::TooMany { .. } => Failure::TooLarge(error.to_string()),
        other => Failure::ours("the database cannot be read", other),
    }
}
