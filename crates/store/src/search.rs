//! What is looked for: a typed search over the index, and the page that answers it.

use crate::{
    extract::{DateRange, Kind, kind},
    row::Rows,
};
use std::{fmt, str::FromStr};

/// The most rows on one page, and of one step of a sweep.
pub const PAGE_MAX: usize = 1_000;
/// The most criteria of one search.
pub const CRITERIA_MAX: usize = 32;
/// The most alternatives of one criterion.
pub const ALTERNATIVES_MAX: usize = 200;

/// A search over the current versions of one FHIR type.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// FHIR type.
    pub rtype: String,
    /// All must hold.
    pub criteria: Vec<Criterion>,
    /// Order of the answer.
    pub sort: Sort,
    /// Rows on the page, at most [`PAGE_MAX`]. 0 asks for the total only.
    pub count: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Whether to count all matches.
    pub total: bool,
}

impl Search {
    /// A first page of 50 in order of writing, with the total.
    pub fn of(rtype: impl Into<String>) -> Self {
        let (criteria, after) = (Vec::new(), None);
        Self {
            rtype: rtype.into(),
            criteria,
            sort: Sort::Written { newest_first: false },
            count: 50,
            after,
            total: true,
        }
    }

    /// Adds a criterion.
    pub fn with(mut self, criterion: Criterion) -> Self {
        self.criteria.push(criterion);
        self
    }
}

/// Order of the answer. Equal keys are in order of arrival, backwards when the newest comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sort {
    /// By `_lastUpdated`.
    Written {
        /// Latest first.
        newest_first: bool,
    },
    /// By a parameter of kind date; records without it come last.
    Date {
        /// The parameter, such as `date`.
        param: String,
        /// Latest first.
        newest_first: bool,
    },
}

/// Where a page ended. Its text form may be given to outside callers and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) key: i64,
    pub(crate) vid: i64,
}
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.key, self.vid)
    }
}
impl FromStr for Cursor {
    type Err = BadSearch;
    fn from_str(text: &str) -> Result<Self, BadSearch> {
        let (key, vid) = text.split_once('_').ok_or(BadSearch::Cursor)?;
        match (key.parse(), vid.parse()) {
            (Ok(key), Ok(vid)) => Ok(Self { key, vid }),
            _ => Err(BadSearch::Cursor),
        }
    }
}

/// One page of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The page's rows.
    pub found: Rows,
    /// How many match on all pages, if asked for.
    pub total: Option<u64>,
    /// Where the next page begins; none on the last.
    pub next: Option<Cursor>,
}

/// One condition on one search parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// The parameter, such as `code`; also `_id` and `_lastUpdated`.
    pub param: String,
    /// `:not`: none of `any` may hold.
    pub negate: bool,
    /// At least one must hold.
    pub any: Vec<Match>,
}

/// One alternative of a criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// A token.
    Token {
        /// None: any system. Empty: no system.
        system: Option<String>,
        /// None: any code of the system.
        code: Option<String>,
    },
    /// A string.
    Text {
        /// What is looked for.
        text: String,
        /// How it must agree.
        how: TextMatch,
    },
    /// A point or span of time.
    Date {
        /// How the record's time relates to the span.
        prefix: Prefix,
        /// The span.
        span: DateRange,
    },
    /// A reference.
    Reference {
        /// FHIR type of the target. None: any type, or an absolute address in `id`.
        rtype: Option<String>,
        /// Logical id of the target, or its whole address.
        id: String,
    },
    /// `:missing`: the record has no value (true) or some value (false).
    Missing(bool),
}

/// How a string must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextMatch {
    /// The value begins with it; case and accents do not matter.
    Prefix,
    /// The value is it, case and accents included.
    Exact,
    /// The value contains it; case and accents do not matter.
    Contains,
}

/// How a record's span of time relates to the one searched for (FHIR R4 search, section 3.1.1.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Lies within it.
    Eq,
    /// Does not lie within it.
    Ne,
    /// Reaches beyond its end.
    Gt,
    /// Begins before its start.
    Lt,
    /// Reaches beyond its end, or lies within it.
    Ge,
    /// Begins before its start, or lies within it.
    Le,
    /// Begins after its end.
    Sa,
    /// Ends before its start.
    Eb,
    /// Overlaps it.
    Ap,
}

/// Why a search is refused. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSearch {
    /// No such parameter for the type.
    #[error("`{rtype}` has no search parameter `{param}`")]
    UnknownParameter {
        /// FHIR type.
        rtype: String,
        /// The parameter.
        param: String,
    },
    /// The modifier does not go with the parameter.
    #[error("search parameter `{param}` does not take modifier `{modifier}`")]
    Modifier {
        /// The parameter.
        param: String,
        /// The modifier.
        modifier: String,
    },
    /// The value has not the form of the parameter's kind.
    #[error("the value of search parameter `{param}` has not the form of its kind")]
    Value {
        /// The parameter.
        param: String,
    },
    /// The page reference is not one of ours.
    #[error("the page reference is not valid")]
    Cursor,
    /// More than the store answers in one search.
    #[error(
        "a search has at most {CRITERIA_MAX} criteria of at most {ALTERNATIVES_MAX} alternatives and {PAGE_MAX} rows a page"
    )]
    TooMuch,
}

impl Criterion {
    /// A token of any system.
    pub fn code(param: impl Into<String>, code: impl Into<String>) -> Self {
        Self::one(param, Match::Token { system: None, code: Some(code.into()) })
    }

    /// A token of one system; an empty one means none.
    pub fn token(param: impl Into<String>, system: impl Into<String>, code: impl Into<String>) -> Self {
        Self::one(param, Match::Token { system: Some(system.into()), code: Some(code.into()) })
    }

    /// A reference to a record.
    pub fn reference(param: impl Into<String>, rtype: impl Into<String>, id: impl Into<String>) -> Self {
        Self::one(param, Match::Reference { rtype: Some(rtype.into()), id: id.into() })
    }

    /// A criterion with one alternative.
    pub fn one(param: impl Into<String>, value: Match) -> Self {
        Self { param: param.into(), negate: false, any: vec![value] }
    }

    /// Reads `name=value` of a FHIR search: `code:not=http://loinc.org|8867-4,8480-6`, `date=ge2024-01`, `patient=Patient/1`.
    ///
    /// `value` is already percent-decoded; `\,`, `\|`, `\$` and `\\` are FHIR's own escapes.
    pub fn parse(rtype: &str, name: &str, value: &str) -> Result<Self, BadSearch> {
        let (param, modifier) = match name.split_once(':') {
            Some((param, modifier)) => (param, Some(modifier)),
            None => (name, None),
        };
        let kind = kind(rtype, param)
            .ok_or_else(|| BadSearch::UnknownParameter { rtype: rtype.to_owned(), param: param.to_owned() })?;
        let bad_value = || BadSearch::Value { param: param.to_owned() };
        let bad_modifier =
            || BadSearch::Modifier { param: param.to_owned(), modifier: modifier.unwrap_or_default().to_owned() };

        if modifier == Some("missing") {
            let missing = value.parse().map_err(|_| bad_value())?;
            return Ok(Self::one(param, Match::Missing(missing)));
        }
        // The logical identifiers of references are tokens of their own.
        if (kind, modifier) == (Kind::Reference, Some("identifier")) {
            let any = alternatives(value).map(|text| token(&text)).collect::<Option<Vec<_>>>().ok_or_else(bad_value)?;
            return Self { param: name.to_owned(), negate: false, any }.bounded();
        }
        type Parse<'a> = Box<dyn Fn(&str) -> Option<Match> + 'a>;
        let parse: Parse<'_> = match (kind, modifier) {
            (Kind::Token, None | Some("not")) => Box::new(token),
            (Kind::Text, None) => Box::new(|text| string(text, TextMatch::Prefix)),
            (Kind::Text, Some("exact")) => Box::new(|text| string(text, TextMatch::Exact)),
            (Kind::Text, Some("contains")) => Box::new(|text| string(text, TextMatch::Contains)),
            (Kind::Date, None) => Box::new(date),
            (Kind::Reference, None) => Box::new(|text| reference(text, None)),
            (Kind::Reference, Some(rtype)) if rtype.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Box::new(move |text| reference(text, Some(rtype)))
            }
            _ => return Err(bad_modifier()),
        };
        let any = alternatives(value).map(|text| parse(&text)).collect::<Option<Vec<_>>>().ok_or_else(bad_value)?;
        Self { param: param.to_owned(), negate: modifier == Some("not"), any }.bounded()
    }

    fn bounded(self) -> Result<Self, BadSearch> {
        if self.any.len() > ALTERNATIVES_MAX { Err(BadSearch::TooMuch) } else { Ok(self) }
    }
}

/// The values between commas that are not escaped, still escaped.
fn alternatives(value: &str) -> impl Iterator<Item = String> {
    split(value, ',').into_iter()
}

fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == at && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

fn token(text: &str) -> Option<Match> {
    let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
    let some = |text: &String| if text.is_empty() { None } else { Some(text.clone()) };
    match parts.as_slice() {
        [code] if !code.is_empty() => Some(Match::Token { system: None, code: some(code) }),
        [system, code] if !(system.is_empty() && code.is_empty()) => {
            Some(Match::Token { system: Some(system.clone()), code: some(code) })
        }
        _ => None,
    }
}

fn string(text: &str, how: TextMatch) -> Option<Match> {
    let text = unescape(text);
    (!text.is_empty()).then_some(Match::Text { text, how })
}

fn date(text: &str) -> Option<Match> {
    const PREFIXES: [(&str, Prefix); 9] = [
        ("eq", Prefix::Eq),
        ("ne", Prefix::Ne),
        ("gt", Prefix::Gt),
        ("lt", Prefix::Lt),
        ("ge", Prefix::Ge),
        ("le", Prefix::Le),
        ("sa", Prefix::Sa),
        ("eb", Prefix::Eb),
        ("ap", Prefix::Ap),
    ];
    let (prefix, rest) = PREFIXES
        .iter()
        .find_map(|(name, prefix)| text.strip_prefix(name).map(|rest| (*prefix, rest)))
        .unwrap_or((Prefix::Eq, text));
    Some(Match::Date { prefix, span: DateRange::parse(rest)? })
}

fn reference(text: &str, rtype: Option<&str>) -> Option<Match> {
    let text = unescape(text);
    if text.is_empty() {
        return None;
    }
    let (found, id) = crate::extract::target(&text);
    match (found, rtype) {
        (Some(found), Some(wanted)) if found != wanted => None,
        (found, wanted) => Some(Match::Reference { rtype: found.or(wanted.map(str::to_owned)), id }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(name: &str, value: &str, expect: Expect) {
        let shown = match Criterion::parse("Observation", name, value) {
            Ok(criterion) => {
                format!("{}{} {:?}", if criterion.negate { "not " } else { "" }, criterion.param, criterion.any)
            }
            Err(bad) => bad.to_string(),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn tokens_take_system_and_code() {
        check("code", "8867-4", expect![[r#"code [Token { system: None, code: Some("8867-4") }]"#]]);
        check(
            "code",
            "u|a,|b",
            expect![[
                r#"code [Token { system: Some("u"), code: Some("a") }, Token { system: Some(""), code: Some("b") }]"#
            ]],
        );
        check("code:not", "u|", expect![[r#"not code [Token { system: Some("u"), code: None }]"#]]);
        check("code", r"a\,b\|c", expect![[r#"code [Token { system: None, code: Some("a,b|c") }]"#]]);
        check("code", "|", expect!["the value of search parameter `code` has not the form of its kind"]);
        check("code:exact", "a", expect!["search parameter `code` does not take modifier `exact`"]);
    }

    #[test]
    fn references_are_read_in_every_form() {
        check("patient", "Patient/1", expect![[r#"patient [Reference { rtype: Some("Patient"), id: "1" }]"#]]);
        check("subject:Patient", "1", expect![[r#"subject [Reference { rtype: Some("Patient"), id: "1" }]"#]]);
        check("subject", "1", expect![[r#"subject [Reference { rtype: None, id: "1" }]"#]]);
        check(
            "subject:Group",
            "Patient/1",
            expect!["the value of search parameter `subject` has not the form of its kind"],
        );
        check(
            "subject:identifier",
            "s|1",
            expect![[r#"subject:identifier [Token { system: Some("s"), code: Some("1") }]"#]],
        );
    }

    #[test]
    fn dates_take_prefixes_and_unknown_parameters_are_named() {
        check(
            "date",
            "ge1970-01-02",
            expect!["date [Date { prefix: Ge, span: DateRange { lo_ms: 86400000, hi_ms: 172800000 } }]"],
        );
        check("date", "tomorrow", expect!["the value of search parameter `date` has not the form of its kind"]);
        check("date:missing", "true", expect!["date [Missing(true)]"]);
        check("colour", "red", expect!["`Observation` has no search parameter `colour`"]);
    }
}
