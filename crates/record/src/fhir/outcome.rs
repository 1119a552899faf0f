//! OperationOutcome: what went wrong, where, and what to do, in the form that every FHIR client reads.

use super::{Fault, ParseError, json::push_string};

/// How bad an issue is. Source: value set `http://hl7.org/fhir/ValueSet/issue-severity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It happened, and nothing is wrong.
    Information,
    /// It was done, but look at this.
    Warning,
    /// It was not done.
    Error,
    /// Nothing at all can be done.
    Fatal,
}

impl Severity {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

macro_rules! issue_types {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// What kind of issue it is. Source: value set `http://hl7.org/fhir/ValueSet/issue-type`, all 31 codes of R4.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum IssueType { $($(#[$doc])* $variant),+ }

        impl IssueType {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }
    };
}

issue_types! {
    /// The content is invalid.
    Invalid = "invalid",
    /// A structural issue, such as a wrong type or an unknown element.
    Structure = "structure",
    /// A required element is missing.
    Required = "required",
    /// A value does not conform to its type or value set.
    Value = "value",
    /// A rule of the specification does not hold.
    Invariant = "invariant",
    /// A matter of authentication, authorisation or consent.
    Security = "security",
    /// The client needs to log in.
    Login = "login",
    /// The user or system is not known.
    Unknown = "unknown",
    /// The token has expired.
    Expired = "expired",
    /// The user may not do this.
    Forbidden = "forbidden",
    /// Something was left out for reasons of privacy.
    Suppressed = "suppressed",
    /// It could not be processed.
    Processing = "processing",
    /// The server does not do this.
    NotSupported = "not-supported",
    /// It is there already.
    Duplicate = "duplicate",
    /// More than one record matches.
    MultipleMatches = "multiple-matches",
    /// It is not there.
    NotFound = "not-found",
    /// It was deleted.
    Deleted = "deleted",
    /// Larger than is read.
    TooLong = "too-long",
    /// A code is not known.
    CodeInvalid = "code-invalid",
    /// An extension is not acceptable.
    Extension = "extension",
    /// It would cost more than is allowed.
    TooCostly = "too-costly",
    /// A rule of the domain forbids it.
    BusinessRule = "business-rule",
    /// Somebody else changed it meanwhile.
    Conflict = "conflict",
    /// A transient issue: try again.
    Transient = "transient",
    /// Locked by somebody else.
    LockError = "lock-error",
    /// Nowhere to store it, or something that is needed is missing.
    NoStore = "no-store",
    /// An exception: ours.
    Exception = "exception",
    /// It took too long.
    Timeout = "timeout",
    /// The answer is not complete.
    Incomplete = "incomplete",
    /// Too many requests.
    Throttled = "throttled",
    /// Information only.
    Informational = "informational",
}

/// One thing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of issue it is.
    pub kind: IssueType,
    /// For people: what is wrong and what to do. No health data.
    pub diagnostics: String,
    /// Where, as paths such as `Observation.status`; none when it is about the whole.
    pub expression: Vec<String>,
}

impl Issue {
    /// An error about the whole request.
    pub fn error(kind: IssueType, diagnostics: impl Into<String>) -> Self {
        Self { severity: Severity::Error, kind, diagnostics: diagnostics.into(), expression: Vec::new() }
    }

    /// A warning about the whole answer.
    pub fn warning(kind: IssueType, diagnostics: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(kind, diagnostics) }
    }

    /// Good news.
    pub fn information(diagnostics: impl Into<String>) -> Self {
        Self { severity: Severity::Information, ..Self::error(IssueType::Informational, diagnostics) }
    }

    /// The same issue, at this place.
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression.push(expression.into());
        self
    }
}

impl From<ParseError> for Issue {
    fn from(error: ParseError) -> Self {
        let kind = match error.fault {
            Fault::TooLarge { .. } => IssueType::TooLong,
            Fault::TooDeep { .. } => IssueType::TooCostly,
            Fault::NotUtf8 { .. } | Fault::Syntax { .. } | Fault::NotAnObject => IssueType::Structure,
            Fault::DuplicateKey | Fault::BadMeta | Fault::UnknownResourceType => IssueType::Structure,
            Fault::NoResourceType => IssueType::Required,
            Fault::BadId => IssueType::Value,
        };
        let issue = Self::error(kind, error.fault.to_string());
        if error.expression.is_empty() { issue } else { issue.at(error.expression) }
    }
}

/// An OperationOutcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    // INVARIANT: at least one issue: `OperationOutcome.issue` is 1..*.
    issues: Vec<Issue>,
}

impl Outcome {
    /// An outcome with one issue.
    pub fn new(issue: Issue) -> Self {
        Self { issues: vec![issue] }
    }

    /// An outcome with these issues, if there are any.
    pub fn of(issues: Vec<Issue>) -> Option<Self> {
        (!issues.is_empty()).then_some(Self { issues })
    }

    /// The same outcome with one issue more.
    pub fn and(mut self, issue: Issue) -> Self {
        self.issues.push(issue);
        self
    }

    /// Its issues, at least one.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// The resource as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{\"resourceType\":\"OperationOutcome\",\"issue\":[");
        for (n, issue) in self.issues.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(&format!(
                "{{\"severity\":\"{}\",\"code\":\"{}\",\"diagnostics\":",
                issue.severity.code(),
                issue.kind.code()
            ));
            push_string(&mut out, &issue.diagnostics);
            for (n, expression) in issue.expression.iter().enumerate() {
                out.push_str(if n == 0 { ",\"expression\":[" } else { "," });
                push_string(&mut out, expression);
            }
            out.push_str(if issue.expression.is_empty() { "}" } else { "]}" });
        }
        out.push_str("]}");
        out
    }
}
impl From<Issue> for Outcome {
    fn from(issue: Issue) -> Self {
        Self::new(issue)
    }
}
impl From<ParseError> for Outcome {
    fn from(error: ParseError) -> Self {
        Self::new(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{Limits, Resource};

    #[test]
    fn an_outcome_says_what_where_and_what_to_do() {
        let error =
            Resource::parse(br#"{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}"#, Limits::default());
        let outcome = Outcome::from(error.unwrap_err()).and(Issue::warning(IssueType::Incomplete, "a \"quote\""));
        assert_eq!(
            outcome.to_json(),
            concat!(
                r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"structure","#,
                r#""diagnostics":"the property is there twice: send it once","expression":["Patient.name[0].family"]},"#,
                r#"{"severity":"warning","code":"incomplete","diagnostics":"a \"quote\""}]}"#
            )
        );
        assert!(Resource::parse(outcome.to_json().as_bytes(), Limits::default()).is_ok());
        assert_eq!(Outcome::of(Vec::new()), None);
    }
}
