//! The light check of one record.

use super::world::{World, three_months};
use crate::{
    KnownBlock, Limits, RecordProof, RecordProven, Refused, Subject, is_record_proof, verify_record,
    verify_record_through,
};
use contract::state::record_key;
use record::{RecordTag, record_tag, sha256};

fn proof(world: &World, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> (RecordTag, Result<RecordProven, Refused>) {
    let tag = record_tag(&world.patient, name);
    let (finality, head) = world.prove_value(record_key(&tag));
    let opened = world.opened.iter().rfind(|opened| opened.record == name).unwrap().clone();
    let mut bytes = opened.bytes;
    edit(&mut bytes);
    let proof = RecordProof::new(finality, tag, head, opened.salt, bytes).to_bytes();
    (tag, verify_record(&proof, &world.id(), &Limits::default()))
}

#[test]
fn the_current_version_is_proven_from_the_genesis_id() {
    let (tag, proven) = proof(&three_months(), "AllergyIntolerance/a1", |_| {});
    let proven = proven.unwrap();
    assert_eq!((proven.tag, proven.version, proven.deleted), (tag, 2, false));
    assert_eq!(proven.name.as_deref(), Some("AllergyIntolerance/a1"));
    assert_eq!((proven.organisation.as_str(), proven.written_at_height), ("mercy", 5));
}

#[test]
fn changed_bytes_are_refused_by_name_and_version() {
    let (_, proven) = proof(&three_months(), "AllergyIntolerance/a1", |bytes| {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace(", severe", "").into_bytes();
    });
    assert_eq!(proven, Err(Refused::OtherBytes { record: "AllergyIntolerance/a1".to_owned(), version: 2 }));
    let (tag, proven) = proof(&three_months(), "AllergyIntolerance/a1", |bytes| bytes.clear());
    assert_eq!(proven, Err(Refused::OtherBytes { record: tag.0.to_hex(), version: 2 }));
}

#[test]
fn an_older_version_is_not_the_current_one() {
    let world = three_months();
    let tag = record_tag(&world.patient, "AllergyIntolerance/a1");
    let (finality, head) = world.prove_value(record_key(&tag));
    let old = world.opened.iter().find(|opened| opened.record == "AllergyIntolerance/a1").unwrap().clone();
    assert_eq!(old.version, 1);
    let proof = RecordProof::new(finality, tag, head, old.salt, old.bytes).to_bytes();
    let expected = Refused::OtherBytes { record: "AllergyIntolerance/a1".to_owned(), version: 2 };
    assert_eq!(verify_record(&proof, &world.id(), &Limits::default()), Err(expected));
}

#[test]
fn the_head_of_another_record_proves_nothing_about_this_one() {
    let world = three_months();
    let (finality, head) = world.prove_value(record_key(&record_tag(&world.patient, "Patient/p1")));
    let opened = world.opened.iter().rfind(|opened| opened.record == "AllergyIntolerance/a1").unwrap().clone();
    let tag = record_tag(&world.patient, "AllergyIntolerance/a1");
    let proof = RecordProof::new(finality, tag, head, opened.salt, opened.bytes).to_bytes();
    let expected = Refused::State { subject: Subject::Record(tag) };
    assert_eq!(verify_record(&proof, &world.id(), &Limits::default()), Err(expected));
}

#[test]
fn every_flipped_byte_is_refused_or_changes_nothing() {
    let world = three_months();
    let tag = record_tag(&world.patient, "Patient/p1");
    let (finality, head) = world.prove_value(record_key(&tag));
    let opened = world.opened.iter().rfind(|opened| opened.record == "Patient/p1").unwrap().clone();
    let good = RecordProof::new(finality, tag, head, opened.salt, opened.bytes).to_bytes();
    let report = verify_record(&good, &world.id(), &Limits::default()).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        if let Ok(other) = verify_record(&bytes, &world.id(), &Limits::default()) {
            assert_eq!(other, report, "byte {at}");
        }
    }
    let unknown = sha256(&[b"another consortium"]);
    assert!(matches!(verify_record(&good, &unknown, &Limits::default()), Err(Refused::OtherGenesis { .. })));
}

#[test]
fn a_record_proof_is_told_in_words_and_by_its_format() {
    let world = three_months();
    let tag = record_tag(&world.patient, "AllergyIntolerance/a1");
    let (finality, head) = world.prove_value(record_key(&tag));
    let opened = world.opened.iter().rfind(|opened| opened.record == "AllergyIntolerance/a1").unwrap().clone();
    let bytes = opened.bytes.clone();
    let file = RecordProof::new(finality, tag, head, opened.salt, opened.bytes).to_bytes();
    let limits = Limits::default();
    assert!(is_record_proof(&file, &limits) && !is_record_proof(b"no proof", &limits));
    assert_eq!(RecordProof::record(&file, &limits), Ok(bytes.clone()));
    let proven = verify_record(&file, &world.id(), &limits).unwrap();
    let (height, time) = (proven.height, proven.time);
    assert_eq!(
        proven.proven(),
        [
            format!("Block {height} is final: a quorum of the validators of its time signed it. Its time is {time}."),
            format!(
                "Version 2 of the record that the ledger knows by `{}` is the current one at height {height}: the ledger has no later one there.",
                tag.0.to_hex()
            ),
            format!(
                "The {} bytes in the file are exactly those that mercy committed to as this version, final in block 5. They call themselves AllergyIntolerance/a1.",
                bytes.len()
            ),
        ]
    );
    assert!(proven.not_proven()[0].contains("did not change after"));
    let deleted = RecordProven { deleted: true, name: None, ..proven };
    let last = deleted.proven().pop().unwrap();
    assert_eq!(last, "By this version mercy deleted the record.");
    assert!(deleted.proven()[2].ends_with("They call themselves a record without a name."));
    assert!(deleted.not_proven()[1].contains("takes its patient's key"));
    let known = KnownBlock { height: u64::MAX, block: sha256(&[b"another history"]) };
    assert!(verify_record_through(&file, &world.id(), Some(&known), &limits).is_err());
}
