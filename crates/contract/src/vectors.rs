//! The vectors published in `spec/`: a change of one is a change of format.

use crate::{
    AccessAction, AlarmStep, Attachment, AttachmentKind, Body, ClaimStep, Code, CustodyStep, DeviceStep, Entry, Gap,
    GrantStep, HandoffStep, Header, Holding, InvestigationStep, LastMonth, MemberStep, MonthOpening, OverrideStep,
    PolicyKind, PolicyPart, PolicyStep, Priority, Submission,
    derive::Row,
    merkle,
    merkle::Frontier,
    seal_copy, state,
    testing::{commitment, digest, genesis, id, joining, org, public, tag},
};
use ed25519_dalek::SigningKey;
use record::{Digest, PatientKey, Purpose, RecordType, TimeMs, commit, record_tag, salt, sha256};
use std::fmt::Write as _;

const BYTES: &[u8] = br#"{"resourceType":"Patient","id":"1"}"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
fn key() -> PatientKey {
    PatientKey::from_bytes([1; 32])
}
fn time() -> TimeMs {
    TimeMs::from_instant("2026-11-21T10:00:00Z").unwrap()
}

fn opening() -> MonthOpening {
    MonthOpening::new(&key(), &id(2), LastMonth::none(&key(), time().month()))
}

fn example_row() -> Row {
    let salt = salt(&key(), "Patient/1", 1, &org("mercy"), &id(2));
    Row { tag: record_tag(&key(), "Patient/1"), salt, pseudonym: None, commitment: commit(&salt, BYTES) }
}

fn entry(body: Body) -> Entry {
    Entry {
        id: id(2),
        org: org("mercy"),
        time: time(),
        purpose: Purpose::Treat,
        policy: digest(0xac),
        actor: key().actor("dr-smith"),
        patient: Some(key().pseudonym(time().month())),
        month: None,
        body,
    }
}

fn example() -> Entry {
    let sealed = seal_copy(&key(), "Patient/1", 1, &org("mercy"), &id(2), BYTES);
    let attachment =
        Attachment { digest: sha256(&[&sealed]), length: sealed.len() as u32, kind: AttachmentKind::EssentialCopy };
    let body = Body::Record {
        tag: example_row().tag,
        kind: RecordType::MedicalRecord,
        version: 1,
        previous: None,
        commitment: example_row().commitment,
        deleted: false,
        codes: vec![Code { system: "fhir-type".into(), code: "Patient".into() }],
        attachments: vec![attachment],
    };
    Entry { month: Some(opening().link()), ..entry(body) }
}

fn bodies() -> Vec<Body> {
    let until = time().plus_ms(3_600_000);
    vec![
        Body::Access {
            action: AccessAction::Summary,
            set: merkle::root([merkle::leaf(digest(1).as_ref())]),
            count: 1,
            denied: false,
            under: Some(id(4)),
            audit: tag(5).of_audit(&org("mercy")),
            commitment: commitment(6),
        },
        Body::Grant { id: id(7), step: GrantStep::Issued, consent: commitment(8), until: None },
        Body::Grant { id: id(7), step: GrantStep::Issued, consent: commitment(8), until: Some(until) },
        Body::Override { id: id(4), step: OverrideStep::Opened(until), reason: commitment(9) },
        Body::Override { id: id(4), step: OverrideStep::Closed, reason: commitment(9) },
        Body::Override { id: id(4), step: OverrideStep::Reviewed(true), reason: commitment(9) },
        Body::Device { device: digest(10), step: DeviceStep::Bound(id(11), public(12)) },
        Body::Device { device: digest(10), step: DeviceStep::Unbound(id(11)) },
        Body::Device { device: digest(10), step: DeviceStep::Revoked(public(12), None) },
        Body::Batch {
            binding: id(11),
            root: digest(13),
            count: 4,
            first: 10,
            last: 15,
            gaps: vec![Gap { first: 12, last: 13 }],
            refused: 1,
        },
        Body::Analytics { result: tag(14), inputs: digest(13), model: digest(15), priority: Some(Priority::High) },
        Body::Alarm { id: id(16), step: AlarmStep::Raised, priority: Priority::High },
        Body::Handoff { id: id(17), step: HandoffStep::Offered, from: org("mercy"), to: org("county") },
        Body::Claim {
            id: id(18),
            step: ClaimStep::Submitted,
            insurer: org("acme"),
            amount: commitment(19),
            services: vec![key().nullifier("Procedure/1")],
        },
        Body::Investigation { id: id(20), step: InvestigationStep::Opened, document: commitment(21) },
        Body::Dispute { tag: tag(5), version: 2, accepted: commitment(22), branch: commitment(23) },
        Body::Link { other: key().pseudonym(time().month().previous()), same: true },
        Body::Custody { id: id(24), step: CustodyStep::Held, records: digest(25), count: 3 },
        Body::Policy { kind: PolicyKind::Access, document: digest(26), step: PolicyStep::Proposed(1000) },
        Body::Policy { kind: PolicyKind::Access, document: digest(26), step: PolicyStep::Voted(true) },
        Body::Policy { kind: PolicyKind::Derivation, document: digest(26), step: PolicyStep::Activated },
        Body::Policy {
            kind: PolicyKind::Access,
            document: digest(26),
            step: PolicyStep::Written(PolicyPart { part: 3, of: 4, bytes: b"permit".to_vec() }),
        },
        Body::Member { member: org("mercy"), step: MemberStep::EntryKeyRotated(public(27)) },
        Body::Member { member: org("valley"), step: MemberStep::JoinProposed(joining()) },
        Body::Member { member: org("valley"), step: MemberStep::Voted(id(28), true) },
        Body::Member { member: org("valley"), step: MemberStep::RemovalProposed },
        Body::Member { member: org("valley"), step: MemberStep::Seated(public(30)) },
        Body::Member { member: org("valley"), step: MemberStep::Moved(joining().reach) },
        Body::Member { member: org("valley"), step: MemberStep::Left },
        Body::Accesses { root: digest(27), count: 3, ms: 250 },
        Body::Disposal {
            binding: id(11),
            bound: key().pseudonym(time().month().previous()),
            after: 15,
            last: 7215,
            count: 7198,
            document: digest(26),
            roll_ups: vec![tag(14), tag(29)],
            concluded: vec![id(20)],
        },
    ]
}

fn submission() -> Submission {
    Submission { chain: digest(0xcc), org: org("mercy"), lane: 7, first_seq: 1, entries: vec![example()] }
}

/// Compares with the block marked `vectors` on the page.
fn check(page: &str, vectors: &str) {
    let path = format!("{}/../../spec/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let published = text.split_once("```vectors\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    assert_eq!(published, vectors, "{page} publishes other vectors than these:\n{vectors}");
}

#[test]
fn the_published_entries_hold() {
    let mut text = String::new();
    let (row, opening, example) = (example_row(), opening(), example());
    writeln!(text, "tag {}\nsalt {}\ncommitment {}", row.tag.0, row.salt, row.commitment.0).unwrap();
    writeln!(text, "actor {}\npseudonym {}", example.actor, example.patient.unwrap()).unwrap();
    writeln!(text, "opening {}\nlink {}", hex(&crate::to_cbor(&opening)), opening.link().0.0).unwrap();
    writeln!(text, "entry record {}", hex(&example.to_bytes())).unwrap();
    writeln!(text, "digest {}", example.digest()).unwrap();
    for (height, verdict) in [(5, 0), (5, 14)] {
        let leaf = state::entry_leaf(height, time(), verdict, &example.digest());
        writeln!(text, "entry-leaf height {height} verdict {verdict} {leaf}").unwrap();
    }
    writeln!(text, "log-leaf height 5 {}", state::log_leaf(5, time(), &example.digest())).unwrap();
    for body in bodies() {
        let entry = entry(body);
        assert_eq!(Entry::from_bytes(&entry.to_bytes()).unwrap(), entry);
        writeln!(text, "body {} {}\ndigest {}", entry.kind(), hex(&crate::to_cbor(&entry.body)), entry.digest())
            .unwrap();
    }
    let signed = submission().sign(&SigningKey::from_bytes(&[5; 32]));
    signed.verify(&digest(0xcc), &public(5)).unwrap();
    writeln!(text, "submission-digest {}", signed.submission.digest()).unwrap();
    writeln!(text, "submission-key {}", public(5).0).unwrap();
    writeln!(text, "submission {}", hex(&signed.to_bytes())).unwrap();
    check("entry.md", &text);
}

#[test]
fn the_published_header_holds() {
    let signed = submission().sign(&SigningKey::from_bytes(&[5; 32]));
    let mut log = Frontier::default();
    let before = log.clone();
    log.push(state::entry_leaf(5, time(), 0, &example().digest()));
    let holding = |name: &str, n: u8| {
        Holding::sign(&digest(0xcc), &signed.digest(), org(name), &SigningKey::from_bytes(&[n; 32]))
    };
    let holdings = vec![holding("county", 101), holding("mercy", 102)];
    let body = crate::Block::body_digest(&before, std::slice::from_ref(&signed), &vec![holdings.clone()]);
    let header = Header {
        version: 1,
        chain: digest(0xcc),
        epoch: 0,
        view: 9,
        leader: public(151),
        parent_view: 8,
        parent: digest(1),
        height: 5,
        time: time(),
        entry_count: 1,
        body,
        log_size: log.size(),
        log_root: log.root(),
        state_root: digest(2),
        ops_root: digest(3),
        ops_start: 4,
        ops_end: 40,
        validators: genesis().validators_digest(),
        next_validators: genesis().validators_digest(),
    };
    let mut text = String::new();
    let consensus: Vec<String> = (150..155).map(|n| public(n).0.to_hex()).collect();
    writeln!(text, "consensus-keys {}", consensus.join(" ")).unwrap();
    writeln!(text, "validators {}", header.validators).unwrap();
    for holding in &holdings {
        writeln!(text, "holding {} {}", holding.custodian, hex(&crate::to_cbor(holding))).unwrap();
    }
    writeln!(text, "body {body}\nlog-root {}", header.log_root).unwrap();
    writeln!(text, "header {}\ndigest {}", hex(&header.to_bytes()), header.digest()).unwrap();
    check("header.md", &text);
}

#[test]
fn the_published_copy_holds() {
    let sealed = seal_copy(&key(), "Patient/1", 1, &org("mercy"), &id(2), BYTES);
    let Row { tag, commitment, .. } = example_row();
    let (name, Digest(bytes)) = ("digest", sha256(&[&sealed]));
    let text = format!("tag {}\ncommitment {}\ncopy {}\n{name} {}\n", tag.0, commitment.0, hex(&sealed), hex(&bytes));
    let opened = crate::open_copy(&key(), &example(), &sealed).unwrap();
    assert_eq!((opened.record.as_str(), opened.bytes.as_slice()), ("Patient/1", BYTES));
    check("essential-copy.md", &text);
}
