//! Who may: one Cedar decision with its reasons.
//!
//! [`Policy`] holds a validated set of Cedar policies; [`Policy::decide`] answers one [`Request`]. It is pure: the caller brings
//! everything that the decision rests on, role and organisation from a checked token, [`Facts`] from ledger state and the record
//! itself. Only the purpose of use is what the person says. [`Directive`] says what a patient's Consent has to do with a use,
//! [`Sensitivity`] what is restricted by its codes, and [`Property`] what no set of policies may break.

mod bundle;
mod cases;
mod consent;
mod decide;
mod diff;
mod load;
mod missing;
mod nesting;
mod property;
mod request;
mod scope;
mod sensitivity;
mod words;

pub use bundle::{BUNDLE_BYTES_MAX, Bundle};
pub use cases::{BadCases, CASES_BYTES_MAX, Cases};
pub use consent::{Directive, Matter, Meant, PROVISIONS_DEPTH_MAX, PROVISIONS_MAX, Use, bounds, period, user_system};
pub use decide::{Decision, Reason};
pub use diff::{Difference, KINDS_MAX, RecordKind, TooWide, difference};
pub use load::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, Document, LoadError, POLICIES_MAX, Policy};
pub use missing::Need;
pub use nesting::{BRACKETS_MAX, STEPS_MAX};
pub use property::{Holds, Property};
pub use request::{Action, Consented, Facts, Person, Record, Request};
pub use scope::{BadScope, Reach, SCOPES_MAX, SHARED_TYPES, Scope, Scopes};
pub use sensitivity::{BadSensitivity, SENSITIVITY_BYTES_MAX, Sensitive, Sensitivity};
