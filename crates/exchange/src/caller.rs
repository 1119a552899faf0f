//! Who is at the door: what a checked token and the request's own words say.

use record::{OrgId, OrgRole, Purpose, Role};

/// A person or program, and why it acts. Role and organisation come from a checked token, never from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name at its organisation.
    pub user: String,
    /// What it may be.
    pub role: Role,
    /// Its organisation.
    pub org: OrgId,
    /// What the organisation is.
    pub org_role: OrgRole,
    /// For a patient's login: the id of the Patient.
    pub patient: Option<String>,
    /// Why it acts; the request says so, and the decision weighs it.
    pub purpose: Purpose,
    /// Names the request in the audit trail.
    pub request: String,
    /// The network address it came from.
    pub address: String,
    /// What it calls this gateway by: the URL before `/Patient/1`. Answers name records by it.
    pub base: String,
}

impl Caller {
    /// The same caller, acting for another purpose.
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }
}
