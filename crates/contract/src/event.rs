//! What can happen in the cloud, as gateways report it to [`crate::derive()`].

use crate::{AccessAction, AlarmStep, ClaimStep, CustodyStep, MemberStep, PolicyKind, PolicyStep, Priority, PublicKey};
use record::{Commitment, Digest, Id16, OrgId, Pseudonym, RecordTag, TimeMs};
use serde_json::Value;

/// Something that happened. Ids that are not the entry's are random and made by the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A version of a record was written, or the record deleted.
    RecordWritten(RecordWritten<'a>),
    /// Versions were disclosed, or a write was audited.
    Disclosed {
        /// What was asked for.
        action: AccessAction,
        /// Commitments of the versions, in the order of disclosure.
        versions: &'a [Commitment],
        /// The override, grant, claim or investigation that it rests on.
        under: Option<Id16>,
        /// The audit event about it.
        audit: AuditEvent<'a>,
    },
    /// A disclosure was denied.
    Denied {
        /// What was asked for.
        action: AccessAction,
        /// What it was said to rest on.
        under: Option<Id16>,
        /// The audit event about it.
        audit: AuditEvent<'a>,
    },
    /// A patient gave a permission.
    Granted {
        /// The grant.
        id: Id16,
        /// Of the Consent's version, which an entry of its own carries.
        consent: Commitment,
        /// When it ends by itself.
        until: Option<TimeMs>,
    },
    /// A patient took a permission back.
    GrantRevoked {
        /// The grant.
        id: Id16,
        /// Of the Consent's version that says so.
        consent: Commitment,
    },
    /// The glass was broken.
    OverrideOpened {
        /// The override.
        id: Id16,
        /// It ends by itself then.
        until: TimeMs,
        /// The reason given, exactly as kept.
        reason: &'a [u8],
    },
    /// An override was closed by hand.
    OverrideClosed {
        /// The override.
        id: Id16,
        /// What was said, exactly as kept.
        reason: &'a [u8],
    },
    /// An override was reviewed by somebody else.
    OverrideReviewed {
        /// The override.
        id: Id16,
        /// Whether it was justified.
        justified: bool,
        /// What was said, exactly as kept.
        text: &'a [u8],
    },
    /// A device measures the patient from now.
    DeviceBound {
        /// Digest of the device's name.
        device: Digest,
        /// The binding.
        binding: Id16,
        /// Its frames are signed by this key.
        key: PublicKey,
    },
    /// A device does not measure the patient any more.
    DeviceUnbound {
        /// Digest of the device's name.
        device: Digest,
        /// The binding that ends.
        binding: Id16,
    },
    /// A device's key is not to be trusted any more.
    DeviceRevoked {
        /// Digest of the device's name.
        device: Digest,
        /// The key.
        key: PublicKey,
        /// The device's binding in force, if it has one; it ends when its frames are signed by the key.
        binding: Option<Id16>,
    },
    /// Frames of a few seconds.
    FramesBatched(Frames<'a>),
    /// Frames are let go by the derivation policy.
    FramesLetGo(LetGo<'a>),
    /// Analytics came to a result, which is a record of its own.
    Analysed {
        /// The record `Type/id` with the result.
        result: &'a str,
        /// Digests of the inputs.
        inputs: &'a [Digest],
        /// Digest of the rule's parameters or the model file.
        model: Digest,
        /// How urgent, when it is.
        priority: Option<Priority>,
    },
    /// An alarm was raised, acknowledged or ended.
    Alarm {
        /// The alarm.
        id: Id16,
        /// Which of them.
        step: AlarmStep,
        /// IEC 60601-1-8 priority.
        priority: Priority,
    },
    /// The author's organisation offers the patient to another one.
    HandoffOffered {
        /// The handoff.
        id: Id16,
        /// Who is to take over.
        to: OrgId,
    },
    /// The author's organisation takes the patient over.
    HandoffAccepted {
        /// The handoff.
        id: Id16,
        /// Who gave.
        from: OrgId,
    },
    /// A claim moved on.
    ClaimMoved {
        /// The claim.
        id: Id16,
        /// Which step.
        step: ClaimStep,
        /// The insurer it is addressed to.
        insurer: OrgId,
        /// The amount, exactly as kept, such as `1200.00 USD`.
        amount: &'a [u8],
        /// Records `Type/id` of the services billed. They go on the ledger, as nullifiers, with [`ClaimStep::Submitted`] only.
        services: &'a [&'a str],
    },
    /// Compliance opened a case.
    InvestigationOpened {
        /// The case.
        id: Id16,
        /// The order, exactly as kept.
        order: &'a [u8],
    },
    /// Compliance closed a case.
    InvestigationConcluded {
        /// The case.
        id: Id16,
        /// The result, exactly as kept.
        result: &'a [u8],
    },
    /// A version was written that lost against another organisation's.
    Disputed {
        /// The record `Type/id`.
        record: &'a str,
        /// Its latest version on the ledger.
        version: u64,
        /// That version's commitment.
        accepted: Commitment,
        /// Commitment of the version that lost.
        branch: Commitment,
    },
    /// Two Patients are one person, or are not. The entry is filed under the one that stays.
    Linked {
        /// The other's pseudonym of the month.
        other: Pseudonym,
        /// Whether they are one person.
        same: bool,
    },
    /// A custodian held, released, erased or recovered records.
    CustodyTaken {
        /// The procedure.
        id: Id16,
        /// What was done.
        step: CustodyStep,
        /// The records concerned, in any order.
        records: &'a [RecordTag],
    },
    /// A policy was written, proposed, voted on or activated.
    PolicyMoved {
        /// Which document.
        kind: PolicyKind,
        /// Its digest.
        document: Digest,
        /// Which step.
        step: PolicyStep,
    },
    /// A member changed.
    MemberChanged {
        /// The member.
        member: OrgId,
        /// What changed.
        step: MemberStep,
    },
}

/// A version of a record, as it was stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordWritten<'a> {
    /// `Type/id`.
    pub record: &'a str,
    /// 1 for the first.
    pub version: u64,
    /// Commitment of the version before.
    pub previous: Option<Commitment>,
    /// The exact stored bytes.
    pub bytes: &'a [u8],
    /// The same, parsed; [`Value::Null`] for a deletion.
    pub resource: &'a Value,
    /// Whether this version deletes the record.
    pub deleted: bool,
    /// The patient key, wrapped for the custodians, when this enrols a patient.
    pub wrapped_keys: &'a [Vec<u8>],
}

/// The audit event about an access: a record with a single version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEvent<'a> {
    /// `AuditEvent/id`.
    pub record: &'a str,
    /// The exact stored bytes.
    pub bytes: &'a [u8],
}

/// Frames that are let go, and what is left of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetGo<'a> {
    /// The binding.
    pub binding: Id16,
    /// The pseudonym that it was made under.
    pub bound: Pseudonym,
    /// Counter of the last frame that was let go before; 0 when none was.
    pub after: u64,
    /// Counter of the last frame that is let go.
    pub last: u64,
    /// How many there were.
    pub count: u64,
    /// Records `Type/id` of the roll-up, in any order.
    pub roll_ups: &'a [String],
    /// Concluded investigations of the patient, in any order.
    pub concluded: &'a [Id16],
}

/// Frames of one binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames<'a> {
    /// The binding.
    pub binding: Id16,
    /// Counter of the last frame of the batch before; none for the binding's first.
    pub after: Option<u64>,
    /// Counter and digest of every admitted frame, counters rising.
    pub admitted: &'a [(u64, Digest)],
    /// Frames refused meanwhile.
    pub refused: u32,
}
