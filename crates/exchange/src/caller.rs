//! Who is at the door: what a checked token and the request's own words say.

use policy::{Action, Decision, Reason, Scopes};
use record::{OrgId, OrgRole, Purpose, Role, TimeMs};
use std::sync::Arc;

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
    /// The app that acts for the user, and what it was given; none where people and programs of the organisation act by themselves.
    pub app: Option<Arc<App>>,
    /// What the gateway knows the login by, for what outlasts the request; none where nobody logged in. No token.
    pub login: Option<Arc<str>>,
    /// Since when the name is this person's: what was written under it before is somebody else's. None where that is not known, as of
    /// another issuer's users and of programs.
    pub person_since: Option<TimeMs>,
}

/// An app that somebody let act, or a program that acts for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The name that it is registered by.
    pub id: String,
    /// What it was given.
    pub scopes: Scopes,
    /// The Patient that it was launched for.
    pub patient: Option<String>,
}

impl App {
    /// A refusal, unless the app was given what it needs to do this with a record of the type that is about `patient`.
    pub(crate) fn refusal(&self, action: Action, fhir_type: &str, patient: Option<&str>) -> Option<Decision> {
        let covered = self.scopes.cover(action, fhir_type, patient, self.patient.as_deref());
        (!covered).then(|| self.not_given(action, fhir_type, "that record"))
    }

    /// A refusal, unless the app was given what it needs to do this with some records of the type.
    pub(crate) fn refusal_of_type(&self, action: Action, fhir_type: &str) -> Option<Decision> {
        (!self.scopes.touch(action, fhir_type)).then(|| self.not_given(action, fhir_type, "any record"))
    }

    /// A refusal, unless the app was given what it needs to look for records of the type whosever they are.
    pub(crate) fn refusal_of_condition(&self, fhir_type: &str) -> Option<Decision> {
        let anybody = self.scopes.cover(Action::Search, fhir_type, Some(""), None);
        (!anybody).then(|| self.not_given(Action::Search, fhir_type, "every record"))
    }

    fn not_given(&self, action: Action, fhir_type: &str, of: &str) -> Decision {
        let sentence = format!(
            "the app `{}` was given no scope for {} of {of} of type {fhir_type}: {}",
            self.id,
            action.as_str(),
            if self.scopes.is_empty() {
                "it was given none".to_owned()
            } else {
                format!("it was given {}", self.scopes)
            }
        );
        let reason = Reason { policy: "scope".to_owned(), sentence };
        Decision { allow: false, suppressed: false, reasons: vec![reason] }
    }
}

impl Caller {
    /// Whose something is that is kept for a caller: another app of the same user is somebody else.
    pub(crate) fn account(&self) -> String {
        self.app.as_ref().map_or_else(|| self.user.clone(), |app| format!("{} by {}", self.user, app.id))
    }

    /// The same caller, acting for another purpose.
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_an_app_is_not_for_another_one_of_the_same_user() {
        let app = |id: &str| Some(Arc::new(App { id: id.to_owned(), scopes: Scopes::default(), patient: None }));
        let user = Caller {
            user: "ana".to_owned(),
            role: Role::Doctor,
            org: "mercy".parse().unwrap(),
            org_role: OrgRole::Hospital,
            patient: None,
            purpose: Purpose::Treat,
            request: String::new(),
            address: String::new(),
            base: String::new(),
            app: None,
            login: None,
            person_since: None,
        };
        let chart = Caller { app: app("chart"), ..user.clone() };
        let other = Caller { app: app("other"), ..user.clone() };
        assert!(user.account() != chart.account() && chart.account() != other.account());
        assert_eq!(chart.account(), chart.for_purpose(Purpose::EmergencyTreat).account());
    }
}
