//! The ledger's state: what every peer knows after a block, as authenticated key-value pairs.
//!
//! A key is SHA-256(domain ‖ kind ‖ name); a value is the deterministic CBOR of the type named beside the key's function.

use crate::{
    PublicKey,
    entry::{ClaimStep, CustodyStep, Joining, PolicyKind, Reach},
    merkle::Frontier,
};
use minicbor::{Decode, Encode};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Pseudonym, RecordTag, RecordType, TimeMs, sha256};

/// The longest value, in bytes: three sets of [`crate::MEMBERS_MAX`] consensus keys are the largest.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

const KEY_DOMAIN: &[u8] = b"vitaltrace/state/1\0";

/// Where a value stands in the state.
pub type Key = Digest;

/// Reads of the state as it is before an entry.
pub trait State {
    /// The value's bytes, if there is one.
    fn read(&self, key: &Key) -> Option<&[u8]>;
}

/// The most parts of a key besides its domain and kind.
const KEY_PARTS_MAX: usize = 4;

fn key<const N: usize>(kind: &str, parts: &[&[u8]; N]) -> Key {
    const { assert!(N <= KEY_PARTS_MAX) };
    let mut all: [&[u8]; 3 + KEY_PARTS_MAX] = [b""; _];
    all[0] = KEY_DOMAIN;
    all[1] = kind.as_bytes();
    all[2] = b"\0";
    all[3..3 + N].copy_from_slice(parts);
    sha256(&all)
}

/// [`Organisation`] by name.
pub fn organisation_key(org: &OrgId) -> Key {
    key("org", &[org.as_str().as_bytes()])
}
/// [`Roll`] of the members.
pub fn roll_key() -> Key {
    key("roll", &[])
}
/// [`KeyOwner`] of an entry key or consensus key, from the moment it was first named.
pub fn key_owner_key(public: &PublicKey) -> Key {
    key("key-owner", &[public.as_bytes()])
}
/// [`Seat`] of a member by its name.
pub fn seat_key(org: &OrgId) -> Key {
    key("seat", &[org.as_str().as_bytes()])
}
/// [`Succession`] of the validator sets.
pub fn succession_key() -> Key {
    key("succession", &[])
}
/// [`ValidatorSet`] by the first epoch that it decides; the founders' is not among them. One is that of an epoch if [`Succession`], or a
/// later one of which it is the previous, names it.
pub fn set_key(from: u64) -> Key {
    key("set", &[&from.to_be_bytes()])
}
/// [`Membership`] by the id of the entry that proposed it.
pub fn membership_key(id: &Id16) -> Key {
    key("membership", &[id.as_ref()])
}
/// [`Lane`] of an organisation.
pub fn lane_key(org: &OrgId, lane: u32) -> Key {
    key("lane", &[&lane.to_be_bytes(), org.as_str().as_bytes()])
}
/// [`RecordHead`] of a record; there is none of an access's audit event, which the log has.
pub fn record_key(tag: &RecordTag) -> Key {
    key("record", &[tag.0.as_ref()])
}
/// [`LogHead`] of a pseudonym.
pub fn log_key(patient: &Pseudonym) -> Key {
    key("log", &[patient.0.as_ref()])
}
/// [`DeviceHead`] by digest of the device's name.
pub fn device_key(device: &Digest) -> Key {
    key("device", &[device.as_ref()])
}
/// [`Timeline`] of a binding's batches, by the binding's id.
pub fn timeline_key(binding: &Id16) -> Key {
    key("timeline", &[binding.as_ref()])
}
/// [`Retention`] of a derivation policy that lets frames go, by its digest.
pub fn retention_key(document: &Digest) -> Key {
    key("retention", &[document.as_ref()])
}
/// [`Cases`] that were opened under a pseudonym.
pub fn cases_key(patient: &Pseudonym) -> Key {
    key("cases", &[patient.0.as_ref()])
}
/// [`DeviceKey`] of a key that frames are signed by.
pub fn device_signer_key(public: &PublicKey) -> Key {
    key("device-signer", &[public.as_bytes()])
}
/// [`Binding`] by its id.
pub fn binding_key(id: &Id16) -> Key {
    key("binding", &[id.as_ref()])
}
/// [`Grant`] by its id.
pub fn grant_key(id: &Id16) -> Key {
    key("grant", &[id.as_ref()])
}
/// [`Override`] by its id.
pub fn override_key(id: &Id16) -> Key {
    key("override", &[id.as_ref()])
}
/// [`AlarmHead`] by its id.
pub fn alarm_key(id: &Id16) -> Key {
    key("alarm", &[id.as_ref()])
}
/// [`HandoffHead`] by its id.
pub fn handoff_key(id: &Id16) -> Key {
    key("handoff", &[id.as_ref()])
}
/// [`Claim`] by its id.
pub fn claim_key(id: &Id16) -> Key {
    key("claim", &[id.as_ref()])
}
/// [`Nullifier`] of a billed service.
pub fn nullifier_key(service: &Digest) -> Key {
    key("nullifier", &[service.as_ref()])
}
/// [`Investigation`] by its id.
pub fn investigation_key(id: &Id16) -> Key {
    key("investigation", &[id.as_ref()])
}
/// [`Custody`] by its id.
pub fn custody_key(id: &Id16) -> Key {
    key("custody", &[id.as_ref()])
}
/// [`Held`] by the id of a hold on a patient.
pub fn held_key(id: &Id16) -> Key {
    key("held", &[id.as_ref()])
}
/// [`Hold`] on the records filed under a pseudonym.
pub fn hold_key(patient: &Pseudonym) -> Key {
    key("hold", &[patient.0.as_ref()])
}
/// [`Said`] by an entry's id.
pub fn said_key(entry: &Id16) -> Key {
    key("said", &[entry.as_ref()])
}
/// [`ActivePolicy`] of a kind.
pub fn policy_key(kind: PolicyKind) -> Key {
    key("policy", &[&[kind as u8]])
}
/// [`PolicyTerm`] of a document that is or was in force.
pub fn policy_term_key(kind: PolicyKind, document: &Digest) -> Key {
    key("policy-term", &[&[kind as u8], document.as_ref()])
}
/// [`PolicyText`] of a document that is on the ledger.
pub fn policy_text_key(kind: PolicyKind, document: &Digest) -> Key {
    key("policy-text", &[&[kind as u8], document.as_ref()])
}
/// [`PolicyBytes`] of a part that a member wrote of a document.
pub fn policy_part_key(kind: PolicyKind, document: &Digest, org: &OrgId, part: u32) -> Key {
    key("policy-part", &[&[kind as u8], document.as_ref(), &part.to_be_bytes(), org.as_str().as_bytes()])
}
/// [`Proposal`] of a policy document.
pub fn proposal_key(kind: PolicyKind, document: &Digest) -> Key {
    key("proposal", &[&[kind as u8], document.as_ref()])
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Organisation {
    /// What it is.
    #[n(0)]
    pub role: OrgRole,
    /// Signs its submissions.
    #[n(1)]
    pub entry_key: PublicKey,
    /// Whether it left.
    #[n(2)]
    pub left: bool,
    /// Overrides that it opened and nobody has reviewed.
    #[n(3)]
    pub unreviewed: u64,
}

/// Who the members are: what majorities are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Roll {
    /// Sorted by name.
    #[n(0)]
    pub members: Vec<Voter>,
}

/// A member in the roll.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Voter {
    /// Its name.
    #[n(0)]
    pub org: OrgId,
    /// What it is.
    #[n(1)]
    pub role: OrgRole,
}

/// Whose a key is, and for which heights. A key is never used by a second member, nor again after it was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KeyOwner {
    /// The member.
    #[n(0)]
    pub org: OrgId,
    /// Height of the first block that it counts for; none for a key that was proposed only.
    #[n(1)]
    pub from: Option<u64>,
    /// Height of the first block that it does not count for any more.
    #[n(2)]
    pub until: Option<u64>,
}

/// Where a member is reached, and since when it uses its keys. Heights are those of the first block that a key counts for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Seat {
    /// Signs its peer-to-peer handshakes and, while it has a seat, its votes.
    #[n(0)]
    pub consensus_key: PublicKey,
    /// Patient keys are wrapped to it; where its validator listens.
    #[n(1)]
    pub reach: Reach,
    /// Since when its entry key counts.
    #[n(2)]
    pub entry_from: u64,
    /// Since when its consensus key decides; none while it has no seat.
    #[n(3)]
    pub consensus_from: Option<u64>,
    /// Since when its wrapping key counts.
    #[n(4)]
    pub wrap_from: u64,
    /// Height of the block in which it left, if it did.
    #[n(5)]
    pub left_at: Option<u64>,
}

/// A change of membership that members vote on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Membership {
    /// Who would join or be removed.
    #[n(0)]
    pub member: OrgId,
    /// What would join; none when it would be removed.
    #[n(1)]
    pub joining: Option<Joining>,
    /// Who proposed it.
    #[n(2)]
    pub by: OrgId,
    /// Height of the block in which it was proposed.
    #[n(3)]
    pub height: u64,
    /// Members in favour, each once, sorted.
    #[n(4)]
    pub votes: Vec<OrgId>,
    /// Members against, each once, sorted.
    #[n(5)]
    pub against: Vec<OrgId>,
    /// Whether it came into force.
    #[n(6)]
    pub done: bool,
}

/// Who decides from an epoch on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ValidatorSet {
    /// The first epoch.
    #[n(0)]
    pub from: u64,
    /// Consensus keys, sorted.
    #[n(1)]
    pub keys: Vec<PublicKey>,
    /// The first epoch of the set before it; none for the founders'.
    #[n(2)]
    pub previous: Option<u64>,
}

/// The set that decides now, and those that follow: what is final in an epoch changes the set of the epoch after next.
///
/// So both sets that a node needs in an epoch were settled before the epoch began, and whoever comes in has a whole epoch to
/// connect and to catch up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Succession {
    /// Blocks of an epoch.
    // INVARIANT: above 0, as the genesis document's.
    #[n(0)]
    pub epoch_blocks: u64,
    /// One to three, by their first epochs.
    // INVARIANT: never empty, and no set is.
    #[n(1)]
    sets: Vec<ValidatorSet>,
}

impl Succession {
    /// What a genesis document begins with.
    pub fn new(epoch_blocks: u64, mut keys: Vec<PublicKey>) -> Self {
        keys.sort();
        Self { epoch_blocks: epoch_blocks.max(1), sets: vec![ValidatorSet { from: 0, keys, previous: None }] }
    }

    /// The epoch of a height.
    pub fn epoch(&self, height: u64) -> u64 {
        height / self.epoch_blocks.max(1)
    }

    /// Consensus keys of those who decide `epoch`, sorted; of the oldest set that is known, when the epoch is older.
    pub fn keys(&self, epoch: u64) -> &[PublicKey] {
        let set = self.sets.iter().rev().find(|set| set.from <= epoch).or(self.sets.first());
        set.map_or(&[], |set| &set.keys)
    }

    /// The sets by the first epochs that they decide.
    pub fn sets(&self) -> &[ValidatorSet] {
        &self.sets
    }

    /// The height at which a change in the block at `height` begins to count.
    pub fn counts_from(&self, height: u64) -> u64 {
        self.epoch(height).saturating_add(2).saturating_mul(self.epoch_blocks)
    }

    /// The set of the epoch after next, with `key` in the place of `old`, at `height`: what only state older than that epoch knew is
    /// forgotten. `None`: nobody would be left, or more would be new than a quorum can do without.
    ///
    /// Of the members of a set as many decided the epoch before as are a quorum of it, unless there are fewer than four, where
    /// every one is needed anyway; there one may be new.
    pub(crate) fn changed(&self, height: u64, old: Option<&PublicKey>, key: Option<PublicKey>) -> Option<Self> {
        let epoch = self.epoch(height);
        let mut keys: Vec<PublicKey> =
            self.keys(epoch.saturating_add(2)).iter().filter(|known| Some(*known) != old).copied().collect();
        keys.extend(key);
        keys.sort();
        keys.dedup();
        let before = self.keys(epoch.saturating_add(1));
        let new = keys.iter().filter(|key| before.binary_search(key).is_err()).count();
        if keys.is_empty() || new > (keys.len() - 1).div_euclid(3).max(1) {
            return None;
        }
        let decides = self.sets.iter().rposition(|set| set.from <= epoch).unwrap_or(0);
        let from = epoch.saturating_add(2);
        let mut sets: Vec<ValidatorSet> =
            self.sets.iter().skip(decides).filter(|set| set.from < from).cloned().collect();
        if sets.last().is_none_or(|last| last.keys != keys) {
            let previous = sets.last().map(|last| last.from);
            sets.push(ValidatorSet { from, keys, previous });
        }
        Some(Self { epoch_blocks: self.epoch_blocks, sets })
    }
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Lane {
    /// Sequence number of the last entry in a final block, applied or refused.
    #[n(0)]
    pub seq: u64,
}

/// The latest version of a record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RecordHead {
    /// Its number.
    #[n(0)]
    pub version: u64,
    /// Commitment to its bytes.
    #[n(1)]
    pub commitment: Commitment,
    /// Who wrote it.
    #[n(2)]
    pub org: OrgId,
    /// Height of the block that it is in.
    #[n(3)]
    pub height: u64,
    /// Whether it deletes the record.
    #[n(4)]
    pub deleted: bool,
    /// Which of the seven types.
    #[n(5)]
    pub kind: RecordType,
}

/// The log of all entries filed under a pseudonym.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LogHead {
    /// The tree over the leaves of [`log_leaf`].
    #[n(0)]
    pub frontier: Frontier,
    /// Height of the block with the last entry.
    #[n(1)]
    pub height: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DeviceHead {
    /// The organisation that runs it.
    #[n(0)]
    pub org: OrgId,
    /// The binding in force.
    #[n(1)]
    pub binding: Option<Id16>,
    /// The key of the last binding.
    #[n(2)]
    pub key: PublicKey,
    /// Counter of the last frame in a batch under that key when a binding ended; the next binding by that key goes on from it.
    #[n(3)]
    pub last: u64,
}

/// A key that frames are signed by. It belongs to one device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DeviceKey {
    /// The device.
    #[n(0)]
    pub device: Digest,
    /// Not to be trusted from this entry time on.
    #[n(1)]
    pub revoked: Option<TimeMs>,
}

/// A device's time with a patient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Binding {
    /// The device.
    #[n(0)]
    pub device: Digest,
    /// The organisation that bound it.
    #[n(1)]
    pub org: OrgId,
    /// Its frames are signed by this key.
    #[n(2)]
    pub key: PublicKey,
    /// The pseudonym that it was bound under.
    #[n(3)]
    pub patient: Pseudonym,
    /// Entry time of the start.
    #[n(4)]
    pub from: TimeMs,
    /// Entry time of the end.
    #[n(5)]
    pub until: Option<TimeMs>,
    /// Counter of the last frame in a batch; before the first batch, the counter that it must be above.
    #[n(6)]
    pub last: u64,
    /// How many batches there were.
    #[n(7)]
    pub batches: u64,
}

/// When a binding's batches became final, as far as frames are let go by that.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Timeline {
    /// Counter of the last frame that was let go; 0 when none was.
    #[n(0)]
    pub let_go: u64,
    /// Every batch so far was final before this block time.
    #[n(1)]
    pub before: TimeMs,
    /// The first batch from this block time on leaves a cut.
    #[n(2)]
    pub next_cut: TimeMs,
    /// Where frames may be let go while later ones are kept; counters and times rise.
    #[n(3)]
    pub cuts: Vec<Cut>,
}

/// The end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Cut {
    /// Counter of the batch's last frame.
    #[n(0)]
    pub last: u64,
    /// The batch, and all before it, were final before this block time.
    #[n(1)]
    pub before: TimeMs,
}

/// How long a derivation policy has frames kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Retention {
    /// In seconds from the block of their batch on.
    #[n(0)]
    pub keep_s: u32,
}

/// Investigations that were opened under a pseudonym.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Cases {
    /// In the order of their opening.
    #[n(0)]
    pub ids: Vec<Id16>,
    /// Whether there were more than are listed.
    #[n(1)]
    pub more: bool,
}

/// A patient's permission.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Grant {
    /// Commitment to the Consent.
    #[n(0)]
    pub consent: Commitment,
    /// Who filed it.
    #[n(1)]
    pub org: OrgId,
    /// When it ends by itself.
    #[n(2)]
    pub until: Option<TimeMs>,
    /// Entry time of the revocation.
    #[n(3)]
    pub revoked: Option<TimeMs>,
    /// The pseudonym that it was issued under.
    #[n(4)]
    pub patient: Pseudonym,
    /// Entry time of the issue.
    #[n(5)]
    pub from: TimeMs,
}

/// A break-glass override.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Override {
    /// Who opened it.
    #[n(0)]
    pub org: OrgId,
    /// The person at that organisation.
    #[n(1)]
    pub actor: Digest,
    /// For which patient.
    #[n(2)]
    pub patient: Pseudonym,
    /// It ends by itself then.
    #[n(3)]
    pub until: TimeMs,
    /// Entry time of its closing.
    #[n(4)]
    pub closed: Option<TimeMs>,
    /// Whether it was justified, once reviewed.
    #[n(5)]
    pub reviewed: Option<bool>,
    /// Entry time of its opening.
    #[n(6)]
    pub from: TimeMs,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct AlarmHead {
    /// Who raised it.
    #[n(0)]
    pub org: OrgId,
    /// Whether somebody took note.
    #[n(1)]
    pub acknowledged: bool,
    /// Whether the condition is over.
    #[n(2)]
    pub ended: bool,
}

/// A handoff.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct HandoffHead {
    /// Who gives.
    #[n(0)]
    pub from: OrgId,
    /// Who takes.
    #[n(1)]
    pub to: OrgId,
    /// Whether it was taken.
    #[n(2)]
    pub accepted: bool,
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Claim {
    /// Who bills.
    #[n(0)]
    pub provider: OrgId,
    /// Who pays.
    #[n(1)]
    pub insurer: OrgId,
    /// The last step.
    #[n(2)]
    pub step: ClaimStep,
    /// Commitment to the amount, as the last step says.
    #[n(3)]
    pub amount: Commitment,
}

/// A service that was billed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Nullifier {
    /// The claim that billed it.
    #[n(0)]
    pub claim: Id16,
}

/// An investigation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Investigation {
    /// Who investigates.
    #[n(0)]
    pub org: OrgId,
    /// Over which patient, if over one.
    #[n(1)]
    pub patient: Option<Pseudonym>,
    /// Entry time of its conclusion.
    #[n(2)]
    pub concluded: Option<TimeMs>,
    /// Entry time of its opening.
    #[n(3)]
    pub from: TimeMs,
}

/// A custody procedure.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Custody {
    /// Who asked for it.
    #[n(0)]
    pub org: OrgId,
    /// Members in favour, each once, sorted.
    #[n(1)]
    pub votes: Vec<OrgId>,
    /// The last step that changed it: held, released, erased, recovery proposed, recovered.
    #[n(2)]
    pub step: CustodyStep,
}

/// Holds on the records filed under a pseudonym.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Hold {
    /// How many are open.
    #[n(0)]
    pub open: u32,
}

/// What a hold is on, for its release.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Held {
    /// The pseudonym that the hold was filed under.
    #[n(0)]
    pub patient: Pseudonym,
}

/// Remembers an entry whose kind leaves nothing else in the state, so that it is applied once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Said {
    /// The entry's digest.
    #[n(0)]
    pub entry: Digest,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ActivePolicy {
    /// Digest of the document.
    #[n(0)]
    pub document: Digest,
    /// In force from this height.
    #[n(1)]
    pub height: u64,
}

/// How long a policy document was in force.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PolicyTerm {
    /// Block time at which another took its place; none while it is in force.
    #[n(0)]
    pub until: Option<TimeMs>,
}

/// A policy document that is on the ledger as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PolicyText {
    /// The member whose parts it is read from.
    #[n(0)]
    pub org: OrgId,
    /// How many parts there are.
    #[n(1)]
    pub parts: u32,
}

/// A part of a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PolicyBytes {
    /// As they were written.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// A policy put forward.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Proposal {
    /// Who put it forward.
    #[n(0)]
    pub org: OrgId,
    /// In force from this height, if voted before.
    #[n(1)]
    pub height: u64,
    /// Members in favour, each once, sorted.
    #[n(2)]
    pub votes: Vec<OrgId>,
    /// Members against, each once, sorted.
    #[n(3)]
    pub against: Vec<OrgId>,
    /// Whether it was activated.
    #[n(4)]
    pub activated: bool,
}

/// The leaf of an entry in its patient's log: binds height, block time and entry digest.
pub fn log_leaf(height: u64, time: TimeMs, entry: &Digest) -> Digest {
    crate::merkle::leaf(&[&height.to_be_bytes()[..], &time.0.to_be_bytes(), entry.as_ref()].concat())
}

/// The leaf of an entry in the log over all entries: also says whether it was applied (0) or why it was refused.
pub fn entry_leaf(height: u64, time: TimeMs, verdict: u8, entry: &Digest) -> Digest {
    crate::merkle::leaf(&entry_leaf_bytes(height, time, verdict, entry))
}

/// What [`entry_leaf`] is the digest of, as a leaf.
pub fn entry_leaf_bytes(height: u64, time: TimeMs, verdict: u8, entry: &Digest) -> Vec<u8> {
    [&height.to_be_bytes()[..], &time.0.to_be_bytes(), &[verdict], entry.as_ref()].concat()
}
