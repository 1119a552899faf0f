//! What an app asks for, and what of it it is given.
//!
//! Source: SMART App Launch 2.2, «Scopes and Launch Context».

use super::apps::App;
use policy::{Reach, Scopes};
use record::Role;

/// The scopes beside those on records.
pub(crate) const LAUNCHES: [&str; 7] =
    ["openid", "fhirUser", "profile", "launch", "launch/patient", "offline_access", "online_access"];
/// The longest list of scopes that is read, in bytes.
pub(crate) const SCOPE_BYTES_MAX: usize = 4 * 1024;

/// What an app is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// On records.
    pub(crate) records: Scopes,
    /// Of [`LAUNCHES`], in their order.
    others: Vec<&'static str>,
}

impl Given {
    /// What an app that a person lets in is given of what it asks for: nothing that it is not registered for, and nothing of programs.
    pub(crate) fn to_app(app: &App, asked: &str) -> Self {
        let shared = Scopes::among(asked).shared(&app.scopes());
        let [patient, user] = [Reach::Patient, Reach::User].map(|reach| shared.reaching(reach));
        let records = Scopes::among(&format!("{patient} {user}"));
        let is_asked = |scope: &str| asked.split_ascii_whitespace().any(|one| one == scope);
        let others = LAUNCHES.into_iter().filter(|scope| is_asked(scope) && app.may_ask(scope)).collect();
        Self { records, others }
    }

    /// What a program that acts for itself is given.
    pub(crate) fn to_service(app: &App, asked: &str) -> Self {
        let records = Scopes::among(asked).shared(&app.scopes()).reaching(Reach::System);
        Self { records, others: Vec::new() }
    }

    /// The same again, from what was written down; never more than the app is registered for by now.
    pub(crate) fn again(app: &App, written: &str) -> Self {
        if app.service.is_some() { Self::to_service(app, written) } else { Self::to_app(app, written) }
    }

    /// What is left of it when less is asked for.
    pub(crate) fn less(&self, asked: &str) -> Self {
        let records = Scopes::among(asked).shared(&self.records);
        let is_asked = |scope: &&'static str| asked.split_ascii_whitespace().any(|one| one == *scope);
        Self { records, others: self.others.iter().copied().filter(is_asked).collect() }
    }

    /// Whether it was given one of [`LAUNCHES`].
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.others.contains(&scope)
    }

    /// Whether nothing is left of what was asked for.
    pub(crate) fn is_nothing(&self) -> bool {
        self.records.is_empty() && self.others.is_empty()
    }

    /// Whether it is of use only when it is known which patient it is about.
    pub(crate) fn needs_patient(&self) -> bool {
        self.has("launch/patient") || !self.records.reaching(Reach::Patient).is_empty()
    }

    /// The list of scopes.
    pub(crate) fn scope(&self) -> String {
        let mut all: Vec<String> = self.others.iter().map(|one| (*one).to_owned()).collect();
        all.extend(self.records.iter().map(ToString::to_string));
        all.join(" ")
    }

    /// What it means, for the person who is asked, a sentence each.
    pub(crate) fn sentences(&self, role: Role) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .records
            .iter()
            .map(|scope| {
                let what = match (scope.looks(), scope.changes()) {
                    (true, true) => "look at and change",
                    (false, true) => "change",
                    _ => "look at",
                };
                let kind = scope.fhir_type().map_or("all records".to_owned(), |kind| format!("records of type {kind}"));
                match (scope.reach(), role) {
                    (Reach::Patient, Role::Patient) => format!("{what} {kind} about you"),
                    (Reach::Patient, _) => format!("{what} {kind} about the patient"),
                    (Reach::User | Reach::System, _) => format!("{what} {kind} that you may see"),
                }
            })
            .collect();
        if self.has("openid") || self.has("fhirUser") || self.has("profile") {
            sentences.push("learn who you are".to_owned());
        }
        if self.has("offline_access") {
            sentences.push("go on doing so when you are not there, until you end it at /account/apps".to_owned());
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::apps::public as app;

    #[test]
    fn an_app_is_given_what_it_asks_for_and_is_registered_for() {
        let chart = app("openid launch/patient patient/*.rs user/Patient.r system/*.rs");
        let given = Given::to_app(&chart, "launch/patient openid offline_access patient/*.read system/*.rs nonsense");
        assert_eq!(given.scope(), "openid launch/patient patient/*.rs");
        assert!(given.needs_patient() && given.has("openid") && !given.has("offline_access"));
        assert!(Given::to_app(&chart, "offline_access system/*.rs").is_nothing());
        assert!(!Given::to_app(&chart, "user/Patient.rs").needs_patient());
        assert_eq!(Given::to_service(&chart, "system/Patient.cruds patient/*.rs").scope(), "system/Patient.rs");
    }

    #[test]
    fn what_was_given_shrinks_with_the_registration_and_never_grows() {
        let given = Given::to_app(&app("patient/*.rs"), "patient/Observation.rs");
        assert_eq!(Given::again(&app("patient/*.cruds"), &given.scope()).scope(), "patient/Observation.rs");
        assert_eq!(Given::again(&app("patient/Observation.r"), &given.scope()).scope(), "patient/Observation.r");
        assert!(Given::again(&app("patient/Claim.r"), &given.scope()).is_nothing());
        assert_eq!(given.less("openid patient/*.r").scope(), "patient/Observation.r");
    }

    #[test]
    fn what_is_given_is_told_in_sentences() {
        let chart = app("openid offline_access patient/*.rs patient/Condition.cud user/Task.cruds");
        let given = Given::to_app(&chart, "openid offline_access patient/*.rs patient/Condition.cud user/Task.cruds");
        assert_eq!(
            given.sentences(Role::Patient),
            [
                "look at all records about you",
                "change records of type Condition about you",
                "look at and change records of type Task that you may see",
                "learn who you are",
                "go on doing so when you are not there, until you end it at /account/apps"
            ]
        );
    }
}
