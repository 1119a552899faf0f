//! Derived entries say nothing about health, and the ledger takes them.

use crate::{
    About, AccessAction, AlarmStep, AttachmentKind, AuditEvent, Author, Body, ClaimStep, CopyError, CustodyStep,
    DerivationPolicy, DeriveError, Derived, Event, Filed, Frames, LastMonth, Priority, RecordWritten, derive,
    open_copy,
    testing::{ACCESS_POLICY, Said, World, commitment, digest, id, org, public},
};
use proptest::prelude::*;
use record::{Id16, PatientKey, Purpose, TimeMs, commit, record_tag};
use serde_json::{Value, json};

fn policy() -> DerivationPolicy {
    DerivationPolicy::builtin().unwrap()
}
fn key() -> PatientKey {
    PatientKey::from_bytes([1; 32])
}
fn now() -> TimeMs {
    TimeMs::from_instant("2026-11-21T10:00:01Z").unwrap()
}
fn author(name: &str, purpose: Purpose) -> Author {
    Author { org: org(name), access_policy: ACCESS_POLICY, actor: key().actor(name), purpose, time: now() }
}
fn first_month(key: &PatientKey) -> Filed {
    Filed::ByKey(Some(LastMonth::none(key, now().month())))
}
fn derived(name: &str, n: u8, event: &Event<'_>) -> Derived {
    let key = key();
    let about = About { key: &key, filed: first_month(&key) };
    derive(&policy(), &author(name, Purpose::Treat), Some(&about), id(n), event).unwrap()
}
fn written<'a>(record: &'a str, bytes: &'a [u8], resource: &'a Value) -> RecordWritten<'a> {
    RecordWritten { record, version: 1, previous: None, bytes, resource, deleted: false, wrapped_keys: &[] }
}

#[test]
fn essential_records_get_a_copy_that_opens_to_identical_bytes() {
    let bytes = br#"{"resourceType": "Patient",  "weight": 1.10}"#;
    for name in
        ["Patient", "AllergyIntolerance", "MedicationStatement", "MedicationRequest", "Condition", "Immunization"]
    {
        let record = format!("{name}/1");
        let Derived { entry, row, attachments, .. } =
            derived("mercy", 1, &Event::RecordWritten(written(&record, bytes, &json!({}))));
        let (named, sealed) = &attachments[0];
        assert_eq!((named.kind, named.length as usize), (AttachmentKind::EssentialCopy, sealed.len()));
        let opened = open_copy(&key(), &entry, sealed).unwrap();
        assert_eq!((opened.record.as_str(), opened.version), (record.as_str(), 1));
        assert_eq!(opened.bytes, bytes);
        assert_eq!(opened.salt, row.unwrap().salt);
    }
}

#[test]
fn other_records_and_deletions_are_only_committed() {
    for name in ["Observation", "Coverage", "Claim", "Procedure", "AuditEvent", "Unheard"] {
        let record = format!("{name}/1");
        let derived = derived("mercy", 1, &Event::RecordWritten(written(&record, b"{}", &json!({}))));
        assert_eq!(derived.attachments, [], "{name}");
        assert_eq!(open_copy(&key(), &derived.entry, b"x"), Err(CopyError::NoCopy));
    }
    let deletion = RecordWritten { deleted: true, version: 2, ..written("Patient/1", b"", &Value::Null) };
    assert_eq!(derived("mercy", 1, &Event::RecordWritten(deletion)).attachments, []);
}

#[test]
fn a_copy_opens_with_its_own_key_and_entry_only() {
    let one = |n| derived("mercy", n, &Event::RecordWritten(written("Patient/1", b"{\"a\":1}", &json!({}))));
    let (this, that) = (one(1), one(2));
    let sealed = &this.attachments[0].1;
    assert_ne!(*sealed, that.attachments[0].1);
    assert_eq!(open_copy(&PatientKey::from_bytes([2; 32]), &this.entry, sealed), Err(CopyError::Sealed));
    assert_eq!(open_copy(&key(), &that.entry, sealed), Err(CopyError::OtherBytes));
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 1;
        assert_eq!(open_copy(&key(), &this.entry, &forged), Err(CopyError::OtherBytes));
        // Even an entry that names the forged bytes does not make them open.
        let mut entry = this.entry.clone();
        if let Body::Record { attachments, .. } = &mut entry.body {
            attachments[0].digest = record::sha256(&[&forged]);
        }
        let expected = if at == 0 { CopyError::Format(0) } else { CopyError::Sealed };
        assert_eq!(open_copy(&key(), &entry, &forged), Err(expected));
    }
}

#[test]
fn copies_of_short_records_are_equally_long() {
    let length = |bytes: &[u8]| {
        derived("mercy", 1, &Event::RecordWritten(written("Patient/1", bytes, &json!({})))).attachments[0].1.len()
    };
    assert_eq!(length(b""), length(&[b'x'; 200]));
    assert_eq!(length(b""), 1 + 256 + 16);
    assert_eq!(length(&[b'x'; 300]), 1 + 512 + 16);
}

#[test]
fn the_row_opens_the_commitment_and_the_month_link_opens_too() {
    let bytes = b"{\"resourceType\":\"Condition\"}";
    let Derived { entry, row, month, .. } =
        derived("mercy", 1, &Event::RecordWritten(written("Condition/1", bytes, &json!({}))));
    let row = row.unwrap();
    assert!(month.unwrap().verify(&entry.month.unwrap()));
    assert_eq!(row.pseudonym, entry.patient);
    assert_eq!(entry.patient, Some(key().pseudonym(now().month())));
    assert_eq!(row.tag, record_tag(&key(), "Condition/1"));
    assert_eq!(row.commitment, commit(&row.salt, bytes));
    assert!(
        matches!(entry.body, Body::Record { tag, commitment, .. } if tag == row.tag && commitment == row.commitment)
    );
}

#[test]
fn organisations_without_the_patients_key_file_under_a_pseudonym_that_they_were_shown() {
    let (insurer, patient) = (PatientKey::from_bytes([5; 32]), key().pseudonym(now().month()));
    let about = About { key: &insurer, filed: Filed::Under(patient) };
    let resource = json!({});
    let event = Event::RecordWritten(written("ClaimResponse/1", b"{}", &resource));
    let derived = derive(&policy(), &author("acme", Purpose::Payment), Some(&about), id(1), &event).unwrap();
    assert_eq!((derived.entry.patient, derived.entry.month), (Some(patient), None));
    assert_eq!(derived.row.unwrap().tag, record_tag(&insurer, "ClaimResponse/1"));
}

#[test]
fn what_cannot_be_an_entry_is_refused() {
    let (key, resource) = (key(), json!({}));
    let about = About { key: &key, filed: Filed::Nowhere };
    let check = |about: Option<&About<'_>>, event: Event<'_>, expected: DeriveError| {
        assert_eq!(derive(&policy(), &author("mercy", Purpose::Treat), about, id(1), &event), Err(expected));
    };
    let record = |name| Event::RecordWritten(written(name, b"{}", &resource));
    check(None, record("Patient/1"), DeriveError::KeyMissing);
    for name in ["Patient", "/1", "Patient/", ""] {
        check(Some(&about), record(name), DeriveError::RecordName);
    }
    let huge = vec![b'x'; 2 * 1024 * 1024];
    check(Some(&about), Event::RecordWritten(written("Patient/1", &huge, &resource)), DeriveError::Attachments);
    let keys = vec![vec![1]; 9];
    let many = RecordWritten { wrapped_keys: &keys, ..written("Observation/1", b"{}", &resource) };
    check(Some(&about), Event::RecordWritten(many), DeriveError::Attachments);
    let names: Vec<String> = (0..300).map(|n| format!("Procedure/{n}")).collect();
    let services: Vec<&str> = names.iter().map(String::as_str).collect();
    let event = claim(ClaimStep::Submitted, &services);
    let refused = derive(&policy(), &author("mercy", Purpose::Treat), Some(&about), id(1), &event);
    assert!(matches!(refused, Err(DeriveError::EntryTooLarge(_))), "{refused:?}");
}

fn claim<'a>(step: ClaimStep, services: &'a [&'a str]) -> Event<'a> {
    Event::ClaimMoved { id: id(40), step, insurer: org("acme"), amount: b"1200.00 USD", services }
}

/// The scenario of the accident: every event becomes an entry that the ledger applies.
#[test]
fn the_accident_is_accepted_entry_by_entry() {
    use Purpose::{BreakGlass, ClaimMatch, Compliance, CoverageAuth, EmergencyTreat, PatientRequest, Payment, Treat};
    let resource = json!({"resourceType": "Patient"});
    let audits: Vec<String> = (0..9).map(|n| format!("AuditEvent/{n}")).collect();
    let audit = |n: usize| AuditEvent { record: &audits[n], bytes: b"{}" };
    let (seen, inputs) = ([commitment(1)], [digest(1)]);
    let read = |n, under| Event::Disclosed { action: AccessAction::Summary, versions: &seen, under, audit: audit(n) };
    let record = |name| Event::RecordWritten(written(name, b"{}", &resource));
    let frames = [(1, digest(1)), (2, digest(2)), (5, digest(5))];
    let services = ["Procedure/1", "Encounter/1"];
    let tags = [record_tag(&key(), "Patient/1")];
    let until = now().plus_ms(3_600_000);
    let story: Vec<(&str, Purpose, Event<'_>)> = vec![
        ("mercy", Treat, record("Patient/1")),
        ("mercy", PatientRequest, record("Consent/1")),
        ("mercy", PatientRequest, Event::Granted { id: id(20), consent: commitment(1), until: None }),
        ("rescue", Treat, record("Encounter/1")),
        (
            "rescue",
            EmergencyTreat,
            Event::Linked { other: PatientKey::from_bytes([9; 32]).pseudonym(now().month()), same: true },
        ),
        ("rescue", EmergencyTreat, read(0, Some(id(20)))),
        ("rescue", EmergencyTreat, Event::Denied { action: AccessAction::Read, under: None, audit: audit(1) }),
        ("rescue", BreakGlass, Event::OverrideOpened { id: id(21), until, reason: b"unconscious" }),
        ("rescue", BreakGlass, read(2, Some(id(21)))),
        ("rescue", EmergencyTreat, Event::DeviceBound { device: digest(30), binding: id(22), key: public(30) }),
        (
            "rescue",
            EmergencyTreat,
            Event::FramesBatched(Frames { binding: id(22), after: None, admitted: &frames, refused: 2 }),
        ),
        (
            "rescue",
            Treat,
            Event::Analysed {
                result: "Observation/9",
                inputs: &inputs,
                model: digest(2),
                priority: Some(Priority::High),
            },
        ),
        ("rescue", Treat, Event::Alarm { id: id(23), step: AlarmStep::Raised, priority: Priority::High }),
        ("rescue", Treat, Event::Alarm { id: id(23), step: AlarmStep::Acknowledged, priority: Priority::High }),
        ("rescue", Treat, Event::Alarm { id: id(23), step: AlarmStep::Ended, priority: Priority::High }),
        ("rescue", Treat, record("Composition/1")),
        ("rescue", BreakGlass, Event::OverrideClosed { id: id(21), reason: b"handed over" }),
        ("rescue", Treat, Event::HandoffOffered { id: id(24), to: org("mercy") }),
        ("mercy", Treat, Event::HandoffAccepted { id: id(24), from: org("rescue") }),
        ("rescue", EmergencyTreat, Event::DeviceUnbound { device: digest(30), binding: id(22) }),
        ("rescue", EmergencyTreat, Event::DeviceRevoked { device: digest(30), key: public(30), binding: None }),
        ("mercy", Treat, record("Procedure/1")),
        ("mercy", CoverageAuth, claim(ClaimStep::PreauthorisationRequested, &services)),
        ("acme", CoverageAuth, claim(ClaimStep::Preauthorised, &[])),
        ("mercy", ClaimMatch, claim(ClaimStep::Submitted, &services)),
        ("acme", Payment, claim(ClaimStep::Accepted, &[])),
        ("acme", Payment, claim(ClaimStep::Paid, &[])),
        ("mercy", PatientRequest, read(3, None)),
        ("watch", Compliance, Event::InvestigationOpened { id: id(25), order: b"case 7" }),
        ("watch", Compliance, read(4, Some(id(25)))),
        ("watch", Compliance, Event::InvestigationConcluded { id: id(25), result: b"nothing found" }),
        ("mercy", Treat, Event::CustodyTaken { id: id(26), step: CustodyStep::Held, records: &tags }),
        ("mercy", Treat, Event::CustodyTaken { id: id(26), step: CustodyStep::Released, records: &tags }),
        ("mercy", PatientRequest, Event::GrantRevoked { id: id(20), consent: commitment(2) }),
    ];
    let mut world = World::new();
    let key = key();
    for (line, (name, purpose, event)) in story.iter().enumerate() {
        let about = About { key: &key, filed: first_month(&key) };
        let id = Id16([100 + line as u8; 16]);
        let author = Author { time: world.block.time, ..author(name, *purpose) };
        let derived = derive(&policy(), &author, Some(&about), id, event).unwrap();
        let said = Said { org: org(name), lane: 0, entry: derived.entry, offset_ms: 0 };
        assert_eq!(world.say(said), "applied", "line {line}: {name} {event:?}");
    }
}

fn contains(entry: &[u8], text: &str) -> bool {
    entry.windows(text.len()).any(|window| window == text.as_bytes())
}

proptest! {
    #[test]
    fn no_word_of_a_resource_or_a_reason_gets_into_an_entry(
        word in "[A-Za-z0-9 ./-]{6,40}", id_part in "[a-z0-9]{8,20}", n in 0usize..6
    ) {
        let types = ["Observation", "Condition", "Patient", "Flag", "Coverage", word.as_str()];
        let fhir_type = types[n];
        let coding = json!({"system": "http://loinc.org", "code": word, "display": word});
        let resource = json!({
            "resourceType": word,
            "id": id_part,
            "category": [{"coding": [{"code": "vital-signs"}, {"code": word}]}],
            "code": {"coding": [coding, {"system": word, "code": "8867-4"}], "text": word},
            "derivedFrom": word,
            word.as_str(): word,
        });
        let bytes = serde_json::to_vec(&resource).unwrap();
        let record = format!("{fhir_type}/{id_part}");
        let services = [record.as_str()];
        let text = word.as_bytes();
        let audit = AuditEvent { record: &record, bytes: &bytes };
        let events = [
            Event::RecordWritten(written(&record, &bytes, &resource)),
            Event::Disclosed { action: AccessAction::Read, versions: &[], under: None, audit },
            Event::Denied { action: AccessAction::Read, under: None, audit },
            Event::OverrideOpened { id: id(1), until: now(), reason: text },
            Event::OverrideClosed { id: id(1), reason: text },
            Event::OverrideReviewed { id: id(1), justified: true, text },
            Event::Analysed { result: &record, inputs: &[], model: digest(1), priority: None },
            Event::ClaimMoved { id: id(1), step: ClaimStep::Submitted, insurer: org("acme"), amount: text, services: &services },
            Event::InvestigationOpened { id: id(1), order: text },
            Event::InvestigationConcluded { id: id(1), result: text },
            Event::Disputed { record: &record, version: 1, accepted: commitment(1), branch: commitment(2) },
        ];
        for event in &events {
            // A word with a slash makes another record name, which may be none.
            let key = key();
            let about = About { key: &key, filed: first_month(&key) };
            let Ok(derived) = derive(&policy(), &author("mercy", Purpose::Treat), Some(&about), id(1), event) else { continue };
            let entry = derived.entry.to_bytes();
            prop_assert!(!contains(&entry, &word), "{:?}", derived.entry);
            prop_assert!(!contains(&entry, &id_part), "{:?}", derived.entry);
            for (_, sealed) in &derived.attachments {
                prop_assert!(!contains(sealed, &word) && !contains(sealed, &id_part));
            }
        }
    }
}
