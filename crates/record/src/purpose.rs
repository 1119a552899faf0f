//! Purpose of use: why somebody acts on a record.
//!
//! Source: HL7 v3 ActReason, `http://terminology.hl7.org/CodeSystem/v3-ActReason`, branch PurposeOfUse.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! purposes {
    ($($(#[$doc:meta])* $n:literal $variant:ident = $code:literal, parent $parent:expr, $display:literal;)+) => {
        /// A purpose of use that Vitaltrace decides by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
        #[serde(into = "&'static str", try_from = "String")]
        #[cbor(index_only)]
        pub enum Purpose { $($(#[$doc])* #[n($n)] $variant),+ }

        impl Purpose {
            /// Every purpose, in encoding order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The v3-ActReason code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
            /// The display text for people.
            pub fn display(self) -> &'static str {
                match self { $(Self::$variant => $display),+ }
            }
            /// The purpose that this one is a kind of.
            pub fn parent(self) -> Option<Self> {
                match self { $(Self::$variant => $parent),+ }
            }
        }
    };
}

purposes! {
    /// Treatment.
    0 Treat = "TREAT", parent None, "treatment";
    /// Emergency treatment. Never implies break-glass.
    1 EmergencyTreat = "ETREAT", parent Some(Self::Treat), "emergency treatment";
    /// Break the glass.
    2 BreakGlass = "BTG", parent Some(Self::EmergencyTreat), "break the glass";
    /// Healthcare payment.
    3 Payment = "HPAYMT", parent None, "healthcare payment";
    /// Matching claims.
    4 ClaimMatch = "CLMATTCH", parent Some(Self::Payment), "claim attachment";
    /// Coverage authorisation.
    5 CoverageAuth = "COVAUTH", parent Some(Self::Payment), "coverage authorization";
    /// Remittance advice.
    6 RemitAdvice = "REMITADV", parent Some(Self::Payment), "remittance advice";
    /// Coverage under policy.
    7 Coverage = "COVERAGE", parent Some(Self::Payment), "coverage under policy or program";
    /// Eligibility verification.
    8 Eligibility = "ELIGVER", parent Some(Self::Coverage), "eligibility verification";
    /// Healthcare operations.
    9 Operations = "HOPERAT", parent None, "healthcare operations";
    /// Compliance.
    10 Compliance = "HCOMPL", parent Some(Self::Operations), "health compliance";
    /// Fraud.
    11 Fraud = "FRAUD", parent Some(Self::Operations), "fraud";
    /// Patient administration.
    12 PatientAdmin = "PATADMIN", parent Some(Self::Operations), "patient administration";
    /// Health system administration.
    13 SystemAdmin = "HSYSADMIN", parent Some(Self::Operations), "health system administration";
    /// Patient requested.
    14 PatientRequest = "PATRQT", parent None, "patient requested";
}

/// The code system of [`Purpose::code`].
pub const PURPOSE_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

impl Purpose {
    /// Whether acting for `self` is acting for `other`: itself or one of its ancestors in the tree.
    pub fn is_a(self, other: Self) -> bool {
        let mut at = Some(self);
        while let Some(purpose) = at {
            if purpose == other {
                return true;
            }
            at = purpose.parent();
        }
        false
    }
}

/// A purpose code that is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown purpose of use `{0}`: use a v3-ActReason code such as TREAT, ETREAT, BTG, PATRQT or HCOMPL")]
pub struct UnknownPurpose(pub String);

impl FromStr for Purpose {
    type Err = UnknownPurpose;
    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        Self::ALL.iter().copied().find(|p| p.code() == text).ok_or_else(|| UnknownPurpose(text.to_owned()))
    }
}
impl TryFrom<String> for Purpose {
    type Error = UnknownPurpose;
    fn try_from(text: String) -> Result<Self, UnknownPurpose> {
        text.parse()
    }
}
impl From<Purpose> for &'static str {
    fn from(purpose: Purpose) -> Self {
        purpose.code()
    }
}
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emergency_treatment_is_treatment_but_never_break_glass() {
        assert!(Purpose::EmergencyTreat.is_a(Purpose::Treat));
        assert!(Purpose::BreakGlass.is_a(Purpose::EmergencyTreat));
        assert!(!Purpose::EmergencyTreat.is_a(Purpose::BreakGlass));
        assert!(!Purpose::PatientRequest.is_a(Purpose::Treat));
    }
}
