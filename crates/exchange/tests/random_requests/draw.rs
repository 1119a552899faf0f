//! What is drawn: people and apps, records with their labels and references, consents, and requests of every kind.

use super::reference::{
    ACME, Act, Actor, Given, INSPECTORATE, Label, MERCY, ORGS, Org, PURPOSES, Provision, RESCUE, Version, Who, World,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) const PATIENTS: usize = 4;
/// Records that the world begins with, beside the patients.
pub(crate) const RECORDS: usize = 60;
/// Consents in force at the same time, at most.
pub(crate) const CONSENTS_MAX: usize = 8;
/// Types of records that are drawn; Consent comes last, and by itself.
pub(crate) const TYPES: [&str; 8] =
    ["Encounter", "Observation", "Condition", "AllergyIntolerance", "RiskAssessment", "Coverage", "Claim", "Consent"];
const CODES: [&str; 3] = ["8867-4", "8310-5", "9279-1"];
const STATUSES: [&str; 2] = ["in-progress", "finished"];
const ICD: &str = "http://hl7.org/fhir/sid/icd-10-cm";
/// Codes of Conditions with their sensitive categories, which are at least restricted.
const CONDITIONS: [(&str, Option<(&str, &str)>); 4] =
    [("S72.0", None), ("I10", None), ("F11.20", Some(("ETH", "R"))), ("B20", Some(("HIV", "R")))];

/// Numbers from a seed. Source: splitmix64, Steele, Lea and Flood 2014.
pub(crate) struct Draw(u64);

/// A request and who makes it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) who: Who,
    pub(crate) purpose: &'static str,
    pub(crate) want: Want,
}

#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// A record by its place, in a version or the current one.
    Read(usize, Option<usize>),
    History(usize),
    Search(Search),
    Batch(Vec<usize>),
}

/// A search of one type, or of two at once.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) rtype: &'static str,
    pub(crate) also: Option<&'static str>,
    /// Limited to a patient.
    pub(crate) patient: Option<usize>,
    pub(crate) beyond: Beyond,
    pub(crate) only_counts: bool,
}

/// What a search has to do with other records.
#[derive(Debug, Clone)]
pub(crate) enum Beyond {
    Nothing,
    /// `_include` of the Encounter.
    Encounter,
    /// `_include` of the Patient.
    Patient,
    /// `_revinclude` of what refers to an Encounter.
    Referring(&'static str),
    /// From a Patient to its Encounters, and on to what refers to them.
    Iterated(&'static str),
    /// A chain through the Encounter's status.
    Chain(&'static str),
    /// `_has` of an Observation with a code that refers to the Encounter.
    Has(&'static str),
}

/// Types that refer to an Encounter.
const REFERRING: [&str; 2] = ["Observation", "Condition"];

pub(crate) fn keepers() -> [Who; 2] {
    [person("keeper", "custodian", MERCY), person("keeper", "custodian", RESCUE)]
}

pub(crate) fn inspector() -> Who {
    person("inspector", "compliance", INSPECTORATE)
}

fn person(user: &'static str, role: &'static str, org: Org) -> Who {
    Who { user, role, org, patient: None, app: None }
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Somebody, with a purpose that the role often acts for, or any.
    pub(crate) fn asker(&mut self) -> (Who, &'static str) {
        let everybody: [(Who, &[&'static str]); 14] = [
            (person("ana", "doctor", MERCY), &["TREAT", "TREAT", "ETREAT", "BTG"]),
            (person("bob", "doctor", MERCY), &["TREAT", "BTG"]),
            (person("cem", "nurse", MERCY), &["TREAT", "ETREAT", "BTG"]),
            (person("dora", "administrator", MERCY), &["HPAYMT", "CLMATTCH", "PATADMIN"]),
            (person("keeper", "custodian", MERCY), &["HSYSADMIN"]),
            (person("officer", "privacy-officer", MERCY), &["HOPERAT", "HCOMPL"]),
            (person("engine", "engine", MERCY), &["TREAT"]),
            (person("medic", "responder", RESCUE), &["ETREAT", "TREAT", "BTG"]),
            (person("dispatch", "dispatcher", RESCUE), &["ETREAT", "TREAT"]),
            (person("keeper", "custodian", RESCUE), &["HSYSADMIN"]),
            (person("handler", "insurer", ACME), &["HPAYMT", "CLMATTCH", "ELIGVER"]),
            (person("keeper", "custodian", ACME), &["HSYSADMIN"]),
            (inspector(), &["HCOMPL", "FRAUD"]),
            (person("patient", "patient", MERCY), &["PATRQT"]),
        ];
        let (mut who, often) = self.of(&everybody).clone();
        if who.role == "patient" {
            let names = ["ilse", "jon", "kim", "lea"];
            let patient = self.below(PATIENTS);
            (who.user, who.patient) = (names[patient], Some(patient));
            who.org = patient % 2;
        }
        let purpose = if self.one_in(4) { self.of(&PURPOSES).0 } else { self.of(often) };
        if self.one_in(4) {
            who.app = Some(self.given(who.patient));
        }
        (who, purpose)
    }

    /// Somebody who may break the glass.
    pub(crate) fn carer(&mut self) -> Who {
        let carers =
            [person("ana", "doctor", MERCY), person("cem", "nurse", MERCY), person("medic", "responder", RESCUE)];
        self.of(&carers).clone()
    }

    fn given(&mut self, own: Option<usize>) -> Given {
        let kinds = ["*", "Observation", "Condition", "Encounter", "Patient", "Claim", "Practitioner"];
        let letters = ["rs", "rs", "r", "s", "cruds", "cu"];
        let scope = |draw: &mut Self| (*draw.of(&["patient", "patient", "user"]), *draw.of(&kinds), *draw.of(&letters));
        let scopes = (0..1 + self.below(3)).map(|_| scope(self)).collect();
        let launched = if self.one_in(5) { None } else { own.or_else(|| Some(self.below(PATIENTS))) };
        Given { scopes, launched }
    }

    /// A version as `author` may write it: labelled or of a sensitive category now and then, referring to an Encounter of whomever.
    pub(crate) fn version(&mut self, world: &World, rtype: &str, author: Org) -> Version {
        let mut version = Version::plain(author);
        version.label = *self.of(&["N", "N", "N", "N", "L", "R", "V"]);
        let places = |wanted: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let all = world.records.iter().enumerate();
            all.filter(|(_, record)| wanted(record.rtype) && !record.current().deleted).map(|(at, _)| at).collect()
        };
        if REFERRING.contains(&rtype) && !self.one_in(4) {
            let encounters = places(&|of| of == "Encounter");
            version.encounter = (!encounters.is_empty()).then(|| *self.of(&encounters));
        }
        match rtype {
            "Observation" => {
                version.code = *self.of(&CODES);
                version.derived = self.one_in(4);
            }
            "Encounter" => version.code = *self.of(&STATUSES),
            "Condition" => (version.code, version.category) = *self.of(&CONDITIONS),
            "Coverage" => version.to_insurer = self.one_in(3),
            "Claim" => {
                version.to_insurer = self.one_in(2);
                let linkable = places(&|of| ["Observation", "Condition", "Encounter"].contains(&of));
                if !linkable.is_empty() {
                    version.links = (0..self.below(4)).map(|_| *self.of(&linkable)).collect();
                }
            }
            _ => {}
        }
        version
    }

    /// The resource of a version.
    pub(crate) fn body(
        &mut self,
        world: &World,
        ids: &[String],
        rtype: &str,
        patient: Option<usize>,
        version: &Version,
        id: Option<&str>,
    ) -> Value {
        let named = |place: usize| {
            let record = &world.records[place];
            json!({"reference": format!("{}/{}", record.rtype, record.id)})
        };
        let insurer = json!({"identifier": {"system": exchange::ORG_SYSTEM, "value": ORGS[ACME]}});
        let elsewhere = json!({"display": "another insurer"});
        let insurer = if version.to_insurer { insurer } else { elsewhere };
        let mut body = match rtype {
            "Patient" => json!({"gender": "unknown"}),
            "Practitioner" => {
                let system = format!("{}/{}/user", exchange::ORG_SYSTEM, ORGS[MERCY]);
                json!({"identifier": [{"system": system, "value": "ana"}]})
            }
            "Encounter" => json!({
                "status": version.code,
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}
            }),
            "Observation" => json!({
                "status": "final", "effectiveDateTime": "2026-01-12T10:05:00Z",
                "code": {"coding": [{"system": "http://loinc.org", "code": version.code}]},
                "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
            }),
            "Condition" => json!({"code": {"coding": [{"system": ICD, "code": version.code}]}}),
            "AllergyIntolerance" => json!({
                "criticality": "high", "code": {"text": "Latex"},
                "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}
            }),
            "RiskAssessment" => json!({"status": "final"}),
            "Coverage" => json!({"status": "active", "payor": [insurer]}),
            "Claim" => {
                let link = |(n, place): (usize, &usize)| json!({"sequence": n + 1, "category": {"coding": [{"code": "info"}]}, "valueReference": named(*place)});
                let mut claim = json!({
                    "status": "active", "use": "predetermination", "created": "2026-01-12", "insurer": insurer,
                    "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/claim-type", "code": "institutional"}]},
                    "provider": {"display": "a ward"}, "priority": {"coding": [{"code": "normal"}]},
                    "insurance": [{"sequence": 1, "focal": true, "coverage": {"display": "a coverage"}}]
                });
                if !version.links.is_empty() {
                    claim["supportingInfo"] = version.links.iter().enumerate().map(link).collect();
                }
                claim
            }
            other => panic!("no {other} is drawn"),
        };
        body["resourceType"] = json!(rtype);
        if let Some(patient) = patient {
            let element = match rtype {
                "AllergyIntolerance" | "Claim" => "patient",
                "Coverage" => "beneficiary",
                _ => "subject",
            };
            body[element] = json!({"reference": format!("Patient/{}", ids[patient])});
        }
        if let Some(encounter) = version.encounter {
            body["encounter"] = named(encounter);
        }
        if version.derived {
            body["derivedFrom"] = json!([{"display": "what sensors said"}]);
        }
        if version.label != "N" || self.one_in(3) {
            body["meta"] = json!({"security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": version.label}
            ]});
        }
        if let Some(id) = id {
            body["id"] = json!(id);
        }
        body
    }

    /// A provision, with exceptions up to two deep.
    pub(crate) fn provision(&mut self, depth: usize) -> Provision {
        let user = Actor::User(MERCY, "ana");
        let actors =
            [Actor::Org(MERCY), Actor::Org(RESCUE), Actor::Org(ACME), user, Actor::Delegate(self.below(PATIENTS))];
        let labels = [Label::Level("N"), Label::Level("R"), Label::Category("ETH"), Label::Category("HIV")];
        let purposes = ["TREAT", "ETREAT", "HPAYMT", "CLMATTCH"];
        let nested = if depth == 2 || self.one_in(2) { 0 } else { 1 + self.below(2) };
        Provision {
            permits: self.one_in(2),
            actor: self.one_in(2).then(|| self.of(&actors).clone()),
            purposes: self.one_in(2).then(|| vec![*self.of(&purposes)]),
            class: self.one_in(4).then(|| *self.of(&TYPES)),
            label: self.one_in(3).then(|| *self.of(&labels)),
            is_over: self.one_in(10),
            nested: (0..nested).map(|_| self.provision(depth + 1)).collect(),
        }
    }

    /// The Consent that says it.
    pub(crate) fn consent(&self, world: &World, ids: &[String], patient: usize, root: &Provision) -> Value {
        json!({
            "resourceType": "Consent", "status": "active", "patient": {"reference": format!("Patient/{}", ids[patient])},
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "policy": [{"uri": "https://vitaltrace.org/policy/access"}],
            "provision": provision_of(world, ids, root)
        })
    }

    pub(crate) fn request(&mut self, world: &World) -> Request {
        let (who, purpose) = self.asker();
        let place = |draw: &mut Self| draw.below(world.records.len());
        let want = match self.below(10) {
            0 | 1 => {
                let place = place(self);
                let versions = world.records[place].versions.len();
                let version = self.one_in(3).then(|| 1 + self.below(versions));
                Want::Read(place, version)
            }
            2 => Want::History(place(self)),
            3 => Want::Batch((0..2 + self.below(3)).map(|_| place(self)).collect()),
            _ => Want::Search(self.search()),
        };
        Request { who, purpose, want }
    }

    fn search(&mut self) -> Search {
        let patient = (!self.one_in(4)).then(|| self.below(PATIENTS));
        let only_counts = self.one_in(4);
        let beyond = match self.below(8) {
            0 => Beyond::Encounter,
            1 => Beyond::Patient,
            2 => Beyond::Referring(self.of::<&str>(&REFERRING)),
            3 => Beyond::Iterated(self.of::<&str>(&REFERRING)),
            4 => Beyond::Chain(self.of::<&str>(&STATUSES)),
            5 => Beyond::Has(self.of::<&str>(&CODES)),
            _ => Beyond::Nothing,
        };
        let rtype = match beyond {
            Beyond::Encounter | Beyond::Patient | Beyond::Chain(_) => *self.of(&REFERRING),
            Beyond::Referring(_) | Beyond::Has(_) => "Encounter",
            Beyond::Iterated(_) => "Patient",
            Beyond::Nothing if self.one_in(10) => "Practitioner",
            Beyond::Nothing => *self.of(&TYPES),
        };
        let patient = patient.filter(|_| rtype != "Practitioner");
        // What goes along is not shown with a count.
        let plain = matches!(beyond, Beyond::Nothing | Beyond::Chain(_) | Beyond::Has(_));
        let other = REFERRING.into_iter().find(|other| REFERRING.contains(&rtype) && *other != rtype);
        let of_both = matches!(beyond, Beyond::Nothing | Beyond::Chain(_)) && self.one_in(2);
        Search { rtype, also: other.filter(|_| of_both), patient, beyond, only_counts: only_counts && plain }
    }
}

fn provision_of(world: &World, ids: &[String], provision: &Provision) -> Value {
    let mut said = json!({"type": if provision.permits { "permit" } else { "deny" }});
    let role = |system: &str, code: &str| json!({"coding": [{"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code}]});
    let recipient = || role("v3-ParticipationType", "IRCP");
    if let Some(actor) = &provision.actor {
        let (role, reference) = match actor {
            Actor::Org(org) => {
                (recipient(), json!({"identifier": {"system": exchange::ORG_SYSTEM, "value": ORGS[*org]}}))
            }
            Actor::User(..) => {
                let practitioner = world.records.iter().find(|record| record.rtype == "Practitioner").unwrap();
                (recipient(), json!({"reference": format!("Practitioner/{}", practitioner.id)}))
            }
            Actor::Delegate(patient) => {
                (role("v3-RoleCode", "DELEGATEE"), json!({"reference": format!("Patient/{}", ids[*patient])}))
            }
        };
        said["actor"] = json!([{"role": role, "reference": reference}]);
    }
    if let Some(purposes) = &provision.purposes {
        let coding =
            |code: &&str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": code});
        said["purpose"] = purposes.iter().map(coding).collect();
    }
    if let Some(class) = provision.class {
        said["class"] = json!([{"system": "http://hl7.org/fhir/resource-types", "code": class}]);
    }
    if let Some(label) = provision.label {
        let (system, code) = match label {
            Label::Level(code) => ("v3-Confidentiality", code),
            Label::Category(code) => ("v3-ActCode", code),
        };
        said["securityLabel"] =
            json!([{"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code}]);
    }
    if provision.is_over {
        said["period"] = json!({"start": "2020-01-01", "end": "2020-12-31"});
    }
    if !provision.nested.is_empty() {
        said["provision"] = provision.nested.iter().map(|nested| provision_of(world, ids, nested)).collect();
    }
    said
}

impl Search {
    pub(crate) fn types(&self) -> impl Iterator<Item = &'static str> {
        [self.rtype].into_iter().chain(self.also)
    }

    /// The query, with pages so long that one holds everything.
    pub(crate) fn query(&self, world: &World, ids: &[String]) -> String {
        let mut pairs = Vec::new();
        if let Some(also) = self.also {
            pairs.push(format!("_type={},{also}", self.rtype));
        }
        if let Some(patient) = self.patient {
            pairs.push(match self.rtype {
                "Patient" => format!("_id={}", ids[patient]),
                _ => format!("patient=Patient/{}", ids[patient]),
            });
        }
        let rtype = self.rtype;
        pairs.extend(match &self.beyond {
            Beyond::Nothing => Vec::new(),
            Beyond::Encounter => vec![format!("_include={rtype}:encounter")],
            Beyond::Patient => vec![format!("_include={rtype}:patient")],
            Beyond::Referring(of) => vec![format!("_revinclude={of}:encounter")],
            Beyond::Iterated(of) => {
                vec!["_revinclude=Encounter:patient".to_owned(), format!("_revinclude:iterate={of}:encounter")]
            }
            Beyond::Chain(status) => vec![format!("encounter:Encounter.status={status}")],
            Beyond::Has(code) => vec![format!("_has:Observation:encounter:code={code}")],
        });
        // Both ways of asking for a count.
        match (self.only_counts, world.records.len() % 2) {
            (true, 0) => pairs.push("_summary=count".to_owned()),
            (true, _) => pairs.push("_count=0".to_owned()),
            (false, _) => pairs.push("_count=500".to_owned()),
        }
        pairs.join("&")
    }

    /// The places of the matches that somebody may see, and of what goes along with them.
    pub(crate) fn finds(&self, world: &World, who: &Who, purpose: &str) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let there = |place: &usize| !world.records[*place].current().deleted;
        let found = |place: usize| world.may_now(who, purpose, Act::Search, place);
        let seen = |place: usize| found(place) && world.may_now(who, purpose, Act::Read, place);
        let all = || (0..world.records.len()).filter(there);
        let of_type = |rtype: &'static str| all().filter(move |place| world.records[*place].rtype == rtype);
        let encounter = |place: usize| world.records[place].current().encounter.filter(|place| there(place));
        let refers = |place: usize, to: &BTreeSet<usize>| encounter(place).is_some_and(|at| to.contains(&at));
        let code = |place: usize| world.records[place].current().code;
        let stands = |place: usize| match self.beyond {
            Beyond::Chain(status) => encounter(place).is_some_and(|at| code(at) == status && seen(at)),
            Beyond::Has(wanted) => {
                of_type("Observation").any(|of| encounter(of) == Some(place) && code(of) == wanted && seen(of))
            }
            _ => true,
        };
        let asked_for = |place: &usize| self.patient.is_none() || world.records[*place].patient == self.patient;
        let matches: BTreeSet<usize> =
            self.types().flat_map(&of_type).filter(asked_for).filter(|place| found(*place) && stands(*place)).collect();
        let along: BTreeSet<usize> = match self.beyond {
            Beyond::Encounter => matches.iter().filter_map(|place| encounter(*place)).collect(),
            Beyond::Patient => {
                matches.iter().filter_map(|place| world.records[*place].patient.map(|at| world.patients[at])).collect()
            }
            Beyond::Referring(of) => of_type(of).filter(|place| refers(*place, &matches)).collect(),
            Beyond::Iterated(of) => {
                let is_of_match = |place: &usize| {
                    world.records[*place].patient.is_some_and(|at| matches.contains(&world.patients[at]))
                };
                let encounters: BTreeSet<usize> =
                    of_type("Encounter").filter(is_of_match).filter(|place| seen(*place)).collect();
                let further: Vec<usize> = of_type(of).filter(|place| refers(*place, &encounters)).collect();
                encounters.into_iter().chain(further).collect()
            }
            _ => BTreeSet::new(),
        };
        let along = along.into_iter().filter(|place| seen(*place) && !matches.contains(place)).collect();
        (matches, along)
    }
}
