//! Rules for records: versions follow each other, and the author's role covers the type.

use super::{Case, Reject, ensure};
use crate::{
    Attachment, AttachmentKind, Body, Code,
    state::{self, RecordHead},
};
use record::{OrgRole, RecordType};

/// The most codes of one record.
pub const CODES_MAX: usize = 8;
/// The longest system name or code, in bytes.
pub const CODE_BYTES_MAX: usize = 64;
/// The most attachments of one record: its encrypted copy and wrapped keys.
pub const ATTACHMENTS_MAX: usize = 8;
/// The longest attachment, in bytes.
pub const ATTACHMENT_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Whether organisations of that role may write records of that type.
///
/// Ambulances keep no claim documents; insurers write coverage, claims and permissions; compliance writes permissions (its audit
/// events and consents), and nothing about care.
pub fn may_write(role: OrgRole, kind: RecordType) -> bool {
    match role {
        OrgRole::Hospital => true,
        OrgRole::Ems => kind != RecordType::Claims,
        OrgRole::Insurer => matches!(kind, RecordType::Insurance | RecordType::Claims | RecordType::Permission),
        OrgRole::Compliance => kind == RecordType::Permission,
    }
}

/// The version is the next and follows the accepted one. A write after a deletion revives the record as its next version.
pub(super) fn record(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Record { tag, kind, version, previous, commitment, deleted, codes, attachments } = &case.entry.body
    else {
        return Ok(());
    };
    let role = case.member.role;
    ensure(may_write(role, *kind), Reject::Role)?;
    ensure(!tag.is_audit(), Reject::AuditIsFinal)?;
    check_codes(codes)?;
    check_attachments(attachments)?;
    let key = state::record_key(tag);
    match case.get::<RecordHead>(&key) {
        None => {
            ensure(*version == 1, Reject::Version)?;
            ensure(previous.is_none(), Reject::Previous)?;
            ensure(!deleted, Reject::NothingToDelete)?;
        }
        Some(head) => {
            // Else an insurer could write a version of a clinical record by calling it a claim.
            ensure(may_write(role, head.kind), Reject::Role)?;
            ensure(head.version.checked_add(1) == Some(*version), Reject::Version)?;
            ensure(*previous == Some(head.commitment), Reject::Previous)?;
            ensure(!(head.deleted && *deleted), Reject::NothingToDelete)?;
        }
    }
    let head = RecordHead {
        version: *version,
        commitment: *commitment,
        org: case.entry.org.clone(),
        height: case.block.height,
        deleted: *deleted,
        kind: *kind,
    };
    case.put(key, &head);
    Ok(())
}

/// The branch stands against the record's latest version. When the record has moved on since, the dispute names that version.
pub(super) fn dispute(case: &mut Case<'_>) -> Result<(), Reject> {
    let Body::Dispute { tag, version, accepted, branch } = &case.entry.body else { return Ok(()) };
    let head = case.get::<RecordHead>(&state::record_key(tag)).ok_or(Reject::Unknown)?;
    ensure(may_write(case.member.role, head.kind), Reject::Role)?;
    ensure(head.version == *version && head.commitment == *accepted, Reject::NotAccepted)?;
    ensure(accepted != branch, Reject::Same)?;
    case.say_once()
}

/// Codes are short and printable: no place for text.
fn check_codes(codes: &[Code]) -> Result<(), Reject> {
    let fits =
        |text: &str| (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure(codes.len() <= CODES_MAX && codes.iter().all(|code| fits(&code.system) && fits(&code.code)), Reject::Codes)
}

fn check_attachments(attachments: &[Attachment]) -> Result<(), Reject> {
    let copies = attachments.iter().filter(|attachment| attachment.kind == AttachmentKind::EssentialCopy).count();
    let fit = attachments.iter().all(|attachment| (1..=ATTACHMENT_BYTES_MAX).contains(&attachment.length));
    ensure(attachments.len() <= ATTACHMENTS_MAX && copies <= 1 && fit, Reject::Attachments)
}
