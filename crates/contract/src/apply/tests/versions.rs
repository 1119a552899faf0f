//! Records and disputes.

use crate::{
    ATTACHMENT_BYTES_MAX, Attachment, AttachmentKind, Body, Code,
    testing::{Said, World, check, commitment, digest, said, tag},
};
use record::RecordType;

/// Version `version` of record 1 with commitment `version`, following commitment `version - 1`.
pub(super) fn version(name: &str, kind: RecordType, version: u8) -> Said {
    let previous = (version > 1).then(|| commitment(version - 1));
    written(name, kind, u64::from(version), previous.map(|_| version - 1), version)
}

pub(super) fn written(name: &str, kind: RecordType, version: u64, previous: Option<u8>, own: u8) -> Said {
    let body = Body::Record {
        tag: tag(1),
        kind,
        version,
        previous: previous.map(commitment),
        commitment: commitment(own),
        deleted: false,
        codes: vec![],
        attachments: vec![],
    };
    said(name, body)
}

pub(super) fn deleting(mut said: Said) -> Said {
    if let Body::Record { deleted, .. } = &mut said.entry.body {
        *deleted = true;
    }
    said
}

pub(super) fn showing(mut said: Said, code: &str, times: usize) -> Said {
    if let Body::Record { codes, .. } = &mut said.entry.body {
        *codes = vec![Code { system: "loinc".into(), code: code.into() }; times];
    }
    said
}

pub(super) fn carrying(mut said: Said, kinds: &[AttachmentKind], length: u32) -> Said {
    if let Body::Record { attachments, .. } = &mut said.entry.body {
        *attachments = kinds.iter().map(|kind| Attachment { digest: digest(9), length, kind: *kind }).collect();
    }
    said
}

#[test]
fn versions_follow_each_other_whoever_writes_them() {
    use RecordType::MedicalRecord;
    check(
        &mut World::new(),
        [
            (written("mercy", MedicalRecord, 2, None, 1), "Version"),
            (written("mercy", MedicalRecord, 1, Some(7), 1), "Previous"),
            (deleting(version("mercy", MedicalRecord, 1)), "NothingToDelete"),
            (version("mercy", MedicalRecord, 1), "applied"),
            (version("mercy", MedicalRecord, 1), "Version"),
            (version("rescue", MedicalRecord, 3), "Version"),
            (written("rescue", MedicalRecord, 2, Some(9), 2), "Previous"),
            (written("rescue", MedicalRecord, 2, None, 2), "Previous"),
            (version("rescue", MedicalRecord, 2), "applied"),
            (version("county", MedicalRecord, 2), "Version"),
        ],
    );
}

#[test]
fn a_deleted_record_is_revived_by_its_next_version_and_not_deleted_twice() {
    use RecordType::MedicalRecord;
    check(
        &mut World::new(),
        [
            (version("mercy", MedicalRecord, 1), "applied"),
            (deleting(version("mercy", MedicalRecord, 2)), "applied"),
            (deleting(version("mercy", MedicalRecord, 3)), "NothingToDelete"),
            (version("mercy", MedicalRecord, 1), "Version"),
            (version("mercy", MedicalRecord, 3), "applied"),
        ],
    );
}

#[test]
fn every_role_writes_its_types_and_no_others() {
    use RecordType::{Analytics, Claims, Insurance, MedicalRecord, MedicalService, Permission, Sensed};
    let table = [
        ("mercy", vec![Sensed, Analytics, MedicalRecord, MedicalService, Insurance, Claims, Permission]),
        ("rescue", vec![Sensed, Analytics, MedicalRecord, MedicalService, Insurance, Permission]),
        ("acme", vec![Insurance, Claims, Permission]),
        ("watch", vec![Permission]),
    ];
    for (name, may) in table {
        for kind in RecordType::ALL {
            let expected = if may.contains(&kind) { "applied" } else { "Role" };
            assert_eq!(World::new().say(version(name, kind, 1)), expected, "{name} {kind}");
        }
    }
}

#[test]
fn nobody_gets_at_a_record_by_calling_it_something_else() {
    check(
        &mut World::new(),
        [
            (version("mercy", RecordType::MedicalRecord, 1), "applied"),
            (version("acme", RecordType::Claims, 2), "Role"),
            (version("watch", RecordType::Permission, 2), "Role"),
        ],
    );
}

#[test]
fn codes_and_attachments_have_bounds() {
    use AttachmentKind::{EssentialCopy, WrappedKey};
    let first = || version("mercy", RecordType::Sensed, 1);
    let table = [
        (showing(first(), "8867-4", 8), "applied"),
        (showing(first(), "8867-4", 9), "Codes"),
        (showing(first(), "", 1), "Codes"),
        (showing(first(), "Jane Doe", 1), "Codes"),
        (showing(first(), &"8".repeat(65), 1), "Codes"),
        (carrying(first(), &[EssentialCopy, WrappedKey], ATTACHMENT_BYTES_MAX), "applied"),
        (carrying(first(), &[EssentialCopy, EssentialCopy], 10), "Attachments"),
        (carrying(first(), &[WrappedKey; 9], 10), "Attachments"),
        (carrying(first(), &[WrappedKey], 0), "Attachments"),
        (carrying(first(), &[WrappedKey], ATTACHMENT_BYTES_MAX + 1), "Attachments"),
    ];
    for (said, expected) in table {
        assert_eq!(World::new().say(said.clone()), expected, "{said:?}");
    }
}

#[test]
fn a_dispute_stands_against_the_latest_version() {
    let dispute = |name: &str, version, accepted, branch| {
        let (accepted, branch) = (commitment(accepted), commitment(branch));
        said(name, Body::Dispute { tag: tag(1), version, accepted, branch })
    };
    check(
        &mut World::new(),
        [
            (dispute("county", 1, 1, 9), "Unknown"),
            (version("mercy", RecordType::MedicalRecord, 1), "applied"),
            (dispute("county", 1, 2, 9), "NotAccepted"),
            (dispute("county", 2, 1, 9), "NotAccepted"),
            (dispute("county", 1, 1, 1), "Same"),
            (dispute("acme", 1, 1, 9), "Role"),
            (dispute("county", 1, 1, 9).id(77), "applied"),
            (dispute("county", 1, 1, 9).id(77).lane(1), "NotNew"),
        ],
    );
}
