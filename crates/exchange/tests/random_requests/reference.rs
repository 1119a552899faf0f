//! Who may do what, written once more from the rules in words: roles, purposes, cases, claims, glass, consents, labels and scopes of apps.
//!
//! Nothing here calls Cedar, crate `policy` or the node: what both come to must be the same. Sources: the roles and purposes of the
//! clinical reference, `docs/access.md` and decisions 36 to 38.

/// Which member: its place in [`ORGS`].
pub(crate) type Org = usize;

pub(crate) const ORGS: [&str; 4] = ["mercy", "rescue", "acme", "inspectorate"];
pub(crate) const MERCY: Org = 0;
pub(crate) const RESCUE: Org = 1;
pub(crate) const ACME: Org = 2;
pub(crate) const INSPECTORATE: Org = 3;

/// HL7 v3 ActReason: each with those that it is a kind of.
pub(crate) const PURPOSES: [(&str, &[&str]); 15] = [
    ("TREAT", &[]),
    ("ETREAT", &["TREAT"]),
    ("BTG", &["ETREAT", "TREAT"]),
    ("HPAYMT", &[]),
    ("CLMATTCH", &["HPAYMT"]),
    ("COVAUTH", &["HPAYMT"]),
    ("REMITADV", &["HPAYMT"]),
    ("COVERAGE", &["HPAYMT"]),
    ("ELIGVER", &["COVERAGE", "HPAYMT"]),
    ("HOPERAT", &[]),
    ("HCOMPL", &["HOPERAT"]),
    ("FRAUD", &["HOPERAT"]),
    ("PATADMIN", &["HOPERAT"]),
    ("HSYSADMIN", &["HOPERAT"]),
    ("PATRQT", &[]),
];

fn is_a(purpose: &str, other: &str) -> bool {
    purpose == other || PURPOSES.iter().any(|(name, above)| *name == purpose && above.contains(&other))
}

/// Why an insurer or a billing office acts.
const PAYMENT: [&str; 6] = ["HPAYMT", "CLMATTCH", "COVAUTH", "REMITADV", "COVERAGE", "ELIGVER"];
/// What stays open in an emergency whatever was refused, and all that a responder sees of other organisations' records.
const BASIC: [&str; 7] = [
    "Patient",
    "RelatedPerson",
    "AllergyIntolerance",
    "MedicationStatement",
    "MedicationRequest",
    "Immunization",
    "Condition",
];

/// Which of the seven record types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sensed,
    Analytics,
    MedicalRecord,
    MedicalService,
    Insurance,
    Claims,
    Permission,
}

impl Kind {
    fn is_clinical(self) -> bool {
        matches!(self, Self::Sensed | Self::Analytics | Self::MedicalRecord | Self::MedicalService)
    }
}

/// Somebody who asks, and perhaps the app that asks for them.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) user: &'static str,
    pub(crate) role: &'static str,
    pub(crate) org: Org,
    /// Of a patient's login: whose, by its place in the world.
    pub(crate) patient: Option<usize>,
    pub(crate) app: Option<Given>,
}

/// What an app was given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// Reach, type (`*` for all) and letters of each scope.
    pub(crate) scopes: Vec<(&'static str, &'static str, &'static str)>,
    pub(crate) launched: Option<usize>,
}

impl Given {
    /// Whether it may do this with some record of the type.
    fn touches(&self, letter: char, rtype: &str) -> bool {
        self.scopes.iter().any(|(_, of, letters)| (*of == "*" || *of == rtype) && letters.contains(letter))
    }

    fn covers(&self, letter: char, rtype: &str, patient: Option<usize>) -> bool {
        let everybodys = ["Practitioner", "Organization", "Location", "Medication"];
        self.scopes.iter().any(|(reach, of, letters)| {
            let its_patient = self.launched.is_some() && patient == self.launched;
            let shared = patient.is_none() && "rs".contains(letter) && everybodys.contains(&rtype);
            (*of == "*" || *of == rtype) && letters.contains(letter) && (*reach != "patient" || its_patient || shared)
        })
    }
}

/// One version of a record, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) author: Org,
    /// Who of its people.
    pub(crate) by: &'static str,
    /// What `meta.security` says.
    pub(crate) label: &'static str,
    /// The sensitive category of its code, and the label that it stands for.
    pub(crate) category: Option<(&'static str, &'static str)>,
    pub(crate) deleted: bool,
    /// A result of analytics, by what it is derived from.
    pub(crate) derived: bool,
    /// The code that searches ask for: a LOINC code of an Observation, the status of an Encounter.
    pub(crate) code: &'static str,
    /// The record that it refers to, by its place in the world.
    pub(crate) encounter: Option<usize>,
    /// Of a Claim or Coverage: whether it is addressed to the insurer, and what it links.
    pub(crate) to_insurer: bool,
    pub(crate) links: Vec<usize>,
}

impl Version {
    pub(crate) fn plain(author: Org) -> Self {
        Self {
            author,
            by: "keeper",
            label: "N",
            category: None,
            deleted: false,
            derived: false,
            code: "",
            encounter: None,
            to_insurer: false,
            links: Vec::new(),
        }
    }

    fn is_restricted(&self) -> bool {
        ["R", "V"].contains(&self.strictest())
    }

    /// The stricter of its own label and its category's.
    fn strictest(&self) -> &'static str {
        let category = self.category.map_or("", |(_, label)| label);
        if rank(category) > rank(self.label) { category } else { self.label }
    }
}

fn rank(label: &str) -> usize {
    ["U", "L", "M", "N", "R", "V"].iter().position(|one| *one == label).unwrap_or(0)
}

#[derive(Debug, Clone)]
pub(crate) struct Rec {
    pub(crate) rtype: &'static str,
    pub(crate) id: String,
    /// Whose, by the patient's place.
    pub(crate) patient: Option<usize>,
    pub(crate) versions: Vec<Version>,
}

impl Rec {
    pub(crate) fn current(&self) -> &Version {
        self.versions.last().unwrap()
    }
}

/// Whom a provision means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Actor {
    /// People of a member.
    Org(Org),
    /// One person of a member.
    User(Org, &'static str),
    /// Somebody, by their own record, who acts for the patient.
    Delegate(usize),
}

/// What a provision names by its security label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Label {
    Level(&'static str),
    Category(&'static str),
}

/// One provision with its exceptions.
#[derive(Debug, Clone)]
pub(crate) struct Provision {
    pub(crate) permits: bool,
    pub(crate) actor: Option<Actor>,
    pub(crate) purposes: Option<Vec<&'static str>>,
    pub(crate) class: Option<&'static str>,
    pub(crate) label: Option<Label>,
    pub(crate) is_over: bool,
    pub(crate) nested: Vec<Provision>,
}

/// A Consent of a patient in force.
#[derive(Debug, Clone)]
pub(crate) struct Consent {
    pub(crate) patient: usize,
    pub(crate) record: usize,
    pub(crate) root: Provision,
}

/// What consents come to, from the weakest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Nothing,
    Permit,
    /// A permission that names what is restricted, or a delegate.
    Named,
    Deny,
}

/// Everything that decisions rest on.
#[derive(Default)]
pub(crate) struct World {
    /// Places of the Patients among the records.
    pub(crate) patients: Vec<usize>,
    pub(crate) records: Vec<Rec>,
    pub(crate) consents: Vec<Consent>,
    /// Who broke the glass for whom.
    pub(crate) glass: Vec<(Org, &'static str, usize)>,
    /// Patients whom the inspectorate investigates.
    pub(crate) cases: Vec<usize>,
}

/// What somebody wants to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Read,
    Search,
    Create,
    Update,
    Delete,
}

impl Act {
    fn letter(self) -> char {
        match self {
            Self::Read => 'r',
            Self::Search => 's',
            Self::Create => 'c',
            Self::Update => 'u',
            Self::Delete => 'd',
        }
    }

    fn looks(self) -> bool {
        matches!(self, Self::Read | Self::Search)
    }
}

/// The record that is asked for, in the version that counts.
pub(crate) struct Asked<'a> {
    pub(crate) rtype: &'a str,
    /// Its place, if it is there already.
    pub(crate) place: Option<usize>,
    pub(crate) patient: Option<usize>,
    pub(crate) version: &'a Version,
}

fn kind(rtype: &str, version: &Version) -> Kind {
    match rtype {
        "Observation" if version.derived => Kind::Analytics,
        "Observation" => Kind::Sensed,
        "RiskAssessment" => Kind::Analytics,
        "Patient" | "AllergyIntolerance" | "Condition" => Kind::MedicalRecord,
        "Coverage" => Kind::Insurance,
        "Claim" => Kind::Claims,
        "Consent" | "Practitioner" | "Organization" => Kind::Permission,
        _ => Kind::MedicalService,
    }
}

impl World {
    /// Whether an app may do this with records of a type at all: a type that it was not given is refused as such.
    pub(crate) fn may_touch(&self, who: &Who, act: Act, rtype: &str) -> bool {
        who.app.as_ref().is_none_or(|app| app.touches(act.letter(), rtype))
    }

    /// Whether somebody may do this with the current version of a record.
    pub(crate) fn may_now(&self, who: &Who, purpose: &str, act: Act, place: usize) -> bool {
        self.may_with(who, purpose, act, place, self.records[place].current())
    }

    /// The same with one of its versions.
    pub(crate) fn may_with(&self, who: &Who, purpose: &str, act: Act, place: usize, version: &Version) -> bool {
        let record = &self.records[place];
        let asked = Asked { rtype: record.rtype, place: Some(place), patient: record.patient, version };
        self.may(who, purpose, act, &asked)
    }

    /// The decision.
    pub(crate) fn may(&self, who: &Who, purpose: &str, act: Act, asked: &Asked<'_>) -> bool {
        let Asked { rtype, patient, version, .. } = *asked;
        if who.app.as_ref().is_some_and(|app| !app.covers(act.letter(), rtype, patient)) {
            return false;
        }
        let kind = kind(rtype, version);
        // Ambulances keep no claim documents.
        if !act.looks() && who.org == RESCUE && kind == Kind::Claims {
            return false;
        }
        let care = ["responder", "doctor", "nurse"].contains(&who.role);
        let glass = patient.is_some_and(|patient| self.glass.contains(&(who.org, who.user, patient)));
        // Broken glass is for care, and must be broken.
        if purpose == "BTG" && !(care && glass) {
            return false;
        }
        let consent = self.consents_say(who, purpose, asked);
        let is_own = who.role == "patient" && patient.is_some() && who.patient == patient;
        let delegate = who.role == "patient" && !is_own && consent == Says::Named && purpose == "PATRQT";
        if who.role == "patient" && patient.is_some() && !is_own && !delegate {
            return false;
        }
        if version.is_restricted() && act != Act::Create {
            let opened = match who.role {
                "patient" | "compliance" | "custodian" => true,
                // Whoever wrote what is restricted by its codes knows what it says, for treatment, unless the patient refuses it.
                _ if act.looks()
                    && care
                    && purpose == "TREAT"
                    && (version.author, version.by) == (who.org, who.user)
                    && rank(version.label) < rank("R")
                    && consent != Says::Deny =>
                {
                    true
                }
                _ if care => purpose == "BTG" || (purpose == "TREAT" && consent == Says::Named),
                _ => false,
            };
            if !opened {
                return false;
            }
        }
        if act.looks() && consent == Says::Deny && who.role != "patient" {
            let stays = purpose == "ETREAT"
                && (matches!(kind, Kind::Sensed | Kind::Analytics)
                    || BASIC.contains(&rtype)
                    || version.author == who.org);
            if !stays {
                return false;
            }
        }
        if !act.looks() && rtype == "Consent" && !["patient", "custodian"].contains(&who.role) {
            return false;
        }
        let treats = purpose == "TREAT" || purpose == "ETREAT";
        let directory = patient.is_none() && ["Practitioner", "Organization"].contains(&rtype);
        // Where the custodian keeps nothing of the kind: insurers keep insurance and claims, inspectors no records at all.
        if who.role == "custodian" {
            return match who.org {
                INSPECTORATE => false,
                ACME if !matches!(kind, Kind::Insurance | Kind::Claims) => false,
                _ if directory && act.looks() => true,
                _ => {
                    purpose == "HSYSADMIN"
                        && (act == Act::Create || version.author == who.org || (act.looks() && patient.is_none()))
                }
            };
        }
        if directory && act.looks() {
            return true;
        }
        match (who.role, act) {
            ("patient", Act::Read | Act::Search) => purpose == "PATRQT" && (is_own || delegate),
            ("patient", Act::Create | Act::Update) => purpose == "PATRQT" && rtype == "Consent" && (is_own || delegate),
            ("doctor" | "nurse", Act::Read | Act::Search) => (treats || purpose == "BTG") && kind.is_clinical(),
            ("doctor" | "nurse" | "responder", Act::Create | Act::Update) => {
                (treats || purpose == "BTG") && kind.is_clinical() && kind != Kind::Analytics
            }
            ("responder", Act::Read | Act::Search) if purpose == "BTG" => kind.is_clinical(),
            ("responder", Act::Read | Act::Search) => {
                let own = version.author == who.org && matches!(kind, Kind::MedicalRecord | Kind::MedicalService);
                treats && (matches!(kind, Kind::Sensed | Kind::Analytics) || BASIC.contains(&rtype) || own)
            }
            ("dispatcher", act) => treats && act != Act::Delete && ["Patient", "Encounter"].contains(&rtype),
            ("administrator", Act::Read | Act::Search) => {
                (PAYMENT.contains(&purpose) || purpose == "PATADMIN")
                    && (matches!(kind, Kind::Insurance | Kind::Claims) || ["Patient", "Encounter"].contains(&rtype))
            }
            ("administrator", Act::Create | Act::Update) => {
                PAYMENT.contains(&purpose) && purpose != "REMITADV" && ["Coverage", "Claim"].contains(&rtype)
            }
            ("insurer", Act::Read | Act::Search) => PAYMENT.contains(&purpose) && self.is_linked(who.org, asked),
            ("compliance", Act::Read | Act::Search) => {
                ["HCOMPL", "FRAUD"].contains(&purpose) && patient.is_some_and(|patient| self.cases.contains(&patient))
            }
            ("engine", Act::Create | Act::Update) => {
                purpose == "TREAT" && matches!(kind, Kind::Sensed | Kind::Analytics | Kind::MedicalService)
            }
            _ => false,
        }
    }

    /// What an insurer wrote itself, and what a claim, request or coverage addressed to it is or names.
    fn is_linked(&self, org: Org, asked: &Asked<'_>) -> bool {
        let (Some(patient), Some(place)) = (asked.patient, asked.place) else { return asked.version.author == org };
        let links = |(at, record): (usize, &Rec)| {
            let version = record.current();
            let names = at == place || version.links.contains(&place) || self.patients[patient] == place;
            record.patient == Some(patient) && version.to_insurer && !version.deleted && names
        };
        asked.version.author == org || self.records.iter().enumerate().any(links)
    }

    /// What the patient's consents say; they are not asked where no rule weighs them.
    fn consents_say(&self, who: &Who, purpose: &str, asked: &Asked<'_>) -> Says {
        let Some(patient) = asked.patient else { return Says::Nothing };
        let as_delegate = who.role == "patient" && who.patient != Some(patient);
        let everyday = is_a(purpose, "HPAYMT") || (is_a(purpose, "TREAT") && purpose != "BTG");
        // A patient asks for the own records, or as somebody's delegate; it is treated and billed by others.
        if !as_delegate && (!everyday || ["engine", "device"].contains(&who.role)) {
            return Says::Nothing;
        }
        let of = Use { who, purpose, asked, as_delegate };
        let of_patient = self.consents.iter().filter(|consent| consent.patient == patient);
        of_patient.map(|consent| of.weigh(&consent.root, &Criteria::default())).max().unwrap_or(Says::Nothing)
    }
}

/// A use that consents are held against.
struct Use<'a> {
    who: &'a Who,
    purpose: &'a str,
    asked: &'a Asked<'a>,
    as_delegate: bool,
}

/// What a provision has from those around it.
#[derive(Clone, Default)]
struct Criteria {
    actor: Option<Actor>,
    purposes: Option<Vec<&'static str>>,
    class: Option<&'static str>,
    label: Option<Label>,
    is_over: bool,
}

impl Use<'_> {
    /// An exception decides where it applies; what it does not state it has from the provision around it.
    fn weigh(&self, provision: &Provision, around: &Criteria) -> Says {
        let criteria = Criteria {
            actor: provision.actor.clone().or_else(|| around.actor.clone()),
            purposes: provision.purposes.clone().or_else(|| around.purposes.clone()),
            class: provision.class.or(around.class),
            label: provision.label.or(around.label),
            is_over: provision.is_over || around.is_over,
        };
        let exception = provision.nested.iter().map(|nested| self.weigh(nested, &criteria)).max();
        match exception {
            Some(said) if said != Says::Nothing => said,
            _ if !self.applies(&criteria, provision.permits) => Says::Nothing,
            _ if !provision.permits => Says::Deny,
            _ if self.as_delegate || (criteria.label.is_some() && self.asked.version.is_restricted()) => Says::Named,
            _ => Says::Permit,
        }
    }

    fn applies(&self, criteria: &Criteria, permits: bool) -> bool {
        let who = match &criteria.actor {
            None => !self.as_delegate,
            Some(Actor::Org(org)) => !self.as_delegate && self.who.org == *org,
            Some(Actor::User(org, user)) => !self.as_delegate && (self.who.org, self.who.user) == (*org, *user),
            Some(Actor::Delegate(patient)) => self.as_delegate && self.who.patient == Some(*patient),
        };
        let purpose =
            criteria.purposes.as_ref().is_none_or(|named| named.iter().any(|named| is_a(self.purpose, named)));
        let class = criteria.class.is_none_or(|class| class == self.asked.rtype);
        let version = self.asked.version;
        let label = match criteria.label {
            None => true,
            Some(Label::Level(level)) if permits => rank(version.strictest()) <= rank(level),
            Some(Label::Level(level)) => rank(version.strictest()) >= rank(level),
            Some(Label::Category(named)) => version.category.is_some_and(|(category, _)| category == named),
        };
        who && purpose && class && label && !criteria.is_over
    }
}
