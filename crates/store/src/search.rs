//! What is looked for: a typed search over the index, and the page that answers it.

use crate::{
    chain::{self, CHAIN_LINKS_MAX},
    extract::{DateRange, Kind, Written, kind, parts, typed},
    order::{Cursor, SORT_KEYS_MAX, Sort, forms},
    row::{Malformed, Row, Rows},
    select::above,
};

/// The most rows on one page, and of one step of a sweep.
pub const PAGE_MAX: usize = 1_000;
/// The most criteria of one search.
pub const CRITERIA_MAX: usize = 32;
/// The most alternatives of one criterion.
pub const ALTERNATIVES_MAX: usize = 200;
/// The most types of one search: more than FHIR R4 has.
const TYPES_MAX: usize = 200;
/// The most alternatives of all criteria together, counted for each type: as many as a search of one type may have.
const ALTERNATIVES_OF_ALL_MAX: usize = CRITERIA_MAX * ALTERNATIVES_MAX;

/// A search over the current versions of one FHIR type, or of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// FHIR type.
    pub rtype: String,
    /// Further FHIR types, whose records are found by the same criteria and stand in the same order. Each type once.
    pub also: Vec<String>,
    /// All must hold.
    pub criteria: Vec<Criterion>,
    /// The keys of the answer's order, at most [`SORT_KEYS_MAX`], the first decides first. Equal records are in order of arrival, backwards
    /// when the first key is.
    pub sort: Vec<Sort>,
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
        Self {
            rtype: rtype.into(),
            also: Vec::new(),
            criteria: Vec::new(),
            sort: vec![Sort::ascending("_lastUpdated")],
            count: 50,
            after: None,
            total: true,
        }
    }

    /// Adds a criterion.
    pub fn with(mut self, criterion: Criterion) -> Self {
        self.criteria.push(criterion);
        self
    }

    /// Refuses more than the store answers in one search, and what nothing is sorted by.
    pub fn check(&self) -> Result<(), BadSearch> {
        let types = self.also.len() + 1;
        if self.count > PAGE_MAX || self.criteria.len() > CRITERIA_MAX || types > TYPES_MAX {
            return Err(BadSearch::TooMuch);
        }
        let alternatives = || self.criteria.iter().map(|criterion| criterion.any.len());
        if alternatives().any(|of_one| of_one > ALTERNATIVES_MAX) {
            return Err(BadSearch::TooMuch);
        }
        if alternatives().sum::<usize>() * types > ALTERNATIVES_OF_ALL_MAX {
            return Err(BadSearch::TooMuch);
        }
        forms(self).map(|_| ())
    }

    /// All types that are searched.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.rtype).chain(&self.also).map(String::as_str)
    }
}

/// One page of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The page's rows.
    pub found: Rows,
    /// Where the page would end after each of the rows that are readable, in their order.
    pub ends: Vec<Cursor>,
    /// How many match on all pages, if asked for.
    pub total: Option<u64>,
    /// Where the next page begins; none on the last.
    pub next: Option<Cursor>,
}

impl Page {
    pub(crate) fn push(&mut self, row: Result<Row, Malformed>, place: Cursor) {
        self.ends.extend(row.is_ok().then_some(place));
        self.found.push(row);
    }
}

/// One condition on one search parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// The parameter, such as `code`; also `_id` and `_lastUpdated`, `p:identifier` of references and `p:of-type` of identifiers.
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
    /// `:text`: what is said of a token in words begins with it; case and accents do not matter.
    Words(String),
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
    /// A number, or an amount with its unit.
    Quantity {
        /// How the record's number relates to this one.
        prefix: Prefix,
        /// The number.
        number: Written,
        /// System of the unit. None: any; then `code` may also be the unit in words.
        system: Option<String>,
        /// Code of the unit. None: any unit.
        code: Option<String>,
    },
    /// An address.
    Uri {
        /// The address.
        uri: String,
        /// How it must agree.
        how: UriMatch,
    },
    /// The parameter refers to a record of this type that meets the criterion.
    To {
        /// FHIR type of the target.
        rtype: String,
        /// What it must meet.
        criterion: Box<Criterion>,
    },
    /// Another record refers to this one by a parameter, and meets the criterion; of `_has`.
    From {
        /// FHIR type of the one that refers.
        rtype: String,
        /// Its parameter.
        param: String,
        /// What it must meet.
        criterion: Box<Criterion>,
    },
    /// A value of this parameter, whatever the criterion is called.
    Under {
        /// The parameter.
        param: String,
        /// Its value.
        of: Box<Match>,
    },
    /// The record is in the compartment of this one, by any of the parameters that put records of its type there.
    Within {
        /// FHIR type of what the compartment is about.
        of: String,
        /// Its logical id.
        id: String,
    },
    /// Values that stand together, one for each part of the composite in its order.
    Composite(Vec<Match>),
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

/// How an address must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriMatch {
    /// The value is it.
    Exact,
    /// The value is it or an address in the folder that it names.
    Below,
    /// The value is it or the address of a folder that it is in.
    Above,
}

/// How a record's span of time or number relates to the one searched for (FHIR R4 search, section 3.1.1.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Lies within it; of numbers, within what it stands for.
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
    /// Overlaps it; of numbers, at most a tenth away.
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
    /// A part of FHIR's search that is not offered.
    #[error("`{what}` is not offered: {why}")]
    NotOffered {
        /// The parameter with its modifier.
        what: String,
        /// The reason, and what to do.
        why: &'static str,
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
        "a search has at most {CRITERIA_MAX} criteria of at most {ALTERNATIVES_MAX} alternatives, fewer where many types are searched, \
         {SORT_KEYS_MAX} keys of its order and {PAGE_MAX} rows a page"
    )]
    TooMuch,
}

/// Parameters of every type or of one that this store has no values for, and why.
const NOT_OFFERED: [(&str, &str); 7] = [
    ("_text", NO_WORDS),
    ("_content", NO_WORDS),
    ("_query", "no named queries are known here"),
    ("_filter", "write the criteria as parameters of their own"),
    ("_list", "read the List, and search for the `_id`s that it names"),
    ("_type", "it names the types of a search without one: `?_type=Condition,Observation`"),
    ("near", "distances on the globe are not computed"),
];
const NO_WORDS: &str = "the whole text of records is not indexed; search for codes by `:text`, or for names";
const NO_TERMINOLOGY: &str = "it asks for a terminology, and none is kept here; search for the codes themselves";

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
    ///
    /// Chains have at most [`CHAIN_LINKS_MAX`] links; what their matches rest on is not theirs alone to show, see [`crate::rests_on`].
    pub fn parse(rtype: &str, name: &str, value: &str) -> Result<Self, BadSearch> {
        Self::parse_linked(rtype, name, value, CHAIN_LINKS_MAX)
    }

    /// Reads a criterion with at most `links` links.
    pub(crate) fn parse_linked(rtype: &str, name: &str, value: &str, links: usize) -> Result<Self, BadSearch> {
        if chain::is_chain(name) {
            return chain::parse(rtype, name, value, links);
        }
        let (param, modifier) = match name.split_once(':') {
            Some((param, modifier)) => (param, Some(modifier)),
            None => (name, None),
        };
        let not_offered = |why| BadSearch::NotOffered { what: name.to_owned(), why };
        if let Some((_, why)) = NOT_OFFERED.iter().find(|(other, _)| *other == param) {
            return Err(not_offered(why));
        }
        let kind = kind(rtype, param)
            .ok_or_else(|| BadSearch::UnknownParameter { rtype: rtype.to_owned(), param: param.to_owned() })?;
        let bad_value = || BadSearch::Value { param: param.to_owned() };
        let bad_modifier =
            || BadSearch::Modifier { param: param.to_owned(), modifier: modifier.unwrap_or_default().to_owned() };

        if modifier == Some("missing") && kind != Kind::Composite {
            let missing = value.parse().map_err(|_| bad_value())?;
            return Ok(Self::one(param, Match::Missing(missing)));
        }
        type Parse<'a> = Box<dyn Fn(&str) -> Option<Match> + 'a>;
        let parse: Parse<'_> = match (kind, modifier) {
            (Kind::Token, Some("not")) => Box::new(token),
            (Kind::Token, Some("text")) => Box::new(words),
            (Kind::Token, Some("of-type")) => Box::new(of_type),
            (Kind::Token, Some("in" | "not-in" | "above" | "below")) => return Err(not_offered(NO_TERMINOLOGY)),
            (Kind::Text, Some("exact")) => Box::new(|text| string(text, TextMatch::Exact)),
            (Kind::Text, Some("contains")) => Box::new(|text| string(text, TextMatch::Contains)),
            (Kind::Uri, Some("below")) => Box::new(|text| uri(text, UriMatch::Below)),
            (Kind::Uri, Some("above")) => Box::new(|text| uri(text, UriMatch::Above)),
            // The logical identifiers of references are tokens of their own.
            (Kind::Reference, Some("identifier")) => Box::new(token),
            (Kind::Reference, Some(rtype)) if rtype.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Box::new(move |text| reference(text, Some(rtype)))
            }
            (_, None) => Box::new(move |text| plain(rtype, param, kind, text)),
            _ => return Err(bad_modifier()),
        };
        let any = alternatives(value).map(|text| parse(&text)).collect::<Option<Vec<_>>>().ok_or_else(bad_value)?;
        let filed_apart =
            matches!((kind, modifier), (Kind::Token, Some("of-type")) | (Kind::Reference, Some("identifier")));
        let param = if filed_apart { name } else { param };
        Self { param: param.to_owned(), negate: modifier == Some("not"), any }.bounded()
    }

    fn bounded(self) -> Result<Self, BadSearch> {
        let addresses = self.any.iter().map(|value| match value {
            Match::Uri { uri, how: UriMatch::Above } => above(uri).count(),
            _ => 1,
        });
        if addresses.sum::<usize>() > ALTERNATIVES_MAX { Err(BadSearch::TooMuch) } else { Ok(self) }
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

/// A value without modifier.
fn plain(rtype: &str, param: &str, kind: Kind, text: &str) -> Option<Match> {
    match kind {
        Kind::Token => token(text),
        Kind::Text => string(text, TextMatch::Prefix),
        Kind::Date => date(text),
        Kind::Reference => reference(text, None),
        Kind::Number => {
            let (prefix, rest) = prefixed(text);
            Some(Match::Quantity { prefix, number: Written::parse(rest)?, system: None, code: None })
        }
        Kind::Quantity => quantity(text),
        Kind::Uri => uri(text, UriMatch::Exact),
        Kind::Composite => composite(rtype, param, text),
    }
}

fn words(text: &str) -> Option<Match> {
    let text = unescape(text);
    (!text.trim().is_empty()).then_some(Match::Words(text))
}

/// System of the type, code of the type, and value of an identifier: all three must be there.
fn of_type(text: &str) -> Option<Match> {
    let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
    match parts.as_slice() {
        [system, code, value] if parts.iter().all(|part| !part.is_empty()) => {
            Some(Match::Token { system: Some(system.clone()), code: Some(typed(code, value)) })
        }
        _ => None,
    }
}

fn uri(text: &str, how: UriMatch) -> Option<Match> {
    let uri = unescape(text);
    (!uri.is_empty()).then_some(Match::Uri { uri, how })
}

fn composite(rtype: &str, param: &str, text: &str) -> Option<Match> {
    let (parts, values) = (parts(rtype, param), split(text, '$'));
    if parts.len() != values.len() {
        return None;
    }
    let parts = parts.iter().zip(&values).map(|(part, value)| plain(rtype, part, kind(rtype, part)?, value));
    parts.collect::<Option<Vec<_>>>().map(Match::Composite)
}

/// `[prefix][number]`, or with `|[system]|[code]` behind it.
fn quantity(text: &str) -> Option<Match> {
    let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (number, system, code) = match parts.as_slice() {
        [number] => (number, None, None),
        [number, system, code] => (number, some(system), some(code)),
        _ => return None,
    };
    let (prefix, number) = prefixed(number);
    Some(Match::Quantity { prefix, number: Written::parse(number)?, system, code })
}

fn date(text: &str) -> Option<Match> {
    let (prefix, rest) = prefixed(text);
    Some(Match::Date { prefix, span: DateRange::parse(rest)? })
}

/// The prefix of a date, number or quantity, and what follows.
fn prefixed(text: &str) -> (Prefix, &str) {
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
    let found = PREFIXES.iter().find_map(|(name, prefix)| text.strip_prefix(name).map(|rest| (*prefix, rest)));
    found.unwrap_or((Prefix::Eq, text))
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
    fn what_is_said_of_codes_and_identifiers_of_a_type_are_looked_for() {
        check("code:text", "heart rate", expect![[r#"code [Words("heart rate")]"#]]);
        check(
            "identifier:of-type",
            "http://v2|MR|12",
            expect![[r#"identifier:of-type [Token { system: Some("http://v2"), code: Some("MR|12") }]"#]],
        );
        check(
            "identifier:of-type",
            "MR|12",
            expect!["the value of search parameter `identifier` has not the form of its kind"],
        );
    }

    #[test]
    fn amounts_are_as_precise_as_they_are_written() {
        check(
            "value-quantity",
            "5.4",
            expect![
                "value-quantity [Quantity { prefix: Eq, number: Written { exact: Number(5.4), from: Number(5.35), until: Number(5.45), about_from: Number(4.86), about_to: Number(5.94) }, system: None, code: None }]"
            ],
        );
        check(
            "value-quantity",
            "gt5.40e1|http://unitsofmeasure.org|mg",
            expect![[
                r#"value-quantity [Quantity { prefix: Gt, number: Written { exact: Number(54.0), from: Number(53.95), until: Number(54.05), about_from: Number(48.6), about_to: Number(59.4) }, system: Some("http://unitsofmeasure.org"), code: Some("mg") }]"#
            ]],
        );
        check(
            "value-quantity",
            "ap5||mg",
            expect![[
                r#"value-quantity [Quantity { prefix: Ap, number: Written { exact: Number(5.0), from: Number(4.5), until: Number(5.5), about_from: Number(4.5), about_to: Number(5.5) }, system: None, code: Some("mg") }]"#
            ]],
        );
        check(
            "value-quantity",
            "5|mg",
            expect!["the value of search parameter `value-quantity` has not the form of its kind"],
        );
        check(
            "value-quantity",
            "much",
            expect!["the value of search parameter `value-quantity` has not the form of its kind"],
        );
    }

    #[test]
    fn addresses_and_composites_are_read() {
        check(
            "_profile:below",
            "http://a.org/fhir",
            expect![[r#"_profile [Uri { uri: "http://a.org/fhir", how: Below }]"#]],
        );
        check("_source", "urn:x", expect![[r#"_source [Uri { uri: "urn:x", how: Exact }]"#]]);
        check(
            "code-value-concept",
            r"s|a$s|b\$c",
            expect![[
                r#"code-value-concept [Composite([Token { system: Some("s"), code: Some("a") }, Token { system: Some("s"), code: Some("b$c") }])]"#
            ]],
        );
        check(
            "component-code-value-quantity",
            "8480-6$lt60,8462-4$lt40",
            expect![[
                r#"component-code-value-quantity [Composite([Token { system: None, code: Some("8480-6") }, Quantity { prefix: Lt, number: Written { exact: Number(60.0), from: Number(59.5), until: Number(60.5), about_from: Number(54.0), about_to: Number(66.0) }, system: None, code: None }]), Composite([Token { system: None, code: Some("8462-4") }, Quantity { prefix: Lt, number: Written { exact: Number(40.0), from: Number(39.5), until: Number(40.5), about_from: Number(36.0), about_to: Number(44.0) }, system: None, code: None }])]"#
            ]],
        );
        check(
            "component-code-value-quantity",
            "8480-6",
            expect!["the value of search parameter `component-code-value-quantity` has not the form of its kind"],
        );
        check(
            "component-code-value-quantity:missing",
            "true",
            expect!["search parameter `component-code-value-quantity` does not take modifier `missing`"],
        );
    }

    #[test]
    fn a_search_of_many_types_has_fewer_alternatives() {
        let of = |types: usize, criteria: usize, alternatives: usize| {
            let also = (1..types).map(|_| "Patient".to_owned()).collect();
            let any = vec![Match::Missing(true); alternatives];
            let criterion = Criterion { param: "_tag".into(), negate: false, any };
            Search { also, criteria: vec![criterion; criteria], ..Search::of("Patient") }.check()
        };
        assert_eq!(of(1, CRITERIA_MAX, ALTERNATIVES_MAX), Ok(()));
        assert_eq!(of(TYPES_MAX, CRITERIA_MAX, 1), Ok(()));
        for (types, criteria, alternatives) in [
            (1, CRITERIA_MAX + 1, 1),
            (1, 1, ALTERNATIVES_MAX + 1),
            (2, CRITERIA_MAX, ALTERNATIVES_MAX),
            (TYPES_MAX, 1, ALTERNATIVES_MAX),
            (TYPES_MAX + 1, 1, 1),
        ] {
            let refused = of(types, criteria, alternatives);
            assert_eq!(refused, Err(BadSearch::TooMuch), "{types} {criteria} {alternatives}");
        }
    }

    #[test]
    fn what_is_not_offered_is_said_with_its_reason() {
        check(
            "code:below",
            "http://loinc.org|8867-4",
            expect![
                "`code:below` is not offered: it asks for a terminology, and none is kept here; search for the codes themselves"
            ],
        );
        check(
            "_text",
            "pain",
            expect![
                "`_text` is not offered: the whole text of records is not indexed; search for codes by `:text`, or for names"
            ],
        );
        check("_profile:contains", "x", expect!["search parameter `_profile` does not take modifier `contains`"]);
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
