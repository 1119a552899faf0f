//! What an entry says, in a few words.

use contract::{
    AccessAction, AlarmStep, Body, ClaimStep, CustodyStep, DeviceStep, GrantStep, HandoffStep, InvestigationStep,
    MemberStep, OverrideStep, PolicyKind, PolicyStep, Priority,
};

/// What the record is called that comes with an access.
pub(crate) const AUDIT_EVENT: &str = "audit event";

/// Which of the seven types a record entry is of; audit events come with accesses.
pub(crate) fn record_kind(body: &Body) -> &'static str {
    match body {
        Body::Record { kind, .. } => kind.as_str(),
        _ => AUDIT_EVENT,
    }
}

/// What happened.
pub(crate) fn what(body: &Body) -> String {
    match body {
        Body::Record { kind, version, deleted, .. } => {
            let verb = if *deleted { "deleted" } else { "written" };
            format!("{kind} version {version} {verb}")
        }
        Body::Access { action, count, denied: false, under, .. } => {
            let resting = if under.is_some() { ", under a permission named" } else { "" };
            format!("{}: {count} versions disclosed{resting}", action_name(*action))
        }
        Body::Access { action, denied: true, .. } => format!("{}: denied", action_name(*action)),
        Body::Disposal { last, count, roll_ups, .. } => {
            format!("frames let go by policy up to counter {last}: {count}, rolled up in {} records", roll_ups.len())
        }
        Body::Accesses { count, ms, .. } => format!("{count} accesses within {ms} ms"),
        Body::Grant { step: GrantStep::Issued, .. } => "permission issued".to_owned(),
        Body::Grant { step: GrantStep::Revoked, .. } => "permission revoked".to_owned(),
        Body::Override { step: OverrideStep::Opened(until), .. } => format!("glass broken until {until}"),
        Body::Override { step: OverrideStep::Closed, .. } => "override closed".to_owned(),
        Body::Override { step: OverrideStep::Reviewed(justified), .. } => {
            format!("override reviewed: {}", if *justified { "justified" } else { "not justified" })
        }
        Body::Device { step: DeviceStep::Bound(..), .. } => "device bound".to_owned(),
        Body::Device { step: DeviceStep::Unbound(..), .. } => "device unbound".to_owned(),
        Body::Device { step: DeviceStep::Revoked(..), .. } => "device key revoked".to_owned(),
        Body::Batch { count, first, last, gaps, refused, .. } => {
            format!("{count} frames, counters {first} to {last}, {} gaps, {refused} refused", gaps.len())
        }
        Body::Analytics { priority, .. } => match priority {
            Some(priority) => format!("finding of {} priority", priority_name(*priority)),
            None => "finding".to_owned(),
        },
        Body::Alarm { step, priority, .. } => {
            let step = match step {
                AlarmStep::Raised => "raised",
                AlarmStep::Acknowledged => "acknowledged",
                AlarmStep::Ended => "ended",
            };
            format!("alarm of {} priority {step}", priority_name(*priority))
        }
        Body::Handoff { step, from, to, .. } => match step {
            HandoffStep::Offered => format!("handoff offered by {from} to {to}"),
            HandoffStep::Accepted => format!("handoff from {from} accepted by {to}"),
        },
        Body::Claim { step, insurer, services, .. } => {
            format!("claim to {insurer}: {}, {} services", claim_step(*step), services.len())
        }
        Body::Investigation { step: InvestigationStep::Opened, .. } => "investigation opened".to_owned(),
        Body::Investigation { step: InvestigationStep::Concluded, .. } => "investigation concluded".to_owned(),
        Body::Dispute { version, .. } => format!("two organisations wrote version {version}"),
        Body::Link { same: true, .. } => "two Patients are one person".to_owned(),
        Body::Link { same: false, .. } => "two Patients are not one person".to_owned(),
        Body::Custody { step, count, .. } => format!("{count} records {}", custody_step(*step)),
        Body::Policy { kind, step, .. } => {
            let kind = match kind {
                PolicyKind::Access => "access",
                PolicyKind::Derivation => "derivation",
            };
            match step {
                PolicyStep::Proposed(height) => format!("{kind} policy proposed from height {height}"),
                PolicyStep::Voted(true) => format!("{kind} policy voted for"),
                PolicyStep::Voted(false) => format!("{kind} policy voted against"),
                PolicyStep::Activated => format!("{kind} policy activated"),
                PolicyStep::Written(part) => {
                    format!("{kind} policy: part {} of {} written", u64::from(part.part) + 1, part.of)
                }
            }
        }
        Body::Member { member, step } => match step {
            MemberStep::JoinProposed(..) => format!("{member} proposed as a member"),
            MemberStep::RemovalProposed => format!("{member} proposed to be removed"),
            MemberStep::Voted(_, true) => format!("{member} voted for"),
            MemberStep::Voted(_, false) => format!("{member} voted against"),
            MemberStep::Seated(_) => format!("{member} took a seat by a consensus key"),
            MemberStep::Moved(_) => format!("{member} is reached elsewhere"),
            MemberStep::Left => format!("{member} left"),
            MemberStep::EntryKeyRotated(_) => format!("{member} changed its entry key"),
        },
    }
}

fn action_name(action: AccessAction) -> &'static str {
    match action {
        AccessAction::Read => "read",
        AccessAction::Search => "search",
        AccessAction::Summary => "summary",
        AccessAction::Write => "write",
        AccessAction::Frames => "frames",
        AccessAction::Export => "export",
    }
}

fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
    }
}

fn claim_step(step: ClaimStep) -> &'static str {
    match step {
        ClaimStep::PreauthorisationRequested => "preauthorisation requested",
        ClaimStep::Preauthorised => "preauthorised",
        ClaimStep::Submitted => "submitted",
        ClaimStep::Accepted => "accepted",
        ClaimStep::Rejected => "rejected",
        ClaimStep::Paid => "paid",
        ClaimStep::Cancelled => "cancelled",
    }
}

fn custody_step(step: CustodyStep) -> &'static str {
    match step {
        CustodyStep::Held => "held",
        CustodyStep::Released => "released",
        CustodyStep::Erased => "erased",
        CustodyStep::RecoverProposed => "proposed for recovery",
        CustodyStep::RecoverVoted => "voted for recovery",
        CustodyStep::Recovered => "recovered",
    }
}
