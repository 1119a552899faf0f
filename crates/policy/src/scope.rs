//! What a person gave an app: SMART scopes on resources. They narrow what its user may do, and never widen it.
//!
//! Source: HL7 SMART App Launch 2.2, «Scopes for requesting FHIR Resources»: `patient/Observation.rs`; the words of version 1, `.read`,
//! `.write` and `.*`, mean `.rs`, `.cud` and `.cruds` as stated there.

use crate::Action;
use std::{fmt, str::FromStr};

/// The most scopes that are read in one list.
pub const SCOPES_MAX: usize = 128;

/// Letters of what may be done, in the order that they are written in.
const LETTERS: [(char, u8); 5] = [('c', 1), ('r', 2), ('u', 4), ('d', 8), ('s', 16)];

/// Types of records that are about no patient, and that whoever reads a patient's records needs because they refer to them.
pub const SHARED_TYPES: [&str; 7] =
    ["HealthcareService", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance"];

/// Whose records a scope is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Those of the patient that the app was launched for, and, to look at, those that are about nobody and that such records refer to.
    Patient,
    /// Those that the user reaches.
    User,
    /// Those that the program reaches, which has no user.
    System,
}

impl Reach {
    fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// One scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    reach: Reach,
    /// A FHIR type; every type when there is none.
    fhir_type: Option<String>,
    letters: u8,
}

/// Why a text is no scope that can be given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadScope {
    /// No scope on resources at all.
    #[error("write a scope as `patient/Observation.rs`")]
    Form,
    /// A scope on a part of a type.
    #[error("scopes on parts of a type, such as `?category=`, are not given here")]
    Part,
}

impl Scope {
    /// Whose records it is about.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The FHIR type; every type when there is none.
    pub fn fhir_type(&self) -> Option<&str> {
        self.fhir_type.as_deref()
    }

    /// Whether it lets somebody look.
    pub fn looks(&self) -> bool {
        self.letters & (2 | 16) != 0
    }

    /// Whether it lets somebody change.
    pub fn changes(&self) -> bool {
        self.letters & (1 | 4 | 8) != 0
    }

    /// Whether everything that `other` gives is given by this one.
    fn includes(&self, other: &Self) -> bool {
        self.reach == other.reach
            && (self.fhir_type.is_none() || self.fhir_type == other.fhir_type)
            && self.letters & other.letters == other.letters
    }

    /// What both give.
    fn shared(&self, other: &Self) -> Option<Self> {
        let letters = self.letters & other.letters;
        let fhir_type = match (&self.fhir_type, &other.fhir_type) {
            (None, some) | (some, None) => some.clone(),
            (Some(one), Some(two)) if one == two => Some(one.clone()),
            _ => return None,
        };
        (self.reach == other.reach && letters != 0).then_some(Self { reach: self.reach, fhir_type, letters })
    }
}

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        if text.contains('?') {
            return Err(BadScope::Part);
        }
        let (reach, rest) = text.split_once('/').ok_or(BadScope::Form)?;
        let reach = match reach {
            "patient" => Reach::Patient,
            "user" => Reach::User,
            "system" => Reach::System,
            _ => return Err(BadScope::Form),
        };
        let (kind, may) = rest.split_once('.').ok_or(BadScope::Form)?;
        let is_type = |kind: &str| {
            kind.starts_with(|one: char| one.is_ascii_uppercase())
                && kind.len() <= 64
                && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
        };
        let fhir_type = match kind {
            "*" => None,
            kind if is_type(kind) => Some(kind.to_owned()),
            _ => return Err(BadScope::Form),
        };
        let may = match may {
            "read" => "rs",
            "write" => "cud",
            "*" => "cruds",
            may => may,
        };
        // Each letter once, in the order of the standard.
        let (mut letters, mut order) = (0, LETTERS.iter());
        for letter in may.chars() {
            let (_, bit) = order.find(|(known, _)| *known == letter).ok_or(BadScope::Form)?;
            letters |= bit;
        }
        if letters == 0 {
            return Err(BadScope::Form);
        }
        Ok(Self { reach, fhir_type, letters })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.", self.reach.as_str(), self.fhir_type.as_deref().unwrap_or("*"))?;
        LETTERS.iter().filter(|(_, bit)| self.letters & bit != 0).try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

/// The scopes on resources that an app was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Those of a list with blanks in between, in which other scopes than those on resources may stand; what cannot be given is left out.
    pub fn among(list: &str) -> Self {
        let scopes = list.split_ascii_whitespace().take(SCOPES_MAX).filter_map(|one| one.parse().ok());
        Self::of(scopes)
    }

    fn of(scopes: impl Iterator<Item = Scope>) -> Self {
        let mut scopes: Vec<Scope> = scopes.collect();
        scopes.sort();
        scopes.dedup();
        let all = scopes.clone();
        scopes.retain(|one| !all.iter().any(|other| other != one && other.includes(one)));
        Self(scopes)
    }

    /// One by one, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What both lists give: what an app asks for, of what it is registered for.
    pub fn shared(&self, other: &Self) -> Self {
        Self::of(self.0.iter().flat_map(|one| other.0.iter().filter_map(|two| one.shared(two))))
    }

    /// Those about records of this reach.
    pub fn reaching(&self, reach: Reach) -> Self {
        Self(self.0.iter().filter(|one| one.reach == reach).cloned().collect())
    }

    /// Whether something of this type may be done that way, for some record.
    pub fn touch(&self, action: Action, fhir_type: &str) -> bool {
        self.0.iter().any(|one| fits(one, action, fhir_type))
    }

    /// Whether the app may do this with a record of this type that is about `patient`, when it was launched for `launched`.
    pub fn cover(&self, action: Action, fhir_type: &str, patient: Option<&str>, launched: Option<&str>) -> bool {
        // A record without a patient is not shared for that: whose an unknown person's is, nobody knows yet.
        let looks = matches!(action, Action::Read | Action::Search | Action::Export);
        let shared = patient.is_none() && looks && SHARED_TYPES.contains(&fhir_type);
        let of_launched = launched.is_some() && patient == launched;
        self.0.iter().any(|one| (one.reach != Reach::Patient || shared || of_launched) && fits(one, action, fhir_type))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Whether a scope lets this be done with records of the type. What no letter stands for, such as breaking the glass, is not done by apps.
fn fits(scope: &Scope, action: Action, fhir_type: &str) -> bool {
    let letter = match action {
        Action::Create => 1,
        Action::Read | Action::Summary | Action::ReadFrames | Action::Export => 2,
        Action::Update => 4,
        Action::Delete => 8,
        Action::Search => 16,
        Action::Prove
        | Action::OpenOverride
        | Action::CloseOverride
        | Action::ReviewOverride
        | Action::BindDevice
        | Action::SendFrame
        | Action::Acknowledge
        | Action::HandOff
        | Action::Investigate
        | Action::Operate
        | Action::Govern
        | Action::Hold
        | Action::Erase => return false,
    };
    scope.letters & letter != 0 && scope.fhir_type.as_deref().is_none_or(|kind| kind == fhir_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written_in_the_words_of_version_two() {
        let check = |text: &str, expected: Result<&str, BadScope>| {
            assert_eq!(text.parse::<Scope>().map(|scope| scope.to_string()), expected.map(str::to_owned), "{text}");
        };
        check("patient/Observation.rs", Ok("patient/Observation.rs"));
        check("user/*.cruds", Ok("user/*.cruds"));
        check("system/Patient.read", Ok("system/Patient.rs"));
        check("patient/*.write", Ok("patient/*.cud"));
        check("patient/*.*", Ok("patient/*.cruds"));
        check("patient/Observation.rs?category=laboratory", Err(BadScope::Part));
        let wrong = [
            "openid",
            "launch/patient",
            "patient/Observation",
            "patient/Observation.",
            "patient/Observation.sr",
            "patient/Observation.rr",
            "patient/Observation.x",
            "patients/Observation.r",
            "patient/observation.r",
            "patient/.r",
            "patient/*x.r",
            "",
            "/.",
            "patient/Obs/ervation.r",
            "patient/Observation.rs.rs",
        ];
        wrong.iter().for_each(|text| check(text, Err(BadScope::Form)));
    }

    #[test]
    fn an_app_does_what_its_scopes_say_with_the_patient_it_was_launched_for() {
        let scopes = Scopes::among("openid patient/Observation.rs patient/Condition.c user/Patient.r launch/patient");
        let may = |action, kind, patient| scopes.cover(action, kind, patient, Some("ilse"));
        assert!(may(Action::Read, "Observation", Some("ilse")) && may(Action::Search, "Observation", Some("ilse")));
        assert!(!may(Action::Read, "Observation", None), "an unknown person's");
        let any = Scopes::among("patient/*.cruds");
        assert!(any.cover(Action::Read, "Medication", None, Some("ilse")), "what a prescription refers to");
        assert!(!any.cover(Action::Update, "Medication", None, Some("ilse")), "it is everybody's");
        assert!(
            !any.cover(Action::Read, "AuditEvent", None, Some("ilse")) && !any.cover(Action::Read, "Group", None, None)
        );
        assert!(!may(Action::Read, "Observation", Some("other")), "another patient's");
        assert!(!may(Action::Update, "Observation", Some("ilse")) && !may(Action::Read, "Condition", Some("ilse")));
        assert!(may(Action::Create, "Condition", Some("ilse")));
        assert!(may(Action::Read, "Patient", Some("other")), "a scope of the user's");
        assert!(!may(Action::Search, "Patient", Some("other")));
        assert!(!scopes.cover(Action::Read, "Observation", Some("ilse"), None), "launched for nobody");
        assert!(scopes.touch(Action::Search, "Observation") && !scopes.touch(Action::Search, "Condition"));
    }

    #[test]
    fn apps_do_nothing_that_no_scope_speaks_of() {
        let all = Scopes::among("patient/*.cruds user/*.cruds system/*.cruds");
        let spoken_of: Vec<Action> =
            Action::ALL.iter().copied().filter(|action| all.cover(*action, "Patient", None, None)).collect();
        use Action::{Create, Delete, Export, Read, ReadFrames, Search, Summary, Update};
        assert_eq!(spoken_of, [Read, Search, Summary, ReadFrames, Export, Create, Update, Delete]);
    }

    #[test]
    fn what_an_app_gets_is_what_it_asks_for_of_what_it_is_registered_for() {
        let check = |asked: &str, registered: &str, given: &str| {
            let shared = Scopes::among(asked).shared(&Scopes::among(registered));
            assert_eq!(shared.to_string(), given, "{asked} of {registered}");
        };
        check(
            "patient/*.read",
            "patient/Observation.rs patient/Condition.r",
            "patient/Condition.r patient/Observation.rs",
        );
        check("patient/Observation.cruds", "patient/*.rs", "patient/Observation.rs");
        check("user/*.rs", "patient/*.rs", "");
        check("patient/*.rs patient/Observation.r", "patient/*.cruds", "patient/*.rs");
        check("patient/Claim.c", "patient/Claim.rs", "");
        check("", "patient/*.cruds", "");
    }
}
