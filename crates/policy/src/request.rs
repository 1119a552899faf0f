//! What is asked: who wants to do what to which record, under which facts.

use record::{OrgId, OrgRole, Purpose, RecordType, Role};
use serde::Deserialize;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident),+ $(,)?) => {
        /// What somebody wants to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub enum Action { $($(#[$doc])* $variant),+ }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Its name in the policies.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }
    };
}

actions! {
    /// See one record.
    Read,
    /// See a record among the matches of a search.
    Search,
    /// See a record within the patient summary.
    Summary,
    /// See frames and live streams.
    ReadFrames,
    /// Take evidence away.
    Prove,
    /// Take a copy of many records away; each of them is decided once more.
    Export,
    /// Write a new record.
    Create,
    /// Write a new version.
    Update,
    /// Delete.
    Delete,
    /// Break the glass.
    OpenOverride,
    /// Put the glass back.
    CloseOverride,
    /// Review broken glass.
    ReviewOverride,
    /// Attach a device to a patient, or take it off.
    BindDevice,
    /// Send a frame.
    SendFrame,
    /// Acknowledge an alarm.
    Acknowledge,
    /// Hand a patient over to another team, or take over.
    HandOff,
    /// Open or conclude a case.
    Investigate,
    /// Audit, recover.
    Operate,
    /// Propose policies and vote on them.
    Govern,
    /// Keep a patient's records from being erased, or let go.
    Hold,
    /// Erase a patient's records by destroying keys.
    Erase,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person<'a> {
    /// The user's name at its organisation.
    pub user: &'a str,
    /// From the token.
    pub role: Role,
    /// From the token.
    pub org: &'a OrgId,
    /// From the ledger.
    pub org_role: OrgRole,
    /// Of a patient's own login: the Patient's id.
    pub patient: Option<&'a str>,
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// FHIR type; one that R4 does not have is denied.
    pub fhir_type: &'a str,
    /// Which of the seven.
    pub record_type: RecordType,
    /// Whose record it is.
    pub patient: Option<&'a str>,
    /// Confidentiality code: U, L, M, N, R or V, and N for a record without one. Any other text counts as V.
    pub label: &'a str,
    /// The organisation that wrote it; of a new record, the one that writes.
    pub author: &'a OrgId,
}

/// What the patient's consents say of this use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consented {
    /// They permit it.
    Permit,
    /// They permit it, and name the label or the sensitive category of the record, which is restricted.
    Named,
    /// They make the person the patient's delegate.
    Delegate,
    /// They deny it.
    Deny,
    /// There is none.
    #[default]
    None,
}

impl Consented {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Named => "named",
            Self::Delegate => "delegate",
            Self::Deny => "deny",
            Self::None => "none",
        }
    }
}

/// What is known beside person and record; from ledger state and the organisation's own desk, never from the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// An override of this person for this patient is open, and its time is not up.
    pub break_glass: bool,
    /// What the patient's consents say.
    pub consent: Consented,
    /// A claim or request addressed to the person's organisation links the record.
    pub claim_linked: bool,
    /// The person's organisation investigates this patient.
    pub case_open: bool,
    /// The device is bound to this patient.
    pub device_bound: bool,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who.
    pub person: Person<'a>,
    /// What.
    pub action: Action,
    /// To which record.
    pub record: Record<'a>,
    /// Why, as the person says.
    pub purpose: Purpose,
    /// What else is known.
    pub facts: Facts,
}
