//! A Consent as JSON, read into rules: what of it is understood, and where it is not.

use super::{
    Actor, Aim, Criteria, Datum, Deed, Directive, Holds, Label, Meant, PROVISIONS_DEPTH_MAX, PROVISIONS_MAX, Part,
    Rule, Who, bounds, user_system,
};
use record::{OrgId, PURPOSE_SYSTEM, Role, TimeMs, fhir::Confidentiality};
use serde_json::Value;

/// The identifier system of member organisations in references.
const ORG_SYSTEM: &str = "https://vitaltrace.org/org";
const SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ROLE_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
const ACTION: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
const TYPES: &str = "http://hl7.org/fhir/resource-types";

/// Purposes beside those that anybody here acts for, and above none of them. Source: HL7 v3 ActReason.
const ELSEWHERE: [&str; 3] = ["HRESCH", "HMARKT", "PUBHLTH"];

/// Types whose records say whom they mean.
const MEANING: [&str; 5] = ["Organization", "Practitioner", "PractitionerRole", "RelatedPerson", "Patient"];

struct Reader {
    unsupported: Vec<String>,
    references: Vec<String>,
    provisions: usize,
}

pub(super) fn directive(consent: &Value) -> Option<Directive> {
    let is_privacy = match scope(&consent["scope"]) {
        Holds::No => return None,
        known => known,
    };
    if consent["status"] != "active" {
        return None;
    }
    let mut reader = Reader { unsupported: Vec::new(), references: Vec::new(), provisions: 0 };
    if is_privacy == Holds::Unknown {
        reader.unsupported("Consent.scope");
    }
    let mut root =
        reader.rule(&consent["provision"], "Consent.provision", 0, &Criteria::default(), &Vec::<Option<_>>::new());
    if root.permits.is_none() {
        root.permits = base(&consent["policyRule"]);
    }
    if !consent["modifierExtension"].is_null() {
        root.doubt();
        reader.unsupported("Consent.modifierExtension");
    }
    let Reader { unsupported, references, .. } = reader;
    Some(Directive { root, is_privacy, unsupported, references })
}

/// Whether it is about privacy. Source: code system `consentscope`: `adr`, `research` and `treatment` are about something else.
fn scope(concept: &Value) -> Holds {
    let codes: Vec<&str> = codings(concept).filter(|(system, _)| *system == SCOPE).map(|(_, code)| code).collect();
    match codes.as_slice() {
        [] => Holds::Unknown,
        codes if codes.contains(&"patient-privacy") => Holds::Yes,
        codes if codes.iter().all(|code| ["adr", "research", "treatment"].contains(code)) => Holds::No,
        _ => Holds::Unknown,
    }
}

/// What holds where no provision says otherwise. Source: HL7 v3 ActCode, `_ActConsentDirective`.
fn base(rule: &Value) -> Option<bool> {
    codings(rule).filter(|(system, _)| *system == ACT_CODE).find_map(|(_, code)| match code {
        "OPTIN" | "OPTINR" => Some(true),
        "OPTOUT" | "OPTOUTE" => Some(false),
        _ => None,
    })
}

/// System and code of each coding of a CodeableConcept.
fn codings(concept: &Value) -> impl Iterator<Item = (&str, &str)> {
    items(&concept["coding"]).filter_map(coding)
}

fn coding(coding: &Value) -> Option<(&str, &str)> {
    Some((coding["system"].as_str().unwrap_or_default(), coding["code"].as_str()?))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

impl Rule {
    /// Makes everything in it unknown.
    fn doubt(&mut self) {
        self.criteria.more = true;
        self.nested.iter_mut().for_each(Self::doubt);
    }
}

impl Reader {
    fn unsupported(&mut self, path: impl Into<String>) {
        self.unsupported.push(path.into());
    }

    /// Reads a provision with what it has from those around it.
    fn rule(
        &mut self,
        provision: &Value,
        path: &str,
        depth: usize,
        around: &Criteria,
        periods: &[Option<(TimeMs, TimeMs)>],
    ) -> Rule {
        self.provisions += 1;
        let mut periods = periods.to_vec();
        let mut criteria = around.clone();
        let mut permits = match provision["type"].as_str() {
            Some("permit") => Some(true),
            Some("deny") => Some(false),
            _ => None,
        };
        if depth > 0 && permits.is_none() {
            self.unsupported(format!("{path}.type"));
            (permits, criteria.more) = (Some(false), true);
        }
        if self.provisions > PROVISIONS_MAX || depth > PROVISIONS_DEPTH_MAX {
            self.unsupported(path);
            criteria.more = true;
            return Rule { permits: Some(false), criteria, periods, nested: Vec::new() };
        }
        if !provision["period"].is_null() {
            let period = period(&provision["period"]);
            if period.is_none() {
                self.unsupported(format!("{path}.period"));
            }
            periods.push(period);
        }
        self.state(provision, path, &mut criteria);
        let nested = items(&provision["provision"])
            .enumerate()
            .map(|(n, inner)| self.rule(inner, &format!("{path}.provision[{n}]"), depth + 1, &criteria, &periods))
            .collect();
        Rule { permits, criteria, periods, nested }
    }

    /// Reads each criterion that a provision states over the one around it.
    fn state(&mut self, provision: &Value, path: &str, criteria: &mut Criteria) {
        for more in ["dataPeriod", "modifierExtension"] {
            if !provision[more].is_null() {
                self.unsupported(format!("{path}.{more}"));
                criteria.more = true;
            }
        }
        self.each(provision, path, "actor", &mut criteria.actors, Self::actor);
        self.each(provision, path, "action", &mut criteria.actions, |_, concept| {
            let known = codings(concept).find(|(system, _)| *system == ACTION);
            let deed = known.and_then(|(_, code)| match code {
                "access" | "use" | "disclose" => Some(Deed::Reads),
                "collect" | "correct" => Some(Deed::Changes),
                _ => None,
            });
            (deed, deed.is_some())
        });
        self.each(provision, path, "securityLabel", &mut criteria.labels, |_, label| {
            let label = match coding(label) {
                Some((Confidentiality::SYSTEM, code)) => Confidentiality::from_code(code).map(Label::Level),
                Some((ACT_CODE, code)) if crate::Sensitivity::builtin().has(code) => {
                    Some(Label::Category(code.to_owned()))
                }
                _ => None,
            };
            (label.clone().unwrap_or(Label::Unknown), label.is_some())
        });
        self.each(provision, path, "purpose", &mut criteria.purposes, |_, purpose| {
            let aim = match coding(purpose) {
                Some((PURPOSE_SYSTEM, code)) if ELSEWHERE.contains(&code) => Aim::Elsewhere,
                Some((PURPOSE_SYSTEM, code)) => code.parse().map_or(Aim::Unknown, Aim::Is),
                _ => Aim::Unknown,
            };
            (aim, aim != Aim::Unknown)
        });
        self.each(provision, path, "class", &mut criteria.classes, |_, class| {
            let class = coding(class).filter(|(system, _)| *system == TYPES).map(|(_, code)| code.to_owned());
            (class.clone(), class.is_some())
        });
        // A concept of several codings is found by each of them.
        if provision["code"].is_array() {
            let mut codes = Vec::new();
            for (n, concept) in items(&provision["code"]).enumerate() {
                let before = codes.len();
                codes.extend(codings(concept).map(|(system, code)| Some((system.to_owned(), code.to_owned()))));
                if codes.len() == before {
                    self.unsupported(format!("{path}.code[{n}]"));
                    codes.push(None);
                }
            }
            criteria.codes = Some(codes);
        }
        self.each(provision, path, "data", &mut criteria.data, Self::datum);
    }

    /// Reads the items of a list, if there is one. `read` says with each whether it was understood.
    fn each<T>(
        &mut self,
        provision: &Value,
        path: &str,
        name: &str,
        into: &mut Option<Vec<T>>,
        mut read: impl FnMut(&mut Self, &Value) -> (T, bool),
    ) {
        if provision[name].is_null() {
            return;
        }
        let mut all = Vec::new();
        for (n, item) in items(&provision[name]).enumerate() {
            let (item, understood) = read(self, item);
            if !understood {
                self.unsupported(format!("{path}.{name}[{n}]"));
            }
            all.push(item);
        }
        *into = Some(all);
    }

    fn actor(&mut self, actor: &Value) -> (Actor, bool) {
        let part = codings(&actor["role"]).find_map(|known| match known {
            (PARTICIPATION, "IRCP" | "PRCP") => Some(Part::Recipient),
            (PARTICIPATION, "AUT" | "CST") => Some(Part::Origin),
            (ROLE_CODE, "DELEGATEE") => Some(Part::Delegate),
            _ => None,
        });
        let who = self.who(&actor["reference"]);
        let understood = part.is_some() && who != Who::Unknown && actor["modifierExtension"].is_null();
        // Of somebody who is meant in another way than understood nothing is known.
        let part = if understood { part.unwrap_or(Part::Other) } else { Part::Other };
        (Actor { part, who }, understood)
    }

    fn who(&mut self, reference: &Value) -> Who {
        let identifier = &reference["identifier"];
        if let (Some(system), Some(value)) = (identifier["system"].as_str(), identifier["value"].as_str()) {
            if system == ORG_SYSTEM {
                return value
                    .parse()
                    .map_or(Who::Unknown, |org| Who::Known(Meant { org: Some(org), ..Meant::default() }));
            }
            if let Some(org) = org_of_users(system) {
                let user = Some((org, value.to_owned()));
                return Who::Known(Meant { user, ..Meant::default() });
            }
        }
        let Some((kind, id)) = reference["reference"].as_str().and_then(|name| name.split_once('/')) else {
            return Who::Unknown;
        };
        if !MEANING.contains(&kind) || id.is_empty() || id.contains('/') {
            return Who::Unknown;
        }
        if kind == "Patient" {
            return Who::Known(Meant { patient: Some(id.to_owned()), ..Meant::default() });
        }
        let name = format!("{kind}/{id}");
        if !self.references.contains(&name) {
            self.references.push(name.clone());
        }
        Who::Literal(name)
    }

    fn datum(&mut self, data: &Value) -> (Datum, bool) {
        let reference = &data["reference"];
        let datum = match data["meaning"].as_str() {
            Some("instance") => match reference["reference"].as_str().map(|name| name.split('/').collect::<Vec<_>>()) {
                Some(parts) if parts.len() == 2 && !parts[0].is_empty() => Datum::Instance(parts.join("/")),
                _ => Datum::Unknown,
            },
            Some("authoredby") => match self.who(reference) {
                Who::Unknown => Datum::Unknown,
                who => Datum::AuthoredBy(who),
            },
            _ => Datum::Unknown,
        };
        let understood = datum != Datum::Unknown;
        (datum, understood)
    }
}

/// The first and the last millisecond of a FHIR Period; without an end it is open there. None when it is not readable.
pub fn period(period: &Value) -> Option<(TimeMs, TimeMs)> {
    let end = |name: &str| match &period[name] {
        Value::Null => Some(None),
        text => Some(Some(bounds(text.as_str()?)?)),
    };
    let (start, end) = (end("start")?, end("end")?);
    Some((start.map_or(TimeMs(0), |of| of.0), end.map_or(TimeMs(u64::MAX), |of| of.1)))
}

/// The member whose users an identifier system names.
pub(super) fn org_of_users(system: &str) -> Option<OrgId> {
    let org = system.strip_prefix("https://vitaltrace.org/org/")?.strip_suffix("/user")?.parse().ok()?;
    (user_system(&org) == system).then_some(org)
}

impl Meant {
    /// Whom the identifiers of a record name that member `author` wrote. Nobody speaks for another member's people.
    pub fn by_identifiers(resource: &Value, author: &OrgId) -> Option<Self> {
        items(&resource["identifier"]).find_map(|identifier| {
            let (system, value) = (identifier["system"].as_str()?, identifier["value"].as_str()?);
            if system == ORG_SYSTEM {
                let org = value.parse().ok().filter(|org| org == author)?;
                return Some(Self { org: Some(org), ..Self::default() });
            }
            let org = org_of_users(system).filter(|org| org == author)?;
            Some(Self { user: Some((org, value.to_owned())), ..Self::default() })
        })
    }

    /// The roles that a PractitionerRole's codes mean, if it has any; none of ours, when it has others alone.
    pub fn roles_of(resource: &Value) -> Option<Vec<Role>> {
        resource["code"].as_array()?;
        let known = items(&resource["code"]).flat_map(codings).filter_map(|(system, code)| match (system, code) {
            ("http://terminology.hl7.org/CodeSystem/practitioner-role", "doctor") => Some(Role::Doctor),
            ("http://terminology.hl7.org/CodeSystem/practitioner-role", "nurse") => Some(Role::Nurse),
            ("https://vitaltrace.org/fhir/CodeSystem/role", code) => code.parse().ok(),
            _ => None,
        });
        Some(known.collect())
    }
}
