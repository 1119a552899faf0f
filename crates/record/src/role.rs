//! What a person or a program is allowed to be at an organisation's doors.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// Role of a principal, taken from its token and never from its request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum Role { $($(#[$doc])* $variant),+ }

        impl Role {
            /// Every role.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name used in tokens, policies and configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

roles! {
    /// The person whose data it is.
    Patient = "patient",
    /// Takes the emergency call and dispatches.
    Dispatcher = "dispatcher",
    /// Paramedic, emergency physician on the scene.
    Responder = "responder",
    /// Physician in a hospital.
    Doctor = "doctor",
    /// Nurse in a hospital.
    Nurse = "nurse",
    /// Registration, coverage and billing office of a provider.
    Administrator = "administrator",
    /// Case handler of an insurer.
    Insurer = "insurer",
    /// Officer of a compliance entity.
    Compliance = "compliance",
    /// Privacy officer of an organisation: reviews break-glass.
    PrivacyOfficer = "privacy-officer",
    /// Keeps records for an organisation: loads, amends, holds, erases.
    Custodian = "custodian",
    /// A medical device with a key of its own.
    Device = "device",
    /// An analytics engine.
    Engine = "engine",
}

/// A role name that is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{0}`")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}
impl TryFrom<String> for Role {
    type Error = UnknownRole;
    fn try_from(text: String) -> Result<Self, UnknownRole> {
        text.parse()
    }
}
impl From<Role> for &'static str {
    fn from(role: Role) -> Self {
        role.as_str()
    }
}
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
