//! A search as it stands in a URL, read into names, modifiers and values. Nothing is searched here.
//!
//! Source: FHIR R4 `search.html`; percent-encoding as forms have it (RFC 3986, and `+` for a blank).

use super::{Issue, IssueType, ResourceType};
use std::borrow::Cow;

/// The most parameters of one search.
pub const PARAMETERS_MAX: usize = 64;
/// The most alternatives of one parameter.
pub const VALUES_MAX: usize = 256;
/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

/// Why a query cannot be read. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchUrlError {
    /// Longer than is read.
    #[error("a query of {bytes} bytes is longer than the {max} that are read")]
    TooLong {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// More parameters than are read.
    #[error("more than {max} parameters")]
    TooManyParameters {
        /// Parameters allowed.
        max: usize,
    },
    /// More alternatives than are read.
    #[error("more than {max} alternatives in one parameter")]
    TooManyValues {
        /// Alternatives allowed.
        max: usize,
    },
    /// A percent sign that no two hexadecimal digits follow, or bytes that are not UTF-8.
    #[error("badly percent-encoded: write a percent sign as %25")]
    Encoding,
    /// A parameter without a name.
    #[error("a parameter without a name")]
    NoName,
    /// A type that R4 does not have.
    #[error("not a resource type of FHIR R4")]
    UnknownType,
}

impl From<SearchUrlError> for Issue {
    fn from(error: SearchUrlError) -> Self {
        let kind = match error {
            SearchUrlError::TooLong { .. } => IssueType::TooLong,
            SearchUrlError::TooManyParameters { .. } | SearchUrlError::TooManyValues { .. } => IssueType::TooCostly,
            SearchUrlError::UnknownType => IssueType::NotSupported,
            SearchUrlError::Encoding | SearchUrlError::NoName => IssueType::Invalid,
        };
        Self::error(kind, error.to_string())
    }
}

/// One parameter: all of its values are alternatives; several parameters all have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, with a chain as it came: `code`, `subject:Patient.name`, `_has:Observation:patient:code`.
    pub name: String,
    /// What follows the last colon of a name that is no chain: `exact` of `family:exact`.
    pub modifier: Option<String>,
    /// The alternatives, at least one.
    pub values: Vec<Value>,
}

/// One value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    // Still with the escapes `\,` `\|` `\$` `\\`, so that separators can be told from text.
    escaped: String,
}

/// What a value is compared with. Source: R4 `search.html#prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// Equal; also when there is no prefix.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater.
    Greater,
    /// Less.
    Less,
    /// Greater or equal.
    GreaterOrEqual,
    /// Less or equal.
    LessOrEqual,
    /// Starts after.
    StartsAfter,
    /// Ends before.
    EndsBefore,
    /// About.
    About,
}

/// A value of a token parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The system: none when there is no `|`; empty when there is nothing before it, which asks for codes without a system.
    pub system: Option<String>,
    /// The code; none when there is nothing after the `|`, which asks for any code of the system.
    pub code: Option<String>,
}

impl Value {
    /// A value as it would stand in a URL, decoded.
    pub fn new(escaped: impl Into<String>) -> Self {
        Self { escaped: escaped.into() }
    }

    /// Its text as it came, with the escapes `\\,` `\\|` `\\$` `\\\\`: for who takes it apart elsewhere.
    pub fn escaped(&self) -> &str {
        &self.escaped
    }

    /// Its text, escapes undone.
    pub fn text(&self) -> Cow<'_, str> {
        unescaped(&self.escaped)
    }

    /// Its prefix and what follows. Only for dates, numbers and quantities: the `le` of `lemon` is no prefix.
    pub fn prefixed(&self) -> (Prefix, Cow<'_, str>) {
        let prefix = match self.escaped.get(..2) {
            Some("eq") => Prefix::Equal,
            Some("ne") => Prefix::NotEqual,
            Some("gt") => Prefix::Greater,
            Some("lt") => Prefix::Less,
            Some("ge") => Prefix::GreaterOrEqual,
            Some("le") => Prefix::LessOrEqual,
            Some("sa") => Prefix::StartsAfter,
            Some("eb") => Prefix::EndsBefore,
            Some("ap") => Prefix::About,
            _ => return (Prefix::Equal, self.text()),
        };
        (prefix, unescaped(&self.escaped[2..]))
    }

    /// Its parts between `|`, escapes undone: two of a token, three of a quantity.
    pub fn parts(&self) -> Vec<String> {
        split(&self.escaped, '|').map(|part| unescaped(part).into_owned()).collect()
    }

    /// Its parts between `$`, of a composite parameter.
    pub fn components(&self) -> Vec<Self> {
        split(&self.escaped, '$').map(Self::new).collect()
    }

    /// Its value as a token.
    pub fn token(&self) -> Token {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        let mut parts = self.parts().into_iter();
        match (parts.next(), parts.next()) {
            (Some(system), Some(code)) => Token { system: Some(system), code: filled(code) },
            (code, _) => Token { system: None, code: code.and_then(filled) },
        }
    }
}

/// A search of one type, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchUrl {
    /// What is searched; none for a search of the whole system.
    pub rtype: Option<ResourceType>,
    /// The parameters, in their order.
    pub parameters: Vec<Parameter>,
}

impl SearchUrl {
    /// Reads `Type?name=value&...`, `Type`, or `?name=value`.
    pub fn parse(url: &str) -> Result<Self, SearchUrlError> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = path.trim_matches('/');
        let rtype = match path {
            "" => None,
            name => Some(name.parse().map_err(|_| SearchUrlError::UnknownType)?),
        };
        Ok(Self { rtype, parameters: Self::parse_query(query)? })
    }

    /// Reads `name=value&...`, as it stands after the question mark or in the body of a search by POST.
    pub fn parse_query(query: &str) -> Result<Vec<Parameter>, SearchUrlError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(SearchUrlError::TooLong { bytes: query.len(), max: QUERY_BYTES_MAX });
        }
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(SearchUrlError::TooManyParameters { max: PARAMETERS_MAX });
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push(parameter(&decoded(name)?, &decoded(value)?)?);
        }
        Ok(parameters)
    }

    /// The values of the first parameter of this name without modifier.
    pub fn first(&self, name: &str) -> Option<&[Value]> {
        let found = self.parameters.iter().find(|parameter| parameter.name == name && parameter.modifier.is_none());
        found.map(|parameter| parameter.values.as_slice())
    }
}

fn parameter(name: &str, value: &str) -> Result<Parameter, SearchUrlError> {
    if name.is_empty() || name.starts_with(':') {
        return Err(SearchUrlError::NoName);
    }
    let (name, modifier) = match name.rsplit_once(':') {
        Some((before, after)) if !after.contains('.') && !name.starts_with("_has:") => (before, Some(after.to_owned())),
        _ => (name, None),
    };
    let values: Vec<Value> = split(value, ',').take(VALUES_MAX + 1).map(Value::new).collect();
    if values.len() > VALUES_MAX {
        return Err(SearchUrlError::TooManyValues { max: VALUES_MAX });
    }
    Ok(Parameter { name: name.to_owned(), modifier, values })
}

/// Splits at `separator` unless a backslash stands before it.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let splits = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next @ (',' | '|' | '$' | '\\'))) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn decoded(text: &str) -> Result<String, SearchUrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |bytes: &mut std::str::Bytes<'_>| bytes.next().and_then(|b| (b as char).to_digit(16));
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => match (digit(&mut bytes), digit(&mut bytes)) {
                (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                _ => return Err(SearchUrlError::Encoding),
            },
            b => out.push(b),
        }
    }
    String::from_utf8(out).map_err(|_| SearchUrlError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let said = match SearchUrl::parse(url) {
            Err(error) => error.to_string(),
            Ok(search) => {
                let parameters = search.parameters.iter().map(|parameter| {
                    let modifier =
                        parameter.modifier.as_ref().map(|modifier| format!(" [{modifier}]")).unwrap_or_default();
                    let values: Vec<Cow<'_, str>> = parameter.values.iter().map(Value::text).collect();
                    format!("{}{modifier} = {}", parameter.name, values.join(" or "))
                });
                let rtype = search.rtype.map_or("all", ResourceType::as_str);
                format!("{rtype}: {}", parameters.collect::<Vec<_>>().join("; "))
            }
        };
        assert_eq!(said, expected, "{url}");
    }

    #[test]
    fn searches_are_read_as_the_specification_writes_them() {
        check("Patient", "Patient: ");
        check(
            "/Observation?code=http://loinc.org|8867-4,8480-6&date=ge2026",
            "Observation: code = http://loinc.org|8867-4 or 8480-6; date = ge2026",
        );
        check(
            "Patient?family:exact=O%27Neil+Jr&name=a%2Cb%5C%2Cc",
            "Patient: family [exact] = O'Neil Jr; name = a or b,c",
        );
        check(
            "Observation?subject:Patient.name=x&_has:Group:member:code=y",
            "Observation: subject:Patient.name = x; _has:Group:member:code = y",
        );
        check("?_lastUpdated=gt2026-01-01&&_count=", "all: _lastUpdated = gt2026-01-01; _count = ");
        check("Zebra?a=b", "not a resource type of FHIR R4");
        check("Patient?a=%2", "badly percent-encoded: write a percent sign as %25");
        check("Patient?a=%ff", "badly percent-encoded: write a percent sign as %25");
        check("Patient?=b", "a parameter without a name");
        check(&format!("Patient?{}", "a=b&".repeat(65)), "more than 64 parameters");
        check(&format!("Patient?a={}", "b,".repeat(256)), "more than 256 alternatives in one parameter");
        check(
            &format!("Patient?a={}", "b".repeat(QUERY_BYTES_MAX)),
            "a query of 16386 bytes is longer than the 16384 that are read",
        );
    }

    #[test]
    fn values_are_tokens_dates_and_composites() {
        let token = |text: &str| {
            let Token { system, code } = Value::new(text).token();
            (system, code)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(token("http://a|b"), (some("http://a"), some("b")));
        assert_eq!(token("|b"), (some(""), some("b")));
        assert_eq!(token("http://a|"), (some("http://a"), None));
        assert_eq!(token("b\\|c"), (None, some("b|c")));
        assert_eq!(Value::new("le2026-11").prefixed(), (Prefix::LessOrEqual, "2026-11".into()));
        assert_eq!(Value::new("2026").prefixed(), (Prefix::Equal, "2026".into()));
        assert_eq!(Value::new("é").prefixed(), (Prefix::Equal, "é".into()));
        assert_eq!(Value::new("8480-6$gt\\$1").components(), [Value::new("8480-6"), Value::new("gt\\$1")]);
        assert_eq!(
            Value::new("5.40|http://unitsofmeasure.org|mg").parts(),
            ["5.40", "http://unitsofmeasure.org", "mg"]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query in ".*") {
            if let Ok(search) = SearchUrl::parse(&query) {
                for value in search.parameters.iter().flat_map(|parameter| &parameter.values) {
                    value.token();
                    value.prefixed();
                    value.components();
                }
            }
        }
    }
}
