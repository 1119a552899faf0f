//! A whole block, applied: the same writes, verdicts and roots on every peer.

use crate::{
    Genesis, PolicyKind, Reach, Reject, SignedSubmission, apply,
    merkle::Frontier,
    state::{self, Key, State},
    to_cbor,
};
use record::{Digest, OrgId, TimeMs};
use std::collections::{BTreeMap, HashMap};

/// Where a block stands: what its execution needs to know besides its submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The block's own height.
    pub height: u64,
    /// The block's own time.
    pub time: TimeMs,
    /// The log over all entries, before the block.
    pub log: Frontier,
}

/// What became of one entry of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The organisation and lane it came by.
    pub org: OrgId,
    /// The lane.
    pub lane: u32,
    /// Its sequence number in the lane.
    pub seq: u64,
    /// Its index in the log over all entries.
    pub index: u64,
    /// The entry's digest.
    pub digest: Digest,
    /// Why it was refused; `None` when it was applied.
    pub refused: Option<Reject>,
}

/// The result of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// New values by key; `None` removes.
    pub writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// One for each entry, in order.
    pub receipts: Vec<Receipt>,
    /// The log over all entries, after the block.
    pub log: Frontier,
}

/// Why a block with these submissions can never be valid on this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// A submission does not continue its lane: at most once, and in order.
    #[error("`{org}` lane {lane} continues with {expected}, not {got}")]
    OutOfOrder {
        /// The organisation.
        org: OrgId,
        /// Its lane.
        lane: u32,
        /// The next sequence number.
        expected: u64,
        /// The submission's.
        got: u64,
    },
    /// The organisation is no member, or left.
    #[error("`{0}` is no member")]
    UnknownOrg(OrgId),
}

/// Every key that executing `submissions` may read. Which keys an entry reads is a function of the entry alone.
pub fn touched(submissions: &[SignedSubmission]) -> Vec<Key> {
    let mut keys = Vec::new();
    for signed in submissions {
        let submission = &signed.submission;
        keys.push(state::organisation_key(&submission.org));
        keys.push(state::lane_key(&submission.org, submission.lane));
        for entry in &submission.entries {
            apply::reads(entry, &mut keys);
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// The state as values read before the block, with the block's own writes on top.
struct Overlay<'a> {
    before: &'a HashMap<Key, Vec<u8>>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
}

impl State for Overlay<'_> {
    fn read(&self, key: &Key) -> Option<&[u8]> {
        match self.writes.get(key) {
            Some(written) => written.as_deref(),
            None => self.before.get(key).map(Vec::as_slice),
        }
    }
}

/// Applies the submissions in order on the state `before`, which holds the values of all [`touched`] keys that have one.
///
/// The block at height 1 begins by writing the [`genesis_state`].
///
/// Signatures are not checked here: peers check them before they vote, once per submission. The signing key that they must check
/// against is the organisation's in the state before the block.
pub fn execute(
    genesis: &Genesis,
    parent: &Parent,
    submissions: &[SignedSubmission],
    before: &HashMap<Key, Vec<u8>>,
) -> Result<Executed, InvalidBlock> {
    let founding = if parent.height == 1 { genesis_state(genesis) } else { BTreeMap::new() };
    let writes = founding.into_iter().map(|(key, value)| (key, Some(value))).collect();
    let mut overlay = Overlay { before, writes };
    let mut receipts = Vec::new();
    let mut log = parent.log.clone();
    for signed in submissions {
        let submission = &signed.submission;
        let (org, lane) = (&submission.org, submission.lane);
        let mut member = apply::member(&overlay, org);
        if member.is_none() {
            return Err(InvalidBlock::UnknownOrg(org.clone()));
        }
        let member_key = state::organisation_key(org);
        let lane_key = state::lane_key(org, lane);
        let expected = apply::value::<state::Lane>(&overlay, &lane_key).map_or(0, |lane| lane.seq).saturating_add(1);
        if submission.first_seq != expected {
            return Err(InvalidBlock::OutOfOrder { org: org.clone(), lane, expected, got: submission.first_seq });
        }
        let entries = submission.entries.iter().zip(signed.entry_digests().iter().copied());
        for (seq, (entry, digest)) in (submission.first_seq..).zip(entries) {
            let applied = match &member {
                Some(member) if entry.org == *org => apply::apply_of(member, &overlay, parent, entry, &digest),
                _ => apply::apply(&overlay, parent, entry, &digest),
            };
            let refused = match applied {
                Ok(writes) => {
                    let changes_member = writes.contains_key(&member_key);
                    overlay.writes.extend(writes);
                    if changes_member {
                        member = apply::member(&overlay, org);
                    }
                    None
                }
                Err(reject) => Some(reject),
            };
            let verdict = refused.as_ref().map_or(0, |reject| reject.code());
            receipts.push(Receipt { org: org.clone(), lane, seq, index: log.size(), digest, refused });
            log.push(state::entry_leaf(parent.height, parent.time, verdict, &digest));
        }
        overlay.writes.insert(lane_key, Some(to_cbor(&state::Lane { seq: submission.last_seq() })));
    }
    Ok(Executed { writes: overlay.writes, receipts, log })
}

/// The state that a genesis document begins with.
pub fn genesis_state(genesis: &Genesis) -> BTreeMap<Key, Vec<u8>> {
    let mut founding = BTreeMap::new();
    let voters = genesis.members.iter().map(|member| state::Voter { org: member.org.clone(), role: member.role });
    let roll = state::Roll { members: voters.collect() };
    founding.insert(state::roll_key(), to_cbor(&roll));
    let succession = state::Succession::new(genesis.epoch_blocks, genesis.validators());
    founding.insert(state::succession_key(), to_cbor(&succession));
    for member in &genesis.members {
        let organisation =
            state::Organisation { role: member.role, entry_key: member.entry_key, left: false, unreviewed: 0 };
        founding.insert(state::organisation_key(&member.org), to_cbor(&organisation));
        let reach = Reach { wrap_key: member.wrap_key.clone(), address: member.address.clone() };
        let seat = state::Seat {
            consensus_key: member.consensus_key,
            reach,
            entry_from: 0,
            consensus_from: Some(0),
            wrap_from: 0,
            left_at: None,
        };
        founding.insert(state::seat_key(&member.org), to_cbor(&seat));
        let owner = to_cbor(&state::KeyOwner { org: member.org.clone(), from: Some(0), until: None });
        for key in [member.entry_key, member.consensus_key] {
            founding.insert(state::key_owner_key(&key), owner.clone());
        }
    }
    let policies = [(PolicyKind::Access, genesis.access_policy), (PolicyKind::Derivation, genesis.derivation_policy)];
    for (kind, document) in policies {
        founding.insert(state::policy_key(kind), to_cbor(&state::ActivePolicy { document, height: 0 }));
        founding.insert(state::policy_term_key(kind, &document), to_cbor(&state::PolicyTerm { until: None }));
    }
    founding
}

#[cfg(test)]
pub(crate) mod tests;
