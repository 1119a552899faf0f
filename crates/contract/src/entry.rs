//! An entry: one line of provenance, with commitments, codes, pseudonyms and times, and never health data.

use crate::{FormatError, PublicKey, from_cbor, to_cbor};
use minicbor::{Decode, Encode};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Pseudonym, Purpose, RecordTag, RecordType, TimeMs, sha256};

/// The longest entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 8 * 1024;

const ENTRY_DOMAIN: &[u8] = b"vitaltrace/entry/1\0";

/// What one organisation says happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Entry {
    /// Random and unique; also an input of the record's salt.
    #[n(0)]
    pub id: Id16,
    /// The organisation that says it.
    #[n(1)]
    pub org: OrgId,
    /// When, by the organisation's clock. Its month decides the pseudonym.
    #[n(2)]
    pub time: TimeMs,
    /// Why it was done.
    #[n(3)]
    pub purpose: Purpose,
    /// Digest of the access policy that it was decided under.
    #[n(4)]
    pub policy: Digest,
    /// Who did it: a keyed digest that only the organisation can open.
    #[n(5)]
    pub actor: Digest,
    /// The log that it is filed in. Entries about no patient are filed under the organisation's own pseudonym or none.
    #[n(6)]
    pub patient: Option<Pseudonym>,
    /// Present when the author saw no entry under `patient` yet: commits to the log of the month before.
    #[n(7)]
    pub month: Option<MonthLink>,
    /// What happened.
    #[n(8)]
    pub body: Body,
}

/// Commitment to the previous pseudonym of a patient with its log's count and root, so that the chain of months can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct MonthLink(#[n(0)] pub Commitment);

/// A coded fact that the derivation policy lets show, such as a LOINC code of an Observation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Code {
    /// Short name of the system: `loinc`, `snomed`, `fhir-type`, ...
    #[n(0)]
    pub system: String,
    /// The code.
    #[n(1)]
    pub code: String,
}

/// What an attachment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AttachmentKind {
    /// A record's body, encrypted under the patient key.
    #[n(0)]
    EssentialCopy,
    /// A patient key, wrapped for the custodians.
    #[n(1)]
    WrappedKey,
}

/// Names bytes that travel beside the block and rest in vaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Attachment {
    /// SHA-256 of the encrypted bytes.
    #[n(0)]
    pub digest: Digest,
    /// Their length in bytes.
    #[n(1)]
    pub length: u32,
    /// What they are for.
    #[n(2)]
    pub kind: AttachmentKind,
}

/// What happened, by kind. The number of a variant is its code on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// A version of a record was written.
    #[n(0)]
    Record {
        /// The record, over all its versions.
        #[n(0)]
        tag: RecordTag,
        /// Which of the seven types.
        #[n(1)]
        kind: RecordType,
        /// 1 for the first, then one more each time.
        #[n(2)]
        version: u64,
        /// The commitment of the version before; none for the first.
        #[n(3)]
        previous: Option<Commitment>,
        /// Commitment to the exact stored bytes.
        #[n(4)]
        commitment: Commitment,
        /// Whether this version deletes the record.
        #[n(5)]
        deleted: bool,
        /// What the derivation policy lets show.
        #[n(6)]
        codes: Vec<Code>,
        /// The encrypted copy, when the policy calls the record essential; also the wrapped key at enrolment.
        #[n(7)]
        attachments: Vec<Attachment>,
    },
    /// Records were disclosed, or a disclosure was denied; with the audit event about it.
    #[n(1)]
    Access {
        /// What was asked for.
        #[n(0)]
        action: AccessAction,
        /// RFC 9162 root over the commitments of the disclosed versions, in the order of disclosure.
        #[n(1)]
        set: Digest,
        /// How many versions were disclosed.
        #[n(2)]
        count: u32,
        /// Whether the decision was no.
        #[n(3)]
        denied: bool,
        /// The override, grant, claim or investigation that it rests on.
        #[n(4)]
        under: Option<Id16>,
        /// The audit event's record.
        #[n(5)]
        audit: RecordTag,
        /// Commitment to the audit event's exact bytes.
        #[n(6)]
        commitment: Commitment,
    },
    /// A patient's permission was issued or revoked.
    #[n(2)]
    Grant {
        /// The grant.
        #[n(0)]
        id: Id16,
        /// Issued or revoked.
        #[n(1)]
        step: GrantStep,
        /// Commitment to the Consent that says it.
        #[n(2)]
        consent: Commitment,
        /// When it ends by itself.
        #[n(3)]
        until: Option<TimeMs>,
    },
    /// The glass was broken, closed again, or reviewed.
    #[n(3)]
    Override {
        /// The override.
        #[n(0)]
        id: Id16,
        /// Opened, closed or reviewed.
        #[n(1)]
        step: OverrideStep,
        /// Commitment to the reason or the review's text.
        #[n(2)]
        reason: Commitment,
    },
    /// A device was bound to a patient, unbound, or its key revoked.
    #[n(4)]
    Device {
        /// Digest of the device's name.
        #[n(0)]
        device: Digest,
        /// Bound, unbound or revoked.
        #[n(1)]
        step: DeviceStep,
    },
    /// A few seconds of frames of one binding.
    #[n(5)]
    Batch {
        /// The binding that the frames were admitted under.
        #[n(0)]
        binding: Id16,
        /// RFC 9162 root over the frames' digests in order of counter.
        #[n(1)]
        root: Digest,
        /// How many frames.
        #[n(2)]
        count: u32,
        /// Counter of the first frame.
        #[n(3)]
        first: u64,
        /// Counter of the last frame.
        #[n(4)]
        last: u64,
        /// Counters missing between `first` and `last`, and between the batch before and `first`.
        #[n(5)]
        gaps: Vec<Gap>,
        /// Frames refused meanwhile: replays, clones, bad signatures.
        #[n(6)]
        refused: u32,
    },
    /// A result of analytics.
    #[n(6)]
    Analytics {
        /// The record that holds the result.
        #[n(0)]
        result: RecordTag,
        /// RFC 9162 root over the digests of the inputs.
        #[n(1)]
        inputs: Digest,
        /// Digest of the rule's parameters or the model file.
        #[n(2)]
        model: Digest,
        /// How urgent, when it is.
        #[n(3)]
        priority: Option<Priority>,
    },
    /// An alarm was raised, acknowledged or ended.
    #[n(7)]
    Alarm {
        /// The alarm.
        #[n(0)]
        id: Id16,
        /// Raised, acknowledged or ended.
        #[n(1)]
        step: AlarmStep,
        /// IEC 60601-1-8 priority.
        #[n(2)]
        priority: Priority,
    },
    /// Responsibility for a patient passed between organisations.
    #[n(8)]
    Handoff {
        /// The handoff.
        #[n(0)]
        id: Id16,
        /// Offered or accepted.
        #[n(1)]
        step: HandoffStep,
        /// Who gives.
        #[n(2)]
        from: OrgId,
        /// Who takes.
        #[n(3)]
        to: OrgId,
    },
    /// A claim moved on.
    #[n(9)]
    Claim {
        /// The claim.
        #[n(0)]
        id: Id16,
        /// Which step.
        #[n(1)]
        step: ClaimStep,
        /// The insurer it is addressed to.
        #[n(2)]
        insurer: OrgId,
        /// Commitment to the amount.
        #[n(3)]
        amount: Commitment,
        /// One for each billed service: HMAC(patient key, "service" ‖ record), the same at every insurer.
        #[n(4)]
        services: Vec<Digest>,
    },
    /// An investigation was opened or concluded.
    #[n(10)]
    Investigation {
        /// The case.
        #[n(0)]
        id: Id16,
        /// Opened or concluded.
        #[n(1)]
        step: InvestigationStep,
        /// Commitment to the order or the result.
        #[n(2)]
        document: Commitment,
    },
    /// Two organisations wrote the same version.
    #[n(11)]
    Dispute {
        /// The record.
        #[n(0)]
        tag: RecordTag,
        /// The version that both wrote.
        #[n(1)]
        version: u64,
        /// The commitment that the ledger accepted.
        #[n(2)]
        accepted: Commitment,
        /// The commitment kept as a branch.
        #[n(3)]
        branch: Commitment,
    },
    /// Two Patients are one person, or are not.
    #[n(12)]
    Link {
        /// The pseudonym of the other Patient; `Entry::patient` is the one that stays.
        #[n(0)]
        other: Pseudonym,
        /// Whether they are one person.
        #[n(1)]
        same: bool,
    },
    /// Records were held, released, erased or recovered.
    #[n(13)]
    Custody {
        /// The procedure.
        #[n(0)]
        id: Id16,
        /// What was done.
        #[n(1)]
        step: CustodyStep,
        /// RFC 9162 root over the tags of the records concerned.
        #[n(2)]
        records: Digest,
        /// How many records.
        #[n(3)]
        count: u32,
    },
    /// A policy document was proposed, voted on, or activated.
    #[n(14)]
    Policy {
        /// Which of the two documents.
        #[n(0)]
        kind: PolicyKind,
        /// Digest of the document.
        #[n(1)]
        document: Digest,
        /// Proposed, voted, activated, or written.
        #[n(2)]
        step: PolicyStep,
    },
    /// A member joined, left or changed a key.
    #[n(15)]
    Member {
        /// The member.
        #[n(0)]
        member: OrgId,
        /// What changed.
        #[n(1)]
        step: MemberStep,
    },
    /// Accesses by one person to one patient's records within a second. Each is an entry that does not stand on the ledger; this one
    /// commits to them all, and [`crate::Gathered`] opens any of them.
    #[n(16)]
    Accesses {
        /// RFC 9162 root over the digests of the accesses' entries, in order of time.
        #[n(0)]
        root: Digest,
        /// How many accesses.
        #[n(1)]
        count: u32,
        /// Milliseconds from the first access, whose time is [`Entry::time`], to the last.
        #[n(2)]
        ms: u32,
    },
    /// Frames of a binding were let go by the derivation policy, after a roll-up of them was written.
    #[n(17)]
    Disposal {
        /// The binding.
        #[n(0)]
        binding: Id16,
        /// The pseudonym that the binding was made under.
        #[n(1)]
        bound: Pseudonym,
        /// Counter of the last frame that was let go before; 0 when none was.
        #[n(2)]
        after: u64,
        /// Counter of the last frame that is let go: the last of a batch.
        #[n(3)]
        last: u64,
        /// How many frames there were, as their device signed them. Batches may have had more: those were gone before.
        #[n(4)]
        count: u64,
        /// Digest of the derivation policy that says how long frames are kept.
        #[n(5)]
        document: Digest,
        /// The records that hold the roll-up, sorted.
        #[n(6)]
        roll_ups: Vec<RecordTag>,
        /// Concluded investigations that were opened under the entry's pseudonym or the binding's, sorted.
        #[n(7)]
        concluded: Vec<Id16>,
    },
}

/// What was asked for in an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AccessAction {
    /// One version of one record.
    #[n(0)]
    Read,
    /// The records that match a query.
    #[n(1)]
    Search,
    /// The patient summary.
    #[n(2)]
    Summary,
    /// A record was written; the access entry carries its audit event.
    #[n(3)]
    Write,
    /// Frames or a live stream.
    #[n(4)]
    Frames,
    /// Evidence, an export or an accounting.
    #[n(5)]
    Export,
}

/// A patient's permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum GrantStep {
    /// In force from now.
    #[n(0)]
    Issued,
    /// Over from now.
    #[n(1)]
    Revoked,
}

/// A break-glass override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum OverrideStep {
    /// Opened until a time.
    #[n(0)]
    Opened(#[n(0)] TimeMs),
    /// Closed at the organisation that opened it; gateways let only the person who opened it.
    #[n(1)]
    Closed,
    /// Reviewed by somebody else; whether it was justified.
    #[n(2)]
    Reviewed(#[n(0)] bool),
}

/// A device and its patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DeviceStep {
    /// Bound to `Entry::patient`, with the key that its frames are signed by.
    #[n(0)]
    Bound(#[n(0)] Id16, #[n(1)] PublicKey),
    /// The binding ended.
    #[n(1)]
    Unbound(#[n(0)] Id16),
    /// The key is not to be trusted any more; with the device's binding in force, which ends when its frames are signed by that key.
    #[n(2)]
    Revoked(#[n(0)] PublicKey, #[n(1)] Option<Id16>),
}

/// Counters that never arrived: `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Gap {
    /// The first missing counter.
    #[n(0)]
    pub first: u64,
    /// The last missing counter.
    #[n(1)]
    pub last: u64,
}

/// Priority of an alarm condition. Source: IEC 60601-1-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Priority {
    /// Awareness is required.
    #[n(0)]
    Low,
    /// Prompt response is required.
    #[n(1)]
    Medium,
    /// Immediate response is required.
    #[n(2)]
    High,
}

/// An alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AlarmStep {
    /// The condition holds.
    #[n(0)]
    Raised,
    /// Somebody took note; `Entry::actor` is who.
    #[n(1)]
    Acknowledged,
    /// The condition is over.
    #[n(2)]
    Ended,
}

/// A handoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum HandoffStep {
    /// The giving side offers.
    #[n(0)]
    Offered,
    /// The taking side accepts.
    #[n(1)]
    Accepted,
}

/// A claim's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ClaimStep {
    /// The provider asked whether it would be covered.
    #[n(0)]
    PreauthorisationRequested,
    /// The insurer answered.
    #[n(1)]
    Preauthorised,
    /// The provider billed.
    #[n(2)]
    Submitted,
    /// The insurer decided to pay.
    #[n(3)]
    Accepted,
    /// The insurer decided not to pay.
    #[n(4)]
    Rejected,
    /// The insurer paid.
    #[n(5)]
    Paid,
    /// The provider withdrew it.
    #[n(6)]
    Cancelled,
}

/// An investigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum InvestigationStep {
    /// Opened over `Entry::patient`.
    #[n(0)]
    Opened,
    /// Concluded.
    #[n(1)]
    Concluded,
}

/// What a custodian did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CustodyStep {
    /// Nothing of it may be erased.
    #[n(0)]
    Held,
    /// The hold is over.
    #[n(1)]
    Released,
    /// Row, salt, attachments and key were destroyed.
    #[n(2)]
    Erased,
    /// A recovery was asked for.
    #[n(3)]
    RecoverProposed,
    /// A member agreed to open the essential copies.
    #[n(4)]
    RecoverVoted,
    /// The rebuilt database was put in place.
    #[n(5)]
    Recovered,
}

/// The two policy documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum PolicyKind {
    /// Who may: the Cedar policies.
    #[n(0)]
    Access,
    /// What goes on the ledger.
    #[n(1)]
    Derivation,
}

/// A policy's way into force: written on the ledger first, then the other steps in their order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PolicyStep {
    /// Put forward, to be in force from a height.
    #[n(0)]
    Proposed(#[n(0)] u64),
    /// Voted for or against.
    #[n(1)]
    Voted(#[n(0)] bool),
    /// Enough votes: in force.
    #[n(2)]
    Activated,
    /// A part of the document's bytes.
    #[n(3)]
    Written(#[n(0)] PolicyPart),
}

/// A part of a policy document, as [`crate::document::parts`] cuts it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PolicyPart {
    /// Which part, from 0.
    #[n(0)]
    pub part: u32,
    /// How many parts there are.
    #[n(1)]
    pub of: u32,
    /// Its bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// A change of membership.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MemberStep {
    /// Proposed to join; votes name the id of this entry.
    #[n(0)]
    JoinProposed(#[n(0)] Joining),
    /// Voted for or against what the entry with that id proposed.
    #[n(1)]
    Voted(#[n(0)] Id16, #[n(1)] bool),
    /// Leaves.
    #[n(2)]
    Left,
    /// Signs its entries by another key from now.
    #[n(3)]
    EntryKeyRotated(#[n(0)] PublicKey),
    /// Proposed to be removed; votes name the id of this entry.
    #[n(4)]
    RemovalProposed,
    /// Decides by this consensus key from the epoch after next; by none that it used before.
    #[n(5)]
    Seated(#[n(0)] PublicKey),
    /// Patient keys are wrapped to another recipient, or its validator listens elsewhere.
    #[n(6)]
    Moved(#[n(0)] Reach),
}

/// An organisation that is proposed as a member, as it would stand in a genesis document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Joining {
    /// What it is.
    #[n(0)]
    pub role: OrgRole,
    /// Will sign its submissions.
    #[n(1)]
    pub entry_key: PublicKey,
    /// Will sign its peer-to-peer handshakes and, once it has taken its seat, its votes.
    #[n(2)]
    pub consensus_key: PublicKey,
    /// Where it is reached.
    #[n(3)]
    pub reach: Reach,
}

/// How a member is reached: by its wrapping key, and at its validator's address.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Reach {
    /// Patient keys are wrapped to this age recipient (`age1...`).
    #[n(0)]
    pub wrap_key: String,
    /// Where its validator listens: `host:port`.
    #[n(1)]
    pub address: String,
}

impl Entry {
    /// Reads one entry from its deterministic encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        from_cbor("ledger entry", bytes, ENTRY_BYTES_MAX)
    }

    /// The deterministic encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// What names this entry in logs and proofs: SHA-256(domain ‖ encoding).
    pub fn digest(&self) -> Digest {
        Self::digest_of(&self.to_bytes())
    }

    /// The digest of the entry with this deterministic encoding.
    pub fn digest_of(encoded: &[u8]) -> Digest {
        sha256(&[ENTRY_DOMAIN, encoded])
    }

    /// The kind in one word, as people and `--json` see it.
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::Record { .. } => "record",
            Body::Access { .. } => "access",
            Body::Grant { .. } => "grant",
            Body::Override { .. } => "override",
            Body::Device { .. } => "device",
            Body::Batch { .. } => "batch",
            Body::Analytics { .. } => "analytics",
            Body::Alarm { .. } => "alarm",
            Body::Handoff { .. } => "handoff",
            Body::Claim { .. } => "claim",
            Body::Investigation { .. } => "investigation",
            Body::Dispute { .. } => "dispute",
            Body::Link { .. } => "link",
            Body::Custody { .. } => "custody",
            Body::Policy { .. } => "policy",
            Body::Member { .. } => "member",
            Body::Accesses { .. } => "accesses",
            Body::Disposal { .. } => "disposal",
        }
    }
}
