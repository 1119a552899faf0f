//! What Consents say of uses, a table for each criterion, and what is not understood.

use super::*;
use record::OrgRole;
use serde_json::json;

const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

fn consent(provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": "Patient/p1"},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "provision": provision
    })
}

fn purposes(codes: &[&str]) -> Value {
    codes.iter().map(|code| json!({"system": ACT_REASON, "code": code})).collect()
}

fn labels(codes: &[&str]) -> Value {
    let system = |code: &str| if code.len() == 1 { CONFIDENTIALITY } else { ACT_CODE };
    codes.iter().map(|code| json!({"system": system(code), "code": code})).collect()
}

fn actor(role: &str, reference: Value) -> Value {
    let system = match role {
        "DELEGATEE" => "http://terminology.hl7.org/CodeSystem/v3-RoleCode",
        _ => "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    };
    json!({"role": {"coding": [{"system": system, "code": role}]}, "reference": reference})
}

fn org(name: &str) -> Value {
    json!({"identifier": {"system": "https://vitaltrace.org/org", "value": name}})
}

/// A use that the table's cases change.
#[derive(Clone)]
struct Case {
    role: Role,
    org: &'static str,
    user: &'static str,
    patient: Option<&'static str>,
    purpose: Purpose,
    at: &'static str,
    changes: bool,
    fhir_type: &'static str,
    id: &'static str,
    author: &'static str,
    label: &'static str,
    categories: &'static [&'static str],
    resource: Value,
    meant: BTreeMap<String, Meant>,
}

fn doctor() -> Case {
    Case {
        role: Role::Doctor,
        org: "mercy",
        user: "okafor",
        patient: None,
        purpose: Purpose::Treat,
        at: "2026-11-21T10:00:00Z",
        changes: false,
        fhir_type: "Condition",
        id: "c1",
        author: "mercy",
        label: "N",
        categories: &[],
        resource: json!({"code": {"coding": [{"system": "http://snomed.info/sct", "code": "5602001"}]}}),
        meant: BTreeMap::new(),
    }
}

impl Case {
    fn with<T>(&self, ask: impl FnOnce(&Use<'_>) -> T) -> T {
        let (org, author): (OrgId, OrgId) = (self.org.parse().unwrap(), self.author.parse().unwrap());
        let categories: Vec<String> = self.categories.iter().map(ToString::to_string).collect();
        let person =
            Person { user: self.user, role: self.role, org: &org, org_role: OrgRole::Hospital, patient: self.patient };
        ask(&Use {
            person: &person,
            purpose: self.purpose,
            at: TimeMs::from_instant(self.at).unwrap(),
            changes: self.changes,
            matter: Matter {
                fhir_type: self.fhir_type,
                id: Some(self.id),
                author: &author,
                label: Confidentiality::from_code(self.label).unwrap(),
                categories: &categories,
                resource: Some(&self.resource),
            },
            meant: &self.meant,
        })
    }

    fn says(&self, provision: Value) -> Consented {
        self.with(|of| Directive::read(&consent(provision)).unwrap().says(of))
    }
}

use Consented::{Delegate, Deny, Named, None as Silent, Permit};

#[test]
fn a_provision_says_what_its_type_says_where_every_criterion_holds() {
    for kind in ["permit", "deny"] {
        let holds = if kind == "permit" { Permit } else { Deny };
        let check = |case: &Case, criterion: &str, value: Value, applies: bool| {
            let expected = if applies { holds } else { Silent };
            let says = case.says(json!({"type": kind, criterion: value.clone()}));
            assert_eq!(says, expected, "{kind} {criterion} {value}");
        };
        let case = doctor();
        check(&case, "purpose", purposes(&["TREAT"]), true);
        check(&case, "purpose", purposes(&["ETREAT"]), false);
        check(&case, "purpose", purposes(&["HPAYMT", "TREAT"]), true);
        check(&case, "purpose", purposes(&["HRESCH"]), false);
        check(&Case { purpose: Purpose::EmergencyTreat, ..case.clone() }, "purpose", purposes(&["TREAT"]), true);
        check(&case, "period", json!({"start": "2026", "end": "2026-11-21"}), true);
        check(&case, "period", json!({"start": "2026-11-22"}), false);
        check(&case, "period", json!({"end": "2026-11-20"}), false);
        check(&case, "period", json!({"end": "2026-11-21T11:00:00+01:00"}), true);
        check(&case, "actor", json!([actor("IRCP", org("mercy"))]), true);
        check(&case, "actor", json!([actor("PRCP", org("other"))]), false);
        check(&case, "actor", json!([actor("IRCP", org("other")), actor("IRCP", org("mercy"))]), true);
        let user = |org: &str, user: &str| json!({"identifier": {"system": format!("https://vitaltrace.org/org/{org}/user"), "value": user}});
        check(&case, "actor", json!([actor("IRCP", user("mercy", "okafor"))]), true);
        check(&case, "actor", json!([actor("IRCP", user("mercy", "somebody"))]), false);
        check(&case, "actor", json!([actor("IRCP", user("other", "okafor"))]), false);
        check(&case, "actor", json!([actor("AUT", org("mercy"))]), true);
        check(&Case { author: "other", ..case.clone() }, "actor", json!([actor("CST", org("mercy"))]), false);
        check(&case, "actor", json!([actor("DELEGATEE", org("mercy"))]), false);
        check(
            &case,
            "action",
            json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "access"}]}]),
            true,
        );
        check(
            &case,
            "action",
            json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "correct"}]}]),
            false,
        );
        let types = |codes: &[&str]| {
            codes
                .iter()
                .map(|code| json!({"system": "http://hl7.org/fhir/resource-types", "code": code}))
                .collect::<Value>()
        };
        check(&case, "class", types(&["Observation", "Condition"]), true);
        check(&case, "class", types(&["Observation"]), false);
        let code = |code: &str| json!([{"coding": [{"system": "http://snomed.info/sct", "code": code}]}]);
        check(&case, "code", code("5602001"), true);
        check(&case, "code", code("5602002"), false);
        let data = |meaning: &str, name: &str| json!([{"meaning": meaning, "reference": {"reference": name}}]);
        check(&case, "data", data("instance", "Condition/c1"), true);
        check(&case, "data", data("instance", "Condition/c2"), false);
        check(&case, "data", data("instance", "Observation/c1"), false);
        check(&case, "data", json!([{"meaning": "authoredby", "reference": org("mercy")}]), true);
        check(&case, "data", json!([{"meaning": "authoredby", "reference": org("other")}]), false);
    }
}

#[test]
fn what_a_provision_names_by_a_reference_is_whom_that_record_means() {
    let meant = |reference: &str, meant: Meant| Case { meant: [(reference.to_owned(), meant)].into(), ..doctor() };
    let provision =
        |kind: &str, reference: &str| json!({"type": kind, "actor": [actor("IRCP", json!({"reference": reference}))]});
    let (mercy, other): (OrgId, OrgId) = ("mercy".parse().unwrap(), "other".parse().unwrap());
    let role =
        |org: &OrgId, roles: &[Role]| Meant { org: Some(org.clone()), roles: Some(roles.to_vec()), ..Meant::default() };
    for (whom, permits, denies) in [
        (Meant { org: Some(mercy.clone()), ..Meant::default() }, Permit, Deny),
        (Meant { org: Some(other.clone()), ..Meant::default() }, Silent, Silent),
        (Meant { user: Some((mercy.clone(), "okafor".into())), ..Meant::default() }, Permit, Deny),
        (Meant { user: Some((mercy.clone(), "nobody".into())), ..Meant::default() }, Silent, Silent),
        (role(&mercy, &[Role::Doctor]), Permit, Deny),
        (role(&mercy, &[Role::Nurse]), Silent, Silent),
        (role(&other, &[Role::Doctor]), Silent, Silent),
        // It says nothing that anybody could be compared with.
        (Meant::default(), Silent, Deny),
    ] {
        let case = meant("PractitionerRole/r", whom.clone());
        assert_eq!(case.says(provision("permit", "PractitionerRole/r")), permits, "{whom:?}");
        assert_eq!(case.says(provision("deny", "PractitionerRole/r")), denies, "{whom:?}");
        assert_eq!(case.says(provision("permit", "Practitioner/unknown")), Silent);
        assert_eq!(case.says(provision("deny", "Practitioner/unknown")), Deny);
    }
    let read = Directive::read(&consent(provision("permit", "Practitioner/1"))).unwrap();
    assert_eq!((read.references(), read.unsupported().len()), (&["Practitioner/1".to_owned()][..], 0));
}

#[test]
fn records_name_organisations_and_users_of_their_own_author_alone() {
    let mercy: OrgId = "mercy".parse().unwrap();
    let of = |system: &str, value: &str| {
        Meant::by_identifiers(
            &json!({"identifier": [{"system": "urn:x", "value": "1"}, {"system": system, "value": value}]}),
            &mercy,
        )
    };
    assert_eq!(of("https://vitaltrace.org/org", "mercy"), Some(Meant { org: Some(mercy.clone()), ..Meant::default() }));
    assert_eq!(of("https://vitaltrace.org/org", "other"), None);
    let user = Some(Meant { user: Some((mercy.clone(), "okafor".into())), ..Meant::default() });
    assert_eq!(of(&user_system(&mercy), "okafor"), user);
    assert_eq!(of("https://vitaltrace.org/org/other/user", "okafor"), None);
    let role = |code: Value| Meant::roles_of(&json!({"code": code}));
    let coded = |system: &str, code: &str| json!([{"coding": [{"system": system, "code": code}]}]);
    assert_eq!(
        role(coded("http://terminology.hl7.org/CodeSystem/practitioner-role", "nurse")),
        Some(vec![Role::Nurse])
    );
    assert_eq!(role(coded("https://vitaltrace.org/fhir/CodeSystem/role", "responder")), Some(vec![Role::Responder]));
    assert_eq!(role(coded("http://terminology.hl7.org/CodeSystem/practitioner-role", "ict")), Some(vec![]));
    assert_eq!(role(Value::Null), None);
}

#[test]
fn a_level_reaches_up_to_it_when_permitted_and_from_it_upwards_when_refused() {
    let table = [
        // The record's label, its categories, what is named, permitted, refused.
        ("N", &[][..], &["N"][..], Permit, Deny),
        ("N", &[], &["R"], Permit, Silent),
        ("R", &[], &["N"], Silent, Deny),
        ("R", &[], &["R"], Named, Deny),
        ("V", &[], &["R"], Silent, Deny),
        ("V", &[], &["V"], Named, Deny),
        ("R", &["PSY"], &["PSY"], Named, Deny),
        ("R", &["PSY"], &["SDV"], Silent, Silent),
        ("R", &["PSY"], &["PSY", "SDV"], Named, Deny),
        ("R", &["PSY", "HIV"], &["PSY"], Silent, Deny),
        ("R", &["PSY", "HIV"], &["HIV", "PSY"], Named, Deny),
        ("R", &[], &["PSY"], Silent, Silent),
        // A permission of both must fit in both.
        ("R", &["PSY"], &["N", "PSY"], Silent, Deny),
        ("R", &["PSY"], &["R", "PSY"], Named, Deny),
        ("R", &["HIV"], &["R", "PSY"], Silent, Deny),
        // Not a category of ours.
        ("R", &[], &["TABOO"], Silent, Deny),
    ];
    for (label, categories, named, permitted, refused) in table {
        let case = Case { label, categories, ..doctor() };
        let of = |kind: &str| case.says(json!({"type": kind, "securityLabel": labels(named)}));
        assert_eq!((of("permit"), of("deny")), (permitted, refused), "{label} {categories:?}: {named:?}");
    }
    assert_eq!(Case { label: "R", ..doctor() }.says(json!({"type": "permit"})), Permit, "nothing restricted is named");
}

#[test]
fn a_nested_provision_is_an_exception_to_the_one_around_it() {
    let restricted = |kind: &str| json!({"type": kind, "securityLabel": labels(&["R"])});
    let normal = |nested: Value| json!({"type": "permit", "securityLabel": labels(&["N"]), "purpose": purposes(&["TREAT"]), "provision": nested});
    let r = Case { label: "R", ..doctor() };
    // PCF's examples: normal, and not restricted; normal, and restricted for one; both for one's break-glass.
    assert_eq!(doctor().says(normal(json!([restricted("deny")]))), Permit);
    assert_eq!(r.says(normal(json!([restricted("deny")]))), Deny);
    let focused = json!({"type": "permit", "securityLabel": labels(&["R"]), "actor": [actor("IRCP", org("mercy"))]});
    assert_eq!(r.says(normal(json!([focused]))), Named);
    assert_eq!(Case { org: "other", ..r.clone() }.says(normal(json!([focused]))), Silent);
    assert_eq!(
        Case { purpose: Purpose::Payment, ..r.clone() }.says(normal(json!([focused]))),
        Silent,
        "the purpose is that around it"
    );

    // Deny inside permit, permit inside deny, and three deep.
    let only = |name: &str, kind: &str, nested: Value| json!({"type": kind, "actor": [actor("IRCP", org(name))], "provision": nested});
    let (mercy, other) = (doctor(), Case { org: "other", ..doctor() });
    let but_mercy = json!({"type": "permit", "provision": [only("mercy", "deny", json!([]))]});
    assert_eq!((mercy.says(but_mercy.clone()), other.says(but_mercy)), (Deny, Permit));
    let mercy_alone = json!({"type": "deny", "provision": [only("mercy", "permit", json!([]))]});
    assert_eq!((mercy.says(mercy_alone.clone()), other.says(mercy_alone)), (Permit, Deny));
    let three = json!({"type": "deny", "provision": [only("mercy", "permit", json!([
        {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]}
    ]))]});
    assert_eq!(mercy.says(three.clone()), Deny);
    assert_eq!(Case { fhir_type: "Observation", ..mercy.clone() }.says(three.clone()), Permit);
    assert_eq!(other.says(three), Deny);

    // Side by side a refusal outweighs; the period around holds for all.
    let both =
        json!({"type": "permit", "provision": [only("mercy", "permit", json!([])), only("mercy", "deny", json!([]))]});
    assert_eq!(mercy.says(both), Deny);
    let over = json!({"period": {"end": "2025"}, "type": "permit", "provision": [{"type": "deny", "period": {"start": "2020"}}]});
    assert_eq!(mercy.says(over), Silent);
}

#[test]
fn the_base_rule_is_the_root_types_or_the_policy_rules() {
    let with_rule = |rule: &str, provision: Value| {
        let mut consent = consent(provision);
        consent["policyRule"] = json!({"coding": [{"system": ACT_CODE, "code": rule}]});
        doctor().with(|of| Directive::read(&consent).unwrap().says(of))
    };
    let exception = json!({"provision": [{"type": "deny", "actor": [actor("IRCP", org("mercy"))]}]});
    assert_eq!(with_rule("OPTIN", json!({})), Permit);
    assert_eq!(with_rule("OPTOUT", json!({})), Deny);
    assert_eq!(with_rule("OPTINR", exception.clone()), Deny);
    assert_eq!(with_rule("OPTOUT", json!({"type": "permit"})), Permit);
    assert_eq!(with_rule("cric", json!({})), Silent);
    assert_eq!(doctor().says(json!({})), Silent);
    assert_eq!(doctor().says(exception), Deny);
}

#[test]
fn what_is_not_understood_never_widens_access() {
    let unknown = [
        ("purpose", json!([{"system": ACT_REASON, "code": "WHATEVER"}])),
        ("purpose", json!([{"system": "urn:x", "code": "TREAT"}])),
        ("securityLabel", json!([{"system": "urn:x", "code": "R"}])),
        ("class", json!([{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}])),
        ("code", json!([{"text": "anything about my leg"}])),
        ("dataPeriod", json!({"start": "2020"})),
        ("data", json!([{"meaning": "related", "reference": {"reference": "Condition/c1"}}])),
        ("data", json!([{"meaning": "instance", "reference": {"reference": "http://elsewhere/fhir/Condition/c1"}}])),
        ("data", json!([{"meaning": "instance", "reference": {"reference": "/c1"}}])),
        ("action", json!([{"text": "look"}])),
        ("actor", json!([actor("WIT", org("mercy"))])),
        ("actor", json!([actor("IRCP", json!({"display": "Dr. Okafor"}))])),
        ("actor", json!([actor("IRCP", json!({"reference": "Group/1"}))])),
        ("actor", json!([actor("IRCP", json!({"reference": "#1"}))])),
        (
            "actor",
            json!([actor(
                "AUT",
                json!({"identifier": {"system": "https://vitaltrace.org/org/mercy/user", "value": "a"}})
            )]),
        ),
        ("period", json!({"start": "long ago"})),
        ("modifierExtension", json!([{"url": "urn:x", "valueBoolean": true}])),
    ];
    let inner = |kind: &str| json!({"type": kind, "purpose": purposes(&["TREAT"])});
    for (criterion, value) in unknown {
        let of = |provision: Value| doctor().says(provision);
        let stated = |kind: &str, nested: Value| json!({"type": kind, criterion: value.clone(), "provision": nested});
        assert_eq!(of(stated("permit", json!([]))), Silent, "{criterion} {value}");
        assert_eq!(of(stated("deny", json!([]))), Deny, "{criterion} {value}");
        // An unknown exception counts where it refuses, and does not where it permits.
        let around = |kind: &str, exception: Value| json!({"type": kind, "provision": [exception]});
        assert_eq!(of(around("permit", stated("deny", json!([])))), Deny, "{criterion} {value}");
        assert_eq!(of(around("deny", stated("permit", json!([])))), Deny, "{criterion} {value}");
        assert_eq!(of(around("permit", stated("permit", json!([])))), Permit, "{criterion} {value}");
        // And one within what is unknown as well.
        assert_eq!(of(stated("permit", json!([inner("deny")]))), Deny, "{criterion} {value}");
        assert_ne!(of(stated("deny", json!([inner("permit")]))), Named, "{criterion} {value}");
        let read = Directive::read(&consent(stated("deny", json!([])))).unwrap();
        let by_form = criterion != "actor"
            || value
                != json!([actor(
                    "AUT",
                    json!({"identifier": {"system": "https://vitaltrace.org/org/mercy/user", "value": "a"}})
                )]);
        assert_eq!(
            read.unsupported().first().is_some_and(|at| at.starts_with(&format!("Consent.provision.{criterion}"))),
            by_form,
            "{criterion} {value}"
        );
    }
    let untyped = json!({"type": "permit", "provision": [{"purpose": purposes(&["TREAT"])}]});
    assert_eq!(doctor().says(untyped), Deny);
    let mut deep = json!({"type": "permit"});
    for _ in 0..=PROVISIONS_DEPTH_MAX {
        deep = json!({"type": "permit", "provision": [deep]});
    }
    assert_eq!(doctor().says(deep), Deny);
    let many: Vec<Value> = (0..PROVISIONS_MAX).map(|_| inner("permit")).collect();
    assert_eq!(doctor().says(json!({"type": "permit", "provision": many})), Deny);
}

#[test]
fn a_consent_that_is_not_active_or_not_about_privacy_says_nothing() {
    let with = |status: &str, scope: Value| {
        let mut consent = consent(json!({"type": "permit"}));
        (consent["status"], consent["scope"]) = (json!(status), scope);
        let permit = Directive::read(&consent).map(|read| doctor().with(|of| read.says(of)));
        consent["provision"]["type"] = json!("deny");
        (permit, Directive::read(&consent).map(|read| doctor().with(|of| read.says(of))))
    };
    let scope = |code: &str| json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": code}]});
    assert_eq!(with("active", scope("patient-privacy")), (Some(Permit), Some(Deny)));
    for status in ["draft", "proposed", "rejected", "inactive", "entered-in-error"] {
        assert_eq!(with(status, scope("patient-privacy")), (None, None), "{status}");
    }
    for other in ["adr", "research", "treatment"] {
        assert_eq!(with("active", scope(other)), (None, None), "{other}");
    }
    assert_eq!(with("active", json!({"text": "privacy"})), (Some(Silent), Some(Deny)));
}

#[test]
fn a_delegate_is_whom_the_patient_names_as_one() {
    let kin =
        Case { role: Role::Patient, patient: Some("kin"), user: "kin", purpose: Purpose::PatientRequest, ..doctor() };
    let delegates =
        |case: &Case, provision: Value| case.with(|of| Directive::read(&consent(provision)).unwrap().delegates(of));
    let named = |more: Value| {
        let mut provision =
            json!({"type": "permit", "actor": [actor("DELEGATEE", json!({"reference": "Patient/kin"}))]});
        provision.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        provision
    };
    assert_eq!(delegates(&kin, named(json!({}))), Delegate);
    assert_eq!(delegates(&Case { patient: Some("other"), ..kin.clone() }, named(json!({}))), Silent);
    assert_eq!(delegates(&Case { patient: None, ..kin.clone() }, named(json!({}))), Silent);
    // It is no consent to anybody's treatment.
    assert_eq!(doctor().says(named(json!({}))), Silent);
    // Who is told something is no delegate, and no consent without actors makes anybody one.
    let told = json!({"type": "permit", "actor": [actor("IRCP", json!({"reference": "Patient/kin"}))]});
    assert_eq!(delegates(&kin, told), Silent);
    assert_eq!(delegates(&kin, json!({"type": "permit"})), Silent);
    assert_eq!(delegates(&kin, json!({"type": "deny"})), Silent);
    // Its bounds hold: time, what is done, and which records.
    assert_eq!(delegates(&kin, named(json!({"period": {"end": "2025"}}))), Silent);
    let action = |code: &str| json!({"action": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": code}]}]});
    let writes = Case { changes: true, ..kin.clone() };
    assert_eq!(
        (delegates(&kin, named(action("access"))), delegates(&writes, named(action("access")))),
        (Delegate, Silent)
    );
    assert_eq!(
        (delegates(&kin, named(action("correct"))), delegates(&writes, named(action("correct")))),
        (Silent, Delegate)
    );
    let normal = named(json!({"securityLabel": labels(&["N"])}));
    assert_eq!(delegates(&Case { label: "R", ..kin.clone() }, normal), Silent);
    let but = json!({"provision": [{"type": "deny", "securityLabel": labels(&["R"])}]});
    assert_eq!(
        (delegates(&kin, named(but.clone())), delegates(&Case { label: "R", ..kin.clone() }, named(but))),
        (Delegate, Deny)
    );
    // A relative who is known by a record of their own.
    let related = json!({"type": "permit", "actor": [actor("DELEGATEE", json!({"reference": "RelatedPerson/r"}))]});
    let mercy = "mercy".parse().unwrap();
    let known = Meant { user: Some((mercy, "kin".into())), ..Meant::default() };
    let by_record = Case { meant: [("RelatedPerson/r".to_owned(), known)].into(), ..kin.clone() };
    assert_eq!((delegates(&by_record, related.clone()), delegates(&kin, related)), (Delegate, Silent));
}

#[test]
fn of_two_consents_the_refusal_outweighs() {
    for (one, other, both) in [
        (Permit, Deny, Deny),
        (Silent, Permit, Permit),
        (Named, Permit, Named),
        (Deny, Named, Deny),
        (Silent, Silent, Silent),
    ] {
        assert_eq!((one.and(other), other.and(one)), (both, both));
    }
}
