//! An organisation of the consortium: its name and what it is in law.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest organisation name, in bytes.
pub const ORG_ID_BYTES_MAX: usize = 32;

/// Name of a member organisation: 1 to 32 of `a-z`, `0-9` and `-`, starting with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
// INVARIANT: the characters and length promised above.
pub struct OrgId(String);

/// Why a text is no organisation name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an organisation's name has 1 to 32 of `a-z`, `0-9` and `-`, and starts with a letter")]
pub struct BadOrgId;

impl OrgId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OrgId {
    type Err = BadOrgId;
    fn from_str(text: &str) -> Result<Self, BadOrgId> {
        let fits = (1..=ORG_ID_BYTES_MAX).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(BadOrgId) }
    }
}
impl TryFrom<String> for OrgId {
    type Error = BadOrgId;
    fn try_from(text: String) -> Result<Self, BadOrgId> {
        text.parse()
    }
}
impl From<OrgId> for String {
    fn from(org: OrgId) -> Self {
        org.0
    }
}
impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl<C> Encode<C> for OrgId {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}
impl<'b, C> Decode<'b, C> for OrgId {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(|_| decode::Error::message("not an organisation's name"))
    }
}

/// What an organisation is in the consortium. The contract checks it; people's roles are [`crate::Role`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum OrgRole {
    /// Emergency medical service: dispatch, ambulances, first responders.
    #[n(0)]
    Ems,
    /// Provider of care: emergency room, wards, billing office.
    #[n(1)]
    Hospital,
    /// Payer of claims.
    #[n(2)]
    Insurer,
    /// Regulator or auditor: reads within a case, writes nothing clinical.
    #[n(3)]
    Compliance,
}

impl OrgRole {
    /// Every role, in encoding order.
    pub const ALL: [Self; 4] = [Self::Ems, Self::Hospital, Self::Insurer, Self::Compliance];

    /// Lower-case name, as in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ems => "ems",
            Self::Hospital => "hospital",
            Self::Insurer => "insurer",
            Self::Compliance => "compliance",
        }
    }
}
impl FromStr for OrgRole {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown organisation role `{text}`: use ems, hospital, insurer or compliance"))
    }
}
impl fmt::Display for OrgRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        assert!("general-hospital-2".parse::<OrgId>().is_ok());
        for bad in ["", "2nd", "Hospital", "a b", "a/b", "häuser", &"a".repeat(33)] {
            assert_eq!(bad.parse::<OrgId>(), Err(BadOrgId), "{bad}");
        }
    }
}
