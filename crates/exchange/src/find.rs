//! Searches as clients write them, as the store understands them.

use crate::{failure::Failure, include::Include, measured::Place, node::Node, set::AUDIT_EVENT};
use record::fhir::{IssueType, Parameter, RESOURCE_TYPES, SearchUrl, Subset};
use std::{borrow::Cow, fmt, str::FromStr};
use store::{
    BadSearch, Criterion, Cursor, Kind, Match, PAGE_MAX, ReadError, SORT_KEYS_MAX, Search, Sort, compartments, kind,
    types_within,
};

/// What stands for all types behind a record whose compartment is searched.
pub(crate) const ALL_TYPES: &str = "*";

/// Rows on a page when the client does not say.
pub(crate) const PAGE_DEFAULT: usize = 50;

/// What becomes of search parameters that are not known here. Source: FHIR R4 `search.html#errors`, header `Prefer: handling=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Handling {
    /// The search is refused.
    #[default]
    Strict,
    /// They are passed over, and the answer says so.
    Lenient,
}

/// The record whose compartment is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// FHIR type.
    pub rtype: String,
    /// Logical id.
    pub id: String,
}

/// What an answer shows of the matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Show {
    /// Their bytes as stored.
    Whole,
    /// A part of each.
    Part(Subset),
    /// Only how many there are.
    Count,
}

/// Whether an answer says how many records match. Source: FHIR R4 `search.html#total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// It does not.
    Omitted,
    /// If all of them are on its one page: to count the others, each has to be decided over.
    IfWhole,
    /// It does, or is refused.
    Accurate,
}

/// How far the pages before went through one of two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached<C> {
    Nothing,
    To(C),
    All,
}

/// Where a page ended of a search that finds what sensors said beside records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Both {
    pub(crate) records: Reached<Cursor>,
    pub(crate) frames: Reached<Place>,
}

impl<C: fmt::Display> fmt::Display for Reached<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::To(place) => place.fmt(f),
            Self::All => f.write_str("."),
        }
    }
}

impl<C: FromStr> FromStr for Reached<C> {
    type Err = C::Err;
    fn from_str(text: &str) -> Result<Self, C::Err> {
        match text {
            "-" => Ok(Self::Nothing),
            "." => Ok(Self::All),
            _ => text.parse().map(Self::To),
        }
    }
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.records, self.frames)
    }
}

impl FromStr for Both {
    type Err = BadSearch;
    /// A place among records alone is where a search ended before anything of a sensor was found.
    fn from_str(text: &str) -> Result<Self, BadSearch> {
        let (records, frames) = text.split_once('~').unwrap_or((text, "-"));
        let frames = frames.parse().map_err(|()| BadSearch::Cursor)?;
        Ok(Self { records: records.parse()?, frames })
    }
}

/// A search that was understood.
pub(crate) struct Asked {
    pub(crate) search: Search,
    /// Where the page before ended.
    pub(crate) after: Option<Both>,
    /// Whether an order was asked for.
    pub(crate) sorted: bool,
    /// What goes along with the matches.
    pub(crate) includes: Vec<Include>,
    /// The Patient that it is limited to, when it names one.
    pub(crate) patient: Option<String>,
    /// Where it is asked for, as it stands in addresses: `Observation`, `Patient/a/Observation` for those of one compartment, or nothing for
    /// those of several types.
    pub(crate) place: String,
    pub(crate) show: Show,
    pub(crate) total: Total,
    /// The query as it came, for the audit trail.
    pub(crate) query: String,
    /// What of it was understood, for the links.
    pub(crate) understood: String,
    /// Names of the parameters that were passed over.
    pub(crate) ignored: Vec<String>,
}

/// The parameters of a query, each with its text, of which links are made.
pub(crate) fn pairs(query: &str) -> Result<Vec<(Parameter, &str)>, Failure> {
    let parameters = SearchUrl::parse_query(query).map_err(|e| Failure::Invalid(vec![e.into()]))?;
    // Each pair that is not empty is one parameter.
    Ok(parameters.into_iter().zip(query.split('&').filter(|pair| !pair.is_empty())).collect())
}

/// A query with where the page before ended.
pub(crate) fn on_page(query: &str, cursor: Option<impl std::fmt::Display>) -> String {
    match cursor {
        Some(cursor) if query.is_empty() => format!("_cursor={cursor}"),
        Some(cursor) => format!("{query}&_cursor={cursor}"),
        None => query.to_owned(),
    }
}

impl Node {
    /// Reads `name=value&...`.
    pub(crate) fn asked(&self, rtype: &str, query: &str, handling: Handling) -> Result<Asked, Failure> {
        Asked::read(&[rtype], rtype, query, handling)
    }

    /// The same of the records of all types, or of those that `_type` names. Where it names none, the audit trail is left out, and whatever
    /// the caller `may` not look at.
    pub(crate) fn asked_of_all(
        &self,
        query: &str,
        handling: Handling,
        may: impl Fn(&str) -> bool,
    ) -> Result<Asked, Failure> {
        let mut types = named_types(query)?;
        if types.is_empty() {
            types = RESOURCE_TYPES.into_iter().filter(|rtype| *rtype != AUDIT_EVENT && may(rtype)).collect();
        }
        if types.is_empty() {
            // It is told so.
            types.push("Patient");
        }
        Asked::read(&types, "", query, handling)
    }

    /// The same of all records in the compartment of a patient, or of something else that has one, or of those of the types that `_type`
    /// names. What is left out where it names none is the same, too.
    pub(crate) fn asked_of_all_within(
        &self,
        within: &Within,
        query: &str,
        handling: Handling,
        may: impl Fn(&str) -> bool,
    ) -> Result<Asked, Failure> {
        let Within { rtype: of, id } = within;
        of_compartments(of)?;
        let inside = types_within(of);
        let mut types = named_types(query)?;
        if let Some(outside) = types.iter().find(|rtype| !inside.contains(rtype)) {
            return Err(not_within(of, outside));
        }
        if types.is_empty() {
            types = inside.iter().copied().filter(|rtype| *rtype != AUDIT_EVENT && may(rtype)).collect();
        }
        if types.is_empty() {
            // It is told that it may not look at them.
            types.extend(inside.first());
        }
        let mut asked = Asked::read(&types, &format!("{of}/{id}/{ALL_TYPES}"), query, handling)?;
        asked.search.criteria.push(Criterion::in_compartment(of, id));
        if of == "Patient" {
            asked.patient = Some(id.clone());
        }
        Ok(asked)
    }

    /// The same of the records of a type in the compartment of a patient, or of something else that has one.
    pub(crate) fn asked_of(
        &self,
        within: &Within,
        rtype: &str,
        query: &str,
        handling: Handling,
    ) -> Result<Asked, Failure> {
        let Within { rtype: of, id } = within;
        of_compartments(of)?;
        let mut asked = self.asked(rtype, query, handling)?;
        let criterion = Criterion::in_compartment_of(of, id, rtype).ok_or_else(|| not_within(of, rtype))?;
        asked.search.criteria.push(criterion);
        if of == "Patient" {
            asked.patient = Some(id.clone());
        }
        asked.place = format!("{of}/{id}/{rtype}");
        Ok(asked)
    }

    /// A condition, such as `identifier=system|value`.
    pub(crate) fn condition(&self, rtype: &str, query: &str) -> Result<Asked, Failure> {
        let asked = self.asked(rtype, query, Handling::Strict)?;
        if asked.search.criteria.is_empty() {
            return Err(Failure::invalid(IssueType::Invalid, "", "a condition needs at least one search parameter"));
        }
        asked.on_its_own()
    }
}

impl Asked {
    /// Reads `name=value&...` of a search for the records of some types, one at least, that is asked for at `place`.
    fn read(types: &[&str], place: &str, query: &str, handling: Handling) -> Result<Self, Failure> {
        let (rtype, also) = types.split_first().unwrap_or((&"Patient", &[]));
        let also = also.iter().map(|rtype| (*rtype).to_owned()).collect();
        let mut search = Search { also, sort: Vec::new(), count: PAGE_DEFAULT, total: false, ..Search::of(*rtype) };
        let mut total = Total::IfWhole;
        let mut after = None;
        let mut includes = Vec::new();
        let mut patient = None;
        let (mut elements, mut summary) = (None, None);
        let (mut understood, mut ignored): (Vec<Cow<'_, str>>, _) = (Vec::new(), Vec::new());
        for (parameter, pair) in &pairs(query)? {
            let name = parameter.name.as_str();
            let value = parameter.values.first().map(|value| value.text().into_owned()).unwrap_or_default();
            match name {
                "_count" => {
                    let count: usize = value.parse().map_err(|_| wrong(name, "a number such as 50"))?;
                    search.count = count.min(PAGE_MAX);
                }
                "_sort" => {
                    let keys = sorted_by(types, parameter, handling, &mut ignored)?;
                    if !keys.is_empty() {
                        let named = |key: &Sort| format!("{}{}", if key.descending { "-" } else { "" }, key.param);
                        let named: Vec<String> = keys.iter().map(named).collect();
                        understood.push(format!("_sort={}", named.join(",")).into());
                    }
                    search.sort.extend(keys);
                    continue;
                }
                "_cursor" => after = Some(value.parse::<Both>().map_err(bad_search)?),
                "_total" => total = totalled(&value)?,
                // The word of another server for it, which fhirpy's `count` uses towards every one.
                "_totalMethod" if value == "count" => total = Total::Accurate,
                "_include" | "_revinclude" => Include::read(types, parameter, &mut includes)?,
                "_elements" => elements = Some(named_elements(types, parameter)?),
                "_summary" => summary = summarised(&value)?,
                "_format" | "_pretty" => {}
                // The types were read before.
                "_type" if place.is_empty() || place.ends_with(ALL_TYPES) => {}
                _ if handling == Handling::Lenient && !is_known(types, name) => {
                    ignored.push(name.to_owned());
                    continue;
                }
                _ => {
                    let criterion = criterion(types, parameter)?;
                    let plain = parameter.modifier.as_deref().is_none_or(|modifier| modifier == "Patient")
                        && parameter.values.len() == 1;
                    if matches!(name, "patient" | "subject" | "beneficiary") && plain {
                        patient = Some(value.trim_start_matches("Patient/").to_owned());
                    }
                    if types == ["Patient"] && name == "_id" && plain {
                        patient = Some(value);
                    }
                    search.criteria.push(criterion);
                }
            }
            understood.push(Cow::Borrowed(*pair));
        }
        let show = match (elements, summary) {
            (Some(_), Some(_)) => {
                let text = "`_elements` and `_summary` cannot be asked for together: leave one out";
                return Err(Failure::invalid(IssueType::Invalid, "", text));
            }
            (None, Some(Show::Part(Subset::Text))) if !includes.is_empty() => {
                let text =
                    "`_summary=text` cannot be asked for together with `_include` or `_revinclude`: leave one out";
                return Err(Failure::invalid(IssueType::NotSupported, "", text));
            }
            // R4: a page of no rows asks for the count.
            _ if search.count == 0 => Show::Count,
            (Some(elements), None) => Show::Part(elements),
            (None, Some(show)) => show,
            (None, None) => Show::Whole,
        };
        let sorted = !search.sort.is_empty();
        if !sorted {
            search.sort = Search::of(*rtype).sort;
        }
        if let Some(Both { records: Reached::To(records), .. }) = &after {
            search.after = Some(records.clone());
        }
        search.check().map_err(bad_search)?;
        Ok(Self {
            search,
            after,
            sorted,
            includes,
            patient,
            place: place.to_owned(),
            show,
            total,
            query: query.to_owned(),
            understood: understood.join("&"),
            ignored,
        })
    }

    /// Takes references to records by their whole addresses here, under `base`, for what they are.
    pub(crate) fn at_home(mut self, base: &str) -> Self {
        let home = |address: &str| {
            let (rtype, id) = address.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
            Some((rtype.to_owned(), id.to_owned()))
        };
        for wanted in self.search.criteria.iter_mut().flat_map(|criterion| &mut criterion.any) {
            if let Match::Reference { rtype: rtype @ None, id } = wanted
                && let Some((of, local)) = home(id)
            {
                (*rtype, *id) = (Some(of), local);
            }
        }
        self.patient = self.patient.map(|patient| match home(&patient) {
            Some((rtype, id)) if rtype == "Patient" => id,
            _ => patient,
        });
        self
    }

    /// Whether the places of its pages tell nothing of records but times.
    pub(crate) fn is_by_time(&self) -> bool {
        let is_time = |key: &Sort| self.search.types().all(|rtype| kind(rtype, &key.param) == Some(Kind::Date));
        self.search.sort.iter().all(is_time)
    }

    /// How far the pages before went.
    pub(crate) fn reached(&self) -> Both {
        self.after.clone().unwrap_or(Both { records: Reached::Nothing, frames: Reached::Nothing })
    }

    /// Refuses what rests on other records, where one's own values have to decide.
    pub(crate) fn on_its_own(self) -> Result<Self, Failure> {
        match self.search.criteria.iter().find(|criterion| criterion.is_chained()) {
            None => Ok(self),
            Some(chained) => {
                let text = format!(
                    "a chain (`{}`) is not offered here: search for the records in between first, and then for what they refer to or \
                     what refers to them",
                    chained.param
                );
                Err(Failure::invalid(IssueType::NotSupported, "", text))
            }
        }
    }
}

/// Refuses compartments of what has none.
fn of_compartments(of: &str) -> Result<(), Failure> {
    if compartments().iter().any(|(known, _)| *known == of) {
        return Ok(());
    }
    let known = compartments().map(|(of, _)| format!("`{of}`")).join(", ");
    let text = format!("`{of}` has no compartments: there are those of {known}; or search by a parameter");
    Err(Failure::invalid(IssueType::NotSupported, "", text))
}

/// That no record of a type is in such a compartment.
fn not_within(of: &str, rtype: &str) -> Failure {
    let text = format!("no `{rtype}` is in the compartment of a `{of}`: search for it by `/{rtype}`");
    Failure::invalid(IssueType::NotSupported, "", text)
}

/// The types that `_type` names, each once.
fn named_types(query: &str) -> Result<Vec<&'static str>, Failure> {
    let mut types = Vec::new();
    for (parameter, _) in pairs(query)?.iter().filter(|(parameter, _)| parameter.name == "_type") {
        for value in &parameter.values {
            let name = value.text();
            let known = RESOURCE_TYPES.into_iter().find(|rtype| *rtype == name).ok_or_else(|| {
                Failure::invalid(IssueType::Value, "", format!("`_type`: there is no resource type `{name}`"))
            })?;
            if !types.contains(&known) {
                types.push(known);
            }
        }
    }
    Ok(types)
}

/// Whether the types have the parameter, whatever modifier or chain follows its name.
fn is_known(types: &[&str], name: &str) -> bool {
    let param = name.split([':', '.']).next().unwrap_or_default();
    name == "_has" || types.iter().all(|rtype| kind(rtype, param).is_some())
}

/// The elements that `_elements` names.
fn named_elements(types: &[&str], parameter: &Parameter) -> Result<Subset, Failure> {
    let mut names = Vec::with_capacity(parameter.values.len());
    for value in &parameter.values {
        let name = value.text().into_owned();
        if !types.iter().any(|rtype| Subset::is_element(rtype, &name)) {
            let text = match types {
                [rtype] => format!("`_elements`: `{rtype}` has no element `{name}` at its top"),
                _ => format!("`_elements`: no type that is searched has an element `{name}` at its top"),
            };
            return Err(Failure::invalid(IssueType::Value, "", text));
        }
        names.push(name);
    }
    Ok(Subset::Elements(names))
}

/// What `_total` asks for.
fn totalled(value: &str) -> Result<Total, Failure> {
    match value {
        "none" => Ok(Total::Omitted),
        "estimate" => Ok(Total::IfWhole),
        "accurate" => Ok(Total::Accurate),
        _ => Err(wrong("_total", "`none`, `estimate` or `accurate`")),
    }
}

/// What `_summary` leaves of the matches; none when all is to be shown.
fn summarised(value: &str) -> Result<Option<Show>, Failure> {
    match value {
        "false" => Ok(None),
        "text" => Ok(Some(Show::Part(Subset::Text))),
        "data" => Ok(Some(Show::Part(Subset::Data))),
        "count" => Ok(Some(Show::Count)),
        "true" => Ok(Some(Show::Part(Subset::Summary))),
        _ => Err(wrong("_summary", "`true`, `text`, `data`, `count` or `false`")),
    }
}

/// A criterion that means the same for all types.
fn criterion(types: &[&str], parameter: &Parameter) -> Result<Criterion, Failure> {
    let name = match &parameter.modifier {
        Some(modifier) => format!("{}:{modifier}", parameter.name),
        None => parameter.name.clone(),
    };
    let values: Vec<String> = parameter.values.iter().map(|value| value.escaped().to_owned()).collect();
    let values = values.join(",");
    let mut found: Option<Criterion> = None;
    for rtype in types {
        let criterion = Criterion::parse(rtype, &name, &values).map_err(bad_search)?;
        if found.as_ref().is_some_and(|found| *found != criterion) {
            let text =
                format!("`{name}` does not mean the same for all types that are searched: name fewer by `_type`");
            return Err(Failure::invalid(IssueType::NotSupported, "", text));
        }
        found = Some(criterion);
    }
    found.ok_or_else(|| wrong(&name, "for any type"))
}

/// The keys of a `_sort`, in their order. Whether records can be sorted by them, the store says.
fn sorted_by(
    types: &[&str],
    parameter: &Parameter,
    handling: Handling,
    ignored: &mut Vec<String>,
) -> Result<Vec<Sort>, Failure> {
    let mut keys = Vec::with_capacity(parameter.values.len());
    for value in &parameter.values {
        let value = value.text();
        let (param, descending) = match value.strip_prefix('-') {
            Some(param) => (param, true),
            None => (value.as_ref(), false),
        };
        if param.is_empty() {
            return Err(wrong("_sort", "a parameter such as `-date`, or some with commas between them"));
        }
        if handling == Handling::Lenient && types.iter().any(|rtype| kind(rtype, param).is_none()) {
            ignored.push(param.to_owned());
            continue;
        }
        keys.push(Sort { param: param.to_owned(), descending });
    }
    if keys.len() > SORT_KEYS_MAX {
        let text = format!("`_sort` takes {SORT_KEYS_MAX} parameters at most: name those that matter most");
        return Err(Failure::invalid(IssueType::TooCostly, "", text));
    }
    Ok(keys)
}

pub(crate) fn wrong(name: &str, expected: &str) -> Failure {
    Failure::invalid(IssueType::Value, "", format!("the value of `{name}` is not {expected}"))
}

fn bad_search(error: BadSearch) -> Failure {
    let kind = match error {
        BadSearch::UnknownParameter { .. } | BadSearch::Modifier { .. } | BadSearch::NotOffered { .. } => {
            IssueType::NotSupported
        }
        BadSearch::Value { .. } | BadSearch::Cursor => IssueType::Value,
        BadSearch::TooMuch => IssueType::TooCostly,
    };
    Failure::invalid(kind, "", error.to_string())
}

/// A read of the store that failed: the caller's search, too much at once, or ours.
pub(crate) fn search_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Busy => Failure::Busy,
        ReadError::Unavailable => Failure::Unreachable,
        ReadError::Search(bad) => bad_search(bad),
        ReadError::Malformed(row) => Failure::Tampered(format!("{}/{}", row.rtype, row.id)),
        ReadError::TooMany { .. } => Failure::TooLarge(error.to_string()),
        other => Failure::ours("the database cannot be read", other),
    }
}
