//! What a patient's Consent says of one use of one record: provisions within provisions, and what of them cannot be weighed.
//!
//! Source: FHIR R4 `consent.html`, and IHE ITI PCF 1.1 (profiles Basic, Intermediate, Advanced and their examples). A nested provision is
//! an exception to the one around it: it has that one's criteria but for those that it states itself, and where it applies, it decides.
//! All periods around it hold for it as well. What cannot be weighed holds for a refusal and does not hold for a permission.

mod period;
mod read;

#[cfg(test)]
mod tests;

pub use period::bounds;
pub use read::period;

use crate::{Consented, Person};
use record::{OrgId, Purpose, Role, TimeMs, fhir::Confidentiality};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most provisions of a Consent that are weighed; those beyond count as refusals that cannot be weighed.
pub const PROVISIONS_MAX: usize = 256;
/// How deep they are nested at most.
pub const PROVISIONS_DEPTH_MAX: usize = 16;

/// The system of an organisation's own names for its users: `https://vitaltrace.org/org/mercy/user`.
pub fn user_system(org: &OrgId) -> String {
    format!("https://vitaltrace.org/org/{org}/user")
}

/// An active Consent, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Directive {
    root: Rule,
    /// Whether it is about privacy at all; unknown, when its scope is.
    is_privacy: Holds,
    unsupported: Vec<String>,
    references: Vec<String>,
}

/// Who acts, and why.
#[derive(Debug, Clone)]
pub struct Use<'a> {
    /// From the token.
    pub person: &'a Person<'a>,
    /// Why.
    pub purpose: Purpose,
    /// When.
    pub at: TimeMs,
    /// Whether something is written.
    pub changes: bool,
    /// What it is about.
    pub matter: Matter<'a>,
    /// Whom the literal references of [`Directive::references`] mean; one that is missing means nobody known.
    pub meant: &'a BTreeMap<String, Meant>,
}

/// The record that is used.
#[derive(Debug, Clone)]
pub struct Matter<'a> {
    /// FHIR type.
    pub fhir_type: &'a str,
    /// Its id, if it has one.
    pub id: Option<&'a str>,
    /// Who wrote it.
    pub author: &'a OrgId,
    /// How confidential it is.
    pub label: Confidentiality,
    /// Its sensitive categories, codes of HL7 v3 ActCode.
    pub categories: &'a [String],
    /// The resource, when it is at hand.
    pub resource: Option<&'a Value>,
}

/// Whom a record that a Consent refers to means: whoever is all of what is stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meant {
    /// People of this member.
    pub org: Option<OrgId>,
    /// This user of this member.
    pub user: Option<(OrgId, String)>,
    /// People in one of these roles.
    pub roles: Option<Vec<Role>>,
    /// The patient with this id.
    pub patient: Option<String>,
}

impl Meant {
    fn is(&self, person: &Person<'_>) -> Holds {
        if *self == Self::default() {
            return Holds::Unknown;
        }
        let org = self.org.as_ref().is_none_or(|org| org == person.org);
        let user = self.user.as_ref().is_none_or(|(org, user)| org == person.org && user == person.user);
        let role = self.roles.as_ref().is_none_or(|roles| roles.contains(&person.role));
        let patient = self.patient.as_ref().is_none_or(|patient| person.patient == Some(patient));
        Holds::from(org && user && role && patient)
    }
}

/// Whether a criterion holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Unknown,
}

impl From<bool> for Holds {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Holds {
    fn any(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::No, |any, one| match (any, one) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            _ => Self::No,
        })
    }

    fn all(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::Yes, |all, one| match (all, one) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            _ => Self::Yes,
        })
    }
}

/// One provision, with what it has from those around it.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    permits: Option<bool>,
    criteria: Criteria,
    /// Its own period and those around it; none is one that cannot be read.
    periods: Vec<Option<(TimeMs, TimeMs)>>,
    nested: Vec<Rule>,
}

/// What a provision asks for. Each is none where nothing is stated.
#[derive(Debug, Clone, Default, PartialEq)]
struct Criteria {
    actors: Option<Vec<Actor>>,
    /// Whether reading and whether writing is meant.
    actions: Option<Vec<Option<Deed>>>,
    labels: Option<Vec<Label>>,
    purposes: Option<Vec<Aim>>,
    /// FHIR types; none is a class of another kind.
    classes: Option<Vec<Option<String>>>,
    /// System and code; none is a concept without one.
    codes: Option<Vec<Option<(String, String)>>>,
    data: Option<Vec<Datum>>,
    /// Whether it states something else, which is not weighed.
    more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Reads,
    Changes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Actor {
    part: Part,
    who: Who,
}

/// What an actor of a provision has to do with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Gets to see it.
    Recipient,
    /// Wrote it, or keeps it.
    Origin,
    /// Acts for the patient.
    Delegate,
    /// Something else, which is not weighed.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Known(Meant),
    Literal(String),
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Level(Confidentiality),
    Category(String),
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Is(Purpose),
    /// A purpose that nobody here acts for.
    Elsewhere,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Datum {
    Instance(String),
    AuthoredBy(Who),
    Unknown,
}

/// What a Consent may say of a use, from the strictest that a caller has to reckon with on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Nothing,
    Permit,
    /// A permission that names the label or category of a restricted record.
    Named,
    Deny,
}

/// What a provision may come to, when some criteria are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Possible(u8);

impl Possible {
    const SAID: [Said; 4] = [Said::Nothing, Said::Permit, Said::Named, Said::Deny];

    fn only(said: Said) -> Self {
        Self(1 << said as u8)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, said: Said) -> bool {
        self.0 & 1 << said as u8 != 0
    }

    fn each(self) -> impl Iterator<Item = Said> {
        Self::SAID.into_iter().filter(move |said| self.has(*said))
    }

    /// Of provisions side by side a refusal outweighs a permission.
    fn beside(self, other: Self) -> Self {
        let pairs = self.each().flat_map(|one| other.each().map(move |another| one.max(another)));
        pairs.fold(Self(0), |all, said| all.or(Self::only(said)))
    }

    /// The least that it may come to for who wants to see.
    fn least(self) -> Said {
        if self.has(Said::Deny) {
            return Said::Deny;
        }
        self.each().next().unwrap_or(Said::Nothing)
    }
}

/// As whom somebody acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acting {
    ForThemselves,
    ForThePatient,
}

impl Directive {
    /// Reads a Consent; none when it is not active, or of a scope that is not about privacy.
    pub fn read(consent: &Value) -> Option<Self> {
        read::directive(consent)
    }

    /// What of it is not weighed, as FHIRPath. What stands there narrows what it permits, and widens what it refuses.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// The literal references of its actors, such as `Practitioner/1`.
    pub fn references(&self) -> &[String] {
        &self.references
    }

    /// Whether it asks for codes within records.
    pub fn looks_at_codes(&self) -> bool {
        self.root.looks_at_codes()
    }

    /// What it says of a use.
    pub fn says(&self, of: &Use<'_>) -> Consented {
        match self.least(of, Acting::ForThemselves) {
            Said::Nothing => Consented::None,
            Said::Permit => Consented::Permit,
            Said::Named => Consented::Named,
            Said::Deny => Consented::Deny,
        }
    }

    /// What it says of somebody who acts for the patient: that this is the patient's delegate, that it is not, or nothing.
    pub fn delegates(&self, of: &Use<'_>) -> Consented {
        match self.least(of, Acting::ForThePatient) {
            Said::Nothing => Consented::None,
            Said::Permit | Said::Named => Consented::Delegate,
            Said::Deny => Consented::Deny,
        }
    }

    fn least(&self, of: &Use<'_>, acting: Acting) -> Said {
        let said = self.root.possible(of, acting);
        match self.is_privacy {
            Holds::Yes => said.least(),
            Holds::Unknown => said.or(Possible::only(Said::Nothing)).least(),
            Holds::No => Said::Nothing,
        }
    }
}

impl Consented {
    /// What two Consents say together: a refusal outweighs a permission.
    pub fn and(self, other: Self) -> Self {
        let rank = |of: Self| match of {
            Self::None => 0,
            Self::Permit => 1,
            Self::Named | Self::Delegate => 2,
            Self::Deny => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl Rule {
    fn looks_at_codes(&self) -> bool {
        self.criteria.codes.is_some() || self.nested.iter().any(Self::looks_at_codes)
    }

    fn possible(&self, of: &Use<'_>, acting: Acting) -> Possible {
        let nested = self.nested.iter().map(|rule| rule.possible(of, acting));
        let nested = nested.fold(Possible::only(Said::Nothing), Possible::beside);
        let own = self.own(of, acting);
        nested.each().fold(Possible(0), |all, said| match said {
            Said::Nothing => all.or(own),
            said => all.or(Possible::only(said)),
        })
    }

    /// What it comes to by itself, without its exceptions.
    fn own(&self, of: &Use<'_>, acting: Acting) -> Possible {
        let Some(permits) = self.permits else { return Possible::only(Said::Nothing) };
        let periods = self.periods.iter().map(|period| match period {
            Some((start, end)) => Holds::from(*start <= of.at && of.at <= *end),
            None => Holds::Unknown,
        });
        let holds = Holds::all(periods.chain([self.criteria.hold(of, permits, acting)]));
        let said = match (permits, self.criteria.names_label(of)) {
            (false, _) => Said::Deny,
            (true, false) => Said::Permit,
            (true, true) => Said::Named,
        };
        match holds {
            Holds::Yes => Possible::only(said),
            Holds::No => Possible::only(Said::Nothing),
            Holds::Unknown => Possible::only(said).or(Possible::only(Said::Nothing)),
        }
    }
}

impl Criteria {
    fn hold(&self, of: &Use<'_>, permits: bool, acting: Acting) -> Holds {
        let stated = [
            Some(self.actors(of, acting)),
            self.actions.as_ref().map(|actions| actions_hold(actions, of)),
            self.labels.as_ref().map(|labels| labels_hold(labels, of, permits)),
            self.purposes.as_ref().map(|purposes| purposes_hold(purposes, of)),
            self.classes.as_ref().map(|classes| classes_hold(classes, of)),
            self.codes.as_ref().map(|codes| codes_hold(codes, of)),
            self.data.as_ref().map(|data| data_holds(data, of)),
            self.more.then_some(Holds::Unknown),
        ];
        Holds::all(stated.into_iter().flatten())
    }

    /// Who is meant. A provision is about delegates where it names some, and about everybody else where it does not.
    fn actors(&self, of: &Use<'_>, acting: Acting) -> Holds {
        let Some(actors) = &self.actors else { return Holds::from(acting == Acting::ForThemselves) };
        Holds::any(actors.iter().map(|actor| match (actor.part, acting) {
            (Part::Delegate, Acting::ForThePatient) | (Part::Recipient, Acting::ForThemselves) => {
                actor.who.is(of, |meant| meant.is(of.person))
            }
            (Part::Origin, Acting::ForThemselves) => actor.who.wrote(of),
            (Part::Other, _) => Holds::Unknown,
            _ => Holds::No,
        }))
    }

    /// Whether a permission says in so many words that it reaches what is restricted.
    fn names_label(&self, of: &Use<'_>) -> bool {
        of.matter.label >= Confidentiality::Restricted && self.labels.is_some()
    }
}

impl Who {
    fn is(&self, of: &Use<'_>, test: impl Fn(&Meant) -> Holds) -> Holds {
        match self {
            Self::Known(meant) => test(meant),
            Self::Literal(name) => of.meant.get(name).map_or(Holds::Unknown, test),
            Self::Unknown => Holds::Unknown,
        }
    }

    /// Whether the record comes from there. Of records only the organisation is known that wrote them.
    fn wrote(&self, of: &Use<'_>) -> Holds {
        self.is(of, |meant| match meant {
            Meant { org: Some(org), user: None, roles: None, patient: None } => Holds::from(org == of.matter.author),
            _ => Holds::Unknown,
        })
    }
}

fn actions_hold(actions: &[Option<Deed>], of: &Use<'_>) -> Holds {
    Holds::any(actions.iter().map(|action| match action {
        Some(Deed::Reads) => Holds::from(!of.changes),
        Some(Deed::Changes) => Holds::from(of.changes),
        None => Holds::Unknown,
    }))
}

/// A level is a high-water mark: a permission reaches up to it, a refusal from it upwards. A permission must name every category that the
/// record has, if it names any; a refusal one.
fn labels_hold(labels: &[Label], of: &Use<'_>, permits: bool) -> Holds {
    let Matter { label, categories, .. } = &of.matter;
    let unknown = labels.contains(&Label::Unknown).then_some(Holds::Unknown);
    let levels = labels.iter().filter_map(|named| match named {
        Label::Level(level) => Some(Holds::from(if permits { label <= level } else { label >= level })),
        _ => None,
    });
    let named: Vec<&String> = labels
        .iter()
        .filter_map(|named| match named {
            Label::Category(category) => Some(category),
            _ => None,
        })
        .collect();
    if !permits {
        let any = Holds::from(categories.iter().any(|category| named.contains(&category)));
        return Holds::any(levels.chain([any]).chain(unknown));
    }
    let mut all = Vec::from_iter(unknown);
    if labels.iter().any(|named| matches!(named, Label::Level(_))) {
        all.push(Holds::any(levels));
    }
    if !named.is_empty() {
        let every = !categories.is_empty() && categories.iter().all(|category| named.contains(&category));
        all.push(Holds::from(every));
    }
    Holds::all(all.into_iter())
}

fn purposes_hold(purposes: &[Aim], of: &Use<'_>) -> Holds {
    Holds::any(purposes.iter().map(|aim| match aim {
        Aim::Is(purpose) => Holds::from(of.purpose.is_a(*purpose)),
        Aim::Elsewhere => Holds::No,
        Aim::Unknown => Holds::Unknown,
    }))
}

fn classes_hold(classes: &[Option<String>], of: &Use<'_>) -> Holds {
    let holds = |class: &Option<String>| class.as_ref().map(|class| Holds::from(class == of.matter.fhir_type));
    Holds::any(classes.iter().map(|class| holds(class).unwrap_or(Holds::Unknown)))
}

fn codes_hold(codes: &[Option<(String, String)>], of: &Use<'_>) -> Holds {
    Holds::any(codes.iter().map(|code| match (code, of.matter.resource) {
        (Some((system, code)), Some(resource)) => {
            let mut found = false;
            crate::sensitivity::codings(resource, &mut |at, is| found |= at == system && is == code);
            Holds::from(found)
        }
        _ => Holds::Unknown,
    }))
}

fn data_holds(data: &[Datum], of: &Use<'_>) -> Holds {
    let Matter { fhir_type, id, .. } = of.matter;
    Holds::any(data.iter().map(|datum| match datum {
        Datum::Instance(name) => Holds::from(id.is_some_and(|id| name.split_once('/') == Some((fhir_type, id)))),
        Datum::AuthoredBy(who) => who.wrote(of),
        Datum::Unknown => Holds::Unknown,
    }))
}
