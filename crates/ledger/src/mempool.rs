//! Submissions that wait for a block: checked at the door, in order per lane, bounded.

use contract::{
    Block, Body, Custodians, Genesis, PublicKey, SignedSubmission, SubmissionError, from_cbor,
    state::{self, Key, Organisation},
};
use holding::{Early, Held};
use record::{Digest, OrgId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, watch};

mod holding;

pub(crate) use holding::{Chosen, UNHELD_MAX, is_due};

/// The most bytes of submissions that wait, shared evenly between the members of the latest state, so that none can crowd out another.
pub const MEMPOOL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The most submissions that wait, shared likewise.
pub const MEMPOOL_SUBMISSIONS_MAX: usize = 128 * 1024;
/// How far beyond a lane's last final entry a submission may begin.
pub const LANE_AHEAD_MAX: u64 = 1024 * 1024;
/// The most lanes that are remembered; further ones are read from the state again.
const LANES_MAX: usize = 64 * 1024;
/// The most signatures that are remembered as checked.
const CHECKED_MAX: usize = 256 * 1024;

/// What became of an admitted submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It waits for a block.
    New,
    /// It waited already.
    Pending,
    /// Its sequence numbers are final already; the receipts tell by which entries.
    Final,
}

/// Why a submission was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The submission itself is bad: the submitter's fault.
    #[error(transparent)]
    Invalid(#[from] SubmissionError),
    /// Another submission waits for these sequence numbers: the organisation contradicts itself. The first one stays.
    #[error("`{org}` lane {lane} has another submission at sequence number {seq}")]
    Conflict {
        /// The organisation.
        org: OrgId,
        /// Its lane.
        lane: u32,
        /// Where they meet.
        seq: u64,
    },
    /// Far ahead of what is final: submit what comes before it first.
    #[error("`{org}` lane {lane} is at {final_seq}: {seq} is too far ahead")]
    TooFarAhead {
        /// The organisation.
        org: OrgId,
        /// Its lane.
        lane: u32,
        /// The last final sequence number.
        final_seq: u64,
        /// The submission's first.
        seq: u64,
    },
    /// The organisation's membership or keys changed while the submission was looked at: submit it again.
    #[error("the keys of `{org}` may just have changed")]
    Changed {
        /// The organisation.
        org: OrgId,
    },
    /// The organisation's share of the mempool is full: submit again later.
    #[error("the mempool share of `{org}` is full")]
    Full {
        /// The organisation.
        org: OrgId,
    },
    /// The node stopped: ours to mend.
    #[error("the ledger node stopped")]
    Stopped,
}

/// Names a lane.
pub(crate) type LaneId = (OrgId, u32);

/// A submission that waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) signed: SignedSubmission,
    /// Names submission and signature.
    digest: Digest,
    /// The signature holds by this key.
    key: PublicKey,
    /// Whether its entries name attachments, so that it needs holding receipts.
    names: bool,
}

struct Waiting {
    pending: Arc<Pending>,
    /// Holding receipts that were checked; at most as many as it needs.
    held: Vec<Held>,
    /// Rounds of asking for those that it lacks.
    asked: u32,
    /// Whether it came by this node's own door.
    own: bool,
    /// Rounds of gossip since it came.
    rounds: u32,
}

#[derive(Default)]
struct Lane {
    /// Last final sequence number.
    final_seq: u64,
    /// Last sequence number in a block that was executed and may yet be orphaned; and that block's height.
    seen: (u64, u64),
    /// By first sequence number.
    waiting: BTreeMap<u64, Waiting>,
}

impl Lane {
    /// The sequence number that continues final blocks and those about to be.
    fn next(&self, final_height: u64) -> u64 {
        let seen = if self.seen.1 > final_height { self.seen.0 } else { 0 };
        self.final_seq.max(seen).saturating_add(1)
    }
}

#[derive(Default)]
struct Share {
    bytes: usize,
    submissions: usize,
}

#[derive(Default)]
struct Pool {
    final_height: u64,
    members: HashMap<OrgId, PublicKey>,
    /// Final blocks with a change of membership: what was read from the state before such a block is not learned after it.
    changes: u64,
    lanes: HashMap<LaneId, Lane>,
    /// Lanes in which something waits.
    live: BTreeSet<LaneId>,
    shares: HashMap<OrgId, Share>,
    /// The members of the latest final state; the founders before the first block.
    roll: BTreeSet<OrgId>,
    /// Signatures that hold, and by which key; the oldest are forgotten first.
    checked: HashMap<Digest, PublicKey>,
    checked_order: VecDeque<Digest>,
    /// Attachments that waiting submissions name, each with the number of times.
    named: HashMap<Digest, u32>,
    /// Where the waiting submissions stand that name any, by their digests.
    naming: BTreeMap<Digest, (LaneId, u64)>,
    /// Who may hold attachments, as the latest final state says.
    custodians: Custodians,
    early: Early,
}

/// What admission needs from the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unknown {
    /// With the number of changes of membership up to when it was not known.
    Member(OrgId, u64),
    Lane(OrgId, u32),
}

impl Unknown {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Member(org, _) => state::organisation_key(org),
            Self::Lane(org, lane) => state::lane_key(org, *lane),
        }
    }
}

/// A lane as a block's parent leaves it.
pub(crate) struct LaneAt {
    pub(crate) lane: LaneId,
    pub(crate) seq: u64,
    pub(crate) key: PublicKey,
}

/// The node's mempool.
pub(crate) struct Mempool {
    chain: Digest,
    bytes_max: usize,
    submissions_max: usize,
    pool: Mutex<Pool>,
    /// Changes when something came that may go into the next block.
    fresh: watch::Sender<u64>,
    /// What came by this node's own door, for gossip. Bounded by the mempool, since only what it takes is sent.
    news: mpsc::UnboundedSender<Arc<Pending>>,
    /// What names attachments, whoever it came from, for a custodian. Bounded likewise.
    naming: mpsc::UnboundedSender<Arc<Pending>>,
}

/// What a mempool tells of that it took in.
pub(crate) struct News {
    /// By this node's own door.
    pub(crate) own: mpsc::UnboundedReceiver<Arc<Pending>>,
    /// With attachments, whoever it came from.
    pub(crate) naming: mpsc::UnboundedReceiver<Arc<Pending>>,
}

/// The entry key in an encoded [`Organisation`], unless it left.
pub(crate) fn entry_key(value: &[u8]) -> Option<PublicKey> {
    let organisation: Organisation = from_cbor("organisation", value, state::VALUE_BYTES_MAX).ok()?;
    (!organisation.left).then_some(organisation.entry_key)
}

/// The sequence number in an encoded [`state::Lane`]; 0 when the state has none.
pub(crate) fn lane_seq(value: Option<&[u8]>) -> u64 {
    value.and_then(|v| from_cbor::<state::Lane>("lane", v, state::VALUE_BYTES_MAX).ok()).map_or(0, |lane| lane.seq)
}

impl Mempool {
    /// An empty mempool, and the streams of the submissions that it takes.
    pub(crate) fn new(genesis: &Genesis) -> (Self, News) {
        let (news, own) = mpsc::unbounded_channel();
        let (naming, named) = mpsc::unbounded_channel();
        let members = genesis.members.iter().map(|member| (member.org.clone(), member.entry_key)).collect();
        let roll = genesis.members.iter().map(|member| member.org.clone()).collect();
        let pool = Pool { members, roll, custodians: Custodians::founding(genesis), ..Pool::default() };
        let mempool = Self {
            chain: genesis.id(),
            bytes_max: MEMPOOL_BYTES_MAX,
            submissions_max: MEMPOOL_SUBMISSIONS_MAX,
            pool: Mutex::new(pool),
            fresh: watch::channel(0).0,
            news,
            naming,
        };
        (mempool, News { own, naming: named })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a submission and checks what needs no state.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<SignedSubmission, SubmitError> {
        let signed = SignedSubmission::from_bytes(bytes)?;
        if signed.submission.chain != self.chain {
            return Err(SubmissionError::OtherChain { got: signed.submission.chain }.into());
        }
        Ok(signed)
    }

    /// What admission of `submissions` needs to know of the state, and does not know yet.
    pub(crate) fn unknown<'a>(&self, submissions: impl IntoIterator<Item = &'a SignedSubmission>) -> Vec<Unknown> {
        let pool = self.pool();
        let mut unknown = BTreeSet::new();
        for submission in submissions.into_iter().map(|signed| &signed.submission) {
            if !pool.members.contains_key(&submission.org) {
                unknown.insert(Unknown::Member(submission.org.clone(), pool.changes));
            }
            if !pool.lanes.contains_key(&(submission.org.clone(), submission.lane)) {
                unknown.insert(Unknown::Lane(submission.org.clone(), submission.lane));
            }
        }
        unknown.into_iter().collect()
    }

    /// Takes note of values that were read from the final state.
    pub(crate) fn learn(&self, unknown: Vec<Unknown>, values: Vec<Option<Vec<u8>>>) {
        let mut pool = self.pool();
        for (unknown, value) in unknown.into_iter().zip(values) {
            match unknown {
                Unknown::Member(_, changes) if changes != pool.changes => {}
                Unknown::Member(org, _) => {
                    if let Some(key) = value.as_deref().and_then(entry_key) {
                        pool.members.insert(org, key);
                    }
                }
                Unknown::Lane(org, lane) => {
                    let seq = lane_seq(value.as_deref());
                    let lane = pool.lanes.entry((org, lane)).or_default();
                    // A block may have become final since the value was read.
                    lane.final_seq = lane.final_seq.max(seq);
                }
            }
        }
    }

    /// Takes a submission in, if its signature holds and there is room. `own`: by this node's own door, so that peers are told.
    pub(crate) fn admit(&self, signed: SignedSubmission, own: bool) -> Result<Accepted, SubmitError> {
        let (org, lane) = (signed.submission.org.clone(), signed.submission.lane);
        let (first, last) = (signed.submission.first_seq, signed.submission.last_seq());
        let id = (org.clone(), lane);
        let digest = signed.digest();
        let key = {
            let mut pool = self.pool();
            let key = pool.members.get(&org).copied();
            let key = key.ok_or_else(|| SubmissionError::UnknownOrg { org: org.clone() })?;
            if let Some(accepted) = pool.standing(&id, first, last, &digest, own)? {
                return Ok(accepted);
            }
            key
        };
        // Checked without the lock: this is most of the work.
        signed.verify(&self.chain, &key)?;
        let mut pool = self.pool();
        if pool.members.get(&org) != Some(&key) {
            // What holds by a key that counts no more would never leave, and keep the lane from going on by the new one.
            return Err(SubmitError::Changed { org });
        }
        if let Some(accepted) = pool.standing(&id, first, last, &digest, own)? {
            return Ok(accepted);
        }
        let members = pool.roll.len().max(1);
        let (bytes_max, submissions_max) = (self.bytes_max / members, self.submissions_max / members);
        let share = pool.shares.entry(org.clone()).or_default();
        if share.bytes + signed.encoded().len() > bytes_max || share.submissions >= submissions_max {
            return Err(SubmitError::Full { org });
        }
        let names = signed.has_attachments();
        let pending = Arc::new(Pending { signed, digest, key, names });
        pool.insert(id, pending.clone(), own);
        pool.remember(digest, key);
        drop(pool);
        if names {
            self.came_naming(&pending);
        }
        self.fresh.send_modify(|count| *count = count.wrapping_add(1));
        if own {
            let _ = self.news.send(pending);
        }
        Ok(Accepted::New)
    }

    /// Whether something waits that continues all that is in blocks already.
    pub(crate) fn has_fresh(&self) -> bool {
        let pool = self.pool();
        pool.live.iter().filter_map(|id| pool.lanes.get(id)).any(|lane| {
            let next = lane.next(pool.final_height);
            lane.waiting.get(&next).is_some_and(|waiting| waiting.is_held(&pool.custodians))
        })
    }

    /// Completes soon after [`Self::has_fresh`] may have become true.
    pub(crate) fn fresh(&self) -> watch::Receiver<u64> {
        self.fresh.subscribe()
    }

    /// At most `max` lanes in which something waits that may go on.
    pub(crate) fn live_lanes(&self, max: usize) -> Vec<LaneId> {
        let pool = self.pool();
        pool.live.iter().filter(|id| pool.may_go_on(id)).take(max).cloned().collect()
    }

    /// What may follow the lanes as they stand in a parent: one submission of each lane in turn, until `bytes_max` or `entries_max` is
    /// reached. A lane ends before a submission that too few of `custodians`, those of the parent's state, signed a holding receipt for;
    /// when they were not read, before any that needs one.
    pub(crate) fn select(
        &self,
        lanes: &[LaneAt],
        custodians: Option<&Custodians>,
        bytes_max: usize,
        entries_max: usize,
    ) -> Vec<Chosen> {
        let pool = self.pool();
        let mut next: Vec<(&LaneAt, &Lane, u64)> = lanes
            .iter()
            .filter_map(|at| pool.lanes.get(&at.lane).map(|lane| (at, lane, at.seq.saturating_add(1))))
            .collect();
        let (mut selected, mut bytes, mut entries) = (Vec::new(), 0, 0);
        while !next.is_empty() {
            next.retain_mut(|(at, lane, seq)| {
                let Some(waiting) = lane.waiting.get(seq) else { return false };
                let Some((holdings, holding_bytes)) = waiting.shown(custodians) else { return false };
                let pending = &waiting.pending;
                let count = pending.signed.submission.entries.len();
                let length = pending.signed.encoded().len() + holding_bytes;
                if pending.key != at.key || bytes + length > bytes_max || entries + count > entries_max {
                    return false;
                }
                bytes += length;
                entries += count;
                *seq = pending.signed.submission.last_seq().saturating_add(1);
                selected.push(Chosen { pending: pending.clone(), holdings });
                true
            });
        }
        selected
    }

    /// What waits at this place of a lane.
    pub(crate) fn waiting(&self, org: &OrgId, lane: u32, first_seq: u64) -> Option<SignedSubmission> {
        let pool = self.pool();
        let waiting = pool.lanes.get(&(org.clone(), lane))?.waiting.get(&first_seq)?;
        Some(waiting.pending.signed.clone())
    }

    /// Checks the signature by `key`, unless that was done before.
    pub(crate) fn check(&self, signed: &SignedSubmission, key: &PublicKey) -> Result<(), SubmissionError> {
        let digest = signed.digest();
        if signed.submission.chain == self.chain && self.pool().checked.get(&digest) == Some(key) {
            return Ok(());
        }
        signed.verify(&self.chain, key)?;
        self.pool().remember(digest, *key);
        Ok(())
    }

    /// How many changes of membership were final so far, for [`Self::set_members`].
    pub(crate) fn changes(&self) -> u64 {
        self.pool().changes
    }

    /// The members of the state after so many changes, with their entry keys: each has its share. What waits already stays, also of one whose
    /// share became smaller, unless it holds by a key that counts no more. Older news than the mempool's own is no news.
    pub(crate) fn set_members(&self, members: HashMap<OrgId, PublicKey>, changes: u64) {
        let mut pool = self.pool();
        if pool.changes != changes {
            return;
        }
        let other = |(org, key): (&OrgId, &PublicKey)| (members.get(org) != Some(key)).then(|| org.clone());
        let stale: Vec<OrgId> = pool.members.iter().filter_map(other).collect();
        stale.iter().for_each(|org| pool.forget(org));
        pool.roll = members.keys().cloned().collect();
        pool.members = members;
        let Pool { shares, roll, .. } = &mut *pool;
        shares.retain(|org, share| share.submissions > 0 || roll.contains(org));
    }

    /// Takes note that a block was executed: what it orders need not hurry the next one.
    pub(crate) fn saw(&self, block: &Block) {
        let mut pool = self.pool();
        for submission in block.submissions.iter().map(|signed| &signed.submission) {
            if let Some(lane) = pool.lanes.get_mut(&(submission.org.clone(), submission.lane)) {
                lane.seen = lane.seen.max((submission.last_seq(), block.header.height));
            }
        }
    }

    /// Lets go of what a final block ordered.
    pub(crate) fn finalize(&self, block: &Block) {
        let mut pool = self.pool();
        pool.final_height = pool.final_height.max(block.header.height);
        for submission in block.submissions.iter().map(|signed| &signed.submission) {
            pool.reach((submission.org.clone(), submission.lane), submission.last_seq());
            for entry in &submission.entries {
                if let Body::Member { member, .. } = &entry.body {
                    pool.changes = pool.changes.wrapping_add(1);
                    // The key is read from the state again when it next matters, and what waits may not hold by it.
                    pool.members.remove(member);
                    pool.forget(member);
                }
            }
        }
        if pool.lanes.len() > LANES_MAX {
            let Pool { lanes, live, .. } = &mut *pool;
            lanes.retain(|id, _| live.contains(id));
        }
    }

    /// Own submissions that have waited for 1, 2, 4, 8, 16, 32, 48, ... rounds, in order per lane, of at most `bytes_max` bytes together.
    pub(crate) fn overdue(&self, bytes_max: usize) -> Vec<Arc<Pending>> {
        let mut pool = self.pool();
        let Pool { lanes, live, .. } = &mut *pool;
        let (mut overdue, mut bytes) = (Vec::new(), 0);
        for id in live.iter() {
            let Some(lane) = lanes.get_mut(id) else { continue };
            for waiting in lane.waiting.values_mut().filter(|waiting| waiting.own) {
                let due = waiting.rounds.is_power_of_two() && waiting.rounds <= 16 || waiting.rounds % 16 == 0;
                if due && waiting.rounds > 0 && bytes + waiting.pending.signed.encoded().len() <= bytes_max {
                    bytes += waiting.pending.signed.encoded().len();
                    overdue.push(waiting.pending.clone());
                }
                waiting.rounds = waiting.rounds.saturating_add(1);
            }
        }
        overdue
    }

    /// At most `max` lanes that lack what comes before a waiting submission: the first sequence number that is missing, and the waiting one's.
    pub(crate) fn gaps(&self, max: usize) -> Vec<(OrgId, u32, u64, u64)> {
        let pool = self.pool();
        let gap = |id: &LaneId| {
            let lane = pool.lanes.get(id)?;
            let next = lane.next(pool.final_height);
            let first = *lane.waiting.keys().next()?;
            (first > next).then(|| (id.0.clone(), id.1, next, first))
        };
        pool.live.iter().filter_map(gap).take(max).collect()
    }

    /// What waits in a lane from sequence number `from` on and below `until`, of at most `bytes_max` bytes together.
    pub(crate) fn between(&self, org: &OrgId, lane: u32, from: u64, until: u64, bytes_max: usize) -> Vec<Arc<Pending>> {
        let pool = self.pool();
        let Some(lane) = pool.lanes.get(&(org.clone(), lane)).filter(|_| from < until) else { return Vec::new() };
        let mut bytes = 0;
        let fits = |pending: &Arc<Pending>| {
            bytes += pending.signed.encoded().len();
            bytes <= bytes_max
        };
        lane.waiting.range(from..until).map(|(_, waiting)| waiting.pending.clone()).take_while(fits).collect()
    }

    /// Whether a waiting submission names the attachment.
    pub(crate) fn names(&self, attachment: &Digest) -> bool {
        self.pool().named.contains_key(attachment)
    }

    /// How many submissions wait, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let pool = self.pool();
        pool.shares.values().fold((0, 0), |(n, bytes), share| (n + share.submissions, bytes + share.bytes))
    }
}

impl Pool {
    /// The answer for a submission that need not, or must not, be taken in.
    fn standing(
        &mut self,
        id: &LaneId,
        first: u64,
        last: u64,
        digest: &Digest,
        own: bool,
    ) -> Result<Option<Accepted>, SubmitError> {
        let Some(lane) = self.lanes.get_mut(id) else { return Ok(None) };
        let (org, lane_no) = id;
        if last <= lane.final_seq {
            return Ok(Some(Accepted::Final));
        }
        let conflict = |seq| SubmitError::Conflict { org: org.clone(), lane: *lane_no, seq };
        if first <= lane.final_seq {
            return Err(conflict(first));
        }
        if first - lane.final_seq > LANE_AHEAD_MAX {
            let final_seq = lane.final_seq;
            return Err(SubmitError::TooFarAhead { org: org.clone(), lane: *lane_no, final_seq, seq: first });
        }
        if let Some(waiting) = lane.waiting.get_mut(&first) {
            if waiting.pending.digest != *digest {
                return Err(conflict(first));
            }
            waiting.own |= own;
            return Ok(Some(Accepted::Pending));
        }
        let before = lane.waiting.range(..first).next_back();
        if before.is_some_and(|(_, waiting)| waiting.pending.signed.submission.last_seq() >= first) {
            return Err(conflict(first));
        }
        match lane.waiting.range(first..).next() {
            Some((seq, _)) if *seq <= last => Err(conflict(*seq)),
            _ => Ok(None),
        }
    }

    fn insert(&mut self, id: LaneId, pending: Arc<Pending>, own: bool) {
        let share = self.shares.entry(id.0.clone()).or_default();
        share.bytes += pending.signed.encoded().len();
        share.submissions += 1;
        let first = pending.signed.submission.first_seq;
        if pending.names {
            self.naming.insert(pending.digest, (id.clone(), first));
            for attachment in pending.signed.attachments() {
                *self.named.entry(attachment.digest).or_default() += 1;
            }
        }
        let waiting = Waiting { pending, held: Vec::new(), asked: 0, own, rounds: 0 };
        self.lanes.entry(id.clone()).or_default().waiting.insert(first, waiting);
        self.live.insert(id);
    }

    /// The lane is final up to `seq`: nothing that begins there or before waits any longer.
    fn reach(&mut self, id: LaneId, seq: u64) {
        let lane = self.lanes.entry(id.clone()).or_default();
        lane.final_seq = lane.final_seq.max(seq);
        let later = lane.waiting.split_off(&lane.final_seq.saturating_add(1));
        let done = std::mem::replace(&mut lane.waiting, later);
        if lane.waiting.is_empty() {
            self.live.remove(&id);
        }
        self.release(&id.0, done);
    }

    /// Nothing of the organisation waits any longer.
    fn forget(&mut self, org: &OrgId) {
        let ids: Vec<LaneId> = self.live.iter().filter(|id| id.0 == *org).cloned().collect();
        for id in ids {
            let waiting = self.lanes.get_mut(&id).map(|lane| std::mem::take(&mut lane.waiting)).unwrap_or_default();
            self.live.remove(&id);
            self.release(org, waiting);
        }
    }

    fn release(&mut self, org: &OrgId, done: BTreeMap<u64, Waiting>) {
        for Waiting { pending, .. } in done.into_values() {
            if let Some(share) = self.shares.get_mut(org) {
                share.bytes = share.bytes.saturating_sub(pending.signed.encoded().len());
                share.submissions = share.submissions.saturating_sub(1);
            }
            if !pending.names {
                continue;
            }
            self.naming.remove(&pending.digest);
            for attachment in pending.signed.attachments() {
                if let Some(count) = self.named.get_mut(&attachment.digest) {
                    *count -= 1;
                    if *count == 0 {
                        self.named.remove(&attachment.digest);
                    }
                }
            }
        }
    }

    fn remember(&mut self, digest: Digest, key: PublicKey) {
        if self.checked.insert(digest, key).is_none() {
            self.checked_order.push_back(digest);
        }
        while self.checked_order.len() > CHECKED_MAX {
            if let Some(oldest) = self.checked_order.pop_front() {
                self.checked.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
