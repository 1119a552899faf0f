//! Why the path said no. The gateway alone turns these into HTTP and OperationOutcome.

use record::fhir::{Issue, IssueType};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The policy says no. The caller's.
    #[error("denied: {sentence}")]
    Denied {
        /// The reason in plain words.
        sentence: String,
        /// Whether data exists that break-glass could open.
        suppressed: bool,
    },
    /// What was sent is wrong. The caller's.
    #[error("the request is wrong in {} place(s)", .0.len())]
    Invalid(Vec<Issue>),
    /// There is no such record.
    #[error("there is no `{0}`")]
    NotFound(String),
    /// The record was deleted or erased.
    #[error("`{0}` was deleted")]
    Gone(String),
    /// A frame that was let go by policy, and what is left of it.
    #[error("{0}")]
    LetGo(String),
    /// The record has moved on since the caller read it. The caller's.
    #[error("{0}")]
    Precondition(String),
    /// What is asked contradicts what is there. The caller's.
    #[error("{0}")]
    Conflict(String),
    /// It is there already, and nothing was written. The caller's, who may take it for done.
    #[error("{0}")]
    Duplicate(String),
    /// A device sends more than it may. The caller's.
    #[error("{text}")]
    TooFast {
        /// What is too much.
        text: String,
        /// For how many milliseconds to wait.
        wait_ms: u64,
    },
    /// More than a bound allows. The caller's.
    #[error("{0}")]
    TooLarge(String),
    /// Sent in a form that is not read here. The caller's.
    #[error("{0}")]
    MediaType(String),
    /// Not offered here. The caller's.
    #[error("{0}")]
    Unsupported(String),
    /// The database holds something else than the ledger says. Nobody at the door is to blame.
    #[error("`{0}` does not agree with the ledger and is withheld: an audit names what was done to it")]
    Tampered(String),
    /// Too much at once; the caller may try again.
    #[error("too many requests at once: try again in a moment")]
    Busy,
    /// The database server cannot be reached; the caller may try again. Nothing was written.
    #[error("the database cannot be reached, nothing was written: try again in a moment")]
    Unreachable,
    /// Another entry key took this gateway's place, which it has not. The operator's to mend.
    #[error(
        "this organisation signs its entries by another key since: whoever runs the gateway puts the latest folder of keys into its place, \
         and writes are taken again"
    )]
    SpentKey,
    /// Something of ours failed.
    #[error("{0}")]
    Ours(String),
}

impl Failure {
    /// A single issue with what was sent.
    pub fn invalid(kind: IssueType, expression: &str, text: impl Into<String>) -> Self {
        let issue = Issue::error(kind, text);
        Self::Invalid(vec![if expression.is_empty() { issue } else { issue.at(expression) }])
    }

    /// Something of ours failed: `what`, because of `why`.
    pub(crate) fn ours(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Ours(format!("{what}: {why}"))
    }
}

impl From<crate::mirror::MirrorError> for Failure {
    fn from(error: crate::mirror::MirrorError) -> Self {
        Self::ours("the ledger's mirror did not answer", error)
    }
}
